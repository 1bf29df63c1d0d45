//! What the store has of a thing, put together for the index and for answers.
//!
//! The thing is the registry's, its shadows are the shadow service's, its connectivity is ours.

use super::connectivity::{self, Connectivity};
use super::{FleetError, IndexName};
use crate::broker::clients::Clients;
use crate::ids::{ClientId, ShadowName, ThingGroupName, ThingName};
use crate::registry::{Registry, RegistryError, Thing, ThingGroup, ThingIndexing};
use crate::shadow::{ShadowId, Snapshot};
use crate::storage::{Expect, Storage};
use crate::time::Clock;
use gnomon_search::{Document, Group};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where it is read from.
pub(super) struct Sources {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) registry: Registry,
    pub(super) clients: Clients,
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
            true => {
                self.correct_connectivity(&thing.name).await?;
                Some(self.connectivity(&thing.name).await?.to_document())
            }
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

    /// Whether a thing is connected.
    pub(super) async fn connectivity(&self, thing: &ThingName) -> Result<Connectivity, FleetError> {
        Ok(self.recorded(thing).await?.unwrap_or_default())
    }

    /// Makes the record of a thing agree with what is, where no event told it: when the host ended
    /// without a word, while connectivity was not indexed, and before the thing was created.
    async fn correct_connectivity(&self, thing: &ThingName) -> Result<(), FleetError> {
        let now = self.clock.wall();
        match (self.recorded(thing).await?, self.is_connected(thing)) {
            (Some(seen), false) if seen.connected => self.record(thing, &seen.lost_at(now)).await,
            (Some(seen), true) if seen.connected => Ok(()),
            (_, true) => self.record(thing, &Connectivity::connected_at(now)).await,
            (_, false) => Ok(()),
        }
    }

    /// Writes what was seen of a thing.
    pub(super) async fn record(
        &self,
        thing: &ThingName,
        seen: &Connectivity,
    ) -> Result<(), FleetError> {
        let key = connectivity::key(thing);
        self.storage.put(&key, seen.to_record(), Expect::Any).await?;
        Ok(())
    }

    /// Forgets what was seen of a thing that is gone.
    pub(super) async fn forget(&self, thing: &ThingName) -> Result<(), FleetError> {
        let key = connectivity::key(thing);
        if self.storage.get(&key).await?.is_some() {
            self.storage.delete(&key, Expect::Any).await?;
        }
        Ok(())
    }

    /// What the index is to know of a group.
    pub(super) async fn group(&self, group: &ThingGroup) -> Result<Group, FleetError> {
        let parents = match self.registry.thing_group_ancestors(group).await {
            // Deleted at this moment, and this one will be.
            Err(RegistryError::ResourceNotFound(_)) => Vec::new(),
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

    async fn recorded(&self, thing: &ThingName) -> Result<Option<Connectivity>, FleetError> {
        let record = self.storage.get(&connectivity::key(thing)).await?;
        Ok(record.and_then(|record| Connectivity::from_record(&record.value)))
    }

    fn is_connected(&self, thing: &ThingName) -> bool {
        ClientId::parse(thing.as_str()).is_ok_and(|id| self.clients.is_connected(&id))
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
