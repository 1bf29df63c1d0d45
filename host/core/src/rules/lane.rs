//! A lane: the messages that wait for one action, and the task that calls it.
//!
//! In: records in the log's entries ([`Lane::spool`]), handed over when they are durable. Out:
//! records in their order, for `worker`, which calls the action.
//! What waits is on disk; memory holds the next of it. A batch is removed from the disk when all
//! of it is done, so that after a crash a message may come to the action twice, but never not at
//! all.
//! Bounds: `Limits::action_queue_messages`, `action_queue_bytes`; what is beyond them fails at once.
//! One lock, held for a few lines; never across a call.

use crate::actions::Position;
use crate::broker::log::{Batch, Entry, Log, Spool, SpoolSize, Spooled, removal};
use crate::limits::Limits;
use crate::storage::StoreError;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Bytes of records that a lane holds in memory; the rest is read when its turn comes.
const MEMORY_BYTES_MAX: usize = 2 * 1_024 * 1_024;

/// When what is on disk did not come, it is asked for again.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// A record that was taken, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub position: Position,
    pub record: Bytes,
}

/// The queue of one action. Its task is `worker`'s.
pub(super) struct Lane {
    name: String,
    log: Log,
    messages_max: u64,
    bytes_max: u64,
    /// All that waits, on disk or on its way there.
    messages: AtomicU64,
    bytes: AtomicU64,
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Taken>,
    ready_bytes: usize,
    /// Records of batches that are not done.
    open: BTreeMap<u64, usize>,
    /// There may be more on disk than in memory.
    is_behind: bool,
    is_reading: bool,
    /// The newest batch that was in memory.
    last: u64,
    /// The rule was deleted: nothing is read or kept any more.
    is_over: bool,
}

impl Lane {
    /// A lane over what its spool had when the host started.
    pub fn new(name: String, log: Log, limits: &Limits, size: SpoolSize) -> Arc<Self> {
        let state = State { is_behind: size.records > 0, ..State::default() };
        Arc::new(Self {
            name,
            log,
            messages_max: limits.action_queue_messages.into(),
            bytes_max: limits.action_queue_bytes,
            messages: size.records.into(),
            bytes: size.bytes.into(),
            state: Mutex::new(state),
            ready: Notify::new(),
        })
    }

    /// The name of its spool.
    pub fn spool_name(&self) -> &str {
        &self.name
    }

    /// Messages that wait.
    pub fn waiting(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Takes room for a record; the caller puts it into the log.
    ///
    /// # Errors
    /// There is no room.
    pub fn spool(self: &Arc<Self>, record: Bytes) -> Result<Spooled, &'static str> {
        let len = record.len() as u64;
        let messages = self.messages.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(len, Ordering::Relaxed);
        if messages >= self.messages_max || bytes + len > self.bytes_max {
            self.give_back(1, len);
            return Err("the queue of the action is full");
        }
        if self.log.is_full() {
            self.give_back(1, len);
            return Err("too much waits for the disk");
        }
        Ok(Spooled { spool: self.clone(), record })
    }

    /// The next records, at most so many and about so many bytes; waits until there are some.
    ///
    /// Cancel-safe: taken and handed out is one step.
    pub async fn take(self: &Arc<Self>, messages_max: usize, bytes_max: usize) -> Vec<Taken> {
        loop {
            let ready = self.ready.notified();
            let taken = self.take_ready(messages_max, bytes_max);
            if !taken.is_empty() {
                return taken;
            }
            if self.state().is_behind {
                // A read that failed told nobody: ask again.
                let _ = tokio::time::timeout(READ_AGAIN_AFTER, ready).await;
            } else {
                ready.await;
            }
        }
    }

    fn take_ready(self: &Arc<Self>, messages_max: usize, bytes_max: usize) -> Vec<Taken> {
        let mut state = self.state();
        let mut taken = Vec::new();
        let mut bytes = 0;
        while taken.len() < messages_max
            && bytes < bytes_max
            && let Some(next) = state.ready.pop_front()
        {
            bytes += next.record.len();
            taken.push(next);
        }
        state.ready_bytes -= bytes;
        if state.ready.is_empty() && state.is_behind && !state.is_reading && !state.is_over {
            state.is_reading = true;
            let after = state.last;
            drop(state);
            self.log.read_spool(self.clone(), after);
        }
        taken
    }

    /// Records are done with; returns the batches of which nothing is left, to be removed.
    pub fn done<'a>(&self, records: impl IntoIterator<Item = &'a Taken>) -> Vec<u64> {
        let mut state = self.state();
        let mut finished = Vec::new();
        for Taken { position, record } in records {
            let batch = &position.batch;
            self.give_back(1, record.len() as u64);
            if let Some(open) = state.open.get_mut(batch) {
                *open -= 1;
                if *open == 0 {
                    state.open.remove(batch);
                    finished.push(*batch);
                }
            }
        }
        finished
    }

    /// Forgets what waits: the rule was deleted.
    pub fn end(&self) {
        let mut state = self.state();
        *state = State { is_over: true, ..State::default() };
    }

    /// Room is free again.
    pub fn give_back(&self, messages: u64, bytes: u64) {
        self.messages.fetch_sub(messages, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, batch: Batch) {
        let Batch { number, records } = batch;
        self.last = number;
        // Of a damaged one there is nothing to do, and it stays where it is.
        if !records.is_empty() {
            self.open.insert(number, records.len());
        }
        for (index, record) in (0..).zip(records) {
            self.ready_bytes += record.len();
            let position = Position { batch: number, index };
            self.ready.push_back(Taken { position, record });
        }
    }
}

impl Spool for Lane {
    fn name(&self) -> &str {
        &self.name
    }

    fn durable(&self, batch: Batch) {
        let mut state = self.state();
        if state.is_over {
            return;
        }
        if state.is_behind || state.ready_bytes > MEMORY_BYTES_MAX {
            state.is_behind = true;
        } else {
            state.push(batch);
        }
        drop(state);
        self.ready.notify_one();
    }

    fn read(&self, page: Result<Vec<Batch>, StoreError>) {
        let mut state = self.state();
        state.is_reading = false;
        match page {
            Ok(_) if state.is_over => return,
            // Whatever becomes durable from now on is behind what was read, and comes by itself.
            Ok(page) if page.is_empty() => state.is_behind = false,
            Ok(page) => page.into_iter().for_each(|batch| state.push(batch)),
            Err(error) => {
                let spool = &self.name;
                return tracing::error!(spool, %error, "messages of an action cannot be read");
            }
        }
        drop(state);
        self.ready.notify_one();
    }
}

/// Removes what a rule that is gone left behind.
pub(super) struct Purge {
    name: String,
    log: Log,
}

impl Purge {
    pub fn start(name: String, log: &Log) {
        log.read_spool(Arc::new(Self { name, log: log.clone() }), 0);
    }
}

impl Spool for Purge {
    fn name(&self) -> &str {
        &self.name
    }

    fn durable(&self, _: Batch) {}

    fn read(&self, page: Result<Vec<Batch>, StoreError>) {
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                let spool = &self.name;
                return tracing::error!(spool, %error, "what a deleted rule left stays behind");
            }
        };
        let Some(last) = page.last().map(|batch| batch.number) else { return };
        let removed = page.iter().map(|batch| removal(&self.name, batch.number));
        let entry = Entry { documents: removed.collect(), ..Entry::default() };
        self.log.append(entry);
        let purge = Self { name: self.name.clone(), log: self.log.clone() };
        self.log.read_spool(Arc::new(purge), last);
    }
}
