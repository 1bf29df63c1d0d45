//! What certificates need now and then: claims go, renewals are finished, and the operator is warned
//! of ends.
//!
//! In: the registry. Out: log lines, figures, and events on
//! `$gnomon/events/certificates/{id}/expiring`: AWS has none. They are not among the
//! classes that UpdateEventConfigurations switches.

use crate::broker::{Broker, Wakes};
use crate::ids::ThingName;
use crate::message::{Message, Publisher, QoS};
use crate::metrics::Metrics;
use crate::registry::{Expiring, Registry};
use crate::time::Clock;
use crate::topic::TopicName;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// How often it runs.
pub(super) const UPKEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Only so many turns apart it looks for ends: an hour. It reads all that end within 30 days.
const TURNS_PER_LOOK: u64 = 60;

pub(super) struct Upkeep {
    registry: Registry,
    broker: Broker,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    publisher: Arc<Publisher>,
}

impl Upkeep {
    pub(super) fn new(
        registry: Registry,
        broker: Broker,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { registry, broker, clock, metrics, publisher: Arc::default() }
    }

    /// What is due in this turn, counted from 0; what fails is tried again.
    pub(super) async fn run(&self, turn: u64) {
        if let Err(error) = self.registry.expire_claims().await {
            tracing::warn!(error = %error, "claims that are over cannot be removed");
        }
        if let Err(error) = self.registry.finish_renewals().await {
            tracing::warn!(error = %error, "renewed certificates cannot be switched off");
        }
        if !turn.is_multiple_of(TURNS_PER_LOOK) {
            return;
        }
        match self.registry.warn_of_expiry(|expiring| self.warn(expiring)).await {
            Ok(count) => self.metrics.certificates_expiring.set(count),
            Err(error) => {
                tracing::warn!(error = %error, "certificates that end soon cannot be looked for");
            }
        }
    }

    fn warn(&self, expiring: &Expiring) {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Event<'a> {
            event_type: &'static str,
            timestamp: u64,
            certificate_id: &'a str,
            kind: &'static str,
            /// Milliseconds since the Unix epoch.
            not_after: u64,
            days_left: u64,
            things: Vec<&'a str>,
        }
        let now = self.clock.wall();
        let Expiring { id, kind, not_after, things } = expiring;
        let (kind, days_left) = (kind.as_str(), expiring.days_left(now));
        let first = things.first().map(tracing::field::display);
        tracing::warn!(principal = %id, kind, days_left, thing = first, "certificate ends soon");
        self.metrics.certificate_warnings.increment();
        let topic = TopicName::parse(&format!("$gnomon/events/certificates/{id}/expiring"));
        let topic = topic.expect("an id is hexadecimal digits");
        let message = || {
            let event = Event {
                event_type: "CERTIFICATE_EXPIRING",
                timestamp: now.as_millis(),
                certificate_id: id.as_str(),
                kind,
                not_after: not_after.as_millis(),
                days_left,
                things: things.iter().map(ThingName::as_str).collect(),
            };
            let payload = serde_json::to_vec(&event).expect("texts and numbers serialize");
            let message = Message::new(topic.clone(), payload, self.publisher.clone(), now);
            Message { qos: QoS::AtLeastOnce, ..message }
        };
        self.broker.publish_if_heard(&topic, message, &mut Wakes::default());
    }
}
