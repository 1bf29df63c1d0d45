//! `connections`: CPU time of a connect, and memory of a connection that is idle.
//!
//! In: how often. Out: two tables, with mosquitto beside Gnomon; plain and with mutual TLS, whose
//! handshakes are complete ones or resume a session.

use crate::load::median;
use crate::process::{self, Kind, Process};
use crate::table::{Cell, Table};
use crate::{Result, progress};
use gnomon_core::time::{Clock, SystemClock};
use gnomon_load::{Fleet, Options, Plan};
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::sleep;

/// Plain connects of one round: some tenths of a second of CPU time, which has steps of 10 ms.
const PLAIN_CONNECTS: u32 = 5_000;

/// Connects with TLS of one round; each takes some tenths of a millisecond or more.
const TLS_CONNECTS: u32 = 1_000;

/// Idle connections at the end, if the system allows as many files; half of them are the
/// beginning of the slope.
const IDLE_CONNECTIONS_MAX: u32 = 10_000;

/// Files of a broker and of this process beside the connections.
const OTHER_FILES: u64 = 128;

/// For a broker to finish what it does after a start or a burst of connections.
const SETTLE: Duration = Duration::from_secs(1);

/// Measures the brokers; the first is what the last is compared with.
pub fn measure(rounds: u32, kinds: &[Kind]) -> Result<Vec<Table>> {
    // A limit that is raised holds for all processes that are started afterwards.
    let files = process::raise_file_limit()?.saturating_sub(OTHER_FILES);
    let most = u32::try_from(files).unwrap_or(u32::MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    runtime.block_on(local.run_until(async {
        let connects = measure_connects(rounds, most, kinds).await?;
        Ok(vec![connects, measure_memory(IDLE_CONNECTIONS_MAX.min(most), kinds).await?])
    }))
}

/// What some connects took.
struct Connects {
    cpu_ms: f64,
    per_s: f64,
    resumed: u64,
    failed: u64,
}

async fn measure_connects(rounds: u32, most: u32, kinds: &[Kind]) -> Result<Table> {
    let mut table = Table::new(
        "Broker: CPU milliseconds of its process per connect",
        &[
            "case",
            "mosquitto",
            "gnomon",
            "ratio",
            "mosquitto conn/s",
            "gnomon conn/s",
            "mosquitto resumed",
            "gnomon resumed",
            "failed",
        ],
    );
    let names = ["plain", "mutual TLS, full", "mutual TLS, resumed"];
    // Case, then broker, then round.
    let mut samples: [[Vec<Connects>; 2]; 3] = Default::default();
    let mut processes = Vec::new();
    for kind in kinds {
        processes.push((kind.name(), kind.start().await?));
    }
    for round in 1..=rounds {
        for (broker, process) in &processes {
            progress(&format!("connections: connects of {broker}, round {round}"));
            let at = usize::from(*broker == "gnomon");
            let count = PLAIN_CONNECTS.min(most);
            samples[0][at].push(connects(process, &only(count, process.plain()), count).await?);
            let count = TLS_CONNECTS.min(most);
            samples[1][at].push(connects(process, &only(count, process.tls()), count).await?);
            // As devices that each come again: the first time only collects tickets.
            let plan = Plan::new(&only(count, Options { resume: true, ..process.tls() }))?;
            connects_of(process, plan.clone(), count).await?;
            samples[2][at].push(connects_of(process, plan, count).await?);
        }
    }
    for (name, of_brokers) in names.into_iter().zip(samples) {
        let failed = of_brokers.iter().flatten().map(|it| it.failed).sum();
        let [mosquitto, gnomon] = of_brokers.map(|samples| median(samples, |it| it.cpu_ms));
        let cpu = |sample: &Option<Connects>| sample.as_ref().map(|it| it.cpu_ms);
        let speed = |sample: &Option<Connects>| sample.as_ref().map(|it| it.per_s);
        let resumed = |sample: &Option<Connects>| sample.as_ref().map(|it| it.resumed);
        let ratio = cpu(&gnomon).zip(cpu(&mosquitto)).map(|(ours, theirs)| ours / theirs);
        table.row([
            name.into(),
            cpu(&mosquitto).into(),
            cpu(&gnomon).into(),
            ratio.into(),
            speed(&mosquitto).into(),
            speed(&gnomon).into(),
            resumed(&mosquitto).into(),
            resumed(&gnomon).into(),
            Cell::Count(failed),
        ]);
    }
    table.note(format!(
        "Medians of {rounds} interleaved rounds of {} plain and {} TLS connects, 64 at a time.",
        PLAIN_CONNECTS.min(most),
        TLS_CONNECTS.min(most)
    ));
    Ok(table)
}

fn only(count: u32, options: Options) -> Options {
    Options { connections_only: Some(count), ..options }
}

async fn connects(process: &Process, options: &Options, count: u32) -> Result<Connects> {
    connects_of(process, Plan::new(options)?, count).await
}

/// Connects, and disconnects again without measuring that. Plans that are clones share tickets.
async fn connects_of(process: &Process, plan: Plan, count: u32) -> Result<Connects> {
    let mut fleet = Fleet::new(plan).await?;
    sleep(SETTLE).await;
    let (start, before) = (SystemClock.now(), process.cpu()?);
    fleet.grow(count).await;
    let (wall, cpu) = (start.elapsed(), process.cpu()?.saturating_sub(before));
    let report = fleet.report();
    fleet.close().await;
    let opened = report.connections.opened;
    if opened == 0 {
        return Err(format!("no client could connect\n{report}").into());
    }
    Ok(Connects {
        cpu_ms: cpu.as_secs_f64() * 1e3 / opened as f64,
        per_s: opened as f64 / wall.as_secs_f64(),
        resumed: report.connections.resumed_handshakes,
        failed: report.connections.failed,
    })
}

async fn measure_memory(many: u32, kinds: &[Kind]) -> Result<Table> {
    let few = many / 2;
    let mut table = Table::new(
        format!("Broker: resident memory of idle connections ({few}, then {many})"),
        &[
            "case",
            "at rest, KiB",
            "few, KiB",
            "many, KiB",
            "bytes each: slope",
            "bytes each: over all",
        ],
    );
    for case in ["plain", "plain, one subscription", "mutual TLS"] {
        for kind in kinds {
            progress(&format!("connections: memory of {}, {case}", kind.name()));
            let process = kind.start().await?;
            let options = if case == "mutual TLS" { process.tls() } else { process.plain() };
            let filter = (case == "plain, one subscription").then(|| "idle/{i}/+".to_owned());
            let options = only(many, Options { filter, ..options });
            let [at_rest, with_few, with_many] = resident(&process, &options, few, many).await?;
            let slope = with_many.saturating_sub(with_few) as f64 / f64::from(many - few);
            let over_all = with_many.saturating_sub(at_rest) as f64 / f64::from(many);
            table.row([
                Cell::Text(format!("{case}: {}", kind.name())),
                Cell::Count(at_rest / 1_024),
                Cell::Count(with_few / 1_024),
                Cell::Count(with_many / 1_024),
                Cell::Number(slope),
                Cell::Number(over_all),
            ]);
        }
    }
    table.note(
        "The slope is between both counts; over all counts what the first connections make a broker \
         keep, too. Kernel memory is not included.",
    );
    Ok(table)
}

/// Bytes at rest, with few connections, and with many.
async fn resident(process: &Process, options: &Options, few: u32, many: u32) -> Result<[u64; 3]> {
    let mut fleet = Fleet::new(Plan::new(options)?).await?;
    let at_rest = settled_bytes(process).await?;
    fleet.grow(few).await;
    let with_few = settled_bytes(process).await?;
    fleet.grow(many - few).await;
    let with_many = settled_bytes(process).await?;
    let report = fleet.report();
    fleet.close().await;
    if report.connections.failed > 0 {
        return Err(format!("connections failed while memory was measured\n{report}").into());
    }
    Ok([at_rest, with_few, with_many])
}

async fn settled_bytes(process: &Process) -> Result<u64> {
    sleep(SETTLE).await;
    process.resident_bytes()
}
