//! Operators and `cast`, as the tables of AWS's SQL reference have them.
//!
//! A wrong type gives Undefined. The reference documents no three-valued shortcut:
//! `TRUE OR Undefined` is Undefined too.

use super::ast::{Binary, Type, Unary};
use super::decimal::Number;
use super::plan::Frame;
use super::value::Value;
use super::{EvaluationError, Version};

pub(super) fn unary(operator: Unary, operand: &Value, version: Version) -> Value {
    match operator {
        Unary::Not => operand.to_bool().map_or(Value::Undefined, |bool| Value::Bool(!bool)),
        Unary::Negate => match operand.number() {
            Some(Number::Int(int)) => Value::int(-int),
            Some(Number::Decimal(decimal)) => Value::decimal(-decimal, version),
            None => Value::Undefined,
        },
    }
}

pub(super) fn binary(
    operator: Binary,
    left: &Value,
    right: &Value,
    frame: &Frame<'_>,
) -> Result<Value, EvaluationError> {
    Ok(match operator {
        Binary::And => logic(left, right, |l, r| l && r),
        Binary::Or => logic(left, right, |l, r| l || r),
        Binary::Equal => equality(left, right, true),
        Binary::NotEqual => equality(left, right, false),
        Binary::Less => compare(left, right, std::cmp::Ordering::is_lt),
        Binary::LessEqual => compare(left, right, std::cmp::Ordering::is_le),
        Binary::Greater => compare(left, right, std::cmp::Ordering::is_gt),
        Binary::GreaterEqual => compare(left, right, std::cmp::Ordering::is_ge),
        Binary::Add => return add(left, right, frame),
        Binary::In => membership(left, right),
        Binary::Subtract => {
            arithmetic(left, right, frame.version, i128::checked_sub, Number::subtract)
        }
        Binary::Multiply => {
            arithmetic(left, right, frame.version, i128::checked_mul, Number::multiply)
        }
        Binary::Divide => arithmetic(left, right, frame.version, exact_quotient, Number::divide),
        Binary::Remainder => {
            arithmetic(left, right, frame.version, i128::checked_rem, Number::remainder)
        }
    })
}

/// `cast(value AS to)`: the automatic conversions, and between Boolean and numbers.
pub(super) fn cast(value: &Value, to: Type, frame: &Frame<'_>) -> Result<Value, EvaluationError> {
    let version = frame.version;
    Ok(match (to, value) {
        (Type::String, _) => match value.to_text() {
            Some(text) => return frame.text(text),
            None => Value::Undefined,
        },
        (Type::Int | Type::Decimal, Value::Null) => Value::Null,
        (Type::Int | Type::Decimal, Value::Bool(bool)) => Value::Int((*bool).into()),
        (Type::Int, _) => match value.number() {
            // A Decimal rounds down, a string is truncated.
            Some(Number::Decimal(decimal)) if matches!(value, Value::Text(_)) => {
                Value::whole(decimal.trunc())
            }
            Some(Number::Decimal(decimal)) => Value::whole(decimal.floor()),
            Some(Number::Int(int)) => Value::Int(int),
            None => Value::Undefined,
        },
        (Type::Decimal, _) => match value.number() {
            Some(Number::Decimal(decimal)) => Value::decimal(decimal, version),
            Some(Number::Int(int)) => Value::Int(int),
            None => Value::Undefined,
        },
        (Type::Boolean, Value::Int(int)) => Value::Bool(*int != 0),
        (Type::Boolean, Value::Decimal(decimal)) => Value::Bool(*decimal != 0.0),
        (Type::Boolean, _) => value.to_bool().map_or(Value::Undefined, Value::Bool),
    })
}

fn logic(left: &Value, right: &Value, operator: fn(bool, bool) -> bool) -> Value {
    match (left.to_bool(), right.to_bool()) {
        (Some(left), Some(right)) => Value::Bool(operator(left, right)),
        _ => Value::Undefined,
    }
}

fn equality(left: &Value, right: &Value, wanted: bool) -> Value {
    if left.is_undefined() || right.is_undefined() {
        return Value::Undefined;
    }
    Value::Bool(left.equals(right) == wanted)
}

/// Whether an array has an element that is equal.
fn membership(left: &Value, right: &Value) -> Value {
    match (left, right) {
        (Value::Undefined, _) => Value::Undefined,
        (left, Value::Array(elements)) => {
            let is_equal = |element: &Value| !element.is_undefined() && left.equals(element);
            Value::Bool(elements.iter().any(is_equal))
        }
        _ => Value::Undefined,
    }
}

fn compare(left: &Value, right: &Value, holds: fn(std::cmp::Ordering) -> bool) -> Value {
    let ordering = match (left.number(), right.number()) {
        (Some(Number::Int(left)), Some(Number::Int(right))) => Some(left.cmp(&right)),
        (Some(left), Some(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        _ => None,
    };
    ordering.map_or(Value::Undefined, |ordering| Value::Bool(holds(ordering)))
}

/// `+` joins texts as soon as one side is a string; it adds numbers, and converts none.
fn add(left: &Value, right: &Value, frame: &Frame<'_>) -> Result<Value, EvaluationError> {
    let is_number = |value: &Value| matches!(value, Value::Int(_) | Value::Decimal(_));
    match (left, right) {
        (Value::Text(_), _) | (_, Value::Text(_)) => match (left.to_text(), right.to_text()) {
            (Some(left), Some(right)) => {
                frame.charge(left.len() + right.len())?;
                Ok(Value::Text([left, right].concat()))
            }
            _ => Ok(Value::Undefined),
        },
        _ if is_number(left) && is_number(right) => {
            Ok(arithmetic(left, right, frame.version, i128::checked_add, Number::add))
        }
        _ => Ok(Value::Undefined),
    }
}

/// Int with Int gives Int where `int` has an answer; everything else is Decimal.
fn arithmetic(
    left: &Value,
    right: &Value,
    version: Version,
    int: fn(i128, i128) -> Option<i128>,
    decimal: fn(Number, Number) -> f64,
) -> Value {
    let (Some(left), Some(right)) = (left.number(), right.number()) else {
        return Value::Undefined;
    };
    if let (Number::Int(left), Number::Int(right)) = (left, right)
        && let Some(result) = int(left, right)
    {
        return Value::int(result);
    }
    Value::decimal(decimal(left, right), version)
}

/// AWS's reference says that Int / Int is Int, and divides 215 by 9 to 23.89: so an Int where it
/// divides evenly, else a Decimal.
fn exact_quotient(left: i128, right: i128) -> Option<i128> {
    (left.checked_rem(right)? == 0).then(|| left / right)
}
