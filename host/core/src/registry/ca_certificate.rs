//! CA certificates of others: whose certificates may be registered, by an operator or by the devices
//! themselves when they first connect (just-in-time).
//!
//! A CA's record is the truth about it; `ca-subject/{subject}/{ca}` leads to it from the issuer of a
//! device's certificate. `ca-signed/{ca}/{certificate}` leads to what it signed, where the certificate's
//! record is the truth.
//!
//! Source: AWS IoT developer guide, "Manage your CA certificates"; `RegisterCACertificate`.

use super::certificate::{Certificate, CertificateMode, CertificateStatus};
use super::index::ALL;
use super::record::{self, Stored};
use super::x509::{self, Purpose, X509};
use super::{ATTEMPTS_MAX, Change, Diff, Page, PageRequest, Registry, RegistryError};
use crate::ids::{CertificateId, TemplateName};
use crate::random::{self, hex};
use crate::storage::{Expect, Key};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// CAs of the same name, each of which a signature may have to be tried with. Source: AWS IoT, quotas.
const SAME_SUBJECT_MAX: usize = 10;

/// Bytes that a registration code is made of; it is twice as many hexadecimal digits.
const CODE_BYTES: usize = 32;

/// What happens to a device whose certificate is not known yet (`RegistrationConfig`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrationConfig {
    /// This provisioning template, JSON text.
    Body(String),
    /// The template of this name.
    Named(TemplateName),
}

/// A registered CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaCertificate {
    /// SHA-256 of its DER form.
    pub id: CertificateId,
    /// As it was given.
    pub pem: String,
    /// False: no certificate that it signed can be registered any more.
    pub is_active: bool,
    /// Devices with a certificate of it register it themselves.
    pub auto_registration: bool,
    /// `DEFAULT`: its owner has shown to have its key; `SNI_ONLY`: nobody has.
    pub mode: CertificateMode,
    /// How devices that come by themselves are provisioned; without it a rule has to see to them.
    pub registration: Option<RegistrationConfig>,
    /// An ARN that clients of AWS give together with the template; kept for them.
    pub role_arn: Option<String>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub modified_at: Timestamp,
    /// 1 at first, then one more with every change.
    pub customer_version: u32,
    /// Start of its validity.
    pub not_before: Timestamp,
    /// Last moment of its validity.
    pub not_after: Timestamp,
    /// Differs between registrations of the same certificate.
    pub generation_id: String,
    /// SHA-256 of its subject, for the index.
    subject: String,
}

/// What RegisterCACertificate is given.
#[derive(Clone, Debug, Default)]
pub struct CaRegistration<'a> {
    /// The certificate.
    pub ca_pem: &'a str,
    /// One that it signed, with the registration code as common name; without it the mode is
    /// `SNI_ONLY`.
    pub verification_pem: Option<&'a str>,
    /// See [`CaCertificate::is_active`].
    pub is_active: bool,
    /// See [`CaCertificate::auto_registration`].
    pub auto_registration: bool,
    /// See [`CaCertificate::registration`].
    pub registration: Option<RegistrationConfig>,
    /// See [`CaCertificate::role_arn`].
    pub role_arn: Option<String>,
}

/// What UpdateCACertificate changes; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct CaUpdate {
    /// See [`CaCertificate::is_active`].
    pub is_active: Option<bool>,
    /// See [`CaCertificate::auto_registration`].
    pub auto_registration: Option<bool>,
    /// See [`CaCertificate::registration`]; `Some(None)` removes it.
    pub registration: Option<Option<RegistrationConfig>>,
    /// See [`CaCertificate::role_arn`].
    pub role_arn: Option<String>,
}

impl Registry {
    /// GetRegistrationCode: 64 hexadecimal digits, the same until it is deleted.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn registration_code(&self) -> Result<String, RegistryError> {
        let key = code_key();
        for _ in 0..ATTEMPTS_MAX {
            if let Some((code, _)) = self.read::<RegistrationCode>(&key).await? {
                return Ok(code.0);
            }
            let code = hex(&random::bytes::<CODE_BYTES>(&*self.0.ports.random));
            if self.write(&key, &RegistrationCode(code.clone()), None).await? {
                return Ok(code);
            }
        }
        Err(RegistryError::Busy)
    }

    /// DeleteRegistrationCode: the next one will be another.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`] when nobody has asked for one.
    pub async fn delete_registration_code(&self) -> Result<(), RegistryError> {
        self.read_existing::<RegistrationCode>(&code_key()).await?;
        self.0.ports.storage.delete(&code_key(), Expect::Any).await?;
        Ok(())
    }

    /// RegisterCACertificate.
    ///
    /// # Errors
    /// [`RegistryError::CertificateValidation`] when one of the certificates is none, the CA is none,
    /// or it did not sign the other; [`RegistryError::RegistrationCodeValidation`] when the other's
    /// common name is not the code; [`RegistryError::ResourceAlreadyExists`];
    /// [`RegistryError::LimitExceeded`] beyond ten CAs of the same name.
    pub async fn register_ca_certificate(
        &self,
        registration: CaRegistration<'_>,
    ) -> Result<CaCertificate, RegistryError> {
        let now = self.0.ports.clock.wall();
        let ca = X509::parse("caCertificate", registration.ca_pem, Purpose::Authority, now)?;
        let mode = match registration.verification_pem {
            None => CertificateMode::SniOnly,
            Some(pem) => {
                self.check_verification(&ca, pem).await?;
                CertificateMode::Default
            }
        };
        let X509 { id, pem, not_before, not_after, subject, .. } = ca;
        if self.cas_of_subject(&subject).await?.len() >= SAME_SUBJECT_MAX {
            return Err(RegistryError::LimitExceeded(format!(
                "{SAME_SUBJECT_MAX} CA certificates with this subject are registered; delete one first"
            )));
        }
        let ca = CaCertificate {
            id,
            pem,
            is_active: registration.is_active,
            auto_registration: registration.auto_registration,
            mode,
            registration: registration.registration,
            role_arn: registration.role_arn,
            created_at: now,
            modified_at: now,
            customer_version: 1,
            not_before,
            not_after,
            generation_id: random::uuid(&*self.0.ports.random),
            subject,
        };
        let id = &ca.id;
        self.put_index(&subject_key(&ca.subject, id.as_str())).await?;
        self.put_expiry(&ca).await?;
        let change = self.told(|| Change::CaCertificate(Diff::Created(ca.clone())));
        let key = record::key::<CaCertificate>(id.as_str());
        if !self.write_telling(&key, &ca, None, change).await? {
            return Err(RegistryError::ResourceAlreadyExists {
                message: format!("CA certificate {id} is registered"),
                arn: self.ca_certificate_arn(id),
                id: id.as_str().to_owned(),
            });
        }
        tracing::info!(ca = %id, "CA certificate registered");
        Ok(ca)
    }

    /// DescribeCACertificate.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn describe_ca_certificate(
        &self,
        id: &CertificateId,
    ) -> Result<CaCertificate, RegistryError> {
        Ok(self.read_existing(&record::key::<CaCertificate>(id.as_str())).await?.0)
    }

    /// UpdateCACertificate. Certificates that it signed and that are registered stay as they are.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn update_ca_certificate(
        &self,
        id: &CertificateId,
        update: &CaUpdate,
    ) -> Result<(), RegistryError> {
        let now = self.0.ports.clock.wall();
        let change = |ca: &mut CaCertificate| {
            let before = ca.clone();
            ca.is_active = update.is_active.unwrap_or(ca.is_active);
            ca.auto_registration = update.auto_registration.unwrap_or(ca.auto_registration);
            if let Some(registration) = &update.registration {
                ca.registration.clone_from(registration);
            }
            if update.role_arn.is_some() {
                ca.role_arn.clone_from(&update.role_arn);
            }
            let changes = *ca != before;
            if changes {
                ca.modified_at = now;
                ca.customer_version = ca.customer_version.saturating_add(1);
            }
            Ok(changes)
        };
        let key = record::key::<CaCertificate>(id.as_str());
        self.update_telling(&key, change, Change::CaCertificate).await?;
        Ok(())
    }

    /// DeleteCACertificate. Certificates that it signed and that are registered stay as they are.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::CertificateState`] when it is ACTIVE.
    pub async fn delete_ca_certificate(&self, id: &CertificateId) -> Result<(), RegistryError> {
        let key = record::key::<CaCertificate>(id.as_str());
        for _ in 0..ATTEMPTS_MAX {
            let (ca, revision) = self.read_existing::<CaCertificate>(&key).await?;
            if ca.is_active {
                return Err(RegistryError::CertificateState(format!(
                    "CA certificate {id} is ACTIVE; make it INACTIVE first"
                )));
            }
            let expiry = self.expiry_entry(&ca).await?;
            let change = self.told(|| Change::CaCertificate(Diff::Deleted(ca.clone())));
            if self.remove(&key, revision, change).await? {
                tracing::info!(ca = %id, "CA certificate deleted");
                self.remove_index(expiry).await?;
                return self.forget_index(&subject_key(&ca.subject, id.as_str())).await;
            }
        }
        Err(RegistryError::Busy)
    }

    /// ListCACertificates, ordered by id; only those that provision with this template, if one is
    /// given.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_ca_certificates(
        &self,
        template: Option<&TemplateName>,
        page: PageRequest<'_>,
    ) -> Result<Page<CaCertificate>, RegistryError> {
        let fits = |ca: &CaCertificate| match (template, &ca.registration) {
            (None, _) => true,
            (Some(wanted), Some(RegistrationConfig::Named(name))) => wanted == name,
            (Some(_), _) => false,
        };
        self.list(page, fits).await
    }

    /// ListCertificatesByCA, ordered by id.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_certificates_by_ca(
        &self,
        ca: &CertificateId,
        page: PageRequest<'_>,
    ) -> Result<Page<Certificate>, RegistryError> {
        let holds = |certificate: &Certificate| certificate.ca.as_ref() == Some(ca);
        let prefix = signed_key(ca, "");
        let found = self.index_page(&prefix, page, CertificateId::parse, holds).await?;
        let mut items = Vec::with_capacity(found.items.len());
        for id in &found.items {
            // Deleted at this moment: it is not there.
            items.extend(self.existing_certificate(id).await?);
        }
        Ok(Page { items, next: found.next })
    }

    /// A device presents a certificate that nobody registered: registers it, PENDING_ACTIVATION, if
    /// an active CA with automatic registration signed it. A later attempt of the device finds it.
    ///
    /// # Errors
    /// When the store fails, and [`RegistryError::CertificateValidation`] for a certificate that
    /// cannot be used.
    pub async fn register_presented(
        &self,
        der: &[u8],
    ) -> Result<Option<(Certificate, CaCertificate)>, RegistryError> {
        let now = self.0.ports.clock.wall();
        let Some(issuer) = x509::issuer_of(der) else { return Ok(None) };
        let candidates = self.cas_of_subject(&issuer).await?;
        let ca = candidates.into_iter().find(|ca| {
            ca.is_active && ca.auto_registration && ca.not_after >= now && self.signed(der, ca)
        });
        let Some(ca) = ca else { return Ok(None) };
        let x509 = X509::of_device(der, now).map_err(|problem| {
            RegistryError::CertificateValidation(format!("the device's certificate {problem}"))
        })?;
        let (id, status) = (x509.id.clone(), CertificateStatus::PendingActivation);
        let registered =
            self.register(x509, status, CertificateMode::Default, Some(ca.id.clone())).await;
        match registered {
            Ok(certificate) => Ok(Some((certificate, ca))),
            // Another connection of the device was faster.
            Err(RegistryError::ResourceAlreadyExists { .. }) => {
                Ok(Some((self.describe_certificate(&id).await?, ca)))
            }
            Err(error) => Err(error),
        }
    }

    /// The registered, active CA that signed a certificate.
    pub(super) async fn ca_of(
        &self,
        certificate: &X509,
        ca_pem: Option<&str>,
    ) -> Result<CertificateId, RegistryError> {
        let wrong = |problem: &str| {
            Err(RegistryError::CertificateValidation(format!("certificatePem: {problem}")))
        };
        let mut candidates = self.cas_of_subject(&certificate.issuer).await?;
        if let Some(pem) = ca_pem {
            let wanted = x509::certificate_id(&x509::der_of(pem));
            candidates.retain(|ca| ca.id == wanted);
        }
        candidates.retain(|ca| self.signed(&certificate.der, ca));
        match candidates.as_slice() {
            [] => wrong(
                "no registered CA certificate signed it; register its CA, or use \
                 RegisterCertificateWithoutCA",
            ),
            [ca] if !ca.is_active => Err(RegistryError::CertificateState(format!(
                "CA certificate {} is INACTIVE; certificates that it signed cannot be registered",
                ca.id
            ))),
            [ca] => Ok(ca.id.clone()),
            _ => Err(RegistryError::CertificateConflict(
                "several registered CA certificates with the same subject and key signed it; say \
                 which by caCertificatePem"
                    .to_owned(),
            )),
        }
    }

    /// `arn:aws:iot:<region>:<account>:cacert/<id>`.
    pub fn ca_certificate_arn(&self, id: &CertificateId) -> String {
        self.account().arn(&format!("cacert/{id}"))
    }

    /// The way back from a CA to a certificate that it signed.
    pub(super) async fn put_signed(
        &self,
        ca: &CertificateId,
        id: &CertificateId,
    ) -> Result<(), RegistryError> {
        self.put_index(&signed_key(ca, id.as_str())).await
    }

    /// The certificate is gone.
    pub(super) async fn forget_signed(
        &self,
        ca: &CertificateId,
        id: &CertificateId,
    ) -> Result<(), RegistryError> {
        self.forget_index(&signed_key(ca, id.as_str())).await
    }

    fn signed(&self, der: &[u8], ca: &CaCertificate) -> bool {
        self.0.ports.issuer.is_signed_by(der, &x509::der_of(&ca.pem))
    }

    async fn cas_of_subject(&self, subject: &str) -> Result<Vec<CaCertificate>, RegistryError> {
        let holds = |ca: &CaCertificate| ca.subject == subject;
        let prefix = subject_key(subject, "");
        let found = self.index_page(&prefix, ALL, CertificateId::parse, holds).await?;
        let mut cas = Vec::with_capacity(found.items.len());
        for id in found.items {
            let read = self.read(&record::key::<CaCertificate>(id.as_str())).await?;
            cas.extend(read.map(|(ca, _)| ca));
        }
        Ok(cas)
    }

    async fn check_verification(&self, ca: &X509, pem: &str) -> Result<(), RegistryError> {
        let member = "verificationCertificate";
        let now = self.0.ports.clock.wall();
        let certificate = X509::parse(member, pem, Purpose::Verification, now)?;
        if !self.0.ports.issuer.is_signed_by(&certificate.der, &ca.der) {
            return Err(RegistryError::CertificateValidation(format!(
                "{member}: it is not signed by the key of caCertificate, or does not name it as issuer"
            )));
        }
        let code = self.registration_code().await?;
        if certificate.common_name.as_deref() != Some(&*code) {
            return Err(RegistryError::RegistrationCodeValidation(format!(
                "{member}: its common name is not the registration code of this host, which \
                 GetRegistrationCode tells"
            )));
        }
        Ok(())
    }

    async fn existing_certificate(
        &self,
        id: &CertificateId,
    ) -> Result<Option<Certificate>, RegistryError> {
        let read = self.read(&record::key::<Certificate>(id.as_str())).await?;
        Ok(read.map(|(certificate, _)| certificate))
    }
}

fn subject_key(subject: &str, ca: &str) -> Key {
    Key::new("ca-subject", &[subject, ca])
}

fn signed_key(ca: &CertificateId, certificate: &str) -> Key {
    Key::new("ca-signed", &[ca.as_str(), certificate])
}

fn code_key() -> Key {
    record::key::<RegistrationCode>("account")
}

/// The registration code of the account.
struct RegistrationCode(String);

impl Stored for RegistrationCode {
    const KIND: &str = "registration-code";
    const VERSION: u8 = 1;
    type Record = String;

    fn to_record(&self) -> String {
        self.0.clone()
    }

    fn from_record(_name: &str, record: String) -> Result<Self, String> {
        Ok(Self(record))
    }

    fn not_found(_name: &str) -> RegistryError {
        RegistryError::ResourceNotFound("there is no registration code".to_owned())
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct CaRecord {
    pem: String,
    is_active: bool,
    auto_registration: bool,
    mode: CertificateMode,
    template_body: Option<String>,
    template_name: Option<String>,
    role_arn: Option<String>,
    created_at_ms: u64,
    modified_at_ms: u64,
    customer_version: u32,
    not_before_ms: u64,
    not_after_ms: u64,
    generation_id: String,
    subject: String,
}

impl Stored for CaCertificate {
    const KIND: &str = "ca-certificate";
    const VERSION: u8 = 1;
    type Record = CaRecord;

    fn to_record(&self) -> CaRecord {
        let (template_body, template_name) = match &self.registration {
            None => (None, None),
            Some(RegistrationConfig::Body(body)) => (Some(body.clone()), None),
            Some(RegistrationConfig::Named(name)) => (None, Some(name.to_string())),
        };
        CaRecord {
            pem: self.pem.clone(),
            is_active: self.is_active,
            auto_registration: self.auto_registration,
            mode: self.mode,
            template_body,
            template_name,
            role_arn: self.role_arn.clone(),
            created_at_ms: self.created_at.as_millis(),
            modified_at_ms: self.modified_at.as_millis(),
            customer_version: self.customer_version,
            not_before_ms: self.not_before.as_millis(),
            not_after_ms: self.not_after.as_millis(),
            generation_id: self.generation_id.clone(),
            subject: self.subject.clone(),
        }
    }

    fn from_record(id: &str, record: CaRecord) -> Result<Self, String> {
        let text = |error: crate::ids::NameError| error.to_string();
        let registration = match (record.template_body, record.template_name) {
            (Some(body), _) => Some(RegistrationConfig::Body(body)),
            (None, Some(name)) => {
                Some(RegistrationConfig::Named(TemplateName::parse(&name).map_err(text)?))
            }
            (None, None) => None,
        };
        Ok(Self {
            id: CertificateId::parse(id).map_err(text)?,
            pem: record.pem,
            is_active: record.is_active,
            auto_registration: record.auto_registration,
            mode: record.mode,
            registration,
            role_arn: record.role_arn,
            created_at: Timestamp::from_millis(record.created_at_ms),
            modified_at: Timestamp::from_millis(record.modified_at_ms),
            customer_version: record.customer_version,
            not_before: Timestamp::from_millis(record.not_before_ms),
            not_after: Timestamp::from_millis(record.not_after_ms),
            generation_id: record.generation_id,
            subject: record.subject,
        })
    }

    fn not_found(id: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("CA certificate {id} does not exist"))
    }
}
