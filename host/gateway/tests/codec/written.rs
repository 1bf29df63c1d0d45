//! What is sent to clients, byte by byte, and what cannot be sent.

use crate::hex;
use bytes::Bytes;
use gnomon_core::ids::ClientId;
use gnomon_core::message::{Message, Properties, QoS};
use gnomon_core::packet::Version::{self, V5, V311};
use gnomon_core::packet::{
    Ack, Auth, ConnAck, Delivered, Disconnect, Packet, PacketId, Reason, SubAck, TopicAlias,
};
use gnomon_core::time::Timestamp;
use gnomon_core::topic::TopicName;
use gnomon_gateway::codec::{Codec, EncodeError};
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

/// `expected` in [`hex`] notation; empty when nothing is to be written.
#[track_caller]
fn check(version: Version, packet: &Packet, expected: &str) {
    let mut buffer = b"before".to_vec();
    hex::connected(version).encode(packet, &mut buffer).unwrap();
    assert_eq!(&buffer[..6], b"before");
    assert_eq!(&buffer[6..], hex::bytes(expected), "{expected}");
}

#[track_caller]
fn check_refused(version: Version, packet: &Packet, expected: &EncodeError) {
    let mut buffer = b"before".to_vec();
    let error = hex::connected(version).encode(packet, &mut buffer).unwrap_err();
    assert_eq!(error, *expected);
    assert_eq!(buffer, b"before", "garbage after an error");
}

fn connack(reason: Reason) -> Packet {
    Packet::ConnAck(Box::new(ConnAck::new(reason)))
}

fn disconnect(reason: Reason) -> Packet {
    Packet::Disconnect(Box::new(Disconnect { reason, session_expiry_s: None, reason_string: None }))
}

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

#[test]
fn connack_of_3_1_1_has_its_own_return_codes() {
    let kept = ConnAck { session_present: true, ..ConnAck::new(Reason::Success) };
    check(V311, &Packet::ConnAck(Box::new(kept)), "20 02 01 00");
    for (reason, expected) in [
        (Reason::Success, "20 02 00 00"),
        (Reason::UnsupportedProtocolVersion, "20 02 00 01"),
        (Reason::ClientIdNotValid, "20 02 00 02"),
        (Reason::ServerUnavailable, "20 02 00 03"),
        (Reason::ServerBusy, "20 02 00 03"),
        (Reason::ServerShuttingDown, "20 02 00 03"),
        (Reason::QuotaExceeded, "20 02 00 03"),
        (Reason::UseAnotherServer, "20 02 00 03"),
        (Reason::ServerMoved, "20 02 00 03"),
        (Reason::ConnectionRateExceeded, "20 02 00 03"),
        (Reason::BadUserNameOrPassword, "20 02 00 04"),
        (Reason::NotAuthorized, "20 02 00 05"),
        (Reason::Banned, "20 02 00 05"),
        (Reason::BadAuthenticationMethod, "20 02 00 05"),
        // [MQTT-3.2.2-6]: closed without a CONNACK.
        (Reason::MalformedPacket, ""),
        (Reason::ProtocolError, ""),
        (Reason::UnspecifiedError, ""),
        (Reason::PacketTooLarge, ""),
    ] {
        check(V311, &connack(reason), expected);
    }
    // [MQTT-3.2.2-4]
    let refused = ConnAck { session_present: true, ..ConnAck::new(Reason::NotAuthorized) };
    check(V311, &Packet::ConnAck(Box::new(refused)), "20 02 00 05");
}

#[test]
fn connack_of_5_0_has_its_property_length_always() {
    check(V5, &connack(Reason::Success), "20 03 00 00 00");
    check(V5, &connack(Reason::ClientIdNotValid), "20 03 00 85 00");
    // [MQTT-3.2.2-6]
    let refused = ConnAck { session_present: true, ..ConnAck::new(Reason::NotAuthorized) };
    check(V5, &Packet::ConnAck(Box::new(refused)), "20 03 00 87 00");
    let full = ConnAck {
        session_present: true,
        session_expiry_s: Some(60),
        receive_maximum: NonZeroU16::new(20),
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(false),
        maximum_packet_size: Some(65_536),
        assigned_client_id: Some(ClientId::parse("auto-1").unwrap()),
        topic_alias_maximum: Some(8),
        reason_string: Some("fine".into()),
        wildcard_subscription_available: Some(true),
        subscription_ids_available: Some(true),
        shared_subscription_available: Some(false),
        server_keep_alive_s: Some(30),
        response_information: Some("re/ply".into()),
        server_reference: Some("b.example".into()),
        authentication: Some(("m".into(), Bytes::from_static(&[0, 0xff]))),
        user_properties: vec![("k".into(), "v".into())],
        ..ConnAck::new(Reason::Success)
    };
    check(
        V5,
        &Packet::ConnAck(Box::new(full)),
        "20 .. 01 00 [11 0000003c 21 0014 24 01 25 00 27 00010000 12 'auto-1' 22 0008 1f 'fine' \
         26 'k' 'v' 28 01 29 01 2a 00 13 001e 1a 're/ply' 1c 'b.example' 15 'm' 16 0002 00ff]",
    );
    // 3.2.2.3.4: QoS 2 is what holds without the property, and no value of it.
    let all = ConnAck { maximum_qos: Some(QoS::ExactlyOnce), ..ConnAck::new(Reason::Success) };
    check(V5, &Packet::ConnAck(Box::new(all)), "20 03 00 00 00");
}

#[test]
fn acknowledgements_are_as_short_as_they_can_be() {
    let ack = |reason| Ack { packet_id: id(258), reason };
    for version in [V311, V5] {
        check(version, &Packet::PubAck(ack(Reason::Success)), "40 02 0102");
        check(version, &Packet::PubRec(ack(Reason::Success)), "50 02 0102");
        check(version, &Packet::PubRel(ack(Reason::Success)), "62 02 0102");
        check(version, &Packet::PubComp(ack(Reason::Success)), "70 02 0102");
        check(version, &Packet::PingResp, "d0 00");
    }
    check(V5, &Packet::PubAck(ack(Reason::NotAuthorized)), "40 03 0102 87");
    check(V5, &Packet::PubRel(ack(Reason::PacketIdNotFound)), "62 03 0102 92");
    // 3.1.1 has no way to say why (3.3.5.2 there).
    check(V311, &Packet::PubAck(ack(Reason::NotAuthorized)), "40 02 0102");
    let wrong = Packet::PubAck(ack(Reason::PacketIdNotFound));
    check_refused(V5, &wrong, &EncodeError::Reason { reason: Reason::PacketIdNotFound });
}

#[test]
fn suback_and_unsuback_have_a_code_per_filter() {
    let reasons = vec![
        Reason::Success,
        Reason::GrantedQoS1,
        Reason::GrantedQoS2,
        Reason::NotAuthorized,
        Reason::QuotaExceeded,
        Reason::SharedSubscriptionsNotSupported,
    ];
    let suback = SubAck { packet_id: id(258), reasons };
    check(V311, &Packet::SubAck(suback.clone()), "90 08 0102 00 01 02 80 80 80");
    check(V5, &Packet::SubAck(suback), "90 09 0102 00 00 01 02 87 97 9e");
    let reasons = vec![Reason::Success, Reason::NoSubscriptionExisted, Reason::NotAuthorized];
    let unsuback = SubAck { packet_id: id(258), reasons };
    check(V311, &Packet::UnsubAck(unsuback.clone()), "b0 02 0102");
    check(V5, &Packet::UnsubAck(unsuback), "b0 06 0102 00 00 11 87");

    let reason = Reason::SessionTakenOver;
    let wrong = SubAck { packet_id: id(1), reasons: vec![Reason::Success, reason] };
    check_refused(V5, &Packet::SubAck(wrong.clone()), &EncodeError::Reason { reason });
    check_refused(V5, &Packet::UnsubAck(wrong), &EncodeError::Reason { reason });
    let reason = Reason::NoMatchingSubscribers;
    let wrong = SubAck { packet_id: id(1), reasons: vec![reason] };
    check_refused(V311, &Packet::SubAck(wrong), &EncodeError::Reason { reason });
    // A long list needs two bytes of length.
    let many = SubAck { packet_id: id(1), reasons: vec![Reason::GrantedQoS1; 200] };
    let expected = format!("90 .. 0001 00 {}", "01".repeat(200));
    check(V5, &Packet::SubAck(many), &expected);
}

#[test]
fn disconnect_and_auth_keep_their_reason() {
    check(V5, &disconnect(Reason::Success), "e0 00");
    check(V5, &disconnect(Reason::SessionTakenOver), "e0 01 8e");
    let told = Disconnect {
        reason: Reason::QuotaExceeded,
        session_expiry_s: None,
        reason_string: Some("too fast".into()),
    };
    check(V5, &Packet::Disconnect(Box::new(told)), "e0 .. 97 [1f 'too fast']");
    // In 3.1.1 it is the client's.
    check(V311, &disconnect(Reason::SessionTakenOver), "");
    // [MQTT-3.14.2-1], [MQTT-3.14.2-2]
    let reason = Reason::DisconnectWithWill;
    check_refused(V5, &disconnect(reason), &EncodeError::Reason { reason });
    let expiring =
        Disconnect { reason: Reason::Success, session_expiry_s: Some(1), reason_string: None };
    check_refused(
        V5,
        &Packet::Disconnect(Box::new(expiring)),
        &EncodeError::ClientOnly { packet: "session expiry in DISCONNECT" },
    );

    let auth = Packet::Auth(Box::new(Auth {
        reason: Reason::ContinueAuthentication,
        method: Some("m".into()),
        data: Some(Bytes::from_static(&[1])),
    }));
    check(V5, &auth.clone(), "f0 .. 18 [15 'm' 16 0001 01]");
    check_refused(V311, &auth, &EncodeError::NotInVersion { packet: "AUTH" });
}

#[test]
fn what_only_clients_send_is_not_written() {
    check_refused(V5, &Packet::PingReq, &EncodeError::ClientOnly { packet: "PINGREQ" });
    for packet in ["82 .. 0001 [] 'a' 00", "a2 .. 0001 [] 'a'", "30 .. 'a' []"] {
        let packet = hex::decode(V5, &hex::bytes(packet)).unwrap();
        let mut buffer = Vec::new();
        let error = hex::connected(V5).encode(&packet, &mut buffer).unwrap_err();
        assert!(matches!(error, EncodeError::ClientOnly { .. }), "{error}");
    }
}

#[test]
fn before_connect_nothing_is_written() {
    let codec = Codec::new(1_000);
    let mut buffer = Vec::new();
    assert_eq!(codec.encode(&connack(Reason::ProtocolError), &mut buffer), Ok(()));
    assert_eq!(codec.encode(&disconnect(Reason::ProtocolError), &mut buffer), Ok(()));
    assert_eq!(codec.encode(&Packet::PingResp, &mut buffer), Err(EncodeError::NoVersion));
    assert_eq!(
        codec.encode_publish(&delivered("a", b""), &mut buffer),
        Err(EncodeError::NoVersion)
    );
    assert!(buffer.is_empty());
}

fn delivered(topic: &str, payload: &[u8]) -> Delivered {
    let topic = TopicName::parse(topic).unwrap();
    let payload = Bytes::copy_from_slice(payload);
    Delivered {
        message: Arc::new(Message::new(topic, payload, Arc::default(), Timestamp::default())),
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        packet_id: None,
        subscription_ids: Vec::new(),
        expiry_s: None,
        alias: None,
    }
}

fn with_properties(mut delivered: Delivered, properties: Properties) -> Delivered {
    let message =
        Message { properties: Some(Box::new(properties)), ..(*delivered.message).clone() };
    delivered.message = Arc::new(message);
    delivered
}

#[track_caller]
fn check_publish(version: Version, delivered: &Delivered, expected: &str) {
    let codec = hex::connected(version);
    let mut buffer = b"before".to_vec();
    codec.encode_publish(delivered, &mut buffer).unwrap();
    assert_eq!(&buffer[6..], hex::bytes(expected), "{expected}");
}

#[test]
fn a_known_topic_alias_stands_for_the_topic() {
    // MQTT 5.0, 3.3.2.1 and 3.3.2.3.4
    let alias = |is_new| {
        let alias = Some(TopicAlias { number: NonZeroU16::new(258).unwrap(), is_new });
        Delivered { alias, ..delivered("a/b", b"hi") }
    };
    check_publish(V5, &alias(true), "30 .. 'a/b' [23 0102] `hi`");
    check_publish(V5, &alias(false), "30 .. '' [23 0102] `hi`");
}

#[test]
fn publish_is_written_from_the_shared_message() {
    let plain = delivered("a/b", b"hi");
    check_publish(V311, &plain, "30 .. 'a/b' `hi`");
    check_publish(V5, &plain, "30 .. 'a/b' [] `hi`");
    let again = Delivered {
        dup: true,
        qos: QoS::AtLeastOnce,
        retain: true,
        packet_id: Some(id(258)),
        ..plain.clone()
    };
    check_publish(V311, &again, "3b .. 'a/b' 0102 `hi`");
    check_publish(V5, &again, "3b .. 'a/b' 0102 [] `hi`");
    // The identifier belongs to QoS 1 and 2 alone [MQTT-2.2.1-2].
    let loose = Delivered { packet_id: Some(id(1)), ..plain };
    check_publish(V5, &loose, "30 .. 'a/b' [] `hi`");
    let long = delivered("a", &[7; 20_000]);
    check_publish(V311, &long, &format!("30 .. 'a' {}", "07".repeat(20_000)));
}

#[test]
fn publish_carries_all_subscription_ids_and_the_expiry_that_is_left() {
    let ids = [1, 127, 128, 16_384, 268_435_455].map(|id| NonZeroU32::new(id).unwrap());
    let delivered = Delivered {
        subscription_ids: ids.to_vec(),
        expiry_s: Some(7),
        ..with_properties(
            delivered("a", b"x"),
            Properties {
                payload_is_utf8: true,
                expiry_s: Some(3_600),
                content_type: Some("t".into()),
                response_topic: Some(TopicName::parse("r").unwrap()),
                correlation_data: Some(Bytes::from_static(&[0])),
                user: vec![("b".into(), "1".into()), ("a".into(), "2".into())],
            },
        )
    };
    // [MQTT-3.3.4-3], [MQTT-3.3.2-6], [MQTT-3.3.2-18]
    check_publish(
        V5,
        &delivered,
        "30 .. 'a' [01 01 02 00000007 08 'r' 09 0001 00 26 'b' '1' 26 'a' '2' \
         0b 01 0b 7f 0b 8001 0b 808001 0b ffffff7f 03 't'] `x`",
    );
    // 3.1.1 has none of it.
    check_publish(V311, &delivered, "30 .. 'a' `x`");
}

#[track_caller]
fn check_publish_refused(version: Version, delivered: &Delivered, expected: &EncodeError) {
    let mut buffer = b"before".to_vec();
    let error = hex::connected(version).encode_publish(delivered, &mut buffer).unwrap_err();
    assert_eq!(error, *expected);
    assert_eq!(buffer, b"before", "garbage after an error");
}

#[test]
fn a_publish_that_cannot_be_sent_leaves_nothing_behind() {
    let without_id = Delivered { qos: QoS::AtLeastOnce, ..delivered("a", b"x") };
    check_publish_refused(V5, &without_id, &EncodeError::NoPacketId);
    check_publish_refused(V311, &without_id, &EncodeError::NoPacketId);
    let long: Arc<str> = "x".repeat(65_536).into();
    let user = |pair| Properties { user: vec![pair], ..Properties::default() };
    let kind = |text: &Arc<str>| Properties {
        content_type: Some(Arc::clone(text)),
        ..Properties::default()
    };
    let too_long = EncodeError::FieldTooLong { bytes: 65_536 };
    for (properties, expected) in [
        (kind(&long), &too_long),
        (user((Arc::clone(&long), "v".into())), &too_long),
        (user(("k".into(), Arc::clone(&long))), &too_long),
        (
            Properties {
                correlation_data: Some(Bytes::from(vec![0; 65_536])),
                ..Properties::default()
            },
            &too_long,
        ),
        // [MQTT-1.5.4-2]
        (kind(&"a\0".into()), &EncodeError::Nul),
        (user(("k\0".into(), "v".into())), &EncodeError::Nul),
        (user(("k".into(), "\0".into())), &EncodeError::Nul),
    ] {
        let delivered = with_properties(delivered("a", b"x"), properties);
        check_publish_refused(V5, &delivered, expected);
        check_publish(V311, &delivered, "30 .. 'a' `x`");
    }
    // The largest Remaining Length is 268,435,455.
    let bytes = 268_435_456;
    let huge = delivered("a", &vec![0; bytes - 3]);
    check_publish_refused(V311, &huge, &EncodeError::TooLarge { bytes });
}
