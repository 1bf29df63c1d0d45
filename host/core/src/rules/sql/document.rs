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
use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

/// The paths that a statement reads, none of which begins with another one, as a tree of names.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// Sorted: a path's place is its slot.
    list: Vec<Vec<String>>,
    root: Branch,
}

/// Paths with a common beginning: a range of the list.
#[derive(Debug, Default)]
struct Branch {
    slots: Range<usize>,
    /// How they go on, by length of the name and then its bytes, which is quick to search; none when
    /// a path ends here.
    names: Vec<(Box<str>, Branch)>,
}

impl Paths {
    /// Keeps the shortest of paths that begin with each other.
    pub fn new(mut paths: Vec<Vec<String>>) -> Self {
        paths.sort_unstable();
        // A path sorts directly before those that it begins.
        paths.dedup_by(|longer, kept| longer.starts_with(kept));
        let root = Branch::new(&paths, 0..paths.len(), 0);
        Self { list: paths, root }
    }

    /// The slot that a path is read from, and how many of its segments lead there.
    pub fn slot(&self, path: &[String]) -> Option<(usize, usize)> {
        let slot = self.list.partition_point(|kept| kept.as_slice() <= path).checked_sub(1)?;
        let kept = &self.list[slot];
        path.starts_with(kept).then_some((slot, kept.len()))
    }

    /// Whether all of these are read from here.
    pub fn cover(&self, paths: &[Vec<String>]) -> bool {
        paths.iter().all(|path| self.slot(path).is_some())
    }
}

impl Branch {
    /// Paths of `slots`, which agree in `depth` segments.
    fn new(paths: &[Vec<String>], slots: Range<usize>, depth: usize) -> Self {
        let mut names = Vec::new();
        let mut start = slots.start;
        while let Some(name) = paths[start..slots.end].first().and_then(|path| path.get(depth)) {
            let len = paths[start..slots.end].partition_point(|path| path[depth] == *name);
            let below = Self::new(paths, start..start + len, depth + 1);
            names.push((Box::from(name.as_str()), below));
            start += len;
        }
        names.sort_unstable_by(|(a, _), (b, _)| by_length(a, b));
        Self { slots, names }
    }

    fn below(&self, name: &str) -> Option<&Self> {
        let at = self.names.binary_search_by(|(known, _)| by_length(known, name)).ok()?;
        Some(&self.names[at].1)
    }
}

fn by_length(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// The values of a payload at the paths of a plan.
#[derive(Debug)]
pub(super) struct Document(Vec<Value>);

impl Document {
    /// Reads the payload once, front to back.
    pub fn read(paths: &Paths, payload: &[u8], version: Version) -> Result<Self, EvaluationError> {
        let undefined = || vec![Value::Undefined; paths.list.len()];
        if paths.list.is_empty() {
            return Ok(Self(Vec::new()));
        }
        // Checked at once: cheaper than string by string, and it covers the skipped ones.
        let Ok(text) = std::str::from_utf8(payload) else {
            return Ok(Self(undefined()));
        };
        let mut reader = Reader { version, slots: undefined(), is_too_deep: false };
        let mut json = serde_json::Deserializer::from_str(text);
        let all = Group { reader: &mut reader, branch: &paths.root, depth: 0 };
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

struct Reader {
    version: Version,
    slots: Vec<Value>,
    is_too_deep: bool,
}

/// Reads a value into the slots of paths that agree in their first `depth` segments.
struct Group<'a> {
    reader: &'a mut Reader,
    branch: &'a Branch,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Group<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if !self.branch.names.is_empty() {
            return deserializer.deserialize_any(self);
        }
        // A path has at most that many names (`plan`).
        let depth = JSON_DEPTH_MAX - self.depth;
        let version = self.reader.version;
        let seed = Whole { version, depth, too_deep: &mut self.reader.is_too_deep };
        // Of paths that begin with each other only one is kept, so a path that ends here is alone.
        self.reader.slots[self.branch.slots.start] = seed.deserialize(deserializer)?;
        Ok(())
    }
}

impl<'de> Visitor<'de> for Group<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { reader, branch, depth } = self;
        while let Some(below) = map.next_key_seed(Name(branch))? {
            let Some(branch) = below else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            // A duplicate name takes back what the earlier one said.
            reader.slots[branch.slots.clone()].fill(Value::Undefined);
            map.next_value_seed(Group { reader, branch, depth: depth + 1 })?;
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
struct Name<'a>(&'a Branch);

impl<'de, 'a> DeserializeSeed<'de> for Name<'a> {
    type Value = Option<&'a Branch>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Name<'a> {
    type Value = Option<&'a Branch>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.below(name))
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
