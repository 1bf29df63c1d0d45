//! Good packets, damaged in many ways: nothing panics, nothing is printed, and what is still
//! taken is a packet that can be written again.

use crate::{accepted, client, hex};
use gnomon_core::packet::Version;
use std::process::Command;

/// Enough in a debug build for a few seconds.
const PACKETS: u32 = if cfg!(debug_assertions) { 200_000 } else { 1_000_000 };

#[test]
fn mutated_packets_are_refused_or_can_be_written_again() {
    let corpus = corpus();
    let mut random = Random(0x676e_6f6d_6f6e);
    let mut codecs = [hex::connected(Version::V311), hex::connected(Version::V5)];
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..PACKETS {
        let (version, packet) = &corpus[random.below(corpus.len())];
        let mut packet = packet.clone();
        for _ in 0..=random.below(4) {
            mutate(&mut packet, &mut random);
        }
        if random.below(4) > 0 {
            fix_remaining_length(&mut packet);
        }
        let mut fresh = hex::codec_for(*version, &packet);
        let codec = match packet.first() {
            Some(0x10..=0x1f) => &mut fresh,
            _ => &mut codecs[usize::from(*version == Version::V5)],
        };
        match codec.decode(&packet) {
            Ok(None) => {}
            Ok(Some((decoded, len))) => {
                taken += 1;
                assert!(len <= packet.len(), "{packet:02x?}");
                let version = codec.version().expect("known after CONNECT");
                let again = client::encode(version, &decoded);
                let second = hex::codec_for(version, &again).decode(&again);
                assert_eq!(second, Ok(Some((decoded, again.len()))), "{packet:02x?}");
                if again != packet[..len] {
                    assert!(may_be_written_otherwise(version, &packet[..len]), "{packet:02x?}");
                }
            }
            Err(error) => {
                refused += 1;
                assert!(error.reason as u8 >= 0x80 && error.at <= packet.len(), "{packet:02x?}");
            }
        }
    }
    // Neither side may be a rarity, or the test tests nothing.
    assert!(taken > PACKETS / 20 && refused > PACKETS / 20, "{taken} taken, {refused} refused");
}

/// The table's packets, each with its version.
fn corpus() -> Vec<(Version, Vec<u8>)> {
    let canonical = accepted::CANONICAL.iter().map(|&(version, packet)| (version, packet));
    let other = accepted::OTHER_FORMS.iter().map(|&(version, packet, _)| (version, packet));
    canonical.chain(other).map(|(version, packet)| (version, hex::bytes(packet))).collect()
}

/// The forms of [`accepted::OTHER_FORMS`]: a v5 packet with properties, or with defaults at its end.
fn may_be_written_otherwise(version: Version, packet: &[u8]) -> bool {
    let length = packet[1..].iter().take_while(|&byte| byte & 0x80 != 0).count() + 1;
    let body = &packet[1 + length..];
    version == Version::V5
        && match packet[0] >> 4 {
            // The Property Length; or a will, with properties of its own.
            1 => body[10] != 0 || body[7] & 0x04 != 0,
            3 => {
                let topic = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                let packet_id = if packet[0] & 0x06 == 0 { 0 } else { 2 };
                body[topic + packet_id] != 0
            }
            4..=7 => body.len() > 2,
            8 | 10 => body[2] != 0,
            14 | 15 => !body.is_empty(),
            _ => false,
        }
}

fn mutate(packet: &mut Vec<u8>, random: &mut Random) {
    const INTERESTING: [u8; 16] = [
        0x00, 0x01, 0x02, 0x03, 0x04, 0x0b, 0x10, 0x11, 0x1f, 0x23, 0x26, 0x2b, 0x7f, 0x80, 0xc0,
        0xff,
    ];
    if packet.is_empty() {
        return;
    }
    let at = random.below(packet.len());
    match random.below(7) {
        0 => packet[at] ^= 1 << random.below(8),
        1 => packet[at] = INTERESTING[random.below(INTERESTING.len())],
        2 => packet[at] = packet[at].wrapping_add(1),
        3 => packet[at] = packet[at].wrapping_sub(1),
        4 => packet.insert(at, INTERESTING[random.below(INTERESTING.len())]),
        5 => {
            packet.remove(at);
        }
        _ => {
            let end = at + random.below(packet.len() - at).min(8);
            let part = packet[at..end].to_vec();
            packet.splice(at..at, part);
        }
    }
}

/// Most damage would else be found by the first look at the length.
fn fix_remaining_length(packet: &mut [u8]) {
    if packet.len() >= 2 {
        packet[1] = u8::try_from((packet.len() - 2).min(0x7f)).unwrap();
    }
}

/// A small generator (splitmix64) of its own: the same packets on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

/// mqttbytes prints a line for every v5 UNSUBSCRIBE that it reads: it must never get one. Looked
/// at from outside, because a test cannot read its own stderr.
#[test]
fn no_packet_makes_the_codec_print() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "mutated::mutated_packets_are_refused_or_can_be_written_again"])
        .args(["--nocapture"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "the test was not run: {said}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
