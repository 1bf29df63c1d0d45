//! The storage port on redb: the handle that everyone shares.
//!
//! In: `Storage`. Out: writes to the `committer`'s queue, reads from short read transactions.
//! Invariant: a read transaction never lives across an `.await`; it would pin pages and the file
//! would grow.

use crate::committer::{Committer, Request, Write};
use crate::envelope;
use crate::file::{self, Cause, Create, Definition, OpenError, Opener, Tables, cause};
use crate::folder::FolderLock;
use crate::journal::RedbJournal;
use async_trait::async_trait;
use bytes::Bytes;
use gnomon_core::metrics::Metrics;
use gnomon_core::storage::{
    Change, Expect, Key, Record, Revision, Storage, StoreError, Watch, check_size,
};
use redb::{Database, ReadTransaction, ReadableDatabase};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};

const FILE: &str = "meta.redb";

/// Key to [`crate::envelope`]: everything that is stored.
pub(crate) const RECORDS: Definition = Definition::new("records");

/// What makes the file.
pub(crate) const TABLES: Tables = &[RECORDS];

/// Writes that wait for the committer; when so many wait, the next caller waits for room.
///
/// As many as one group commit takes, so that the next batch fills while one is committed.
const QUEUE_WRITES_MAX: usize = crate::committer::BATCH_WRITES_MAX;

/// Bytes of keys and values that wait for the committer or are being committed; when so many
/// wait, the next caller waits for room. Sixteen values of the largest size.
const QUEUE_BYTES_MAX: usize = 64 * 1_024 * 1_024;

/// Changes kept for a watcher that has not read them yet; a slower one is told that it lagged.
///
/// Sixteen full batches: whoever lags looks at everything that is stored. A change is a key, so about
/// 3 MiB, shared by all watchers, and nothing while they keep up.
const WATCH_CHANGES_MAX: usize = 16 * crate::committer::BATCH_WRITES_MAX;

/// How a store is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Memory for pages of the file, in bytes. Default 64 MiB: about 100,000 shadows.
    pub cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 64 * 1_024 * 1_024 }
    }
}

/// The storage port on a redb file in a data folder.
///
/// Writes go to one committer on a thread of its own, which makes all that wait durable in one
/// group commit. After an I/O error or on a full disk writes fail with
/// [`StoreError::Unavailable`], and the committer opens the file again until a commit succeeds.
/// Call [`RedbStore::close`] before dropping it where the folder is opened again in the same
/// process.
pub struct RedbStore {
    requests: mpsc::Sender<Request>,
    queue_bytes: Arc<Semaphore>,
    open: Arc<OpenDatabase>,
    changes: broadcast::WeakSender<Change>,
    thread: Mutex<Option<JoinHandle<()>>>,
    folder: PathBuf,
}

/// The open database, or why there is none; the committer replaces it.
///
/// Lock order: this is the only lock. Readers hold it for one short read transaction.
pub(crate) struct OpenDatabase(RwLock<Result<Database, Cause>>);

impl OpenDatabase {
    /// Runs one short transaction.
    pub(crate) fn with<T>(
        &self,
        run: impl FnOnce(&Database) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Ok(database) => run(database),
            Err(cause) => Err(cause.clone()),
        }
    }

    /// Waits for the readers, then replaces the database; the old one is closed when this returns.
    pub(crate) fn replace(&self, new: Result<Database, Cause>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
    }
}

/// What callers are told after [`RedbStore::close`].
#[derive(Debug, thiserror::Error)]
#[error("the store is closed")]
pub(crate) struct Closed;

/// What callers are told when the committer's thread is gone without having been closed.
#[derive(Debug, thiserror::Error)]
#[error("the store's committer has ended")]
struct CommitterGone;

impl RedbStore {
    /// Opens the store in the folder, makes both when they are missing, and starts its committer.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing keeps running then.
    pub fn open(
        folder: &Path,
        options: &Options,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        Self::open_with(folder, file::on_disk(options.cache_bytes), metrics)
    }

    pub(crate) fn open_with(
        folder: &Path,
        opener: Opener,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        let lock = FolderLock::take(folder)?;
        let path = folder.join(FILE);
        let (database, revision) = file::open(&opener, &path, Create::IfMissing, TABLES)?;
        let open = Arc::new(OpenDatabase(RwLock::new(Ok(database))));
        let (requests, queue) = mpsc::channel(QUEUE_WRITES_MAX);
        let changes = broadcast::Sender::new(WATCH_CHANGES_MAX);
        let weak_changes = changes.downgrade();
        let committer = Committer::new(
            queue,
            open.clone(),
            opener,
            path.clone(),
            Revision(revision),
            changes,
            metrics,
        );
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                committer.run();
                // The folder is free only when the file is closed.
                drop(lock);
            })
            .map_err(|source| OpenError::Io { path, source })?;
        Ok(Self {
            requests,
            queue_bytes: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            open,
            changes: weak_changes,
            thread: Mutex::new(Some(thread)),
            folder: folder.into(),
        })
    }

    /// Opens the journal in the same folder, makes it when it is missing. It is to be dropped
    /// before the store is closed, which frees the folder for another host.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_journal(&self) -> Result<RedbJournal, OpenError> {
        RedbJournal::open(&self.folder)
    }

    /// Commits what waits, closes the file and frees the folder. Later calls do nothing; other
    /// operations then fail with [`StoreError::Unavailable`].
    pub async fn close(&self) {
        // Fails only when the committer is gone already.
        let _ = self.requests.send(Request::Close).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && !matches!(tokio::task::spawn_blocking(|| thread.join()).await, Ok(Ok(())))
        {
            tracing::error!("store committer panicked");
        }
    }

    /// Queues one write and waits for its commit.
    async fn write(
        &self,
        key: &Key,
        value: Option<Bytes>,
        expect: Expect,
    ) -> Result<Option<Revision>, StoreError> {
        check_size(key, value.as_deref().unwrap_or_default())?;
        let gone = || StoreError::Unavailable(Arc::new(CommitterGone));
        let closed = || StoreError::Unavailable(Arc::new(Closed));
        let bytes = key.as_str().len() + value.as_ref().map_or(0, Bytes::len);
        let bytes = u32::try_from(bytes).expect("key and value are below 5 MiB");
        let room =
            self.queue_bytes.clone().acquire_many_owned(bytes).await.map_err(|_| closed())?;
        let (answer, answered) = oneshot::channel();
        let write = Write { key: key.clone(), value, expect, answer, room };
        self.requests.send(Request::Write(write)).await.map_err(|_| closed())?;
        answered.await.map_err(|_| gone())?
    }

    /// A failed read makes the committer look at the file, which may have to be opened again;
    /// when the queue is full, a write will find out.
    fn read_failed(&self, cause: Cause) -> StoreError {
        let _ = self.requests.try_send(Request::Probe);
        StoreError::Unavailable(cause)
    }
}

#[async_trait]
impl Storage for RedbStore {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let get = |database: &Database| {
            let records = records(database)?;
            match records.get(key.as_str().as_bytes()).map_err(cause)? {
                Some(stored) => record(key.clone(), stored.value()).map(Some),
                None => Ok(None),
            }
        };
        // Not worth another thread: a few pages, nearly always from memory.
        self.open.with(get).map_err(|cause| self.read_failed(cause))
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect) -> Result<Revision, StoreError> {
        let revision = self.write(key, Some(value), expect).await?;
        Ok(revision.expect("a put that succeeds changes its key"))
    }

    async fn delete(&self, key: &Key, expect: Expect) -> Result<bool, StoreError> {
        Ok(self.write(key, None, expect).await?.is_some())
    }

    async fn scan(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let (open, prefix, after) = (self.open.clone(), prefix.clone(), after.cloned());
        let scan = move || open.with(|database| scan(database, &prefix, after.as_ref(), limit));
        // May read many pages from the disk: not on a thread that serves connections.
        let found = tokio::task::spawn_blocking(scan)
            .await
            .map_err(|error| StoreError::Unavailable(Arc::new(error)))?;
        found.map_err(|cause| self.read_failed(cause))
    }

    fn watch(&self, prefix: &Key) -> Watch {
        let changes = match self.changes.upgrade() {
            Some(changes) => changes.subscribe(),
            // Closed: a channel without a sender says so.
            None => broadcast::channel(1).1,
        };
        Watch::new(prefix.clone(), changes)
    }
}

fn records(
    database: &Database,
) -> Result<redb::ReadOnlyTable<&'static [u8], &'static [u8]>, Cause> {
    let transaction: ReadTransaction = database.begin_read().map_err(cause)?;
    transaction.open_table(RECORDS).map_err(cause)
}

fn scan(
    database: &Database,
    prefix: &Key,
    after: Option<&Key>,
    limit: usize,
) -> Result<Vec<Record>, Cause> {
    let range = (file::start(prefix, after), Bound::Unbounded);
    let mut found = Vec::new();
    for entry in records(database)?.range::<&[u8]>(range).map_err(cause)? {
        let (key, stored) = entry.map_err(cause)?;
        if found.len() == limit || !key.value().starts_with(prefix.as_str().as_bytes()) {
            break;
        }
        found.push(record(file::key(key.value())?, stored.value())?);
    }
    Ok(found)
}

fn record(key: Key, stored: &[u8]) -> Result<Record, Cause> {
    let (revision, value) = envelope::decode(stored).map_err(|error| Arc::new(error) as Cause)?;
    Ok(Record { key, revision, value })
}
