//! The database file: opening it, telling whether it is ours, and what is in it.
//!
//! Two tables of bytes: `records` (key to [`crate::envelope`]) and `gnomon` (format version, last
//! revision).

use gnomon_core::storage::Revision;
use redb::{
    Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition, WriteTransaction,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything that is stored.
pub(crate) const RECORDS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("records");

const HEADER: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("gnomon");
const FORMAT_KEY: &[u8] = b"format";
const REVISION_KEY: &[u8] = b"revision";

/// Grows when tables, keys or the envelope change in a way that an older host would misread.
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

/// Opens the file, checks that it is ours, and tells the last revision in it.
pub(crate) fn open(
    opener: &Opener,
    file: &Path,
    create: Create,
) -> Result<(Database, Revision), OpenError> {
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
        lay_out(&database).map_err(failed)?;
    }
    let revision = check_header(&database, file)?;
    Ok((database, revision))
}

/// True for a file just made, or one whose first commit did not happen.
fn is_empty(database: &Database) -> Result<bool, Cause> {
    let transaction = database.begin_read().map_err(cause)?;
    Ok(transaction.list_tables().map_err(cause)?.next().is_none())
}

fn lay_out(database: &Database) -> Result<(), Cause> {
    let transaction = begin(database)?;
    transaction.open_table(RECORDS).map_err(cause)?;
    let mut header = transaction.open_table(HEADER).map_err(cause)?;
    header.insert(FORMAT_KEY, [FORMAT].as_slice()).map_err(cause)?;
    drop(header);
    set_revision(&transaction, Revision(0))?;
    transaction.commit().map_err(cause)
}

fn check_header(database: &Database, file: &Path) -> Result<Revision, OpenError> {
    let failed = |source: Cause| OpenError::Engine { file: file.into(), source };
    let not_ours = || OpenError::NotAStore { file: file.into() };
    let transaction = database.begin_read().map_err(|error| failed(cause(error)))?;
    let header = transaction.open_table(HEADER).map_err(|error| match error {
        redb::TableError::Storage(error) => failed(cause(error)),
        _ => not_ours(),
    })?;
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
    let revision = read(REVISION_KEY)?.try_into().map_err(|_| not_ours())?;
    Ok(Revision(u64::from_be_bytes(revision)))
}

/// Begins a durable write transaction.
pub(crate) fn begin(database: &Database) -> Result<WriteTransaction, Cause> {
    let mut transaction = database.begin_write().map_err(cause)?;
    // Opening after a crash then takes 10 ms instead of 3 s per million keys; no cost from a
    // hundred writes per commit up. Durability is redb's default: immediate.
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Keeps the last revision, so that revisions grow over the life of the store.
pub(crate) fn set_revision(
    transaction: &WriteTransaction,
    revision: Revision,
) -> Result<(), Cause> {
    let mut header = transaction.open_table(HEADER).map_err(cause)?;
    header.insert(REVISION_KEY, revision.0.to_be_bytes().as_slice()).map_err(cause)?;
    Ok(())
}
