//! What was acknowledged survives the sudden death of the process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use bytes::Bytes;
use gnomon_core::metrics::Metrics;
use gnomon_core::storage::{Expect, Key, Storage};
use gnomon_store::{Options, RedbStore};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Tells the child where to write.
const FOLDER: &str = "GNOMON_TEST_CRASH_FOLDER";
const WRITERS: usize = 64;
const ROUNDS: usize = 4;
const ACKNOWLEDGED_PER_ROUND: usize = 2_000;

/// The test starts its own program again as the writer, and kills it with SIGKILL.
#[test]
fn acknowledged_writes_survive_kill() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        write_until_killed(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "acknowledged_writes_survive_kill", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut read = 0;
        for line in lines {
            let line = line.unwrap();
            // A line that the kill cut off has no full stop.
            let Some(n) = line.strip_prefix("written ").and_then(|n| n.strip_suffix('.')) else {
                continue;
            };
            acknowledged.push(n.to_owned());
            read += 1;
            if read == ACKNOWLEDGED_PER_ROUND {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(read >= ACKNOWLEDGED_PER_ROUND, "round {round}: the writer ended early");
        check(folder.path(), &acknowledged);
    }
}

/// Writes ever new keys from many tasks and prints each when it is acknowledged.
#[tokio::main]
async fn write_until_killed(folder: &Path) {
    let store = RedbStore::open(folder, &Options::default(), Arc::new(Metrics::default())).unwrap();
    let store = Arc::new(store);
    let start = store.scan(&Key::prefix("k"), None, usize::MAX).await.unwrap().len();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            for n in (start + writer..).step_by(WRITERS) {
                let n = format!("{start}-{n}");
                let value = Bytes::from(n.repeat(20));
                store.put(&Key::new("k", &[&n]), value, Expect::Absent).await.unwrap();
                let line = format!("written {n}.\n");
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    writers.join_all().await;
}

#[tokio::main]
async fn check(folder: &Path, acknowledged: &[String]) {
    let store = RedbStore::open(folder, &Options::default(), Arc::new(Metrics::default())).unwrap();
    for n in acknowledged {
        let record = store.get(&Key::new("k", &[n])).await.unwrap();
        let record = record.unwrap_or_else(|| panic!("{n} was acknowledged and is gone"));
        assert_eq!(record.value, n.repeat(20));
    }
    store.close().await;
}
