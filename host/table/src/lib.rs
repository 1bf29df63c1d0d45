//! Tables of readings on SQLite, behind the ports `gnomon_core::tables` and `gnomon_core::actions`.
//!
//! In: results of rules, by the action ([`SqliteTables::action`]); statements that read. Out: one file,
//! `history.sqlite`. Reading order: `row` (a result becomes cells), `schema` (which tables and columns
//! there are), `writer` (the only one who writes: a thread, group commit, retention), `reader`
//! (queries, bounded in time, rows and bytes).
//!
//! A row is there once, although an action may get its message twice: with the rows the writer
//! keeps how far it came in each action's queue.

mod action;
mod reader;
mod row;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use async_trait::async_trait;
use gnomon_core::actions::Action;
use gnomon_core::ids::TableName;
use gnomon_core::limits::Limits;
use gnomon_core::tables::{Cell, QueryResult, Retention, TableInfo, Tables, TablesError};
use gnomon_core::time::Clock;
use reader::Reader;
use std::path::Path;
use std::sync::Arc;
use writer::{Request, Requests, Writer};

/// Why the tables cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// SQLite cannot use the file.
    #[error("the tables in {path} cannot be opened")]
    Sqlite {
        /// The file.
        path: String,
        /// Why.
        source: rusqlite::Error,
    },
    /// Written by another program, or by a later version of this one.
    #[error("{path} has version {found} of the tables; this host knows up to {}", schema::VERSION)]
    Version {
        /// The file.
        path: String,
        /// `PRAGMA user_version`.
        found: i64,
    },
    /// The thread that writes does not start.
    #[error("the tables' thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// All tables of one host.
pub struct SqliteTables {
    requests: Requests,
    reader: Arc<Reader>,
}

impl SqliteTables {
    /// Opens the file, and makes it when it is not there. `newest_batch` is the newest commit of the
    /// journal that the queues of actions are in: of later ones nothing can have come from it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        path: &Path,
        limits: Arc<Limits>,
        clock: Arc<dyn Clock>,
        newest_batch: u64,
    ) -> Result<Self, OpenError> {
        let writer = Writer::open(path, limits.clone(), clock.clone(), newest_batch)?;
        let requests = writer.start().map_err(OpenError::Thread)?;
        let reader = Arc::new(Reader::new(path, limits, clock));
        Ok(Self { requests, reader })
    }

    /// What rules call.
    pub fn action(&self) -> Arc<dyn Action> {
        Arc::new(action::TableAction { requests: self.requests.clone() })
    }

    /// Carries out what was asked for, and closes the file. Blocks for as long as that takes.
    pub fn close(&self) {
        self.reader.close();
        self.requests.close();
    }
}

#[async_trait]
impl Tables for SqliteTables {
    async fn query(
        &self,
        sql: &str,
        parameters: Vec<Cell>,
        rows_max: usize,
    ) -> Result<QueryResult, TablesError> {
        let sql = sql.to_owned();
        let query = move |reader: &Reader| reader.query(&sql, &parameters, rows_max);
        self.reader.clone().run(query).await
    }

    async fn list(&self) -> Result<Vec<TableInfo>, TablesError> {
        self.reader.clone().run(Reader::list).await
    }

    async fn set_retention(
        &self,
        name: &TableName,
        retention: Retention,
    ) -> Result<(), TablesError> {
        let name = name.clone();
        self.requests.ask(|answer| Request::Retain { name, retention, answer }).await
    }

    async fn delete(&self, name: &TableName) -> Result<(), TablesError> {
        let name = name.clone();
        self.requests.ask(|answer| Request::Delete { name, answer }).await
    }
}
