//! The shadow service through the real broker: what is published, in which order, and when.

mod hostile;

use super::service::WAITING_KIB_MAX;
use super::topics::Operation;
use super::worker::WAITING_PER_SHADOW_MAX;
use super::*;
use crate::broker::{Broker, Delivery, Inbox, Receiver, Wakes};
use crate::ids::ClientId;
use crate::limits::Limits;
use crate::message::{Message, Publisher, QoS};
use crate::metrics::Metrics;
use crate::packet::SubscribeOptions;
use crate::storage::{
    Expect, Fault, FaultyStore, Key, MemoryStore, Record, Revision, Storage, StoreError, Watch,
};
use crate::time::{Clock, ManualClock, Timestamp};
use crate::topic::{TopicFilter, TopicName};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

const START_S: u64 = 1_800_000_000;

/// Everything that is published below `$aws/things`, but requests.
#[derive(Default)]
struct Log(Mutex<Vec<(String, Value)>>);

impl Inbox for Log {
    fn deliver(&self, delivery: Delivery, _: &mut Wakes) {
        let topic = delivery.message.topic.as_str();
        if topics::parse(&delivery.message.topic).is_none() {
            assert_eq!(delivery.qos, QoS::AtLeastOnce);
            assert_eq!(*delivery.message.publisher, Publisher::default());
            let payload = serde_json::from_slice(&delivery.message.payload).unwrap();
            self.0.lock().unwrap().push((topic.to_owned(), payload));
        }
    }
}

struct Bed {
    service: Service,
    broker: Broker,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
    log: Arc<Log>,
    _subscription: Receiver,
}

impl Bed {
    fn on(store: Arc<dyn Storage>) -> Self {
        let (broker, metrics) = (Broker::in_memory(), Arc::new(Metrics::default()));
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(START_S * 1_000)));
        let service = Service::start(
            store,
            broker.clone(),
            clock.clone(),
            Arc::new(Limits::default()),
            metrics.clone(),
        );
        let log = Arc::new(Log::default());
        let subscription = broker.register(log.clone());
        let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
        subscription.subscribe(&TopicFilter::parse("$aws/things/#").unwrap(), options, None);
        Self { service, broker, clock, metrics, log, _subscription: subscription }
    }

    fn new() -> Self {
        Self::on(Arc::new(MemoryStore::default()))
    }

    fn publish(&self, topic: &str, payload: &str) {
        self.publish_as(None, topic, payload);
    }

    fn publish_as(&self, client: Option<&str>, topic: &str, payload: &str) {
        let topic = TopicName::parse(topic).unwrap();
        let client_id = client.map(|id| ClientId::parse(id).unwrap());
        let publisher = Arc::new(Publisher { client_id, principal: None });
        let payload = payload.to_owned();
        let message = Message::new(topic, payload, publisher, self.clock.wall());
        let receivers = self.broker.publish(&Arc::new(message), &mut Wakes::default()).receivers;
        // The service and the log.
        assert_eq!(receivers, 2);
    }

    /// What was published since the last call.
    fn published(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.log.0.lock().unwrap())
    }

    /// Waits for all requests of the shadow, by asking behind them.
    async fn settle(&self, id: &ShadowId) {
        let _ = self.service.get(id.clone()).await;
    }
}

fn classic(thing: &str) -> ShadowId {
    ShadowId { thing: crate::ids::ThingName::parse(thing).unwrap(), name: None }
}

fn named(thing: &str, name: &str) -> ShadowId {
    ShadowId { name: Some(crate::ids::ShadowName::parse(name).unwrap()), ..classic(thing) }
}

#[track_caller]
fn value(answer: Result<Bytes, ShadowError>) -> Value {
    let bytes = answer.unwrap_or_else(|error| panic!("{error}"));
    serde_json::from_slice(&bytes).unwrap()
}

/// `(topic below the shadow, code or version)` of each message.
fn outline(messages: &[(String, Value)]) -> Vec<(&str, u64)> {
    messages
        .iter()
        .map(|(topic, payload)| {
            let version = &payload["current"]["version"];
            let number =
                [&payload["code"], &payload["version"], version].iter().find_map(|v| v.as_u64());
            (topic.split_once("/shadow/").unwrap().1, number.unwrap())
        })
        .collect()
}

#[tokio::test]
async fn an_update_is_accepted_documented_and_its_delta_told() {
    let bed = Bed::new();
    let request = r#"{"state":{"desired":{"on":true},"reported":{"on":false}},"clientToken":"c"}"#;
    bed.publish("$aws/things/Lamp/shadow/update", request);
    bed.settle(&classic("Lamp")).await;
    let time = json!({"timestamp": START_S});
    let accepted = json!({
        "state": {"desired": {"on": true}, "reported": {"on": false}},
        "metadata": {"desired": {"on": time}, "reported": {"on": time}},
        "version": 1, "timestamp": START_S, "clientToken": "c",
    });
    let documents = json!({
        "previous": {"state": {}, "metadata": {}, "version": 0},
        "current": {
            "state": {"desired": {"on": true}, "reported": {"on": false}},
            "metadata": {"desired": {"on": time}, "reported": {"on": time}},
            "version": 1,
        },
        "timestamp": START_S, "clientToken": "c",
    });
    let delta = json!({
        "state": {"on": true}, "metadata": {"on": time},
        "version": 1, "timestamp": START_S, "clientToken": "c",
    });
    let topic = |suffix| format!("$aws/things/Lamp/shadow/update/{suffix}");
    let expected =
        [(topic("accepted"), accepted), (topic("documents"), documents), (topic("delta"), delta)];
    assert_eq!(bed.published(), expected);
    assert_eq!(bed.metrics.shadow_accepted.get(), 2);

    bed.publish("$aws/things/Lamp/shadow/update", r#"{"state":{"reported":{"on":true}}}"#);
    bed.settle(&classic("Lamp")).await;
    assert_eq!(outline(&bed.published()), [("update/accepted", 2), ("update/documents", 2)]);
    bed.service.shutdown().await;
}

#[tokio::test]
async fn get_and_delete_answer_and_named_shadows_are_apart() {
    let bed = Bed::new();
    let update = r#"{"state":{"reported":{"a":1}}}"#;
    bed.publish("$aws/things/T/shadow/name/n/update", update);
    bed.publish("$aws/things/T/shadow/name/n/get", "");
    bed.publish("$aws/things/T/shadow/name/n/get", r#"{"clientToken":"g"}"#);
    bed.publish("$aws/things/T/shadow/name/n/delete", r#"{"clientToken":"d"}"#);
    bed.publish("$aws/things/T/shadow/name/n/delete", "");
    bed.publish("$aws/things/T/shadow/name/n/get", "");
    bed.settle(&named("T", "n")).await;
    let published = bed.published();
    let expected = [
        ("name/n/update/accepted", 1),
        ("name/n/update/documents", 1),
        ("name/n/get/accepted", 1),
        ("name/n/get/accepted", 1),
        ("name/n/delete/accepted", 1),
        ("name/n/delete/rejected", 404),
        ("name/n/get/rejected", 404),
    ];
    assert_eq!(outline(&published), expected);
    let got = json!({
        "state": {"reported": {"a": 1}},
        "metadata": {"reported": {"a": {"timestamp": START_S}}},
        "version": 1, "timestamp": START_S, "clientToken": "g",
    });
    assert_eq!(published[3].1, got);
    let deleted = json!({"version": 1, "timestamp": START_S, "clientToken": "d"});
    assert_eq!(published[4].1, deleted);
    assert_eq!(published[6].1["message"], "No shadow exists with name: 'n'");

    bed.publish("$aws/things/T/shadow/get", "");
    bed.settle(&classic("T")).await;
    assert_eq!(bed.published()[0].1["message"], "No shadow exists with name: 'T'");
    bed.service.shutdown().await;
}

#[tokio::test]
async fn a_rejection_repeats_the_token_whatever_was_wrong() {
    let bed = Bed::new();
    let cases = [
        (r#"{"state":7,"clientToken":"c"}"#, 400, json!("c")),
        (r#"{"state":{},"version":3,"clientToken":"c"}"#, 409, json!("c")),
        (r#"{"state":{},"clientToken":7}"#, 400, Value::Null),
        ("no json", 400, Value::Null),
    ];
    for (request, code, token) in cases {
        bed.publish("$aws/things/T/shadow/update", request);
        bed.settle(&classic("T")).await;
        let published = bed.published();
        assert_eq!(outline(&published), [("update/rejected", code)], "{request}");
        assert_eq!(published[0].1["clientToken"], token, "{request}");
    }
    let deep = format!(r#"{{"state":{}1{},"clientToken":"c"}}"#, "[".repeat(500), "]".repeat(500));
    bed.publish("$aws/things/T/shadow/update", &deep);
    bed.settle(&classic("T")).await;
    assert_eq!(bed.published()[0].1["clientToken"], "c");
    bed.publish("$aws/things/no such thing/shadow/update", r#"{"clientToken":"c"}"#);
    let published = bed.published();
    assert_eq!(outline(&published), [("update/rejected", 400)]);
    assert_eq!(published[0].1["clientToken"], "c");
    bed.service.shutdown().await;
}

#[tokio::test]
async fn of_what_a_deletion_sends_only_the_token_counts() {
    let bed = Bed::new();
    let payloads = ["no json", "[7]", "\u{feff}", r#"{"state":7,"version":9,"clientToken":"c"}"#];
    for payload in payloads {
        bed.service.update(classic("T"), r#"{"state":{}}"#.into()).await.unwrap();
        bed.published();
        bed.publish("$aws/things/T/shadow/delete", payload);
        bed.settle(&classic("T")).await;
        let published = bed.published();
        assert_eq!(published[0].0, "$aws/things/T/shadow/delete/accepted", "{payload}");
        let token = if payload.contains("clientToken") { json!("c") } else { Value::Null };
        assert_eq!(published[0].1["clientToken"], token, "{payload}");
    }
    bed.publish("$aws/things/T/shadow/delete", r#"{"clientToken":7}"#);
    bed.settle(&classic("T")).await;
    assert_eq!(bed.published()[0].1["message"], "Invalid clientToken");
    bed.service.shutdown().await;
}

#[tokio::test]
async fn a_deleted_version_is_continued_for_48_hours() {
    let bed = Bed::new();
    let update = || bed.service.update(classic("T"), r#"{"state":{}}"#.into());
    update().await.unwrap();
    assert_eq!(value(update().await)["version"], 2);
    bed.service.delete(classic("T")).await.unwrap();
    bed.clock.advance(Duration::from_hours(48) - Duration::from_secs(1));
    assert_eq!(value(update().await)["version"], 3);
    bed.service.delete(classic("T")).await.unwrap();
    bed.clock.advance(Duration::from_hours(48));
    assert_eq!(value(update().await)["version"], 1);
    bed.service.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_two_days_ago_leaves_nothing_behind() {
    let store = Arc::new(MemoryStore::default());
    let bed = Bed::on(store.clone());
    for n in 0..1_500 {
        let id = named("T", &n.to_string());
        bed.service.update(id.clone(), r#"{"state":{}}"#.into()).await.unwrap();
        bed.service.delete(id).await.unwrap();
    }
    bed.service.update(classic("T"), r#"{"state":{}}"#.into()).await.unwrap();
    bed.clock.advance(Duration::from_hours(47));
    bed.service.update(named("T", "7"), r#"{"state":{}}"#.into()).await.unwrap();
    bed.service.update(named("T", "8"), r#"{"state":{}}"#.into()).await.unwrap();
    bed.service.delete(named("T", "8")).await.unwrap();
    let stored = async || store.scan(&Key::prefix("shadow"), None, 9_999).await.unwrap().len();
    tokio::time::sleep(Duration::from_hours(2)).await;
    assert_eq!(stored().await, 1_501);
    // One exists, one came back, and one was deleted again just now.
    bed.clock.advance(Duration::from_hours(1));
    tokio::time::sleep(Duration::from_hours(24)).await;
    assert_eq!(stored().await, 3);
    let accepted = value(bed.service.update(named("T", "7"), r#"{"state":{}}"#.into()).await);
    assert_eq!(accepted["version"], 3);
    bed.service.shutdown().await;
}

#[tokio::test]
async fn the_rest_api_is_answered_and_its_changes_are_published() {
    let bed = Bed::new();
    let id = classic("T");
    let missing = bed.service.get(id.clone()).await.unwrap_err();
    assert_eq!(missing.code(), 404);
    let request = r#"{"state":{"desired":{"a":1}}}"#;
    let accepted = value(bed.service.update(id.clone(), request.into()).await);
    assert_eq!(accepted["state"], json!({"desired": {"a": 1}}));
    let document = value(bed.service.get(id.clone()).await);
    assert_eq!(document["state"], json!({"desired": {"a": 1}, "delta": {"a": 1}}));
    bed.service.delete(id).await.unwrap();
    let expected = [
        ("update/accepted", 1),
        ("update/documents", 1),
        ("update/delta", 1),
        ("delete/accepted", 1),
    ];
    assert_eq!(outline(&bed.published()), expected);
    bed.service.shutdown().await;
}

/// A store in which something happens before each write.
struct Before<T> {
    inner: MemoryStore,
    hook: T,
}

#[async_trait]
trait Hook: Send + Sync + 'static {
    async fn before_put(&self, inner: &MemoryStore, key: &Key);
}

#[async_trait]
impl<T: Hook> Storage for Before<T> {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.inner.get(key).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect) -> Result<Revision, StoreError> {
        self.hook.before_put(&self.inner, key).await;
        self.inner.put(key, value, expect).await
    }

    async fn delete(&self, key: &Key, expect: Expect) -> Result<bool, StoreError> {
        self.inner.delete(key, expect).await
    }

    async fn scan(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        self.inner.scan(prefix, after, limit).await
    }

    fn watch(&self, prefix: &Key) -> Watch {
        self.inner.watch(prefix)
    }
}

/// Writes wait until it is opened.
struct Gate {
    open: watch::Sender<bool>,
    /// Writes that have come to it.
    arrived: watch::Sender<usize>,
}

#[async_trait]
impl Hook for Gate {
    async fn before_put(&self, _: &MemoryStore, _: &Key) {
        self.arrived.send_modify(|arrived| *arrived += 1);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
    }
}

impl Gate {
    fn closed() -> Arc<Before<Self>> {
        let hook = Self { open: watch::Sender::new(false), arrived: watch::Sender::new(0) };
        Arc::new(Before { inner: MemoryStore::default(), hook })
    }

    async fn until_arrived(&self, writes: usize) {
        self.arrived.subscribe().wait_for(|arrived| *arrived == writes).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_told_before_it_is_durable_and_shadows_share_a_commit() {
    let gate = Gate::closed();
    let bed = Bed::on(gate.clone());
    for n in 0..50 {
        bed.publish(&format!("$aws/things/T{n}/shadow/update"), r#"{"state":{}}"#);
    }
    gate.hook.until_arrived(50).await;
    assert_eq!(bed.published(), []);
    gate.hook.open.send_replace(true);
    bed.service.shutdown().await;
    assert_eq!(bed.published().len(), 100);
    assert_eq!(bed.metrics.shadow_accepted.get(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_of_one_shadow_keep_their_order() {
    let bed = Bed::new();
    for n in 0..50 {
        let request = format!(r#"{{"state":{{"desired":{{"n":{n}}}}}}}"#);
        bed.publish("$aws/things/T/shadow/update", &request);
    }
    bed.service.shutdown().await;
    let published = bed.published();
    assert_eq!(published.len(), 150);
    let expected: Vec<_> = (1..=50)
        .flat_map(|n| [("update/accepted", n), ("update/documents", n), ("update/delta", n)])
        .collect();
    assert_eq!(outline(&published), expected);
    assert_eq!(published[149].1["state"]["n"], 49);
}

#[tokio::test]
async fn one_busy_shadow_is_rejected_and_the_others_are_not() {
    let gate = Gate::closed();
    let bed = Bed::on(gate.clone());
    for _ in 0..WAITING_PER_SHADOW_MAX + 11 {
        bed.publish("$aws/things/Busy/shadow/update", r#"{"state":{},"clientToken":"c"}"#);
    }
    bed.publish("$aws/things/Idle/shadow/update", r#"{"state":{}}"#);
    gate.hook.until_arrived(2).await;
    // One is carried out, the room is full, ten are too many.
    let published = bed.published();
    assert_eq!(outline(&published), [("update/rejected", 429); 10]);
    // Who waits for an answer with its token gets it.
    assert!(published.iter().all(|(_, rejected)| rejected["clientToken"] == "c"));
    gate.hook.open.send_replace(true);
    bed.service.shutdown().await;
    assert_eq!(bed.published().len(), 2 * (WAITING_PER_SHADOW_MAX + 2));
    assert_eq!(bed.metrics.shadow_rejected.get(), 10);
}

#[tokio::test]
async fn a_client_that_does_not_wait_for_answers_is_rejected_and_others_are_not() {
    let gate = Gate::closed();
    let bed = Bed::on(gate.clone());
    let update = "$aws/things/Busy/shadow/update";
    for _ in 0..12 {
        bed.publish_as(Some("eager"), update, r#"{"state":{}}"#);
    }
    bed.publish_as(Some("other"), update, r#"{"state":{}}"#);
    bed.publish_as(Some("eager"), "$aws/things/Idle/shadow/update", r#"{"state":{}}"#);
    gate.hook.until_arrived(2).await;
    assert_eq!(outline(&bed.published()), [("update/rejected", 429); 2]);
    gate.hook.open.send_replace(true);
    bed.service.shutdown().await;
    assert_eq!(bed.metrics.shadow_accepted.get(), 12);
}

#[tokio::test]
async fn a_client_that_subscribes_to_a_delta_is_told_it_if_there_is_one() {
    let bed = Bed::new();
    let state = r#"{"state":{"desired":{"on":true,"n":1},"reported":{"n":1}}}"#;
    bed.publish("$aws/things/T/shadow/update", state);
    bed.publish("$aws/things/Same/shadow/update", r#"{"state":{"reported":{"n":1}}}"#);
    bed.settle(&classic("T")).await;
    bed.settle(&classic("Same")).await;
    bed.published();
    let topics = ["T", "Same", "None"].map(|it| format!("$aws/things/{it}/shadow/update/delta"));
    let event = json!({"clientId": "c", "topics": topics}).to_string();
    let topic = TopicName::parse("$aws/events/subscriptions/subscribed/c").unwrap();
    let message = Message::new(topic, event, Arc::default(), bed.clock.wall());
    bed.broker.publish(&Arc::new(message), &mut Wakes::default());
    bed.service.shutdown().await;
    let published = bed.published();
    let [(topic, delta)] = published.as_slice() else { panic!("{published:?}") };
    assert_eq!(topic, "$aws/things/T/shadow/update/delta");
    assert_eq!((&delta["state"], &delta["version"]), (&json!({"on": true}), &json!(1)));
}

#[tokio::test]
async fn requests_beyond_the_room_are_rejected_at_once() {
    let gate = Gate::closed();
    let bed = Bed::on(gate.clone());
    // 127 KiB of spaces and one KiB on top.
    let request = r#"{"state":{},"clientToken":"c"}"#;
    let request = format!("{request}{}", " ".repeat(127 * 1_024 - request.len()));
    let fit = usize::from(WAITING_KIB_MAX) / 128;
    for n in 0..fit + 3 {
        bed.publish(&format!("$aws/things/T{n}/shadow/update"), &request);
    }
    let published = bed.published();
    assert_eq!(outline(&published), [("update/rejected", 429); 3]);
    assert!(published.iter().all(|(_, rejected)| rejected["clientToken"] == "c"));
    let error = bed.service.get(classic("T")).await.unwrap_err();
    assert_eq!(error, ShadowError::TooManyRequests);
    gate.hook.open.send_replace(true);
    // The room is given back.
    bed.settle(&classic("T0")).await;
    bed.service.shutdown().await;
    assert_eq!(bed.metrics.shadow_accepted.get(), u64::try_from(fit).unwrap());
}

#[tokio::test]
async fn a_failing_store_is_an_internal_failure_and_not_an_acknowledgement() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::default())));
    let bed = Bed::on(store.clone());
    let update = || bed.service.update(classic("T"), r#"{"state":{}}"#.into());
    // The read fails; then the write; then the write happens, and nobody knows.
    store.fail_next([Some(Fault::Refused), None, Some(Fault::Refused)]);
    store.fail_next([None, Some(Fault::AnswerLost)]);
    for _ in 0..3 {
        assert_eq!(update().await.unwrap_err(), ShadowError::Internal);
    }
    assert_eq!(bed.published(), []);
    assert_eq!(value(update().await)["version"], 2);
    store.fail_next([Some(Fault::Refused)]);
    bed.publish("$aws/things/T/shadow/get", r#"{"clientToken":"c"}"#);
    bed.service.shutdown().await;
    let (topic, rejected) = bed.published().pop().unwrap();
    assert_eq!(topic, "$aws/things/T/shadow/get/rejected");
    let expected = json!({
        "code": 500, "message": "Internal service failure",
        "timestamp": START_S, "clientToken": "c",
    });
    assert_eq!(rejected, expected);
}

/// Another host updates the shadow just before each of the first writes.
struct Rival {
    updates: AtomicU32,
}

#[async_trait]
impl Hook for Rival {
    async fn before_put(&self, inner: &MemoryStore, key: &Key) {
        let take_one = |left: u32| left.checked_sub(1);
        let Ok(left) = self.updates.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take_one)
        else {
            return;
        };
        let leaf = document::Node::Leaf { value: left.into(), set_at_s: START_S };
        let document = document::Document {
            reported: [("rival".to_owned(), leaf)].into(),
            version: u64::from(100 - left),
            ..document::Document::default()
        };
        let value = record::encode(&document::Stored::Document(document));
        inner.put(key, value, Expect::Any).await.unwrap();
    }
}

fn rival(updates: u32) -> Bed {
    let hook = Rival { updates: updates.into() };
    Bed::on(Arc::new(Before { inner: MemoryStore::default(), hook }))
}

#[tokio::test]
async fn an_update_that_lost_a_race_is_merged_anew() {
    let bed = rival(3);
    let request = r#"{"state":{"reported":{"own":1}}}"#;
    let accepted = value(bed.service.update(classic("T"), request.into()).await);
    // The rival's writes are versions 97 (at first 3 are left), 98 and 99.
    assert_eq!(accepted["version"], 100);
    let document = value(bed.service.get(classic("T")).await);
    assert_eq!(document["state"], json!({"reported": {"own": 1, "rival": 1}}));
    bed.service.shutdown().await;

    // The version that the request names is checked against what the rival wrote.
    let bed = rival(1);
    let request = r#"{"state":{},"version":0}"#;
    let error = bed.service.update(classic("T"), request.into()).await.unwrap_err();
    assert_eq!(error, ShadowError::VersionConflict);
    bed.service.shutdown().await;
}

#[tokio::test]
async fn endless_races_end_in_a_failure() {
    let bed = rival(90);
    let error = bed.service.update(classic("T"), r#"{"state":{}}"#.into()).await.unwrap_err();
    assert_eq!(error, ShadowError::Internal);
    bed.service.shutdown().await;
}

#[tokio::test]
async fn after_shutdown_nothing_is_taken() {
    let bed = Bed::new();
    bed.service.shutdown().await;
    bed.service.shutdown().await;
    let error = bed.service.get(classic("T")).await.unwrap_err();
    assert_eq!(error, ShadowError::Internal);
    let topic = classic("T").topic(Operation::Get);
    let publisher = Arc::new(Publisher::default());
    let message = Message::new(topic, Bytes::new(), publisher, bed.clock.wall());
    // Only the log is there.
    assert_eq!(bed.broker.publish(&Arc::new(message), &mut Wakes::default()).receivers, 1);
    assert_eq!(bed.published(), []);
}
