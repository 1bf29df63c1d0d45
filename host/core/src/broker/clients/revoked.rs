//! What clients leave behind whose certificate was switched off.
//!
//! In: the registry's changes, and at the start what it says of the sessions that there are. Out: no
//! will of such a client is published any more. When the certificate is REVOKED, offered to another
//! account or deleted, its session goes too; while it is INACTIVE the session waits as for any client
//! that is away. Connections end because their permissions changed, see `gnomon-gateway`.
//!
//! A verdict is asked wherever a connection ends or a will is due, and held against the sessions
//! without connection every second, for [`VERDICT_KEPT`]: by then all connections have ended.

use super::{Clients, Entries, Entry};
use crate::ids::{CertificateId, Principal};
use crate::registry::{
    Certificate, CertificateStatus, Change, Registry, RegistryError, RegistryObserver,
};
use crate::time::Now;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a verdict is kept; a connection needs a moment to end.
const VERDICT_KEPT: Duration = Duration::from_secs(60);

/// What becomes of what a client left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its will goes.
    Paused,
    /// Its session too.
    Ended,
}

/// The verdicts of late, and until when they are kept: known once they were first carried out.
#[derive(Default)]
pub(super) struct Verdicts(Mutex<HashMap<Principal, (Verdict, Option<Instant>)>>);

impl Verdict {
    /// `None`: it is ACTIVE.
    fn of(certificate: Option<&Certificate>) -> Option<Self> {
        match certificate.map(|certificate| certificate.status) {
            Some(CertificateStatus::Active) => None,
            Some(CertificateStatus::Inactive | CertificateStatus::PendingActivation) => {
                Some(Self::Paused)
            }
            Some(CertificateStatus::Revoked | CertificateStatus::PendingTransfer) | None => {
                Some(Self::Ended)
            }
        }
    }
}

impl Verdicts {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Principal, (Verdict, Option<Instant>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, principal: Principal, verdict: Option<Verdict>) {
        match verdict {
            Some(verdict) => drop(self.lock().insert(principal, (verdict, None))),
            None => drop(self.lock().remove(&principal)),
        }
    }

    pub(super) fn of(&self, principal: Option<&Principal>) -> Option<Verdict> {
        principal.and_then(|principal| self.lock().get(principal).map(|(verdict, _)| *verdict))
    }
}

impl RegistryObserver for Clients {
    fn changed(&self, change: &Change) {
        let Change::Certificate(diff) = change else { return };
        let principal = Principal::new(diff.latest().id.as_str());
        // Before it was registered it had left nothing.
        let verdict = diff.before().and_then(|_| Verdict::of(diff.after()));
        self.0.verdicts.set(principal, verdict);
    }
}

impl Clients {
    /// Heeds what happens to certificates from now on, and what happened to them while nobody did: a
    /// host that is killed may not have carried it out. To be called once, behind
    /// [`Clients::restore`] and before the first [`Clients::expire`].
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub async fn heed(&self, registry: &Registry, now: Now) -> Result<(), RegistryError> {
        registry.observe(Arc::new(self.clone()));
        for principal in self.parked_principals() {
            let Some(id) = certificate_of(&principal) else { continue };
            let verdict = match registry.describe_certificate(&id).await {
                Ok(certificate) => Verdict::of(Some(&certificate)),
                Err(RegistryError::ResourceNotFound(_)) => Verdict::of(None),
                Err(error) => return Err(error),
            };
            if verdict.is_some() {
                self.0.verdicts.set(principal, verdict);
            }
        }
        self.carry_out(&mut self.entries(), now);
        Ok(())
    }

    fn parked_principals(&self) -> HashSet<Principal> {
        let entries = self.entries();
        let principals = entries.by_id.iter().filter_map(|entry| match entry {
            Entry::Parked(parked) => parked.record.principal.clone(),
            _ => None,
        });
        principals.collect()
    }

    /// Holds the verdicts against the sessions without connection.
    pub(super) fn carry_out(&self, entries: &mut Entries, now: Now) {
        let condemned: Vec<_> = {
            let mut verdicts = self.0.verdicts.lock();
            if verdicts.is_empty() {
                return;
            }
            verdicts.retain(|_, (_, until)| {
                *until.get_or_insert(now.instant + VERDICT_KEPT) > now.instant
            });
            let found = entries.by_id.iter().filter_map(|entry| {
                let Entry::Parked(parked) = entry else { return None };
                let principal = parked.record.principal.as_ref()?;
                let (verdict, _) = verdicts.get(principal)?;
                let has_to_go = *verdict == Verdict::Ended || parked.record.will.is_some();
                has_to_go.then(|| (entry.id().clone(), *verdict))
            });
            found.collect()
        };
        for (client_id, verdict) in condemned {
            let Some(Entry::Parked(mut parked)) = entries.remove(&client_id) else { continue };
            tracing::info!(%client_id, ?verdict, "left behind with a certificate that is off");
            parked.record.will = None;
            parked.will_at = None;
            if verdict == Verdict::Ended {
                self.discard(entries, &client_id, *parked, now);
                continue;
            }
            let document = parked.record.to_bytes();
            self.write(vec![(super::record::session_key(&client_id), Some(document))], None);
            entries.insert(Entry::Parked(parked));
        }
    }
}

/// The certificate that a principal is, if it is one.
fn certificate_of(principal: &Principal) -> Option<CertificateId> {
    let text = Some(principal.as_str()).filter(|text| text.len() == 64);
    text.and_then(|text| CertificateId::parse(text).ok())
}

#[cfg(test)]
mod tests;
