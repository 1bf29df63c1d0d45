//! Where a client puts its token, and the token's parts (JWS compact serialization, RFC 7515).
//!
//! In: [`AuthRequest`]. Out: [`Token`], of which only the form is known to be right.

use crate::keys::Algorithm;
use crate::refusal::Refusal;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use gnomon_sdk::AuthRequest;
use serde::Deserialize;

/// Longest token that is looked at: tokens with dozens of claims have 2 KiB.
pub const TOKEN_BYTES_MAX: usize = 8_192;

/// The token of a connection: the host's token field, else the field of this name in the query
/// of the user name, else the password.
pub fn find<'r>(request: &'r AuthRequest, field: &str) -> Result<&'r str, Refusal> {
    let mqtt = request.mqtt.as_ref();
    let username = mqtt.and_then(|mqtt| mqtt.username.as_deref());
    if let Some(token) = request.token.as_deref().or_else(|| query_field(username?, field)) {
        return Ok(token);
    }
    match mqtt.and_then(|mqtt| mqtt.password.as_deref()) {
        None | Some([]) => Err(Refusal::NoToken),
        Some(bytes) => std::str::from_utf8(bytes).map_err(|_| Refusal::Malformed("it is not text")),
    }
}

/// No percent-decoding: every character of a token stands for itself in a query.
fn query_field<'u>(username: &'u str, field: &str) -> Option<&'u str> {
    let (_, query) = username.split_once('?')?;
    query.split('&').find_map(|pair| match pair.split_once('=') {
        Some((name, value)) if name == field => Some(value),
        _ => None,
    })
}

/// A token in parts; the signature is not verified.
pub struct Token<'t> {
    pub algorithm: Algorithm,
    pub kid: Option<String>,
    /// What the signature is over: header and payload as they came.
    pub signed: &'t str,
    pub payload: Vec<u8>,
    pub signature: Vec<u8>,
}

/// What decides from the header. Keys and addresses of keys in it (`jwk`, `jku`, `x5c`, `x5u`)
/// are not even read: only configured keys count.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde::de::IgnoredAny>,
}

impl<'t> Token<'t> {
    pub fn parse(text: &'t str) -> Result<Self, Refusal> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::TooLong { len: text.len(), max: TOKEN_BYTES_MAX });
        }
        let parts = || {
            let (signed, signature) = text.rsplit_once('.')?;
            let (header, payload) = signed.split_once('.')?;
            (!payload.contains('.')).then_some((signed, header, payload, signature))
        };
        let (signed, header, payload, signature) =
            parts().ok_or(Refusal::Malformed("it has not the three parts of a signed token"))?;
        let decode = |part: &str| {
            BASE64_URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| Refusal::Malformed("a part is not base64url without padding"))
        };
        let header: Header = serde_json::from_slice(&decode(header)?)
            .map_err(|_| Refusal::Malformed("the header is not JSON with an alg"))?;
        if header.crit.is_some() {
            return Err(Refusal::Critical);
        }
        Ok(Self {
            algorithm: Algorithm::parse(&header.alg).ok_or(Refusal::Algorithm)?,
            kid: header.kid,
            signed,
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }
}
