//! The clients: who is connected under which client id, and the sessions that wait for theirs.
//!
//! In: [`Clients::open`] at CONNECT, [`Client::close`] at the end of the connection,
//! [`Clients::expire`] every second, at the start what the journal kept ([`Clients::restore`]).
//! Out: a [`Client`], the connection's hold on its id; life-cycle events.
//! A second connection with the same id takes over: the first is told to stop and hands its
//! session on before the second proceeds [MQTT-3.1.4-3].
//!
//! What clients leave behind whose certificate is switched off: `revoked`.
//!
//! One lock, `entries`, never held across `.await`; inside it the broker's index and the log may
//! be locked, never the other way round. A session that outlives its connection is durable: what
//! is known of it here stands in the journal too. Bounds: its queue, `Limits::session_expiry_s`.

mod client;
mod revoked;

pub use client::Client;

use super::log::{Entry as LogEntry, Event, Recovered, SessionNumber};
use super::presence::Connected;
use super::queue::{Queue, QueueBounds, QueueConfig, Removal};
use super::record::{self, RecordError, SessionRecord};
use super::{Broker, Receiver, Wakes};
use crate::ids::{ClientId, Principal, ThingName};
use crate::message::{Message, Publisher, QoS};
use crate::metrics::Metrics;
use crate::packet::Reason;
use crate::session::Resumable;
use crate::storage::{Key, Position};
use crate::time::{Now, Timestamp};
use bytes::Bytes;
use hashbrown::HashTable;
use revoked::Verdicts;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a connection may take to give up its client id to the next one.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the version number of a client that is gone is remembered. Source: AWS IoT,
/// "Lifecycle events".
const VERSION_KEPT: Duration = Duration::from_secs(3_600);

/// Clients that are gone and whose version numbers are remembered; those of more begin anew.
const VERSIONS_MAX: usize = 10_000;

/// A handle to all clients of the host; clones share it.
#[derive(Clone)]
pub struct Clients(Arc<Shared>);

struct Shared {
    broker: Broker,
    queues: Arc<QueueConfig>,
    subscriptions_max: usize,
    metrics: Arc<Metrics>,
    last_session: AtomicU64,
    entries: Mutex<Entries>,
    /// Locked inside `entries`.
    verdicts: Verdicts,
}

#[derive(Default)]
struct Entries {
    /// Looked up by the ids that the entries have, so that no id stands here twice.
    by_id: HashTable<Entry>,
    hasher: ahash::RandomState,
    /// When to look at an entry without connection: its end and its will, at most two each.
    due: BTreeSet<(Instant, ClientId)>,
    live: usize,
    gone: usize,
    /// For connections that wait for the client id of one that is connected.
    released: HashMap<ClientId, Arc<Notify>, ahash::RandomState>,
    /// The host shuts down: whoever still comes is told to go.
    stopping: Option<Reason>,
}

/// Small, because the table of all clients has room for more than there are.
enum Entry {
    Live(Arc<Queue>),
    Parked(Box<Parked>),
    Gone(Box<Gone>),
}

/// What is left of a client that left no session.
struct Gone {
    client_id: ClientId,
    version: u32,
    /// How long the version number is remembered.
    until: Instant,
    /// When it is durable that the session ended.
    ended: Position,
}

/// A session without connection.
struct Parked {
    queue: Arc<Queue>,
    receiver: Receiver,
    resumable: Resumable,
    record: SessionRecord,
    version: u32,
    /// `None`: never.
    expires_at: Option<Instant>,
    /// When `record.will` is published.
    will_at: Option<Instant>,
}

impl Entry {
    fn id(&self) -> &ClientId {
        match self {
            Self::Live(queue) => queue.id(),
            Self::Parked(parked) => parked.queue.id(),
            Self::Gone(gone) => &gone.client_id,
        }
    }

    /// When to look at it.
    fn due(&self) -> impl Iterator<Item = Instant> + use<> {
        let (one, other) = match self {
            Self::Live(_) => (None, None),
            Self::Parked(parked) => (parked.expires_at, parked.will_at),
            Self::Gone(gone) => (Some(gone.until), None),
        };
        one.into_iter().chain(other)
    }
}

impl Entries {
    fn get(&self, client_id: &ClientId) -> Option<&Entry> {
        self.by_id.find(self.hasher.hash_one(client_id), |entry| entry.id() == client_id)
    }

    fn insert(&mut self, entry: Entry) {
        let client_id = entry.id().clone();
        self.remove(&client_id);
        match &entry {
            Entry::Live(_) => self.live += 1,
            Entry::Gone(_) => self.gone += 1,
            Entry::Parked(_) => {}
        }
        self.due.extend(entry.due().map(|at| (at, client_id.clone())));
        let hasher = &self.hasher;
        let hash = |entry: &Entry| hasher.hash_one(entry.id());
        self.by_id.insert_unique(hash(&entry), entry, hash);
    }

    /// Whoever waits for the client id is told to look again, once the lock is free.
    fn remove(&mut self, client_id: &ClientId) -> Option<Entry> {
        let hash = self.hasher.hash_one(client_id);
        let found = self.by_id.find_entry(hash, |entry| entry.id() == client_id);
        let (entry, _) = found.ok()?.remove();
        match &entry {
            Entry::Live(_) => {
                self.live -= 1;
                if let Some(waiting) = self.released.remove(client_id) {
                    waiting.notify_waiters();
                }
            }
            Entry::Gone(_) => self.gone -= 1,
            Entry::Parked(_) => {}
        }
        for at in entry.due() {
            self.due.remove(&(at, client_id.clone()));
        }
        Some(entry)
    }

    /// Keeps the version number of a client that leaves nothing else, if there is room.
    fn forget(&mut self, client_id: &ClientId, version: u32, now: Instant, ended: Position) {
        self.remove(client_id);
        if self.gone < VERSIONS_MAX {
            let until = now + VERSION_KEPT;
            let client_id = client_id.clone();
            self.insert(Entry::Gone(Box::new(Gone { client_id, version, until, ended })));
        }
    }
}

/// What a connection opens its client id with.
#[derive(Debug)]
pub struct Opening<'a> {
    /// The client's own, or made up for it.
    pub client_id: &'a ClientId,
    /// Who it is.
    pub principal: Option<&'a Principal>,
    /// Whose session is the principal's too: the certificate before it was renewed.
    pub predecessor: Option<&'a Principal>,
    /// The thing that the principal is attached to exclusively, for life-cycle events.
    pub thing: Option<&'a ThingName>,
    /// From where it comes.
    pub ip: IpAddr,
    /// Of the connection, for life-cycle events: a random number.
    pub session_identifier: u128,
    /// Clean Start.
    pub clean_start: bool,
    /// Seconds for which the session outlives the connection.
    pub session_expiry_s: u32,
    /// Will Delay Interval in seconds and the will, if the session outlives the connection: kept
    /// beside it in case that the host ends before the connection does.
    pub will: Option<(u32, Arc<Message>)>,
}

impl Opening<'_> {
    /// Whether a session was left by the client, also with the certificate before it was renewed.
    fn owns(&self, session: &SessionRecord) -> bool {
        let owner = session.principal.as_ref();
        owner == self.principal || owner.is_some() && owner == self.predecessor
    }
}

/// A client id cannot be had now; try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The earlier connection has not ended after five seconds.
    #[error("the client id is still in use by a connection that does not end")]
    Occupied,
    /// The host ends before it could write that the earlier session has ended.
    #[error("the host ends")]
    Ending,
}

/// What [`Clients::open`] waits for before it tries again.
enum Wait {
    /// The earlier connection ends.
    Released(tokio::sync::futures::OwnedNotified),
    /// It is durable that the earlier session has ended [MQTT-3.1.2-4]: a crash must not bring
    /// back what the client is told to be gone, it begins its packet identifiers anew.
    Durable(Position),
}

impl Clients {
    /// No clients yet.
    pub fn new(
        broker: Broker,
        bounds: QueueBounds,
        subscriptions_max: u32,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Shared {
            broker,
            queues: Arc::new(QueueConfig { bounds, metrics: metrics.clone() }),
            subscriptions_max: subscriptions_max as usize,
            metrics,
            last_session: AtomicU64::new(0),
            entries: Mutex::default(),
            verdicts: Verdicts::default(),
        }))
    }

    /// Brings the sessions back that were there when the host ended; their connections ended with
    /// it, or when it says so. To be called once, before the first client comes.
    ///
    /// # Errors
    /// A newer host wrote them, or the file is damaged.
    pub fn restore(&self, mut recovered: Recovered, now: Now) -> Result<(), RecordError> {
        let mut subscriptions: HashMap<SessionNumber, Vec<_>> = HashMap::new();
        let mut last = recovered.sessions.keys().max().copied().unwrap_or(SessionNumber(0));
        for (key, bytes) in recovered.take_documents(record::SUBSCRIPTIONS) {
            let (session, filter, options, id) = record::read_subscription(&key, &bytes)?;
            subscriptions.entry(session).or_default().push((filter, options, id));
        }
        for (key, bytes) in recovered.take_documents(record::SESSIONS) {
            let (client_id, mut session) = SessionRecord::read(&key, &bytes)?;
            let messages = recovered.sessions.remove(&session.number).unwrap_or_default();
            let (number, config) = (Some(session.number), self.0.queues.clone());
            let queue = Arc::new(Queue::new(client_id.clone(), number, config));
            queue.restore(messages.deliveries);
            let receiver = self.0.broker.register(queue.clone());
            for (filter, options, id) in subscriptions.remove(&session.number).unwrap_or_default() {
                receiver.subscribe(&filter, options, id);
            }
            last = last.max(session.number);
            if session.ended_at.is_none() {
                session.ended_at = Some(now.wall);
                self.write(vec![(key, Some(session.to_bytes()))], None);
            }
            let durable = Position::default();
            let resumable = Resumable {
                released: messages.released,
                incoming: messages.incoming.into_iter().map(|id| (id, durable)).collect(),
            };
            let parked = Parked::new(queue, receiver, resumable, session, 0, now);
            self.entries().insert(Entry::Parked(Box::new(parked)));
        }
        self.0.last_session.store(last.0, Ordering::Relaxed);
        // What no session has any more: the end of the session was the last thing written.
        for session in recovered.sessions.into_keys() {
            self.0.broker.log().append(Event::Ended(session).into());
        }
        Ok(())
    }

    /// Takes a client id, from an earlier connection if need be. The session that was left is
    /// resumed unless the client starts clean or is somebody else.
    ///
    /// # Errors
    /// See [`OpenError`]. When it is cancelled, nothing of the client stays.
    pub async fn open(
        &self,
        opening: &Opening<'_>,
        now: Now,
    ) -> Result<(Client, Option<Resumable>), OpenError> {
        loop {
            match self.try_open(opening, now) {
                Ok(opened) => return Ok(opened),
                Err(Wait::Released(released)) => {
                    let released = tokio::time::timeout(TAKEOVER_TIMEOUT, released);
                    released.await.map_err(|_| OpenError::Occupied)?;
                }
                Err(Wait::Durable(ended)) => {
                    if !self.0.broker.log().wait(ended).await {
                        return Err(OpenError::Ending);
                    }
                }
            }
        }
    }

    /// As [`Clients::open`], without waiting.
    fn try_open(
        &self,
        opening: &Opening<'_>,
        now: Now,
    ) -> Result<(Client, Option<Resumable>), Wait> {
        let client_id = opening.client_id;
        let mut entries = self.entries();
        if let Some(Entry::Live(queue)) = entries.get(client_id) {
            queue.stop(Reason::SessionTakenOver);
            // Made before the other side can notify, which takes the lock: nothing is missed.
            let released = entries.released.entry(client_id.clone()).or_default();
            return Err(Wait::Released(released.clone().notified_owned()));
        }
        let (parked, version) = match entries.remove(client_id) {
            // It belongs to whoever made it: its messages are not for another principal.
            Some(Entry::Parked(parked)) if opening.clean_start || !opening.owns(&parked.record) => {
                let ended = self.discard(&mut entries, client_id, *parked, now);
                return Err(Wait::Durable(ended));
            }
            Some(Entry::Parked(parked)) => {
                let version = parked.version.wrapping_add(1);
                (Some(parked), version)
            }
            Some(Entry::Gone(gone)) if gone.ended > self.committed() => {
                let ended = gone.ended;
                entries.insert(Entry::Gone(gone));
                return Err(Wait::Durable(ended));
            }
            Some(Entry::Gone(gone)) => (None, gone.version.wrapping_add(1)),
            Some(Entry::Live(_)) | None => (None, 0),
        };
        let (queue, receiver, record, resumable) = self.session(opening, parked);
        if let Some(record) = &record {
            let document = (record::session_key(client_id), Some(record.to_bytes()));
            self.write(vec![document], None);
        }
        entries.insert(Entry::Live(queue.clone()));
        if let Some(reason) = entries.stopping {
            queue.stop(reason);
        }
        drop(entries);
        let publisher =
            Publisher { client_id: Some(client_id.clone()), principal: opening.principal.cloned() };
        let client = Client {
            clients: self.clone(),
            publisher: Arc::new(publisher),
            session_identifier: opening.session_identifier.to_ne_bytes(),
            version,
            queue,
            receiver: Some(receiver),
            record: record.map(Box::new),
            route: None,
            scans: None,
            thing: opening.thing.cloned().map(Box::new),
        };
        client.events().connected(&self.0.broker, now.wall, opening.ip, version);
        Ok((client, resumable))
    }

    /// The session that goes on, or a new one.
    fn session(
        &self,
        opening: &Opening<'_>,
        parked: Option<Box<Parked>>,
    ) -> (Arc<Queue>, Receiver, Option<SessionRecord>, Option<Resumable>) {
        let Opening { client_id, principal, session_expiry_s: expiry_s, .. } = *opening;
        let will = opening.will.clone();
        match parked {
            Some(parked) => {
                parked.queue.unpark();
                // Another than before if its certificate was renewed.
                let principal = principal.cloned();
                let record =
                    SessionRecord { principal, expiry_s, ended_at: None, will, ..parked.record };
                (parked.queue, parked.receiver, Some(record), Some(parked.resumable))
            }
            None => {
                let record = (expiry_s > 0).then(|| SessionRecord {
                    number: SessionNumber(self.0.last_session.fetch_add(1, Ordering::Relaxed) + 1),
                    principal: principal.cloned(),
                    expiry_s,
                    ended_at: None,
                    will,
                });
                let number = record.as_ref().map(|record| record.number);
                let config = self.0.queues.clone();
                let queue = Arc::new(Queue::new(client_id.clone(), number, config));
                let receiver = self.0.broker.register(queue.clone());
                (queue, receiver, record, None)
            }
        }
    }

    /// Tells who listens that a client was refused.
    pub fn connect_failed(&self, opening: &Opening<'_>, now: Timestamp) {
        let Opening { client_id, principal, thing, session_identifier, ip, .. } = *opening;
        let events = Connected { client_id, principal, thing, session_identifier };
        events.connect_failed(&self.0.broker, now, ip);
    }

    /// Ends sessions whose time is over and publishes wills whose delay is; call it every second.
    pub fn expire(&self, now: Now) {
        // First: what is due now may be of somebody who must not act any more.
        self.carry_out(&mut self.entries(), now);
        loop {
            let mut entries = self.entries();
            let Some((at, client_id)) = entries.due.first().cloned() else { return };
            if at > now.instant {
                return;
            }
            match entries.remove(&client_id) {
                Some(Entry::Parked(mut parked)) => {
                    if parked.expires_at.is_some_and(|at| at <= now.instant) {
                        // Still under the lock, so that a client that comes back does not have
                        // the record of its new session removed.
                        self.discard(&mut entries, &client_id, *parked, now);
                        continue;
                    }
                    parked.will_at = None;
                    let will = parked.record.will.take();
                    let document = parked.record.to_bytes();
                    // Still under the lock, so that a client that comes back finds it done.
                    if let Some((_, will)) = will {
                        self.publish_will(&will, now.wall);
                    }
                    self.write(vec![(record::session_key(&client_id), Some(document))], None);
                    entries.insert(Entry::Parked(parked));
                }
                Some(Entry::Gone(_)) | None => {}
                // Has no time at which to look at it.
                Some(live @ Entry::Live(_)) => entries.insert(live),
            }
        }
    }

    /// Ends a client's connection; with `clean_session` its session too, and without its will when
    /// `prevent_will` says so. False when there is neither.
    pub fn disconnect(
        &self,
        client_id: &ClientId,
        clean_session: bool,
        prevent_will: bool,
        now: Now,
    ) -> bool {
        let mut entries = self.entries();
        match entries.get(client_id) {
            Some(Entry::Live(queue)) => {
                queue.remove_client(Removal {
                    with_session: clean_session,
                    without_will: prevent_will,
                });
                true
            }
            Some(Entry::Parked(_)) if clean_session => {
                let Some(Entry::Parked(mut parked)) = entries.remove(client_id) else {
                    return false;
                };
                parked.record.will.take_if(|_| prevent_will);
                self.discard(&mut entries, client_id, *parked, now);
                true
            }
            _ => false,
        }
    }

    /// Tells every connection to end, e.g. at shutdown.
    ///
    /// Connections that are being opened are told as soon as they are.
    pub fn stop_all(&self, reason: Reason) {
        let mut entries = self.entries();
        entries.stopping = Some(reason);
        for entry in &entries.by_id {
            if let Entry::Live(queue) = entry {
                queue.stop(reason);
            }
        }
    }

    /// Tells every connection to look whether its permissions changed. Who is being opened looks
    /// by itself, afterwards.
    pub fn permissions_changed(&self) {
        for entry in &self.entries().by_id {
            if let Entry::Live(queue) = entry {
                queue.permissions_changed();
            }
        }
    }

    /// How far the log has come.
    pub fn committed(&self) -> Position {
        self.0.broker.log().committed()
    }

    /// How many clients are connected.
    pub fn connected(&self) -> usize {
        self.entries().live
    }

    /// Whether the client is connected.
    pub fn is_connected(&self, client_id: &ClientId) -> bool {
        matches!(self.entries().get(client_id), Some(Entry::Live(_)))
    }

    /// How many sessions wait for their clients.
    pub fn parked(&self) -> usize {
        let entries = self.entries();
        entries.by_id.len() - entries.live - entries.gone
    }

    /// Ends a session without connection; a will that waits is due now [MQTT-3.1.2-10]. Returns
    /// when that is durable.
    fn discard(
        &self,
        entries: &mut Entries,
        client_id: &ClientId,
        parked: Parked,
        now: Now,
    ) -> Position {
        let Parked { queue, receiver, record, version, will_at, .. } = parked;
        let verdict = self.0.verdicts.of(record.principal.as_ref());
        if let Some((_, will)) = record.will
            && will_at.is_some()
            && verdict.is_none()
        {
            self.publish_will(&will, now.wall);
        }
        let ended = self.end(client_id, &queue, receiver, Some(record.number));
        entries.forget(client_id, version, now.instant, ended);
        ended
    }

    /// Ends a session: what others may have instead is handed on, a durable one leaves the
    /// journal. Returns when that is durable.
    fn end(
        &self,
        client_id: &ClientId,
        queue: &Queue,
        receiver: Receiver,
        number: Option<SessionNumber>,
    ) -> Position {
        let filters = if number.is_some() { receiver.subscribed() } else { Vec::new() };
        // It leaves its groups, so that nothing comes back to it.
        drop(receiver);
        queue.end();
        self.hand_on(queue);
        let Some(number) = number else { return Position::default() };
        let mut documents = vec![(record::session_key(client_id), None)];
        let keys = filters.iter().map(|filter| record::subscription_key(number, filter));
        documents.extend(keys.map(|key| (key, None)));
        self.write(documents, Some(Event::Ended(number)))
    }

    /// Gives what a session got by shared subscriptions to other members, unless only this client
    /// can have it: a QoS 2 message that it may have got waits for it [MQTT-4.8.2-4] or goes with
    /// its session [MQTT-4.8.2-5].
    fn hand_on(&self, queue: &Queue) {
        let mut wakes = Wakes::default();
        queue.hand_on(|delivery| {
            let is_sent_once = delivery.dup && delivery.qos == QoS::ExactlyOnce;
            if delivery.share.is_none() || is_sent_once {
                return Some(delivery);
            }
            let id = delivery.packet_id;
            let mut recipients = Vec::new();
            if let Err(delivery) =
                self.0.broker.hand_on(delivery, queue, &mut wakes, &mut recipients)
            {
                return Some(delivery).filter(|it| it.qos > QoS::AtMostOnce);
            }
            let own = queue.session().zip(id);
            let event = own.map(|(session, id)| Event::Acknowledged(session, id));
            if event.is_some() || !recipients.is_empty() {
                self.0.broker.log().append(LogEntry { recipients, event, ..LogEntry::default() });
            }
            None
        });
    }

    fn publish_will(&self, will: &Message, now: Timestamp) {
        // Its expiry counts from now on.
        let will = Message { received_at: now, ..will.clone() };
        self.0.broker.publish(&Arc::new(will), &mut Wakes::default());
    }

    fn write(&self, documents: Vec<(Key, Option<Bytes>)>, event: Option<Event>) -> Position {
        self.0.broker.log().append(LogEntry { documents, event, ..LogEntry::default() })
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parked {
    /// A session whose connection ended at `record.ended_at`.
    fn new(
        queue: Arc<Queue>,
        receiver: Receiver,
        resumable: Resumable,
        record: SessionRecord,
        version: u32,
        now: Now,
    ) -> Self {
        let ended_at = record.ended_at.unwrap_or(now.wall);
        let at = |seconds: u32| {
            let due = ended_at.as_millis().saturating_add(u64::from(seconds) * 1_000);
            now.instant + Duration::from_millis(due.saturating_sub(now.wall.as_millis()))
        };
        let expires_at = (record.expiry_s != u32::MAX).then(|| at(record.expiry_s));
        let will_at = record.will.as_ref().map(|(delay_s, _)| at(*delay_s));
        Self { queue, receiver, resumable, record, version, expires_at, will_at }
    }
}

#[cfg(test)]
mod tests;
