//! Provisioning: templates with their versions, claims of trusted users, RegisterThing.

use crate::Services;
use crate::call::{Answer, Call, encode_token, epoch_seconds};
use crate::error::{ApiError, Exception};
use crate::iot::tags::{self, TagBody};
use crate::router::{Handlers, handlers};
use gnomon_core::ids::TemplateName;
use gnomon_core::provisioning::{HOOK_PAYLOAD_VERSION, ProvisioningError, Template, Use};
use gnomon_core::registry::{
    NewTemplate, ProvisioningHook, ProvisioningTemplate, RegistryError, TemplateType,
    TemplateUpdate,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(crate) const HANDLERS: Handlers = handlers! {
    CreateProvisioningTemplate => create;
    DescribeProvisioningTemplate => describe;
    UpdateProvisioningTemplate => update;
    DeleteProvisioningTemplate => delete;
    ListProvisioningTemplates => list;
    CreateProvisioningTemplateVersion => create_version;
    DescribeProvisioningTemplateVersion => describe_version;
    DeleteProvisioningTemplateVersion => delete_version;
    ListProvisioningTemplateVersions => list_versions;
    CreateProvisioningClaim => create_claim;
    RegisterThing => register_thing;
};

/// AWS: `ProvisioningHook`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct HookBody {
    #[serde(default = "payload_version")]
    payload_version: String,
    target_arn: String,
}

fn payload_version() -> String {
    HOOK_PAYLOAD_VERSION.to_owned()
}

async fn create(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        template_name: String,
        template_body: String,
        provisioning_role_arn: String,
        description: Option<String>,
        #[serde(default)]
        enabled: bool,
        pre_provisioning_hook: Option<HookBody>,
        #[serde(default)]
        tags: Vec<TagBody>,
        #[serde(rename = "type")]
        kind: Option<String>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        template_arn: String,
        template_name: String,
        default_version_id: u32,
    }
    let members: Members = call.members()?;
    let name = TemplateName::parse(&members.template_name)?;
    let kind = match members.kind.as_deref().unwrap_or("FLEET_PROVISIONING") {
        "FLEET_PROVISIONING" => TemplateType::FleetProvisioning,
        "JITP" => TemplateType::Jitp,
        other => {
            let message = format!("type {other:.40} must be FLEET_PROVISIONING or JITP");
            return Err(ApiError::invalid_request(message));
        }
    };
    check_body(&members.template_body, kind)?;
    let tags = tags::parse(members.tags)?;
    let hook = members.pre_provisioning_hook.map(|it| hook(services, it)).transpose()?;
    if hook.is_some() && kind == TemplateType::Jitp {
        let message = "preProvisioningHook is for templates of type FLEET_PROVISIONING";
        return Err(ApiError::invalid_request(message));
    }
    let new = NewTemplate {
        name: name.clone(),
        kind,
        description: members.description,
        enabled: members.enabled,
        role_arn: members.provisioning_role_arn,
        hook,
        body: members.template_body,
    };
    let made = services.registry.create_provisioning_template(new).await?;
    services.registry.tag(&resource(&name), &tags).await?;
    Answer::members(&Body {
        template_arn: services.registry.provisioning_template_arn(&name),
        template_name: name.to_string(),
        default_version_id: made.default_version,
    })
}

async fn describe(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        #[serde(flatten)]
        summary: Summary,
        default_version_id: u32,
        template_body: String,
        provisioning_role_arn: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pre_provisioning_hook: Option<HookBody>,
    }
    let template = services.registry.provisioning_template(&name(call)?).await?;
    Answer::members(&Body {
        summary: Summary::new(services, &template),
        default_version_id: template.default_version,
        template_body: template.default().body.clone(),
        provisioning_role_arn: template.role_arn,
        pre_provisioning_hook: template.hook.map(|hook| HookBody {
            payload_version: hook.payload_version,
            target_arn: hook.target_arn,
        }),
    })
}

async fn update(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        description: Option<String>,
        enabled: Option<bool>,
        default_version_id: Option<u32>,
        provisioning_role_arn: Option<String>,
        pre_provisioning_hook: Option<HookBody>,
        #[serde(default)]
        remove_pre_provisioning_hook: bool,
    }
    let members: Members = call.members()?;
    let hook = match members.pre_provisioning_hook {
        Some(_) if members.remove_pre_provisioning_hook => {
            return Err(ApiError::invalid_request(
                "removePreProvisioningHook and preProvisioningHook exclude each other",
            ));
        }
        Some(body) => Some(Some(hook(services, body)?)),
        None => members.remove_pre_provisioning_hook.then_some(None),
    };
    let update = TemplateUpdate {
        description: members.description,
        enabled: members.enabled,
        default_version: members.default_version_id,
        role_arn: members.provisioning_role_arn,
        hook,
    };
    services.registry.update_provisioning_template(&name(call)?, &update).await?;
    Ok(Answer::empty())
}

async fn delete(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let name = name(call)?;
    services.registry.delete_provisioning_template(&name).await?;
    services.registry.forget_tags(&resource(&name)).await?;
    Ok(Answer::empty())
}

async fn list(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        templates: Vec<Summary>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let page = call.page("maxResults", "nextToken")?;
    let found = services.registry.list_provisioning_templates(page.request()).await?;
    Answer::members(&Body {
        templates: found.items.iter().map(|it| Summary::new(services, it)).collect(),
        next_token: found.next.as_deref().map(encode_token),
    })
}

async fn create_version(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        template_body: String,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        template_arn: String,
        template_name: String,
        version_id: u32,
        is_default_version: bool,
    }
    let (name, Members { template_body }) = (name(call)?, call.members()?);
    let is_default_version = call.query_as("setAsDefault")?.unwrap_or(false);
    let registry = &services.registry;
    check_body(&template_body, registry.provisioning_template(&name).await?.kind)?;
    let made =
        registry.create_provisioning_template_version(&name, &template_body, is_default_version);
    Answer::members(&Body {
        version_id: made.await?,
        template_arn: registry.provisioning_template_arn(&name),
        template_name: name.to_string(),
        is_default_version,
    })
}

async fn describe_version(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        version_id: u32,
        creation_date: f64,
        template_body: &'a str,
        is_default_version: bool,
    }
    let (id, template) =
        (version_id(call)?, services.registry.provisioning_template(&name(call)?).await?);
    let version = template.version(id)?;
    Answer::members(&Body {
        version_id: id,
        creation_date: epoch_seconds(version.created_at),
        template_body: &version.body,
        is_default_version: id == template.default_version,
    })
}

async fn delete_version(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let (name, id) = (name(call)?, version_id(call)?);
    services.registry.delete_provisioning_template_version(&name, id).await?;
    Ok(Answer::empty())
}

async fn list_versions(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Item {
        version_id: u32,
        creation_date: f64,
        is_default_version: bool,
    }
    #[derive(Serialize)]
    struct Body {
        versions: Vec<Item>,
    }
    let template = services.registry.provisioning_template(&name(call)?).await?;
    let item = |(id, version): (&u32, &gnomon_core::registry::TemplateVersion)| Item {
        version_id: *id,
        creation_date: epoch_seconds(version.created_at),
        is_default_version: *id == template.default_version,
    };
    // At most five: one page.
    Answer::members(&Body { versions: template.versions.iter().map(item).collect() })
}

async fn create_claim(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct KeyPair {
        public_key: String,
        private_key: String,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        certificate_id: String,
        certificate_pem: String,
        key_pair: KeyPair,
        expiration: f64,
    }
    let (issued, claim) = services.registry.create_provisioning_claim(&name(call)?).await?;
    Answer::members(&Body {
        certificate_id: claim.id.to_string(),
        certificate_pem: issued.certificate_pem,
        key_pair: KeyPair {
            public_key: issued.public_key_pem,
            private_key: issued.private_key_pem,
        },
        expiration: epoch_seconds(claim.expires_at),
    })
}

async fn register_thing(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        template_body: String,
        #[serde(default)]
        parameters: BTreeMap<String, String>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        #[serde(skip_serializing_if = "Option::is_none")]
        certificate_pem: Option<String>,
        resource_arns: BTreeMap<String, String>,
    }
    let Members { template_body, parameters } = call.members()?;
    let made = services.provisioner.register_thing(&template_body, &parameters).await?;
    Answer::members(&Body {
        certificate_pem: made.certificate.map(|certificate| certificate.pem),
        resource_arns: made.resource_arns,
    })
}

impl From<ProvisioningError> for ApiError {
    fn from(error: ProvisioningError) -> Self {
        match error {
            ProvisioningError::Registry(
                error @ (RegistryError::Store(_)
                | RegistryError::Busy
                | RegistryError::Record { .. }
                | RegistryError::Issuer(_)),
            ) => error.into(),
            ProvisioningError::Template(problem) => Self::invalid_request(problem),
            error => Self::new(Exception::ResourceRegistrationFailure, error.to_string()),
        }
    }
}

/// AWS: `ProvisioningTemplateSummary`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    template_arn: String,
    template_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    creation_date: f64,
    last_modified_date: f64,
    enabled: bool,
    #[serde(rename = "type")]
    kind: &'static str,
}

impl Summary {
    fn new(services: &Services, template: &ProvisioningTemplate) -> Self {
        Self {
            template_arn: services.registry.provisioning_template_arn(&template.name),
            template_name: template.name.to_string(),
            description: template.description.clone(),
            creation_date: epoch_seconds(template.created_at),
            last_modified_date: epoch_seconds(template.modified_at),
            enabled: template.enabled,
            kind: template.kind.as_str(),
        }
    }
}

fn name(call: &Call<'_>) -> Result<TemplateName, ApiError> {
    Ok(TemplateName::parse(call.label("templateName"))?)
}

fn version_id(call: &Call<'_>) -> Result<u32, ApiError> {
    let id = call.label("versionId").parse();
    id.map_err(|_| ApiError::invalid_request("versionId is no number"))
}

fn resource(name: &TemplateName) -> String {
    format!("provisioningtemplate/{name}")
}

fn hook(services: &Services, body: HookBody) -> Result<ProvisioningHook, ApiError> {
    let HookBody { payload_version, target_arn } = body;
    let hook = ProvisioningHook { target_arn, payload_version };
    services.provisioner.check_hook(&hook).map_err(ApiError::invalid_request)?;
    Ok(hook)
}

/// A template's document that can be carried out.
pub(crate) fn check_body(body: &str, kind: TemplateType) -> Result<(), ApiError> {
    let used = match kind {
        TemplateType::FleetProvisioning => Use::Fleet,
        TemplateType::Jitp => Use::JustInTime,
    };
    match Template::parse(body, used) {
        Ok(_) => Ok(()),
        Err(problem) => Err(ApiError::invalid_request(format!("templateBody: {problem}"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::test_ca::TestCa;
    use crate::test_host::TestHost;
    use gnomon_core::adapter::HttpHandler;
    use serde_json::{Value, json};

    const INVALID: &str = "InvalidRequestException";

    fn policy(action: &str) -> Value {
        json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": action, "Resource": "*"}]})
    }

    /// The sample of AWS's developer guide, more or less.
    fn template(certificate: &Value) -> Value {
        json!({
            "Parameters": {
                "Serial": {"Type": "String"},
                "Place": {"Type": "String", "Default": "hall:2"},
            },
            "Mappings": {"Sites": {"hall": {"Group": "lamps"}}},
            "Resources": {
                "lamp": {
                    "Type": "AWS::IoT::Thing",
                    "Properties": {
                        "ThingName": {"Fn::Join": ["-", ["lamp", {"Ref": "Serial"}]]},
                        "AttributePayload": {
                            "serial": {"Ref": "Serial"},
                            "line": {"Fn::Select": [1, {"Fn::Split": [":", {"Ref": "Place"}]}]},
                        },
                        "ThingTypeName": "Lamp",
                        "ThingGroups": [{"Fn::FindInMap": ["Sites",
                            {"Fn::Select": ["0", {"Fn::Split": [":", {"Ref": "Place"}]}]},
                            "Group"]}],
                        "BillingGroup": "maintenance",
                    },
                    "OverrideSettings": {"AttributePayload": "MERGE", "ThingTypeName": "REPLACE",
                        "ThingGroups": "DO_NOTHING"},
                },
                "identity": {"Type": "AWS::IoT::Certificate", "Properties": certificate},
                "rights": {"Type": "AWS::IoT::Policy",
                    "Properties": {"PolicyDocument": policy("iot:Publish").to_string()}},
            },
        })
    }

    async fn host() -> TestHost {
        let host = TestHost::new().await;
        host.iot("POST", "/thing-types/Lamp", "").await;
        host.iot("POST", "/thing-groups/lamps", "").await;
        host.iot("POST", "/billing-groups/maintenance", "").await;
        host
    }

    fn request(template: &Value, parameters: &Value) -> String {
        json!({"templateBody": template.to_string(), "parameters": parameters}).to_string()
    }

    #[tokio::test]
    async fn a_thing_is_registered_with_all_that_belongs_to_it() {
        let host = host().await;
        let csr = include_str!("../../../pki/tests/data/p384-sha256.csr");
        let template = template(&json!({"CertificateSigningRequest": {"Ref": "CSR"},
            "Status": "Active"}));
        let mut template = template;
        template["Parameters"]["CSR"] = json!({"Type": "String"});
        let body = request(&template, &json!({"Serial": "7", "CSR": csr}));
        let made = host.iot("POST", "/things", &body).await;
        assert!(made["certificatePem"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
        let arns = &made["resourceArns"];
        assert_eq!(arns["lamp"], "arn:aws:iot:us-east-1:123456789012:thing/lamp-7");
        let thing = host.iot("GET", "/things/lamp-7", "").await;
        assert_eq!(thing["attributes"], json!({"serial": "7", "line": "2"}));
        assert_eq!(thing["thingTypeName"], "Lamp");
        assert_eq!(thing["billingGroupName"], "maintenance");
        let groups = host.iot("GET", "/things/lamp-7/thing-groups", "").await;
        assert_eq!(groups["thingGroups"][0]["groupName"], "lamps");
        let principals = host.iot("GET", "/things/lamp-7/principals", "").await;
        assert_eq!(principals["principals"], json!([arns["identity"]]));
        let (_, id) = arns["identity"].as_str().unwrap().rsplit_once('/').unwrap();
        let certificate = host.iot("GET", &format!("/certificates/{id}"), "").await;
        assert_eq!(certificate["certificateDescription"]["status"], "ACTIVE");
        let (_, name) = arns["rights"].as_str().unwrap().rsplit_once('/').unwrap();
        let policy = host.iot("GET", &format!("/policies/{name}"), "").await;
        assert!(policy["policyDocument"].as_str().unwrap().contains("iot:Publish"));

        // Once more with the same certificate and another place: overrides decide.
        template["Resources"]["identity"]["Properties"] =
            json!({"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}});
        let unknown = request(&template, &json!({"Serial": "7", "CSR": csr}));
        let says = "AWS::IoT::Certificate::Id has no value";
        host.check_refused("POST", "/things", &unknown, INVALID, says).await;
        template["Resources"]["identity"]["Properties"] = json!({"CertificateId": id});
        template["Resources"]["lamp"]["Properties"]["ThingGroups"] = json!([]);
        let body = request(&template, &json!({"Serial": "7", "CSR": csr, "Place": "hall:3"}));
        host.iot("POST", "/things", &body).await;
        let thing = host.iot("GET", "/things/lamp-7", "").await;
        assert_eq!(thing["attributes"], json!({"serial": "7", "line": "3"}));
        let groups = host.iot("GET", "/things/lamp-7/thing-groups", "").await;
        assert_eq!(groups["thingGroups"].as_array().unwrap().len(), 1);
        template["Resources"]["lamp"]["OverrideSettings"] = json!({"AttributePayload": "FAIL"});
        let body = request(&template, &json!({"Serial": "7", "CSR": csr, "Place": "hall:4"}));
        let failure = "ResourceRegistrationFailureException";
        host.check_refused("POST", "/things", &body, failure, "other attributes").await;
    }

    #[tokio::test]
    async fn nothing_is_done_by_a_template_that_cannot_be_carried_out() {
        let host = host().await;
        let good = template(&json!({"CertificatePem": "x"}));
        let with = |pointer: &str, value: Value| {
            let mut changed = good.clone();
            *changed.pointer_mut(pointer).unwrap() = value;
            changed
        };
        let name = "/Resources/lamp/Properties/ThingName";
        let certificate = "/Resources/identity/Properties";
        let cases = [
            (json!([]), "invalid length"),
            (json!({"Resources": {"a": {"Type": "AWS::S3::Bucket"}}}), "unknown variant"),
            (json!({"Resources": {}, "Colour": 1}), "unknown field `Colour`"),
            (with(name, json!({"Ref": "Nobody"})), "Nobody is referred to and not among"),
            (with(name, json!({"Fn::Bogus": []})), "function Fn::Bogus is not known"),
            (with(name, json!({"Fn::Join": ["-"]})), "Fn::Join must have a list of two"),
            (with(name, json!({"Fn::Select": [9, ["a"]]})), "index 9 in a list of 1"),
            (with(name, json!({"Fn::FindInMap": ["Sites", "x", "y"]})), "Mappings has no Sites, x"),
            (with(name, json!({"Fn::Sub": "a ${Serial"})), "is not closed"),
            (with(name, json!({"Fn::Sub": "a ${Other}"})), "Other is referred to"),
            (with(name, json!("../etc")), "thing name has a character at byte 0"),
            (with(name, json!([1])), "a list is no text"),
            (with("/Parameters/Serial/Type", json!("Number")), "Type must be String"),
            (with(certificate, json!({})), "exactly one of"),
            (
                with(certificate, json!({"CertificatePem": "a", "CertificateId": "b"})),
                "exactly one",
            ),
            (
                with(certificate, json!({"CertificateId": "b", "CACertificatePem": "c"})),
                "goes with",
            ),
            (
                with(certificate, json!({"CertificatePem": "a", "Status": "REVOKED"})),
                "ACTIVE or IN",
            ),
            (with("/Resources/rights/Properties", json!({})), "either PolicyName or"),
            (
                with("/Resources/lamp/OverrideSettings/ThingTypeName", json!("MERGE")),
                "MERGE is for AttributePayload and ThingGroups",
            ),
            (with("/Resources/lamp", json!({"Type": "AWS::IoT::Thing"})), "Properties"),
        ];
        for (template, says) in &cases {
            let body = request(template, &json!({"Serial": "7"}));
            host.check_refused("POST", "/things", &body, INVALID, says).await;
        }
        let failure = "ResourceRegistrationFailureException";
        for (template, says) in [
            (with("/Resources/lamp/Properties/ThingTypeName", json!("None")), "thing type None"),
            (with("/Resources/lamp/Properties/ThingGroups", json!(["None"])), "thing group None"),
            (with("/Resources/lamp/Properties/BillingGroup", json!("None")), "billing group None"),
            (with("/Resources/rights/Properties", json!({"PolicyName": "P"})), "policy P"),
            (with("/Resources/rights/Properties", json!({"PolicyDocument": "{}"})), "policy"),
            (good.clone(), "certificatePem: is no PEM block"),
        ] {
            let body = request(&template, &json!({"Serial": "7"}));
            host.check_refused("POST", "/things", &body, failure, says).await;
        }
        let long = json!({"Serial": "7".repeat(65_537)});
        host.check_refused("POST", "/things", &request(&good, &long), INVALID, "65536 bytes").await;
        let ours = json!({"Serial": "7", "AWS::IoT::Certificate::Id": "x"});
        host.check_refused("POST", "/things", &request(&good, &ours), INVALID, "the host gives")
            .await;
        // A text that grows with every level is stopped.
        let mut text = json!({"Ref": "Serial"});
        for _ in 0..12 {
            text = json!({"Fn::Join": ["", [text, text]]});
        }
        let serial = json!({"Serial": "x".repeat(60_000)});
        let mut bomb = with(name, json!({"Fn::Sub": "${Serial}".repeat(50)}));
        host.check_refused("POST", "/things", &request(&bomb, &serial), INVALID, "makes more than")
            .await;
        *bomb.pointer_mut(name).unwrap() = text;
        host.check_refused("POST", "/things", &request(&bomb, &serial), INVALID, "10240 bytes")
            .await;
        assert_eq!(host.iot("GET", "/things", "").await["things"], json!([]));
        assert_eq!(host.iot("GET", "/certificates", "").await["certificates"], json!([]));
        assert_eq!(host.iot("GET", "/policies", "").await["policies"], json!([]));
    }

    #[tokio::test]
    async fn a_template_has_versions_of_which_one_is_in_force() {
        let host = host().await;
        let id = json!({"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}});
        let body = template(&id).to_string();
        let create = json!({
            "templateName": "lamps",
            "templateBody": body,
            "provisioningRoleArn": "arn:aws:iam::123456789012:role/r",
            "description": "For lamps",
            "enabled": true,
            "preProvisioningHook": {"targetArn": "arn:aws:lambda:us-east-1:1:function:gate"},
            "tags": [{"Key": "a", "Value": "b"}],
        })
        .to_string();
        let made = host.iot("POST", "/provisioning-templates", &create).await;
        let arn = "arn:aws:iot:us-east-1:123456789012:provisioningtemplate/lamps";
        let expected = json!({"templateArn": arn, "templateName": "lamps", "defaultVersionId": 1});
        assert_eq!(made, expected);
        let again = "ResourceAlreadyExistsException";
        host.check_refused("POST", "/provisioning-templates", &create, again, "lamps").await;
        let target = "/provisioning-templates/lamps";
        assert_eq!(
            host.iot("GET", target, "").await,
            json!({
                "templateArn": arn,
                "templateName": "lamps",
                "description": "For lamps",
                "creationDate": 1_795_435_200.5,
                "lastModifiedDate": 1_795_435_200.5,
                "enabled": true,
                "type": "FLEET_PROVISIONING",
                "defaultVersionId": 1,
                "templateBody": body,
                "provisioningRoleArn": "arn:aws:iam::123456789012:role/r",
                "preProvisioningHook": {"payloadVersion": "2020-04-01",
                    "targetArn": "arn:aws:lambda:us-east-1:1:function:gate"},
            })
        );
        let versions = format!("{target}/versions");
        let new = json!({"templateBody": body}).to_string();
        let made = host.iot("POST", &format!("{versions}?setAsDefault=true"), &new).await;
        assert_eq!((&made["versionId"], &made["isDefaultVersion"]), (&json!(2), &json!(true)));
        let listed = host.iot("GET", &versions, "").await;
        assert_eq!(listed["versions"][1]["isDefaultVersion"], true);
        let default = format!("{versions}/2");
        host.check_refused("DELETE", &default, "", "DeleteConflictException", "the default").await;
        let update = json!({"defaultVersionId": 1, "enabled": false,
            "removePreProvisioningHook": true});
        host.iot("PATCH", target, &update.to_string()).await;
        let described = host.iot("GET", target, "").await;
        assert_eq!(described.get("preProvisioningHook"), None);
        assert_eq!(
            (&described["enabled"], &described["defaultVersionId"]),
            (&json!(false), &json!(1))
        );
        assert_eq!(host.iot("GET", &default, "").await["templateBody"], *body);
        host.iot("DELETE", &default, "").await;
        host.check_refused("GET", &default, "", "ResourceNotFoundException", "no version 2").await;
        for _ in 0..4 {
            host.iot("POST", &versions, &new).await;
        }
        let many = "VersionsLimitExceededException";
        host.check_refused("POST", &versions, &new, many, "delete one first").await;
        assert_eq!(
            host.iot("GET", "/provisioning-templates", "").await["templates"][0]["templateName"],
            "lamps"
        );
        host.iot("DELETE", target, "").await;
        host.check_refused("GET", target, "", "ResourceNotFoundException", "lamps").await;
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_template_is_said() {
        let host = host().await;
        let id = json!({"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}});
        let good = json!({"templateName": "t", "templateBody": template(&id).to_string(),
            "provisioningRoleArn": "r"});
        let with = |member: &str, value: Value| {
            let mut changed = good.clone();
            changed[member] = value;
            changed
        };
        let pem = template(&json!({"CertificatePem": "x"})).to_string();
        let bare = json!({"Resources": {}}).to_string();
        let subject = json!({"Parameters": {}, "Resources": {
            "t": {"Type": "AWS::IoT::Thing", "Properties":
                {"ThingName": {"Ref": "AWS::IoT::Certificate::CommonName"}}},
            "c": {"Type": "AWS::IoT::Certificate", "Properties": id}}})
        .to_string();
        for (body, says) in [
            (with("templateName", json!("a/b")), "template name has a character"),
            (with("templateName", json!("x".repeat(37))), "at most 36"),
            (with("type", json!("X")), "FLEET_PROVISIONING or JITP"),
            (with("templateBody", json!("{")), "templateBody: EOF"),
            (with("templateBody", json!(" ".repeat(10_241))), "more than 10240 bytes"),
            (with("templateBody", json!(pem)), "CertificateId is needed here"),
            (with("templateBody", json!(bare)), "no AWS::IoT::Certificate"),
            (with("templateBody", json!(subject)), "CommonName is referred to"),
            (with("description", json!("a\nb")), "no control"),
            (with("preProvisioningHook", json!({"targetArn": "x"})), "must read arn:aws:lambda"),
            (
                with(
                    "preProvisioningHook",
                    json!({"payloadVersion": "1",
                    "targetArn": "arn:aws:lambda:us-east-1:1:function:gate"}),
                ),
                "must be 2020-04-01",
            ),
            (json!({}), "templateName"),
        ] {
            let body = body.to_string();
            host.check_refused("POST", "/provisioning-templates", &body, INVALID, says).await;
        }
        let nobody = "/provisioning-templates/nobody/provisioning-claim";
        host.check_refused("POST", nobody, "", "ResourceNotFoundException", "nobody").await;
        let bad = "/provisioning-templates/t/versions/x";
        host.check_refused("GET", bad, "", INVALID, "versionId is no number").await;
    }

    /// A CA that lets its devices come, with this `registrationConfig`.
    async fn open_ca(host: &TestHost, ca: &TestCa, config: Option<Value>) -> String {
        let mut body = json!({"caCertificate": ca.pem, "certificateMode": "SNI_ONLY"});
        if let Some(config) = config {
            body["registrationConfig"] = config;
        }
        let target = "/cacertificate?setAsActive=true&allowAutoRegistration=true";
        let made = host.iot("POST", target, &body.to_string()).await;
        made["certificateId"].as_str().unwrap().to_owned()
    }

    /// Publishes over HTTPS with this certificate.
    async fn publish(host: &TestHost, pem: &str) -> Option<String> {
        let http = TestHost::request("POST", "/topics/a", "x");
        let mut request = TestHost::received("public", http);
        request.client_certificate = Some(TestHost::der(pem));
        let response = host.api.handle(request).await;
        TestHost::error_type(&response).map(str::to_owned)
    }

    #[tokio::test]
    async fn a_device_of_a_registered_ca_is_registered_when_it_comes() {
        let host = TestHost::new().await;
        let (ca, other) = (TestCa::new("Acme"), TestCa::new("Acme"));
        let id = open_ca(&host, &ca, None).await;
        let topic = format!("$aws/events/certificates/registered/{id}");
        let (events, _receiver) = host.listen(&[&topic]);
        let device = ca.sign("device-1");
        assert!(publish(&host, &device).await.is_some());
        let listed = host.iot("GET", &format!("/certificates-by-ca/{id}"), "").await;
        let certificate = &listed["certificates"][0];
        assert_eq!(certificate["status"], "PENDING_ACTIVATION");
        assert_eq!(
            events.take(),
            [json!({
                "certificateId": certificate["certificateId"],
                "caCertificateId": id,
                "timestamp": 1_795_435_200_500_u64,
                "certificateStatus": "PENDING_ACTIVATION",
                "awsAccountId": "123456789012",
                "certificateRegistrationTimestamp": "1795435200500",
            })]
        );
        assert!(publish(&host, &device).await.is_some());
        assert_eq!(events.take().len(), 1, "told again while it is pending");
        // What a rule does when it hears of it.
        let target = format!("/certificates/{}", certificate["certificateId"].as_str().unwrap());
        host.iot("PUT", &format!("{target}?newStatus=ACTIVE"), "").await;
        let document = json!({"policyDocument": policy("iot:*").to_string()}).to_string();
        host.iot("POST", "/policies/All", &document).await;
        let attach = json!({"target": certificate["certificateArn"]}).to_string();
        host.iot("PUT", "/target-policies/All", &attach).await;
        assert_eq!(publish(&host, &device).await, None);
        assert_eq!(events.take(), [json!(null); 0]);

        assert!(publish(&host, &other.sign("device-2")).await.is_some());
        let expired = ca.sign_with("device-3", |params| {
            params.not_after = rcgen::date_time_ymd(2026, 6, 1);
        });
        assert!(publish(&host, &expired).await.is_some());
        host.iot("PUT", &format!("/cacertificate/{id}?newAutoRegistrationStatus=DISABLE"), "")
            .await;
        assert!(publish(&host, &ca.sign("device-4")).await.is_some());
        let listed = host.iot("GET", "/certificates", "").await;
        assert_eq!(listed["certificates"].as_array().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_device_of_a_ca_with_a_template_is_provisioned_when_it_comes() {
        let host = TestHost::new().await;
        let ca = TestCa::new("Acme");
        let common_name = json!({"Ref": "AWS::IoT::Certificate::CommonName"});
        let template = json!({
            "Parameters": {
                "AWS::IoT::Certificate::CommonName": {"Type": "String"},
                "AWS::IoT::Certificate::Country": {"Type": "String", "Default": "none"},
                "AWS::IoT::Certificate::Id": {"Type": "String"},
            },
            "Resources": {
                "thing": {"Type": "AWS::IoT::Thing", "Properties": {
                    "ThingName": common_name,
                    "AttributePayload": {"country": {"Ref": "AWS::IoT::Certificate::Country"}}}},
                "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {
                    "CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}},
                "policy": {"Type": "AWS::IoT::Policy", "Properties": {
                    "PolicyDocument": policy("iot:*")}},
            },
        });
        let config =
            json!({"templateBody": template.to_string(), "roleArn": "arn:aws:iam::1:role/r"});
        let id = open_ca(&host, &ca, Some(config.clone())).await;
        let described = host.iot("GET", &format!("/cacertificate/{id}"), "").await;
        assert_eq!(described["registrationConfig"], config);
        // The same request goes on.
        assert_eq!(publish(&host, &ca.sign("device-1")).await, None);
        let thing = host.iot("GET", "/things/device-1", "").await;
        assert_eq!(thing["attributes"], json!({"country": "none"}));
        // A name that is no thing's: nothing is activated.
        assert!(publish(&host, &ca.sign("no thing/#")).await.is_some());
        let listed = host.iot("GET", &format!("/certificates-by-ca/{id}"), "").await;
        let statuses: Vec<_> = listed["certificates"].as_array().unwrap().iter().collect();
        let pending = statuses.iter().filter(|it| it["status"] == "PENDING_ACTIVATION").count();
        assert_eq!((statuses.len(), pending), (2, 1));

        let target = format!("/cacertificate/{id}");
        let create = json!({"templateName": "jitp", "templateBody": template.to_string(),
            "provisioningRoleArn": "r", "type": "JITP", "enabled": true});
        host.iot("POST", "/provisioning-templates", &create.to_string()).await;
        let named = json!({"registrationConfig": {"templateName": "jitp"}}).to_string();
        host.iot("PUT", &target, &named).await;
        assert_eq!(publish(&host, &ca.sign("device-2")).await, None);
        let conflict = "DeleteConflictException";
        let by_name = "/provisioning-templates/jitp";
        host.check_refused("DELETE", by_name, "", conflict, "registrationConfig first").await;
        host.iot("PATCH", by_name, r#"{"enabled": false}"#).await;
        assert!(publish(&host, &ca.sign("device-3")).await.is_some());
        let listed = host.iot("GET", "/cacertificates?templateName=jitp", "").await;
        assert_eq!(listed["certificates"][0]["certificateId"], *id);
        host.iot("PUT", &target, r#"{"removeAutoRegistration": true}"#).await;
        let described = host.iot("GET", &target, "").await;
        assert_eq!(described.get("registrationConfig"), None);
        for (config, says) in [
            (json!({"templateBody": "{}"}), "templateBody: missing field `Resources`"),
            (json!({"templateBody": "{}", "templateName": "x"}), "exclude each other"),
        ] {
            let body = json!({"registrationConfig": config}).to_string();
            host.check_refused("PUT", &target, &body, INVALID, says).await;
        }
    }

    #[tokio::test]
    async fn a_claim_is_no_certificate_of_the_registry_and_does_not_publish() {
        let host = host().await;
        let id = json!({"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}});
        let create = json!({"templateName": "lamps", "templateBody": template(&id).to_string(),
            "provisioningRoleArn": "r"});
        host.iot("POST", "/provisioning-templates", &create.to_string()).await;
        let claim = host.iot("POST", "/provisioning-templates/lamps/provisioning-claim", "").await;
        assert_eq!(claim["expiration"], 1_795_435_500.5);
        assert!(claim["keyPair"]["PrivateKey"].as_str().unwrap().contains("PRIVATE KEY"));
        assert_eq!(host.iot("GET", "/certificates", "").await["certificates"], json!([]));
        let pem = claim["certificatePem"].as_str().unwrap();
        assert_eq!(publish(&host, pem).await.as_deref(), Some("ForbiddenException"));
    }
}
