//! Protocol Buffers to JSON, for `decode(value, 'proto', bucket, key, file, message)`.
//!
//! In: a file descriptor set (`protoc --include_imports --descriptor_set_out`), and which message
//! of which file a payload is, once ([`Descriptor::parse`]); then payloads. Out: JSON, see `json`.
//! Neither sets nor payloads can make it panic, recurse or grow beyond the bounds below.
//! Set -> `wire` -> `schema`; payload -> `wire` -> `json`.
//! Not here: fetching the set from the bucket, caching what was parsed. Not understood: editions.
//!
//! Why not a library: those that read descriptor sets at run time trust them, and panic on one
//! that is damaged; all that is needed of the format is in `wire`.
//!
//! Source: AWS IoT developer guide, "Decoding protobuf message payloads".

mod json;
mod schema;
mod wire;

use super::{EVALUATION_BYTES_MAX, JSON_DEPTH_MAX};
use std::sync::Arc;

/// Largest descriptor set in bytes; parsed it takes up to 100 times as much.
///
/// A message takes 2 bytes in the set and about 200 when parsed.
pub const SET_BYTES_MAX: usize = 256 * 1_024;

/// Largest payload in bytes: AWS's largest MQTT message.
pub const PAYLOAD_BYTES_MAX: usize = 128 * 1_024;

/// Why a descriptor set does not describe the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptorError {
    /// Split the set: it has to hold what this message needs, not more.
    #[error("the descriptor set has {bytes} bytes; at most {SET_BYTES_MAX}")]
    TooLarge {
        /// What it has.
        bytes: usize,
    },
    /// These bytes are something else, often the text of the .proto file.
    #[error("not a file descriptor set")]
    Malformed(#[source] wire::Malformed),
    /// Compile the set again, with `--include_imports`.
    #[error("the descriptor set lacks the type {name:?}")]
    NoType {
        /// With its package.
        name: String,
    },
    /// Write the file in proto2 or proto3.
    #[error("the file {file:?} has the syntax {syntax:?}, not proto2 or proto3")]
    UnknownSyntax {
        /// Of the set.
        file: String,
        /// What it says.
        syntax: String,
    },
    /// Name a file of the set.
    #[error("the descriptor set has no file {file:?}")]
    NoFile {
        /// As asked for.
        file: String,
    },
    /// Name a message of this file.
    #[error("the file {file:?} has no message {message:?}")]
    NoMessage {
        /// As asked for.
        file: String,
        /// As asked for.
        message: String,
    },
}

/// What a payload means. Immutable; cheap to clone.
#[derive(Clone, Debug)]
pub struct Descriptor {
    schema: Arc<schema::Schema>,
    message: usize,
}

impl Descriptor {
    /// The message of this file in the set.
    ///
    /// `file` may lack its folder and `.proto`; `message` may lack the file's package. A message
    /// in a message is `Outer.Inner`.
    ///
    /// # Errors
    /// The set is too large, malformed or incomplete, or has no such message.
    pub fn parse(set: &[u8], file: &str, message: &str) -> Result<Self, DescriptorError> {
        if set.len() > SET_BYTES_MAX {
            return Err(DescriptorError::TooLarge { bytes: set.len() });
        }
        let schema = schema::Schema::parse(set)?;
        let message = schema.find(file, message)?;
        Ok(Self { schema: Arc::new(schema), message })
    }

    /// The payload as JSON; `None` when it is not of this message, lacks a required field, or
    /// exceeds a bound: [`PAYLOAD_BYTES_MAX`], [`JSON_DEPTH_MAX`], [`EVALUATION_BYTES_MAX`].
    ///
    /// Fields that the descriptor does not know are left out.
    pub fn decode(&self, payload: &[u8]) -> Option<serde_json::Value> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return None;
        }
        json::Writer::new(&self.schema, EVALUATION_BYTES_MAX).message(
            self.message,
            payload,
            JSON_DEPTH_MAX,
        )
    }
}

#[cfg(test)]
mod tests;
