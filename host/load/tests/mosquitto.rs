//! The load against a real broker, mosquitto, on loopback; skipped where it is not installed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

use gnomon_load::{LoadError, Options, Plan, Protocol, Qos, Report, Shape, drive};
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

/// Looks until a broker takes connections, 20 ms apart: ten seconds.
const START_LOOKS: u32 = 500;

/// Held from the choice of a port until a broker has it.
static STARTING: Mutex<()> = Mutex::new(());

struct Mosquitto {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Mosquitto {
    /// Starts one with these lines in its configuration; none when it is not installed.
    fn start(lines: impl FnOnce(&Path) -> String) -> Option<Self> {
        // Debian installs it where the PATH of a user does not lead.
        let binary = ["mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"]
            .into_iter()
            .find(|path| {
                let mut command = Command::new(path);
                command.arg("-h").stdin(Stdio::null()).stdout(Stdio::null());
                command.stderr(Stdio::null()).status().is_ok()
            });
        let Some(binary) = binary else {
            eprintln!("skipped: mosquitto is not installed (Debian: apt install mosquitto)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        // Until it listens nobody else may be given the port.
        let _one_by_one = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let config = folder.path().join("mosquitto.conf");
        // It drops its privileges when root starts it, and could not read its keys any more.
        let text = format!(
            "user root\nlistener {port} 127.0.0.1\npersistence false\nlog_type none\n\
             max_queued_messages 0\nset_tcp_nodelay true\n{}",
            lines(folder.path())
        );
        fs::write(&config, text).unwrap();
        let child = Command::new(binary).arg("-c").arg(config).stdin(Stdio::null()).spawn();
        let broker = Self { child: child.unwrap(), port, folder };
        for _ in 0..START_LOOKS {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Some(broker);
            }
            sleep(Duration::from_millis(20));
        }
        panic!("mosquitto takes no connections");
    }

    fn anonymous() -> Option<Self> {
        Self::start(|_| "allow_anonymous true\n".into())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    #[track_caller]
    fn load(&self, options: Options) -> Report {
        self.try_load(options).unwrap()
    }

    fn try_load(&self, options: Options) -> Result<Report, LoadError> {
        let scheme = if options.ca.is_some() { "mqtts" } else { "mqtt" };
        run(&Options { url: format!("{scheme}://127.0.0.1:{}", self.port), ..options })
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(options: &Options) -> Result<Report, LoadError> {
    block_on(drive(Plan::new(options)?, &mut (), std::future::pending()))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn every_message_arrives_in_every_shape_version_and_qos() {
    let Some(broker) = Mosquitto::anonymous() else { return };
    for protocol in [Protocol::V311, Protocol::V5] {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            for (shape, publishers, subscribers) in
                [(Shape::Pairs, 5, 5), (Shape::FanIn, 7, 1), (Shape::FanOut, 1, 9)]
            {
                let report = broker.load(Options {
                    protocol,
                    qos,
                    shape,
                    publishers,
                    subscribers,
                    messages: Some(503),
                    window: 10,
                    ..Options::default()
                });
                let received = if shape == Shape::FanOut { 503 * 9 } else { 503 };
                assert!(report.is_clean(), "{protocol:?} {qos:?} {shape:?}\n{report}");
                assert_eq!((report.messages.sent, report.messages.received), (503, received));
                let latency = report.latency_ms.unwrap();
                assert!(latency.p50 > 0.0 && latency.max >= latency.p999, "{latency:?}");
            }
        }
    }
}

#[test]
fn large_payloads_and_small_ones_are_counted() {
    let Some(broker) = Mosquitto::anonymous() else { return };
    for (payload, timed) in [(300_000, true), (16, true), (10, false)] {
        let report = broker.load(Options {
            payload,
            qos: Qos::AtLeastOnce,
            messages: Some(100),
            ..Options::default()
        });
        assert!(report.is_clean(), "{report}");
        assert_eq!((report.messages.received, report.latency_ms.is_some()), (100, timed));
    }
}

#[test]
fn a_rate_is_kept_and_a_duration_ends() {
    let Some(broker) = Mosquitto::anonymous() else { return };
    let report = broker.load(Options {
        publishers: 10,
        subscribers: 10,
        rate: 1_000.0,
        duration: 1.0,
        ..Options::default()
    });
    assert!(report.is_clean(), "{report}");
    // Never more than the schedule has; how much less is the machine's matter.
    let measured = report.measured.unwrap();
    let most = measured.seconds.mul_add(1_000.0, 10.0);
    assert!(measured.sent > 0 && measured.sent as f64 <= most, "{report}");
}

#[test]
fn members_of_a_shared_subscription_get_everything_once() {
    let Some(broker) = Mosquitto::anonymous() else { return };
    let report = broker.load(Options {
        protocol: Protocol::V5,
        qos: Qos::AtLeastOnce,
        publishers: 2,
        subscribers: 3,
        filter: Some("$share/group/bench/+".into()),
        messages: Some(600),
        ..Options::default()
    });
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.messages.received, report.messages.duplicated), (600, 0));
}

#[test]
fn retained_messages_of_an_earlier_run_are_foreign() {
    let Some(broker) = Mosquitto::anonymous() else { return };
    let options =
        || Options { publishers: 4, shape: Shape::FanIn, messages: Some(40), ..Options::default() };
    let first = broker.load(Options { retain: true, ..options() });
    assert_eq!((first.is_clean(), first.messages.foreign), (true, 0), "{first}");
    let second = broker.load(options());
    assert_eq!((second.is_clean(), second.messages.foreign), (true, 4), "{second}");
}

#[test]
fn durable_sessions_go_on_where_they_were() {
    let Some(broker) = Mosquitto::anonymous() else { return };
    for (protocol, session_expiry) in [(Protocol::V311, 0), (Protocol::V5, 60)] {
        let options = || Options {
            protocol,
            session_expiry,
            clean: false,
            qos: Qos::AtLeastOnce,
            topic: format!("durable/{protocol:?}/{{i}}"),
            client_id: format!("durable-{protocol:?}"),
            messages: Some(50),
            ..Options::default()
        };
        assert!(broker.load(options()).is_clean());
        // While the subscriber is away; its session keeps what arrives.
        let away = broker.load(Options { subscribers: 0, messages: Some(20), ..options() });
        assert!(away.is_clean(), "{away}");
        let again = broker.load(options());
        let messages = again.messages;
        assert_eq!((again.is_clean(), messages.foreign, messages.received), (true, 20, 70));
    }
}

#[test]
fn what_a_broker_drops_is_lost() {
    // One message in flight, one waiting: the rest of a burst of QoS 1 has no place.
    let lines = "allow_anonymous true\nmax_inflight_messages 1\nmax_queued_messages 1\n";
    let Some(broker) = Mosquitto::start(|_| lines.into()) else { return };
    let report = broker.load(Options {
        publishers: 20,
        shape: Shape::FanIn,
        qos: Qos::AtLeastOnce,
        messages: Some(2_000),
        ..Options::default()
    });
    let messages = report.messages;
    assert!(messages.lost > 0 && !report.is_clean(), "{report}");
    assert_eq!(messages.received + messages.lost, messages.sent, "{report}");
}

#[test]
fn refusals_are_told_by_name() {
    let Some(broker) = Mosquitto::start(|_| "allow_anonymous false\n".into()) else { return };
    for (protocol, expected) in [
        (Protocol::V311, "CONNECT refused: Not authorized (0x05)"),
        (Protocol::V5, "CONNECT refused: Not authorized (0x87)"),
    ] {
        let error = broker.try_load(Options { protocol, ..Options::default() }).unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
        let only = Options { protocol, connections_only: Some(3), ..Options::default() };
        let error = broker.try_load(only).unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
    }
}

#[test]
fn nobody_at_the_url_is_told_before_anything_else() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let url = format!("mqtt://127.0.0.1:{port}");
    let error = run(&Options { url, ..Options::default() }).unwrap_err();
    assert!(matches!(error, LoadError::Unreachable { .. }), "{error}");
}

#[test]
fn connections_are_only_held() {
    let Some(broker) = Mosquitto::anonymous() else { return };
    let report = broker.load(Options {
        connections_only: Some(300),
        connect_rate: 3_000.0,
        filter: Some("idle/{i}/+".into()),
        duration: 0.0,
        ..Options::default()
    });
    assert!(report.is_clean() && report.measured.is_none(), "{report}");
    assert_eq!(report.connections.opened, 300);
    assert!(report.connect_ms.is_some());
}

#[test]
fn stopping_ends_a_run_with_a_report() {
    let Some(broker) = Mosquitto::anonymous() else { return };
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let plan = Plan::new(&Options { url, duration: 600.0, ..Options::default() }).unwrap();
    let stop = tokio::time::sleep;
    let report =
        block_on(async { drive(plan, &mut (), stop(Duration::from_millis(200))).await }).unwrap();
    assert!(report.interrupted && report.is_clean(), "{report}");
}

#[test]
fn mutual_tls_resumes_sessions_when_it_should() {
    let lines = |folder: &Path| {
        write_certificates(folder);
        let file = |name: &str| folder.join(name).display().to_string();
        format!(
            "allow_anonymous true\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
            file("ca.pem"),
            file("server.pem"),
            file("server-key.pem")
        )
    };
    let Some(broker) = Mosquitto::start(lines) else { return };
    let options = || Options {
        ca: Some(broker.file("ca.pem")),
        cert: Some(broker.file("client.pem")),
        key: Some(broker.file("client-key.pem")),
        ..Options::default()
    };
    let report = broker.load(Options { messages: Some(500), qos: Qos::AtLeastOnce, ..options() });
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.connections.full_handshakes, report.messages.received), (2, 500));

    let many = Options { connections_only: Some(20), duration: 0.0, ..options() };
    let report = broker.load(many);
    assert_eq!((report.is_clean(), report.connections.full_handshakes), (true, 20), "{report}");
    let again = Options { connections_only: Some(200), duration: 0.0, resume: true, ..options() };
    let report = broker.load(again);
    let connections = report.connections;
    assert!(report.is_clean() && connections.resumed_handshakes > 0, "{report}");
    assert_eq!(connections.full_handshakes + connections.resumed_handshakes, 200, "{report}");

    let stranger = Options { cert: None, key: None, ..options() };
    let error = broker.try_load(stranger).unwrap_err().to_string();
    assert!(error.contains("none of 1 publishers could connect"), "{error}");
}

#[test]
fn a_websocket_carries_the_same() {
    let Some(broker) = Mosquitto::anonymous() else { return };
    let options = || Options {
        publishers: 5,
        subscribers: 5,
        payload: 3_000,
        messages: Some(503),
        window: 10,
        ..Options::default()
    };
    for protocol in [Protocol::V311, Protocol::V5] {
        for qos in [Qos::AtMostOnce, Qos::ExactlyOnce] {
            let report = run_relayed(&broker, "", Options { protocol, qos, ..options() }).unwrap();
            assert!(report.is_clean(), "{protocol:?} {qos:?}\n{report}");
            assert_eq!((report.messages.sent, report.messages.received), (503, 503));
        }
    }
    let error = run_relayed(&broker, "/elsewhere", options()).unwrap_err().to_string();
    assert!(error.contains("WebSocket handshake failed: HTTP error: 404"), "{error}");
}

/// Runs a load through WebSockets at this path. A relay takes them for the broker, as a proxy does:
/// not every mosquitto has them.
fn run_relayed(broker: &Mosquitto, path: &str, options: Options) -> Result<Report, LoadError> {
    block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("ws://{}{path}", listener.local_addr().unwrap());
        let plan = Plan::new(&Options { url, ..options })?;
        let mut connections = tokio::task::JoinSet::new();
        let relay_all = async {
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(relay(stream, broker.port));
            }
        };
        let mut observer = ();
        tokio::select! {
            report = drive(plan, &mut observer, std::future::pending()) => report,
            () = relay_all => panic!("the relay ended"),
        }
    })
}

/// Returns when a side ends its connection; the first connection of a run asks for nothing.
async fn relay(stream: tokio::net::TcpStream, broker_port: u16) -> Option<()> {
    use futures_util::{SinkExt, StreamExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_tungstenite::tungstenite::{Bytes, Message};
    let socket = tokio_tungstenite::accept_hdr_async(stream, upgrade).await.ok()?;
    let broker = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, broker_port)).await.ok()?;
    let (mut to_client, mut from_client) = socket.split();
    let (mut from_broker, mut to_broker) = broker.into_split();
    let up = async {
        while let Some(Ok(message)) = from_client.next().await {
            if let Message::Binary(bytes) = message {
                to_broker.write_all(&bytes).await.ok()?;
            }
        }
        Some(())
    };
    let down = async {
        // Packets are longer, and begin anywhere in a message.
        let mut bytes = [0; 1_000];
        loop {
            let count = from_broker.read(&mut bytes).await.ok().filter(|count| *count > 0)?;
            let message = Message::Binary(Bytes::copy_from_slice(&bytes[..count]));
            to_client.send(message).await.ok()?;
        }
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

/// Wants `/mqtt` and the subprotocol `mqtt`.
#[allow(clippy::result_large_err, reason = "the library's callback")]
fn upgrade(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    use tokio_tungstenite::tungstenite::http;
    let protocol = request.headers().get(http::header::SEC_WEBSOCKET_PROTOCOL).cloned();
    if request.uri().path() != "/mqtt" || protocol.as_ref().is_none_or(|it| it != "mqtt") {
        let mut refusal = http::Response::new(None);
        *refusal.status_mut() = http::StatusCode::NOT_FOUND;
        return Err(refusal);
    }
    response.headers_mut().extend([(http::header::SEC_WEBSOCKET_PROTOCOL, protocol.unwrap())]);
    Ok(response)
}

fn write_certificates(folder: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(folder.join("ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        // The CA's name is rcgen's default; with the same name a certificate looks self-signed.
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(folder.join(format!("{name}-key.pem")), key.serialize_pem()).unwrap();
    }
}
