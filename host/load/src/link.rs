//! One connection: a stream, what waits to be written, and what was read of an unfinished packet.
//!
//! In: packets, appended to [`Link::out`]. Out: the broker's packets, handed to a closure.
//! All connections share one buffer for reading, so that an idle one has none.
//! Bounds: [`OUT_BYTES_MAX`] wait to be written before nothing more is read or published; an
//! unfinished packet has at most `decode::PACKET_BYTES_MAX`.

use crate::decode::{self, Packet};
use crate::error::Failure;
use crate::options::Protocol;
use crate::websocket::ByteStream;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// What may wait to be written: some hundred messages, so that one call writes many.
const OUT_BYTES_MAX: usize = 128 * 1_024;

/// What one call reads at most.
const READ_BYTES: usize = 64 * 1_024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// TCP, TLS over it, or WebSocket over one of them.
#[derive(Debug)]
pub enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// WebSocket over one of the others.
    WebSocket(Box<ByteStream<Stream>>),
}

/// A connection.
#[derive(Debug)]
pub struct Link {
    stream: Stream,
    protocol: Protocol,
    unread: Vec<u8>,
    /// Packets to be written with the next turn.
    pub out: Vec<u8>,
    written: usize,
    flush: bool,
}

impl Link {
    /// A connection without MQTT yet.
    pub fn new(stream: Stream, protocol: Protocol) -> Self {
        Self { stream, protocol, unread: Vec::new(), out: Vec::new(), written: 0, flush: false }
    }

    /// More may be appended to `out`.
    pub fn has_room(&self) -> bool {
        self.out.len() - self.written < OUT_BYTES_MAX
    }

    /// Writes what waits, and hands what arrives to `take`, with `out` for its answers. Returns
    /// after something was read, or when there is room again that was not before.
    ///
    /// Cancel-safe: what is half read or half written stays here.
    pub async fn turn(
        &mut self,
        mut take: impl FnMut(Packet<'_>, &mut Vec<u8>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let was_full = !self.has_room();
        poll_fn(|cx| self.poll_turn(cx, was_full, &mut take)).await
    }

    /// Writes what waits, says DISCONNECT and closes; what fails no longer matters.
    pub async fn close(mut self) {
        let rest = [&self.out[self.written..], &crate::encode::DISCONNECT].concat();
        match &mut self.stream {
            Stream::Plain(stream) => drop(stream.write_all(&rest).await),
            // Both have an end of their own.
            stream => {
                if stream.write_all(&rest).await.is_ok() {
                    let _ = stream.shutdown().await;
                }
            }
        }
    }

    fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        was_full: bool,
        take: &mut impl FnMut(Packet<'_>, &mut Vec<u8>) -> Result<(), Failure>,
    ) -> Poll<Result<(), Failure>> {
        // Pending is no reason to wait: this task is woken when it can go on.
        if let Poll::Ready(result) = self.poll_write(cx) {
            result?;
        }
        if !self.has_room() {
            return Poll::Pending;
        }
        if was_full {
            return Poll::Ready(Ok(()));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            Poll::Ready(self.received(read.filled(), take))
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            self.flush = true;
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.out.clear();
        self.written = 0;
        if self.flush {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.flush = false;
        }
        Poll::Ready(Ok(()))
    }

    fn received(
        &mut self,
        bytes: &[u8],
        take: &mut impl FnMut(Packet<'_>, &mut Vec<u8>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if bytes.is_empty() {
            return Err(Failure::Closed);
        }
        if self.unread.is_empty() {
            let taken = take_packets(self.protocol, bytes, &mut self.out, take)?;
            self.unread.extend_from_slice(&bytes[taken..]);
        } else {
            self.unread.extend_from_slice(bytes);
            let taken = take_packets(self.protocol, &self.unread, &mut self.out, take)?;
            self.unread.drain(..taken);
        }
        Ok(())
    }
}

/// Hands all whole packets on; returns how many bytes they were.
fn take_packets(
    protocol: Protocol,
    bytes: &[u8],
    out: &mut Vec<u8>,
    take: &mut impl FnMut(Packet<'_>, &mut Vec<u8>) -> Result<(), Failure>,
) -> Result<usize, Failure> {
    let mut taken = 0;
    while let Some((first, body, end)) = decode::frame(&bytes[taken..])? {
        take(decode::packet(protocol, first, body)?, out)?;
        taken += end;
    }
    Ok(taken)
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        read: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, read),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, read),
            Self::WebSocket(stream) => Pin::new(stream).poll_read(cx, read),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::WebSocket(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::WebSocket(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::WebSocket(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
