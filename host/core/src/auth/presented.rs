//! What a connection presents beside a certificate: values in the query of its user name, in that of
//! its URL, or in headers.

use super::Credentials;
use std::borrow::Cow;

/// The query parameter of user name or URL, or HTTP header, by which a client names an authorizer.
pub(super) const AUTHORIZER: &str = "x-amz-customauthorizer-name";

/// The same for the signature of its token, in base64.
pub(super) const SIGNATURE: &str = "x-amz-customauthorizer-signature";

impl Credentials {
    /// True when the client says which custom authorizer is to decide about it.
    pub fn names_authorizer(&self) -> bool {
        parameter(self, AUTHORIZER).is_some()
    }
}

/// True when something is there that wants to be checked. What AWS's SDKs say about themselves in
/// the query of the user name does not count.
pub(super) fn presents_anything(credentials: &Credentials) -> bool {
    let username = credentials.username.as_deref().unwrap_or_default();
    let password = credentials.password.as_deref().unwrap_or_default();
    let header = credentials
        .http
        .as_ref()
        .is_some_and(|http| http.headers.contains_key(http::header::AUTHORIZATION));
    let plain = username.split_once('?').map_or(username, |(plain, _)| plain);
    !plain.is_empty() || !password.is_empty() || header
}

/// A value that a client gives in the query of its user name or URL, or as an HTTP header.
pub(super) fn parameter<'c>(credentials: &'c Credentials, name: &str) -> Option<Cow<'c, str>> {
    let in_username = credentials.username.as_deref().and_then(|username| username.split_once('?'));
    if let Some(value) = in_username.and_then(|(_, query)| query_value(query, name)) {
        return Some(value);
    }
    let http = credentials.http.as_deref()?;
    if let Some(value) = http.headers.get(name).and_then(|value| value.to_str().ok()) {
        return Some(value.into());
    }
    query_value(http.uri.query()?, name)
}

/// A parameter of a query string, percent-decoded; `+` stays, because tokens may hold one.
fn query_value<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    let pair = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pair.into_iter().find(|(key, _)| *key == name)?;
    percent_encoding::percent_decode_str(value).decode_utf8().ok()
}
