//! PUBLISH and its acknowledgements, both ways (MQTT 5.0, 4.3).
//!
//! From the client: checked, given to the broker, acknowledged when it is durable where it has to
//! be. To the client: numbered, in flight until it is acknowledged. QoS 2 either way holds its
//! identifier until the last packet of the handshake, across connections too.

use super::active::{Active, UnderWay, Verdict, ack};
use super::{
    Arc, Compat, Delivered, Delivery, Durability, Message, OffenceKind, Output, Packet, PacketId,
    Phase, Position, ProtocolError, Publish, Published, QoS, Reason, Resumable, Session, VecDeque,
    Version, error,
};
use crate::packet::Ack;
use crate::session::Config;
use crate::time::Now;

/// Of a message that the broker has not been given yet.
const NOT_PUBLISHED: Position = Position(u64::MAX);

impl Session {
    /// The answer to [`Output::Publish`].
    pub fn handle_published(
        &mut self,
        now: Now,
        qos: QoS,
        packet_id: Option<PacketId>,
        published: Published,
    ) {
        let Some(id) = packet_id else { return };
        let durability = published.durability;
        // Also when the connection ended behind the PUBLISH: the next one goes on from there.
        let resumable = match &mut self.phase {
            Phase::Active(active) => Some(&mut active.under_way_mut().resumable),
            Phase::Closed(ended) => ended.left.as_mut().map(|left| &mut left.resumable),
            _ => None,
        };
        if let Some(resumable) = resumable
            && qos == QoS::ExactlyOnce
        {
            resumable.handle_taken(id, durability);
        }
        let Phase::Active(active) = &mut self.phase else { return };
        if durability == Durability::Refused && active.version == Version::V311 {
            // It has no refusal: an acknowledgement would say that the message is safe.
            return self.close(now, Reason::QuotaExceeded, None);
        }
        let reason = match durability {
            Durability::Refused => Reason::QuotaExceeded,
            _ if published.receivers == 0 => Reason::NoMatchingSubscribers,
            _ => Reason::Success,
        };
        if qos == QoS::AtLeastOnce {
            return active.answer(durability, Packet::PubAck(ack(id, reason)), &mut self.output);
        }
        active.answer(durability, Packet::PubRec(ack(id, reason)), &mut self.output);
    }

    /// The answer to [`Output::Released`].
    pub fn handle_released(&mut self, packet_id: PacketId, durability: Durability) {
        self.answer(durability, Packet::PubRel(ack(packet_id, Reason::Success)));
    }

    /// The answer to [`Output::Completed`].
    pub fn handle_completed(&mut self, packet_id: PacketId, durability: Durability) {
        self.answer(durability, Packet::PubComp(ack(packet_id, Reason::Success)));
    }

    /// Takes a message for the client; at most [`Session::delivery_room`] at a time.
    pub fn handle_delivery(&mut self, now: Now, delivery: Delivery) {
        let Phase::Active(active) = &mut self.phase else { return };
        let is_withheld = !active.may_receive(&delivery.message.topic);
        // [MQTT-3.3.2-5] expired while it waited; what was sent before has to be completed.
        let left = left_of_expiry(now, &delivery.message);
        let is_expired = left == Some(0) && !delivery.dup;
        if is_withheld || is_expired {
            let metrics = &self.config.metrics;
            let counter =
                if is_withheld { &metrics.receive_denied } else { &metrics.messages_expired };
            counter.increment();
            if let Some(packet_id) = delivery.packet_id {
                active.done(packet_id, &mut self.output);
            }
            return;
        }
        let packet_id = match delivery.qos {
            QoS::AtMostOnce => None,
            _ => Some(active.send(delivery.clone())),
        };
        let alias = active.alias(&delivery.message.topic);
        self.output.push_back(Output::Deliver(Delivered {
            message: delivery.message,
            dup: delivery.dup,
            qos: delivery.qos,
            retain: delivery.retain,
            packet_id,
            subscription_ids: delivery.subscription_ids,
            expiry_s: left,
            alias,
        }));
    }

    /// A delivery did not fit into the client's Maximum Packet Size: it counts as done
    /// [MQTT-3.1.2-25].
    pub fn handle_undeliverable(&mut self, delivered: &Delivered) {
        self.config.metrics.messages_dropped.increment();
        let Phase::Active(active) = &mut self.phase else { return };
        if delivered.alias.is_some_and(|alias| alias.is_new) {
            active.forget_alias(&delivered.message.topic);
        }
        if let Some(packet_id) = delivered.packet_id
            && active.take_inflight(packet_id).is_some()
        {
            active.done(packet_id, &mut self.output);
        }
    }

    pub(super) fn handle_publish(
        &mut self,
        now: Now,
        publish: Publish,
    ) -> Result<(), ProtocolError> {
        let Phase::Active(active) = &mut self.phase else { return Ok(()) };
        let limits = &self.config.limits;
        self.config.metrics.messages_received.increment();
        if active.count_publish(now, limits.publishes_per_second) {
            self.config.metrics.publishes_paused.increment();
            self.offend(OffenceKind::Limits, "more publications in a second than the limit");
        }
        let Phase::Active(active) = &mut self.phase else { return Ok(()) };
        let limits = &self.config.limits;
        let topic = active.resolve(publish.topic, publish.topic_alias, limits)?;
        if publish.qos == QoS::ExactlyOnce && self.config.compat == Compat::Aws {
            return Err(error(Reason::QoSNotSupported, "PUBLISH with QoS 2"));
        }
        if publish.payload.len() > limits.payload_bytes as usize {
            return Err(error(Reason::PacketTooLarge, "payload beyond the limit"));
        }
        if publish.properties.as_ref().is_some_and(|it| !limits.allow_properties(it)) {
            return Err(error(Reason::PacketTooLarge, "properties beyond the limits"));
        }
        if let Some(packet_id) = publish.packet_id
            && !active.receive(publish.qos, packet_id, &self.config, &mut self.output)?
        {
            return Ok(());
        }
        // A request is no state, and AWS keeps none.
        let retain = publish.retain && !topic.is_reserved();
        let verdict = active.may_publish(&topic, retain, limits)?;
        if verdict != Verdict::Allowed && active.permissions.is_quarantined() {
            self.config.metrics.quarantine_dropped.increment();
            self.deny(now, verdict, publish.qos, publish.packet_id);
            return Ok(());
        }
        if verdict != Verdict::Allowed {
            self.config.metrics.publish_denied.increment();
            tracing::info!(client_id = %active.client_id(), %topic, "publish denied");
            self.deny(now, verdict, publish.qos, publish.packet_id);
            return Ok(());
        }
        let is_clearing = retain && publish.payload.is_empty();
        if let Some(schema) = active.payload_schema.as_ref().filter(|_| !is_clearing)
            && let Err(problem) = schema.check(&topic, &publish.payload)
        {
            let is_dropped = schema.enforces();
            self.config.metrics.payloads_mismatched.increment();
            tracing::info!(
                client_id = %active.client_id(), %topic, problem, is_dropped,
                "payload does not match the schema of the thing type"
            );
            self.offend(OffenceKind::Schema, problem);
            if is_dropped {
                self.deny(now, Verdict::Mismatched, publish.qos, publish.packet_id);
                return Ok(());
            }
        }
        let Phase::Active(active) = &self.phase else { return Ok(()) };
        let mut properties = publish.properties;
        if let Some(propagated) = &active.propagated {
            // Behind the client's own, so that whoever takes the last of a name is not deceived.
            let user = &mut properties.get_or_insert_default().user;
            user.extend(propagated.iter().cloned());
        }
        let message = Arc::new(Message {
            topic,
            payload: publish.payload,
            qos: publish.qos,
            retain,
            hops: 0,
            received_at: now.wall,
            publisher: active.publisher.clone(),
            properties,
        });
        self.output.push_back(Output::Publish { message, packet_id: publish.packet_id });
        Ok(())
    }

    /// Answers a PUBLISH that is not allowed. MQTT 5 has a reason for it. 3.1.1 has none: the
    /// message is acknowledged and dropped, or the connection closed [MQTT-3.3.5-2]. AWS closes;
    /// here a reserved topic is no attack when the listener follows the standard, nor is a payload that
    /// does not match a schema, and a client in quarantine stays.
    fn deny(&mut self, now: Now, verdict: Verdict, qos: QoS, packet_id: Option<PacketId>) {
        let Phase::Active(active) = &mut self.phase else { return };
        let is_harmless = match verdict {
            Verdict::Reserved => self.config.compat == Compat::Mqtt,
            Verdict::Mismatched => true,
            Verdict::Allowed | Verdict::Denied => false,
        };
        let reason = match (active.version, packet_id) {
            (Version::V5, Some(_)) if verdict == Verdict::Mismatched => {
                Reason::PayloadFormatInvalid
            }
            (Version::V5, Some(_)) => Reason::NotAuthorized,
            _ if is_harmless || active.permissions.is_quarantined() => Reason::Success,
            _ => return self.close(now, Reason::NotAuthorized, None),
        };
        let Some(id) = packet_id else { return };
        let packet = match qos {
            QoS::ExactlyOnce => Packet::PubRec(ack(id, reason)),
            _ => Packet::PubAck(ack(id, reason)),
        };
        if reason.is_error() {
            active.under_way_mut().resumable.incoming.remove(&id);
        } else if let Some(position) = active.under_way_mut().resumable.incoming.get_mut(&id) {
            *position = Position::default();
        }
        active.answer(Durability::Done, packet, &mut self.output);
    }
}

impl Resumable {
    /// The broker has taken the client's QoS 2 message, or not.
    fn handle_taken(&mut self, id: PacketId, durability: Durability) {
        if durability == Durability::Refused {
            self.incoming.remove(&id);
        } else if let Some(position) = self.incoming.get_mut(&id) {
            *position = match durability {
                Durability::At(position) => position,
                Durability::Done | Durability::Refused => Position::default(),
            };
        }
    }
}

impl Active {
    /// Notes that a QoS 1 or 2 PUBLISH came; false when it came before.
    fn receive(
        &mut self,
        qos: QoS,
        packet_id: PacketId,
        config: &Config,
        output: &mut VecDeque<Output>,
    ) -> Result<bool, ProtocolError> {
        let version = self.version;
        let UnderWay { resumable, unanswered, .. } = self.under_way_mut();
        let incoming = &mut resumable.incoming;
        if qos == QoS::ExactlyOnce
            && let Some(&position) = incoming.get(&packet_id)
        {
            // [MQTT-4.3.3-10], [MQTT-4.3.3-11]: acknowledged again, not published again.
            if position != NOT_PUBLISHED {
                let packet = Packet::PubRec(ack(packet_id, Reason::Success));
                self.answer(Durability::At(position), packet, output);
            }
            return Ok(false);
        }
        let under_way = incoming.len() + usize::from(*unanswered);
        if version == Version::V5 && under_way >= usize::from(config.limits.inflight_messages) {
            // [MQTT-3.3.4-9] is the client's; what the server does: 3.2.2.3.3.
            let what = "more unacknowledged messages than the server takes";
            return Err(error(Reason::ReceiveMaximumExceeded, what));
        }
        match qos {
            QoS::ExactlyOnce => {
                incoming.insert(packet_id, NOT_PUBLISHED);
            }
            _ => *unanswered = unanswered.saturating_add(1),
        }
        Ok(true)
    }

    pub(super) fn handle_puback(
        &mut self,
        ack: &Ack,
        output: &mut VecDeque<Output>,
    ) -> Result<(), ProtocolError> {
        if self.is_at(ack.packet_id, QoS::ExactlyOnce)
            || self.under_way().resumable.released.contains(&ack.packet_id)
        {
            return Err(error(Reason::ProtocolError, "PUBACK for a message of QoS 2"));
        }
        if self.take_inflight(ack.packet_id).is_some() {
            self.done(ack.packet_id, output);
        }
        Ok(())
    }

    pub(super) fn handle_pubrec(
        &mut self,
        received: &Ack,
        output: &mut VecDeque<Output>,
    ) -> Result<(), ProtocolError> {
        let id = received.packet_id;
        if self.is_at(id, QoS::AtLeastOnce) {
            return Err(error(Reason::ProtocolError, "PUBREC for a message of QoS 1"));
        }
        let is_ours = self.take_inflight(id).is_some();
        // A refusal ends the delivery, and is not answered [MQTT-4.3.3-4].
        if received.reason.is_error() {
            if is_ours {
                self.done(id, output);
            }
        } else if !is_ours {
            let is_known = self.under_way().resumable.released.contains(&id);
            let reason = if is_known { Reason::Success } else { Reason::PacketIdNotFound };
            self.answer(Durability::Done, Packet::PubRel(ack(id, reason)), output);
        } else {
            self.under_way_mut().resumable.released.push(id);
            if self.is_durable {
                // Answered when it is durable: after a restart the client must not get the
                // message again.
                output.push_back(Output::Released(id));
            } else {
                self.answer(Durability::Done, Packet::PubRel(ack(id, Reason::Success)), output);
            }
        }
        Ok(())
    }

    pub(super) fn handle_pubrel(&mut self, received: &Ack, output: &mut VecDeque<Output>) {
        let id = received.packet_id;
        let existed = self.under_way_mut().resumable.incoming.remove(&id).is_some();
        if existed && self.is_durable {
            // Answered when it is durable: the client may use the identifier anew then.
            return output.push_back(Output::Completed(id));
        }
        let reason = if existed { Reason::Success } else { Reason::PacketIdNotFound };
        self.answer(Durability::Done, Packet::PubComp(ack(id, reason)), output);
    }

    pub(super) fn handle_pubcomp(
        &mut self,
        received: &Ack,
        output: &mut VecDeque<Output>,
    ) -> Result<(), ProtocolError> {
        let id = received.packet_id;
        let UnderWay { resumable, inflight, .. } = self.under_way_mut();
        let released = &mut resumable.released;
        if let Some(at) = released.iter().position(|it| *it == id) {
            released.remove(at);
            self.done(id, output);
        } else if inflight.iter().any(|(it, _)| *it == id) {
            return Err(error(Reason::ProtocolError, "PUBCOMP before PUBREL"));
        }
        Ok(())
    }

    /// True when the message with the identifier is under way with this QoS.
    fn is_at(&self, packet_id: PacketId, qos: QoS) -> bool {
        let found = self.under_way().inflight.iter().find(|(id, _)| *id == packet_id);
        found.is_some_and(|(_, delivery)| delivery.qos == qos)
    }
}

/// Seconds that are left of the message's expiry; 0 when it has expired, `None` when it never does.
fn left_of_expiry(now: Now, message: &Message) -> Option<u32> {
    let left_ms = message.expires_at()?.as_millis().saturating_sub(now.wall.as_millis());
    // Rounded up: a message of one second is not gone at once.
    u32::try_from(left_ms.div_ceil(1_000)).ok()
}
