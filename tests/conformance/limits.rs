//! What a client takes, and what the server takes (5.0: 3.1.2.11, 3.2.2.3, 4.9).

use crate::client::Client;
use crate::packets::{Connect, Message, ack, subscribe, topic, unsubscribe};
use crate::read::Packet;
use crate::server::{self, small};
use crate::wire::{Version, byte, four, id, reason, two, user};

/// A client that takes packets of so many bytes.
fn taking(bytes: u32) -> Connect {
    Connect { packet_bytes_max: Some(bytes), ..Connect::new(Version::V5) }
}

/// 5.0: 3.1.2-24, 3.1.2-25
#[test]
fn a_message_too_large_for_the_client_is_dropped_and_the_next_one_comes() {
    let topic = topic();
    let mut client = taking(100).open();
    client.subscribe(&topic, 2);
    let mut publisher = Client::connect(Version::V5);
    for qos in [0, 1, 2] {
        for len in [100 - topic.len(), 200, 10_000] {
            publisher.publish(&topic, &"x".repeat(len), qos);
        }
        publisher.publish(&topic, "fits", qos);
        client.receive("fits");
    }
    client.quiet();
}

/// 5.0: 3.1.2-24
#[test]
fn a_message_of_just_the_size_that_the_client_takes_comes() {
    let topic = topic();
    // Fixed header 2, topic 2 + n, no properties 1.
    let payload = "x".repeat(100 - 5 - topic.len());
    let mut client = taking(100).open();
    client.subscribe(&topic, 0);
    let mut publisher = Client::connect(Version::V5);
    publisher.publish(&topic, &format!("{payload}y"), 0);
    publisher.publish(&topic, &payload, 0);
    client.receive(&payload);
}

/// 5.0: 3.1.2-25
#[test]
fn a_message_that_is_too_large_does_not_fill_the_window() {
    let topic = topic();
    let mut connect = taking(100);
    connect.properties.extend(two(id::RECEIVE_MAXIMUM, 1));
    let mut client = connect.open();
    client.subscribe(&topic, 1);
    let mut publisher = Client::connect(Version::V5);
    for _ in 0..3 {
        publisher.publish(&topic, &"x".repeat(200), 1);
    }
    publisher.publish(&topic, "fits", 1);
    client.receive("fits");
}

/// 5.0: 3.2.2-19, 3.2.2-20, 3.9.2-1, 3.9.2-2, 3.11.2-1, 3.11.2-2
#[test]
fn answers_leave_out_what_would_make_them_too_large() {
    // The smallest packets that answer; every reason string and user property is too much.
    let topic = topic();
    let mut client = taking(30).open();
    client.subscribe_all(&[("denied/corner", 0), (&topic, 0)], &[]);
    client.unsubscribe(&["none", &topic]);
    client.quiet();
    let connect = taking(30);
    if server::is_gnomon() {
        let client_id = format!("denied{}", connect.client_id);
        assert_eq!(Connect { client_id, ..connect }.refused(), reason::NOT_AUTHORIZED);
    }
}

/// 5.0: 3.14.2-3, 3.14.2-4, 3.4.2-2, 3.4.2-3, 3.5.2-2, 3.5.2-3, 3.6.2-2, 3.6.2-3, 3.7.2-2, 3.7.2-3
#[test]
fn acknowledgements_and_disconnect_fit_into_the_smallest_packets() {
    if !server::is_gnomon() {
        return;
    }
    let check = |bytes: &[u8], reply: u8| {
        let mut client = taking(30).open();
        client.send(bytes);
        // That it is small enough, the client sees.
        match client.packet() {
            Packet::Ack { first, .. } => assert_eq!(first, reply),
            Packet::Disconnect { .. } => assert_eq!(0xe0, reply),
            other => panic!("{other:?}"),
        }
    };
    let denied = |qos| Message { qos, ..Message::new("denied/corner", "x") }.bytes(Version::V5, 1);
    check(&denied(1), 0x40);
    check(&denied(2), 0x50);
    check(&ack(0x50, 9), 0x62);
    check(&ack(0x62, 9), 0x70);
    check(&denied(0), 0xe0);
}

/// 5.0: 3.1.2-29
#[test]
fn without_problem_information_only_connack_and_disconnect_give_reasons() {
    let properties = byte(id::REQUEST_PROBLEM, 0);
    let mut client = Connect { properties, ..Connect::new(Version::V5) }.open();
    let denied = |qos| Message { qos, ..Message::new("denied/corner", "x") }.bytes(Version::V5, 1);
    client.send(&denied(1));
    client.send(&ack(0x62, 9));
    client.send(&subscribe(Version::V5, 2, &[("denied/corner", 0)], &[]));
    client.send(&unsubscribe(Version::V5, 3, &["none"]));
    for _ in 0..4 {
        let properties = match client.packet() {
            Packet::Ack { properties, .. }
            | Packet::SubAck { properties, .. }
            | Packet::UnsubAck { properties, .. } => properties,
            other => panic!("{other:?}"),
        };
        assert_eq!(properties.text(id::REASON_STRING), None);
        assert_eq!(properties.user(), []);
    }
    // Those of a message are the publisher's.
    let topic = topic();
    client.subscribe(&topic, 0);
    let properties = user("k", "v");
    client.publish_with(&Message { properties, ..Message::new(&topic, "x") });
    assert_eq!(client.receive("x").properties.user(), [("k", "v")]);
}

/// 5.0: 3.1.2-28
#[test]
fn response_information_is_given_to_whom_asks_only() {
    for properties in [Vec::new(), byte(id::REQUEST_RESPONSE, 0)] {
        let connect = Connect { properties, ..Connect::new(Version::V5) };
        let (_, _, properties) = connect.open_at(server::address());
        assert_eq!(properties.text(id::RESPONSE_INFORMATION), None);
    }
}

/// 5.0: 3.2.2-9, 3.2.2-12, 3.2.2-13
#[test]
fn what_the_server_does_not_offer_it_says_and_what_it_does_not_say_it_offers() {
    let (mut client, _, properties) = Connect::new(Version::V5).open_at(server::address());
    let topic = topic();
    let offers = |id| properties.number(id) != Some(0);
    let qos = properties.number(id::MAXIMUM_QOS).map_or(2, |qos| u8::try_from(qos).unwrap());
    client.publish(&topic, "x", qos);
    if offers(id::RETAIN_AVAILABLE) {
        client.retain(&topic, "kept");
        client.subscribe(&topic, 0);
        client.receive("kept");
        client.retain(&topic, "");
        client.receive("");
    }
    if offers(id::WILDCARDS) {
        client.subscribe(&format!("{topic}/+/#"), 0);
    }
    if offers(id::SHARED) {
        client.subscribe(&format!("$share/g/{topic}"), 0);
    }
    if offers(id::SUBSCRIPTION_IDS) {
        let identifier = crate::wire::subscription_id(1);
        assert_eq!(client.subscribe_all(&[(&topic, 0)], &identifier), [0]);
    }
    let will = crate::packets::Will {
        qos,
        retain: offers(id::RETAIN_AVAILABLE),
        ..crate::packets::Will::new(&topic)
    };
    Connect { will: Some(will), ..Connect::new(Version::V5) }.open().disconnect();
}

/// 5.0: 3.2.2-15, 4.13.1-1
#[test]
fn a_packet_larger_than_the_server_takes_ends_the_connection() {
    let Some(address) = server::small() else { return };
    let (mut client, _, properties) = Connect::new(Version::V5).open_at(address);
    let bytes = small::PACKET_BYTES;
    assert_eq!(properties.number(id::MAXIMUM_PACKET_SIZE), Some(bytes));
    let whole = |len: usize| {
        // Fixed header 3, topic 3, no properties 1.
        Message::new("a", &"x".repeat(len - 7)).bytes(Version::V5, 0)
    };
    let len = bytes as usize;
    assert_eq!(whole(len).len(), len);
    client.send(&whole(len));
    client.quiet();
    client.send(&whole(len + 1));
    client.ended(reason::TOO_LARGE);
}

/// 5.0: 4.13.1-1
#[test]
fn receive_maximum_and_maximum_packet_size_0_are_protocol_errors() {
    for properties in [two(id::RECEIVE_MAXIMUM, 0), four(id::MAXIMUM_PACKET_SIZE, 0)] {
        let mut client = Client::dial(Version::V5);
        client.send(&Connect { properties, ..Connect::new(Version::V5) }.bytes());
        client.thrown_out();
    }
}

/// 3.1.1: 4.8.0-1
/// 5.0: 4.13.1-1
#[test]
fn a_length_that_nobody_takes_ends_the_connection_before_its_bytes_come() {
    for version in crate::wire::BOTH {
        let mut client = Client::connect(version);
        client.send(&[0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1]);
        client.ended(reason::TOO_LARGE);
        // More than four bytes are no length at all.
        let mut client = Client::connect(version);
        client.send(&[0x30, 0xff, 0xff, 0xff, 0xff, 0x01]);
        client.ended(reason::MALFORMED);
    }
}

/// 3.1.1: 3.9.3-2, 4.8.0-1
/// 5.0: 3.9.3-2, 3.14.2-1
#[test]
fn names_and_filters_beyond_the_limits_of_the_host_are_refused() {
    let Some(address) = server::small() else { return };
    for version in crate::wire::BOTH {
        for text in ["x".repeat(257), "/".repeat(8)] {
            let (mut client, _, _) = Connect::new(version).open_at(address);
            let refused = if version == Version::V5 { reason::FILTER_INVALID } else { 0x80 };
            assert_eq!(client.try_subscribe(&text, 0), refused);
            client.send(&Message::new(&text, "x").bytes(version, 0));
            client.ended(reason::TOPIC_INVALID);
        }
    }
}

/// 3.1.1: 3.1.3-9, 3.2.2-4, 3.2.2-5
/// 5.0: 3.1.3-8, 3.2.2-6, 3.2.2-7
#[test]
fn a_client_id_beyond_the_limit_of_the_host_is_refused() {
    let Some(address) = server::small() else { return };
    for version in crate::wire::BOTH {
        let client_id = "x".repeat(129);
        let reason = Connect { client_id, ..Connect::new(version) }.refused_at(address);
        assert_eq!(reason, if version == Version::V5 { 0x85 } else { 2 });
    }
}

/// 3.1.1: 3.2.2-6
#[test]
fn a_refusal_without_a_fitting_return_code_is_silent() {
    let Some(address) = server::small() else { return };
    let will = Some(crate::packets::Will::new(&"x".repeat(257)));
    let connect = Connect { will, ..Connect::new(Version::V311) };
    let mut client = Client::dial_at(address, Version::V311);
    client.send(&connect.bytes());
    client.closed();
}

/// 5.0: 3.1.2-24
#[test]
fn an_answer_that_cannot_be_made_small_enough_is_not_sent() {
    // CONNACK with an assigned client id, which may not be left out.
    let connect = Connect { client_id: String::new(), ..taking(20) };
    let mut client = connect.dial_at(server::address());
    client.send(&connect.bytes());
    client.finished();
    // SUBACK and UNSUBACK have a reason for every filter.
    let filters = [("a", 0); 40];
    for bytes in [
        subscribe(Version::V5, 1, &filters, &[]),
        unsubscribe(Version::V5, 2, &filters.map(|(filter, _)| filter)),
    ] {
        let mut client = taking(30).open();
        client.send(&bytes);
        client.finished();
    }
}

/// 5.0: 3.1.2-24, 3.1.2-25
#[test]
fn a_resumed_session_keeps_to_its_new_packet_size() {
    let topic = topic();
    let wide = Connect::durable(Version::V5);
    let mut client = wide.open();
    client.subscribe(&topic, 1);
    let mut publisher = Client::connect(Version::V5);
    let large = "x".repeat(200);
    publisher.publish(&topic, &large, 1);
    client.message();
    client.cut();
    publisher.publish(&topic, &large, 1);
    publisher.publish(&topic, "fits", 1);
    let narrow = Connect { packet_bytes_max: Some(100), ..wide };
    let mut client = narrow.open();
    client.receive("fits");
    client.quiet();
}

/// 5.0: 3.14.2-3
#[test]
fn a_disconnect_leaves_its_reason_string_out_rather_than_being_too_large() {
    for (bytes_max, bytes) in [(20, Connect::new(Version::V5).bytes()), (20, vec![0xd0, 0])] {
        let mut client = taking(bytes_max).open();
        client.send(&bytes);
        client.ended(reason::PROTOCOL_ERROR);
    }
}

/// 5.0: 3.1.2-24
#[test]
fn a_client_that_takes_no_connack_is_not_left_waiting() {
    let connect = taking(4);
    let mut client = connect.dial_at(server::address());
    client.send(&connect.bytes());
    client.closed();
}
