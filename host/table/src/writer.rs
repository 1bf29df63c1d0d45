//! The only one who writes: a thread that takes all that waits, and commits it at once.
//!
//! In: [`Request`]s. Out: answers, when what was asked for is on the disk. Between the commits it
//! removes what is older than the tables keep, and the oldest rows of all when the file has
//! `Limits::table_bytes`; their pages are used again, the file does not shrink.
//! Bounds: [`REQUESTS_MAX`] requests wait; one more is told to try again.

use crate::OpenError;
use crate::row::{ID, TIME};
use crate::schema::{self, COLUMNS_MAX, Schema, quoted};
use gnomon_core::actions::{ActionError, Failure, Position};
use gnomon_core::ids::TableName;
use gnomon_core::limits::Limits;
use gnomon_core::tables::{Cell, Retention, TablesError};
use gnomon_core::time::Clock;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Requests that may wait.
const REQUESTS_MAX: usize = 1_024;

/// Rows in one commit, about.
const COMMIT_ROWS_MAX: usize = 10_000;

/// Between two looks at what is too old.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Rows removed in one commit, so that no writer waits for long.
const PRUNE_ROWS: i64 = 5_000;

/// Rows removed between two looks at how full the file is.
const ROOM_ROWS: i64 = 100;

/// Statements that stay prepared: one per table and set of columns.
const STATEMENTS: usize = 256;

/// How an answer comes back.
pub type Answer<T, E> = oneshot::Sender<Result<T, E>>;

/// What the writer is asked for.
pub enum Request {
    /// The answer lists the rows that cannot be.
    Insert {
        insert: Insert,
        answer: Answer<Vec<Failure>, ActionError>,
    },
    Retain {
        name: TableName,
        retention: Retention,
        answer: Answer<(), TablesError>,
    },
    Delete {
        name: TableName,
        answer: Answer<(), TablesError>,
    },
}

/// Rows of one call of the action.
pub struct Insert {
    pub lane: Arc<str>,
    pub table: TableName,
    pub rows: Vec<Row>,
}

/// One row.
pub struct Row {
    /// Of its message in the call.
    pub index: usize,
    /// Of its message in the lane.
    pub position: Position,
    pub time_ms: i64,
    pub cells: Vec<(String, Cell)>,
}

/// The way to the writer.
#[derive(Clone)]
pub struct Requests(Arc<Mutex<Option<Thread>>>);

/// What to ask, and what to wait for in the end.
type Thread = (SyncSender<Request>, JoinHandle<()>);

/// Why there is no answer.
pub struct Unanswered(&'static str);

impl From<Unanswered> for ActionError {
    fn from(Unanswered(reason): Unanswered) -> Self {
        Self::Retryable(reason.to_owned())
    }
}

impl From<Unanswered> for TablesError {
    fn from(Unanswered(reason): Unanswered) -> Self {
        Self::Failed(reason.to_owned())
    }
}

impl Requests {
    /// Asks and waits for the answer.
    pub async fn ask<T, E: From<Unanswered>>(
        &self,
        request: impl FnOnce(Answer<T, E>) -> Request,
    ) -> Result<T, E> {
        let (answer, answered) = oneshot::channel();
        {
            let writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some((requests, _)) = &*writer else {
                return Err(Unanswered("the tables are closed").into());
            };
            requests.try_send(request(answer)).map_err(|error| match error {
                TrySendError::Full(_) => Unanswered("too much waits for the tables"),
                TrySendError::Disconnected(_) => Unanswered("the tables' thread has ended"),
            })?;
        }
        answered.await.unwrap_or_else(|_| Err(Unanswered("the tables' thread has ended").into()))
    }

    /// Takes no more, and waits for the writer's end.
    pub fn close(&self) {
        let writer = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((requests, thread)) = writer else { return };
        drop(requests);
        if thread.join().is_err() {
            tracing::error!("the tables' thread panicked");
        }
    }
}

pub struct Writer {
    connection: Connection,
    schema: Schema,
    /// How far each lane is in the tables.
    marks: HashMap<Arc<str>, Position>,
    limits: Arc<Limits>,
    clock: Arc<dyn Clock>,
    prune_at: Instant,
}

impl Writer {
    pub fn open(
        path: &Path,
        limits: Arc<Limits>,
        clock: Arc<dyn Clock>,
        newest_batch: u64,
    ) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Sqlite { path: path.display().to_string(), source };
        let connection = Connection::open(path).map_err(failed)?;
        configure(&connection).map_err(failed)?;
        let found = schema::prepare(&connection).map_err(failed)?;
        if !(0..=schema::VERSION).contains(&found) {
            return Err(OpenError::Version { path: path.display().to_string(), found });
        }
        let schema = Schema::read(&connection).map_err(failed)?;
        let marks = read_marks(&connection, newest_batch).map_err(failed)?;
        let prune_at = clock.now();
        Ok(Self { connection, schema, marks, limits, clock, prune_at })
    }

    pub fn start(self) -> std::io::Result<Requests> {
        let (sender, receiver) = sync_channel(REQUESTS_MAX);
        let thread = std::thread::Builder::new().name("tables".into());
        let thread = thread.spawn(move || self.run(&receiver))?;
        Ok(Requests(Arc::new(Mutex::new(Some((sender, thread))))))
    }

    /// Until nobody can ask any more.
    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let pause = self.prune_at.saturating_duration_since(self.clock.now());
            match requests.recv_timeout(pause) {
                Ok(first) => self.carry_out(first, requests),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.clock.now() >= self.prune_at {
                let is_done = self.prune().unwrap_or_else(|error| {
                    tracing::error!(%error, "old rows cannot be removed");
                    true
                });
                self.prune_at =
                    self.clock.now() + if is_done { PRUNE_EVERY } else { Duration::ZERO };
            }
        }
    }

    /// Inserts that wait together are committed together.
    fn carry_out(&mut self, first: Request, requests: &Receiver<Request>) {
        let mut group = Vec::new();
        let mut rows = 0;
        let mut next = Some(first);
        while let Some(request) = next.take() {
            match request {
                Request::Insert { insert, answer } => {
                    rows += insert.rows.len();
                    group.push((insert, answer));
                }
                Request::Retain { name, retention, answer } => {
                    let _ = answer.send(self.retain(&name, retention));
                }
                Request::Delete { name, answer } => {
                    let _ = answer.send(self.delete(&name));
                }
            }
            if rows < COMMIT_ROWS_MAX {
                next = requests.try_recv().ok();
            }
        }
        if !group.is_empty() {
            self.insert_all(group);
        }
    }

    fn insert_all(&mut self, group: Vec<(Insert, Answer<Vec<Failure>, ActionError>)>) {
        let inserts: Vec<_> = group.iter().map(|(insert, _)| insert).collect();
        match self.commit(&inserts) {
            Ok(results) => {
                for ((_, answer), result) in group.into_iter().zip(results) {
                    let _ = answer.send(result);
                }
            }
            // One by one, so that nobody fails for somebody else.
            Err(_) if group.len() > 1 => {
                for (insert, answer) in group {
                    let result = self.commit(&[&insert]);
                    let _ = answer.send(single(result));
                }
            }
            Err(error) => {
                for (_, answer) in group {
                    let _ = answer.send(Err(action_error(&error)));
                }
            }
        }
        let used = self.used_bytes();
        if used.is_ok_and(|used| used > self.limits.table_bytes) {
            self.prune_at = self.clock.now();
        }
    }

    /// One transaction; per call of the action what it refused.
    fn commit(
        &mut self,
        inserts: &[&Insert],
    ) -> rusqlite::Result<Vec<Result<Vec<Failure>, ActionError>>> {
        let mut marks = HashMap::new();
        self.transaction(|writer| {
            let results = inserts.iter().map(|insert| {
                if !writer.schema.has(&insert.table) {
                    let tables_max = writer.limits.tables;
                    if writer.schema.len() >= tables_max as usize {
                        let reason = format!("there are {tables_max} tables already");
                        return Ok(Err(ActionError::Permanent(reason)));
                    }
                    writer.schema.create(&writer.connection, &insert.table)?;
                }
                let known = marks.get(&insert.lane).or_else(|| writer.marks.get(&insert.lane));
                let mark = known.copied();
                let failures = writer.insert(insert, mark)?;
                if let Some(last) = insert.rows.last().map(|row| row.position)
                    && mark < Some(last)
                {
                    writer.keep_mark(&insert.lane, last)?;
                    marks.insert(insert.lane.clone(), last);
                }
                Ok(Ok(failures))
            });
            results.collect()
        })
        .inspect(|_| self.marks.extend(marks))
    }

    /// All or nothing, in memory too.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let result = work(self).and_then(|done| {
            self.connection.execute_batch("COMMIT")?;
            Ok(done)
        });
        if result.is_err() {
            if !self.connection.is_autocommit() {
                let _ = self.connection.execute_batch("ROLLBACK");
            }
            self.schema = Schema::read(&self.connection)?;
        }
        result
    }

    /// Writes the rows behind the mark: those up to it are there already.
    fn insert(
        &mut self,
        insert: &Insert,
        mark: Option<Position>,
    ) -> rusqlite::Result<Vec<Failure>> {
        let Insert { table, rows, .. } = insert;
        let mut failures = Vec::new();
        let mut sql = String::new();
        let mut columns: &[(String, Cell)] = &[];
        for row in rows.iter().filter(|row| Some(row.position) > mark) {
            let names = row.cells.iter().map(|(name, _)| name);
            if sql.is_empty() || !columns.iter().map(|(name, _)| name).eq(names.clone()) {
                let connection = &self.connection;
                if !self.schema.widen(connection, table, names.map(String::as_str))? {
                    let reason = format!("table {table} has {COLUMNS_MAX} columns already");
                    failures.push(Failure { index: row.index, retryable: false, reason });
                    continue;
                }
                (sql, columns) = (insert_sql(table, &row.cells), &row.cells);
            }
            let mut statement = self.connection.prepare_cached(&sql)?;
            statement.raw_bind_parameter(1, row.time_ms)?;
            for (at, (_, cell)) in (2..).zip(&row.cells) {
                statement.raw_bind_parameter(at, to_sql(cell))?;
            }
            statement.raw_execute()?;
        }
        Ok(failures)
    }

    fn keep_mark(&self, lane: &str, mark: Position) -> rusqlite::Result<()> {
        let sql = "REPLACE INTO \"gnomon-lanes\" (lane, batch, position) VALUES (?1, ?2, ?3)";
        let batch = mark.batch.cast_signed();
        self.connection.prepare_cached(sql)?.execute(params![lane, batch, mark.index])?;
        Ok(())
    }

    fn retain(&mut self, name: &TableName, retention: Retention) -> Result<(), TablesError> {
        if !self.schema.has(name) {
            return Err(TablesError::NotFound(name.clone()));
        }
        let sql = "REPLACE INTO \"gnomon-retention\" VALUES (?1, ?2, ?3)";
        let (age_s, rows) = (signed(retention.age_s), signed(retention.rows));
        self.connection.execute(sql, params![name.as_str(), age_s, rows]).map_err(failed)?;
        self.prune_at = self.clock.now();
        Ok(())
    }

    fn delete(&mut self, name: &TableName) -> Result<(), TablesError> {
        if !self.schema.has(name) {
            return Err(TablesError::NotFound(name.clone()));
        }
        self.transaction(|writer| {
            let sql = "DELETE FROM \"gnomon-retention\" WHERE \"table\" = ?1";
            writer.connection.execute(sql, [name.as_str()])?;
            writer.schema.remove(&writer.connection, name)
        })
        .map_err(failed)
    }

    /// Removes some of what is to be removed; true when nothing is left to remove.
    fn prune(&mut self) -> rusqlite::Result<bool> {
        let now_ms = signed(self.clock.wall().as_millis());
        let mut is_done = true;
        for (table, age_s, rows) in self.retentions()? {
            let name = quoted(&table);
            let mut removed = 0;
            if age_s > 0 {
                let before = now_ms.saturating_sub(age_s.saturating_mul(1_000));
                let sql = format!(
                    "DELETE FROM {name} WHERE {ID} IN \
                     (SELECT {ID} FROM {name} WHERE {TIME} < ?1 ORDER BY {TIME} LIMIT {PRUNE_ROWS})"
                );
                removed = self.connection.execute(&sql, [before])?;
            }
            if rows > 0 {
                let sql = format!(
                    "DELETE FROM {name} WHERE {ID} IN (SELECT {ID} FROM {name} \
                     WHERE {ID} <= (SELECT max({ID}) FROM {name}) - ?1 ORDER BY {ID} LIMIT {PRUNE_ROWS})"
                );
                removed = removed.max(self.connection.execute(&sql, [rows])?);
            }
            if removed > 0 {
                tracing::debug!(table, removed, "old rows removed");
            }
            is_done &= signed(removed as u64) < PRUNE_ROWS;
        }
        Ok(self.make_room()? && is_done)
    }

    /// Tables, seconds and rows.
    fn retentions(&self) -> rusqlite::Result<Vec<(String, i64, i64)>> {
        let sql = "SELECT \"table\", age_s, rows FROM \"gnomon-retention\"";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        rows.collect()
    }

    /// Removes oldest rows while the file has too much; false when it still has.
    fn make_room(&mut self) -> rusqlite::Result<bool> {
        let limit = self.limits.table_bytes;
        if self.used_bytes()? <= limit {
            return Ok(true);
        }
        let Some((table, _)) = self.oldest()? else { return Ok(true) };
        let name = quoted(table.as_str());
        let sql = format!(
            "DELETE FROM {name} WHERE {ID} IN \
             (SELECT {ID} FROM {name} ORDER BY {TIME} LIMIT {ROOM_ROWS})"
        );
        let removed = self.transaction(|writer| {
            let mut removed = 0;
            while removed < PRUNE_ROWS && writer.used_bytes()? > limit {
                match writer.connection.execute(&sql, [])? {
                    0 => break,
                    n => removed += signed(n as u64),
                }
            }
            Ok(removed)
        })?;
        tracing::warn!(%table, removed, limit, "the tables are full: the oldest rows are removed");
        Ok(self.used_bytes()? <= limit)
    }

    /// The table that has the oldest row.
    fn oldest(&self) -> rusqlite::Result<Option<(TableName, i64)>> {
        let mut oldest: Option<(TableName, i64)> = None;
        for table in schema::tables(&self.connection)? {
            let sql = format!("SELECT min({TIME}) FROM {}", quoted(table.as_str()));
            let time = self.connection.query_row(&sql, [], |row| row.get(0)).optional()?.flatten();
            if let Some(time) = time
                && oldest.as_ref().is_none_or(|(_, oldest)| time < *oldest)
            {
                oldest = Some((table, time));
            }
        }
        Ok(oldest)
    }

    /// Bytes of the pages in use.
    fn used_bytes(&self) -> rusqlite::Result<u64> {
        let value =
            |pragma: &str| self.connection.query_row(pragma, [], |row| row.get::<_, u64>(0));
        let pages = value("PRAGMA page_count")?.saturating_sub(value("PRAGMA freelist_count")?);
        Ok(pages * value("PRAGMA page_size")?)
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A row is on the disk before its message is done with.
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1_024 * 1_024)
}

fn read_marks(
    connection: &Connection,
    newest_batch: u64,
) -> rusqlite::Result<HashMap<Arc<str>, Position>> {
    // The journal began anew: its numbers mean other messages now.
    let sql = "DELETE FROM \"gnomon-lanes\" WHERE batch > ?1";
    connection.execute(sql, [newest_batch.cast_signed()])?;
    let mut statement = connection.prepare("SELECT lane, batch, position FROM \"gnomon-lanes\"")?;
    let marks = statement.query_map([], |row| {
        let position =
            Position { batch: row.get::<_, i64>(1)?.cast_unsigned(), index: row.get(2)? };
        Ok((row.get::<_, Arc<str>>(0)?, position))
    })?;
    marks.collect()
}

fn insert_sql(table: &TableName, cells: &[(String, Cell)]) -> String {
    let mut sql = format!("INSERT INTO {} ({TIME}", quoted(table.as_str()));
    for (name, _) in cells {
        sql.push_str(", ");
        sql.push_str(&quoted(name));
    }
    sql.push_str(") VALUES (?");
    sql.extend(cells.iter().map(|_| ", ?"));
    sql.push(')');
    sql
}

/// Of a commit of one call.
fn single(
    result: rusqlite::Result<Vec<Result<Vec<Failure>, ActionError>>>,
) -> Result<Vec<Failure>, ActionError> {
    match result {
        Ok(mut results) => results.pop().unwrap_or(Ok(Vec::new())),
        Err(error) => Err(action_error(&error)),
    }
}

pub fn to_sql(cell: &Cell) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match cell {
        Cell::Null => ValueRef::Null,
        Cell::Integer(integer) => ValueRef::Integer(*integer),
        Cell::Real(real) => ValueRef::Real(*real),
        Cell::Text(text) => ValueRef::Text(text.as_bytes()),
        Cell::Blob(bytes) => ValueRef::Blob(bytes),
    })
}

/// SQLite's integers have a sign; what is beyond them is without bound.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn action_error(error: &rusqlite::Error) -> ActionError {
    let reason = format!("tables: {error}");
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory
            | ErrorCode::ReadOnly,
        ) => ActionError::Retryable(reason),
        _ => ActionError::Permanent(reason),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: rusqlite::Error) -> TablesError {
    TablesError::Failed(error.to_string())
}
