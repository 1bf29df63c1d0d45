//! Property: the durable engine answers like the map in memory, whatever is done, over openings.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use bytes::Bytes;
use gnomon_core::metrics::Metrics;
use gnomon_core::storage::{Expect, Key, MemoryStore, Revision, Storage, StoreError};
use gnomon_store::{Options, RedbStore};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

#[derive(Clone, Debug)]
enum Operation {
    Put(u8, u8, Wanted),
    Delete(u8, Wanted),
    Scan { after: Option<u8>, limit: usize },
    Reopen,
}

/// An expectation that means the same to stores with different revisions.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    Any,
    Absent,
    Present,
    Stale,
}

fn operation() -> impl Strategy<Value = Operation> {
    let key = 0..6_u8;
    let wanted =
        prop::sample::select(vec![Wanted::Any, Wanted::Absent, Wanted::Present, Wanted::Stale]);
    prop_oneof![
        6 => (key.clone(), any::<u8>(), wanted.clone()).prop_map(|(k, v, w)| Operation::Put(k, v, w)),
        3 => (key.clone(), wanted).prop_map(|(k, w)| Operation::Delete(k, w)),
        2 => (prop::option::of(key), 0..8_usize)
            .prop_map(|(after, limit)| Operation::Scan { after, limit }),
        1 => Just(Operation::Reopen),
    ]
}

fn key(n: u8) -> Key {
    Key::new("k", &[&n.to_string()])
}

fn open(folder: &Path) -> RedbStore {
    RedbStore::open(folder, &Options::default(), Arc::new(Metrics::default())).unwrap()
}

async fn expect(store: &dyn Storage, n: u8, wanted: Wanted) -> Expect {
    let present = store.get(&key(n)).await.unwrap().map(|record| record.revision);
    match wanted {
        Wanted::Any => Expect::Any,
        Wanted::Absent => Expect::Absent,
        Wanted::Present => Expect::Revision(present.unwrap_or(Revision(u64::MAX))),
        Wanted::Stale => Expect::Revision(Revision(present.map_or(u64::MAX, |r| r.0 - 1))),
    }
}

/// What an operation shows, without revisions.
async fn run(store: &dyn Storage, operation: &Operation) -> String {
    let shown = |result: Result<String, StoreError>| match result {
        Ok(text) => text,
        Err(error) => error.to_string(),
    };
    match *operation {
        Operation::Put(n, v, wanted) => {
            let expect = expect(store, n, wanted).await;
            let result = store.put(&key(n), Bytes::from(vec![v]), expect).await;
            shown(result.map(|_| "written".into()))
        }
        Operation::Delete(n, wanted) => {
            let expect = expect(store, n, wanted).await;
            shown(store.delete(&key(n), expect).await.map(|existed| existed.to_string()))
        }
        Operation::Scan { after, limit } => {
            let after = after.map(key);
            let found = store.scan(&Key::prefix("k"), after.as_ref(), limit).await.unwrap();
            let found: Vec<_> =
                found.into_iter().map(|record| (record.key, record.value)).collect();
            format!("{found:?}")
        }
        Operation::Reopen => String::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn redb_answers_like_memory(operations in prop::collection::vec(operation(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let model = MemoryStore::default();
            let mut store = open(folder.path());
            for operation in &operations {
                if matches!(operation, Operation::Reopen) {
                    store.close().await;
                    store = open(folder.path());
                }
                prop_assert_eq!(run(&store, operation).await, run(&model, operation).await);
            }
            store.close().await;
            Ok(())
        })?;
    }
}
