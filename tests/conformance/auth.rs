//! User name and password, authorization, enhanced authentication (3.1.1: 3.1.3; 5.0: 4.12).

use crate::client::Client;
use crate::packets::{Connect, Message, client_id, topic};
use crate::server::{self, BRIEF, PASSWORD, USER};
use crate::wire::{BOTH, Version, id, packet, reason, section, string};
use std::time::Duration;

/// 3.1.1: 3.1.2-19, 3.1.2-21, 3.1.3-1
/// 5.0: 3.1.2-17, 3.1.2-19, 3.1.3-1
#[test]
fn user_name_and_password_are_read_behind_the_will() {
    if !server::is_gnomon() {
        return;
    }
    for version in BOTH {
        let connect =
            Connect { username: Some(USER), password: Some(PASSWORD), ..Connect::new(version) };
        connect.open().quiet();
        let will = Some(crate::packets::Will::new(&topic()));
        Connect { will, ..connect.clone() }.open().disconnect();
        Connect { password: None, ..connect }.open().quiet();
    }
}

/// 3.1.1: 3.2.2-4, 3.2.2-5
/// 5.0: 3.1.4-2, 3.2.2-6, 3.2.2-7, 3.2.2-8, 4.13.2-1
#[test]
fn wrong_credentials_are_refused() {
    if !server::is_gnomon() {
        return;
    }
    for version in BOTH {
        for (username, password) in [
            (Some(USER), Some("wrong")),
            (Some("stranger"), Some(PASSWORD)),
            (Some("stranger"), None),
        ] {
            let reason = Connect { username, password, ..Connect::new(version) }.refused();
            let allowed: &[u8] = if version == Version::V5 { &[0x86, 0x87] } else { &[4, 5] };
            assert!(allowed.contains(&reason), "{reason:#x}");
        }
    }
}

/// 3.1.1: 3.8.4-5
/// 5.0: 3.8.4-7, 4.13.2-1
#[test]
fn an_authorizer_is_asked_again_while_its_client_is_connected() {
    if !server::is_gnomon() {
        return;
    }
    for version in BOTH {
        let mut client = Connect { username: Some(BRIEF), ..Connect::new(version) }.open();
        let topic = topic();
        client.subscribe(&topic, 0);
        let refused = if version == Version::V5 { reason::NOT_AUTHORIZED } else { 0x80 };
        // The broker looks at its clock once a second.
        let mut tries = 0;
        while client.try_subscribe(&topic, 0) != refused {
            tries += 1;
            assert!(tries < 50, "still with the first answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        client.ended(reason::NOT_AUTHORIZED);
    }
}

/// 5.0: 3.1.2-18, 3.1.2-19
#[test]
fn a_password_may_stand_alone() {
    if !server::is_gnomon() {
        return;
    }
    // The tests' authorizer knows no such client; what counts is that it was asked.
    let connect = Connect { password: Some(PASSWORD), ..Connect::new(Version::V5) };
    assert_eq!(connect.refused(), reason::NOT_AUTHORIZED);
}

/// 3.1.1: 3.2.2-4, 3.2.2-5
/// 5.0: 3.1.4-2, 3.2.2-6, 3.2.2-7
#[test]
fn a_client_id_that_the_policy_denies_is_refused() {
    if !server::is_gnomon() {
        return;
    }
    for version in BOTH {
        let client_id = format!("denied{}", client_id());
        let reason = Connect { client_id, ..Connect::new(version) }.refused();
        assert_eq!(reason, if version == Version::V5 { reason::NOT_AUTHORIZED } else { 5 });
    }
}

/// 3.1.1: 3.1.4-5
/// 5.0: 3.1.4-6
#[test]
fn nothing_behind_a_refused_connect_counts() {
    if !server::is_gnomon() {
        return;
    }
    for version in BOTH {
        let topic = topic();
        let mut watcher = Client::connect(version);
        watcher.subscribe(&topic, 0);
        let client_id = format!("denied{}", client_id());
        let mut client = Client::dial(version);
        let connect = Connect { client_id, ..Connect::new(version) }.bytes();
        let early = Message::new(&topic, "early").bytes(version, 0);
        client.send(&[&connect[..], &early, &[0xc0, 0]].concat());
        client.refused();
        watcher.publish(&topic, "marker", 0);
        watcher.receive("marker");
    }
}

/// 3.1.1: 3.2.0-1
/// 5.0: 3.2.0-1
#[test]
fn packets_may_come_right_behind_connect_and_are_answered_behind_connack() {
    for version in BOTH {
        let topic = topic();
        let mut client = Client::dial(version);
        let subscribe = crate::packets::subscribe(version, 1, &[(&topic, 0)], &[]);
        let publish = Message::new(&topic, "x").bytes(version, 0);
        client.send(&[&Connect::new(version).bytes()[..], &subscribe, &publish].concat());
        let first = client.packet();
        assert!(matches!(first, crate::read::Packet::ConnAck { reason: 0, .. }), "{first:?}");
        let second = client.packet();
        assert!(matches!(second, crate::read::Packet::SubAck { packet_id: 1, .. }), "{second:?}");
        client.receive("x");
    }
}

/// 5.0: 4.12.0-1, 4.12.0-4, 3.2.2-7
#[test]
fn an_authentication_method_that_is_not_offered_is_refused() {
    for method in ["SCRAM-SHA-1", "", "\u{1f600}"] {
        let properties =
            [string(id::AUTH_METHOD, method), string(id::AUTH_DATA, [0, 1, 2])].concat();
        let reason = Connect { properties, ..Connect::new(Version::V5) }.refused();
        assert!(matches!(reason, reason::BAD_METHOD | reason::NOT_AUTHORIZED), "{reason:#x}");
    }
}

/// 5.0: 4.12.0-6
#[test]
fn without_a_method_the_server_names_none() {
    let (_, _, properties) = Connect::new(Version::V5).open_at(server::address());
    assert_eq!(properties.text(id::AUTH_METHOD), None);
    assert_eq!(properties.data(id::AUTH_DATA), None);
}

/// 5.0: 4.12.0-7, 4.13.1-1
#[test]
fn an_auth_without_a_method_in_connect_ends_the_connection() {
    for code in [0x18, 0x19] {
        let body = [&[code][..], &section(&string(id::AUTH_METHOD, "M"))].concat();
        let mut client = Client::connect(Version::V5);
        client.send(&packet(0xf0, &body));
        client.ended(reason::PROTOCOL_ERROR);
    }
}

/// 5.0: 3.15.1-1, 2.1.3-1
#[test]
fn reserved_bits_of_auth_are_malformed() {
    let body = [&[0x19][..], &section(&string(id::AUTH_METHOD, "M"))].concat();
    for first in [0xf1, 0xf2, 0xf4, 0xf8, 0xff] {
        let mut client = Client::connect(Version::V5);
        client.send(&packet(first, &body));
        client.ended(reason::MALFORMED);
    }
}

/// 5.0: 3.15.2-1
#[test]
fn an_auth_with_a_reason_that_is_none_ends_the_connection() {
    for code in [0x01, 0x17, 0x1a, 0x80, 0xff] {
        let body = [&[code][..], &section(&string(id::AUTH_METHOD, "M"))].concat();
        let mut client = Client::connect(Version::V5);
        client.send(&packet(0xf0, &body));
        client.thrown_out();
    }
}

/// 5.0: 4.13.1-1
#[test]
fn authentication_data_without_a_method_is_a_protocol_error() {
    let properties = string(id::AUTH_DATA, [1]);
    let mut client = Client::dial(Version::V5);
    client.send(&Connect { properties, ..Connect::new(Version::V5) }.bytes());
    client.thrown_out();
}
