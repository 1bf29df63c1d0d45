//! The journal port on redb: one transaction, and one sync of the disk, per commit.
//!
//! In: `Journal`, from the one thread that owns it. Out: the file `queue.redb`, with the tables
//! `log` (number of the commit, big-endian, to its record) and `documents` (key to bytes); the
//! header's counter is the number of the last commit.
//! The file does not shrink by itself: it is compacted when it is opened and mostly free.

use crate::OpenError;
use crate::file::{self, Cause, Create, Definition, Opener, Tables, cause};
use bytes::Bytes;
use gnomon_core::storage::{Commit, Journal, Key, StoreError};
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, WriteTransaction};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FILE: &str = "queue.redb";

const LOG: Definition = Definition::new("log");
const DOCUMENTS: Definition = Definition::new("documents");
const TABLES: Tables = &[LOG, DOCUMENTS];

/// Memory for pages of the file: what is written is read again at the start only.
const CACHE_BYTES: usize = 16 * 1_024 * 1_024;

/// A smaller file is not worth compacting.
const COMPACTED_BYTES_MIN: u64 = 64 * 1_024 * 1_024;

/// The journal port on a redb file in a data folder that a [`crate::RedbStore`] holds.
pub struct RedbJournal {
    path: PathBuf,
    opener: Opener,
    /// `None` between a failed commit and a recovery.
    database: Option<Database>,
    /// The last commit that is known to be durable.
    last: u64,
}

/// What callers are told between a failed commit and a recovery.
#[derive(Debug, thiserror::Error)]
#[error("the journal failed and has not been opened again")]
struct NotOpen;

impl RedbJournal {
    pub(crate) fn open(folder: &Path) -> Result<Self, OpenError> {
        Self::open_with(folder, file::on_disk(CACHE_BYTES))
    }

    pub(crate) fn open_with(folder: &Path, opener: Opener) -> Result<Self, OpenError> {
        let path = folder.join(FILE);
        let (mut database, last) = file::open(&opener, &path, Create::IfMissing, TABLES)?;
        if let Err(error) = compact_if_free(&mut database, &path) {
            tracing::warn!(%error, file = %path.display(), "journal stays as large as it is");
        }
        Ok(Self { path, opener, database: Some(database), last })
    }

    fn database(&self) -> Result<&Database, StoreError> {
        self.database.as_ref().ok_or_else(|| StoreError::Unavailable(Arc::new(NotOpen)))
    }
}

impl Journal for RedbJournal {
    fn last(&self) -> u64 {
        self.last
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let database = self.database()?;
        commit.check_follows(self.last)?;
        if let Err(cause) = write(database, commit) {
            // After an error redb answers nothing more until it is opened again.
            self.database = None;
            return Err(StoreError::Unavailable(cause));
        }
        self.last = commit.number;
        Ok(())
    }

    fn recover(&mut self) -> Result<u64, StoreError> {
        // Closed first: redb holds a lock on the file.
        self.database = None;
        let unavailable = |cause| StoreError::Unavailable(cause);
        let (database, last) = file::open(&self.opener, &self.path, Create::Never, TABLES)
            .map_err(|error| unavailable(Arc::new(error) as Cause))?;
        // What is read now may not have reached the disk: a commit that succeeds says that it has.
        let sync = || -> Result<(), Cause> {
            let transaction = database.begin_write().map_err(cause)?;
            file::set_counter(&transaction, last)?;
            transaction.commit().map_err(cause)
        };
        sync().map_err(unavailable)?;
        self.database = Some(database);
        self.last = last;
        Ok(last)
    }

    fn records(&self, from: u64, limit: usize) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let read = |database| {
            let start = from.to_be_bytes();
            let records = table(database, LOG)?;
            let records = records.range::<&[u8]>(start.as_slice()..).map_err(cause)?;
            let read = records.take(limit).map(|entry| {
                let (number, record) = entry.map_err(cause)?;
                let number = number.value().try_into().map_err(|error| Arc::new(error) as Cause)?;
                Ok((u64::from_be_bytes(number), Bytes::copy_from_slice(record.value())))
            });
            read.collect::<Result<Vec<_>, Cause>>()
        };
        read(self.database()?).map_err(StoreError::Unavailable)
    }

    fn documents(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let read = |database| {
            let documents = table(database, DOCUMENTS)?;
            let range = (file::start(prefix, after), Bound::Unbounded);
            let mut found = Vec::new();
            for entry in documents.range::<&[u8]>(range).map_err(cause)? {
                let (key, value) = entry.map_err(cause)?;
                if found.len() == limit || !key.value().starts_with(prefix.as_str().as_bytes()) {
                    break;
                }
                found.push((file::key(key.value())?, Bytes::copy_from_slice(value.value())));
            }
            Ok(found)
        };
        read(self.database()?).map_err(StoreError::Unavailable)
    }
}

fn table(
    database: &Database,
    definition: Definition,
) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>, Cause> {
    database.begin_read().map_err(cause)?.open_table(definition).map_err(cause)
}

fn write(database: &Database, commit: &Commit) -> Result<(), Cause> {
    // Without quick repair, which would sync twice: the file is small, and so is its repair.
    let transaction = database.begin_write().map_err(cause)?;
    write_log(&transaction, commit)?;
    if !commit.documents.is_empty() {
        let mut documents = transaction.open_table(DOCUMENTS).map_err(cause)?;
        for (key, value) in &commit.documents {
            let key = key.as_str().as_bytes();
            match value {
                Some(value) => documents.insert(key, &**value),
                None => documents.remove(key),
            }
            .map_err(cause)?;
        }
    }
    file::set_counter(&transaction, commit.number)?;
    transaction.commit().map_err(cause)
}

fn write_log(transaction: &WriteTransaction, commit: &Commit) -> Result<(), Cause> {
    let mut log = transaction.open_table(LOG).map_err(cause)?;
    let trim_below = commit.trim_below.to_be_bytes();
    let is_used_up = |log: &redb::Table<'_, &'static [u8], &'static [u8]>| match log.first() {
        Ok(first) => Ok(first.is_some_and(|(number, _)| number.value() < trim_below.as_slice())),
        Err(error) => Err(cause(error)),
    };
    while is_used_up(&log)? {
        log.pop_first().map_err(cause)?;
    }
    if let Some(record) = &commit.record {
        log.insert(commit.number.to_be_bytes().as_slice(), &**record).map_err(cause)?;
    }
    Ok(())
}

/// Compacts a large file of which more than half is free.
fn compact_if_free(database: &mut Database, path: &Path) -> Result<(), Cause> {
    let bytes = std::fs::metadata(path).map_err(|error| Arc::new(error) as Cause)?.len();
    if bytes < COMPACTED_BYTES_MIN {
        return Ok(());
    }
    let transaction = database.begin_write().map_err(cause)?;
    let stats = transaction.stats().map_err(cause)?;
    transaction.abort().map_err(cause)?;
    let used = stats.stored_bytes() + stats.metadata_bytes();
    if used < bytes / 2 {
        database.compact().map_err(cause)?;
        tracing::info!(file = %path.display(), before = bytes, used, "journal compacted");
    }
    Ok(())
}
