//! A whole API over a store in memory, for the tests of every operation.

use crate::keys::{AccessKey, Keys, Role};
use crate::{Api, Services, sigv4};
use bytes::Bytes;
use gnomon_core::adapter::{HttpHandler, HttpRequest};
use gnomon_core::broker::Broker;
use gnomon_core::ids::Account;
use gnomon_core::limits::Limits;
use gnomon_core::metrics::Metrics;
use gnomon_core::random::SeededRandom;
use gnomon_core::storage::{FaultyStore, MemoryStore};
use gnomon_core::time::{Clock, ManualClock, Timestamp};
use http::{Request, Response};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// An API, what it works on, and an administrator's key.
pub(crate) struct TestHost {
    pub api: Api,
    pub store: Arc<FaultyStore>,
    pub keys: Keys,
    pub broker: Broker,
    /// Stands at 2026-11-23 12:00:00.5 UTC.
    pub clock: Arc<ManualClock>,
    pub metrics: Arc<Metrics>,
    pub ready: Arc<AtomicBool>,
    pub key: AccessKey,
}

impl TestHost {
    pub async fn new() -> Self {
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::default())));
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_795_435_200_500)));
        let random = Arc::new(SeededRandom::new(1));
        let keys = Keys::new(store.clone(), clock.clone(), random.clone());
        let key = keys.create(Role::Administrator).await.expect("the store is in memory");
        let (broker, metrics, ready) = (Broker::default(), Arc::default(), Arc::default());
        let services = Services {
            account: Account::default(),
            limits: Arc::new(Limits::default()),
            metrics: Arc::clone(&metrics),
            clock: clock.clone(),
            random,
            keys: keys.clone(),
            broker: broker.clone(),
            endpoint: "iot.example".into(),
            ready: Arc::clone(&ready),
            loopback_listeners: vec!["loopback".into()],
        };
        Self { api: Api::new(services), store, keys, broker, clock, metrics, ready, key }
    }

    /// A request that is not signed.
    pub fn request(method: &str, target: &str, body: &str) -> Request<Bytes> {
        Request::builder()
            .method(method)
            .uri(target)
            .header("host", "localhost")
            .body(Bytes::copy_from_slice(body.as_bytes()))
            .expect("tests ask for what HTTP can say")
    }

    /// The request as the gateway hands it over.
    pub fn received(listener: &str, http: Request<Bytes>) -> HttpRequest {
        let peer = ([127, 0, 0, 1], 50_000).into();
        HttpRequest { listener: listener.into(), peer, client_certificate: None, http }
    }

    pub fn sign(&self, request: &mut Request<Bytes>, key: &AccessKey, service: &str) {
        sigv4::sign(request, &key.id, &key.secret, "us-east-1", service, self.clock.wall());
    }

    pub async fn send(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.send_to("public", request).await
    }

    pub async fn send_to(&self, listener: &str, request: Request<Bytes>) -> Response<Bytes> {
        self.api.handle(Self::received(listener, request)).await
    }

    /// Signs as the administrator and sends.
    pub async fn call(
        &self,
        service: &str,
        method: &str,
        target: &str,
        body: &str,
    ) -> Response<Bytes> {
        self.call_as(&self.key, service, method, target, body).await
    }

    pub async fn call_as(
        &self,
        key: &AccessKey,
        service: &str,
        method: &str,
        target: &str,
        body: &str,
    ) -> Response<Bytes> {
        let mut request = Self::request(method, target, body);
        self.sign(&mut request, key, service);
        self.send(request).await
    }

    /// What an SDK sees as the error's class; `None` for a success.
    pub fn error_type(response: &Response<Bytes>) -> Option<&str> {
        let error_type = response.headers().get("x-amzn-errortype");
        assert_eq!(error_type.is_none(), response.status().is_success());
        Some(error_type?.to_str().expect("error types are ASCII"))
    }

    pub fn json(response: &Response<Bytes>) -> serde_json::Value {
        serde_json::from_slice(response.body()).expect("every answer is JSON")
    }
}
