//! `broker`: CPU time of the broker per million messages delivered, and memory per connection.
//!
//! In: a [`Plan`]. Out: two tables, with mosquitto beside Gnomon: both run all the time and are
//! measured in turn, so that whatever else the machine does meets both.

use crate::mqtt::{self, Qos, Sample, Scenario};
use crate::process::{self, Kind, Process};
use crate::table::{Cell, Table};
use crate::{Result, progress};
use std::path::Path;
use std::time::Duration;
use tokio::time::sleep;

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Of one case of one broker, without its warm-up.
    pub measured: Duration,
    /// Of each case; the median is shown.
    pub rounds: u32,
}

/// Messages of one publisher under way when 50 of them share a subscriber: 500 together, half of
/// what Gnomon queues for a client.
const FAN_IN_CREDIT: u16 = 10;

/// Messages of the only publisher under way: what Gnomon and AWS let a client have in flight.
const FAN_OUT_CREDIT: u16 = 100;

/// Idle connections at the end, if the system allows as many files; Gnomon takes 10,000.
const IDLE_CONNECTIONS_MAX: u64 = 8_000;

/// Files of a broker and of this process beside the connections.
const OTHER_FILES: u64 = 128;

/// For a broker to finish what it does after a start or a burst of connections.
const SETTLE: Duration = Duration::from_secs(1);

/// Measures Gnomon, and mosquitto where it is installed.
pub fn measure(plan: &Plan, gnomon: Option<&Path>) -> Result<Vec<Table>> {
    let mosquitto = Kind::find_mosquitto();
    let gnomon = Kind::find_gnomon(gnomon)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut kinds = Vec::from_iter(mosquitto);
        kinds.push(gnomon);
        // First: a limit that is raised holds for all processes that are started afterwards.
        let memory = measure_memory(&kinds).await?;
        Ok(vec![measure_cpu(plan, &kinds).await?, memory])
    })
}

fn cases() -> impl Iterator<Item = (String, Scenario)> {
    let shapes = [("fan-in", 50, 1, FAN_IN_CREDIT), ("fan-out", 1, 100, FAN_OUT_CREDIT)];
    shapes.into_iter().flat_map(|(shape, publishers, subscribers, credit)| {
        let qos = [Qos::AtMostOnce, Qos::AtLeastOnce];
        let sizes = |qos| [(qos, 64, "64 B"), (qos, 1_024, "1 KiB")];
        let variants = qos.into_iter().flat_map(sizes);
        variants.map(move |(qos, payload_bytes, size)| {
            let qos_level = qos as u8;
            let name = format!("{shape} {publishers} -> {subscribers}, QoS {qos_level}, {size}");
            (name, Scenario { publishers, subscribers, qos, payload_bytes, credit })
        })
    })
}

async fn measure_cpu(plan: &Plan, kinds: &[Kind]) -> Result<Table> {
    let mut table = Table::new(
        "Broker: CPU seconds of its process per million messages delivered",
        &[
            "case",
            "mosquitto",
            "gnomon",
            "ratio",
            "mosquitto msg/s",
            "gnomon msg/s",
            "mosquitto lost",
            "gnomon lost",
        ],
    );
    let mut processes = Vec::new();
    for kind in kinds {
        processes.push((kind.name(), kind.start().await?));
    }
    for (name, scenario) in cases() {
        progress(&format!("broker: {name}"));
        let mut samples: Vec<(&str, Sample)> = Vec::new();
        for _ in 0..plan.rounds {
            for (broker, process) in &processes {
                let cpu = || process.cpu();
                let sample = mqtt::run(&scenario, process.address(), plan.measured, cpu).await?;
                samples.push((*broker, sample));
            }
        }
        let of = |broker| samples.iter().filter(move |(name, _)| *name == broker);
        let [mosquitto, gnomon] =
            ["mosquitto", "gnomon"].map(|broker| median(of(broker).map(|(_, sample)| sample)));
        let cost = |sample: Option<&Sample>| sample.map(cpu_per_million);
        let rate = |sample: Option<&Sample>| sample.map(delivered_per_second);
        let lost = |broker| of(broker).map(|(_, sample)| sample.lost).reduce(|a, b| a + b);
        let ratio = cost(gnomon).zip(cost(mosquitto)).map(|(ours, theirs)| ours / theirs);
        table.row([
            Cell::Text(name),
            cost(mosquitto).into(),
            cost(gnomon).into(),
            ratio.into(),
            rate(mosquitto).into(),
            rate(gnomon).into(),
            lost("mosquitto").into(),
            lost("gnomon").into(),
        ]);
    }
    table.note(format!(
        "Medians of {} interleaved rounds of {:.1} s. Under way per publisher: {FAN_IN_CREDIT} \
         (fan-in), {FAN_OUT_CREDIT} (fan-out).",
        plan.rounds,
        plan.measured.as_secs_f64()
    ));
    table.note("msg/s is what the broker and the load reach together on this machine.");
    if kinds.len() == 1 {
        table.note(
            "mosquitto is not installed: nothing to compare with. Debian: apt install mosquitto",
        );
    }
    Ok(table)
}

fn median<'a>(samples: impl Iterator<Item = &'a Sample>) -> Option<&'a Sample> {
    let mut samples: Vec<_> = samples.collect();
    samples.sort_by(|a, b| cpu_per_million(a).total_cmp(&cpu_per_million(b)));
    samples.get(samples.len() / 2).copied()
}

fn cpu_per_million(sample: &Sample) -> f64 {
    sample.cpu.as_secs_f64() / sample.delivered as f64 * 1e6
}

fn delivered_per_second(sample: &Sample) -> f64 {
    sample.delivered as f64 / sample.wall.as_secs_f64()
}

async fn measure_memory(kinds: &[Kind]) -> Result<Table> {
    let files = process::raise_file_limit()?;
    let many = IDLE_CONNECTIONS_MAX.min(files.saturating_sub(OTHER_FILES));
    let few = many / 4;
    let mut table = Table::new(
        format!("Broker: resident memory, idle connections with one subscription ({few}, {many})"),
        &["broker", "at rest, KiB", "few, KiB", "many, KiB", "bytes per connection"],
    );
    for kind in kinds {
        progress(&format!("broker: memory of {}", kind.name()));
        let process = kind.start().await?;
        let at_rest = settled_bytes(&process).await?;
        let mut connections = Vec::new();
        let mut resident = [at_rest; 2];
        for (count, resident) in [few, many].into_iter().zip(&mut resident) {
            while (connections.len() as u64) < count {
                let number = connections.len();
                let (id, filter) = (format!("idle-{number}"), format!("idle/{number}/+"));
                connections.push(mqtt::subscribe(process.address(), &id, &filter).await?);
            }
            *resident = settled_bytes(&process).await?;
        }
        let [with_few, with_many] = resident;
        let slope = with_many.saturating_sub(with_few) as f64 / (many - few) as f64;
        table.row([
            kind.name().into(),
            Cell::Count(at_rest / 1_024),
            Cell::Count(with_few / 1_024),
            Cell::Count(with_many / 1_024),
            Cell::Number(slope),
        ]);
    }
    table.note("Bytes per connection: the slope between both counts, kernel memory not included.");
    Ok(table)
}

async fn settled_bytes(process: &Process) -> Result<u64> {
    sleep(SETTLE).await;
    process.resident_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_by_cost_and_absent_without_samples() {
        let sample = |millis| Sample {
            delivered: 1_000_000,
            cpu: Duration::from_millis(millis),
            wall: Duration::from_secs(1),
            lost: 0,
        };
        let samples = [sample(30), sample(10), sample(20)];
        let median = median(samples.iter()).map(cpu_per_million);
        assert_eq!(median, Some(0.02));
        assert!(super::median([].iter()).is_none());
    }
}
