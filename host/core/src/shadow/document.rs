//! The shadow document: merge, delta, metadata, versions and the rule of deletion. Pure.
//!
//! In: a [`Stored`] shadow, an update, the time. Out: the shadow afterwards.
//! State and metadata are one tree: each leaf carries the second in which it was last set, so
//! neither can have what the other lacks.

use super::ShadowError;
use super::request::{Section, Update};
use crate::limits::Limits;
use crate::time::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// How long the version of a deleted shadow is continued by a new one, in seconds: 48 hours.
const DELETED_VERSION_KEPT_S: u64 = 48 * 3_600;

/// `desired` or `reported`.
pub type Tree = BTreeMap<String, Node>;

/// What a name in a [`Tree`] stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Anything but an object; an array is set and compared as a whole.
    Leaf {
        /// The value; never null, and no null in an array.
        value: Value,
        /// When it was last set, in seconds since the Unix epoch.
        set_at_s: u64,
    },
    /// An object; never empty.
    Branch(Tree),
}

/// A shadow that exists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// What the thing ought to be.
    pub desired: Tree,
    /// What the thing says it is.
    pub reported: Tree,
    /// Counts the updates, from 1; 0 only before the first.
    pub version: u64,
}

/// What is kept of a shadow.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// It exists.
    Document(Document),
    /// It was deleted: its version is continued for 48 hours.
    Deleted {
        /// The last version.
        version: u64,
        /// When, in seconds since the Unix epoch.
        at_s: u64,
    },
}

impl Stored {
    /// The document that an update starts from.
    pub(super) fn base(stored: Option<Self>, now: Timestamp) -> Document {
        match stored {
            Some(Self::Document(document)) => document,
            Some(stored) if stored.is_forgotten(now) => Document::default(),
            Some(Self::Deleted { version, .. }) => Document { version, ..Document::default() },
            None => Document::default(),
        }
    }

    /// It says nothing any more that its absence would not say.
    pub(super) fn is_forgotten(&self, now: Timestamp) -> bool {
        match self {
            Self::Document(_) => false,
            Self::Deleted { at_s, .. } => {
                now.as_secs().saturating_sub(*at_s) >= DELETED_VERSION_KEPT_S
            }
        }
    }

    /// The document, unless it is deleted.
    pub(super) fn existing(self) -> Option<Document> {
        match self {
            Self::Document(document) => Some(document),
            Self::Deleted { .. } => None,
        }
    }
}

impl Document {
    /// The document after the update. The version grows also when nothing else changes.
    pub(super) fn updated(
        &self,
        update: &Update,
        now: Timestamp,
        limits: &Limits,
    ) -> Result<Self, ShadowError> {
        if update.version.is_some_and(|version| version != self.version) {
            return Err(ShadowError::VersionConflict);
        }
        let mut next = self.clone();
        apply(&mut next.desired, &update.desired, now.as_secs());
        apply(&mut next.reported, &update.reported, now.as_secs());
        next.version += 1;
        let state = serde_json::to_vec(&next.state()).expect("a JSON value can be written");
        if state.len() > limits.shadow_bytes as usize {
            return Err(ShadowError::TooLarge);
        }
        Ok(next)
    }

    /// What of `desired` differs from `reported`, with the times of `desired`.
    pub fn delta(&self) -> Tree {
        difference(&self.desired, &self.reported)
    }

    /// `{"desired": …, "reported": …}`, without what is empty.
    pub fn state(&self) -> Value {
        self.sections(state)
    }

    /// The same shape, with `{"timestamp": …}` in place of values.
    pub fn metadata(&self) -> Value {
        self.sections(metadata)
    }

    fn sections(&self, view: fn(&Tree) -> Value) -> Value {
        let mut sections = Map::new();
        for (name, tree) in [("desired", &self.desired), ("reported", &self.reported)] {
            if !tree.is_empty() {
                sections.insert(name.into(), view(tree));
            }
        }
        Value::Object(sections)
    }
}

/// The values of a tree.
pub fn state(tree: &Tree) -> Value {
    view(tree, &|value, _| value.clone())
}

/// The times of a tree.
pub fn metadata(tree: &Tree) -> Value {
    view(tree, &times)
}

fn view(tree: &Tree, leaf: &impl Fn(&Value, u64) -> Value) -> Value {
    let member = |(name, node): (&String, &Node)| {
        let value = match node {
            Node::Leaf { value, set_at_s } => leaf(value, *set_at_s),
            Node::Branch(tree) => view(tree, leaf),
        };
        (name.clone(), value)
    };
    Value::Object(tree.iter().map(member).collect())
}

/// An array has the time at each of its elements, however deep.
fn times(value: &Value, set_at_s: u64) -> Value {
    match value {
        Value::Array(values) => values.iter().map(|value| times(value, set_at_s)).collect(),
        Value::Object(fields) => {
            let member = |(name, value): (&String, _)| (name.clone(), times(value, set_at_s));
            Value::Object(fields.iter().map(member).collect())
        }
        _ => json!({ "timestamp": set_at_s }),
    }
}

/// What an update set, as a tree of its own: the part that `accepted` tells.
pub(super) fn set_by(fields: &Map<String, Value>, now: Timestamp) -> Tree {
    let mut tree = Tree::new();
    merge(&mut tree, fields, now.as_secs());
    tree
}

fn apply(tree: &mut Tree, section: &Section, now_s: u64) {
    match section {
        Section::Keep => {}
        Section::Remove => tree.clear(),
        Section::Merge(fields) => merge(tree, fields, now_s),
    }
}

fn merge(tree: &mut Tree, fields: &Map<String, Value>, now_s: u64) {
    for (name, value) in fields {
        match value {
            Value::Null => {
                tree.remove(name);
            }
            Value::Object(fields) => {
                let mut branch = match tree.remove(name) {
                    Some(Node::Branch(branch)) => branch,
                    _ => Tree::new(),
                };
                merge(&mut branch, fields, now_s);
                // An object without members disappears.
                if !branch.is_empty() {
                    tree.insert(name.clone(), Node::Branch(branch));
                }
            }
            value => {
                let leaf = Node::Leaf { value: value.clone(), set_at_s: now_s };
                tree.insert(name.clone(), leaf);
            }
        }
    }
}

fn difference(desired: &Tree, reported: &Tree) -> Tree {
    let mut delta = Tree::new();
    for (name, wanted) in desired {
        let differs = match (wanted, reported.get(name)) {
            (Node::Branch(wanted), Some(Node::Branch(found))) => {
                let inner = difference(wanted, found);
                (!inner.is_empty()).then_some(Node::Branch(inner))
            }
            (Node::Leaf { value: wanted, .. }, Some(Node::Leaf { value: found, .. }))
                if equal(wanted, found) =>
            {
                None
            }
            _ => Some(wanted.clone()),
        };
        if let Some(node) = differs {
            delta.insert(name.clone(), node);
        }
    }
    delta
}

/// Deep equality in which 1 and 1.0 are the same number, as in JSON.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            // Whole numbers are compared as such: as floats, large ones would run together.
            a == b || ((x.is_f64() || y.is_f64()) && x.as_f64() == y.as_f64())
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(a, b)| equal(a, b))
        }
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(name, a)| y.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests;
