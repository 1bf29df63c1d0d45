//! A TCP socket of an event loop. It is to be used by the future that it was made for, whose waker
//! it knows already.

use super::{READ_CLOSED, READABLE, Seat, WRITABLE};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// See the module's description.
pub struct Socket {
    stream: mio::net::TcpStream,
    seat: Arc<Seat>,
}

impl Socket {
    pub(super) fn new(stream: mio::net::TcpStream, seat: Arc<Seat>) -> Self {
        Self { stream, seat }
    }

    /// Calls until it does not block; a call that moves less than `wanted` bytes is the last that
    /// does not.
    fn poll(
        &mut self,
        ready: u8,
        wanted: usize,
        mut call: impl FnMut(&mut mio::net::TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        while self.seat.has(ready) {
            match call(&mut self.stream) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.seat.clear(ready),
                Ok(moved) => {
                    // At the end of what the peer sends no other event comes.
                    let may_be_more = ready == READABLE && self.seat.has(READ_CLOSED);
                    if moved > 0 && moved < wanted && !may_be_more {
                        self.seat.clear(ready);
                    }
                    return Poll::Ready(Ok(moved));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Pending
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.initialize_unfilled();
        let read = self.get_mut().poll(READABLE, room.len(), |stream| stream.read(room));
        read.map_ok(|read| buffer.advance(read))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll(WRITABLE, bytes.len(), |stream| stream.write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().stream.shutdown(Shutdown::Write))
    }
}
