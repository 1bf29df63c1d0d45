//! Packets from a client: each is checked to its last byte before anything is allocated for it.
//!
//! In: the walk over a whole packet, behind its fixed header. Out: the packet as a value, or the
//! reason for which it is refused. Not here: the fixed header and PUBLISH's topic cache (`codec`).

use crate::codec::DecodeError;
use crate::codec::frame::{Reader, utf8};
use crate::codec::property::{
    self, AUTHENTICATION_DATA, AUTHENTICATION_METHOD, Property, SUBSCRIPTION_ID, Section,
};
use crate::codec::reason::{self, Sender};
use bytes::Bytes;
use gnomon_core::ids::ClientId;
use gnomon_core::message::{Properties, QoS};
use gnomon_core::packet::{
    Ack, Auth, Connect, Disconnect, Publish, Reason, RetainHandling, Subscribe, SubscribeOptions,
    Unsubscribe, UserProperties, Version, Will,
};
use gnomon_core::topic::{TopicFilter, TopicName};
use mqttbytes::FixedHeader;
use mqttbytes::v5::RetainForwardRule;
use std::num::NonZeroU16;

/// Reads CONNECT's protocol name and level [MQTT-3.1.2-1], [MQTT-3.1.2-2].
///
/// The error carries the version in whose form the peer understands a CONNACK.
pub(super) fn protocol(reader: &mut Reader<'_>) -> Result<Version, DecodeError> {
    let at = reader.at();
    let name = reader.binary("protocol name is missing")?;
    let level = reader.byte("protocol level is missing")?;
    let version = match (name, level) {
        (b"MQTT", 4) => return Ok(Version::V311),
        (b"MQTT", 5) => return Ok(Version::V5),
        // MQTT 3.1. Its CONNACK is that of 3.1.1.
        (b"MQIsdp", _) => Some(Version::V311),
        // The highest bit is how bridges of some brokers say that they are one; they try again
        // without it when they are told 0x01.
        (b"MQTT", level) if level & 0x7f <= 4 => Some(Version::V311),
        (b"MQTT", _) => Some(Version::V5),
        _ => None,
    };
    let reason = Reason::UnsupportedProtocolVersion;
    Err(DecodeError { reason, what: "protocol is neither MQTT 3.1.1 nor MQTT 5.0", at, version })
}

/// CONNECT behind its protocol level.
pub(super) fn connect(version: Version, reader: &mut Reader<'_>) -> Result<Connect, DecodeError> {
    let flags = ConnectFlags::read(version, reader)?;
    let keep_alive_s = reader.u16("keep-alive is missing")?;
    let section = section(version, reader, property::IN_CONNECT)?;
    if section.has(AUTHENTICATION_DATA) && !section.has(AUTHENTICATION_METHOD) {
        let what = "authentication data without authentication method";
        return Err(DecodeError::protocol(reader.at(), what));
    }
    let client_id = reader.text("client id is missing")?;
    let client_id_at = reader.at() - client_id.len();
    let will = if flags.will { Some(WillFields::read(version, reader)?) } else { None };
    let username = if flags.username { Some(reader.text("user name is missing")?) } else { None };
    let password = if flags.password { Some(reader.binary("password is missing")?) } else { None };
    reader.finish()?;

    let client_id = if client_id.is_empty() {
        None
    } else {
        Some(ClientId::parse(client_id).map_err(|_| DecodeError {
            reason: Reason::ClientIdNotValid,
            ..DecodeError::malformed(client_id_at, "client id has a control character")
        })?)
    };
    let will = match will {
        Some(fields) => Some(Box::new(fields.build(&flags)?)),
        None => None,
    };
    let mut connect = Connect {
        version,
        clean_start: flags.clean_start,
        keep_alive_s,
        client_id,
        username: username.map(Into::into),
        password: password.map(Bytes::copy_from_slice),
        will,
        session_expiry_s: match version {
            Version::V311 if !flags.clean_start => u32::MAX,
            _ => 0,
        },
        receive_maximum: None,
        maximum_packet_size: None,
        topic_alias_maximum: 0,
        request_response_information: false,
        request_problem_information: true,
        authentication: None,
        user_properties: UserProperties::new(),
    };
    set_connect_properties(&mut connect, section);
    Ok(connect)
}

fn set_connect_properties(connect: &mut Connect, section: Section<'_>) {
    let (mut method, mut data) = (None, Bytes::new());
    for property in section {
        match property {
            Property::SessionExpiry(seconds) => connect.session_expiry_s = seconds,
            Property::ReceiveMaximum(maximum) => connect.receive_maximum = Some(maximum),
            Property::MaximumPacketSize(bytes) => connect.maximum_packet_size = Some(bytes),
            Property::TopicAliasMaximum(maximum) => connect.topic_alias_maximum = maximum,
            Property::RequestResponseInformation(on) => connect.request_response_information = on,
            Property::RequestProblemInformation(on) => connect.request_problem_information = on,
            Property::AuthenticationMethod(text) => method = Some(text.into()),
            Property::AuthenticationData(bytes) => data = Bytes::copy_from_slice(bytes),
            Property::User(key, value) => {
                connect.user_properties.push((key.into(), value.into()));
            }
            _ => {}
        }
    }
    connect.authentication = method.map(|method| (method, data));
}

/// Connect Flags (3.1.2.3).
struct ConnectFlags {
    username: bool,
    password: bool,
    will_retain: bool,
    will_qos: QoS,
    will: bool,
    clean_start: bool,
}

impl ConnectFlags {
    fn read(version: Version, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = reader.at();
        let byte = reader.byte("connect flags are missing")?;
        let refuse = |what| Err(DecodeError::malformed(at, what));
        if byte & 0x01 != 0 {
            return refuse("reserved connect flag is set"); // [MQTT-3.1.2-3]
        }
        let Some(will_qos) = qos(byte >> 3) else {
            return refuse("will QoS is 3"); // [MQTT-3.1.2-12]
        };
        let flags = Self {
            username: byte & 0x80 != 0,
            password: byte & 0x40 != 0,
            will_retain: byte & 0x20 != 0,
            will_qos,
            will: byte & 0x04 != 0,
            clean_start: byte & 0x02 != 0,
        };
        if !flags.will && byte & 0x38 != 0 {
            return refuse("will QoS or will retain without will flag"); // [MQTT-3.1.2-11], -13
        }
        if version == Version::V311 && flags.password && !flags.username {
            return refuse("password without user name"); // 3.1.1 [MQTT-3.1.2-22]
        }
        Ok(flags)
    }
}

/// The will as it stands in the packet.
struct WillFields<'a> {
    section: Section<'a>,
    topic: &'a str,
    topic_at: usize,
    payload: &'a [u8],
}

impl<'a> WillFields<'a> {
    fn read(version: Version, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let section = section(version, reader, property::IN_WILL)?;
        let topic = reader.text("will topic is missing")?;
        let topic_at = reader.at() - topic.len();
        let payload = reader.binary("will payload is missing")?;
        Ok(Self { section, topic, topic_at, payload })
    }

    fn build(self, flags: &ConnectFlags) -> Result<Will, DecodeError> {
        let topic = topic_name(self.topic, self.topic_at)?;
        let received = message_properties(self.section)?;
        Ok(Will {
            topic,
            payload: Bytes::copy_from_slice(self.payload),
            qos: flags.will_qos,
            retain: flags.will_retain,
            delay_s: received.will_delay_s,
            properties: received.properties,
        })
    }
}

/// PUBLISH whose topic name is in `last_topic` when it is the same as in the PUBLISH before.
#[inline]
pub(super) fn publish(
    version: Version,
    first: u8,
    reader: &mut Reader<'_>,
    last_topic: &mut Option<TopicName>,
) -> Result<Publish, DecodeError> {
    let name = reader.binary("topic name is missing")?;
    let name_at = reader.at() - name.len();
    let qos = qos(first >> 1).ok_or_else(|| DecodeError::malformed(0, "QoS is 3"))?;
    let packet_id = match qos {
        QoS::AtMostOnce => None,
        _ => Some(reader.packet_id()?),
    };
    let mut received = Received::default();
    if version == Version::V5 {
        let section = Section::read(reader, property::IN_PUBLISH)?;
        if !section.is_empty() {
            if section.has(SUBSCRIPTION_ID) {
                let what = "subscription identifier in a client's PUBLISH"; // [MQTT-3.3.4-6]
                return Err(DecodeError::protocol(name_at + name.len(), what));
            }
            received = message_properties(section)?;
        }
    }
    let topic = match last_topic {
        Some(last) if last.as_str().as_bytes() == name => Some(last.clone()),
        _ if name.is_empty() && version == Version::V5 => {
            if received.topic_alias.is_none() {
                let what = "neither topic name nor topic alias"; // 3.3.2.1
                return Err(DecodeError::protocol(name_at, what));
            }
            None
        }
        _ => {
            let topic = topic_name(utf8(name, name_at)?, name_at)?;
            *last_topic = Some(topic.clone());
            Some(topic)
        }
    };
    Ok(Publish {
        dup: first & 0x08 != 0,
        qos,
        retain: first & 0x01 != 0,
        topic,
        packet_id,
        topic_alias: received.topic_alias,
        payload: Bytes::copy_from_slice(reader.rest()),
        properties: received.properties,
    })
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP: MQTT 5 may leave out reason and properties.
#[inline]
pub(super) fn ack(
    version: Version,
    first: u8,
    reader: &mut Reader<'_>,
) -> Result<Ack, DecodeError> {
    let packet_id = reader.packet_id()?;
    if reader.is_empty() || version == Version::V311 {
        reader.finish()?;
        return Ok(Ack { packet_id, reason: Reason::Success });
    }
    let reason = reason(first, reader)?;
    if !reader.is_empty() {
        Section::read(reader, property::IN_ACK)?;
        reader.finish()?;
    }
    Ok(Ack { packet_id, reason })
}

/// SUBSCRIBE: checked here, read by mqttbytes.
pub(super) fn subscribe(
    version: Version,
    header: FixedHeader,
    reader: &mut Reader<'_>,
) -> Result<Subscribe, DecodeError> {
    let packet_id = reader.packet_id()?;
    let section = section(version, reader, property::IN_SUBSCRIBE)?;
    let subscription_id = section.into_iter().find_map(|property| match property {
        Property::SubscriptionId(id) => Some(id),
        _ => None,
    });
    let mut at = reader.at();
    if reader.is_empty() {
        // [MQTT-3.8.3-2]; 3.1.1 [MQTT-3.8.3-3].
        return Err(DecodeError::protocol(at, "SUBSCRIBE without a topic filter"));
    }
    while !reader.is_empty() {
        let filter = reader.text("topic filter is cut off")?;
        check_subscribe_options(version, filter, reader)?;
    }

    let packet = Bytes::copy_from_slice(reader.packet());
    let unread = |_| DecodeError::malformed(at, "SUBSCRIBE cannot be read");
    let wishes: Vec<(String, SubscribeOptions)> = match version {
        Version::V311 => mqttbytes::v4::Subscribe::read(header, packet)
            .map_err(unread)?
            .filters
            .into_iter()
            .map(|f| {
                (f.path, SubscribeOptions { qos: from_mqttbytes(f.qos), ..Default::default() })
            })
            .collect(),
        Version::V5 => mqttbytes::v5::Subscribe::read(header, packet)
            .map_err(unread)?
            .filters
            .into_iter()
            .map(|f| {
                let options = SubscribeOptions {
                    qos: from_mqttbytes(f.qos),
                    no_local: f.nolocal,
                    retain_as_published: f.preserve_retain,
                    retain_handling: retain_handling(&f.retain_forward_rule),
                    ..Default::default()
                };
                (f.path, options)
            })
            .collect(),
    };
    let mut filters = Vec::with_capacity(wishes.len());
    for (text, options) in wishes {
        filters.push((topic_filter(&text, at + 2)?, options));
        at += 2 + text.len() + 1;
    }
    Ok(Subscribe { packet_id, subscription_id, filters })
}

/// The options byte behind a filter (3.8.3.1).
fn check_subscribe_options(
    version: Version,
    filter: &str,
    reader: &mut Reader<'_>,
) -> Result<(), DecodeError> {
    let at = reader.at();
    let options = reader.byte("subscription options are missing")?;
    let reserved = match version {
        Version::V311 => 0xfc, // 3.1.1 [MQTT-3-8.3-4]
        Version::V5 => 0xc0,   // [MQTT-3.8.3-5]
    };
    if options & reserved != 0 {
        return Err(DecodeError::malformed(
            at,
            "reserved bits of the subscription options are set",
        ));
    }
    if options & 0x03 == 0x03 {
        return Err(DecodeError::protocol(at, "maximum QoS is 3"));
    }
    if options & 0x30 == 0x30 {
        return Err(DecodeError::protocol(at, "retain handling is 3"));
    }
    if options & 0x04 != 0 && filter.starts_with("$share/") {
        // [MQTT-3.8.3-4]
        return Err(DecodeError::protocol(at, "no local on a shared subscription"));
    }
    Ok(())
}

/// UNSUBSCRIBE, read here for both versions: mqttbytes prints a line for each of MQTT 5's.
pub(super) fn unsubscribe(
    version: Version,
    reader: &mut Reader<'_>,
) -> Result<Unsubscribe, DecodeError> {
    let packet_id = reader.packet_id()?;
    section(version, reader, property::IN_UNSUBSCRIBE)?;
    if reader.is_empty() {
        // [MQTT-3.10.3-2]
        return Err(DecodeError::protocol(reader.at(), "UNSUBSCRIBE without a topic filter"));
    }
    let mut walk = *reader;
    let mut count = 0;
    while !walk.is_empty() {
        walk.text("topic filter is cut off")?;
        count += 1;
    }
    let mut filters = Vec::with_capacity(count);
    while !reader.is_empty() {
        let text = reader.text("topic filter is cut off")?;
        filters.push(topic_filter(text, reader.at() - text.len())?);
    }
    Ok(Unsubscribe { packet_id, filters })
}

/// DISCONNECT: MQTT 5 may leave out the reason, and the properties behind it.
pub(super) fn disconnect(
    version: Version,
    first: u8,
    reader: &mut Reader<'_>,
) -> Result<Disconnect, DecodeError> {
    let mut disconnect =
        Disconnect { reason: Reason::Success, session_expiry_s: None, reason_string: None };
    if reader.is_empty() || version == Version::V311 {
        reader.finish()?;
        return Ok(disconnect);
    }
    disconnect.reason = reason(first, reader)?;
    if reader.is_empty() {
        return Ok(disconnect);
    }
    let section = Section::read(reader, property::IN_DISCONNECT)?;
    reader.finish()?;
    for property in section {
        match property {
            Property::SessionExpiry(seconds) => disconnect.session_expiry_s = Some(seconds),
            Property::ReasonString(text) => disconnect.reason_string = Some(text.into()),
            _ => {}
        }
    }
    Ok(disconnect)
}

/// AUTH from a client: it continues or begins anew, always with a method (3.15.2.2.2).
pub(super) fn auth(first: u8, reader: &mut Reader<'_>) -> Result<Auth, DecodeError> {
    let start = reader.at();
    if reader.is_empty() {
        return Err(DecodeError::protocol(start, "AUTH with Success is the server's"));
    }
    let reason = reason(first, reader)?;
    let section = match reader.is_empty() {
        true => Section::empty(),
        false => Section::read(reader, property::IN_AUTH)?,
    };
    reader.finish()?;
    if !section.has(AUTHENTICATION_METHOD) {
        return Err(DecodeError::protocol(start, "AUTH without authentication method"));
    }
    let mut auth = Auth { reason, method: None, data: None };
    for property in section {
        match property {
            Property::AuthenticationMethod(text) => auth.method = Some(text.into()),
            Property::AuthenticationData(bytes) => auth.data = Some(Bytes::copy_from_slice(bytes)),
            _ => {}
        }
    }
    Ok(auth)
}

/// The properties of MQTT 5; none in 3.1.1.
fn section<'a>(
    version: Version,
    reader: &mut Reader<'a>,
    allowed: property::Allowed,
) -> Result<Section<'a>, DecodeError> {
    match version {
        Version::V311 => Ok(Section::empty()),
        Version::V5 => Section::read(reader, allowed),
    }
}

/// What a PUBLISH's or a will's properties say.
#[derive(Default)]
struct Received {
    properties: Option<Box<Properties>>,
    topic_alias: Option<NonZeroU16>,
    will_delay_s: u32,
}

fn message_properties(section: Section<'_>) -> Result<Received, DecodeError> {
    let mut received = Received::default();
    let mut properties = Properties::default();
    for property in section {
        match property {
            Property::PayloadIsUtf8(yes) => properties.payload_is_utf8 = yes,
            Property::MessageExpiry(seconds) => properties.expiry_s = Some(seconds),
            Property::ContentType(text) => properties.content_type = Some(text.into()),
            Property::ResponseTopic(text, at) => {
                // [MQTT-3.3.2-14] no wildcards.
                properties.response_topic = Some(topic_name(text, at)?);
            }
            Property::CorrelationData(bytes) => {
                properties.correlation_data = Some(Bytes::copy_from_slice(bytes));
            }
            Property::User(key, value) => properties.user.push((key.into(), value.into())),
            Property::TopicAlias(alias) => received.topic_alias = Some(alias),
            Property::WillDelay(seconds) => received.will_delay_s = seconds,
            _ => {}
        }
    }
    if properties != Properties::default() {
        received.properties = Some(Box::new(properties));
    }
    Ok(received)
}

fn reason(first: u8, reader: &mut Reader<'_>) -> Result<Reason, DecodeError> {
    let at = reader.at();
    let reason = Reason::from_code(reader.byte("reason code is missing")?)
        .ok_or_else(|| DecodeError::malformed(at, "reason code is unknown"))?;
    if reason::is_allowed(first, reason, Sender::Client) {
        return Ok(reason);
    }
    Err(DecodeError::protocol(at, "reason code is not for this packet"))
}

fn topic_name(text: &str, at: usize) -> Result<TopicName, DecodeError> {
    // The error's own position is lost: it would need another field for one case.
    TopicName::parse(text)
        .map_err(|_| DecodeError::malformed(at, "topic name is empty or has a wildcard or a NUL"))
}

fn topic_filter(text: &str, at: usize) -> Result<TopicFilter, DecodeError> {
    TopicFilter::parse(text).map_err(|_| {
        DecodeError::malformed(at, "topic filter is empty, or a wildcard or $share is misplaced")
    })
}

/// The lowest two bits as a QoS; `None` for 3.
fn qos(bits: u8) -> Option<QoS> {
    match bits & 0x03 {
        0 => Some(QoS::AtMostOnce),
        1 => Some(QoS::AtLeastOnce),
        2 => Some(QoS::ExactlyOnce),
        _ => None,
    }
}

fn from_mqttbytes(qos: mqttbytes::QoS) -> QoS {
    match qos {
        mqttbytes::QoS::AtMostOnce => QoS::AtMostOnce,
        mqttbytes::QoS::AtLeastOnce => QoS::AtLeastOnce,
        mqttbytes::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn retain_handling(rule: &RetainForwardRule) -> RetainHandling {
    match rule {
        RetainForwardRule::OnEverySubscribe => RetainHandling::Always,
        RetainForwardRule::OnNewSubscribe => RetainHandling::IfNew,
        RetainForwardRule::Never => RetainHandling::Never,
    }
}
