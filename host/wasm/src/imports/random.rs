//! `random`: the host's randomness. No grant is needed.

use crate::bindings::host::random::Host;
use crate::instance::State;

/// Bytes that one call gives.
const RANDOM_BYTES_MAX: u32 = 4_096;

impl Host for State {
    async fn bytes(&mut self, len: u32) -> Vec<u8> {
        let mut bytes = vec![0; len.min(RANDOM_BYTES_MAX) as usize];
        self.context.ports.random.fill(&mut bytes);
        bytes
    }
}
