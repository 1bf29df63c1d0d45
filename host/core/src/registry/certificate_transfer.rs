//! Certificates that are offered to another account.
//!
//! A host is one account. What it offers to another waits until it is cancelled; what somebody offers
//! to the host's own account is taken or refused here.
//!
//! Source: AWS IoT API reference, `TransferCertificate` and the operations that answer it.

use super::certificate::{Certificate, CertificateStatus};
use super::record;
use super::{Change, Page, PageRequest, Registry, RegistryError};
use crate::ids::CertificateId;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest message and reason in characters (`Message`).
const MESSAGE_CHARS_MAX: usize = 128;

/// What is known of a transfer (`TransferData`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The account that is to take the certificate: twelve digits.
    pub account: String,
    /// For whoever is to take it.
    pub message: Option<String>,
    /// When it was offered.
    pub offered_at: Timestamp,
    /// When it was taken.
    pub accepted_at: Option<Timestamp>,
    /// When it was refused.
    pub rejected_at: Option<Timestamp>,
    /// Why.
    pub reject_reason: Option<String>,
}

impl Registry {
    /// TransferCertificate: offers an INACTIVE certificate, to which nothing is attached.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::CertificateState`] when it is not
    /// INACTIVE; [`RegistryError::TransferConflict`] while something is attached;
    /// [`RegistryError::InvalidRequest`] when the account is not twelve digits.
    pub async fn transfer_certificate(
        &self,
        id: &CertificateId,
        account: &str,
        message: Option<String>,
    ) -> Result<(), RegistryError> {
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(RegistryError::InvalidRequest(
                "targetAwsAccount must be twelve digits".to_owned(),
            ));
        }
        check_message("transferMessage", message.as_deref())?;
        let now = self.0.ports.clock.wall();
        let offer = |certificate: &mut Certificate| {
            if certificate.status != CertificateStatus::Inactive {
                return Err(RegistryError::CertificateState(format!(
                    "certificate {id} is {}; only an INACTIVE one can be transferred",
                    certificate.status
                )));
            }
            if !certificate.policies.is_empty() || !certificate.things.is_empty() {
                return Err(RegistryError::TransferConflict(format!(
                    "policies or things are attached to certificate {id}; detach them first"
                )));
            }
            certificate.transfer = Some(Transfer {
                account: account.to_owned(),
                message: message.clone(),
                offered_at: now,
                accepted_at: None,
                rejected_at: None,
                reject_reason: None,
            });
            Ok(certificate.switch(CertificateStatus::PendingTransfer, now))
        };
        self.change_transfer(id, offer).await
    }

    /// AcceptCertificateTransfer: takes a certificate that is offered to this account.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`] when none is offered to it;
    /// [`RegistryError::TransferAlreadyCompleted`].
    pub async fn accept_certificate_transfer(
        &self,
        id: &CertificateId,
        set_as_active: bool,
    ) -> Result<(), RegistryError> {
        let status =
            if set_as_active { CertificateStatus::Active } else { CertificateStatus::Inactive };
        let now = self.0.ports.clock.wall();
        let accept = |certificate: &mut Certificate| {
            self.offered_here(certificate)?.accepted_at = Some(now);
            Ok(certificate.switch(status, now))
        };
        self.change_transfer(id, accept).await
    }

    /// RejectCertificateTransfer: refuses a certificate that is offered to this account. It is
    /// INACTIVE again.
    ///
    /// # Errors
    /// As [`Registry::accept_certificate_transfer`].
    pub async fn reject_certificate_transfer(
        &self,
        id: &CertificateId,
        reason: Option<String>,
    ) -> Result<(), RegistryError> {
        check_message("rejectReason", reason.as_deref())?;
        let now = self.0.ports.clock.wall();
        let reject = |certificate: &mut Certificate| {
            let transfer = self.offered_here(certificate)?;
            transfer.rejected_at = Some(now);
            transfer.reject_reason.clone_from(&reason);
            Ok(certificate.switch(CertificateStatus::Inactive, now))
        };
        self.change_transfer(id, reject).await
    }

    /// CancelCertificateTransfer: takes an offer back. The certificate is INACTIVE again.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::TransferAlreadyCompleted`] when it is
    /// not offered.
    pub async fn cancel_certificate_transfer(
        &self,
        id: &CertificateId,
    ) -> Result<(), RegistryError> {
        let now = self.0.ports.clock.wall();
        let cancel = |certificate: &mut Certificate| {
            pending(certificate)?;
            certificate.transfer = None;
            Ok(certificate.switch(CertificateStatus::Inactive, now))
        };
        self.change_transfer(id, cancel).await
    }

    /// ListOutgoingCertificates: those that are offered, ordered by id.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_outgoing_certificates(
        &self,
        page: PageRequest<'_>,
    ) -> Result<Page<Certificate>, RegistryError> {
        let offered =
            |certificate: &Certificate| certificate.status == CertificateStatus::PendingTransfer;
        self.list(page, offered).await
    }

    async fn change_transfer(
        &self,
        id: &CertificateId,
        change: impl FnMut(&mut Certificate) -> Result<bool, RegistryError>,
    ) -> Result<(), RegistryError> {
        let key = record::key::<Certificate>(id.as_str());
        let updated = self.update_telling(&key, change, Change::Certificate).await;
        self.certificate_changed(id);
        let certificate = updated?;
        tracing::info!(principal = %id, status = %certificate.status, "certificate has a new status");
        Ok(())
    }

    fn offered_here<'a>(
        &self,
        certificate: &'a mut Certificate,
    ) -> Result<&'a mut Transfer, RegistryError> {
        let id = certificate.id.clone();
        let transfer = pending(certificate)?;
        if *transfer.account != *self.account().id {
            return Err(RegistryError::ResourceNotFound(format!(
                "certificate {id} is offered to account {}, not to this one",
                transfer.account
            )));
        }
        Ok(transfer)
    }
}

fn pending(certificate: &mut Certificate) -> Result<&mut Transfer, RegistryError> {
    let (id, status) = (&certificate.id, certificate.status);
    match &mut certificate.transfer {
        Some(transfer) if status == CertificateStatus::PendingTransfer => Ok(transfer),
        _ => Err(RegistryError::TransferAlreadyCompleted(format!(
            "certificate {id} is {status} and not being transferred"
        ))),
    }
}

/// Source: the shape `Message`, which takes any text.
fn check_message(member: &str, text: Option<&str>) -> Result<(), RegistryError> {
    match text {
        Some(text) if text.chars().count() > MESSAGE_CHARS_MAX => {
            Err(RegistryError::InvalidRequest(format!(
                "{member} has more than {MESSAGE_CHARS_MAX} characters"
            )))
        }
        _ => Ok(()),
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct TransferRecord {
    account: String,
    message: Option<String>,
    offered_at_ms: u64,
    accepted_at_ms: Option<u64>,
    rejected_at_ms: Option<u64>,
    reject_reason: Option<String>,
}

impl Transfer {
    pub(super) fn to_record(&self) -> TransferRecord {
        TransferRecord {
            account: self.account.clone(),
            message: self.message.clone(),
            offered_at_ms: self.offered_at.as_millis(),
            accepted_at_ms: self.accepted_at.map(Timestamp::as_millis),
            rejected_at_ms: self.rejected_at.map(Timestamp::as_millis),
            reject_reason: self.reject_reason.clone(),
        }
    }

    pub(super) fn from_record(record: TransferRecord) -> Self {
        Self {
            account: record.account,
            message: record.message,
            offered_at: Timestamp::from_millis(record.offered_at_ms),
            accepted_at: record.accepted_at_ms.map(Timestamp::from_millis),
            rejected_at: record.rejected_at_ms.map(Timestamp::from_millis),
            reject_reason: record.reject_reason,
        }
    }
}
