//! AWS-compatible REST: every AWS SDK and the AWS CLI are clients of Gnomon.
//!
//! In: whole requests, by the port [`gnomon_core::adapter::HttpHandler`]. Out: whole responses.
//! Not here: sockets (`gnomon-gateway`), what things, rules and shadows are (`gnomon-core`).
//!
//! A request passes [`sigv4`] (who signed it), `router` (which operation it is), the role of its
//! key ([`keys`]), and then the handler of its operation, in the module of its resource.

mod administration;
mod call;
mod client;
mod error;
mod health;
mod iot;
mod iot_data;
pub mod keys;
mod operations;
mod router;
mod signature;
pub mod sigv4;
#[cfg(test)]
mod test_host;

use async_trait::async_trait;
use bytes::Bytes;
use call::{Answer, Call, Caller};
pub use client::{Client, ClientError};
pub use error::{ApiError, Exception};
use gnomon_core::adapter::{HttpHandler, HttpRequest};
use gnomon_core::broker::Broker;
use gnomon_core::ids::Account;
use gnomon_core::limits::Limits;
use gnomon_core::metrics::Metrics;
use gnomon_core::random::{self, Random};
use gnomon_core::time::Clock;
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use keys::{Keys, Role};
use operations::Access;
use router::{Router, Service};
pub use signature::Signatures;
use sigv4::SignatureError;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What the operations work on.
pub struct Services {
    /// Region and account of all ARNs; signatures must name this region.
    pub account: Account,
    /// `http_body_bytes` bounds bodies.
    pub limits: Arc<Limits>,
    /// What `GetMetrics` prints; `api_requests` and `api_denied` are counted here.
    pub metrics: Arc<Metrics>,
    /// For the age of signatures.
    pub clock: Arc<dyn Clock>,
    /// For request ids.
    pub random: Arc<dyn Random>,
    /// Who may call.
    pub keys: Keys,
    /// Where `Publish` publishes.
    pub broker: Broker,
    /// Host that devices connect to, without scheme and port; what `DescribeEndpoint` says.
    pub endpoint: Arc<str>,
    /// What `GetHealth` says; set by whoever starts and stops the host.
    pub ready: Arc<AtomicBool>,
    /// Names of listeners that only this machine can reach: there, health and metrics are
    /// answered without a signature.
    pub loopback_listeners: Vec<Arc<str>>,
}

/// The REST API.
pub struct Api {
    services: Services,
    signatures: Signatures,
    router: Router,
}

impl Api {
    /// An API over these services.
    pub fn new(services: Services) -> Self {
        let Services { keys, clock, account, .. } = &services;
        let signatures = Signatures::new(keys.clone(), clock.clone(), account.region.clone());
        Self { services, signatures, router: Router::new() }
    }

    async fn answer(
        &self,
        listener: &Arc<str>,
        parts: &Parts,
        body: &Bytes,
    ) -> Result<Answer, ApiError> {
        if body.len() > self.services.limits.http_body_bytes as usize {
            return Err(ApiError::new(
                Exception::RequestEntityTooLarge,
                format!("the body has more than {} bytes", self.services.limits.http_body_bytes),
            ));
        }
        let (key, scope) = match self.signatures.check(parts, body).await {
            Err(error) if error.exception == Exception::MissingAuthenticationToken => {
                return self.answer_unsigned(listener, parts).ok_or(error)?;
            }
            checked => checked?,
        };
        let service = Service::of_scope(&scope.service).ok_or_else(|| {
            let name = &scope.service;
            let message = format!(
                "this host has no service {name}; it serves iot, iotdata and gnomon (the service \
                 is taken from the scope of the signature)"
            );
            ApiError::new(Exception::NotImplemented, message)
        })?;
        let (operation, handler, labels) =
            self.router.find(service, &parts.method, parts.uri.path())?;
        if !allows(key.role, operation.access) {
            return Err(ApiError::new(
                Exception::AccessDenied,
                format!("the access key {} ({}) may not {}", key.id, key.role, operation.name),
            ));
        }
        let call = Call {
            caller: Caller { access_key_id: key.id },
            body,
            labels,
            query: sigv4::decode_query(parts.uri.query().unwrap_or_default()),
            headers: &parts.headers,
        };
        tracing::debug!(
            principal = call.caller.access_key_id,
            operation = operation.name,
            "REST call"
        );
        handler(&self.services, &call).await
    }

    /// What needs no signature; `None` when this request is none of it.
    fn answer_unsigned(
        &self,
        listener: &Arc<str>,
        parts: &Parts,
    ) -> Option<Result<Answer, ApiError>> {
        let is_loopback = self.services.loopback_listeners.contains(listener);
        match (&parts.method, parts.uri.path()) {
            (&Method::GET, "/health") if is_loopback => Some(health::health(&self.services)),
            (&Method::GET, "/metrics") if is_loopback => Some(Ok(health::metrics(&self.services))),
            _ => None,
        }
    }
}

#[async_trait]
impl HttpHandler for Api {
    async fn handle(&self, request: HttpRequest) -> Response<Bytes> {
        let request_id = random::uuid(&*self.services.random);
        self.services.metrics.api_requests.increment();
        let HttpRequest { listener, peer, http, .. } = request;
        let (parts, body) = http.into_parts();
        let mut response = match self.answer(&listener, &parts, &body).await {
            Ok(answer) => answer.into_response(),
            Err(error) => {
                if is_denial(error.exception) {
                    self.services.metrics.api_denied.increment();
                    tracing::warn!(
                        listener = &*listener,
                        remote = %peer,
                        request_id,
                        error = %error,
                        "REST call refused"
                    );
                }
                error.into_response()
            }
        };
        let request_id = HeaderValue::from_str(&request_id).expect("a UUID is visible ASCII");
        response.headers_mut().insert("x-amzn-requestid", request_id);
        response
    }
}

fn allows(role: Role, access: Access) -> bool {
    let most = match role {
        Role::ReadOnly => Access::Read,
        Role::Operator => Access::Write,
        Role::Administrator => Access::Administer,
    };
    access <= most
}

impl From<SignatureError> for ApiError {
    fn from(error: SignatureError) -> Self {
        let exception = match error {
            SignatureError::Missing => Exception::MissingAuthenticationToken,
            SignatureError::Incomplete(_) => Exception::IncompleteSignature,
            SignatureError::SessionToken => Exception::UnrecognizedClient,
            SignatureError::Path => Exception::InvalidRequest,
            SignatureError::Unsigned(_)
            | SignatureError::Payload
            | SignatureError::Time { .. }
            | SignatureError::Mismatch => Exception::InvalidSignature,
        };
        Self::new(exception, error.to_string())
    }
}

/// Refusals that say something about the caller, not about what was asked.
fn is_denial(exception: Exception) -> bool {
    matches!(
        exception,
        Exception::AccessDenied
            | Exception::IncompleteSignature
            | Exception::InvalidSignature
            | Exception::MissingAuthenticationToken
            | Exception::UnrecognizedClient
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{AccessKey, Status};
    use crate::test_host::TestHost;
    use gnomon_core::storage::Fault;
    use http::{Request, StatusCode};
    use serde_json::{Value, json};

    #[tokio::test]
    async fn every_answer_has_its_own_request_id() {
        let host = TestHost::new().await;
        let first = host.call("iot", "GET", "/endpoint", "").await;
        let second = host.call("nothing", "GET", "/", "").await;
        let id = |response: &Response<Bytes>| response.headers()["x-amzn-requestid"].clone();
        assert_eq!(id(&first).len(), 36);
        assert_ne!(id(&first), id(&second));
    }

    #[tokio::test]
    async fn who_cannot_be_recognized_is_refused() {
        let host = TestHost::new().await;
        let sign = |key: &AccessKey, region: &str| {
            let mut request = TestHost::request("GET", "/endpoint", "");
            sigv4::sign(&mut request, &key.id, &key.secret, region, "iot", host.clock.wall());
            request
        };
        let good = host.key.clone();
        let unknown = AccessKey { id: "AKIA0000000000000000".into(), ..good.clone() };
        let odd = AccessKey { id: "..".into(), ..good.clone() };
        let wrong = AccessKey { secret: "0".repeat(40), ..good.clone() };
        let retired = host.keys.create(Role::Operator).await.unwrap();
        host.keys.set_status(&retired.id, Status::Inactive).await.unwrap();
        for (key, region, expected) in [
            (&good, "us-east-1", None),
            (&good, "eu-west-1", Some("InvalidSignatureException")),
            (&unknown, "us-east-1", Some("UnrecognizedClientException")),
            (&odd, "us-east-1", Some("UnrecognizedClientException")),
            (&retired, "us-east-1", Some("UnrecognizedClientException")),
            (&wrong, "us-east-1", Some("InvalidSignatureException")),
        ] {
            let response = host.send(sign(key, region)).await;
            assert_eq!(TestHost::error_type(&response), expected, "{key:?} {region}");
        }
        let unsigned = host.send(TestHost::request("GET", "/endpoint", "")).await;
        assert_eq!(unsigned.status(), StatusCode::FORBIDDEN);
        assert_eq!(TestHost::error_type(&unsigned), Some("MissingAuthenticationTokenException"));
        assert_eq!(host.metrics.api_denied.get(), 6);
        assert_eq!(host.metrics.api_requests.get(), 7);
    }

    #[tokio::test]
    async fn a_role_allows_what_it_says() {
        let host = TestHost::new().await;
        for (role, operation, expected) in [
            (Role::ReadOnly, ("iot", "GET", "/endpoint"), None),
            (Role::ReadOnly, ("gnomon", "GET", "/metrics"), None),
            (Role::ReadOnly, ("iotdata", "POST", "/topics/a"), Some("AccessDeniedException")),
            (Role::ReadOnly, ("gnomon", "GET", "/keys"), Some("AccessDeniedException")),
            (Role::Operator, ("iotdata", "POST", "/topics/a"), None),
            (Role::Operator, ("iotdevicegateway", "POST", "/topics/a"), None),
            (Role::Operator, ("gnomon", "GET", "/keys"), Some("AccessDeniedException")),
            (Role::Administrator, ("iotdata", "POST", "/topics/a"), None),
            (Role::Administrator, ("gnomon", "GET", "/keys"), None),
        ] {
            let key = host.keys.create(role).await.unwrap();
            let (service, method, target) = operation;
            let response = host.call_as(&key, service, method, target, "").await;
            assert_eq!(TestHost::error_type(&response), expected, "{role} {operation:?}");
        }
    }

    #[tokio::test]
    async fn the_service_of_the_signature_decides() {
        let host = TestHost::new().await;
        for (service, target, expected) in [
            ("gnomon", "/endpoint", Some("UnknownOperationException")),
            ("iotdata", "/endpoint", Some("UnknownOperationException")),
            ("iotwireless", "/endpoint", Some("NotImplementedException")),
            ("iot", "/jobs", Some("NotImplementedException")),
            ("iot", "/endpoint/", None),
        ] {
            let response = host.call(service, "GET", target, "").await;
            assert_eq!(TestHost::error_type(&response), expected, "{service} {target}");
        }
        let response = host.call("iotwireless", "GET", "/", "").await;
        assert!(TestHost::json(&response)["message"].as_str().unwrap().contains("iotwireless"));
        let response = host.call("iot", "GET", "/jobs", "").await;
        assert_eq!(
            TestHost::json(&response),
            json!({"message": "ListJobs is not implemented by this version of Gnomon"})
        );
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_refused_before_anything_else() {
        let host = TestHost::new().await;
        let body = "x".repeat(1_024 * 1_024 + 1);
        let response = host.send(TestHost::request("POST", "/topics/a", &body)).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn health_and_metrics_need_no_signature_on_a_loopback_listener_only() {
        let host = TestHost::new().await;
        host.ready.store(false, std::sync::atomic::Ordering::Release);
        let get = |target| TestHost::request("GET", target, "");
        let response = host.send_to("loopback", get("/health")).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(TestHost::json(&response)["ready"], Value::Bool(false));
        host.ready.store(true, std::sync::atomic::Ordering::Release);
        let response = host.send_to("loopback", get("/health")).await;
        assert_eq!(response.status(), StatusCode::OK);

        let response = host.send_to("loopback", get("/metrics")).await;
        let text = std::str::from_utf8(response.body()).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| line.contains("api_requests")).collect();
        assert_eq!(
            lines,
            [
                "# HELP gnomon_api_requests_total REST requests answered.",
                "# TYPE gnomon_api_requests_total counter",
                "gnomon_api_requests_total 3",
            ]
        );
        for target in ["/health", "/metrics"] {
            let response = host.send_to("public", get(target)).await;
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{target}");
        }
        let keys = host.send_to("loopback", get("/keys")).await;
        assert_eq!(keys.status(), StatusCode::FORBIDDEN);
        let post = TestHost::request("POST", "/health", "");
        assert_eq!(host.send_to("loopback", post).await.status(), StatusCode::FORBIDDEN);
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_a_service_that_is_away() {
        let host = TestHost::new().await;
        host.store.fail_next([Some(Fault::Refused)]);
        let response = host.call("iot", "GET", "/endpoint", "").await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(TestHost::error_type(&response), Some("ServiceUnavailableException"));
        assert_eq!(host.call("iot", "GET", "/endpoint", "").await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_certificate_alone_opens_nothing() {
        let host = TestHost::new().await;
        let request = HttpRequest {
            client_certificate: Some(Bytes::from_static(b"der")),
            ..TestHost::received("public", Request::new(Bytes::new()))
        };
        let response = host.api.handle(request).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    }
}
