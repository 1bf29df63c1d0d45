//! The queue of one client: messages on their way from the broker to its connection.
//!
//! In: [`Inbox::deliver`], from any thread. Out: [`Queue::poll_event`] and [`Queue::take`], by the
//! one connection task that owns the client. It outlives the connection of a persistent session,
//! and ends with the session (`Queue::end`).
//! Bound: `messages_max` and `bytes_max`; when full a new message is dropped for this client,
//! counted and, once per fill, logged. While nothing waits it holds no buffer.

use super::log::SessionNumber;
use super::{Delivery, Inbox, Readiness, Wakes};
use crate::ids::ClientId;
use crate::message::QoS;
use crate::metrics::Metrics;
use crate::packet::Reason;
use crate::storage::Position;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// A bounded queue with one reader. Small, because every client has one.
#[derive(Debug)]
pub struct Queue {
    client_id: ClientId,
    /// Of a session that outlives its connection; they begin at 1, and 0 stands for none.
    session: SessionNumber,
    config: Arc<QueueConfig>,
    state: Mutex<State>,
}

/// What all queues of a host share.
#[derive(Debug)]
pub struct QueueConfig {
    /// How much may wait.
    pub bounds: QueueBounds,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// How much may wait in a [`Queue`].
#[derive(Clone, Copy, Debug)]
pub struct QueueBounds {
    /// Messages; at most 60,000.
    pub messages_max: u32,
    /// Bytes of payload and properties.
    pub bytes_max: u32,
}

#[derive(Debug, Default)]
struct State {
    deliveries: VecDeque<Delivery>,
    /// Of `deliveries` and of what is reserved.
    bytes: u32,
    /// Messages in the log that will be pushed here.
    reserved: u16,
    /// How far the log has come, for a reader that waits for it; 0 when it was told.
    durable: Position,
    waker: Option<Waker>,
    /// The reader waits for deliveries too, not only for a stop or a tick.
    wants_deliveries: bool,
    /// No connection reads: only what is worth keeping is taken.
    is_parked: bool,
    /// The session is over: nothing is taken any more.
    is_ended: bool,
    is_overflowing: bool,
    tick: bool,
    permissions: bool,
    stop: Option<Reason>,
    removal: Option<Removal>,
}

/// An administrator removes the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Removal {
    /// Its session ends with the connection.
    pub(super) with_session: bool,
    /// Its will is not published.
    pub(super) without_will: bool,
}

/// What woke the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueEvent {
    /// The connection has to end; [`Queue::take`] still gives what waits.
    Stop(Reason),
    /// The coarse timer that the reader asked for.
    Tick,
    /// The permissions of somebody changed, perhaps the client's.
    Permissions,
    /// The log has come to this position.
    Durable(Position),
    /// Messages wait.
    Deliveries,
}

impl Queue {
    /// An empty queue of a client that is being connected.
    pub fn new(
        client_id: ClientId,
        session: Option<SessionNumber>,
        config: Arc<QueueConfig>,
    ) -> Self {
        let session = session.unwrap_or(SessionNumber(0));
        Self { client_id, session, config, state: Mutex::default() }
    }

    /// The client's id.
    pub(super) fn id(&self) -> &ClientId {
        &self.client_id
    }

    /// The session's number in the log, if it is durable.
    pub fn session(&self) -> Option<SessionNumber> {
        (self.session != SessionNumber(0)).then_some(self.session)
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
        // Before anything is taken or given under the old ones.
        if std::mem::take(&mut state.permissions) {
            return Poll::Ready(QueueEvent::Permissions);
        }
        if std::mem::take(&mut state.tick) {
            return Poll::Ready(QueueEvent::Tick);
        }
        if state.durable > Position::default() {
            return Poll::Ready(QueueEvent::Durable(std::mem::take(&mut state.durable)));
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
        let taken: VecDeque<_> = if state.deliveries.len() <= max {
            std::mem::take(&mut state.deliveries)
        } else {
            state.deliveries.drain(..max).collect()
        };
        state.take_off(taken.iter());
        taken
    }

    /// True when [`Queue::reserve`] would succeed now.
    pub(super) fn can_reserve(&self, delivery: &Delivery) -> bool {
        let state = self.state();
        self.fits(&state, size(delivery))
    }

    /// Keeps room for a message that goes through the log; false when the queue is full.
    pub fn reserve(&self, delivery: &Delivery) -> bool {
        let mut state = self.state();
        let fits = self.has_room(&mut state, size(delivery));
        if fits {
            state.reserved += 1;
        }
        fits
    }

    /// Takes a message for which there was [`Queue::reserve`], now that it is durable; gives it
    /// back when the session has ended.
    pub(super) fn push_durable(
        &self,
        delivery: Delivery,
        wakes: &mut Wakes,
    ) -> Result<(), Delivery> {
        let mut state = self.state();
        state.reserved = state.reserved.saturating_sub(1);
        if state.is_ended {
            return Err(delivery);
        }
        push(&mut state, delivery, wakes);
        Ok(())
    }

    /// Goes through what waits if any of it came by a group: `hand_on` keeps what nobody else takes.
    /// The queue is not locked meanwhile; what comes then stays behind what is kept.
    pub(super) fn hand_on(&self, hand_on: impl FnMut(Delivery) -> Option<Delivery>) {
        let waiting = {
            let mut state = self.state();
            if state.deliveries.iter().all(|delivery| delivery.share.is_none()) {
                return;
            }
            let waiting = std::mem::take(&mut state.deliveries);
            state.take_off(waiting.iter());
            waiting
        };
        let kept: VecDeque<_> = waiting.into_iter().filter_map(hand_on).collect();
        let mut state = self.state();
        state.put_on(kept.iter());
        let came = std::mem::replace(&mut state.deliveries, kept);
        state.deliveries.extend(came);
    }

    /// The session is over: from now on nothing is taken. A publisher may not know that yet, and
    /// what it meant for this queue is nobody's, or another member's of the group it came by.
    pub(super) fn end(&self) {
        self.state().is_ended = true;
    }

    /// True when the session is over.
    pub(super) fn is_ended(&self) -> bool {
        self.state().is_ended
    }

    /// Puts back what a restarted host found in the log, whatever the bounds are now.
    pub(super) fn restore(&self, deliveries: Vec<Delivery>) {
        let mut state = self.state();
        state.is_parked = true;
        state.put_on(deliveries.iter());
        state.deliveries.extend(deliveries);
    }

    /// Tells the reader how far the log has come.
    pub fn durable(&self, position: Position, wakes: &mut Wakes) {
        let mut state = self.state();
        state.durable = position;
        if let Some(waker) = state.waker.take() {
            wakes.push(waker);
        }
    }

    fn fits(&self, state: &State, bytes: u32) -> bool {
        let bytes = state.bytes.checked_add(bytes);
        !self.is_full(state) && bytes.is_some_and(|bytes| bytes <= self.config.bounds.bytes_max)
    }

    fn is_full(&self, state: &State) -> bool {
        // `reserved` counts no further.
        let messages_max = self.config.bounds.messages_max.min(u16::MAX.into());
        state.messages() >= messages_max as usize
    }

    /// Counts the bytes in, or the message as dropped.
    fn has_room(&self, state: &mut State, bytes: u32) -> bool {
        if state.is_ended {
            return false;
        }
        if self.fits(state, bytes) {
            state.bytes += bytes;
            return true;
        }
        self.config.metrics.messages_dropped.increment();
        if !std::mem::replace(&mut state.is_overflowing, true) {
            let (client_id, queued) = (&self.client_id, state.messages());
            tracing::warn!(%client_id, queued, "queue full, new messages dropped");
        }
        false
    }

    /// Tells the reader to end its connection.
    pub fn stop(&self, reason: Reason) {
        self.signal(|state| state.stop = Some(reason));
    }

    /// Tells the reader to end its connection, on behalf of an administrator.
    pub(super) fn remove_client(&self, removal: Removal) {
        self.signal(|state| {
            state.stop = Some(Reason::AdministrativeAction);
            state.removal = Some(removal);
        });
    }

    /// What an administrator wants of the connection that ends.
    pub(super) fn removal(&self) -> Option<Removal> {
        self.state().removal
    }

    /// Tells the reader that its coarse timer is due.
    pub fn tick(&self) {
        self.signal(|state| state.tick = true);
    }

    /// Tells the reader to look whether its client's permissions changed.
    pub fn permissions_changed(&self) {
        self.signal(|state| state.permissions = true);
    }

    /// No connection reads from now on: QoS 0 messages are no longer taken, and those that wait go,
    /// unless another member of a group may have them. What was sent and not acknowledged comes
    /// first again.
    pub(super) fn park(&self, unacknowledged: VecDeque<Delivery>) {
        let mut state = self.state();
        state.is_parked = true;
        state.waker = None;
        state.stop = None;
        state.put_on(unacknowledged.iter());
        let is_kept = |it: &Delivery| it.qos > QoS::AtMostOnce || it.share.is_some();
        let queued = std::mem::replace(&mut state.deliveries, unacknowledged);
        state.take_off(queued.iter().filter(|it| !is_kept(it)));
        state.deliveries.extend(queued.into_iter().filter(is_kept));
    }

    /// A connection reads again; what was meant for the one before is forgotten.
    pub(super) fn unpark(&self) {
        let mut state = self.state();
        state.is_parked = false;
        state.stop = None;
        state.tick = false;
        state.permissions = false;
        state.removal = None;
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
        if self.has_room(&mut state, size(&delivery)) {
            push(&mut state, delivery, wakes);
        }
    }

    fn durable(self: Arc<Self>) -> Option<(SessionNumber, Arc<Queue>)> {
        self.session().map(|session| (session, self))
    }

    fn readiness(&self) -> Readiness {
        let state = self.state();
        if state.is_ended || self.is_full(&state) {
            Readiness::Full
        } else if state.is_parked {
            Readiness::Offline
        } else {
            Readiness::Online
        }
    }

    fn client_id(&self) -> Option<&ClientId> {
        Some(&self.client_id)
    }
}

fn push(state: &mut State, delivery: Delivery, wakes: &mut Wakes) {
    state.deliveries.push_back(delivery);
    if state.wants_deliveries
        && let Some(waker) = state.waker.take()
    {
        wakes.push(waker);
    }
}

impl State {
    /// Those that wait and those that will.
    fn messages(&self) -> usize {
        self.deliveries.len() + usize::from(self.reserved)
    }

    /// Counts the bytes of messages that are put into the queue, whatever the bounds are.
    fn put_on<'a>(&mut self, deliveries: impl Iterator<Item = &'a Delivery>) {
        self.bytes = deliveries.map(size).fold(self.bytes, u32::saturating_add);
    }

    /// The reverse.
    fn take_off<'a>(&mut self, deliveries: impl Iterator<Item = &'a Delivery>) {
        self.bytes = deliveries.map(size).fold(self.bytes, u32::saturating_sub);
    }
}

fn size(delivery: &Delivery) -> u32 {
    let properties = delivery.message.properties.as_ref();
    let bytes =
        delivery.message.payload.len() + properties.map_or(0, |properties| properties.bytes());
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
