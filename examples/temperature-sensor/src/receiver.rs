//! Where the rule's action posts: a small HTTP server that prints what comes.

use crate::{Result, say};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::convert::Infallible;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Largest body that is read.
const BODY_BYTES_MAX: usize = 64 * 1_024;

/// Connections at the same time; the action needs one or two.
const CONNECTIONS_MAX: usize = 16;

/// An open server.
pub struct Receiver {
    socket: TcpListener,
    port: u16,
}

impl Receiver {
    /// Takes a free port on loopback.
    pub async fn open() -> Result<Self> {
        let socket = TcpListener::bind("127.0.0.1:0").await?;
        let port = socket.local_addr()?.port();
        Ok(Self { socket, port })
    }

    /// What the operator grants.
    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What the rule's action posts to.
    pub fn url(&self) -> String {
        format!("{}/high-temperature", self.origin())
    }

    /// Prints each request.
    pub async fn run(&self) -> Result<()> {
        let mut connections = JoinSet::new();
        loop {
            while connections.len() >= CONNECTIONS_MAX {
                connections.join_next().await;
            }
            let (socket, _) = self.socket.accept().await?;
            connections.spawn(async move {
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service_fn(print))
                    .await;
            });
            while connections.try_join_next().is_some() {}
        }
    }
}

async fn print(
    request: Request<Incoming>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    if let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
        let reading: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        say(&format!(
            "  >> rule HighTemp fired: {} degrees is above 30 (posted by the webhook plugin: {reading})",
            reading["temp"],
        ));
    }
    Ok(Response::new(Full::new(Bytes::new())))
}
