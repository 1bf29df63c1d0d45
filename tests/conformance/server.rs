//! What the tests connect to: gateways of this process, or somebody else's broker.
//!
//! In: nothing, or `CONFORMANCE_BROKER=host:port`. Out: addresses. The gateways are the real ones:
//! broker, committer, authenticator and listeners, wired as the host wires them; only the store is
//! in memory. They start with the first test that asks and live as long as the process.
//!
//! A test that needs limits, policies or listeners of Gnomon returns early against another broker;
//! so nothing is shown about that broker by a green run of those.

use async_trait::async_trait;
use bytes::Bytes;
use gnomon_core::adapter::{HttpHandler, HttpRequest};
use gnomon_core::auth::{
    Authenticator, Authorizer, AuthorizerRequest, AuthorizerResponse, Authorizers,
    CustomAuthorizer, EnhancedAuthorizer, ExchangeAnswer, ExchangeRequest,
};
use gnomon_core::broker::clients::Clients;
use gnomon_core::broker::queue::QueueBounds;
use gnomon_core::broker::{Broker, Opened};
use gnomon_core::ids::{Account, PolicyName};
use gnomon_core::limits::Limits;
use gnomon_core::quarantine::{self, Quarantine, QuarantineConfig};
use gnomon_core::random::{Random, SeededRandom};
use gnomon_core::registry::{IssueError, Issued, Issuer, Ports, Registry};
use gnomon_core::session::{Compat, Config};
use gnomon_core::storage::{MemoryJournal, MemoryStore};
use gnomon_core::time::{Clock, ManualClock, Now, SystemClock, Timestamp};
use gnomon_gateway::connection::{self, Shared};
use gnomon_gateway::event_loop::EventLoops;
use gnomon_gateway::http::Service;
use gnomon_gateway::listener::{Listener, ListenerConfig, Protocol};
use gnomon_gateway::timer::Wheel;
use gnomon_gateway::tls::{Presented, server_config};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Everybody may do everything, but for a corner where nothing is allowed.
const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "iot:*", "Resource": "*"},
    {"Effect": "Deny", "Action": "iot:Connect",
     "Resource": "arn:aws:iot:us-east-1:123456789012:client/denied*"},
    {"Effect": "Deny", "Action": "iot:Publish",
     "Resource": "arn:aws:iot:us-east-1:123456789012:topic/denied/*"},
    {"Effect": "Deny", "Action": "iot:Subscribe",
     "Resource": "arn:aws:iot:us-east-1:123456789012:topicfilter/denied/*"}]}"#;

/// The user that the tests' authorizer knows.
pub const USER: &str = "tester";
/// Its password.
pub const PASSWORD: &str = "right";

/// A user about whom the tests' authorizer is asked again after a second: the second time it gives
/// him less, the third nothing.
pub const BRIEF: &str = "brief";

/// Offences that the strict server does not forgive.
pub const STRICT: u32 = 3;

/// The method of enhanced authentication that the servers offer.
pub const METHOD: &str = "TESTS";

/// What the small server grants.
pub mod small {
    /// Unacknowledged messages, each way.
    pub const RECEIVE_MAXIMUM: u16 = 2;
    /// Bytes of a packet.
    pub const PACKET_BYTES: u32 = 2_048;
    /// Topic aliases.
    pub const TOPIC_ALIASES: u16 = 2;
    /// Longest session expiry in seconds.
    pub const SESSION_EXPIRY_S: u32 = 60;
    /// Longest keep-alive in seconds.
    pub const KEEP_ALIVE_S: u16 = 30;
    /// Subscriptions of a session.
    pub const SUBSCRIPTIONS: u32 = 2;
    /// Retained messages.
    pub const RETAINED: u32 = 1;
}

struct Addresses {
    mqtt: SocketAddr,
    websocket: SocketAddr,
}

/// A gateway that only certificates open, and what knows them.
pub struct Secure {
    /// MQTT over TLS.
    pub mqtt: SocketAddr,
    /// HTTPS, with MQTT over WebSocket on `/mqtt`.
    pub https: SocketAddr,
    /// Of certificates.
    pub registry: Registry,
    /// What clients trust.
    pub root: CertificateDer<'static>,
    store: Arc<MemoryStore>,
}

impl Secure {
    /// The same registry at another time.
    pub fn registry_at(&self, now: Timestamp) -> Registry {
        registry(self.store.clone(), Arc::new(ManualClock::new(now)), &Limits::default())
    }
}

static OTHER: LazyLock<Option<SocketAddr>> = LazyLock::new(|| {
    #[allow(clippy::disallowed_methods, reason = "the tests' only setting")]
    let name = std::env::var("CONFORMANCE_BROKER").ok()?;
    Some(name.to_socket_addrs().unwrap().next().expect("CONFORMANCE_BROKER has an address"))
});

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

static GENEROUS: LazyLock<Addresses> = LazyLock::new(|| {
    let limits = Limits {
        // The standard knows neither bound.
        topic_bytes: 65_535,
        topic_slashes: 65_535,
        packet_bytes: 300_000,
        filters_per_subscribe: 64,
        ..Limits::default()
    };
    start(limits, Duration::from_secs(60))
});

static SMALL: LazyLock<Addresses> = LazyLock::new(|| {
    let limits = Limits {
        inflight_messages: small::RECEIVE_MAXIMUM,
        packet_bytes: small::PACKET_BYTES,
        topic_aliases: small::TOPIC_ALIASES,
        session_expiry_s: small::SESSION_EXPIRY_S,
        keep_alive_s: small::KEEP_ALIVE_S,
        subscriptions_per_session: small::SUBSCRIPTIONS,
        retained_messages: small::RETAINED,
        ..Limits::default()
    };
    start(limits, Duration::from_secs(1))
});

/// The broker under test.
pub fn address() -> SocketAddr {
    (*OTHER).unwrap_or_else(|| GENEROUS.mqtt)
}

/// True when the broker under test is ours; what a test then knows: the policy, the user.
pub fn is_gnomon() -> bool {
    OTHER.is_none()
}

/// A gateway with the limits of [`small`]; `None` against another broker.
pub fn small() -> Option<SocketAddr> {
    is_gnomon().then(|| SMALL.mqtt)
}

/// A gateway that nobody else uses, with the default limits; `None` against another broker.
pub fn fresh() -> Option<SocketAddr> {
    is_gnomon().then(|| start(Limits::default(), Duration::from_secs(60)).mqtt)
}

/// A gateway where [`STRICT`] offences are too many; `None` against another broker.
pub fn strict() -> Option<SocketAddr> {
    is_gnomon().then(|| {
        let strict =
            QuarantineConfig { enabled: true, offences: STRICT, ..QuarantineConfig::default() };
        start_with(Limits::default(), Duration::from_secs(60), strict).mqtt
    })
}

/// Waits for what the registry does.
pub fn wait<T>(work: impl Future<Output = T>) -> T {
    RUNTIME.block_on(work)
}

/// A listener for WebSockets on `/mqtt`; `None` against another broker.
pub fn websocket() -> Option<SocketAddr> {
    is_gnomon().then(|| GENEROUS.websocket)
}

/// A gateway with TLS and nobody anonymous; `None` against another broker.
pub fn secure() -> Option<Secure> {
    is_gnomon().then(|| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let tls = server_config(Presented::new(vec![root.clone()], key).unwrap()).unwrap();
        let store = Arc::<MemoryStore>::default();
        let registry = registry(store.clone(), Arc::new(SystemClock), &Limits::default());
        let strictness = QuarantineConfig::default();
        let timeout = Duration::from_secs(60);
        let started =
            start_on(registry.clone(), Limits::default(), timeout, strictness, Some(Arc::new(tls)));
        Secure { mqtt: started.mqtt, https: started.websocket, registry, root, store }
    })
}

fn start(limits: Limits, connect_timeout: Duration) -> Addresses {
    start_with(limits, connect_timeout, QuarantineConfig::default())
}

fn start_with(
    limits: Limits,
    connect_timeout: Duration,
    quarantine: QuarantineConfig,
) -> Addresses {
    let registry = registry(Arc::default(), Arc::new(SystemClock), &limits);
    start_on(registry, limits, connect_timeout, quarantine, None)
}

fn start_on(
    registry: Registry,
    limits: Limits,
    connect_timeout: Duration,
    quarantine: QuarantineConfig,
    tls: Option<Arc<ServerConfig>>,
) -> Addresses {
    RUNTIME.block_on(async {
        let tells_offences = quarantine.enabled;
        let shared = gateway(registry, &limits, quarantine).await;
        let session = Arc::new(Config {
            limits,
            connect_timeout,
            compat: Compat::Mqtt,
            redirect: None,
            metrics: Arc::default(),
            tells_offences,
        });
        let service = Service {
            handler: Arc::new(NoPages),
            mqtt: Some(shared.clone()),
            body_bytes_max: 0,
            stop: shared.stop.clone(),
        };
        let protocol = Protocol::Mqtt(shared.clone());
        let mqtt = listen(protocol, &shared, &session, tls.clone()).await;
        let websocket = listen(Protocol::Http(service), &shared, &session, tls).await;
        RUNTIME.spawn(connection::watch_permissions(shared.clone()));
        Addresses { mqtt, websocket }
    })
}

fn registry(storage: Arc<MemoryStore>, clock: Arc<dyn Clock>, limits: &Limits) -> Registry {
    Registry::new(Ports {
        storage,
        clock,
        random: Arc::new(SeededRandom::new(1)),
        issuer: Arc::new(NoIssuer),
        account: Account::default(),
        limits: Arc::new(limits.clone()),
    })
}

async fn gateway(registry: Registry, limits: &Limits, strictness: QuarantineConfig) -> Arc<Shared> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let random: Arc<dyn Random> = Arc::new(SeededRandom::new(1));
    registry.create_policy(&PolicyName::parse("Tests").unwrap(), POLICY).await.unwrap();
    let custom = CustomAuthorizer { authorizer: Arc::new(Users::default()), token_key_name: None };
    let authorizers = Authorizers {
        by_name: [("users".into(), custom)].into(),
        default: Some("users".into()),
        by_method: [(METHOD.into(), Arc::new(Steps) as Arc<dyn EnhancedAuthorizer>)].into(),
        signatures: None,
    };

    let journal = Box::new(MemoryJournal::open(&Default::default()));
    let Opened { broker, committer, recovered } =
        Broker::open(journal, limits, Arc::default()).unwrap();
    std::thread::spawn(|| committer.run());
    let bounds = QueueBounds { messages_max: limits.queue_messages, bytes_max: limits.queue_bytes };
    let clients =
        Clients::new(broker.clone(), bounds, limits.subscriptions_per_session, Arc::default());
    clients.restore(recovered, Now::of(&*clock)).unwrap();
    let (quarantine, worker) = Quarantine::new(
        strictness,
        quarantine::Ports {
            registry: registry.clone(),
            broker: broker.clone(),
            clients: clients.clone(),
            clock: clock.clone(),
            random: random.clone(),
            metrics: Arc::default(),
        },
    );
    RUNTIME.spawn(worker.run());
    let shared = Arc::new(Shared {
        clients: clients.clone(),
        quarantine,
        authenticator: Authenticator::new(registry, clock.clone(), authorizers),
        metrics: Arc::default(),
        wheel: Wheel::new(clock.now()),
        loops: EventLoops::start(NonZeroUsize::MIN).unwrap(),
        clock: clock.clone(),
        random,
        last_connection_id: AtomicU64::new(0),
        stop: CancellationToken::new(),
    });
    let ticked = shared.clone();
    RUNTIME.spawn(async move {
        // The host does it every second; here nobody likes to wait.
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            let now = Now::of(&*ticked.clock);
            ticked.wheel.advance(now.instant);
            clients.expire(now);
            broker.expire(now.wall);
        }
    });
    shared
}

async fn listen(
    protocol: Protocol,
    shared: &Shared,
    session: &Arc<Config>,
    tls: Option<Arc<ServerConfig>>,
) -> SocketAddr {
    let listener = Listener::bind(ListenerConfig {
        name: "tests".into(),
        bind: (Ipv4Addr::LOCALHOST, 0).into(),
        anonymous_policy: tls.is_none().then(|| "Tests".into()),
        tls,
        insecure: false,
        session: session.clone(),
        connections_max: 1_000,
        connects_per_second: 0,
        proxy: false,
        protocol,
    })
    .await
    .unwrap();
    let address = listener.address;
    RUNTIME.spawn(listener.run(shared.stop.clone(), CancellationToken::new(), TaskTracker::new()));
    address
}

/// Knows [`USER`] by [`PASSWORD`], and by no password at all; and [`BRIEF`] for a while.
#[derive(Default)]
struct Users {
    /// How often it was asked about a connection of the latter.
    asked: Mutex<HashMap<u64, u32>>,
}

impl Users {
    fn brief(&self, connection_id: u64) -> AuthorizerResponse {
        let mut asked = self.asked.lock().unwrap();
        let asked = asked.entry(connection_id).or_default();
        *asked += 1;
        let connect = POLICY.replace("iot:*", "iot:Connect");
        let policy = if *asked == 1 { POLICY } else { &connect };
        AuthorizerResponse {
            is_authenticated: *asked < 3,
            policy_documents: vec![policy.to_owned()],
            refresh_after_s: 1,
            ..known()
        }
    }
}

#[async_trait]
impl Authorizer for Users {
    async fn authorize(&self, request: &AuthorizerRequest) -> Result<AuthorizerResponse, String> {
        let credentials = &request.credentials;
        if credentials.username.as_deref() == Some(BRIEF) {
            return Ok(self.brief(credentials.connection_id));
        }
        let is_user = credentials.username.as_deref() == Some(USER);
        let password = credentials.password.as_deref();
        let is_known = is_user && password.is_none_or(|it| it == PASSWORD.as_bytes());
        Ok(AuthorizerResponse { is_authenticated: is_known, ..known() })
    }
}

fn known() -> AuthorizerResponse {
    AuthorizerResponse {
        is_authenticated: true,
        principal_id: USER.to_owned(),
        policy_documents: vec![POLICY.to_owned()],
        disconnect_after_s: 0,
        refresh_after_s: 0,
        attributes: Vec::new(),
    }
}

/// Does what the client's data says; see `enhanced`.
struct Steps;

#[async_trait]
impl EnhancedAuthorizer for Steps {
    async fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeAnswer, String> {
        let welcome = || Ok(ExchangeAnswer::Accepted { response: known(), data: "welcome".into() });
        match &request.data[..] {
            b"ask" => Ok(ExchangeAnswer::Challenge {
                data: "ask again".into(),
                state: Bytes::from_static(b"asked"),
            }),
            b"good" => welcome(),
            b"slow" => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                welcome()
            }
            _ => Err("the data is wrong".to_owned()),
        }
    }
}

/// Tests bring their certificates.
struct NoIssuer;

impl Issuer for NoIssuer {
    fn issue(&self) -> Result<Issued, IssueError> {
        Err(IssueError::Failed("no certificates here".to_owned()))
    }

    fn sign(&self, _request_pem: &str) -> Result<String, IssueError> {
        Err(IssueError::Failed("no certificates here".to_owned()))
    }

    fn is_signed_by(&self, _certificate: &[u8], _ca: &[u8]) -> bool {
        false
    }
}

/// Nothing but `/mqtt`.
struct NoPages;

#[async_trait]
impl HttpHandler for NoPages {
    async fn handle(&self, _request: HttpRequest) -> http::Response<Bytes> {
        let mut response = http::Response::new(Bytes::new());
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        response
    }
}
