//! What the registry reads from an X.509 certificate, and what it demands of one.
//!
//! In: PEM or DER from an operator or a device. Out: [`X509`], or what is wrong with it. Chains are not
//! looked at here: whose key signed it is the [`super::Issuer`]'s to say.
//!
//! Source: RFC 5280; AWS IoT developer guide, "X.509 client certificates" (which keys and signatures).

use super::RegistryError;
use crate::ids::CertificateId;
use crate::random::hex;
use crate::time::Timestamp;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::der_parser::oid::Oid;
use x509_parser::oid_registry as oid;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Name;

/// Largest certificate in bytes of PEM. Source: `CertificatePem` of AWS IoT's API reference.
const PEM_BYTES_MAX: usize = 65_536;

/// RSA keys below are weak, and above cost the host too much time per handshake.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// Signature algorithms whose hash can be trusted.
const SIGNATURES: [Oid<'static>; 8] = [
    oid::OID_PKCS1_SHA256WITHRSA,
    oid::OID_PKCS1_SHA384WITHRSA,
    oid::OID_PKCS1_SHA512WITHRSA,
    oid::OID_PKCS1_RSASSAPSS,
    oid::OID_SIG_ECDSA_WITH_SHA256,
    oid::OID_SIG_ECDSA_WITH_SHA384,
    oid::OID_SIG_ECDSA_WITH_SHA512,
    oid::OID_SIG_ED25519,
];

/// Curves of elliptic keys: P-256, P-384, P-521.
const CURVES: [Oid<'static>; 3] = [oid::OID_EC_P256, oid::OID_NIST_EC_P384, oid::OID_NIST_EC_P521];

/// What a certificate is to be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A device proves with it who it is.
    Device,
    /// It signs certificates of devices.
    Authority,
    /// It proves once that its maker has an authority's key.
    Verification,
}

/// A certificate that can be used for its purpose.
#[derive(Clone, Debug)]
pub(super) struct X509 {
    pub(super) id: CertificateId,
    pub(super) pem: String,
    pub(super) der: Vec<u8>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// SHA-256 of the subject's DER form: the index of authorities has it.
    pub(super) subject: String,
    /// The same of the issuer.
    pub(super) issuer: String,
    /// The first common name of the subject.
    pub(super) common_name: Option<String>,
}

impl X509 {
    /// Reads a PEM text that holds one certificate; `member` is what the caller's request calls it.
    pub(super) fn parse(
        member: &str,
        text: &str,
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<Self, RegistryError> {
        let read = || {
            if text.len() > PEM_BYTES_MAX {
                return Err(format!("has more than {PEM_BYTES_MAX} bytes"));
            }
            let mut blocks = Pem::iter_from_buffer(text.as_bytes());
            let Some(Ok(block)) = blocks.next() else {
                return Err(
                    "is no PEM block that begins with -----BEGIN CERTIFICATE-----".to_owned()
                );
            };
            if block.label != "CERTIFICATE" {
                return Err("holds something else than a CERTIFICATE".to_owned());
            }
            if blocks.next().is_some() {
                return Err("holds more than one PEM block; give the certificate alone".to_owned());
            }
            Self::read(block.contents, text.to_owned(), purpose, now)
        };
        read()
            .map_err(|problem| RegistryError::CertificateValidation(format!("{member}: {problem}")))
    }

    /// Reads the DER form that a device presented.
    pub(super) fn of_device(der: &[u8], now: Timestamp) -> Result<Self, String> {
        let pem = pem_of(der);
        if pem.len() > PEM_BYTES_MAX {
            return Err(format!("has more than {PEM_BYTES_MAX} bytes of PEM"));
        }
        Self::read(der.to_vec(), pem, Purpose::Device, now)
    }

    fn read(der: Vec<u8>, pem: String, purpose: Purpose, now: Timestamp) -> Result<Self, String> {
        let Ok((&[], x509)) = x509_parser::parse_x509_certificate(&der) else {
            return Err("does not hold a certificate in DER form".to_owned());
        };
        check_algorithms(&x509)?;
        check_usage(&x509, purpose)?;
        let at = |time: x509_parser::time::ASN1Time| {
            let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
            Timestamp::from_millis(seconds.saturating_mul(1_000))
        };
        let (not_before, not_after) =
            (at(x509.validity().not_before), at(x509.validity().not_after));
        if not_after < now {
            return Err(format!("has expired: {}", x509.validity().not_after));
        }
        if not_before > now && purpose == Purpose::Authority {
            return Err(format!("is not valid yet: {}", x509.validity().not_before));
        }
        let common_name = x509.subject().iter_common_name().next();
        let common_name = common_name.and_then(|name| name.as_str().ok()).map(str::to_owned);
        Ok(Self {
            id: certificate_id(&der),
            subject: digest(x509.subject()),
            issuer: digest(x509.issuer()),
            common_name,
            pem,
            not_before,
            not_after,
            der,
        })
    }
}

/// The id of a certificate: the SHA-256 of its DER form.
pub fn certificate_id(der: &[u8]) -> CertificateId {
    CertificateId::parse(&hex(&Sha256::digest(der)))
        .expect("a SHA-256 is 64 lower-case hexadecimal digits")
}

/// SHA-256 of the issuer's DER form; `None` when it is no certificate.
pub(super) fn issuer_of(der: &[u8]) -> Option<String> {
    let (rest, x509) = x509_parser::parse_x509_certificate(der).ok()?;
    rest.is_empty().then(|| digest(x509.issuer()))
}

/// The DER form of the first block of a PEM text; empty when there is none.
pub(super) fn der_of(pem: &str) -> Vec<u8> {
    let first = Pem::iter_from_buffer(pem.as_bytes()).next();
    first.and_then(Result::ok).map(|pem| pem.contents).unwrap_or_default()
}

/// True when the certificate is for the key of the certificate signing request (PKCS #10, PEM).
pub(super) fn has_key_of(der: &[u8], request_pem: &str) -> bool {
    let request = der_of(request_pem);
    let Ok((_, request)) = X509CertificationRequest::from_der(&request) else { return false };
    let Ok((_, x509)) = x509_parser::parse_x509_certificate(der) else { return false };
    let wanted = &request.certification_request_info.subject_pki.subject_public_key;
    x509.public_key().subject_public_key.data == wanted.data
}

fn pem_of(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    // Base64 is ASCII: every position is a boundary.
    for at in (0..text.len()).step_by(64) {
        pem.push_str(&text[at..text.len().min(at + 64)]);
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn digest(name: &X509Name<'_>) -> String {
    hex(&Sha256::digest(name.as_raw()))
}

/// A hash that nobody can forge, and a key that TLS can use.
fn check_algorithms(x509: &X509Certificate<'_>) -> Result<(), String> {
    let algorithm = &x509.signature_algorithm.algorithm;
    if !SIGNATURES.contains(algorithm) {
        return Err(format!(
            "is signed with the algorithm {algorithm}; RSA or ECDSA with SHA-256, SHA-384 or \
             SHA-512, or Ed25519 is needed"
        ));
    }
    let key = x509.public_key();
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if !RSA_BITS.contains(&rsa.key_size()) => Err(format!(
            "has an RSA key of {} bits; {} to {} are allowed",
            rsa.key_size(),
            RSA_BITS.start(),
            RSA_BITS.end()
        )),
        Ok(PublicKey::EC(_)) => {
            let curve = key.algorithm.parameters.as_ref().and_then(|it| it.as_oid().ok());
            match curve {
                Some(curve) if CURVES.contains(&curve) => Ok(()),
                _ => Err("has a key on a curve that is none of P-256, P-384, P-521".to_owned()),
            }
        }
        Ok(PublicKey::RSA(_)) => Ok(()),
        _ if key.algorithm.algorithm == oid::OID_SIG_ED25519 => Ok(()),
        _ => Err("has a key that is neither RSA nor on P-256, P-384, P-521 or Ed25519".to_owned()),
    }
}

/// What the certificate says that it may be used for; without such words everything.
fn check_usage(x509: &X509Certificate<'_>, purpose: Purpose) -> Result<(), String> {
    let twice = |_| "has an extension twice, or one that cannot be read".to_owned();
    let usage = x509.key_usage().map_err(twice)?.map(|it| it.value);
    let extended = x509.extended_key_usage().map_err(twice)?.map(|it| it.value);
    let constraints = x509.basic_constraints().map_err(twice)?.map(|it| it.value);
    match purpose {
        Purpose::Device => {
            if usage.is_some_and(|usage| !usage.digital_signature()) {
                return Err("has a key usage without digitalSignature, so that its owner cannot \
                            prove by TLS who it is"
                    .to_owned());
            }
            if extended.is_some_and(|usage| !usage.client_auth && !usage.any) {
                return Err("has an extended key usage without clientAuth".to_owned());
            }
        }
        Purpose::Authority => {
            if constraints.is_none_or(|constraints| !constraints.ca) {
                return Err("is not one of a CA: its basic constraints lack CA:TRUE".to_owned());
            }
            if usage.is_some_and(|usage| !usage.key_cert_sign()) {
                return Err("has a key usage without keyCertSign, so that it signs no \
                            certificates"
                    .to_owned());
            }
        }
        Purpose::Verification => {}
    }
    Ok(())
}
