//! What the host asks of the system for its process: small pages, and enough files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections allocate and free small pieces all the time; see ARCHITECTURE, decision 26.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
