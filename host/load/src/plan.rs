//! The plan of a run: options that have been checked, files that have been read.
//!
//! In: [`Options`]. Out: a [`Plan`], or what has to be changed. Nothing is connected yet.

use crate::error::LoadError;
use crate::options::{Options, Protocol, Qos};
use crate::payload;
use crate::target::Target;
use crate::tls::Tls;
use crate::topology::{Topology, check_filter};
use std::time::Duration;

/// Clients of a run: 40 source addresses, and some GiB of memory in most brokers.
const CLIENTS_MAX: u32 = 1_000_000;

/// Half of what the decoder takes, so that topic and properties fit in any case.
const PAYLOAD_BYTES_MAX: u32 = 16 * 1_024 * 1_024;

/// A week; more is a mistake.
const SECONDS_MAX: f64 = 7.0 * 86_400.0;

/// One in 17 minutes, and more than one core can send.
const RATE_MIN: f64 = 0.001;
/// See [`RATE_MIN`].
const RATE_MAX: f64 = 1e8;

/// Longest client id prefix; a broker need not take more than 23 bytes, most take 65,535.
const CLIENT_ID_BYTES_MAX: usize = 1_024;

/// What is going to be done.
#[derive(Clone)]
pub struct Plan {
    pub(crate) target: Target,
    pub(crate) tls: Option<Tls>,
    pub(crate) protocol: Protocol,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) client_id: String,
    pub(crate) qos: Qos,
    pub(crate) clean: bool,
    pub(crate) session_expiry_s: u32,
    pub(crate) keep_alive_s: u16,
    /// Connections per second; none for as fast as possible.
    pub(crate) connect_rate: Option<f64>,
    pub(crate) work: Work,
}

/// Publish and count, or only be connected.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    Traffic(Box<Traffic>),
    Hold(Hold),
}

/// Clients that publish, and clients that count what arrives.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    pub topology: Topology,
    pub payload_bytes: usize,
    /// Of all publishers together; none for as fast as the window lets them.
    pub rate: Option<f64>,
    pub window: u16,
    pub end: End,
    pub warm_up: Duration,
    pub retain: bool,
}

/// When publishers stop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// After so many messages together.
    Messages(u64),
    /// After so long, the warm-up not included.
    After(Duration),
}

/// Clients that only stay connected.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub connections: u32,
    /// Template of what each subscribes to.
    pub filter: Option<String>,
    pub hold: Duration,
}

impl Plan {
    /// Checks the options and reads the files they name.
    ///
    /// # Errors
    /// An option or a file is wrong; the text names it and says what would be right.
    pub fn new(options: &Options) -> Result<Self, LoadError> {
        let target = Target::parse(&options.url)?;
        check_identity(options)?;
        let tls = if target.tls { Some(Tls::new(options, &target.host)?) } else { None };
        if tls.is_none() && (options.ca.is_some() || options.cert.is_some() || options.resume) {
            let what =
                format!("TLS options need a mqtts:// or wss:// URL, and this is `{}`", options.url);
            return Err(LoadError::option("url", what));
        }
        let work = match options.connections_only {
            Some(connections) => Work::Hold(hold(options, connections)?),
            None => Work::Traffic(Box::new(traffic(options)?)),
        };
        Ok(Self {
            target,
            tls,
            protocol: options.protocol,
            username: options.username.clone(),
            password: options.password.clone(),
            client_id: options.client_id.clone(),
            qos: options.qos,
            clean: options.clean,
            session_expiry_s: options.session_expiry,
            keep_alive_s: options.keep_alive,
            connect_rate: rate("connect-rate", options.connect_rate)?,
            work,
        })
    }

    /// How many connections it opens.
    pub fn connections(&self) -> u64 {
        match &self.work {
            Work::Traffic(traffic) => {
                let topology = &traffic.topology;
                (topology.topics.len() + topology.subscriptions.len()) as u64
            }
            Work::Hold(hold) => hold.connections.into(),
        }
    }
}

fn check_identity(options: &Options) -> Result<(), LoadError> {
    let id = &options.client_id;
    if id.is_empty() || id.len() > CLIENT_ID_BYTES_MAX || id.contains('\0') {
        let what = format!("it has 1 to {CLIENT_ID_BYTES_MAX} bytes and no NUL");
        return Err(LoadError::option("client-id", what));
    }
    for (option, text) in [("username", &options.username), ("password", &options.password)] {
        if text.as_ref().is_some_and(|text| text.len() > usize::from(u16::MAX)) {
            return Err(LoadError::option(option, "it has at most 65,535 bytes"));
        }
    }
    if options.protocol == Protocol::V311 {
        if options.password.is_some() && options.username.is_none() {
            let what = "MQTT 3.1.1 has no password without --username; give both, or --protocol 5";
            return Err(LoadError::option("password", what));
        }
        if options.session_expiry > 0 {
            let what = "MQTT 3.1.1 has no session expiry; use --protocol 5, or --clean false";
            return Err(LoadError::option("session-expiry", what));
        }
    }
    Ok(())
}

fn hold(options: &Options, connections: u32) -> Result<Hold, LoadError> {
    check_count("connections-only", connections, 1)?;
    if let Some(filter) = &options.filter {
        check_filter(filter)?;
    }
    let hold = seconds("duration", options.duration)?;
    Ok(Hold { connections, filter: options.filter.clone(), hold })
}

fn traffic(options: &Options) -> Result<Traffic, LoadError> {
    check_count("publishers", options.publishers, 1)?;
    check_count("subscribers", options.subscribers, 0)?;
    let payload_bytes = options.payload as usize;
    if payload_bytes < payload::BYTES_MIN || options.payload > PAYLOAD_BYTES_MAX {
        let what = format!(
            "from {} (the message's number; from {} on with its time) to {PAYLOAD_BYTES_MAX} bytes",
            payload::BYTES_MIN,
            payload::BYTES_WITH_TIME
        );
        return Err(LoadError::option("payload", what));
    }
    let end = match options.messages {
        Some(0) => return Err(LoadError::option("messages", "at least 1")),
        Some(messages) => End::Messages(messages),
        None => End::After(seconds("duration", options.duration)?),
    };
    Ok(Traffic {
        topology: Topology::new(options)?,
        payload_bytes,
        rate: rate("rate", options.rate)?,
        window: options.window,
        end,
        warm_up: seconds("warm-up", options.warm_up)?,
        retain: options.retain,
    })
}

fn check_count(option: &'static str, count: u32, at_least: u32) -> Result<(), LoadError> {
    if (at_least..=CLIENTS_MAX).contains(&count) {
        return Ok(());
    }
    Err(LoadError::option(option, format!("from {at_least} to {CLIENTS_MAX}, not {count}")))
}

fn seconds(option: &'static str, seconds: f64) -> Result<Duration, LoadError> {
    if (0.0..=SECONDS_MAX).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(LoadError::option(option, format!("seconds from 0 to {SECONDS_MAX}, not {seconds}")))
}

/// None for 0, which means no limit.
fn rate(option: &'static str, rate: f64) -> Result<Option<f64>, LoadError> {
    if rate == 0.0 {
        return Ok(None);
    }
    if (RATE_MIN..=RATE_MAX).contains(&rate) {
        return Ok(Some(rate));
    }
    let what = format!("per second, from {RATE_MIN} to {RATE_MAX}, or 0 for no limit; not {rate}");
    Err(LoadError::option(option, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(expected: &str, change: impl FnOnce(&mut Options)) {
        let mut options = Options::default();
        change(&mut options);
        let error = Plan::new(&options).err().expect("refused").to_string();
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn a_wrong_option_is_named_with_what_would_be_right() {
        refused("--payload: from 10", |options| options.payload = 9);
        refused("--publishers: from 1 to", |options| options.publishers = 0);
        refused("--messages: at least 1", |options| options.messages = Some(0));
        refused("--duration: seconds from 0", |options| options.duration = f64::NAN);
        refused("--rate: per second", |options| options.rate = -1.0);
        refused("--session-expiry: MQTT 3.1.1", |options| options.session_expiry = 60);
        refused("--password: MQTT 3.1.1", |options| options.password = Some("p".into()));
        refused("--client-id: it has", |options| options.client_id = String::new());
        refused("--url: TLS options need", |options| options.ca = Some("ca.pem".into()));
        refused("--filter: in ", |options| {
            (options.connections_only, options.filter) = (Some(1), Some("a#".into()));
        });
        refused("--ca: cannot use /no/such/file:", |options| {
            options.url = "mqtts://localhost".into();
            options.ca = Some("/no/such/file".into());
        });
    }

    #[test]
    fn connections_are_those_of_both_sides() {
        let mut options = Options { publishers: 2, subscribers: 2, ..Options::default() };
        assert_eq!(Plan::new(&options).map(|plan| plan.connections()).ok(), Some(4));
        options.connections_only = Some(7);
        assert_eq!(Plan::new(&options).map(|plan| plan.connections()).ok(), Some(7));
    }
}
