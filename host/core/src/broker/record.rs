//! What messages, sessions and their progress look like on disk.
//!
//! In: the broker's own types. Out: bytes that begin with the version of the encoding, then
//! postcard (its wire format is specified and stable); and back. The types here are only for the
//! disk, so that the broker's can change without touching it.
//! Three kinds: a log record is a sequence of [`Op`]s; a retained message and a session are one
//! document each, a subscription of a durable session is another.

use super::log::{Event, SessionNumber};
use super::{Delivery, TopicFilter, TopicName};
use crate::ids::{ClientId, Principal};
use crate::message::{Message, Properties, Publisher, QoS, SubscriptionId};
use crate::packet::{PacketId, RetainHandling, SubscribeOptions};
use crate::storage::Key;
use crate::time::Timestamp;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// The only version so far.
const VERSION: u8 = 1;

/// Why bytes of the journal cannot be read: a newer host wrote them, or the file is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be read: {why}")]
pub struct RecordError {
    /// A log record's number or a document's key.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

/// A message, wherever one is kept.
#[derive(Serialize, Deserialize)]
pub(crate) struct MessageRecord<'a> {
    topic: &'a str,
    #[serde(with = "serde_bytes")]
    payload: &'a [u8],
    qos: u8,
    retain: bool,
    received_at_ms: u64,
    client_id: Option<&'a str>,
    principal: Option<&'a str>,
    #[serde(borrow)]
    properties: Option<PropertiesRecord<'a>>,
}

#[derive(Serialize, Deserialize)]
struct PropertiesRecord<'a> {
    payload_is_utf8: bool,
    expiry_s: Option<u32>,
    content_type: Option<&'a str>,
    response_topic: Option<&'a str>,
    #[serde(with = "serde_bytes", borrow)]
    correlation_data: Option<&'a [u8]>,
    #[serde(borrow)]
    user: Vec<(&'a str, &'a str)>,
}

/// One thing that happened, in a log record.
#[derive(Serialize, Deserialize)]
pub(super) enum Op<'a> {
    /// A message and its place in the order of all; for whom follows in [`Op::For`]s.
    Message {
        sequence: u64,
        #[serde(borrow)]
        message: MessageRecord<'a>,
    },
    /// A receiver of the last [`Op::Message`].
    For {
        session: u64,
        packet_id: PacketId,
        qos: u8,
        retain: bool,
        #[serde(borrow)]
        subscription_ids: Cow<'a, [SubscriptionId]>,
        share: Option<&'a str>,
    },
    /// See [`Event`]; likewise the next four.
    Taken(u64, PacketId),
    Completed(u64, PacketId),
    Acknowledged(u64, PacketId),
    Released(u64, PacketId),
    Ended(u64),
}

impl Op<'_> {
    /// What happened to `session`'s `delivery`, which goes with the last message.
    pub(super) fn of_recipient(
        session: SessionNumber,
        packet_id: PacketId,
        delivery: &Delivery,
    ) -> Op<'_> {
        Op::For {
            session: session.0,
            packet_id,
            qos: delivery.qos as u8,
            retain: delivery.retain,
            subscription_ids: Cow::Borrowed(&delivery.subscription_ids),
            share: delivery.share.as_ref().map(TopicFilter::as_str),
        }
    }
}

impl From<Event> for Op<'_> {
    fn from(event: Event) -> Self {
        match event {
            Event::Taken(session, id) => Self::Taken(session.0, id),
            Event::Completed(session, id) => Self::Completed(session.0, id),
            Event::Acknowledged(session, id) => Self::Acknowledged(session.0, id),
            Event::Released(session, id) => Self::Released(session.0, id),
            Event::Ended(session) => Self::Ended(session.0),
        }
    }
}

/// An empty log record.
pub(super) fn begin() -> Vec<u8> {
    vec![VERSION]
}

/// Appends to a log record.
pub(super) fn append(record: &mut Vec<u8>, op: &Op<'_>) {
    let buffer = std::mem::take(record);
    *record = postcard::to_extend(op, buffer).expect("a Vec grows, and every type has a length");
}

/// Calls `each` with every operation of a log record, in order.
pub(super) fn read_record<'a>(
    number: u64,
    record: &'a [u8],
    mut each: impl FnMut(Op<'a>) -> Result<(), String>,
) -> Result<(), RecordError> {
    let failed = |why| RecordError { what: format!("record {number} of the message log"), why };
    let mut rest = body(record).map_err(failed)?;
    while !rest.is_empty() {
        let (op, behind) =
            postcard::take_from_bytes(rest).map_err(|error| failed(error.to_string()))?;
        each(op).map_err(failed)?;
        rest = behind;
    }
    Ok(())
}

fn body(bytes: &[u8]) -> Result<&[u8], String> {
    match bytes.split_first() {
        Some((&VERSION, body)) => Ok(body),
        Some((version, _)) => {
            Err(format!("it has version {version}, this host knows up to {VERSION}"))
        }
        None => Err("it is empty".to_owned()),
    }
}

fn document<T: Serialize>(value: &T) -> Bytes {
    let bytes = postcard::to_extend(value, begin());
    bytes.expect("a Vec grows, and every type has a length").into()
}

fn read_document<'a, T: Deserialize<'a>>(key: &Key, bytes: &'a [u8]) -> Result<T, RecordError> {
    let value =
        body(bytes).and_then(|body| postcard::from_bytes(body).map_err(|error| error.to_string()));
    value.map_err(|why| RecordError { what: format!("document {key:?}"), why })
}

impl<'a> From<&'a Message> for MessageRecord<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            topic: message.topic.as_str(),
            payload: &message.payload,
            qos: message.qos as u8,
            retain: message.retain,
            received_at_ms: message.received_at.as_millis(),
            client_id: message.publisher.client_id.as_ref().map(ClientId::as_str),
            principal: message.publisher.principal.as_ref().map(Principal::as_str),
            properties: message.properties.as_deref().map(PropertiesRecord::from),
        }
    }
}

impl<'a> From<&'a Properties> for PropertiesRecord<'a> {
    fn from(properties: &'a Properties) -> Self {
        Self {
            payload_is_utf8: properties.payload_is_utf8,
            expiry_s: properties.expiry_s,
            content_type: properties.content_type.as_deref(),
            response_topic: properties.response_topic.as_ref().map(TopicName::as_str),
            correlation_data: properties.correlation_data.as_deref(),
            user: properties.user.iter().map(|(key, value)| (&**key, &**value)).collect(),
        }
    }
}

impl MessageRecord<'_> {
    /// Bytes that a receiver of the message keeps in use, roughly.
    pub(super) fn share(&self) -> u32 {
        u32::try_from(self.topic.len() + self.payload.len() + 16).unwrap_or(u32::MAX)
    }

    pub(crate) fn to_message(&self) -> Result<Message, String> {
        let publisher = Publisher {
            client_id: self.client_id.map(client_id).transpose()?,
            principal: self.principal.map(Principal::new),
        };
        Ok(Message {
            topic: topic(self.topic)?,
            payload: Bytes::copy_from_slice(self.payload),
            qos: qos(self.qos)?,
            retain: self.retain,
            hops: 0,
            received_at: Timestamp::from_millis(self.received_at_ms),
            publisher: Arc::new(publisher),
            properties: match &self.properties {
                Some(properties) => Some(Box::new(properties.to_properties()?)),
                None => None,
            },
        })
    }
}

impl PropertiesRecord<'_> {
    fn to_properties(&self) -> Result<Properties, String> {
        Ok(Properties {
            payload_is_utf8: self.payload_is_utf8,
            expiry_s: self.expiry_s,
            content_type: self.content_type.map(Into::into),
            response_topic: self.response_topic.map(topic).transpose()?,
            correlation_data: self.correlation_data.map(Bytes::copy_from_slice),
            user: self.user.iter().map(|&(key, value)| (key.into(), value.into())).collect(),
        })
    }
}

fn topic(text: &str) -> Result<TopicName, String> {
    TopicName::parse(text).map_err(|error| error.to_string())
}

pub(super) fn filter(text: &str) -> Result<TopicFilter, String> {
    TopicFilter::parse(text).map_err(|error| error.to_string())
}

fn client_id(text: &str) -> Result<ClientId, String> {
    ClientId::parse(text).map_err(|error| error.to_string())
}

pub(super) fn qos(code: u8) -> Result<QoS, String> {
    match code {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(format!("QoS {code}")),
    }
}

/// Kind of the keys of retained messages.
pub(super) const RETAINED: &str = "retained";

/// Key of a topic's retained message.
pub(super) fn retained_key(topic: &TopicName) -> Key {
    Key::new(RETAINED, &[topic.as_str()])
}

/// A retained message as a document.
pub(super) fn retained(message: &Message) -> Bytes {
    document(&MessageRecord::from(message))
}

/// A retained message from its document.
pub(super) fn read_retained(key: &Key, bytes: &[u8]) -> Result<Message, RecordError> {
    read_message(key, &read_document::<MessageRecord<'_>>(key, bytes)?)
}

fn read_message(key: &Key, record: &MessageRecord<'_>) -> Result<Message, RecordError> {
    record.to_message().map_err(|why| RecordError { what: format!("document {key:?}"), why })
}

/// Kind of the keys of durable sessions.
pub(super) const SESSIONS: &str = "session";

/// Key of a client's durable session.
pub(super) fn session_key(client_id: &ClientId) -> Key {
    Key::new(SESSIONS, &[client_id.as_str()])
}

/// A durable session without its subscriptions and messages.
#[derive(Clone, Debug)]
pub(super) struct SessionRecord {
    pub(super) number: SessionNumber,
    pub(super) principal: Option<Principal>,
    /// Seconds after the end of the connection; `u32::MAX` is for ever.
    pub(super) expiry_s: u32,
    /// When the connection ended; `None` while there is one.
    pub(super) ended_at: Option<Timestamp>,
    /// Seconds after the end of the connection, and what is published then.
    pub(super) will: Option<(u32, Arc<Message>)>,
}

#[derive(Serialize, Deserialize)]
struct SessionBytes<'a> {
    number: u64,
    principal: Option<&'a str>,
    expiry_s: u32,
    ended_at_ms: Option<u64>,
    #[serde(borrow)]
    will: Option<(u32, MessageRecord<'a>)>,
}

impl SessionRecord {
    pub(super) fn to_bytes(&self) -> Bytes {
        document(&SessionBytes {
            number: self.number.0,
            principal: self.principal.as_ref().map(Principal::as_str),
            expiry_s: self.expiry_s,
            ended_at_ms: self.ended_at.map(Timestamp::as_millis),
            will: self.will.as_ref().map(|(delay_s, will)| (*delay_s, (&**will).into())),
        })
    }

    /// With the client id, which stands in the key.
    pub(super) fn read(key: &Key, bytes: &[u8]) -> Result<(ClientId, Self), RecordError> {
        let failed = |why| RecordError { what: format!("document {key:?}"), why };
        let record: SessionBytes<'_> = read_document(key, bytes)?;
        let id = key.as_str().split_once('/').map_or("", |(_, id)| id);
        let will = match &record.will {
            Some((delay_s, will)) => Some((*delay_s, Arc::new(read_message(key, will)?))),
            None => None,
        };
        let session = Self {
            number: SessionNumber(record.number),
            principal: record.principal.map(Principal::new),
            expiry_s: record.expiry_s,
            ended_at: record.ended_at_ms.map(Timestamp::from_millis),
            will,
        };
        Ok((client_id(id).map_err(failed)?, session))
    }
}

/// Kind of the keys of durable subscriptions.
pub(super) const SUBSCRIPTIONS: &str = "subscription";

/// Key of a durable session's subscription.
pub(super) fn subscription_key(session: SessionNumber, filter: &TopicFilter) -> Key {
    Key::new(SUBSCRIPTIONS, &[&format!("{:016x}", session.0), filter.as_str()])
}

#[derive(Serialize, Deserialize)]
struct SubscriptionBytes {
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    without_parent: bool,
    id: Option<SubscriptionId>,
}

/// A durable subscription as a document. Retain Handling matters at SUBSCRIBE only.
pub(super) fn subscription(options: SubscribeOptions, id: Option<SubscriptionId>) -> Bytes {
    document(&SubscriptionBytes {
        qos: options.qos as u8,
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        without_parent: options.without_parent,
        id,
    })
}

/// A durable subscription from its document.
pub(super) fn read_subscription(
    key: &Key,
    bytes: &[u8],
) -> Result<(SessionNumber, TopicFilter, SubscribeOptions, Option<SubscriptionId>), RecordError> {
    let failed = |why: String| RecordError { what: format!("document {key:?}"), why };
    let mut parts = key.as_str().splitn(3, '/').skip(1);
    let (number, text) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let number = u64::from_str_radix(number, 16).map_err(|error| failed(error.to_string()))?;
    let record: SubscriptionBytes = read_document(key, bytes)?;
    let options = SubscribeOptions {
        qos: qos(record.qos).map_err(failed)?,
        no_local: record.no_local,
        retain_as_published: record.retain_as_published,
        retain_handling: RetainHandling::Always,
        without_parent: record.without_parent,
    };
    Ok((SessionNumber(number), filter(text).map_err(failed)?, options, record.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        let properties = Properties {
            payload_is_utf8: true,
            expiry_s: Some(60),
            content_type: Some("text/plain".into()),
            response_topic: TopicName::parse("answers").ok(),
            correlation_data: Some(Bytes::from_static(b"\0\xff")),
            user: vec![("k".into(), "1".into()), ("k".into(), "2".into())],
        };
        Message {
            topic: TopicName::parse("a/b").unwrap(),
            payload: Bytes::from_static(b"\0payload\xff"),
            qos: QoS::ExactlyOnce,
            retain: true,
            hops: 0,
            received_at: Timestamp::from_millis(1_234),
            publisher: Arc::new(Publisher {
                client_id: ClientId::parse("c/1").ok(),
                principal: Some(Principal::new("p")),
            }),
            properties: Some(Box::new(properties)),
        }
    }

    #[test]
    fn a_retained_message_comes_back_with_everything() {
        let key = retained_key(&message().topic);
        let read = read_retained(&key, &retained(&message())).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", message()));
    }

    #[test]
    fn a_session_comes_back_with_everything() {
        let id = ClientId::parse("plant/7").unwrap();
        let record = SessionRecord {
            number: SessionNumber(9),
            principal: Some(Principal::new("p")),
            expiry_s: u32::MAX,
            ended_at: Some(Timestamp::from_millis(5)),
            will: Some((3, Arc::new(message()))),
        };
        let read = SessionRecord::read(&session_key(&id), &record.to_bytes()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", (id, record)));
    }

    #[test]
    fn a_subscription_comes_back_with_everything() {
        let filter = TopicFilter::parse("$share/g/a/+/#").unwrap();
        let options = SubscribeOptions {
            qos: QoS::AtLeastOnce,
            no_local: true,
            retain_as_published: true,
            without_parent: true,
            ..SubscribeOptions::default()
        };
        let id = SubscriptionId::new(7);
        let key = subscription_key(SessionNumber(0x1f), &filter);
        assert_eq!(key.as_str(), "subscription/000000000000001f/$share/g/a/+/#");
        let read = read_subscription(&key, &subscription(options, id)).unwrap();
        assert_eq!(read, (SessionNumber(0x1f), filter, options, id));
    }

    #[test]
    fn what_a_newer_host_wrote_or_damage_left_is_told() {
        let key = Key::new(RETAINED, &["a"]);
        let mut bytes = retained(&message()).to_vec();
        assert!(read_retained(&key, &bytes[..9]).is_err());
        bytes[0] = 2;
        let error = read_retained(&key, &bytes).unwrap_err().to_string();
        assert!(error.contains("version 2"), "{error}");
        assert!(read_retained(&key, b"").unwrap_err().to_string().contains("empty"));
        let error = read_record(3, b"\x01\xff", |_| Ok(())).unwrap_err().to_string();
        assert!(error.starts_with("record 3 of the message log"), "{error}");
    }
}
