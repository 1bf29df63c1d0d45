//! The HTTP client of all plugins.
//!
//! In: a request whose origin was checked against the grants. Out: the whole response. Redirects
//! are not followed: the plugin sees them, and a request to the new place is checked like any
//! other. A host name must not lead to this machine: what a name resolves to is not in the
//! operator's hands, so loopback and link-local addresses (there cloud machines offer their own
//! credentials) are reached only when the grant has the address itself, or `localhost`.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioTimer;
use std::error::Error as StdError;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinSet;

/// Longest wait for a response; below the 10 s that a call has.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(8);

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Unused connections to one origin.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// Largest response body; a larger one is not taken.
const RESPONSE_BYTES_MAX: usize = 1_024 * 1_024;

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There was no answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The body is larger than a plugin may get.
    #[error("the response has more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The name leads to an address that has to be granted as such.
    #[error("{0}")]
    Blocked(String),
    /// No connection, or it broke.
    #[error("{0}")]
    Failed(String),
}

/// A handle to the client; clones share its connections.
#[derive(Clone)]
pub struct Outbound {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    connections: Connections,
}

impl Outbound {
    /// A client that trusts the machine's certificate authorities.
    ///
    /// # Errors
    /// The TLS library does not start.
    pub fn new() -> Result<Self, String> {
        let mut tcp = HttpConnector::new_with_resolver(Resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())
            .map_err(|e| format!("no certificate authorities for HTTPS: {e}"))?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let connections = Connections::default();
        let client = Client::builder(connections.clone())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Ok(Self { client, connections })
    }

    /// Sends a request and reads the whole response.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(
        &self,
        request: http::Request<Bytes>,
        timeout: Duration,
    ) -> Result<http::Response<Bytes>, SendError> {
        let exchange = async {
            let response =
                self.client.request(request.map(Full::new)).await.map_err(|e| failed(&e))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, RESPONSE_BYTES_MAX).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    SendError::TooLarge { limit: RESPONSE_BYTES_MAX as u64 }
                } else {
                    SendError::Failed(format!("the response broke off: {error}"))
                }
            })?;
            Ok(http::Response::from_parts(parts, body.to_bytes()))
        };
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(SendError::Timeout))
    }

    /// Closes all connections.
    pub async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.connections.lock());
        tasks.shutdown().await;
    }
}

fn failed(error: &hyper_util::client::legacy::Error) -> SendError {
    let mut texts = Vec::new();
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(Blocked(text)) = error.downcast_ref() {
            return SendError::Blocked(text.clone());
        }
        texts.push(error.to_string());
        cause = error.source();
    }
    if texts.is_empty() {
        texts.push(error.to_string());
    }
    SendError::Failed(texts.join(": "))
}

/// The tasks that drive connections: kept, so that [`Outbound::stop`] ends them.
#[derive(Clone, Default)]
struct Connections(Arc<Mutex<JoinSet<()>>>);

impl Connections {
    fn lock(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.0.lock().expect("no code panics while holding the connections")
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Connections {
    fn execute(&self, connection: F) {
        let mut tasks = self.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(connection);
    }
}

/// Resolves names and drops the addresses that a name may not lead to.
#[derive(Clone)]
struct Resolver;

/// A name led to forbidden addresses only.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Blocked(String);

impl tower_service::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed = allowed(name.as_str(), addresses)?;
            Ok(allowed.into_iter())
        })
    }
}

fn allowed(
    name: &str,
    addresses: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, Blocked> {
    let is_local_name = name.eq_ignore_ascii_case("localhost");
    let (allowed, blocked): (Vec<_>, Vec<_>) = addresses.partition(|address| {
        let ip = address.ip().to_canonical();
        if is_local_name { ip.is_loopback() } else { !is_special(ip) }
    });
    match blocked.first() {
        Some(address) if allowed.is_empty() => Err(Blocked(format!(
            "the name {name} leads to {}, which is local to the host; grant the address itself \
             if that is meant",
            address.ip()
        ))),
        _ => Ok(allowed),
    }
}

/// Loopback, link-local, unspecified, multicast, and AWS's IPv6 metadata address.
fn is_special(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
                // 0.0.0.0/8 reaches this machine on some systems (RFC 1122, 3.2.1.3).
                || ip.octets()[0] == 0
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unicast_link_local()
                || ip.segments() == [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, addresses: &[&str], expected: &[&str]) {
        let parse = |ip: &&str| SocketAddr::new(ip.parse().unwrap(), 0);
        let allowed = allowed(name, addresses.iter().map(parse)).unwrap_or_default();
        assert_eq!(allowed, expected.iter().map(parse).collect::<Vec<_>>(), "{name}");
    }

    #[test]
    fn a_name_does_not_lead_to_this_machine() {
        check("a.example", &["192.0.2.1", "127.0.0.1"], &["192.0.2.1"]);
        check("lan.example", &["192.168.1.7", "fd12::7"], &["192.168.1.7", "fd12::7"]);
        for local in [
            "127.9.9.9",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "::1",
            "::",
            "fe80::1",
            "::ffff:127.0.0.1",
            "fd00:ec2::254",
            "224.0.0.1",
        ] {
            check("a.example", &[local], &[]);
        }
        check("localhost", &["127.0.0.1", "::1", "192.0.2.1"], &["127.0.0.1", "::1"]);
    }

    #[test]
    fn a_blocked_name_says_what_to_do() {
        let address = SocketAddr::from(([169, 254, 169, 254], 0));
        let error = allowed("meta.example", [address].into_iter()).unwrap_err().to_string();
        assert_eq!(
            error,
            "the name meta.example leads to 169.254.169.254, which is local to the host; grant \
             the address itself if that is meant"
        );
    }
}
