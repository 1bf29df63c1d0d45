//! Certificate signing requests (PKCS #10): whose key it is, and what it wants to be called.
//!
//! Nothing else is taken from a request: what a device certificate is good for is decided here,
//! whatever extensions are asked for.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rcgen::{DistinguishedName, DnType, SubjectPublicKeyInfo};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA,
    OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Name;

/// Longest request in bytes of PEM. Source: `CertificateSigningRequest` of AWS IoT's API reference.
const REQUEST_BYTES_MAX: usize = 4_096;

/// What is taken from a request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) public_key: SubjectPublicKeyInfo,
    /// `None` when the request gives no name.
    pub(crate) subject: Option<DistinguishedName>,
}

impl Request {
    /// Checks form, key and signature; an error completes "certificateSigningRequest …".
    pub(crate) fn parse(pem: &str) -> Result<Self, String> {
        if pem.len() > REQUEST_BYTES_MAX {
            return Err(format!("has more than {REQUEST_BYTES_MAX} bytes"));
        }
        let block = match x509_parser::pem::parse_x509_pem(pem.as_bytes()) {
            Ok((_, block)) if block.label.ends_with("CERTIFICATE REQUEST") => block,
            _ => {
                return Err("is no PEM block that begins with -----BEGIN CERTIFICATE REQUEST-----"
                    .to_owned());
            }
        };
        let Ok((&[], request)) = X509CertificationRequest::from_der(&block.contents) else {
            return Err("does not hold a request in DER form".to_owned());
        };
        let info = &request.certification_request_info;
        let public_key =
            SubjectPublicKeyInfo::from_der(info.subject_pki.raw).map_err(|_| WRONG_KEY)?;
        check_signature(&request)?;
        Ok(Self { public_key, subject: subject(&info.subject)? })
    }
}

const WRONG_KEY: &str = "has a key that is neither RSA nor EC P-256, P-384 or P-521";

/// Proves that whoever made the request has the key.
fn check_signature(request: &X509CertificationRequest<'_>) -> Result<(), String> {
    let info = &request.certification_request_info;
    let key = info.subject_pki.parsed().map_err(|_| "has a key that cannot be read")?;
    let oid = &request.signature_algorithm.algorithm;
    let algorithm: &'static dyn VerificationAlgorithm = match &key {
        // Source: AWS IoT, "Create client certificates": RSA keys of at least 2048 bits. Larger
        // ones than 4096 cost each handshake too much.
        PublicKey::RSA(key) if !(2_048..=4_096).contains(&key.key_size()) => {
            return Err(format!(
                "has an RSA key of {} bits; 2048 to 4096 are allowed",
                key.key_size()
            ));
        }
        PublicKey::RSA(_) if *oid == OID_PKCS1_SHA256WITHRSA => {
            &signature::RSA_PKCS1_2048_8192_SHA256
        }
        PublicKey::RSA(_) if *oid == OID_PKCS1_SHA384WITHRSA => {
            &signature::RSA_PKCS1_2048_8192_SHA384
        }
        PublicKey::RSA(_) if *oid == OID_PKCS1_SHA512WITHRSA => {
            &signature::RSA_PKCS1_2048_8192_SHA512
        }
        // OpenSSL signs with SHA-256 whatever the curve.
        PublicKey::EC(point) => match (point.key_size(), oid) {
            (256, oid) if *oid == OID_SIG_ECDSA_WITH_SHA256 => &signature::ECDSA_P256_SHA256_ASN1,
            (256, oid) if *oid == OID_SIG_ECDSA_WITH_SHA384 => &signature::ECDSA_P256_SHA384_ASN1,
            (384, oid) if *oid == OID_SIG_ECDSA_WITH_SHA256 => &signature::ECDSA_P384_SHA256_ASN1,
            (384, oid) if *oid == OID_SIG_ECDSA_WITH_SHA384 => &signature::ECDSA_P384_SHA384_ASN1,
            // 521 bits in 66 bytes.
            (528, oid) if *oid == OID_SIG_ECDSA_WITH_SHA256 => &signature::ECDSA_P521_SHA256_ASN1,
            (528, oid) if *oid == OID_SIG_ECDSA_WITH_SHA384 => &signature::ECDSA_P521_SHA384_ASN1,
            (528, oid) if *oid == OID_SIG_ECDSA_WITH_SHA512 => &signature::ECDSA_P521_SHA512_ASN1,
            _ => return Err(WRONG_SIGNATURE.to_owned()),
        },
        PublicKey::RSA(_) => return Err(WRONG_SIGNATURE.to_owned()),
        _ => return Err(WRONG_KEY.to_owned()),
    };
    UnparsedPublicKey::new(algorithm, &info.subject_pki.subject_public_key.data)
        .verify(info.raw, &request.signature_value.data)
        .map_err(|_| "is not signed with the key that it is for".to_owned())
}

const WRONG_SIGNATURE: &str =
    "is signed by an algorithm that does not fit its key; use SHA-256, SHA-384 or SHA-512";

fn subject(name: &X509Name<'_>) -> Result<Option<DistinguishedName>, String> {
    let mut subject = DistinguishedName::new();
    let mut is_empty = true;
    for attribute in name.iter_attributes() {
        let value = attribute.as_str().map_err(|_| "has a subject that is no text")?;
        let oid: Vec<u64> = match attribute.attr_type().iter() {
            Some(arcs) => arcs.collect(),
            None => return Err("has a subject with an attribute type that is too large".to_owned()),
        };
        subject.push(DnType::from_oid(&oid), value);
        is_empty = false;
    }
    Ok((!is_empty).then_some(subject))
}
