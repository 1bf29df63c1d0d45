//! The shadow service: an inbox at the broker, and a handle for the REST API.
//!
//! In: messages on the request topics, calls of the REST API, and what clients have subscribed to,
//! because a device that was away is told its delta. Out: [`Job`]s for the worker.
//! Bound: [`WAITING_KIB_MAX`]; a request beyond it is rejected with 429.
//! Wills do not get here: the session refuses those on reserved topics.

use super::handler::{Handler, Job, Origin};
use super::topics::{self, Operation};
use super::worker::Worker;
use super::{ShadowError, ShadowId, forget};
use crate::broker::{Broker, Delivery, Inbox, Receiver, Wakes};
use crate::ids::{ShadowName, ThingName};
use crate::limits::Limits;
use crate::message::{Publisher, QoS};
use crate::metrics::Metrics;
use crate::packet::SubscribeOptions;
use crate::storage::Storage;
use crate::time::Clock;
use crate::topic::TopicFilter;
use bytes::Bytes;
use serde::Deserialize;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

/// Requests that are on their way, in KiB of payload, each counted as one KiB more.
///
/// 16 MiB: 16,384 small requests, eight full group commits; or 1,800 of 8 KiB.
pub const WAITING_KIB_MAX: u16 = 16 * 1_024;

/// The events of clients that have subscribed; their id follows.
const SUBSCRIBED: &str = "$aws/events/subscriptions/subscribed/";

/// The running service. Dropping it stops it like [`Service::shutdown`], without waiting.
pub struct Service {
    entrance: Arc<Entrance>,
    running: Mutex<Option<Running>>,
}

/// What a shutdown takes apart, in this order.
struct Running {
    subscriptions: Receiver,
    stop: oneshot::Sender<()>,
    worker: JoinHandle<()>,
    forgetting: JoinSet<()>,
}

/// What requests come through.
struct Entrance {
    handler: Arc<Handler>,
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
}

impl Service {
    /// Subscribes to the request topics and starts to work, on the runtime of the caller.
    pub fn start(
        store: Arc<dyn Storage>,
        broker: Broker,
        clock: Arc<dyn Clock>,
        limits: Arc<Limits>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let publisher = Arc::new(Publisher::default());
        let handler = Arc::new(Handler { store, broker, clock, limits, metrics, publisher });
        let (jobs, queue) = mpsc::channel(WAITING_KIB_MAX.into());
        let (stop, stopped) = oneshot::channel();
        let runtime = Handle::current();
        let worker = runtime.spawn(Worker::new(handler.clone(), queue, stopped).run());
        let mut forgetting = JoinSet::new();
        forgetting.spawn_on(forget::run(handler.clone()), &runtime);
        let room = Arc::new(Semaphore::new(WAITING_KIB_MAX.into()));
        let entrance = Arc::new(Entrance { handler, jobs, room });
        let subscriptions = entrance.handler.broker.register(entrance.clone());
        let subscribed = TopicFilter::parse(&format!("{SUBSCRIBED}+"));
        let subscribed = subscribed.expect("whole levels are wildcards");
        for filter in topics::request_filters().into_iter().chain([subscribed]) {
            let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
            subscriptions.subscribe(&filter, options, None);
        }
        let running = Mutex::new(Some(Running { subscriptions, stop, worker, forgetting }));
        Self { entrance, running }
    }

    /// The document of the shadow.
    ///
    /// # Errors
    /// See [`ShadowError`].
    pub async fn get(&self, id: ShadowId) -> Result<Bytes, ShadowError> {
        self.ask(id, Operation::Get, Bytes::new()).await
    }

    /// Merges a request document into the shadow; what comes back is what `update/accepted` says.
    ///
    /// # Errors
    /// See [`ShadowError`].
    pub async fn update(&self, id: ShadowId, request: Bytes) -> Result<Bytes, ShadowError> {
        self.ask(id, Operation::Update, request).await
    }

    /// Deletes the shadow; what comes back is what `delete/accepted` says.
    ///
    /// # Errors
    /// See [`ShadowError`].
    pub async fn delete(&self, id: ShadowId) -> Result<Bytes, ShadowError> {
        self.ask(id, Operation::Delete, Bytes::new()).await
    }

    /// At most `limit` names of named shadows of the thing behind the name `after`, in the order of
    /// their bytes. Deleted ones are not among them.
    ///
    /// # Errors
    /// [`ShadowError::Internal`].
    pub async fn list_named(
        &self,
        thing: &ThingName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ShadowName>, ShadowError> {
        self.entrance.handler.list_named(thing, after, limit).await
    }

    async fn ask(
        &self,
        id: ShadowId,
        operation: Operation,
        payload: Bytes,
    ) -> Result<Bytes, ShadowError> {
        let (answer, answered) = oneshot::channel();
        let origin = Origin::Rest(answer);
        self.entrance.admit(id, operation, payload, origin, &mut Wakes::default());
        // Not answered: the request panicked, or the host ends.
        answered.await.unwrap_or(Err(ShadowError::Internal))
    }

    /// Takes no more requests, and returns when those that were taken are answered.
    pub async fn shutdown(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { subscriptions, stop, worker, mut forgetting }) = running {
            drop(subscriptions);
            // Both fail only when the worker has ended already.
            let _ = stop.send(());
            let _ = worker.await;
            forgetting.shutdown().await;
        }
    }
}

impl Entrance {
    fn admit(
        &self,
        id: ShadowId,
        operation: Operation,
        payload: Bytes,
        origin: Origin,
        wakes: &mut Wakes,
    ) {
        let kib = u32::try_from(payload.len() / 1_024 + 1).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().try_acquire_many_owned(kib) else {
            let error = ShadowError::TooManyRequests;
            return self.handler.turn_away(origin, &payload, &error, wakes);
        };
        let job = Job { id, operation, payload, origin, _room: room };
        if let Err(refused) = self.jobs.try_send(job) {
            // The queue has room for every admitted request: it is closed.
            let Job { origin, payload, .. } = refused.into_inner();
            self.handler.turn_away(origin, &payload, &ShadowError::Internal, wakes);
        }
    }
}

impl Entrance {
    /// A client has subscribed to these filters.
    fn subscribed(&self, event: &[u8], wakes: &mut Wakes) {
        #[derive(Deserialize)]
        struct Event {
            topics: Vec<String>,
        }
        let Ok(Event { topics }) = serde_json::from_slice(event) else { return };
        for id in topics.iter().filter_map(|filter| topics::delta_of(filter)) {
            self.admit(id, Operation::Remind, Bytes::new(), Origin::Subscription, wakes);
        }
    }
}

impl Inbox for Entrance {
    fn deliver(&self, delivery: Delivery, wakes: &mut Wakes) {
        let message = delivery.message;
        if message.topic.as_str().starts_with(SUBSCRIBED) {
            return self.subscribed(&message.payload, wakes);
        }
        let Some((operation, id)) = topics::parse(&message.topic) else { return };
        let client = message.publisher.client_id.clone();
        let origin = Origin::Mqtt(message.topic.clone(), client);
        match id {
            Ok(id) => self.admit(id, operation, message.payload.clone(), origin, wakes),
            Err(error) => {
                let error = ShadowError::InvalidName(error);
                self.handler.turn_away(origin, &message.payload, &error, wakes);
            }
        }
    }
}
