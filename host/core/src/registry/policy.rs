//! Policies as named, versioned documents. What they mean is [`crate::policy`].

use super::attachment::Owner;
use super::record::{self, Stored};
use super::{ATTEMPTS_MAX, Change, Diff, Page, PageRequest, Registry, RegistryError};
use crate::ids::PolicyName;
use crate::policy::Policy;
use crate::random;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A policy with all its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDefinition {
    /// Its name.
    pub name: PolicyName,
    /// At most `Limits::policy_versions` of them, by version id.
    pub versions: BTreeMap<u32, PolicyVersion>,
    /// The one that is in force; always among `versions`.
    pub default_version: u32,
    /// What the next version will be called: ids are not used again.
    next_version: u32,
    /// When it was created.
    pub created_at: Timestamp,
    /// When versions or default last changed.
    pub modified_at: Timestamp,
    /// Differs between policies that had the same name one after the other.
    pub generation_id: String,
}

/// One version of a policy; never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVersion {
    /// The document, as it was given.
    pub document: Arc<str>,
    /// When it was created.
    pub created_at: Timestamp,
}

impl PolicyDefinition {
    /// The version in force.
    pub fn default(&self) -> &PolicyVersion {
        self.versions.get(&self.default_version).expect("records without it are refused")
    }

    /// A version by its id.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub fn version(&self, id: u32) -> Result<&PolicyVersion, RegistryError> {
        self.versions.get(&id).ok_or_else(|| {
            RegistryError::ResourceNotFound(format!("policy {} has no version {id}", self.name))
        })
    }
}

impl Registry {
    /// CreatePolicy.
    ///
    /// # Errors
    /// [`RegistryError::MalformedPolicy`], [`RegistryError::ResourceAlreadyExists`].
    pub async fn create_policy(
        &self,
        name: &PolicyName,
        document: &str,
    ) -> Result<PolicyDefinition, RegistryError> {
        Policy::parse(name.as_str(), document, self.account())?;
        let now = self.0.ports.clock.wall();
        let version = PolicyVersion { document: document.into(), created_at: now };
        let policy = PolicyDefinition {
            name: name.clone(),
            versions: [(1, version)].into(),
            default_version: 1,
            next_version: 2,
            created_at: now,
            modified_at: now,
            generation_id: random::uuid(&*self.0.ports.random),
        };
        let key = record::key::<PolicyDefinition>(name.as_str());
        let change = self.told(|| Change::Policy(Diff::Created(policy.clone())));
        if !self.write_telling(&key, &policy, None, change).await? {
            return Err(RegistryError::ResourceAlreadyExists {
                message: format!("policy {name} exists"),
                id: name.as_str().to_owned(),
                arn: self.policy_arn(name),
            });
        }
        tracing::info!(policy = %name, "policy created");
        Ok(policy)
    }

    /// GetPolicy, GetPolicyVersion and ListPolicyVersions.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn get_policy(&self, name: &PolicyName) -> Result<PolicyDefinition, RegistryError> {
        Ok(self.read_existing(&record::key::<PolicyDefinition>(name.as_str())).await?.0)
    }

    /// DeletePolicy.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::DeleteConflict`] while it has targets
    /// or more than one version.
    pub async fn delete_policy(&self, name: &PolicyName) -> Result<(), RegistryError> {
        let key = record::key::<PolicyDefinition>(name.as_str());
        let owner = Owner::Policy(name);
        for _ in 0..ATTEMPTS_MAX {
            let (policy, revision) = self.read_existing::<PolicyDefinition>(&key).await?;
            if policy.versions.len() > 1 {
                return Err(RegistryError::DeleteConflict(format!(
                    "policy {name} has {} versions; delete all but the default one first",
                    policy.versions.len()
                )));
            }
            if let Some(target) = self.attached_certificates(&owner).await?.first() {
                return Err(RegistryError::DeleteConflict(format!(
                    "policy {name} is attached to certificate {target}; detach it first"
                )));
            }
            if let Some(group) = self.groups_of_policy(name).await?.first() {
                return Err(RegistryError::DeleteConflict(format!(
                    "policy {name} is attached to thing group {group}; detach it first"
                )));
            }
            let change = self.told(|| Change::Policy(Diff::Deleted(policy)));
            if self.remove(&key, revision, change).await? {
                self.compiled().remove(name.as_str());
                self.policy_changed();
                tracing::info!(policy = %name, "policy deleted");
                for group in self.groups_of_policy(name).await? {
                    match self.detach_group_policy(name, &group).await {
                        Ok(()) | Err(RegistryError::ResourceNotFound(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                return self.detach_from_all(&owner).await;
            }
        }
        Err(RegistryError::Busy)
    }

    /// ListPolicies, ordered by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_policies(
        &self,
        page: PageRequest<'_>,
    ) -> Result<Page<PolicyDefinition>, RegistryError> {
        self.list(page, |_| true).await
    }

    /// CreatePolicyVersion; returns the policy and the id of the new version.
    ///
    /// # Errors
    /// [`RegistryError::MalformedPolicy`], [`RegistryError::ResourceNotFound`],
    /// [`RegistryError::VersionsLimitExceeded`] beyond `Limits::policy_versions`.
    pub async fn create_policy_version(
        &self,
        name: &PolicyName,
        document: &str,
        set_as_default: bool,
    ) -> Result<(PolicyDefinition, u32), RegistryError> {
        Policy::parse(name.as_str(), document, self.account())?;
        let now = self.0.ports.clock.wall();
        let max = self.0.ports.limits.policy_versions as usize;
        let mut id = 0;
        let policy = self
            .update_policy(name, |policy| {
                if policy.versions.len() >= max {
                    return Err(RegistryError::VersionsLimitExceeded(format!(
                        "policy {name} has {max} versions; delete one first"
                    )));
                }
                id = policy.next_version;
                policy.next_version += 1;
                let version = PolicyVersion { document: document.into(), created_at: now };
                policy.versions.insert(id, version);
                if set_as_default {
                    policy.default_version = id;
                }
                Ok(true)
            })
            .await?;
        Ok((policy, id))
    }

    /// SetDefaultPolicyVersion.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn set_default_policy_version(
        &self,
        name: &PolicyName,
        id: u32,
    ) -> Result<(), RegistryError> {
        self.update_policy(name, |policy| {
            policy.version(id)?;
            let changes = policy.default_version != id;
            policy.default_version = id;
            Ok(changes)
        })
        .await?;
        Ok(())
    }

    /// DeletePolicyVersion.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::DeleteConflict`] for the default one.
    pub async fn delete_policy_version(
        &self,
        name: &PolicyName,
        id: u32,
    ) -> Result<(), RegistryError> {
        self.update_policy(name, |policy| {
            policy.version(id)?;
            if policy.default_version == id {
                return Err(RegistryError::DeleteConflict(format!(
                    "version {id} is the default of policy {name}; set another one first"
                )));
            }
            policy.versions.remove(&id);
            Ok(true)
        })
        .await?;
        Ok(())
    }

    /// The compiled default version of a policy; `None` when there is no such policy.
    ///
    /// # Errors
    /// [`RegistryError::Record`] when a stored document does not parse: leaving it out could
    /// leave out a denial.
    pub(crate) async fn compiled_policy(
        &self,
        name: &PolicyName,
    ) -> Result<Option<Arc<Policy>>, RegistryError> {
        let key = record::key::<PolicyDefinition>(name.as_str());
        // Read each time, so that a change by another node counts at once; compiled only when the
        // revision is new.
        let Some(record) = self.0.ports.storage.get(&key).await? else { return Ok(None) };
        if let Some((revision, policy)) = self.compiled().get(name.as_str())
            && *revision == record.revision
        {
            return Ok(Some(policy.clone()));
        }
        let definition: PolicyDefinition = record::decode(&record)?;
        let document = &definition.default().document;
        let policy = Policy::parse(name.as_str(), document, self.account())
            .map_err(|error| RegistryError::Record { key, reason: error.to_string() })?;
        let policy = Arc::new(policy);
        self.compiled().insert(name.as_str().into(), (record.revision, policy.clone()));
        Ok(Some(policy))
    }

    /// `arn:aws:iot:<region>:<account>:policy/<name>`.
    pub fn policy_arn(&self, name: &PolicyName) -> String {
        self.account().arn(&format!("policy/{name}"))
    }

    async fn update_policy(
        &self,
        name: &PolicyName,
        mut change: impl FnMut(&mut PolicyDefinition) -> Result<bool, RegistryError>,
    ) -> Result<PolicyDefinition, RegistryError> {
        let now = self.0.ports.clock.wall();
        let key = record::key::<PolicyDefinition>(name.as_str());
        let mut new_default = None;
        let change = |policy: &mut PolicyDefinition| {
            let before = policy.default_version;
            let changed = change(policy)?;
            new_default = Some(policy.default_version).filter(|&version| version != before);
            policy.modified_at = now;
            Ok(changed)
        };
        let updated = self.update_telling(&key, change, Change::Policy).await;
        // Whatever came back: a write whose answer was lost may have happened.
        if let Some(version) = new_default {
            tracing::info!(policy = %name, version, "policy has a new default version");
            self.policy_changed();
        }
        updated
    }

    fn compiled(&self) -> std::sync::MutexGuard<'_, super::CompiledPolicies> {
        self.0.compiled.lock().expect("no code panics while holding the compiled policies")
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct PolicyRecord {
    versions: BTreeMap<u32, VersionRecord>,
    default_version: u32,
    next_version: u32,
    created_at_ms: u64,
    modified_at_ms: u64,
    generation_id: String,
}

#[derive(Serialize, Deserialize)]
struct VersionRecord {
    document: String,
    created_at_ms: u64,
}

impl Stored for PolicyDefinition {
    const KIND: &str = "policy";
    const VERSION: u8 = 1;
    type Record = PolicyRecord;

    fn to_record(&self) -> PolicyRecord {
        let version = |version: &PolicyVersion| VersionRecord {
            document: version.document.to_string(),
            created_at_ms: version.created_at.as_millis(),
        };
        PolicyRecord {
            versions: self.versions.iter().map(|(id, v)| (*id, version(v))).collect(),
            default_version: self.default_version,
            next_version: self.next_version,
            created_at_ms: self.created_at.as_millis(),
            modified_at_ms: self.modified_at.as_millis(),
            generation_id: self.generation_id.clone(),
        }
    }

    fn from_record(name: &str, record: PolicyRecord) -> Result<Self, String> {
        if !record.versions.contains_key(&record.default_version) {
            return Err("its default version is missing".to_owned());
        }
        let version = |record: VersionRecord| PolicyVersion {
            document: record.document.into(),
            created_at: Timestamp::from_millis(record.created_at_ms),
        };
        Ok(Self {
            name: PolicyName::parse(name).map_err(|error| error.to_string())?,
            versions: record.versions.into_iter().map(|(id, v)| (id, version(v))).collect(),
            default_version: record.default_version,
            next_version: record.next_version,
            created_at: Timestamp::from_millis(record.created_at_ms),
            modified_at: Timestamp::from_millis(record.modified_at_ms),
            generation_id: record.generation_id,
        })
    }

    fn not_found(name: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("policy {name} does not exist"))
    }
}
