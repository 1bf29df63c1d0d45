//! Messages from the broker to a client: identifiers, acknowledgements, what is sent again.

use crate::client::{Client, side_by_side};
use crate::packets::{Connect, Message, ack, ack_with, subscribe, topic};
use crate::read::Packet;
use crate::wire::{BOTH, Version, reason};
use std::collections::BTreeSet;

/// A durable session that is subscribed to the topic with this QoS, and a publisher.
#[track_caller]
fn pair(version: Version, topic: &str, qos: u8) -> (Connect, Client, Client) {
    let connect = Connect::durable(version);
    let mut subscriber = connect.open();
    subscriber.subscribe(topic, qos);
    (connect, subscriber, Client::connect(version))
}

/// 3.1.1: 3.8.4-6
/// 5.0: 3.8.4-8
#[test]
fn a_message_comes_with_the_lower_qos_of_publication_and_subscription() {
    for version in BOTH {
        for granted in [0, 1, 2] {
            let topic = topic();
            let (_, mut subscriber, mut publisher) = pair(version, &topic, granted);
            for qos in [0, 1, 2] {
                publisher.publish(&topic, "x", qos);
                assert_eq!(subscriber.receive("x").qos, qos.min(granted));
            }
        }
    }
}

/// 3.1.1: 2.3.1-1, 2.3.1-2, 2.3.1-4, 4.3.2-1, 4.3.3-1
/// 5.0: 2.2.1-4, 4.3.2-1, 4.3.2-2, 4.3.3-1, 4.3.3-2
#[test]
fn messages_under_way_have_identifiers_of_their_own() {
    for version in BOTH {
        let topic = topic();
        let (_, mut subscriber, mut publisher) = pair(version, &topic, 2);
        let mut used = BTreeSet::new();
        for round in 0..10 {
            publisher.publish(&topic, "x", 1 + round % 2);
            let publish = subscriber.message();
            assert!(!publish.dup);
            assert!(used.insert(publish.packet_id), "{} is in use", publish.packet_id);
        }
        subscriber.quiet();
    }
}

/// 3.1.1: 4.3.3-1, 2.3.1-6
/// 5.0: 4.3.3-4, 2.2.1-5, 3.6.2-1
#[test]
fn pubrec_is_answered_with_pubrel() {
    for version in BOTH {
        let topic = topic();
        let (_, mut subscriber, mut publisher) = pair(version, &topic, 2);
        publisher.publish(&topic, "x", 2);
        let packet_id = subscriber.message().packet_id;
        subscriber.send(&ack(0x50, packet_id));
        assert_eq!(subscriber.ack(0x62), (packet_id, 0));
        subscriber.send(&ack(0x70, packet_id));
        subscriber.quiet();
    }
}

/// 3.1.1: 3.3.1-1, 2.3.1-3, 2.3.1-4, 4.3.2-1, 4.3.3-1, 4.4.0-1, 4.6.0-6
/// 5.0: 3.3.1-1, 4.3.2-3, 4.3.3-3, 4.4.0-1
#[test]
fn what_was_not_acknowledged_comes_again_after_resumption() {
    for version in BOTH {
        let topic = topic();
        let (connect, mut subscriber, mut publisher) = pair(version, &topic, 2);
        for (payload, qos) in [("a", 1), ("b", 2), ("c", 1), ("d", 2)] {
            publisher.publish(&topic, payload, qos);
        }
        let first: Vec<_> = (0..4).map(|_| subscriber.message()).collect();
        subscriber.cut();
        let (mut subscriber, present) = connect.resume();
        assert!(present);
        for sent in first {
            let again = subscriber.receive(&String::from_utf8(sent.payload.clone()).unwrap());
            assert!(again.dup, "a second try has DUP");
            assert_eq!((again.packet_id, again.qos), (sent.packet_id, sent.qos));
        }
        subscriber.quiet();
        // Nothing is left.
        subscriber.cut();
        connect.open().quiet();
    }
}

/// 3.1.1: 4.3.3-1, 4.4.0-1
/// 5.0: 4.3.3-5, 4.3.3-6, 4.4.0-1
#[test]
fn after_pubrec_only_pubrel_comes_again() {
    for version in BOTH {
        let topic = topic();
        let (connect, mut subscriber, mut publisher) = pair(version, &topic, 2);
        publisher.publish(&topic, "x", 2);
        let packet_id = subscriber.message().packet_id;
        subscriber.send(&ack(0x50, packet_id));
        assert_eq!(subscriber.ack(0x62), (packet_id, 0));
        subscriber.cut();
        let (mut subscriber, _) = connect.resume();
        assert_eq!(subscriber.ack(0x62), (packet_id, 0));
        subscriber.send(&ack(0x70, packet_id));
        subscriber.quiet();
        subscriber.cut();
        connect.open().quiet();
    }
}

/// 3.1.1: 4.4.0-1
/// 5.0: 4.4.0-1
#[test]
fn what_was_acknowledged_does_not_come_again() {
    for version in BOTH {
        let topic = topic();
        let (connect, mut subscriber, mut publisher) = pair(version, &topic, 2);
        for qos in [0, 1, 2] {
            publisher.publish(&topic, "x", qos);
            subscriber.receive("x");
        }
        subscriber.quiet();
        subscriber.cut();
        let (mut subscriber, _) = connect.resume();
        publisher.publish(&topic, "new", 1);
        subscriber.receive("new");
        subscriber.quiet();
    }
}

/// 5.0: 4.4.0-2
#[test]
fn a_refusal_by_the_client_ends_the_delivery() {
    let topic = topic();
    let (connect, mut subscriber, mut publisher) = pair(Version::V5, &topic, 2);
    for (qos, first) in [(1, 0x40), (2, 0x50)] {
        publisher.publish(&topic, "x", qos);
        let packet_id = subscriber.message().packet_id;
        subscriber.send(&ack_with(first, packet_id, 0x83));
        subscriber.quiet();
    }
    subscriber.cut();
    connect.open().quiet();
}

/// 3.1.1: 4.4.0-1
/// 5.0: 4.4.0-1
#[test]
fn nothing_is_sent_again_while_the_connection_lasts() {
    side_by_side(|version| {
        let topic = topic();
        let (_, mut subscriber, mut publisher) = pair(version, &topic, 1);
        publisher.publish(&topic, "x", 1);
        subscriber.message();
        // Longer than brokers of old waited would take too long here; what is shown is that
        // neither traffic nor a moment's silence brings it.
        std::thread::sleep(std::time::Duration::from_millis(1_500));
        publisher.publish(&topic, "y", 1);
        subscriber.receive("y");
        subscriber.quiet();
    });
}

/// 3.1.1: 2.3.1-2, 2.3.1-4, 4.3.3-1, 4.3.3-2
/// 5.0: 2.2.1-3, 2.2.1-4, 4.3.3-4, 4.3.3-11
#[test]
fn the_identifiers_of_the_two_directions_do_not_meet() {
    for version in BOTH {
        let (topic, other) = (topic(), topic());
        let (_, mut client, mut publisher) = pair(version, &topic, 2);
        publisher.publish(&topic, "theirs", 2);
        let packet_id = client.message().packet_id;
        let own = Message { qos: 2, ..Message::new(&other, "own") };
        client.send(&own.bytes(version, packet_id));
        client.acknowledged(0x50, packet_id);
        client.send(&ack(0x50, packet_id));
        assert_eq!(client.ack(0x62), (packet_id, 0));
        client.send(&ack(0x62, packet_id));
        client.acknowledged(0x70, packet_id);
        client.send(&ack(0x70, packet_id));
        client.quiet();
        // And a SUBSCRIBE may have it meanwhile.
        publisher.publish(&topic, "theirs", 1);
        let packet_id = client.message().packet_id;
        client.send(&subscribe(version, packet_id, &[(&other, 0)], &[]));
        assert!(matches!(client.packet(), Packet::SubAck { packet_id: it, .. } if it == packet_id));
        client.send(&ack(0x40, packet_id));
        client.quiet();
    }
}

/// 3.1.1: 4.8.0-1
/// 5.0: 4.13.1-1
#[test]
fn an_acknowledgement_of_the_wrong_kind_ends_the_connection() {
    for version in BOTH {
        // What the message has, and what the client answers in turn.
        for (qos, answers) in
            [(1, &[0x50][..]), (1, &[0x70]), (2, &[0x40]), (2, &[0x70]), (2, &[0x50, 0x40])]
        {
            let topic = topic();
            let (_, mut subscriber, mut publisher) = pair(version, &topic, qos);
            publisher.publish(&topic, "x", qos);
            let packet_id = subscriber.message().packet_id;
            let Some((wrong, right)) = answers.split_last() else { continue };
            for first in right {
                subscriber.send(&ack(*first, packet_id));
                subscriber.ack(0x62);
            }
            subscriber.send(&ack(*wrong, packet_id));
            subscriber.ended(reason::PROTOCOL_ERROR);
        }
    }
}

/// 5.0: 4.3.3-4
#[test]
fn a_pubrec_that_refuses_is_not_answered() {
    let topic = topic();
    let (_, mut subscriber, mut publisher) = pair(Version::V5, &topic, 2);
    publisher.publish(&topic, "x", 2);
    let packet_id = subscriber.message().packet_id;
    for _ in 0..2 {
        subscriber.send(&ack_with(0x50, packet_id, 0x80));
        subscriber.quiet();
    }
}
