//! Why a client is refused: texts for the operator, with nothing of a name or password in them.

use gnomon_sdk::authorizer::FillError;

/// Why a client is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither in CONNECT nor in a header.
    #[error(
        "no password: neither MQTT's CONNECT nor HTTP basic authentication has user name and \
         password"
    )]
    NoPassword,
    /// Longer than [`crate::credentials::PASSWORD_BYTES_MAX`].
    #[error("the password has {len} bytes; at most {max} are allowed")]
    TooLong {
        /// Bytes of the password.
        len: usize,
        /// Bytes that are allowed.
        max: usize,
    },
    /// One text for both, as they cost the same time.
    #[error("no such user, or another password")]
    Unknown,
    /// The user name makes a policy too long.
    #[error(transparent)]
    Policy(#[from] FillError),
}
