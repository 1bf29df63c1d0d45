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

use crate::codec::{Codec, DecodeError};
use crate::timer::Wheel;
use bytes::Bytes;
use gnomon_core::auth::{Authenticator, Credentials, PermissionsWatch, Refusal};
use gnomon_core::broker::Wakes;
use gnomon_core::broker::clients::{Client, Clients};
use gnomon_core::broker::queue::QueueEvent;
use gnomon_core::ids::ClientId;
use gnomon_core::packet::{ConnAck, Connect, Delivered, Packet, Reason};
use gnomon_core::random::{self, Random};
use gnomon_core::session::{Config, Opened, Output, ProtocolError, Session};
use gnomon_core::storage::Durability;
use gnomon_core::time::{Clock, Now};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

/// Bytes that may wait for the socket before deliveries and reading pause.
const UNSENT_BYTES_MAX: usize = 64 * 1_024;

/// Deliveries taken from the queue at once; QoS 0 has no window of its own.
const DELIVERIES_PER_STEP: usize = 256;

/// How long the last packets of a connection may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// The thread's read buffer: one read takes what a fast publisher sent meanwhile.
const READ_BUFFER_BYTES: usize = 64 * 1_024;

/// Buffers larger than this are not kept for the next connection.
const SPARE_BUFFER_BYTES_MAX: usize = 256 * 1_024;

/// What all MQTT connections of the host share.
pub struct Shared {
    /// Client ids and their sessions.
    pub clients: Clients,
    /// Who a client is.
    pub authenticator: Authenticator,
    /// Limits and counters.
    pub config: Arc<Config>,
    /// The host's clocks.
    pub clock: Arc<dyn Clock>,
    /// For client ids that the host makes up.
    pub random: Arc<dyn Random>,
    /// Keep-alive and other deadlines.
    pub wheel: Wheel,
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
    /// Policy for clients without credentials.
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
    let peer = origin.peer;
    let listener = origin.listener.clone();
    let now = Now::of(&*shared.clock);
    let mut connection = Connection {
        socket,
        codec: Codec::new(shared.config.limits.packet_bytes),
        session: Session::new(shared.config.clone(), now),
        client: None,
        input: Vec::new(),
        output: Vec::new(),
        written: 0,
        needs_flush: false,
        packet_bytes_max: u32::MAX,
        armed_until: None,
        shared: shared.clone(),
    };
    // Boxed, so that what only the start needs does not stay in the task for ever.
    let open = Box::pin(connection.open(origin));
    let opened = tokio::select! {
        // A client that is being opened is told by `Clients::stop_all`; this is for the silent.
        () = shared.stop.cancelled() => return,
        opened = tokio::time::timeout(shared.config.connect_timeout, open) => opened,
    };
    let Ok(mut access) = opened else {
        tracing::info!(remote = %peer, %listener, "closed: CONNECT took too long");
        return;
    };
    loop {
        tokio::select! {
            biased; // A revocation must win over a busy socket.
            // Cancel-safe: a change that was not looked at is found at the next call.
            () = Access::changed(&mut access) => {
                Box::pin(connection.reauthenticate(access.as_deref())).await;
            }
            // Cancel-safe: what was read or encoded is in `connection`.
            Step::Done = poll_fn(|context| connection.poll_step(context)) => break,
            else => break,
        }
    }
    // First the client id, for which another connection may wait; then the farewell.
    connection.leave();
    let farewell = async {
        poll_fn(|context| connection.poll_send(context)).await?;
        poll_fn(|context| Pin::new(&mut connection.socket).poll_shutdown(context)).await
    };
    // A peer that takes neither is none of ours any more.
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await;
}

/// By what a client was let in, and word of its changes.
struct Access {
    credentials: Credentials,
    watch: PermissionsWatch,
}

impl Access {
    async fn changed(access: &mut Option<Box<Self>>) {
        match access {
            Some(access) => access.watch.changed().await,
            None => std::future::pending().await,
        }
    }
}

struct Connection<S> {
    socket: S,
    codec: Codec,
    session: Session,
    client: Option<Client>,
    /// The beginning of a packet whose rest has not come, and what waits while opening.
    input: Vec<u8>,
    /// Encoded packets; the first `written` bytes are sent.
    output: Vec<u8>,
    written: usize,
    needs_flush: bool,
    /// The client's Maximum Packet Size.
    packet_bytes_max: u32,
    /// When the wheel ticks next; a tick before is the one of an earlier connection.
    armed_until: Option<Instant>,
    shared: Arc<Shared>,
}

enum Step {
    /// CONNECT came and waits for its answer.
    Open(Box<Connect>),
    /// The connection is over.
    Done,
}

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static SPARE_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Up to the CONNACK; returns what a client was let in by.
    async fn open(&mut self, origin: Origin) -> Option<Box<Access>> {
        let Step::Open(connect) = poll_fn(|context| self.poll_step(context)).await else {
            return None;
        };
        self.packet_bytes_max = connect.maximum_packet_size.unwrap_or(u32::MAX);
        let credentials = self.credentials(&connect, origin);
        // Taken first: a change meanwhile is not missed.
        let watch = self.shared.authenticator.watch(&credentials);
        let opened = self.authenticate(&connect, &credentials).await;
        let now = self.now();
        match opened {
            Ok(opened) => self.session.handle_opened(now, opened),
            Err(refusal) => {
                let (client_id, remote) = (&credentials.client_id, credentials.peer);
                tracing::warn!(?client_id, %remote, error = %refusal, "client refused");
                self.session.handle_refused(&refusal);
            }
        }
        // Packets that the client sent without waiting for the CONNACK [MQTT-3.1.4-5].
        let input = std::mem::take(&mut self.input);
        self.handle_input(&input);
        Some(Box::new(Access { credentials, watch }))
    }

    fn credentials(&self, connect: &Connect, origin: Origin) -> Credentials {
        let client_id = connect.client_id.clone().unwrap_or_else(|| {
            ClientId::parse(&format!("gnomon-{}", random::uuid(&*self.shared.random)))
                .expect("a UUID has no control characters")
        });
        Credentials {
            connection_id: self.shared.last_connection_id.fetch_add(1, Ordering::Relaxed) + 1,
            peer: origin.peer,
            listener: origin.listener,
            anonymous_policy: origin.anonymous_policy,
            server_name: origin.server_name,
            certificate: origin.certificate,
            http: origin.http,
            client_id: Some(client_id),
            username: connect.username.clone(),
            password: connect.password.clone(),
            has_will: connect.will.is_some(),
            is_persistent: connect.session_expiry_s > 0,
        }
    }

    async fn authenticate(
        &mut self,
        connect: &Connect,
        credentials: &Credentials,
    ) -> Result<Opened, Refusal> {
        let shared = &self.shared;
        let identity = shared.authenticator.authenticate(credentials).await?;
        if !Session::allows_will(connect, &identity.permissions) {
            shared.config.metrics.publish_denied.increment();
            return Err(Refusal::NotAuthorized("no policy allows the will's topic".into()));
        }
        let client_id = credentials.client_id.clone().expect("`credentials` sets it");
        let principal = identity.principal.as_ref();
        let opened = shared.clients.open(&client_id, principal, connect.clean_start).await;
        let (client, resumed) =
            opened.map_err(|occupied| Refusal::Unavailable(occupied.to_string()))?;
        tracing::debug!(%client_id, remote = %credentials.peer, "connected");
        self.client = Some(client);
        let is_durable = connect.session_expiry_s > 0 || resumed.is_some();
        Ok(Opened { client_id, identity, resumed, is_durable })
    }

    /// Certificate, attachments or policies changed: new permissions, or the end.
    async fn reauthenticate(&mut self, access: Option<&Access>) {
        let Some(Access { credentials, .. }) = access else { return };
        match self.shared.authenticator.authenticate(credentials).await {
            Ok(identity) => self.session.handle_permissions(identity.permissions),
            Err(refusal) => {
                let (client_id, remote) = (&credentials.client_id, credentials.peer);
                tracing::warn!(?client_id, %remote, error = %refusal, "client no longer allowed");
                let now = self.now();
                self.session.handle_stop(now, Reason::NotAuthorized);
            }
        }
    }

    /// Does what can be done without waiting; pending when everything waits for something.
    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        loop {
            if let Some(connect) = self.run_session() {
                return Poll::Ready(Step::Open(connect));
            }
            if let Poll::Ready(Err(_)) = self.poll_send(context) {
                self.lose();
            }
            if self.session.is_closed() {
                return Poll::Ready(Step::Done);
            }
            let has_room = self.output.len() - self.written < UNSENT_BYTES_MAX;
            let took = self.poll_queue(context, has_room);
            let received = has_room && self.poll_receive(context).is_ready();
            if !took && !received {
                self.rest();
                return Poll::Pending;
            }
        }
    }

    /// Runs the session's outputs; a CONNECT is handed to the caller, who may wait.
    fn run_session(&mut self) -> Option<Box<Connect>> {
        let mut wakes = Wakes::default();
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(packet) => self.send(&packet),
                Output::Deliver(delivered) => self.deliver(&delivered),
                Output::Open(connect) => return Some(connect),
                Output::Publish { message, packet_id } => {
                    if let Some(client) = &mut self.client {
                        let published = client.publish(&message, &mut wakes);
                        self.session.handle_published(packet_id, published);
                    }
                }
                Output::Subscribe { packet_id, subscription_id, filters } => {
                    if let Some(client) = &self.client {
                        tracing::debug!(?client, filters = filters.len(), "subscribe");
                        let reasons = client.subscribe(&filters, subscription_id);
                        self.session.handle_subscribed(packet_id, reasons, Durability::Done);
                    }
                }
                Output::Unsubscribe(unsubscribe) => {
                    if let Some(client) = &self.client {
                        let reasons = client.unsubscribe(&unsubscribe.filters);
                        let packet_id = unsubscribe.packet_id;
                        self.session.handle_unsubscribed(packet_id, reasons, Durability::Done);
                    }
                }
                // Nothing is durable yet.
                Output::Acknowledged(_) | Output::Released(_) | Output::Completed(_) => {}
                // `is_closed` says so too; the loop ends when everything is sent.
                Output::Close => {}
            }
        }
        None
    }

    fn deliver(&mut self, delivered: &Delivered) {
        self.reserve();
        let start = self.output.len();
        let encoded = self.codec.encode_publish(delivered, &mut self.output);
        // [MQTT-3.1.2-24]
        let fits = self.output.len() - start <= self.packet_bytes_max as usize;
        if encoded.is_ok() && fits {
            self.shared.config.metrics.messages_sent.increment();
        } else {
            self.output.truncate(start);
            self.session.handle_undeliverable(delivered.packet_id);
        }
    }

    fn send(&mut self, packet: &Packet) {
        self.reserve();
        if let Err(error) = self.codec.encode(packet, &mut self.output) {
            tracing::error!(%error, "packet of ours cannot be encoded");
        }
    }

    /// Sends what is encoded; ready when nothing is left.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.output.len() {
            let rest = &self.output[self.written..];
            let sent = ready!(Pin::new(&mut self.socket).poll_write(context, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += sent;
            self.needs_flush = true;
        }
        self.output.clear();
        self.written = 0;
        if self.needs_flush {
            ready!(Pin::new(&mut self.socket).poll_flush(context))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what waits for the client; false when nothing does.
    fn poll_queue(&mut self, context: &mut Context<'_>, has_room: bool) -> bool {
        let Some(queue) = self.client.as_ref().map(|client| client.queue().clone()) else {
            return false;
        };
        let room = if has_room { self.session.delivery_room().min(DELIVERIES_PER_STEP) } else { 0 };
        let Poll::Ready(event) = queue.poll_event(context, room > 0) else { return false };
        let now = self.now();
        match event {
            QueueEvent::Stop(reason) => self.session.handle_stop(now, reason),
            QueueEvent::Tick => {
                self.armed_until.take_if(|until| *until <= now.instant);
                self.session.handle_timeout(now);
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
            Poll::Ready(Ok(())) if !bytes.is_empty() => {
                if self.input.is_empty() {
                    self.handle_input(bytes);
                } else {
                    let mut input = std::mem::take(&mut self.input);
                    input.extend_from_slice(bytes);
                    self.handle_input(&input);
                }
            }
            Poll::Ready(_) => self.lose(),
            Poll::Pending => {}
        }
        READ_BUFFER.set(buffer);
        result.map(|_| ())
    }

    /// Decodes whole packets and keeps the rest.
    fn handle_input(&mut self, bytes: &[u8]) {
        let now = self.now();
        let mut at = 0;
        while self.session.takes_packets() {
            match self.codec.decode(&bytes[at..]) {
                Ok(Some((packet, length))) => {
                    at += length;
                    self.session.handle_packet(now, packet);
                }
                Ok(None) => break,
                Err(error) => return self.handle_malformed(now, &error),
            }
        }
        if !self.session.is_closed() && at < bytes.len() {
            self.input.extend_from_slice(&bytes[at..]);
        }
    }

    fn handle_malformed(&mut self, now: Now, error: &DecodeError) {
        tracing::debug!(%error, "packet refused");
        if self.client.is_none() {
            // Of a CONNECT; written only if the peer spoke a version of MQTT.
            self.send(&Packet::ConnAck(Box::new(ConnAck::new(error.reason))));
        }
        let error = ProtocolError { reason: error.reason, what: error.what };
        self.session.handle_protocol_error(now, error);
    }

    fn lose(&mut self) {
        let now = self.now();
        // Nothing can be sent.
        self.output.clear();
        self.written = 0;
        self.needs_flush = false;
        self.session.handle_lost(now);
    }

    /// Before waiting: gives buffers back and arms the timer.
    fn rest(&mut self) {
        if self.output.is_empty() && self.output.capacity() > 0 {
            let buffer = std::mem::take(&mut self.output);
            if buffer.capacity() <= SPARE_BUFFER_BYTES_MAX {
                SPARE_BUFFER.set(buffer);
            }
        }
        if let (None, Some(client)) = (self.armed_until, &self.client)
            && let Some(deadline) = self.session.poll_timeout()
        {
            self.armed_until = Some(self.shared.wheel.arm(deadline, client.queue()));
        }
    }

    fn reserve(&mut self) {
        if self.output.capacity() == 0 {
            self.output = SPARE_BUFFER.take();
        }
    }

    fn now(&self) -> Now {
        Now::of(&*self.shared.clock)
    }

    /// Leaves the client id, the will and the session to whoever comes.
    fn leave(&mut self) {
        let now = self.now();
        let ended = self.session.end(now);
        if let (Some(client), Some(left)) = (self.client.take(), ended.left) {
            tracing::debug!(?client, reason = ?ended.reason, "disconnected");
            client.close(now.instant, left);
        }
    }
}
