//! Write plugins for Gnomon in Rust.
//!
//! A plugin is a struct that implements [`Plugin`] and at least one handler ([`RuleAction`],
//! [`RuleFunction`], [`Authorizer`], [`EnhancedAuthorizer`], [`HttpHandler`], [`ProvisioningHook`]), a call of [`export!`],
//! and a `plugin.toml` that says what it asks for. `cargo gnomon build` makes the component. What a plugin
//! may call is in [`host`]; what authorizers have in common is in [`authorizer`].
//!
//! In a native build the host calls go to a mock host ([`mock`]), so `cargo test` runs a plugin's
//! unit tests without WebAssembly.

// The generated code names this crate as its users do.
extern crate self as gnomon_sdk;

pub mod authorizer;
pub mod host;

#[doc(hidden)]
pub mod bindings;
#[doc(hidden)]
pub mod glue;
#[cfg(not(target_arch = "wasm32"))]
pub mod mock;
mod plugin;

pub use plugin::{
    ActionContext, Authorizer, EnhancedAuthorizer, HttpHandler, Plugin, ProvisioningHook,
    RuleAction, RuleFunction, Value,
};

pub use bindings::authorizer::exports::gnomon::plugin::authorizer::{
    AuthRequest, AuthResponse, HttpInfo, MqttInfo, Protocol, TlsInfo,
};
pub use bindings::enhanced_authorizer::exports::gnomon::plugin::enhanced_authorizer::{
    Challenge, ExchangeRequest, ExchangeResponse, Grant,
};
pub use bindings::http_handler::exports::gnomon::plugin::http_handler::Incoming;
pub use bindings::imports::gnomon::plugin::http::{Request, Response};
pub use bindings::imports::gnomon::plugin::log::Level;
pub use bindings::imports::gnomon::plugin::messaging::PublishOptions;
pub use bindings::imports::gnomon::plugin::types::{Endpoint, Error, Message, Qos};
pub use bindings::provisioning_hook::exports::gnomon::plugin::provisioning_hook::{
    HookRequest, HookResponse,
};
pub use bindings::rule_action::exports::gnomon::plugin::rule_action::Failure;
