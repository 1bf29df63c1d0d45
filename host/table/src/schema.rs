//! Which tables and columns there are: the writer's memory of what is in the file.
//!
//! Tables of the host have a `-` in their names, which those of users cannot have.

use crate::row::{ID, TIME};
use gnomon_core::ids::TableName;
use rusqlite::{Connection, Result};
use std::collections::{HashMap, HashSet};

/// Version of the host's own tables, `PRAGMA user_version`.
pub const VERSION: i64 = 1;

/// Columns of a table beside the host's.
pub const COLUMNS_MAX: usize = 256;

/// The host's own tables.
const OWN: &str = r#"
    CREATE TABLE "gnomon-retention" (
        "table" TEXT PRIMARY KEY COLLATE NOCASE, age_s INTEGER NOT NULL, rows INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE "gnomon-lanes" (
        lane TEXT PRIMARY KEY, batch INTEGER NOT NULL, position INTEGER NOT NULL
    ) WITHOUT ROWID;
"#;

/// Makes the host's tables in a new file; returns the version that was found, 0 for a new one.
pub fn prepare(connection: &Connection) -> Result<i64> {
    let found = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found == 0 {
        connection
            .execute_batch(&format!("BEGIN; {OWN} PRAGMA user_version = {VERSION}; COMMIT"))?;
    }
    Ok(found)
}

/// As an identifier of SQL.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// All names in lower case, because to SQL case does not matter.
#[derive(Debug, Default)]
pub struct Schema {
    tables: HashMap<String, HashSet<String>>,
}

/// Names of the users' tables, as they were written first.
pub fn tables(connection: &Connection) -> Result<Vec<TableName>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY lower(name)";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    let names: Vec<_> = names.collect::<Result<_>>()?;
    Ok(names.iter().filter_map(|name| TableName::parse(name).ok()).collect())
}

/// Columns of a table but the host's, in their order.
pub fn columns(connection: &Connection, table: &TableName) -> Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let names = statement.query_map([table.as_str()], |row| row.get::<_, String>(0))?;
    let names: Vec<_> = names.collect::<Result<_>>()?;
    Ok(names.into_iter().filter(|name| name != ID && name != TIME).collect())
}

impl Schema {
    pub fn read(connection: &Connection) -> Result<Self> {
        let mut schema = Self::default();
        for table in tables(connection)? {
            let columns = columns(connection, &table)?;
            let columns = columns.iter().map(|name| name.to_ascii_lowercase()).collect();
            schema.tables.insert(table.as_str().to_ascii_lowercase(), columns);
        }
        Ok(schema)
    }

    pub fn len(&self) -> usize {
        self.tables.len()
    }

    pub fn has(&self, table: &TableName) -> bool {
        self.tables.contains_key(&table.as_str().to_ascii_lowercase())
    }

    pub fn create(&mut self, connection: &Connection, table: &TableName) -> Result<()> {
        let name = quoted(table.as_str());
        let index = quoted(&format!("{table}-time"));
        connection.execute_batch(&format!(
            "CREATE TABLE {name} ({ID} INTEGER PRIMARY KEY, {TIME} INTEGER NOT NULL); \
             CREATE INDEX {index} ON {name} ({TIME})"
        ))?;
        self.tables.insert(table.as_str().to_ascii_lowercase(), HashSet::new());
        Ok(())
    }

    pub fn remove(&mut self, connection: &Connection, table: &TableName) -> Result<()> {
        connection.execute_batch(&format!("DROP TABLE {}", quoted(table.as_str())))?;
        self.tables.remove(&table.as_str().to_ascii_lowercase());
        Ok(())
    }

    /// Adds the columns that a table of this schema does not have; false when it would have too many.
    pub fn widen<'a>(
        &mut self,
        connection: &Connection,
        table: &TableName,
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<bool> {
        let known = self.tables.entry(table.as_str().to_ascii_lowercase()).or_default();
        let is_new = |name: &&str| !known.contains(&name.to_ascii_lowercase());
        let new: Vec<_> = names.filter(is_new).collect();
        if known.len() + new.len() > COLUMNS_MAX {
            return Ok(false);
        }
        for name in new {
            // Without a type: a cell stays what it was.
            let (table, column) = (quoted(table.as_str()), quoted(name));
            connection.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column}"))?;
            known.insert(name.to_ascii_lowercase());
        }
        Ok(true)
    }
}
