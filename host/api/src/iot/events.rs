//! Which registry events are published: update, describe.

use crate::Services;
use crate::call::{Answer, Call, epoch_seconds};
use crate::error::ApiError;
use crate::router::{Handlers, handlers};
use gnomon_core::registry::EventClass;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(crate) const HANDLERS: Handlers = handlers! {
    UpdateEventConfigurations => update;
    DescribeEventConfigurations => describe;
};

/// AWS: `Configuration`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    #[serde(default)]
    enabled: bool,
}

async fn update(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        #[serde(default)]
        event_configurations: BTreeMap<String, Configuration>,
    }
    let Members { event_configurations } = call.members()?;
    let mut changes = BTreeMap::new();
    for (name, configuration) in &event_configurations {
        changes.insert(EventClass::parse(name)?, configuration.enabled);
    }
    services.registry.update_event_configurations(&changes).await?;
    Ok(Answer::empty())
}

async fn describe(services: &Services, _: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        event_configurations: BTreeMap<&'static str, Configuration>,
        #[serde(skip_serializing_if = "Option::is_none")]
        creation_date: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_modified_date: Option<f64>,
    }
    let found = services.registry.event_configurations().await?;
    let configuration = |class: EventClass| {
        (class.as_str(), Configuration { enabled: found.enabled.contains(&class) })
    };
    Answer::members(&Body {
        event_configurations: EventClass::ALL.into_iter().map(configuration).collect(),
        creation_date: found.dates.map(|dates| epoch_seconds(dates.created_at)),
        last_modified_date: found.dates.map(|dates| epoch_seconds(dates.modified_at)),
    })
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use gnomon_core::broker::{Delivery, Inbox, Wakes};
    use gnomon_core::message::QoS;
    use gnomon_core::packet::SubscribeOptions;
    use gnomon_core::topic::TopicFilter;
    use serde_json::{Value, json};
    use std::sync::{Arc, Mutex};

    const PATH: &str = "/event-configurations";

    /// What DescribeEventConfigurations says when these classes are enabled.
    fn configurations(enabled: &[&str]) -> Value {
        let classes = [
            "THING",
            "THING_GROUP",
            "THING_TYPE",
            "THING_GROUP_MEMBERSHIP",
            "THING_GROUP_HIERARCHY",
            "THING_TYPE_ASSOCIATION",
            "JOB",
            "JOB_EXECUTION",
            "POLICY",
            "CERTIFICATE",
            "CA_CERTIFICATE",
        ];
        let class = |name: &str| (name.to_owned(), json!({"Enabled": enabled.contains(&name)}));
        classes.into_iter().map(class).collect::<serde_json::Map<_, _>>().into()
    }

    #[tokio::test]
    async fn classes_are_switched_on_and_off() {
        let host = TestHost::new().await;
        let none = json!({"eventConfigurations": configurations(&[])});
        assert_eq!(host.iot("GET", PATH, "").await, none);
        let body =
            r#"{"eventConfigurations": {"THING": {"Enabled": true}, "JOB": {"Enabled": true}}}"#;
        assert_eq!(host.iot("PATCH", PATH, body).await, json!({}));
        host.clock.advance(std::time::Duration::from_secs(1));
        // The others stay, and what changes nothing is no change.
        let body = r#"{"eventConfigurations": {"THING": {"Enabled": false}, "POLICY": {}}}"#;
        host.iot("PATCH", PATH, body).await;
        host.clock.advance(std::time::Duration::from_secs(1));
        for body in [body, "{}", r#"{"eventConfigurations": {}}"#, ""] {
            host.iot("PATCH", PATH, body).await;
        }
        assert_eq!(
            host.iot("GET", PATH, "").await,
            json!({
                "eventConfigurations": configurations(&["JOB"]),
                "creationDate": 1_795_435_200.5,
                "lastModifiedDate": 1_795_435_201.5,
            })
        );
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_configuration_is_named() {
        let host = TestHost::new().await;
        for (body, says) in [
            (r#"{"eventConfigurations": {"THINGS": {"Enabled": true}}}"#, "\"THINGS\" is no class"),
            (r#"{"eventConfigurations": {"thing": {"Enabled": true}}}"#, "there are THING, THING_"),
            (
                r#"{"eventConfigurations": {"THING": {"Enabled": "yes"}}}"#,
                "eventConfigurations.THING.Enabled: invalid type: string \"yes\", expected a boolean",
            ),
            (r#"{"eventConfigurations": {"THING": true}}"#, "eventConfigurations.THING: invalid"),
            (
                r#"{"eventConfigurations": ["THING"]}"#,
                "eventConfigurations: invalid type: sequence",
            ),
            (r#"{"eventConfigurations": "THING"}"#, "eventConfigurations: invalid type: string"),
            (r#"{"eventConfigurations": {"THING": {"Enabled": true}"#, "EOF"),
            ("[]", "the body: expected an object"),
        ] {
            host.check_refused("PATCH", PATH, body, "InvalidRequestException", says).await;
        }
        // Refused as a whole.
        let one_is_wrong =
            r#"{"eventConfigurations": {"THING": {"Enabled": true}, "X": {"Enabled": true}}}"#;
        host.check_refused("PATCH", PATH, one_is_wrong, "InvalidRequestException", "\"X\"").await;
        let none = json!({"eventConfigurations": configurations(&[])});
        assert_eq!(host.iot("GET", PATH, "").await, none);
    }

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Inbox for Heard {
        fn deliver(&self, delivery: Delivery, _: &mut Wakes) {
            self.0.lock().unwrap().push(delivery.message.topic.to_string());
        }
    }

    #[tokio::test]
    async fn an_enabled_event_is_published_before_the_answer() {
        let (host, heard) = (TestHost::new().await, Arc::new(Heard::default()));
        let receiver = host.broker.register(heard.clone());
        let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
        receiver.subscribe(&TopicFilter::parse("$aws/events/thing/+/+").unwrap(), options, None);
        host.iot("POST", "/things/Before", "").await;
        host.iot("PATCH", PATH, r#"{"eventConfigurations": {"THING": {"Enabled": true}}}"#).await;
        host.iot("POST", "/things/Lamp", "").await;
        host.iot("DELETE", "/things/Lamp", "").await;
        let expected = ["$aws/events/thing/Lamp/created", "$aws/events/thing/Lamp/deleted"];
        assert_eq!(*heard.0.lock().unwrap(), expected);
    }
}
