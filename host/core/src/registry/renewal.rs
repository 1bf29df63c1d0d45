//! Renewal: a certificate in place of another, with the same policies and things.
//!
//! Both are ACTIVE for `Limits::certificate_overlap_s`. Then the old one becomes INACTIVE, but not
//! before its owner has come with the new one: a device that could not keep it is not locked out,
//! and may ask again. `certificate-overlap/{until}/{old}` finds those whose time is over. Bound:
//! [`SUCCESSORS_MAX`] unused certificates wait for one owner; one more takes the place of the oldest.

use super::attachment::Owner;
use super::certificate::{Certificate, CertificateMode, CertificateStatus};
use super::expiry::{end_of, padded};
use super::record;
use super::x509::{Purpose, X509};
use super::{ATTEMPTS_MAX, Change, Diff, Issued, Registry, RegistryError, SCAN_RECORDS};
use crate::ids::{CertificateId, NameError};
use crate::storage::Key;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Unused renewals of one certificate. More than one, because a device may get the answers to two
/// requests, and keep the first.
const SUCCESSORS_MAX: usize = 3;

const OVERLAP: &str = "certificate-overlap";

/// How a certificate stands to those that it was renewed from and to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// It was made in place of this one.
    pub predecessor: Option<CertificateId>,
    /// Its owner has come with it; only known when there is a predecessor.
    pub is_used: bool,
    /// Made in place of it, the newest last.
    pub successors: Vec<CertificateId>,
    /// Until when it stays ACTIVE beside a successor that is used.
    pub overlap_until: Option<Timestamp>,
}

/// A new certificate in place of another.
pub struct Renewal {
    /// What was registered.
    pub certificate: Certificate,
    /// The secret, when the host made the keys; it is nowhere else.
    pub private_key_pem: Option<String>,
    /// How long both can be used.
    pub overlap: Duration,
}

impl Registry {
    /// A new certificate in place of this one: for the key of the signing request, else with keys that
    /// are made here.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::CertificateState`] when it is not ACTIVE,
    /// or was renewed to one that is in use; [`RegistryError::InvalidRequest`] when the request is
    /// none; [`RegistryError::Issuer`]; [`RegistryError::Busy`] when it was changed meanwhile.
    pub async fn renew_certificate(
        &self,
        id: &CertificateId,
        request_pem: Option<&str>,
    ) -> Result<Renewal, RegistryError> {
        self.renewable(id).await?;
        let (pem, private_key_pem) = match request_pem.map(str::to_owned) {
            Some(request) => (self.issue(move |issuer| issuer.sign(&request)).await?, None),
            None => {
                let Issued { certificate_pem, private_key_pem, .. } =
                    self.issue(super::Issuer::issue).await?;
                (certificate_pem, Some(private_key_pem))
            }
        };
        let x509 = X509::parse("certificatePem", &pem, Purpose::Device, self.now())?;
        let old = self.renewable(id).await?;
        let overlap = Duration::from_secs(self.0.ports.limits.certificate_overlap_s.into());
        let until = self.now().plus(overlap);
        let certificate = Certificate {
            policies: old.policies.clone(),
            things: old.things.clone(),
            is_exclusive: old.is_exclusive,
            lineage: Box::new(Lineage { predecessor: Some(id.clone()), ..Lineage::default() }),
            ..self.certificate(x509, CertificateStatus::Active, CertificateMode::Default)
        };
        self.put_index(&overlap_key(until, id)).await?;
        for owner in owners(&certificate) {
            self.put_index(&owner.index_key(certificate.id.as_str())).await?;
        }
        self.add_certificate(&certificate).await?;
        let displaced = match self.link(&old, &certificate.id, until).await {
            Ok(displaced) => displaced,
            Err(error) => {
                // Nobody was given it.
                self.drop_unused(&certificate.id).await?;
                return Err(error);
            }
        };
        if let Some(oldest) = displaced {
            self.drop_unused(&oldest).await?;
        }
        for owner in owners(&certificate) {
            // Deleted since: the deletion may have missed this attachment.
            self.detach_from_missing(&owner, &certificate.id).await?;
        }
        tracing::info!(principal = %id, successor = %certificate.id, "certificate renewed");
        Ok(Renewal { certificate, private_key_pem, overlap })
    }

    /// Its owner has come with it, and was let in.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`], or when the store fails.
    pub async fn certificate_used(&self, id: &CertificateId) -> Result<(), RegistryError> {
        let key = record::key::<Certificate>(id.as_str());
        let mark = |certificate: &mut Certificate| {
            let is_first = certificate.lineage.awaits_use();
            certificate.lineage.is_used |= is_first;
            Ok(is_first)
        };
        self.update(&key, mark).await?;
        Ok(())
    }

    /// Makes INACTIVE what was renewed, whose overlap is over, and whose owner has come with the new
    /// certificate. Call it now and then.
    ///
    /// # Errors
    /// When the store fails; what is left is seen to next time.
    pub async fn finish_renewals(&self) -> Result<(), RegistryError> {
        let prefix = Key::prefix(OVERLAP);
        let mut after = None;
        loop {
            let entries = self.0.ports.storage.scan(&prefix, after.as_ref(), SCAN_RECORDS).await?;
            for entry in &entries {
                if end_of(&entry.key) > self.now() {
                    return Ok(());
                }
                if self.finish_renewal(&entry.key).await? {
                    self.forget_index(&entry.key).await?;
                }
            }
            match entries.last() {
                Some(last) if entries.len() == SCAN_RECORDS => after = Some(last.key.clone()),
                _ => return Ok(()),
            }
        }
    }

    /// True when nothing is left to be done.
    async fn finish_renewal(&self, entry: &Key) -> Result<bool, RegistryError> {
        let key = record::key::<Certificate>(record::name_of(entry));
        let Some((old, _)) = self.read::<Certificate>(&key).await? else { return Ok(true) };
        // Renewed once more: another entry stands for it.
        let is_this = |old: &Certificate| old.lineage.overlap_until == Some(end_of(entry));
        if !is_this(&old) {
            return Ok(true);
        }
        let Some(used) = self.used_successor(&old).await? else {
            // Looked at until its end, or until it is of no use for another reason.
            return Ok(old.status != CertificateStatus::Active || old.not_after < self.now());
        };
        let now = self.now();
        let retire = |old: &mut Certificate| {
            let retires = is_this(old) && old.status == CertificateStatus::Active;
            Ok(retires && old.switch(CertificateStatus::Inactive, now))
        };
        let retired = self.update_telling(&key, retire, Change::Certificate).await;
        self.certificate_changed(&old.id);
        let retired = retired?;
        tracing::info!(principal = %retired.id, successor = %used, "renewed certificate is INACTIVE now");
        for other in retired.lineage.successors.iter().filter(|id| **id != used) {
            self.drop_unused(other).await?;
        }
        Ok(true)
    }

    /// The certificate, if it can be renewed.
    async fn renewable(&self, id: &CertificateId) -> Result<Certificate, RegistryError> {
        let certificate = self.describe_certificate(id).await?;
        certificate.check_active()?;
        if let Some(used) = self.used_successor(&certificate).await? {
            return Err(RegistryError::CertificateState(format!(
                "certificate {id} was renewed to {used}, which is in use; renew that one"
            )));
        }
        Ok(certificate)
    }

    /// What it was renewed to, if its owner has come with that.
    async fn used_successor(
        &self,
        certificate: &Certificate,
    ) -> Result<Option<CertificateId>, RegistryError> {
        for id in certificate.lineage.successors.iter().rev() {
            let key = record::key::<Certificate>(id.as_str());
            let found = self.read::<Certificate>(&key).await?;
            let is_good =
                |it: &Certificate| it.lineage.is_used && it.status == CertificateStatus::Active;
            if found.is_some_and(|(successor, _)| is_good(&successor)) {
                return Ok(Some(id.clone()));
            }
        }
        Ok(None)
    }

    /// Tells the old certificate of the new one; which earlier one makes room for it.
    async fn link(
        &self,
        copied: &Certificate,
        new: &CertificateId,
        until: Timestamp,
    ) -> Result<Option<CertificateId>, RegistryError> {
        let mut displaced = None;
        let link = |old: &mut Certificate| {
            old.check_active()?;
            // What was taken from it meanwhile the new one must not have.
            if old.policies != copied.policies
                || old.things != copied.things
                || old.is_exclusive != copied.is_exclusive
            {
                return Err(RegistryError::Busy);
            }
            let successors = &mut old.lineage.successors;
            displaced = (successors.len() >= SUCCESSORS_MAX).then(|| successors.remove(0));
            successors.push(new.clone());
            old.lineage.overlap_until = Some(until);
            Ok(true)
        };
        self.update(&record::key::<Certificate>(copied.id.as_str()), link).await?;
        Ok(displaced)
    }

    /// Deletes a certificate that was made in place of another and that nobody has come with.
    async fn drop_unused(&self, id: &CertificateId) -> Result<(), RegistryError> {
        let key = record::key::<Certificate>(id.as_str());
        for _ in 0..ATTEMPTS_MAX {
            let Some((certificate, revision)) = self.read::<Certificate>(&key).await? else {
                return Ok(());
            };
            if !certificate.lineage.awaits_use() {
                return Ok(());
            }
            let expiry = self.expiry_entry(&certificate).await?;
            let change = self.told(|| Change::Certificate(Diff::Deleted(certificate.clone())));
            if self.remove(&key, revision, change).await? {
                tracing::info!(principal = %id, "certificate deleted, nobody came with it");
                self.certificate_changed(id);
                for owner in owners(&certificate) {
                    self.forget_index(&owner.index_key(id.as_str())).await?;
                }
                return self.remove_index(expiry).await;
            }
        }
        Err(RegistryError::Busy)
    }
}

fn owners(certificate: &Certificate) -> impl Iterator<Item = Owner<'_>> {
    let policies = certificate.policies.iter().map(Owner::Policy);
    policies.chain(certificate.things.iter().map(Owner::Thing))
}

fn overlap_key(until: Timestamp, id: &CertificateId) -> Key {
    Key::new(OVERLAP, &[&padded(until), id.as_str()])
}

impl Certificate {
    fn check_active(&self) -> Result<(), RegistryError> {
        if self.status == CertificateStatus::Active {
            return Ok(());
        }
        Err(RegistryError::CertificateState(format!(
            "certificate {} is {}; only an ACTIVE one can be renewed",
            self.id, self.status
        )))
    }
}

/// Ids as texts, times in milliseconds.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct LineageRecord {
    #[serde(default)]
    predecessor: Option<String>,
    #[serde(default)]
    is_used: bool,
    #[serde(default)]
    successors: Vec<String>,
    #[serde(default)]
    overlap_until_ms: Option<u64>,
}

impl LineageRecord {
    pub(super) fn is_empty(&self) -> bool {
        self.predecessor.is_none() && self.successors.is_empty()
    }
}

impl Lineage {
    /// Made in place of another, and its owner has not come with it yet.
    pub fn awaits_use(&self) -> bool {
        self.predecessor.is_some() && !self.is_used
    }

    pub(super) fn to_record(&self) -> LineageRecord {
        LineageRecord {
            predecessor: self.predecessor.as_ref().map(|id| id.as_str().to_owned()),
            is_used: self.is_used,
            successors: self.successors.iter().map(|id| id.as_str().to_owned()).collect(),
            overlap_until_ms: self.overlap_until.map(Timestamp::as_millis),
        }
    }

    pub(super) fn from_record(record: LineageRecord) -> Result<Self, NameError> {
        let successors = record.successors.iter().map(|id| CertificateId::parse(id));
        Ok(Self {
            predecessor: record.predecessor.map(|id| CertificateId::parse(&id)).transpose()?,
            is_used: record.is_used,
            successors: successors.collect::<Result<_, _>>()?,
            overlap_until: record.overlap_until_ms.map(Timestamp::from_millis),
        })
    }
}

#[cfg(test)]
mod tests;
