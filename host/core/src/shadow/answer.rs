//! What a shadow tells: the documents of AWS's "Device Shadow service documents".

use super::ShadowError;
use super::document::{Document, Tree, metadata, set_by, state};
use super::request::{Section, Update};
use crate::time::Timestamp;
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// When, and for whose request: what every answer ends with.
pub(super) struct Context<'a> {
    pub(super) now: Timestamp,
    pub(super) client_token: Option<&'a str>,
}

impl Context<'_> {
    fn finish(&self, mut answer: Value) -> Bytes {
        answer["timestamp"] = self.now.as_secs().into();
        if let Some(token) = self.client_token {
            answer["clientToken"] = token.into();
        }
        serde_json::to_vec(&answer).expect("a JSON value can be written").into()
    }

    /// `get/accepted`: the whole document, with the delta when there is one.
    pub(super) fn document(&self, document: &Document) -> Bytes {
        let mut whole = document.state();
        let delta = document.delta();
        if !delta.is_empty() {
            whole["delta"] = state(&delta);
        }
        self.finish(json!({
            "state": whole,
            "metadata": document.metadata(),
            "version": document.version,
        }))
    }

    /// `update/accepted`: the sections of the request, nulls included, and the times of what it set.
    pub(super) fn updated(&self, update: &Update, version: u64) -> Bytes {
        let (mut states, mut times) = (Map::new(), Map::new());
        for (name, section) in [("desired", &update.desired), ("reported", &update.reported)] {
            match section {
                Section::Keep => {}
                Section::Remove => {
                    states.insert(name.into(), Value::Null);
                }
                Section::Merge(fields) => {
                    times.insert(name.into(), metadata(&set_by(fields, self.now)));
                    states.insert(name.into(), Value::Object(fields.clone()));
                }
            }
        }
        self.finish(json!({ "state": states, "metadata": times, "version": version }))
    }

    /// `update/documents`: before and after. Before the first update there is an empty state.
    pub(super) fn documents(&self, previous: &Document, current: &Document) -> Bytes {
        let one = |document: &Document| {
            json!({
                "state": document.state(),
                "metadata": document.metadata(),
                "version": document.version,
            })
        };
        self.finish(json!({ "previous": one(previous), "current": one(current) }))
    }

    /// `update/delta`: all that is outstanding, not only what the request changed.
    pub(super) fn delta(&self, delta: &Tree, version: u64) -> Bytes {
        self.finish(json!({
            "state": state(delta),
            "metadata": metadata(delta),
            "version": version,
        }))
    }

    /// `delete/accepted`.
    pub(super) fn deleted(&self, version: u64) -> Bytes {
        self.finish(json!({ "version": version }))
    }

    /// `rejected` of any operation.
    pub(super) fn rejected(&self, error: &ShadowError) -> Bytes {
        self.finish(json!({ "code": error.code(), "message": error.to_string() }))
    }
}
