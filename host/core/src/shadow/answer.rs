//! What a shadow tells: the documents of AWS's "Device Shadow service documents".

use super::ShadowError;
use super::document::{Document, Sections, State, Times, Tree, set_by};
use super::request::{Section, Update};
use crate::time::Timestamp;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

/// When, and for whose request: what every answer ends with.
pub(super) struct Context<'a> {
    pub(super) now: Timestamp,
    pub(super) client_token: Option<&'a str>,
}

/// A state and what belongs to it.
#[derive(Serialize)]
struct Snapshot<S, M> {
    state: S,
    metadata: M,
    version: u64,
}

impl Context<'_> {
    fn finish(&self, content: impl Serialize) -> Bytes {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer<'a, T> {
            #[serde(flatten)]
            content: T,
            timestamp: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            client_token: Option<&'a str>,
        }
        let (timestamp, client_token) = (self.now.as_secs(), self.client_token);
        let answer = Answer { content, timestamp, client_token };
        serde_json::to_vec(&answer).expect("a JSON value can be written").into()
    }

    /// `get/accepted`: the whole document, with the delta when there is one.
    pub(super) fn document(&self, document: &Document) -> Bytes {
        let delta = document.delta();
        let delta = (!delta.is_empty()).then_some(State(&delta));
        self.finish(Snapshot {
            state: Sections { delta, ..document.state() },
            metadata: document.metadata(),
            version: document.version,
        })
    }

    /// `update/accepted`: the sections of the request, nulls included, and the times of what it set.
    pub(super) fn updated(&self, update: &Update, version: u64) -> Bytes {
        /// `Some(None)` is told as null.
        fn told(section: &Section) -> Option<Option<&Map<String, Value>>> {
            match section {
                Section::Keep => None,
                Section::Remove => Some(None),
                Section::Merge(fields) => Some(Some(fields)),
            }
        }
        let set = |section| told(section).flatten().map(|fields| set_by(fields, self.now));
        let (desired, reported) = (set(&update.desired), set(&update.reported));
        self.finish(Snapshot {
            state: Sections {
                desired: told(&update.desired),
                reported: told(&update.reported),
                delta: None,
            },
            metadata: Sections {
                desired: desired.as_ref().map(Times),
                reported: reported.as_ref().map(Times),
                delta: None,
            },
            version,
        })
    }

    /// `update/documents`: before and after. Before the first update there is an empty state.
    pub(super) fn documents(&self, previous: &Document, current: &Document) -> Bytes {
        #[derive(Serialize)]
        struct Documents<T> {
            previous: T,
            current: T,
        }
        fn one(document: &Document) -> impl Serialize {
            Snapshot {
                state: document.state(),
                metadata: document.metadata(),
                version: document.version,
            }
        }
        self.finish(Documents { previous: one(previous), current: one(current) })
    }

    /// `update/delta`: all that is outstanding, not only what the request changed.
    pub(super) fn delta(&self, delta: &Tree, version: u64) -> Bytes {
        self.finish(Snapshot { state: State(delta), metadata: Times(delta), version })
    }

    /// `delete/accepted`.
    pub(super) fn deleted(&self, version: u64) -> Bytes {
        #[derive(Serialize)]
        struct Deleted {
            version: u64,
        }
        self.finish(Deleted { version })
    }

    /// `rejected` of any operation.
    pub(super) fn rejected(&self, error: &ShadowError) -> Bytes {
        #[derive(Serialize)]
        struct Rejected {
            code: u16,
            message: String,
        }
        self.finish(Rejected { code: error.code(), message: error.to_string() })
    }
}
