//! The compilation target: is it installed, and can it be added?

use std::path::Path;
use std::process::{Command, Stdio};

/// What plugins are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Why the target is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// There is no usable Rust compiler.
    #[error("cannot run rustc; install Rust from https://rustup.rs")]
    NoCompiler(#[source] std::io::Error),
    /// Rust did not come from rustup, so nobody can add the target for the user.
    #[error(
        "the Rust target {TARGET} is not installed and there is no rustup to add it; install the \
         package of your system that has it (Debian: libstd-rust-dev-wasm32, Fedora: \
         rust-std-static-{TARGET}), or install Rust from https://rustup.rs"
    )]
    NoRustup(#[source] std::io::Error),
    /// rustup failed; it has said why.
    #[error(
        "rustup could not add the Rust target {TARGET}; see its message above, check the network, \
         then try `rustup target add {TARGET}` by hand"
    )]
    RustupFailed,
}

/// Makes sure that the toolchain of `dir` can compile for [`TARGET`], adding it when needed.
pub(crate) fn ensure(dir: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), TargetError> {
    if is_target_installed(dir)? {
        return Ok(());
    }
    progress(&format!("adding the Rust target {TARGET} (once): rustup target add {TARGET}"));
    let status = Command::new("rustup")
        .args(["target", "add", TARGET])
        .current_dir(dir)
        .stdin(Stdio::null())
        .status()
        .map_err(TargetError::NoRustup)?;
    if status.success() && is_target_installed(dir)? {
        Ok(())
    } else {
        Err(TargetError::RustupFailed)
    }
}

/// True when the toolchain of `dir` can compile for [`TARGET`]. Asks the compiler rather than
/// rustup, so that other installations count as well.
///
/// # Errors
/// [`TargetError::NoCompiler`].
pub fn is_target_installed(dir: &Path) -> Result<bool, TargetError> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(dir)
        .output()
        .map_err(TargetError::NoCompiler)?;
    let libdir = String::from_utf8_lossy(&output.stdout);
    Ok(output.status.success() && Path::new(libdir.trim()).is_dir())
}
