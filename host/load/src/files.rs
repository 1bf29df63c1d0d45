//! How many files this process may have open: a connection is one.

use crate::error::LoadError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files beside the connections.
const OTHERS: u64 = 64;

/// Raises the process's own limit as far as `connections` need and the system allows.
pub fn allow(connections: u64) -> Result<(), LoadError> {
    let needed = connections + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(allowed) = limit.maximum.filter(|maximum| *maximum < needed) {
        return Err(LoadError::Files { needed, allowed });
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), ..limit })
        .map_err(|error| LoadError::Start(error.into()))
}
