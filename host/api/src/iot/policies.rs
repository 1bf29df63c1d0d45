//! Policies, their versions, and what they are attached to.

use crate::Services;
use crate::call::{Answer, Call, Page, encode_token, epoch_seconds};
use crate::error::ApiError;
use crate::iot::tags::{self, TagBody};
use crate::router::{Handlers, handlers};
use gnomon_core::ids::{CertificateId, PolicyName, ThingGroupName, ThingName};
use gnomon_core::registry::{self, PolicyDefinition, PolicyTarget, PolicyVersion, Registry};
use serde::{Deserialize, Serialize};

pub(crate) const HANDLERS: Handlers = handlers! {
    CreatePolicy => create_policy;
    GetPolicy => get_policy;
    DeletePolicy => delete_policy;
    ListPolicies => list_policies;
    CreatePolicyVersion => create_policy_version;
    GetPolicyVersion => get_policy_version;
    ListPolicyVersions => list_policy_versions;
    SetDefaultPolicyVersion => set_default_policy_version;
    DeletePolicyVersion => delete_policy_version;
    AttachPolicy => attach_policy;
    DetachPolicy => detach_policy;
    ListAttachedPolicies => list_attached_policies;
    ListTargetsForPolicy => list_targets_for_policy;
    GetEffectivePolicies => get_effective_policies;
    AttachPrincipalPolicy => attach_principal_policy;
    DetachPrincipalPolicy => detach_principal_policy;
    ListPrincipalPolicies => list_principal_policies;
    ListPolicyPrincipals => list_policy_principals;
};

/// The header that names the principal in the deprecated operations.
const PRINCIPAL_HEADER: &str = "x-amzn-iot-principal";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DocumentMembers {
    policy_document: String,
    /// Of CreatePolicy.
    #[serde(default)]
    tags: Vec<TagBody>,
}

/// A policy in a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyBody {
    policy_name: String,
    policy_arn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_document: Option<String>,
}

impl PolicyBody {
    fn new(name: &PolicyName, registry: &Registry) -> Self {
        let policy_arn = registry.policy_arn(name);
        Self { policy_name: name.as_str().to_owned(), policy_arn, policy_document: None }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PoliciesBody {
    policies: Vec<PolicyBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<String>,
}

async fn create_policy(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        #[serde(flatten)]
        policy: PolicyBody,
        policy_version_id: String,
    }
    let name = policy_name(call)?;
    let DocumentMembers { policy_document, tags } = call.members()?;
    let tags = tags::parse(tags)?;
    let made = services.registry.create_policy(&name, &policy_document).await?;
    services.registry.tag(&resource(&name), &tags).await?;
    let policy = PolicyBody {
        policy_document: Some(policy_document),
        ..PolicyBody::new(&name, &services.registry)
    };
    Answer::members(&Body { policy, policy_version_id: made.default_version.to_string() })
}

async fn get_policy(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        #[serde(flatten)]
        policy: PolicyBody,
        default_version_id: String,
        creation_date: f64,
        last_modified_date: f64,
        generation_id: &'a str,
    }
    let name = policy_name(call)?;
    let found = services.registry.get_policy(&name).await?;
    let policy = PolicyBody {
        policy_document: Some(found.default().document.to_string()),
        ..PolicyBody::new(&name, &services.registry)
    };
    Answer::members(&Body {
        policy,
        default_version_id: found.default_version.to_string(),
        creation_date: epoch_seconds(found.created_at),
        last_modified_date: epoch_seconds(found.modified_at),
        generation_id: &found.generation_id,
    })
}

async fn delete_policy(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let name = policy_name(call)?;
    services.registry.delete_policy(&name).await?;
    services.registry.forget_tags(&resource(&name)).await?;
    Ok(Answer::empty())
}

async fn list_policies(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let page = call.page("pageSize", "marker")?;
    let found = services.registry.list_policies(page.request()).await?;
    let policy = |policy: &PolicyDefinition| PolicyBody::new(&policy.name, &services.registry);
    Answer::members(&PoliciesBody {
        policies: found.items.iter().map(policy).collect(),
        next_marker: found.next.as_deref().map(encode_token),
    })
}

async fn create_policy_version(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        policy_arn: String,
        policy_document: String,
        policy_version_id: String,
        is_default_version: bool,
    }
    let name = policy_name(call)?;
    let DocumentMembers { policy_document, .. } = call.members()?;
    let set_as_default = call.query_as("setAsDefault")?.unwrap_or(false);
    let registry = &services.registry;
    let (policy, id) =
        registry.create_policy_version(&name, &policy_document, set_as_default).await?;
    Answer::members(&Body {
        policy_arn: registry.policy_arn(&name),
        policy_document,
        policy_version_id: id.to_string(),
        is_default_version: policy.default_version == id,
    })
}

async fn get_policy_version(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        #[serde(flatten)]
        policy: PolicyBody,
        policy_version_id: String,
        is_default_version: bool,
        creation_date: f64,
        last_modified_date: f64,
        generation_id: &'a str,
    }
    let (name, id) = (policy_name(call)?, version_id(call)?);
    let found = services.registry.get_policy(&name).await?;
    let version = found.version(id)?;
    let policy = PolicyBody {
        policy_document: Some(version.document.to_string()),
        ..PolicyBody::new(&name, &services.registry)
    };
    Answer::members(&Body {
        policy,
        policy_version_id: id.to_string(),
        is_default_version: found.default_version == id,
        // A version never changes.
        creation_date: epoch_seconds(version.created_at),
        last_modified_date: epoch_seconds(version.created_at),
        generation_id: &found.generation_id,
    })
}

async fn list_policy_versions(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        version_id: String,
        is_default_version: bool,
        create_date: f64,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        policy_versions: Vec<Version>,
    }
    let found = services.registry.get_policy(&policy_name(call)?).await?;
    let version = |(id, version): (&u32, &PolicyVersion)| Version {
        version_id: id.to_string(),
        is_default_version: *id == found.default_version,
        create_date: epoch_seconds(version.created_at),
    };
    Answer::members(&Body { policy_versions: found.versions.iter().map(version).collect() })
}

async fn set_default_policy_version(
    services: &Services,
    call: &Call<'_>,
) -> Result<Answer, ApiError> {
    let (name, id) = (policy_name(call)?, version_id(call)?);
    services.registry.set_default_policy_version(&name, id).await?;
    Ok(Answer::empty())
}

async fn delete_policy_version(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let (name, id) = (policy_name(call)?, version_id(call)?);
    services.registry.delete_policy_version(&name, id).await?;
    Ok(Answer::empty())
}

async fn attach_policy(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let policy = policy_name(call)?;
    match target_member(services, call)? {
        PolicyTarget::Certificate(id) => services.registry.attach_policy(&policy, &id).await?,
        PolicyTarget::Group(name) => {
            services.registry.attach_group_policy(&policy, &name).await?;
        }
    }
    Ok(Answer::empty())
}

async fn detach_policy(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let policy = policy_name(call)?;
    match target_member(services, call)? {
        PolicyTarget::Certificate(id) => services.registry.detach_policy(&policy, &id).await?,
        PolicyTarget::Group(name) => {
            services.registry.detach_group_policy(&policy, &name).await?;
        }
    }
    Ok(Answer::empty())
}

async fn list_attached_policies(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let page = call.page("pageSize", "marker")?;
    match target(services, call.label("target"))? {
        PolicyTarget::Certificate(id) => attached_policies(services, &id, &page).await,
        PolicyTarget::Group(name) => {
            let recursive = call.query_as("recursive")?.unwrap_or(false);
            let registry = &services.registry;
            let found = registry.list_group_policies(&name, recursive, page.request()).await?;
            policies_page(services, &found)
        }
    }
}

async fn list_targets_for_policy(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        targets: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_marker: Option<String>,
    }
    let (name, page) = (policy_name(call)?, call.page("pageSize", "marker")?);
    let registry = &services.registry;
    let found = registry.list_targets_for_policy(&name, page.request()).await?;
    let arn = |target: &PolicyTarget| match target {
        PolicyTarget::Certificate(id) => registry.certificate_arn(id),
        PolicyTarget::Group(name) => registry.thing_group_arn(name),
    };
    Answer::members(&Body {
        targets: found.items.iter().map(arn).collect(),
        next_marker: found.next.as_deref().map(encode_token),
    })
}

async fn get_effective_policies(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        principal: Option<String>,
        cognito_identity_pool_id: Option<String>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        effective_policies: Vec<PolicyBody>,
    }
    let Members { principal, cognito_identity_pool_id } = call.members()?;
    let registry = &services.registry;
    let thing = call.query("thingName")?.map(ThingName::parse).transpose()?;
    if cognito_identity_pool_id.is_some() || principal.is_none() && thing.is_none() {
        return Err(ApiError::invalid_request(
            "give principal, the ARN of a certificate, or thingName, or both; this host knows no Cognito \
             identities",
        ));
    }
    let principal = principal.as_deref().map(|arn| registry.parse_certificate_arn(arn));
    let principal = principal.transpose()?;
    let policies = registry.effective_policies(principal.as_ref(), thing.as_ref()).await?;
    let policy = |policy: &PolicyDefinition| PolicyBody {
        policy_document: Some(policy.default().document.to_string()),
        ..PolicyBody::new(&policy.name, registry)
    };
    Answer::members(&Body { effective_policies: policies.iter().map(policy).collect() })
}

async fn attach_principal_policy(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let principal = principal_header(services, call, PRINCIPAL_HEADER)?;
    services.registry.attach_policy(&policy_name(call)?, &principal).await?;
    Ok(Answer::empty())
}

async fn detach_principal_policy(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let principal = principal_header(services, call, PRINCIPAL_HEADER)?;
    services.registry.detach_policy(&policy_name(call)?, &principal).await?;
    Ok(Answer::empty())
}

async fn list_principal_policies(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let principal = principal_header(services, call, PRINCIPAL_HEADER)?;
    attached_policies(services, &principal, &call.page("pageSize", "marker")?).await
}

async fn list_policy_principals(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        principals: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_marker: Option<String>,
    }
    let name = PolicyName::parse(required_header(call, "x-amzn-iot-policy")?)?;
    let page = call.page("pageSize", "marker")?;
    let found = services.registry.list_policy_principals(&name, page.request()).await?;
    let (principals, next_marker) = arns(services, &found);
    Answer::members(&Body { principals, next_marker })
}

async fn attached_policies(
    services: &Services,
    target: &CertificateId,
    page: &Page,
) -> Result<Answer, ApiError> {
    let found = services.registry.list_attached_policies(target, page.request()).await?;
    policies_page(services, &found)
}

fn policies_page(
    services: &Services,
    found: &registry::Page<PolicyName>,
) -> Result<Answer, ApiError> {
    let policy = |name: &PolicyName| PolicyBody::new(name, &services.registry);
    Answer::members(&PoliciesBody {
        policies: found.items.iter().map(policy).collect(),
        next_marker: found.next.as_deref().map(encode_token),
    })
}

/// As tags call it.
fn resource(name: &PolicyName) -> String {
    format!("policy/{name}")
}

fn policy_name(call: &Call<'_>) -> Result<PolicyName, ApiError> {
    Ok(PolicyName::parse(call.label("policyName"))?)
}

fn version_id(call: &Call<'_>) -> Result<u32, ApiError> {
    let text = call.label("policyVersionId");
    text.parse().map_err(|_| {
        ApiError::invalid_request(format!("policyVersionId {text:?} is not a number from 1"))
    })
}

fn target_member(services: &Services, call: &Call<'_>) -> Result<PolicyTarget, ApiError> {
    #[derive(Deserialize)]
    struct Members {
        target: String,
    }
    let members: Members = call.members()?;
    target(services, &members.target)
}

/// The certificate or thing group of an ARN.
fn target(services: &Services, arn: &str) -> Result<PolicyTarget, ApiError> {
    let groups = services.account.arn("thinggroup/");
    Ok(match arn.strip_prefix(&groups) {
        Some(name) => PolicyTarget::Group(ThingGroupName::parse(name)?),
        None => PolicyTarget::Certificate(services.registry.parse_certificate_arn(arn)?),
    })
}

/// The certificate whose ARN is in a header.
pub(crate) fn principal_header(
    services: &Services,
    call: &Call<'_>,
    name: &str,
) -> Result<CertificateId, ApiError> {
    Ok(services.registry.parse_certificate_arn(required_header(call, name)?)?)
}

fn required_header<'a>(call: &'a Call<'_>, name: &str) -> Result<&'a str, ApiError> {
    let missing = || ApiError::invalid_request(format!("the header {name} is missing"));
    call.header(name)?.ok_or_else(missing)
}

/// A page of certificates as their ARNs, and the token behind it.
pub(crate) fn arns(
    services: &Services,
    found: &registry::Page<CertificateId>,
) -> (Vec<String>, Option<String>) {
    let arn = |id| services.registry.certificate_arn(id);
    (found.items.iter().map(arn).collect(), found.next.as_deref().map(encode_token))
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use serde_json::json;

    const DOCUMENT: &str = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}"#;

    fn body() -> String {
        json!({"policyDocument": DOCUMENT}).to_string()
    }

    #[tokio::test]
    async fn a_policy_is_made_versioned_and_removed() {
        let host = TestHost::new().await;
        let arn = "arn:aws:iot:us-east-1:123456789012:policy/SensorPolicy";
        assert_eq!(
            host.iot("POST", "/policies/SensorPolicy", &body()).await,
            json!({
                "policyName": "SensorPolicy",
                "policyArn": arn,
                "policyDocument": DOCUMENT,
                "policyVersionId": "1",
            })
        );
        let second = "/policies/SensorPolicy/version?setAsDefault=true";
        assert_eq!(
            host.iot("POST", second, &body()).await,
            json!({
                "policyArn": arn,
                "policyDocument": DOCUMENT,
                "policyVersionId": "2",
                "isDefaultVersion": true,
            })
        );
        let found = host.iot("GET", "/policies/SensorPolicy", "").await;
        assert_eq!(
            found,
            json!({
                "policyName": "SensorPolicy",
                "policyArn": arn,
                "policyDocument": DOCUMENT,
                "defaultVersionId": "2",
                "creationDate": 1_795_435_200.5,
                "lastModifiedDate": 1_795_435_200.5,
                "generationId": found["generationId"],
            })
        );
        host.iot("PATCH", "/policies/SensorPolicy/version/1", "").await;
        let version = |id: &str, default: bool| {
            json!({
                "versionId": id, "isDefaultVersion": default, "createDate": 1_795_435_200.5,
            })
        };
        assert_eq!(
            host.iot("GET", "/policies/SensorPolicy/version", "").await["policyVersions"],
            json!([version("1", true), version("2", false)])
        );
        let second = host.iot("GET", "/policies/SensorPolicy/version/2", "").await;
        assert_eq!(second["isDefaultVersion"], false);
        assert_eq!(second["policyDocument"], DOCUMENT);
        host.iot("DELETE", "/policies/SensorPolicy/version/2", "").await;
        let listed = host.iot("GET", "/policies", "").await;
        let item = json!({"policyName": "SensorPolicy", "policyArn": arn});
        assert_eq!(listed, json!({"policies": [item]}));
        host.iot("DELETE", "/policies/SensorPolicy", "").await;
        assert_eq!(host.iot("GET", "/policies", "").await, json!({"policies": []}));
    }

    #[tokio::test]
    async fn a_policy_is_attached_and_found_from_both_sides() {
        let host = TestHost::new().await;
        host.iot("POST", "/policies/P", &body()).await;
        let made = host.iot("POST", "/keys-and-certificate", "").await;
        let arn = made["certificateArn"].as_str().unwrap();
        let target = json!({"target": arn}).to_string();
        host.iot("PUT", "/target-policies/P", &target).await;
        let item = json!({
            "policyName": "P", "policyArn": "arn:aws:iot:us-east-1:123456789012:policy/P",
        });
        // Clients send the ARN percent-encoded.
        let label = arn.replace(':', "%3A").replace('/', "%2F");
        let attached = format!("/attached-policies/{label}");
        assert_eq!(host.iot("POST", &attached, "").await, json!({"policies": [item]}));
        let targets = host.iot("POST", "/policy-targets/P", "").await;
        assert_eq!(targets, json!({"targets": [arn]}));
        let principal = json!({"principal": arn}).to_string();
        let effective = host.iot("POST", "/effective-policies", &principal).await;
        assert_eq!(effective["effectivePolicies"][0]["policyDocument"], DOCUMENT);
        host.check_refused("DELETE", "/policies/P", "", "DeleteConflictException", "is attached")
            .await;
        host.iot("POST", "/target-policies/P", &target).await;
        assert_eq!(host.iot("POST", &attached, "").await, json!({"policies": []}));
    }

    #[tokio::test]
    async fn a_policy_of_a_group_holds_for_the_things_below() {
        let host = TestHost::new().await;
        for name in ["P", "Q"] {
            host.iot("POST", &format!("/policies/{name}"), &body()).await;
        }
        host.iot("POST", "/thing-groups/site", "").await;
        host.iot("POST", "/thing-groups/hall", r#"{"parentGroupName": "site"}"#).await;
        host.iot("POST", "/things/Lamp", "").await;
        let add = r#"{"thingName": "Lamp", "thingGroupName": "hall"}"#;
        host.iot("PUT", "/thing-groups/addThingToThingGroup", add).await;
        let made = host.iot("POST", "/keys-and-certificate", "").await;
        let certificate = made["certificateArn"].as_str().unwrap();
        let group = |name: &str| format!("arn:aws:iot:us-east-1:123456789012:thinggroup/{name}");
        let target = |arn: &str| json!({"target": arn}).to_string();
        for arn in [group("site").as_str(), group("hall").as_str(), certificate] {
            host.iot("PUT", "/target-policies/P", &target(arn)).await;
        }
        host.iot("PUT", "/target-policies/Q", &target(&group("site"))).await;
        let names = |answer: &serde_json::Value, member: &str| -> Vec<String> {
            let policies = answer[member].as_array().unwrap();
            policies.iter().map(|it| it["policyName"].as_str().unwrap().to_owned()).collect()
        };
        let hall =
            format!("/attached-policies/{}", group("hall").replace(':', "%3A").replace('/', "%2F"));
        assert_eq!(names(&host.iot("POST", &hall, "").await, "policies"), ["P"]);
        let recursive = host.iot("POST", &format!("{hall}?recursive=true"), "").await;
        assert_eq!(names(&recursive, "policies"), ["P", "Q"]);
        let effective = host.iot("POST", "/effective-policies?thingName=Lamp", "").await;
        assert_eq!(names(&effective, "effectivePolicies"), ["P", "Q"]);
        // Certificates first, then groups, page by page.
        let mut found = Vec::new();
        let mut next = "/policy-targets/P?pageSize=1".to_owned();
        loop {
            let page = host.iot("POST", &next, "").await;
            found.extend(page["targets"].as_array().unwrap().clone());
            let Some(token) = page["nextMarker"].as_str() else { break };
            next = format!("/policy-targets/P?pageSize=1&marker={token}");
        }
        assert_eq!(json!(found), json!([certificate, group("hall"), group("site")]));
        host.check_refused("DELETE", "/policies/Q", "", "DeleteConflictException", "group site")
            .await;
        for _ in 0..2 {
            host.iot("POST", "/target-policies/Q", &target(&group("site"))).await;
        }
        host.iot("DELETE", "/policies/Q", "").await;
    }

    #[tokio::test]
    async fn the_deprecated_operations_name_principals_in_headers() {
        let host = TestHost::new().await;
        host.iot("POST", "/policies/P", &body()).await;
        let made = host.iot("POST", "/keys-and-certificate", "").await;
        let arn = made["certificateArn"].as_str().unwrap();
        let principal = [("x-amzn-iot-principal", arn)];
        host.iot_with("PUT", "/principal-policies/P", &principal).await;
        let listed = host.iot_with("GET", "/principal-policies", &principal).await;
        assert_eq!(listed["policies"][0]["policyName"], "P");
        let policy = [("x-amzn-iot-policy", "P")];
        let listed = host.iot_with("GET", "/policy-principals", &policy).await;
        assert_eq!(listed, json!({"principals": [arn]}));
        host.iot_with("DELETE", "/principal-policies/P", &principal).await;
        let listed = host.iot_with("GET", "/policy-principals", &policy).await;
        assert_eq!(listed, json!({"principals": []}));
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_policy_is_said() {
        let host = TestHost::new().await;
        host.iot("POST", "/policies/P", &body()).await;
        let malformed = json!({"policyDocument": DOCUMENT.replace("Allow", "Permit")}).to_string();
        let group = r#"{"target": "arn:aws:iot:us-east-1:123456789012:thinggroup/g"}"#;
        let role = r#"{"target": "arn:aws:iam::123456789012:role/x"}"#;
        let cases = [
            ("POST", "/policies/a%2Fb", &*body(), "InvalidRequestException", "policy name"),
            ("POST", "/policies/P", &body(), "ResourceAlreadyExistsException", "policy P exists"),
            ("POST", "/policies/Q", "{}", "InvalidRequestException", "policyDocument"),
            (
                "POST",
                "/policies/Q",
                &malformed,
                "MalformedPolicyException",
                "unknown variant `Permit`, expected `Allow` or `Deny` at line 2",
            ),
            ("GET", "/policies/Q", "", "ResourceNotFoundException", "policy Q does not exist"),
            ("GET", "/policies/P/version/x", "", "InvalidRequestException", "policyVersionId"),
            ("GET", "/policies/P/version/2", "", "ResourceNotFoundException", "no version 2"),
            ("DELETE", "/policies/P/version/1", "", "DeleteConflictException", "is the default"),
            ("PUT", "/target-policies/P", "{}", "InvalidRequestException", "target"),
            ("PUT", "/target-policies/P", group, "ResourceNotFoundException", "thing group g"),
            ("PUT", "/target-policies/P", role, "InvalidRequestException", "role/x"),
            ("POST", "/effective-policies", "{}", "InvalidRequestException", "give principal"),
            (
                "POST",
                "/effective-policies?thingName=None",
                "{}",
                "ResourceNotFoundException",
                "thing None",
            ),
            ("GET", "/policies?marker=%25", "", "InvalidRequestException", "token"),
        ];
        for (method, target, body, exception, says) in cases {
            host.check_refused(method, target, body, exception, says).await;
        }
    }
}
