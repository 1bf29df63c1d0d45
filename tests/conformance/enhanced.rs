//! Enhanced authentication (5.0, 4.12), by the method of [`server::METHOD`].
//!
//! Its authorizer asks on when it is told `ask`, takes `good` and `slow`, and refuses the rest.

use crate::client::Client;
use crate::packets::{Connect, Message, topic};
use crate::read::{Packet, Properties};
use crate::server::{self, METHOD};
use crate::wire::{Version, id, packet, reason, section, string};

const SUCCESS: u8 = 0x00;
const CONTINUE: u8 = 0x18;
const AGAIN: u8 = 0x19;

fn connect(data: &str) -> Connect {
    let properties = [string(id::AUTH_METHOD, METHOD), string(id::AUTH_DATA, data)].concat();
    Connect { properties, ..Connect::new(Version::V5) }
}

/// A client that was asked once before its CONNACK.
#[track_caller]
fn asked() -> Client {
    let mut client = Client::dial(Version::V5);
    client.send(&connect("ask").bytes());
    expect_auth(&mut client, CONTINUE, "ask again");
    client
}

fn auth_by(method: &str, code: u8, data: &str) -> Vec<u8> {
    let properties = [string(id::AUTH_METHOD, method), string(id::AUTH_DATA, data)].concat();
    packet(0xf0, &[&[code][..], &section(&properties)].concat())
}

fn auth(code: u8, data: &str) -> Vec<u8> {
    auth_by(METHOD, code, data)
}

#[track_caller]
fn check(properties: &Properties, data: &str) {
    assert_eq!(properties.text(id::AUTH_METHOD), Some(METHOD));
    assert_eq!(properties.data(id::AUTH_DATA), Some(data.as_bytes()));
}

/// The next packet is AUTH.
#[track_caller]
fn expect_auth(client: &mut Client, code: u8, data: &str) {
    match client.packet() {
        Packet::Auth { reason, properties } if reason == code => check(&properties, data),
        other => panic!("no AUTH {code:#x}: {other:?}"),
    }
}

/// 5.0: 4.12.0-2, 4.12.0-5
#[test]
fn a_client_is_asked_until_it_is_known() {
    if !server::is_gnomon() {
        return;
    }
    let mut client = asked();
    for _ in 0..3 {
        client.send(&auth(CONTINUE, "ask"));
        expect_auth(&mut client, CONTINUE, "ask again");
    }
    client.send(&auth(CONTINUE, "good"));
    match client.packet() {
        Packet::ConnAck { reason: 0, properties, .. } => check(&properties, "welcome"),
        other => panic!("not connected: {other:?}"),
    }
    client.quiet();
    let (mut client, _, properties) = connect("good").open_at(server::address());
    check(&properties, "welcome");
    client.quiet();
}

/// 5.0: 4.12.0-4, 3.2.2-7
#[test]
fn a_client_that_answers_wrongly_is_refused() {
    if !server::is_gnomon() {
        return;
    }
    assert_eq!(connect("wrong").refused(), reason::NOT_AUTHORIZED);
    let mut client = asked();
    client.send(&auth(CONTINUE, "wrong"));
    assert_eq!(client.refused(), reason::NOT_AUTHORIZED);
}

/// 5.0: 4.13.1-1, 3.14.0-1
#[test]
fn before_connack_nothing_counts_but_the_answer() {
    if !server::is_gnomon() {
        return;
    }
    let publish = Message::new(&topic(), "early").bytes(Version::V5, 0);
    let answers = [
        auth_by("OTHER", CONTINUE, "good"),
        auth(AGAIN, "good"),
        auth(SUCCESS, "good"),
        connect("good").bytes(),
        publish,
        vec![0xc0, 0],
    ];
    for answer in answers {
        let mut client = asked();
        client.send(&answer);
        let reason = client.refused();
        assert!(reason >= 0x80, "{reason:#x} for {answer:x?}");
    }
    // Giving up is no error.
    let mut client = asked();
    client.send(&[0xe0, 0]);
    client.closed();
}

/// 5.0: 4.12.0-2, 4.12.0-5
#[test]
fn a_connected_client_authenticates_again() {
    if !server::is_gnomon() {
        return;
    }
    let mut client = connect("good").open();
    for _ in 0..2 {
        client.send(&auth(AGAIN, "ask"));
        expect_auth(&mut client, CONTINUE, "ask again");
        client.send(&auth(CONTINUE, "good"));
        expect_auth(&mut client, SUCCESS, "welcome");
    }
    client.send(&auth(AGAIN, "good"));
    expect_auth(&mut client, SUCCESS, "welcome");
    client.quiet();
}

/// 5.0: 4.12.1-2
#[test]
fn an_authentication_again_that_fails_ends_the_connection() {
    if !server::is_gnomon() {
        return;
    }
    for steps in [&["wrong"][..], &["ask", "wrong"]] {
        let mut client = connect("good").open();
        client.send(&auth(AGAIN, steps[0]));
        for step in &steps[1..] {
            expect_auth(&mut client, CONTINUE, "ask again");
            client.send(&auth(CONTINUE, step));
        }
        client.ended(reason::NOT_AUTHORIZED);
    }
}

/// 5.0: 4.12.0-5, 3.12.4-1
#[test]
fn messages_go_on_while_a_client_authenticates_again() {
    if !server::is_gnomon() {
        return;
    }
    let topic = topic();
    let mut client = connect("good").open();
    client.subscribe(&topic, 1);
    client.send(&auth(AGAIN, "slow"));
    Client::connect(Version::V5).publish(&topic, "meanwhile", 1);
    client.receive("meanwhile");
    client.quiet();
    expect_auth(&mut client, SUCCESS, "welcome");
}

/// 5.0: 4.13.1-1
#[test]
fn two_steps_at_once_or_out_of_turn_end_the_connection() {
    if !server::is_gnomon() {
        return;
    }
    for steps in [
        [auth(AGAIN, "slow"), auth(CONTINUE, "good")],
        [auth(AGAIN, "slow"), auth(AGAIN, "good")],
        [auth(CONTINUE, "good"), Vec::new()],
        [auth(SUCCESS, "good"), Vec::new()],
    ] {
        let mut client = connect("good").open();
        client.send(&steps.concat());
        client.ended(reason::PROTOCOL_ERROR);
    }
    let mut client = connect("good").open();
    client.send(&auth_by("OTHER", AGAIN, "good"));
    client.thrown_out();
}

/// 5.0: 3.15.2-2, 3.15.2-3
#[test]
fn an_auth_that_the_client_cannot_take_is_not_sent() {
    if !server::is_gnomon() {
        return;
    }
    // Room for text and user properties is no reason to send any.
    let mut client = asked();
    client.send(&auth(CONTINUE, "ask"));
    match client.packet() {
        Packet::Auth { properties, .. } => assert_eq!(properties.0.len(), 2, "{properties:?}"),
        other => panic!("no AUTH: {other:?}"),
    }
    // Reading checks the size of every packet.
    let narrow = Connect { packet_bytes_max: Some(100), ..connect("ask") };
    assert_eq!(narrow.refused(), reason::NOT_AUTHORIZED);
}
