//! The action `republish`: the result of a rule becomes a message on another topic.
//!
//! In: the action's body in a rule, with its templates filled in. Out: the message. It is built
//! into the host, because it has no target that could be away.
//! Not here: publishing, and how often a message may be republished (`rules`).
//!
//! Source: AWS IoT developer guide, "Republish"; `retain` is Gnomon's own.

use crate::message::{Message, Properties, QoS};
use crate::session::reserved;
use crate::topic::TopicName;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

/// User properties that a rule may add. AWS: 100.
pub const USER_PROPERTIES_MAX: usize = 100;

/// What a rule says about a message that it republishes; texts may still have templates.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Republish {
    topic: String,
    /// AWS requires it; here nothing depends on it.
    #[serde(default)]
    #[allow(dead_code, reason = "taken from AWS's clients, which always send it")]
    role_arn: Option<String>,
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    retain: bool,
    #[serde(default)]
    headers: Headers,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Headers {
    payload_format_indicator: Option<String>,
    content_type: Option<String>,
    response_topic: Option<String>,
    correlation_data: Option<String>,
    message_expiry: Option<String>,
    #[serde(default)]
    user_properties: Vec<UserProperty>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserProperty {
    key: String,
    value: String,
}

impl Republish {
    /// Reads the body of the action.
    ///
    /// # Errors
    /// Says which member is missing, unknown or out of its bounds.
    pub fn parse(body: &Value) -> Result<Self, String> {
        let republish = Self::deserialize(body).map_err(|error| error.to_string())?;
        if republish.qos > 1 {
            return Err(format!("qos must be 0 or 1, not {}", republish.qos));
        }
        let properties = republish.headers.user_properties.len();
        if properties > USER_PROPERTIES_MAX {
            return Err(format!("{properties} userProperties; at most {USER_PROPERTIES_MAX}"));
        }
        Ok(republish)
    }

    /// The topic, for people.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The message; its templates are filled in.
    ///
    /// # Errors
    /// Says what the templates have made of which member.
    pub fn message(&self, original: &Message, payload: Bytes) -> Result<Message, String> {
        // So that a template does not begin there: `$$aws/…` is `$aws/…`.
        let topic = self.topic.strip_prefix('$').filter(|rest| rest.starts_with('$'));
        let topic = TopicName::parse(topic.unwrap_or(&self.topic))
            .map_err(|error| format!("topic: {error}"))?;
        if !reserved::may_publish(&topic) {
            return Err("topic: it is reserved for the host".to_owned());
        }
        let qos = if self.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        Ok(Message {
            topic,
            payload,
            qos,
            retain: self.retain,
            hops: original.hops.saturating_add(1),
            properties: self.headers.properties()?.map(Box::new),
            ..original.clone()
        })
    }
}

impl Headers {
    fn properties(&self) -> Result<Option<Properties>, String> {
        if *self == Self::default() {
            return Ok(None);
        }
        let payload_is_utf8 = match self.payload_format_indicator.as_deref() {
            None | Some("UNSPECIFIED_BYTES") => false,
            Some("UTF8_DATA") => true,
            Some(_) => {
                return Err(
                    "payloadFormatIndicator must be UNSPECIFIED_BYTES or UTF8_DATA".to_owned()
                );
            }
        };
        let topic = self.response_topic.as_deref().map(TopicName::parse).transpose();
        let correlation_data =
            self.correlation_data.as_deref().map(|it| STANDARD.decode(it)).transpose();
        let expiry_s = self.message_expiry.as_deref().map(str::parse).transpose();
        let user = self.user_properties.iter();
        Ok(Some(Properties {
            payload_is_utf8,
            expiry_s: expiry_s.map_err(|_| "messageExpiry must be seconds as digits".to_owned())?,
            content_type: self.content_type.as_deref().map(Into::into),
            response_topic: topic.map_err(|error| format!("responseTopic: {error}"))?,
            correlation_data: correlation_data
                .map_err(|_| "correlationData must be base64".to_owned())?
                .map(Bytes::from),
            user: user.map(|it| (it.key.as_str().into(), it.value.as_str().into())).collect(),
        }))
    }
}
