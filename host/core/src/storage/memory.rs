//! The storage port on a map in memory, for tests and the simulation.
//!
//! Nothing survives the value. Passes the same contract test as the durable engine.

use super::{Change, Expect, Key, Record, Revision, Storage, StoreError, Watch, check_size};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::broadcast;

/// Changes kept for a watcher that has not read them yet; a slower one is told that it lagged.
const WATCH_CHANGES_MAX: usize = 1_024;

/// A map with the promises of [`Storage`] except durability.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
    changes: broadcast::Sender<Change>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<Key, (Revision, Bytes)>,
    last_revision: u64,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self { state: Mutex::default(), changes: broadcast::Sender::new(WATCH_CHANGES_MAX) }
    }
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while holding the map")
    }
}

impl State {
    fn check(&self, key: &Key, expect: Expect) -> Result<(), StoreError> {
        expect.check(self.records.get(key).map(|(revision, _)| *revision))
    }
}

#[async_trait]
impl Storage for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let state = self.lock();
        let found = state.records.get(key);
        Ok(found.map(|(revision, value)| record(key, *revision, value)))
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect) -> Result<Revision, StoreError> {
        check_size(key, &value)?;
        let mut state = self.lock();
        state.check(key, expect)?;
        state.last_revision += 1;
        let revision = Revision(state.last_revision);
        state.records.insert(key.clone(), (revision, value));
        // Sent under the lock, so that watchers see changes in the order of revisions. An error
        // only says that nobody watches.
        let _ = self.changes.send(Change { key: key.clone(), revision: Some(revision) });
        Ok(revision)
    }

    async fn delete(&self, key: &Key, expect: Expect) -> Result<bool, StoreError> {
        check_size(key, &[])?;
        let mut state = self.lock();
        state.check(key, expect)?;
        let existed = state.records.remove(key).is_some();
        if existed {
            let _ = self.changes.send(Change { key: key.clone(), revision: None });
        }
        Ok(existed)
    }

    async fn scan(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        Ok(scan(&self.lock().records, prefix, after)
            .take(limit)
            .map(|(key, (revision, value))| record(key, *revision, value))
            .collect())
    }

    fn watch(&self, prefix: &Key) -> Watch {
        Watch::new(prefix.clone(), self.changes.subscribe())
    }
}

/// What a map has under keys that begin with `prefix` and are greater than `after`.
pub(super) fn scan<'a, V>(
    map: &'a BTreeMap<Key, V>,
    prefix: &'a Key,
    after: Option<&'a Key>,
) -> impl Iterator<Item = (&'a Key, &'a V)> {
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    map.range((start, Bound::Unbounded))
        .take_while(|(key, _)| key.as_str().starts_with(prefix.as_str()))
}

fn record(key: &Key, revision: Revision, value: &Bytes) -> Record {
    Record { key: key.clone(), revision, value: value.clone() }
}
