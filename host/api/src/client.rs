//! A small signed client: how `gnomon` itself talks to a running host.
//!
//! In: an operation's method, path, query and body. Out: the body of the answer, or AWS's error.
//! One connection per call, or a [`Connection`] that stays; plain HTTP only: it is for the loopback
//! listener of the same machine.
//! Not here: retries, TLS. Other programs use an AWS SDK.

use crate::sigv4;
use bytes::Bytes;
use gnomon_core::time::Clock;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// For a whole call, connecting included.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest answer in bytes: more than any operation gives.
const ANSWER_BYTES_MAX: usize = 16 * 1_024 * 1_024;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The endpoint is no `http://host:port`.
    #[error("the endpoint must read http://<host>:<port>")]
    Endpoint,
    /// The path is longer than a URI may be.
    #[error("the path of the call is too long")]
    Path,
    /// The value of this header is no visible ASCII.
    #[error("the header {0} of the call cannot be sent")]
    Header(&'static str),
    /// Nobody listens there, or the connection broke.
    #[error("no answer from {endpoint}; is the host running?")]
    Connection {
        /// `host:port`.
        endpoint: String,
        /// What the connection said.
        #[source]
        source: AnyError,
    },
    /// The host refused the call.
    #[error("{code}: {message}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// e.g. `ResourceNotFoundException`.
        code: String,
        /// For people.
        message: String,
    },
}

/// Calls one host with one access key.
pub struct Client {
    authority: Authority,
    region: String,
    access_key_id: String,
    secret: String,
    clock: Arc<dyn Clock>,
}

impl Client {
    /// A client of the host at `endpoint`, e.g. `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`].
    pub fn new(
        endpoint: &str,
        region: &str,
        access_key_id: &str,
        secret: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        let uri: Uri = endpoint.parse().map_err(|_| ClientError::Endpoint)?;
        let authority = match (uri.scheme(), uri.authority(), uri.path()) {
            (Some(scheme), Some(authority), "/") if *scheme == Scheme::HTTP => authority.clone(),
            _ => return Err(ClientError::Endpoint),
        };
        Ok(Self {
            authority,
            region: region.into(),
            access_key_id: access_key_id.into(),
            secret: secret.into(),
            clock,
        })
    }

    /// Calls an operation of a service (`iot`, `iotdata`, `gnomon`). The segments of the path and
    /// the pairs of the query are given as they are meant and encoded here; some operations take
    /// parameters as headers.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub async fn call(
        &self,
        service: &str,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        headers: &[(&'static str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Bytes, ClientError> {
        let mut request = self.request(service, method, path, query, headers, body.into())?;
        // After signing: it is about the connection, and proxies may change it.
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        self.connection().send(request).await
    }

    /// A connection for many calls, one after the other; opened by the first.
    pub fn connection(&self) -> Connection<'_> {
        Connection { client: self, open: None }
    }

    /// The signed request.
    fn request(
        &self,
        service: &str,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Request<Bytes>, ClientError> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = target(path, query).parse().map_err(|_| ClientError::Path)?;
        let host = HeaderValue::from_str(self.authority.as_str());
        request.headers_mut().insert(HOST, host.expect("an authority is visible ASCII"));
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).map_err(|_| ClientError::Header(name))?;
            request.headers_mut().insert(*name, value);
        }
        let now = self.clock.wall();
        let (id, secret) = (&self.access_key_id, &self.secret);
        sigv4::sign(&mut request, id, secret, &self.region, service, now);
        Ok(request)
    }

    async fn open(&self) -> Result<Open, AnyError> {
        let port = self.authority.port_u16().unwrap_or(80);
        // IPv6 addresses stand in brackets in a URI only.
        let host = self.authority.host().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, port)).await?;
        // A request is written at once: waiting for more would only add latency.
        stream.set_nodelay(true)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Open { sender, driver })
    }
}

/// A connection that is kept between calls. After a failure the next call opens a new one.
pub struct Connection<'c> {
    client: &'c Client,
    open: Option<Open>,
}

/// The two halves of a connection; nothing moves unless the driver is polled.
struct Open {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: http1::Connection<TokioIo<TcpStream>, Full<Bytes>>,
}

impl Connection<'_> {
    /// As [`Client::call`].
    ///
    /// # Errors
    /// As [`ClientError`] says. The host closes a connection on which nothing was asked for some
    /// seconds; a call on it fails.
    pub async fn call(
        &mut self,
        service: &str,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        headers: &[(&'static str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Bytes, ClientError> {
        let request = self.client.request(service, method, path, query, headers, body.into())?;
        self.send(request).await
    }

    async fn send(&mut self, request: Request<Bytes>) -> Result<Bytes, ClientError> {
        let exchange = tokio::time::timeout(CALL_TIMEOUT, self.exchange(request.map(Full::new)));
        let response = exchange.await.map_err(Into::into).and_then(|result| result);
        let response = response.map_err(|source| ClientError::Connection {
            endpoint: self.client.authority.to_string(),
            source,
        })?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        Err(refusal(&response))
    }

    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, AnyError> {
        // Out of its place while it is in use: one whose call was given up is not used again.
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.client.open().await?,
        };
        let (answer, has_ended) = {
            let Open { sender, driver } = &mut open;
            let mut answer = pin!(async {
                let response = sender.send_request(request).await?;
                let (parts, body) = response.into_parts();
                let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
                Ok::<_, AnyError>(Response::from_parts(parts, body))
            });
            tokio::select! {
                biased;
                answer = answer.as_mut() => (answer?, false),
                // Its own end tells nothing that the answer does not.
                _ = driver => (answer.await?, true),
            }
        };
        if !has_ended {
            self.open = Some(open);
        }
        Ok(answer)
    }
}

fn target(path: &[&str], query: &[(&str, &str)]) -> String {
    let encode = |text| utf8_percent_encode(text, sigv4::ENCODED).to_string();
    let path: Vec<_> = path.iter().map(|segment| encode(segment)).collect();
    let query: Vec<_> =
        query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    let separator = if query.is_empty() { "" } else { "?" };
    format!("/{}{separator}{}", path.join("/"), query.join("&"))
}

fn refusal(response: &Response<Bytes>) -> ClientError {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Body {
        message: String,
    }
    let code = response.headers().get("x-amzn-errortype").and_then(|code| code.to_str().ok());
    let body: Body = serde_json::from_slice(response.body()).unwrap_or_default();
    ClientError::Refused {
        status: response.status(),
        code: code.unwrap_or("unknown error").into(),
        message: body.message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Api;
    use crate::test_host::TestHost;
    use gnomon_core::adapter::HttpHandler;
    use hyper::server;
    use hyper::service::service_fn;
    use std::convert::Infallible;
    use tokio::net::TcpListener;

    /// Answers one connection, as the gateway does.
    async fn serve(api: &Api, listener: &TcpListener) {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(async |request: Request<hyper::body::Incoming>| {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let request = TestHost::received("loopback", Request::from_parts(parts, body));
            Ok::<_, Infallible>(api.handle(request).await.map(Full::new))
        });
        let connection = server::conn::http1::Builder::new();
        connection.serve_connection(TokioIo::new(stream), service).await.unwrap();
    }

    fn client(host: &TestHost, endpoint: &str) -> Client {
        let (id, secret) = (&host.key.id, &host.key.secret);
        Client::new(endpoint, "us-east-1", id, secret, host.clock.clone()).unwrap()
    }

    #[tokio::test]
    async fn a_host_takes_what_the_client_signs() {
        let host = TestHost::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = client(&host, &format!("http://{}", listener.local_addr().unwrap()));

        let query = [("endpointType", "iot:Jobs")];
        let call = client.call("iot", Method::GET, &["endpoint"], &query, &[], "");
        let (answer, ()) = tokio::join!(call, serve(&host.api, &listener));
        assert_eq!(answer.unwrap(), r#"{"endpointAddress":"iot.example"}"#);

        let call = client.call("gnomon", Method::DELETE, &["keys", "a/b ü"], &[], &[], "");
        let (answer, ()) = tokio::join!(call, serve(&host.api, &listener));
        let error = answer.unwrap_err();
        assert!(matches!(error, ClientError::Refused { status: StatusCode::NOT_FOUND, .. }));
        assert_eq!(error.to_string(), "ResourceNotFoundException: no access key has the id a/b ü");
    }

    #[tokio::test]
    async fn a_connection_stays_for_many_calls_and_is_opened_again_when_it_is_gone() {
        let host = TestHost::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = client(&host, &format!("http://{}", listener.local_addr().unwrap()));
        let mut connection = client.connection();
        // Whoever serves takes a single connection.
        let calls = async {
            for _ in 0..3 {
                let path = ["endpoint"];
                let query = [("endpointType", "iot:Jobs")];
                let answer = connection.call("iot", Method::GET, &path, &query, &[], "").await;
                assert_eq!(answer.unwrap(), r#"{"endpointAddress":"iot.example"}"#);
            }
            let error = connection.call("gnomon", Method::DELETE, &["keys", "k"], &[], &[], "");
            let error = error.await.unwrap_err();
            assert!(matches!(error, ClientError::Refused { status: StatusCode::NOT_FOUND, .. }));
        };
        tokio::select! {
            () = calls => {}
            () = serve(&host.api, &listener) => panic!("the connection ended"),
        }
        // It was dropped at the other end: the call fails, the next one connects.
        let call = connection.call("iot", Method::GET, &["endpoint"], &[], &[], "");
        assert!(matches!(call.await, Err(ClientError::Connection { .. })));
        let query = [("endpointType", "iot:Jobs")];
        let call = connection.call("iot", Method::GET, &["endpoint"], &query, &[], "");
        let answer = tokio::select! {
            answer = call => answer,
            () = serve(&host.api, &listener) => panic!("the connection ended"),
        };
        assert_eq!(answer.unwrap(), r#"{"endpointAddress":"iot.example"}"#);
    }

    #[tokio::test]
    async fn nobody_at_the_endpoint_is_said_with_the_endpoint() {
        let host = TestHost::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let client = client(&host, &format!("http://{address}"));
        let error = client.call("iot", Method::GET, &["things"], &[], &[], "").await.unwrap_err();
        assert_eq!(error.to_string(), format!("no answer from {address}; is the host running?"));
    }

    #[test]
    fn an_endpoint_is_http_with_an_authority_and_nothing_else() {
        for (endpoint, is_good) in [
            ("http://127.0.0.1:8080", true),
            ("http://127.0.0.1:8080/", true),
            ("http://[::1]:8080", true),
            ("https://127.0.0.1:8443", false),
            ("http://127.0.0.1/api", false),
            ("127.0.0.1:8080", false),
            ("", false),
        ] {
            let clock = Arc::new(gnomon_core::time::SystemClock);
            let client = Client::new(endpoint, "us-east-1", "AKIA", "secret", clock);
            assert_eq!(client.is_ok(), is_good, "{endpoint}");
        }
    }
}
