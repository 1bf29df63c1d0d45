//! A TLS stream over rustls' unbuffered API: one that is idle holds no buffer.
//!
//! In: a socket and a `ServerConfig`. Out: plaintext as `AsyncRead + AsyncWrite`, and what the
//! handshake found out. Ciphertext is read into, and made in, buffers of the thread. A stream keeps
//! only an unfinished record (at most `UNFINISHED_BYTES_MAX`), plaintext of one read that was not
//! asked for yet (`READ_BYTES`), and ciphertext of one write that the socket did not take
//! (`WRITE_BYTES_MAX`); each is given back as soon as it is empty.
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
    /// None while there is nothing to hold.
    held: Option<Box<Held>>,
    failure: Option<Box<rustls::Error>>,
    /// `close_notify` came.
    is_read_closed: bool,
    /// `close_notify` was sent or waits in `unsent`.
    is_write_closed: bool,
}

/// A stream, and the name that its client asked for (SNI).
pub type Accepted<S> = (TlsStream<S>, Option<Arc<str>>);

/// What a stream keeps between two polls.
#[derive(Default)]
struct Held {
    /// Ciphertext whose rest has not come.
    unfinished: Vec<u8>,
    /// Plaintext that was not asked for yet.
    plaintext: BytesMut,
    /// Ciphertext that the socket did not take yet.
    unsent: BytesMut,
    /// What the client asked for, until the handshake is done.
    server_name: Option<Arc<str>>,
}

/// Performs the handshake; the stream, and the name that the client asked for (SNI).
///
/// # Errors
/// The socket's; `UnexpectedEof` when it ends; `InvalidData` with a [`rustls::Error`] when the peer
/// and the configuration do not agree.
pub async fn accept<S>(socket: S, config: Arc<ServerConfig>) -> io::Result<Accepted<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = TlsStream {
        socket,
        tls: UnbufferedServerConnection::new(config).map_err(io::Error::other)?,
        held: None,
        failure: None,
        is_read_closed: false,
        is_write_closed: false,
    };
    poll_fn(|context| stream.poll_handshake(context)).await?;
    let server_name = stream.held.as_mut().and_then(|held| held.server_name.take());
    stream.give_back();
    Ok((stream, server_name))
}

impl<S> TlsStream<S> {
    /// What was agreed, and the peer's certificates.
    pub fn state(&self) -> &CommonState {
        &self.tls
    }

    /// The same stream over what becomes of its socket.
    ///
    /// # Errors
    /// As of `map`.
    pub fn try_map_socket<T>(
        self,
        map: impl FnOnce(S) -> io::Result<T>,
    ) -> io::Result<TlsStream<T>> {
        Ok(TlsStream {
            socket: map(self.socket)?,
            tls: self.tls,
            held: self.held,
            failure: self.failure,
            is_read_closed: self.is_read_closed,
            is_write_closed: self.is_write_closed,
        })
    }

    /// Drops what is empty.
    fn give_back(&mut self) {
        let is_empty = |held: &Held| {
            held.unfinished.is_empty()
                && held.plaintext.is_empty()
                && held.unsent.is_empty()
                && held.server_name.is_none()
        };
        self.held.take_if(|held| is_empty(held));
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
        let kept = self.held.as_ref().map_or(0, |held| held.unfinished.len());
        if buffer.len() < kept + READ_BYTES {
            buffer.resize(kept + READ_BYTES, 0);
        }
        let mut read = ReadBuf::new(&mut buffer[kept..kept + READ_BYTES]);
        let polled = Pin::new(&mut self.socket).poll_read(context, &mut read);
        let received = read.filled().len();
        let result = match polled {
            Poll::Ready(Ok(())) if received > 0 => {
                if let Some(held) = &mut self.held {
                    buffer[..kept].copy_from_slice(&std::mem::take(&mut held.unfinished));
                }
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
        let held = &mut self.held;
        let mut take = |bytes: &[u8]| {
            let has_room = held.as_ref().is_none_or(|held| held.plaintext.is_empty());
            let room = if has_room { plaintext.remaining().min(bytes.len()) } else { 0 };
            plaintext.put_slice(&bytes[..room]);
            if room < bytes.len() {
                held.get_or_insert_default().plaintext.extend_from_slice(&bytes[room..]);
            }
        };
        let mut answer = WRITE_BUFFER.take();
        answer.clear();
        ASKED_NAME.set(None);
        let ran = run(&mut self.tls, ciphertext, &mut answer, Action::None, &mut take);
        if let Some(name) = ASKED_NAME.take() {
            self.held.get_or_insert_default().server_name = Some(name);
        }
        let sent = self.send(context, &answer);
        WRITE_BUFFER.set(answer);
        match ran.outcome {
            Ok(Outcome::Open) => self.keep_unfinished(&ciphertext[ran.used..]),
            // Whatever follows a `close_notify` is to be ignored (RFC 8446, 6.1).
            Ok(Outcome::Closed) => self.is_read_closed = true,
            Err(error) => {
                self.failure = Some(Box::new(error));
                // The alert is a courtesy: why the connection ends is already known.
                return Ok(());
            }
        }
        sent
    }

    fn keep_unfinished(&mut self, rest: &[u8]) {
        if rest.len() > UNFINISHED_BYTES_MAX {
            let error = rustls::Error::General("a message of the peer is too long".to_owned());
            self.failure = Some(Box::new(error));
        } else if !rest.is_empty() {
            self.held.get_or_insert_default().unfinished = rest.to_vec();
        }
    }

    /// Gives ciphertext to the socket, behind what waits for it; what it does not take is kept.
    fn send(&mut self, context: &mut Context<'_>, mut ciphertext: &[u8]) -> io::Result<()> {
        let is_first = self.held.as_ref().is_none_or(|held| held.unsent.is_empty());
        if is_first && !ciphertext.is_empty() {
            match Pin::new(&mut self.socket).poll_write(context, ciphertext) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(sent)) => ciphertext = &ciphertext[sent..],
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {}
            }
        }
        if !ciphertext.is_empty() {
            self.held.get_or_insert_default().unsent.extend_from_slice(ciphertext);
        }
        Ok(())
    }

    /// Sends what is kept; ready when nothing is left.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(held) = &mut self.held else { return Poll::Ready(Ok(())) };
        while !held.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.socket).poll_write(context, &held.unsent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            consume(&mut held.unsent, sent);
        }
        self.give_back();
        Poll::Ready(Ok(()))
    }

    /// Encrypts what the action asks for and gives it to the socket.
    fn encrypt(&mut self, context: &mut Context<'_>, action: Action<'_>) -> io::Result<()> {
        let mut output = WRITE_BUFFER.take();
        output.clear();
        // Whole records were taken from it when they came, so there is no plaintext.
        let unfinished = self.held.as_mut().map_or(&mut [][..], |held| &mut held.unfinished);
        let ran = run(&mut self.tls, unfinished, &mut output, action, &mut |_| {});
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
            if let Some(held) = stream.held.as_mut().filter(|held| !held.plaintext.is_empty()) {
                let length = held.plaintext.len().min(empty);
                buffer.put_slice(&held.plaintext[..length]);
                consume(&mut held.plaintext, length);
                stream.give_back();
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
            stream.give_back();
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
