//! A journal that fails when told to, for tests and the simulation.
//!
//! Wraps any engine. Commits and recoveries fail, each by the next entry of the plan; after a
//! fault everything fails, without an entry, until a recovery succeeds, as behind a broken disk.
//! Reading documents fails by a plan of its own, and breaks nothing else.
//! Not here: faults below an engine (a full disk), which `gnomon-store` tests with a failing file.

use super::faulty::injected;
use super::{Commit, Fault, Faults, Journal, Key, StoreError};
use bytes::Bytes;

/// Fails commits and recoveries as its [`Faults`] say.
pub struct FaultyJournal {
    inner: Box<dyn Journal>,
    faults: Faults,
    reads: Faults,
    /// What the caller knows: behind the inner journal after a lost answer.
    last: u64,
    is_broken: bool,
}

impl FaultyJournal {
    /// Passes everything on until the faults say otherwise; the caller keeps a clone of them.
    pub fn new(inner: Box<dyn Journal>, faults: Faults) -> Self {
        let last = inner.last();
        Self { inner, faults, reads: Faults::default(), last, is_broken: false }
    }

    /// Lets reads of documents fail as these faults say.
    #[must_use]
    pub fn with_failing_reads(self, reads: Faults) -> Self {
        Self { reads, ..self }
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.is_broken { Err(injected()) } else { Ok(()) }
    }

    /// Runs what tells the last commit, with the fault that is due.
    fn attempt(
        &mut self,
        operation: impl FnOnce(&mut dyn Journal) -> Result<u64, StoreError>,
    ) -> Result<u64, StoreError> {
        let result = match self.faults.next() {
            None => operation(&mut *self.inner),
            Some(Fault::Refused) => Err(injected()),
            Some(Fault::AnswerLost) => operation(&mut *self.inner).and(Err(injected())),
        };
        self.is_broken = result.is_err();
        if let Ok(last) = result {
            self.last = last;
        }
        result
    }
}

impl Journal for FaultyJournal {
    fn last(&self) -> u64 {
        self.last
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        self.check()?;
        commit.check_follows(self.last)?;
        self.attempt(|inner| inner.commit(commit).map(|()| commit.number)).map(|_| ())
    }

    fn recover(&mut self) -> Result<u64, StoreError> {
        self.attempt(Journal::recover)
    }

    fn records(&self, from: u64, limit: usize) -> Result<Vec<(u64, Bytes)>, StoreError> {
        self.check()?;
        self.inner.records(from, limit)
    }

    fn documents(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        self.check()?;
        if self.reads.next().is_some() {
            return Err(injected());
        }
        self.inner.documents(prefix, after, limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;
    use crate::storage::{MemoryDisk, MemoryJournal};
    use std::sync::Arc;

    fn commit(number: u64) -> Commit {
        let document = (Key::new("k", &[&number.to_string()]), Some(Bytes::new()));
        Commit {
            number,
            record: Some(Bytes::from(number.to_string())),
            documents: vec![document],
            ..Commit::default()
        }
    }

    fn open(disk: &MemoryDisk, faults: &Faults) -> FaultyJournal {
        FaultyJournal::new(Box::new(MemoryJournal::open(disk)), faults.clone())
    }

    #[test]
    fn a_refused_commit_is_not_there_and_one_whose_answer_is_lost_is() {
        let disk = MemoryDisk::default();
        let faults = Faults::default();
        let mut journal = open(&disk, &faults);
        faults.fail_next([None, Some(Fault::Refused)]);
        journal.commit(&commit(1)).unwrap();
        assert!(journal.commit(&commit(2)).is_err());
        assert_eq!(journal.recover().unwrap(), 1);
        faults.fail_next([Some(Fault::AnswerLost)]);
        assert!(journal.commit(&commit(2)).is_err());
        assert_eq!(journal.last(), 1);
        assert_eq!(journal.recover().unwrap(), 2);
        assert_eq!(journal.records(0, 9).unwrap().len(), 2);
    }

    #[test]
    fn after_a_fault_everything_fails_until_a_recovery_succeeds() {
        let disk = MemoryDisk::default();
        let faults = Faults::default();
        let mut journal = open(&disk, &faults);
        faults.fail_next([Fault::AnswerLost, Fault::Refused, Fault::AnswerLost].map(Some));
        for recovers in [false, false, true] {
            assert!(journal.commit(&commit(1)).is_err());
            assert!(journal.records(0, 1).is_err());
            assert!(journal.documents(&Key::prefix("k"), None, 1).is_err());
            assert_eq!(journal.last(), 0);
            assert_eq!(journal.recover().is_ok(), recovers);
        }
        assert_eq!(journal.last(), 1);
        journal.commit(&commit(2)).unwrap();
        assert_eq!(journal.records(0, 9).unwrap().len(), 2);
    }

    #[test]
    fn a_wrong_number_is_no_fault() {
        let faults = Faults::default();
        let mut journal = open(&MemoryDisk::default(), &faults);
        faults.fail_next([None, Some(Fault::Refused)]);
        assert!(journal.commit(&commit(2)).is_err());
        journal.commit(&commit(1)).unwrap();
        assert!(journal.commit(&commit(2)).is_err());
        assert_eq!(journal.recover().unwrap(), 1);
    }

    #[test]
    fn at_random_nothing_is_lost_or_done_by_halves_and_the_same_seed_fails_alike() {
        let run = |seed| {
            let disk = MemoryDisk::default();
            let faults = Faults::at_random(Arc::new(SeededRandom::new(seed)), 64);
            let mut journal = open(&disk, &faults);
            let mut failed = Vec::new();
            for n in 0..1_000 {
                let next = journal.last() + 1;
                if journal.commit(&commit(next)).is_err() {
                    failed.push(n);
                    while journal.recover().is_err() {}
                    assert!([next - 1, next].contains(&journal.last()));
                }
            }
            let last = journal.last();
            drop(journal);
            let journal = MemoryJournal::open(&disk);
            assert_eq!(journal.last(), last);
            let numbers: Vec<_> = journal.records(0, usize::MAX).unwrap();
            assert!(numbers.iter().map(|(number, _)| *number).eq(1..=last));
            let documents = journal.documents(&Key::prefix("k"), None, usize::MAX).unwrap();
            assert_eq!(u64::try_from(documents.len()).unwrap(), last);
            failed
        };
        let failed = run(7);
        assert!((150..350).contains(&failed.len()), "{} of 1,000", failed.len());
        assert_eq!(run(7), failed);
        assert_ne!(run(8), failed);
    }
}
