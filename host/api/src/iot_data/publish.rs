//! `Publish`: a message over HTTP, into the same broker as every PUBLISH packet.
//!
//! In: topic, body and the MQTT 5 properties of the request. Out: `Broker::publish`.
//! Source: the model of `iot-data`, and MQTT 5.0, 3.3.2.3, for the properties.

use crate::Services;
use crate::call::{Answer, Call};
use crate::error::{ApiError, Exception};
use crate::router::{Handlers, handlers};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gnomon_core::broker::Wakes;
use gnomon_core::message::{Message, Properties, Publisher, QoS};
use gnomon_core::packet::UserProperties;
use gnomon_core::random;
use gnomon_core::session::reserved;
use gnomon_core::topic::TopicName;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const HANDLERS: Handlers = handlers! {
    Publish => publish;
};

/// Names and values of all user properties together. Source: quotas of AWS IoT Core.
const USER_PROPERTIES_BYTES_MAX: usize = 8 * 1_024;

/// Source: quotas of AWS IoT Core.
const CORRELATION_DATA_BYTES_MAX: usize = 8 * 1_024;

/// Source: quotas of AWS IoT Core.
const CONTENT_TYPE_BYTES_MAX: usize = 256;

async fn publish(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        message: &'static str,
        trace_id: String,
    }
    let topic = topic(services, call.label("topic"))?;
    let payload_bytes_max = services.limits.payload_bytes;
    if call.body.len() > payload_bytes_max as usize {
        return Err(ApiError::new(
            Exception::RequestEntityTooLarge,
            format!("the payload has more than {payload_bytes_max} bytes"),
        ));
    }
    if call.query_as::<bool>("retain")?.unwrap_or(false) {
        return Err(ApiError::new(
            Exception::NotImplemented,
            "retained messages are not implemented by this version of Gnomon; leave retain out",
        ));
    }
    let publisher = Publisher { client_id: None, principal: Some(call.caller.principal()) };
    let message = Arc::new(Message {
        qos: qos(call)?,
        properties: properties(services, call)?.map(Box::new),
        ..Message::new(topic, call.body.clone(), Arc::new(publisher), services.clock.wall())
    });
    services.broker.publish(&message, &mut Wakes::default());
    Answer::members(&Body { message: "OK", trace_id: random::uuid(&*services.random) })
}

/// A topic that callers may publish to.
fn topic(services: &Services, text: &str) -> Result<TopicName, ApiError> {
    let topic = topic_name(services, text)?;
    if !reserved::may_publish(&topic) {
        return Err(ApiError::new(
            Exception::Forbidden,
            "topics that begin with $ are reserved; only requests to shadows may be published \
             there",
        ));
    }
    Ok(topic)
}

fn topic_name(services: &Services, text: &str) -> Result<TopicName, ApiError> {
    let limits = &services.limits;
    if !limits.allow_topic(text) {
        return Err(ApiError::invalid_request(format!(
            "the topic has more than {} bytes or {} slashes",
            limits.topic_bytes, limits.topic_slashes
        )));
    }
    TopicName::parse(text).map_err(|error| ApiError::invalid_request(error.to_string()))
}

fn qos(call: &Call<'_>) -> Result<QoS, ApiError> {
    match call.query("qos")? {
        None | Some("0") => Ok(QoS::AtMostOnce),
        Some("1") => Ok(QoS::AtLeastOnce),
        Some(_) => Err(ApiError::invalid_request("qos must be 0 or 1")),
    }
}

/// `None` when the request has no property: then the message costs no more than one of MQTT 3.
fn properties(services: &Services, call: &Call<'_>) -> Result<Option<Properties>, ApiError> {
    let content_type = call.query("contentType")?;
    if content_type.is_some_and(|text| text.len() > CONTENT_TYPE_BYTES_MAX) {
        return Err(too_long("contentType", CONTENT_TYPE_BYTES_MAX));
    }
    let response_topic = call.query("responseTopic")?;
    let properties = Properties {
        payload_is_utf8: payload_is_utf8(call)?,
        expiry_s: call.query_as("messageExpiry")?,
        content_type: content_type.map(Into::into),
        response_topic: response_topic.map(|text| topic_name(services, text)).transpose()?,
        correlation_data: correlation_data(call)?,
        user: user_properties(call)?,
    };
    Ok(Some(properties).filter(|properties| *properties != Properties::default()))
}

fn payload_is_utf8(call: &Call<'_>) -> Result<bool, ApiError> {
    const NAME: &str = "x-amz-mqtt5-payload-format-indicator";
    match call.header(NAME)? {
        None | Some("UNSPECIFIED_BYTES") => Ok(false),
        Some("UTF8_DATA") if std::str::from_utf8(call.body).is_ok() => Ok(true),
        Some("UTF8_DATA") => Err(ApiError::invalid_request("the payload is not UTF-8")),
        Some(_) => Err(ApiError::invalid_request(format!(
            "the header {NAME} must be UTF8_DATA or UNSPECIFIED_BYTES"
        ))),
    }
}

fn correlation_data(call: &Call<'_>) -> Result<Option<Bytes>, ApiError> {
    const NAME: &str = "x-amz-mqtt5-correlation-data";
    let Some(bytes) = base64_header(call, NAME)? else { return Ok(None) };
    if bytes.len() > CORRELATION_DATA_BYTES_MAX {
        return Err(too_long(NAME, CORRELATION_DATA_BYTES_MAX));
    }
    Ok(Some(bytes.into()))
}

/// A JSON list of objects with one member each, so that names may repeat.
fn user_properties(call: &Call<'_>) -> Result<UserProperties, ApiError> {
    const NAME: &str = "x-amz-mqtt5-user-properties";
    type List = Vec<BTreeMap<String, String>>;
    let Some(json) = base64_header(call, NAME)? else { return Ok(Vec::new()) };
    if json.len() > USER_PROPERTIES_BYTES_MAX {
        return Err(too_long(NAME, USER_PROPERTIES_BYTES_MAX));
    }
    // SDKs that are given the list as text send a JSON string with the list in it.
    let list: Result<List, _> = match serde_json::from_slice::<String>(&json) {
        Ok(text) => serde_json::from_str(&text),
        Err(_) => serde_json::from_slice(&json),
    };
    let list = list.map_err(|error| {
        ApiError::invalid_request(format!(
            "the header {NAME} must be the base64 of a JSON list like [{{\"name\": \"value\"}}]: \
             {error}"
        ))
    })?;
    let pairs = list.into_iter().flatten();
    Ok(pairs.map(|(name, value)| (name.into(), value.into())).collect())
}

fn base64_header(call: &Call<'_>, name: &str) -> Result<Option<Vec<u8>>, ApiError> {
    let Some(text) = call.header(name)? else { return Ok(None) };
    let bytes = STANDARD.decode(text);
    bytes.map(Some).map_err(|error| {
        ApiError::invalid_request(format!("the header {name} is not base64: {error}"))
    })
}

fn too_long(name: &str, max: usize) -> ApiError {
    ApiError::invalid_request(format!("{name} has more than {max} bytes"))
}
