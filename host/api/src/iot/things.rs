//! Things: create, describe, update, delete, list.

use crate::Services;
use crate::call::{Answer, Call, encode_token};
use crate::error::ApiError;
use crate::router::{Handlers, handlers};
use gnomon_core::ids::{BillingGroupName, ThingName, ThingTypeName};
use gnomon_core::registry::{Attributes, Registry, Thing, ThingFilter, ThingUpdate};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(crate) const HANDLERS: Handlers = handlers! {
    CreateThing => create_thing;
    DescribeThing => describe_thing;
    UpdateThing => update_thing;
    DeleteThing => delete_thing;
    ListThings => list_things;
};

/// What CreateThing and UpdateThing have in common.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    attribute_payload: Option<AttributePayload>,
    thing_type_name: Option<String>,
    #[serde(default)]
    remove_thing_type: bool,
    billing_group_name: Option<String>,
    expected_version: Option<u64>,
}

/// AWS: `AttributePayload`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct AttributePayload {
    attributes: BTreeMap<String, String>,
    merge: bool,
}

impl AttributePayload {
    /// The attributes, and whether they are to be merged into the present ones.
    pub(crate) fn parse(self) -> Result<(Attributes, bool), ApiError> {
        Ok((Attributes::parse(self.attributes)?, self.merge))
    }
}

async fn create_thing(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        thing_name: &'a str,
        thing_arn: String,
        thing_id: &'a str,
    }
    let name = thing_name(call)?;
    let members: Members = call.members()?;
    let type_name = members.type_name()?;
    let billing_group =
        members.billing_group_name.as_deref().map(BillingGroupName::parse).transpose()?;
    if let Some(group) = &billing_group {
        services.registry.describe_billing_group(group).await?;
    }
    let (attributes, _) = members.attributes()?.unwrap_or_default();
    let thing = services.registry.create_thing(&name, type_name, attributes).await?;
    if let Some(group) = &billing_group {
        services.registry.add_thing_to_billing_group(&name, group).await?;
    }
    Answer::members(&Body {
        thing_name: name.as_str(),
        thing_arn: services.registry.thing_arn(&name),
        thing_id: &thing.id,
    })
}

async fn describe_thing(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        default_client_id: &'a str,
        thing_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        billing_group_name: Option<&'a str>,
        #[serde(flatten)]
        thing: ThingAttribute<'a>,
    }
    let thing = services.registry.describe_thing(&thing_name(call)?).await?;
    Answer::members(&Body {
        default_client_id: thing.name.as_str(),
        thing_id: &thing.id,
        billing_group_name: thing.billing_group.as_ref().map(BillingGroupName::as_str),
        thing: ThingAttribute::new(&thing, &services.registry),
    })
}

async fn update_thing(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let name = thing_name(call)?;
    let members: Members = call.members()?;
    let (type_name, remove_type) = (members.type_name()?, members.remove_thing_type);
    let expected_version = members.expected_version;
    let (attributes, merge) = members.attributes()?.unzip();
    let merge = merge.unwrap_or(false);
    let change = ThingUpdate { attributes, merge, type_name, remove_type, expected_version };
    services.registry.update_thing(&name, &change).await?;
    Ok(Answer::empty())
}

async fn delete_thing(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let expected_version = call.query_as("expectedVersion")?;
    services.registry.delete_thing(&thing_name(call)?, expected_version).await?;
    Ok(Answer::empty())
}

async fn list_things(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        things: Vec<ThingAttribute<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let text = |name| call.query(name).map(|value| value.map(str::to_owned));
    let filter = ThingFilter {
        attribute_name: text("attributeName")?,
        attribute_value: text("attributeValue")?,
        value_is_prefix: call.query_as("usePrefixAttributeValue")?.unwrap_or(false),
        type_name: text("thingTypeName")?,
    };
    if filter.attribute_value.is_some() && filter.attribute_name.is_none() {
        return Err(ApiError::invalid_request("attributeValue needs attributeName"));
    }
    let page = call.page("maxResults", "nextToken")?;
    let found = services.registry.list_things(&filter, page.request()).await?;
    let things = found.items.iter().map(|thing| ThingAttribute::new(thing, &services.registry));
    Answer::members(&Body {
        things: things.collect(),
        next_token: found.next.as_deref().map(encode_token),
    })
}

/// The label `thingName`.
pub(crate) fn thing_name(call: &Call<'_>) -> Result<ThingName, ApiError> {
    Ok(ThingName::parse(call.label("thingName"))?)
}

impl Members {
    fn type_name(&self) -> Result<Option<ThingTypeName>, ApiError> {
        Ok(self.thing_type_name.as_deref().map(ThingTypeName::parse).transpose()?)
    }

    /// The attributes, and whether they are to be merged into the present ones.
    fn attributes(self) -> Result<Option<(Attributes, bool)>, ApiError> {
        self.attribute_payload.map(AttributePayload::parse).transpose()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ThingAttribute<'a> {
    thing_name: &'a str,
    thing_arn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thing_type_name: Option<&'a str>,
    attributes: &'a BTreeMap<String, String>,
    version: u64,
}

impl<'a> ThingAttribute<'a> {
    fn new(thing: &'a Thing, registry: &Registry) -> Self {
        Self {
            thing_name: thing.name.as_str(),
            thing_arn: registry.thing_arn(&thing.name),
            thing_type_name: thing.type_name.as_ref().map(ThingTypeName::as_str),
            attributes: thing.attributes.values(),
            version: thing.version,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use http::StatusCode;
    use serde_json::json;

    #[tokio::test]
    async fn a_thing_is_made_described_changed_and_removed() {
        let host = TestHost::new().await;
        let payload = r#"{"attributePayload": {"attributes": {"site": "hall-2"}}}"#;
        let made = host.iot("POST", "/things/Lamp", payload).await;
        let id = made["thingId"].clone();
        assert_eq!(
            made,
            json!({
                "thingName": "Lamp",
                "thingArn": "arn:aws:iot:us-east-1:123456789012:thing/Lamp",
                "thingId": id,
            })
        );
        assert_eq!(host.iot("POST", "/things/Lamp", payload).await["thingId"], id);
        host.iot(
            "PATCH",
            "/things/Lamp",
            r#"{"expectedVersion": 1,
                "attributePayload": {"merge": true, "attributes": {"floor": "1"}}}"#,
        )
        .await;
        assert_eq!(
            host.iot("GET", "/things/Lamp", "").await,
            json!({
                "defaultClientId": "Lamp",
                "thingName": "Lamp",
                "thingId": id,
                "thingArn": "arn:aws:iot:us-east-1:123456789012:thing/Lamp",
                "attributes": {"floor": "1", "site": "hall-2"},
                "version": 2,
            })
        );
        host.iot("DELETE", "/things/Lamp?expectedVersion=2", "").await;
        host.iot("DELETE", "/things/Lamp", "").await;
        let gone = host.call("iot", "GET", "/things/Lamp", "").await;
        assert_eq!(gone.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_thing_is_said() {
        let host = TestHost::new().await;
        host.iot("POST", "/things/Lamp", "").await;
        let other = r#"{"attributePayload": {"attributes": {"a": "b"}}}"#;
        let cases = [
            ("POST", "/things/La%20mp", "", "InvalidRequestException", "thing name"),
            ("POST", "/things/Lamp", other, "ResourceAlreadyExistsException", "another"),
            (
                "POST",
                "/things/New",
                r#"{"attributePayload": {"attributes": {"a": 1}}}"#,
                "InvalidRequestException",
                "attributePayload.attributes.a: invalid type: integer `1`, expected a string",
            ),
            (
                "POST",
                "/things/New",
                r#"{"thingTypeName": "T"}"#,
                "ResourceNotFoundException",
                "thing type T does not exist",
            ),
            (
                "PATCH",
                "/things/Lamp",
                r#"{"expectedVersion": 7}"#,
                "VersionConflictException",
                "has version 1, expected was 7",
            ),
            ("PATCH", "/things/None", "{}", "ResourceNotFoundException", "thing None"),
            (
                "DELETE",
                "/things/Lamp?expectedVersion=x",
                "",
                "InvalidRequestException",
                "expectedVersion",
            ),
            ("GET", "/things?attributeValue=x", "", "InvalidRequestException", "attributeName"),
        ];
        for (method, target, body, exception, says) in cases {
            host.check_refused(method, target, body, exception, says).await;
        }
        let refused = host.call("iot", "POST", "/things/Lamp", other).await;
        assert_eq!(
            TestHost::json(&refused)["resourceArn"],
            "arn:aws:iot:us-east-1:123456789012:thing/Lamp"
        );
    }

    #[tokio::test]
    async fn things_are_listed_page_by_page_and_filtered() {
        let host = TestHost::new().await;
        for number in 0..5 {
            let colour = if number % 2 == 0 { "red" } else { "green" };
            let body = json!({"attributePayload": {"attributes": {"colour": colour}}}).to_string();
            host.iot("POST", &format!("/things/t{number}"), &body).await;
        }
        let names = |page: &serde_json::Value| -> Vec<String> {
            let things = page["things"].as_array().unwrap();
            things.iter().map(|thing| thing["thingName"].as_str().unwrap().to_owned()).collect()
        };
        let red = "/things?attributeName=colour&attributeValue=red";
        let first = host.iot("GET", &format!("{red}&maxResults=2"), "").await;
        assert_eq!(names(&first), ["t0", "t2"]);
        let token = first["nextToken"].as_str().unwrap();
        let second = host.iot("GET", &format!("{red}&maxResults=2&nextToken={token}"), "").await;
        assert_eq!(names(&second), ["t4"]);
        assert_eq!(second.get("nextToken"), None);
        let prefix = "/things?attributeName=colour&attributeValue=gr&usePrefixAttributeValue=true";
        assert_eq!(names(&host.iot("GET", prefix, "").await), ["t1", "t3"]);
    }

    #[tokio::test]
    async fn names_that_differ_by_case_are_names_of_two() {
        let host = TestHost::new().await;
        for name in ["Lamp", "lamp", "LAMP"] {
            host.iot("POST", &format!("/things/{name}"), "").await;
        }
        host.iot("DELETE", "/things/lamp", "").await;
        let answer = host.iot("GET", "/things", "").await;
        let names: Vec<_> =
            answer["things"].as_array().unwrap().iter().map(|it| &it["thingName"]).collect();
        assert_eq!(names, ["LAMP", "Lamp"]);
    }
}
