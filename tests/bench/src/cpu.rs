//! CPU time of this thread, and how often something runs in a second of it; and of this process.
//!
//! CPU time, not time on the wall: another process that takes the core must not count.

use crate::Result;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Runs and the CPU time they took.
#[derive(Clone, Copy, Default)]
pub struct Rate {
    runs: u64,
    cpu: Duration,
}

impl Rate {
    /// Calls `batch` until it has taken `at_least` of CPU time on this thread; a batch answers
    /// how many runs it was, and should take about a millisecond.
    pub fn run(
        &mut self,
        at_least: Duration,
        mut batch: impl FnMut() -> Result<u32>,
    ) -> Result<()> {
        let start = thread_cpu();
        loop {
            self.runs += u64::from(batch()?);
            let taken = thread_cpu().saturating_sub(start);
            if taken >= at_least {
                self.cpu += taken;
                return Ok(());
            }
        }
    }

    /// Runs so far.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// Runs per CPU second.
    pub fn per_second(&self) -> f64 {
        self.runs as f64 / self.cpu.as_secs_f64()
    }

    /// CPU nanoseconds of one run.
    pub fn nanos(&self) -> f64 {
        1e9 / self.per_second()
    }
}

fn thread_cpu() -> Duration {
    cpu(ClockId::ThreadCPUTime)
}

/// CPU time of this process so far, of all its threads.
pub fn process_cpu() -> Duration {
    cpu(ClockId::ProcessCPUTime)
}

fn cpu(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).expect("CPU time is not negative")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_adds_up_runs_and_ends_with_the_first_error() {
        let mut rate = Rate::default();
        rate.run(Duration::from_micros(1), || Ok(5)).unwrap();
        rate.run(Duration::from_micros(1), || Ok(5)).unwrap();
        assert!(rate.runs >= 10 && rate.runs.is_multiple_of(5), "{}", rate.runs);
        assert!(rate.cpu >= Duration::from_micros(2), "{:?}", rate.cpu);
        assert!(rate.run(Duration::MAX, || Err("no".into())).is_err());
    }
}
