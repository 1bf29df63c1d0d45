//! `shadows`: what many shadows cost: disk, and the start and memory of a host that has them.
//!
//! In: how many, the host, and a folder on the disk that matters. Out: a table, with a host that
//! has none beside it. The shadows enter where the REST API's updates do, before the host starts.

use crate::disk::temporary;
use crate::process::Kind;
use crate::table::{Cell, Table};
use crate::{Result, progress, shadow};
use bytes::Bytes;
use gnomon_core::ids::ThingName;
use gnomon_core::metrics::Metrics;
use gnomon_core::shadow::{Service, ShadowId};
use gnomon_core::time::{Clock, SystemClock};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Updates under way while the shadows are made.
const WRITERS: u32 = 5_000;

/// Shadows that are read to see how long one takes: few enough not to fill the cache.
const READS: u32 = 1_000;

/// Makes so many shadows and starts hosts.
pub fn measure(count: u32, gnomon: &Kind, folder: &Path) -> Result<Table> {
    let mut table = Table::new(
        format!("{count} shadows: the disk, and a host that has them"),
        &["case", "seconds until ready", "resident KiB", "data KiB", "bytes per shadow"],
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        progress("shadows: a host without");
        let process = gnomon.start_in(folder).await?;
        let empty = process.data_bytes()?;
        table.row([
            "host with no shadow".into(),
            Cell::Number(process.ready_after.as_secs_f64()),
            Cell::Count(process.resident_bytes()? / 1_024),
            Cell::Count(empty / 1_024),
            Cell::Absent,
        ]);
        drop(process);

        let folder = temporary(folder)?;
        let made = make(count, &folder.path().join("data")).await?;
        progress("shadows: a host with them");
        for name in ["host with the shadows", "the same after a crash"] {
            let process = gnomon.start_on(folder.path()).await?;
            let bytes = process.data_bytes()?;
            table.row([
                name.into(),
                Cell::Number(process.ready_after.as_secs_f64()),
                Cell::Count(process.resident_bytes()? / 1_024),
                Cell::Count(bytes / 1_024),
                Cell::Number(bytes.saturating_sub(empty) as f64 / f64::from(count)),
            ]);
            // Dropping it kills it: the next one starts after a crash.
            drop(process);
        }
        table.note(format!(
            "Made at {:.0} per second, {WRITERS} under way. Opening the store and starting the \
             service with them takes {:.1} ms; a shadow is read in {:.3} ms.",
            f64::from(count) / made.making.as_secs_f64(),
            made.opening.as_secs_f64() * 1e3,
            made.reading.as_secs_f64() * 1e3 / f64::from(READS),
        ));
        Ok(table)
    })
}

/// How long it took.
struct Made {
    making: Duration,
    /// Opening the store again and starting the service.
    opening: Duration,
    /// [`READS`] shadows, one after the other, all over the file.
    reading: Duration,
}

async fn make(count: u32, data: &Path) -> Result<Made> {
    progress("shadows: made");
    std::fs::create_dir(data)?;
    let (store, service) = shadow::start(data, Arc::new(Metrics::default()))?;
    let begin = SystemClock.now();
    let mut writers = JoinSet::new();
    for first in 0..WRITERS.min(count) {
        let service = service.clone();
        writers.spawn(async move {
            for number in (first..count).step_by(WRITERS as usize) {
                service.update(id(number)?, Bytes::from(request(number))).await?;
            }
            Result::Ok(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    let making = begin.elapsed();
    stop(&store, service).await;

    let begin = SystemClock.now();
    let (store, service) = shadow::start(data, Arc::new(Metrics::default()))?;
    let opening = begin.elapsed();
    let begin = SystemClock.now();
    for number in (0..READS).map(|read| u64::from(read) * u64::from(count) / u64::from(READS)) {
        service.get(id(u32::try_from(number)?)?).await?;
    }
    let reading = begin.elapsed();
    stop(&store, service).await;
    Ok(Made { making, opening, reading })
}

async fn stop(store: &gnomon_store::RedbStore, service: Arc<Service>) {
    service.shutdown().await;
    store.close().await;
}

fn id(number: u32) -> Result<ShadowId> {
    Ok(ShadowId { thing: ThingName::parse(&format!("sensor-{number:07}"))?, name: None })
}

/// What a small device has: a setting, a reading, a position.
fn request(number: u32) -> String {
    format!(
        r#"{{"state":{{"desired":{{"interval":60}},"reported":{{"interval":60,"temp":{}.5,
        "position":{{"lat":52.52,"lon":13.405}},"firmware":"1.4.2"}}}}}}"#,
        number % 40
    )
}
