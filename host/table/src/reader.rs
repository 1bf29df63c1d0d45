//! Queries: statements that read, each on a connection that can only read.
//!
//! Bounds: [`QUERIES_MAX`] at the same time, others wait as long as a query may take;
//! `Limits::query_ms`, `Limits::query_rows`, [`RESULT_BYTES_MAX`], and those of SQLite.

use crate::row::{ID, TIME};
use crate::schema::{self, quoted};
use crate::writer::to_sql;
use gnomon_core::ids::TableName;
use gnomon_core::limits::Limits;
use gnomon_core::tables::{Cell, QueryResult, Retention, TableInfo, TablesError};
use gnomon_core::time::{Clock, Timestamp};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, params_from_iter};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Queries that may run at the same time.
const QUERIES_MAX: usize = 4;

/// Bytes of cells after which a result is cut.
const RESULT_BYTES_MAX: usize = 8 * 1_024 * 1_024;

/// Steps of SQLite's machine between two looks at the clock.
const STEPS: i32 = 1_000;

/// SQLite's own bounds, where a stranger's statement needs tighter ones than SQLite's.
const LIMITS: [(Limit, i32); 5] = [
    (Limit::SQLITE_LIMIT_LENGTH, 16 * 1_024 * 1_024),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 64 * 1_024),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 200),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
];

pub struct Reader {
    path: PathBuf,
    limits: Arc<Limits>,
    clock: Arc<dyn Clock>,
    slots: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Reader {
    pub fn new(path: &Path, limits: Arc<Limits>, clock: Arc<dyn Clock>) -> Self {
        let (slots, idle) = (Semaphore::new(QUERIES_MAX), Mutex::default());
        Self { path: path.to_owned(), limits, clock, slots, idle }
    }

    /// Runs blocking work when there is a slot for it.
    pub async fn run<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, TablesError> + Send + 'static,
    ) -> Result<T, TablesError> {
        let wait = Duration::from_millis(self.limits.query_ms.into());
        let slot = tokio::time::timeout(wait, self.slots.acquire()).await;
        let slot = slot.map_err(|_| TablesError::Busy)?;
        let _slot = slot.map_err(|_| TablesError::Failed("the tables are closed".to_owned()))?;
        let reader = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&reader)).await;
        done.unwrap_or_else(|error| Err(TablesError::Failed(error.to_string())))
    }

    pub fn close(&self) {
        self.slots.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub fn query(
        &self,
        sql: &str,
        parameters: &[Cell],
        rows_max: usize,
    ) -> Result<QueryResult, TablesError> {
        let rows_max = rows_max.min(self.limits.query_rows as usize);
        let result = self.with_connection(|connection| {
            connection.authorizer(Some(may_read))?;
            let result = read(connection, sql, parameters, rows_max);
            connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
            result
        })?;
        if result.columns.is_empty() {
            let hint = "give one statement that reads, e.g. SELECT * FROM readings";
            return Err(TablesError::Query(hint.to_owned()));
        }
        Ok(result)
    }

    pub fn list(&self) -> Result<Vec<TableInfo>, TablesError> {
        self.with_connection(|connection| {
            let tables = schema::tables(connection)?;
            tables.into_iter().map(|name| info(connection, name)).collect()
        })
    }

    fn with_connection<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, TablesError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open().map_err(|error| TablesError::Failed(error.to_string()))?,
        };
        let query_ms = self.limits.query_ms;
        let deadline = self.clock.now() + Duration::from_millis(query_ms.into());
        let clock = self.clock.clone();
        let result = connection
            .progress_handler(STEPS, Some(move || clock.now() > deadline))
            .and_then(|()| work(&connection));
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        result.map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => TablesError::Timeout(query_ms),
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase,
            ) => TablesError::Failed(error.to_string()),
            _ => TablesError::Query(told(&error)),
        })
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        for (limit, value) in LIMITS {
            connection.set_limit(limit, value)?;
        }
        Ok(connection)
    }
}

/// What a statement may do: read the users' tables and what is computed of them.
fn may_read(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Recursive | AuthAction::Function { .. } => {
            Authorization::Allow
        }
        AuthAction::Read { table_name, .. } if !table_name.contains('-') => Authorization::Allow,
        _ => Authorization::Deny,
    }
}

fn read(
    connection: &Connection,
    sql: &str,
    parameters: &[Cell],
    rows_max: usize,
) -> rusqlite::Result<QueryResult> {
    let mut statement = connection.prepare(sql)?;
    let columns: Vec<_> = statement.column_names().into_iter().map(str::to_owned).collect();
    let n = columns.len();
    if n == 0 {
        return Ok(QueryResult::default());
    }
    let mut result = QueryResult { columns, ..QueryResult::default() };
    let mut bytes = 0;
    let mut rows = statement.query(params_from_iter(parameters.iter().map(to_sql)))?;
    while let Some(row) = rows.next()? {
        if result.rows.len() == rows_max || bytes > RESULT_BYTES_MAX {
            result.is_truncated = true;
            break;
        }
        let cells = (0..n).map(|at| cell(row, at, &mut bytes));
        result.rows.push(cells.collect::<rusqlite::Result<_>>()?);
    }
    Ok(result)
}

fn cell(row: &Row<'_>, at: usize, bytes: &mut usize) -> rusqlite::Result<Cell> {
    let value = row.get_ref(at)?;
    *bytes += 8;
    Ok(match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(integer) => Cell::Integer(integer),
        ValueRef::Real(real) => Cell::Real(real),
        ValueRef::Text(text) => {
            *bytes += text.len();
            Cell::Text(String::from_utf8_lossy(text).into_owned())
        }
        ValueRef::Blob(blob) => {
            *bytes += blob.len();
            Cell::Blob(blob.to_vec())
        }
    })
}

fn info(connection: &Connection, name: TableName) -> rusqlite::Result<TableInfo> {
    let table = quoted(name.as_str());
    let bounds = |column: &str| {
        let sql = format!(
            "SELECT (SELECT min({column}) FROM {table}), (SELECT max({column}) FROM {table})"
        );
        connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
    };
    let (first, last): (Option<i64>, Option<i64>) = bounds(ID)?;
    let (oldest, newest) = bounds(TIME)?;
    let at = |time: Option<i64>| Some(Timestamp::from_millis(u64::try_from(time?).ok()?));
    let sql = "SELECT age_s, rows FROM \"gnomon-retention\" WHERE \"table\" = ?1";
    let retention = connection
        .query_row(sql, [name.as_str()], |row| {
            Ok(Retention { age_s: row.get(0)?, rows: row.get(1)? })
        })
        .optional()?;
    Ok(TableInfo {
        columns: schema::columns(connection, &name)?,
        rows: first.zip(last).map_or(0, |(first, last)| (last - first + 1).cast_unsigned()),
        oldest: at(oldest),
        newest: at(newest),
        retention: retention.unwrap_or_default(),
        name,
    })
}

/// What is wrong with a statement, and where.
fn told(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, sql, offset, .. } => {
            let Some(before) = usize::try_from(*offset).ok().and_then(|at| sql.get(..at)) else {
                return msg.clone();
            };
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            format!("line {line}, column {column}: {msg}")
        }
        rusqlite::Error::InvalidParameterCount(given, wanted) => {
            format!("the statement has {wanted} parameters, {given} were given")
        }
        error if error.sqlite_error_code() == Some(ErrorCode::AuthorizationForStatementDenied) => {
            format!("{error}: a query can only read, and only the tables that rules filled")
        }
        error => error.to_string(),
    }
}
