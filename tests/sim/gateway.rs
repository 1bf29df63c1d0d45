//! Driving sessions as the gateway does, and telling the checker of it.
//!
//! In: a connection whose session has something to say. Out: calls to broker and clients, packets
//! on their way. Not here: when (`world`).

use crate::checker::MessageId;
use crate::connection::{Connection, ToDevice};
use crate::device::Kind;
use crate::topics;
use crate::world::World;
use gnomon_core::auth::Identity;
use gnomon_core::broker::clients::Opening;
use gnomon_core::broker::log::Event;
use gnomon_core::broker::{Published, Wakes};
use gnomon_core::message::{Message, Publisher, QoS};
use gnomon_core::metrics::Metrics;
use gnomon_core::packet::{Connect, Packet, PacketId, Reason, SubscribeOptions};
use gnomon_core::session::{Opened, Output, will_message};
use gnomon_core::storage::Durability;
use gnomon_core::topic::TopicFilter;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

impl World {
    /// Does what the session says, as the gateway does.
    pub(super) fn run(&mut self, at: usize) {
        let now = self.now();
        let mut wakes = Wakes::default();
        while let Some(output) = self.connections[at].session.poll_output() {
            self.note(|| format!("host, {}: {output:?}", self.connections[at].device));
            match output {
                Output::Send(packet) => self.send(at, packet),
                Output::Deliver(delivered) => {
                    let connection = &mut self.connections[at];
                    self.checker.sent(connection.device, &delivered);
                    connection.to_device.push_back(ToDevice::Delivered(delivered));
                }
                Output::Open(connect) => self.open(at, &connect),
                Output::Publish { message, packet_id } => {
                    let published = self.publish(at, &message, packet_id, &mut wakes);
                    let session = &mut self.connections[at].session;
                    session.handle_published(now, message.qos, packet_id, published);
                }
                Output::Subscribe { packet_id, subscription_id, filters } => {
                    self.note_wishes(at, packet_id, &filters);
                    let Connection { client, session, .. } = &mut self.connections[at];
                    let Some(client) = client else { continue };
                    let (reasons, durability) =
                        client.subscribe(&filters, subscription_id, now.wall);
                    session.handle_subscribed(packet_id, reasons, durability);
                }
                Output::Unsubscribe(unsubscribe) => {
                    let connection = &mut self.connections[at];
                    for filter in &unsubscribe.filters {
                        self.checker.unsubscribed(connection.device, filter.as_str());
                        for wishes in connection.subscribing.values_mut() {
                            wishes.retain(|(wish, _)| *wish != filter.as_str());
                        }
                    }
                    let Some(client) = &mut connection.client else { continue };
                    let (reasons, durability) = client.unsubscribe(&unsubscribe.filters, now.wall);
                    let packet_id = unsubscribe.packet_id;
                    connection.session.handle_unsubscribed(packet_id, reasons, durability);
                }
                progress => self.progress(at, &progress),
            }
        }
        if self.connections[at].session.is_closed() {
            self.leave(at);
        }
    }

    fn progress(&mut self, at: usize, progress: &Output) {
        let Connection { client, session, device, .. } = &mut self.connections[at];
        let Some(client) = client else { return };
        match *progress {
            Output::Acknowledged(id) => {
                self.checker.acknowledged(*device, id);
                client.happened(Event::Acknowledged, id);
            }
            Output::Released(id) => {
                let durability = client.happened(Event::Released, id);
                session.handle_released(id, durability);
            }
            Output::Completed(id) => {
                let durability = client.happened(Event::Completed, id);
                session.handle_completed(id, durability);
            }
            _ => {}
        }
    }

    fn note_wishes(
        &mut self,
        at: usize,
        packet_id: PacketId,
        filters: &[Result<(TopicFilter, SubscribeOptions), Reason>],
    ) {
        let connection = &mut self.connections[at];
        let known = topics::FILTERS.iter().chain(topics::SHARED);
        let wishes =
            filters.iter().filter_map(|it| it.as_ref().ok()).filter_map(|(it, options)| {
                known
                    .clone()
                    .find(|known| **known == it.as_str())
                    .map(|known| (*known, options.qos))
            });
        let wishes: Vec<_> = wishes.collect();
        for (filter, _) in &wishes {
            self.checker.wished(connection.device, filter);
        }
        connection.subscribing.insert(packet_id, wishes);
    }

    /// Counters that tell whether a bound took something of a message.
    fn bounds_met(&self) -> u64 {
        let Metrics { messages_dropped, log_refused, .. } = &*self.config.metrics;
        messages_dropped.get() + log_refused.get()
    }

    fn publish(
        &mut self,
        at: usize,
        message: &Arc<Message>,
        packet_id: Option<PacketId>,
        wakes: &mut Wakes,
    ) -> Published {
        let device = self.connections[at].device;
        let of_packet = packet_id.and_then(|packet_id| {
            let outgoing = &self.devices[device].outgoing;
            outgoing.iter().find(|it| it.packet_id == packet_id).map(|it| it.message)
        });
        let text = std::str::from_utf8(&message.payload).ok();
        let id = of_packet.or_else(|| text.and_then(|text| text.parse::<MessageId>().ok()));
        let id = id.expect("every message is a device's");
        let met = self.bounds_met();
        let refused = self.config.metrics.retained_refused.get();
        let connection = &mut self.connections[at];
        let client = connection.client.as_mut().expect("who publishes is connected");
        let published = client.publish(message, packet_id, wakes);
        let is_complete = self.bounds_met() == met;
        let is_retained = self.config.metrics.retained_refused.get() == refused;
        let publication = self.checker.published(id, published, is_complete, is_retained);
        if let Some(packet_id) = packet_id {
            match message.qos {
                QoS::ExactlyOnce => self.taken[device].insert(packet_id, publication),
                _ => self.connections[at].unanswered.insert(packet_id, publication),
            };
        }
        published
    }

    /// A packet goes out: it may be a promise.
    fn send(&mut self, at: usize, packet: Packet) {
        let connection = &mut self.connections[at];
        let device = connection.device;
        let is_durable = self.devices[device].kind != Kind::Clean;
        match &packet {
            Packet::ConnAck(connack) => {
                let may_be_new = connection.may_be_new;
                if self.checker.connected(device, connack.session_present, may_be_new) {
                    self.devices[device].forget();
                    self.taken[device].clear();
                }
            }
            Packet::PubAck(ack) => {
                if let Some(publication) = connection.unanswered.remove(&ack.packet_id)
                    && !ack.reason.is_error()
                {
                    self.checker.promised(publication);
                }
            }
            Packet::PubRec(ack) if !ack.reason.is_error() => {
                let publication = self.taken[device].get(&ack.packet_id);
                self.checker.promised(*publication.expect("it was published"));
                if is_durable {
                    self.checker.session_promised(device);
                }
            }
            Packet::SubAck(suback) => {
                let wishes = connection.subscribing.remove(&suback.packet_id);
                connection.is_kept |= is_durable;
                for (filter, qos) in wishes.into_iter().flatten() {
                    self.checker.subscribed(device, filter, qos, is_durable);
                }
            }
            _ => {}
        }
        connection.to_device.push_back(ToDevice::Packet(packet));
    }

    /// CONNECT came: the client takes its id, from an earlier connection if need be.
    fn open(&mut self, at: usize, connect: &Connect) {
        let device = self.connections[at].device;
        let client_id = self.devices[device].id.clone();
        let expiry_s = connect.session_expiry_s.min(self.config.limits.session_expiry_s);
        let now = self.now();
        let publisher = Publisher { client_id: Some(client_id.clone()), principal: None };
        let will = connect.will.as_ref().filter(|_| expiry_s > 0).map(|will| {
            let message = will_message(will, Arc::new(publisher), now.wall);
            (will.delay_s.min(expiry_s), Arc::new(message))
        });
        let opening = Opening {
            client_id: &client_id,
            principal: None,
            predecessor: None,
            thing: None,
            ip: Ipv4Addr::LOCALHOST.into(),
            session_identifier: 1,
            clean_start: connect.clean_start,
            session_expiry_s: expiry_s,
            will,
        };
        let clients = self.host().clients.clone();
        let runtime = self.runtime.handle().clone();
        let _guard = runtime.enter();
        let mut future = pin!(clients.open(&opening, now));
        let mut context = Context::from_waker(Waker::noop());
        let (client, resumed) = loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(opened) => break opened.expect("the other connection ends"),
                Poll::Pending if self.end_other(at, device) => {}
                // An earlier session is discarded, which has to be durable.
                Poll::Pending => {
                    self.commit();
                }
            }
        };
        let opened = Opened {
            publisher: client.publisher().clone(),
            identity: Identity {
                principal: None,
                predecessor: None,
                thing: None,
                is_exclusive: false,
                permissions: self.permissions.clone(),
                payload_schema: None,
                propagated: None,
                disconnect_after: None,
            },
            resumed,
            is_durable: client.queue().session().is_some(),
            committed: clients.committed(),
            authentication_data: bytes::Bytes::new(),
        };
        let expiry = Duration::from_secs(self.devices[device].expiry_s.into());
        let is_expired = now.instant >= self.left_at[device] + expiry;
        self.connections[at].may_be_new = connect.clean_start || is_expired;
        self.connections[at].client = Some(client);
        self.connections[at].session.handle_opened(now, opened);
    }

    /// The connection that is taken over is told to stop, and does; false when there is none.
    fn end_other(&mut self, at: usize, device: usize) -> bool {
        let mut connections = self.connections.iter().enumerate();
        let other = connections
            .find(|(other, it)| *other != at && it.device == device && it.client.is_some())
            .map(|(other, _)| other);
        let Some(other) = other else { return false };
        self.happened.takeovers += 1;
        // Retained messages come before the word to stop.
        while !self.connections[other].is_over {
            assert!(self.poll_queue(other, 9), "it was told to stop");
        }
        true
    }

    /// The session has ended: its client id, its will and what is left go to whoever comes.
    fn leave(&mut self, at: usize) {
        let now = self.now();
        let device = self.connections[at].device;
        let ended = self.connections[at].session.end(now);
        if let (Some(client), Some(left)) = (self.connections[at].client.take(), ended.left) {
            let is_kept = left.session_expiry_s > 0 && client.queue().session().is_some();
            let will = left.will.clone().filter(|(delay_s, _)| *delay_s == 0 || !is_kept);
            let met = self.bounds_met();
            client.close(now, ended.reason, left);
            if let Some((_, will)) = will {
                let id = std::str::from_utf8(&will.payload).unwrap().parse().unwrap();
                let published = Published { receivers: 0, durability: Durability::Done };
                self.checker.published(id, published, self.bounds_met() == met, false);
            }
            if self.devices[device].kind == Kind::Clean {
                self.checker.ended(device);
            }
            if self.connections[at].is_kept {
                self.left_at[device] = now.instant;
            }
        }
        if !self.connections[at].is_deserted {
            let on_the_way = self.connections[at].to_device.len();
            let arrives = self.dice.below(on_the_way + 1);
            self.receive(at, arrives);
            self.devices[device].disconnected();
        }
        self.connections[at].is_over = true;
    }
}
