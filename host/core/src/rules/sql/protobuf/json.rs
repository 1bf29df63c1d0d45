//! Messages as JSON, as the Protocol Buffers documentation maps them and its Java library prints
//! them by default.
//!
//! Decided here, since AWS does not say more than "JSON":
//! - Names are `lowerCamelCase` (or the field's `json_name`).
//! - 64-bit integers are strings, as JSON numbers lose digits elsewhere; Rules SQL computes with
//!   numeric strings all the same. Others are numbers, not finite ones strings.
//! - Bytes are base64, enums their name, or their number when it has none.
//! - A field without presence is left out when it has its default value, and so are empty lists
//!   and maps. A field of a `oneof`, `optional` or `proto2` is there when the payload has it.
//! - Well-known types have their own form (`Timestamp`, `Duration`, `Struct`, wrappers, ...).
//! - An `Any` is its message and `@type`, when the set has this type; otherwise the payload
//!   cannot be decoded.
//! - Extensions are unknown fields, and a field of another wire type than declared is one.
//!
//! Source: protobuf.dev, "ProtoJSON Format" and "Encoding".

use super::schema::{FieldType, Form, Kind, MessageType, Schema, low_32, lower_camel_case};
use super::wire::{Reader, Wire};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::date;
use jiff::{SignedDuration, ToSpan as _};
use serde_json::Value as Json;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

type Members = serde_json::Map<String, Json>;

/// The years 1 to 9999.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// 10_000 years.
const DURATION_SECONDS_MAX: u64 = 315_576_000_000;

const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// The values of each known field that is set, by its number.
///
/// Of a message that is not repeated all parts are kept: together they are one message.
type Slots<'a> = BTreeMap<u32, Vec<Wire<'a>>>;

/// Writes one payload. Every method answers `None` when it cannot be written.
pub struct Writer<'s> {
    schema: &'s Schema,
    /// Memory that values may still take.
    bytes_left: usize,
}

impl<'s> Writer<'s> {
    pub fn new(schema: &'s Schema, bytes_max: usize) -> Self {
        Self { schema, bytes_left: bytes_max }
    }

    /// `depth`: how many levels of JSON may still be opened.
    pub fn message(&mut self, at: usize, bytes: &[u8], depth: usize) -> Option<Json> {
        let message = self.schema.messages.get(at)?;
        let slots = self.slots(message, bytes)?;
        match message.form {
            Form::Plain => self.members(message, &slots, depth).map(Json::Object),
            Form::Any => self.any(&slots, depth),
            Form::Timestamp => {
                let text = timestamp(int(&slots, 1), nanos(&slots))?;
                self.text(text)
            }
            Form::Duration => {
                let text = duration(int(&slots, 1), nanos(&slots))?;
                self.text(text)
            }
            Form::FieldMask => {
                let text = field_mask(&slots)?;
                self.text(text)
            }
            Form::Struct | Form::ListValue | Form::Wrapper => {
                let field = message.fields.get(&1)?;
                self.field(field, slots.get(&1).map_or(&[], Vec::as_slice), depth)
            }
            Form::Value => self.dynamic_value(message, &slots, depth),
        }
    }

    fn members(
        &mut self,
        message: &MessageType,
        slots: &Slots<'_>,
        depth: usize,
    ) -> Option<Members> {
        let depth = depth.checked_sub(1)?;
        let mut members = Members::new();
        for (number, wires) in slots {
            let field = message.fields.get(number)?;
            if !field.has_presence && self.is_default(field, wires) {
                continue;
            }
            self.charge(field.json_name.len())?;
            members.insert(field.json_name.clone(), self.field(field, wires, depth)?);
        }
        Some(members)
    }

    /// Sorts the fields of a message by their number, and checks that required ones are there.
    fn slots<'a>(&self, message: &MessageType, bytes: &'a [u8]) -> Option<Slots<'a>> {
        let mut slots = Slots::new();
        let mut oneofs: HashMap<u64, u32> = HashMap::new();
        let mut reader = Reader(bytes);
        while let Some((number, wire)) = reader.field().ok()? {
            let Some(field) = message.fields.get(&number) else { continue };
            if !self.is_known(field, wire) {
                continue;
            }
            // The last member of a oneof takes the place of another one.
            if let Some(oneof) = field.oneof
                && let Some(other) = oneofs.insert(oneof, number)
                && other != number
            {
                slots.remove(&other);
            }
            let wires = slots.entry(number).or_default();
            if !field.is_repeated && !matches!(field.kind, Kind::Message(_) | Kind::Group(_)) {
                wires.clear();
            }
            wires.push(wire);
        }
        message.required.iter().all(|number| slots.contains_key(number)).then_some(slots)
    }

    /// Whether the field is written as declared, or packed.
    fn is_known(&self, field: &FieldType, wire: Wire<'_>) -> bool {
        match (wire, field.kind) {
            (Wire::Varint(number), Kind::Enum(at)) => self.is_enum_value(at, number),
            (Wire::Bytes(_), kind) if field.is_repeated => !matches!(kind, Kind::Group(_)),
            (wire, kind) => is_of_kind(wire, kind),
        }
    }

    fn is_enum_value(&self, at: usize, number: u64) -> bool {
        let number = low_32(number).cast_signed();
        self.schema.enums.get(at).is_some_and(|it| !it.is_closed || it.values.contains_key(&number))
    }

    /// Whether a field that is not a message has nothing to say.
    fn is_default(&self, field: &FieldType, wires: &[Wire<'_>]) -> bool {
        let no_bytes = |wire: &Wire<'_>| matches!(wire, Wire::Bytes([]));
        match (field.is_repeated, field.kind) {
            (true, Kind::Message(_) | Kind::Group(_) | Kind::String | Kind::Bytes) => {
                wires.is_empty()
            }
            (true, _) => wires.iter().all(no_bytes),
            (false, kind) => wires.iter().all(|wire| match (*wire, kind) {
                (Wire::Varint(value), Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Bool) => {
                    value == 0
                }
                (Wire::Varint(value), _) => low_32(value) == 0,
                (Wire::Fixed64(bytes), _) => bytes == [0; 8],
                (Wire::Fixed32(bytes), _) => bytes == [0; 4],
                (Wire::Bytes(bytes), _) => bytes.is_empty(),
                (Wire::Group(_), _) => false,
            }),
        }
    }

    fn field(&mut self, field: &FieldType, wires: &[Wire<'_>], depth: usize) -> Option<Json> {
        match field.kind {
            Kind::Message(at)
                if field.is_repeated && self.schema.messages.get(at)?.is_map_entry =>
            {
                self.map(at, wires, depth)
            }
            kind if field.is_repeated => self.list(kind, wires, depth),
            kind => self.value(kind, wires, depth),
        }
    }

    /// Of no wire it is the default value.
    fn value(&mut self, kind: Kind, wires: &[Wire<'_>], depth: usize) -> Option<Json> {
        self.charge(0)?;
        match kind {
            Kind::Message(at) | Kind::Group(at) => {
                let parts: Vec<&[u8]> = wires.iter().filter_map(|wire| bytes_of(*wire)).collect();
                let bytes = match parts[..] {
                    [] => Cow::Borrowed(&[][..]),
                    [bytes] => Cow::Borrowed(bytes),
                    _ => Cow::Owned(parts.concat()),
                };
                self.message(at, &bytes, depth)
            }
            Kind::String => {
                let bytes = wires.last().and_then(|wire| bytes_of(*wire)).unwrap_or_default();
                self.text(std::str::from_utf8(bytes).ok()?.to_owned())
            }
            Kind::Bytes => {
                let bytes = wires.last().and_then(|wire| bytes_of(*wire)).unwrap_or_default();
                self.text(STANDARD.encode(bytes))
            }
            kind => {
                let bits = wires.last().map_or(Some(0), |wire| bits_of(*wire))?;
                self.number(kind, bits)
            }
        }
    }

    /// The value of a number, a bool or an enum, whatever wire type it has.
    fn number(&mut self, kind: Kind, bits: u64) -> Option<Json> {
        let low = low_32(bits);
        Some(match kind {
            Kind::Double => double(f64::from_bits(bits)),
            Kind::Float => single(f32::from_bits(low)),
            Kind::Int64 | Kind::Sfixed64 => self.text(bits.cast_signed().to_string())?,
            Kind::Uint64 | Kind::Fixed64 => self.text(bits.to_string())?,
            Kind::Sint64 => {
                let zigzag = (bits >> 1).cast_signed() ^ -(bits & 1).cast_signed();
                self.text(zigzag.to_string())?
            }
            Kind::Int32 | Kind::Sfixed32 => Json::from(low.cast_signed()),
            Kind::Uint32 | Kind::Fixed32 => Json::from(low),
            Kind::Sint32 => Json::from((low >> 1).cast_signed() ^ -(low & 1).cast_signed()),
            Kind::Bool => Json::from(bits != 0),
            Kind::Enum(at) => {
                let an_enum = self.schema.enums.get(at)?;
                match an_enum.values.get(&low.cast_signed()) {
                    _ if an_enum.is_null => Json::Null,
                    Some(name) => self.text(name.clone())?,
                    None => Json::from(low.cast_signed()),
                }
            }
            Kind::String | Kind::Bytes | Kind::Message(_) | Kind::Group(_) => return None,
        })
    }

    fn list(&mut self, kind: Kind, wires: &[Wire<'_>], depth: usize) -> Option<Json> {
        let depth = depth.checked_sub(1)?;
        let mut values = Vec::new();
        for wire in wires {
            match *wire {
                Wire::Bytes(packed) if !is_of_kind(*wire, kind) => {
                    self.packed(kind, packed, &mut values)?;
                }
                wire => values.push(self.value(kind, &[wire], depth)?),
            }
        }
        Some(Json::Array(values))
    }

    fn packed(&mut self, kind: Kind, packed: &[u8], values: &mut Vec<Json>) -> Option<()> {
        let mut reader = Reader(packed);
        while !reader.0.is_empty() {
            let bits = match kind {
                Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => {
                    reader.array().map(u64::from_le_bytes)
                }
                Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => {
                    reader.array().map(|bytes| u64::from(u32::from_le_bytes(bytes)))
                }
                _ => reader.varint(),
            };
            let bits = bits.ok()?;
            if let Kind::Enum(at) = kind
                && !self.is_enum_value(at, bits)
            {
                continue;
            }
            self.charge(0)?;
            values.push(self.number(kind, bits)?);
        }
        Some(())
    }

    fn map(&mut self, entry: usize, wires: &[Wire<'_>], depth: usize) -> Option<Json> {
        let depth = depth.checked_sub(1)?;
        let entry = self.schema.messages.get(entry)?;
        let (key, value) = (entry.fields.get(&1)?, entry.fields.get(&2)?);
        let mut members = Members::new();
        for wire in wires {
            let slots = self.slots(entry, bytes_of(*wire)?)?;
            let of = |number: u32| slots.get(&number).map_or(&[][..], Vec::as_slice);
            let name = match self.field(key, of(1), depth)? {
                Json::String(name) => name,
                // Numbers and Booleans.
                other => other.to_string(),
            };
            self.charge(name.len())?;
            members.insert(name, self.field(value, of(2), depth)?);
        }
        Some(Json::Object(members))
    }

    /// What a `Value` holds; of nothing, null.
    fn dynamic_value(
        &mut self,
        message: &MessageType,
        slots: &Slots<'_>,
        depth: usize,
    ) -> Option<Json> {
        let Some((number, wires)) = slots.iter().next() else { return Some(Json::Null) };
        let field = message.fields.get(number)?;
        let is_finite = |wire: &Wire<'_>| match *wire {
            Wire::Fixed64(bytes) => f64::from_le_bytes(bytes).is_finite(),
            _ => true,
        };
        if !wires.iter().all(is_finite) {
            return None;
        }
        self.field(field, wires, depth)
    }

    fn any(&mut self, slots: &Slots<'_>, depth: usize) -> Option<Json> {
        let bytes = |number| slots.get(&number)?.last().copied().and_then(bytes_of);
        let (url, value) = (bytes(1).unwrap_or_default(), bytes(2).unwrap_or_default());
        if url.is_empty() && value.is_empty() {
            return Some(Json::Object(Members::new()));
        }
        let url = std::str::from_utf8(url).ok()?;
        let at = self.schema.message(url.rsplit_once('/')?.1)?;
        let message = self.schema.messages.get(at)?;
        let mut members = match message.form {
            Form::Plain => {
                let slots = self.slots(message, value)?;
                self.members(message, &slots, depth)?
            }
            _ => {
                let value = self.message(at, value, depth.checked_sub(1)?)?;
                Members::from_iter([("value".to_owned(), value)])
            }
        };
        members.insert("@type".to_owned(), self.text(url.to_owned())?);
        Some(Json::Object(members))
    }

    fn text(&mut self, text: String) -> Option<Json> {
        self.charge(text.len())?;
        Some(Json::String(text))
    }

    /// For a value and the bytes that it holds.
    fn charge(&mut self, bytes: usize) -> Option<()> {
        self.bytes_left = self.bytes_left.checked_sub(size_of::<Json>() + bytes)?;
        Some(())
    }
}

/// Whether one value of this kind is written so.
fn is_of_kind(wire: Wire<'_>, kind: Kind) -> bool {
    match wire {
        Wire::Fixed64(_) => matches!(kind, Kind::Double | Kind::Fixed64 | Kind::Sfixed64),
        Wire::Fixed32(_) => matches!(kind, Kind::Float | Kind::Fixed32 | Kind::Sfixed32),
        Wire::Bytes(_) => matches!(kind, Kind::String | Kind::Bytes | Kind::Message(_)),
        Wire::Group(_) => matches!(kind, Kind::Group(_)),
        Wire::Varint(_) => matches!(
            kind,
            Kind::Int32
                | Kind::Int64
                | Kind::Uint32
                | Kind::Uint64
                | Kind::Sint32
                | Kind::Sint64
                | Kind::Bool
                | Kind::Enum(_)
        ),
    }
}

fn bytes_of(wire: Wire<'_>) -> Option<&[u8]> {
    match wire {
        Wire::Bytes(bytes) | Wire::Group(bytes) => Some(bytes),
        _ => None,
    }
}

fn bits_of(wire: Wire<'_>) -> Option<u64> {
    match wire {
        Wire::Varint(value) => Some(value),
        Wire::Fixed64(bytes) => Some(u64::from_le_bytes(bytes)),
        Wire::Fixed32(bytes) => Some(u64::from(u32::from_le_bytes(bytes))),
        Wire::Bytes(_) | Wire::Group(_) => None,
    }
}

/// An `int64` field that is not repeated, or 0.
fn int(slots: &Slots<'_>, number: u32) -> i64 {
    let wire = slots.get(&number).and_then(|wires| wires.last());
    wire.and_then(|wire| bits_of(*wire)).unwrap_or_default().cast_signed()
}

/// Field 2 of `Timestamp` and `Duration`, an `int32`.
fn nanos(slots: &Slots<'_>) -> i32 {
    low_32(int(slots, 2).cast_unsigned()).cast_signed()
}

fn double(float: f64) -> Json {
    match serde_json::Number::from_f64(float) {
        Some(number) => Json::Number(number),
        None if float.is_nan() => Json::from("NaN"),
        None if float > 0.0 => Json::from("Infinity"),
        None => Json::from("-Infinity"),
    }
}

/// With the digits of a float: 0.1, where the nearest double is 0.10000000149011612.
fn single(float: f32) -> Json {
    double(float.to_string().parse().unwrap_or_else(|_| f64::from(float)))
}

/// RFC 3339, in UTC.
fn timestamp(seconds: i64, nanos: i32) -> Option<String> {
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < NANOS_PER_SECOND)?;
    if !TIMESTAMP_SECONDS.contains(&seconds) {
        return None;
    }
    // Via the calendar: jiff's timestamps end a day before the year 9999 does.
    let days = seconds.div_euclid(86_400);
    let of_day = SignedDuration::from_secs(seconds.rem_euclid(86_400));
    let midnight = date(1970, 1, 1).checked_add(days.days()).ok()?.at(0, 0, 0, 0);
    let civil = midnight.checked_add(of_day).ok()?;
    Some(format!("{civil}{}Z", fraction(nanos)))
}

/// Seconds with `s`; both parts have the same sign.
fn duration(seconds: i64, nanos: i32) -> Option<String> {
    let opposed = (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0);
    let (whole, below) = (seconds.unsigned_abs(), nanos.unsigned_abs());
    if opposed || whole > DURATION_SECONDS_MAX || below >= NANOS_PER_SECOND {
        return None;
    }
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    Some(format!("{sign}{whole}{}s", fraction(below)))
}

/// Nothing, or three, six or nine digits.
fn fraction(nanos: u32) -> String {
    match nanos {
        0 => String::new(),
        _ if nanos.is_multiple_of(1_000_000) => format!(".{:03}", nanos / 1_000_000),
        _ if nanos.is_multiple_of(1_000) => format!(".{:06}", nanos / 1_000),
        _ => format!(".{nanos:09}"),
    }
}

/// Paths in `lowerCamelCase`, with commas between them.
fn field_mask(slots: &Slots<'_>) -> Option<String> {
    let paths = slots.get(&1).map_or(&[][..], Vec::as_slice).iter();
    let paths = paths.map(|path| std::str::from_utf8(bytes_of(*path)?).ok().map(lower_camel_case));
    paths.collect::<Option<Vec<String>>>().map(|paths| paths.join(","))
}
