//! `clock`: the host's clocks. No grant is needed.

use crate::bindings::host::clock::Host;
use crate::instance::State;

impl Host for State {
    async fn now(&mut self) -> u64 {
        self.context.ports.clock.wall().as_millis()
    }

    async fn monotonic(&mut self) -> u64 {
        let since = self.context.ports.clock.now().saturating_duration_since(self.context.epoch);
        // 2^64 ns are 584 years.
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}
