//! Runs Gnomon's plugins: WebAssembly components with granted imports, a memory cap and a
//! deadline. The only user of wasmtime.
//!
//! In reading order: what the operator says ([`PluginConfig`]) and what a plugin asks for
//! (`manifest`) make its `capability`; bytes become a `component` (`cache`), which the `engine`
//! runs as an `instance` out of a `pool`; it calls the host through `imports` (and `outbound`)
//! and is called through `worlds`. [`Plugins`] is what the application holds, [`Ports`] what it
//! gives.

mod bindings;
mod cache;
mod capability;
mod component;
mod config;
mod engine;
mod imports;
mod instance;
mod manifest;
mod outbound;
mod plugins;
mod pool;
mod ports;
mod worlds;

pub use config::{
    CredentialConfig, Grants, ListenConfig, PluginConfig, PluginLimits, SecretConfig,
};
pub use plugins::{LoadError, PluginStatus, Plugins};
pub use ports::{Ports, PublishError, Publisher};
pub use worlds::rule_function::PluginFunctions;
