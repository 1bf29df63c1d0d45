//! Keeps the indexes what is stored: one task that does a little at a time.
//!
//! In: names from `changes`, what was seen of clients. Out: the indexes; records of connectivity; events
//! of things that join and leave dynamic groups. A look at everything is a [`Pass`]; between two pages of
//! it what was seen is recorded, and what changed is indexed. What cannot be read or written is tried
//! again after [`RETRY_AFTER`]; a record that makes no sense is logged and left out.

use super::changes::{Changes, Names};
use super::{DynamicGroup, FleetError, IndexName, IndexStatus, Shared, aside};
use crate::ids::{ThingGroupName, ThingName};
use crate::registry::{CustomFields, IndexingConfiguration, RegistryError, Thing, ThingGroup};
use futures_util::StreamExt;
use gnomon_search::{Builder, Document, Index, Kind, Query};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// From a failure to the next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Records of connectivity that are written at the same time: they share group commits.
const WRITES_MAX: usize = 512;

/// Records that are looked at in one step: some milliseconds.
const PAGE: usize = 250;

/// Things that are put into the index before somebody who asks may have it.
const LOCKED: usize = 32;

pub(super) struct Worker {
    shared: Arc<Shared>,
    /// A look at everything, while there is one.
    pass: Option<Pass>,
    /// Records of connectivity cannot be written; tried again then.
    writes_fail_until: Option<tokio::time::Instant>,
}

/// A look at everything that is stored.
struct Pass {
    /// Another one makes it worthless.
    configuration: Arc<IndexingConfiguration>,
    begun_at: Instant,
    next: Step,
    /// Collects things for an index that is built for the first time.
    builder: Option<Builder>,
}

/// What a pass does next, behind a name.
enum Step {
    Groups(Option<String>),
    Things(Option<String>),
    /// Takes from an index what is not stored any more.
    Leftovers(IndexName, Option<String>),
    /// The same with records of connectivity.
    Records(Option<String>),
    /// So many names had changed when all was seen.
    CatchUp(usize),
}

/// What was found under the name of a thing; nothing: it is gone.
type Looked = (ThingName, Option<(Thing, Document)>);

/// Says when the worker ends other than by being told to.
struct Watchdog(Option<Arc<Shared>>);

impl Drop for Watchdog {
    fn drop(&mut self) {
        let Some(shared) = self.0.take() else { return };
        tracing::error!(
            "the fleet index has ended; searches are refused until the host starts anew"
        );
        for name in IndexName::ALL {
            let slot = shared.slot(name);
            let index = slot.write();
            slot.set_status(index.as_ref().map(|_| IndexStatus::Building));
        }
    }
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, pass: None, writes_fail_until: None }
    }

    /// Runs until it is stopped, and then writes what was seen of clients.
    pub(super) async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut watchdog = Watchdog(Some(self.shared.clone()));
        loop {
            self.record_seen().await;
            // What is cut off here is of no more use: the index goes with the host.
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                () = self.work() => {}
            }
        }
        self.writes_fail_until = None;
        self.record_seen().await;
        watchdog.0 = None;
    }

    fn changes(&self) -> &Changes {
        &self.shared.changes
    }

    /// Does a little of what there is to do, or waits for it.
    async fn work(&mut self) {
        // Neither reading nor a change of the index waits for anything by itself.
        tokio::task::yield_now().await;
        let mut result = Ok(());
        if self.changes().take_everything() {
            match self.begin().await {
                Ok(pass) => self.pass = Some(pass),
                Err(error) => {
                    self.changes().look_at_everything();
                    result = Err(error);
                }
            }
        }
        // What changes while an index is collected waits until it is there.
        let is_collecting = self.pass.as_ref().is_some_and(|pass| pass.builder.is_some());
        let names = match is_collecting {
            true => Names::default(),
            false => self.changes().take_names(),
        };
        let looked_at = names.len();
        if looked_at > 0 {
            result = self.names(names).await;
        }
        if let Some(mut pass) = self.pass.take() {
            let stepped = self.step(&mut pass, looked_at).await;
            match &stepped {
                Ok(true) => {}
                Ok(false) => self.pass = Some(pass),
                Err(_) => self.changes().look_at_everything(),
            }
            result = result.and(stepped.map(drop));
        } else if looked_at == 0 {
            return self.wait().await;
        }
        if let Err(error) = result {
            tracing::warn!(%error, "the fleet cannot be indexed, tried again");
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    async fn wait(&self) {
        match self.writes_fail_until {
            None => self.changes().woken().await,
            Some(until) => {
                // Sooner when something changed.
                let _ = tokio::time::timeout_at(until, self.changes().woken()).await;
            }
        }
    }

    /// Writes what was seen of clients; their records then change, and are indexed like all.
    async fn record_seen(&mut self) {
        let now = tokio::time::Instant::now();
        if self.writes_fail_until.is_some_and(|until| until > now)
            || self.shared.presence.is_empty()
        {
            return;
        }
        let sources = &self.shared.sources;
        let seen = self.shared.presence.take();
        let writes = futures_util::stream::iter(seen).map(async |(name, seen)| {
            // Other clients are not things.
            let written = match sources.thing(&name).await {
                Ok(Some(thing)) => sources.record(&thing, &seen).await,
                Ok(None) | Err(FleetError::Registry(RegistryError::Record { .. })) => Ok(()),
                Err(error) => Err(error),
            };
            written.inspect_err(|_| self.shared.presence.add(name, seen))
        });
        let results: Vec<_> = writes.buffer_unordered(WRITES_MAX).collect().await;
        let result: Result<(), FleetError> = results.into_iter().collect();
        match result {
            Ok(()) => self.writes_fail_until = None,
            Err(error) => {
                if self.writes_fail_until.is_none() {
                    tracing::warn!(%error, "who is connected cannot be recorded, tried again");
                }
                self.writes_fail_until = Some(now + RETRY_AFTER);
            }
        }
    }

    /// A look at everything.
    async fn begin(&self) -> Result<Pass, FleetError> {
        let begun_at = self.shared.sources.clock.now();
        let shared = self.shared.clone();
        aside(move || {
            for name in IndexName::ALL {
                let slot = shared.slot(name);
                let _index = slot.write();
                if slot.status() == Some(IndexStatus::Active) {
                    slot.set_status(Some(IndexStatus::Rebuilding));
                }
            }
            let is_first = shared.things.status() == Some(IndexStatus::Building);
            let builder = is_first.then(|| Builder::new(Kind::Things, CustomFields::new()));
            let configuration = shared.configuration();
            Pass { configuration, begun_at, next: Step::Groups(None), builder }
        })
        .await
    }

    /// Does a page of a pass; true when it is over. Meanwhile so many names were looked at.
    async fn step(&self, pass: &mut Pass, looked_at: usize) -> Result<bool, FleetError> {
        if !Arc::ptr_eq(&pass.configuration, &self.shared.configuration()) {
            // Whoever changed it has asked for another pass.
            return Ok(true);
        }
        let sources = &self.shared.sources;
        pass.next = match &pass.next {
            Step::Groups(after) => match self.page_of_groups(after.as_deref()).await? {
                Some(next) => Step::Groups(Some(next)),
                None if pass.configuration.things.registry => Step::Things(None),
                None => Step::Leftovers(IndexName::ThingGroups, None),
            },
            Step::Things(after) => {
                let after = after.clone();
                match self.page_of_things(after.as_deref(), pass).await? {
                    Some(next) => Step::Things(Some(next)),
                    None => {
                        if let Some(builder) = pass.builder.take() {
                            self.begin_with(builder, &pass.configuration).await?;
                        }
                        Step::Leftovers(IndexName::ThingGroups, None)
                    }
                }
            }
            Step::Leftovers(name, after) => {
                match (self.remove_leftovers(*name, after.clone()).await?, name) {
                    (Some(next), _) => Step::Leftovers(*name, Some(next)),
                    (None, IndexName::ThingGroups) => Step::Leftovers(IndexName::Things, None),
                    (None, IndexName::Things) => Step::Records(None),
                }
            }
            Step::Records(after) => match sources.forget_gone(after.as_deref(), PAGE).await? {
                Some(next) => Step::Records(Some(next)),
                None => Step::CatchUp(self.changes().len()),
            },
            Step::CatchUp(names) if *names > looked_at => Step::CatchUp(names - looked_at),
            Step::CatchUp(_) => {
                self.finish(pass).await?;
                return Ok(true);
            }
        };
        Ok(false)
    }

    /// The indexes are what is stored, unless something was missed meanwhile; then they can be asked, and
    /// another pass follows.
    async fn finish(&self, pass: &Pass) -> Result<(), FleetError> {
        let (shared, configuration) = (self.shared.clone(), pass.configuration.clone());
        let took = self.shared.sources.clock.now().saturating_duration_since(pass.begun_at);
        aside(move || {
            for name in IndexName::ALL {
                let slot = shared.slot(name);
                let index = slot.write();
                let Some(index) = &*index else { continue };
                if !Arc::ptr_eq(&configuration, &shared.configuration()) {
                    return;
                }
                let status = match shared.changes.is_everything_to_do() {
                    true => IndexStatus::Rebuilding,
                    false => IndexStatus::Active,
                };
                slot.set_status(Some(status));
                tracing::info!(index = %name, documents = index.len(), ?took, "indexed");
            }
        })
        .await
    }

    async fn page_of_groups(&self, after: Option<&str>) -> Result<Option<String>, FleetError> {
        let page = self.shared.sources.registry.thing_groups_after(after, PAGE).await?;
        let is_last = page.len() < PAGE;
        let mut last = None;
        for (name, group) in page {
            match group {
                Ok(group) => self.index_group(group).await?,
                Err(error) => tracing::error!(thing_group = name, %error, "group is not indexed"),
            }
            last = Some(name);
        }
        Ok(last.filter(|_| !is_last))
    }

    async fn page_of_things(
        &self,
        after: Option<&str>,
        pass: &mut Pass,
    ) -> Result<Option<String>, FleetError> {
        let sources = &self.shared.sources;
        let page = sources.registry.things_after(after, PAGE).await?;
        let is_last = page.len() < PAGE;
        let mut looked: Vec<Looked> = Vec::with_capacity(page.len());
        let mut last = None;
        for (name, thing) in page {
            match thing {
                Ok(thing) => {
                    let document = sources.document(&thing, &pass.configuration.things).await?;
                    looked.push((thing.name.clone(), Some((thing, document))));
                }
                Err(error) => tracing::error!(thing = name, %error, "thing is not indexed"),
            }
            last = Some(name);
        }
        match &mut pass.builder {
            Some(builder) => {
                for (name, it) in &looked {
                    it.iter().for_each(|(_, document)| builder.add(name.as_str(), document));
                }
            }
            None => self.index_things(looked).await?,
        }
        Ok(last.filter(|_| !is_last))
    }

    /// The index of things begins with what was collected; what changed meanwhile waits as names.
    async fn begin_with(
        &self,
        builder: Builder,
        configuration: &Arc<IndexingConfiguration>,
    ) -> Result<(), FleetError> {
        let (shared, configuration) = (self.shared.clone(), configuration.clone());
        // Takes a second for a million things.
        aside(move || {
            let mut built = builder.build();
            built.set_custom_fields(configuration.things.custom_fields.clone());
            let mut index = shared.things.write();
            if let Some(index) = &mut *index
                && Arc::ptr_eq(&configuration, &shared.configuration())
            {
                shared.metrics.indexed_things.set(built.len() as u64);
                *index = built;
            }
        })
        .await
    }

    /// Takes from a page of an index what is not stored any more.
    async fn remove_leftovers(
        &self,
        name: IndexName,
        after: Option<String>,
    ) -> Result<Option<String>, FleetError> {
        let shared = self.shared.clone();
        let page = aside(move || {
            let all = Query::parse("*").expect("this is the query for everything");
            let index = shared.slot(name).read();
            index.as_ref().map(|index| index.search(&all, after.as_deref(), PAGE))
        });
        let Some(page) = page.await? else { return Ok(None) };
        for document in page.names {
            match self.shared.sources.has(name, &document).await {
                Ok(true) => continue,
                // It was indexed before it became what cannot be read.
                Ok(false) | Err(FleetError::Registry(RegistryError::Record { .. })) => {}
                Err(error) => return Err(error),
            }
            match name {
                IndexName::Things => {
                    if let Ok(name) = ThingName::parse(&document) {
                        self.index_things(vec![(name, None)]).await?;
                    }
                }
                IndexName::ThingGroups => {
                    if let Ok(name) = ThingGroupName::parse(&document) {
                        self.remove_group(name).await?;
                    }
                }
            }
        }
        Ok(page.next)
    }

    /// Looks at what changed. What cannot be read waits again, and the first error is returned.
    async fn names(&self, names: Names) -> Result<(), FleetError> {
        let configuration = self.shared.configuration();
        let mut result = Ok(());
        for name in names.groups {
            if let Err(error) = self.changed_group(&name).await {
                self.changes().group(name);
                result = result.and(Err(error));
            }
        }
        if !configuration.things.registry {
            return result;
        }
        let mut looked = Vec::with_capacity(names.things.len());
        for name in names.things {
            match self.changed_thing(&name, &configuration).await {
                Ok(it) => looked.push((name, it)),
                Err(error) => {
                    self.changes().thing(name);
                    result = result.and(Err(error));
                }
            }
        }
        self.index_things(looked).await?;
        result
    }

    async fn changed_group(&self, name: &ThingGroupName) -> Result<(), FleetError> {
        match self.shared.sources.registry.describe_thing_group(name).await {
            Ok(group) => self.index_group(group).await,
            Err(RegistryError::ResourceNotFound(_)) => self.remove_group(name.clone()).await,
            Err(error @ RegistryError::Record { .. }) => {
                tracing::error!(thing_group = %name, %error, "group is not indexed");
                self.remove_group(name.clone()).await
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn changed_thing(
        &self,
        name: &ThingName,
        configuration: &IndexingConfiguration,
    ) -> Result<Option<(Thing, Document)>, FleetError> {
        let sources = &self.shared.sources;
        match sources.thing(name).await {
            Ok(Some(thing)) => {
                let document = sources.document(&thing, &configuration.things).await?;
                Ok(Some((thing, document)))
            }
            Ok(None) => {
                sources.forget(name).await?;
                Ok(None)
            }
            Err(FleetError::Registry(error @ RegistryError::Record { .. })) => {
                tracing::error!(thing = %name, %error, "thing is not indexed");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Puts things into the index, and tells which dynamic groups they joined and left.
    async fn index_things(&self, looked: Vec<Looked>) -> Result<(), FleetError> {
        let shared = self.shared.clone();
        aside(move || {
            shared.metrics.index_updates.add(looked.len() as u64);
            let dynamic = shared.dynamic();
            for some in looked.chunks(LOCKED) {
                let mut moved = Vec::new();
                if let Some(index) = &mut *shared.things.write() {
                    // Who is in a group when the index is built was there before.
                    let is_told = shared.things.status() != Some(IndexStatus::Building);
                    let groups: Vec<_> = dynamic.values().filter(|_| is_told).collect();
                    for looked in some {
                        index_thing(index, looked, &groups, &mut moved);
                    }
                    shared.metrics.indexed_things.set(index.len() as u64);
                }
                for (thing, group, is_in) in moved {
                    shared.events.dynamic_membership_changed(thing, group, is_in);
                }
            }
        })
        .await
    }

    /// A group is there, or is different.
    async fn index_group(&self, group: ThingGroup) -> Result<(), FleetError> {
        let document = self.shared.sources.group(&group).await?;
        let shared = self.shared.clone();
        aside(move || {
            let mut dynamic = shared.dynamic.write().unwrap_or_else(PoisonError::into_inner);
            match group.query.as_deref().map(Query::parse) {
                Some(Ok(query)) => {
                    let name = group.name.clone();
                    dynamic.insert(name, DynamicGroup { group: group.clone(), query });
                }
                // It parsed when it was stored: by another version of the host.
                Some(Err(error)) => {
                    let name = &group.name;
                    tracing::error!(thing_group = %name, %error, "dynamic group has no members");
                    dynamic.remove(name);
                }
                None => drop(dynamic.remove(&group.name)),
            }
            drop(dynamic);
            if let Some(index) = &mut *shared.groups.write() {
                index.set_group(group.name.as_str(), &document);
            }
        })
        .await
    }

    /// A group is gone.
    async fn remove_group(&self, name: ThingGroupName) -> Result<(), FleetError> {
        let shared = self.shared.clone();
        aside(move || {
            shared.dynamic.write().unwrap_or_else(PoisonError::into_inner).remove(&name);
            if let Some(index) = &mut *shared.groups.write() {
                index.remove(name.as_str());
            }
        })
        .await
    }
}

/// Puts a thing into the index, or takes it out; adds the groups that it joined (true) and left.
fn index_thing<'a>(
    index: &mut Index,
    (name, it): &'a Looked,
    groups: &[&'a DynamicGroup],
    moved: &mut Vec<(&'a Thing, &'a ThingGroup, bool)>,
) {
    let Some((thing, document)) = it else {
        index.remove(name.as_str());
        return;
    };
    let matching = |index: &Index| -> Vec<bool> {
        groups.iter().map(|it| index.matches(&it.query, name.as_str())).collect()
    };
    let before = matching(index);
    index.upsert(name.as_str(), document);
    for ((it, was_in), is_in) in groups.iter().zip(before).zip(matching(index)) {
        if is_in != was_in {
            moved.push((thing, &it.group, is_in));
        }
    }
}
