//! Packets to a client, appended to the connection's output.
//!
//! In: a packet as a value. Out: its bytes at the end of a buffer; on an error the caller
//! (`codec`) takes back what was appended. Not here: who may be sent what (`session`).

use crate::codec::EncodeError;
use crate::codec::property::{self, Count, Sink};
use crate::codec::reason::{self, Sender};
use bytes::BytesMut;
use gnomon_core::message::QoS;
use gnomon_core::packet::{Ack, Auth, ConnAck, Delivered, Disconnect, Reason, SubAck, Version};

/// Largest Remaining Length (2.1.4).
const REMAINING_BYTES_MAX: usize = 268_435_455;

/// PUBLISH, straight from the shared message.
#[inline]
pub(super) fn publish(
    version: Version,
    delivered: &Delivered,
    buffer: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let message = &*delivered.message;
    let sizes = PublishSizes::of(version, delivered)?;
    buffer.reserve(sizes.packet());
    let flags =
        u8::from(delivered.dup) << 3 | (delivered.qos as u8) << 1 | u8::from(delivered.retain);
    buffer.push(0x30 | flags);
    buffer.put_varint(sizes.remaining);
    buffer.put_field(topic(delivered).as_bytes())?;
    if delivered.qos != QoS::AtMostOnce {
        let id = delivered.packet_id.ok_or(EncodeError::NoPacketId)?;
        buffer.extend_from_slice(&id.get().to_be_bytes());
    }
    if version == Version::V5 {
        buffer.put_varint(sizes.properties);
        if sizes.properties > 0 {
            publish_properties(delivered, buffer)?;
        }
    }
    buffer.extend_from_slice(&message.payload);
    Ok(())
}

/// What stands in the length fields of a PUBLISH.
pub(super) struct PublishSizes {
    remaining: u32,
    properties: u32,
}

impl PublishSizes {
    #[inline]
    pub(super) fn of(version: Version, delivered: &Delivered) -> Result<Self, EncodeError> {
        let message = &*delivered.message;
        let mut remaining = 2 + topic(delivered).len() + message.payload.len();
        if delivered.qos != QoS::AtMostOnce {
            remaining += 2;
        }
        let mut properties = 0;
        if version == Version::V5 {
            let mut count = Count::default();
            publish_properties(delivered, &mut count)?;
            properties = length(count.0)?;
            remaining += count.0 + varint_bytes(properties);
        }
        Ok(Self { remaining: length(remaining)?, properties })
    }

    /// Bytes of the whole packet.
    pub(super) fn packet(&self) -> usize {
        1 + varint_bytes(self.remaining) + self.remaining as usize
    }
}

/// The topic as it is sent: a known alias stands for it (3.3.2.1).
fn topic(delivered: &Delivered) -> &str {
    match delivered.alias {
        Some(alias) if !alias.is_new => "",
        _ => delivered.message.topic.as_str(),
    }
}

/// In mqttbytes' order, as everywhere. The expiry is what the delivery has left of it
/// [MQTT-3.3.2-6].
fn publish_properties<S: Sink>(delivered: &Delivered, sink: &mut S) -> Result<(), EncodeError> {
    let properties = delivered.message.properties.as_deref();
    if properties.is_some_and(|properties| properties.payload_is_utf8) {
        sink.put_byte(property::PAYLOAD_FORMAT, 1);
    }
    if let Some(seconds) = delivered.expiry_s {
        sink.put_u32(property::MESSAGE_EXPIRY, seconds);
    }
    if let Some(alias) = delivered.alias {
        sink.put_u16(property::TOPIC_ALIAS, alias.number.get());
    }
    if let Some(properties) = properties {
        if let Some(topic) = &properties.response_topic {
            sink.put_text(property::RESPONSE_TOPIC, topic.as_str())?;
        }
        if let Some(bytes) = &properties.correlation_data {
            sink.put_binary(property::CORRELATION_DATA, bytes)?;
        }
        sink.put_user(&properties.user)?;
    }
    for id in &delivered.subscription_ids {
        sink.put(&[property::SUBSCRIPTION_ID]);
        sink.put_varint(id.get());
    }
    if let Some(text) = properties.and_then(|properties| properties.content_type.as_ref()) {
        sink.put_text(property::CONTENT_TYPE, text)?;
    }
    Ok(())
}

/// CONNACK. In 3.1.1 nothing when it has no return code for the reason.
pub(super) fn connack(
    version: Version,
    connack: &ConnAck,
    buffer: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    // [MQTT-3.2.2-6]; 3.1.1 [MQTT-3.2.2-4]: a refusal says no session present.
    let session_present = connack.session_present && connack.reason == Reason::Success;
    if version == Version::V311 {
        let Some(code) = reason::return_code(connack.reason) else { return Ok(()) };
        let packet = mqttbytes::v4::ConnAck::new(code, session_present);
        return append(buffer, |bytes| packet.write(bytes));
    }
    check_reason(0x20, connack.reason)?;
    let mut properties = Vec::new();
    connack_properties(connack, &mut properties)?;
    let body = [u8::from(session_present), connack.reason as u8];
    with_properties(0x20, &body, &properties, buffer)
}

fn connack_properties(connack: &ConnAck, sink: &mut Vec<u8>) -> Result<(), EncodeError> {
    if let Some(seconds) = connack.session_expiry_s {
        sink.put_u32(property::SESSION_EXPIRY, seconds);
    }
    if let Some(maximum) = connack.receive_maximum {
        sink.put_u16(property::RECEIVE_MAXIMUM, maximum.get());
    }
    if let Some(qos) = connack.maximum_qos {
        // 3.2.2.3.4: a server that takes QoS 2 has no Maximum QoS.
        if qos != QoS::ExactlyOnce {
            sink.put_byte(property::MAXIMUM_QOS, qos as u8);
        }
    }
    put_flag(property::RETAIN_AVAILABLE, connack.retain_available, sink);
    if let Some(bytes) = connack.maximum_packet_size {
        sink.put_u32(property::MAXIMUM_PACKET_SIZE, bytes);
    }
    if let Some(id) = &connack.assigned_client_id {
        sink.put_text(property::ASSIGNED_CLIENT_ID, id.as_str())?;
    }
    if let Some(maximum) = connack.topic_alias_maximum {
        sink.put_u16(property::TOPIC_ALIAS_MAXIMUM, maximum);
    }
    put_text(property::REASON_STRING, connack.reason_string.as_deref(), sink)?;
    sink.put_user(&connack.user_properties)?;
    let wildcards = connack.wildcard_subscription_available;
    put_flag(property::WILDCARD_SUBSCRIPTION_AVAILABLE, wildcards, sink);
    put_flag(property::SUBSCRIPTION_IDS_AVAILABLE, connack.subscription_ids_available, sink);
    put_flag(property::SHARED_SUBSCRIPTION_AVAILABLE, connack.shared_subscription_available, sink);
    if let Some(seconds) = connack.server_keep_alive_s {
        sink.put_u16(property::SERVER_KEEP_ALIVE, seconds);
    }
    put_text(property::RESPONSE_INFORMATION, connack.response_information.as_deref(), sink)?;
    put_text(property::SERVER_REFERENCE, connack.server_reference.as_deref(), sink)?;
    if let Some((method, data)) = &connack.authentication {
        sink.put_text(property::AUTHENTICATION_METHOD, method)?;
        // Empty data is as good as none, which `Connect` does not tell apart either.
        if !data.is_empty() {
            sink.put_binary(property::AUTHENTICATION_DATA, data)?;
        }
    }
    Ok(())
}

fn put_flag(identifier: u8, value: Option<bool>, sink: &mut Vec<u8>) {
    if let Some(value) = value {
        sink.put_byte(identifier, u8::from(value));
    }
}

fn put_text(identifier: u8, value: Option<&str>, sink: &mut Vec<u8>) -> Result<(), EncodeError> {
    match value {
        Some(text) => sink.put_text(identifier, text),
        None => Ok(()),
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP. 3.1.1 has no reason: the bare acknowledgement is written.
#[inline]
pub(super) fn ack(
    version: Version,
    first: u8,
    ack: &Ack,
    buffer: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let [high, low] = ack.packet_id.get().to_be_bytes();
    if ack.reason == Reason::Success || version == Version::V311 {
        buffer.extend_from_slice(&[first, 2, high, low]);
        return Ok(());
    }
    check_reason(first, ack.reason)?;
    buffer.extend_from_slice(&[first, 3, high, low, ack.reason as u8]);
    Ok(())
}

/// SUBACK. 3.1.1 has one failure, 0x80.
pub(super) fn suback(
    version: Version,
    suback: &SubAck,
    buffer: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let id = suback.packet_id.get();
    match version {
        Version::V311 => {
            let codes = convert(&suback.reasons, |code| (code.min(0x80)).try_into().ok())?;
            let packet = mqttbytes::v4::SubAck::new(id, codes);
            append(buffer, |bytes| packet.write(bytes))
        }
        Version::V5 => {
            let codes = convert(&suback.reasons, |code| code.try_into().ok())?;
            let packet = mqttbytes::v5::SubAck::new(id, codes);
            append(buffer, |bytes| packet.write(bytes))
        }
    }
}

/// UNSUBACK. 3.1.1 has no reasons.
pub(super) fn unsuback(
    version: Version,
    unsuback: &SubAck,
    buffer: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    use mqttbytes::v5::UnsubAckReason as Code;
    let id = unsuback.packet_id.get();
    if version == Version::V311 {
        let packet = mqttbytes::v4::UnsubAck::new(id);
        return append(buffer, |bytes| packet.write(bytes));
    }
    let mut packet = mqttbytes::v5::UnsubAck::new(id);
    packet.reasons = convert(&unsuback.reasons, |code| {
        [
            Code::Success,
            Code::NoSubscriptionExisted,
            Code::UnspecifiedError,
            Code::ImplementationSpecificError,
            Code::NotAuthorized,
            Code::TopicFilterInvalid,
            Code::PacketIdentifierInUse,
        ]
        .into_iter()
        .find(|&known| known as u8 == code)
    })?;
    append(buffer, |bytes| packet.write(bytes))
}

pub(super) fn pingresp(buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
    append(buffer, |bytes| mqttbytes::v5::PingResp.write(bytes))
}

/// DISCONNECT. Nothing in 3.1.1: there it is the client's.
pub(super) fn disconnect(
    version: Version,
    disconnect: &Disconnect,
    buffer: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if version == Version::V311 {
        return Ok(());
    }
    check_reason(0xe0, disconnect.reason)?;
    if disconnect.session_expiry_s.is_some() {
        // [MQTT-3.14.2-2]
        return Err(EncodeError::ClientOnly { packet: "session expiry in DISCONNECT" });
    }
    let Some(text) = &disconnect.reason_string else {
        match disconnect.reason {
            Reason::Success => buffer.extend_from_slice(&[0xe0, 0]),
            reason => buffer.extend_from_slice(&[0xe0, 1, reason as u8]),
        }
        return Ok(());
    };
    let mut properties = Vec::new();
    properties.put_text(property::REASON_STRING, text)?;
    with_properties(0xe0, &[disconnect.reason as u8], &properties, buffer)
}

/// AUTH; there is none in 3.1.1.
pub(super) fn auth(version: Version, auth: &Auth, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
    if version == Version::V311 {
        return Err(EncodeError::NotInVersion { packet: "AUTH" });
    }
    check_reason(0xf0, auth.reason)?;
    let mut properties = Vec::new();
    if let Some(method) = &auth.method {
        properties.put_text(property::AUTHENTICATION_METHOD, method)?;
    }
    if let Some(data) = &auth.data {
        properties.put_binary(property::AUTHENTICATION_DATA, data)?;
    }
    with_properties(0xf0, &[auth.reason as u8], &properties, buffer)
}

/// A packet of a fixed body and properties.
fn with_properties(
    first: u8,
    body: &[u8],
    properties: &[u8],
    buffer: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let properties_len = length(properties.len())?;
    let remaining = length(body.len() + varint_bytes(properties_len) + properties.len())?;
    buffer.push(first);
    buffer.put_varint(remaining);
    buffer.extend_from_slice(body);
    buffer.put_varint(properties_len);
    buffer.extend_from_slice(properties);
    Ok(())
}

/// Lets mqttbytes write, into a buffer of its own: a failed write leaves garbage there.
fn append(
    buffer: &mut Vec<u8>,
    write: impl FnOnce(&mut BytesMut) -> Result<usize, mqttbytes::Error>,
) -> Result<(), EncodeError> {
    let mut bytes = BytesMut::new();
    write(&mut bytes).map_err(|_| EncodeError::TooLarge { bytes: bytes.len() })?;
    buffer.extend_from_slice(&bytes);
    Ok(())
}

fn convert<T>(reasons: &[Reason], code: impl Fn(u8) -> Option<T>) -> Result<Vec<T>, EncodeError> {
    reasons.iter().map(|&reason| code(reason as u8).ok_or(EncodeError::Reason { reason })).collect()
}

fn check_reason(first: u8, reason: Reason) -> Result<(), EncodeError> {
    match reason::is_allowed(first, reason, Sender::Server) {
        true => Ok(()),
        false => Err(EncodeError::Reason { reason }),
    }
}

/// `bytes` as a length that a packet can have.
fn length(bytes: usize) -> Result<u32, EncodeError> {
    match u32::try_from(bytes) {
        Ok(len) if bytes <= REMAINING_BYTES_MAX => Ok(len),
        _ => Err(EncodeError::TooLarge { bytes }),
    }
}

/// Bytes of a Variable Byte Integer (1.5.5).
fn varint_bytes(value: u32) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}
