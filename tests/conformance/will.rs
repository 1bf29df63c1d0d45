//! Wills (both standards, 3.1.2.5; 5.0: 3.1.3.2).

use crate::client::{Client, side_by_side};
use crate::packets::{Connect, Message, Will, topic};
use crate::server;
use crate::wire::{BOTH, Version, byte, four, id, packet, reason, string, user};
use std::time::Duration;

/// A client with this will, and one that sees it published.
#[track_caller]
fn pair(version: Version, will: &Will) -> (Client, Client) {
    let mut watcher = Client::connect(version);
    watcher.subscribe(&will.topic, 2);
    (Connect { will: Some(will.clone()), ..Connect::new(version) }.open(), watcher)
}

/// The watcher gets the marker and nothing before it.
#[track_caller]
fn check_no_will(watcher: &mut Client, topic: &str) {
    Client::connect(watcher.version).publish(topic, "marker", 2);
    watcher.receive("marker");
    watcher.quiet();
}

/// 3.1.1: 3.1.2-8, 3.1.2-9, 3.1.2-14, 3.1.2-16
/// 5.0: 3.1.2-7, 3.1.2-8, 3.1.2-9, 3.1.2-12, 3.1.2-14
#[test]
fn a_will_is_published_when_the_connection_is_lost() {
    for version in BOTH {
        for qos in [0, 1, 2] {
            let will = Will { qos, ..Will::new(&topic()) };
            let (client, mut watcher) = pair(version, &will);
            client.cut();
            let publish = watcher.receive("will");
            assert_eq!((publish.qos, publish.retain), (qos, false));
            watcher.quiet();
            let mut late = Client::connect(version);
            late.subscribe(&will.topic, 0);
            late.quiet();
        }
    }
}

/// 3.1.1: 3.1.2-17
/// 5.0: 3.1.2-15
#[test]
fn a_will_with_retain_is_retained() {
    for version in BOTH {
        let will = Will { qos: 1, retain: true, ..Will::new(&topic()) };
        let (client, mut watcher) = pair(version, &will);
        client.cut();
        assert!(!watcher.receive("will").retain);
        let mut late = Client::connect(version);
        late.subscribe(&will.topic, 0);
        assert!(late.receive("will").retain);
        Client::connect(version).retain(&will.topic, "");
    }
}

/// 3.1.1: 3.1.2-10, 3.14.4-3
/// 5.0: 3.1.2-10, 3.14.4-3
#[test]
fn a_will_is_dropped_by_a_disconnect() {
    for version in BOTH {
        let will = Will { qos: 1, ..Will::new(&topic()) };
        let (client, mut watcher) = pair(version, &will);
        client.disconnect();
        check_no_will(&mut watcher, &will.topic);
    }
}

/// 3.1.1: 3.1.2-12
/// 5.0: 3.1.2-7
#[test]
fn a_client_without_a_will_leaves_nothing() {
    for version in BOTH {
        let topic = topic();
        let mut watcher = Client::connect(version);
        watcher.subscribe(&topic, 2);
        let connect = Connect::new(version);
        let will = Will::new(&topic);
        Connect { will: Some(will), ..connect.clone() }.open().disconnect();
        // The will belongs to the connection that brought it.
        connect.open().cut();
        check_no_will(&mut watcher, &topic);
    }
}

/// 5.0: 3.1.2-8, 3.1.2-10
#[test]
fn a_disconnect_with_reason_4_publishes_the_will() {
    let will = Will { qos: 1, ..Will::new(&topic()) };
    for reason in [0x04, 0x80, 0x99] {
        let (mut client, mut watcher) = pair(Version::V5, &will);
        client.send(&packet(0xe0, &[reason]));
        client.closed();
        watcher.receive("will");
    }
}

/// 3.1.1: 3.1.2-8
/// 5.0: 3.1.2-7, 3.1.2-8
#[test]
fn a_will_is_published_after_a_protocol_error() {
    for version in BOTH {
        let will = Will { qos: 1, ..Will::new(&topic()) };
        let (mut client, mut watcher) = pair(version, &will);
        client.send(&[0x00, 0x00]);
        client.thrown_out();
        watcher.receive("will");
    }
}

/// 3.1.1: 3.1.2-8, 3.1.2-24
/// 5.0: 3.1.2-8, 3.1.2-22, 3.2.2-22
#[test]
fn a_will_is_published_when_the_keep_alive_has_passed() {
    side_by_side(|version| {
        let will = Will { qos: 1, ..Will::new(&topic()) };
        let mut watcher = Client::connect(version);
        watcher.subscribe(&will.topic, 1);
        let connect = Connect { keep_alive_s: 1, will: Some(will), ..Connect::new(version) };
        let client = connect.open();
        watcher.receive("will");
        client.ended(reason::KEEP_ALIVE);
    });
}

/// 3.1.1: 3.1.2-8
/// 5.0: 3.1.2-8
#[test]
fn a_will_is_published_when_the_client_id_is_taken_over() {
    for version in BOTH {
        let topic = topic();
        let mut watcher = Client::connect(version);
        watcher.subscribe(&topic, 1);
        let connect = Connect::new(version);
        let first = Connect { will: Some(Will::new(&topic)), ..connect.clone() }.open();
        let _second = connect.open();
        first.ended(reason::TAKEN_OVER);
        watcher.receive("will");
    }
}

/// 5.0: 3.1.3-9
#[test]
fn a_delayed_will_is_not_published_when_the_client_comes_back() {
    let topic = topic();
    let mut watcher = Client::connect(Version::V5);
    watcher.subscribe(&topic, 1);
    let will = Will { properties: four(id::WILL_DELAY, 2), ..Will::new(&topic) };
    let connect = Connect::durable(Version::V5);
    Connect { will: Some(will), ..connect.clone() }.open().cut();
    let _back = connect.open();
    std::thread::sleep(Duration::from_millis(3_500));
    check_no_will(&mut watcher, &topic);
}

/// 5.0: 3.1.2-8, 3.1.2-10
#[test]
fn a_delayed_will_is_published_after_its_delay() {
    let topic = topic();
    let mut watcher = Client::connect(Version::V5);
    watcher.subscribe(&topic, 1);
    let will = Will { properties: four(id::WILL_DELAY, 1), ..Will::new(&topic) };
    Connect { will: Some(will), ..Connect::durable(Version::V5) }.open().cut();
    // A marker that is published at once comes first.
    Client::connect(Version::V5).publish(&topic, "marker", 1);
    watcher.receive("marker");
    watcher.receive("will");
    watcher.quiet();
}

/// 5.0: 3.1.2-8
#[test]
fn a_delayed_will_is_published_when_the_session_ends_before() {
    let topic = topic();
    let mut watcher = Client::connect(Version::V5);
    watcher.subscribe(&topic, 1);
    let will = Will { properties: four(id::WILL_DELAY, 3_600), ..Will::new(&topic) };
    // At once, because the session ends with the connection.
    let connect = Connect { will: Some(will), ..Connect::new(Version::V5) };
    connect.open().cut();
    watcher.receive("will");
    // After a second.
    let properties = four(id::SESSION_EXPIRY, 1);
    Connect { properties, ..connect.clone() }.open().cut();
    watcher.receive("will");
    // With the clean start that ends the session.
    let properties = four(id::SESSION_EXPIRY, 3_600);
    Connect { properties, clean: false, ..connect.clone() }.open().cut();
    Connect { will: None, clean: true, ..connect }.open().disconnect();
    watcher.receive("will");
    watcher.quiet();
}

/// 5.0: 3.1.3-10, 3.3.2-4, 3.3.2-15, 3.3.2-16, 3.3.2-20
#[test]
fn a_will_is_published_with_its_properties() {
    let properties = [
        byte(id::PAYLOAD_FORMAT, 1),
        four(id::MESSAGE_EXPIRY, 600),
        string(id::CONTENT_TYPE, "text/plain"),
        string(id::RESPONSE_TOPIC, "answers"),
        string(id::CORRELATION_DATA, [0, 1, 2]),
        user("b", "1"),
        user("a", "2"),
        user("b", "3"),
    ];
    let will = Will { properties: properties.concat(), ..Will::new(&topic()) };
    let (client, mut watcher) = pair(Version::V5, &will);
    client.cut();
    let found = watcher.receive("will").properties;
    assert_eq!(found.number(id::PAYLOAD_FORMAT), Some(1));
    assert!(matches!(found.number(id::MESSAGE_EXPIRY), Some(590..=600)));
    assert_eq!(found.text(id::CONTENT_TYPE), Some("text/plain"));
    assert_eq!(found.text(id::RESPONSE_TOPIC), Some("answers"));
    assert_eq!(found.data(id::CORRELATION_DATA), Some(&[0, 1, 2][..]));
    assert_eq!(found.user(), [("b", "1"), ("a", "2"), ("b", "3")]);
    // The delay is the will's, not the message's: the decoder refuses it in a PUBLISH.
}

/// 3.1.1: 3.1.2-9
/// 5.0: 3.1.2-9
#[test]
fn an_empty_will_is_published() {
    for version in BOTH {
        let will = Will { payload: Vec::new(), ..Will::new(&topic()) };
        let (client, mut watcher) = pair(version, &will);
        client.cut();
        watcher.receive("");
    }
}

/// 3.1.1: 3.2.2-5
/// 5.0: 3.1.4-2, 3.2.2-6, 3.2.2-7
#[test]
fn a_will_that_the_policy_denies_is_refused_with_its_connect() {
    if !server::is_gnomon() {
        return;
    }
    for version in BOTH {
        let connect = Connect { will: Some(Will::new("denied/will")), ..Connect::new(version) };
        let expected = if version == Version::V5 { reason::NOT_AUTHORIZED } else { 5 };
        assert_eq!(connect.refused(), expected);
    }
}

/// 3.1.1: 3.1.2-10
/// 5.0: 3.1.2-10
#[test]
fn a_will_is_published_once() {
    for version in BOTH {
        let topic = topic();
        let mut watcher = Client::connect(version);
        watcher.subscribe(&topic, 1);
        let connect = Connect::durable(version);
        Connect { will: Some(Will::new(&topic)), ..connect.clone() }.open().cut();
        watcher.receive("will");
        connect.open().cut();
        let message = Message { qos: 1, ..Message::new(&topic, "marker") };
        Client::connect(version).publish_with(&message);
        watcher.receive("marker");
    }
}

/// 5.0: 3.1.3-9, 3.1.2-8
#[test]
fn a_takeover_within_the_delay_drops_the_will_unless_it_ends_the_session() {
    for (clean, is_published) in [(false, false), (true, true)] {
        let topic = topic();
        let mut watcher = Client::connect(Version::V5);
        watcher.subscribe(&topic, 1);
        let will = Will { properties: four(id::WILL_DELAY, 600), ..Will::new(&topic) };
        let connect = Connect::durable(Version::V5);
        let first = Connect { will: Some(will), ..connect.clone() }.open();
        let _second = Connect { clean, ..connect }.open();
        first.ended(reason::TAKEN_OVER);
        if is_published {
            watcher.receive("will");
        }
        check_no_will(&mut watcher, &topic);
    }
}

/// 3.1.1: 3.1.2-5, 3.1.2-8
/// 5.0: 3.1.2-8, 4.5.0-1
#[test]
fn a_will_waits_for_an_absent_client() {
    for version in BOTH {
        let topic = topic();
        let absent = Connect::durable(version);
        let mut client = absent.open();
        client.subscribe(&topic, 2);
        client.disconnect();
        let will = Will { qos: 2, ..Will::new(&topic) };
        let (client, mut watcher) = pair(version, &will);
        client.cut();
        watcher.receive("will");
        assert_eq!(absent.open().receive("will").qos, 2);
    }
}

/// 3.1.1: 3.1.2-9
/// 5.0: 3.1.2-9
#[test]
fn a_will_may_have_65_535_bytes() {
    for version in BOTH {
        let will = Will { payload: vec![7; 65_535], ..Will::new(&topic()) };
        let (client, mut watcher) = pair(version, &will);
        client.cut();
        assert_eq!(watcher.message().payload, will.payload);
    }
}

/// 3.1.1: 3.1.2-17, 3.3.1-10, 3.3.1-11
/// 5.0: 3.1.2-15, 3.3.1-6, 3.3.1-7
#[test]
fn an_empty_retained_will_removes_what_is_retained() {
    for version in BOTH {
        let topic = topic();
        Client::connect(version).retain(&topic, "kept");
        let will = Will { payload: Vec::new(), retain: true, ..Will::new(&topic) };
        let (client, mut watcher) = pair(version, &will);
        watcher.receive("kept");
        client.cut();
        watcher.receive("");
        let mut late = Client::connect(version);
        late.subscribe(&topic, 0);
        late.quiet();
    }
}
