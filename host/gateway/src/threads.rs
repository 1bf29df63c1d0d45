//! The threads that MQTT connections run on: one event loop each.
//!
//! A connection stays on the thread that accepted it, so that waking a receiver costs a push to a
//! queue of the same thread, and tasks run in the order in which they were woken. What may keep a
//! processor for long (plugins, the REST API) runs elsewhere.

use std::io;
use std::num::NonZeroUsize;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// Running threads; [`Threads::stop`] ends them.
pub struct Threads {
    handles: Vec<Handle>,
    threads: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Threads {
    /// Starts as many threads.
    ///
    /// # Errors
    /// The system gives no thread or no event queue.
    pub fn start(count: NonZeroUsize) -> io::Result<Self> {
        let mut started =
            Self { handles: Vec::new(), threads: Vec::new(), stop: CancellationToken::new() };
        for number in 0..count.get() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            started.handles.push(runtime.handle().clone());
            let stop = started.stop.clone();
            let thread = std::thread::Builder::new()
                .name(format!("connections-{number}"))
                .spawn(move || runtime.block_on(stop.cancelled()))?;
            started.threads.push(thread);
        }
        Ok(started)
    }

    /// Where to spawn connections, one handle per thread.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Ends the threads and what still runs on them; blocks until they have ended.
    pub fn stop(self) {
        self.stop.cancel();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("connection thread panicked");
            }
        }
    }
}
