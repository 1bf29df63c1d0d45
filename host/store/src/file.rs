//! A database file: opening it, telling whether it is ours, and its header.
//!
//! A kind of file is the tables in it, all of bytes to bytes ([`Tables`]). Every kind has the table
//! `gnomon` beside them, with the format and a counter that only grows.

use gnomon_core::storage::Key;
use redb::{
    Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition, WriteTransaction,
};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A table of bytes.
pub(crate) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The tables that make a kind of file.
pub(crate) type Tables = &'static [Definition];

const HEADER: Definition = TableDefinition::new("gnomon");
const FORMAT_KEY: &[u8] = b"format";
const COUNTER_KEY: &[u8] = b"revision";

/// Grows when tables, keys or values of a file change in a way that an older host would misread.
const FORMAT: u8 = 1;

/// What made an engine fail; shared by everyone it is told to.
pub(crate) type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Boxes whatever redb failed with.
pub(crate) fn cause(error: impl Into<redb::Error>) -> Cause {
    Arc::new(error.into())
}

/// Opens the file as a redb database; makes it when told to. Tests put a failing file here.
pub(crate) type Opener =
    Box<dyn Fn(&Path, Create) -> Result<Database, DatabaseError> + Send + Sync>;

/// What to do about a missing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Create {
    /// Make it: the host starts.
    IfMissing,
    /// Fail: the host has worked with it before.
    Never,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another host works on the folder: stop it, or use another folder.
    #[error(
        "{} is held by another host{}; stop that one or choose another data folder",
        folder.display(),
        process.map(|id| format!(" (process {id})")).unwrap_or_default()
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// Its process id, when it could be read.
        process: Option<u32>,
    },
    /// The file is something else: choose another folder.
    #[error("{} is not a Gnomon store; choose another data folder", file.display())]
    NotAStore {
        /// The file.
        file: PathBuf,
    },
    /// A newer host wrote the file: update this one.
    #[error(
        "{} has format {found}, and this host knows up to {FORMAT}; use a newer gnomon",
        file.display()
    )]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u8,
    },
    /// The operating system refuses the folder or a file in it.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// redb cannot open the file: it is damaged, or its disk is.
    #[error("cannot open {}", file.display())]
    Engine {
        /// The file.
        file: PathBuf,
        /// Why.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
}

/// An opener of files on the disk, with memory for so many bytes of their pages.
pub(crate) fn on_disk(cache_bytes: usize) -> Opener {
    Box::new(move |path, create| {
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        match create {
            Create::IfMissing => builder.create(path),
            Create::Never => builder.open(path),
        }
    })
}

/// Opens the file, checks that it is ours and of this kind, and tells its counter.
pub(crate) fn open(
    opener: &Opener,
    file: &Path,
    create: Create,
    tables: Tables,
) -> Result<(Database, u64), OpenError> {
    let failed = |source: Cause| OpenError::Engine { file: file.into(), source };
    let database = opener(file, create).map_err(|error| match error {
        DatabaseError::Storage(StorageError::Io(error))
            if error.kind() == std::io::ErrorKind::InvalidData =>
        {
            OpenError::NotAStore { file: file.into() }
        }
        DatabaseError::Storage(StorageError::Io(source)) => {
            OpenError::Io { path: file.into(), source }
        }
        error => failed(cause(error)),
    })?;
    if create == Create::IfMissing && is_empty(&database).map_err(failed)? {
        lay_out(&database, tables).map_err(failed)?;
    }
    let counter = check(&database, file, tables)?;
    Ok((database, counter))
}

/// True for a file just made, or one whose first commit did not happen.
fn is_empty(database: &Database) -> Result<bool, Cause> {
    let transaction = database.begin_read().map_err(cause)?;
    Ok(transaction.list_tables().map_err(cause)?.next().is_none())
}

fn lay_out(database: &Database, tables: Tables) -> Result<(), Cause> {
    let transaction = database.begin_write().map_err(cause)?;
    for table in tables {
        transaction.open_table(*table).map_err(cause)?;
    }
    let mut header = transaction.open_table(HEADER).map_err(cause)?;
    header.insert(FORMAT_KEY, [FORMAT].as_slice()).map_err(cause)?;
    drop(header);
    set_counter(&transaction, 0)?;
    transaction.commit().map_err(cause)
}

fn check(database: &Database, file: &Path, tables: Tables) -> Result<u64, OpenError> {
    let failed = |source: Cause| OpenError::Engine { file: file.into(), source };
    let not_ours = || OpenError::NotAStore { file: file.into() };
    let transaction = database.begin_read().map_err(|error| failed(cause(error)))?;
    let open = |table| {
        transaction.open_table(table).map_err(|error| match error {
            redb::TableError::Storage(error) => failed(cause(error)),
            _ => not_ours(),
        })
    };
    let header = open(HEADER)?;
    let read = |key: &'static [u8]| match header.get(key) {
        Ok(Some(value)) => Ok(value.value().to_vec()),
        Ok(None) => Err(not_ours()),
        Err(error) => Err(failed(cause(error))),
    };
    match *read(FORMAT_KEY)? {
        [FORMAT] => {}
        [found, ..] if found > FORMAT => {
            return Err(OpenError::NewerFormat { file: file.into(), found });
        }
        _ => return Err(not_ours()),
    }
    for table in tables {
        open(*table)?;
    }
    let counter = read(COUNTER_KEY)?.try_into().map_err(|_| not_ours())?;
    Ok(u64::from_be_bytes(counter))
}

/// Sets the header's counter: the last revision, or the number of the last commit.
pub(crate) fn set_counter(transaction: &WriteTransaction, counter: u64) -> Result<(), Cause> {
    let mut header = transaction.open_table(HEADER).map_err(cause)?;
    header.insert(COUNTER_KEY, counter.to_be_bytes().as_slice()).map_err(cause)?;
    Ok(())
}

/// Where a scan of keys under the prefix begins.
pub(crate) fn start<'a>(prefix: &'a Key, after: Option<&'a Key>) -> Bound<&'a [u8]> {
    match after {
        Some(after) if after >= prefix => Bound::Excluded(after.as_str().as_bytes()),
        _ => Bound::Included(prefix.as_str().as_bytes()),
    }
}

/// A key as it is stored.
pub(crate) fn key(stored: &[u8]) -> Result<Key, Cause> {
    let text = std::str::from_utf8(stored).map_err(|error| Arc::new(error) as Cause)?;
    Ok(Key::from_text(text))
}
