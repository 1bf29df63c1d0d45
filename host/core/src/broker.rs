//! The broker: who gets which message.
//!
//! In: [`Broker::publish`], [`Receiver::subscribe`]. Out: [`Inbox::deliver`] of every receiver
//! whose filter matches. Sessions, shadows and rules are all just inboxes here. What has to
//! survive the host goes to the `log` instead, which hands it over when it is durable.
//! Not here: permission checks (the caller's), packets (`session`), who is connected (`clients`).
//!
//! Locks: `index`, held for look-ups and changes of subscriptions, never while an inbox is called;
//! inside it a group's. A publisher that stays on a topic takes none: see [`RouteCache`].

pub mod clients;
pub mod figures;
mod index;
pub mod log;
mod presence;
pub mod queue;
pub(crate) mod record;
mod retained;
mod share;

use crate::ids::ClientId;
use crate::limits::Limits;
use crate::message::{Message, QoS, SubscriptionId};
use crate::metrics::Metrics;
use crate::packet::{PacketId, SubscribeOptions};
use crate::storage::{Durability, Journal, MemoryDisk, MemoryJournal, Position};
use crate::time::Timestamp;
use crate::topic::{TopicFilter, TopicName};
use index::{Index, Slot};
use log::{Committer, Entry, Event, Log, Recipient, Recovered, SessionNumber, Spooled};
use queue::Queue;
use retained::{Retained, RetainedBounds};
use share::Group;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::Waker;

/// One message for one receiver.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message, shared by all receivers.
    pub message: Arc<Message>,
    /// The lower of the publisher's and the subscription's QoS; the highest of all matching
    /// subscriptions of this receiver.
    pub qos: QoS,
    /// RETAIN flag for this receiver.
    pub retain: bool,
    /// Identifiers of the matching subscriptions.
    pub subscription_ids: Vec<SubscriptionId>,
    /// Given by the log to what it keeps; the session numbers everything else when it sends it.
    pub packet_id: Option<PacketId>,
    /// It may have been sent before.
    pub dup: bool,
    /// The shared subscription by which it came: another member can have it instead.
    pub share: Option<TopicFilter>,
}

impl Delivery {
    /// A delivery that was never sent, without subscription identifiers.
    pub fn new(message: Arc<Message>, qos: QoS) -> Self {
        Self {
            message,
            qos,
            retain: false,
            subscription_ids: Vec::new(),
            packet_id: None,
            dup: false,
            share: None,
        }
    }
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Receivers with a matching filter; each group counts as one.
    pub receivers: usize,
    /// When it is where it has to be. Refused: nobody got it.
    pub durability: Durability,
}

/// What else a publication is.
#[derive(Debug, Default)]
pub struct Publication {
    /// The publisher's durable session and the identifier of its QoS 2 PUBLISH: taken together
    /// with the message, or not at all.
    pub taken: Option<(SessionNumber, PacketId)>,
    /// Whom to tell when it is durable.
    pub notify: Option<Arc<Queue>>,
}

/// A bounded queue of messages with one reader; what happens when it is full is its own.
pub trait Inbox: Send + Sync + 'static {
    /// Takes one message without blocking. A reader that has to be woken is added to `wakes`:
    /// the publisher wakes each receiver once per batch.
    fn deliver(&self, delivery: Delivery, wakes: &mut Wakes);

    /// The queue of a durable session: QoS 1 and 2 messages for it go to the log, which hands
    /// them over when they are durable.
    fn durable(self: Arc<Self>) -> Option<(SessionNumber, Arc<Queue>)> {
        None
    }

    /// True for a receiver that gets its messages by [`Inbox::keep`].
    fn keeps(&self) -> bool {
        false
    }

    /// As [`Inbox::deliver`], and says what of it has to be durable before the publisher is
    /// answered.
    fn keep(&self, message: &Arc<Message>, wakes: &mut Wakes) -> Kept {
        self.deliver(Delivery::new(message.clone(), message.qos), wakes);
        Kept::default()
    }

    /// Whether a shared subscription may choose this receiver now.
    fn readiness(&self) -> Readiness {
        Readiness::Online
    }

    /// The client behind it, for subscriptions with No Local.
    fn client_id(&self) -> Option<&ClientId> {
        None
    }
}

/// What an inbox wants to be durable together with a message.
#[derive(Debug, Default)]
pub struct Kept {
    /// Records for spools, which go into the same entry of the log.
    pub spooled: Vec<Spooled>,
    /// What it has put into the log itself meanwhile.
    pub position: Position,
}

/// See [`Inbox::readiness`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It takes messages.
    Online,
    /// A session without connection.
    Offline,
    /// It would drop the message.
    Full,
}

/// Readers to wake when a batch of publications is done. Dropping it wakes them.
#[derive(Debug, Default)]
pub struct Wakes(Vec<Waker>);

impl Wakes {
    /// Remembers a reader.
    pub fn push(&mut self, waker: Waker) {
        self.0.push(waker);
    }

    /// Wakes everyone now.
    pub fn wake(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.wake();
    }
}

/// A handle to subscriptions, retained messages and the log; clones share it.
#[derive(Clone)]
pub struct Broker(Arc<Shared>);

struct Shared {
    index: RwLock<Index>,
    /// Grows with every change of a subscription; an older route may be wrong.
    generation: AtomicU64,
    retained: Retained,
    log: Log,
    metrics: Arc<Metrics>,
}

/// The receivers of one topic, remembered by a publisher: a publisher tends to stay on its topic.
#[derive(Debug)]
pub struct RouteCache {
    topic: TopicName,
    generation: u64,
    route: Route,
}

/// The receivers of one topic.
struct Route {
    targets: Box<[Target]>,
    groups: Box<[Arc<Group>]>,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Route to {} and {} groups", self.targets.len(), self.groups.len())
    }
}

struct Target {
    inbox: Arc<dyn Inbox>,
    /// Of all its subscriptions that match.
    terms: Terms,
    own: Own,
    durable: Option<(SessionNumber, Arc<Queue>)>,
    keeps: bool,
}

/// On what terms a message is delivered: those of one subscription, or of several together.
#[derive(Clone)]
struct Terms {
    options: SubscribeOptions,
    subscription_ids: Vec<SubscriptionId>,
}

/// What a receiver gets of its own messages [MQTT-3.8.3-3].
enum Own {
    /// The same as of others'.
    Same,
    /// Nothing: all its subscriptions are No Local.
    Nothing,
    /// What its other subscriptions say.
    Other(Box<Terms>),
}

impl Terms {
    fn new(options: SubscribeOptions, id: Option<SubscriptionId>) -> Self {
        Self { options, subscription_ids: id.into_iter().collect() }
    }

    fn merge(&mut self, options: SubscribeOptions, id: Option<SubscriptionId>) {
        self.options.qos = self.options.qos.max(options.qos);
        self.options.retain_as_published |= options.retain_as_published;
        self.subscription_ids.extend(id);
    }

    fn delivery(&self, message: &Arc<Message>) -> Delivery {
        Delivery {
            // [MQTT-3.3.1-12], [MQTT-3.3.1-13] Retain As Published.
            retain: message.retain && self.options.retain_as_published,
            subscription_ids: self.subscription_ids.clone(),
            ..Delivery::new(message.clone(), message.qos.min(self.options.qos))
        }
    }
}

impl Target {
    fn new(inbox: Arc<dyn Inbox>, options: SubscribeOptions, id: Option<SubscriptionId>) -> Self {
        let durable = inbox.clone().durable();
        let own = if options.no_local { Own::Nothing } else { Own::Same };
        let keeps = inbox.keeps();
        Self { inbox, terms: Terms::new(options, id), own, durable, keeps }
    }

    /// Another subscription of the same receiver matches.
    fn merge(&mut self, options: SubscribeOptions, id: Option<SubscriptionId>) {
        match (&mut self.own, options.no_local) {
            (Own::Same, false) | (Own::Nothing | Own::Other(_), true) => {}
            (Own::Same, true) => self.own = Own::Other(Box::new(self.terms.clone())),
            (Own::Nothing, false) => self.own = Own::Other(Box::new(Terms::new(options, id))),
            (Own::Other(terms), false) => terms.merge(options, id),
        }
        self.terms.merge(options, id);
    }

    /// `None` for a message of its own that it does not want.
    fn delivery(&self, message: &Arc<Message>) -> Option<Delivery> {
        match &self.own {
            Own::Nothing if self.sent(message) => None,
            Own::Other(terms) if self.sent(message) => Some(terms.delivery(message)),
            _ => Some(self.terms.delivery(message)),
        }
    }

    fn sent(&self, message: &Message) -> bool {
        let publisher = message.publisher.client_id.as_ref();
        publisher.is_some() && publisher == self.inbox.client_id()
    }

    /// False when a durable queue has no room; other receivers count what they drop.
    fn give(&self, delivery: Delivery, wakes: &mut Wakes, recipients: &mut Vec<Recipient>) -> bool {
        match &self.durable {
            Some((session, queue)) if delivery.qos > QoS::AtMostOnce => {
                let fits = queue.reserve(&delivery);
                if fits {
                    let (session, queue) = (*session, queue.clone());
                    recipients.push(Recipient { session, queue, delivery });
                }
                fits
            }
            _ => {
                self.inbox.deliver(delivery, wakes);
                true
            }
        }
    }
}

/// A broker over what its journal kept.
pub struct Opened {
    /// The broker.
    pub broker: Broker,
    /// To be run on a thread of its own.
    pub committer: Committer,
    /// Sessions, for [`clients::Clients`]. Retained messages are the broker's already.
    pub recovered: Recovered,
}

impl Broker {
    /// A broker over a journal.
    ///
    /// # Errors
    /// The journal cannot be read, or a newer host wrote it.
    pub fn open(
        journal: Box<dyn Journal>,
        limits: &Limits,
        metrics: Arc<Metrics>,
    ) -> Result<Opened, Box<dyn Error + Send + Sync>> {
        let bytes_max = limits.log_bytes as usize;
        let bounds = RetainedBounds {
            messages_max: limits.retained_messages as usize,
            bytes_max: usize::try_from(limits.retained_bytes).unwrap_or(usize::MAX),
        };
        let broker = Self(Arc::new(Shared {
            index: RwLock::default(),
            generation: AtomicU64::default(),
            retained: Retained::new(bounds),
            log: Log::new(bytes_max),
            metrics,
        }));
        let (committer, mut recovered) = Committer::open(journal, broker.clone())?;
        for (key, bytes) in recovered.take_documents(record::RETAINED) {
            let message = Arc::new(record::read_retained(&key, &bytes)?);
            if broker.0.retained.set(&message).is_err() {
                broker.0.metrics.retained_refused.increment();
                let topic = &message.topic;
                tracing::warn!(%topic, "retained message not loaded, the limits are lower now");
            }
        }
        Ok(Opened { broker, committer, recovered })
    }

    /// A broker in memory, whose log nobody commits; for tests that need none.
    pub fn in_memory() -> Self {
        let journal = Box::new(MemoryJournal::open(&MemoryDisk::default()));
        let opened = Self::open(journal, &Limits::default(), Arc::default());
        opened.expect("an empty journal can be read").broker
    }

    /// Adds a receiver without subscriptions.
    pub fn register(&self, inbox: Arc<dyn Inbox>) -> Receiver {
        let slot = self.write().register(inbox);
        Receiver { broker: self.clone(), slot, filters: Mutex::default() }
    }

    /// Delivers the message to every receiver with a matching filter, once each.
    pub fn publish(&self, message: &Arc<Message>, wakes: &mut Wakes) -> Published {
        self.distribute(&self.route(&message.topic), message, Publication::default(), wakes)
    }

    /// As [`Broker::publish`], for a publisher that keeps `cache` between its messages.
    pub fn publish_cached(
        &self,
        cache: &mut Option<Box<RouteCache>>,
        message: &Arc<Message>,
        publication: Publication,
        wakes: &mut Wakes,
    ) -> Published {
        // Read before the look-up: a subscription that changes meanwhile makes the route stale.
        let generation = self.0.generation.load(Ordering::Acquire);
        let cache = match cache {
            Some(cached) if cached.generation == generation && cached.topic == message.topic => {
                cached
            }
            other => other.insert(Box::new(RouteCache {
                topic: message.topic.clone(),
                generation,
                route: self.route(&message.topic),
            })),
        };
        self.distribute(&cache.route, message, publication, wakes)
    }

    /// Publishes what `message` makes if anybody listens on the topic.
    pub fn publish_if_heard(
        &self,
        topic: &TopicName,
        message: impl FnOnce() -> Message,
        wakes: &mut Wakes,
    ) {
        let route = self.route(topic);
        if !route.targets.is_empty() || !route.groups.is_empty() {
            self.distribute(&route, &Arc::new(message()), Publication::default(), wakes);
        }
    }

    /// Delivers an answer to the one client that asked, if it has subscribed; whoever else has gets
    /// nothing. It goes to no disk, because it may hold secrets: its QoS must be 0. False: the client
    /// does not listen.
    pub fn answer(&self, client: &ClientId, message: &Arc<Message>, wakes: &mut Wakes) -> bool {
        debug_assert_eq!(message.qos, QoS::AtMostOnce);
        let route = self.route(&message.topic);
        let mut asked = route.targets.iter().filter(|it| it.inbox.client_id() == Some(client));
        let target = asked.next();
        if let Some(target) = target {
            target.inbox.deliver(target.terms.delivery(message), wakes);
        }
        target.is_some()
    }

    /// The log, to wait for a [`Durability::At`].
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// The retained message of a topic.
    pub fn retained(&self, topic: &TopicName) -> Option<Arc<Message>> {
        self.0.retained.get(topic)
    }

    /// At most `max` retained messages, in an order of their topics, behind `after`.
    pub fn retained_after(&self, after: Option<&TopicName>, max: usize) -> Vec<Arc<Message>> {
        self.0.retained.page(after, max)
    }

    /// How many retained messages there are, and their bytes.
    pub fn retained_sizes(&self) -> (usize, usize) {
        self.0.retained.sizes()
    }

    /// Removes retained messages that have expired; call it every second.
    pub fn expire(&self, now: Timestamp) {
        let retained = self.0.retained.expire(now);
        if !retained.is_empty() {
            self.0.metrics.messages_expired.add(retained.len() as u64);
            self.0.log.append(Entry { retained, ..Entry::default() });
        }
    }

    fn distribute(
        &self,
        route: &Route,
        message: &Arc<Message>,
        publication: Publication,
        wakes: &mut Wakes,
    ) -> Published {
        let needs_log = message.qos > QoS::AtMostOnce;
        if needs_log && self.is_refused(route, message, &publication) {
            self.0.metrics.log_refused.increment();
            return Published { receivers: 0, durability: Durability::Refused };
        }
        let mut retained = Vec::new();
        if message.retain {
            match self.retain(message) {
                Ok(is_changed) => retained.extend(is_changed.then(|| message.topic.clone())),
                // A publisher that waits for no answer has the message delivered all the same.
                Err(_) if !needs_log => {}
                Err(_) => return Published { receivers: 0, durability: Durability::Refused },
            }
        }
        let mut receivers = 0;
        let mut recipients = Vec::new();
        let mut kept = Kept::default();
        for target in &route.targets {
            if target.keeps {
                receivers += 1;
                let Kept { spooled, position } = target.inbox.keep(message, wakes);
                kept.spooled.extend(spooled);
                kept.position = kept.position.max(position);
            } else if let Some(delivery) = target.delivery(message) {
                receivers += 1;
                target.give(delivery, wakes, &mut recipients);
            }
        }
        for group in &route.groups {
            receivers += 1;
            if !group.assign(message, |_| true, wakes, &mut recipients) {
                self.0.metrics.messages_dropped.increment();
            }
        }
        let Publication { taken, notify } = publication;
        let Kept { spooled, position } = kept;
        let needs_entry = !recipients.is_empty() || !retained.is_empty() || !spooled.is_empty();
        if !needs_entry && taken.is_none() && (position == Position(0) || notify.is_none()) {
            let is_done = position <= self.0.log.committed();
            let durability = if is_done { Durability::Done } else { Durability::At(position) };
            return Published { receivers, durability };
        }
        // Also an empty one, when what is waited for was put into the log without `notify`.
        let event = taken.map(|(session, id)| Event::Taken(session, id));
        let documents = Vec::new();
        let entry = Entry { recipients, event, documents, retained, spooled, notify };
        let position = self.0.log.append(entry);
        Published { receivers, durability: Durability::At(position) }
    }

    /// True when the log is full and something of the publication needs it.
    fn is_refused(&self, route: &Route, message: &Message, publication: &Publication) -> bool {
        self.0.log.is_full()
            && (message.retain
                || publication.taken.is_some()
                || !route.groups.is_empty()
                || route.targets.iter().any(|target| target.durable.is_some() || target.keeps))
    }

    /// Keeps a retained message; true when something changed.
    fn retain(&self, message: &Arc<Message>) -> Result<bool, retained::Full> {
        let kept = match self.0.log.is_full() {
            true => Err(retained::Full),
            false => self.0.retained.set(message),
        };
        if kept.is_err() {
            self.0.metrics.retained_refused.increment();
            tracing::warn!(topic = %message.topic, "retained message not kept, no room");
        }
        kept
    }

    fn route(&self, topic: &TopicName) -> Route {
        let mut route = self.read().route(topic);
        // Basic Ingest is for rules alone: what it costs less than a publication is that nobody
        // else gets it.
        if topic.as_str().starts_with("$aws/rules/") {
            let kept = std::mem::take(&mut route.targets).into_iter().filter(|it| it.keeps);
            route = Route { targets: kept.collect(), groups: Box::default() };
        }
        route
    }

    /// Gives a message that came by a shared subscription to another member; back when there is
    /// none. One that waits in a session goes to a member that is connected and as durable; when
    /// the session is over rather to one as durable, else to anyone.
    fn hand_on(
        &self,
        delivery: Delivery,
        from: &Queue,
        wakes: &mut Wakes,
        recipients: &mut Vec<Recipient>,
    ) -> Result<(), Delivery> {
        let group = delivery.share.as_ref().and_then(|filter| self.group(filter));
        let Some(group) = group else { return Err(delivery) };
        let message = &delivery.message;
        let as_durable = |to: &Target| from.session().is_none() || to.durable.is_some();
        let online = |to: &Target| to.inbox.readiness() == Readiness::Online;
        let is_taken = match from.is_ended() {
            false => group.assign(message, |to| as_durable(to) && online(to), wakes, recipients),
            true => {
                group.assign(message, as_durable, wakes, recipients)
                    || group.assign(message, |_| true, wakes, recipients)
            }
        };
        if is_taken { Ok(()) } else { Err(delivery) }
    }

    /// The group that shares a filter.
    fn group(&self, filter: &TopicFilter) -> Option<Arc<Group>> {
        self.read().group(filter)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.0.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Index> {
        let index = self.0.index.write().unwrap_or_else(PoisonError::into_inner);
        self.0.generation.fetch_add(1, Ordering::Release);
        index
    }
}

/// One receiver of the index; dropping it removes its subscriptions.
pub struct Receiver {
    broker: Broker,
    slot: Slot,
    /// In their order. Most receivers have few, and a table of its own would cost each more.
    filters: Mutex<Vec<TopicFilter>>,
}

impl Receiver {
    /// Adds or replaces the subscription with this filter; true when it is new.
    pub fn subscribe(
        &self,
        filter: &TopicFilter,
        options: SubscribeOptions,
        id: Option<SubscriptionId>,
    ) -> bool {
        let is_new = {
            let mut filters = self.filters();
            let place = filters.binary_search(filter);
            if let Err(place) = place {
                reserve_one(&mut filters);
                filters.insert(place, filter.clone());
            }
            place.is_err()
        };
        self.broker.write().subscribe(self.slot, filter, options, id);
        is_new
    }

    /// Removes the subscription with this filter; false when there was none.
    pub fn unsubscribe(&self, filter: &TopicFilter) -> bool {
        let existed = {
            let mut filters = self.filters();
            let place = filters.binary_search(filter);
            place.map(|place| filters.remove(place)).is_ok()
        };
        if existed {
            self.broker.write().unsubscribe(self.slot, filter);
        }
        existed
    }

    /// True when the receiver has a subscription with this filter.
    pub fn is_subscribed(&self, filter: &TopicFilter) -> bool {
        self.filters().binary_search(filter).is_ok()
    }

    /// The filters that the receiver has subscribed to.
    pub fn subscribed(&self) -> Vec<TopicFilter> {
        self.filters().clone()
    }

    /// How many subscriptions the receiver has.
    pub fn subscriptions(&self) -> usize {
        self.filters().len()
    }

    fn filters(&self) -> std::sync::MutexGuard<'_, Vec<TopicFilter>> {
        self.filters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let filters = std::mem::take(&mut *self.filters());
        let mut index = self.broker.write();
        for filter in &filters {
            index.unsubscribe(self.slot, filter);
        }
        index.release(self.slot);
    }
}

/// Makes room for one more; for lists that mostly stay with one, of which there are many.
fn reserve_one<T>(list: &mut Vec<T>) {
    if list.len() < 4 {
        list.reserve_exact(1);
    }
}

#[cfg(test)]
mod tests;
