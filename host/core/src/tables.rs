//! The port to tables of readings: what the `table` action keeps, so that a history needs no other
//! server.
//!
//! A table is made by the first row that names it, and gets a column for every member that a row
//! has and it has not. Beside them it has `_id` (grows from row to row) and `_time` (milliseconds
//! since the Unix epoch).
//! Not here: writing rows (an action, `actions::table`), SQLite (`gnomon-table`).

use crate::ids::TableName;
use crate::time::Timestamp;
use async_trait::async_trait;

/// A value in a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// No value.
    Null,
    /// A whole number; truth values are 0 and 1.
    Integer(i64),
    /// Any other number.
    Real(f64),
    /// A text; objects and arrays are JSON text.
    Text(String),
    /// Bytes that are no text.
    Blob(Vec<u8>),
}

/// What a query found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryResult {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// As many cells as columns each.
    pub rows: Vec<Vec<Cell>>,
    /// There was more than the bounds of a query let through.
    pub is_truncated: bool,
}

/// How long a table keeps its rows; 0 is without bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Seconds from a row's `_time` on.
    pub age_s: u64,
    /// The newest so many rows, by their arrival.
    pub rows: u64,
}

/// A table, as `gnomon table list` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Its name; case does not matter.
    pub name: TableName,
    /// Without `_id` and `_time`, in the order of their first rows.
    pub columns: Vec<String>,
    /// About how many: exact unless rows were removed out of the order of their arrival.
    pub rows: u64,
    /// Smallest `_time`.
    pub oldest: Option<Timestamp>,
    /// Largest `_time`.
    pub newest: Option<Timestamp>,
    /// How long it keeps rows.
    pub retention: Retention,
}

/// Why tables do not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TablesError {
    /// The statement is wrong, or does more than read.
    #[error("{0}")]
    Query(String),
    /// The statement takes too long.
    #[error("the query took longer than {0} ms; narrow it, e.g. by _time, which has an index")]
    Timeout(u32),
    /// There is no such table.
    #[error("there is no table {0}")]
    NotFound(TableName),
    /// As many queries run as may run at the same time.
    #[error("too many queries run; try again")]
    Busy,
    /// The disk or the file fails.
    #[error("the tables are not available: {0}")]
    Failed(String),
}

/// Tables of readings; implemented by `gnomon-table`.
#[async_trait]
pub trait Tables: Send + Sync + 'static {
    /// Runs one SQL statement that reads, in SQLite's dialect; `?1`, `?2`, … stand for the parameters.
    /// Bounded in time (`Limits::query_ms`), rows (`rows_max`, and `Limits::query_rows`) and bytes.
    ///
    /// # Errors
    /// See [`TablesError`].
    async fn query(
        &self,
        sql: &str,
        parameters: Vec<Cell>,
        rows_max: usize,
    ) -> Result<QueryResult, TablesError>;

    /// All tables by name.
    ///
    /// # Errors
    /// [`TablesError::Failed`].
    async fn list(&self) -> Result<Vec<TableInfo>, TablesError>;

    /// Says how long a table keeps its rows; what is older goes at once.
    ///
    /// # Errors
    /// [`TablesError::NotFound`], [`TablesError::Failed`].
    async fn set_retention(
        &self,
        name: &TableName,
        retention: Retention,
    ) -> Result<(), TablesError>;

    /// Removes a table with its rows.
    ///
    /// # Errors
    /// [`TablesError::NotFound`], [`TablesError::Failed`].
    async fn delete(&self, name: &TableName) -> Result<(), TablesError>;
}
