//! The wasmtime engine of one host, and the clock that bounds guests.
//!
//! A thread increments the engine's epoch every [`TICK_MS`] while a guest runs and is parked
//! otherwise. It must be a thread: a guest in an endless loop keeps its tokio worker busy until
//! the epoch has changed.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Length of an epoch: the unit of CPU time, and how long a guest runs before others may.
pub const TICK_MS: u32 = 5;

/// Stack of a guest in bytes; deeper recursion traps.
const WASM_STACK_BYTES: usize = 512 * 1_024;

/// Stack of a call in bytes: the guest's and what host functions use on top.
const ASYNC_STACK_BYTES: usize = 1_024 * 1_024;

/// Guard after each memory in bytes; accesses beyond it are checked by the code itself. The
/// default would reserve 258 GiB of addresses for 64 instances, which small boards do not have.
const MEMORY_GUARD_BYTES: u64 = 64 * 1_024;

/// Elements of one table; function tables of large guests have thousands.
pub const TABLE_ELEMENTS_MAX: usize = 20_000;

/// Core instances, memories and tables of one component: a guest has one to four, and
/// JavaScript and Python guests a few dozen shims.
pub const CORE_INSTANCES_MAX: u32 = 64;

/// How much the engine has to hold.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Component instances that exist at the same time.
    pub instances: u32,
    /// The largest memory of one instance in bytes.
    pub memory_bytes: usize,
}

/// Compiles and runs components.
pub struct Engine {
    wasmtime: wasmtime::Engine,
    ticker: Arc<Ticker>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Starts an engine.
    ///
    /// # Errors
    /// The machine cannot run WebAssembly, or has no thread left.
    pub fn start(capacity: Capacity) -> Result<Self, String> {
        // A pool reserves addresses ahead, which fails on boards with a small address space.
        let wasmtime = wasmtime::Engine::new(&config(capacity, true))
            .or_else(|error| {
                tracing::info!(%error, "no room for a pool of instances, allocating on demand");
                wasmtime::Engine::new(&config(capacity, false))
            })
            .map_err(|e| format!("the WebAssembly engine does not start: {e:#}"))?;
        let ticker = Arc::<Ticker>::default();
        let thread = std::thread::Builder::new()
            .name("plugin-epoch".into())
            .spawn({
                let (ticker, engine) = (ticker.clone(), wasmtime.clone());
                move || ticker.run(&engine)
            })
            .map_err(|e| format!("no thread for the deadlines of plugins: {e}"))?;
        Ok(Self { wasmtime, ticker, thread: Mutex::new(Some(thread)) })
    }

    /// The engine itself.
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.wasmtime
    }

    /// Says that a guest runs until the result is dropped: epochs pass.
    pub fn running(&self) -> Running {
        self.ticker.lock().running += 1;
        self.ticker.changed.notify_one();
        Running(self.ticker.clone())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.ticker.lock().stopped = true;
        self.ticker.changed.notify_one();
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread for the deadlines of plugins had panicked");
        }
    }
}

/// A guest runs as long as this exists.
pub struct Running(Arc<Ticker>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
    }
}

#[derive(Default)]
struct Ticker {
    state: Mutex<TickerState>,
    changed: Condvar,
}

#[derive(Default)]
struct TickerState {
    running: usize,
    stopped: bool,
}

impl Ticker {
    fn lock(&self) -> MutexGuard<'_, TickerState> {
        self.state.lock().expect("no code panics while holding the ticker")
    }

    fn run(&self, engine: &wasmtime::Engine) {
        let mut state = self.lock();
        while !state.stopped {
            if state.running == 0 {
                state = self.changed.wait(state).expect("no code panics while holding the ticker");
                continue;
            }
            drop(state);
            std::thread::sleep(Duration::from_millis(TICK_MS.into()));
            engine.increment_epoch();
            state = self.lock();
        }
    }
}

fn config(capacity: Capacity, pooled: bool) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // On by default, and makes every call three times slower; our WIT is synchronous.
        .concurrency_support(false)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(ASYNC_STACK_BYTES)
        .memory_reservation(u64::try_from(capacity.memory_bytes).unwrap_or(u64::MAX))
        .memory_reservation_for_growth(0)
        .memory_guard_size(MEMORY_GUARD_BYTES)
        .memory_may_move(false)
        .guard_before_linear_memory(false);
    if pooled {
        let mut pool = PoolingAllocationConfig::new();
        let parts = capacity.instances.saturating_mul(4);
        pool.total_component_instances(capacity.instances)
            .total_stacks(capacity.instances)
            .total_memories(capacity.instances.saturating_mul(2))
            .total_core_instances(parts)
            .total_tables(parts)
            .max_core_instances_per_component(CORE_INSTANCES_MAX)
            .max_tables_per_component(CORE_INSTANCES_MAX)
            .max_memories_per_component(2)
            .max_memory_size(capacity.memory_bytes)
            .table_elements(TABLE_ELEMENTS_MAX);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}
