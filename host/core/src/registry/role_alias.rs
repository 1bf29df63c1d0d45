//! Role aliases: names that devices know for what a credential provider gives them.
//!
//! In: AWS IoT's five operations. Out: the alias with its role and the duration of credentials. Not
//! here: credentials. The role is a text that clients of AWS send; this host has no roles of AWS IAM.
//!
//! Source: `RoleAlias`, `RoleArn` and `CredentialDurationSeconds` of AWS IoT's API reference.

use super::record::{self, Stored};
use super::{Page, PageRequest, Registry, RegistryError};
use crate::ids::RoleAliasName;
use crate::storage::Expect;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// How long credentials may last, in seconds.
const CREDENTIAL_DURATIONS_S: RangeInclusive<u32> = 900..=43_200;

/// How long credentials last when nothing is said, in seconds.
pub const CREDENTIAL_DURATION_S: u32 = 3_600;

/// Bytes of the ARN of a role.
const ROLE_ARN_BYTES: RangeInclusive<usize> = 20..=2_048;

/// A role alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleAlias {
    /// Its name, which cannot change.
    pub name: RoleAliasName,
    /// What it stands for.
    pub role_arn: String,
    /// How long credentials last, 900 to 43,200.
    pub credential_duration_s: u32,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was created or last updated.
    pub modified_at: Timestamp,
}

impl Registry {
    /// CreateRoleAlias.
    ///
    /// # Errors
    /// [`RegistryError::ResourceAlreadyExists`], also when it is the same, as on AWS.
    pub async fn create_role_alias(
        &self,
        name: &RoleAliasName,
        role_arn: &str,
        credential_duration_s: u32,
    ) -> Result<RoleAlias, RegistryError> {
        check_role_arn(role_arn)?;
        check_duration(credential_duration_s)?;
        let now = self.0.ports.clock.wall();
        let alias = RoleAlias {
            name: name.clone(),
            role_arn: role_arn.to_owned(),
            credential_duration_s,
            created_at: now,
            modified_at: now,
        };
        if !self.write(&record::key::<RoleAlias>(name.as_str()), &alias, None).await? {
            return Err(RegistryError::ResourceAlreadyExists {
                message: format!("role alias {name} exists"),
                id: name.to_string(),
                arn: self.role_alias_arn(name),
            });
        }
        tracing::info!(role_alias = %name, "role alias created");
        Ok(alias)
    }

    /// DescribeRoleAlias.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn describe_role_alias(
        &self,
        name: &RoleAliasName,
    ) -> Result<RoleAlias, RegistryError> {
        Ok(self.read_existing(&record::key::<RoleAlias>(name.as_str())).await?.0)
    }

    /// UpdateRoleAlias: what is not given stays.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn update_role_alias(
        &self,
        name: &RoleAliasName,
        role_arn: Option<&str>,
        credential_duration_s: Option<u32>,
    ) -> Result<RoleAlias, RegistryError> {
        role_arn.map_or(Ok(()), check_role_arn)?;
        credential_duration_s.map_or(Ok(()), check_duration)?;
        let change = |alias: &mut RoleAlias| {
            if let Some(role_arn) = role_arn {
                alias.role_arn = role_arn.to_owned();
            }
            if let Some(duration) = credential_duration_s {
                alias.credential_duration_s = duration;
            }
            alias.modified_at = self.0.ports.clock.wall();
            Ok(true)
        };
        self.update(&record::key::<RoleAlias>(name.as_str()), change).await
    }

    /// DeleteRoleAlias.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn delete_role_alias(&self, name: &RoleAliasName) -> Result<(), RegistryError> {
        let key = record::key::<RoleAlias>(name.as_str());
        // Whatever it says by now.
        if !self.0.ports.storage.delete(&key, Expect::Any).await? {
            return Err(RoleAlias::not_found(name.as_str()));
        }
        tracing::info!(role_alias = %name, "role alias deleted");
        Ok(())
    }

    /// ListRoleAliases, ordered by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_role_aliases(
        &self,
        page: PageRequest<'_>,
    ) -> Result<Page<RoleAlias>, RegistryError> {
        self.list(page, |_| true).await
    }

    /// `arn:aws:iot:<region>:<account>:rolealias/<name>`.
    pub fn role_alias_arn(&self, name: &RoleAliasName) -> String {
        self.account().arn(&format!("rolealias/{name}"))
    }
}

/// `arn:<partition>:<service>:<region>:<account>:<resource>`; region and account may be empty.
pub(super) fn check_role_arn(arn: &str) -> Result<(), RegistryError> {
    if !ROLE_ARN_BYTES.contains(&arn.len()) {
        return Err(RegistryError::InvalidRequest(format!(
            "roleArn has {} bytes; {} to {} are allowed",
            arn.len(),
            ROLE_ARN_BYTES.start(),
            ROLE_ARN_BYTES.end()
        )));
    }
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let is_arn = matches!(parts[..], ["arn", partition, service, _, _, resource]
        if !partition.is_empty() && !service.is_empty() && !resource.is_empty());
    if !is_arn || arn.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(RegistryError::InvalidRequest(
            "roleArn is no ARN; it must read like arn:aws:iam::123456789012:role/name".to_owned(),
        ));
    }
    Ok(())
}

fn check_duration(seconds: u32) -> Result<(), RegistryError> {
    if CREDENTIAL_DURATIONS_S.contains(&seconds) {
        return Ok(());
    }
    Err(RegistryError::InvalidRequest(format!(
        "credentialDurationSeconds is {seconds}; {} to {} are allowed",
        CREDENTIAL_DURATIONS_S.start(),
        CREDENTIAL_DURATIONS_S.end()
    )))
}

#[derive(Serialize, Deserialize)]
pub(super) struct RoleAliasRecord {
    role_arn: String,
    credential_duration_s: u32,
    created_at_ms: u64,
    modified_at_ms: u64,
}

impl Stored for RoleAlias {
    const KIND: &str = "role-alias";
    const VERSION: u8 = 1;
    type Record = RoleAliasRecord;

    fn to_record(&self) -> RoleAliasRecord {
        RoleAliasRecord {
            role_arn: self.role_arn.clone(),
            credential_duration_s: self.credential_duration_s,
            created_at_ms: self.created_at.as_millis(),
            modified_at_ms: self.modified_at.as_millis(),
        }
    }

    fn from_record(name: &str, record: RoleAliasRecord) -> Result<Self, String> {
        Ok(Self {
            name: RoleAliasName::parse(name).map_err(|error| error.to_string())?,
            role_arn: record.role_arn,
            credential_duration_s: record.credential_duration_s,
            created_at: Timestamp::from_millis(record.created_at_ms),
            modified_at: Timestamp::from_millis(record.modified_at_ms),
        })
    }

    fn not_found(name: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("role alias {name} does not exist"))
    }
}
