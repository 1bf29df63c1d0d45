//! Billing groups: create, describe, update, delete, list; the things in them.

use crate::Services;
use crate::call::{Answer, Call, encode_token, epoch_seconds};
use crate::error::ApiError;
use crate::iot::tags::{self, TagBody};
use crate::iot::thing_groups::{named, things};
use crate::router::{Handlers, handlers};
use gnomon_core::ids::{BillingGroupName, ThingName};
use gnomon_core::registry::{BillingGroup, Registry};
use serde::{Deserialize, Serialize};

pub(crate) const HANDLERS: Handlers = handlers! {
    CreateBillingGroup => create;
    DescribeBillingGroup => describe;
    UpdateBillingGroup => update;
    DeleteBillingGroup => delete;
    ListBillingGroups => list;
    AddThingToBillingGroup => add_thing;
    RemoveThingFromBillingGroup => remove_thing;
    ListThingsInBillingGroup => list_things;
};

/// AWS: `BillingGroupProperties`.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_group_description: Option<String>,
}

async fn create(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        billing_group_properties: Option<Properties>,
        #[serde(default)]
        tags: Vec<TagBody>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        billing_group_name: &'a str,
        billing_group_arn: String,
        billing_group_id: &'a str,
    }
    let name = name(call)?;
    let Members { billing_group_properties, tags } = call.members()?;
    let tags = tags::parse(tags)?;
    let description = billing_group_properties.unwrap_or_default().billing_group_description;
    let made = services.registry.create_billing_group(&name, description).await?;
    services.registry.tag(&resource(&name), &tags).await?;
    Answer::members(&Body {
        billing_group_name: name.as_str(),
        billing_group_arn: services.registry.billing_group_arn(&name),
        billing_group_id: &made.id,
    })
}

async fn describe(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        billing_group_name: String,
        billing_group_id: String,
        billing_group_arn: String,
        version: u64,
        billing_group_properties: Properties,
        billing_group_metadata: Metadata,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        creation_date: f64,
    }
    let group = services.registry.describe_billing_group(&name(call)?).await?;
    let BillingGroup { name, id, description, version, created_at } = group;
    Answer::members(&Body {
        billing_group_arn: services.registry.billing_group_arn(&name),
        billing_group_name: name.to_string(),
        billing_group_id: id,
        version,
        billing_group_properties: Properties { billing_group_description: description },
        billing_group_metadata: Metadata { creation_date: epoch_seconds(created_at) },
    })
}

async fn update(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        billing_group_properties: Properties,
        expected_version: Option<u64>,
    }
    #[derive(Serialize)]
    struct Body {
        version: u64,
    }
    let Members { billing_group_properties, expected_version } = call.members()?;
    let description = billing_group_properties.billing_group_description;
    let registry = &services.registry;
    let group = registry.update_billing_group(&name(call)?, description, expected_version).await?;
    Answer::members(&Body { version: group.version })
}

async fn delete(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let (name, expected_version) = (name(call)?, call.query_as("expectedVersion")?);
    services.registry.delete_billing_group(&name, expected_version).await?;
    services.registry.forget_tags(&resource(&name)).await?;
    Ok(Answer::empty())
}

async fn list(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    /// AWS: `GroupNameAndArn`.
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Item {
        group_name: String,
        group_arn: String,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        billing_groups: Vec<Item>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let page = call.page("maxResults", "nextToken")?;
    let registry = &services.registry;
    let found =
        registry.list_billing_groups(call.query("namePrefixFilter")?, page.request()).await?;
    let item = |group: &BillingGroup| Item {
        group_name: group.name.to_string(),
        group_arn: registry.billing_group_arn(&group.name),
    };
    Answer::members(&Body {
        billing_groups: found.items.iter().map(item).collect(),
        next_token: found.next.as_deref().map(encode_token),
    })
}

/// A thing and a group, each by its name or its ARN.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Membership {
    thing_name: Option<String>,
    thing_arn: Option<String>,
    billing_group_name: Option<String>,
    billing_group_arn: Option<String>,
}

impl Membership {
    fn parse(&self, registry: &Registry) -> Result<(ThingName, BillingGroupName), ApiError> {
        let prefix = |kind: &str| registry.account().arn(&format!("{kind}/"));
        let thing = named("thing", &self.thing_name, &self.thing_arn, &prefix("thing"))?;
        let group = named(
            "billingGroup",
            &self.billing_group_name,
            &self.billing_group_arn,
            &prefix("billinggroup"),
        )?;
        Ok((ThingName::parse(thing)?, BillingGroupName::parse(group)?))
    }
}

async fn add_thing(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let (thing, group) = call.members::<Membership>()?.parse(&services.registry)?;
    services.registry.add_thing_to_billing_group(&thing, &group).await?;
    Ok(Answer::empty())
}

async fn remove_thing(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let (thing, group) = call.members::<Membership>()?.parse(&services.registry)?;
    services.registry.remove_thing_from_billing_group(&thing, &group).await?;
    Ok(Answer::empty())
}

async fn list_things(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let page = call.page("maxResults", "nextToken")?;
    let registry = &services.registry;
    let found = registry.list_things_in_billing_group(&name(call)?, page.request()).await?;
    things(&found)
}

fn name(call: &Call<'_>) -> Result<BillingGroupName, ApiError> {
    Ok(BillingGroupName::parse(call.label("billingGroupName"))?)
}

/// As tags call it.
fn resource(name: &BillingGroupName) -> String {
    format!("billinggroup/{name}")
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use serde_json::json;

    const ARN: &str = "arn:aws:iot:us-east-1:123456789012:billinggroup/dept";

    #[tokio::test]
    async fn a_billing_group_lives_from_create_to_delete() {
        let host = TestHost::new().await;
        let body = r#"{"billingGroupProperties": {"billingGroupDescription": "ours"},
            "tags": [{"Key": "k", "Value": "v"}]}"#;
        let made = host.iot("POST", "/billing-groups/dept", body).await;
        let id = made["billingGroupId"].clone();
        let expected =
            json!({"billingGroupName": "dept", "billingGroupArn": ARN, "billingGroupId": id});
        assert_eq!(made, expected);
        assert_eq!(host.iot("POST", "/billing-groups/dept", body).await, expected);
        let update = r#"{"billingGroupProperties": {}, "expectedVersion": 1}"#;
        let updated = host.iot("PATCH", "/billing-groups/dept", update).await;
        assert_eq!(updated, json!({"version": 2}));
        assert_eq!(
            host.iot("GET", "/billing-groups/dept", "").await,
            json!({
                "billingGroupName": "dept",
                "billingGroupId": id,
                "billingGroupArn": ARN,
                "version": 2,
                "billingGroupProperties": {},
                "billingGroupMetadata": {"creationDate": 1_795_435_200.5},
            })
        );
        let tags = host.iot("GET", &format!("/tags?resourceArn={ARN}"), "").await;
        assert_eq!(tags, json!({"tags": [{"Key": "k", "Value": "v"}]}));
        let listed = json!({"billingGroups": [{"groupName": "dept", "groupArn": ARN}]});
        assert_eq!(host.iot("GET", "/billing-groups?namePrefixFilter=de", "").await, listed);
        let none = host.iot("GET", "/billing-groups?namePrefixFilter=x", "").await;
        assert_eq!(none, json!({"billingGroups": []}));
        for _ in 0..2 {
            host.iot("DELETE", "/billing-groups/dept", "").await;
        }
        assert_eq!(host.iot("GET", "/billing-groups", "").await, json!({"billingGroups": []}));
    }

    #[tokio::test]
    async fn a_thing_is_in_one_billing_group_at_most() {
        let host = TestHost::new().await;
        for name in ["dept", "other"] {
            host.iot("POST", &format!("/billing-groups/{name}"), "").await;
        }
        host.iot("POST", "/things/A", r#"{"billingGroupName": "dept"}"#).await;
        host.iot("POST", "/things/B", "").await;
        let add = json!({"thingName": "B", "billingGroupArn": ARN}).to_string();
        for _ in 0..2 {
            host.iot("PUT", "/billing-groups/addThingToBillingGroup", &add).await;
        }
        assert_eq!(host.iot("GET", "/things/B", "").await["billingGroupName"], "dept");
        let first = host.iot("GET", "/billing-groups/dept/things?maxResults=1", "").await;
        assert_eq!(first["things"], json!(["A"]));
        let token = first["nextToken"].as_str().unwrap();
        let behind = format!("/billing-groups/dept/things?nextToken={token}");
        assert_eq!(host.iot("GET", &behind, "").await, json!({"things": ["B"]}));
        let elsewhere = r#"{"thingName": "B", "billingGroupName": "other"}"#;
        let path = "/billing-groups/addThingToBillingGroup";
        let (invalid, missing) = ("InvalidRequestException", "ResourceNotFoundException");
        host.check_refused("PUT", path, elsewhere, invalid, "is in billing group dept").await;
        let remove = r#"{"thingName": "B", "billingGroupName": "dept"}"#;
        host.iot("PUT", "/billing-groups/removeThingFromBillingGroup", remove).await;
        assert_eq!(host.iot("GET", "/things/B", "").await.get("billingGroupName"), None);
        host.iot("DELETE", "/billing-groups/dept", "").await;
        assert_eq!(host.iot("GET", "/things/A", "").await.get("billingGroupName"), None);
        let update = r#"{"billingGroupProperties": {}, "expectedVersion": 9}"#;
        for (method, target, body, exception, says) in [
            ("POST", "/things/C", r#"{"billingGroupName": "none"}"#, missing, "billing group none"),
            ("PATCH", "/billing-groups/other", update, "VersionConflictException", "version 1"),
            ("GET", "/billing-groups/none", "", missing, "billing group none"),
            ("GET", "/billing-groups/none/things", "", missing, "none"),
            ("PUT", path, r#"{"thingName": "none", "billingGroupName": "other"}"#, missing, "none"),
            ("PUT", path, r#"{"thingName": "A"}"#, invalid, "give billingGroupName"),
            ("POST", "/billing-groups/a%20b", "", invalid, "billing group name"),
        ] {
            host.check_refused(method, target, body, exception, says).await;
        }
        // Refused as a whole.
        host.check_refused("GET", "/things/C", "", missing, "thing C").await;
    }
}
