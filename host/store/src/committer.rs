//! The only writer of the file: takes all writes that wait, commits them once, answers them all.
//!
//! In: [`Request`]s from the store's handle. Out: answers, changes for watchers, and the open
//! database (replaced when the file had to be opened again).
//! No timer waits for more writes: while one commit syncs the disk the next batch gathers.
//! Runs on a thread of its own, because a commit blocks for as long as the disk takes.

use crate::engine::{Closed, OpenDatabase, RECORDS, TABLES};
use crate::envelope;
use crate::file::{self, Cause, Create, Opener, cause};
use bytes::Bytes;
use gnomon_core::metrics::Metrics;
use gnomon_core::storage::{Change, Expect, Key, Revision, StoreError};
use redb::{Database, ReadableTable, Table};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc, oneshot};

/// Writes of one group commit.
pub(crate) const BATCH_WRITES_MAX: usize = 2_000;

/// Bytes of keys and values after which a group commit takes no more writes.
const BATCH_BYTES_MAX: usize = 1_024 * 1_024;

/// Wait before the first attempt to write again after a failure; doubles up to
/// [`REOPEN_DELAY_MAX`].
const REOPEN_DELAY_MIN: Duration = Duration::from_millis(100);

/// Longest wait between two attempts to write again.
const REOPEN_DELAY_MAX: Duration = Duration::from_secs(10);

/// What the committer is asked.
pub(crate) enum Request {
    /// Make this durable.
    Write(Write),
    /// Commit nothing, to see whether the file still works: a read failed.
    Probe,
    /// Commit what waits, then end.
    Close,
}

/// One write and whom to answer.
pub(crate) struct Write {
    pub(crate) key: Key,
    /// `None` deletes the key.
    pub(crate) value: Option<Bytes>,
    pub(crate) expect: Expect,
    pub(crate) answer: oneshot::Sender<Result<Option<Revision>, StoreError>>,
    /// The write's share of the queue's bytes, given back when it is dropped.
    pub(crate) room: OwnedSemaphorePermit,
}

/// What became of a write: the revision of the change, `None` when there was nothing to delete.
type Outcome = Result<Option<Revision>, StoreError>;

pub(crate) struct Committer {
    requests: mpsc::Receiver<Request>,
    open: Arc<OpenDatabase>,
    opener: Opener,
    path: PathBuf,
    /// The last one that is durable.
    revision: Revision,
    /// Changes of a commit that failed and may have happened: told to watchers if they have.
    doubtful: Vec<(Change, Revision)>,
    changes: broadcast::Sender<Change>,
    metrics: Arc<Metrics>,
}

impl Committer {
    pub(crate) fn new(
        requests: mpsc::Receiver<Request>,
        open: Arc<OpenDatabase>,
        opener: Opener,
        path: PathBuf,
        revision: Revision,
        changes: broadcast::Sender<Change>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { requests, open, opener, path, revision, doubtful: Vec::new(), changes, metrics }
    }

    /// Works until the store is closed or dropped; the file is closed when this returns.
    pub(crate) fn run(mut self) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "store committer cannot start");
                return self.open.replace(Err(Arc::new(error)));
            }
        };
        runtime.block_on(async {
            while let Some(request) = self.requests.recv().await {
                let batch = self.gather(request);
                if let Err(cause) = self.commit(batch) {
                    self.recover(cause).await;
                }
            }
        });
        self.open.replace(Err(Arc::new(Closed)));
    }

    /// The first request and all that wait behind it, up to the bounds of a batch.
    fn gather(&mut self, first: Request) -> Batch {
        let mut batch = Batch::default();
        let mut next = Some(first);
        let mut bytes = 0;
        while let Some(request) = next {
            match request {
                Request::Write(write) => {
                    bytes += write.room.num_permits();
                    batch.writes.push(write);
                }
                Request::Probe => batch.probe = true,
                // Those who wait for room are refused; what is in the queue is still committed.
                Request::Close => self.requests.close(),
            }
            if batch.writes.len() == BATCH_WRITES_MAX || bytes >= BATCH_BYTES_MAX {
                break;
            }
            next = self.requests.try_recv().ok();
        }
        batch
    }

    /// Commits the batch once, tells watchers, then answers every write.
    fn commit(&mut self, batch: Batch) -> Result<(), Cause> {
        if batch.writes.is_empty() && !batch.probe {
            return Ok(());
        }
        let mut applied =
            Applied { revision: self.revision, outcomes: Vec::new(), changes: Vec::new() };
        let result = self.open.with(|database| write(database, &batch, &mut applied));
        if let Err(cause) = result {
            self.refuse(batch.writes, &cause);
            self.doubtful = applied.changes;
            return Err(cause);
        }
        self.revision = applied.revision;
        if !applied.changes.is_empty() {
            self.metrics.store_commits.increment();
            self.metrics.store_writes.add(applied.changes.len() as u64);
        }
        // Before the answers: who watches after its own write does not see that write again.
        for (change, _) in applied.changes {
            // Fails only when nobody watches.
            let _ = self.changes.send(change);
        }
        for (write, outcome) in batch.writes.into_iter().zip(applied.outcomes) {
            // A caller that has gone away keeps its write.
            let _ = write.answer.send(outcome);
        }
        Ok(())
    }

    fn refuse(&self, writes: Vec<Write>, cause: &Cause) {
        self.metrics.store_refused.add(writes.len() as u64);
        for write in writes {
            let _ = write.answer.send(Err(StoreError::Unavailable(cause.clone())));
        }
    }

    /// Refuses writes and opens the file again until a commit succeeds. Reads work in between
    /// whenever the file can be opened at all.
    async fn recover(&mut self, first: Cause) {
        tracing::error!(error = %first, file = %self.path.display(), "store failed, writes are refused");
        let mut cause = first;
        let mut delay = REOPEN_DELAY_MIN;
        loop {
            let opened = self.reopen(&cause);
            if !self.refuse_for(delay, &cause).await {
                return;
            }
            let probe = Batch { probe: true, ..Batch::default() };
            match opened.and_then(|()| self.commit(probe)) {
                Ok(()) => break,
                Err(again) => cause = again,
            }
            tracing::debug!(error = %cause, "store still fails");
            delay = (delay * 2).min(REOPEN_DELAY_MAX);
        }
        tracing::info!(file = %self.path.display(), "store works again");
    }

    /// Refuses what arrives until the time is over; false when the store was closed meanwhile.
    async fn refuse_for(&mut self, delay: Duration, cause: &Cause) -> bool {
        let deadline = tokio::time::Instant::now() + delay;
        while let Ok(request) = tokio::time::timeout_at(deadline, self.requests.recv()).await {
            match request {
                Some(Request::Write(write)) => self.refuse(vec![write], cause),
                Some(Request::Probe) => {}
                Some(Request::Close) => self.requests.close(),
                None => return false,
            }
        }
        true
    }

    /// Opens the file anew: after an error redb answers nothing more until then.
    fn reopen(&mut self, cause: &Cause) -> Result<(), Cause> {
        // Closed first: redb holds a lock on the file.
        self.open.replace(Err(cause.clone()));
        let (database, revision) = file::open(&self.opener, &self.path, Create::Never, TABLES)
            .map_err(|e| Arc::new(e) as Cause)?;
        let revision = Revision(revision);
        self.open.replace(Ok(database));
        self.revision = revision;
        // Whether a commit whose sync failed is durable shows only now.
        for (change, of) in std::mem::take(&mut self.doubtful) {
            if of <= revision {
                let _ = self.changes.send(change);
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Batch {
    writes: Vec<Write>,
    /// Commit even without a change.
    probe: bool,
}

/// What a batch does, filled while it is applied.
struct Applied {
    /// The last one given out.
    revision: Revision,
    outcomes: Vec<Outcome>,
    /// Each with its revision; deletes have one as well, so that a commit can be recognised.
    changes: Vec<(Change, Revision)>,
}

/// Applies the batch in one transaction; a batch without changes costs no commit.
fn write(database: &Database, batch: &Batch, applied: &mut Applied) -> Result<(), Cause> {
    let mut transaction = database.begin_write().map_err(cause)?;
    // Opening after a crash then takes 10 ms instead of 3 s per million keys; no cost from a
    // hundred writes per commit up. Durability is redb's default: immediate.
    transaction.set_quick_repair(true);
    {
        let mut records = transaction.open_table(RECORDS).map_err(cause)?;
        let mut buffer = Vec::new();
        for write in &batch.writes {
            let outcome = apply(&mut records, write, applied, &mut buffer)?;
            applied.outcomes.push(outcome);
        }
    }
    if applied.changes.is_empty() && !batch.probe {
        return transaction.abort().map_err(cause);
    }
    file::set_counter(&transaction, applied.revision.0)?;
    transaction.commit().map_err(cause)
}

/// Applies one write to the table, which shows the earlier writes of the batch.
fn apply(
    records: &mut Table<'_, &'static [u8], &'static [u8]>,
    write: &Write,
    applied: &mut Applied,
    buffer: &mut Vec<u8>,
) -> Result<Outcome, Cause> {
    let key = write.key.as_str().as_bytes();
    let present = records.get(key).map_err(cause)?;
    let present = match present.map(|stored| envelope::revision(stored.value())).transpose() {
        Ok(present) => present,
        // Concerns this key only: the others must not suffer.
        Err(error) => return Ok(Err(StoreError::Unavailable(Arc::new(error)))),
    };
    if let Err(conflict) = write.expect.check(present) {
        return Ok(Err(conflict));
    }
    if write.value.is_none() && present.is_none() {
        return Ok(Ok(None));
    }
    let revision = Revision(applied.revision.0 + 1);
    match &write.value {
        Some(value) => {
            envelope::encode(revision, value, buffer);
            records.insert(key, buffer.as_slice()).map_err(cause)?;
        }
        None => {
            records.remove(key).map_err(cause)?;
        }
    }
    applied.revision = revision;
    let change =
        Change { key: write.key.clone(), revision: write.value.as_ref().map(|_| revision) };
    applied.changes.push((change, revision));
    Ok(Ok(Some(revision)))
}
