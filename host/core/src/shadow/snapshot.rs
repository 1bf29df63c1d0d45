//! What a shadow is at this moment, for those who follow the store: no request, and no answer to wait for.

use super::document::{State, Stored, Tree};
use super::handler::failed;
use super::{ShadowError, ShadowId, record};
use crate::storage::Storage;
use serde::Serialize;
use serde_json::Value;

/// A shadow that exists. A section that is not there is null.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// What the thing ought to be.
    pub desired: Value,
    /// What the thing says it is.
    pub reported: Value,
    /// What is desired and not reported.
    pub delta: Value,
    /// `{"desired": …, "reported": …}`: the second in which each value was last set.
    pub metadata: Value,
    /// Counts the updates, from 1.
    pub version: u64,
}

impl Snapshot {
    /// Reads a shadow; `None` when it does not exist.
    ///
    /// # Errors
    /// [`ShadowError::Internal`].
    pub async fn read(storage: &dyn Storage, id: &ShadowId) -> Result<Option<Self>, ShadowError> {
        let stored = storage.get(&id.key()).await.map_err(|error| failed(id, &error))?;
        let Some(stored) = stored else { return Ok(None) };
        let stored = record::decode(&stored.value).map_err(|error| failed(id, &error))?;
        let Some(document) = Stored::existing(stored) else { return Ok(None) };
        let section = |tree: &Tree| match tree.is_empty() {
            true => Value::Null,
            false => to_value(&State(tree)),
        };
        Ok(Some(Self {
            delta: section(&document.delta()),
            desired: section(&document.desired),
            reported: section(&document.reported),
            metadata: to_value(&document.metadata()),
            version: document.version,
        }))
    }
}

fn to_value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("trees of JSON values serialize")
}
