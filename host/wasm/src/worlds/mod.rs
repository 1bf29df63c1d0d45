//! What plugins are to the host: one file per handler, each an implementation of a port of
//! `gnomon-core`.

pub mod adapter;
pub mod authorizer;
pub mod enhanced_authorizer;
pub mod provisioning_hook;
pub mod rule_action;
pub mod rule_function;

use crate::bindings::host::types::Endpoint;
use http::HeaderMap;
use std::net::SocketAddr;

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { address: address.ip().to_canonical().to_string(), port: address.port() }
}

/// Names in lower case; bytes of a value that are no UTF-8 become U+FFFD.
pub(crate) fn headers(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect()
}
