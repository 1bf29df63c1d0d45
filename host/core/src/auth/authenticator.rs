//! From what a connection presents to who it is.
//!
//! In: [`Credentials`]. Out: an [`Identity`] whose permissions already allow the connection, or a
//! [`Refusal`] whose text is for the operator. Three ways, in this order:
//! 1. a custom authorizer (`custom`), when the client names one, or [`SIGNATURES`], when it opens a
//!    WebSocket with a signed URL;
//! 2. a client certificate, looked up in the registry by its SHA-256;
//! 3. without either: the listener's policy for anonymous clients when no user name, password or
//!    token is there, else the default authorizer: of the domain configuration whose name the client asked
//!    for, the registry's, or the configuration's.
//!
//! Not here: the TLS handshake that proved the certificate's key (`gnomon-gateway`), signatures of
//! REST calls (`gnomon-api`).

use super::answers::Answers;
use super::custom::{Chosen, SignatureVerifier};
use super::distinguished_name;
use super::presented::{self, parameter, presents_anything};
use super::{Authorizer, Credentials, EnhancedAuthorizer, Identity, Newcomers, Refusal};
use crate::ids::{
    Account, AuthorizerName, CertificateId, ClientId, PolicyName, Principal, ThingName,
};
use crate::payload_schema::PayloadSchema;
use crate::policy::{Action, Context, Permissions, Policy, Resource, ThingContext};
use crate::registry::{
    Certificate, CertificateStatus, DomainAuthorizer, Offender, QUARANTINE_POLICY, Registry,
    RegistryError, Thing, certificate_id,
};
use crate::time::Clock;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// How long a custom authorizer may take. Source: AWS IoT, "Custom authentication".
pub(super) const AUTHORIZER_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time that a connection is let in for without being looked at again.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Name of the authorizer that takes upgrade requests with a signature of AWS's Signature Version 4
/// in their query; no operator's authorizer has it, because of the colon.
pub const SIGNATURES: &str = "aws:sigv4";

/// What every such query has.
const SIGNATURE_ALGORITHM: &str = "X-Amz-Algorithm";

/// Connected clients that authorizers are asked about anew at the same time; the others wait, with the
/// permissions that they have. Else those of an authorizer that was changed would all ask at once, and
/// most of them would not be answered in time.
const ASKED_AGAIN_MAX: usize = 64;

/// A plugin that decides about clients, under its own name. Their tokens are not signed.
#[derive(Clone)]
pub struct CustomAuthorizer {
    /// Who decides.
    pub authorizer: Arc<dyn Authorizer>,
    /// Name of the query parameter or header that holds the token (`tokenKeyName`).
    pub token_key_name: Option<Arc<str>>,
}

/// What a host has to authenticate with beside its registry.
#[derive(Clone, Default)]
pub struct Authorizers {
    /// Plugins by their names, and [`SIGNATURES`]. Clients may name them, unless the registry has an
    /// authorizer of that name; and the registry's authorizers name them as their functions.
    pub by_name: BTreeMap<Arc<str>, CustomAuthorizer>,
    /// The one for clients that have no other credential and name none, while the registry has no
    /// default.
    pub default: Option<Arc<str>>,
    /// Checks the signatures of tokens; without it none is good.
    pub signatures: Option<Arc<dyn SignatureVerifier>>,
    /// By authentication method (MQTT 5.0, 4.12).
    pub by_method: BTreeMap<Arc<str>, Arc<dyn EnhancedAuthorizer>>,
}

/// Decides who a connection is; clones share everything.
#[derive(Clone)]
pub struct Authenticator {
    pub(super) registry: Registry,
    clock: Arc<dyn Clock>,
    pub(super) authorizers: Arc<Authorizers>,
    answers: Arc<Mutex<Answers>>,
    asking_again: Arc<Semaphore>,
    newcomers: Option<Arc<dyn Newcomers>>,
}

/// How a connection is to be authenticated.
enum Method<'a> {
    Authorizer(Chosen),
    Certificate(&'a [u8]),
    Anonymous(&'a Arc<str>),
}

/// By what a connected client was let in, as far as that can change: what of its credentials is
/// needed to decide again. Small, because every connection keeps one.
#[derive(Debug)]
pub struct Admission {
    basis: Basis,
    /// The generation of what it depends on, when it was looked at last.
    seen: u64,
    /// Of the other end. Apart, an address of either version takes twelve bytes less.
    ip: IpAddr,
    port: u16,
    has_will: bool,
    is_persistent: bool,
    /// Boxed: few clients come by a name, and every connection keeps one of these.
    domain: Option<Box<Domain>>,
}

/// The name by which the client came (SNI).
#[derive(Debug)]
struct Domain(Arc<str>);

#[derive(Debug)]
enum Basis {
    Certificate(CertificateId),
    /// With the listener's policy of this name.
    Anonymous(Arc<str>),
    Authorizer(Box<Asked>),
}

/// A client of a custom authorizer, with what it takes to ask again.
#[derive(Debug)]
struct Asked {
    credentials: Credentials,
    chosen: Chosen,
    /// Who it is by the first answer.
    principal: Option<Principal>,
    /// When the last answer ends.
    refresh_at: Option<Instant>,
}

impl Admission {
    /// When to look at [`Authenticator::has_changed`] even if nobody says so.
    pub fn refresh_at(&self) -> Option<Instant> {
        match &self.basis {
            Basis::Authorizer(asked) => asked.refresh_at,
            Basis::Certificate(_) | Basis::Anonymous(_) => None,
        }
    }

    /// Whether deciding again may take as long as a custom authorizer does.
    pub fn is_custom(&self) -> bool {
        matches!(self.basis, Basis::Authorizer(_))
    }

    /// The other end, for logs.
    pub fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

/// Who came with a certificate.
struct Admitted {
    identity: Identity,
    /// The certificate, when it was renewed and nobody has come with it yet.
    awaits_use: Option<CertificateId>,
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
        Self {
            registry,
            clock,
            authorizers: Arc::new(authorizers),
            answers: Arc::default(),
            asking_again: Arc::new(Semaphore::new(ASKED_AGAIN_MAX)),
            newcomers: None,
        }
    }

    /// The same, with someone who sees to certificates that the registry does not know.
    pub fn with_newcomers(self, newcomers: Arc<dyn Newcomers>) -> Self {
        Self { newcomers: Some(newcomers), ..self }
    }

    /// Decides about one HTTP request (then there is no client id, and `iot:Connect` is not asked
    /// for), or about a connection that is never looked at again.
    ///
    /// # Errors
    /// Why it is refused; whoever answers the client logs it.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Identity, Refusal> {
        Ok(self.admit(credentials).await?.0)
    }

    /// Decides about one connection, with what it keeps to be looked at again; nothing is kept of a
    /// signed URL, which holds for the whole connection.
    ///
    /// # Errors
    /// Why it is refused; whoever answers the client logs it.
    pub async fn admit(
        &self,
        credentials: &Credentials,
    ) -> Result<(Identity, Option<Admission>), Refusal> {
        // First what is compared later: a change meanwhile is not missed.
        let default_seen = self.registry.default_authorizer_generation();
        let method = self.method(credentials).await?;
        let mut admission = self.admission(&method, credentials, default_seen);
        let (identity, refresh_after) = self.decide(&method, credentials).await?;
        if let Some(Admission { basis: Basis::Authorizer(asked), .. }) = &mut admission {
            asked.principal.clone_from(&identity.principal);
            asked.refresh_at = refresh_after.map(|after| self.now() + after);
        }
        let client_id = credentials.client_id.as_ref().map(tracing::field::display);
        let (listener, remote) = (&*credentials.listener, &credentials.peer);
        let principal = identity.principal.as_ref().map(tracing::field::display);
        tracing::debug!(listener, %remote, client_id, principal, "client authenticated");
        Ok((identity, admission))
    }

    fn admission(
        &self,
        method: &Method<'_>,
        credentials: &Credentials,
        default_seen: u64,
    ) -> Option<Admission> {
        let (basis, seen) = match method {
            Method::Certificate(der) => {
                let id = certificate_id(der);
                let seen = self.registry.permissions_generation(Some(&id));
                (Basis::Certificate(id), seen)
            }
            Method::Anonymous(policy) => {
                let seen = self.registry.permissions_generation(None);
                (Basis::Anonymous((*policy).clone()), seen)
            }
            Method::Authorizer(chosen) if &*chosen.name == SIGNATURES => return None,
            Method::Authorizer(chosen) => {
                let seen = self.chosen_generation(chosen, default_seen);
                let (credentials, chosen) = (credentials.clone(), chosen.clone());
                let asked = Asked { credentials, chosen, principal: None, refresh_at: None };
                (Basis::Authorizer(Box::new(asked)), seen)
            }
        };
        let Credentials { peer, has_will, is_persistent, server_name, .. } = credentials;
        Some(Admission {
            basis,
            seen,
            ip: peer.ip(),
            port: peer.port(),
            has_will: *has_will,
            is_persistent: *is_persistent,
            domain: server_name.clone().map(|name| Box::new(Domain(name))),
        })
    }

    /// Wakes when [`Authenticator::has_changed`] may be true for anybody.
    pub fn watch_permissions(&self) -> watch::Receiver<()> {
        self.registry.watch_permissions()
    }

    /// True, once per change, when [`Authenticator::authenticate_again`] may answer differently
    /// than before, because something was changed or because an authorizer's answer has ended. Costs
    /// two loads.
    pub fn has_changed(&self, admission: &mut Admission) -> bool {
        let now = self.generation(&admission.basis);
        let has_changed = std::mem::replace(&mut admission.seen, now) != now;
        let has_ended = match &mut admission.basis {
            Basis::Authorizer(asked) => {
                asked.refresh_at.take_if(|at| *at <= self.clock.now()).is_some()
            }
            Basis::Certificate(_) | Basis::Anonymous(_) => false,
        };
        has_changed || has_ended
    }

    /// Decides anew about a client that was let in under this id.
    ///
    /// # Errors
    /// Why it may not stay; whoever ends the connection logs it.
    pub async fn authenticate_again(
        &self,
        admission: &mut Admission,
        client_id: &ClientId,
    ) -> Result<Identity, Refusal> {
        let context = Context {
            client_id: Some(client_id.clone()),
            source_ip: Some(admission.ip),
            domain_name: admission.domain.as_ref().map(|domain| domain.0.clone()),
            has_will: admission.has_will,
            is_persistent: admission.is_persistent,
            ..Context::default()
        };
        let identity = match &mut admission.basis {
            Basis::Certificate(id) => self.look_up(id, context).await?.identity,
            Basis::Anonymous(policy) => self.admit_anonymous(policy, &context).await?,
            Basis::Authorizer(asked) => self.ask_again(asked, &mut admission.seen).await?,
        };
        check_connect(identity, Some(client_id))
    }

    /// Asks whichever authorizer decides now about what the client presented.
    async fn ask_again(&self, asked: &mut Asked, seen: &mut u64) -> Result<Identity, Refusal> {
        let default_seen = self.registry.default_authorizer_generation();
        let method = self.method(&asked.credentials).await?;
        if let Method::Authorizer(chosen) = &method {
            *seen = self.chosen_generation(chosen, default_seen);
            asked.chosen = chosen.clone();
            // One that is gone or INACTIVE has nobody wait for others' answers.
            self.find(chosen).await?;
        }
        let permit = self.asking_again.acquire().await;
        let _permit = permit.expect("nobody closes the semaphore");
        let (identity, refresh_after) = self.decide(&method, &asked.credentials).await?;
        // The session belongs to the principal that opened it.
        if identity.principal != asked.principal {
            return Err(Refusal::NotAuthorized(
                "the client counts as somebody else now".to_owned(),
            ));
        }
        asked.refresh_at = refresh_after.map(|after| self.now() + after);
        Ok(identity)
    }

    fn generation(&self, basis: &Basis) -> u64 {
        match basis {
            Basis::Certificate(id) => self.registry.permissions_generation(Some(id)),
            Basis::Anonymous(_) => self.registry.permissions_generation(None),
            Basis::Authorizer(asked) => {
                let default = self.registry.default_authorizer_generation();
                self.chosen_generation(&asked.chosen, default)
            }
        }
    }

    /// Grows with changes of the authorizer, and of the default if it is that.
    fn chosen_generation(&self, chosen: &Chosen, default: u64) -> u64 {
        let default = if chosen.is_default { default } else { 0 };
        default + self.registry.authorizer_generation(&chosen.name)
    }

    /// With the time for which the decision holds, if it ends.
    async fn decide(
        &self,
        method: &Method<'_>,
        credentials: &Credentials,
    ) -> Result<(Identity, Option<Duration>), Refusal> {
        let context = context(credentials);
        let (identity, refresh_after) = match method {
            Method::Authorizer(chosen) => {
                let (identity, refresh_after) = self.ask_authorizer(chosen, credentials).await?;
                (self.with_quarantine(identity, credentials).await?, refresh_after)
            }
            Method::Certificate(der) => {
                let admitted = self.admit_certificate(der, context).await?;
                let client_id = credentials.client_id.as_ref();
                return Ok((self.check_renewed(admitted, client_id).await?, None));
            }
            Method::Anonymous(policy) => (self.admit_anonymous(policy, &context).await?, None),
        };
        Ok((check_connect(identity, credentials.client_id.as_ref())?, refresh_after))
    }

    async fn method<'a>(&self, credentials: &'a Credentials) -> Result<Method<'a>, Refusal> {
        let authorizer = |name: &str, is_default| {
            Ok(Method::Authorizer(Chosen { name: name.into(), is_default }))
        };
        let domain = match &credentials.server_name {
            Some(name) => {
                self.registry.domain_authorizer(name).await.map_err(|e| unavailable(&e))?
            }
            None => None,
        };
        if let Some(name) = parameter(credentials, presented::AUTHORIZER) {
            if let Some(DomainAuthorizer { default, may_be_overridden: false }) = &domain
                && default.as_ref().is_none_or(|default| default.as_str() != &*name)
            {
                return Err(Refusal::NotAuthenticated(format!(
                    "clients that come by this name of the host may not name the authorizer {name}; \
                     allowAuthorizerOverride of its domain configuration would let them"
                )));
            }
            return authorizer(&name, false);
        }
        if parameter(credentials, SIGNATURE_ALGORITHM).is_some()
            && self.authorizers.by_name.contains_key(SIGNATURES)
        {
            return authorizer(SIGNATURES, false);
        }
        if let Some(der) = &credentials.certificate {
            return Ok(Method::Certificate(der));
        }
        let registered = self.registry.default_authorizer().await.map_err(|e| unavailable(&e))?;
        let of_domain = domain.and_then(|domain| domain.default);
        let default = of_domain.as_ref().or(registered.as_ref()).map(AuthorizerName::as_str);
        match (&credentials.anonymous_policy, default.or(self.authorizers.default.as_deref())) {
            (Some(policy), Some(_)) if !presents_anything(credentials) => {
                Ok(Method::Anonymous(policy))
            }
            (_, Some(name)) => authorizer(name, true),
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
    async fn admit_certificate(&self, der: &[u8], context: Context) -> Result<Admitted, Refusal> {
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

    /// As [`check_connect`]. Whoever comes with a renewed certificate for the first time has kept it,
    /// and does not need the old one any more.
    async fn check_renewed(
        &self,
        admitted: Admitted,
        client_id: Option<&ClientId>,
    ) -> Result<Identity, Refusal> {
        let Admitted { identity, awaits_use } = admitted;
        let identity = check_connect(identity, client_id)?;
        if let Some(id) = awaits_use
            && client_id.is_some()
            && let Err(error) = self.registry.certificate_used(&id).await
        {
            // The next connection tries again.
            tracing::warn!(principal = %id, error = %error, "first use cannot be written");
        }
        Ok(identity)
    }

    async fn look_up(&self, id: &CertificateId, context: Context) -> Result<Admitted, Refusal> {
        let certificate = match self.registry.describe_certificate(id).await {
            Ok(certificate) => certificate,
            Err(RegistryError::ResourceNotFound(_)) => {
                let identity = self.admit_claim(id, &context).await?;
                return Ok(Admitted { identity, awaits_use: None });
            }
            Err(error) => return Err(unavailable(&error)),
        };
        self.check_usable(&certificate)?;
        let failed = |error| unavailable(&error);
        let client_id = context.client_id.as_ref();
        let thing = self.thing_of(&certificate, client_id).await.map_err(failed)?;
        let names = self.policies_of(&certificate, thing.as_ref()).await.map_err(failed)?;
        let name = thing.as_ref().map(|thing| thing.name.clone());
        let payload_schema = self.schema_of(thing.as_ref()).await.map_err(failed)?;
        let propagated = match thing.as_ref().zip(client_id) {
            Some((thing, id)) => self.registry.propagated(thing, id).await.map_err(failed)?,
            None => Vec::new(),
        };
        let propagated = (!propagated.is_empty()).then(|| Arc::new(propagated));
        let permissions =
            self.permissions(&names, &certificate, thing, context).await.map_err(failed)?;
        let lineage = &certificate.lineage;
        let identity = Identity {
            principal: Some(Principal::new(id.as_str())),
            predecessor: lineage.predecessor.as_ref().map(|id| Principal::new(id.as_str())),
            thing: name,
            is_exclusive: certificate.is_exclusive,
            permissions,
            payload_schema,
            propagated,
            disconnect_after: Some(self.left_of(&certificate)),
        };
        Ok(Admitted { identity, awaits_use: lineage.awaits_use().then(|| id.clone()) })
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
            predecessor: None,
            thing: None,
            is_exclusive: false,
            permissions: Permissions::new([&policy], context),
            payload_schema: None,
            propagated: None,
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

    /// What an authorizer answered, and the policy of the quarantine if the thing or the principal is
    /// there.
    pub(super) async fn with_quarantine(
        &self,
        identity: Identity,
        credentials: &Credentials,
    ) -> Result<Identity, Refusal> {
        let thing = identity.thing.clone().map(Offender::Thing);
        let principal = identity.principal.clone().map(Offender::Principal);
        let mut is_in = false;
        for offender in thing.into_iter().chain(principal) {
            is_in |= match self.registry.is_in_quarantine(&offender).await {
                // Deleted at this moment.
                Err(RegistryError::ResourceNotFound(_)) => false,
                is_in => is_in.map_err(|error| unavailable(&error))?,
            };
        }
        if !is_in {
            return Ok(identity);
        }
        let name = PolicyName::parse(QUARANTINE_POLICY).expect("it is a name");
        let permissions = match self.compiled(&name).await? {
            Some(policy) => identity.permissions.and(&policy, &context(credentials)),
            None => identity.permissions,
        };
        Ok(Identity { permissions: permissions.in_quarantine(), ..identity })
    }

    /// What the thing may publish by the schema of its type.
    pub(super) async fn schema_of(
        &self,
        thing: Option<&Thing>,
    ) -> Result<Option<Arc<PayloadSchema>>, RegistryError> {
        match thing.and_then(|thing| thing.type_name.as_ref()) {
            Some(name) => self.registry.compiled_schema(name).await,
            None => Ok(None),
        }
    }

    /// Names of the policies of a certificate, and of those that the thing has from its groups. Under
    /// another client id than its things' a certificate is in quarantine with any of them.
    async fn policies_of(
        &self,
        certificate: &Certificate,
        thing: Option<&Thing>,
    ) -> Result<BTreeSet<PolicyName>, RegistryError> {
        let mut names = certificate.policies.clone();
        match thing {
            Some(thing) => names.extend(self.registry.policies_of_thing(thing).await?),
            None if self.registry.has_silent_thing(certificate).await? => {
                names.extend(PolicyName::parse(QUARANTINE_POLICY).ok());
            }
            None => {}
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
        context.thing = thing.map(ThingContext::from);
        let permissions = Permissions::new(policies.iter().map(|policy| &**policy), &context);
        Ok(match names.contains(QUARANTINE_POLICY) {
            true => permissions.in_quarantine(),
            false => permissions,
        })
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

    /// The thing whose name is the client id, when the certificate is attached to it; the one that it
    /// is attached to exclusively, whatever the client id, and over HTTP without any.
    async fn thing_of(
        &self,
        certificate: &Certificate,
        client_id: Option<&ClientId>,
    ) -> Result<Option<Thing>, RegistryError> {
        let is_it = |name: &&ThingName| {
            certificate.is_exclusive || client_id.is_some_and(|id| name.as_str() == id.as_str())
        };
        match certificate.things.iter().find(is_it) {
            Some(name) => self.existing_thing(name).await,
            None => Ok(None),
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
        Ok(Identity {
            principal: None,
            predecessor: None,
            thing: None,
            is_exclusive: false,
            permissions,
            payload_schema: None,
            propagated: None,
            disconnect_after: None,
        })
    }

    pub(super) fn account(&self) -> &Account {
        self.registry.account()
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(super) fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().expect("no code panics while holding the answers")
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

pub(super) fn unavailable(error: &RegistryError) -> Refusal {
    tracing::error!(error = %error, "the registry cannot be read");
    Refusal::Unavailable(error.to_string())
}

impl From<Thing> for ThingContext {
    fn from(thing: Thing) -> Self {
        Self {
            name: thing.name,
            type_name: thing.type_name.map(|name| name.as_str().into()),
            attributes: thing.attributes.values().clone(),
        }
    }
}

pub(super) fn context(credentials: &Credentials) -> Context {
    Context {
        client_id: credentials.client_id.clone(),
        source_ip: Some(credentials.peer.ip()),
        domain_name: credentials.server_name.clone(),
        thing: None,
        certificate: BTreeMap::new(),
        has_will: credentials.has_will,
        is_persistent: credentials.is_persistent,
    }
}

#[cfg(test)]
mod tests;
