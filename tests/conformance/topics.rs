//! Topic names and filters, and which matches which (both standards, 4.7).

use crate::client::Client;
use crate::packets::{Connect, Message, topic};
use crate::read::Packet;
use crate::server;
use crate::wire::{BOTH, Version};

/// A filter, names that it matches, names that it does not; all below a level of the test's own.
const MATCHES: &[(&str, &[&str], &[&str])] = &[
    ("a", &["a"], &["A", "a/", "/a", "b", "aa", "a/b"]),
    ("a/b", &["a/b"], &["a", "a/b/c", "a/B"]),
    ("#", &["a", "a/b", "/", "a//b"], &[]),
    ("a/#", &["a", "a/", "a/b", "a/b/c", "a//"], &["b", "ab", "A/b"]),
    ("+", &["a", "b"], &["a/b", "a/", "/"]),
    ("+/", &["a/", "/"], &["a", "a/b"]),
    ("a/+", &["a/", "a/b"], &["a", "a/b/c", "a/b/"]),
    ("+/b", &["a/b", "/b"], &["b", "a/b/c"]),
    ("+/+", &["a/b", "/", "/a", "a/"], &["a", "a/b/c"]),
    ("a/+/c", &["a/b/c", "a//c"], &["a/c", "a/b/b/c"]),
    ("+/b/#", &["a/b", "a/b/c", "/b/"], &["b", "a/c/b"]),
    ("/", &["/"], &["a", "//", "a/"]),
    ("/+", &["/a", "/"], &["a", "a/b", "/a/b"]),
    ("a b", &["a b"], &["a", "a%20b", "a  b"]),
    // U+00E9, and e with U+0301: the same letter, not the same text.
    ("\u{e9}", &["\u{e9}"], &["e\u{301}", "e"]),
    // A byte order mark is a character.
    ("\u{feff}a", &["\u{feff}a"], &["a"]),
    ("日本/+", &["日本/東京"], &["日本", "日/本"]),
    ("\u{1f600}", &["\u{1f600}"], &["\u{1f601}"]),
];

/// 3.1.1: 4.7.1-2, 4.7.1-3, 4.7.3-4, 3.8.3-2, 3.3.2-3, 1.5.3-3
/// 5.0: 4.7.1-1, 4.7.1-2, 4.7.3-4, 3.3.2-3, 1.5.4-3
#[test]
fn filters_match_the_names_that_they_should_and_no_others() {
    for version in BOTH {
        let mut publisher = Client::connect(version);
        for (filter, matching, others) in MATCHES {
            let own = topic();
            let mut client = Client::connect(version);
            client.subscribe(&format!("{own}/{filter}"), 0);
            for name in *others {
                publisher.publish(&format!("{own}/{name}"), "must not match", 1);
            }
            for name in *matching {
                let name = format!("{own}/{name}");
                publisher.publish(&name, filter, 1);
                assert_eq!(client.receive(filter).topic, name, "{filter}");
            }
            client.quiet();
        }
    }
}

/// 3.1.1: 4.7.2-1
/// 5.0: 4.7.2-1
#[test]
fn a_wildcard_at_the_start_does_not_match_a_dollar() {
    // Gnomon lets clients publish to no other name with a dollar.
    let thing = topic();
    let name = format!("$aws/things/{thing}/shadow/get");
    // Fewer other tests are here, whose messages come too.
    let address = server::small().unwrap_or_else(server::address);
    for version in BOTH {
        let connect = || Connect::new(version).open_at(address).0;
        let (mut one, mut other, mut some) = (connect(), connect(), connect());
        one.subscribe("#", 0);
        one.subscribe("+/things/#", 0);
        other.subscribe("+/things/+/shadow/get", 0);
        other.subscribe(&thing, 0);
        some.subscribe(&format!("$aws/things/{thing}/#"), 0);
        let mut publisher = connect();
        publisher.publish(&name, "dollar", 0);
        assert_eq!(some.receive("dollar").topic, name);
        publisher.publish(&thing, "marker", 0);
        other.receive("marker");
        loop {
            let publish = one.message();
            assert!(!publish.topic.starts_with('$'), "{}", publish.topic);
            if publish.topic == thing {
                break;
            }
        }
    }
}

/// 3.1.1: 4.7.1-2, 4.7.1-3, 4.7.3-1
/// 5.0: 4.7.1-1, 4.7.1-2, 4.7.3-1
#[test]
fn misplaced_wildcards_are_refused() {
    for version in BOTH {
        for filter in ["a#", "#/a", "a/#/b", "a+", "+a", "a/b+/c", "##", "++", "a/+#", ""] {
            let mut client = Client::connect(version);
            client.send(&crate::packets::subscribe(version, 1, &[(filter, 0)], &[]));
            match client.next() {
                None | Some(Packet::Disconnect { reason: 0x80.., .. }) => {}
                Some(Packet::SubAck { reasons, .. }) => assert!(reasons[0] >= 0x80, "{filter:?}"),
                Some(other) => panic!("{filter:?}: {other:?}"),
            }
        }
    }
}

/// 3.1.1: 4.7.3-3
/// 5.0: 4.7.3-3
#[test]
fn names_of_up_to_65_535_bytes_are_taken() {
    for version in BOTH {
        let own = topic();
        for len in [200, 1_000, 65_535] {
            let name: String =
                own.chars().chain("/".chars()).chain("x".chars().cycle()).take(len).collect();
            let mut client = Client::connect(version);
            client.subscribe(&name, 0);
            client.publish(&name, "long", 0);
            assert_eq!(client.receive("long").topic, name);
        }
        // No bound on the levels.
        let name = format!("{own}{}", "/".repeat(1_000));
        let mut client = Client::connect(version);
        client.subscribe(&format!("{own}/#"), 0);
        client.publish(&name, "deep", 0);
        assert_eq!(client.receive("deep").topic, name);
    }
}

/// 3.1.1: 4.7.3-4
/// 5.0: 4.7.3-4
#[test]
fn characters_that_mean_something_elsewhere_mean_nothing_here() {
    for version in BOTH {
        let own = topic();
        let mut client = Client::connect(version);
        client.subscribe(&format!("{own}/#"), 0);
        for name in ["..", ".", "*", "%2F", "\\", "a.b", "\"", "{}", "${x}", "?", "~", "'"] {
            let name = format!("{own}/{name}");
            client.publish(&name, "x", 0);
            assert_eq!(client.receive("x").topic, name);
        }
    }
}

/// 3.1.1: 3.3.5-2
/// 5.0: 3.4.2-1
#[test]
fn a_publish_to_the_brokers_own_topics_reaches_nobody_through_the_client() {
    if !server::is_gnomon() {
        return;
    }
    for version in BOTH {
        let mut client = Client::connect(version);
        client.subscribe("$SYS/#", 0);
        client.send(&Message { qos: 1, ..Message::new("$SYS/x", "x") }.bytes(version, 1));
        let (packet_id, reason) = client.ack(0x40);
        assert_eq!(packet_id, 1);
        assert_eq!(reason, if version == Version::V5 { 0x87 } else { 0 });
        client.quiet();
    }
}
