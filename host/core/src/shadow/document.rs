//! The shadow document: merge, delta, metadata, versions and the rule of deletion. Pure.
//!
//! In: a [`Stored`] shadow, an update, the time. Out: the shadow afterwards.
//! State and metadata are one tree: each leaf carries the second in which it was last set, so
//! neither can have what the other lacks.

use super::ShadowError;
use super::request::{Section, Update};
use crate::limits::Limits;
use crate::time::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io;

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
        if json_bytes(&next.state()) > limits.shadow_bytes as usize {
            return Err(ShadowError::TooLarge);
        }
        Ok(next)
    }

    /// What of `desired` differs from `reported`, with the times of `desired`.
    pub fn delta(&self) -> Tree {
        difference(&self.desired, &self.reported)
    }

    /// The values of both sections.
    pub fn state(&self) -> Sections<State<'_>> {
        self.sections(State)
    }

    /// The times of both sections.
    pub fn metadata(&self) -> Sections<Times<'_>> {
        self.sections(Times)
    }

    fn sections<'a, T>(&'a self, view: fn(&'a Tree) -> T) -> Sections<T> {
        let section = |tree: &'a Tree| (!tree.is_empty()).then(|| view(tree));
        Sections { desired: section(&self.desired), reported: section(&self.reported), delta: None }
    }
}

/// `{"desired": …, "reported": …, "delta": …}` as JSON, without what is not there.
#[derive(Debug, Serialize)]
pub struct Sections<T> {
    /// What the thing ought to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired: Option<T>,
    /// What the thing says it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported: Option<T>,
    /// What is desired and not reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<T>,
}

/// The values of a tree as JSON.
#[derive(Debug)]
pub struct State<'a>(pub &'a Tree);

impl Serialize for State<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Value<'a>(&'a Node);
        impl Serialize for Value<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self.0 {
                    Node::Leaf { value, .. } => value.serialize(serializer),
                    Node::Branch(tree) => State(tree).serialize(serializer),
                }
            }
        }
        serializer.collect_map(self.0.iter().map(|(name, node)| (name, Value(node))))
    }
}

/// The times of a tree as JSON: the same shape, with `{"timestamp": …}` in place of values.
#[derive(Debug)]
pub struct Times<'a>(pub &'a Tree);

impl Serialize for Times<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Time<'a>(&'a Node);
        impl Serialize for Time<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self.0 {
                    Node::Leaf { value, set_at_s } => {
                        LeafTime { value, set_at_s: *set_at_s }.serialize(serializer)
                    }
                    Node::Branch(tree) => Times(tree).serialize(serializer),
                }
            }
        }
        serializer.collect_map(self.0.iter().map(|(name, node)| (name, Time(node))))
    }
}

/// An array has the time at each of its elements, however deep.
struct LeafTime<'a> {
    value: &'a Value,
    set_at_s: u64,
}

impl Serialize for LeafTime<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let inner = |value| LeafTime { value, set_at_s: self.set_at_s };
        match self.value {
            Value::Array(values) => serializer.collect_seq(values.iter().map(inner)),
            Value::Object(fields) => {
                serializer.collect_map(fields.iter().map(|(name, value)| (name, inner(value))))
            }
            _ => serializer.collect_map([("timestamp", self.set_at_s)]),
        }
    }
}

/// Bytes of the value as JSON.
fn json_bytes(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value).expect("a JSON value can be counted");
    count.0
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
