//! Access keys: who may call the REST API.
//!
//! In: creation by an administrator (or by the host at its first start). Out: the key that a
//! signature names, with its secret and role. Not here: verification ([`crate::sigv4`]).
//!
//! Signature Version 4 is symmetric: the host needs the secret itself, so it is stored as it is,
//! and whoever can read the store can sign. The permissions of the data folder and its backups
//! are the protection. A secret is shown once, when it is made; it is in no list and no log.

use base64::Engine;
use bytes::Bytes;
use gnomon_core::random::{self, Random};
use gnomon_core::storage::{Expect, Key, Record, Storage, StoreError};
use gnomon_core::time::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

const KIND: &str = "access-key";

/// First byte of a stored record.
const RECORD_VERSION: u8 = 1;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Everything, access keys included.
    Administrator,
    /// Everything but access keys.
    Operator,
    /// Get, list, describe.
    ReadOnly,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Administrator => "administrator",
            Self::Operator => "operator",
            Self::ReadOnly => "read-only",
        })
    }
}

/// Whether a key is accepted; AWS IAM's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It is.
    Active,
    /// It is not, until someone activates it again.
    Inactive,
}

/// An access key.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// `AKIA` and 16 of `[A-Z2-7]`.
    pub id: String,
    /// 40 characters of base64: 240 random bits.
    pub secret: String,
    /// What it may do.
    pub role: Role,
    /// Whether it is accepted.
    pub status: Status,
    /// When it was made.
    pub created_at: Timestamp,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the secret: this text ends up in logs.
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .field("role", &self.role)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Why a key could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The store failed.
    #[error("the access key could not be read or written")]
    Store(#[from] StoreError),
    /// The stored record is of a later version, or damaged.
    #[error("the record of access key {id} cannot be read; it is of a later version or damaged")]
    Record {
        /// The key.
        id: String,
    },
}

/// The access keys of the host.
#[derive(Clone)]
pub struct Keys {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Keys {
    /// The keys in this store.
    pub fn new(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { storage, clock, random }
    }

    /// Makes an active key; returns once it is durable.
    ///
    /// # Errors
    /// [`KeyError::Store`]; then there is no new key.
    pub async fn create(&self, role: Role) -> Result<AccessKey, KeyError> {
        let key = AccessKey {
            id: random_id(&*self.random),
            secret: base64::engine::general_purpose::STANDARD
                .encode(random::bytes::<30>(&*self.random)),
            role,
            status: Status::Active,
            created_at: self.clock.wall(),
        };
        self.storage.put(&Key::new(KIND, &[&key.id]), encode(&key), Expect::Absent).await?;
        Ok(key)
    }

    /// The key with this id.
    ///
    /// # Errors
    /// As [`KeyError`] says.
    pub async fn get(&self, id: &str) -> Result<Option<AccessKey>, KeyError> {
        let Some(key) = storage_key(id) else { return Ok(None) };
        self.storage.get(&key).await?.map(|record| decode(&record)).transpose()
    }

    /// At most `limit` keys behind the one with the id `after`, in the order of their ids.
    ///
    /// # Errors
    /// As [`KeyError`] says.
    pub async fn list(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<AccessKey>, KeyError> {
        let after = after.map(|id| Key::new(KIND, &[id]));
        let records = self.storage.scan(&Key::prefix(KIND), after.as_ref(), limit).await?;
        records.iter().map(decode).collect()
    }

    /// Accepts or refuses the key from now on; false when there is no such key.
    ///
    /// # Errors
    /// As [`KeyError`] says.
    pub async fn set_status(&self, id: &str, status: Status) -> Result<bool, KeyError> {
        let Some(key) = storage_key(id) else { return Ok(false) };
        let Some(record) = self.storage.get(&key).await? else { return Ok(false) };
        let key = AccessKey { status, ..decode(&record)? };
        self.storage.put(&record.key, encode(&key), Expect::Revision(record.revision)).await?;
        Ok(true)
    }

    /// Removes the key; false when there was none.
    ///
    /// # Errors
    /// [`KeyError::Store`].
    pub async fn delete(&self, id: &str) -> Result<bool, KeyError> {
        let Some(key) = storage_key(id) else { return Ok(false) };
        Ok(self.storage.delete(&key, Expect::Any).await?)
    }
}

fn random_id(random: &dyn Random) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let characters = random::bytes::<16>(random).map(|b| char::from(ALPHABET[usize::from(b % 32)]));
    format!("AKIA{}", String::from_iter(characters))
}

/// `None` for a text that is no id and so names no record; most ids come from strangers.
fn storage_key(id: &str) -> Option<Key> {
    let is_id = id.len() == 20 && id.bytes().all(|b| b.is_ascii_alphanumeric());
    is_id.then(|| Key::new(KIND, &[id]))
}

/// A stored key, version 1; the id is the record's key.
#[derive(Serialize, Deserialize)]
struct KeyRecord {
    secret: String,
    role: Role,
    status: Status,
    created_at_ms: u64,
}

fn encode(key: &AccessKey) -> Bytes {
    let record = KeyRecord {
        secret: key.secret.clone(),
        role: key.role,
        status: key.status,
        created_at_ms: key.created_at.as_millis(),
    };
    let mut bytes = vec![RECORD_VERSION];
    serde_json::to_writer(&mut bytes, &record).expect("a struct of texts and numbers serializes");
    bytes.into()
}

fn decode(record: &Record) -> Result<AccessKey, KeyError> {
    let id = record.key.as_str().strip_prefix(Key::prefix(KIND).as_str()).unwrap_or_default();
    let damaged = || KeyError::Record { id: id.to_owned() };
    let json = record.value.strip_prefix(&[RECORD_VERSION]).ok_or_else(damaged)?;
    let stored: KeyRecord = serde_json::from_slice(json).map_err(|_| damaged())?;
    Ok(AccessKey {
        id: id.to_owned(),
        secret: stored.secret,
        role: stored.role,
        status: stored.status,
        created_at: Timestamp::from_millis(stored.created_at_ms),
    })
}
