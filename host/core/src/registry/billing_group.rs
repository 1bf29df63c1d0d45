//! Billing groups: whom a thing's costs are put down to; a thing is in one at most.
//!
//! A thing's record is the truth; `billing-group-thing/{group}/{thing}` leads back, with the invariant
//! of the module above.

use super::index::{ALL, check_version};
use super::record::{self, Stored};
use super::thing::Thing;
use super::{ATTEMPTS_MAX, Page, PageRequest, Registry, RegistryError, check_description};
use crate::ids::{BillingGroupName, ThingName};
use crate::random;
use crate::storage::Key;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What messages call it.
const WHAT: &str = "billing group";

/// A billing group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillingGroup {
    /// Its name, which cannot change.
    pub name: BillingGroupName,
    /// A UUID.
    pub id: String,
    /// For people, at most 2,028 characters.
    pub description: Option<String>,
    /// 1 at first, then one more with every update.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
}

impl Registry {
    /// CreateBillingGroup. The same group again is a success and changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::ResourceAlreadyExists`] when its description differs.
    pub async fn create_billing_group(
        &self,
        name: &BillingGroupName,
        description: Option<String>,
    ) -> Result<BillingGroup, RegistryError> {
        check(description.as_deref())?;
        let group = BillingGroup {
            name: name.clone(),
            id: random::uuid(&*self.0.ports.random),
            description,
            version: 1,
            created_at: self.0.ports.clock.wall(),
        };
        let key = record::key::<BillingGroup>(name.as_str());
        for _ in 0..ATTEMPTS_MAX {
            if let Some((existing, _)) = self.read::<BillingGroup>(&key).await? {
                if existing.description == group.description {
                    return Ok(existing);
                }
                return Err(RegistryError::ResourceAlreadyExists {
                    message: format!("billing group {name} exists with another description"),
                    id: existing.id,
                    arn: self.billing_group_arn(name),
                });
            }
            if self.write(&key, &group, None).await? {
                tracing::info!(billing_group = %name, "billing group created");
                return Ok(group);
            }
        }
        Err(RegistryError::Busy)
    }

    /// DescribeBillingGroup.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn describe_billing_group(
        &self,
        name: &BillingGroupName,
    ) -> Result<BillingGroup, RegistryError> {
        Ok(self.read_existing(&record::key::<BillingGroup>(name.as_str())).await?.0)
    }

    /// UpdateBillingGroup: replaces the description.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`], [`RegistryError::VersionConflict`].
    pub async fn update_billing_group(
        &self,
        name: &BillingGroupName,
        description: Option<String>,
        expected_version: Option<u64>,
    ) -> Result<BillingGroup, RegistryError> {
        check(description.as_deref())?;
        let change = |group: &mut BillingGroup| {
            check_version(WHAT, name.as_str(), group.version, expected_version)?;
            group.description.clone_from(&description);
            group.version += 1;
            Ok(true)
        };
        self.update(&record::key::<BillingGroup>(name.as_str()), change).await
    }

    /// DeleteBillingGroup; a group that does not exist is a success. Its things leave it.
    ///
    /// # Errors
    /// [`RegistryError::VersionConflict`].
    pub async fn delete_billing_group(
        &self,
        name: &BillingGroupName,
        expected_version: Option<u64>,
    ) -> Result<(), RegistryError> {
        let key = record::key::<BillingGroup>(name.as_str());
        for _ in 0..ATTEMPTS_MAX {
            let Some((group, revision)) = self.read::<BillingGroup>(&key).await? else {
                return Ok(());
            };
            check_version(WHAT, name.as_str(), group.version, expected_version)?;
            if self.remove(&key, revision, None).await? {
                tracing::info!(billing_group = %name, "billing group deleted");
                for thing in self.billed(name, ALL).await?.items {
                    self.leave_billing_group(&thing, name).await?;
                }
                return Ok(());
            }
        }
        Err(RegistryError::Busy)
    }

    /// ListBillingGroups, ordered by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_billing_groups(
        &self,
        prefix: Option<&str>,
        page: PageRequest<'_>,
    ) -> Result<Page<BillingGroup>, RegistryError> {
        let fits = |group: &BillingGroup| {
            prefix.is_none_or(|prefix| group.name.as_str().starts_with(prefix))
        };
        self.list(page, fits).await
    }

    /// AddThingToBillingGroup; again is a success.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::InvalidRequest`] while it is in another.
    pub async fn add_thing_to_billing_group(
        &self,
        thing: &ThingName,
        group: &BillingGroupName,
    ) -> Result<(), RegistryError> {
        self.describe_billing_group(group).await?;
        let key = record::key::<Thing>(thing.as_str());
        for _ in 0..ATTEMPTS_MAX {
            let (mut member, revision) = self.read_existing::<Thing>(&key).await?;
            match &member.billing_group {
                Some(present) if present == group => return Ok(()),
                Some(other) => {
                    return Err(RegistryError::InvalidRequest(format!(
                        "thing {thing} is in billing group {other}; remove it there first"
                    )));
                }
                None => {}
            }
            self.put_index(&index_key(group, thing.as_str())).await?;
            member.billing_group = Some(group.clone());
            if !self.write(&key, &member, Some(revision)).await? {
                continue;
            }
            // Deleted since the first look? The deletion may have missed this thing.
            return match self.describe_billing_group(group).await {
                Err(error) => {
                    self.leave_billing_group(thing, group).await?;
                    Err(error)
                }
                Ok(_) => Ok(()),
            };
        }
        Err(RegistryError::Busy)
    }

    /// RemoveThingFromBillingGroup; a thing that is not in the group is a success.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn remove_thing_from_billing_group(
        &self,
        thing: &ThingName,
        group: &BillingGroupName,
    ) -> Result<(), RegistryError> {
        self.describe_billing_group(group).await?;
        self.describe_thing(thing).await?;
        self.leave_billing_group(thing, group).await
    }

    /// ListThingsInBillingGroup, ordered by name.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn list_things_in_billing_group(
        &self,
        group: &BillingGroupName,
        page: PageRequest<'_>,
    ) -> Result<Page<ThingName>, RegistryError> {
        self.describe_billing_group(group).await?;
        self.billed(group, page).await
    }

    /// `arn:aws:iot:<region>:<account>:billinggroup/<name>`.
    pub fn billing_group_arn(&self, name: &BillingGroupName) -> String {
        self.account().arn(&format!("billinggroup/{name}"))
    }

    /// A thing is gone: its group need not know it any more.
    pub(super) async fn forget_billed(
        &self,
        group: &BillingGroupName,
        thing: &ThingName,
    ) -> Result<(), RegistryError> {
        self.forget_index(&index_key(group, thing.as_str())).await
    }

    async fn leave_billing_group(
        &self,
        thing: &ThingName,
        group: &BillingGroupName,
    ) -> Result<(), RegistryError> {
        let entry = self.0.ports.storage.get(&index_key(group, thing.as_str())).await?;
        let change =
            |member: &mut Thing| Ok(member.billing_group.take_if(|it| it == group).is_some());
        match self.update(&record::key::<Thing>(thing.as_str()), change).await {
            Ok(_) | Err(RegistryError::ResourceNotFound(_)) => {}
            Err(error) => return Err(error),
        }
        self.remove_index(entry).await
    }

    async fn billed(
        &self,
        group: &BillingGroupName,
        page: PageRequest<'_>,
    ) -> Result<Page<ThingName>, RegistryError> {
        let holds = |thing: &Thing| thing.billing_group.as_ref() == Some(group);
        self.index_page(&index_key(group, ""), page, ThingName::parse, holds).await
    }
}

fn check(description: Option<&str>) -> Result<(), RegistryError> {
    description.map_or(Ok(()), |text| check_description("billingGroupDescription", text))
}

fn index_key(group: &BillingGroupName, thing: &str) -> Key {
    Key::new("billing-group-thing", &[group.as_str(), thing])
}

#[derive(Serialize, Deserialize)]
pub(super) struct BillingGroupRecord {
    id: String,
    description: Option<String>,
    version: u64,
    created_at_ms: u64,
}

impl Stored for BillingGroup {
    const KIND: &str = "billing-group";
    const VERSION: u8 = 1;
    type Record = BillingGroupRecord;

    fn to_record(&self) -> BillingGroupRecord {
        BillingGroupRecord {
            id: self.id.clone(),
            description: self.description.clone(),
            version: self.version,
            created_at_ms: self.created_at.as_millis(),
        }
    }

    fn from_record(name: &str, record: BillingGroupRecord) -> Result<Self, String> {
        Ok(Self {
            name: BillingGroupName::parse(name).map_err(|error| error.to_string())?,
            id: record.id,
            description: record.description,
            version: record.version,
            created_at: Timestamp::from_millis(record.created_at_ms),
        })
    }

    fn not_found(name: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("billing group {name} does not exist"))
    }
}
