//! What statements of rules ask the host: shadows, the registry, Protobuf descriptor sets.
//!
//! In: calls of the rules engine. Out: JSON. Not yet: functions of plugins, `aws_lambda`.
//! A descriptor set is a file of the operator, `descriptors/BUCKET/KEY` in the data folder.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gnomon_core::ids::{ShadowName, ThingName};
use gnomon_core::registry::Registry;
use gnomon_core::rules::functions::Functions;
use gnomon_core::rules::sql::protobuf::Descriptor;
use gnomon_core::rules::sql::{Callee, ExternalCall};
use gnomon_core::shadow::{self, ShadowId};
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
    /// For `decode(…, 'proto', …)`: the folder of the buckets.
    pub descriptors: PathBuf,
}

#[async_trait]
impl Functions for HostFunctions {
    fn offers(&self, _: &str) -> bool {
        false
    }

    async fn call(&self, call: &ExternalCall) -> Result<Option<Vec<u8>>, String> {
        match call.callee {
            Callee::ThingShadow => self.thing_shadow(call).await.map(Some),
            Callee::RegistryData => self.registry_data(call).await.map(Some),
            Callee::Proto => self.proto(call).await,
            _ => Err("this version of Gnomon has no such functions of plugins yet".to_owned()),
        }
    }
}

impl HostFunctions {
    /// `get_thing_shadow(thing[, shadow], roleArn)`
    async fn thing_shadow(&self, call: &ExternalCall) -> Result<Vec<u8>, String> {
        let thing = ThingName::parse(&text(call, 0)?).map_err(|error| error.to_string())?;
        let name = match call.arguments.len() {
            3 => Some(ShadowName::parse(&text(call, 1)?).map_err(|error| error.to_string())?),
            _ => None,
        };
        let document = self.shadows.get(ShadowId { thing, name }).await;
        document.map(Into::into).map_err(|error| error.to_string())
    }

    /// `get_registry_data('DescribeThing', thing, roleArn)`
    async fn registry_data(&self, call: &ExternalCall) -> Result<Vec<u8>, String> {
        let operation = text(call, 0)?;
        if operation != "DescribeThing" {
            return Err(format!("{operation:.64} is not offered; DescribeThing is"));
        }
        let name = ThingName::parse(&text(call, 1)?).map_err(|error| error.to_string())?;
        let thing = self.registry.describe_thing(&name).await.map_err(|error| error.to_string())?;
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
        Ok(answer.to_string().into_bytes())
    }

    /// `decode(bytes, 'proto', bucket, key, file, message)`
    async fn proto(&self, call: &ExternalCall) -> Result<Option<Vec<u8>>, String> {
        if call.arguments.len() != 6 || text(call, 1)? != "proto" {
            return Ok(None);
        }
        let payload = STANDARD.decode(text(call, 0)?).map_err(|_| "the payload is no base64")?;
        let (bucket, key) = (text(call, 2)?, text(call, 3)?);
        let path = self.descriptors.join(plain(&bucket)?).join(plain(&key)?);
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        let set = read
            .map_err(io::Error::other)
            .and_then(|read| read)
            .map_err(|error| format!("descriptor set {bucket}/{key}: {error}"))?;
        let descriptor = Descriptor::parse(&set, &text(call, 4)?, &text(call, 5)?)
            .map_err(|error| format!("descriptor set {bucket}/{key}: {error}"))?;
        Ok(descriptor.decode(&payload).map(|json| json.to_string().into_bytes()))
    }
}

/// An argument that has to be a text.
fn text(call: &ExternalCall, index: usize) -> Result<String, String> {
    let json = call.arguments.get(index).and_then(Option::as_deref);
    let value = json.and_then(|json| serde_json::from_str::<String>(json).ok());
    value.ok_or_else(|| format!("argument {} must be a text", index + 1))
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
