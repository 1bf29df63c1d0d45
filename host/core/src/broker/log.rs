//! The log: what makes messages for durable sessions, and their progress, survive the host.
//!
//! In: [`Log::append`], from any thread, never blocking. Out: when a group commit has made an
//! entry durable, its messages are handed to their queues (`Queue::push_durable`) and whoever
//! asked is told ([`Queue::durable`]), in the order of the log: that is the order of delivery too.
//! Not here: the disk ([`Journal`](crate::storage::Journal)), which messages are for whom
//! (`broker`).
//!
//! Reading order: this handle, [`Committer`] (the only writer), `live` (what the journal still
//! has to keep), `recovery` (what it kept), `spool` (queues that live on disk).
//!
//! The log numbers what it keeps: a packet identifier is given with the record, so that a message
//! that is sent again after a crash has the identifier it had before [MQTT-4.4.0-1].
//! Bound: `bytes_max` wait for the disk; beyond them [`Log::is_full`], and publications that need
//! the log are refused.

mod committer;
mod live;
mod recovery;
mod spool;

pub use committer::Committer;
pub use recovery::Recovered;
pub use spool::{Batch, Spool, SpoolSize, Spooled, removal};

use super::Delivery;
use super::queue::Queue;
use crate::packet::PacketId;
use crate::storage::{Key, Position};
use crate::topic::TopicName;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A durable session, from its beginning to its end; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNumber(pub u64);

/// A message on its way to a durable session.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// Whose.
    pub session: SessionNumber,
    /// Where to, once it is durable; there is room for it ([`Queue::reserve`]).
    pub queue: Arc<Queue>,
    /// What; QoS 1 or 2, without a packet identifier.
    pub delivery: Delivery,
}

/// Progress of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client's QoS 2 PUBLISH was taken: the identifier is in use until [`Event::Completed`].
    Taken(SessionNumber, PacketId),
    /// The client's PUBREL came.
    Completed(SessionNumber, PacketId),
    /// The session is done with a message that was sent or dropped: PUBACK, PUBCOMP.
    Acknowledged(SessionNumber, PacketId),
    /// PUBREC came: the message itself is done with, its identifier stays in use.
    Released(SessionNumber, PacketId),
    /// The session ended with everything in it.
    Ended(SessionNumber),
}

/// What is made durable together.
#[derive(Debug, Default)]
pub struct Entry {
    /// All of one message.
    pub recipients: Vec<Recipient>,
    /// What happened beside.
    pub event: Option<Event>,
    /// Documents of sessions; `None` removes.
    pub documents: Vec<(Key, Option<Bytes>)>,
    /// Topics whose retained message changed: what is there when the commit is made is written,
    /// so that two publishers cannot leave memory and disk with different messages.
    pub retained: Vec<TopicName>,
    /// Records for spools.
    pub spooled: Vec<Spooled>,
    /// Whom to tell the position when it is durable.
    pub notify: Option<Arc<Queue>>,
}

impl From<Event> for Entry {
    fn from(event: Event) -> Self {
        Self { event: Some(event), ..Self::default() }
    }
}

impl Entry {
    /// Bytes that it holds in memory and will take on disk, roughly.
    fn bytes(&self) -> usize {
        /// What an operation takes beside texts and payload.
        const FIXED: usize = 32;
        let message = self.recipients.first().map_or(0, |recipient| {
            let message = &recipient.delivery.message;
            let properties = message.properties.as_ref().map_or(0, |it| it.bytes());
            FIXED + message.topic.as_str().len() + message.payload.len() + properties
        });
        let documents = self
            .documents
            .iter()
            .map(|(key, value)| FIXED + key.as_str().len() + value.as_ref().map_or(0, Bytes::len));
        let retained = self.retained.iter().map(|topic| FIXED + topic.as_str().len());
        let spooled = self.spooled.iter().map(|it| FIXED + it.record.len());
        let others = documents.chain(retained).chain(spooled).sum::<usize>();
        message + (self.recipients.len() + 1) * FIXED + others
    }
}

/// A handle to the log; clones share it.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    work: Condvar,
    /// For those who wait without a queue of their own.
    progress: watch::Sender<Progress>,
    /// The same, for the message path.
    committed_now: AtomicU64,
    bytes_max: usize,
    /// Bytes that wait for the disk, those of a commit that is under way too.
    bytes: AtomicU64,
}

#[derive(Default)]
struct Progress {
    committed: Position,
    /// Nobody commits any more.
    is_over: bool,
}

#[derive(Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    /// Spools to read, and behind which batch.
    reads: Vec<(Arc<dyn Spool>, u64)>,
    last: Position,
    is_closed: bool,
}

impl Log {
    pub(in crate::broker) fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Shared {
            waiting: Mutex::default(),
            work: Condvar::new(),
            progress: watch::Sender::default(),
            committed_now: AtomicU64::new(0),
            bytes_max,
            bytes: AtomicU64::new(0),
        }))
    }

    /// Takes an entry; it is durable when the log has come to the position.
    pub fn append(&self, entry: Entry) -> Position {
        self.0.bytes.fetch_add(entry.bytes() as u64, Ordering::Relaxed);
        let mut waiting = self.waiting();
        waiting.entries.push_back(entry);
        waiting.last.0 += 1;
        let (position, is_first) = (waiting.last, waiting.entries.len() == 1);
        drop(waiting);
        if is_first {
            self.0.work.notify_one();
        }
        position
    }

    /// Has the batches of a spool behind the one with number `after` read, some at a time.
    pub fn read_spool(&self, spool: Arc<dyn Spool>, after: u64) {
        self.waiting().reads.push((spool, after));
        self.0.work.notify_one();
    }

    /// True when nothing more should be appended that can be refused.
    pub fn is_full(&self) -> bool {
        self.0.bytes.load(Ordering::Relaxed) > self.0.bytes_max as u64
    }

    /// How far the log has come.
    pub fn committed(&self) -> Position {
        Position(self.0.committed_now.load(Ordering::Acquire))
    }

    /// Waits until the log has come to the position; false when it never will.
    pub async fn wait(&self, position: Position) -> bool {
        let mut progress = self.0.progress.subscribe();
        let seen = progress.wait_for(|it| it.is_over || it.committed >= position).await;
        seen.is_ok_and(|it| it.committed >= position)
    }

    /// Commits what waits and ends the committer.
    pub fn close(&self) {
        self.waiting().is_closed = true;
        self.0.work.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
