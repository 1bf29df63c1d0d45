//! Custom authorizers: `gnomon_core::auth::Authorizer` by a plugin that exports `authorizer`.
//!
//! Whatever goes wrong is a refusal: a crash never lets a client in.

use crate::bindings::guest::authorizer as wit;
use crate::instance::bounded;
use crate::pool::{CallError, Pool};
use crate::worlds::{endpoint, headers};
use async_trait::async_trait;
use gnomon_core::auth::{Authorizer, AuthorizerRequest, AuthorizerResponse, Credentials};
use std::sync::Arc;

/// CPU time of one call unless the operator says otherwise; connections wait for it.
const CPU_MS: u32 = 50;

/// A plugin as an authorizer.
pub struct PluginAuthorizer {
    pool: Arc<Pool>,
    cpu_ms: u32,
}

impl PluginAuthorizer {
    /// `None` when the plugin is no authorizer.
    pub fn new(pool: &Arc<Pool>, cpu_ms: Option<u32>) -> Option<Self> {
        pool.handlers.authorizer.as_ref()?;
        Some(Self { pool: pool.clone(), cpu_ms: cpu_ms.unwrap_or(CPU_MS) })
    }

    async fn call(
        &self,
        request: &wit::AuthRequest,
    ) -> Result<Result<wit::AuthResponse, String>, CallError> {
        let mut lease = self.pool.lease(self.cpu_ms).await?;
        let instance = &mut lease.instance;
        let guest =
            instance.authorizer.as_ref().expect("`new` checked that the handler is exported");
        let call = guest.call_authorize(&mut instance.store, request);
        let outcome = bounded(self.pool.context.wall, call).await;
        lease.settle(outcome)
    }
}

#[async_trait]
impl Authorizer for PluginAuthorizer {
    async fn authorize(&self, request: &AuthorizerRequest) -> Result<AuthorizerResponse, String> {
        let answer = self.call(&request_to_wit(request)).await.map_err(|e| e.to_string())?;
        let answer = answer.map_err(|text| format!("plugin {}: {text}", self.pool.context.name))?;
        Ok(AuthorizerResponse {
            is_authenticated: answer.is_authenticated,
            principal_id: answer.principal_id,
            policy_documents: answer.policy_documents,
            disconnect_after_s: answer.disconnect_after_seconds,
            refresh_after_s: answer.refresh_after_seconds,
            attributes: answer.attributes,
        })
    }
}

fn request_to_wit(request: &AuthorizerRequest) -> wit::AuthRequest {
    let credentials = &request.credentials;
    let tls = tls(credentials);
    let http = http(credentials);
    let mqtt = mqtt(credentials);
    let present = [
        tls.is_some().then_some(wit::Protocol::Tls),
        http.is_some().then_some(wit::Protocol::Http),
        mqtt.is_some().then_some(wit::Protocol::Mqtt),
    ];
    wit::AuthRequest {
        connection_id: credentials.connection_id.to_string(),
        peer: endpoint(credentials.peer),
        listener: credentials.listener.to_string(),
        token: request.token.as_deref().map(Into::into),
        signature_verified: request.signature_verified,
        protocols: present.into_iter().flatten().collect(),
        tls,
        http,
        mqtt,
        attributes: Vec::new(),
    }
}

fn tls(credentials: &Credentials) -> Option<wit::TlsInfo> {
    if credentials.server_name.is_none() && credentials.certificate.is_none() {
        return None;
    }
    Some(wit::TlsInfo {
        server_name: credentials.server_name.as_deref().map(Into::into),
        client_certificates: credentials.certificate.iter().map(|der| der.to_vec()).collect(),
        // The handshake proves the key; the registry, not a chain, says whether it is known.
        verified: false,
    })
}

fn http(credentials: &Credentials) -> Option<wit::HttpInfo> {
    let parts = credentials.http.as_deref()?;
    Some(wit::HttpInfo {
        method: parts.method.to_string(),
        path: parts.uri.path().into(),
        query_string: parts.uri.query().unwrap_or_default().into(),
        headers: headers(&parts.headers),
    })
}

fn mqtt(credentials: &Credentials) -> Option<wit::MqttInfo> {
    let is_mqtt = credentials.client_id.is_some()
        || credentials.username.is_some()
        || credentials.password.is_some();
    is_mqtt.then(|| wit::MqttInfo {
        client_id: credentials.client_id.as_ref().map(ToString::to_string),
        username: credentials.username.as_deref().map(Into::into),
        password: credentials.password.as_ref().map(|password| password.to_vec()),
    })
}
