//! What the broker promised, and whether it keeps it.
//!
//! In: every publication, subscription and packet of the server's as it happens. A promise is an
//! acknowledgement that is sent, or a publication that the log has told to be durable. Out:
//! objections. What was not promised when the host crashed may have happened or not.

use crate::topics;
use bytes::Bytes;
use gnomon_core::broker::{Broker, Published};
use gnomon_core::message::QoS;
use gnomon_core::packet::{Delivered, PacketId};
use gnomon_core::storage::Durability;
use gnomon_core::topic::TopicName;
use std::collections::{BTreeMap, BTreeSet};

/// Place in the order of sending; the payload of the message.
pub type MessageId = usize;

/// Place in the order of publishing: a message that is sent again is another publication.
pub type PublicationId = usize;

/// A message as its publisher made it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub publisher: usize,
    pub topic: &'static str,
    pub qos: QoS,
    pub retain: bool,
    /// Empty to remove a retained message.
    pub payload: Bytes,
    pub expires: bool,
    /// Not in the order of its publisher's other messages.
    pub is_will: bool,
}

impl Sent {
    /// Whether it has to come, and can be told from others.
    fn is_followed(&self) -> bool {
        !self.expires && !self.payload.is_empty()
    }
}

struct Publication {
    message: MessageId,
    is_promised: bool,
    /// The publisher was told that it did not happen.
    is_refused: bool,
    /// Devices with their sessions.
    receivers: Vec<(usize, u32)>,
    groups: Vec<&'static str>,
    retained: Option<usize>,
}

#[derive(Default)]
struct Subscriber {
    /// Counts its sessions.
    session: u32,
    /// The session must be there when the client comes back.
    is_promised: bool,
    /// Filters that it is subscribed to, promised, with their QoS.
    filters: BTreeMap<&'static str, QoS>,
    /// All that it ever asked for in this session.
    wished: BTreeSet<&'static str>,
    /// Sent and not acknowledged, by identifier.
    inflight: BTreeMap<PacketId, Bytes>,
    sent: BTreeSet<MessageId>,
    /// The newest message by topic and publisher.
    newest: BTreeMap<(&'static str, usize), MessageId>,
    got: BTreeMap<MessageId, u32>,
}

/// What may be retained on a topic: from the last promise on.
#[derive(Default)]
struct Retained {
    /// All values, in the order of publishing.
    values: Vec<Bytes>,
    /// The oldest that may be there.
    promised: Option<usize>,
}

/// How often something was checked that could have failed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checked {
    pub receivers: usize,
    pub groups: usize,
    pub exactly_once: usize,
    pub in_order: usize,
    pub retained: usize,
    pub resumed: usize,
    pub resent: usize,
}

impl Checked {
    fn counts(&mut self) -> [&mut usize; 7] {
        let Self { receivers, groups, exactly_once, in_order, retained, resumed, resent } = self;
        [receivers, groups, exactly_once, in_order, retained, resumed, resent]
    }

    pub fn add(&mut self, other: &Self) {
        let mut other = *other;
        for (count, more) in self.counts().into_iter().zip(other.counts()) {
            *count += *more;
        }
    }

    /// The count of what was checked least often.
    pub fn least(mut self) -> usize {
        self.counts().into_iter().map(|count| *count).min().unwrap_or(0)
    }
}

#[derive(Default)]
pub struct Checker {
    pub messages: Vec<Sent>,
    publications: Vec<Publication>,
    /// Messages that were published a second time, perhaps behind newer ones.
    resent: BTreeSet<MessageId>,
    published: BTreeSet<MessageId>,
    /// Those since the last start that are not promised.
    open: BTreeSet<PublicationId>,
    subscribers: Vec<Subscriber>,
    retained: BTreeMap<&'static str, Retained>,
    got_by_anyone: BTreeSet<MessageId>,
    pub objections: Vec<String>,
    pub checked: Checked,
}

impl Checker {
    pub fn new(devices: usize) -> Self {
        let subscribers = (0..devices).map(|_| Subscriber::default()).collect();
        Self { subscribers, ..Self::default() }
    }

    fn object(&mut self, what: String) {
        self.objections.push(what);
    }

    /// A message is made; its number is its payload.
    pub fn make(&mut self, sent: Sent) -> MessageId {
        self.messages.push(sent);
        self.messages.len() - 1
    }

    /// CONNACK. `may_be_new`: the client wanted a new session, or the old one's time is over.
    /// True when the session is new.
    pub fn connected(&mut self, device: usize, present: bool, may_be_new: bool) -> bool {
        let subscriber = &mut self.subscribers[device];
        if present {
            self.checked.resumed += 1;
            return false;
        }
        let was_promised = std::mem::take(&mut subscriber.is_promised);
        *subscriber = Subscriber { session: subscriber.session + 1, ..Subscriber::default() };
        if was_promised && !may_be_new {
            self.object(format!("device {device}: a session was lost"));
        }
        true
    }

    /// The broker took a message. `is_complete`: nothing of it was dropped for a bound.
    pub fn published(
        &mut self,
        id: MessageId,
        published: Published,
        is_complete: bool,
        is_retained: bool,
    ) -> PublicationId {
        let sent = self.messages[id].clone();
        if !self.published.insert(id) {
            self.resent.insert(id);
        }
        let is_refused = published.durability == Durability::Refused;
        let mut publication = Publication {
            message: id,
            is_promised: false,
            is_refused,
            receivers: Vec::new(),
            groups: Vec::new(),
            retained: None,
        };
        if sent.retain && is_retained && !is_refused {
            let values = &mut self.retained.entry(sent.topic).or_default().values;
            publication.retained = Some(values.len());
            values.push(sent.payload.clone());
        }
        if sent.qos > QoS::AtMostOnce && is_complete && !is_refused && sent.is_followed() {
            for (device, subscriber) in self.subscribers.iter().enumerate() {
                let mut of = subscriber.filters.iter();
                let matching =
                    of.by_ref().filter(|(filter, _)| topics::matches(filter, sent.topic));
                let qos = matching.filter(|(filter, _)| topics::group(filter).is_none());
                if qos.map(|(_, qos)| *qos).max() > Some(QoS::AtMostOnce) {
                    publication.receivers.push((device, subscriber.session));
                }
            }
            let filters = self.subscribers.iter().flat_map(|it| it.filters.keys());
            let groups: BTreeSet<_> = filters
                .filter(|it| topics::group(it).is_some() && topics::matches(it, sent.topic))
                .collect();
            publication.groups = groups.into_iter().copied().collect();
        }
        self.publications.push(publication);
        let publication = self.publications.len() - 1;
        if !is_refused && sent.qos > QoS::AtMostOnce {
            self.open.insert(publication);
        }
        publication
    }

    /// PUBACK or PUBREC without an error goes out.
    pub fn promised(&mut self, id: PublicationId) {
        let publication = &mut self.publications[id];
        if publication.is_refused {
            let message = publication.message;
            return self.object(format!("message {message}: acknowledged though it was refused"));
        }
        publication.is_promised = true;
        self.open.remove(&id);
        if let Some(at) = publication.retained {
            let topic = self.messages[publication.message].topic;
            let retained = self.retained.entry(topic).or_default();
            retained.promised = retained.promised.max(Some(at));
        }
    }

    /// The session outlives a crash from now on.
    pub fn session_promised(&mut self, device: usize) {
        self.subscribers[device].is_promised = true;
    }

    /// The log has nothing left to do: all that was published is durable.
    pub fn all_durable(&mut self) {
        for publication in std::mem::take(&mut self.open) {
            self.promised(publication);
        }
    }

    pub fn wished(&mut self, device: usize, filter: &'static str) {
        self.subscribers[device].wished.insert(filter);
    }

    /// SUBACK goes out.
    pub fn subscribed(&mut self, device: usize, filter: &'static str, qos: QoS, durable: bool) {
        if durable {
            self.subscribers[device].filters.insert(filter, qos);
            self.session_promised(device);
        }
    }

    /// UNSUBSCRIBE came.
    pub fn unsubscribed(&mut self, device: usize, filter: &str) {
        self.subscribers[device].filters.remove(filter);
    }

    /// A PUBLISH goes out to a device.
    pub fn sent(&mut self, device: usize, delivered: &Delivered) {
        let topic = delivered.message.topic.as_str();
        let payload = &delivered.message.payload;
        let subscriber = &self.subscribers[device];
        if !subscriber.wished.iter().any(|filter| topics::matches(filter, topic)) {
            self.object(format!("device {device}: got {topic}, for which it never asked"));
        }
        self.check_identifier(device, delivered);
        let Some(id) = message_id(payload) else { return };
        let (sent, subscriber) = (&self.messages[id], &mut self.subscribers[device]);
        let is_first = subscriber.sent.insert(id);
        let is_of_group = sent.topic == topics::WORK;
        let is_ordered = delivered.qos > QoS::AtMostOnce && !sent.is_will && !delivered.retain;
        if sent.topic != topic {
            return self.object(format!("message {id}: on {topic} instead of {}", sent.topic));
        }
        if is_first && is_ordered && !is_of_group && !self.resent.contains(&id) {
            self.checked.in_order += 1;
            let newest = subscriber.newest.entry((sent.topic, sent.publisher)).or_insert(id);
            if *newest > id {
                let what = format!("device {device}: message {id} behind {newest} on {topic}");
                return self.object(what);
            }
            *newest = id;
        }
    }

    fn check_identifier(&mut self, device: usize, delivered: &Delivered) {
        let Some(packet_id) = delivered.packet_id else { return };
        let payload = delivered.message.payload.clone();
        let before = self.subscribers[device].inflight.insert(packet_id, payload.clone());
        let Some(before) = before else { return };
        self.checked.resent += 1;
        if before != payload || !delivered.dup {
            let what = format!("device {device}: identifier {packet_id} of {before:?} is used");
            self.object(format!("{what} for {payload:?}, dup {}", delivered.dup));
        }
    }

    /// The server has got the last acknowledgement of what it sent.
    pub fn acknowledged(&mut self, device: usize, packet_id: PacketId) {
        self.subscribers[device].inflight.remove(&packet_id);
    }

    /// A connection without session is over.
    pub fn ended(&mut self, device: usize) {
        let subscriber = &mut self.subscribers[device];
        *subscriber = Subscriber { session: subscriber.session + 1, ..Subscriber::default() };
    }

    /// The application of a device gets a message.
    pub fn received(&mut self, device: usize, delivered: &Delivered) {
        let Some(id) = message_id(&delivered.message.payload) else { return };
        self.got_by_anyone.insert(id);
        let got = self.subscribers[device].got.entry(id).or_default();
        // A copy of the retained message is another message.
        if delivered.retain {
            *got = (*got).max(1);
            return;
        }
        *got += 1;
        let got = *got;
        if delivered.qos == QoS::ExactlyOnce {
            self.checked.exactly_once += 1;
            if got > 1 && !self.messages[id].retain {
                self.object(format!("device {device}: QoS 2 message {id} came {got} times"));
            }
        }
    }

    /// The host was started again.
    pub fn crashed(&mut self, broker: &Broker) {
        // They may have happened: the acknowledgement of QoS 2 may still come.
        self.open.clear();
        self.check_retained(broker, true);
    }

    /// After a crash anything from the last promise on may be there, else the last.
    pub fn check_retained(&mut self, broker: &Broker, crashed: bool) {
        let mut objections = Vec::new();
        for (topic, retained) in &mut self.retained {
            let there = broker.retained(&TopicName::parse(topic).unwrap());
            let there = there.map_or_else(Bytes::new, |message| message.payload.clone());
            let promised =
                if crashed { retained.promised } else { retained.values.len().checked_sub(1) };
            let may_be_none = promised.is_none() && there.is_empty();
            let possible = &retained.values[promised.unwrap_or(0)..];
            self.checked.retained += 1;
            if !may_be_none && !possible.contains(&there) {
                objections.push(format!("retained on {topic}: {there:?}, not one of {possible:?}"));
            }
            if crashed {
                // It was read from the disk.
                retained.values.push(there);
                retained.promised = Some(retained.values.len() - 1);
            }
        }
        self.objections.extend(objections);
    }

    /// Everybody has come back and has got everything.
    pub fn finish(&mut self) {
        let mut objections = Vec::new();
        for publication in self.publications.iter().filter(|it| it.is_promised) {
            let id = publication.message;
            for &(device, session) in &publication.receivers {
                let subscriber = &self.subscribers[device];
                self.checked.receivers += 1;
                if subscriber.session == session && !subscriber.got.contains_key(&id) {
                    objections.push(format!("device {device}: message {id} was lost"));
                }
            }
            for group in &publication.groups {
                self.checked.groups += 1;
                if !self.got_by_anyone.contains(&id) {
                    objections.push(format!("{group}: message {id} was lost"));
                }
            }
        }
        self.objections.extend(objections);
    }
}

fn message_id(payload: &[u8]) -> Option<MessageId> {
    std::str::from_utf8(payload).ok()?.parse().ok()
}
