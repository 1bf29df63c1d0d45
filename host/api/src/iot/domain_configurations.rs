//! Domain configurations: create, describe, update, delete, list.

use crate::Services;
use crate::call::{Answer, Call, encode_token, epoch_seconds};
use crate::error::ApiError;
use crate::iot::tags::{self, TagBody};
use crate::router::{Handlers, handlers};
use gnomon_core::ids::{AuthorizerName, DomainConfigurationName};
use gnomon_core::registry::{
    DomainAuthorizer, DomainConfiguration, DomainConfigurationUpdate, ServiceType,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) const HANDLERS: Handlers = handlers! {
    CreateDomainConfiguration => create;
    DescribeDomainConfiguration => describe;
    UpdateDomainConfiguration => update;
    DeleteDomainConfiguration => delete;
    ListDomainConfigurations => list;
};

/// AWS: `AuthorizerConfig`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthorizerBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    default_authorizer_name: Option<String>,
    #[serde(default)]
    allow_authorizer_override: bool,
}

impl AuthorizerBody {
    fn parse(self) -> Result<DomainAuthorizer, ApiError> {
        let default = self.default_authorizer_name.as_deref().map(AuthorizerName::parse);
        let may_be_overridden = self.allow_authorizer_override;
        Ok(DomainAuthorizer { default: default.transpose()?, may_be_overridden })
    }
}

/// What a listener of the host has in its place. To take it and do nothing would be a lie.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfListeners {
    #[serde(default)]
    server_certificate_arns: Vec<String>,
    validation_certificate_arn: Option<String>,
    #[serde(default)]
    server_certificate_config: Map<String, Value>,
    #[serde(default)]
    tls_config: Map<String, Value>,
    #[serde(default)]
    client_certificate_config: Map<String, Value>,
    authentication_type: Option<String>,
    application_protocol: Option<String>,
}

impl OfListeners {
    /// The only type and protocol: a client is checked by what it shows, and says what it speaks.
    const DEFAULT: &str = "DEFAULT";

    fn check(&self) -> Result<(), ApiError> {
        let certificates = "server certificates come from the host's configuration";
        let is_other = |it: &Option<String>| it.as_deref().is_some_and(|it| it != Self::DEFAULT);
        for (member, is_there, why) in [
            ("serverCertificateArns", !self.server_certificate_arns.is_empty(), certificates),
            ("validationCertificateArn", self.validation_certificate_arn.is_some(), certificates),
            ("serverCertificateConfig", !self.server_certificate_config.is_empty(), certificates),
            ("tlsConfig", !self.tls_config.is_empty(), "all names have the TLS of their listener"),
            (
                "clientCertificateConfig",
                !self.client_certificate_config.is_empty(),
                "nobody is called about a client's certificate",
            ),
            (
                "authenticationType",
                is_other(&self.authentication_type),
                "it must be DEFAULT: what a client shows decides how it is checked",
            ),
            (
                "applicationProtocol",
                is_other(&self.application_protocol),
                "it must be DEFAULT: protocols are those of a listener",
            ),
        ] {
            if is_there {
                return Err(ApiError::invalid_request(format!("{member}: {why}")));
            }
        }
        Ok(())
    }
}

async fn create(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        domain_name: Option<String>,
        service_type: Option<String>,
        authorizer_config: Option<AuthorizerBody>,
        #[serde(default)]
        tags: Vec<TagBody>,
    }
    let name = name(call)?;
    call.members::<OfListeners>()?.check()?;
    let members: Members = call.members()?;
    let tags = tags::parse(members.tags)?;
    let service_type = members.service_type.as_deref().map(ServiceType::parse).transpose()?;
    let service_type = service_type.unwrap_or_default();
    let authorizer = members.authorizer_config.map(AuthorizerBody::parse).transpose()?;
    let (registry, domain_name) = (&services.registry, members.domain_name.as_deref());
    registry.create_domain_configuration(&name, domain_name, service_type, authorizer).await?;
    registry.tag(&resource(&name), &tags).await?;
    named(services, &name)
}

async fn describe(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        domain_configuration_name: &'a str,
        domain_configuration_arn: String,
        domain_name: &'a str,
        server_certificates: [(); 0],
        #[serde(skip_serializing_if = "Option::is_none")]
        authorizer_config: Option<AuthorizerBody>,
        domain_configuration_status: &'a str,
        service_type: &'a str,
        domain_type: &'a str,
        last_status_change_date: f64,
        authentication_type: &'a str,
        application_protocol: &'a str,
    }
    let found = services.registry.describe_domain_configuration(&name(call)?).await?;
    let (domain_name, domain_type) = match &found.domain_name {
        Some(name) => (name.as_str(), "CUSTOMER_MANAGED"),
        None => (&*services.endpoint, "AWS_MANAGED"),
    };
    let authorizer = |it: DomainAuthorizer| AuthorizerBody {
        default_authorizer_name: it.default.map(|name| name.to_string()),
        allow_authorizer_override: it.may_be_overridden,
    };
    Answer::members(&Body {
        domain_configuration_name: found.name.as_str(),
        domain_configuration_arn: services.registry.domain_configuration_arn(&found.name),
        domain_name,
        server_certificates: [],
        authorizer_config: found.authorizer.map(authorizer),
        domain_configuration_status: if found.is_enabled { "ENABLED" } else { "DISABLED" },
        service_type: found.service_type.as_str(),
        domain_type,
        last_status_change_date: epoch_seconds(found.status_changed_at),
        authentication_type: OfListeners::DEFAULT,
        application_protocol: OfListeners::DEFAULT,
    })
}

async fn update(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        authorizer_config: Option<AuthorizerBody>,
        domain_configuration_status: Option<String>,
        #[serde(default)]
        remove_authorizer_config: bool,
    }
    let name = name(call)?;
    call.members::<OfListeners>()?.check()?;
    let members: Members = call.members()?;
    let authorizer = match (members.authorizer_config, members.remove_authorizer_config) {
        (Some(_), true) => {
            return Err(ApiError::invalid_request(
                "give authorizerConfig or removeAuthorizerConfig, not both",
            ));
        }
        (Some(body), false) => Some(Some(body.parse()?)),
        (None, is_removed) => is_removed.then_some(None),
    };
    let is_enabled = match members.domain_configuration_status.as_deref() {
        None => None,
        Some("ENABLED") => Some(true),
        Some("DISABLED") => Some(false),
        Some(_) => {
            return Err(ApiError::invalid_request(
                "domainConfigurationStatus must be ENABLED or DISABLED",
            ));
        }
    };
    let update = DomainConfigurationUpdate { authorizer, is_enabled };
    services.registry.update_domain_configuration(&name, &update).await?;
    named(services, &name)
}

async fn delete(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let name = name(call)?;
    services.registry.delete_domain_configuration(&name).await?;
    services.registry.forget_tags(&resource(&name)).await?;
    Ok(Answer::empty())
}

async fn list(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    /// AWS: `DomainConfigurationSummary`.
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Item {
        domain_configuration_name: String,
        domain_configuration_arn: String,
        service_type: &'static str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        domain_configurations: Vec<Item>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_marker: Option<String>,
    }
    let page = call.page("pageSize", "marker")?;
    let service_type = call.query("serviceType")?.map(ServiceType::parse).transpose()?;
    let registry = &services.registry;
    let found = registry.list_domain_configurations(service_type, page.request()).await?;
    let item = |it: &DomainConfiguration| Item {
        domain_configuration_name: it.name.to_string(),
        domain_configuration_arn: registry.domain_configuration_arn(&it.name),
        service_type: it.service_type.as_str(),
    };
    Answer::members(&Body {
        domain_configurations: found.items.iter().map(item).collect(),
        next_marker: found.next.as_deref().map(encode_token),
    })
}

/// Name and ARN.
fn named(services: &Services, name: &DomainConfigurationName) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        domain_configuration_name: &'a str,
        domain_configuration_arn: String,
    }
    Answer::members(&Body {
        domain_configuration_name: name.as_str(),
        domain_configuration_arn: services.registry.domain_configuration_arn(name),
    })
}

fn name(call: &Call<'_>) -> Result<DomainConfigurationName, ApiError> {
    Ok(DomainConfigurationName::parse(call.label("domainConfigurationName"))?)
}

/// As tags call it.
fn resource(name: &DomainConfigurationName) -> String {
    format!("domainconfiguration/{name}")
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use serde_json::json;
    use std::time::Duration;

    const ARN: &str = "arn:aws:iot:us-east-1:123456789012:domainconfiguration/gate.1";
    const PATH: &str = "/domainConfigurations/gate.1";
    const NEW: &str = "/domainConfigurations/new";

    #[tokio::test]
    async fn a_domain_configuration_lives_from_create_to_delete() {
        let host = TestHost::new().await;
        let body = json!({
            "domainName": "Gate.Example.com",
            "authorizerConfig": {"defaultAuthorizerName": "users"},
            "authenticationType": "DEFAULT",
            "serverCertificateArns": [],
            "tags": [{"Key": "k", "Value": "v"}],
        });
        let named = json!({"domainConfigurationName": "gate.1", "domainConfigurationArn": ARN});
        assert_eq!(host.iot("POST", PATH, &body.to_string()).await, named);
        let authorizer =
            json!({"defaultAuthorizerName": "users", "allowAuthorizerOverride": false});
        let mut described = json!({
            "domainConfigurationName": "gate.1",
            "domainConfigurationArn": ARN,
            "domainName": "gate.example.com",
            "serverCertificates": [],
            "authorizerConfig": authorizer,
            "domainConfigurationStatus": "ENABLED",
            "serviceType": "DATA",
            "domainType": "CUSTOMER_MANAGED",
            "lastStatusChangeDate": 1_795_435_200.5,
            "authenticationType": "DEFAULT",
            "applicationProtocol": "DEFAULT",
        });
        assert_eq!(host.iot("GET", PATH, "").await, described);
        let tags = host.iot("GET", &format!("/tags?resourceArn={ARN}"), "").await;
        assert_eq!(tags, json!({"tags": [{"Key": "k", "Value": "v"}]}));
        host.clock.advance(Duration::from_secs(60));
        let other = json!({"allowAuthorizerOverride": true});
        let update = json!({"authorizerConfig": other, "domainConfigurationStatus": "ENABLED"});
        assert_eq!(host.iot("PUT", PATH, &update.to_string()).await, named);
        described["authorizerConfig"] = other;
        assert_eq!(host.iot("GET", PATH, "").await, described, "the status did not change");
        let invalid = "InvalidRequestException";
        host.check_refused("DELETE", PATH, "", invalid, "gate.1 is enabled; set").await;
        let update = r#"{"removeAuthorizerConfig": true, "domainConfigurationStatus": "DISABLED"}"#;
        host.iot("PUT", PATH, update).await;
        described["domainConfigurationStatus"] = json!("DISABLED");
        described["lastStatusChangeDate"] = json!(1_795_435_260.5);
        described.as_object_mut().unwrap().remove("authorizerConfig");
        assert_eq!(host.iot("GET", PATH, "").await, described);
        host.iot("DELETE", PATH, "").await;
        for method in ["GET", "PUT", "DELETE"] {
            let missing = "ResourceNotFoundException";
            host.check_refused(method, PATH, "", missing, "gate.1 does not exist").await;
        }
        host.iot("POST", PATH, "").await;
        let described = host.iot("GET", PATH, "").await;
        assert_eq!(described["domainName"], "iot.example");
        assert_eq!(described["domainType"], "AWS_MANAGED");
        let tags = host.iot("GET", &format!("/tags?resourceArn={ARN}"), "").await;
        assert_eq!(tags, json!({"tags": []}), "the tags went with the first");
    }

    #[tokio::test]
    async fn domain_configurations_are_listed_in_pages() {
        let host = TestHost::new().await;
        let item = |name: &str, service: &str| {
            let arn = ARN.replace("gate.1", name);
            json!({
                "domainConfigurationName": name,
                "domainConfigurationArn": arn,
                "serviceType": service,
            })
        };
        for (name, service) in [("c", "DATA"), ("a", "JOBS"), ("b", "CREDENTIAL_PROVIDER")] {
            let body = json!({"serviceType": service}).to_string();
            host.iot("POST", &format!("/domainConfigurations/{name}"), &body).await;
        }
        let first = host.iot("GET", "/domainConfigurations?pageSize=2", "").await;
        let expected = json!([item("a", "JOBS"), item("b", "CREDENTIAL_PROVIDER")]);
        assert_eq!(first["domainConfigurations"], expected);
        let marker = first["nextMarker"].as_str().unwrap();
        let rest = host.iot("GET", &format!("/domainConfigurations?marker={marker}"), "").await;
        assert_eq!(rest, json!({"domainConfigurations": [item("c", "DATA")]}));
        let jobs = host.iot("GET", "/domainConfigurations?serviceType=JOBS", "").await;
        assert_eq!(jobs, json!({"domainConfigurations": [item("a", "JOBS")]}));
    }

    #[tokio::test]
    async fn what_is_no_domain_configuration_is_said() {
        let host = TestHost::new().await;
        host.iot("POST", PATH, r#"{"domainName": "gate.example.com"}"#).await;
        let long = format!("/domainConfigurations/{}", "x".repeat(129));
        let domain = |name: &str| json!({"domainName": name});
        let authorizer = json!({"authorizerConfig": {"defaultAuthorizerName": "a b"}});
        let both = json!({"authorizerConfig": {}, "removeAuthorizerConfig": true});
        let (invalid, exists) = ("InvalidRequestException", "ResourceAlreadyExistsException");
        for (method, target, body, exception, says) in [
            ("POST", PATH, json!({}), exists, "domain configuration gate.1 exists"),
            ("POST", NEW, domain("GATE.example.com"), exists, "gate.1 has this domainName"),
            ("POST", "/domainConfigurations/a:b", json!({}), invalid, "name has a character"),
            ("POST", &long, json!({}), invalid, "has 129 bytes"),
            ("POST", NEW, domain(""), invalid, "domainName must be"),
            ("POST", NEW, domain("a..b"), invalid, "domainName must be"),
            ("POST", NEW, domain("a_b.example"), invalid, "domainName must be"),
            ("POST", NEW, domain("-a.example"), invalid, "domainName must be"),
            ("POST", NEW, domain(&["abc"; 64].join(".")), invalid, "at most 253 bytes"),
            ("POST", NEW, json!({"serviceType": "MQTT"}), invalid, "serviceType must be one of"),
            ("POST", NEW, authorizer, invalid, "authorizer name"),
            ("POST", NEW, json!({"tags": [{"Key": "<"}]}), invalid, "its key"),
            ("PUT", PATH, both, invalid, "not both"),
            ("PUT", PATH, json!({"domainConfigurationStatus": "OFF"}), invalid, "or DISABLED"),
            ("GET", "/domainConfigurations?serviceType=X", json!({}), invalid, "serviceType"),
        ] {
            host.check_refused(method, target, &body.to_string(), exception, says).await;
        }
        // Refused as a whole.
        host.check_refused("GET", NEW, "", "ResourceNotFoundException", "new").await;
        for n in 1..100 {
            host.iot("POST", &format!("/domainConfigurations/{n}"), "").await;
        }
        let limit = "LimitExceededException";
        host.check_refused("POST", NEW, "", limit, "100 domain configurations already").await;
    }

    #[tokio::test]
    async fn what_listeners_decide_is_refused() {
        let host = TestHost::new().await;
        host.iot("POST", PATH, "").await;
        let arn = "arn:aws:acm:us-east-1:123456789012:certificate/1";
        for (body, says) in [
            (
                json!({"serverCertificateArns": [arn]}),
                "serverCertificateArns: server certificates come from the host's configuration",
            ),
            (json!({"validationCertificateArn": arn}), "validationCertificateArn: server"),
            (
                json!({"serverCertificateConfig": {"enableOCSPCheck": true}}),
                "serverCertificateConfig: server",
            ),
            (json!({"tlsConfig": {"securityPolicy": "x"}}), "tlsConfig: "),
            (
                json!({"clientCertificateConfig": {"clientCertificateCallbackArn": "x"}}),
                "clientCertificateConfig: ",
            ),
            (json!({"authenticationType": "AWS_X509"}), "authenticationType: it must be DEFAULT"),
            (json!({"applicationProtocol": "HTTPS"}), "applicationProtocol: it must be DEFAULT"),
        ] {
            for (method, path) in [("POST", NEW), ("PUT", PATH)] {
                let body = body.to_string();
                host.check_refused(method, path, &body, "InvalidRequestException", says).await;
            }
        }
    }
}
