//! A whole API over a store in memory, for the tests of every operation.

use crate::keys::{AccessKey, Keys, Role};
use crate::{Api, HostCertificates, Services, sigv4};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gnomon_core::actions::definition::Target;
use gnomon_core::actions::{Action, ActionContext, ActionError, Actions, Failure};
use gnomon_core::adapter::{HttpHandler, HttpRequest};
use gnomon_core::auth::{
    Authenticator, Authorizer, AuthorizerRequest, AuthorizerResponse, Authorizers, CustomAuthorizer,
};
use gnomon_core::broker::clients::Clients;
use gnomon_core::broker::queue::QueueBounds;
use gnomon_core::broker::{Broker, Delivery, Inbox, Opened, Receiver, Wakes};
use gnomon_core::events::Events;
use gnomon_core::fleet::{self, Fleet};
use gnomon_core::ids::{Account, PolicyName};
use gnomon_core::limits::Limits;
use gnomon_core::message::Message;
use gnomon_core::metrics::Metrics;
use gnomon_core::packet::SubscribeOptions;
use gnomon_core::provisioning::{JustInTime, MemoryObjects, NoHooks, Provisioner, Registrations};
use gnomon_core::quarantine::{self, Quarantine, QuarantineConfig};
use gnomon_core::random::SeededRandom;
use gnomon_core::registry::{CertificateStatus, Expiring, ExpiringKind, Issuer, Ports, Registry};
use gnomon_core::rules::functions::NoFunctions;
use gnomon_core::storage::{FaultyStore, MemoryDisk, MemoryJournal, MemoryStore};
use gnomon_core::time::{Clock, ManualClock, Timestamp};
use gnomon_core::topic::TopicFilter;
use gnomon_core::{rules, shadow};
use gnomon_pki::{Authority, TokenSignatures};
use gnomon_table::SqliteTables;
use http::{HeaderValue, Request, Response};
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// Made for the tests of the registry; valid from 2026 to 2049.
const DEVICE: &str = include_str!("../../core/tests/data/device-1.pem");

/// An API, what it works on, and an administrator's key.
pub(crate) struct TestHost {
    pub api: Api,
    pub store: Arc<FaultyStore>,
    pub keys: Keys,
    pub broker: Broker,
    pub clients: Clients,
    /// Stands at 2026-11-23 12:00:00.5 UTC.
    pub clock: Arc<ManualClock>,
    pub metrics: Arc<Metrics>,
    pub ready: Arc<AtomicBool>,
    pub registry: Registry,
    pub key: AccessKey,
    pub tables: Arc<SqliteTables>,
    /// Where the certificate authority and the tables lie.
    _folder: TempDir,
}

/// Messages that a test listens to.
#[derive(Default)]
pub(crate) struct Seen(pub Mutex<Vec<Arc<Message>>>);

impl Seen {
    /// Those since the last call, as JSON.
    pub fn take(&self) -> Vec<serde_json::Value> {
        let messages = std::mem::take(&mut *self.0.lock().expect("no test panics here"));
        let json = |message: &Arc<Message>| serde_json::from_slice(&message.payload);
        messages.iter().map(json).collect::<Result<_, _>>().expect("events are JSON")
    }
}

impl Inbox for Seen {
    fn deliver(&self, delivery: Delivery, _: &mut Wakes) {
        self.0.lock().expect("no test panics here").push(delivery.message);
    }
}

/// The plugin `console` is loaded, and does nothing.
struct OnePlugin;

impl Actions for OnePlugin {
    fn find(&self, target: &Target) -> Option<Arc<dyn Action>> {
        let is_console = matches!(target, Target::Plugin(plugin) if plugin.as_str() == "console");
        is_console.then(|| Arc::new(Self) as Arc<dyn Action>)
    }
}

#[async_trait]
impl Action for OnePlugin {
    async fn invoke(
        &self,
        _: &ActionContext,
        _: &[Arc<Message>],
    ) -> Result<Vec<Failure>, ActionError> {
        Ok(Vec::new())
    }
}

/// The plugin `keeper` decides by the token, or by the password `right`.
struct Keeper;

#[async_trait]
impl Authorizer for Keeper {
    async fn authorize(&self, request: &AuthorizerRequest) -> Result<AuthorizerResponse, String> {
        let knows = request.credentials.password.as_deref() == Some(b"right");
        let token = request.token.as_deref().or(knows.then_some("allow"));
        let document = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
            "Action": "iot:Publish", "Resource": "arn:aws:iot:us-east-1:123456789012:topic/kept"}]}"#;
        let answer = AuthorizerResponse {
            is_authenticated: token != Some("refuse"),
            principal_id: if token == Some("principal") { "a b".into() } else { "ada".into() },
            policy_documents: vec![document.to_owned()],
            disconnect_after_s: 3_600,
            refresh_after_s: 300,
            attributes: Vec::new(),
        };
        match token {
            Some("allow" | "refuse" | "principal") => Ok(answer),
            _ => Err("no order".to_owned()),
        }
    }
}

/// The host's own certificates, presented to nobody.
struct Own(Arc<Authority>);

impl Own {
    fn find(&self, kind: ExpiringKind) -> Result<Expiring, String> {
        let found = self.0.own_certificates().into_iter().find(|own| own.kind == kind);
        found.ok_or_else(|| "it was not written".to_owned())
    }
}

impl HostCertificates for Own {
    fn renew_server(&self) -> Result<Expiring, String> {
        self.0.renew_server_certificate(&[]).map_err(|error| error.to_string())?;
        self.find(ExpiringKind::Server)
    }

    fn renew_ca(&self) -> Result<Expiring, String> {
        self.0.renew_ca().map_err(|error| error.to_string())?;
        self.find(ExpiringKind::HostCa)
    }
}

/// A broker whose log is committed in memory, and its clients.
fn broker(limits: &Limits, metrics: &Arc<Metrics>) -> (Broker, Clients) {
    let journal = Box::new(MemoryJournal::open(&MemoryDisk::default()));
    let opened = Broker::open(journal, limits, metrics.clone());
    let Opened { broker, committer, .. } = opened.expect("an empty journal can be read");
    std::thread::spawn(|| committer.run());
    let bounds = QueueBounds { messages_max: 10, bytes_max: 1_024 };
    let clients = Clients::new(broker.clone(), bounds, 10, metrics.clone());
    (broker, clients)
}

/// Certificates of the registry, those that come just in time, and the plugin `keeper`.
fn authenticator(
    registry: &Registry,
    provisioner: &Provisioner,
    broker: &Broker,
    clock: &Arc<ManualClock>,
) -> Authenticator {
    let newcomers = JustInTime::new(provisioner.clone(), broker.clone(), clock.clone());
    let keeper = CustomAuthorizer { authorizer: Arc::new(Keeper), token_key_name: None };
    let authorizers = Authorizers {
        by_name: [("keeper".into(), keeper)].into(),
        signatures: Some(Arc::new(TokenSignatures)),
        ..Authorizers::default()
    };
    Authenticator::new(registry.clone(), clock.clone(), authorizers)
        .with_newcomers(Arc::new(newcomers))
}

/// Bulk registration from objects in memory.
fn registrations(provisioner: &Provisioner, clock: &Arc<ManualClock>) -> Arc<Registrations> {
    let objects = Arc::<MemoryObjects>::default();
    Arc::new(Registrations::start(provisioner.clone(), objects, clock.clone()))
}

fn tables(folder: &TempDir, limits: &Arc<Limits>, clock: &Arc<ManualClock>) -> Arc<SqliteTables> {
    let path = folder.path().join("history.sqlite");
    let tables = SqliteTables::open(&path, limits.clone(), clock.clone(), 0);
    Arc::new(tables.expect("the folder is empty and writable"))
}

/// The registry's events, and its index.
async fn fleet(
    store: &Arc<FaultyStore>,
    registry: &Registry,
    broker: &Broker,
    clients: &Clients,
    clock: &Arc<ManualClock>,
    random: &Arc<SeededRandom>,
) -> Arc<Fleet> {
    let events = Events::start(registry, broker.clone(), clock.clone(), random.clone());
    let ports = fleet::Ports {
        storage: store.clone(),
        registry: registry.clone(),
        broker: broker.clone(),
        clients: clients.clone(),
        events: events.await.expect("the store is in memory"),
        clock: clock.clone(),
        metrics: Arc::default(),
    };
    Fleet::start(ports).await.expect("the store is in memory")
}

impl TestHost {
    pub async fn new() -> Self {
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::default())));
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_795_435_200_500)));
        let random = Arc::new(SeededRandom::new(1));
        let keys = Keys::new(store.clone(), clock.clone(), random.clone());
        let key = keys.create(Role::Administrator).await.expect("the store is in memory");
        let (metrics, ready) = (Arc::<Metrics>::default(), Arc::default());
        let limits = Arc::new(Limits::default());
        let (broker, clients) = broker(&limits, &metrics);
        let folder = tempfile::tempdir().expect("tests may write temporary files");
        let authority = Authority::open_or_create(folder.path(), clock.clone(), random.clone())
            .expect("the folder is empty and writable");
        let authority = Arc::new(authority);
        let registry = Registry::new(Ports {
            storage: store.clone(),
            clock: clock.clone(),
            random: random.clone(),
            issuer: authority.clone(),
            account: Account::default(),
            limits: limits.clone(),
        });
        let fleet = fleet(&store, &registry, &broker, &clients, &clock, &random).await;
        let shadows = shadow::Service::start(
            store.clone(),
            broker.clone(),
            clock.clone(),
            limits.clone(),
            Arc::clone(&metrics),
        );
        let rules = rules::Engine::start(
            rules::Ports {
                storage: store.clone(),
                broker: broker.clone(),
                actions: Arc::new(OnePlugin),
                clock: clock.clone(),
                random: random.clone(),
                functions: Arc::new(NoFunctions),
                account: Account::default().id.to_string().into(),
                metrics: Arc::clone(&metrics),
                limits: limits.clone(),
            },
            &HashMap::new(),
        )
        .await;
        let tables = tables(&folder, &limits, &clock);
        let provisioner = Provisioner::new(registry.clone(), Arc::new(NoHooks));
        let authenticator = authenticator(&registry, &provisioner, &broker, &clock);
        let (quarantine, _) = Quarantine::new(
            QuarantineConfig::default(),
            quarantine::Ports {
                registry: registry.clone(),
                broker: broker.clone(),
                clients: clients.clone(),
                clock: clock.clone(),
                random: random.clone(),
                metrics: Arc::clone(&metrics),
            },
        );
        let services = Services {
            account: Account::default(),
            limits,
            metrics: Arc::clone(&metrics),
            clock: clock.clone(),
            random,
            keys: keys.clone(),
            authenticator,
            provisioner: provisioner.clone(),
            registrations: registrations(&provisioner, &clock),
            certificates: Arc::new(Own(authority)),
            registry: registry.clone(),
            broker: broker.clone(),
            clients: clients.clone(),
            quarantine,
            shadows: Arc::new(shadows),
            fleet,
            rules: rules.expect("the store is in memory"),
            tables: tables.clone(),
            endpoint: "iot.example".into(),
            ready: Arc::clone(&ready),
            loopback_listeners: vec!["loopback".into()],
            tls_listeners: vec!["tls".into()],
        };
        let api = Api::new(services);
        Self {
            api,
            store,
            keys,
            broker,
            clients,
            clock,
            metrics,
            ready,
            registry,
            key,
            tables,
            _folder: folder,
        }
    }

    /// Everything that is published on these from now on, while the receiver lives.
    pub fn listen(&self, filters: &[&str]) -> (Arc<Seen>, Receiver) {
        let seen = Arc::new(Seen::default());
        let receiver = self.broker.register(seen.clone());
        for filter in filters {
            let filter = TopicFilter::parse(filter).expect("tests use filters that are some");
            receiver.subscribe(&filter, SubscribeOptions::default(), None);
        }
        (seen, receiver)
    }

    /// What is in a PEM text, in DER.
    pub fn der(pem: &str) -> Bytes {
        let (_, base64) = pem.split_once("-----\n").expect("PEM begins so");
        let (base64, _) = base64.split_once("-----").expect("PEM ends so");
        STANDARD.decode(base64.replace(['\r', '\n'], "")).expect("PEM is base64").into()
    }

    /// An active certificate with this policy, in DER.
    pub async fn device_certificate(&self, policy: &str) -> Bytes {
        let name = PolicyName::parse("Device").expect("a name");
        self.registry.create_policy(&name, policy).await.expect("a policy");
        let registered =
            self.registry.register_certificate_without_ca(DEVICE, CertificateStatus::Active);
        let certificate = registered.await.expect("a certificate");
        self.registry.attach_policy(&name, &certificate.id).await.expect("both exist");
        Self::der(DEVICE)
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
        HttpRequest {
            listener: listener.into(),
            peer,
            client_certificate: None,
            server_name: None,
            http,
        }
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

    /// Calls an operation of the control plane that must succeed.
    pub async fn iot(&self, method: &str, target: &str, body: &str) -> serde_json::Value {
        Self::success(&self.call("iot", method, target, body).await)
    }

    /// The same with headers instead of a body.
    pub async fn iot_with(
        &self,
        method: &str,
        target: &str,
        headers: &[(&'static str, &str)],
    ) -> serde_json::Value {
        self.iot_body_with(method, target, "", headers).await
    }

    /// The same with a body.
    pub async fn iot_body_with(
        &self,
        method: &str,
        target: &str,
        body: &str,
        headers: &[(&'static str, &str)],
    ) -> serde_json::Value {
        let mut request = Self::request(method, target, body);
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("tests send headers that exist");
            request.headers_mut().insert(*name, value);
        }
        self.sign(&mut request, &self.key, "iot");
        Self::success(&self.send(request).await)
    }

    fn success(response: &Response<Bytes>) -> serde_json::Value {
        let json = Self::json(response);
        assert_eq!(Self::error_type(response), None, "{json}");
        json
    }

    /// Calls an operation of the control plane that must fail so, with these words in its message.
    pub async fn check_refused(
        &self,
        method: &str,
        target: &str,
        body: &str,
        exception: &str,
        says: &str,
    ) {
        let response = self.call("iot", method, target, body).await;
        let json = Self::json(&response);
        let found = Self::error_type(&response);
        assert_eq!(found, Some(exception), "{method} {target} {body}: {json}");
        let message = json["message"].as_str().expect("errors have a message");
        assert!(message.contains(says), "{method} {target}: {message:?} does not say {says:?}");
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
