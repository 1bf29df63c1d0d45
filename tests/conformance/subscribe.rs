//! SUBSCRIBE and UNSUBSCRIBE (both standards, 3.8 to 3.11).

use crate::client::Client;
use crate::packets::{Connect, Message, subscribe, topic, unsubscribe};
use crate::read::Packet;
use crate::server::{self, PASSWORD, USER};
use crate::wire::{BOTH, Version, no_properties, packet, reason, subscription_id, text};

/// Subscription option (5.0, 3.8.3.1).
const NO_LOCAL: u8 = 0x04;

/// 3.1.1: 3.8.4-1, 3.8.4-2, 2.3.1-7
/// 5.0: 3.8.4-1, 3.8.4-2, 2.2.1-6
#[test]
fn suback_has_the_identifier_of_its_subscribe() {
    for version in BOTH {
        let mut client = Client::connect(version);
        for id in [1, 2, 0x1234, 0xffff] {
            client.send(&subscribe(version, id, &[(&topic(), 0)], &[]));
            match client.packet() {
                Packet::SubAck { packet_id, .. } => assert_eq!(packet_id, id),
                other => panic!("no SUBACK: {other:?}"),
            }
        }
    }
}

/// 3.1.1: 3.8.4-4, 3.8.4-5, 3.9.3-1, 3.9.3-2
/// 5.0: 3.8.4-5, 3.8.4-6, 3.8.4-7, 3.9.3-1, 3.9.3-2, 3.2.2-10
#[test]
fn suback_has_a_reason_for_every_filter_in_its_order() {
    for version in BOTH {
        let topic = topic();
        let filters: Vec<_> = (0..6).map(|n| (format!("{topic}/{n}"), n % 3)).collect();
        let wishes: Vec<_> = filters.iter().map(|(filter, qos)| (&**filter, *qos)).collect();
        let mut client = Client::connect(version);
        assert_eq!(client.subscribe_all(&wishes, &[]), [0, 1, 2, 0, 1, 2]);
        for (filter, _) in &filters {
            client.publish(filter, filter, 0);
            client.receive(filter);
        }
    }
}

/// 3.1.1: 3.8.4-4
/// 5.0: 3.8.4-5
#[test]
fn the_last_of_two_equal_filters_in_a_packet_holds() {
    for version in BOTH {
        let topic = topic();
        let mut client = Client::connect(version);
        assert_eq!(client.subscribe_all(&[(&topic, 2), (&topic, 0)], &[]), [2, 0]);
        Client::connect(version).publish(&topic, "x", 1);
        assert_eq!(client.receive("x").qos, 0);
        client.quiet();
    }
}

/// 3.1.1: 3.8.4-3
/// 5.0: 3.8.4-3
#[test]
fn a_subscription_to_the_same_filter_replaces_the_first() {
    for version in BOTH {
        let topic = topic();
        let mut client = Client::connect(version);
        let mut publisher = Client::connect(version);
        client.subscribe(&topic, 0);
        for qos in [2, 1, 0, 1] {
            client.subscribe(&topic, qos);
            publisher.publish(&topic, "x", 2);
            assert_eq!(client.receive("x").qos, qos);
            client.quiet();
        }
        client.unsubscribe(&[&topic]);
        publisher.publish(&topic, "y", 2);
        client.publish("marker", "marker", 1);
        client.quiet();
    }
}

/// 3.1.1: 3.3.5-1
/// 5.0: 3.3.4-2, 3.3.4-3, 3.3.4-4, 3.3.4-5
#[test]
fn overlapping_subscriptions_give_the_highest_qos_and_every_identifier() {
    for version in BOTH {
        let topic = topic();
        let mut client = Client::connect(version);
        for (position, filter) in ["a/b", "+/b", "a/#"].iter().enumerate() {
            let properties = subscription_id(position * 100_000 + 1);
            let qos = u8::try_from(position).unwrap();
            let filter = format!("{topic}/{filter}");
            assert_eq!(client.subscribe_all(&[(&filter, qos)], &properties), [qos]);
        }
        Client::connect(version).publish(&format!("{topic}/a/b"), "x", 2);
        let expected: &[u32] = if version == Version::V5 { &[1, 100_001, 200_001] } else { &[] };
        // One copy, or one for each subscription: both are allowed.
        let (mut qos, mut ids) = (Vec::new(), Vec::new());
        while !qos.contains(&2) || ids.len() < expected.len() {
            let copy = client.receive("x");
            qos.push(copy.qos);
            ids.extend(copy.properties.subscription_ids());
        }
        ids.sort_unstable();
        assert_eq!(ids, expected);
    }
}

/// 5.0: 3.8.4-3, 3.3.4-3
#[test]
fn the_identifier_of_a_replaced_subscription_is_the_new_one_or_none() {
    let topic = topic();
    let mut client = Client::connect(Version::V5);
    for (properties, expected) in [
        (subscription_id(1), vec![1]),
        (subscription_id(268_435_455), vec![268_435_455]),
        (Vec::new(), vec![]),
    ] {
        client.subscribe_all(&[(&topic, 0)], &properties);
        client.publish(&topic, "x", 0);
        assert_eq!(client.receive("x").properties.subscription_ids(), expected);
    }
}

/// 5.0: 3.8.3-3
#[test]
fn with_no_local_a_client_does_not_get_its_own_messages() {
    let topic = topic();
    let mut client = Client::connect(Version::V5);
    let mut other = Client::connect(Version::V5);
    client.subscribe(&topic, NO_LOCAL | 1);
    client.publish(&topic, "own", 1);
    client.quiet();
    other.publish(&topic, "other's", 1);
    client.receive("other's");
    client.quiet();
}

/// 3.1.1: 3.9.3-2, 3.8.4-5
/// 5.0: 3.9.3-2, 3.8.4-7
#[test]
fn a_filter_that_the_policy_denies_is_refused_among_others() {
    if !server::is_gnomon() {
        return;
    }
    for version in BOTH {
        let allowed = topic();
        let filters = [(&*allowed, 1), ("denied/corner", 1), ("denied/corner", 0)];
        let mut nobody = Client::connect(version);
        assert_eq!(nobody.subscribe_all(&filters, &[]), [1, 0x80, 0x80]);
        let (username, password) = (Some(USER), Some(PASSWORD));
        let mut somebody = Connect { username, password, ..Connect::new(version) }.open();
        let refused = if version == Version::V5 { reason::NOT_AUTHORIZED } else { 0x80 };
        assert_eq!(somebody.subscribe_all(&filters, &[]), [1, refused, refused]);
        somebody.publish(&allowed, "x", 0);
        nobody.receive("x");
    }
}

/// 3.1.1: 3.9.3-2
/// 5.0: 3.9.3-2
#[test]
fn subscriptions_beyond_the_quota_are_refused() {
    let Some(address) = server::small() else { return };
    for version in BOTH {
        let topic = topic();
        let mut client = Connect::new(version).open_at(address).0;
        for number in 0..server::small::SUBSCRIPTIONS {
            client.subscribe(&format!("{topic}/{number}"), 1);
        }
        let refused = if version == Version::V5 { reason::QUOTA } else { 0x80 };
        assert_eq!(client.try_subscribe(&topic, 1), refused);
        // One that is there can be replaced, and one that went makes room.
        client.subscribe(&format!("{topic}/0"), 2);
        client.unsubscribe(&[&format!("{topic}/0")]);
        client.subscribe(&topic, 1);
    }
}

/// 3.1.1: 3.8.3-3, 3.10.3-2, 4.8.0-1
/// 5.0: 3.8.3-2, 3.10.3-2, 4.13.1-1
#[test]
fn subscribe_and_unsubscribe_without_a_filter_end_the_connection() {
    for version in BOTH {
        for first in [0x82, 0xa2] {
            let properties = no_properties(version);
            let mut client = Client::connect(version);
            client.send(&packet(first, &[&[0, 1][..], &properties].concat()));
            client.ended(reason::PROTOCOL_ERROR);
        }
    }
}

/// 3.1.1: 3.8.3-4, 4.8.0-1
/// 5.0: 3.8.3-5, 4.13.1-1
#[test]
fn reserved_bits_of_the_subscription_options_end_the_connection() {
    for version in BOTH {
        let reserved: &[u8] = match version {
            Version::V311 => &[0x03, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80],
            Version::V5 => &[0x03, 0x40, 0x80, 0x30],
        };
        for &options in reserved {
            let mut client = Client::connect(version);
            client.send(&subscribe(version, 1, &[("a", options)], &[]));
            client.thrown_out();
        }
    }
}

/// 3.1.1: 2.3.1-1, 4.8.0-1
/// 5.0: 2.2.1-3
#[test]
fn packet_identifier_0_ends_the_connection() {
    for version in BOTH {
        for bytes in [subscribe(version, 0, &[("a", 0)], &[]), unsubscribe(version, 0, &["a"])] {
            let mut client = Client::connect(version);
            client.send(&bytes);
            client.thrown_out();
        }
    }
}

/// 5.0: 4.13.1-1
#[test]
fn subscription_identifier_0_ends_the_connection() {
    let mut client = Client::connect(Version::V5);
    client.send(&subscribe(Version::V5, 1, &[("a", 0)], &subscription_id(0)));
    client.ended(reason::PROTOCOL_ERROR);
}

/// 3.1.1: 3.10.4-1, 3.10.4-2, 3.10.4-4, 2.3.1-7
/// 5.0: 3.10.4-1, 3.10.4-2, 3.10.4-4, 3.10.4-5, 3.11.3-2, 2.2.1-6
#[test]
fn nothing_comes_after_unsubscribe() {
    for version in BOTH {
        let topic = topic();
        let (mut client, mut publisher) = (Client::connect(version), Client::connect(version));
        client.subscribe(&topic, 1);
        client.subscribe(&format!("{topic}/+"), 1);
        publisher.publish(&topic, "before", 1);
        client.receive("before");
        client.send(&unsubscribe(version, 0xabcd, &[&topic]));
        match client.packet() {
            Packet::UnsubAck { packet_id: 0xabcd, reasons, .. } => {
                assert_eq!(reasons, if version == Version::V5 { vec![0] } else { vec![] });
            }
            other => panic!("no UNSUBACK: {other:?}"),
        }
        publisher.publish(&topic, "after", 1);
        publisher.publish(&format!("{topic}/x"), "marker", 1);
        client.receive("marker");
        client.quiet();
    }
}

/// 3.1.1: 3.10.4-5, 3.10.4-1
/// 5.0: 3.10.4-5, 3.10.4-1, 3.11.3-2
#[test]
fn unsubscribing_from_what_is_not_there_is_acknowledged() {
    for version in BOTH {
        let topic = topic();
        let mut client = Client::connect(version);
        client.subscribe(&format!("{topic}/a"), 0);
        // Filters are compared as texts: one that matches another is not it.
        let reasons = client.unsubscribe(&[&topic, &format!("{topic}/+"), &format!("{topic}/A")]);
        let expected = if version == Version::V5 { vec![0x11; 3] } else { vec![] };
        assert_eq!(reasons, expected);
        client.publish(&format!("{topic}/a"), "x", 0);
        client.receive("x");
    }
}

/// 3.1.1: 3.10.4-6
/// 5.0: 3.10.4-6, 3.11.3-1
#[test]
fn several_filters_are_unsubscribed_with_one_answer_in_their_order() {
    for version in BOTH {
        let topic = topic();
        let filters: Vec<_> = (0..4).map(|number| format!("{topic}/{number}")).collect();
        let mut client = Client::connect(version);
        client.subscribe(&filters[0], 0);
        client.subscribe(&filters[2], 0);
        client.subscribe(&format!("{topic}/marker"), 0);
        let all: Vec<_> = filters.iter().map(|it| &**it).chain([&*filters[0]]).collect();
        let reasons = client.unsubscribe(&all);
        let expected = [0, 0x11, 0, 0x11, 0x11];
        assert_eq!(reasons, if version == Version::V5 { &expected[..] } else { &[] });
        for filter in &filters {
            client.publish(filter, "x", 0);
        }
        client.publish(&format!("{topic}/marker"), "marker", 0);
        client.receive("marker");
    }
}

/// 3.1.1: 3.10.4-3
/// 5.0: 3.10.4-3
#[test]
fn what_is_under_way_is_completed_after_unsubscribe() {
    for version in BOTH {
        let topic = topic();
        let connect = Connect::durable(version);
        let mut client = connect.open();
        client.subscribe(&topic, 2);
        let mut publisher = Client::connect(version);
        publisher.publish(&topic, "one", 1);
        publisher.publish(&topic, "two", 2);
        let (one, two) = (client.message(), client.message());
        client.unsubscribe(&[&topic]);
        client.cut();
        let mut client = connect.open();
        assert_eq!(client.receive("one").packet_id, one.packet_id);
        assert_eq!(client.receive("two").packet_id, two.packet_id);
        client.quiet();
    }
}

/// 3.1.1: 3.8.4-3
/// 5.0: 3.8.4-4
#[test]
fn no_message_is_lost_while_a_subscription_is_replaced() {
    for version in BOTH {
        let topic = topic();
        let mut client = Client::connect(version);
        client.subscribe(&topic, 1);
        let mut publisher = Client::connect(version);
        let mut expected = Vec::new();
        for number in 0..10_u16 {
            let payload = number.to_string();
            // Both on their way at the same time, in whatever order they are handled.
            let message = Message { qos: 1, ..Message::new(&topic, &payload) };
            publisher.send(&message.bytes(version, number + 1));
            client.send(&subscribe(version, 100 + number, &[(&topic, 1)], &[]));
            expected.push(payload);
        }
        let (mut received, mut granted) = (Vec::new(), 0);
        while received.len() < 10 || granted < 10 {
            match client.packet() {
                Packet::Publish(publish) => {
                    received.push(String::from_utf8(publish.payload).unwrap());
                }
                Packet::SubAck { reasons, .. } => {
                    assert_eq!(reasons, [1]);
                    granted += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(received, expected);
    }
}

/// 3.1.1: 3.8.3-1, 3.10.3-1
/// 5.0: 3.8.3-1, 3.10.3-1
#[test]
fn a_filter_that_is_cut_off_ends_the_connection() {
    for version in BOTH {
        let properties = no_properties(version);
        for first in [0x82, 0xa2] {
            for rest in [&[0][..], &[0, 9, b'a'], &[&text("a/b")[..], &[0], &[0]].concat()] {
                let mut client = Client::connect(version);
                client.send(&packet(first, &[&[0, 1][..], &properties, rest].concat()));
                client.thrown_out();
            }
        }
    }
}

/// 5.0: 3.8.3-3
#[test]
fn no_local_holds_for_overlapping_subscriptions_too() {
    let topic = topic();
    let mut client = Client::connect(Version::V5);
    let (plain, wildcard) = (format!("{topic}/a"), format!("{topic}/+"));
    client.subscribe_all(&[(&plain, NO_LOCAL | 2), (&wildcard, NO_LOCAL)], &subscription_id(1));
    client.publish(&plain, "own", 1);
    client.quiet();
    Client::connect(Version::V5).publish(&plain, "other's", 1);
    client.receive("other's");
}

/// 5.0: 3.8.3-3, 3.8.4-8
#[test]
fn beside_a_no_local_subscription_an_own_message_comes_as_the_other_one_says() {
    let topic = topic();
    let mut client = Client::connect(Version::V5);
    let (plain, wildcard) = (format!("{topic}/a"), format!("{topic}/+"));
    client.subscribe_all(&[(&plain, NO_LOCAL | 2)], &subscription_id(1));
    client.subscribe_all(&[(&wildcard, 0)], &subscription_id(2));
    client.publish(&plain, "own", 1);
    let publish = client.receive("own");
    assert_eq!((publish.qos, publish.properties.subscription_ids()), (0, vec![2]));
}
