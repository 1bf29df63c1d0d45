//! Tags of things' types and groups, billing groups, policies, role aliases, rules, authorizers, CA
//! certificates, provisioning templates and domain configurations.

use crate::Services;
use crate::call::{Answer, Call};
use crate::error::ApiError;
use crate::router::{Handlers, handlers};
use crate::sigv4;
use gnomon_core::ids::{
    AuthorizerName, BillingGroupName, CertificateId, DomainConfigurationName, PolicyName,
    RoleAliasName, RuleName, TemplateName, ThingGroupName, ThingTypeName,
};
use gnomon_core::registry::Tags;
use serde::{Deserialize, Serialize};

pub(crate) const HANDLERS: Handlers = handlers! {
    TagResource => tag;
    UntagResource => untag;
    ListTagsForResource => list;
};

/// A tag as clients write it.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TagBody {
    key: String,
    #[serde(default)]
    value: String,
}

/// The tags of a request's member `tags`.
pub(crate) fn parse(tags: Vec<TagBody>) -> Result<Tags, ApiError> {
    Ok(Tags::parse(tags.into_iter().map(|tag| (tag.key, tag.value)))?)
}

/// The tags of the header `x-amz-tagging`: `key=value&key2=value2`, percent-encoded.
pub(crate) fn of_header(call: &Call<'_>) -> Result<Tags, ApiError> {
    let header = call.header("x-amz-tagging")?.unwrap_or_default();
    Ok(Tags::parse(sigv4::decode_query(header))?)
}

async fn tag(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        resource_arn: String,
        tags: Vec<TagBody>,
    }
    let Members { resource_arn, tags } = call.members()?;
    let tags = parse(tags)?;
    let resource = existing(services, &resource_arn).await?;
    services.registry.tag(resource, &tags).await?;
    Ok(Answer::empty())
}

async fn untag(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        resource_arn: String,
        tag_keys: Vec<String>,
    }
    let Members { resource_arn, tag_keys } = call.members()?;
    let resource = existing(services, &resource_arn).await?;
    services.registry.untag(resource, &tag_keys).await?;
    Ok(Answer::empty())
}

async fn list(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    struct Body {
        tags: Vec<TagBody>,
    }
    let arn = call.query("resourceArn")?;
    let arn = arn.ok_or_else(|| ApiError::invalid_request("give resourceArn in the query"))?;
    let tags = services.registry.tags(existing(services, arn).await?).await?;
    let tag = |(key, value): (&String, &String)| TagBody { key: key.clone(), value: value.clone() };
    // At most fifty: one page.
    Answer::members(&Body { tags: tags.values().iter().map(tag).collect() })
}

/// The part of an ARN behind the account, when there is such a resource and it can have tags.
async fn existing<'a>(services: &Services, arn: &'a str) -> Result<&'a str, ApiError> {
    let resource = services.account.resource(arn);
    let Some((resource, (kind, name))) = resource.and_then(|it| Some((it, it.split_once('/')?)))
    else {
        let prefix = services.account.arn("<kind>/<name>");
        let message = format!("resourceArn {arn:.160} must read {prefix}");
        return Err(ApiError::invalid_request(message));
    };
    let registry = &services.registry;
    match kind {
        "thingtype" => drop(registry.describe_thing_type(&ThingTypeName::parse(name)?).await?),
        "thinggroup" => drop(registry.describe_thing_group(&ThingGroupName::parse(name)?).await?),
        "billinggroup" => {
            drop(registry.describe_billing_group(&BillingGroupName::parse(name)?).await?);
        }
        "cacert" => drop(registry.describe_ca_certificate(&CertificateId::parse(name)?).await?),
        "provisioningtemplate" => {
            drop(registry.provisioning_template(&TemplateName::parse(name)?).await?);
        }
        "policy" => drop(registry.get_policy(&PolicyName::parse(name)?).await?),
        "authorizer" => drop(registry.describe_authorizer(&AuthorizerName::parse(name)?).await?),
        "domainconfiguration" => {
            let name = DomainConfigurationName::parse(name)?;
            drop(registry.describe_domain_configuration(&name).await?);
        }
        "rolealias" => drop(registry.describe_role_alias(&RoleAliasName::parse(name)?).await?),
        "rule" => {
            let found = services.rules.get(&RuleName::parse(name)?);
            found.map_err(|error| ApiError::not_found(error.to_string()))?;
        }
        other => {
            return Err(ApiError::not_found(format!(
                "a {other:.40} has no tags on this host; thingtype, thinggroup, billinggroup, policy, \
                 rolealias, rule, authorizer, cacert, provisioningtemplate and domainconfiguration have"
            )));
        }
    }
    Ok(resource)
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use serde_json::{Value, json};

    fn arn(resource: &str) -> String {
        format!("arn:aws:iot:us-east-1:123456789012:{resource}")
    }

    async fn tags(host: &TestHost, resource: &str) -> Value {
        let arn = arn(resource).replace(':', "%3A").replace('/', "%2F");
        host.iot("GET", &format!("/tags?resourceArn={arn}"), "").await["tags"].clone()
    }

    /// One resource of each kind, made with the tag `site` = `hall 2`.
    async fn host() -> TestHost {
        let host = TestHost::new().await;
        let tags = json!([{"Key": "site", "Value": "hall 2"}]);
        let tagged = json!({"tags": tags}).to_string();
        host.iot("POST", "/thing-types/T", &tagged).await;
        host.iot("POST", "/thing-groups/G", &tagged).await;
        let document = r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}"#;
        let policy = json!({"policyDocument": document, "tags": tags}).to_string();
        host.iot("POST", "/policies/P", &policy).await;
        let rule = r#"{"sql": "SELECT * FROM 'a'", "actions": []}"#;
        let header = [("x-amz-tagging", "site=hall%202")];
        host.iot_body_with("POST", "/rules/R", rule, &header).await;
        host
    }

    #[tokio::test]
    async fn a_resource_has_tags_from_its_creation_to_its_end() {
        let host = host().await;
        for (resource, path) in [
            ("thingtype/T", "/thing-types/T"),
            ("thinggroup/G", "/thing-groups/G"),
            ("policy/P", "/policies/P"),
            ("rule/R", "/rules/R"),
        ] {
            let site = json!({"Key": "site", "Value": "hall 2"});
            assert_eq!(tags(&host, resource).await, json!([site]), "{resource}");
            let more = json!({"resourceArn": arn(resource), "tags":
                [{"Key": "é:/=+-@.", "Value": ""}, {"Key": "a", "Value": "b"}]});
            host.iot("POST", "/tags", &more.to_string()).await;
            let keys = json!({"resourceArn": arn(resource), "tagKeys": ["a", "none"]}).to_string();
            host.iot("POST", "/untag", &keys).await;
            let expected = json!([site, {"Key": "é:/=+-@.", "Value": ""}]);
            assert_eq!(tags(&host, resource).await, expected, "{resource}");
            if resource == "thingtype/T" {
                host.iot("POST", "/thing-types/T/deprecate", "").await;
            }
            host.iot("DELETE", path, "").await;
        }
        host.iot("POST", "/thing-types/T", "").await;
        assert_eq!(tags(&host, "thingtype/T").await, json!([]));
    }

    #[tokio::test]
    async fn what_is_no_tag_is_said() {
        let host = host().await;
        let tag = |resource: &str, key: &str, value: &str| {
            json!({"resourceArn": arn(resource), "tags": [{"Key": key, "Value": value}]})
                .to_string()
        };
        let twice = json!({"resourceArn": arn("policy/P"), "tags": [{"Key": "a"}, {"Key": "a"}]});
        let many: Vec<_> = (0..50).map(|n| json!({"Key": n.to_string()})).collect();
        let many = json!({"resourceArn": arn("policy/P"), "tags": many}).to_string();
        let invalid = "InvalidRequestException";
        for (body, exception, says) in [
            (tag("policy/P", "", "v"), invalid, "1 to 128"),
            (tag("policy/P", &"k".repeat(129), "v"), invalid, "1 to 128"),
            (tag("policy/P", "a\nb", "v"), invalid, "1 to 128"),
            (tag("policy/P", "AWS:x", "v"), invalid, "reserved"),
            (tag("policy/P", "k", &"v".repeat(257)), invalid, "at most 256"),
            (tag("policy/P", "k", "<"), invalid, "at most 256"),
            (twice.to_string(), invalid, "there twice"),
            (many, "LimitExceededException", "would have 51 tags"),
            (tag("policy/None", "k", "v"), "ResourceNotFoundException", "policy None"),
            (tag("rule/None", "k", "v"), "ResourceNotFoundException", "None"),
            (tag("thing/X", "k", "v"), "ResourceNotFoundException", "a thing has no tags"),
            (
                tag("policy", "k", "v"),
                invalid,
                "must read arn:aws:iot:us-east-1:123456789012:<kind>",
            ),
            (r#"{"resourceArn": "x", "tags": []}"#.to_owned(), invalid, "must read"),
            ("{}".to_owned(), invalid, "resourceArn"),
        ] {
            host.check_refused("POST", "/tags", &body, exception, says).await;
        }
        host.check_refused("GET", "/tags", "", invalid, "resourceArn").await;
        let bad = r#"{"tags": [{"Key": "<"}]}"#;
        host.check_refused("POST", "/thing-types/New", bad, invalid, "its key").await;
        // Refused as a whole.
        let gone = "/thing-types/New";
        host.check_refused("GET", gone, "", "ResourceNotFoundException", "New").await;
    }
}
