//! The codec: what it takes from any bytes can be written again and is read as the same.
//!
//! Run: `RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz codec`.

#![no_main]

use gnomon_core::packet::Version;
use gnomon_gateway::codec::Codec;
use libfuzzer_sys::fuzz_target;

#[path = "../../../host/gateway/tests/codec/client.rs"]
mod client;

const PACKET_BYTES_MAX: u32 = 4_096;

/// A codec whose client has connected.
fn connected(version: Version) -> Codec {
    let level = if version == Version::V5 { 5 } else { 4 };
    let mut connect = vec![0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 0];
    if version == Version::V5 {
        connect.push(0);
        connect[1] += 1;
    }
    connect.extend_from_slice(&[0, 1, b'c']);
    let mut codec = Codec::new(PACKET_BYTES_MAX);
    let taken = codec.decode(&connect);
    assert!(matches!(taken, Ok(Some(_))), "{taken:?}");
    codec
}

/// Reads packets until one is refused or bytes are missing.
fn read(mut codec: Codec, mut bytes: &[u8], connected: impl Fn(Version) -> Codec) {
    loop {
        let packet = match codec.decode(bytes) {
            Ok(Some((packet, length))) => {
                assert!(0 < length && length <= bytes.len());
                bytes = &bytes[length..];
                packet
            }
            Ok(None) => return,
            Err(error) => {
                assert!(error.reason.is_error() && error.at <= bytes.len(), "{error:?}");
                return;
            }
        };
        let version = codec.version().expect("known after CONNECT");
        let written = client::encode(version, &packet);
        let again = connected(version).decode(&written);
        assert_eq!(again, Ok(Some((packet, written.len()))), "{written:02x?}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    // Lengths may grow by what has its default and was left out.
    let fresh = |_| Codec::new(u32::MAX);
    match first % 3 {
        0 => {
            // CONNECT alone: a second one is refused.
            let mut codec = Codec::new(PACKET_BYTES_MAX);
            if let Ok(Some((packet, length))) = codec.decode(bytes) {
                let version = codec.version().expect("known after CONNECT");
                let written = client::encode(version, &packet);
                let again = fresh(version).decode(&written);
                assert_eq!(again, Ok(Some((packet, written.len()))), "{written:02x?}");
                read(codec, &bytes[length..], connected);
            }
        }
        1 => read(connected(Version::V311), bytes, connected),
        _ => read(connected(Version::V5), bytes, connected),
    }
});
