//! Bytes from a server to packets, written from the standards alone.
//!
//! Nothing here is shared with the gateway's codec: it is its oracle. It is strict and panics at
//! everything that no server may send: reserved bits, unknown or repeated properties, properties in
//! the wrong packet, lengths that are not the shortest, bytes that are left over.

use crate::wire::{Version, id};

/// The value of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of one, two or four bytes, or a variable byte integer.
    Number(u32),
    /// A text.
    Text(String),
    /// Binary data.
    Data(Vec<u8>),
    /// A User Property.
    Pair(String, String),
}

/// Properties in the order of the packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(pub Vec<(u8, Value)>);

impl Properties {
    /// The number with this identifier.
    pub fn number(&self, id: u8) -> Option<u32> {
        self.0.iter().find_map(|(it, value)| match value {
            Value::Number(number) if *it == id => Some(*number),
            _ => None,
        })
    }

    /// The text with this identifier.
    pub fn text(&self, id: u8) -> Option<&str> {
        self.0.iter().find_map(|(it, value)| match value {
            Value::Text(text) if *it == id => Some(text.as_str()),
            _ => None,
        })
    }

    /// The binary data with this identifier.
    pub fn data(&self, id: u8) -> Option<&[u8]> {
        self.0.iter().find_map(|(it, value)| match value {
            Value::Data(data) if *it == id => Some(data.as_slice()),
            _ => None,
        })
    }

    /// The User Properties, in order.
    pub fn user(&self) -> Vec<(&str, &str)> {
        let pairs = self.0.iter().filter_map(|(_, value)| match value {
            Value::Pair(name, value) => Some((name.as_str(), value.as_str())),
            _ => None,
        });
        pairs.collect()
    }

    /// The Subscription Identifiers, sorted: their order means nothing.
    pub fn subscription_ids(&self) -> Vec<u32> {
        let found = self.0.iter().filter_map(|(it, value)| match value {
            Value::Number(number) if *it == id::SUBSCRIPTION_ID => Some(*number),
            _ => None,
        });
        let mut found: Vec<_> = found.collect();
        found.sort_unstable();
        found
    }
}

/// A packet from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    ConnAck {
        session_present: bool,
        reason: u8,
        properties: Properties,
    },
    Publish(Publish),
    /// PUBACK, PUBREC, PUBREL, PUBCOMP, by the first byte.
    Ack {
        first: u8,
        packet_id: u16,
        reason: u8,
        properties: Properties,
    },
    SubAck {
        packet_id: u16,
        reasons: Vec<u8>,
        properties: Properties,
    },
    UnsubAck {
        packet_id: u16,
        reasons: Vec<u8>,
        properties: Properties,
    },
    PingResp,
    Disconnect {
        reason: u8,
        properties: Properties,
    },
    Auth {
        reason: u8,
        properties: Properties,
    },
}

/// A PUBLISH from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    pub topic: String,
    /// 0 with QoS 0.
    pub packet_id: u16,
    pub properties: Properties,
    pub payload: Vec<u8>,
}

/// Reads one packet; `None` when bytes are missing. With it comes its length in bytes.
#[track_caller]
pub fn read(version: Version, bytes: &[u8]) -> Option<(Packet, usize)> {
    let (&first, rest) = bytes.split_first()?;
    let (len, field) = read_varint(rest)?;
    let body = rest.get(field..field + len)?;
    let mut reader = Reader { rest: body, version, first };
    let packet = reader.packet();
    assert!(reader.rest.is_empty(), "bytes behind {packet:?}: {:x?}", reader.rest);
    Some((packet, 1 + field + len))
}

/// The value and how many bytes it took.
fn read_varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (position, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            assert!(byte != 0 || position == 0, "a variable byte integer is not the shortest");
            return Some((value, position + 1));
        }
    }
    assert!(bytes.len() < 4, "a variable byte integer of more than four bytes");
    None
}

struct Reader<'a> {
    rest: &'a [u8],
    version: Version,
    first: u8,
}

impl Reader<'_> {
    fn packet(&mut self) -> Packet {
        match self.first {
            0x20 => {
                let flags = self.byte();
                assert!(flags <= 1, "reserved flags in CONNACK: {flags:#x}");
                let reason = self.byte();
                let properties = self.properties();
                Packet::ConnAck { session_present: flags == 1, reason, properties }
            }
            0x30..=0x3f => Packet::Publish(self.publish()),
            first @ (0x40 | 0x50 | 0x62 | 0x70) => {
                let packet_id = self.packet_id();
                let (reason, properties) = self.reason();
                Packet::Ack { first, packet_id, reason, properties }
            }
            first @ (0x90 | 0xb0) => {
                let packet_id = self.packet_id();
                let properties = self.properties();
                let reasons = std::mem::take(&mut self.rest).to_vec();
                match first {
                    0x90 => Packet::SubAck { packet_id, reasons, properties },
                    _ => Packet::UnsubAck { packet_id, reasons, properties },
                }
            }
            0xd0 => Packet::PingResp,
            0xe0 if self.version == Version::V5 => {
                let (reason, properties) = self.reason();
                Packet::Disconnect { reason, properties }
            }
            0xf0 if self.version == Version::V5 => {
                let (reason, properties) = self.reason();
                Packet::Auth { reason, properties }
            }
            first => panic!("no server sends this: {first:#04x} {:x?}", self.rest),
        }
    }

    fn publish(&mut self) -> Publish {
        let qos = self.first >> 1 & 3;
        assert_ne!(qos, 3, "PUBLISH with QoS 3");
        let dup = self.first & 8 != 0;
        assert!(qos > 0 || !dup, "PUBLISH with QoS 0 and DUP");
        Publish {
            dup,
            qos,
            retain: self.first & 1 != 0,
            topic: self.text(),
            packet_id: if qos > 0 { self.packet_id() } else { 0 },
            properties: self.properties(),
            payload: std::mem::take(&mut self.rest).to_vec(),
        }
    }

    /// The end of an acknowledgement, DISCONNECT or AUTH: both parts may be left out.
    fn reason(&mut self) -> (u8, Properties) {
        if self.rest.is_empty() {
            return (0, Properties::default());
        }
        assert_eq!(self.version, Version::V5, "3.1.1 has no reasons here: {:x?}", self.rest);
        let reason = self.byte();
        match self.rest.is_empty() {
            true => (reason, Properties::default()),
            false => (reason, self.properties()),
        }
    }

    fn properties(&mut self) -> Properties {
        if self.version == Version::V311 {
            return Properties::default();
        }
        let (len, field) = read_varint(self.rest).expect("a property length");
        let (section, rest) = self.rest[field..].split_at(len);
        let mut reader = Reader { rest: section, ..*self };
        let mut found: Vec<(u8, Value)> = Vec::new();
        while !reader.rest.is_empty() {
            let id = reader.byte();
            assert!(allowed(id, self.first), "property {id:#x} in packet {:#x}", self.first);
            let is_known = found.iter().any(|(it, _)| *it == id);
            assert!(!is_known || id == id::USER || id == id::SUBSCRIPTION_ID, "{id:#x} twice");
            found.push((id, reader.value(id)));
        }
        self.rest = rest;
        Properties(found)
    }

    fn value(&mut self, id: u8) -> Value {
        match id {
            0x01 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => {
                let value = self.byte();
                assert!(value <= 1, "property {id:#x} is {value}");
                Value::Number(value.into())
            }
            0x13 | 0x22 => Value::Number(self.u16().into()),
            0x21 | 0x23 => {
                let value = self.u16();
                assert_ne!(value, 0, "property {id:#x} is 0");
                Value::Number(value.into())
            }
            0x02 | 0x11 => Value::Number(self.u32()),
            0x27 => {
                let value = self.u32();
                assert_ne!(value, 0, "Maximum Packet Size is 0");
                Value::Number(value)
            }
            0x0b => {
                let (value, field) = read_varint(self.rest).expect("a Subscription Identifier");
                assert_ne!(value, 0, "Subscription Identifier 0");
                self.rest = &self.rest[field..];
                Value::Number(u32::try_from(value).unwrap())
            }
            0x09 | 0x16 => Value::Data(self.data().to_vec()),
            0x26 => Value::Pair(self.text(), self.text()),
            _ => Value::Text(self.text()),
        }
    }

    fn take(&mut self, len: usize) -> &[u8] {
        assert!(self.rest.len() >= len, "packet {:#x} ends too early", self.first);
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn packet_id(&mut self) -> u16 {
        let id = self.u16();
        assert_ne!(id, 0, "packet identifier 0");
        id
    }

    fn data(&mut self) -> &[u8] {
        let len = self.u16().into();
        self.take(len)
    }

    fn text(&mut self) -> String {
        let text = String::from_utf8(self.data().to_vec()).expect("UTF-8");
        assert!(!text.contains('\0'), "a text with U+0000");
        text
    }
}

/// Whether a server may send the property in the packet with this first byte (5.0, table 2-4).
fn allowed(id: u8, first: u8) -> bool {
    match first >> 4 {
        2 => matches!(
            id,
            0x11 | 0x12 | 0x13 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f | 0x21 | 0x22 | 0x24..=0x2a
        ),
        3 => matches!(id, 0x01 | 0x02 | 0x03 | 0x08 | 0x09 | 0x0b | 0x23 | 0x26),
        4..=7 | 9 | 11 => matches!(id, 0x1f | 0x26),
        14 => matches!(id, 0x1c | 0x1f | 0x26),
        15 => matches!(id, 0x15 | 0x16 | 0x1f | 0x26),
        _ => false,
    }
}
