//! `gnomon rule …`: writing a rule, what rules do, testing a statement, messages that failed for good.

use super::{Folder, NOT_RUNNING, Result, ask, client, pages};
use crate::terminal::{show, show_text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use gnomon_api::{Client, ClientError};
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Subcommand)]
pub enum Command {
    /// List the rules.
    List {
        #[command(flatten)]
        folder: Folder,
    },
    /// Show a rule: its statement, what it did, what waits, what failed last.
    Show {
        #[command(flatten)]
        folder: Folder,
        /// The rule.
        name: String,
    },
    /// Create a rule or replace it, with what the AWS CLI does not let pass (`table`, `plugin`).
    Put {
        #[command(flatten)]
        folder: Folder,
        /// The rule.
        name: String,
        /// JSON as `aws iot create-topic-rule --topic-rule-payload` takes it; `-` reads it from
        /// standard input.
        file: PathBuf,
    },
    /// Say what a statement makes of a message, without creating a rule.
    Test(Test),
    /// Show the messages of a rule that failed for good, or have them tried again.
    DeadLetters {
        #[command(flatten)]
        folder: Folder,
        /// The rule.
        name: String,
        /// Try all of them again.
        #[arg(long, conflicts_with = "delete")]
        replay: bool,
        /// Remove all of them.
        #[arg(long)]
        delete: bool,
    },
}

#[derive(Args)]
pub struct Test {
    #[command(flatten)]
    folder: Folder,
    /// The statement, e.g. `SELECT * FROM 'sensor/+' WHERE temp > 30`.
    #[arg(long)]
    sql: String,
    /// `awsIotSqlVersion`.
    #[arg(long, default_value = "2016-03-23")]
    sql_version: String,
    /// Where the message is published.
    #[arg(long)]
    topic: String,
    /// The message; `-` reads it from standard input.
    #[arg(long, conflicts_with = "payload_file")]
    payload: Option<String>,
    /// A file with the message.
    #[arg(long)]
    payload_file: Option<PathBuf>,
    /// Show the value of every part of the statement.
    #[arg(long)]
    trace: bool,
}

pub async fn run(command: &Command) -> Result<ExitCode> {
    let folder = match command {
        Command::List { folder }
        | Command::Show { folder, .. }
        | Command::Put { folder, .. }
        | Command::DeadLetters { folder, .. } => folder,
        Command::Test(test) => &test.folder,
    };
    let Some(client) = client(folder)? else { return Ok(ExitCode::from(NOT_RUNNING)) };
    match command {
        Command::List { .. } => list(&client, folder.json).await,
        Command::Show { name, .. } => show_rule(&client, name, folder.json).await,
        Command::Put { name, file, .. } => put(&client, name, &read(file)?).await,
        Command::Test(test) => self::test(&client, test).await,
        Command::DeadLetters { name, replay, delete, .. } => {
            let path = ["rules", name, "dead-letters"];
            let method = match (replay, delete) {
                (true, _) => Method::POST,
                (_, true) => Method::DELETE,
                _ => return dead_letters(&client, name, folder.json).await,
            };
            let answer = ask(&client, "gnomon", method, &path, "").await?;
            if folder.json {
                show(&answer);
            } else {
                let what = if *replay { "tried again" } else { "removed" };
                show_text(&format!("{} dead letters are {what}", answer["deadLetters"]));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn put(client: &Client, name: &str, definition: &[u8]) -> Result<ExitCode> {
    let body = String::from_utf8(definition.to_vec())?;
    let path = ["rules", name];
    let call = |method| client.call("iot", method, &path, &[], &[], body.clone());
    match call(Method::POST).await {
        Err(ClientError::Refused { code, .. }) if code == "ResourceAlreadyExistsException" => {
            call(Method::PATCH).await?;
        }
        result => drop(result?),
    }
    Ok(ExitCode::SUCCESS)
}

/// A file; `-` is standard input.
fn read(path: &Path) -> Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

async fn list(client: &Client, as_json: bool) -> Result<ExitCode> {
    let rules = pages(client, "iot", &["rules"], "rules").await?;
    if as_json {
        show(&json!({ "rules": rules }));
        return Ok(ExitCode::SUCCESS);
    }
    for rule in rules {
        let state = if rule["ruleDisabled"] == json!(true) { "disabled" } else { "enabled" };
        let topic = rule["topicPattern"].as_str().unwrap_or("-");
        let name = rule["ruleName"].as_str().unwrap_or_default();
        show_text(&format!("{name:32} {state:8} {topic}"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn show_rule(client: &Client, name: &str, as_json: bool) -> Result<ExitCode> {
    let got = ask(client, "iot", Method::GET, &["rules", name], "").await?;
    let figures = ask(client, "gnomon", Method::GET, &["rules", name, "figures"], "").await?;
    if as_json {
        show(&json!({ "rule": got["rule"], "figures": figures }));
        return Ok(ExitCode::SUCCESS);
    }
    let rule = &got["rule"];
    let state = if rule["ruleDisabled"] == json!(true) { "disabled" } else { "enabled" };
    show_text(&format!("{name} ({state})"));
    show_text(&format!("  {}", rule["sql"].as_str().unwrap_or_default()));
    for (label, member) in [
        ("matched", "matched"),
        ("passed", "passed"),
        ("taken by an action", "succeeded"),
        ("tried again", "retried"),
        ("failed for good", "failed"),
        ("waiting now", "waiting"),
        ("dead letters now", "deadLetters"),
        ("mean latency, ms", "meanLatencyMs"),
    ] {
        if let Some(value) = figures.get(member) {
            show_text(&format!("  {label:20} {value:>12}"));
        }
    }
    if let Some(failure) = figures["lastFailure"].as_str() {
        show_text(&format!("  last failure: {failure}"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn dead_letters(client: &Client, name: &str, as_json: bool) -> Result<ExitCode> {
    let path = ["rules", name, "dead-letters"];
    let letters = pages(client, "gnomon", &path, "deadLetters").await?;
    if as_json {
        show(&json!({ "deadLetters": letters }));
        return Ok(ExitCode::SUCCESS);
    }
    if letters.is_empty() {
        show_text(&format!("rule {name} has no dead letters"));
    }
    let text = |letter: &Value, member: &str| letter[member].as_str().unwrap_or("-").to_owned();
    for letter in letters {
        let payload = STANDARD.decode(text(&letter, "payloadBase64")).unwrap_or_default();
        let payload: String = String::from_utf8_lossy(&payload).chars().take(120).collect();
        show_text(&format!(
            "{}  {}  {}: {}\n    {}",
            text(&letter, "id"),
            text(&letter, "topic"),
            text(&letter, "failedIn"),
            text(&letter, "reason"),
            payload.escape_debug(),
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The result as the host wrote it: the order of its members is that of the statement.
#[derive(Deserialize)]
struct Results<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

async fn test(client: &Client, test: &Test) -> Result<ExitCode> {
    let payload = match (&test.payload, &test.payload_file) {
        (Some(text), _) if text == "-" => read(Path::new(text))?,
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(path)) => read(path)?,
        (None, None) => Vec::new(),
    };
    let body = json!({
        "sql": test.sql,
        "awsIotSqlVersion": test.sql_version,
        "topic": test.topic,
        "payloadBase64": STANDARD.encode(payload),
        "trace": test.trace,
    });
    let answer =
        client.call("gnomon", Method::POST, &["rule-test"], &[], &[], body.to_string()).await?;
    let Results { result } = serde_json::from_slice(&answer)?;
    let answer: Value = serde_json::from_slice(&answer)?;
    if test.folder.json {
        show(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    for part in answer["trace"].as_array().into_iter().flatten() {
        let value = match (part.get("value"), part["error"].as_str()) {
            (Some(value), _) => value.to_string(),
            (None, Some(error)) => format!("error: {error}"),
            (None, None) => "Undefined".to_owned(),
        };
        let place = format!("{}:{}", part["line"], part["column"]);
        show_text(&format!("{place:7} {} = {value}", part["text"].as_str().unwrap_or_default()));
    }
    if answer["topicMatches"] == json!(false) {
        show_text("FROM does not match the topic");
    }
    match (answer["error"].as_str(), answer["passes"] == json!(true)) {
        (Some(error), _) => show_text(&format!("error: {error}")),
        (None, false) => show_text("the message does not pass WHERE"),
        (None, true) => match (result, answer["resultBase64"].as_str()) {
            (Some(result), _) => show_text(result.get()),
            (None, Some("") | None) => show_text("the result is empty"),
            (None, Some(base64)) => show_text(&format!("base64: {base64}")),
        },
    }
    Ok(ExitCode::SUCCESS)
}
