//! What the journal still has to keep: which messages and identifiers are not done with, and in
//! which record each stands.
//!
//! A record whose last item is done with can go once all before it can. An item that stays in use
//! while everything around it is done with would pin the journal for ever: then it is copied
//! forward (`Committer`), and stands in a newer record from then on.

use super::{Event, SessionNumber};
use crate::packet::PacketId;
use ahash::RandomState;
use std::collections::{HashMap, VecDeque};

/// Number of a record.
pub(super) type Number = u64;

type Map<K, V> = HashMap<K, V, RandomState>;

/// All that is in use.
#[derive(Default)]
pub(super) struct Live {
    sessions: Map<SessionNumber, Session>,
    /// The records that are kept, without gaps.
    records: VecDeque<Record>,
    /// Number of the first of them.
    first: Number,
    /// Bytes of all of them.
    bytes: usize,
    /// Bytes of the items in use.
    used_bytes: usize,
}

#[derive(Default)]
struct Session {
    last_packet_id: u16,
    messages: Map<PacketId, Item>,
    released: Map<PacketId, Item>,
    incoming: Map<PacketId, Item>,
}

#[derive(Clone, Copy)]
struct Item {
    record: Number,
    bytes: u32,
}

#[derive(Clone, Copy, Default)]
struct Record {
    items: u32,
    bytes: u32,
}

/// What an identifier is in use for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// A message that was not acknowledged.
    Message,
    /// A message between PUBREC and PUBCOMP.
    Released,
    /// A client's QoS 2 message between PUBLISH and PUBREL.
    Incoming,
}

/// What an item without a message takes, in memory and on disk.
pub(super) const ITEM_BYTES: u32 = 16;

impl Session {
    fn items(&mut self, of: Use) -> &mut Map<PacketId, Item> {
        match of {
            Use::Message => &mut self.messages,
            Use::Released => &mut self.released,
            Use::Incoming => &mut self.incoming,
        }
    }
}

impl Live {
    /// Nothing in use, and the next record is `next`.
    pub(super) fn starting_at(next: Number) -> Self {
        Self { first: next, ..Self::default() }
    }

    /// The record that items go into from now on.
    pub(super) fn begin(&mut self, number: Number) {
        debug_assert_eq!(number, self.first + self.records.len() as u64);
        self.records.push_back(Record::default());
    }

    /// The present record is written.
    pub(super) fn end(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Some(record) = self.records.back_mut() {
            record.bytes = bytes;
            self.bytes += bytes as usize;
        }
    }

    /// A packet identifier that the session does not use, now in use for a message.
    ///
    /// Every session has fewer messages than there are identifiers: its queue is bounded below
    /// them (`Limits::queue_messages`).
    pub(super) fn take_packet_id(&mut self, session: SessionNumber, bytes: u32) -> PacketId {
        let of = self.sessions.entry(session).or_default();
        let id = loop {
            of.last_packet_id = of.last_packet_id.wrapping_add(1);
            if let Some(id) = PacketId::new(of.last_packet_id)
                && !of.messages.contains_key(&id)
                && !of.released.contains_key(&id)
            {
                break id;
            }
        };
        self.insert(session, Use::Message, id, bytes);
        id
    }

    /// The newest identifier that the session was given.
    pub(super) fn set_last_packet_id(&mut self, session: SessionNumber, id: PacketId) {
        self.sessions.entry(session).or_default().last_packet_id = id.get();
    }

    /// An item in the present record; it may have stood in an older one.
    pub(super) fn insert(&mut self, session: SessionNumber, of: Use, id: PacketId, bytes: u32) {
        let record = self.first + self.records.len() as u64 - 1;
        let Some(present) = self.records.back_mut() else { return };
        present.items += 1;
        self.used_bytes += bytes as usize;
        let session = self.sessions.entry(session).or_default();
        if let Some(before) = session.items(of).insert(id, Item { record, bytes }) {
            self.release(before);
        }
    }

    /// What the event changes.
    pub(super) fn apply(&mut self, event: Event) {
        match event {
            Event::Taken(session, id) => self.insert(session, Use::Incoming, id, ITEM_BYTES),
            Event::Completed(session, id) => self.remove(session, Use::Incoming, id),
            Event::Acknowledged(session, id) => {
                self.remove(session, Use::Message, id);
                self.remove(session, Use::Released, id);
            }
            Event::Released(session, id) => {
                self.remove(session, Use::Message, id);
                self.insert(session, Use::Released, id, ITEM_BYTES);
            }
            Event::Ended(session) => {
                let Some(ended) = self.sessions.remove(&session) else { return };
                let Session { messages, released, incoming, .. } = ended;
                for items in [messages, released, incoming] {
                    items.into_values().for_each(|item| self.release(item));
                }
            }
        }
    }

    /// True when the item is in use and stands in this record.
    pub(super) fn stands_in(
        &mut self,
        record: Number,
        session: SessionNumber,
        of: Use,
        id: PacketId,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&session) else { return false };
        session.items(of).get(&id).is_some_and(|item| item.record == record)
    }

    /// Drops the records before the first one with an item in use; returns its number.
    pub(super) fn trim(&mut self) -> Number {
        while let Some(record) = self.records.front()
            && record.items == 0
        {
            self.bytes -= record.bytes as usize;
            self.records.pop_front();
            self.first += 1;
        }
        self.first
    }

    /// The oldest record, when the journal holds much more than is in use: what of it is in use is
    /// to be copied into the present one.
    pub(super) fn oldest_worth_copying(&self, slack_bytes: usize) -> Option<Number> {
        let is_worth = self.bytes > slack_bytes + 2 * self.used_bytes;
        (is_worth && self.records.len() > 1).then_some(self.first)
    }

    fn remove(&mut self, session: SessionNumber, of: Use, id: PacketId) {
        let removed = self.sessions.get_mut(&session).and_then(|it| it.items(of).remove(&id));
        if let Some(item) = removed {
            self.release(item);
        }
    }

    fn release(&mut self, item: Item) {
        self.used_bytes -= item.bytes as usize;
        let position = item.record.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(record) = position.and_then(|at| self.records.get_mut(at)) {
            record.items -= 1;
        }
    }
}
