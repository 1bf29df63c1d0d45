//! The command line: thin; what a command does is said at its function.
//!
//! Exit codes: 0 done; 1 failed (the message says why and what to do); 2 wrong usage; 3 no host
//! runs on the data folder.

mod cert;
mod key;
mod password;
mod policy;
mod quarantine;
mod rule;
mod table;
mod things;

use crate::app;
use crate::config::Config;
use crate::data::{DataFolder, KeyFile, RunFile};
use crate::process;
use crate::telemetry::{self, LogFormat};
use crate::terminal::{complain, show, show_text};
use clap::{Args, Parser, Subcommand};
use gnomon_api::Client;
use gnomon_core::limits::Limits;
use gnomon_core::time::SystemClock;
use http::Method;
use serde_json::{Value, json};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// No host runs on the data folder.
const NOT_RUNNING: u8 = 3;

/// A self-hosted IoT core: device gateway, broker, registry, shadows and rules in one binary.
#[derive(Parser)]
#[command(name = "gnomon", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the host and serve until Ctrl-C or SIGTERM.
    Up(Up),
    /// Say whether a host runs on the data folder: ports, CA file, version, ready or not.
    Status(Folder),
    /// Access keys for the API (the AWS CLI and SDKs sign with them).
    #[command(subcommand)]
    Key(key::Command),
    /// Passwords of MQTT clients, for the plugin `password-authorizer`.
    #[command(subcommand)]
    Password(password::Command),
    /// Certificates: which end soon, and renewal.
    #[command(subcommand)]
    Cert(cert::Command),
    /// Policies: which statement decides.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Devices that are connected and silent: who and why, putting in, letting out.
    #[command(subcommand)]
    Quarantine(quarantine::Command),
    /// Rules: writing one, what they do, testing a statement, messages that failed.
    #[command(subcommand)]
    Rule(rule::Command),
    /// Ask the tables of readings that rules filled.
    Query(table::Query),
    /// Tables of readings: what there is, how long it is kept.
    #[command(subcommand)]
    Table(table::Command),
    /// Things in bulk, from a file.
    #[command(subcommand)]
    Things(things::Command),
    /// Print all limits with their defaults.
    Limits {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Put load on a MQTT broker, this one or any other, and measure what arrives and when.
    Bench(Box<gnomon_load::Options>),
}

#[derive(Args)]
struct Up {
    /// Folder of everything durable; made on the first start.
    #[arg(long, env = "GNOMON_DATA", default_value = "gnomon-data")]
    data: PathBuf,
    /// Configuration file (TOML). Without it all defaults hold.
    #[arg(long, env = "GNOMON_CONFIG")]
    config: Option<PathBuf>,
    /// What to log, e.g. `info` or `warn,gnomon_gateway=debug`.
    #[arg(long, env = "GNOMON_LOG", default_value = "info")]
    log: String,
    /// How log lines look.
    #[arg(long, env = "GNOMON_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
}

#[derive(Args)]
struct Folder {
    /// The host's data folder.
    #[arg(long, env = "GNOMON_DATA", default_value = "gnomon-data")]
    data: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command line.
pub fn run() -> ExitCode {
    // Keys and the store are their owner's alone, also in a folder that was there before.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    process::prepare();
    let result = match Cli::parse().command {
        Command::Up(up) => self::up(&up),
        Command::Status(folder) => status(&folder),
        Command::Key(command) => block_on(key::run(&command)),
        Command::Password(command) => password::run(&command),
        Command::Cert(command) => block_on(cert::run(&command)),
        Command::Policy(command) => block_on(policy::run(&command)),
        Command::Quarantine(command) => block_on(quarantine::run(&command)),
        Command::Rule(command) => block_on(rule::run(&command)),
        Command::Query(query) => block_on(table::query(&query)),
        Command::Table(command) => block_on(table::run(&command)),
        Command::Things(command) => block_on(things::run(&command)),
        Command::Limits { json } => limits(json),
        Command::Bench(options) => bench(&options),
    };
    result.unwrap_or_else(|error| {
        complain(&*error);
        ExitCode::FAILURE
    })
}

fn up(up: &Up) -> Result<ExitCode> {
    telemetry::init(&up.log, up.log_format)?;
    let config = Config::read(up.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(app::run(config, &up.data))?;
    Ok(ExitCode::SUCCESS)
}

fn status(folder: &Folder) -> Result<ExitCode> {
    let Some(run) = running(&folder.data)? else {
        if folder.json {
            show(&json!({ "running": false, "ready": false }));
        } else {
            show_text(&format!("no host runs on {}", folder.data.display()));
        }
        return Ok(ExitCode::from(NOT_RUNNING));
    };
    let ready = block_on(is_ready(folder, &run))?;
    if folder.json {
        let mut status = serde_json::to_value(&run)?;
        status["running"] = Value::Bool(true);
        status["ready"] = Value::Bool(ready);
        show(&status);
        return Ok(ExitCode::SUCCESS);
    }
    let state = if ready { "ready" } else { "starting" };
    show_text(&format!("Gnomon {} ({state}), process {}", run.version, run.pid));
    for listener in &run.listeners {
        let tls = if listener.tls { "TLS" } else { "plain" };
        let line =
            format!("  {:8} {:6} {:5} {}", listener.name, listener.protocol, tls, listener.address);
        show_text(&line);
    }
    show_text(&format!("  CA file  {}", run.ca_file.display()));
    Ok(ExitCode::SUCCESS)
}

/// The running host of a data folder.
fn running(path: &Path) -> Result<Option<RunFile>> {
    let Ok(data) = DataFolder::open(path) else { return Ok(None) };
    let Some(run) = DataFolder::read::<RunFile>(&data.run_file())? else { return Ok(None) };
    // A host that was killed leaves its file behind; the lock of the store went with it.
    Ok(gnomon_store::is_held(data.path())?.then_some(run))
}

async fn is_ready(folder: &Folder, run: &RunFile) -> Result<bool> {
    let client = administrator(folder, run)?;
    // A host that is starting or stopping answers 503 or not at all.
    Ok(client.call("gnomon", Method::GET, &["health"], &[], &[], "").await.is_ok())
}

fn administrator(folder: &Folder, run: &RunFile) -> Result<Client> {
    let data = DataFolder::open(&folder.data)?;
    let path = data.administrator();
    let key: KeyFile = DataFolder::read(&path)?
        .ok_or_else(|| format!("{} is missing; it has the administrator's key", path.display()))?;
    let url = run.api_url().ok_or("the host has no listener with protocol = \"api\"")?;
    let (id, secret) = (&key.access_key_id, &key.secret_access_key);
    Ok(Client::new(&url, &run.region, id, secret, Arc::new(SystemClock))?)
}

/// For the running host; `None`, after saying so, when none runs.
fn client(folder: &Folder) -> Result<Option<Client>> {
    let Some(run) = running(&folder.data)? else {
        show_text(&format!("no host runs on {}", folder.data.display()));
        return Ok(None);
    };
    administrator(folder, &run).map(Some)
}

/// All pages of a list.
async fn pages(client: &Client, service: &str, path: &[&str], member: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let query: Vec<_> = token.iter().map(|token| ("nextToken", token.as_str())).collect();
        let answer = client.call(service, Method::GET, path, &query, &[], "").await?;
        let mut page: Value = serde_json::from_slice(&answer)?;
        if let Some(Value::Array(items)) = page.get_mut(member).map(Value::take) {
            all.extend(items);
        }
        match page.get("nextToken").and_then(Value::as_str) {
            Some(next) => token = Some(next.to_owned()),
            None => return Ok(all),
        }
    }
}

/// Calls an operation; the answer is JSON.
async fn ask(
    client: &Client,
    service: &str,
    method: Method,
    path: &[&str],
    body: &str,
) -> Result<Value> {
    let answer = client.call(service, method, path, &[], &[], body.to_owned()).await?;
    Ok(serde_json::from_slice(&answer)?)
}

fn limits(as_json: bool) -> Result<ExitCode> {
    let limits = serde_json::to_value(Limits::default())?;
    if as_json {
        show(&limits);
    } else if let Value::Object(limits) = limits {
        for (name, value) in limits {
            show_text(&format!("{name:28} {value:>12}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn bench(options: &gnomon_load::Options) -> Result<ExitCode> {
    let report = gnomon_load::run(options)?;
    show_text(&if options.json { report.to_json() } else { report.to_string() });
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(future)
}
