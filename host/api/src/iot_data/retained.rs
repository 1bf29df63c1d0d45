//! Retained messages over HTTP.
//!
//! In: a topic, or nothing for all. Out: what the broker keeps. Source: the model of `iot-data`.

use super::publish::topic_name;
use crate::Services;
use crate::call::{Answer, Call};
use crate::error::{ApiError, Exception};
use crate::router::{Handlers, handlers};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gnomon_core::message::Message;
use gnomon_core::policy::{Action, Resource};
use gnomon_core::topic::TopicName;
use serde::Serialize;
use std::collections::BTreeMap;

pub(crate) const HANDLERS: Handlers = handlers! {
    GetRetainedMessage => get;
    ListRetainedMessages => list;
};

async fn get(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        topic: &'a str,
        payload: String,
        qos: u8,
        last_modified_time: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        user_properties: Option<String>,
    }
    let topic = topic_name(services, call.label("topic"))?;
    call.caller.check(Action::GetRetainedMessage, Resource::Topic(topic.as_str()))?;
    let message = services.broker.retained(&topic).ok_or_else(|| {
        let text = format!("there is no retained message on the topic {topic}");
        ApiError::new(Exception::ResourceNotFound, text)
    })?;
    Answer::members(&Body {
        topic: topic.as_str(),
        payload: STANDARD.encode(&message.payload),
        qos: message.qos as u8,
        last_modified_time: message.received_at.as_millis(),
        user_properties: user_properties(&message),
    })
}

/// A JSON list of objects with one member each, in base64, as `Publish` takes it.
fn user_properties(message: &Message) -> Option<String> {
    let pairs = &message.properties.as_ref()?.user;
    let list: Vec<BTreeMap<&str, &str>> =
        pairs.iter().map(|(name, value)| BTreeMap::from([(&**name, &**value)])).collect();
    let json = serde_json::to_vec(&list).expect("maps of text are JSON");
    (!list.is_empty()).then(|| STANDARD.encode(json))
}

async fn list(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Summary<'a> {
        topic: &'a str,
        payload_size: usize,
        qos: u8,
        last_modified_time: u64,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        retained_topics: Vec<Summary<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    call.caller.check(Action::ListRetainedMessages, Resource::Topic(""))?;
    let page = call.page("maxResults", "nextToken")?;
    let after = page.after.as_deref().map(|topic| topic_name(services, topic)).transpose()?;
    let messages = services.broker.retained_after(after.as_ref(), page.limit);
    let last = messages.last().map(|message| &message.topic).map(TopicName::as_str);
    Answer::members(&Body {
        next_token: page.next_token(messages.len(), last),
        retained_topics: messages
            .iter()
            .map(|message| Summary {
                topic: message.topic.as_str(),
                payload_size: message.payload.len(),
                qos: message.qos as u8,
                last_modified_time: message.received_at.as_millis(),
            })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use serde_json::json;

    async fn publish(host: &TestHost, target: &str, payload: &str) {
        let response = host.call("iotdata", "POST", target, payload).await;
        assert_eq!(TestHost::error_type(&response), None, "{target}");
    }

    #[tokio::test]
    async fn a_retained_message_can_be_read_replaced_and_removed() {
        let host = TestHost::new().await;
        publish(&host, "/topics/a%2Fb?retain=true&qos=1", "on").await;
        publish(&host, "/topics/a%2Fb?qos=1", "passing").await;
        let response = host.call("iotdata", "GET", "/retainedMessage/a%2Fb", "").await;
        let expected = json!({
            "topic": "a/b",
            "payload": "b24=",
            "qos": 1,
            "lastModifiedTime": 1_795_435_200_500_u64,
        });
        assert_eq!(TestHost::json(&response), expected);
        publish(&host, "/topics/a%2Fb?retain=true", "").await;
        let response = host.call("iotdata", "GET", "/retainedMessage/a/b", "").await;
        assert_eq!(TestHost::error_type(&response), Some("ResourceNotFoundException"));
    }

    #[tokio::test]
    async fn user_properties_come_back_as_they_were_sent() {
        let host = TestHost::new().await;
        let mut request = TestHost::request("POST", "/topics/a?retain=true", "x");
        let sent = "W3siYSI6IjEifSx7ImEiOiIyIn1d"; // [{"a":"1"},{"a":"2"}]
        request.headers_mut().insert("x-amz-mqtt5-user-properties", sent.parse().unwrap());
        host.sign(&mut request, &host.key, "iotdata");
        host.send(request).await;
        let response = host.call("iotdata", "GET", "/retainedMessage/a", "").await;
        assert_eq!(TestHost::json(&response)["userProperties"], sent);
    }

    #[tokio::test]
    async fn all_are_listed_page_by_page() {
        let host = TestHost::new().await;
        for topic in ["c", "a/b", "a", "b"] {
            let target = format!("/topics/{topic}?retain=true&qos=1");
            publish(&host, &target, "payload").await;
        }
        let mut seen = Vec::new();
        let mut target = String::from("/retainedMessage?maxResults=3");
        loop {
            let response = host.call("iotdata", "GET", &target, "").await;
            let body = TestHost::json(&response);
            for summary in body["retainedTopics"].as_array().unwrap() {
                assert_eq!((&summary["payloadSize"], &summary["qos"]), (&json!(7), &json!(1)));
                seen.push(summary["topic"].as_str().unwrap().to_owned());
            }
            let Some(token) = body["nextToken"].as_str() else { break };
            target = format!("/retainedMessage?maxResults=3&nextToken={token}");
        }
        assert_eq!(seen, ["a", "a/b", "b", "c"]);
    }

    #[tokio::test]
    async fn what_is_no_topic_is_refused() {
        let host = TestHost::new().await;
        let response = host.call("iotdata", "GET", "/retainedMessage/a%2F%23", "").await;
        assert_eq!(TestHost::error_type(&response), Some("InvalidRequestException"));
    }
}
