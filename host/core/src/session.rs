//! The session: one client's side of the MQTT protocol, as a state machine without I/O or clock.
//!
//! In: `handle_*`, each with the time. Out: [`Session::poll_output`] until it is empty, and
//! [`Session::poll_timeout`]. The driver (the gateway's connection task) owns socket, broker and
//! authenticator, and answers [`Output::Open`], [`Output::Publish`], [`Output::Subscribe`] and
//! [`Output::Unsubscribe`] with the `handle_…` of the same name.
//!
//! Policies are asked here: what comes out as [`Output::Publish`] or [`Output::Subscribe`] is
//! allowed, and a delivery that `iot:Receive` withholds never comes out.
//! Not here: bytes (the codec), who matches what (`broker`), QoS 2, retained messages and shared
//! subscriptions (to come; refused as the standard says).

pub mod reserved;

use crate::auth::{Identity, Refusal};
use crate::broker::{Delivery, Published};
use crate::ids::ClientId;
use crate::limits::Limits;
use crate::message::{Message, Publisher, QoS, SubscriptionId};
use crate::metrics::Metrics;
use crate::packet::{
    Ack, ConnAck, Connect, Delivered, Disconnect, Packet, PacketId, Publish, Reason, SubAck,
    Subscribe, SubscribeOptions, Unsubscribe, Version, Will,
};
use crate::policy::{Action, Permissions, Resource};
use crate::storage::{Durability, Position};
use crate::time::Now;
use crate::topic::{TopicFilter, TopicName};
use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What all sessions of a listener share.
#[derive(Debug)]
pub struct Config {
    /// The bounds.
    pub limits: Limits,
    /// From the connection's start to its CONNECT.
    pub connect_timeout: Duration,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// One client's protocol state.
pub struct Session {
    config: Arc<Config>,
    output: VecDeque<Output>,
    phase: Phase,
    /// Of the newest packet; the connection's start before CONNECT.
    last_packet_at: Instant,
}

enum Phase {
    /// Nothing came yet.
    Fresh,
    /// CONNECT came; the driver authenticates.
    Opening(Box<Connect>),
    /// CONNACK with success went out.
    Active(Box<Active>),
    /// No packet is handled any more.
    Closed(Box<Ended>),
}

struct Active {
    version: Version,
    client_id: ClientId,
    publisher: Arc<Publisher>,
    permissions: Arc<Permissions>,
    /// 0: off.
    keep_alive_s: u16,
    session_expiry_s: u32,
    will: Option<Box<Will>>,
    /// Names by alias - 1.
    aliases: Vec<Option<TopicName>>,
    /// The topic published to last, and whether the client may.
    may_publish: Option<(TopicName, bool)>,
    /// The topic received last, and whether the client may.
    may_receive: Option<(TopicName, bool)>,
    /// QoS 1 messages that the client takes unacknowledged.
    window: u16,
    /// The session outlives the connection: what is sent is kept until it is acknowledged, and the
    /// log is told.
    is_durable: bool,
    /// Sent and not yet acknowledged, in the order of sending.
    inflight: VecDeque<(PacketId, Delivery)>,
    last_packet_id: u16,
    resumable: Resumable,
    disconnect_at: Option<Instant>,
}

/// What of a session, beside its messages, outlives its connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumable {
    /// Sent QoS 2 messages between PUBREC and PUBCOMP, in the order of the PUBRECs.
    pub released: Vec<PacketId>,
    /// The client's QoS 2 messages between PUBLISH and PUBREL; the position says when the message
    /// is durable and PUBREC may go out.
    pub incoming: Vec<(PacketId, Position)>,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum Output {
    /// Send this packet.
    Send(Packet),
    /// Send this PUBLISH.
    Deliver(Delivered),
    /// Authenticate the client, take over its session; answer with [`Session::handle_opened`] or
    /// [`Session::handle_refused`].
    Open(Box<Connect>),
    /// Give the message to the broker; answer with [`Session::handle_published`]. With QoS 2 the
    /// log learns that the identifier is taken.
    Publish {
        /// The message.
        message: Arc<Message>,
        /// To be acknowledged; `None` for QoS 0.
        packet_id: Option<PacketId>,
    },
    /// Subscribe to what is `Ok`; answer with [`Session::handle_subscribed`].
    Subscribe {
        /// For the answer.
        packet_id: PacketId,
        /// Subscription Identifier.
        subscription_id: Option<SubscriptionId>,
        /// In the order of the packet; `Err` is already refused.
        filters: Vec<Result<(TopicFilter, SubscribeOptions), Reason>>,
    },
    /// Unsubscribe; answer with [`Session::handle_unsubscribed`].
    Unsubscribe(Box<Unsubscribe>),
    /// A durable session is done with a delivery; no answer.
    Acknowledged(PacketId),
    /// A durable session got PUBREC; answer with [`Session::handle_released`].
    Released(PacketId),
    /// A durable session got PUBREL; answer with [`Session::handle_completed`].
    Completed(PacketId),
    /// Send what came before, then close the socket; [`Session::end`] has the rest.
    Close,
}

/// The driver's answer to [`Output::Open`].
#[derive(Debug)]
pub struct Opened {
    /// The client's own id, or the one made up for it.
    pub client_id: ClientId,
    /// Who it is.
    pub identity: Identity,
    /// What an earlier connection left, when it is resumed.
    pub resumed: Option<Resumable>,
    /// Whether the session outlives the connection.
    pub is_durable: bool,
}

/// What is left when the connection is over.
#[derive(Debug, Default)]
pub struct Ended {
    /// Why, for the log; success for a DISCONNECT by the client.
    pub reason: Option<Reason>,
    /// Set when the client was connected.
    pub left: Option<Left>,
}

/// What a client that was connected leaves.
#[derive(Debug)]
pub struct Left {
    /// Sent and not acknowledged: to be queued again, before everything else.
    pub unacknowledged: VecDeque<Delivery>,
    /// For the next connection.
    pub resumable: Resumable,
    /// How long to keep it, in seconds; 0: not at all, `u32::MAX`: for ever.
    pub session_expiry_s: u32,
    /// The will, to be published after the delay.
    pub will: Option<(Arc<Message>, Duration)>,
}

/// The client broke the protocol; the connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({reason:?})")]
pub struct ProtocolError {
    /// For DISCONNECT.
    pub reason: Reason,
    /// For the log.
    pub what: &'static str,
}

const fn error(reason: Reason, what: &'static str) -> ProtocolError {
    ProtocolError { reason, what }
}

impl Session {
    /// A session that waits for its CONNECT.
    pub fn new(config: Arc<Config>, now: Now) -> Self {
        Self { config, output: VecDeque::new(), phase: Phase::Fresh, last_packet_at: now.instant }
    }

    /// The client id, once the client is connected.
    pub fn client_id(&self) -> Option<&ClientId> {
        match &self.phase {
            Phase::Active(active) => Some(&active.client_id),
            _ => None,
        }
    }

    /// True after [`Output::Close`] was decided.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    /// False while a CONNECT waits for its answer, and after the end.
    pub fn takes_packets(&self) -> bool {
        matches!(self.phase, Phase::Fresh | Phase::Active(_))
    }

    /// How many deliveries the session takes now: the room in the client's receive window.
    ///
    /// QoS 0 messages wait behind QoS 1 messages, so that the order of a topic is kept.
    pub fn delivery_room(&self) -> usize {
        match &self.phase {
            Phase::Active(active) => {
                usize::from(active.window).saturating_sub(active.inflight.len())
            }
            _ => 0,
        }
    }

    /// Takes a packet from the client.
    pub fn handle_packet(&mut self, now: Now, packet: Packet) {
        self.last_packet_at = now.instant;
        let result = match &mut self.phase {
            Phase::Fresh => self.handle_connect(packet),
            Phase::Opening(_) => {
                // The driver reads on only after it has answered.
                Err(error(Reason::ProtocolError, "packet before CONNACK"))
            }
            Phase::Active(_) => self.handle_active(now, packet),
            Phase::Closed(_) => Ok(()),
        };
        if let Err(error) = result {
            self.handle_protocol_error(now, error);
        }
    }

    /// Ends the connection because of what the client sent; also for what the codec refused.
    pub fn handle_protocol_error(&mut self, now: Now, error: ProtocolError) {
        self.config.metrics.protocol_errors.increment();
        let client_id = self.client_id().map(ClientId::as_str).unwrap_or_default();
        tracing::info!(client_id, reason = ?error.reason, error = error.what, "protocol error");
        match &self.phase {
            // [MQTT-3.1.4-1], [MQTT-3.2.2-7]: a CONNECT that is understood gets its refusal.
            Phase::Opening(_) => self.refuse(error.reason),
            _ => self.close(now, error.reason),
        }
    }

    /// The answer to [`Output::Open`]: the client may connect.
    pub fn handle_opened(&mut self, now: Now, opened: Opened) {
        let phase = std::mem::replace(&mut self.phase, Phase::Fresh);
        let Phase::Opening(connect) = phase else {
            // The connection ended meanwhile.
            self.phase = phase;
            return;
        };
        let limits = &self.config.limits;
        // The wait for the answer was the host's, not the client's.
        self.last_packet_at = now.instant;
        let connack = connack(&connect, &opened, limits);
        let active = Box::new(Active {
            version: connect.version,
            publisher: Arc::new(Publisher {
                client_id: Some(opened.client_id.clone()),
                principal: opened.identity.principal.clone(),
            }),
            client_id: opened.client_id,
            permissions: opened.identity.permissions,
            keep_alive_s: connect.keep_alive_s,
            session_expiry_s: connect.session_expiry_s.min(limits.session_expiry_s),
            will: connect.will,
            aliases: Vec::new(),
            may_publish: None,
            may_receive: None,
            window: connect
                .receive_maximum
                .map_or(u16::MAX, NonZeroU16::get)
                .min(limits.inflight_messages),
            is_durable: opened.is_durable,
            inflight: VecDeque::new(),
            last_packet_id: 0,
            resumable: opened.resumed.unwrap_or_default(),
            disconnect_at: opened.identity.disconnect_after.map(|after| now.instant + after),
        });
        self.config.metrics.connections_accepted.increment();
        self.output.push_back(Output::Send(Packet::ConnAck(Box::new(connack))));
        self.phase = Phase::Active(active);
    }

    /// Whether the client may leave its will; to be asked before its session is taken over, which
    /// a refused CONNECT must not touch.
    pub fn allows_will(connect: &Connect, permissions: &Permissions) -> bool {
        connect.will.as_ref().is_none_or(|will| {
            permissions.allows(Action::Publish, Resource::Topic(will.topic.as_str()))
        })
    }

    /// The answer to [`Output::Open`]: the client may not connect.
    pub fn handle_refused(&mut self, refusal: &Refusal) {
        let reason = match refusal {
            Refusal::Unavailable(_) => Reason::ServerUnavailable,
            _ => Reason::NotAuthorized,
        };
        self.refuse(reason);
    }

    /// The answer to [`Output::Publish`].
    pub fn handle_published(&mut self, packet_id: Option<PacketId>, published: Published) {
        let Some(packet_id) = packet_id else { return };
        let is_unheard = published.receivers == 0;
        let reason = if is_unheard { Reason::NoMatchingSubscribers } else { Reason::Success };
        self.output.push_back(Output::Send(Packet::PubAck(Ack { packet_id, reason })));
    }

    /// The answer to [`Output::Subscribe`], one reason per filter.
    pub fn handle_subscribed(
        &mut self,
        packet_id: PacketId,
        reasons: Vec<Reason>,
        _durability: Durability,
    ) {
        self.output.push_back(Output::Send(Packet::SubAck(SubAck { packet_id, reasons })));
    }

    /// The answer to [`Output::Unsubscribe`], one reason per filter.
    pub fn handle_unsubscribed(
        &mut self,
        packet_id: PacketId,
        reasons: Vec<Reason>,
        _durability: Durability,
    ) {
        self.output.push_back(Output::Send(Packet::UnsubAck(SubAck { packet_id, reasons })));
    }

    /// The answer to [`Output::Released`].
    pub fn handle_released(&mut self, _packet_id: PacketId, _durability: Durability) {}

    /// The answer to [`Output::Completed`].
    pub fn handle_completed(&mut self, _packet_id: PacketId, _durability: Durability) {}

    /// The log has come to the position.
    pub fn handle_durable(&mut self, _committed: Position) {}

    /// Takes a message for the client; at most [`Session::delivery_room`] at a time.
    pub fn handle_delivery(&mut self, now: Now, delivery: Delivery) {
        let Phase::Active(active) = &mut self.phase else { return };
        if !active.may_receive(&delivery.message.topic) {
            self.config.metrics.receive_denied.increment();
            return;
        }
        // [MQTT-3.3.2-5] expired while it waited.
        let Some(expiry_s) = remaining_expiry(now, &delivery.message) else { return };
        let packet_id = match delivery.qos {
            QoS::AtMostOnce => None,
            _ => Some(active.send(delivery.clone())),
        };
        self.output.push_back(Output::Deliver(delivered(delivery, packet_id, expiry_s)));
    }

    /// A delivery did not fit into the client's Maximum Packet Size: it counts as done
    /// [MQTT-3.1.2-25].
    pub fn handle_undeliverable(&mut self, packet_id: Option<PacketId>) {
        self.config.metrics.messages_dropped.increment();
        if let (Phase::Active(active), Some(packet_id)) = (&mut self.phase, packet_id) {
            active.acknowledge(packet_id);
        }
    }

    /// The policies of the client changed.
    pub fn handle_permissions(&mut self, permissions: Arc<Permissions>) {
        if let Phase::Active(active) = &mut self.phase {
            active.permissions = permissions;
            active.may_publish = None;
            active.may_receive = None;
        }
    }

    /// Looks whether a deadline has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.poll_timeout().is_none_or(|deadline| now.instant < deadline) {
            return;
        }
        let reason = match &self.phase {
            Phase::Active(active) if active.disconnect_at.is_some_and(|at| at <= now.instant) => {
                Reason::MaximumConnectTime
            }
            _ => Reason::KeepAliveTimeout,
        };
        self.close(now, reason);
    }

    /// Ends the connection from the server's side: takeover, shutdown, an administrator.
    pub fn handle_stop(&mut self, now: Now, reason: Reason) {
        match self.phase {
            Phase::Opening(_) => self.refuse(reason),
            _ => self.close(now, reason),
        }
    }

    /// The socket is gone.
    pub fn handle_lost(&mut self, now: Now) {
        self.finish(now, None, None, true);
    }

    /// The next thing for the driver to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.output.pop_front();
        if output.is_none() && self.output.capacity() > 0 {
            // An idle session holds no buffer.
            self.output = VecDeque::new();
        }
        output
    }

    /// When [`Session::handle_timeout`] has to be called; `None`: never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Fresh => Some(self.last_packet_at + self.config.connect_timeout),
            Phase::Opening(_) | Phase::Closed(_) => None,
            Phase::Active(active) => {
                // [MQTT-3.1.2-22] one and a half times the keep-alive.
                let keep_alive = (active.keep_alive_s > 0).then(|| {
                    let grace = Duration::from_millis(u64::from(active.keep_alive_s) * 1_500);
                    self.last_packet_at + grace
                });
                keep_alive.into_iter().chain(active.disconnect_at).min()
            }
        }
    }

    /// Takes what is left; ends the connection as lost when it has not ended.
    pub fn end(&mut self, now: Now) -> Ended {
        self.finish(now, None, None, true);
        match &mut self.phase {
            Phase::Closed(ended) => std::mem::take(ended),
            _ => Ended::default(),
        }
    }

    fn handle_connect(&mut self, packet: Packet) -> Result<(), ProtocolError> {
        let Packet::Connect(connect) = packet else {
            // [MQTT-3.1.0-1]
            return Err(error(Reason::ProtocolError, "first packet is not CONNECT"));
        };
        let verdict = check_connect(&connect, &self.config.limits);
        self.phase = Phase::Opening(connect.clone());
        verdict?;
        self.output.push_back(Output::Open(connect));
        Ok(())
    }

    fn handle_active(&mut self, now: Now, packet: Packet) -> Result<(), ProtocolError> {
        let Phase::Active(active) = &mut self.phase else { return Ok(()) };
        match packet {
            Packet::Publish(publish) => self.handle_publish(now, publish)?,
            Packet::PubAck(ack) => {
                if active.acknowledge(ack.packet_id) && active.is_durable {
                    self.output.push_back(Output::Acknowledged(ack.packet_id));
                }
            }
            Packet::Subscribe(subscribe) => self.handle_subscribe(*subscribe),
            Packet::Unsubscribe(unsubscribe) => {
                self.output.push_back(Output::Unsubscribe(unsubscribe));
            }
            Packet::PingReq => self.output.push_back(Output::Send(Packet::PingResp)),
            Packet::Disconnect(disconnect) => return self.handle_disconnect(now, &disconnect),
            // The sender of a QoS 2 message that was never accepted.
            Packet::PubRel(ack) => {
                let reason = Reason::PacketIdNotFound;
                let packet_id = ack.packet_id;
                self.output.push_back(Output::Send(Packet::PubComp(Ack { packet_id, reason })));
            }
            Packet::Connect(_) => {
                // [MQTT-3.1.0-2]
                return Err(error(Reason::ProtocolError, "second CONNECT"));
            }
            Packet::Auth(_) => {
                // [MQTT-4.12.0-6] no authentication method was named in CONNECT.
                return Err(error(Reason::ProtocolError, "AUTH without authentication method"));
            }
            _ => return Err(error(Reason::ProtocolError, "packet that no client sends")),
        }
        Ok(())
    }

    fn handle_publish(&mut self, now: Now, publish: Publish) -> Result<(), ProtocolError> {
        let Phase::Active(active) = &mut self.phase else { return Ok(()) };
        let limits = &self.config.limits;
        self.config.metrics.messages_received.increment();
        let topic = active.resolve(publish.topic, publish.topic_alias, limits)?;
        if publish.qos == QoS::ExactlyOnce {
            return Err(error(Reason::QoSNotSupported, "PUBLISH with QoS 2"));
        }
        if publish.payload.len() > limits.payload_bytes as usize {
            return Err(error(Reason::PacketTooLarge, "payload beyond the limit"));
        }
        if publish.properties.as_ref().is_some_and(|it| !limits.allow_properties(it)) {
            return Err(error(Reason::PacketTooLarge, "properties beyond the limits"));
        }
        if publish.retain && active.version == Version::V5 {
            // [MQTT-3.2.2-14] CONNACK said that retained messages are not available.
            return Err(error(Reason::RetainNotSupported, "PUBLISH with RETAIN"));
        }
        if !active.may_publish(&topic, limits)? {
            self.config.metrics.publish_denied.increment();
            tracing::info!(client_id = %active.client_id, %topic, "publish denied");
            // 3.1.1 has no refusal for a PUBLISH; AWS closes the connection.
            return match (active.version, publish.packet_id) {
                (Version::V5, Some(packet_id)) => {
                    let ack = Ack { packet_id, reason: Reason::NotAuthorized };
                    self.output.push_back(Output::Send(Packet::PubAck(ack)));
                    Ok(())
                }
                _ => {
                    self.close(now, Reason::NotAuthorized);
                    Ok(())
                }
            };
        }
        let message = Arc::new(Message {
            topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            received_at: now.wall,
            publisher: active.publisher.clone(),
            properties: publish.properties,
        });
        self.output.push_back(Output::Publish { message, packet_id: publish.packet_id });
        Ok(())
    }

    fn handle_subscribe(&mut self, subscribe: Subscribe) {
        let Phase::Active(active) = &self.phase else { return };
        let limits = &self.config.limits;
        let filters = subscribe.filters.into_iter().enumerate();
        let filters = filters.map(|(position, (filter, options))| {
            if position >= limits.filters_per_subscribe as usize {
                return Err(Reason::QuotaExceeded);
            }
            let verdict = check_filter(&filter, limits, &active.permissions);
            if verdict == Err(Reason::NotAuthorized) {
                self.config.metrics.subscribe_denied.increment();
                tracing::info!(client_id = %active.client_id, %filter, "subscribe denied");
            }
            // QoS 2 is to come; a lower QoS may be granted [MQTT-3.8.4-8].
            let qos = options.qos.min(QoS::AtLeastOnce);
            verdict.map(|()| (filter, SubscribeOptions { qos, ..options }))
        });
        let output = Output::Subscribe {
            packet_id: subscribe.packet_id,
            subscription_id: subscribe.subscription_id,
            filters: filters.collect(),
        };
        self.output.push_back(output);
    }

    fn handle_disconnect(
        &mut self,
        now: Now,
        disconnect: &Disconnect,
    ) -> Result<(), ProtocolError> {
        let Phase::Active(active) = &mut self.phase else { return Ok(()) };
        if let Some(expiry_s) = disconnect.session_expiry_s {
            if active.session_expiry_s == 0 && expiry_s > 0 {
                // [MQTT-3.14.2-2]
                let what = "DISCONNECT brings a session to life that was to end";
                return Err(error(Reason::ProtocolError, what));
            }
            active.session_expiry_s = expiry_s.min(self.config.limits.session_expiry_s);
        }
        let with_will = disconnect.reason != Reason::Success;
        self.finish(now, None, Some(Reason::Success), with_will);
        Ok(())
    }

    /// Refuses a CONNECT.
    fn refuse(&mut self, reason: Reason) {
        self.config.metrics.connections_refused.increment();
        self.output.push_back(Output::Send(Packet::ConnAck(Box::new(ConnAck::new(reason)))));
        self.output.push_back(Output::Close);
        self.phase = Phase::Closed(Box::new(Ended { reason: Some(reason), left: None }));
    }

    /// Ends a connection from the server's side.
    fn close(&mut self, now: Now, reason: Reason) {
        // Only a client that is connected with MQTT 5 understands a DISCONNECT.
        let farewell = match &self.phase {
            Phase::Active(active) if active.version == Version::V5 => Some(reason),
            _ => None,
        };
        self.finish(now, farewell, Some(reason), true);
    }

    fn finish(&mut self, now: Now, farewell: Option<Reason>, why: Option<Reason>, with_will: bool) {
        if self.is_closed() {
            return;
        }
        if let Some(reason) = farewell {
            let packet = Disconnect { reason, session_expiry_s: None, reason_string: None };
            self.output.push_back(Output::Send(Packet::Disconnect(Box::new(packet))));
        }
        self.output.push_back(Output::Close);
        let phase = std::mem::replace(&mut self.phase, Phase::Fresh);
        let left = match phase {
            Phase::Active(active) => Some(active.leave(now, with_will)),
            _ => None,
        };
        self.phase = Phase::Closed(Box::new(Ended { reason: why, left }));
    }
}

impl Active {
    fn resolve(
        &mut self,
        topic: Option<TopicName>,
        alias: Option<NonZeroU16>,
        limits: &Limits,
    ) -> Result<TopicName, ProtocolError> {
        let Some(alias) = alias else {
            // [MQTT-3.3.2-8]
            return topic.ok_or(error(Reason::ProtocolError, "neither topic nor alias"));
        };
        if alias.get() > limits.topic_aliases {
            // [MQTT-3.3.2-9]
            return Err(error(Reason::TopicAliasInvalid, "topic alias beyond the maximum"));
        }
        let position = usize::from(alias.get()) - 1;
        if let Some(topic) = topic {
            if self.aliases.len() <= position {
                self.aliases.resize(position + 1, None);
            }
            self.aliases[position] = Some(topic.clone());
            return Ok(topic);
        }
        let known = self.aliases.get(position).cloned().flatten();
        known.ok_or(error(Reason::ProtocolError, "topic alias that stands for nothing"))
    }

    fn may_publish(&mut self, topic: &TopicName, limits: &Limits) -> Result<bool, ProtocolError> {
        if let Some((last, verdict)) = &self.may_publish
            && last == topic
        {
            return Ok(*verdict);
        }
        if !limits.allow_topic(topic.as_str()) {
            return Err(error(Reason::TopicNameInvalid, "topic name beyond the limits"));
        }
        let verdict = reserved::may_publish(topic)
            && self.permissions.allows(Action::Publish, Resource::Topic(topic.as_str()));
        self.may_publish = Some((topic.clone(), verdict));
        Ok(verdict)
    }

    fn may_receive(&mut self, topic: &TopicName) -> bool {
        if let Some((last, verdict)) = &self.may_receive
            && last == topic
        {
            return *verdict;
        }
        let verdict = self.permissions.allows(Action::Receive, Resource::Topic(topic.as_str()));
        self.may_receive = Some((topic.clone(), verdict));
        verdict
    }

    /// Puts the delivery in flight; what the log keeps is numbered already.
    fn send(&mut self, delivery: Delivery) -> PacketId {
        // The window is smaller than the number of identifiers, so one is free.
        let packet_id = delivery.packet_id.unwrap_or_else(|| {
            loop {
                self.last_packet_id = self.last_packet_id.wrapping_add(1);
                if let Some(id) = PacketId::new(self.last_packet_id)
                    && !self.inflight.iter().any(|(used, _)| *used == id)
                {
                    break id;
                }
            }
        });
        self.inflight.push_back((packet_id, delivery));
        packet_id
    }

    /// True when the delivery was in flight.
    fn acknowledge(&mut self, packet_id: PacketId) -> bool {
        // Clients acknowledge in order, so the first is the one.
        let found = self.inflight.iter().position(|(id, _)| *id == packet_id);
        if let Some(at) = found {
            self.inflight.remove(at);
        }
        if self.inflight.is_empty() {
            self.inflight = VecDeque::new();
        }
        found.is_some()
    }

    fn leave(self, now: Now, with_will: bool) -> Left {
        let will = self.will.filter(|_| with_will).and_then(|will| {
            // The right may have been withdrawn since CONNECT.
            let topic = Resource::Topic(will.topic.as_str());
            if !self.permissions.allows(Action::Publish, topic) {
                tracing::warn!(client_id = %self.client_id, "will withheld: no longer allowed");
                return None;
            }
            // [MQTT-3.1.3-9] the delay ends with the session.
            let delay_s = will.delay_s.min(self.session_expiry_s);
            let message = Message {
                topic: will.topic,
                payload: will.payload,
                qos: will.qos,
                retain: will.retain,
                received_at: now.wall,
                publisher: self.publisher.clone(),
                properties: will.properties,
            };
            Some((Arc::new(message), Duration::from_secs(u64::from(delay_s))))
        });
        let unacknowledged = self.inflight.into_iter().map(|(id, delivery)| Delivery {
            packet_id: Some(id),
            dup: true,
            ..delivery
        });
        Left {
            unacknowledged: unacknowledged.collect(),
            resumable: self.resumable,
            session_expiry_s: self.session_expiry_s,
            will,
        }
    }
}

fn check_connect(connect: &Connect, limits: &Limits) -> Result<(), ProtocolError> {
    match &connect.client_id {
        None if connect.version == Version::V311 && !connect.clean_start => {
            // [MQTT-3.1.3-8] of 3.1.1.
            return Err(error(Reason::ClientIdNotValid, "no client id without Clean Session"));
        }
        Some(id) if id.as_str().len() > limits.client_id_bytes as usize => {
            return Err(error(Reason::ClientIdNotValid, "client id beyond the limit"));
        }
        _ => {}
    }
    if connect.authentication.is_some() {
        // [MQTT-4.12.0-1] enhanced authentication is to come.
        return Err(error(Reason::BadAuthenticationMethod, "enhanced authentication"));
    }
    if let Some(will) = &connect.will {
        if will.qos == QoS::ExactlyOnce {
            return Err(error(Reason::QoSNotSupported, "will with QoS 2"));
        }
        if will.retain && connect.version == Version::V5 {
            return Err(error(Reason::RetainNotSupported, "will with RETAIN"));
        }
        if !limits.allow_topic(will.topic.as_str()) {
            return Err(error(Reason::TopicNameInvalid, "will topic beyond the limits"));
        }
        if will.payload.len() > limits.payload_bytes as usize {
            return Err(error(Reason::PacketTooLarge, "will payload beyond the limit"));
        }
        if will.properties.as_ref().is_some_and(|it| !limits.allow_properties(it)) {
            return Err(error(Reason::PacketTooLarge, "will properties beyond the limits"));
        }
        if will.topic.is_reserved() {
            return Err(error(Reason::TopicNameInvalid, "will on a reserved topic"));
        }
    }
    Ok(())
}

fn connack(connect: &Connect, opened: &Opened, limits: &Limits) -> ConnAck {
    let reduced = connect.session_expiry_s > limits.session_expiry_s;
    ConnAck {
        session_present: opened.resumed.is_some(),
        session_expiry_s: reduced.then_some(limits.session_expiry_s),
        receive_maximum: NonZeroU16::new(limits.inflight_messages),
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(false),
        maximum_packet_size: Some(limits.packet_bytes),
        assigned_client_id: connect.client_id.is_none().then(|| opened.client_id.clone()),
        topic_alias_maximum: Some(limits.topic_aliases),
        shared_subscription_available: Some(false),
        ..ConnAck::new(Reason::Success)
    }
}

fn check_filter(
    filter: &TopicFilter,
    limits: &Limits,
    permissions: &Permissions,
) -> Result<(), Reason> {
    if filter.share_group().is_some() {
        return Err(Reason::SharedSubscriptionsNotSupported);
    }
    if !limits.allow_topic(filter.pattern()) {
        return Err(Reason::TopicFilterInvalid);
    }
    if permissions.allows(Action::Subscribe, Resource::TopicFilter(filter.as_str())) {
        Ok(())
    } else {
        Err(Reason::NotAuthorized)
    }
}

/// What is left of the message's expiry: `None` when it has expired, `Some(None)` when it never does.
#[allow(clippy::option_option, reason = "expired, without expiry, or so many seconds")]
fn remaining_expiry(now: Now, message: &Message) -> Option<Option<u32>> {
    let Some(expiry_s) = message.properties.as_ref().and_then(|properties| properties.expiry_s)
    else {
        return Some(None);
    };
    let waited_s = now.wall.as_secs().saturating_sub(message.received_at.as_secs());
    let left = u64::from(expiry_s).checked_sub(waited_s).filter(|left| *left > 0)?;
    u32::try_from(left).ok().map(Some)
}

fn delivered(delivery: Delivery, packet_id: Option<PacketId>, expiry_s: Option<u32>) -> Delivered {
    Delivered {
        message: delivery.message,
        dup: delivery.dup,
        qos: delivery.qos,
        retain: delivery.retain,
        packet_id,
        subscription_ids: delivery.subscription_ids,
        expiry_s,
    }
}

#[cfg(test)]
mod tests;
