//! Packets from a client, as bytes; and topics and client ids that no other test uses.

use crate::wire::{Version, four, id, packet, section, text};
use std::sync::atomic::{AtomicU32, Ordering};

/// Makes topics and client ids of this run differ from those of the one before.
fn number() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// A client id that nobody used.
pub fn client_id() -> String {
    format!("conf{}n{}", std::process::id(), number())
}

/// The first level of topics that only the caller uses.
pub fn topic() -> String {
    format!("conf{}t{}", std::process::id(), number())
}

/// A CONNECT packet.
#[derive(Clone)]
pub struct Connect {
    pub version: Version,
    pub clean: bool,
    pub keep_alive_s: u16,
    /// Encoded properties, without their length.
    pub properties: Vec<u8>,
    /// Maximum Packet Size; the client holds the broker to it.
    pub packet_bytes_max: Option<u32>,
    pub client_id: String,
    pub will: Option<Will>,
    pub username: Option<&'static str>,
    pub password: Option<&'static str>,
}

/// A will.
#[derive(Clone)]
pub struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    /// Encoded properties, without their length.
    pub properties: Vec<u8>,
}

impl Will {
    /// With QoS 0, neither retained nor delayed.
    pub fn new(topic: &str) -> Self {
        let (topic, payload) = (topic.to_owned(), b"will".to_vec());
        Self { topic, payload, qos: 0, retain: false, properties: Vec::new() }
    }
}

impl Connect {
    /// A clean session under a client id of its own, without keep-alive.
    pub fn new(version: Version) -> Self {
        Self {
            version,
            clean: true,
            keep_alive_s: 0,
            properties: Vec::new(),
            packet_bytes_max: None,
            client_id: client_id(),
            will: None,
            username: None,
            password: None,
        }
    }

    /// A session that outlives its connections, as both versions say it.
    pub fn durable(version: Version) -> Self {
        match version {
            Version::V311 => Self { clean: false, ..Self::new(version) },
            Version::V5 => {
                let properties = four(id::SESSION_EXPIRY, 600);
                Self { clean: false, properties, ..Self::new(version) }
            }
        }
    }

    /// The packet.
    pub fn bytes(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        if let Some(will) = &self.will {
            flags |= 0x04 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        flags |= u8::from(self.password.is_some()) << 6;
        flags |= u8::from(self.username.is_some()) << 7;
        let v5 = self.version == Version::V5;
        let mut body = text("MQTT");
        body.extend_from_slice(&[if v5 { 5 } else { 4 }, flags]);
        body.extend_from_slice(&self.keep_alive_s.to_be_bytes());
        if v5 {
            let size = self.packet_bytes_max.map(|bytes| four(id::MAXIMUM_PACKET_SIZE, bytes));
            body.extend(section(&[&self.properties[..], &size.unwrap_or_default()].concat()));
        }
        body.extend_from_slice(&text(&self.client_id));
        if let Some(will) = &self.will {
            if v5 {
                body.extend_from_slice(&section(&will.properties));
            }
            body.extend_from_slice(&text(&will.topic));
            body.extend_from_slice(&text(&will.payload));
        }
        for field in [self.username, self.password].into_iter().flatten() {
            body.extend_from_slice(&text(field));
        }
        packet(0x10, &body)
    }
}

/// A message to publish.
#[derive(Clone)]
pub struct Message<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    /// Encoded properties, without their length.
    pub properties: Vec<u8>,
}

impl<'a> Message<'a> {
    /// With QoS 0, not retained.
    pub fn new(topic: &'a str, payload: &'a str) -> Self {
        let (payload, properties) = (payload.as_bytes(), Vec::new());
        Self { topic, payload, qos: 0, retain: false, dup: false, properties }
    }

    /// The packet.
    pub fn bytes(&self, version: Version, packet_id: u16) -> Vec<u8> {
        let first = 0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        let mut body = text(self.topic);
        if self.qos > 0 {
            body.extend_from_slice(&packet_id.to_be_bytes());
        }
        if version == Version::V5 {
            body.extend_from_slice(&section(&self.properties));
        }
        body.extend_from_slice(self.payload);
        packet(first, &body)
    }
}

/// An acknowledgement with success, the same in both versions.
pub fn ack(first: u8, packet_id: u16) -> Vec<u8> {
    packet(first, &packet_id.to_be_bytes())
}

/// An acknowledgement with a reason.
pub fn ack_with(first: u8, packet_id: u16, reason: u8) -> Vec<u8> {
    let [high, low] = packet_id.to_be_bytes();
    packet(first, &[high, low, reason])
}

/// A SUBSCRIBE packet.
pub fn subscribe(
    version: Version,
    packet_id: u16,
    filters: &[(&str, u8)],
    properties: &[u8],
) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.extend_from_slice(&section(properties));
    }
    for (filter, options) in filters {
        body.extend_from_slice(&text(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

/// An UNSUBSCRIBE packet.
pub fn unsubscribe(version: Version, packet_id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    for filter in filters {
        body.extend_from_slice(&text(filter));
    }
    packet(0xa2, &body)
}
