//! The session: one client's side of the MQTT protocol, as a state machine without I/O or clock.
//!
//! In: `handle_*`, each with the time. Out: [`Session::poll_output`] until it is empty, and
//! [`Session::poll_timeout`]. The driver (the gateway's connection task) owns socket, broker and
//! authenticator, and answers [`Output::Open`], [`Output::Publish`], [`Output::Subscribe`] and so
//! on with the `handle_…` of the same name.
//!
//! Policies are asked here: what comes out as [`Output::Publish`] or [`Output::Subscribe`] is
//! allowed, and a delivery that `iot:Receive` withholds never comes out.
//! Not here: bytes (the codec), who matches what (`broker`).
//!
//! Reading order: this file (the phases of a connection), `connect` (CONNECT and CONNACK),
//! `active` (what a connected client has under way), `publish` (PUBLISH and its acknowledgements,
//! both ways), `reserved`.

mod active;
mod connect;
mod publish;
pub mod reserved;

use crate::auth::{Identity, Refusal};
use crate::broker::{Delivery, Published};
use crate::ids::{ClientId, Principal, ThingName};
use crate::limits::Limits;
use crate::message::{Message, Publisher, QoS, SubscriptionId};
use crate::metrics::Metrics;
use crate::packet::{
    Ack, Auth, ConnAck, Connect, Delivered, Disconnect, Packet, PacketId, Publish, Reason, SubAck,
    Subscribe, SubscribeOptions, Unsubscribe, Version, Will,
};
use crate::policy::{Action, Permissions, Resource};
use crate::registry::{OffenceKind, Offender};
use crate::storage::{Durability, Position};
use crate::time::{Now, Timestamp};
use crate::topic::{TopicFilter, TopicName};
use active::Active;
use bytes::Bytes;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What all sessions of a listener share.
#[derive(Debug)]
pub struct Config {
    /// The bounds.
    pub limits: Limits,
    /// From the connection's start to its CONNECT.
    pub connect_timeout: Duration,
    /// Whose rules hold where the standard and AWS disagree.
    pub compat: Compat,
    /// Clients are told to go to another server.
    pub redirect: Option<Redirect>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Tell offences ([`Output::Offence`]).
    pub tells_offences: bool,
}

/// Whose rules hold where the MQTT standard and AWS IoT Core disagree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compat {
    /// The standard's.
    #[default]
    Mqtt,
    /// AWS's: no QoS 2, no subscription identifiers, no enhanced authentication; `a/#` does not
    /// match `a`; no retained messages for filters with wildcards; keep-alive of 30 to 1,200 s; a
    /// PUBLISH to an unknown `$` topic closes the connection.
    Aws,
}

/// Where clients are told to go (Server Reference; 3.1.1: return code 3).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// Host name or address, with a port if need be.
    pub to: String,
    /// For good (0x9D), or for now (0x9C), which is the default.
    #[serde(default)]
    pub permanent: bool,
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
    /// CONNECT came, or the answer to a challenge; the driver authenticates.
    Opening(Box<Connect>),
    /// The client was sent a challenge (AUTH) and is to answer it.
    Challenged(Box<Connect>),
    /// CONNACK with success went out.
    Active(Box<Active>),
    /// No packet is handled any more.
    Closed(Box<Ended>),
}

/// What of a session, beside its messages, outlives its connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumable {
    /// Sent QoS 2 messages between PUBREC and PUBCOMP, in the order of the PUBRECs.
    pub released: Vec<PacketId>,
    /// The client's QoS 2 messages between PUBLISH and PUBREL; the position says when the message
    /// is durable and PUBREC may go out.
    pub incoming: BTreeMap<PacketId, Position>,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum Output {
    /// Send this packet.
    Send(Packet),
    /// Send this PUBLISH.
    Deliver(Delivered),
    /// Authenticate the client, take over its session; answer with [`Session::handle_opened`],
    /// [`Session::handle_challenged`] or [`Session::handle_refused`].
    Open(Box<Connect>),
    /// The client answered the challenge before its CONNACK; to be answered as `Open`.
    Continue(Auth),
    /// A connected client authenticates again; answer with [`Session::handle_reauthenticated`],
    /// [`Session::handle_challenged`] or [`Session::handle_refused`].
    Reauthenticate(Auth),
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
    /// A client that is connected and somebody did what may bring it into quarantine; no answer.
    Offence(Box<Offence>),
    /// Send what came before, then close the socket; [`Session::end`] has the rest.
    Close,
}

/// What a client did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offence {
    /// The client's thing, else its principal: who would come into quarantine for it.
    pub offender: Offender,
    /// Its client id.
    pub client_id: ClientId,
    /// Its principal.
    pub principal: Principal,
    /// Of which kind.
    pub kind: OffenceKind,
    /// What it did, for people.
    pub what: Cow<'static, str>,
}

/// The driver's answer to [`Output::Open`].
#[derive(Debug)]
pub struct Opened {
    /// Of its messages: the client's own id, or the one made up for it, and its principal.
    pub publisher: Arc<Publisher>,
    /// Who it is.
    pub identity: Identity,
    /// What an earlier connection left, when it is resumed.
    pub resumed: Option<Resumable>,
    /// Whether the session outlives the connection.
    pub is_durable: bool,
    /// How far the log has come.
    pub committed: Position,
    /// Authentication Data of the server's last word in an enhanced authentication.
    pub authentication_data: Bytes,
}

/// What is left when the connection is over.
#[derive(Debug, Default)]
pub struct Ended {
    /// Why, for the log; success for a DISCONNECT by the client, `None` when it was lost.
    pub reason: Option<Reason>,
    /// Set when the client was connected.
    pub left: Option<Left>,
}

/// What a client that was connected leaves.
#[derive(Debug, Default)]
pub struct Left {
    /// Sent and not acknowledged: to be queued again, before everything else.
    pub unacknowledged: VecDeque<Delivery>,
    /// For the next connection.
    pub resumable: Resumable,
    /// How long to keep it, in seconds; 0: not at all, `u32::MAX`: for ever.
    pub session_expiry_s: u32,
    /// The will, to be published after so many seconds.
    pub will: Option<(u32, Arc<Message>)>,
}

/// The client broke the protocol; the connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({reason:?})")]
pub struct ProtocolError {
    /// For DISCONNECT.
    pub reason: Reason,
    /// For the log, and the client's.
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
            Phase::Active(active) => active.publisher.client_id.as_ref(),
            _ => None,
        }
    }

    /// True before the first packet.
    pub fn is_fresh(&self) -> bool {
        matches!(self.phase, Phase::Fresh)
    }

    /// True after [`Output::Close`] was decided.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    /// False while the driver owes an answer to CONNECT, while too many publications wait to be
    /// durable, until the next timeout when the client publishes too fast, and after the end.
    pub fn takes_packets(&self) -> bool {
        match &self.phase {
            Phase::Fresh | Phase::Challenged(_) => true,
            Phase::Active(active) => {
                active.waiting() < usize::from(self.config.limits.inflight_messages)
                    && active.paused_at().is_none()
            }
            Phase::Opening(_) | Phase::Closed(_) => false,
        }
    }

    /// True while an answer waits to be durable, a SUBACK for example.
    pub fn is_waiting(&self) -> bool {
        matches!(&self.phase, Phase::Active(active) if active.waiting() > 0)
    }

    /// How many deliveries the session takes now: the room in the client's receive window.
    ///
    /// QoS 0 messages wait behind QoS 1 and 2 messages, so that the order of a topic is kept.
    pub fn delivery_room(&self) -> usize {
        match &self.phase {
            Phase::Active(active) => active.room(),
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
            Phase::Challenged(_) => self.handle_answer(now, packet),
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
        self.offend(kind_of(error.reason), error.what);
        match &self.phase {
            // [MQTT-3.1.4-1], [MQTT-3.2.2-7]: a CONNECT that is understood gets its refusal.
            Phase::Opening(_) | Phase::Challenged(_) => {
                self.refuse(error.reason, Some(error.what));
            }
            _ => self.close(now, error.reason, Some(error.what)),
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
        // The wait for the answer was the host's, not the client's.
        self.last_packet_at = now.instant;
        let connack = connect::connack(&connect, &opened, &self.config);
        self.config.metrics.connections_accepted.increment();
        self.output.push_back(Output::Send(Packet::ConnAck(Box::new(connack))));
        let active = Active::new(*connect, opened, &self.config, now);
        // [MQTT-4.4.0-1]
        for &packet_id in &active.under_way().resumable.released {
            let ack = Ack { packet_id, reason: Reason::Success };
            self.output.push_back(Output::Send(Packet::PubRel(ack)));
        }
        self.phase = Phase::Active(Box::new(active));
    }

    /// The answer to an authentication: the client has to answer first (AUTH 0x18).
    pub fn handle_challenged(&mut self, data: Bytes) {
        let phase = std::mem::replace(&mut self.phase, Phase::Fresh);
        let (phase, method) = match phase {
            Phase::Opening(connect) => {
                let method = connect.authentication.as_ref().map(|(method, _)| method.clone());
                (Phase::Challenged(connect), method)
            }
            Phase::Active(active) => {
                let method = active.authentication_method.clone();
                (Phase::Active(active), method)
            }
            other => (other, None),
        };
        self.phase = phase;
        if method.is_some() {
            let reason = Reason::ContinueAuthentication;
            let auth = Auth { reason, method, data: Some(data) };
            self.output.push_back(Output::Send(Packet::Auth(Box::new(auth))));
        }
    }

    /// The answer to [`Output::Reauthenticate`]: the client may stay, with these permissions.
    pub fn handle_reauthenticated(&mut self, now: Now, identity: Identity, data: Bytes) {
        let Phase::Active(active) = &mut self.phase else { return };
        active.disconnect_at = identity.disconnect_after.map(|after| now.instant + after);
        let method = active.authentication_method.clone();
        self.handle_identity(identity);
        let auth = Auth { reason: Reason::Success, method, data: Some(data) };
        self.output.push_back(Output::Send(Packet::Auth(Box::new(auth))));
    }

    /// The answer to [`Output::Open`]: the client may not connect. To
    /// [`Output::Reauthenticate`]: it may not stay.
    pub fn handle_refused(&mut self, now: Now, refusal: &Refusal) {
        let reason = match refusal {
            Refusal::Unavailable(_) => Reason::ServerUnavailable,
            Refusal::BadMethod(_) => Reason::BadAuthenticationMethod,
            _ => Reason::NotAuthorized,
        };
        match &self.phase {
            Phase::Active(_) => self.close(now, Reason::NotAuthorized, None),
            // Ended meanwhile: what it left stays.
            Phase::Closed(_) => {}
            _ => self.refuse(reason, None),
        }
    }

    /// The answer to [`Output::Subscribe`], one reason per filter.
    pub fn handle_subscribed(
        &mut self,
        packet_id: PacketId,
        reasons: Vec<Reason>,
        durability: Durability,
    ) {
        let is_bound =
            |it: &&Reason| matches!(it, Reason::QuotaExceeded | Reason::TopicFilterInvalid);
        let refused = reasons.iter().filter(is_bound).count();
        if refused > 0 {
            self.config.metrics.subscriptions_refused.add(refused as u64);
            self.offend(OffenceKind::Limits, "subscriptions beyond the limits");
        }
        self.answer(durability, Packet::SubAck(SubAck { packet_id, reasons }));
    }

    /// The answer to [`Output::Unsubscribe`], one reason per filter.
    pub fn handle_unsubscribed(
        &mut self,
        packet_id: PacketId,
        reasons: Vec<Reason>,
        durability: Durability,
    ) {
        self.answer(durability, Packet::UnsubAck(SubAck { packet_id, reasons }));
    }

    /// The log has come to the position.
    pub fn handle_durable(&mut self, committed: Position) {
        if let Phase::Active(active) = &mut self.phase {
            active.handle_durable(committed, &mut self.output);
        }
    }

    /// The policies of the client changed, or what else is known of it.
    pub fn handle_identity(&mut self, identity: Identity) {
        if let Phase::Active(active) = &mut self.phase {
            active.set_identity(identity);
        }
    }

    /// Looks whether a deadline has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        if let Phase::Active(active) = &mut self.phase
            && active.paused_at().is_some_and(|at| at <= now.instant)
        {
            active.go_on(now);
            // The client could not show that it is there.
            self.last_packet_at = now.instant;
        }
        if self.poll_timeout().is_none_or(|deadline| now.instant < deadline) {
            return;
        }
        let reason = match &self.phase {
            Phase::Active(active) if active.disconnect_at.is_some_and(|at| at <= now.instant) => {
                Reason::MaximumConnectTime
            }
            _ => Reason::KeepAliveTimeout,
        };
        self.close(now, reason, None);
    }

    /// Ends the connection from the server's side: takeover, shutdown, an administrator.
    pub fn handle_stop(&mut self, now: Now, reason: Reason) {
        match self.phase {
            Phase::Opening(_) | Phase::Challenged(_) => self.refuse(reason, None),
            _ => self.close(now, reason, None),
        }
    }

    /// The socket is gone.
    pub fn handle_lost(&mut self, now: Now) {
        self.finish(now, None, None, true);
    }

    /// The next thing for the driver to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    /// Gives back what is not needed now; to be called before the driver waits.
    pub fn rest(&mut self) {
        if self.output.is_empty() {
            self.output = VecDeque::new();
        }
        if let Phase::Active(active) = &mut self.phase {
            active.rest();
        }
    }

    /// When [`Session::handle_timeout`] has to be called; `None`: never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Fresh => Some(self.last_packet_at + self.config.connect_timeout),
            // The driver bounds them together with what came before.
            Phase::Opening(_) | Phase::Challenged(_) | Phase::Closed(_) => None,
            Phase::Active(active) => {
                // [MQTT-3.1.2-22] one and a half times the keep-alive.
                let keep_alive = (active.keep_alive_s > 0).then(|| {
                    let grace = Duration::from_millis(u64::from(active.keep_alive_s) * 1_500);
                    self.last_packet_at + grace
                });
                let paused_at = active.paused_at();
                keep_alive.into_iter().chain(active.disconnect_at).chain(paused_at).min()
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
        let verdict = connect::check(&connect, &self.config);
        self.phase = Phase::Opening(connect.clone());
        verdict?;
        if let Some(Redirect { to, permanent }) = &self.config.redirect {
            let reason = if *permanent { Reason::ServerMoved } else { Reason::UseAnotherServer };
            let server_reference = Some(to.as_str().into());
            self.refuse_with(ConnAck { server_reference, ..ConnAck::new(reason) });
            return Ok(());
        }
        self.output.push_back(Output::Open(connect));
        Ok(())
    }

    /// What comes between CONNECT and CONNACK in an enhanced authentication: AUTH, or the client
    /// gives up [MQTT-3.1.2-30].
    fn handle_answer(&mut self, now: Now, packet: Packet) -> Result<(), ProtocolError> {
        let Phase::Challenged(connect) = &mut self.phase else { return Ok(()) };
        match packet {
            Packet::Auth(auth) => {
                let method = connect.authentication.as_ref().map(|(method, _)| method);
                connect::check_auth(&auth, method, Reason::ContinueAuthentication)?;
                let phase = std::mem::replace(&mut self.phase, Phase::Fresh);
                if let Phase::Challenged(connect) = phase {
                    self.phase = Phase::Opening(connect);
                }
                self.output.push_back(Output::Continue(*auth));
                Ok(())
            }
            Packet::Disconnect(_) => {
                self.finish(now, None, Some(Reason::Success), false);
                Ok(())
            }
            _ => Err(error(Reason::ProtocolError, "packet other than AUTH before CONNACK")),
        }
    }

    fn handle_active(&mut self, now: Now, packet: Packet) -> Result<(), ProtocolError> {
        let Phase::Active(active) = &mut self.phase else { return Ok(()) };
        match packet {
            Packet::Publish(publish) => self.handle_publish(now, publish)?,
            Packet::PubAck(ack) => active.handle_puback(&ack, &mut self.output)?,
            Packet::PubRec(ack) => active.handle_pubrec(&ack, &mut self.output)?,
            Packet::PubRel(ack) => active.handle_pubrel(&ack, &mut self.output),
            Packet::PubComp(ack) => active.handle_pubcomp(&ack, &mut self.output)?,
            Packet::Subscribe(subscribe) => self.handle_subscribe(*subscribe),
            Packet::Unsubscribe(unsubscribe) => {
                self.output.push_back(Output::Unsubscribe(unsubscribe));
            }
            Packet::PingReq => self.output.push_back(Output::Send(Packet::PingResp)),
            Packet::Disconnect(disconnect) => return self.handle_disconnect(now, &disconnect),
            Packet::Connect(_) => {
                // [MQTT-3.1.0-2]
                return Err(error(Reason::ProtocolError, "second CONNECT"));
            }
            Packet::Auth(auth) => {
                let method = active.authentication_method.as_ref();
                let expected = match active.is_challenged {
                    true => Reason::ContinueAuthentication,
                    false => Reason::ReAuthenticate,
                };
                connect::check_auth(&auth, method, expected)?;
                active.is_challenged = true;
                self.output.push_back(Output::Reauthenticate(*auth));
            }
            _ => return Err(error(Reason::ProtocolError, "packet that no client sends")),
        }
        Ok(())
    }

    fn handle_subscribe(&mut self, subscribe: Subscribe) {
        let Phase::Active(active) = &self.phase else { return };
        let Config { limits, compat, .. } = &*self.config;
        let has_id = subscribe.subscription_id.is_some();
        let filters = subscribe.filters.into_iter().enumerate();
        let filters = filters.map(|(position, (filter, options))| {
            if position >= limits.filters_per_subscribe as usize {
                return Err(Reason::QuotaExceeded);
            }
            if *compat == Compat::Aws && has_id {
                return Err(Reason::SubscriptionIdsNotSupported);
            }
            let verdict = connect::check_filter(&filter, limits, &active.permissions);
            if verdict == Err(Reason::NotAuthorized) {
                self.config.metrics.subscribe_denied.increment();
                tracing::info!(client_id = %active.client_id(), %filter, "subscribe denied");
            }
            let verdict = verdict.map_err(|reason| active.told(reason));
            verdict.map(|()| (filter, compat.options(options)))
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

    /// Tells an offence, if it counts for anybody.
    fn offend(&mut self, kind: OffenceKind, what: impl Into<Cow<'static, str>>) {
        if self.config.tells_offences
            && let Phase::Active(active) = &self.phase
            && let Some(offence) = active.offence(kind, what.into())
        {
            self.output.push_back(Output::Offence(Box::new(offence)));
        }
    }

    /// Sends an answer when it may go out: answers stay in the order of what they answer
    /// [MQTT-4.6.0-2].
    fn answer(&mut self, durability: Durability, packet: Packet) {
        if let Phase::Active(active) = &mut self.phase {
            active.answer(durability, packet, &mut self.output);
        }
    }

    /// Refuses a CONNECT.
    fn refuse(&mut self, reason: Reason, what: Option<&'static str>) {
        let reason_string = what.map(Into::into);
        self.refuse_with(ConnAck { reason_string, ..ConnAck::new(reason) });
    }

    fn refuse_with(&mut self, connack: ConnAck) {
        self.config.metrics.connections_refused.increment();
        let reason = Some(connack.reason);
        self.output.push_back(Output::Send(Packet::ConnAck(Box::new(connack))));
        self.output.push_back(Output::Close);
        self.phase = Phase::Closed(Box::new(Ended { reason, left: None }));
    }

    /// Ends a connection from the server's side.
    fn close(&mut self, now: Now, reason: Reason, what: Option<&'static str>) {
        // Only a client that is connected with MQTT 5 understands a DISCONNECT.
        let farewell = match &self.phase {
            Phase::Active(active) if active.version == Version::V5 => Some(Disconnect {
                reason,
                session_expiry_s: None,
                reason_string: what.map(Into::into),
            }),
            _ => None,
        };
        self.finish(now, farewell, Some(reason), true);
    }

    fn finish(
        &mut self,
        now: Now,
        farewell: Option<Disconnect>,
        why: Option<Reason>,
        with_will: bool,
    ) {
        if self.is_closed() {
            return;
        }
        if let Some(packet) = farewell {
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

/// Whether the client exceeded a limit or sent what is none of the protocol.
fn kind_of(reason: Reason) -> OffenceKind {
    match reason {
        Reason::PacketTooLarge
        | Reason::TopicNameInvalid
        | Reason::TopicFilterInvalid
        | Reason::ReceiveMaximumExceeded => OffenceKind::Limits,
        _ => OffenceKind::Malformed,
    }
}

impl Compat {
    /// What a subscription is granted.
    fn options(self, wished: SubscribeOptions) -> SubscribeOptions {
        match self {
            Self::Mqtt => wished,
            Self::Aws => SubscribeOptions {
                // A lower QoS may be granted [MQTT-3.8.4-8].
                qos: wished.qos.min(QoS::AtLeastOnce),
                without_parent: true,
                ..wished
            },
        }
    }
}

/// A client's will as a message.
pub fn will_message(will: &Will, publisher: Arc<Publisher>, now: Timestamp) -> Message {
    Message {
        topic: will.topic.clone(),
        payload: will.payload.clone(),
        qos: will.qos,
        retain: will.retain,
        hops: 0,
        received_at: now,
        publisher,
        properties: will.properties.clone(),
    }
}

#[cfg(test)]
mod tests;
