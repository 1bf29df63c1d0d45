//! Device shadows: the last reported and the desired state of a thing, as AWS IoT keeps them.
//!
//! In: requests on `$aws/things/+/shadow/…` and from the REST API. Out: answers, and the messages
//! `accepted`, `rejected`, `documents` and `delta`. Reading order: `topics` (who is meant),
//! `request` (what is asked), `document` (merge, delta, metadata, versions), `answer` (what is
//! told), `record` (what is stored), `handler` (one request: durable, then published),
//! `worker` (order and concurrency), `forget` (what was deleted long ago), `service` (the way in,
//! [`Service`]), `snapshot` (what is stored, for those who ask nothing).
//! Not here: who may ask (the session and the REST API check policies first).

mod answer;
mod document;
mod forget;
mod handler;
mod record;
mod request;
mod service;
mod snapshot;
mod topics;
mod worker;

#[cfg(test)]
mod tests;

pub use service::Service;
pub use snapshot::Snapshot;
pub use topics::ShadowId;

use crate::ids::NameError;
use std::fmt;

/// Why a shadow request was rejected. `Display` is the `message` of the rejection, in AWS's words.
///
/// Source: AWS IoT, "Device Shadow error messages".
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShadowError {
    /// 400. Not a JSON object.
    InvalidJson,
    /// 400. No `state`.
    MissingState,
    /// 400. `state` is no object.
    StateNotObject,
    /// 400. `state.desired` is neither object nor null.
    DesiredNotObject,
    /// 400. `state.reported` is neither object nor null.
    ReportedNotObject,
    /// 400. `version` is no whole number from 0 up.
    InvalidVersion,
    /// 400. `clientToken` is no text of at most 64 bytes.
    InvalidClientToken,
    /// 400. More than `max` levels inside `desired` or `reported`.
    TooDeep {
        /// `Limits::shadow_levels`.
        max: u32,
    },
    /// 400. `state` has something that is neither `desired` nor `reported`, or an array has a null.
    InvalidNode {
        /// The member of `state`, its beginning when it is long.
        name: Option<String>,
    },
    /// 400. The topic names no possible thing or shadow.
    InvalidName(NameError),
    /// 404. There is no such shadow, or no longer.
    NotFound {
        /// The shadow's name; the thing's for the classic shadow.
        name: String,
    },
    /// 409. `version` is not the shadow's; read it and decide anew.
    VersionConflict,
    /// 413. The request, or the state after it, is too large.
    TooLarge,
    /// 415. Not UTF-8.
    UnsupportedEncoding,
    /// 429. Too many requests wait; try again later.
    TooManyRequests,
    /// The store failed or the host is shutting down (500): it is not known whether an update
    /// happened.
    Internal,
}

impl ShadowError {
    /// The `code` of the rejection, which is also the HTTP status.
    pub fn code(&self) -> u16 {
        match self {
            Self::InvalidJson
            | Self::MissingState
            | Self::StateNotObject
            | Self::DesiredNotObject
            | Self::ReportedNotObject
            | Self::InvalidVersion
            | Self::InvalidClientToken
            | Self::TooDeep { .. }
            | Self::InvalidNode { .. }
            | Self::InvalidName(_) => 400,
            Self::NotFound { .. } => 404,
            Self::VersionConflict => 409,
            Self::TooLarge => 413,
            Self::UnsupportedEncoding => 415,
            Self::TooManyRequests => 429,
            Self::Internal => 500,
        }
    }
}

impl fmt::Display for ShadowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidJson => "Invalid JSON",
            Self::MissingState => "Missing required node: state",
            Self::StateNotObject => "State node must be an object",
            Self::DesiredNotObject => "Desired node must be an object",
            Self::ReportedNotObject => "Reported node must be an object",
            Self::InvalidVersion => "Invalid version",
            Self::InvalidClientToken => "Invalid clientToken",
            Self::TooDeep { max } => {
                return write!(f, "JSON contains too many levels of nesting; maximum is {max}");
            }
            Self::InvalidNode { name: None } => "State contains an invalid node",
            Self::InvalidNode { name: Some(name) } => {
                return write!(f, "State contains an invalid node: '{name}'");
            }
            Self::InvalidName(error) => return error.fmt(f),
            Self::NotFound { name } => {
                return write!(f, "No shadow exists with name: '{name}'");
            }
            Self::VersionConflict => "Version conflict",
            Self::TooLarge => "The payload exceeds the maximum size allowed",
            Self::UnsupportedEncoding => {
                "Unsupported documented encoding; supported encoding is UTF-8"
            }
            Self::TooManyRequests => "Too many requests in flight",
            Self::Internal => "Internal service failure",
        })
    }
}

impl std::error::Error for ShadowError {}
