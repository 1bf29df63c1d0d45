//! What a rule says about the action `table`: the result of the rule becomes a row.
//!
//! In: the action's body, `{"tableName": …, "timestamp": …}`. Out: the table's name and the row's
//! time. Both may have templates. Not here: the row's columns, writing it (`gnomon-table`).

use crate::ids::TableName;
use crate::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// The body of the action.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableRow {
    table_name: String,
    /// Milliseconds since the Unix epoch, as digits.
    timestamp: Option<String>,
}

impl TableRow {
    /// Reads the body of the action.
    ///
    /// # Errors
    /// Says which member is missing, unknown or of a wrong type.
    pub fn parse(body: &Value) -> Result<Self, String> {
        let row = Self::deserialize(body).map_err(|error| error.to_string())?;
        if !row.table_name.contains("${") {
            row.name()?;
        }
        Ok(row)
    }

    /// The table, for people.
    pub fn table(&self) -> &str {
        &self.table_name
    }

    /// The table; templates are filled in.
    ///
    /// # Errors
    /// It is no name of a table.
    pub fn name(&self) -> Result<TableName, String> {
        TableName::parse(&self.table_name).map_err(|error| format!("tableName: {error}"))
    }

    /// The row's time; that of the message unless the rule says another.
    ///
    /// # Errors
    /// It is no time.
    pub fn time(&self, received_at: Timestamp) -> Result<Timestamp, String> {
        let Some(text) = &self.timestamp else { return Ok(received_at) };
        text.parse().map(Timestamp::from_millis).map_err(|_| {
            let text = text.escape_debug();
            format!("timestamp: {text:.64} are no milliseconds since the Unix epoch, as digits")
        })
    }
}
