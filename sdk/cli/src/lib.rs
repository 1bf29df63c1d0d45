//! Builds plugins of a cargo workspace for WebAssembly.
//!
//! In: a workspace and names of plugins (packages with a `plugin.toml` beside their
//! `Cargo.toml`). Out: `<target>/plugins/<name>/{plugin.wasm, plugin.toml}`, the folder that the
//! host's configuration names. The result is a core module; the host makes a component of it.
//! Not here: running plugins (`gnomon-wasm`).

mod build;
mod target;

pub use build::{BuildError, BuiltPlugin, build};
pub use target::{TARGET, TargetError, is_target_installed};
