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
use crate::storage::{
    Expect, FaultyStore, MemoryDisk, MemoryJournal, MemoryStore, Record, Revision, Watch,
};
use crate::time::{ManualClock, Now};
use bytes::Bytes;
use std::time::Duration;

/// A host around the store: its registry and clients, and its index, which may get another store.
struct Bed {
    registry: Registry,
    clients: Clients,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
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
        let events = events.unwrap();
        // Its configuration may not be readable at the first attempt.
        let fleet = loop {
            let fleet = Fleet::start(Ports {
                storage: indexed.clone(),
                registry: registry_on(indexed.clone()).0,
                broker: broker.clone(),
                clients: clients.clone(),
                events: events.clone(),
                clock: clock.clone(),
                metrics: metrics.clone(),
            });
            if let Ok(fleet) = fleet.await {
                break fleet;
            }
        };
        Self { registry, clients, clock, metrics, fleet }
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
            thing: None,
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
    let bed = Bed::on(&store).await;
    bed.index_all().await;
    bed.fleet.shutdown().await;
    let bed = Bed::indexing(&store, faulty).await;
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
    let updates = bed.metrics.index_updates.get();
    // More changes at once than are kept for a watcher: this test's only thread does not let it read.
    let gone = ThingName::parse("gone").unwrap();
    bed.registry.delete_thing(&gone, None).await.unwrap();
    for n in 0..3_000 {
        let key = Key::new("any", &[&n.to_string()]);
        store.put(&key, "x".into(), Expect::Any).await.unwrap();
    }
    bed.finds("*", &["stays"]).await;
    bed.until_active().await;
    // The thing that stays was looked at too: the changes were missed.
    assert_eq!(bed.metrics.index_updates.get() - updates, 2);
}

#[tokio::test]
async fn what_changes_while_all_is_looked_at_does_not_keep_it_from_ending() {
    let store = Arc::<MemoryStore>::default();
    let bed = Bed::on(&store).await;
    for n in 0..1_000 {
        bed.thing(&format!("thing-{n:04}")).await;
    }
    bed.index_all().await;
    // Everything is to be looked at again, and again, before a look has ended.
    for _ in 0..20 {
        bed.fleet.shared.changes.look_at_everything();
        bed.thing("thing-0001").await;
        tokio::task::yield_now().await;
        assert_ne!(bed.fleet.status(IndexName::Things), Some(IndexStatus::Building));
    }
    bed.thing("thing-new").await;
    bed.finds("thingName:thing-new", &["thing-new"]).await;
    bed.until_active().await;
    assert_eq!(bed.found("*").await.len(), 100, "a page");
}

#[tokio::test]
async fn a_record_that_makes_no_sense_is_left_out() {
    let store = Arc::<MemoryStore>::default();
    let bed = Bed::on(&store).await;
    for name in ["a", "b", "c"] {
        bed.thing(name).await;
    }
    let damaged = async |key: Key| {
        store.put(&key, "damaged".into(), Expect::Any).await.unwrap();
    };
    damaged(Key::new("thing", &["b"])).await;
    damaged(Key::new("thing-group", &["g"])).await;
    damaged(Key::new("shadow", &["c", ""])).await;
    damaged(Key::new("connectivity", &["c"])).await;
    damaged(Key::new("connectivity", &["b"])).await;
    let child = ThingGroupName::parse("child").unwrap();
    let parent = ThingGroupName::parse("parent").unwrap();
    for (name, above) in [(&parent, None), (&child, Some(parent.clone()))] {
        let properties = ThingGroupProperties::default();
        bed.registry.create_thing_group(name, above, properties).await.unwrap();
    }
    damaged(Key::new("thing-group", &["parent"])).await;
    let things =
        ThingIndexing { registry: true, shadow: true, connectivity: true, ..Default::default() };
    bed.fleet.configure(Some(&things), None).await.unwrap();
    bed.until_active().await;
    assert_eq!(bed.found("*").await, ["a", "c"]);
    bed.thing("d").await;
    damaged(Key::new("thing", &["a"])).await;
    bed.finds("*", &["c", "d"]).await;
}

#[tokio::test]
async fn a_disk_that_is_full_does_not_stop_the_index() {
    let store = Arc::<MemoryStore>::default();
    let bed = Bed::on(&store).await;
    bed.thing("a").await;
    bed.index_all().await;
    bed.fleet.shutdown().await;
    let full = Arc::new(ReadOnly(store.clone()));
    let bed = Bed::indexing(&store, full).await;
    let client = bed.connect("a").await;
    bed.until_active().await;
    bed.thing("b").await;
    bed.finds("*", &["a", "b"]).await;
    client.close(Now::of(&*bed.clock), None, Left::default());
}

/// A store of which nothing but reading can be had.
struct ReadOnly(Arc<MemoryStore>);

#[async_trait::async_trait]
impl Storage for ReadOnly {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.0.get(key).await
    }

    async fn put(&self, _: &Key, _: Bytes, _: Expect) -> Result<Revision, StoreError> {
        Err(StoreError::Unavailable(Arc::new(std::io::Error::other("disk full"))))
    }

    async fn delete(&self, _: &Key, _: Expect) -> Result<bool, StoreError> {
        Err(StoreError::Unavailable(Arc::new(std::io::Error::other("disk full"))))
    }

    async fn scan(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        self.0.scan(prefix, after, limit).await
    }

    fn watch(&self, prefix: &Key) -> Watch {
        self.0.watch(prefix)
    }
}

#[tokio::test]
async fn records_of_things_that_are_gone_go_too() {
    let store = Arc::<MemoryStore>::default();
    let bed = Bed::on(&store).await;
    bed.thing("a").await;
    bed.index_all().await;
    drop(bed.connect("a").await);
    let key = Key::new("connectivity", &["a"]);
    until(async || store.get(&key).await.unwrap().is_some()).await;
    // Deleted while nobody looks.
    bed.fleet.shutdown().await;
    bed.registry.delete_thing(&ThingName::parse("a").unwrap(), None).await.unwrap();
    let bed = Bed::on(&store).await;
    bed.until_active().await;
    assert_eq!(store.get(&key).await.unwrap(), None);
}

#[tokio::test]
async fn a_search_that_nobody_waits_for_keeps_its_place() {
    let store = Arc::<MemoryStore>::default();
    let bed = Bed::on(&store).await;
    bed.thing("a").await;
    bed.index_all().await;
    // Nobody can look while the index is being changed.
    let shared = bed.fleet.shared.clone();
    let (changing, changed) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let change = std::thread::spawn(move || {
        let _index = shared.things.write();
        begin.send(()).unwrap();
        changed.recv().unwrap();
    });
    begun.await.unwrap();
    for _ in 0..SEARCHES_MAX {
        let search = bed.fleet.search(IndexName::Things, Query::parse("*").unwrap(), None, 1);
        tokio::time::timeout(Duration::from_millis(1), search).await.unwrap_err();
    }
    assert_eq!(bed.fleet.searches.available_permits(), 0);
    changing.send(()).unwrap();
    change.join().unwrap();
    until(async || bed.fleet.searches.available_permits() == SEARCHES_MAX).await;
}

#[tokio::test]
async fn more_names_than_are_kept_are_all_looked_at() {
    let changes = Changes::default();
    changes.thing(ThingName::parse("early").unwrap());
    assert_eq!(changes.len(), 0, "nothing is indexed");
    changes.keep(true);
    for n in 0..=changes::NAMES_MAX {
        changes.thing(ThingName::parse(&n.to_string()).unwrap());
    }
    assert_eq!((changes.len(), changes.take_everything()), (0, true));
    assert!(!changes.take_everything());
    changes.thing(ThingName::parse("late").unwrap());
    changes.group(ThingGroupName::parse("late").unwrap());
    let names = changes::Names {
        things: vec![ThingName::parse("late").unwrap()],
        groups: vec![ThingGroupName::parse("late").unwrap()],
    };
    assert_eq!(changes.take_names(), names);
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
    let groups_of =
        async |bed: &Bed| bed.fleet.groups_of(vec![lamp.clone()]).await.unwrap().concat();
    until(async || groups_of(&bed).await == [group.clone()]).await;
    bed.fleet.shutdown().await;
    let bed = Bed::on(&store).await;
    bed.until_active().await;
    assert_eq!(groups_of(&bed).await, std::slice::from_ref(&group));
    bed.registry.delete_dynamic_thing_group(&group, None).await.unwrap();
    until(async || groups_of(&bed).await.is_empty()).await;
}
