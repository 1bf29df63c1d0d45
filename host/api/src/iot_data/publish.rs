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
use gnomon_core::policy::{Action, Resource};
use gnomon_core::random;
use gnomon_core::session::reserved;
use gnomon_core::storage::Durability;
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
    let verdict = call.caller.check(Action::Publish, Resource::Topic(topic.as_str()));
    verdict.inspect_err(|_| services.metrics.publish_denied.increment())?;
    let payload_bytes_max = services.limits.payload_bytes;
    if call.body.len() > payload_bytes_max as usize {
        return Err(ApiError::new(
            Exception::RequestEntityTooLarge,
            format!("the payload has more than {payload_bytes_max} bytes"),
        ));
    }
    let retain = call.query_as("retain")?.unwrap_or(false);
    if retain && topic.is_reserved() {
        return Err(ApiError::invalid_request(
            "nothing is retained on topics that begin with $; leave retain out",
        ));
    }
    if retain {
        let verdict = call.caller.check(Action::RetainPublish, Resource::Topic(topic.as_str()));
        verdict.inspect_err(|_| services.metrics.publish_denied.increment())?;
    }
    check_schema(services, call, &topic, retain)?;
    let publisher = Publisher { client_id: None, principal: call.caller.principal.clone() };
    let message = Arc::new(Message {
        qos: qos(call)?,
        retain,
        properties: properties(services, call)?.map(Box::new),
        ..Message::new(topic, call.body.clone(), Arc::new(publisher), services.clock.wall())
    });
    // The wakes are run at the end of the statement, before the wait.
    let published = services.broker.publish(&message, &mut Wakes::default());
    match published.durability {
        Durability::At(position) if !services.broker.log().wait(position).await => {
            return Err(ApiError::new(Exception::InternalFailure, "the host is stopping"));
        }
        Durability::Refused => {
            return Err(ApiError::new(
                Exception::Throttling,
                "the message was not taken: too many or too large retained messages, or too much \
                 waits for the disk",
            ));
        }
        Durability::At(_) | Durability::Done => {}
    }
    Answer::members(&Body { message: "OK", trace_id: random::uuid(&*services.random) })
}

/// What does not match the schema of the caller's thing type is counted, and refused when it is enforced.
fn check_schema(
    services: &Services,
    call: &Call<'_>,
    topic: &TopicName,
    retain: bool,
) -> Result<(), ApiError> {
    let is_clearing = retain && call.body.is_empty();
    let Some(schema) = call.caller.payload_schema.as_ref().filter(|_| !is_clearing) else {
        return Ok(());
    };
    let Err(problem) = schema.check(topic, call.body) else { return Ok(()) };
    services.metrics.payloads_mismatched.increment();
    let (principal, is_dropped) = (call.caller.name(), schema.enforces());
    tracing::info!(
        principal, %topic, problem, is_dropped,
        "payload does not match the schema of the thing type"
    );
    match is_dropped {
        true => Err(ApiError::invalid_request(format!(
            "the payload does not match the schema of the thing type: {problem}"
        ))),
        false => Ok(()),
    }
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

pub(super) fn topic_name(services: &Services, text: &str) -> Result<TopicName, ApiError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_host::{Seen, TestHost};
    use gnomon_core::broker::Receiver;
    use http::Response;

    /// A host and everything that is published on it.
    async fn host() -> (TestHost, Arc<Seen>, Receiver) {
        let host = TestHost::new().await;
        let (seen, receiver) = host.listen(&["#", "$aws/#"]);
        (host, seen, receiver)
    }

    async fn publish(host: &TestHost, target: &str, headers: &[(&str, &str)]) -> Response<Bytes> {
        let mut request = TestHost::request("POST", target, "{\"temp\": 31}");
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        host.sign(&mut request, &host.key, "iotdata");
        host.send(request).await
    }

    #[tokio::test]
    async fn a_message_reaches_subscribers_with_everything_that_came_with_it() {
        let (host, seen, _receiver) = host().await;
        let target = "/topics/sensor%2Ftemp?qos=1&contentType=application%2Fjson&\
                      responseTopic=reply%2Fto&messageExpiry=60";
        let headers = [
            ("x-amz-mqtt5-payload-format-indicator", "UTF8_DATA"),
            ("x-amz-mqtt5-correlation-data", "AAEC"),
            // [{"a": "1"}, {"a": "2"}]
            ("x-amz-mqtt5-user-properties", "W3siYSI6ICIxIn0sIHsiYSI6ICIyIn1d"),
        ];
        let response = publish(&host, target, &headers).await;
        assert_eq!(TestHost::json(&response)["message"], "OK");

        let messages = seen.0.lock().unwrap();
        let [message] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!(message.topic.as_str(), "sensor/temp");
        assert_eq!(&*message.payload, b"{\"temp\": 31}");
        assert_eq!(message.qos, QoS::AtLeastOnce);
        assert_eq!(message.received_at, services_time(&host));
        let principal = message.publisher.principal.as_ref().unwrap();
        assert_eq!(principal.as_str(), host.key.id);
        let expected = Properties {
            payload_is_utf8: true,
            expiry_s: Some(60),
            content_type: Some("application/json".into()),
            response_topic: Some(TopicName::parse("reply/to").unwrap()),
            correlation_data: Some(Bytes::from_static(&[0, 1, 2])),
            user: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
        };
        assert_eq!(message.properties.as_deref(), Some(&expected));
    }

    fn services_time(host: &TestHost) -> gnomon_core::time::Timestamp {
        gnomon_core::time::Clock::wall(&*host.clock)
    }

    #[tokio::test]
    async fn topics_come_encoded_or_with_raw_slashes() {
        let (host, seen, _receiver) = host().await;
        let topics = [
            ("/topics/a", "a"),
            ("/topics/a%2Fb", "a/b"),
            ("/topics/a/b", "a/b"),
            ("/topics/a/", "a/"),
            ("/topics/%2Fa%2F%2Fb%20%C3%BC%252F", "/a//b ü%2F"),
            ("/topics/%24aws%2Fthings%2FLamp%2Fshadow%2Fupdate", "$aws/things/Lamp/shadow/update"),
        ];
        for (target, topic) in topics {
            let response = publish(&host, target, &[]).await;
            assert_eq!(TestHost::error_type(&response), None, "{target}");
            let message = seen.0.lock().unwrap().pop().unwrap();
            assert_eq!(message.topic.as_str(), topic);
            assert_eq!(message.properties, None);
        }
    }

    #[tokio::test]
    async fn the_user_properties_of_an_sdk_are_text_in_json() {
        let (host, seen, _receiver) = host().await;
        // As boto3 sends userProperties='[{"a":"b"}]'.
        let headers = [("x-amz-mqtt5-user-properties", "Ilt7XCJhXCI6XCJiXCJ9XSI=")];
        publish(&host, "/topics/a", &headers).await;
        let message = seen.0.lock().unwrap().pop().unwrap();
        assert_eq!(message.properties.as_ref().unwrap().user, [("a".into(), "b".into())]);
    }

    #[tokio::test]
    async fn what_no_client_may_publish_is_refused() {
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
        let (host, seen, _receiver) = host().await;
        let property = "x-amz-mqtt5-user-properties";
        let long = STANDARD.encode("x".repeat(CORRELATION_DATA_BYTES_MAX + 1));
        let not_utf8 = ("x-amz-mqtt5-payload-format-indicator", "utf8");
        let cases: [Case<'_>; 15] = [
            ("/topics/a%2F%2B", &[], "InvalidRequestException"),
            ("/topics/a%00", &[], "InvalidRequestException"),
            ("/topics/%ff", &[], "InvalidRequestException"),
            ("/topics/a//b", &[], "InvalidRequestException"),
            ("/topics/1/2/3/4/5/6/7/8/9", &[], "InvalidRequestException"),
            ("/topics/", &[], "UnknownOperationException"),
            ("/topics/%24SYS%2Fuptime", &[], "ForbiddenException"),
            ("/topics/a?qos=2", &[], "InvalidRequestException"),
            ("/topics/a?qos=0&qos=1", &[], "InvalidRequestException"),
            ("/topics/a?retain=1", &[], "InvalidRequestException"),
            (
                "/topics/%24aws%2Fthings%2Fx%2Fshadow%2Fget?retain=true",
                &[],
                "InvalidRequestException",
            ),
            ("/topics/a?messageExpiry=-1", &[], "InvalidRequestException"),
            ("/topics/a", &[(property, "W10")], "InvalidRequestException"),
            ("/topics/a", &[("x-amz-mqtt5-correlation-data", &long)], "InvalidRequestException"),
            ("/topics/a", &[not_utf8], "InvalidRequestException"),
        ];
        for (target, headers, expected) in cases {
            let response = publish(&host, target, headers).await;
            assert_eq!(TestHost::error_type(&response), Some(expected), "{target} {headers:?}");
        }
        assert!(seen.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_payload_beyond_the_limit_is_refused() {
        let (host, seen, _receiver) = host().await;
        let exact = "x".repeat(131_072);
        let response = host.call("iotdata", "POST", "/topics/a", &exact).await;
        assert_eq!(TestHost::error_type(&response), None);
        let response = host.call("iotdata", "POST", "/topics/a", &(exact + "x")).await;
        assert_eq!(TestHost::error_type(&response), Some("RequestEntityTooLargeException"));
        assert_eq!(seen.0.lock().unwrap().len(), 1);
    }
}
