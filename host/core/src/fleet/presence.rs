//! Who comes and goes: the inbox of life-cycle events.
//!
//! In: events of clients that are things, as messages like anybody's. Out: to the worker, what is to be
//! recorded. Bound: [`SEEN_MAX`] things whose record waits to be written. Beyond it an event is forgotten
//! and all things are looked at: then it is known who is connected, but of those not since when and why.

use super::changes::Changes;
use super::connectivity::Connectivity;
use crate::broker::{Delivery, Inbox, Wakes};
use crate::ids::ThingName;
use crate::packet::SubscribeOptions;
use crate::topic::TopicFilter;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Things whose record waits to be written; about 20 MiB.
const SEEN_MAX: usize = 100_000;

/// The last that was seen of clients, by their names.
pub(super) type Seen = HashMap<ThingName, Connectivity>;

/// The inbox of life-cycle events.
pub(super) struct Presence {
    seen: Mutex<Seen>,
    changes: Arc<Changes>,
}

/// What an event says (AWS: "Lifecycle events").
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    client_id: String,
    /// Of a certificate that belongs to one thing exclusively.
    thing_name: Option<String>,
    timestamp: u64,
    event_type: String,
    disconnect_reason: Option<String>,
    ip_address: Option<String>,
}

impl Presence {
    pub(super) fn new(changes: Arc<Changes>) -> Arc<Self> {
        Arc::new(Self { seen: Mutex::default(), changes })
    }

    /// The events that are of interest, and how to subscribe to them.
    pub(super) fn filters() -> impl Iterator<Item = (TopicFilter, SubscribeOptions)> {
        ["connected", "disconnected"].into_iter().map(|event| {
            let filter = TopicFilter::parse(&format!("$aws/events/presence/{event}/+"));
            (filter.expect("a whole level is a wildcard"), SubscribeOptions::default())
        })
    }

    /// Whether the record of this thing waits to be written.
    pub(super) fn has(&self, thing: &ThingName) -> bool {
        self.seen().contains_key(thing)
    }

    /// Whether any waits.
    pub(super) fn is_empty(&self) -> bool {
        self.seen().is_empty()
    }

    /// What was seen since the last time.
    pub(super) fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen())
    }

    /// What is to be written unless something newer was seen.
    pub(super) fn add(&self, thing: ThingName, seen: Connectivity) {
        self.seen().entry(thing).or_insert(seen);
    }

    fn note(&self, event: Event) {
        // Other clients are not things.
        let name = event.thing_name.as_ref().unwrap_or(&event.client_id);
        let Ok(thing) = ThingName::parse(name) else { return };
        let mut seen = self.seen();
        let now = Connectivity {
            connected: event.event_type == "connected",
            since_ms: Some(event.timestamp),
            disconnect_reason: event.disconnect_reason,
            client_id: Some(event.client_id).filter(|id| id != thing.as_str()),
            // Only who comes tells it.
            source_ip: event
                .ip_address
                .or_else(|| seen.get(&thing).and_then(|before| before.source_ip.clone())),
        };
        if seen.len() < SEEN_MAX || seen.contains_key(&thing) {
            seen.insert(thing, now);
            drop(seen);
            self.changes.wake();
        } else {
            drop(seen);
            self.changes.look_at_everything();
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox for Presence {
    fn deliver(&self, delivery: Delivery, _: &mut Wakes) {
        if let Ok(event) = serde_json::from_slice(&delivery.message.payload) {
            self.note(event);
        }
    }
}
