//! Packets that a client sends, as bytes.
//!
//! In: fields. Out: MQTT 3.1.1 or 5.0 packets, appended to a buffer. The load tool writes its
//! packets itself: a client library would cost more than the broker that is measured.
//! Bounds: texts are at most 65,535 bytes, which `plan` has checked.

use crate::options::{Protocol, Qos};
use crate::payload::{self, Header};

/// Packets of two bytes without a body.
pub const PINGREQ: [u8; 2] = [0xc0, 0];
/// See [`PINGREQ`]; reason 0x00 in 5.0.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// Acknowledgements of one packet identifier; the first byte of each, with its flags.
pub const PUBACK: u8 = 0x40;
/// See [`PUBACK`].
pub const PUBREC: u8 = 0x50;
/// See [`PUBACK`].
pub const PUBREL: u8 = 0x62;
/// See [`PUBACK`].
pub const PUBCOMP: u8 = 0x70;

/// Property identifier, MQTT 5.0, 3.1.2.11.2.
const SESSION_EXPIRY_INTERVAL: u8 = 0x11;

/// The fields of CONNECT.
#[derive(Clone, Copy, Debug)]
pub struct Connect<'a> {
    /// 3.1.1 or 5.0.
    pub protocol: Protocol,
    /// Not empty.
    pub client_id: &'a str,
    /// User name and password, as far as there are any.
    pub username: Option<&'a str>,
    /// See `username`.
    pub password: Option<&'a str>,
    /// Clean Session or Clean Start.
    pub clean: bool,
    /// Seconds; 5.0 only.
    pub session_expiry_s: u32,
    /// Seconds; 0 for none.
    pub keep_alive_s: u16,
}

/// Appends a CONNECT.
pub fn connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    let flag = |set: bool, bit: u8| if set { 1 << bit } else { 0 };
    let flags = flag(connect.username.is_some(), 7)
        | flag(connect.password.is_some(), 6)
        | flag(connect.clean, 1);
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    body.extend([connect.protocol.level(), flags]);
    body.extend(connect.keep_alive_s.to_be_bytes());
    if connect.protocol == Protocol::V5 {
        if connect.session_expiry_s == 0 {
            body.push(0);
        } else {
            body.extend([5, SESSION_EXPIRY_INTERVAL]);
            body.extend(connect.session_expiry_s.to_be_bytes());
        }
    }
    text(&mut body, connect.client_id);
    for field in [connect.username, connect.password].into_iter().flatten() {
        text(&mut body, field);
    }
    packet(out, 0x10, &body);
}

/// Appends a SUBSCRIBE of one filter with packet identifier 1.
pub fn subscribe(out: &mut Vec<u8>, protocol: Protocol, filter: &str, qos: Qos) {
    let mut body = vec![0, 1];
    if protocol == Protocol::V5 {
        body.push(0);
    }
    text(&mut body, filter);
    body.push(qos.level());
    packet(out, 0x82, &body);
}

/// Appends PUBACK, PUBREC, PUBREL or PUBCOMP; both versions read the short form as success.
pub fn acknowledge(out: &mut Vec<u8>, first: u8, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[first, 2, high, low]);
}

/// What all PUBLISH packets of one publisher have in common.
#[derive(Debug)]
pub struct Template {
    bytes: Vec<u8>,
    packet_id_at: Option<usize>,
    payload_at: usize,
}

impl Template {
    /// A packet with a payload of `payload_bytes`.
    pub fn new(
        protocol: Protocol,
        topic: &str,
        qos: Qos,
        retain: bool,
        payload_bytes: usize,
    ) -> Self {
        let mut body = Vec::with_capacity(topic.len() + payload_bytes + 8);
        text(&mut body, topic);
        let packet_id_at = (qos != Qos::AtMostOnce).then_some(body.len());
        if packet_id_at.is_some() {
            body.extend([0, 0]);
        }
        if protocol == Protocol::V5 {
            body.push(0);
        }
        let payload_at = body.len();
        body.resize(payload_at + payload_bytes, b'x');
        let mut bytes = Vec::with_capacity(body.len() + 5);
        packet(&mut bytes, 0x30 | qos.level() << 1 | u8::from(retain), &body);
        let header = bytes.len() - body.len();
        Self {
            bytes,
            packet_id_at: packet_id_at.map(|at| at + header),
            payload_at: payload_at + header,
        }
    }

    /// Appends the packet with its own packet identifier and payload header.
    pub fn write(&mut self, out: &mut Vec<u8>, packet_id: u16, header: &Header) {
        if let Some(at) = self.packet_id_at {
            self.bytes[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        payload::write(header, &mut self.bytes[self.payload_at..]);
        out.extend_from_slice(&self.bytes);
    }
}

/// Appends a fixed header and the body.
fn packet(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    let mut left = body.len();
    loop {
        let digit = u8::try_from(left & 0x7f).expect("seven bits");
        left >>= 7;
        out.push(if left > 0 { digit | 0x80 } else { digit });
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
}

/// Appends a text with its length in front.
fn text(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).expect("the plan checks the length of its texts");
    out.extend(len.to_be_bytes());
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_is_written_as_both_standards_say() {
        let mut fields = Connect {
            protocol: Protocol::V311,
            client_id: "c",
            username: Some("u"),
            password: Some("p"),
            clean: true,
            session_expiry_s: 0,
            keep_alive_s: 60,
        };
        let mut out = Vec::new();
        connect(&mut out, &fields);
        assert_eq!(out, b"\x10\x13\0\x04MQTT\x04\xc2\0\x3c\0\x01c\0\x01u\0\x01p");
        (fields.protocol, fields.clean, fields.session_expiry_s) = (Protocol::V5, false, 256);
        (fields.username, fields.password) = (None, None);
        out.clear();
        connect(&mut out, &fields);
        assert_eq!(out, b"\x10\x13\0\x04MQTT\x05\0\0\x3c\x05\x11\0\0\x01\0\0\x01c");
    }

    #[test]
    fn subscribe_and_publish_differ_by_the_properties_of_5() {
        let mut out = Vec::new();
        subscribe(&mut out, Protocol::V311, "a/+", Qos::AtLeastOnce);
        assert_eq!(out, b"\x82\x08\0\x01\0\x03a/+\x01");
        out.clear();
        subscribe(&mut out, Protocol::V5, "a/+", Qos::ExactlyOnce);
        assert_eq!(out, b"\x82\x09\0\x01\0\0\x03a/+\x02");
        let header = Header { run: 1, publisher: 2, sequence: 3, micros: 4 };
        for (protocol, qos, head) in [
            (Protocol::V311, Qos::AtMostOnce, &b"\x30\xcb\x01\0\x01t"[..]),
            (Protocol::V5, Qos::AtLeastOnce, b"\x32\xce\x01\0\x01t\x12\x34\0"),
        ] {
            out.clear();
            Template::new(protocol, "t", qos, false, 200).write(&mut out, 0x1234, &header);
            assert_eq!(out[..head.len()], *head);
            assert_eq!(payload::read(&out[head.len()..]), Some(header));
        }
    }
}
