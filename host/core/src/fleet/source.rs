//! What the store has of a thing, put together for the index and for answers.
//!
//! The thing is the registry's, its shadows are the shadow service's, its connectivity is ours.

use super::FleetError;
use super::connectivity::{self, Connectivity};
use super::presence::Presence;
use super::slot::IndexName;
use crate::broker::clients::Clients;
use crate::ids::{ClientId, ShadowName, ThingGroupName, ThingName};
use crate::registry::{Registry, RegistryError, Thing, ThingGroup, ThingIndexing};
use crate::shadow::{ShadowId, Snapshot};
use crate::storage::{Expect, Key, Storage};
use crate::time::Clock;
use gnomon_search::{Document, Group};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long a client can be there yet that has told that it goes, in milliseconds.
const GOING_MS: u64 = 1_000;

/// Where it is read from.
pub(super) struct Sources {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) registry: Registry,
    pub(super) clients: Clients,
    pub(super) presence: Arc<Presence>,
    pub(super) clock: Arc<dyn Clock>,
}

/// Shadows of one thing: the classic one and named ones.
pub(super) struct Shadows {
    classic: Option<Snapshot>,
    named: BTreeMap<ShadowName, Snapshot>,
}

impl Sources {
    /// The thing, unless it does not exist.
    pub(super) async fn thing(&self, name: &ThingName) -> Result<Option<Thing>, FleetError> {
        match self.registry.describe_thing(name).await {
            Ok(thing) => Ok(Some(thing)),
            Err(RegistryError::ResourceNotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a document of an index is still stored.
    pub(super) async fn has(&self, index: IndexName, name: &str) -> Result<bool, FleetError> {
        let found = match index {
            IndexName::Things => match ThingName::parse(name) {
                Ok(name) => self.registry.describe_thing(&name).await.map(drop),
                Err(_) => return Ok(false),
            },
            IndexName::ThingGroups => match ThingGroupName::parse(name) {
                Ok(name) => self.registry.describe_thing_group(&name).await.map(drop),
                Err(_) => return Ok(false),
            },
        };
        match found {
            Ok(()) => Ok(true),
            Err(RegistryError::ResourceNotFound(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What the index is to know of a thing.
    pub(super) async fn document(
        &self,
        thing: &Thing,
        indexing: &ThingIndexing,
    ) -> Result<Document, FleetError> {
        let shadows = self.shadows(&thing.name, indexing).await?;
        let connectivity = match indexing.connectivity {
            true => Some(self.corrected_connectivity(thing).await?.to_document()),
            false => None,
        };
        let named = shadows.named.into_iter();
        Ok(Document {
            registry: gnomon_search::Registry {
                thing_id: thing.id.clone(),
                thing_type: thing.type_name.as_ref().map(ToString::to_string),
                groups: thing.groups.iter().map(ToString::to_string).collect(),
                attributes: thing.attributes.values().clone(),
                version: thing.version,
            },
            connectivity,
            shadow: shadows.classic.map(to_indexed),
            named_shadows: named.map(|(name, it)| (name.to_string(), to_indexed(it))).collect(),
        })
    }

    /// The shadows that are indexed.
    pub(super) async fn shadows(
        &self,
        thing: &ThingName,
        indexing: &ThingIndexing,
    ) -> Result<Shadows, FleetError> {
        let read = async |name| {
            let id = ShadowId { thing: thing.clone(), name };
            Snapshot::read(&*self.storage, &id).await
        };
        let classic = match indexing.shadow {
            true => read(None).await?,
            false => None,
        };
        let mut named = BTreeMap::new();
        for name in indexing.named_shadows.iter().filter(|_| indexing.named_shadow) {
            if let Some(shadow) = read(Some(name.clone())).await? {
                named.insert(name.clone(), shadow);
            }
        }
        Ok(Shadows { classic, named })
    }

    /// Whether a thing is connected, as it is recorded.
    pub(super) async fn connectivity(&self, thing: &Thing) -> Result<Connectivity, FleetError> {
        let record = self.storage.get(&connectivity::key(&thing.name)).await?;
        let read = record.and_then(|it| Connectivity::from_record(&it.value, &thing.id));
        Ok(read.unwrap_or_default())
    }

    /// Whether a thing is connected. Where no event told it (when the host ended without a word, while
    /// connectivity was not indexed, before the thing was created) the record is corrected.
    async fn corrected_connectivity(&self, thing: &Thing) -> Result<Connectivity, FleetError> {
        let recorded = self.connectivity(thing).await?;
        // What was seen is about to be recorded, and the thing is looked at again then.
        if self.presence.has(&thing.name) {
            return Ok(recorded);
        }
        let now = self.clock.wall();
        let age_ms = now.as_millis().saturating_sub(recorded.since_ms.unwrap_or_default());
        let client_id = recorded.client_id.as_deref().unwrap_or(thing.name.as_str());
        let corrected = match (recorded.connected, self.is_connected(client_id)) {
            (true, false) => recorded.lost_at(now),
            // A client tells that it goes a moment before it is gone.
            (false, true) if age_ms >= GOING_MS => recorded.connected_at(now),
            _ => return Ok(recorded),
        };
        self.presence.add(thing.name.clone(), corrected.clone());
        Ok(corrected)
    }

    /// Writes what was seen of a thing.
    pub(super) async fn record(
        &self,
        thing: &Thing,
        seen: &Connectivity,
    ) -> Result<(), FleetError> {
        let mut seen = seen.clone();
        if seen.source_ip.is_none() {
            seen.source_ip = self.connectivity(thing).await?.source_ip;
        }
        let (key, record) = (connectivity::key(&thing.name), seen.to_record(&thing.id));
        self.storage.put(&key, record, Expect::Any).await?;
        Ok(())
    }

    /// Forgets what was seen of a thing that is gone. A record that cannot be removed is of nobody, and
    /// waits for the next look at everything.
    pub(super) async fn forget(&self, thing: &ThingName) -> Result<(), FleetError> {
        let key = connectivity::key(thing);
        if self.storage.get(&key).await?.is_some()
            && let Err(error) = self.storage.delete(&key, Expect::Any).await
        {
            tracing::warn!(%thing, %error, "who was connected is not forgotten yet");
        }
        Ok(())
    }

    /// Forgets what was seen of things that are gone, among the records behind a name; the last name that
    /// was looked at, or `None` when that was the last of all.
    pub(super) async fn forget_gone(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<String>, FleetError> {
        let after = after.map(|name| Key::new(connectivity::KIND, &[name]));
        let prefix = Key::prefix(connectivity::KIND);
        let records = self.storage.scan(&prefix, after.as_ref(), limit).await?;
        let mut last = None;
        for record in &records {
            let name = record.key.as_str().strip_prefix(prefix.as_str()).unwrap_or_default();
            if let Ok(name) = ThingName::parse(name) {
                match self.has(IndexName::Things, name.as_str()).await {
                    Ok(false) => self.forget(&name).await?,
                    // One that cannot be read is there.
                    Ok(true) | Err(FleetError::Registry(RegistryError::Record { .. })) => {}
                    Err(error) => return Err(error),
                }
            }
            last = Some(name.to_owned());
        }
        Ok(last.filter(|_| records.len() == limit))
    }

    /// What the index is to know of a group.
    pub(super) async fn group(&self, group: &ThingGroup) -> Result<Group, FleetError> {
        let parents = match self.registry.thing_group_ancestors(group).await {
            // Deleted at this moment, and this one will be; or it makes no sense, which is logged for it.
            Err(RegistryError::ResourceNotFound(_) | RegistryError::Record { .. }) => Vec::new(),
            parents => parents?,
        };
        Ok(Group {
            id: group.id.clone(),
            description: group.properties.description.clone(),
            parents: parents.iter().map(|parent| parent.name.to_string()).collect(),
            attributes: group.properties.attributes.values().clone(),
            version: group.version,
        })
    }

    fn is_connected(&self, client_id: &str) -> bool {
        ClientId::parse(client_id).is_ok_and(|id| self.clients.is_connected(&id))
    }
}

impl Shadows {
    /// As a search tells them: the classic one, with the named ones below `name`; `None` when there is
    /// none.
    pub(super) fn to_json(&self) -> Option<String> {
        let mut members = self.classic.as_ref().map(to_members).unwrap_or_default();
        let named = self.named.iter().map(|(name, it)| (name.to_string(), to_members(it).into()));
        let named: Map<String, Value> = named.collect();
        if !named.is_empty() {
            members.insert("name".to_owned(), named.into());
        }
        (!members.is_empty()).then(|| Value::Object(members).to_string())
    }
}

/// AWS: "Example thing query results".
fn to_members(shadow: &Snapshot) -> Map<String, Value> {
    let mut members = Map::new();
    let Snapshot { desired, reported, delta, metadata, version } = shadow;
    for (name, section) in
        [("desired", desired), ("reported", reported), ("delta", delta), ("metadata", metadata)]
    {
        if !section.is_null() {
            members.insert(name.to_owned(), section.clone());
        }
    }
    members.insert("hasDelta".to_owned(), json!(!delta.is_null()));
    members.insert("version".to_owned(), json!(version));
    members
}

fn to_indexed(shadow: Snapshot) -> gnomon_search::Shadow {
    gnomon_search::Shadow {
        has_delta: !shadow.delta.is_null(),
        reported: shadow.reported,
        desired: shadow.desired,
        delta: shadow.delta,
        metadata: shadow.metadata,
        version: shadow.version,
    }
}
