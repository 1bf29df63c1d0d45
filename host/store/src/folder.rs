//! The data folder: made private to its owner, and held by one host at a time.
//!
//! The lock is the operating system's, on a file that also tells the holder's process id; it goes
//! away with the process, however that ends.

use crate::OpenError;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

const LOCK_FILE: &str = "host.lock";

const ATTEMPTS_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// Holds the folder while it lives.
#[derive(Debug)]
pub(crate) struct FolderLock(#[allow(dead_code, reason = "closing the file unlocks it")] File);

impl FolderLock {
    /// Makes the folder when it is missing, and takes it.
    pub(crate) fn take(folder: &Path) -> Result<Self, OpenError> {
        create(folder).map_err(|source| OpenError::Io { path: folder.into(), source })?;
        let path = folder.join(LOCK_FILE);
        let failed = |source| OpenError::Io { path: path.clone(), source };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        // Whoever only asks (`is_held`) has the lock for an instant.
        let mut attempts = 0;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempts < ATTEMPTS_MAX => {
                    attempts += 1;
                    std::thread::sleep(PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    let process = holder(&mut file);
                    return Err(OpenError::Held { folder: folder.into(), process });
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        tell_process(&mut file).map_err(failed)?;
        Ok(Self(file))
    }
}

/// True when a host runs on the folder.
///
/// # Errors
/// The lock file is there and cannot be read.
pub fn is_held(folder: &Path) -> std::io::Result<bool> {
    let file = match File::open(folder.join(LOCK_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn create(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    // Keys and certificates lie here: nobody but the owner looks in.
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn tell_process(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(std::process::id().to_string().as_bytes())
}

/// The holder's process id; `None` when it has not written it yet.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(10).read_to_string(&mut text).ok()?;
    text.parse().ok()
}
