//! What is counted while a load runs; one thread, many tasks.
//!
//! Bound: [`ERROR_KINDS_MAX`] kinds of errors; the rest are counted as one.

use hdrhistogram::Histogram;
use rustls::HandshakeKind;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

/// Kinds of errors that are told apart.
const ERROR_KINDS_MAX: usize = 64;

/// Longer ones are recorded as this long: ten minutes.
const MICROS_MAX: u64 = 600_000_000;

/// Counters of a run.
#[derive(Debug)]
pub struct Stats {
    /// Connections at this moment.
    pub connected: Count,
    /// Connections that were opened.
    pub opened: Count,
    /// Connections that failed, at once or later.
    pub failed: Count,
    /// TLS handshakes that were complete ones.
    pub full_handshakes: Count,
    /// TLS handshakes that resumed a session.
    pub resumed_handshakes: Count,
    /// Messages published.
    pub sent: Count,
    /// Messages that the broker acknowledged.
    pub acknowledged: Count,
    /// What subscribers should get of the messages published.
    pub expected: Count,
    /// What they got, everything counted.
    pub received: Count,
    /// What they got for the first time.
    pub unique: Count,
    /// What they got once more.
    pub duplicated: Count,
    /// What they got behind a later message of the same publisher.
    pub reordered: Count,
    /// Messages that are not of this run.
    pub foreign: Count,
    /// From the first byte of a connection to CONNACK.
    pub connect: Times,
    /// From a message's time to its arrival.
    pub latency: Times,
    errors: RefCell<BTreeMap<String, u64>>,
}

impl Stats {
    /// Nothing has been counted.
    pub fn new() -> Self {
        Self {
            connected: Count::default(),
            opened: Count::default(),
            failed: Count::default(),
            full_handshakes: Count::default(),
            resumed_handshakes: Count::default(),
            sent: Count::default(),
            acknowledged: Count::default(),
            expected: Count::default(),
            received: Count::default(),
            unique: Count::default(),
            duplicated: Count::default(),
            reordered: Count::default(),
            foreign: Count::default(),
            connect: Times::new(),
            latency: Times::new(),
            errors: RefCell::default(),
        }
    }

    /// A connection is there.
    pub fn opened(&self, took: Duration, handshake: Option<HandshakeKind>) {
        self.opened.add(1);
        self.connected.add(1);
        self.connect.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        match handshake {
            Some(HandshakeKind::Resumed) => self.resumed_handshakes.add(1),
            Some(_) => self.full_handshakes.add(1),
            None => {}
        }
    }

    /// Counts an error under its text.
    pub fn error(&self, kind: &str) {
        let errors = &mut *self.errors.borrow_mut();
        if let Some(count) = errors.get_mut(kind) {
            *count += 1;
            return;
        }
        let kind = if errors.len() < ERROR_KINDS_MAX { kind } else { "others" };
        *errors.entry(kind.into()).or_default() += 1;
    }

    /// Errors by kind.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.borrow().clone()
    }

    /// All errors.
    pub fn error_count(&self) -> u64 {
        self.errors.borrow().values().sum()
    }

    /// The error that occurred most often.
    pub fn main_error(&self) -> String {
        let errors = self.errors.borrow();
        let most = errors.iter().max_by_key(|(_, count)| **count);
        most.map(|(kind, _)| kind.clone()).unwrap_or_default()
    }

    /// What subscribers have not got, up to now.
    pub fn missing(&self) -> u64 {
        self.expected.get().saturating_sub(self.unique.get())
    }
}

/// A counter.
#[derive(Debug, Default)]
pub struct Count(Cell<u64>);

impl Count {
    /// Adds so many.
    pub fn add(&self, count: u64) {
        self.0.set(self.0.get() + count);
    }

    /// Takes one away.
    pub fn sub_one(&self) {
        self.0.set(self.0.get().saturating_sub(1));
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// How long something took, with three digits.
#[derive(Debug)]
pub struct Times(RefCell<Histogram<u64>>);

impl Times {
    fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, MICROS_MAX, 3);
        Self(RefCell::new(histogram.expect("the bounds are in order and three digits are few")))
    }

    /// Adds one, in microseconds.
    pub fn record(&self, micros: u64) {
        self.0.borrow_mut().saturating_record(micros);
    }

    /// A copy of all of them.
    pub fn snapshot(&self) -> Histogram<u64> {
        self.0.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_kind_up_to_a_bound() {
        let stats = Stats::new();
        for kind in 0..ERROR_KINDS_MAX + 2 {
            stats.error(&kind.to_string());
        }
        stats.error("0");
        stats.error("0");
        assert_eq!(stats.main_error(), "0");
        let errors = stats.errors();
        assert_eq!((errors["0"], errors["others"], errors.len()), (3, 2, ERROR_KINDS_MAX + 1));
        assert_eq!(stats.error_count(), ERROR_KINDS_MAX as u64 + 4);
    }
}
