//! Authorizer that lets clients in by user name and password, against a file of Argon2 hashes.
//!
//! In: the user name and password of MQTT's CONNECT, or of HTTP basic authentication (HTTPS
//! publishes, WebSocket upgrades); the operator's file, a granted secret. Out: who the client is,
//! and policy documents made from templates. Not here: which connections are asked (the host's
//! listeners), changes of the file while the host runs (it is read when the plugin is loaded).
//!
//! The file has a line for each user; empty ones and those that begin with `#` are passed over:
//!
//! ```text
//! alice:$argon2id$v=19$m=9216,t=4,p=1$<salt>$<hash>
//! ```
//!
//! Behind the name is a hash as the reference implementation's `argon2 … -e` prints it (PHC string
//! format). Recommended are `m=9216,t=4,p=1`, 16 random bytes of salt and 32 bytes of hash. All
//! users must have the same `m`, `t` and `p`.
//!
//! These say what a login costs: `m` KiB of memory, and 1 to 1.5 ms of a server's core (measured as
//! WebAssembly) for each MiB in each of the `t` passes, some 40 ms with the recommended ones. The
//! plugin's limits have to allow that: `cpu_ms` five times as much, for machines that are slower or
//! busy (250 for the recommended ones; the default of 50 is too little), `memory_mib` 4 MiB more than
//! `m` (the default of 16 is enough for the recommended ones).
//!
//! An unknown user costs as much time as a wrong password, and both are refused with the same
//! words, so neither tells who exists.

mod credentials;
mod refusal;
mod users;
mod verifier;

use crate::credentials::Credentials;
use crate::refusal::Refusal;
use crate::users::Users;
use gnomon_sdk::authorizer::{Hole, Templates, is_principal, is_thing_name};
use gnomon_sdk::host::NamedSecret;
use gnomon_sdk::{AuthRequest, AuthResponse, Authorizer, Plugin, export};
use serde::Deserialize;
use sha2::{Digest, Sha256};

export!(PasswordAuthorizer: Authorizer);

/// The operator's configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The file of users, as a granted secret: `{ secret = "NAME" }`.
    users: NamedSecret,
    /// How the user name becomes the principal. Default `user`.
    #[serde(default)]
    principal: PrincipalForm,
    /// Every client is the thing that is called like its user. Default false.
    #[serde(default)]
    user_is_thing: bool,
    /// Policy documents for every user, 1 to 10, as tables or as JSON text. `${user}` in a resource
    /// or in the value of a condition stands for the user name; `${iot:…}` and `${aws:…}` are the
    /// host's.
    policies: Vec<serde_json::Value>,
}

/// How the user name becomes the principal, which is `[a-zA-Z0-9]{1,128}`. Each form gives
/// different users different principals; a mixture of both would not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PrincipalForm {
    /// As it is; a file with other names is refused.
    #[default]
    User,
    /// SHA-256 of any name, 64 hexadecimal digits with upper-case letters: with lower-case ones it
    /// would look like the id of a certificate, which the host refuses.
    Sha256,
}

/// The plugin; nothing in it changes but the memory in which hashes are made.
struct PasswordAuthorizer {
    users: Users,
    principal: PrincipalForm,
    user_is_thing: bool,
    policies: Templates,
}

impl Plugin for PasswordAuthorizer {
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        let Config { users, principal, user_is_thing, policies } = config;
        let policies = Templates::parse(&policies, Hole::Only("user"))?;
        let check = |name: &str| {
            if principal == PrincipalForm::User && !is_principal(name) {
                return Err("the user name is no principal: 1 to 128 of [a-zA-Z0-9]; \
                            principal = \"sha256\" takes the others too");
            }
            if user_is_thing && !is_thing_name(name) {
                return Err("the user name is no thing name: 1 to 128 of [a-zA-Z0-9_-]; without \
                            user_is_thing it need not be one");
            }
            Ok(())
        };
        let users = users.read().and_then(|file| Users::parse(&file, check));
        let users = users.map_err(|error| format!("users: {error}"))?;
        Ok(Self { users, principal, user_is_thing, policies })
    }
}

impl Authorizer for PasswordAuthorizer {
    fn authorize(&mut self, request: &AuthRequest) -> Result<AuthResponse, String> {
        Ok(self.decide(request).unwrap_or_else(|refusal| AuthResponse::refused(&refusal)))
    }
}

impl PasswordAuthorizer {
    fn decide(&mut self, request: &AuthRequest) -> Result<AuthResponse, Refusal> {
        let Credentials { user, password } = Credentials::find(request)?;
        if !self.users.has(&user, &password) {
            return Err(Refusal::Unknown);
        }
        let thing = self.user_is_thing.then(|| ("thing-name".into(), user.clone()));
        Ok(AuthResponse {
            is_authenticated: true,
            principal_id: self.principal.of(&user),
            policy_documents: self.policies.fill(&|_| Ok::<_, Refusal>(user.clone()))?,
            disconnect_after_seconds: 0,
            refresh_after_seconds: 0,
            attributes: thing.into_iter().collect(),
        })
    }
}

impl PrincipalForm {
    /// Of a user of the file, whose name was checked when it was read.
    fn of(self, user: &str) -> String {
        match self {
            Self::User => user.into(),
            Self::Sha256 => Sha256::digest(user).iter().map(|byte| format!("{byte:02X}")).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
