//! Handshakes that must not succeed: old versions, stolen certificates, torn and stalled messages.
//! Source: RFC 8446 and RFC 5246.

use super::{Host, Peer, get, host, host_of};
use rcgen::{
    CertificateParams, CertifiedKey, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ECDSA_P521_SHA512, PKCS_ED25519, SignatureAlgorithm,
};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion, sign, version,
};
use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

static SERVER: LazyLock<CertifiedKey<KeyPair>> =
    LazyLock::new(|| certificate("localhost", &PKCS_ECDSA_P256_SHA256));

fn certificate(name: &str, algorithm: &'static SignatureAlgorithm) -> CertifiedKey<KeyPair> {
    let signing_key = KeyPair::generate_for(algorithm).unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    CertifiedKey { cert: params.self_signed(&signing_key).unwrap(), signing_key }
}

fn key(of: &CertifiedKey<KeyPair>) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(of.signing_key.serialize_der()).unwrap()
}

fn server() -> Arc<ServerConfig> {
    let chain = vec![SERVER.cert.der().clone()];
    let presented = gnomon_gateway::tls::Presented::new(chain, key(&SERVER)).unwrap();
    Arc::new(gnomon_gateway::tls::server_config(presented).unwrap())
}

async fn tls_host() -> Host {
    host(false, Some(server())).await
}

/// Presents this chain and signs with this key, whether or not they belong together.
#[derive(Debug)]
struct Claims(Arc<sign::CertifiedKey>);

impl Claims {
    fn new(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'static>) -> Self {
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(key).unwrap();
        Self(Arc::new(sign::CertifiedKey::new(chain, key)))
    }
}

impl ResolvesClientCert for Claims {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<sign::CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn client(version: &'static SupportedProtocolVersion, claims: Option<Claims>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(SERVER.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match claims {
        Some(claims) => builder.with_client_cert_resolver(Arc::new(claims)),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config
}

fn name(text: &'static str) -> ServerName<'static> {
    ServerName::try_from(text).unwrap()
}

/// What the host answers to a GET, or the alert that it sends.
async fn ask(host: &Host, client: ClientConfig) -> Result<String, AlertDescription> {
    let socket = TcpStream::connect(host.address).await.unwrap();
    let alert = |error: std::io::Error| {
        let error = error.into_inner().and_then(|error| error.downcast::<Error>().ok());
        match error.as_deref() {
            Some(Error::AlertReceived(alert)) => *alert,
            other => panic!("no alert: {other:?}"),
        }
    };
    let connector = TlsConnector::from(Arc::new(client));
    let mut socket = connector.connect(name("localhost"), socket).await.map_err(alert)?;
    // A client of TLS 1.3 is ready before the host has looked at its certificate.
    let _ = socket.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.map_err(alert)?;
    let answer = String::from_utf8(answer).unwrap();
    Ok(answer.rsplit("\r\n\r\n").next().unwrap().to_owned())
}

/// Somebody else is served.
async fn canary(host: &Host) {
    let answer = ask(host, client(&version::TLS13, None)).await.unwrap();
    assert!(answer.ends_with("certificate 0"), "{answer}");
}

/// What comes back to these bytes until the host closes.
async fn raw(host: &Host, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(host.address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // Reset, when it has not read all: what came before counts.
    let _ = socket.read_to_end(&mut answer).await;
    answer
}

fn with_length<const BYTES: usize>(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_be_bytes();
    [&length[8 - BYTES..], content].concat()
}

/// A ClientHello of this version with these cipher suites and extensions, in one record.
fn hello(version: u16, suites: &[u16], extensions: &[u8]) -> Vec<u8> {
    let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    let body = [
        &version.to_be_bytes()[..],
        &[7; 32],
        &with_length::<1>(&[]),
        &with_length::<2>(&suites),
        &with_length::<1>(&[0]),
        &with_length::<2>(extensions),
    ]
    .concat();
    let message = [&[1][..], &with_length::<3>(&body)].concat();
    [&[0x16, 3, 1][..], &with_length::<2>(&message)].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &with_length::<2>(content)].concat()
}

/// `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`, on P-256, by ECDSA with SHA-256.
const GOOD_SUITE: u16 = 0xc02b;

fn good_extensions() -> Vec<u8> {
    let groups = extension(10, &with_length::<2>(&[0, 23]));
    let signatures = extension(13, &with_length::<2>(&[4, 3]));
    [groups, signatures].concat()
}

/// A fatal alert and nothing else.
fn alert(description: AlertDescription) -> Vec<u8> {
    vec![0x15, 3, 3, 0, 2, 2, description.into()]
}

#[tokio::test]
async fn versions_and_suites_that_are_broken_are_refused_with_an_alert() {
    let host = tls_host().await;
    let good = good_extensions();
    // It is a good one but for what is tried.
    assert_eq!(raw_head(&host, &hello(0x0303, &[GOOD_SUITE], &good)).await, [0x16, 3, 3]);
    for old in [0x0200, 0x0300, 0x0301, 0x0302] {
        let refused = raw(&host, &hello(old, &[GOOD_SUITE], &good)).await;
        assert_eq!(refused, alert(AlertDescription::ProtocolVersion), "{old:x}");
    }
    // Nothing, NULL, export, RC4, 3DES, CBC.
    for suite in [0x0000, 0x0001, 0x0003, 0x0005, 0x000a, 0x002f, 0xc009] {
        let refused = raw(&host, &hello(0x0303, &[suite], &good)).await;
        assert_eq!(refused, alert(AlertDescription::HandshakeFailure), "{suite:x}");
    }
    canary(&host).await;
}

/// The first bytes that come back.
async fn raw_head(host: &Host, bytes: &[u8]) -> [u8; 3] {
    let mut socket = TcpStream::connect(host.address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut head = [0; 3];
    socket.read_exact(&mut head).await.unwrap();
    head
}

#[tokio::test]
async fn names_that_are_none_are_refused_and_others_get_the_one_certificate() {
    let host = tls_host().await;
    let server_name = |kind: u8, name: &[u8]| {
        let entry = [&[kind][..], &with_length::<2>(name)].concat();
        [good_extensions(), extension(0, &with_length::<2>(&entry))].concat()
    };
    for asked in [&b"other.example"[..], b"LOCALHOST", b"127.0.0.1"] {
        let hello = hello(0x0303, &[GOOD_SUITE], &server_name(0, asked));
        assert_eq!(raw_head(&host, &hello).await, [0x16, 3, 3], "{}", asked.escape_ascii());
    }
    let long = vec![b'a'; 10_000];
    for asked in [&b""[..], b"local\0host", b"../..", b"a b", b"\xff\xfe", b"*", &long] {
        let refused = raw(&host, &hello(0x0303, &[GOOD_SUITE], &server_name(0, asked))).await;
        assert_eq!(refused[..2], [0x15, 3], "{}: {refused:02x?}", asked.escape_ascii());
    }
    let twice = [server_name(0, b"a"), extension(0, b"")].concat();
    let refused = raw(&host, &hello(0x0303, &[GOOD_SUITE], &twice)).await;
    assert_eq!(refused[..2], [0x15, 3], "{refused:02x?}");
    let socket = TcpStream::connect(host.address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(client(&version::TLS13, None)));
    let error = connector.connect(name("other.example"), socket).await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
    canary(&host).await;
}

#[tokio::test]
async fn a_protocol_that_is_not_spoken_is_refused_with_an_alert() {
    let host = tls_host().await;
    for version in VERSIONS {
        let by = |protocols: &[&str]| {
            let mut client = client(version, None);
            client.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
            client
        };
        for protocols in [&["h2"][..], &["mqtt5", "amqp"], &["x-amzn-mqtt-ca "]] {
            let refused = ask(&host, by(protocols)).await;
            assert_eq!(refused, Err(AlertDescription::NoApplicationProtocol), "{protocols:?}");
        }
        // Not the first, but the one that is.
        ask(&host, by(&["h2", "http/1.1"])).await.unwrap();
        // MQTT is not offered here: the host waits for a request.
        ask(&host, by(&["x-amzn-mqtt-ca"])).await.unwrap();
    }
    canary(&host).await;
}

#[tokio::test]
async fn whoever_has_not_the_key_of_a_certificate_does_not_present_it() {
    let host = tls_host().await;
    let device = certificate("device", &PKCS_ECDSA_P256_SHA256);
    let thief = certificate("thief", &PKCS_ECDSA_P256_SHA256);
    let of = |it: &CertifiedKey<KeyPair>| it.cert.der().clone();
    for version in VERSIONS {
        let honest = Claims::new(vec![of(&device)], &key(&device));
        let told = format!("certificate {}", of(&device).len());
        assert!(ask(&host, client(version, Some(honest))).await.unwrap().ends_with(&told));
        // The chain is no matter: whose key signs is the first.
        let followed = Claims::new(vec![of(&device), of(&thief), of(&SERVER)], &key(&device));
        assert!(ask(&host, client(version, Some(followed))).await.unwrap().ends_with(&told));
        for (chain, expected) in [
            (vec![of(&device)], AlertDescription::DecryptError),
            (vec![of(&device), of(&thief)], AlertDescription::DecryptError),
            (vec![vec![0xff; 500].into()], AlertDescription::BadCertificate),
            (vec![Vec::new().into()], AlertDescription::BadCertificate),
        ] {
            let claims = Claims::new(chain.clone(), &key(&thief));
            let refused = ask(&host, client(version, Some(claims))).await;
            assert_eq!(refused, Err(expected), "{:?} {}", version.version, chain[0].len());
        }
    }
    canary(&host).await;
}

#[tokio::test]
async fn keys_on_every_curve_of_the_registry_can_prove_themselves() {
    let host = tls_host().await;
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ECDSA_P521_SHA512, &PKCS_ED25519] {
        let device = certificate("device", algorithm);
        for version in VERSIONS {
            let claims = Claims::new(vec![device.cert.der().clone()], &key(&device));
            let answer = ask(&host, client(version, Some(claims))).await;
            let told = format!("certificate {}", device.cert.der().len());
            assert!(answer.unwrap().ends_with(&told), "{algorithm:?} {:?}", version.version);
        }
    }
}

#[tokio::test]
async fn nothing_is_taken_before_the_handshake_is_done() {
    let host = tls_host().await;
    let mut client = client(&version::TLS13, None);
    client.resumption = Resumption::in_memory_sessions(8);
    client.enable_early_data = true;
    // The first brings a ticket: a session can be resumed, and nothing sent with its first message.
    ask(&host, client.clone()).await.unwrap();
    let mut again = ClientConnection::new(Arc::new(client.clone()), name("localhost")).unwrap();
    assert!(again.early_data().is_none());
    let mut hello = Vec::new();
    again.write_tls(&mut hello).unwrap();
    // `pre_shared_key` (RFC 8446, 4.2.11) is there, so a ticket was.
    assert!(hello.windows(2).any(|it| it == [0, 41]), "{hello:02x?}");
    ask(&host, client).await.unwrap();
}

/// Sends the first message of a client as `records` says, and speaks TLS from then on.
async fn chopped(host: &Host, records: fn(&[u8]) -> Vec<u8>) -> std::io::Result<String> {
    let address = host.address;
    let talk = move || {
        let config = Arc::new(client(&version::TLS12, None));
        let mut tls = ClientConnection::new(config, name("localhost")).unwrap();
        let mut hello = Vec::new();
        tls.write_tls(&mut hello)?;
        let mut socket = std::net::TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.write_all(&records(&hello[5..]))?;
        let mut stream = rustls::Stream::new(&mut tls, &mut socket);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    tokio::task::spawn_blocking(talk).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_message_in_records_of_a_byte_is_one_message() {
    let host = tls_host().await;
    let bytewise = |message: &[u8]| -> Vec<u8> {
        message.iter().flat_map(|byte| [0x16, 3, 1, 0, 1, *byte]).collect()
    };
    let answer = chopped(&host, bytewise).await.unwrap();
    assert!(answer.ends_with("certificate 0"), "{answer}");
    // Records without content, between them, are nobody's message.
    let padded = |message: &[u8]| -> Vec<u8> {
        let (first, rest) = message.split_at(1);
        let record = |it: &[u8]| [&[0x16, 3, 1][..], &with_length::<2>(it)].concat();
        [record(first), record(&[]), record(rest)].concat()
    };
    chopped(&host, padded).await.unwrap_err();
    canary(&host).await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stalls_is_not_waited_for() {
    let host = tls_host().await;
    let whole = hello(0x0303, &[GOOD_SUITE], &good_extensions());
    for length in [0, 1, 5, 40, whole.len() - 1] {
        assert_eq!(raw(&host, &whole[..length]).await, b"", "{length}");
    }
    // The host's answer comes, and then nothing for it.
    let answer = raw(&host, &whole).await;
    assert_eq!(answer[..3], [0x16, 3, 3]);
    canary(&host).await;
}

#[tokio::test]
async fn half_open_connections_take_no_place_from_others_beyond_their_time() {
    const HALF_OPEN: usize = 400;
    let host = host_with_places(HALF_OPEN + 1).await;
    let whole = hello(0x0303, &[GOOD_SUITE], &good_extensions());
    let mut silent = Vec::new();
    for _ in 0..HALF_OPEN {
        let mut socket = TcpStream::connect(host.address).await.unwrap();
        socket.write_all(&whole[..whole.len() / 2]).await.unwrap();
        silent.push(socket);
    }
    // One place is left, and enough for everybody after the other.
    for _ in 0..20 {
        tokio::time::timeout(Duration::from_secs(2), canary(&host)).await.unwrap();
    }
    let last = TcpStream::connect(host.address).await.unwrap();
    let waiting = ask(&host, client(&version::TLS13, None));
    tokio::pin!(waiting);
    let patience = Duration::from_millis(300);
    assert!(tokio::time::timeout(patience, &mut waiting).await.is_err());
    // Their ten seconds.
    waiting.await.unwrap();
    for socket in &mut silent {
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"");
    }
    drop(last);
    canary(&host).await;
}

async fn host_with_places(connections_max: usize) -> Host {
    host_of(Arc::new(Peer), false, Some(server()), connections_max).await
}

#[tokio::test]
async fn plain_http_on_a_listener_with_tls_is_an_alert() {
    let host = tls_host().await;
    let answer = raw(&host, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(answer[..2], [0x15, 3], "{answer:02x?}");
    let mut plain = TcpStream::connect(host.address).await.unwrap();
    assert!(!get(&mut plain).await.contains("peer"));
    canary(&host).await;
}
