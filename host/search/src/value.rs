//! Values as the index keeps them, and their order.
//!
//! Text is folded to lower case, because searches do not tell cases apart. Numbers of JSON stay numbers;
//! text that reads as a number takes part in ranges of numbers, since attributes are always text.
//! In the order of a field the numeric values come first, by their number; the others follow as text.

use std::borrow::Cow;
use std::cmp::Ordering;

/// One value of a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// Finite, and no negative zero.
    Number(f64),
    /// Folded.
    Text(Box<str>),
}

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(fold(text).into())
    }

    /// A number beyond 2^53 loses its last digits.
    #[allow(clippy::cast_precision_loss, reason = "versions and times in milliseconds are smaller")]
    pub(crate) fn integer(number: u64) -> Self {
        Self::Number(number as f64)
    }

    pub(crate) fn key(&self) -> Key<'_> {
        match self {
            Self::Number(number) => Key { number: Some(*number), text: "" },
            Self::Text(text) => Key::of_text(text),
        }
    }

    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => parse_number(text),
        }
    }

    pub(crate) fn as_text(&self) -> Cow<'_, str> {
        match self {
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::Text(text) => Cow::Borrowed(text),
        }
    }
}

impl Default for Value {
    fn default() -> Self {
        Self::Number(0.0)
    }
}

/// What values are ordered by. A number of JSON has no text, which comes before any text of its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key<'a> {
    pub(crate) number: Option<f64>,
    pub(crate) text: &'a str,
}

impl<'a> Key<'a> {
    pub(crate) fn of_text(text: &'a str) -> Self {
        Self { number: parse_number(text), text }
    }

    pub(crate) fn cmp(&self, other: &Key<'_>) -> Ordering {
        match (self.number, other.number) {
            (Some(a), Some(b)) => a.total_cmp(&b).then_with(|| self.text.cmp(other.text)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => self.text.cmp(other.text),
        }
    }
}

/// Character by character, so that a part of a text is folded like the whole.
pub(crate) fn fold(text: &str) -> String {
    if text.is_ascii() {
        text.to_ascii_lowercase()
    } else {
        text.chars().flat_map(char::to_lowercase).collect()
    }
}

/// Decimal, with or without sign, point and exponent; neither infinite nor NaN.
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    let may_begin = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.');
    let may_hold = |byte: u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    if !text.as_bytes().first().is_some_and(may_begin) || !text.bytes().all(may_hold) {
        return None;
    }
    // Zero is added to make a negative zero an ordinary one.
    text.parse().ok().filter(|number: &f64| number.is_finite()).map(|number| number + 0.0)
}

/// False when no text that begins like this is a number.
pub(crate) fn may_be_number(prefix: &str) -> bool {
    prefix.bytes().next().is_none_or(|byte| byte <= b'9')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_first_and_by_their_size() {
        let values = [
            Value::Number(-3.0),
            Value::Number(9.0),
            Value::text("9"),
            Value::text("9.0"),
            Value::text("10"),
            Value::Number(1e3),
            Value::text("1e3"),
            Value::text(""),
            Value::text("1.1.1"),
            Value::text("A"),
            Value::text("b"),
        ];
        for (a, b) in values.iter().zip(&values[1..]) {
            assert_eq!(a.key().cmp(&b.key()), Ordering::Less, "{a:?} {b:?}");
        }
    }

    #[test]
    fn what_is_no_decimal_number_is_text() {
        for text in ["", ".", "-", "nan", "inf", "infinity", "1e999", "0x10", "1 ", "e5", "1_000"] {
            assert_eq!(parse_number(text), None, "{text:?}");
        }
        for (text, number) in [("-0", 0.0), ("+5", 5.0), (".5", 0.5), ("007", 7.0), ("1E3", 1e3)] {
            assert_eq!(parse_number(text), Some(number), "{text:?}");
        }
    }

    #[test]
    fn a_value_is_small() {
        assert_eq!(size_of::<Value>(), 16);
    }
}
