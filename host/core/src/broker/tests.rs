//! The index and the clients: matching, overlap, bounds, takeover, resumption, wills.

use super::clients::Clients;
use super::queue::{Queue, QueueBounds};
use super::*;
use crate::ids::Principal;
use crate::message::Publisher;
use crate::metrics::Metrics;
use crate::packet::Reason;
use crate::session::{Left, Resumable};
use crate::time::{Clock, SystemClock, Timestamp};
use std::collections::VecDeque;
use std::time::Duration;

const BOUNDS: QueueBounds = QueueBounds { messages_max: 4, bytes_max: 1_000 };

fn message(topic: &str, qos: QoS) -> Arc<Message> {
    let topic = TopicName::parse(topic).unwrap();
    let mut message = Message::new(topic, "x", Arc::default(), Timestamp::default());
    message.qos = qos;
    Arc::new(message)
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

fn qos1() -> SubscribeOptions {
    SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() }
}

fn queue(id: &str) -> Arc<Queue> {
    Arc::new(Queue::new(ClientId::parse(id).unwrap(), BOUNDS, Arc::default()))
}

fn clients(broker: &Broker) -> Clients {
    Clients::new(broker.clone(), BOUNDS, 2, Arc::new(Metrics::default()))
}

fn publish(broker: &Broker, topic: &str) -> usize {
    broker.publish(&message(topic, QoS::AtLeastOnce), &mut Wakes::default()).receivers
}

#[test]
fn the_index_agrees_with_the_filter_on_every_pair() {
    let levels = ["a", "b", "", "+", "#", "$x"];
    let mut texts: Vec<String> = Vec::new();
    for one in levels {
        texts.push(one.into());
        for two in levels {
            texts.push(format!("{one}/{two}"));
            for three in levels {
                texts.push(format!("{one}/{two}/{three}"));
            }
        }
    }
    let broker = Broker::default();
    let mut receivers = Vec::new();
    for text in &texts {
        if let Ok(filter) = TopicFilter::parse(text) {
            let receiver = broker.register(queue("c"));
            receiver.subscribe(&filter, qos1(), None);
            receivers.push((filter, receiver));
        }
    }
    for text in &texts {
        let Ok(name) = TopicName::parse(text) else { continue };
        let expected = receivers.iter().filter(|(filter, _)| filter.matches(&name)).count();
        assert_eq!(publish(&broker, text), expected, "{text}");
    }
    drop(receivers);
    let index = broker.write();
    assert_eq!(index.sizes(), (1, 0, 0), "nothing is left when all receivers are gone");
}

#[test]
fn overlapping_subscriptions_give_one_copy_with_the_highest_qos() {
    // [MQTT-3.3.4-2]
    let broker = Broker::default();
    let queue = queue("c");
    let receiver = broker.register(queue.clone());
    receiver.subscribe(&filter("a/#"), SubscribeOptions::default(), SubscriptionId::new(1));
    receiver.subscribe(&filter("a/+"), qos1(), SubscriptionId::new(2));
    assert_eq!(publish(&broker, "a/b"), 1);
    let taken = queue.take(10);
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].qos, QoS::AtLeastOnce);
    let mut ids: Vec<u32> = taken[0].subscription_ids.iter().map(|id| id.get()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn an_identical_filter_replaces_the_subscription() {
    // [MQTT-3.8.4-3]
    let broker = Broker::default();
    let queue = queue("c");
    let receiver = broker.register(queue.clone());
    assert!(receiver.subscribe(&filter("a"), qos1(), None));
    assert!(!receiver.subscribe(&filter("a"), SubscribeOptions::default(), None));
    publish(&broker, "a");
    assert_eq!(queue.take(10)[0].qos, QoS::AtMostOnce);
    assert!(receiver.unsubscribe(&filter("a")));
    assert!(!receiver.unsubscribe(&filter("a")));
    assert_eq!(publish(&broker, "a"), 0);
}

#[test]
fn a_cached_route_sees_later_subscriptions() {
    let broker = Broker::default();
    let mut cache = None;
    let message = message("a", QoS::AtMostOnce);
    let mut wakes = Wakes::default();
    assert_eq!(broker.publish_cached(&mut cache, &message, &mut wakes).receivers, 0);
    let receiver = broker.register(queue("c"));
    receiver.subscribe(&filter("+"), qos1(), None);
    assert_eq!(broker.publish_cached(&mut cache, &message, &mut wakes).receivers, 1);
    drop(receiver);
    assert_eq!(broker.publish_cached(&mut cache, &message, &mut wakes).receivers, 0);
}

#[test]
fn no_local_keeps_own_messages_away() {
    let broker = Broker::default();
    let receiver = broker.register(queue("me"));
    receiver.subscribe(&filter("a"), SubscribeOptions { no_local: true, ..qos1() }, None);
    let by = |id: &str| {
        let client_id = Some(ClientId::parse(id).unwrap());
        let publisher = Arc::new(Publisher { client_id, principal: None });
        let topic = TopicName::parse("a").unwrap();
        Arc::new(Message::new(topic, "x", publisher, Timestamp::default()))
    };
    assert_eq!(broker.publish(&by("me"), &mut Wakes::default()).receivers, 0);
    assert_eq!(broker.publish(&by("you"), &mut Wakes::default()).receivers, 1);
}

#[test]
fn a_full_queue_drops_new_messages_and_counts_them() {
    let metrics = Arc::new(Metrics::default());
    let id = ClientId::parse("slow").unwrap();
    let queue = Arc::new(Queue::new(id, BOUNDS, metrics.clone()));
    let broker = Broker::default();
    let receiver = broker.register(queue.clone());
    receiver.subscribe(&filter("#"), qos1(), None);
    for _ in 0..6 {
        publish(&broker, "a");
    }
    assert_eq!(metrics.messages_dropped.get(), 2);
    assert_eq!(queue.take(3).len(), 3);
    publish(&broker, "a");
    assert_eq!(queue.take(9).len(), 2);
}

fn left(session_expiry_s: u32, will: Option<(&str, u64)>) -> Left {
    let will = will.map(|(topic, s)| (message(topic, QoS::AtLeastOnce), Duration::from_secs(s)));
    let unacknowledged = VecDeque::new();
    Left { unacknowledged, resumable: Resumable::default(), session_expiry_s, will }
}

#[tokio::test(start_paused = true)]
async fn a_second_connection_takes_the_session_over() {
    // [MQTT-3.1.4-3]
    let broker = Broker::default();
    let clients = clients(&broker);
    let id = ClientId::parse("c").unwrap();
    let (first, _) = clients.open(&id, None, false).await.unwrap();
    assert_eq!(first.subscribe(&[Ok((filter("a"), qos1()))], None), [Reason::GrantedQoS1]);
    let stopped = async {
        let event = std::future::poll_fn(|cx| first.queue().poll_event(cx, true)).await;
        first.close(SystemClock.now(), left(60, None));
        event
    };
    let (event, opened) = tokio::join!(stopped, clients.open(&id, None, false));
    let (second, resumed) = opened.unwrap();
    assert_eq!(event, super::queue::QueueEvent::Stop(Reason::SessionTakenOver));
    assert!(resumed.is_some());
    assert_eq!(publish(&broker, "a"), 1);
    assert_eq!(second.queue().take(9).len(), 1);
    assert_eq!(clients.connected(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_ends_cannot_be_taken_over() {
    let clients = clients(&Broker::default());
    let id = ClientId::parse("c").unwrap();
    let _first = clients.open(&id, None, false).await.unwrap();
    assert!(clients.open(&id, None, false).await.is_err());
}

#[tokio::test]
async fn a_session_is_kept_for_its_owner_until_it_expires() {
    let broker = Broker::default();
    let clients = clients(&broker);
    let id = ClientId::parse("c").unwrap();
    let (me, you) = (Principal::new("me"), Principal::new("you"));
    let now = SystemClock.now();

    let (client, _) = clients.open(&id, Some(&me), false).await.unwrap();
    client.subscribe(&[Ok((filter("a"), qos1()))], None);
    broker.publish(&message("a", QoS::AtMostOnce), &mut Wakes::default());
    client.close(now, left(60, None));
    publish(&broker, "a");

    clients.expire(now + Duration::from_secs(59));
    let (client, resumed) = clients.open(&id, Some(&me), false).await.unwrap();
    assert!(resumed.is_some());
    assert_eq!(client.queue().take(9).len(), 1, "QoS 1 was kept, QoS 0 was not");
    client.close(now, left(60, None));

    let (client, resumed) = clients.open(&id, Some(&you), false).await.unwrap();
    assert!(resumed.is_none(), "another principal does not get the session");
    assert_eq!(publish(&broker, "a"), 0);
    client.close(now, left(60, None));

    clients.expire(now + Duration::from_secs(61));
    let (_, resumed) = clients.open(&id, Some(&you), false).await.unwrap();
    assert!(resumed.is_none(), "the session has expired");
}

#[tokio::test]
async fn a_will_waits_for_its_delay_and_not_for_a_client_that_is_back() {
    // [MQTT-3.1.3-9]
    let broker = Broker::default();
    let clients = clients(&broker);
    let watcher = queue("watcher");
    let receiver = broker.register(watcher.clone());
    receiver.subscribe(&filter("will"), qos1(), None);
    let id = ClientId::parse("c").unwrap();
    let now = SystemClock.now();
    let open = || clients.open(&id, None, false);

    open().await.unwrap().0.close(now, left(60, Some(("will", 10))));
    clients.expire(now + Duration::from_secs(9));
    assert_eq!(watcher.take(9).len(), 0);
    clients.expire(now + Duration::from_secs(10));
    assert_eq!(watcher.take(9).len(), 1);

    open().await.unwrap().0.close(now, left(60, Some(("will", 10))));
    let (back, _) = open().await.unwrap();
    clients.expire(now + Duration::from_secs(11));
    assert_eq!(watcher.take(9).len(), 0);

    back.close(now, left(0, Some(("will", 0))));
    assert_eq!(watcher.take(9).len(), 1);
}

#[tokio::test]
async fn subscriptions_of_a_session_are_bounded() {
    let clients = clients(&Broker::default());
    let (client, _) = clients.open(&ClientId::parse("c").unwrap(), None, false).await.unwrap();
    let filters = ["a", "b", "c", "a"].map(|text| Ok((filter(text), qos1())));
    assert_eq!(
        client.subscribe(&filters, None),
        [Reason::GrantedQoS1, Reason::GrantedQoS1, Reason::QuotaExceeded, Reason::GrantedQoS1]
    );
    assert_eq!(
        client.unsubscribe(&[filter("a"), filter("x")]),
        [Reason::Success, Reason::NoSubscriptionExisted]
    );
}
