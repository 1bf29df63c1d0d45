//! Custom authorizers: which one decides about a client, what it is asked, what its answer means.
//!
//! In: the name that the client gives, or that of the default, and its [`Credentials`]. Out: an
//! [`Identity`], and when to ask again. The registry's authorizers go before the configuration's
//! plugins. The signature of a token is checked before a plugin is asked, so that whoever has none
//! costs no call.
//!
//! Times of an answer are obeyed as they are, also outside AWS's 300 to 86,400 seconds: a plugin
//! says when a token ends, and that may be soon.

use super::answers::Key;
use super::authenticator::{AUTHORIZER_TIMEOUT, Authenticator, context, unavailable};
use super::presented::{self, parameter};
use super::{Authorizer, AuthorizerRequest, AuthorizerResponse, Credentials, Identity, Refusal};
use crate::ids::{AuthorizerName, CertificateId, Principal, ThingName};
use crate::policy::{Permissions, Policy, ThingContext};
use crate::registry::{AuthorizerDefinition, AuthorizerStatus, RegistryError, Thing};
use crate::storage::Revision;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;
use std::time::Duration;

/// Policy documents of one answer. Source: AWS IoT, "Defining your Lambda function".
const AUTHORIZER_POLICIES_MAX: usize = 10;

/// Longest `principalId`.
const PRINCIPAL_ID_BYTES_MAX: usize = 128;

/// Checks signatures of tokens; implemented by `gnomon-pki`.
pub trait SignatureVerifier: Send + Sync + 'static {
    /// Whether this is a signature of the message, RSA PKCS #1 v1.5 with SHA-256, by the key
    /// (`RSAPublicKey` of PKCS #1 in DER form).
    fn is_signed(&self, message: &[u8], signature: &[u8], public_key: &[u8]) -> bool;
}

/// What TestInvokeAuthorizer asks about.
#[derive(Clone, Debug)]
pub struct AuthorizerTest {
    /// As if a connection presented this.
    pub credentials: Credentials,
    /// The token; `None`: where the authorizer looks for it in the credentials.
    pub token: Option<String>,
    /// Its signature; `None`: as of the token.
    pub signature: Option<String>,
}

/// Why a test has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthorizerTestError {
    /// The authorizer cannot be looked up.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The authorizer would not be asked about this.
    #[error("{0}")]
    Refused(String),
    /// It failed, or answered what no client could be let in by.
    #[error("{0}")]
    Response(String),
}

/// An authorizer by its name.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) name: Arc<str>,
    /// The client did not name it.
    pub(super) is_default: bool,
}

/// An authorizer that may be asked.
pub(super) struct Found {
    authorizer: Arc<dyn Authorizer>,
    token_key_name: Option<Arc<str>>,
    /// `None` for a plugin of the configuration.
    registered: Option<(Revision, Arc<AuthorizerDefinition>)>,
}

impl Authenticator {
    /// Asks the authorizer; with the time for which its answer holds, if it ends.
    pub(super) async fn ask_authorizer(
        &self,
        chosen: &Chosen,
        credentials: &Credentials,
    ) -> Result<(Identity, Option<Duration>), Refusal> {
        let found = self.find(chosen).await?;
        let key = found.cache_key(credentials);
        let kept = key.as_ref().and_then(|key| self.answers().get(key, self.now()));
        if let Some(identity) = kept {
            return Ok((identity, None));
        }
        let who = format!("authorizer {}", chosen.name);
        let token = found.token_key_name.as_deref().and_then(|key| parameter(credentials, key));
        let signature = parameter(credentials, presented::SIGNATURE);
        let request =
            self.request(&found, credentials, token.as_deref(), signature.as_deref()).map_err(
                |problem| Refusal::NotAuthenticated(format!("{who} is not asked: {problem}")),
            )?;
        let response = ask(&*found.authorizer, &request)
            .await
            .map_err(|problem| Refusal::NotAuthenticated(format!("{who} {problem}")))?;
        let identity = self.check_response(&who, &response, credentials).await?;
        let seconds = Some(response.refresh_after_s).filter(|&seconds| seconds > 0);
        let refresh_after = seconds.map(|seconds| Duration::from_secs(seconds.into()));
        if let (Some(key), Some(after)) = (key, refresh_after) {
            self.answers().insert(key, identity.clone(), self.now() + after);
        }
        Ok((identity, refresh_after))
    }

    /// Asks an authorizer of the registry, also an INACTIVE one, and checks its answer as if a
    /// client waited for it.
    ///
    /// # Errors
    /// See [`AuthorizerTestError`].
    pub async fn test_authorizer(
        &self,
        name: &AuthorizerName,
        test: &AuthorizerTest,
    ) -> Result<AuthorizerResponse, AuthorizerTestError> {
        let registered = self.registry.known_authorizer(name).await?;
        let Some((revision, definition)) = registered else {
            // For its error.
            self.registry.describe_authorizer(name).await?;
            return Err(RegistryError::Busy.into());
        };
        let found = self.plugin_of(revision, definition).map_err(AuthorizerTestError::Refused)?;
        let AuthorizerTest { credentials, token, signature } = test;
        let token = token.as_deref().map(Into::into).or_else(|| {
            found.token_key_name.as_deref().and_then(|key| parameter(credentials, key))
        });
        let signature = signature.as_deref().map(Into::into);
        let signature = signature.or_else(|| parameter(credentials, presented::SIGNATURE));
        let request = self
            .request(&found, credentials, token.as_deref(), signature.as_deref())
            .map_err(AuthorizerTestError::Refused)?;
        let who = format!("authorizer {name}");
        let response = ask(&*found.authorizer, &request)
            .await
            .map_err(|problem| AuthorizerTestError::Response(format!("{who} {problem}")))?;
        if response.is_authenticated {
            let checked = self.check_response(&who, &response, credentials).await;
            checked.map_err(|refusal| AuthorizerTestError::Response(refusal.to_string()))?;
        }
        Ok(response)
    }

    /// The authorizer, if it may be asked.
    pub(super) async fn find(&self, chosen: &Chosen) -> Result<Found, Refusal> {
        let Chosen { name, is_default } = chosen;
        let registered = match AuthorizerName::parse(name) {
            Ok(name) => self.registry.known_authorizer(&name).await.map_err(|e| unavailable(&e))?,
            Err(_) => None,
        };
        if let Some((revision, definition)) = registered {
            if definition.settings.status != AuthorizerStatus::Active {
                let message = format!("authorizer {name} is INACTIVE");
                return Err(Refusal::NotAuthenticated(message));
            }
            return self.plugin_of(revision, definition).map_err(Refusal::Unavailable);
        }
        let Some(custom) = self.authorizers.by_name.get(name) else {
            return Err(match is_default {
                true => Refusal::Unavailable(format!("authorizer {name} is not configured")),
                false => Refusal::NotAuthenticated(
                    "the client names a custom authorizer that does not exist".to_owned(),
                ),
            });
        };
        // Else a client could go round the signature that an authorizer of the plugin asks for. What
        // the configuration makes the default is what its author wants.
        let is_taken = !is_default
            && self.registry.is_authorizers_plugin(name).await.map_err(|e| unavailable(&e))?;
        if is_taken {
            return Err(Refusal::NotAuthenticated(format!(
                "the client names plugin {name}, which an authorizer of the registry asks; it has \
                 to name that authorizer"
            )));
        }
        let (authorizer, token_key_name) =
            (custom.authorizer.clone(), custom.token_key_name.clone());
        Ok(Found { authorizer, token_key_name, registered: None })
    }

    fn plugin_of(
        &self,
        revision: Revision,
        definition: Arc<AuthorizerDefinition>,
    ) -> Result<Found, String> {
        let plugin = definition.settings.function.plugin();
        let Some(custom) = self.authorizers.by_name.get(plugin.as_str()) else {
            let name = &definition.name;
            return Err(format!(
                "authorizer {name} asks plugin {plugin}, which is no plugin of this host that \
                 exports authorizer"
            ));
        };
        let token_key_name = definition.settings.token_key_name.as_ref();
        Ok(Found {
            authorizer: custom.authorizer.clone(),
            token_key_name: token_key_name.map(|name| name.as_str().into()),
            registered: Some((revision, definition)),
        })
    }

    /// What the authorizer is asked, if the token is signed where it has to be.
    fn request(
        &self,
        found: &Found,
        credentials: &Credentials,
        token: Option<&str>,
        signature: Option<&str>,
    ) -> Result<AuthorizerRequest, String> {
        let definition = found.registered.as_ref().map(|(_, definition)| definition);
        let signed = definition.filter(|definition| !definition.settings.signing_disabled);
        if let Some(definition) = signed {
            self.check_signature(definition, token, signature)?;
        }
        Ok(AuthorizerRequest {
            credentials: credentials.clone(),
            token: token.map(Into::into),
            signature_verified: signed.is_some(),
        })
    }

    fn check_signature(
        &self,
        definition: &AuthorizerDefinition,
        token: Option<&str>,
        signature: Option<&str>,
    ) -> Result<(), String> {
        let Some(token) = token else { return Err("there is no token".to_owned()) };
        let Some(signature) = signature else {
            return Err("the token has no signature".to_owned());
        };
        let Ok(signature) = STANDARD.decode(signature) else {
            return Err("the token's signature is not base64".to_owned());
        };
        let Some(verifier) = &self.authorizers.signatures else {
            return Err("this host cannot check signatures".to_owned());
        };
        let mut keys = definition.settings.token_keys.public_keys();
        match keys.any(|key| verifier.is_signed(token.as_bytes(), &signature, key)) {
            true => Ok(()),
            false => Err("the token's signature is by none of its keys".to_owned()),
        }
    }

    /// Who a client is by this answer about it; `who` begins the texts for the operator.
    pub(super) async fn check_response(
        &self,
        who: &str,
        response: &AuthorizerResponse,
        credentials: &Credentials,
    ) -> Result<Identity, Refusal> {
        let refuse = |problem| Refusal::NotAuthenticated(format!("{who} {problem}"));
        let (principal, policies) = self.check_members(who, response).map_err(refuse)?;
        let thing = match attribute(response, "thing-name").map(ThingName::parse).transpose() {
            Ok(Some(name)) => self.existing_thing(&name).await.map_err(|e| unavailable(&e))?,
            Ok(None) => None,
            Err(error) => return Err(refuse(format!("answered with a wrong thing-name: {error}"))),
        };
        let mut context = context(credentials);
        let name = thing.as_ref().map(|thing| thing.name.clone());
        let payload_schema = self.schema_of(thing.as_ref()).await.map_err(|e| unavailable(&e))?;
        context.thing = thing.map(ThingContext::from);
        let seconds = Some(response.disconnect_after_s).filter(|&seconds| seconds > 0);
        Ok(Identity {
            principal: Some(principal),
            predecessor: None,
            thing: name,
            is_exclusive: false,
            permissions: Permissions::new(&policies, &context),
            payload_schema,
            // AWS: only for clients with a certificate.
            propagated: None,
            disconnect_after: seconds.map(|seconds| Duration::from_secs(seconds.into())),
        })
    }

    fn check_members(
        &self,
        who: &str,
        response: &AuthorizerResponse,
    ) -> Result<(Principal, Vec<Policy>), String> {
        if !response.is_authenticated {
            let reason = attribute(response, "reason").unwrap_or("no reason given");
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
            let policy = Policy::parse(&format!("{index} of {who}"), document, self.account());
            policies.push(policy.map_err(|error| {
                format!("answered with policy document {index}, which is refused: {error}")
            })?);
        }
        Ok((Principal::new(id), policies))
    }

    pub(super) async fn existing_thing(
        &self,
        name: &ThingName,
    ) -> Result<Option<Thing>, RegistryError> {
        match self.registry.describe_thing(name).await {
            Ok(thing) => Ok(Some(thing)),
            Err(RegistryError::ResourceNotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Found {
    /// Under what an answer about an HTTP request may be kept.
    fn cache_key(&self, credentials: &Credentials) -> Option<Key> {
        let (revision, definition) = self.registered.as_ref()?;
        let is_kept = definition.settings.caches_http && credentials.client_id.is_none();
        is_kept.then(|| Key::new(&definition.name, *revision, credentials))
    }
}

/// An error completes "authorizer …".
async fn ask(
    authorizer: &dyn Authorizer,
    request: &AuthorizerRequest,
) -> Result<AuthorizerResponse, String> {
    match tokio::time::timeout(AUTHORIZER_TIMEOUT, authorizer.authorize(request)).await {
        Ok(answer) => answer.map_err(|problem| format!("failed: {problem}")),
        Err(_) => Err(format!("did not answer within {} s", AUTHORIZER_TIMEOUT.as_secs())),
    }
}

fn attribute<'r>(response: &'r AuthorizerResponse, name: &str) -> Option<&'r str> {
    let found = response.attributes.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests;
