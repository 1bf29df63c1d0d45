//! TLS: the server's configuration, and proof that a client owns its certificate's key.
//!
//! In: certificate chain and key of the server, also new ones while connections are open. Out: a
//! `rustls::ServerConfig`; [`stream`] runs it.
//! Not here: whether a client certificate is known, active and in its validity: the registry
//! decides at CONNECT, as AWS does. A handshake proves possession of the key and nothing else,
//! so that the refusal of an unknown certificate can be told and logged like any other.

mod records;
pub mod stream;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use std::cell::Cell;
use std::sync::{Arc, PoisonError, RwLock};

/// ALPN names: MQTT with a client certificate, MQTT with a custom authorizer, HTTPS with a client
/// certificate, HTTPS. Source: AWS IoT developer guide, "Device communication protocols".
pub const ALPN_MQTT_CA: &[u8] = b"x-amzn-mqtt-ca";
/// See [`ALPN_MQTT_CA`].
pub const ALPN_MQTT: &[u8] = b"mqtt";
const ALPN_HTTP_CA: &[u8] = b"x-amzn-http-ca";
const ALPN_HTTP: &[u8] = b"http/1.1";

/// Sessions of TLS 1.2 clients without tickets that can be resumed; the oldest goes first.
///
/// 4,096 x about 1.2 KiB (mostly the client's certificate) = 5 MiB.
pub const CACHED_SESSIONS_MAX: usize = 4_096;

thread_local! {
    /// The server name of the handshake message that this thread has just handled: rustls tells it
    /// to whoever chooses the certificate, and not to users of its unbuffered API.
    static ASKED_NAME: Cell<Option<Arc<str>>> = const { Cell::new(None) };
}

/// TLS 1.2 and 1.3; a client certificate is asked for and not demanded; no early data.
///
/// Sessions can be resumed for 6 to 12 hours by tickets, which hold the session, the client's
/// certificates included, encrypted with a key of this process that changes every 6 hours: nothing
/// is kept per session. One ticket per handshake, because a device has one connection. Who sends
/// none and is below TLS 1.3 has [`CACHED_SESSIONS_MAX`].
///
/// # Errors
/// As rustls says; none is known.
pub fn server_config(presented: Arc<Presented>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Possession::new(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(presented);
    config.alpn_protocols =
        [ALPN_MQTT_CA, ALPN_MQTT, ALPN_HTTP_CA, ALPN_HTTP].map(<[u8]>::to_vec).into();
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    config.session_storage = ServerSessionMemoryCache::new(CACHED_SESSIONS_MAX);
    Ok(config)
}

/// The host's one certificate, presented whatever the client calls the host.
#[derive(Debug)]
pub struct Presented(RwLock<Arc<CertifiedKey>>);

impl Presented {
    /// To be presented from the first handshake.
    ///
    /// # Errors
    /// Certificate and key do not belong together or cannot be read.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Arc<Self>, rustls::Error> {
        Ok(Arc::new(Self(RwLock::new(certified(chain, key)?))))
    }

    /// Presents this from the next handshake on, unless it is what is presented already; true when
    /// it differs. Connections that are open, and sessions that are resumed, do not notice.
    ///
    /// # Errors
    /// As [`Presented::new`]; then the present one stays.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<bool, rustls::Error> {
        let new = certified(chain, key)?;
        let mut present = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let differs = present.cert != new.cert;
        if differs {
            *present = new;
        }
        Ok(differs)
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map(Arc::new)
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ASKED_NAME.set(hello.server_name().map(Into::into));
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
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
