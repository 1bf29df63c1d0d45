//! The queue of one client: messages on their way from the broker to its connection.
//!
//! In: [`Inbox::deliver`], from any thread. Out: [`Queue::poll_event`] and [`Queue::take`], by the
//! one connection task that owns the client. It outlives the connection of a persistent session.
//! Bound: `messages_max` and `bytes_max`; when full a new message is dropped for this client,
//! counted and, once per fill, logged. While nothing waits it holds no buffer.

use super::{Delivery, Inbox, Wakes};
use crate::ids::ClientId;
use crate::message::QoS;
use crate::metrics::Metrics;
use crate::packet::Reason;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// A bounded queue with one reader.
pub struct Queue {
    client_id: ClientId,
    bounds: QueueBounds,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

/// How much may wait in a [`Queue`].
#[derive(Clone, Copy, Debug)]
pub struct QueueBounds {
    /// Messages.
    pub messages_max: u32,
    /// Bytes of payload and properties.
    pub bytes_max: u32,
}

#[derive(Default)]
struct State {
    deliveries: VecDeque<Delivery>,
    bytes: usize,
    waker: Option<Waker>,
    /// The reader waits for deliveries too, not only for a stop or a tick.
    wants_deliveries: bool,
    /// No connection reads: only what is worth keeping is taken.
    is_parked: bool,
    is_overflowing: bool,
    tick: bool,
    stop: Option<Reason>,
}

/// What woke the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueEvent {
    /// The connection has to end; [`Queue::take`] still gives what waits.
    Stop(Reason),
    /// The coarse timer that the reader asked for.
    Tick,
    /// Messages wait.
    Deliveries,
}

impl Queue {
    /// An empty queue of a client that is being connected.
    pub fn new(client_id: ClientId, bounds: QueueBounds, metrics: Arc<Metrics>) -> Self {
        Self { client_id, bounds, metrics, state: Mutex::default() }
    }

    /// The next event for the one reader. `wants_deliveries` is false while the reader has no
    /// room for more.
    pub fn poll_event(
        &self,
        context: &mut Context<'_>,
        wants_deliveries: bool,
    ) -> Poll<QueueEvent> {
        let mut state = self.state();
        if let Some(reason) = state.stop.take() {
            return Poll::Ready(QueueEvent::Stop(reason));
        }
        if std::mem::take(&mut state.tick) {
            return Poll::Ready(QueueEvent::Tick);
        }
        if wants_deliveries && !state.deliveries.is_empty() {
            return Poll::Ready(QueueEvent::Deliveries);
        }
        state.wants_deliveries = wants_deliveries;
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Takes at most `max` messages, the oldest first.
    pub fn take(&self, max: usize) -> VecDeque<Delivery> {
        let mut state = self.state();
        state.is_overflowing = false;
        if state.deliveries.len() <= max {
            state.bytes = 0;
            return std::mem::take(&mut state.deliveries);
        }
        let taken: VecDeque<_> = state.deliveries.drain(..max).collect();
        state.bytes -= taken.iter().map(size).sum::<usize>();
        taken
    }

    /// Tells the reader to end its connection.
    pub fn stop(&self, reason: Reason) {
        self.signal(|state| state.stop = Some(reason));
    }

    /// Tells the reader that its coarse timer is due.
    pub fn tick(&self) {
        self.signal(|state| state.tick = true);
    }

    /// No connection reads from now on: QoS 0 messages are no longer taken, and those that wait go.
    pub(super) fn park(&self) {
        let mut state = self.state();
        state.is_parked = true;
        state.waker = None;
        state.stop = None;
        state.deliveries.retain(|delivery| delivery.qos > QoS::AtMostOnce);
        state.bytes = state.deliveries.iter().map(size).sum();
    }

    /// A connection reads again; what was meant for the one before is forgotten.
    pub(super) fn unpark(&self) {
        let mut state = self.state();
        state.is_parked = false;
        state.stop = None;
        state.tick = false;
    }

    fn signal(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.state();
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox for Queue {
    fn deliver(&self, delivery: Delivery, wakes: &mut Wakes) {
        let mut state = self.state();
        // MQTT 5.0, 4.1: what a session without connection keeps are QoS 1 and 2 messages.
        if state.is_parked && delivery.qos == QoS::AtMostOnce {
            return;
        }
        let bytes = state.bytes + size(&delivery);
        if state.deliveries.len() >= self.bounds.messages_max as usize
            || bytes > self.bounds.bytes_max as usize
        {
            self.metrics.messages_dropped.increment();
            if !std::mem::replace(&mut state.is_overflowing, true) {
                tracing::warn!(
                    client_id = %self.client_id,
                    queued = state.deliveries.len(),
                    "queue full, new messages dropped"
                );
            }
            return;
        }
        state.bytes = bytes;
        state.deliveries.push_back(delivery);
        if state.wants_deliveries
            && let Some(waker) = state.waker.take()
        {
            wakes.push(waker);
        }
    }

    fn client_id(&self) -> Option<&ClientId> {
        Some(&self.client_id)
    }
}

fn size(delivery: &Delivery) -> usize {
    let properties = delivery.message.properties.as_ref();
    delivery.message.payload.len() + properties.map_or(0, |properties| properties.bytes())
}
