//! Thing groups: static ones are a forest of names with things in them.
//!
//! A dynamic group has a query instead of things, and stands alone (`dynamic_thing_group`). A group's
//! record is the truth about its parent, which is fixed; a thing's record is the truth about
//! the groups that it is in. The ways back are index keys, `thing-group-child/{parent}/{child}` and
//! `thing-group-thing/{group}/{thing}`, with the invariant of the module above.

use super::index::{ALL, check_version, page_of};
use super::quarantine::QUARANTINE_GROUP;
use super::record::{self, Stored};
use super::thing::Thing;
use super::{
    ATTEMPTS_MAX, Attributes, Change, Diff, Page, PageRequest, Registry, RegistryError,
    check_description,
};
use crate::ids::{PolicyName, ThingGroupName, ThingName};
use crate::random;
use crate::storage::Key;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What messages call it.
const WHAT: &str = "thing group";

/// A thing group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThingGroup {
    /// Its name, which cannot change.
    pub name: ThingGroupName,
    /// A UUID.
    pub id: String,
    /// The group above it, which cannot change.
    pub parent: Option<ThingGroupName>,
    /// Of a dynamic group: things that match it are in the group.
    pub query: Option<String>,
    /// What an operator says about it.
    pub properties: ThingGroupProperties,
    /// 1 at first, then one more with every update.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// Attached policies: they hold for the things in it and in all groups below it.
    pub policies: BTreeSet<PolicyName>,
}

/// What an operator says about a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThingGroupProperties {
    /// For people, at most 2,028 characters.
    pub description: Option<String>,
    /// At most `Limits::thing_group_attributes`.
    pub attributes: Attributes,
}

impl ThingGroupProperties {
    /// Replaces the description, if there is one given, and replaces the attributes or merges them into
    /// the present ones.
    pub(super) fn change(&mut self, properties: &Self, merge: bool) {
        let present = match merge {
            true => std::mem::take(&mut self.attributes),
            false => Attributes::default(),
        };
        if properties.description.is_some() {
            self.description.clone_from(&properties.description);
        }
        self.attributes = present.merged_with(&properties.attributes);
    }
}

impl ThingGroup {
    /// What only groups can have or do that have no query.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`] for a dynamic group.
    pub(crate) fn check_is_static(&self) -> Result<(), RegistryError> {
        match self.query {
            None => Ok(()),
            Some(_) => Err(RegistryError::InvalidRequest(format!(
                "thing group {} is dynamic: its query decides which things are in it, and it has \
                 neither policies nor groups below it; UpdateDynamicThingGroup and \
                 DeleteDynamicThingGroup change it",
                self.name
            ))),
        }
    }
}

impl Registry {
    /// CreateThingGroup. The same group again is a success and changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::ResourceAlreadyExists`] when its parent or properties differ,
    /// [`RegistryError::ResourceNotFound`] for the parent, [`RegistryError::InvalidRequest`] beyond
    /// `Limits::thing_group_levels`, `thing_group_children`, `thing_group_attributes`, and below a
    /// dynamic group.
    pub async fn create_thing_group(
        &self,
        name: &ThingGroupName,
        parent: Option<ThingGroupName>,
        properties: ThingGroupProperties,
    ) -> Result<ThingGroup, RegistryError> {
        self.add_group(self.new_group(name, parent, None, properties)).await
    }

    pub(super) fn new_group(
        &self,
        name: &ThingGroupName,
        parent: Option<ThingGroupName>,
        query: Option<String>,
        properties: ThingGroupProperties,
    ) -> ThingGroup {
        let attributes = Attributes::default().merged_with(&properties.attributes);
        ThingGroup {
            name: name.clone(),
            id: random::uuid(&*self.0.ports.random),
            parent,
            query,
            properties: ThingGroupProperties { attributes, ..properties },
            version: 1,
            created_at: self.0.ports.clock.wall(),
            policies: BTreeSet::new(),
        }
    }

    /// Writes a new group; the same group again is a success.
    pub(super) async fn add_group(&self, group: ThingGroup) -> Result<ThingGroup, RegistryError> {
        let name = &group.name;
        self.check_group(&group)?;
        let key = record::key::<ThingGroup>(name.as_str());
        for _ in 0..ATTEMPTS_MAX {
            if let Some((existing, _)) = self.read::<ThingGroup>(&key).await? {
                let is_same = existing.parent == group.parent
                    && existing.query == group.query
                    && existing.properties == group.properties;
                if is_same {
                    return Ok(existing);
                }
                return Err(RegistryError::ResourceAlreadyExists {
                    message: format!("thing group {name} exists with another configuration"),
                    id: existing.id,
                    arn: self.thing_group_arn(name),
                });
            }
            if let Some(parent) = &group.parent {
                self.check_place(parent).await?;
                self.put_index(&child_key(parent, name.as_str())).await?;
            }
            let change = self.ancestors_told(&group).await?.map(|ancestors| Change::ThingGroup {
                diff: Diff::Created(group.clone()),
                ancestors,
            });
            if self.write_telling(&key, &group, None, change).await? {
                tracing::info!(thing_group = %name, "thing group created");
                return self.check_parent_is_there(group).await;
            }
        }
        Err(RegistryError::Busy)
    }

    /// DescribeThingGroup.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn describe_thing_group(
        &self,
        name: &ThingGroupName,
    ) -> Result<ThingGroup, RegistryError> {
        Ok(self.read_existing(&record::key::<ThingGroup>(name.as_str())).await?.0)
    }

    /// The groups above a group, from its root to its parent.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn thing_group_ancestors(
        &self,
        group: &ThingGroup,
    ) -> Result<Vec<ThingGroup>, RegistryError> {
        let mut ancestors = Vec::new();
        let mut next = group.parent.clone();
        while let Some(name) = next {
            let ancestor = self.describe_thing_group(&name).await?;
            next = ancestor.parent.clone();
            ancestors.push(ancestor);
        }
        ancestors.reverse();
        Ok(ancestors)
    }

    /// UpdateThingGroup: replaces the description, if there is one given, and replaces the attributes or
    /// merges them into the present ones; returns the group as it is now.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`], [`RegistryError::VersionConflict`],
    /// [`RegistryError::InvalidRequest`] beyond `Limits::thing_group_attributes`, and for a dynamic
    /// group.
    pub async fn update_thing_group(
        &self,
        name: &ThingGroupName,
        properties: &ThingGroupProperties,
        merge: bool,
        expected_version: Option<u64>,
    ) -> Result<ThingGroup, RegistryError> {
        let change = |group: &mut ThingGroup| {
            group.check_is_static()?;
            group.properties.change(properties, merge);
            Ok(())
        };
        self.change_group(name, expected_version, change).await
    }

    /// Changes a group that has the version; returns it as it is now.
    pub(super) async fn change_group(
        &self,
        name: &ThingGroupName,
        expected_version: Option<u64>,
        change: impl Fn(&mut ThingGroup) -> Result<(), RegistryError>,
    ) -> Result<ThingGroup, RegistryError> {
        let change = |group: &mut ThingGroup| {
            check_version(WHAT, name.as_str(), group.version, expected_version)?;
            change(group)?;
            group.version += 1;
            self.check_group(group)?;
            Ok(true)
        };
        let group = self.describe_thing_group(name).await?;
        let ancestors = self.ancestors_told(&group).await?.unwrap_or_default();
        let told = |diff| Change::ThingGroup { diff, ancestors: ancestors.clone() };
        self.update_telling(&record::key::<ThingGroup>(name.as_str()), change, told).await
    }

    /// DeleteThingGroup; a group that does not exist is a success. Its things leave it.
    ///
    /// # Errors
    /// [`RegistryError::VersionConflict`], [`RegistryError::InvalidRequest`] while there are groups
    /// below it, and for a dynamic group.
    pub async fn delete_thing_group(
        &self,
        name: &ThingGroupName,
        expected_version: Option<u64>,
    ) -> Result<(), RegistryError> {
        self.remove_group(name, expected_version, ThingGroup::check_is_static).await
    }

    /// Removes a group that passes a check.
    pub(super) async fn remove_group(
        &self,
        name: &ThingGroupName,
        expected_version: Option<u64>,
        check: fn(&ThingGroup) -> Result<(), RegistryError>,
    ) -> Result<(), RegistryError> {
        let key = record::key::<ThingGroup>(name.as_str());
        for _ in 0..ATTEMPTS_MAX {
            let Some((group, revision)) = self.read::<ThingGroup>(&key).await? else {
                return Ok(());
            };
            check(&group)?;
            check_version(WHAT, name.as_str(), group.version, expected_version)?;
            if let Some(child) = self.children(name).await?.first() {
                return Err(RegistryError::InvalidRequest(format!(
                    "thing group {name} has groups below it, e.g. {child}; delete them first"
                )));
            }
            let change = self.ancestors_told(&group).await?.map(|ancestors| Change::ThingGroup {
                diff: Diff::Deleted(group.clone()),
                ancestors,
            });
            if !self.remove(&key, revision, change).await? {
                continue;
            }
            tracing::info!(thing_group = %name, "thing group deleted");
            if let Some(parent) = &group.parent {
                self.forget_index(&child_key(parent, name.as_str())).await?;
            }
            self.forget_policies(&group).await?;
            for thing in self.members(name, ALL).await?.items {
                self.leave(&thing, &group).await?;
            }
            return Ok(());
        }
        Err(RegistryError::Busy)
    }

    /// The groups behind a name, in their order, for whoever looks at all of them: see
    /// [`Registry::things_after`].
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn thing_groups_after(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Result<ThingGroup, RegistryError>)>, RegistryError> {
        self.records_after(after, limit).await
    }

    /// ListThingGroups, ordered by name: those directly below `parent`, or the roots; with those below
    /// them if `recursive`.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`] for the parent.
    pub async fn list_thing_groups(
        &self,
        parent: Option<&ThingGroupName>,
        prefix: Option<&str>,
        recursive: bool,
        page: PageRequest<'_>,
    ) -> Result<Page<ThingGroupName>, RegistryError> {
        if let Some(parent) = parent {
            self.describe_thing_group(parent).await?;
        }
        let groups = self.list(ALL, |_: &ThingGroup| true).await?.items;
        let parents: BTreeMap<_, _> =
            groups.into_iter().map(|group| (group.name, group.parent)).collect();
        let is_below = |name: &ThingGroupName| {
            let mut above = parents.get(name).and_then(Option::as_ref);
            if recursive && parent.is_none() {
                return true;
            }
            while recursive && above.is_some() && above != parent {
                above = above.and_then(|name| parents.get(name)).and_then(Option::as_ref);
            }
            above == parent
        };
        let found = parents.keys().filter(|name| {
            prefix.is_none_or(|prefix| name.as_str().starts_with(prefix)) && is_below(name)
        });
        Ok(page_of(found.cloned().collect(), page))
    }

    /// AddThingToThingGroup; again is a success.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::InvalidRequest`] beyond
    /// `Limits::groups_per_thing`, for a second group below the same root, and for a dynamic group.
    pub async fn add_thing_to_group(
        &self,
        thing: &ThingName,
        group: &ThingGroupName,
    ) -> Result<(), RegistryError> {
        let joined = self.describe_thing_group(group).await?;
        joined.check_is_static()?;
        let root = self.root(&joined).await?;
        let key = record::key::<Thing>(thing.as_str());
        for _ in 0..ATTEMPTS_MAX {
            let (mut member, revision) = self.read_existing::<Thing>(&key).await?;
            if member.groups.contains(group) {
                return Ok(());
            }
            self.check_groups(&member, group, &root).await?;
            self.put_index(&member_key(group, thing.as_str())).await?;
            let before = member.clone();
            member.groups.insert(group.clone());
            let change = self.told(|| Change::Thing {
                diff: Diff::Updated { before, after: member.clone() },
                groups: vec![joined.clone()],
            });
            if !self.write_telling(&key, &member, Some(revision), change).await? {
                continue;
            }
            self.membership_changed(thing).await?;
            // Deleted since the first look? The deletion may have missed this thing.
            return match self.describe_thing_group(group).await {
                Err(error) => {
                    self.leave(thing, &joined).await?;
                    Err(error)
                }
                Ok(_) => Ok(()),
            };
        }
        Err(RegistryError::Busy)
    }

    /// RemoveThingFromThingGroup; a thing that is not in the group is a success.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn remove_thing_from_group(
        &self,
        thing: &ThingName,
        group: &ThingGroupName,
    ) -> Result<(), RegistryError> {
        let group = self.describe_thing_group(group).await?;
        group.check_is_static()?;
        self.describe_thing(thing).await?;
        self.leave(thing, &group).await
    }

    /// ListThingsInThingGroup, ordered by name; with those of the groups below it if `recursive`.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn list_things_in_group(
        &self,
        group: &ThingGroupName,
        recursive: bool,
        page: PageRequest<'_>,
    ) -> Result<Page<ThingName>, RegistryError> {
        self.describe_thing_group(group).await?;
        let mut groups = vec![group.clone()];
        let mut at = 0;
        while recursive && at < groups.len() {
            let below = self.children(&groups[at]).await?;
            groups.extend(below);
            at += 1;
        }
        let mut things = BTreeSet::new();
        // One more than asked for tells whether there are more.
        let more = PageRequest { limit: page.limit.saturating_add(1), ..page };
        for group in &groups {
            things.extend(self.members(group, more).await?.items);
        }
        Ok(page_of(things, page))
    }

    /// ListThingGroupsForThing, ordered by name: its static groups, and the dynamic ones that the caller
    /// knows it to be in.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn list_groups_of_thing(
        &self,
        thing: &ThingName,
        dynamic: Vec<ThingGroupName>,
        page: PageRequest<'_>,
    ) -> Result<Page<ThingGroupName>, RegistryError> {
        let mut groups = self.describe_thing(thing).await?.groups;
        groups.extend(dynamic);
        Ok(page_of(groups, page))
    }

    /// `arn:aws:iot:<region>:<account>:thinggroup/<name>`.
    pub fn thing_group_arn(&self, name: &ThingGroupName) -> String {
        self.account().arn(&format!("thinggroup/{name}"))
    }

    /// A thing is gone: its group need not know it any more.
    pub(super) async fn forget_member(
        &self,
        group: &ThingGroupName,
        thing: &ThingName,
    ) -> Result<(), RegistryError> {
        self.groups_of_thing_changed(thing).await?;
        self.forget_index(&member_key(group, thing.as_str())).await
    }

    async fn leave(&self, thing: &ThingName, group: &ThingGroup) -> Result<(), RegistryError> {
        let entry = self.0.ports.storage.get(&member_key(&group.name, thing.as_str())).await?;
        let change = |member: &mut Thing| Ok(member.groups.remove(&group.name));
        let told = |diff| Change::Thing { diff, groups: vec![group.clone()] };
        match self.update_telling(&record::key::<Thing>(thing.as_str()), change, told).await {
            Ok(_) => self.membership_changed(thing).await?,
            Err(RegistryError::ResourceNotFound(_)) => {}
            Err(error) => return Err(error),
        }
        self.remove_index(entry).await
    }

    /// Policies of groups hold for the certificates of the things in them, and log levels for the
    /// things themselves.
    async fn membership_changed(&self, thing: &ThingName) -> Result<(), RegistryError> {
        self.groups_of_thing_changed(thing).await?;
        let owner = super::attachment::Owner::Thing(thing);
        for id in self.attached_certificates(&owner).await? {
            self.certificate_changed(&id);
        }
        Ok(())
    }

    async fn check_groups(
        &self,
        thing: &Thing,
        group: &ThingGroupName,
        root: &ThingGroupName,
    ) -> Result<(), RegistryError> {
        // A thing that is in all groups that it may be in must not escape the quarantine by it.
        if group.as_str() == QUARANTINE_GROUP {
            return Ok(());
        }
        let max = self.0.ports.limits.groups_per_thing;
        let groups = thing.groups.iter().filter(|it| it.as_str() != QUARANTINE_GROUP).count();
        if groups >= max as usize {
            return Err(RegistryError::InvalidRequest(format!(
                "thing {} is in {max} groups already; remove it from one first",
                thing.name
            )));
        }
        for other in &thing.groups {
            let known = match self.describe_thing_group(other).await {
                // Deleted at this moment: the thing is about to leave it.
                Err(RegistryError::ResourceNotFound(_)) => continue,
                known => known?,
            };
            if self.root(&known).await? == *root {
                return Err(RegistryError::InvalidRequest(format!(
                    "thing {} is in group {other}, which has the same root as {group}; a thing is in one \
                     group of a hierarchy",
                    thing.name
                )));
            }
        }
        Ok(())
    }

    async fn root(&self, group: &ThingGroup) -> Result<ThingGroupName, RegistryError> {
        let ancestors = self.thing_group_ancestors(group).await?;
        Ok(ancestors.first().unwrap_or(group).name.clone())
    }

    /// The groups above a group, for those who listen.
    async fn ancestors_told(
        &self,
        group: &ThingGroup,
    ) -> Result<Option<Vec<ThingGroup>>, RegistryError> {
        match self.is_observed() {
            false => Ok(None),
            true => match self.thing_group_ancestors(group).await {
                // Its parent was deleted while it was made: it is about to be removed again.
                Err(RegistryError::ResourceNotFound(_)) => Ok(Some(Vec::new())),
                ancestors => ancestors.map(Some),
            },
        }
    }

    /// Whether there is room for another group below this one.
    async fn check_place(&self, parent: &ThingGroupName) -> Result<(), RegistryError> {
        let limits = &self.0.ports.limits;
        let above = self.describe_thing_group(parent).await?;
        above.check_is_static()?;
        let levels = self.thing_group_ancestors(&above).await?;
        // The new one and its parent are two more.
        if levels.len() + 2 > limits.thing_group_levels as usize {
            return Err(RegistryError::InvalidRequest(format!(
                "a group below {parent} would be on level {}; there are at most {} levels",
                levels.len() + 2,
                limits.thing_group_levels
            )));
        }
        if self.children(parent).await?.len() >= limits.thing_group_children as usize {
            return Err(RegistryError::InvalidRequest(format!(
                "thing group {parent} has {} groups below it already",
                limits.thing_group_children
            )));
        }
        Ok(())
    }

    /// Deleted since the first look? The deletion may have missed this group.
    async fn check_parent_is_there(&self, group: ThingGroup) -> Result<ThingGroup, RegistryError> {
        let Some(parent) = &group.parent else { return Ok(group) };
        match self.describe_thing_group(parent).await {
            Ok(_) => Ok(group),
            Err(error) => {
                self.delete_thing_group(&group.name, None).await?;
                Err(error)
            }
        }
    }

    fn check_group(&self, group: &ThingGroup) -> Result<(), RegistryError> {
        if let Some(description) = &group.properties.description {
            check_description("thingGroupDescription", description)?;
        }
        let count = group.properties.attributes.values().len();
        let max = self.0.ports.limits.thing_group_attributes;
        if count > max as usize {
            return Err(RegistryError::InvalidRequest(format!(
                "thing group {} would have {count} attributes; at most {max} are allowed",
                group.name
            )));
        }
        Ok(())
    }

    /// Groups directly below a group; at most `Limits::thing_group_children`.
    async fn children(
        &self,
        parent: &ThingGroupName,
    ) -> Result<Vec<ThingGroupName>, RegistryError> {
        let holds = |group: &ThingGroup| group.parent.as_ref() == Some(parent);
        let prefix = child_key(parent, "");
        Ok(self.index_page(&prefix, ALL, ThingGroupName::parse, holds).await?.items)
    }

    /// Things directly in a group, ordered by name.
    pub(super) async fn members(
        &self,
        group: &ThingGroupName,
        page: PageRequest<'_>,
    ) -> Result<Page<ThingName>, RegistryError> {
        let holds = |thing: &Thing| thing.groups.contains(group);
        self.index_page(&member_key(group, ""), page, ThingName::parse, holds).await
    }
}

fn child_key(parent: &ThingGroupName, child: &str) -> Key {
    Key::new("thing-group-child", &[parent.as_str(), child])
}

fn member_key(group: &ThingGroupName, thing: &str) -> Key {
    Key::new("thing-group-thing", &[group.as_str(), thing])
}

#[derive(Serialize, Deserialize)]
pub(super) struct ThingGroupRecord {
    id: String,
    parent: Option<String>,
    description: Option<String>,
    attributes: BTreeMap<String, String>,
    version: u64,
    created_at_ms: u64,
    #[serde(default)]
    policies: BTreeSet<String>,
    #[serde(default)]
    query: Option<String>,
}

impl Stored for ThingGroup {
    const KIND: &str = "thing-group";
    const VERSION: u8 = 1;
    type Record = ThingGroupRecord;

    fn to_record(&self) -> ThingGroupRecord {
        ThingGroupRecord {
            id: self.id.clone(),
            parent: self.parent.as_ref().map(ToString::to_string),
            description: self.properties.description.clone(),
            attributes: self.properties.attributes.values().clone(),
            version: self.version,
            created_at_ms: self.created_at.as_millis(),
            policies: self.policies.iter().map(ToString::to_string).collect(),
            query: self.query.clone(),
        }
    }

    fn from_record(name: &str, record: ThingGroupRecord) -> Result<Self, String> {
        let parse = |name: &str| ThingGroupName::parse(name).map_err(|error| error.to_string());
        Ok(Self {
            name: parse(name)?,
            id: record.id,
            parent: record.parent.as_deref().map(parse).transpose()?,
            query: record.query,
            properties: ThingGroupProperties {
                description: record.description,
                attributes: Attributes::stored(record.attributes),
            },
            version: record.version,
            created_at: Timestamp::from_millis(record.created_at_ms),
            policies: record
                .policies
                .iter()
                .map(|name| PolicyName::parse(name))
                .collect::<Result<_, _>>()
                .map_err(|error| error.to_string())?,
        })
    }

    fn not_found(name: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("thing group {name} does not exist"))
    }
}
