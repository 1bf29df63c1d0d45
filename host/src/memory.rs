//! The allocator, and what it takes for memory that is not in use to go back to the system.

use std::hint::black_box;

/// Connections allocate and free small pieces all the time; see ARCHITECTURE, decision 26.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A block that the allocator takes from its arenas, and not from pages of smaller ones.
const ARENA_BLOCK_BYTES: usize = 8 * 1_024 * 1_024;

/// To be called before the first thread: no huge pages. Under many small pieces they keep a third
/// more memory than is in use; where the kernel has no such switch nothing is lost.
pub fn refuse_huge_pages() {
    #[cfg(target_os = "linux")]
    rustix::thread::disable_transparent_huge_pages(true).ok();
}

/// To be called every second: has the allocator give back what has been free for a second. It looks
/// only when a thread frees a whole page of its own, which nobody does in a host that has become
/// quiet, and would keep what a burst of connections took. The block is not touched, so it costs a
/// system call.
pub fn give_back() {
    drop(black_box(Vec::<u8>::with_capacity(ARENA_BLOCK_BYTES)));
}
