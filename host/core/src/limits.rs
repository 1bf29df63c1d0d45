//! Limits: one struct, AWS's defaults, every one configurable.
//!
//! Source of the defaults: the service quotas of AWS IoT Core. What happens at a bound is said
//! at the field.

use crate::message::Properties;
use bytes::Bytes;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// Bounds that the host enforces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Payload of a PUBLISH in bytes; beyond it the connection is closed (MQTT 5: 0x95).
    pub payload_bytes: u32,
    /// Whole MQTT packet in bytes; beyond it the connection is closed (MQTT 5: 0x95).
    pub packet_bytes: u32,
    /// User properties of a PUBLISH or will in bytes, each pair counted with 32 more; beyond it
    /// the connection is closed (0x95).
    pub user_properties_bytes: u32,
    /// Correlation data in bytes; beyond it as for `user_properties_bytes`.
    pub correlation_data_bytes: u32,
    /// Content type in bytes; beyond it as for `user_properties_bytes`.
    pub content_type_bytes: u32,
    /// Topic name or filter in bytes; beyond it the connection is closed (MQTT 5: 0x90 or 0x8F).
    pub topic_bytes: u32,
    /// Slashes in a topic name or filter; beyond them as for `topic_bytes`.
    pub topic_slashes: u32,
    /// Client id in bytes; beyond it CONNECT is refused (0x85; 3.1.1: 2).
    pub client_id_bytes: u32,
    /// Subscriptions of one session; beyond them SUBACK 0x97 (3.1.1: 0x80).
    pub subscriptions_per_session: u32,
    /// Filters of one SUBSCRIBE; beyond them SUBACK 0x97 (3.1.1: 0x80) for the rest.
    pub filters_per_subscribe: u32,
    /// Unacknowledged QoS 1 and 2 messages, each way. To a client: more wait in its queue. From a
    /// client: MQTT 5 clients are told (Receive Maximum) and closed beyond it (0x93); of others
    /// nothing more is read until the first are acknowledged. At least 1.
    #[serde(deserialize_with = "inflight_messages")]
    pub inflight_messages: u16,
    /// Messages that wait for one client, at most 60,000; when full the new message is dropped for
    /// that client.
    #[serde(deserialize_with = "queue_messages")]
    pub queue_messages: u32,
    /// Bytes of payload and properties that wait for one client; when full as for
    /// `queue_messages`.
    pub queue_bytes: u32,
    /// Longest session expiry in seconds; longer wishes are shortened and the client is told.
    pub session_expiry_s: u32,
    /// Longest keep-alive in seconds, and the one of clients that wish for none; MQTT 5 clients are
    /// told. 0: any keep-alive, or none.
    pub keep_alive_s: u16,
    /// PUBLISH packets that a connection may send in a second; beyond them nothing is read from it
    /// until the next second. 0: any number.
    pub publishes_per_second: u32,
    /// Retained messages; beyond them one on a new topic is not kept (QoS 1 and 2: PUBACK or
    /// PUBREC 0x97, in 3.1.1 the connection is closed; QoS 0: it is delivered all the same).
    pub retained_messages: u32,
    /// Bytes of all retained messages; beyond them as for `retained_messages`.
    pub retained_bytes: u64,
    /// Bytes that may wait for the disk; beyond them publications that need it are refused as for
    /// `retained_messages`.
    pub log_bytes: u32,
    /// MQTT 5 topic aliases that a client may use; a higher alias closes the connection (0x94).
    pub topic_aliases: u16,
    /// Shadow state document in bytes, metadata not counted; beyond it 413.
    pub shadow_bytes: u32,
    /// Nesting of `desired` and `reported`; beyond it 400.
    pub shadow_levels: u32,
    /// Rules of the account; beyond them LimitExceededException.
    pub rules: u32,
    /// Actions of one rule; beyond them InvalidRequestException.
    pub actions_per_rule: u32,
    /// Messages that wait for one action of a rule, on disk; one more fails at once.
    pub action_queue_messages: u32,
    /// Bytes that wait for one action of a rule, on disk; beyond them the next message fails.
    pub action_queue_bytes: u64,
    /// Seconds for which a message is kept for an action whose target is away; then it fails.
    pub action_retry_s: u32,
    /// Dead letters of one rule; beyond them a message that fails is lost, counted and logged.
    pub dead_letters: u32,
    /// Bytes of the dead letters of one rule; beyond them as for `dead_letters`.
    pub dead_letter_bytes: u64,
    /// Attributes of a thing group.
    pub thing_group_attributes: u32,
    /// Groups above each other, the root counted.
    pub thing_group_levels: u32,
    /// Groups directly below one group.
    pub thing_group_children: u32,
    /// Groups that a thing may be in, each of another root.
    pub groups_per_thing: u32,
    /// Seconds from a thing type's deprecation to when it may be deleted. AWS: 300.
    pub thing_type_delete_after_s: u32,
    /// Requests of one client about one shadow that are not answered yet; one more is rejected with
    /// 429. AWS: 10.
    pub shadow_inflight_requests: u32,
    /// Tables of readings; a row for one more fails.
    pub tables: u32,
    /// Bytes of all tables of readings; beyond them the oldest rows are removed.
    pub table_bytes: u64,
    /// Milliseconds that a query of tables may take; then it is ended.
    pub query_ms: u32,
    /// Rows of the result of a query; the rest is cut off, and the answer says so.
    pub query_rows: u32,
    /// Body of an HTTP request in bytes; beyond it 413.
    pub http_body_bytes: u32,
    /// Attributes of a thing without a thing type; beyond them InvalidRequestException.
    pub thing_attributes: u32,
    /// Attributes of a thing with a thing type; beyond them InvalidRequestException.
    pub typed_thing_attributes: u32,
    /// Policies attached to one certificate; beyond them LimitExceededException.
    pub policies_per_principal: u32,
    /// Versions of one policy; beyond them VersionsLimitExceededException.
    pub policy_versions: u32,
    /// Custom authorizers; beyond them LimitExceededException.
    pub authorizers: u32,
    /// Custom authorizers that are ACTIVE; beyond them LimitExceededException.
    pub active_authorizers: u32,
    /// Seconds for which a certificate that was renewed stays ACTIVE beside the new one; longer when
    /// the device has not come with the new one by then.
    pub certificate_overlap_s: u32,
}

impl Limits {
    /// True when a topic name or filter is within `topic_bytes` and `topic_slashes`.
    pub fn allow_topic(&self, text: &str) -> bool {
        text.len() <= self.topic_bytes as usize
            && text.bytes().filter(|b| *b == b'/').count() <= self.topic_slashes as usize
    }
}

impl Limits {
    /// True when the properties of a message are within their bounds.
    pub fn allow_properties(&self, properties: &Properties) -> bool {
        let content_type = properties.content_type.as_ref().map_or(0, |text| text.len());
        let correlation_data = properties.correlation_data.as_ref().map_or(0, Bytes::len);
        let response_topic = properties.response_topic.as_ref();
        properties.user_bytes() <= self.user_properties_bytes as usize
            && content_type <= self.content_type_bytes as usize
            && correlation_data <= self.correlation_data_bytes as usize
            && response_topic.is_none_or(|topic| self.allow_topic(topic.as_str()))
    }
}

/// Each message of a durable queue has a packet identifier of its own, and the window its own too.
const QUEUE_MESSAGES_MAX: u32 = 60_000;

fn queue_messages<'de, D: Deserializer<'de>>(value: D) -> Result<u32, D::Error> {
    let messages = u32::deserialize(value)?;
    if messages > QUEUE_MESSAGES_MAX {
        let text =
            format!("{messages} is too many; at most {QUEUE_MESSAGES_MAX} messages can wait");
        return Err(D::Error::custom(text));
    }
    Ok(messages)
}

fn inflight_messages<'de, D: Deserializer<'de>>(value: D) -> Result<u16, D::Error> {
    let messages = u16::deserialize(value)?;
    if messages == 0 {
        return Err(D::Error::custom("0 is too few; no message of QoS 1 or 2 could be sent"));
    }
    Ok(messages)
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_bytes: 128 * 1_024,
            packet_bytes: 146 * 1_024,
            user_properties_bytes: 8 * 1_024,
            correlation_data_bytes: 8 * 1_024,
            content_type_bytes: 256,
            topic_bytes: 256,
            topic_slashes: 7,
            client_id_bytes: 128,
            subscriptions_per_session: 50,
            filters_per_subscribe: 8,
            inflight_messages: 100,
            queue_messages: 1_000,
            // 1,000 messages of 1 KiB.
            queue_bytes: 1_024 * 1_024,
            // 7 days.
            session_expiry_s: 7 * 24 * 3_600,
            keep_alive_s: 0,
            publishes_per_second: 0,
            retained_messages: 500_000,
            // 500,000 messages of 1 KiB.
            retained_bytes: 512 * 1_024 * 1_024,
            log_bytes: 64 * 1_024 * 1_024,
            topic_aliases: 8,
            shadow_bytes: 8 * 1_024,
            shadow_levels: 8,
            rules: 100,
            actions_per_rule: 10,
            // 277 a second for an hour.
            action_queue_messages: 1_000_000,
            action_queue_bytes: 256 * 1_024 * 1_024,
            action_retry_s: 3_600,
            dead_letters: 100_000,
            dead_letter_bytes: 64 * 1_024 * 1_024,
            thing_group_attributes: 50,
            thing_group_levels: 7,
            thing_group_children: 100,
            groups_per_thing: 10,
            thing_type_delete_after_s: 0,
            shadow_inflight_requests: 10,
            tables: 1_000,
            table_bytes: 10 * 1_024 * 1_024 * 1_024,
            query_ms: 10_000,
            query_rows: 10_000,
            http_body_bytes: 1_024 * 1_024,
            thing_attributes: 3,
            typed_thing_attributes: 50,
            policies_per_principal: 10,
            policy_versions: 5,
            authorizers: 100,
            active_authorizers: 32,
            certificate_overlap_s: 24 * 3_600,
        }
    }
}
