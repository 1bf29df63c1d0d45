//! Keeps the indexes what is stored: one task, one change after the other.
//!
//! In: names from `changes`, what was seen of clients. Out: the indexes; records of connectivity; events
//! of things that join and leave dynamic groups. What cannot be read or written is tried again after
//! [`RETRY_AFTER`].

use super::changes::{BATCH, Changes, Task};
use super::{DynamicGroup, FleetError, IndexName, IndexStatus, Shared};
use crate::ids::{ThingGroupName, ThingName};
use crate::registry::{
    CustomFields, IndexingConfiguration, PageRequest, RegistryError, Thing, ThingFilter, ThingGroup,
};
use futures_util::StreamExt;
use gnomon_search::{Builder, Document, Kind, Query};
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// From a failure to the next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Records of connectivity that are written at the same time: they share group commits.
const WRITES_MAX: usize = 512;

/// Things that are read before they are put into the index, while all are: the index is not to be asked
/// meanwhile, for some milliseconds.
const PAGE: usize = 250;

pub(super) struct Worker {
    shared: Arc<Shared>,
}

/// What a thing becomes in the index; without a document it is gone.
type Read = (ThingName, Option<(Thing, Document)>);

impl Worker {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Runs until it is stopped, and then writes what was seen of clients.
    pub(super) async fn run(self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let recorded = self.record_seen().await;
            let work = async {
                match recorded {
                    Ok(()) => self.work().await,
                    Err(error) => {
                        tracing::warn!(%error, "who is connected cannot be recorded, tried again");
                        tokio::time::sleep(RETRY_AFTER).await;
                    }
                }
            };
            // What is cut off here is of no more use: the index goes with the host.
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                () = work => {}
            }
        }
        if let Err(error) = self.record_seen().await {
            tracing::warn!(%error, "who is connected was not recorded");
        }
    }

    /// Does what there is to do, or waits for it.
    async fn work(&self) {
        let done = match self.changes().take() {
            None => return self.changes().woken().await,
            Some(Task::Everything) => {
                self.everything().await.inspect_err(|_| self.changes().look_at_everything())
            }
            Some(Task::Names { things, groups }) => self.names(things, groups).await,
        };
        if let Err(error) = done {
            tracing::warn!(%error, "changes cannot be indexed, tried again");
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    fn changes(&self) -> &Changes {
        &self.shared.changes
    }

    /// Writes what was seen of clients; their records then change, and are indexed like all.
    async fn record_seen(&self) -> Result<(), FleetError> {
        let sources = &self.shared.sources;
        let seen = self.shared.presence.take();
        if seen.is_empty() {
            return Ok(());
        }
        let writes = futures_util::stream::iter(seen).map(async |(name, seen)| {
            // Other clients are not things.
            let written = match sources.thing(&name).await {
                Ok(Some(_)) => sources.record(&name, &seen).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            written.inspect_err(|_| self.shared.presence.put_back(name, seen))
        });
        let results: Vec<_> = writes.buffer_unordered(WRITES_MAX).collect().await;
        results.into_iter().collect()
    }

    /// Looks at all that is stored.
    async fn everything(&self) -> Result<(), FleetError> {
        let configuration = self.shared.configuration();
        let begun_at = self.shared.sources.clock.now();
        for name in IndexName::ALL {
            if let Some(indexed) = &mut *self.shared.write(name)
                && indexed.status == IndexStatus::Active
            {
                indexed.status = IndexStatus::Rebuilding;
            }
        }
        self.all_groups(&configuration).await?;
        self.all_things(&configuration).await?;
        // Something was missed meanwhile, or is to be indexed differently: once more.
        if self.changes().is_everything_to_do() {
            return Ok(());
        }
        for name in IndexName::ALL {
            if let Some(indexed) = &mut *self.shared.write(name) {
                indexed.status = IndexStatus::Active;
                let documents = indexed.index.len();
                let took = self.shared.sources.clock.now().saturating_duration_since(begun_at);
                tracing::info!(index = %name, documents, ?took, "indexed");
            }
        }
        Ok(())
    }

    async fn all_groups(&self, configuration: &IndexingConfiguration) -> Result<(), FleetError> {
        let groups = self.shared.sources.registry.all_thing_groups().await?;
        let names: BTreeSet<_> = groups.iter().map(|group| group.name.clone()).collect();
        let known: Vec<_> = self.shared.dynamic().keys().cloned().collect();
        known.iter().filter(|name| !names.contains(*name)).for_each(|name| self.no_group(name));
        for group in groups {
            self.group(group, configuration).await?;
        }
        self.remove_others(IndexName::ThingGroups).await
    }

    async fn all_things(&self, configuration: &IndexingConfiguration) -> Result<(), FleetError> {
        let indexing = &configuration.things;
        if !indexing.registry {
            return Ok(());
        }
        let sources = &self.shared.sources;
        // The first time everything is collected and put in order at once.
        let is_first = self.shared.status(IndexName::Things) == Some(IndexStatus::Building);
        let mut builder = is_first.then(|| Builder::new(Kind::Things, CustomFields::new()));
        let mut after: Option<String> = None;
        loop {
            let page = PageRequest { limit: PAGE, after: after.as_deref() };
            let page = sources.registry.list_things(&ThingFilter::default(), page).await?;
            let mut read: Vec<Read> = Vec::with_capacity(page.items.len());
            for thing in page.items {
                let document = sources.document(&thing, indexing).await?;
                read.push((thing.name.clone(), Some((thing, document))));
            }
            match &mut builder {
                Some(builder) => {
                    for (name, it) in &read {
                        it.iter().for_each(|(_, document)| builder.add(name.as_str(), document));
                    }
                }
                None => self.put(&read),
            }
            // Reading does not wait for anything by itself.
            tokio::task::yield_now().await;
            if self.changes().is_everything_to_do() {
                return Ok(());
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        match builder {
            Some(builder) => self.begin_with(builder).await,
            None => self.remove_others(IndexName::Things).await,
        }
    }

    /// The index of things begins with what was collected; what changed meanwhile is in the list of
    /// changes.
    async fn begin_with(&self, builder: Builder) -> Result<(), FleetError> {
        // Takes a second for a million things.
        let built = tokio::task::spawn_blocking(|| builder.build()).await;
        let mut index = built.map_err(|error| FleetError::Cut(error.to_string()))?;
        // Of now: they may have changed too.
        index.set_custom_fields(self.shared.configuration().things.custom_fields.clone());
        self.shared.metrics.indexed_things.set(index.len() as u64);
        if let Some(indexed) = &mut *self.shared.write(IndexName::Things) {
            indexed.index = index;
        }
        Ok(())
    }

    /// Takes from an index what is not stored any more.
    async fn remove_others(&self, name: IndexName) -> Result<(), FleetError> {
        let all = Query::parse("*").expect("this is the query for everything");
        let mut after: Option<String> = None;
        loop {
            let page = match &*self.shared.read(name) {
                Some(indexed) if indexed.status == IndexStatus::Rebuilding => {
                    indexed.index.search(&all, after.as_deref(), PAGE)
                }
                _ => return Ok(()),
            };
            for document in &page.names {
                if !self.shared.sources.has(name, document).await?
                    && let Some(indexed) = &mut *self.shared.write(name)
                {
                    indexed.index.remove(document);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Looks at what changed. What cannot be read waits again, and the first error is returned.
    async fn names(
        &self,
        things: Vec<ThingName>,
        groups: Vec<ThingGroupName>,
    ) -> Result<(), FleetError> {
        let configuration = self.shared.configuration();
        let mut result = Ok(());
        for name in groups {
            if let Err(error) = self.changed_group(&name, &configuration).await {
                self.changes().group(name);
                result = result.and(Err(error));
            }
        }
        if !configuration.things.registry {
            return result;
        }
        let mut read = Vec::with_capacity(BATCH);
        for name in things {
            match self.changed_thing(&name, &configuration).await {
                Ok(it) => read.push((name, it)),
                Err(error) => {
                    self.changes().thing(name);
                    result = result.and(Err(error));
                }
            }
        }
        self.put(&read);
        result
    }

    async fn changed_group(
        &self,
        name: &ThingGroupName,
        configuration: &IndexingConfiguration,
    ) -> Result<(), FleetError> {
        match self.shared.sources.registry.describe_thing_group(name).await {
            Ok(group) => self.group(group, configuration).await?,
            Err(RegistryError::ResourceNotFound(_)) => self.no_group(name),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn changed_thing(
        &self,
        name: &ThingName,
        configuration: &IndexingConfiguration,
    ) -> Result<Option<(Thing, Document)>, FleetError> {
        let sources = &self.shared.sources;
        match sources.thing(name).await? {
            Some(thing) => {
                let document = sources.document(&thing, &configuration.things).await?;
                Ok(Some((thing, document)))
            }
            None => {
                sources.forget(name).await?;
                Ok(None)
            }
        }
    }

    /// Puts things into the index, and tells which dynamic groups they joined and left.
    fn put(&self, read: &[Read]) {
        let dynamic = self.shared.dynamic();
        let mut moved: Vec<(&Thing, &ThingGroup, bool)> = Vec::new();
        {
            let mut guard = self.shared.write(IndexName::Things);
            let Some(indexed) = &mut *guard else { return };
            // Who is in a group when the index is built was there before.
            let is_told = indexed.status != IndexStatus::Building;
            for (name, read) in read {
                let Some((thing, document)) = read else {
                    indexed.index.remove(name.as_str());
                    continue;
                };
                let groups = || dynamic.values().filter(|_| is_told);
                let matching = || {
                    let index = &indexed.index;
                    let matches = |it: &DynamicGroup| index.matches(&it.query, name.as_str());
                    groups().map(matches).collect::<Vec<bool>>()
                };
                let before = matching();
                indexed.index.upsert(name.as_str(), document);
                let index = &indexed.index;
                for (it, was_in) in groups().zip(before) {
                    let is_in = index.matches(&it.query, name.as_str());
                    if is_in != was_in {
                        moved.push((thing, &it.group, is_in));
                    }
                }
            }
            self.shared.metrics.indexed_things.set(indexed.index.len() as u64);
        }
        self.shared.metrics.index_updates.add(read.len() as u64);
        for (thing, group, is_in) in moved {
            self.shared.events.dynamic_membership_changed(thing, group, is_in);
        }
    }

    /// A group is there, or is different.
    async fn group(
        &self,
        group: ThingGroup,
        configuration: &IndexingConfiguration,
    ) -> Result<(), FleetError> {
        if configuration.groups.enabled {
            let document = self.shared.sources.group(&group).await?;
            if let Some(indexed) = &mut *self.shared.write(IndexName::ThingGroups) {
                indexed.index.set_group(group.name.as_str(), &document);
            }
        }
        let Some(query) = group.query.as_deref() else { return Ok(()) };
        match Query::parse(query) {
            Ok(query) => {
                let name = group.name.clone();
                let mut dynamic =
                    self.shared.dynamic.write().unwrap_or_else(PoisonError::into_inner);
                dynamic.insert(name, DynamicGroup { group, query });
            }
            // It parsed when it was stored: by another version of the host.
            Err(error) => {
                tracing::error!(thing_group = %group.name, %error, "dynamic group has no members");
                self.no_group(&group.name);
            }
        }
        Ok(())
    }

    /// A group is gone.
    fn no_group(&self, name: &ThingGroupName) {
        self.shared.dynamic.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Some(indexed) = &mut *self.shared.write(IndexName::ThingGroups) {
            indexed.index.remove(name.as_str());
        }
    }
}
