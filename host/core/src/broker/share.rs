//! Shared subscriptions: a group of receivers of which one gets each message (MQTT 5.0, 4.8.2).
//!
//! In: [`Group::assign`], once per message. Out: the message in the inbox of one member, or a
//! recipient for the log. Members take turns; one that is offline or full is skipped. When all
//! are, a member whose session is kept gets the message, and when there is none it is dropped.
//! Not here: what a member that leaves hands on (`clients`).
//!
//! One lock, taken inside the index's lock when members change, alone otherwise; inside it the
//! locks of queues.

use super::index::Slot;
use super::log::Recipient;
use super::{Readiness, Target, Wakes};
use crate::message::{Message, QoS};
use crate::topic::TopicFilter;
use std::sync::{Arc, Mutex, PoisonError};

/// All receivers that share a subscription.
pub(super) struct Group {
    /// The whole filter, `$share/{group}/` included.
    pub(super) filter: TopicFilter,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    list: Vec<(Slot, Target)>,
    /// Whose turn it is.
    next: usize,
}

impl Group {
    pub(super) fn new(filter: TopicFilter) -> Self {
        Self { filter, members: Mutex::default() }
    }

    /// Adds a member or replaces its options.
    pub(super) fn set(&self, slot: Slot, target: Target) {
        let mut members = self.members();
        match members.list.iter_mut().find(|(other, _)| *other == slot) {
            Some((_, member)) => *member = target,
            None => members.list.push((slot, target)),
        }
    }

    /// Removes a member; true when it was the last.
    pub(super) fn remove(&self, slot: Slot) -> bool {
        let mut members = self.members();
        members.list.retain(|(other, _)| *other != slot);
        members.list.is_empty()
    }

    /// Gives the message to one member that `may_take` it; false when nobody does. For one with a
    /// durable session it is added to `recipients`.
    pub(super) fn assign(
        &self,
        message: &Arc<Message>,
        may_take: impl Fn(&Target) -> bool,
        wakes: &mut Wakes,
        recipients: &mut Vec<Recipient>,
    ) -> bool {
        let mut members = self.members();
        let Members { list, next } = &mut *members;
        let count = list.len();
        let turns = |wanted: Readiness| (0..count).map(move |turn| (turn, wanted));
        for (turn, wanted) in turns(Readiness::Online).chain(turns(Readiness::Offline)) {
            let position = (*next + turn) % count;
            let (_, target) = &list[position];
            if !may_take(target) || target.inbox.readiness() != wanted {
                continue;
            }
            // No Local is not for shared subscriptions [MQTT-3.8.3-4].
            let mut delivery = target.terms.delivery(message);
            if wanted == Readiness::Offline && delivery.qos == QoS::AtMostOnce {
                continue;
            }
            delivery.share = Some(self.filter.clone());
            if target.give(delivery, wakes, recipients) {
                *next = (position + 1) % count;
                return true;
            }
        }
        false
    }

    fn members(&self) -> std::sync::MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
