//! A raw MQTT client: bytes in, bytes out, so that a test can send what no library would.

use crate::host::Host;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to the host.
pub struct Client(Box<dyn Stream>);

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Client {
    /// Plain TCP.
    #[track_caller]
    pub fn plain(host: &Host, listener: &str) -> Self {
        Self(Box::new(tcp(host.port(listener))))
    }

    /// TLS, with the certificate and key of these PEM files.
    #[track_caller]
    pub fn tls(host: &Host, listener: &str, identity: Option<(&Path, &Path)>) -> Self {
        Self::tls_by(host, listener, identity, None)
    }

    /// The same, and asks for this protocol (ALPN).
    #[track_caller]
    pub fn tls_by(
        host: &Host,
        listener: &str,
        identity: Option<(&Path, &Path)>,
        protocol: Option<&str>,
    ) -> Self {
        Self(Box::new(open_tls(host, listener, identity, protocol)))
    }

    /// Sends CONNECT (3.1.1, clean session, keep-alive 60) and returns the CONNACK's code.
    #[track_caller]
    pub fn connect(&mut self, client_id: &str) -> u8 {
        self.connect_with(client_id, None)
    }

    /// The same with a password and the user name `user`.
    #[track_caller]
    pub fn connect_with(&mut self, client_id: &str, password: Option<&str>) -> u8 {
        self.send(&connect(client_id, password));
        let connack = self.packet().expect("the host closed instead of a CONNACK");
        assert_eq!(connack[..2], [0x20, 2], "{connack:02x?}");
        connack[3]
    }

    /// Subscribes with QoS 1 and returns the SUBACK's code.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str) -> u8 {
        let mut body = vec![0, 1];
        text(&mut body, filter);
        body.push(1);
        self.send(&packet(0x82, &body));
        let suback = self.packet().expect("the host closed instead of a SUBACK");
        assert_eq!(suback[..4], [0x90, 3, 0, 1], "{suback:02x?}");
        suback[4]
    }

    /// Publishes with QoS 1 and waits for the PUBACK.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, payload: &str) {
        self.send(&publish(topic, payload));
        assert_eq!(self.packet().as_deref(), Some(&[0x40, 2, 0, 1][..]));
    }

    /// The next PUBLISH: topic and payload. It is acknowledged when it wants to be; PUBACKs
    /// before it are passed over.
    #[track_caller]
    pub fn message(&mut self) -> (String, String) {
        let mut next = || self.packet().expect("the host closed instead of a PUBLISH");
        let mut packet = next();
        while packet[0] == 0x40 {
            packet = next();
        }
        assert_eq!(packet[0] & 0xf0, 0x30, "{packet:02x?}");
        let start = 1 + packet[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
        let length = usize::from(u16::from_be_bytes([packet[start], packet[start + 1]]));
        let mut at = start + 2 + length;
        let topic = String::from_utf8(packet[start + 2..at].to_vec()).unwrap();
        if packet[0] & 0x06 != 0 {
            self.send(&[0x40, 2, packet[at], packet[at + 1]]);
            at += 2;
        }
        (topic, String::from_utf8(packet[at..].to_vec()).unwrap())
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).and_then(|()| self.0.flush()).unwrap();
    }

    /// The next packet; `None` when the host has closed the connection.
    #[track_caller]
    pub fn packet(&mut self) -> Option<Vec<u8>> {
        let mut packet = vec![self.byte()?];
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            packet.push(byte);
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        for _ in 0..length {
            packet.push(self.byte()?);
        }
        Some(packet)
    }

    /// The host closes the connection without another packet.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        if let Some(packet) = self.packet() {
            panic!("{packet:02x?} instead of the end");
        }
    }

    /// The connection is alive and answers.
    #[track_caller]
    pub fn ping(&mut self) {
        self.send(&[0xc0, 0]);
        assert_eq!(self.packet().as_deref(), Some(&[0xd0, 0][..]));
    }

    #[track_caller]
    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.0.read(&mut byte) {
            Ok(0) => None,
            Ok(_) => Some(byte[0]),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe
                ) =>
            {
                None
            }
            Err(error) => panic!("nothing came: {error}"),
        }
    }
}

/// The certificate that the host presents, in DER form.
#[track_caller]
pub fn server_certificate(host: &Host, listener: &str) -> Vec<u8> {
    let mut stream = open_tls(host, listener, None, None);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

#[track_caller]
fn open_tls(
    host: &Host,
    listener: &str,
    identity: Option<(&Path, &Path)>,
    protocol: Option<&str>,
) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(host.ca_file()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocol.into_iter().map(Into::into).collect();
    let name = ServerName::try_from("localhost").unwrap();
    let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    rustls::StreamOwned::new(session, tcp(host.port(listener)))
}

fn tcp(port: u16) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket
}

/// CONNECT of 3.1.1 with clean session; a password comes with the user name `user`.
fn connect(client_id: &str, password: Option<&str>) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4];
    body.push(if password.is_some() { 0xc2 } else { 0x02 });
    body.extend([0, 60]);
    text(&mut body, client_id);
    if let Some(password) = password {
        text(&mut body, "user");
        text(&mut body, password);
    }
    packet(0x10, &body)
}

/// PUBLISH with QoS 1 and packet identifier 1.
pub fn publish(topic: &str, payload: &str) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic);
    body.extend([0, 1]);
    body.extend(payload.as_bytes());
    packet(0x32, &body)
}

/// A packet of this first byte and this body, with its remaining length between them.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length % 128).unwrap();
        length /= 128;
        packet.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

/// Appends a string with its length.
pub fn text(body: &mut Vec<u8>, text: &str) {
    body.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    body.extend(text.as_bytes());
}
