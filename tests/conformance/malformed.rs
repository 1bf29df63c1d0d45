//! Packets that no client may send (both standards, chapters 1 and 2; 3.1.1: 4.8; 5.0: 4.13).

use crate::client::Client;
use crate::packets::{Connect, client_id};
use crate::server;
use crate::wire::{BOTH, Version, no_properties, packet, reason, section, text};

/// Bytes that are no UTF-8: overlong, cut off, a surrogate, beyond U+10FFFF, not at all.
pub const NO_UTF8: &[&[u8]] = &[
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xe2\x82",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xed\xa0\xbd\xed\xb8\x80",
    b"\xf4\x90\x80\x80",
    b"\xff",
    b"a\x80",
];

/// On a connected client; the broker ends the connection.
#[track_caller]
fn check_ends(version: Version, bytes: &[u8]) {
    let mut client = Client::connect(version);
    client.send(bytes);
    client.thrown_out();
}

/// As the first packet; the broker ends the connection.
#[track_caller]
fn check_no_connect(version: Version, bytes: &[u8]) {
    let mut client = Client::dial(version);
    client.send(bytes);
    client.thrown_out();
}

/// Packets with `text` in every place for a text but CONNECT's.
fn with_text(version: Version, string: &[u8]) -> Vec<Vec<u8>> {
    let none = no_properties(version);
    let string = text(string);
    let mut packets = vec![
        packet(0x30, &[&string[..], &none, b"x"].concat()),
        packet(0x82, &[&[0, 1], &none[..], &string, &[0]].concat()),
        packet(0xa2, &[&[0, 1], &none[..], &string].concat()),
    ];
    if version == Version::V5 {
        for property in [0x03, 0x08] {
            let properties = section(&[&[property][..], &string].concat());
            packets.push(packet(0x30, &[&text("a")[..], &properties, b"x"].concat()));
        }
        for pair in [[&string[..], &text("v")], [&text("k")[..], &string]] {
            let properties = section(&[&[0x26][..], &pair.concat()].concat());
            packets.push(packet(0x30, &[&text("a")[..], &properties, b"x"].concat()));
        }
        let reason = section(&[&[0x1f][..], &string].concat());
        packets.push(packet(0xe0, &[&[0][..], &reason].concat()));
        packets.push(packet(0x40, &[&[0, 1, 0][..], &reason].concat()));
    }
    packets
}

/// 3.1.1: 1.5.3-1, 3.3.2-1, 3.8.3-1, 3.10.3-1, 4.8.0-1
/// 5.0: 1.5.4-1, 1.5.7-1, 3.3.2-1, 3.3.2-13, 3.3.2-19, 3.8.3-1, 3.10.3-1, 4.13.1-1
#[test]
fn text_that_is_no_utf8_ends_the_connection() {
    for version in BOTH {
        for bytes in NO_UTF8 {
            for packet in with_text(version, bytes) {
                check_ends(version, &packet);
            }
        }
    }
}

/// 3.1.1: 1.5.3-2, 4.7.3-2, 4.8.0-1
/// 5.0: 1.5.4-2, 1.5.7-1, 4.7.3-2, 4.13.1-1
#[test]
fn text_with_a_null_character_ends_the_connection() {
    for version in BOTH {
        for packet in with_text(version, b"a\0b") {
            check_ends(version, &packet);
        }
    }
}

/// 3.1.1: 2.2.2-1, 2.2.2-2, 3.6.1-1, 3.8.1-1, 3.10.1-1, 4.8.0-1
/// 5.0: 2.1.3-1, 3.6.1-1, 3.8.1-1, 3.10.1-1, 4.13.1-1
#[test]
fn reserved_flags_of_the_fixed_header_end_the_connection() {
    for version in BOTH {
        let none = no_properties(version);
        let subscribe = [&[0, 1], &none[..], &text("a"), &[0]].concat();
        let unsubscribe = [&[0, 1], &none[..], &text("a")].concat();
        let cases: [(u8, u8, &[u8]); 7] = [
            (0x40, 0, &[0, 1]),
            (0x50, 0, &[0, 1]),
            (0x60, 2, &[0, 1]),
            (0x70, 0, &[0, 1]),
            (0x80, 2, &subscribe),
            (0xa0, 2, &unsubscribe),
            (0xc0, 0, &[]),
        ];
        for (first, flags, body) in cases {
            for other in (0..16).filter(|it| *it != flags) {
                check_ends(version, &packet(first | other, body));
            }
        }
        let whole = Connect::new(version).bytes();
        for flags in 1..16 {
            check_no_connect(version, &[&[0x10 | flags][..], &whole[1..]].concat());
        }
    }
}

/// 3.1.1: 3.3.1-2
/// 5.0: 3.3.1-2
#[test]
fn dup_with_qos_0_is_not_passed_on() {
    for version in BOTH {
        let topic = crate::packets::topic();
        let mut watcher = Client::connect(version);
        watcher.subscribe(&topic, 0);
        let mut client = Client::connect(version);
        let message =
            crate::packets::Message { dup: true, ..crate::packets::Message::new(&topic, "x") };
        client.send(&message.bytes(version, 0));
        // Either the message is malformed, or the flag is ignored; the decoder refuses it.
        client.send(&[0xc0, 0]);
        if client.next() == Some(crate::read::Packet::PingResp) {
            watcher.receive("x");
        }
    }
}

/// 3.1.1: 4.8.0-1
/// 5.0: 4.13.1-1
#[test]
fn packets_that_only_servers_send_end_the_connection() {
    for version in BOTH {
        let none = no_properties(version);
        let suback = [&[0, 1], &none[..], &[0]].concat();
        let connack = [&[0, 0], &none[..]].concat();
        for (first, body) in
            [(0x20, connack), (0x90, suback.clone()), (0xb0, suback), (0xd0, vec![])]
        {
            check_ends(version, &packet(first, &body));
        }
    }
}

/// 3.1.1: 2.2.2-2, 4.8.0-1
/// 5.0: 2.1.3-1, 4.13.1-1
#[test]
fn packet_types_that_do_not_exist_end_the_connection() {
    for version in BOTH {
        check_ends(version, &[0x00, 0x00]);
        check_ends(version, &[0x0f, 0x00]);
    }
    // AUTH came with 5.0.
    check_ends(Version::V311, &[0xf0, 0x00]);
}

/// 3.1.1: 4.8.0-1
/// 5.0: 4.13.1-1
#[test]
fn bodies_that_are_too_long_or_too_short_end_the_connection() {
    for version in BOTH {
        let mut packets = vec![
            packet(0xc0, &[0]),
            packet(0x40, &[]),
            packet(0x40, &[0]),
            packet(0x62, &[0]),
            packet(0x82, &[0]),
            packet(0xa2, &[]),
        ];
        if version == Version::V311 {
            packets.extend([
                packet(0x40, &[0, 1, 0]),
                packet(0xe0, &[0]),
                packet(0x62, &[0, 1, 0]),
            ]);
        } else {
            packets.extend([
                packet(0x40, &[0, 1, 0, 1]),
                packet(0x40, &[0, 1, 0, 0, 0]),
                packet(0xe0, &[0, 5]),
                packet(0xe0, &[0, 0, 0]),
                packet(0x30, &[0, 1, b'a', 9]),
                packet(0x82, &[0, 1, 5, 0x0b, 1]),
            ]);
        }
        for packet in packets {
            check_ends(version, &packet);
        }
    }
}

/// 3.1.1: 2.3.1-1
/// 5.0: 2.2.1-5
#[test]
fn acknowledgements_of_packet_identifier_0_end_the_connection() {
    for version in BOTH {
        for first in [0x40, 0x50, 0x62, 0x70] {
            check_ends(version, &packet(first, &[0, 0]));
        }
    }
}

/// 5.0: 1.5.5-1
#[test]
fn a_variable_byte_integer_that_is_not_the_shortest_is_malformed() {
    // Remaining Length, Property Length, Subscription Identifier.
    let publish = [&text("a")[..], &[0]].concat();
    let len = u8::try_from(publish.len()).unwrap();
    let long_length = [&[0x30, 0x80 | len, 0][..], &publish].concat();
    let long_properties = packet(0x30, &[&text("a")[..], &[0x80, 0]].concat());
    let long_id = packet(0x82, &[&[0, 1, 3, 0x0b, 0x81, 0][..], &text("a"), &[0]].concat());
    for bytes in [long_length, long_properties, long_id] {
        let mut client = Client::connect(Version::V5);
        client.send(&bytes);
        client.ended(reason::MALFORMED);
    }
}

/// 5.0: 3.4.2-1, 3.5.2-1, 3.6.2-1, 3.7.2-1, 3.14.2-1
#[test]
fn reasons_that_do_not_belong_to_the_packet_end_the_connection() {
    for (first, reasons) in [
        (0x40, &[0x01, 0x18, 0x82, 0x92, 0xff][..]),
        (0x50, &[0x01, 0x18, 0x82, 0x92, 0xff]),
        (0x62, &[0x01, 0x10, 0x80, 0x91]),
        (0x70, &[0x01, 0x10, 0x80, 0x91]),
    ] {
        for &reason in reasons {
            check_ends(Version::V5, &packet(first, &[0, 1, reason]));
        }
    }
    for reason in [0x01, 0x05, 0x10, 0x18, 0x87, 0x8d, 0x8e, 0xff] {
        check_ends(Version::V5, &packet(0xe0, &[reason, 0]));
    }
}

/// 3.1.1: 3.1.4-1, 7.1.1-1
/// 5.0: 3.1.4-1, 7.1.1-1
#[test]
fn packets_may_come_in_any_pieces() {
    for version in BOTH {
        let topic = crate::packets::topic();
        let mut client = Client::dial(version);
        let subscribe = crate::packets::subscribe(version, 1, &[(&topic, 0)], &[]);
        let publish = crate::packets::Message::new(&topic, "x").bytes(version, 0);
        for byte in [&Connect::new(version).bytes()[..], &subscribe, &publish].concat() {
            client.send(&[byte]);
        }
        assert!(matches!(client.packet(), crate::read::Packet::ConnAck { reason: 0, .. }));
        assert!(matches!(client.packet(), crate::read::Packet::SubAck { .. }));
        client.receive("x");
    }
}

/// 5.0: 3.14.0-1
#[test]
fn before_connack_no_disconnect_is_sent() {
    let mut client = Client::dial(Version::V5);
    client.send(&[0xc0, 0]);
    client.closed();
    if server::is_gnomon() {
        let client_id = format!("denied{}", client_id());
        Connect { client_id, ..Connect::new(Version::V5) }.refused();
    }
}

/// 3.1.1: 4.8.0-1
/// 5.0: 4.13.1-1
#[test]
fn whatever_comes_is_answered_with_packets_or_the_end() {
    for version in BOTH {
        // What it is changed into is no other test's topic.
        let topic = format!("changed/{}", crate::packets::topic());
        let message =
            |qos| crate::packets::Message { qos, ..crate::packets::Message::new(&topic, "x") };
        let packets = [
            crate::packets::subscribe(version, 1, &[(&topic, 1)], &[]),
            message(0).bytes(version, 0),
            message(1).bytes(version, 2),
            message(2).bytes(version, 3),
            crate::packets::ack(0x62, 3),
            crate::packets::unsubscribe(version, 4, &[&topic]),
            vec![0xc0, 0],
        ]
        .concat();
        // SplitMix64 (Steele, Lea, Flood 2014), so that every run is the same.
        let mut state = 1_u64;
        let mut random = move |below: usize| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
        };
        for _ in 0..300 {
            let mut bytes = packets.clone();
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] = u8::try_from(random(256)).unwrap(),
                    1 => bytes[at] ^= 1 << random(8),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            let mut client = Client::connect(version);
            client.send(&bytes);
            client.finished();
        }
        Client::connect(version).quiet();
    }
}
