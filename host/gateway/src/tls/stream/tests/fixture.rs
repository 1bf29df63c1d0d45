//! Certificates, clients and connected pairs on loopback sockets.

use super::super::{TlsStream, accept};
use crate::tls::{ALPN_MQTT, Presented, server_config};
use rcgen::{CertificateParams, CertifiedKey, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use rustls::{SupportedProtocolVersion, version};
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

pub type Client = tokio_rustls::client::TlsStream<TcpStream>;

pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// Self-signed, for the server, for the server after a renewal, and for a device.
pub static SERVER: LazyLock<CertifiedKey<KeyPair>> = LazyLock::new(|| certificate("localhost"));
pub static RENEWED: LazyLock<CertifiedKey<KeyPair>> = LazyLock::new(|| certificate("localhost"));
pub static DEVICE: LazyLock<CertifiedKey<KeyPair>> = LazyLock::new(|| certificate("device"));

fn certificate(name: &str) -> CertifiedKey<KeyPair> {
    let signing_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    CertifiedKey { cert: params.self_signed(&signing_key).unwrap(), signing_key }
}

pub fn key(of: &CertifiedKey<KeyPair>) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(of.signing_key.serialize_der()).unwrap()
}

pub fn server() -> Arc<ServerConfig> {
    renewable().0
}

/// A server, and what it presents.
pub fn renewable() -> (Arc<ServerConfig>, Arc<Presented>) {
    let presented = Presented::new(vec![SERVER.cert.der().clone()], key(&SERVER)).unwrap();
    (Arc::new(server_config(presented.clone()).unwrap()), presented)
}

/// A client that presents the device's certificate, so many times.
pub fn client_with(
    version: &'static SupportedProtocolVersion,
    certificates: usize,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for server in [&SERVER, &RENEWED] {
        roots.add(server.cert.der().clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let chain: Vec<CertificateDer<'_>> = vec![DEVICE.cert.der().clone(); certificates];
    let mut config = match certificates {
        0 => builder.with_no_client_auth(),
        _ => builder.with_client_auth_cert(chain, key(&DEVICE)).unwrap(),
    };
    config.alpn_protocols = vec![ALPN_MQTT.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

pub fn client(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    Arc::new(client_with(version, 1))
}

pub fn server_name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

pub async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// Both ends after the handshake, and the name that the client asked for.
pub async fn named_pair(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> (Client, TlsStream<TcpStream>, Option<Arc<str>>) {
    let (near, far) = sockets().await;
    let connecting = TlsConnector::from(client.clone()).connect(server_name(), near);
    let (client, server) = tokio::join!(connecting, accept(far, server.clone()));
    let (server, name) = server.unwrap();
    (client.unwrap(), server, name)
}

/// Both ends after the handshake.
pub async fn pair(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> (Client, TlsStream<TcpStream>) {
    let (client, server, _) = named_pair(client, server).await;
    (client, server)
}

/// A client whose ciphertext the test sends itself.
pub struct ByHand {
    pub tls: ClientConnection,
    pub socket: std::net::TcpStream,
}

impl ByHand {
    pub async fn pair(
        version: &'static SupportedProtocolVersion,
    ) -> (ByHand, TlsStream<TcpStream>) {
        let (near, far) = sockets().await;
        let tls = ClientConnection::new(client(version), server_name()).unwrap();
        let socket = near.into_std().unwrap();
        socket.set_nonblocking(false).unwrap();
        let handshake = tokio::task::spawn_blocking(move || {
            let mut by_hand = ByHand { tls, socket };
            while by_hand.tls.is_handshaking() || by_hand.tls.wants_write() {
                by_hand.tls.complete_io(&mut by_hand.socket).unwrap();
            }
            by_hand
        });
        let (by_hand, server) = tokio::join!(handshake, accept(far, server()));
        (by_hand.unwrap(), server.unwrap().0)
    }

    /// The record of some plaintext.
    pub fn encrypt(&mut self, plaintext: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(plaintext).unwrap();
        let mut ciphertext = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut ciphertext).unwrap();
        }
        ciphertext
    }

    /// What the server sends next; an error when it is an alert.
    pub fn read(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut plaintext = vec![0; length];
        rustls::Stream::new(&mut self.tls, &mut self.socket).read_exact(&mut plaintext)?;
        Ok(plaintext)
    }
}

/// Reads and writes pieces of other lengths than it is asked for.
pub struct Chopped {
    pub socket: TcpStream,
    pub random: u32,
}

impl Chopped {
    fn length(&mut self, max: usize) -> usize {
        // Knuth's generator; mostly short, so that record headers are cut too.
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let most = if self.random >> 30 == 0 { 8 } else { 40_000 };
        max.min(1 + self.random as usize / 7 % most)
    }
}

impl AsyncRead for Chopped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.length(buffer.remaining());
        let mut piece = buffer.take(length);
        let polled = Pin::new(&mut self.socket).poll_read(context, &mut piece);
        let length = piece.filled().len();
        // Initialized: the piece is of a buffer that was.
        buffer.initialize_unfilled_to(length);
        buffer.advance(length);
        polled
    }
}

impl AsyncWrite for Chopped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let length = self.length(bytes.len());
        Pin::new(&mut self.socket).poll_write(context, &bytes[..length])
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
