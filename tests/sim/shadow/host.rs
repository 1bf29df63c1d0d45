//! The host's part: shadow service and broker on a runtime that works only when told to.
//!
//! In: requests. Out: everything that was told, in order. Dropping the runtime is the crash: what
//! waits for the store is cut off wherever it is, before or after the write.

use super::participant::Request;
use crate::dice::Dice;
use async_trait::async_trait;
use bytes::Bytes;
use gnomon_core::broker::{Broker, Delivery, Inbox, Receiver, Wakes};
use gnomon_core::limits::Limits;
use gnomon_core::message::{Message, QoS};
use gnomon_core::packet::SubscribeOptions;
use gnomon_core::shadow::{Service, ShadowId};
use gnomon_core::storage::{
    Expect, FaultyStore, Key, MemoryStore, Record, Revision, Storage, StoreError, Watch,
};
use gnomon_core::time::{Clock, ManualClock, Timestamp};
use gnomon_core::topic::{TopicFilter, TopicName};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;

/// Messages on their way to one receiver: topic and payload.
#[derive(Default)]
pub struct Wire(Mutex<VecDeque<(String, Bytes)>>);

impl Wire {
    pub fn next(&self) -> Option<(String, Bytes)> {
        self.0.lock().unwrap().pop_front()
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }

    pub fn cut(&self) {
        self.0.lock().unwrap().clear();
    }

    /// Subscribes to all topics of things, or of one.
    pub fn subscribe(self: &Arc<Self>, broker: &Broker, things: &str) -> Receiver {
        let receiver = broker.register(self.clone());
        let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
        let filter = TopicFilter::parse(&format!("$aws/things/{things}")).unwrap();
        receiver.subscribe(&filter, options, None);
        receiver
    }
}

impl Inbox for Wire {
    fn deliver(&self, delivery: Delivery, _: &mut Wakes) {
        let topic = delivery.message.topic.to_string();
        self.0.lock().unwrap().push_back((topic, delivery.message.payload.clone()));
    }
}

pub struct Host {
    /// `None` when it has been stopped.
    runtime: Option<Runtime>,
    pub broker: Broker,
    pub clock: Arc<ManualClock>,
    service: Arc<Service>,
    told: Arc<Wire>,
    _subscription: Receiver,
}

impl Host {
    pub fn start(store: Arc<dyn Storage>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let guard = runtime.enter();
        let broker = Broker::in_memory();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_800_000_000_000)));
        let limits = Arc::new(Limits::default());
        let told = Arc::new(Wire::default());
        let subscription = told.subscribe(&broker, "#");
        let service = Service::start(store, broker.clone(), clock.clone(), limits, Arc::default());
        drop(guard);
        Self {
            runtime: Some(runtime),
            broker,
            clock,
            service: Arc::new(service),
            told,
            _subscription: subscription,
        }
    }

    /// Nothing that was under way goes on.
    pub fn stop(&mut self) {
        self.runtime = None;
    }

    /// Lets tasks run, for some turns.
    pub fn work(&self, turns: usize) {
        let runtime = self.runtime.as_ref().expect("it runs");
        runtime.block_on(async {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        });
    }

    pub fn publish(&self, id: &ShadowId, request: &Request) {
        let _guard = self.runtime.as_ref().expect("it runs").enter();
        let topic = format!("{}/{}", prefix(id), request.operation);
        let topic = TopicName::parse(&topic).unwrap();
        let payload = request.payload().to_string();
        let message = Message::new(topic, payload, Arc::default(), self.clock.wall());
        self.broker.publish(&Arc::new(message), &mut Wakes::default());
    }

    /// What was told since the last time.
    pub fn told(&self) -> Vec<(String, Value)> {
        let told = std::iter::from_fn(|| self.told.next());
        told.filter_map(|(topic, payload)| Some((topic, serde_json::from_slice(&payload).ok()?)))
            .collect()
    }

    /// The whole document, as the REST API has it; null when there is none.
    pub fn document(&self, id: &ShadowId) -> Value {
        let runtime = self.runtime.as_ref().expect("it runs");
        let document = runtime.block_on(self.service.get(id.clone()));
        document.map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap())
    }
}

/// The topic of a shadow.
fn prefix(id: &ShadowId) -> String {
    match &id.name {
        None => format!("$aws/things/{}/shadow", id.thing),
        Some(name) => format!("$aws/things/{}/shadow/name/{name}", id.thing),
    }
}

/// What of a topic is behind the shadow's own.
pub fn suffix<'a>(topic: &'a str, id: &ShadowId) -> Option<&'a str> {
    topic.strip_prefix(&prefix(id))?.strip_prefix('/')
}

/// A store that takes its time, before and after it does what it is asked.
pub struct Slow {
    inner: Arc<FaultyStore>,
    dice: Dice,
}

impl Slow {
    pub fn new(inner: Arc<FaultyStore>, dice: Dice) -> Self {
        Self { inner, dice }
    }

    async fn pause(&self) {
        for _ in 0..self.dice.below(6) {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Storage for Slow {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.pause().await;
        self.inner.get(key).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect) -> Result<Revision, StoreError> {
        self.pause().await;
        let result = self.inner.put(key, value, expect).await;
        self.pause().await;
        result
    }

    async fn delete(&self, key: &Key, expect: Expect) -> Result<bool, StoreError> {
        self.pause().await;
        self.inner.delete(key, expect).await
    }

    async fn scan(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        self.pause().await;
        self.inner.scan(prefix, after, limit).await
    }

    fn watch(&self, prefix: &Key) -> Watch {
        self.inner.watch(prefix)
    }
}

/// Says that it kept what it did not keep, every fiftieth time: proof that the checker objects.
struct Forgetful {
    inner: MemoryStore,
    writes: AtomicUsize,
}

/// Loses a write now and then.
pub fn forgetful(inner: MemoryStore) -> Arc<dyn Storage> {
    Arc::new(Forgetful { inner, writes: AtomicUsize::new(0) })
}

#[async_trait]
impl Storage for Forgetful {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.inner.get(key).await
    }

    async fn put(&self, key: &Key, value: Bytes, expect: Expect) -> Result<Revision, StoreError> {
        if self.writes.fetch_add(1, Ordering::Relaxed) % 50 == 49 {
            return Ok(Revision(1));
        }
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

/// A document without what differs from reader to reader: who asked, and when.
pub fn content(document: &Value) -> Value {
    json!({ "state": document["state"], "version": document["version"] })
}
