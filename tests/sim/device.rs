//! A client as the standard wants it: what it has under way survives its connections.
//!
//! It acknowledges late, in order. Not here: whether what it gets is right (`checker`).

use crate::checker::MessageId;
use gnomon_core::ids::ClientId;
use gnomon_core::message::QoS;
use gnomon_core::packet::{Ack, Delivered, Packet, PacketId, Reason, Version};
use std::collections::{BTreeSet, VecDeque};

/// What its session is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Outlives its connections, for ever or for some time.
    Durable,
    /// Ends with the connection.
    Clean,
    /// Durable, and subscribes to nothing but a shared subscription.
    Worker,
}

/// A message of the device's that was not acknowledged to the end.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub packet_id: PacketId,
    pub message: MessageId,
    /// PUBREC came.
    pub is_received: bool,
}

pub struct Device {
    pub id: ClientId,
    pub kind: Kind,
    pub version: Version,
    pub expiry_s: u32,
    pub is_online: bool,
    /// CONNACK came.
    pub is_connected: bool,
    pub outgoing: VecDeque<Outgoing>,
    /// QoS 2 messages between PUBLISH and PUBREL.
    received: BTreeSet<PacketId>,
    /// Acknowledgements that it has not sent yet.
    pub owed: VecDeque<Packet>,
    last_packet_id: u16,
}

/// What the device's application sees.
pub enum Seen {
    Nothing,
    Message(Delivered),
    /// The session was resumed or not: time to send again what is under way.
    Connected,
}

impl Device {
    pub fn new(id: &str, kind: Kind, version: Version, expiry_s: u32) -> Self {
        Self {
            id: ClientId::parse(id).unwrap(),
            kind,
            version,
            expiry_s,
            is_online: false,
            is_connected: false,
            outgoing: VecDeque::new(),
            received: BTreeSet::new(),
            owed: VecDeque::new(),
            last_packet_id: 0,
        }
    }

    /// The session is new: nothing of the one before counts.
    pub fn forget(&mut self) {
        self.outgoing.clear();
        self.received.clear();
    }

    pub fn is_idle(&self) -> bool {
        self.outgoing.is_empty() && self.owed.is_empty() && self.received.is_empty()
    }

    /// The connection is over; what is owed will be asked for again.
    pub fn disconnected(&mut self) {
        self.is_online = false;
        self.is_connected = false;
        self.owed.clear();
    }

    pub fn next_packet_id(&mut self) -> PacketId {
        loop {
            // Few, so that they are used again soon.
            self.last_packet_id = self.last_packet_id % 40 + 1;
            let id = PacketId::new(self.last_packet_id).unwrap();
            if self.outgoing.iter().all(|it| it.packet_id != id) {
                return id;
            }
        }
    }

    pub fn handle_packet(&mut self, packet: &Packet) -> Seen {
        match packet {
            Packet::ConnAck(connack) if connack.reason == Reason::Success => {
                self.is_connected = true;
                return Seen::Connected;
            }
            Packet::PubAck(ack) => self.outgoing.retain(|it| it.packet_id != ack.packet_id),
            Packet::PubRec(ack) if ack.reason.is_error() => {
                self.outgoing.retain(|it| it.packet_id != ack.packet_id);
            }
            Packet::PubRec(ack) => {
                let of = self.outgoing.iter_mut().find(|it| it.packet_id == ack.packet_id);
                let known = of.map(|it| it.is_received = true).is_some();
                let reason = if known { Reason::Success } else { Reason::PacketIdNotFound };
                self.owed.push_back(Packet::PubRel(Ack { packet_id: ack.packet_id, reason }));
            }
            Packet::PubComp(ack) => self.outgoing.retain(|it| it.packet_id != ack.packet_id),
            Packet::PubRel(ack) => {
                let known = self.received.remove(&ack.packet_id);
                let reason = if known { Reason::Success } else { Reason::PacketIdNotFound };
                self.owed.push_back(Packet::PubComp(Ack { packet_id: ack.packet_id, reason }));
            }
            _ => {}
        }
        Seen::Nothing
    }

    pub fn handle_delivered(&mut self, delivered: Delivered) -> Seen {
        let Some(packet_id) = delivered.packet_id else { return Seen::Message(delivered) };
        let ack = Ack { packet_id, reason: Reason::Success };
        if delivered.qos == QoS::AtLeastOnce {
            self.owed.push_back(Packet::PubAck(ack));
            return Seen::Message(delivered);
        }
        self.owed.push_back(Packet::PubRec(ack));
        match self.received.insert(packet_id) {
            true => Seen::Message(delivered),
            false => Seen::Nothing,
        }
    }
}
