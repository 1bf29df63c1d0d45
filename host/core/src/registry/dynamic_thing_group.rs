//! Dynamic thing groups: a query in place of things.
//!
//! A group's record has the query, and nothing says which things are in the group: whoever has the
//! fleet index (`fleet`) asks it. So a membership is never out of step with the search for it.
//!
//! Source: AWS IoT developer guide, "Dynamic thing groups".

use super::index::ALL;
use super::quarantine::QUARANTINE_GROUP;
use super::thing_group::ThingGroup;
use super::{Registry, RegistryError, ThingGroupProperties};
use crate::ids::ThingGroupName;
use gnomon_search::Query;

/// Most dynamic groups: each change of a thing is held against the query of each.
pub const DYNAMIC_GROUPS_MAX: usize = 100;

/// What UpdateDynamicThingGroup changes.
#[derive(Clone, Debug, Default)]
pub struct DynamicGroupUpdate {
    /// Description and attributes.
    pub properties: ThingGroupProperties,
    /// The attributes are merged into the present ones.
    pub merge: bool,
    /// The query that it gets.
    pub query: Option<String>,
    /// The version that it must have.
    pub expected_version: Option<u64>,
}

impl Registry {
    /// CreateDynamicThingGroup. The same group again is a success and changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::InvalidQuery`]; [`RegistryError::ResourceAlreadyExists`] when its query or
    /// properties differ, or it is static; [`RegistryError::InvalidRequest`] beyond
    /// `Limits::thing_group_attributes`, and for the name of the quarantine's group;
    /// [`RegistryError::LimitExceeded`] beyond [`DYNAMIC_GROUPS_MAX`].
    pub async fn create_dynamic_thing_group(
        &self,
        name: &ThingGroupName,
        query: &str,
        properties: ThingGroupProperties,
    ) -> Result<ThingGroup, RegistryError> {
        Query::parse(query)?;
        if name.as_str() == QUARANTINE_GROUP {
            return Err(RegistryError::InvalidRequest(format!(
                "{QUARANTINE_GROUP} is the group of things in quarantine, and static"
            )));
        }
        let group = self.new_group(name, None, Some(query.to_owned()), properties);
        let others = self.dynamic_thing_groups().await?;
        if others.len() >= DYNAMIC_GROUPS_MAX && others.iter().all(|it| it.name != *name) {
            return Err(RegistryError::LimitExceeded(format!(
                "there are {DYNAMIC_GROUPS_MAX} dynamic thing groups already"
            )));
        }
        self.add_group(group).await
    }

    /// UpdateDynamicThingGroup; returns the group as it is now.
    ///
    /// # Errors
    /// [`RegistryError::InvalidQuery`], [`RegistryError::ResourceNotFound`],
    /// [`RegistryError::VersionConflict`], [`RegistryError::InvalidRequest`] for a static group and
    /// beyond `Limits::thing_group_attributes`.
    pub async fn update_dynamic_thing_group(
        &self,
        name: &ThingGroupName,
        update: &DynamicGroupUpdate,
    ) -> Result<ThingGroup, RegistryError> {
        update.query.as_deref().map(Query::parse).transpose()?;
        let change = |group: &mut ThingGroup| {
            check_is_dynamic(group)?;
            group.properties.change(&update.properties, update.merge);
            if update.query.is_some() {
                group.query.clone_from(&update.query);
            }
            Ok(())
        };
        self.change_group(name, update.expected_version, change).await
    }

    /// DeleteDynamicThingGroup; a group that does not exist is a success.
    ///
    /// # Errors
    /// [`RegistryError::VersionConflict`], [`RegistryError::InvalidRequest`] for a static group.
    pub async fn delete_dynamic_thing_group(
        &self,
        name: &ThingGroupName,
        expected_version: Option<u64>,
    ) -> Result<(), RegistryError> {
        self.remove_group(name, expected_version, check_is_dynamic).await
    }

    /// All dynamic groups, ordered by name; at most [`DYNAMIC_GROUPS_MAX`], and a few more when
    /// several were created at the same moment.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn dynamic_thing_groups(&self) -> Result<Vec<ThingGroup>, RegistryError> {
        Ok(self.list(ALL, |group: &ThingGroup| group.query.is_some()).await?.items)
    }
}

fn check_is_dynamic(group: &ThingGroup) -> Result<(), RegistryError> {
    match group.query {
        Some(_) => Ok(()),
        None => Err(RegistryError::InvalidRequest(format!(
            "thing group {} is static; UpdateThingGroup and DeleteThingGroup change it",
            group.name
        ))),
    }
}
