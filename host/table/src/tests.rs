//! The tables as a whole, on real files.

use crate::{OpenError, SqliteTables};
use gnomon_core::actions::{ActionContext, ActionError, Failure, Position};
use gnomon_core::ids::{RuleName, TableName};
use gnomon_core::limits::Limits;
use gnomon_core::message::Message;
use gnomon_core::tables::{Cell, Retention, Tables, TablesError};
use gnomon_core::time::{Clock, ManualClock, SystemClock, Timestamp};
use gnomon_core::topic::TopicName;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

struct Bed {
    folder: TempDir,
    limits: Limits,
    clock: Arc<dyn Clock>,
}

impl Bed {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        Self { folder: tempfile::tempdir().unwrap(), limits: Limits::default(), clock }
    }

    fn open(&self) -> SqliteTables {
        self.open_behind(u64::MAX >> 1)
    }

    fn open_behind(&self, newest_batch: u64) -> SqliteTables {
        let limits = Arc::new(self.limits.clone());
        SqliteTables::open(&self.path(), limits, self.clock.clone(), newest_batch).unwrap()
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("history.sqlite")
    }
}

/// Rows at these positions of a lane's first batch, taken at second 1,000.
async fn insert(
    tables: &SqliteTables,
    params: &str,
    rows: &[(u32, &str)],
) -> Result<Vec<Failure>, ActionError> {
    let topic = TopicName::parse("a").unwrap();
    let at = Timestamp::from_millis(1_000_000);
    let messages = rows.iter().map(|(_, result)| {
        Arc::new(Message::new(topic.clone(), (*result).to_owned(), Arc::default(), at))
    });
    let messages: Vec<_> = messages.collect();
    let context = ActionContext {
        rule: RuleName::parse("Keep").unwrap(),
        action: 0,
        params: params.into(),
        is_error_action: false,
        lane: "rule/Keep/0".into(),
        positions: rows.iter().map(|&(index, _)| Position { batch: 1, index }).collect(),
    };
    tables.action().invoke(&context, &messages).await
}

const READINGS: &str = r#"{"tableName": "readings"}"#;

async fn ask(tables: &SqliteTables, sql: &str) -> Result<String, TablesError> {
    let result = tables.query(sql, Vec::new(), 1_000).await?;
    let rows = result.rows.iter().map(|row| {
        let cells = row.iter().map(|cell| match cell {
            Cell::Null => "-".to_owned(),
            Cell::Integer(integer) => integer.to_string(),
            Cell::Real(real) => format!("{real:?}"),
            Cell::Text(text) => text.clone(),
            Cell::Blob(bytes) => format!("{bytes:?}"),
        });
        cells.collect::<Vec<_>>().join(" ")
    });
    Ok(rows.collect::<Vec<_>>().join("; "))
}

fn name(text: &str) -> TableName {
    TableName::parse(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_there_once_and_after_a_restart_too() {
    let bed = Bed::new();
    let tables = bed.open();
    let rows = [(0, r#"{"room": "hall", "temp": 1}"#), (1, r#"{"temp": 2.5, "tags": ["x"]}"#)];
    assert_eq!(insert(&tables, READINGS, &rows).await, Ok(Vec::new()));
    // The host died before it noted that they are done: they come again, and one more.
    let rows = [rows[0], rows[1], (2, "text")];
    assert_eq!(insert(&tables, READINGS, &rows).await, Ok(Vec::new()));
    let sql = "SELECT _id, _time, room, temp, tags, value FROM readings ORDER BY _id";
    let expected = "1 1000000 hall 1 - -; 2 1000000 - 2.5 [\"x\"] -; 3 1000000 - - - text";
    assert_eq!(ask(&tables, sql).await.unwrap(), expected);
    tables.close();
    assert!(insert(&tables, READINGS, &[(3, "1")]).await.is_err());
    let tables = bed.open();
    assert_eq!(insert(&tables, READINGS, &rows).await, Ok(Vec::new()));
    assert_eq!(ask(&tables, sql).await.unwrap(), expected);
    tables.close();
    // A new journal counts from the beginning: its messages are others.
    let tables = bed.open_behind(0);
    assert_eq!(insert(&tables, READINGS, &rows[2..]).await, Ok(Vec::new()));
    assert_eq!(ask(&tables, "SELECT count(*) FROM readings").await.unwrap(), "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_row_fails_alone() {
    let bed = Bed::new();
    let tables = bed.open();
    let wide: Vec<_> = (0..257).map(|at| format!("\"c{at}\": 0")).collect();
    let wide = format!("{{{}}}", wide.join(","));
    let rows = [
        (0, "{\"_id\": 1}"),
        (1, "{\"a\": 1}"),
        (2, &wide),
        (3, "{\"b\": 2, \"B\": 3}"),
        (4, "{\"A\": 4}"),
    ];
    let failures = insert(&tables, READINGS, &rows).await.unwrap();
    let told: Vec<_> = failures.iter().map(|it| (it.index, it.retryable, &*it.reason)).collect();
    assert_eq!(
        told,
        [
            (0, false, "every table has a column _id of its own; rename it with AS"),
            (
                3,
                false,
                "members \"b\" and \"B\" would be the same column, because SQL does not tell cases \
                 apart; rename one with AS"
            ),
            (2, false, "table readings has 256 columns already"),
        ]
    );
    assert_eq!(ask(&tables, "SELECT a FROM readings").await.unwrap(), "1; 4");
    for (params, expected) in [
        (r#"{"tableName": "a b"}"#, "tableName: table name has a character at byte 1 that is"),
        (r#"{"tableName": "sqlite_x"}"#, "tables: object name reserved for internal use"),
        ("{}", "missing field `tableName`"),
    ] {
        let error = insert(&tables, params, &[(5, "1")]).await.unwrap_err();
        assert!(
            matches!(&error, ActionError::Permanent(it) if it.starts_with(expected)),
            "{error:?}"
        );
    }
    let soon = r#"{"tableName": "readings", "timestamp": "soon"}"#;
    let failures = insert(&tables, soon, &[(6, "1")]).await.unwrap();
    assert!(failures[0].reason.starts_with("timestamp: soon are no milliseconds"), "{failures:?}");
    let at = r#"{"tableName": "readings", "timestamp": "7"}"#;
    assert_eq!(insert(&tables, at, &[(7, "1")]).await, Ok(Vec::new()));
    assert_eq!(ask(&tables, "SELECT min(_time) FROM readings").await.unwrap(), "7");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_devices_send_is_never_sql() {
    let bed = Bed::new();
    let tables = bed.open();
    let hostile = r#"x"; DROP TABLE readings; --"#;
    let row = serde_json::json!({ hostile: hostile, "'": "'); DELETE FROM readings; --" });
    let row = row.to_string();
    assert_eq!(insert(&tables, READINGS, &[(0, &row), (1, &row)]).await, Ok(Vec::new()));
    let sql = r#"SELECT count(*), max("'"), max("x""; DROP TABLE readings; --") FROM readings"#;
    let expected = format!("2 '); DELETE FROM readings; -- {hostile}");
    assert_eq!(ask(&tables, sql).await.unwrap(), expected);
    let params = serde_json::json!({ "tableName": hostile }).to_string();
    assert!(insert(&tables, &params, &[(2, "1")]).await.is_err());
    let parameter = vec![Cell::Text("' OR 1 = 1 --".to_owned())];
    let sql = r#"SELECT * FROM readings WHERE "'" = ?1"#;
    assert_eq!(tables.query(sql, parameter, 10).await.unwrap().rows.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_only_so_many_tables() {
    let mut bed = Bed::new();
    bed.limits.tables = 1;
    let tables = bed.open();
    assert_eq!(insert(&tables, READINGS, &[(0, "1")]).await, Ok(Vec::new()));
    let error = insert(&tables, r#"{"tableName": "other"}"#, &[(1, "1")]).await.unwrap_err();
    assert_eq!(error, ActionError::Permanent("there are 1 tables already".to_owned()));
    assert_eq!(insert(&tables, r#"{"tableName": "Readings"}"#, &[(2, "1")]).await, Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_reads_and_does_nothing_else() {
    let bed = Bed::new();
    let tables = bed.open();
    insert(&tables, READINGS, &[(0, r#"{"a": 1}"#), (1, r#"{"a": 2}"#)]).await.unwrap();
    for sql in [
        "DELETE FROM readings",
        "INSERT INTO readings (_time) VALUES (1)",
        "CREATE TABLE other (a)",
        "DROP TABLE readings",
        "PRAGMA journal_mode = delete",
        "ATTACH 'other' AS other",
        "SELECT * FROM \"gnomon-lanes\"",
        "BEGIN",
        "SELECT 1; DELETE FROM readings",
        "SELECT load_extension('x')",
        "-- nothing",
    ] {
        let error = ask(&tables, sql).await.unwrap_err();
        assert!(matches!(error, TablesError::Query(_)), "{sql}: {error:?}");
    }
    assert_eq!(ask(&tables, "SELECT a FROM readings").await.unwrap(), "1; 2");
    let result = tables.query("SELECT a FROM readings", Vec::new(), 1).await.unwrap();
    assert!(result.is_truncated && result.rows.len() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_never_ends_is_ended() {
    let mut bed = Bed::new();
    bed.clock = Arc::new(SystemClock);
    bed.limits.query_ms = 100;
    let tables = bed.open();
    insert(&tables, READINGS, &[(0, "1")]).await.unwrap();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                   SELECT count(*) FROM n";
    assert_eq!(ask(&tables, endless).await, Err(TablesError::Timeout(100)));
    let large = "SELECT length(zeroblob(1000000000))";
    assert!(matches!(ask(&tables, large).await, Err(TablesError::Query(_))));
    assert_eq!(ask(&tables, "SELECT value FROM readings").await.unwrap(), "1");
}

/// Asks until the writer has removed what is to be removed.
async fn settles(tables: &SqliteTables, sql: &str, expected: &str) {
    for _ in 0..200 {
        if ask(tables, sql).await.unwrap() == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(ask(tables, sql).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_by_age_and_by_number() {
    let bed = Bed::new();
    let tables = bed.open();
    for (index, time) in [(0, 1_000), (1, 989_000), (2, 995_000), (3, 1_000_000)] {
        let params = format!(r#"{{"tableName": "readings", "timestamp": "{time}"}}"#);
        insert(&tables, &params, &[(index, "1")]).await.unwrap();
    }
    let sql = "SELECT _time FROM readings ORDER BY _id";
    let retention = Retention { age_s: 10, rows: 0 };
    tables.set_retention(&name("READINGS"), retention).await.unwrap();
    settles(&tables, sql, "995000; 1000000").await;
    let retention = Retention { age_s: 0, rows: 1 };
    tables.set_retention(&name("readings"), retention).await.unwrap();
    settles(&tables, sql, "1000000").await;
    assert_eq!(tables.list().await.unwrap()[0].retention, retention);
    let nowhere = tables.set_retention(&name("nowhere"), retention).await;
    assert_eq!(nowhere, Err(TablesError::NotFound(name("nowhere"))));
    tables.delete(&name("readings")).await.unwrap();
    assert_eq!(tables.list().await.unwrap(), []);
    insert(&tables, READINGS, &[(9, "1")]).await.unwrap();
    assert_eq!(tables.list().await.unwrap()[0].retention, Retention::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_loses_its_oldest_rows() {
    let mut bed = Bed::new();
    bed.limits.table_bytes = 4 * 1_024 * 1_024;
    let tables = bed.open();
    let text = format!("\"{}\"", "x".repeat(1_000));
    for batch in 0..20_u32 {
        let rows: Vec<_> = (0..1_000).map(|index| (batch * 1_000 + index, text.as_str())).collect();
        insert(&tables, READINGS, &rows).await.unwrap();
    }
    settles(&tables, "SELECT max(_id), count(*) BETWEEN 2500 AND 4000 FROM readings", "20000 1")
        .await;
    tables.close();
    let bytes = std::fs::metadata(bed.path()).unwrap().len();
    assert!(bytes < 16 * 1_024 * 1_024, "{bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_ours_is_refused() {
    let bed = Bed::new();
    let open = |path: &Path| {
        let limits = Arc::new(Limits::default());
        SqliteTables::open(path, limits, bed.clock.clone(), 0).map(|_| ())
    };
    std::fs::write(bed.path(), "this is a text and no database, but long enough to be one")
        .unwrap();
    assert!(matches!(open(&bed.path()), Err(OpenError::Sqlite { .. })));
    let later = bed.folder.path().join("later.sqlite");
    rusqlite::Connection::open(&later).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let error = open(&later).unwrap_err().to_string();
    assert!(error.ends_with("has version 2 of the tables; this host knows up to 1"), "{error}");
}
