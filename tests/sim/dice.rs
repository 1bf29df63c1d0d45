//! Every decision of a run, from one seed.

use gnomon_core::random::{self, Random, SeededRandom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Numbers of a seed.
pub struct Dice(SeededRandom);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(SeededRandom::new(seed))
    }

    /// 0 to `n` - 1.
    pub fn below(&self, n: usize) -> usize {
        let value = u64::from_le_bytes(random::bytes(&self.0)) % n as u64;
        usize::try_from(value).unwrap()
    }

    /// True once in `n` times.
    pub fn once_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Faults until they are to stop.
pub struct Trouble {
    random: SeededRandom,
    is_over: AtomicBool,
}

impl Trouble {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self { random: SeededRandom::new(seed), is_over: AtomicBool::new(false) })
    }

    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl Random for Trouble {
    fn fill(&self, buffer: &mut [u8]) {
        self.random.fill(buffer);
        if self.is_over() {
            // Never below the share of operations that fail.
            buffer.fill(u8::MAX);
        }
    }
}
