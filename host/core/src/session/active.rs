//! What a connected client has under way.
//!
//! Kept small, because every connection has one: what few clients use is boxed or not allocated.

use super::connect::keep_alive_s;
use super::{
    Ack, Action, Config, Cow, Delivery, Durability, Identity, Left, Limits, Offence, OffenceKind,
    Offender, Opened, Output, Packet, PacketId, Permissions, Position, ProtocolError, Publisher,
    Reason, Resource, Resumable, ThingName, TopicName, Version, Will, error, reserved,
    will_message,
};
use crate::ids::ClientId;
use crate::packet::{Connect, TopicAlias, UserProperties};
use crate::payload_schema::PayloadSchema;
use crate::time::Now;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) struct Active {
    pub(super) version: Version,
    pub(super) publisher: Arc<Publisher>,
    pub(super) permissions: Permissions,
    thing: Option<ThingName>,
    pub(super) payload_schema: Option<Arc<PayloadSchema>>,
    /// Added to what the client publishes.
    pub(super) propagated: Option<Arc<UserProperties>>,
    /// 0: off.
    pub(super) keep_alive_s: u16,
    pub(super) session_expiry_s: u32,
    will: Option<Box<Will>>,
    /// Of enhanced authentication.
    pub(super) authentication_method: Option<Arc<str>>,
    /// The client authenticates again and was not answered yet.
    pub(super) is_challenged: bool,
    pub(super) aliases: Option<Box<Aliases>>,
    /// `None` before the first message, either way.
    verdicts: Option<Box<Verdicts>>,
    /// QoS 1 and 2 messages that the client takes unacknowledged.
    window: u16,
    /// The session outlives the connection: the log is told of its progress.
    pub(super) is_durable: bool,
    last_packet_id: u16,
    /// `None` when nothing is.
    under_way: Option<Box<UnderWay>>,
    pub(super) disconnect_at: Option<Instant>,
    committed: Position,
    /// `None` when the client may publish as fast as it can.
    rate: Option<Box<Rate>>,
}

/// Messages of QoS 1 and 2 whose handshakes are not over, and answers that are owed.
#[derive(Default)]
pub(super) struct UnderWay {
    /// Sent and not yet acknowledged, in the order of sending.
    pub(super) inflight: VecDeque<(PacketId, Delivery)>,
    pub(super) resumable: Resumable,
    /// Answers that wait for the log, and behind them those that must not overtake.
    answers: VecDeque<(Position, Packet)>,
    /// QoS 1 messages of the client that were not acknowledged yet.
    pub(super) unanswered: u16,
}

static NOTHING: UnderWay = UnderWay {
    inflight: VecDeque::new(),
    resumable: Resumable { released: Vec::new(), incoming: BTreeMap::new() },
    answers: VecDeque::new(),
    unanswered: 0,
};

impl UnderWay {
    fn is_empty(&self) -> bool {
        self.inflight.is_empty()
            && self.resumable == NOTHING.resumable
            && self.answers.is_empty()
            && self.unanswered == 0
    }
}

/// What the policies say of the topics used last: a client tends to stay on its topic.
#[derive(Default)]
struct Verdicts {
    /// The topic published to last, and what the client may there.
    publish: Option<(TopicName, MayPublish)>,
    /// The topic received last, and whether the client may.
    receive: Option<(TopicName, bool)>,
}

/// How fast a client publishes.
struct Rate {
    /// Of the second that is counted.
    start: Instant,
    publishes: u32,
    /// Nothing more is taken until the next tick after this.
    paused_at: Option<Instant>,
}

/// What a client may do on a topic.
#[derive(Clone, Copy)]
struct MayPublish {
    publish: Verdict,
    /// `None`: not asked yet.
    retain: Option<bool>,
}

/// Whether a client may publish.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allowed,
    /// The topic begins with `$` and is nobody's request topic.
    Reserved,
    /// No policy allows it.
    Denied,
    /// The schema of the thing's type does not allow the payload, and is enforced.
    Mismatched,
}

/// Topic aliases, both ways (MQTT 5.0, 3.3.2.3.4).
#[derive(Default)]
pub(super) struct Aliases {
    /// The client's: names by alias - 1.
    incoming: Vec<Option<TopicName>>,
    /// Ours.
    outgoing: HashMap<TopicName, NonZeroU16>,
    /// How many of ours the client takes.
    outgoing_max: u16,
}

impl Active {
    pub(super) fn new(connect: Connect, opened: Opened, config: &Config, now: Now) -> Self {
        let limits = &config.limits;
        let outgoing_max = connect.topic_alias_maximum.min(limits.topic_aliases);
        let keep_alive_s = keep_alive_s(&connect, config);
        Self {
            version: connect.version,
            publisher: opened.publisher,
            permissions: opened.identity.permissions,
            thing: opened.identity.thing,
            payload_schema: opened.identity.payload_schema,
            propagated: opened.identity.propagated,
            keep_alive_s,
            session_expiry_s: connect.session_expiry_s.min(limits.session_expiry_s),
            will: connect.will,
            authentication_method: connect.authentication.map(|(method, _)| method),
            is_challenged: false,
            aliases: (outgoing_max > 0)
                .then(|| Box::new(Aliases { outgoing_max, ..Aliases::default() })),
            verdicts: None,
            window: connect
                .receive_maximum
                .map_or(u16::MAX, NonZeroU16::get)
                .min(limits.inflight_messages),
            is_durable: opened.is_durable,
            last_packet_id: 0,
            under_way: opened
                .resumed
                .map(|resumable| Box::new(UnderWay { resumable, ..UnderWay::default() })),
            disconnect_at: opened.identity.disconnect_after.map(|after| now.instant + after),
            committed: opened.committed,
            rate: (limits.publishes_per_second > 0)
                .then(|| Box::new(Rate { start: now.instant, publishes: 0, paused_at: None })),
        }
    }

    /// For logs.
    pub(super) fn client_id(&self) -> &str {
        self.publisher.client_id.as_ref().map(ClientId::as_str).unwrap_or_default()
    }

    /// Counts a PUBLISH; true when it is the last one that is taken in this second.
    pub(super) fn count_publish(&mut self, now: Now, per_second: u32) -> bool {
        let Some(rate) = &mut self.rate else { return false };
        if now.instant.saturating_duration_since(rate.start) >= Duration::from_secs(1) {
            rate.start = now.instant;
            rate.publishes = 0;
        }
        rate.publishes += 1;
        let is_last = rate.publishes >= per_second && rate.paused_at.is_none();
        if is_last {
            rate.paused_at = Some(now.instant);
        }
        is_last
    }

    /// Since when the client has to wait with its next PUBLISH.
    pub(super) fn paused_at(&self) -> Option<Instant> {
        self.rate.as_ref().and_then(|rate| rate.paused_at)
    }

    /// A second has ended.
    pub(super) fn go_on(&mut self, now: Now) {
        if let Some(rate) = &mut self.rate {
            **rate = Rate { start: now.instant, publishes: 0, paused_at: None };
        }
    }

    pub(super) fn set_identity(&mut self, identity: Identity) {
        self.permissions = identity.permissions;
        self.thing = identity.thing;
        self.payload_schema = identity.payload_schema;
        self.propagated = identity.propagated;
        self.verdicts = None;
        self.is_challenged = false;
    }

    /// What the client did; `None` when there is nobody to be put into quarantine for it: nobody knows
    /// who an anonymous client is, and who is there already cannot come there.
    pub(super) fn offence(&self, kind: OffenceKind, what: Cow<'static, str>) -> Option<Offence> {
        let Publisher { client_id: Some(client_id), principal: Some(principal) } = &*self.publisher
        else {
            return None;
        };
        if self.permissions.is_quarantined() {
            return None;
        }
        let offender = match &self.thing {
            Some(thing) => Offender::Thing(thing.clone()),
            None => Offender::Principal(principal.clone()),
        };
        let (client_id, principal) = (client_id.clone(), principal.clone());
        Some(Offence { offender, client_id, principal, kind, what })
    }

    pub(super) fn under_way(&self) -> &UnderWay {
        self.under_way.as_deref().unwrap_or(&NOTHING)
    }

    pub(super) fn under_way_mut(&mut self) -> &mut UnderWay {
        self.under_way.get_or_insert_default()
    }

    /// Gives back what is not needed now.
    pub(super) fn rest(&mut self) {
        self.under_way.take_if(|it| it.is_empty());
    }

    /// Answers that wait for the log.
    pub(super) fn waiting(&self) -> usize {
        self.under_way().answers.len()
    }

    /// A refusal as the client is told: whoever is nobody does not learn what others may.
    pub(super) fn told(&self, reason: Reason) -> Reason {
        match reason {
            Reason::NotAuthorized if self.publisher.principal.is_none() => Reason::UnspecifiedError,
            reason => reason,
        }
    }

    /// Room in the client's receive window.
    pub(super) fn room(&self) -> usize {
        let UnderWay { inflight, resumable, .. } = self.under_way();
        let used = inflight.len() + resumable.released.len();
        usize::from(self.window).saturating_sub(used)
    }

    pub(super) fn answer(
        &mut self,
        durability: Durability,
        packet: Packet,
        output: &mut VecDeque<Output>,
    ) {
        let position = match durability {
            Durability::At(position) => position,
            Durability::Done | Durability::Refused => Position::default(),
        };
        if self.waiting() == 0 && position <= self.committed {
            self.send_answer(packet, output);
        } else {
            self.under_way_mut().answers.push_back((position, packet));
        }
    }

    pub(super) fn handle_durable(&mut self, committed: Position, output: &mut VecDeque<Output>) {
        self.committed = self.committed.max(committed);
        while let Some((position, _)) = self.under_way().answers.front()
            && *position <= self.committed
            && let Some((_, packet)) = self.under_way_mut().answers.pop_front()
        {
            self.send_answer(packet, output);
        }
    }

    fn send_answer(&mut self, packet: Packet, output: &mut VecDeque<Output>) {
        if let Packet::PubAck(_) = packet {
            let under_way = self.under_way_mut();
            under_way.unanswered = under_way.unanswered.saturating_sub(1);
        }
        output.push_back(Output::Send(packet));
    }

    /// The topic of a PUBLISH, by its alias if need be.
    pub(super) fn resolve(
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
        let aliases = &mut self.aliases.get_or_insert_default().incoming;
        if let Some(topic) = topic {
            if aliases.len() <= position {
                aliases.resize(position + 1, None);
            }
            aliases[position] = Some(topic.clone());
            return Ok(topic);
        }
        let known = aliases.get(position).cloned().flatten();
        known.ok_or(error(Reason::ProtocolError, "topic alias that stands for nothing"))
    }

    /// The alias for a topic that is sent to the client; the first topics get one.
    pub(super) fn alias(&mut self, topic: &TopicName) -> Option<TopicAlias> {
        let aliases = self.aliases.as_mut().filter(|aliases| aliases.outgoing_max > 0)?;
        if let Some(&number) = aliases.outgoing.get(topic) {
            return Some(TopicAlias { number, is_new: false });
        }
        let number = u16::try_from(aliases.outgoing.len() + 1).ok().and_then(NonZeroU16::new)?;
        if number.get() > aliases.outgoing_max {
            return None;
        }
        aliases.outgoing.insert(topic.clone(), number);
        Some(TopicAlias { number, is_new: true })
    }

    /// The packet that would have told the newest alias was not sent.
    pub(super) fn forget_alias(&mut self, topic: &TopicName) {
        if let Some(aliases) = &mut self.aliases {
            aliases.outgoing.remove(topic);
        }
    }

    /// Whether the client may publish to the topic, as a retained message if it is one.
    pub(super) fn may_publish(
        &mut self,
        topic: &TopicName,
        retain: bool,
        limits: &Limits,
    ) -> Result<Verdict, ProtocolError> {
        let known = self.verdicts.as_ref().and_then(|verdicts| verdicts.publish.as_ref());
        let mut may = match known {
            Some((last, may)) if last == topic => *may,
            _ if !limits.allow_topic(topic.as_str()) => {
                return Err(error(Reason::TopicNameInvalid, "topic name beyond the limits"));
            }
            _ => MayPublish { publish: self.verdict(Action::Publish, topic), retain: None },
        };
        if retain && may.publish == Verdict::Allowed && may.retain.is_none() {
            let verdict = self.verdict(Action::RetainPublish, topic);
            may.retain = Some(verdict == Verdict::Allowed);
        }
        match &mut self.verdicts.get_or_insert_default().publish {
            Some((last, known)) if last == topic => *known = may,
            other => *other = Some((topic.clone(), may)),
        }
        match may.retain {
            Some(false) if retain => Ok(Verdict::Denied),
            _ => Ok(may.publish),
        }
    }

    fn verdict(&self, action: Action, topic: &TopicName) -> Verdict {
        if !reserved::may_publish(topic) {
            Verdict::Reserved
        } else if self.permissions.allows(action, Resource::Topic(topic.as_str())) {
            Verdict::Allowed
        } else {
            Verdict::Denied
        }
    }

    pub(super) fn may_receive(&mut self, topic: &TopicName) -> bool {
        if let Some(verdicts) = &self.verdicts
            && let Some((last, verdict)) = &verdicts.receive
            && last == topic
        {
            return *verdict;
        }
        let verdict = self.permissions.allows(Action::Receive, Resource::Topic(topic.as_str()));
        self.verdicts.get_or_insert_default().receive = Some((topic.clone(), verdict));
        verdict
    }

    /// Puts the delivery in flight; what the log keeps is numbered already.
    pub(super) fn send(&mut self, delivery: Delivery) -> PacketId {
        // The window is smaller than the number of identifiers, so one is free.
        let packet_id = delivery.packet_id.unwrap_or_else(|| {
            loop {
                self.last_packet_id = self.last_packet_id.wrapping_add(1);
                if let Some(id) = PacketId::new(self.last_packet_id)
                    && !self.is_in_use(id)
                {
                    break id;
                }
            }
        });
        self.under_way_mut().inflight.push_back((packet_id, delivery));
        packet_id
    }

    fn is_in_use(&self, id: PacketId) -> bool {
        let UnderWay { inflight, resumable, .. } = self.under_way();
        inflight.iter().any(|(used, _)| *used == id) || resumable.released.contains(&id)
    }

    /// Takes a delivery out of flight.
    pub(super) fn take_inflight(&mut self, packet_id: PacketId) -> Option<Delivery> {
        // Clients acknowledge in order, so the first is the one.
        let inflight = &mut self.under_way.as_mut()?.inflight;
        let at = inflight.iter().position(|(id, _)| *id == packet_id)?;
        inflight.remove(at).map(|(_, delivery)| delivery)
    }

    /// The session is done with a delivery.
    pub(super) fn done(&self, packet_id: PacketId, output: &mut VecDeque<Output>) {
        if self.is_durable {
            output.push_back(Output::Acknowledged(packet_id));
        }
    }

    pub(super) fn leave(mut self, now: Now, with_will: bool) -> Left {
        let will = self.will.take().filter(|_| with_will).and_then(|will| {
            // The right may have been withdrawn since CONNECT.
            let topic = Resource::Topic(will.topic.as_str());
            if !self.permissions.allows(Action::Publish, topic) {
                tracing::warn!(client_id = %self.client_id(), "will withheld: no longer allowed");
                return None;
            }
            // [MQTT-3.1.3-9] the delay ends with the session.
            let delay_s = will.delay_s.min(self.session_expiry_s);
            let message = will_message(&will, self.publisher.clone(), now.wall);
            Some((delay_s, Arc::new(message)))
        });
        let UnderWay { inflight, resumable, .. } = self.under_way.map(|it| *it).unwrap_or_default();
        let unacknowledged = inflight.into_iter().map(|(id, delivery)| Delivery {
            packet_id: Some(id),
            dup: true,
            ..delivery
        });
        Left {
            unacknowledged: unacknowledged.collect(),
            resumable,
            session_expiry_s: self.session_expiry_s,
            will,
        }
    }
}

/// An acknowledgement of the server's.
pub(super) fn ack(packet_id: PacketId, reason: Reason) -> Ack {
    Ack { packet_id, reason }
}
