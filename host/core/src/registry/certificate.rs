//! Certificates: a pinned copy of each device's X.509 certificate, its status, its attachments.
//!
//! Devices are recognised by the SHA-256 of the whole certificate, not by who signed it, so a
//! certificate of any issuer can be registered, and a stolen CA key lets nobody in whose
//! certificates nobody registers: see `ca_certificate`.

use super::certificate_transfer::{Transfer, TransferRecord};
use super::claim::Ownership;
use super::record::{self, Stored};
use super::renewal::{Lineage, LineageRecord};
use super::x509::{self, Purpose, X509};
use super::{Change, Diff, IssueError, Issued, Page, PageRequest, Registry, RegistryError};
use crate::ids::{CertificateId, PolicyName, ThingName};
use crate::random;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Status of a certificate (`CertificateStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CertificateStatus {
    /// Its owner may connect.
    Active,
    /// Its owner may not connect, for now.
    Inactive,
    /// Its owner may not connect any more.
    Revoked,
    /// Its owner may not connect: it came by itself (just-in-time), or is to be provisioned.
    PendingActivation,
    /// Its owner may not connect: another account is to take it.
    PendingTransfer,
}

impl CertificateStatus {
    /// The status that a caller may give a certificate.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`] names those that exist.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        match text {
            "ACTIVE" => Ok(Self::Active),
            // The other is the same and deprecated.
            "INACTIVE" | "REGISTER_INACTIVE" => Ok(Self::Inactive),
            "REVOKED" => Ok(Self::Revoked),
            _ => Err(RegistryError::InvalidRequest(
                "a certificate can be made ACTIVE, INACTIVE or REVOKED, nothing else".to_owned(),
            )),
        }
    }

    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
            Self::Revoked => "REVOKED",
            Self::PendingActivation => "PENDING_ACTIVATION",
            Self::PendingTransfer => "PENDING_TRANSFER",
        }
    }
}

impl fmt::Display for CertificateStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a certificate came to be registered (`CertificateMode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CertificateMode {
    /// Issued here, or by a CA that is registered.
    Default,
    /// Registered without its CA.
    SniOnly,
}

impl CertificateMode {
    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "DEFAULT",
            Self::SniOnly => "SNI_ONLY",
        }
    }
}

/// A registered certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of its DER form.
    pub id: CertificateId,
    /// The certificate alone, without a chain, as it was given.
    pub pem: String,
    /// Whether its owner may connect.
    pub status: CertificateStatus,
    /// How it came here.
    pub mode: CertificateMode,
    /// The registered CA that signed it.
    pub ca: Option<CertificateId>,
    /// That it waits to be provisioned by whoever has a token.
    pub(super) ownership: Option<Ownership>,
    /// That it is, or was, offered to another account.
    pub transfer: Option<Transfer>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When its status last changed.
    pub modified_at: Timestamp,
    /// 1 at first, then one more with every change of the status.
    pub customer_version: u32,
    /// Start of its validity.
    pub not_before: Timestamp,
    /// Last moment of its validity.
    pub not_after: Timestamp,
    /// Differs between registrations of the same certificate.
    pub generation_id: String,
    /// The policies attached to it.
    pub policies: BTreeSet<PolicyName>,
    /// The things that it is a principal of.
    pub things: BTreeSet<ThingName>,
    /// It has one thing, and can be attached to no other.
    pub is_exclusive: bool,
    /// What it was renewed from, or to. Boxed, because few have any.
    pub lineage: Box<Lineage>,
}

impl Certificate {
    /// Its DER form; empty when the record is damaged.
    pub fn der(&self) -> Vec<u8> {
        x509::der_of(&self.pem)
    }

    /// Gives it another status; false when it has it.
    pub(super) fn switch(&mut self, status: CertificateStatus, now: Timestamp) -> bool {
        let changes = self.status != status;
        if changes {
            self.status = status;
            self.modified_at = now;
            self.customer_version = self.customer_version.saturating_add(1);
        }
        changes
    }
}

/// A fresh key pair and the registered certificate for it. The private key is nowhere else.
pub struct IssuedKeys {
    /// What was registered.
    pub certificate: Certificate,
    /// SubjectPublicKeyInfo.
    pub public_key_pem: String,
    /// The secret.
    pub private_key_pem: String,
}

impl Registry {
    /// CreateKeysAndCertificate.
    ///
    /// # Errors
    /// [`RegistryError::Issuer`], or when the store fails.
    pub async fn create_keys_and_certificate(
        &self,
        set_as_active: bool,
    ) -> Result<IssuedKeys, RegistryError> {
        let Issued { certificate_pem, public_key_pem, private_key_pem } =
            self.issue(super::Issuer::issue).await?;
        let certificate = self.register_issued(&certificate_pem, set_as_active).await?;
        Ok(IssuedKeys { certificate, public_key_pem, private_key_pem })
    }

    /// CreateCertificateFromCsr.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`] when the request is none; [`RegistryError::Issuer`].
    pub async fn create_certificate_from_csr(
        &self,
        request_pem: &str,
        set_as_active: bool,
    ) -> Result<Certificate, RegistryError> {
        let request_pem = request_pem.to_owned();
        let certificate_pem = self.issue(move |issuer| issuer.sign(&request_pem)).await?;
        self.register_issued(&certificate_pem, set_as_active).await
    }

    /// RegisterCertificateWithoutCA.
    ///
    /// # Errors
    /// [`RegistryError::CertificateValidation`] when it is none,
    /// [`RegistryError::ResourceAlreadyExists`].
    pub async fn register_certificate_without_ca(
        &self,
        certificate_pem: &str,
        status: CertificateStatus,
    ) -> Result<Certificate, RegistryError> {
        let now = self.0.ports.clock.wall();
        let x509 = X509::parse("certificatePem", certificate_pem, Purpose::Device, now)?;
        self.register(x509, status, CertificateMode::SniOnly, None).await
    }

    /// RegisterCertificate: one that a registered CA signed. `ca_pem` says which, when several have
    /// its name.
    ///
    /// # Errors
    /// [`RegistryError::CertificateValidation`] when it is none or no registered CA signed it,
    /// [`RegistryError::CertificateState`] when that CA is INACTIVE,
    /// [`RegistryError::ResourceAlreadyExists`].
    pub async fn register_certificate(
        &self,
        certificate_pem: &str,
        ca_pem: Option<&str>,
        status: CertificateStatus,
    ) -> Result<Certificate, RegistryError> {
        let now = self.0.ports.clock.wall();
        let x509 = X509::parse("certificatePem", certificate_pem, Purpose::Device, now)?;
        let ca = self.ca_of(&x509, ca_pem).await?;
        self.register(x509, status, CertificateMode::Default, Some(ca)).await
    }

    /// DescribeCertificate.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn describe_certificate(
        &self,
        id: &CertificateId,
    ) -> Result<Certificate, RegistryError> {
        Ok(self.read_existing(&record::key::<Certificate>(id.as_str())).await?.0)
    }

    /// UpdateCertificate: another status.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::CertificateState`] while it is
    /// offered to another account.
    pub async fn update_certificate(
        &self,
        id: &CertificateId,
        status: CertificateStatus,
    ) -> Result<(), RegistryError> {
        let now = self.0.ports.clock.wall();
        let key = record::key::<Certificate>(id.as_str());
        let change = |certificate: &mut Certificate| {
            if certificate.status == CertificateStatus::PendingTransfer {
                return Err(RegistryError::CertificateState(format!(
                    "certificate {id} is PENDING_TRANSFER; cancel its transfer first"
                )));
            }
            Ok(certificate.switch(status, now))
        };
        let updated = self.update_telling(&key, change, Change::Certificate).await;
        // Whatever came back: a write whose answer was lost may have happened.
        self.certificate_changed(id);
        let certificate = updated?;
        tracing::info!(principal = %id, %status, "certificate has a new status");
        let successors = &certificate.lineage.successors;
        if status == CertificateStatus::Revoked && !successors.is_empty() {
            // Whoever stole the key may have renewed it.
            tracing::warn!(principal = %id, ?successors, "revoked, but not what it was renewed to");
        }
        Ok(())
    }

    /// DeleteCertificate. With `force` policies may still be attached; things never.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::CertificateState`] when it is active;
    /// [`RegistryError::DeleteConflict`] while something is attached.
    pub async fn delete_certificate(
        &self,
        id: &CertificateId,
        force: bool,
    ) -> Result<(), RegistryError> {
        let key = record::key::<Certificate>(id.as_str());
        for _ in 0..super::ATTEMPTS_MAX {
            let (certificate, revision) = self.read_existing::<Certificate>(&key).await?;
            if certificate.status == CertificateStatus::Active {
                return Err(RegistryError::CertificateState(format!(
                    "certificate {id} is ACTIVE; make it INACTIVE or REVOKED first"
                )));
            }
            if let Some(thing) = certificate.things.first() {
                return Err(RegistryError::DeleteConflict(format!(
                    "certificate {id} is attached to thing {thing}; detach it first"
                )));
            }
            if let Some(policy) = certificate.policies.first()
                && !force
            {
                return Err(RegistryError::DeleteConflict(format!(
                    "policy {policy} is attached to certificate {id}; detach it first"
                )));
            }
            let ca = certificate.ca.clone();
            let expiry = self.expiry_entry(&certificate).await?;
            let change = self.told(|| Change::Certificate(Diff::Deleted(certificate)));
            if self.remove(&key, revision, change).await? {
                tracing::info!(principal = %id, "certificate deleted");
                self.certificate_changed(id);
                self.remove_index(expiry).await?;
                if let Some(ca) = &ca {
                    self.forget_signed(ca, id).await?;
                }
                return Ok(());
            }
        }
        Err(RegistryError::Busy)
    }

    /// ListCertificates, ordered by id.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_certificates(
        &self,
        page: PageRequest<'_>,
    ) -> Result<Page<Certificate>, RegistryError> {
        self.list(page, |_| true).await
    }

    /// `arn:aws:iot:<region>:<account>:cert/<id>`.
    pub fn certificate_arn(&self, id: &CertificateId) -> String {
        self.account().arn(&format!("cert/{id}"))
    }

    /// The certificate that an ARN names, for attachments.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`] when it is no ARN of a certificate of this account.
    pub fn parse_certificate_arn(&self, arn: &str) -> Result<CertificateId, RegistryError> {
        let id = self.account().resource(arn).and_then(|rest| rest.strip_prefix("cert/"));
        let id = id.filter(|id| id.len() == 64).and_then(|id| CertificateId::parse(id).ok());
        id.ok_or_else(|| {
            RegistryError::InvalidRequest(format!(
                "{arn:?} is not the ARN of a certificate of this host; it reads {}",
                self.account().arn("cert/<64 hexadecimal digits>")
            ))
        })
    }

    /// What registering this certificate would say; nothing is registered. `ca_pem` as for
    /// [`Registry::register_certificate`]; without it no CA is asked for.
    ///
    /// # Errors
    /// As for the two operations, but for a certificate that is registered already.
    pub(crate) async fn check_certificate(
        &self,
        certificate_pem: &str,
        ca_pem: Option<&str>,
    ) -> Result<(), RegistryError> {
        let now = self.0.ports.clock.wall();
        let x509 = X509::parse("certificatePem", certificate_pem, Purpose::Device, now)?;
        if ca_pem.is_some() {
            self.ca_of(&x509, ca_pem).await?;
        }
        Ok(())
    }

    /// What CreateCertificateFromCsr would say; the certificate is thrown away.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn check_certificate_request(
        &self,
        request_pem: &str,
    ) -> Result<(), RegistryError> {
        let request_pem = request_pem.to_owned();
        self.issue(move |issuer| issuer.sign(&request_pem)).await?;
        Ok(())
    }

    /// A certificate of the thing for the key of this certificate signing request, registered at
    /// `since` or later.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn certificate_signed_since(
        &self,
        since: Timestamp,
        thing: &ThingName,
        request_pem: &str,
    ) -> Result<Option<Certificate>, RegistryError> {
        let ids = match self.list_thing_principals(thing, super::index::ALL).await {
            Ok(page) => page.items,
            Err(RegistryError::ResourceNotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        for id in ids {
            let certificate = self.describe_certificate(&id).await?;
            if certificate.created_at >= since
                && super::x509::has_key_of(&certificate.der(), request_pem)
            {
                return Ok(Some(certificate));
            }
        }
        Ok(None)
    }

    pub(super) async fn issue<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn super::Issuer) -> Result<T, IssueError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let _turn = self.0.issuing.acquire().await.expect("the semaphore is never closed");
        let issuer = self.0.ports.issuer.clone();
        let done = tokio::task::spawn_blocking(move || work(&*issuer)).await;
        match done {
            Ok(Ok(issued)) => Ok(issued),
            Ok(Err(IssueError::Request(problem))) => Err(RegistryError::InvalidRequest(problem)),
            Ok(Err(IssueError::Failed(problem))) => Err(RegistryError::Issuer(problem)),
            Err(error) => Err(RegistryError::Issuer(error.to_string())),
        }
    }

    async fn register_issued(
        &self,
        pem: &str,
        set_as_active: bool,
    ) -> Result<Certificate, RegistryError> {
        let status =
            if set_as_active { CertificateStatus::Active } else { CertificateStatus::Inactive };
        let now = self.0.ports.clock.wall();
        let x509 = X509::parse("certificatePem", pem, Purpose::Device, now)?;
        self.register(x509, status, CertificateMode::Default, None).await
    }

    pub(super) async fn register(
        &self,
        x509: X509,
        status: CertificateStatus,
        mode: CertificateMode,
        ca: Option<CertificateId>,
    ) -> Result<Certificate, RegistryError> {
        let certificate = Certificate { ca, ..self.certificate(x509, status, mode) };
        if let Some(ca) = &certificate.ca {
            self.put_signed(ca, &certificate.id).await?;
        }
        self.add_certificate(&certificate).await?;
        Ok(certificate)
    }

    /// A certificate as it is when it is registered.
    pub(super) fn certificate(
        &self,
        x509: X509,
        status: CertificateStatus,
        mode: CertificateMode,
    ) -> Certificate {
        let X509 { id, pem, not_before, not_after, .. } = x509;
        let now = self.0.ports.clock.wall();
        Certificate {
            id,
            pem,
            status,
            mode,
            ca: None,
            ownership: None,
            transfer: None,
            created_at: now,
            modified_at: now,
            customer_version: 1,
            not_before,
            not_after,
            generation_id: random::uuid(&*self.0.ports.random),
            policies: BTreeSet::new(),
            things: BTreeSet::new(),
            is_exclusive: false,
            lineage: Box::default(),
        }
    }

    pub(super) async fn add_certificate(
        &self,
        certificate: &Certificate,
    ) -> Result<(), RegistryError> {
        let Certificate { id, status, .. } = certificate;
        let key = record::key::<Certificate>(id.as_str());
        self.put_expiry(certificate).await?;
        let change = self.told(|| Change::Certificate(Diff::Created(certificate.clone())));
        if !self.write_telling(&key, certificate, None, change).await? {
            return Err(RegistryError::ResourceAlreadyExists {
                message: format!("certificate {id} is registered"),
                arn: self.certificate_arn(id),
                id: id.as_str().to_owned(),
            });
        }
        tracing::info!(principal = %id, %status, "certificate registered");
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct CertificateRecord {
    pem: String,
    status: CertificateStatus,
    mode: CertificateMode,
    #[serde(default)]
    ca: Option<String>,
    #[serde(default)]
    ownership: Option<Ownership>,
    #[serde(default)]
    transfer: Option<TransferRecord>,
    created_at_ms: u64,
    modified_at_ms: u64,
    customer_version: u32,
    not_before_ms: u64,
    not_after_ms: u64,
    generation_id: String,
    policies: Vec<String>,
    things: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_exclusive: bool,
    #[serde(default, skip_serializing_if = "LineageRecord::is_empty")]
    lineage: LineageRecord,
}

impl Stored for Certificate {
    const KIND: &str = "certificate";
    const VERSION: u8 = 1;
    type Record = CertificateRecord;

    fn to_record(&self) -> CertificateRecord {
        CertificateRecord {
            pem: self.pem.clone(),
            status: self.status,
            mode: self.mode,
            ca: self.ca.as_ref().map(|id| id.as_str().to_owned()),
            ownership: self.ownership.clone(),
            transfer: self.transfer.as_ref().map(Transfer::to_record),
            created_at_ms: self.created_at.as_millis(),
            modified_at_ms: self.modified_at.as_millis(),
            customer_version: self.customer_version,
            not_before_ms: self.not_before.as_millis(),
            not_after_ms: self.not_after.as_millis(),
            generation_id: self.generation_id.clone(),
            policies: self.policies.iter().map(|name| name.as_str().to_owned()).collect(),
            things: self.things.iter().map(|name| name.as_str().to_owned()).collect(),
            is_exclusive: self.is_exclusive,
            lineage: self.lineage.to_record(),
        }
    }

    fn from_record(id: &str, record: CertificateRecord) -> Result<Self, String> {
        let policies = record.policies.iter().map(|name| PolicyName::parse(name));
        let things = record.things.iter().map(|name| ThingName::parse(name));
        let text = |error: crate::ids::NameError| error.to_string();
        Ok(Self {
            id: CertificateId::parse(id).map_err(text)?,
            pem: record.pem,
            status: record.status,
            mode: record.mode,
            ca: record.ca.map(|id| CertificateId::parse(&id)).transpose().map_err(text)?,
            ownership: record.ownership,
            transfer: record.transfer.map(Transfer::from_record),
            created_at: Timestamp::from_millis(record.created_at_ms),
            modified_at: Timestamp::from_millis(record.modified_at_ms),
            customer_version: record.customer_version,
            not_before: Timestamp::from_millis(record.not_before_ms),
            not_after: Timestamp::from_millis(record.not_after_ms),
            generation_id: record.generation_id,
            policies: policies.collect::<Result<_, _>>().map_err(text)?,
            things: things.collect::<Result<_, _>>().map_err(text)?,
            is_exclusive: record.is_exclusive,
            lineage: Box::new(Lineage::from_record(record.lineage).map_err(text)?),
        })
    }

    fn not_found(id: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("certificate {id} does not exist"))
    }
}
