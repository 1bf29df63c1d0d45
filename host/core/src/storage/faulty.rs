//! A store that fails when told to, for tests and the simulation.
//!
//! Wraps any engine. Not here: faults below an engine (a full disk), which `gnomon-store` tests
//! with a failing file.

use super::{Expect, Key, Record, Revision, Storage, StoreError, Watch};
use crate::random::{self, Random};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not happen.
    Refused,
    /// It happens, but the caller is told that it failed.
    AnswerLost,
}

/// Which operations fail: those planned, then some at random. Clones share the plan, so that a
/// test keeps one while the other is in use.
#[derive(Clone, Default)]
pub struct Faults {
    planned: Arc<Mutex<VecDeque<Option<Fault>>>>,
    random: Option<(Arc<dyn Random>, u8)>,
}

impl Faults {
    /// Of 256 operations about `per_256` fail, each kind of fault equally often; the same seed
    /// and the same calls fail at the same places.
    pub fn at_random(random: Arc<dyn Random>, per_256: u8) -> Self {
        Self { random: Some((random, per_256)), ..Self::default() }
    }

    /// What happens to the next operations, one entry each; `None` lets one pass.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.planned.lock().expect("no code panics while holding the plan").extend(faults);
    }

    /// What happens to the operation that begins now.
    pub(super) fn next(&self) -> Option<Fault> {
        let planned =
            self.planned.lock().expect("no code panics while holding the plan").pop_front();
        if let Some(fault) = planned {
            return fault;
        }
        let (random, per_256) = self.random.as_ref()?;
        let [dice, kind] = random::bytes(&**random);
        let kind = if kind & 1 == 0 { Fault::Refused } else { Fault::AnswerLost };
        (dice < *per_256).then_some(kind)
    }
}

/// Fails operations on demand ([`FaultyStore::fail_next`]) and at random.
pub struct FaultyStore {
    inner: Arc<dyn Storage>,
    faults: Faults,
}

impl FaultyStore {
    /// Passes everything on until told otherwise.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, faults: Faults::default() }
    }

    /// Fails as [`Faults::at_random`] says.
    pub fn at_random(inner: Arc<dyn Storage>, random: Arc<dyn Random>, per_256: u8) -> Self {
        Self { inner, faults: Faults::at_random(random, per_256) }
    }

    /// See [`Faults::fail_next`].
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.faults.fail_next(faults);
    }
}

/// Runs the operation with the fault that is due.
macro_rules! faulty {
    ($store:ident, $operation:expr) => {
        match $store.faults.next() {
            None => $operation.await,
            Some(Fault::Refused) => Err(injected()),
            Some(Fault::AnswerLost) => $operation.await.and(Err(injected())),
        }
    };
}

pub(super) fn injected() -> StoreError {
    StoreError::Unavailable(Arc::new(std::io::Error::other("injected fault")))
}

#[async_trait]
impl Storage for FaultyStore {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        faulty!(self, self.inner.get(key))
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect) -> Result<Revision, StoreError> {
        faulty!(self, self.inner.put(key, value, expect))
    }

    async fn delete(&self, key: &Key, expect: Expect) -> Result<bool, StoreError> {
        faulty!(self, self.inner.delete(key, expect))
    }

    async fn scan(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        faulty!(self, self.inner.scan(prefix, after, limit))
    }

    fn watch(&self, prefix: &Key) -> Watch {
        self.inner.watch(prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;
    use crate::storage::MemoryStore;

    #[tokio::test]
    async fn planned_faults_come_in_order_and_a_lost_answer_has_happened() {
        let memory = Arc::new(MemoryStore::default());
        let store = FaultyStore::new(memory.clone());
        let key = Key::new("k", &["1"]);
        store.fail_next([Some(Fault::Refused), None, Some(Fault::AnswerLost)]);
        assert!(store.put(&key, Bytes::new(), Expect::Absent).await.is_err());
        assert_eq!(memory.get(&key).await.unwrap(), None);
        assert!(store.put(&key, Bytes::new(), Expect::Absent).await.is_ok());
        assert!(store.delete(&key, Expect::Any).await.is_err());
        assert_eq!(memory.get(&key).await.unwrap(), None);
        assert!(store.put(&key, Bytes::new(), Expect::Absent).await.is_ok());
    }

    #[tokio::test]
    async fn the_same_seed_fails_at_the_same_places() {
        let run = async |seed| {
            let random = Arc::new(SeededRandom::new(seed));
            let store = FaultyStore::at_random(Arc::new(MemoryStore::default()), random, 64);
            let mut failed = Vec::new();
            for n in 0..1_000 {
                if store.get(&Key::new("k", &[])).await.is_err() {
                    failed.push(n);
                }
            }
            failed
        };
        let failed = run(7).await;
        assert!((150..350).contains(&failed.len()), "{} of 1,000", failed.len());
        assert_eq!(run(7).await, failed);
        assert_ne!(run(8).await, failed);
    }
}
