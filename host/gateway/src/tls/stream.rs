//! A TLS stream over rustls' unbuffered API: one that is idle holds no buffer.
//!
//! In: a socket and a `ServerConfig`. Out: plaintext as `AsyncRead + AsyncWrite`, and what the
//! handshake found out. Ciphertext is read into, and made in, buffers of the thread. A stream keeps
//! only an unfinished record (at most `UNFINISHED_BYTES_MAX`), plaintext of one read that was not
//! asked for yet (`READ_BYTES`), and ciphertext of one write that the socket did not take
//! (`WRITE_BYTES_MAX`); all three are given back as soon as they are empty.
//! Not here: the handshake's deadline (`listener`), whether a client is known (`auth`).

use crate::tls::ASKED_NAME;
use crate::tls::records::{Action, Outcome, run};
use bytes::{Buf, BytesMut};
use rustls::server::UnbufferedServerConnection;
use rustls::{CommonState, ServerConfig};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Ciphertext read at once: four records.
const READ_BYTES: usize = 64 * 1_024;

/// Plaintext taken by one write: two records. What waits for a slow socket is no more than this
/// and the records' overhead.
const WRITE_BYTES_MAX: usize = 32 * 1_024;

/// Ciphertext kept because a record, or a handshake message in several records, is not whole.
///
/// A record has at most 18 KiB (RFC 5246, 6.2.3); handshake messages get what rustls' own buffer
/// gives them, which is enough for a chain of dozens of certificates.
const UNFINISHED_BYTES_MAX: usize = 0xffff;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static WRITE_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The server's end of a TLS connection whose handshake is done.
///
/// The end of the peer's data is a `close_notify`; without it, the end of the socket's data is
/// `UnexpectedEof`. After an error of TLS the peer has been sent an alert, and nothing is read or
/// written any more.
pub struct TlsStream<S> {
    socket: S,
    tls: UnbufferedServerConnection,
    /// Ciphertext whose rest has not come.
    unfinished: Vec<u8>,
    /// Plaintext that was not asked for yet.
    plaintext: BytesMut,
    /// Ciphertext that the socket did not take yet.
    unsent: BytesMut,
    server_name: Option<Arc<str>>,
    failure: Option<Box<rustls::Error>>,
    /// `close_notify` came.
    is_read_closed: bool,
    /// `close_notify` was sent or waits in `unsent`.
    is_write_closed: bool,
}

/// Performs the handshake.
///
/// # Errors
/// The socket's; `UnexpectedEof` when it ends; `InvalidData` with a [`rustls::Error`] when the peer
/// and the configuration do not agree.
pub async fn accept<S>(socket: S, config: Arc<ServerConfig>) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = TlsStream {
        socket,
        tls: UnbufferedServerConnection::new(config).map_err(io::Error::other)?,
        unfinished: Vec::new(),
        plaintext: BytesMut::new(),
        unsent: BytesMut::new(),
        server_name: None,
        failure: None,
        is_read_closed: false,
        is_write_closed: false,
    };
    poll_fn(|context| stream.poll_handshake(context)).await?;
    Ok(stream)
}

impl<S> TlsStream<S> {
    /// What was agreed, and the peer's certificates.
    pub fn state(&self) -> &CommonState {
        &self.tls
    }

    /// The name that the client asked for (SNI).
    pub fn server_name(&self) -> Option<&Arc<str>> {
        self.server_name.as_ref()
    }

    fn failed(&self) -> io::Result<()> {
        match &self.failure {
            Some(error) => Err(io::Error::new(io::ErrorKind::InvalidData, (**error).clone())),
            None => Ok(()),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.failed()?;
            ready!(self.poll_send(context))?;
            if !self.tls.is_handshaking() {
                return Pin::new(&mut self.socket).poll_flush(context);
            }
            // Clients that do not wait for our last messages are already sending.
            ready!(self.poll_receive(context, &mut ReadBuf::new(&mut [])))?;
        }
    }

    /// Reads once and decrypts what came: as much as there is room for into `plaintext`, the rest
    /// is kept.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        plaintext: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut buffer = READ_BUFFER.take();
        let kept = self.unfinished.len();
        if buffer.len() < kept + READ_BYTES {
            buffer.resize(kept + READ_BYTES, 0);
        }
        let mut read = ReadBuf::new(&mut buffer[kept..kept + READ_BYTES]);
        let polled = Pin::new(&mut self.socket).poll_read(context, &mut read);
        let received = read.filled().len();
        let result = match polled {
            Poll::Ready(Ok(())) if received > 0 => {
                buffer[..kept].copy_from_slice(&self.unfinished);
                self.handle_ciphertext(context, &mut buffer[..kept + received], plaintext)
            }
            Poll::Ready(Ok(())) => Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => {
                READ_BUFFER.set(buffer);
                return Poll::Pending;
            }
        };
        READ_BUFFER.set(buffer);
        Poll::Ready(result)
    }

    fn handle_ciphertext(
        &mut self,
        context: &mut Context<'_>,
        ciphertext: &mut [u8],
        plaintext: &mut ReadBuf<'_>,
    ) -> io::Result<()> {
        let kept = &mut self.plaintext;
        let mut take = |bytes: &[u8]| {
            let room = if kept.is_empty() { plaintext.remaining().min(bytes.len()) } else { 0 };
            plaintext.put_slice(&bytes[..room]);
            kept.extend_from_slice(&bytes[room..]);
        };
        let mut answer = WRITE_BUFFER.take();
        answer.clear();
        ASKED_NAME.set(None);
        let ran = run(&mut self.tls, ciphertext, &mut answer, Action::None, &mut take);
        self.server_name = ASKED_NAME.take().or(self.server_name.take());
        let sent = self.send(context, &answer);
        WRITE_BUFFER.set(answer);
        let rest = &ciphertext[ran.used..];
        match ran.outcome {
            Ok(Outcome::Open) if rest.len() <= UNFINISHED_BYTES_MAX => {
                self.unfinished = rest.to_vec();
            }
            Ok(Outcome::Open) => {
                self.unfinished = Vec::new();
                let error = rustls::Error::General("a message of the peer is too long".to_owned());
                self.failure = Some(Box::new(error));
            }
            Ok(Outcome::Closed) => {
                // Whatever follows a `close_notify` is to be ignored (RFC 8446, 6.1).
                self.unfinished = Vec::new();
                self.is_read_closed = true;
            }
            Err(error) => {
                self.unfinished = Vec::new();
                self.failure = Some(Box::new(error));
                // The alert is a courtesy: why the connection ends is already known.
                return Ok(());
            }
        }
        sent
    }

    /// Gives ciphertext to the socket, behind what waits for it; what it does not take is kept.
    fn send(&mut self, context: &mut Context<'_>, mut ciphertext: &[u8]) -> io::Result<()> {
        if self.unsent.is_empty() && !ciphertext.is_empty() {
            match Pin::new(&mut self.socket).poll_write(context, ciphertext) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(sent)) => ciphertext = &ciphertext[sent..],
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {}
            }
        }
        self.unsent.extend_from_slice(ciphertext);
        Ok(())
    }

    /// Sends what is kept; ready when nothing is left.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.socket).poll_write(context, &self.unsent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            consume(&mut self.unsent, sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Encrypts what the action asks for and gives it to the socket.
    fn encrypt(&mut self, context: &mut Context<'_>, action: Action<'_>) -> io::Result<()> {
        let mut output = WRITE_BUFFER.take();
        output.clear();
        // Whole records were taken from `unfinished` when they came, so there is no plaintext.
        let ran = run(&mut self.tls, &mut self.unfinished, &mut output, action, &mut |_| {});
        let sent = self.send(context, &output);
        WRITE_BUFFER.set(output);
        if let Err(error) = ran.outcome {
            self.failure = Some(Box::new(error));
        }
        self.failed()?;
        sent
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        let empty = buffer.remaining();
        while buffer.remaining() == empty && empty > 0 {
            if !stream.plaintext.is_empty() {
                let length = stream.plaintext.len().min(empty);
                buffer.put_slice(&stream.plaintext[..length]);
                consume(&mut stream.plaintext, length);
                break;
            }
            stream.failed()?;
            if stream.is_read_closed {
                break;
            }
            // Nobody flushes what reading made necessary.
            if let Poll::Ready(Err(error)) = stream.poll_send(context) {
                return Poll::Ready(Err(error));
            }
            ready!(stream.poll_receive(context, buffer))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        if stream.is_write_closed || stream.failure.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(stream.poll_send(context))?;
        let length = bytes.len().min(WRITE_BYTES_MAX);
        if length > 0 {
            stream.encrypt(context, Action::Write(&bytes[..length]))?;
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        ready!(stream.poll_send(context))?;
        Pin::new(&mut stream.socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if !stream.is_write_closed {
            stream.is_write_closed = true;
            if stream.failure.is_none() {
                stream.encrypt(context, Action::Close)?;
            }
        }
        ready!(stream.poll_send(context))?;
        Pin::new(&mut stream.socket).poll_shutdown(context)
    }
}

/// Drops the first bytes, and the buffer with the last.
fn consume(buffer: &mut BytesMut, length: usize) {
    buffer.advance(length);
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
}

#[cfg(test)]
mod tests;
