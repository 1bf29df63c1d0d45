//! The CA itself: made at the first start, kept afterwards, renewed with the same key and name.

use crate::file::{self, Readers};
use crate::request::Request;
use gnomon_core::random::{self, Random};
use gnomon_core::registry::{Expiring, ExpiringKind, IssueError, Issued, Issuer, certificate_id};
use gnomon_core::time::{Clock, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize,
    SerialNumber,
};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use time::OffsetDateTime;
use time::macros::datetime;
use x509_parser::certificate::X509Certificate;

/// End of the CA's and of device certificates. Source: AWS IoT ("2049-12-31T23:59:59Z"), the last
/// moment that X.509 writes as UTCTime.
const NOT_AFTER: OffsetDateTime = datetime!(2049-12-31 23:59:59 UTC);

/// How long the CA and device certificates are valid when that moment comes near: 25 years.
const LATE_VALIDITY: Duration = Duration::from_secs(25 * 365 * 24 * 3_600);

/// The CA is renewed when less than this is left: a year for devices that check the end of the file
/// that they have to be given the new one.
const CA_RENEWAL: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Certificates are valid from so long before they are made: devices' clocks are often behind.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 3_600);

/// Common name of device certificates that come with a key.
const DEVICE_NAME: &str = "Gnomon IoT Certificate";

/// Why the CA or the server's certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// A file is there and cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} {problem}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A configured name of the server cannot be in a certificate.
    #[error("{name:?} is neither a DNS name nor an IP address")]
    Name {
        /// Which.
        name: String,
    },
    /// Keys or certificates could not be made.
    #[error("cannot make a key or certificate")]
    Make(#[from] rcgen::Error),
}

/// The certificate authority of one host.
pub struct Authority {
    pub(crate) folder: PathBuf,
    pub(crate) issuer: rcgen::Issuer<'static, KeyPair>,
    /// Its end differs from that of `certificate_der` once the CA was renewed.
    certificate_pem: RwLock<String>,
    /// For name and key, which stay.
    pub(crate) certificate_der: Vec<u8>,
    pub(crate) clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// Whoever writes files.
    turn: Mutex<()>,
}

impl Authority {
    /// Opens the CA in the folder, which exists; makes one when there is none, and renews it near its
    /// end.
    ///
    /// # Errors
    /// [`AuthorityError`] says which file and why. What is there is overwritten by the same CA only.
    pub fn open_or_create(
        folder: &Path,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, AuthorityError> {
        let (certificate_path, key_path) = (folder.join("ca.pem"), folder.join("ca-key.pem"));
        let certificate = file::read(&certificate_path)?;
        let key = match (file::read(&key_path)?, &certificate) {
            (Some(pem), _) => KeyPair::from_pem(&pem).map_err(|error| AuthorityError::Content {
                path: key_path,
                problem: format!("does not hold a private key ({error}); restore it"),
            })?,
            (None, Some(_)) => {
                return Err(AuthorityError::Content {
                    path: key_path,
                    problem: "is missing although ca.pem is there; restore it, or remove ca.pem \
                              for a new CA, which all devices must then be given"
                        .to_owned(),
                });
            }
            (None, None) => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
                file::write(&key_path, &key.serialize_pem(), Readers::Owner)?;
                key
            }
        };
        let pem = match certificate {
            Some(pem) => pem,
            // A first start that was interrupted, or a lost file: the same key with the same name
            // is the same CA to whoever trusts it.
            None => {
                let pem = ca_params(&key, &*clock, &*random).self_signed(&key)?.pem();
                file::write(&certificate_path, &pem, Readers::All)?;
                tracing::info!(path = %certificate_path.display(), "certificate authority made");
                pem
            }
        };
        let authority = Self::new(folder, pem, key, clock, random).map_err(|problem| {
            AuthorityError::Content { path: certificate_path.clone(), problem }
        })?;
        if let Err(error) = authority.renew_ca_when_due() {
            tracing::warn!(error = %error, "the CA ends soon and cannot be renewed");
        }
        if authority.left_of_ca().is_none() {
            let problem = "has expired and was not made here; renew it where it was made";
            return Err(AuthorityError::Content {
                path: certificate_path,
                problem: problem.into(),
            });
        }
        Ok(authority)
    }

    /// Renews the CA if it is near its end; true when it was. One that was made elsewhere is left as
    /// it is.
    ///
    /// # Errors
    /// It cannot be made or written.
    pub fn renew_ca_when_due(&self) -> Result<bool, AuthorityError> {
        if self.left_of_ca().is_some_and(|left| left >= CA_RENEWAL) {
            return Ok(false);
        }
        match self.renew_ca() {
            Ok(()) => Ok(true),
            Err(AuthorityError::Content { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the CA's certificate anew: the same key and name, another end. Who trusts the old file
    /// believes everything that is signed from now on, and who gets the new one everything before.
    ///
    /// # Errors
    /// [`AuthorityError::Content`] when it was not made here; or it cannot be made or written.
    pub fn renew_ca(&self) -> Result<(), AuthorityError> {
        let _turn = self.take_turn();
        let path = self.ca_path();
        let key = self.issuer.key();
        let renewed = ca_params(key, &*self.clock, &*self.random).self_signed(key)?;
        if !is_same_authority(renewed.der(), &self.certificate_der) {
            let problem = "was not made here; renew it where it was made".to_owned();
            return Err(AuthorityError::Content { path, problem });
        }
        let pem = renewed.pem();
        file::write(&path, &pem, Readers::All)?;
        *self.certificate_pem.write().unwrap_or_else(PoisonError::into_inner) = pem;
        tracing::info!(path = %path.display(), "certificate authority renewed");
        Ok(())
    }

    /// How long the CA is still valid; `None` when it has ended.
    fn left_of_ca(&self) -> Option<Duration> {
        let end = not_after(&der_of(&self.ca_pem()).ok()?)?;
        let left = end.as_millis().checked_sub(self.clock.wall().as_millis());
        left.map(Duration::from_millis)
    }

    pub(crate) fn take_turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new(
        folder: &Path,
        certificate_pem: String,
        key: KeyPair,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, String> {
        let certificate_der = der_of(&certificate_pem)?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&certificate_der)
            .map_err(|_| "does not hold a certificate; restore it")?;
        if !certificate.is_ca() {
            return Err("holds a certificate that is not one of a CA".to_owned());
        }
        if certificate.public_key().raw != key.subject_public_key_info() {
            return Err("does not belong to ca-key.pem; restore the two together".to_owned());
        }
        let issuer = rcgen::Issuer::from_ca_cert_pem(&certificate_pem, key)
            .map_err(|error| format!("cannot be used to sign: {error}"))?;
        let folder = folder.to_owned();
        let certificate_pem = RwLock::new(certificate_pem);
        let turn = Mutex::default();
        Ok(Self { folder, issuer, certificate_pem, certificate_der, clock, random, turn })
    }

    /// The file that devices need to trust the server.
    pub fn ca_path(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// What is in that file.
    pub fn ca_pem(&self) -> String {
        self.certificate_pem.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Parameters that all certificates of this CA share.
    pub(crate) fn params(&self, not_after: OffsetDateTime) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.serial_number = Some(serial_number(&*self.random));
        params.not_before = date(self.clock.wall()) - CLOCK_SKEW;
        params.not_after = not_after;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params
    }

    fn device_params(&self, name: DistinguishedName) -> CertificateParams {
        let mut params = self.params(far_end(&*self.clock));
        params.distinguished_name = name;
        // Devices trust this CA for the server: a device must not be able to pose as one.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params
    }
}

impl Issuer for Authority {
    fn issue(&self) -> Result<Issued, IssueError> {
        let failed = |error: rcgen::Error| IssueError::Failed(error.to_string());
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(failed)?;
        let params = self.device_params(common_name(DEVICE_NAME));
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            public_key_pem: key.public_key_pem(),
            private_key_pem: key.serialize_pem(),
        })
    }

    fn sign(&self, request_pem: &str) -> Result<String, IssueError> {
        let Request { public_key, subject } = Request::parse(request_pem).map_err(|problem| {
            IssueError::Request(format!("certificateSigningRequest {problem}"))
        })?;
        let params = self.device_params(subject.unwrap_or_else(|| common_name(DEVICE_NAME)));
        let certificate = params.signed_by(&public_key, &self.issuer);
        certificate
            .map(|certificate| certificate.pem())
            .map_err(|error| IssueError::Failed(format!("the request cannot be signed: {error}")))
    }

    fn is_signed_by(&self, certificate: &[u8], ca: &[u8]) -> bool {
        x509_parser::parse_x509_certificate(certificate)
            .is_ok_and(|(_, certificate)| is_signed_by(&certificate, ca))
    }

    fn own_certificates(&self) -> Vec<Expiring> {
        let server = file::read(&self.server_path()).ok().flatten();
        let own = [(Some(self.ca_pem()), ExpiringKind::HostCa), (server, ExpiringKind::Server)];
        let expiring = own.into_iter().filter_map(|(pem, kind)| {
            let der = der_of(&pem?).ok()?;
            Some(Expiring::new(certificate_id(&der), kind, not_after(&der)?))
        });
        expiring.collect()
    }
}

fn ca_params(key: &KeyPair, clock: &dyn Clock, random: &dyn Random) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial_number(random));
    params.not_before = date(clock.wall()) - CLOCK_SKEW;
    params.not_after = far_end(clock);
    // A device signs with its own key: no CA below this one.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Each host's CA has a name of its own, so that clients that trust several can tell them apart.
    let digest = Sha256::digest(key.subject_public_key_info());
    params.distinguished_name = common_name(&format!("Gnomon CA {}", random::hex(&digest[..4])));
    params
}

/// The end of what lives as long as it can.
fn far_end(clock: &dyn Clock) -> OffsetDateTime {
    let now = date(clock.wall());
    if now + CA_RENEWAL < NOT_AFTER { NOT_AFTER } else { now + LATE_VALIDITY }
}

pub(crate) fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

pub(crate) fn date(at: Timestamp) -> OffsetDateTime {
    at.to_system_time().into()
}

/// 20 bytes, positive, no leading zeros (RFC 5280, 4.1.2.2).
fn serial_number(random: &dyn Random) -> SerialNumber {
    let mut bytes: [u8; 20] = random::bytes(random);
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// The DER form of the one certificate in a PEM text.
pub(crate) fn der_of(pem: &str) -> Result<Vec<u8>, String> {
    match x509_parser::pem::parse_x509_pem(pem.as_bytes()) {
        Ok((_, block)) if block.label == "CERTIFICATE" => Ok(block.contents),
        _ => Err("does not hold a certificate in PEM form; restore it".to_owned()),
    }
}

/// The end of a certificate.
fn not_after(der: &[u8]) -> Option<Timestamp> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    Some(Timestamp::from_millis(seconds.saturating_mul(1_000)))
}

/// True when both certificates are self-signed ones of the same name and key.
fn is_same_authority(one: &[u8], other: &[u8]) -> bool {
    let parse = x509_parser::parse_x509_certificate;
    let (Ok((_, one)), Ok((_, other))) = (parse(one), parse(other)) else { return false };
    [&one, &other].iter().all(|it| it.issuer().as_raw() == one.subject().as_raw())
        && one.subject().as_raw() == other.subject().as_raw()
        && one.public_key().raw == other.public_key().raw
}

/// True when the CA signed the certificate.
pub(crate) fn is_signed_by(certificate: &X509Certificate<'_>, ca_der: &[u8]) -> bool {
    x509_parser::parse_x509_certificate(ca_der).is_ok_and(|(_, ca)| {
        certificate.issuer().as_raw() == ca.subject().as_raw()
            && certificate.verify_signature(Some(ca.public_key())).is_ok()
    })
}
