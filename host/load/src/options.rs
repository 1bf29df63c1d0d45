//! The options of `gnomon bench`, as they are written on the command line.
//!
//! Not here: whether they make sense together; [`Plan`](crate::Plan) decides that.

use clap::{Args, FromArgMatches, ValueEnum};
use std::path::PathBuf;

/// What `gnomon bench` is told.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct Options {
    /// Where the broker is: mqtt://HOST:PORT or mqtts://HOST:PORT; without PORT 1883 or 8883. Over
    /// WebSocket ws://HOST:PORT/PATH or wss://HOST:PORT/PATH; without them 80 or 443, and /mqtt.
    #[arg(long, default_value = "mqtt://127.0.0.1:1883")]
    pub url: String,
    /// CA certificates that sign the broker's, PEM; without it those of the system hold.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Client certificate with its chain, PEM; all clients use it.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Private key of the client certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Name that the broker's certificate must have; by default the URL's host.
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// Resume TLS sessions: a connection uses a ticket of an earlier one when there is one.
    #[arg(long)]
    pub resume: bool,
    /// User name of all clients.
    #[arg(long)]
    pub username: Option<String>,
    /// Password of all clients.
    #[arg(long)]
    pub password: Option<String>,
    /// Version of MQTT.
    #[arg(long, value_enum, default_value_t)]
    pub protocol: Protocol,
    /// Client ids are PREFIX-pub-0, PREFIX-sub-0 and so on.
    #[arg(long, value_name = "PREFIX", default_value = "bench")]
    pub client_id: String,

    /// Clients that publish.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub publishers: u32,
    /// Clients that subscribe.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub subscribers: u32,
    /// Who gets what: `pairs` one subscriber for each publisher; `fan-in` and `fan-out` every
    /// subscriber gets everything.
    #[arg(long, value_enum, default_value_t, conflicts_with = "filter")]
    pub shape: Shape,
    /// Topic of a publisher; {i} is its number.
    #[arg(long, value_name = "TEMPLATE", default_value = "bench/{i}")]
    pub topic: String,
    /// Filter of a subscriber; {i} is its number. With --connections-only: subscribes each client.
    #[arg(long, value_name = "TEMPLATE")]
    pub filter: Option<String>,
    /// Quality of service of messages and subscriptions.
    #[arg(long, value_enum, default_value = "0")]
    pub qos: Qos,
    /// Bytes of a message; from 16 on messages carry their time, so that latency is measured.
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub payload: u32,
    /// Messages per second of all publishers together; 0: as fast as the window lets them.
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    pub rate: f64,
    /// Messages of one publisher under way: not acknowledged yet (QoS 1 and 2), or not received
    /// yet by a subscriber of this run.
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u16).range(1..))]
    pub window: u16,
    /// End after so many messages of all publishers together.
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    pub messages: Option<u64>,
    /// End after so many seconds; with --connections-only: how long connections are held.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub duration: f64,
    /// Seconds of load before latency and rates are measured.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, conflicts_with = "messages")]
    pub warm_up: f64,
    /// Publish retained messages; they stay at the broker.
    #[arg(long)]
    pub retain: bool,
    /// Subscribers begin with a new session (Clean Session, Clean Start). With `false` their
    /// sessions are durable with 3.1.1, and stay at the broker.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub clean: bool,
    /// Seconds that the broker keeps subscribers' sessions after their connection; MQTT 5 only.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub session_expiry: u32,
    /// Seconds between two packets of a client at most; 0 for none.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub keep_alive: u16,

    /// Connect so many clients, hold them for --duration and publish nothing.
    #[arg(long, value_name = "N", conflicts_with_all = ["publishers", "subscribers", "shape",
        "topic", "payload", "rate", "window", "messages", "warm_up", "retain"])]
    pub connections_only: Option<u32>,
    /// Connections opened per second; 0: as fast as the broker takes 64 at a time.
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    pub connect_rate: f64,

    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// No progress line on stderr.
    #[arg(long)]
    pub quiet: bool,
}

impl Default for Options {
    /// What holds when nothing is written on the command line.
    fn default() -> Self {
        let command = Self::augment_args(clap::Command::new("bench"));
        let matches = command.get_matches_from(["bench"]);
        Self::from_arg_matches(&matches).expect("no option is required")
    }
}

/// Version of MQTT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// ISO/IEC 20922.
    #[default]
    #[value(name = "3.1.1")]
    V311,
    /// MQTT 5.0.
    #[value(name = "5", alias = "5.0")]
    V5,
}

impl Protocol {
    /// The protocol level in CONNECT.
    pub fn level(self) -> u8 {
        match self {
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }
}

/// Quality of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Qos {
    /// QoS 0.
    #[default]
    #[value(name = "0")]
    AtMostOnce,
    /// QoS 1.
    #[value(name = "1")]
    AtLeastOnce,
    /// QoS 2.
    #[value(name = "2")]
    ExactlyOnce,
}

impl Qos {
    /// As a number.
    pub fn level(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        }
    }
}

/// Who gets what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Subscriber `i` gets what publisher `i` publishes.
    #[default]
    Pairs,
    /// Every subscriber gets everything: many publishers, few subscribers.
    FanIn,
    /// Every subscriber gets everything: few publishers, many subscribers.
    FanOut,
}

const EXAMPLES: &str = "\
Examples:
  100 pairs at QoS 1, as fast as they go:
    gnomon bench --publishers 100 --subscribers 100 --qos 1
  1,000 messages a second from 50 sensors to one reader, for a minute:
    gnomon bench --publishers 50 --shape fan-in --rate 1000 --duration 60
  Mutual TLS, 2,000 connections at 200 a second, held for 30 seconds:
    gnomon bench --url mqtts://broker:8883 --ca ca.pem --cert device.pem --key device-key.pem \\
      --connections-only 2000 --connect-rate 200 --duration 30
  Over WebSocket with TLS:
    gnomon bench --url wss://broker:443/mqtt --ca ca.pem --cert device.pem --key device-key.pem

A connection that is lost is counted as failed and not opened again; the others go on.

Ends with 0 when everything arrived, with 1 when something was lost or failed.";
