//! What the host tells about itself on `$SYS` topics.
//!
//! In: counters and sizes. Out: QoS 0 messages, not retained, made only if somebody listens; a
//! filter that begins with a wildcard does not match them [MQTT-4.7.2-1], and policies decide who
//! may subscribe. `$SYS/broker/…` has the names that monitoring of other brokers knows,
//! `$SYS/gnomon/…` every counter of [`Metrics`].

use super::clients::Clients;
use super::{Broker, Wakes};
use crate::message::{Message, Publisher};
use crate::metrics::Metrics;
use crate::time::Now;
use crate::topic::TopicName;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often [`Figures::publish`] is to be called.
pub const FIGURES_INTERVAL: Duration = Duration::from_secs(10);

/// Publishes figures.
pub struct Figures {
    broker: Broker,
    clients: Clients,
    metrics: Arc<Metrics>,
    version: &'static str,
    started_at: Instant,
    publisher: Arc<Publisher>,
}

impl Figures {
    /// Of a host of this version that starts now.
    pub fn new(
        broker: Broker,
        clients: Clients,
        metrics: Arc<Metrics>,
        version: &'static str,
        now: Now,
    ) -> Self {
        let publisher = Arc::new(Publisher { client_id: None, principal: None });
        Self { broker, clients, metrics, version, started_at: now.instant, publisher }
    }

    /// Publishes all of them.
    pub fn publish(&self, now: Now) {
        let uptime = now.instant.saturating_duration_since(self.started_at).as_secs();
        let (retained, retained_bytes) = self.broker.retained_sizes();
        let metrics = &self.metrics;
        let broker = [
            ("version", format!("gnomon {}", self.version)),
            ("uptime", format!("{uptime} seconds")),
            ("clients/connected", self.clients.connected().to_string()),
            ("publish/messages/received", metrics.messages_received.get().to_string()),
            ("publish/messages/sent", metrics.messages_sent.get().to_string()),
            ("publish/messages/dropped", metrics.messages_dropped.get().to_string()),
            ("retained messages/count", retained.to_string()),
            ("retained messages/bytes", retained_bytes.to_string()),
        ];
        let mut wakes = Wakes::default();
        for (name, value) in broker {
            self.tell(now, &format!("$SYS/broker/{name}"), value, &mut wakes);
        }
        metrics.visit(|name, _, value| {
            self.tell(now, &format!("$SYS/gnomon/{name}"), value.to_string(), &mut wakes);
        });
    }

    fn tell(&self, now: Now, topic: &str, value: String, wakes: &mut Wakes) {
        let topic = TopicName::parse(topic).expect("names of figures have no wildcards");
        let message = || Message::new(topic.clone(), value, self.publisher.clone(), now.wall);
        self.broker.publish_if_heard(&topic, message, wakes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::queue::QueueBounds;
    use crate::broker::{Delivery, Inbox};
    use crate::packet::SubscribeOptions;
    use crate::time::{ManualClock, Timestamp};
    use crate::topic::TopicFilter;
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Seen(Mutex<BTreeMap<String, String>>);

    impl Inbox for Seen {
        fn deliver(&self, delivery: Delivery, _: &mut Wakes) {
            let Message { topic, payload, .. } = &*delivery.message;
            let payload = String::from_utf8(payload.to_vec()).unwrap();
            self.0.lock().unwrap().insert(topic.to_string(), payload);
        }
    }

    #[test]
    fn figures_are_for_those_who_ask_for_them() {
        let clock = ManualClock::new(Timestamp::from_millis(0));
        let (broker, metrics) = (Broker::in_memory(), Arc::new(Metrics::default()));
        let bounds = QueueBounds { messages_max: 1, bytes_max: 1 };
        let clients = Clients::new(broker.clone(), bounds, 1, metrics.clone());
        let start = Now::of(&clock);
        let figures = Figures::new(broker.clone(), clients, metrics.clone(), "1.2.3", start);
        let (all, sys) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
        let receivers = [("#", &all), ("$SYS/#", &sys)].map(|(filter, seen)| {
            let receiver = broker.register(seen.clone());
            let filter = TopicFilter::parse(filter).unwrap();
            receiver.subscribe(&filter, SubscribeOptions::default(), None);
            receiver
        });
        metrics.messages_sent.add(7);
        clock.advance(Duration::from_secs(90));
        figures.publish(Now::of(&clock));
        assert!(all.0.lock().unwrap().is_empty());
        let seen = sys.0.lock().unwrap();
        for (topic, expected) in [
            ("$SYS/broker/version", "gnomon 1.2.3"),
            ("$SYS/broker/uptime", "90 seconds"),
            ("$SYS/broker/clients/connected", "0"),
            ("$SYS/broker/publish/messages/sent", "7"),
            ("$SYS/gnomon/messages_sent", "7"),
            ("$SYS/gnomon/log_commits", "0"),
        ] {
            assert_eq!(seen.get(topic).map(String::as_str), Some(expected), "{topic}");
        }
        drop(receivers);
    }
}
