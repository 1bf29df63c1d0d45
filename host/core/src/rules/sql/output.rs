//! The result of a SELECT list: columns to one JSON object. Values are borrowed, not copied.

use super::value::{Object, Value};
use super::{EvaluationError, RESULT_BYTES_MAX};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use indexmap::IndexMap;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::borrow::Cow;
use std::io;

/// Member that `SELECT *, …` puts a payload under that is no JSON object. AWS says that binary
/// payloads are attached in base64 and leaves open where.
const PAYLOAD_MEMBER: &str = "payload";

/// The columns so far; a later one replaces an earlier one of the same name.
#[derive(Debug, Default)]
pub(super) struct Output<'a>(Members<'a>);

type Members<'a> = IndexMap<&'a str, Member<'a>, ahash::RandomState>;

#[derive(Debug)]
enum Member<'a> {
    Value(Cow<'a, Value>),
    Object(Members<'a>),
}

impl<'a> Output<'a> {
    /// `*`: the members of the payload; `value` is Undefined when it is no JSON.
    pub fn add_payload(&mut self, value: &'a Value, payload: &[u8]) {
        match value {
            Value::Object(object) => {
                let members = object.iter().map(|(k, v)| (k.as_str(), Cow::Borrowed(v)));
                self.0.extend(members.map(|(name, value)| (name, Member::Value(value))));
            }
            Value::Undefined if payload.is_empty() => {}
            Value::Undefined => {
                let text = Value::Text(STANDARD.encode(payload));
                self.0.insert(PAYLOAD_MEMBER, Member::Value(Cow::Owned(text)));
            }
            other => {
                self.0.insert(PAYLOAD_MEMBER, Member::Value(Cow::Borrowed(other)));
            }
        }
    }

    /// `AS a.b`: an object on the way is extended, anything else is replaced.
    pub fn add(&mut self, path: &'a [String], value: Cow<'a, Value>) {
        let Some((last, way)) = path.split_last() else { return };
        let mut members = &mut self.0;
        for name in way {
            let entry = members.entry(name).or_insert_with(|| Member::Object(Members::default()));
            members = entry.as_members();
        }
        members.insert(last, Member::Value(value));
    }

    /// The object as JSON text.
    ///
    /// # Errors
    /// [`EvaluationError::TooLarge`].
    pub fn to_json(&self) -> Result<Bytes, EvaluationError> {
        to_json(self)
    }
}

/// The result of `SELECT VALUE`: JSON, bytes as they are, nothing for Undefined.
///
/// # Errors
/// [`EvaluationError::TooLarge`].
pub(super) fn bare(value: &Value) -> Result<Bytes, EvaluationError> {
    match value {
        Value::Undefined => Ok(Bytes::new()),
        Value::Bytes(bytes) => Ok(bytes.clone()),
        value => to_json(value),
    }
}

/// `AS a.b` in a nested SELECT: an object on the way is extended, anything else is replaced.
pub(super) fn add(object: &mut Object, path: &[String], value: Value) {
    let Some((last, way)) = path.split_last() else { return };
    let mut members = object;
    for name in way {
        let entry = members.entry(name.clone()).or_insert(Value::Undefined);
        if !matches!(entry, Value::Object(_)) {
            *entry = Value::Object(Object::default());
        }
        match entry {
            Value::Object(object) => members = object,
            _ => return,
        }
    }
    members.insert(last.clone(), value);
}

fn to_json(value: &impl Serialize) -> Result<Bytes, EvaluationError> {
    let mut json = Bounded(Vec::new());
    // The writer is the only thing here that can fail.
    serde_json::to_writer(&mut json, value).map_err(|_| EvaluationError::TooLarge)?;
    Ok(json.0.into())
}

impl<'a> Member<'a> {
    fn as_members(&mut self) -> &mut Members<'a> {
        if let Self::Value(value) = self {
            let members = match value {
                Cow::Borrowed(Value::Object(object)) => object
                    .iter()
                    .map(|(name, value)| (name.as_str(), Self::Value(Cow::Borrowed(value))))
                    .collect(),
                _ => Members::default(),
            };
            *self = Self::Object(members);
        }
        match self {
            Self::Object(members) => members,
            Self::Value(_) => unreachable!("it was made an object above"),
        }
    }
}

impl Serialize for Output<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_members(&self.0, serializer)
    }
}

impl Serialize for Member<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::Object(members) => serialize_members(members, serializer),
        }
    }
}

fn serialize_members<S: Serializer>(members: &Members<'_>, to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(None)?;
    for (name, member) in members {
        if !matches!(member, Member::Value(value) if value.is_undefined()) {
            map.serialize_entry(name, member)?;
        }
    }
    map.end()
}

/// Refuses to grow beyond [`RESULT_BYTES_MAX`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > RESULT_BYTES_MAX {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
