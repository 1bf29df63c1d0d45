//! Offences of late, by offender.
//!
//! Bound: [`OFFENDERS_MAX`]; beyond it the oldest half is forgotten, and who is in it starts anew.

use crate::registry::Offender;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Offenders that are remembered. Each takes some 100 bytes, and 16 for each of its offences.
pub(super) const OFFENDERS_MAX: usize = 100_000;

/// When an offender offended, oldest first, at most as often as it takes.
type Times = VecDeque<Instant>;

/// Two generations instead of an order of all: who offends is moved to the young one, and once in a
/// window, or when the young one is full, the old one is dropped and the young one becomes it.
#[derive(Default)]
pub(super) struct Table {
    young: HashMap<Offender, Times>,
    old: HashMap<Offender, Times>,
    /// When the young one began.
    since: Option<Instant>,
}

impl Table {
    /// Notes an offence; true when it is the one that is too many, and then all are forgotten.
    pub(super) fn note(
        &mut self,
        offender: &Offender,
        now: Instant,
        window: Duration,
        offences: usize,
    ) -> bool {
        self.age(now, window);
        let mut times = match self.young.remove(offender) {
            Some(times) => times,
            None => self.old.remove(offender).unwrap_or_default(),
        };
        times.push_back(now);
        while times.front().is_some_and(|first| now.saturating_duration_since(*first) > window) {
            times.pop_front();
        }
        let is_too_many = times.len() >= offences;
        if !is_too_many {
            self.young.insert(offender.clone(), times);
        }
        is_too_many
    }

    pub(super) fn forget(&mut self, offender: &Offender) {
        self.young.remove(offender);
        self.old.remove(offender);
    }

    fn age(&mut self, now: Instant, window: Duration) {
        let since = *self.since.get_or_insert(now);
        let is_over = now.saturating_duration_since(since) > window;
        if is_over || self.young.len() >= OFFENDERS_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
            self.since = Some(now);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}
