//! What a client finds when it comes back: subscriptions, messages, their order (both standards,
//! 4.1, 4.4, 4.5, 4.6).

use crate::client::Client;
use crate::packets::{Connect, topic};
use crate::server;
use crate::wire::{BOTH, Version, subscription_id};

/// 3.1.1: 3.1.2-4, 3.1.2-5, 4.5.0-1, 4.1.0-1
/// 5.0: 3.1.2-5, 3.1.2-23, 4.5.0-1, 4.1.0-1
#[test]
fn subscriptions_last_and_messages_wait_for_an_absent_client() {
    for version in BOTH {
        let topic = topic();
        let connect = Connect::durable(version);
        let mut client = connect.open();
        client.subscribe(&topic, 2);
        client.subscribe(&format!("{topic}/gone"), 2);
        client.unsubscribe(&[&format!("{topic}/gone")]);
        client.disconnect();
        let mut publisher = Client::connect(version);
        for (payload, qos) in [("a", 1), ("b", 2), ("c", 1)] {
            publisher.publish(&topic, payload, qos);
            publisher.publish(&format!("{topic}/gone"), "gone", qos);
        }
        let mut client = connect.open();
        for (payload, qos) in [("a", 1), ("b", 2), ("c", 1)] {
            let publish = client.receive(payload);
            assert_eq!((publish.qos, publish.dup), (qos, false));
        }
        publisher.publish(&topic, "d", 1);
        client.receive("d");
        client.quiet();
    }
}

/// 3.1.1: 3.1.2-5, 4.6.0-6
/// 5.0: 4.5.0-1, 4.6.0-5
#[test]
fn many_messages_wait_in_their_order() {
    for version in BOTH {
        let topic = topic();
        let connect = Connect::durable(version);
        let mut client = connect.open();
        client.subscribe(&topic, 1);
        client.disconnect();
        let mut publisher = Client::connect(version);
        let payloads: Vec<_> = (0..300).map(|number| number.to_string()).collect();
        for payload in &payloads {
            publisher.publish(&topic, payload, 1);
        }
        let mut client = connect.open();
        for payload in &payloads {
            client.receive(payload);
        }
        client.quiet();
    }
}

/// 3.1.1: 4.4.0-1, 4.6.0-6
/// 5.0: 4.4.0-1, 4.6.0-5
#[test]
fn what_was_sent_comes_before_what_waited_meanwhile() {
    for version in BOTH {
        let topic = topic();
        let connect = Connect::durable(version);
        let mut client = connect.open();
        client.subscribe(&topic, 1);
        let mut publisher = Client::connect(version);
        for payload in ["a", "b"] {
            publisher.publish(&topic, payload, 1);
            client.message();
        }
        client.cut();
        for payload in ["c", "d"] {
            publisher.publish(&topic, payload, 1);
        }
        let mut client = connect.open();
        publisher.publish(&topic, "e", 1);
        for payload in ["a", "b", "c", "d", "e"] {
            client.receive(payload);
        }
        client.quiet();
    }
}

/// 5.0: 3.1.2-5, 3.3.4-3, 3.8.3-3, 3.3.1-13
#[test]
fn a_resumed_subscription_has_its_identifier_and_options() {
    let topic = topic();
    let connect = Connect::durable(Version::V5);
    let mut client = connect.open();
    // No Local, Retain As Published.
    client.subscribe_all(&[(&topic, 0x04 | 0x08 | 1)], &subscription_id(42));
    client.disconnect();
    let mut publisher = Client::connect(Version::V5);
    publisher.retain(&topic, "absent");
    let mut client = connect.open();
    let publish = client.receive("absent");
    assert_eq!((publish.properties.subscription_ids(), publish.retain), (vec![42], true));
    client.publish(&topic, "own", 1);
    publisher.retain(&topic, "present");
    let publish = client.receive("present");
    assert_eq!((publish.properties.subscription_ids(), publish.retain), (vec![42], true));
    client.quiet();
    publisher.retain(&topic, "");
}

/// 3.1.1: 3.3.1-8, 3.3.1-9
/// 5.0: 3.3.1-10, 3.3.1-12
#[test]
fn resuming_a_session_is_no_new_subscription() {
    for version in BOTH {
        let topic = topic();
        let connect = Connect::durable(version);
        let mut publisher = Client::connect(version);
        publisher.retain(&topic, "kept");
        let mut client = connect.open();
        client.subscribe(&topic, 1);
        client.receive("kept");
        client.disconnect();
        let mut client = connect.open();
        client.quiet();
        if version == Version::V5 {
            // Retain Handling 1: the subscription is there.
            client.subscribe(&topic, 0x10 | 1);
            client.quiet();
        }
        publisher.retain(&topic, "");
    }
}

/// 3.1.1: 3.3.1-9
/// 5.0: 3.3.1-12
#[test]
fn a_retained_message_that_waited_comes_without_retain() {
    for version in BOTH {
        let topic = topic();
        let connect = Connect::durable(version);
        let mut client = connect.open();
        client.subscribe(&topic, 1);
        client.disconnect();
        let mut publisher = Client::connect(version);
        publisher.retain(&topic, "x");
        let mut client = connect.open();
        assert!(!client.receive("x").retain);
        client.quiet();
        publisher.retain(&topic, "");
    }
}

/// 3.1.1: 3.3.5-1, 3.1.2-5
/// 5.0: 3.3.4-2, 3.3.4-3, 4.5.0-1
#[test]
fn overlapping_subscriptions_of_an_absent_client_count_as_those_of_a_present_one() {
    for version in BOTH {
        let topic = topic();
        let connect = Connect::durable(version);
        let mut client = connect.open();
        for (identifier, filter, qos) in [(1, "a", 0), (2, "+", 2), (3, "#", 1)] {
            let filter = format!("{topic}/{filter}");
            client.subscribe_all(&[(&filter, qos)], &subscription_id(identifier));
        }
        client.disconnect();
        let mut publisher = Client::connect(version);
        let name = format!("{topic}/a");
        publisher.publish(&name, "absent", 2);
        let mut client = connect.open();
        for payload in ["absent", "present"] {
            let copy = client.receive(payload);
            if server::is_gnomon() {
                // One copy for all.
                let ids = copy.properties.subscription_ids();
                assert_eq!(copy.qos, 2);
                assert_eq!(ids, if version == Version::V5 { vec![1, 2, 3] } else { vec![] });
                client.quiet();
            }
            if payload == "absent" {
                publisher.publish(&name, "present", 2);
            }
        }
    }
}
