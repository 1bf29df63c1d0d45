//! Gnomon's own conformance tests: MQTT 3.1.1 and 5.0 from outside, over TCP.
//!
//! The tests know bytes, not types: they share no code with the gateway's codec. Every test names
//! the normative statements that it shows, in lines of its doc comment such as
//! `/// 5.0: 3.1.0-1, 3.1.0-2`; `statements` checks them against the lists of both standards in
//! `statements-3.1.1.txt` and `statements-5.0.txt`. Only `hostile` and `certificates` are about
//! more than the standards say.
//!
//! `CONFORMANCE_BROKER=host:port` runs the same tests against any broker.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod client;
mod packets;
mod read;
mod server;
mod wire;

mod aliases;
mod auth;
mod certificates;
mod connect;
mod deliver;
mod delivery;
mod disconnect;
mod enhanced;
mod hostile;
mod limits;
mod malformed;
mod properties;
mod publish;
mod resume;
mod retained;
mod session;
mod shared;
mod statements;
mod subscribe;
mod topics;
mod websocket;
mod will;
mod window;
