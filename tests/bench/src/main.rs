//! `gnomon-bench`: measures Gnomon beside its peers on this machine and prints tables.
//!
//! In: what to measure, and for how long. Out: tables for people, or `--json` for programs.
//! Asserts no times: figures of different machines do not compare, a ratio within one run does.
//! Reading order: `broker`, `connections` and `durable` (with `load`, and `process`, the brokers),
//! `soak`, `matching`, `policy`, `rules` (with `among`), `shadow`, `shadows`, `fleet`, `wasm`; `disk` is
//! what the durable ones are compared with, `table` prints.

mod among;
mod broker;
mod connections;
mod cpu;
mod disk;
mod durable;
mod fleet;
mod load;
mod matching;
mod policy;
mod process;
mod rules;
mod shadow;
mod shadows;
mod soak;
mod table;
mod wasm;

use clap::{ArgAction, Parser, ValueEnum};
use process::Kind;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use table::Table;

/// A benchmark ends with the first error, whatever it is; the text says what to do.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The host's: what is measured in this process allocates as it does there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure Gnomon beside its peers; prints tables, asserts no times.
#[derive(Parser)]
#[command(name = "gnomon-bench", version)]
struct Arguments {
    /// What to measure.
    #[arg(value_enum, default_value_t)]
    what: What,
    /// Print one JSON document instead of tables.
    #[arg(long)]
    json: bool,
    /// Seconds that one case is measured; connects are counted instead.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Minutes of the soak.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_440))]
    minutes: u32,
    /// Shadows of the case with many.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    shadows: u32,
    /// Things of the fleet.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    things: u32,
    /// Whether the fleet is indexed and searched.
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    search: bool,
    /// Rounds of the cases beside mosquitto; the median is shown.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// The host to measure; by default the binary `gnomon` beside this one.
    #[arg(long)]
    gnomon: Option<PathBuf>,
    /// Where durable benchmarks write; by default beside this binary. Name a folder on the disk
    /// that matters: memory posing as a disk measures nothing.
    #[arg(long)]
    folder: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum What {
    /// CPU per million messages, and latency at half load, beside mosquitto.
    Broker,
    /// CPU per connect and memory per connection, plain and with TLS, beside mosquitto.
    Connections,
    /// Messages to durable sessions per second, beside mosquitto and the disk's own rate.
    Durable,
    /// Finding what matches among 100,000 subscriptions and retained messages.
    Matching,
    /// Nanoseconds of a publish check by 20 statements, and what comes before the first.
    Policy,
    /// Evaluations of Rules SQL per CPU second, and messages among up to 10,000 rules, beside native
    /// code.
    Rules,
    /// Durable shadow updates per second, beside redb's and the disk's own rate.
    Shadow,
    /// Disk, and start and memory of a host with many shadows.
    Shadows,
    /// Registration, start, memory, reads and search of a host with many things; not part of `all`.
    Fleet,
    /// Memory, files and disk of the host while clients come and go; not part of `all`.
    Soak,
    /// Calls of a plugin that does nothing, beside native ones.
    Wasm,
    /// Everything but `fleet` and `soak`.
    #[default]
    All,
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number from 0.1 to 60".into()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(tables) => {
            show(&tables, arguments.json);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Vec<Table>> {
    if cfg!(debug_assertions) {
        progress("built without optimization: add --release for figures that mean something");
    }
    let measured = Duration::from_secs_f64(arguments.seconds);
    let is_asked = |what| arguments.what == what || arguments.what == What::All;
    let gnomon = || Kind::find_gnomon(arguments.gnomon.as_deref());
    // mosquitto first where it is installed: the others are compared with it.
    let brokers = || {
        Ok::<_, Box<dyn Error + Send + Sync>>(
            Kind::find_mosquitto().into_iter().chain([gnomon()?]).collect::<Vec<_>>(),
        )
    };
    let folder = || match &arguments.folder {
        Some(folder) => Ok(folder.clone()),
        None => std::env::current_exe().map(|path| path.with_file_name("")),
    };
    let mut tables = Vec::new();
    if is_asked(What::Broker) {
        let plan = broker::Plan { measured, rounds: arguments.rounds };
        tables.extend(broker::measure(&plan, &brokers()?)?);
    }
    if is_asked(What::Connections) {
        tables.extend(connections::measure(arguments.rounds, &brokers()?)?);
    }
    if is_asked(What::Durable) {
        tables.push(durable::measure(measured, &brokers()?, &folder()?)?);
    }
    if is_asked(What::Matching) {
        tables.extend(matching::measure(measured)?);
    }
    if is_asked(What::Policy) {
        tables.extend(policy::measure(measured)?);
    }
    if is_asked(What::Rules) {
        tables.push(rules::measure(measured)?);
        tables.push(among::measure(measured)?);
    }
    if is_asked(What::Shadow) {
        tables.push(shadow::measure(measured, &folder()?)?);
    }
    if is_asked(What::Shadows) {
        tables.push(shadows::measure(arguments.shadows, &gnomon()?, &folder()?)?);
    }
    if arguments.what == What::Fleet {
        let plan = fleet::Plan { things: arguments.things, search: arguments.search };
        tables.extend(fleet::measure(plan, &gnomon()?, &folder()?)?);
    }
    if arguments.what == What::Soak {
        let length = Duration::from_secs(u64::from(arguments.minutes) * 60);
        tables.push(soak::measure(length, &gnomon()?, &folder()?)?);
    }
    if is_asked(What::Wasm) {
        tables.push(wasm::measure(measured)?);
    }
    Ok(tables)
}

#[allow(clippy::print_stdout, reason = "the tables are what the command is for")]
fn show(tables: &[Table], json: bool) {
    if json {
        println!("{:#}", serde_json::json!({ "tables": tables }));
        return;
    }
    for table in tables {
        println!("{table}");
    }
}

/// A line about what is being measured: all cases together take minutes.
#[allow(clippy::print_stderr, reason = "a command speaks to its user")]
fn progress(line: &str) {
    eprintln!("{line}");
}

#[allow(clippy::print_stderr, reason = "a command speaks to its user")]
fn complain(error: &dyn Error) {
    eprint!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprint!(": {cause}");
        source = cause.source();
    }
    eprintln!();
}
