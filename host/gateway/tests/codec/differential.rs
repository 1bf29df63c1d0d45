//! Random packets through another codec: rumqttc's reads what was written here and writes it
//! again. What it misunderstood, or what was written wrongly, does not come back the same.
//!
//! rumqttc's codec is mqttbytes' younger relative, so some of the defects are still there:
//! [`rumqttc_reads`] leaves out what it cannot read. Those packets are in the tables.

use crate::{client, hex};
use bytes::{Bytes, BytesMut};
use gnomon_core::ids::ClientId;
use gnomon_core::message::{Message, Properties, QoS};
use gnomon_core::packet::Version::{self, V5, V311};
use gnomon_core::packet::{
    Ack, ConnAck, Connect, Delivered, Disconnect, Packet, PacketId, Publish, Reason,
    RetainHandling, SubAck, Subscribe, SubscribeOptions, Unsubscribe, UserProperties, Will,
};
use gnomon_core::time::Timestamp;
use gnomon_core::topic::{TopicFilter, TopicName};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

proptest! {
    #[test]
    fn a_clients_packet_comes_back_from_both_codecs((version, packet) in client_packet()) {
        let bytes = client::encode(version, &packet);
        prop_assert_eq!(hex::decode(version, &bytes), Ok(packet.clone()));
        if rumqttc_reads(version, &packet) {
            let again = through_rumqttc(version, &bytes);
            prop_assert_eq!(hex::decode(version, &again), Ok(packet));
        }
    }

    #[test]
    fn a_servers_packet_comes_back_from_rumqttc((version, packet) in server_packet()) {
        let mut bytes = Vec::new();
        hex::connected(version).encode(&packet, &mut bytes).unwrap();
        prop_assert_eq!(&through_rumqttc(version, &bytes), &bytes);
        if let (V5, Packet::ConnAck(connack)) = (version, packet) {
            let read = v5::Packet::read(&mut BytesMut::from(&bytes[..]), None);
            prop_assert_eq!(read.unwrap(), v5::Packet::ConnAck(rumqttc_connack(&connack)));
        }
    }

    #[test]
    fn a_delivery_comes_back_from_rumqttc(version in version(), delivered in delivered()) {
        let mut bytes = Vec::new();
        let codec = hex::connected(version);
        codec.encode_publish(&delivered, &mut bytes).unwrap();
        prop_assert_eq!(&through_rumqttc(version, &bytes), &bytes);
        let mut input = BytesMut::from(&bytes[..]);
        match version {
            V311 => {
                let read = v4::Packet::read(&mut input, 1_000_000).unwrap();
                prop_assert_eq!(read, v4::Packet::Publish(rumqttc_v4_publish(&delivered)));
            }
            V5 => {
                let read = v5::Packet::read(&mut input, None).unwrap();
                prop_assert_eq!(read, v5::Packet::Publish(rumqttc_v5_publish(&delivered)));
            }
        }
    }
}

fn through_rumqttc(version: Version, bytes: &[u8]) -> Vec<u8> {
    let mut input = BytesMut::from(bytes);
    let mut output = BytesMut::new();
    match version {
        V311 => {
            let packet = v4::Packet::read(&mut input, 1_000_000).unwrap();
            packet.write(&mut output, 1_000_000).unwrap();
        }
        V5 => {
            let packet = v5::Packet::read(&mut input, None).unwrap();
            packet.write(&mut output, None).unwrap();
        }
    }
    assert!(input.is_empty(), "bytes left over");
    output.to_vec()
}

/// Not: passwords that are empty or no text, empty user names, a password alone, v5 DISCONNECT
/// without properties, AUTH.
fn rumqttc_reads(version: Version, packet: &Packet) -> bool {
    match packet {
        Packet::Connect(connect) => {
            let password = connect.password.as_deref();
            password.is_none_or(|password| {
                !password.is_empty() && std::str::from_utf8(password).is_ok()
            }) && match connect.username.as_deref() {
                Some(name) => !name.is_empty(),
                None => password.is_none(),
            }
        }
        Packet::Disconnect(disconnect) => {
            version == V311
                || disconnect.reason_string.is_some()
                || disconnect.session_expiry_s.is_some()
        }
        Packet::Auth(_) => false,
        _ => true,
    }
}

fn rumqttc_connack(connack: &ConnAck) -> v5::ConnAck {
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    let flag = |flag: Option<bool>| flag.map(u8::from);
    let authentication = connack.authentication.as_ref();
    let properties = v5::ConnAckProperties {
        session_expiry_interval: connack.session_expiry_s,
        receive_max: connack.receive_maximum.map(NonZeroU16::get),
        max_qos: connack.maximum_qos.map(|qos| qos as u8),
        retain_available: flag(connack.retain_available),
        max_packet_size: connack.maximum_packet_size,
        assigned_client_identifier: connack.assigned_client_id.as_ref().map(ToString::to_string),
        topic_alias_max: connack.topic_alias_maximum,
        reason_string: text(&connack.reason_string),
        user_properties: pairs(&connack.user_properties),
        wildcard_subscription_available: flag(connack.wildcard_subscription_available),
        subscription_identifiers_available: flag(connack.subscription_ids_available),
        shared_subscription_available: flag(connack.shared_subscription_available),
        server_keep_alive: connack.server_keep_alive_s,
        response_information: text(&connack.response_information),
        server_reference: text(&connack.server_reference),
        authentication_method: authentication.map(|(method, _)| method.to_string()),
        authentication_data: authentication
            .map(|(_, data)| data.clone())
            .filter(|data| !data.is_empty()),
    };
    let code = match connack.reason {
        Reason::Success => v5::ConnectReturnCode::Success,
        Reason::UnsupportedProtocolVersion => v5::ConnectReturnCode::UnsupportedProtocolVersion,
        Reason::ClientIdNotValid => v5::ConnectReturnCode::ClientIdentifierNotValid,
        Reason::ServerUnavailable => v5::ConnectReturnCode::ServerUnavailable,
        Reason::BadUserNameOrPassword => v5::ConnectReturnCode::BadUserNamePassword,
        Reason::NotAuthorized => v5::ConnectReturnCode::NotAuthorized,
        other => panic!("{other:?} is not in {CONNACK:?}"),
    };
    let session_present = connack.session_present && connack.reason == Reason::Success;
    // rumqttc reads an empty section as none.
    let session = connack.session_present;
    let bare = ConnAck { session_present: session, ..ConnAck::new(connack.reason) };
    let properties = Some(properties).filter(|_| *connack != bare);
    v5::ConnAck { session_present, code, properties }
}

fn rumqttc_v4_publish(delivered: &Delivered) -> v4::Publish {
    let message = &delivered.message;
    v4::Publish {
        dup: delivered.dup,
        qos: rumqttc::mqttbytes::qos(delivered.qos as u8).unwrap(),
        retain: delivered.retain,
        topic: message.topic.to_string(),
        pkid: delivered.packet_id.map_or(0, PacketId::get),
        payload: message.payload.clone(),
    }
}

fn rumqttc_v5_publish(delivered: &Delivered) -> v5::Publish {
    let message = &delivered.message;
    let properties = message.properties.as_deref().cloned().unwrap_or_default();
    let properties = v5::PublishProperties {
        payload_format_indicator: properties.payload_is_utf8.then_some(1),
        message_expiry_interval: delivered.expiry_s,
        topic_alias: None,
        response_topic: properties.response_topic.map(|topic| topic.to_string()),
        correlation_data: properties.correlation_data,
        user_properties: pairs(&properties.user),
        subscription_identifiers: delivered
            .subscription_ids
            .iter()
            .map(|id| id.get() as usize)
            .collect(),
        content_type: properties.content_type.map(|text| text.to_string()),
    };
    v5::Publish {
        dup: delivered.dup,
        qos: rumqttc::v5::mqttbytes::qos(delivered.qos as u8).unwrap(),
        retain: delivered.retain,
        topic: Bytes::copy_from_slice(message.topic.as_str().as_bytes()),
        pkid: delivered.packet_id.map_or(0, PacketId::get),
        payload: message.payload.clone(),
        properties: Some(properties).filter(|p| *p != v5::PublishProperties::default()),
    }
}

fn pairs(user: &UserProperties) -> Vec<(String, String)> {
    user.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(V311), Just(V5)]
}

fn text() -> impl Strategy<Value = Arc<str>> {
    "[ -~äπ語]{0,12}".prop_map(Into::into)
}

fn topic() -> impl Strategy<Value = TopicName> {
    "[$a-zA-Z0-9 /ü語]{1,20}".prop_map(|text| TopicName::parse(&text).unwrap())
}

fn filter() -> impl Strategy<Value = TopicFilter> {
    "(\\$share/g[a-z]{0,3}/)?([a-zü]{0,4}/|\\+/){0,4}([a-z]{1,4}|\\+|#)"
        .prop_map(|text| TopicFilter::parse(&text).unwrap())
}

fn binary() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn user() -> impl Strategy<Value = UserProperties> {
    vec((text(), text()), 0..3)
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).unwrap())
}

fn properties() -> impl Strategy<Value = Option<Box<Properties>>> {
    let properties = (
        any::<bool>(),
        option::of(any::<u32>()),
        option::of(text()),
        option::of(topic()),
        option::of(binary()),
        user(),
    )
        .prop_map(|(utf8, expiry_s, content_type, response_topic, correlation_data, user)| {
            Properties {
                payload_is_utf8: utf8,
                expiry_s,
                content_type,
                response_topic,
                correlation_data,
                user,
            }
        });
    option::of(properties).prop_map(|properties| {
        // Properties that say nothing are none.
        properties.filter(|properties| *properties != Properties::default()).map(Box::new)
    })
}

fn client_packet() -> impl Strategy<Value = (Version, Packet)> {
    version().prop_flat_map(|version| {
        let packet = prop_oneof![
            connect(version).prop_map(|connect| Packet::Connect(Box::new(connect))),
            publish(version).prop_map(Packet::Publish),
            ack(version, PUBACK).prop_map(Packet::PubAck),
            ack(version, PUBACK).prop_map(Packet::PubRec),
            ack(version, PUBREL).prop_map(Packet::PubRel),
            ack(version, PUBREL).prop_map(Packet::PubComp),
            subscribe(version).prop_map(|subscribe| Packet::Subscribe(Box::new(subscribe))),
            (id(), vec(filter(), 1..5)).prop_map(|(packet_id, filters)| {
                Packet::Unsubscribe(Box::new(Unsubscribe { packet_id, filters }))
            }),
            Just(Packet::PingReq),
            disconnect(version).prop_map(|disconnect| Packet::Disconnect(Box::new(disconnect))),
        ];
        (Just(version), packet)
    })
}

fn connect(version: Version) -> impl Strategy<Value = Connect> {
    let session = (any::<bool>(), any::<u16>(), "[a-zA-Z0-9äπ:_-]{0,30}", any::<u32>());
    let login = (option::of(text()), option::of(binary()));
    let bounds = (
        option::of(1..=u16::MAX),
        option::of(1..=u32::MAX),
        any::<u16>(),
        any::<bool>(),
        any::<bool>(),
    );
    let rest = (option::of(will(version)), option::of((text(), binary())), user());
    (session, login, bounds, rest).prop_map(move |(session, login, bounds, rest)| {
        let (clean_start, keep_alive_s, client_id, expiry) = session;
        let (username, password) = login;
        let (receive_maximum, packet_size, aliases, response, problem) = bounds;
        let (will, authentication, user_properties) = rest;
        let common = Connect {
            version,
            clean_start,
            keep_alive_s,
            client_id: ClientId::parse(&client_id).ok(),
            password: password.filter(|_| version == V5 || username.is_some()),
            username,
            will: will.map(Box::new),
            session_expiry_s: if clean_start { 0 } else { u32::MAX },
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication: None,
            user_properties: Vec::new(),
        };
        match version {
            V311 => common,
            V5 => Connect {
                session_expiry_s: expiry,
                receive_maximum: receive_maximum.and_then(NonZeroU16::new),
                maximum_packet_size: packet_size,
                topic_alias_maximum: aliases,
                request_response_information: response,
                request_problem_information: problem,
                authentication,
                user_properties,
                ..common
            },
        }
    })
}

fn will(version: Version) -> impl Strategy<Value = Will> {
    (topic(), binary(), qos(), any::<bool>(), any::<u32>(), properties()).prop_map(
        move |(topic, payload, qos, retain, delay_s, properties)| Will {
            topic,
            payload,
            qos,
            retain,
            delay_s: if version == V5 { delay_s } else { 0 },
            properties: properties.filter(|_| version == V5),
        },
    )
}

fn publish(version: Version) -> impl Strategy<Value = Publish> {
    let flags = (any::<bool>(), qos(), any::<bool>());
    let alias = option::of(1..=u16::MAX);
    (flags, option::weighted(0.8, topic()), id(), alias, binary(), properties()).prop_map(
        move |((dup, qos, retain), topic, id, alias, payload, properties)| {
            let alias = alias.and_then(NonZeroU16::new).filter(|_| version == V5);
            Publish {
                dup: dup && qos != QoS::AtMostOnce,
                qos,
                retain,
                topic: match alias {
                    Some(_) => topic,
                    None => Some(topic.unwrap_or_else(|| TopicName::parse("a/b").unwrap())),
                },
                packet_id: Some(id).filter(|_| qos != QoS::AtMostOnce),
                topic_alias: alias,
                payload,
                properties: properties.filter(|_| version == V5),
            }
        },
    )
}

/// Reasons of PUBACK and PUBREC.
const PUBACK: &[Reason] = &[
    Reason::Success,
    Reason::NoMatchingSubscribers,
    Reason::UnspecifiedError,
    Reason::ImplementationSpecificError,
    Reason::NotAuthorized,
    Reason::TopicNameInvalid,
    Reason::PacketIdInUse,
    Reason::QuotaExceeded,
    Reason::PayloadFormatInvalid,
];
/// Of PUBREL and PUBCOMP.
const PUBREL: &[Reason] = &[Reason::Success, Reason::PacketIdNotFound];
/// Of SUBACK.
const SUBACK: &[Reason] = &[
    Reason::Success,
    Reason::GrantedQoS1,
    Reason::GrantedQoS2,
    Reason::UnspecifiedError,
    Reason::ImplementationSpecificError,
    Reason::NotAuthorized,
    Reason::TopicFilterInvalid,
    Reason::PacketIdInUse,
    Reason::QuotaExceeded,
    Reason::SharedSubscriptionsNotSupported,
    Reason::SubscriptionIdsNotSupported,
    Reason::WildcardSubscriptionsNotSupported,
];
/// Of UNSUBACK.
const UNSUBACK: &[Reason] = &[
    Reason::Success,
    Reason::NoSubscriptionExisted,
    Reason::UnspecifiedError,
    Reason::ImplementationSpecificError,
    Reason::NotAuthorized,
    Reason::TopicFilterInvalid,
    Reason::PacketIdInUse,
];
/// Of CONNACK, as far as 3.1.1 knows them.
const CONNACK: &[Reason] = &[
    Reason::Success,
    Reason::UnsupportedProtocolVersion,
    Reason::ClientIdNotValid,
    Reason::ServerUnavailable,
    Reason::BadUserNameOrPassword,
    Reason::NotAuthorized,
];
/// Of a client's DISCONNECT.
const DISCONNECT: &[Reason] = &[
    Reason::Success,
    Reason::DisconnectWithWill,
    Reason::UnspecifiedError,
    Reason::MalformedPacket,
    Reason::ProtocolError,
    Reason::ImplementationSpecificError,
    Reason::TopicNameInvalid,
    Reason::ReceiveMaximumExceeded,
    Reason::TopicAliasInvalid,
    Reason::PacketTooLarge,
    Reason::MessageRateTooHigh,
    Reason::QuotaExceeded,
    Reason::AdministrativeAction,
    Reason::PayloadFormatInvalid,
];

fn one_of(reasons: &'static [Reason]) -> impl Strategy<Value = Reason> {
    prop::sample::select(reasons)
}

fn ack(version: Version, reasons: &'static [Reason]) -> impl Strategy<Value = Ack> {
    (id(), one_of(reasons)).prop_map(move |(packet_id, reason)| Ack {
        packet_id,
        reason: if version == V5 { reason } else { Reason::Success },
    })
}

fn subscribe(version: Version) -> impl Strategy<Value = Subscribe> {
    let handling = prop_oneof![
        Just(RetainHandling::Always),
        Just(RetainHandling::IfNew),
        Just(RetainHandling::Never),
    ];
    let wish = (filter(), qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        move |(filter, qos, no_local, retain_as_published, retain_handling)| {
            let options = match version {
                V311 => SubscribeOptions { qos, ..SubscribeOptions::default() },
                V5 => SubscribeOptions {
                    qos,
                    no_local: no_local && filter.share_group().is_none(),
                    retain_as_published,
                    retain_handling,
                    ..SubscribeOptions::default()
                },
            };
            (filter, options)
        },
    );
    (id(), option::of(1..=268_435_455_u32), vec(wish, 1..5)).prop_map(
        move |(packet_id, subscription_id, filters)| Subscribe {
            packet_id,
            subscription_id: subscription_id.and_then(NonZeroU32::new).filter(|_| version == V5),
            filters,
        },
    )
}

fn disconnect(version: Version) -> impl Strategy<Value = Disconnect> {
    (one_of(DISCONNECT), option::of(any::<u32>()), option::of(text())).prop_map(
        move |(reason, session_expiry_s, reason_string)| match version {
            V311 => {
                Disconnect { reason: Reason::Success, session_expiry_s: None, reason_string: None }
            }
            V5 => Disconnect { reason, session_expiry_s, reason_string },
        },
    )
}

fn server_packet() -> impl Strategy<Value = (Version, Packet)> {
    version().prop_flat_map(|version| {
        let packet = prop_oneof![
            connack().prop_map(|connack| Packet::ConnAck(Box::new(connack))),
            (id(), vec(one_of(SUBACK), 1..200))
                .prop_map(|(packet_id, reasons)| Packet::SubAck(SubAck { packet_id, reasons })),
            (id(), vec(one_of(UNSUBACK), 1..5))
                .prop_map(|(packet_id, reasons)| Packet::UnsubAck(SubAck { packet_id, reasons })),
            Just(Packet::PingResp),
        ];
        (Just(version), packet)
    })
}

fn connack() -> impl Strategy<Value = ConnAck> {
    let numbers = (
        option::of(any::<u32>()),
        option::of(1..=u16::MAX),
        option::of(any::<u32>()),
        option::of(any::<u16>()),
        option::of(any::<u16>()),
    );
    let flags = (
        option::of(prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce)]),
        option::of(any::<bool>()),
        option::of(any::<bool>()),
        option::of(any::<bool>()),
        option::of(any::<bool>()),
    );
    let texts = (option::of("[a-z]{1,9}"), option::of(text()), option::of(text()));
    let rest = (option::of(text()), option::of((text(), binary())), user());
    (any::<bool>(), one_of(CONNACK), numbers, flags, texts, rest).prop_map(
        |(session_present, reason, numbers, flags, texts, rest)| ConnAck {
            session_present,
            reason,
            session_expiry_s: numbers.0,
            receive_maximum: numbers.1.and_then(NonZeroU16::new),
            maximum_qos: flags.0,
            retain_available: flags.1,
            maximum_packet_size: numbers.2,
            assigned_client_id: texts.0.map(|id| ClientId::parse(&id).unwrap()),
            topic_alias_maximum: numbers.3,
            reason_string: texts.1,
            wildcard_subscription_available: flags.2,
            subscription_ids_available: flags.3,
            shared_subscription_available: flags.4,
            server_keep_alive_s: numbers.4,
            response_information: rest.0,
            server_reference: texts.2,
            authentication: rest.1,
            user_properties: rest.2,
        },
    )
}

/// With at most two subscription identifiers: rumqttc takes the third for payload.
fn delivered() -> impl Strategy<Value = Delivered> {
    let message = (topic(), binary(), properties()).prop_map(|(topic, payload, properties)| {
        Arc::new(Message {
            properties,
            ..Message::new(topic, payload, Arc::default(), Timestamp::default())
        })
    });
    let flags = (any::<bool>(), qos(), any::<bool>());
    let ids = vec((1..=268_435_455_u32).prop_map(|id| NonZeroU32::new(id).unwrap()), 0..=2);
    (message, flags, id(), ids, option::of(any::<u32>())).prop_map(
        |(message, (dup, qos, retain), id, subscription_ids, expiry_s)| Delivered {
            message,
            dup,
            qos,
            retain,
            packet_id: Some(id).filter(|_| qos != QoS::AtMostOnce),
            subscription_ids,
            expiry_s,
            alias: None,
        },
    )
}
