//! What an operation reads of a request, found out by letting it read: so that no test needs a list
//! of members that somebody could forget to extend.
//!
//! In: the types that handlers read bodies into ([`note_members`]), names of query parameters and
//! headers. Out: [`Read`], between [`start`] and [`take`]. Bound: [`ROUNDS`] tries per type, because a
//! field that refuses its probe hides those behind it.

use serde::Deserializer;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Each field is the first once, and each variant is chosen once.
const ROUNDS: usize = 40;

/// Deeper types lead back to themselves.
const DEPTH_MAX: usize = 12;

/// What an operation has read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    /// Places in the body: names of members, `"*"` for any name, `"[]"` for an item.
    pub members: BTreeSet<Vec<&'static str>>,
    /// Names of parameters of the query.
    pub query: BTreeSet<String>,
    /// Names of headers.
    pub headers: BTreeSet<String>,
}

thread_local! {
    /// None: nobody wants to know.
    static READ: RefCell<Option<Read>> = const { RefCell::new(None) };
}

/// Notes what is read on this thread from now on.
pub(crate) fn start() {
    READ.set(Some(Read::default()));
}

/// What was read since then; no more is noted.
pub(crate) fn take() -> Read {
    READ.take().unwrap_or_default()
}

fn note(into: impl FnOnce(&mut Read) -> bool) {
    READ.with_borrow_mut(|read| read.as_mut().map(into));
}

pub(crate) fn note_query(name: &str) {
    note(|read| read.query.insert(name.to_owned()));
}

pub(crate) fn note_header(name: &str) {
    note(|read| read.headers.insert(name.to_owned()));
}

pub(crate) fn note_members<T: DeserializeOwned>() {
    if READ.with_borrow(Option::is_none) {
        return;
    }
    for round in 0..ROUNDS {
        // What comes of it does not matter: the questions were noted.
        let _ = T::deserialize(Probe { round, path: Vec::new() });
    }
}

type Error = serde::de::value::Error;

/// Gives whoever deserializes what it asks for, and notes where.
#[derive(Clone)]
struct Probe {
    round: usize,
    path: Vec<&'static str>,
}

impl Probe {
    fn at(&self, step: &'static str) -> Result<Self, Error> {
        if self.path.len() >= DEPTH_MAX {
            return Err(Error::custom("deep enough"));
        }
        let mut path = self.path.clone();
        path.push(step);
        note(|read| read.members.insert(path.clone()));
        Ok(Self { round: self.round, path })
    }

    fn fields<'de, V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        for field in fields {
            self.at(field)?;
        }
        let first = self.round % fields.len().max(1);
        let order = fields[first..].iter().chain(&fields[..first]).copied().collect();
        visitor.visit_map(Fields { probe: self, rest: order, current: "" })
    }
}

macro_rules! answer {
    ($($asked:ident => $visit:ident($value:expr);)*) => {
        $(fn $asked<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit($value)
        })*
    };
}

impl<'de> Deserializer<'de> for Probe {
    type Error = Error;

    answer! {
        deserialize_any => visit_str("a");
        deserialize_bool => visit_bool(true);
        deserialize_i8 => visit_i8(1);
        deserialize_i16 => visit_i16(1);
        deserialize_i32 => visit_i32(1);
        deserialize_i64 => visit_i64(1);
        deserialize_u8 => visit_u8(1);
        deserialize_u16 => visit_u16(1);
        deserialize_u32 => visit_u32(1);
        deserialize_u64 => visit_u64(1);
        deserialize_f32 => visit_f32(1.0);
        deserialize_f64 => visit_f64(1.0);
        deserialize_char => visit_char('a');
        deserialize_str => visit_str("a");
        deserialize_string => visit_str("a");
        deserialize_bytes => visit_bytes(b"a");
        deserialize_byte_buf => visit_bytes(b"a");
        deserialize_identifier => visit_str("a");
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Fields { rest: vec!["[]"], current: "", probe: self })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { rest: vec!["*"], current: "", probe: self })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.fields(fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let variant = variants[self.round % variants.len()];
        visitor.visit_enum(Variant { probe: self, variant })
    }
}

/// The fields that are still to come: of a struct, a map or a list.
struct Fields {
    probe: Probe,
    rest: Vec<&'static str>,
    current: &'static str,
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        key: K,
    ) -> Result<Option<K::Value>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.current = self.rest.remove(0);
        let name: StrDeserializer<'_, Error> = self.current.into_deserializer();
        key.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, value: V) -> Result<V::Value, Error> {
        value.deserialize(self.probe.at(self.current)?)
    }
}

impl<'de> SeqAccess<'de> for Fields {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        item: T,
    ) -> Result<Option<T::Value>, Error> {
        match self.rest.pop() {
            Some(step) => item.deserialize(self.probe.at(step)?).map(Some),
            None => Ok(None),
        }
    }
}

struct Variant {
    probe: Probe,
    variant: &'static str,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name: StrDeserializer<'_, Error> = self.variant.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.probe.at(self.variant)?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.probe.at(self.variant)?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.probe.at(self.variant)?.fields(fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Whole {
        first_name: Option<String>,
        parts: Vec<Part>,
        by_name: BTreeMap<String, u32>,
        kind: Kind,
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Part {
        inner: bool,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[allow(dead_code, reason = "only its shape matters")]
    enum Kind {
        Plain,
        Full { deep: String },
    }

    #[test]
    fn every_place_of_a_type_is_noted() {
        start();
        note_members::<Whole>();
        let expected: [&[&str]; 9] = [
            &["byName"],
            &["byName", "*"],
            &["firstName"],
            &["kind"],
            &["kind", "full"],
            &["kind", "full", "deep"],
            &["parts"],
            &["parts", "[]"],
            &["parts", "[]", "inner"],
        ];
        assert!(take().members.iter().map(Vec::as_slice).eq(expected));
    }
}
