//! Certificates near their end: found in the order of their ends, warned of once 30, 7 and 1 days
//! ahead.
//!
//! `certificate-expiry/{end}/{id}` leads to a certificate, `ca-certificate-expiry/{end}/{id}` to a CA
//! of others; the end is in milliseconds. Such a key is written before its record and removed after
//! it. Its value is the version of its encoding, then the days of the last warning. Of the host's own
//! certificates, which the [`super::Issuer`] tells, `own-certificate-expiry/{end}/{id}` has those that
//! were warned of. Registrations from before the index are put into it once.

use super::ca_certificate::CaCertificate;
use super::certificate::{Certificate, CertificateStatus};
use super::record::{self, Stored};
use super::{Page, PageRequest, Registry, RegistryError, SCAN_RECORDS};
use crate::ids::{CertificateId, ThingName};
use crate::storage::{Expect, Key, Record, StoreError};
use crate::time::Timestamp;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Days before the end of a certificate at which the operator is warned.
pub const WARNING_DAYS: [u8; 3] = [30, 7, 1];

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Version of the values.
const VERSION: u8 = 1;

const OWN: &str = "own-certificate-expiry";

/// What a certificate that ends is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiringKind {
    /// Of a device.
    Device,
    /// Of a registered CA of others.
    Ca,
    /// Of the host's own CA.
    HostCa,
    /// The one that the host presents to clients.
    Server,
}

impl ExpiringKind {
    /// In events and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "DEVICE",
            Self::Ca => "CA",
            Self::HostCa => "HOST_CA",
            Self::Server => "SERVER",
        }
    }
}

/// A certificate and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiring {
    /// SHA-256 of its DER form.
    pub id: CertificateId,
    /// What it is for.
    pub kind: ExpiringKind,
    /// Last moment of its validity.
    pub not_after: Timestamp,
    /// The things that it is a principal of.
    pub things: BTreeSet<ThingName>,
}

impl Expiring {
    /// One without things.
    pub fn new(id: CertificateId, kind: ExpiringKind, not_after: Timestamp) -> Self {
        Self { id, kind, not_after, things: BTreeSet::new() }
    }

    /// Days that are left, a begun one counted.
    pub fn days_left(&self, now: Timestamp) -> u64 {
        let left = self.not_after.as_millis().saturating_sub(now.as_millis());
        left.div_ceil(24 * 3_600 * 1_000)
    }

    /// The warning that is due, unless it or a later one was given.
    fn due(&self, now: Timestamp, warned: Option<u8>) -> Option<u8> {
        let left = self.days_left(now);
        let due = WARNING_DAYS.into_iter().filter(|days| left <= u64::from(*days)).min();
        due.filter(|days| warned.is_none_or(|warned| *days < warned))
    }
}

/// What the index leads to.
pub(super) trait Expires: Stored + Send + Sync {
    /// First part of its index keys.
    const INDEX: &str;

    fn expiring(&self) -> Expiring;

    /// Whether anybody would miss it.
    fn is_active(&self) -> bool;
}

impl Expires for Certificate {
    const INDEX: &str = "certificate-expiry";

    fn expiring(&self) -> Expiring {
        let things = self.things.clone();
        Expiring { things, ..Expiring::new(self.id.clone(), ExpiringKind::Device, self.not_after) }
    }

    fn is_active(&self) -> bool {
        self.status == CertificateStatus::Active
    }
}

impl Expires for CaCertificate {
    const INDEX: &str = "ca-certificate-expiry";

    fn expiring(&self) -> Expiring {
        Expiring::new(self.id.clone(), ExpiringKind::Ca, self.not_after)
    }

    fn is_active(&self) -> bool {
        self.is_active
    }
}

/// An entry of the index and what it leads to.
type Entry = (Record, Expiring);

impl Registry {
    /// Warns of every certificate that is in use and ends within 30 days, once per step of
    /// [`WARNING_DAYS`]. How many end so soon is returned. Call it now and then.
    ///
    /// A warning is remembered after it was told: a host that is killed between repeats it.
    ///
    /// # Errors
    /// When the store fails; what is left is told next time.
    pub async fn warn_of_expiry(
        &self,
        tell: impl Fn(&Expiring) + Send + Sync,
    ) -> Result<u64, RegistryError> {
        self.complete_expiry_index().await?;
        Ok(self.warn_of::<Certificate>(&tell).await?
            + self.warn_of::<CaCertificate>(&tell).await?
            + self.warn_of_own(&tell).await?)
    }

    /// Certificates in use that end within so many days, in the order of their ends. The host's own
    /// and those of CAs come with the first page, whatever its size.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_expiring(
        &self,
        days: u32,
        page: PageRequest<'_>,
    ) -> Result<Page<Expiring>, RegistryError> {
        self.complete_expiry_index().await?;
        let until = self.now().plus(DAY * days);
        let mut items = Vec::new();
        if page.after.is_none() {
            let own = self.issue(|issuer| Ok(issuer.own_certificates())).await?;
            items.extend(own.into_iter().filter(|own| own.not_after <= until));
            let mut after = None;
            loop {
                let (entries, next) = self.ending::<CaCertificate>(after, until).await?;
                items.extend(entries.into_iter().map(|(_, expiring)| expiring));
                after = next;
                if after.is_none() {
                    break;
                }
            }
        }
        let most = items.len().saturating_add(page.limit);
        let prefix = Key::prefix(Certificate::INDEX);
        let mut after =
            page.after.map(|after| Key::from_text(&format!("{}{after}", prefix.as_str())));
        let mut last = None;
        loop {
            let (entries, next) = self.ending::<Certificate>(after, until).await?;
            for (entry, expiring) in entries {
                if items.len() == most {
                    return Ok(Page { items, next: last });
                }
                last = entry.key.as_str().strip_prefix(prefix.as_str()).map(str::to_owned);
                items.push(expiring);
            }
            after = next;
            if after.is_none() {
                return Ok(Page { items, next: None });
            }
        }
    }

    /// Before the record is written.
    pub(super) async fn put_expiry<T: Expires>(&self, value: &T) -> Result<(), RegistryError> {
        self.put_index(&key_of(T::INDEX, &value.expiring())).await
    }

    /// Before the record is removed; what to give [`Registry::remove_index`] afterwards.
    pub(super) async fn expiry_entry<T: Expires>(
        &self,
        value: &T,
    ) -> Result<Option<Record>, RegistryError> {
        Ok(self.0.ports.storage.get(&key_of(T::INDEX, &value.expiring())).await?)
    }

    async fn warn_of<T: Expires>(
        &self,
        tell: &(impl Fn(&Expiring) + Send + Sync),
    ) -> Result<u64, RegistryError> {
        let until = self.now().plus(DAY * WARNING_DAYS[0].into());
        let (mut count, mut after) = (0, None);
        loop {
            let (entries, next) = self.ending::<T>(after, until).await?;
            for (entry, expiring) in entries {
                count += 1;
                let warned = entry.value.get(1).copied();
                if let Some(days) = expiring.due(self.now(), warned) {
                    tell(&expiring);
                    self.remember(&entry.key, days, Expect::Revision(entry.revision)).await?;
                }
            }
            after = next;
            if after.is_none() {
                return Ok(count);
            }
        }
    }

    async fn warn_of_own(
        &self,
        tell: &(impl Fn(&Expiring) + Send + Sync),
    ) -> Result<u64, RegistryError> {
        let own = self.issue(|issuer| Ok(issuer.own_certificates())).await?;
        let mut count = 0;
        for expiring in &own {
            let key = key_of(OWN, expiring);
            let entry = self.0.ports.storage.get(&key).await?;
            let warned = entry.and_then(|entry| entry.value.get(1).copied());
            count += u64::from(expiring.days_left(self.now()) <= WARNING_DAYS[0].into());
            if let Some(days) = expiring.due(self.now(), warned) {
                tell(expiring);
                self.remember(&key, days, Expect::Any).await?;
            }
        }
        // Of those that were renewed since.
        let own: BTreeSet<_> = own.iter().map(|expiring| key_of(OWN, expiring)).collect();
        let known = self.0.ports.storage.scan(&Key::prefix(OWN), None, SCAN_RECORDS).await?;
        for entry in known.into_iter().filter(|entry| !own.contains(&entry.key)) {
            self.forget_index(&entry.key).await?;
        }
        Ok(count)
    }

    async fn remember(&self, key: &Key, days: u8, expect: Expect) -> Result<(), RegistryError> {
        let value = Bytes::copy_from_slice(&[VERSION, days]);
        match self.0.ports.storage.put(key, value, expect).await {
            // Removed or registered again meanwhile.
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Some of the entries between now, or `after`, and `until` that lead to something in use; and
    /// behind which key there are more.
    async fn ending<T: Expires>(
        &self,
        after: Option<Key>,
        until: Timestamp,
    ) -> Result<(Vec<Entry>, Option<Key>), RegistryError> {
        // What has ended is not looked at any more.
        let after = after.unwrap_or_else(|| Key::new(T::INDEX, &[&padded(self.now())]));
        let prefix = Key::prefix(T::INDEX);
        let entries = self.0.ports.storage.scan(&prefix, Some(&after), SCAN_RECORDS).await?;
        let last = (entries.len() == SCAN_RECORDS).then(|| entries.last()).flatten();
        let next = last.filter(|last| end_of(&last.key) <= until).map(|last| last.key.clone());
        let mut found = Vec::new();
        for entry in entries {
            if end_of(&entry.key) > until {
                break;
            }
            let key = record::key::<T>(record::name_of(&entry.key));
            if let Some((value, _)) = self.read::<T>(&key).await?
                && value.is_active()
            {
                found.push((entry, value.expiring()));
            }
        }
        Ok((found, next))
    }

    /// Puts into the index what was registered before there was one.
    async fn complete_expiry_index(&self) -> Result<(), RegistryError> {
        if self.0.expiry_index_is_complete.load(Ordering::Acquire) {
            return Ok(());
        }
        let marker = Key::new("certificate-expiry-index", &["complete"]);
        if self.0.ports.storage.get(&marker).await?.is_none() {
            self.index_all::<Certificate>().await?;
            self.index_all::<CaCertificate>().await?;
            self.put_index(&marker).await?;
        }
        self.0.expiry_index_is_complete.store(true, Ordering::Release);
        Ok(())
    }

    async fn index_all<T: Expires>(&self) -> Result<(), RegistryError> {
        let prefix = Key::prefix(T::KIND);
        let mut after = None;
        loop {
            let records = self.0.ports.storage.scan(&prefix, after.as_ref(), SCAN_RECORDS).await?;
            for record in &records {
                let key = key_of(T::INDEX, &record::decode::<T>(record)?.expiring());
                if self.0.ports.storage.get(&key).await?.is_none() {
                    self.put_index(&key).await?;
                }
            }
            match records.last() {
                Some(last) if records.len() == SCAN_RECORDS => after = Some(last.key.clone()),
                _ => return Ok(()),
            }
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.ports.clock.wall()
    }
}

fn key_of(index: &str, expiring: &Expiring) -> Key {
    Key::new(index, &[&padded(expiring.not_after), expiring.id.as_str()])
}

/// As wide as any, so that keys are in the order of time.
pub(super) fn padded(at: Timestamp) -> String {
    format!("{:020}", at.as_millis())
}

/// The time in a key.
pub(super) fn end_of(key: &Key) -> Timestamp {
    let text = key.as_str().split('/').nth(1);
    Timestamp::from_millis(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
