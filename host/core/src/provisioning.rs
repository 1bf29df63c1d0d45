//! Provisioning: how a device gets a thing, policies and a certificate that may connect.
//!
//! In: a template and parameters, from an operator (`RegisterThing`; line by line from a file, `bulk`), from a device over MQTT (fleet
//! provisioning), or from the certificate that a device presents (just-in-time). Out: what the template
//! says is in the registry, and the certificate gets its status last. A device that is connected has
//! its certificate renewed, and the operator is warned of those that end (`upkeep`). Not here: keys and signatures
//! ([`crate::registry::Issuer`]), who may ask (`policy`), HTTP.
//!
//! Source: AWS IoT developer guide, "Device provisioning".

mod apply;
mod bulk;
mod expression;
mod just_in_time;
mod lines;
mod objects;
mod service;
mod template;
mod upkeep;

use crate::auth::distinguished_name;
use crate::ids::{CertificateId, ClientId, PluginName, TemplateName, lambda_function};
use crate::registry::{
    Certificate, ProvisioningHook, ProvisioningTemplate, Registry, RegistryError,
};
use crate::time::Timestamp;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use template::CertificateSource;

pub use apply::Provisioned;
pub use bulk::{
    BulkError, CHECK_LINES_MAX, Checked, Input, PROBLEMS_MAX, Problem, Registrations, Report,
};
pub use just_in_time::JustInTime;
pub use lines::{LINE_BYTES_MAX, Place};
pub use objects::{Chunk, MemoryObjects, ObjectError, ObjectName, Objects};
pub use service::Service;
pub use template::{Template, Use};

/// How long a hook may take. Source: AWS IoT, "Pre-provisioning hooks".
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// The only version of what hooks are asked with.
pub const HOOK_PAYLOAD_VERSION: &str = "2020-04-01";

/// Why nothing, or not all, was provisioned. The certificate is not active.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvisioningError {
    /// The template, or what came of it with these parameters, is wrong.
    #[error("{0}")]
    Template(String),
    /// Something is there already, and the template says that this is a failure.
    #[error("{0}")]
    Conflict(String),
    /// No such template, or it is not for this, or not enabled.
    #[error("{0}")]
    NoTemplate(String),
    /// The ownership token is none, has been used, or its time is over.
    #[error(
        "the certificateOwnershipToken is not valid, or its time is over; ask for a new certificate"
    )]
    Token,
    /// The same certificate is being provisioned.
    #[error("the certificate is being provisioned by another request")]
    Busy,
    /// The pre-provisioning hook did not allow it.
    #[error("the pre-provisioning hook did not allow it")]
    Denied,
    /// See [`RegistryError`].
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// What a pre-provisioning hook is asked. Source: AWS IoT, "Pre-provisioning hook input".
#[derive(Clone, Debug)]
pub struct HookRequest {
    /// The certificate that the device connected with, if it did with one.
    pub claim_certificate_id: Option<String>,
    /// The certificate that is to be provisioned.
    pub certificate_id: CertificateId,
    /// The same.
    pub certificate_pem: String,
    /// ARN of the template.
    pub template_arn: String,
    /// MQTT client id of the device.
    pub client_id: Option<ClientId>,
    /// What the device gave.
    pub parameters: BTreeMap<String, String>,
}

/// What it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookAnswer {
    /// False: nothing is provisioned.
    pub allow_provisioning: bool,
    /// Parameters in place of the device's.
    pub parameter_overrides: BTreeMap<String, String>,
}

/// A pre-provisioning hook; made by `gnomon-wasm`.
#[async_trait]
pub trait Hook: Send + Sync + 'static {
    /// Decides about one device.
    ///
    /// # Errors
    /// A text for the operator; counts as a refusal and is never sent to the device.
    async fn ask(&self, request: &HookRequest) -> Result<HookAnswer, String>;
}

/// Where hooks are.
pub trait Hooks: Send + Sync + 'static {
    /// The hook that a plugin is, if it is there and is one.
    fn find(&self, plugin: &PluginName) -> Option<Arc<dyn Hook>>;
}

/// A host without hooks.
pub struct NoHooks;

impl Hooks for NoHooks {
    fn find(&self, _plugin: &PluginName) -> Option<Arc<dyn Hook>> {
        None
    }
}

/// Provisions; clones share everything.
#[derive(Clone)]
pub struct Provisioner {
    registry: Registry,
    hooks: Arc<dyn Hooks>,
}

impl Provisioner {
    /// One over this registry.
    pub fn new(registry: Registry, hooks: Arc<dyn Hooks>) -> Self {
        Self { registry, hooks }
    }

    /// RegisterThing.
    ///
    /// # Errors
    /// See [`ProvisioningError`].
    pub async fn register_thing(
        &self,
        template: &str,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Provisioned, ProvisioningError> {
        let template = Template::parse(template, Use::Request).map_err(wrong)?;
        let plan = plan(&template, parameters)?;
        apply::apply(&self.registry, plan, None).await
    }

    /// The same for one line of a task that began at `since`, which may come here again.
    async fn register_again(
        &self,
        template: &Template,
        parameters: &BTreeMap<String, String>,
        since: Timestamp,
    ) -> Result<Provisioned, ProvisioningError> {
        apply::apply(&self.registry, plan(template, parameters)?, Some(since)).await
    }

    /// What RegisterThing would say; nothing is changed.
    async fn check_thing(
        &self,
        template: &Template,
        parameters: &BTreeMap<String, String>,
    ) -> Result<(), ProvisioningError> {
        apply::try_out(&self.registry, &plan(template, parameters)?).await
    }

    /// What a hook of a template has to be.
    ///
    /// # Errors
    /// What is wrong with it; a plugin that is not there is a warning in the log, because it may
    /// come later.
    pub fn check_hook(&self, hook: &ProvisioningHook) -> Result<(), String> {
        let plugin = plugin_of(&hook.target_arn).ok_or(
            "preProvisioningHook.targetArn must read arn:aws:lambda:<region>:<account>:function:<name>, \
             where <name> is a plugin of this host",
        )?;
        if hook.payload_version != HOOK_PAYLOAD_VERSION {
            return Err(format!(
                "preProvisioningHook.payloadVersion must be {HOOK_PAYLOAD_VERSION}"
            ));
        }
        if self.hooks.find(&plugin).is_none() {
            tracing::warn!(%plugin, "no plugin of this name exports provisioning-hook");
        }
        Ok(())
    }

    /// Provisions a certificate by a template, with what the device gave and the host knows.
    async fn provision(
        &self,
        template: &Template,
        certificate: &Certificate,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Provisioned, ProvisioningError> {
        let mut all = parameters.clone();
        let fields = distinguished_name::fields(&certificate.der());
        all.extend(template::built_in_parameters(&certificate.id, &fields));
        let plan = template.expand(&all).map_err(wrong)?;
        let source = plan.certificate.as_ref().map(|(_, certificate)| &certificate.source);
        // A parameter of the device must not name the certificate of another.
        if source != Some(&CertificateSource::Id(certificate.id.clone())) {
            return Err(wrong(
                "CertificateId of the template is not the certificate that is provisioned".into(),
            ));
        }
        apply::apply(&self.registry, plan, None).await
    }

    /// An enabled template.
    async fn template(
        &self,
        name: &TemplateName,
    ) -> Result<ProvisioningTemplate, ProvisioningError> {
        match self.registry.provisioning_template(name).await {
            Ok(template) if template.enabled => Ok(template),
            Ok(_) => Err(ProvisioningError::NoTemplate(format!(
                "provisioning template {name} is not enabled"
            ))),
            Err(RegistryError::ResourceNotFound(problem)) => {
                Err(ProvisioningError::NoTemplate(problem))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Asks the hook of a template; what it overrides.
    async fn ask(
        &self,
        template: &ProvisioningTemplate,
        request: HookRequest,
    ) -> Result<BTreeMap<String, String>, ProvisioningError> {
        let Some(hook) = &template.hook else { return Ok(BTreeMap::new()) };
        let name = &template.name;
        let denied = |reason: &str| {
            tracing::warn!(template = %name, reason, "the pre-provisioning hook does not allow");
            Err(ProvisioningError::Denied)
        };
        let plugin = plugin_of(&hook.target_arn);
        let Some(hook) = plugin.and_then(|plugin| self.hooks.find(&plugin)) else {
            return denied("no plugin of its name exports provisioning-hook");
        };
        match tokio::time::timeout(HOOK_TIMEOUT, hook.ask(&request)).await {
            Ok(Ok(answer)) if answer.allow_provisioning => Ok(answer.parameter_overrides),
            Ok(Ok(_)) => denied("it said so"),
            Ok(Err(problem)) => denied(&problem),
            Err(_) => denied("it did not answer within 5 s"),
        }
    }
}

/// The plugin that an ARN of a Lambda function stands for.
fn plugin_of(arn: &str) -> Option<PluginName> {
    lambda_function(arn).and_then(|(name, _)| PluginName::parse(name).ok())
}

/// What a template says for an operator's parameters.
fn plan(
    template: &Template,
    parameters: &BTreeMap<String, String>,
) -> Result<template::Plan, ProvisioningError> {
    template::check_parameters(parameters).map_err(wrong)?;
    template.expand(parameters).map_err(wrong)
}

fn wrong(problem: String) -> ProvisioningError {
    ProvisioningError::Template(problem)
}

#[cfg(test)]
mod tests;
