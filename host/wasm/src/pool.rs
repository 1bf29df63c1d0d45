//! The warm instances of a plugin, and what happens after one crashed.
//!
//! In: [`Pool::lease`], for one call. Out: [`Lease::settle`]: the instance goes back, or is
//! dropped when it crashed. A call that is dropped half-way drops its instance.
//! At most `instances` calls run, `queue` wait, further ones fail at once.
//! After [`CRASHES_BEFORE_BACK_OFF`] crashes in a row calls fail at once for a while that doubles.

use crate::engine::{Engine, Running};
use crate::instance::{Context, Crash, Handlers, Instance, StartError, State, begin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::component::InstancePre;

/// Crashes in a row after which a plugin is left alone for a while.
pub const CRASHES_BEFORE_BACK_OFF: u32 = 3;

/// The first pause; each further crash doubles it.
const BACK_OFF_MIN: Duration = Duration::from_secs(1);

/// The longest pause.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The instance crashed in the call.
    #[error("plugin {plugin}: {crash}")]
    Crashed {
        /// The plugin.
        plugin: Arc<str>,
        /// How.
        crash: Crash,
    },
    /// There is no instance and a new one does not start.
    #[error("plugin {plugin} does not start: {reason}")]
    NotStarted {
        /// The plugin.
        plugin: Arc<str>,
        /// Why.
        reason: String,
    },
    /// It crashed repeatedly and is left alone for a while.
    #[error("plugin {plugin} is paused for {pause_ms} ms after {crashes} crashes; last: {last}")]
    Paused {
        /// The plugin.
        plugin: Arc<str>,
        /// How much longer.
        pause_ms: u128,
        /// Crashes in a row.
        crashes: u32,
        /// How the last instance ended.
        last: String,
    },
    /// All instances are busy and the queue is full, or the wait was too long.
    #[error("plugin {plugin} is busy: {waiting} calls wait")]
    Busy {
        /// The plugin.
        plugin: Arc<str>,
        /// Calls that wait.
        waiting: u32,
    },
    /// The host shuts down.
    #[error("plugin {plugin} is stopped")]
    Stopped {
        /// The plugin.
        plugin: Arc<str>,
    },
}

/// The instances of one plugin.
pub struct Pool {
    /// What the instances share.
    pub context: Arc<Context>,
    /// What the plugin can handle.
    pub handlers: Handlers,
    engine: Arc<Engine>,
    pre: InstancePre<State>,
    slots: Semaphore,
    waiting: AtomicU32,
    waiting_max: u32,
    idle: Mutex<Vec<Instance>>,
    health: Mutex<Health>,
}

/// How the plugin is doing.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Instances lost since the start.
    pub crashes_total: u64,
    /// Instances lost since the last call that succeeded.
    pub crashes_in_row: u32,
    /// Text of the last crash.
    pub last_crash: Option<String>,
    /// No calls until then.
    pub paused_until: Option<Instant>,
}

impl Pool {
    /// Starts the first instance, so that a plugin that cannot start is refused when it is loaded.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        engine: Arc<Engine>,
        pre: InstancePre<State>,
        handlers: Handlers,
        context: Arc<Context>,
        instances: u32,
        waiting_max: u32,
    ) -> Result<Self, StartError> {
        let first = Instance::start(&engine, &pre, &handlers, &context).await?;
        Ok(Self {
            context,
            handlers,
            engine,
            pre,
            slots: Semaphore::new(instances.max(1) as usize),
            waiting: AtomicU32::new(0),
            waiting_max,
            idle: Mutex::new(vec![first]),
            health: Mutex::default(),
        })
    }

    /// An instance for one call, with `cpu_ms` of CPU time.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn lease(&self, cpu_ms: u32) -> Result<Lease<'_>, CallError> {
        self.check_pause()?;
        let slot = self.slot().await?;
        let idle = self.lock_idle().pop();
        let running = self.engine.running();
        let mut instance = match idle {
            Some(instance) => instance,
            None => self.restart().await?,
        };
        begin(&mut instance.store, cpu_ms);
        Ok(Lease { pool: self, instance, _slot: slot, _running: running })
    }

    /// Refuses further calls and drops the idle instances; calls that run end by themselves.
    pub fn stop(&self) {
        self.slots.close();
        self.lock_idle().clear();
    }

    /// How the plugin is doing.
    pub fn health(&self) -> Health {
        self.lock_health().clone()
    }

    async fn slot(&self) -> Result<SemaphorePermit<'_>, CallError> {
        use tokio::sync::TryAcquireError;
        let plugin = || self.context.name.clone();
        match self.slots.try_acquire() {
            Ok(slot) => return Ok(slot),
            Err(TryAcquireError::Closed) => return Err(CallError::Stopped { plugin: plugin() }),
            Err(TryAcquireError::NoPermits) => {}
        }
        let waiting = Waiting::enter(&self.waiting);
        if waiting.position > self.waiting_max {
            return Err(CallError::Busy { plugin: plugin(), waiting: self.waiting_max });
        }
        match tokio::time::timeout(self.context.wall, self.slots.acquire()).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) => Err(CallError::Stopped { plugin: plugin() }),
            Err(_) => Err(CallError::Busy { plugin: plugin(), waiting: waiting.position }),
        }
    }

    async fn restart(&self) -> Result<Instance, CallError> {
        let started = Instance::start(&self.engine, &self.pre, &self.handlers, &self.context).await;
        started.map_err(|error| {
            let reason = error.to_string();
            self.record_crash(&reason);
            CallError::NotStarted { plugin: self.context.name.clone(), reason }
        })
    }

    fn check_pause(&self) -> Result<(), CallError> {
        let health = self.lock_health();
        let Some(until) = health.paused_until else { return Ok(()) };
        let pause = until.saturating_duration_since(self.context.ports.clock.now());
        if pause.is_zero() {
            return Ok(());
        }
        Err(CallError::Paused {
            plugin: self.context.name.clone(),
            pause_ms: pause.as_millis(),
            crashes: health.crashes_in_row,
            last: health.last_crash.clone().unwrap_or_default(),
        })
    }

    fn record_crash(&self, reason: &str) {
        self.context.ports.metrics.plugin_traps.increment();
        let mut health = self.lock_health();
        health.crashes_total += 1;
        health.crashes_in_row = health.crashes_in_row.saturating_add(1);
        health.last_crash = Some(reason.into());
        let in_row = health.crashes_in_row;
        let pause = back_off(in_row);
        health.paused_until = pause.map(|pause| self.context.ports.clock.now() + pause);
        drop(health);
        let plugin = &*self.context.name;
        let pause_ms = pause.unwrap_or_default().as_millis();
        tracing::warn!(plugin, error = reason, in_row, pause_ms, "plugin instance lost");
    }

    fn record_success(&self) {
        let mut health = self.lock_health();
        health.crashes_in_row = 0;
        health.paused_until = None;
    }

    fn lock_idle(&self) -> MutexGuard<'_, Vec<Instance>> {
        self.idle.lock().expect("no code panics while holding the idle instances")
    }

    fn lock_health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().expect("no code panics while holding the health")
    }
}

/// The pause after so many crashes in a row.
fn back_off(crashes: u32) -> Option<Duration> {
    let doublings = crashes.checked_sub(CRASHES_BEFORE_BACK_OFF)?;
    Some(BACK_OFF_MIN.saturating_mul(1 << doublings.min(16)).min(BACK_OFF_MAX))
}

/// Counts a waiting call until it is dropped.
struct Waiting<'a> {
    counter: &'a AtomicU32,
    position: u32,
}

impl<'a> Waiting<'a> {
    fn enter(counter: &'a AtomicU32) -> Self {
        let position = counter.fetch_add(1, Ordering::Relaxed) + 1;
        Self { counter, position }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.counter.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An instance for one call.
pub struct Lease<'a> {
    /// The instance.
    pub instance: Instance,
    pool: &'a Pool,
    _slot: SemaphorePermit<'a>,
    _running: Running,
}

impl Lease<'_> {
    /// Ends the call: the instance is kept when it answered, and dropped when it crashed.
    ///
    /// # Errors
    /// How it crashed.
    pub fn settle<R>(self, outcome: Result<R, Crash>) -> Result<R, CallError> {
        let pool = self.pool;
        match outcome {
            Ok(answer) => {
                pool.record_success();
                if !pool.slots.is_closed() {
                    pool.lock_idle().push(self.instance);
                }
                Ok(answer)
            }
            Err(crash) => {
                pool.record_crash(&crash.to_string());
                Err(CallError::Crashed { plugin: pool.context.name.clone(), crash })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_from_the_third_crash_up_to_a_minute() {
        let seconds = |crashes| back_off(crashes).map(|pause| pause.as_secs());
        assert_eq!(seconds(2), None);
        assert_eq!(seconds(3), Some(1));
        assert_eq!(seconds(5), Some(4));
        assert_eq!(seconds(40), Some(60));
        assert_eq!(seconds(u32::MAX), Some(60));
    }
}
