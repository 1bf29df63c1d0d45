//! Role aliases: create, describe, update, delete, list.

use crate::Services;
use crate::call::{Answer, Call, encode_token, epoch_seconds};
use crate::error::ApiError;
use crate::iot::tags::{self, TagBody};
use crate::router::{Handlers, handlers};
use gnomon_core::ids::RoleAliasName;
use gnomon_core::registry::CREDENTIAL_DURATION_S;
use serde::{Deserialize, Serialize};

pub(crate) const HANDLERS: Handlers = handlers! {
    CreateRoleAlias => create;
    DescribeRoleAlias => describe;
    UpdateRoleAlias => update;
    DeleteRoleAlias => delete;
    ListRoleAliases => list;
};

async fn create(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        role_arn: String,
        credential_duration_seconds: Option<u32>,
        #[serde(default)]
        tags: Vec<TagBody>,
    }
    let name = name(call)?;
    let Members { role_arn, credential_duration_seconds, tags } = call.members()?;
    let tags = tags::parse(tags)?;
    let duration = credential_duration_seconds.unwrap_or(CREDENTIAL_DURATION_S);
    services.registry.create_role_alias(&name, &role_arn, duration).await?;
    services.registry.tag(&resource(&name), &tags).await?;
    named(services, &name)
}

async fn describe(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        role_alias_description: Description<'a>,
    }
    /// AWS: `RoleAliasDescription`.
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Description<'a> {
        role_alias: &'a str,
        role_alias_arn: String,
        role_arn: &'a str,
        owner: &'a str,
        credential_duration_seconds: u32,
        creation_date: f64,
        last_modified_date: f64,
    }
    let alias = services.registry.describe_role_alias(&name(call)?).await?;
    let description = Description {
        role_alias: alias.name.as_str(),
        role_alias_arn: services.registry.role_alias_arn(&alias.name),
        role_arn: &alias.role_arn,
        owner: &services.account.id,
        credential_duration_seconds: alias.credential_duration_s,
        creation_date: epoch_seconds(alias.created_at),
        last_modified_date: epoch_seconds(alias.modified_at),
    };
    Answer::members(&Body { role_alias_description: description })
}

async fn update(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        role_arn: Option<String>,
        credential_duration_seconds: Option<u32>,
    }
    let name = name(call)?;
    let Members { role_arn, credential_duration_seconds } = call.members()?;
    let registry = &services.registry;
    registry.update_role_alias(&name, role_arn.as_deref(), credential_duration_seconds).await?;
    named(services, &name)
}

async fn delete(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let name = name(call)?;
    services.registry.delete_role_alias(&name).await?;
    services.registry.forget_tags(&resource(&name)).await?;
    Ok(Answer::empty())
}

async fn list(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        role_aliases: Vec<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_marker: Option<String>,
    }
    let page = call.page("pageSize", "marker")?;
    let found = services.registry.list_role_aliases(page.request()).await?;
    Answer::members(&Body {
        role_aliases: found.items.iter().map(|alias| alias.name.as_str()).collect(),
        next_marker: found.next.as_deref().map(encode_token),
    })
}

/// Name and ARN.
fn named(services: &Services, name: &RoleAliasName) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        role_alias: &'a str,
        role_alias_arn: String,
    }
    Answer::members(&Body {
        role_alias: name.as_str(),
        role_alias_arn: services.registry.role_alias_arn(name),
    })
}

fn name(call: &Call<'_>) -> Result<RoleAliasName, ApiError> {
    Ok(RoleAliasName::parse(call.label("roleAlias"))?)
}

/// As tags call it.
fn resource(name: &RoleAliasName) -> String {
    format!("rolealias/{name}")
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use serde_json::json;
    use std::time::Duration;

    const ARN: &str = "arn:aws:iot:us-east-1:123456789012:rolealias/gate";
    const ROLE: &str = "arn:aws:iam::123456789012:role/devices/gate";

    #[tokio::test]
    async fn a_role_alias_lives_from_create_to_delete() {
        let host = TestHost::new().await;
        let body = json!({"roleArn": ROLE, "tags": [{"Key": "k", "Value": "v"}]}).to_string();
        let named = json!({"roleAlias": "gate", "roleAliasArn": ARN});
        assert_eq!(host.iot("POST", "/role-aliases/gate", &body).await, named);
        let mut description = json!({
            "roleAlias": "gate",
            "roleAliasArn": ARN,
            "roleArn": ROLE,
            "owner": "123456789012",
            "credentialDurationSeconds": 3_600,
            "creationDate": 1_795_435_200.5,
            "lastModifiedDate": 1_795_435_200.5,
        });
        let described = host.iot("GET", "/role-aliases/gate", "").await;
        assert_eq!(described, json!({"roleAliasDescription": description}));
        let tags = host.iot("GET", &format!("/tags?resourceArn={ARN}"), "").await;
        assert_eq!(tags, json!({"tags": [{"Key": "k", "Value": "v"}]}));
        host.clock.advance(Duration::from_secs(60));
        let other = "arn:aws-cn:iam::123456789012:role/other";
        for (update, member, value) in [
            (
                r#"{"credentialDurationSeconds": 900}"#.to_owned(),
                "credentialDurationSeconds",
                json!(900),
            ),
            (json!({"roleArn": other}).to_string(), "roleArn", json!(other)),
            (
                json!({"credentialDurationSeconds": 43_200}).to_string(),
                "credentialDurationSeconds",
                json!(43_200),
            ),
        ] {
            assert_eq!(host.iot("PUT", "/role-aliases/gate", &update).await, named);
            description[member] = value;
            description["lastModifiedDate"] = json!(1_795_435_260.5);
            let described = host.iot("GET", "/role-aliases/gate", "").await;
            assert_eq!(described, json!({"roleAliasDescription": description}));
        }
        host.iot("DELETE", "/role-aliases/gate", "").await;
        let missing = "ResourceNotFoundException";
        for method in ["GET", "PUT", "DELETE"] {
            host.check_refused(method, "/role-aliases/gate", "", missing, "role alias gate").await;
        }
        host.iot("POST", "/role-aliases/gate", &json!({"roleArn": ROLE}).to_string()).await;
        let tags = host.iot("GET", &format!("/tags?resourceArn={ARN}"), "").await;
        assert_eq!(tags, json!({"tags": []}), "the tags went with the first");
    }

    #[tokio::test]
    async fn role_aliases_are_listed_in_pages() {
        let host = TestHost::new().await;
        assert_eq!(host.iot("GET", "/role-aliases", "").await, json!({"roleAliases": []}));
        for name in ["c", "a=,@-_1", "b"] {
            let path = format!("/role-aliases/{}", name.replace(',', "%2C").replace('@', "%40"));
            host.iot("POST", &path, &json!({"roleArn": ROLE}).to_string()).await;
        }
        let first = host.iot("GET", "/role-aliases?pageSize=2", "").await;
        assert_eq!(first["roleAliases"], json!(["a=,@-_1", "b"]));
        let marker = first["nextMarker"].as_str().unwrap();
        let behind = format!("/role-aliases?pageSize=2&marker={marker}");
        assert_eq!(host.iot("GET", &behind, "").await, json!({"roleAliases": ["c"]}));
    }

    #[tokio::test]
    async fn what_is_no_role_alias_is_said() {
        let host = TestHost::new().await;
        host.iot("POST", "/role-aliases/gate", &json!({"roleArn": ROLE}).to_string()).await;
        let (new, gate) = ("/role-aliases/new", "/role-aliases/gate");
        let long = format!("/role-aliases/{}", "x".repeat(129));
        let role = |arn: &str| json!({"roleArn": arn}).to_string();
        let lasting = |seconds: i64| {
            json!({"roleArn": ROLE, "credentialDurationSeconds": seconds}).to_string()
        };
        let no_tag = json!({"roleArn": ROLE, "tags": [{"Key": "<"}]}).to_string();
        let invalid = "InvalidRequestException";
        for (method, target, body, exception, says) in [
            ("POST", gate, role(ROLE), "ResourceAlreadyExistsException", "role alias gate exists"),
            (
                "POST",
                "/role-aliases/a.b",
                role(ROLE),
                invalid,
                "role alias has a character at byte 1",
            ),
            ("POST", &long, role(ROLE), invalid, "role alias has 129 bytes"),
            ("POST", new, "{}".to_owned(), invalid, "roleArn"),
            ("POST", new, role("arn:aws:iam::1:role"), invalid, "roleArn has 19 bytes"),
            ("POST", new, role(&format!("{ROLE}{}", "x".repeat(2_048))), invalid, "20 to 2048"),
            ("POST", new, role("aws:arn:iam::123456789012:role/x"), invalid, "roleArn is no ARN"),
            ("POST", new, role("arn:aws:iam::123456789012"), invalid, "roleArn is no ARN"),
            ("POST", new, role("arn::iam::123456789012:role/x"), invalid, "roleArn is no ARN"),
            ("POST", new, role("arn:aws:iam::123456789012:ro le/x"), invalid, "roleArn is no ARN"),
            ("POST", new, lasting(899), invalid, "credentialDurationSeconds is 899; 900 to 43200"),
            ("POST", new, lasting(43_201), invalid, "credentialDurationSeconds is 43201"),
            ("POST", new, lasting(-1), invalid, "credentialDurationSeconds"),
            ("POST", new, no_tag, invalid, "its key"),
            ("PUT", gate, role("nothing of an ARN at all"), invalid, "roleArn is no ARN"),
            ("PUT", gate, lasting(1), invalid, "credentialDurationSeconds is 1;"),
            ("GET", "/role-aliases?pageSize=0", String::new(), invalid, "pageSize"),
            ("GET", "/role-aliases?marker=*", String::new(), invalid, "token"),
        ] {
            host.check_refused(method, target, &body, exception, says).await;
        }
        // Nothing of what was refused is there.
        assert_eq!(host.iot("GET", "/role-aliases", "").await, json!({"roleAliases": ["gate"]}));
    }
}
