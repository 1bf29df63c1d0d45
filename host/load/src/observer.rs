//! Whoever looks at a run while it goes on: the terminal, or a benchmark that reads the broker's
//! CPU time at the right moments.

use crate::stats::Stats;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// Looks at a run; both are called on the thread of the load and should be quick.
pub trait Observer {
    /// The run has come to this point.
    fn reached(&mut self, _point: Point) {}

    /// Another second is over.
    fn second(&mut self, _progress: Progress) {}
}

/// Looks away.
impl Observer for () {}

/// Points of a run, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Everyone who could has connected and subscribed.
    Connected,
    /// The warm-up is over; what the report calls measured begins.
    Measuring,
    /// It ends; what is under way may still arrive.
    Measured,
}

/// Counters so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Connections at this moment.
    pub connected: u64,
    /// Messages published.
    pub sent: u64,
    /// Messages that arrived at subscribers.
    pub received: u64,
    /// Errors of all kinds.
    pub errors: u64,
}

/// Shows a run to its observer, and ends it early when it is told to stop.
pub struct Watch<'a, O, S> {
    observer: &'a mut O,
    stop: Pin<&'a mut S>,
    stats: Rc<Stats>,
    seconds: Interval,
    /// It was told to stop.
    pub interrupted: bool,
}

impl<'a, O: Observer, S: Future<Output = ()>> Watch<'a, O, S> {
    /// Begins now.
    pub fn new(observer: &'a mut O, stop: Pin<&'a mut S>, stats: Rc<Stats>) -> Self {
        let second = Duration::from_secs(1);
        let mut seconds = interval_at(Instant::now() + second, second);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self { observer, stop, stats, seconds, interrupted: false }
    }

    /// Passes a point on.
    pub fn reached(&mut self, point: Point) {
        self.observer.reached(point);
    }

    /// Waits for `work`, or less when the run is stopped, and no longer once it has been.
    pub async fn until<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        if self.interrupted {
            return None;
        }
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased; // Stop must win over a busy load.
                () = &mut self.stop => {
                    self.interrupted = true;
                    return None;
                }
                _ = self.seconds.tick() => self.tick(),
                done = &mut work => return Some(done),
            }
        }
    }

    /// Waits for `work`, which has a deadline of its own.
    pub async fn through<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                _ = self.seconds.tick() => self.tick(),
                done = &mut work => return done,
            }
        }
    }

    fn tick(&mut self) {
        self.observer.second(Progress {
            connected: self.stats.connected.get(),
            sent: self.stats.sent.get(),
            received: self.stats.received.get(),
            errors: self.stats.error_count(),
        });
    }
}
