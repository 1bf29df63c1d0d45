//! The function table: a new function is a new row.
//!
//! In: evaluated arguments. Out: a value; what makes no sense is Undefined, never an error.
//! Not here: `cast`, which has a syntax of its own (`parser`, `operators`).
//!
//! Source: AWS IoT developer guide, "Functions". By subject: `context` (the message and the
//! moment), `numbers`, `texts`, `encodings`, `times`, `collections`; regular expressions are in
//! `sql/pattern`.

mod collections;
mod context;
mod encodings;
mod numbers;
mod texts;
mod times;

use super::decimal::Number;
use super::external::Callee;
use super::pattern::Of;
use super::plan::Frame;
use super::value::Value;
use super::{EvaluationError, Version};
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
    /// What it is called with.
    pub needs: Needs,
    body: Body,
}

/// What a function is called with.
#[derive(Debug)]
pub(super) enum Needs {
    /// The values of its arguments.
    Values,
    /// The same, but `*` is the payload's bytes.
    Bytes,
    /// A regular expression (`sql/pattern`).
    Pattern(Of),
    /// An argument that may fail (`get_or_default`).
    Default,
    /// An answer of the host (`sql/external`).
    Host(Callee),
}

#[derive(Debug)]
enum Body {
    /// Of a double; strings convert.
    Numeric(fn(f64) -> f64),
    /// As `Numeric`, of two.
    Numeric2(fn(f64, f64) -> f64),
    /// As `Numeric`, with an Int as result.
    Whole(fn(f64) -> f64),
    /// Of two Ints, rounded down.
    Bits(fn(i128, i128) -> i128),
    /// Of a text; everything but Null and Undefined has one.
    Text(fn(&str) -> String),
    /// A question about two texts.
    TextTest(fn(&str, &str) -> bool),
    /// Of a text or a payload, in hexadecimal.
    Hash(fn(&[u8]) -> String),
    General(fn(&Frame<'_>, Arguments<'_>) -> Result<Value, EvaluationError>),
    /// Not called from the table.
    Elsewhere,
}

type Arguments<'a> = &'a [Cow<'a, Value>];

/// Whether the language itself has a function of this name; case does not matter.
pub fn is_builtin(name: &str) -> bool {
    find(name).is_some()
}

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
            Body::Numeric2(body) => decimal(0)
                .zip(decimal(1))
                .map(|(left, right)| Value::decimal(body(left, right), frame.version)),
            Body::Whole(body) => decimal(0).map(|x| Value::whole(body(x))),
            Body::Bits(body) => {
                bits(0).zip(bits(1)).map(|(left, right)| Value::int(body(left, right)))
            }
            Body::Text(body) => text(0).map(|text| frame.text(body(&text))).transpose()?,
            Body::TextTest(body) => {
                text(0).zip(text(1)).map(|(text, other)| Value::Bool(body(&text, &other)))
            }
            Body::Hash(body) => {
                let bytes = arguments.first().and_then(|argument| argument.to_bytes());
                bytes.map(|bytes| frame.text(body(&bytes))).transpose()?
            }
            // The plan has a node of its own for these.
            Body::Elsewhere => None,
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
    Function { name, arity, since, needs: Needs::Values, body }
}

/// A row whose `*` is the payload's bytes.
const fn bytes(
    name: &'static str,
    arity: RangeInclusive<usize>,
    since: Version,
    body: Body,
) -> Function {
    Function { name, arity, since, needs: Needs::Bytes, body }
}

/// A row that the plan has a node of its own for.
const fn node(
    name: &'static str,
    arity: RangeInclusive<usize>,
    since: Version,
    needs: Needs,
) -> Function {
    Function { name, arity, since, needs, body: Body::Elsewhere }
}

use Body::{Bits, General, Hash, Numeric, Numeric2, Text, TextTest, Whole};
use Version::{V2015, V2016};

static FUNCTIONS: &[Function] = &[
    // Of the message and the moment.
    row("accountid", 0..=0, V2015, General(context::account_id)),
    row("clientid", 0..=0, V2015, General(context::client_id)),
    row("get_mqtt_property", 1..=1, V2015, General(context::mqtt_property)),
    row("get_user_properties", 0..=1, V2015, General(context::user_properties)),
    row("mqttproperty", 1..=1, V2015, General(context::mqtt_property)),
    row("newuuid", 0..=0, V2015, General(context::new_uuid)),
    row("principal", 0..=0, V2015, General(context::principal)),
    row("rand", 0..=0, V2015, General(context::rand)),
    row("sql_version", 0..=0, V2015, General(context::sql_version)),
    row("timestamp", 0..=0, V2015, General(context::timestamp)),
    row("topic", 0..=1, V2015, General(context::topic)),
    row("traceid", 0..=0, V2015, General(context::trace_id)),
    // Of numbers.
    row("abs", 1..=1, V2015, General(numbers::abs)),
    row("acos", 1..=1, V2015, Numeric(f64::acos)),
    row("asin", 1..=1, V2015, Numeric(f64::asin)),
    row("atan", 1..=1, V2015, Numeric(f64::atan)),
    row("atan2", 2..=2, V2015, Numeric2(f64::atan2)),
    row("bitand", 2..=2, V2015, Bits(|left, right| left & right)),
    row("bitnot", 1..=1, V2015, General(numbers::bitnot)),
    row("bitor", 2..=2, V2015, Bits(|left, right| left | right)),
    row("bitxor", 2..=2, V2015, Bits(|left, right| left ^ right)),
    row("ceil", 1..=1, V2015, Whole(f64::ceil)),
    row("cos", 1..=1, V2015, Numeric(f64::cos)),
    row("cosh", 1..=1, V2015, Numeric(f64::cosh)),
    row("exp", 1..=1, V2015, Numeric(f64::exp)),
    row("floor", 1..=1, V2015, Whole(f64::floor)),
    row("ln", 1..=1, V2015, Numeric(f64::ln)),
    row("log", 1..=1, V2015, Numeric(f64::log10)),
    row("mod", 2..=2, V2015, General(numbers::remainder)),
    row("nanvl", 2..=2, V2015, General(numbers::nanvl)),
    row("power", 2..=2, V2015, Numeric2(f64::powf)),
    row("remainder", 2..=2, V2015, General(numbers::remainder)),
    row("round", 1..=1, V2015, Whole(f64::round)),
    row("sign", 1..=1, V2015, General(numbers::sign)),
    row("sin", 1..=1, V2015, Numeric(f64::sin)),
    row("sinh", 1..=1, V2015, Numeric(f64::sinh)),
    row("sqrt", 1..=1, V2015, Numeric(f64::sqrt)),
    row("tan", 1..=1, V2015, Numeric(f64::tan)),
    row("tanh", 1..=1, V2015, Numeric(f64::tanh)),
    row("trunc", 2..=2, V2015, General(numbers::trunc)),
    // Of texts.
    row("chr", 1..=1, V2015, General(texts::chr)),
    row("concat", 0..=usize::MAX, V2015, General(texts::concat)),
    row("endswith", 2..=2, V2015, TextTest(|text, end| text.ends_with(end))),
    row("indexof", 2..=2, V2016, General(texts::index_of)),
    row("length", 1..=1, V2016, General(texts::length)),
    row("lower", 1..=1, V2015, Text(str::to_lowercase)),
    row("lpad", 2..=2, V2015, General(texts::lpad)),
    row("ltrim", 1..=1, V2015, Text(|text| text.trim_start().to_owned())),
    bytes("numbytes", 1..=1, V2016, General(texts::numbytes)),
    node("regexp_matches", 2..=2, V2015, Needs::Pattern(Of::Matches)),
    node("regexp_replace", 3..=3, V2015, Needs::Pattern(Of::Replace)),
    node("regexp_substr", 2..=2, V2015, Needs::Pattern(Of::Substring)),
    row("replace", 3..=3, V2015, General(texts::replace)),
    row("rpad", 2..=2, V2015, General(texts::rpad)),
    row("rtrim", 1..=1, V2015, Text(|text| text.trim_end().to_owned())),
    row("startswith", 2..=2, V2015, TextTest(|text, start| text.starts_with(start))),
    row("substring", 2..=3, V2015, General(texts::substring)),
    row("trim", 1..=1, V2015, Text(|text| text.trim().to_owned())),
    row("upper", 1..=1, V2015, Text(str::to_uppercase)),
    // Of times.
    row("parse_time", 2..=3, V2016, General(times::parse_time)),
    row("time_to_epoch", 2..=2, V2016, General(times::time_to_epoch)),
    // Hashes and encodings; `decode` with more arguments is the plan's.
    bytes("decode", 2..=6, V2016, General(encodings::decode)),
    bytes("encode", 2..=2, V2016, General(encodings::encode)),
    bytes("md2", 1..=1, V2015, Hash(encodings::hash::<md2::Md2>)),
    bytes("md5", 1..=1, V2015, Hash(encodings::hash::<md5::Md5>)),
    bytes("sha1", 1..=1, V2015, Hash(encodings::hash::<sha1::Sha1>)),
    bytes("sha224", 1..=1, V2015, Hash(encodings::hash::<sha2::Sha224>)),
    bytes("sha256", 1..=1, V2015, Hash(encodings::hash::<sha2::Sha256>)),
    bytes("sha384", 1..=1, V2015, Hash(encodings::hash::<sha2::Sha384>)),
    bytes("sha512", 1..=1, V2015, Hash(encodings::hash::<sha2::Sha512>)),
    // Of anything.
    row("get", 2..=2, V2015, General(collections::get)),
    node("get_or_default", 1..=2, V2016, Needs::Default),
    row("isNull", 1..=1, V2015, General(collections::is_null)),
    row("isUndefined", 1..=1, V2016, General(collections::is_undefined)),
    row("transform", 3..=3, V2016, General(collections::transform)),
    // Of the host.
    node("aws_lambda", 2..=2, V2015, Needs::Host(Callee::Lambda)),
    node("get_registry_data", 2..=3, V2016, Needs::Host(Callee::RegistryData)),
    node("get_thing_shadow", 2..=3, V2016, Needs::Host(Callee::ThingShadow)),
    // Of other services of AWS, which this host does not have.
    row("get_dynamodb", 4..=6, V2016, Body::Elsewhere),
    row("get_secret", 2..=4, V2016, Body::Elsewhere),
    row("machinelearning_predict", 3..=3, V2015, Body::Elsewhere),
];

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
