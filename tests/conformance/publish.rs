//! Messages from a client to the broker (both standards, 3.3 to 3.7 and 4.3).

use crate::client::Client;
use crate::packets::{Connect, Message, ack, ack_with, subscribe, topic};
use crate::read::Packet;
use crate::server;
use crate::wire::{BOTH, Version, packet, reason, text};

/// Two clients: one that publishes, and one that is subscribed to the topic with QoS 2.
#[track_caller]
fn pair(version: Version, topic: &str) -> (Client, Client) {
    let mut subscriber = Client::connect(version);
    subscriber.subscribe(topic, 2);
    (Client::connect(version), subscriber)
}

/// 3.1.1: 3.3.4-1, 4.3.1-1, 3.3.1-2, 2.3.1-5, 3.3.2-1, 3.3.2-3
/// 5.0: 3.3.4-1, 4.3.1-1, 3.3.1-2, 2.2.1-2, 2.2.2-1, 3.3.2-1, 3.3.2-3
#[test]
fn qos_0_is_delivered_and_not_acknowledged() {
    for version in BOTH {
        let topic = topic();
        let (mut publisher, mut subscriber) = pair(version, &topic);
        publisher.publish(&topic, "one", 0);
        publisher.quiet();
        let received = subscriber.receive("one");
        assert_eq!((received.qos, received.dup, received.retain), (0, false, false));
        assert_eq!(received.topic, topic);
        subscriber.quiet();
    }
}

/// 3.1.1: 3.3.4-1, 2.3.1-6, 4.3.2-2
/// 5.0: 3.3.4-1, 2.2.1-5, 3.4.2-1, 4.3.2-4
#[test]
fn qos_1_is_delivered_and_acknowledged() {
    for version in BOTH {
        let topic = topic();
        let (mut publisher, mut subscriber) = pair(version, &topic);
        for packet_id in [1, 0x1234, 0xffff] {
            let message = Message { qos: 1, ..Message::new(&topic, "one") };
            publisher.send(&message.bytes(version, packet_id));
            publisher.acknowledged(0x40, packet_id);
            assert_eq!(subscriber.receive("one").qos, 1);
        }
        publisher.quiet();
        subscriber.quiet();
    }
}

/// 3.1.1: 3.3.4-1, 2.3.1-6, 4.3.3-2
/// 5.0: 3.3.4-1, 2.2.1-5, 3.5.2-1, 3.7.2-1, 4.3.3-8, 4.3.3-11
#[test]
fn qos_2_is_delivered_once_through_its_handshake() {
    for version in BOTH {
        let topic = topic();
        let (mut publisher, mut subscriber) = pair(version, &topic);
        publisher.send(&Message { qos: 2, ..Message::new(&topic, "one") }.bytes(version, 7));
        publisher.acknowledged(0x50, 7);
        publisher.send(&ack(0x62, 7));
        publisher.acknowledged(0x70, 7);
        publisher.quiet();
        assert_eq!(subscriber.receive("one").qos, 2);
        subscriber.quiet();
    }
}

/// 3.1.1: 4.3.3-2
/// 5.0: 4.3.3-10
#[test]
fn a_qos_2_publish_that_comes_again_is_acknowledged_and_not_delivered_again() {
    for version in BOTH {
        let topic = topic();
        let (mut publisher, mut subscriber) = pair(version, &topic);
        let message = Message { qos: 2, ..Message::new(&topic, "one") };
        publisher.send(&message.bytes(version, 7));
        publisher.acknowledged(0x50, 7);
        for dup in [true, false, true] {
            publisher.send(&Message { dup, ..message.clone() }.bytes(version, 7));
            publisher.acknowledged(0x50, 7);
        }
        publisher.send(&ack(0x62, 7));
        publisher.acknowledged(0x70, 7);
        publisher.publish(&topic, "marker", 2);
        subscriber.receive("one");
        subscriber.receive("marker");
        subscriber.quiet();
    }
}

/// 3.1.1: 4.3.3-2
/// 5.0: 4.3.3-12
#[test]
fn after_pubcomp_the_identifier_stands_for_a_new_message() {
    for version in BOTH {
        let topic = topic();
        let (mut publisher, mut subscriber) = pair(version, &topic);
        for dup in [false, true] {
            let message = Message { qos: 2, dup, ..Message::new(&topic, "same") };
            publisher.send(&message.bytes(version, 7));
            publisher.acknowledged(0x50, 7);
            publisher.send(&ack(0x62, 7));
            publisher.acknowledged(0x70, 7);
            assert!(!subscriber.receive("same").dup);
        }
        subscriber.quiet();
    }
}

/// 3.1.1: 4.3.2-2, 3.3.1-3
/// 5.0: 4.3.2-5, 3.3.1-3
#[test]
fn after_puback_the_identifier_stands_for_a_new_message_even_with_dup() {
    for version in BOTH {
        let topic = topic();
        let (mut publisher, mut subscriber) = pair(version, &topic);
        for dup in [false, true] {
            let message = Message { qos: 1, dup, ..Message::new(&topic, "same") };
            publisher.send(&message.bytes(version, 7));
            publisher.acknowledged(0x40, 7);
            // The flag is the sender's own: the subscriber gets it for the first time.
            assert!(!subscriber.receive("same").dup);
        }
        subscriber.quiet();
    }
}

/// 3.1.1: 4.3.3-2, 2.3.1-6
/// 5.0: 4.3.3-11, 3.7.2-1, 2.2.1-5
#[test]
fn pubrel_without_its_publish_is_answered() {
    for version in BOTH {
        let mut client = Client::connect(version);
        client.send(&ack(0x62, 99));
        let (packet_id, reason) = client.ack(0x70);
        assert_eq!(packet_id, 99);
        // 0: a broker need not remember.
        assert!(reason == 0 || version == Version::V5 && reason == reason::UNKNOWN_ID);
        client.quiet();
    }
}

/// 5.0: 3.6.2-1
#[test]
fn pubrec_without_its_publish_is_answered_or_ignored() {
    for version in BOTH {
        let mut client = Client::connect(version);
        client.send(&ack(0x50, 99));
        client.send(&ack(0x40, 98));
        client.send(&ack(0x70, 97));
        client.send(&[0xc0, 0]);
        match client.packet() {
            Packet::Ack { first: 0x62, packet_id: 99, reason, .. } => {
                assert!(reason == 0 || version == Version::V5 && reason == reason::UNKNOWN_ID);
                assert_eq!(client.packet(), Packet::PingResp);
            }
            other => assert_eq!(other, Packet::PingResp),
        }
    }
}

/// 3.1.1: 4.6.0-5, 4.6.0-6
/// 5.0: 4.6.0-5, 4.6.0-6
#[test]
fn messages_of_a_topic_come_in_the_order_of_their_publication() {
    for version in BOTH {
        for qos in [0, 1, 2] {
            let topic = topic();
            let (mut publisher, mut subscriber) = pair(version, &topic);
            let sent: Vec<_> = (0..30).map(|number| format!("{number}")).collect();
            for payload in &sent {
                publisher.publish(&topic, payload, qos);
            }
            let received: Vec<_> = (0..30)
                .map(|_| {
                    let publish = subscriber.message();
                    assert_eq!(publish.qos, qos);
                    String::from_utf8(publish.payload).unwrap()
                })
                .collect();
            assert_eq!(received, sent);
        }
    }
}

/// 3.1.1: 4.6.0-6
/// 5.0: 4.3.2-4, 4.3.3-8
#[test]
fn acknowledgements_come_in_the_order_of_what_they_acknowledge() {
    for version in BOTH {
        let topic = topic();
        let mut client = Client::connect(version);
        for (qos, first) in [(1, 0x40), (2, 0x50)] {
            let packets: Vec<_> = (1..=20)
                .map(|id| Message { qos, ..Message::new(&topic, "x") }.bytes(version, id))
                .collect();
            client.send(&packets.concat());
            for id in 1..=20 {
                client.acknowledged(first, id);
            }
        }
        client.send(&(1..=20).map(|id| ack(0x62, id)).collect::<Vec<_>>().concat());
        for id in 1..=20 {
            client.acknowledged(0x70, id);
        }
    }
}

/// 3.1.1: 3.3.5-2
/// 5.0: 3.4.2-1, 3.5.2-1, 4.3.3-9
#[test]
fn a_publish_that_the_policy_denies_is_delivered_to_nobody() {
    if !server::is_gnomon() {
        return;
    }
    let mut watcher = Client::connect(Version::V5);
    watcher.subscribe("+/corner", 0);
    for version in BOTH {
        for qos in [0, 1, 2] {
            let mut client = Client::connect(version);
            let message = Message { qos, ..Message::new("denied/corner", "secret") };
            client.send(&message.bytes(version, 5));
            match (version, qos) {
                (Version::V311, _) => client.closed(),
                (_, 0) => client.ended(reason::NOT_AUTHORIZED),
                (_, 1) => assert_eq!(client.ack(0x40), (5, reason::NOT_AUTHORIZED)),
                _ => {
                    assert_eq!(client.ack(0x50), (5, reason::NOT_AUTHORIZED));
                    // The identifier is free: no PUBREL follows a refusal.
                    let message = Message { topic: "allowed/corner", payload: b"fine", ..message };
                    client.send(&message.bytes(version, 5));
                    client.acknowledged(0x50, 5);
                    watcher.receive("fine");
                }
            }
        }
    }
    watcher.publish("marker/corner", "marker", 0);
    watcher.receive("marker");
}

/// 3.1.1: 3.3.1-4, 4.8.0-1
/// 5.0: 3.3.1-4, 4.13.1-1
#[test]
fn qos_3_ends_the_connection() {
    for version in BOTH {
        let mut client = Client::connect(version);
        client.send(&Message { qos: 3, ..Message::new(&topic(), "x") }.bytes(version, 1));
        client.ended(reason::MALFORMED);
    }
}

/// 3.1.1: 3.3.2-2, 4.7.1-1, 4.8.0-1
/// 5.0: 3.3.2-2, 4.7.0-1, 4.13.1-1
#[test]
fn a_wildcard_in_a_topic_name_ends_the_connection() {
    for version in BOTH {
        for name in ["a/+", "+", "#", "a/#", "a+b", "a#"] {
            let mut client = Client::connect(version);
            client.send(&Message::new(name, "x").bytes(version, 0));
            client.thrown_out();
        }
    }
}

/// 3.1.1: 4.7.3-1, 4.8.0-1
/// 5.0: 4.7.3-1
#[test]
fn an_empty_topic_name_ends_the_connection() {
    for version in BOTH {
        let mut client = Client::connect(version);
        client.send(&Message::new("", "x").bytes(version, 0));
        client.ended(reason::PROTOCOL_ERROR);
    }
}

/// 3.1.1: 2.3.1-1, 4.8.0-1
/// 5.0: 2.2.1-3
#[test]
fn packet_identifier_0_ends_the_connection() {
    for version in BOTH {
        for qos in [1, 2] {
            let mut client = Client::connect(version);
            client.send(&Message { qos, ..Message::new(&topic(), "x") }.bytes(version, 0));
            client.thrown_out();
        }
    }
}

/// 3.1.1: 3.3.2-1
/// 5.0: 3.3.2-1
#[test]
fn a_publish_without_a_whole_topic_name_ends_the_connection() {
    for version in BOTH {
        for body in [&[][..], &[0], &[0, 5, b'a'], &text("a")[..1]] {
            let mut client = Client::connect(version);
            client.send(&packet(0x30, body));
            client.thrown_out();
        }
    }
}

/// 3.1.1: 4.5.0-1, 7.1.1-1
/// 5.0: 4.5.0-1, 7.1.1-1
#[test]
fn payloads_of_every_size_and_byte_come_unchanged() {
    for version in BOTH {
        let topic = topic();
        let (mut publisher, mut subscriber) = pair(version, &topic);
        for len in [0, 1, 127, 128, 256, 16_383, 16_384, 100_000] {
            let payload: Vec<u8> = (0..=255).cycle().take(len).collect();
            let message = Message { payload: &payload, ..Message::new(&topic, "") };
            publisher.publish_with(&message);
            assert_eq!(subscriber.message().payload, payload, "{len} bytes");
        }
    }
}

/// 3.1.1: 4.5.0-1
/// 5.0: 4.5.0-1
#[test]
fn everybody_who_is_subscribed_gets_a_message_in_either_version() {
    for version in BOTH {
        let topic = topic();
        let mut subscribers: Vec<_> = BOTH
            .into_iter()
            .flat_map(|version| [0, 1, 2].map(|qos| (version, qos)))
            .map(|(version, qos)| {
                let mut client = Client::connect(version);
                client.subscribe(&topic, qos);
                (client, qos)
            })
            .collect();
        Client::connect(version).publish(&topic, "all", 2);
        for (client, qos) in &mut subscribers {
            assert_eq!(client.receive("all").qos, *qos);
        }
    }
}

/// 3.1.1: 4.3.3-2, 4.4.0-1
/// 5.0: 4.3.3-10, 4.4.0-1
#[test]
fn a_qos_2_handshake_goes_on_after_the_connection_was_lost() {
    for version in BOTH {
        let topic = topic();
        let (_, mut subscriber) = pair(version, &topic);
        let connect = Connect::durable(version);
        let mut publisher = connect.open();
        let message = Message { qos: 2, ..Message::new(&topic, "one") };
        publisher.send(&message.bytes(version, 7));
        publisher.acknowledged(0x50, 7);
        publisher.cut();
        let (mut publisher, present) = connect.resume();
        assert!(present);
        publisher.send(&Message { dup: true, ..message }.bytes(version, 7));
        publisher.acknowledged(0x50, 7);
        publisher.send(&ack(0x62, 7));
        publisher.acknowledged(0x70, 7);
        publisher.publish(&topic, "marker", 2);
        subscriber.receive("one");
        subscriber.receive("marker");
    }
}

/// 5.0: 3.4.2-1
#[test]
fn a_reason_in_an_acknowledgement_of_the_client_is_taken() {
    let topic = topic();
    let (mut publisher, mut subscriber) = pair(Version::V5, &topic);
    publisher.publish(&topic, "one", 1);
    let packet_id = subscriber.message().packet_id;
    subscriber.send(&ack_with(0x40, packet_id, 0x10));
    publisher.publish(&topic, "two", 1);
    subscriber.receive("two");
    subscriber.quiet();
}

/// 3.1.1: 4.5.0-1, 3.14.4-3
/// 5.0: 4.5.0-1
#[test]
fn what_was_published_right_before_the_end_is_delivered() {
    for version in BOTH {
        let topic = topic();
        let (mut publisher, mut subscriber) = pair(version, &topic);
        let message = Message::new(&topic, "x").bytes(version, 0);
        publisher.send(&[&message[..], &[0xe0, 0]].concat());
        publisher.closed();
        subscriber.receive("x");
        let mut publisher = Client::connect(version);
        publisher.send(&message);
        publisher.finished();
        subscriber.receive("x");
    }
}

/// 3.1.1: 3.8.4-1, 3.12.4-1, 4.3.2-2
/// 5.0: 3.8.4-1, 3.12.4-1, 4.3.2-4
#[test]
fn what_comes_in_one_read_is_answered_in_its_order() {
    for version in BOTH {
        // 3.1.1 has no answer to what is denied.
        let last = if version == Version::V5 && server::is_gnomon() { "denied/x" } else { "x" };
        let topic = topic();
        let mut client = Client::connect(version);
        client.send(
            &[
                subscribe(version, 1, &[(&topic, 0)], &[]),
                vec![0xc0, 0],
                Message { qos: 1, ..Message::new("x", "1") }.bytes(version, 2),
                Message { qos: 1, ..Message::new(last, "2") }.bytes(version, 3),
                vec![0xc0, 0],
            ]
            .concat(),
        );
        assert!(matches!(client.packet(), Packet::SubAck { packet_id: 1, .. }));
        assert!(matches!(client.packet(), Packet::PingResp));
        assert_eq!(client.ack(0x40).0, 2);
        assert_eq!(client.ack(0x40).0, 3);
        assert!(matches!(client.packet(), Packet::PingResp));
    }
}
