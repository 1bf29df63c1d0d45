//! What the operator's configuration says about one plugin.
//!
//! In: the table `[plugins.<name>]`. Out: [`PluginConfig`]. Nobody else reads it; what a plugin
//! asks for is its own manifest ([`crate::manifest`]).

use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// One plugin: where it is, what it may do and how it is configured.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginConfig {
    /// The folder with `plugin.wasm` and `plugin.toml`, or a `.wasm` file with a `plugin.toml`
    /// beside it. Required.
    pub path: PathBuf,
    /// What the plugin may do. Default: nothing.
    #[serde(default)]
    pub grants: Grants,
    /// What it may use up.
    #[serde(default)]
    pub limits: PluginLimits,
    /// The HTTP listener of an adapter. Required when the plugin handles HTTP requests.
    pub listen: Option<ListenConfig>,
    /// The plugin's own configuration. Default: empty.
    #[serde(default)]
    pub config: serde_json::Map<String, serde_json::Value>,
}

/// What the operator allows; a plugin gets what it asks for and is allowed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Topic filters that it may publish to, e.g. `["ingest/#"]`.
    pub publish: Vec<String>,
    /// Origins that it may send HTTP requests to: scheme, host and port, e.g.
    /// `["https://hooks.example.com", "https://*.example.org", "http://127.0.0.1:9000"]`.
    ///
    /// A name that resolves to a loopback or link-local address is refused: grant the address.
    pub http: Vec<String>,
    /// Secrets that it may read, by name.
    pub secrets: BTreeMap<String, SecretConfig>,
    /// Credentials that the host adds to the plugin's HTTP requests, by name.
    pub credentials: BTreeMap<String, CredentialConfig>,
}

/// A secret that a plugin may read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretConfig {
    /// File with the secret; white space at its end is dropped. Read when the plugin is loaded.
    pub file: PathBuf,
}

/// A header that the host adds to requests; the plugin never sees its value.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialConfig {
    /// File with the secret; white space at its end is dropped. Read when the plugin is loaded.
    pub file: PathBuf,
    /// Name of the header. Default `authorization`.
    #[serde(default = "authorization")]
    pub header: String,
    /// Put before the secret. Default `"Bearer "`.
    #[serde(default = "bearer")]
    pub prefix: String,
    /// Origins that the credential is sent to, written as in [`Grants::http`]. Required.
    pub origins: Vec<String>,
}

/// The listener of an adapter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenConfig {
    /// Address to bind, e.g. `"[::]:8444"`. Required.
    pub bind: SocketAddr,
    /// Serve HTTPS with the host's certificate. Default true.
    #[serde(default = "tls")]
    pub tls: bool,
}

/// Bounds of one plugin.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginLimits {
    /// Memory of one instance in MiB. Default 16; JavaScript needs 64.
    pub memory_mib: u32,
    /// CPU time of one call in milliseconds. Default: 50 for authorizers and HTTP handlers, 100
    /// for rule actions.
    pub cpu_ms: Option<u32>,
    /// Time of one call in milliseconds, waiting included. Default 10,000.
    pub wall_ms: u32,
    /// Instances that work at the same time. Default 4; an HTTP handler has one, which keeps its
    /// state between requests.
    pub instances: u32,
    /// Calls that wait for an instance; further ones fail at once. Default 256.
    pub queue: u32,
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self { memory_mib: 16, cpu_ms: None, wall_ms: 10_000, instances: 4, queue: 256 }
    }
}

fn authorization() -> String {
    "authorization".into()
}

fn bearer() -> String {
    "Bearer ".into()
}

fn tls() -> bool {
    true
}
