//! The function table: a new function is a new row.
//!
//! In: evaluated arguments. Out: a value; what makes no sense is Undefined, never an error.
//! Not here: `cast`, which has a syntax of its own (`parser`, `operators`).

use super::plan::Frame;
use super::value::{Number, Value};
use super::{EvaluationError, Version};
use crate::random;
use std::borrow::Cow;
use std::ops::RangeInclusive;

/// A row of the table.
#[derive(Debug)]
pub(super) struct Function {
    /// As AWS writes it; calls may use any case.
    pub name: &'static str,
    /// Other numbers of arguments give Undefined.
    pub arity: RangeInclusive<usize>,
    /// The first version that has it.
    pub since: Version,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// Of a double; strings convert.
    Numeric(fn(f64) -> f64),
    /// As `Numeric`, with an Int as result.
    Whole(fn(f64) -> f64),
    /// Of two Ints, rounded down.
    Bits(fn(i128, i128) -> i128),
    /// Of a text; everything but Null and Undefined has one.
    Text(fn(&str) -> String),
    /// A question about two texts.
    TextTest(fn(&str, &str) -> bool),
    General(fn(&Frame<'_>, Arguments<'_>) -> Result<Value, EvaluationError>),
}

type Arguments<'a> = &'a [Cow<'a, Value>];

/// The function with this name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name.eq_ignore_ascii_case(name))
}

impl Function {
    /// The number of arguments is within `arity`.
    pub fn call(
        &self,
        frame: &Frame<'_>,
        arguments: Arguments<'_>,
    ) -> Result<Value, EvaluationError> {
        let decimal = |at: usize| arguments.get(at)?.number().map(Number::as_f64);
        let bits = |at: usize| floor(arguments.get(at)?);
        let text = |at: usize| arguments.get(at)?.to_text();
        let value = match self.body {
            Body::General(body) => return body(frame, arguments),
            Body::Numeric(body) => decimal(0).map(|x| Value::decimal(body(x), frame.version)),
            Body::Whole(body) => decimal(0).map(|x| Value::whole(body(x))),
            Body::Bits(body) => {
                bits(0).zip(bits(1)).map(|(left, right)| Value::int(body(left, right)))
            }
            Body::Text(body) => text(0).map(|text| frame.text(body(&text))).transpose()?,
            Body::TextTest(body) => {
                text(0).zip(text(1)).map(|(text, other)| Value::Bool(body(&text, &other)))
            }
        };
        Ok(value.unwrap_or(Value::Undefined))
    }
}

const fn row(
    name: &'static str,
    arity: RangeInclusive<usize>,
    since: Version,
    body: Body,
) -> Function {
    Function { name, arity, since, body }
}

use Body::{Bits, General, Numeric, Text, TextTest, Whole};
use Version::{V2015, V2016};

static FUNCTIONS: &[Function] = &[
    // Of the message and the moment.
    row("clientid", 0..=0, V2015, General(client_id)),
    row("newuuid", 0..=0, V2015, General(new_uuid)),
    row("principal", 0..=0, V2015, General(principal)),
    row("rand", 0..=0, V2015, General(rand)),
    row("sql_version", 0..=0, V2015, General(sql_version)),
    row("timestamp", 0..=0, V2015, General(timestamp)),
    row("topic", 0..=1, V2015, General(topic)),
    // Of numbers.
    row("abs", 1..=1, V2015, General(abs)),
    row("acos", 1..=1, V2015, Numeric(f64::acos)),
    row("asin", 1..=1, V2015, Numeric(f64::asin)),
    row("atan", 1..=1, V2015, Numeric(f64::atan)),
    row("bitand", 2..=2, V2015, Bits(|left, right| left & right)),
    row("bitor", 2..=2, V2015, Bits(|left, right| left | right)),
    row("bitxor", 2..=2, V2015, Bits(|left, right| left ^ right)),
    row("ceil", 1..=1, V2015, Whole(f64::ceil)),
    row("cos", 1..=1, V2015, Numeric(f64::cos)),
    row("cosh", 1..=1, V2015, Numeric(f64::cosh)),
    row("exp", 1..=1, V2015, Numeric(f64::exp)),
    row("floor", 1..=1, V2015, Whole(f64::floor)),
    row("ln", 1..=1, V2015, Numeric(f64::ln)),
    row("log", 1..=1, V2015, Numeric(f64::log10)),
    row("nanvl", 2..=2, V2015, General(nanvl)),
    row("power", 2..=2, V2015, General(power)),
    row("round", 1..=1, V2015, Whole(f64::round)),
    row("sin", 1..=1, V2015, Numeric(f64::sin)),
    row("sinh", 1..=1, V2015, Numeric(f64::sinh)),
    row("sqrt", 1..=1, V2015, Numeric(f64::sqrt)),
    row("tan", 1..=1, V2015, Numeric(f64::tan)),
    row("tanh", 1..=1, V2015, Numeric(f64::tanh)),
    // Of texts.
    row("concat", 0..=usize::MAX, V2015, General(concat)),
    row("endswith", 2..=2, V2015, TextTest(|text, end| text.ends_with(end))),
    row("length", 1..=1, V2016, General(length)),
    row("lower", 1..=1, V2015, Text(str::to_lowercase)),
    row("ltrim", 1..=1, V2015, Text(|text| text.trim_start().to_owned())),
    row("numbytes", 1..=1, V2016, General(numbytes)),
    row("rtrim", 1..=1, V2015, Text(|text| text.trim_end().to_owned())),
    row("startswith", 2..=2, V2015, TextTest(|text, start| text.starts_with(start))),
    row("substring", 2..=3, V2015, General(substring)),
    row("trim", 1..=1, V2015, Text(|text| text.trim().to_owned())),
    row("upper", 1..=1, V2015, Text(str::to_uppercase)),
    // Of anything.
    row("get", 2..=2, V2015, General(get)),
    row("isNull", 1..=1, V2015, General(is_null)),
    row("isUndefined", 1..=1, V2016, General(is_undefined)),
];

fn client_id(frame: &Frame<'_>, _: Arguments<'_>) -> Result<Value, EvaluationError> {
    let client_id = frame.input.message.publisher.client_id.as_ref();
    frame.text(client_id.map_or("n/a", |client_id| client_id.as_str()))
}

fn principal(frame: &Frame<'_>, _: Arguments<'_>) -> Result<Value, EvaluationError> {
    match &frame.input.message.publisher.principal {
        Some(principal) => frame.text(principal.as_str()),
        None => Ok(Value::Undefined),
    }
}

fn new_uuid(frame: &Frame<'_>, _: Arguments<'_>) -> Result<Value, EvaluationError> {
    frame.text(random::uuid(frame.input.random))
}

/// A double in [0, 1) of 53 random bits.
fn rand(frame: &Frame<'_>, _: Arguments<'_>) -> Result<Value, EvaluationError> {
    let bits = u64::from_le_bytes(random::bytes(frame.input.random)) >> 11;
    Ok(Value::decimal(bits as f64 / (1_u64 << 53) as f64, frame.version))
}

fn sql_version(frame: &Frame<'_>, _: Arguments<'_>) -> Result<Value, EvaluationError> {
    frame.text(frame.version.as_str())
}

fn timestamp(frame: &Frame<'_>, _: Arguments<'_>) -> Result<Value, EvaluationError> {
    Ok(Value::Int(frame.input.now.as_millis().into()))
}

/// The whole topic or its n-th level, from 1.
fn topic(frame: &Frame<'_>, arguments: Arguments<'_>) -> Result<Value, EvaluationError> {
    let topic = &frame.input.message.topic;
    let text = match arguments.first() {
        None => Some(topic.as_str()),
        Some(n) => {
            let index = n.to_int().and_then(|n| usize::try_from(n).ok()?.checked_sub(1));
            index.and_then(|index| topic.levels().nth(index))
        }
    };
    text.map_or(Ok(Value::Undefined), |text| frame.text(text))
}

fn abs(frame: &Frame<'_>, arguments: Arguments<'_>) -> Result<Value, EvaluationError> {
    Ok(match arguments[0].number() {
        Some(Number::Int(int)) => Value::Int(int.abs()),
        Some(Number::Decimal(decimal)) => Value::decimal(decimal.abs(), frame.version),
        None => Value::Undefined,
    })
}

fn power(frame: &Frame<'_>, arguments: Arguments<'_>) -> Result<Value, EvaluationError> {
    Ok(match (arguments[0].number(), arguments[1].number()) {
        (Some(base), Some(exponent)) => {
            Value::decimal(base.as_f64().powf(exponent.as_f64()), frame.version)
        }
        _ => Value::Undefined,
    })
}

/// The first argument if it is a number, else the second.
fn nanvl(frame: &Frame<'_>, arguments: Arguments<'_>) -> Result<Value, EvaluationError> {
    let is_number = matches!(*arguments[0], Value::Int(_) | Value::Decimal(_));
    frame.copy(&arguments[usize::from(!is_number)])
}

/// One argument unchanged; with an array among them an array of all; else the texts joined.
fn concat(frame: &Frame<'_>, arguments: Arguments<'_>) -> Result<Value, EvaluationError> {
    match arguments {
        [] => return Ok(Value::Undefined),
        [only] => return frame.copy(only),
        _ => {}
    }
    if arguments.iter().any(|argument| matches!(**argument, Value::Array(_))) {
        let mut all = Vec::new();
        for argument in arguments {
            let elements = match &**argument {
                Value::Array(elements) => elements.as_slice(),
                other => std::slice::from_ref(other),
            };
            for element in elements.iter().filter(|element| !element.is_undefined()) {
                all.push(frame.copy(element)?);
            }
        }
        return Ok(Value::Array(all));
    }
    let mut joined = String::new();
    for argument in arguments {
        let Some(text) = argument.to_text() else { return Ok(Value::Undefined) };
        frame.charge(text.len())?;
        joined.push_str(&text);
    }
    Ok(Value::Text(joined))
}

fn length(_: &Frame<'_>, arguments: Arguments<'_>) -> Result<Value, EvaluationError> {
    Ok(arguments[0].to_text().map_or(Value::Undefined, |text| count(text.chars().count())))
}

fn numbytes(_: &Frame<'_>, arguments: Arguments<'_>) -> Result<Value, EvaluationError> {
    Ok(arguments[0].to_text().map_or(Value::Undefined, |text| count(text.len())))
}

/// `substring(text, start[, end])` in characters from 0; indices are clamped into the text.
fn substring(frame: &Frame<'_>, arguments: Arguments<'_>) -> Result<Value, EvaluationError> {
    let (Some(text), Some(start)) = (arguments[0].to_text(), arguments[1].to_int()) else {
        return Ok(Value::Undefined);
    };
    let end = match arguments.get(2) {
        Some(end) => match end.to_int() {
            Some(end) => end,
            None => return Ok(Value::Undefined),
        },
        None => i128::MAX,
    };
    let clamp = |index: i128| usize::try_from(index.max(0)).unwrap_or(usize::MAX);
    let (start, end) = (clamp(start), clamp(end));
    let part = text.chars().skip(start).take(end.saturating_sub(start)).collect::<String>();
    frame.text(part)
}

/// Element of an array, character of a text (both from 0), member of an object.
fn get(frame: &Frame<'_>, arguments: Arguments<'_>) -> Result<Value, EvaluationError> {
    let (collection, key) = (&*arguments[0], &*arguments[1]);
    let index = || usize::try_from(key.to_int()?).ok();
    let found = match (collection, key) {
        (Value::Array(elements), Value::Int(_)) => index().and_then(|index| elements.get(index)),
        (Value::Object(object), Value::Text(name)) => object.get(name),
        (Value::Text(text), Value::Int(_)) => {
            return match index().and_then(|index| text.chars().nth(index)) {
                Some(character) => frame.text(character),
                None => Ok(Value::Undefined),
            };
        }
        _ => None,
    };
    found.map_or(Ok(Value::Undefined), |value| frame.copy(value))
}

fn is_null(_: &Frame<'_>, arguments: Arguments<'_>) -> Result<Value, EvaluationError> {
    Ok(Value::Bool(*arguments[0] == Value::Null))
}

fn is_undefined(_: &Frame<'_>, arguments: Arguments<'_>) -> Result<Value, EvaluationError> {
    Ok(Value::Bool(arguments[0].is_undefined()))
}

fn count(n: usize) -> Value {
    Value::Int(i128::try_from(n).expect("a length fits into 127 bits"))
}

/// To Int, rounded down.
fn floor(value: &Value) -> Option<i128> {
    match value.number()? {
        Number::Int(int) => Some(int),
        Number::Decimal(decimal) => match Value::whole(decimal.floor()) {
            Value::Int(int) => Some(int),
            _ => None,
        },
    }
}
