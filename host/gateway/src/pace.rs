//! A token bucket without tokens: how fast a listener accepts.
//!
//! In: one call per connection. Out: a wait. A second's worth may come at once; behind it, one per
//! interval.

use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The pace of one listener.
pub struct Pace {
    /// `None`: as fast as they come.
    interval: Option<Duration>,
    /// When everything taken so far would have come at an even pace.
    taken_until: Instant,
}

impl Pace {
    /// So many per second; 0: without limit.
    pub fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(per_second);
        Self { interval, taken_until: Instant::now() }
    }

    /// Waits until one more may come; false when that was at once. Cancel-safe: nothing is taken.
    pub async fn wait(&self) -> bool {
        let Some(interval) = self.interval else { return false };
        let from = (self.taken_until + interval).checked_sub(Duration::from_secs(1));
        match from.filter(|from| *from > Instant::now()) {
            Some(from) => {
                sleep_until(from).await;
                true
            }
            None => false,
        }
    }

    /// One came.
    pub fn take(&mut self) {
        if let Some(interval) = self.interval {
            self.taken_until = Instant::now().max(self.taken_until) + interval;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn waits(pace: &mut Pace) -> Duration {
        let start = Instant::now();
        pace.wait().await;
        pace.take();
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_s_worth_comes_at_once_and_the_rest_evenly() {
        let mut pace = Pace::new(4);
        // The timer's grain is a millisecond.
        let expected = [0, 0, 0, 0, 250, 250, 250].map(Duration::from_millis);
        for expected in expected {
            assert_eq!(waits(&mut pace).await, expected);
        }
        // Two intervals of rest are two at once.
        tokio::time::sleep(Duration::from_millis(500)).await;
        for expected in [0, 0, 250].map(Duration::from_millis) {
            assert_eq!(waits(&mut pace).await, expected);
        }
        // However long the rest: no more than a second's worth.
        tokio::time::sleep(Duration::from_secs(60)).await;
        for expected in [0, 0, 0, 0, 250].map(Duration::from_millis) {
            assert_eq!(waits(&mut pace).await, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_no_limit() {
        let mut pace = Pace::new(0);
        for _ in 0..1_000 {
            assert_eq!(waits(&mut pace).await, Duration::ZERO);
        }
    }
}
