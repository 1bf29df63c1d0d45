//! The clients: who is connected under which client id, and the sessions that wait for theirs.
//!
//! In: [`Clients::open`] at CONNECT, [`Client::close`] at the end of the connection,
//! [`Clients::expire`] every second. Out: a [`Client`], the connection's hold on its id.
//! A second connection with the same id takes over: the first is told to stop and hands its
//! session on before the second proceeds [MQTT-3.1.4-3].
//!
//! One lock, `entries`, never held across `.await`; inside it the broker's index may be locked,
//! never the other way round. Sessions live in memory (durable ones are to come), bounded by
//! their queues and by `Limits::session_expiry_s`.

use super::queue::{Queue, QueueBounds};
use super::{Broker, Published, Receiver, RouteCache, Wakes};
use crate::ids::{ClientId, Principal};
use crate::message::{Message, QoS, SubscriptionId};
use crate::metrics::Metrics;
use crate::packet::{Reason, SubscribeOptions};
use crate::session::{Left, Resumable};
use crate::topic::TopicFilter;
use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a connection may take to give up its client id to the next one.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// A handle to all clients of the host; clones share it.
#[derive(Clone)]
pub struct Clients(Arc<Shared>);

struct Shared {
    broker: Broker,
    bounds: QueueBounds,
    subscriptions_max: usize,
    metrics: Arc<Metrics>,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    by_id: HashMap<ClientId, Entry, ahash::RandomState>,
    /// When to look at a parked session: its end and its will, at most two entries each.
    due: BTreeSet<(Instant, ClientId)>,
    /// The host shuts down: whoever still comes is told to go.
    stopping: Option<Reason>,
}

enum Entry {
    Live { queue: Arc<Queue>, released: Arc<Notify> },
    Parked(Box<Parked>),
}

struct Parked {
    queue: Arc<Queue>,
    receiver: Receiver,
    resumable: Resumable,
    principal: Option<Principal>,
    /// `None`: never.
    expires_at: Option<Instant>,
    will: Option<(Instant, Arc<Message>)>,
}

impl Parked {
    fn due(&self) -> impl Iterator<Item = Instant> + use<> {
        let will = self.will.as_ref().map(|(at, _)| *at);
        self.expires_at.into_iter().chain(will)
    }
}

/// The earlier connection with the client id does not end; try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client id is still in use by a connection that does not end")]
pub struct Occupied;

impl Clients {
    /// No clients yet.
    pub fn new(
        broker: Broker,
        bounds: QueueBounds,
        subscriptions_max: u32,
        metrics: Arc<Metrics>,
    ) -> Self {
        let entries = Mutex::default();
        let subscriptions_max = subscriptions_max as usize;
        Self(Arc::new(Shared { broker, bounds, subscriptions_max, metrics, entries }))
    }

    /// Takes a client id, from an earlier connection if need be. The session that was left is
    /// resumed unless the client starts clean or is somebody else.
    ///
    /// # Errors
    /// [`Occupied`] when the earlier connection does not end within five seconds.
    pub async fn open(
        &self,
        client_id: &ClientId,
        principal: Option<&Principal>,
        clean_start: bool,
    ) -> Result<(Client, Option<Resumable>), Occupied> {
        loop {
            let released = match self.try_open(client_id, principal, clean_start) {
                Ok(opened) => return Ok(opened),
                Err(released) => released,
            };
            tokio::time::timeout(TAKEOVER_TIMEOUT, released).await.map_err(|_| Occupied)?;
        }
    }

    fn try_open(
        &self,
        client_id: &ClientId,
        principal: Option<&Principal>,
        clean_start: bool,
    ) -> Result<(Client, Option<Resumable>), tokio::sync::futures::OwnedNotified> {
        let mut entries = self.entries();
        let parked = match entries.by_id.entry(client_id.clone()) {
            MapEntry::Vacant(_) => None,
            MapEntry::Occupied(entry) => match entry.get() {
                Entry::Live { queue, released } => {
                    // Made before the other side can notify: nothing is missed.
                    let released = released.clone().notified_owned();
                    queue.stop(Reason::SessionTakenOver);
                    return Err(released);
                }
                Entry::Parked(_) => match entry.remove() {
                    Entry::Parked(parked) => Some(parked),
                    Entry::Live { .. } => None,
                },
            },
        };
        for at in parked.iter().flat_map(|parked| parked.due()) {
            entries.due.remove(&(at, client_id.clone()));
        }
        let (queue, receiver, resumable) = match parked {
            // A session belongs to whoever made it: its messages are not for another principal.
            Some(parked) if !clean_start && parked.principal.as_ref() == principal => {
                parked.queue.unpark();
                (parked.queue, parked.receiver, Some(parked.resumable))
            }
            parked => {
                if let Some(parked) = parked {
                    self.discard(*parked);
                }
                let metrics = self.0.metrics.clone();
                let queue = Arc::new(Queue::new(client_id.clone(), self.0.bounds, metrics));
                let receiver = self.0.broker.register(queue.clone());
                (queue, receiver, None)
            }
        };
        let released = Arc::new(Notify::new());
        let live = Entry::Live { queue: queue.clone(), released: released.clone() };
        entries.by_id.insert(client_id.clone(), live);
        if let Some(reason) = entries.stopping {
            queue.stop(reason);
        }
        let client = Client {
            clients: self.clone(),
            id: client_id.clone(),
            principal: principal.cloned(),
            queue,
            receiver: Some(receiver),
            released,
            route: None,
        };
        Ok((client, resumable))
    }

    /// Ends sessions whose time is over and publishes wills whose delay is; call it every second.
    pub fn expire(&self, now: Instant) {
        loop {
            let mut entries = self.entries();
            let Some((at, client_id)) = entries.due.pop_first() else { return };
            if at > now {
                entries.due.insert((at, client_id));
                return;
            }
            let MapEntry::Occupied(mut entry) = entries.by_id.entry(client_id) else { continue };
            let Entry::Parked(parked) = entry.get_mut() else { continue };
            if parked.expires_at.is_some_and(|at| at <= now) {
                let (client_id, entry) = entry.remove_entry();
                if let Entry::Parked(parked) = entry {
                    for at in parked.due() {
                        entries.due.remove(&(at, client_id.clone()));
                    }
                    self.discard(*parked);
                }
            } else if let Some((_, will)) = parked.will.take_if(|(at, _)| *at <= now) {
                self.publish(&will);
            }
        }
    }

    /// Tells every connection to end, e.g. at shutdown.
    ///
    /// Connections that are being opened are told as soon as they are.
    pub fn stop_all(&self, reason: Reason) {
        let mut entries = self.entries();
        entries.stopping = Some(reason);
        for entry in entries.by_id.values() {
            if let Entry::Live { queue, .. } = entry {
                queue.stop(reason);
            }
        }
    }

    /// Tells every connection to look whether its permissions changed. Who is being opened looks
    /// by itself, afterwards.
    pub fn permissions_changed(&self) {
        for entry in self.entries().by_id.values() {
            if let Entry::Live { queue, .. } = entry {
                queue.permissions_changed();
            }
        }
    }

    /// How many clients are connected.
    pub fn connected(&self) -> usize {
        let entries = self.entries();
        entries.by_id.values().filter(|entry| matches!(entry, Entry::Live { .. })).count()
    }

    /// The end of a session: a will that waits is due now [MQTT-3.1.2-10].
    fn discard(&self, parked: Parked) {
        if let Some((_, will)) = parked.will {
            self.publish(&will);
        }
    }

    fn publish(&self, will: &Arc<Message>) {
        self.0.broker.publish(will, &mut Wakes::default());
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's hold on its client id. Dropping it without [`Client::close`] ends the session.
pub struct Client {
    clients: Clients,
    id: ClientId,
    principal: Option<Principal>,
    queue: Arc<Queue>,
    /// Some until closed.
    receiver: Option<Receiver>,
    released: Arc<Notify>,
    route: Option<Box<RouteCache>>,
}

impl Client {
    /// Messages for the client, and word that it has to stop.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Publishes for the client.
    pub fn publish(&mut self, message: &Arc<Message>, wakes: &mut Wakes) -> Published {
        self.clients.0.broker.publish_cached(&mut self.route, message, wakes)
    }

    /// Subscribes to what is `Ok`; one reason per filter.
    pub fn subscribe(
        &self,
        filters: &[Result<(TopicFilter, SubscribeOptions), Reason>],
        id: Option<SubscriptionId>,
    ) -> Vec<Reason> {
        let Some(receiver) = &self.receiver else { return Vec::new() };
        let subscribe = |filter: &TopicFilter, options: SubscribeOptions| {
            let is_full = receiver.subscriptions() >= self.clients.0.subscriptions_max;
            if is_full && !receiver.is_subscribed(filter) {
                return Reason::QuotaExceeded;
            }
            receiver.subscribe(filter, options, id);
            match options.qos {
                QoS::AtMostOnce => Reason::Success,
                QoS::AtLeastOnce => Reason::GrantedQoS1,
                QoS::ExactlyOnce => Reason::GrantedQoS2,
            }
        };
        let reasons = filters.iter().map(|filter| match filter {
            Ok((filter, options)) => subscribe(filter, *options),
            Err(reason) => *reason,
        });
        reasons.collect()
    }

    /// Unsubscribes; one reason per filter.
    pub fn unsubscribe(&self, filters: &[TopicFilter]) -> Vec<Reason> {
        let reasons = filters.iter().map(|filter| {
            let existed = self.receiver.as_ref().is_some_and(|it| it.unsubscribe(filter));
            if existed { Reason::Success } else { Reason::NoSubscriptionExisted }
        });
        reasons.collect()
    }

    /// Ends the connection: the session is parked or ends, the will is published or waits.
    pub fn close(mut self, now: Instant, left: Left) {
        self.clients.0.metrics.connections_closed.increment();
        let after = |seconds: u32| now + Duration::from_secs(u64::from(seconds));
        let will = match left.will {
            Some((will, delay)) if !delay.is_zero() => Some((now + delay, will)),
            Some((will, _)) => {
                self.clients.publish(&will);
                None
            }
            None => None,
        };
        let Some(receiver) = self.receiver.take() else { return };
        if left.session_expiry_s == 0 {
            // Outside the lock of the clients: many subscriptions take their time.
            drop(receiver);
            return; // `drop` releases the id.
        }
        self.queue.park(left.unacknowledged);
        let expires_at = (left.session_expiry_s != u32::MAX).then(|| after(left.session_expiry_s));
        let mut entries = self.clients.entries();
        let parked = Parked {
            queue: self.queue.clone(),
            receiver,
            resumable: left.resumable,
            principal: self.principal.take(),
            expires_at,
            will,
        };
        entries.due.extend(parked.due().map(|at| (at, self.id.clone())));
        entries.by_id.insert(self.id.clone(), Entry::Parked(Box::new(parked)));
        drop(entries);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut entries = self.clients.entries();
        // Not when the session was parked, nor when somebody else has the id by now.
        if let MapEntry::Occupied(entry) = entries.by_id.entry(self.id.clone())
            // Not by the queue: a session that is resumed keeps it.
            && matches!(entry.get(), Entry::Live { released, .. } if Arc::ptr_eq(released, &self.released))
        {
            entry.remove();
        }
        drop(entries);
        self.released.notify_waiters();
    }
}

/// For logs: the client id.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.id)
    }
}
