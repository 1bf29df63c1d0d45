//! The port to whoever makes keys, signs certificates and checks signatures; implemented by
//! `gnomon-pki`.

use super::Expiring;

/// A fresh key pair with its certificate. Exists only on its way to the device's owner: the host
/// keeps the certificate, never the private key.
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// SubjectPublicKeyInfo.
    pub public_key_pem: String,
    /// The secret.
    pub private_key_pem: String,
}

/// Why nothing was issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The request cannot be fulfilled; the text says what is wrong with it.
    #[error("{0}")]
    Request(String),
    /// Keys or signatures cannot be made now.
    #[error("{0}")]
    Failed(String),
}

/// Makes device certificates. Calls take a while and run where blocking is allowed.
pub trait Issuer: Send + Sync + 'static {
    /// A new key pair and its certificate.
    ///
    /// # Errors
    /// [`IssueError::Failed`].
    fn issue(&self) -> Result<Issued, IssueError>;

    /// A certificate, as PEM, for the key of a certificate signing request (PKCS #10, PEM).
    ///
    /// # Errors
    /// [`IssueError::Request`] when the request is none or its signature is wrong.
    fn sign(&self, request_pem: &str) -> Result<String, IssueError>;

    /// True when the key of the CA's certificate signed the other one, and the one names the other as
    /// its issuer; both in DER form.
    fn is_signed_by(&self, certificate: &[u8], ca: &[u8]) -> bool;

    /// The certificates that the host itself lives by, and their ends.
    fn own_certificates(&self) -> Vec<Expiring> {
        Vec::new()
    }
}
