//! HTTP adapter for whoever cannot speak MQTT: `POST /ingest/<topic>` publishes the body.
//!
//! In: requests of the plugin's own listener. Out: one publication per accepted request, and a
//! JSON answer `{"message": …}`.
//! Not here: TLS and sockets (the host), which topics are allowed (the operator's grants), the
//! rules of topic names (the host, whose text goes into the answer).

use gnomon_sdk::{
    Error, HttpHandler, Incoming, Plugin, PublishOptions, Qos, Response, export, host,
};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use subtle::ConstantTimeEq;

export!(HttpIngest: HttpHandler);

/// The topic is behind it.
const PATH: &str = "/ingest/";

/// Characters of a bearer token: shorter ones can be guessed.
const TOKEN_CHARS_MIN: usize = 16;

/// The operator's configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Bearer tokens of which a request must have one, each of 16 characters or more.
    #[serde(default)]
    tokens: Vec<String>,
    /// Names of granted secrets that are further tokens.
    #[serde(default)]
    token_secrets: Vec<String>,
    /// Take requests without a token. Default false.
    #[serde(default)]
    anonymous: bool,
    /// Levels put before every topic, e.g. `site/north`. Default: none.
    topic_prefix: Option<String>,
    /// Default 131,072, the payload that the broker takes at most by default.
    #[serde(default = "body_bytes_max")]
    body_bytes_max: usize,
}

fn body_bytes_max() -> usize {
    131_072
}

/// The plugin; nothing in it changes.
struct HttpIngest {
    /// Empty: anonymous.
    tokens: Vec<Vec<u8>>,
    /// Empty, or with a `/` at its end.
    topic_prefix: String,
    body_bytes_max: usize,
}

impl Plugin for HttpIngest {
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        let mut tokens: Vec<_> = config.tokens.into_iter().map(String::into_bytes).collect();
        for name in &config.token_secrets {
            let secret =
                host::secret(name).map_err(|e| format!("token_secrets: {}", e.reason()))?;
            tokens.push(secret);
        }
        match (tokens.is_empty(), config.anonymous) {
            (true, false) => {
                return Err("give tokens or token_secrets; to take requests from everyone, say \
                            anonymous = true"
                    .into());
            }
            (false, true) => {
                return Err("anonymous = true contradicts tokens; leave one of them out".into());
            }
            _ => {}
        }
        if tokens.iter().any(|token| token.len() < TOKEN_CHARS_MIN) {
            return Err(format!("a token has fewer than {TOKEN_CHARS_MIN} characters"));
        }
        if !tokens.iter().flatten().all(u8::is_ascii_graphic) {
            return Err("a token has characters other than visible ASCII".into());
        }
        let topic_prefix = match config.topic_prefix {
            None => String::new(),
            Some(prefix) if is_prefix(&prefix) => prefix + "/",
            Some(_) => {
                return Err("topic_prefix must be levels such as site/north, without a wildcard \
                            and without a / at its ends"
                    .into());
            }
        };
        Ok(Self { tokens, topic_prefix, body_bytes_max: config.body_bytes_max })
    }
}

fn is_prefix(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('/')
        && !text.ends_with('/')
        && !text.contains(|c: char| matches!(c, '+' | '#') || c.is_control())
}

/// An answer other than 200.
struct Failure {
    status: u16,
    message: String,
}

impl HttpHandler for HttpIngest {
    fn handle(&mut self, request: Incoming) -> Result<Response, String> {
        let (status, message) = match self.ingest(&request)? {
            Ok(()) => (200, "OK".into()),
            Err(failure) => (failure.status, failure.message),
        };
        let response = Response {
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            body: serde_json::json!({ "message": message }).to_string().into_bytes(),
        };
        Ok(match status {
            401 => response.with_header("www-authenticate", "Bearer"),
            405 => response.with_header("allow", "POST"),
            _ => response,
        })
    }
}

impl HttpIngest {
    /// The outer error is for the operator, the inner one for the client.
    fn ingest(&self, request: &Incoming) -> Result<Result<(), Failure>, String> {
        let (topic, options) = match self.accept(request) {
            Ok(accepted) => accepted,
            Err(failure) => return Ok(Err(failure)),
        };
        let error = match host::publish(&topic, &request.body, &options) {
            Ok(()) => return Ok(Ok(())),
            Err(error) => error,
        };
        let status = match error {
            Error::Denied(_) => 403,
            Error::Invalid(_) => 400,
            Error::TooLarge(_) => 413,
            Error::Quota(_) => 429,
            Error::Timeout | Error::Unavailable(_) => 503,
            Error::NotFound | Error::Conflict | Error::Other(_) => return Err(error.reason()),
        };
        Ok(Err(Failure { status, message: error.reason() }))
    }

    /// Everything that is decided without the host. Whoever has no token learns nothing else
    /// about a topic.
    fn accept(&self, request: &Incoming) -> Result<(String, PublishOptions), Failure> {
        let Some(topic) = request.path.strip_prefix(PATH) else {
            return Err(failure(404, "publish with POST /ingest/<topic>"));
        };
        if request.method != "POST" {
            return Err(failure(405, "only POST is allowed"));
        }
        if !self.is_authorized(request) {
            return Err(failure(401, "a valid bearer token is required"));
        }
        if request.body.len() > self.body_bytes_max {
            let message = format!("the body may have {} bytes at most", self.body_bytes_max);
            return Err(Failure { status: 413, message });
        }
        let topic = format!("{}{}", self.topic_prefix, decode_topic(topic)?);
        let content_type = header(request, "content-type").map(Into::into);
        let qos = parse_query(&request.query_string)?;
        Ok((topic, PublishOptions { qos, content_type, ..PublishOptions::default() }))
    }

    fn is_authorized(&self, request: &Incoming) -> bool {
        if self.tokens.is_empty() {
            return true;
        }
        // [RFC 9110, 11.1] The scheme is case-insensitive.
        let presented = header(request, "authorization")
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, presented)) = presented else { return false };
        // All are compared, and each in constant time; only their lengths are no secret.
        let presented = presented.trim().as_bytes();
        let equal = |token: &Vec<u8>| token.as_slice().ct_eq(presented);
        self.tokens.iter().map(equal).fold(0.into(), |any: subtle::Choice, one| any | one).into()
    }
}

/// The first of this name, which is in lower case as the host gives it.
fn header<'r>(request: &'r Incoming, name: &str) -> Option<&'r str> {
    request.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// The topic of a path; `%2F` separates levels as `/` does. Source: AWS IoT, HTTPS publish.
fn decode_topic(encoded: &str) -> Result<String, Failure> {
    let is_escape = |tail: &str| {
        tail.get(..2).is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    if !encoded.split('%').skip(1).all(is_escape) {
        return Err(failure(400, "the topic has a % without two hexadecimal digits"));
    }
    match percent_decode_str(encoded).decode_utf8() {
        Ok(topic) if topic.is_empty() => Err(failure(400, "the topic is empty")),
        Ok(topic) => Ok(topic.into_owned()),
        Err(_) => Err(failure(400, "the topic is not UTF-8")),
    }
}

/// Strict: whoever asks for something else, such as `retain`, must not think it was done.
fn parse_query(query: &str) -> Result<Qos, Failure> {
    match query {
        "" | "qos=0" => Ok(Qos::AtMostOnce),
        "qos=1" => Ok(Qos::AtLeastOnce),
        _ => Err(failure(400, "the query may be qos=0 or qos=1, and nothing else")),
    }
}

fn failure(status: u16, message: &str) -> Failure {
    Failure { status, message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_sdk::Endpoint;
    use gnomon_sdk::mock::MockHost;
    use serde_json::{Value, json};

    const TOKEN: &str = "0123456789abcdef";

    fn plugin(config: Value) -> Result<HttpIngest, String> {
        HttpIngest::new(serde_json::from_value(config).map_err(|e| e.to_string())?)
    }

    fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Incoming {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Incoming {
            listener: "ingest".into(),
            peer: Endpoint { address: "192.0.2.1".into(), port: 40_000 },
            method: method.into(),
            path: path.into(),
            query_string: query.into(),
            headers: headers.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            body: body.into(),
            client_certificate: None,
        }
    }

    fn post(target: &str, headers: &[(&str, &str)]) -> Incoming {
        request("POST", target, headers, b"{\"temp\":31}")
    }

    fn text(response: &Response) -> String {
        let body: Value = serde_json::from_slice(&response.body).unwrap();
        body["message"].as_str().unwrap().into()
    }

    /// Status and message that a plugin without tokens gives.
    fn answer(request: Incoming) -> (u16, String) {
        let response = plugin(json!({ "anonymous": true })).unwrap().handle(request).unwrap();
        (response.status, text(&response))
    }

    #[test]
    fn a_body_is_published_to_the_topic_of_the_path() {
        let cases = [
            (None, "/ingest/a", "a", Qos::AtMostOnce),
            (None, "/ingest/sensor/temp?qos=1", "sensor/temp", Qos::AtLeastOnce),
            (None, "/ingest/sensor%2Ftemp?qos=0", "sensor/temp", Qos::AtMostOnce),
            (None, "/ingest/a%20b/%C3%BC", "a b/ü", Qos::AtMostOnce),
            (None, "/ingest//a/", "/a/", Qos::AtMostOnce),
            (None, "/ingest/a%252F", "a%2F", Qos::AtMostOnce),
            (Some("site/north"), "/ingest/a", "site/north/a", Qos::AtMostOnce),
            (Some("site"), "/ingest/../a", "site/../a", Qos::AtMostOnce),
            (Some("site"), "/ingest/$aws/rules/x", "site/$aws/rules/x", Qos::AtMostOnce),
        ];
        for (prefix, target, topic, qos) in cases {
            let host = MockHost::new();
            let config = json!({ "anonymous": true, "topic_prefix": prefix });
            let mut plugin = plugin(config).unwrap();
            let response = plugin.handle(post(target, &[("content-type", "a/b")])).unwrap();
            assert_eq!((response.status, &*text(&response)), (200, "OK"), "{target}");
            assert_eq!(response.headers[0].1, "application/json");
            let published = host.published();
            assert_eq!(published.len(), 1, "{target}");
            assert_eq!(published[0].topic, topic);
            assert_eq!(published[0].payload, b"{\"temp\":31}");
            assert_eq!(published[0].options.qos, qos, "{target}");
            assert_eq!(published[0].options.content_type.as_deref(), Some("a/b"));
            assert!(!published[0].options.retain);
        }
    }

    #[test]
    fn what_is_wrong_with_a_request_decides_the_status() {
        let cases = [
            (post("/ingest/", &[]), 400, "the topic is empty"),
            (post("/ingest/a%2", &[]), 400, "the topic has a % without two hexadecimal digits"),
            (post("/ingest/%zz", &[]), 400, "the topic has a % without two hexadecimal digits"),
            (post("/ingest/%+1", &[]), 400, "the topic has a % without two hexadecimal digits"),
            (post("/ingest/%ü", &[]), 400, "the topic has a % without two hexadecimal digits"),
            (post("/ingest/%ff", &[]), 400, "the topic is not UTF-8"),
            (
                post("/ingest/a?qos=2", &[]),
                400,
                "the query may be qos=0 or qos=1, and nothing else",
            ),
            (post("/ingest/a?qos=", &[]), 400, "the query may be qos=0 or qos=1, and nothing else"),
            (
                post("/ingest/a?retain=true", &[]),
                400,
                "the query may be qos=0 or qos=1, and nothing else",
            ),
            (request("GET", "/ingest/a", &[], b""), 405, "only POST is allowed"),
            (request("post", "/ingest/a", &[], b""), 405, "only POST is allowed"),
            (post("/ingest", &[]), 404, "publish with POST /ingest/<topic>"),
            (post("/", &[]), 404, "publish with POST /ingest/<topic>"),
            (post("/Ingest/a", &[]), 404, "publish with POST /ingest/<topic>"),
            (post("//ingest/a", &[]), 404, "publish with POST /ingest/<topic>"),
        ];
        for (request, status, message) in cases {
            let host = MockHost::new();
            let target = format!("{} {}?{}", request.method, request.path, request.query_string);
            assert_eq!(answer(request), (status, message.into()), "{target}");
            assert_eq!(host.published(), [], "{target}");
        }
    }

    #[test]
    fn a_405_says_which_method_is_allowed() {
        let mut plugin = plugin(json!({ "anonymous": true })).unwrap();
        let response = plugin.handle(request("PUT", "/ingest/a", &[], b"")).unwrap();
        assert!(response.headers.contains(&("allow".into(), "POST".into())));
    }

    #[test]
    fn one_byte_above_the_size_is_413() {
        let config = json!({ "anonymous": true, "body_bytes_max": 3 });
        for (body, status) in [(&b"123"[..], 200), (b"1234", 413)] {
            let host = MockHost::new();
            let mut plugin = plugin(config.clone()).unwrap();
            let response = plugin.handle(request("POST", "/ingest/a", &[], body)).unwrap();
            assert_eq!(response.status, status);
            assert_eq!(host.published().len(), usize::from(status == 200));
        }
    }

    #[test]
    fn only_a_known_bearer_token_gets_in() {
        let secret = "fedcba9876543210";
        let cases: [(&[(&str, &str)], u16); 10] = [
            (&[("authorization", "Bearer 0123456789abcdef")], 200),
            (&[("authorization", "bearer 0123456789abcdef")], 200),
            (&[("authorization", "Bearer fedcba9876543210")], 200),
            (&[], 401),
            (&[("authorization", "")], 401),
            (&[("authorization", "Bearer ")], 401),
            (&[("authorization", "Bearer 0123456789abcdeX")], 401),
            (&[("authorization", "Bearer 0123456789abcde")], 401),
            (&[("authorization", "Basic 0123456789abcdef")], 401),
            (&[("authorization", "0123456789abcdef")], 401),
        ];
        for (headers, status) in cases {
            let host = MockHost::new();
            host.set_secret("ingest", secret.as_bytes());
            let config = json!({ "tokens": [TOKEN], "token_secrets": ["ingest"] });
            let mut plugin = plugin(config).unwrap();
            let response = plugin.handle(post("/ingest/a", headers)).unwrap();
            assert_eq!(response.status, status, "{headers:?}");
            assert_eq!(host.published().len(), usize::from(status == 200), "{headers:?}");
            let challenge = ("www-authenticate".into(), "Bearer".into());
            assert_eq!(response.headers.contains(&challenge), status == 401, "{headers:?}");
        }
    }

    #[test]
    fn the_hosts_refusal_becomes_the_answer() {
        let cases = [
            (Error::Denied("add publish = [\"a\"]".into()), 403, "denied: add publish = [\"a\"]"),
            (Error::Invalid("topic has a wildcard".into()), 400, "invalid: topic has a wildcard"),
            (Error::TooLarge(9), 413, "too large: at most 9 bytes are allowed"),
            (Error::Quota("rate".into()), 429, "quota used up: rate"),
            (Error::Timeout, 503, "no answer in time"),
            (Error::Unavailable("stopping".into()), 503, "unavailable: stopping"),
        ];
        for (error, status, message) in cases {
            let host = MockHost::new();
            host.on_publish(move |_| Err(error.clone()));
            assert_eq!(answer(post("/ingest/a", &[])), (status, message.into()));
        }
    }

    #[test]
    fn an_unexpected_error_is_for_the_operator_only() {
        let host = MockHost::new();
        host.on_publish(|_| Err(Error::Other("disk".into())));
        let mut plugin = plugin(json!({ "anonymous": true })).unwrap();
        assert_eq!(plugin.handle(post("/ingest/a", &[])).unwrap_err(), "disk");
    }

    #[test]
    fn an_unsafe_configuration_is_refused() {
        let cases = [
            (json!({}), "give tokens or token_secrets"),
            (json!({ "tokens": [] }), "give tokens or token_secrets"),
            (json!({ "anonymous": true, "tokens": [TOKEN] }), "anonymous = true contradicts"),
            (json!({ "tokens": ["short"] }), "fewer than 16 characters"),
            (json!({ "tokens": [""] }), "fewer than 16 characters"),
            (json!({ "tokens": ["0123456789 abcdef"] }), "other than visible ASCII"),
            (json!({ "token_secrets": ["x"] }), "token_secrets: denied: secret x"),
            (json!({ "token": [TOKEN] }), "unknown field `token`"),
            (json!({ "anonymous": true, "topic_prefix": "" }), "topic_prefix must be"),
            (json!({ "anonymous": true, "topic_prefix": "a/" }), "topic_prefix must be"),
            (json!({ "anonymous": true, "topic_prefix": "/a" }), "topic_prefix must be"),
            (json!({ "anonymous": true, "topic_prefix": "a/#" }), "topic_prefix must be"),
        ];
        for (config, expected) in cases {
            MockHost::new();
            let error =
                plugin(config.clone()).err().unwrap_or_else(|| panic!("{config} was taken"));
            assert!(error.contains(expected), "{config}: {error}");
            assert!(!error.contains("short") && !error.contains(TOKEN), "{error}");
        }
    }
}
