//! A rule at work: its subscription, its queue, and the task that evaluates one message after
//! the other.
//!
//! In: deliveries of the broker. Out: [`Dispatcher::dispatch`] of what passes WHERE.
//! The task and not the publisher evaluates, so that a rule never slows a connection down.

use super::sql::{self, Statement};
use super::{Counters, Ports, QUEUE_MESSAGES_MAX};
use crate::actions::dispatch::Dispatcher;
use crate::actions::throttle::Throttle;
use crate::broker::{Delivery, Inbox, Receiver, Wakes};
use crate::ids::RuleName;
use crate::message::{Message, QoS};
use crate::packet::SubscribeOptions;
use crate::topic::TopicFilter;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Messages that the task takes from its queue at once.
const BATCH_MESSAGES_MAX: usize = 64;

/// A running rule. Dropping it ends the subscription; what waits is still evaluated.
pub(super) struct Running {
    _receiver: Option<Receiver>,
    /// Its end is the signal: a publisher may hold the inbox, and the queue with it, for longer.
    _stop: oneshot::Sender<()>,
}

impl Running {
    /// Subscribes the statement's filter and starts the task. A statement without FROM waits for
    /// nothing: it runs when a rule can be called by name (Basic Ingest, to come).
    pub fn start(
        name: &RuleName,
        statement: Statement,
        dispatcher: Dispatcher,
        counters: Arc<Counters>,
        ports: &Ports,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let (queue, messages) = mpsc::channel(QUEUE_MESSAGES_MAX);
        let (stop, stopped) = oneshot::channel();
        let receiver = statement.filter().map(|filter| {
            let inbox = RuleInbox {
                rule: name.clone(),
                levels_min: levels_min(filter),
                queue,
                counters: counters.clone(),
                ports: ports.clone(),
                throttle: Throttle::default(),
            };
            let receiver = ports.broker.register(Arc::new(inbox));
            let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
            receiver.subscribe(filter, options, None);
            receiver
        });
        let worker = Worker {
            rule: name.clone(),
            statement,
            dispatcher,
            counters,
            ports: ports.clone(),
            throttle: Throttle::default(),
        };
        tasks.spawn(worker.run(messages, stopped));
        Self { _receiver: receiver, _stop: stop }
    }
}

struct RuleInbox {
    rule: RuleName,
    levels_min: usize,
    queue: mpsc::Sender<Arc<Message>>,
    counters: Arc<Counters>,
    ports: Ports,
    throttle: Throttle,
}

/// In Rules SQL `a/#` does not match `a`, unlike in MQTT: `#` stands for at least one level.
fn levels_min(filter: &TopicFilter) -> usize {
    if filter.pattern().ends_with("/#") { filter.levels().count() } else { 0 }
}

impl Inbox for RuleInbox {
    fn deliver(&self, delivery: Delivery, _: &mut Wakes) {
        let message = delivery.message;
        if self.levels_min > 0 && message.topic.levels().count() < self.levels_min {
            return;
        }
        self.counters.matched.increment();
        self.ports.metrics.rules_matched.increment();
        let (message, reason) = match self.queue.try_send(message) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(message)) => (message, "the queue is full"),
            // A publisher may hold a route for a moment longer than the rule lives.
            Err(mpsc::error::TrySendError::Closed(message)) => (message, "the rule is stopped"),
        };
        self.counters.dropped.increment();
        self.ports.metrics.rules_dropped.increment();
        if let Some(suppressed) = self.throttle.allow(&*self.ports.clock) {
            let (rule, topic) = (&self.rule, &message.topic);
            tracing::warn!(%rule, %topic, error = reason, suppressed, "rule dropped a message");
        }
    }
}

struct Worker {
    rule: RuleName,
    statement: Statement,
    dispatcher: Dispatcher,
    counters: Arc<Counters>,
    ports: Ports,
    throttle: Throttle,
}

impl Worker {
    /// Until the rule is stopped and its queue is empty; then the actions' queues run empty too.
    async fn run(
        self,
        mut messages: mpsc::Receiver<Arc<Message>>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased; // Stop must win over a busy queue.
                // Cancel-safe: nothing is sent, the end of the sender is the message.
                _ = &mut stopped, if !messages.is_closed() => messages.close(),
                // Cancel-safe: a message is taken or stays.
                taken = messages.recv_many(&mut batch, BATCH_MESSAGES_MAX) => {
                    if taken == 0 {
                        return;
                    }
                    batch.drain(..).for_each(|message| self.take(&message));
                }
            }
        }
    }

    fn take(&self, message: &Arc<Message>) {
        let Ports { clock, random, metrics, .. } = &self.ports;
        let input = sql::Input {
            message,
            now: clock.wall(),
            random: &**random,
            account: "",
            answers: &sql::Answers::NONE,
        };
        match sql::evaluate(&self.statement, &input) {
            Ok(None) => {}
            Ok(Some(result)) => {
                self.counters.passed.increment();
                metrics.rules_passed.increment();
                self.dispatcher.dispatch(message, result);
            }
            Err(error) => {
                self.counters.failed.increment();
                metrics.rules_failed.increment();
                if let Some(suppressed) = self.throttle.allow(&**clock) {
                    let (rule, topic) = (&self.rule, &message.topic);
                    tracing::warn!(%rule, %topic, %error, suppressed, "rule evaluation failed");
                }
                self.dispatcher.report(message, &error.to_string());
            }
        }
    }
}
