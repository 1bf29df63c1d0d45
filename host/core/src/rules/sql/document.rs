//! Reading a payload: only the paths that a statement names become values, the rest is skipped.
//!
//! In: the sorted paths of a plan ([`Paths`]) and the payload. Out: one value per path
//! ([`Document`]). A payload that is no JSON has only Undefined values. Building values costs
//! several times what skipping costs, and most rules look at one or two members.
//!
//! Of duplicate names the last one counts. Numbers become Int or double here; one beyond the
//! range of a double makes the payload unreadable, unless it is skipped.

use super::value::{Object, Value};
use super::{EvaluationError, JSON_DEPTH_MAX, Version};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::ops::Range;

/// The paths that a statement reads: sorted, and none begins with another one.
///
/// A group of paths with a common beginning is a range of the list, so the list is its own tree.
#[derive(Debug, Default)]
pub(super) struct Paths(Vec<Vec<String>>);

impl Paths {
    /// Keeps the shortest of paths that begin with each other.
    pub fn new(mut paths: Vec<Vec<String>>) -> Self {
        paths.sort_unstable();
        // A path sorts directly before those that it begins.
        paths.dedup_by(|longer, kept| longer.starts_with(kept));
        Self(paths)
    }

    /// The slot that a path is read from, and how many of its segments lead there.
    pub fn slot(&self, path: &[String]) -> Option<(usize, usize)> {
        let slot = self.0.partition_point(|kept| kept.as_slice() <= path).checked_sub(1)?;
        let kept = &self.0[slot];
        path.starts_with(kept).then_some((slot, kept.len()))
    }

    /// Those of `range`, which agree in `depth` segments, that go on with `name`.
    fn narrow(&self, range: &Range<usize>, depth: usize, name: &str) -> Range<usize> {
        let group = &self.0[range.clone()];
        let start = group.partition_point(|path| path[depth].as_str() < name);
        let len = group[start..].partition_point(|path| path[depth] == name);
        range.start + start..range.start + start + len
    }
}

/// The values of a payload at the paths of a plan.
#[derive(Debug)]
pub(super) struct Document(Vec<Value>);

impl Document {
    /// Reads the payload once, front to back.
    pub fn read(paths: &Paths, payload: &[u8], version: Version) -> Result<Self, EvaluationError> {
        let undefined = || vec![Value::Undefined; paths.0.len()];
        if paths.0.is_empty() {
            return Ok(Self(Vec::new()));
        }
        // Checked at once: cheaper than string by string, and it covers the skipped ones.
        let Ok(text) = std::str::from_utf8(payload) else {
            return Ok(Self(undefined()));
        };
        let mut reader = Reader { paths, version, slots: undefined(), is_too_deep: false };
        let mut json = serde_json::Deserializer::from_str(text);
        let all = Group { reader: &mut reader, range: 0..paths.0.len(), depth: 0 };
        let read = all.deserialize(&mut json).and_then(|()| json.end());
        match read {
            _ if reader.is_too_deep => Err(EvaluationError::TooDeep),
            Ok(()) => Ok(Self(reader.slots)),
            Err(_) => Ok(Self(undefined())),
        }
    }

    pub fn value(&self, slot: usize) -> &Value {
        &self.0[slot]
    }
}

struct Reader<'p> {
    paths: &'p Paths,
    version: Version,
    slots: Vec<Value>,
    is_too_deep: bool,
}

/// Reads a value into the slots of paths that agree in their first `depth` segments.
struct Group<'r, 'p> {
    reader: &'r mut Reader<'p>,
    range: Range<usize>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Group<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // Of paths that begin with each other only one is kept, so a path that ends here is alone.
        let first = self.range.start;
        if self.reader.paths.0[first].len() > self.depth {
            return deserializer.deserialize_any(self);
        }
        // A path has at most that many names (`plan`).
        let depth = JSON_DEPTH_MAX - self.depth;
        let version = self.reader.version;
        let seed = Whole { version, depth, too_deep: &mut self.reader.is_too_deep };
        self.reader.slots[first] = seed.deserialize(deserializer)?;
        Ok(())
    }
}

impl<'de> Visitor<'de> for Group<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { reader, range, depth } = self;
        let paths = reader.paths;
        while let Some(range) = map.next_key_seed(Name { paths, range: &range, depth })? {
            if range.is_empty() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            // A duplicate name takes back what the earlier one said.
            reader.slots[range.clone()].fill(Value::Undefined);
            map.next_value_seed(Group { reader, range, depth: depth + 1 })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Looks a member's name up without allocating it.
struct Name<'a> {
    paths: &'a Paths,
    range: &'a Range<usize>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Range<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Range<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.paths.narrow(self.range, self.depth, name))
    }
}

impl Value {
    /// Reads a JSON text; `None` when it is none, or nested deeper than [`JSON_DEPTH_MAX`].
    pub(super) fn from_json(json: &[u8], version: Version) -> Option<Self> {
        let mut too_deep = false;
        let seed = Whole { version, depth: JSON_DEPTH_MAX, too_deep: &mut too_deep };
        let mut json = serde_json::Deserializer::from_str(std::str::from_utf8(json).ok()?);
        let value = seed.deserialize(&mut json).ok()?;
        json.end().ok()?;
        (!too_deep).then_some(value)
    }
}

/// Reads a whole value that may have `depth` more levels.
struct Whole<'r> {
    version: Version,
    depth: usize,
    too_deep: &'r mut bool,
}

impl Whole<'_> {
    fn below(&mut self) -> Whole<'_> {
        Whole { version: self.version, depth: self.depth - 1, too_deep: self.too_deep }
    }
}

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Object::default();
        if self.depth == 0 {
            *self.too_deep = true;
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Value::Undefined);
        }
        while let Some(name) = map.next_key::<String>()? {
            object.insert(name, map.next_value_seed(self.below())?);
        }
        Ok(Value::Object(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        if self.depth == 0 {
            *self.too_deep = true;
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Value::Undefined);
        }
        while let Some(value) = seq.next_element_seed(self.below())? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_bool<E>(self, bool: bool) -> Result<Value, E> {
        Ok(Value::Bool(bool))
    }

    fn visit_i64<E>(self, int: i64) -> Result<Value, E> {
        Ok(Value::Int(int.into()))
    }

    fn visit_u64<E>(self, int: u64) -> Result<Value, E> {
        Ok(Value::Int(int.into()))
    }

    fn visit_f64<E>(self, decimal: f64) -> Result<Value, E> {
        Ok(Value::decimal(decimal, self.version))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}
