//! `matching`: finding the receivers of a topic among up to 100,000 wildcard subscriptions, of some
//! depth and with some matches, and what a filter matches among 100,000 retained messages.
//!
//! In: how long. Out: two tables. In this process, without sockets: the index alone is measured.

use crate::cpu::Rate;
use crate::table::{Cell, Table};
use crate::{Result, progress};
use gnomon_core::broker::clients::{Client, Clients, Opening};
use gnomon_core::broker::queue::QueueBounds;
use gnomon_core::broker::{Broker, Delivery, Inbox, Wakes};
use gnomon_core::ids::ClientId;
use gnomon_core::message::Message;
use gnomon_core::packet::SubscribeOptions;
use gnomon_core::time::{Now, SystemClock, Timestamp};
use gnomon_core::topic::{TopicFilter, TopicName};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Subscriptions at most, and retained messages.
const COUNT: u32 = 100_000;

/// Topics that are published to in turn.
const TOPICS: u32 = 1_000;

/// Sites that the retained messages' devices are at.
const SITES: u32 = 100;

/// Retained messages taken with one call.
const PAGE: usize = 256;

const BOUNDS: QueueBounds = QueueBounds { messages_max: 1_000, bytes_max: 1_000_000 };

/// Measures the index of subscriptions and the retained messages.
pub fn measure(measured: Duration) -> Result<Vec<Table>> {
    Ok(vec![measure_subscriptions(measured)?, measure_retained(measured)?])
}

/// Counts what it gets.
#[derive(Default)]
struct Counter(AtomicU64);

impl Inbox for Counter {
    fn deliver(&self, _delivery: Delivery, _wakes: &mut Wakes) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Subscriptions, and the topics that are published to among them.
struct Case {
    subscriptions: u32,
    /// With NUMBER in it.
    filter: &'static str,
    topic: &'static str,
    /// How many subscriptions have the same number, each of another receiver.
    matches: u32,
}

impl Case {
    /// The one that the others differ from.
    const USUAL: Self =
        Self { subscriptions: COUNT, filter: "s/NUMBER/+", topic: "s/NUMBER/t", matches: 1 };

    fn all() -> [Self; 10] {
        let filter = |filter| Self { filter, ..Self::USUAL };
        let deep = |filter, topic| Self { filter, topic, ..Self::USUAL };
        let matches = |matches| Self { matches, ..Self::USUAL };
        [
            Self { subscriptions: COUNT / 100, ..Self::USUAL },
            Self { subscriptions: COUNT / 10, ..Self::USUAL },
            Self::USUAL,
            filter("s/NUMBER/#"),
            filter("+/NUMBER/t"),
            deep("s/NUMBER/+/a/b", "s/NUMBER/t/a/b"),
            deep("s/NUMBER/+/a/b/c/d/e", "s/NUMBER/t/a/b/c/d/e"),
            matches(10),
            matches(100),
            matches(1_000),
        ]
    }
}

fn measure_subscriptions(measured: Duration) -> Result<Table> {
    let mut table = Table::new(
        "Matching: a topic among wildcard subscriptions",
        &["filters", "subscriptions", "receivers each", "publications per CPU s", "CPU ns each"],
    );
    for case in Case::all() {
        progress(&format!("matching: {} of {}", case.subscriptions, case.filter));
        let (broker, counter) = (Broker::in_memory(), Arc::new(Counter::default()));
        let mut receivers = Vec::new();
        for number in 0..case.subscriptions {
            let number = (number / case.matches).to_string();
            let filter = TopicFilter::parse(&case.filter.replace("NUMBER", &number))?;
            let receiver = broker.register(counter.clone());
            receiver.subscribe(&filter, SubscribeOptions::default(), None);
            receivers.push(receiver);
        }
        let numbers = case.subscriptions / case.matches;
        let topics = TOPICS.min(numbers);
        let messages = (0..topics).map(|topic| {
            let number = topic * (numbers / topics);
            message(&case.topic.replace("NUMBER", &number.to_string()))
        });
        let messages: Vec<_> = messages.collect::<Result<_>>()?;
        let (mut rate, mut wakes, mut published) = (Rate::default(), Wakes::default(), 0_u64);
        rate.run(measured, || {
            for message in &messages {
                broker.publish(message, &mut wakes);
            }
            published += u64::from(topics);
            Ok(topics)
        })?;
        let received = counter.0.load(Ordering::Relaxed);
        table.row([
            case.filter.into(),
            Cell::Count(case.subscriptions.into()),
            Cell::Number(received as f64 / published as f64),
            Cell::Number(rate.per_second()),
            Cell::Number(rate.nanos()),
        ]);
    }
    table.note("Without the cache of a publisher that stays on its topic; delivery included.");
    Ok(table)
}

fn message(topic: &str) -> Result<Arc<Message>> {
    let topic = TopicName::parse(topic)?;
    Ok(Arc::new(Message::new(topic, "21.5", Arc::default(), Timestamp::default())))
}

fn measure_retained(measured: Duration) -> Result<Table> {
    let mut table = Table::new(
        format!("Matching: a filter among {COUNT} retained messages"),
        &["filter", "matches", "CPU us per SUBSCRIBE", "CPU ns per match"],
    );
    let broker = Broker::in_memory();
    for number in 0..COUNT {
        let site = number % SITES;
        let message = message(&format!("site/{site}/device/{number}/state"))?;
        let message = Message { retain: true, ..Message::clone(&message) };
        broker.publish(&Arc::new(message), &mut Wakes::default());
    }
    let kept = broker.retained_sizes().0;
    if kept != COUNT as usize {
        return Err(format!("{kept} of {COUNT} messages were retained").into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let clients = Clients::new(broker, BOUNDS, 1, Arc::default());
    let mut client = runtime.block_on(open(&clients))?;
    for filter in ["site/7/device/7/state", "site/+/device/7/state", "site/7/#", "#"] {
        progress(&format!("matching: retained {filter}"));
        let parsed = TopicFilter::parse(filter)?;
        let (mut rate, mut matches) = (Rate::default(), 0);
        rate.run(measured, || {
            matches = subscribe(&mut client, &parsed);
            Ok(1)
        })?;
        let each = (matches > 0).then(|| rate.nanos() / matches as f64);
        table.row([
            filter.into(),
            Cell::Count(matches as u64),
            Cell::Number(rate.nanos() / 1e3),
            each.into(),
        ]);
    }
    table.note(format!("Topics: site/SITE/device/NUMBER/state, {SITES} sites."));
    Ok(table)
}

async fn open(clients: &Clients) -> Result<Client> {
    let opening = Opening {
        client_id: &ClientId::parse("bench")?,
        principal: None,
        predecessor: None,
        thing: None,
        ip: Ipv4Addr::LOCALHOST.into(),
        session_identifier: 1,
        clean_start: true,
        session_expiry_s: 0,
        will: None,
    };
    Ok(clients.open(&opening, Now::of(&SystemClock)).await?.0)
}

/// Subscribes, takes all retained messages and unsubscribes; returns how many they were.
fn subscribe(client: &mut Client, filter: &TopicFilter) -> usize {
    let wanted = Ok((filter.clone(), SubscribeOptions::default()));
    client.subscribe(&[wanted], None, Timestamp::default());
    let mut taken = 0;
    while client.has_retained() {
        taken += client.next_retained(PAGE).map_or(0, |page| page.len());
    }
    client.unsubscribe(std::slice::from_ref(filter), Timestamp::default());
    taken
}
