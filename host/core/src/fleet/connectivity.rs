//! Whether a thing is connected, and since when: a record of its own beside the thing.
//!
//! `connectivity/{thing}` is what is indexed and what GetThingConnectivityData tells; so a host that starts
//! anew still knows since when a thing is away.

use crate::ids::ThingName;
use crate::storage::Key;
use crate::time::Timestamp;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// First part of the records' keys.
pub(super) const KIND: &str = "connectivity";

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
    pub(super) fn connected_at(self, now: Timestamp) -> Self {
        Self { connected: true, since_ms: Some(now.as_millis()), disconnect_reason: None, ..self }
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
