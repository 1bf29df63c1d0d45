//! Journals that say that they kept what they did not keep: proof that the checker objects.

use gnomon_core::storage::{Commit, Journal, Key, MemoryDisk, MemoryJournal, StoreError};

/// Leaves something out of every third commit.
struct Lying {
    inner: MemoryJournal,
    leave_out: fn(&mut Commit),
}

impl Journal for Lying {
    fn last(&self) -> u64 {
        self.inner.last()
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let mut commit = commit.clone();
        if commit.number.is_multiple_of(3) {
            (self.leave_out)(&mut commit);
        }
        self.inner.commit(&commit)
    }

    fn recover(&mut self) -> Result<u64, StoreError> {
        self.inner.recover()
    }

    fn records(&self, from: u64, limit: usize) -> Result<Vec<(u64, bytes::Bytes)>, StoreError> {
        self.inner.records(from, limit)
    }

    fn documents(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, bytes::Bytes)>, StoreError> {
        self.inner.documents(prefix, after, limit)
    }
}

fn open(disk: &MemoryDisk, leave_out: fn(&mut Commit)) -> Box<dyn Journal> {
    Box::new(Lying { inner: MemoryJournal::open(disk), leave_out })
}

/// Loses messages and progress.
pub fn without_records(disk: &MemoryDisk) -> Box<dyn Journal> {
    open(disk, |commit| commit.record = None)
}

/// Loses documents of one kind.
fn without(kind: &'static str) -> impl Fn(&mut Commit) {
    move |commit| commit.documents.retain(|(key, _)| !key.as_str().starts_with(kind))
}

/// Loses sessions.
pub fn without_sessions(disk: &MemoryDisk) -> Box<dyn Journal> {
    open(disk, |commit| without("session/")(commit))
}

/// Loses subscriptions.
pub fn without_subscriptions(disk: &MemoryDisk) -> Box<dyn Journal> {
    open(disk, |commit| without("subscription/")(commit))
}

/// Loses retained messages.
pub fn without_retained(disk: &MemoryDisk) -> Box<dyn Journal> {
    open(disk, |commit| without("retained/")(commit))
}
