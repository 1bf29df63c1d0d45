//! Packets as a client writes them, in one canonical form; the counterpart of `Codec::decode`.
//!
//! Canonical: what has its default is left out, properties stand in the order of mqttbytes and
//! rumqttc. Written from the standard alone: nothing here is shared with the codec under test.

use gnomon_core::message::{Properties, QoS};
use gnomon_core::packet::{
    Ack, Auth, Connect, Disconnect, Packet, Publish, Reason, RetainHandling, Subscribe,
    Unsubscribe, UserProperties, Version, Will,
};

/// The bytes of a client's packet.
pub fn encode(version: Version, packet: &Packet) -> Vec<u8> {
    match packet {
        Packet::Connect(connect) => whole(0x10, &connect_body(connect)),
        Packet::Publish(publish) => {
            let flags =
                u8::from(publish.dup) << 3 | (publish.qos as u8) << 1 | u8::from(publish.retain);
            whole(0x30 | flags, &publish_body(version, publish))
        }
        Packet::PubAck(ack) => whole(0x40, &ack_body(version, ack)),
        Packet::PubRec(ack) => whole(0x50, &ack_body(version, ack)),
        Packet::PubRel(ack) => whole(0x62, &ack_body(version, ack)),
        Packet::PubComp(ack) => whole(0x70, &ack_body(version, ack)),
        Packet::Subscribe(subscribe) => whole(0x82, &subscribe_body(version, subscribe)),
        Packet::Unsubscribe(unsubscribe) => whole(0xa2, &unsubscribe_body(version, unsubscribe)),
        Packet::PingReq => vec![0xc0, 0],
        Packet::Disconnect(disconnect) => whole(0xe0, &disconnect_body(disconnect)),
        Packet::Auth(auth) => whole(0xf0, &auth_body(auth)),
        other => panic!("no packet of a client: {other:?}"),
    }
}

fn whole(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    varint(body.len(), &mut packet);
    packet.extend_from_slice(body);
    packet
}

fn connect_body(connect: &Connect) -> Vec<u8> {
    let v5 = connect.version == Version::V5;
    let mut body = b"\0\x04MQTT".to_vec();
    body.push(if v5 { 5 } else { 4 });
    let mut flags = u8::from(connect.clean_start) << 1;
    if let Some(will) = &connect.will {
        flags |= 0x04 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
    }
    flags |= u8::from(connect.password.is_some()) << 6;
    flags |= u8::from(connect.username.is_some()) << 7;
    body.push(flags);
    body.extend_from_slice(&connect.keep_alive_s.to_be_bytes());
    if v5 {
        section(&connect_properties(connect), &mut body);
    }
    text(connect.client_id.as_ref().map_or("", |id| id.as_str()), &mut body);
    if let Some(will) = &connect.will {
        if v5 {
            section(&will_properties(will), &mut body);
        }
        text(will.topic.as_str(), &mut body);
        binary(&will.payload, &mut body);
    }
    if let Some(username) = &connect.username {
        text(username, &mut body);
    }
    if let Some(password) = &connect.password {
        binary(password, &mut body);
    }
    body
}

fn connect_properties(connect: &Connect) -> Vec<u8> {
    let mut out = Vec::new();
    if connect.session_expiry_s != 0 {
        u32_property(0x11, connect.session_expiry_s, &mut out);
    }
    if let Some(maximum) = connect.receive_maximum {
        u16_property(0x21, maximum.get(), &mut out);
    }
    if let Some(bytes) = connect.maximum_packet_size {
        u32_property(0x27, bytes, &mut out);
    }
    if connect.topic_alias_maximum != 0 {
        u16_property(0x22, connect.topic_alias_maximum, &mut out);
    }
    if connect.request_response_information {
        out.extend_from_slice(&[0x19, 1]);
    }
    if !connect.request_problem_information {
        out.extend_from_slice(&[0x17, 0]);
    }
    user(&connect.user_properties, &mut out);
    if let Some((method, data)) = &connect.authentication {
        out.push(0x15);
        text(method, &mut out);
        if !data.is_empty() {
            out.push(0x16);
            binary(data, &mut out);
        }
    }
    out
}

fn will_properties(will: &Will) -> Vec<u8> {
    let mut out = Vec::new();
    if will.delay_s != 0 {
        u32_property(0x18, will.delay_s, &mut out);
    }
    let Some(properties) = &will.properties else { return out };
    format_and_expiry(properties, &mut out);
    if let Some(kind) = &properties.content_type {
        out.push(0x03);
        text(kind, &mut out);
    }
    response(properties, &mut out);
    user(&properties.user, &mut out);
    out
}

fn publish_body(version: Version, publish: &Publish) -> Vec<u8> {
    let mut body = Vec::new();
    text(publish.topic.as_ref().map_or("", |topic| topic.as_str()), &mut body);
    if publish.qos != QoS::AtMostOnce {
        body.extend_from_slice(&publish.packet_id.unwrap().get().to_be_bytes());
    }
    if version == Version::V5 {
        let mut out = Vec::new();
        let none = Properties::default();
        let properties = publish.properties.as_deref().unwrap_or(&none);
        format_and_expiry(properties, &mut out);
        if let Some(alias) = publish.topic_alias {
            u16_property(0x23, alias.get(), &mut out);
        }
        response(properties, &mut out);
        user(&properties.user, &mut out);
        if let Some(kind) = &properties.content_type {
            out.push(0x03);
            text(kind, &mut out);
        }
        section(&out, &mut body);
    }
    body.extend_from_slice(&publish.payload);
    body
}

fn ack_body(version: Version, ack: &Ack) -> Vec<u8> {
    let mut body = ack.packet_id.get().to_be_bytes().to_vec();
    if version == Version::V5 && ack.reason != Reason::Success {
        body.push(ack.reason as u8);
    }
    body
}

fn subscribe_body(version: Version, subscribe: &Subscribe) -> Vec<u8> {
    let mut body = subscribe.packet_id.get().to_be_bytes().to_vec();
    if version == Version::V5 {
        let mut out = Vec::new();
        if let Some(id) = subscribe.subscription_id {
            out.push(0x0b);
            varint(id.get() as usize, &mut out);
        }
        section(&out, &mut body);
    }
    for (filter, options) in &subscribe.filters {
        text(filter.as_str(), &mut body);
        let retain_handling = match options.retain_handling {
            RetainHandling::Always => 0,
            RetainHandling::IfNew => 0x10,
            RetainHandling::Never => 0x20,
        };
        body.push(
            options.qos as u8
                | u8::from(options.no_local) << 2
                | u8::from(options.retain_as_published) << 3
                | retain_handling,
        );
    }
    body
}

fn unsubscribe_body(version: Version, unsubscribe: &Unsubscribe) -> Vec<u8> {
    let mut body = unsubscribe.packet_id.get().to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    for filter in &unsubscribe.filters {
        text(filter.as_str(), &mut body);
    }
    body
}

fn disconnect_body(disconnect: &Disconnect) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(seconds) = disconnect.session_expiry_s {
        u32_property(0x11, seconds, &mut out);
    }
    if let Some(reason) = &disconnect.reason_string {
        out.push(0x1f);
        text(reason, &mut out);
    }
    match (disconnect.reason, out.is_empty()) {
        (Reason::Success, true) => Vec::new(),
        (reason, true) => vec![reason as u8],
        (reason, false) => {
            let mut body = vec![reason as u8];
            section(&out, &mut body);
            body
        }
    }
}

fn auth_body(auth: &Auth) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(method) = &auth.method {
        out.push(0x15);
        text(method, &mut out);
    }
    if let Some(data) = &auth.data {
        out.push(0x16);
        binary(data, &mut out);
    }
    let mut body = vec![auth.reason as u8];
    section(&out, &mut body);
    body
}

fn format_and_expiry(properties: &Properties, out: &mut Vec<u8>) {
    if properties.payload_is_utf8 {
        out.extend_from_slice(&[0x01, 1]);
    }
    if let Some(seconds) = properties.expiry_s {
        u32_property(0x02, seconds, out);
    }
}

fn response(properties: &Properties, out: &mut Vec<u8>) {
    if let Some(topic) = &properties.response_topic {
        out.push(0x08);
        text(topic.as_str(), out);
    }
    if let Some(data) = &properties.correlation_data {
        out.push(0x09);
        binary(data, out);
    }
}

fn user(pairs: &UserProperties, out: &mut Vec<u8>) {
    for (key, value) in pairs {
        out.push(0x26);
        text(key, out);
        text(value, out);
    }
}

fn u16_property(identifier: u8, value: u16, out: &mut Vec<u8>) {
    out.push(identifier);
    out.extend_from_slice(&value.to_be_bytes());
}

fn u32_property(identifier: u8, value: u32, out: &mut Vec<u8>) {
    out.push(identifier);
    out.extend_from_slice(&value.to_be_bytes());
}

fn section(properties: &[u8], out: &mut Vec<u8>) {
    varint(properties.len(), out);
    out.extend_from_slice(properties);
}

fn text(text: &str, out: &mut Vec<u8>) {
    binary(text.as_bytes(), out);
}

fn binary(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap().to_be_bytes());
    out.extend_from_slice(bytes);
}

fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(0x80 | u8::try_from(value & 0x7f).unwrap());
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}
