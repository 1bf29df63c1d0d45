//! Provisioning templates as named, versioned documents. What they mean is `provisioning`, which has
//! read a document before it comes here.
//!
//! Source: AWS IoT API reference, `CreateProvisioningTemplate`; quotas of AWS IoT.

use super::record::{self, Stored};
use super::{ATTEMPTS_MAX, Page, PageRequest, RegistrationConfig, Registry, RegistryError};
use crate::ids::TemplateName;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Templates of a host.
const TEMPLATES_MAX: usize = 256;

/// Versions of a template.
const VERSIONS_MAX: usize = 5;

/// Longest description in characters.
const DESCRIPTION_CHARS_MAX: usize = 500;

/// Who is provisioned by a template (`TemplateType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TemplateType {
    /// Devices that ask for it over MQTT.
    FleetProvisioning,
    /// Devices that come with a certificate of a registered CA.
    Jitp,
}

impl TemplateType {
    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FleetProvisioning => "FLEET_PROVISIONING",
            Self::Jitp => "JITP",
        }
    }
}

/// Who is asked before a device is provisioned (`ProvisioningHook`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisioningHook {
    /// `arn:aws:lambda:…:function:NAME`, which stands for the plugin NAME.
    pub target_arn: String,
    /// Of what it is asked with; `2020-04-01` is the only one.
    pub payload_version: String,
}

/// A provisioning template with all its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisioningTemplate {
    /// Its name.
    pub name: TemplateName,
    /// Whom it is for; does not change.
    pub kind: TemplateType,
    /// For people, at most 500 characters.
    pub description: Option<String>,
    /// False: nobody is provisioned by it.
    pub enabled: bool,
    /// An ARN that clients of AWS give; kept for them.
    pub role_arn: String,
    /// Who is asked first.
    pub hook: Option<ProvisioningHook>,
    /// At most five, by version id.
    pub versions: BTreeMap<u32, TemplateVersion>,
    /// The one that is in force; always among `versions`.
    pub default_version: u32,
    /// What the next version will be called: ids are not used again.
    next_version: u32,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub modified_at: Timestamp,
}

/// One version of a template; never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateVersion {
    /// The document, as it was given.
    pub body: String,
    /// When it was created.
    pub created_at: Timestamp,
}

/// What CreateProvisioningTemplate is given.
#[derive(Clone, Debug)]
pub struct NewTemplate {
    /// See [`ProvisioningTemplate::name`].
    pub name: TemplateName,
    /// See [`ProvisioningTemplate::kind`].
    pub kind: TemplateType,
    /// See [`ProvisioningTemplate::description`].
    pub description: Option<String>,
    /// See [`ProvisioningTemplate::enabled`].
    pub enabled: bool,
    /// See [`ProvisioningTemplate::role_arn`].
    pub role_arn: String,
    /// See [`ProvisioningTemplate::hook`].
    pub hook: Option<ProvisioningHook>,
    /// The first version's document.
    pub body: String,
}

/// What UpdateProvisioningTemplate changes; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct TemplateUpdate {
    /// See [`ProvisioningTemplate::description`].
    pub description: Option<String>,
    /// See [`ProvisioningTemplate::enabled`].
    pub enabled: Option<bool>,
    /// See [`ProvisioningTemplate::default_version`].
    pub default_version: Option<u32>,
    /// See [`ProvisioningTemplate::role_arn`].
    pub role_arn: Option<String>,
    /// See [`ProvisioningTemplate::hook`]; `Some(None)` removes it.
    pub hook: Option<Option<ProvisioningHook>>,
}

impl ProvisioningTemplate {
    /// The version in force.
    pub fn default(&self) -> &TemplateVersion {
        self.versions.get(&self.default_version).expect("records without it are refused")
    }

    /// A version by its id.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub fn version(&self, id: u32) -> Result<&TemplateVersion, RegistryError> {
        self.versions.get(&id).ok_or_else(|| {
            RegistryError::ResourceNotFound(format!(
                "provisioning template {} has no version {id}",
                self.name
            ))
        })
    }
}

impl Registry {
    /// CreateProvisioningTemplate.
    ///
    /// # Errors
    /// [`RegistryError::ResourceAlreadyExists`]; [`RegistryError::LimitExceeded`] beyond 256.
    pub async fn create_provisioning_template(
        &self,
        new: NewTemplate,
    ) -> Result<ProvisioningTemplate, RegistryError> {
        check_description(new.description.as_deref())?;
        let all = PageRequest { limit: TEMPLATES_MAX, after: None };
        if self.list_provisioning_templates(all).await?.items.len() >= TEMPLATES_MAX {
            return Err(RegistryError::LimitExceeded(format!(
                "there are {TEMPLATES_MAX} provisioning templates; delete one first"
            )));
        }
        let now = self.0.ports.clock.wall();
        let version = TemplateVersion { body: new.body, created_at: now };
        let template = ProvisioningTemplate {
            name: new.name,
            kind: new.kind,
            description: new.description,
            enabled: new.enabled,
            role_arn: new.role_arn,
            hook: new.hook,
            versions: [(1, version)].into(),
            default_version: 1,
            next_version: 2,
            created_at: now,
            modified_at: now,
        };
        let name = &template.name;
        if !self.write(&key(name), &template, None).await? {
            return Err(RegistryError::ResourceAlreadyExists {
                message: format!("provisioning template {name} exists"),
                id: name.to_string(),
                arn: self.provisioning_template_arn(name),
            });
        }
        tracing::info!(template = %name, "provisioning template created");
        Ok(template)
    }

    /// DescribeProvisioningTemplate, its versions, and ListProvisioningTemplateVersions.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn provisioning_template(
        &self,
        name: &TemplateName,
    ) -> Result<ProvisioningTemplate, RegistryError> {
        Ok(self.read_existing(&key(name)).await?.0)
    }

    /// UpdateProvisioningTemplate.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`], also for the version.
    pub async fn update_provisioning_template(
        &self,
        name: &TemplateName,
        update: &TemplateUpdate,
    ) -> Result<(), RegistryError> {
        check_description(update.description.as_deref())?;
        self.change_template(name, |template| {
            if let Some(version) = update.default_version {
                template.version(version)?;
                template.default_version = version;
            }
            if update.description.is_some() {
                template.description.clone_from(&update.description);
            }
            template.enabled = update.enabled.unwrap_or(template.enabled);
            if let Some(role_arn) = &update.role_arn {
                template.role_arn.clone_from(role_arn);
            }
            if let Some(hook) = &update.hook {
                template.hook.clone_from(hook);
            }
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// DeleteProvisioningTemplate, with all its versions.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::DeleteConflict`] while a CA certificate
    /// names it.
    pub async fn delete_provisioning_template(
        &self,
        name: &TemplateName,
    ) -> Result<(), RegistryError> {
        let first = PageRequest { limit: 1, after: None };
        for _ in 0..ATTEMPTS_MAX {
            let (_, revision) = self.read_existing::<ProvisioningTemplate>(&key(name)).await?;
            let users = self.list_ca_certificates(Some(name), first).await?;
            if let Some(ca) = users.items.first() {
                return Err(RegistryError::DeleteConflict(format!(
                    "CA certificate {} provisions with template {name}; change its \
                     registrationConfig first",
                    ca.id
                )));
            }
            if self.remove(&key(name), revision, None).await? {
                tracing::info!(template = %name, "provisioning template deleted");
                return Ok(());
            }
        }
        Err(RegistryError::Busy)
    }

    /// ListProvisioningTemplates, ordered by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_provisioning_templates(
        &self,
        page: PageRequest<'_>,
    ) -> Result<Page<ProvisioningTemplate>, RegistryError> {
        self.list(page, |_| true).await
    }

    /// CreateProvisioningTemplateVersion; returns the id of the new version.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::VersionsLimitExceeded`] beyond five.
    pub async fn create_provisioning_template_version(
        &self,
        name: &TemplateName,
        body: &str,
        set_as_default: bool,
    ) -> Result<u32, RegistryError> {
        let now = self.0.ports.clock.wall();
        let mut id = 0;
        self.change_template(name, |template| {
            if template.versions.len() >= VERSIONS_MAX {
                return Err(RegistryError::VersionsLimitExceeded(format!(
                    "provisioning template {name} has {VERSIONS_MAX} versions; delete one first"
                )));
            }
            id = template.next_version;
            template.next_version += 1;
            let version = TemplateVersion { body: body.to_owned(), created_at: now };
            template.versions.insert(id, version);
            if set_as_default {
                template.default_version = id;
            }
            Ok(())
        })
        .await?;
        Ok(id)
    }

    /// DeleteProvisioningTemplateVersion.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::DeleteConflict`] for the default one.
    pub async fn delete_provisioning_template_version(
        &self,
        name: &TemplateName,
        id: u32,
    ) -> Result<(), RegistryError> {
        self.change_template(name, |template| {
            template.version(id)?;
            if template.default_version == id {
                return Err(RegistryError::DeleteConflict(format!(
                    "version {id} is the default of provisioning template {name}; set another one \
                     first"
                )));
            }
            template.versions.remove(&id);
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// The template of a CA: its body, and the name of one that is kept apart.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn registration_template(
        &self,
        registration: &RegistrationConfig,
    ) -> Result<(String, Option<ProvisioningTemplate>), RegistryError> {
        match registration {
            RegistrationConfig::Body(body) => Ok((body.clone(), None)),
            RegistrationConfig::Named(name) => {
                let template = self.provisioning_template(name).await?;
                Ok((template.default().body.clone(), Some(template)))
            }
        }
    }

    /// `arn:aws:iot:<region>:<account>:provisioningtemplate/<name>`.
    pub fn provisioning_template_arn(&self, name: &TemplateName) -> String {
        self.account().arn(&format!("provisioningtemplate/{name}"))
    }

    async fn change_template(
        &self,
        name: &TemplateName,
        mut change: impl FnMut(&mut ProvisioningTemplate) -> Result<(), RegistryError>,
    ) -> Result<ProvisioningTemplate, RegistryError> {
        let now = self.0.ports.clock.wall();
        let changed = |template: &mut ProvisioningTemplate| {
            change(template)?;
            template.modified_at = now;
            Ok(true)
        };
        self.update(&key(name), changed).await
    }
}

fn key(name: &TemplateName) -> crate::storage::Key {
    record::key::<ProvisioningTemplate>(name.as_str())
}

/// Source: the shape `TemplateDescription`, `[^\p{C}]*`.
fn check_description(text: Option<&str>) -> Result<(), RegistryError> {
    let Some(text) = text else { return Ok(()) };
    if text.chars().count() > DESCRIPTION_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(RegistryError::InvalidRequest(format!(
            "description must have at most {DESCRIPTION_CHARS_MAX} characters and no control \
             characters"
        )));
    }
    Ok(())
}

#[derive(Serialize, Deserialize)]
pub(super) struct TemplateRecord {
    kind: TemplateType,
    description: Option<String>,
    enabled: bool,
    role_arn: String,
    hook: Option<ProvisioningHook>,
    versions: BTreeMap<u32, VersionRecord>,
    default_version: u32,
    next_version: u32,
    created_at_ms: u64,
    modified_at_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct VersionRecord {
    body: String,
    created_at_ms: u64,
}

impl Stored for ProvisioningTemplate {
    const KIND: &str = "provisioning-template";
    const VERSION: u8 = 1;
    type Record = TemplateRecord;

    fn to_record(&self) -> TemplateRecord {
        let version = |version: &TemplateVersion| VersionRecord {
            body: version.body.clone(),
            created_at_ms: version.created_at.as_millis(),
        };
        TemplateRecord {
            kind: self.kind,
            description: self.description.clone(),
            enabled: self.enabled,
            role_arn: self.role_arn.clone(),
            hook: self.hook.clone(),
            versions: self.versions.iter().map(|(id, v)| (*id, version(v))).collect(),
            default_version: self.default_version,
            next_version: self.next_version,
            created_at_ms: self.created_at.as_millis(),
            modified_at_ms: self.modified_at.as_millis(),
        }
    }

    fn from_record(name: &str, record: TemplateRecord) -> Result<Self, String> {
        if !record.versions.contains_key(&record.default_version) {
            return Err("its default version is missing".to_owned());
        }
        let version = |record: VersionRecord| TemplateVersion {
            body: record.body,
            created_at: Timestamp::from_millis(record.created_at_ms),
        };
        Ok(Self {
            name: TemplateName::parse(name).map_err(|error| error.to_string())?,
            kind: record.kind,
            description: record.description,
            enabled: record.enabled,
            role_arn: record.role_arn,
            hook: record.hook,
            versions: record.versions.into_iter().map(|(id, v)| (id, version(v))).collect(),
            default_version: record.default_version,
            next_version: record.next_version,
            created_at: Timestamp::from_millis(record.created_at_ms),
            modified_at: Timestamp::from_millis(record.modified_at_ms),
        })
    }

    fn not_found(name: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("provisioning template {name} does not exist"))
    }
}
