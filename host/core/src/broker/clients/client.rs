//! A connection's hold on its client id: publishing, subscribing and leaving on its behalf.
//!
//! Made by [`Clients::open`]. Not here: permission checks and packets (`session`).

use super::revoked::Verdict;
use super::{Clients, Entry, Parked};
use crate::broker::log::{Entry as LogEntry, Event, Recipient, SessionNumber};
use crate::broker::presence::Connected;
use crate::broker::queue::Queue;
use crate::broker::record::{self, SessionRecord};
use crate::broker::retained::Place;
use crate::broker::{Delivery, Publication, Published, Receiver, RouteCache, Wakes};
use crate::ids::{ClientId, ThingName};
use crate::message::{Message, Publisher, QoS, SubscriptionId};
use crate::packet::{PacketId, Reason, RetainHandling, SubscribeOptions};
use crate::session::Left;
use crate::storage::{Durability, Key};
use crate::time::{Now, Timestamp};
use crate::topic::TopicFilter;
use bytes::Bytes;
use std::sync::Arc;

/// A connection's hold on its client id. Dropping it without [`Client::close`] ends the session.
pub struct Client {
    pub(super) clients: Clients,
    pub(super) publisher: Arc<Publisher>,
    /// Bytes of the number: every connection has one, and a number would be aligned to 16.
    pub(super) session_identifier: [u8; 16],
    pub(super) version: u32,
    pub(super) queue: Arc<Queue>,
    /// Some until closed.
    pub(super) receiver: Option<Receiver>,
    /// Some for a session that outlives the connection.
    pub(super) record: Option<Box<SessionRecord>>,
    pub(super) route: Option<Box<RouteCache>>,
    /// Retained messages that the client is still to get; boxed, because few clients wait for any.
    #[allow(clippy::box_collection, reason = "a client without scans is to be small")]
    pub(super) scans: Option<Box<Vec<Scan>>>,
    /// What its principal is attached to exclusively; boxed, because few clients have such a thing.
    pub(super) thing: Option<Box<ThingName>>,
}

/// A subscription whose retained messages are being sent.
pub(super) struct Scan {
    filter: TopicFilter,
    options: SubscribeOptions,
    id: Option<SubscriptionId>,
    next: Option<Place>,
}

impl Client {
    /// The client id.
    pub fn id(&self) -> &ClientId {
        self.queue.id()
    }

    /// Of its messages: the client id, and its principal.
    pub fn publisher(&self) -> &Arc<Publisher> {
        &self.publisher
    }

    /// The thing that its principal is attached to exclusively has changed.
    pub fn set_thing(&mut self, thing: Option<&ThingName>) {
        self.thing = thing.cloned().map(Box::new);
    }

    /// Messages for the client, and word that it has to stop.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Publishes for the client; `packet_id` of a QoS 2 message is taken with it.
    pub fn publish(
        &mut self,
        message: &Arc<Message>,
        packet_id: Option<PacketId>,
        wakes: &mut Wakes,
    ) -> Published {
        let taken = self.queue.session().zip(packet_id).filter(|_| message.qos == QoS::ExactlyOnce);
        let notify = (message.qos > QoS::AtMostOnce).then(|| self.queue.clone());
        let publication = Publication { taken, notify };
        self.clients.0.broker.publish_cached(&mut self.route, message, publication, wakes)
    }

    /// Tells the log of a durable session what happened.
    pub fn happened(
        &self,
        event: fn(SessionNumber, PacketId) -> Event,
        id: PacketId,
    ) -> Durability {
        let Some(session) = self.queue.session() else { return Durability::Done };
        let notify = Some(self.queue.clone());
        let entry = LogEntry { notify, ..event(session, id).into() };
        Durability::At(self.clients.0.broker.log().append(entry))
    }

    /// Subscribes to what is `Ok`; one reason per filter.
    pub fn subscribe(
        &mut self,
        filters: &[Result<(TopicFilter, SubscribeOptions), Reason>],
        id: Option<SubscriptionId>,
        now: Timestamp,
    ) -> (Vec<Reason>, Durability) {
        let (mut reasons, mut documents) = (Vec::new(), Vec::new());
        for filter in filters {
            let reason = match filter {
                Ok((filter, options)) => self.subscribe_to(filter, *options, id, &mut documents),
                Err(reason) => *reason,
            };
            reasons.push(reason);
        }
        let is_granted = |reason: &Reason| *reason as u8 <= Reason::GrantedQoS2 as u8;
        let granted = filters.iter().zip(&reasons).filter(|(_, reason)| is_granted(reason));
        let granted = granted.filter_map(|(filter, _)| filter.as_ref().ok());
        let broker = &self.clients.0.broker;
        let filters = granted.map(|(filter, _)| filter);
        self.events().subscriptions(broker, now, "subscribed", filters);
        (reasons, self.write(documents))
    }

    fn subscribe_to(
        &mut self,
        filter: &TopicFilter,
        options: SubscribeOptions,
        id: Option<SubscriptionId>,
        documents: &mut Vec<(Key, Option<Bytes>)>,
    ) -> Reason {
        let Some(receiver) = &self.receiver else { return Reason::UnspecifiedError };
        let is_full = receiver.subscriptions() >= self.clients.0.subscriptions_max;
        if is_full && !receiver.is_subscribed(filter) {
            return Reason::QuotaExceeded;
        }
        let is_new = receiver.subscribe(filter, options, id);
        if let Some(session) = self.queue.session() {
            let key = record::subscription_key(session, filter);
            documents.push((key, Some(record::subscription(options, id))));
        }
        let wants_retained = match options.retain_handling {
            RetainHandling::Always => true,
            RetainHandling::IfNew => is_new,
            RetainHandling::Never => false,
        };
        // [MQTT-3.8.4-4], and MQTT 5.0, 4.8.2: none for shared subscriptions. AWS sends none to
        // subscriptions with wildcards.
        let has_wildcard = filter.pattern().contains(['+', '#']);
        if wants_retained
            && filter.share_group().is_none()
            && !(options.without_parent && has_wildcard)
        {
            let filter = filter.clone();
            self.scans.get_or_insert_default().push(Scan { filter, options, id, next: None });
        }
        match options.qos {
            QoS::AtMostOnce => Reason::Success,
            QoS::AtLeastOnce => Reason::GrantedQoS1,
            QoS::ExactlyOnce => Reason::GrantedQoS2,
        }
    }

    /// Unsubscribes; one reason per filter.
    pub fn unsubscribe(
        &mut self,
        filters: &[TopicFilter],
        now: Timestamp,
    ) -> (Vec<Reason>, Durability) {
        let (mut reasons, mut documents) = (Vec::new(), Vec::new());
        for filter in filters {
            // [MQTT-3.10.4-2] no new messages from now on.
            if let Some(scans) = &mut self.scans {
                scans.retain(|scan| scan.filter != *filter);
                self.scans.take_if(|scans| scans.is_empty());
            }
            let existed = self.receiver.as_ref().is_some_and(|it| it.unsubscribe(filter));
            let reason = if existed { Reason::Success } else { Reason::NoSubscriptionExisted };
            reasons.push(reason);
            if let Some(session) = self.queue.session().filter(|_| existed) {
                documents.push((record::subscription_key(session, filter), None));
            }
        }
        let broker = &self.clients.0.broker;
        let existed = filters.iter().zip(&reasons).filter(|(_, it)| **it == Reason::Success);
        let filters = existed.map(|(filter, _)| filter);
        self.events().subscriptions(broker, now, "unsubscribed", filters);
        (reasons, self.write(documents))
    }

    /// True while retained messages are still to be sent.
    pub fn has_retained(&self) -> bool {
        self.scans.is_some()
    }

    /// The next retained messages for the client, at most `max`; those of a durable session that
    /// have to be acknowledged come through its queue instead. `None` when the queue has no room
    /// for them now.
    pub fn next_retained(&mut self, max: usize) -> Option<Vec<Delivery>> {
        let scans = self.scans.as_mut()?;
        let scan = scans.first_mut()?;
        let page = self.clients.0.broker.0.retained.scan(&scan.filter, scan.next.as_ref(), max);
        scan.next = page.next;
        let mut direct = Vec::new();
        let mut has_room = true;
        for message in page.messages {
            let is_own = message.publisher.client_id == self.publisher.client_id;
            if scan.options.no_local && is_own {
                continue;
            }
            let delivery = Delivery {
                // [MQTT-3.3.1-8]
                retain: true,
                subscription_ids: scan.id.into_iter().collect(),
                ..Delivery::new(message.clone(), message.qos.min(scan.options.qos))
            };
            match self.queue.session() {
                Some(session) if delivery.qos > QoS::AtMostOnce => {
                    if !self.queue.can_reserve(&delivery) {
                        scan.next = Some(Place::of(&message.topic));
                        has_room = false;
                        break;
                    }
                    self.queue.reserve(&delivery);
                    let queue = self.queue.clone();
                    let recipients = vec![Recipient { session, queue, delivery }];
                    let entry = LogEntry { recipients, ..LogEntry::default() };
                    self.clients.0.broker.log().append(entry);
                }
                _ => direct.push(delivery),
            }
        }
        if scan.next.is_none() {
            scans.remove(0);
            self.scans.take_if(|scans| scans.is_empty());
        }
        (has_room || !direct.is_empty()).then_some(direct)
    }

    /// Ends the connection: the session is parked or ends, the will is published or waits.
    ///
    /// `reason`: why; `None` when the connection was lost.
    pub fn close(mut self, now: Now, reason: Option<Reason>, mut left: Left) {
        self.clients.0.metrics.connections_closed.increment();
        self.events().disconnected(&self.clients.0.broker, now.wall, reason, self.version);
        let removal = self.queue.removal();
        if removal.is_some_and(|removal| removal.with_session) {
            left.session_expiry_s = 0;
        }
        if removal.is_some_and(|removal| removal.without_will) {
            left.will = None;
        }
        let verdict = self.clients.0.verdicts.of(self.publisher.principal.as_ref());
        if verdict == Some(Verdict::Ended) {
            left.session_expiry_s = 0;
        }
        if verdict.is_some() {
            left.will = None;
        }
        let Some(receiver) = self.receiver.take() else { return };
        let is_kept = left.session_expiry_s > 0 && self.record.is_some();
        if let Some((_, will)) = left.will.take_if(|(delay_s, _)| *delay_s == 0 || !is_kept) {
            self.clients.publish_will(&will, now.wall);
        }
        self.queue.park(left.unacknowledged);
        let record = self.record.take();
        if !is_kept {
            let number = record.map(|record| record.number);
            let ended = self.clients.end(self.id(), &self.queue, receiver, number);
            self.clients.entries().forget(self.id(), self.version, now.instant, ended);
            return;
        }
        let Some(mut record) = record else { return };
        self.clients.hand_on(&self.queue);
        record.expiry_s = left.session_expiry_s;
        record.ended_at = Some(now.wall);
        record.will = left.will;
        let document = (record::session_key(self.id()), Some(record.to_bytes()));
        let (queue, version) = (self.queue.clone(), self.version);
        let parked = Parked::new(queue, receiver, left.resumable, *record, version, now);
        let mut entries = self.clients.entries();
        self.clients.write(vec![document], None);
        entries.insert(Entry::Parked(Box::new(parked)));
    }

    /// Writes documents of a durable session.
    fn write(&self, documents: Vec<(Key, Option<Bytes>)>) -> Durability {
        if documents.is_empty() {
            return Durability::Done;
        }
        let notify = Some(self.queue.clone());
        let entry = LogEntry { documents, notify, ..LogEntry::default() };
        Durability::At(self.clients.0.broker.log().append(entry))
    }

    pub(super) fn events(&self) -> Connected<'_> {
        Connected {
            client_id: self.id(),
            principal: self.publisher.principal.as_ref(),
            thing: self.thing.as_deref(),
            session_identifier: u128::from_ne_bytes(self.session_identifier),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Not when it was closed: somebody else may have the id by now.
        if self.receiver.is_some() {
            self.clients.entries().remove(self.id());
        }
    }
}

/// For logs: the client id.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.id())
    }
}
