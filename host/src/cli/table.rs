//! `gnomon query` and `gnomon table …`: what the `table` action of rules kept.

use super::{Folder, NOT_RUNNING, Result, ask, client};
use crate::terminal::{show, show_text};
use clap::{Args, Subcommand};
use gnomon_api::Client;
use http::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Characters of a cell on the terminal; `--json` has all of them.
const CELL_CHARS_MAX: usize = 60;

#[derive(Args)]
pub struct Query {
    #[command(flatten)]
    folder: Folder,
    /// A statement in SQLite's dialect, e.g. `SELECT * FROM readings WHERE temp > ?1`.
    sql: String,
    /// Values for `?1`, `?2`, …: a number, true, false, null, else a text.
    parameters: Vec<String>,
    /// Longest result.
    #[arg(long, default_value_t = 1_000)]
    max_rows: usize,
}

#[derive(Subcommand)]
pub enum Command {
    /// List the tables: columns, rows, from when to when, retention.
    List {
        #[command(flatten)]
        folder: Folder,
    },
    /// Say how long a table keeps its rows. What is older goes at once.
    Retain {
        #[command(flatten)]
        folder: Folder,
        /// The table.
        name: String,
        /// Seconds; 0 is for ever.
        #[arg(long, default_value_t = 0)]
        max_age_s: u64,
        /// Rows; 0 is without bound.
        #[arg(long, default_value_t = 0)]
        max_rows: u64,
    },
    /// Remove a table with its rows.
    Delete {
        #[command(flatten)]
        folder: Folder,
        /// The table.
        name: String,
    },
}

pub async fn query(query: &Query) -> Result<ExitCode> {
    let Query { folder, sql, parameters, max_rows } = query;
    let Some(client) = client(folder)? else { return Ok(ExitCode::from(NOT_RUNNING)) };
    let parameters: Vec<_> = parameters.iter().map(|text| parameter(text)).collect();
    let body = json!({ "sql": sql, "parameters": parameters, "maxRows": max_rows });
    let answer = ask(&client, "gnomon", Method::POST, &["query"], &body.to_string()).await?;
    if folder.json {
        show(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut lines = vec![array(&answer["columns"]).iter().map(cell).collect::<Vec<_>>()];
    lines.extend(array(&answer["rows"]).iter().map(|row| array(row).iter().map(cell).collect()));
    show_aligned(&lines);
    if answer["truncated"] == json!(true) {
        show_text(&format!("… and more: these are the first {} rows", lines.len() - 1));
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn run(command: &Command) -> Result<ExitCode> {
    let folder = match command {
        Command::List { folder }
        | Command::Retain { folder, .. }
        | Command::Delete { folder, .. } => folder,
    };
    let Some(client) = client(folder)? else { return Ok(ExitCode::from(NOT_RUNNING)) };
    match command {
        Command::List { .. } => return list(&client, folder.json).await,
        Command::Retain { name, max_age_s, max_rows, .. } => {
            let body = json!({ "maxAgeS": max_age_s, "maxRows": max_rows }).to_string();
            let path = ["tables", name.as_str(), "retention"];
            ask(&client, "gnomon", Method::PUT, &path, &body).await?;
        }
        Command::Delete { name, .. } => {
            ask(&client, "gnomon", Method::DELETE, &["tables", name.as_str()], "").await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, as_json: bool) -> Result<ExitCode> {
    let answer = ask(client, "gnomon", Method::GET, &["tables"], "").await?;
    if as_json {
        show(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let names = ["table", "rows", "oldest", "newest", "keeps s", "keeps rows", "columns"];
    let mut lines = vec![names.map(str::to_owned).to_vec()];
    for table in answer["tables"].as_array().into_iter().flatten() {
        let retention = &table["retention"];
        let bound = |value: &Value| match value.as_u64() {
            Some(0) => "all".to_owned(),
            _ => cell(value),
        };
        let columns = table["columns"].as_array().into_iter().flatten();
        let columns: Vec<_> = columns.filter_map(Value::as_str).collect();
        lines.push(vec![
            cell(&table["tableName"]),
            cell(&table["rows"]),
            cell(&table["oldest"]),
            cell(&table["newest"]),
            bound(&retention["maxAgeS"]),
            bound(&retention["maxRows"]),
            columns.join(" "),
        ]);
    }
    show_aligned(&lines);
    Ok(ExitCode::SUCCESS)
}

fn parameter(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Null | Value::Bool(_) | Value::Number(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

pub(super) fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.escape_debug().to_string(),
        value => value.to_string(),
    };
    match text.char_indices().nth(CELL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Columns below each other.
pub(super) fn show_aligned(lines: &[Vec<String>]) {
    let widths: Vec<usize> = (0..lines.first().map_or(0, Vec::len))
        .map(|at| lines.iter().filter_map(|line| line.get(at)).map(|it| it.chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    for line in lines {
        let cells: Vec<_> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        show_text(cells.join("  ").trim_end());
    }
}
