//! `soak`: whether the host's memory, files and disk stay where they are while clients come and go.
//!
//! In: how long, the host, and a folder for its data. Out: a table over time. Waves of clients
//! follow each other, none with a name or topic that was there before: what the host kept of one
//! that is gone would add up.

use crate::load;
use crate::process::{Kind, Process};
use crate::table::{Cell, Table};
use crate::{Result, progress};
use gnomon_core::time::{Clock, SystemClock};
use gnomon_load::{Fleet, Options, Plan, Protocol, Qos, Shape};
use std::path::Path;
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::sleep;

/// Of one wave with traffic.
const WAVE_S: f64 = 1.0;

/// Connections of a wave without traffic, which vanish without DISCONNECT.
const VANISHING: u32 = 300;

/// Seconds that sessions of a wave outlive it.
const SESSION_EXPIRY_S: u32 = 2;

/// For sessions to expire and the host to settle at the end.
const SETTLE: Duration = Duration::from_secs(10);

/// Rows of the table while clients come and go.
const ROWS: u32 = 10;

/// Topics that waves retain messages on; the same again and again, as devices do.
const RETAINED: u32 = 5;

/// Lets clients come and go for so long.
pub fn measure(length: Duration, gnomon: &Kind, folder: &Path) -> Result<Table> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    runtime.block_on(local.run_until(soak(length, gnomon, folder)))
}

/// Counted over all waves.
#[derive(Clone, Copy, Default)]
struct Total {
    connections: u64,
    messages: u64,
    failed: u64,
    lost: u64,
}

async fn soak(length: Duration, gnomon: &Kind, folder: &Path) -> Result<Table> {
    let mut table = Table::new(
        format!("Soak: {} minutes of clients that come and go", length.as_secs() / 60),
        &["at", "connections so far", "messages so far", "resident KiB", "files", "data KiB"],
    );
    let process = gnomon.start_in(folder).await?;
    let start = SystemClock.now();
    let mut total = Total::default();
    let mut bytes = Vec::new();
    show(&mut table, "start", total, &process)?;
    for row in 1..=ROWS {
        let until = length * row / ROWS;
        let mut wave = 0;
        while start.elapsed() < until {
            wave += 1;
            run_wave(&process, &format!("{row}-{wave}"), wave, &mut total).await?;
        }
        progress(&format!("soak: {row} of {ROWS} parts"));
        bytes.push(process.resident_bytes()?);
        show(&mut table, &format!("{:.1} min", until.as_secs_f64() / 60.0), total, &process)?;
    }
    sleep(SETTLE).await;
    show(&mut table, "all gone", total, &process)?;
    if let [_, early, .., last] = bytes[..] {
        table.note(format!(
            "From the second row to the last with clients: {:+} KiB.",
            (i128::from(last) - i128::from(early)) / 1_024
        ));
    }
    table.note(format!("{} connections failed, {} messages lost.", total.failed, total.lost));
    Ok(table)
}

fn show(table: &mut Table, at: &str, total: Total, process: &Process) -> Result<()> {
    table.row([
        at.into(),
        Cell::Count(total.connections),
        Cell::Count(total.messages),
        Cell::Count(process.resident_bytes()? / 1_024),
        Cell::Count(process.open_files()?),
        Cell::Count(process.data_bytes()? / 1_024),
    ]);
    Ok(())
}

/// One kind of client after another.
async fn run_wave(process: &Process, name: &str, wave: u32, total: &mut Total) -> Result<()> {
    let client_id = format!("soak-{name}");
    if wave.is_multiple_of(6) {
        let filter = Some(format!("soak/{name}/{{i}}/#"));
        let plain = Options { client_id, filter, ..process.plain() };
        let mut fleet =
            Fleet::new(Plan::new(&Options { connections_only: Some(VANISHING), ..plain })?).await?;
        fleet.grow(VANISHING).await;
        let connections = fleet.report().connections;
        total.connections += connections.opened;
        total.failed += connections.failed;
        return Ok(());
    }
    let (pairs, qos) = match wave % 6 {
        1 => (50, Qos::AtMostOnce),
        2 | 3 => (50, Qos::AtLeastOnce),
        _ => (20, Qos::ExactlyOnce),
    };
    let options = Options {
        client_id,
        publishers: pairs,
        subscribers: pairs,
        topic: format!("soak/{name}/{{i}}"),
        qos,
        window: 4,
        rate: 2_000.0,
        duration: WAVE_S,
        ..process.plain()
    };
    let options = match wave % 6 {
        // Durable, until they expire.
        2 => Options { protocol: Protocol::V5, session_expiry: SESSION_EXPIRY_S, ..options },
        3 => {
            let tls = process.tls();
            let Options { ca, cert, key, server_name, url, .. } = tls;
            Options { ca, cert, key, server_name, url, ..options }
        }
        4 => Options { retain: true, topic: format!("kept/{}/{{i}}", wave % RETAINED), ..options },
        5 => {
            let topic = format!("soak/{name}");
            Options {
                publishers: 1,
                shape: Shape::FanOut,
                topic,
                protocol: Protocol::V5,
                ..options
            }
        }
        _ => options,
    };
    let report = load::run(process, &options).await?.report;
    total.connections += report.connections.opened;
    total.failed += report.connections.failed;
    total.messages += report.messages.received;
    total.lost += report.messages.lost;
    Ok(())
}
