//! What is attached to certificates: policies, and the things that a certificate is a principal of.
//!
//! Both work alike: the certificate's record holds the set, an index key holds the way back. The
//! order of the writes keeps the invariant of the module above, whoever does what at the same
//! time:
//! - attaching reads the certificate, writes the index key, then writes the certificate over what
//!   it read;
//! - detaching reads the index key, takes the owner out of the certificate, then removes the index
//!   key as it was read. An attachment in between has either made the certificate's write fail, or
//!   has written the index key again, so that its removal fails.
//!
//! A certificate that is attached to a thing exclusively is attached to no other. Source: AWS IoT,
//! "Associating an AWS IoT thing to an MQTT client connection".

use super::certificate::Certificate;
use super::index::{ALL, page_of};
use super::quarantine::QUARANTINE_POLICY;
use super::record::{self, Stored};
use super::{ATTEMPTS_MAX, Page, PageRequest, Registry, RegistryError, policy, thing};
use crate::ids::{CertificateId, PolicyName, ThingName};
use crate::storage::Key;

/// What a certificate can be attached to.
pub(super) enum Owner<'a> {
    Policy(&'a PolicyName),
    Thing(&'a ThingName),
}

/// How a certificate is attached to a thing (`ThingPrincipalType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThingPrincipalType {
    /// To no other thing.
    Exclusive,
    /// Perhaps to others too.
    NonExclusive,
}

impl ThingPrincipalType {
    /// The type of this name.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`] names those that exist.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        [Self::Exclusive, Self::NonExclusive].into_iter().find(|it| it.as_str() == text).ok_or_else(
            || {
                RegistryError::InvalidRequest(
                    "thingPrincipalType must be EXCLUSIVE_THING or NON_EXCLUSIVE_THING".to_owned(),
                )
            },
        )
    }

    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "EXCLUSIVE_THING",
            Self::NonExclusive => "NON_EXCLUSIVE_THING",
        }
    }

    fn of(certificate: &Certificate) -> Self {
        if certificate.is_exclusive { Self::Exclusive } else { Self::NonExclusive }
    }
}

impl Owner<'_> {
    pub(super) fn index_key(&self, certificate: &str) -> Key {
        match self {
            Self::Policy(name) => Key::new("policy-target", &[name.as_str(), certificate]),
            Self::Thing(name) => Key::new("thing-principal", &[name.as_str(), certificate]),
        }
    }

    fn key(&self) -> Key {
        match self {
            Self::Policy(name) => record::key::<policy::PolicyDefinition>(name.as_str()),
            Self::Thing(name) => record::key::<thing::Thing>(name.as_str()),
        }
    }

    fn not_found(&self) -> RegistryError {
        match self {
            Self::Policy(name) => policy::PolicyDefinition::not_found(name.as_str()),
            Self::Thing(name) => thing::Thing::not_found(name.as_str()),
        }
    }

    fn is_in(&self, certificate: &Certificate) -> bool {
        match self {
            Self::Policy(name) => certificate.policies.contains(*name),
            Self::Thing(name) => certificate.things.contains(*name),
        }
    }

    fn add_to(&self, certificate: &mut Certificate) {
        match *self {
            Self::Policy(name) => certificate.policies.insert(name.clone()),
            Self::Thing(name) => certificate.things.insert(name.clone()),
        };
    }

    fn remove_from(&self, certificate: &mut Certificate) -> bool {
        match self {
            Self::Policy(name) => certificate.policies.remove(*name),
            Self::Thing(name) => {
                let removed = certificate.things.remove(*name);
                certificate.is_exclusive &= !certificate.things.is_empty();
                removed
            }
        }
    }

    /// Whether the certificate may be attached so. Without a type it may stay as it is.
    fn check_type(
        &self,
        certificate: &Certificate,
        wanted: Option<ThingPrincipalType>,
    ) -> Result<(), RegistryError> {
        let Self::Thing(name) = self else { return Ok(()) };
        let (id, present) = (&certificate.id, ThingPrincipalType::of(certificate));
        let is_either = certificate.is_exclusive || wanted == Some(ThingPrincipalType::Exclusive);
        if let Some(other) = certificate.things.iter().find(|it| it != name)
            && is_either
        {
            return Err(RegistryError::InvalidRequest(format!(
                "certificate {id} is attached to thing {other} as {}, and can be attached \
                 exclusively to one thing only; detach it first",
                present.as_str()
            )));
        }
        if self.is_in(certificate) && wanted.is_some_and(|wanted| wanted != present) {
            return Err(RegistryError::InvalidRequest(format!(
                "certificate {id} is attached to thing {name} as {}; detach it first",
                present.as_str()
            )));
        }
        Ok(())
    }
}

impl Registry {
    /// AttachPolicy; again is a success.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::LimitExceeded`] beyond
    /// `Limits::policies_per_principal`.
    pub async fn attach_policy(
        &self,
        policy: &PolicyName,
        target: &CertificateId,
    ) -> Result<(), RegistryError> {
        self.attach(&Owner::Policy(policy), target, None).await
    }

    /// DetachPolicy; a policy that is not attached is a success.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`] for the certificate.
    pub async fn detach_policy(
        &self,
        policy: &PolicyName,
        target: &CertificateId,
    ) -> Result<(), RegistryError> {
        self.detach(&Owner::Policy(policy), target).await
    }

    /// ListAttachedPolicies, ordered by name.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn list_attached_policies(
        &self,
        target: &CertificateId,
        page: PageRequest<'_>,
    ) -> Result<Page<PolicyName>, RegistryError> {
        Ok(page_of(self.describe_certificate(target).await?.policies, page))
    }

    /// ListPolicyPrincipals: the certificates, ordered by id.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn list_policy_principals(
        &self,
        policy: &PolicyName,
        page: PageRequest<'_>,
    ) -> Result<Page<CertificateId>, RegistryError> {
        self.list_certificates_of(&Owner::Policy(policy), page).await
    }

    /// AttachThingPrincipal without a type: not exclusively; again is a success.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::InvalidRequest`] when the principal is
    /// attached to another thing exclusively.
    pub async fn attach_thing_principal(
        &self,
        thing: &ThingName,
        principal: &CertificateId,
    ) -> Result<(), RegistryError> {
        self.attach(&Owner::Thing(thing), principal, None).await
    }

    /// AttachThingPrincipal with a type; again with the same one is a success.
    ///
    /// # Errors
    /// As there, and [`RegistryError::InvalidRequest`] when it is attached to the thing as another type,
    /// or to another thing and is to be attached exclusively.
    pub async fn attach_thing_principal_as(
        &self,
        thing: &ThingName,
        principal: &CertificateId,
        wanted: ThingPrincipalType,
    ) -> Result<(), RegistryError> {
        self.attach(&Owner::Thing(thing), principal, Some(wanted)).await
    }

    /// DetachThingPrincipal; a principal that is not attached is a success.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn detach_thing_principal(
        &self,
        thing: &ThingName,
        principal: &CertificateId,
    ) -> Result<(), RegistryError> {
        let owner = Owner::Thing(thing);
        self.check_exists(&owner).await?;
        self.detach(&owner, principal).await
    }

    /// ListThingPrincipals, ordered by certificate id.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn list_thing_principals(
        &self,
        thing: &ThingName,
        page: PageRequest<'_>,
    ) -> Result<Page<CertificateId>, RegistryError> {
        self.list_certificates_of(&Owner::Thing(thing), page).await
    }

    /// ListPrincipalThings, ordered by name.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn list_principal_things(
        &self,
        principal: &CertificateId,
        page: PageRequest<'_>,
    ) -> Result<Page<ThingName>, RegistryError> {
        Ok(page_of(self.describe_certificate(principal).await?.things, page))
    }

    /// ListThingPrincipalsV2, ordered by certificate id; only those of a type, if one is given.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn list_typed_thing_principals(
        &self,
        thing: &ThingName,
        wanted: Option<ThingPrincipalType>,
        page: PageRequest<'_>,
    ) -> Result<Page<(CertificateId, ThingPrincipalType)>, RegistryError> {
        let owner = Owner::Thing(thing);
        self.check_exists(&owner).await?;
        let fits = |certificate: &Certificate| {
            let of_type = ThingPrincipalType::of(certificate);
            owner.is_in(certificate) && wanted.is_none_or(|wanted| wanted == of_type)
        };
        let prefix = owner.index_key("");
        let found = self.index_page(&prefix, page, CertificateId::parse, fits).await?;
        let mut items = Vec::with_capacity(found.items.len());
        for id in found.items {
            // Detached at this moment: it is not there.
            let read = self.read(&record::key::<Certificate>(id.as_str())).await?;
            let read = read.map(|(certificate, _)| certificate).filter(fits);
            items.extend(read.map(|certificate| (id, ThingPrincipalType::of(&certificate))));
        }
        Ok(Page { items, next: found.next })
    }

    /// ListPrincipalThingsV2, ordered by name; only those of a type, if one is given.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn list_typed_principal_things(
        &self,
        principal: &CertificateId,
        wanted: Option<ThingPrincipalType>,
        page: PageRequest<'_>,
    ) -> Result<Page<(ThingName, ThingPrincipalType)>, RegistryError> {
        let certificate = self.describe_certificate(principal).await?;
        let of_type = ThingPrincipalType::of(&certificate);
        let mut things = certificate.things;
        things.retain(|_| wanted.is_none_or(|wanted| wanted == of_type));
        let Page { items, next } = page_of(things, page);
        Ok(Page { items: items.into_iter().map(|name| (name, of_type)).collect(), next })
    }

    async fn attach(
        &self,
        owner: &Owner<'_>,
        id: &CertificateId,
        wanted: Option<ThingPrincipalType>,
    ) -> Result<(), RegistryError> {
        self.check_exists(owner).await?;
        let key = record::key::<Certificate>(id.as_str());
        let mut written = false;
        for _ in 0..ATTEMPTS_MAX {
            let (mut certificate, revision) = self.read_existing::<Certificate>(&key).await?;
            owner.check_type(&certificate, wanted)?;
            if owner.is_in(&certificate) {
                return Ok(());
            }
            owner.add_to(&mut certificate);
            certificate.is_exclusive |= wanted == Some(ThingPrincipalType::Exclusive);
            let max = self.0.ports.limits.policies_per_principal;
            // The quarantine takes nobody's room, and always finds some.
            let policies =
                certificate.policies.iter().filter(|it| it.as_str() != QUARANTINE_POLICY);
            if policies.count() > max as usize {
                return Err(RegistryError::LimitExceeded(format!(
                    "certificate {id} has {max} policies attached; detach one first"
                )));
            }
            let index = owner.index_key(id.as_str());
            self.put_index(&index).await?;
            let write = self.write(&key, &certificate, Some(revision)).await;
            // Whatever came back: a write whose answer was lost may have happened.
            self.certificate_changed(id);
            written = write?;
            if written {
                break;
            }
        }
        if !written {
            return Err(RegistryError::Busy);
        }
        // Deleted since the first look? The deletion may have missed this attachment.
        if let Err(error) = self.check_exists(owner).await {
            self.detach(owner, id).await?;
            return Err(error);
        }
        Ok(())
    }

    /// Takes an owner off that was deleted while it was being attached.
    pub(super) async fn detach_from_missing(
        &self,
        owner: &Owner<'_>,
        id: &CertificateId,
    ) -> Result<(), RegistryError> {
        match self.check_exists(owner).await {
            Err(RegistryError::ResourceNotFound(_)) => self.detach(owner, id).await,
            checked => checked,
        }
    }

    async fn detach(&self, owner: &Owner<'_>, id: &CertificateId) -> Result<(), RegistryError> {
        let index = owner.index_key(id.as_str());
        let entry = self.0.ports.storage.get(&index).await?;
        let mut removed = false;
        let key = record::key::<Certificate>(id.as_str());
        let updated = self
            .update(&key, |certificate: &mut Certificate| {
                removed = owner.remove_from(certificate);
                Ok(removed)
            })
            .await;
        self.certificate_changed(id);
        updated?;
        self.remove_index(entry.filter(|_| removed)).await
    }

    /// Detaches what was attached while the owner was being deleted.
    pub(super) async fn detach_from_all(&self, owner: &Owner<'_>) -> Result<(), RegistryError> {
        for id in self.attached_certificates(owner).await? {
            match self.detach(owner, &id).await {
                Ok(()) | Err(RegistryError::ResourceNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn check_exists(&self, owner: &Owner<'_>) -> Result<(), RegistryError> {
        match self.0.ports.storage.get(&owner.key()).await? {
            Some(_) => Ok(()),
            None => Err(owner.not_found()),
        }
    }

    /// All certificates that are attached to the owner.
    pub(super) async fn attached_certificates(
        &self,
        owner: &Owner<'_>,
    ) -> Result<Vec<CertificateId>, RegistryError> {
        Ok(self.attached_page(owner, ALL).await?.items)
    }

    async fn list_certificates_of(
        &self,
        owner: &Owner<'_>,
        page: PageRequest<'_>,
    ) -> Result<Page<CertificateId>, RegistryError> {
        self.check_exists(owner).await?;
        self.attached_page(owner, page).await
    }

    async fn attached_page(
        &self,
        owner: &Owner<'_>,
        page: PageRequest<'_>,
    ) -> Result<Page<CertificateId>, RegistryError> {
        let holds = |certificate: &Certificate| owner.is_in(certificate);
        self.index_page(&owner.index_key(""), page, CertificateId::parse, holds).await
    }
}
