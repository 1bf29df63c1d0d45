//! The storage port's contract: one suite, run against every engine.
//!
//! Not here: what only the durable engine promises (`durability.rs`, `crash.rs`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use bytes::Bytes;
use gnomon_core::metrics::Metrics;
use gnomon_core::storage::{
    Change, Expect, KEY_BYTES_MAX, Key, MemoryStore, Record, Revision, Storage, StoreError,
    VALUE_BYTES_MAX, Watched,
};
use gnomon_store::{Options, RedbStore};
use std::sync::Arc;

/// Every clause of the contract as a test of each engine.
macro_rules! contract {
    ($($clause:ident,)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $clause() {
                super::$clause(std::sync::Arc::new(super::MemoryStore::default())).await;
            })*
        }

        mod redb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $clause() {
                let folder = tempfile::tempdir().unwrap();
                let store = std::sync::Arc::new(super::open(folder.path()));
                super::$clause(store.clone()).await;
                store.close().await;
            })*
        }
    };
}

contract! {
    a_record_comes_back_with_its_revision,
    an_expectation_that_does_not_hold_is_a_conflict,
    a_delete_says_whether_there_was_something,
    revisions_grow_over_all_keys_and_deletes,
    of_many_writers_with_the_same_expectation_one_wins,
    concurrent_increments_are_not_lost,
    scan_pages_in_the_order_of_bytes,
    scan_keeps_to_its_prefix,
    keys_and_values_have_bounds,
    a_watch_sees_changes_under_its_prefix_in_order,
    a_slow_watch_is_told_that_it_lagged,
}

fn open(folder: &std::path::Path) -> RedbStore {
    RedbStore::open(folder, &Options::default(), Arc::new(Metrics::default())).unwrap()
}

fn key(text: &str) -> Key {
    Key::from_text(text)
}

async fn put(store: &dyn Storage, text: &str) -> Revision {
    store.put(&key(text), Bytes::from(text.to_owned()), Expect::Any).await.unwrap()
}

#[track_caller]
fn assert_conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    match result {
        Err(StoreError::Conflict) => {}
        other => panic!("{other:?}"),
    }
}

async fn a_record_comes_back_with_its_revision(store: Arc<dyn Storage>) {
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
    let revision = store.put(&key("a"), Bytes::from_static(b"1"), Expect::Any).await.unwrap();
    assert_ne!(revision, Revision(0));
    let record = Record { key: key("a"), revision, value: Bytes::from_static(b"1") };
    assert_eq!(store.get(&key("a")).await.unwrap(), Some(record));
    // An empty value is a value.
    store.put(&key("b"), Bytes::new(), Expect::Absent).await.unwrap();
    assert_eq!(store.get(&key("b")).await.unwrap().unwrap().value, Bytes::new());
}

async fn an_expectation_that_does_not_hold_is_a_conflict(store: Arc<dyn Storage>) {
    let value = Bytes::from_static(b"1");
    let a = key("a");
    assert_conflict(store.put(&a, value.clone(), Expect::Revision(Revision(1))).await);
    let first = store.put(&a, value.clone(), Expect::Absent).await.unwrap();
    assert_conflict(store.put(&a, value.clone(), Expect::Absent).await);
    let second = store.put(&a, value.clone(), Expect::Revision(first)).await.unwrap();
    assert_conflict(store.put(&a, value.clone(), Expect::Revision(first)).await);
    assert_conflict(store.delete(&a, Expect::Revision(first)).await);
    assert_conflict(store.delete(&a, Expect::Absent).await);
    assert_eq!(store.get(&a).await.unwrap().unwrap().revision, second);
    assert!(store.delete(&a, Expect::Revision(second)).await.unwrap());
    assert_conflict(store.put(&a, value, Expect::Revision(second)).await);
}

async fn a_delete_says_whether_there_was_something(store: Arc<dyn Storage>) {
    assert!(!store.delete(&key("a"), Expect::Any).await.unwrap());
    assert!(!store.delete(&key("a"), Expect::Absent).await.unwrap());
    assert_conflict(store.delete(&key("a"), Expect::Revision(Revision(1))).await);
    put(&*store, "a").await;
    assert!(store.delete(&key("a"), Expect::Any).await.unwrap());
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
    assert!(!store.delete(&key("a"), Expect::Any).await.unwrap());
}

async fn revisions_grow_over_all_keys_and_deletes(store: Arc<dyn Storage>) {
    let mut last = Revision(0);
    for text in ["a", "b", "a", "c"] {
        let revision = put(&*store, text).await;
        assert!(revision > last, "{revision:?} after {last:?}");
        store.delete(&key("a"), Expect::Any).await.unwrap();
        last = revision;
    }
}

async fn of_many_writers_with_the_same_expectation_one_wins(store: Arc<dyn Storage>) {
    let mut expect = Expect::Absent;
    for round in 0..5 {
        let writers: Vec<_> = (0..200_u32)
            .map(|writer| {
                let store = store.clone();
                tokio::runtime::Handle::current().spawn(async move {
                    let value = Bytes::from(format!("{round} {writer}"));
                    (store.put(&key("a"), value.clone(), expect).await, value)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for writer in writers {
            match writer.await.unwrap() {
                (Ok(revision), value) => winners.push((revision, value)),
                (Err(StoreError::Conflict), _) => {}
                (Err(error), _) => panic!("{error}"),
            }
        }
        let [(revision, value)] = winners.try_into().unwrap();
        let stored = store.get(&key("a")).await.unwrap().unwrap();
        assert_eq!((stored.revision, stored.value), (revision, value));
        expect = Expect::Revision(revision);
    }
}

async fn concurrent_increments_are_not_lost(store: Arc<dyn Storage>) {
    const WRITERS: u64 = 8;
    const INCREMENTS: u64 = 25;
    let increment = |store: Arc<dyn Storage>| async move {
        loop {
            let (value, expect) = match store.get(&key("n")).await.unwrap() {
                Some(record) => (
                    u64::from_be_bytes(record.value.as_ref().try_into().unwrap()),
                    Expect::Revision(record.revision),
                ),
                None => (0, Expect::Absent),
            };
            let value = Bytes::copy_from_slice(&(value + 1).to_be_bytes());
            match store.put(&key("n"), value, expect).await {
                Ok(_) => return,
                Err(StoreError::Conflict) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let store = store.clone();
            tokio::runtime::Handle::current().spawn(async move {
                for _ in 0..INCREMENTS {
                    increment(store.clone()).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let value = store.get(&key("n")).await.unwrap().unwrap().value;
    assert_eq!(value, Bytes::copy_from_slice(&(WRITERS * INCREMENTS).to_be_bytes()));
}

/// The texts of the keys that a scan finds, page by page.
async fn pages(store: &dyn Storage, prefix: &str, limit: usize) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = store.scan(&key(prefix), after.as_ref(), limit).await.unwrap();
        for record in &page {
            assert_eq!(record.value, record.key.as_str().as_bytes());
        }
        let Some(last) = page.last() else { return pages };
        after = Some(last.key.clone());
        pages.push(page.iter().map(|record| record.key.as_str().to_owned()).collect());
    }
}

async fn scan_pages_in_the_order_of_bytes(store: Arc<dyn Storage>) {
    for text in ["t/b", "t/Z", "t/é", "t/a/x", "t/a", "t/10", "t/9"] {
        put(&*store, text).await;
    }
    let expected = [vec!["t/10", "t/9", "t/Z"], vec!["t/a", "t/a/x", "t/b"], vec!["t/é"]];
    assert_eq!(pages(&*store, "t/", 3).await, expected);
    assert_eq!(pages(&*store, "t/", 100).await, [expected.concat()]);
    assert_eq!(store.scan(&key("t/"), None, 0).await.unwrap(), []);
}

async fn scan_keeps_to_its_prefix(store: Arc<dyn Storage>) {
    for text in ["a/1", "b/1", "b/2", "b0", "c/1", "e/", "e/1"] {
        put(&*store, text).await;
    }
    assert_eq!(pages(&*store, "b/", 10).await, [["b/1", "b/2"]]);
    let all = ["a/1", "b/1", "b/2", "b0", "c/1", "e/", "e/1"];
    assert_eq!(pages(&*store, "", 10).await, [all]);
    // The prefix itself may be a key, and comes once.
    assert_eq!(pages(&*store, "e/", 1).await, [["e/"], ["e/1"]]);
    assert!(pages(&*store, "d/", 10).await.is_empty());
    // `after` need not exist, and may lie before or behind the prefix.
    let after = async |after: &str| {
        let found = store.scan(&key("b/"), Some(&key(after)), 10).await.unwrap();
        found.iter().map(|record| record.key.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(after("a/9").await, ["b/1", "b/2"]);
    assert_eq!(after("b/").await, ["b/1", "b/2"]);
    assert_eq!(after("b/11").await, ["b/2"]);
    assert!(after("c").await.is_empty());
    let behind_itself = store.scan(&key("e/"), Some(&key("e/")), 10).await.unwrap();
    assert_eq!(behind_itself.len(), 1);
}

async fn keys_and_values_have_bounds(store: Arc<dyn Storage>) {
    let longest = key(&"k".repeat(KEY_BYTES_MAX));
    let largest = Bytes::from(vec![7; VALUE_BYTES_MAX]);
    store.put(&longest, largest.clone(), Expect::Any).await.unwrap();
    assert_eq!(store.get(&longest).await.unwrap().unwrap().value, largest);
    let result = store.put(&key("a"), vec![7; VALUE_BYTES_MAX + 1].into(), Expect::Any).await;
    assert!(
        matches!(result, Err(StoreError::TooLarge { len: 4_194_305, max: 4_194_304 })),
        "{result:?}"
    );
    let too_long = key(&"k".repeat(KEY_BYTES_MAX + 1));
    let result = store.put(&too_long, Bytes::new(), Expect::Any).await;
    assert!(matches!(result, Err(StoreError::TooLarge { len: 1_025, max: 1_024 })), "{result:?}");
    let result = store.delete(&too_long, Expect::Any).await;
    assert!(matches!(result, Err(StoreError::TooLarge { .. })), "{result:?}");
    assert_eq!(store.get(&too_long).await.unwrap(), None);
}

async fn a_watch_sees_changes_under_its_prefix_in_order(store: Arc<dyn Storage>) {
    put(&*store, "a/before").await;
    let mut watch = store.watch(&key("a/"));
    let first = put(&*store, "a/1").await;
    put(&*store, "b/1").await;
    let second = put(&*store, "a/2").await;
    assert_conflict(
        store.put(&key("a/1"), Bytes::new(), Expect::Revision(Revision(u64::MAX))).await,
    );
    store.delete(&key("a/none"), Expect::Any).await.unwrap();
    store.delete(&key("a/1"), Expect::Any).await.unwrap();
    for (text, revision) in [("a/1", Some(first)), ("a/2", Some(second)), ("a/1", None)] {
        let change = Change { key: key(text), revision };
        assert_eq!(watch.next().await, Some(Watched::Change(change)));
    }
}

async fn a_slow_watch_is_told_that_it_lagged(store: Arc<dyn Storage>) {
    let mut watch = store.watch(&key("a/"));
    let writers: Vec<_> = (0..40_000)
        .map(|n| {
            let store = store.clone();
            tokio::runtime::Handle::current()
                .spawn(async move { put(&*store, &format!("a/{n}")).await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(watch.next().await, Some(Watched::Lagged));
    assert!(matches!(watch.next().await, Some(Watched::Change(_))));
}
