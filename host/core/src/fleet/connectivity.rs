//! Whether a thing is connected, and since when: a record of its own beside the thing.
//!
//! In: life-cycle events of clients that have the name of a thing, as messages. Out: the record
//! `connectivity/{thing}`, written by the worker, which is what is indexed and what
//! GetThingConnectivityData tells; so a host that starts anew still knows since when a thing is away.
//! Bound: [`SEEN_MAX`] things whose record waits to be written; beyond it all are looked at anew.

use super::changes::Changes;
use crate::broker::{Delivery, Inbox, Wakes};
use crate::ids::ThingName;
use crate::packet::SubscribeOptions;
use crate::storage::Key;
use crate::time::Timestamp;
use crate::topic::TopicFilter;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// First part of the records' keys.
pub(super) const KIND: &str = "connectivity";

/// Things whose record waits to be written; about 20 MiB.
const SEEN_MAX: usize = 100_000;

/// Version of the record's encoding.
const VERSION: u8 = 1;

/// What the host says of a client that was connected when the host ended without a word.
pub(super) const CONNECTION_LOST: &str = "CONNECTION_LOST";

/// Whether a thing is connected: its device has the thing's name as client id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connectivity {
    /// Now, or when the host ended.
    pub connected: bool,
    /// Since when, in milliseconds since the Unix epoch; `None` for a thing that never connected.
    pub since_ms: Option<u64>,
    /// Why it is not, in AWS's words (`DisconnectReasonValue`).
    #[serde(default)]
    pub disconnect_reason: Option<String>,
    /// Address that it comes or came from.
    #[serde(default)]
    pub source_ip: Option<String>,
}

impl Connectivity {
    /// Connected since then, as far as is known.
    pub(super) fn connected_at(now: Timestamp) -> Self {
        Self { connected: true, since_ms: Some(now.as_millis()), ..Self::default() }
    }

    /// No longer connected, and nobody knows why.
    pub(super) fn lost_at(self, now: Timestamp) -> Self {
        Self {
            connected: false,
            since_ms: Some(now.as_millis()),
            disconnect_reason: Some(CONNECTION_LOST.to_owned()),
            ..self
        }
    }

    pub(super) fn to_record(&self) -> Bytes {
        let mut bytes = vec![VERSION];
        serde_json::to_writer(&mut bytes, self).expect("texts and numbers serialize");
        bytes.into()
    }

    /// `None` for a record that this host cannot read: the next event replaces it.
    pub(super) fn from_record(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first() {
            Some((&VERSION, json)) => serde_json::from_slice(json).ok(),
            _ => None,
        }
    }

    pub(super) fn to_document(&self) -> gnomon_search::Connectivity {
        gnomon_search::Connectivity {
            connected: self.connected,
            timestamp_ms: self.since_ms,
            disconnect_reason: self.disconnect_reason.clone(),
        }
    }
}

pub(super) fn key(thing: &ThingName) -> Key {
    Key::new(KIND, &[thing.as_str()])
}

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

    /// What was seen since the last time.
    pub(super) fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen())
    }

    /// What could not be written: to be tried again, unless something newer was seen.
    pub(super) fn put_back(&self, thing: ThingName, seen: Connectivity) {
        self.seen().entry(thing).or_insert(seen);
    }

    fn note(&self, event: Event) {
        // Other clients are not things.
        let Ok(thing) = ThingName::parse(&event.client_id) else { return };
        let mut seen = self.seen();
        let connected = event.event_type == "connected";
        let since_ms = Some(event.timestamp);
        let before = seen.get(&thing).and_then(|before| before.source_ip.clone());
        let source_ip = event.ip_address.or(before);
        let disconnect_reason = event.disconnect_reason;
        let now = Connectivity { connected, since_ms, disconnect_reason, source_ip };
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
