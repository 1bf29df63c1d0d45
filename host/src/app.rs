//! All wiring: what the host is made of, in the order of its start; it stops in the reverse.
//!
//! Start: store, keys, certificates (the host's own), registry, broker, events, shadows, plugins,
//! provisioning, tables, rules, clients, fleet index, bulk registration, API, listeners.
//! Stop: accept nothing more, end connections, pause bulk registration, end the fleet index, drain rules,
//! provisioning and shadows, stop plugins, close tables, sync the store; each step has its own deadline.

use crate::banner;
use crate::certificates::OwnCertificates;
use crate::config::{Config, ConfigError, ListenerPlan, ListenerProtocol};
use crate::data::{DataFolder, KeyFile, RunFile, RunListener};
use crate::functions::HostFunctions;
use crate::objects::FileObjects;
use crate::telemetry;
use async_trait::async_trait;
use gnomon_api::keys::{KeyError, Keys, Role};
use gnomon_api::{Api, Services, Signatures};
use gnomon_core::actions::definition::Target;
use gnomon_core::actions::{Action, Actions};
use gnomon_core::adapter::HttpHandler;
use gnomon_core::auth::{
    Authenticator, Authorizer, AuthorizerRequest, AuthorizerResponse, Authorizers,
    CustomAuthorizer, EnhancedAuthorizer, ExchangeAnswer, ExchangeRequest, SIGNATURES,
};
use gnomon_core::broker::clients::Clients;
use gnomon_core::broker::figures::{FIGURES_INTERVAL, Figures};
use gnomon_core::broker::log::Recovered;
use gnomon_core::broker::queue::QueueBounds;
use gnomon_core::broker::{Broker, Opened, Wakes};
use gnomon_core::events::Events;
use gnomon_core::fleet::{self, Fleet};
use gnomon_core::ids::{Account, PluginName};
use gnomon_core::limits::Limits;
use gnomon_core::message::Message;
use gnomon_core::metrics::Metrics;
use gnomon_core::packet::Reason;
use gnomon_core::provisioning::{self, Hook, Hooks, JustInTime, Provisioner, Registrations};
use gnomon_core::quarantine::{self, Quarantine};
use gnomon_core::random::Random;
use gnomon_core::registry::{self, Registry, RegistryError};
use gnomon_core::session::{Compat, Redirect};
use gnomon_core::time::{Clock, Now, SystemClock};
use gnomon_core::{rules, session, shadow};
use gnomon_gateway::connection;
use gnomon_gateway::event_loop::EventLoops;
use gnomon_gateway::http::Service;
use gnomon_gateway::listener::{ListenError, Listener, ListenerConfig, Protocol};
use gnomon_gateway::timer::Wheel;
use gnomon_pki::{Authority, AuthorityError, TokenSignatures};
use gnomon_store::{OpenError, Options, RedbStore};
use gnomon_table::SqliteTables;
use gnomon_wasm::{LoadError, Plugins, PublishError, Publisher};
use rustls::ServerConfig;
use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// From a connection's start to its CONNECT.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long clients have to take their last packets.
const CONNECTIONS_TIMEOUT: Duration = Duration::from_secs(8);

/// How long rules have for what they took.
const RULES_TIMEOUT: Duration = Duration::from_secs(5);

/// How long devices that are being provisioned have: a key is made in 0.1 s, a hook has 5 s.
const PROVISIONING_TIMEOUT: Duration = Duration::from_secs(6);

/// How long the lines have that are being registered in bulk: some, and the record of them.
const REGISTRATIONS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the records of clients that were connected have for their commits.
const FLEET_TIMEOUT: Duration = Duration::from_secs(5);

/// How long shadow requests have for their commit.
const SHADOWS_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the host does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each says itself")]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("threads for connections cannot be started")]
    Threads(#[source] io::Error),
    #[error("cannot use the data folder {path}")]
    Data { path: String, source: io::Error },
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    Tables(#[from] gnomon_table::OpenError),
    #[error("the broker's sessions and messages cannot be read")]
    Broker(#[source] Box<dyn Error + Send + Sync>),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("the server certificate cannot be used for TLS")]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Plugins(#[from] LoadError),
    #[error(
        "[authorizers.methods] gives {method} to {plugin}, which is no plugin of this \
         configuration that exports enhanced-authorizer"
    )]
    Method { method: String, plugin: String },
    #[error(transparent)]
    Rules(#[from] rules::StartError),
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Randomness of the machine.
struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) {
        aws_lc_rs::rand::fill(buffer).expect("a machine without randomness cannot speak TLS");
    }
}

/// What everything gets.
struct World {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    metrics: Arc<Metrics>,
    limits: Arc<Limits>,
    account: Account,
}

/// The parts that have to be stopped, in the order of their start.
struct Parts {
    shadows: Arc<shadow::Service>,
    plugins: Arc<Plugins>,
    provisioning: provisioning::Service,
    tables: Arc<SqliteTables>,
    rules: rules::Engine,
    registrations: Arc<Registrations>,
    fleet: Arc<Fleet>,
    clients: Clients,
    broker: Broker,
    /// The log's committer.
    log: JoinHandle<()>,
    /// Accept loops and the ticker.
    loops: JoinSet<()>,
    /// Where MQTT connections run.
    threads: EventLoops,
    /// One task per connection, there or here.
    connections: TaskTracker,
    stop: CancellationToken,
    /// Ends the connections that do not end by `stop`.
    cut: CancellationToken,
}

/// Starts the host, serves until Ctrl-C or SIGTERM, stops in order.
///
/// # Errors
/// See [`StartError`]; what had been started is stopped.
pub async fn run(config: Config, path: &Path) -> Result<(), StartError> {
    let data = folder(path)?;
    let world = World {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        metrics: Arc::default(),
        limits: Arc::new(config.limits.clone()),
        account: config.account()?,
    };
    let store = Arc::new(RedbStore::open(data.path(), &Options::default(), world.metrics.clone())?);
    let result = serve(&config, &data, &world, &store).await;
    // A file that stays behind would point to a host that is gone.
    let _ = std::fs::remove_file(data.run_file());
    store.close().await;
    result
}

async fn serve(
    config: &Config,
    data: &DataFolder,
    world: &World,
    store: &Arc<RedbStore>,
) -> Result<(), StartError> {
    let keys = Keys::new(store.clone(), world.clock.clone(), world.random.clone());
    let (key, is_new_key) = administrator(data, &keys).await?;
    let authority = Arc::new(Authority::open_or_create(
        &data.pki(),
        world.clock.clone(),
        world.random.clone(),
    )?);
    let certificates = OwnCertificates::open(authority.clone(), config.endpoint.all_names())?;
    let ready = Arc::new(AtomicBool::new(false));

    let registry = open_registry(world, store, &authority).await?;
    let (broker, log, recovered) = open_broker(world, store)?;
    let events = start_events(world, &registry, &broker).await?;
    let shadows = start_shadows(world, store, &broker);
    let plugins = load_plugins(config, data, world, &broker).await?;
    let provisioner = Provisioner::new(registry.clone(), Arc::new(PluginHooks(plugins.clone())));
    let provisioning = provisioning::Service::start(
        provisioner.clone(),
        broker.clone(),
        world.clock.clone(),
        world.metrics.clone(),
    );
    let tables = open_tables(world, data, &recovered)?;
    let parts = RuleParts {
        store,
        broker: &broker,
        plugins: &plugins,
        tables: &tables,
        registry: &registry,
        shadows: &shadows,
    };
    let rules = start_rules(world, data, parts, &recovered).await?;
    let clients = restore_clients(world, &broker, &registry, recovered).await?;
    let fleet = start_fleet(world, store, &registry, &broker, &clients, events).await?;
    let plans = config.listeners()?;
    let newcomers = JustInTime::new(provisioner.clone(), broker.clone(), world.clock.clone());
    let authenticator = authenticator(config, world, &registry, &keys, &plugins)?
        .with_newcomers(Arc::new(newcomers));
    let (quarantine, offenders) = open_quarantine(config, world, &registry, &broker, &clients);
    // Behind the rules and sessions, which hear of what it registers.
    let registrations = start_registrations(world, data, &provisioner)?;
    let api = Arc::new(Api::new(Services {
        account: world.account.clone(),
        limits: world.limits.clone(),
        metrics: world.metrics.clone(),
        clock: world.clock.clone(),
        random: world.random.clone(),
        keys,
        registry,
        certificates: certificates.clone(),
        authenticator: authenticator.clone(),
        provisioner,
        registrations: registrations.clone(),
        broker: broker.clone(),
        clients: clients.clone(),
        quarantine: quarantine.clone(),
        shadows: shadows.clone(),
        fleet: fleet.clone(),
        rules: rules.clone(),
        tables: tables.clone(),
        endpoint: config.endpoint.host.as_str().into(),
        ready: ready.clone(),
        loopback_listeners: loopback_listeners(&plans),
        tls_listeners: tls_listeners(&plans),
    }));
    let stop = CancellationToken::new();
    let threads = EventLoops::start(config.connection_threads()).map_err(StartError::Threads)?;
    let mqtt = mqtt(world, &clients, authenticator, quarantine, &threads, &stop);
    let mut parts = Parts {
        shadows,
        plugins,
        provisioning,
        tables,
        rules,
        registrations,
        fleet,
        clients,
        broker,
        log,
        loops: JoinSet::new(),
        threads,
        connections: TaskTracker::new(),
        stop,
        cut: CancellationToken::new(),
    };
    parts.loops.spawn(offenders.run());
    let open = Open { config, plans, world, certificates, mqtt, api };
    let served = async {
        let listeners = open.listeners(&mut parts).await?;
        let run = tell(data, world, &authority, listeners)?;
        ready.store(true, Ordering::Release);
        banner::print(&run, &key, is_new_key, &data.administrator());
        tracing::info!(version = run.version, "ready");
        stop_signal().await;
        Ok(())
    }
    .await;
    ready.store(false, Ordering::Release);
    parts.stop().await;
    served
}

/// The registry; from now on its levels decide what is logged about clients.
async fn open_registry(
    world: &World,
    store: &Arc<RedbStore>,
    authority: &Arc<Authority>,
) -> Result<Registry, StartError> {
    let registry = Registry::new(registry::Ports {
        storage: store.clone(),
        clock: world.clock.clone(),
        random: world.random.clone(),
        issuer: authority.clone(),
        account: world.account.clone(),
        limits: world.limits.clone(),
    });
    registry.load_log_levels().await?;
    telemetry::follow(registry.log_levels().clone());
    Ok(registry)
}

/// What rules act on, and what they ask.
struct RuleParts<'a> {
    store: &'a Arc<RedbStore>,
    broker: &'a Broker,
    plugins: &'a Arc<Plugins>,
    tables: &'a Arc<SqliteTables>,
    registry: &'a Registry,
    shadows: &'a Arc<shadow::Service>,
}

async fn start_rules(
    world: &World,
    data: &DataFolder,
    parts: RuleParts<'_>,
    recovered: &Recovered,
) -> Result<rules::Engine, StartError> {
    let ports = rules::Ports {
        storage: parts.store.clone(),
        broker: parts.broker.clone(),
        actions: Arc::new(RuleActions {
            plugins: parts.plugins.clone(),
            table: parts.tables.action(),
        }),
        clock: world.clock.clone(),
        random: world.random.clone(),
        functions: Arc::new(HostFunctions {
            shadows: parts.shadows.clone(),
            registry: parts.registry.clone(),
            plugins: parts.plugins.clone(),
            descriptors: data.descriptors(),
        }),
        account: world.account.id.clone(),
        metrics: world.metrics.clone(),
        limits: world.limits.clone(),
    };
    Ok(rules::Engine::start(ports, &recovered.spools).await?)
}

/// Who counts offences, and the task that puts offenders into quarantine.
fn open_quarantine(
    config: &Config,
    world: &World,
    registry: &Registry,
    broker: &Broker,
    clients: &Clients,
) -> (Arc<Quarantine>, quarantine::Worker) {
    let ports = quarantine::Ports {
        registry: registry.clone(),
        broker: broker.clone(),
        clients: clients.clone(),
        clock: world.clock.clone(),
        random: world.random.clone(),
        metrics: world.metrics.clone(),
    };
    Quarantine::new(config.quarantine.clone(), ports)
}

/// Names of the listeners that only this machine can reach. Behind a load balancer everybody comes from
/// loopback.
fn loopback_listeners(plans: &[ListenerPlan]) -> Vec<Arc<str>> {
    let is_loopback = |plan: &&ListenerPlan| plan.bind.ip().is_loopback() && !plan.proxy_protocol;
    plans.iter().filter(is_loopback).map(|plan| plan.name.as_str().into()).collect()
}

fn start_shadows(world: &World, store: &Arc<RedbStore>, broker: &Broker) -> Arc<shadow::Service> {
    Arc::new(shadow::Service::start(
        store.clone(),
        broker.clone(),
        world.clock.clone(),
        world.limits.clone(),
        world.metrics.clone(),
    ))
}

async fn start_events(
    world: &World,
    registry: &Registry,
    broker: &Broker,
) -> Result<Arc<Events>, StartError> {
    let (clock, random) = (world.clock.clone(), world.random.clone());
    Ok(Events::start(registry, broker.clone(), clock, random).await?)
}

/// What can be searched; it follows the store, and who is connected.
async fn start_fleet(
    world: &World,
    store: &Arc<RedbStore>,
    registry: &Registry,
    broker: &Broker,
    clients: &Clients,
    events: Arc<Events>,
) -> Result<Arc<Fleet>, StartError> {
    let ports = fleet::Ports {
        storage: store.clone(),
        registry: registry.clone(),
        broker: broker.clone(),
        clients: clients.clone(),
        events,
        clock: world.clock.clone(),
        metrics: world.metrics.clone(),
    };
    Ok(Fleet::start(ports).await?)
}

/// Names of the listeners with TLS.
fn tls_listeners(plans: &[ListenerPlan]) -> Vec<Arc<str>> {
    plans.iter().filter(|plan| plan.tls).map(|plan| plan.name.as_str().into()).collect()
}

/// Bulk registration from the files of the data folder.
fn start_registrations(
    world: &World,
    data: &DataFolder,
    provisioner: &Provisioner,
) -> Result<Arc<Registrations>, StartError> {
    let path = data.objects();
    let objects = FileObjects::remove_drafts(&path).and_then(|()| FileObjects::open(&path));
    let objects = objects.map_err(|source| data_error(&path, source))?;
    let clock = world.clock.clone();
    Ok(Arc::new(Registrations::start(provisioner.clone(), Arc::new(objects), clock)))
}

fn mqtt(
    world: &World,
    clients: &Clients,
    authenticator: Authenticator,
    quarantine: Arc<Quarantine>,
    threads: &EventLoops,
    stop: &CancellationToken,
) -> Arc<connection::Shared> {
    Arc::new(connection::Shared {
        clients: clients.clone(),
        authenticator,
        quarantine,
        metrics: world.metrics.clone(),
        wheel: Wheel::new(world.clock.now()),
        loops: threads.clone(),
        clock: world.clock.clone(),
        random: world.random.clone(),
        last_connection_id: AtomicU64::new(0),
        stop: stop.clone(),
    })
}

/// Writes what `gnomon status` reads.
fn tell(
    data: &DataFolder,
    world: &World,
    authority: &Authority,
    listeners: Vec<RunListener>,
) -> Result<RunFile, StartError> {
    let run = RunFile {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").into(),
        region: world.account.region.to_string(),
        ca_file: authority.ca_path(),
        listeners,
    };
    let path = data.run_file();
    DataFolder::write(&path, &run).map_err(|source| data_error(&path, source))?;
    Ok(run)
}

impl Parts {
    /// The reverse of the start.
    async fn stop(mut self) {
        tracing::info!("stopping");
        self.stop.cancel();
        self.clients.stop_all(Reason::ServerShuttingDown);
        self.connections.close();
        if tokio::time::timeout(CONNECTIONS_TIMEOUT, self.connections.wait()).await.is_err() {
            tracing::warn!(connections = self.connections.len(), "connections cut off");
            // Nothing is taken any more that a rule could not run for.
            self.cut.cancel();
            self.connections.wait().await;
        }
        self.loops.shutdown().await;
        if tokio::task::spawn_blocking(move || self.threads.stop()).await.is_err() {
            tracing::error!("connection threads cannot be stopped");
        }
        if tokio::time::timeout(REGISTRATIONS_TIMEOUT, self.registrations.shutdown()).await.is_err()
        {
            tracing::warn!("thing registration cut off; it goes on with the next start");
        }
        if tokio::time::timeout(FLEET_TIMEOUT, self.fleet.shutdown()).await.is_err() {
            tracing::warn!("not all is recorded of who was connected; the next start corrects it");
        }
        self.rules.shutdown(RULES_TIMEOUT).await;
        if tokio::time::timeout(PROVISIONING_TIMEOUT, self.provisioning.shutdown()).await.is_err() {
            tracing::warn!("provisioning requests cut off");
        }
        if tokio::time::timeout(SHADOWS_TIMEOUT, self.shadows.shutdown()).await.is_err() {
            tracing::warn!("shadow requests cut off");
        }
        self.plugins.shutdown().await;
        let tables = self.tables;
        if tokio::task::spawn_blocking(move || tables.close()).await.is_err() {
            tracing::error!("tables cannot be closed");
        }
        self.broker.log().close();
        if tokio::task::spawn_blocking(|| self.log.join()).await.is_err() {
            tracing::error!("message log panicked");
        }
        tracing::info!("stopped");
    }
}

/// What opening the listeners takes.
struct Open<'a> {
    config: &'a Config,
    plans: Vec<ListenerPlan>,
    world: &'a World,
    certificates: Arc<OwnCertificates>,
    mqtt: Arc<connection::Shared>,
    api: Arc<Api>,
}

impl Open<'_> {
    async fn listeners(self, parts: &mut Parts) -> Result<Vec<RunListener>, StartError> {
        let presented = self.certificates.presented().clone();
        let tls = Arc::new(gnomon_gateway::tls::server_config(presented)?);
        let mut opened = Vec::new();
        // All are bound before any accepts: a host serves whole or not at all.
        let mut bound = Vec::new();
        for (config, protocol) in self.configs(&tls, &parts.plugins) {
            let name = config.name.to_string();
            let tls = config.tls.is_some();
            let listener = Listener::bind(config).await?;
            let address = listener.address;
            opened.push(RunListener { name, protocol: protocol.into(), tls, address });
            bound.push(listener);
        }
        for listener in bound {
            let (stop, cut) = (parts.stop.clone(), parts.cut.clone());
            parts.loops.spawn(listener.run(stop, cut, parts.connections.clone()));
        }
        parts.loops.spawn(connection::watch_permissions(self.mqtt.clone()));
        parts.loops.spawn(self.certificates.clone().run());
        let (mqtt, clients, broker) = (self.mqtt, parts.clients.clone(), parts.broker.clone());
        let now = Now::of(&*mqtt.clock);
        let (metrics, version) = (mqtt.metrics.clone(), env!("CARGO_PKG_VERSION"));
        let figures = Figures::new(broker.clone(), clients.clone(), metrics, version, now);
        parts.loops.spawn(async move {
            let mut seconds = tokio::time::interval(Duration::from_secs(1));
            let mut told_at = now.instant;
            loop {
                seconds.tick().await;
                let now = Now::of(&*mqtt.clock);
                if now.instant.saturating_duration_since(told_at) >= FIGURES_INTERVAL {
                    told_at = now.instant;
                    figures.publish(now);
                }
                mqtt.wheel.advance(now.instant);
                clients.expire(now);
                broker.expire(now.wall);
            }
        });
        Ok(opened)
    }

    fn configs(
        &self,
        tls: &Arc<ServerConfig>,
        plugins: &Plugins,
    ) -> Vec<(ListenerConfig, &'static str)> {
        let body_bytes_max = self.world.limits.http_body_bytes as usize;
        let stop = &self.mqtt.stop;
        let http = |handler: Arc<dyn HttpHandler>, mqtt| {
            Protocol::Http(Service { handler, mqtt, body_bytes_max, stop: stop.clone() })
        };
        let own = self.plans.iter().map(|plan| {
            let (protocol, name) = match plan.protocol {
                ListenerProtocol::Mqtt => (Protocol::Mqtt(self.mqtt.clone()), "mqtt"),
                ListenerProtocol::Https => {
                    (http(self.api.clone(), Some(self.mqtt.clone())), "https")
                }
                ListenerProtocol::Api => (http(self.api.clone(), None), "api"),
            };
            let config = ListenerConfig {
                name: plan.name.as_str().into(),
                bind: plan.bind,
                tls: plan.tls.then(|| tls.clone()),
                insecure: plan.insecure,
                session: self.session(plan.limits.clone(), plan.compat, plan.redirect.clone()),
                anonymous_policy: plan.anonymous_policy.as_deref().map(Into::into),
                connections_max: plan.connections_max,
                connects_per_second: plan.connects_per_second,
                proxy: plan.proxy_protocol,
                protocol,
            };
            (config, name)
        });
        let adapters = self.config.plugins.iter().filter_map(|(name, plugin)| {
            let listen = plugin.listen.as_ref()?;
            let handler = plugins.http_handler(&PluginName::parse(name).ok()?)?;
            let config = ListenerConfig {
                name: name.as_str().into(),
                bind: listen.bind,
                tls: listen.tls.then(|| tls.clone()),
                insecure: false,
                session: self.session(self.config.limits.clone(), Compat::Mqtt, None),
                anonymous_policy: None,
                connections_max: crate::config::CONNECTIONS_MAX,
                connects_per_second: 0,
                proxy: false,
                protocol: http(handler, None),
            };
            Some((config, "plugin"))
        });
        own.chain(adapters).collect()
    }

    fn session(
        &self,
        limits: Limits,
        compat: Compat,
        redirect: Option<Redirect>,
    ) -> Arc<session::Config> {
        let metrics = self.world.metrics.clone();
        let connect_timeout = CONNECT_TIMEOUT;
        let tells_offences = self.config.quarantine.enabled;
        Arc::new(session::Config {
            limits,
            connect_timeout,
            compat,
            redirect,
            metrics,
            tells_offences,
        })
    }
}

/// The broker over its journal, and the thread that writes it.
fn open_broker(
    world: &World,
    store: &RedbStore,
) -> Result<(Broker, JoinHandle<()>, Recovered), StartError> {
    let journal = Box::new(store.open_journal()?);
    let Opened { broker, committer, recovered } =
        Broker::open(journal, &world.limits, world.metrics.clone()).map_err(StartError::Broker)?;
    let thread = std::thread::Builder::new().name("log".into()).spawn(|| committer.run());
    let thread = thread.map_err(|error| StartError::Broker(Box::new(error)))?;
    Ok((broker, thread, recovered))
}

/// The clients, with the sessions of those that are away; of those whose certificate was switched off
/// nothing acts.
async fn restore_clients(
    world: &World,
    broker: &Broker,
    registry: &Registry,
    recovered: Recovered,
) -> Result<Clients, StartError> {
    let bounds = QueueBounds {
        messages_max: world.limits.queue_messages,
        bytes_max: world.limits.queue_bytes,
    };
    let subscriptions_max = world.limits.subscriptions_per_session;
    let clients = Clients::new(broker.clone(), bounds, subscriptions_max, world.metrics.clone());
    let now = Now::of(&*world.clock);
    clients.restore(recovered, now).map_err(|error| StartError::Broker(Box::new(error)))?;
    let heeded = clients.heed(registry, now).await;
    heeded.map_err(|error| StartError::Broker(Box::new(error)))?;
    Ok(clients)
}

fn open_tables(
    world: &World,
    data: &DataFolder,
    recovered: &Recovered,
) -> Result<Arc<SqliteTables>, StartError> {
    let (limits, clock) = (world.limits.clone(), world.clock.clone());
    Ok(Arc::new(SqliteTables::open(&data.tables(), limits, clock, recovered.newest)?))
}

async fn load_plugins(
    config: &Config,
    data: &DataFolder,
    world: &World,
    broker: &Broker,
) -> Result<Arc<Plugins>, StartError> {
    let ports = gnomon_wasm::Ports {
        clock: world.clock.clone(),
        random: world.random.clone(),
        metrics: world.metrics.clone(),
        publisher: Arc::new(PluginPublisher {
            broker: broker.clone(),
            limits: world.limits.clone(),
        }),
    };
    Ok(Arc::new(Plugins::load(config.plugins.clone(), data.path(), ports).await?))
}

/// What custom authorizers need beside the registry: every plugin that is one, by its name; who checks
/// signatures of tokens; and signed WebSocket URLs.
fn authenticator(
    config: &Config,
    world: &World,
    registry: &Registry,
    keys: &Keys,
    plugins: &Plugins,
) -> Result<Authenticator, StartError> {
    let mut authorizers = Authorizers {
        default: config.authorizers.default.as_deref().map(Into::into),
        signatures: Some(Arc::new(TokenSignatures)),
        ..Default::default()
    };
    let region = world.account.region.clone();
    let signatures = Signatures::new(keys.clone(), world.clock.clone(), region);
    let mut add = |name: &str, authorizer: Arc<dyn Authorizer>, token_key_name: Option<&str>| {
        let token_key_name = token_key_name.map(Into::into);
        authorizers.by_name.insert(name.into(), CustomAuthorizer { authorizer, token_key_name });
    };
    add(SIGNATURES, Arc::new(signatures), None);
    for name in config.plugins.keys() {
        let plugin = PluginName::parse(name).ok().and_then(|name| plugins.authorizer(&name));
        if let Some(authorizer) = plugin {
            let authorizer = Arc::new(Elsewhere { authorizer, runtime: Handle::current() });
            add(name, authorizer, config.authorizers.token_key_name.as_deref());
        }
    }
    for (method, plugin) in &config.authorizers.methods {
        let found =
            PluginName::parse(plugin).ok().and_then(|name| plugins.enhanced_authorizer(&name));
        let Some(authorizer) = found else {
            return Err(StartError::Method { method: method.clone(), plugin: plugin.clone() });
        };
        let authorizer = Arc::new(Elsewhere { authorizer, runtime: Handle::current() });
        authorizers.by_method.insert(method.as_str().into(), authorizer);
    }
    Ok(Authenticator::new(registry.clone(), world.clock.clone(), authorizers))
}

/// An authorizer that does not run on the threads of connections: a plugin may compute for long.
struct Elsewhere<A: ?Sized> {
    authorizer: Arc<A>,
    runtime: Handle,
}

#[async_trait]
impl Authorizer for Elsewhere<dyn Authorizer> {
    async fn authorize(&self, request: &AuthorizerRequest) -> Result<AuthorizerResponse, String> {
        let (authorizer, request) = (self.authorizer.clone(), request.clone());
        let answer = self.runtime.spawn(async move { authorizer.authorize(&request).await });
        answer.await.map_err(|error| error.to_string())?
    }
}

#[async_trait]
impl EnhancedAuthorizer for Elsewhere<dyn EnhancedAuthorizer> {
    async fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeAnswer, String> {
        let (authorizer, request) = (self.authorizer.clone(), request.clone());
        let answer = self.runtime.spawn(async move { authorizer.exchange(&request).await });
        answer.await.map_err(|error| error.to_string())?
    }
}

/// The rules' way to plugins and tables.
struct RuleActions {
    plugins: Arc<Plugins>,
    table: Arc<dyn Action>,
}

impl Actions for RuleActions {
    fn find(&self, target: &Target) -> Option<Arc<dyn Action>> {
        match target {
            Target::Plugin(plugin) => self.plugins.action(plugin),
            Target::Table => Some(self.table.clone()),
            Target::Republish => None,
        }
    }
}

/// The way of provisioning to its hooks.
struct PluginHooks(Arc<Plugins>);

impl Hooks for PluginHooks {
    fn find(&self, plugin: &PluginName) -> Option<Arc<dyn Hook>> {
        self.0.provisioning_hook(plugin)
    }
}

/// The plugins' way to the broker.
struct PluginPublisher {
    broker: Broker,
    limits: Arc<Limits>,
}

#[async_trait]
impl Publisher for PluginPublisher {
    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        let limit = self.limits.payload_bytes;
        if message.payload.len() > limit as usize {
            return Err(PublishError::TooLarge { limit: limit.into() });
        }
        if !self.limits.allow_topic(message.topic.as_str()) {
            return Err(PublishError::Invalid("topic beyond the limits of this host".into()));
        }
        if message.properties.as_ref().is_some_and(|it| !self.limits.allow_properties(it)) {
            return Err(PublishError::Invalid("properties beyond the limits of this host".into()));
        }
        self.broker.publish(&Arc::new(message), &mut Wakes::default());
        Ok(())
    }
}

/// The administrator's key: made on the first start, kept in its file afterwards.
async fn administrator(data: &DataFolder, keys: &Keys) -> Result<(KeyFile, bool), StartError> {
    let path = data.administrator();
    let read = DataFolder::read(&path).map_err(|source| data_error(&path, source))?;
    if let Some(key) = read {
        return Ok((key, false));
    }
    let key = keys.create(Role::Administrator).await?;
    let file = KeyFile { access_key_id: key.id, secret_access_key: key.secret };
    DataFolder::write(&path, &file).map_err(|source| data_error(&path, source))?;
    Ok((file, true))
}

async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupt = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
        }
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be handled; stop the host by Ctrl-C");
            let _ = interrupt.await;
        }
    }
}

/// Makes an access key in a data folder on which no host runs.
///
/// # Errors
/// See [`StartError`].
pub async fn create_key(path: &Path, role: Role) -> Result<KeyFile, StartError> {
    let data = folder(path)?;
    let store = Arc::new(RedbStore::open(data.path(), &Options::default(), Arc::default())?);
    let keys = Keys::new(store.clone(), Arc::new(SystemClock), Arc::new(SystemRandom));
    let key = keys.create(role).await;
    store.close().await;
    let key = key?;
    Ok(KeyFile { access_key_id: key.id, secret_access_key: key.secret })
}

fn folder(path: &Path) -> Result<DataFolder, StartError> {
    DataFolder::create(path).map_err(|source| data_error(path, source))
}

fn data_error(path: &Path, source: io::Error) -> StartError {
    StartError::Data { path: path.display().to_string(), source }
}
