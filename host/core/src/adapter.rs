//! The port to whoever answers HTTP requests: the REST API, and plugins that adapt a protocol.
//!
//! The gateway owns the sockets and hands over whole requests; bodies are bounded by
//! `Limits::http_body_bytes` before they get here.

use async_trait::async_trait;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;

/// A whole HTTP request and where it came from.
#[derive(Debug)]
pub struct HttpRequest {
    /// Name of the listener that took it.
    pub listener: Arc<str>,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// DER of the client certificate, when one was presented and its key proved.
    pub client_certificate: Option<Bytes>,
    /// Server name (SNI) of the TLS handshake.
    pub server_name: Option<Arc<str>>,
    /// Method, target, headers and body.
    pub http: http::Request<Bytes>,
}

/// Answers requests; made by `gnomon-api` and `gnomon-wasm`.
#[async_trait]
pub trait HttpHandler: Send + Sync + 'static {
    /// Answers one request. A handler that cannot answer says so with a 5xx response.
    async fn handle(&self, request: HttpRequest) -> http::Response<Bytes>;
}
