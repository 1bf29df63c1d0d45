//! The message: what travels from a publisher through the broker to subscribers and rules.
//!
//! One allocation shared by all receivers. Not here: packet identifiers and per-receiver flags
//! (`broker::Delivery`, `session`).

use crate::ids::{ClientId, Principal};
use crate::time::Timestamp;
use crate::topic::TopicName;
use bytes::Bytes;
use std::num::NonZeroU32;
use std::sync::Arc;

/// Quality of service of a PUBLISH or a subscription (MQTT 5.0, 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QoS {
    /// QoS 0.
    #[default]
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
    /// QoS 2.
    ExactlyOnce = 2,
}

/// An application message as it was accepted from its publisher.
#[derive(Clone, Debug)]
pub struct Message {
    /// Where it was published.
    pub topic: TopicName,
    /// Any bytes; at most `Limits::payload_bytes`.
    pub payload: Bytes,
    /// The publisher's QoS; a delivery has at most the subscription's.
    pub qos: QoS,
    /// The publisher's RETAIN flag.
    pub retain: bool,
    /// Rules that republished it on its way, one after the other; 0 from a publisher.
    pub hops: u8,
    /// When the host took it.
    pub received_at: Timestamp,
    /// Who published it; shared by all messages of a connection.
    pub publisher: Arc<Publisher>,
    /// MQTT 5 properties that receivers see; `None` costs nothing.
    pub properties: Option<Box<Properties>>,
}

impl Message {
    /// A QoS 0 message without properties; for the host's own publications and tests.
    pub fn new(
        topic: TopicName,
        payload: impl Into<Bytes>,
        publisher: Arc<Publisher>,
        received_at: Timestamp,
    ) -> Self {
        Self {
            topic,
            payload: payload.into(),
            qos: QoS::AtMostOnce,
            retain: false,
            hops: 0,
            received_at,
            publisher,
            properties: None,
        }
    }
}

impl Message {
    /// When it is of no use to anybody any more; `None`: never.
    pub fn expires_at(&self) -> Option<Timestamp> {
        let seconds = self.properties.as_ref()?.expiry_s?;
        let millis = self.received_at.as_millis().saturating_add(u64::from(seconds) * 1_000);
        Some(Timestamp::from_millis(millis))
    }
}

/// Who published a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publisher {
    /// The MQTT client; `None` over HTTP and for the host itself.
    pub client_id: Option<ClientId>,
    /// The authenticated principal; `None` for the host itself and anonymous clients.
    pub principal: Option<Principal>,
}

/// The properties of a PUBLISH that pass through the broker (MQTT 5.0, 3.3.2.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Payload Format Indicator: true says UTF-8 text.
    pub payload_is_utf8: bool,
    /// Message Expiry Interval in seconds, counted from `received_at`.
    pub expiry_s: Option<u32>,
    /// Content Type, at most 65,535 bytes.
    pub content_type: Option<Arc<str>>,
    /// Response Topic.
    pub response_topic: Option<TopicName>,
    /// Correlation Data.
    pub correlation_data: Option<Bytes>,
    /// User Properties, in order, repeated keys allowed.
    pub user: Vec<(Arc<str>, Arc<str>)>,
}

impl Properties {
    /// Bytes of the user properties, an empty pair counted like the pointers that it takes.
    pub fn user_bytes(&self) -> usize {
        let pair = size_of::<(Arc<str>, Arc<str>)>();
        self.user.iter().map(|(key, value)| pair + key.len() + value.len()).sum()
    }

    /// Bytes of everything that has no fixed size; for the bounds of queues.
    pub fn bytes(&self) -> usize {
        self.user_bytes()
            + self.content_type.as_ref().map_or(0, |text| text.len())
            + self.response_topic.as_ref().map_or(0, |topic| topic.as_str().len())
            + self.correlation_data.as_ref().map_or(0, Bytes::len)
    }
}

/// Subscription Identifier: 1..=268,435,455 (MQTT 5.0, 3.8.2.1.2).
pub type SubscriptionId = NonZeroU32;
