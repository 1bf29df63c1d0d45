//! Functions of the message and the moment.

use super::super::EvaluationError;
use super::super::plan::Frame;
use super::super::value::{Object, Value};
use super::Arguments;
use crate::message::Properties;
use crate::random;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

type Answer = Result<Value, EvaluationError>;

pub(super) fn account_id(frame: &Frame<'_>, _: Arguments<'_>) -> Answer {
    frame.text(frame.input.account)
}

pub(super) fn client_id(frame: &Frame<'_>, _: Arguments<'_>) -> Answer {
    let client_id = frame.input.message.publisher.client_id.as_ref();
    frame.text(client_id.map_or("n/a", |client_id| client_id.as_str()))
}

pub(super) fn principal(frame: &Frame<'_>, _: Arguments<'_>) -> Answer {
    match &frame.input.message.publisher.principal {
        Some(principal) => frame.text(principal.as_str()),
        None => Ok(Value::Undefined),
    }
}

pub(super) fn new_uuid(frame: &Frame<'_>, _: Arguments<'_>) -> Answer {
    frame.text(random::uuid(frame.input.random))
}

/// The id by which log lines and error actions name the message.
pub(super) fn trace_id(frame: &Frame<'_>, _: Arguments<'_>) -> Answer {
    frame.text(frame.input.trace_id())
}

/// A double in [0, 1) of 53 random bits.
pub(super) fn rand(frame: &Frame<'_>, _: Arguments<'_>) -> Answer {
    let bits = u64::from_le_bytes(random::bytes(frame.input.random)) >> 11;
    Ok(Value::decimal(bits as f64 / (1_u64 << 53) as f64, frame.version))
}

pub(super) fn sql_version(frame: &Frame<'_>, _: Arguments<'_>) -> Answer {
    frame.text(frame.version.as_str())
}

pub(super) fn timestamp(frame: &Frame<'_>, _: Arguments<'_>) -> Answer {
    Ok(Value::Int(frame.input.now.as_millis().into()))
}

/// The whole topic or its n-th level, from 1; without the prefix of Basic Ingest.
pub(super) fn topic(frame: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    let topic = frame.input.topic();
    let text = match arguments.first() {
        None => Some(topic),
        Some(n) => {
            let index = n.to_int().and_then(|n| usize::try_from(n).ok()?.checked_sub(1));
            index.and_then(|index| topic.split('/').nth(index))
        }
    };
    text.map_or(Ok(Value::Undefined), |text| frame.text(text))
}

/// A property of MQTT 5 by its name; Undefined where the message has none.
pub(super) fn mqtt_property(frame: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    let Some(name) = arguments[0].to_text() else { return Ok(Value::Undefined) };
    let empty = Properties::default();
    let properties = frame.input.message.properties.as_deref().unwrap_or(&empty);
    let text = match &*name {
        // AWS answers with the names of the two values.
        "format_indicator" => {
            let name = if properties.payload_is_utf8 { "UTF8_DATA" } else { "UNSPECIFIED_BYTES" };
            frame.input.message.properties.as_ref().map(|_| name.to_owned())
        }
        "content_type" => properties.content_type.as_deref().map(str::to_owned),
        "response_topic" => properties.response_topic.as_ref().map(ToString::to_string),
        "correlation_data" => {
            properties.correlation_data.as_ref().map(|data| STANDARD.encode(data))
        }
        _ => None,
    };
    text.map_or(Ok(Value::Undefined), |text| frame.text(text))
}

/// The values of one user property as an array, or all of them as an array of objects.
pub(super) fn user_properties(frame: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    let user = frame.input.message.properties.as_deref().map_or(&[][..], |it| &it.user);
    if user.is_empty() {
        return Ok(Value::Undefined);
    }
    let Some(key) = arguments.first() else {
        let pair = |(key, value): &(std::sync::Arc<str>, std::sync::Arc<str>)| {
            frame.charge(key.len())?;
            let value = frame.text(&**value)?;
            Ok(Value::Object(Object::from_iter([(key.to_string(), value)])))
        };
        return user.iter().map(pair).collect::<Result<_, _>>().map(Value::Array);
    };
    let Some(key) = key.to_text() else { return Ok(Value::Undefined) };
    let values = user.iter().filter(|(known, _)| **known == *key);
    let values: Vec<_> = values.map(|(_, value)| frame.text(&**value)).collect::<Result<_, _>>()?;
    Ok(if values.is_empty() { Value::Undefined } else { Value::Array(values) })
}
