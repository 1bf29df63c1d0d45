//! `gnomon things import`: a file of devices, one JSON object of template parameters per line.

use super::{Folder, NOT_RUNNING, Result, ask, client};
use crate::data::DataFolder;
use crate::objects::FileObjects;
use crate::terminal::{end_progress, show, show_progress, show_text};
use clap::{Args, Subcommand};
use gnomon_api::Client;
use gnomon_core::provisioning::ObjectName;
use gnomon_core::time::{Clock, SystemClock};
use http::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Where files are put for the host.
const BUCKET: &str = "imports";

/// Characters of the file's own name in its key.
const NAME_CHARS_MAX: usize = 100;

/// Failed lines that are told; the report has all of them.
const PROBLEMS_MAX: usize = 100;

/// How often the host is asked how far it is.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Subcommand)]
pub enum Command {
    /// Register what a template makes of every line of a file. Ends when all is done; without this
    /// command the host goes on all the same. Exit code 1 when a line failed.
    Import(Import),
}

#[derive(Args)]
pub struct Import {
    #[command(flatten)]
    folder: Folder,
    /// One JSON object of texts per line: the parameters of the template.
    file: PathBuf,
    /// A provisioning template, as for `aws iot register-thing`.
    #[arg(long)]
    template: PathBuf,
    /// Change nothing: say which lines would fail, and why.
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(command: &Command) -> Result<ExitCode> {
    let Command::Import(import) = command;
    let Import { folder, file, template, dry_run } = import;
    let Some(client) = client(folder)? else { return Ok(ExitCode::from(NOT_RUNNING)) };
    let template = read(template, |path| std::fs::read_to_string(path))?;
    let object = object(file)?;
    // The host's own user reads the file here: it may be larger than a request.
    let objects = FileObjects::open(&DataFolder::open(&folder.data)?.objects())?;
    read(file, |path| objects.copy_from(&object, path))?;
    let order = json!({
        "templateBody": template,
        "inputFileBucket": object.bucket(),
        "inputFileKey": object.key(),
    });
    let import = Order { client, order, object };
    let done = if *dry_run { import.try_out().await } else { import.carry_out().await };
    end_progress();
    if *dry_run {
        // Nobody reads it any more; one that stays behind harms nobody.
        let _ = import.delete_object().await;
    }
    let done = done?;
    if folder.json {
        show(&done.to_json());
    } else {
        done.print();
    }
    Ok(if done.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read<T>(path: &Path, read: impl FnOnce(&Path) -> std::io::Result<T>) -> Result<T> {
    read(path).map_err(|error| format!("cannot read {}: {error}", path.display()).into())
}

/// A name of its own for every import, so that none takes another's file away.
fn object(file: &Path) -> Result<ObjectName> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
    let name: String = name.chars().take(NAME_CHARS_MAX).map(plain).collect();
    let key = format!("{}-{}-{name}", SystemClock.wall().as_millis(), std::process::id());
    Ok(ObjectName::parse(BUCKET, &key)?)
}

/// A file that was handed over, and what is to be done with it.
struct Order {
    client: Client,
    /// Members of StartThingRegistrationTask.
    order: Value,
    object: ObjectName,
}

/// What came of it.
#[derive(Default)]
struct Done {
    is_dry_run: bool,
    task: Option<String>,
    /// AWS's, of a task.
    status: Option<String>,
    message: Option<String>,
    successes: u64,
    failures: u64,
    problems: Vec<Value>,
}

impl Order {
    async fn try_out(&self) -> Result<Done> {
        let mut done = Done { is_dry_run: true, ..Done::default() };
        let mut order = self.order.clone();
        loop {
            let path = ["thing-registration-dry-runs"];
            let answer =
                ask(&self.client, "gnomon", Method::POST, &path, &order.to_string()).await?;
            done.successes += answer["validCount"].as_u64().unwrap_or_default();
            done.failures += answer["invalidCount"].as_u64().unwrap_or_default();
            let problems = answer["problems"].as_array().into_iter().flatten();
            let room = PROBLEMS_MAX - done.problems.len();
            done.problems.extend(problems.take(room).cloned());
            done.progress(&answer["percentageProgress"]);
            match answer.get("nextToken") {
                Some(token) => order["nextToken"] = token.clone(),
                None => return Ok(done),
            }
        }
    }

    async fn carry_out(&self) -> Result<Done> {
        let mut order = self.order.clone();
        order["roleArn"] = json!("gnomon");
        let path = ["thing-registration-tasks"];
        let made = ask(&self.client, "iot", Method::POST, &path, &order.to_string()).await;
        if made.is_err() {
            // As for a trial; what is to be told is why the task does not begin.
            let _ = self.delete_object().await;
        }
        let made = made?;
        let id = made["taskId"].as_str().ok_or("the host answered no taskId")?.to_owned();
        let mut done = Done { task: Some(id.clone()), ..Done::default() };
        loop {
            let task = ask(&self.client, "iot", Method::GET, &[path[0], &id], "").await;
            // The task is the host's: what cannot be seen from here goes on there.
            let task = task.map_err(|error| format!("task {id} is not seen any more: {error}"))?;
            done.successes = task["successCount"].as_u64().unwrap_or_default();
            done.failures = task["failureCount"].as_u64().unwrap_or_default();
            done.progress(&task["percentageProgress"]);
            let status = task["status"].as_str().unwrap_or_default();
            if !matches!(status, "InProgress" | "Cancelling") {
                done.status = Some(status.to_owned());
                done.message = task["message"].as_str().map(str::to_owned);
                break;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        if done.failures > 0 {
            // The first part has more lines than are told.
            let key = format!("{}.{id}.errors.1", self.object.key());
            let report = self.call_object(Method::GET, &key).await?;
            let lines = report.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let lines = lines.take(PROBLEMS_MAX).map(serde_json::from_slice);
            done.problems = lines.collect::<std::result::Result<_, _>>()?;
        }
        Ok(done)
    }

    async fn call_object(&self, method: Method, key: &str) -> Result<Vec<u8>> {
        let path = ["objects", self.object.bucket(), key];
        Ok(self.client.call("gnomon", method, &path, &[], &[], "").await?.to_vec())
    }

    async fn delete_object(&self) -> Result<()> {
        self.call_object(Method::DELETE, self.object.key()).await.map(drop)
    }
}

impl Done {
    fn is_good(&self) -> bool {
        let is_complete = self.is_dry_run || self.status.as_deref() == Some("Completed");
        is_complete && self.failures == 0
    }

    fn progress(&self, percentage: &Value) {
        let Self { successes, failures, .. } = self;
        show_progress(&format!("{percentage} %, {successes} good, {failures} failed"));
    }

    fn to_json(&self) -> Value {
        json!({
            "dryRun": self.is_dry_run,
            "taskId": self.task,
            "status": self.status,
            "message": self.message,
            "successCount": self.successes,
            "failureCount": self.failures,
            "problems": self.problems,
        })
    }

    fn print(&self) {
        let text = |value: &Value| value.as_str().unwrap_or_default().escape_debug().to_string();
        for problem in &self.problems {
            let message = text(&problem["errorMessage"]);
            show_text(&format!("line {}: {message}", problem["lineNumber"]));
        }
        if self.failures > self.problems.len() as u64 {
            show_text(&format!("… and {} more", self.failures - self.problems.len() as u64));
        }
        let Self { successes, failures, .. } = self;
        if self.is_dry_run {
            show_text(&format!("{successes} lines would be registered, {failures} would fail"));
            return;
        }
        let status = self.status.as_deref().unwrap_or_default();
        let task = self.task.as_deref().unwrap_or_default();
        show_text(&format!(
            "{successes} lines registered, {failures} failed ({status}, task {task})"
        ));
        if let Some(message) = &self.message {
            show_text(message);
        }
    }
}
