//! Tags: pairs of texts that an operator puts on a resource, to find it again.
//!
//! In: the part of an ARN behind the account, e.g. `thinggroup/hall`. Who calls knows that the resource
//! exists, and takes its tags away when it is deleted.
//!
//! Source: AWS IoT developer guide, "Tag restrictions".

use super::record::{self, Stored};
use super::{ATTEMPTS_MAX, Registry, RegistryError};
use crate::storage::Expect;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Tags of one resource.
pub const TAGS_MAX: usize = 50;

/// Longest key in characters.
const KEY_CHARS_MAX: usize = 128;

/// Longest value in characters.
const VALUE_CHARS_MAX: usize = 256;

/// Tags by their keys; checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(BTreeMap<String, String>);

impl Tags {
    /// Checks keys and values: letters, digits, spaces and `_ . : / = + - @`.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`] names the tag and the rule; [`RegistryError::LimitExceeded`]
    /// beyond [`TAGS_MAX`].
    pub fn parse(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, RegistryError> {
        let mut tags = BTreeMap::new();
        for (key, value) in pairs {
            let wrong =
                |what: &str| Err(RegistryError::InvalidRequest(format!("tag {key:.128?}: {what}")));
            if key.is_empty() || key.chars().count() > KEY_CHARS_MAX || !is_plain(&key) {
                return wrong(
                    "its key must have 1 to 128 letters, digits, spaces or any of _ . : / = + - @",
                );
            }
            if key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
                return wrong("keys that begin with aws: are reserved");
            }
            if value.chars().count() > VALUE_CHARS_MAX || !is_plain(&value) {
                return wrong(
                    "its value must have at most 256 letters, digits, spaces or any of _ . : / = + - @",
                );
            }
            if tags.insert(key.clone(), value).is_some() {
                return wrong("it is there twice");
            }
        }
        if tags.len() > TAGS_MAX {
            let n = tags.len();
            let message = format!("{n} tags; at most {TAGS_MAX} are allowed");
            return Err(RegistryError::LimitExceeded(message));
        }
        Ok(Self(tags))
    }

    /// Keys and values, ordered by key.
    pub fn values(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c))
}

/// What is stored.
#[derive(Clone, Debug, Default)]
struct Tagged {
    tags: Tags,
}

impl Registry {
    /// TagResource: adds tags, and replaces those with the same keys.
    ///
    /// # Errors
    /// [`RegistryError::LimitExceeded`] beyond [`TAGS_MAX`].
    pub async fn tag(&self, resource: &str, tags: &Tags) -> Result<(), RegistryError> {
        if tags.0.is_empty() {
            return Ok(());
        }
        self.change_tags(resource, |present| present.extend(tags.0.clone())).await
    }

    /// UntagResource; a tag that is not there is a success.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn untag(&self, resource: &str, keys: &[String]) -> Result<(), RegistryError> {
        self.change_tags(resource, |present| present.retain(|key, _| !keys.contains(key))).await
    }

    /// The tags of a resource.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tags(&self, resource: &str) -> Result<Tags, RegistryError> {
        let found = self.read::<Tagged>(&record::key::<Tagged>(&name(resource))).await?;
        Ok(found.map(|(tagged, _)| tagged.tags).unwrap_or_default())
    }

    /// Takes all tags away: the resource is deleted.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_tags(&self, resource: &str) -> Result<(), RegistryError> {
        let key = record::key::<Tagged>(&name(resource));
        self.0.ports.storage.delete(&key, Expect::Any).await?;
        Ok(())
    }

    async fn change_tags(
        &self,
        resource: &str,
        change: impl Fn(&mut BTreeMap<String, String>),
    ) -> Result<(), RegistryError> {
        let key = record::key::<Tagged>(&name(resource));
        for _ in 0..ATTEMPTS_MAX {
            let (mut tagged, revision) = match self.read::<Tagged>(&key).await? {
                Some((tagged, revision)) => (tagged, Some(revision)),
                None => (Tagged::default(), None),
            };
            change(&mut tagged.tags.0);
            if tagged.tags.0.len() > TAGS_MAX {
                return Err(RegistryError::LimitExceeded(format!(
                    "{resource} would have {} tags; at most {TAGS_MAX} are allowed",
                    tagged.tags.0.len()
                )));
            }
            if self.write(&key, &tagged, revision).await? {
                return Ok(());
            }
        }
        Err(RegistryError::Busy)
    }
}

/// As the last part of a key, which has no `/`; no resource's name has a `|`.
fn name(resource: &str) -> String {
    resource.replace('/', "|")
}

#[derive(Serialize, Deserialize)]
struct TaggedRecord {
    tags: BTreeMap<String, String>,
}

impl Stored for Tagged {
    const KIND: &str = "tags";
    const VERSION: u8 = 1;
    type Record = TaggedRecord;

    fn to_record(&self) -> TaggedRecord {
        TaggedRecord { tags: self.tags.0.clone() }
    }

    fn from_record(_: &str, record: TaggedRecord) -> Result<Self, String> {
        Ok(Self { tags: Tags(record.tags) })
    }

    fn not_found(name: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("{name} has no tags"))
    }
}
