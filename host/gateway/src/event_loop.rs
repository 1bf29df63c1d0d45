//! The threads that MQTT connections run on: an event loop each.
//!
//! In: [`EventLoops::spawn`], a connection whose start is over. Out: its future polled, on one
//! thread and in the order in which futures were woken, when its socket is ready or somebody woke
//! it; waking costs a push to the loop's mailbox. What may keep a processor for long (handshakes of
//! TLS, plugins, the REST API) runs on tokio's threads; its timers and tasks are at hand here too.
//!
//! Why not tokio's tasks: an idle connection costs memory before all else, and there it was 768
//! bytes of task and socket registration, with the connection in them; here the connection has a seat of
//! 32 bytes and three words in a list. Sockets are edge-triggered: a seat remembers that its socket was
//! ready until a call would block.

mod socket;

pub use socket::Socket;

use mio::{Events, Interest, Poll, Registry, Token, Waker as PollWaker};
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;

/// Sockets that one look at them reports; more are reported by the next.
const EVENTS_MAX: usize = 1_024;

/// Futures polled before the sockets are looked at again.
const POLLS_PER_LOOK: usize = 64;

/// Of the mailbox; sockets have the numbers of their seats.
const MAIL: Token = Token(usize::MAX);

/// Running threads; clones share them.
#[derive(Clone)]
pub struct EventLoops(Arc<Shared>);

struct Shared {
    mailboxes: Vec<Arc<Mailbox>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Connections are dealt round.
    next: AtomicUsize,
}

impl EventLoops {
    /// Starts as many threads. To be called within a tokio runtime, whose timers and tasks their
    /// futures use.
    ///
    /// # Errors
    /// The system gives no thread or no event queue.
    pub fn start(count: NonZeroUsize) -> io::Result<Self> {
        let mut mailboxes = Vec::new();
        let mut threads = Vec::new();
        for number in 0..count.get() {
            let poll = Poll::new()?;
            let waker = PollWaker::new(poll.registry(), MAIL)?;
            let mailbox = Arc::new(Mailbox { waker, mail: Mutex::default() });
            mailboxes.push(mailbox.clone());
            let runtime = Handle::current();
            let run = move || {
                let _entered = runtime.enter();
                if let Err(error) = Loop::new(mailbox.clone()).run(poll) {
                    tracing::error!(%error, "connections cut off: sockets cannot be watched");
                }
                mailbox.close();
            };
            threads.push(
                std::thread::Builder::new().name(format!("connections-{number}")).spawn(run)?,
            );
        }
        Ok(Self(Arc::new(Shared {
            mailboxes,
            threads: Mutex::new(threads),
            next: AtomicUsize::new(0),
        })))
    }

    /// Has a thread make a future, with its socket, and run it to its end. After a stop nothing is
    /// made.
    pub fn spawn<F>(&self, start: impl FnOnce(&Entrance<'_>) -> io::Result<F> + Send + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed) % self.0.mailboxes.len();
        let start: Start = Box::new(|entrance| Ok(Box::pin(start(entrance)?)));
        self.0.mailboxes[number].post(|mail| {
            if !mail.is_stopped {
                mail.started.push(start);
            }
        });
    }

    /// Ends the threads and what still runs on them; blocks until they have ended.
    pub fn stop(&self) {
        for mailbox in &self.0.mailboxes {
            mailbox.post(|mail| mail.is_stopped = true);
        }
        let threads = std::mem::take(&mut *lock(&self.0.threads));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("connection thread panicked");
            }
        }
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

type Start = Box<dyn FnOnce(&Entrance<'_>) -> io::Result<Task> + Send>;

/// Where a new future gets its socket.
pub struct Entrance<'a> {
    registry: &'a Registry,
    seat: &'a Arc<Seat>,
}

impl Entrance<'_> {
    /// A socket for the future that is being made: it is polled when the socket is ready.
    ///
    /// # Errors
    /// The system watches no more sockets.
    pub fn socket(&self, stream: std::net::TcpStream) -> io::Result<Socket> {
        let mut stream = mio::net::TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut stream, Token(self.seat.number as usize), interest)?;
        // Perhaps it is ready; the first call finds out.
        self.seat.set(READABLE | WRITABLE);
        Ok(Socket::new(stream, self.seat.clone()))
    }
}

/// What a loop is told from outside, and by its own futures.
struct Mailbox {
    waker: PollWaker,
    mail: Mutex<Mail>,
}

#[derive(Default)]
struct Mail {
    /// Numbers of the seats whose futures were woken, in that order, each once.
    woken: Vec<u32>,
    /// Bounded by those who make connections.
    started: Vec<Start>,
    is_stopped: bool,
    /// The loop waits for its sockets, and has to be told.
    is_waiting: bool,
}

impl Mailbox {
    /// Nobody reads it any more.
    fn close(&self) {
        let mut mail = lock(&self.mail);
        mail.is_stopped = true;
        let unread = std::mem::take(&mut mail.started);
        drop(mail);
        // Connections: what they let go of may wake somebody.
        drop(unread);
    }

    fn post(&self, write: impl FnOnce(&mut Mail)) {
        let was_waiting = {
            let mut mail = lock(&self.mail);
            write(&mut mail);
            std::mem::take(&mut mail.is_waiting)
        };
        if was_waiting && let Err(error) = self.waker.wake() {
            tracing::error!(%error, "connection thread cannot be woken");
        }
    }
}

/// A socket of the seat's was ready, and no call has blocked since.
const READABLE: u8 = 1;
const WRITABLE: u8 = 2;
/// The peer sends no more: a short read is no sign that nothing is left.
const READ_CLOSED: u8 = 4;
/// The future waits in the mailbox to be polled.
const WOKEN: u8 = 8;

/// The place of a future in its loop, and its waker.
struct Seat {
    mailbox: Arc<Mailbox>,
    number: u32,
    state: AtomicU8,
}

impl Seat {
    /// Returns what was set before.
    fn set(&self, bits: u8) -> u8 {
        self.state.fetch_or(bits, Ordering::AcqRel)
    }

    fn clear(&self, bits: u8) {
        self.state.fetch_and(!bits, Ordering::AcqRel);
    }

    fn has(&self, bits: u8) -> bool {
        self.state.load(Ordering::Relaxed) & bits != 0
    }
}

impl Wake for Seat {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.set(WOKEN) & WOKEN == 0 {
            self.mailbox.post(|mail| mail.woken.push(self.number));
        }
    }
}

/// One thread's futures.
struct Loop {
    mailbox: Arc<Mailbox>,
    /// By the number of the seat.
    seated: Vec<Option<(Arc<Seat>, Task)>>,
    free: Vec<u32>,
}

impl Loop {
    fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { mailbox, seated: Vec::new(), free: Vec::new() }
    }

    fn run(&mut self, mut poll: Poll) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let (mut woken, mut started) = (Vec::new(), Vec::new());
        let mut polls_left = 0;
        loop {
            let is_idle = {
                let mut mail = lock(&self.mailbox.mail);
                if mail.is_stopped {
                    return Ok(());
                }
                std::mem::swap(&mut mail.woken, &mut woken);
                std::mem::swap(&mut mail.started, &mut started);
                mail.is_waiting = woken.is_empty() && started.is_empty();
                mail.is_waiting
            };
            if is_idle || polls_left == 0 {
                match poll.poll(&mut events, (!is_idle).then_some(Duration::ZERO)) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    polled => polled?,
                }
                if is_idle {
                    lock(&self.mailbox.mail).is_waiting = false;
                }
                polls_left = POLLS_PER_LOOK;
                self.note(&events, &mut woken);
            }
            polls_left = polls_left.saturating_sub(started.len() + woken.len());
            for start in started.drain(..) {
                self.start(poll.registry(), start);
            }
            for number in woken.drain(..) {
                self.poll(number);
            }
        }
    }

    /// Notes which sockets are ready, and that their futures are to be polled.
    fn note(&self, events: &Events, woken: &mut Vec<u32>) {
        for event in events {
            let Token(number) = event.token();
            // No future: its socket was closed, or it was the mailbox.
            let Some((seat, _)) = self.seated.get(number).and_then(Option::as_ref) else {
                continue;
            };
            let mut bits = WOKEN;
            // An error and a hang-up are read as such.
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                bits |= READABLE;
            }
            if event.is_read_closed() || event.is_error() {
                bits |= READ_CLOSED;
            }
            if event.is_writable() || event.is_write_closed() || event.is_error() {
                bits |= WRITABLE;
            }
            if seat.set(bits) & WOKEN == 0 {
                woken.push(seat.number);
            }
        }
    }

    fn start(&mut self, registry: &Registry, start: Start) {
        let number = self.free.pop().unwrap_or_else(|| {
            self.seated.push(None);
            u32::try_from(self.seated.len() - 1).expect("fewer sockets than that")
        });
        let seat =
            Arc::new(Seat { mailbox: self.mailbox.clone(), number, state: AtomicU8::new(0) });
        match start(&Entrance { registry, seat: &seat }) {
            Ok(task) => {
                self.seated[number as usize] = Some((seat, task));
                self.poll(number);
            }
            Err(error) => {
                tracing::warn!(%error, "connection lost: its socket cannot be watched");
                self.free.push(number);
            }
        }
    }

    fn poll(&mut self, number: u32) {
        let place = &mut self.seated[number as usize];
        // Woken for the last time after its end.
        let Some((seat, task)) = place else { return };
        // Before it is polled: who wakes it meanwhile wakes it again.
        seat.clear(WOKEN);
        let waker = Waker::from(seat.clone());
        let mut context = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut context)));
        if polled.is_err() {
            tracing::error!("connection cut off: its code panicked");
        }
        if polled.is_ok_and(|polled| polled.is_pending()) {
            return;
        }
        *place = None;
        self.free.push(number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
