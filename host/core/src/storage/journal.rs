//! The journal port: the second, log-shaped way to durability, for messages on their way.
//!
//! One value that holds a whole batch costs a twentieth of one key per message, so queues are
//! kept as records that describe what happened, and read again at the start. Documents (sessions,
//! retained messages) change in the same commit as the record beside them.
//! Who decides what stands in a record: `broker::log`. The same contract test runs on every engine
//! (`gnomon-store`).

use super::{Key, StoreError};
use bytes::Bytes;
use std::sync::Arc;

/// What one commit makes durable, all or nothing.
///
/// The bounds of [`super::Storage`] are not the journal's: a key may be longer than
/// [`super::KEY_BYTES_MAX`] (that of a retained message holds a topic of up to 65,535 bytes), and
/// a record or document larger than [`super::VALUE_BYTES_MAX`]. Whoever makes commits bounds them.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// One more than that of the commit before; the first is 1.
    pub number: u64,
    /// Kept under the commit's number; `None` when only documents change.
    pub record: Option<Bytes>,
    /// Records of earlier commits with a smaller number are removed; the commit's own stays.
    pub trim_below: u64,
    /// Documents to write, and with `None` to remove, in this order: of two for one key the
    /// second counts.
    pub documents: Vec<(Key, Option<Bytes>)>,
}

impl Commit {
    /// What every engine checks first: is this the commit after `last`?
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] with the numbers: a defect of the caller.
    pub fn check_follows(&self, last: u64) -> Result<(), StoreError> {
        if self.number.checked_sub(1) == Some(last) {
            return Ok(());
        }
        Err(StoreError::Unavailable(Arc::new(WrongNumber { number: self.number, last })))
    }
}

/// What a caller is told whose commit is not the next one.
#[derive(Debug, thiserror::Error)]
#[error("commit {number} cannot follow commit {last}; nothing was written")]
struct WrongNumber {
    number: u64,
    last: u64,
}

/// An ordered log of records, and documents that change with it. It has one owner and blocks.
pub trait Journal: Send + 'static {
    /// Number of the last commit that is known to be durable; 0 before the first.
    fn last(&self) -> u64;

    /// Makes the commit durable; when this returns it is.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: whether it happened is not known, and every further commit
    /// fails until [`Journal::recover`] has succeeded. A commit with a wrong number
    /// ([`Commit::check_follows`]) did not happen, and the journal goes on.
    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError>;

    /// After a failed commit: opens what is there anew and says which commit is the last. The
    /// failed one is there as a whole or not at all, and what is there is durable.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] while it cannot be opened; may be tried again at any time.
    fn recover(&mut self) -> Result<u64, StoreError>;

    /// At most `limit` records with their numbers, from `from` on, in their order.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], also between a failed commit and a recovery.
    fn records(&self, from: u64, limit: usize) -> Result<Vec<(u64, Bytes)>, StoreError>;

    /// At most `limit` documents whose key begins with `prefix` and is greater than `after`, in
    /// the order of the keys.
    ///
    /// # Errors
    /// As for [`Journal::records`].
    fn documents(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError>;
}

/// A place in the log: when it has been reached, everything before it is durable. 0 always has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// When what was asked for is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Now, or nothing of it needs the disk.
    Done,
    /// When the log has come to this position.
    At(Position),
    /// Never: too much waits for the disk, and nothing of it was done.
    Refused,
}
