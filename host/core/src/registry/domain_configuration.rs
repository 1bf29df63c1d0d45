//! Domain configurations: what holds for clients that ask for a name of the host in the TLS handshake
//! (SNI).
//!
//! In: AWS IoT's five operations. Out: names with the authorizer of whoever comes by them. Not here:
//! what this changes for a client (`auth`), and certificates of the server, which are the host's
//! configuration.
//!
//! Source: AWS IoT developer guide, "Domain configurations".

use super::index::ALL;
use super::record::{self, Stored};
use super::{ATTEMPTS_MAX, Page, PageRequest, Registry, RegistryError};
use crate::ids::{AuthorizerName, DomainConfigurationName};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};

/// Configurations of one host: whoever looks for a name's may look at all of them.
const CONFIGURATIONS_MAX: usize = 100;

/// Longest name of a host in bytes (RFC 1035).
const DOMAIN_NAME_BYTES_MAX: usize = 253;

/// Longest part of it between two dots.
const LABEL_BYTES_MAX: usize = 63;

/// What clients use by a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// MQTT and HTTPS publish.
    #[default]
    Data,
    /// Credentials for role aliases.
    CredentialProvider,
    /// Jobs over HTTPS.
    Jobs,
}

impl ServiceType {
    const ALL: [Self; 3] = [Self::Data, Self::CredentialProvider, Self::Jobs];

    /// As AWS's API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "DATA",
            Self::CredentialProvider => "CREDENTIAL_PROVIDER",
            Self::Jobs => "JOBS",
        }
    }

    /// What [`ServiceType::as_str`] wrote.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`].
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        Self::ALL.into_iter().find(|it| it.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            RegistryError::InvalidRequest(format!("serviceType must be one of {known}"))
        })
    }
}

/// Who checks clients that come by a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainAuthorizer {
    /// Asked when a client names none.
    pub default: Option<AuthorizerName>,
    /// Whether a client may name another.
    pub may_be_overridden: bool,
}

/// A domain configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainConfiguration {
    /// Its name, which cannot change.
    pub name: DomainConfigurationName,
    /// The name that clients ask for; without one, the host's own endpoint.
    pub domain_name: Option<String>,
    /// For what.
    pub service_type: ServiceType,
    /// Who checks clients.
    pub authorizer: Option<DomainAuthorizer>,
    /// Whether it holds.
    pub is_enabled: bool,
    /// When it was created, enabled or disabled.
    pub status_changed_at: Timestamp,
}

/// What an update changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainConfigurationUpdate {
    /// `Some(None)` takes it away.
    pub authorizer: Option<Option<DomainAuthorizer>>,
    /// Whether it holds.
    pub is_enabled: Option<bool>,
}

/// Authorizers by the names of enabled configurations.
pub(super) type DomainAuthorizers = HashMap<String, DomainAuthorizer>;

impl Registry {
    /// CreateDomainConfiguration; it is enabled.
    ///
    /// # Errors
    /// [`RegistryError::ResourceAlreadyExists`], also when another has the domain name;
    /// [`RegistryError::LimitExceeded`] beyond 100; [`RegistryError::InvalidRequest`] for what cannot
    /// be a domain name.
    pub async fn create_domain_configuration(
        &self,
        name: &DomainConfigurationName,
        domain_name: Option<&str>,
        service_type: ServiceType,
        authorizer: Option<DomainAuthorizer>,
    ) -> Result<DomainConfiguration, RegistryError> {
        domain_name.map_or(Ok(()), check_domain_name)?;
        let made = DomainConfiguration {
            name: name.clone(),
            // Names of hosts do not depend on case.
            domain_name: domain_name.map(str::to_ascii_lowercase),
            service_type,
            authorizer,
            is_enabled: true,
            status_changed_at: self.0.ports.clock.wall(),
        };
        // Two that are made at the same time do not see each other.
        let _one_at_a_time = self.0.domain_changes.lock().await;
        let present = self.list::<DomainConfiguration>(ALL, |_| true).await?.items;
        let is_taken = |other: &&DomainConfiguration| {
            other.name == made.name
                || made.domain_name.is_some() && other.domain_name == made.domain_name
        };
        if let Some(other) = present.iter().find(is_taken) {
            let what = match other.name == made.name {
                true => format!("domain configuration {name} exists"),
                false => format!("domain configuration {} has this domainName", other.name),
            };
            return Err(RegistryError::ResourceAlreadyExists {
                message: what,
                id: other.name.to_string(),
                arn: self.domain_configuration_arn(&other.name),
            });
        }
        if present.len() >= CONFIGURATIONS_MAX {
            return Err(RegistryError::LimitExceeded(format!(
                "there are {CONFIGURATIONS_MAX} domain configurations already; delete one first"
            )));
        }
        let written =
            self.write(&record::key::<DomainConfiguration>(name.as_str()), &made, None).await;
        self.domains_changed();
        if !written? {
            return Err(RegistryError::Busy);
        }
        tracing::info!(domain_configuration = %name, "domain configuration created");
        Ok(made)
    }

    /// DescribeDomainConfiguration.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn describe_domain_configuration(
        &self,
        name: &DomainConfigurationName,
    ) -> Result<DomainConfiguration, RegistryError> {
        Ok(self.read_existing(&record::key::<DomainConfiguration>(name.as_str())).await?.0)
    }

    /// UpdateDomainConfiguration: what is not given stays.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn update_domain_configuration(
        &self,
        name: &DomainConfigurationName,
        update: &DomainConfigurationUpdate,
    ) -> Result<DomainConfiguration, RegistryError> {
        let change = |present: &mut DomainConfiguration| {
            if let Some(authorizer) = &update.authorizer {
                present.authorizer.clone_from(authorizer);
            }
            if let Some(is_enabled) = update.is_enabled.filter(|it| *it != present.is_enabled) {
                present.is_enabled = is_enabled;
                present.status_changed_at = self.0.ports.clock.wall();
            }
            Ok(true)
        };
        let _one_at_a_time = self.0.domain_changes.lock().await;
        let updated = self.update(&record::key::<DomainConfiguration>(name.as_str()), change).await;
        // Whatever came back: a write whose answer was lost may have happened.
        self.domains_changed();
        updated
    }

    /// DeleteDomainConfiguration.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::InvalidRequest`] while it is enabled.
    pub async fn delete_domain_configuration(
        &self,
        name: &DomainConfigurationName,
    ) -> Result<(), RegistryError> {
        let key = record::key::<DomainConfiguration>(name.as_str());
        for _ in 0..ATTEMPTS_MAX {
            let (present, revision) = self.read_existing::<DomainConfiguration>(&key).await?;
            if present.is_enabled {
                return Err(RegistryError::InvalidRequest(format!(
                    "domain configuration {name} is enabled; set domainConfigurationStatus to DISABLED \
                     first"
                )));
            }
            if self.remove(&key, revision, None).await? {
                tracing::info!(domain_configuration = %name, "domain configuration deleted");
                return Ok(());
            }
        }
        Err(RegistryError::Busy)
    }

    /// ListDomainConfigurations, ordered by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_domain_configurations(
        &self,
        service_type: Option<ServiceType>,
        page: PageRequest<'_>,
    ) -> Result<Page<DomainConfiguration>, RegistryError> {
        let fits =
            |it: &DomainConfiguration| service_type.is_none_or(|wanted| it.service_type == wanted);
        self.list(page, fits).await
    }

    /// Who checks clients that ask for this name; `None`: what holds without any configuration.
    pub(crate) async fn domain_authorizer(
        &self,
        server_name: &str,
    ) -> Result<Option<DomainAuthorizer>, RegistryError> {
        let known = self.known_domains().clone();
        let known = match known {
            Some(known) => known,
            None => {
                // Nothing changes between the look and the note of it.
                let _one_at_a_time = self.0.domain_changes.lock().await;
                let acts = |it: &DomainConfiguration| {
                    it.is_enabled && it.service_type == ServiceType::Data
                };
                let found = self.list::<DomainConfiguration>(ALL, acts).await?.items.into_iter();
                let pairs = found.filter_map(|it| Some((it.domain_name?, it.authorizer?)));
                let known = Arc::new(pairs.collect::<DomainAuthorizers>());
                *self.known_domains() = Some(known.clone());
                known
            }
        };
        if known.is_empty() {
            return Ok(None);
        }
        Ok(known.get(&server_name.to_ascii_lowercase()).cloned())
    }

    /// Clients that came by a name may be judged differently now.
    fn domains_changed(&self) {
        *self.known_domains() = None;
        self.default_changed();
    }

    fn known_domains(&self) -> MutexGuard<'_, Option<Arc<DomainAuthorizers>>> {
        self.0.domain_authorizers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `arn:aws:iot:<region>:<account>:domainconfiguration/<name>`.
    pub fn domain_configuration_arn(&self, name: &DomainConfigurationName) -> String {
        self.account().arn(&format!("domainconfiguration/{name}"))
    }
}

/// Letters, digits and hyphens between dots; clients do not send other names (RFC 6066, 3).
fn check_domain_name(name: &str) -> Result<(), RegistryError> {
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() <= DOMAIN_NAME_BYTES_MAX && name.split('.').all(is_label) {
        return Ok(());
    }
    Err(RegistryError::InvalidRequest(format!(
        "domainName must be the name of a host: at most {DOMAIN_NAME_BYTES_MAX} bytes, and between \
         its dots 1 to {LABEL_BYTES_MAX} letters, digits and inner hyphens"
    )))
}

#[derive(Serialize, Deserialize)]
pub(super) struct DomainConfigurationRecord {
    domain_name: Option<String>,
    service_type: String,
    authorizer: Option<AuthorizerRecord>,
    is_enabled: bool,
    status_changed_at_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct AuthorizerRecord {
    default: Option<String>,
    may_be_overridden: bool,
}

impl Stored for DomainConfiguration {
    const KIND: &str = "domain-configuration";
    const VERSION: u8 = 1;
    type Record = DomainConfigurationRecord;

    fn to_record(&self) -> DomainConfigurationRecord {
        let authorizer = |it: &DomainAuthorizer| AuthorizerRecord {
            default: it.default.as_ref().map(ToString::to_string),
            may_be_overridden: it.may_be_overridden,
        };
        DomainConfigurationRecord {
            domain_name: self.domain_name.clone(),
            service_type: self.service_type.as_str().to_owned(),
            authorizer: self.authorizer.as_ref().map(authorizer),
            is_enabled: self.is_enabled,
            status_changed_at_ms: self.status_changed_at.as_millis(),
        }
    }

    fn from_record(name: &str, record: DomainConfigurationRecord) -> Result<Self, String> {
        let authorizer = |it: AuthorizerRecord| {
            let default = it.default.as_deref().map(AuthorizerName::parse).transpose();
            let default = default.map_err(|error| error.to_string())?;
            Ok::<_, String>(DomainAuthorizer { default, may_be_overridden: it.may_be_overridden })
        };
        Ok(Self {
            name: DomainConfigurationName::parse(name).map_err(|error| error.to_string())?,
            domain_name: record.domain_name,
            service_type: ServiceType::parse(&record.service_type)
                .map_err(|error| error.to_string())?,
            authorizer: record.authorizer.map(authorizer).transpose()?,
            is_enabled: record.is_enabled,
            status_changed_at: Timestamp::from_millis(record.status_changed_at_ms),
        })
    }

    fn not_found(name: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("domain configuration {name} does not exist"))
    }
}
