//! Sessions: what outlives a connection, and for how long (3.1.1: 3.1.2.4; 5.0: 3.1.2.4, 4.1).

use crate::client::Client;
use crate::packets::{Connect, Message, Will, ack, client_id, topic};
use crate::server::{self, USER};
use crate::wire::{BOTH, Version, byte, four, id, packet, reason, section};
use std::time::Duration;

/// 3.1.1: 3.1.2-4, 3.2.2-2, 3.2.2-3, 3.1.3-2
/// 5.0: 3.1.2-5, 3.1.2-6, 3.1.2-23, 3.2.2-3, 3.1.3-2
#[test]
fn a_durable_session_is_present_when_its_client_comes_back() {
    for version in BOTH {
        let connect = Connect::durable(version);
        let (client, present) = connect.resume();
        assert!(!present);
        client.disconnect();
        let (client, present) = connect.resume();
        assert!(present);
        client.cut();
        assert!(connect.resume().1);
        // Another client id has another session.
        assert!(!Connect { client_id: client_id(), ..connect }.resume().1);
    }
}

/// 3.1.1: 3.1.2-6, 3.1.4-3, 3.2.2-1
/// 5.0: 3.1.2-4, 3.1.4-4, 3.2.2-2
#[test]
fn a_clean_start_throws_the_old_session_away() {
    for version in BOTH {
        let topic = topic();
        let connect = Connect::durable(version);
        let mut client = connect.open();
        client.subscribe(&topic, 1);
        client.disconnect();
        let mut publisher = Client::connect(version);
        publisher.publish(&topic, "old", 1);
        let (mut client, present) = Connect { clean: true, ..connect.clone() }.resume();
        assert!(!present);
        publisher.publish(&topic, "new", 1);
        client.quiet();
        client.disconnect();
        // In MQTT 5 the new session lasts as well; in 3.1.1 a clean one never does.
        let (mut client, present) = connect.resume();
        assert_eq!(present, version == Version::V5);
        client.quiet();
    }
}

/// 3.1.1: 3.1.2-6
/// 5.0: 4.1.0-2
#[test]
fn a_session_that_is_not_to_last_ends_with_its_connection() {
    for version in BOTH {
        let clean = Connect::new(version);
        clean.open().cut();
        let (client, present) = Connect { clean: false, ..clean.clone() }.resume();
        assert!(!present);
        client.disconnect();
    }
    // In MQTT 5 that is what an absent Session Expiry Interval means, and 0.
    for properties in [Vec::new(), four(id::SESSION_EXPIRY, 0)] {
        let connect = Connect { clean: false, properties, ..Connect::new(Version::V5) };
        connect.open().disconnect();
        assert!(!connect.resume().1);
    }
}

/// 5.0: 4.1.0-2, 3.1.2-23
#[test]
fn a_session_ends_when_its_expiry_interval_has_passed() {
    let connect = Connect {
        clean: false,
        properties: four(id::SESSION_EXPIRY, 1),
        ..Connect::new(Version::V5)
    };
    let (first, _) = connect.resume();
    first.disconnect();
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(!connect.resume().1);
}

/// 5.0: 3.1.2-23
#[test]
fn a_session_with_the_longest_expiry_lasts() {
    let properties = four(id::SESSION_EXPIRY, u32::MAX);
    let connect = Connect { clean: false, properties, ..Connect::new(Version::V5) };
    connect.open().disconnect();
    assert!(connect.resume().1);
}

/// 5.0: 4.1.0-2
#[test]
fn disconnect_can_shorten_the_session() {
    let connect = Connect::durable(Version::V5);
    let mut client = connect.open();
    let body = [&[0][..], &section(&four(id::SESSION_EXPIRY, 0))].concat();
    client.send(&packet(0xe0, &body));
    client.closed();
    assert!(!connect.resume().1);
}

/// 5.0: 3.1.2-23
#[test]
fn disconnect_can_lengthen_the_session() {
    let connect = Connect {
        clean: false,
        properties: four(id::SESSION_EXPIRY, 1),
        ..Connect::new(Version::V5)
    };
    let mut client = connect.open();
    let body = [&[0][..], &section(&four(id::SESSION_EXPIRY, 600))].concat();
    client.send(&packet(0xe0, &body));
    client.closed();
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(connect.resume().1);
}

/// 5.0: 4.13.1-1
#[test]
fn disconnect_cannot_bring_a_session_to_life() {
    // 3.14.2.2.2
    let mut client = Client::connect(Version::V5);
    let body = [&[0][..], &section(&four(id::SESSION_EXPIRY, 600))].concat();
    client.send(&packet(0xe0, &body));
    client.ended(reason::PROTOCOL_ERROR);
}

/// 3.1.1: 3.1.4-2, 3.1.3-2
/// 5.0: 3.1.4-3, 3.1.3-2, 3.14.2-1, 3.14.2-2, 4.13.2-1
#[test]
fn a_second_connection_takes_the_client_id_over() {
    for (first_version, second_version) in [
        (Version::V311, Version::V311),
        (Version::V5, Version::V5),
        (Version::V311, Version::V5),
        (Version::V5, Version::V311),
    ] {
        let connect = Connect::new(first_version);
        let mut first = connect.open();
        first.quiet();
        let again =
            Connect { client_id: connect.client_id.clone(), ..Connect::new(second_version) };
        let mut second = again.open();
        first.ended(reason::TAKEN_OVER);
        second.quiet();
    }
}

/// 3.1.1: 4.1.0-2, 3.1.4-2, 3.2.2-2
/// 5.0: 4.1.0-1, 3.1.4-3, 3.2.2-3
#[test]
fn a_takeover_keeps_a_durable_session() {
    for version in BOTH {
        let topic = topic();
        let connect = Connect::durable(version);
        let mut first = connect.open();
        first.subscribe(&topic, 1);
        let mut publisher = Client::connect(version);
        publisher.publish(&topic, "one", 1);
        first.message();
        let (mut second, present) = connect.resume();
        assert!(present);
        first.ended(reason::TAKEN_OVER);
        assert!(second.receive("one").dup);
        publisher.publish(&topic, "two", 1);
        second.receive("two");
        second.quiet();
    }
}

/// 3.1.1: 3.1.2-7
#[test]
fn retained_messages_outlive_the_session_that_left_them() {
    for version in BOTH {
        let topic = topic();
        let connect = Connect::new(version);
        let mut publisher = connect.open();
        publisher.retain(&topic, "kept");
        publisher.disconnect();
        connect.open().disconnect();
        let mut client = Client::connect(version);
        client.subscribe(&topic, 0);
        client.receive("kept");
        Client::connect(version).retain(&topic, "");
    }
}

/// 5.0: 3.2.2-3
#[test]
fn a_session_crosses_the_versions() {
    // Neither standard says what happens; losing messages would be a surprise.
    if !server::is_gnomon() {
        return;
    }
    let topic = topic();
    let old = Connect::durable(Version::V311);
    let mut client = old.open();
    client.subscribe(&topic, 1);
    client.disconnect();
    Client::connect(Version::V5).publish(&topic, "x", 1);
    let new = Connect { client_id: old.client_id.clone(), ..Connect::durable(Version::V5) };
    let (mut client, present) = new.resume();
    assert!(present);
    client.receive("x");
}

/// 5.0: 3.1.2-23
#[test]
fn the_server_says_when_it_keeps_a_session_for_less_time() {
    let Some(address) = server::small() else { return };
    let longest = server::small::SESSION_EXPIRY_S;
    for (wished, told) in [(longest, None), (longest + 1, Some(longest)), (u32::MAX, Some(longest))]
    {
        let properties = [four(id::SESSION_EXPIRY, wished), byte(id::REQUEST_PROBLEM, 1)].concat();
        let connect = Connect { properties, ..Connect::new(Version::V5) };
        let (_, _, properties) = connect.open_at(address);
        assert_eq!(properties.number(id::SESSION_EXPIRY), told);
    }
}

/// 5.0: 4.1.0-1
#[test]
fn a_session_does_not_expire_while_its_client_is_connected() {
    let topic = topic();
    let properties = four(id::SESSION_EXPIRY, 1);
    let connect = Connect { clean: false, properties, ..Connect::new(Version::V5) };
    let mut client = connect.open();
    client.subscribe(&topic, 1);
    std::thread::sleep(Duration::from_millis(2_500));
    Client::connect(Version::V5).publish(&topic, "x", 1);
    client.receive("x");
    client.quiet();
    client.cut();
    assert!(connect.resume().1);
}

/// 3.1.1: 3.1.2-6
/// 5.0: 3.1.2-4
#[test]
fn a_clean_start_forgets_which_qos_2_messages_came() {
    for version in BOTH {
        let topic = topic();
        let mut watcher = Client::connect(version);
        watcher.subscribe(&topic, 0);
        let connect = Connect::durable(version);
        let mut client = connect.open();
        client.send(&Message { qos: 2, ..Message::new(&topic, "old") }.bytes(version, 7));
        client.acknowledged(0x50, 7);
        client.cut();
        let mut client = Connect { clean: true, ..connect }.open();
        client.send(&Message { qos: 2, ..Message::new(&topic, "new") }.bytes(version, 7));
        client.acknowledged(0x50, 7);
        client.send(&ack(0x62, 7));
        client.acknowledged(0x70, 7);
        // The old one is there or not, as the broker delivers with PUBLISH or with PUBREL.
        let mut payload = watcher.message().payload;
        if payload == b"old" {
            payload = watcher.message().payload;
        }
        assert_eq!(payload, b"new");
    }
}

/// 5.0: 3.1.2-5, 4.1.0-2
#[test]
fn a_session_that_is_resumed_without_expiry_ends_with_the_connection() {
    let connect = Connect::durable(Version::V5);
    connect.open().disconnect();
    let last = Connect { properties: Vec::new(), ..connect.clone() };
    let (client, present) = last.resume();
    assert!(present);
    client.disconnect();
    assert!(!connect.resume().1);
}

/// 3.1.1: 3.1.4-5
/// 5.0: 3.1.4-2, 3.1.4-6
#[test]
fn a_refused_connect_touches_neither_session_nor_connection() {
    if !server::is_gnomon() {
        return;
    }
    for version in BOTH {
        let topic = topic();
        let connect = Connect::durable(version);
        let mut client = connect.open();
        client.subscribe(&topic, 1);
        let clean = Connect { clean: true, ..connect.clone() };
        let will = Some(Will::new("denied/will"));
        Connect { will, ..clean.clone() }.refused();
        Connect { username: Some("stranger"), ..clean.clone() }.refused();
        Connect { username: Some(USER), password: Some("wrong"), ..clean }.refused();
        Client::connect(version).publish(&topic, "x", 1);
        client.receive("x");
        client.disconnect();
        assert!(connect.resume().1);
    }
}
