//! Life-cycle events: who connected, disconnected, subscribed, as messages on `$aws/events/…`.
//!
//! In: `clients`, at each change. Out: QoS 0 messages with AWS's payload, made only when somebody
//! listens. Source: AWS IoT developer guide, "Lifecycle events".

use super::{Broker, Wakes};
use crate::ids::{ClientId, Principal, ThingName};
use crate::message::Message;
use crate::packet::Reason;
use crate::time::Timestamp;
use crate::topic::{TopicFilter, TopicName};
use serde::Serialize;
use std::net::IpAddr;
use std::sync::Arc;

/// What all events of one connection have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connected<'a> {
    pub(super) client_id: &'a ClientId,
    pub(super) principal: Option<&'a Principal>,
    /// The one that the principal is attached to exclusively; AWS names no other.
    pub(super) thing: Option<&'a ThingName>,
    /// Of the connection: a random number, shown as a UUID.
    pub(super) session_identifier: u128,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    client_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thing_name: Option<&'a str>,
    /// Milliseconds since the Unix epoch.
    timestamp: u64,
    event_type: &'static str,
    session_identifier: String,
    principal_identifier: Option<&'a str>,
    #[serde(flatten)]
    of: Of<'a>,
}

#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum Of<'a> {
    Connected {
        ip_address: IpAddr,
        version_number: u32,
    },
    Disconnected {
        client_initiated_disconnect: bool,
        disconnect_reason: &'static str,
        version_number: u32,
    },
    ConnectFailed {
        connect_failure_reason: &'static str,
        ip_address: IpAddr,
    },
    Subscriptions {
        topics: &'a [&'a str],
    },
}

impl Connected<'_> {
    pub(super) fn connected(&self, broker: &Broker, now: Timestamp, ip: IpAddr, version: u32) {
        let of = Of::Connected { ip_address: ip, version_number: version };
        self.publish(broker, now, "presence", "connected", of);
    }

    /// `reason`: why the connection ended; `None` when it was lost.
    pub(super) fn disconnected(
        &self,
        broker: &Broker,
        now: Timestamp,
        reason: Option<Reason>,
        version: u32,
    ) {
        let of = Of::Disconnected {
            client_initiated_disconnect: reason == Some(Reason::Success),
            disconnect_reason: disconnect_reason(reason),
            version_number: version,
        };
        self.publish(broker, now, "presence", "disconnected", of);
    }

    pub(super) fn connect_failed(&self, broker: &Broker, now: Timestamp, ip: IpAddr) {
        let reason = "AUTHORIZATION_FAILED";
        let of = Of::ConnectFailed { connect_failure_reason: reason, ip_address: ip };
        self.publish(broker, now, "presence", "connect_failed", of);
    }

    /// `event`: `subscribed` or `unsubscribed`.
    pub(super) fn subscriptions<'f>(
        &self,
        broker: &Broker,
        now: Timestamp,
        event: &'static str,
        filters: impl Iterator<Item = &'f TopicFilter>,
    ) {
        let topics: Vec<&str> = filters.map(TopicFilter::as_str).collect();
        if !topics.is_empty() {
            self.publish(
                broker,
                now,
                "subscriptions",
                event,
                Of::Subscriptions { topics: &topics },
            );
        }
    }

    fn publish(
        &self,
        broker: &Broker,
        now: Timestamp,
        class: &str,
        event_type: &'static str,
        of: Of<'_>,
    ) {
        let id = self.client_id.as_str();
        // As on AWS: nobody could subscribe to the topic of such a client.
        let Ok(topic) = TopicName::parse(&format!("$aws/events/{class}/{event_type}/{id}")) else {
            return;
        };
        let message = || {
            let payload = Payload {
                client_id: id,
                thing_name: self.thing.map(ThingName::as_str),
                timestamp: now.as_millis(),
                event_type,
                session_identifier: uuid(self.session_identifier),
                principal_identifier: self.principal.map(Principal::as_str),
                of,
            };
            let payload = serde_json::to_vec(&payload).expect("texts and numbers serialize");
            Message::new(topic.clone(), payload, Arc::default(), now)
        };
        broker.publish_if_heard(&topic, message, &mut Wakes::default());
    }
}

fn disconnect_reason(reason: Option<Reason>) -> &'static str {
    match reason {
        None => "CONNECTION_LOST",
        Some(Reason::Success) => "CLIENT_INITIATED_DISCONNECT",
        Some(Reason::KeepAliveTimeout) => "MQTT_KEEP_ALIVE_TIMEOUT",
        Some(Reason::SessionTakenOver) => "DUPLICATE_CLIENTID",
        Some(Reason::NotAuthorized) => "FORBIDDEN_ACCESS",
        Some(Reason::MaximumConnectTime) => "CUSTOMAUTH_TTL_EXPIRATION",
        Some(Reason::AdministrativeAction) => "API_INITIATED_DISCONNECT",
        Some(Reason::ServerShuttingDown) => "SERVER_INITIATED_DISCONNECT",
        Some(Reason::QuotaExceeded | Reason::MessageRateTooHigh) => "THROTTLED",
        Some(Reason::UnspecifiedError | Reason::ServerBusy) => "SERVER_ERROR",
        Some(_) => "CLIENT_ERROR",
    }
}

fn uuid(number: u128) -> String {
    let hex = format!("{number:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
