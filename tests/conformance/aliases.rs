//! Topic aliases, both ways (5.0, 3.3.2.3.4).

use crate::client::Client;
use crate::packets::{Connect, Message, topic};
use crate::server;
use crate::wire::{Version, id, reason, two};

/// A message with an alias.
fn with_alias<'a>(topic: &'a str, payload: &'a str, alias: u16) -> Vec<u8> {
    let properties = two(id::TOPIC_ALIAS, alias);
    Message { properties, ..Message::new(topic, payload) }.bytes(Version::V5, 0)
}

/// Connects and says how many aliases the server takes.
fn connected() -> (Client, u16) {
    let (client, _, properties) = Connect::new(Version::V5).open_at(server::address());
    let maximum = properties.number(id::TOPIC_ALIAS_MAXIMUM).unwrap_or_default();
    (client, u16::try_from(maximum).unwrap())
}

/// 5.0: 3.3.2-12
#[test]
fn every_alias_up_to_the_maximum_stands_for_its_topic() {
    let (mut publisher, maximum) = connected();
    let topic = topic();
    let mut client = Client::connect(Version::V5);
    client.subscribe(&format!("{topic}/#"), 0);
    let name = |alias: u16| format!("{topic}/{alias}");
    for alias in 1..=maximum {
        publisher.send(&with_alias(&name(alias), "named", alias));
        assert_eq!(client.receive("named").topic, name(alias));
    }
    for alias in (1..=maximum).rev() {
        publisher.send(&with_alias("", "short", alias));
        let publish = client.receive("short");
        assert_eq!(publish.topic, name(alias));
        // The alias is the publisher's, not the subscriber's, who takes none.
        assert_eq!(publish.properties.number(id::TOPIC_ALIAS), None);
    }
}

/// 5.0: 3.3.2-12
#[test]
fn an_alias_can_be_given_to_another_topic() {
    let (mut publisher, maximum) = connected();
    if maximum == 0 {
        return;
    }
    let topic = topic();
    let mut client = Client::connect(Version::V5);
    client.subscribe(&format!("{topic}/#"), 0);
    for name in ["a", "b", "a"] {
        let name = format!("{topic}/{name}");
        publisher.send(&with_alias(&name, "named", 1));
        publisher.send(&with_alias("", "short", 1));
        assert_eq!(client.receive("named").topic, name);
        assert_eq!(client.receive("short").topic, name);
    }
}

/// 5.0: 3.3.2-8, 4.13.1-1
#[test]
fn alias_0_ends_the_connection() {
    let (mut client, _) = connected();
    client.send(&with_alias("a", "x", 0));
    client.ended(reason::ALIAS_INVALID);
}

/// 5.0: 3.3.2-9, 3.2.2-17, 4.13.1-1
#[test]
fn an_alias_beyond_the_maximum_ends_the_connection() {
    let (mut client, maximum) = connected();
    client.send(&with_alias("a", "x", maximum + 1));
    client.ended(reason::ALIAS_INVALID);
}

/// 5.0: 4.13.1-1
#[test]
fn an_alias_that_stands_for_nothing_ends_the_connection() {
    let (mut client, _) = connected();
    client.send(&with_alias("", "x", 1));
    client.thrown_out();
}

/// 5.0: 3.3.2-7
#[test]
fn aliases_do_not_outlive_the_connection() {
    let topic = topic();
    let connect = Connect::durable(Version::V5);
    let mut first = connect.open();
    first.send(&with_alias(&topic, "x", 1));
    first.quiet();
    first.cut();
    let mut second = connect.open();
    second.send(&with_alias("", "x", 1));
    second.thrown_out();
}

/// 5.0: 3.3.2-11, 3.1.2-26
#[test]
fn the_server_uses_no_alias_beyond_the_clients_maximum() {
    let topic = topic();
    let properties = two(id::TOPIC_ALIAS_MAXIMUM, 2);
    let connect = Connect { properties, ..Connect::new(Version::V5) };
    let mut client = connect.open();
    client.subscribe(&format!("{topic}/#"), 1);
    let mut publisher = Client::connect(Version::V5);
    let mut known: [Option<String>; 2] = [None, None];
    for round in 0..3 {
        for number in 0..4 {
            let name = format!("{topic}/{number}");
            let payload = format!("{round}.{number}");
            publisher.publish(&name, &payload, 1);
            let publish = client.receive(&payload);
            let alias = publish.properties.number(id::TOPIC_ALIAS);
            assert!(alias.is_none_or(|alias| alias <= 2), "{alias:?}");
            let slot = alias.map(|alias| &mut known[alias as usize - 1]);
            let meant = match (publish.topic.is_empty(), slot) {
                (true, slot) => slot.cloned().flatten().expect("an alias that was told"),
                (false, Some(slot)) => slot.insert(publish.topic).clone(),
                (false, None) => publish.topic,
            };
            assert_eq!(meant, name);
        }
    }
}

/// 5.0: 3.1.2-27
#[test]
fn the_server_uses_no_alias_when_the_client_takes_none() {
    for properties in [Vec::new(), two(id::TOPIC_ALIAS_MAXIMUM, 0)] {
        let topic = topic();
        let mut client = Connect { properties, ..Connect::new(Version::V5) }.open();
        client.subscribe(&topic, 0);
        for _ in 0..3 {
            client.publish(&topic, "x", 0);
            let publish = client.receive("x");
            assert_eq!(publish.topic, topic);
            assert_eq!(publish.properties.number(id::TOPIC_ALIAS), None);
        }
    }
}

/// 5.0: 3.3.2-7
#[test]
fn the_server_forgets_its_aliases_with_the_connection() {
    let topic = topic();
    let mut connect = Connect::durable(Version::V5);
    connect.properties.extend(two(id::TOPIC_ALIAS_MAXIMUM, 5));
    let mut client = connect.open();
    client.subscribe(&topic, 1);
    let mut publisher = Client::connect(Version::V5);
    for payload in ["a", "b"] {
        publisher.publish(&topic, payload, 1);
        client.message();
    }
    client.cut();
    let mut client = connect.open();
    assert_eq!(client.receive("a").topic, topic);
    client.receive("b");
}

/// 5.0: 3.3.2-12
#[test]
fn an_alias_is_known_whatever_becomes_of_the_message_that_named_it() {
    if !server::is_gnomon() {
        return;
    }
    let mut client = Client::connect(Version::V5);
    let properties = two(id::TOPIC_ALIAS, 1);
    let denied = Message { qos: 1, properties, ..Message::new("denied/corner", "x") };
    client.send(&denied.bytes(Version::V5, 1));
    assert_eq!(client.ack(0x40), (1, reason::NOT_AUTHORIZED));
    let again = Message { topic: "", ..denied };
    client.send(&again.bytes(Version::V5, 2));
    assert_eq!(client.ack(0x40), (2, reason::NOT_AUTHORIZED));
}

/// 5.0: 3.3.2-12, 4.3.3-10
#[test]
fn aliases_work_with_every_qos() {
    let topic = topic();
    let mut subscriber = Client::connect(Version::V5);
    subscriber.subscribe(&topic, 2);
    let mut publisher = Client::connect(Version::V5);
    publisher.send(&with_alias(&topic, "named", 1));
    subscriber.receive("named");
    for qos in [0, 1, 2] {
        let properties = two(id::TOPIC_ALIAS, 1);
        publisher.publish_with(&Message { qos, properties, ..Message::new("", "short") });
        let publish = subscriber.receive("short");
        assert_eq!((publish.topic, publish.qos), (topic.clone(), qos));
    }
}
