//! MQTT over WebSocket: the byte stream inside binary messages (MQTT 5.0, 6), as a client.
//!
//! In: a connection, with or without TLS. Out: `AsyncRead + AsyncWrite` for `link`. Packets need
//! not be aligned with messages [MQTT-6.0.0-2]. No permessage-deflate.
//! Bounds: a message has at most `decode::PACKET_BYTES_MAX`.

use crate::decode::PACKET_BYTES_MAX;
use futures_util::{Sink, Stream};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, ClientRequestBuilder, Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// What one call reads at most; each connection keeps as much.
const READ_BYTES: usize = 8 * 1_024;

/// Longest message that is sent; what waits to be written is longer only with long payloads.
const MESSAGE_BYTES_MAX: usize = 128 * 1_024;

/// The bytes inside a WebSocket's binary messages.
#[derive(Debug)]
pub struct ByteStream<S> {
    socket: WebSocketStream<S>,
    /// What is left of the message that was read last.
    rest: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ByteStream<S> {
    /// Asks the broker to upgrade the connection; it has to name `mqtt` [MQTT-6.0.0-4].
    pub async fn connect(uri: Uri, stream: S) -> io::Result<Self> {
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(PACKET_BYTES_MAX);
        config.max_frame_size = Some(PACKET_BYTES_MAX);
        config.read_buffer_size = READ_BYTES;
        // Messages go out at once: the link already gathers packets.
        config.write_buffer_size = 0;
        let request = ClientRequestBuilder::new(uri).with_sub_protocol("mqtt");
        let connected = client_async_with_config(request, stream, Some(config)).await;
        let (socket, _) = connected.map_err(to_io)?;
        Ok(Self { socket, rest: Bytes::new() })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ByteStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        read: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                // Answered by the library.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    let error = "the broker sent a WebSocket message that is not binary";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
            }
        }
        let len = self.rest.len().min(read.remaining());
        read.put_slice(&self.rest.split_to(len));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ByteStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(to_io)?;
        let len = bytes.len().min(MESSAGE_BYTES_MAX);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..len]));
        Pin::new(&mut self.socket).start_send(message).map_err(to_io)?;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(to_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(to_io)
    }
}

fn to_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}
