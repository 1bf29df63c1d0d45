//! Who uses a shadow: a device that follows what is desired, applications that desire.
//!
//! Each has one request under way, and asks again from the beginning when it learns that its view
//! is old (409), that nobody knows what happened (500), or nothing at all (the answer is lost).

use super::host::{Wire, content};
use super::{Shadow, texts};
use crate::dice::Dice;
use bytes::Bytes;
use gnomon_core::broker::{Broker, Receiver};
use gnomon_core::shadow::ShadowId;
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;

/// Chances to act after which an answer counts as lost.
const PATIENCE: u32 = 8;

/// What is asked of a shadow.
#[derive(Clone, Debug)]
pub struct Request {
    pub operation: &'static str,
    pub state: Value,
    pub version: Option<u64>,
    pub token: String,
}

impl Request {
    /// As it is sent.
    pub fn payload(&self) -> Value {
        let mut payload = json!({ "clientToken": self.token });
        if self.operation == "update" {
            payload["state"] = self.state.clone();
        }
        if let Some(version) = self.version {
            payload["version"] = version.into();
        }
        payload
    }
}

#[derive(Debug)]
pub enum Role {
    /// Reports what is desired as soon as it learns of it, and sometimes something of its own.
    Device,
    /// Appends operations to a list that all applications share, guarded by the version, and
    /// changes other values without a guard.
    Application {
        /// Operations that it has not begun.
        left: u32,
        /// The one that has to happen now.
        operation: Option<String>,
    },
}

pub struct Participant {
    pub shadow: usize,
    pub name: String,
    role: Role,
    wire: Arc<Wire>,
    subscription: Option<Receiver>,
    /// The token of the request under way, and the chances to act since.
    pending: Option<(String, u32)>,
    /// The document as far as it knows; `None` when it has to ask.
    view: Option<Value>,
    /// Operations that it knows to have happened.
    operations: Vec<String>,
    tokens: u32,
}

impl fmt::Debug for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, role, pending, view, .. } = self;
        write!(f, "{name}: {role:?}, pending {pending:?}, view {view:?}")
    }
}

impl Participant {
    pub fn new(shadow: usize, name: &str, role: Role) -> Self {
        Self {
            shadow,
            name: name.into(),
            role,
            wire: Arc::default(),
            subscription: None,
            pending: None,
            view: None,
            operations: Vec::new(),
            tokens: 0,
        }
    }

    pub fn is_online(&self) -> bool {
        self.subscription.is_some()
    }

    /// What was on its way is lost, and what it knew may be old when it comes back.
    pub fn leave(&mut self) {
        self.subscription = None;
        self.wire.cut();
        self.pending = None;
        self.view = None;
    }

    /// It has to read the document again.
    pub fn forget(&mut self) {
        self.view = None;
    }

    pub fn come(&mut self, broker: &Broker, id: &ShadowId) {
        self.subscription = Some(self.wire.subscribe(broker, &format!("{}/shadow/#", id.thing)));
    }

    /// It has done all that it wanted, knows the document, and nothing is on its way to it.
    pub fn is_idle(&self) -> bool {
        let is_done = match &self.role {
            Role::Device => self.view.as_ref().is_some_and(|it| it["state"]["delta"].is_null()),
            Role::Application { operation, .. } => operation.is_none(),
        };
        is_done && self.pending.is_none() && self.view.is_some() && self.wire.is_empty()
    }

    pub fn view(&self) -> Value {
        self.view.as_ref().map_or(Value::Null, content)
    }

    /// Operations of its that happened, each once.
    pub fn operations(&self) -> impl Iterator<Item = String> {
        self.operations.iter().cloned()
    }

    pub fn next(&self) -> Option<(String, Bytes)> {
        self.wire.next()
    }

    /// What it asks now. Whoever is not restless only ends what was begun.
    pub fn act(&mut self, dice: &Dice, shadow: &Shadow, is_restless: bool) -> Option<Request> {
        if let Some((_, chances)) = &mut self.pending {
            *chances += 1;
            if *chances > PATIENCE {
                self.pending = None;
                self.view = None;
            }
            return None;
        }
        let Some(view) = self.view.clone() else {
            return Some(self.ask("get", Value::Null, None));
        };
        let version = view["version"].as_u64();
        match &mut self.role {
            Role::Device => {
                let delta = &view["state"]["delta"];
                if !delta.is_null() {
                    return Some(self.ask("update", json!({ "reported": delta }), None));
                }
                if !is_restless || !dice.once_in(3) {
                    return None;
                }
                let state = json!({ "reported": something(dice) });
                let guard = version.filter(|_| dice.once_in(2));
                Some(self.ask("update", state, guard))
            }
            Role::Application { left, operation } => {
                let done = texts(&view["state"]["desired"]["ops"]);
                if let Some(wanted) = operation.take_if(|wanted| done.contains(wanted)) {
                    self.operations.push(wanted);
                } else if let Some(wanted) = operation {
                    let list: Vec<_> = done.into_iter().chain([wanted.clone()]).collect();
                    let state = json!({ "desired": { "ops": list } });
                    // What does not exist has version 0; a deleted one has the version it had.
                    let guard = version.or((!shadow.is_volatile).then_some(0));
                    return Some(self.ask("update", state, guard));
                }
                if !is_restless {
                    return None;
                }
                if *left > 0 && dice.once_in(2) {
                    *operation = Some(format!("{}-{left}", self.name));
                    *left -= 1;
                    return None;
                }
                if shadow.is_volatile && dice.once_in(2) {
                    return Some(self.ask("delete", Value::Null, None));
                }
                Some(self.ask("update", json!({ "desired": something(dice) }), None))
            }
        }
    }

    fn ask(&mut self, operation: &'static str, state: Value, version: Option<u64>) -> Request {
        self.tokens += 1;
        let token = format!("{}/{}", self.name, self.tokens);
        self.pending = Some((token.clone(), 0));
        Request { operation, state, version, token }
    }

    /// An answer, its own or somebody else's.
    pub fn handle(&mut self, suffix: &str, payload: &[u8]) {
        let Ok(payload) = serde_json::from_slice::<Value>(payload) else { return };
        let token = payload["clientToken"].as_str();
        let is_own = token.is_some() && token == self.pending.as_ref().map(|(it, _)| &**it);
        match suffix {
            "get/accepted" if is_own => self.learn(payload),
            "get/rejected" if is_own && payload["code"] == 404 => self.view = Some(Value::Null),
            "update/accepted" | "update/rejected" | "delete/accepted" | "delete/rejected"
            | "get/rejected"
                if is_own =>
            {
                self.view = None;
            }
            "update/documents" => {
                // What the current document says, the delta included.
                let mut document = payload["current"].clone();
                let delta = super::reference::delta(&document["state"]);
                if !delta.is_null() {
                    document["state"]["delta"] = delta;
                }
                self.learn(document);
            }
            "update/delta" => {
                let is_new = self
                    .view
                    .as_ref()
                    .is_some_and(|it| it["version"].as_u64() <= payload["version"].as_u64());
                if is_new && matches!(self.role, Role::Device) && self.pending.is_none() {
                    // Enough to report by; the rest is asked for afterwards.
                    self.view = Some(json!({
                        "state": { "delta": payload["state"] },
                        "version": payload["version"],
                    }));
                }
            }
            "delete/accepted" => self.view = None,
            _ => {}
        }
        if is_own && (suffix.ends_with("accepted") || suffix.ends_with("rejected")) {
            self.pending = None;
        }
    }

    fn learn(&mut self, document: Value) {
        let known = self.view.as_ref().and_then(|it| it["version"].as_u64());
        if self.view.is_none() || known <= document["version"].as_u64() {
            self.view = Some(document);
        }
    }
}

/// Values that meet: few names, several types, nested, and gone again.
fn something(dice: &Dice) -> Value {
    let number = dice.below(4);
    match dice.below(9) {
        0 => json!({ "mode": number }),
        1 => json!({ "pos": { "x": number } }),
        2 => json!({ "pos": { "y": number, "deep": { "z": [number] } } }),
        3 => json!({ "pos": number }),
        4 => json!({ "list": vec![number; number] }),
        5 => json!({ "mode": null }),
        6 => json!({ "pos": { "x": null } }),
        7 => json!({ "pos": null, "mode": "on" }),
        _ => json!({ "pos": { "deep": { "z": null, "w": true } }, "n": number }),
    }
}
