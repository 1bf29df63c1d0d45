//! What a plugin can call. `log`, the configuration, the clocks and randomness are there for
//! everyone; publishing, HTTP and secrets answer [`Error::Denied`] until `plugin.toml` asks and
//! the operator grants.

use crate::{Error, Level, PublishOptions, Qos, Request, Response};
use serde::Deserialize;

#[cfg(target_arch = "wasm32")]
use crate::bindings::imports::gnomon::plugin as imports;
#[cfg(not(target_arch = "wasm32"))]
use crate::mock::imports;

/// Writes a line to the host's log; it carries the plugin's name.
pub fn log(level: Level, message: &str, fields: &[(&str, &str)]) {
    let fields: Vec<_> = fields.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    imports::log::write(level, message, &fields);
}

/// The most detailed level that the host keeps.
pub fn log_level() -> Level {
    imports::log::max_level()
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    imports::clock::now()
}

/// Nanoseconds of a clock that never goes back; only differences mean something.
pub fn monotonic_ns() -> u64 {
    imports::clock::monotonic()
}

/// Unpredictable bytes, at most 4096 at a time.
pub fn random_bytes(len: u32) -> Vec<u8> {
    imports::random::bytes(len)
}

/// The operator's `config` table as JSON; [`crate::Plugin::new`] gets it parsed.
pub fn config() -> String {
    imports::config::document()
}

/// A secret that the operator granted by name.
///
/// # Errors
/// [`Error::Denied`] when it is not granted.
pub fn secret(name: &str) -> Result<Vec<u8>, Error> {
    imports::secrets::get(name)
}

/// A secret in a plugin's configuration that the operator granted by name: `{ secret = "NAME" }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedSecret {
    secret: String,
}

impl NamedSecret {
    /// The secret.
    ///
    /// # Errors
    /// A text for the operator: it is not granted.
    pub fn read(&self) -> Result<Vec<u8>, String> {
        secret(&self.secret).map_err(|error| error.reason())
    }
}

/// Publishes as the plugin itself; the topic must match a granted filter.
///
/// # Errors
/// [`Error::Denied`], [`Error::Invalid`] for a malformed topic, [`Error::TooLarge`].
pub fn publish(topic: &str, payload: &[u8], options: &PublishOptions) -> Result<(), Error> {
    imports::messaging::publish(topic, payload, options)
}

/// Sends a request to a granted origin. A response of any status is Ok.
///
/// # Errors
/// [`Error::Denied`], [`Error::Invalid`], [`Error::TooLarge`], [`Error::Timeout`], or
/// [`Error::Unavailable`] when there was no response.
pub fn send(request: &Request) -> Result<Response, Error> {
    imports::http::send(request)
}

impl Error {
    /// The error in words, for reasons and logs.
    pub fn reason(&self) -> String {
        match self {
            Self::Denied(text) => format!("denied: {text}"),
            Self::NotFound => "not found".into(),
            Self::Conflict => "a precondition does not hold".into(),
            Self::Invalid(text) => format!("invalid: {text}"),
            Self::TooLarge(limit) => format!("too large: at most {limit} bytes are allowed"),
            Self::Quota(text) => format!("quota used up: {text}"),
            Self::Timeout => "no answer in time".into(),
            Self::Unavailable(text) => format!("unavailable: {text}"),
            Self::Other(text) => text.clone(),
        }
    }

    /// Trying the same call again later may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Quota(_) | Self::Timeout | Self::Unavailable(_))
    }
}

impl Default for PublishOptions {
    /// QoS 0, not retained, no properties.
    fn default() -> Self {
        Self {
            qos: Qos::AtMostOnce,
            retain: false,
            content_type: None,
            user_properties: Vec::new(),
            attributes: Vec::new(),
        }
    }
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: &str, url: &str) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout_ms: None,
            credential: None,
        }
    }
}

impl Response {
    /// A response of plain text.
    pub fn text(status: u16, text: &str) -> Self {
        let content_type = ("content-type".into(), "text/plain; charset=utf-8".into());
        Self { status, headers: vec![content_type], body: text.into() }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}
