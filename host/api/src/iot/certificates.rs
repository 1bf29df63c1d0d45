//! Certificates: made here, from a signing request, or registered; described, switched, removed.

use crate::Services;
use crate::call::{Answer, Call, encode_token, epoch_seconds};
use crate::error::ApiError;
use crate::iot::certificate_transfers::TransferData;
use crate::router::{Handlers, handlers};
use gnomon_core::ids::CertificateId;
use gnomon_core::registry::{Certificate, CertificateStatus, Registry};
use serde::{Deserialize, Serialize};

pub(crate) const HANDLERS: Handlers = handlers! {
    CreateKeysAndCertificate => create_keys_and_certificate;
    CreateCertificateFromCsr => create_certificate_from_csr;
    RegisterCertificate => register_certificate;
    RegisterCertificateWithoutCA => register_certificate_without_ca;
    DescribeCertificate => describe_certificate;
    UpdateCertificate => update_certificate;
    DeleteCertificate => delete_certificate;
    ListCertificates => list_certificates;
};

/// What the operations that make a certificate answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MadeBody<'a> {
    certificate_arn: String,
    certificate_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_pem: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_pair: Option<KeyPair<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct KeyPair<'a> {
    public_key: &'a str,
    private_key: &'a str,
}

async fn create_keys_and_certificate(
    services: &Services,
    call: &Call<'_>,
) -> Result<Answer, ApiError> {
    let active = call.query_as("setAsActive")?.unwrap_or(false);
    let issued = services.registry.create_keys_and_certificate(active).await?;
    let key_pair =
        KeyPair { public_key: &issued.public_key_pem, private_key: &issued.private_key_pem };
    let body = MadeBody::new(&issued.certificate, &services.registry);
    Answer::members(&MadeBody { key_pair: Some(key_pair), ..body })
}

async fn create_certificate_from_csr(
    services: &Services,
    call: &Call<'_>,
) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        certificate_signing_request: String,
    }
    let Members { certificate_signing_request } = call.members()?;
    let active = call.query_as("setAsActive")?.unwrap_or(false);
    let registry = &services.registry;
    let made = registry.create_certificate_from_csr(&certificate_signing_request, active).await?;
    Answer::members(&MadeBody::new(&made, registry))
}

async fn register_certificate(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        certificate_pem: String,
        ca_certificate_pem: Option<String>,
        status: Option<String>,
    }
    let Members { certificate_pem, ca_certificate_pem, status } = call.members()?;
    // The deprecated form of `status`, which wins.
    let active = call.query_as("setAsActive")?.unwrap_or(false);
    let default = if active { "ACTIVE" } else { "INACTIVE" };
    let status = CertificateStatus::parse(status.as_deref().unwrap_or(default))?;
    let (registry, ca_pem) = (&services.registry, ca_certificate_pem.as_deref());
    let registered = registry.register_certificate(&certificate_pem, ca_pem, status).await?;
    Answer::members(&MadeBody { certificate_pem: None, ..MadeBody::new(&registered, registry) })
}

async fn register_certificate_without_ca(
    services: &Services,
    call: &Call<'_>,
) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        certificate_pem: String,
        status: Option<String>,
    }
    let Members { certificate_pem, status } = call.members()?;
    let status = CertificateStatus::parse(status.as_deref().unwrap_or("INACTIVE"))?;
    let registry = &services.registry;
    let registered = registry.register_certificate_without_ca(&certificate_pem, status).await?;
    Answer::members(&MadeBody { certificate_pem: None, ..MadeBody::new(&registered, registry) })
}

async fn describe_certificate(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        certificate_description: CertificateDescription<'a>,
    }
    let certificate =
        services.registry.describe_certificate(&certificate_id(call, "certificateId")?).await?;
    let certificate_description = CertificateDescription::new(&certificate, &services.registry);
    Answer::members(&Body { certificate_description })
}

async fn update_certificate(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let Some(status) = call.query("newStatus")? else {
        return Err(ApiError::invalid_request("the query parameter newStatus is missing"));
    };
    let status = CertificateStatus::parse(status)?;
    services.registry.update_certificate(&certificate_id(call, "certificateId")?, status).await?;
    Ok(Answer::empty())
}

async fn delete_certificate(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let force = call.query_as("forceDelete")?.unwrap_or(false);
    services.registry.delete_certificate(&certificate_id(call, "certificateId")?, force).await?;
    Ok(Answer::empty())
}

async fn list_certificates(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        certificates: Vec<CertificateSummary<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_marker: Option<String>,
    }
    let page = call.page("pageSize", "marker")?;
    let found = services.registry.list_certificates(page.request()).await?;
    let summary = |certificate| CertificateSummary::new(certificate, &services.registry);
    Answer::members(&Body {
        certificates: found.items.iter().map(summary).collect(),
        next_marker: found.next.as_deref().map(encode_token),
    })
}

/// A label that is the id of a certificate; AWS takes it in either case.
pub(crate) fn certificate_id(call: &Call<'_>, label: &str) -> Result<CertificateId, ApiError> {
    let text = call.label(label).to_ascii_lowercase();
    let id = CertificateId::parse(&text)?;
    if text.len() < 64 {
        return Err(ApiError::invalid_request("certificate id is shorter than 64 digits"));
    }
    Ok(id)
}

impl<'a> MadeBody<'a> {
    fn new(certificate: &'a Certificate, registry: &Registry) -> Self {
        Self {
            certificate_arn: registry.certificate_arn(&certificate.id),
            certificate_id: certificate.id.as_str(),
            certificate_pem: Some(&certificate.pem),
            key_pair: None,
        }
    }
}

/// An item of ListCertificates.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CertificateSummary<'a> {
    certificate_arn: String,
    certificate_id: &'a str,
    status: &'static str,
    certificate_mode: &'static str,
    creation_date: f64,
}

impl<'a> CertificateSummary<'a> {
    pub(crate) fn new(certificate: &'a Certificate, registry: &Registry) -> Self {
        Self {
            certificate_arn: registry.certificate_arn(&certificate.id),
            certificate_id: certificate.id.as_str(),
            status: certificate.status.as_str(),
            certificate_mode: certificate.mode.as_str(),
            creation_date: epoch_seconds(certificate.created_at),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CertificateDescription<'a> {
    #[serde(flatten)]
    summary: CertificateSummary<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_certificate_id: Option<&'a str>,
    certificate_pem: &'a str,
    owned_by: String,
    last_modified_date: f64,
    customer_version: u32,
    generation_id: &'a str,
    validity: CertificateValidity,
    /// Empty when it was never offered to another account, as on AWS.
    transfer_data: TransferData,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CertificateValidity {
    pub(crate) not_before: f64,
    pub(crate) not_after: f64,
}

impl<'a> CertificateDescription<'a> {
    fn new(certificate: &'a Certificate, registry: &Registry) -> Self {
        Self {
            summary: CertificateSummary::new(certificate, registry),
            ca_certificate_id: certificate.ca.as_ref().map(CertificateId::as_str),
            certificate_pem: &certificate.pem,
            owned_by: registry.account().id.to_string(),
            last_modified_date: epoch_seconds(certificate.modified_at),
            customer_version: certificate.customer_version,
            generation_id: &certificate.generation_id,
            validity: CertificateValidity {
                not_before: epoch_seconds(certificate.not_before),
                not_after: epoch_seconds(certificate.not_after),
            },
            transfer_data: certificate.transfer.as_ref().map(TransferData::new).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use http::StatusCode;
    use serde_json::json;

    #[tokio::test]
    async fn a_certificate_is_made_with_keys_switched_and_removed() {
        let host = TestHost::new().await;
        let made = host.iot("POST", "/keys-and-certificate?setAsActive=true", "").await;
        let id = made["certificateId"].as_str().unwrap();
        let arn = format!("arn:aws:iot:us-east-1:123456789012:cert/{id}");
        assert_eq!(made["certificateArn"], *arn);
        let begins = |value: &serde_json::Value, label: &str| {
            assert!(value.as_str().unwrap().starts_with(&format!("-----BEGIN {label}-----")));
        };
        begins(&made["certificatePem"], "CERTIFICATE");
        begins(&made["keyPair"]["PublicKey"], "PUBLIC KEY");
        begins(&made["keyPair"]["PrivateKey"], "PRIVATE KEY");

        let target = format!("/certificates/{id}");
        let described = &host.iot("GET", &target, "").await["certificateDescription"];
        assert_eq!(
            *described,
            json!({
                "certificateArn": arn,
                "certificateId": id,
                "status": "ACTIVE",
                "certificateMode": "DEFAULT",
                "certificatePem": made["certificatePem"],
                "ownedBy": "123456789012",
                "creationDate": 1_795_435_200.5,
                "lastModifiedDate": 1_795_435_200.5,
                "customerVersion": 1,
                "generationId": described["generationId"],
                "validity": {"notBefore": 1_795_348_800.0, "notAfter": 2_524_607_999.0},
                "transferData": {},
            })
        );
        let active = host.call("iot", "DELETE", &target, "").await;
        assert_eq!(active.status(), StatusCode::NOT_ACCEPTABLE);
        assert_eq!(TestHost::error_type(&active), Some("CertificateStateException"));
        host.iot("PUT", &format!("{target}?newStatus=INACTIVE"), "").await;
        let listed = host.iot("GET", "/certificates", "").await;
        assert_eq!(
            listed["certificates"],
            json!([{
                "certificateArn": arn,
                "certificateId": id,
                "status": "INACTIVE",
                "certificateMode": "DEFAULT",
                "creationDate": 1_795_435_200.5,
            }])
        );
        host.iot("DELETE", &target.to_uppercase().replace("CERTIFICATES", "certificates"), "")
            .await;
        host.check_refused("GET", &target, "", "ResourceNotFoundException", id).await;
    }

    #[tokio::test]
    async fn certificates_of_others_and_signing_requests_are_taken() {
        let host = TestHost::new().await;
        let pem = include_str!("../../../core/tests/data/device-1.pem");
        let body = json!({"certificatePem": pem, "status": "ACTIVE"}).to_string();
        let registered = host.iot("POST", "/certificate/register-no-ca", &body).await;
        assert_eq!(registered.get("certificatePem"), None);
        let again = host.call("iot", "POST", "/certificate/register-no-ca", &body).await;
        assert_eq!(again.status(), StatusCode::CONFLICT);
        assert_eq!(TestHost::json(&again)["resourceId"], registered["certificateId"]);

        let request = include_str!("../../../pki/tests/data/p384-sha256.csr");
        let body = json!({"certificateSigningRequest": request}).to_string();
        let signed = host.iot("POST", "/certificates?setAsActive=true", &body).await;
        assert_eq!(signed.get("keyPair"), None);
        assert!(signed["certificatePem"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
        let listed = host.iot("GET", "/certificates?pageSize=1", "").await;
        let marker = listed["nextMarker"].as_str().unwrap();
        let rest = host.iot("GET", &format!("/certificates?pageSize=1&marker={marker}"), "").await;
        assert_eq!(rest["certificates"].as_array().unwrap().len(), 1);
        assert_eq!(rest.get("nextMarker"), None);
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_certificate_is_said() {
        let host = TestHost::new().await;
        let nobody = format!("/certificates/{}", "a".repeat(64));
        let cases = [
            ("GET", &*nobody, "", "ResourceNotFoundException", "does not exist"),
            ("GET", "/certificates/abc", "", "InvalidRequestException", "certificate id"),
            ("GET", "/certificates/xyz", "", "InvalidRequestException", "certificate id"),
            ("PUT", &nobody, "", "InvalidRequestException", "newStatus is missing"),
            (
                "PUT",
                &format!("{nobody}?newStatus=PENDING_TRANSFER"),
                "",
                "InvalidRequestException",
                "ACTIVE, INACTIVE or REVOKED",
            ),
            ("POST", "/certificates", "{}", "InvalidRequestException", "certificateSigningRequest"),
            (
                "POST",
                "/certificates",
                r#"{"certificateSigningRequest": "x"}"#,
                "InvalidRequestException",
                "certificateSigningRequest is no PEM block",
            ),
            (
                "POST",
                "/certificate/register-no-ca",
                r#"{"certificatePem": "x"}"#,
                "CertificateValidationException",
                "certificatePem: is no PEM block",
            ),
        ];
        for (method, target, body, exception, says) in cases {
            host.check_refused(method, target, body, exception, says).await;
        }
    }
}
