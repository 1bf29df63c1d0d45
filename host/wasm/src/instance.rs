//! One instance of a plugin: its store, what it has used up, and how a call ends.
//!
//! After a trap, a deadline or a dropped call the store is unusable; whoever holds the instance
//! then drops it ([`crate::pool`]).

use crate::bindings::guest::{
    authorizer, enhanced_authorizer, http_handler, lifecycle, provisioning_hook, rule_action,
    rule_function,
};
use crate::capability::Capabilities;
use crate::engine::{CORE_INSTANCES_MAX, Engine, TABLE_ELEMENTS_MAX, TICK_MS};
use crate::outbound::Outbound;
use crate::ports::Ports;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::component::InstancePre;
use wasmtime::{ResourceLimiter, Store, StoreContextMut, UpdateDeadline};

/// Bytes that one call of a host function, or the result of a handler, may carry.
pub const TRANSFER_BYTES_MAX: usize = 1_024 * 1_024;

/// CPU time for instantiation and `init`: 20 times the time of a call, for once per instance.
const INIT_CPU_MS: u32 = 1_000;

/// Lines that one call may log; further ones are dropped.
pub const LOG_LINES_PER_CALL_MAX: u32 = 64;

/// What all instances of a plugin share.
pub struct Context {
    /// The operator's name for it.
    pub name: Arc<str>,
    /// What it may do.
    pub capabilities: Capabilities,
    /// The operator's `config` table.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// The host.
    pub ports: Ports,
    /// The HTTP client.
    pub outbound: Outbound,
    /// When the plugin was loaded: the zero of its monotonic clock.
    pub epoch: std::time::Instant,
    /// Memory of one instance in bytes.
    pub memory_bytes_max: usize,
    /// Time of one call, waiting included.
    pub wall: Duration,
}

/// What a store carries: the imports are implemented on it.
pub struct State {
    /// What all instances share.
    pub context: Arc<Context>,
    /// Lines logged by the present call.
    pub log_lines: u32,
    ticks: u32,
    ticks_max: u32,
    limiter: Limiter,
}

/// How an instance ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Crash {
    /// It computed for too long.
    #[error("used more than {limit_ms} ms of CPU time in one call")]
    CpuTime {
        /// The limit.
        limit_ms: u32,
    },
    /// It did not come back, e.g. from a slow server.
    #[error("did not finish within {limit_ms} ms")]
    WallTime {
        /// The limit.
        limit_ms: u128,
    },
    /// It wanted too much memory.
    #[error("wanted {wanted} bytes of memory, its limit is {limit}")]
    Memory {
        /// What its memory would have grown to.
        wanted: usize,
        /// The limit.
        limit: usize,
    },
    /// Anything else: a panic, an access outside of its memory, a result that is too large.
    #[error("{0}")]
    Trap(String),
}

/// A plugin that was instantiated and initialised.
pub struct Instance {
    /// Where it lives.
    pub store: Store<State>,
    /// Its `rule-action`, when exported.
    pub rule_action: Option<rule_action::Guest>,
    /// Its `rule-function`, when exported.
    pub rule_function: Option<rule_function::Guest>,
    /// Its `authorizer`, when exported.
    pub authorizer: Option<authorizer::Guest>,
    /// Its `enhanced-authorizer`, when exported.
    pub enhanced_authorizer: Option<enhanced_authorizer::Guest>,
    /// Its `http-handler`, when exported.
    pub http_handler: Option<http_handler::Guest>,
    /// Its `provisioning-hook`, when exported.
    pub provisioning_hook: Option<provisioning_hook::Guest>,
}

/// The handler interfaces that a component exports.
pub struct Handlers {
    lifecycle: lifecycle::GuestIndices,
    /// Answers to rules.
    pub rule_action: Option<rule_action::GuestIndices>,
    /// Answers to statements of rules.
    pub rule_function: Option<rule_function::GuestIndices>,
    /// Answers to connections.
    pub authorizer: Option<authorizer::GuestIndices>,
    /// Answers to the steps of enhanced authentication.
    pub enhanced_authorizer: Option<enhanced_authorizer::GuestIndices>,
    /// Answers to HTTP requests.
    pub http_handler: Option<http_handler::GuestIndices>,
    /// Answers to devices that want to be provisioned.
    pub provisioning_hook: Option<provisioning_hook::GuestIndices>,
}

impl Handlers {
    /// Looks the exported interfaces up.
    ///
    /// # Errors
    /// None is exported, or one does not have the functions that this host calls.
    pub fn find(
        pre: &InstancePre<State>,
        exports: &std::collections::BTreeSet<String>,
    ) -> Result<Self, String> {
        let wrong = |name: &'static str| {
            move |e: wasmtime::Error| format!("exports a {name} that this host cannot call: {e:#}")
        };
        if !exports.contains("lifecycle") {
            return Err("does not export gnomon:plugin/lifecycle, which every plugin has".into());
        }
        let handlers = Self {
            lifecycle: lifecycle::GuestIndices::new(pre).map_err(wrong("lifecycle"))?,
            rule_action: exports
                .contains("rule-action")
                .then(|| rule_action::GuestIndices::new(pre).map_err(wrong("rule-action")))
                .transpose()?,
            rule_function: exports
                .contains("rule-function")
                .then(|| rule_function::GuestIndices::new(pre).map_err(wrong("rule-function")))
                .transpose()?,
            authorizer: exports
                .contains("authorizer")
                .then(|| authorizer::GuestIndices::new(pre).map_err(wrong("authorizer")))
                .transpose()?,
            enhanced_authorizer: exports
                .contains("enhanced-authorizer")
                .then(|| {
                    enhanced_authorizer::GuestIndices::new(pre)
                        .map_err(wrong("enhanced-authorizer"))
                })
                .transpose()?,
            http_handler: exports
                .contains("http-handler")
                .then(|| http_handler::GuestIndices::new(pre).map_err(wrong("http-handler")))
                .transpose()?,
            provisioning_hook: exports
                .contains("provisioning-hook")
                .then(|| {
                    provisioning_hook::GuestIndices::new(pre).map_err(wrong("provisioning-hook"))
                })
                .transpose()?,
        };
        if handlers.names().is_empty() {
            return Err("exports no handler that this host knows; it knows rule-action, \
                        rule-function, authorizer, enhanced-authorizer, http-handler and \
                        provisioning-hook"
                .into());
        }
        Ok(handlers)
    }

    /// Names of the exported handlers.
    pub fn names(&self) -> Vec<&'static str> {
        let exported = [
            ("rule-action", self.rule_action.is_some()),
            ("rule-function", self.rule_function.is_some()),
            ("authorizer", self.authorizer.is_some()),
            ("enhanced-authorizer", self.enhanced_authorizer.is_some()),
            ("http-handler", self.http_handler.is_some()),
            ("provisioning-hook", self.provisioning_hook.is_some()),
        ];
        exported.into_iter().filter_map(|(name, is)| is.then_some(name)).collect()
    }
}

/// Why there is no instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// `init` refused its configuration.
    #[error("refuses its configuration: {0}")]
    Refused(String),
    /// It crashed before it was ready.
    #[error("{0}")]
    Crashed(#[from] Crash),
}

impl Instance {
    /// Makes an instance and initialises it.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        engine: &Engine,
        pre: &InstancePre<State>,
        handlers: &Handlers,
        context: &Arc<Context>,
    ) -> Result<Self, StartError> {
        let mut store = Store::new(engine.wasmtime(), State::new(context.clone()));
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(TRANSFER_BYTES_MAX);
        store.epoch_deadline_callback(on_epoch);
        begin(&mut store, INIT_CPU_MS);
        let _running = engine.running();
        let config = serde_json::to_string(&context.config)
            .map_err(|e| StartError::Refused(e.to_string()))?;
        let (instance, answer) = bounded(context.wall, async {
            let instance = pre.instantiate_async(&mut store).await?;
            let lifecycle = handlers.lifecycle.load(&mut store, &instance)?;
            let answer = lifecycle.call_init(&mut store, &config).await?;
            Ok((instance, answer))
        })
        .await?;
        answer.map_err(StartError::Refused)?;
        // A handler of the component, when it exports it.
        macro_rules! load {
            ($handler:ident) => {
                handlers.$handler.as_ref().map(|it| it.load(&mut store, &instance)).transpose()
            };
        }
        let mut loaded = || -> wasmtime::Result<_> {
            let loaded = (
                load!(rule_action)?,
                load!(rule_function)?,
                load!(authorizer)?,
                load!(enhanced_authorizer)?,
                load!(http_handler)?,
                load!(provisioning_hook)?,
            );
            Ok(loaded)
        };
        let loaded = loaded().map_err(|e| crash(&e))?;
        let (
            rule_action,
            rule_function,
            authorizer,
            enhanced_authorizer,
            http_handler,
            provisioning_hook,
        ) = loaded;
        Ok(Self {
            store,
            rule_action,
            rule_function,
            authorizer,
            enhanced_authorizer,
            http_handler,
            provisioning_hook,
        })
    }
}

/// Gives the next call its CPU time.
pub fn begin(store: &mut Store<State>, cpu_ms: u32) {
    let state = store.data_mut();
    state.ticks = 0;
    state.ticks_max = cpu_ms.div_ceil(TICK_MS);
    state.log_lines = 0;
    store.set_epoch_deadline(1);
}

/// Waits for a call, but not for ever.
///
/// # Errors
/// How the instance ended; it is unusable then.
pub async fn bounded<R>(
    wall: Duration,
    call: impl Future<Output = wasmtime::Result<R>>,
) -> Result<R, Crash> {
    match tokio::time::timeout(wall, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(crash(&error)),
        Err(_) => Err(Crash::WallTime { limit_ms: wall.as_millis() }),
    }
}

/// Counts the epochs in which the guest computed. A deadline in epochs would also pass while the
/// guest waits in a host call.
#[allow(clippy::needless_pass_by_value, reason = "the signature of wasmtime's callback")]
fn on_epoch(mut store: StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    let state = store.data_mut();
    state.ticks += 1;
    if state.ticks > state.ticks_max {
        let limit_ms = state.ticks_max * TICK_MS;
        return Err(wasmtime::Error::new(Crash::CpuTime { limit_ms }));
    }
    // wasmtime's own yield would starve the other tasks of a one-worker runtime.
    Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
}

fn crash(error: &wasmtime::Error) -> Crash {
    if let Some(crash) = error.downcast_ref::<Crash>() {
        return crash.clone();
    }
    // The chain has the guest's backtrace and the cause; the last is what the operator needs.
    Crash::Trap(error.root_cause().to_string())
}

impl State {
    fn new(context: Arc<Context>) -> Self {
        let limiter = Limiter { memory_bytes_max: context.memory_bytes_max };
        Self { context, log_lines: 0, ticks: 0, ticks_max: 0, limiter }
    }

    /// Counts a refused call and gives its text back.
    pub fn denied(&self, text: String) -> crate::bindings::host::types::Error {
        self.context.ports.metrics.plugin_denied.increment();
        tracing::warn!(plugin = &*self.context.name, error = text, "plugin call denied");
        crate::bindings::host::types::Error::Denied(text)
    }
}

struct Limiter {
    memory_bytes_max: usize,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired <= self.memory_bytes_max {
            return Ok(true);
        }
        // `Ok(false)` would end in the guest's anonymous abort.
        let crash = Crash::Memory { wanted: desired, limit: self.memory_bytes_max };
        Err(wasmtime::Error::new(crash))
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn memories(&self) -> usize {
        2
    }
}
