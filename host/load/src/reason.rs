//! Names of return and reason codes, as the standards write them.
//!
//! Source: MQTT 3.1.1, table 3.1; MQTT 5.0, 2.4.

use crate::options::Protocol;
use std::fmt;

/// A code with its name, for people: `Not authorized (0x87)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// As sent.
    pub code: u8,
    name: &'static str,
}

impl Reason {
    /// The code of a CONNACK.
    pub fn of_connect(protocol: Protocol, code: u8) -> Self {
        let name = match (protocol, code) {
            (Protocol::V5, 0x80..) => return Self::of(code),
            (_, 1) => "Unacceptable protocol version",
            (_, 2) => "Identifier rejected",
            (_, 3) => "Server unavailable",
            (_, 4) => "Bad user name or password",
            (_, 5) => "Not authorized",
            _ => "unknown code",
        };
        Self { code, name }
    }

    /// The code of any other packet. 3.1.1 has one failure, 0x80 in SUBACK.
    pub fn of(code: u8) -> Self {
        let name = match code {
            0x00 => "Success",
            0x80 => "Unspecified error",
            0x81 => "Malformed Packet",
            0x82 => "Protocol Error",
            0x83 => "Implementation specific error",
            0x84 => "Unsupported Protocol Version",
            0x85 => "Client Identifier not valid",
            0x86 => "Bad User Name or Password",
            0x87 => "Not authorized",
            0x88 => "Server unavailable",
            0x89 => "Server busy",
            0x8a => "Banned",
            0x8b => "Server shutting down",
            0x8c => "Bad authentication method",
            0x8d => "Keep Alive timeout",
            0x8e => "Session taken over",
            0x8f => "Topic Filter invalid",
            0x90 => "Topic Name invalid",
            0x91 => "Packet identifier in use",
            0x92 => "Packet Identifier not found",
            0x93 => "Receive Maximum exceeded",
            0x94 => "Topic Alias invalid",
            0x95 => "Packet too large",
            0x96 => "Message rate too high",
            0x97 => "Quota exceeded",
            0x98 => "Administrative action",
            0x99 => "Payload format invalid",
            0x9a => "Retain not supported",
            0x9b => "QoS not supported",
            0x9c => "Use another server",
            0x9d => "Server moved",
            0x9e => "Shared Subscriptions not supported",
            0x9f => "Connection rate exceeded",
            0xa0 => "Maximum connect time",
            0xa1 => "Subscription Identifiers not supported",
            0xa2 => "Wildcard Subscriptions not supported",
            _ => "unknown code",
        };
        Self { code, name }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:#04x})", self.name, self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_of_their_version() {
        for (reason, text) in [
            (Reason::of_connect(Protocol::V311, 5), "Not authorized (0x05)"),
            (Reason::of_connect(Protocol::V5, 0x87), "Not authorized (0x87)"),
            (Reason::of_connect(Protocol::V5, 1), "Unacceptable protocol version (0x01)"),
            (Reason::of(0x97), "Quota exceeded (0x97)"),
            (Reason::of(0xff), "unknown code (0xff)"),
        ] {
            assert_eq!(reason.to_string(), text);
        }
    }
}
