//! Policies of thing groups: they hold for the certificates of the things in a group and in all groups
//! below it.
//!
//! A group's record is the truth; `policy-group/{policy}/{group}` leads back, with the invariant of the
//! module above.
//!
//! Source: AWS IoT developer guide, "Thing groups" (attaching a policy), and `GetEffectivePolicies`.

use super::index::{ALL, page_of};
use super::record;
use super::thing::Thing;
use super::thing_group::ThingGroup;
use super::{ATTEMPTS_MAX, Page, PageRequest, PolicyDefinition, Registry, RegistryError};
use crate::ids::{CertificateId, PolicyName, ThingGroupName, ThingName};
use crate::storage::Key;
use std::collections::BTreeSet;

/// What a policy can be attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyTarget {
    /// A certificate.
    Certificate(CertificateId),
    /// A static thing group.
    Group(ThingGroupName),
}

/// Beginning of the token of a page that ends with a group; certificate ids are digits.
const GROUP: &str = "thinggroup/";

impl Registry {
    /// AttachPolicy to a group; again is a success.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::LimitExceeded`] beyond
    /// `Limits::policies_per_principal`; [`RegistryError::InvalidRequest`] for a dynamic group.
    pub async fn attach_group_policy(
        &self,
        policy: &PolicyName,
        group: &ThingGroupName,
    ) -> Result<(), RegistryError> {
        self.get_policy(policy).await?;
        let key = record::key::<ThingGroup>(group.as_str());
        for _ in 0..ATTEMPTS_MAX {
            let (mut target, revision) = self.read_existing::<ThingGroup>(&key).await?;
            target.check_is_static()?;
            if target.policies.contains(policy) {
                return Ok(());
            }
            let max = self.0.ports.limits.policies_per_principal;
            if target.policies.len() >= max as usize {
                return Err(RegistryError::LimitExceeded(format!(
                    "thing group {group} has {max} policies attached; detach one first"
                )));
            }
            self.put_index(&index_key(policy, group.as_str())).await?;
            target.policies.insert(policy.clone());
            let written = self.write(&key, &target, Some(revision)).await;
            // Whatever came back: a write whose answer was lost may have happened.
            self.policy_changed();
            if !written? {
                continue;
            }
            // Deleted since the first look? The deletion may have missed this attachment.
            return match self.get_policy(policy).await {
                Err(error) => {
                    self.detach_group_policy(policy, group).await?;
                    Err(error)
                }
                Ok(_) => Ok(()),
            };
        }
        Err(RegistryError::Busy)
    }

    /// DetachPolicy from a group; a policy that is not attached is a success.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`] for the group.
    pub async fn detach_group_policy(
        &self,
        policy: &PolicyName,
        group: &ThingGroupName,
    ) -> Result<(), RegistryError> {
        let entry = self.0.ports.storage.get(&index_key(policy, group.as_str())).await?;
        let change = |target: &mut ThingGroup| Ok(target.policies.remove(policy));
        let updated = self.update(&record::key::<ThingGroup>(group.as_str()), change).await;
        self.policy_changed();
        updated?;
        self.remove_index(entry).await
    }

    /// ListAttachedPolicies of a group, ordered by name; with those of the groups above it if
    /// `recursive`.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn list_group_policies(
        &self,
        group: &ThingGroupName,
        recursive: bool,
        page: PageRequest<'_>,
    ) -> Result<Page<PolicyName>, RegistryError> {
        let group = self.describe_thing_group(group).await?;
        let policies = if recursive { self.policies_above(group).await? } else { group.policies };
        Ok(page_of(policies, page))
    }

    /// ListTargetsForPolicy: certificates ordered by id, then groups ordered by name.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn list_targets_for_policy(
        &self,
        policy: &PolicyName,
        page: PageRequest<'_>,
    ) -> Result<Page<PolicyTarget>, RegistryError> {
        let behind_group = page.after.and_then(|after| after.strip_prefix(GROUP));
        let mut items = Vec::new();
        if behind_group.is_none() {
            let found = self.list_policy_principals(policy, page).await?;
            items.extend(found.items.into_iter().map(PolicyTarget::Certificate));
            if found.next.is_some() {
                return Ok(Page { items, next: found.next });
            }
        }
        let groups = self.groups_of_policy(policy).await?;
        let behind = |name: &ThingGroupName| behind_group.is_none_or(|it| name.as_str() > it);
        let mut rest = groups.into_iter().filter(behind);
        let room = page.limit.saturating_sub(items.len());
        items.extend(rest.by_ref().take(room).map(PolicyTarget::Group));
        let last = items.last().map(|target| match target {
            PolicyTarget::Certificate(id) => id.as_str().to_owned(),
            PolicyTarget::Group(name) => format!("{GROUP}{name}"),
        });
        Ok(Page { items, next: rest.next().and(last) })
    }

    /// GetEffectivePolicies: those of the certificate, and those that the thing has from its groups;
    /// by name.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn effective_policies(
        &self,
        principal: Option<&CertificateId>,
        thing: Option<&ThingName>,
    ) -> Result<Vec<PolicyDefinition>, RegistryError> {
        let mut names = BTreeSet::new();
        if let Some(principal) = principal {
            names.extend(self.describe_certificate(principal).await?.policies);
        }
        if let Some(thing) = thing {
            names.extend(self.policies_of_thing(&self.describe_thing(thing).await?).await?);
        }
        let mut policies = Vec::new();
        for name in names {
            // Deleted at this moment: it is about to be detached.
            let key = record::key::<PolicyDefinition>(name.as_str());
            policies.extend(self.read(&key).await?.map(|(policy, _)| policy));
        }
        Ok(policies)
    }

    /// The policies that a thing has from its groups and those above them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn policies_of_thing(
        &self,
        thing: &Thing,
    ) -> Result<BTreeSet<PolicyName>, RegistryError> {
        let mut policies = BTreeSet::new();
        for name in &thing.groups {
            match self.describe_thing_group(name).await {
                Ok(group) => policies.extend(self.policies_above(group).await?),
                // Deleted at this moment: the thing is about to leave it.
                Err(RegistryError::ResourceNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(policies)
    }

    /// The policies of a group and of those above it.
    async fn policies_above(
        &self,
        group: ThingGroup,
    ) -> Result<BTreeSet<PolicyName>, RegistryError> {
        let mut policies = group.policies;
        let mut next = group.parent;
        while let Some(name) = next {
            let parent = self.describe_thing_group(&name).await?;
            policies.extend(parent.policies);
            next = parent.parent;
        }
        Ok(policies)
    }

    /// All groups that a policy is attached to.
    pub(super) async fn groups_of_policy(
        &self,
        policy: &PolicyName,
    ) -> Result<BTreeSet<ThingGroupName>, RegistryError> {
        let holds = |group: &ThingGroup| group.policies.contains(policy);
        let prefix = index_key(policy, "");
        let found = self.index_page(&prefix, ALL, ThingGroupName::parse, holds).await?;
        Ok(found.items.into_iter().collect())
    }

    /// A group is gone: its policies need not know it any more.
    pub(super) async fn forget_policies(&self, group: &ThingGroup) -> Result<(), RegistryError> {
        for policy in &group.policies {
            self.forget_index(&index_key(policy, group.name.as_str())).await?;
        }
        Ok(())
    }
}

fn index_key(policy: &PolicyName, group: &str) -> Key {
    Key::new("policy-group", &[policy.as_str(), group])
}
