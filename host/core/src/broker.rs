//! The broker: who gets which message.
//!
//! In: [`Broker::publish`], [`Receiver::subscribe`]. Out: [`Inbox::deliver`] of every receiver
//! whose filter matches. Sessions, shadows and rules are all just inboxes here.
//! Not here: permission checks (the caller's), packets (`session`), retained messages (to come).
//!
//! One lock, `index`, held for look-ups and changes of subscriptions, never while an inbox is
//! called. A publisher that stays on a topic does not take it: see [`RouteCache`].

pub mod clients;
mod index;
pub mod log;
pub mod queue;

use crate::ids::ClientId;
use crate::message::{Message, QoS, SubscriptionId};
use crate::packet::{PacketId, SubscribeOptions};
use crate::storage::Durability;
use crate::topic::{TopicFilter, TopicName};
use index::{Index, Slot};
use log::SessionNumber;
use queue::Queue;
use std::collections::HashSet;
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
}

impl Delivery {
    /// A delivery that was never sent, without subscription identifiers.
    pub fn new(message: Arc<Message>, qos: QoS) -> Self {
        let subscription_ids = Vec::new();
        Self { message, qos, retain: false, subscription_ids, packet_id: None, dup: false }
    }
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Receivers with a matching filter.
    pub receivers: usize,
    /// When it is where it has to be.
    pub durability: Durability,
}

/// A bounded queue of messages with one reader; what happens when it is full is its own.
pub trait Inbox: Send + Sync + 'static {
    /// Takes one message without blocking. A reader that has to be woken is added to `wakes`:
    /// the publisher wakes each receiver once per batch.
    fn deliver(&self, delivery: Delivery, wakes: &mut Wakes);

    /// The queue of a durable session: QoS 1 and 2 messages for it go to the log, which hands
    /// them over when they are durable.
    fn durable(&self) -> Option<(SessionNumber, Arc<Queue>)> {
        None
    }

    /// The client behind it, for subscriptions with No Local.
    fn client_id(&self) -> Option<&ClientId> {
        None
    }
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

/// A handle to the subscription index; clones share it.
#[derive(Clone, Default)]
pub struct Broker(Arc<Shared>);

#[derive(Default)]
struct Shared {
    index: RwLock<Index>,
    /// Grows with every change of a subscription; an older route may be wrong.
    generation: AtomicU64,
}

/// The receivers of one topic, remembered by a publisher: a publisher tends to stay on its topic.
#[derive(Debug)]
pub struct RouteCache {
    topic: TopicName,
    generation: u64,
    targets: Box<[Target]>,
}

struct Target {
    inbox: Arc<dyn Inbox>,
    options: SubscribeOptions,
    subscription_ids: Vec<SubscriptionId>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Broker {
    /// Adds a receiver without subscriptions.
    pub fn register(&self, inbox: Arc<dyn Inbox>) -> Receiver {
        let slot = self.write().register(inbox);
        Receiver { broker: self.clone(), slot, filters: Mutex::default() }
    }

    /// Delivers the message to every receiver with a matching filter, once each.
    pub fn publish(&self, message: &Arc<Message>, wakes: &mut Wakes) -> Published {
        deliver(&self.route(&message.topic), message, wakes)
    }

    /// As [`Broker::publish`], for a publisher that keeps `cache` between its messages.
    pub fn publish_cached(
        &self,
        cache: &mut Option<Box<RouteCache>>,
        message: &Arc<Message>,
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
                targets: self.route(&message.topic),
            })),
        };
        deliver(&cache.targets, message, wakes)
    }

    fn route(&self, topic: &TopicName) -> Box<[Target]> {
        self.0.index.read().unwrap_or_else(PoisonError::into_inner).route(topic)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Index> {
        let index = self.0.index.write().unwrap_or_else(PoisonError::into_inner);
        self.0.generation.fetch_add(1, Ordering::Release);
        index
    }
}

fn deliver(targets: &[Target], message: &Arc<Message>, wakes: &mut Wakes) -> Published {
    let mut receivers = 0;
    for target in targets {
        let own = || {
            let publisher = message.publisher.client_id.as_ref();
            publisher.is_some() && publisher == target.inbox.client_id()
        };
        // [MQTT-3.8.3-3] No Local.
        if target.options.no_local && own() {
            continue;
        }
        receivers += 1;
        let delivery = Delivery {
            message: message.clone(),
            qos: message.qos.min(target.options.qos),
            // [MQTT-3.3.1-12], [MQTT-3.3.1-13] Retain As Published.
            retain: message.retain && target.options.retain_as_published,
            subscription_ids: target.subscription_ids.clone(),
            packet_id: None,
            dup: false,
        };
        target.inbox.deliver(delivery, wakes);
    }
    Published { receivers, durability: Durability::Done }
}

/// One receiver of the index; dropping it removes its subscriptions.
pub struct Receiver {
    broker: Broker,
    slot: Slot,
    filters: Mutex<HashSet<TopicFilter>>,
}

impl Receiver {
    /// Adds or replaces the subscription with this filter; true when it is new.
    ///
    /// A shared subscription's group is not looked at: sharing is to come.
    pub fn subscribe(
        &self,
        filter: &TopicFilter,
        options: SubscribeOptions,
        id: Option<SubscriptionId>,
    ) -> bool {
        let is_new = self.filters().insert(filter.clone());
        self.broker.write().subscribe(self.slot, filter, options, id);
        is_new
    }

    /// Removes the subscription with this filter; false when there was none.
    pub fn unsubscribe(&self, filter: &TopicFilter) -> bool {
        let existed = self.filters().remove(filter);
        if existed {
            self.broker.write().unsubscribe(self.slot, filter);
        }
        existed
    }

    /// True when the receiver has a subscription with this filter.
    pub fn is_subscribed(&self, filter: &TopicFilter) -> bool {
        self.filters().contains(filter)
    }

    /// How many subscriptions the receiver has.
    pub fn subscriptions(&self) -> usize {
        self.filters().len()
    }

    fn filters(&self) -> std::sync::MutexGuard<'_, HashSet<TopicFilter>> {
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

#[cfg(test)]
mod tests;
