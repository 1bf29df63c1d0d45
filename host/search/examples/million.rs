//! Measures the index with a million things: time to build, memory, latency of searches and of changes.
//!
//! Run: `cargo run --release -p gnomon-search --example million [THINGS] [grown]`. With `grown` the things
//! come one after the other, as they do while a host runs, instead of at once as when it starts. Memory is
//! what the process has resident (Linux), so it includes what the allocator holds. Times are those of the
//! processor: a busy machine makes them longer only by what it takes from the caches.

#![allow(clippy::print_stdout, reason = "a table for people")]

use gnomon_search::{
    Builder, Connectivity, Document, FieldType, Index, Kind, Query, Registry, Shadow,
};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The host's: memory and the slowest changes are the allocator's as much as the index's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Times that a query is asked.
const RUNS: usize = 100;

const QUERIES: &[&str] = &[
    "connectivity.connected:true AND attributes.line:3",
    "thingName:device-0004217",
    "attributes.serial:sn-00f00f",
    "thingName:device-00042*",
    "thingName:device-*",
    "attributes.line:[3 TO 7]",
    "connectivity.timestamp>1700000500000",
    "connectivity.timestamp:[1700000500000 TO 1700000500999]",
    "connectivity.connected:true AND thingName:device-0004217",
    "connectivity.timestamp>1700000500000 AND attributes.serial:sn-00f0*",
    "thingTypeName:pump AND NOT connectivity.connected:true",
    "attributes.fw:1.?.7",
    "NOT attributes.line:3",
    "pump",
    "*",
];

/// These test up to a million values one by one.
const SCANS: &[&str] = &[
    "attributes.serial:s*f00f",
    "attributes.serial:sn-?0?0?0",
    "attributes.serial:sn-*f*0*a*",
    "thingId:a*-4b7e-*77",
    "thingName:d*77",
    "connectivity.timestamp:17*777",
    "connectivity.connected:true AND attributes.serial:s*f00f",
    "s*f00f",
];

fn document(n: u64) -> Document {
    let attributes = [
        ("line".to_owned(), (n % 20).to_string()),
        ("fw".to_owned(), format!("1.{}.{}", n % 7, n % 11)),
        // As good as random, so that values do not come in their order.
        ("serial".to_owned(), format!("sn-{:06x}", n.wrapping_mul(0x9e37_79b9) & 0xff_ffff)),
    ];
    let registry = Registry {
        thing_id: format!(
            "{:08x}-4e1b-4b7e-9c43-{n:012x}",
            n.wrapping_mul(0x85eb_ca6b) & 0xffff_ffff
        ),
        thing_type: Some(
            ["pump", "valve", "meter"][usize::try_from(n % 3).unwrap_or(0)].to_owned(),
        ),
        groups: vec![format!("hall-{}", n % 50)],
        attributes: attributes.into(),
        version: 1,
    };
    let connectivity = Connectivity {
        connected: !n.is_multiple_of(4),
        timestamp_ms: Some(1_700_000_000_000 + n.wrapping_mul(0xc2b2_ae35) % 1_000_000),
        disconnect_reason: n.is_multiple_of(4).then(|| "CONNECTION_LOST".to_owned()),
    };
    Document { registry, connectivity: Some(connectivity), ..Document::default() }
}

fn name(n: u64) -> String {
    format!("device-{n:07}")
}

/// Bytes that are resident (`VmRSS`), or were at most (`VmHWM`); 0 where `/proc` is not.
fn memory(line: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.split_whitespace().next());
    found.and_then(|kib| kib.parse::<usize>().ok()).unwrap_or_default() * 1_024
}

/// Processor time of this thread.
fn now() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Median and 99th percentile, in milliseconds.
fn measure(mut run: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..RUNS {
        let start = now();
        run();
        times.push(now() - start);
    }
    times.sort_unstable();
    let at = |percent: usize| times[(RUNS * percent / 100).min(RUNS - 1)].as_secs_f64() * 1e3;
    (at(50), at(99))
}

fn report_searches(index: &Index, queries: &[&str]) {
    println!("\n{:>10} {:>10} {:>10} {:>9}  query (ms)", "p50", "p99", "last page", "matches");
    for text in queries {
        let query = Query::parse(text).expect("it is one of ours");
        let (median, slow) = measure(|| _ = index.search(&query, None, 100));
        let late = name(index.len() as u64 * 9 / 10);
        let (last, _) = measure(|| _ = index.search(&query, Some(&late), 100));
        let matches = index.count(&query);
        println!("{median:>10.3} {slow:>10.3} {last:>10.3} {matches:>9}  {text}");
    }
}

fn report_aggregations(index: &Index) {
    let query = Query::parse("connectivity.connected:true").expect("it is one of ours");
    let print = |what: &str, (median, slow): (f64, f64)| {
        println!("{median:>10.3} {slow:>10.3}  {what}");
    };
    println!("\n{:>10} {:>10}  aggregation over connected:true (ms)", "p50", "p99");
    let line = "attributes.line";
    print("statistics of attributes.line", measure(|| _ = index.statistics(&query, line)));
    print("buckets of attributes.line", measure(|| _ = index.buckets(&query, line, 10)));
    let time = "connectivity.timestamp";
    print(
        "percentiles of connectivity.timestamp",
        measure(|| {
            _ = index.percentiles(&query, time, &[50.0, 95.0, 99.0]);
        }),
    );
    print("cardinality of thingName", measure(|| _ = index.cardinality(&query, "thingName")));
}

/// A row of what single changes take, in microseconds. The clock itself is in it.
fn report_changes(what: &str, changes: u64, mut change: impl FnMut(u64)) {
    let mut times: Vec<Duration> = Vec::new();
    for n in 0..changes {
        let start = now();
        change(n);
        times.push(now() - start);
    }
    times.sort_unstable();
    let at = |place: usize| times[place.min(times.len() - 1)].as_secs_f64() * 1e6;
    let (median, slow, slower) =
        (times.len() / 2, times.len() * 99 / 100, times.len() * 999 / 1_000);
    println!(
        "{:>8.1} {:>8.1} {:>8.1} {:>8.1}  {what}",
        at(median),
        at(slow),
        at(slower),
        at(usize::MAX)
    );
}

fn report_all_changes(index: &mut Index, things: u64) {
    println!("\n{:>8} {:>8} {:>8} {:>8}  change (us)", "p50", "p99", "p99.9", "max");
    let changes = 200_000;
    let any = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % things;
    let documents = |n| document(any(n)).registry;
    report_changes("nothing but the clock", changes, |_| {});
    report_changes("connectivity", changes, |n| {
        let connected = n % 2 == 0;
        let timestamp_ms = Some(1_700_002_000_000 + n);
        let state = Connectivity { connected, timestamp_ms, disconnect_reason: None };
        index.set_connectivity(&name(any(n)), &state);
    });
    // Making the registry's part is not measured.
    let mut same: Vec<Registry> = (0..changes).map(documents).collect();
    report_changes("the same registry again", changes, |n| {
        index.set_registry(&name(any(n)), &same[usize::try_from(n).unwrap_or(0)]);
    });
    for (n, registry) in (0..).zip(&mut same) {
        registry.attributes.insert("line".to_owned(), (n % 20).to_string());
        registry.attributes.insert("serial".to_owned(), format!("new-{n:06x}"));
    }
    report_changes("two attributes of three", changes, |n| {
        index.set_registry(&name(any(n)), &same[usize::try_from(n).unwrap_or(0)]);
    });
    report_changes("a shadow", changes, |n| {
        let reported = serde_json::json!({"temperature": n % 100, "on": n % 2 == 0});
        let shadow = Shadow { reported, version: n, ..Shadow::default() };
        index.set_shadow(&name(any(n)), None, Some(&shadow));
    });
    let new = |n: u64| things + n;
    report_changes("a new thing", changes, |n| index.upsert(&name(new(n)), &document(new(n))));
    report_changes("a thing removed", changes, |n| _ = index.remove(&name(new(n))));
    let query = Query::parse(QUERIES[0]).expect("it is one of ours");
    report_changes("one thing evaluated", changes, |n| _ = index.matches(&query, &name(any(n))));
}

fn main() {
    let things = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let is_grown = std::env::args().nth(2).is_some_and(|text| text == "grown");
    let custom = [("attributes.line".to_owned(), FieldType::Number)];
    let before = memory("VmRSS:");
    let start = now();
    let mut index = if is_grown {
        let mut index = Index::new(Kind::Things, custom);
        (0..things).for_each(|n| index.upsert(&name(n), &document(n)));
        index
    } else {
        let mut builder = Builder::new(Kind::Things, custom);
        (0..things).for_each(|n| builder.add(&name(n), &document(n)));
        builder.build()
    };
    let built = (now() - start).as_secs_f64();
    let each = |bytes: usize| bytes.saturating_sub(before) as f64 / things as f64;
    let (bytes, most) = (each(memory("VmRSS:")), each(memory("VmHWM:")));
    println!("{things} things built in {built:.1} s, {bytes:.0} bytes each, {most:.0} at most");
    let start = now();
    (0..things).for_each(|n| _ = std::hint::black_box((name(n), document(n))));
    println!("{:.1} s of it are the documents", (now() - start).as_secs_f64());
    report_searches(&index, QUERIES);
    report_searches(&index, SCANS);
    report_aggregations(&index);
    report_all_changes(&mut index, things);
    println!("\nafter these changes");
    report_searches(&index, SCANS);
}
