//! CA certificates of others, and the code that shows who has their keys.

use crate::Services;
use crate::call::{Answer, Call, encode_token, epoch_seconds};
use crate::error::ApiError;
use crate::iot::certificates::{CertificateSummary, CertificateValidity, certificate_id};
use crate::iot::provisioning::check_body;
use crate::iot::tags::{self, TagBody};
use crate::router::{Handlers, handlers};
use gnomon_core::ids::{CertificateId, TemplateName};
use gnomon_core::registry::{
    CaCertificate, CaRegistration, CaUpdate, RegistrationConfig, Registry, TemplateType,
};
use serde::{Deserialize, Serialize};

pub(crate) const HANDLERS: Handlers = handlers! {
    GetRegistrationCode => code;
    DeleteRegistrationCode => delete_code;
    RegisterCACertificate => register;
    DescribeCACertificate => describe;
    UpdateCACertificate => update;
    DeleteCACertificate => delete;
    ListCACertificates => list;
    ListCertificatesByCA => list_certificates;
};

/// `RegistrationConfig`.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    template_body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template_name: Option<String>,
}

async fn code(services: &Services, _call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        registration_code: String,
    }
    let registration_code = services.registry.registration_code().await?;
    Answer::members(&Body { registration_code })
}

async fn delete_code(services: &Services, _call: &Call<'_>) -> Result<Answer, ApiError> {
    services.registry.delete_registration_code().await?;
    Ok(Answer::empty())
}

async fn register(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        ca_certificate: String,
        verification_certificate: Option<String>,
        registration_config: Option<ConfigBody>,
        certificate_mode: Option<String>,
        #[serde(default)]
        tags: Vec<TagBody>,
    }
    let members: Members = call.members()?;
    let verification_pem = members.verification_certificate.as_deref();
    match members.certificate_mode.as_deref().unwrap_or("DEFAULT") {
        "DEFAULT" if verification_pem.is_none() => {
            return Err(ApiError::invalid_request(
                "verificationCertificate is missing: sign one with the CA's key, with the code of \
                 GetRegistrationCode as common name; or register the CA with certificateMode SNI_ONLY",
            ));
        }
        "SNI_ONLY" if verification_pem.is_some() => {
            let message = "certificateMode SNI_ONLY takes no verificationCertificate";
            return Err(ApiError::invalid_request(message));
        }
        "DEFAULT" | "SNI_ONLY" => {}
        other => {
            let message = format!("certificateMode {other:.40} must be DEFAULT or SNI_ONLY");
            return Err(ApiError::invalid_request(message));
        }
    }
    let tags = tags::parse(members.tags)?;
    let (registration, role_arn) = match members.registration_config {
        None => (None, None),
        Some(config) => registration(services, config).await?,
    };
    let made = services
        .registry
        .register_ca_certificate(CaRegistration {
            ca_pem: &members.ca_certificate,
            verification_pem,
            is_active: call.query_as("setAsActive")?.unwrap_or(false),
            auto_registration: call.query_as("allowAutoRegistration")?.unwrap_or(false),
            registration,
            role_arn,
        })
        .await?;
    services.registry.tag(&resource(&made.id), &tags).await?;
    let certificate_arn = services.registry.ca_certificate_arn(&made.id);
    Answer::members(&RegisteredBody { certificate_arn, certificate_id: made.id.to_string() })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RegisteredBody {
    certificate_arn: String,
    certificate_id: String,
}

async fn describe(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        certificate_description: Description<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        registration_config: Option<ConfigBody>,
    }
    let ca = services.registry.describe_ca_certificate(&ca_id(call)?).await?;
    let registration_config = ca.registration.as_ref().map(|registration| {
        let role_arn = ca.role_arn.clone();
        match registration {
            RegistrationConfig::Body(body) => {
                ConfigBody { template_body: Some(body.clone()), role_arn, template_name: None }
            }
            RegistrationConfig::Named(name) => {
                ConfigBody { template_name: Some(name.to_string()), role_arn, template_body: None }
            }
        }
    });
    let certificate_description = Description::new(&ca, &services.registry);
    Answer::members(&Body { certificate_description, registration_config })
}

async fn update(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        registration_config: Option<ConfigBody>,
        #[serde(default)]
        remove_auto_registration: bool,
    }
    let Members { registration_config, remove_auto_registration } = call.members()?;
    let switch = |parameter, on, off| match call.query(parameter)? {
        None => Ok(None),
        Some(value) if value == on => Ok(Some(true)),
        Some(value) if value == off => Ok(Some(false)),
        Some(value) => Err(ApiError::invalid_request(format!(
            "the query parameter {parameter} is {value:.40}; it must be {on} or {off}"
        ))),
    };
    let mut update = CaUpdate {
        is_active: switch("newStatus", "ACTIVE", "INACTIVE")?,
        auto_registration: switch("newAutoRegistrationStatus", "ENABLE", "DISABLE")?,
        ..CaUpdate::default()
    };
    match registration_config {
        Some(_) if remove_auto_registration => {
            return Err(ApiError::invalid_request(
                "removeAutoRegistration and registrationConfig exclude each other",
            ));
        }
        Some(config) => {
            let (registration, role_arn) = registration(services, config).await?;
            (update.registration, update.role_arn) = (Some(registration), role_arn);
        }
        None if remove_auto_registration => update.registration = Some(None),
        None => {}
    }
    services.registry.update_ca_certificate(&ca_id(call)?, &update).await?;
    Ok(Answer::empty())
}

async fn delete(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let id = ca_id(call)?;
    services.registry.delete_ca_certificate(&id).await?;
    services.registry.forget_tags(&resource(&id)).await?;
    Ok(Answer::empty())
}

async fn list(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    /// AWS: `CACertificate`.
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Item {
        certificate_arn: String,
        certificate_id: String,
        status: &'static str,
        creation_date: f64,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        certificates: Vec<Item>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_marker: Option<String>,
    }
    let page = call.page("pageSize", "marker")?;
    let template = call.query("templateName")?.map(TemplateName::parse).transpose()?;
    let found = services.registry.list_ca_certificates(template.as_ref(), page.request()).await?;
    let item = |ca: &CaCertificate| Item {
        certificate_arn: services.registry.ca_certificate_arn(&ca.id),
        certificate_id: ca.id.to_string(),
        status: status(ca),
        creation_date: epoch_seconds(ca.created_at),
    };
    Answer::members(&Body {
        certificates: found.items.iter().map(item).collect(),
        next_marker: found.next.as_deref().map(encode_token),
    })
}

async fn list_certificates(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        certificates: Vec<CertificateSummary<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_marker: Option<String>,
    }
    let (id, page) = (ca_id(call)?, call.page("pageSize", "marker")?);
    let found = services.registry.list_certificates_by_ca(&id, page.request()).await?;
    let summary = |certificate| CertificateSummary::new(certificate, &services.registry);
    Answer::members(&Body {
        certificates: found.items.iter().map(summary).collect(),
        next_marker: found.next.as_deref().map(encode_token),
    })
}

fn ca_id(call: &Call<'_>) -> Result<CertificateId, ApiError> {
    certificate_id(call, "caCertificateId")
}

fn resource(id: &CertificateId) -> String {
    format!("cacert/{id}")
}

fn status(ca: &CaCertificate) -> &'static str {
    if ca.is_active { "ACTIVE" } else { "INACTIVE" }
}

/// A `registrationConfig` that can be carried out, and its role, which is only kept.
async fn registration(
    services: &Services,
    config: ConfigBody,
) -> Result<(Option<RegistrationConfig>, Option<String>), ApiError> {
    let registration = match (config.template_body, config.template_name) {
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid_request(
                "registrationConfig: templateBody and templateName exclude each other",
            ));
        }
        (Some(body), None) => {
            check_body(&body, TemplateType::Jitp)?;
            Some(RegistrationConfig::Body(body))
        }
        (None, Some(name)) => {
            let name = TemplateName::parse(&name)?;
            let template = services.registry.provisioning_template(&name).await?;
            if template.kind != TemplateType::Jitp {
                let message = format!("provisioning template {name} is not of type JITP");
                return Err(ApiError::invalid_request(message));
            }
            Some(RegistrationConfig::Named(name))
        }
        (None, None) => None,
    };
    Ok((registration, config.role_arn))
}

/// AWS: `CACertificateDescription`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Description<'a> {
    certificate_arn: String,
    certificate_id: &'a str,
    status: &'static str,
    certificate_pem: &'a str,
    owned_by: &'a str,
    creation_date: f64,
    auto_registration_status: &'static str,
    last_modified_date: f64,
    customer_version: u32,
    generation_id: &'a str,
    validity: CertificateValidity,
    certificate_mode: &'static str,
}

impl<'a> Description<'a> {
    fn new(ca: &'a CaCertificate, registry: &'a Registry) -> Self {
        Self {
            certificate_arn: registry.ca_certificate_arn(&ca.id),
            certificate_id: ca.id.as_str(),
            status: status(ca),
            certificate_pem: &ca.pem,
            owned_by: &registry.account().id,
            creation_date: epoch_seconds(ca.created_at),
            auto_registration_status: if ca.auto_registration { "ENABLE" } else { "DISABLE" },
            last_modified_date: epoch_seconds(ca.modified_at),
            customer_version: ca.customer_version,
            generation_id: &ca.generation_id,
            validity: CertificateValidity {
                not_before: epoch_seconds(ca.not_before),
                not_after: epoch_seconds(ca.not_after),
            },
            certificate_mode: ca.mode.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::test_ca::TestCa;
    use crate::test_host::TestHost;
    use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType, date_time_ymd};
    use serde_json::{Value, json};

    const INVALID: &str = "CertificateValidationException";

    async fn verification(host: &TestHost, ca: &TestCa) -> String {
        let code = host.iot("GET", "/registrationcode", "").await;
        ca.sign(code["registrationCode"].as_str().unwrap())
    }

    /// Registers the CA, active, and gives its id.
    async fn registered(host: &TestHost, ca: &TestCa) -> String {
        let body = json!({
            "caCertificate": ca.pem,
            "verificationCertificate": verification(host, ca).await,
        });
        let made = host.iot("POST", "/cacertificate?setAsActive=true", &body.to_string()).await;
        made["certificateId"].as_str().unwrap().to_owned()
    }

    fn certificate(pem: &str) -> String {
        json!({"certificatePem": pem, "status": "ACTIVE"}).to_string()
    }

    #[tokio::test]
    async fn a_ca_is_registered_described_changed_and_removed() {
        let host = TestHost::new().await;
        let ca = TestCa::new("Acme Devices");
        let body = json!({
            "caCertificate": ca.pem,
            "verificationCertificate": verification(&host, &ca).await,
            "tags": [{"Key": "site", "Value": "hall"}],
        });
        let target = "/cacertificate?setAsActive=true&allowAutoRegistration=true";
        let made = host.iot("POST", target, &body.to_string()).await;
        let id = made["certificateId"].as_str().unwrap();
        let arn = format!("arn:aws:iot:us-east-1:123456789012:cacert/{id}");
        assert_eq!(made["certificateArn"], *arn);
        let target = format!("/cacertificate/{id}");
        let described = host.iot("GET", &target, "").await;
        let description = &described["certificateDescription"];
        assert_eq!(
            *description,
            json!({
                "certificateArn": arn,
                "certificateId": id,
                "status": "ACTIVE",
                "certificatePem": ca.pem,
                "ownedBy": "123456789012",
                "creationDate": 1_795_435_200.5,
                "autoRegistrationStatus": "ENABLE",
                "lastModifiedDate": 1_795_435_200.5,
                "customerVersion": 1,
                "generationId": description["generationId"],
                "validity": {"notBefore": 1_767_225_600.0, "notAfter": 2_082_758_400.0},
                "certificateMode": "DEFAULT",
            })
        );
        let again = host.call("iot", "POST", "/cacertificate", &body.to_string()).await;
        assert_eq!(TestHost::error_type(&again), Some("ResourceAlreadyExistsException"));
        assert_eq!(TestHost::json(&again)["resourceArn"], *arn);

        let listed = host.iot("GET", "/cacertificates", "").await;
        assert_eq!(listed["certificates"][0]["certificateId"], id);
        let active = "CertificateStateException";
        host.check_refused("DELETE", &target, "", active, "make it INACTIVE first").await;
        let off = format!("{target}?newStatus=INACTIVE&newAutoRegistrationStatus=DISABLE");
        host.iot("PUT", &off, "").await;
        let description = host.iot("GET", &target, "").await["certificateDescription"].clone();
        assert_eq!(description["status"], "INACTIVE");
        assert_eq!(description["autoRegistrationStatus"], "DISABLE");
        assert_eq!(description["customerVersion"], 2);
        host.iot("DELETE", &target, "").await;
        host.check_refused("GET", &target, "", "ResourceNotFoundException", id).await;
        let listed = host.iot("GET", "/cacertificates", "").await;
        assert_eq!(listed["certificates"], json!([]));
    }

    #[tokio::test]
    async fn a_ca_tells_its_life_when_its_events_are_enabled() {
        let (host, ca) = (TestHost::new().await, TestCa::new("Acme"));
        let (seen, _receiver) = host.listen(&["$aws/events/#"]);
        let events = r#"{"eventConfigurations": {"CA_CERTIFICATE": {"Enabled": true}}}"#;
        host.iot("PATCH", "/event-configurations", events).await;
        let id = registered(&host, &ca).await;
        let again = json!({"caCertificate": ca.pem, "certificateMode": "SNI_ONLY"}).to_string();
        let exists = "ResourceAlreadyExistsException";
        host.check_refused("POST", "/cacertificate", &again, exists, &id).await;
        let target = format!("/cacertificate/{id}");
        // The second changes nothing.
        for _ in 0..2 {
            host.iot("PUT", &format!("{target}?newAutoRegistrationStatus=ENABLE"), "").await;
        }
        let active = "CertificateStateException";
        host.check_refused("DELETE", &target, "", active, "ACTIVE").await;
        host.iot("PUT", &format!("{target}?newStatus=INACTIVE"), "").await;
        host.iot("DELETE", &target, "").await;
        let said = |operation: &str, status: &str, registers: &str, version: u32| {
            json!({
                "topic": format!("$aws/events/caCertificates/{id}/{}", operation.to_lowercase()),
                "eventType": "CA_CERTIFICATE_EVENT",
                "timestamp": 1_795_435_200_500_u64,
                "operation": operation,
                "accountId": "123456789012",
                "caCertificateId": id,
                "caCertificateArn": format!("arn:aws:iot:us-east-1:123456789012:cacert/{id}"),
                "status": status,
                "autoRegistrationStatus": registers,
                "customerVersion": version,
            })
        };
        let expected = [
            said("CREATED", "ACTIVE", "DISABLE", 1),
            said("UPDATED", "ACTIVE", "ENABLE", 2),
            said("UPDATED", "INACTIVE", "ENABLE", 3),
            said("DELETED", "INACTIVE", "ENABLE", 3),
        ];
        let heard = std::mem::take(&mut *seen.0.lock().unwrap());
        let heard = heard.iter().map(|message| {
            let mut event: Value = serde_json::from_slice(&message.payload).unwrap();
            event["topic"] = message.topic.as_str().into();
            assert!(event.as_object_mut().unwrap().remove("eventId").is_some());
            event
        });
        assert_eq!(heard.collect::<Vec<_>>(), expected);
    }

    #[tokio::test]
    async fn who_has_not_the_key_of_a_ca_does_not_register_it() {
        let host = TestHost::new().await;
        let (ca, other) = (TestCa::new("Acme"), TestCa::new("Acme"));
        let body = |verification: &str| {
            json!({"caCertificate": ca.pem, "verificationCertificate": verification}).to_string()
        };
        let code = "RegistrationCodeValidationException";
        for (verification, exception, says) in [
            (verification(&host, &other).await, INVALID, "not signed by the key of caCertificate"),
            (ca.sign("some other name"), code, "registration code"),
            ("nothing".to_owned(), INVALID, "verificationCertificate: is no PEM block"),
        ] {
            let body = body(&verification);
            host.check_refused("POST", "/cacertificate", &body, exception, says).await;
        }
        let used = verification(&host, &ca).await;
        host.iot("DELETE", "/registrationcode", "").await;
        host.check_refused("POST", "/cacertificate", &body(&used), code, "registration code").await;

        let no_ca = TestCa::with("No CA", |params| params.is_ca = IsCa::NoCa).pem;
        let silent = TestCa::with("No signatures", |params| {
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        });
        let old = TestCa::with("Old", |params| params.not_after = date_time_ymd(2026, 6, 1)).pem;
        let early = TestCa::with("Early", |params| params.not_before = date_time_ymd(2030, 1, 1));
        for (pem, says) in [
            (no_ca, "lack CA:TRUE"),
            (silent.pem, "without keyCertSign"),
            (old, "has expired"),
            (early.pem, "is not valid yet"),
            ("x".repeat(70_000), "more than 65536 bytes"),
        ] {
            let body = json!({"caCertificate": pem, "certificateMode": "SNI_ONLY"}).to_string();
            host.check_refused("POST", "/cacertificate", &body, INVALID, says).await;
        }
        let bad = "InvalidRequestException";
        for (body, says) in [
            (json!({"caCertificate": ca.pem}), "verificationCertificate is missing"),
            (json!({}), "caCertificate"),
            (json!({"caCertificate": ca.pem, "certificateMode": "X"}), "DEFAULT or SNI_ONLY"),
            (
                json!({"caCertificate": ca.pem, "certificateMode": "SNI_ONLY",
                    "verificationCertificate": "x"}),
                "takes no verificationCertificate",
            ),
        ] {
            host.check_refused("POST", "/cacertificate", &body.to_string(), bad, says).await;
        }
        let nobody = format!("/cacertificate/{}", "a".repeat(64));
        let missing = "ResourceNotFoundException";
        host.check_refused("DELETE", &nobody, "", missing, "does not exist").await;
        host.check_refused("PUT", &format!("{nobody}?newStatus=X"), "", bad, "ACTIVE or").await;
    }

    #[tokio::test]
    async fn certificates_of_a_registered_ca_are_registered() {
        let host = TestHost::new().await;
        let ca = TestCa::new("Acme");
        let device = ca.sign("device-1");
        let path = "/certificate/register";
        let says = "no registered CA certificate signed it";
        host.check_refused("POST", path, &certificate(&device), INVALID, says).await;
        let id = registered(&host, &ca).await;
        let made = host.iot("POST", path, &certificate(&device)).await;
        let target = format!("/certificates/{}", made["certificateId"].as_str().unwrap());
        let description = host.iot("GET", &target, "").await["certificateDescription"].clone();
        assert_eq!(description["caCertificateId"], *id);
        assert_eq!(description["certificateMode"], "DEFAULT");
        assert_eq!(description["status"], "ACTIVE");
        host.iot("POST", path, &certificate(&ca.sign("device-2"))).await;
        let listed: Value =
            host.iot("GET", &format!("/certificates-by-ca/{id}?pageSize=1"), "").await;
        let marker = listed["nextMarker"].as_str().unwrap();
        let rest = format!("/certificates-by-ca/{id}?pageSize=1&marker={marker}");
        let rest = host.iot("GET", &rest, "").await;
        assert_eq!(rest["certificates"].as_array().unwrap().len(), 1);
        assert_eq!(rest.get("nextMarker"), None);

        let stranger = TestCa::new("Acme").sign("device-3");
        host.check_refused("POST", path, &certificate(&stranger), INVALID, says).await;
        // Two certificates of one CA: both could have signed.
        let twin = ca.again("Acme");
        let body = json!({"caCertificate": twin, "certificateMode": "SNI_ONLY"}).to_string();
        host.iot("POST", "/cacertificate?setAsActive=true", &body).await;
        let conflict = "CertificateConflictException";
        let third = ca.sign("device-3");
        host.check_refused("POST", path, &certificate(&third), conflict, "caCertificatePem").await;
        let body = json!({"certificatePem": third, "caCertificatePem": twin}).to_string();
        host.iot("POST", &format!("{path}?setAsActive=true"), &body).await;

        host.iot("PUT", &format!("/cacertificate/{id}?newStatus=INACTIVE"), "").await;
        let body = json!({"certificatePem": ca.sign("device-4"), "caCertificatePem": ca.pem});
        let state = "CertificateStateException";
        host.check_refused("POST", path, &body.to_string(), state, "is INACTIVE").await;
    }

    #[tokio::test]
    async fn a_certificate_that_is_of_no_use_is_refused() {
        let host = TestHost::new().await;
        let ca = TestCa::new("Acme");
        registered(&host, &ca).await;
        let cases = [
            (
                ca.sign_with("server", |params| {
                    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                }),
                "without clientAuth",
            ),
            (
                ca.sign_with("encipherment", |params| {
                    params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
                }),
                "without digitalSignature",
            ),
            (
                ca.sign_with("old", |params| params.not_after = date_time_ymd(2026, 6, 1)),
                "has expired",
            ),
            (include_str!("../../tests/data/sha1.pem").to_owned(), "is signed with the algorithm"),
            (include_str!("../../tests/data/rsa-512.pem").to_owned(), "RSA key of 512 bits"),
            (include_str!("../../tests/data/rsa-1024.pem").to_owned(), "RSA key of 1024 bits"),
            (include_str!("../../tests/data/rsa-16384.pem").to_owned(), "RSA key of 16384 bits"),
            (format!("{}{}", ca.sign("a"), ca.sign("b")), "more than one PEM block"),
            (ca.sign("a").replacen("MII", "MAA", 1), "does not hold a certificate"),
        ];
        for path in ["/certificate/register", "/certificate/register-no-ca"] {
            for (pem, says) in &cases {
                host.check_refused("POST", path, &certificate(pem), INVALID, says).await;
            }
        }
        // Names are no matter: whoever has a registered certificate is the one who has it.
        let names = (0..500).map(|n| SanType::URI(format!("urn:{n}").try_into().unwrap()));
        let many = ca.sign_with("names", |params| params.subject_alt_names = names.collect());
        host.iot("POST", "/certificate/register", &certificate(&many)).await;
        let serial = |name| ca.sign_with(name, |params| params.serial_number = Some(7.into()));
        for pem in [serial("same serial"), serial("same serial too")] {
            host.iot("POST", "/certificate/register", &certificate(&pem)).await;
        }
        let early = |params: &mut rcgen::CertificateParams| {
            params.not_before = date_time_ymd(2030, 1, 1);
        };
        host.iot("POST", "/certificate/register", &certificate(&ca.sign_with("early", early)))
            .await;
    }
}
