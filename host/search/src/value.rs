//! Values as the index keeps them, and their order.
//!
//! Text is folded to lower case, because searches do not tell cases apart. Numbers of JSON stay numbers;
//! text that reads as a number takes part in ranges of numbers, since attributes are always text.
//! In the order of a field the numeric values come first, by their number; the others follow as text.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::io::Write;

/// Longest text that is kept in place.
const SHORT_MAX: usize = 22;

/// Integers up to this are exact, and written without a fraction.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// The text of a value or a name. Most are short: these need no allocation, and looking at one of a
/// million is one cache miss, not two.
#[derive(Clone, PartialEq)]
pub(crate) struct Text(Place);

#[derive(Clone, PartialEq)]
enum Place {
    /// UTF-8, and zeros behind it.
    Short {
        len: u8,
        bytes: [u8; SHORT_MAX],
    },
    Long(Box<str>),
}

impl Text {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Place::Short { len, bytes } => &bytes[..usize::from(*len)],
            Place::Long(text) => text.as_bytes(),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match &self.0 {
            Place::Short { .. } => std::str::from_utf8(self.as_bytes()).expect("it was a str"),
            Place::Long(text) => text,
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        match u8::try_from(text.len()) {
            Ok(len) if text.len() <= SHORT_MAX => {
                let mut bytes = [0; SHORT_MAX];
                bytes[..text.len()].copy_from_slice(text.as_bytes());
                Self(Place::Short { len, bytes })
            }
            _ => Self(Place::Long(text.into())),
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::from("")
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// One value of a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// Finite, and no negative zero.
    Number(f64),
    /// Folded.
    Text(Text),
}

/// A value that is not kept yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Given<'a> {
    /// Finite, and no negative zero.
    Number(f64),
    Text(&'a str),
}

impl<'a> Given<'a> {
    /// A number beyond 2^53 loses its last digits.
    #[allow(clippy::cast_precision_loss, reason = "versions and times in milliseconds are smaller")]
    pub(crate) fn integer(number: u64) -> Self {
        Self::Number(number as f64)
    }

    pub(crate) fn key(self) -> Key<'a> {
        match self {
            Self::Number(number) => Key::of_number(number),
            Self::Text(text) => Key::of_text(text),
        }
    }

    pub(crate) fn is(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Number(a), Value::Number(b)) => a == *b,
            (Self::Text(a), Value::Text(b)) => a.as_bytes() == b.as_bytes(),
            _ => false,
        }
    }
}

impl From<Given<'_>> for Value {
    fn from(given: Given<'_>) -> Self {
        match given {
            Given::Number(number) => Self::Number(number),
            Given::Text(text) => Self::Text(text.into()),
        }
    }
}

impl Value {
    pub(crate) fn key(&self) -> Key<'_> {
        match self {
            Self::Number(number) => Key::of_number(*number),
            Self::Text(text) => Key::of_bytes(text.as_bytes()),
        }
    }

    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => parse_number(text.as_bytes()),
        }
    }

    pub(crate) fn as_text(&self) -> Cow<'_, str> {
        match self {
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::Text(text) => Cow::Borrowed(text.as_str()),
        }
    }

    /// The bytes of its text; `buffer` is where a number is written.
    pub(crate) fn bytes<'a>(&'a self, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        match self {
            Self::Number(number) => {
                buffer.clear();
                write_number(*number, buffer);
                buffer
            }
            Self::Text(text) => text.as_bytes(),
        }
    }
}

impl Default for Value {
    fn default() -> Self {
        Self::Number(0.0)
    }
}

/// As `to_string` does, but faster for integers.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an integer between 0 and 2^53 is an u64, and a digit an u8"
)]
fn write_number(number: f64, buffer: &mut Vec<u8>) {
    if number.fract() != 0.0 || number.abs() >= EXACT_MAX {
        write!(buffer, "{number}").expect("a Vec takes everything");
        return;
    }
    let mut rest = number.abs() as u64;
    let digit = |n: u64| b'0' + (n % 10) as u8;
    while rest >= 10 {
        buffer.extend([digit(rest), digit(rest / 10)]);
        rest /= 100;
    }
    if rest > 0 || buffer.is_empty() {
        buffer.push(digit(rest));
    }
    if number < 0.0 {
        buffer.push(b'-');
    }
    buffer.reverse();
}

/// What values are ordered by. A number of JSON has no text, which comes before any text of its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key<'a> {
    pub(crate) number: Option<f64>,
    /// UTF-8, whose order is that of its bytes.
    pub(crate) text: &'a [u8],
}

impl<'a> Key<'a> {
    pub(crate) fn of_text(text: &'a str) -> Self {
        Self::of_bytes(text.as_bytes())
    }

    pub(crate) fn of_number(number: f64) -> Self {
        Self { number: Some(number), text: &[] }
    }

    fn of_bytes(text: &'a [u8]) -> Self {
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
    let mut folded = String::new();
    fold_into(text, &mut folded);
    folded
}

/// Adds the folded text to `folded`.
pub(crate) fn fold_into(text: &str, folded: &mut String) {
    if text.is_ascii() {
        let start = folded.len();
        folded.push_str(text);
        folded[start..].make_ascii_lowercase();
    } else {
        folded.extend(text.chars().flat_map(char::to_lowercase));
    }
}

/// Decimal, with or without sign, point and exponent; neither infinite nor NaN.
pub(crate) fn parse_number(text: &[u8]) -> Option<f64> {
    let may_begin = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.');
    let may_hold = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    if !text.first().is_some_and(may_begin) || !text.iter().all(may_hold) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
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

    fn text(text: &str) -> Value {
        Value::Text(fold(text).as_str().into())
    }

    #[test]
    fn numbers_come_first_and_by_their_size() {
        let values = [
            Value::Number(-3.0),
            Value::Number(9.0),
            text("9"),
            text("9.0"),
            text("10"),
            Value::Number(1e3),
            text("1e3"),
            text(""),
            text("1.1.1"),
            text("A"),
            text("b"),
        ];
        for (a, b) in values.iter().zip(&values[1..]) {
            assert_eq!(a.key().cmp(&b.key()), Ordering::Less, "{a:?} {b:?}");
        }
    }

    #[test]
    fn what_is_no_decimal_number_is_text() {
        for text in ["", ".", "-", "nan", "inf", "infinity", "1e999", "0x10", "1 ", "e5", "1_000"] {
            assert_eq!(parse_number(text.as_bytes()), None, "{text:?}");
        }
        for (text, number) in [("-0", 0.0), ("+5", 5.0), (".5", 0.5), ("007", 7.0), ("1E3", 1e3)] {
            assert_eq!(parse_number(text.as_bytes()), Some(number), "{text:?}");
        }
    }

    #[test]
    fn a_value_is_small() {
        assert_eq!((size_of::<Text>(), size_of::<Value>()), (24, 24));
    }

    #[test]
    fn text_is_the_same_in_place_and_on_the_heap() {
        let texts =
            ["", "a", "\0", &"é".repeat(11), &"x".repeat(22), &"x".repeat(23), &"€".repeat(99)];
        for a in texts {
            let kept = Text::from(a);
            assert_eq!((kept.as_str(), kept.as_bytes()), (a, a.as_bytes()));
            assert_eq!(matches!(kept.0, Place::Short { .. }), a.len() <= SHORT_MAX);
            for b in texts {
                assert_eq!(kept == Text::from(b), a == b, "{a:?} {b:?}");
                assert_eq!(Given::Text(b).is(&Value::Text(kept.clone())), a == b);
            }
        }
    }

    #[test]
    fn numbers_are_written_as_the_language_writes_them() {
        let (mut buffer, exact) = (b"rest".to_vec(), 2.0_f64.powi(53));
        for number in [
            0.0,
            3.0,
            10.0,
            100.0,
            12_345.0,
            -12.0,
            0.5,
            -2.25,
            1e21,
            5e-324,
            f64::MAX,
            exact,
            exact - 1.0,
        ] {
            let value = Value::Number(number);
            assert_eq!(value.bytes(&mut buffer), number.to_string().as_bytes());
            assert_eq!(value.as_text(), number.to_string());
        }
    }
}
