//! Shared subscriptions (5.0, 4.8.2).

use crate::client::Client;
use crate::packets::{Connect, Message, ack_with, subscribe, topic};
use crate::read::Packet;
use crate::wire::{Version, id, reason, two};

const NO_LOCAL: u8 = 0x04;

/// The filter of group `g`.
fn shared(topic: &str) -> String {
    format!("$share/g/{topic}")
}

/// Everything that came to the client until it answers a ping: the payloads.
fn drained(client: &mut Client) -> Vec<String> {
    client.send(&[0xc0, 0]);
    let mut payloads = Vec::new();
    loop {
        match client.packet() {
            Packet::PingResp => return payloads,
            Packet::Publish(publish) => {
                payloads.push(String::from_utf8(publish.payload).unwrap());
                if publish.qos == 1 {
                    client.send(&crate::packets::ack(0x40, publish.packet_id));
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// 5.0: 4.8.2-3
#[test]
fn a_message_goes_to_one_member_of_a_group_and_to_every_group() {
    let topic = topic();
    let mut members: Vec<_> = (0..3).map(|_| Client::connect(Version::V5)).collect();
    members.iter_mut().for_each(|client| client.subscribe(&shared(&topic), 1));
    let mut other_group = Client::connect(Version::V5);
    other_group.subscribe(&format!("$share/other/{topic}"), 1);
    let mut alone = Client::connect(Version::V5);
    alone.subscribe(&topic, 1);
    let mut publisher = Client::connect(Version::V5);
    let sent: Vec<_> = (0..20).map(|number| format!("{number:02}")).collect();
    for payload in &sent {
        publisher.publish(&topic, payload, 1);
    }
    for payload in &sent {
        other_group.receive(payload);
        alone.receive(payload);
    }
    let mut received: Vec<_> = members.iter_mut().flat_map(drained).collect();
    received.sort();
    assert_eq!(received, sent);
}

/// 5.0: 4.8.2-3
#[test]
fn the_granted_qos_of_the_chosen_member_holds() {
    for granted in [0, 1, 2] {
        let topic = topic();
        let mut client = Client::connect(Version::V5);
        client.subscribe(&shared(&topic), granted);
        let mut publisher = Client::connect(Version::V5);
        for qos in [0, 1, 2] {
            publisher.publish(&topic, "x", qos);
            assert_eq!(client.receive("x").qos, qos.min(granted));
        }
    }
}

/// 5.0: 4.8.2-1, 4.8.2-2
#[test]
fn malformed_shared_filters_are_refused() {
    for filter in [
        "$share",
        "$share/",
        "$share/g",
        "$share//a",
        "$share/g/",
        "$share/+/a",
        "$share/#/a",
        "$share/g+/a",
    ] {
        let mut client = Client::connect(Version::V5);
        client.send(&subscribe(Version::V5, 1, &[(filter, 0)], &[]));
        match client.next() {
            None => {}
            Some(Packet::Disconnect { reason, .. }) => {
                assert!(matches!(reason, 0x80..), "{filter}: {reason:#x}");
                client.closed();
            }
            Some(Packet::SubAck { reasons, .. }) => assert!(reasons[0] >= 0x80, "{filter}"),
            Some(other) => panic!("{filter}: {other:?}"),
        }
    }
}

/// 5.0: 4.8.2-1, 4.8.2-2
#[test]
fn the_filter_behind_the_group_may_be_any() {
    let topic = topic();
    let mut publisher = Client::connect(Version::V5);
    for (filter, name) in [("+", "a"), ("#", "a/b"), ("/a", "/a"), ("+/b", "a/b")] {
        let own = format!("{topic}/{filter}");
        let mut client = Client::connect(Version::V5);
        client.subscribe(&shared(&own), 0);
        publisher.publish(&format!("{topic}/{name}"), filter, 1);
        client.receive(filter);
        client.unsubscribe(&[&shared(&own)]);
        publisher.publish(&format!("{topic}/{name}"), filter, 1);
        client.quiet();
    }
}

/// 5.0: 3.8.3-4, 4.13.1-1
#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let mut client = Client::connect(Version::V5);
    client.send(&subscribe(Version::V5, 1, &[("$share/g/a", NO_LOCAL)], &[]));
    client.ended(reason::PROTOCOL_ERROR);
}

/// 5.0: 3.3.1-9
#[test]
fn a_shared_subscription_gets_no_retained_message() {
    // 4.8.2: "not sent on the Session".
    let topic = topic();
    let mut publisher = Client::connect(Version::V5);
    publisher.retain(&topic, "kept");
    let mut client = Client::connect(Version::V5);
    client.subscribe(&shared(&topic), 1);
    client.quiet();
    publisher.publish(&topic, "new", 1);
    client.receive("new");
    publisher.retain(&topic, "");
}

/// 5.0: 4.8.2-6, 4.4.0-2
#[test]
fn a_message_that_a_member_refuses_goes_to_nobody_else() {
    for (qos, first) in [(1, 0x40), (2, 0x50)] {
        let topic = topic();
        let mut members = [Client::connect(Version::V5), Client::connect(Version::V5)];
        members.iter_mut().for_each(|client| client.subscribe(&shared(&topic), qos));
        let mut publisher = Client::connect(Version::V5);
        publisher.publish(&topic, "refused", qos);
        let mut refusals = 0;
        for client in &mut members {
            client.send(&[0xc0, 0]);
            if let Packet::Publish(publish) = client.packet() {
                client.send(&ack_with(first, publish.packet_id, 0x83));
                refusals += 1;
                assert_eq!(client.packet(), Packet::PingResp);
            }
        }
        assert_eq!(refusals, 1);
        members.iter_mut().for_each(Client::quiet);
    }
}

/// 5.0: 4.8.2-4, 4.8.2-5
#[test]
fn a_qos_2_message_that_was_sent_stays_with_its_member() {
    let topic = topic();
    let connect = Connect::durable(Version::V5);
    let mut chosen = connect.open();
    chosen.subscribe(&shared(&topic), 2);
    let mut publisher = Client::connect(Version::V5);
    publisher.publish(&topic, "x", 2);
    let packet_id = chosen.message().packet_id;
    let mut other = Client::connect(Version::V5);
    other.subscribe(&shared(&topic), 2);
    chosen.cut();
    let mut chosen = connect.open();
    let again = chosen.receive("x");
    assert_eq!((again.packet_id, again.dup), (packet_id, true));
    other.quiet();
    // And it ends with the session.
    publisher.publish(&topic, "y", 2);
    let mut members = [chosen, other];
    members.iter_mut().for_each(|client| client.send(&[0xc0, 0]));
    let holder = members.iter_mut().position(|client| match client.packet() {
        Packet::Publish(publish) => publish.payload == b"y",
        _ => false,
    });
    let [chosen, mut other] = members;
    if holder == Some(0) {
        chosen.cut();
        Connect { clean: true, properties: Vec::new(), ..connect }.open().disconnect();
        assert_eq!(other.packet(), Packet::PingResp);
        other.quiet();
    }
}

/// 5.0: 4.8.2-3
#[test]
fn a_member_that_left_gets_nothing_and_the_others_everything() {
    let topic = topic();
    let (mut stays, mut leaves, mut vanishes) =
        (Client::connect(Version::V5), Client::connect(Version::V5), Client::connect(Version::V5));
    for client in [&mut stays, &mut leaves, &mut vanishes] {
        client.subscribe(&shared(&topic), 1);
    }
    assert_eq!(leaves.unsubscribe(&[&shared(&topic)]), [0]);
    vanishes.disconnect();
    let mut publisher = Client::connect(Version::V5);
    for number in 0..10 {
        publisher.publish(&topic, &format!("{number}"), 1);
        stays.receive(&format!("{number}"));
    }
    leaves.quiet();
}

/// 5.0: 4.8.2-3, 4.9.0-2
#[test]
fn a_member_with_a_full_window_does_not_hold_the_others_up() {
    let topic = topic();
    let properties = two(id::RECEIVE_MAXIMUM, 1);
    let mut slow = Connect { properties, ..Connect::new(Version::V5) }.open();
    slow.subscribe(&shared(&topic), 1);
    let mut quick = Client::connect(Version::V5);
    quick.subscribe(&shared(&topic), 1);
    let mut publisher = Client::connect(Version::V5);
    for number in 0..10 {
        publisher.publish(&topic, &number.to_string(), 1);
    }
    assert!(!drained(&mut quick).is_empty());
}

/// 5.0: 3.3.4-3
#[test]
fn a_shared_subscription_has_its_identifier() {
    let topic = topic();
    let mut client = Client::connect(Version::V5);
    let identifier = crate::wire::subscription_id(77);
    client.subscribe_all(&[(&shared(&topic), 1)], &identifier);
    let mut publisher = Client::connect(Version::V5);
    publisher.publish_with(&Message { qos: 1, ..Message::new(&topic, "x") });
    assert_eq!(client.receive("x").properties.subscription_ids(), [77]);
}

/// 5.0: 4.5.0-1
#[test]
fn a_message_waits_while_all_members_are_absent() {
    let topic = topic();
    let connects = [Connect::durable(Version::V5), Connect::durable(Version::V5)];
    for connect in &connects {
        let mut client = connect.open();
        client.subscribe(&shared(&topic), 1);
        client.disconnect();
    }
    let mut publisher = Client::connect(Version::V5);
    for number in 0..6 {
        publisher.publish(&topic, &number.to_string(), 1);
    }
    let mut clients = connects.map(|connect| connect.open());
    let mut received: Vec<_> = clients.iter_mut().flat_map(drained).collect();
    // What one was not sent in time, the other may be sent.
    received.extend(clients.iter_mut().flat_map(drained));
    received.sort();
    assert_eq!(received, ["0", "1", "2", "3", "4", "5"]);
}

/// 5.0: 4.8.2-3
#[test]
fn a_shared_and_a_plain_subscription_of_one_client_both_count() {
    let topic = topic();
    let mut client = Client::connect(Version::V5);
    client.subscribe(&shared(&topic), 1);
    client.subscribe(&topic, 1);
    Client::connect(Version::V5).publish(&topic, "x", 1);
    client.receive("x");
    client.receive("x");
    client.quiet();
    assert_eq!(client.unsubscribe(&[&topic]), [0]);
    Client::connect(Version::V5).publish(&topic, "y", 1);
    client.receive("y");
    client.quiet();
}
