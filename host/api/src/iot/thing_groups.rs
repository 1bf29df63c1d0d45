//! Thing groups: create, update and delete static ones, describe and list all; the things in them.

use crate::Services;
use crate::call::{Answer, Call, encode_token, epoch_seconds};
use crate::error::ApiError;
use crate::iot::fleet_indexing::QUERY_VERSION;
use crate::iot::tags::{self, TagBody};
use crate::iot::things::{AttributePayload, thing_name};
use crate::router::{Handlers, handlers};
use gnomon_core::fleet::{FleetError, IndexName, IndexStatus};
use gnomon_core::ids::{ThingGroupName, ThingName};
use gnomon_core::registry::{Attributes, Page, Registry, ThingGroupProperties};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(crate) const HANDLERS: Handlers = handlers! {
    CreateThingGroup => create;
    DescribeThingGroup => describe;
    UpdateThingGroup => update;
    DeleteThingGroup => delete;
    ListThingGroups => list;
    AddThingToThingGroup => add_thing;
    RemoveThingFromThingGroup => remove_thing;
    ListThingsInThingGroup => list_things;
    ListThingGroupsForThing => list_for_thing;
    UpdateThingGroupsForThing => update_for_thing;
};

/// AWS: `ThingGroupProperties`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Properties {
    thing_group_description: Option<String>,
    attribute_payload: Option<AttributePayload>,
}

impl Properties {
    /// What they say, and whether attributes are to be merged into the present ones; they stay when
    /// none are given.
    pub(crate) fn parse(self) -> Result<(ThingGroupProperties, bool), ApiError> {
        let (attributes, merge) = match self.attribute_payload {
            Some(payload) => payload.parse()?,
            None => (Attributes::default(), true),
        };
        let description = self.thing_group_description;
        Ok((ThingGroupProperties { description, attributes }, merge))
    }
}

async fn create(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        parent_group_name: Option<String>,
        thing_group_properties: Option<Properties>,
        #[serde(default)]
        tags: Vec<TagBody>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        thing_group_name: &'a str,
        thing_group_arn: String,
        thing_group_id: &'a str,
    }
    let name = group_name(call)?;
    let members: Members = call.members()?;
    let tags = tags::parse(members.tags)?;
    let parent = members.parent_group_name.as_deref().map(ThingGroupName::parse).transpose()?;
    let (properties, _) = members.thing_group_properties.unwrap_or_default().parse()?;
    let made = services.registry.create_thing_group(&name, parent, properties).await?;
    services.registry.tag(&resource(&name), &tags).await?;
    Answer::members(&Body {
        thing_group_name: name.as_str(),
        thing_group_arn: services.registry.thing_group_arn(&name),
        thing_group_id: &made.id,
    })
}

async fn describe(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        thing_group_name: &'a str,
        thing_group_id: &'a str,
        thing_group_arn: String,
        version: u64,
        thing_group_properties: PropertiesBody<'a>,
        thing_group_metadata: Metadata<'a>,
        #[serde(flatten)]
        dynamic: Option<Dynamic<'a>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Dynamic<'a> {
        index_name: &'a str,
        query_string: &'a str,
        query_version: &'a str,
        status: &'a str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct PropertiesBody<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        thing_group_description: Option<&'a str>,
        attribute_payload: Attributes<'a>,
    }
    #[derive(Serialize)]
    struct Attributes<'a> {
        attributes: &'a BTreeMap<String, String>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        parent_group_name: Option<&'a str>,
        root_to_parent_thing_groups: Vec<NameAndArn>,
        creation_date: f64,
    }
    let registry = &services.registry;
    let group = registry.describe_thing_group(&group_name(call)?).await?;
    let ancestors = registry.thing_group_ancestors(&group).await?.into_iter();
    let ancestors: Vec<_> = ancestors.map(|ancestor| ancestor.name).collect();
    Answer::members(&Body {
        thing_group_name: group.name.as_str(),
        thing_group_id: &group.id,
        thing_group_arn: registry.thing_group_arn(&group.name),
        version: group.version,
        thing_group_properties: PropertiesBody {
            thing_group_description: group.properties.description.as_deref(),
            attribute_payload: Attributes { attributes: group.properties.attributes.values() },
        },
        thing_group_metadata: Metadata {
            parent_group_name: group.parent.as_ref().map(ThingGroupName::as_str),
            root_to_parent_thing_groups: NameAndArn::all(&ancestors, registry),
            creation_date: epoch_seconds(group.created_at),
        },
        dynamic: group.query.as_deref().map(|query_string| Dynamic {
            index_name: IndexName::Things.as_str(),
            query_string,
            query_version: QUERY_VERSION,
            // Its members are what a search finds.
            status: services
                .fleet
                .status(IndexName::Things)
                .unwrap_or(IndexStatus::Building)
                .as_str(),
        }),
    })
}

async fn update(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        thing_group_properties: Properties,
        expected_version: Option<u64>,
    }
    #[derive(Serialize)]
    struct Body {
        version: u64,
    }
    let Members { thing_group_properties, expected_version } = call.members()?;
    let (properties, merge) = thing_group_properties.parse()?;
    let name = group_name(call)?;
    let registry = &services.registry;
    let group = registry.update_thing_group(&name, &properties, merge, expected_version).await?;
    Answer::members(&Body { version: group.version })
}

async fn delete(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let expected_version = call.query_as("expectedVersion")?;
    let name = group_name(call)?;
    services.registry.delete_thing_group(&name, expected_version).await?;
    services.registry.forget_tags(&resource(&name)).await?;
    Ok(Answer::empty())
}

async fn list(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let page = call.page("maxResults", "nextToken")?;
    let parent = call.query("parentGroup")?.map(ThingGroupName::parse).transpose()?;
    let prefix = call.query("namePrefixFilter")?;
    let recursive = call.query_as("recursive")?.unwrap_or(true);
    let registry = &services.registry;
    let found =
        registry.list_thing_groups(parent.as_ref(), prefix, recursive, page.request()).await?;
    groups(&found, registry)
}

/// A thing and a group, each by its name or its ARN.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Membership {
    thing_name: Option<String>,
    thing_arn: Option<String>,
    thing_group_name: Option<String>,
    thing_group_arn: Option<String>,
}

impl Membership {
    fn parse(&self, registry: &Registry) -> Result<(ThingName, ThingGroupName), ApiError> {
        let prefix = |kind: &str| registry.account().arn(&format!("{kind}/"));
        let thing = named("thing", &self.thing_name, &self.thing_arn, &prefix("thing"))?;
        let group = named(
            "thingGroup",
            &self.thing_group_name,
            &self.thing_group_arn,
            &prefix("thinggroup"),
        )?;
        Ok((ThingName::parse(thing)?, ThingGroupName::parse(group)?))
    }
}

/// The name of something that is given by its name, its ARN or both.
pub(crate) fn named<'a>(
    what: &str,
    name: &'a Option<String>,
    arn: &'a Option<String>,
    prefix: &str,
) -> Result<&'a str, ApiError> {
    let by_arn = arn.as_deref().map(|arn| {
        arn.strip_prefix(prefix)
            .ok_or_else(|| ApiError::invalid_request(format!("{what}Arn must begin with {prefix}")))
    });
    match (name.as_deref(), by_arn.transpose()?) {
        (Some(name), Some(by_arn)) if name != by_arn => Err(ApiError::invalid_request(format!(
            "{what}Name and {what}Arn name different ones; give one of them"
        ))),
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => {
            Err(ApiError::invalid_request(format!("give {what}Name or {what}Arn in the body")))
        }
    }
}

async fn add_thing(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let (thing, group) = call.members::<Membership>()?.parse(&services.registry)?;
    services.registry.add_thing_to_group(&thing, &group).await?;
    Ok(Answer::empty())
}

async fn remove_thing(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let (thing, group) = call.members::<Membership>()?.parse(&services.registry)?;
    services.registry.remove_thing_from_group(&thing, &group).await?;
    Ok(Answer::empty())
}

async fn list_things(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let page = call.page("maxResults", "nextToken")?;
    let recursive = call.query_as("recursive")?.unwrap_or(false);
    let name = group_name(call)?;
    let group = services.registry.describe_thing_group(&name).await?;
    if let Some(query) = &group.query {
        let found = services.fleet.members(query, page.after, page.limit).await;
        // AWS has no error of the index here.
        let found = found.map_err(|error| match error {
            FleetError::Off(_) | FleetError::Building(_) | FleetError::Query(_) => {
                ApiError::invalid_request(error.to_string())
            }
            error => error.into(),
        })?;
        let items = found.items.iter().map(|name| ThingName::parse(name));
        return things(&Page { items: items.collect::<Result<_, _>>()?, next: found.next });
    }
    let found = services.registry.list_things_in_group(&name, recursive, page.request()).await?;
    things(&found)
}

async fn list_for_thing(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let page = call.page("maxResults", "nextToken")?;
    let registry = &services.registry;
    let name = thing_name(call)?;
    let dynamic = services.fleet.groups_of(vec![name.clone()]).await?.concat();
    let found = registry.list_groups_of_thing(&name, dynamic, page.request()).await?;
    groups(&found, registry)
}

async fn update_for_thing(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        thing_name: String,
        #[serde(default)]
        thing_groups_to_add: Vec<String>,
        #[serde(default)]
        thing_groups_to_remove: Vec<String>,
    }
    let Members { thing_name, thing_groups_to_add, thing_groups_to_remove } = call.members()?;
    let thing = ThingName::parse(&thing_name)?;
    let parse = |names: &[String]| -> Result<Vec<_>, ApiError> {
        names.iter().map(|name| Ok(ThingGroupName::parse(name)?)).collect()
    };
    let (add, remove) = (parse(&thing_groups_to_add)?, parse(&thing_groups_to_remove)?);
    // What it leaves makes room for what it joins.
    for group in &remove {
        services.registry.remove_thing_from_group(&thing, group).await?;
    }
    for group in &add {
        services.registry.add_thing_to_group(&thing, group).await?;
    }
    Ok(Answer::empty())
}

/// As tags call it.
pub(crate) fn resource(name: &ThingGroupName) -> String {
    format!("thinggroup/{name}")
}

pub(crate) fn group_name(call: &Call<'_>) -> Result<ThingGroupName, ApiError> {
    Ok(ThingGroupName::parse(call.label("thingGroupName"))?)
}

/// AWS: `GroupNameAndArn`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NameAndArn {
    group_name: String,
    group_arn: String,
}

impl NameAndArn {
    fn all(names: &[ThingGroupName], registry: &Registry) -> Vec<Self> {
        let one = |name: &ThingGroupName| Self {
            group_name: name.to_string(),
            group_arn: registry.thing_group_arn(name),
        };
        names.iter().map(one).collect()
    }
}

/// A page of things' names.
pub(crate) fn things(found: &Page<ThingName>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        things: Vec<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    Answer::members(&Body {
        things: found.items.iter().map(ThingName::as_str).collect(),
        next_token: found.next.as_deref().map(encode_token),
    })
}

fn groups(found: &Page<ThingGroupName>, registry: &Registry) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        thing_groups: Vec<NameAndArn>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    Answer::members(&Body {
        thing_groups: NameAndArn::all(&found.items, registry),
        next_token: found.next.as_deref().map(encode_token),
    })
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use serde_json::{Value, json};

    const INVALID: &str = "InvalidRequestException";
    const NOT_FOUND: &str = "ResourceNotFoundException";

    fn arn(name: &str) -> String {
        format!("arn:aws:iot:us-east-1:123456789012:thinggroup/{name}")
    }

    /// `site` > `hall` > `corner`, `other`, and the thing `Lamp`.
    async fn host() -> TestHost {
        let host = TestHost::new().await;
        for (name, parent) in [("site", None), ("hall", Some("site")), ("corner", Some("hall"))] {
            let body = json!({"parentGroupName": parent}).to_string();
            host.iot("POST", &format!("/thing-groups/{name}"), &body).await;
        }
        host.iot("POST", "/thing-groups/other", "").await;
        host.iot("POST", "/things/Lamp", "").await;
        host
    }

    fn names(list: &Value) -> Vec<&str> {
        let groups = list["thingGroups"].as_array().unwrap();
        groups.iter().map(|group| group["groupName"].as_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_group_lives_from_create_to_delete() {
        let host = TestHost::new().await;
        let body = r#"{"thingGroupProperties": {"thingGroupDescription": "all",
            "attributePayload": {"attributes": {"floor": "1"}}}}"#;
        let made = host.iot("POST", "/thing-groups/site", body).await;
        let id = made["thingGroupId"].clone();
        let expected =
            json!({"thingGroupName": "site", "thingGroupArn": arn("site"), "thingGroupId": id});
        assert_eq!(made, expected);
        assert_eq!(host.iot("POST", "/thing-groups/site", body).await, expected);
        host.iot("POST", "/thing-groups/hall", r#"{"parentGroupName": "site"}"#).await;
        host.iot("POST", "/thing-groups/corner", r#"{"parentGroupName": "hall"}"#).await;
        let corner = host.iot("GET", "/thing-groups/corner", "").await;
        assert_eq!(
            corner["thingGroupMetadata"],
            json!({
                "parentGroupName": "hall",
                "rootToParentThingGroups": [
                    {"groupName": "site", "groupArn": arn("site")},
                    {"groupName": "hall", "groupArn": arn("hall")},
                ],
                "creationDate": 1_795_435_200.5,
            })
        );
        let update = r#"{"expectedVersion": 1, "thingGroupProperties":
            {"attributePayload": {"merge": true, "attributes": {"room": "2"}}}}"#;
        let updated = host.iot("PATCH", "/thing-groups/site", update).await;
        assert_eq!(updated, json!({"version": 2}));
        assert_eq!(
            host.iot("GET", "/thing-groups/site", "").await,
            json!({
                "thingGroupName": "site",
                "thingGroupId": id,
                "thingGroupArn": arn("site"),
                "version": 2,
                "thingGroupProperties": {
                    "thingGroupDescription": "all",
                    "attributePayload": {"attributes": {"floor": "1", "room": "2"}},
                },
                "thingGroupMetadata":
                    {"rootToParentThingGroups": [], "creationDate": 1_795_435_200.5},
            })
        );
        // What is not given stays, and what is given is replaced.
        let properties = async |update: &str| {
            host.iot("PATCH", "/thing-groups/site", update).await;
            host.iot("GET", "/thing-groups/site", "").await["thingGroupProperties"].clone()
        };
        let described = r#"{"thingGroupProperties": {"thingGroupDescription": "more"}}"#;
        let rooms = json!({"floor": "1", "room": "2"});
        let with = |attributes: Value| json!({"thingGroupDescription": "more", "attributePayload": {"attributes": attributes}});
        assert_eq!(properties(described).await, with(rooms.clone()));
        assert_eq!(properties(r#"{"thingGroupProperties": {}}"#).await, with(rooms));
        let replaced = r#"{"thingGroupProperties": {"attributePayload": {"attributes": {}}}}"#;
        assert_eq!(properties(replaced).await, with(json!({})));
        for name in ["corner", "hall", "site", "site"] {
            host.iot("DELETE", &format!("/thing-groups/{name}"), "").await;
        }
        assert_eq!(host.iot("GET", "/thing-groups", "").await, json!({"thingGroups": []}));
    }

    #[tokio::test]
    async fn groups_are_listed_by_place_prefix_and_page() {
        let host = host().await;
        for (query, expected) in [
            ("", &["corner", "hall", "other", "site"][..]),
            ("?recursive=false", &["other", "site"]),
            ("?parentGroup=site", &["corner", "hall"]),
            ("?parentGroup=site&recursive=false", &["hall"]),
            ("?parentGroup=corner", &[]),
            ("?namePrefixFilter=h", &["hall"]),
        ] {
            let list = host.iot("GET", &format!("/thing-groups{query}"), "").await;
            assert_eq!(names(&list), expected, "{query}");
        }
        let first = host.iot("GET", "/thing-groups?maxResults=3", "").await;
        let token = first["nextToken"].as_str().unwrap();
        let rest = host.iot("GET", &format!("/thing-groups?nextToken={token}"), "").await;
        assert_eq!((names(&rest), rest.get("nextToken")), (vec!["site"], None));
    }

    #[tokio::test]
    async fn things_are_in_groups() {
        let host = host().await;
        let thing_arn = "arn:aws:iot:us-east-1:123456789012:thing/Lamp";
        let by_arn = json!({"thingArn": thing_arn, "thingGroupArn": arn("corner")}).to_string();
        for _ in 0..2 {
            host.iot("PUT", "/thing-groups/addThingToThingGroup", &by_arn).await;
        }
        let things = async |query: &str| {
            let list = host.iot("GET", &format!("/thing-groups/{query}"), "").await;
            list["things"].clone()
        };
        assert_eq!(things("corner/things").await, json!(["Lamp"]));
        assert_eq!(things("site/things").await, json!([]));
        assert_eq!(things("site/things?recursive=true").await, json!(["Lamp"]));
        let update = r#"{"thingName": "Lamp", "thingGroupsToAdd": ["hall", "other"], "thingGroupsToRemove": ["corner"]}"#;
        host.iot("PUT", "/thing-groups/updateThingGroupsForThing", update).await;
        let of_lamp = host.iot("GET", "/things/Lamp/thing-groups", "").await;
        assert_eq!(names(&of_lamp), ["hall", "other"]);
        let remove = r#"{"thingName": "Lamp", "thingGroupName": "other"}"#;
        for _ in 0..2 {
            host.iot("PUT", "/thing-groups/removeThingFromThingGroup", remove).await;
        }
        assert_eq!(things("other/things").await, json!([]));
        // A group that is deleted is left by its things, a thing that is deleted leaves its groups.
        host.iot("DELETE", "/thing-groups/corner", "").await;
        host.iot("DELETE", "/thing-groups/hall", "").await;
        let of_lamp = host.iot("GET", "/things/Lamp/thing-groups", "").await;
        assert_eq!(of_lamp, json!({"thingGroups": []}));
        let add = r#"{"thingName": "Lamp", "thingGroupName": "other"}"#;
        host.iot("PUT", "/thing-groups/addThingToThingGroup", add).await;
        host.iot("DELETE", "/things/Lamp", "").await;
        assert_eq!(things("other/things").await, json!([]));
        host.iot("POST", "/things/Lamp", "").await;
        assert_eq!(things("other/things").await, json!([]));
    }

    #[tokio::test]
    async fn things_of_many_groups_are_listed_page_by_page() {
        let host = host().await;
        for number in 0..7 {
            host.iot("POST", &format!("/things/t{number}"), "").await;
            let group = ["site", "hall", "corner"][number % 3];
            let add = json!({"thingName": format!("t{number}"), "thingGroupName": group});
            host.iot("PUT", "/thing-groups/addThingToThingGroup", &add.to_string()).await;
        }
        let mut found = Vec::new();
        let all = "/thing-groups/site/things?recursive=true&maxResults=2";
        let mut next = all.to_owned();
        loop {
            let page = host.iot("GET", &next, "").await;
            found.extend(page["things"].as_array().unwrap().clone());
            let Some(token) = page["nextToken"].as_str() else { break };
            next = format!("{all}&nextToken={token}");
        }
        assert_eq!(json!(found), json!(["t0", "t1", "t2", "t3", "t4", "t5", "t6"]));
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_group_is_said() {
        let host = host().await;
        let mut parent = "corner".to_owned();
        for level in 4..=7 {
            let name = format!("level{level}");
            let body = json!({"parentGroupName": parent}).to_string();
            host.iot("POST", &format!("/thing-groups/{name}"), &body).await;
            parent = name;
        }
        let add = |thing: &str, group: &str| {
            json!({"thingName": thing, "thingGroupName": group}).to_string()
        };
        let add_path = "/thing-groups/addThingToThingGroup";
        host.iot("PUT", add_path, &add("Lamp", "corner")).await;
        let member = json!({"thingName": "Lamp", "thingArn": "arn:aws:iot:us-east-1:123456789012:thing/X",
            "thingGroupName": "hall"});
        for (method, target, body, exception, says) in [
            ("POST", "/thing-groups/a%20b", String::new(), INVALID, "thing group name"),
            (
                "POST",
                "/thing-groups/hall",
                r#"{"parentGroupName": "other"}"#.to_owned(),
                "ResourceAlreadyExistsException",
                "another configuration",
            ),
            (
                "POST",
                "/thing-groups/x",
                r#"{"parentGroupName": "none"}"#.to_owned(),
                NOT_FOUND,
                "none",
            ),
            (
                "POST",
                "/thing-groups/x",
                r#"{"parentGroupName": "level7"}"#.to_owned(),
                INVALID,
                "would be on level 8; there are at most 7",
            ),
            ("GET", "/thing-groups/none", String::new(), NOT_FOUND, "thing group none"),
            ("PATCH", "/thing-groups/hall", "{}".to_owned(), INVALID, "missing field"),
            (
                "PATCH",
                "/thing-groups/hall",
                r#"{"thingGroupProperties": {}, "expectedVersion": 3}"#.to_owned(),
                "VersionConflictException",
                "has version 1, expected was 3",
            ),
            (
                "DELETE",
                "/thing-groups/hall",
                String::new(),
                INVALID,
                "groups below it, e.g. corner",
            ),
            ("GET", "/thing-groups?parentGroup=none", String::new(), NOT_FOUND, "none"),
            ("GET", "/thing-groups?recursive=x", String::new(), INVALID, "recursive"),
            ("PUT", add_path, add("Lamp", "site"), INVALID, "has the same root as site"),
            ("PUT", add_path, add("None", "other"), NOT_FOUND, "thing None"),
            ("PUT", add_path, add("Lamp", "none"), NOT_FOUND, "thing group none"),
            ("PUT", add_path, "{}".to_owned(), INVALID, "give thingName or thingArn"),
            ("PUT", add_path, member.to_string(), INVALID, "name different ones"),
            (
                "PUT",
                add_path,
                r#"{"thingArn": "Lamp", "thingGroupName": "hall"}"#.to_owned(),
                INVALID,
                "thingArn must begin with arn:aws:iot:us-east-1:123456789012:thing/",
            ),
            ("GET", "/thing-groups/none/things", String::new(), NOT_FOUND, "none"),
            ("GET", "/things/None/thing-groups", String::new(), NOT_FOUND, "thing None"),
        ] {
            host.check_refused(method, target, &body, exception, says).await;
        }
        for number in 0..10 {
            let name = format!("root{number}");
            host.iot("POST", &format!("/thing-groups/{name}"), "").await;
            if number < 9 {
                host.iot("PUT", add_path, &add("Lamp", &name)).await;
            }
        }
        let many = add("Lamp", "root9");
        host.check_refused("PUT", add_path, &many, INVALID, "is in 10 groups already").await;
    }
}
