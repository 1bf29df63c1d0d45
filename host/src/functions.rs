//! What statements of rules ask the host: shadows, the registry, functions of plugins, Protobuf
//! descriptor sets.
//!
//! In: calls of the rules engine. Out: values.
//! A descriptor set is a file of the operator, `descriptors/BUCKET/KEY` in the data folder.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gnomon_core::ids::{PluginName, ShadowName, ThingGroupName, ThingName, lambda_function};
use gnomon_core::registry::{Registry, Thing};
use gnomon_core::rules::functions::Functions;
use gnomon_core::rules::sql::protobuf::Descriptor;
use gnomon_core::rules::sql::{Callee, Datum, ExternalCall};
use gnomon_core::shadow::{self, ShadowId};
use gnomon_wasm::Plugins;
use serde_json::{Value, json};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The functions of this host.
pub struct HostFunctions {
    /// For `get_thing_shadow`.
    pub shadows: Arc<shadow::Service>,
    /// For `get_registry_data`.
    pub registry: Registry,
    /// For functions of plugins and `aws_lambda`.
    pub plugins: Arc<Plugins>,
    /// For `decode(…, 'proto', …)`: the folder of the buckets.
    pub descriptors: PathBuf,
}

#[async_trait]
impl Functions for HostFunctions {
    fn offers(&self, name: &str) -> bool {
        self.plugins.function(name).is_some()
    }

    async fn call(&self, call: &ExternalCall) -> Result<Datum, String> {
        match &call.callee {
            Callee::ThingShadow => self.thing_shadow(call).await,
            Callee::RegistryData => self.registry_data(call).await,
            Callee::Proto => self.proto(call).await,
            Callee::Lambda => self.lambda(call).await,
            Callee::Custom(name) => match self.plugins.function(name) {
                Some(functions) => functions.call(name, &call.arguments).await,
                None => Err("no plugin offers it any more".to_owned()),
            },
            _ => Err("this host does not have it".to_owned()),
        }
    }
}

impl HostFunctions {
    /// `get_thing_shadow(thing[, shadow], roleArn)`
    async fn thing_shadow(&self, call: &ExternalCall) -> Result<Datum, String> {
        let thing = ThingName::parse(&text(call, 0)?).map_err(|error| error.to_string())?;
        let name = match call.arguments.len() {
            3 => Some(ShadowName::parse(&text(call, 1)?).map_err(|error| error.to_string())?),
            _ => None,
        };
        let document = self.shadows.get(ShadowId { thing, name }).await;
        let document = document.map_err(|error| error.to_string())?;
        String::from_utf8(document.into()).map(Datum::Json).map_err(|error| error.to_string())
    }

    /// `get_registry_data(operation, thing, roleArn)`: what the operation of the API answers.
    async fn registry_data(&self, call: &ExternalCall) -> Result<Datum, String> {
        let name = ThingName::parse(&text(call, 1)?).map_err(|error| error.to_string())?;
        let thing = self.registry.describe_thing(&name).await.map_err(|error| error.to_string())?;
        match text(call, 0)?.as_str() {
            "DescribeThing" => Ok(self.thing(&thing)),
            "ListThingGroupsForThing" => Ok(self.groups(&thing)),
            other => Err(format!(
                "{other:.64} is not offered; DescribeThing and ListThingGroupsForThing are"
            )),
        }
    }

    fn groups(&self, thing: &Thing) -> Datum {
        let group = |name: &ThingGroupName| json!({ "groupName": name.as_str(), "groupArn": self.registry.thing_group_arn(name) });
        let groups: Vec<_> = thing.groups.iter().map(group).collect();
        Datum::Json(json!({ "thingGroups": groups }).to_string())
    }

    fn thing(&self, thing: &Thing) -> Datum {
        let attributes: serde_json::Map<String, Value> = thing
            .attributes
            .values()
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        let mut answer = json!({
            "thingName": thing.name.as_str(),
            "thingId": thing.id,
            "thingArn": self.registry.thing_arn(&thing.name),
            "defaultClientId": thing.name.as_str(),
            "attributes": attributes,
            "version": thing.version,
        });
        if let Some(type_name) = &thing.type_name {
            answer["thingTypeName"] = Value::String(type_name.to_string());
        }
        Datum::Json(answer.to_string())
    }

    /// `decode(bytes, 'proto', bucket, key, file, message)`
    async fn proto(&self, call: &ExternalCall) -> Result<Datum, String> {
        if call.arguments.len() != 6 || text(call, 1)? != "proto" {
            return Ok(Datum::Undefined);
        }
        let payload = bytes(call, 0)?;
        let (bucket, key) = (text(call, 2)?, text(call, 3)?);
        let path = self.descriptors.join(plain(&bucket)?).join(plain(&key)?);
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        let set = read
            .map_err(io::Error::other)
            .and_then(|read| read)
            .map_err(|error| format!("descriptor set {bucket}/{key}: {error}"))?;
        let descriptor = Descriptor::parse(&set, &text(call, 4)?, &text(call, 5)?)
            .map_err(|error| format!("descriptor set {bucket}/{key}: {error}"))?;
        let decoded = descriptor.decode(&payload);
        Ok(decoded.map_or(Datum::Undefined, |json| Datum::Json(json.to_string())))
    }

    /// `aws_lambda(functionArn, payload)`: the function of a plugin that the ARN's qualifier names;
    /// without a qualifier the only one that the plugin has.
    async fn lambda(&self, call: &ExternalCall) -> Result<Datum, String> {
        let arn = text(call, 0)?;
        let (name, qualifier) = lambda_function(&arn).ok_or(
            "argument 1 must read arn:aws:lambda:<region>:<account>:function:<plugin>[:<function>]",
        )?;
        let plugin = PluginName::parse(name).map_err(|error| error.to_string())?;
        let functions = self.plugins.functions(&plugin);
        let functions =
            functions.ok_or_else(|| format!("no plugin {plugin} is loaded that has functions"))?;
        let mut names = functions.names();
        let function = match (qualifier, names.next(), names.next()) {
            (Some(function), ..) => function,
            (None, Some(only), None) => only,
            _ => return Err(format!("plugin {plugin} has several functions: add :<function>")),
        };
        functions.call(function, &call.arguments[1..]).await
    }
}

/// An argument that has to be a text.
fn text(call: &ExternalCall, index: usize) -> Result<String, String> {
    let value = match call.arguments.get(index) {
        Some(Datum::Json(json)) => serde_json::from_str(json).ok(),
        _ => None,
    };
    value.ok_or_else(|| format!("argument {} must be a text", index + 1))
}

/// An argument that is bytes, or a text that is their base64.
fn bytes(call: &ExternalCall, index: usize) -> Result<Vec<u8>, String> {
    match call.arguments.get(index) {
        Some(Datum::Bytes(bytes)) => Ok(bytes.to_vec()),
        _ => STANDARD
            .decode(text(call, index)?)
            .map_err(|_| format!("argument {} is no base64", index + 1)),
    }
}

/// A relative path that leads nowhere else.
fn plain(name: &str) -> Result<&Path, String> {
    let path = Path::new(name);
    let is_plain = path.components().all(|it| matches!(it, Component::Normal(_)));
    if is_plain && !name.is_empty() {
        Ok(path)
    } else {
        Err(format!("{name:.64} is no name of a descriptor set"))
    }
}
