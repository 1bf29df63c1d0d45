//! Adapters: `gnomon_core::adapter::HttpHandler` by a plugin that exports `http-handler`.
//!
//! A plugin that cannot answer now is 503, one that fails is 500; the text goes to the log, not
//! to the client.

use crate::bindings::guest::http_handler as wit;
use crate::bindings::host::http::Response as WitResponse;
use crate::instance::bounded;
use crate::pool::{CallError, Pool};
use crate::worlds::{endpoint, headers};
use async_trait::async_trait;
use bytes::Bytes;
use gnomon_core::adapter::{HttpHandler, HttpRequest};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use std::sync::Arc;

/// CPU time of one call unless the operator says otherwise.
const CPU_MS: u32 = 50;

/// A plugin as the answerer of its HTTP listener.
pub struct PluginHttpHandler {
    pool: Arc<Pool>,
    cpu_ms: u32,
}

impl PluginHttpHandler {
    /// `None` when the plugin handles no HTTP.
    pub fn new(pool: &Arc<Pool>, cpu_ms: Option<u32>) -> Option<Self> {
        pool.handlers.http_handler.as_ref()?;
        Some(Self { pool: pool.clone(), cpu_ms: cpu_ms.unwrap_or(CPU_MS) })
    }

    async fn call(
        &self,
        request: &wit::Incoming,
    ) -> Result<Result<WitResponse, String>, CallError> {
        let mut lease = self.pool.lease(self.cpu_ms).await?;
        let instance = &mut lease.instance;
        let guest =
            instance.http_handler.as_ref().expect("`new` checked that the handler is exported");
        let call = guest.call_on_request(&mut instance.store, request);
        let outcome = bounded(self.pool.context.wall, call).await;
        lease.settle(outcome)
    }
}

#[async_trait]
impl HttpHandler for PluginHttpHandler {
    async fn handle(&self, request: HttpRequest) -> Response<Bytes> {
        let plugin = &*self.pool.context.name;
        match self.call(&request_to_wit(&request)).await {
            Ok(Ok(response)) => response_from_wit(response).unwrap_or_else(|error| {
                tracing::warn!(plugin, error, "plugin made a malformed HTTP response");
                failure(StatusCode::INTERNAL_SERVER_ERROR, "the adapter failed\n")
            }),
            Ok(Err(error)) => {
                tracing::warn!(plugin, error, "plugin failed on an HTTP request");
                failure(StatusCode::INTERNAL_SERVER_ERROR, "the adapter failed\n")
            }
            Err(error) => {
                tracing::warn!(plugin, %error, "plugin did not answer an HTTP request");
                failure(StatusCode::SERVICE_UNAVAILABLE, "the adapter cannot answer now\n")
            }
        }
    }
}

fn request_to_wit(request: &HttpRequest) -> wit::Incoming {
    let uri = request.http.uri();
    wit::Incoming {
        listener: request.listener.to_string(),
        peer: endpoint(request.peer),
        method: request.http.method().to_string(),
        path: uri.path().into(),
        query_string: uri.query().unwrap_or_default().into(),
        headers: headers(request.http.headers()),
        body: request.http.body().to_vec(),
        client_certificate: request.client_certificate.as_ref().map(|der| der.to_vec()),
    }
}

fn response_from_wit(response: WitResponse) -> Result<Response<Bytes>, String> {
    let status = StatusCode::from_u16(response.status)
        .ok()
        .filter(|status| status.as_u16() >= 200)
        .ok_or_else(|| format!("status {}", response.status))?;
    let mut answer = Response::new(Bytes::from(response.body));
    *answer.status_mut() = status;
    for (name, value) in response.headers {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok().zip(value.parse().ok());
        let (name, value): (HeaderName, HeaderValue) =
            parsed.ok_or_else(|| format!("header {name:?}"))?;
        // Framing is the server's business.
        let framing = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION];
        if !framing.contains(&name) {
            answer.headers_mut().append(name, value);
        }
    }
    Ok(answer)
}

fn failure(status: StatusCode, text: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
