//! What the host asks of the system for its process: memory that goes back, and enough files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::hint::black_box;

/// Connections allocate and free small pieces all the time; see ARCHITECTURE, decision 26.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A block that the allocator takes from its arenas, and not from pages of smaller ones.
const ARENA_BLOCK_BYTES: usize = 8 * 1_024 * 1_024;

/// To be called before the first thread. What the system does not let us have is no error: the host
/// is larger then, or holds fewer connections and says so when they come.
pub fn prepare() {
    // Huge pages under many small pieces keep a third more memory than is in use.
    #[cfg(target_os = "linux")]
    rustix::thread::disable_transparent_huge_pages(true).ok();
    // Every connection is a file, and shells give their children few of those that they may have.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).ok();
}

/// To be called every second: has the allocator give back what has been free for a second. It looks
/// only when a thread frees a whole page of its own, which nobody does in a host that has become
/// quiet, and would keep what a burst of connections took. The block is not touched, so it costs a
/// system call.
pub fn give_memory_back() {
    drop(black_box(Vec::<u8>::with_capacity(ARENA_BLOCK_BYTES)));
}
