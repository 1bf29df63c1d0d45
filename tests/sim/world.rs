//! The host, its disk and its devices, moved by hand.
//!
//! In: one call per thing that may happen (`story` decides which). Out: what the checker is told.

use crate::checker::{Checker, MessageId, PublicationId, Sent};
use crate::connection::{Connection, ToDevice};
use crate::device::{Device, Kind, Seen};
use crate::dice::{Dice, Trouble};
use crate::topics;
use gnomon_core::auth::Identity;
use gnomon_core::broker::clients::{Clients, Opening};
use gnomon_core::broker::log::{Committer, Event};
use gnomon_core::broker::queue::QueueBounds;
use gnomon_core::broker::{Broker, Opened, Published, Wakes};
use gnomon_core::ids::Account;
use gnomon_core::message::{Message, Publisher, QoS};
use gnomon_core::metrics::Metrics;
use gnomon_core::packet::{Connect, Packet, PacketId, Subscribe, SubscribeOptions};
use gnomon_core::policy::{Context, Permissions, Policy};
use gnomon_core::session::{Config, Opened as SessionOpened, Output, will_message};
use gnomon_core::storage::{Durability, Faults, FaultyJournal, Journal, MemoryDisk, MemoryJournal};
use gnomon_core::time::{Clock, ManualClock, Now, Timestamp};
use gnomon_core::topic::TopicFilter;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Makes the journal over the disk.
pub type Disk = fn(&MemoryDisk) -> Box<dyn Journal>;

/// The journal that keeps its promises.
pub fn honest(disk: &MemoryDisk) -> Box<dyn Journal> {
    Box::new(MemoryJournal::open(disk))
}

struct Host {
    broker: Broker,
    committer: Committer,
    clients: Clients,
}

/// How often what is worth simulating happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Happened {
    pub crashes: usize,
    pub failed_commits: usize,
    pub takeovers: usize,
}

pub struct World {
    pub dice: Dice,
    pub devices: Vec<Device>,
    pub connections: Vec<Connection>,
    pub checker: Checker,
    pub happened: Happened,
    pub config: Arc<Config>,
    trouble: Arc<Trouble>,
    faults: Faults,
    disk: MemoryDisk,
    open_journal: Disk,
    bounds: QueueBounds,
    clock: ManualClock,
    /// `None` only while it is started again.
    host: Option<Host>,
    /// Publications of QoS 2, by device and identifier.
    taken: Vec<BTreeMap<PacketId, PublicationId>>,
    /// When the device's last connection ended, of those that a crash cannot undo.
    left_at: Vec<Instant>,
    permissions: Arc<Permissions>,
    /// Tells what happens.
    is_told: bool,
    /// Never run: a takeover makes a timer that never fires.
    runtime: Runtime,
}

impl World {
    pub fn new(
        seed: u64,
        config: Config,
        bounds: QueueBounds,
        devices: Vec<Device>,
        fault_rate: u8,
        open_journal: Disk,
    ) -> Self {
        let trouble = Trouble::new(seed);
        let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
        let everything = r#"{"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}"#;
        let policy = Policy::parse("P", everything, &Account::default()).unwrap();
        let mut world = Self {
            dice: Dice::new(seed ^ 0x5eed),
            checker: Checker::new(devices.len()),
            connections: Vec::new(),
            happened: Happened::default(),
            config: Arc::new(config),
            faults: Faults::at_random(trouble.clone(), fault_rate),
            trouble,
            disk: MemoryDisk::default(),
            open_journal,
            bounds,
            host: None,
            taken: devices.iter().map(|_| BTreeMap::new()).collect(),
            left_at: vec![clock.now(); devices.len()],
            clock,
            devices,
            is_told: false,
            permissions: Arc::new(Permissions::new([&policy], &Context::default())),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap(),
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let journal = FaultyJournal::new((self.open_journal)(&self.disk), self.faults.clone());
        let metrics = self.config.metrics.clone();
        let opened = Broker::open(Box::new(journal), &self.config.limits, metrics.clone());
        let Opened { broker, committer, recovered } = opened.unwrap();
        let clients = Clients::new(broker.clone(), self.bounds, 50, metrics);
        clients.restore(recovered, self.now()).unwrap();
        self.host = Some(Host { broker, committer, clients });
    }

    /// Prints from now on what happens.
    pub fn tell(&mut self) {
        self.is_told = true;
    }

    fn note(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            println!("{}", what());
        }
    }

    fn host(&self) -> &Host {
        self.host.as_ref().expect("it runs but while it is started again")
    }

    pub fn now(&self) -> Now {
        Now::of(&self.clock)
    }

    /// Everything in memory goes; the host is started again.
    pub fn crash(&mut self) {
        self.happened.crashes += 1;
        self.note(|| "crash".into());
        let now = self.clock.now();
        for connection in std::mem::take(&mut self.connections) {
            if connection.is_kept {
                self.left_at[connection.device] = now;
            }
            self.devices[connection.device].disconnected();
        }
        for device in 0..self.devices.len() {
            if self.devices[device].kind == Kind::Clean {
                self.checker.ended(device);
            }
        }
        self.host = None;
        self.start();
        let broker = self.host().broker.clone();
        self.checker.crashed(&broker);
    }

    /// One attempt of the committer; false when it has nothing to do.
    pub fn commit(&mut self) -> bool {
        let host = self.host.as_mut().expect("it runs");
        let committed = host.committer.commit_waiting();
        let position = host.broker.log().committed();
        self.note(|| format!("commit {committed:?} {position:?}"));
        match committed {
            Ok(true) => true,
            Ok(false) => {
                self.checker.all_durable();
                for connection in self.connections.iter_mut().filter(|it| it.client.is_some()) {
                    if self.devices[connection.device].kind != Kind::Clean {
                        self.checker.session_promised(connection.device);
                        connection.is_kept = true;
                    }
                }
                false
            }
            Err(_) => {
                self.happened.failed_commits += 1;
                true
            }
        }
    }

    pub fn end_trouble(&self) {
        self.trouble.end();
    }

    /// Time passes.
    pub fn advance(&mut self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.note(|| format!("{seconds} s pass"));
        let now = self.now();
        self.host().clients.expire(now);
        self.host().broker.expire(now.wall);
    }

    pub fn check_retained(&mut self) {
        let broker = self.host().broker.clone();
        self.checker.check_retained(&broker, false);
    }

    /// Records that the disk keeps.
    pub fn records(&self) -> usize {
        MemoryJournal::open(&self.disk).records(0, usize::MAX).unwrap().len()
    }

    /// A device begins a connection.
    pub fn connect(&mut self, device: usize, connect: Connect) {
        let mut connection = Connection::new(device, &self.config, self.now());
        connection.to_server.push_back(Packet::Connect(Box::new(connect)));
        self.connections.push(connection);
        self.devices[device].is_online = true;
    }

    /// The connection that the device uses.
    pub fn connection_of(&mut self, device: usize) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|it| it.device == device && !it.is_deserted && !it.is_over)
    }

    /// The host reads from a connection.
    pub fn read(&mut self, at: usize, max: usize) -> bool {
        let now = self.now();
        let did = self.connections[at].read(now, max);
        self.run(at);
        did
    }

    /// The host looks after a client's queue.
    pub fn poll_queue(&mut self, at: usize, max: usize) -> bool {
        let now = self.now();
        let did = self.connections[at].poll_queue(now, max);
        self.run(at);
        did
    }

    /// The host notices that a connection is gone.
    pub fn lose(&mut self, at: usize) {
        let now = self.now();
        self.note(|| format!("{} is lost", self.connections[at].device));
        self.connections[at].session.handle_lost(now);
        self.run(at);
    }

    /// A device takes what is on its way to it.
    pub fn receive(&mut self, at: usize, max: usize) -> bool {
        let device = self.connections[at].device;
        for n in 0..max {
            let Some(next) = self.connections[at].to_device.pop_front() else { return n > 0 };
            self.note(|| format!("device {device} gets {next:?}"));
            let seen = match next {
                ToDevice::Packet(packet) => self.devices[device].handle_packet(&packet),
                ToDevice::Delivered(delivered) => self.devices[device].handle_delivered(delivered),
            };
            match seen {
                Seen::Nothing => {}
                Seen::Message(delivered) => self.checker.received(device, &delivered),
                Seen::Connected => crate::story::send_again(self, device),
            }
        }
        true
    }

    /// Does what the session says, as the gateway does.
    fn run(&mut self, at: usize) {
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
        filters: &[Result<(TopicFilter, SubscribeOptions), gnomon_core::packet::Reason>],
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
                    connection.is_kept = true;
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
        let mut context = std::task::Context::from_waker(Waker::noop());
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
        let opened = SessionOpened {
            client_id: client_id.clone(),
            identity: Identity {
                principal: None,
                thing: None,
                permissions: self.permissions.clone(),
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

    /// Forgets connections that are over.
    pub fn sweep(&mut self) {
        self.connections.retain(|it| !it.is_over);
    }
}

/// A SUBSCRIBE to one filter.
pub fn subscribe(packet_id: PacketId, filter: &str, qos: QoS) -> Packet {
    let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
    let filters = vec![(TopicFilter::parse(filter).unwrap(), options)];
    Packet::Subscribe(Box::new(Subscribe { packet_id, subscription_id: None, filters }))
}

/// A message as the checker knows it.
pub fn sent(publisher: usize, topic: &'static str, qos: QoS, id: MessageId) -> Sent {
    Sent {
        publisher,
        topic,
        qos,
        retain: false,
        payload: id.to_string().into(),
        expires: false,
        is_will: false,
    }
}
