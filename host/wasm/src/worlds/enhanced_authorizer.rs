//! Enhanced authentication: `gnomon_core::auth::EnhancedAuthorizer` by a plugin that exports
//! `enhanced-authorizer`.
//!
//! Whatever goes wrong is a refusal: a crash never lets a client in.

use crate::bindings::guest::enhanced_authorizer as wit;
use crate::instance::bounded;
use crate::pool::{CallError, Pool};
use crate::worlds::endpoint;
use async_trait::async_trait;
use gnomon_core::auth::{AuthorizerResponse, EnhancedAuthorizer, ExchangeAnswer, ExchangeRequest};
use std::sync::Arc;

/// CPU time of one step unless the operator says otherwise; connections wait for it.
const CPU_MS: u32 = 50;

/// A plugin as an authorizer of authentication methods.
pub struct PluginEnhancedAuthorizer {
    pool: Arc<Pool>,
    cpu_ms: u32,
}

impl PluginEnhancedAuthorizer {
    /// `None` when the plugin is none.
    pub fn new(pool: &Arc<Pool>, cpu_ms: Option<u32>) -> Option<Self> {
        pool.handlers.enhanced_authorizer.as_ref()?;
        Some(Self { pool: pool.clone(), cpu_ms: cpu_ms.unwrap_or(CPU_MS) })
    }

    async fn call(
        &self,
        request: &wit::ExchangeRequest,
    ) -> Result<Result<wit::ExchangeResponse, String>, CallError> {
        let mut lease = self.pool.lease(self.cpu_ms).await?;
        let instance = &mut lease.instance;
        let guest = instance
            .enhanced_authorizer
            .as_ref()
            .expect("`new` checked that the handler is exported");
        let call = guest.call_exchange(&mut instance.store, request);
        let outcome = bounded(self.pool.context.wall, call).await;
        lease.settle(outcome)
    }
}

#[async_trait]
impl EnhancedAuthorizer for PluginEnhancedAuthorizer {
    async fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeAnswer, String> {
        let answer = self.call(&request_to_wit(request)).await.map_err(|e| e.to_string())?;
        let answer = answer.map_err(|text| format!("plugin {}: {text}", self.pool.context.name))?;
        Ok(match answer {
            wit::ExchangeResponse::Challenged(wit::Challenge { data, state }) => {
                ExchangeAnswer::Challenge { data: data.into(), state: state.into() }
            }
            wit::ExchangeResponse::Accepted(grant) => ExchangeAnswer::Accepted {
                response: AuthorizerResponse {
                    is_authenticated: true,
                    principal_id: grant.principal_id,
                    policy_documents: grant.policy_documents,
                    disconnect_after_s: grant.disconnect_after_seconds,
                    refresh_after_s: 0,
                    attributes: Vec::new(),
                },
                data: grant.data.into(),
            },
        })
    }
}

fn request_to_wit(request: &ExchangeRequest) -> wit::ExchangeRequest {
    let credentials = &request.credentials;
    wit::ExchangeRequest {
        connection_id: credentials.connection_id.to_string(),
        peer: endpoint(credentials.peer),
        listener: credentials.listener.to_string(),
        server_name: credentials.server_name.as_deref().map(Into::into),
        client_certificate: credentials.certificate.as_ref().map(|der| der.to_vec()),
        client_id: credentials.client_id.as_ref().map(ToString::to_string),
        username: credentials.username.as_deref().map(Into::into),
        password: credentials.password.as_ref().map(|password| password.to_vec()),
        method: request.method.to_string(),
        data: request.data.to_vec(),
        state: request.state.to_vec(),
        is_reauthentication: request.is_reauthentication,
    }
}
