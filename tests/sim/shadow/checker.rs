//! What the host tells of a shadow, and whether it can be true.
//!
//! In: every request as it is asked, every message as it is told, crashes. Out: objections. What is
//! accepted is a promise; what failed with 500, or was under way in a crash, may have happened.

use super::participant::Request;
use super::{Shadow, reference, texts};
use crate::shadow::host::content;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How often something was checked that could have failed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checked {
    pub accepted: usize,
    pub conflicts: usize,
    pub continued: usize,
    pub doubtful: usize,
    pub deltas: usize,
    pub read: usize,
    pub deleted: usize,
    pub agreed: usize,
    pub operations: usize,
}

impl Checked {
    fn counts(&mut self) -> [&mut usize; 9] {
        let Self { accepted, conflicts, continued, doubtful, deltas, .. } = self;
        let Self { read, deleted, agreed, operations, .. } = self;
        [accepted, conflicts, continued, doubtful, deltas, read, deleted, agreed, operations]
    }

    pub fn add(&mut self, other: &Self) {
        let mut other = *other;
        for (count, more) in self.counts().into_iter().zip(other.counts()) {
            *count += *more;
        }
    }

    /// The count of what was checked least often.
    pub fn least(mut self) -> usize {
        self.counts().into_iter().map(|count| *count).min().unwrap_or(0)
    }
}

/// What is known of a shadow.
#[derive(Default)]
struct Known {
    version: u64,
    state: Value,
    exists: bool,
    is_volatile: bool,
    /// Updates that may have happened since.
    doubtful: Vec<Value>,
    /// A deletion may have happened since.
    may_be_deleted: bool,
    /// What `accepted` told, until `documents` tells the same.
    accepted: Option<(u64, String)>,
    /// What has to be told next.
    delta_due: Value,
}

#[derive(Default)]
pub struct Checker {
    known: Vec<Known>,
    asked: BTreeMap<String, Request>,
    /// Tokens of updates and deletions that are not answered, with their shadows.
    open: BTreeMap<String, usize>,
    pub objections: Vec<String>,
    pub checked: Checked,
}

impl Checker {
    pub fn new(shadows: &[Shadow]) -> Self {
        let known = shadows.iter().map(|it| Known { is_volatile: it.is_volatile, ..fresh() });
        Self { known: known.collect(), ..Self::default() }
    }

    fn object(&mut self, at: usize, what: &str) {
        let Known { version, state, .. } = &self.known[at];
        self.objections.push(format!("shadow {at}: {what}; known is version {version}: {state}"));
    }

    pub fn asked(&mut self, at: usize, request: &Request) {
        self.asked.insert(request.token.clone(), request.clone());
        if request.operation != "get" {
            self.open.insert(request.token.clone(), at);
        }
    }

    /// Nobody will learn what became of what was under way.
    pub fn crashed(&mut self) {
        for (token, at) in std::mem::take(&mut self.open) {
            self.doubt(at, &token);
        }
        for known in &mut self.known {
            known.accepted = None;
        }
    }

    fn doubt(&mut self, at: usize, token: &str) {
        let request = &self.asked[token];
        match request.operation {
            "delete" => self.known[at].may_be_deleted = true,
            _ => self.known[at].doubtful.push(request.state.clone()),
        }
    }

    /// The host told something.
    pub fn told(&mut self, at: usize, suffix: &str, payload: &Value) {
        let token = payload["clientToken"].as_str().unwrap_or_default().to_owned();
        if !suffix.contains('/') {
            return;
        }
        let Some(request) = self.asked.get(&token).cloned() else {
            return self.object(at, &format!("nobody asked for {suffix} {payload}"));
        };
        if suffix != "update/documents" && suffix != "update/delta" {
            self.open.remove(&token);
        }
        if suffix != "update/delta" && !self.known[at].delta_due.is_null() {
            self.object(at, "its delta was not told");
        }
        match suffix {
            "update/accepted" => self.accepted(at, &request, payload),
            "update/documents" => self.documents(at, &request, payload),
            "update/delta" => self.delta(at, payload),
            "get/accepted" => self.read(at, payload),
            "delete/accepted" => self.deleted(at, payload),
            _ => self.rejected(at, suffix, &request, payload),
        }
    }

    fn accepted(&mut self, at: usize, request: &Request, payload: &Value) {
        let version = payload["version"].as_u64().unwrap_or(0);
        if version <= self.known[at].version {
            self.object(at, &format!("version {version} is not newer"));
        }
        if payload["state"] != request.state {
            self.object(at, &format!("accepted is {payload}, not {request:?}"));
        }
        self.checked.accepted += 1;
        self.known[at].accepted = Some((version, request.token.clone()));
    }

    fn documents(&mut self, at: usize, request: &Request, payload: &Value) {
        let (previous, current) = (content(&payload["previous"]), content(&payload["current"]));
        let version = current["version"].as_u64().unwrap_or(0);
        if self.known[at].accepted.take() != Some((version, request.token.clone())) {
            self.object(at, &format!("documents without accepted: {payload}"));
        }
        if previous["version"] != json!(version.saturating_sub(1)) {
            self.object(at, &format!("versions are not neighbours: {payload}"));
        }
        if request.version.is_some_and(|guard| previous["version"] != json!(guard)) {
            self.object(at, &format!("{request:?} was not for {previous}"));
        }
        self.follows(at, &previous);
        let expected = reference::merged(&previous["state"], &request.state);
        if current["state"] != expected {
            self.object(at, &format!("{request:?} makes {expected} and not {current}"));
        }
        self.know(at, version, &current["state"]);
        self.known[at].delta_due = reference::delta(&current["state"]);
    }

    /// What was there before an update, or is read, follows from what is known.
    fn follows(&mut self, at: usize, found: &Value) {
        let version = found["version"].as_u64().unwrap_or(0);
        let known = &self.known[at];
        let steps = version.checked_sub(known.version);
        let is_possible = match steps {
            Some(0) if known.state == found["state"] => {
                self.checked.continued += 1;
                true
            }
            // Deleted, perhaps after an update that is in doubt too.
            Some(0 | 1) if known.may_be_deleted && found["state"] == json!({}) => true,
            Some(0) => false,
            Some(1) => {
                self.checked.doubtful += 1;
                let bases = [Some(&known.state), known.may_be_deleted.then_some(&Value::Null)];
                let mut bases = bases.into_iter().flatten();
                bases.any(|base| {
                    let mut after = known.doubtful.iter().map(|it| reference::merged(base, it));
                    after.any(|state| state == found["state"])
                })
            }
            Some(steps) => u64::try_from(known.doubtful.len()).is_ok_and(|most| steps <= most),
            None => false,
        };
        if !is_possible {
            let doubtful = &self.known[at].doubtful;
            let what = format!("{found} does not follow; in doubt are {doubtful:?}");
            self.object(at, &what);
        }
    }

    fn know(&mut self, at: usize, version: u64, state: &Value) {
        let is_volatile = self.known[at].is_volatile;
        self.known[at] =
            Known { version, state: state.clone(), exists: true, is_volatile, ..fresh() };
    }

    fn delta(&mut self, at: usize, payload: &Value) {
        let due = std::mem::take(&mut self.known[at].delta_due);
        let version = json!(self.known[at].version);
        if due.is_null() || due != payload["state"] || version != payload["version"] {
            self.object(at, &format!("delta {payload}, due is {due}"));
        }
        self.checked.deltas += 1;
    }

    fn read(&mut self, at: usize, payload: &Value) {
        self.checked.read += 1;
        let mut found = content(payload);
        let state = found["state"].as_object_mut().expect("a document has a state");
        let delta = state.remove("delta").unwrap_or_default();
        if delta != reference::delta(&found["state"]) {
            self.object(at, &format!("wrong delta in {payload}"));
        }
        if !self.known[at].exists && self.known[at].doubtful.is_empty() {
            self.object(at, &format!("{payload} does not exist"));
        }
        self.follows(at, &found);
        self.know(at, found["version"].as_u64().unwrap_or(0), &found["state"]);
    }

    fn deleted(&mut self, at: usize, payload: &Value) {
        self.checked.deleted += 1;
        let version = payload["version"].as_u64().unwrap_or(0);
        let most = self.known[at].version + self.known[at].doubtful.len() as u64;
        if version < self.known[at].version || version > most {
            self.object(at, &format!("deleted is version {version}"));
        }
        self.know(at, version, &json!({}));
        self.known[at].exists = false;
    }

    fn rejected(&mut self, at: usize, suffix: &str, request: &Request, payload: &Value) {
        let known = &self.known[at];
        let is_certain = known.doubtful.is_empty() && !known.may_be_deleted;
        match payload["code"].as_u64() {
            Some(500) if request.operation == "get" => {}
            Some(500) => self.doubt(at, &request.token),
            Some(409) => {
                self.checked.conflicts += 1;
                if request.version.is_none() || is_certain && request.version == Some(known.version)
                {
                    self.object(at, &format!("a conflict without cause: {request:?}"));
                }
            }
            Some(404) if !known.exists || known.may_be_deleted => {}
            _ => self.object(at, &format!("{request:?} has {suffix} {payload}")),
        }
    }

    /// At the end somebody's view has to be the document, which has no delta.
    pub fn agrees(&mut self, at: usize, name: &str, view: &Value, document: &Value) {
        self.checked.agreed += 1;
        if *view != content(document) {
            self.object(at, &format!("{name} knows {view}, and there is {document}"));
        }
        if !document["state"]["delta"].is_null() {
            self.object(at, &format!("a delta is left: {document}"));
        }
    }

    /// At the end each operation is in the list, once.
    pub fn happened_once(&mut self, at: usize, operations: &[String], list: &Value) {
        let (mut expected, mut found) = (operations.to_vec(), texts(list));
        self.checked.operations += found.len();
        expected.sort_unstable();
        found.sort_unstable();
        if expected != found {
            self.object(at, &format!("operations are {found:?} instead of {expected:?}"));
        }
    }
}

/// Before anything is known of a shadow.
fn fresh() -> Known {
    Known { state: json!({}), ..Known::default() }
}
