//! The journal port: the second, log-shaped way to durability, for messages on their way.
//!
//! One value that holds a whole batch costs a twentieth of one key per message, so queues are
//! kept as records that describe what happened, and read again at the start. Documents (sessions,
//! retained messages) change in the same commit as the record beside them.
//! Who decides what stands in a record: `broker::log`.

use super::{Key, StoreError};
use bytes::Bytes;

/// What one commit makes durable, all or nothing.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// One more than that of the commit before; the first is 1.
    pub number: u64,
    /// Kept under the commit's number; `None` when only documents change.
    pub record: Option<Bytes>,
    /// Records with a smaller number are removed.
    pub trim_below: u64,
    /// Documents to write, and with `None` to remove, in this order.
    pub documents: Vec<(Key, Option<Bytes>)>,
}

/// An ordered log of records, and documents that change with it. It has one owner and blocks.
pub trait Journal: Send + 'static {
    /// Number of the last commit that is durable; 0 before the first.
    fn last(&self) -> u64;

    /// Makes the commit durable; when this returns it is.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: whether it happened is not known; see [`Journal::recover`].
    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError>;

    /// After a failed commit: opens what is there anew and says which commit is the last.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] while it cannot be opened.
    fn recover(&mut self) -> Result<u64, StoreError>;

    /// At most `limit` records with their numbers, from `from` on, in their order.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn records(&self, from: u64, limit: usize) -> Result<Vec<(u64, Bytes)>, StoreError>;

    /// At most `limit` documents whose key begins with `prefix` and is greater than `after`, in
    /// the order of the keys.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
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
