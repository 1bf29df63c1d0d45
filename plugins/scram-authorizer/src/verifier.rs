//! What is kept of a password (RFC 5802, 3): enough to check a proof, too little to make one.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Bytes of every salt: other lengths would tell who exists.
pub const SALT_BYTES: usize = 16;

/// RFC 7677, 4: at least 4096. More than a million stalls small devices.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4_096..=1_000_000;

/// Bytes of SHA-256.
pub type Hash = [u8; 32];

/// Salt, iterations and keys of one password.
pub struct Verifier {
    /// As the client gets it.
    pub salt: [u8; SALT_BYTES],
    /// As the client gets it.
    pub iterations: u32,
    stored_key: Hash,
    server_key: Hash,
}

impl Verifier {
    /// From `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`.
    ///
    /// # Errors
    /// A text without any part of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let shape = "verifier must be SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>";
        let mut parts = text.split('$');
        let (Some("SCRAM-SHA-256"), Some(cost), Some(keys), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(shape.into());
        };
        let (iterations, salt) = cost.split_once(':').ok_or(shape)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(shape)?;
        let iterations = iterations.parse().map_err(|_| shape)?;
        if !ITERATIONS.contains(&iterations) {
            let (least, most) = ITERATIONS.into_inner();
            return Err(format!("verifier must have {least} to {most} iterations"));
        }
        Ok(Self {
            salt: bytes(salt).ok_or("the verifier's salt must be 16 bytes in base64")?,
            iterations,
            stored_key: bytes(stored_key)
                .ok_or("the verifier's keys must be 32 bytes in base64")?,
            server_key: bytes(server_key)
                .ok_or("the verifier's keys must be 32 bytes in base64")?,
        })
    }

    /// One without a password.
    pub fn of_nobody(secret: &[u8], name: &str, iterations: u32) -> Self {
        let of = |what: &str| mac(secret, format!("{what}:{name}").as_bytes());
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&of("salt")[..SALT_BYTES]);
        Self { salt, iterations, stored_key: of("stored"), server_key: of("server") }
    }

    /// Whether the proof of these signed bytes was made with the password.
    pub fn proves(&self, signed: &[u8], proof: &Hash) -> bool {
        let mut client_key = mac(&self.stored_key, signed);
        client_key.iter_mut().zip(proof).for_each(|(byte, proof)| *byte ^= proof);
        let stored_key: Hash = Sha256::digest(client_key).into();
        stored_key.ct_eq(&self.stored_key).into()
    }

    /// By which the client knows the server.
    pub fn signature(&self, signed: &[u8]) -> Hash {
        mac(&self.server_key, signed)
    }
}

/// Base64 of exactly so many bytes.
pub fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}

fn mac(key: &[u8], message: &[u8]) -> Hash {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}
