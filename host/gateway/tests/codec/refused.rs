//! Malformed packets and packets that must not be sent: the reason, and where it is found.

use crate::hex;
use gnomon_core::packet::Reason::{
    self, ClientIdNotValid, MalformedPacket, PacketTooLarge, ProtocolError,
};
use gnomon_core::packet::Version::{self, V5, V311};
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
