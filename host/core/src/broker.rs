//! The broker: who gets which message.
//!
//! In: [`Broker::publish`], [`Broker::subscribe`]. Out: [`Inbox::deliver`] of every receiver
//! whose filter matches. Sessions, shadows and rules are all just inboxes here.
//! Not here: permission checks (the caller's), packets (`session`), retained messages (to come).

use crate::message::{Message, QoS, SubscriptionId};
use crate::packet::SubscribeOptions;
use crate::topic::TopicFilter;
use std::sync::Arc;
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
}

/// A bounded queue of messages with one reader, and what happens when it is full is its own.
pub trait Inbox: Send + Sync + 'static {
    /// Takes one message without blocking. A reader that has to be woken is added to `wakes`:
    /// the publisher wakes each receiver once per batch.
    fn deliver(&self, delivery: Delivery, wakes: &mut Wakes);
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
pub struct Broker {}

/// One receiver of the index, made by [`Broker::register`]; dropping it removes its subscriptions.
pub struct Receiver {}

impl Broker {
    /// Adds a receiver without subscriptions.
    pub fn register(&self, inbox: Arc<dyn Inbox>) -> Receiver {
        let _ = inbox;
        Receiver {}
    }

    /// Delivers the message to every receiver with a matching filter, once each; returns how many.
    pub fn publish(&self, message: &Arc<Message>, wakes: &mut Wakes) -> usize {
        let _ = (message, wakes);
        0
    }
}

impl Receiver {
    /// Adds or replaces the subscription with this filter; true when it is new.
    pub fn subscribe(
        &self,
        filter: &TopicFilter,
        options: SubscribeOptions,
        id: Option<SubscriptionId>,
    ) -> bool {
        let _ = (filter, options, id);
        true
    }

    /// Removes the subscription with this filter; false when there was none.
    pub fn unsubscribe(&self, filter: &TopicFilter) -> bool {
        let _ = filter;
        false
    }
}
