//! Retained messages (3.1.1: 3.3.1.3; 5.0: 3.3.1.3 and the subscription options).

use crate::client::Client;
use crate::packets::{Message, subscribe, topic};
use crate::read::Packet;
use crate::server;
use crate::wire::{BOTH, Version, four, id, reason, string, subscription_id, user};
use std::time::Duration;

/// Subscription options (5.0, 3.8.3.1).
const AS_PUBLISHED: u8 = 0x08;
const IF_NEW: u8 = 0x10;
const NEVER: u8 = 0x20;

/// A topic with a retained message.
fn retained(payload: &str) -> (String, Client) {
    let topic = topic();
    let mut publisher = Client::connect(Version::V5);
    publisher.retain(&topic, payload);
    (topic, publisher)
}

/// 3.1.1: 3.3.1-5, 3.3.1-6, 3.3.1-8
/// 5.0: 3.3.1-5, 3.3.1-9
#[test]
fn a_new_subscription_gets_the_last_retained_message_with_retain() {
    for version in BOTH {
        for qos in [0, 1, 2] {
            let topic = topic();
            let mut publisher = Client::connect(version);
            for payload in ["old", "new"] {
                let message = Message { qos, retain: true, ..Message::new(&topic, payload) };
                publisher.publish_with(&message);
            }
            publisher.quiet();
            let mut client = Client::connect(version);
            client.subscribe(&topic, 2);
            let publish = client.receive("new");
            assert_eq!((publish.retain, publish.qos, publish.dup), (true, qos, false));
            client.quiet();
            publisher.retain(&topic, "");
        }
    }
}

/// 3.1.1: 3.3.1-9
/// 5.0: 3.3.1-12
#[test]
fn a_retained_message_comes_without_retain_to_whom_is_subscribed() {
    for version in BOTH {
        let topic = topic();
        let mut client = Client::connect(version);
        client.subscribe(&topic, 1);
        let mut publisher = Client::connect(version);
        publisher.retain(&topic, "x");
        assert!(!client.receive("x").retain);
        publisher.retain(&topic, "");
        assert!(!client.receive("").retain);
    }
}

/// 3.1.1: 3.3.1-10, 3.3.1-11
/// 5.0: 3.3.1-6, 3.3.1-7
#[test]
fn an_empty_retained_message_is_delivered_and_removes_what_is_there() {
    for version in BOTH {
        for qos in [0, 1, 2] {
            let (topic, mut publisher) = retained("old");
            let mut watcher = Client::connect(version);
            watcher.subscribe(&topic, 2);
            watcher.receive("old");
            publisher.publish_with(&Message { qos, retain: true, ..Message::new(&topic, "") });
            assert_eq!(watcher.receive("").qos, qos);
            let mut client = Client::connect(version);
            client.subscribe(&topic, 2);
            client.quiet();
        }
    }
}

/// 3.1.1: 3.3.1-12
/// 5.0: 3.3.1-8
#[test]
fn a_message_without_retain_leaves_what_is_retained() {
    for version in BOTH {
        let (topic, mut publisher) = retained("kept");
        publisher.publish(&topic, "passing", 1);
        publisher.publish(&topic, "", 1);
        let mut client = Client::connect(version);
        client.subscribe(&topic, 0);
        client.receive("kept");
        client.quiet();
        publisher.retain(&topic, "");
    }
}

/// 3.1.1: 3.3.1-7
/// 5.0: 3.3.1-5
#[test]
fn a_retained_message_of_qos_0_replaces_the_one_before() {
    for version in BOTH {
        let (topic, mut publisher) = retained("old");
        publisher.publish_with(&Message { retain: true, ..Message::new(&topic, "new") });
        publisher.quiet();
        let mut client = Client::connect(version);
        client.subscribe(&topic, 1);
        assert_eq!(client.receive("new").qos, 0);
        client.quiet();
        publisher.retain(&topic, "");
    }
}

/// 3.1.1: 3.3.1-6
/// 5.0: 3.3.1-9
#[test]
fn a_wildcard_gets_every_retained_message_that_it_matches() {
    for version in BOTH {
        let topic = topic();
        let mut publisher = Client::connect(version);
        let names: Vec<_> = (0..20).map(|number| format!("{topic}/{number}/x")).collect();
        for name in &names {
            publisher.retain(name, name);
        }
        publisher.retain(&format!("{topic}/1"), "must not match");
        let mut client = Client::connect(version);
        client.subscribe(&format!("{topic}/+/x"), 1);
        let mut found: Vec<_> = names.iter().map(|_| client.message().topic).collect();
        found.sort();
        let mut expected = names.clone();
        expected.sort();
        assert_eq!(found, expected);
        client.quiet();
        names.iter().for_each(|name| publisher.retain(name, ""));
        publisher.retain(&format!("{topic}/1"), "");
    }
}

/// 3.1.1: 3.8.4-3
/// 5.0: 3.8.4-4, 3.3.1-9
#[test]
fn a_subscription_that_is_made_again_gets_the_retained_message_again() {
    for version in BOTH {
        let (topic, mut publisher) = retained("kept");
        let mut client = Client::connect(version);
        for _ in 0..3 {
            client.subscribe(&topic, 0);
            assert!(client.receive("kept").retain);
        }
        client.quiet();
        publisher.retain(&topic, "");
    }
}

/// 5.0: 3.3.1-10
#[test]
fn retain_handling_1_sends_only_to_a_new_subscription() {
    let (topic, mut publisher) = retained("kept");
    let mut client = Client::connect(Version::V5);
    client.subscribe(&topic, IF_NEW);
    client.receive("kept");
    client.subscribe(&topic, IF_NEW);
    client.subscribe(&topic, IF_NEW | 1);
    client.quiet();
    client.unsubscribe(&[&topic]);
    client.subscribe(&topic, IF_NEW);
    client.receive("kept");
    client.quiet();
    publisher.retain(&topic, "");
}

/// 5.0: 3.3.1-11
#[test]
fn retain_handling_2_sends_nothing() {
    let (topic, mut publisher) = retained("kept");
    let mut client = Client::connect(Version::V5);
    client.subscribe(&topic, NEVER);
    client.subscribe(&topic, NEVER);
    client.quiet();
    publisher.retain(&topic, "new");
    client.receive("new");
    publisher.retain(&topic, "");
}

/// 5.0: 3.3.1-12, 3.3.1-13
#[test]
fn retain_as_published_keeps_the_flag() {
    let topic = topic();
    let (mut keeps, mut drops) = (Client::connect(Version::V5), Client::connect(Version::V5));
    keeps.subscribe(&topic, AS_PUBLISHED | 1);
    drops.subscribe(&topic, 1);
    let mut publisher = Client::connect(Version::V5);
    for retain in [false, true] {
        publisher.publish_with(&Message { qos: 1, retain, ..Message::new(&topic, "x") });
        assert_eq!(keeps.receive("x").retain, retain);
        assert!(!drops.receive("x").retain);
    }
    publisher.retain(&topic, "");
}

/// 5.0: 3.3.2-4, 3.3.2-15, 3.3.2-16, 3.3.2-17, 3.3.2-20
#[test]
fn a_retained_message_keeps_its_properties() {
    let topic = topic();
    let properties = [
        vec![id::PAYLOAD_FORMAT, 1],
        string(id::CONTENT_TYPE, "text/plain"),
        string(id::RESPONSE_TOPIC, "answers"),
        string(id::CORRELATION_DATA, [0, 0xff]),
        user("k", "v"),
    ]
    .concat();
    let mut publisher = Client::connect(Version::V5);
    publisher.publish_with(&Message {
        qos: 1,
        retain: true,
        properties,
        ..Message::new(&topic, "x")
    });
    let mut client = Client::connect(Version::V5);
    client.subscribe(&topic, 0);
    let found = client.receive("x").properties;
    assert_eq!(found.number(id::PAYLOAD_FORMAT), Some(1));
    assert_eq!(found.text(id::CONTENT_TYPE), Some("text/plain"));
    assert_eq!(found.text(id::RESPONSE_TOPIC), Some("answers"));
    assert_eq!(found.data(id::CORRELATION_DATA), Some(&[0, 0xff][..]));
    assert_eq!(found.user(), [("k", "v")]);
    publisher.retain(&topic, "");
}

/// 5.0: 3.3.2-5
#[test]
fn a_retained_message_expires() {
    let topic = topic();
    let mut publisher = Client::connect(Version::V5);
    let properties = four(id::MESSAGE_EXPIRY, 1);
    publisher.publish_with(&Message {
        qos: 1,
        retain: true,
        properties,
        ..Message::new(&topic, "x")
    });
    std::thread::sleep(Duration::from_millis(2_100));
    let mut client = Client::connect(Version::V5);
    client.subscribe(&topic, 0);
    client.quiet();
}

/// 5.0: 3.4.2-1, 3.5.2-1
#[test]
fn a_retained_message_beyond_the_quota_is_refused() {
    let Some(address) = server::small() else { return };
    let connect = crate::packets::Connect::new(Version::V5);
    let (mut client, _, _) = connect.open_at(address);
    let names = [topic(), topic()];
    let retain = |client: &mut Client, name: &str, payload| {
        let message = Message { qos: 1, retain: true, ..Message::new(name, payload) };
        client.send(&message.bytes(Version::V5, 1));
        client.ack(0x40).1
    };
    assert_eq!(retain(&mut client, &names[0], "first") & 0x80, 0);
    assert_eq!(retain(&mut client, &names[1], "second"), reason::QUOTA);
    assert_eq!(retain(&mut client, &names[0], "") & 0x80, 0);
    assert_eq!(retain(&mut client, &names[1], "second") & 0x80, 0);
    assert_eq!(retain(&mut client, &names[1], "") & 0x80, 0);
}

/// 5.0: 3.3.2-6
#[test]
fn the_expiry_of_a_retained_message_goes_on() {
    let topic = topic();
    let mut publisher = Client::connect(Version::V5);
    let properties = four(id::MESSAGE_EXPIRY, 1_000);
    let message = Message { qos: 1, retain: true, properties, ..Message::new(&topic, "x") };
    publisher.publish_with(&message);
    std::thread::sleep(Duration::from_millis(2_100));
    let mut client = Client::connect(Version::V5);
    client.subscribe(&topic, 0);
    let left = client.receive("x").properties.number(id::MESSAGE_EXPIRY).unwrap();
    assert!((980..=998).contains(&left), "{left}");
    publisher.retain(&topic, "");
}

/// 3.1.1: 3.8.4-6
/// 5.0: 3.8.4-8, 3.3.4-3
#[test]
fn a_retained_message_comes_with_the_lower_qos_and_the_identifier() {
    for version in BOTH {
        let topic = topic();
        let mut publisher = Client::connect(version);
        for sent in [0, 1, 2] {
            let message = Message { qos: sent, retain: true, ..Message::new(&topic, "x") };
            publisher.publish_with(&message);
            publisher.quiet();
            for granted in [0, 1, 2] {
                let mut client = Client::connect(version);
                client.subscribe_all(&[(&topic, granted)], &subscription_id(9));
                let publish = client.receive("x");
                assert_eq!(publish.qos, granted.min(sent));
                let ids = publish.properties.subscription_ids();
                assert_eq!(ids, if version == Version::V5 { vec![9] } else { vec![] });
            }
        }
        publisher.retain(&topic, "");
    }
}

/// 3.1.1: 4.6.0-6
/// 5.0: 4.6.0-5
#[test]
fn a_retained_message_does_not_come_behind_its_successor() {
    for version in BOTH {
        for round in 0..30_u16 {
            let (topic, mut publisher) = retained("old");
            let mut client = Client::connect(version);
            // Both on their way at the same time.
            client.send(&subscribe(version, 1, &[(&topic, 1)], &[]));
            let message = Message { qos: 1, retain: true, ..Message::new(&topic, "new") };
            publisher.send(&message.bytes(Version::V5, round + 9));
            publisher.ack(0x40);
            let mut payloads = Vec::new();
            while payloads.last().is_none_or(|it| it != b"new") {
                match client.packet() {
                    Packet::SubAck { .. } => {}
                    Packet::Publish(publish) => payloads.push(publish.payload),
                    other => panic!("{other:?}"),
                }
            }
            // The new one may come twice: as retained, and as published.
            client.send(&[0xc0, 0]);
            loop {
                match client.packet() {
                    Packet::PingResp => break,
                    Packet::SubAck { .. } => {}
                    Packet::Publish(publish) => assert_eq!(publish.payload, b"new"),
                    other => panic!("{other:?}"),
                }
            }
            publisher.retain(&topic, "");
        }
    }
}
