//! Decimal arithmetic on doubles: exact in the digits that people see.
//!
//! AWS computes with 34 decimal digits, so `0.1 + 0.2` is 0.3 there, and a rule that compares sums
//! depends on it. A double is kept (`value`), but operators work on its shortest decimal digits,
//! at most 17, and only the result is rounded to a double again. What has too many digits for
//! this is computed as doubles.

/// `mantissa x 10^exponent`
#[derive(Clone, Copy, Debug)]
struct Digits {
    mantissa: i128,
    exponent: i32,
}

/// What arithmetic works with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Int(i128),
    /// Finite.
    Decimal(f64),
}

/// Whole doubles below this add and subtract exactly as they are.
const WHOLE_EXACT_MAX: f64 = 4_503_599_627_370_496.0;

impl Number {
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Int(int) => int as f64,
            Self::Decimal(decimal) => decimal,
        }
    }

    fn digits(self) -> Digits {
        match self {
            Self::Int(mantissa) => Digits { mantissa, exponent: 0 },
            Self::Decimal(decimal) => Digits::of(decimal),
        }
    }

    fn is_whole(self) -> bool {
        let decimal = self.as_f64();
        decimal.fract() == 0.0 && decimal.abs() < WHOLE_EXACT_MAX
    }

    pub fn add(self, other: Self) -> f64 {
        let plain = self.as_f64() + other.as_f64();
        if self.is_whole() && other.is_whole() {
            return plain;
        }
        aligned(self, other).and_then(|(l, r, e)| rounded(l.checked_add(r)?, e)).unwrap_or(plain)
    }

    pub fn subtract(self, other: Self) -> f64 {
        let plain = self.as_f64() - other.as_f64();
        if self.is_whole() && other.is_whole() {
            return plain;
        }
        aligned(self, other).and_then(|(l, r, e)| rounded(l.checked_sub(r)?, e)).unwrap_or(plain)
    }

    pub fn multiply(self, other: Self) -> f64 {
        let (left, right) = (self.digits(), other.digits());
        let exact = left.mantissa.checked_mul(right.mantissa);
        let exponent = left.exponent + right.exponent;
        let exact = exact.and_then(|mantissa| rounded(mantissa, exponent));
        exact.unwrap_or(self.as_f64() * other.as_f64())
    }

    /// Not finite when `other` is zero.
    pub fn divide(self, other: Self) -> f64 {
        let plain = self.as_f64() / other.as_f64();
        let (left, right) = (self.digits(), other.digits());
        if left.mantissa == 0 || right.mantissa == 0 {
            return plain;
        }
        // As many digits more as fit, so that the quotient has more than a double can hold.
        let room = 38 - length(left.mantissa);
        let Some(mantissa) = left.mantissa.checked_mul(10_i128.pow(room)) else { return plain };
        let quotient = mantissa / right.mantissa;
        let is_exact = mantissa % right.mantissa == 0;
        if !is_exact && length(quotient) < 19 {
            return plain;
        }
        let exponent = left.exponent - right.exponent - i32::try_from(room).unwrap_or(0);
        rounded(quotient, exponent).unwrap_or(plain)
    }

    /// Has the sign of `self`; not finite when `other` is zero.
    pub fn remainder(self, other: Self) -> f64 {
        let plain = self.as_f64() % other.as_f64();
        if self.is_whole() && other.is_whole() {
            return plain;
        }
        aligned(self, other).and_then(|(l, r, e)| rounded(l.checked_rem(r)?, e)).unwrap_or(plain)
    }

    /// Without the digits behind the `places`-th after the point; `places` at most 34.
    pub fn truncate(self, places: u32) -> f64 {
        let Digits { mantissa, exponent } = self.digits();
        let excess = -exponent - i32::try_from(places).unwrap_or(0);
        if excess <= 0 {
            return self.as_f64();
        }
        let divisor = u32::try_from(excess).ok().and_then(|excess| 10_i128.checked_pow(excess));
        let kept = divisor.map_or(0, |divisor| mantissa / divisor);
        rounded(kept, exponent + excess).unwrap_or(0.0)
    }
}

impl Digits {
    /// The shortest digits that read back as this double.
    fn of(decimal: f64) -> Self {
        use std::io::Write as _;
        let mut buffer = [0; 32];
        let mut rest = &mut buffer[..];
        // At most 17 digits, a sign, a point and an exponent of five characters: 25.
        let written = write!(rest, "{decimal:e}").map(|()| 32 - rest.len());
        let text = written.ok().and_then(|len| std::str::from_utf8(&buffer[..len]).ok());
        let (mut mantissa, mut places, mut exponent) = (0_i128, 0, 0);
        let mut is_behind_point = false;
        let text = text.unwrap_or("0e0");
        let (digits, scale) = text.split_once('e').unwrap_or((text, "0"));
        for digit in digits.bytes() {
            match digit {
                b'0'..=b'9' => {
                    mantissa = mantissa * 10 + i128::from(digit - b'0');
                    places += i32::from(is_behind_point);
                }
                b'.' => is_behind_point = true,
                _ => {}
            }
        }
        exponent += scale.parse::<i32>().unwrap_or(0) - places;
        if decimal.is_sign_negative() {
            mantissa = -mantissa;
        }
        Self { mantissa, exponent }
    }
}

/// Both mantissas for one exponent; `None` when they are too far apart.
fn aligned(left: Number, right: Number) -> Option<(i128, i128, i32)> {
    let (left, right) = (left.digits(), right.digits());
    let exponent = left.exponent.min(right.exponent);
    let scale = |digits: Digits| {
        let by = u32::try_from(digits.exponent - exponent).ok()?;
        digits.mantissa.checked_mul(10_i128.checked_pow(by)?)
    };
    Some((scale(left)?, scale(right)?, exponent))
}

/// The nearest double; `None` when it is beyond all doubles.
fn rounded(mantissa: i128, exponent: i32) -> Option<f64> {
    let text = format!("{mantissa}e{exponent}");
    text.parse().ok().filter(|decimal: &f64| decimal.is_finite())
}

/// How many decimal digits it has.
fn length(mantissa: i128) -> u32 {
    mantissa.unsigned_abs().checked_ilog10().map_or(1, |log| log + 1)
}

#[cfg(test)]
mod tests {
    use super::Number::{self, Decimal, Int};
    use proptest::prelude::*;

    #[test]
    fn results_are_those_of_decimal_digits() {
        for (result, expected) in [
            (Decimal(0.1).add(Decimal(0.2)), 0.3),
            (Decimal(1.1).add(Int(2)), 3.1),
            (Decimal(0.3).subtract(Decimal(0.1)), 0.2),
            (Decimal(1.1).multiply(Decimal(1.1)), 1.21),
            (Decimal(4.35).multiply(Int(100)), 435.0),
            (Decimal(0.3).divide(Decimal(0.1)), 3.0),
            (Int(215).divide(Int(9)), 23.888_888_888_888_89),
            (Int(1).divide(Int(3)), 0.333_333_333_333_333_3),
            (Decimal(5.5).remainder(Decimal(0.1)), 0.0),
            (Decimal(-5.5).remainder(Int(2)), -1.5),
            (Decimal(2.3123).truncate(2), 2.31),
            (Decimal(2.888).truncate(2), 2.88),
            (Decimal(-2.888).truncate(0), -2.0),
            (Decimal(1e-300).truncate(34), 0.0),
            (Decimal(1e300).truncate(2), 1e300),
            (Decimal(1e300).add(Decimal(1e-300)), 1e300),
            (Decimal(1e300).multiply(Decimal(1e300)), f64::INFINITY),
        ] {
            assert_eq!(result.to_bits(), expected.to_bits(), "{result} {expected}");
        }
        assert!(!Int(1).divide(Int(0)).is_finite());
        assert!(!Decimal(1.5).remainder(Int(0)).is_finite());
    }

    proptest! {
        #[test]
        fn no_result_is_far_from_that_of_doubles(
            left in any::<f64>().prop_filter("normal", |x| x.is_normal()),
            right in any::<f64>().prop_filter("normal", |x| x.is_normal()),
        ) {
            let (l, r) = (Decimal(left), Decimal(right));
            let close = |got: f64, plain: f64| {
                // Subtraction may cancel: then what is left is bounded by the operands.
                let scale = left.abs().max(right.abs()).max(plain.abs());
                got == plain || !plain.is_normal() || (got - plain).abs() <= scale * 1e-15
            };
            prop_assert!(close(l.add(r), left + right));
            prop_assert!(close(l.subtract(r), left - right));
            prop_assert!(close(l.multiply(r), left * right));
            prop_assert!(close(l.divide(r), left / right));
        }

        #[test]
        fn truncating_keeps_what_has_few_places(int in -1_000_000_i64..1_000_000, places in 0_u32..6) {
            let number = int as f64 / 10_f64.powi(places.cast_signed());
            prop_assert_eq!(Number::Decimal(number).truncate(places), number);
        }
    }
}
