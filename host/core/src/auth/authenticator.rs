//! From what a connection presents to who it is.
//!
//! In: [`Credentials`]. Out: an [`Identity`] whose permissions already allow the connection, or a
//! [`Refusal`] whose text is for the operator. Three ways, in this order:
//! 1. a custom authorizer, when the client names one, or [`SIGNATURES`], when it opens a WebSocket
//!    with a signed URL;
//! 2. a client certificate, looked up in the registry by its SHA-256;
//! 3. without either: the listener's policy for anonymous clients when no user name, password or
//!    token is there, else the default authorizer.
//!
//! Not here: the TLS handshake that proved the certificate's key (`gnomon-gateway`), signatures of
//! REST calls (`gnomon-api`).

use super::distinguished_name;
use super::{Authorizer, AuthorizerRequest, AuthorizerResponse, Credentials};
use super::{EnhancedAuthorizer, Identity, Newcomers, Refusal};
use crate::ids::{CertificateId, ClientId, PolicyName, Principal, ThingName};
use crate::policy::{Action, Context, Permissions, Policy, Resource, ThingContext};
use crate::registry::{
    Certificate, CertificateStatus, Registry, RegistryError, Thing, certificate_id,
};
use crate::time::Clock;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a custom authorizer may take. Source: AWS IoT, "Custom authentication".
pub(super) const AUTHORIZER_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time that a connection is let in for without being looked at again.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Policy documents of one answer. Source: AWS IoT, "Defining your Lambda function".
const AUTHORIZER_POLICIES_MAX: usize = 10;

/// Longest `principalId`.
const PRINCIPAL_ID_BYTES_MAX: usize = 128;

/// The query parameter of user name or URL, or HTTP header, by which a client names an authorizer.
const AUTHORIZER_NAME: &str = "x-amz-customauthorizer-name";

/// Name of the authorizer that takes upgrade requests with a signature of AWS's Signature Version 4
/// in their query; no operator's authorizer has it, because of the colon.
pub const SIGNATURES: &str = "aws:sigv4";

/// What every such query has.
const SIGNATURE_ALGORITHM: &str = "X-Amz-Algorithm";

/// A custom authorizer as the operator configured it. Tokens are not signed yet
/// (`signingDisabled`).
#[derive(Clone)]
pub struct CustomAuthorizer {
    /// Who decides.
    pub authorizer: Arc<dyn Authorizer>,
    /// Name of the query parameter or header that holds the token (`tokenKeyName`).
    pub token_key_name: Option<Arc<str>>,
}

/// The custom authorizers of a host.
#[derive(Clone, Default)]
pub struct Authorizers {
    /// By the name that clients give.
    pub by_name: BTreeMap<Arc<str>, CustomAuthorizer>,
    /// The one for clients that have no other credential and name none.
    pub default: Option<Arc<str>>,
    /// By authentication method (MQTT 5.0, 4.12).
    pub by_method: BTreeMap<Arc<str>, Arc<dyn EnhancedAuthorizer>>,
}

/// Decides who a connection is; clones share everything.
#[derive(Clone)]
pub struct Authenticator {
    registry: Registry,
    clock: Arc<dyn Clock>,
    pub(super) authorizers: Arc<Authorizers>,
    newcomers: Option<Arc<dyn Newcomers>>,
}

/// How a connection is to be authenticated.
enum Method<'a> {
    Authorizer(&'a str),
    Certificate(&'a [u8]),
    Anonymous(&'a Arc<str>),
}

/// By what a connected client was let in, as far as that can change: what of its credentials is
/// needed to decide again. Small, because every connection keeps one.
#[derive(Debug)]
pub struct Admission {
    basis: Basis,
    /// [`Registry::permissions_generation`] when it was looked at last.
    seen: u64,
    /// Of the other end. Apart, an address of either version takes twelve bytes less.
    ip: IpAddr,
    port: u16,
    has_will: bool,
    is_persistent: bool,
}

#[derive(Debug)]
enum Basis {
    Certificate(CertificateId),
    /// With the listener's policy of this name.
    Anonymous(Arc<str>),
}

impl Admission {
    /// The other end, for logs.
    pub fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

/// A question about what a certificate would be allowed.
#[derive(Clone, Copy, Debug)]
pub struct Rehearsal<'a> {
    /// Whose permissions.
    pub certificate: &'a CertificateId,
    /// Under which client id; its thing counts when the certificate is attached to it.
    pub client_id: Option<&'a ClientId>,
    /// As if these policies were attached too.
    pub add: &'a [PolicyName],
    /// As if these were not.
    pub skip: &'a [PolicyName],
}

impl Authenticator {
    /// An authenticator over this registry.
    pub fn new(registry: Registry, clock: Arc<dyn Clock>, authorizers: Authorizers) -> Self {
        Self { registry, clock, authorizers: Arc::new(authorizers), newcomers: None }
    }

    /// The same, with someone who sees to certificates that the registry does not know.
    pub fn with_newcomers(self, newcomers: Arc<dyn Newcomers>) -> Self {
        Self { newcomers: Some(newcomers), ..self }
    }

    /// Decides about one connection, or one HTTP request (then there is no client id, and
    /// `iot:Connect` is not asked for).
    ///
    /// # Errors
    /// Why it is refused; whoever answers the client logs it.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Identity, Refusal> {
        let identity = self.decide(credentials).await?;
        let client_id = credentials.client_id.as_ref().map(tracing::field::display);
        let (listener, remote) = (&*credentials.listener, &credentials.peer);
        let principal = identity.principal.as_ref().map(tracing::field::display);
        tracing::debug!(listener, %remote, client_id, principal, "client authenticated");
        Ok(identity)
    }

    /// What a connection keeps to be looked at again; `None` for clients of a custom authorizer,
    /// whose policies hold until it is asked again.
    ///
    /// To miss nothing, take it first and authenticate then.
    pub fn admission(&self, credentials: &Credentials) -> Option<Admission> {
        let basis = match self.method(credentials) {
            Ok(Method::Certificate(der)) => Basis::Certificate(certificate_id(der)),
            Ok(Method::Anonymous(policy)) => Basis::Anonymous(policy.clone()),
            Ok(Method::Authorizer(_)) | Err(_) => return None,
        };
        let Credentials { peer, has_will, is_persistent, .. } = credentials;
        Some(Admission {
            seen: self.generation(&basis),
            basis,
            ip: peer.ip(),
            port: peer.port(),
            has_will: *has_will,
            is_persistent: *is_persistent,
        })
    }

    /// Wakes when [`Authenticator::has_changed`] may be true for anybody.
    pub fn watch_permissions(&self) -> watch::Receiver<()> {
        self.registry.watch_permissions()
    }

    /// True, once per change, when [`Authenticator::authenticate_again`] may answer differently
    /// than before. Costs two loads.
    pub fn has_changed(&self, admission: &mut Admission) -> bool {
        let now = self.generation(&admission.basis);
        std::mem::replace(&mut admission.seen, now) != now
    }

    /// Decides anew about a client that was let in under this id.
    ///
    /// # Errors
    /// Why it may not stay; whoever ends the connection logs it.
    pub async fn authenticate_again(
        &self,
        admission: &Admission,
        client_id: &ClientId,
    ) -> Result<Identity, Refusal> {
        let context = Context {
            client_id: Some(client_id.clone()),
            source_ip: Some(admission.ip),
            has_will: admission.has_will,
            is_persistent: admission.is_persistent,
            ..Context::default()
        };
        let identity = match &admission.basis {
            Basis::Certificate(id) => self.look_up(id, context).await?,
            Basis::Anonymous(policy) => self.admit_anonymous(policy, &context).await?,
        };
        check_connect(identity, Some(client_id))
    }

    fn generation(&self, basis: &Basis) -> u64 {
        let certificate = match basis {
            Basis::Certificate(id) => Some(id),
            Basis::Anonymous(_) => None,
        };
        self.registry.permissions_generation(certificate)
    }

    async fn decide(&self, credentials: &Credentials) -> Result<Identity, Refusal> {
        let context = context(credentials);
        let identity = match self.method(credentials)? {
            Method::Authorizer(name) => self.ask_authorizer(name, credentials).await?,
            Method::Certificate(der) => self.admit_certificate(der, context).await?,
            Method::Anonymous(policy) => self.admit_anonymous(policy, &context).await?,
        };
        check_connect(identity, credentials.client_id.as_ref())
    }

    fn method<'a>(&'a self, credentials: &'a Credentials) -> Result<Method<'a>, Refusal> {
        if let Some(name) = parameter(credentials, AUTHORIZER_NAME) {
            return match self.authorizers.by_name.get_key_value(&*name) {
                Some((name, _)) => Ok(Method::Authorizer(name)),
                None => Err(Refusal::NotAuthenticated(
                    "the client names a custom authorizer that is not configured".to_owned(),
                )),
            };
        }
        if parameter(credentials, SIGNATURE_ALGORITHM).is_some()
            && let Some((name, _)) = self.authorizers.by_name.get_key_value(SIGNATURES)
        {
            return Ok(Method::Authorizer(name));
        }
        if let Some(der) = &credentials.certificate {
            return Ok(Method::Certificate(der));
        }
        match (&credentials.anonymous_policy, &self.authorizers.default) {
            (Some(policy), Some(_)) if !presents_anything(credentials) => {
                Ok(Method::Anonymous(policy))
            }
            (_, Some(name)) => Ok(Method::Authorizer(name)),
            // What nobody can check gives nothing: without it the client could do the same.
            (Some(policy), None) => Ok(Method::Anonymous(policy)),
            (None, None) => Err(Refusal::NotAuthenticated(
                "the client presents no certificate, and neither anonymous clients nor a default \
                 authorizer are configured"
                    .to_owned(),
            )),
        }
    }

    /// A certificate that is refused may be one that a registered CA signed, and comes in just in time.
    async fn admit_certificate(&self, der: &[u8], context: Context) -> Result<Identity, Refusal> {
        let id = certificate_id(der);
        let decided = self.look_up(&id, context.clone()).await;
        let (Err(Refusal::NotAuthenticated(_)), Some(newcomers)) = (&decided, &self.newcomers)
        else {
            return decided;
        };
        match newcomers.presented(der).await {
            Ok(true) => self.look_up(&id, context).await,
            Ok(false) => decided,
            Err(RegistryError::CertificateValidation(problem)) => {
                Err(Refusal::NotAuthenticated(problem))
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn look_up(&self, id: &CertificateId, context: Context) -> Result<Identity, Refusal> {
        let certificate = match self.registry.describe_certificate(id).await {
            Ok(certificate) => certificate,
            Err(RegistryError::ResourceNotFound(_)) => return self.admit_claim(id, &context).await,
            Err(error) => return Err(unavailable(&error)),
        };
        self.check_usable(&certificate)?;
        let failed = |error| unavailable(&error);
        let client_id = context.client_id.as_ref();
        let thing = self.thing_of(&certificate, client_id).await.map_err(failed)?;
        let names = self.policies_of(&certificate, thing.as_ref()).await.map_err(failed)?;
        let name = thing.as_ref().map(|thing| thing.name.clone());
        let permissions =
            self.permissions(&names, &certificate, thing, context).await.map_err(failed)?;
        Ok(Identity {
            principal: Some(Principal::new(id.as_str())),
            thing: name,
            permissions,
            disconnect_after: Some(self.left_of(&certificate)),
        })
    }

    /// A claim of a trusted user may have a device provisioned, and nothing else.
    async fn admit_claim(
        &self,
        id: &CertificateId,
        context: &Context,
    ) -> Result<Identity, Refusal> {
        let claim = self.registry.provisioning_claim(id).await;
        let Some(claim) = claim.map_err(|error| unavailable(&error))? else {
            return Err(Refusal::NotAuthenticated(format!("certificate {id} is not registered")));
        };
        let account = self.registry.account();
        let topics = [
            "$aws/certificates/create/*".to_owned(),
            "$aws/certificates/create-from-csr/*".to_owned(),
            format!("$aws/provisioning-templates/{}/provision/*", claim.template),
        ];
        let arns = |kind: &str| topics.each_ref().map(|it| account.arn(&format!("{kind}/{it}")));
        let document = serde_json::json!({
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
                {"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive"],
                    "Resource": arns("topic")},
                {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": arns("topicfilter")},
            ],
        });
        let policy = Policy::parse("of a provisioning claim", &document.to_string(), account);
        let policy = policy.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        let left = claim.expires_at.as_millis().saturating_sub(self.clock.wall().as_millis());
        Ok(Identity {
            principal: Some(Principal::new(id.as_str())),
            thing: None,
            permissions: Permissions::new([&policy], context),
            disconnect_after: Some(Duration::from_millis(left)),
        })
    }

    /// What a certificate would be allowed, whatever its status, under this client id and with some
    /// policies more or less; for TestAuthorization.
    ///
    /// # Errors
    /// The certificate or a policy to add is not there; the store fails.
    pub async fn rehearse(&self, rehearsal: &Rehearsal<'_>) -> Result<Permissions, RegistryError> {
        let Rehearsal { certificate, client_id, add, skip } = rehearsal;
        let certificate = self.registry.describe_certificate(certificate).await?;
        let thing = self.thing_of(&certificate, *client_id).await?;
        let mut names = self.policies_of(&certificate, thing.as_ref()).await?;
        for name in *add {
            self.registry.get_policy(name).await?;
            names.insert(name.clone());
        }
        names.retain(|name| !skip.contains(name));
        let context = Context { client_id: client_id.cloned(), ..Context::default() };
        self.permissions(&names, &certificate, thing, context).await
    }

    /// Names of the policies of a certificate, and of those that the thing has from its groups.
    async fn policies_of(
        &self,
        certificate: &Certificate,
        thing: Option<&Thing>,
    ) -> Result<BTreeSet<PolicyName>, RegistryError> {
        let mut names = certificate.policies.clone();
        if let Some(thing) = thing {
            names.extend(self.registry.policies_of_thing(thing).await?);
        }
        Ok(names)
    }

    async fn permissions(
        &self,
        names: &BTreeSet<PolicyName>,
        certificate: &Certificate,
        thing: Option<Thing>,
        mut context: Context,
    ) -> Result<Permissions, RegistryError> {
        let mut policies = Vec::new();
        for name in names {
            policies.extend(self.registry.compiled_policy(name).await?);
        }
        if policies.iter().any(|policy| policy.asks_for_certificate()) {
            // The registered one is the presented one: they have the same SHA-256.
            context.certificate = distinguished_name::fields(&certificate.der());
        }
        context.thing = thing.map(|thing| ThingContext {
            name: thing.name,
            type_name: thing.type_name.map(|name| name.as_str().into()),
            attributes: thing.attributes.values().clone(),
        });
        Ok(Permissions::new(policies.iter().map(|policy| &**policy), &context))
    }

    /// What is left of the certificate's validity, at most a year: no clock overflows by it.
    fn left_of(&self, certificate: &Certificate) -> Duration {
        let now = self.clock.wall().as_millis();
        let left = certificate.not_after.as_millis().saturating_sub(now);
        Duration::from_millis(left).min(YEAR)
    }

    fn check_usable(&self, certificate: &Certificate) -> Result<(), Refusal> {
        let Certificate { id, status, not_before, not_after, .. } = certificate;
        let now = self.clock.wall();
        let problem = if *status != CertificateStatus::Active {
            format!("is {status}")
        } else if now < *not_before {
            "is not valid yet".to_owned()
        } else if now > *not_after {
            "has expired".to_owned()
        } else {
            return Ok(());
        };
        Err(Refusal::NotAuthenticated(format!("certificate {id} {problem}")))
    }

    /// The thing whose name is the client id, when the certificate is attached to it.
    async fn thing_of(
        &self,
        certificate: &Certificate,
        client_id: Option<&ClientId>,
    ) -> Result<Option<Thing>, RegistryError> {
        let Some(name) = client_id.and_then(|id| ThingName::parse(id.as_str()).ok()) else {
            return Ok(None);
        };
        if !certificate.things.contains(&name) {
            return Ok(None);
        }
        match self.registry.describe_thing(&name).await {
            Ok(thing) => Ok(Some(thing)),
            Err(RegistryError::ResourceNotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn admit_anonymous(&self, policy: &str, context: &Context) -> Result<Identity, Refusal> {
        let name = PolicyName::parse(policy).ok();
        let compiled = match &name {
            Some(name) => self.compiled(name).await?,
            None => None,
        };
        let Some(compiled) = compiled else {
            return Err(Refusal::NotAuthorized(format!(
                "policy {policy:?}, which the listener has for anonymous clients, does not exist"
            )));
        };
        let permissions = Permissions::new([&*compiled], context);
        Ok(Identity { principal: None, thing: None, permissions, disconnect_after: None })
    }

    async fn ask_authorizer(
        &self,
        name: &str,
        credentials: &Credentials,
    ) -> Result<Identity, Refusal> {
        let Some(custom) = self.authorizers.by_name.get(name) else {
            return Err(Refusal::Unavailable(format!("authorizer {name} is not configured")));
        };
        let token = custom.token_key_name.as_deref().and_then(|key| parameter(credentials, key));
        let request = AuthorizerRequest {
            credentials: credentials.clone(),
            token: token.map(|token| token.as_ref().into()),
            signature_verified: false,
        };
        let answer = custom.authorizer.authorize(&request);
        let response = match tokio::time::timeout(AUTHORIZER_TIMEOUT, answer).await {
            Ok(Ok(response)) => response,
            Ok(Err(problem)) => {
                return Err(Refusal::NotAuthenticated(format!(
                    "authorizer {name} failed: {problem}"
                )));
            }
            Err(_) => {
                return Err(Refusal::NotAuthenticated(format!(
                    "authorizer {name} did not answer within {} s",
                    AUTHORIZER_TIMEOUT.as_secs()
                )));
            }
        };
        self.check_response(name, &response, credentials)
            .map_err(|problem| Refusal::NotAuthenticated(format!("authorizer {name} {problem}")))
    }

    pub(super) fn check_response(
        &self,
        name: &str,
        response: &AuthorizerResponse,
        credentials: &Credentials,
    ) -> Result<Identity, String> {
        if !response.is_authenticated {
            let reason = response.attributes.iter().find(|(key, _)| key == "reason");
            let reason = reason.map_or("no reason given", |(_, reason)| reason);
            return Err(format!("refused the client: {reason}"));
        }
        let id = &response.principal_id;
        let is_well_formed = (1..=PRINCIPAL_ID_BYTES_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_well_formed {
            return Err("answered with a principalId that is not [a-zA-Z0-9]{1,128}".to_owned());
        }
        // Sessions belong to principals: nobody may pose as a certificate.
        if id.len() == 64 && CertificateId::parse(id).is_ok() {
            return Err("answered with a principalId that looks like a certificate id".to_owned());
        }
        let documents = &response.policy_documents;
        if documents.len() > AUTHORIZER_POLICIES_MAX {
            return Err(format!(
                "answered with {} policy documents; at most {AUTHORIZER_POLICIES_MAX} are allowed",
                documents.len()
            ));
        }
        let mut policies = Vec::new();
        for (index, document) in documents.iter().enumerate() {
            let label = format!("{index} of authorizer {name}");
            let policy = Policy::parse(&label, document, self.registry.account());
            policies.push(policy.map_err(|error| {
                format!("answered with policy document {index}, which is refused: {error}")
            })?);
        }
        // A client is not asked anew behind its back yet: when the answer is to be refreshed, it
        // has to connect again.
        let seconds = [response.disconnect_after_s, response.refresh_after_s];
        let first = seconds.into_iter().filter(|&seconds| seconds > 0).min();
        Ok(Identity {
            principal: Some(Principal::new(id)),
            thing: None,
            permissions: Permissions::new(&policies, &context(credentials)),
            disconnect_after: first.map(|seconds| Duration::from_secs(seconds.into())),
        })
    }

    async fn compiled(&self, name: &PolicyName) -> Result<Option<Arc<Policy>>, Refusal> {
        self.registry.compiled_policy(name).await.map_err(|error| unavailable(&error))
    }
}

/// The identity, if its permissions let the client connect under its id.
pub(super) fn check_connect(
    identity: Identity,
    client_id: Option<&ClientId>,
) -> Result<Identity, Refusal> {
    let Some(client_id) = client_id else { return Ok(identity) };
    let (action, resource) = (Action::Connect, Resource::Client(client_id.as_str()));
    if identity.permissions.allows(action, resource) {
        return Ok(identity);
    }
    let decision = identity.permissions.explain(action, resource);
    let who = identity.principal.as_ref().map_or("anonymous", Principal::as_str);
    let text = format!("{who} may not iot:Connect as this client id: {decision}");
    Err(Refusal::NotAuthorized(text))
}

fn unavailable(error: &RegistryError) -> Refusal {
    tracing::error!(error = %error, "the registry cannot be read");
    Refusal::Unavailable(error.to_string())
}

fn context(credentials: &Credentials) -> Context {
    Context {
        client_id: credentials.client_id.clone(),
        source_ip: Some(credentials.peer.ip()),
        thing: None,
        certificate: BTreeMap::new(),
        has_will: credentials.has_will,
        is_persistent: credentials.is_persistent,
    }
}

/// True when something is there that wants to be checked. What AWS's SDKs say about themselves in
/// the query of the user name does not count.
fn presents_anything(credentials: &Credentials) -> bool {
    let username = credentials.username.as_deref().unwrap_or_default();
    let password = credentials.password.as_deref().unwrap_or_default();
    let header = credentials
        .http
        .as_ref()
        .is_some_and(|http| http.headers.contains_key(http::header::AUTHORIZATION));
    let plain = username.split_once('?').map_or(username, |(plain, _)| plain);
    !plain.is_empty() || !password.is_empty() || header
}

/// A value that a client gives in the query of its user name or URL, or as an HTTP header.
fn parameter<'c>(credentials: &'c Credentials, name: &str) -> Option<Cow<'c, str>> {
    let in_username = credentials.username.as_deref().and_then(|username| username.split_once('?'));
    if let Some(value) = in_username.and_then(|(_, query)| query_value(query, name)) {
        return Some(value);
    }
    let http = credentials.http.as_deref()?;
    if let Some(value) = http.headers.get(name).and_then(|value| value.to_str().ok()) {
        return Some(value.into());
    }
    query_value(http.uri.query()?, name)
}

/// A parameter of a query string, percent-decoded; `+` stays, because tokens may hold one.
fn query_value<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    let pair = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pair.into_iter().find(|(key, _)| *key == name)?;
    percent_encoding::percent_decode_str(value).decode_utf8().ok()
}

#[cfg(test)]
mod tests;
