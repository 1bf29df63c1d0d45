//! Packets that a broker sends.
//!
//! In: bytes. Out: [`frame`]s, and [`Packet`]s of what a load client looks at. Everything else is
//! skipped, and a packet that cannot be read is an error of the broker's.
//! Bound: a packet has at most [`PACKET_BYTES_MAX`].

use crate::options::Protocol;

/// Twice the longest payload; a longer packet is refused before it is buffered.
pub const PACKET_BYTES_MAX: usize = 32 * 1_024 * 1_024;

/// What the broker sent cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the broker sent {0}")]
pub struct Malformed(&'static str);

/// What a load client looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Answer to CONNECT.
    ConnAck(ConnAck),
    /// A message; the packet identifier is 0 with QoS 0.
    Publish {
        /// 0 to 2.
        qos: u8,
        /// Not 0 with QoS 1 and 2.
        packet_id: u16,
        /// Behind topic and properties.
        payload: &'a [u8],
    },
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Acknowledgement {
        /// The packet's first byte.
        first: u8,
        /// Of what is acknowledged.
        packet_id: u16,
        /// 0x80 and above: refused.
        reason: u8,
    },
    /// Answer to SUBSCRIBE: the reason code of its one filter.
    SubAck(u8),
    /// Answer to PINGREQ.
    PingResp,
    /// The broker ends the connection; 5.0 only.
    Disconnect(u8),
}

/// The fields of CONNACK, with the standard's defaults for properties that are absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// Return code (3.1.1) or reason code (5.0).
    pub code: u8,
    /// Messages with QoS 1 and 2 that the broker takes at once.
    pub receive_max: u16,
    /// Replaces the client's keep-alive.
    pub server_keep_alive_s: Option<u16>,
}

/// A whole packet: its first byte, its body and where it ends.
pub type Frame<'a> = (u8, &'a [u8], usize);

/// The first packet of `bytes`; none when it is not whole yet.
pub fn frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, Malformed> {
    let mut len = 0;
    for (index, byte) in bytes.iter().enumerate().skip(1) {
        if index > 4 {
            return Err(Malformed("a malformed Remaining Length"));
        }
        len |= usize::from(byte & 0x7f) << (7 * (index - 1));
        if byte & 0x80 == 0 {
            if len > PACKET_BYTES_MAX {
                return Err(Malformed("a packet beyond 32 MiB"));
            }
            let (start, end) = (index + 1, index + 1 + len);
            return Ok(bytes.get(start..end).map(|body| (bytes[0], body, end)));
        }
    }
    Ok(None)
}

/// Reads what [`frame`] found.
pub fn packet(protocol: Protocol, first: u8, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    let v5 = protocol == Protocol::V5;
    let short = Malformed("a packet that ends too early");
    match first >> 4 {
        3 => publish(v5, first, body).ok_or(short),
        4..=7 => acknowledgement(first, body).ok_or(short),
        2 => conn_ack(v5, body).ok_or(short).map(Packet::ConnAck),
        9 => sub_ack(v5, body).ok_or(short).map(Packet::SubAck),
        13 => Ok(Packet::PingResp),
        14 if v5 => Ok(Packet::Disconnect(body.first().copied().unwrap_or_default())),
        _ => Err(Malformed("a packet that only clients send, or one nobody asked for")),
    }
}

fn publish(v5: bool, first: u8, body: &[u8]) -> Option<Packet<'_>> {
    let qos = first >> 1 & 3;
    let (topic_len, rest) = body.split_first_chunk()?;
    let mut rest = rest.get(usize::from(u16::from_be_bytes(*topic_len))..)?;
    let mut packet_id = 0;
    if qos > 0 {
        let (id, after) = rest.split_first_chunk()?;
        (packet_id, rest) = (u16::from_be_bytes(*id), after);
    }
    let payload = if v5 { split_properties(rest)?.1 } else { rest };
    Some(Packet::Publish { qos, packet_id, payload })
}

fn acknowledgement(first: u8, body: &[u8]) -> Option<Packet<'_>> {
    let (id, rest) = body.split_first_chunk()?;
    let reason = rest.first().copied().unwrap_or_default();
    Some(Packet::Acknowledgement { first, packet_id: u16::from_be_bytes(*id), reason })
}

fn sub_ack(v5: bool, body: &[u8]) -> Option<u8> {
    let rest = body.get(2..)?;
    let codes = if v5 { split_properties(rest)?.1 } else { rest };
    codes.first().copied()
}

fn conn_ack(v5: bool, body: &[u8]) -> Option<ConnAck> {
    let (&[_flags, code], rest) = body.split_first_chunk()?;
    let mut answer = ConnAck { code, receive_max: u16::MAX, server_keep_alive_s: None };
    if !v5 || rest.is_empty() {
        // A broker that does not know 5.0 may refuse in the form of 3.1.1.
        return Some(answer);
    }
    let mut properties = split_properties(rest)?.0;
    while let Some((&id, value)) = properties.split_first() {
        let len = property_len(id, value)?;
        let (value, rest) = value.split_at_checked(len)?;
        let short = value.first_chunk().map(|value| u16::from_be_bytes(*value));
        match id {
            0x21 => answer.receive_max = short?.max(1),
            0x13 => answer.server_keep_alive_s = short,
            _ => {}
        }
        properties = rest;
    }
    Some(answer)
}

/// The properties, and what stands behind them.
fn split_properties(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut len = 0;
    for (index, byte) in bytes.iter().enumerate().take(4) {
        len |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return bytes[index + 1..].split_at_checked(len);
        }
    }
    None
}

/// Bytes of a property's value; MQTT 5.0, 2.2.2.2, as far as CONNACK may have it.
fn property_len(id: u8, value: &[u8]) -> Option<usize> {
    let text = |at: usize| {
        let len: &[u8; 2] = value.get(at..)?.first_chunk()?;
        Some(at + 2 + usize::from(u16::from_be_bytes(*len)))
    };
    match id {
        // Maximum QoS, Retain, Wildcard, Subscription Identifier, Shared Subscription.
        0x24 | 0x25 | 0x28 | 0x29 | 0x2a => Some(1),
        // Server Keep Alive, Receive Maximum, Topic Alias Maximum.
        0x13 | 0x21 | 0x22 => Some(2),
        // Session Expiry Interval, Maximum Packet Size.
        0x11 | 0x27 => Some(4),
        // Assigned Client Identifier, Authentication Method and Data, Response Information,
        // Server Reference, Reason String.
        0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => text(0),
        // User Property.
        0x26 => text(text(0)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(protocol: Protocol, bytes: &[u8]) -> Result<Packet<'_>, Malformed> {
        let (first, body, end) = frame(bytes)?.expect("a whole packet");
        assert_eq!(end, bytes.len());
        packet(protocol, first, body)
    }

    #[test]
    fn packets_of_both_versions_are_read() {
        let message = |qos, packet_id| Packet::Publish { qos, packet_id, payload: b"hi" };
        for (protocol, bytes, expected) in [
            (Protocol::V311, &b"\x30\x05\0\x01ahi"[..], message(0, 0)),
            (Protocol::V311, b"\x35\x07\0\x01a\0\x09hi", message(2, 9)),
            (Protocol::V5, b"\x32\x0a\0\x01a\0\x09\x02\x01\x01hi", message(1, 9)),
            (Protocol::V311, b"\x90\x03\0\x01\x80", Packet::SubAck(0x80)),
            (Protocol::V5, b"\x90\x04\0\x01\0\x01", Packet::SubAck(1)),
            (Protocol::V5, b"\xe0\x00", Packet::Disconnect(0)),
            (Protocol::V5, b"\xe0\x01\x8b", Packet::Disconnect(0x8b)),
            (Protocol::V311, b"\xd0\x00", Packet::PingResp),
            (
                Protocol::V5,
                b"\x40\x03\x01\x02\x97",
                Packet::Acknowledgement { first: 0x40, packet_id: 0x0102, reason: 0x97 },
            ),
        ] {
            assert_eq!(whole(protocol, bytes).unwrap(), expected);
        }
    }

    #[test]
    fn connack_tells_what_the_broker_takes() {
        // Reason String, User Property, Receive Maximum 100, Server Keep Alive 30.
        let bytes = b"\x20\x17\0\0\x14\x1f\0\x02hi\x26\0\x01k\0\x01v\x21\0\x64\x13\0\x1e\x25\x01";
        let answer = ConnAck { code: 0, receive_max: 100, server_keep_alive_s: Some(30) };
        assert_eq!(whole(Protocol::V5, bytes).unwrap(), Packet::ConnAck(answer));
        let refused = ConnAck { code: 5, receive_max: u16::MAX, server_keep_alive_s: None };
        for protocol in [Protocol::V311, Protocol::V5] {
            let answer = whole(protocol, b"\x20\x02\0\x05").unwrap();
            assert_eq!(answer, Packet::ConnAck(refused));
        }
    }

    #[test]
    fn what_is_cut_off_or_malformed_is_not_taken_for_a_packet() {
        for bytes in [&b""[..], b"\x30", b"\x30\x80", b"\x30\x02\0"] {
            assert!(frame(bytes).unwrap().is_none(), "{bytes:?}");
        }
        assert!(frame(b"\x30\x80\x80\x80\x80\x01").is_err());
        assert!(frame(b"\x30\xff\xff\xff\x7f").is_err(), "256 MiB");
        for (protocol, bytes) in [
            (Protocol::V311, &b"\x30\x03\0\x05a"[..]),
            (Protocol::V5, b"\x30\x04\0\x01a\x05"),
            (Protocol::V5, b"\x20\x05\0\0\x02\x21\0"),
            (Protocol::V311, b"\x10\x00"),
            (Protocol::V311, b"\xe0\x00"),
        ] {
            assert!(whole(protocol, bytes).is_err(), "{bytes:?}");
        }
    }
}
