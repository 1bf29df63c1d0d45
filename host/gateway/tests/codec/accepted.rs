//! Packets that must be taken, and what they say.

use crate::hex;
use gnomon_core::message::QoS;
use gnomon_core::packet::{Packet, Version};

#[test]
fn a_publish_shares_its_topic_with_the_one_before() {
    let mut codec = hex::connected(Version::V5);
    let packets = hex::bytes("30 08 'a/b' 00 `hi`");
    let mut topics = Vec::new();
    for _ in 0..2 {
        match codec.decode(&packets).unwrap() {
            Some((Packet::Publish(publish), 10)) => {
                assert_eq!(publish.qos, QoS::AtMostOnce);
                assert_eq!(&publish.payload[..], b"hi");
                topics.push(publish.topic.unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(topics[0].as_str().as_ptr(), topics[1].as_str().as_ptr());
}
