//! What reaches the other end when connections break at any point (both standards, 4.3, 4.4).
//!
//! The breaks are drawn from a fixed sequence, so that every run tries the same.

use crate::client::{Client, side_by_side};
use crate::packets::{Connect, Message, ack, topic};
use crate::read::Packet;
use crate::wire::Version;
use std::collections::{BTreeMap, BTreeSet};

const MESSAGES: u16 = 400;

/// Numbers below 7 from a linear congruential generator (Lehmer, Park and Miller).
struct Breaks(u64);

impl Breaks {
    /// How many packets the next connection lives for.
    fn next(&mut self) -> u64 {
        self.0 = self.0 * 48_271 % 0x7fff_ffff;
        1 + self.0 % 7
    }
}

/// Receives until all messages are there, acknowledges as it has to, and loses its connection
/// again and again. The payloads in the order in which they came for the first time, and how often
/// each came in all.
fn receive(connect: &Connect, breaks: &mut Breaks) -> (Vec<String>, BTreeMap<String, u32>) {
    let (mut order, mut count) = (Vec::new(), BTreeMap::new());
    // QoS 2 messages between PUBLISH and PUBREL.
    let mut open = BTreeSet::new();
    while order.len() < usize::from(MESSAGES) || !open.is_empty() {
        let (mut client, present) = connect.resume();
        assert!(present);
        for _ in 0..breaks.next() {
            match client.packet() {
                Packet::Publish(publish) => {
                    let is_new = publish.qos != 2 || open.insert(publish.packet_id);
                    if is_new {
                        let payload = String::from_utf8(publish.payload).unwrap();
                        let count: &mut u32 = count.entry(payload.clone()).or_default();
                        *count += 1;
                        if *count == 1 {
                            order.push(payload);
                        }
                    }
                    let first = if publish.qos == 2 { 0x50 } else { 0x40 };
                    client.send(&ack(first, publish.packet_id));
                }
                Packet::Ack { first: 0x62, packet_id, .. } => {
                    open.remove(&packet_id);
                    client.send(&ack(0x70, packet_id));
                }
                other => panic!("{other:?}"),
            }
            if order.len() == usize::from(MESSAGES) && open.is_empty() {
                break;
            }
        }
        client.cut();
    }
    (order, count)
}

/// Publishes everything with this QoS, one after the other, and loses its connection again and
/// again; sends again what was not acknowledged.
fn publish(connect: &Connect, topic: &str, qos: u8, breaks: &mut Breaks) {
    let version = connect.version;
    let mut client = connect.open();
    let mut left = breaks.next();
    // After each packet, maybe another connection, on which the packet is sent again.
    let mut sent = |client: &mut Client, packet: &[u8], again: &[u8]| {
        client.send(packet);
        left -= 1;
        if left == 0 {
            left = breaks.next();
            std::mem::replace(client, connect.open()).cut();
            client.send(again);
        }
    };
    for number in 0..MESSAGES {
        let (packet_id, payload) = (number + 1, number.to_string());
        let message = Message { qos, ..Message::new(topic, &payload) };
        let again = Message { dup: true, ..message.clone() };
        let (packet, again) = (message.bytes(version, packet_id), again.bytes(version, packet_id));
        sent(&mut client, &packet, &again);
        if qos == 1 {
            client.acknowledged(0x40, packet_id);
            continue;
        }
        client.acknowledged(0x50, packet_id);
        let release = ack(0x62, packet_id);
        sent(&mut client, &release, &release);
        // The first PUBREL may have ended the exchange: the second is unknown then (0x92).
        assert_eq!(client.ack(0x70).0, packet_id);
    }
}

fn check(version: Version, qos: u8) {
    let topic = topic();
    let connect = Connect::durable(version);
    let mut subscriber = connect.open();
    subscriber.subscribe(&topic, qos);
    subscriber.cut();
    let (order, count) = std::thread::scope(|scope| {
        let (topic, publisher) = (&topic, Connect::durable(version));
        scope.spawn(move || publish(&publisher, topic, qos, &mut Breaks(7)));
        receive(&connect, &mut Breaks(11))
    });
    let expected: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
    assert_eq!(order, expected);
    if qos == 2 {
        assert!(count.values().all(|count| *count == 1), "{count:?}");
    }
    settle(&connect);
    connect.open().quiet();
}

/// Acknowledges what comes again because its last acknowledgement was lost with the connection.
fn settle(connect: &Connect) {
    let mut client = connect.open();
    let mut is_quiet = false;
    while !is_quiet {
        client.send(&[0xc0, 0]);
        is_quiet = true;
        loop {
            let (first, packet_id) = match client.packet() {
                Packet::PingResp => break,
                Packet::Publish(publish) if publish.qos == 1 => (0x40, publish.packet_id),
                Packet::Ack { first: 0x62, packet_id, .. } => (0x70, packet_id),
                other => panic!("{other:?}"),
            };
            client.send(&ack(first, packet_id));
            is_quiet = false;
        }
    }
    client.disconnect();
}

/// 3.1.1: 4.3.2-1, 4.3.2-2, 4.4.0-1, 4.5.0-1, 4.6.0-6
/// 5.0: 4.3.2-3, 4.3.2-4, 4.4.0-1, 4.5.0-1, 4.6.0-5
#[test]
fn qos_1_arrives_at_least_once_and_in_order_whatever_breaks() {
    side_by_side(|version| check(version, 1));
}

/// 3.1.1: 4.3.3-1, 4.3.3-2, 4.4.0-1, 4.5.0-1, 4.6.0-6
/// 5.0: 4.3.3-3, 4.3.3-5, 4.3.3-6, 4.3.3-10, 4.3.3-12, 4.4.0-1, 4.5.0-1, 4.6.0-5
#[test]
fn qos_2_arrives_exactly_once_and_in_order_whatever_breaks() {
    side_by_side(|version| check(version, 2));
}

/// 3.1.1: 3.1.4-2, 3.1.2-4
/// 5.0: 3.1.4-3, 3.1.2-5
#[test]
fn of_many_connections_with_one_client_id_one_stays() {
    side_by_side(|version| {
        let topic = topic();
        let connect = Connect::durable(version);
        let mut client = connect.open();
        client.subscribe(&topic, 1);
        let clients: Vec<_> = std::thread::scope(|scope| {
            let opened: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let mut client = Client::dial(version);
                        client.send(&connect.bytes());
                        client
                    })
                })
                .collect();
            opened.into_iter().map(|it| it.join().unwrap()).collect()
        });
        // Everybody ends but one, and the one that stays has the session.
        let mut publisher = Client::connect(version);
        publisher.publish(&topic, "x", 1);
        let alive = clients.into_iter().chain([client]).filter_map(|mut client| {
            loop {
                match client.next() {
                    None => return None,
                    Some(Packet::Publish(_)) => return Some(client),
                    Some(Packet::ConnAck { .. } | Packet::Disconnect { .. }) => {}
                    Some(other) => panic!("{other:?}"),
                }
            }
        });
        // One that got the message may have been ended after it.
        let mut alive: Vec<_> = alive.collect();
        let mut last = alive.pop().expect("one that stays");
        if alive.is_empty() {
            last.quiet();
        }
        let (mut again, present) = connect.resume();
        assert!(present);
        again.receive("x");
    });
}
