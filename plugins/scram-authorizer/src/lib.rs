//! Authorizer that lets clients in by SCRAM-SHA-256 (RFC 5802, RFC 7677): MQTT 5.0's enhanced
//! authentication with a password that never crosses the wire and is not stored here.
//!
//! In: the client's messages, users in the configuration. Out: the server's messages, and who the
//! client is. Not here: channel binding, authorization identities, SASLprep (names are compared
//! as they come).
//!
//! A user's `verifier` is the text that PostgreSQL keeps for a role with a SCRAM password. Made
//! with Python from password (`P`) and iterations:
//!
//! ```text
//! import base64, hashlib, hmac, os
//! salt, n = os.urandom(16), 4096
//! key = hashlib.pbkdf2_hmac("sha256", b"P", salt, n)
//! text = lambda value: base64.b64encode(value).decode()
//! of = lambda name: hmac.digest(key, name, "sha256")
//! print(f"SCRAM-SHA-256${n}:{text(salt)}${text(hashlib.sha256(of(b'Client Key')).digest())}"
//!       f":{text(of(b'Server Key'))}")
//! ```
//!
//! A user that does not exist is challenged like one that does and refused after the same steps;
//! its salt is made from a secret, so it stays the same.

mod message;
mod verifier;

use crate::message::{ClientFinal, ClientFirst, State};
use crate::verifier::{SALT_BYTES, Verifier};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use gnomon_sdk::authorizer::{POLICIES_MAX, is_principal};
use gnomon_sdk::{Challenge, EnhancedAuthorizer, ExchangeRequest, ExchangeResponse, Grant};
use gnomon_sdk::{Plugin, export, host};
use serde::Deserialize;
use std::collections::BTreeMap;

export!(ScramAuthorizer: EnhancedAuthorizer);

/// The method's name (RFC 7677).
const METHOD: &str = "SCRAM-SHA-256";

/// Bytes of the secret for salts.
const SALT_SECRET_BYTES_MIN: usize = 16;

/// Random bytes in the server's part of the nonce.
const NONCE_BYTES: u32 = 18;

/// The operator's configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Name of a granted secret, at least 16 bytes.
    salt_secret: String,
    /// By user name. All have the same iterations: another number would tell who exists.
    users: BTreeMap<String, UserConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserConfig {
    /// `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`, the salt of 16 bytes.
    verifier: String,
    /// `[a-zA-Z0-9]{1,128}`. Default: the user name.
    principal: Option<String>,
    /// Seconds after which the client has to authenticate again. Default 0: never.
    #[serde(default)]
    disconnect_after_s: u32,
    /// Policy documents, 1 to 10, as tables or as JSON text.
    policies: Vec<serde_json::Value>,
}

/// The plugin; nothing in it changes.
struct ScramAuthorizer {
    users: BTreeMap<String, User>,
    salt_secret: Vec<u8>,
    iterations: u32,
}

struct User {
    verifier: Verifier,
    principal: String,
    disconnect_after_s: u32,
    policies: Vec<String>,
}

impl Plugin for ScramAuthorizer {
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        let salt_secret = host::secret(&config.salt_secret)
            .map_err(|error| format!("salt_secret: {}", error.reason()))?;
        if salt_secret.len() < SALT_SECRET_BYTES_MIN {
            return Err(format!("salt_secret must have at least {SALT_SECRET_BYTES_MIN} bytes"));
        }
        let mut users = BTreeMap::new();
        for (name, user) in config.users {
            let user = User::parse(&name, user).map_err(|e| format!("users.{name}: {e}"))?;
            users.insert(name, user);
        }
        let mut counts = users.values().map(|user| user.verifier.iterations);
        let iterations = counts.next().ok_or("users has nobody")?;
        if counts.any(|other| other != iterations) {
            return Err("all users must have the same number of iterations".into());
        }
        Ok(Self { users, salt_secret, iterations })
    }
}

impl User {
    fn parse(name: &str, config: UserConfig) -> Result<Self, String> {
        let principal = config.principal.unwrap_or_else(|| name.to_owned());
        if !is_principal(&principal) {
            return Err("principal must be [a-zA-Z0-9]{1,128}".into());
        }
        if config.policies.is_empty() || config.policies.len() > POLICIES_MAX {
            return Err(format!("policies must have 1 to {POLICIES_MAX} documents"));
        }
        let policies = config.policies.into_iter().map(|policy| match policy {
            serde_json::Value::String(text) => text,
            table => table.to_string(),
        });
        Ok(Self {
            verifier: Verifier::parse(&config.verifier)?,
            principal,
            disconnect_after_s: config.disconnect_after_s,
            policies: policies.collect(),
        })
    }
}

impl EnhancedAuthorizer for ScramAuthorizer {
    fn exchange(&mut self, request: &ExchangeRequest) -> Result<ExchangeResponse, String> {
        if request.method != METHOD {
            return Err(format!("this plugin speaks {METHOD} only"));
        }
        let message = std::str::from_utf8(&request.data).map_err(|_| "message is not UTF-8")?;
        if request.state.is_empty() {
            let nonce = BASE64_STANDARD.encode(host::random_bytes(NONCE_BYTES));
            return self.challenge(message, &nonce).map(ExchangeResponse::Challenged);
        }
        self.verify(message, &State::parse(&request.state)?).map(ExchangeResponse::Accepted)
    }
}

impl ScramAuthorizer {
    /// The answer to the client's first message.
    fn challenge(&self, message: &str, nonce: &str) -> Result<Challenge, String> {
        let first = ClientFirst::parse(message)?;
        let salt = match self.users.get(&first.name) {
            Some(user) => user.verifier.salt,
            None => self.nobody(&first.name).salt,
        };
        let salt: [u8; SALT_BYTES] = salt;
        let server_first = format!(
            "r={}{nonce},s={},i={}",
            first.nonce,
            BASE64_STANDARD.encode(salt),
            self.iterations
        );
        let state = State { header: first.header, bare: first.bare, server_first: &server_first };
        Ok(Challenge { state: state.bytes(), data: server_first.into_bytes() })
    }

    /// The answer to the client's proof.
    fn verify(&self, message: &str, state: &State<'_>) -> Result<Grant, String> {
        let last = ClientFinal::parse(message, state)?;
        let name = ClientFirst::name(state.bare)?;
        let user = self.users.get(&name);
        let nobody;
        let verifier = match user {
            Some(user) => &user.verifier,
            None => {
                nobody = self.nobody(&name);
                &nobody
            }
        };
        let signed = format!("{},{},{}", state.bare, state.server_first, last.without_proof);
        let is_proved = verifier.proves(signed.as_bytes(), &last.proof);
        let signature = verifier.signature(signed.as_bytes());
        let Some(user) = user.filter(|_| is_proved) else {
            return Err("no such user, or another password".into());
        };
        Ok(Grant {
            principal_id: user.principal.clone(),
            policy_documents: user.policies.clone(),
            disconnect_after_seconds: user.disconnect_after_s,
            data: format!("v={}", BASE64_STANDARD.encode(signature)).into_bytes(),
        })
    }

    /// What nobody can prove, the same for each name.
    fn nobody(&self, name: &str) -> Verifier {
        Verifier::of_nobody(&self.salt_secret, name, self.iterations)
    }
}

#[cfg(test)]
mod tests;
