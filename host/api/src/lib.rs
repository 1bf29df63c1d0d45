//! AWS-compatible REST: every AWS SDK and the AWS CLI are clients of Gnomon.
//!
//! In: whole requests, by the port [`gnomon_core::adapter::HttpHandler`]. Out: whole responses.
//! Not here: sockets (`gnomon-gateway`), what things, rules and shadows are (`gnomon-core`).
//!
//! A request passes [`sigv4`] (who signed it), `router` (which operation it is), the role of its
//! key ([`keys`]), and then the handler of its operation, in the module of its resource.

mod administration;
mod call;
mod error;
mod health;
mod iot;
mod iot_data;
pub mod keys;
mod operations;
mod router;
pub mod sigv4;

use async_trait::async_trait;
use bytes::Bytes;
use call::{Answer, Call, Caller};
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
use keys::{AccessKey, Keys, Role, Status};
use operations::Access;
use router::{Router, Service};
use sigv4::{Claim, SignatureError};
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
    router: Router,
}

impl Api {
    /// An API over these services.
    pub fn new(services: Services) -> Self {
        Self { services, router: Router::new() }
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
        let claim = match Claim::read(parts) {
            Err(SignatureError::Missing) => return self.answer_unsigned(listener, parts),
            claim => claim?,
        };
        let key = self.authenticate(&claim, parts, body).await?;
        let service = Service::of_scope(&claim.scope.service).ok_or_else(|| {
            let name = &claim.scope.service;
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

    /// The key that proved to have signed the request.
    async fn authenticate(
        &self,
        claim: &Claim,
        parts: &Parts,
        body: &[u8],
    ) -> Result<AccessKey, ApiError> {
        let id = &claim.access_key_id;
        let key = self.services.keys.get(id).await?;
        let Some(key) = key.filter(|key| key.status == Status::Active) else {
            return Err(ApiError::new(
                Exception::UnrecognizedClient,
                "the access key id is not an active key of this host; list them with \
                 `gnomon key list`",
            ));
        };
        claim.verify(parts, body, &key.secret, self.services.clock.wall())?;
        let region = &*self.services.account.region;
        if claim.scope.region != region {
            let message = format!(
                "the request is signed for region {}, this host is in {region}; set AWS_REGION",
                claim.scope.region
            );
            return Err(ApiError::new(Exception::InvalidSignature, message));
        }
        Ok(key)
    }

    fn answer_unsigned(&self, listener: &Arc<str>, parts: &Parts) -> Result<Answer, ApiError> {
        let is_loopback = self.services.loopback_listeners.contains(listener);
        match (&parts.method, parts.uri.path()) {
            (&Method::GET, "/health") if is_loopback => health::health(&self.services),
            (&Method::GET, "/metrics") if is_loopback => Ok(health::metrics(&self.services)),
            _ => Err(SignatureError::Missing.into()),
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
