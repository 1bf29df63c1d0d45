//! Malformed packets and packets that must not be sent: the reason, and where it is found.

use crate::hex;
use gnomon_core::packet::Reason::{
    self, ClientIdNotValid, MalformedPacket, PacketTooLarge, ProtocolError, TopicAliasInvalid,
    UnsupportedProtocolVersion,
};
use gnomon_core::packet::Version::{self, V5, V311};
use gnomon_core::packet::{ConnAck, Packet};
use gnomon_gateway::codec::Codec;

type Row = (Version, &'static str, Reason, usize, &'static str);

#[track_caller]
fn check(rows: &[Row]) {
    for (version, packet, reason, at, why) in rows {
        match hex::decode(*version, &hex::bytes(packet)) {
            Ok(packet) => panic!("{why}: {packet:?} was accepted"),
            Err(error) => {
                assert_eq!((error.reason, error.at), (*reason, *at), "{why}: {packet}: {error}");
            }
        }
    }
}

#[test]
fn fixed_headers_that_are_reserved_or_not_minimal_are_refused() {
    check(&[
        // [MQTT-2.1.3-1] and 3.1.1's [MQTT-2.2.2-2].
        (V311, "80 .. 0001 'a' 00", MalformedPacket, 0, "SUBSCRIBE flags"),
        (V5, "80 .. 0001 00 'a' 00", MalformedPacket, 0, "SUBSCRIBE flags"),
        (V311, "60 02 0001", MalformedPacket, 0, "PUBREL flags"),
        (V5, "60 02 0001", MalformedPacket, 0, "PUBREL flags"),
        (V311, "a0 .. 0001 'a'", MalformedPacket, 0, "UNSUBSCRIBE flags"),
        (V5, "a3 .. 0001 00 'a'", MalformedPacket, 0, "UNSUBSCRIBE flags"),
        (V311, "cf 00", MalformedPacket, 0, "PINGREQ flags"),
        (V311, "ef 00", MalformedPacket, 0, "DISCONNECT flags"),
        (V5, "e1 00", MalformedPacket, 0, "DISCONNECT flags"),
        (V5, "41 02 0001", MalformedPacket, 0, "PUBACK flags"),
        (V5, "52 02 0001", MalformedPacket, 0, "PUBREC flags"),
        (V5, "72 02 0001", MalformedPacket, 0, "PUBCOMP flags"),
        (V5, "f1 02 18 00", MalformedPacket, 0, "AUTH flags"),
        (V5, "00 00", MalformedPacket, 0, "packet type 0"),
        (V311, "f0 00", MalformedPacket, 0, "packet type 15 is reserved in 3.1.1"),
        (V5, "36 .. 'a' 0001 00", MalformedPacket, 0, "PUBLISH with QoS 3 [MQTT-3.3.1-4]"),
        (V311, "3e .. 'a' 0001", MalformedPacket, 0, "PUBLISH with QoS 3 [MQTT-3.3.1-4]"),
        (V5, "38 .. 'a' 00", MalformedPacket, 0, "DUP with QoS 0 [MQTT-3.3.1-2]"),
        (V311, "39 .. 'a'", MalformedPacket, 0, "DUP with QoS 0 [MQTT-3.3.1-2]"),
        (V5, "c0 8000", MalformedPacket, 1, "over-long remaining length [MQTT-1.5.5-1]"),
        (V311, "30 858000 'a' `hi`", MalformedPacket, 1, "over-long remaining length"),
        (V5, "30 80808001", PacketTooLarge, 1, "more than the server takes"),
        (V5, "30 ffffffff7f", MalformedPacket, 1, "five bytes of remaining length"),
        (
            V5,
            "10 .. 'MQTT' 04 02 0000 00 'c'",
            MalformedPacket,
            14,
            "bytes left: no such client id",
        ),
    ]);
}

#[test]
fn packets_out_of_place_are_refused_by_their_first_byte() {
    check(&[
        (V5, "20 03 00 00 00", ProtocolError, 0, "CONNACK from a client"),
        (V5, "90 04 0001 00 00", ProtocolError, 0, "SUBACK from a client"),
        (V311, "90 03 0001 00", ProtocolError, 0, "SUBACK from a client"),
        (V5, "b0 04 0001 00 00", ProtocolError, 0, "UNSUBACK from a client"),
        (V5, "d0 00", ProtocolError, 0, "PINGRESP from a client"),
    ]);
    for version in [V311, V5] {
        // [MQTT-3.1.0-2]
        let error = hex::connected(version).decode(&[0x10]).unwrap_err();
        assert_eq!((error.reason, error.version), (ProtocolError, Some(version)));
    }
    for first in (0..=0xff).filter(|&first| first != 0x10) {
        // [MQTT-3.1.0-1]; no length is believed, nothing is buffered.
        let error = Codec::new(hex::PACKET_BYTES_MAX).decode(&[first]).unwrap_err();
        assert_eq!((error.reason, error.at, error.version), (ProtocolError, 0, None), "{first:x}");
    }
}

#[test]
fn a_packet_beyond_the_limit_is_refused_from_its_length() {
    let limit = 100;
    let mut codec = Codec::new(limit);
    let connect = hex::bytes("10 .. 'MQTT' 04 02 0000 'c'");
    codec.decode(&connect).unwrap();
    // 98 + 2 bytes of fixed header are just allowed.
    assert_eq!(codec.decode(&[0x30, 98]), Ok(None));
    assert_eq!(codec.decode(&[0x30, 99]).unwrap_err().reason, PacketTooLarge);
    assert_eq!(codec.decode(&[0x30, 0xff, 0xff, 0x7f]).unwrap_err().reason, PacketTooLarge);
    let mut whole = vec![0x30, 99, 0, 1, b'a'];
    whole.resize(101, 0);
    assert_eq!(codec.decode(&whole).unwrap_err().reason, PacketTooLarge);
    // Before CONNECT too.
    assert_eq!(Codec::new(limit).decode(&[0x10, 0x7f]).unwrap_err().reason, PacketTooLarge);
}

#[test]
fn malformed_connects_are_refused() {
    check(&[
        (V311, "1f .. 'MQTT' 04 02 0000 'c'", ProtocolError, 0, "flags: it is no CONNECT"),
        (V311, "10 .. 'MQTT' 04 03 0000 'c'", MalformedPacket, 9, "reserved [MQTT-3.1.2-3]"),
        (V5, "10 .. 'MQTT' 05 03 0000 00 'c'", MalformedPacket, 9, "reserved [MQTT-3.1.2-3]"),
        (V311, "10 .. 'MQTT' 04 1e 0000 'c' 'w' 'm'", MalformedPacket, 9, "will QoS 3"),
        (V311, "10 .. 'MQTT' 04 0a 0000 'c'", MalformedPacket, 9, "will QoS without will"),
        (V5, "10 .. 'MQTT' 05 22 0000 00 'c'", MalformedPacket, 9, "will retain without will"),
        (V311, "10 .. 'MQTT' 04 42 0000 'c' 'p'", MalformedPacket, 9, "password without name"),
        (V311, "10 .. 'MQTT' 04 02 0000 'c' 00", MalformedPacket, 15, "trailing byte"),
        (V5, "10 .. 'MQTT' 05 02 0000 00 'c' 00", MalformedPacket, 16, "trailing byte"),
        (V311, "10 .. 'MQTT' 04 02 0000 0002 `a` 00", MalformedPacket, 15, "NUL [MQTT-1.5.4-2]"),
        (V311, "10 .. 'MQTT' 04 02 0000 0002 c328", MalformedPacket, 14, "UTF-8 [MQTT-1.5.4-1]"),
        (V5, "10 .. 'MQTT' 05 02 0000 00 0003 eda080", MalformedPacket, 15, "a surrogate"),
        (V311, "10 .. 'MQTT' 04 02 0000 0001 07", ClientIdNotValid, 14, "control character"),
        (V5, "10 .. 'MQTT' 05 02 0000 00 0001 7f", ClientIdNotValid, 15, "control character"),
        (V311, "10 .. 'MQTT' 04 06 0000 'c' '' 'm'", MalformedPacket, 17, "empty will topic"),
        (V311, "10 .. 'MQTT' 04 06 0000 'c' 'a/#' 'm'", MalformedPacket, 17, "wildcard in will"),
        (V5, "10 .. 'MQTT' 05 06 0000 00 'c' 00 '+' 'm'", MalformedPacket, 19, "wildcard in will"),
        (
            V5,
            "10 .. 'MQTT' 05 06 0000 00 'c' 03 23 0001 'w' 'm'",
            MalformedPacket,
            17,
            "alias in will",
        ),
        (V311, "10 .. 'MQTT' 04 c2 0000 'c' 'u'", MalformedPacket, 18, "password is missing"),
        (
            V311,
            "10 .. 'MQTT' 04 02 0000 0005 `c`",
            MalformedPacket,
            12,
            "client id runs over the end",
        ),
        (V5, "10 .. 'MQTT' 05 02 0000 05 'c'", MalformedPacket, 13, "properties run over the end"),
        (V5, "10 .. 'MQTT' 05 02 0000", MalformedPacket, 12, "no property length"),
        (V311, "10 .. 'MQTT' 04", MalformedPacket, 9, "nothing but the level"),
    ]);
}

#[test]
fn unsupported_versions_are_told_in_a_form_that_they_understand() {
    for (packet, version, answer) in [
        // 3.1, and bridges that say so by the highest bit of the level.
        ("10 .. 'MQIsdp' 03 02 0000 'c'", Some(V311), "20 02 00 01"),
        ("10 .. 'MQIsdp' 83 02 0000 'c'", Some(V311), "20 02 00 01"),
        ("10 .. 'MQTT' 84 02 0000 'c'", Some(V311), "20 02 00 01"),
        ("10 .. 'MQTT' 03 02 0000 'c'", Some(V311), "20 02 00 01"),
        ("10 .. 'MQTT' 00", Some(V311), "20 02 00 01"),
        ("10 .. 'MQTT' 06 02 0000 [] 'c'", Some(V5), "20 03 00 84 00"),
        ("10 .. 'MQTT' 85", Some(V5), "20 03 00 84 00"),
        ("10 .. 'MQTX' 04 02 0000 'c'", None, ""),
        ("10 .. 'mqtt' 04 02 0000 'c'", None, ""),
        ("10 .. '' 04 02 0000 'c'", None, ""),
    ] {
        let mut codec = Codec::new(hex::PACKET_BYTES_MAX);
        let error = codec.decode(&hex::bytes(packet)).unwrap_err();
        assert_eq!((error.reason, error.at), (UnsupportedProtocolVersion, 2), "{packet}");
        assert_eq!((error.version, codec.version()), (version, version), "{packet}");
        let mut buffer = Vec::new();
        let connack = Packet::ConnAck(Box::new(ConnAck::new(error.reason)));
        codec.encode(&connack, &mut buffer).unwrap();
        assert_eq!(buffer, hex::bytes(answer), "{packet}");
    }
}

#[test]
fn a_refused_connect_is_answered_in_its_version_and_opens_nothing() {
    for (packet, answer) in [
        ("10 .. 'MQTT' 04 02 0000 0001 07", "20 02 00 02"),
        ("10 .. 'MQTT' 05 02 0000 [] 0001 07", "20 03 00 85 00"),
        // [MQTT-3.1.4-1] of 3.1.1: closed without a CONNACK.
        ("10 .. 'MQTT' 04 03 0000 'c'", ""),
        ("10 .. 'MQTT' 05 03 0000 [] 'c'", "20 03 00 81 00"),
    ] {
        let mut codec = Codec::new(hex::PACKET_BYTES_MAX);
        let error = codec.decode(&hex::bytes(packet)).unwrap_err();
        let mut buffer = Vec::new();
        let connack = Packet::ConnAck(Box::new(ConnAck::new(error.reason)));
        codec.encode(&connack, &mut buffer).unwrap();
        assert_eq!(buffer, hex::bytes(answer), "{packet}");
        // [MQTT-3.1.4-6]
        let error = codec.decode(&hex::bytes("c0 00")).unwrap_err();
        assert_eq!(error.what, "the first packet is not CONNECT");
    }
}

#[test]
fn connect_properties_out_of_place_or_range_are_refused() {
    check(&[
        (V5, "10 .. 'MQTT' 05 02 0000 [11 00000001 11 00000001] 'c'", ProtocolError, 18, "twice"),
        (V5, "10 .. 'MQTT' 05 02 0000 [21 0000] 'c'", ProtocolError, 14, "receive maximum 0"),
        (V5, "10 .. 'MQTT' 05 02 0000 [27 00000000] 'c'", ProtocolError, 14, "packet size 0"),
        (V5, "10 .. 'MQTT' 05 02 0000 [19 02] 'c'", ProtocolError, 14, "boolean 2"),
        (V5, "10 .. 'MQTT' 05 02 0000 [17 ff] 'c'", ProtocolError, 14, "boolean 255"),
        (V5, "10 .. 'MQTT' 05 02 0000 [16 0001 00] 'c'", ProtocolError, 17, "data, no method"),
        (V5, "10 .. 'MQTT' 05 02 0000 [01 01] 'c'", MalformedPacket, 13, "payload format"),
        (V5, "10 .. 'MQTT' 05 02 0000 [18 00000001] 'c'", MalformedPacket, 13, "will delay"),
        (V5, "10 .. 'MQTT' 05 02 0000 [12 'c'] 'c'", MalformedPacket, 13, "assigned client id"),
        (V5, "10 .. 'MQTT' 05 02 0000 [24 01] 'c'", MalformedPacket, 13, "maximum QoS"),
        (V5, "10 .. 'MQTT' 05 02 0000 [00] 'c'", MalformedPacket, 13, "property 0"),
        (V5, "10 .. 'MQTT' 05 02 0000 [7f] 'c'", MalformedPacket, 13, "property 127"),
        (V5, "10 .. 'MQTT' 05 02 0000 [8026] 'c'", MalformedPacket, 13, "over-long identifier"),
        (V5, "10 .. 'MQTT' 05 02 0000 [11 0000] 'c'", MalformedPacket, 14, "value is cut off"),
        (V5, "10 .. 'MQTT' 05 02 0000 [21] 'c'", MalformedPacket, 14, "no value"),
        (V5, "10 .. 'MQTT' 05 02 0000 8000 'c'", MalformedPacket, 12, "over-long length"),
        (V5, "10 .. 'MQTT' 05 02 0000 ffffffff7f 'c'", MalformedPacket, 12, "five bytes of length"),
        (V5, "10 .. 'MQTT' 05 02 0000 [26 'k'] 'c'", MalformedPacket, 17, "pair without a value"),
        (V5, "10 .. 'MQTT' 05 02 0000 [26 'k' 0001 00] 'c'", MalformedPacket, 19, "NUL in a pair"),
        // The length is 3: the key would read on into the client id.
        (V5, "10 .. 'MQTT' 05 02 0000 03 26 0002 'c'", MalformedPacket, 14, "over the boundary"),
        (
            V5,
            "10 .. 'MQTT' 05 06 0000 [] 'c' [01 02] 'w' ''",
            ProtocolError,
            18,
            "format 2 in will",
        ),
        (V5, "10 .. 'MQTT' 05 06 0000 [] 'c' [08 'a/+'] 'w' ''", MalformedPacket, 20, "response"),
        (V5, "10 .. 'MQTT' 05 06 0000 [] 'c' [11 00000001] 'w' ''", MalformedPacket, 17, "expiry"),
    ]);
}

#[test]
fn malformed_publishes_are_refused() {
    check(&[
        (V311, "30 .. ''", MalformedPacket, 4, "empty topic"),
        (V311, "30 .. '' `x`", MalformedPacket, 4, "empty topic"),
        (V5, "30 .. '' [] `x`", ProtocolError, 4, "neither topic nor alias"),
        (V5, "30 .. '' [01 01] `x`", ProtocolError, 4, "neither topic nor alias"),
        (V311, "30 .. 'a/+' `x`", MalformedPacket, 4, "wildcard [MQTT-3.3.2-2]"),
        (V5, "30 .. '#' []", MalformedPacket, 4, "wildcard [MQTT-3.3.2-2]"),
        (V311, "30 .. 0003 `a` 00 `b`", MalformedPacket, 4, "NUL [MQTT-1.5.4-2]"),
        (V311, "30 .. 0002 `a` ff", MalformedPacket, 5, "UTF-8 [MQTT-1.5.4-1]"),
        (V5, "30 .. 0003 eda080 []", MalformedPacket, 4, "a surrogate"),
        (V311, "30 01 00", MalformedPacket, 2, "half a topic length"),
        (V311, "30 03 0002 61", MalformedPacket, 2, "topic runs over the end"),
        (V311, "32 .. 'a' 0000", MalformedPacket, 5, "packet identifier 0 [MQTT-2.2.1-3]"),
        (V5, "34 .. 'a' 0000 []", MalformedPacket, 5, "packet identifier 0 [MQTT-2.2.1-3]"),
        (V311, "32 .. 'a' 00", MalformedPacket, 5, "half a packet identifier"),
        (V5, "30 .. 'a'", MalformedPacket, 5, "no property length [MQTT-2.2.2-1]"),
        (V5, "30 .. 'a' 05 `x`", MalformedPacket, 6, "properties run over the end"),
        (V5, "30 .. 'a' [23 0000] `x`", TopicAliasInvalid, 7, "alias 0 [MQTT-3.3.2-8]"),
        (V5, "30 .. 'a' [23 0001 23 0001] `x`", ProtocolError, 9, "alias twice"),
        (V5, "30 .. 'a' [01 02] `x`", ProtocolError, 7, "payload format 2"),
        (V5, "30 .. 'a' [01 00 01 00] `x`", ProtocolError, 8, "payload format twice"),
        (V5, "30 .. 'a' [0b 01] `x`", ProtocolError, 5, "subscription id [MQTT-3.3.4-6]"),
        (V5, "30 .. 'a' [0b 00] `x`", ProtocolError, 7, "subscription id 0"),
        (V5, "30 .. 'a' [0b 01 0b 02] `x`", ProtocolError, 8, "two subscription ids"),
        (V5, "30 .. 'a' [0b 8100] `x`", MalformedPacket, 7, "over-long subscription id"),
        (V5, "30 .. 'a' [08 'a/#'] `x`", MalformedPacket, 9, "response topic [MQTT-3.3.2-14]"),
        (V5, "30 .. 'a' [08 ''] `x`", MalformedPacket, 9, "empty response topic"),
        (V5, "30 .. 'a' [11 00000001] `x`", MalformedPacket, 6, "session expiry"),
        (V5, "30 .. 'a' [1f 'r'] `x`", MalformedPacket, 6, "reason string"),
        // A correlation of two bytes in a section of four would take one of the payload.
        (V5, "30 .. 'a' 04 09 0002 61 `x`", MalformedPacket, 7, "over the boundary"),
    ]);
}

#[test]
fn malformed_acknowledgements_are_refused() {
    check(&[
        (V311, "40 02 0000", MalformedPacket, 2, "packet identifier 0"),
        (V5, "50 02 0000", MalformedPacket, 2, "packet identifier 0"),
        (V5, "62 02 0000", MalformedPacket, 2, "packet identifier 0"),
        (V311, "70 02 0000", MalformedPacket, 2, "packet identifier 0"),
        (V311, "40 00", MalformedPacket, 2, "no packet identifier"),
        (V5, "40 01 00", MalformedPacket, 2, "half a packet identifier"),
        (V311, "40 03 0001 00", MalformedPacket, 4, "3.1.1 has no reason"),
        (V5, "40 03 0001 92", ProtocolError, 4, "PUBREL's reason [MQTT-3.4.2-1]"),
        (V5, "40 03 0001 01", ProtocolError, 4, "SUBACK's reason"),
        (V5, "50 03 0001 05", MalformedPacket, 4, "no reason at all"),
        (V5, "62 03 0001 10", ProtocolError, 4, "PUBACK's reason [MQTT-3.6.2-1]"),
        (V5, "70 03 0001 80", ProtocolError, 4, "PUBACK's reason [MQTT-3.7.2-1]"),
        (V5, "40 05 0001 00 00 00", MalformedPacket, 6, "trailing byte"),
        (V5, "40 .. 0001 00 [11 00000000]", MalformedPacket, 6, "session expiry"),
        (V5, "40 .. 0001 00 [1f 'a' 1f 'b']", ProtocolError, 10, "reason string twice"),
        (V5, "40 05 0001 00 02 1f", MalformedPacket, 6, "properties run over the end"),
    ]);
}

#[test]
fn malformed_subscribes_and_unsubscribes_are_refused() {
    check(&[
        (V311, "82 .. 0000 'a' 00", MalformedPacket, 2, "packet identifier 0"),
        (V5, "82 .. 0000 [] 'a' 00", MalformedPacket, 2, "packet identifier 0"),
        (V311, "82 02 0001", ProtocolError, 4, "no filter: 3.1.1 [MQTT-3.8.3-3]"),
        (V5, "82 .. 0001 []", ProtocolError, 5, "no filter [MQTT-3.8.3-2]"),
        (V5, "82 02 0001", MalformedPacket, 4, "no property length"),
        (V311, "82 .. 0001 'a' 04", MalformedPacket, 7, "reserved: 3.1.1 [MQTT-3-8.3-4]"),
        (V311, "82 .. 0001 'a' 80", MalformedPacket, 7, "reserved: 3.1.1 [MQTT-3-8.3-4]"),
        (V5, "82 .. 0001 [] 'a' 40", MalformedPacket, 8, "reserved [MQTT-3.8.3-5]"),
        (V5, "82 .. 0001 [] 'a' 80", MalformedPacket, 8, "reserved [MQTT-3.8.3-5]"),
        (V311, "82 .. 0001 'a' 03", ProtocolError, 7, "QoS 3"),
        (V5, "82 .. 0001 [] 'a' 03", ProtocolError, 8, "QoS 3"),
        (V5, "82 .. 0001 [] 'a' 30", ProtocolError, 8, "retain handling 3"),
        (V5, "82 .. 0001 [] '$share/g/a' 04", ProtocolError, 17, "no local [MQTT-3.8.3-4]"),
        (V311, "82 .. 0001 'a'", MalformedPacket, 7, "no options"),
        (V311, "82 .. 0001 'a' 00 'b'", MalformedPacket, 11, "no options for the second"),
        (V311, "82 .. 0001 0005 `a` 00", MalformedPacket, 4, "filter runs over the end"),
        (V311, "82 .. 0001 '' 00", MalformedPacket, 6, "empty filter [MQTT-4.7.3-1]"),
        (V311, "82 .. 0001 'a+#' 00", MalformedPacket, 6, "[MQTT-4.7.1-1]"),
        (V311, "82 .. 0001 'a+/b' 00", MalformedPacket, 6, "[MQTT-4.7.1-2]"),
        (V5, "82 .. 0001 [] 'ok' 00 'a/b+' 00", MalformedPacket, 12, "[MQTT-4.7.1-2]"),
        (V5, "82 .. 0001 [] '#/a' 00", MalformedPacket, 7, "[MQTT-4.7.1-1]"),
        (V5, "82 .. 0001 [] '$share/g' 00", MalformedPacket, 7, "[MQTT-4.8.2-2]"),
        (V5, "82 .. 0001 [] '$share//a' 00", MalformedPacket, 7, "[MQTT-4.8.2-1]"),
        (V311, "82 .. 0001 0002 `a` 00 00", MalformedPacket, 7, "NUL"),
        (V5, "82 .. 0001 [0b 00] 'a' 00", ProtocolError, 6, "subscription id 0"),
        (V5, "82 .. 0001 [0b 01 0b 02] 'a' 00", ProtocolError, 7, "subscription id twice"),
        (V5, "82 .. 0001 [0b ffffffff01] 'a' 00", MalformedPacket, 6, "five bytes of id"),
        (V5, "82 .. 0001 [1f 'r'] 'a' 00", MalformedPacket, 5, "reason string"),
        (V311, "a2 .. 0000 'a'", MalformedPacket, 2, "packet identifier 0"),
        (V5, "a2 .. 0000 [] 'a'", MalformedPacket, 2, "packet identifier 0"),
        (V311, "a2 02 0001", ProtocolError, 4, "no filter [MQTT-3.10.3-2]"),
        (V5, "a2 .. 0001 []", ProtocolError, 5, "no filter [MQTT-3.10.3-2]"),
        (V311, "a2 .. 0001 'a' 00", MalformedPacket, 7, "half a filter"),
        (V311, "a2 .. 0001 'a' ''", MalformedPacket, 9, "empty filter"),
        (V5, "a2 .. 0001 [] 'a/b' 'x#'", MalformedPacket, 12, "[MQTT-4.7.1-1]"),
        (V5, "a2 .. 0001 [0b 01] 'a'", MalformedPacket, 5, "subscription id"),
    ]);
}

#[test]
fn malformed_pings_disconnects_and_auths_are_refused() {
    check(&[
        (V311, "c0 01 00", MalformedPacket, 2, "PINGREQ with a body"),
        (V311, "e0 01 00", MalformedPacket, 2, "3.1.1's DISCONNECT with a body"),
        (V5, "e0 01 05", MalformedPacket, 2, "no reason at all [MQTT-3.14.2-1]"),
        (V5, "e0 01 8e", ProtocolError, 2, "the server's reason"),
        (V5, "e0 01 86", ProtocolError, 2, "CONNACK's reason"),
        (V5, "e0 03 00 00 00", MalformedPacket, 4, "trailing byte"),
        (V5, "e0 .. 00 [1c 'b']", MalformedPacket, 4, "server reference"),
        (V5, "e0 .. 00 [11 00000001 11 00000001]", ProtocolError, 9, "session expiry twice"),
        (V5, "f0 00", ProtocolError, 2, "success is the server's"),
        (V5, "f0 01 18", ProtocolError, 2, "no method"),
        (V5, "f0 .. 18 []", ProtocolError, 2, "no method"),
        (V5, "f0 .. 18 [16 0001 00]", ProtocolError, 2, "data without method"),
        (V5, "f0 .. 00 [15 'm']", ProtocolError, 2, "success is the server's"),
        (V5, "f0 .. 18 [15 'm' 15 'm']", ProtocolError, 8, "method twice"),
        (V5, "f0 .. 18 [15 'm'] 00", MalformedPacket, 8, "trailing byte"),
        (V5, "f0 .. 80 [15 'm']", ProtocolError, 2, "not AUTH's reason"),
    ]);
}

#[test]
fn an_error_says_what_and_where_without_echoing_the_packet() {
    let error = hex::decode(V5, &hex::bytes("30 .. 'secret/+' []")).unwrap_err();
    let text = "topic name is empty or has a wildcard or a NUL, at byte 4 of the packet \
                (MalformedPacket)";
    assert_eq!(error.to_string(), text);
    assert_eq!(error.version, Some(V5));
}
