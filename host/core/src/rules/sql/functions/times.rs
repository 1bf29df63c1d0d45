//! Functions of times: texts by patterns of Joda-Time and of the JDK.

use super::super::EvaluationError;
use super::super::plan::Frame;
use super::super::time_pattern::{Zone, jdk, joda};
use super::super::value::Value;
use super::Arguments;

type Answer = Result<Value, EvaluationError>;

/// `parse_time(pattern, milliseconds[, zone])`: the time as a text; in UTC without a zone.
pub(super) fn parse_time(frame: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    let zone = match arguments.get(2) {
        Some(zone) => zone.to_text().and_then(|zone| Zone::parse(&zone)),
        None => Some(Zone::UTC),
    };
    let pattern = arguments[0].to_text().and_then(|pattern| joda::Pattern::compile(&pattern));
    let millis = arguments[1].to_int().and_then(|millis| i64::try_from(millis).ok());
    let (Some(zone), Some(pattern), Some(millis)) = (zone, pattern, millis) else {
        return Ok(Value::Undefined);
    };
    match pattern.format(millis, &zone) {
        Some(text) => frame.text(text),
        None => Ok(Value::Undefined),
    }
}

/// `time_to_epoch(text, pattern)`: milliseconds since the Unix epoch.
pub(super) fn time_to_epoch(_: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    let (Some(text), Some(pattern)) = (arguments[0].to_text(), arguments[1].to_text()) else {
        return Ok(Value::Undefined);
    };
    let millis = jdk::Pattern::compile(&pattern).and_then(|pattern| pattern.parse(&text));
    Ok(millis.map_or(Value::Undefined, |millis| Value::Int(millis.into())))
}
