//! The index over a store that fails, over restarts, and behind changes that it missed.

use super::connectivity::CONNECTION_LOST;
use super::*;
use crate::broker::Opened;
use crate::broker::clients::{Client, Opening};
use crate::broker::queue::QueueBounds;
use crate::ids::ClientId;
use crate::packet::Reason;
use crate::random::SeededRandom;
use crate::registry::tests::registry_on;
use crate::registry::{Attributes, ThingGroupProperties};
use crate::session::Left;
use crate::storage::{FaultyStore, MemoryDisk, MemoryJournal, MemoryStore};
use crate::time::{ManualClock, Now};
use std::time::Duration;

/// A host around the store: its registry and clients, and its index, which may get another store.
struct Bed {
    registry: Registry,
    clients: Clients,
    clock: Arc<ManualClock>,
    fleet: Arc<Fleet>,
}

impl Bed {
    async fn on(store: &Arc<MemoryStore>) -> Self {
        Self::indexing(store, store.clone()).await
    }

    async fn indexing(store: &Arc<MemoryStore>, indexed: Arc<dyn Storage>) -> Self {
        let (registry, clock) = registry_on(store.clone());
        let journal = Box::new(MemoryJournal::open(&MemoryDisk::default()));
        let metrics = Arc::<Metrics>::default();
        let opened = Broker::open(journal, &crate::limits::Limits::default(), metrics.clone());
        let Opened { broker, committer, .. } = opened.unwrap();
        std::thread::spawn(|| committer.run());
        let bounds = QueueBounds { messages_max: 10, bytes_max: 1_024 };
        let clients = Clients::new(broker.clone(), bounds, 10, metrics.clone());
        let random = Arc::new(SeededRandom::new(1));
        let events = Events::start(&registry, broker.clone(), clock.clone(), random).await;
        let fleet = Fleet::start(Ports {
            storage: indexed.clone(),
            registry: registry_on(indexed).0,
            broker,
            clients: clients.clone(),
            events: events.unwrap(),
            clock: clock.clone(),
            metrics,
        });
        Self { registry, clients, clock, fleet: fleet.await.unwrap() }
    }

    async fn index_all(&self) {
        let things = ThingIndexing { registry: true, connectivity: true, ..Default::default() };
        self.fleet.configure(Some(&things), None).await.unwrap();
        self.until_active().await;
    }

    async fn until_active(&self) {
        until(async || self.fleet.status(IndexName::Things) == Some(IndexStatus::Active)).await;
    }

    async fn thing(&self, name: &str) {
        let name = ThingName::parse(name).unwrap();
        self.registry.create_thing(&name, None, Attributes::default()).await.unwrap();
    }

    async fn found(&self, query: &str) -> Vec<String> {
        let query = Query::parse(query).unwrap();
        self.fleet.search(IndexName::Things, query, None, 100).await.unwrap().items
    }

    async fn finds(&self, query: &str, expected: &[&str]) {
        until(async || self.found(query).await == expected).await;
    }

    async fn connect(&self, name: &str) -> Client {
        let opening = Opening {
            client_id: &ClientId::parse(name).unwrap(),
            principal: None,
            predecessor: None,
            ip: [127, 0, 0, 1].into(),
            session_identifier: 1,
            clean_start: true,
            session_expiry_s: 0,
            will: None,
        };
        self.clients.open(&opening, Now::of(&*self.clock)).await.unwrap().0
    }
}

async fn until(is_so: impl AsyncFn() -> bool) {
    for _ in 0..10_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it does not become so");
}

#[tokio::test]
async fn a_host_that_starts_anew_knows_since_when_a_thing_is_away() {
    let store = Arc::<MemoryStore>::default();
    let bed = Bed::on(&store).await;
    bed.thing("left").await;
    bed.thing("lost").await;
    bed.index_all().await;
    let left = bed.connect("left").await;
    let lost = bed.connect("lost").await;
    bed.finds("connectivity.connected:true", &["left", "lost"]).await;
    let left_at = bed.clock.wall().as_millis();
    left.close(Now::of(&*bed.clock), Some(Reason::Success), Left::default());
    // Stopped before it was asked again: what was seen is written.
    bed.fleet.shutdown().await;
    // As after a crash: nobody told it.
    std::mem::forget(lost);
    drop(bed);
    let bed = Bed::on(&store).await;
    bed.clock.advance(Duration::from_secs(5));
    bed.until_active().await;
    let of = async |name: &str| bed.fleet.connectivity(&ThingName::parse(name).unwrap()).await;
    let known = of("left").await.unwrap();
    assert_eq!(known.since_ms, Some(left_at));
    assert_eq!(known.disconnect_reason.as_deref(), Some("CLIENT_INITIATED_DISCONNECT"));
    let known = of("lost").await.unwrap();
    assert_eq!(known.disconnect_reason.as_deref(), Some(CONNECTION_LOST));
    bed.finds("connectivity.connected:false", &["left", "lost"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_delays_the_index_and_loses_nothing() {
    let store = Arc::<MemoryStore>::default();
    let random = Arc::new(SeededRandom::new(3));
    let faulty = Arc::new(FaultyStore::at_random(store.clone(), random, 40));
    let bed = loop {
        // Its configuration may not be readable at the first attempt.
        let indexing = ThingIndexing { registry: true, connectivity: true, ..Default::default() };
        let (registry, _) = registry_on(store.clone());
        registry.update_indexing_configuration(Some(&indexing), None).await.unwrap();
        if faulty.get(&Key::new("any", &["key"])).await.is_ok() {
            break Bed::indexing(&store, faulty.clone()).await;
        }
    };
    bed.until_active().await;
    let names: Vec<String> = (0..50).map(|n| format!("thing-{n:02}")).collect();
    for name in &names {
        bed.thing(name).await;
    }
    let client = bed.connect("thing-07").await;
    let expected: Vec<&str> = names.iter().map(String::as_str).collect();
    bed.finds("*", &expected).await;
    bed.finds("connectivity.connected:true", &["thing-07"]).await;
    client.close(Now::of(&*bed.clock), None, Left::default());
    bed.finds("connectivity.connected:true", &[]).await;
}

#[tokio::test]
async fn who_misses_changes_looks_at_everything() {
    let store = Arc::<MemoryStore>::default();
    let bed = Bed::on(&store).await;
    bed.thing("gone").await;
    bed.thing("stays").await;
    bed.index_all().await;
    assert_eq!(bed.found("*").await, ["gone", "stays"]);
    // More changes at once than are kept for a watcher: this test's only thread does not let it read.
    let gone = ThingName::parse("gone").unwrap();
    bed.registry.delete_thing(&gone, None).await.unwrap();
    for n in 0..3_000 {
        let key = Key::new("any", &[&n.to_string()]);
        store.put(&key, "x".into(), crate::storage::Expect::Any).await.unwrap();
    }
    bed.finds("*", &["stays"]).await;
    bed.until_active().await;
}

#[tokio::test]
async fn more_names_than_are_kept_are_all_looked_at() {
    let changes = Changes::default();
    changes.thing(ThingName::parse("early").unwrap());
    assert_eq!(changes.take(), None, "nothing is indexed");
    changes.keep(true);
    for n in 0..100_001 {
        changes.thing(ThingName::parse(&n.to_string()).unwrap());
    }
    assert_eq!(changes.take(), Some(changes::Task::Everything));
    assert_eq!(changes.take(), None);
    changes.thing(ThingName::parse("late").unwrap());
    changes.group(ThingGroupName::parse("late").unwrap());
    let names = changes::Task::Names {
        things: vec![ThingName::parse("late").unwrap()],
        groups: vec![ThingGroupName::parse("late").unwrap()],
    };
    assert_eq!(changes.take(), Some(names));
}

#[tokio::test]
async fn a_dynamic_group_lives_as_long_as_its_record() {
    let store = Arc::<MemoryStore>::default();
    let bed = Bed::on(&store).await;
    bed.index_all().await;
    bed.thing("lamp").await;
    let (group, lamp) = (ThingGroupName::parse("all").unwrap(), ThingName::parse("lamp").unwrap());
    let properties = ThingGroupProperties::default();
    bed.registry.create_dynamic_thing_group(&group, "*", properties).await.unwrap();
    until(async || bed.fleet.groups_of(&lamp) == [group.clone()]).await;
    bed.fleet.shutdown().await;
    let bed = Bed::on(&store).await;
    bed.until_active().await;
    assert_eq!(bed.fleet.groups_of(&lamp), std::slice::from_ref(&group));
    bed.registry.delete_dynamic_thing_group(&group, None).await.unwrap();
    until(async || bed.fleet.groups_of(&lamp).is_empty()).await;
}
