//! The disk's own rate: small appends, each made durable; and how long operations took.
//!
//! In: how many bytes, for how long, in which folder. Out: [`Durations`].

use crate::Result;
use crate::table::Cell;
use gnomon_core::time::{Clock, SystemClock};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// How long operations took.
#[derive(Default)]
pub struct Durations {
    /// Of each operation.
    pub each: Vec<Duration>,
    /// From the first start to the last end.
    pub wall: Duration,
}

impl Durations {
    /// Adds those of another measurement.
    pub fn join(&mut self, other: Self) {
        self.each.extend(other.each);
        self.wall += other.wall;
    }

    /// Operations in a second.
    pub fn per_second(&self) -> f64 {
        self.each.len() as f64 / self.wall.as_secs_f64()
    }

    /// A row: case, per second, p50, p99, times the disk's rate; `each` is what one operation
    /// counts.
    pub fn into_row(mut self, name: &str, each: f64, raw_rate: f64) -> [Cell; 5] {
        self.each.sort_unstable();
        let rate = self.per_second() * each;
        let [p50, p99] = [50, 99].map(|percent| percentile(&self.each, percent));
        [
            name.into(),
            Cell::Number(rate),
            p50.map(millis).into(),
            p99.map(millis).into(),
            Cell::Number(rate / raw_rate),
        ]
    }
}

/// As a figure.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The smallest one that `percent` of them do not exceed.
pub fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// What the disk itself can do: one append after another, each made durable.
pub fn append(bytes: usize, measured: Duration, folder: &Path) -> Result<Durations> {
    let folder = temporary(folder)?;
    let mut file = File::create(folder.path().join("raw"))?;
    let bytes = vec![0x55; bytes];
    let mut durations = Durations::default();
    let start = SystemClock.now();
    while start.elapsed() < measured {
        let begin = SystemClock.now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        durations.each.push(begin.elapsed());
    }
    durations.wall = start.elapsed();
    Ok(durations)
}

/// A folder in `folder` that goes when it is dropped.
pub fn temporary(folder: &Path) -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("gnomon-bench-").tempdir_in(folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_those_that_were_measured() {
        let sorted: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&sorted, 50), Some(Duration::from_millis(100)));
        assert_eq!(percentile(&sorted, 99), Some(Duration::from_millis(198)));
        assert_eq!(percentile(&sorted[..1], 99), Some(Duration::from_millis(1)));
        assert_eq!(percentile(&[], 50), None);
    }
}
