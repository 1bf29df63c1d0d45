//! What only the durable engine promises: data, revisions and the folder over openings.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use bytes::Bytes;
use gnomon_core::metrics::Metrics;
use gnomon_core::storage::{Expect, Key, Storage, StoreError};
use gnomon_store::{OpenError, Options, RedbStore};
use std::path::Path;
use std::sync::Arc;

fn try_open(folder: &Path) -> Result<RedbStore, OpenError> {
    RedbStore::open(folder, &Options::default(), Arc::new(Metrics::default()))
}

fn key(n: u32) -> Key {
    Key::new("k", &[&n.to_string()])
}

#[tokio::test]
async fn data_and_revisions_outlive_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let store = try_open(&folder.path().join("made/on/demand")).unwrap();
    let kept = store.put(&key(1), Bytes::from_static(b"1"), Expect::Any).await.unwrap();
    let deleted = store.put(&key(2), Bytes::from_static(b"2"), Expect::Any).await.unwrap();
    store.delete(&key(2), Expect::Any).await.unwrap();
    store.close().await;

    let store = try_open(&folder.path().join("made/on/demand")).unwrap();
    let record = store.get(&key(1)).await.unwrap().unwrap();
    assert_eq!((record.revision, record.value), (kept, Bytes::from_static(b"1")));
    assert_eq!(store.get(&key(2)).await.unwrap(), None);
    assert!(store.put(&key(2), Bytes::new(), Expect::Absent).await.unwrap() > deleted);
    store.close().await;
}

#[tokio::test]
async fn writes_that_wait_share_commits() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::default());
    let store =
        Arc::new(RedbStore::open(folder.path(), &Options::default(), metrics.clone()).unwrap());
    let writers: Vec<_> = (0..3_000)
        .map(|n| {
            let store = store.clone();
            tokio::runtime::Handle::current().spawn(async move {
                store.put(&key(n), Bytes::from_static(b"v"), Expect::Any).await
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    assert_eq!(metrics.store_writes.get(), 3_000);
    assert!(metrics.store_commits.get() < 300, "{} commits", metrics.store_commits.get());
    store.close().await;
}

#[tokio::test]
async fn close_commits_what_was_sent_and_refuses_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(try_open(folder.path()).unwrap());
    let mut watch = store.watch(&Key::prefix("k"));
    let writers: Vec<_> = (0..100)
        .map(|n| {
            let store = store.clone();
            tokio::runtime::Handle::current().spawn(async move {
                store.put(&key(n), Bytes::from_static(b"v"), Expect::Any).await
            })
        })
        .collect();
    tokio::task::yield_now().await;
    store.close().await;
    store.close().await;
    let mut acknowledged = Vec::new();
    for (n, writer) in (0..).zip(writers) {
        match writer.await.unwrap() {
            Ok(_) => acknowledged.push(n),
            Err(StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let result = store.put(&key(0), Bytes::new(), Expect::Any).await;
    assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    let result = store.get(&key(0)).await;
    assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    for _ in &acknowledged {
        assert!(watch.next().await.is_some());
    }
    assert_eq!(watch.next().await, None);

    let store = try_open(folder.path()).unwrap();
    for n in acknowledged {
        assert!(store.get(&key(n)).await.unwrap().is_some(), "key {n}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_folder_has_one_host_and_the_second_is_told_which() {
    let folder = tempfile::tempdir().unwrap();
    let store = try_open(folder.path()).unwrap();
    let error = try_open(folder.path()).err().unwrap();
    let OpenError::Held { process, .. } = error else { panic!("{error}") };
    assert_eq!(process, Some(std::process::id()));
    let expected = format!(
        "{} is held by another host (process {}); stop that one or choose another data folder",
        folder.path().display(),
        std::process::id()
    );
    assert_eq!(error.to_string(), expected);
    store.close().await;
    try_open(folder.path()).unwrap().close().await;
}

#[test]
fn a_file_that_is_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("meta.redb");
    let text = "a diary, long enough to hold a header".repeat(1_000);
    std::fs::write(&file, &text).unwrap();
    let error = try_open(folder.path()).err().unwrap();
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn a_database_of_another_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    make_database(folder.path(), "their table", b"key", b"value");
    let error = try_open(folder.path()).err().unwrap();
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error:?}");
}

#[test]
fn a_file_of_a_newer_host_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    make_database(folder.path(), "gnomon", b"format", &[2]);
    let error = try_open(folder.path()).err().unwrap();
    assert!(matches!(error, OpenError::NewerFormat { found: 2, .. }), "{error:?}");
}

fn make_database(folder: &Path, table: &str, key: &[u8], value: &[u8]) {
    let table = redb::TableDefinition::<&[u8], &[u8]>::new(table);
    let database = redb::Database::create(folder.join("meta.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert(key, value).unwrap();
    transaction.commit().unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn the_folder_is_private_to_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap().path().join("data");
    try_open(&folder).unwrap().close().await;
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
}
