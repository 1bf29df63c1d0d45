//! Who a client is: the vocabulary of authentication, and the port to custom authorizers.
//!
//! In: what a connection presents ([`Credentials`]). Out: an [`Identity`] with its permissions,
//! or a [`Refusal`]; [`Authenticator`] makes the one from the other.

mod answers;
mod authenticator;
mod custom;
pub(crate) mod distinguished_name;
mod exchange;
mod presented;

use crate::ids::{ClientId, Principal, ThingName};
use crate::packet::UserProperties;
use crate::payload_schema::PayloadSchema;
use crate::policy::Permissions;
use crate::registry::RegistryError;
use async_trait::async_trait;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use authenticator::{
    Admission, Authenticator, Authorizers, CustomAuthorizer, Rehearsal, SIGNATURES,
};
pub use custom::{AuthorizerTest, AuthorizerTestError, SignatureVerifier};
pub use exchange::{CHALLENGES_MAX, Exchange, Progress, STATE_BYTES_MAX};

/// Everything that a connection presents before it is accepted.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Unique per connection, for logs and authorizers.
    pub connection_id: u64,
    /// The other end.
    pub peer: SocketAddr,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// Policy that the listener grants to clients without any credential that can be checked.
    pub anonymous_policy: Option<Arc<str>>,
    /// Server name (SNI) of the TLS handshake.
    pub server_name: Option<Arc<str>>,
    /// DER of the client certificate; the handshake proved possession of its key.
    pub certificate: Option<Bytes>,
    /// The HTTP request, for WebSocket upgrades and HTTPS.
    pub http: Option<Arc<http::request::Parts>>,
    /// From CONNECT; `None` over HTTP.
    pub client_id: Option<ClientId>,
    /// From CONNECT.
    pub username: Option<Arc<str>>,
    /// From CONNECT; any bytes.
    pub password: Option<Bytes>,
    /// A will is part of CONNECT (condition key `iot:ConnectAttributes`).
    pub has_will: bool,
    /// The session is to outlive the connection (condition key `iot:ConnectAttributes`).
    pub is_persistent: bool,
}

/// Who a connection turned out to be.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `None` for anonymous clients.
    pub principal: Option<Principal>,
    /// The certificate that the principal was made in place of: its session is the principal's.
    pub predecessor: Option<Principal>,
    /// The thing whose name is the client id, when it is attached to the principal; the one that it is
    /// attached to exclusively; or the one that a custom authorizer names (`thing-name`).
    pub thing: Option<ThingName>,
    /// The principal is attached to no other thing.
    pub is_exclusive: bool,
    /// What it may do.
    pub permissions: Permissions,
    /// What it may say, if its thing has a type and that a schema.
    pub payload_schema: Option<Arc<PayloadSchema>>,
    /// What the host adds to what it publishes, because the type of its thing says so.
    pub propagated: Option<Arc<UserProperties>>,
    /// The connection is closed after this time; `None`: never.
    pub disconnect_after: Option<Duration>,
}

impl Identity {
    /// The thing that the principal is attached to exclusively.
    pub fn exclusive_thing(&self) -> Option<&ThingName> {
        self.thing.as_ref().filter(|_| self.is_exclusive)
    }
}

/// Why a client was refused. The client sees only the reason code; the text is for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No or wrong credentials (0x87; 3.1.1: 5).
    #[error("not authenticated: {0}")]
    NotAuthenticated(String),
    /// Known, but no policy allows it (0x87; 3.1.1: 5).
    #[error("not authorized: {0}")]
    NotAuthorized(String),
    /// The authentication method of an enhanced authentication is not offered (0x8C).
    #[error("authentication method not offered: {0}")]
    BadMethod(String),
    /// Cannot be decided now, e.g. the store or an authorizer is away (0x88; 3.1.1: 3).
    #[error("cannot authenticate now: {0}")]
    Unavailable(String),
}

/// What a custom authorizer is asked.
#[derive(Clone, Debug)]
pub struct AuthorizerRequest {
    /// The connection's credentials.
    pub credentials: Credentials,
    /// The token, when the authorizer is configured with the name of its field.
    pub token: Option<Arc<str>>,
    /// The token's signature was verified by the host.
    pub signature_verified: bool,
}

/// What a custom authorizer answers. Source: AWS IoT, "Defining your Lambda function".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizerResponse {
    /// False refuses the client.
    pub is_authenticated: bool,
    /// `[a-zA-Z0-9]{1,128}`; anything else counts as a refusal.
    pub principal_id: String,
    /// JSON policy documents, at most 10.
    pub policy_documents: Vec<String>,
    /// 0: never.
    pub disconnect_after_s: u32,
    /// When the authorizer is asked again; 0: never.
    pub refresh_after_s: u32,
    /// `thing-name`: the thing of policy variables; `reason`: logged on a refusal.
    pub attributes: Vec<(String, String)>,
}

/// A custom authorizer; made by `gnomon-wasm`.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Decides about one client.
    ///
    /// # Errors
    /// A text for the operator; counts as a refusal and is never sent to the client.
    async fn authorize(&self, request: &AuthorizerRequest) -> Result<AuthorizerResponse, String>;
}

/// Sees to clients whose certificate the registry does not know.
#[async_trait]
pub trait Newcomers: Send + Sync + 'static {
    /// A client proved that it has the key of this certificate, in DER form. True when the registry
    /// knows it now, so that it is worth another look.
    ///
    /// # Errors
    /// The registry cannot be read or written, or the certificate is of no use.
    async fn presented(&self, certificate: &[u8]) -> Result<bool, RegistryError>;
}

/// One step of an enhanced authentication (MQTT 5.0, 4.12).
#[derive(Clone, Debug)]
pub struct ExchangeRequest {
    /// The connection's credentials.
    pub credentials: Credentials,
    /// Authentication Method.
    pub method: Arc<str>,
    /// What the client sent with this step; may be empty.
    pub data: Bytes,
    /// What the authorizer returned with its last challenge; empty at the start.
    pub state: Bytes,
    /// The client is connected and authenticates again.
    pub is_reauthentication: bool,
}

/// What an enhanced authorizer answers to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeAnswer {
    /// The client has to answer.
    Challenge {
        /// For the client.
        data: Bytes,
        /// Comes back with the next step; the client never sees it.
        state: Bytes,
    },
    /// The client is who it says.
    Accepted {
        /// As a custom authorizer's.
        response: AuthorizerResponse,
        /// For the client, with the last answer.
        data: Bytes,
    },
}

/// Decides about clients of one authentication method; keeps nothing between two steps.
#[async_trait]
pub trait EnhancedAuthorizer: Send + Sync + 'static {
    /// Takes one step.
    ///
    /// # Errors
    /// A text for the operator; counts as a refusal and is never sent to the client.
    async fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeAnswer, String>;
}
