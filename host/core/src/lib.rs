//! Gnomon's decisions, without sockets, files or WebAssembly.
//!
//! Modules in reading order; a module never imports one below it (held by `tests/tidy`):
//! vocabulary ([`ids`], [`topic`], [`message`], [`packet`], [`time`], [`random`], [`limits`],
//! [`metrics`], [`logging`]), then what is durable ([`storage`]), who may do and say what (`policy`,
//! [`payload_schema`], `registry`, `auth`), the protocol (`session`), the distribution (`broker`), its
//! clients on reserved topics (`shadow`), the registry's changes as messages ([`events`]), who is to be
//! silent ([`quarantine`]), what can be searched ([`fleet`]), the rules (`actions`, `rules`), what they keep ([`tables`]), and how devices
//! get in for the first time ([`provisioning`]). [`adapter`] is the port to whoever answers HTTP
//! requests.
//!
//! Whatever needs the outside world is a trait here and is implemented by a package further
//! right: `gnomon-store` ([`storage::Storage`]), `gnomon-table` ([`tables::Tables`]), `gnomon-wasm`
//! (authorizers, actions, adapters, hooks), `gnomon-gateway` (sockets).

pub mod ids;
pub mod limits;
pub mod logging;
pub mod message;
pub mod metrics;
pub mod packet;
pub mod random;
pub mod time;
pub mod topic;

pub mod storage;

pub mod payload_schema;
pub mod policy;
pub mod registry;

pub mod auth;

pub mod session;

pub mod broker;

pub mod shadow;

pub mod events;

pub mod quarantine;

pub mod fleet;

pub mod actions;
pub mod rules;
pub mod tables;

pub mod provisioning;

pub mod adapter;
