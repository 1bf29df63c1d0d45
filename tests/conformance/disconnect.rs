//! PINGREQ, keep-alive and DISCONNECT (both standards, 3.12, 3.14; 3.1.2.10).

use crate::client::{Client, side_by_side};
use crate::packets::{Connect, Message, topic};
use crate::read::Packet;
use crate::server;
use crate::wire::{BOTH, Version, id, packet, reason, section, string, user};

/// 3.1.1: 3.12.4-1
/// 5.0: 3.12.4-1
#[test]
fn every_pingreq_is_answered() {
    for version in BOTH {
        let mut client = Client::connect(version);
        client.send(&[0xc0, 0].repeat(5));
        for _ in 0..5 {
            assert_eq!(client.packet(), Packet::PingResp);
        }
    }
}

/// 3.1.1: 3.14.4-1, 3.14.4-2
/// 5.0: 3.14.4-1, 3.14.4-2
#[test]
fn the_connection_ends_with_disconnect_and_nothing_behind_it_counts() {
    for version in BOTH {
        let topic = topic();
        let mut watcher = Client::connect(version);
        watcher.subscribe(&topic, 0);
        let mut client = Client::connect(version);
        let late = Message::new(&topic, "late").bytes(version, 0);
        client.send(&[&[0xe0, 0][..], &late, &[0xc0, 0]].concat());
        client.closed();
        watcher.publish(&topic, "marker", 0);
        watcher.receive("marker");
    }
}

/// 5.0: 3.14.2-1
#[test]
fn every_reason_that_a_client_may_give_is_taken() {
    let reasons =
        [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];
    let properties = [string(id::REASON_STRING, "why"), user("k", "v"), user("k", "v")].concat();
    for reason in reasons {
        for body in [vec![reason], [&[reason][..], &section(&properties)].concat()] {
            let mut client = Client::connect(Version::V5);
            client.send(&packet(0xe0, &body));
            client.closed();
        }
    }
}

/// 3.1.1: 3.14.1-1, 2.2.2-2
/// 5.0: 3.14.1-1
#[test]
fn reserved_bits_of_disconnect_are_malformed() {
    for version in BOTH {
        for first in [0xe1, 0xe2, 0xe4, 0xe8] {
            let mut client = Client::connect(version);
            client.send(&[first, 0]);
            client.ended(reason::MALFORMED);
        }
    }
}

/// 3.1.1: 3.1.2-24
/// 5.0: 3.1.2-22, 3.2.2-22
#[test]
fn a_silent_client_is_thrown_out_and_one_that_pings_is_not() {
    side_by_side(|version| {
        let connect = Connect { keep_alive_s: 1, ..Connect::new(version) };
        let silent = connect.open();
        let mut lively = Connect { keep_alive_s: 1, ..Connect::new(version) }.open();
        let mut talkative = Connect { keep_alive_s: 1, ..Connect::new(version) }.open();
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(600));
            lively.quiet();
            talkative.publish("nowhere", "x", 0);
        }
        silent.ended(reason::KEEP_ALIVE);
        talkative.quiet();
        lively.ended(reason::KEEP_ALIVE);
    });
}

/// 3.1.1: 3.1.2-24
/// 5.0: 3.1.2-22
#[test]
fn without_keep_alive_a_silent_client_stays() {
    side_by_side(|version| {
        let mut client = Client::connect(version);
        std::thread::sleep(std::time::Duration::from_secs(2));
        client.quiet();
    });
}

/// 3.1.1: 3.1.2-24
/// 5.0: 3.1.2-22
#[test]
fn what_the_server_sends_does_not_keep_a_client_alive() {
    side_by_side(|version| {
        let topic = topic();
        let mut client = Connect { keep_alive_s: 1, ..Connect::new(version) }.open();
        client.subscribe(&topic, 0);
        let mut publisher = Client::connect(version);
        let mut received = 0;
        loop {
            publisher.publish(&topic, "x", 0);
            match client.next() {
                Some(Packet::Publish(_)) => received += 1,
                Some(Packet::Disconnect { reason: reason::KEEP_ALIVE, .. }) | None => break,
                other => panic!("{other:?}"),
            }
            assert!(received < 100, "ten seconds of silence were not noticed");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    });
}

/// 5.0: 3.2.2-22
#[test]
fn the_server_says_when_it_grants_another_keep_alive() {
    let Some(address) = server::small() else { return };
    let longest = server::small::KEEP_ALIVE_S;
    for (wished, told) in [(0, Some(longest)), (longest, None), (longest + 1, Some(longest))] {
        let connect = Connect { keep_alive_s: wished, ..Connect::new(Version::V5) };
        let (_, _, properties) = connect.open_at(address);
        assert_eq!(properties.number(id::SERVER_KEEP_ALIVE), told.map(u32::from));
    }
}

/// 3.1.1: 3.1.0-1
/// 5.0: 3.1.0-1, 3.14.0-1
#[test]
fn a_connection_without_connect_ends_in_silence() {
    let Some(address) = server::small() else { return };
    for bytes in [&[][..], &[0x10], &[0x10, 0x20, 0, 4, b'M', b'Q']] {
        let mut client = Client::dial_at(address, Version::V5);
        client.send(bytes);
        client.closed();
    }
}
