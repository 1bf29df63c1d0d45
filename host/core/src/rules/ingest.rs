//! Basic Ingest to rules that are not there: counted and told, because the publisher is not.
//!
//! A rule that runs subscribes its own topics (`$aws/rules/NAME/…`); this one takes them all and
//! looks whether anybody else does.

use super::Shared;
use super::runner::BASIC_INGEST;
use crate::actions::throttle::Throttle;
use crate::broker::{Delivery, Inbox, Receiver, Wakes};
use crate::ids::RuleName;
use crate::packet::SubscribeOptions;
use crate::topic::TopicFilter;
use std::sync::{Arc, Weak};

struct Lost {
    engine: Weak<Shared>,
    throttle: Throttle,
}

/// Subscribes the topics of Basic Ingest.
pub(super) fn listen(engine: &Arc<Shared>) -> Option<Receiver> {
    let filter = TopicFilter::parse(&format!("{BASIC_INGEST}#")).ok()?;
    let inbox = Lost { engine: Arc::downgrade(engine), throttle: Throttle::default() };
    let receiver = engine.ports.broker.register(Arc::new(inbox));
    receiver.subscribe(&filter, SubscribeOptions::default(), None);
    Some(receiver)
}

impl Inbox for Lost {
    fn deliver(&self, delivery: Delivery, _: &mut Wakes) {
        let Some(engine) = self.engine.upgrade() else { return };
        let topic = &delivery.message.topic;
        let Some(name) = topic.levels().nth(2) else { return };
        let is_there = RuleName::parse(name).is_ok_and(|name| {
            engine.rules().get(&name).is_some_and(|entry| entry.subscriptions.is_some())
        });
        if is_there {
            return;
        }
        engine.ports.metrics.rules_not_found.increment();
        if let Some(suppressed) = self.throttle.allow(&*engine.ports.clock) {
            // The field's name is AWS's event type in its logs.
            tracing::warn!(%topic, suppressed, "RuleNotFound: no such rule, or it is disabled");
        }
    }

    /// So that nobody else's subscription is looked at (`Broker::route`).
    fn keeps(&self) -> bool {
        true
    }
}
