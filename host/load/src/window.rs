//! What a publisher has under way: the sequence numbers from `first` to before `next`.
//!
//! A message is under way until the broker has acknowledged it (QoS 1 and 2) and every subscriber
//! of the run has it. So no queue in a broker has to overflow, and a slow subscriber slows its
//! publisher down instead of turning the measurement into one of queue limits.
//! Bound: the window's size, at most 65,535; the packet identifier is the slot plus 1.

use std::cell::RefCell;
use tokio::sync::Notify;

/// A publisher's window; one thread, many tasks.
#[derive(Debug)]
pub struct Window {
    /// Acknowledgements are waited for.
    acknowledged: bool,
    state: RefCell<State>,
    /// Told whenever there is credit again; whoever else has to wake the publisher uses it too.
    pub wake: Notify,
}

#[derive(Debug)]
struct State {
    first: u64,
    next: u64,
    /// Subscribers that a message has to reach.
    receivers: u32,
    /// At the sequence number modulo the size.
    slots: Vec<Slot>,
    /// `first` at the last look for a stall.
    first_before: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    receipts_missing: u32,
    acknowledgement_missing: bool,
}

impl Window {
    /// An empty window of `size` messages, each of which goes to `receivers`.
    pub fn new(size: u16, receivers: u32, acknowledged: bool) -> Self {
        let slots = vec![Slot::default(); usize::from(size.max(1))];
        let state = State { first: 0, next: 0, receivers, slots, first_before: 0 };
        Self { acknowledged, state: RefCell::new(state), wake: Notify::new() }
    }

    /// Makes the window smaller, before anything is under way.
    pub fn limit(&self, size: u16) {
        let state = &mut *self.state.borrow_mut();
        debug_assert_eq!(state.first, state.next, "slots move with the size");
        state.slots.truncate(usize::from(size.max(1)));
    }

    /// Sequence number and packet identifier of the next message, and how many subscribers it
    /// has to reach; none without credit.
    pub fn take(&self) -> Option<(u64, u16, u32)> {
        let state = &mut *self.state.borrow_mut();
        let sequence = state.next;
        if sequence - state.first >= state.slots.len() as u64 {
            return None;
        }
        let slot = state.slot(sequence);
        state.slots[slot] =
            Slot { receipts_missing: state.receivers, acknowledgement_missing: self.acknowledged };
        state.next += 1;
        // Without acknowledgements and subscribers nothing is waited for.
        state.advance();
        let packet_id = u16::try_from(slot + 1).expect("the size is a u16");
        Some((sequence, packet_id, state.receivers))
    }

    /// The broker acknowledged a message; false when none with this identifier waits for it.
    pub fn acknowledge(&self, packet_id: u16) -> bool {
        let state = &mut *self.state.borrow_mut();
        let slot = usize::from(packet_id).checked_sub(1).and_then(|at| state.slots.get_mut(at));
        let Some(slot) = slot.filter(|slot| slot.acknowledgement_missing) else { return false };
        slot.acknowledgement_missing = false;
        self.advance(state);
        true
    }

    /// The message with this number has been sent.
    pub fn has_sent(&self, sequence: u64) -> bool {
        sequence < self.state.borrow().next
    }

    /// A subscriber has a message, or will never have it.
    pub fn received(&self, sequence: u64) {
        let state = &mut *self.state.borrow_mut();
        if (state.first..state.next).contains(&sequence) {
            let slot = state.slot(sequence);
            let slot = &mut state.slots[slot];
            slot.receipts_missing = slot.receipts_missing.saturating_sub(1);
            self.advance(state);
        }
    }

    /// A subscriber is gone: later messages do not wait for it.
    pub fn receiver_gone(&self) {
        let state = &mut *self.state.borrow_mut();
        state.receivers = state.receivers.saturating_sub(1);
        self.forgive(state);
    }

    /// Gives credit back for messages that nobody received for a whole period; what is lost is
    /// counted at the end. A missing acknowledgement keeps its packet identifier and its credit.
    pub fn forgive_if_stalled(&self) {
        let state = &mut *self.state.borrow_mut();
        if state.first == state.first_before && state.first < state.next {
            self.forgive(state);
        }
        state.first_before = state.first;
    }

    fn forgive(&self, state: &mut State) {
        state.slots.iter_mut().for_each(|slot| slot.receipts_missing = 0);
        self.advance(state);
    }

    fn advance(&self, state: &mut State) {
        if state.advance() {
            self.wake.notify_one();
        }
    }
}

impl State {
    fn advance(&mut self) -> bool {
        let before = self.first;
        while self.first < self.next {
            let slot = self.slots[self.slot(self.first)];
            if slot.receipts_missing > 0 || slot.acknowledgement_missing {
                break;
            }
            self.first += 1;
        }
        self.first > before
    }

    fn slot(&self, sequence: u64) -> usize {
        usize::try_from(sequence % self.slots.len() as u64).expect("below the length of a Vec")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(window: &Window) -> Option<u64> {
        window.take().map(|(sequence, ..)| sequence)
    }

    #[test]
    fn credit_comes_back_in_order_when_everyone_has_the_message() {
        let window = Window::new(2, 1, true);
        assert_eq!([window.take(), window.take()], [Some((0, 1, 1)), Some((1, 2, 1))]);
        assert!(window.acknowledge(2));
        window.received(0);
        assert_eq!(window.take(), None, "the broker has not acknowledged message 0");
        assert!(window.acknowledge(1));
        assert_eq!(window.take(), Some((2, 1, 1)));
        window.received(1);
        assert_eq!([taken(&window), taken(&window)], [Some(3), None]);
    }

    #[test]
    fn an_acknowledgement_nobody_waits_for_is_told() {
        let window = Window::new(2, 0, true);
        window.take();
        for (packet_id, expected) in [(0, false), (2, false), (3, false), (1, true), (1, false)] {
            assert_eq!(window.acknowledge(packet_id), expected, "{packet_id}");
        }
    }

    #[test]
    fn without_receivers_and_acknowledgements_credit_has_no_end() {
        let window = Window::new(1, 0, false);
        assert_eq!([taken(&window), taken(&window), taken(&window)], [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn a_stall_gives_back_receipts_and_not_acknowledgements() {
        let window = Window::new(1, 1, true);
        window.take();
        window.forgive_if_stalled();
        assert_eq!(window.take(), None);
        window.acknowledge(1);
        assert_eq!(taken(&window), Some(1));
        // The late receipt of message 0 must not count for this one.
        window.received(0);
        window.acknowledge(1);
        assert_eq!(window.take(), None);
    }

    #[test]
    fn nobody_waits_for_a_receiver_that_is_gone() {
        let window = Window::new(1, 2, false);
        window.take();
        window.received(0);
        window.receiver_gone();
        assert_eq!(window.take(), Some((1, 1, 1)));
    }
}
