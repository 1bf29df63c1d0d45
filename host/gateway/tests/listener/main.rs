//! A listener on loopback: PROXY headers, and what attackers send as TLS and HTTP.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod hostile_http;
mod hostile_tls;

use bytes::Bytes;
use gnomon_core::adapter::{HttpHandler, HttpRequest};
use gnomon_core::limits::Limits;
use gnomon_core::metrics::Metrics;
use gnomon_core::session;
use gnomon_gateway::http::Service;
use gnomon_gateway::listener::{Listener, ListenerConfig, Protocol};
use gnomon_gateway::tls::{Presented, server_config};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Tells who the peer is.
struct Peer;

#[async_trait::async_trait]
impl HttpHandler for Peer {
    async fn handle(&self, request: HttpRequest) -> http::Response<Bytes> {
        let certificate = request.client_certificate.unwrap_or_default();
        let text = format!("peer {} certificate {}", request.peer, certificate.len());
        http::Response::new(text.into())
    }
}

/// Ends with the test.
struct Host {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn host(proxy: bool, tls: Option<Arc<ServerConfig>>) -> Host {
    host_of(Arc::new(Peer), proxy, tls, 8).await
}

/// Bodies may have 1,024 bytes.
async fn host_of(
    handler: Arc<dyn HttpHandler>,
    proxy: bool,
    tls: Option<Arc<ServerConfig>>,
    connections_max: usize,
) -> Host {
    let stop = CancellationToken::new();
    let metrics: Arc<Metrics> = Arc::default();
    let config = ListenerConfig {
        name: "test".into(),
        bind: "127.0.0.1:0".parse().unwrap(),
        tls,
        insecure: false,
        session: Arc::new(session::Config {
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(10),
            compat: session::Compat::Mqtt,
            redirect: None,
            metrics: metrics.clone(),
            tells_offences: false,
        }),
        anonymous_policy: None,
        connections_max,
        connects_per_second: 0,
        proxy,
        protocol: Protocol::Http(Service {
            handler,
            mqtt: None,
            body_bytes_max: 1_024,
            stop: stop.clone(),
        }),
    };
    let listener = Listener::bind(config).await.unwrap();
    let address = listener.address;
    let tasks = TaskTracker::new();
    tasks.clone().spawn(listener.run(stop.clone(), stop.clone(), tasks));
    Host { address, metrics, stop }
}

/// The header with these bytes behind the signature, and the length of the rest.
fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

async fn get<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut S) -> String {
    let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    // Refused meanwhile: then there is nothing to read either.
    let _ = socket.write_all(request).await;
    let mut response = Vec::new();
    let _ = socket.read_to_end(&mut response).await;
    let response = String::from_utf8(response).unwrap();
    response.rsplit("\r\n\r\n").next().unwrap().to_owned()
}

/// The answer to a request behind these bytes; `LOCAL` stands for the socket's own address.
async fn check(host: &Host, bytes: &[u8], expected: &str) {
    let mut socket = TcpStream::connect(host.address).await.unwrap();
    let own = socket.local_addr().unwrap().to_string();
    socket.write_all(bytes).await.unwrap();
    assert_eq!(get(&mut socket).await, expected.replace("LOCAL", &own), "{bytes:02x?}");
}

const IPV4: [u8; 12] = [192, 0, 2, 7, 127, 0, 0, 1, 0x1f, 0x90, 0x22, 0xb3];

fn ipv6() -> Vec<u8> {
    let source = "2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets();
    [&source[..], &[0; 16], &[0x1f, 0x90], &[0, 1]].concat()
}

#[tokio::test]
async fn a_proxy_header_tells_the_peer() {
    let host = host(true, None).await;
    let told = "peer 192.0.2.7:8080 certificate 0";
    check(&host, &header(0x21, 0x11, &IPV4), told).await;
    check(&host, &header(0x21, 0x21, &ipv6()), "peer [2001:db8::7]:8080 certificate 0").await;
    // TLVs, up to the longest header there is.
    for more in [3, 24, 25, 536, 65_523] {
        check(&host, &header(0x21, 0x11, &[&IPV4[..], &vec![4; more]].concat()), told).await;
    }
    let ipv6 = [ipv6(), vec![4; 700]].concat();
    check(&host, &header(0x21, 0x21, &ipv6), "peer [2001:db8::7]:8080 certificate 0").await;
    // A health check, and a client that the load balancer does not know.
    let own = "peer LOCAL certificate 0";
    check(&host, &header(0x20, 0x00, &[]), own).await;
    check(&host, &header(0x20, 0x11, &IPV4), own).await;
    check(&host, &header(0x20, 0xff, &[9; 100]), own).await;
    check(&host, &header(0x21, 0x00, &[9; 40]), own).await;
}

#[tokio::test]
async fn without_a_good_proxy_header_nothing_is_answered() {
    let host = host(true, None).await;
    let mut forged = header(0x21, 0x11, &IPV4);
    forged[11] ^= 1;
    let bad = [
        Vec::new(),
        b"PROXY TCP4 192.0.2.7 127.0.0.1 8080 8883\r\n".to_vec(),
        forged,
        header(0x11, 0x11, &IPV4),
        header(0x22, 0x11, &IPV4),
        header(0x21, 0x12, &IPV4),
        header(0x21, 0x31, &[0; 216]),
        header(0x21, 0x11, &IPV4[..11]),
        header(0x21, 0x21, &ipv6()[..35]),
    ];
    for bytes in bad {
        check(&host, &bytes, "").await;
    }
    // It still serves.
    check(&host, &header(0x21, 0x11, &IPV4), "peer 192.0.2.7:8080 certificate 0").await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_header_whose_rest_does_not_come_is_not_waited_for() {
    let host = host(true, None).await;
    let whole = header(0x21, 0x11, &[&IPV4[..], &[4; 20]].concat());
    for length in [0, 5, 14, 20, whole.len() - 1] {
        let mut socket = TcpStream::connect(host.address).await.unwrap();
        socket.write_all(&whole[..length]).await.unwrap();
        let mut response = Vec::new();
        assert_eq!(socket.read_to_end(&mut response).await.unwrap(), 0, "{length}");
    }
}

#[tokio::test]
async fn a_listener_without_proxy_takes_no_header() {
    let host = host(false, None).await;
    check(&host, &[], "peer LOCAL certificate 0").await;
    check(&host, &header(0x21, 0x11, &IPV4), "").await;
}

#[tokio::test]
async fn the_proxy_header_comes_before_tls() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate: CertificateDer<'_> = params.self_signed(&key).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let presented = Presented::new(vec![certificate.clone()], key.clone_key()).unwrap();
    let server = server_config(presented).unwrap();
    let host = host(true, Some(Arc::new(server))).await;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate.clone()], key)
        .unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let name = ServerName::try_from("localhost").unwrap();
    let mut socket = TcpStream::connect(host.address).await.unwrap();
    socket.write_all(&header(0x21, 0x11, &IPV4)).await.unwrap();
    let mut socket = connector.connect(name.clone(), socket).await.unwrap();
    let expected = format!("peer 192.0.2.7:8080 certificate {}", certificate.len());
    assert_eq!(get(&mut socket).await, expected);
    let socket = TcpStream::connect(host.address).await.unwrap();
    assert!(connector.connect(name, socket).await.is_err());
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_and_that_is_counted() {
    let host = host(false, None).await;
    let mut first = Vec::new();
    for _ in 0..8 {
        first.push(TcpStream::connect(host.address).await.unwrap());
    }
    let mut waiting = TcpStream::connect(host.address).await.unwrap();
    waiting.write_all(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let patience = Duration::from_millis(200);
    let read = tokio::time::timeout(patience, waiting.read_to_string(&mut answer)).await;
    assert!(read.is_err(), "{answer}");
    assert_eq!(host.metrics.accepts_paused.get(), 1);
    drop(first);
    let read = tokio::time::timeout(Duration::from_secs(5), waiting.read_to_string(&mut answer));
    read.await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
