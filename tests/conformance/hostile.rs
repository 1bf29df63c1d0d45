//! What attackers and broken devices send. The standards have no statements about most of it; what
//! counts is that the connection that does it is ended or held, and nobody else notices.

use crate::client::Client;
use crate::packets::{Connect, Message, Will, ack, client_id, subscribe, topic};
use crate::read::Packet;
use crate::server::{self, PASSWORD, USER};
use crate::websocket::{BINARY, PING, PONG, Socket};
use crate::wire::{BOTH, Version, id, packet, reason, string, text, user};
use gnomon_core::limits::Limits;
use gnomon_core::time::{Clock, SystemClock};
use std::collections::{HashSet, VecDeque};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

/// Nobody waits longer for the others: far more than a message takes, far less than a stall.
const UNNOTICED: Duration = Duration::from_secs(2);

/// Two clients that have nothing to do with what the test does.
struct Canary {
    topic: String,
    publisher: Client,
    subscriber: Client,
}

impl Canary {
    fn new() -> Self {
        let topic = topic();
        let mut subscriber = Client::connect(Version::V5);
        subscriber.subscribe(&topic, 1);
        Self { topic, publisher: Client::connect(Version::V5), subscriber }
    }

    #[track_caller]
    fn sings(&mut self) {
        let start = SystemClock.now();
        self.publisher.publish(&self.topic, "here", 1);
        self.subscriber.receive("here");
        assert!(start.elapsed() < UNNOTICED, "{:?}", start.elapsed());
    }
}

/// Sends the bytes one by one, with a pause behind each; true when the broker ended it before.
fn drips(client: &mut Client, bytes: &[u8], pause: Duration) -> bool {
    bytes.iter().any(|byte| {
        client.send(&[*byte]);
        std::thread::sleep(pause);
        client.has_ended()
    })
}

#[test]
fn a_connect_that_drips_is_cut_off() {
    // The small server waits for a second.
    let Some(address) = server::small() else { return };
    let mut client = Client::dial_at(address, Version::V5);
    let bytes = Connect::new(Version::V5).bytes();
    assert!(drips(&mut client, &bytes, Duration::from_millis(150)));
}

#[test]
fn bytes_that_make_no_packet_do_not_keep_a_client_alive() {
    for version in BOTH {
        let mut client = Connect { keep_alive_s: 1, ..Connect::new(version) }.open();
        let publish = Message::new("a", &"x".repeat(100)).bytes(version, 0);
        assert!(drips(&mut client, &publish, Duration::from_millis(200)));
    }
}

#[test]
fn a_reader_that_does_not_read_loses_messages_and_holds_nobody_up() {
    let mut canary = Canary::new();
    for qos in [0, 1] {
        let topic = topic();
        let mut deaf = Client::connect(Version::V5);
        deaf.subscribe(&topic, qos);
        let mut publisher = Client::connect(Version::V5);
        let payload = "x".repeat(10_000);
        let mut sent = 0;
        for round in 0..10 {
            for _ in 0..200 {
                publisher.publish(&topic, &payload, qos);
            }
            sent += 200;
            publisher.quiet();
            if round % 3 == 0 {
                canary.sings();
            }
        }
        // The last comes when there is room again, and what came is a part of all.
        let mut got = 0;
        deaf.send(&[0xc0, 0]);
        while let Packet::Publish(publish) = deaf.packet() {
            if publish.qos > 0 {
                deaf.send(&ack(0x40, publish.packet_id));
            }
            got += 1;
        }
        if server::is_gnomon() {
            assert!(got < sent, "20 MB waited for a client that did not read");
        }
        publisher.publish(&topic, "last", qos);
        loop {
            let publish = deaf.message();
            if publish.qos > 0 {
                deaf.send(&ack(0x40, publish.packet_id));
            }
            if publish.payload == b"last" {
                break;
            }
        }
        canary.sings();
    }
}

#[test]
fn a_client_that_asks_and_does_not_read_is_no_longer_read_from() {
    if !server::is_gnomon() {
        return;
    }
    let mut canary = Canary::new();
    let mut client = Client::connect(Version::V5);
    let pings = [0xc0, 0].repeat(50_000);
    let socket = client.socket();
    socket.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut sent = 0_usize;
    // What both kernels and the host keep is bounded.
    let is_stuck = (0..400).any(|_| match socket.write(&pings) {
        Ok(bytes) => {
            sent += bytes;
            false
        }
        Err(_) => true,
    });
    assert!(is_stuck, "{sent} bytes of PINGREQ were taken and no PINGRESP read");
    canary.sings();
}

#[test]
fn a_takeover_storm_leaves_one() {
    let mut canary = Canary::new();
    for version in BOTH {
        let connect = Connect::durable(version);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..250 {
                        let mut client = connect.dial_at(server::address());
                        client.send(&connect.bytes());
                        // Perhaps taken over before it is told.
                        let _ = client.next();
                    }
                });
            }
        });
        let (mut client, is_present) = connect.resume();
        assert!(is_present);
        client.quiet();
    }
    canary.sings();
}

#[test]
fn thousands_of_user_properties_are_refused_or_passed_on() {
    let topic = topic();
    let mut canary = Canary::new();
    let mut subscriber = Client::connect(Version::V5);
    subscriber.subscribe(&topic, 0);
    let mut publisher = Client::connect(Version::V5);
    let properties = user("n", "v").repeat(5_000);
    let message = Message { properties, qos: 1, ..Message::new(&topic, "x") };
    publisher.send(&message.bytes(Version::V5, 1));
    match publisher.packet() {
        Packet::Ack { reason: 0, .. } => assert_eq!(subscriber.message().properties.0.len(), 5_000),
        Packet::Disconnect { reason: reason::TOO_LARGE, .. } => publisher.closed(),
        other => panic!("{other:?}"),
    }
    canary.sings();
}

#[test]
fn names_and_filters_of_many_levels_are_only_long() {
    let mut canary = Canary::new();
    for version in BOTH {
        let name = "a/".repeat(32_000);
        for filter in [name.clone(), "+/".repeat(32_000), format!("{}#", "+/".repeat(31_000))] {
            let mut client = Client::connect(version);
            client.subscribe(&filter, 0);
            client.publish(&name, "deep", 0);
            client.receive("deep");
            client.unsubscribe(&[&filter]);
            client.disconnect();
        }
    }
    canary.sings();
}

#[test]
fn of_ten_thousand_filters_in_a_packet_a_few_are_granted() {
    if !server::is_gnomon() {
        return;
    }
    for version in BOTH {
        let mut client = Client::connect(version);
        let topic = topic();
        let filters: Vec<_> = (0..10_000).map(|n| (format!("{topic}/{n}"), 0)).collect();
        let wishes: Vec<_> = filters.iter().map(|(filter, qos)| (&**filter, *qos)).collect();
        let reasons = client.subscribe_all(&wishes, &[]);
        assert_eq!(reasons.len(), 10_000);
        let granted = reasons.iter().filter(|reason| **reason == 0).count();
        assert!((1..=64).contains(&granted), "{granted}");
        client.quiet();
    }
}

#[test]
fn a_filter_that_is_subscribed_ten_thousand_times_is_one_subscription() {
    let topic = topic();
    let mut client = Client::connect(Version::V311);
    let again = subscribe(Version::V311, 1, &[(&topic, 0)], &[]);
    for _ in 0..100 {
        client.send(&again.repeat(100));
        for _ in 0..100 {
            assert!(matches!(client.packet(), Packet::SubAck { .. }));
        }
    }
    client.publish(&topic, "once", 0);
    client.receive("once");
    client.quiet();
    assert_eq!(client.unsubscribe(&[&topic]).len(), 0, "3.1.1 has no reasons");
    client.publish(&topic, "never", 0);
    client.quiet();
}

#[test]
fn client_ids_are_names_and_nothing_else() {
    for version in BOTH {
        // Wildcards, reserved beginnings, paths, look-alikes (a Cyrillic a), directions of text.
        for odd in ["+/#", "$SYS", "$share/g/a", "../../etc/passwd", "\u{430}bc", "\u{202e}abc"] {
            let client_id = format!("{odd}{}", client_id());
            let mut client = Connect { client_id, ..Connect::new(version) }.open();
            client.quiet();
        }
        let long = Connect { client_id: "x".repeat(65_535), ..Connect::new(version) };
        let mut client = long.dial_at(server::address());
        client.send(&long.bytes());
        if server::is_gnomon() {
            client.thrown_out();
        }
    }
}

#[test]
fn a_will_on_a_topic_of_the_broker_reaches_nobody() {
    let mut canary = Canary::new();
    let mut watcher = Client::connect(Version::V5);
    for filter in ["$SYS/test/#", "$CONTROL/#", "$aws/things/x/shadow/update/accepted"] {
        watcher.try_subscribe(filter, 0);
    }
    for topic in
        ["$SYS/test/x", "$CONTROL/x", "$aws/things/x/shadow/update/accepted", "$share/g/t", "$foo"]
    {
        for version in BOTH {
            let connect = Connect { will: Some(Will::new(topic)), ..Connect::new(version) };
            let mut client = connect.dial_at(server::address());
            client.send(&connect.bytes());
            // Refused at once, or withheld at the end.
            let _ = client.next();
            client.cut();
        }
    }
    canary.sings();
    if server::is_gnomon() {
        watcher.quiet();
    }
}

#[test]
fn a_qos_2_publish_with_a_used_identifier_and_another_payload_is_the_first() {
    for version in BOTH {
        let topic = topic();
        let mut subscriber = Client::connect(version);
        subscriber.subscribe(&topic, 2);
        let mut publisher = Client::connect(version);
        for payload in ["first", "second", "third"] {
            let message = Message { qos: 2, ..Message::new(&topic, payload) };
            publisher.send(&message.bytes(version, 7));
            assert_eq!(publisher.ack(0x50).0, 7);
        }
        subscriber.receive("first");
        subscriber.quiet();
        publisher.send(&ack(0x62, 7));
        assert_eq!(publisher.ack(0x70), (7, 0));
    }
}

#[test]
fn qos_2_publishes_without_pubrel_are_bounded() {
    if !server::is_gnomon() {
        return;
    }
    let mut canary = Canary::new();
    let mut client = Client::connect(Version::V5);
    let topic = topic();
    let mut all = Vec::new();
    for id in 1..=1_000 {
        all.extend(Message { qos: 2, ..Message::new(&topic, "x") }.bytes(Version::V5, id));
    }
    client.send(&all);
    loop {
        match client.packet() {
            Packet::Ack { first: 0x50, .. } => {}
            Packet::Disconnect { reason, .. } => {
                assert_eq!(reason, reason::RECEIVE_MAXIMUM);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    client.closed();
    canary.sings();
}

#[test]
fn a_huge_length_before_connect_costs_nothing() {
    let mut canary = Canary::new();
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = Client::dial(Version::V5);
        // 256 MiB of CONNECT are announced.
        client.send(&[0x10, 0xff, 0xff, 0xff, 0x7f, 0, 4]);
        clients.push(client);
    }
    canary.sings();
    if server::is_gnomon() {
        clients.into_iter().for_each(Client::thrown_out);
    }
}

#[test]
fn a_message_cut_off_in_the_middle_is_no_message() {
    for version in BOTH {
        let topic = topic();
        let mut subscriber = Client::connect(version);
        subscriber.subscribe(&topic, 1);
        let whole = Message { qos: 1, ..Message::new(&topic, "whole") }.bytes(version, 1);
        for len in 1..whole.len() {
            let mut client = Client::connect(version);
            client.send(&whole[..len]);
            client.cut();
        }
        subscriber.publish(&topic, "marker", 1);
        subscriber.receive("marker");
    }
}

#[test]
fn half_open_connections_are_bounded_by_their_keep_alive() {
    let topic = topic();
    let mut watcher = Client::connect(Version::V5);
    watcher.subscribe(&topic, 0);
    let will = Some(Will::new(&topic));
    let mut client = Connect { keep_alive_s: 1, will, ..Connect::new(Version::V5) }.open();
    // Whoever has gone without a word: nothing comes any more, and nothing is closed.
    client.socket().shutdown(Shutdown::Read).unwrap();
    // Waits for some seconds, and panics then.
    watcher.message();
}

#[test]
fn a_publish_to_a_shared_name_is_a_publish_like_any_other() {
    for version in BOTH {
        let mut client = Client::connect(version);
        let unique = topic();
        client.subscribe(&format!("$share/g/{unique}"), 0);
        let name = format!("$share/g/{unique}");
        let body =
            [&text(&name)[..], if version == Version::V5 { &[0] } else { &[] }, b"x"].concat();
        client.send(&packet(0x30, &body));
        // Nobody is subscribed to that name: a filter with $share has another meaning.
        client.quiet();
    }
    let properties = string(id::RESPONSE_TOPIC, "$share/g/x");
    let mut client = Client::connect(Version::V5);
    client.send(&Message { properties, ..Message::new(&topic(), "x") }.bytes(Version::V5, 0));
    client.quiet();
}

#[test]
fn a_websocket_frame_that_no_client_may_send_ends_the_connection() {
    let frames: [&[u8]; 5] = [
        // Without a mask; longer than anything; a control frame in pieces; reserved bits, as of a
        // compression that was not agreed on; an opcode that does not exist.
        &[0x82, 0x02, 0xc0, 0],
        &[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4],
        &[0x09, 0x80, 1, 2, 3, 4],
        &[0xc2, 0x82, 0, 0, 0, 0, 0xc0, 0],
        &[0x83, 0x80, 1, 2, 3, 4],
    ];
    for frame in frames {
        let Some(mut socket) = Socket::open() else { return };
        socket.send(&Connect::new(Version::V5).bytes());
        socket.packet(Version::V5);
        socket.stream.write_all(frame).unwrap();
        let mut got = Vec::new();
        while let Some((opcode, payload)) = socket.next_frame() {
            got.push((opcode, payload));
        }
        // Perhaps a DISCONNECT or a close frame; never PINGRESP.
        assert!(!got.iter().any(|(_, payload)| payload[..] == [0xd0, 0]), "{frame:x?}: {got:x?}");
    }
}

#[test]
fn an_upgrade_says_once_whom_it_is_for() {
    let protocol = "Sec-WebSocket-Protocol: mqtt\r\n";
    let Some((_, head)) = Socket::upgrade(&format!("{protocol}Host: other\r\n")) else { return };
    assert!(head.starts_with("http/1.1 400"), "{head}");
    // Whose page it comes from is no matter: nobody is known here by what a browser adds by itself.
    let (mut socket, head) =
        Socket::upgrade(&format!("{protocol}Origin: https://evil.example\r\n")).unwrap();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    socket.send(&Connect::new(Version::V5).bytes());
    socket.packet(Version::V5);
}

#[test]
fn compression_of_websocket_frames_is_not_agreed_on() {
    let offer = "Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
    let Some((mut socket, head)) = Socket::upgrade(offer) else { return };
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
    socket.send(&Connect::new(Version::V5).bytes());
    socket.packet(Version::V5);
}

#[test]
fn a_flood_of_websocket_pings_holds_nobody_up() {
    let mut canary = Canary::new();
    let Some(mut socket) = Socket::open() else { return };
    socket.send(&Connect::new(Version::V5).bytes());
    socket.packet(Version::V5);
    for _ in 0..2_000 {
        socket.frame(true, PING, b"are you there");
    }
    canary.sings();
    let (opcode, payload) = socket.next_frame().unwrap();
    assert_eq!((opcode, &payload[..]), (PONG, &b"are you there"[..]));
}

#[test]
fn frames_of_one_byte_make_packets() {
    let Some(mut socket) = Socket::open() else { return };
    let bytes = [Connect::new(Version::V311).bytes(), vec![0xc0, 0]].concat();
    for byte in bytes {
        // In two fragments, the first of them empty.
        socket.frame(false, BINARY, &[]);
        socket.frame(true, 0, &[byte]);
    }
    assert!(matches!(socket.packet(Version::V311), Packet::ConnAck { reason: 0, .. }));
    assert_eq!(socket.packet(Version::V311), Packet::PingResp);
}

#[test]
fn who_takes_over_as_somebody_else_does_not_get_the_session() {
    if !server::is_gnomon() {
        return;
    }
    for version in BOTH {
        for is_cut in [false, true] {
            let topic = topic();
            let own = Connect::durable(version);
            let mut owner = own.open();
            owner.subscribe(&topic, 1);
            let mut owner = Some(owner);
            if is_cut {
                owner.take().unwrap().cut();
            }
            let mut publisher = Client::connect(version);
            publisher.publish(&topic, "for the owner", 1);
            let thief = Connect { username: Some(USER), password: Some(PASSWORD), ..own.clone() };
            let (mut thief, is_present) = thief.resume();
            assert!(!is_present);
            publisher.publish(&topic, "not for the thief", 1);
            thief.quiet();
        }
    }
}

#[test]
fn who_offends_too_often_stays_connected_and_says_nothing() {
    let Some(address) = server::strict() else { return };
    let topic = topic();
    let mut subscriber = Connect::new(Version::V5).open_at(address).0;
    subscriber.subscribe(&topic, 1);
    let user = |version| {
        let own =
            Connect { username: Some(USER), password: Some(PASSWORD), ..Connect::new(version) };
        own.open_at(address).0
    };
    for _ in 0..server::STRICT {
        let mut offender = user(Version::V311);
        offender.send(&[0xd0, 0]);
        offender.closed();
        // Whoever is nobody may offend as often as it likes.
        let mut nobody = Connect::new(Version::V311).open_at(address).0;
        nobody.send(&[0xd0, 0]);
        nobody.closed();
    }
    let mut publisher = Connect::new(Version::V5).open_at(address).0;
    publisher.publish(&topic, "from nobody", 1);
    subscriber.receive("from nobody");
    // It comes into quarantine behind its last offence, not with it.
    let start = SystemClock.now();
    let is_silent = || {
        let mut probe = user(Version::V5);
        probe.send(&Message { qos: 1, ..Message::new("probe", "") }.bytes(Version::V5, 1));
        probe.ack(0x40) == (1, reason::NOT_AUTHORIZED)
    };
    while !is_silent() {
        assert!(start.elapsed() < UNNOTICED, "{:?}", start.elapsed());
    }
    let mut silent = user(Version::V311);
    silent.subscribe(&topic, 1);
    silent.publish(&topic, "unheard", 1);
    silent.publish(&topic, "unheard", 0);
    publisher.publish(&topic, "not for it", 1);
    subscriber.receive("not for it");
    silent.quiet();
}

#[test]
fn packet_identifiers_begin_anew_behind_the_last() {
    // More than there are, some of them unacknowledged all the time.
    const MESSAGES: u32 = 70_000;
    const UNDER_WAY: u32 = 50;
    let topic = topic();
    let mut subscriber = Client::connect(Version::V5);
    subscriber.subscribe(&topic, 1);
    let mut publisher = Client::connect(Version::V5);
    let mut unacknowledged = VecDeque::new();
    let mut highest = 0;
    for first in (0..MESSAGES).step_by(UNDER_WAY as usize) {
        let ids = (first..first + UNDER_WAY).map(|number| {
            let id = u16::try_from(number % 65_535 + 1).unwrap();
            (
                id,
                Message { qos: 1, ..Message::new(&topic, &number.to_string()) }
                    .bytes(Version::V5, id),
            )
        });
        let (ids, packets): (Vec<_>, Vec<_>) = ids.unzip();
        publisher.send(&packets.concat());
        for id in ids {
            publisher.acknowledged(0x40, id);
        }
        let mut acks = Vec::new();
        for number in first..first + UNDER_WAY {
            let publish = subscriber.receive(&number.to_string());
            let id = publish.packet_id;
            assert!(id > 0 && !unacknowledged.contains(&id), "{id} is in use");
            highest = highest.max(id);
            unacknowledged.push_back(id);
            if unacknowledged.len() >= UNDER_WAY as usize {
                acks.extend(ack(0x40, unacknowledged.pop_front().unwrap()));
            }
        }
        subscriber.send(&acks);
    }
    assert!(u32::from(highest) < MESSAGES);
}

#[test]
fn the_queue_of_an_absent_client_keeps_the_oldest() {
    if !server::is_gnomon() {
        return;
    }
    let queue_messages = Limits::default().queue_messages;
    for version in BOTH {
        let topic = topic();
        let connect = Connect::durable(version);
        let mut absent = connect.open();
        absent.subscribe(&topic, 1);
        absent.cut();
        let mut publisher = Client::connect(version);
        for number in 0..queue_messages + 200 {
            // Acknowledged all the same: others may have got it.
            publisher.publish(&topic, &number.to_string(), 1);
        }
        let (mut back, is_present) = connect.resume();
        assert!(is_present);
        for number in 0..queue_messages {
            let publish = back.receive(&number.to_string());
            back.send(&ack(0x40, publish.packet_id));
        }
        publisher.publish(&topic, "there is room again", 1);
        back.receive("there is room again");
    }
}

#[test]
fn a_hundred_thousand_retained_messages_come_one_after_the_other() {
    const TOPICS: u32 = 100_000;
    // A broker of its own: the messages stay.
    let Some(address) = server::fresh() else { return };
    let connect = || Connect::new(Version::V5).open_at(address).0;
    let mut publisher = connect();
    for first in (0..TOPICS).step_by(1_000) {
        let packets = (first..first + 1_000).map(|number| {
            let topic = format!("flood/{}/{number}", number % 100);
            Message { retain: true, ..Message::new(&topic, "kept") }.bytes(Version::V5, 0)
        });
        publisher.send(&packets.collect::<Vec<_>>().concat());
        publisher.quiet();
    }
    let mut deaf = connect();
    deaf.send(&subscribe(Version::V5, 1, &[("#", 0)], &[]));
    // Nobody waits for the one that does not read.
    let (mut one, mut other) = (connect(), connect());
    one.subscribe("flood/7/107", 0);
    one.receive("kept");
    other.publish("flood/7/107", "new", 1);
    one.receive("new");
    let mut topics = HashSet::new();
    while topics.len() < TOPICS as usize {
        if let Packet::Publish(publish) = deaf.packet() {
            topics.insert(publish.topic);
        }
    }
}

#[test]
fn a_peer_that_reads_nothing_is_let_go() {
    if !server::is_gnomon() {
        return;
    }
    let connect = Connect::new(Version::V5);
    let mut deaf = connect.open();
    let topic = topic();
    deaf.subscribe(&topic, 0);
    let mut publisher = Client::connect(Version::V5);
    // More than both kernels take.
    for _ in 0..200 {
        publisher.publish(&topic, &"x".repeat(100_000), 0);
    }
    publisher.quiet();
    let start = SystemClock.now();
    // The one that takes over does not wait until the other has read why it ends.
    connect.open().quiet();
    assert!(start.elapsed() < UNNOTICED);
    // Nor does the host, for longer than it says; what comes after that is what the kernels had.
    std::thread::sleep(Duration::from_secs(6));
    let mut came = 0;
    let mut buffer = vec![0; 65_536];
    while let Ok(read @ 1..) = deaf.socket().read(&mut buffer) {
        came += read;
    }
    assert!(deaf.has_ended(), "the host still waits after its five seconds");
    assert!(came < 20_000_000, "all of it was kept for a client that did not read");
}
