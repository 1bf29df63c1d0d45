//! Tests of both engines on a file that fails like a full or broken disk.

use crate::engine::RedbStore;
use crate::file::{Create, Opener};
use crate::journal::RedbJournal;
use bytes::Bytes;
use gnomon_core::metrics::Metrics;
use gnomon_core::storage::{Commit, Expect, Journal, Key, Storage, StoreError, Watched};
use redb::backends::FileBackend;
use redb::{Database, StorageBackend};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The disk works.
const WORKS: u8 = 0;
/// The disk is full: the file cannot grow.
const FULL: u8 = 1;
/// Data is written, but the sync that proves it fails.
const SYNC_FAILS: u8 = 2;
/// Nothing works.
const BROKEN: u8 = 3;

#[derive(Debug)]
struct FailingFile {
    file: FileBackend,
    mode: Arc<AtomicU8>,
}

impl FailingFile {
    fn fail_in(&self, modes: &[u8]) -> io::Result<()> {
        if modes.contains(&self.mode.load(Ordering::SeqCst)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl StorageBackend for FailingFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.fail_in(&[BROKEN])?;
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > self.file.len()? {
            self.fail_in(&[FULL, BROKEN])?;
        }
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fail_in(&[SYNC_FAILS, BROKEN])?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.fail_in(&[BROKEN])?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

/// Opens files that fail as the mode says.
fn opener(mode: &Arc<AtomicU8>) -> Opener {
    let mode = mode.clone();
    Box::new(move |path: &Path, create| {
        let mut options = File::options();
        options.read(true).write(true).create(create == Create::IfMissing);
        let file = FileBackend::new(options.open(path)?)?;
        Database::builder().create_with_backend(FailingFile { file, mode: mode.clone() })
    })
}

struct Bed {
    store: RedbStore,
    mode: Arc<AtomicU8>,
    metrics: Arc<Metrics>,
    _folder: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mode = Arc::new(AtomicU8::new(WORKS));
        let metrics = Arc::new(Metrics::default());
        let store = RedbStore::open_with(folder.path(), opener(&mode), metrics.clone()).unwrap();
        Self { store, mode, metrics, _folder: folder }
    }

    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }

    async fn put(&self, n: u32, len: usize) -> Result<(), StoreError> {
        let value = Bytes::from(vec![1; len]);
        self.store.put(&key(n), value, Expect::Any).await.map(|_| ())
    }

    /// Repeats the operation until it succeeds; the committer waits in real time.
    async fn until_ok<T>(operation: impl AsyncFn() -> Result<T, StoreError>) -> T {
        let attempts = async {
            loop {
                match operation().await {
                    Ok(value) => return value,
                    Err(StoreError::Unavailable(_)) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), attempts).await.unwrap()
    }
}

fn key(n: u32) -> Key {
    Key::new("k", &[&n.to_string()])
}

#[track_caller]
fn assert_unavailable<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    match result {
        Err(StoreError::Unavailable(_)) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_reads_and_heals() {
    let bed = Bed::new();
    bed.put(0, 10).await.unwrap();
    bed.set(FULL);
    let mut refused = 1;
    // What redb has in reserve is used up first.
    while bed.put(refused, 1_024 * 1_024).await.is_ok() {
        refused += 1;
    }
    assert_unavailable(bed.put(refused, 1_024 * 1_024).await);
    let record = Bed::until_ok(async || bed.store.get(&key(0)).await).await.unwrap();
    assert_eq!(record.value.len(), 10);
    assert!(bed.metrics.store_refused.get() >= 2);

    bed.set(WORKS);
    Bed::until_ok(|| bed.put(refused, 1_024 * 1_024)).await;
    let found = bed.store.scan(&Key::prefix("k"), None, usize::MAX).await.unwrap();
    assert_eq!(found.len(), usize::try_from(refused).unwrap() + 1);
    assert!(found.windows(2).all(|pair| pair[0].revision != pair[1].revision));
    bed.store.close().await;
}

#[tokio::test]
async fn a_failed_sync_is_no_acknowledgement_and_watchers_learn_what_became_of_it() {
    let bed = Bed::new();
    bed.put(0, 10).await.unwrap();
    let mut watch = bed.store.watch(&Key::prefix("k"));
    bed.set(SYNC_FAILS);
    assert_unavailable(bed.put(1, 10).await);
    bed.set(WORKS);
    Bed::until_ok(|| bed.put(2, 10)).await;
    // Whether the write is there is up to the disk; what the watch says must agree with it.
    let mut changed = Vec::new();
    while changed.last() != Some(&key(2)) {
        let Some(Watched::Change(change)) = watch.next().await else { panic!("watch ended") };
        let record = bed.store.get(&change.key).await.unwrap().unwrap();
        assert_eq!(Some(record.revision), change.revision);
        changed.push(change.key);
    }
    let present = bed.store.get(&key(1)).await.unwrap().is_some();
    assert_eq!(changed.contains(&key(1)), present);
    bed.store.close().await;
}

#[tokio::test]
async fn a_broken_disk_is_unavailable_until_it_works_again() {
    let bed = Bed::new();
    bed.put(0, 10).await.unwrap();
    bed.set(BROKEN);
    assert_unavailable(bed.put(0, 10).await);
    // The second is refused by a committer that could not open the file again; until then reads
    // may be answered from memory.
    assert_unavailable(bed.put(0, 10).await);
    assert_unavailable(bed.store.get(&key(0)).await);
    assert_unavailable(bed.store.scan(&Key::prefix("k"), None, 1).await);
    bed.set(WORKS);
    Bed::until_ok(|| bed.put(0, 20)).await;
    assert_eq!(bed.store.get(&key(0)).await.unwrap().unwrap().value.len(), 20);
    bed.store.close().await;
}

#[tokio::test]
async fn a_store_that_fails_can_be_closed() {
    let bed = Bed::new();
    bed.set(BROKEN);
    assert_unavailable(bed.put(0, 10).await);
    bed.store.close().await;
    assert_unavailable(bed.put(0, 10).await);
}

/// A commit of as many bytes, its number as a document.
fn commit(number: u64, len: usize) -> Commit {
    let document = (Key::new("k", &[&number.to_string()]), Some(Bytes::new()));
    Commit {
        number,
        record: Some(Bytes::from(vec![1; len])),
        documents: vec![document],
        ..Commit::default()
    }
}

/// How many commits are there; each as a whole.
fn committed(journal: &RedbJournal) -> u64 {
    let records = journal.records(0, usize::MAX).unwrap();
    assert!(records.iter().map(|(number, _)| *number).eq(1..=journal.last()));
    let documents = journal.documents(&Key::prefix("k"), None, usize::MAX).unwrap();
    assert_eq!(documents.len(), records.len());
    journal.last()
}

#[test]
fn a_journal_loses_nothing_on_any_failing_disk() {
    for mode in [FULL, SYNC_FAILS, BROKEN] {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(AtomicU8::new(WORKS));
        let mut journal = RedbJournal::open_with(folder.path(), opener(&disk)).unwrap();
        journal.commit(&commit(1, 10)).unwrap();
        disk.store(mode, Ordering::SeqCst);
        let mut acknowledged = 1;
        // What redb has in reserve is used up first.
        while journal.commit(&commit(acknowledged + 1, 1_024 * 1_024)).is_ok() {
            acknowledged += 1;
        }
        assert_unavailable(journal.commit(&commit(acknowledged + 1, 10)));
        assert_unavailable(journal.records(0, 1));
        if mode != FULL {
            assert_unavailable(journal.recover());
            assert_unavailable(journal.documents(&Key::prefix("k"), None, 1));
        }
        assert_eq!(journal.last(), acknowledged);
        disk.store(WORKS, Ordering::SeqCst);
        let last = journal.recover().unwrap();
        assert!([acknowledged, acknowledged + 1].contains(&last), "mode {mode}: {last}");
        assert_eq!(committed(&journal), last);
        journal.commit(&commit(last + 1, 10)).unwrap();
        drop(journal);
        let journal = RedbJournal::open_with(folder.path(), opener(&disk)).unwrap();
        assert_eq!(committed(&journal), last + 1);
    }
}
