//! Dynamic thing groups: create, update, delete. They are described and listed with the static ones.

use crate::Services;
use crate::call::{Answer, Call};
use crate::error::ApiError;
use crate::iot::fleet_indexing::{QUERY_VERSION, check_version, parse_index};
use crate::iot::tags::{self, TagBody};
use crate::iot::thing_groups::{Properties, group_name, resource};
use crate::router::{Handlers, handlers};
use gnomon_core::fleet::IndexName;
use gnomon_core::registry::DynamicGroupUpdate;
use serde::{Deserialize, Serialize};

pub(crate) const HANDLERS: Handlers = handlers! {
    CreateDynamicThingGroup => create;
    UpdateDynamicThingGroup => update;
    DeleteDynamicThingGroup => delete;
};

/// Only things are in groups.
fn check_index(name: Option<&str>) -> Result<(), ApiError> {
    match parse_index(name)? {
        IndexName::Things => Ok(()),
        IndexName::ThingGroups => {
            Err(ApiError::invalid_request("indexName of a dynamic group must be AWS_Things"))
        }
    }
}

async fn create(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        thing_group_properties: Option<Properties>,
        index_name: Option<String>,
        query_string: String,
        query_version: Option<String>,
        #[serde(default)]
        tags: Vec<TagBody>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        thing_group_name: &'a str,
        thing_group_arn: String,
        thing_group_id: &'a str,
        index_name: &'a str,
        query_string: &'a str,
        query_version: &'a str,
    }
    let name = group_name(call)?;
    let members: Members = call.members()?;
    check_index(members.index_name.as_deref())?;
    check_version(members.query_version.as_deref())?;
    let tags = tags::parse(members.tags)?;
    let (properties, _) = members.thing_group_properties.unwrap_or_default().parse()?;
    let registry = &services.registry;
    let query = &members.query_string;
    let made = services.fleet.create_dynamic_group(&name, query, properties).await?;
    registry.tag(&resource(&name), &tags).await?;
    Answer::members(&Body {
        thing_group_name: name.as_str(),
        thing_group_arn: registry.thing_group_arn(&name),
        thing_group_id: &made.id,
        index_name: IndexName::Things.as_str(),
        query_string: query,
        query_version: QUERY_VERSION,
    })
}

async fn update(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        thing_group_properties: Properties,
        expected_version: Option<u64>,
        index_name: Option<String>,
        query_string: Option<String>,
        query_version: Option<String>,
    }
    #[derive(Serialize)]
    struct Body {
        version: u64,
    }
    let name = group_name(call)?;
    let members: Members = call.members()?;
    check_index(members.index_name.as_deref())?;
    check_version(members.query_version.as_deref())?;
    let (properties, merge) = members.thing_group_properties.parse()?;
    let update = DynamicGroupUpdate {
        properties,
        merge,
        query: members.query_string,
        expected_version: members.expected_version,
    };
    let group = services.registry.update_dynamic_thing_group(&name, &update).await?;
    Answer::members(&Body { version: group.version })
}

async fn delete(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let expected_version = call.query_as("expectedVersion")?;
    let name = group_name(call)?;
    services.registry.delete_dynamic_thing_group(&name, expected_version).await?;
    services.registry.forget_tags(&resource(&name)).await?;
    Ok(Answer::empty())
}

#[cfg(test)]
mod tests;
