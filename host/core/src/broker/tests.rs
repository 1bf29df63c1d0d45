//! The index: matching, overlap, bounds. Clients and sessions: `clients::tests`.

use super::queue::{Queue, QueueBounds, QueueConfig};
use super::*;
use crate::message::Publisher;
use crate::metrics::Metrics;
use crate::time::Timestamp;

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
    let config = Arc::new(QueueConfig { bounds: BOUNDS, metrics: Arc::default() });
    Arc::new(Queue::new(ClientId::parse(id).unwrap(), None, config))
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
    let broker = Broker::in_memory();
    let mut receivers = Vec::new();
    for text in &texts {
        if let Ok(filter) = TopicFilter::parse(text) {
            let receiver = broker.register(queue("c"));
            receiver.subscribe(&filter, qos1(), None);
            receivers.push((filter, receiver));
        }
    }
    // Whoever comes and goes leaves nothing.
    let sizes = broker.write().sizes();
    let churn = broker.register(queue("churn"));
    for number in 0..1_000 {
        let filter = filter(&format!("churn/{number}/+/#"));
        churn.subscribe(&filter, qos1(), None);
        assert!(churn.unsubscribe(&filter));
    }
    assert_eq!(broker.write().sizes(), sizes);
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
    let broker = Broker::in_memory();
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
    let broker = Broker::in_memory();
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
    let broker = Broker::in_memory();
    let mut cache = None;
    let message = message("a", QoS::AtMostOnce);
    let mut wakes = Wakes::default();
    assert_eq!(
        broker.publish_cached(&mut cache, &message, Publication::default(), &mut wakes).receivers,
        0
    );
    let receiver = broker.register(queue("c"));
    receiver.subscribe(&filter("+"), qos1(), None);
    assert_eq!(
        broker.publish_cached(&mut cache, &message, Publication::default(), &mut wakes).receivers,
        1
    );
    drop(receiver);
    assert_eq!(
        broker.publish_cached(&mut cache, &message, Publication::default(), &mut wakes).receivers,
        0
    );
}

#[test]
fn no_local_keeps_own_messages_away() {
    let broker = Broker::in_memory();
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
fn beside_no_local_an_own_message_comes_as_the_other_subscriptions_say() {
    let id = |n: u32| Some(SubscriptionId::new(n).unwrap());
    let no_local = SubscribeOptions { no_local: true, ..qos1() };
    let plain = SubscribeOptions::default();
    // Whichever matches first.
    for (first, second) in
        [(("a", no_local, 1), ("+", plain, 2)), (("a", plain, 2), ("+", no_local, 1))]
    {
        let broker = Broker::in_memory();
        let own = queue("me");
        let receiver = broker.register(own.clone());
        for (text, options, number) in [first, second] {
            receiver.subscribe(&filter(text), options, id(number));
        }
        for (publisher, expected) in
            [("me", (QoS::AtMostOnce, vec![2])), ("you", (QoS::AtLeastOnce, vec![1, 2]))]
        {
            let client_id = Some(ClientId::parse(publisher).unwrap());
            let publisher = Arc::new(Publisher { client_id, principal: None });
            let topic = TopicName::parse("a").unwrap();
            let qos = QoS::AtLeastOnce;
            let message =
                Message { qos, ..Message::new(topic, "x", publisher, Timestamp::default()) };
            broker.publish(&Arc::new(message), &mut Wakes::default());
            let delivery = own.take(9).pop_front().unwrap();
            let mut ids: Vec<_> = delivery.subscription_ids.iter().map(|id| id.get()).collect();
            ids.sort_unstable();
            assert_eq!((delivery.qos, ids), expected);
        }
    }
}

#[test]
fn a_full_queue_drops_new_messages_and_counts_them() {
    let metrics = Arc::new(Metrics::default());
    let id = ClientId::parse("slow").unwrap();
    let config = Arc::new(QueueConfig { bounds: BOUNDS, metrics: metrics.clone() });
    let queue = Arc::new(Queue::new(id, None, config));
    let broker = Broker::in_memory();
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

#[test]
fn a_shared_subscription_gives_each_message_to_one_member_in_turn() {
    // MQTT 5.0, 4.8.2; [MQTT-4.8.2-3]
    let broker = Broker::in_memory();
    let queues = [queue("1"), queue("2"), queue("3")];
    let receivers = queues.clone().map(|queue| broker.register(queue));
    for receiver in &receivers {
        receiver.subscribe(&filter("$share/g/a/+"), qos1(), None);
    }
    let alone = queue("alone");
    let _alone = broker.register(alone.clone());
    _alone.subscribe(&filter("$share/other/a/#"), qos1(), None);
    for _ in 0..3 {
        assert_eq!(publish(&broker, "a/b"), 2, "each group counts once");
    }
    let got = queues.each_ref().map(|queue| queue.take(9).len());
    assert_eq!((got, alone.take(9).len()), ([1, 1, 1], 3));
    // A member that is full is skipped.
    for _ in 0..12 {
        publish(&broker, "a/b");
    }
    queues[0].take(2);
    publish(&broker, "a/b");
    publish(&broker, "a/b");
    assert_eq!(queues.each_ref().map(|queue| queue.take(9).len()), [4, 4, 4]);
    drop(receivers);
    drop(_alone);
    assert_eq!(broker.write().sizes(), (1, 0, 0));
}

#[test]
fn on_aws_a_filter_that_ends_with_a_hash_does_not_match_its_parent() {
    let broker = Broker::in_memory();
    let receiver = broker.register(queue("c"));
    let options = SubscribeOptions { without_parent: true, ..qos1() };
    receiver.subscribe(&filter("a/#"), options, None);
    assert_eq!((publish(&broker, "a"), publish(&broker, "a/b")), (0, 1));
}
