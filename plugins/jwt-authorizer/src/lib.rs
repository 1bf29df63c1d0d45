//! Authorizer that lets clients in by a signed JSON Web Token (RFC 7519, RFC 8725).
//!
//! In: the token that a client presents, the configuration. Out: who it is, policy documents made
//! from templates, and how long the connection may last: until the token is no longer accepted.
//! Not here: which connections are asked (the host's listeners), whether the documents are
//! well-formed policies (the host).
//!
//! Refusals are for the operator's log and never hold any part of a token.

mod claims;
mod jwks;
mod keys;
mod refusal;
mod token;

use crate::claims::{Claims, Rules};
use crate::jwks::JwksConfig;
use crate::keys::{KeyConfig, Keys};
use crate::refusal::Refusal;
use crate::token::Token;
use gnomon_sdk::authorizer::{Hole, Templates, is_principal, is_thing_name};
use gnomon_sdk::{AuthRequest, AuthResponse, Authorizer, Plugin, export, host};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::time::Duration;

export!(JwtAuthorizer: Authorizer);

/// Seconds that `leeway_s` may be at most: more would undo the expiry.
const LEEWAY_S_MAX: u32 = 600;

/// The operator's configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Keys that tokens may be signed with, 1 to 16. Default: none, with `jwks`.
    #[serde(default)]
    keys: Vec<KeyConfig>,
    /// A JWK set with keys, `{ secret = "NAME" }` or `{ url = "https://…", refresh_s = 300 }`: as many
    /// of it as make 16 together with `keys`. Default: none.
    jwks: Option<JwksConfig>,
    /// The `iss` that tokens must have. Default: not checked. Several issuers need an authorizer
    /// each, because a subject is unique for its issuer only.
    issuer: Option<String>,
    /// One of these must be in `aud`. Default: none, and a token with `aud` is refused, being
    /// meant for somebody else (RFC 7519, 4.1.3).
    #[serde(default)]
    audiences: Vec<String>,
    /// Seconds that clocks may differ, at most 600. Default 60.
    #[serde(default = "leeway_s")]
    leeway_s: u32,
    /// Refuse tokens that never expire. Default true.
    #[serde(default = "require_exp")]
    require_exp: bool,
    /// Name of the token in the query of an MQTT user name (`device?token=…`). Default `token`.
    #[serde(default = "token_field")]
    token_field: String,
    /// How `sub` becomes the principal. Default `sub`.
    #[serde(default)]
    principal: PrincipalForm,
    /// Claim with the name of the client's thing. Default: none.
    thing_name_claim: Option<String>,
    /// Policy documents, 1 to 10, as tables or as JSON text. `${claim:NAME}` in a resource or in
    /// the value of a condition stands for a claim; `${iot:…}` and `${aws:…}` are the host's.
    policies: Vec<serde_json::Value>,
}

/// How `sub` becomes the principal, which is `[a-zA-Z0-9]{1,128}`. Each form gives different
/// subjects different principals; a mixture of both would not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PrincipalForm {
    /// As it is; other subjects are refused.
    #[default]
    Sub,
    /// SHA-256 of any subject, 64 hexadecimal digits with upper-case letters: with lower-case
    /// ones it would look like the id of a certificate, which the host refuses.
    Sha256,
}

fn leeway_s() -> u32 {
    60
}

fn require_exp() -> bool {
    true
}

fn token_field() -> String {
    "token".into()
}

/// The plugin; nothing in it changes but the keys of a set that is fetched.
struct JwtAuthorizer {
    keys: Keys,
    rules: Rules,
    token_field: String,
    principal: PrincipalForm,
    thing_name_claim: Option<String>,
    policies: Templates,
}

impl Plugin for JwtAuthorizer {
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        if config.leeway_s > LEEWAY_S_MAX {
            return Err(format!("leeway_s must be at most {LEEWAY_S_MAX}"));
        }
        Ok(Self {
            keys: Keys::parse(config.keys, config.jwks)?,
            rules: Rules {
                issuer: config.issuer,
                audiences: config.audiences,
                leeway: Duration::from_secs(config.leeway_s.into()),
                require_exp: config.require_exp,
            },
            token_field: config.token_field,
            principal: config.principal,
            thing_name_claim: config.thing_name_claim,
            policies: Templates::parse(&config.policies, Hole::Named("claim"))?,
        })
    }
}

impl Authorizer for JwtAuthorizer {
    fn authorize(&mut self, request: &AuthRequest) -> Result<AuthResponse, String> {
        let now = Duration::from_millis(host::now_ms());
        Ok(self.decide(request, now).unwrap_or_else(|refusal| AuthResponse::refused(&refusal)))
    }
}

impl JwtAuthorizer {
    fn decide(&mut self, request: &AuthRequest, now: Duration) -> Result<AuthResponse, Refusal> {
        let token = Token::parse(token::find(request, &self.token_field)?)?;
        self.keys.verify(&token)?;
        let claims = Claims::parse(&token.payload)?;
        let valid_for = self.rules.check(&claims, now)?;
        let mut attributes = Vec::new();
        if let Some(claim) = &self.thing_name_claim {
            attributes.push(("thing-name".into(), thing_name(&claims, claim)?));
        }
        Ok(AuthResponse {
            is_authenticated: true,
            principal_id: self.principal.of(claims.text("sub")?)?,
            policy_documents: self.policies.fill(&|claim| claims.scalar(claim))?,
            disconnect_after_seconds: valid_for.unwrap_or(0),
            refresh_after_seconds: 0,
            attributes,
        })
    }
}

impl PrincipalForm {
    fn of(self, sub: &str) -> Result<String, Refusal> {
        match self {
            Self::Sub if is_principal(sub) => Ok(sub.into()),
            Self::Sub => Err(Refusal::Principal),
            Self::Sha256 => {
                Ok(Sha256::digest(sub).iter().map(|byte| format!("{byte:02X}")).collect())
            }
        }
    }
}

fn thing_name(claims: &Claims, claim: &str) -> Result<String, Refusal> {
    match claims.text(claim)? {
        name if is_thing_name(name) => Ok(name.into()),
        _ => Err(Refusal::ThingName { claim: claim.into() }),
    }
}

#[cfg(test)]
mod tests;
