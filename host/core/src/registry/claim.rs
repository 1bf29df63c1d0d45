//! What a device has until it is provisioned: a certificate that waits for its owner, or a claim.
//!
//! A certificate that a device got over MQTT is PENDING_ACTIVATION; its ownership token, of which the
//! record has the SHA-256, lets its holder have it provisioned. `pending-certificate/{until}/{id}` finds
//! those whose time is over. A claim is a certificate of a trusted user that is no certificate of the
//! registry: all that it can do is to ask for provisioning with one template, for five minutes.
//!
//! Source: AWS IoT developer guide, "Device provisioning MQTT API"; `CreateProvisioningClaim`.

use super::certificate::{Certificate, CertificateMode, CertificateStatus};
use super::record::{self, Stored};
use super::x509::{Purpose, X509};
use super::{
    ATTEMPTS_MAX, Change, Diff, Issued, IssuedKeys, Registry, RegistryError, SCAN_RECORDS,
};
use crate::ids::{CertificateId, TemplateName};
use crate::random::{self, hex};
use crate::storage::Key;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// How long an ownership token is good for.
const TOKEN_LIFE: Duration = Duration::from_secs(3_600);

/// How long a claim of a trusted user is good for.
const CLAIM_LIFE: Duration = Duration::from_secs(300);

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// That whoever has the token owns the certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// SHA-256 of the token, in hexadecimal.
    token_sha256: String,
    /// Until when, in milliseconds since the Unix epoch.
    until_ms: u64,
}

/// A claim of a trusted user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisioningClaim {
    /// SHA-256 of its certificate's DER form.
    pub id: CertificateId,
    /// What it may ask for.
    pub template: TemplateName,
    /// Until when.
    pub expires_at: Timestamp,
}

impl Registry {
    /// A new key pair with a certificate that waits for its owner, and the ownership token.
    ///
    /// # Errors
    /// [`RegistryError::Issuer`], or when the store fails.
    pub async fn create_owned_keys(&self) -> Result<(IssuedKeys, String), RegistryError> {
        let Issued { certificate_pem, public_key_pem, private_key_pem } =
            self.issue(super::Issuer::issue).await?;
        let (certificate, token) = self.register_owned(&certificate_pem).await?;
        Ok((IssuedKeys { certificate, public_key_pem, private_key_pem }, token))
    }

    /// A certificate for a signing request that waits for its owner, and the ownership token.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`] when the request is none; [`RegistryError::Issuer`].
    pub async fn create_owned_certificate(
        &self,
        request_pem: &str,
    ) -> Result<(Certificate, String), RegistryError> {
        let request_pem = request_pem.to_owned();
        let certificate_pem = self.issue(move |issuer| issuer.sign(&request_pem)).await?;
        self.register_owned(&certificate_pem).await
    }

    /// The certificate that a token speaks for; `None` when it is no token, has been used, or its time
    /// is over.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn owned_certificate(
        &self,
        token: &str,
    ) -> Result<Option<Certificate>, RegistryError> {
        let id = token.get(..64).and_then(|id| CertificateId::parse(id).ok());
        let Some(id) = id else { return Ok(None) };
        let key = record::key::<Certificate>(id.as_str());
        let found = self.read::<Certificate>(&key).await?.map(|(certificate, _)| certificate);
        let now = self.0.ports.clock.wall().as_millis();
        // The digests are compared: how long that takes tells nothing about the token.
        let holds = |certificate: &Certificate| {
            certificate.status == CertificateStatus::PendingActivation
                && certificate.ownership.as_ref().is_some_and(|ownership| {
                    ownership.token_sha256 == digest(token) && now <= ownership.until_ms
                })
        };
        Ok(found.filter(holds))
    }

    /// The certificate is provisioned: its token is used up, and its status is what the template says.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn finish_provisioning(
        &self,
        id: &CertificateId,
        status: CertificateStatus,
    ) -> Result<(), RegistryError> {
        let now = self.0.ports.clock.wall();
        let finish = |certificate: &mut Certificate| {
            let used = certificate.ownership.take().is_some();
            Ok(certificate.switch(status, now) || used)
        };
        let key = record::key::<Certificate>(id.as_str());
        let updated = self.update_telling(&key, finish, Change::Certificate).await;
        self.certificate_changed(id);
        updated?;
        tracing::info!(principal = %id, %status, "certificate provisioned");
        Ok(())
    }

    /// CreateProvisioningClaim.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`] for the template; [`RegistryError::Issuer`].
    pub async fn create_provisioning_claim(
        &self,
        template: &TemplateName,
    ) -> Result<(Issued, ProvisioningClaim), RegistryError> {
        self.provisioning_template(template).await?;
        let issued = self.issue(super::Issuer::issue).await?;
        let now = self.0.ports.clock.wall();
        let x509 = X509::parse("certificate", &issued.certificate_pem, Purpose::Device, now)?;
        let claim = ProvisioningClaim {
            id: x509.id,
            template: template.clone(),
            expires_at: now.plus(CLAIM_LIFE),
        };
        let key = record::key::<ProvisioningClaim>(claim.id.as_str());
        if !self.write(&key, &claim, None).await? {
            return Err(RegistryError::Issuer("the same certificate came twice".to_owned()));
        }
        tracing::info!(principal = %claim.id, %template, "provisioning claim made");
        Ok((issued, claim))
    }

    /// The claim with this certificate, while it is good.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn provisioning_claim(
        &self,
        id: &CertificateId,
    ) -> Result<Option<ProvisioningClaim>, RegistryError> {
        let found = self.read(&record::key::<ProvisioningClaim>(id.as_str())).await?;
        let now = self.0.ports.clock.wall();
        Ok(found.map(|(claim, _)| claim).filter(|claim: &ProvisioningClaim| claim.expires_at > now))
    }

    /// Removes claims, and certificates that nobody had provisioned, whose time is over. Call it now
    /// and then.
    ///
    /// # Errors
    /// When the store fails; what is left is removed next time.
    pub async fn expire_claims(&self) -> Result<(), RegistryError> {
        let now = self.0.ports.clock.wall();
        let claims = Key::prefix(ProvisioningClaim::KIND);
        let mut after = None;
        loop {
            let records = self.0.ports.storage.scan(&claims, after.as_ref(), SCAN_RECORDS).await?;
            for record in &records {
                let claim: ProvisioningClaim = record::decode(record)?;
                if claim.expires_at <= now {
                    self.remove(&record.key, record.revision, None).await?;
                }
            }
            match records.last() {
                Some(last) if records.len() == SCAN_RECORDS => after = Some(last.key.clone()),
                _ => break,
            }
        }
        // In the order of their ends.
        let pending = Key::prefix(PENDING);
        loop {
            let records = self.0.ports.storage.scan(&pending, None, SCAN_RECORDS).await?;
            for record in &records {
                let until = record.key.as_str().split('/').nth(1).and_then(|it| it.parse().ok());
                if until.is_some_and(|until: u64| until >= now.as_millis()) {
                    return Ok(());
                }
                if let Ok(id) = CertificateId::parse(record::name_of(&record.key)) {
                    self.drop_unclaimed(&id).await?;
                }
                self.forget_index(&record.key).await?;
            }
            if records.len() < SCAN_RECORDS {
                return Ok(());
            }
        }
    }

    async fn register_owned(&self, pem: &str) -> Result<(Certificate, String), RegistryError> {
        let now = self.0.ports.clock.wall();
        let x509 = X509::parse("certificatePem", pem, Purpose::Device, now)?;
        let secret = hex(&random::bytes::<TOKEN_BYTES>(&*self.0.ports.random));
        let token = format!("{}{secret}", x509.id);
        let until = now.plus(TOKEN_LIFE);
        let ownership = Ownership { token_sha256: digest(&token), until_ms: until.as_millis() };
        self.put_index(&pending_key(until, &x509.id)).await?;
        let mut certificate =
            self.certificate(x509, CertificateStatus::PendingActivation, CertificateMode::Default);
        certificate.ownership = Some(ownership);
        self.add_certificate(&certificate).await?;
        Ok((certificate, token))
    }

    /// Deletes a certificate that nobody had provisioned in time.
    async fn drop_unclaimed(&self, id: &CertificateId) -> Result<(), RegistryError> {
        let key = record::key::<Certificate>(id.as_str());
        for _ in 0..ATTEMPTS_MAX {
            let Some((certificate, revision)) = self.read::<Certificate>(&key).await? else {
                return Ok(());
            };
            let is_wanted = certificate.ownership.is_none()
                || certificate.status != CertificateStatus::PendingActivation
                || !certificate.things.is_empty()
                || !certificate.policies.is_empty();
            if is_wanted {
                return Ok(());
            }
            let expiry = self.expiry_entry(&certificate).await?;
            let change = self.told(|| Change::Certificate(Diff::Deleted(certificate)));
            if self.remove(&key, revision, change).await? {
                self.remove_index(expiry).await?;
                tracing::info!(principal = %id, "certificate deleted, nobody had it provisioned");
                return Ok(());
            }
        }
        Err(RegistryError::Busy)
    }
}

const PENDING: &str = "pending-certificate";

fn pending_key(until: Timestamp, id: &CertificateId) -> Key {
    Key::new(PENDING, &[&format!("{:020}", until.as_millis()), id.as_str()])
}

fn digest(token: &str) -> String {
    hex(&Sha256::digest(token))
}

#[derive(Serialize, Deserialize)]
pub(super) struct ClaimRecord {
    template: String,
    expires_at_ms: u64,
}

impl Stored for ProvisioningClaim {
    const KIND: &str = "provisioning-claim";
    const VERSION: u8 = 1;
    type Record = ClaimRecord;

    fn to_record(&self) -> ClaimRecord {
        ClaimRecord {
            template: self.template.to_string(),
            expires_at_ms: self.expires_at.as_millis(),
        }
    }

    fn from_record(id: &str, record: ClaimRecord) -> Result<Self, String> {
        let text = |error: crate::ids::NameError| error.to_string();
        Ok(Self {
            id: CertificateId::parse(id).map_err(text)?,
            template: TemplateName::parse(&record.template).map_err(text)?,
            expires_at: Timestamp::from_millis(record.expires_at_ms),
        })
    }

    fn not_found(id: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("provisioning claim {id} does not exist"))
    }
}
