//! The storage port: everything durable goes through it.
//!
//! One aggregate = one key = one revision. No multi-key transaction: what an engine beyond redb
//! (NATS JetStream) cannot promise nobody may use. The same contract test runs on every engine
//! (`gnomon-store`). Messages on their way have a second, log-shaped port: [`Journal`].
//! For tests and the simulation: [`MemoryStore`] and [`MemoryJournal`], and [`FaultyStore`] and
//! [`FaultyJournal`], which fail when told to.

mod faulty;
mod faulty_journal;
mod journal;
mod memory;
mod memory_journal;

pub use faulty::{Fault, Faults, FaultyStore};
pub use faulty_journal::FaultyJournal;
pub use journal::{Commit, Durability, Journal, Position};
pub use memory::MemoryStore;
pub use memory_journal::{MemoryDisk, MemoryJournal};

use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// Longest key in bytes; a longer one is a defect of the caller.
pub const KEY_BYTES_MAX: usize = 1_024;

/// Largest value in bytes.
pub const VALUE_BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// Key of an aggregate: kind, then names, joined by `/`; ordered by bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// `kind/part/part…`; only the last part may contain `/`.
    pub fn new(kind: &str, parts: &[&str]) -> Self {
        let mut text = String::from(kind);
        for part in parts {
            text.push('/');
            text.push_str(part);
        }
        Self(text.into())
    }

    /// The prefix of all keys of a kind: `kind/`.
    pub fn prefix(kind: &str) -> Self {
        Self(format!("{kind}/").into())
    }

    /// A key as an engine kept it.
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// Changes with every write of a key and grows over the life of the store; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// What is stored under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Key,
    /// Revision of the last write.
    pub revision: Revision,
    /// The bytes; their first is the version of the owner's encoding.
    pub value: Bytes,
}

/// What a write demands of the present state of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key still has this revision.
    Revision(Revision),
    /// Nothing.
    Any,
}

/// Why a storage operation failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The expectation does not hold; read again and decide anew.
    #[error("the record was changed by someone else")]
    Conflict,
    /// Key or value beyond [`KEY_BYTES_MAX`] or [`VALUE_BYTES_MAX`]; retrying cannot help.
    #[error("key or value too large: {len} bytes, at most {max}")]
    TooLarge {
        /// Length in bytes.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// The engine failed (disk full, I/O error, shut down); a retry may help. A write may or may
    /// not have happened: whoever depends on it reads again first.
    #[error("the store is not available")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

/// What every engine checks before a write; the key alone for a delete.
///
/// # Errors
/// [`StoreError::TooLarge`].
pub fn check_size(key: &Key, value: &[u8]) -> Result<(), StoreError> {
    for (len, max) in [(key.as_str().len(), KEY_BYTES_MAX), (value.len(), VALUE_BYTES_MAX)] {
        if len > max {
            return Err(StoreError::TooLarge { len, max });
        }
    }
    Ok(())
}

impl Expect {
    /// What every engine asks: does the expectation hold for the key's present revision?
    ///
    /// # Errors
    /// [`StoreError::Conflict`].
    pub fn check(self, present: Option<Revision>) -> Result<(), StoreError> {
        let holds = match self {
            Self::Absent => present.is_none(),
            Self::Revision(revision) => present == Some(revision),
            Self::Any => true,
        };
        if holds { Ok(()) } else { Err(StoreError::Conflict) }
    }
}

/// A key whose record changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// Revision of the write; `None` when the key was deleted.
    pub revision: Option<Revision>,
}

/// A durable map from [`Key`] to bytes with compare-and-set.
///
/// A completed write is durable and visible to every later read. Writes that wait at the same
/// time share one group commit.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// The record of the key.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError>;

    /// Writes the key.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when `expect` does not hold, else as the variants say.
    async fn put(&self, key: &Key, value: Bytes, expect: Expect) -> Result<Revision, StoreError>;

    /// Removes the key; true when it existed. `Expect::Absent` is a conflict when it exists.
    ///
    /// # Errors
    /// As for [`Storage::put`].
    async fn delete(&self, key: &Key, expect: Expect) -> Result<bool, StoreError>;

    /// At most `limit` records whose key begins with `prefix` and is greater than `after`, in
    /// the order of the keys.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn scan(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError>;

    /// Changes from now on of keys that begin with `prefix`.
    fn watch(&self, prefix: &Key) -> Watch;
}

/// A stream of changes; made by an engine with [`Watch::new`].
#[derive(Debug)]
pub struct Watch {
    prefix: Key,
    changes: tokio::sync::broadcast::Receiver<Change>,
}

/// What a [`Watch`] saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// One key changed.
    Change(Change),
    /// The watcher was too slow and changes were skipped: read everything again.
    Lagged,
}

impl Watch {
    /// A watch over what the engine broadcasts.
    pub fn new(prefix: Key, changes: tokio::sync::broadcast::Receiver<Change>) -> Self {
        Self { prefix, changes }
    }

    /// The next change of a key under the prefix; `None` after the engine has shut down.
    ///
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Watched> {
        use tokio::sync::broadcast::error::RecvError;
        loop {
            match self.changes.recv().await {
                Ok(change) if change.key.as_str().starts_with(self.prefix.as_str()) => {
                    return Some(Watched::Change(change));
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return Some(Watched::Lagged),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}
