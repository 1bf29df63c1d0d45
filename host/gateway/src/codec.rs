//! The MQTT codec of one connection: bytes to packets and back, 3.1.1 and 5.0.
//!
//! In: the bytes that a socket has, packets of the session. Out: checked packets, bytes. Not
//! here: the order of packets (`gnomon_core::session`), limits on names and payloads
//! (`gnomon_core::limits`), sockets (`connection`).
//!
//! Only this file and the modules below it name mqttbytes, the codec crate that Gnomon is built
//! on. It has not been maintained since 2021, so a strict check of our own stands in front:
//! `frame` and `property` walk over a packet in place, allocate nothing, and say for which
//! reason it is refused. Behind it:
//!
//! | from mqttbytes | ours | because mqttbytes |
//! |---|---|---|
//! | framing of every packet (`check`) | flags, over-long lengths, AUTH | does not check them |
//! | SUBSCRIBE | UNSUBSCRIBE | prints a line for every v5 UNSUBSCRIBE |
//! | | CONNECT | takes no binary password and no empty user name |
//! | CONNACK 3.1.1 | CONNACK 5.0 | loses an empty Property Length |
//! | SUBACK, UNSUBACK, PINGRESP | DISCONNECT, AUTH | loses the reason; has no AUTH |
//! | | PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP | copies topic and frame on the hot path, and keeps the read buffer alive by its payload |
//!
//! Its topic helpers are never called (clippy `disallowed-methods`), nor its v5 UNSUBSCRIBE.

mod decode;
mod encode;
mod frame;
mod property;
mod reason;

use crate::codec::frame::Reader;
use gnomon_core::packet::{Delivered, Packet, Reason, Version};
use gnomon_core::topic::TopicName;
use mqttbytes::FixedHeader;

/// Why bytes are refused. The connection is to be closed, after the packet that says `reason`:
/// CONNACK before CONNECT was accepted, else DISCONNECT (both through [`Codec::encode`], which
/// knows what each version can say).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at byte {at} of the packet ({reason:?})")]
pub struct DecodeError {
    /// For DISCONNECT or CONNACK.
    pub reason: Reason,
    /// What is wrong; never text of the packet.
    pub what: &'static str,
    /// Offset in the packet, from its first byte.
    pub at: usize,
    /// In whose form the peer understands an answer; `None` when it spoke no MQTT.
    pub version: Option<Version>,
}

/// Why a packet cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Nothing can hold it; drop it.
    #[error("packet has {bytes} bytes; at most 268435455 can be sent")]
    TooLarge {
        /// Remaining Length that it would have.
        bytes: usize,
    },
    /// A text or binary field is too long; shorten it or leave it out.
    #[error("field has {bytes} bytes; at most 65535 can be sent")]
    FieldTooLong {
        /// Length of the field.
        bytes: usize,
    },
    /// A text has a NUL, for which the receiver would close [MQTT-1.5.4-2].
    #[error("text has a NUL; a receiver would close its connection")]
    Nul,
    /// PUBLISH with QoS above 0 without a packet identifier: a mistake of the caller.
    #[error("PUBLISH with QoS 1 or 2 has no packet identifier")]
    NoPacketId,
    /// The standard does not have this reason in this packet: a mistake of the caller.
    #[error("reason {reason:?} does not stand in this packet")]
    Reason {
        /// The reason.
        reason: Reason,
    },
    /// A server does not send this: a mistake of the caller.
    #[error("{packet} is sent by clients only")]
    ClientOnly {
        /// Its name.
        packet: &'static str,
    },
    /// The connection's version does not have this packet: a mistake of the caller.
    #[error("{packet} does not exist in the connection's version of MQTT")]
    NotInVersion {
        /// Its name.
        packet: &'static str,
    },
    /// Before CONNECT nothing can be sent: a mistake of the caller.
    #[error("the connection's version of MQTT is not known before CONNECT")]
    NoVersion,
}

/// The codec of one connection. It stays in memory for every idle connection, so it is small.
#[derive(Debug)]
pub struct Codec {
    /// Topic of the last PUBLISH: a device publishes to few, and the next is often the same.
    last_topic: Option<TopicName>,
    packet_bytes_max: u32,
    version: Option<Version>,
    /// A CONNECT was decoded.
    connected: bool,
}

impl Codec {
    /// A codec for a new connection that takes packets of up to `packet_bytes_max` bytes, fixed
    /// header included.
    pub fn new(packet_bytes_max: u32) -> Self {
        Self { last_topic: None, packet_bytes_max, version: None, connected: false }
    }

    /// The version that the peer's CONNECT fixed; also when that CONNECT was refused, for then
    /// the refusal has this form. `None` before, and when the peer speaks no MQTT.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Decodes the first packet of `bytes`: the packet, and how many bytes it took. `Ok(None)`
    /// when more bytes are needed.
    ///
    /// The first packet must be CONNECT and there is only one. The payload is copied: nothing
    /// of what is returned refers to `bytes`.
    ///
    /// # Errors
    /// As soon as the bytes that are there suffice to say so: a wrong first byte, and a length
    /// beyond the limit, are refused before the rest of the packet has come.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Option<(Packet, usize)>, DecodeError> {
        self.decode_first(bytes).map_err(|error| {
            self.version = self.version.or(error.version);
            DecodeError { version: self.version, ..error }
        })
    }

    fn decode_first(&mut self, bytes: &[u8]) -> Result<Option<(Packet, usize)>, DecodeError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        self.check_first_byte(first)?;
        let Some((header, header_bytes)) = self.check_frame(bytes)? else { return Ok(None) };
        let packet_bytes = header.frame_length();
        let mut reader = Reader::new(&bytes[..packet_bytes], header_bytes);
        let packet = self.decode_packet(first, header, &mut reader)?;
        Ok(Some((packet, packet_bytes)))
    }

    /// Packet type and flags [MQTT-2.1.3-1], and whether the packet may come now.
    fn check_first_byte(&self, first: u8) -> Result<(), DecodeError> {
        match (first, self.connected) {
            (0x30..=0x3f, true) => {
                if first & 0x06 == 0x06 {
                    return Err(DecodeError::malformed(0, "QoS is 3")); // [MQTT-3.3.1-4]
                }
                if first & 0x0e == 0x08 {
                    return Err(DecodeError::malformed(0, "DUP with QoS 0")); // [MQTT-3.3.1-2]
                }
                Ok(())
            }
            (0x40 | 0x50 | 0x62 | 0x70 | 0x82 | 0xa2 | 0xc0 | 0xe0, true) | (0x10, false) => Ok(()),
            (0xf0, true) if self.version == Some(Version::V5) => Ok(()),
            (_, false) => {
                // [MQTT-3.1.0-1]
                Err(DecodeError::protocol(0, "the first packet is not CONNECT"))
            }
            // [MQTT-3.1.0-2]
            (0x10, true) => Err(DecodeError::protocol(0, "a second CONNECT")),
            (0x20 | 0x90 | 0xb0 | 0xd0, true) => {
                Err(DecodeError::protocol(0, "packet that only a server sends"))
            }
            _ => Err(DecodeError::malformed(0, "packet type or flags are reserved")),
        }
    }

    /// The fixed header and its length once the whole packet is there.
    fn check_frame(&self, bytes: &[u8]) -> Result<Option<(FixedHeader, usize)>, DecodeError> {
        let max = self.packet_bytes_max as usize;
        let too_large = || DecodeError {
            reason: Reason::PacketTooLarge,
            ..DecodeError::protocol(1, "packet is longer than the server takes")
        };
        let header = match mqttbytes::check(bytes.iter(), max) {
            Ok(header) if header.frame_length() <= max => header,
            Err(mqttbytes::Error::InsufficientBytes(missing)) if bytes.len() + missing <= max => {
                return Ok(None);
            }
            Err(mqttbytes::Error::MalformedRemainingLength) => {
                return Err(DecodeError::malformed(1, "remaining length has more than four bytes"));
            }
            _ => return Err(too_large()),
        };
        let length = bytes[1..].iter().take_while(|&byte| byte & 0x80 != 0).count() + 1;
        if length > 1 && bytes[length] == 0 {
            // [MQTT-1.5.5-1]
            return Err(DecodeError::malformed(
                1,
                "remaining length is longer than it needs to be",
            ));
        }
        Ok(Some((header, 1 + length)))
    }

    fn decode_packet(
        &mut self,
        first: u8,
        header: FixedHeader,
        reader: &mut Reader<'_>,
    ) -> Result<Packet, DecodeError> {
        let Some(version) = self.version.filter(|_| self.connected) else {
            let version = decode::protocol(reader)?;
            // Fixed before the rest is read: a refusal has this version's form.
            self.version = Some(version);
            let connect = decode::connect(version, reader)?;
            self.connected = true;
            return Ok(Packet::Connect(Box::new(connect)));
        };
        Ok(match first >> 4 {
            3 => Packet::Publish(decode::publish(version, first, reader, &mut self.last_topic)?),
            4 => Packet::PubAck(decode::ack(version, first, reader)?),
            5 => Packet::PubRec(decode::ack(version, first, reader)?),
            6 => Packet::PubRel(decode::ack(version, first, reader)?),
            7 => Packet::PubComp(decode::ack(version, first, reader)?),
            8 => Packet::Subscribe(Box::new(decode::subscribe(version, header, reader)?)),
            10 => Packet::Unsubscribe(Box::new(decode::unsubscribe(version, reader)?)),
            12 => {
                reader.finish()?;
                Packet::PingReq
            }
            14 => Packet::Disconnect(Box::new(decode::disconnect(version, first, reader)?)),
            // `check_first_byte` lets nothing else through.
            _ => Packet::Auth(Box::new(decode::auth(first, reader)?)),
        })
    }

    /// Appends `packet` to `buffer`.
    ///
    /// What 3.1.1 cannot say is left out: nothing is written for DISCONNECT (there it is the
    /// client's) and for a CONNACK without a fitting return code, and nothing for either when
    /// the peer's version is unknown. So an error of `decode` can always be answered through
    /// this, and the connection then closed.
    ///
    /// # Errors
    /// The packet cannot be sent; `buffer` is then as before.
    pub fn encode(&self, packet: &Packet, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = buffer.len();
        self.append(packet, buffer).inspect_err(|_| buffer.truncate(start))
    }

    fn append(&self, packet: &Packet, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
        let Some(version) = self.version else {
            return match packet {
                Packet::ConnAck(_) | Packet::Disconnect(_) => Ok(()),
                _ => Err(EncodeError::NoVersion),
            };
        };
        let client_only = |packet| Err(EncodeError::ClientOnly { packet });
        match packet {
            Packet::ConnAck(connack) => encode::connack(version, connack, buffer),
            Packet::PubAck(ack) => encode::ack(version, 0x40, ack, buffer),
            Packet::PubRec(ack) => encode::ack(version, 0x50, ack, buffer),
            Packet::PubRel(ack) => encode::ack(version, 0x62, ack, buffer),
            Packet::PubComp(ack) => encode::ack(version, 0x70, ack, buffer),
            Packet::SubAck(suback) => encode::suback(version, suback, buffer),
            Packet::UnsubAck(unsuback) => encode::unsuback(version, unsuback, buffer),
            Packet::PingResp => encode::pingresp(buffer),
            Packet::Disconnect(disconnect) => encode::disconnect(version, disconnect, buffer),
            Packet::Auth(auth) => encode::auth(version, auth, buffer),
            Packet::Connect(_) => client_only("CONNECT"),
            // To a client a PUBLISH is a `Delivered`.
            Packet::Publish(_) => client_only("PUBLISH as a packet"),
            Packet::Subscribe(_) => client_only("SUBSCRIBE"),
            Packet::Unsubscribe(_) => client_only("UNSUBSCRIBE"),
            Packet::PingReq => client_only("PINGREQ"),
        }
    }

    /// Appends a PUBLISH to the client: topic, properties and payload of the shared message.
    ///
    /// # Errors
    /// The message cannot be sent; `buffer` is then as before.
    pub fn encode_publish(
        &self,
        delivered: &Delivered,
        buffer: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let start = buffer.len();
        let version = self.version.ok_or(EncodeError::NoVersion)?;
        encode::publish(version, delivered, buffer).inspect_err(|_| buffer.truncate(start))
    }
}
