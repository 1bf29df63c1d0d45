//! Where the broker is: the URL, the addresses behind it, and where connections come from.

use crate::error::LoadError;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::http::Uri;

/// Connections from one source address: Linux has 28,232 ports for them.
const CONNECTIONS_PER_SOURCE: u64 = 25_000;

/// For the first connection, which only proves that somebody listens.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Path of a WebSocket without one in its URL; AWS's, and without its slash.
const WEBSOCKET_PATH: &str = "mqtt";

/// A URL that has been understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As given.
    pub url: String,
    /// Name or address, without the brackets of IPv6.
    pub host: String,
    /// 1883, 8883, 80 or 443 by default.
    pub port: u16,
    /// `mqtts` or `wss`.
    pub tls: bool,
    /// What the upgrade to WebSocket asks for, with `ws` and `wss`.
    pub websocket: Option<Uri>,
}

impl Target {
    /// Reads `mqtt://HOST[:PORT]`, `mqtts://HOST[:PORT]`, `ws://HOST[:PORT][/PATH]` or
    /// `wss://HOST[:PORT][/PATH]`.
    pub fn parse(url: &str) -> Result<Self, LoadError> {
        let wrong = |what: &str| {
            let what = format!(
                "{what} in `{url}`; write mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS; for \
                 WebSocket ws://HOST:PORT/PATH or wss://HOST:PORT/PATH"
            );
            LoadError::option("url", what)
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("no scheme"))?;
        let (tls, default_port) = match scheme {
            "mqtt" | "tcp" => (false, 1883),
            "mqtts" | "ssl" => (true, 8883),
            "ws" => (false, 80),
            "wss" => (true, 443),
            _ => return Err(wrong("unknown scheme")),
        };
        let is_websocket = matches!(scheme, "ws" | "wss");
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) if is_websocket && !path.is_empty() => (authority, path),
            _ => (rest.strip_suffix('/').unwrap_or(rest), WEBSOCKET_PATH),
        };
        if authority.contains('@') {
            return Err(wrong("user name (use --username and --password)"));
        }
        if authority.contains(['/', '?', '#']) {
            return Err(wrong("path"));
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|it| it.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(wrong("no host"));
        }
        let port = port.map_or(Ok(default_port), str::parse).map_err(|_| wrong("no valid port"))?;
        let websocket = is_websocket.then(|| format!("{scheme}://{authority}/{path}").parse());
        let websocket = websocket.transpose().map_err(|_| wrong("no valid path"))?;
        Ok(Self { url: url.into(), host: host.into(), port, tls, websocket })
    }

    /// The first address of the host where somebody takes connections.
    pub async fn resolve(&self) -> Result<SocketAddr, LoadError> {
        let unreachable = |source| LoadError::Unreachable { url: self.url.clone(), source };
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in lookup_host((&*self.host, self.port)).await.map_err(unreachable)? {
            match timeout(PROBE_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(_)) => return Ok(address),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(unreachable(last))
    }
}

/// Opens the TCP connection with this number.
pub async fn open(address: SocketAddr, number: u64) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source(address, number) {
        socket.bind(source)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One address has not enough ports for very many connections; the loopback network has more
/// addresses, and nobody has to configure them.
fn source(address: SocketAddr, number: u64) -> Option<SocketAddr> {
    let IpAddr::V4(target) = address.ip() else { return None };
    let block = u32::try_from(number / CONNECTIONS_PER_SOURCE).ok()?;
    if !target.is_loopback() || block == 0 {
        return None;
    }
    let source = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + block);
    Some((source, 0).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_defaults_and_mistakes_are_told() {
        for (url, host, port, tls) in [
            ("mqtt://localhost", "localhost", 1883, false),
            ("mqtts://broker.example:443/", "broker.example", 443, true),
            ("mqtt://[::1]:1884", "::1", 1884, false),
            ("mqtts://[::1]", "::1", 8883, true),
            ("ws://localhost", "localhost", 80, false),
            ("wss://[::1]/mqtt", "::1", 443, true),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!((&*target.host, target.port, target.tls), (host, port, tls), "{url}");
        }
        for (url, part) in [
            ("localhost:1883", "no scheme"),
            ("http://a", "unknown scheme"),
            ("mqtt://", "no host"),
            ("mqtt://a:b", "no valid port"),
            ("mqtt://a:65536", "no valid port"),
            ("mqtt://u:p@a", "--username"),
            ("mqtt://a/path", "path"),
            ("ws://a?q", "path"),
            ("ws://a/p q", "no valid path"),
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(error.starts_with("--url: ") && error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_websocket_is_asked_for_by_path_and_query() {
        for (url, expected) in [
            ("mqtt://a", None),
            ("ws://a:8080", Some("ws://a:8080/mqtt")),
            ("wss://a/", Some("wss://a/mqtt")),
            ("ws://[::1]:80/some/path?key=value", Some("ws://[::1]:80/some/path?key=value")),
        ] {
            let uri = Target::parse(url).unwrap().websocket.map(|uri| uri.to_string());
            assert_eq!(uri.as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn only_loopback_gets_more_source_addresses() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 1883));
        let elsewhere = SocketAddr::from(([10, 0, 0, 1], 1883));
        assert_eq!(source(loopback, 24_999), None);
        assert_eq!(source(loopback, 25_000), Some(([127, 0, 0, 2], 0).into()));
        assert_eq!(source(loopback, 99_999), Some(([127, 0, 0, 4], 0).into()));
        assert_eq!(source(elsewhere, 99_999), None);
    }

    #[tokio::test]
    async fn connections_come_from_the_source_of_their_block() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for (number, expected) in [(0, [127, 0, 0, 1]), (25_000, [127, 0, 0, 2])] {
            let _stream = open(address, number).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.ip(), IpAddr::from(expected), "{number}");
        }
    }
}
