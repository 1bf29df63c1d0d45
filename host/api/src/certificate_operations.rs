//! Operations on the ends of certificates, which AWS does not have: who ends when, renewal of a device's
//! certificate and of the host's own.

use crate::Services;
use crate::call::{Answer, Call, encode_token, epoch_seconds};
use crate::error::{ApiError, Exception};
use crate::iot::certificates::certificate_id;
use crate::router::{Handlers, handlers};
use gnomon_core::ids::ThingName;
use gnomon_core::registry::{Expiring, Page, WARNING_DAYS};
use serde::{Deserialize, Serialize};

pub(crate) const HANDLERS: Handlers = handlers! {
    ListExpiringCertificates => list;
    RenewCertificate => renew;
    RenewHostCertificate => renew_own;
};

/// The certificates that the host itself lives by. Made by the binary, which knows the CA and the
/// listeners.
pub trait HostCertificates: Send + Sync + 'static {
    /// Makes the server's certificate anew; handshakes from now on get it, and connections stay. Runs
    /// where blocking is allowed.
    ///
    /// # Errors
    /// Why not, for the operator.
    fn renew_server(&self) -> Result<Expiring, String>;

    /// Makes the CA's certificate anew, with the same key and name. Likewise.
    ///
    /// # Errors
    /// Why not, for the operator.
    fn renew_ca(&self) -> Result<Expiring, String>;
}

/// A certificate and its end.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExpiringBody {
    certificate_id: String,
    kind: &'static str,
    not_after: f64,
    days_left: u64,
    things: Vec<String>,
}

impl ExpiringBody {
    fn new(expiring: &Expiring, services: &Services) -> Self {
        let things = expiring.things.iter().map(ThingName::to_string);
        Self {
            certificate_id: expiring.id.to_string(),
            kind: expiring.kind.as_str(),
            not_after: epoch_seconds(expiring.not_after),
            days_left: expiring.days_left(services.clock.wall()),
            things: things.collect(),
        }
    }
}

async fn list(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        certificates: Vec<ExpiringBody>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let days = call.query_as("days")?.unwrap_or(WARNING_DAYS[0].into());
    let page = call.page("maxResults", "nextToken")?;
    let Page { items, next } = services.registry.list_expiring(days, page.request()).await?;
    let certificates = items.iter().map(|it| ExpiringBody::new(it, services)).collect();
    Answer::members(&Body { certificates, next_token: next.as_deref().map(encode_token) })
}

async fn renew(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        certificate_signing_request: Option<String>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        certificate_arn: String,
        certificate_id: String,
        certificate_pem: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        private_key: Option<String>,
        overlap_seconds: u64,
    }
    let id = certificate_id(call, "certificateId")?;
    let Members { certificate_signing_request } = call.members()?;
    let registry = &services.registry;
    let renewal = registry.renew_certificate(&id, certificate_signing_request.as_deref()).await?;
    Answer::members(&Body {
        certificate_arn: registry.certificate_arn(&renewal.certificate.id),
        certificate_id: renewal.certificate.id.to_string(),
        certificate_pem: renewal.certificate.pem,
        private_key: renewal.private_key_pem,
        overlap_seconds: renewal.overlap.as_secs(),
    })
}

async fn renew_own(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let own = services.certificates.clone();
    let renew: fn(&dyn HostCertificates) -> _ = match call.label("kind") {
        "server" => |own| own.renew_server(),
        "ca" => |own| own.renew_ca(),
        kind => {
            let message = format!("the host has no certificate {kind:?}; it has server and ca");
            return Err(ApiError::not_found(message));
        }
    };
    let renewed = tokio::task::spawn_blocking(move || renew(&*own)).await;
    let renewed = renewed.map_err(|error| error.to_string()).and_then(|renewed| renewed);
    let renewed = renewed.map_err(|problem| ApiError::new(Exception::InternalFailure, problem))?;
    tracing::info!(principal = call.caller.name(), kind = call.label("kind"), "renewed on demand");
    Answer::members(&ExpiringBody::new(&renewed, services))
}

#[cfg(test)]
mod tests {
    use crate::keys::Role;
    use crate::test_host::TestHost;
    use gnomon_core::registry::CertificateStatus;
    use http::StatusCode;
    use serde_json::{Value, json};
    use std::time::Duration;

    async fn gnomon(host: &TestHost, method: &str, target: &str, body: &str) -> Value {
        let response = host.call("gnomon", method, target, body).await;
        let json = TestHost::json(&response);
        assert_eq!(TestHost::error_type(&response), None, "{json}");
        json
    }

    #[tokio::test]
    async fn what_ends_soon_is_listed() {
        let host = TestHost::new().await;
        let all = gnomon(&host, "GET", "/certificates?days=100000", "").await;
        let kinds = |answer: &Value| -> Vec<String> {
            let items = answer["certificates"].as_array().unwrap().iter();
            items.map(|it| it["kind"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(kinds(&all), ["HOST_CA"]);
        let made = host.iot("POST", "/keys-and-certificate?setAsActive=true", "").await;
        let none = gnomon(&host, "GET", "/certificates", "").await;
        assert_eq!(none, json!({"certificates": []}));
        let all = gnomon(&host, "GET", "/certificates?days=100000&maxResults=1", "").await;
        assert_eq!(kinds(&all), ["HOST_CA", "DEVICE"]);
        assert_eq!(
            all["certificates"][1],
            json!({
                "certificateId": made["certificateId"],
                "kind": "DEVICE",
                "notAfter": 2_524_607_999.0,
                "daysLeft": 8_440,
                "things": [],
            })
        );
        host.iot("POST", "/keys-and-certificate?setAsActive=true", "").await;
        let first = gnomon(&host, "GET", "/certificates?days=100000&maxResults=1", "").await;
        let token = first["nextToken"].as_str().unwrap();
        let target = format!("/certificates?days=100000&maxResults=1&nextToken={token}");
        let second = gnomon(&host, "GET", &target, "").await;
        assert_eq!((kinds(&second), second.get("nextToken")), (vec!["DEVICE".to_owned()], None));
        host.clock.advance(Duration::from_secs(8_420 * 24 * 3_600));
        assert_eq!(kinds(&gnomon(&host, "GET", "/certificates", "").await).len(), 3);
        for bad in ["days=-1", "days=x", "maxResults=0"] {
            let response = host.call("gnomon", "GET", &format!("/certificates?{bad}"), "").await;
            assert_eq!(TestHost::error_type(&response), Some("InvalidRequestException"), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_certificate_is_renewed_with_new_keys_or_for_a_request() {
        let host = TestHost::new().await;
        let made = host.iot("POST", "/keys-and-certificate?setAsActive=true", "").await;
        let id = made["certificateId"].as_str().unwrap();
        let target = format!("/certificates/{id}/renew");
        let renewed = gnomon(&host, "POST", &target, "").await;
        assert!(renewed["privateKey"].as_str().unwrap().contains("PRIVATE KEY"));
        assert_eq!(renewed["overlapSeconds"], 86_400);
        let request = include_str!("../../pki/tests/data/p384-sha256.csr");
        let body = json!({"certificateSigningRequest": request}).to_string();
        let signed = gnomon(&host, "POST", &target, &body).await;
        assert_eq!(signed.get("privateKey"), None);
        let arn = signed["certificateArn"].as_str().unwrap();
        assert!(arn.ends_with(signed["certificateId"].as_str().unwrap()));
        let new = format!("/certificates/{}", signed["certificateId"].as_str().unwrap());
        let described = host.iot("GET", &new, "").await["certificateDescription"].take();
        assert_eq!(described["status"], "ACTIVE");
        assert_eq!(described["certificatePem"], signed["certificatePem"]);
    }

    #[tokio::test]
    async fn what_cannot_be_renewed_is_said() {
        let host = TestHost::new().await;
        let policy = r#"{"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}"#;
        let der = host.device_certificate(policy).await;
        let id = gnomon_core::registry::certificate_id(&der);
        let target = format!("/certificates/{id}/renew");
        let nobody = format!("/certificates/{}/renew", "a".repeat(64));
        for (target, body, expected) in [
            (&*nobody, "", "ResourceNotFoundException"),
            ("/certificates/abc/renew", "", "InvalidRequestException"),
            (&target, "[]", "InvalidRequestException"),
            (&target, r#"{"certificateSigningRequest": "x"}"#, "InvalidRequestException"),
            (&target, r#"{"certificateSigningRequest": 1}"#, "InvalidRequestException"),
            ("/host-certificates/other/renew", "", "ResourceNotFoundException"),
        ] {
            let response = host.call("gnomon", "POST", target, body).await;
            assert_eq!(TestHost::error_type(&response), Some(expected), "{target} {body}");
        }
        host.registry.update_certificate(&id, CertificateStatus::Revoked).await.unwrap();
        let response = host.call("gnomon", "POST", &target, "").await;
        assert_eq!(TestHost::error_type(&response), Some("CertificateStateException"));
    }

    #[tokio::test]
    async fn the_hosts_own_certificates_are_renewed_by_an_administrator() {
        let host = TestHost::new().await;
        let operator = host.keys.create(Role::Operator).await.unwrap();
        let server = "/host-certificates/server/renew";
        let refused = host.call_as(&operator, "gnomon", "POST", server, "").await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        let first = gnomon(&host, "POST", server, "").await;
        assert_eq!((&first["kind"], &first["daysLeft"]), (&json!("SERVER"), &json!(397)));
        let second = gnomon(&host, "POST", server, "").await;
        assert_ne!(first["certificateId"], second["certificateId"]);
        let ca = gnomon(&host, "POST", "/host-certificates/ca/renew", "").await;
        assert_eq!(ca["kind"], "HOST_CA");
    }
}
