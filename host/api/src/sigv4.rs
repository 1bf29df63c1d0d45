//! AWS Signature Version 4: reading, verifying and making signatures.
//!
//! In: the parts and the body of a request. Out: a [`Claim`] (what the request says about itself),
//! then proof that the holder of the secret made it; or, for our own clients, the signed request.
//! Not here: whose secret it is ([`crate::keys`]), what the key may do ([`crate::Api`]).
//!
//! Source: AWS General Reference, "Signature Version 4 signing process". Where clients disagree
//! on the canonical form of a path (empty and dot segments) the request is refused, so what was
//! signed is exactly what is routed. For the same reason every header that can change the meaning
//! of a request (`host`, `x-amz-*`, `x-amzn-*`) has to be signed.

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use gnomon_core::random::hex;
use gnomon_core::time::Timestamp;
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue};
use http::request::Parts;
use percent_encoding::{
    AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode, utf8_percent_encode,
};
use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// How far the clocks of client and host may differ, and how long a signature in the header lives.
pub const SKEW_S: u64 = 5 * 60;

/// Longest life of a signature in the query: 7 days, as at AWS.
const QUERY_LIFETIME_MAX_S: u64 = 7 * 24 * 3_600;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// RFC 3986's unreserved characters stay, everything else is encoded.
pub(crate) const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const ENCODED_IN_PATH: &AsciiSet = &ENCODED.remove(b'/');

const DATE_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year][month][day]T[hour][minute][second]Z");

/// Why a signature was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Neither header nor query carries a signature.
    #[error("the request is not signed; sign it with Signature Version 4 and an access key")]
    Missing,
    /// A part is missing, doubled or malformed.
    #[error("{0}")]
    Incomplete(String),
    /// Temporary credentials: Gnomon issues none.
    #[error(
        "the request carries a session token, and this host issues none; unset \
         AWS_SESSION_TOKEN and use an access key of this host"
    )]
    SessionToken,
    /// A header that matters is not covered by the signature.
    #[error("the header {0} is not signed; add it to SignedHeaders")]
    Unsigned(String),
    /// The path is not in its canonical form.
    #[error(
        "the path has an empty or a dot segment; percent-encode the slashes and dots that belong \
         to a name"
    )]
    Path,
    /// `x-amz-content-sha256` is not the hash of the body.
    #[error("x-amz-content-sha256 is not the SHA-256 of the body; unsigned payloads are refused")]
    Payload,
    /// Too old, or from the future.
    #[error(
        "the signature is of {signed_at}, it is {now} here, and only {lifetime_s} s are allowed; \
         check the clocks of client and host"
    )]
    Time {
        /// When the request says it was signed.
        signed_at: String,
        /// The host's time.
        now: String,
        /// What is allowed.
        lifetime_s: u64,
    },
    /// The secret is another one, or the request was changed.
    #[error(
        "the signature does not match; check the secret access key, and that nothing between \
         client and host changes method, path, query, signed headers or body"
    )]
    Mismatch,
}

impl SignatureError {
    fn incomplete(message: impl Into<String>) -> Self {
        Self::Incomplete(message.into())
    }
}

/// What the signing key was made for: `<date>/<region>/<service>/aws4_request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `yyyymmdd`.
    pub date: String,
    /// e.g. `us-east-1`.
    pub region: String,
    /// e.g. `iotdata`: what requests are routed by, because paths collide between services.
    pub service: String,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}/aws4_request", self.date, self.region, self.service)
    }
}

/// What a request says about its signature; nothing of it is proved before [`Claim::verify`].
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose secret is to be used.
    pub access_key_id: String,
    /// For which day, region and service.
    pub scope: Scope,
    /// As in `x-amz-date`.
    date_time: String,
    /// Lower case, as in the request.
    signed_headers: Vec<String>,
    signature: [u8; 32],
    /// `None`: the signature is in the header. Else it is in the query, and lives so long.
    query_lifetime_s: Option<u64>,
}

impl Claim {
    /// Reads the signature from the `Authorization` header or, without one, from the query.
    /// HTTP basic authentication is none: it is for custom authorizers.
    ///
    /// # Errors
    /// [`SignatureError::Missing`], [`SignatureError::Incomplete`] or
    /// [`SignatureError::SessionToken`].
    pub fn read(parts: &Parts) -> Result<Self, SignatureError> {
        let query = decode_query(parts.uri.query().unwrap_or_default());
        let presigned = query.iter().any(|(name, _)| name == "X-Amz-Algorithm");
        let token = query.iter().any(|(name, _)| name == "X-Amz-Security-Token");
        if token || parts.headers.contains_key("x-amz-security-token") {
            return Err(SignatureError::SessionToken);
        }
        let mut in_header = parts.headers.get_all(AUTHORIZATION).iter();
        match (in_header.any(|value| !is_password(value)), presigned) {
            (true, true) => Err(SignatureError::incomplete(
                "both the header Authorization and the query carry a signature; send one",
            )),
            (true, false) => Self::from_header(&parts.headers),
            (false, true) => Self::from_query(&query),
            (false, false) => Err(SignatureError::Missing),
        }
    }

    fn from_header(headers: &HeaderMap) -> Result<Self, SignatureError> {
        let authorization = single_header(headers, "authorization")?;
        let fields = authorization.strip_prefix(ALGORITHM).ok_or_else(|| {
            SignatureError::incomplete(format!("Authorization must begin with {ALGORITHM}"))
        })?;
        let pairs: Vec<_> = fields
            .split(',')
            .filter_map(|field| field.trim().split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let date_time = single_header(headers, "x-amz-date")?;
        Self::parse(
            single(&pairs, "Credential")?,
            single(&pairs, "SignedHeaders")?,
            single(&pairs, "Signature")?,
            date_time,
            None,
        )
    }

    fn from_query(query: &[(String, String)]) -> Result<Self, SignatureError> {
        if single(query, "X-Amz-Algorithm")? != ALGORITHM {
            return Err(SignatureError::incomplete(format!("X-Amz-Algorithm must be {ALGORITHM}")));
        }
        // The SDKs for devices leave the lifetime out.
        let lifetime_s = if query.iter().any(|(name, _)| name == "X-Amz-Expires") {
            let text = single(query, "X-Amz-Expires")?;
            let lifetime_s = text.parse().ok().filter(|s| (1..=QUERY_LIFETIME_MAX_S).contains(s));
            lifetime_s.ok_or_else(|| {
                SignatureError::incomplete(format!(
                    "X-Amz-Expires must be a number of seconds from 1 to {QUERY_LIFETIME_MAX_S}"
                ))
            })?
        } else {
            SKEW_S
        };
        Self::parse(
            single(query, "X-Amz-Credential")?,
            single(query, "X-Amz-SignedHeaders")?,
            single(query, "X-Amz-Signature")?,
            single(query, "X-Amz-Date")?,
            Some(lifetime_s),
        )
    }

    fn parse(
        credential: &str,
        signed_headers: &str,
        signature: &str,
        date_time: &str,
        query_lifetime_s: Option<u64>,
    ) -> Result<Self, SignatureError> {
        let [access_key_id, date, region, service, "aws4_request"] =
            credential.split('/').collect::<Vec<_>>()[..]
        else {
            return Err(SignatureError::incomplete(
                "Credential must read <access key id>/<yyyymmdd>/<region>/<service>/aws4_request",
            ));
        };
        if date_time.get(..8) != Some(date) {
            return Err(SignatureError::incomplete(
                "the date of Credential is not the date of X-Amz-Date",
            ));
        }
        let signature = decode_hex(signature).ok_or_else(|| {
            SignatureError::incomplete("Signature must be 64 hexadecimal digits, lower case")
        })?;
        Ok(Self {
            access_key_id: access_key_id.into(),
            scope: Scope { date: date.into(), region: region.into(), service: service.into() },
            date_time: date_time.into(),
            signed_headers: signed_headers.split(';').map(str::to_owned).collect(),
            signature,
            query_lifetime_s,
        })
    }

    /// Checks that the holder of `secret` signed exactly this request, and recently.
    ///
    /// # Errors
    /// Any [`SignatureError`] but `Missing` and `SessionToken`.
    pub fn verify(
        &self,
        parts: &Parts,
        body: &[u8],
        secret: &str,
        now: Timestamp,
    ) -> Result<(), SignatureError> {
        self.check_time(now)?;
        if !is_canonical_path(parts.uri.path()) {
            return Err(SignatureError::Path);
        }
        self.check_signed_headers(parts)?;
        let payload = sha256_hex(body);
        if let Some(declared) = parts.headers.get("x-amz-content-sha256")
            && declared.as_bytes() != payload.as_bytes()
        {
            return Err(SignatureError::Payload);
        }
        let canonical = canonical_request(parts, &self.signed_headers, &payload);
        let text = string_to_sign(&self.date_time, &self.scope, &canonical);
        let key = signing_key(secret, &self.scope);
        // Compares in constant time.
        hmac::verify(&key, text.as_bytes(), &self.signature).map_err(|_| SignatureError::Mismatch)
    }

    fn check_time(&self, now: Timestamp) -> Result<(), SignatureError> {
        let signed_at = parse_date_time(&self.date_time).ok_or_else(|| {
            SignatureError::incomplete("X-Amz-Date must read yyyymmddThhmmssZ, in UTC")
        })?;
        let lifetime_s = self.query_lifetime_s.unwrap_or(SKEW_S);
        let now_s = now.as_secs();
        if now_s > signed_at.saturating_add(lifetime_s) || signed_at > now_s + SKEW_S {
            return Err(SignatureError::Time {
                signed_at: self.date_time.clone(),
                now: format_date_time(now),
                lifetime_s,
            });
        }
        Ok(())
    }

    fn check_signed_headers(&self, parts: &Parts) -> Result<(), SignatureError> {
        let in_order = self.signed_headers.windows(2).all(|pair| pair[0] < pair[1]);
        if !in_order {
            return Err(SignatureError::incomplete(
                "SignedHeaders must be sorted and name each header once",
            ));
        }
        if parts.headers.get_all(HOST).iter().count() > 1 {
            return Err(SignatureError::incomplete("the header host is there more than once"));
        }
        let covers = |name: &str| self.signed_headers.iter().any(|signed| signed == name);
        if !covers("host") {
            return Err(SignatureError::Unsigned("host".into()));
        }
        // Load balancers add the trace id on the way; nothing here reads it.
        let unsigned = parts.headers.keys().map(http::HeaderName::as_str).find(|name| {
            (name.starts_with("x-amz-") || name.starts_with("x-amzn-"))
                && *name != "x-amzn-trace-id"
                && !covers(name)
        });
        match unsigned {
            Some(name) => Err(SignatureError::Unsigned(name.into())),
            None => Ok(()),
        }
    }
}

/// Signs a request: adds `host` (when missing), `x-amz-date` and `authorization`.
///
/// The path must be in canonical form (no empty or dot segments), as AWS's own clients send it.
pub fn sign(
    request: &mut http::Request<Bytes>,
    access_key_id: &str,
    secret: &str,
    region: &str,
    service: &str,
    now: Timestamp,
) {
    let date_time = format_date_time(now);
    let scope =
        Scope { date: date_time[..8].into(), region: region.into(), service: service.into() };
    if let Some(authority) = request.uri().authority()
        && !request.headers().contains_key(HOST)
    {
        let host =
            HeaderValue::from_str(authority.as_str()).expect("an authority is visible ASCII");
        request.headers_mut().insert(HOST, host);
    }
    let value = HeaderValue::from_str(&date_time).expect("a date is visible ASCII");
    request.headers_mut().insert("x-amz-date", value);
    let mut signed_headers: Vec<String> =
        request.headers().keys().map(|name| name.as_str().to_owned()).collect();
    signed_headers.sort_unstable();

    let (parts, body) = std::mem::take(request).into_parts();
    let canonical = canonical_request(&parts, &signed_headers, &sha256_hex(&body));
    *request = http::Request::from_parts(parts, body);

    let text = string_to_sign(&date_time, &scope, &canonical);
    let signature = hmac::sign(&signing_key(secret, &scope), text.as_bytes());
    let authorization = format!(
        "{ALGORITHM} Credential={access_key_id}/{scope}, SignedHeaders={}, Signature={}",
        signed_headers.join(";"),
        hex(signature.as_ref())
    );
    let mut value = HeaderValue::from_str(&authorization)
        .expect("ids, regions, services and header names are visible ASCII");
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
}

/// The query with which whoever has the URL may GET it for so many seconds, as the holder of the key.
///
/// The path must be in canonical form and encoded; `host` is what the client will send as such.
pub(crate) fn presign(
    host: &str,
    path: &str,
    (access_key_id, secret): (&str, &str),
    (region, service): (&str, &str),
    now: Timestamp,
    lifetime_s: u32,
) -> String {
    let date_time = format_date_time(now);
    let scope =
        Scope { date: date_time[..8].into(), region: region.into(), service: service.into() };
    let credential = format!("{access_key_id}/{scope}");
    let credential = utf8_percent_encode(&credential, ENCODED);
    let query = format!(
        "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={credential}&X-Amz-Date={date_time}\
         &X-Amz-Expires={lifetime_s}&X-Amz-SignedHeaders=host"
    );
    let request = http::Request::get(format!("{path}?{query}")).header(HOST, host).body(());
    let (parts, ()) = request.expect("host and path are parts of URLs").into_parts();
    let canonical = canonical_request(&parts, &["host".to_owned()], &sha256_hex(b""));
    let text = string_to_sign(&date_time, &scope, &canonical);
    let signature = hmac::sign(&signing_key(secret, &scope), text.as_bytes());
    format!("{query}&X-Amz-Signature={}", hex(signature.as_ref()))
}

/// The one form of a request that both sides hash.
fn canonical_request(parts: &Parts, signed_headers: &[String], payload: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(512);
    let mut line = |bytes: &[u8]| {
        text.extend_from_slice(bytes);
        text.push(b'\n');
    };
    line(parts.method.as_str().as_bytes());
    // The path as it was sent is encoded once more: only S3 is exempt from double encoding.
    line(percent_encode(parts.uri.path().as_bytes(), ENCODED_IN_PATH).to_string().as_bytes());
    line(canonical_query(parts.uri.query().unwrap_or_default()).as_bytes());
    for name in signed_headers {
        let mut header = format!("{name}:").into_bytes();
        header.extend(canonical_header(parts, name));
        line(&header);
    }
    line(b"");
    line(signed_headers.join(";").as_bytes());
    text.extend_from_slice(payload.as_bytes());
    text
}

/// Names and values are encoded anew, sorted by name, then by value; the signature is left out.
fn canonical_query(query: &str) -> String {
    let encode = |text: &str| {
        let bytes: Vec<u8> = percent_decode_str(text).collect();
        percent_encode(&bytes, ENCODED).to_string()
    };
    let mut pairs: Vec<_> = split_query(query)
        .map(|(name, value)| (encode(name), encode(value)))
        .filter(|(name, _)| name != "X-Amz-Signature")
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Repeated headers are joined by commas, white space is trimmed and runs of it become one space.
fn canonical_header(parts: &Parts, name: &str) -> Vec<u8> {
    let mut value = Vec::new();
    for (index, header) in parts.headers.get_all(name).iter().enumerate() {
        if index > 0 {
            value.push(b',');
        }
        let words = header.as_bytes().split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
        value.extend(words.collect::<Vec<_>>().join(&b' '));
    }
    // HTTP/2 has the host in the target only.
    if name == "host"
        && value.is_empty()
        && let Some(authority) = parts.uri.authority()
    {
        value.extend_from_slice(authority.as_str().as_bytes());
    }
    value
}

fn string_to_sign(date_time: &str, scope: &Scope, canonical_request: &[u8]) -> String {
    format!("{ALGORITHM}\n{date_time}\n{scope}\n{}", sha256_hex(canonical_request))
}

fn signing_key(secret: &str, scope: &Scope) -> hmac::Key {
    let first = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes());
    [&*scope.date, &*scope.region, &*scope.service, "aws4_request"]
        .iter()
        .fold(first, |key, part| {
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
        })
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// True for `/` and for paths whose segments are neither empty (the last may be) nor dots.
fn is_canonical_path(path: &str) -> bool {
    let segments: Vec<_> = path.split('/').skip(1).collect();
    let last = segments.len().saturating_sub(1);
    segments.iter().enumerate().all(|(index, segment)| match *segment {
        "" => index == last,
        "." | ".." => false,
        _ => true,
    })
}

fn split_query(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The query's pairs, decoded; bytes that are no UTF-8 become U+FFFD. `+` is a plus: the encoding
/// of forms is not used by AWS's clients.
pub(crate) fn decode_query(query: &str) -> Vec<(String, String)> {
    let decode = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    split_query(query).map(|(name, value)| (decode(name), decode(value))).collect()
}

fn single<'a>(pairs: &'a [(String, String)], name: &str) -> Result<&'a str, SignatureError> {
    let mut found = pairs.iter().filter(|(key, _)| key == name);
    match (found.next(), found.next()) {
        (Some((_, value)), None) => Ok(value),
        (None, _) => Err(SignatureError::incomplete(format!("the signature lacks {name}"))),
        _ => Err(SignatureError::incomplete(format!("the signature has {name} more than once"))),
    }
}

/// HTTP basic authentication (RFC 7617).
fn is_password(authorization: &HeaderValue) -> bool {
    authorization.as_bytes().get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"Basic "))
}

fn single_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, SignatureError> {
    let mut found = headers.get_all(name).iter();
    match (found.next(), found.next()) {
        (Some(value), None) => value.to_str().map_err(|_| {
            SignatureError::incomplete(format!("the header {name} is not visible ASCII"))
        }),
        (None, _) => Err(SignatureError::incomplete(format!("the header {name} is missing"))),
        _ => Err(SignatureError::incomplete(format!("the header {name} is there more than once"))),
    }
}

fn decode_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits: [u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Seconds since the Unix epoch.
fn parse_date_time(text: &str) -> Option<u64> {
    let date_time = PrimitiveDateTime::parse(text, DATE_TIME).ok()?;
    u64::try_from(date_time.assume_utc().unix_timestamp()).ok()
}

fn format_date_time(at: Timestamp) -> String {
    let date_time = time::OffsetDateTime::from(at.to_system_time());
    date_time.format(DATE_TIME).expect("every part of the format is part of a date with time")
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "the tables read better without `&`")]
mod tests {
    use super::*;
    use http::Request;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const AWS_SUITE: &str = include_str!("../tests/data/aws-signing-test-suite.txt");
    const BOTOCORE: &str = include_str!("../tests/data/botocore.txt");

    /// Names and requests of a file of wire texts: `=== name`, head, empty line, body.
    fn requests(file: &str) -> Vec<(String, Request<Bytes>)> {
        file.split("\n=== ")
            .skip(1)
            .map(|case| {
                let (name, wire) = case.split_once('\n').unwrap();
                (name.to_owned(), request(wire.trim_end_matches('\n')))
            })
            .collect()
    }

    fn request(wire: &str) -> Request<Bytes> {
        let (head, body) = wire.split_once("\n\n").unwrap_or((wire, ""));
        let (first, headers) = head.split_once('\n').unwrap();
        let [method, target, "HTTP/1.1"] = first.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{first}")
        };
        let mut request = Request::builder().method(method).uri(target);
        for header in headers.lines() {
            let (name, value) = header.split_once(':').unwrap();
            request = request.header(name, value.trim());
        }
        request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

    fn verify_at(request: Request<Bytes>, secret: &str, now_s: u64) -> Result<(), SignatureError> {
        let (parts, body) = request.into_parts();
        let now = Timestamp::from_millis(now_s * 1_000);
        Claim::read(&parts)?.verify(&parts, &body, secret, now)
    }

    /// As if it had been received a second after it was signed.
    fn verify(request: Request<Bytes>) -> Result<(), SignatureError> {
        let (parts, body) = request.into_parts();
        let now_s = parse_date_time(&Claim::read(&parts)?.date_time).unwrap() + 1;
        verify_at(Request::from_parts(parts, body), SECRET, now_s)
    }

    #[test]
    fn known_answers_of_aws_and_botocore_verify() {
        let requests: Vec<_> =
            [AWS_SUITE, BOTOCORE].iter().flat_map(|file| requests(file)).collect();
        assert_eq!(requests.len(), 46);
        for (name, request) in requests {
            assert_eq!(verify(request), Ok(()), "{name}");
        }
    }

    #[test]
    fn signing_gives_the_signature_that_botocore_gives() {
        for (name, known) in requests(BOTOCORE) {
            let expected = known.headers()[AUTHORIZATION].clone();
            let (mut parts, body) = known.into_parts();
            let claim = Claim::read(&parts).unwrap();
            let signed = |name: &str| claim.signed_headers.iter().any(|signed| signed == name);
            let names: Vec<_> = parts.headers.keys().cloned().collect();
            for name in names.iter().filter(|name| !signed(name.as_str())) {
                parts.headers.remove(name);
            }
            let mut request = Request::from_parts(parts, body);
            let now = Timestamp::from_millis(parse_date_time(&claim.date_time).unwrap() * 1_000);
            let Scope { region, service, .. } = &claim.scope;
            sign(&mut request, &claim.access_key_id, SECRET, region, service, now);
            assert_eq!(request.headers()[AUTHORIZATION], expected, "{name}");
        }
    }

    /// 2026-11-23 12:00:00 UTC.
    const NOW_S: u64 = 1_795_435_200;

    /// A request of our own making to change afterwards.
    fn signed(target: &str, body: &'static str) -> Request<Bytes> {
        let mut request = Request::builder()
            .method("POST")
            .uri(target)
            .header("host", "localhost:8080")
            .header("x-amzn-principal", "arn:a")
            .body(Bytes::from_static(body.as_bytes()))
            .unwrap();
        let now = Timestamp::from_millis(NOW_S * 1_000);
        sign(&mut request, "AKIDEXAMPLE", SECRET, "us-east-1", "iot", now);
        request
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Request<Bytes>), expected: Result<(), SignatureError>) {
        let mut request = signed("/things/Lamp?b=2&a=1&a=0", "{}");
        change(&mut request);
        assert_eq!(verify_at(request, SECRET, NOW_S), expected);
    }

    fn header(
        name: &'static str,
        change: impl FnOnce(&str) -> String,
    ) -> impl FnOnce(&mut Request<Bytes>) {
        move |request| {
            let value = change(request.headers()[name].to_str().unwrap());
            request.headers_mut().insert(name, value.parse().unwrap());
        }
    }

    fn add(name: &'static str, value: &'static str) -> impl FnOnce(&mut Request<Bytes>) {
        move |request| {
            request.headers_mut().append(name, HeaderValue::from_static(value));
        }
    }

    fn remove(name: &'static str) -> impl FnOnce(&mut Request<Bytes>) {
        move |request| {
            request.headers_mut().remove(name);
        }
    }

    fn incomplete(message: &str) -> Result<(), SignatureError> {
        Err(SignatureError::incomplete(message))
    }

    #[test]
    fn a_changed_request_does_not_match() {
        let mismatch = || Err(SignatureError::Mismatch);
        check(|_| (), Ok(()));
        check(|r| *r.method_mut() = http::Method::DELETE, mismatch());
        check(|r| *r.uri_mut() = "/things/Lamq?b=2&a=1&a=0".parse().unwrap(), mismatch());
        check(|r| *r.uri_mut() = "/things/Lamp/?b=2&a=1&a=0".parse().unwrap(), mismatch());
        check(|r| *r.uri_mut() = "/things/Lam%70?b=2&a=1&a=0".parse().unwrap(), mismatch());
        check(|r| *r.uri_mut() = "/things/Lamp?b=2&a=1".parse().unwrap(), mismatch());
        check(|r| *r.uri_mut() = "/things/Lamp?b=2&a=1&a=0&a=0".parse().unwrap(), mismatch());
        check(|r| *r.body_mut() = Bytes::from_static(b"{} "), mismatch());
        check(header("host", |_| "localhost:8081".into()), mismatch());
        check(header("x-amzn-principal", |_| "arn:b".into()), mismatch());
        check(add("x-amzn-principal", "b"), mismatch());
        check(header("authorization", |a| a.replace("/iot/", "/iotdata/")), mismatch());
        check(header("authorization", |a| a.replace("us-east-1", "eu-west-1")), mismatch());
        check(header("x-amz-date", |_| "20261123T120001Z".into()), mismatch());
        // The order of the query is no part of the signature.
        check(|r| *r.uri_mut() = "/things/Lamp?a=0&a=1&b=2".parse().unwrap(), Ok(()));
    }

    #[test]
    fn another_secret_does_not_match() {
        let other = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEZ";
        let result = verify_at(signed("/things", ""), other, NOW_S);
        assert_eq!(result, Err(SignatureError::Mismatch));
    }

    #[test]
    fn a_password_is_no_signature() {
        for scheme in ["Basic", "basic", "BASIC"] {
            let basic = header("authorization", |_| format!("{scheme} YWxpY2U6eA=="));
            check(basic, Err(SignatureError::Missing));
        }
        let twice = SignatureError::incomplete("the header authorization is there more than once");
        check(add("authorization", "Basic YWxpY2U6eA=="), Err(twice));
    }

    #[test]
    fn a_malformed_signature_is_incomplete() {
        check(remove("authorization"), Err(SignatureError::Missing));
        for other in ["AWS4-HMAC-SHA1", "Bearer", "Basic:"] {
            check(
                header("authorization", |a| a.replace("AWS4-HMAC-SHA256", other)),
                incomplete("Authorization must begin with AWS4-HMAC-SHA256"),
            );
        }
        check(
            header("authorization", |a| a.replace("Signature=", "Sig=")),
            incomplete("the signature lacks Signature"),
        );
        check(
            header("authorization", |a| format!("{a}, Signature=00")),
            incomplete("the signature has Signature more than once"),
        );
        check(
            header("authorization", |a| a.replace("aws4_request", "aws5_request")),
            incomplete(
                "Credential must read <access key id>/<yyyymmdd>/<region>/<service>/aws4_request",
            ),
        );
        check(
            header("authorization", |a| a[..a.len() - 1].into()),
            incomplete("Signature must be 64 hexadecimal digits, lower case"),
        );
        check(
            header("authorization", |a| a.replace("host;x-amz-date", "x-amz-date;host")),
            incomplete("SignedHeaders must be sorted and name each header once"),
        );
        check(remove("x-amz-date"), incomplete("the header x-amz-date is missing"));
        check(
            header("x-amz-date", |_| "20261124T120000Z".into()),
            incomplete("the date of Credential is not the date of X-Amz-Date"),
        );
        check(
            header("x-amz-date", |_| "20261123T1200".into()),
            incomplete("X-Amz-Date must read yyyymmddThhmmssZ, in UTC"),
        );
        check(
            add("authorization", "AWS4-HMAC-SHA256 Credential=x"),
            incomplete("the header authorization is there more than once"),
        );
        check(add("host", "other"), incomplete("the header host is there more than once"));
    }

    #[test]
    fn headers_that_matter_must_be_signed() {
        let unsigned = |name: &str| Err(SignatureError::Unsigned(name.into()));
        check(
            add("x-amz-mqtt5-correlation-data", "eA=="),
            unsigned("x-amz-mqtt5-correlation-data"),
        );
        check(
            header("authorization", |a| a.replace(";x-amzn-principal", "")),
            unsigned("x-amzn-principal"),
        );
        check(header("authorization", |a| a.replace("host;", "")), unsigned("host"));
        check(add("x-amzn-trace-id", "1"), Ok(()));
        check(add("accept", "*/*"), Ok(()));
        check(add("x-amz-security-token", "t"), Err(SignatureError::SessionToken));
    }

    #[test]
    fn the_declared_payload_hash_must_be_that_of_the_body() {
        for (declared, expected) in [
            (sha256_hex(b"{}"), Ok(())),
            (sha256_hex(b"{} "), Err(SignatureError::Payload)),
            ("UNSIGNED-PAYLOAD".to_owned(), Err(SignatureError::Payload)),
        ] {
            let mut request = signed("/things", "{}");
            request.headers_mut().remove(AUTHORIZATION);
            request.headers_mut().insert("x-amz-content-sha256", declared.parse().unwrap());
            let now = Timestamp::from_millis(NOW_S * 1_000);
            sign(&mut request, "AKIDEXAMPLE", SECRET, "us-east-1", "iot", now);
            assert_eq!(verify_at(request, SECRET, NOW_S), expected, "{declared}");
        }
    }

    #[test]
    fn a_signature_lives_five_minutes_and_tolerates_as_much_skew() {
        let at = |now_s| verify_at(signed("/things", ""), SECRET, now_s);
        assert_eq!(at(NOW_S + SKEW_S), Ok(()));
        assert_eq!(at(NOW_S - SKEW_S), Ok(()));
        assert_eq!(
            at(NOW_S + SKEW_S + 1),
            Err(SignatureError::Time {
                signed_at: "20261123T120000Z".into(),
                now: "20261123T120501Z".into(),
                lifetime_s: 300,
            })
        );
        assert!(matches!(at(NOW_S - SKEW_S - 1), Err(SignatureError::Time { .. })));
    }

    #[test]
    fn a_path_that_has_more_than_one_canonical_form_is_refused() {
        for path in ["//things", "/things//Lamp", "/./things", "/things/..", "/things/x/../Lamp"] {
            let result = verify_at(signed(path, ""), SECRET, NOW_S);
            assert_eq!(result, Err(SignatureError::Path), "{path}");
        }
        for path in ["/", "/things/", "/things/...", "/things/%2e%2E", "/topics/a%2F%2Fb"] {
            assert_eq!(verify_at(signed(path, ""), SECRET, NOW_S), Ok(()), "{path}");
        }
    }

    /// A URL of AWS's suite: 3,600 s from 2015-08-30 12:36:00 UTC.
    #[track_caller]
    fn check_presigned(
        change: impl FnOnce(String) -> String,
        after_s: u64,
        expected: Result<(), SignatureError>,
    ) {
        let (_, known) = requests(AWS_SUITE)
            .into_iter()
            .find(|(name, _)| name == "get-vanilla (query)")
            .expect("the suite has the case");
        let target = change(known.uri().to_string());
        let request = Request::builder().uri(target).header("host", "example.amazonaws.com");
        let signed_at = parse_date_time("20150830T123600Z").unwrap();
        let result = verify_at(request.body(Bytes::new()).unwrap(), SECRET, signed_at + after_s);
        assert_eq!(result, expected);
    }

    #[test]
    fn a_signed_url_lives_as_long_as_it_says() {
        check_presigned(|url| url, 3_600, Ok(()));
        let expired = SignatureError::Time {
            signed_at: "20150830T123600Z".into(),
            now: "20150830T133601Z".into(),
            lifetime_s: 3_600,
        };
        check_presigned(|url| url, 3_601, Err(expired));
        let longer = |url: String| url.replace("Expires=3600", "Expires=7200");
        check_presigned(longer, 3_601, Err(SignatureError::Mismatch));
        check_presigned(
            |url| url.replace("Expires=3600", "Expires=604801"),
            0,
            incomplete("X-Amz-Expires must be a number of seconds from 1 to 604800"),
        );
    }

    #[test]
    fn a_changed_url_is_refused() {
        check_presigned(|url| url + "&a=1", 0, Err(SignatureError::Mismatch));
        check_presigned(
            |url| url + "&X-Amz-Date=20150830T123600Z",
            0,
            incomplete("the signature has X-Amz-Date more than once"),
        );
        check_presigned(
            |url| url.replace("SHA256", "SHA512"),
            0,
            incomplete("X-Amz-Algorithm must be AWS4-HMAC-SHA256"),
        );
        check_presigned(
            |url| url + "&X-Amz-Security-Token=t",
            0,
            Err(SignatureError::SessionToken),
        );
    }
}
