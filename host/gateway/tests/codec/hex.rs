//! Packets as text: hexadecimal digits, `'text'` for a text with its two bytes of length in front,
//! the same in backticks for the text alone, `..` for the Remaining Length, `[` and `]` around
//! properties for the Property Length in front of them, spaces for the eye.

use gnomon_core::packet::{Packet, Version};
use gnomon_gateway::codec::{Codec, DecodeError};

/// What the tests' servers take in bytes.
pub const PACKET_BYTES_MAX: u32 = 146 * 1_024;

/// The bytes that `text` stands for.
#[track_caller]
pub fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut remaining = None;
    let mut properties = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut used = 1;
        match c {
            ' ' | '\n' => {}
            '\'' | '`' => {
                let (quoted, _) = rest[1..].split_once(c).expect("closing quote");
                if c == '\'' {
                    bytes.extend_from_slice(&u16::try_from(quoted.len()).unwrap().to_be_bytes());
                }
                bytes.extend_from_slice(quoted.as_bytes());
                used = quoted.len() + 2;
            }
            '[' => properties = Some(bytes.len()),
            ']' => insert_len(&mut bytes, properties.expect("opening bracket")),
            _ => {
                match &rest[..2] {
                    ".." => remaining = Some(bytes.len()),
                    digits => bytes.push(u8::from_str_radix(digits, 16).expect("hexadecimal")),
                }
                used = 2;
            }
        }
        rest = &rest[used..];
    }
    if let Some(at) = remaining {
        insert_len(&mut bytes, at);
    }
    bytes
}

/// Puts the number of bytes from `at` to the end in front of them.
fn insert_len(bytes: &mut Vec<u8>, at: usize) {
    let mut len = bytes.len() - at;
    let mut field = Vec::new();
    while len > 0x7f {
        field.push(0x80 | u8::try_from(len & 0x7f).unwrap());
        len >>= 7;
    }
    field.push(u8::try_from(len).unwrap());
    bytes.splice(at..at, field);
}

/// A codec that has taken a CONNECT of `version`.
pub fn connected(version: Version) -> Codec {
    let connect = match version {
        Version::V311 => "10 .. 'MQTT' 04 02 0000 'c'",
        Version::V5 => "10 .. 'MQTT' 05 02 0000 [] 'c'",
    };
    let mut codec = Codec::new(PACKET_BYTES_MAX);
    codec.decode(&bytes(connect)).unwrap().expect("a whole CONNECT");
    codec
}

/// A codec that waits for `packet`: fresh for CONNECT, else connected.
pub fn codec_for(version: Version, packet: &[u8]) -> Codec {
    match packet.first() {
        Some(0x10..=0x1f) => Codec::new(PACKET_BYTES_MAX),
        _ => connected(version),
    }
}

/// Decodes `packet` as one whole packet. Every part of it that is shorter must ask for more
/// bytes, or be refused for the same reason.
#[track_caller]
pub fn decode(version: Version, packet: &[u8]) -> Result<Packet, DecodeError> {
    let result = codec_for(version, packet).decode(packet);
    for end in 0..packet.len().min(300) {
        match (codec_for(version, packet).decode(&packet[..end]), &result) {
            (Ok(None), _) => {}
            (Err(early), Err(late)) => assert_eq!(early.reason, late.reason, "after {end} bytes"),
            (early, _) => panic!("{end} bytes of the packet gave {early:?}"),
        }
    }
    let (decoded, len) = result?.expect("a whole packet");
    assert_eq!(len, packet.len());
    Ok(decoded)
}
