//! The protocol, packet by packet, on a clock that stands still unless moved.

use super::*;
use crate::message::Properties;
use crate::policy::{Context, Policy};
use crate::time::{ManualClock, Timestamp};
use bytes::Bytes;

const EVERYTHING: &str = r#"{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "iot:*", "Resource": "*"},
    {"Effect": "Deny", "Action": ["iot:Publish", "iot:Subscribe", "iot:Receive"],
     "Resource": ["arn:aws:iot:us-east-1:123456789012:topic/secret",
                  "arn:aws:iot:us-east-1:123456789012:topicfilter/secret"]}]}"#;

struct Bench {
    session: Session,
    clock: ManualClock,
    permissions: Arc<Permissions>,
}

impl Bench {
    fn new() -> Self {
        let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
        let config = Config {
            limits: Limits { inflight_messages: 2, ..Limits::default() },
            connect_timeout: Duration::from_secs(10),
            metrics: Arc::default(),
        };
        let session = Session::new(Arc::new(config), Now::of(&clock));
        Self { session, clock, permissions: permissions() }
    }

    /// A client that is connected, its CONNACK taken out.
    fn connected(connect: Connect) -> Self {
        let mut bench = Self::new();
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
        let identity = Identity {
            principal: None,
            thing: None,
            permissions: self.permissions.clone(),
            disconnect_after: None,
        };
        let client_id = ClientId::parse("c").unwrap();
        let now = self.now();
        self.session.handle_opened(now, Opened { client_id, identity, resumed, is_durable: true });
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

fn permissions() -> Arc<Permissions> {
    let policy = Policy::parse("P", EVERYTHING, &crate::ids::Account::default()).unwrap();
    Arc::new(Permissions::new([&policy], &Context::default()))
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

fn published(receivers: usize) -> Published {
    Published { receivers, durability: Durability::Done }
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
    // [MQTT-4.12.0-1]
    let scram = || Some(("SCRAM".into(), Bytes::new()));
    check(|it| it.authentication = scram(), Version::V5, "BadAuthenticationMethod");
    check(|it| it.will = will("$SYS/x"), Version::V5, "TopicNameInvalid");
    let retained = will("w").map(|will| Box::new(Will { retain: true, ..*will }));
    check(|it| it.will = retained, Version::V5, "RetainNotSupported");
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
        bench.session.handle_refused(&refusal);
        bench.expect(&[&format!("reason: {reason}"), "Close"]);
    }
}

#[test]
fn a_publish_is_acknowledged_after_the_broker_has_it() {
    // [MQTT-4.3.2-4]
    let mut bench = Bench::connected(connect(Version::V5));
    bench.packet(Packet::Publish(publish("a", QoS::AtLeastOnce)));
    bench.expect(&["Publish { message"]);
    bench.session.handle_published(Some(PacketId::MIN), published(1));
    bench.expect(&["PubAck(Ack { packet_id: 1, reason: Success })"]);
    bench.session.handle_published(Some(PacketId::MIN), published(0));
    bench.expect(&["NoMatchingSubscribers"]);
    bench.packet(Packet::Publish(publish("a", QoS::AtMostOnce)));
    bench.expect(&["packet_id: None"]);
    bench.session.handle_published(None, published(0));
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
    let mut bench = Bench::connected(connect(Version::V5));
    bench.packet(Packet::Publish(publish("$SYS/uptime", QoS::AtLeastOnce)));
    bench.expect(&["NotAuthorized"]);
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
    check(publish("a", QoS::ExactlyOnce), "QoSNotSupported");
    check(Publish { retain: true, ..base() }, "RetainNotSupported");
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
        "Ok((\"a/+\", SubscribeOptions { qos: AtLeastOnce",
        "Err(NotAuthorized)",
        "Err(SharedSubscriptionsNotSupported)",
        "Err(TopicFilterInvalid)",
    ];
    for part in expected {
        assert!(outputs[0].contains(part), "{part} is not in {}", outputs[0]);
    }
    bench.packet(subscribe(&["a"; 9]));
    assert!(bench.outputs()[0].ends_with("Err(QuotaExceeded)] }"));
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
    bench.packet(Packet::PubAck(Ack { packet_id: PacketId::MIN, reason: Reason::Success }));
    assert_eq!(bench.session.delivery_room(), 1);
    // An identifier that nobody uses changes nothing.
    bench.packet(Packet::PubAck(Ack { packet_id: PacketId::MAX, reason: Reason::Success }));
    assert_eq!(bench.session.delivery_room(), 1);
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
        assert_eq!(Session::allows_will(&connect, &permissions()), allowed);
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
    bench.session.handle_permissions(Arc::new(Permissions::default()));
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
