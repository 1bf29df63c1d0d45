//! The fleet index: AWS IoT's fleet indexing, and the things in dynamic groups.
//!
//! In: the store, whose changes are followed, so that the index is what is stored, soon after; life-cycle
//! events of clients; UpdateIndexingConfiguration. Out: searches and figures over things and groups, what
//! a thing is for an answer, members of dynamic groups and events of those that join and leave. Not here:
//! the query language and the index (`gnomon-search`), REST (`gnomon-api`).
//!
//! Reading order: `slot` (an index and how far it is), `connectivity` (a record that only the index needs),
//! `changes` (what is to be indexed anew), `presence` (who comes and goes), `source` (what the store has of
//! a thing), `worker` (does it).
//!
//! The index is in memory and is built in the background at each start: until then searches are refused,
//! as AWS refuses them. Whoever asks or changes an index does it on a thread where it may take its time,
//! because they wait for each other. Locks are never held across `.await`; their order: things, groups,
//! configuration; `dynamic` before things.

mod changes;
mod connectivity;
mod presence;
mod slot;
mod source;
mod worker;

pub use connectivity::Connectivity;
pub use slot::{IndexName, IndexStatus};

use crate::broker::clients::Clients;
use crate::broker::{Broker, Receiver};
use crate::events::Events;
use crate::ids::{ThingGroupName, ThingName};
use crate::metrics::Metrics;
use crate::registry::{
    IndexingConfiguration, Page, Registry, RegistryError, Thing, ThingGroup, ThingGroupIndexing,
    ThingGroupProperties, ThingIndexing,
};
use crate::storage::{Key, Storage, StoreError};
use crate::time::Clock;
use changes::Changes;
use gnomon_search::{AggregationError, Buckets, Index, Kind, Query, QueryError, Statistics};
use presence::Presence;
use slot::Slot;
use source::Sources;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use tokio::runtime::Handle;
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
    /// The store failed; a retry may help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A search, or the building of the index, did not end: it panicked, or the host ends.
    #[error("it did not end: {0}")]
    Aborted(String),
}

/// What is known of a thing that a search found.
#[derive(Clone, Debug)]
pub struct FoundThing {
    /// Of the registry.
    pub thing: Thing,
    /// The groups that it is in, static and dynamic ones.
    pub groups: BTreeSet<ThingGroupName>,
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
    /// Held while the configuration changes, and while a dynamic group is made that needs the index.
    configuring: tokio::sync::Mutex<()>,
    configuration: RwLock<Arc<IndexingConfiguration>>,
    dynamic: RwLock<BTreeMap<ThingGroupName, DynamicGroup>>,
    things: Slot,
    groups: Slot,
}

/// A dynamic group, ready to be asked.
struct DynamicGroup {
    group: ThingGroup,
    query: Query,
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
                presence: presence.clone(),
                storage: ports.storage,
                registry: ports.registry,
                clients: ports.clients,
                clock: ports.clock,
            },
            events: ports.events,
            metrics: ports.metrics,
            changes: changes.clone(),
            presence,
            configuring: tokio::sync::Mutex::default(),
            configuration: RwLock::default(),
            dynamic: RwLock::default(),
            things: Slot::default(),
            groups: Slot::default(),
        });
        drop(shared.apply(configuration));
        let runtime = Handle::current();
        let mut following = JoinSet::new();
        following.spawn_on(async move { changes.follow(watch).await }, &runtime);
        let (stop, stopped) = oneshot::channel();
        let worker = runtime.spawn(Worker::new(shared.clone()).run(stopped));
        Ok(Arc::new(Self {
            shared,
            searches: Arc::new(Semaphore::new(SEARCHES_MAX)),
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
        let (shared, things, groups) = (self.shared.clone(), things.cloned(), groups.cloned());
        // In a task, which ends with the change: a caller that goes away meanwhile would leave a
        // configuration that is stored and not followed.
        let configured = Handle::current()
            .spawn(async move { shared.configure(things.as_ref(), groups.as_ref()).await });
        let unknown = |error| StoreError::Unavailable(Arc::new(error)).into();
        configured.await.unwrap_or_else(|error| Err(unknown(error)))
    }

    /// CreateDynamicThingGroup: as [`Registry::create_dynamic_thing_group`], while there is an index.
    ///
    /// # Errors
    /// As there, and [`RegistryError::InvalidRequest`] when the index of things is off.
    pub async fn create_dynamic_group(
        &self,
        name: &ThingGroupName,
        query: &str,
        properties: ThingGroupProperties,
    ) -> Result<ThingGroup, RegistryError> {
        let _configuring = self.shared.configuring.lock().await;
        if self.status(IndexName::Things).is_none() {
            return Err(RegistryError::InvalidRequest(
                "a dynamic thing group needs the index AWS_Things; UpdateIndexingConfiguration with \
                 thingIndexingMode REGISTRY or REGISTRY_AND_SHADOW switches it on"
                    .to_owned(),
            ));
        }
        let registry = &self.shared.sources.registry;
        registry.create_dynamic_thing_group(name, query, properties).await
    }

    /// How far an index is; `None` when it is off.
    pub fn status(&self, name: IndexName) -> Option<IndexStatus> {
        self.shared.slot(name).status()
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

    /// What is known of things; those that are gone are left out.
    ///
    /// # Errors
    /// When something cannot be read.
    pub async fn things(&self, names: &[ThingName]) -> Result<Vec<FoundThing>, FleetError> {
        let sources = &self.shared.sources;
        let indexing = &self.shared.configuration().things;
        let mut found = Vec::with_capacity(names.len());
        for (name, dynamic) in names.iter().zip(self.groups_of(names.to_vec()).await?) {
            // Reading does not wait for anything by itself.
            tokio::task::yield_now().await;
            let Some(thing) = sources.thing(name).await? else { continue };
            let shadow = sources.shadows(name, indexing).await?.to_json();
            let connectivity = match indexing.connectivity {
                true => Some(sources.connectivity(&thing).await?),
                false => None,
            };
            let groups: BTreeSet<_> = thing.groups.iter().cloned().chain(dynamic).collect();
            found.push(FoundThing { thing, groups, shadow, connectivity });
        }
        Ok(found)
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

    /// Whether a thing is connected; from where, if that may be told.
    ///
    /// # Errors
    /// [`FleetError::NoConnectivity`]; [`RegistryError::ResourceNotFound`].
    pub async fn connectivity(&self, name: &ThingName) -> Result<Connectivity, FleetError> {
        let sources = &self.shared.sources;
        let thing = sources.registry.describe_thing(name).await?;
        let indexing = &self.shared.configuration().things;
        if !indexing.connectivity {
            return Err(FleetError::NoConnectivity);
        }
        let found = sources.connectivity(&thing).await?;
        let source_ip = found.source_ip.filter(|_| indexing.socket_information);
        Ok(Connectivity { source_ip, ..found })
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

    /// The dynamic groups that each of the things is in, ordered by name; none until the index is built.
    ///
    /// # Errors
    /// [`FleetError::Aborted`].
    pub async fn groups_of(
        &self,
        things: Vec<ThingName>,
    ) -> Result<Vec<Vec<ThingGroupName>>, FleetError> {
        let shared = self.shared.clone();
        aside(move || {
            let dynamic = shared.dynamic();
            let index = shared.things.read();
            let index = index
                .as_ref()
                .filter(|_| shared.things.status().is_some_and(IndexStatus::is_of_use));
            let groups_of = |thing: &ThingName| {
                let has = |it: &&DynamicGroup| {
                    index.is_some_and(|index| index.matches(&it.query, thing.as_str()))
                };
                dynamic.values().filter(has).map(|it| it.group.name.clone()).collect()
            };
            things.iter().map(groups_of).collect()
        })
        .await
    }

    /// Asks an index.
    async fn ask<T: Send + 'static>(
        &self,
        name: IndexName,
        question: impl FnOnce(&Index) -> T + Send + 'static,
    ) -> Result<T, FleetError> {
        let one_of = self.searches.clone().acquire_owned().await;
        let one_of = one_of.map_err(|error| FleetError::Aborted(error.to_string()))?;
        let shared = self.shared.clone();
        aside(move || {
            // Until the search ends, also when nobody waits for it any more.
            let _one_of = one_of;
            let slot = shared.slot(name);
            match (&*slot.read(), slot.status()) {
                (Some(index), Some(status)) if status.is_of_use() => {
                    shared.metrics.index_searches.increment();
                    Ok(question(index))
                }
                (None, _) => Err(FleetError::Off(name)),
                (Some(_), _) => Err(FleetError::Building(name)),
            }
        })
        .await?
    }
}

/// Runs what may take its time, or waits for the lock of an index, where it holds up nobody.
async fn aside<T: Send + 'static>(
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FleetError> {
    let run = tokio::task::spawn_blocking(run).await;
    run.map_err(|error| FleetError::Aborted(error.to_string()))
}

impl Shared {
    fn configuration(&self) -> Arc<IndexingConfiguration> {
        self.configuration.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn configure(
        self: &Arc<Self>,
        things: Option<&ThingIndexing>,
        groups: Option<&ThingGroupIndexing>,
    ) -> Result<(), RegistryError> {
        let _configuring = self.configuring.lock().await;
        let registry = &self.sources.registry;
        if things.is_some_and(|things| !things.registry)
            && let Some(group) = registry.dynamic_thing_groups().await?.first()
        {
            return Err(RegistryError::InvalidRequest(format!(
                "thing group {} is dynamic and needs the index; delete it before thingIndexingMode \
                 becomes OFF",
                group.name
            )));
        }
        let result = registry.update_indexing_configuration(things, groups).await.map(drop);
        // Also after a failure: a write whose answer was lost may have happened.
        let configuration = registry.indexing_configuration().await?;
        let shared = self.clone();
        let applied = tokio::task::spawn_blocking(move || drop(shared.apply(configuration))).await;
        applied.map_err(|error| StoreError::Unavailable(Arc::new(error)))?;
        result
    }

    /// Makes and drops indexes, and has everything looked at anew, as far as the configuration differs
    /// from before; returns the indexes that are no longer used, which take a while to drop.
    fn apply(&self, configuration: IndexingConfiguration) -> [Option<Index>; 2] {
        let configuration = Arc::new(configuration);
        let IndexingConfiguration { things, groups } = &*configuration;
        // Whoever sees an index under its lock sees the configuration that it was made for.
        let mut of_things = self.things.write();
        let mut of_groups = self.groups.write();
        let before = {
            let mut current = self.configuration.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, configuration.clone())
        };
        let is_on = |it: &IndexingConfiguration| it.things.registry || it.groups.enabled;
        if is_on(&before) != is_on(&configuration) {
            self.changes.keep(is_on(&configuration));
        }
        let content =
            |it: &ThingIndexing| ThingIndexing { custom_fields: BTreeMap::new(), ..it.clone() };
        let is_same = content(&before.things) == content(things);
        let fields = things.registry.then(|| things.custom_fields.clone());
        let old = self.things.reconfigure(&mut of_things, Kind::Things, fields, is_same);
        let is_same_too = before.groups.enabled == groups.enabled;
        let fields = groups.enabled.then(|| groups.custom_fields.clone());
        let kind = Kind::ThingGroups;
        let old_too = self.groups.reconfigure(&mut of_groups, kind, fields, is_same_too);
        if old.is_some() {
            self.metrics.indexed_things.set(0);
        }
        if !(is_same && is_same_too) {
            self.changes.look_at_everything();
        }
        drop((of_things, of_groups));
        if before.things.connectivity != things.connectivity {
            for (filter, options) in Presence::filters() {
                match things.connectivity {
                    true => self.subscriptions.subscribe(&filter, options, None),
                    false => self.subscriptions.unsubscribe(&filter),
                };
            }
        }
        [old, old_too]
    }

    fn slot(&self, name: IndexName) -> &Slot {
        match name {
            IndexName::Things => &self.things,
            IndexName::ThingGroups => &self.groups,
        }
    }

    fn dynamic(&self) -> RwLockReadGuard<'_, BTreeMap<ThingGroupName, DynamicGroup>> {
        self.dynamic.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
