//! Against rustls' client on loopback sockets.

mod fixture;

use super::*;
use fixture::{ByHand, Chopped, Client, DEVICE, RENEWED, SERVER, VERSIONS, named_pair, pair};
use rustls::client::{Resumption, Tls12Resumption};
use rustls::{HandshakeKind, ProtocolVersion, version};
use std::io::Write;
use std::net::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

impl<S> TlsStream<S> {
    fn unfinished(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.unfinished.len())
    }
}

async fn exchange(client: &mut Client, server: &mut TlsStream<TcpStream>) {
    for _ in 0..2 {
        client.write_all(b"question").await.unwrap();
        let mut bytes = [0; 8];
        server.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"question");
        server.write_all(b"answer").await.unwrap();
        server.flush().await.unwrap();
        client.read_exact(&mut bytes[..6]).await.unwrap();
        assert_eq!(&bytes[..6], b"answer");
    }
}

async fn poll_once(server: &mut TlsStream<TcpStream>) -> Poll<io::Result<usize>> {
    let mut bytes = [0; 64];
    poll_fn(|context| {
        let mut buffer = ReadBuf::new(&mut bytes);
        let polled = Pin::new(&mut *server).poll_read(context, &mut buffer);
        Poll::Ready(polled.map_ok(|()| buffer.filled().len()))
    })
    .await
}

/// Lets the stream take in what was sent: until the socket has been read so far.
async fn until_unfinished(server: &mut TlsStream<TcpStream>, length: usize) {
    while server.unfinished() < length {
        server.socket.readable().await.unwrap();
        assert!(poll_once(server).await.is_pending());
    }
    assert_eq!(server.unfinished(), length);
}

#[tokio::test]
async fn the_handshake_tells_version_name_protocol_and_certificate() {
    for version in VERSIONS {
        for certificates in [0, 1, 3] {
            let client = Arc::new(fixture::client_with(version, certificates));
            let (mut client, mut server, name) = named_pair(&client, &fixture::server()).await;
            let state = server.state();
            assert_eq!(state.protocol_version(), Some(version.version));
            assert_eq!(state.alpn_protocol(), Some(&b"mqtt"[..]));
            assert_eq!(name.as_deref(), Some("localhost"));
            let presented = state.peer_certificates().unwrap_or_default();
            assert_eq!(presented, vec![DEVICE.cert.der().clone(); certificates]);
            exchange(&mut client, &mut server).await;
        }
    }
}

#[tokio::test]
async fn a_client_without_sni_gets_no_name_of_another() {
    let named = fixture::client(&version::TLS13);
    let mut nameless = fixture::client_with(&version::TLS13, 1);
    nameless.enable_sni = false;
    let server = fixture::server();
    for _ in 0..2 {
        let (_client, _server, name) = named_pair(&named, &server).await;
        assert!(name.is_some());
    }
    let (_client, _server, name) = named_pair(&Arc::new(nameless), &server).await;
    assert_eq!(name, None);
}

#[tokio::test]
async fn sessions_are_resumed_by_ticket_or_id_and_keep_the_certificate() {
    let resumptions = [
        (&version::TLS13, Tls12Resumption::Disabled),
        (&version::TLS12, Tls12Resumption::SessionIdOrTickets),
        (&version::TLS12, Tls12Resumption::SessionIdOnly),
    ];
    for (version, tls12) in resumptions {
        let mut client = fixture::client_with(version, 1);
        client.resumption = Resumption::in_memory_sessions(8).tls12_resumption(tls12);
        let (client, server) = (Arc::new(client), fixture::server());
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let (mut client, mut server, name) = named_pair(&client, &server).await;
            assert_eq!(server.state().handshake_kind(), Some(expected), "{tls12:?}");
            let presented = server.state().peer_certificates();
            assert_eq!(presented, Some(&[DEVICE.cert.der().clone()][..]));
            assert_eq!(name.as_deref(), Some("localhost"));
            // The client takes its ticket only when it reads.
            exchange(&mut client, &mut server).await;
        }
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_presented_and_connections_stay() {
    for version in VERSIONS {
        let mut client = fixture::client_with(version, 1);
        client.resumption = Resumption::in_memory_sessions(8);
        let client = Arc::new(client);
        let (server, presented) = fixture::renewable();
        let seen = |client: &Client| client.get_ref().1.peer_certificates().unwrap()[0].clone();
        let (mut first, mut first_server) = pair(&client, &server).await;
        assert_eq!(seen(&first), *SERVER.cert.der());
        exchange(&mut first, &mut first_server).await;

        let same = presented.replace(vec![SERVER.cert.der().clone()], fixture::key(&SERVER));
        assert!(!same.unwrap());
        // Of another key: refused, and the present one stays.
        presented.replace(vec![RENEWED.cert.der().clone()], fixture::key(&SERVER)).unwrap_err();
        let (other, _server) = pair(&fixture::client(version), &server).await;
        assert_eq!(seen(&other), *SERVER.cert.der());
        let renewed = presented.replace(vec![RENEWED.cert.der().clone()], fixture::key(&RENEWED));
        assert!(renewed.unwrap());

        exchange(&mut first, &mut first_server).await;
        let (mut new, mut new_server) = pair(&fixture::client(version), &server).await;
        assert_eq!(seen(&new), *RENEWED.cert.der());
        exchange(&mut new, &mut new_server).await;
        // Who was there before comes back without a full handshake.
        let (mut again, mut again_server) = pair(&client, &server).await;
        assert_eq!(again_server.state().handshake_kind(), Some(HandshakeKind::Resumed));
        exchange(&mut again, &mut again_server).await;
    }
}

#[tokio::test]
async fn an_idle_stream_holds_no_buffer() {
    for version in VERSIONS {
        let client = fixture::client(version);
        let (mut client, mut server) = pair(&client, &fixture::server()).await;
        assert!(server.held.is_none());
        exchange(&mut client, &mut server).await;
        assert!(server.held.is_none());
        // More than the reader asks for at once, and more than a record.
        let sent = vec![7; 50_000];
        let mut received = vec![0; sent.len()];
        let (written, read) =
            tokio::join!(client.write_all(&sent), server.read_exact(&mut received));
        assert_eq!((written.unwrap(), read.unwrap(), received == sent), ((), 50_000, true));
        let (written, read) = tokio::join!(
            async {
                server.write_all(&sent).await?;
                server.flush().await
            },
            client.read_exact(&mut received)
        );
        assert_eq!((written.unwrap(), read.unwrap()), ((), 50_000));
        assert!(server.held.is_none());
    }
}

#[tokio::test]
async fn large_transfers_survive_any_chopping() {
    const BYTES: usize = 3_000_000;
    for (version, random) in VERSIONS.into_iter().zip([1, 2]) {
        let (near, far) = fixture::sockets().await;
        let connecting = TlsConnector::from(fixture::client(version));
        let connecting = connecting.connect(fixture::server_name(), near);
        let accepting = accept(Chopped { socket: far, random }, fixture::server());
        let (client, server) = tokio::join!(connecting, accepting);
        let (mut client, (server, _)) = (client.unwrap(), server.unwrap());
        // A prime period: no piece is like the one before.
        let sent: Vec<u8> = (0..=250).cycle().take(BYTES).collect();
        let (mut reader, mut writer) = tokio::io::split(server);
        let echo = async {
            let copied = tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            writer.shutdown().await.unwrap();
            copied
        };
        let (mut input, mut output) = tokio::io::split(&mut client);
        let write = async {
            for (at, piece) in sent.chunks(70_001).enumerate() {
                output.write_all(&piece[..at * 977 % 60_000]).await.unwrap();
                output.write_all(&piece[at * 977 % 60_000..]).await.unwrap();
            }
            output.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let read = input.read_to_end(&mut received);
        let (copied, (), read) = tokio::join!(echo, write, read);
        assert_eq!((copied, read.unwrap()), (BYTES as u64, BYTES));
        assert!(received == sent);
    }
}

#[tokio::test]
async fn half_a_record_waits_for_the_rest() {
    for version in VERSIONS {
        let (mut client, mut server) = ByHand::pair(version).await;
        for from_end in [0, 1, 9] {
            let record = client.encrypt(b"whole");
            // Inside the header, and inside the tag.
            let cut = if from_end == 0 { 3 } else { record.len() - from_end };
            client.socket.write_all(&record[..1]).unwrap();
            until_unfinished(&mut server, 1).await;
            client.socket.write_all(&record[1..cut]).unwrap();
            until_unfinished(&mut server, cut).await;
            // Meanwhile the other direction works.
            server.write_all(b"yes").await.unwrap();
            assert_eq!(client.read(3).unwrap(), b"yes");
            client.socket.write_all(&record[cut..]).unwrap();
            let mut bytes = [0; 5];
            server.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"whole");
            assert!(server.held.is_none());
        }
    }
}

#[tokio::test]
async fn keys_can_be_updated_in_both_directions() {
    let client = fixture::client(&version::TLS13);
    let (mut client, mut server) = pair(&client, &fixture::server()).await;
    for _ in 0..3 {
        client.get_mut().1.refresh_traffic_keys().unwrap();
        exchange(&mut client, &mut server).await;
    }
    assert_eq!(server.state().protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn close_notify_ends_one_direction_at_a_time() {
    for version in VERSIONS {
        let client = fixture::client(version);
        let (mut client, mut server) = pair(&client, &fixture::server()).await;
        client.write_all(b"last").await.unwrap();
        client.shutdown().await.unwrap();
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"last");
        server.write_all(b"answer").await.unwrap();
        server.shutdown().await.unwrap();
        // `tokio_rustls` reports the end without `close_notify` as an error.
        received.clear();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"answer");
        let error = server.write(b"more").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        server.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn an_end_without_close_notify_is_an_error_after_the_data() {
    for version in VERSIONS {
        for rest in [0, 1] {
            let (mut client, mut server) = ByHand::pair(version).await;
            let record = client.encrypt(b"cut");
            client.socket.write_all(&record).unwrap();
            client.socket.write_all(&record[..rest]).unwrap();
            // Not dropped, which would reset the connection because of unread tickets.
            client.socket.shutdown(Shutdown::Write).unwrap();
            let mut received = Vec::new();
            let error = server.read_to_end(&mut received).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(received, b"cut");
        }
    }
}

#[tokio::test]
async fn a_forged_record_ends_the_connection_with_an_alert_after_the_data() {
    for version in VERSIONS {
        let (mut client, mut server) = ByHand::pair(version).await;
        let mut bytes = client.encrypt(b"true");
        let mut forged = client.encrypt(b"forged");
        *forged.last_mut().unwrap() ^= 1;
        bytes.extend_from_slice(&forged);
        client.socket.write_all(&bytes).unwrap();
        let mut received = Vec::new();
        for _ in 0..2 {
            let error = server.read_to_end(&mut received).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(received, b"true");
        }
        let error = server.write(b"more").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let error = client.read(1).unwrap_err().to_string();
        assert!(error.contains("BadRecordMac"), "{error}");
        assert!(server.held.is_none());
    }
}

#[tokio::test]
async fn what_is_not_tls_is_refused_with_an_alert() {
    let endless = [0x16, 3, 1, 0, 0].repeat(64);
    // A handshake message of 65,536 bytes, of which no end comes.
    let mut long = Vec::new();
    for at in 0..5 {
        long.extend_from_slice(&[0x16, 3, 1, 0x3f, 0xff]);
        long.extend_from_slice(if at == 0 { &[1, 0, 0xff, 0xff] } else { &[0; 4] });
        long.resize(long.len() + 0x3fff - 4, 0);
    }
    let garbage: [&[u8]; 4] = [b"GET / HTTP/1.1\r\n\r\n", &[0x17, 3, 3, 0, 1, 0], &endless, &long];
    for bytes in garbage {
        let (mut near, far) = fixture::sockets().await;
        let (written, accepted) =
            tokio::join!(near.write_all(bytes), accept(far, fixture::server()));
        written.unwrap();
        let error = accepted.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }
    let (mut near, far) = fixture::sockets().await;
    near.write_all(garbage[0]).await.unwrap();
    assert!(accept(far, fixture::server()).await.is_err());
    let mut alert = [0; 5];
    near.read_exact(&mut alert).await.unwrap();
    assert_eq!(alert[0], 21);
}

#[tokio::test]
async fn a_handshake_that_ends_early_is_an_unexpected_end() {
    for bytes in [&b""[..], &[0x16, 3, 1]] {
        let (mut near, far) = fixture::sockets().await;
        near.write_all(bytes).await.unwrap();
        drop(near);
        let error = accept(far, fixture::server()).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[tokio::test]
async fn a_chain_of_several_records_is_taken_and_one_beyond_the_bound_is_not() {
    let size = DEVICE.cert.der().len();
    for version in VERSIONS {
        let count = 40_000 / size;
        let client = Arc::new(fixture::client_with(version, count));
        let (mut client, mut server) = pair(&client, &fixture::server()).await;
        assert_eq!(server.state().peer_certificates().map(<[_]>::len), Some(count));
        exchange(&mut client, &mut server).await;
        let (near, far) = fixture::sockets().await;
        let client = Arc::new(fixture::client_with(version, 70_000 / size));
        let connecting = TlsConnector::from(client).connect(fixture::server_name(), near);
        let (_, accepted) = tokio::join!(connecting, accept(far, fixture::server()));
        assert_eq!(accepted.err().unwrap().kind(), io::ErrorKind::InvalidData);
    }
}

#[tokio::test]
async fn writing_waits_for_a_peer_that_does_not_read() {
    const PIPE_BYTES: usize = 4_096;
    for version in VERSIONS {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let connecting = TlsConnector::from(fixture::client(version));
        let connecting = connecting.connect(fixture::server_name(), near);
        let (client, server) = tokio::join!(connecting, accept(far, fixture::server()));
        let (mut client, (mut server, _)) = (client.unwrap(), server.unwrap());
        let bytes = vec![1; 10 * WRITE_BYTES_MAX];
        let mut taken = 0;
        // Not by a loop until pending: a stream without bound would never be.
        for _ in 0..10 {
            let write = |context: &mut Context<'_>| {
                let polled = Pin::new(&mut server).poll_write(context, &bytes[taken..]);
                Poll::Ready(polled)
            };
            if let Poll::Ready(length) = poll_fn(write).await {
                taken += length.unwrap();
            }
        }
        assert_eq!(taken, WRITE_BYTES_MAX);
        assert!(server.held.as_ref().unwrap().unsent.len() < WRITE_BYTES_MAX + 256);
        let mut received = vec![0; bytes.len()];
        let rest = async {
            server.write_all(&bytes[taken..]).await?;
            server.flush().await
        };
        let (written, read) = tokio::join!(rest, client.read_exact(&mut received));
        assert_eq!((written.unwrap(), read.unwrap()), ((), bytes.len()));
        assert!(server.held.is_none());
    }
}
