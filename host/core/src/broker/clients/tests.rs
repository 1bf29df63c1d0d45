//! Clients and sessions: takeover, resumption, wills, retained messages, and what a restart keeps.

use super::*;
use crate::broker::log::{Committer, Recipient};
use crate::broker::queue::QueueEvent;
use crate::broker::{Delivery, Opened, Published};
use crate::limits::Limits;
use crate::message::QoS;
use crate::packet::{PacketId, RetainHandling, SubscribeOptions};
use crate::session::Left;
use crate::storage::{Durability, Journal, MemoryDisk, MemoryJournal};
use crate::time::{ManualClock, Timestamp};
use crate::topic::{TopicFilter, TopicName};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::task::Poll;

const BOUNDS: QueueBounds = QueueBounds { messages_max: 8, bytes_max: 1_000 };

/// A broker with its clients, over a journal that outlives it.
pub(super) struct Bed {
    disk: MemoryDisk,
    clock: ManualClock,
    broker: Broker,
    committer: RefCell<Committer>,
    pub(super) clients: Clients,
}

impl Bed {
    pub(super) fn new() -> Self {
        let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
        Self::over(MemoryDisk::default(), clock)
    }

    fn over(disk: MemoryDisk, clock: ManualClock) -> Self {
        let metrics = Arc::new(Metrics::default());
        let journal = Box::new(MemoryJournal::open(&disk));
        let opened = Broker::open(journal, &Limits::default(), metrics.clone());
        let Opened { broker, committer, recovered } = opened.unwrap();
        let clients = Clients::new(broker.clone(), BOUNDS, 2, metrics);
        clients.restore(recovered, Now::of(&clock)).unwrap();
        Self { disk, clock, broker, committer: committer.into(), clients }
    }

    /// The host is killed and started again.
    pub(super) fn restart(self) -> Self {
        Self::over(self.disk, self.clock)
    }

    pub(super) fn now(&self) -> Now {
        Now::of(&self.clock)
    }

    /// Nobody commits what it waits for.
    async fn begin_open(&self, wish: Wish<'_>) -> Result<(Client, Option<Resumable>), OpenError> {
        let client_id = ClientId::parse(wish.id).unwrap();
        let principal = wish.principal.map(Principal::new);
        let predecessor = wish.predecessor.map(Principal::new);
        let thing = wish.thing.map(|name| ThingName::parse(name).unwrap());
        let opening = Opening {
            client_id: &client_id,
            principal: principal.as_ref(),
            predecessor: predecessor.as_ref(),
            thing: thing.as_ref(),
            ip: Ipv4Addr::LOCALHOST.into(),
            session_identifier: 1,
            clean_start: wish.clean_start,
            session_expiry_s: wish.expiry_s,
            will: wish.will.map(|(topic, delay_s)| (delay_s, message(topic, QoS::AtLeastOnce))),
        };
        self.clients.open(&opening, self.now()).await
    }

    pub(super) async fn try_open(
        &self,
        wish: Wish<'_>,
    ) -> Result<(Client, Option<Resumable>), OpenError> {
        let mut open = pin!(self.begin_open(wish));
        if let Poll::Ready(opened) =
            poll_fn(|context| Poll::Ready(open.as_mut().poll(context))).await
        {
            return opened;
        }
        self.committer.borrow_mut().commit_waiting().unwrap();
        open.await
    }

    pub(super) async fn open(&self, id: &str, expiry_s: u32) -> (Client, Option<Resumable>) {
        self.try_open(Wish { id, expiry_s, ..Wish::default() }).await.unwrap()
    }

    pub(super) fn close(&self, client: Client, left: Left) {
        client.close(self.now(), None, left);
    }

    pub(super) fn subscribe(&self, client: &mut Client, texts: &[&str]) -> Vec<Reason> {
        let filters: Vec<_> = texts.iter().map(|text| Ok((filter(text), qos2()))).collect();
        client.subscribe(&filters, None, self.now().wall).0
    }

    pub(super) fn publish(&self, topic: &str, qos: QoS) -> Published {
        self.broker.publish(&message(topic, qos), &mut Wakes::default())
    }

    pub(super) fn commit(&mut self) {
        self.committer.get_mut().commit_waiting().unwrap();
    }

    pub(super) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.clients.expire(self.now());
        self.broker.expire(self.now().wall);
    }
}

#[derive(Default)]
pub(super) struct Wish<'a> {
    pub(super) id: &'a str,
    pub(super) principal: Option<&'a str>,
    pub(super) predecessor: Option<&'a str>,
    pub(super) thing: Option<&'a str>,
    pub(super) clean_start: bool,
    pub(super) expiry_s: u32,
    pub(super) will: Option<(&'a str, u32)>,
}

fn message(topic: &str, qos: QoS) -> Arc<Message> {
    let topic = TopicName::parse(topic).unwrap();
    let received_at = Timestamp::from_millis(1_000_000);
    Arc::new(Message { qos, ..Message::new(topic, "x", Arc::default(), received_at) })
}

fn retained(topic: &str, payload: &'static str) -> Arc<Message> {
    let payload = Bytes::from_static(payload.as_bytes());
    Arc::new(Message { retain: true, payload, ..(*message(topic, QoS::AtLeastOnce)).clone() })
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

fn qos2() -> SubscribeOptions {
    SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() }
}

pub(super) fn left(session_expiry_s: u32) -> Left {
    Left { session_expiry_s, ..Left::default() }
}

pub(super) fn left_with_will(session_expiry_s: u32, topic: &str, delay_s: u32) -> Left {
    Left { will: Some((delay_s, message(topic, QoS::AtLeastOnce))), ..left(session_expiry_s) }
}

pub(super) fn topics(client: &Client) -> Vec<String> {
    client.queue().take(99).iter().map(|it| it.message.topic.to_string()).collect()
}

fn packet_ids(deliveries: &VecDeque<Delivery>) -> Vec<u16> {
    deliveries.iter().map(|it| it.packet_id.map_or(0, PacketId::get)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_second_connection_takes_the_session_over() {
    // [MQTT-3.1.4-3]
    let mut bed = Bed::new();
    let (mut first, _) = bed.open("c", 60).await;
    assert_eq!(bed.subscribe(&mut first, &["a"]), [Reason::GrantedQoS2]);
    let stopped = async {
        let event = std::future::poll_fn(|cx| first.queue().poll_event(cx, true)).await;
        bed.close(first, left(60));
        event
    };
    let (event, (second, resumed)) = tokio::join!(stopped, bed.open("c", 60));
    assert_eq!(event, QueueEvent::Stop(Reason::SessionTakenOver));
    assert!(resumed.is_some());
    assert_eq!(bed.publish("a", QoS::AtLeastOnce).receivers, 1);
    bed.commit();
    assert_eq!(topics(&second), ["a"]);
    assert_eq!((bed.clients.connected(), bed.clients.parked()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_ends_cannot_be_taken_over() {
    let bed = Bed::new();
    let _first = bed.open("c", 0).await;
    assert!(bed.try_open(Wish { id: "c", ..Wish::default() }).await.is_err());
}

#[tokio::test]
async fn a_session_is_kept_for_its_owner_until_it_expires() {
    let mut bed = Bed::new();
    let me = || Wish { id: "c", principal: Some("me"), expiry_s: 60, ..Wish::default() };
    let (mut client, _) = bed.try_open(me()).await.unwrap();
    bed.subscribe(&mut client, &["a"]);
    bed.publish("a", QoS::AtMostOnce);
    bed.close(client, left(60));
    bed.publish("a", QoS::AtLeastOnce);
    bed.commit();

    bed.advance(59);
    let (client, resumed) = bed.try_open(me()).await.unwrap();
    assert!(resumed.is_some());
    assert_eq!(topics(&client).len(), 1, "QoS 1 was kept, QoS 0 was not");
    bed.close(client, left(60));

    let you = || Wish { principal: Some("you"), ..me() };
    let (client, resumed) = bed.try_open(you()).await.unwrap();
    assert!(resumed.is_none(), "another principal does not get the session");
    assert_eq!(bed.publish("a", QoS::AtLeastOnce).receivers, 0);
    bed.close(client, left(60));

    bed.advance(61);
    let (_, resumed) = bed.try_open(you()).await.unwrap();
    assert!(resumed.is_none(), "the session has expired");
}

#[tokio::test]
async fn a_session_is_kept_for_whoever_has_a_renewed_certificate() {
    let mut bed = Bed::new();
    let old = || Wish { id: "c", principal: Some("old"), expiry_s: 60, ..Wish::default() };
    let (mut client, _) = bed.try_open(old()).await.unwrap();
    bed.subscribe(&mut client, &["a"]);
    bed.close(client, left(60));
    bed.publish("a", QoS::AtLeastOnce);
    bed.commit();
    let new = || Wish { principal: Some("new"), predecessor: Some("old"), ..old() };
    let (client, resumed) = bed.try_open(new()).await.unwrap();
    assert!(resumed.is_some());
    assert_eq!(topics(&client), ["a"]);
    bed.close(client, left(60));
    bed.commit();
    let bed = bed.restart();
    let (_, resumed) = bed.try_open(old()).await.unwrap();
    assert!(resumed.is_none(), "it is the new one's from then on");
}

#[tokio::test]
async fn a_session_is_gone_for_good_when_the_client_is_told_so() {
    // [MQTT-3.1.2-4]
    let mut bed = Bed::new();
    let (mut client, _) = bed.open("c", 60).await;
    bed.subscribe(&mut client, &["a"]);
    bed.close(client, left(60));
    bed.commit();
    let clean = || Wish { id: "c", clean_start: true, expiry_s: 60, ..Wish::default() };
    {
        let mut open = pin!(bed.begin_open(clean()));
        let is_told = poll_fn(|cx| Poll::Ready(open.as_mut().poll(cx).is_ready()));
        assert!(!is_told.await, "a crash could bring it back");
    }
    let mut bed = bed.restart();
    {
        let mut open = pin!(bed.begin_open(clean()));
        poll_fn(|cx| Poll::Ready(open.as_mut().poll(cx).is_ready())).await;
    }
    // The client gave up meanwhile.
    bed.commit();
    let bed = bed.restart();
    assert!(bed.open("c", 60).await.1.is_none(), "nor does it leave a session");
    let (_client, resumed) = bed.try_open(clean()).await.unwrap();
    assert!(resumed.is_none());
    let bed = bed.restart();
    assert_eq!(bed.publish("a", QoS::AtLeastOnce).receivers, 0);
}

#[tokio::test]
async fn a_client_is_not_told_that_a_session_is_gone_when_nobody_writes_that_any_more() {
    let bed = Bed::new();
    bed.close(bed.open("c", 60).await.0, left(60));
    let Bed { clients, committer, clock, .. } = bed;
    drop(committer);
    let client_id = ClientId::parse("c").unwrap();
    let opening = Opening {
        client_id: &client_id,
        principal: None,
        predecessor: None,
        thing: None,
        ip: Ipv4Addr::LOCALHOST.into(),
        session_identifier: 1,
        clean_start: true,
        session_expiry_s: 0,
        will: None,
    };
    let refused = clients.open(&opening, Now::of(&clock)).await.err();
    assert_eq!(refused, Some(OpenError::Ending));
}

#[tokio::test]
async fn a_message_that_comes_too_late_for_a_session_goes_to_its_group_or_to_nobody() {
    let mut bed = Bed::new();
    let (mut first, _) = bed.open("1", 60).await;
    bed.subscribe(&mut first, &["$share/g/s", "own"]);
    let (mut second, _) = bed.open("2", 60).await;
    // On its way to the log when the session ends.
    bed.publish("s", QoS::AtLeastOnce);
    bed.publish("own", QoS::AtLeastOnce);
    bed.subscribe(&mut second, &["$share/g/s"]);
    let (queue, session) = (first.queue().clone(), first.queue().session().unwrap());
    bed.close(first, left(0));
    // By a publisher that found its receivers before.
    for share in [Some(filter("$share/g/s")), None] {
        let delivery =
            Delivery { share, ..Delivery::new(message("s", QoS::AtLeastOnce), QoS::AtLeastOnce) };
        assert!(!queue.reserve(&delivery), "whoever asks is told");
        let recipients = vec![Recipient { session, queue: queue.clone(), delivery }];
        bed.broker.log().append(LogEntry { recipients, ..LogEntry::default() });
    }
    bed.commit();
    let taken = second.queue().take(9);
    assert_eq!(packet_ids(&taken), [1, 2]);
    assert!(taken.iter().all(|it| it.message.topic.as_str() == "s"));
    for delivery in &taken {
        second.happened(Event::Acknowledged, delivery.packet_id.unwrap());
    }
    bed.commit();
    let records = MemoryJournal::open(&bed.disk).records(0, 9).unwrap();
    assert!(records.is_empty(), "nothing is kept for a session that is gone");
}

#[tokio::test]
async fn a_session_that_ends_without_a_client_hands_on_what_it_kept() {
    let mut bed = Bed::new();
    let (mut first, _) = bed.open("1", 5).await;
    bed.subscribe(&mut first, &["$share/g/s"]);
    bed.close(first, left(5));
    bed.publish("s", QoS::AtLeastOnce);
    bed.commit();
    // Not as durable, and better than nobody.
    let (mut second, _) = bed.open("2", 0).await;
    bed.subscribe(&mut second, &["$share/g/s"]);
    assert_eq!(topics(&second).len(), 0);
    bed.advance(5);
    assert_eq!(topics(&second), ["s"]);
}

#[tokio::test]
async fn a_will_waits_for_its_delay_and_not_for_a_client_that_is_back() {
    // [MQTT-3.1.3-9]
    let bed = Bed::new();
    let (mut watcher, _) = bed.open("watcher", 0).await;
    bed.subscribe(&mut watcher, &["will"]);

    bed.close(bed.open("c", 60).await.0, left_with_will(60, "will", 10));
    bed.advance(9);
    assert_eq!(topics(&watcher).len(), 0);
    bed.advance(1);
    assert_eq!(topics(&watcher).len(), 1);

    bed.close(bed.open("c", 60).await.0, left_with_will(60, "will", 10));
    let (back, _) = bed.open("c", 60).await;
    bed.advance(11);
    assert_eq!(topics(&watcher).len(), 0);

    bed.close(back, left_with_will(0, "will", 10));
    assert_eq!(topics(&watcher).len(), 1, "the delay ends with the session");
}

#[tokio::test]
async fn subscriptions_of_a_session_are_bounded() {
    let bed = Bed::new();
    let (mut client, _) = bed.open("c", 0).await;
    assert_eq!(
        bed.subscribe(&mut client, &["a", "b", "c", "a"]),
        [Reason::GrantedQoS2, Reason::GrantedQoS2, Reason::QuotaExceeded, Reason::GrantedQoS2]
    );
    let (reasons, _) = client.unsubscribe(&[filter("a"), filter("x")], bed.now().wall);
    assert_eq!(reasons, [Reason::Success, Reason::NoSubscriptionExisted]);
}

#[tokio::test]
async fn what_is_durable_comes_back_after_a_restart_and_nothing_else() {
    let mut bed = Bed::new();
    let (mut durable, _) = bed.open("durable", 600).await;
    bed.subscribe(&mut durable, &["a/#"]);
    let (mut volatile, _) = bed.open("volatile", 0).await;
    bed.subscribe(&mut volatile, &["a/#"]);
    for topic in ["a/1", "a/2", "a/3"] {
        let published = bed.publish(topic, QoS::ExactlyOnce);
        assert!(matches!(published.durability, Durability::At(_)));
    }
    bed.broker.publish(&retained("kept", "r"), &mut Wakes::default());
    assert_eq!(topics(&durable).len(), 0, "only what is durable is handed over");
    bed.commit();
    let sent = durable.queue().take(9);
    assert_eq!(packet_ids(&sent), [1, 2, 3]);
    durable.happened(Event::Acknowledged, sent[0].packet_id.unwrap());
    durable.happened(Event::Released, sent[1].packet_id.unwrap());
    durable.happened(Event::Taken, PacketId::new(7).unwrap());
    bed.commit();
    bed.publish("a/lost", QoS::ExactlyOnce);

    let mut bed = bed.restart();
    let (client, resumed) = bed.open("durable", 600).await;
    let resumed = resumed.unwrap();
    assert_eq!(resumed.released, [PacketId::new(2).unwrap()]);
    assert_eq!(resumed.incoming.into_keys().collect::<Vec<_>>(), [PacketId::new(7).unwrap()]);
    let again = client.queue().take(9);
    assert_eq!(packet_ids(&again), [3]);
    assert!(again[0].dup);
    assert_eq!(again[0].message.topic.as_str(), "a/3");
    assert!(bed.broker.retained(&TopicName::parse("kept").unwrap()).is_some());
    let (_, resumed) = bed.open("volatile", 0).await;
    assert!(resumed.is_none());
    // The subscription is there, and identifiers in use are not given again.
    assert_eq!(bed.publish("a/4", QoS::AtLeastOnce).receivers, 1);
    bed.commit();
    assert_eq!(packet_ids(&client.queue().take(9)), [4]);
}

#[tokio::test]
async fn a_session_that_ended_does_not_come_back() {
    let mut bed = Bed::new();
    let (mut client, _) = bed.open("c", 600).await;
    bed.subscribe(&mut client, &["a"]);
    bed.publish("a", QoS::AtLeastOnce);
    bed.close(client, left(0));
    let (mut parked, _) = bed.open("parked", 5).await;
    bed.subscribe(&mut parked, &["a"]);
    bed.close(parked, left(5));
    bed.commit();
    let bed = bed.restart();
    assert_eq!(bed.publish("a", QoS::AtLeastOnce).receivers, 1);
    assert!(bed.open("c", 600).await.1.is_none());
    bed.advance(5);
    assert_eq!(bed.publish("a", QoS::AtLeastOnce).receivers, 0);
    assert!(bed.open("parked", 600).await.1.is_none());
}

#[tokio::test]
async fn a_will_survives_the_host_and_waits_for_what_is_left_of_its_delay() {
    let mut bed = Bed::new();
    bed.close(bed.open("delayed", 60).await.0, left_with_will(60, "will/delayed", 10));
    let wish = Wish { id: "cut", expiry_s: 60, will: Some(("will/cut", 2)), ..Wish::default() };
    let cut = bed.try_open(wish).await.unwrap();
    bed.commit();
    bed.clock.advance(Duration::from_secs(4));
    // Forgotten, not dropped: a host that is killed drops nothing.
    std::mem::forget(cut);
    let bed = bed.restart();
    let (mut watcher, _) = bed.open("watcher", 0).await;
    bed.subscribe(&mut watcher, &["will/#"]);
    bed.advance(2);
    assert_eq!(topics(&watcher), ["will/cut"], "its connection ended with the host");
    bed.advance(4);
    assert_eq!(topics(&watcher), ["will/delayed"]);
}

#[tokio::test]
async fn retained_messages_come_by_retain_handling_and_in_pages() {
    // [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11]
    let bed = Bed::new();
    for topic in ["r/1", "r/2", "r/3", "other"] {
        bed.broker.publish(&retained(topic, "x"), &mut Wakes::default());
    }
    let (mut client, _) = bed.open("c", 0).await;
    let now = bed.now().wall;
    let mut subscribe = |retain_handling| {
        let options = SubscribeOptions { retain_handling, ..qos2() };
        client.subscribe(&[Ok((filter("r/+"), options))], None, now);
        let mut pages = Vec::new();
        while client.has_retained() {
            pages.push(client.next_retained(2).unwrap());
        }
        pages.iter().flatten().for_each(|it| assert!(it.retain));
        pages.iter().map(Vec::len).filter(|len| *len > 0).collect::<Vec<_>>()
    };
    assert_eq!(subscribe(RetainHandling::IfNew), [2, 1]);
    assert!(subscribe(RetainHandling::IfNew).is_empty());
    assert!(subscribe(RetainHandling::Never).is_empty());
    assert_eq!(subscribe(RetainHandling::Always), [2, 1]);
}

#[tokio::test]
async fn retained_messages_of_a_durable_session_go_through_its_queue_as_there_is_room() {
    let mut bed = Bed::new();
    for n in 0..12 {
        bed.broker.publish(&retained(&format!("r/{n:02}"), "x"), &mut Wakes::default());
    }
    let (mut client, _) = bed.open("c", 60).await;
    bed.subscribe(&mut client, &["r/#"]);
    let mut seen = Vec::new();
    for _ in 0..9 {
        while client.has_retained() && client.next_retained(5).is_some() {}
        bed.commit();
        seen.extend(topics(&client));
    }
    assert_eq!(seen.len(), 12, "eight fit at a time: {seen:?}");
    assert!(!client.has_retained());
}

#[tokio::test]
async fn a_member_that_leaves_hands_on_what_came_by_its_shared_subscription() {
    // MQTT 5.0, 4.8.2
    let mut bed = Bed::new();
    let (mut first, _) = bed.open("1", 60).await;
    bed.subscribe(&mut first, &["$share/g/s"]);
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtLeastOnce] {
        bed.publish("s", qos);
    }
    bed.commit();
    let mut sent = first.queue().take(2);
    sent.iter_mut().for_each(|delivery| delivery.dup = true);
    let (mut second, _) = bed.open("2", 60).await;
    bed.subscribe(&mut second, &["$share/g/s"]);
    let (mut volatile, _) = bed.open("3", 0).await;
    bed.subscribe(&mut volatile, &["$share/g/s"]);
    bed.close(first, Left { unacknowledged: sent, ..left(60) });
    bed.commit();
    let handed = second.queue().take(9);
    assert_eq!(packet_ids(&handed), [1, 2], "both of QoS 1, sent or not");
    assert!(handed.iter().all(|it| !it.dup), "it is new to this client");
    assert_eq!(topics(&volatile).len(), 0, "what is durable stays durable");
    // [MQTT-4.8.2-4]: QoS 2 waits for the client that may have got it, after a restart too.
    let bed = bed.restart();
    let (first, _) = bed.open("1", 60).await;
    assert_eq!(packet_ids(&first.queue().take(9)), [2]);
    let (second, _) = bed.open("2", 60).await;
    assert_eq!(packet_ids(&second.queue().take(9)), [1, 2]);
}

#[tokio::test]
async fn an_administrator_ends_connections_and_sessions() {
    let bed = Bed::new();
    let id = ClientId::parse("c").unwrap();
    assert!(!bed.clients.disconnect(&id, true, true, bed.now()));
    let (mut watcher, _) = bed.open("watcher", 0).await;
    bed.subscribe(&mut watcher, &["will"]);
    for (clean_session, prevent_will) in [(false, false), (true, true)] {
        let (client, _) = bed.open("c", 60).await;
        assert!(bed.clients.disconnect(&id, clean_session, prevent_will, bed.now()));
        let event = std::future::poll_fn(|cx| client.queue().poll_event(cx, true)).await;
        assert_eq!(event, QueueEvent::Stop(Reason::AdministrativeAction));
        bed.close(client, left_with_will(60, "will", 0));
        assert_eq!(bed.clients.parked(), usize::from(!clean_session));
        assert_eq!(topics(&watcher).len(), usize::from(!prevent_will));
    }
    bed.close(bed.open("c", 60).await.0, left(60));
    assert!(!bed.clients.disconnect(&id, false, false, bed.now()), "no connection to end");
    assert!(bed.clients.disconnect(&id, true, false, bed.now()));
    assert_eq!(bed.clients.parked(), 0);
}

#[tokio::test]
async fn life_cycle_events_have_the_payload_of_aws() {
    let bed = Bed::new();
    let (mut watcher, _) = bed.open("watcher", 0).await;
    bed.subscribe(&mut watcher, &["$aws/events/#"]);
    watcher.queue().take(9);
    let mut payloads = Vec::new();
    for _ in 0..2 {
        let wish = Wish { id: "c", principal: Some("p"), ..Wish::default() };
        let (mut client, _) = bed.try_open(wish).await.unwrap();
        bed.subscribe(&mut client, &["a", "b"]);
        client.unsubscribe(&[filter("a"), filter("unknown")], bed.now().wall);
        client.close(bed.now(), Some(Reason::KeepAliveTimeout), left(0));
        for delivery in watcher.queue().take(9) {
            let topic = delivery.message.topic.to_string();
            let json: serde_json::Value =
                serde_json::from_slice(&delivery.message.payload).unwrap();
            payloads.push((topic, json));
        }
    }
    let seen: Vec<_> = payloads.iter().map(|(topic, _)| topic.as_str()).take(4).collect();
    assert_eq!(
        seen,
        [
            "$aws/events/presence/connected/c",
            "$aws/events/subscriptions/subscribed/c",
            "$aws/events/subscriptions/unsubscribed/c",
            "$aws/events/presence/disconnected/c",
        ]
    );
    let session_identifier = "00000000-0000-0000-0000-000000000001";
    assert_eq!(
        payloads[4].1,
        serde_json::json!({
            "clientId": "c",
            "timestamp": 1_000_000,
            "eventType": "connected",
            "sessionIdentifier": session_identifier,
            "principalIdentifier": "p",
            "ipAddress": "127.0.0.1",
            "versionNumber": 1,
        })
    );
    assert_eq!(payloads[1].1["topics"], serde_json::json!(["a", "b"]));
    assert_eq!(payloads[2].1["topics"], serde_json::json!(["a"]));
    assert_eq!(
        payloads[3].1,
        serde_json::json!({
            "clientId": "c",
            "timestamp": 1_000_000,
            "eventType": "disconnected",
            "sessionIdentifier": session_identifier,
            "principalIdentifier": "p",
            "clientInitiatedDisconnect": false,
            "disconnectReason": "MQTT_KEEP_ALIVE_TIMEOUT",
            "versionNumber": 0,
        })
    );
}

#[tokio::test]
async fn life_cycle_events_name_the_thing_of_an_exclusive_principal() {
    let bed = Bed::new();
    let (mut watcher, _) = bed.open("watcher", 0).await;
    bed.subscribe(&mut watcher, &["$aws/events/#"]);
    watcher.queue().take(9);
    let wish = Wish { id: "c", principal: Some("p"), thing: Some("Lamp"), ..Wish::default() };
    let (mut client, _) = bed.try_open(wish).await.unwrap();
    bed.subscribe(&mut client, &["a"]);
    // It has become the one of another, and of none.
    client.set_thing(ThingName::parse("Fan").ok().as_ref());
    bed.subscribe(&mut client, &["b"]);
    client.set_thing(None);
    client.close(bed.now(), None, left(0));
    let things = watcher.queue().take(9).into_iter().map(|delivery| {
        let event: serde_json::Value = serde_json::from_slice(&delivery.message.payload).unwrap();
        event.get("thingName").cloned()
    });
    let expected = ["Lamp", "Lamp", "Fan"].map(|name| Some(name.into()));
    assert_eq!(things.collect::<Vec<_>>(), [&expected[..], &[None]].concat());
}
