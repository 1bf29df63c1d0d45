//! Operations on tables of readings, which AWS does not have: queries, retention.

use crate::Services;
use crate::call::{Answer, Call, epoch_seconds};
use crate::error::{ApiError, Exception};
use crate::router::{Handlers, handlers};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gnomon_core::ids::TableName;
use gnomon_core::tables::{Cell, Retention, TableInfo, TablesError};
use gnomon_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) const HANDLERS: Handlers = handlers! {
    QueryTables => query;
    ListTables => list;
    SetTableRetention => set_retention;
    DeleteTable => delete;
};

async fn query(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Members {
        sql: String,
        /// For `?1`, `?2`, …: numbers, texts, truth values, null.
        #[serde(default)]
        parameters: Vec<Value>,
        max_rows: Option<usize>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        columns: Vec<String>,
        /// A cell is a number, a text, null, or `{"base64": …}`.
        rows: Vec<Vec<Value>>,
        /// There were more rows.
        truncated: bool,
    }
    let Members { sql, parameters, max_rows } = call.members()?;
    let parameters = parameters.into_iter().map(parameter).collect::<Result<_, _>>()?;
    let result = services.tables.query(&sql, parameters, max_rows.unwrap_or(usize::MAX)).await?;
    let rows = result.rows.into_iter().map(|row| row.into_iter().map(value).collect()).collect();
    Answer::members(&Body { columns: result.columns, rows, truncated: result.is_truncated })
}

fn parameter(value: Value) -> Result<Cell, ApiError> {
    Ok(match value {
        Value::Null => Cell::Null,
        Value::Bool(truth) => Cell::Integer(truth.into()),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => Cell::Integer(integer),
            None => Cell::Real(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Cell::Text(text),
        Value::Array(_) | Value::Object(_) => {
            return Err(ApiError::invalid_request(
                "parameters: each must be a number, a text, a truth value or null",
            ));
        }
    })
}

fn value(cell: Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Integer(integer) => integer.into(),
        // JSON has no infinity; SQLite has no NaN.
        Cell::Real(real) if real.is_infinite() => real.to_string().into(),
        Cell::Real(real) => real.into(),
        Cell::Text(text) => text.into(),
        Cell::Blob(bytes) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

async fn list(services: &Services, _: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    struct Body {
        tables: Vec<TableBody>,
    }
    let tables = services.tables.list().await?;
    Answer::members(&Body { tables: tables.into_iter().map(TableBody::from).collect() })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TableBody {
    table_name: String,
    columns: Vec<String>,
    rows: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<f64>,
    retention: RetentionBody,
}

impl From<TableInfo> for TableBody {
    fn from(table: TableInfo) -> Self {
        let TableInfo { name, columns, rows, oldest, newest, retention } = table;
        let seconds = |at: Option<Timestamp>| at.map(epoch_seconds);
        let Retention { age_s, rows: max_rows } = retention;
        Self {
            table_name: name.to_string(),
            columns,
            rows,
            oldest: seconds(oldest),
            newest: seconds(newest),
            retention: RetentionBody { max_age_s: age_s, max_rows },
        }
    }
}

/// 0 is without bound.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RetentionBody {
    #[serde(default)]
    max_age_s: u64,
    #[serde(default)]
    max_rows: u64,
}

async fn set_retention(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let RetentionBody { max_age_s, max_rows } = call.members()?;
    let retention = Retention { age_s: max_age_s, rows: max_rows };
    services.tables.set_retention(&name(call)?, retention).await?;
    Ok(Answer::empty())
}

async fn delete(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let name = name(call)?;
    services.tables.delete(&name).await?;
    tracing::info!(principal = call.caller.name(), table = %name, "table deleted");
    Ok(Answer::empty())
}

fn name(call: &Call<'_>) -> Result<TableName, ApiError> {
    Ok(TableName::parse(call.label("tableName"))?)
}

impl From<TablesError> for ApiError {
    fn from(error: TablesError) -> Self {
        let exception = match &error {
            TablesError::Query(_) | TablesError::Timeout(_) => Exception::InvalidRequest,
            TablesError::NotFound(_) => Exception::ResourceNotFound,
            TablesError::Busy => Exception::Throttling,
            TablesError::Failed(_) => Exception::ServiceUnavailable,
            _ => Exception::InternalFailure,
        };
        if let TablesError::Failed(cause) = &error {
            tracing::error!(error = cause, "the tables failed");
        }
        Self::new(exception, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use gnomon_core::actions::{ActionContext, Position};
    use gnomon_core::ids::RuleName;
    use gnomon_core::message::Message;
    use gnomon_core::time::Timestamp;
    use gnomon_core::topic::TopicName;
    use serde_json::{Value, json};
    use std::sync::Arc;

    async fn host() -> TestHost {
        let host = TestHost::new().await;
        let results =
            [r#"{"room": "hall", "temp": 21.5}"#, r#"{"room": "attic", "temp": 30, "on": true}"#];
        let at = Timestamp::from_millis(1_000);
        let topic = TopicName::parse("a").unwrap();
        let message = |result: &str| {
            Arc::new(Message::new(topic.clone(), result.to_owned(), Arc::default(), at))
        };
        let context = ActionContext {
            rule: RuleName::parse("Keep").unwrap(),
            action: 0,
            params: r#"{"tableName": "readings"}"#.into(),
            is_error_action: false,
            lane: "rule/Keep/0".into(),
            positions: (0..).take(2).map(|index| Position { batch: 1, index }).collect(),
        };
        let failures = host.tables.action().invoke(&context, &results.map(message)).await;
        assert_eq!(failures, Ok(Vec::new()));
        host
    }

    async fn call(host: &TestHost, method: &str, target: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let response = host.call("gnomon", method, target, &body).await;
        let answer = TestHost::json(&response);
        match TestHost::error_type(&response) {
            None => answer,
            Some(error) => json!([error, answer["message"]]),
        }
    }

    #[tokio::test]
    async fn a_query_answers_columns_and_rows() {
        let host = host().await;
        let body = json!({"sql": "SELECT room, temp, \"on\", x'00ff' AS b, 9e999 AS i FROM readings WHERE temp > ?1",
            "parameters": [25]});
        let expected = json!({"columns": ["room", "temp", "on", "b", "i"],
            "rows": [["attic", 30, 1, {"base64": "AP8="}, "inf"]], "truncated": false});
        assert_eq!(call(&host, "POST", "/query", body).await, expected);
        let body = json!({"sql": "SELECT room FROM readings", "maxRows": 1});
        let expected = json!({"columns": ["room"], "rows": [["hall"]], "truncated": true});
        assert_eq!(call(&host, "POST", "/query", body).await, expected);
    }

    #[tokio::test]
    async fn what_is_no_query_is_answered_with_its_place() {
        let host = host().await;
        for (body, expected) in [
            (
                json!({"sql": "SELECT\n  bad FROM readings"}),
                "line 2, column 3: no such column: bad",
            ),
            (
                json!({"sql": "DELETE FROM readings"}),
                "not authorized: a query can only read, and only the tables that rules filled",
            ),
            (json!({"sql": ""}), "give one statement that reads, e.g. SELECT * FROM readings"),
            (
                json!({"sql": "SELECT ?1", "parameters": []}),
                "the statement has 1 parameters, 0 were given",
            ),
            (
                json!({"sql": "SELECT ?1", "parameters": [[1]]}),
                "parameters: each must be a number, a text, a truth value or null",
            ),
            (json!({}), "the body: missing field `sql` at line 1 column 2"),
        ] {
            let answer = call(&host, "POST", "/query", body.clone()).await;
            let expected = json!(["InvalidRequestException", expected]);
            assert_eq!(answer, expected, "{body}");
        }
    }

    #[tokio::test]
    async fn tables_are_listed_bounded_and_deleted() {
        let host = host().await;
        let tables = |max_age_s: u64| {
            json!({"tables": [{"tableName": "readings", "columns": ["room", "temp", "on"], "rows": 2,
                "oldest": 1.0, "newest": 1.0,
                "retention": {"maxAgeS": max_age_s, "maxRows": 0}}]})
        };
        assert_eq!(call(&host, "GET", "/tables", Value::Null).await, tables(0));
        let far = 10_000_000_000_u64;
        let body = json!({"maxAgeS": far});
        assert_eq!(call(&host, "PUT", "/tables/Readings/retention", body).await, json!({}));
        assert_eq!(call(&host, "GET", "/tables", Value::Null).await, tables(far));
        assert_eq!(call(&host, "DELETE", "/tables/readings", Value::Null).await, json!({}));
        assert_eq!(call(&host, "GET", "/tables", Value::Null).await, json!({"tables": []}));
        let gone = json!(["ResourceNotFoundException", "there is no table readings"]);
        assert_eq!(call(&host, "DELETE", "/tables/readings", Value::Null).await, gone);
    }
}
