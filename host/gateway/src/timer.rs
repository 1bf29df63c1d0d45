//! One coarse timer for all connections: a wheel of seconds instead of a timer each.
//!
//! In: [`Wheel::arm`] with a connection's next deadline. Out: [`Queue::tick`] at most a second
//! after it. A connection is armed once at a time; when its deadline has moved on meanwhile
//! (a packet came), it arms itself again, so that a packet costs nothing here.
//! Bound: one entry per connection, and for a minute those of ended connections.

use gnomon_core::broker::queue::Queue;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Slots of the wheel; a deadline further away is looked at early and armed again. Few, because what
/// is left of an ended connection waits for its slot.
const SLOTS: usize = 64;

/// The wheel; [`Wheel::advance`] is to be called every second.
pub struct Wheel {
    start: Instant,
    state: Mutex<State>,
}

struct State {
    slots: Vec<Vec<Weak<Queue>>>,
    /// Seconds since the start that have been handled.
    turned_s: u64,
}

impl Wheel {
    /// An empty wheel.
    pub fn new(start: Instant) -> Self {
        let slots = vec![Vec::new(); SLOTS];
        Self { start, state: Mutex::new(State { slots, turned_s: 0 }) }
    }

    /// Ticks the queue within a second after the deadline; returns when at the earliest.
    pub fn arm(&self, deadline: Instant, queue: &Arc<Queue>) -> Instant {
        let after = deadline.saturating_duration_since(self.start);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let farthest = state.turned_s + SLOTS as u64 - 1;
        let due_s = (after.as_secs() + 1).clamp(state.turned_s + 1, farthest);
        let slot = slot(due_s);
        state.slots[slot].push(Arc::downgrade(queue));
        self.start + Duration::from_secs(due_s)
    }

    /// Ticks everything that is due.
    pub fn advance(&self, now: Instant) {
        let now_s = now.saturating_duration_since(self.start).as_secs();
        loop {
            let due = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.turned_s >= now_s {
                    return;
                }
                state.turned_s += 1;
                let slot = slot(state.turned_s);
                std::mem::take(&mut state.slots[slot])
            };
            due.iter().filter_map(Weak::upgrade).for_each(|queue| queue.tick());
        }
    }
}

fn slot(second: u64) -> usize {
    usize::try_from(second % SLOTS as u64).expect("smaller than SLOTS")
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_core::broker::queue::{QueueBounds, QueueConfig, QueueEvent};
    use gnomon_core::ids::ClientId;
    use gnomon_core::time::{Clock, SystemClock};
    use std::task::{Context, Poll, Waker};

    fn ticked(queue: &Queue) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        queue.poll_event(&mut context, false) == Poll::Ready(QueueEvent::Tick)
    }

    #[test]
    fn a_queue_is_ticked_once_within_a_second_after_its_deadline() {
        let start = SystemClock.now();
        let at = |s: f64| start + Duration::from_secs_f64(s);
        let bounds = QueueBounds { messages_max: 1, bytes_max: 1 };
        let client_id = ClientId::parse("c").unwrap();
        let config = Arc::new(QueueConfig { bounds, metrics: Arc::default() });
        let queue = Arc::new(Queue::new(client_id, None, config));
        let wheel = Wheel::new(start);
        for deadline in [0.2, 5.0, 1.5, 3_000.0] {
            wheel.arm(at(deadline), &queue);
        }
        for (now, expected) in
            [(0.9, false), (1.2, true), (1.9, false), (2.0, true), (5.9, false), (6.0, true)]
        {
            wheel.advance(at(now));
            assert_eq!(ticked(&queue), expected, "at {now}");
        }
        // Beyond the wheel's reach: early, so that the connection arms it again.
        wheel.advance(at(2_100.0));
        assert!(ticked(&queue));
    }
}
