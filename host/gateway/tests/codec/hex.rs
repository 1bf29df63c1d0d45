//! Packets as text: hexadecimal digits, `'text'` for a text with its two bytes of length in front,
//! the same in backticks for the text alone, `..` for the Remaining Length, spaces for the eye.

use gnomon_core::packet::{Packet, Version};
use gnomon_gateway::codec::{Codec, DecodeError};

/// What the tests' servers take in bytes.
pub const PACKET_BYTES_MAX: u32 = 146 * 1_024;

/// The bytes that `text` stands for.
#[track_caller]
pub fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut remaining = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match c {
            ' ' | '\n' => rest = &rest[1..],
            '\'' | '`' => {
                let (quoted, behind) = rest[1..].split_once(c).expect("closing quote");
                if c == '\'' {
                    bytes.extend_from_slice(&u16::try_from(quoted.len()).unwrap().to_be_bytes());
                }
                bytes.extend_from_slice(quoted.as_bytes());
                rest = behind;
            }
            '.' => {
                remaining = Some(bytes.len());
                rest = &rest[2..];
            }
            _ => {
                bytes.push(u8::from_str_radix(&rest[..2], 16).expect("hexadecimal"));
                rest = &rest[2..];
            }
        }
    }
    if let Some(at) = remaining {
        let mut len = bytes.len() - at;
        let mut field = Vec::new();
        while len > 0x7f {
            field.push(0x80 | u8::try_from(len & 0x7f).unwrap());
            len >>= 7;
        }
        field.push(u8::try_from(len).unwrap());
        bytes.splice(at..at, field);
    }
    bytes
}

/// A codec that has taken a CONNECT of `version`.
pub fn connected(version: Version) -> Codec {
    let connect = match version {
        Version::V311 => "10 .. 'MQTT' 04 02 0000 'c'",
        Version::V5 => "10 .. 'MQTT' 05 02 0000 00 'c'",
    };
    let connect = bytes(connect);
    let mut codec = Codec::new(PACKET_BYTES_MAX);
    codec.decode(&connect).unwrap().expect("a whole CONNECT");
    codec
}

/// Decodes `packet` as one whole packet, after CONNECT unless it is one. Every part of it that is
/// shorter must ask for more bytes, or be refused for the same reason.
#[track_caller]
pub fn decode(version: Version, packet: &[u8]) -> Result<Packet, DecodeError> {
    let codec = || match packet.first() {
        Some(0x10..=0x1f) => Codec::new(PACKET_BYTES_MAX),
        _ => connected(version),
    };
    let result = codec().decode(packet);
    for end in 0..packet.len().min(300) {
        match (codec().decode(&packet[..end]), &result) {
            (Ok(None), _) => {}
            (Err(early), Err(late)) => assert_eq!(early.reason, late.reason, "after {end} bytes"),
            (early, _) => panic!("{end} bytes of the packet gave {early:?}"),
        }
    }
    let (packet_read, len) = result?.expect("a whole packet");
    assert_eq!(len, packet.len());
    Ok(packet_read)
}
