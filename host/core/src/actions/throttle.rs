//! At most one log line a second about the same trouble; the rest is counted.

use crate::time::Clock;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shortest time between two lines.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// Whether to log now, and then how many lines were left out since the last one.
    pub fn allow(&self, clock: &dyn Clock) -> Option<u64> {
        let now = clock.now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{ManualClock, Timestamp};

    #[test]
    fn lines_within_a_second_are_counted_instead() {
        let clock = ManualClock::new(Timestamp::default());
        let throttle = Throttle::default();
        assert_eq!(throttle.allow(&clock), Some(0));
        assert_eq!(throttle.allow(&clock), None);
        assert_eq!(throttle.allow(&clock), None);
        clock.advance(INTERVAL);
        assert_eq!(throttle.allow(&clock), Some(2));
        clock.advance(INTERVAL);
        assert_eq!(throttle.allow(&clock), Some(0));
    }
}
