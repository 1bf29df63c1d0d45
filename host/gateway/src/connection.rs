//! One MQTT connection: a task that owns the socket and the session.
//!
//! In: bytes of any `AsyncRead + AsyncWrite` (TCP, TLS, WebSocket) and the client's queue.
//! Out: bytes, and calls to the broker. What the protocol demands is decided by `session`; here
//! is only the driving: read, decode, hand over, encode, write.
//!
//! Memory: reading goes into a buffer of the thread and packets are decoded in place; a
//! connection keeps only an unfinished packet and bytes that the socket did not take. What waits
//! for a slow reader is bounded by `UNSENT_BYTES_MAX` plus the client's queue, and while it is
//! above, nothing more is read from that client.
//!
//! Reading order: `opening` (up to the CONNACK), this file, `standing` (whether the client may
//! stay), `farewell`.

mod farewell;
mod opening;
mod standing;

pub use opening::open;

use crate::codec::{Codec, DecodeError};
use crate::event_loop::EventLoops;
use crate::timer::Wheel;
use bytes::Bytes;
use farewell::Farewell;
use gnomon_core::auth::Authenticator;
use gnomon_core::broker::Wakes;
use gnomon_core::broker::clients::{Client, Clients};
use gnomon_core::broker::log::Event;
use gnomon_core::broker::queue::QueueEvent;
use gnomon_core::metrics::Metrics;
use gnomon_core::packet::{Auth, ConnAck, Connect, Delivered, Packet};
use gnomon_core::quarantine::Quarantine;
use gnomon_core::random::Random;
use gnomon_core::session::{Config, Output, ProtocolError, Session};
use gnomon_core::time::{Clock, Now};
use standing::Standing;
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

/// Bytes that may wait for the socket before deliveries and reading pause.
const UNSENT_BYTES_MAX: usize = 64 * 1_024;

/// Deliveries taken from the queue at once; QoS 0 has no window of its own.
const DELIVERIES_PER_STEP: usize = 256;

/// A deadline so much before the armed one is worth an entry of its own.
const WHEEL_STEP: Duration = Duration::from_secs(1);

/// The thread's read buffer: one read takes what a fast publisher sent meanwhile.
const READ_BUFFER_BYTES: usize = 64 * 1_024;

/// Reads and queues in a row before others have their turn.
const STEPS_PER_POLL: usize = 32;

/// Buffers larger than this are not kept for the next connection.
const SPARE_BUFFER_BYTES_MAX: usize = 256 * 1_024;

/// What all MQTT connections of the host share.
pub struct Shared {
    /// Client ids and their sessions.
    pub clients: Clients,
    /// Who a client is.
    pub authenticator: Authenticator,
    /// Who is told of offences.
    pub quarantine: Arc<Quarantine>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The host's clocks.
    pub clock: Arc<dyn Clock>,
    /// For client ids that the host makes up.
    pub random: Arc<dyn Random>,
    /// Keep-alive and other deadlines.
    pub wheel: Wheel,
    /// Where connections run once their CONNECT is answered.
    pub loops: EventLoops,
    /// Of the newest connection.
    pub last_connection_id: AtomicU64,
    /// Cancelled when the host shuts down.
    pub stop: CancellationToken,
}

/// Where a connection comes from and what it presented before its first byte of MQTT.
pub struct Origin {
    /// The other end.
    pub peer: SocketAddr,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// The listener's limits and habits.
    pub session: Arc<Config>,
    /// Policy for clients without credentials that can be checked.
    pub anonymous_policy: Option<Arc<str>>,
    /// SNI.
    pub server_name: Option<Arc<str>>,
    /// DER of the client certificate, its key proved by the handshake.
    pub certificate: Option<Bytes>,
    /// The upgrade request of a WebSocket.
    pub http: Option<Arc<http::request::Parts>>,
}

/// Serves one connection until it ends.
pub async fn serve<S>(socket: S, origin: Origin, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    if let Some(connection) = open(socket, origin, shared).await {
        connection.await;
    }
}

/// Tells connections when permissions change; to be run beside the listeners until the host stops.
pub async fn watch_permissions(shared: Arc<Shared>) {
    let mut changed = shared.authenticator.watch_permissions();
    while changed.changed().await.is_ok() {
        shared.clients.permissions_changed();
    }
}

/// A connection whose CONNECT was answered: a future that ends with it, soon after a stop.
///
/// Its size is what an idle connection costs, so it is polled by hand: an `async` block would
/// keep room for every step at once, and some of it twice.
pub struct Connection<S> {
    socket: S,
    codec: Codec,
    session: Session,
    client: Option<Client>,
    standing: Standing,
    /// The end, once nothing else is left.
    farewell: Option<Box<Farewell>>,
    /// `None` while nothing waits.
    buffers: Option<Box<Buffers>>,
    /// The input has whole packets.
    is_held: bool,
    needs_flush: bool,
    /// The client's Maximum Packet Size.
    packet_bytes_max: u32,
    /// When the wheel ticks next; a tick before is the one of an earlier connection.
    armed_until: Option<Instant>,
    shared: Arc<Shared>,
}

/// What waits on either side of a connection.
#[derive(Default)]
struct Buffers {
    /// The beginning of a packet whose rest has not come, and what the session does not take yet.
    input: Vec<u8>,
    /// Encoded packets; the first `written` bytes are sent.
    output: Vec<u8>,
    written: usize,
}

enum Step {
    /// CONNECT came and waits for its answer.
    Open(Box<Connect>),
    /// The client answered the challenge before its CONNACK.
    Continue(Auth),
    /// The connection is over.
    Done,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Connection<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let connection = self.get_mut();
        while connection.farewell.is_none() {
            if let Step::Done = ready!(connection.poll_step(context)) {
                // First the client id, for which another connection may wait; then the farewell.
                connection.leave();
            }
        }
        connection.poll_farewell(context)
    }
}

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static SPARE_BUFFERS: RefCell<Option<Box<Buffers>>> = const { RefCell::new(None) };
}

impl<S> Connection<S> {
    /// The same connection over what becomes of its socket.
    ///
    /// # Errors
    /// As of `map`.
    pub fn try_map_socket<T>(
        self,
        map: impl FnOnce(S) -> io::Result<T>,
    ) -> io::Result<Connection<T>> {
        Ok(Connection {
            socket: map(self.socket)?,
            codec: self.codec,
            session: self.session,
            client: self.client,
            standing: self.standing,
            farewell: self.farewell,
            buffers: self.buffers,
            is_held: self.is_held,
            needs_flush: self.needs_flush,
            packet_bytes_max: self.packet_bytes_max,
            armed_until: self.armed_until,
            shared: self.shared,
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Does what can be done without waiting; pending when everything waits for something.
    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        for _ in 0..STEPS_PER_POLL {
            // A revocation wins over a busy socket: meanwhile nothing is taken and nothing sent.
            ready!(self.poll_question(context));
            if let Some(step) = self.run_session() {
                return Poll::Ready(step);
            }
            // Behind the step that asks, so that whoever answers knows whom to wake.
            if self.poll_reauthentication(context) {
                continue;
            }
            if let Poll::Ready(Err(_)) = self.poll_send(context) {
                self.lose();
            }
            if self.session.is_closed() {
                return Poll::Ready(Step::Done);
            }
            let has_room = self.unsent() < UNSENT_BYTES_MAX;
            let took = self.poll_queue(context, has_room);
            let takes_packets = has_room && self.session.takes_packets();
            let received = match takes_packets && std::mem::take(&mut self.is_held) {
                true => {
                    self.handle_input(&[]);
                    true
                }
                false => takes_packets && self.poll_receive(context).is_ready(),
            };
            if !took && !received {
                self.rest();
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Runs the session's outputs; what comes before CONNACK is handed to the caller, who may wait.
    fn run_session(&mut self) -> Option<Step> {
        let first = self.session.poll_output()?;
        let now = self.now();
        self.run_outputs(now, first, &mut Wakes::default())
    }

    fn run_outputs(&mut self, now: Now, first: Output, wakes: &mut Wakes) -> Option<Step> {
        let mut next = Some(first);
        while let Some(output) = next {
            match output {
                Output::Send(packet) => self.send(&packet),
                Output::Deliver(delivered) => self.deliver(&delivered),
                Output::Open(connect) => return Some(Step::Open(connect)),
                Output::Continue(auth) => return Some(Step::Continue(auth)),
                Output::Reauthenticate(auth) => self.reauthenticate(now, auth),
                Output::Offence(offence) => self.shared.quarantine.offended(now, *offence),
                driven => self.drive(now, driven, wakes),
            }
            next = self.session.poll_output();
        }
        None
    }

    /// What the session asks of the client's place in the broker.
    fn drive(&mut self, now: Now, output: Output, wakes: &mut Wakes) {
        let Some(client) = &mut self.client else { return };
        let session = &mut self.session;
        match output {
            Output::Publish { message, packet_id } => {
                let published = client.publish(&message, packet_id, wakes);
                session.handle_published(now, message.qos, packet_id, published);
            }
            Output::Subscribe { packet_id, subscription_id, filters } => {
                tracing::debug!(client_id = ?client, filters = filters.len(), "subscribe");
                let (reasons, durability) = client.subscribe(&filters, subscription_id, now.wall);
                session.handle_subscribed(packet_id, reasons, durability);
            }
            Output::Unsubscribe(unsubscribe) => {
                let (reasons, durability) = client.unsubscribe(&unsubscribe.filters, now.wall);
                session.handle_unsubscribed(unsubscribe.packet_id, reasons, durability);
            }
            Output::Acknowledged(packet_id) => {
                client.happened(Event::Acknowledged, packet_id);
            }
            Output::Released(packet_id) => {
                let durability = client.happened(Event::Released, packet_id);
                session.handle_released(packet_id, durability);
            }
            Output::Completed(packet_id) => {
                let durability = client.happened(Event::Completed, packet_id);
                session.handle_completed(packet_id, durability);
            }
            // `is_closed` says so too; the loop ends when everything is sent.
            Output::Close => {}
            Output::Send(_) | Output::Deliver(_) | Output::Open(_) => {}
            Output::Continue(_) | Output::Reauthenticate(_) | Output::Offence(_) => {}
        }
    }

    fn deliver(&mut self, delivered: &Delivered) {
        let output = &mut buffers(&mut self.buffers).output;
        let start = output.len();
        let encoded = self.codec.encode_publish(delivered, output);
        // [MQTT-3.1.2-24]
        let fits = output.len() - start <= self.packet_bytes_max as usize;
        if encoded.is_ok() && fits {
            self.shared.metrics.messages_sent.increment();
        } else {
            output.truncate(start);
            self.session.handle_undeliverable(delivered);
        }
    }

    fn send(&mut self, packet: &Packet) {
        let output = &mut buffers(&mut self.buffers).output;
        let start = output.len();
        if let Err(error) = self.codec.encode(packet, output) {
            tracing::error!(%error, "packet of ours cannot be encoded");
        }
        if output.len() - start <= self.packet_bytes_max as usize {
            return;
        }
        // [MQTT-3.1.2-24]; [MQTT-3.2.2-19], [MQTT-3.14.2-3]: the text for people goes first.
        output.truncate(start);
        if let Some(shorter) = without_reason_string(packet) {
            self.send(&shorter);
        } else if let Packet::ConnAck(_) = packet {
            // The client would wait for it.
            let packet_bytes_max = self.packet_bytes_max;
            tracing::info!(packet_bytes_max, "closed: the client takes no packet like CONNACK");
            self.lose();
        }
    }

    /// Sends what is encoded; ready when nothing is left.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(Buffers { output, written, .. }) = self.buffers.as_deref_mut() {
            while *written < output.len() {
                let rest = &output[*written..];
                let sent = ready!(Pin::new(&mut self.socket).poll_write(context, rest))?;
                if sent == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                *written += sent;
                self.needs_flush = true;
            }
            output.clear();
            *written = 0;
        }
        if self.needs_flush {
            ready!(Pin::new(&mut self.socket).poll_flush(context))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what waits for the client; false when nothing does.
    fn poll_queue(&mut self, context: &mut Context<'_>, has_room: bool) -> bool {
        let Some(client) = &mut self.client else { return false };
        let room = if has_room { self.session.delivery_room().min(DELIVERIES_PER_STEP) } else { 0 };
        let now = || Now::of(&*self.shared.clock);
        // Behind the SUBACK, and before what is published from then on.
        let retained = match client.has_retained() && room > 0 && !self.session.is_waiting() {
            true => client.next_retained(room),
            false => None,
        };
        if let Some(retained) = retained {
            let now = now();
            for delivery in retained {
                self.session.handle_delivery(now, delivery);
            }
            return true;
        }
        let queue = client.queue();
        let Poll::Ready(event) = queue.poll_event(context, room > 0) else { return false };
        let now = now();
        match event {
            QueueEvent::Stop(reason) => self.session.handle_stop(now, reason),
            QueueEvent::Permissions => self.look_at_permissions(),
            QueueEvent::Tick => {
                self.armed_until.take_if(|until| *until <= now.instant);
                self.session.handle_timeout(now);
                self.look_at_permissions();
            }
            QueueEvent::Durable(position) => self.session.handle_durable(position),
            QueueEvent::Deliveries => {
                for delivery in queue.take(room) {
                    self.session.handle_delivery(now, delivery);
                }
            }
        }
        true
    }

    /// Reads once and handles what came.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut buffer = READ_BUFFER.take();
        buffer.resize(READ_BUFFER_BYTES, 0);
        let mut read = ReadBuf::new(&mut buffer);
        let result = Pin::new(&mut self.socket).poll_read(context, &mut read);
        let bytes = read.filled();
        match &result {
            Poll::Ready(Ok(())) if !bytes.is_empty() => self.handle_input(bytes),
            Poll::Ready(_) => self.lose(),
            Poll::Pending => {}
        }
        READ_BUFFER.set(buffer);
        result.map(|_| ())
    }

    /// Handles whole packets of what was kept and what comes behind it, and keeps the rest. A packet
    /// that comes in many pieces is not copied anew with each.
    fn handle_input(&mut self, bytes: &[u8]) {
        let mut input = self.buffers.as_mut().map(|it| std::mem::take(&mut it.input));
        let input = match input.take_if(|input| !input.is_empty()) {
            Some(mut input) => {
                input.extend_from_slice(bytes);
                let handled = self.handle_packets(&input);
                input.drain(..handled);
                input
            }
            None => {
                let handled = self.handle_packets(bytes);
                bytes[handled..].to_vec()
            }
        };
        if !self.session.is_closed() && !input.is_empty() {
            self.is_held = !self.session.takes_packets();
            buffers(&mut self.buffers).input = input;
        }
    }

    /// Decodes and handles whole packets; returns their bytes.
    fn handle_packets(&mut self, bytes: &[u8]) -> usize {
        let now = self.now();
        let mut wakes = Wakes::default();
        let mut at = 0;
        while self.session.takes_packets() {
            match self.codec.decode(&bytes[at..]) {
                Ok(Some((packet, length))) => {
                    at += length;
                    self.session.handle_packet(now, packet);
                    // Before the next packet, so that answers come in the order of the packets.
                    // What comes before CONNACK is the caller's.
                    if self.client.is_some()
                        && let Some(output) = self.session.poll_output()
                    {
                        self.run_outputs(now, output, &mut wakes);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.handle_malformed(now, &error);
                    break;
                }
            }
        }
        at
    }

    fn handle_malformed(&mut self, now: Now, error: &DecodeError) {
        tracing::debug!(%error, "packet refused");
        if self.session.is_fresh() {
            // Of a CONNECT; written only if the peer spoke a version of MQTT.
            self.send(&Packet::ConnAck(Box::new(ConnAck::new(error.reason))));
        }
        let error = ProtocolError { reason: error.reason, what: error.what };
        self.session.handle_protocol_error(now, error);
    }

    fn lose(&mut self) {
        let now = self.now();
        // Nothing can be sent.
        self.buffers = None;
        self.needs_flush = false;
        self.session.handle_lost(now);
    }

    /// Before waiting: gives buffers back and arms the timer.
    fn rest(&mut self) {
        self.session.rest();
        let idle = self.buffers.take_if(|it| it.input.is_empty() && it.output.is_empty());
        if let Some(buffers) = idle
            && buffers.output.capacity() <= SPARE_BUFFER_BYTES_MAX
        {
            SPARE_BUFFERS.set(Some(buffers));
        } else if let Some(buffers) = &mut self.buffers
            && buffers.output.is_empty()
        {
            // Who waits for the rest of a packet keeps nothing else.
            buffers.output = Vec::new();
        }
        let deadlines = [self.session.poll_timeout(), self.standing.look_at()];
        if let (Some(client), Some(deadline)) =
            (&self.client, deadlines.into_iter().flatten().min())
            && self.armed_until.is_none_or(|until| deadline + WHEEL_STEP < until)
        {
            self.armed_until = Some(self.shared.wheel.arm(deadline, client.queue()));
        }
    }

    /// Bytes that wait for the socket.
    fn unsent(&self) -> usize {
        self.buffers.as_ref().map_or(0, |it| it.output.len() - it.written)
    }

    fn now(&self) -> Now {
        Now::of(&*self.shared.clock)
    }
}

/// A connection's buffers; those of the thread when it has none.
fn buffers(own: &mut Option<Box<Buffers>>) -> &mut Buffers {
    own.get_or_insert_with(|| SPARE_BUFFERS.take().unwrap_or_default())
}

/// The packet without its text for people; `None` when it has none.
fn without_reason_string(packet: &Packet) -> Option<Packet> {
    let mut packet = packet.clone();
    let text = match &mut packet {
        Packet::ConnAck(connack) => connack.reason_string.take(),
        Packet::Disconnect(disconnect) => disconnect.reason_string.take(),
        _ => None,
    };
    text.map(|_| packet)
}
