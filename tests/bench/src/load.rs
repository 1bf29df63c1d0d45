//! A load on a broker, with the CPU time that its process takes for it.
//!
//! In: a process and the load's options. Out: a [`Sample`]. Not here: the load (`gnomon-load`).

use crate::Result;
use crate::process::Process;
use gnomon_load::{Observer, Options, Plan, Point, Report, drive};
use std::time::Duration;

/// Load before the measurement begins, in seconds: connections, caches and queues settle.
pub const WARM_UP_S: f64 = 0.5;

/// What was measured.
#[derive(Debug)]
pub struct Sample {
    /// What the clients saw.
    pub report: Report,
    /// CPU time of the broker's process.
    pub cpu: Duration,
}

/// Runs the load, and reads the broker's CPU time where its measurement begins and ends.
pub async fn run(process: &Process, options: &Options) -> Result<Sample> {
    let mut meter = Meter { process, readings: Vec::new() };
    let report = drive(Plan::new(options)?, &mut meter, std::future::pending()).await?;
    let readings: Vec<_> = meter.readings.into_iter().collect::<Result<_>>()?;
    let [begin, end] = readings[..] else {
        return Err("the load did not come to its end".into());
    };
    if report.measured.is_none_or(|measured| measured.received == 0) {
        return Err(format!("nothing arrived at {}\n{report}", options.url).into());
    }
    Ok(Sample { report, cpu: end.saturating_sub(begin) })
}

impl Sample {
    /// CPU seconds for a million messages that arrived.
    pub fn cpu_per_million(&self) -> f64 {
        let received = self.report.measured.map_or(0, |measured| measured.received);
        self.cpu.as_secs_f64() / received as f64 * 1e6
    }

    /// Messages that arrived in a second.
    pub fn received_per_s(&self) -> f64 {
        self.report.measured.map_or(0.0, |measured| measured.received_per_s())
    }

    /// Messages that were published in a second.
    pub fn sent_per_s(&self) -> f64 {
        self.report.measured.map_or(0.0, |measured| measured.sent_per_s())
    }
}

/// The median by `key`; none without samples.
pub fn median<T>(mut samples: Vec<T>, key: impl Fn(&T) -> f64) -> Option<T> {
    samples.sort_by(|a, b| key(a).total_cmp(&key(b)));
    let middle = samples.len() / 2;
    samples.into_iter().nth(middle)
}

struct Meter<'a> {
    process: &'a Process,
    readings: Vec<Result<Duration>>,
}

impl Observer for Meter<'_> {
    fn reached(&mut self, point: Point) {
        if point != Point::Connected {
            self.readings.push(self.process.cpu());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_absent_without_samples() {
        assert_eq!(median(vec![30.0, 10.0, 20.0], |it| *it), Some(20.0));
        assert_eq!(median(Vec::<f64>::new(), |it| *it), None);
    }
}
