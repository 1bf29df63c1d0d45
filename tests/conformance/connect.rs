//! CONNECT and CONNACK (both standards, 3.1 and 3.2).

use crate::client::{Client, Connect, Message, client_id, topic};
use crate::server;
use crate::wire::{BOTH, Packet, Version, id, packet, reason, section, text};

/// The body of a CONNECT, field by field, for what [`Connect`] cannot say.
fn raw(name: &[u8], level: u8, flags: u8, rest: &[&[u8]]) -> Vec<u8> {
    let properties = if level == 5 { section(&[]) } else { Vec::new() };
    let body = [&text(name)[..], &[level, flags, 0, 0], &properties, &rest.concat()].concat();
    packet(0x10, &body)
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
