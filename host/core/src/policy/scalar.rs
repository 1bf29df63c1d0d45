//! Numbers and times of conditions, and how they are compared.

use std::cmp::Ordering;

/// How `Numeric…` and `Date…` operators compare a key's value with the policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equals,
    LessThan,
    LessThanEquals,
    GreaterThan,
    GreaterThanEquals,
}

impl Comparison {
    /// From the name of an operator without its type, and whether it is negated.
    pub(super) fn parse(name: &str) -> Option<(Self, bool)> {
        Some(match name {
            "Equals" => (Self::Equals, false),
            "NotEquals" => (Self::Equals, true),
            "LessThan" => (Self::LessThan, false),
            "LessThanEquals" => (Self::LessThanEquals, false),
            "GreaterThan" => (Self::GreaterThan, false),
            "GreaterThanEquals" => (Self::GreaterThanEquals, false),
            _ => return None,
        })
    }

    /// `order`: of the key's value as seen from the policy's.
    pub(super) fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::Equals => order.is_eq(),
            Self::LessThan => order.is_lt(),
            Self::LessThanEquals => order.is_le(),
            Self::GreaterThan => order.is_gt(),
            Self::GreaterThanEquals => order.is_ge(),
        }
    }
}

/// A decimal number of any length: serial numbers of certificates have up to 49 digits, and two that
/// differ must not count as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Number {
    is_negative: bool,
    /// Without zeros in front.
    whole: Box<str>,
    /// Without zeros behind.
    fraction: Box<str>,
}

impl Number {
    /// Takes digits with a sign and a point, if any.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (digits, ""),
        };
        let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let is_zero = whole.is_empty() && fraction.is_empty();
        let is_negative = is_negative && !is_zero;
        Some(Self { is_negative, whole: whole.into(), fraction: fraction.into() })
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        // Digits of the same number are in the order of their text.
        let sizes = self.whole.len().cmp(&other.whole.len());
        let absolute = sizes
            .then_with(|| self.whole.cmp(&other.whole))
            .then_with(|| self.fraction.cmp(&other.fraction));
        match (self.is_negative, other.is_negative) {
            (false, false) => absolute,
            (true, true) => absolute.reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

/// A time of the W3C's profile of ISO 8601, such as `2026-01-15T00:00:00Z`, a day of UTC, or seconds
/// since the Unix epoch. Source: AWS IAM, "Date condition operators".
pub(super) fn parse_time(text: &str) -> Option<jiff::Timestamp> {
    if let Ok(seconds) = text.parse::<i64>() {
        return jiff::Timestamp::from_second(seconds).ok();
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time);
    }
    if text.len() > "2026-01-15".len() {
        return None;
    }
    let midnight = text.parse::<jiff::civil::Date>().ok()?.at(0, 0, 0, 0);
    jiff::tz::Offset::UTC.to_timestamp(midnight).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_digits_with_sign_and_point() {
        for text in ["", "-", ".", "1.", ".5", "+1", "1e3", "0x10", "1,5", " 1", "1 ", "٣", "--1"]
        {
            assert_eq!(Number::parse(text), None, "{text:?}");
        }
        for (one, other) in [("1", "01"), ("1.50", "1.5"), ("-0", "0"), ("0.0", "-0.00")] {
            assert_eq!(Number::parse(one), Number::parse(other), "{one} {other}");
        }
        let serial = |last| Number::parse(&format!("{}{last}", "9".repeat(48))).unwrap();
        assert_eq!(serial(1).compare(&serial(2)), Ordering::Less);
    }

    proptest! {
        #[test]
        fn numbers_are_in_the_order_of_numbers(a in -2_000_000..2_000_000, b in -2_000_000..2_000_000) {
            let number = |thousandths: i32| {
                let sign = if thousandths < 0 { "-" } else { "" };
                let (whole, rest) = (thousandths.abs() / 1_000, thousandths.abs() % 1_000);
                Number::parse(&format!("{sign}{whole}.{rest:03}")).unwrap()
            };
            prop_assert_eq!(number(a).compare(&number(b)), a.cmp(&b));
        }
    }

    #[test]
    fn times_are_written_in_three_ways() {
        let midnight = parse_time("2026-01-15").unwrap();
        for text in ["1768435200", "2026-01-15T00:00:00Z", "2026-01-15T01:00:00+01:00"] {
            assert_eq!(parse_time(text), Some(midnight), "{text}");
        }
        for text in ["", "today", "2026-13-01", "2026-01-15T00:00:00", "15.01.2026", "1.5"] {
            assert_eq!(parse_time(text), None, "{text:?}");
        }
    }
}
