//! The protocol, packet by packet, on a clock that stands still unless moved.

use super::*;
use crate::message::Properties;
use crate::payload_schema::{PayloadSchema, SchemaDefinition};
use crate::policy::{Context, Policy};
use crate::time::{ManualClock, Timestamp};
use bytes::Bytes;
use std::num::NonZeroU16;

const EVERYTHING: &str = r#"{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "iot:*", "Resource": "*"},
    {"Effect": "Deny", "Action": ["iot:Publish", "iot:Subscribe", "iot:Receive"],
     "Resource": ["arn:aws:iot:us-east-1:123456789012:topic/secret",
                  "arn:aws:iot:us-east-1:123456789012:topicfilter/secret"]}]}"#;

struct Bench {
    session: Session,
    clock: ManualClock,
    permissions: Permissions,
}

impl Bench {
    fn new() -> Self {
        let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
        let config = Config {
            limits: Limits { inflight_messages: 2, ..Limits::default() },
            connect_timeout: Duration::from_secs(10),
            compat: Compat::Mqtt,
            redirect: None,
            metrics: Arc::default(),
            tells_offences: false,
        };
        Self::with(config, clock)
    }

    fn with(config: Config, clock: ManualClock) -> Self {
        let session = Session::new(Arc::new(config), Now::of(&clock));
        Self { session, clock, permissions: permissions() }
    }

    /// As `new`, on a listener with AWS's rules.
    fn aws() -> Self {
        let bench = Self::new();
        let Config { limits, connect_timeout, .. } = &*bench.session.config;
        let config = Config {
            limits: limits.clone(),
            connect_timeout: *connect_timeout,
            compat: Compat::Aws,
            redirect: None,
            metrics: Arc::default(),
            tells_offences: false,
        };
        Self::with(config, bench.clock)
    }

    /// A client that is connected, its CONNACK taken out.
    fn connected(connect: Connect) -> Self {
        Self::new().connect(connect)
    }

    fn connect(self, connect: Connect) -> Self {
        let mut bench = self;
        bench.packet(Packet::Connect(Box::new(connect)));
        bench.open(None);
        let outputs = bench.outputs();
        assert!(outputs[0].contains("ConnAck"), "{outputs:?}");
        assert!(outputs[0].contains("reason: Success"), "{outputs:?}");
        bench
    }

    fn now(&self) -> Now {
        Now::of(&self.clock)
    }

    fn packet(&mut self, packet: Packet) {
        let now = self.now();
        self.session.handle_packet(now, packet);
    }

    #[track_caller]
    fn open(&mut self, resumed: Option<Resumable>) {
        assert!(matches!(self.session.poll_output(), Some(Output::Open(_))));
        let identity = identity(self.permissions.clone());
        let client_id = ClientId::parse("c").ok();
        let publisher = Publisher { client_id, principal: identity.principal.clone() };
        let now = self.now();
        let authentication_data = Bytes::new();
        let opened = Opened {
            publisher: Arc::new(publisher),
            identity,
            resumed,
            is_durable: true,
            committed: Position(3),
            authentication_data,
        };
        self.session.handle_opened(now, opened);
    }

    fn published(&mut self, qos: QoS, receivers: usize, durability: Durability) {
        let now = self.now();
        let packet_id = (qos > QoS::AtMostOnce).then_some(PacketId::MIN);
        let published = Published { receivers, durability };
        self.session.handle_published(now, qos, packet_id, published);
    }

    fn ack(&mut self, packet: fn(Ack) -> Packet, id: u16, reason: Reason) {
        self.packet(packet(Ack { packet_id: PacketId::new(id).unwrap(), reason }));
    }

    /// All outputs, as text: what a case expects is a part of it.
    fn outputs(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.session.poll_output()).map(|it| format!("{it:?}")).collect()
    }

    #[track_caller]
    fn expect(&mut self, expected: &[&str]) {
        let outputs = self.outputs();
        assert_eq!(outputs.len(), expected.len(), "{outputs:#?}");
        for (output, expected) in outputs.iter().zip(expected) {
            assert!(output.contains(expected), "{expected} is not in {output}");
        }
    }

    fn deliver(&mut self, topic: &str, qos: QoS) {
        let now = self.now();
        self.session.handle_delivery(now, delivery(topic, qos, None, now.wall));
    }
}

fn identity(permissions: Permissions) -> Identity {
    let principal = Some(crate::ids::Principal::new("p"));
    Identity {
        principal,
        predecessor: None,
        thing: None,
        is_exclusive: false,
        permissions,
        payload_schema: None,
        propagated: None,
        disconnect_after: None,
    }
}

fn permissions() -> Permissions {
    let policy = Policy::parse("P", EVERYTHING, &crate::ids::Account::default()).unwrap();
    Permissions::new([&policy], &Context::default())
}

fn connect(version: Version) -> Connect {
    Connect {
        version,
        clean_start: true,
        keep_alive_s: 60,
        client_id: ClientId::parse("c").ok(),
        username: None,
        password: None,
        will: None,
        session_expiry_s: 0,
        receive_maximum: None,
        maximum_packet_size: None,
        topic_alias_maximum: 0,
        request_response_information: false,
        request_problem_information: true,
        authentication: None,
        user_properties: Vec::new(),
    }
}

fn will(topic: &str) -> Option<Box<Will>> {
    Some(Box::new(Will {
        topic: TopicName::parse(topic).unwrap(),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_s: 0,
        properties: None,
    }))
}

fn publish(topic: &str, qos: QoS) -> Publish {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: TopicName::parse(topic).ok(),
        packet_id: (qos > QoS::AtMostOnce).then_some(PacketId::MIN),
        topic_alias: None,
        payload: Bytes::from_static(b"x"),
        properties: None,
    }
}

fn delivery(topic: &str, qos: QoS, expiry_s: Option<u32>, at: Timestamp) -> Delivery {
    let topic = TopicName::parse(topic).unwrap();
    let mut message = Message::new(topic, "x", Arc::default(), at);
    message.qos = qos;
    message.properties = expiry_s
        .map(|expiry_s| Box::new(Properties { expiry_s: Some(expiry_s), ..Default::default() }));
    Delivery::new(Arc::new(message), qos)
}

fn subscribe(filters: &[&str]) -> Packet {
    let filters = filters.iter().map(|text| {
        (
            TopicFilter::parse(text).unwrap(),
            SubscribeOptions { qos: QoS::ExactlyOnce, ..Default::default() },
        )
    });
    Packet::Subscribe(Box::new(Subscribe {
        packet_id: PacketId::MIN,
        subscription_id: None,
        filters: filters.collect(),
    }))
}

#[test]
fn the_first_packet_has_to_be_connect() {
    // [MQTT-3.1.0-1]
    let mut bench = Bench::new();
    bench.packet(Packet::PingReq);
    bench.expect(&["Close"]);
}

#[test]
fn a_second_connect_ends_the_connection() {
    // [MQTT-3.1.0-2]
    let mut bench = Bench::connected(connect(Version::V5));
    bench.packet(Packet::Connect(Box::new(connect(Version::V5))));
    bench.expect(&["Disconnect { reason: ProtocolError", "Close"]);
    bench.packet(Packet::PingReq);
    bench.expect(&[]);
}

#[test]
fn connects_that_cannot_be_served_are_refused_with_their_reason() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut Connect), version: Version, reason: &str) {
        let mut connect = connect(version);
        change(&mut connect);
        let mut bench = Bench::new();
        bench.packet(Packet::Connect(Box::new(connect)));
        if matches!(bench.session.phase, Phase::Opening(_)) {
            bench.open(None);
        }
        bench.expect(&[&format!("reason: {reason}"), "Close"]);
        assert!(bench.session.end(bench.now()).left.is_none(), "nothing was connected");
    }
    // [MQTT-3.1.3-8] of 3.1.1
    let no_id = |it: &mut Connect| (it.client_id, it.clean_start) = (None, false);
    check(no_id, Version::V311, "ClientIdNotValid");
    let long = ClientId::parse(&"x".repeat(129)).ok();
    check(|it| it.client_id = long, Version::V5, "ClientIdNotValid");
    check(|it| it.will = will("$SYS/x"), Version::V5, "TopicNameInvalid");
}

#[test]
fn a_refused_client_is_told_so() {
    let cases = [
        (Refusal::NotAuthenticated("x".into()), "NotAuthorized"),
        (Refusal::NotAuthorized("x".into()), "NotAuthorized"),
        (Refusal::Unavailable("x".into()), "ServerUnavailable"),
    ];
    for (refusal, reason) in cases {
        let mut bench = Bench::new();
        bench.packet(Packet::Connect(Box::new(connect(Version::V311))));
        assert!(!bench.session.takes_packets());
        bench.session.poll_output();
        let now = bench.now();
        bench.session.handle_refused(now, &refusal);
        bench.expect(&[&format!("reason: {reason}"), "Close"]);
    }
}

#[test]
fn a_publish_is_acknowledged_after_the_broker_has_it() {
    // [MQTT-4.3.2-4]
    let mut bench = Bench::connected(connect(Version::V5));
    bench.packet(Packet::Publish(publish("a", QoS::AtLeastOnce)));
    bench.expect(&["Publish { message"]);
    bench.published(QoS::AtLeastOnce, 1, Durability::Done);
    bench.expect(&["PubAck(Ack { packet_id: 1, reason: Success })"]);
    bench.published(QoS::AtLeastOnce, 0, Durability::Done);
    bench.expect(&["NoMatchingSubscribers"]);
    bench.packet(Packet::Publish(publish("a", QoS::AtMostOnce)));
    bench.expect(&["packet_id: None"]);
    bench.published(QoS::AtMostOnce, 0, Durability::Done);
    bench.expect(&[]);
}

#[test]
fn a_denied_publish_ends_3_1_1_and_is_answered_in_5() {
    let mut bench = Bench::connected(connect(Version::V311));
    bench.packet(Packet::Publish(publish("secret", QoS::AtLeastOnce)));
    bench.expect(&["Close"]);
    let mut bench = Bench::connected(connect(Version::V5));
    bench.packet(Packet::Publish(publish("secret", QoS::AtLeastOnce)));
    bench.expect(&["PubAck(Ack { packet_id: 1, reason: NotAuthorized })"]);
    bench.packet(Packet::Publish(publish("secret", QoS::AtMostOnce)));
    bench.expect(&["Disconnect { reason: NotAuthorized", "Close"]);
    // Reserved topics are the host's, whatever a policy says.
    let reserved = || Packet::Publish(publish("$SYS/uptime", QoS::AtLeastOnce));
    let mut bench = Bench::connected(connect(Version::V5));
    bench.packet(reserved());
    bench.expect(&["NotAuthorized"]);
    let mut bench = Bench::connected(connect(Version::V311));
    bench.packet(reserved());
    bench.expect(&["PubAck"]);
    let mut bench = Bench::aws().connect(connect(Version::V311));
    bench.packet(reserved());
    bench.expect(&["Close"]);
}

#[test]
fn publishes_beyond_the_limits_end_the_connection_with_their_reason() {
    #[track_caller]
    fn check(publish: Publish, reason: &str) {
        let mut bench = Bench::connected(connect(Version::V5));
        bench.packet(Packet::Publish(publish));
        bench.expect(&[&format!("Disconnect {{ reason: {reason}"), "Close"]);
    }
    let base = || publish("a", QoS::AtLeastOnce);
    // 7 slashes are allowed, 8 are not.
    assert!(Limits::default().allow_topic("1/2/3/4/5/6/7/8"));
    check(publish("1/2/3/4/5/6/7/8/9", QoS::AtLeastOnce), "TopicNameInvalid");
    check(publish(&"x".repeat(257), QoS::AtLeastOnce), "TopicNameInvalid");
    let payload = Bytes::from(vec![0; 128 * 1024 + 1]);
    check(Publish { payload, ..base() }, "PacketTooLarge");
    let with = |properties| Publish { properties: Some(Box::new(properties)), ..base() };
    let pairs =
        |count| Properties { user: vec![("".into(), "".into()); count], ..Default::default() };
    check(with(pairs(257)), "PacketTooLarge");
    let content_type = Some("x".repeat(257).into());
    check(with(Properties { content_type, ..Default::default() }), "PacketTooLarge");
    let correlation_data = Some(vec![0; 8 * 1024 + 1].into());
    check(with(Properties { correlation_data, ..Default::default() }), "PacketTooLarge");
    assert!(Limits::default().allow_properties(&pairs(256)));
    // [MQTT-3.3.2-8], [MQTT-3.3.2-9], and an alias that was never set.
    check(Publish { topic: None, ..base() }, "ProtocolError");
    check(Publish { topic_alias: NonZeroU16::new(9), ..base() }, "TopicAliasInvalid");
    let topic_alias = NonZeroU16::new(8);
    check(Publish { topic: None, topic_alias, ..base() }, "ProtocolError");
}

#[test]
fn a_topic_alias_stands_for_the_topic_it_was_sent_with_last() {
    let mut bench = Bench::connected(connect(Version::V5));
    let topic_alias = NonZeroU16::new(2);
    for topic in ["a", "b"] {
        bench.packet(Packet::Publish(Publish { topic_alias, ..publish(topic, QoS::AtMostOnce) }));
    }
    let alias_only = Publish { topic: None, topic_alias, ..publish("x", QoS::AtMostOnce) };
    bench.packet(Packet::Publish(alias_only));
    bench.expect(&["topic: \"a\"", "topic: \"b\"", "topic: \"b\""]);
}

#[test]
fn subscriptions_are_checked_one_by_one() {
    let mut bench = Bench::connected(connect(Version::V5));
    bench.packet(subscribe(&["a/+", "secret", "$share/g/a", "1/2/3/4/5/6/7/8/9"]));
    let outputs = bench.outputs();
    let expected = [
        "Ok((\"a/+\", SubscribeOptions { qos: ExactlyOnce",
        "Err(NotAuthorized)",
        "Ok((\"$share/g/a\"",
        "Err(TopicFilterInvalid)",
    ];
    for part in expected {
        assert!(outputs[0].contains(part), "{part} is not in {}", outputs[0]);
    }
    bench.packet(subscribe(&["a"; 9]));
    assert!(bench.outputs()[0].ends_with("Err(QuotaExceeded)] }"));
    let reasons = vec![Reason::GrantedQoS1, Reason::QuotaExceeded, Reason::TopicFilterInvalid];
    bench.session.handle_subscribed(PacketId::new(1).unwrap(), reasons, Durability::Done);
    assert_eq!(bench.session.config.metrics.subscriptions_refused.get(), 2);
}

#[test]
fn deliveries_stay_within_the_window_and_what_is_denied_never_comes() {
    let mut bench = Bench::connected(connect(Version::V5));
    assert_eq!(bench.session.delivery_room(), 2);
    bench.deliver("a", QoS::AtLeastOnce);
    bench.deliver("secret", QoS::AtLeastOnce);
    bench.deliver("a", QoS::AtMostOnce);
    bench.deliver("a", QoS::AtLeastOnce);
    bench.expect(&["packet_id: Some(1)", "packet_id: None", "packet_id: Some(2)"]);
    assert_eq!(bench.session.delivery_room(), 0);
    bench.ack(Packet::PubAck, 1, Reason::Success);
    assert_eq!(bench.session.delivery_room(), 1);
    // An identifier that nobody uses changes nothing.
    bench.packet(Packet::PubAck(Ack { packet_id: PacketId::MAX, reason: Reason::Success }));
    assert_eq!(bench.session.delivery_room(), 1);
    bench.outputs();
    // What waited while the right was withdrawn does not come either.
    bench.session.handle_identity(identity(Permissions::default()));
    bench.deliver("a", QoS::AtLeastOnce);
    bench.expect(&[]);
}

#[test]
fn an_expired_message_is_not_delivered_and_the_rest_of_the_time_is_told() {
    // [MQTT-3.3.2-5], [MQTT-3.3.2-6]
    let mut bench = Bench::connected(connect(Version::V5));
    let at = bench.now().wall;
    bench.clock.advance(Duration::from_secs(4));
    let now = bench.now();
    bench.session.handle_delivery(now, delivery("a", QoS::AtMostOnce, Some(4), at));
    bench.session.handle_delivery(now, delivery("b", QoS::AtMostOnce, Some(10), at));
    bench.expect(&["expiry_s: Some(6)"]);
}

#[test]
fn what_was_not_acknowledged_is_sent_again_with_dup_after_resumption() {
    // [MQTT-4.4.0-1]
    let persistent = Connect { clean_start: false, session_expiry_s: 60, ..connect(Version::V5) };
    let mut bench = Bench::connected(persistent.clone());
    bench.deliver("a", QoS::AtLeastOnce);
    bench.deliver("b", QoS::AtLeastOnce);
    bench.outputs();
    bench.packet(Packet::PubAck(Ack { packet_id: PacketId::MIN, reason: Reason::Success }));
    bench.expect(&["Acknowledged(1)"]);
    let now = bench.now();
    let left = bench.session.end(now).left.unwrap();
    assert_eq!(left.session_expiry_s, 60);
    assert!(left.unacknowledged.iter().all(|delivery| delivery.dup));

    let mut bench = Bench::new();
    bench.packet(Packet::Connect(Box::new(persistent)));
    bench.open(Some(left.resumable));
    bench.expect(&["session_present: true"]);
    for delivery in left.unacknowledged {
        bench.session.handle_delivery(now, delivery);
    }
    bench.expect(&["packet_id: Some(2)"]);
}

#[test]
fn a_will_that_the_policy_denies_is_refused() {
    for (topic, allowed) in [("w", true), ("secret", false)] {
        let connect = Connect { will: will(topic), ..connect(Version::V5) };
        let checked = Session::check_will(&connect, &identity(permissions()));
        assert_eq!(checked.is_ok(), allowed);
    }
}

#[test]
fn keep_alive_ends_a_silent_client_after_one_and_a_half_times() {
    // [MQTT-3.1.2-22]
    let mut bench = Bench::connected(connect(Version::V5));
    bench.clock.advance(Duration::from_secs(89));
    let now = bench.now();
    bench.session.handle_timeout(now);
    bench.expect(&[]);
    bench.packet(Packet::PingReq);
    bench.expect(&["PingResp"]);
    bench.clock.advance(Duration::from_secs(89));
    let now = bench.now();
    bench.session.handle_timeout(now);
    bench.expect(&[]);
    bench.clock.advance(Duration::from_secs(1));
    let now = bench.now();
    bench.session.handle_timeout(now);
    bench.expect(&["Disconnect { reason: KeepAliveTimeout", "Close"]);

    let mut bench = Bench::connected(Connect { keep_alive_s: 0, ..connect(Version::V5) });
    assert_eq!(bench.session.poll_timeout(), None);
    bench.packet(Packet::PingReq);
}

#[test]
fn a_will_is_left_by_every_end_but_a_clean_disconnect() {
    let disconnect = |reason| {
        Packet::Disconnect(Box::new(Disconnect {
            reason,
            session_expiry_s: None,
            reason_string: None,
        }))
    };
    let with_will = || Connect { will: will("w"), ..connect(Version::V5) };
    let cases: [(&str, Option<Packet>, bool); 4] = [
        ("lost", None, true),
        ("clean disconnect", Some(disconnect(Reason::Success)), false),
        ("disconnect with will", Some(disconnect(Reason::DisconnectWithWill)), true),
        ("protocol error", Some(Packet::PingResp), true),
    ];
    for (name, packet, expected) in cases {
        let mut bench = Bench::connected(with_will());
        if let Some(packet) = packet {
            bench.packet(packet);
        }
        let now = bench.now();
        let left = bench.session.end(now).left.unwrap();
        assert_eq!(left.will.is_some(), expected, "{name}");
    }
    // The right to publish it was withdrawn meanwhile.
    let mut bench = Bench::connected(with_will());
    bench.session.handle_identity(identity(Permissions::default()));
    let now = bench.now();
    assert!(bench.session.end(now).left.unwrap().will.is_none());
}

#[test]
fn a_disconnect_cannot_bring_a_session_to_life() {
    // [MQTT-3.14.2-2]
    let mut bench = Bench::connected(connect(Version::V5));
    bench.packet(Packet::Disconnect(Box::new(Disconnect {
        reason: Reason::Success,
        session_expiry_s: Some(10),
        reason_string: None,
    })));
    bench.expect(&["Disconnect { reason: ProtocolError", "Close"]);
}

#[test]
fn answers_wait_until_they_are_durable_and_keep_their_order() {
    // [MQTT-4.6.0-2]
    let mut bench = Bench::connected(connect(Version::V5));
    bench.packet(Packet::Publish(publish("a", QoS::AtLeastOnce)));
    bench.packet(subscribe(&["a"]));
    bench.outputs();
    bench.published(QoS::AtLeastOnce, 1, Durability::At(Position(5)));
    bench.session.handle_subscribed(PacketId::MIN, vec![Reason::Success], Durability::Done);
    bench.expect(&[]);
    assert!(bench.session.is_waiting() && !bench.session.takes_packets(), "two may be under way");
    bench.session.handle_durable(Position(4));
    bench.expect(&[]);
    bench.session.handle_durable(Position(5));
    bench.expect(&["PubAck(", "SubAck("]);
    assert!(bench.session.takes_packets());
    // What was durable before it was asked for goes out at once.
    bench.published(QoS::AtLeastOnce, 1, Durability::At(Position(5)));
    bench.expect(&["PubAck("]);
}

#[test]
fn a_publication_that_the_log_refuses_is_not_acknowledged() {
    let mut bench = Bench::connected(connect(Version::V5));
    bench.packet(Packet::Publish(publish("a", QoS::AtLeastOnce)));
    bench.outputs();
    bench.published(QoS::AtLeastOnce, 0, Durability::Refused);
    bench.expect(&["PubAck(Ack { packet_id: 1, reason: QuotaExceeded })"]);
    bench.packet(Packet::Publish(publish("a", QoS::ExactlyOnce)));
    bench.outputs();
    bench.published(QoS::ExactlyOnce, 0, Durability::Refused);
    bench.expect(&["PubRec(Ack { packet_id: 1, reason: QuotaExceeded })"]);
    // The identifier is free again.
    bench.packet(Packet::Publish(publish("a", QoS::ExactlyOnce)));
    bench.expect(&["Publish {"]);
    let mut bench = Bench::connected(connect(Version::V311));
    bench.packet(Packet::Publish(publish("a", QoS::AtLeastOnce)));
    bench.outputs();
    bench.published(QoS::AtLeastOnce, 0, Durability::Refused);
    bench.expect(&["Close"]);
}

#[test]
fn a_qos_2_message_is_published_once_however_often_it_comes() {
    // [MQTT-4.3.3-10], [MQTT-4.3.3-11]
    let mut bench = Bench::connected(connect(Version::V311));
    let again = || Packet::Publish(Publish { dup: true, ..publish("a", QoS::ExactlyOnce) });
    bench.packet(Packet::Publish(publish("a", QoS::ExactlyOnce)));
    bench.packet(again());
    bench.expect(&["Publish {"]);
    bench.published(QoS::ExactlyOnce, 1, Durability::At(Position(4)));
    bench.packet(again());
    bench.expect(&[]);
    bench.session.handle_durable(Position(4));
    bench.expect(&["PubRec(Ack { packet_id: 1, reason: Success })", "PubRec("]);
    bench.ack(Packet::PubRel, 1, Reason::Success);
    bench.expect(&["Completed(1)"]);
    bench.session.handle_completed(PacketId::MIN, Durability::At(Position(5)));
    bench.expect(&[]);
    bench.session.handle_durable(Position(5));
    bench.expect(&["PubComp(Ack { packet_id: 1, reason: Success })"]);
    bench.ack(Packet::PubRel, 1, Reason::Success);
    bench.expect(&["PubComp(Ack { packet_id: 1, reason: PacketIdNotFound })"]);
    bench.packet(again());
    bench.expect(&["Publish {"]);
}

#[test]
fn a_refusal_that_comes_behind_the_end_changes_nothing() {
    let mut bench = Bench::connected(connect(Version::V5));
    bench.session.handle_lost(bench.now());
    bench.outputs();
    let refusal = Refusal::NotAuthorized("too late".into());
    bench.session.handle_refused(bench.now(), &refusal);
    bench.expect(&[]);
    assert!(bench.session.end(bench.now()).left.is_some(), "will and session are gone");
}

#[test]
fn a_request_on_a_reserved_topic_is_not_retained() {
    let mut bench = Bench::connected(connect(Version::V5));
    for (topic, expected) in
        [("$aws/things/lamp/shadow/get", "retain: false"), ("a", "retain: true")]
    {
        let retained = Publish { retain: true, ..publish(topic, QoS::AtMostOnce) };
        bench.packet(Packet::Publish(retained));
        let outputs = bench.outputs();
        assert!(format!("{outputs:?}").contains(expected), "{topic}: {outputs:?}");
    }
}

#[test]
fn a_qos_2_message_whose_connection_ends_at_once_is_answered_on_the_next() {
    for version in [Version::V311, Version::V5] {
        for (durability, answer) in
            [(Durability::At(Position(3)), "PubRec"), (Durability::Refused, "Publish")]
        {
            let mut bench = Bench::connected(connect(version));
            bench.packet(Packet::Publish(publish("a", QoS::ExactlyOnce)));
            // Taken by the broker while the session has ended already, as when both came with
            // one read; with 3.1.1 a refusal ends it too.
            if durability != Durability::Refused || version == Version::V5 {
                bench.session.handle_lost(bench.now());
            }
            bench.published(QoS::ExactlyOnce, 1, durability);
            let left = bench.session.end(bench.now()).left.unwrap();

            let mut bench = Bench::new();
            bench.packet(Packet::Connect(Box::new(connect(version))));
            bench.open(Some(left.resumable));
            bench.outputs();
            let again = Publish { dup: true, ..publish("a", QoS::ExactlyOnce) };
            bench.packet(Packet::Publish(again));
            bench.expect(&[answer]);
        }
    }
}

#[test]
fn a_qos_2_delivery_holds_its_identifier_until_pubcomp() {
    // [MQTT-4.3.3-5], [MQTT-4.3.3-6]
    let mut bench = Bench::connected(connect(Version::V5));
    bench.deliver("a", QoS::ExactlyOnce);
    bench.deliver("b", QoS::ExactlyOnce);
    bench.expect(&["packet_id: Some(1)", "packet_id: Some(2)"]);
    bench.ack(Packet::PubRec, 1, Reason::Success);
    bench.expect(&["Released(1)"]);
    assert_eq!(bench.session.delivery_room(), 0, "PUBCOMP makes room, not PUBREC");
    bench.session.handle_released(PacketId::MIN, Durability::At(Position(1)));
    bench.session.handle_durable(Position(1));
    bench.expect(&["PubRel(Ack { packet_id: 1, reason: Success })"]);
    // Once more, as after a lost PUBREL; and one that nobody knows.
    bench.ack(Packet::PubRec, 1, Reason::Success);
    bench.ack(Packet::PubRec, 9, Reason::Success);
    bench.expect(&["reason: Success", "PubRel(Ack { packet_id: 9, reason: PacketIdNotFound })"]);
    bench.ack(Packet::PubComp, 1, Reason::Success);
    bench.expect(&["Acknowledged(1)"]);
    // A refusal ends the delivery.
    bench.ack(Packet::PubRec, 2, Reason::NotAuthorized);
    bench.expect(&["Acknowledged(2)"]);
    assert_eq!(bench.session.delivery_room(), 2);
}

#[test]
fn the_handshake_of_qos_2_goes_on_after_resumption() {
    // [MQTT-4.4.0-1]
    let mut bench = Bench::connected(connect(Version::V5));
    bench.deliver("a", QoS::ExactlyOnce);
    bench.ack(Packet::PubRec, 1, Reason::Success);
    bench.packet(Packet::Publish(publish("b", QoS::ExactlyOnce)));
    bench.published(QoS::ExactlyOnce, 1, Durability::At(Position(3)));
    let now = bench.now();
    let left = bench.session.end(now).left.unwrap();
    assert!(left.unacknowledged.is_empty());

    let mut bench = Bench::new();
    bench.packet(Packet::Connect(Box::new(connect(Version::V5))));
    bench.open(Some(left.resumable));
    bench.expect(&["ConnAck", "PubRel(Ack { packet_id: 1, reason: Success })"]);
    bench.packet(Packet::Publish(publish("b", QoS::ExactlyOnce)));
    bench.expect(&["PubRec(Ack { packet_id: 1, reason: Success })"]);
}

#[test]
fn more_under_way_than_the_server_takes_ends_the_connection() {
    // 3.2.2.3.3; two are taken.
    let mut bench = Bench::connected(connect(Version::V5));
    let with = |id, qos| {
        let packet_id = PacketId::new(id);
        Packet::Publish(Publish { packet_id, ..publish("a", qos) })
    };
    bench.packet(with(1, QoS::AtLeastOnce));
    bench.packet(with(2, QoS::ExactlyOnce));
    bench.outputs();
    bench.published(QoS::AtLeastOnce, 1, Durability::Done);
    bench.packet(with(3, QoS::AtLeastOnce));
    bench.expect(&["PubAck(", "Publish {"]);
    bench.packet(with(4, QoS::AtLeastOnce));
    bench.expect(&["Disconnect { reason: ReceiveMaximumExceeded", "Close"]);
}

#[test]
fn a_client_that_takes_topic_aliases_gets_the_first_topics_by_number() {
    // [MQTT-3.3.2-8], 3.1.2.11.5
    let mut bench = Bench::connected(Connect { topic_alias_maximum: 1, ..connect(Version::V5) });
    for topic in ["a", "b", "a"] {
        bench.deliver(topic, QoS::AtMostOnce);
    }
    bench.expect(&[
        "alias: Some(TopicAlias { number: 1, is_new: true })",
        "alias: None",
        "alias: Some(TopicAlias { number: 1, is_new: false })",
    ]);
    // One that was not sent is not known to the client.
    let mut bench = Bench::connected(Connect { topic_alias_maximum: 1, ..connect(Version::V5) });
    bench.deliver("a", QoS::AtLeastOnce);
    let Some(Output::Deliver(delivered)) = bench.session.poll_output() else {
        panic!("no delivery")
    };
    bench.session.handle_undeliverable(&delivered);
    bench.expect(&["Acknowledged(1)"]);
    bench.deliver("a", QoS::AtMostOnce);
    bench.expect(&["is_new: true"]);
}

#[test]
fn enhanced_authentication_goes_back_and_forth_until_the_host_is_content() {
    // MQTT 5.0, 4.12
    let auth = |reason, method: &str, data: &'static str| {
        let (method, data) = (Some(method.into()), Some(Bytes::from_static(data.as_bytes())));
        Packet::Auth(Box::new(Auth { reason, method, data }))
    };
    let authentication = Some(("M".into(), Bytes::from_static(b"1")));
    let connect = Connect { authentication, ..connect(Version::V5) };
    let mut bench = Bench::new();
    bench.packet(Packet::Connect(Box::new(connect.clone())));
    bench.expect(&["Open("]);
    bench.session.handle_challenged(Bytes::from_static(b"2"));
    bench.expect(&["Auth(Auth { reason: ContinueAuthentication, method: Some(\"M\")"]);
    bench.packet(auth(Reason::ContinueAuthentication, "M", "3"));
    bench.expect(&["Continue("]);
    // [MQTT-4.12.0-5], and nothing else before the CONNACK.
    for packet in [auth(Reason::ContinueAuthentication, "other", ""), Packet::PingReq] {
        let mut bench = Bench::new();
        bench.packet(Packet::Connect(Box::new(connect.clone())));
        bench.outputs();
        bench.session.handle_challenged(Bytes::new());
        bench.outputs();
        bench.packet(packet);
        bench.expect(&["ConnAck(ConnAck { session_present: false, reason: ProtocolError", "Close"]);
    }
    // [MQTT-4.12.1-1]: again, on a connection that goes on meanwhile.
    let mut bench = Bench::connected(connect);
    bench.packet(auth(Reason::ReAuthenticate, "M", "4"));
    bench.packet(Packet::PingReq);
    bench.expect(&["Reauthenticate(", "PingResp"]);
    let identity = identity(Permissions::default());
    let now = bench.now();
    bench.session.handle_reauthenticated(now, identity, Bytes::from_static(b"5"));
    bench.expect(&["Auth(Auth { reason: Success"]);
    bench.packet(Packet::Publish(publish("a", QoS::AtLeastOnce)));
    bench.expect(&["NotAuthorized"]);
    // [MQTT-4.12.0-6]
    let mut bench = Bench::connected(super::tests::connect(Version::V5));
    bench.packet(auth(Reason::ReAuthenticate, "M", ""));
    bench.expect(&["Disconnect { reason: ProtocolError", "Close"]);
}

#[test]
fn a_listener_with_the_rules_of_aws_grants_what_aws_grants() {
    // AWS IoT, quotas: keep-alive of 30 to 1,200 s.
    for (wished, granted) in [(0, 1_200), (5, 30), (60, 60), (2_000, 1_200)] {
        let mut bench = Bench::aws();
        let wish = Connect { keep_alive_s: wished, ..connect(Version::V5) };
        bench.packet(Packet::Connect(Box::new(wish)));
        bench.open(None);
        let told = if wished == granted { "None".into() } else { format!("Some({granted})") };
        bench.expect(&[&format!("server_keep_alive_s: {told}")]);
    }
    let mut bench = Bench::aws().connect(connect(Version::V5));
    bench.packet(subscribe(&["a/#"]));
    bench.expect(&["qos: AtLeastOnce, no_local: false, retain_as_published: false, \
                    retain_handling: Always, without_parent: true"]);
    bench.packet(Packet::Publish(publish("a", QoS::ExactlyOnce)));
    bench.expect(&["Disconnect { reason: QoSNotSupported", "Close"]);
}

#[test]
fn a_client_is_told_where_else_to_go() {
    // MQTT 5.0, 4.13
    for (permanent, reason) in [(false, "UseAnotherServer"), (true, "ServerMoved")] {
        let bench = Bench::new();
        let config = Config {
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(10),
            compat: Compat::Mqtt,
            redirect: Some(Redirect { to: "b.example:8883".into(), permanent }),
            metrics: Arc::default(),
            tells_offences: false,
        };
        let mut bench = Bench::with(config, bench.clock);
        bench.packet(Packet::Connect(Box::new(connect(Version::V5))));
        let outputs = bench.outputs();
        assert!(outputs[0].contains(&format!("reason: {reason}")), "{outputs:?}");
        assert!(outputs[0].contains("server_reference: Some(\"b.example:8883\")"), "{outputs:?}");
    }
}

#[test]
fn a_retained_message_needs_a_right_of_its_own() {
    // AWS IoT policy actions: iot:RetainPublish.
    const PUBLISH: &str = r#"{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "iot:Publish", "Resource": "*"}]}"#;
    let mut bench = Bench::connected(connect(Version::V5));
    let policy = Policy::parse("P", PUBLISH, &crate::ids::Account::default()).unwrap();
    let permissions = Permissions::new([&policy], &Context::default());
    bench.session.handle_identity(identity(permissions.clone()));
    let retain = Publish { retain: true, ..publish("a", QoS::AtLeastOnce) };
    bench.packet(Packet::Publish(publish("a", QoS::AtLeastOnce)));
    bench.published(QoS::AtLeastOnce, 1, Durability::Done);
    bench.packet(Packet::Publish(retain));
    bench.expect(&["Publish {", "PubAck(", "NotAuthorized"]);
    let retained = will("w").map(|will| Box::new(Will { retain: true, ..*will }));
    let connect = Connect { will: retained, ..super::tests::connect(Version::V5) };
    Session::check_will(&connect, &identity(permissions)).unwrap_err();
}

/// A session that tells offences.
fn telling(limits: Limits) -> Bench {
    let config = Config {
        limits,
        connect_timeout: Duration::from_secs(10),
        compat: Compat::Mqtt,
        redirect: None,
        metrics: Arc::default(),
        tells_offences: true,
    };
    Bench::with(config, ManualClock::new(Timestamp::from_millis(1_000_000)))
}

/// Kinds of the offences among the outputs.
fn offences(bench: &mut Bench) -> Vec<OffenceKind> {
    let outputs = std::iter::from_fn(|| bench.session.poll_output());
    let offences = outputs.filter_map(|output| match output {
        Output::Offence(offence) => Some(offence),
        _ => None,
    });
    let kind = |offence: Box<Offence>| {
        assert_eq!(offence.offender, Offender::Principal(crate::ids::Principal::new("p")));
        assert_eq!(offence.client_id.as_str(), "c");
        offence.kind
    };
    offences.map(kind).collect()
}

#[test]
fn what_breaks_the_protocol_or_a_limit_is_told() {
    let limits = || Limits { payload_bytes: 3, topic_bytes: 9, ..Limits::default() };
    let large = Publish { payload: Bytes::from_static(b"four"), ..publish("a", QoS::AtMostOnce) };
    for (packet, kind) in [
        (Packet::PingResp, OffenceKind::Malformed),
        (Packet::Connect(Box::new(connect(Version::V5))), OffenceKind::Malformed),
        (Packet::Publish(large), OffenceKind::Limits),
        (Packet::Publish(publish("0123456789", QoS::AtMostOnce)), OffenceKind::Limits),
    ] {
        let mut bench = telling(limits()).connect(connect(Version::V5));
        bench.packet(packet);
        assert_eq!(offences(&mut bench), [kind]);
        assert!(bench.session.is_closed());
    }
    // What the codec refuses.
    let mut bench = telling(limits()).connect(connect(Version::V5));
    let now = bench.now();
    let error = error(Reason::MalformedPacket, "packet identifier is 0");
    bench.session.handle_protocol_error(now, error);
    assert_eq!(offences(&mut bench), [OffenceKind::Malformed]);
    // What a client is only held up by, once in a second.
    let fast = Limits { publishes_per_second: 1, ..limits() };
    let mut bench = telling(fast).connect(connect(Version::V5));
    bench.packet(Packet::Publish(publish("a", QoS::AtMostOnce)));
    bench.packet(Packet::Publish(publish("a", QoS::AtMostOnce)));
    assert_eq!(offences(&mut bench), [OffenceKind::Limits]);
    let mut bench = telling(limits()).connect(connect(Version::V5));
    bench.session.handle_subscribed(
        PacketId::MIN,
        vec![Reason::Success, Reason::QuotaExceeded],
        Durability::Done,
    );
    assert_eq!(offences(&mut bench), [OffenceKind::Limits]);
    assert!(!bench.session.is_closed());
}

#[test]
fn a_stranger_offends_in_nobodys_name() {
    // Whoever claims a client id and was not let in under it.
    let mut bench = telling(Limits::default());
    let now = bench.now();
    bench.session.handle_protocol_error(now, error(Reason::MalformedPacket, "no CONNECT"));
    assert_eq!(offences(&mut bench), []);
    let mut bench = telling(Limits::default());
    bench.packet(Packet::Connect(Box::new(connect(Version::V5))));
    bench.packet(Packet::PingReq);
    assert_eq!(offences(&mut bench), []);
    // Whoever is connected and nobody.
    let mut bench = telling(Limits::default());
    bench.packet(Packet::Connect(Box::new(connect(Version::V5))));
    assert!(matches!(bench.session.poll_output(), Some(Output::Open(_))));
    let opened = Opened {
        publisher: Arc::new(Publisher { client_id: ClientId::parse("c").ok(), principal: None }),
        identity: Identity { principal: None, ..identity(permissions()) },
        resumed: None,
        is_durable: false,
        committed: Position(0),
        authentication_data: Bytes::new(),
    };
    bench.session.handle_opened(now, opened);
    bench.packet(Packet::PingResp);
    assert_eq!(offences(&mut bench), []);
    // Nobody listens.
    let mut bench = Bench::connected(connect(Version::V5));
    bench.packet(Packet::PingResp);
    assert_eq!(offences(&mut bench), []);
}

#[test]
fn a_thing_offends_in_its_own_name() {
    let mut bench = telling(Limits::default()).connect(connect(Version::V5));
    let thing = ThingName::parse("Lamp").ok();
    bench.session.handle_identity(Identity { thing, ..identity(permissions()) });
    bench.packet(Packet::PingResp);
    bench.expect(&["offender: Thing(\"Lamp\"), client_id: \"c\"", "Disconnect", "Close"]);
}

/// May do everything, and is in quarantine.
fn silenced() -> Permissions {
    let silent = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Deny",
        "NotAction": ["iot:Connect", "iot:Subscribe"], "Resource": "*"}]}"#;
    let silent = Policy::parse("Q", silent, &crate::ids::Account::default()).unwrap();
    permissions().and(&silent, &Context::default()).in_quarantine()
}

#[test]
fn a_client_in_quarantine_stays_connected_and_is_silent() {
    for compat in [Compat::Mqtt, Compat::Aws] {
        for (version, answer) in [(Version::V311, "Success"), (Version::V5, "NotAuthorized")] {
            let mut bench = match compat {
                Compat::Mqtt => Bench::new(),
                Compat::Aws => Bench::aws(),
            };
            bench = bench.connect(connect(version));
            bench.session.handle_identity(identity(silenced()));
            // Neither a topic that it might publish to otherwise nor a reserved one ends it.
            for topic in ["a", "$aws/things/c/shadow/update", "$foo"] {
                bench.packet(Packet::Publish(publish(topic, QoS::AtMostOnce)));
                bench.expect(&[]);
                bench.packet(Packet::Publish(publish(topic, QoS::AtLeastOnce)));
                bench.expect(&[&format!("PubAck(Ack {{ packet_id: 1, reason: {answer}")]);
            }
            assert_eq!(bench.session.config.metrics.quarantine_dropped.get(), 6);
            assert_eq!(bench.session.config.metrics.publish_denied.get(), 0);
            // It may subscribe, to no effect.
            bench.packet(subscribe(&["a"]));
            bench.expect(&["Subscribe {"]);
            bench.deliver("a", QoS::AtLeastOnce);
            bench.deliver("a", QoS::AtMostOnce);
            bench.expect(&[]);
            bench.packet(Packet::PingReq);
            bench.expect(&["PingResp"]);
            // When it is lifted, all goes on.
            bench.session.handle_identity(identity(permissions()));
            bench.deliver("a", QoS::AtMostOnce);
            bench.packet(Packet::Publish(publish("a", QoS::AtMostOnce)));
            bench.expect(&["Deliver(", "Publish {"]);
        }
    }
    // QoS 2 as far as its handshake goes.
    let mut bench = Bench::connected(connect(Version::V311));
    bench.session.handle_identity(identity(silenced()));
    bench.packet(Packet::Publish(publish("a", QoS::ExactlyOnce)));
    bench.expect(&["PubRec(Ack { packet_id: 1, reason: Success"]);
    bench.ack(Packet::PubRel, 1, Reason::Success);
    bench.expect(&["Completed(1)"]);
}

#[test]
fn a_client_in_quarantine_may_connect_with_a_will_that_is_withheld() {
    let connect = Connect { will: will("w"), ..connect(Version::V5) };
    assert_eq!(Session::check_will(&connect, &identity(silenced())), Ok(()));
    let mut bench = Bench::connected(connect);
    bench.session.handle_identity(identity(silenced()));
    let now = bench.now();
    assert!(bench.session.end(now).left.unwrap().will.is_none());
}

#[test]
fn offences_in_quarantine_lead_nowhere() {
    let mut bench = telling(Limits::default()).connect(connect(Version::V5));
    bench.session.handle_identity(identity(silenced()));
    bench.packet(Packet::PingResp);
    assert_eq!(offences(&mut bench), []);
    assert!(bench.session.is_closed());
}

#[test]
fn what_the_type_of_the_thing_says_is_added_to_messages() {
    let pair = |name: &str, value: &str| (Arc::<str>::from(name), Arc::<str>::from(value));
    for version in [Version::V311, Version::V5] {
        let mut bench = Bench::connected(connect(version));
        let mut user = |properties: Option<Properties>, propagated: Option<Vec<_>>| {
            let propagated = propagated.map(Arc::new);
            bench.session.handle_identity(Identity { propagated, ..identity(permissions()) });
            let properties = properties.map(Box::new);
            let publish = Publish { properties, ..publish("a", QoS::AtMostOnce) };
            bench.packet(Packet::Publish(publish));
            match bench.session.poll_output() {
                Some(Output::Publish { message, .. }) => message.properties.clone(),
                other => panic!("{other:?} is no publication"),
            }
        };
        let added = vec![pair("site", "hall"), pair("id", "c")];
        assert_eq!(user(None, None), None);
        assert_eq!(user(None, Some(added.clone())).unwrap().user, added);
        // Behind the client's own, which stay.
        let own = vec![pair("site", "mine")];
        let properties =
            Properties { payload_is_utf8: true, user: own.clone(), ..Properties::default() };
        let properties = user(Some(properties), Some(added.clone())).unwrap();
        assert!(properties.payload_is_utf8);
        assert_eq!(properties.user, [own, added].concat());
    }
}

/// A session of a thing whose type has a schema: payloads are numbers.
fn measuring(version: Version, enforce: bool) -> Bench {
    let schema = SchemaDefinition {
        topic_filter: TopicFilter::parse("+").ok(),
        schema: r#"{"type": "number"}"#.to_owned(),
        enforce,
    };
    let payload_schema = PayloadSchema::compile(&schema).ok().map(Arc::new);
    let mut bench = telling(Limits::default()).connect(connect(version));
    bench.session.handle_identity(Identity { payload_schema, ..identity(permissions()) });
    bench
}

fn saying(topic: &str, qos: QoS, payload: &'static str) -> Packet {
    Packet::Publish(Publish { payload: payload.into(), ..publish(topic, qos) })
}

#[test]
fn a_will_has_to_match_a_schema_that_is_enforced() {
    let with = |enforce, payload: &'static str, retain| {
        let schema = SchemaDefinition {
            topic_filter: None,
            schema: r#"{"type": "number"}"#.to_owned(),
            enforce,
        };
        let payload_schema = PayloadSchema::compile(&schema).ok().map(Arc::new);
        let will = will("w").map(|it| Box::new(Will { payload: payload.into(), retain, ..*it }));
        let connect = Connect { will, ..connect(Version::V5) };
        let identity = Identity { payload_schema, ..identity(permissions()) };
        Session::check_will(&connect, &identity)
    };
    assert_eq!(with(true, "21.5", false), Ok(()));
    assert_eq!(with(false, "warm", false), Ok(()));
    assert_eq!(with(true, "", true), Ok(()), "ends a retained message");
    let problem = with(true, "warm", false).unwrap_err();
    assert!(problem.contains("schema of the thing type: payload is not JSON"), "{problem}");
}

#[test]
fn a_payload_that_does_not_match_is_counted_and_passes_unless_it_is_enforced() {
    let mut bench = measuring(Version::V5, false);
    bench.packet(saying("a", QoS::AtMostOnce, "21.5"));
    bench.expect(&["Publish {"]);
    for payload in ["warm", "\"21.5\"", ""] {
        bench.packet(saying("a", QoS::AtMostOnce, payload));
        bench.expect(&["kind: Schema", "Publish {"]);
    }
    // Neither another topic nor the end of a retained message has to match.
    bench.packet(saying("a/b", QoS::AtMostOnce, "warm"));
    let payload = Bytes::new();
    let clearing = Publish { retain: true, payload, ..publish("a", QoS::AtMostOnce) };
    bench.packet(Packet::Publish(clearing));
    bench.expect(&["Publish {", "Publish {"]);
    assert_eq!(bench.session.config.metrics.payloads_mismatched.get(), 3);

    for (version, reason) in [(Version::V311, "Success"), (Version::V5, "PayloadFormatInvalid")] {
        let mut bench = measuring(version, true);
        bench.packet(saying("a", QoS::AtMostOnce, "warm"));
        bench.expect(&["kind: Schema"]);
        bench.packet(saying("a", QoS::AtLeastOnce, "warm"));
        bench.expect(&[
            "what: \"payload is not JSON\"",
            &format!("PubAck(Ack {{ packet_id: 1, reason: {reason}"),
        ]);
        bench.packet(saying("a", QoS::ExactlyOnce, "warm"));
        bench.expect(&["kind: Schema", &format!("PubRec(Ack {{ packet_id: 1, reason: {reason}")]);
        bench.packet(saying("a", QoS::AtMostOnce, "21.5"));
        bench.expect(&["Publish {"]);
    }
}
