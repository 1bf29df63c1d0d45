//! Pre-provisioning hooks: `gnomon_core::provisioning::Hook` by a plugin that exports
//! `provisioning-hook`.
//!
//! Whatever goes wrong is a refusal: a crash never lets a device in.

use crate::bindings::guest::provisioning_hook as wit;
use crate::instance::bounded;
use crate::pool::{CallError, Pool};
use async_trait::async_trait;
use gnomon_core::provisioning::{Hook, HookAnswer, HookRequest};
use std::sync::Arc;

/// CPU time of one call unless the operator says otherwise; devices wait for it.
const CPU_MS: u32 = 50;

/// A plugin as a hook.
pub struct PluginHook {
    pool: Arc<Pool>,
    cpu_ms: u32,
}

impl PluginHook {
    /// `None` when the plugin is no hook.
    pub fn new(pool: &Arc<Pool>, cpu_ms: Option<u32>) -> Option<Self> {
        pool.handlers.provisioning_hook.as_ref()?;
        Some(Self { pool: pool.clone(), cpu_ms: cpu_ms.unwrap_or(CPU_MS) })
    }

    async fn call(
        &self,
        request: &wit::HookRequest,
    ) -> Result<Result<wit::HookResponse, String>, CallError> {
        let mut lease = self.pool.lease(self.cpu_ms).await?;
        let instance = &mut lease.instance;
        let guest = instance
            .provisioning_hook
            .as_ref()
            .expect("`new` checked that the handler is exported");
        let call = guest.call_decide(&mut instance.store, request);
        let outcome = bounded(self.pool.context.wall, call).await;
        lease.settle(outcome)
    }
}

#[async_trait]
impl Hook for PluginHook {
    async fn ask(&self, request: &HookRequest) -> Result<HookAnswer, String> {
        let request = wit::HookRequest {
            claim_certificate_id: request.claim_certificate_id.clone(),
            certificate_id: request.certificate_id.to_string(),
            certificate_pem: request.certificate_pem.clone(),
            template_arn: request.template_arn.clone(),
            client_id: request.client_id.as_ref().map(ToString::to_string),
            parameters: request.parameters.clone().into_iter().collect(),
        };
        let answer = self.call(&request).await.map_err(|error| error.to_string())?;
        let answer = answer.map_err(|text| format!("plugin {}: {text}", self.pool.context.name))?;
        Ok(HookAnswer {
            allow_provisioning: answer.allow_provisioning,
            parameter_overrides: answer.parameter_overrides.into_iter().collect(),
        })
    }
}
