//! The journal port's contract, run against every engine; a property that compares them; and what
//! only the durable one promises.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use bytes::Bytes;
use gnomon_core::metrics::Metrics;
use gnomon_core::storage::{
    Commit, Expect, Journal, Key, MemoryDisk, MemoryJournal, Storage, StoreError,
};
use gnomon_store::{OpenError, Options, RedbJournal, RedbStore};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// Opens the same journal again and again.
trait Disk {
    fn open(&self) -> Box<dyn Journal>;
}

impl Disk for MemoryDisk {
    fn open(&self) -> Box<dyn Journal> {
        Box::new(MemoryJournal::open(self))
    }
}

struct Folder {
    _folder: tempfile::TempDir,
    store: RedbStore,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(folder.path());
        Self { _folder: folder, store }
    }
}

impl Disk for Folder {
    fn open(&self) -> Box<dyn Journal> {
        Box::new(self.store.open_journal().unwrap())
    }
}

fn open_store(folder: &Path) -> RedbStore {
    RedbStore::open(folder, &Options::default(), Arc::new(Metrics::default())).unwrap()
}

/// Every clause of the contract as a test of each engine.
macro_rules! contract {
    ($($clause:ident,)*) => {
        mod memory {
            $(#[test]
            fn $clause() {
                super::$clause(&super::MemoryDisk::default());
            })*
        }

        mod redb {
            $(#[test]
            fn $clause() {
                super::$clause(&super::Folder::new());
            })*
        }
    };
}

contract! {
    what_was_committed_outlives_the_journal,
    a_commit_with_a_wrong_number_does_nothing,
    records_are_trimmed_from_the_oldest_and_the_commits_own_stays,
    documents_page_in_the_order_of_bytes,
    of_two_values_for_one_document_the_second_counts,
    recovery_of_a_sound_journal_changes_nothing,
    keys_and_values_may_be_larger_than_the_stores,
}

fn commit(number: u64, documents: &[(&str, Option<&str>)]) -> Commit {
    let bytes = |text: &str| Bytes::from(text.to_owned());
    let documents = documents.iter().map(|(key, value)| (Key::from_text(key), value.map(bytes)));
    Commit {
        number,
        record: Some(bytes(&format!("record {number}"))),
        documents: documents.collect(),
        ..Commit::default()
    }
}

fn numbers(journal: &dyn Journal, from: u64, limit: usize) -> Vec<u64> {
    let records = journal.records(from, limit).unwrap();
    for (number, record) in &records {
        assert_eq!(record, &format!("record {number}"));
    }
    records.into_iter().map(|(number, _)| number).collect()
}

fn keys(journal: &dyn Journal, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let after = after.map(Key::from_text);
    let found = journal.documents(&Key::from_text(prefix), after.as_ref(), limit).unwrap();
    found.into_iter().map(|(key, _)| key.as_str().to_owned()).collect()
}

fn what_was_committed_outlives_the_journal(disk: &dyn Disk) {
    let mut journal = disk.open();
    assert_eq!((journal.last(), numbers(&*journal, 0, 9)), (0, vec![]));
    journal.commit(&commit(1, &[("a/1", Some("one")), ("a/2", Some("two"))])).unwrap();
    journal.commit(&Commit { record: None, ..commit(2, &[("a/1", None)]) }).unwrap();
    journal.commit(&commit(3, &[])).unwrap();
    for _ in 0..2 {
        assert_eq!((journal.last(), numbers(&*journal, 0, 9)), (3, vec![1, 3]));
        let documents = journal.documents(&Key::prefix("a"), None, 9).unwrap();
        assert_eq!(documents, [(Key::from_text("a/2"), Bytes::from_static(b"two"))]);
        drop(journal);
        journal = disk.open();
    }
}

fn a_commit_with_a_wrong_number_does_nothing(disk: &dyn Disk) {
    let mut journal = disk.open();
    for number in [0, 2, u64::MAX] {
        let error = journal.commit(&commit(number, &[("a/1", Some("x"))])).unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    }
    journal.commit(&commit(1, &[])).unwrap();
    assert!(journal.commit(&commit(1, &[("a/1", Some("x"))])).is_err());
    journal.commit(&commit(2, &[])).unwrap();
    assert_eq!(numbers(&*journal, 0, 9), [1, 2]);
    assert!(keys(&*journal, "", None, 9).is_empty());
}

fn records_are_trimmed_from_the_oldest_and_the_commits_own_stays(disk: &dyn Disk) {
    let mut journal = disk.open();
    for number in 1..=5 {
        journal.commit(&commit(number, &[])).unwrap();
    }
    assert_eq!(numbers(&*journal, 2, 3), [2, 3, 4]);
    journal.commit(&Commit { trim_below: 4, ..commit(6, &[]) }).unwrap();
    assert_eq!(numbers(&*journal, 0, 9), [4, 5, 6]);
    journal.commit(&Commit { trim_below: 9, ..commit(7, &[]) }).unwrap();
    assert_eq!(numbers(&*journal, 0, 9), [7]);
    journal.commit(&Commit { trim_below: 9, record: None, ..commit(8, &[]) }).unwrap();
    assert_eq!((journal.last(), numbers(&*journal, 0, 9)), (8, vec![]));
}

fn documents_page_in_the_order_of_bytes(disk: &dyn Disk) {
    let mut journal = disk.open();
    let documents = ["b/é", "a/1", "b/a", "b/", "b/a/b", "c/1", "b"].map(|key| (key, Some("")));
    journal.commit(&commit(1, &documents)).unwrap();
    assert_eq!(keys(&*journal, "b/", None, 9), ["b/", "b/a", "b/a/b", "b/é"]);
    assert_eq!(keys(&*journal, "b/", None, 2), ["b/", "b/a"]);
    assert_eq!(keys(&*journal, "b/", Some("b/a"), 9), ["b/a/b", "b/é"]);
    assert_eq!(keys(&*journal, "b/", Some("a"), 1), ["b/"]);
    assert!(keys(&*journal, "b/", Some("b/é"), 9).is_empty());
}

fn of_two_values_for_one_document_the_second_counts(disk: &dyn Disk) {
    let mut journal = disk.open();
    let documents =
        [("a/1", Some("x")), ("a/1", None), ("a/2", None), ("a/2", Some("x")), ("a/2", Some("y"))];
    journal.commit(&commit(1, &documents)).unwrap();
    let found = journal.documents(&Key::prefix("a"), None, 9).unwrap();
    assert_eq!(found, [(Key::from_text("a/2"), Bytes::from_static(b"y"))]);
}

fn recovery_of_a_sound_journal_changes_nothing(disk: &dyn Disk) {
    let mut journal = disk.open();
    assert_eq!(journal.recover().unwrap(), 0);
    journal.commit(&commit(1, &[("a/1", Some("x"))])).unwrap();
    assert_eq!(journal.recover().unwrap(), 1);
    journal.commit(&commit(2, &[])).unwrap();
    assert_eq!((numbers(&*journal, 0, 9), keys(&*journal, "", None, 9).len()), (vec![1, 2], 1));
}

fn keys_and_values_may_be_larger_than_the_stores(disk: &dyn Disk) {
    let mut journal = disk.open();
    let key = Key::new("retained", &[&"t".repeat(65_535)]);
    let value = Bytes::from(vec![7; 5 * 1_024 * 1_024]);
    let documents = vec![(key.clone(), Some(value.clone()))];
    let record = Some(value.clone());
    journal.commit(&Commit { number: 1, record, documents, ..Commit::default() }).unwrap();
    drop(journal);
    let journal = disk.open();
    assert_eq!(journal.records(1, 1).unwrap(), [(1, value.clone())]);
    assert_eq!(journal.documents(&Key::prefix("retained"), None, 1).unwrap(), [(key, value)]);
}

#[derive(Clone, Debug)]
enum Operation {
    Commit { record: bool, trim_below: u64, documents: Vec<(u8, Option<u8>)> },
    Recover,
    Reopen,
}

fn operation() -> impl Strategy<Value = Operation> {
    let documents = prop::collection::vec((0..5_u8, any::<Option<u8>>()), 0..4);
    prop_oneof![
        8 => (any::<bool>(), 0..30_u64, documents)
            .prop_map(|(record, trim_below, documents)| Operation::Commit { record, trim_below, documents }),
        1 => Just(Operation::Recover),
        2 => Just(Operation::Reopen),
    ]
}

fn run(disk: &dyn Disk, journal: &mut Option<Box<dyn Journal>>, operation: &Operation) -> String {
    let open = journal.get_or_insert_with(|| disk.open());
    match operation {
        Operation::Commit { record, trim_below, documents } => {
            let number = open.last() + 1;
            let documents = documents.iter().map(|(key, value)| {
                (Key::new("k", &[&key.to_string()]), value.map(|byte| Bytes::from(vec![byte])))
            });
            let record = record.then(|| Bytes::from(number.to_string()));
            let documents = documents.collect();
            open.commit(&Commit { number, record, trim_below: *trim_below, documents }).unwrap();
        }
        Operation::Recover => {
            open.recover().unwrap();
        }
        Operation::Reopen => *journal = None,
    }
    let open = journal.get_or_insert_with(|| disk.open());
    let records = open.records(0, usize::MAX).unwrap();
    let documents = open.documents(&Key::prefix("k"), None, usize::MAX).unwrap();
    format!("{} {records:?} {documents:?}", open.last())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn redb_answers_like_memory(operations in prop::collection::vec(operation(), 1..30)) {
        let (folder, memory) = (Folder::new(), MemoryDisk::default());
        let (mut journal, mut model) = (None, None);
        for operation in &operations {
            prop_assert_eq!(
                run(&folder, &mut journal, operation),
                run(&memory, &mut model, operation)
            );
        }
    }
}

#[tokio::test]
async fn journal_and_store_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(folder.path());
    let mut journal: RedbJournal = store.open_journal().unwrap();
    journal.commit(&commit(1, &[("k/1", Some("journal"))])).unwrap();
    store.put(&Key::from_text("k/1"), Bytes::from_static(b"store"), Expect::Any).await.unwrap();
    drop(journal);
    store.close().await;
    let store = open_store(folder.path());
    let journal = store.open_journal().unwrap();
    assert_eq!(journal.documents(&Key::prefix("k"), None, 9).unwrap()[0].1, "journal");
    assert_eq!(store.get(&Key::from_text("k/1")).await.unwrap().unwrap().value, "store");
    drop(journal);
    store.close().await;
}

#[tokio::test]
async fn a_file_of_the_other_kind_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    open_store(folder.path()).close().await;
    std::fs::copy(folder.path().join("meta.redb"), folder.path().join("queue.redb")).unwrap();
    let store = open_store(folder.path());
    let error = store.open_journal().err().unwrap();
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error:?}");
    store.close().await;
}

#[test]
fn a_large_file_that_is_mostly_free_is_compacted_when_it_is_opened() {
    let folder = Folder::new();
    let file = folder._folder.path().join("queue.redb");
    let mut journal = folder.open();
    let record = Some(Bytes::from(vec![1; 1_024 * 1_024]));
    for number in 1..=80 {
        let record = record.clone();
        journal.commit(&Commit { number, record, ..Commit::default() }).unwrap();
    }
    journal.commit(&Commit { trim_below: 80, ..commit(81, &[]) }).unwrap();
    drop(journal);
    let before = std::fs::metadata(&file).unwrap().len();
    let journal = folder.open();
    let after = std::fs::metadata(&file).unwrap().len();
    assert!(before > 80 * 1_024 * 1_024 && after < before / 4, "{before} to {after} bytes");
    let numbers: Vec<_> = journal.records(0, 9).unwrap().into_iter().map(|(n, _)| n).collect();
    assert_eq!((journal.last(), numbers), (81, vec![80, 81]));
}
