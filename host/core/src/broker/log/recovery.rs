//! Reading the log at the start: what was not done with when the host ended.
//!
//! In: the journal. Out: what stays in use ([`Live`]), and each session's messages in their order.
//! Whether a message was sent before is not known: it is marked as a resend.

use super::SessionNumber;
use super::live::{Live, Number, Use};
use super::spool::{self, SpoolSize};
use crate::broker::Delivery;
use crate::broker::log::Event;
use crate::broker::record::{self, MessageRecord, Op};
use crate::message::{Message, SubscriptionId};
use crate::packet::PacketId;
use crate::storage::{Journal, Key};
use bytes::Bytes;
use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

/// Records read at once.
const RECORDS: usize = 16;

/// Documents read at once.
const DOCUMENTS: usize = 1_024;

/// What a journal knew at the start.
#[derive(Debug, Default)]
pub struct Recovered {
    /// By number.
    pub sessions: HashMap<SessionNumber, RecoveredSession>,
    /// Keys and values of all documents but those of spools.
    pub documents: Vec<(Key, Bytes)>,
    /// What spools have, by their names.
    pub spools: HashMap<String, SpoolSize>,
    /// Number of the newest commit, 0 when there is none.
    pub newest: Number,
}

impl Recovered {
    /// Takes the documents of one kind.
    pub(in crate::broker) fn take_documents(&mut self, kind: &str) -> Vec<(Key, Bytes)> {
        let prefix = Key::prefix(kind);
        let is_of = |key: &Key| key.as_str().starts_with(prefix.as_str());
        let documents = std::mem::take(&mut self.documents);
        let (taken, left) = documents.into_iter().partition(|(key, _)| is_of(key));
        self.documents = left;
        taken
    }
}

/// Messages of a session that was there before the start.
#[derive(Debug, Default)]
pub struct RecoveredSession {
    /// Not acknowledged, in their order, with packet identifiers and `dup`.
    pub deliveries: Vec<Delivery>,
    /// Identifiers between PUBREC and PUBCOMP, in their order.
    pub released: Vec<PacketId>,
    /// Identifiers of the client's QoS 2 messages between PUBLISH and PUBREL.
    pub incoming: Vec<PacketId>,
}

/// A session while records are read.
#[derive(Default)]
struct Session {
    /// With their places in the order.
    messages: HashMap<PacketId, (u64, Delivery)>,
    released: Vec<PacketId>,
    incoming: Vec<PacketId>,
}

struct Reading {
    live: Live,
    sessions: HashMap<SessionNumber, Session>,
    next_sequence: u64,
    /// The number that comes next.
    next: Number,
}

pub(super) fn read(
    journal: &dyn Journal,
) -> Result<(Live, u64, Recovered), Box<dyn Error + Send + Sync>> {
    let last = journal.last();
    let mut page = journal.records(0, RECORDS)?;
    let first = page.first().map_or(last + 1, |(number, _)| *number);
    let live = Live::starting_at(first);
    let mut reading = Reading { live, sessions: HashMap::new(), next_sequence: 0, next: first };
    while let Some((newest, _)) = page.last() {
        let from = newest + 1;
        for (number, bytes) in &page {
            reading.read(*number, bytes)?;
        }
        page = journal.records(from, RECORDS)?;
    }
    reading.skip_to(last + 1);
    reading.live.trim();
    let Reading { live, sessions, next_sequence, .. } = reading;
    let sessions = sessions.into_iter().map(|(number, session)| (number, session.into())).collect();
    let (documents, spools) = (documents(journal)?, spools(journal)?);
    let recovered = Recovered { sessions, documents, spools, newest: last };
    Ok((live, next_sequence, recovered))
}

fn spools(
    journal: &dyn Journal,
) -> Result<HashMap<String, SpoolSize>, Box<dyn Error + Send + Sync>> {
    let mut spools: HashMap<String, SpoolSize> = HashMap::new();
    let prefix = Key::prefix(spool::KIND);
    let mut after = None;
    loop {
        let page = journal.documents(&prefix, after.as_ref(), spool::PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(spools) };
        after = Some(last.clone());
        for (key, bytes) in page {
            let Some((name, _)) = spool::parse_key(&key) else { continue };
            let size = spools.entry(name.to_owned()).or_default();
            // What is damaged is told when it is read in earnest.
            for record in spool::decode(bytes).unwrap_or_default() {
                size.records += 1;
                size.bytes += record.len() as u64;
            }
        }
    }
}

fn documents(journal: &dyn Journal) -> Result<Vec<(Key, Bytes)>, Box<dyn Error + Send + Sync>> {
    let mut documents: Vec<(Key, Bytes)> = Vec::new();
    for kind in [record::RETAINED, record::SESSIONS, record::SUBSCRIPTIONS] {
        let prefix = Key::prefix(kind);
        let mut after = None;
        loop {
            let page = journal.documents(&prefix, after.as_ref(), DOCUMENTS)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            documents.extend(page);
        }
    }
    Ok(documents)
}

impl Reading {
    fn read(&mut self, number: Number, bytes: &[u8]) -> Result<(), record::RecordError> {
        self.skip_to(number);
        self.live.begin(number);
        self.next = number + 1;
        let mut of = None;
        record::read_record(number, bytes, |op| self.apply(op, &mut of))?;
        self.live.end(bytes.len());
        Ok(())
    }

    /// Commits that changed documents only have no record.
    fn skip_to(&mut self, number: Number) {
        while self.next < number {
            self.live.begin(self.next);
            self.next += 1;
        }
    }

    fn apply<'a>(
        &mut self,
        op: Op<'a>,
        of: &mut Option<(u64, u32, Arc<Message>)>,
    ) -> Result<(), String> {
        let event = match op {
            Op::Message { sequence, message } => {
                self.next_sequence = self.next_sequence.max(sequence + 1);
                let share = MessageRecord::share(&message);
                *of = Some((sequence, share, Arc::new(message.to_message()?)));
                return Ok(());
            }
            Op::For { session, packet_id, qos, retain, subscription_ids, share } => {
                let (sequence, bytes, message) =
                    of.as_ref().ok_or("a receiver stands before its message")?;
                let session = SessionNumber(session);
                let subscription_ids: Vec<SubscriptionId> = subscription_ids.into_owned();
                let delivery = Delivery {
                    message: message.clone(),
                    qos: record::qos(qos)?,
                    retain,
                    subscription_ids,
                    packet_id: Some(packet_id),
                    dup: true,
                    share: share.map(record::filter).transpose()?,
                };
                self.live.insert(session, Use::Message, packet_id, *bytes);
                self.live.set_last_packet_id(session, packet_id);
                let messages = &mut self.sessions.entry(session).or_default().messages;
                messages.insert(packet_id, (*sequence, delivery));
                return Ok(());
            }
            Op::Taken(session, id) => Event::Taken(SessionNumber(session), id),
            Op::Completed(session, id) => Event::Completed(SessionNumber(session), id),
            Op::Acknowledged(session, id) => Event::Acknowledged(SessionNumber(session), id),
            Op::Released(session, id) => Event::Released(SessionNumber(session), id),
            Op::Ended(session) => Event::Ended(SessionNumber(session)),
        };
        self.live.apply(event);
        self.happened(event);
        Ok(())
    }

    fn happened(&mut self, event: Event) {
        let sessions = &mut self.sessions;
        match event {
            Event::Taken(session, id) => {
                add(&mut sessions.entry(session).or_default().incoming, id);
            }
            Event::Completed(session, id) => {
                let session = sessions.entry(session).or_default();
                session.incoming.retain(|it| *it != id);
            }
            Event::Acknowledged(session, id) => {
                let session = sessions.entry(session).or_default();
                session.messages.remove(&id);
                session.released.retain(|it| *it != id);
            }
            Event::Released(session, id) => {
                let session = sessions.entry(session).or_default();
                session.messages.remove(&id);
                add(&mut session.released, id);
            }
            Event::Ended(session) => {
                sessions.remove(&session);
            }
        }
    }
}

fn add(ids: &mut Vec<PacketId>, id: PacketId) {
    if !ids.contains(&id) {
        ids.push(id);
    }
}

impl From<Session> for RecoveredSession {
    fn from(session: Session) -> Self {
        let Session { messages, released, incoming } = session;
        let mut messages: Vec<_> = messages.into_values().collect();
        messages.sort_unstable_by_key(|(sequence, _)| *sequence);
        let deliveries = messages.into_iter().map(|(_, delivery)| delivery).collect();
        Self { deliveries, released, incoming }
    }
}
