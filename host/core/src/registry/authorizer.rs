//! Custom authorizers: which plugin decides about clients that name one, and with which keys their
//! tokens are signed.
//!
//! `default-authorizer/default` is a record of its own: the one for clients that name none.
//! Not here: asking them (`auth`).

use super::index::ALL;
use super::record::{self, Stored};
use super::{ATTEMPTS_MAX, Page, PageRequest, Registry, RegistryError};
use crate::ids::{AuthorizerName, PluginName, TokenKeyName, lambda_function};
use crate::limits::Limits;
use crate::storage::Revision;
use crate::time::Timestamp;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Keys that may sign tokens for one authorizer: one in use, one to change to, and room. Each costs
/// a client with a wrong signature a verification.
pub const TOKEN_KEYS_MAX: usize = 10;

/// Longest PEM of a key. Source: `KeyValue` of AWS IoT's API reference, in characters.
const KEY_PEM_BYTES_MAX: usize = 5_120;

/// Longest ARN. Source: `AuthorizerFunctionArn` of AWS IoT's API reference.
const FUNCTION_ARN_BYTES_MAX: usize = 2_048;

/// Authorizers share this many counters; two on one counter only cost each other's clients a
/// needless question.
const GENERATIONS: usize = 64;

/// The name of the only record of its kind.
const DEFAULT: &str = "default";

/// A custom authorizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizerDefinition {
    /// Its name, which cannot change.
    pub name: AuthorizerName,
    /// What the operator says about it.
    pub settings: AuthorizerSettings,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its settings last changed.
    pub modified_at: Timestamp,
}

/// How an authorizer works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizerSettings {
    /// Who decides.
    pub function: AuthorizerFunction,
    /// Where clients put their token; required while tokens are signed.
    pub token_key_name: Option<TokenKeyName>,
    /// With which keys tokens may be signed; at least one while they are.
    pub token_keys: TokenKeys,
    /// Tokens are not signed (`signingDisabled`); cannot change.
    pub signing_disabled: bool,
    /// Whether it lets anybody in.
    pub status: AuthorizerStatus,
    /// Answers about HTTP requests are kept for as long as they say (`enableCachingForHttp`).
    pub caches_http: bool,
}

/// What UpdateAuthorizer changes; `None` leaves a setting as it is.
#[derive(Clone, Debug, Default)]
pub struct AuthorizerUpdate {
    /// See [`AuthorizerSettings::function`].
    pub function: Option<AuthorizerFunction>,
    /// See [`AuthorizerSettings::token_key_name`].
    pub token_key_name: Option<TokenKeyName>,
    /// Instead of all present keys.
    pub token_keys: Option<TokenKeys>,
    /// See [`AuthorizerSettings::status`].
    pub status: Option<AuthorizerStatus>,
    /// See [`AuthorizerSettings::caches_http`].
    pub caches_http: Option<bool>,
}

/// Whether an authorizer is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AuthorizerStatus {
    /// It is.
    Active,
    /// It lets nobody in; TestInvokeAuthorizer asks it all the same.
    Inactive,
}

impl AuthorizerStatus {
    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
        }
    }

    /// Reads AWS's form.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`].
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        match text {
            "ACTIVE" => Ok(Self::Active),
            "INACTIVE" => Ok(Self::Inactive),
            other => Err(RegistryError::InvalidRequest(format!(
                "status {other:.32?} must be ACTIVE or INACTIVE"
            ))),
        }
    }
}

/// The function that decides, as AWS addresses it: the plugin of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizerFunction {
    arn: String,
    plugin: PluginName,
}

impl AuthorizerFunction {
    /// Reads the ARN of a Lambda function; a qualifier means nothing here.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`].
    pub fn parse(arn: &str) -> Result<Self, RegistryError> {
        let name = lambda_function(arn).filter(|_| arn.len() <= FUNCTION_ARN_BYTES_MAX);
        let Some((name, _qualifier)) = name else {
            return Err(RegistryError::InvalidRequest(
                "authorizerFunctionArn must read \
                 arn:aws:lambda:<region>:<account>:function:<name>, with the name of a plugin"
                    .to_owned(),
            ));
        };
        let plugin = PluginName::parse(name).map_err(|error| {
            RegistryError::InvalidRequest(format!("authorizerFunctionArn: {error}"))
        })?;
        Ok(Self { arn: arn.to_owned(), plugin })
    }

    /// As it was given.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// The plugin of that name.
    pub fn plugin(&self) -> &PluginName {
        &self.plugin
    }
}

/// RSA keys by the ids that the operator gives them (`tokenSigningPublicKeys`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenKeys(BTreeMap<String, TokenKey>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct TokenKey {
    pem: String,
    /// `RSAPublicKey` of PKCS #1 in DER form.
    public_key: Bytes,
}

impl TokenKeys {
    /// Reads public keys in PEM form.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`] says which is no RSA key, or has a malformed id;
    /// [`RegistryError::LimitExceeded`] beyond [`TOKEN_KEYS_MAX`].
    pub fn parse(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, RegistryError> {
        let mut keys = BTreeMap::new();
        for (id, pem) in pairs {
            let wrong = |what: &dyn fmt::Display| {
                RegistryError::InvalidRequest(format!(
                    "tokenSigningPublicKeys: key {id:.128?} {what}"
                ))
            };
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'-');
            if !(1..=128).contains(&id.len()) || !id.bytes().all(is_plain) {
                return Err(wrong(&"must have an id of 1 to 128 characters of [a-zA-Z0-9:_-]"));
            }
            let public_key = rsa_public_key(&pem).map_err(|what| wrong(&what))?;
            keys.insert(id, TokenKey { pem, public_key });
        }
        if keys.len() > TOKEN_KEYS_MAX {
            return Err(RegistryError::LimitExceeded(format!(
                "{} tokenSigningPublicKeys; at most {TOKEN_KEYS_MAX} are allowed",
                keys.len()
            )));
        }
        Ok(Self(keys))
    }

    /// Ids and PEMs as they were given, ordered by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(id, key)| (id.as_str(), key.pem.as_str()))
    }

    /// The keys: `RSAPublicKey` of PKCS #1 in DER form.
    pub(crate) fn public_keys(&self) -> impl Iterator<Item = &[u8]> {
        self.0.values().map(|key| &key.public_key[..])
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The key of a PEM block `PUBLIC KEY`; an error completes "key …".
fn rsa_public_key(pem: &str) -> Result<Bytes, String> {
    if pem.len() > KEY_PEM_BYTES_MAX {
        return Err(format!("has more than {KEY_PEM_BYTES_MAX} bytes"));
    }
    let block = match x509_parser::pem::parse_x509_pem(pem.as_bytes()) {
        Ok((_, block)) if block.label == "PUBLIC KEY" => block,
        _ => {
            return Err(
                "is no PEM block that begins with -----BEGIN PUBLIC KEY-----; make it with \
                 `openssl rsa -pubout`"
                    .to_owned(),
            );
        }
    };
    let Ok((&[], info)) = SubjectPublicKeyInfo::from_der(&block.contents) else {
        return Err("does not hold a public key in DER form".to_owned());
    };
    match info.parsed() {
        // Source: AWS IoT, "Creating and managing custom authorizers": at least 2,048 bits.
        Ok(PublicKey::RSA(key)) if (2_048..=8_192).contains(&key.key_size()) => {
            Ok(Bytes::copy_from_slice(&info.subject_public_key.data))
        }
        Ok(PublicKey::RSA(key)) => {
            Err(format!("has {} bits; 2048 to 8192 are allowed", key.key_size()))
        }
        _ => Err("is no RSA key, and tokens are signed with RSA".to_owned()),
    }
}

impl AuthorizerSettings {
    fn check(&self) -> Result<(), RegistryError> {
        let missing = match (&self.token_key_name, self.token_keys.is_empty()) {
            _ if self.signing_disabled => return Ok(()),
            (None, _) => "tokenKeyName",
            (_, true) => "tokenSigningPublicKeys",
            _ => return Ok(()),
        };
        Err(RegistryError::InvalidRequest(format!(
            "an authorizer whose tokens are signed needs {missing}; signingDisabled makes one \
             without signatures"
        )))
    }

    fn change(&mut self, update: AuthorizerUpdate) {
        let AuthorizerUpdate { function, token_key_name, token_keys, status, caches_http } = update;
        self.function = function.unwrap_or_else(|| self.function.clone());
        self.token_key_name = token_key_name.or_else(|| self.token_key_name.take());
        self.token_keys = token_keys.unwrap_or_else(|| std::mem::take(&mut self.token_keys));
        self.status = status.unwrap_or(self.status);
        self.caches_http = caches_http.unwrap_or(self.caches_http);
    }
}

/// What is in memory about authorizers.
pub(super) struct Known {
    /// Decoded, with their keys parsed, valid for one revision of the record.
    decoded: Mutex<HashMap<AuthorizerName, (Revision, Arc<AuthorizerDefinition>)>>,
    generations: [AtomicU64; GENERATIONS],
    /// Changes of which one is the default.
    default_generation: AtomicU64,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            decoded: Mutex::default(),
            generations: std::array::from_fn(|_| AtomicU64::new(0)),
            default_generation: AtomicU64::new(0),
        }
    }
}

impl Known {
    fn generation_of(&self, name: &str) -> &AtomicU64 {
        let hash = name.bytes().fold(0, |hash: usize, b| hash.wrapping_mul(31) ^ usize::from(b));
        &self.generations[hash % GENERATIONS]
    }
}

impl Registry {
    /// CreateAuthorizer.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`], [`RegistryError::ResourceAlreadyExists`];
    /// [`RegistryError::LimitExceeded`] beyond `Limits::authorizers`, `active_authorizers`.
    pub async fn create_authorizer(
        &self,
        name: &AuthorizerName,
        settings: AuthorizerSettings,
    ) -> Result<AuthorizerDefinition, RegistryError> {
        settings.check()?;
        let key = record::key::<AuthorizerDefinition>(name.as_str());
        let exists = || RegistryError::ResourceAlreadyExists {
            message: format!("authorizer {name} exists"),
            id: name.as_str().to_owned(),
            arn: self.authorizer_arn(name),
        };
        if self.read::<AuthorizerDefinition>(&key).await?.is_some() {
            return Err(exists());
        }
        self.check_room(name, &settings).await?;
        let now = self.0.ports.clock.wall();
        let (created_at, modified_at) = (now, now);
        let made = AuthorizerDefinition { name: name.clone(), settings, created_at, modified_at };
        let written = self.write(&key, &made, None).await;
        // Clients of a plugin of this name are its clients now. Whatever came back: a write whose
        // answer was lost may have happened.
        self.authorizer_changed(name);
        if !written? {
            return Err(exists());
        }
        tracing::info!(authorizer = %name, "authorizer created");
        Ok(made)
    }

    /// DescribeAuthorizer.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn describe_authorizer(
        &self,
        name: &AuthorizerName,
    ) -> Result<AuthorizerDefinition, RegistryError> {
        Ok(self.read_existing(&record::key::<AuthorizerDefinition>(name.as_str())).await?.0)
    }

    /// UpdateAuthorizer. Its clients are asked about anew.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`], [`RegistryError::InvalidRequest`];
    /// [`RegistryError::LimitExceeded`] beyond `Limits::active_authorizers`.
    pub async fn update_authorizer(
        &self,
        name: &AuthorizerName,
        update: AuthorizerUpdate,
    ) -> Result<AuthorizerDefinition, RegistryError> {
        self.describe_authorizer(name).await?;
        if update.status == Some(AuthorizerStatus::Active) {
            check_active(&self.other_authorizers(name).await?, &self.0.ports.limits)?;
        }
        let now = self.0.ports.clock.wall();
        let mut changes = false;
        let change = |authorizer: &mut AuthorizerDefinition| {
            let before = authorizer.settings.clone();
            authorizer.settings.change(update.clone());
            authorizer.settings.check()?;
            changes = authorizer.settings != before;
            if changes {
                authorizer.modified_at = now;
            }
            Ok(changes)
        };
        let key = record::key::<AuthorizerDefinition>(name.as_str());
        let updated = self.update(&key, change).await;
        if changes {
            tracing::info!(authorizer = %name, "authorizer changed");
            self.authorizer_changed(name);
        }
        updated
    }

    /// DeleteAuthorizer.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::DeleteConflict`] while it is ACTIVE or
    /// the default.
    pub async fn delete_authorizer(&self, name: &AuthorizerName) -> Result<(), RegistryError> {
        let key = record::key::<AuthorizerDefinition>(name.as_str());
        for _ in 0..ATTEMPTS_MAX {
            let (authorizer, revision) = self.read_existing::<AuthorizerDefinition>(&key).await?;
            if authorizer.settings.status == AuthorizerStatus::Active {
                return Err(RegistryError::DeleteConflict(format!(
                    "authorizer {name} is ACTIVE; make it INACTIVE first"
                )));
            }
            if self.default_authorizer().await?.as_ref() == Some(name) {
                return Err(RegistryError::DeleteConflict(format!(
                    "authorizer {name} is the default; clear the default first"
                )));
            }
            let removed = self.remove(&key, revision, None).await;
            self.decoded().remove(name);
            self.authorizer_changed(name);
            if removed? {
                tracing::info!(authorizer = %name, "authorizer deleted");
                // Made the default since it was looked at?
                return self.clear_default_if(|default| default == name).await.map(|_| ());
            }
        }
        Err(RegistryError::Busy)
    }

    /// ListAuthorizers, ordered by name, or the other way round.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_authorizers(
        &self,
        status: Option<AuthorizerStatus>,
        is_ascending: bool,
        page: PageRequest<'_>,
    ) -> Result<Page<AuthorizerDefinition>, RegistryError> {
        let fits = |it: &AuthorizerDefinition| status.is_none_or(|s| it.settings.status == s);
        if is_ascending {
            return self.list(page, fits).await;
        }
        // At most `Limits::authorizers`; the store reads forwards only.
        let all = self.list(ALL, fits).await?.items;
        let is_behind =
            |it: &AuthorizerDefinition| page.after.is_none_or(|after| it.name.as_str() < after);
        let mut rest = all.into_iter().rev().filter(is_behind);
        let items: Vec<_> = rest.by_ref().take(page.limit).collect();
        let last = items.last().map(|it| it.name.as_str().to_owned());
        Ok(Page { items, next: rest.next().and(last) })
    }

    /// SetDefaultAuthorizer.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::ResourceAlreadyExists`] while there is
    /// a default.
    pub async fn set_default_authorizer(&self, name: &AuthorizerName) -> Result<(), RegistryError> {
        self.describe_authorizer(name).await?;
        let key = record::key::<DefaultAuthorizer>(DEFAULT);
        let written = self.write(&key, &DefaultAuthorizer { name: name.clone() }, None).await;
        self.default_changed();
        if !written? {
            let present = self.default_authorizer().await?.unwrap_or_else(|| name.clone());
            return Err(RegistryError::ResourceAlreadyExists {
                message: format!("authorizer {present} is the default; clear the default first"),
                id: present.as_str().to_owned(),
                arn: self.authorizer_arn(&present),
            });
        }
        tracing::info!(authorizer = %name, "authorizer is the default");
        // Deleted since the first look? The deletion may have missed that it is the default.
        match self.describe_authorizer(name).await {
            Ok(_) => Ok(()),
            Err(error) => {
                self.clear_default_if(|default| default == name).await?;
                Err(error)
            }
        }
    }

    /// ClearDefaultAuthorizer.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`] when there is none.
    pub async fn clear_default_authorizer(&self) -> Result<(), RegistryError> {
        match self.clear_default_if(|_| true).await? {
            true => Ok(()),
            false => Err(DefaultAuthorizer::not_found(DEFAULT)),
        }
    }

    /// DescribeDefaultAuthorizer.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`] when there is none.
    pub async fn describe_default_authorizer(&self) -> Result<AuthorizerDefinition, RegistryError> {
        let default = self.default_authorizer().await?;
        let name = default.ok_or_else(|| DefaultAuthorizer::not_found(DEFAULT))?;
        self.describe_authorizer(&name).await
    }

    /// `arn:aws:iot:<region>:<account>:authorizer/<name>`.
    pub fn authorizer_arn(&self, name: &AuthorizerName) -> String {
        self.account().arn(&format!("authorizer/{name}"))
    }

    /// The authorizer for clients that name none.
    pub(crate) async fn default_authorizer(&self) -> Result<Option<AuthorizerName>, RegistryError> {
        let found =
            self.read::<DefaultAuthorizer>(&record::key::<DefaultAuthorizer>(DEFAULT)).await?;
        Ok(found.map(|(default, _)| default.name))
    }

    /// An authorizer as it is now, with the revision of its record.
    pub(crate) async fn known_authorizer(
        &self,
        name: &AuthorizerName,
    ) -> Result<Option<(Revision, Arc<AuthorizerDefinition>)>, RegistryError> {
        let key = record::key::<AuthorizerDefinition>(name.as_str());
        // Read each time, so that a change by another node counts at once; its keys are parsed only
        // when the revision is new.
        let Some(record) = self.0.ports.storage.get(&key).await? else { return Ok(None) };
        if let Some((revision, authorizer)) = self.decoded().get(name)
            && *revision == record.revision
        {
            return Ok(Some((*revision, authorizer.clone())));
        }
        let authorizer = Arc::new(record::decode::<AuthorizerDefinition>(&record)?);
        self.decoded().insert(name.clone(), (record.revision, authorizer.clone()));
        Ok(Some((record.revision, authorizer)))
    }

    /// Whether an authorizer asks this plugin.
    pub(crate) async fn is_authorizers_plugin(&self, plugin: &str) -> Result<bool, RegistryError> {
        let asks = |it: &AuthorizerDefinition| it.settings.function.plugin.as_str() == plugin;
        let first = PageRequest { limit: 1, after: None };
        Ok(!self.list(first, asks).await?.items.is_empty())
    }

    /// Grows with every change of the authorizer of this name.
    pub(crate) fn authorizer_generation(&self, name: &str) -> u64 {
        self.0.authorizers.generation_of(name).load(Ordering::Acquire)
    }

    /// Grows with every change of which authorizer is the default.
    pub(crate) fn default_authorizer_generation(&self) -> u64 {
        self.0.authorizers.default_generation.load(Ordering::Acquire)
    }

    fn authorizer_changed(&self, name: &AuthorizerName) {
        self.0.authorizers.generation_of(name.as_str()).fetch_add(1, Ordering::Release);
        self.0.changed.send_replace(());
    }

    /// Another authorizer may be asked about clients that name none.
    pub(super) fn default_changed(&self) {
        self.0.authorizers.default_generation.fetch_add(1, Ordering::Release);
        self.0.changed.send_replace(());
    }

    /// False when there is no such default.
    async fn clear_default_if(
        &self,
        is_meant: impl Fn(&AuthorizerName) -> bool,
    ) -> Result<bool, RegistryError> {
        let key = record::key::<DefaultAuthorizer>(DEFAULT);
        for _ in 0..ATTEMPTS_MAX {
            let found = self.read::<DefaultAuthorizer>(&key).await?;
            let Some((_, revision)) = found.filter(|(default, _)| is_meant(&default.name)) else {
                return Ok(false);
            };
            let removed = self.remove(&key, revision, None).await;
            self.default_changed();
            if removed? {
                tracing::info!("there is no default authorizer any more");
                return Ok(true);
            }
        }
        Err(RegistryError::Busy)
    }

    /// Whether there is room for one more.
    async fn check_room(
        &self,
        name: &AuthorizerName,
        settings: &AuthorizerSettings,
    ) -> Result<(), RegistryError> {
        let limits = &self.0.ports.limits;
        let others = self.other_authorizers(name).await?;
        if others.len() >= limits.authorizers as usize {
            let message = format!("there are {} authorizers already", others.len());
            return Err(RegistryError::LimitExceeded(message));
        }
        match settings.status {
            AuthorizerStatus::Active => check_active(&others, limits),
            AuthorizerStatus::Inactive => Ok(()),
        }
    }

    async fn other_authorizers(
        &self,
        name: &AuthorizerName,
    ) -> Result<Vec<AuthorizerDefinition>, RegistryError> {
        Ok(self.list(ALL, |it: &AuthorizerDefinition| it.name != *name).await?.items)
    }

    fn decoded(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<AuthorizerName, (Revision, Arc<AuthorizerDefinition>)>>
    {
        self.0.authorizers.decoded.lock().expect("no code panics while holding the authorizers")
    }
}

/// Whether one more may be ACTIVE beside the others.
fn check_active(others: &[AuthorizerDefinition], limits: &Limits) -> Result<(), RegistryError> {
    let is_active = |it: &&AuthorizerDefinition| it.settings.status == AuthorizerStatus::Active;
    let active = others.iter().filter(is_active).count();
    if active >= limits.active_authorizers as usize {
        let message = format!("{active} authorizers are ACTIVE already");
        return Err(RegistryError::LimitExceeded(message));
    }
    Ok(())
}

#[derive(Serialize, Deserialize)]
pub(super) struct AuthorizerRecord {
    function_arn: String,
    token_key_name: Option<String>,
    token_keys: BTreeMap<String, String>,
    signing_disabled: bool,
    status: AuthorizerStatus,
    caches_http: bool,
    created_at_ms: u64,
    modified_at_ms: u64,
}

impl Stored for AuthorizerDefinition {
    const KIND: &str = "authorizer";
    const VERSION: u8 = 1;
    type Record = AuthorizerRecord;

    fn to_record(&self) -> AuthorizerRecord {
        let settings = &self.settings;
        let owned = |(id, pem): (&str, &str)| (id.to_owned(), pem.to_owned());
        AuthorizerRecord {
            function_arn: settings.function.arn.clone(),
            token_key_name: settings.token_key_name.as_ref().map(ToString::to_string),
            token_keys: settings.token_keys.iter().map(owned).collect(),
            signing_disabled: settings.signing_disabled,
            status: settings.status,
            caches_http: settings.caches_http,
            created_at_ms: self.created_at.as_millis(),
            modified_at_ms: self.modified_at.as_millis(),
        }
    }

    fn from_record(name: &str, record: AuthorizerRecord) -> Result<Self, String> {
        let token_key_name = record.token_key_name.as_deref().map(TokenKeyName::parse).transpose();
        let text = |error: RegistryError| error.to_string();
        Ok(Self {
            name: AuthorizerName::parse(name).map_err(|error| error.to_string())?,
            settings: AuthorizerSettings {
                function: AuthorizerFunction::parse(&record.function_arn).map_err(text)?,
                token_key_name: token_key_name.map_err(|error| error.to_string())?,
                token_keys: TokenKeys::parse(record.token_keys).map_err(text)?,
                signing_disabled: record.signing_disabled,
                status: record.status,
                caches_http: record.caches_http,
            },
            created_at: Timestamp::from_millis(record.created_at_ms),
            modified_at: Timestamp::from_millis(record.modified_at_ms),
        })
    }

    fn not_found(name: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("authorizer {name} does not exist"))
    }
}

/// Which authorizer decides about clients that name none.
struct DefaultAuthorizer {
    name: AuthorizerName,
}

#[derive(Serialize, Deserialize)]
struct DefaultAuthorizerRecord {
    name: String,
}

impl Stored for DefaultAuthorizer {
    const KIND: &str = "default-authorizer";
    const VERSION: u8 = 1;
    type Record = DefaultAuthorizerRecord;

    fn to_record(&self) -> DefaultAuthorizerRecord {
        DefaultAuthorizerRecord { name: self.name.as_str().to_owned() }
    }

    fn from_record(_: &str, record: DefaultAuthorizerRecord) -> Result<Self, String> {
        let name = AuthorizerName::parse(&record.name).map_err(|error| error.to_string())?;
        Ok(Self { name })
    }

    fn not_found(_: &str) -> RegistryError {
        RegistryError::ResourceNotFound("there is no default authorizer".to_owned())
    }
}

#[cfg(test)]
mod tests;
