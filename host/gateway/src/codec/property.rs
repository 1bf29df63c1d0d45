//! The properties of MQTT 5 (2.2.2): what a client may send, where, how often, in which range;
//! and how ours are written.
//!
//! In: the walk over a packet, at its Property Length. Out: a [`Section`] whose properties are
//! checked, to be read by whoever builds the packet. Writing goes to a [`Sink`], which counts or
//! appends. Not here: which property is which field (`decode`, `encode`).

use crate::codec::frame::Reader;
use crate::codec::{DecodeError, EncodeError};
use gnomon_core::message::SubscriptionId;
use gnomon_core::packet::{Reason, UserProperties};
use std::num::NonZeroU16;

pub(super) const PAYLOAD_FORMAT: u8 = 0x01;
pub(super) const MESSAGE_EXPIRY: u8 = 0x02;
pub(super) const CONTENT_TYPE: u8 = 0x03;
pub(super) const RESPONSE_TOPIC: u8 = 0x08;
pub(super) const CORRELATION_DATA: u8 = 0x09;
pub(super) const SUBSCRIPTION_ID: u8 = 0x0b;
pub(super) const SESSION_EXPIRY: u8 = 0x11;
pub(super) const ASSIGNED_CLIENT_ID: u8 = 0x12;
pub(super) const SERVER_KEEP_ALIVE: u8 = 0x13;
pub(super) const AUTHENTICATION_METHOD: u8 = 0x15;
pub(super) const AUTHENTICATION_DATA: u8 = 0x16;
pub(super) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
pub(super) const WILL_DELAY: u8 = 0x18;
pub(super) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
pub(super) const RESPONSE_INFORMATION: u8 = 0x1a;
pub(super) const SERVER_REFERENCE: u8 = 0x1c;
pub(super) const REASON_STRING: u8 = 0x1f;
pub(super) const RECEIVE_MAXIMUM: u8 = 0x21;
pub(super) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
pub(super) const TOPIC_ALIAS: u8 = 0x23;
pub(super) const MAXIMUM_QOS: u8 = 0x24;
pub(super) const RETAIN_AVAILABLE: u8 = 0x25;
pub(super) const USER_PROPERTY: u8 = 0x26;
pub(super) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
pub(super) const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
pub(super) const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
pub(super) const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2a;

/// A set of property identifiers: one bit each.
#[derive(Clone, Copy)]
pub(super) struct Allowed(u64);

impl Allowed {
    const fn new(identifiers: &[u8]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < identifiers.len() {
            bits |= 1 << identifiers[i];
            i += 1;
        }
        Self(bits)
    }
}

/// What a client may put into CONNECT (3.1.2.11).
pub(super) const IN_CONNECT: Allowed = Allowed::new(&[
    SESSION_EXPIRY,
    RECEIVE_MAXIMUM,
    MAXIMUM_PACKET_SIZE,
    TOPIC_ALIAS_MAXIMUM,
    REQUEST_RESPONSE_INFORMATION,
    REQUEST_PROBLEM_INFORMATION,
    USER_PROPERTY,
    AUTHENTICATION_METHOD,
    AUTHENTICATION_DATA,
]);
/// Into its will (3.1.3.2).
pub(super) const IN_WILL: Allowed = Allowed::new(&[
    WILL_DELAY,
    PAYLOAD_FORMAT,
    MESSAGE_EXPIRY,
    CONTENT_TYPE,
    RESPONSE_TOPIC,
    CORRELATION_DATA,
    USER_PROPERTY,
]);
/// Into PUBLISH (3.3.2.3). Subscription Identifier is one of its properties, but only a server
/// may send it: `decode` answers with Protocol Error.
pub(super) const IN_PUBLISH: Allowed = Allowed::new(&[
    PAYLOAD_FORMAT,
    MESSAGE_EXPIRY,
    TOPIC_ALIAS,
    RESPONSE_TOPIC,
    CORRELATION_DATA,
    USER_PROPERTY,
    SUBSCRIPTION_ID,
    CONTENT_TYPE,
]);
/// Into PUBACK, PUBREC, PUBREL and PUBCOMP (3.4.2.2 and its like).
pub(super) const IN_ACK: Allowed = Allowed::new(&[REASON_STRING, USER_PROPERTY]);
/// Into SUBSCRIBE (3.8.2.1).
pub(super) const IN_SUBSCRIBE: Allowed = Allowed::new(&[SUBSCRIPTION_ID, USER_PROPERTY]);
/// Into UNSUBSCRIBE (3.10.2.1).
pub(super) const IN_UNSUBSCRIBE: Allowed = Allowed::new(&[USER_PROPERTY]);
/// Into DISCONNECT (3.14.2.2); Server Reference is the server's.
pub(super) const IN_DISCONNECT: Allowed =
    Allowed::new(&[SESSION_EXPIRY, REASON_STRING, USER_PROPERTY]);
/// Into AUTH (3.15.2.2).
pub(super) const IN_AUTH: Allowed =
    Allowed::new(&[AUTHENTICATION_METHOD, AUTHENTICATION_DATA, REASON_STRING, USER_PROPERTY]);

/// A property that a client sent, its value in range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Property<'a> {
    PayloadIsUtf8(bool),
    MessageExpiry(u32),
    ContentType(&'a str),
    /// With its offset in the packet, because it is yet to be checked as a topic name.
    ResponseTopic(&'a str, usize),
    CorrelationData(&'a [u8]),
    SubscriptionId(SubscriptionId),
    SessionExpiry(u32),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelay(u32),
    RequestResponseInformation(bool),
    ReasonString(&'a str),
    ReceiveMaximum(NonZeroU16),
    TopicAliasMaximum(u16),
    TopicAlias(NonZeroU16),
    User(&'a str, &'a str),
    MaximumPacketSize(u32),
}

impl<'a> Property<'a> {
    /// Reads the value of the property `identifier`.
    fn read(identifier: u8, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        const SHORT: &str = "property value runs over the end of the properties";
        Ok(match identifier {
            PAYLOAD_FORMAT => Self::PayloadIsUtf8(flag(reader)?),
            MESSAGE_EXPIRY => Self::MessageExpiry(reader.u32(SHORT)?),
            CONTENT_TYPE => Self::ContentType(reader.text(SHORT)?),
            RESPONSE_TOPIC => {
                let text = reader.text(SHORT)?;
                Self::ResponseTopic(text, reader.at() - text.len())
            }
            CORRELATION_DATA => Self::CorrelationData(reader.binary(SHORT)?),
            SUBSCRIPTION_ID => {
                let at = reader.at();
                let id = reader.varint("subscription identifier is no variable byte integer")?;
                Self::SubscriptionId(not_zero(SubscriptionId::new(id), at)?)
            }
            SESSION_EXPIRY => Self::SessionExpiry(reader.u32(SHORT)?),
            AUTHENTICATION_METHOD => Self::AuthenticationMethod(reader.text(SHORT)?),
            AUTHENTICATION_DATA => Self::AuthenticationData(reader.binary(SHORT)?),
            REQUEST_PROBLEM_INFORMATION => Self::RequestProblemInformation(flag(reader)?),
            WILL_DELAY => Self::WillDelay(reader.u32(SHORT)?),
            REQUEST_RESPONSE_INFORMATION => Self::RequestResponseInformation(flag(reader)?),
            REASON_STRING => Self::ReasonString(reader.text(SHORT)?),
            RECEIVE_MAXIMUM => {
                let at = reader.at();
                Self::ReceiveMaximum(not_zero(NonZeroU16::new(reader.u16(SHORT)?), at)?)
            }
            TOPIC_ALIAS_MAXIMUM => Self::TopicAliasMaximum(reader.u16(SHORT)?),
            TOPIC_ALIAS => {
                let at = reader.at();
                // [MQTT-3.3.2-8] has its own reason code.
                let alias = NonZeroU16::new(reader.u16(SHORT)?).ok_or(DecodeError {
                    reason: Reason::TopicAliasInvalid,
                    ..DecodeError::protocol(at, "topic alias is 0")
                })?;
                Self::TopicAlias(alias)
            }
            USER_PROPERTY => Self::User(reader.text(SHORT)?, reader.text(SHORT)?),
            MAXIMUM_PACKET_SIZE => {
                let at = reader.at();
                Self::MaximumPacketSize(not_zero(Some(reader.u32(SHORT)?).filter(|&v| v > 0), at)?)
            }
            _ => {
                let what = "property is unknown or not for this packet";
                return Err(DecodeError::malformed(reader.at(), what));
            }
        })
    }
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    let at = reader.at();
    match reader.byte("property without a value")? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::protocol(at, "property must be 0 or 1")),
    }
}

fn not_zero<T>(value: Option<T>, at: usize) -> Result<T, DecodeError> {
    value.ok_or_else(|| DecodeError::protocol(at, "property must not be 0"))
}

/// The checked properties of one packet.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    properties: Reader<'a>,
    seen: u64,
}

impl<'a> Section<'a> {
    /// What 3.1.1 has, and acknowledgements that leave out the Property Length.
    pub(super) fn empty() -> Self {
        Self { properties: Reader::new(&[], 0), seen: 0 }
    }

    /// Walks over the properties: each allowed here, once (User Property any number of times),
    /// in range, and within the Property Length.
    #[inline]
    pub(super) fn read(reader: &mut Reader<'a>, allowed: Allowed) -> Result<Self, DecodeError> {
        let len = reader.varint("property length is missing or no variable byte integer")?;
        if len == 0 {
            return Ok(Self::empty());
        }
        let what = "property length runs over the end of the packet";
        let properties = reader.part(len as usize, what)?;
        Self::check(properties, allowed)
    }

    fn check(properties: Reader<'a>, allowed: Allowed) -> Result<Self, DecodeError> {
        let mut walk = properties;
        let mut seen = 0;
        while !walk.is_empty() {
            let at = walk.at();
            let identifier = walk.byte("property identifier is missing")?;
            let bit = 1_u64.checked_shl(u32::from(identifier)).unwrap_or(0);
            if allowed.0 & bit == 0 {
                let what = "property is unknown or not for this packet";
                return Err(DecodeError::malformed(at, what));
            }
            if seen & bit != 0 && identifier != USER_PROPERTY {
                return Err(DecodeError::protocol(at, "property stands twice"));
            }
            seen |= bit;
            Property::read(identifier, &mut walk)?;
        }
        Ok(Self { properties, seen })
    }

    pub(super) fn has(&self, identifier: u8) -> bool {
        self.seen & (1 << identifier) != 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seen == 0
    }
}

impl<'a> Iterator for Section<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        let identifier = self.properties.byte("").ok()?;
        // Cannot fail: `check` has read the same bytes.
        Property::read(identifier, &mut self.properties).ok()
    }
}

/// Where properties go: counted ([`Count`]) or appended (`Vec<u8>`), by the same code.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    fn put_byte(&mut self, identifier: u8, value: u8) {
        self.put(&[identifier, value]);
    }

    fn put_u16(&mut self, identifier: u8, value: u16) {
        let value = value.to_be_bytes();
        self.put(&[identifier, value[0], value[1]]);
    }

    fn put_u32(&mut self, identifier: u8, value: u32) {
        self.put(&[identifier]);
        self.put(&value.to_be_bytes());
    }

    fn put_varint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.put(&[0x80 | low7(value)]);
            value >>= 7;
        }
        self.put(&[low7(value)]);
    }

    fn put_binary(&mut self, identifier: u8, value: &[u8]) -> Result<(), EncodeError> {
        self.put(&[identifier]);
        self.put_field(value)
    }

    fn put_text(&mut self, identifier: u8, value: &str) -> Result<(), EncodeError> {
        self.put(&[identifier]);
        self.put_text_field(value)
    }

    fn put_user(&mut self, pairs: &UserProperties) -> Result<(), EncodeError> {
        for (key, value) in pairs {
            self.put_text(USER_PROPERTY, key)?;
            self.put_text_field(value)?;
        }
        Ok(())
    }

    fn put_text_field(&mut self, value: &str) -> Result<(), EncodeError> {
        // [MQTT-1.5.4-2] A receiver would have to close its connection.
        if value.as_bytes().contains(&0) {
            return Err(EncodeError::Nul);
        }
        self.put_field(value.as_bytes())
    }

    /// Two bytes of length, then the bytes.
    fn put_field(&mut self, value: &[u8]) -> Result<(), EncodeError> {
        let len = u16::try_from(value.len())
            .map_err(|_| EncodeError::FieldTooLong { bytes: value.len() })?;
        self.put(&len.to_be_bytes());
        self.put(value);
        Ok(())
    }
}

fn low7(value: u32) -> u8 {
    u8::try_from(value & 0x7f).expect("seven bits fit into eight")
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts what would be appended.
#[derive(Default)]
pub(super) struct Count(pub(super) usize);

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}
