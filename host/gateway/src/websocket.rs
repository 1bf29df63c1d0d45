//! MQTT over WebSocket: the byte stream inside binary messages (MQTT 5.0, 6).
//!
//! In: an upgraded HTTP connection. Out: `AsyncRead + AsyncWrite` for `connection`. Packets need
//! not be aligned with messages [MQTT-6.0.0-2]; a text message ends the connection
//! [MQTT-6.0.0-1]. No permessage-deflate. Bounds: one message at most [`MESSAGE_BYTES_MAX`].

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

/// Longest message taken from a client; a frame of it may hold several packets.
const MESSAGE_BYTES_MAX: usize = 256 * 1_024;

/// Bytes that may wait for the socket, frame headers included.
const WRITE_BUFFER_BYTES_MAX: usize = 512 * 1_024;

/// The answer to an upgrade request: 101, or what is wrong with it.
pub fn accept<B>(request: &Request<B>) -> Response<Bytes> {
    let headers = request.headers();
    let refuse = |what: &'static str| {
        let mut response = Response::new(Bytes::from_static(what.as_bytes()));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response
    };
    if !contains(headers, &header::CONNECTION, "upgrade")
        || !contains(headers, &header::UPGRADE, "websocket")
    {
        return refuse("/mqtt takes WebSocket upgrades only\n");
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return refuse("Sec-WebSocket-Version must be 13 (RFC 6455)\n");
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return refuse("Sec-WebSocket-Key is missing\n");
    };
    // [MQTT-6.0.0-3], [MQTT-6.0.0-4] the client has to name `mqtt`; 3.1 clients say `mqttv3.1`.
    if !contains(headers, &header::SEC_WEBSOCKET_PROTOCOL, "mqtt") {
        return refuse("the WebSocket subprotocol must be mqtt\n");
    }
    let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) else {
        return refuse("Sec-WebSocket-Key cannot be answered\n");
    };
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("mqtt"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

fn contains(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|it| it.trim().eq_ignore_ascii_case(token))
}

/// The bytes inside a WebSocket's binary messages.
pub struct ByteStream<S> {
    socket: WebSocketStream<S>,
    /// What is left of the message that was read last.
    rest: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ByteStream<S> {
    /// Takes a connection whose upgrade is done.
    pub async fn new(socket: S) -> Self {
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(MESSAGE_BYTES_MAX);
        config.max_frame_size = Some(MESSAGE_BYTES_MAX);
        config.max_write_buffer_size = WRITE_BUFFER_BYTES_MAX;
        // Frames go out at once: the connection already gathers packets.
        config.write_buffer_size = 0;
        let socket = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
        Self { socket, rest: Bytes::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ByteStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                // Answered by the library.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    let error = "MQTT over WebSocket takes binary messages only";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
            }
        }
        let length = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..length]);
        self.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ByteStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let socket = Pin::new(&mut self.socket);
        ready!(socket.poll_ready(context)).map_err(to_io)?;
        let length = bytes.len().min(MESSAGE_BYTES_MAX);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..length]));
        Pin::new(&mut self.socket).start_send(message).map_err(to_io)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context).map_err(to_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(context).map_err(to_io)
    }
}

fn to_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}
