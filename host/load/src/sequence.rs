//! What one subscriber has of one publisher: what is new, what came late, what came twice.
//!
//! In: sequence numbers as they arrive. Out: an [`Arrival`] each.
//! Bound: [`HOLES_MAX`] gaps are remembered; a message of an older gap that arrives after all
//! counts as a duplicate.

use std::ops::Range;

/// Gaps of one publisher that may still be filled.
const HOLES_MAX: usize = 1_024;

/// How a message arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The first time; the numbers before it that have not arrived.
    New { skipped: Range<u64> },
    /// The first time, behind a later one.
    Late,
    /// Once more.
    Duplicate,
}

/// The numbers that have arrived: all below `next` but those in the holes.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    next: u64,
    holes: Vec<Range<u64>>,
}

impl Tracker {
    /// Takes the number of a message.
    pub fn arrived(&mut self, sequence: u64) -> Arrival {
        if sequence >= self.next {
            let skipped = self.next..sequence;
            self.next = sequence + 1;
            if !skipped.is_empty() {
                self.remember(skipped.clone());
            }
            return Arrival::New { skipped };
        }
        let Some(at) = self.holes.iter().position(|hole| hole.contains(&sequence)) else {
            return Arrival::Duplicate;
        };
        let hole = self.holes.swap_remove(at);
        for rest in [hole.start..sequence, sequence + 1..hole.end] {
            if !rest.is_empty() {
                self.remember(rest);
            }
        }
        Arrival::Late
    }

    fn remember(&mut self, hole: Range<u64>) {
        if self.holes.len() == HOLES_MAX {
            self.holes.remove(0);
        }
        self.holes.push(hole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_late_ones_and_duplicates_are_told_apart() {
        let mut tracker = Tracker::default();
        let new = |skipped| Arrival::New { skipped };
        for (sequence, expected) in [
            (0, new(0..0)),
            (4, new(1..4)),
            (2, Arrival::Late),
            (2, Arrival::Duplicate),
            (1, Arrival::Late),
            (3, Arrival::Late),
            (3, Arrival::Duplicate),
            (4, Arrival::Duplicate),
            (5, new(5..5)),
        ] {
            assert_eq!(tracker.arrived(sequence), expected, "{sequence}");
        }
    }

    #[test]
    fn only_so_many_holes_are_remembered() {
        let mut tracker = Tracker::default();
        for odd in (1..4 * HOLES_MAX as u64).step_by(2) {
            tracker.arrived(odd);
        }
        assert_eq!(tracker.holes.len(), HOLES_MAX);
        assert_eq!(tracker.arrived(0), Arrival::Duplicate);
        assert_eq!(tracker.arrived(4 * HOLES_MAX as u64 - 2), Arrival::Late);
    }
}
