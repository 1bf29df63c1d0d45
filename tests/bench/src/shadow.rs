//! `shadow`: durable updates of device shadows per second, beside the disk's own rate.
//!
//! In: how long, and a folder on the disk that matters. Out: a table. Each device waits for the
//! answer to its update before it sends the next, so devices are also the updates under way, and
//! what they gain over the disk's rate is what the group commit gives.
//! Not here: MQTT (`broker` measures that); the updates enter where the REST API's do.

use crate::disk::{Durations, append, temporary};
use crate::table::Table;
use crate::{Result, progress};
use bytes::Bytes;
use gnomon_core::broker::Broker;
use gnomon_core::ids::ThingName;
use gnomon_core::limits::Limits;
use gnomon_core::metrics::Metrics;
use gnomon_core::shadow::{Service, ShadowId};
use gnomon_core::time::{Clock, SystemClock};
use gnomon_store::{Options, RedbStore};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Bytes of one raw append: about what one small shadow takes.
const RAW_BYTES: usize = 256;

/// Things whose shadows are updated at the same time.
const CASES: [(&str, u32); 3] = [("1 device", 1), ("100 devices", 100), ("10,000 devices", 10_000)];

/// Measures in a temporary folder inside `folder`.
pub fn measure(measured: Duration, folder: &Path) -> Result<Table> {
    let mut table = Table::new(
        "Shadow: durable updates per second",
        &["case", "per second", "p50 ms", "p99 ms", "times the disk's rate"],
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // Half before and half after: a disk that slows down meets both.
    progress("shadow: append and fdatasync");
    let mut raw = append(RAW_BYTES, measured / 2, folder)?;
    let mut updates = Vec::new();
    for (name, devices) in CASES {
        progress(&format!("shadow: {name}"));
        updates.push((name, runtime.block_on(update(devices, measured, folder))?));
    }
    raw.join(append(RAW_BYTES, measured / 2, folder)?);

    let raw_rate = raw.per_second();
    let name = format!("raw append of {RAW_BYTES} B + fdatasync");
    table.row(raw.into_row(&name, 1.0, raw_rate));
    for (name, durations) in updates {
        table.row(durations.into_row(name, 1.0, raw_rate));
    }
    table.note("Every device has one update under way; p50 and p99 are until it is durable.");
    Ok(table)
}

async fn update(devices: u32, measured: Duration, folder: &Path) -> Result<Durations> {
    let folder = temporary(folder)?;
    let metrics = Arc::new(Metrics::default());
    let store = Arc::new(RedbStore::open(folder.path(), &Options::default(), metrics.clone())?);
    let limits = Arc::new(Limits::default());
    let (broker, clock) = (Broker::in_memory(), Arc::new(SystemClock));
    let service = Arc::new(Service::start(store.clone(), broker, clock, limits, metrics));

    // The first update makes the shadow; what is measured is an update of one that is there.
    run(devices, Duration::ZERO, &service).await?;
    let durations = run(devices, measured, &service).await?;
    service.shutdown().await;
    store.close().await;
    Ok(durations)
}

/// Lets every device update its shadow until the time is up, once at least.
async fn run(devices: u32, measured: Duration, service: &Arc<Service>) -> Result<Durations> {
    let start = SystemClock.now();
    let end = start + measured;
    let mut tasks = JoinSet::new();
    for number in 0..devices {
        let thing = ThingName::parse(&format!("sensor-{number}"))?;
        tasks.spawn(device(service.clone(), ShadowId { thing, name: None }, end));
    }
    let mut durations = Durations::default();
    while let Some(ended) = tasks.join_next().await {
        durations.each.extend(ended??);
    }
    durations.wall = start.elapsed();
    Ok(durations)
}

async fn device(service: Arc<Service>, id: ShadowId, end: Instant) -> Result<Vec<Duration>> {
    let mut durations = Vec::new();
    loop {
        let begin = SystemClock.now();
        let count = durations.len();
        let request = format!(r#"{{"state":{{"reported":{{"temp":21.5,"count":{count}}}}}}}"#);
        service.update(id.clone(), Bytes::from(request)).await?;
        durations.push(begin.elapsed());
        if SystemClock.now() >= end {
            return Ok(durations);
        }
    }
}
