//! Listeners: accept, PROXY header, TLS handshake, and the protocol that the listener (or ALPN) says.
//!
//! In: [`ListenerConfig`]. Out: `http::serve`, and `connection::open`, whose connection then moves to
//! an event loop; all are tracked. Bounds: `connections_max` and `connects_per_second` per listener
//! (more wait in the kernel's backlog), 10 s for the PROXY header, 10 s for the TLS handshake. A
//! listener without TLS binds loopback addresses only, unless the operator says `insecure = true`.

use crate::connection::{self, Connection, Origin};
use crate::event_loop::{Entrance, Socket};
use crate::http::{self, Service};
use crate::pace::Pace;
use crate::tls::stream::TlsStream;
use crate::{proxy, tls};
use bytes::Bytes;
use gnomon_core::metrics::Metrics;
use gnomon_core::session;
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// After an error of `accept` that is not the peer's fault, e.g. no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a listener speaks after TLS.
#[derive(Clone)]
pub enum Protocol {
    /// MQTT at once.
    Mqtt(Arc<connection::Shared>),
    /// HTTP and, if the service has it, MQTT over WebSocket and by ALPN.
    Http(Service),
}

/// One listener.
pub struct ListenerConfig {
    /// For logs, authorizers and adapters.
    pub name: Arc<str>,
    /// Port 0 takes a free one.
    pub bind: SocketAddr,
    /// `None`: plain TCP.
    pub tls: Option<Arc<ServerConfig>>,
    /// Plain TCP beyond loopback.
    pub insecure: bool,
    /// Limits and habits of MQTT on this listener.
    pub session: Arc<session::Config>,
    /// Policy for clients without credentials that can be checked.
    pub anonymous_policy: Option<Arc<str>>,
    /// Connections at the same time; more wait.
    pub connections_max: usize,
    /// Connections accepted per second, and at once after a pause; more wait. 0: no limit.
    pub connects_per_second: u32,
    /// Each connection begins with a PROXY protocol v2 header, which says who the peer is; one
    /// without is closed. For listeners that only a load balancer reaches.
    pub proxy: bool,
    /// What is spoken.
    pub protocol: Protocol,
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Plain TCP on an address that others can reach.
    #[error(
        "listener {name}: {bind} is not a loopback address and the listener has no TLS; \
         turn TLS on, bind 127.0.0.1, or set `insecure = true` if the network is trusted"
    )]
    Insecure {
        /// The listener.
        name: Arc<str>,
        /// Its address.
        bind: SocketAddr,
    },
    /// The address cannot be bound.
    #[error("listener {name}: cannot listen on {bind}: {hint}")]
    Bind {
        /// The listener.
        name: Arc<str>,
        /// Its address.
        bind: SocketAddr,
        /// What to do.
        hint: String,
        /// The system's error.
        source: io::Error,
    },
}

/// An open listener.
pub struct Listener {
    /// The address, with the port that was taken.
    pub address: SocketAddr,
    socket: TcpListener,
    config: Arc<ListenerConfig>,
    slots: Arc<Semaphore>,
    pace: Pace,
}

impl Listener {
    /// Binds the address; nothing is accepted yet.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn bind(config: ListenerConfig) -> Result<Self, ListenError> {
        let (name, bind) = (config.name.clone(), config.bind);
        if config.tls.is_none() && !config.insecure && !bind.ip().is_loopback() {
            return Err(ListenError::Insecure { name, bind });
        }
        let bound = async {
            let socket = TcpListener::bind(bind).await?;
            let address = socket.local_addr()?;
            Ok((socket, address))
        };
        let slots = Arc::new(Semaphore::new(config.connections_max));
        let pace = Pace::new(config.connects_per_second);
        match bound.await {
            Ok((socket, address)) => {
                Ok(Self { address, socket, config: Arc::new(config), slots, pace })
            }
            Err(source) => {
                let hint = bind_hint(&source, bind);
                Err(ListenError::Bind { name, bind, hint, source })
            }
        }
    }

    /// Accepts until `stop`; every connection is one of `tasks`. Until its CONNECT is answered, and
    /// while it speaks HTTP, a connection ends with `cut`; afterwards soon after it is told to.
    pub async fn run(self, stop: CancellationToken, cut: CancellationToken, tasks: TaskTracker) {
        let Self { socket, config, slots, mut pace, .. } = self;
        // One line for as long as it lasts.
        let mut is_failing = false;
        loop {
            let accepted = tokio::select! {
                biased; // Stop must win over a flood of connections.
                () = stop.cancelled() => return,
                // Cancel-safe: a slot or a connection that was not taken stays where it is.
                accepted = accept(&socket, &slots, &mut pace, &config.session.metrics) => accepted,
            };
            match accepted {
                Ok((socket, peer, slot)) => {
                    is_failing = false;
                    let place = Place { _task: tasks.token(), _slot: slot };
                    let (config, cut) = (config.clone(), cut.clone());
                    tasks.spawn(async move {
                        // Pinned here: it would be kept a second time where it is passed to.
                        let serving = pin!(serve(socket, peer, &config, place));
                        cut.run_until_cancelled(serving).await;
                    });
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        let listener = &config.name;
                        tracing::warn!(%listener, %error, "cannot accept connections, they wait");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn accept(
    socket: &TcpListener,
    slots: &Arc<Semaphore>,
    pace: &mut Pace,
    metrics: &Metrics,
) -> io::Result<(TcpStream, SocketAddr, Slot)> {
    if slots.available_permits() == 0 {
        metrics.accepts_paused.increment();
    }
    let slot = Slot::take(slots).await?;
    if pace.wait().await {
        metrics.accepts_paused.increment();
    }
    let (socket, peer) = socket.accept().await?;
    pace.take();
    Ok((socket, peer, slot))
}

/// What a connection holds of its listener.
struct Place {
    _task: TaskTrackerToken,
    _slot: Slot,
}

/// One of `connections_max`; half the size of a permit.
struct Slot(Arc<Semaphore>);

impl Slot {
    async fn take(slots: &Arc<Semaphore>) -> io::Result<Self> {
        slots.acquire().await.map_err(io::Error::other)?.forget();
        Ok(Self(slots.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

/// An open connection and its place. No `async` block, which would keep room for the connection
/// twice.
struct Seated<S> {
    connection: Connection<S>,
    _place: Place,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Seated<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.connection).poll(context)
    }
}

/// A stream that can move to an event loop.
trait Movable: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The stream there.
    type Moved: AsyncRead + AsyncWrite + Unpin + 'static;

    fn move_to(self, entrance: &Entrance<'_>) -> io::Result<Self::Moved>;
}

impl Movable for TcpStream {
    type Moved = Socket;

    fn move_to(self, entrance: &Entrance<'_>) -> io::Result<Socket> {
        entrance.socket(self.into_std()?)
    }
}

impl<S: Movable> Movable for TlsStream<S> {
    type Moved = TlsStream<S::Moved>;

    fn move_to(self, entrance: &Entrance<'_>) -> io::Result<Self::Moved> {
        self.try_map_socket(|socket| socket.move_to(entrance))
    }
}

/// The start of a connection. What comes after its handshakes is boxed, so that a listener without
/// TLS has no task with room for it.
async fn serve(mut socket: TcpStream, peer: SocketAddr, config: &ListenerConfig, place: Place) {
    // Packets are gathered before they are written: Nagle would only add latency.
    let _ = socket.set_nodelay(true);
    let peer = match config.proxy {
        true => match read_proxy_header(&mut socket, peer, &config.name).await {
            Some(peer) => peer,
            None => return,
        },
        false => peer,
    };
    let mut origin = Origin {
        peer,
        listener: config.name.clone(),
        session: config.session.clone(),
        anonymous_policy: config.anonymous_policy.clone(),
        server_name: None,
        certificate: None,
        http: None,
    };
    let Some(tls_config) = &config.tls else {
        return match &config.protocol {
            Protocol::Mqtt(shared) => Box::pin(serve_mqtt(socket, origin, shared, place)).await,
            Protocol::Http(service) => Box::pin(http::serve(socket, origin, service.clone())).await,
        };
    };
    let handshake = tls::stream::accept(socket, tls_config.clone());
    let (stream, server_name) = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(error)) => {
            tracing::info!(listener = %config.name, %peer, %error, "TLS handshake failed");
            return;
        }
        Err(_) => {
            tracing::info!(listener = %config.name, %peer, "TLS handshake took too long");
            return;
        }
    };
    origin.server_name = server_name;
    let session = stream.state();
    let leaf = session.peer_certificates().and_then(<[_]>::first);
    origin.certificate = leaf.map(|leaf| Bytes::copy_from_slice(leaf));
    let wants_mqtt = matches!(session.alpn_protocol(), Some(alpn) if alpn == tls::ALPN_MQTT_CA || alpn == tls::ALPN_MQTT);
    match &config.protocol {
        Protocol::Mqtt(shared) => Box::pin(serve_mqtt(stream, origin, shared, place)).await,
        Protocol::Http(Service { mqtt: Some(shared), .. }) if wants_mqtt => {
            Box::pin(serve_mqtt(stream, origin, shared, place)).await;
        }
        Protocol::Http(service) => Box::pin(http::serve(stream, origin, service.clone())).await,
    }
}

/// Who the peer is according to the load balancer; `None`: the connection is to be closed.
async fn read_proxy_header(
    socket: &mut TcpStream,
    peer: SocketAddr,
    listener: &str,
) -> Option<SocketAddr> {
    match tokio::time::timeout(PROXY_HEADER_TIMEOUT, proxy::read_header(socket)).await {
        Ok(Ok(client)) => Some(client.unwrap_or(peer)),
        Ok(Err(error)) => {
            tracing::warn!(listener, remote = %peer, %error, "closed before the PROXY header");
            None
        }
        Err(_) => {
            tracing::warn!(listener, remote = %peer, "closed: the PROXY header took too long");
            None
        }
    }
}

/// Starts the connection here; what is left of it then moves to a thread of connections.
async fn serve_mqtt<S: Movable>(
    socket: S,
    origin: Origin,
    shared: &Arc<connection::Shared>,
    place: Place,
) {
    if let Some(connection) = connection::open(socket, origin, shared.clone()).await {
        shared.loops.spawn(move |entrance| {
            let connection = connection.try_map_socket(|socket| socket.move_to(entrance))?;
            Ok(Seated { connection, _place: place })
        });
    }
}

fn bind_hint(error: &io::Error, bind: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {} is taken by another program (`ss -ltnp` shows which); stop it, or choose \
             another port",
            bind.port()
        ),
        io::ErrorKind::PermissionDenied => {
            "the system does not permit it; ports below 1024 need privileges".into()
        }
        io::ErrorKind::AddrNotAvailable => "this machine does not have the address".into(),
        _ => error.to_string(),
    }
}
