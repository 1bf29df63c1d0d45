//! A walk over the bytes of one packet, in place.
//!
//! In: a whole packet (or a part of it with an end of its own). Out: numbers, texts and slices of
//! it, or the reason for which the packet is refused. Allocates nothing. Not here: what the
//! fields of a packet are (`decode`), which properties it may have (`property`).

use crate::codec::DecodeError;
use gnomon_core::packet::{PacketId, Reason};

/// Reads fields one after the other; offsets are counted from the packet's first byte.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    /// The packet up to the end of what may be read.
    packet: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `packet` from the byte `at`.
    pub(super) fn new(packet: &'a [u8], at: usize) -> Self {
        Self { packet, at }
    }

    /// Offset of the next byte in the packet.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.packet.len()
    }

    /// The bytes from the packet's first to the end of what may be read.
    pub(super) fn packet(&self) -> &'a [u8] {
        self.packet
    }

    pub(super) fn byte(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.take(1, what)?[0])
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        let bytes = self.take(2, what)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        let bytes = self.take(4, what)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A Variable Byte Integer of at most four bytes, and no more than it needs [MQTT-1.5.5-1].
    pub(super) fn varint(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        let start = self.at;
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte(what)?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(DecodeError::malformed(start, what));
                }
                return Ok(value);
            }
        }
        Err(DecodeError::malformed(start, what))
    }

    /// A Packet Identifier; not zero [MQTT-2.2.1-3].
    pub(super) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        let at = self.at;
        PacketId::new(self.u16("packet identifier is missing")?)
            .ok_or_else(|| DecodeError::malformed(at, "packet identifier is 0"))
    }

    /// Binary Data: two bytes of length, then that many bytes.
    pub(super) fn binary(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let start = self.at;
        let len = usize::from(self.u16(what)?);
        // A length that runs over the end is reported where it stands.
        self.take(len, what).map_err(|error| DecodeError { at: start, ..error })
    }

    /// A UTF-8 Encoded String: well formed [MQTT-1.5.4-1], without NUL [MQTT-1.5.4-2].
    pub(super) fn text(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        let bytes = self.binary(what)?;
        let start = self.at - bytes.len();
        let text = utf8(bytes, start)?;
        // Searching for its place comes second: the first search is the vectorised one.
        if bytes.contains(&0) {
            let offset = bytes.iter().position(|&byte| byte == 0).unwrap_or_default();
            return Err(DecodeError::malformed(start + offset, "text has a NUL"));
        }
        Ok(text)
    }

    /// The next `len` bytes as a walk of their own.
    pub(super) fn part(&mut self, len: usize, what: &'static str) -> Result<Self, DecodeError> {
        let at = self.at;
        self.take(len, what)?;
        Ok(Self { packet: &self.packet[..self.at], at })
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        let rest = &self.packet[self.at..];
        self.at = self.packet.len();
        rest
    }

    /// Nothing may be left.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        if self.is_empty() {
            return Ok(());
        }
        Err(DecodeError::malformed(self.at, "bytes after the packet's last field"))
    }

    #[inline]
    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        match self.packet.get(self.at..self.at + len) {
            Some(bytes) => {
                self.at += len;
                Ok(bytes)
            }
            None => Err(DecodeError::malformed(self.at, what)),
        }
    }
}

/// `bytes`, which begin at the packet's byte `start`, as text [MQTT-1.5.4-1].
pub(super) fn utf8(bytes: &[u8], start: usize) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|error| {
        DecodeError::malformed(start + error.valid_up_to(), "text is not well-formed UTF-8")
    })
}

impl DecodeError {
    /// 0x81: the bytes cannot be read as the standard says.
    #[cold]
    pub(super) fn malformed(at: usize, what: &'static str) -> Self {
        Self { reason: Reason::MalformedPacket, what, at, version: None }
    }

    /// 0x82: the packet can be read, but must not be sent, or not with this value.
    #[cold]
    pub(super) fn protocol(at: usize, what: &'static str) -> Self {
        Self { reason: Reason::ProtocolError, what, at, version: None }
    }
}
