//! `rules`: messages per CPU second among many rules of which one matches each.
//!
//! In: how long. Out: a table: what a message costs must follow the rules that match, not those that
//! there are. Beside each case a hand-written filter behind the same index, that publishes what
//! passes as the rule's `republish` does.
//! In this process, from the broker on, on one thread.

use crate::cpu::Rate;
use crate::table::{Cell, Table};
use crate::{Result, progress};
use bytes::Bytes;
use gnomon_core::actions::definition::Target;
use gnomon_core::actions::{Action, Actions};
use gnomon_core::broker::{Broker, Delivery, Inbox, Wakes};
use gnomon_core::ids::RuleName;
use gnomon_core::limits::Limits;
use gnomon_core::message::Message;
use gnomon_core::packet::SubscribeOptions;
use gnomon_core::random::SeededRandom;
use gnomon_core::rules::functions::NoFunctions;
use gnomon_core::rules::{Engine, Ports, RuleDefinition};
use gnomon_core::storage::MemoryStore;
use gnomon_core::time::{SystemClock, Timestamp};
use gnomon_core::topic::{TopicFilter, TopicName};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Rules that there are.
const COUNTS: [u32; 3] = [1, 100, 10_000];

/// Messages between two looks at the clock.
const BATCH: u32 = 256;

/// Takes turns, so that a change of the machine's speed meets both sides.
const TURNS: u32 = 4;

/// Measures all cases.
pub fn measure(measured: Duration) -> Result<Table> {
    let mut table = Table::new(
        "Rules: messages per CPU second through one matching rule and its republish",
        &["rules", "rule", "native", "rule/native", "rule, ns"],
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for count in COUNTS {
        progress(&format!("rules: one of {count} matches"));
        let by_rules = Broker::in_memory();
        let _engine = runtime.block_on(rules(&by_rules, count))?;
        let by_hand = Broker::in_memory();
        let receivers: Vec<_> = (0..count)
            .map(|number| {
                let receiver = by_hand.register(Arc::new(Filter(by_hand.clone())));
                let filter = TopicFilter::parse(&from(number))?;
                receiver.subscribe(&filter, SubscribeOptions::default(), None);
                Result::Ok(receiver)
            })
            .collect::<Result<_>>()?;
        let (rule_counter, native_counter) = (count_hot(&by_rules)?, count_hot(&by_hand)?);
        let messages =
            (0..BATCH).map(|number| message(number % count)).collect::<Result<Vec<_>>>()?;
        let [mut rule, mut native] = [Rate::default(); 2];
        for _ in 0..TURNS {
            rule.run(measured / TURNS, || publish(&by_rules, &messages))?;
            native.run(measured / TURNS, || publish(&by_hand, &messages))?;
        }
        for (counter, rate) in [(&rule_counter, &rule), (&native_counter, &native)] {
            let passed = counter.0.load(Ordering::Relaxed);
            if passed != rate.runs() {
                return Err(format!("{passed} of {} messages passed", rate.runs()).into());
            }
        }
        table.row([
            Cell::Count(count.into()),
            Cell::Number(rule.per_second()),
            Cell::Number(native.per_second()),
            Cell::Number(rule.per_second() / native.per_second()),
            Cell::Number(rule.nanos()),
        ]);
        drop(receivers);
    }
    table.note("Payloads have 64 bytes; every message passes, and is published again and counted.");
    Ok(table)
}

fn from(number: u32) -> String {
    format!("site/{number}/+/temp")
}

async fn rules(broker: &Broker, count: u32) -> Result<Engine> {
    let ports = Ports {
        storage: Arc::new(MemoryStore::default()),
        broker: broker.clone(),
        actions: Arc::new(NoActions),
        clock: Arc::new(SystemClock),
        random: Arc::new(SeededRandom::new(1)),
        functions: Arc::new(NoFunctions),
        account: "123456789012".into(),
        metrics: Arc::default(),
        limits: Arc::new(Limits { rules: count, ..Limits::default() }),
    };
    let engine = Engine::start(ports, &HashMap::new()).await?;
    for number in 0..count {
        let definition = RuleDefinition {
            sql: format!("SELECT * FROM '{}' WHERE temp > 30", from(number)),
            actions: vec![serde_json::json!({ "republish": { "topic": "hot" } })],
            ..RuleDefinition::default()
        };
        engine.create(RuleName::parse(&format!("rule{number}"))?, definition).await?;
    }
    Ok(engine)
}

struct NoActions;

impl Actions for NoActions {
    fn find(&self, _: &Target) -> Option<Arc<dyn Action>> {
        None
    }
}

/// What a programmer would have written instead of a rule.
struct Filter(Broker);

impl Inbox for Filter {
    fn deliver(&self, delivery: Delivery, wakes: &mut Wakes) {
        #[derive(Deserialize)]
        struct Reading {
            temp: f64,
        }
        let message = &delivery.message;
        let is_hot = serde_json::from_slice(&message.payload)
            .is_ok_and(|reading: Reading| reading.temp > 30.0);
        if is_hot && let Ok(topic) = TopicName::parse("hot") {
            let message = Message { topic, ..Message::clone(message) };
            self.0.publish(&Arc::new(message), wakes);
        }
    }
}

/// Counts what passed.
#[derive(Default)]
struct Counter(AtomicU64);

impl Inbox for Counter {
    fn deliver(&self, _: Delivery, _: &mut Wakes) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn count_hot(broker: &Broker) -> Result<Arc<Counter>> {
    let counter = Arc::new(Counter::default());
    let receiver = broker.register(counter.clone());
    receiver.subscribe(&TopicFilter::parse("hot")?, SubscribeOptions::default(), None);
    // For the life of the benchmark.
    std::mem::forget(receiver);
    Ok(counter)
}

fn message(number: u32) -> Result<Arc<Message>> {
    let topic = TopicName::parse(&format!("site/{number}/device/temp"))?;
    let payload =
        Bytes::from_static(br#"{"device":"sensor-1","note":"xxxxxxxxxx","temp":31,"unit":"C"}  "#);
    Ok(Arc::new(Message::new(topic, payload, Arc::default(), Timestamp::from_millis(0))))
}

fn publish(broker: &Broker, messages: &[Arc<Message>]) -> Result<u32> {
    let mut wakes = Wakes::default();
    for message in messages {
        broker.publish(message, &mut wakes);
    }
    Ok(BATCH)
}
