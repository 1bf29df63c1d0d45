//! The session: whatever a client sends and whatever the driver answers, it does not panic, says
//! nothing after its end, and keeps to the client's receive window and its identifiers.
//!
//! Run: `RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz session`.

#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use gnomon_core::auth::{Identity, Refusal};
use gnomon_core::broker::{Delivery, Published};
use gnomon_core::ids::{Account, ClientId};
use gnomon_core::limits::Limits;
use gnomon_core::message::{Message, Publisher, QoS};
use gnomon_core::packet::{
    Ack, Auth, Connect, Disconnect, Packet, PacketId, Publish, Reason, Subscribe, SubscribeOptions,
    Unsubscribe, Version, Will,
};
use gnomon_core::policy::{Context, Permissions, Policy};
use gnomon_core::session::{Compat, Config, Opened, Output, ProtocolError, Resumable, Session};
use gnomon_core::storage::{Durability, Position};
use gnomon_core::time::{ManualClock, Now, Timestamp};
use gnomon_core::topic::{TopicFilter, TopicName};
use libfuzzer_sys::fuzz_target;
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU16;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Messages and PUBRELs that a client may owe an answer for.
const INFLIGHT_MAX: u16 = 4;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum AckKind {
    PubAck,
    PubRec,
    PubRel,
    PubComp,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Publish { qos: u8, id: u8, topic: u8, alias: Option<u8>, retain: bool, size: u8 },
    Ack { kind: AckKind, id: u8, is_error: bool },
    Subscribe { id: u8, filters: Vec<u8> },
    Unsubscribe { id: u8, filter: u8 },
    Ping,
    Disconnect { reason: u8, expiry_s: Option<u8> },
    Auth { reason: u8, has_method: bool },
    SecondConnect,
    WrongPacket,
    Malformed,
    Deliver { qos: u8, topic: u8, id: u8, dup: bool },
    Durable(u8),
    Pass(u8),
    Stop,
    Lost,
    Challenge,
    Reauthenticated,
    Refused,
    Answer { receivers: bool, durability: u8 },
    AnswerAll,
}

#[derive(Arbitrary, Debug)]
struct Start {
    is_v5: bool,
    is_aws: bool,
    is_durable: bool,
    is_anonymous_id: bool,
    will: Option<u8>,
    expiry_s: u8,
    keep_alive_s: u8,
    window: u8,
    aliases: u8,
    has_method: bool,
    rate: u8,
    released: Vec<u8>,
    incoming: Vec<u8>,
}

static PERMISSIONS: LazyLock<Permissions> = LazyLock::new(|| {
    let text = r#"{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "iot:*", "Resource": "*"},
        {"Effect": "Deny", "Action": "iot:*", "Resource": "*secret*"}]}"#;
    let policy = Policy::parse("P", text, &Account::default()).unwrap();
    Permissions::new([&policy], &Context::default())
});

const TOPICS: [&str; 6] =
    ["a", "a/b", "secret", "$SYS/x", "$aws/things/t/shadow/get", "ä/1/2/3/4/5/6/7/8"];
const FILTERS: [&str; 6] = ["a", "#", "secret", "$share/g/+", "a/+", "1/2/3/4/5/6/7/8/9/#"];
const REASONS: [Reason; 6] = [
    Reason::Success,
    Reason::DisconnectWithWill,
    Reason::ReAuthenticate,
    Reason::ContinueAuthentication,
    Reason::UnspecifiedError,
    Reason::QuotaExceeded,
];

fn topic(n: u8) -> TopicName {
    TopicName::parse(TOPICS[usize::from(n) % TOPICS.len()]).unwrap()
}

fn filter(n: u8) -> TopicFilter {
    TopicFilter::parse(FILTERS[usize::from(n) % FILTERS.len()]).unwrap()
}

fn qos(n: u8) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(n) % 3]
}

fn packet_id(n: u8) -> PacketId {
    PacketId::new(u16::from(n % 8) + 1).unwrap()
}

fn reason(n: u8) -> Reason {
    REASONS[usize::from(n) % REASONS.len()]
}

/// The driver's side: what it still has to answer, and what it may expect.
struct Driver {
    session: Session,
    clock: ManualClock,
    start: Start,
    owed: VecDeque<Output>,
    /// What the client was sent and did not acknowledge.
    inflight: BTreeMap<PacketId, QoS>,
    window: usize,
    is_closed: bool,
    is_connected: bool,
}

impl Driver {
    fn new(start: Start) -> Self {
        let limits = Limits {
            inflight_messages: INFLIGHT_MAX,
            publishes_per_second: u32::from(start.rate % 4),
            payload_bytes: 100,
            ..Limits::default()
        };
        let config = Config {
            limits,
            connect_timeout: Duration::from_secs(10),
            compat: if start.is_aws { Compat::Aws } else { Compat::Mqtt },
            redirect: None,
            metrics: Arc::default(),
            tells_offences: false,
        };
        let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
        let session = Session::new(Arc::new(config), Now::of(&clock));
        let wished = NonZeroU16::new(u16::from(start.window));
        let window = wished.map_or(u16::MAX, NonZeroU16::get).min(INFLIGHT_MAX).into();
        Self {
            session,
            clock,
            start,
            owed: VecDeque::new(),
            inflight: BTreeMap::new(),
            window,
            is_closed: false,
            is_connected: false,
        }
    }

    fn now(&self) -> Now {
        Now::of(&self.clock)
    }

    fn connect(&self) -> Packet {
        let start = &self.start;
        let will = start.will.map(|n| {
            Box::new(Will {
                topic: topic(n),
                payload: Bytes::from_static(b"gone"),
                qos: qos(n),
                retain: n & 64 != 0,
                delay_s: u32::from(n),
                properties: None,
            })
        });
        Packet::Connect(Box::new(Connect {
            version: if start.is_v5 { Version::V5 } else { Version::V311 },
            clean_start: !start.is_durable,
            keep_alive_s: start.keep_alive_s.into(),
            client_id: (!start.is_anonymous_id).then(|| ClientId::parse("c").unwrap()),
            username: None,
            password: None,
            will,
            session_expiry_s: start.expiry_s.into(),
            receive_maximum: NonZeroU16::new(start.window.into()),
            maximum_packet_size: None,
            topic_alias_maximum: start.aliases.into(),
            request_response_information: false,
            request_problem_information: true,
            authentication: start.has_method.then(|| ("m".into(), Bytes::new())),
            user_properties: Vec::new(),
        }))
    }

    /// Takes what the session says; what the driver has to answer waits.
    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            assert!(!self.is_closed, "{output:?} behind the end");
            match output {
                Output::Close => {
                    assert!(self.session.is_closed());
                    self.is_closed = true;
                }
                Output::Send(packet) => self.check_sent(&packet),
                Output::Deliver(delivered) => {
                    assert!(self.is_connected, "PUBLISH before CONNACK");
                    assert_eq!(delivered.packet_id.is_some(), delivered.qos > QoS::AtMostOnce);
                    if let Some(id) = delivered.packet_id {
                        let before = self.inflight.insert(id, delivered.qos);
                        assert!(before.is_none(), "{id} is in flight");
                    }
                    assert!(self.inflight.len() <= self.window, "beyond the window");
                }
                Output::Acknowledged(_) => {}
                answered => self.owed.push_back(answered),
            }
        }
        if self.is_closed {
            assert!(!self.session.takes_packets() && self.session.delivery_room() == 0);
            assert!(self.session.poll_timeout().is_none());
        }
    }

    fn check_sent(&mut self, packet: &Packet) {
        match packet {
            Packet::ConnAck(connack) => {
                assert!(!self.is_connected, "a second CONNACK");
                self.is_connected = !connack.reason.is_error();
            }
            Packet::Auth(_) => assert!(self.start.has_method),
            Packet::Disconnect(_) => assert!(self.is_connected && self.start.is_v5),
            _ => assert!(self.is_connected, "{packet:?} before CONNACK"),
        }
    }

    fn packet(&mut self, packet: Packet) {
        if !self.session.takes_packets() {
            return;
        }
        let now = self.now();
        self.session.handle_packet(now, packet);
    }

    fn identity(&self) -> Identity {
        Identity {
            principal: None,
            predecessor: None,
            thing: None,
            is_exclusive: false,
            permissions: PERMISSIONS.clone(),
            payload_schema: None,
            propagated: None,
            disconnect_after: (self.start.rate > 200).then(|| Duration::from_secs(30)),
        }
    }

    fn answer(&mut self, receivers: bool, durability: u8) {
        let Some(owed) = self.owed.pop_front() else { return };
        let now = self.now();
        let durability = match durability % 4 {
            0 => Durability::Done,
            1 => Durability::Refused,
            _ => Durability::At(Position(u64::from(durability))),
        };
        let session = &mut self.session;
        match owed {
            Output::Open(_) | Output::Continue(_) => self.open(now),
            Output::Reauthenticate(_) => {
                let identity = self.identity();
                self.session.handle_reauthenticated(now, identity, Bytes::new());
            }
            Output::Publish { message, packet_id } => {
                let published = Published { receivers: receivers.into(), durability };
                session.handle_published(now, message.qos, packet_id, published);
            }
            Output::Subscribe { packet_id, filters, .. } => {
                let reasons = filters.iter().map(|it| match it {
                    Ok((_, options)) => Reason::from_code(options.qos as u8).unwrap(),
                    Err(reason) => *reason,
                });
                session.handle_subscribed(packet_id, reasons.collect(), durability);
            }
            Output::Unsubscribe(unsubscribe) => {
                let reasons = unsubscribe.filters.iter().map(|_| Reason::Success).collect();
                session.handle_unsubscribed(unsubscribe.packet_id, reasons, durability);
            }
            Output::Released(id) => session.handle_released(id, durability),
            Output::Completed(id) => session.handle_completed(id, durability),
            Output::Send(_)
            | Output::Deliver(_)
            | Output::Acknowledged(_)
            | Output::Offence(_)
            | Output::Close => {
                unreachable!("needs no answer")
            }
        }
    }

    fn open(&mut self, now: Now) {
        let mut released: Vec<_> = self.start.released.iter().map(|id| packet_id(*id)).collect();
        released.dedup();
        released.truncate(self.window);
        released.sort_unstable();
        released.dedup();
        let incoming = self.start.incoming.iter().map(|id| (packet_id(*id), Position(9)));
        let resumed = self
            .start
            .is_durable
            .then(|| Resumable { released: released.clone(), incoming: incoming.collect() });
        let opened = Opened {
            publisher: Arc::new(Publisher {
                client_id: ClientId::parse("c").ok(),
                principal: None,
            }),
            identity: self.identity(),
            resumed,
            is_durable: self.start.is_durable,
            committed: Position(5),
            authentication_data: Bytes::new(),
        };
        if self.start.is_durable {
            self.inflight.extend(released.into_iter().map(|id| (id, QoS::ExactlyOnce)));
        }
        self.session.handle_opened(now, opened);
    }

    fn acknowledge(&mut self, kind: AckKind, id: PacketId, is_error: bool) {
        if !self.session.takes_packets() {
            return;
        }
        let reason = if is_error { Reason::UnspecifiedError } else { Reason::Success };
        let ack = Ack { packet_id: id, reason };
        // What takes a message out of flight: its last acknowledgement. The session is as
        // lenient with PUBACK for QoS 2, so the model must be.
        let before = self.session.delivery_room();
        self.packet(match kind {
            AckKind::PubAck => Packet::PubAck(ack),
            AckKind::PubRec => Packet::PubRec(ack),
            AckKind::PubRel => Packet::PubRel(ack),
            AckKind::PubComp => Packet::PubComp(ack),
        });
        if self.session.delivery_room() > before {
            assert!(self.inflight.remove(&id).is_some(), "room without a message for {id}");
        }
    }

    fn deliver(&mut self, step: (u8, u8, u8, bool)) {
        if self.session.delivery_room() == 0 {
            return;
        }
        let (level, name, id, dup) = step;
        let now = self.now();
        let message =
            Message { qos: qos(level), ..Message::new(topic(name), "x", Arc::default(), now.wall) };
        let mut delivery = Delivery { dup, ..Delivery::new(Arc::new(message), qos(level)) };
        if self.start.is_durable && qos(level) > QoS::AtMostOnce {
            // The log numbers what it keeps, with what is free.
            let id = packet_id(id);
            if self.inflight.contains_key(&id) {
                return;
            }
            delivery.packet_id = Some(id);
        }
        self.session.handle_delivery(now, delivery);
    }

    fn step(&mut self, step: Step) {
        let now = self.now();
        match step {
            Step::Publish { qos: level, id, topic: name, alias, retain, size } => {
                let alias = alias.and_then(|alias| NonZeroU16::new(u16::from(alias % 10)));
                let has_topic = alias.is_none() || size & 1 == 0;
                self.packet(Packet::Publish(Publish {
                    dup: false,
                    qos: qos(level),
                    retain,
                    topic: has_topic.then(|| topic(name)),
                    packet_id: (qos(level) > QoS::AtMostOnce).then(|| packet_id(id)),
                    topic_alias: alias,
                    payload: vec![b'x'; usize::from(size)].into(),
                    properties: None,
                }));
            }
            Step::Ack { kind, id, is_error } => self.acknowledge(kind, packet_id(id), is_error),
            Step::Subscribe { id, filters } => {
                let options = |n| SubscribeOptions { qos: qos(n), ..Default::default() };
                let filters = filters.into_iter().map(|n| (filter(n), options(n))).collect();
                let packet_id = packet_id(id);
                let subscribe = Subscribe { packet_id, subscription_id: None, filters };
                self.packet(Packet::Subscribe(Box::new(subscribe)));
            }
            Step::Unsubscribe { id, filter: n } => {
                let unsubscribe =
                    Unsubscribe { packet_id: packet_id(id), filters: vec![filter(n)] };
                self.packet(Packet::Unsubscribe(Box::new(unsubscribe)));
            }
            Step::Ping => self.packet(Packet::PingReq),
            Step::Disconnect { reason: n, expiry_s } => {
                self.packet(Packet::Disconnect(Box::new(Disconnect {
                    reason: reason(n),
                    session_expiry_s: expiry_s.map(u32::from),
                    reason_string: None,
                })));
            }
            Step::Auth { reason: n, has_method } => {
                let method = has_method.then(|| "m".into());
                self.packet(Packet::Auth(Box::new(Auth { reason: reason(n), method, data: None })));
            }
            Step::SecondConnect => self.packet(self.connect()),
            Step::WrongPacket => self.packet(Packet::PingResp),
            Step::Malformed => {
                let error = ProtocolError { reason: Reason::MalformedPacket, what: "bytes" };
                self.session.handle_protocol_error(now, error);
            }
            Step::Deliver { qos, topic, id, dup } => self.deliver((qos, topic, id, dup)),
            Step::Durable(position) => self.session.handle_durable(Position(position.into())),
            Step::Pass(seconds) => {
                self.clock.advance(Duration::from_secs(seconds.into()));
                self.session.handle_timeout(self.now());
            }
            Step::Stop => self.session.handle_stop(now, Reason::SessionTakenOver),
            Step::Lost => self.session.handle_lost(now),
            // Only where the driver is asked.
            Step::Challenge => {
                if matches!(
                    self.owed.front(),
                    Some(Output::Open(_) | Output::Continue(_) | Output::Reauthenticate(_))
                ) {
                    self.owed.pop_front();
                    self.session.handle_challenged(Bytes::new());
                }
            }
            Step::Reauthenticated => self.session.handle_identity(self.identity()),
            Step::Refused => {
                if matches!(
                    self.owed.front(),
                    Some(Output::Open(_) | Output::Continue(_) | Output::Reauthenticate(_))
                ) {
                    self.owed.pop_front();
                    let refusal = Refusal::NotAuthorized("no".into());
                    self.session.handle_refused(now, &refusal);
                }
            }
            Step::Answer { receivers, durability } => self.answer(receivers, durability),
            Step::AnswerAll => {
                while !self.owed.is_empty() {
                    self.answer(true, 0);
                    self.drain();
                }
            }
        }
        self.drain();
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Unstructured::new(bytes);
    let Ok(start) = Start::arbitrary(&mut input) else { return };
    let mut driver = Driver::new(start);
    driver.packet(driver.connect());
    driver.drain();
    while !input.is_empty()
        && let Ok(step) = Step::arbitrary(&mut input)
    {
        driver.step(step);
    }
    let was_connected = driver.is_connected;
    let ended = driver.session.end(driver.now());
    driver.drain();
    assert!(driver.is_closed);
    assert_eq!(ended.left.is_some(), was_connected);
    if let Some(left) = ended.left {
        assert!(left.unacknowledged.len() + left.resumable.released.len() <= driver.window);
        assert!(left.unacknowledged.iter().all(|it| it.dup && it.packet_id.is_some()));
    }
});
