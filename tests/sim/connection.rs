//! The gateway's role: one connection between a device and the host, its wires two queues.

use crate::checker::PublicationId;
use gnomon_core::broker::clients::Client;
use gnomon_core::broker::queue::QueueEvent;
use gnomon_core::message::QoS;
use gnomon_core::packet::{Delivered, Packet, PacketId};
use gnomon_core::session::{Config, Session};
use gnomon_core::time::Now;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Packets that may be on their way to a device before deliveries pause.
const UNSENT_MAX: usize = 40;

/// What is on its way to a device.
#[derive(Debug)]
pub enum ToDevice {
    Packet(Packet),
    Delivered(Delivered),
}

pub struct Connection {
    pub device: usize,
    pub session: Session,
    pub client: Option<Client>,
    pub to_server: VecDeque<Packet>,
    pub to_device: VecDeque<ToDevice>,
    /// The device has gone, which the host need not know.
    pub is_deserted: bool,
    pub is_over: bool,
    /// The client wanted a new session, or the old one's time was over.
    pub may_be_new: bool,
    /// That it was there is durable: the session's expiry counts from its end.
    pub is_kept: bool,
    /// QoS 1 messages of the device that are not acknowledged.
    pub unanswered: BTreeMap<PacketId, PublicationId>,
    /// Subscriptions that are not acknowledged.
    pub subscribing: BTreeMap<PacketId, Vec<(&'static str, QoS)>>,
}

impl Connection {
    pub fn new(device: usize, config: &Arc<Config>, now: Now) -> Self {
        Self {
            device,
            session: Session::new(config.clone(), now),
            client: None,
            to_server: VecDeque::new(),
            to_device: VecDeque::new(),
            is_deserted: false,
            is_over: false,
            may_be_new: false,
            is_kept: false,
            unanswered: BTreeMap::new(),
            subscribing: BTreeMap::new(),
        }
    }

    /// Hands over packets that came with one read, before anything is done for any of them.
    pub fn read(&mut self, now: Now, max: usize) -> bool {
        let mut read = 0;
        while read < max
            && self.session.takes_packets()
            && let Some(packet) = self.to_server.pop_front()
        {
            self.session.handle_packet(now, packet);
            read += 1;
        }
        read > 0
    }

    /// Takes what waits for the client; false when nothing does.
    pub fn poll_queue(&mut self, now: Now, max: usize) -> bool {
        let Some(client) = &mut self.client else { return false };
        let has_room = self.to_device.len() < UNSENT_MAX;
        let room = if has_room { self.session.delivery_room().min(max) } else { 0 };
        let retained = match client.has_retained() && room > 0 && !self.session.is_waiting() {
            true => client.next_retained(room),
            false => None,
        };
        if let Some(retained) = retained {
            for delivery in retained {
                self.session.handle_delivery(now, delivery);
            }
            return true;
        }
        let queue = client.queue();
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(event) = queue.poll_event(&mut context, room > 0) else { return false };
        match event {
            QueueEvent::Stop(reason) => self.session.handle_stop(now, reason),
            QueueEvent::Durable(position) => self.session.handle_durable(position),
            QueueEvent::Deliveries => {
                for delivery in queue.take(room) {
                    self.session.handle_delivery(now, delivery);
                }
            }
            QueueEvent::Tick | QueueEvent::Permissions => {}
        }
        true
    }
}
