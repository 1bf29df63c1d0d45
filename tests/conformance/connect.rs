//! CONNECT and CONNACK (both standards, 3.1 and 3.2).

use crate::client::Client;
use crate::malformed::NO_UTF8;
use crate::packets::{Connect, Message, Will, client_id, topic};
use crate::read::Packet;
use crate::server;
use crate::wire::{BOTH, Version, id, no_properties, packet, reason, section, text};

/// The body of a CONNECT, field by field, for what [`Connect`] cannot say.
fn raw(name: &[u8], level: u8, flags: u8, rest: &[&[u8]]) -> Vec<u8> {
    let properties = if level == 5 { section(&[]) } else { Vec::new() };
    let body = [&text(name)[..], &[level, flags, 0, 0], &properties, &rest.concat()].concat();
    packet(0x10, &body)
}

/// A CONNECT with these flags and fields.
fn flagged(version: Version, flags: u8, fields: &[&[u8]]) -> Vec<u8> {
    raw(b"MQTT", if version == Version::V5 { 5 } else { 4 }, flags, fields)
}

/// Sends the bytes on a new connection; the broker ends it.
#[track_caller]
fn check_thrown_out(version: Version, bytes: &[u8]) {
    let mut client = Client::dial(version);
    client.send(bytes);
    client.thrown_out();
}

/// 3.1.1: 3.1.0-1
/// 5.0: 3.1.0-1
#[test]
fn a_first_packet_other_than_connect_ends_the_connection() {
    for version in BOTH {
        let topic = topic();
        let mut watcher = Client::connect(version);
        watcher.subscribe(&topic, 0);
        for bytes in [Message::new(&topic, "early").bytes(version, 0), vec![0xc0, 0], vec![0xe0, 0]]
        {
            let mut client = Client::dial(version);
            client.send(&bytes);
            client.closed();
        }
        watcher.publish(&topic, "marker", 0);
        watcher.receive("marker");
    }
}

/// 3.1.1: 3.1.0-2
/// 5.0: 3.1.0-2, 3.2.0-2, 4.13.1-1, 4.13.2-1
#[test]
fn a_second_connect_ends_the_connection() {
    for version in BOTH {
        let connect = Connect::new(version);
        let mut client = connect.open();
        client.send(&connect.bytes());
        client.ended(reason::PROTOCOL_ERROR);
    }
}

/// 3.1.1: 3.1.2-1
/// 5.0: 3.1.2-1
#[test]
fn a_wrong_protocol_name_ends_the_connection() {
    for (version, level) in [(Version::V311, 4), (Version::V5, 5)] {
        for name in [&b"MQTx"[..], b"mqtt", b"MQT", b"MQTTT", b""] {
            check_thrown_out(version, &raw(name, level, 2, &[&text(client_id())]));
        }
        // MQTT 3.1 has the CONNACK of 3.1.1.
        check_thrown_out(Version::V311, &raw(b"MQIsdp", level, 2, &[&text(client_id())]));
    }
}

/// 3.1.1: 3.1.2-2, 3.2.2-5
/// 5.0: 3.1.2-2, 3.2.2-7
#[test]
fn an_unknown_protocol_version_is_refused() {
    for level in [0, 1, 2, 3, 6, 0x7f] {
        if level > 5 && !server::is_gnomon() {
            // In which form a version that is to come is refused, is the broker's.
            continue;
        }
        let mut client = Client::dial(if level > 5 { Version::V5 } else { Version::V311 });
        client.send(&raw(b"MQTT", level, 2, &[&text(client_id())]));
        let packet = client.packet();
        let Packet::ConnAck { session_present: false, reason, .. } = packet else {
            panic!("level {level}: {packet:?}")
        };
        assert!(reason == 1 || reason == reason::BAD_VERSION, "{reason}");
        client.closed();
    }
}

/// 3.1.1: 3.1.2-3, 3.1.4-1
/// 5.0: 3.1.2-3, 3.1.4-1
#[test]
fn the_reserved_connect_flag_ends_the_connection() {
    for (version, level) in [(Version::V311, 4), (Version::V5, 5)] {
        check_thrown_out(version, &raw(b"MQTT", level, 3, &[&text(client_id())]));
    }
}

/// 3.1.1: 3.2.0-1, 3.1.4-4, 3.2.2-1
/// 5.0: 3.2.0-1, 3.1.4-5, 3.2.2-1, 3.2.2-2, 3.2.2-8
#[test]
fn a_clean_session_is_accepted_without_a_session_present() {
    for version in BOTH {
        let connect = Connect::durable(version);
        connect.open().disconnect();
        let clean = Connect { clean: true, ..connect };
        let (mut client, present) = clean.resume();
        assert!(!present);
        client.quiet();
    }
}

/// 3.1.1: 3.1.3-3, 3.1.3-5
/// 5.0: 3.1.3-3, 3.1.3-5
#[test]
fn client_ids_of_1_to_23_letters_and_digits_are_taken() {
    let alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for version in BOTH {
        for start in (0..alphabet.len()).step_by(23) {
            let client_id = alphabet[start..alphabet.len().min(start + 23)].to_owned();
            Connect { client_id, ..Connect::new(version) }.open().quiet();
        }
        Connect { client_id: "Q".to_owned(), ..Connect::new(version) }.open().quiet();
    }
}

/// 3.1.1: 3.1.3-6
#[test]
fn an_empty_client_id_with_a_clean_session_is_taken() {
    let empty = Connect { client_id: String::new(), ..Connect::new(Version::V311) };
    let (mut first, mut second) = (empty.open(), empty.open());
    first.quiet();
    second.quiet();
}

/// 3.1.1: 3.1.3-8, 3.1.3-9, 3.2.2-4, 3.2.2-5
#[test]
fn an_empty_client_id_without_a_clean_session_is_refused() {
    let connect = Connect { client_id: String::new(), clean: false, ..Connect::new(Version::V311) };
    assert_eq!(connect.refused(), 2);
}

/// 5.0: 3.1.3-6, 3.1.3-7, 3.2.2-16
#[test]
fn an_empty_client_id_gets_one_of_its_own() {
    let connect = Connect {
        client_id: String::new(),
        clean: false,
        properties: Connect::durable(Version::V5).properties,
        ..Connect::new(Version::V5)
    };
    let (first, present, properties) = connect.open_at(server::address());
    assert!(!present);
    let assigned = properties.text(id::ASSIGNED_CLIENT_ID).unwrap().to_owned();
    let (_second, _, properties) = connect.open_at(server::address());
    assert_ne!(properties.text(id::ASSIGNED_CLIENT_ID), Some(&*assigned));
    // It is a client id like any other.
    first.disconnect();
    let (_client, present) = Connect { client_id: assigned, ..connect }.resume();
    assert!(present);
}

/// 3.1.1: 1.5.3-1, 1.5.3-2, 3.1.3-4, 3.1.3-10, 3.1.3-11
/// 5.0: 1.5.4-1, 1.5.4-2, 3.1.3-4, 3.1.3-11, 3.1.3-12
#[test]
fn a_connect_with_text_that_is_none_ends_the_connection() {
    for version in BOTH {
        for string in NO_UTF8.iter().chain([&&b"\0"[..]]) {
            let string = text(string);
            let id = text(client_id());
            let none = no_properties(version);
            check_thrown_out(version, &flagged(version, 0x02, &[&string]));
            let will = [&id[..], &none, &string, &text("payload")];
            check_thrown_out(version, &flagged(version, 0x06, &will));
            check_thrown_out(version, &flagged(version, 0x82, &[&id, &string]));
        }
    }
}

/// 3.1.1: 3.1.2-11, 3.1.2-13, 3.1.2-14, 3.1.2-15, 3.1.4-1
/// 5.0: 3.1.2-11, 3.1.2-12, 3.1.2-13, 3.1.4-1
#[test]
fn will_flags_that_contradict_each_other_end_the_connection() {
    for version in BOTH {
        let id = text(client_id());
        for flags in [0x0a, 0x12, 0x1a, 0x22, 0x2a, 0x3a] {
            check_thrown_out(version, &flagged(version, flags, &[&id]));
        }
        let none = no_properties(version);
        let will = [&id[..], &none, &text("topic"), &text("payload")];
        for flags in [0x1e, 0x3e] {
            check_thrown_out(version, &flagged(version, flags, &will));
        }
    }
}

/// 3.1.1: 3.1.2-9, 3.1.2-11, 3.1.2-18, 3.1.2-19, 3.1.2-20, 3.1.2-21, 3.1.3-1, 3.1.3-3, 3.1.4-1
/// 5.0: 3.1.2-9, 3.1.2-16, 3.1.2-17, 3.1.2-18, 3.1.2-19, 3.1.3-1, 3.1.3-3, 3.1.4-1
#[test]
fn a_connect_with_too_few_or_too_many_fields_ends_the_connection() {
    for version in BOTH {
        let (id, none) = (text(client_id()), no_properties(version));
        let (field, will) = (text("x"), [&none[..], &text("topic"), &text("payload")].concat());
        let cases: [(u8, &[&[u8]]); 10] = [
            (0x02, &[]),
            (0x02, &[&id, &field]),
            (0x06, &[&id]),
            (0x06, &[&id, &none, &field]),
            (0x02, &[&id, &will]),
            (0x82, &[&id]),
            (0x82, &[&id, &field, &field]),
            (0xc2, &[&id, &field]),
            (0xc6, &[&id, &will, &field]),
            (0xc2, &[&id, &field, &field, &field]),
        ];
        for (flags, fields) in cases {
            check_thrown_out(version, &flagged(version, flags, fields));
        }
    }
}

/// 3.1.1: 3.1.2-22, 3.1.4-1
#[test]
fn a_password_without_a_user_name_ends_the_connection() {
    let fields = [&text(client_id())[..], &text("password")];
    check_thrown_out(Version::V311, &flagged(Version::V311, 0x42, &fields));
}

/// 3.1.1: 4.7.1-1, 4.7.3-1
/// 5.0: 4.7.0-1, 4.7.3-1
#[test]
fn a_will_on_a_topic_that_is_none_ends_the_connection() {
    for version in BOTH {
        for topic in ["", "a/+", "#"] {
            let will = Some(Will::new(topic));
            check_thrown_out(version, &Connect { will, ..Connect::new(version) }.bytes());
        }
    }
}

/// 3.1.1: 3.1.3-4, 3.1.3-2
/// 5.0: 3.1.3-4, 3.1.3-2
#[test]
fn client_ids_are_any_text_and_compared_as_they_are() {
    for version in BOTH {
        let own = client_id();
        for other in ["é", "e\u{301}", "日本", "a b", "/", "+", "#", "$", "%41", "A", "a"] {
            let client_id = format!("{own}{other}");
            let connect = Connect { client_id, ..Connect::durable(version) };
            let (mut client, present) = connect.resume();
            assert!(!present, "{other}");
            client.quiet();
        }
    }
}

/// 3.1.1: 3.1.2-19, 3.1.2-21
/// 5.0: 3.1.2-17, 3.1.2-19
#[test]
fn user_name_and_password_may_be_empty() {
    for version in BOTH {
        let connect = Connect { username: Some(""), password: Some(""), ..Connect::new(version) };
        connect.open().quiet();
    }
}

/// 3.1.1: 3.1.0-2, 3.2.0-1
/// 5.0: 3.1.0-2, 3.2.0-1, 3.2.0-2, 3.14.0-1
#[test]
fn what_is_wrong_right_behind_connect_is_answered_behind_connack() {
    for version in BOTH {
        let connect = Connect::new(version).bytes();
        for (rest, reason) in
            [(&connect[..], reason::PROTOCOL_ERROR), (&[0x00, 0x00], reason::MALFORMED)]
        {
            let mut client = Client::dial(version);
            client.send(&[&connect, rest].concat());
            let packet = client.packet();
            assert!(matches!(packet, Packet::ConnAck { reason: 0, .. }), "{packet:?}");
            client.ended(reason);
        }
    }
}

/// 3.1.1: 3.14.4-3, 3.1.2-10
/// 5.0: 3.14.4-3, 3.1.2-10
#[test]
fn connect_and_disconnect_in_one_breath_leave_no_will() {
    for version in BOTH {
        let topic = topic();
        let mut watcher = Client::connect(version);
        watcher.subscribe(&topic, 0);
        let connect = Connect { will: Some(Will::new(&topic)), ..Connect::new(version) };
        let mut client = Client::dial(version);
        client.send(&[&connect.bytes()[..], &[0xe0, 0]].concat());
        client.finished();
        watcher.publish(&topic, "marker", 0);
        watcher.receive("marker");
    }
}
