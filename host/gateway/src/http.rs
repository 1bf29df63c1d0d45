//! HTTP/1.1 on a stream: whole requests to a handler, `/mqtt` upgraded to MQTT over WebSocket.
//!
//! In: a TCP or TLS stream. Out: [`HttpHandler::handle`], `connection::serve`. Bounds: request
//! headers 64 KiB, 100 of them, and 10 s (the wait for the next request included), body
//! `Limits::http_body_bytes` (413 beyond it) and 30 s.
//! Content codings of requests are not undone. HTTP/2 is not spoken. A request names one host and
//! a path; with two `Host`s, client and host may mean different ones.

use crate::connection::{self, Origin};
use crate::websocket::{self, ByteStream};
use bytes::Bytes;
use gnomon_core::adapter::{HttpHandler, HttpRequest};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

const HEADER_BYTES_MAX: usize = 64 * 1_024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What is read and thrown away of a body that is too long, so that its client comes to read the
/// answer: closing over unread bytes resets the connection.
const DISCARDED_BYTES_MAX: usize = 32 * 1_024 * 1_024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(10);

/// The path that WebSocket clients ask for (AWS IoT developer guide, "MQTT over WSS").
const MQTT_PATH: &str = "/mqtt";

/// Who answers on a listener.
#[derive(Clone)]
pub struct Service {
    /// Requests that are no upgrade.
    pub handler: Arc<dyn HttpHandler>,
    /// Upgrades on `/mqtt`; `None` where MQTT is not offered.
    pub mqtt: Option<Arc<connection::Shared>>,
    /// Largest body in bytes.
    pub body_bytes_max: usize,
    /// Cancelled when the host shuts down: requests end, idle connections close.
    pub stop: CancellationToken,
}

/// Serves one connection until it ends.
pub async fn serve<S>(socket: S, origin: Origin, service: Service)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let origin = Arc::new(origin);
    // At most one: after an upgrade the connection speaks no HTTP.
    let upgrade: Mutex<Option<Upgrade>> = Mutex::default();
    let answer = service_fn(|request: Request<Incoming>| {
        let response = if let Err(message) = check_target(&request) {
            Err(refuse(StatusCode::BAD_REQUEST, "InvalidRequestException", message))
        } else if service.mqtt.is_some() && request.uri().path() == MQTT_PATH {
            let response = websocket::accept(&request);
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                let (parts, body) = request.into_parts();
                let mut request = Request::from_parts(parts, body);
                let socket = hyper::upgrade::on(&mut request);
                let head = Arc::new(request.into_parts().0);
                *upgrade.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Upgrade { socket, head });
            }
            Err(response)
        } else {
            Ok(request)
        };
        let (origin, service) = (origin.clone(), service.clone());
        async move {
            let response = match response {
                Ok(request) => handle(request, &origin, &service).await,
                Err(response) => response,
            };
            Ok::<_, Infallible>(response.map(Full::new))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        // The buffer may grow beyond its bound by one read.
        .max_header_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), answer)
        .with_upgrades();
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = service.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = served {
        tracing::debug!(peer = %origin.peer, %error, "HTTP connection ended");
        return;
    }
    let upgrade = upgrade.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let (Some(upgrade), Some(shared)) = (upgrade, service.mqtt)
        && let Ok(socket) = upgrade.socket.await
        && let Some(origin) = Arc::into_inner(origin)
    {
        let stream = ByteStream::new(TokioIo::new(socket)).await;
        let origin = Origin { http: Some(upgrade.head), ..origin };
        connection::serve(stream, origin, shared).await;
    }
}

struct Upgrade {
    socket: hyper::upgrade::OnUpgrade,
    head: Arc<http::request::Parts>,
}

/// Whom the request is for, and what of it, each said once (RFC 9112, 3.2).
fn check_target<B>(request: &Request<B>) -> Result<(), &'static str> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    // HTTP/1.0 does without.
    if hosts > 1 || hosts == 0 && request.version() >= Version::HTTP_11 {
        return Err("one header Host is needed");
    }
    let path = request.uri().path();
    match path.starts_with('/') || path == "*" && request.method() == Method::OPTIONS {
        true => Ok(()),
        false => Err("the target has no path; this host is no proxy"),
    }
}

async fn handle(request: Request<Incoming>, origin: &Origin, service: &Service) -> Response<Bytes> {
    let (parts, body) = request.into_parts();
    let body = match read_body(body, &parts.headers, service.body_bytes_max).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    let request = HttpRequest {
        listener: origin.listener.clone(),
        peer: origin.peer,
        client_certificate: origin.certificate.clone(),
        server_name: origin.server_name.clone(),
        http: Request::from_parts(parts, body),
    };
    service.handler.handle(request).await
}

/// The whole body, or the answer to one that is not taken.
async fn read_body(
    mut body: Incoming,
    headers: &HeaderMap,
    bytes_max: usize,
) -> Result<Bytes, Response<Bytes>> {
    let too_long = || {
        let message = format!("the body has more than {bytes_max} bytes");
        refuse(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLargeException", &message)
    };
    // Who asks first whether to send it is told before.
    if headers.contains_key(header::EXPECT) && body.size_hint().lower() > bytes_max as u64 {
        return Err(too_long());
    }
    let whole = Limited::new(&mut body, bytes_max).collect();
    match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let _ = tokio::time::timeout(DISCARD_TIMEOUT, discard(&mut body)).await;
            Err(too_long())
        }
        Ok(Err(_)) => {
            let message = "the body cannot be read";
            Err(refuse(StatusCode::BAD_REQUEST, "InvalidRequestException", message))
        }
        Err(_) => {
            let message = "the body took too long";
            Err(refuse(StatusCode::REQUEST_TIMEOUT, "RequestTimeoutException", message))
        }
    }
}

/// Reads to the end, or until it is enough.
async fn discard(body: &mut Incoming) {
    let mut left = DISCARDED_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// An error as AWS's SDKs read it: most of those who ask here are some. The message is put into
/// JSON as it is.
fn refuse(status: StatusCode, error_type: &'static str, message: &str) -> Response<Bytes> {
    let mut response = Response::new(format!("{{\"message\":\"{message}\"}}").into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-amzn-errortype", HeaderValue::from_static(error_type));
    response
}
