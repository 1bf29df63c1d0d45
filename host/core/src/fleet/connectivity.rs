//! Whether a thing is connected, and since when: a record of its own beside the thing.
//!
//! In: life-cycle events of clients that have the name of a thing, as messages. Out: the record
//! `connectivity/{thing}`, written by the worker, which is what is indexed and what
//! GetThingConnectivityData tells; so a host that starts anew still knows since when a thing is away.
//! Bound: [`SEEN_MAX`] things whose record waits to be written. Beyond it an event is forgotten and all
//! things are looked at: then it is known who is connected, but of those not since when and why.

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
pub(super) const SEEN_MAX: usize = 100_000;

/// Version of the record's encoding.
const VERSION: u8 = 1;

/// What the host says of a client that was connected when the host ended without a word.
pub(super) const CONNECTION_LOST: &str = "CONNECTION_LOST";

/// Whether a thing is connected: its device has the thing's name as client id, or a certificate that is
/// attached to this thing exclusively.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connectivity {
    /// Whether it is.
    pub connected: bool,
    /// Since when, in milliseconds since the Unix epoch; `None` for a thing that never connected. Of one
    /// that was connected when the host crashed: since the next start.
    pub since_ms: Option<u64>,
    /// Why it is not, in AWS's words (`DisconnectReasonValue`).
    #[serde(default)]
    pub disconnect_reason: Option<String>,
    /// The client that it is or was, if that has another id than the thing's name.
    #[serde(default)]
    pub client_id: Option<String>,
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

    /// As the record of the thing with this id.
    pub(super) fn to_record(&self, thing_id: &str) -> Bytes {
        let mut bytes = vec![VERSION];
        let record = Record { thing_id, connectivity: self };
        serde_json::to_writer(&mut bytes, &record).expect("texts and numbers serialize");
        bytes.into()
    }

    /// `None` for the record of an earlier thing of the same name, and for one that this host cannot
    /// read: the next event replaces it.
    pub(super) fn from_record(bytes: &[u8], thing_id: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Read {
            thing_id: String,
            connectivity: Connectivity,
        }
        let Some((&VERSION, json)) = bytes.split_first() else { return None };
        let read: Read = serde_json::from_slice(json).ok()?;
        (read.thing_id == thing_id).then_some(read.connectivity)
    }

    pub(super) fn to_document(&self) -> gnomon_search::Connectivity {
        gnomon_search::Connectivity {
            connected: self.connected,
            timestamp_ms: self.since_ms,
            disconnect_reason: self.disconnect_reason.clone(),
        }
    }
}

#[derive(Serialize)]
struct Record<'a> {
    thing_id: &'a str,
    connectivity: &'a Connectivity,
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
