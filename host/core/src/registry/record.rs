//! How the registry's aggregates are stored: a byte with the version, then JSON.
//!
//! Records are types of their own, so that the domain's types can change without touching what
//! lies on disks.

use super::RegistryError;
use crate::storage::{Key, Record};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// An aggregate of the registry.
pub(super) trait Stored: Sized {
    /// First part of its key.
    const KIND: &str;
    /// Version of [`Stored::Record`].
    const VERSION: u8;
    /// What is written.
    type Record: Serialize + DeserializeOwned;

    fn to_record(&self) -> Self::Record;

    /// The aggregate of this name; an error says what in the record is wrong.
    fn from_record(name: &str, record: Self::Record) -> Result<Self, String>;

    /// A record of an earlier version as one of the present version.
    fn migrate(version: u8, _json: &[u8]) -> Result<Self::Record, String> {
        Err(format!("it has version {version}, this host knows up to {}", Self::VERSION))
    }

    /// The error for a missing one.
    fn not_found(name: &str) -> RegistryError;
}

pub(super) fn key<T: Stored>(name: &str) -> Key {
    Key::new(T::KIND, &[name])
}

/// The last part of a key.
pub(super) fn name_of(key: &Key) -> &str {
    key.as_str().rsplit_once('/').map_or("", |(_, name)| name)
}

pub(super) fn encode<T: Stored>(value: &T) -> Bytes {
    let mut bytes = vec![T::VERSION];
    serde_json::to_writer(&mut bytes, &value.to_record())
        .expect("records are structs of texts and numbers, which serialize");
    bytes.into()
}

pub(super) fn decode<T: Stored>(record: &Record) -> Result<T, RegistryError> {
    let decoded = match record.value.split_first() {
        Some((&version, json)) if version == T::VERSION => {
            serde_json::from_slice(json).map_err(|error| error.to_string())
        }
        Some((&version, json)) => T::migrate(version, json),
        None => Err("it is empty".to_owned()),
    };
    decoded
        .and_then(|decoded| T::from_record(name_of(&record.key), decoded))
        .map_err(|reason| RegistryError::Record { key: record.key.clone(), reason })
}
