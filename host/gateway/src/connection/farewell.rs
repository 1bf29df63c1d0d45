//! The end of a connection: the client id is given up, what was encoded is sent, the socket closed.
//!
//! Bound: `FAREWELL_TIMEOUT`.

use super::{Connection, READ_BUFFER, READ_BUFFER_BYTES};
use gnomon_core::packet::Reason;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long the last packets of a connection may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// The last packets and the close of the socket.
pub(super) struct Farewell {
    /// How long all of it may take.
    deadline: Pin<Box<Sleep>>,
    /// The client was told why: it is given the time to read that. A socket that is closed over
    /// unread bytes resets the connection, and what was sent last is lost.
    is_told: bool,
    /// Nothing is sent any more.
    is_shut: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Leaves the client id, the will and the session to whoever comes.
    pub(super) fn leave(&mut self) {
        let now = self.now();
        let ended = self.session.end(now);
        let is_told = ended.reason.is_some_and(|reason| reason != Reason::Success)
            && !self.shared.stop.is_cancelled();
        if let (Some(client), Some(left)) = (self.client.take(), ended.left) {
            let principal = client.publisher().principal.as_ref().map(tracing::field::display);
            tracing::debug!(
                client_id = ?client,
                principal,
                reason = ?ended.reason,
                "disconnected"
            );
            client.close(now, ended.reason, left);
        }
        let deadline = Box::pin(tokio::time::sleep(FAREWELL_TIMEOUT));
        self.farewell = Some(Box::new(Farewell { deadline, is_told, is_shut: false }));
    }

    /// Sends what is left and closes; a peer that takes neither in time is none of ours any more.
    pub(super) fn poll_farewell(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(mut farewell) = self.farewell.take() else { return Poll::Ready(()) };
        if farewell.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let ended = self.poll_end(context, &mut farewell);
        self.farewell = Some(farewell);
        ended
    }

    fn poll_end(&mut self, context: &mut Context<'_>, farewell: &mut Farewell) -> Poll<()> {
        if !farewell.is_shut {
            let sent = ready!(self.poll_send(context)).is_ok()
                && ready!(Pin::new(&mut self.socket).poll_shutdown(context)).is_ok();
            if !sent || !farewell.is_told {
                return Poll::Ready(());
            }
            farewell.is_shut = true;
        }
        while !ready!(self.poll_drain(context)) {}
        Poll::Ready(())
    }

    /// Reads and forgets; true at the end.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut buffer = READ_BUFFER.take();
        buffer.resize(READ_BUFFER_BYTES, 0);
        let mut read = ReadBuf::new(&mut buffer);
        let result = Pin::new(&mut self.socket).poll_read(context, &mut read);
        let is_end = read.filled().is_empty();
        READ_BUFFER.set(buffer);
        result.map(|result| result.is_err() || is_end)
    }
}
