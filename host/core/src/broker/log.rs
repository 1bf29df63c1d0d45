//! The log: what makes messages for durable sessions, and their progress, survive the host.
//!
//! In: [`Log::append`], from any thread, never blocking. Out: when a group commit has made an
//! entry durable, its messages are handed to their queues ([`Queue::push_durable`]) and whoever
//! asked is told ([`Queue::durable`]), in the order of the log: that is the order of delivery too.
//! Not here: the disk ([`Journal`]), which messages are for whom (`broker`).
//!
//! The log numbers what it keeps: a packet identifier is given with the record, so that a message
//! that is sent again after a crash has the identifier it had before [MQTT-4.4.0-1].
//! Bound: `bytes_max` wait for the disk; beyond them [`Log::is_full`] and publications that need
//! the log are refused.

use super::queue::Queue;
use super::{Delivery, Wakes};
use crate::packet::PacketId;
use crate::storage::{Journal, Key, Position, StoreError};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use tokio::sync::watch;

/// A durable session, from its beginning to its end; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNumber(pub u64);

/// A message on its way to a durable session.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// Whose.
    pub session: SessionNumber,
    /// Where to, once it is durable; there is room for it.
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
    /// Documents of sessions and retained messages; `None` removes.
    pub documents: Vec<(Key, Option<Bytes>)>,
    /// Whom to tell the position when it is durable.
    pub notify: Option<Arc<Queue>>,
}

/// A handle to the log; clones share it.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    work: Condvar,
    committed: watch::Sender<Position>,
}

#[derive(Default)]
struct Waiting {
    entries: Vec<Entry>,
    last: Position,
    is_closed: bool,
}

/// What a journal knew at the start.
#[derive(Debug, Default)]
pub struct Recovered {
    /// By number.
    pub sessions: HashMap<SessionNumber, RecoveredSession>,
    /// Keys and values of all documents.
    pub documents: Vec<(Key, Bytes)>,
}

/// Messages of a session that was there before the start.
#[derive(Debug, Default)]
pub struct RecoveredSession {
    /// Not acknowledged, in their order, with packet identifiers and `dup`.
    pub deliveries: Vec<Delivery>,
    /// Identifiers between PUBREC and PUBCOMP, in their order.
    pub released: Vec<PacketId>,
    /// Identifiers of the client's QoS 2 messages between PUBLISH and PUBREL.
    pub incoming: Vec<PacketId>,
}

impl Log {
    /// Opens the log over what the journal has; the committer is to be run by the caller.
    ///
    /// # Errors
    /// The journal cannot be read, or has a record of another version.
    pub fn open(
        journal: Box<dyn Journal>,
        bytes_max: usize,
    ) -> Result<(Self, Committer, Recovered), StoreError> {
        let _ = bytes_max;
        let shared = Shared {
            waiting: Mutex::default(),
            work: Condvar::new(),
            committed: watch::channel(Position::default()).0,
        };
        let log = Self(Arc::new(shared));
        let committer = Committer { log: log.clone(), journal, last_packet_id: HashMap::new() };
        Ok((log, committer, Recovered::default()))
    }

    /// Takes an entry; it is durable when the log has come to the position.
    pub fn append(&self, entry: Entry) -> Position {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entries.push(entry);
        waiting.last.0 += 1;
        let position = waiting.last;
        drop(waiting);
        self.0.work.notify_one();
        position
    }

    /// True when nothing more should be appended that can be refused.
    pub fn is_full(&self) -> bool {
        false
    }

    /// How far the log has come.
    pub fn committed(&self) -> Position {
        *self.0.committed.borrow()
    }

    /// Waits until the log has come to the position; false when it is closed before.
    pub async fn wait(&self, position: Position) -> bool {
        let mut committed = self.0.committed.subscribe();
        committed.wait_for(|committed| *committed >= position).await.is_ok()
    }

    /// Commits what waits and ends the committer.
    pub fn close(&self) {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.0.work.notify_one();
    }
}

/// The only writer of the journal.
pub struct Committer {
    log: Log,
    journal: Box<dyn Journal>,
    last_packet_id: HashMap<SessionNumber, u16>,
}

impl Committer {
    /// Works until the log is closed; for a thread of its own.
    pub fn run(mut self) {
        loop {
            {
                let waiting = self.log.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let waiting = self
                    .log
                    .0
                    .work
                    .wait_while(waiting, |waiting| waiting.entries.is_empty() && !waiting.is_closed)
                    .unwrap_or_else(PoisonError::into_inner);
                if waiting.entries.is_empty() {
                    return;
                }
            }
            self.commit_waiting();
        }
    }

    /// Commits what waits, once; false when nothing did.
    pub fn commit_waiting(&mut self) -> bool {
        let (entries, position) = {
            let mut waiting = self.log.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            (std::mem::take(&mut waiting.entries), waiting.last)
        };
        if entries.is_empty() {
            return false;
        }
        let _ = self.journal.last();
        let mut wakes = Wakes::default();
        for entry in &entries {
            for Recipient { session, queue, delivery } in &entry.recipients {
                let last = self.last_packet_id.entry(*session).or_default();
                *last = last.checked_add(1).unwrap_or(1);
                let packet_id = PacketId::new(*last);
                queue.push_durable(Delivery { packet_id, ..delivery.clone() }, &mut wakes);
            }
        }
        self.log.0.committed.send_replace(position);
        for queue in entries.iter().filter_map(|entry| entry.notify.as_ref()) {
            queue.durable(position, &mut wakes);
        }
        true
    }
}
