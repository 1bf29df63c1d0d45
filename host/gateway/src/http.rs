//! HTTP/1.1 on a stream: whole requests to a handler, `/mqtt` upgraded to MQTT over WebSocket.
//!
//! In: a TCP or TLS stream. Out: [`HttpHandler::handle`], `connection::serve`. Bounds: request
//! headers 64 KiB and 10 s (the wait for the next request included), body
//! `Limits::http_body_bytes` (413 beyond it) and 30 s.
//! Content codings of requests are not undone. HTTP/2 is not spoken.

use crate::connection::{self, Origin};
use crate::websocket::{self, ByteStream};
use bytes::Bytes;
use gnomon_core::adapter::{HttpHandler, HttpRequest};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
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
        let response = if service.mqtt.is_some() && request.uri().path() == MQTT_PATH {
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

async fn handle(request: Request<Incoming>, origin: &Origin, service: &Service) -> Response<Bytes> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, service.body_bytes_max).collect();
    let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let text = format!("the body has more than {} bytes\n", service.body_bytes_max);
            return plain(StatusCode::PAYLOAD_TOO_LARGE, text);
        }
        Ok(Err(_)) => return plain(StatusCode::BAD_REQUEST, "the body cannot be read\n".into()),
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the body took too long\n".into()),
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

fn plain(status: StatusCode, text: String) -> Response<Bytes> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response
}
