//! The host, its disk and its devices, moved by hand.
//!
//! In: one call per thing that may happen (`story` decides which). Out: what the checker is told.

use crate::checker::{Checker, MessageId, PublicationId, Sent};
use crate::connection::{Connection, ToDevice};
use crate::device::{Device, Kind, Seen};
use crate::dice::{Dice, Trouble};
use gnomon_core::broker::clients::Clients;
use gnomon_core::broker::log::Committer;
use gnomon_core::broker::queue::QueueBounds;
use gnomon_core::broker::{Broker, Opened};
use gnomon_core::ids::Account;
use gnomon_core::message::QoS;
use gnomon_core::packet::{Connect, Packet, PacketId, Subscribe, SubscribeOptions};
use gnomon_core::policy::{Context, Permissions, Policy};
use gnomon_core::session::Config;
use gnomon_core::storage::{Faults, FaultyJournal, Journal, MemoryDisk, MemoryJournal};
use gnomon_core::time::{Clock, ManualClock, Now, Timestamp};
use gnomon_core::topic::TopicFilter;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Makes the journal over the disk.
pub type Disk = fn(&MemoryDisk) -> Box<dyn Journal>;

/// The journal that keeps its promises.
pub fn honest(disk: &MemoryDisk) -> Box<dyn Journal> {
    Box::new(MemoryJournal::open(disk))
}

pub(super) struct Host {
    broker: Broker,
    committer: Committer,
    pub(super) clients: Clients,
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
    pub(super) taken: Vec<BTreeMap<PacketId, PublicationId>>,
    /// When the device's last connection ended, of those that a crash cannot undo.
    pub(super) left_at: Vec<Instant>,
    pub(super) permissions: Permissions,
    /// Tells what happens.
    is_told: bool,
    /// Never run: a takeover makes a timer that never fires.
    pub(super) runtime: Runtime,
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
            permissions: Permissions::new([&policy], &Context::default()),
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

    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            println!("{}", what());
        }
    }

    pub(super) fn host(&self) -> &Host {
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
