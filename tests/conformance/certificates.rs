//! Certificates that must not open a connection, over TLS and over WebSockets in TLS: the handshake
//! proves who has the key, CONNECT asks the registry.

use crate::packets::{Connect, client_id};
use crate::server::{self, Secure, wait};
use crate::wire::Version;
use gnomon_core::ids::PolicyName;
use gnomon_core::registry::{Certificate, CertificateStatus, Registry};
use gnomon_core::time::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

const ACCEPTED: u8 = 0;
/// CONNACK of 3.1.1.
const NOT_AUTHORIZED: u8 = 5;

/// 2020-06-01, when what has ended since was good.
const ONCE: Timestamp = Timestamp::from_millis(1_590_969_600_000);

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A certificate and its key.
struct Device {
    pem: String,
    der: CertificateDer<'static>,
    key: KeyPair,
}

impl Device {
    fn new(change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::with_key(KeyPair::generate().unwrap(), change)
    }

    fn with_key(key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2049, 1, 1);
        params.distinguished_name.push(DnType::CommonName, "device");
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().clone(), key }
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    /// Registered, with the policy.
    fn registered(
        &self,
        registry: &Registry,
        status: CertificateStatus,
        policy: &str,
    ) -> Certificate {
        wait(async {
            let registered = registry.register_certificate_without_ca(&self.pem, status).await;
            let certificate = registered.unwrap();
            let policy = PolicyName::parse(policy).unwrap();
            registry.attach_policy(&policy, &certificate.id).await.unwrap();
            certificate
        })
    }
}

fn config(secure: &Secure, device: Option<&Device>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(secure.root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match device {
        Some(device) => {
            builder.with_client_auth_cert(vec![device.der.clone()], device.key()).unwrap()
        }
        None => builder.with_no_client_auth(),
    })
}

fn dial(address: SocketAddr, config: &Arc<ClientConfig>) -> Stream {
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    StreamOwned::new(ClientConnection::new(config.clone(), name).unwrap(), socket)
}

fn connect(client_id: &str) -> Vec<u8> {
    Connect { client_id: client_id.to_owned(), ..Connect::new(Version::V311) }.bytes()
}

/// The code of the CONNACK.
#[track_caller]
fn code(stream: &mut Stream) -> u8 {
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack[..2], [0x20, 2], "{connack:02x?}");
    connack[3]
}

/// The code that answers a CONNECT over TLS.
#[track_caller]
fn over_tls(secure: &Secure, device: Option<&Device>, client_id: &str) -> u8 {
    let mut stream = dial(secure.mqtt, &config(secure, device));
    stream.write_all(&connect(client_id)).unwrap();
    code(&mut stream)
}

/// The same over a WebSocket.
#[track_caller]
fn over_websocket(secure: &Secure, device: Option<&Device>, client_id: &str) -> u8 {
    let mut stream = dial(secure.https, &config(secure, device));
    let upgrade = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", head.escape_ascii());
    let packet = connect(client_id);
    // Masked by zeros, so that it reads as it is.
    let length = 0x80 | u8::try_from(packet.len()).unwrap();
    stream.write_all(&[&[0x82, length, 0, 0, 0, 0][..], &packet].concat()).unwrap();
    let mut frame = [0; 2];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame, [0x82, 4]);
    code(&mut stream)
}

#[track_caller]
fn check(secure: &Secure, device: Option<&Device>, expected: u8, what: &str) {
    assert_eq!(over_tls(secure, device, &client_id()), expected, "{what}");
    assert_eq!(over_websocket(secure, device, &client_id()), expected, "{what}, WebSocket");
}

#[test]
fn only_a_certificate_that_is_registered_active_and_in_its_time_opens() {
    let Some(secure) = server::secure() else { return };
    let (active, policy) = (CertificateStatus::Active, "Tests");
    let registry = &secure.registry;
    let good = Device::new(|_| {});
    good.registered(registry, active, policy);
    let canary = || check(&secure, Some(&good), ACCEPTED, "the canary");
    canary();
    check(&secure, None, NOT_AUTHORIZED, "none");
    check(&secure, Some(&Device::new(|_| {})), NOT_AUTHORIZED, "not registered");

    let expired = Device::new(|it| it.not_after = date_time_ymd(2021, 1, 1));
    expired.registered(&secure.registry_at(ONCE), active, policy);
    check(&secure, Some(&expired), NOT_AUTHORIZED, "expired");
    let early = Device::new(|it| it.not_before = date_time_ymd(2048, 1, 1));
    early.registered(registry, active, policy);
    check(&secure, Some(&early), NOT_AUTHORIZED, "not valid yet");
    for status in [CertificateStatus::Inactive, CertificateStatus::Revoked] {
        let device = Device::new(|_| {});
        device.registered(registry, status, policy);
        check(&secure, Some(&device), NOT_AUTHORIZED, status.as_str());
    }
    // A certificate is known as a whole: neither its key nor its names open anything.
    let again = KeyPair::from_pem(&good.key.serialize_pem()).unwrap();
    let twin = Device::with_key(again, |it| it.serial_number = Some(7.into()));
    check(&secure, Some(&twin), NOT_AUTHORIZED, "another certificate of a registered key");
    let twin_id = twin.registered(registry, active, policy).id;
    check(&secure, Some(&twin), ACCEPTED, "two certificates of a key");
    wait(registry.update_certificate(&twin_id, CertificateStatus::Revoked)).unwrap();
    check(&secure, Some(&twin), NOT_AUTHORIZED, "one of them revoked");
    // One of a CA is a device's like others; what it signs is nobody's.
    let ca = Device::new(|it| it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    ca.registered(registry, active, policy);
    check(&secure, Some(&ca), ACCEPTED, "CA:TRUE");
    canary();
}

#[test]
fn a_session_of_tls_does_not_outlive_its_certificate() {
    let Some(secure) = server::secure() else { return };
    let device = Device::new(|_| {});
    let id = device.registered(&secure.registry, CertificateStatus::Active, "Tests").id;
    let config = config(&secure, Some(&device));
    let come = || {
        let mut stream = dial(secure.mqtt, &config);
        stream.write_all(&connect(&client_id())).unwrap();
        let code = code(&mut stream);
        (code, stream.conn.handshake_kind())
    };
    assert_eq!(come(), (ACCEPTED, Some(HandshakeKind::Full)));
    assert_eq!(come(), (ACCEPTED, Some(HandshakeKind::Resumed)));
    wait(secure.registry.update_certificate(&id, CertificateStatus::Revoked)).unwrap();
    assert_eq!(come(), (NOT_AUTHORIZED, Some(HandshakeKind::Resumed)));
    wait(secure.registry.update_certificate(&id, CertificateStatus::Active)).unwrap();
    assert_eq!(come().0, ACCEPTED);
}

#[test]
fn what_a_certificate_calls_itself_is_a_text_and_nothing_else() {
    let Some(secure) = server::secure() else { return };
    let policy = r#"{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource":
         "arn:aws:iot:us-east-1:123456789012:client/${iot:Certificate.Subject.CommonName}"}]}"#;
    let name = PolicyName::parse("ByName").unwrap();
    wait(secure.registry.create_policy(&name, policy)).unwrap();
    let names =
        ["truck", "truck\0x", "*", "?????", "${iot:ClientId}", "truck/../x", "\u{202e}kcurt"];
    for common_name in names {
        let device = Device::new(|it| it.distinguished_name.push(DnType::CommonName, common_name));
        device.registered(&secure.registry, CertificateStatus::Active, "ByName");
        let expected = if common_name == "truck" { ACCEPTED } else { NOT_AUTHORIZED };
        assert_eq!(over_tls(&secure, Some(&device), "truck"), expected, "{common_name:?}");
    }
}
