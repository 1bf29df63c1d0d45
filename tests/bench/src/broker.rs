//! `broker`: CPU time of the broker per million messages delivered, and both cost and latency at half load.
//!
//! In: a [`Plan`]. Out: two tables, with mosquitto beside Gnomon: both run all the time and are
//! measured in turn, so that whatever else the machine does meets both.

use crate::load::{self, Sample, WARM_UP_S, median};
use crate::process::{Kind, Process};
use crate::table::{Cell, Table};
use crate::{Result, progress};
use gnomon_load::{Options, Qos, Shape};
use std::time::Duration;

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Of one case of one broker, without its warm-up.
    pub measured: Duration,
    /// Of each case; the median is shown.
    pub rounds: u32,
}

/// Shape, publishers, subscribers, and messages of one publisher under way. 50 that share a
/// subscriber have 500 together, half of what Gnomon queues for a client; an only publisher has
/// what Gnomon and AWS let a client have in flight.
const SHAPES: [(&str, Shape, u32, u32, u16); 4] = [
    ("fan-in 50 -> 1", Shape::FanIn, 50, 1, 10),
    ("100 pairs", Shape::Pairs, 100, 100, 10),
    ("fan-out 1 -> 100", Shape::FanOut, 1, 100, 100),
    ("fan-out 1 -> 1,000", Shape::FanOut, 1, 1_000, 100),
];

const SIZES: [(&str, u32); 2] = [("64 B", 64), ("1 KiB", 1_024)];

struct Case {
    name: String,
    options: Options,
    /// Half load is measured with these; more would take long and say little.
    is_small: bool,
}

/// Messages per second at which both brokers have work to do and neither is full.
struct HalfLoad<'a> {
    case: &'a Case,
    rate: f64,
}

/// Measures the brokers; the first is what the last is compared with.
pub fn measure(plan: &Plan, kinds: &[Kind]) -> Result<Vec<Table>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut processes = Vec::new();
        for kind in kinds {
            processes.push((kind.name(), kind.start().await?));
        }
        let cases = cases(plan);
        let (cpu, half) = measure_cpu(plan, &cases, &processes).await?;
        Ok(vec![cpu, measure_at_half_load(plan, &half, &processes).await?])
    })
}

fn cases(plan: &Plan) -> Vec<Case> {
    let mut cases = Vec::new();
    for (shape_name, shape, publishers, subscribers, window) in SHAPES {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
            for (size_name, payload) in SIZES {
                let level = qos.level();
                let options = Options {
                    shape,
                    publishers,
                    subscribers,
                    window,
                    qos,
                    payload,
                    warm_up: WARM_UP_S,
                    duration: plan.measured.as_secs_f64(),
                    ..Options::default()
                };
                let name = format!("{shape_name}, QoS {level}, {size_name}");
                cases.push(Case { name, options, is_small: payload < 1_024 });
            }
        }
    }
    cases
}

fn on(process: &Process, options: &Options) -> Options {
    Options { url: process.plain().url, ..options.clone() }
}

/// Interleaved rounds: those of mosquitto, and those of Gnomon.
async fn run_rounds(
    plan: &Plan,
    options: &Options,
    processes: &[(&str, Process)],
) -> Result<[Vec<Sample>; 2]> {
    let mut samples = [const { Vec::new() }; 2];
    for _ in 0..plan.rounds {
        for (broker, process) in processes {
            let sample = load::run(process, &on(process, options)).await?;
            samples[usize::from(*broker == "gnomon")].push(sample);
        }
    }
    Ok(samples)
}

async fn measure_cpu<'a>(
    plan: &Plan,
    cases: &'a [Case],
    processes: &[(&str, Process)],
) -> Result<(Table, Vec<HalfLoad<'a>>)> {
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
    let mut half = Vec::new();
    for case in cases {
        progress(&format!("broker: {}", case.name));
        let samples = run_rounds(plan, &case.options, processes).await?;
        let lost = samples.each_ref().map(|samples| {
            let lost = samples.iter().map(|sample| sample.report.messages.lost);
            lost.reduce(|a, b| a + b)
        });
        let [mosquitto, gnomon] = samples.map(|samples| median(samples, Sample::cpu_per_million));
        let cost = |sample: &Option<Sample>| sample.as_ref().map(Sample::cpu_per_million);
        let speed = |sample: &Option<Sample>| sample.as_ref().map(Sample::received_per_s);
        let ratio = cost(&gnomon).zip(cost(&mosquitto)).map(|(ours, theirs)| ours / theirs);
        table.row([
            Cell::Text(case.name.clone()),
            cost(&mosquitto).into(),
            cost(&gnomon).into(),
            ratio.into(),
            speed(&mosquitto).into(),
            speed(&gnomon).into(),
            lost[0].into(),
            lost[1].into(),
        ]);
        let most = [&mosquitto, &gnomon].into_iter().flatten().map(Sample::sent_per_s);
        let slower = most.reduce(f64::min).unwrap_or_default();
        if case.is_small {
            half.push(HalfLoad { case, rate: slower / 2.0 });
        }
    }
    table.note(format!(
        "Medians of {} interleaved rounds of {:.1} s. Under way per publisher: {}.",
        plan.rounds,
        plan.measured.as_secs_f64(),
        SHAPES.map(|(name, _, _, _, window)| format!("{window} ({name})")).join(", ")
    ));
    table.note(
        "msg/s is what the broker and the load reach together on this machine. A broker that is \
         faster has more to read at a time, and pays less for each; see half load.",
    );
    if processes.len() == 1 {
        table.note(
            "mosquitto is not installed: nothing to compare with. Debian: apt install mosquitto",
        );
    }
    Ok((table, half))
}

async fn measure_at_half_load(
    plan: &Plan,
    half: &[HalfLoad<'_>],
    processes: &[(&str, Process)],
) -> Result<Table> {
    let mut table = Table::new(
        "Broker at half load: CPU seconds per million messages, and ms from publishing to arrival",
        &[
            "case",
            "published/s",
            "mosquitto",
            "gnomon",
            "ratio",
            "mosquitto p50",
            "gnomon p50",
            "mosquitto p99",
            "gnomon p99",
        ],
    );
    for HalfLoad { case, rate } in half {
        progress(&format!("broker: half load, {}", case.name));
        let options = Options { rate: *rate, ..case.options.clone() };
        let samples = run_rounds(plan, &options, processes).await?;
        let p99 = |it: &Sample| it.report.latency_ms.map_or(f64::INFINITY, |it| it.p99);
        let [mosquitto, gnomon] = samples.map(|samples| median(samples, p99));
        let cost = |sample: &Option<Sample>| sample.as_ref().map(Sample::cpu_per_million);
        let times = |sample: &Option<Sample>| sample.as_ref().and_then(|it| it.report.latency_ms);
        let ratio = cost(&gnomon).zip(cost(&mosquitto)).map(|(ours, theirs)| ours / theirs);
        table.row([
            Cell::Text(case.name.clone()),
            Cell::Number(*rate),
            cost(&mosquitto).into(),
            cost(&gnomon).into(),
            ratio.into(),
            times(&mosquitto).map(|it| it.p50).into(),
            times(&gnomon).map(|it| it.p50).into(),
            times(&mosquitto).map(|it| it.p99).into(),
            times(&gnomon).map(|it| it.p99).into(),
        ]);
    }
    table.note(format!(
        "Both get the same rate, half of what the slower one reached, so that what a broker saves \
         by batching at full load does not decide. Of {} interleaved rounds the one with the \
         median p99.",
        plan.rounds
    ));
    Ok(table)
}
