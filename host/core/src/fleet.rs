//! The fleet index: AWS IoT's fleet indexing, and the things in dynamic groups.
//!
//! In: the store, whose changes are followed, so that the index is what is stored, soon after; life-cycle
//! events of clients; UpdateIndexingConfiguration. Out: searches and figures over things and groups, what
//! a thing is for an answer, members of dynamic groups and events of those that join and leave. Not here:
//! the query language and the index (`gnomon-search`), REST (`gnomon-api`).
//!
//! Reading order: `connectivity` (a record that only the index needs), `source` (what the store has of a
//! thing), `changes` (what is to be indexed anew), `worker` (does it).
//!
//! The index is in memory and is built in the background at each start: until then searches are refused,
//! as AWS refuses them. Locks are held for single look-ups and changes of the index, never across
//! `.await`; `dynamic` is locked before `things`.

mod changes;
mod connectivity;
mod source;
mod worker;

pub use connectivity::Connectivity;

use crate::broker::clients::Clients;
use crate::broker::{Broker, Receiver};
use crate::events::Events;
use crate::ids::{ThingGroupName, ThingName};
use crate::metrics::Metrics;
use crate::registry::{
    IndexingConfiguration, Page, Registry, RegistryError, Thing, ThingGroup, ThingGroupIndexing,
    ThingIndexing,
};
use crate::shadow::ShadowError;
use crate::storage::{Key, Storage, StoreError};
use crate::time::Clock;
use changes::Changes;
use connectivity::Presence;
use gnomon_search::{AggregationError, Buckets, Index, Kind, Query, QueryError, Statistics};
use source::Sources;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use worker::Worker;

/// Searches that run at the same time, each on a thread of its own; further ones wait.
const SEARCHES_MAX: usize = 4;

/// What the index works with.
pub struct Ports {
    /// What is followed.
    pub storage: Arc<dyn Storage>,
    /// Things, groups and the configuration.
    pub registry: Registry,
    /// For life-cycle events.
    pub broker: Broker,
    /// Who is connected.
    pub clients: Clients,
    /// Tells who joined or left a dynamic group.
    pub events: Arc<Events>,
    /// For dates.
    pub clock: Arc<dyn Clock>,
    /// `index_…` is counted here.
    pub metrics: Arc<Metrics>,
}

/// Why a question about the fleet has no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// There is no index of this name.
    #[error("there is no index {0:?}; there are AWS_Things and AWS_ThingGroups")]
    UnknownIndex(String),
    /// Nobody has asked for the index.
    #[error("the index {0} is off; UpdateIndexingConfiguration switches it on")]
    Off(IndexName),
    /// The index has not seen everything yet.
    #[error("the index {0} is being built; DescribeIndex says when it is ACTIVE")]
    Building(IndexName),
    /// Connectivity is not indexed.
    #[error("connectivity is not indexed; thingConnectivityIndexingMode STATUS does it")]
    NoConnectivity,
    /// The text is no query.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The field cannot be aggregated.
    #[error(transparent)]
    Aggregation(#[from] AggregationError),
    /// Of the registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A shadow cannot be read.
    #[error(transparent)]
    Shadow(#[from] ShadowError),
    /// The store failed; a retry may help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A search, or the building of the index, did not end: it panicked, or the host ends.
    #[error("it did not end: {0}")]
    Cut(String),
}

/// An index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexName {
    /// `AWS_Things`.
    Things,
    /// `AWS_ThingGroups`.
    ThingGroups,
}

impl IndexName {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Things, Self::ThingGroups];

    /// The index of this name.
    ///
    /// # Errors
    /// [`FleetError::UnknownIndex`].
    pub fn parse(name: &str) -> Result<Self, FleetError> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == name);
        found.ok_or_else(|| FleetError::UnknownIndex(name.to_owned()))
    }

    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Things => "AWS_Things",
            Self::ThingGroups => "AWS_ThingGroups",
        }
    }

    /// What its documents are.
    pub fn kind(self) -> Kind {
        match self {
            Self::Things => Kind::Things,
            Self::ThingGroups => Kind::ThingGroups,
        }
    }
}

impl std::fmt::Display for IndexName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far an index is (`IndexStatus`, `DynamicGroupStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexStatus {
    /// It has not seen everything; nothing can be asked.
    Building,
    /// It is what is stored.
    Active,
    /// It is, but for changes that it is catching up with.
    Rebuilding,
}

impl IndexStatus {
    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "BUILDING",
            Self::Active => "ACTIVE",
            Self::Rebuilding => "REBUILDING",
        }
    }
}

/// What is known of a thing that a search found.
#[derive(Clone, Debug)]
pub struct FoundThing {
    /// Of the registry.
    pub thing: Thing,
    /// The groups that it is in, static and dynamic ones.
    pub groups: Vec<ThingGroupName>,
    /// Its shadows as JSON, those that are indexed.
    pub shadow: Option<String>,
    /// When it is indexed.
    pub connectivity: Option<Connectivity>,
}

/// What is known of a group that a search found.
#[derive(Clone, Debug)]
pub struct FoundGroup {
    /// Of the registry.
    pub group: ThingGroup,
    /// The groups above it, from its root to its parent.
    pub parents: Vec<ThingGroupName>,
}

/// The running index. Dropping it stops it like [`Fleet::shutdown`], without waiting.
pub struct Fleet {
    shared: Arc<Shared>,
    searches: Arc<Semaphore>,
    /// Held while the configuration changes.
    configuring: tokio::sync::Mutex<()>,
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: oneshot::Sender<()>,
    worker: JoinHandle<()>,
    following: JoinSet<()>,
}

/// What the worker and those who ask have in common.
struct Shared {
    sources: Sources,
    events: Arc<Events>,
    metrics: Arc<Metrics>,
    changes: Arc<Changes>,
    presence: Arc<Presence>,
    subscriptions: Receiver,
    configuration: RwLock<Arc<IndexingConfiguration>>,
    dynamic: RwLock<BTreeMap<ThingGroupName, DynamicGroup>>,
    things: RwLock<Option<Indexed>>,
    groups: RwLock<Option<Indexed>>,
}

/// A dynamic group, ready to be asked.
struct DynamicGroup {
    group: ThingGroup,
    query: Query,
}

struct Indexed {
    index: Index,
    status: IndexStatus,
}

impl Fleet {
    /// Starts the index as it was configured last, on the runtime of the caller; to be called before the
    /// first client comes.
    ///
    /// # Errors
    /// When the configuration cannot be read.
    pub async fn start(ports: Ports) -> Result<Arc<Self>, RegistryError> {
        let configuration = ports.registry.indexing_configuration().await?;
        // From here on nothing is missed.
        let watch = ports.storage.watch(&Key::from_text(""));
        let changes = Arc::new(Changes::default());
        let presence = Presence::new(changes.clone());
        let shared = Arc::new(Shared {
            subscriptions: ports.broker.register(presence.clone()),
            sources: Sources {
                storage: ports.storage,
                registry: ports.registry,
                clients: ports.clients,
                clock: ports.clock,
            },
            events: ports.events,
            metrics: ports.metrics,
            changes: changes.clone(),
            presence,
            configuration: RwLock::default(),
            dynamic: RwLock::default(),
            things: RwLock::default(),
            groups: RwLock::default(),
        });
        shared.apply(configuration);
        let runtime = tokio::runtime::Handle::current();
        let mut following = JoinSet::new();
        following.spawn_on(async move { changes.follow(watch).await }, &runtime);
        let (stop, stopped) = oneshot::channel();
        let worker = runtime.spawn(Worker::new(shared.clone()).run(stopped));
        Ok(Arc::new(Self {
            shared,
            searches: Arc::new(Semaphore::new(SEARCHES_MAX)),
            configuring: tokio::sync::Mutex::default(),
            running: Mutex::new(Some(Running { stop, worker, following })),
        }))
    }

    /// Ends the index; what was seen of clients is written first.
    pub async fn shutdown(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { stop, worker, mut following }) = running {
            // Both fail only when the worker has ended already.
            let _ = stop.send(());
            let _ = worker.await;
            following.shutdown().await;
        }
    }

    /// What is indexed.
    pub fn configuration(&self) -> Arc<IndexingConfiguration> {
        self.shared.configuration()
    }

    /// Replaces the parts that are given, as a whole. The index follows in the background.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`] when a part makes no sense, and when things were not indexed any
    /// more and there are dynamic groups.
    pub async fn configure(
        &self,
        things: Option<&ThingIndexing>,
        groups: Option<&ThingGroupIndexing>,
    ) -> Result<(), RegistryError> {
        let _configuring = self.configuring.lock().await;
        let registry = &self.shared.sources.registry;
        if things.is_some_and(|things| !things.registry)
            && let Some(group) = registry.dynamic_thing_groups().await?.first()
        {
            return Err(RegistryError::InvalidRequest(format!(
                "thing group {} is dynamic and needs the index; delete it before thingIndexingMode \
                 becomes OFF",
                group.name
            )));
        }
        let configuration = registry.update_indexing_configuration(things, groups).await?;
        self.shared.apply(configuration);
        Ok(())
    }

    /// How far an index is; `None` when it is off.
    pub fn status(&self, name: IndexName) -> Option<IndexStatus> {
        self.shared.status(name)
    }

    /// The first `limit` names that match and come after `after`.
    ///
    /// # Errors
    /// [`FleetError::Off`], [`FleetError::Building`].
    pub async fn search(
        &self,
        name: IndexName,
        query: Query,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<String>, FleetError> {
        let search = move |index: &Index| index.search(&query, after.as_deref(), limit);
        let page = self.ask(name, search).await?;
        Ok(Page { items: page.names, next: page.next })
    }

    /// GetStatistics.
    ///
    /// # Errors
    /// As [`Fleet::search`], and [`FleetError::Aggregation`].
    pub async fn statistics(
        &self,
        name: IndexName,
        query: Query,
        field: String,
    ) -> Result<Statistics, FleetError> {
        Ok(self.ask(name, move |index| index.statistics(&query, &field)).await??)
    }

    /// GetCardinality.
    ///
    /// # Errors
    /// As [`Fleet::statistics`].
    pub async fn cardinality(
        &self,
        name: IndexName,
        query: Query,
        field: String,
    ) -> Result<u64, FleetError> {
        Ok(self.ask(name, move |index| index.cardinality(&query, &field)).await??)
    }

    /// GetPercentiles: pairs of percentage and value.
    ///
    /// # Errors
    /// As [`Fleet::statistics`].
    pub async fn percentiles(
        &self,
        name: IndexName,
        query: Query,
        field: String,
        percents: Vec<f64>,
    ) -> Result<Vec<(f64, f64)>, FleetError> {
        Ok(self.ask(name, move |index| index.percentiles(&query, &field, &percents)).await??)
    }

    /// GetBucketsAggregation.
    ///
    /// # Errors
    /// As [`Fleet::statistics`].
    pub async fn buckets(
        &self,
        name: IndexName,
        query: Query,
        field: String,
        buckets_max: usize,
    ) -> Result<Buckets, FleetError> {
        Ok(self.ask(name, move |index| index.buckets(&query, &field, buckets_max)).await??)
    }

    /// What is known of a thing; `None` when it is gone.
    ///
    /// # Errors
    /// When something cannot be read.
    pub async fn thing(&self, name: &ThingName) -> Result<Option<FoundThing>, FleetError> {
        let sources = &self.shared.sources;
        let indexing = &self.shared.configuration().things;
        let Some(thing) = sources.thing(name).await? else { return Ok(None) };
        let shadow = sources.shadows(name, indexing).await?.to_json();
        let connectivity = match indexing.connectivity {
            true => Some(sources.connectivity(name).await?),
            false => None,
        };
        let mut groups: Vec<_> = thing.groups.iter().cloned().collect();
        groups.extend(self.groups_of(name));
        groups.sort_unstable();
        Ok(Some(FoundThing { thing, groups, shadow, connectivity }))
    }

    /// What is known of a group; `None` when it is gone.
    ///
    /// # Errors
    /// When something cannot be read.
    pub async fn group(&self, name: &ThingGroupName) -> Result<Option<FoundGroup>, FleetError> {
        let registry = &self.shared.sources.registry;
        let group = match registry.describe_thing_group(name).await {
            Err(RegistryError::ResourceNotFound(_)) => return Ok(None),
            group => group?,
        };
        let parents = registry.thing_group_ancestors(&group).await?;
        let parents = parents.into_iter().map(|parent| parent.name).collect();
        Ok(Some(FoundGroup { group, parents }))
    }

    /// Whether a thing is connected.
    ///
    /// # Errors
    /// [`FleetError::NoConnectivity`]; [`RegistryError::ResourceNotFound`].
    pub async fn connectivity(&self, name: &ThingName) -> Result<Connectivity, FleetError> {
        let sources = &self.shared.sources;
        sources.registry.describe_thing(name).await?;
        if !self.shared.configuration().things.connectivity {
            return Err(FleetError::NoConnectivity);
        }
        sources.connectivity(name).await
    }

    /// The first `limit` things of a dynamic group that come after `after`.
    ///
    /// # Errors
    /// As [`Fleet::search`].
    pub async fn members(
        &self,
        query: &str,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<String>, FleetError> {
        self.search(IndexName::Things, Query::parse(query)?, after, limit).await
    }

    /// The dynamic groups that a thing is in, ordered by name; none until the index is built.
    pub fn groups_of(&self, thing: &ThingName) -> Vec<ThingGroupName> {
        let dynamic = self.shared.dynamic();
        match &*self.shared.read(IndexName::Things) {
            Some(indexed) if indexed.status != IndexStatus::Building => {
                let has = |it: &&DynamicGroup| indexed.index.matches(&it.query, thing.as_str());
                dynamic.values().filter(has).map(|it| it.group.name.clone()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Asks an index, on a thread on which it may take its time.
    async fn ask<T: Send + 'static>(
        &self,
        name: IndexName,
        question: impl FnOnce(&Index) -> T + Send + 'static,
    ) -> Result<T, FleetError> {
        let cut = |error: &dyn std::error::Error| FleetError::Cut(error.to_string());
        let _one_of = self.searches.acquire().await.map_err(|error| cut(&error))?;
        let shared = self.shared.clone();
        let asked = tokio::task::spawn_blocking(move || match &*shared.read(name) {
            None => Err(FleetError::Off(name)),
            Some(indexed) if indexed.status == IndexStatus::Building => {
                Err(FleetError::Building(name))
            }
            Some(indexed) => {
                shared.metrics.index_searches.increment();
                Ok(question(&indexed.index))
            }
        });
        asked.await.map_err(|error| cut(&error))?
    }
}

impl Shared {
    fn configuration(&self) -> Arc<IndexingConfiguration> {
        self.configuration.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes and drops indexes, and has everything looked at anew, as far as the configuration differs
    /// from before.
    fn apply(&self, configuration: IndexingConfiguration) {
        let configuration = Arc::new(configuration);
        let before = {
            let mut current = self.configuration.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, configuration.clone())
        };
        let IndexingConfiguration { things, groups } = &*configuration;
        if before.things.connectivity != things.connectivity {
            for (filter, options) in Presence::filters() {
                match things.connectivity {
                    true => self.subscriptions.subscribe(&filter, options, None),
                    false => self.subscriptions.unsubscribe(&filter),
                };
            }
        }
        let is_on = |it: &IndexingConfiguration| it.things.registry || it.groups.enabled;
        if is_on(&before) != is_on(&configuration) {
            self.changes.keep(is_on(&configuration));
        }
        let fields = things.custom_fields.clone();
        let content =
            |it: &ThingIndexing| ThingIndexing { custom_fields: BTreeMap::new(), ..it.clone() };
        let is_same = content(&before.things) == content(things);
        change(&mut self.write(IndexName::Things), things.registry, is_same, Kind::Things, fields);
        let fields = groups.custom_fields.clone();
        let is_same_too = before.groups.enabled == groups.enabled;
        let of_groups = &mut self.write(IndexName::ThingGroups);
        change(of_groups, groups.enabled, is_same_too, Kind::ThingGroups, fields);
        if !(is_same && is_same_too) {
            self.changes.look_at_everything();
        }
    }

    fn status(&self, name: IndexName) -> Option<IndexStatus> {
        self.read(name).as_ref().map(|indexed| indexed.status)
    }

    fn read(&self, name: IndexName) -> RwLockReadGuard<'_, Option<Indexed>> {
        self.of(name).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, name: IndexName) -> RwLockWriteGuard<'_, Option<Indexed>> {
        self.of(name).write().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, name: IndexName) -> &RwLock<Option<Indexed>> {
        match name {
            IndexName::Things => &self.things,
            IndexName::ThingGroups => &self.groups,
        }
    }

    fn dynamic(&self) -> RwLockReadGuard<'_, BTreeMap<ThingGroupName, DynamicGroup>> {
        self.dynamic.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of an index when its configuration changes.
fn change(
    indexed: &mut Option<Indexed>,
    is_on: bool,
    is_same: bool,
    kind: Kind,
    fields: crate::registry::CustomFields,
) {
    match indexed {
        _ if !is_on => *indexed = None,
        None => {
            let index = Index::new(kind, fields);
            *indexed = Some(Indexed { index, status: IndexStatus::Building });
        }
        Some(indexed) => {
            indexed.index.set_custom_fields(fields);
            if !is_same && indexed.status == IndexStatus::Active {
                indexed.status = IndexStatus::Rebuilding;
            }
        }
    }
}

#[cfg(test)]
mod tests;
