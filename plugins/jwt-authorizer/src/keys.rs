//! Keys that tokens may be signed with, each for one algorithm (RFC 8725, 3.1).
//!
//! In: the configuration, sets of keys ([`crate::jwks`]), a [`Token`]. Out: whether a key's
//! signature is on it. A key's type has its algorithm in it, so a token cannot make an RSA key
//! serve as the secret of an HMAC.

use crate::jwks::{Jwks, JwksConfig};
use crate::refusal::Refusal;
use crate::token::Token;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use gnomon_sdk::host::{self, NamedSecret};
use hmac::{Hmac, KeyInit, Mac};
use p256::pkcs8::DecodePublicKey;
use rsa::BoxedUint;
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::signature::Verifier;
use rsa::traits::PublicKeyParts;
use serde::Deserialize;
use sha2::Sha256;
use std::time::Duration;

/// Each costs time when a token says no `kid`: 0.3 ms with 2048 bits of RSA, 1.5 ms with 4096 and
/// 0.9 ms on P-256, measured as WebAssembly. 16 x 1.5 ms = 24 ms of the 50 ms that a call has.
const KEYS_MAX: usize = 16;

/// Bits of RSA keys: fewer are weak (RFC 7518, 3.3), more cost too much time.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;

/// RFC 7518, 3.2: a secret as long as the hash.
const SECRET_BYTES_MIN: usize = 32;

/// Padded or not; for secrets, of which both forms are about.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A signature algorithm (RFC 7518, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// HMAC with SHA-256.
    Hs256,
}

impl Algorithm {
    /// From a header's `alg`, which is case-sensitive.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "HS256" => Some(Self::Hs256),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::Hs256 => "HS256",
        }
    }
}

/// A key in the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// Its name in tokens. Default: the JWK's own; without any, the key is tried for every token
    /// of its algorithm.
    kid: Option<String>,
    /// The only algorithm that the key is for.
    alg: Algorithm,
    /// The public key in PEM, a JWK, or for HS256 the secret in base64 or where it is.
    key: Material,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "key is neither text (a public key in PEM, or a secret in base64), nor a JWK, \
                 nor { secret = \"NAME\" }"
)]
enum Material {
    Text(String),
    /// The text in it is base64.
    Named(NamedSecret),
    Jwk(Box<Jwk>),
}

/// RFC 7517; members that do not matter here may be there.
#[derive(Deserialize)]
pub struct Jwk {
    kty: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    d: Option<serde::de::IgnoredAny>,
}

/// All keys of an authorizer.
pub struct Keys {
    configured: Vec<Key>,
    jwks: Option<Jwks>,
}

/// A key for one algorithm.
pub struct Key {
    kid: Option<String>,
    verifier: KeyVerifier,
}

enum KeyVerifier {
    Rs256(rsa::pkcs1v15::VerifyingKey<Sha256>),
    Es256(p256::ecdsa::VerifyingKey),
    Hs256(Hmac<Sha256>),
}

impl Keys {
    /// # Errors
    /// Which key is wrong and why, without the key.
    pub fn parse(configs: Vec<KeyConfig>, jwks: Option<JwksConfig>) -> Result<Self, String> {
        let room = KEYS_MAX.checked_sub(configs.len());
        let room = match (room, &jwks) {
            (Some(KEYS_MAX), None) | (None, _) => {
                return Err(format!("keys must have 1 to {KEYS_MAX} keys, or there must be jwks"));
            }
            (Some(0), Some(_)) => return Err("keys leaves no room for those of jwks".into()),
            (Some(room), _) => room,
        };
        let mut configured: Vec<Key> = Vec::with_capacity(configs.len());
        for (index, config) in configs.into_iter().enumerate() {
            let key = Key::parse(config).map_err(|e| format!("keys[{index}]: {e}"))?;
            if key.kid.is_some() && configured.iter().any(|known| known.kid == key.kid) {
                return Err(format!("keys[{index}]: another key has the same kid"));
            }
            configured.push(key);
        }
        let jwks = jwks.map(|config| Jwks::new(config, room)).transpose();
        Ok(Self { configured, jwks: jwks.map_err(|e| format!("jwks: {e}"))? })
    }

    /// Ok when a key with the token's algorithm, and its `kid` where both have one, signed it.
    pub fn verify(&mut self, token: &Token<'_>) -> Result<(), Refusal> {
        let is_named = |key: &Key| key.is_for(token) && key.kid.is_some();
        let is_missed = token.kid.is_some() && !self.all().any(is_named);
        if let Some(jwks) = &mut self.jwks {
            jwks.refresh(is_missed, Duration::from_nanos(host::monotonic_ns()));
        }
        let mut candidates = self.all().filter(|key| key.is_for(token)).peekable();
        if candidates.peek().is_none() {
            return Err(Refusal::NoKey);
        }
        let signed = token.signed.as_bytes();
        match candidates.any(|key| key.verifier.verify(signed, &token.signature)) {
            true => Ok(()),
            false => Err(Refusal::Signature),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Key> {
        self.configured.iter().chain(self.jwks.iter().flat_map(Jwks::keys))
    }
}

impl Key {
    fn parse(config: KeyConfig) -> Result<Self, String> {
        let KeyConfig { kid, alg, key } = config;
        let (verifier, own_kid) = match key {
            Material::Text(text) if alg == Algorithm::Hs256 => (hs256_base64(&text)?, None),
            Material::Text(pem) => (from_pem(alg, &pem)?, None),
            Material::Named(named) if alg == Algorithm::Hs256 => {
                let text = String::from_utf8(named.read()?).map_err(|_| NOT_BASE64)?;
                (hs256_base64(text.trim())?, None)
            }
            Material::Named(_) => {
                return Err(format!("{} needs a public key, not a secret", alg.name()));
            }
            Material::Jwk(jwk) => {
                let key = Self::of_jwk(*jwk, alg)?;
                (key.verifier, key.kid)
            }
        };
        match (kid, own_kid) {
            (Some(kid), Some(own)) if kid != own => Err("kid is not the JWK's own kid".into()),
            (kid, own) => Ok(Self { kid: kid.or(own), verifier }),
        }
    }

    /// # Errors
    /// Why it is no key for the algorithm, without the key.
    pub fn of_jwk(jwk: Jwk, alg: Algorithm) -> Result<Self, String> {
        Ok(Self { verifier: jwk.verifier(alg)?, kid: jwk.kid })
    }

    /// Whether it may have signed the token, by algorithm and name.
    fn is_for(&self, token: &Token<'_>) -> bool {
        self.verifier.algorithm() == token.algorithm
            && (self.kid.is_none() || token.kid.is_none() || self.kid == token.kid)
    }
}

impl KeyVerifier {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rs256(_) => Algorithm::Rs256,
            Self::Es256(_) => Algorithm::Es256,
            Self::Hs256(_) => Algorithm::Hs256,
        }
    }

    fn verify(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rs256(key) => rsa::pkcs1v15::Signature::try_from(signature)
                .is_ok_and(|signature| key.verify(signed, &signature).is_ok()),
            // [RFC 7518, 3.4] r and s, 32 bytes each.
            Self::Es256(key) => p256::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(signed, &signature).is_ok()),
            // Compares in constant time.
            Self::Hs256(key) => key.clone().chain_update(signed).verify_slice(signature).is_ok(),
        }
    }
}

impl Jwk {
    pub fn kty(&self) -> &str {
        &self.kty
    }

    pub fn alg(&self) -> Option<&str> {
        self.alg.as_deref()
    }

    fn verifier(&self, alg: Algorithm) -> Result<KeyVerifier, String> {
        if self.d.is_some() {
            return Err("the JWK has a private key (d); configure the public part only".into());
        }
        if self.alg.as_deref().is_some_and(|own| own != alg.name()) {
            return Err(format!("the JWK's own alg is not {}", alg.name()));
        }
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Err("the JWK's use is not sig".into());
        }
        let kty = match alg {
            Algorithm::Rs256 => "RSA",
            Algorithm::Es256 => "EC",
            Algorithm::Hs256 => "oct",
        };
        if self.kty != kty {
            return Err(format!("{} needs a JWK with kty {kty}", alg.name()));
        }
        match alg {
            Algorithm::Rs256 => rs256(&member("n", &self.n)?, &member("e", &self.e)?),
            Algorithm::Es256 if self.crv.as_deref() != Some("P-256") => {
                Err("ES256 needs a JWK with crv P-256".into())
            }
            Algorithm::Es256 => {
                // [SEC 1, 2.3.3] An uncompressed point is 04, x, y.
                let point = [vec![4], member("x", &self.x)?, member("y", &self.y)?].concat();
                p256::ecdsa::VerifyingKey::from_sec1_bytes(&point)
                    .map(KeyVerifier::Es256)
                    .map_err(|_| "x and y are no point of P-256".into())
            }
            Algorithm::Hs256 => hs256(&member("k", &self.k)?),
        }
    }
}

fn member(name: &str, value: &Option<String>) -> Result<Vec<u8>, String> {
    let text = value.as_deref().ok_or_else(|| format!("the JWK has no {name}"))?;
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| format!("the JWK's {name} is not base64url without padding"))
}

fn from_pem(alg: Algorithm, pem: &str) -> Result<KeyVerifier, String> {
    if pem.contains("PRIVATE KEY-----") {
        return Err("that is a private key; configure its public key only".into());
    }
    let unreadable = |_| {
        format!(
            "no public key for {} in PEM, which begins with -----BEGIN PUBLIC KEY-----",
            alg.name()
        )
    };
    if alg == Algorithm::Es256 {
        let key = p256::ecdsa::VerifyingKey::from_public_key_pem(pem).map_err(unreadable)?;
        return Ok(KeyVerifier::Es256(key));
    }
    let key = rsa::PublicKey::from_public_key_pem(pem)
        .or_else(|error| rsa::PublicKey::from_pkcs1_pem(pem).map_err(|_| error))
        .map_err(unreadable)?;
    rs256(&key.n_bytes(), &key.e_bytes())
}

fn rs256(modulus: &[u8], exponent: &[u8]) -> Result<KeyVerifier, String> {
    // Public numbers: they may be handled in variable time.
    let [n, e] = [modulus, exponent].map(BoxedUint::from_be_slice_vartime);
    let key = rsa::PublicKey::new_with_size_limits(n, e, RSA_BITS)
        .map_err(|error| format!("unusable RSA key, 2048 to 4096 bits are allowed: {error}"))?;
    Ok(KeyVerifier::Rs256(rsa::pkcs1v15::VerifyingKey::new(key)))
}

/// For errors of secrets, which never say more.
const NOT_BASE64: &str = "the secret is not base64";

fn hs256_base64(text: &str) -> Result<KeyVerifier, String> {
    if text.contains("-----BEGIN") {
        return Err("HS256 needs a secret; a public key is not secret".into());
    }
    let text = text.replace('-', "+").replace('_', "/");
    hs256(&BASE64.decode(text).map_err(|_| NOT_BASE64)?)
}

fn hs256(secret: &[u8]) -> Result<KeyVerifier, String> {
    if secret.len() < SECRET_BYTES_MIN {
        return Err(format!("the secret of HS256 has fewer than {SECRET_BYTES_MIN} bytes"));
    }
    let key = Hmac::new_from_slice(secret).map_err(|error| error.to_string())?;
    Ok(KeyVerifier::Hs256(key))
}
