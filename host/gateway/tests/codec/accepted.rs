//! Packets that must be taken, what they say, and how they look when written again.

use crate::{client, hex};
use bytes::Bytes;
use gnomon_core::ids::ClientId;
use gnomon_core::message::{Properties, QoS};
use gnomon_core::packet::Version::{self, V5, V311};
use gnomon_core::packet::{
    Ack, Auth, Connect, Disconnect, Packet, PacketId, Publish, Reason, RetainHandling, Subscribe,
    SubscribeOptions, Unsubscribe, Will,
};
use gnomon_core::topic::{TopicFilter, TopicName};
use gnomon_gateway::codec::Codec;
use std::num::{NonZeroU16, NonZeroU32};

/// Legal packets. Written again by [`client::encode`] each gives the same bytes.
pub const CANONICAL: &[(Version, &str)] = &[
    // CONNECT
    (V311, "10 .. 'MQTT' 04 02 003c 'sensor-1'"),
    (V311, "10 .. 'MQTT' 04 02 0000 ''"),
    (V311, "10 .. 'MQTT' 04 00 0000 'kept'"),
    (V311, "10 .. 'MQTT' 04 c2 ffff 'c' 'user' 0002 fffe"),
    (V311, "10 .. 'MQTT' 04 82 0000 'c' ''"),
    (V311, "10 .. 'MQTT' 04 f6 000a 'c' 'will/topic' 'gone' 'user' 'password'"),
    (V311, "10 .. 'MQTT' 04 06 000a 'c' 'w' ''"),
    (V5, "10 .. 'MQTT' 05 02 003c [] 'sensor-1'"),
    (V5, "10 .. 'MQTT' 05 00 003c [] ''"),
    (V5, "10 .. 'MQTT' 05 42 0000 [] 'c' 0002 fffe"),
    (V5, "10 .. 'MQTT' 05 c2 0000 [] 'c' '' ''"),
    (
        V5,
        "10 .. 'MQTT' 05 02 0000 [11 0000003c 21 0014 27 00010000 22 000a 19 01 17 00 \
         26 'k' 'v' 26 'k' 'w' 15 'method' 16 0002 00ff] 'c'",
    ),
    (
        V5,
        "10 .. 'MQTT' 05 2e 0000 [] 'c' [18 00000005 01 01 02 0000000a 03 'text/plain' \
         08 'answers' 09 0001 fe 26 'k' 'v'] 'will' 'gone'",
    ),
    (V5, "10 .. 'MQTT' 05 06 0000 [11 ffffffff] 'c' [] 'will' ''"),
    // PUBLISH
    (V311, "30 .. 'a/b' `hello`"),
    (V311, "31 .. 'a/b'"),
    (V311, "32 .. 'a/b' 0001 `hello`"),
    (V311, "3d .. '$aws/things/t/shadow/update' ffff 00ff"),
    (V5, "30 .. 'a/b' [] `hello`"),
    (V5, "34 .. 'ü/語' 1234 []"),
    (V5, "3b .. 'a' 0007 [23 0001] `x`"),
    (V5, "30 .. '' [23 ffff] `x`"),
    (
        V5,
        "30 .. 'a' [01 01 02 00000e10 23 0002 08 're/ply' 09 0003 000102 26 'k' 'v' 26 '' '' \
         03 'application/json'] `{}`",
    ),
    // PUBACK, PUBREC, PUBREL, PUBCOMP
    (V311, "40 02 0001"),
    (V311, "50 02 ffff"),
    (V311, "62 02 0001"),
    (V311, "70 02 0001"),
    (V5, "40 02 0001"),
    (V5, "40 03 0001 10"),
    (V5, "40 03 0001 87"),
    (V5, "50 03 0001 97"),
    (V5, "62 03 0001 92"),
    (V5, "70 03 0001 92"),
    // SUBSCRIBE
    (V311, "82 .. 0001 'a/b' 00"),
    (V311, "82 .. 0001 'a/+' 01 '#' 02 '$share/g/x' 00"),
    (V5, "82 .. 0001 [] 'a/b' 00"),
    (V5, "82 .. ffff [0b ffffff7f] 'a/+/c' 2e '+' 15 '$share/g/a/#' 1a"),
    // UNSUBSCRIBE
    (V311, "a2 .. 0001 'a/b'"),
    (V311, "a2 .. 0001 'a/b' '#' '$share/g/x'"),
    (V5, "a2 .. 0001 [] 'a/b' '+/+'"),
    // PINGREQ, DISCONNECT, AUTH
    (V311, "c0 00"),
    (V5, "c0 00"),
    (V311, "e0 00"),
    (V5, "e0 00"),
    (V5, "e0 01 04"),
    (V5, "e0 01 81"),
    (V5, "e0 .. 04 [11 0000003c 1f 'battery low']"),
    (V5, "e0 .. 00 [11 00000000]"),
    (V5, "f0 .. 18 [15 'SCRAM-SHA-256' 16 0003 000102]"),
    (V5, "f0 .. 19 [15 'm']"),
];

/// Legal packets in another than the canonical form, which stands behind them: defaults are
/// written out, properties stand in another order, or are of those that the server does not use
/// (Reason String and User Property outside of CONNECT, PUBLISH and DISCONNECT).
pub const OTHER_FORMS: &[(Version, &str, &str)] = &[
    (V5, "40 04 0001 00 []", "40 02 0001"),
    (V5, "40 03 0001 00", "40 02 0001"),
    (V5, "40 .. 0001 10 [1f 'why' 26 'k' 'v']", "40 03 0001 10"),
    (V5, "50 .. 0001 00 [26 'k' 'v' 26 'k' 'v']", "50 02 0001"),
    (V5, "62 04 0001 92 []", "62 03 0001 92"),
    (V5, "70 .. 0001 92 [1f '']", "70 03 0001 92"),
    (V5, "e0 02 00 []", "e0 00"),
    (V5, "e0 01 00", "e0 00"),
    (V5, "e0 .. 04 [26 'k' 'v' 1f 'r']", "e0 .. 04 [1f 'r']"),
    (V5, "f0 .. 18 [1f 'r' 26 'k' 'v' 16 0000 15 'm']", "f0 .. 18 [15 'm' 16 0000]"),
    (V5, "82 .. 0001 [26 'k' 'v' 0b 01] 'a' 00", "82 .. 0001 [0b 01] 'a' 00"),
    (V5, "a2 .. 0001 [26 'k' 'v'] 'a'", "a2 .. 0001 [] 'a'"),
    (V5, "30 .. 'a' [01 00] `x`", "30 .. 'a' [] `x`"),
    (V5, "30 .. 'a' [23 0001 01 01] `x`", "30 .. 'a' [01 01 23 0001] `x`"),
    (
        V5,
        "10 .. 'MQTT' 05 02 0000 [17 01 19 00 22 0000 11 00000000] 'c'",
        "10 .. 'MQTT' 05 02 0000 [] 'c'",
    ),
    (
        V5,
        "10 .. 'MQTT' 05 06 0000 [16 0000 15 'm'] 'c' [18 00000000 01 00] 'w' ''",
        "10 .. 'MQTT' 05 06 0000 [15 'm'] 'c' [] 'w' ''",
    ),
];

#[test]
fn legal_packets_are_taken_and_read_to_the_last_bit() {
    let same = CANONICAL.iter().map(|(version, packet)| (version, packet, packet));
    let other = OTHER_FORMS.iter().map(|(version, packet, canonical)| (version, packet, canonical));
    for (version, packet, canonical) in same.chain(other) {
        match hex::decode(*version, &hex::bytes(packet)) {
            Ok(decoded) => {
                let again = client::encode(*version, &decoded);
                assert_eq!(again, hex::bytes(canonical), "{packet} was read as {decoded:?}");
            }
            Err(error) => panic!("{packet}: {error}"),
        }
    }
}

#[test]
fn packets_in_one_buffer_are_decoded_one_by_one() {
    for version in [V311, V5] {
        let mut codec = hex::connected(version);
        let packets: Vec<_> = CANONICAL
            .iter()
            .filter(|(v, packet)| *v == version && !packet.starts_with("10"))
            .map(|(_, packet)| hex::bytes(packet))
            .collect();
        let buffer = packets.concat();
        let mut at = 0;
        for packet in &packets {
            let (decoded, len) = codec.decode(&buffer[at..]).unwrap().unwrap();
            assert_eq!(client::encode(version, &decoded), *packet);
            at += len;
        }
        assert_eq!(at, buffer.len());
        assert_eq!(codec.decode(&[]), Ok(None));
    }
}

#[track_caller]
fn check(version: Version, packet: &str, expected: Packet) {
    assert_eq!(hex::decode(version, &hex::bytes(packet)), Ok(expected), "{packet}");
}

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn topic(text: &str) -> TopicName {
    TopicName::parse(text).unwrap()
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

fn connect(version: Version) -> Connect {
    Connect {
        version,
        clean_start: true,
        keep_alive_s: 0,
        client_id: Some(ClientId::parse("c").unwrap()),
        username: None,
        password: None,
        will: None,
        session_expiry_s: 0,
        receive_maximum: None,
        maximum_packet_size: None,
        topic_alias_maximum: 0,
        request_response_information: false,
        request_problem_information: true,
        authentication: None,
        user_properties: Vec::new(),
    }
}

#[test]
fn connect_says_what_it_says() {
    check(V311, "10 .. 'MQTT' 04 02 0000 'c'", Packet::Connect(Box::new(connect(V311))));
    check(V5, "10 .. 'MQTT' 05 02 0000 [] 'c'", Packet::Connect(Box::new(connect(V5))));
    // A kept session of 3.1.1 never expires.
    let kept = Connect { clean_start: false, session_expiry_s: u32::MAX, ..connect(V311) };
    check(V311, "10 .. 'MQTT' 04 00 0000 'c'", Packet::Connect(Box::new(kept)));
    let kept = Connect { clean_start: false, ..connect(V5) };
    check(V5, "10 .. 'MQTT' 05 00 0000 [] 'c'", Packet::Connect(Box::new(kept)));
    // An empty client id is the session's to judge; an empty user name is one; a password is
    // any bytes.
    let named = Connect {
        client_id: None,
        keep_alive_s: 258,
        username: Some("".into()),
        password: Some(Bytes::from_static(&[0xff, 0xfe])),
        ..connect(V311)
    };
    check(V311, "10 .. 'MQTT' 04 c2 0102 '' '' 0002 fffe", Packet::Connect(Box::new(named)));

    let full = Connect {
        session_expiry_s: 60,
        receive_maximum: NonZeroU16::new(20),
        maximum_packet_size: Some(65_536),
        topic_alias_maximum: 10,
        request_response_information: true,
        request_problem_information: false,
        authentication: Some(("m".into(), Bytes::from_static(b"\0"))),
        user_properties: vec![("k".into(), "v".into()), ("k".into(), "w".into())],
        will: Some(Box::new(Will {
            topic: topic("w/t"),
            payload: Bytes::from_static(b"gone"),
            qos: QoS::ExactlyOnce,
            retain: true,
            delay_s: 5,
            properties: Some(Box::new(Properties {
                payload_is_utf8: true,
                expiry_s: Some(10),
                content_type: Some("t".into()),
                response_topic: Some(topic("r")),
                correlation_data: Some(Bytes::from_static(&[0xfe])),
                user: vec![("x".into(), "y".into())],
            })),
        })),
        ..connect(V5)
    };
    check(
        V5,
        "10 .. 'MQTT' 05 36 0000 [11 0000003c 21 0014 27 00010000 22 000a 19 01 17 00 26 'k' 'v' \
         26 'k' 'w' 15 'm' 16 0001 00] 'c' [18 00000005 01 01 02 0000000a 03 't' 08 'r' \
         09 0001 fe 26 'x' 'y'] 'w/t' 'gone'",
        Packet::Connect(Box::new(full)),
    );
}

#[test]
fn publish_says_what_it_says() {
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: Some(topic("a/b")),
        packet_id: None,
        topic_alias: None,
        payload: Bytes::from_static(b"hi"),
        properties: None,
    };
    check(V311, "30 .. 'a/b' `hi`", Packet::Publish(publish.clone()));
    check(V5, "30 .. 'a/b' [] `hi`", Packet::Publish(publish.clone()));
    let flags = Publish {
        dup: true,
        qos: QoS::ExactlyOnce,
        retain: true,
        packet_id: Some(id(258)),
        ..publish.clone()
    };
    check(V311, "3d .. 'a/b' 0102 `hi`", Packet::Publish(flags));
    let full = Publish {
        topic: None,
        topic_alias: NonZeroU16::new(258),
        properties: Some(Box::new(Properties {
            payload_is_utf8: true,
            expiry_s: Some(3_600),
            content_type: Some("t".into()),
            response_topic: Some(topic("r")),
            correlation_data: Some(Bytes::from_static(&[0, 1])),
            user: vec![("b".into(), "1".into()), ("a".into(), "2".into())],
        })),
        ..publish
    };
    check(
        V5,
        "30 .. '' [26 'b' '1' 23 0102 02 00000e10 01 01 09 0002 0001 03 't' 08 'r' 26 'a' '2'] `hi`",
        Packet::Publish(full),
    );
}

#[test]
fn the_other_packets_say_what_they_say() {
    let ack = |reason| Ack { packet_id: id(258), reason };
    check(V311, "40 02 0102", Packet::PubAck(ack(Reason::Success)));
    check(V5, "40 03 0102 10", Packet::PubAck(ack(Reason::NoMatchingSubscribers)));
    check(V5, "50 03 0102 97", Packet::PubRec(ack(Reason::QuotaExceeded)));
    check(V5, "62 03 0102 92", Packet::PubRel(ack(Reason::PacketIdNotFound)));
    check(V5, "70 02 0102", Packet::PubComp(ack(Reason::Success)));

    let subscribe = Subscribe {
        packet_id: id(258),
        subscription_id: NonZeroU32::new(268_435_455),
        filters: vec![
            (
                filter("a/#"),
                SubscribeOptions {
                    qos: QoS::ExactlyOnce,
                    no_local: true,
                    retain_as_published: false,
                    retain_handling: RetainHandling::IfNew,
                    ..Default::default()
                },
            ),
            (
                filter("b"),
                SubscribeOptions {
                    qos: QoS::AtLeastOnce,
                    no_local: false,
                    retain_as_published: true,
                    retain_handling: RetainHandling::Never,
                    ..Default::default()
                },
            ),
            (filter("+"), SubscribeOptions::default()),
        ],
    };
    check(
        V5,
        "82 .. 0102 [0b ffffff7f] 'a/#' 16 'b' 29 '+' 00",
        Packet::Subscribe(Box::new(subscribe)),
    );
    let unsubscribe = Unsubscribe { packet_id: id(258), filters: vec![filter("a/#"), filter("b")] };
    check(V311, "a2 .. 0102 'a/#' 'b'", Packet::Unsubscribe(Box::new(unsubscribe)));
    let disconnect = Disconnect {
        reason: Reason::DisconnectWithWill,
        session_expiry_s: Some(60),
        reason_string: Some("r".into()),
    };
    check(V5, "e0 .. 04 [1f 'r' 11 0000003c]", Packet::Disconnect(Box::new(disconnect)));
    let auth = Auth {
        reason: Reason::ReAuthenticate,
        method: Some("m".into()),
        data: Some(Bytes::from_static(&[0xff])),
    };
    check(V5, "f0 .. 19 [16 0001 ff 15 'm']", Packet::Auth(Box::new(auth)));
    check(V5, "c0 00", Packet::PingReq);
}

#[test]
fn a_publish_shares_its_topic_with_the_one_before() {
    let mut codec = hex::connected(V5);
    let mut topics = Vec::new();
    for packet in ["30 .. 'a/b' [] `1`", "32 .. 'a/b' 0001 [] `2`", "30 .. 'a/c' [] `3`"] {
        match codec.decode(&hex::bytes(packet)).unwrap() {
            Some((Packet::Publish(publish), _)) => topics.push(publish.topic.unwrap()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(topics[0].as_str().as_ptr(), topics[1].as_str().as_ptr());
    assert_eq!(topics[2].as_str(), "a/c");
}

#[test]
fn a_payload_does_not_refer_to_the_read_buffer() {
    let packet = hex::bytes("30 .. 'a/b' `hi`");
    let Some((Packet::Publish(publish), _)) = hex::connected(V311).decode(&packet).unwrap() else {
        panic!("no PUBLISH");
    };
    assert!(!packet.as_ptr_range().contains(&publish.payload.as_ptr()));
}

#[test]
fn an_idle_connections_codec_is_small() {
    assert!(size_of::<Codec>() <= 40, "{}", size_of::<Codec>());
}
