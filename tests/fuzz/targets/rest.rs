//! The REST API: whatever a signed request asks for, it is answered, as a success or as an error of the
//! client's, and what says that it is JSON is JSON.
//!
//! Input: calls, in a row on the same host. The operations are those of the API's own tables; labels,
//! query, a header and the body are any text, the body also an object of members that operations have.
//!
//! Run: `RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz rest`.

#![no_main]

use arbitrary::Arbitrary;
use async_trait::async_trait;
use bytes::Bytes;
use gnomon_api::keys::{AccessKey, Keys, Role};
use gnomon_api::{Api, HostCertificates, Services, sigv4};
use gnomon_core::actions::definition::Target;
use gnomon_core::actions::{Action, Actions};
use gnomon_core::adapter::{HttpHandler, HttpRequest};
use gnomon_core::auth::{Authenticator, Authorizers};
use gnomon_core::broker::Broker;
use gnomon_core::broker::clients::Clients;
use gnomon_core::broker::queue::QueueBounds;
use gnomon_core::events::Events;
use gnomon_core::fleet::{self, Fleet};
use gnomon_core::ids::{Account, TableName};
use gnomon_core::limits::Limits;
use gnomon_core::provisioning::{MemoryObjects, NoHooks, Provisioner, Registrations};
use gnomon_core::quarantine::{self, Quarantine, QuarantineConfig};
use gnomon_core::random::SeededRandom;
use gnomon_core::registry::{
    Expiring, ExpiringKind, IssueError, Issued, Issuer, Ports, Registry, certificate_id,
};
use gnomon_core::rules::functions::NoFunctions;
use gnomon_core::storage::MemoryStore;
use gnomon_core::tables::{Cell, QueryResult, Retention, TableInfo, Tables, TablesError};
use gnomon_core::time::{Clock, ManualClock, Timestamp};
use gnomon_core::{rules, shadow};
use http::{HeaderValue, Request, Response, StatusCode};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[allow(dead_code, reason = "the access is the API's to check")]
#[path = "../../../host/api/src/operations.rs"]
mod operations;

const NOW: Timestamp = Timestamp::from_millis(1_795_435_200_000);
const DEVICE: &str = include_str!("../../../host/core/tests/data/device-1.pem");

/// Requests per input.
const CALLS_MAX: usize = 8;

/// Members that operations have, so that a body need not be spelled.
const MEMBERS: [&str; 46] = [
    "attributePayload",
    "attributes",
    "merge",
    "thingName",
    "thingTypeName",
    "thingTypeProperties",
    "thingGroupName",
    "thingGroupNames",
    "thingGroupProperties",
    "parentGroupName",
    "expectedVersion",
    "policyDocument",
    "policyName",
    "target",
    "principal",
    "certificatePem",
    "caCertificate",
    "caCertificatePem",
    "certificateSigningRequest",
    "verificationCertificate",
    "registrationConfig",
    "status",
    "tags",
    "Key",
    "Value",
    "resourceArn",
    "sql",
    "actions",
    "lambda",
    "republish",
    "templateName",
    "templateBody",
    "parameters",
    "provisioningRoleArn",
    "authorizerFunctionArn",
    "signingDisabled",
    "authInfos",
    "logTarget",
    "schema",
    "state",
    "queryString",
    "aggregationField",
    "thingIndexingConfiguration",
    "thingIndexingMode",
    "customFields",
    "filter",
];

#[derive(Arbitrary, Debug)]
enum Json<'a> {
    Text(&'a str),
    Lamp,
    Number(f64),
    Whole(i64),
    Flag(bool),
    Null,
    Device,
    List(Vec<Json<'a>>),
    Object(Vec<(u8, Json<'a>)>),
    Named(&'a str, Box<Json<'a>>),
}

impl Json<'_> {
    fn value(&self) -> Value {
        match self {
            Self::Text(text) => (*text).into(),
            Self::Lamp => "Lamp".into(),
            Self::Number(number) => (*number).into(),
            Self::Whole(number) => (*number).into(),
            Self::Flag(flag) => (*flag).into(),
            Self::Null => Value::Null,
            Self::Device => DEVICE.into(),
            Self::List(items) => items.iter().map(Self::value).collect(),
            Self::Object(members) => object(members),
            Self::Named(name, value) => Map::from_iter([((*name).into(), value.value())]).into(),
        }
    }
}

fn object(members: &[(u8, Json<'_>)]) -> Value {
    let name = |at: &u8| MEMBERS[usize::from(*at) % MEMBERS.len()].to_owned();
    let members = members.iter().map(|(at, value)| (name(at), value.value()));
    Value::Object(members.collect())
}

#[derive(Arbitrary, Debug)]
enum Body<'a> {
    Raw(&'a [u8]),
    Json(Json<'a>),
    Members(Vec<(u8, Json<'a>)>),
}

#[derive(Arbitrary, Debug)]
struct Call<'a> {
    operation: u16,
    /// Instead of `Lamp`.
    label: Option<&'a str>,
    query: &'a str,
    header: Option<(u8, &'a [u8])>,
    body: Body<'a>,
}

const HEADERS: [&str; 6] = [
    "x-amzn-principal",
    "x-amzn-iot-principal",
    "x-amzn-iot-policy",
    "x-amz-mqtt5-user-properties",
    "x-amz-mqtt5-correlation-data",
    "x-amz-mqtt5-payload-format-indicator",
];

impl Call<'_> {
    /// Method and path come from the table; the service is the one that has them.
    fn request(&self) -> Option<(&'static str, Request<Bytes>)> {
        use operations::{GNOMON, IOT, IOT_DATA};
        let all = [("iot", IOT), ("iotdata", IOT_DATA), ("gnomon", GNOMON)];
        let count: usize = all.iter().map(|(_, operations)| operations.len()).sum();
        let at = usize::from(self.operation) % count;
        let mut all =
            all.into_iter().flat_map(|(service, of)| of.iter().map(move |it| (service, it)));
        let (service, operation) = all.nth(at)?;
        let label = self.label.unwrap_or("Lamp");
        let label: String = label.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut path = String::new();
        for piece in operation.path.split('{') {
            match piece.split_once('}') {
                Some((_, rest)) => path.extend([&*label, rest]),
                None => path.push_str(piece),
            }
        }
        let body = match &self.body {
            Body::Raw(bytes) => Bytes::copy_from_slice(bytes),
            Body::Json(json) => json.value().to_string().into(),
            Body::Members(members) => object(members).to_string().into(),
        };
        let mut request = Request::builder()
            .method(&operation.method)
            .uri(format!("{path}?{}", self.query))
            .header("host", "localhost");
        if let Some((at, value)) = &self.header {
            let name = HEADERS[usize::from(*at) % HEADERS.len()];
            request = request.header(name, HeaderValue::from_bytes(value).ok()?);
        }
        Some((service, request.body(body).ok()?))
    }
}

/// Makes the same certificate again and again.
struct OneIssuer;

impl Issuer for OneIssuer {
    fn issue(&self) -> Result<Issued, IssueError> {
        Ok(Issued {
            certificate_pem: DEVICE.to_owned(),
            public_key_pem: String::new(),
            private_key_pem: String::new(),
        })
    }

    fn sign(&self, request_pem: &str) -> Result<String, IssueError> {
        match request_pem {
            "Lamp" => Ok(DEVICE.to_owned()),
            _ => Err(IssueError::Request("no request".to_owned())),
        }
    }

    fn is_signed_by(&self, _certificate: &[u8], _ca: &[u8]) -> bool {
        true
    }
}

struct NoHostCertificates;

impl HostCertificates for NoHostCertificates {
    fn renew_server(&self) -> Result<Expiring, String> {
        Ok(Expiring::new(certificate_id(b"server"), ExpiringKind::Server, NOW))
    }

    fn renew_ca(&self) -> Result<Expiring, String> {
        Ok(Expiring::new(certificate_id(b"ca"), ExpiringKind::HostCa, NOW))
    }
}

struct NoTables;

#[async_trait]
impl Tables for NoTables {
    async fn query(&self, sql: &str, _: Vec<Cell>, _: usize) -> Result<QueryResult, TablesError> {
        Err(TablesError::Query(sql.to_owned()))
    }

    async fn list(&self) -> Result<Vec<TableInfo>, TablesError> {
        Ok(Vec::new())
    }

    async fn set_retention(&self, name: &TableName, _: Retention) -> Result<(), TablesError> {
        Err(TablesError::NotFound(name.clone()))
    }

    async fn delete(&self, name: &TableName) -> Result<(), TablesError> {
        Err(TablesError::NotFound(name.clone()))
    }
}

struct NoActions;

impl Actions for NoActions {
    fn find(&self, _: &Target) -> Option<Arc<dyn Action>> {
        None
    }
}

/// An API over a store in memory, and an administrator's key.
async fn host() -> (Api, AccessKey) {
    let storage = Arc::new(MemoryStore::default());
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW));
    let random = Arc::new(SeededRandom::new(1));
    let keys = Keys::new(storage.clone(), clock.clone(), random.clone());
    let key = keys.create(Role::Administrator).await.expect("the store is in memory");
    let limits = Arc::new(Limits::default());
    let broker = Broker::in_memory();
    let bounds = QueueBounds { messages_max: 10, bytes_max: 1_024 };
    let clients = Clients::new(broker.clone(), bounds, 10, Arc::default());
    let registry = Registry::new(Ports {
        storage: storage.clone(),
        clock: clock.clone(),
        random: random.clone(),
        issuer: Arc::new(OneIssuer),
        account: Account::default(),
        limits: limits.clone(),
    });
    let shadows = shadow::Service::start(
        storage.clone(),
        broker.clone(),
        clock.clone(),
        limits.clone(),
        Arc::default(),
    );
    let events = Events::start(&registry, broker.clone(), clock.clone(), random.clone());
    let fleet = Fleet::start(fleet::Ports {
        storage: storage.clone(),
        registry: registry.clone(),
        broker: broker.clone(),
        clients: clients.clone(),
        events: events.await.expect("the store is in memory"),
        clock: clock.clone(),
        metrics: Arc::default(),
    });
    let no_plugins = HashMap::new();
    let rules = rules::Engine::start(
        rules::Ports {
            storage,
            broker: broker.clone(),
            actions: Arc::new(NoActions),
            clock: clock.clone(),
            random: random.clone(),
            functions: Arc::new(NoFunctions),
            account: Account::default().id,
            metrics: Arc::default(),
            limits: limits.clone(),
        },
        &no_plugins,
    );
    let provisioner = Provisioner::new(registry.clone(), Arc::new(NoHooks));
    let objects = Arc::<MemoryObjects>::default();
    let registrations = Registrations::start(provisioner.clone(), objects, clock.clone());
    let (quarantine, _) = Quarantine::new(
        QuarantineConfig::default(),
        quarantine::Ports {
            registry: registry.clone(),
            broker: broker.clone(),
            clients: clients.clone(),
            clock: clock.clone(),
            random: random.clone(),
            metrics: Arc::default(),
        },
    );
    let authenticator = Authenticator::new(registry.clone(), clock.clone(), Authorizers::default());
    let services = Services {
        account: Account::default(),
        limits,
        metrics: Arc::default(),
        clock,
        random,
        keys,
        authenticator,
        registry,
        certificates: Arc::new(NoHostCertificates),
        provisioner,
        registrations: Arc::new(registrations),
        broker,
        clients,
        quarantine,
        shadows: Arc::new(shadows),
        fleet: fleet.await.expect("the store is in memory"),
        rules: rules.await.expect("the store is in memory"),
        tables: Arc::new(NoTables),
        endpoint: "iot.example".into(),
        ready: Arc::new(AtomicBool::new(true)),
        loopback_listeners: Vec::new(),
        tls_listeners: Vec::new(),
    };
    (Api::new(services), key)
}

fn check(call: &Call<'_>, response: &Response<Bytes>) {
    let (status, body) = (response.status(), response.body());
    let shown = String::from_utf8_lossy(body);
    let content_type = response.headers().get("content-type").map(HeaderValue::as_bytes);
    if content_type == Some(b"application/json") {
        assert!(serde_json::from_slice::<Value>(body).is_ok(), "{call:?}: {shown}");
    }
    if !status.is_success() {
        let is_clients = status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED;
        assert!(is_clients, "{call:?}: {status} {shown}");
        assert!(response.headers().contains_key("x-amzn-errortype"), "{call:?}: {shown}");
        let json: Value = serde_json::from_slice(body).expect("errors are JSON");
        assert!(json["message"].is_string(), "{call:?}: {shown}");
    }
}

fuzz_target!(|calls: Vec<Call<'_>>| {
    // One per input: its end is that of the workers.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (api, key) = host().await;
        for call in calls.iter().take(CALLS_MAX) {
            let Some((service, mut http)) = call.request() else { continue };
            sigv4::sign(&mut http, &key.id, &key.secret, "us-east-1", service, NOW);
            let response = api.handle(HttpRequest {
                listener: "public".into(),
                peer: ([127, 0, 0, 1], 50_000).into(),
                client_certificate: None,
                server_name: None,
                http,
            });
            check(call, &response.await);
        }
    });
});
