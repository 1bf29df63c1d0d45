//! What observers are told, and when.

use super::super::tests::registry_on;
use super::super::{Attributes, ThingUpdate};
use super::*;
use crate::ids::ThingName;
use crate::storage::{Fault, FaultyStore, MemoryStore, Record, Revision, Storage, Watch};
use async_trait::async_trait;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

#[derive(Default)]
struct Told(Mutex<Vec<Change>>);

impl RegistryObserver for Told {
    fn changed(&self, change: &Change) {
        self.0.lock().unwrap().push(change.clone());
    }
}

impl Told {
    /// Versions of things, after the change.
    fn versions(&self) -> Vec<Option<u64>> {
        let told = self.0.lock().unwrap();
        let version = |change: &Change| match change {
            Change::Thing { diff, .. } => diff.after().map(|thing| thing.version),
            other => panic!("{other:?} is told of things"),
        };
        told.iter().map(version).collect()
    }
}

/// A store that writes at once and answers late.
#[derive(Default)]
struct Slow {
    inner: MemoryStore,
    answers_after_s: Mutex<VecDeque<u64>>,
}

#[async_trait]
impl Storage for Slow {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.inner.get(key).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect) -> Result<Revision, StoreError> {
        let written = self.inner.put(key, value, expect).await;
        let after_s = self.answers_after_s.lock().unwrap().pop_front().unwrap_or_default();
        tokio::time::sleep(Duration::from_secs(after_s)).await;
        written
    }

    async fn delete(&self, key: &Key, expect: Expect) -> Result<bool, StoreError> {
        self.inner.delete(key, expect).await
    }

    async fn scan(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        self.inner.scan(prefix, after, limit).await
    }

    fn watch(&self, prefix: &Key) -> Watch {
        self.inner.watch(prefix)
    }
}

/// A registry with an observer and a thing.
async fn observed(storage: Arc<dyn Storage>) -> (Registry, Arc<Told>, ThingName) {
    let (registry, told) = (registry_on(storage).0, Arc::new(Told::default()));
    registry.observe(told.clone());
    let lamp = ThingName::parse("Lamp").unwrap();
    registry.create_thing(&lamp, None, Attributes::default()).await.unwrap();
    (registry, told, lamp)
}

#[tokio::test(start_paused = true)]
async fn changes_of_a_record_are_told_in_the_order_of_their_commits() {
    let store = Arc::new(Slow::default());
    let (registry, told, lamp) = observed(store.clone()).await;
    store.answers_after_s.lock().unwrap().extend([10, 0]);
    let update = ThingUpdate::default();
    let later = async {
        // The first one is in the store, and its answer is on the way.
        tokio::time::sleep(Duration::from_secs(1)).await;
        registry.update_thing(&lamp, &update).await
    };
    let (first, second) = tokio::join!(registry.update_thing(&lamp, &update), later);
    assert_eq!((first.unwrap().version, second.unwrap().version), (2, 3));
    assert_eq!(told.versions(), [Some(1), Some(2), Some(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_when_its_caller_has_gone_away() {
    let store = Arc::new(Slow::default());
    let (registry, told, lamp) = observed(store.clone()).await;
    store.answers_after_s.lock().unwrap().push_back(10);
    let patience = Duration::from_secs(1);
    let update = ThingUpdate::default();
    let updated = tokio::time::timeout(patience, registry.update_thing(&lamp, &update)).await;
    assert!(updated.is_err());
    assert_eq!(told.versions(), [Some(1)]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(told.versions(), [Some(1), Some(2)]);
}

#[tokio::test]
async fn what_was_not_written_is_not_told() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::default())));
    let (registry, told, lamp) = observed(store.clone()).await;
    // The read passes, the write does not.
    store.fail_next([None, Some(Fault::Refused)]);
    assert!(registry.update_thing(&lamp, &ThingUpdate::default()).await.is_err());
    let late = ThingUpdate { expected_version: Some(7), ..ThingUpdate::default() };
    assert!(registry.update_thing(&lamp, &late).await.is_err());
    registry.create_thing(&lamp, None, Attributes::default()).await.unwrap();
    registry.delete_thing(&lamp, None).await.unwrap();
    registry.delete_thing(&lamp, None).await.unwrap();
    assert_eq!(told.versions(), [Some(1), None]);
}
