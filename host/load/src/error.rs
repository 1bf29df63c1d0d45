//! What can go wrong: a run that cannot start, and one connection that fails.

use crate::decode::Malformed;
use crate::reason::Reason;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why there is no report; the text says what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// An option, or two that do not go together.
    #[error("--{option}: {what}")]
    Option {
        /// Its name, without dashes.
        option: &'static str,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// A file of an option cannot be used.
    #[error("--{option}: cannot use {}: {what}", path.display())]
    File {
        /// Its name, without dashes.
        option: &'static str,
        /// As given.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// TLS cannot be set up with these certificates.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// The system allows fewer open files than connections are asked for.
    #[error(
        "{needed} connections need as many open files and this process may have {allowed}: raise \
         the limit (`ulimit -n {needed}` as root, or LimitNOFILE of the service) or ask for fewer"
    )]
    Files {
        /// Connections and some more.
        needed: u64,
        /// The hard limit.
        allowed: u64,
    },
    /// Nobody listens where the URL points.
    #[error("cannot reach {url}: {source}; does the broker run, and are host and port right?")]
    Unreachable {
        /// As given.
        url: String,
        /// Of the last address tried.
        source: io::Error,
    },
    /// All clients of a kind failed to connect.
    #[error("none of {asked} {role} could connect: {why}")]
    NobodyConnected {
        /// `publishers`, `subscribers` or `clients`.
        role: &'static str,
        /// How many tried.
        asked: usize,
        /// What most clients met.
        why: String,
    },
    /// The runtime or the Ctrl-C handler cannot be set up.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

impl LoadError {
    /// An option that cannot be used as it is.
    pub(crate) fn option(option: &'static str, what: impl Into<String>) -> Self {
        Self::Option { option, what: what.into() }
    }
}

/// How one connection failed; the text is the kind that the report counts it under.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// TCP.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// TLS; rustls's texts say which side refused and why.
    #[error("TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// WebSocket; a status code is the broker's refusal.
    #[error("WebSocket handshake failed: {0}")]
    Upgrade(io::Error),
    /// CONNACK or SUBACK did not come.
    #[error("no answer to {0} within {wait} s", wait = ANSWER_TIMEOUT.as_secs())]
    TimedOut(&'static str),
    /// CONNACK refused.
    #[error("CONNECT refused: {0}")]
    ConnectRefused(Reason),
    /// SUBACK refused.
    #[error("SUBSCRIBE refused: {0}")]
    SubscribeRefused(Reason),
    /// The broker sent DISCONNECT.
    #[error("the broker disconnected a client: {0}")]
    Disconnected(Reason),
    /// End of the stream.
    #[error("the broker closed a connection")]
    Closed,
    /// A packet that this role never gets.
    #[error("the broker sent {0} a packet that nobody asked for")]
    Unexpected(&'static str),
    /// Reading or writing failed.
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
    /// Not MQTT.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// From the first byte until the broker has answered CONNECT, and then SUBSCRIBE.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
