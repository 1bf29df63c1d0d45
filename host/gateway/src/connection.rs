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
use gnomon_core::auth::{
    Admission, Authenticator, Credentials, Exchange, Identity, Progress, Refusal,
};
use gnomon_core::broker::Wakes;
use gnomon_core::broker::clients::{Client, Clients, Opening};
use gnomon_core::broker::log::Event;
use gnomon_core::broker::queue::QueueEvent;
use gnomon_core::ids::ClientId;
use gnomon_core::message::Publisher;
use gnomon_core::metrics::Metrics;
use gnomon_core::packet::{Auth, ConnAck, Connect, Delivered, Packet, Reason};
use gnomon_core::random::{self, Random};
use gnomon_core::session::{Config, Opened, Output, ProtocolError, Session, will_message};
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
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

/// Bytes that may wait for the socket before deliveries and reading pause.
const UNSENT_BYTES_MAX: usize = 64 * 1_024;

/// Deliveries taken from the queue at once; QoS 0 has no window of its own.
const DELIVERIES_PER_STEP: usize = 256;

/// How long the last packets of a connection may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// A deadline so much before the armed one is worth an entry of its own.
const WHEEL_STEP: Duration = Duration::from_secs(1);

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
    /// Counters.
    pub metrics: Arc<Metrics>,
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
    /// The listener's limits and habits.
    pub session: Arc<Config>,
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
    if let Some(connection) = open(socket, origin, shared).await {
        connection.await;
    }
}

/// From the first byte to the answer to CONNECT. `None` when the peer took too long or the host
/// stops; else what remains to be run, without anything that only the start needs.
pub async fn open<S>(socket: S, origin: Origin, shared: Arc<Shared>) -> Option<Connection<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let peer = origin.peer;
    let listener = origin.listener.clone();
    let config = origin.session.clone();
    let connect_timeout = config.connect_timeout;
    let now = Now::of(&*shared.clock);
    let mut connection = Connection {
        socket,
        codec: Codec::new(config.limits.packet_bytes),
        session: Session::new(config, now),
        client: None,
        admission: None,
        question: None,
        enhanced: None,
        farewell: None,
        input: Vec::new(),
        is_held: false,
        output: Vec::new(),
        written: 0,
        needs_flush: false,
        packet_bytes_max: u32::MAX,
        armed_until: None,
        shared: shared.clone(),
    };
    let opened = tokio::select! {
        // A client that is being opened is told by `Clients::stop_all`; this is for the silent.
        () = shared.stop.cancelled() => return None,
        opened = tokio::time::timeout(connect_timeout, connection.open(origin)) => {
            opened
        }
    };
    if opened.is_err() {
        tracing::info!(remote = %peer, %listener, "closed: CONNECT took too long");
        return None;
    }
    Some(connection)
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
    /// By what a client was let in; `None` when that cannot change.
    admission: Option<Admission>,
    /// Whether the client may stay, while that is being asked.
    question: Option<Question>,
    /// Of a client that came by enhanced authentication, which may be repeated.
    enhanced: Option<Enhanced>,
    /// The end, once nothing else is left.
    farewell: Option<Box<Farewell>>,
    /// The beginning of a packet whose rest has not come, and what the session does not take yet.
    input: Vec<u8>,
    /// `input` has whole packets.
    is_held: bool,
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

/// The last packets and the close of the socket.
struct Farewell {
    /// How long all of it may take.
    deadline: Pin<Box<Sleep>>,
    /// The client was told why: it is given the time to read that. A socket that is closed over
    /// unread bytes resets the connection, and what was sent last is lost.
    is_told: bool,
    /// Nothing is sent any more.
    is_shut: bool,
}

/// Gives the admission back with the answer; no answer when the host stops.
type Question =
    Pin<Box<dyn Future<Output = (Admission, Option<Result<Identity, Refusal>>)> + Send>>;

/// An enhanced authentication after the CONNACK.
enum Enhanced {
    Resting(Box<Exchange>),
    Asking(Asking),
}

/// Gives the exchange back with the authorizer's answer; no answer when the host stops.
type Asking =
    Pin<Box<dyn Future<Output = (Box<Exchange>, Option<Result<Progress, Refusal>>)> + Send>>;

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
    static SPARE_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Up to the CONNACK.
    async fn open(&mut self, origin: Origin) {
        let Step::Open(connect) = poll_fn(|context| self.poll_step(context)).await else {
            return;
        };
        self.packet_bytes_max = connect.maximum_packet_size.unwrap_or(u32::MAX);
        let session_expiry_s = connect.session_expiry_s.min(origin.session.limits.session_expiry_s);
        let credentials = self.credentials(&connect, origin);
        // Taken first: a change meanwhile is not missed.
        self.admission = self.shared.authenticator.admission(&credentials);
        let opened = self.authenticate(&connect, &credentials, session_expiry_s).await;
        let now = self.now();
        match opened {
            // The client gave up.
            Ok(None) => return,
            Ok(Some(opened)) => self.session.handle_opened(now, opened),
            Err(refusal) => {
                let (client_id, remote) = (&credentials.client_id, credentials.peer);
                tracing::warn!(?client_id, %remote, error = %refusal, "client refused");
                self.session.handle_refused(now, &refusal);
            }
        }
        // Packets that the client sent without waiting for the CONNACK [MQTT-3.1.4-5].
        let input = std::mem::take(&mut self.input);
        self.handle_input(&input);
        // Whoever tells of changes did not know the client yet.
        self.look_at_permissions();
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
        session_expiry_s: u32,
    ) -> Result<Option<Opened>, Refusal> {
        let shared = self.shared.clone();
        let client_id = credentials.client_id.as_ref().expect("`credentials` sets it");
        let mut opening = Opening {
            client_id,
            principal: None,
            ip: credentials.peer.ip(),
            session_identifier: u128::from_be_bytes(random::bytes(&*shared.random)),
            clean_start: connect.clean_start,
            session_expiry_s,
            will: None,
        };
        let (identity, authentication_data) = match self.identify(connect, credentials).await {
            Ok(Some(identified)) => identified,
            Ok(None) => return Ok(None),
            Err(refusal) => {
                if let Refusal::NotAuthorized(_) = refusal {
                    shared.clients.connect_failed(&opening, self.now().wall);
                }
                return Err(refusal);
            }
        };
        let now = self.now();
        let principal = identity.principal.as_ref();
        opening.principal = principal;
        opening.will = connect.will.as_ref().filter(|_| session_expiry_s > 0).map(|will| {
            let publisher =
                Publisher { client_id: Some(client_id.clone()), principal: principal.cloned() };
            let message = will_message(will, Arc::new(publisher), now.wall);
            (will.delay_s.min(session_expiry_s), Arc::new(message))
        });
        let opened = shared.clients.open(&opening, now).await;
        let (client, resumed) = opened.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        tracing::debug!(%client_id, remote = %credentials.peer, "connected");
        let is_durable = client.queue().session().is_some();
        self.client = Some(client);
        Ok(Some(Opened {
            client_id: client_id.clone(),
            identity,
            resumed,
            is_durable,
            committed: shared.clients.committed(),
            authentication_data,
        }))
    }

    /// Who the client is, if it may connect with what it wants, and data for the CONNACK; `None`
    /// when the connection ended before that was clear.
    async fn identify(
        &mut self,
        connect: &Connect,
        credentials: &Credentials,
    ) -> Result<Option<(Identity, Bytes)>, Refusal> {
        let (identity, data) = match &connect.authentication {
            Some((method, data)) => {
                let exchange =
                    Exchange::new(credentials.clone(), method.clone(), self.packet_bytes_max);
                match self.exchange(exchange, data.clone()).await? {
                    Some(accepted) => accepted,
                    None => return Ok(None),
                }
            }
            None => (self.shared.authenticator.authenticate(credentials).await?, Bytes::new()),
        };
        if !Session::allows_will(connect, &identity.permissions) {
            self.shared.metrics.publish_denied.increment();
            return Err(Refusal::NotAuthorized("no policy allows the will's topic".into()));
        }
        Ok(Some((identity, data)))
    }

    /// An enhanced authentication before the CONNACK; all of it within the time for CONNECT.
    async fn exchange(
        &mut self,
        mut exchange: Exchange,
        mut data: Bytes,
    ) -> Result<Option<(Identity, Bytes)>, Refusal> {
        // Its policies hold until it authenticates again, whatever certificate it has.
        self.admission = None;
        let shared = self.shared.clone();
        loop {
            match shared.authenticator.exchange(&mut exchange, data).await? {
                Progress::Challenged(challenge) => self.session.handle_challenged(challenge),
                Progress::Accepted(identity, data) => {
                    self.enhanced = Some(Enhanced::Resting(Box::new(exchange)));
                    return Ok(Some((identity, data)));
                }
            }
            let Step::Continue(auth) = poll_fn(|context| self.poll_step(context)).await else {
                return Ok(None);
            };
            data = auth.data.unwrap_or_default();
        }
    }

    /// Asks the authorizer about a connected client that authenticates again.
    fn reauthenticate(&mut self, now: Now, auth: Auth) {
        match self.enhanced.take() {
            Some(Enhanced::Resting(mut exchange)) => {
                if auth.reason == Reason::ReAuthenticate {
                    exchange.begin_again();
                }
                let shared = self.shared.clone();
                let asking = Box::pin(async move {
                    let step =
                        shared.authenticator.exchange(&mut exchange, auth.data.unwrap_or_default());
                    let answer = shared.stop.run_until_cancelled(step).await;
                    (exchange, answer)
                });
                self.enhanced = Some(Enhanced::Asking(asking));
            }
            // Nobody is asked about two steps at once.
            Some(Enhanced::Asking(_)) => {
                let what = "AUTH before the answer to the last";
                let error = ProtocolError { reason: Reason::ProtocolError, what };
                self.session.handle_protocol_error(now, error);
            }
            // The session takes AUTH only from clients that came by a method.
            None => {}
        }
    }

    /// Takes the authorizer's answer; true when there was one. Meanwhile the client goes on with
    /// the permissions that it has.
    fn poll_reauthentication(&mut self, context: &mut Context<'_>) -> bool {
        let Some(Enhanced::Asking(asking)) = &mut self.enhanced else { return false };
        let Poll::Ready((exchange, answer)) = asking.as_mut().poll(context) else { return false };
        let now = self.now();
        match answer {
            Some(Ok(Progress::Challenged(data))) => self.session.handle_challenged(data),
            Some(Ok(Progress::Accepted(identity, data))) => {
                self.session.handle_reauthenticated(now, identity, data);
            }
            Some(Err(refusal)) => {
                let (client, remote) = (&self.client, exchange.credentials().peer);
                let client_id = client.as_ref().map(tracing::field::debug);
                tracing::warn!(client_id, %remote, error = %refusal, "client may not stay");
                self.session.handle_refused(now, &refusal);
            }
            None => {}
        }
        self.enhanced = Some(Enhanced::Resting(exchange));
        true
    }

    /// Asks whether the client may stay if what let it in has changed.
    fn look_at_permissions(&mut self) {
        let authenticator = &self.shared.authenticator;
        let Some(admission) = self.admission.take_if(|it| authenticator.has_changed(it)) else {
            return;
        };
        let shared = self.shared.clone();
        self.question = Some(Box::pin(async move {
            let answer = shared.authenticator.authenticate_again(&admission);
            let answer = shared.stop.run_until_cancelled(answer).await;
            (admission, answer)
        }));
    }

    /// Waits for the answer, if there is a question. Certificate, attachments or policies changed:
    /// new permissions, or the end.
    fn poll_question(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(question) = &mut self.question else { return Poll::Ready(()) };
        let (admission, answer) = ready!(question.as_mut().poll(context));
        self.question = None;
        match answer {
            Some(Ok(identity)) => self.session.handle_permissions(identity.permissions),
            Some(Err(refusal)) => {
                let (client, remote) = (&self.client, admission.peer());
                let client_id = client.as_ref().map(tracing::field::debug);
                tracing::warn!(client_id, %remote, error = %refusal, "client no longer allowed");
                let now = self.now();
                self.session.handle_stop(now, Reason::NotAuthorized);
            }
            None => {}
        }
        self.admission = Some(admission);
        // Once more: it may have changed again while it was asked.
        self.look_at_permissions();
        Poll::Ready(())
    }

    /// Does what can be done without waiting; pending when everything waits for something.
    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        loop {
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
            let has_room = self.output.len() - self.written < UNSENT_BYTES_MAX;
            let took = self.poll_queue(context, has_room);
            let takes_packets = has_room && self.session.takes_packets();
            let received = match takes_packets && std::mem::take(&mut self.is_held) {
                true => {
                    let input = std::mem::take(&mut self.input);
                    self.handle_input(&input);
                    true
                }
                false => takes_packets && self.poll_receive(context).is_ready(),
            };
            if !took && !received {
                self.rest();
                return Poll::Pending;
            }
        }
    }

    /// Runs the session's outputs; what comes before CONNACK is handed to the caller, who may wait.
    fn run_session(&mut self) -> Option<Step> {
        let mut next = self.session.poll_output();
        // Not read when there is nothing to do.
        let now = next.as_ref().map(|_| self.now())?;
        let mut wakes = Wakes::default();
        while let Some(output) = next {
            match output {
                Output::Send(packet) => self.send(&packet),
                Output::Deliver(delivered) => self.deliver(&delivered),
                Output::Open(connect) => return Some(Step::Open(connect)),
                Output::Continue(auth) => return Some(Step::Continue(auth)),
                Output::Reauthenticate(auth) => self.reauthenticate(now, auth),
                driven => self.drive(now, driven, &mut wakes),
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
                tracing::debug!(?client, filters = filters.len(), "subscribe");
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
            Output::Continue(_) | Output::Reauthenticate(_) => {}
        }
    }

    fn deliver(&mut self, delivered: &Delivered) {
        self.reserve();
        let start = self.output.len();
        let encoded = self.codec.encode_publish(delivered, &mut self.output);
        // [MQTT-3.1.2-24]
        let fits = self.output.len() - start <= self.packet_bytes_max as usize;
        if encoded.is_ok() && fits {
            self.shared.metrics.messages_sent.increment();
        } else {
            self.output.truncate(start);
            self.session.handle_undeliverable(delivered);
        }
    }

    fn send(&mut self, packet: &Packet) {
        self.reserve();
        let start = self.output.len();
        if let Err(error) = self.codec.encode(packet, &mut self.output) {
            tracing::error!(%error, "packet of ours cannot be encoded");
        }
        if self.output.len() - start <= self.packet_bytes_max as usize {
            return;
        }
        // [MQTT-3.1.2-24]; [MQTT-3.2.2-19], [MQTT-3.14.2-3]: the text for people goes first.
        self.output.truncate(start);
        if let Some(shorter) = without_reason_string(packet) {
            self.send(&shorter);
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
            self.is_held = !self.session.takes_packets();
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
        if let (Some(client), Some(deadline)) = (&self.client, self.session.poll_timeout())
            && self.armed_until.is_none_or(|until| deadline + WHEEL_STEP < until)
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
        let is_told = ended.reason.is_some_and(|reason| reason != Reason::Success)
            && !self.shared.stop.is_cancelled();
        if let (Some(client), Some(left)) = (self.client.take(), ended.left) {
            tracing::debug!(?client, reason = ?ended.reason, "disconnected");
            client.close(now, ended.reason, left);
        }
        let deadline = Box::pin(tokio::time::sleep(FAREWELL_TIMEOUT));
        self.farewell = Some(Box::new(Farewell { deadline, is_told, is_shut: false }));
    }

    /// Sends what is left and closes; a peer that takes neither in time is none of ours any more.
    fn poll_farewell(&mut self, context: &mut Context<'_>) -> Poll<()> {
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
