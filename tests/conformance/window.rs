//! How many messages may be under way, each way (5.0: 3.1.2.11.3, 3.2.2.3.3, 4.9).

use crate::client::Client;
use crate::packets::{Connect, Message, ack, ack_with, topic};
use crate::server::{self, small};
use crate::wire::{Version, four, id, reason, two};

/// 5.0: 3.3.4-7, 4.13.1-1
#[test]
fn more_unacknowledged_messages_than_the_server_takes_end_the_connection() {
    let Some(address) = server::small() else { return };
    let (mut client, _, properties) = Connect::new(Version::V5).open_at(address);
    let maximum = small::RECEIVE_MAXIMUM;
    assert_eq!(properties.number(id::RECEIVE_MAXIMUM), Some(maximum.into()));
    let message = |id| Message { qos: 2, ..Message::new("a", "x") }.bytes(Version::V5, id);
    for id in 1..=maximum {
        client.send(&message(id));
        client.acknowledged(0x50, id);
    }
    client.send(&message(maximum + 1));
    client.ended(reason::RECEIVE_MAXIMUM);
}

/// 5.0: 3.3.4-7, 4.9.0-2
#[test]
fn acknowledged_messages_make_room() {
    let Some(address) = server::small() else { return };
    let (mut client, _, _) = Connect::new(Version::V5).open_at(address);
    for _ in 0..5 * small::RECEIVE_MAXIMUM {
        client.publish("a", "x", 1);
        client.publish("a", "x", 2);
    }
}

/// 5.0: 3.3.4-9, 4.9.0-1, 4.9.0-2
#[test]
fn a_resumed_session_keeps_to_its_new_receive_maximum() {
    let topic = topic();
    let wide = Connect::durable(Version::V5);
    let mut client = wide.open();
    client.subscribe(&topic, 2);
    let mut publisher = Client::connect(Version::V5);
    let payloads = ["a", "b", "c", "d", "e"];
    for payload in payloads {
        publisher.publish(&topic, payload, 2);
    }
    for _ in payloads {
        client.message();
    }
    client.cut();
    let mut narrow = wide.clone();
    narrow.properties.extend(two(id::RECEIVE_MAXIMUM, 2));
    let mut client = narrow.open();
    let (first, second) = (client.message(), client.message());
    client.quiet();
    for publish in [first, second] {
        client.send(&ack(0x50, publish.packet_id));
        assert_eq!(client.ack(0x62), (publish.packet_id, 0));
    }
    client.quiet();
    client.cut();
    // Two PUBRELs fill the window as well.
    let mut client = narrow.open();
    let (first, second) = (client.ack(0x62).0, client.ack(0x62).0);
    client.quiet();
    client.send(&[ack(0x70, first), ack(0x70, second)].concat());
    for payload in &payloads[2..] {
        assert!(client.receive(payload).dup);
    }
    client.quiet();
}

/// 5.0: 3.3.2-5
#[test]
fn a_message_that_expires_before_the_window_opens_is_not_delivered() {
    let topic = topic();
    let properties = two(id::RECEIVE_MAXIMUM, 1);
    let mut client = Connect { properties, ..Connect::new(Version::V5) }.open();
    client.subscribe(&topic, 1);
    let mut publisher = Client::connect(Version::V5);
    publisher.publish(&topic, "first", 1);
    let properties = four(id::MESSAGE_EXPIRY, 1);
    publisher.publish_with(&Message { qos: 1, properties, ..Message::new(&topic, "short") });
    publisher.publish(&topic, "long", 1);
    let first = client.message();
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    client.send(&ack(0x40, first.packet_id));
    client.receive("long");
    client.quiet();
}

/// 3.1.1: 3.3.1-6
/// 5.0: 3.3.1-9, 3.3.4-9
#[test]
fn more_retained_messages_than_the_window_come_one_after_the_other() {
    let topic = topic();
    let mut publisher = Client::connect(Version::V5);
    let names: Vec<_> = (0..150).map(|number| format!("{topic}/{number}")).collect();
    names.iter().for_each(|name| publisher.retain(name, "x"));
    let narrow = two(id::RECEIVE_MAXIMUM, 3);
    for connect in
        [Connect { properties: narrow, ..Connect::new(Version::V5) }, Connect::new(Version::V311)]
    {
        let mut client = connect.open();
        client.subscribe(&format!("{topic}/+"), 1);
        let mut found: Vec<_> = names.iter().map(|_| client.receive("x").topic).collect();
        found.sort();
        found.dedup();
        assert_eq!(found.len(), names.len());
        client.quiet();
    }
    names.iter().for_each(|name| publisher.retain(name, ""));
}

/// 5.0: 3.3.4-9, 4.9.0-1, 4.9.0-2
#[test]
fn no_more_is_under_way_than_the_client_takes() {
    let topic = topic();
    let connect = Connect { properties: two(id::RECEIVE_MAXIMUM, 2), ..Connect::new(Version::V5) };
    let mut subscriber = connect.open();
    subscriber.subscribe(&topic, 2);
    let mut publisher = Client::connect(Version::V5);
    for payload in ["a", "b", "c", "d"] {
        publisher.publish(&topic, payload, 2);
    }
    let first = subscriber.message();
    let second = subscriber.message();
    subscriber.quiet();
    // PUBREC alone makes no room.
    subscriber.send(&ack(0x50, first.packet_id));
    assert_eq!(subscriber.ack(0x62), (first.packet_id, 0));
    subscriber.quiet();
    subscriber.send(&ack(0x70, first.packet_id));
    let third = subscriber.receive("c");
    assert_ne!(third.packet_id, second.packet_id);
    subscriber.receive("d");
    // A refusal makes room.
    publisher.publish(&topic, "e", 2);
    let fifth = subscriber.message();
    publisher.publish(&topic, "f", 2);
    subscriber.quiet();
    subscriber.send(&ack_with(0x50, fifth.packet_id, 0x80));
    subscriber.receive("f");
}

/// 5.0: 3.3.4-10, 4.9.0-3
#[test]
fn a_full_window_holds_back_nothing_but_publish() {
    let (topic, other) = (topic(), topic());
    let connect = Connect { properties: two(id::RECEIVE_MAXIMUM, 1), ..Connect::new(Version::V5) };
    let mut client = connect.open();
    client.subscribe(&topic, 1);
    let mut publisher = Client::connect(Version::V5);
    publisher.publish(&topic, "a", 1);
    publisher.publish(&topic, "b", 1);
    let first = client.message();
    client.quiet();
    client.subscribe(&other, 1);
    client.publish("elsewhere", "x", 2);
    assert_eq!(client.unsubscribe(&[&other]), [0]);
    client.send(&ack(0x40, first.packet_id));
    client.receive("b");
}
