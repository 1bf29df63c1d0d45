//! Functions of numbers that are more than a function of doubles.

use super::super::EvaluationError;
use super::super::decimal::Number;
use super::super::plan::Frame;
use super::super::value::Value;
use super::{Arguments, floor};

/// Places that `trunc` may keep. AWS: 0 to 34.
const PLACES_MAX: i128 = 34;

type Answer = Result<Value, EvaluationError>;

pub(super) fn abs(frame: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    Ok(match arguments[0].number() {
        Some(Number::Int(int)) => Value::Int(int.abs()),
        Some(Number::Decimal(decimal)) => Value::decimal(decimal.abs(), frame.version),
        None => Value::Undefined,
    })
}

/// In two's complement; the examples of AWS's guide are misprinted.
pub(super) fn bitnot(_: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    Ok(floor(&arguments[0]).map_or(Value::Undefined, |int| Value::int(!int)))
}

/// What a division leaves; has the sign of the dividend.
pub(super) fn remainder(frame: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    Ok(match (arguments[0].number(), arguments[1].number()) {
        (Some(Number::Int(left)), Some(Number::Int(right))) => {
            left.checked_rem(right).map_or(Value::Undefined, Value::int)
        }
        (Some(left), Some(right)) => Value::decimal(left.remainder(right), frame.version),
        _ => Value::Undefined,
    })
}

/// -1, 0 or 1.
pub(super) fn sign(_: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    let sign = arguments[0].number().map(|number| match number.as_f64() {
        x if x > 0.0 => 1,
        x if x < 0.0 => -1,
        _ => 0,
    });
    Ok(sign.map_or(Value::Undefined, Value::Int))
}

/// `trunc(number, places)`: without the digits behind so many places, and without zeros there.
pub(super) fn trunc(_: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    let places = floor(&arguments[1]).filter(|places| (0..=PLACES_MAX).contains(places));
    let places = places.and_then(|places| u32::try_from(places).ok());
    let (Some(number), Some(places)) = (arguments[0].number(), places) else {
        return Ok(Value::Undefined);
    };
    Ok(match number {
        Number::Int(int) => Value::Int(int),
        Number::Decimal(_) => {
            let truncated = number.truncate(places);
            // Zeros behind the point go in every version, and so does the point.
            if truncated.fract() == 0.0 {
                Value::whole(truncated)
            } else {
                Value::Decimal(truncated)
            }
        }
    })
}

/// The first argument if it is a number, else the second.
pub(super) fn nanvl(frame: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    let is_number = matches!(*arguments[0], Value::Int(_) | Value::Decimal(_));
    frame.copy(&arguments[usize::from(!is_number)])
}
