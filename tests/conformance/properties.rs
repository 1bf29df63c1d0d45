//! Properties of MQTT 5 (5.0, 2.2.2, 3.3.2.3).

use crate::client::Client;
use crate::packets::{Connect, Message, Will, ack, subscribe, topic};
use crate::read::{Packet, Properties};
use crate::wire::{
    Version, byte, four, id, packet, reason, section, string, subscription_id, text, two, user,
};
use std::time::Duration;

/// The properties with which a message that was published with these arrives.
#[track_caller]
fn passed_on(properties: Vec<u8>) -> Properties {
    let topic = topic();
    let mut client = Client::connect(Version::V5);
    client.subscribe(&topic, 1);
    let mut publisher = Client::connect(Version::V5);
    publisher.publish_with(&Message { qos: 1, properties, ..Message::new(&topic, "x") });
    client.receive("x").properties
}

/// A PUBLISH with these properties ends the connection.
#[track_caller]
fn check_publish_ends(properties: Vec<u8>) {
    let mut client = Client::connect(Version::V5);
    client.send(&Message { properties, ..Message::new("a", "x") }.bytes(Version::V5, 0));
    client.thrown_out();
}

/// A CONNECT with these properties is refused.
#[track_caller]
fn check_connect_ends(properties: Vec<u8>) {
    let mut client = Client::dial(Version::V5);
    client.send(&Connect { properties, ..Connect::new(Version::V5) }.bytes());
    client.thrown_out();
}

/// 5.0: 3.3.2-4
#[test]
fn the_payload_format_indicator_is_passed_on() {
    assert_eq!(passed_on(byte(id::PAYLOAD_FORMAT, 1)).number(id::PAYLOAD_FORMAT), Some(1));
    // 0 is what its absence means.
    let found = passed_on(byte(id::PAYLOAD_FORMAT, 0)).number(id::PAYLOAD_FORMAT);
    assert!(matches!(found, None | Some(0)));
}

/// 5.0: 3.3.2-15, 3.3.2-16, 3.3.2-20
#[test]
fn response_topic_correlation_data_and_content_type_are_passed_on() {
    let data: Vec<u8> = (0..=255).collect();
    let properties = [
        string(id::CONTENT_TYPE, "application/\u{1f600}"),
        string(id::CORRELATION_DATA, &data),
        string(id::RESPONSE_TOPIC, "answers/日本"),
    ];
    let found = passed_on(properties.concat());
    assert_eq!(found.text(id::CONTENT_TYPE), Some("application/\u{1f600}"));
    assert_eq!(found.data(id::CORRELATION_DATA), Some(&*data));
    assert_eq!(found.text(id::RESPONSE_TOPIC), Some("answers/日本"));
    let found =
        passed_on([string(id::CONTENT_TYPE, ""), string(id::CORRELATION_DATA, [])].concat());
    assert_eq!(found.text(id::CONTENT_TYPE), Some(""));
    assert_eq!(found.data(id::CORRELATION_DATA), Some(&[][..]));
}

/// 5.0: 3.3.2-17, 3.3.2-18
#[test]
fn user_properties_are_passed_on_in_their_order() {
    let pairs = [("b", "1"), ("a", "2"), ("b", "1"), ("", ""), ("a", "\u{feff}x"), ("é", "日本")];
    let properties: Vec<u8> = pairs.iter().flat_map(|(name, value)| user(name, value)).collect();
    assert_eq!(passed_on(properties).user(), pairs);
}

/// 5.0: 2.2.2-1
#[test]
fn a_message_without_properties_arrives_without() {
    assert_eq!(passed_on(Vec::new()), Properties::default());
}

/// 3.1.1: 4.5.0-1
/// 5.0: 4.5.0-1
#[test]
fn properties_end_where_3_1_1_begins() {
    let topic = topic();
    let mut old = Client::connect(Version::V311);
    old.subscribe(&topic, 1);
    let properties = [user("k", "v"), byte(id::PAYLOAD_FORMAT, 1)].concat();
    let mut new = Client::connect(Version::V5);
    new.subscribe(&topic, 1);
    new.publish_with(&Message { qos: 1, properties, ..Message::new(&topic, "x") });
    old.receive("x");
    new.receive("x");
    old.publish(&topic, "y", 1);
    assert_eq!(new.receive("y").properties, Properties::default());
}

/// 5.0: 3.3.2-6
#[test]
fn the_time_in_the_server_is_taken_off_the_expiry() {
    let found = passed_on(four(id::MESSAGE_EXPIRY, 1_000)).number(id::MESSAGE_EXPIRY).unwrap();
    assert!((990..=1_000).contains(&found));
    let topic = topic();
    let connect = Connect::durable(Version::V5);
    let mut client = connect.open();
    client.subscribe(&topic, 1);
    client.disconnect();
    let properties = four(id::MESSAGE_EXPIRY, 1_000);
    Client::connect(Version::V5).publish_with(&Message {
        qos: 1,
        properties,
        ..Message::new(&topic, "x")
    });
    std::thread::sleep(Duration::from_millis(2_100));
    let found = connect.open().receive("x").properties.number(id::MESSAGE_EXPIRY).unwrap();
    assert!((980..=998).contains(&found), "{found}");
}

/// 5.0: 3.3.2-5
#[test]
fn a_message_that_expired_while_it_waited_is_not_delivered() {
    let topic = topic();
    let connect = Connect::durable(Version::V5);
    let mut client = connect.open();
    client.subscribe(&topic, 2);
    client.disconnect();
    let mut publisher = Client::connect(Version::V5);
    for qos in [1, 2] {
        let properties = four(id::MESSAGE_EXPIRY, 1);
        publisher.publish_with(&Message { qos, properties, ..Message::new(&topic, "short") });
    }
    publisher.publish(&topic, "long", 1);
    std::thread::sleep(Duration::from_millis(2_100));
    let mut client = connect.open();
    client.receive("long");
    client.quiet();
}

/// 5.0: 4.3.3-7
#[test]
fn a_message_that_expires_after_it_was_sent_is_sent_again() {
    let topic = topic();
    let connect = Connect::durable(Version::V5);
    let mut client = connect.open();
    client.subscribe(&topic, 2);
    let properties = four(id::MESSAGE_EXPIRY, 1);
    let message = Message { qos: 2, properties, ..Message::new(&topic, "x") };
    Client::connect(Version::V5).publish_with(&message);
    let packet_id = client.message().packet_id;
    client.cut();
    std::thread::sleep(Duration::from_millis(2_100));
    let mut client = connect.open();
    assert_eq!(client.receive("x").packet_id, packet_id);
    client.quiet();
}

/// 5.0: 4.3.3-13
#[test]
fn the_handshake_of_a_message_that_expires_meanwhile_goes_on() {
    let topic = topic();
    let mut publisher = Client::connect(Version::V5);
    let properties = four(id::MESSAGE_EXPIRY, 1);
    let message = Message { qos: 2, properties, ..Message::new(&topic, "x") };
    publisher.send(&message.bytes(Version::V5, 1));
    publisher.acknowledged(0x50, 1);
    std::thread::sleep(Duration::from_millis(2_100));
    publisher.send(&message.bytes(Version::V5, 1));
    publisher.acknowledged(0x50, 1);
    publisher.send(&ack(0x62, 1));
    publisher.acknowledged(0x70, 1);
}

/// 5.0: 3.3.4-6, 4.13.1-1
#[test]
fn a_subscription_identifier_from_a_client_is_a_protocol_error() {
    let mut client = Client::connect(Version::V5);
    let message = Message { properties: subscription_id(1), ..Message::new("a", "x") };
    client.send(&message.bytes(Version::V5, 0));
    client.ended(reason::PROTOCOL_ERROR);
}

/// 5.0: 3.3.2-14, 4.13.1-1
#[test]
fn a_response_topic_with_wildcards_ends_the_connection() {
    for topic in ["a/+", "#", "+"] {
        check_publish_ends(string(id::RESPONSE_TOPIC, topic));
    }
}

/// 5.0: 4.13.1-1
#[test]
fn a_property_that_is_there_twice_is_a_protocol_error() {
    for property in [
        byte(id::PAYLOAD_FORMAT, 1),
        four(id::MESSAGE_EXPIRY, 9),
        string(id::CONTENT_TYPE, "t"),
        string(id::RESPONSE_TOPIC, "t"),
        string(id::CORRELATION_DATA, "t"),
        two(id::TOPIC_ALIAS, 1),
    ] {
        check_publish_ends(property.repeat(2));
    }
    for property in [
        four(id::SESSION_EXPIRY, 1),
        two(id::RECEIVE_MAXIMUM, 1),
        four(id::MAXIMUM_PACKET_SIZE, 1_000),
        two(id::TOPIC_ALIAS_MAXIMUM, 1),
        byte(id::REQUEST_RESPONSE, 1),
        byte(id::REQUEST_PROBLEM, 1),
        string(id::AUTH_METHOD, "m"),
    ] {
        check_connect_ends(property.repeat(2));
    }
    let mut client = Client::connect(Version::V5);
    client.send(&subscribe(Version::V5, 1, &[("a", 0)], &subscription_id(1).repeat(2)));
    client.thrown_out();
}

/// 5.0: 4.13.1-1
#[test]
fn a_property_of_another_packet_or_none_ends_the_connection() {
    for property in [
        four(id::SESSION_EXPIRY, 1),
        string(id::REASON_STRING, "x"),
        four(id::WILL_DELAY, 1),
        string(id::SERVER_REFERENCE, "x"),
        byte(0x04, 0),
        byte(0x7f, 0),
        byte(0x00, 0),
    ] {
        check_publish_ends(property);
    }
    for property in [
        byte(id::PAYLOAD_FORMAT, 1),
        two(id::TOPIC_ALIAS, 1),
        byte(id::MAXIMUM_QOS, 1),
        string(id::ASSIGNED_CLIENT_ID, "x"),
        two(id::SERVER_KEEP_ALIVE, 1),
        subscription_id(1),
    ] {
        check_connect_ends(property);
    }
}

/// 5.0: 4.13.1-1
#[test]
fn values_out_of_range_end_the_connection() {
    check_publish_ends(byte(id::PAYLOAD_FORMAT, 2));
    check_connect_ends(byte(id::REQUEST_PROBLEM, 2));
    check_connect_ends(byte(id::REQUEST_RESPONSE, 2));
}

/// 5.0: 4.13.1-1
#[test]
fn properties_that_are_cut_off_end_the_connection() {
    for (length, properties) in
        [(1, &[id::PAYLOAD_FORMAT][..]), (3, &[id::MESSAGE_EXPIRY, 0, 0]), (200, &[])]
    {
        let body = [&text("a")[..], &[length], properties].concat();
        let mut client = Client::connect(Version::V5);
        client.send(&packet(0x30, &body));
        client.thrown_out();
    }
    // A length that ends in the middle of a property.
    let body = [&text("a")[..], &[2], &string(id::CONTENT_TYPE, "text")].concat();
    let mut client = Client::connect(Version::V5);
    client.send(&packet(0x30, &body));
    client.thrown_out();
}

/// 5.0: 3.3.2-17
#[test]
fn user_properties_may_stand_in_every_packet() {
    let topic = topic();
    let many = [user("k", "v"), user("k", "v")].concat();
    let connect = Connect { properties: many.clone(), ..Connect::new(Version::V5) };
    let mut client = connect.open();
    assert_eq!(client.subscribe_all(&[(&topic, 2)], &many), [0x02]);
    let body = [&[0, 9][..], &section(&many), &text("none")].concat();
    client.send(&packet(0xa2, &body));
    assert!(matches!(client.packet(), Packet::UnsubAck { packet_id: 9, .. }));
    let mut publisher = Client::connect(Version::V5);
    for (first, qos) in [(0x40, 1), (0x50, 2)] {
        publisher.publish(&topic, "x", qos);
        let [high, low] = client.message().packet_id.to_be_bytes();
        client.send(&packet(first, &[&[high, low, 0][..], &section(&many)].concat()));
        if qos == 2 {
            client.ack(0x62);
            client.send(&packet(0x70, &[&[high, low, 0][..], &section(&many)].concat()));
        }
    }
    client.quiet();
}

/// 5.0: 3.3.2-5
#[test]
fn a_message_expires_for_a_subscriber_with_3_1_1_too() {
    let topic = topic();
    let connect = Connect::durable(Version::V311);
    let mut client = connect.open();
    client.subscribe(&topic, 1);
    client.disconnect();
    let mut publisher = Client::connect(Version::V5);
    let properties = four(id::MESSAGE_EXPIRY, 1);
    publisher.publish_with(&Message { qos: 1, properties, ..Message::new(&topic, "short") });
    publisher.publish(&topic, "long", 1);
    std::thread::sleep(Duration::from_millis(2_100));
    let mut client = connect.open();
    client.receive("long");
    client.quiet();
}

/// 5.0: 3.3.2-5, 3.3.2-6
#[test]
fn the_expiry_of_a_will_begins_with_its_publication() {
    let topic = topic();
    let mut watcher = Client::connect(Version::V5);
    watcher.subscribe(&topic, 1);
    let properties = [four(id::WILL_DELAY, 2), four(id::MESSAGE_EXPIRY, 1)].concat();
    let will = Some(Will { properties, ..Will::new(&topic) });
    Connect { will, ..Connect::durable(Version::V5) }.open().cut();
    assert_eq!(watcher.receive("will").properties.number(id::MESSAGE_EXPIRY), Some(1));
}
