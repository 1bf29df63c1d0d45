//! `shadow`: durable updates of device shadows per second, beside the disk's own rate and beside
//! what redb does with the same batches.
//!
//! In: how long, and a folder on the disk that matters. Out: a table. Each device waits for the
//! answer to its update before it sends the next, so devices are also the updates under way, and
//! what they gain over the disk's rate is what the group commit gives.
//! Not here: MQTT (`broker` measures that); the updates enter where the REST API's do.

use crate::disk::{Durations, append, temporary};
use crate::table::{Cell, Table};
use crate::{Result, progress};
use bytes::Bytes;
use gnomon_core::broker::Broker;
use gnomon_core::ids::ThingName;
use gnomon_core::limits::Limits;
use gnomon_core::metrics::Metrics;
use gnomon_core::shadow::{Service, ShadowId};
use gnomon_core::time::{Clock, SystemClock};
use gnomon_store::{Options, RedbStore};
use redb::TableDefinition;
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
        &["case", "per second", "p50 ms", "p99 ms", "times the disk's rate", "times redb's rate"],
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // Half before and half after: a disk that slows down meets both.
    progress("shadow: append and fdatasync");
    let mut raw = append(RAW_BYTES, measured / 2, folder)?;
    let mut cases = Vec::new();
    for (name, devices) in CASES {
        progress(&format!("shadow: {name}"));
        let updates = runtime.block_on(update(devices, measured, folder))?;
        progress(&format!("shadow: redb with {} updates per commit", updates.batch));
        let redb = commit(devices, updates.batch, measured, folder)?;
        cases.push((name, updates, redb));
    }
    raw.join(append(RAW_BYTES, measured / 2, folder)?);

    let raw_rate = raw.per_second();
    let name = format!("raw append of {RAW_BYTES} B + fdatasync");
    table.row(raw.into_row(&name, 1.0, raw_rate).into_iter().chain([Cell::Absent]));
    for (name, Updates { durations, batch }, redb) in cases {
        let redb_rate = redb.per_second() * f64::from(batch);
        let ratio = durations.per_second() / redb_rate;
        let row = durations.into_row(name, 1.0, raw_rate);
        table.row(row.into_iter().chain([Cell::Number(ratio)]));
        let name = format!("redb itself, {batch} updates per commit");
        let row = redb.into_row(&name, f64::from(batch), raw_rate);
        table.row(row.into_iter().chain([Cell::Number(1.0)]));
    }
    table.note("Every device has one update under way; p50 and p99 are until it is durable.");
    table.note(format!(
        "redb writes values of {RAW_BYTES} B in random order, as many per commit as the case above had \
         on average, and nothing else; its p50 and p99 are of a whole commit."
    ));
    Ok(table)
}

/// How updates went.
struct Updates {
    durations: Durations,
    /// Updates of one group commit, on average.
    batch: u32,
}

async fn update(devices: u32, measured: Duration, folder: &Path) -> Result<Updates> {
    let folder = temporary(folder)?;
    let metrics = Arc::new(Metrics::default());
    let (store, service) = start(folder.path(), metrics.clone())?;

    // The first update makes the shadow; what is measured is an update of one that is there.
    run(devices, Duration::ZERO, &service).await?;
    let counts = || (metrics.store_writes.get(), metrics.store_commits.get());
    let (writes, commits) = counts();
    let durations = run(devices, measured, &service).await?;
    let (writes, commits) = (counts().0 - writes, counts().1 - commits);
    service.shutdown().await;
    store.close().await;
    Ok(Updates { durations, batch: u32::try_from(writes.div_ceil(commits.max(1)))? })
}

/// Store and shadow service as the host has them.
pub fn start(folder: &Path, metrics: Arc<Metrics>) -> Result<(Arc<RedbStore>, Arc<Service>)> {
    let store = Arc::new(RedbStore::open(folder, &Options::default(), metrics.clone())?);
    let limits = Arc::new(Limits::default());
    let (broker, clock) = (Broker::in_memory(), Arc::new(SystemClock));
    let service = Service::start(store.clone(), broker, clock, limits, metrics);
    Ok((store, Arc::new(service)))
}

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// What redb can do: commits of so many updates, one after another, set up as the store does it.
fn commit(devices: u32, batch: u32, measured: Duration, folder: &Path) -> Result<Durations> {
    let folder = temporary(folder)?;
    let database = redb::Database::create(folder.path().join("redb"))?;
    let value = vec![0x55; RAW_BYTES];
    let put = |devices: &mut dyn Iterator<Item = u32>| {
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        let mut records = transaction.open_table(RECORDS)?;
        for device in devices {
            records.insert(format!("shadow/sensor-{device}/").as_bytes(), &*value)?;
        }
        drop(records);
        Result::Ok(transaction.commit()?)
    };
    put(&mut (0..devices))?;
    // Devices report in no order.
    let mut random = 1_u64;
    let mut next = std::iter::repeat_with(|| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u32::try_from(random >> 33).unwrap_or(0) % devices
    });
    let mut durations = Durations::default();
    let start = SystemClock.now();
    while start.elapsed() < measured {
        let begin = SystemClock.now();
        put(&mut next.by_ref().take(batch as usize))?;
        durations.each.push(begin.elapsed());
    }
    durations.wall = start.elapsed();
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
