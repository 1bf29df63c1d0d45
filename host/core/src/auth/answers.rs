//! Answers of custom authorizers about HTTP requests, kept for as long as they say.
//!
//! Bound: [`ANSWERS_MAX`]; beyond it the oldest goes. Keys are digests, so that no secret of a client
//! stays in memory.

use super::{Credentials, Identity};
use crate::ids::AuthorizerName;
use crate::storage::Revision;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

/// Answers that are kept.
pub(super) const ANSWERS_MAX: usize = 10_000;

/// Headers that say something about the message and nothing about who sends it.
const MESSAGE_HEADERS: [&str; 4] = ["content-length", "content-md5", "content-type", "date"];

/// Of MQTT 5.0's properties of a message that is published over HTTPS.
const PROPERTY_HEADERS: &str = "x-amz-mqtt5-";

/// An authorizer as it is now, and all that a request presents.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// Which of the values the authorizer looks at is not known, so all of them are in it. The path
    /// is not: who sends it does not depend on it, and policies decide what it may do.
    pub(super) fn new(
        name: &AuthorizerName,
        revision: Revision,
        credentials: &Credentials,
    ) -> Self {
        let mut digest = Sha256::new();
        let mut add = |part: &[u8]| {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        };
        add(name.as_str().as_bytes());
        add(&revision.0.to_le_bytes());
        add(credentials.listener.as_bytes());
        // Policies may ask for it.
        add(credentials.peer.ip().to_string().as_bytes());
        add(credentials.server_name.as_deref().unwrap_or_default().as_bytes());
        add(credentials.certificate.as_deref().unwrap_or_default());
        if let Some(http) = &credentials.http {
            add(http.uri.query().unwrap_or_default().as_bytes());
            for (name, value) in &http.headers {
                let name = name.as_str();
                if !MESSAGE_HEADERS.contains(&name) && !name.starts_with(PROPERTY_HEADERS) {
                    add(name.as_bytes());
                    add(value.as_bytes());
                }
            }
        }
        Self(digest.finalize().into())
    }
}

/// The answers; only those that let a client in.
#[derive(Default)]
pub(super) struct Answers {
    by_key: HashMap<Key, (Identity, Instant)>,
    /// Every key once, the oldest first.
    order: VecDeque<Key>,
}

impl Answers {
    /// An answer that still holds.
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<Identity> {
        let (identity, until) = self.by_key.get(key)?;
        (now < *until).then(|| identity.clone())
    }

    /// Keeps an answer until then.
    pub(super) fn insert(&mut self, key: Key, identity: Identity, until: Instant) {
        if self.by_key.insert(key.clone(), (identity, until)).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > ANSWERS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_key.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
