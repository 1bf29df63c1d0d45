//! What a shadow is at this moment, for those who follow the store: no request, and no answer to wait for.

use super::document::{State, Stored, Tree};
use super::{ShadowId, record};
use crate::storage::{Storage, StoreError};
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
    /// Reads a shadow; `None` when it does not exist, and when its record cannot be read, which is
    /// logged.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read(storage: &dyn Storage, id: &ShadowId) -> Result<Option<Self>, StoreError> {
        let Some(stored) = storage.get(&id.key()).await? else { return Ok(None) };
        let stored = match record::decode(&stored.value) {
            Ok(stored) => stored,
            Err(error) => {
                let (thing, shadow) = (&id.thing, id);
                tracing::error!(%thing, %shadow, %error, "shadow cannot be read");
                return Ok(None);
            }
        };
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
