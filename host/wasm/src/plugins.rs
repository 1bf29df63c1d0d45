//! The plugins of one host: loaded when it starts, handed out by name, stopped with it.
//!
//! In: the operator's configuration and the host's ports. Out: actions, functions, authorizers, HTTP
//! handlers and provisioning hooks. One plugin that cannot be loaded stops the start: a host without its authorizer is
//! not the host that the operator configured.

use crate::cache::Cache;
use crate::capability::Capabilities;
use crate::component;
use crate::config::{ListenConfig, PluginConfig, PluginLimits};
use crate::engine::{Capacity, Engine};
use crate::imports;
use crate::instance::{Context, Handlers, StartError};
use crate::manifest::Manifest;
use crate::outbound::Outbound;
use crate::pool::Pool;
use crate::ports::Ports;
use crate::worlds::adapter::PluginHttpHandler;
use crate::worlds::authorizer::PluginAuthorizer;
use crate::worlds::enhanced_authorizer::PluginEnhancedAuthorizer;
use crate::worlds::provisioning_hook::PluginHook;
use crate::worlds::rule_action::PluginAction;
use crate::worlds::rule_function::PluginFunctions;
use gnomon_core::actions::Action;
use gnomon_core::adapter::HttpHandler;
use gnomon_core::auth::{Authorizer, EnhancedAuthorizer};
use gnomon_core::ids::PluginName;
use gnomon_core::provisioning::Hook;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Largest memory that can be granted to one instance: WebAssembly addresses 4 GiB.
const MEMORY_MIB_MAX: u32 = 4_096;

/// Largest `plugin.toml`.
const MANIFEST_BYTES_MAX: u64 = 64 * 1_024;

/// Why the plugins were not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The engine or its cache does not start.
    #[error("plugins cannot run: {0}")]
    Engine(String),
    /// A plugin is refused; the text has what to change.
    #[error("plugin {plugin}: {reason}")]
    Plugin {
        /// The operator's name for it.
        plugin: String,
        /// Why.
        reason: String,
    },
}

/// How one plugin is doing; for `gnomon status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginStatus {
    /// The operator's name for it.
    pub name: PluginName,
    /// Its own name, from its manifest.
    pub plugin: String,
    /// From its manifest.
    pub version: String,
    /// One line, from its manifest.
    pub description: String,
    /// `rule-action`, `rule-function`, `authorizer`, `enhanced-authorizer`, `http-handler`,
    /// `provisioning-hook`.
    pub handlers: Vec<&'static str>,
    /// Its HTTP listener.
    pub listen: Option<ListenConfig>,
    /// Instances lost since the start.
    pub crashes: u64,
    /// How the last one ended.
    pub last_crash: Option<String>,
    /// For how long calls still fail at once after repeated crashes.
    pub paused_for: Option<Duration>,
}

/// The loaded plugins. Dropping it ends the engine once the last action or handler is dropped.
#[derive(Default)]
pub struct Plugins {
    plugins: BTreeMap<PluginName, Plugin>,
    ports: Option<Ports>,
    outbound: Option<Outbound>,
}

struct Plugin {
    pool: Arc<Pool>,
    manifest: Manifest,
    functions: Option<PluginFunctions>,
    cpu_ms: Option<u32>,
    listen: Option<ListenConfig>,
}

impl Plugin {
    fn offers(&self, function: &str) -> bool {
        self.functions.as_ref().is_some_and(|functions| functions.offers(function))
    }
}

impl Plugins {
    /// Loads every configured plugin; `configs` is the table `[plugins]`. Compiled code is kept
    /// in `<data_dir>/cache`. Without plugins no engine is started.
    ///
    /// # Errors
    /// The first plugin that cannot be loaded, and what to change; see [`LoadError`].
    pub async fn load(
        configs: BTreeMap<String, PluginConfig>,
        data_dir: &Path,
        ports: Ports,
    ) -> Result<Self, LoadError> {
        if configs.is_empty() {
            return Ok(Self::default());
        }
        let engine = Engine::start(capacity(&configs)).map_err(LoadError::Engine)?;
        let cache = Cache::open(data_dir)
            .map_err(|e| LoadError::Engine(format!("{}: {e}", data_dir.join("cache").display())))?;
        let linker =
            imports::linker(engine.wasmtime()).map_err(|e| LoadError::Engine(format!("{e:#}")))?;
        let outbound = Outbound::new().map_err(LoadError::Engine)?;
        let (ports_, outbound_) = (ports.clone(), outbound.clone());
        let loader =
            Loader { engine: Arc::new(engine), cache: Arc::new(cache), linker, ports, outbound };
        let mut plugins: BTreeMap<PluginName, Plugin> = BTreeMap::new();
        for (text, config) in configs {
            let refused = |reason| LoadError::Plugin { plugin: text.clone(), reason };
            let name = PluginName::parse(&text).map_err(|e| refused(e.to_string()))?;
            let plugin = loader.load(&name, config).await.map_err(refused)?;
            for function in plugin.functions.iter().flat_map(PluginFunctions::names) {
                if let Some((other, _)) = plugins.iter().find(|(_, it)| it.offers(function)) {
                    let reason = format!("declares a function {function}, as plugin {other} does");
                    return Err(refused(reason));
                }
            }
            let handlers = plugin.pool.handlers.names().join(",");
            tracing::info!(
                plugin = name.as_str(),
                version = plugin.manifest.version,
                handlers,
                "loaded"
            );
            plugins.insert(name, plugin);
        }
        Ok(Self { plugins, ports: Some(ports_), outbound: Some(outbound_) })
    }

    /// The plugin as a rule action; `None` when there is none of that name, or it is no action.
    pub fn action(&self, name: &PluginName) -> Option<Arc<dyn Action>> {
        let plugin = self.plugins.get(name)?;
        Some(Arc::new(PluginAction::new(&plugin.pool, plugin.cpu_ms)?))
    }

    /// The plugin that offers a function of this name to statements of rules.
    pub fn function(&self, name: &str) -> Option<&PluginFunctions> {
        self.plugins.values().find(|plugin| plugin.offers(name))?.functions.as_ref()
    }

    /// All functions of a plugin; `None` when there is none of that name, or it offers none.
    pub fn functions(&self, name: &PluginName) -> Option<&PluginFunctions> {
        self.plugins.get(name)?.functions.as_ref()
    }

    /// The plugin as an authorizer.
    pub fn authorizer(&self, name: &PluginName) -> Option<Arc<dyn Authorizer>> {
        let plugin = self.plugins.get(name)?;
        Some(Arc::new(PluginAuthorizer::new(&plugin.pool, plugin.cpu_ms)?))
    }

    /// The plugin as an authorizer of authentication methods.
    pub fn enhanced_authorizer(&self, name: &PluginName) -> Option<Arc<dyn EnhancedAuthorizer>> {
        let plugin = self.plugins.get(name)?;
        Some(Arc::new(PluginEnhancedAuthorizer::new(&plugin.pool, plugin.cpu_ms)?))
    }

    /// The plugin as the answerer of HTTP requests; its listener is in [`Plugins::list`].
    pub fn http_handler(&self, name: &PluginName) -> Option<Arc<dyn HttpHandler>> {
        let plugin = self.plugins.get(name)?;
        Some(Arc::new(PluginHttpHandler::new(&plugin.pool, plugin.cpu_ms)?))
    }

    /// The plugin as a pre-provisioning hook.
    pub fn provisioning_hook(&self, name: &PluginName) -> Option<Arc<dyn Hook>> {
        let plugin = self.plugins.get(name)?;
        Some(Arc::new(PluginHook::new(&plugin.pool, plugin.cpu_ms)?))
    }

    /// All plugins and how they are doing, by name.
    pub fn list(&self) -> Vec<PluginStatus> {
        let now = self.ports.as_ref().map(|ports| ports.clock.now());
        self.plugins
            .iter()
            .map(|(name, plugin)| {
                let health = plugin.pool.health();
                let paused_for = health
                    .paused_until
                    .zip(now)
                    .map(|(until, now)| until.saturating_duration_since(now))
                    .filter(|pause| !pause.is_zero());
                PluginStatus {
                    name: name.clone(),
                    plugin: plugin.manifest.name.clone(),
                    version: plugin.manifest.version.clone(),
                    description: plugin.manifest.description.clone(),
                    handlers: plugin.pool.handlers.names(),
                    listen: plugin.listen.clone(),
                    crashes: health.crashes_total,
                    last_crash: health.last_crash,
                    paused_for,
                }
            })
            .collect()
    }

    /// Refuses further calls, drops the instances and closes the connections of the plugins.
    /// Calls that run end by themselves, at the latest after their `wall_ms`.
    pub async fn shutdown(&self) {
        for plugin in self.plugins.values() {
            plugin.pool.stop();
        }
        if let Some(outbound) = &self.outbound {
            outbound.stop().await;
        }
    }
}

/// Slots for every instance that may exist, and one more per plugin for the one that replaces a
/// crashed one before that is gone. A slot has at least the default memory: a plugin with less
/// is then stopped by its own limit, with a text about it, and not by the pool.
fn capacity(configs: &BTreeMap<String, PluginConfig>) -> Capacity {
    let instances = configs
        .values()
        .map(|config| config.limits.instances.clamp(1, 1_024).saturating_add(1))
        .fold(0, u32::saturating_add);
    let memory = configs.values().map(|config| memory_bytes(config.limits.memory_mib)).max();
    let least = memory_bytes(PluginLimits::default().memory_mib);
    Capacity { instances, memory_bytes: memory.unwrap_or(least).max(least) }
}

fn memory_bytes(mib: u32) -> usize {
    mib.clamp(1, MEMORY_MIB_MAX) as usize * 1_024 * 1_024
}

struct Loader {
    engine: Arc<Engine>,
    cache: Arc<Cache>,
    linker: wasmtime::component::Linker<crate::instance::State>,
    ports: Ports,
    outbound: Outbound,
}

impl Loader {
    async fn load(&self, name: &PluginName, config: PluginConfig) -> Result<Plugin, String> {
        let (wasm, manifest) = files(&config.path);
        let manifest = read_manifest(&manifest)?;
        check_limits(&config)?;
        let capabilities = Capabilities::resolve(name.as_str(), &manifest.asks, &config.grants)?;
        let component = self.compile(&wasm).await?;
        let exports = component::exports(self.engine.wasmtime(), &component);
        let pre = self
            .linker
            .instantiate_pre(&component)
            .map_err(|e| format!("does not fit this host: {e:#}"))?;
        let handlers = Handlers::find(&pre, &exports)?;
        check_listener(name, &manifest, &config, &handlers)?;
        let context = Context {
            name: name.as_str().into(),
            capabilities,
            config: config.config,
            epoch: self.ports.clock.now(),
            ports: self.ports.clone(),
            outbound: self.outbound.clone(),
            memory_bytes_max: memory_bytes(config.limits.memory_mib),
            wall: Duration::from_millis(config.limits.wall_ms.into()),
        };
        // The state of an adapter is in its only instance.
        let instances = if handlers.http_handler.is_some() { 1 } else { config.limits.instances };
        let engine = self.engine.clone();
        let queue = config.limits.queue;
        let pool = Pool::start(engine, pre, handlers, Arc::new(context), instances, queue)
            .await
            .map_err(|error| match error {
                StartError::Refused(text) => {
                    format!("refuses [plugins.{name}.config]: {text}")
                }
                StartError::Crashed(crash) => format!("crashed when it was started: {crash}"),
            })?;
        let listen = config.listen;
        let cpu_ms = config.limits.cpu_ms;
        let pool = Arc::new(pool);
        let functions = PluginFunctions::load(&pool, cpu_ms).await?;
        Ok(Plugin { pool, manifest, functions, cpu_ms, listen })
    }

    /// Compiling takes from 0.1 s to half a minute: not on a thread that serves connections.
    async fn compile(&self, path: &Path) -> Result<wasmtime::component::Component, String> {
        let (path, engine, cache) =
            (path.to_owned(), self.engine.wasmtime().clone(), self.cache.clone());
        let compiled = tokio::task::spawn_blocking(move || {
            let bytes = read(&path, component::COMPONENT_BYTES_MAX)?;
            component::compile(&engine, &cache, &bytes)
                .map_err(|text| format!("{} {text}", path.display()))
        });
        compiled.await.map_err(|e| format!("compiling failed: {e}"))?
    }
}

/// The component and the manifest of a configured path.
fn files(path: &Path) -> (PathBuf, PathBuf) {
    if path.extension().is_some_and(|extension| extension == "wasm") {
        (path.to_owned(), path.with_file_name("plugin.toml"))
    } else {
        (path.join("plugin.wasm"), path.join("plugin.toml"))
    }
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("{} has more than {bytes_max} bytes", path.display()));
    }
    Ok(bytes)
}

fn read_manifest(path: &Path) -> Result<Manifest, String> {
    let text = String::from_utf8(read(path, MANIFEST_BYTES_MAX)?)
        .map_err(|_| format!("{} is not UTF-8", path.display()))?;
    toml::from_str(&text).map_err(|e| format!("{}: {}", path.display(), e.to_string().trim_end()))
}

fn check_limits(config: &PluginConfig) -> Result<(), String> {
    let limits = &config.limits;
    let ranges = [
        ("memory_mib", limits.memory_mib, MEMORY_MIB_MAX),
        ("cpu_ms", limits.cpu_ms.unwrap_or(1), 60_000),
        ("wall_ms", limits.wall_ms, 600_000),
        ("instances", limits.instances, 1_024),
    ];
    match ranges.iter().find(|(_, value, max)| !(1..=*max).contains(value)) {
        Some((name, value, max)) => Err(format!("limits.{name} is {value}; give 1 to {max}")),
        None => Ok(()),
    }
}

fn check_listener(
    name: &PluginName,
    manifest: &Manifest,
    config: &PluginConfig,
    handlers: &Handlers,
) -> Result<(), String> {
    let handles = handlers.http_handler.is_some();
    if manifest.asks.listen != handles {
        return Err(if handles {
            "exports http-handler, but its plugin.toml does not say `listen = true` in [asks]"
        } else {
            "asks for a listener in its plugin.toml, but does not export http-handler"
        }
        .into());
    }
    match (handles, &config.listen) {
        (true, None) => Err(format!(
            "asks for an HTTP listener, which is not granted; to allow it, say in \
             [plugins.{name}]: listen = {{ bind = \"127.0.0.1:8444\" }}"
        )),
        (false, Some(_)) => {
            Err(format!("takes no HTTP requests; remove `listen` from [plugins.{name}]"))
        }
        _ => Ok(()),
    }
}
