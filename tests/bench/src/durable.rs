//! `durable`: QoS 1 messages to durable sessions per second, beside the disk's own rate.
//!
//! In: how long, the brokers, and a folder on the disk that matters. Out: a table. Each publisher
//! waits for PUBACK and its subscriber's receipt before it sends the next, so publishers are also
//! the messages under way, and what they gain over the disk's rate one by one is what the group
//! commit gives; the disk's rate in batches is what it could give at most. mosquitto is beside it
//! with its persistence, which promises less: it acknowledges first.

use crate::disk::{Durations, append};
use crate::load::{self, WARM_UP_S};
use crate::process::Kind;
use crate::table::{Cell, Table};
use crate::{Result, progress};
use gnomon_load::{Options, Protocol, Qos};
use std::path::Path;
use std::time::Duration;

/// Bytes of a payload, and of a message in a raw append.
const BYTES: u32 = 256;

/// Each publisher has a subscriber of its own.
const PAIRS: [u32; 3] = [1, 100, 1_000];

/// Seconds that the host keeps a session whose client is gone: longer than the benchmark.
const SESSION_EXPIRY_S: u32 = 3_600;

/// Messages that one raw append makes durable together.
const BATCHES: [u32; 3] = [1, 100, 1_000];

/// Measures with the brokers' data inside `folder`.
pub fn measure(measured: Duration, kinds: &[Kind], folder: &Path) -> Result<Table> {
    let mut table = Table::new(
        "Durable: QoS 1 messages to durable sessions per second",
        &["case", "per second", "p50 ms", "p99 ms", "times the disk's rate", "CPU s per million"],
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Half before and half after: a disk that slows down meets both.
    let mut raw = append_batches(measured / 2, folder)?;
    let samples = runtime.block_on(async {
        let mut samples = Vec::new();
        for kind in kinds {
            for pairs in PAIRS {
                progress(&format!("durable: {}, {pairs} publishers", kind.name()));
                let process = kind.start_in(folder).await?;
                let options = Options {
                    protocol: Protocol::V5,
                    session_expiry: SESSION_EXPIRY_S,
                    publishers: pairs,
                    subscribers: pairs,
                    qos: Qos::AtLeastOnce,
                    payload: BYTES,
                    window: 1,
                    warm_up: WARM_UP_S,
                    duration: measured.as_secs_f64(),
                    ..process.plain()
                };
                samples.push((kind.name(), pairs, load::run(&process, &options).await?));
            }
        }
        Result::Ok(samples)
    })?;
    for (before, after) in raw.iter_mut().zip(append_batches(measured / 2, folder)?) {
        before.join(after);
    }

    let raw_rate = raw[0].per_second();
    for (batch, durations) in BATCHES.into_iter().zip(raw) {
        let name = format!("raw append of {batch} x {BYTES} B + fdatasync");
        let row = durations.into_row(&name, f64::from(batch), raw_rate);
        table.row(row.into_iter().chain([Cell::Absent]));
    }
    for (broker, pairs, sample) in samples {
        let latency = sample.report.latency_ms;
        let plural = if pairs == 1 { "" } else { "s" };
        table.row([
            Cell::Text(format!(
                "{broker}: {pairs} publisher{plural}, each to a session of its own"
            )),
            Cell::Number(sample.received_per_s()),
            latency.map(|it| it.p50).into(),
            latency.map(|it| it.p99).into(),
            Cell::Number(sample.received_per_s() / raw_rate),
            Cell::Number(sample.cpu_per_million()),
        ]);
        if sample.report.messages.lost > 0 {
            let lost = sample.report.messages.lost;
            table.note(format!("{broker}, {pairs} publisher{plural}: {lost} messages lost"));
        }
    }
    table.note("One message of each publisher under way; p50 and p99 are until it arrives.");
    table.note(
        "gnomon acknowledges what is on the disk. mosquitto acknowledges first, then writes its \
         whole database anew and syncs that: a crash in between loses what it has acknowledged.",
    );
    Ok(table)
}

/// The disk's own rate, for each of [`BATCHES`].
fn append_batches(measured: Duration, folder: &Path) -> Result<Vec<Durations>> {
    let each = BATCHES.into_iter().map(|batch| {
        progress(&format!("durable: append of {batch} and fdatasync"));
        append((batch * BYTES) as usize, measured, folder)
    });
    each.collect()
}
