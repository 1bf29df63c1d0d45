//! Keys that an issuer publishes as a JWK set (RFC 7517, 5), read once or fetched again and again.
//!
//! In: a document from a granted secret or from a URL. Out: the keys of it that tokens can be
//! signed with. Keys for something else are passed over with a line in the log, because issuers
//! publish keys for many purposes in one set. Not here: which URLs are allowed (the operator's
//! grants).
//!
//! Each instance of the plugin fetches for itself. A set is fetched when the first token comes, when
//! it is older than `refresh_s`, and when a token names a key that is not known, which is how new
//! keys announce themselves; strangers can name such keys too, so at most every 30 seconds. While
//! no new set comes, the last one stays.

use crate::keys::{Algorithm, Jwk, Key};
use gnomon_sdk::host::NamedSecret;
use gnomon_sdk::{Level, Request, host};
use serde::Deserialize;
use serde_json::Value;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Between two attempts to fetch, whatever they are for.
const FETCH_PAUSE: Duration = Duration::from_secs(30);

/// Longest wait for a set: below the 5 seconds that the host waits for an authorizer.
const FETCH_TIMEOUT_MS: u32 = 3_000;

/// Longest set; those of large issuers have 20 KiB.
const SET_BYTES_MAX: usize = 65_536;

/// Seconds that `refresh_s` may be: a key that was withdrawn must not serve for days.
const REFRESH_S: RangeInclusive<u32> = 30..=86_400;

/// Where a set is.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "jwks is neither { secret = \"NAME\" } nor { url = \"https://…\", refresh_s = 300 }"
)]
pub enum JwksConfig {
    /// In a granted secret.
    Secret(NamedSecret),
    /// Fetched through the plugin's grants.
    Url(UrlConfig),
}

/// Where a set is fetched.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UrlConfig {
    /// Its origin must be granted. What is there may let anybody in, so HTTP is for
    /// this machine only.
    url: String,
    /// Seconds after which the set is fetched again, 30 to 86,400. Default 300.
    #[serde(default = "refresh_s")]
    refresh_s: u32,
}

fn refresh_s() -> u32 {
    300
}

/// The keys of a set.
pub struct Jwks {
    keys: Vec<Key>,
    /// At most so many keys.
    room: usize,
    /// None when the set cannot change.
    fetcher: Option<Fetcher>,
}

struct Fetcher {
    request: Request,
    refresh: Duration,
    /// When the last attempt began, by a clock that never goes back.
    tried: Option<Duration>,
    /// When the set that is used was fetched.
    fetched: Option<Duration>,
    /// The set that is used: the same again need not be read again, nor told again.
    document: Vec<u8>,
}

impl Jwks {
    /// # Errors
    /// Why there is no key, or where the set is cannot be used.
    pub fn new(config: JwksConfig, room: usize) -> Result<Self, String> {
        match config {
            JwksConfig::Secret(secret) => {
                let keys = parse(&secret.read()?, room, Origin::Secret)?;
                if keys.is_empty() {
                    return Err("none of its keys can be used; the log has the reasons".into());
                }
                Ok(Self { keys, room, fetcher: None })
            }
            JwksConfig::Url(UrlConfig { url, refresh_s }) => {
                if !["https://", "http://"].iter().any(|scheme| url.starts_with(scheme)) {
                    return Err("url must begin with https:// or http://".into());
                }
                if !REFRESH_S.contains(&refresh_s) {
                    let (least, most) = REFRESH_S.into_inner();
                    return Err(format!("refresh_s must be {least} to {most}"));
                }
                let headers = vec![("accept".into(), "application/json".into())];
                let timeout_ms = Some(FETCH_TIMEOUT_MS);
                let request = Request { headers, timeout_ms, ..Request::new("GET", &url) };
                let refresh = Duration::from_secs(refresh_s.into());
                let (tried, fetched, document) = (None, None, Vec::new());
                let fetcher = Some(Fetcher { request, refresh, tried, fetched, document });
                Ok(Self { keys: Vec::new(), room, fetcher })
            }
        }
    }

    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Fetches the set when that is due; `is_missed` says that a token names a key that is not
    /// there.
    pub fn refresh(&mut self, is_missed: bool, now: Duration) {
        let Some(fetcher) = &mut self.fetcher else { return };
        let is_over = |since: Option<Duration>, time| {
            since.is_none_or(|since| now.saturating_sub(since) >= time)
        };
        let is_wanted = is_missed || is_over(fetcher.fetched, fetcher.refresh);
        if !is_wanted || !is_over(fetcher.tried, FETCH_PAUSE) {
            return;
        }
        fetcher.tried = Some(now);
        let set = fetcher.fetch().and_then(|document| {
            let is_same = fetcher.fetched.is_some() && document == fetcher.document;
            let keys = match is_same {
                true => None,
                false => Some(parse(&document, self.room, Origin::Url)?),
            };
            Ok((document, keys))
        });
        match set {
            Ok((document, keys)) => {
                fetcher.fetched = Some(now);
                fetcher.document = document;
                self.keys = keys.unwrap_or_else(|| std::mem::take(&mut self.keys));
            }
            Err(reason) => {
                let kept = format!("no new keys, {} stay: {reason}", self.keys.len());
                host::log(Level::Warn, &kept, &[("url", &fetcher.request.url)]);
            }
        }
    }
}

impl Fetcher {
    fn fetch(&self) -> Result<Vec<u8>, String> {
        let response = host::send(&self.request).map_err(|error| error.reason())?;
        match response.status {
            200 => Ok(response.body),
            status => Err(format!("the answer has status {status}")),
        }
    }
}

/// Where a document comes from.
#[derive(Clone, Copy, PartialEq)]
enum Origin {
    Secret,
    Url,
}

/// The usable keys of a set, as many as there is room for.
fn parse(document: &[u8], room: usize, origin: Origin) -> Result<Vec<Key>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    if document.len() > SET_BYTES_MAX {
        let len = document.len();
        return Err(format!("the set has {len} bytes; at most {SET_BYTES_MAX} are allowed"));
    }
    // What the parser says could repeat a secret.
    let set: Set = serde_json::from_slice(document)
        .map_err(|_| "that is no JWK set: a JSON object with a list of keys")?;
    let mut keys = Vec::new();
    for (index, jwk) in set.keys.into_iter().enumerate() {
        if keys.len() == room {
            let left = format!(
                "JWK set: there is room for {room} keys; keys[{index}] and later \
                                ones are left out"
            );
            host::log(Level::Warn, &left, &[]);
            break;
        }
        match key(jwk, origin) {
            Ok(key) => keys.push(key),
            Err(reason) => {
                let passed = format!("JWK set: keys[{index}] is passed over: {reason}");
                host::log(Level::Info, &passed, &[]);
            }
        }
    }
    if keys.is_empty() {
        host::log(Level::Warn, "JWK set: it has no key that can be used", &[]);
    }
    Ok(keys)
}

fn key(jwk: Value, origin: Origin) -> Result<Key, String> {
    let jwk: Jwk = serde_json::from_value(jwk).map_err(|_| "it is not a JWK")?;
    let algorithm = match (jwk.alg(), jwk.kty()) {
        (Some(alg), _) => Algorithm::parse(alg),
        // [RFC 7517, 4.4] `alg` is optional; the curve is looked at with the key.
        (None, "RSA") => Some(Algorithm::Rs256),
        (None, "EC") => Some(Algorithm::Es256),
        (None, "oct") => Some(Algorithm::Hs256),
        (None, _) => None,
    };
    let algorithm = algorithm.ok_or("it is for none of RS256, ES256 and HS256")?;
    if algorithm == Algorithm::Hs256 && origin == Origin::Url {
        return Err("what is published is not secret".into());
    }
    Key::of_jwk(jwk, algorithm)
}
