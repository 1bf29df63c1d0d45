//! Why a client is refused: texts for the operator, with nothing of the token in them.

use gnomon_sdk::authorizer::FillError;

/// Why a client is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither a token field nor a user name's query nor a password.
    #[error("no token: neither a token field, nor the user name's query, nor a password has one")]
    NoToken,
    /// Longer than [`crate::token::TOKEN_BYTES_MAX`].
    #[error("the token has {len} bytes; at most {max} are allowed")]
    TooLong {
        /// Bytes of the token.
        len: usize,
        /// Bytes that are allowed.
        max: usize,
    },
    /// Not a JWS in compact form with JSON inside.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// `alg` is `none` or another one that is not supported.
    #[error("the token's alg is none of RS256, ES256 and HS256")]
    Algorithm,
    /// RFC 7515, 4.1.11: extensions that are critical must be understood; none is.
    #[error("the token's header has crit, which asks for extensions that are not supported")]
    Critical,
    /// No key has the token's `alg` and `kid` together.
    #[error("no configured key has the token's alg and kid")]
    NoKey,
    /// No candidate's signature.
    #[error("the token's signature is not that of a configured key")]
    Signature,
    /// A claim that is needed.
    #[error("the token has no claim {0}")]
    NoClaim(String),
    /// A claim of another type.
    #[error("the token's claim {claim} is not {expected}")]
    ClaimType {
        /// Its name, from the configuration or a standard.
        claim: String,
        /// What it should be.
        expected: &'static str,
    },
    /// `exp` and the leeway are over.
    #[error("the token expired {ago_s} s ago")]
    Expired {
        /// Seconds since `exp`.
        ago_s: u64,
    },
    /// `nbf` is further ahead than the leeway.
    #[error("the token is not valid before {in_s} s from now")]
    NotYetValid {
        /// Seconds until `nbf`.
        in_s: u64,
    },
    /// `iss` is another one.
    #[error("the token is from another issuer")]
    Issuer,
    /// `aud` has none of the configured audiences.
    #[error("the token is for another audience")]
    Audience,
    /// `sub` cannot be a principal.
    #[error(
        "the token's sub has other characters than [a-zA-Z0-9], or not 1 to 128 of them; \
         principal = \"sha256\" takes any sub"
    )]
    Principal,
    /// The claim cannot be a thing name.
    #[error("the token's claim {claim} is no thing name: 1 to 128 of [a-zA-Z0-9:_-]")]
    ThingName {
        /// Name of the claim.
        claim: String,
    },
    /// The claims cannot be put into the policies.
    #[error(transparent)]
    Policy(#[from] FillError),
}
