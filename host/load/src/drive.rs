//! A run from its first connection to its report.

use crate::dial::Dialer;
use crate::error::LoadError;
use crate::files;
use crate::fleet::Fleet;
use crate::observer::{Observer, Point, Watch};
use crate::plan::{self, End, Plan, Work};
use crate::report::{Measured, Report};
use crate::stats::Stats;
use crate::traffic::Traffic;
use std::pin::{Pin, pin};
use std::rc::Rc;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep};

/// Does what the plan says, on this thread, until it is done or `stop` is; then what is under
/// way still has some seconds to arrive.
///
/// # Errors
/// There is nothing to report: the broker is not there, nobody could connect, or the system
/// allows too few files.
pub async fn drive(
    plan: Plan,
    observer: &mut impl Observer,
    stop: impl Future<Output = ()>,
) -> Result<Report, LoadError> {
    let stop = pin!(stop);
    let local = LocalSet::new();
    let run = async {
        match plan.work.clone() {
            Work::Traffic(traffic) => drive_traffic(plan, &traffic, observer, stop).await,
            Work::Hold(hold) => drive_fleet(plan, &hold, observer, stop).await,
        }
    };
    local.run_until(run).await
}

async fn drive_fleet<S: Future<Output = ()>>(
    plan: Plan,
    hold: &plan::Hold,
    observer: &mut impl Observer,
    stop: Pin<&mut S>,
) -> Result<Report, LoadError> {
    let mut fleet = Fleet::new(plan).await?;
    let stats = fleet.stats().clone();
    let mut watch = Watch::new(observer, stop, stats.clone());
    watch.until(fleet.grow(hold.connections)).await;
    if stats.opened.get() == 0 && !watch.interrupted {
        let (asked, why) = (hold.connections as usize, stats.main_error());
        return Err(LoadError::NobodyConnected { role: "clients", asked, why });
    }
    watch.reached(Point::Connected);
    watch.until(sleep(hold.hold)).await;
    let report = Report { interrupted: watch.interrupted, ..fleet.report() };
    fleet.close().await;
    Ok(report)
}

async fn drive_traffic<S: Future<Output = ()>>(
    plan: Plan,
    work: &plan::Traffic,
    observer: &mut impl Observer,
    stop: Pin<&mut S>,
) -> Result<Report, LoadError> {
    files::allow(plan.connections())?;
    let address = plan.target.resolve().await?;
    let (qos, stats) = (plan.qos, Rc::new(Stats::new()));
    let dialer = Dialer::new(Rc::new(plan), stats.clone(), address);
    let traffic = Rc::new(Traffic::new(dialer, work));
    let mut watch = Watch::new(observer, stop, stats.clone());
    let mut tasks = JoinSet::new();
    watch.until(traffic.connect(&mut tasks)).await;
    if !watch.interrupted {
        traffic.check_connected()?;
    }
    watch.reached(Point::Connected);

    traffic.publish();
    if !work.warm_up.is_zero() {
        watch.until(with_credit(&traffic, sleep(work.warm_up))).await;
    }
    traffic.begin_measuring();
    watch.reached(Point::Measuring);
    let (begin, sent, received) = (Instant::now(), stats.sent.get(), stats.received.get());
    let mut end = begin;
    match work.end {
        End::After(duration) => {
            watch.until(with_credit(&traffic, sleep(duration))).await;
            end = Instant::now();
        }
        End::Messages(_) => {
            watch.until(with_credit(&traffic, traffic.all_sent())).await;
            // The last message counts like the first, so its way belongs to the measurement.
            end = end.max(watch.through(traffic.drain()).await);
        }
    }
    let measured = Measured {
        seconds: end.duration_since(begin).as_secs_f64(),
        sent: stats.sent.get() - sent,
        received: stats.received.get() - received,
    };
    watch.reached(Point::Measured);
    watch.through(traffic.drain()).await;
    let report =
        Report { interrupted: watch.interrupted, ..Report::of_traffic(&stats, qos, measured) };
    traffic.close(tasks).await;
    Ok(report)
}

/// Gives credit for lost messages back while `work` goes on.
async fn with_credit(traffic: &Traffic, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = traffic.forgive_stalls() => {}
    }
}
