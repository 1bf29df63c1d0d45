//! TLS: the server's configuration, and proof that a client owns its certificate's key.
//!
//! In: certificate chain and key of the server. Out: a `rustls::ServerConfig`.
//! Not here: whether a client certificate is known, active and in its validity: the registry
//! decides at CONNECT, as AWS does. A handshake proves possession of the key and nothing else,
//! so that the refusal of an unknown certificate can be told and logged like any other.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use std::sync::Arc;

/// ALPN names: MQTT with a client certificate, MQTT with a custom authorizer, HTTPS with a client
/// certificate, HTTPS. Source: AWS IoT developer guide, "Device communication protocols".
pub const ALPN_MQTT_CA: &[u8] = b"x-amzn-mqtt-ca";
/// See [`ALPN_MQTT_CA`].
pub const ALPN_MQTT: &[u8] = b"mqtt";
const ALPN_HTTP_CA: &[u8] = b"x-amzn-http-ca";
const ALPN_HTTP: &[u8] = b"http/1.1";

/// TLS 1.2 and 1.3; a client certificate is asked for and not demanded; no early data.
///
/// # Errors
/// Certificate and key do not belong together or cannot be read.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Possession::new(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols =
        [ALPN_MQTT_CA, ALPN_MQTT, ALPN_HTTP_CA, ALPN_HTTP].map(<[u8]>::to_vec).into();
    Ok(config)
}

/// Accepts any certificate whose key signs the handshake.
#[derive(Debug)]
struct Possession {
    algorithms: WebPkiSupportedAlgorithms,
}

impl Possession {
    fn new(provider: &CryptoProvider) -> Self {
        Self { algorithms: provider.signature_verification_algorithms }
    }
}

impl ClientCertVerifier for Possession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // None: devices come with certificates of many authorities.
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
