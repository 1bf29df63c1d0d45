//! AWS-compatible REST: every AWS SDK and the AWS CLI are clients of Gnomon.
//!
//! In: whole requests, by the port [`gnomon_core::adapter::HttpHandler`]. Out: whole responses.
//! Not here: sockets (`gnomon-gateway`), what things, rules and shadows are (`gnomon-core`).
//!
//! A request passes `signature` (who signed it, by [`sigv4`] and [`keys`]), `router` (which
//! operation it is, of the service that the signature names), the role of its key, and then the
//! handler of its operation, in the module of its resource. A device signs nothing: it shows its
//! certificate, or a token to a custom authorizer; its policies decide, and only the data plane is open
//! to it.

mod administration;
mod call;
mod certificate_operations;
mod client;
mod error;
mod health;
mod iot;
mod iot_data;
pub mod keys;
mod object_operations;
mod operations;
mod payload_schemas;
mod quarantine_operations;
mod router;
mod rule_operations;
mod signature;
pub mod sigv4;
mod table_operations;
#[cfg(test)]
mod test_ca;
#[cfg(test)]
mod test_host;
#[cfg(test)]
mod test_shape;

use async_trait::async_trait;
use bytes::Bytes;
use call::{Answer, Call, Caller};
pub use certificate_operations::HostCertificates;
pub use client::{Client, ClientError, Connection};
pub use error::{ApiError, Exception};
use gnomon_core::adapter::{HttpHandler, HttpRequest};
use gnomon_core::auth::{Authenticator, Credentials, Identity, Refusal};
use gnomon_core::broker::Broker;
use gnomon_core::broker::clients::Clients;
use gnomon_core::fleet::Fleet;
use gnomon_core::ids::{Account, Principal};
use gnomon_core::limits::Limits;
use gnomon_core::metrics::Metrics;
use gnomon_core::provisioning::{Provisioner, Registrations};
use gnomon_core::quarantine::Quarantine;
use gnomon_core::random::{self, Random};
use gnomon_core::registry::Registry;
use gnomon_core::tables::Tables;
use gnomon_core::time::Clock;
use gnomon_core::{rules, shadow};
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use keys::{Keys, Role};
use operations::Access;
use router::{Found, Router, Service};
pub use signature::Signatures;
use sigv4::SignatureError;
use std::net::SocketAddr;
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
    /// Who calls without a signature: devices, on the data plane only.
    pub authenticator: Authenticator,
    /// Things, certificates and policies.
    pub registry: Registry,
    /// The host's own.
    pub certificates: Arc<dyn HostCertificates>,
    /// What `RegisterThing` does.
    pub provisioner: Provisioner,
    /// Registers things in bulk, and has the objects that it is done from.
    pub registrations: Arc<Registrations>,
    /// Where `Publish` publishes.
    pub broker: Broker,
    /// Who is connected.
    pub clients: Clients,
    /// Puts clients into quarantine and lets them out.
    pub quarantine: Arc<Quarantine>,
    /// The shadows.
    pub shadows: Arc<shadow::Service>,
    /// What can be searched.
    pub fleet: Arc<Fleet>,
    /// The topic rules.
    pub rules: rules::Engine,
    /// Tables of readings.
    pub tables: Arc<dyn Tables>,
    /// Host that devices connect to, without scheme and port; what `DescribeEndpoint` says.
    pub endpoint: Arc<str>,
    /// What `GetHealth` says; set by whoever starts and stops the host.
    pub ready: Arc<AtomicBool>,
    /// Names of listeners that only this machine can reach: there, health and metrics are
    /// answered without a signature.
    pub loopback_listeners: Vec<Arc<str>>,
    /// Names of listeners with TLS: links that are answered there begin with `https`.
    pub tls_listeners: Vec<Arc<str>>,
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

    async fn answer(&self, received: &Received) -> Result<Answer, ApiError> {
        let Received { parts, body, .. } = received;
        let body_bytes_max = self.services.limits.http_body_bytes;
        if body.len() > body_bytes_max as usize {
            let message = format!("the body has more than {body_bytes_max} bytes");
            return Err(ApiError::new(Exception::RequestEntityTooLarge, message));
        }
        let (key, scope) = match self.signatures.check(parts, body).await {
            Err(error) if error.exception == Exception::MissingAuthenticationToken => {
                return self.answer_unsigned(received, error).await;
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
        let route = self.router.find(service, &parts.method, parts.uri.path())?;
        if !allows(key.role, route.operation.access) {
            return Err(ApiError::new(
                Exception::AccessDenied,
                format!(
                    "the access key {} ({}) may not {}",
                    key.id, key.role, route.operation.name
                ),
            ));
        }
        let principal = Some(Principal::new(&key.id));
        let caller = Caller { principal, permissions: None, payload_schema: None };
        self.call(received, route, caller).await
    }

    /// Health and metrics where they are open; else the data plane, for devices: the policies of
    /// their certificate decide, or those that a custom authorizer gives them.
    async fn answer_unsigned(
        &self,
        received: &Received,
        unsigned: ApiError,
    ) -> Result<Answer, ApiError> {
        let Received { parts, .. } = received;
        let is_loopback = self.services.loopback_listeners.contains(&received.listener);
        match (&parts.method, parts.uri.path()) {
            (&Method::GET, "/health") if is_loopback => return health::health(&self.services),
            (&Method::GET, "/metrics") if is_loopback => {
                return Ok(health::metrics(&self.services));
            }
            _ => {}
        }
        let connection_id = u64::from_le_bytes(random::bytes(&*self.services.random));
        let credentials = received.credentials(connection_id);
        let authenticated = self.services.authenticator.authenticate(&credentials).await;
        let identity = authenticated.map_err(|refusal| {
            // Who shows nothing has as likely forgotten to sign.
            let shows_something =
                credentials.certificate.is_some() || credentials.names_authorizer();
            match refusal {
                Refusal::NotAuthenticated(_) if !shows_something => unsigned,
                refusal => refuse(received, &refusal),
            }
        })?;
        let route = self.router.find(Service::IotData, &parts.method, parts.uri.path())?;
        let Identity { principal, permissions, payload_schema, .. } = identity;
        let caller = Caller { principal, permissions: Some(permissions), payload_schema };
        self.call(received, route, caller).await
    }

    async fn call(
        &self,
        received: &Received,
        route: Found,
        caller: Caller,
    ) -> Result<Answer, ApiError> {
        let Found { operation, handler, labels } = route;
        let Received { listener, peer, parts, body, .. } = received;
        tracing::debug!(
            listener = &**listener,
            remote = %peer,
            principal = caller.name(),
            operation = operation.name,
            "REST call"
        );
        let query = sigv4::decode_query(parts.uri.query().unwrap_or_default());
        let call = Call { caller, listener, body, labels, query, headers: &parts.headers };
        handler(&self.services, &call).await
    }
}

/// A request, taken apart.
struct Received {
    listener: Arc<str>,
    peer: SocketAddr,
    client_certificate: Option<Bytes>,
    server_name: Option<Arc<str>>,
    parts: Arc<Parts>,
    body: Bytes,
}

impl Received {
    /// What a device presents that is not connected.
    fn credentials(&self, connection_id: u64) -> Credentials {
        Credentials {
            connection_id,
            peer: self.peer,
            listener: self.listener.clone(),
            anonymous_policy: None,
            server_name: self.server_name.clone(),
            certificate: self.client_certificate.clone(),
            http: Some(self.parts.clone()),
            client_id: None,
            username: None,
            password: None,
            has_will: false,
            is_persistent: false,
        }
    }
}

impl From<HttpRequest> for Received {
    fn from(request: HttpRequest) -> Self {
        let HttpRequest { listener, peer, client_certificate, server_name, http } = request;
        let (parts, body) = http.into_parts();
        Self { listener, peer, client_certificate, server_name, parts: Arc::new(parts), body }
    }
}

#[async_trait]
impl HttpHandler for Api {
    async fn handle(&self, request: HttpRequest) -> Response<Bytes> {
        let request_id = random::uuid(&*self.services.random);
        self.services.metrics.api_requests.increment();
        let received = Received::from(request);
        let mut response = match self.answer(&received).await {
            Ok(answer) => answer.into_response(),
            Err(error) => {
                if is_denial(error.exception) {
                    self.services.metrics.api_denied.increment();
                    tracing::warn!(
                        listener = &*received.listener,
                        remote = %received.peer,
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

/// Says little to the client: why it is refused is for the operator.
fn refuse(received: &Received, refusal: &Refusal) -> ApiError {
    let Received { listener, peer, .. } = received;
    tracing::warn!(listener = &**listener, remote = %peer, error = %refusal, "client refused");
    match refusal {
        Refusal::Unavailable(_) => ApiError::new(
            Exception::ServiceUnavailable,
            "the client cannot be authenticated now; try again",
        ),
        _ => ApiError::new(Exception::Forbidden, "the client is not accepted"),
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
    use http::StatusCode;
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

    /// Sends as a device on the listener for devices.
    async fn send_with(
        host: &TestHost,
        certificate: &Bytes,
        method: &str,
        target: &str,
    ) -> Response<Bytes> {
        let http = TestHost::request(method, target, r#"{"state": {"reported": {"a": 1}}}"#);
        host.api
            .handle(HttpRequest {
                client_certificate: Some(certificate.clone()),
                server_name: None,
                ..TestHost::received("public", http)
            })
            .await
    }

    #[tokio::test]
    async fn the_policies_of_a_device_decide_on_the_data_plane() {
        let host = TestHost::new().await;
        let policy = r#"{"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "iot:Publish",
             "Resource": "arn:aws:iot:us-east-1:123456789012:topic/a/*"},
            {"Effect": "Allow", "Action": ["iot:UpdateThingShadow", "iot:GetThingShadow"],
             "Resource": "arn:aws:iot:us-east-1:123456789012:thing/Lamp"}]}"#;
        let certificate = host.device_certificate(policy).await;
        for (method, target, expected) in [
            ("POST", "/topics/a/b", None),
            ("POST", "/topics/a%2Fb", None),
            ("POST", "/topics/b", Some("ForbiddenException")),
            ("POST", "/things/Lamp/shadow", None),
            ("GET", "/things/Lamp/shadow", None),
            ("DELETE", "/things/Lamp/shadow", Some("ForbiddenException")),
            ("GET", "/things/Lamp/shadow?name=n", Some("ForbiddenException")),
            ("GET", "/things/Lamp2/shadow", Some("ForbiddenException")),
            ("GET", "/api/things/shadow/ListNamedShadowsForThing/Lamp", Some("ForbiddenException")),
            // The control plane is not theirs.
            ("POST", "/things/Lamp", Some("UnknownOperationException")),
            ("GET", "/keys", Some("UnknownOperationException")),
            ("GET", "/health", Some("UnknownOperationException")),
        ] {
            let response = send_with(&host, &certificate, method, target).await;
            assert_eq!(TestHost::error_type(&response), expected, "{method} {target}");
        }
        assert_eq!(host.metrics.publish_denied.get(), 1);
    }

    #[tokio::test]
    async fn a_certificate_that_is_not_registered_opens_nothing() {
        let host = TestHost::new().await;
        let response = send_with(&host, &Bytes::from_static(b"der"), "POST", "/topics/a").await;
        assert_eq!(TestHost::error_type(&response), Some("ForbiddenException"));
        host.store.fail_next([Some(Fault::Refused)]);
        let response = send_with(&host, &Bytes::from_static(b"der"), "POST", "/topics/a").await;
        assert_eq!(TestHost::error_type(&response), Some("ServiceUnavailableException"));
    }
}
