//! Values and the automatic conversions between them.
//!
//! Source: AWS IoT SQL reference, "Data types" and "Conversions".
//! Numbers: AWS computes with 34 decimal digits. Int keeps them here; Decimal is an IEEE 754
//! double, which is what JSON numbers with a fraction are to everybody else; how it computes is
//! told in `decimal`.

use super::Version;
use super::decimal::Number;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use indexmap::IndexMap;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::borrow::Cow;

/// Digits of the largest Int; a longer result becomes Decimal.
pub(super) const INT_DIGITS_MAX: usize = 34;

/// The largest Int: 34 nines.
const INT_MAX: i128 = 10_i128.pow(34) - 1;

/// Up to here every whole number has a double of its own.
const DOUBLE_EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Members in the order of the payload.
pub(super) type Object = IndexMap<String, Value, ahash::RandomState>;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A missing member or a call that makes no sense.
    Undefined,
    Null,
    Bool(bool),
    Int(i128),
    /// Finite.
    Decimal(f64),
    Text(String),
    Array(Vec<Value>),
    Object(Object),
    /// A payload that is no JSON; written as a text in base64.
    Bytes(Bytes),
}

impl Value {
    /// A computed or decoded decimal; in `2016-03-23` one without a fraction is an Int.
    /// What is not finite is Undefined.
    pub fn decimal(decimal: f64, version: Version) -> Self {
        if version >= Version::V2016 && decimal.fract() == 0.0 && decimal.abs() < DOUBLE_EXACT_MAX {
            Self::whole(decimal)
        } else if decimal.is_finite() {
            Self::Decimal(decimal)
        } else {
            Self::Undefined
        }
    }

    /// An Int from a decimal without a fraction; too large for an Int, it stays Decimal.
    pub fn whole(decimal: f64) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "`as` saturates, and `int` checks")]
        let int = decimal as i128;
        if decimal.is_nan() { Self::Undefined } else { Self::int(int) }
    }

    /// An Int; one of more than 34 digits becomes Decimal.
    pub fn int(int: i128) -> Self {
        if (-INT_MAX..=INT_MAX).contains(&int) { Self::Int(int) } else { Self::Decimal(int as f64) }
    }

    pub fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined)
    }

    /// To Decimal: numbers, and strings that read as one.
    pub fn number(&self) -> Option<Number> {
        match self {
            Self::Int(int) => Some(Number::Int(*int)),
            Self::Decimal(decimal) => Some(Number::Decimal(*decimal)),
            Self::Text(text) => parse_number(text),
            _ => None,
        }
    }

    /// To Int: the nearest one of a Decimal; a string is truncated.
    pub fn to_int(&self) -> Option<i128> {
        let whole = match (self, self.number()?) {
            (_, Number::Int(int)) => return Some(int),
            (Self::Text(_), Number::Decimal(decimal)) => decimal.trunc(),
            (_, Number::Decimal(decimal)) => decimal.round(),
        };
        match Self::whole(whole) {
            Self::Int(int) => Some(int),
            _ => None,
        }
    }

    /// To Boolean: `"true"` and `"false"` in any case count.
    pub fn to_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(bool) => Some(*bool),
            Self::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Self::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }

    /// To String: everything but Null and Undefined has a text.
    pub fn to_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Undefined | Self::Null => None,
            Self::Text(text) => Some(Cow::Borrowed(text)),
            // Told apart from JSON by whoever wants to see it.
            Self::Bytes(bytes) => Some(match std::str::from_utf8(bytes) {
                Ok(text) => Cow::Borrowed(text),
                Err(_) => Cow::Owned(STANDARD.encode(bytes)),
            }),
            other => serde_json::to_string(other).ok().map(Cow::Owned),
        }
    }

    /// The bytes of a payload, or of its text: what hashes and encodings work on.
    pub fn to_bytes(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Bytes(bytes) => Some(Cow::Borrowed(bytes)),
            other => Some(match other.to_text()? {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            }),
        }
    }

    /// As JSON text; `None` for Undefined.
    pub fn to_json(&self) -> Option<String> {
        if self.is_undefined() { None } else { serde_json::to_string(self).ok() }
    }

    /// The member of an object; Undefined where there is none.
    pub fn member(&self, name: &str) -> &Self {
        match self {
            Self::Object(object) => object.get(name).unwrap_or(&Self::Undefined),
            _ => &Self::Undefined,
        }
    }

    /// What stands at the end of a path; Undefined where there is nothing.
    pub fn at(&self, path: &[String]) -> &Self {
        path.iter().fold(self, |value, name| value.member(name))
    }

    /// As [`Value::member`], without a copy.
    pub fn into_member(self, name: &str) -> Self {
        match self {
            Self::Object(mut object) => object.swap_remove(name).unwrap_or(Self::Undefined),
            _ => Self::Undefined,
        }
    }

    /// Memory that a copy takes, roughly.
    pub fn memory_bytes(&self) -> usize {
        let below = match self {
            Self::Text(text) => text.len(),
            Self::Array(values) => values.iter().map(Self::memory_bytes).sum(),
            Self::Object(object) => object.iter().map(|(k, v)| k.len() + v.memory_bytes()).sum(),
            _ => 0,
        };
        size_of::<Self>() + below
    }

    /// `=` between two values, none of which is Undefined.
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(int), Self::Decimal(decimal)) | (Self::Decimal(decimal), Self::Int(int)) => {
                *int as f64 == *decimal
            }
            (Self::Array(left), Self::Array(right)) => {
                left.len() == right.len() && left.iter().zip(right).all(|(l, r)| l.equals(r))
            }
            (Self::Object(left), Self::Object(right)) => {
                left.len() == right.len()
                    && left.iter().all(|(k, l)| right.get(k).is_some_and(|r| l.equals(r)))
            }
            (left, right) => left == right,
        }
    }
}

impl Serialize for Value {
    /// As JSON; an Undefined member is left out, an Undefined element is null.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Undefined | Self::Null => serializer.serialize_unit(),
            Self::Bool(bool) => serializer.serialize_bool(*bool),
            Self::Int(int) => serializer.serialize_i128(*int),
            Self::Decimal(decimal) => serializer.serialize_f64(*decimal),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
            Self::Array(values) => serializer.collect_seq(values),
            Self::Object(object) => {
                let mut map = serializer.serialize_map(None)?;
                for (name, value) in object {
                    if !value.is_undefined() {
                        map.serialize_entry(name, value)?;
                    }
                }
                map.end()
            }
        }
    }
}

/// `-?\d+(\.\d+)?([eE]-?\d+)?`; of digits alone an Int.
fn parse_number(text: &str) -> Option<Number> {
    let skip_digits = |rest: &str| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        (digits > 0).then_some(digits)
    };
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let int_digits = skip_digits(unsigned)?;
    let mut rest = &unsigned[int_digits..];
    if rest.is_empty() && int_digits <= INT_DIGITS_MAX {
        return text.parse().ok().map(Number::Int);
    }
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = &fraction[skip_digits(fraction)?..];
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix('-').unwrap_or(exponent);
        rest = &exponent[skip_digits(exponent)?..];
    }
    let decimal: f64 = text.parse().ok().filter(|_| rest.is_empty())?;
    decimal.is_finite().then_some(Number::Decimal(decimal))
}
