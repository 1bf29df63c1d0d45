//! The journal port on maps in memory, for tests and the simulation.
//!
//! A [`MemoryDisk`] keeps what was committed over the life of its journals: dropping a journal and
//! opening another one on the same disk is a crash and a start. Passes the same contract test as
//! the durable engine.

use super::memory::scan;
use super::{Commit, Journal, Key, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// What survives a [`MemoryJournal`]; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    last: u64,
    records: BTreeMap<u64, Bytes>,
    documents: BTreeMap<Key, Bytes>,
}

impl MemoryDisk {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().expect("no code panics while holding the maps")
    }
}

/// The promises of [`Journal`], for as long as the disk lives.
#[derive(Debug)]
pub struct MemoryJournal {
    disk: MemoryDisk,
}

impl MemoryJournal {
    /// Opens what is on the disk. The journal that was opened before is to be dropped first.
    pub fn open(disk: &MemoryDisk) -> Self {
        Self { disk: disk.clone() }
    }
}

impl Journal for MemoryJournal {
    fn last(&self) -> u64 {
        self.disk.lock().last
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let mut content = self.disk.lock();
        commit.check_follows(content.last)?;
        content.last = commit.number;
        content.records = content.records.split_off(&commit.trim_below);
        if let Some(record) = &commit.record {
            content.records.insert(commit.number, record.clone());
        }
        for (key, value) in &commit.documents {
            match value {
                Some(value) => content.documents.insert(key.clone(), value.clone()),
                None => content.documents.remove(key),
            };
        }
        Ok(())
    }

    fn recover(&mut self) -> Result<u64, StoreError> {
        Ok(self.last())
    }

    fn records(&self, from: u64, limit: usize) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let content = self.disk.lock();
        let found = content.records.range(from..).take(limit);
        Ok(found.map(|(number, record)| (*number, record.clone())).collect())
    }

    fn documents(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let content = self.disk.lock();
        let found = scan(&content.documents, prefix, after).take(limit);
        Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}
