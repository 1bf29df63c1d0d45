//! Authorizer that asks a URL, in the words in which AWS IoT asks a Lambda function.
//!
//! In: what a client presents. Out: one POST of it, and the answer, which has to be 200 with
//! JSON; everything else refuses the client. Not here: which URLs are allowed (the operator's
//! grants), whether the answered documents are well-formed policies (the host), an answer kept
//! for the next client (each is asked for).
//!
//! The request has what the client presents, passwords and tokens too: beyond the machine the URL
//! should be one of HTTPS. Reasons of refusals are for the operator's log and hold nothing of the
//! request, nor of an answer, which might repeat it.

mod answer;
mod question;

use crate::question::Question;
use gnomon_sdk::{AuthRequest, AuthResponse, Authorizer, Plugin, Request, export, host};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

export!(WebhookAuthorizer: Authorizer);

/// The host waits no longer than this for an authorizer.
const TIMEOUT_MS: RangeInclusive<u32> = 1..=5_000;

/// The operator's configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where to ask; its origin must be granted.
    url: String,
    /// Name of a granted credential that the host adds. Default: none.
    credential: Option<String>,
    /// How long to wait for the answer, at most 5000. Default 3000.
    #[serde(default = "timeout_ms")]
    timeout_ms: u32,
    /// More headers, or another `content-type` than `application/json`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

fn timeout_ms() -> u32 {
    3_000
}

/// The plugin; nothing in it changes.
struct WebhookAuthorizer {
    /// Without a body.
    request: Request,
}

impl Plugin for WebhookAuthorizer {
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        let Config { url, credential, timeout_ms, headers } = config;
        if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err("url must begin with https:// or http://".into());
        }
        if !TIMEOUT_MS.contains(&timeout_ms) {
            let (least, most) = TIMEOUT_MS.into_inner();
            return Err(format!("timeout_ms must be {least} to {most}"));
        }
        let mut headers: BTreeMap<_, _> =
            headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        headers.entry("content-type".into()).or_insert_with(|| "application/json".into());
        let request = Request {
            headers: headers.into_iter().collect(),
            timeout_ms: Some(timeout_ms),
            credential,
            ..Request::new("POST", &url)
        };
        Ok(Self { request })
    }
}

impl Authorizer for WebhookAuthorizer {
    fn authorize(&mut self, request: &AuthRequest) -> Result<AuthResponse, String> {
        let body = Question::of(request).to_json();
        let response = host::send(&Request { body, ..self.request.clone() })
            .map_err(|error| format!("the webhook did not answer: {}", error.reason()))?;
        answer::read(&response)
    }
}

#[cfg(test)]
mod tests;
