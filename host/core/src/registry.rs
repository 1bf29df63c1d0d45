//! The registry: things, their types and groups, certificates, policies, and what is attached to what.
//!
//! In: the control plane's operations (REST, provisioning). Out: records for lists and
//! descriptions, for `auth` the policies of a certificate and its thing, and changes for whoever
//! observes them ([`RegistryObserver`]). Everything is durable when a call returns. Not here: HTTP
//! shapes (`gnomon-api`), making keys and signatures ([`Issuer`]), who is let in (`auth`).
//!
//! Aggregates, one key each: `thing/{name}`, `thing-type/{name}`, `certificate/{id}`, `policy/{name}`,
//! `authorizer/{name}`. A certificate's record is the truth about its attachments. The other
//! direction is answered from small index keys (`policy-target/{policy}/{certificate}`,
//! `thing-principal/{thing}/{certificate}`; for groups see `thing_group` and `group_policy`, for CAs
//! `ca_certificate`, for ends `expiry`), because the store has no transactions over several keys. Their
//! invariant: an index key is written before the truth and removed after it, so that it may be there in
//! vain but never be missing; readers ask the truth.

mod attachment;
mod authorizer;
mod billing_group;
mod ca_certificate;
mod certificate;
mod certificate_transfer;
mod claim;
mod domain_configuration;
mod dynamic_thing_group;
mod event_configuration;
mod expiry;
mod group_policy;
mod index;
mod indexing;
mod issuer;
mod log_level;
mod observer;
mod policy;
mod provisioning_template;
mod quarantine;
mod record;
mod registration_task;
mod renewal;
mod role_alias;
mod tag;
mod thing;
mod thing_group;
mod thing_type;
mod thing_type_schema;
mod x509;

use crate::ids::{Account, CertificateId, NameError};
use crate::limits::Limits;
use crate::logging::Levels;
use crate::policy::{Policy, PolicyError};
use crate::random::Random;
use crate::storage::{Expect, Key, Revision, Storage, StoreError};
use crate::time::Clock;
use gnomon_search::QueryError;
use record::Stored;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Semaphore, watch};

pub use attachment::ThingPrincipalType;
pub use authorizer::{
    AuthorizerDefinition, AuthorizerFunction, AuthorizerSettings, AuthorizerStatus,
    AuthorizerUpdate, TOKEN_KEYS_MAX, TokenKeys,
};
pub use billing_group::BillingGroup;
pub use ca_certificate::{CaCertificate, CaRegistration, CaUpdate, RegistrationConfig};
pub use certificate::{Certificate, CertificateMode, CertificateStatus, IssuedKeys};
pub use certificate_transfer::Transfer;
pub use claim::ProvisioningClaim;
pub use domain_configuration::{
    DomainAuthorizer, DomainConfiguration, DomainConfigurationUpdate, ServiceType,
};
pub use dynamic_thing_group::{DYNAMIC_GROUPS_MAX, DynamicGroupUpdate};
pub use event_configuration::{EventClass, EventConfigurations, EventDates};
pub use expiry::{Expiring, ExpiringKind, WARNING_DAYS};
pub use group_policy::PolicyTarget;
pub use indexing::{
    CustomFields, IndexingConfiguration, ThingGroupIndexing, ThingIndexing, field_type_name,
    parse_field_type,
};
pub use issuer::{IssueError, Issued, Issuer};
pub use log_level::{LogLevel, LogOptions};
pub use observer::{Change, Diff, RegistryObserver};
pub use policy::{PolicyDefinition, PolicyVersion};
pub use provisioning_template::{
    NewTemplate, ProvisioningHook, ProvisioningTemplate, TemplateType, TemplateUpdate,
    TemplateVersion,
};
pub use quarantine::{OffenceKind, Offender, QUARANTINE_GROUP, QUARANTINE_POLICY, QuarantineEntry};
pub use registration_task::{
    NewRegistrationTask, RegistrationTask, ReportSize, TaskProgress, TaskStatus,
};
pub use renewal::{Lineage, Renewal};
pub use role_alias::{CREDENTIAL_DURATION_S, RoleAlias};
pub use tag::{TAGS_MAX, Tags};
pub use thing::{Attributes, Thing, ThingFilter, ThingUpdate};
pub use thing_group::{ThingGroup, ThingGroupProperties};
pub use thing_type::{
    PropagatedValue, PropagatingAttribute, ThingType, ThingTypeProperties, ThingTypeUpdate,
};
pub use thing_type_schema::ThingTypeSchema;
pub use x509::certificate_id;

/// Times that a change is decided anew because someone else wrote in between. Writers of one
/// record wait for the disk in turn, so this many in a row mean an endless fight.
const ATTEMPTS_MAX: usize = 32;

/// Records read from the store at a time while a list is filtered.
const SCAN_RECORDS: usize = 100;

/// Key pairs that are made at the same time; further requests wait. An RSA key takes about 0.1 s
/// of a processor.
const ISSUING_MAX: usize = 2;

/// Certificates share this many counters of [`Registry::permissions_generation`]; two on one
/// counter only cost each other a needless look. 8 KiB.
const GENERATIONS: usize = 1_024;

/// Longest description in characters (`ThingTypeDescription`, `ThingGroupDescription`).
const DESCRIPTION_CHARS_MAX: usize = 2_028;

/// The descriptions of all of AWS's resources follow one pattern: `[\p{Graph}\x20]*`.
fn check_description(member: &str, text: &str) -> Result<(), RegistryError> {
    if text.chars().count() > DESCRIPTION_CHARS_MAX {
        return Err(RegistryError::InvalidRequest(format!(
            "{member} has more than {DESCRIPTION_CHARS_MAX} characters"
        )));
    }
    match text.char_indices().find(|(_, c)| c.is_control() || c.is_whitespace() && *c != ' ') {
        Some((at, _)) => Err(RegistryError::InvalidRequest(format!(
            "{member} has a character at byte {at} that is not allowed: neither control characters \
             nor white space but the space"
        ))),
        None => Ok(()),
    }
}

/// Why an operation of the registry failed; the variants are AWS IoT's exceptions.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No such resource.
    #[error("{0}")]
    ResourceNotFound(String),
    /// The name is taken by a resource that differs.
    #[error("{message}")]
    ResourceAlreadyExists {
        /// What exists.
        message: String,
        /// Its id.
        id: String,
        /// Its ARN.
        arn: String,
    },
    /// `expectedVersion` is not the version of the resource.
    #[error("{0}")]
    VersionConflict(String),
    /// Something still refers to the resource.
    #[error("{0}")]
    DeleteConflict(String),
    /// The certificate's status does not allow it.
    #[error("{0}")]
    CertificateState(String),
    /// The certificate is not one.
    #[error("{0}")]
    CertificateValidation(String),
    /// It is not clear which CA signed the certificate.
    #[error("{0}")]
    CertificateConflict(String),
    /// The verification certificate does not hold the registration code.
    #[error("{0}")]
    RegistrationCodeValidation(String),
    /// The certificate cannot be transferred while something is attached to it.
    #[error("{0}")]
    TransferConflict(String),
    /// The certificate is not being transferred (any more).
    #[error("{0}")]
    TransferAlreadyCompleted(String),
    /// A quota is used up.
    #[error("{0}")]
    LimitExceeded(String),
    /// Nobody has set up what the operation is about.
    #[error("{0}")]
    NotConfigured(String),
    /// The request makes no sense; retrying unchanged cannot help.
    #[error("{0}")]
    InvalidRequest(String),
    /// The query of a dynamic group, or of a search, does not parse.
    #[error(transparent)]
    InvalidQuery(#[from] QueryError),
    /// A policy document does not parse.
    #[error(transparent)]
    MalformedPolicy(#[from] PolicyError),
    /// The policy has as many versions as it may have.
    #[error("{0}")]
    VersionsLimitExceeded(String),
    /// Others changed the same resource again and again; a retry may help.
    #[error("the resource is being changed by too many at the same time; try again")]
    Busy,
    /// The store failed; nothing was changed, a retry may help.
    #[error(transparent)]
    Store(StoreError),
    /// A stored record cannot be read: it is damaged, or of a later version of the host.
    #[error("the record {key:?} cannot be read: {reason}")]
    Record {
        /// Which.
        key: Key,
        /// What is wrong with it.
        reason: String,
    },
    /// Keys or a certificate could not be made.
    #[error("keys or certificate could not be made: {0}")]
    Issuer(String),
}

impl From<NameError> for RegistryError {
    fn from(error: NameError) -> Self {
        Self::InvalidRequest(error.to_string())
    }
}

impl From<StoreError> for RegistryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict => Self::Busy,
            StoreError::TooLarge { .. } => Self::InvalidRequest(error.to_string()),
            error => Self::Store(error),
        }
    }
}

/// Part of a list, ordered by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Name of the last item, when there are more behind it: what to ask for next.
    pub next: Option<String>,
}

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest<'a> {
    /// At most so many items; at least 1.
    pub limit: usize,
    /// Begin behind the item of this name.
    pub after: Option<&'a str>,
}

/// What the registry works with.
pub struct Ports {
    /// Where records are kept.
    pub storage: Arc<dyn Storage>,
    /// For dates.
    pub clock: Arc<dyn Clock>,
    /// For ids.
    pub random: Arc<dyn Random>,
    /// Makes keys and certificates.
    pub issuer: Arc<dyn Issuer>,
    /// Region and account of ARNs.
    pub account: Account,
    /// `thing_attributes`, `policies_per_principal` and their like bound what is stored.
    pub limits: Arc<Limits>,
}

/// The registry; clones share it.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    ports: Ports,
    /// Compiled default versions by policy name, valid for one revision of its record.
    compiled: Mutex<CompiledPolicies>,
    /// Compiled schemas of thing types.
    schemas: Mutex<thing_type_schema::CompiledSchemas>,
    issuing: Semaphore,
    /// Changes of policies and schemas, which may concern everybody.
    common_generation: AtomicU64,
    generations: Box<[AtomicU64]>,
    authorizers: authorizer::Known,
    changed: watch::Sender<()>,
    observers: observer::Observers,
    log_levels: Levels,
    /// Held while levels are written and read again, so that the last change is what holds.
    log_changes: tokio::sync::Mutex<()>,
    /// Held while domain configurations change.
    domain_changes: tokio::sync::Mutex<()>,
    /// Of domain configurations; `None` until somebody asks.
    domain_authorizers: Mutex<Option<Arc<domain_configuration::DomainAuthorizers>>>,
    expiry_index_is_complete: AtomicBool,
}

type CompiledPolicies = HashMap<Box<str>, (Revision, Arc<Policy>)>;

impl Registry {
    /// The registry in this store.
    pub fn new(ports: Ports) -> Self {
        Self(Arc::new(Shared {
            ports,
            compiled: Mutex::default(),
            schemas: Mutex::default(),
            issuing: Semaphore::new(ISSUING_MAX),
            common_generation: AtomicU64::new(0),
            generations: (0..GENERATIONS).map(|_| AtomicU64::new(0)).collect(),
            authorizers: authorizer::Known::default(),
            changed: watch::Sender::new(()),
            observers: observer::Observers::default(),
            log_levels: Levels::default(),
            log_changes: tokio::sync::Mutex::default(),
            domain_changes: tokio::sync::Mutex::default(),
            domain_authorizers: Mutex::default(),
            expiry_index_is_complete: AtomicBool::new(false),
        }))
    }

    /// Region and account of the ARNs.
    pub fn account(&self) -> &Account {
        &self.0.ports.account
    }

    /// Wakes whenever the permissions of anybody may have changed. Many changes wake once.
    ///
    /// A connection then compares [`Registry::permissions_generation`] with what it was when it
    /// was authenticated, which costs nothing, and authenticates again only when they differ.
    pub fn watch_permissions(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Grows with every change that may concern the certificate (its status, attachments, things
    /// or any policy); without a certificate, with every change of a policy.
    pub fn permissions_generation(&self, certificate: Option<&CertificateId>) -> u64 {
        let own = certificate.map_or(0, |id| self.generation_of(id).load(Ordering::Acquire));
        own + self.0.common_generation.load(Ordering::Acquire)
    }

    /// Tells the connections of a certificate that its permissions changed.
    fn certificate_changed(&self, id: &CertificateId) {
        self.generation_of(id).fetch_add(1, Ordering::Release);
        self.0.changed.send_replace(());
    }

    /// Tells every connection that a policy changed.
    fn policy_changed(&self) {
        self.0.common_generation.fetch_add(1, Ordering::Release);
        self.0.changed.send_replace(());
    }

    fn generation_of(&self, id: &CertificateId) -> &AtomicU64 {
        // Ids are digests: any four of their digits are as good as a hash.
        let digits = id.as_str().get(..4).unwrap_or_default();
        let digest = usize::from_str_radix(digits, 16).unwrap_or(0);
        &self.0.generations[digest % GENERATIONS]
    }

    async fn read<T: Stored>(&self, key: &Key) -> Result<Option<(T, Revision)>, RegistryError> {
        let record = self.0.ports.storage.get(key).await?;
        record.map(|record| Ok((record::decode(&record)?, record.revision))).transpose()
    }

    async fn read_existing<T: Stored>(&self, key: &Key) -> Result<(T, Revision), RegistryError> {
        self.read(key).await?.ok_or_else(|| T::not_found(record::name_of(key)))
    }

    /// Writes a value over the revision that was read, or as a new one; false: someone else wrote
    /// in between.
    async fn write<T: Stored>(
        &self,
        key: &Key,
        value: &T,
        read: Option<Revision>,
    ) -> Result<bool, RegistryError> {
        self.write_telling(key, value, read, None).await
    }

    /// The same, and tells the observers when it is durable.
    async fn write_telling<T: Stored>(
        &self,
        key: &Key,
        value: &T,
        read: Option<Revision>,
        change: Option<Change>,
    ) -> Result<bool, RegistryError> {
        let expect = read.map_or(Expect::Absent, Expect::Revision);
        self.commit(key, Some(record::encode(value)), expect, change).await
    }

    /// Changes an existing record; `change` says whether there is anything to write, and is asked
    /// again when someone else wrote in between.
    async fn update<T: Stored + Clone>(
        &self,
        key: &Key,
        change: impl FnMut(&mut T) -> Result<bool, RegistryError>,
    ) -> Result<T, RegistryError> {
        self.update_with(key, change, None).await
    }

    /// The same, and tells the observers when it is durable.
    async fn update_telling<T: Stored + Clone>(
        &self,
        key: &Key,
        change: impl FnMut(&mut T) -> Result<bool, RegistryError>,
        told: impl Fn(Diff<T>) -> Change + Send + Sync,
    ) -> Result<T, RegistryError> {
        self.update_with(key, change, Some(&told)).await
    }

    async fn update_with<T: Stored + Clone>(
        &self,
        key: &Key,
        mut change: impl FnMut(&mut T) -> Result<bool, RegistryError>,
        told: Option<&(dyn Fn(Diff<T>) -> Change + Send + Sync)>,
    ) -> Result<T, RegistryError> {
        for _ in 0..ATTEMPTS_MAX {
            let (mut value, revision) = self.read_existing::<T>(key).await?;
            let told = told.filter(|_| self.is_observed());
            let before = told.map(|_| value.clone());
            if !change(&mut value)? {
                return Ok(value);
            }
            let diff = before.map(|before| Diff::Updated { before, after: value.clone() });
            let tell = told.zip(diff).map(|(told, diff)| told(diff));
            if self.write_telling(key, &value, Some(revision), tell).await? {
                return Ok(value);
            }
        }
        Err(RegistryError::Busy)
    }

    /// Removes the revision that was read; false: someone else wrote in between.
    async fn remove(
        &self,
        key: &Key,
        read: Revision,
        change: Option<Change>,
    ) -> Result<bool, RegistryError> {
        self.commit(key, None, Expect::Revision(read), change).await
    }

    /// At most `limit` aggregates of a kind behind a name, each with its name.
    async fn records_after<T: Stored>(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Result<T, RegistryError>)>, RegistryError> {
        let after = after.map(|name| record::key::<T>(name));
        let prefix = Key::prefix(T::KIND);
        let records = self.0.ports.storage.scan(&prefix, after.as_ref(), limit).await?;
        let named =
            records.iter().map(|it| (record::name_of(&it.key).to_owned(), record::decode(it)));
        Ok(named.collect())
    }

    /// A page of the aggregates of a kind that `accept` accepts.
    async fn list<T: Stored>(
        &self,
        page: PageRequest<'_>,
        accept: impl Fn(&T) -> bool,
    ) -> Result<Page<T>, RegistryError> {
        let prefix = Key::prefix(T::KIND);
        let mut after = page.after.map(|name| Key::new(T::KIND, &[name]));
        let mut items: Vec<T> = Vec::new();
        let mut last: Option<String> = None;
        loop {
            let records = self.0.ports.storage.scan(&prefix, after.as_ref(), SCAN_RECORDS).await?;
            for record in &records {
                let value: T = record::decode(record)?;
                if !accept(&value) {
                    continue;
                }
                if items.len() == page.limit {
                    return Ok(Page { items, next: last });
                }
                last = Some(record::name_of(&record.key).to_owned());
                items.push(value);
            }
            match records.last() {
                Some(record) if records.len() == SCAN_RECORDS => after = Some(record.key.clone()),
                _ => return Ok(Page { items, next: None }),
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
