//! Rule action that sends the payload of each message to a URL.
//!
//! In: the rule's SELECT results. Out: one HTTP request per message; its status decides: 2xx is
//! success, 408, 429 and 5xx may be tried again, anything else (redirects too, which the host
//! does not follow) has failed for good.
//! Not here: which URLs are allowed (the operator's grants), retries (the host's).

use gnomon_sdk::{ActionContext, Failure, Message, Plugin, Request, RuleAction, export, host};
use serde::Deserialize;
use std::collections::BTreeMap;

export!(Webhook: RuleAction);

/// Bytes of a response's text that go into the reason of a failure.
const REASON_BYTES_MAX: usize = 200;

const NO_URL: &str = "there is no url: give one in the action's params, or in the plugin's config";

/// The plugin.
struct Webhook {
    url: Option<String>,
}

/// `[plugins.<name>.config]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// For rules that name none: an AWS `lambda` action has no parameters.
    url: Option<String>,
}

/// Parameters of the action in the rule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Where to; its origin must be granted. Default: the one of the configuration.
    url: Option<String>,
    /// Default `POST`.
    #[serde(default = "post")]
    method: Method,
    /// More headers, or another `content-type` than `application/json`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Name of a granted credential that the host adds.
    credential: Option<String>,
    /// Shorter than the host's own limit, or without effect.
    timeout_ms: Option<u32>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Method {
    Post,
    Put,
    Patch,
}

fn post() -> Method {
    Method::Post
}

impl Method {
    fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
        }
    }
}

impl Plugin for Webhook {
    type Config = Config;

    fn new(Config { url }: Config) -> Result<Self, String> {
        Ok(Self { url })
    }
}

impl RuleAction for Webhook {
    type Params = Params;

    fn invoke(
        &mut self,
        context: &ActionContext<Params>,
        messages: &[Message],
    ) -> Result<Vec<Failure>, String> {
        let url = context.params.url.as_deref().or(self.url.as_deref());
        Ok((0..)
            .zip(messages)
            .filter_map(|(index, message)| {
                let (retryable, reason) = deliver(url, &context.params, message).err()?;
                Some(Failure { index, retryable, reason })
            })
            .collect())
    }
}

/// Sends one message; an error says whether trying again may help, and why it failed.
fn deliver(url: Option<&str>, params: &Params, message: &Message) -> Result<(), (bool, String)> {
    let url = url.ok_or((false, NO_URL.to_owned()))?;
    let response = host::send(&request(url, params, message))
        .map_err(|error| (error.is_retryable(), error.reason()))?;
    match response.status {
        200..=299 => Ok(()),
        status => {
            let retryable = matches!(status, 408 | 429 | 500..);
            let text = &response.body[..response.body.len().min(REASON_BYTES_MAX)];
            let text = String::from_utf8_lossy(text);
            Err((retryable, format!("{url} answered {status}: {}", text.trim_end())))
        }
    }
}

fn request(url: &str, params: &Params, message: &Message) -> Request {
    let mut headers: Vec<(String, String)> =
        params.headers.iter().map(|(k, v)| (k.to_ascii_lowercase(), v.clone())).collect();
    if !headers.iter().any(|(name, _)| name == "content-type") {
        let content_type = message.content_type.as_deref().unwrap_or("application/json");
        headers.push(("content-type".into(), content_type.into()));
    }
    Request {
        headers,
        body: message.payload.clone(),
        timeout_ms: params.timeout_ms,
        credential: params.credential.clone(),
        ..Request::new(params.method.as_str(), url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_sdk::mock::MockHost;
    use gnomon_sdk::{Error, Qos, Response};

    fn message(payload: &str) -> Message {
        Message {
            topic: "sensor/temp".into(),
            payload: payload.into(),
            qos: Qos::AtLeastOnce,
            retain: false,
            timestamp: 0,
            client_id: None,
            principal: None,
            content_type: None,
            user_properties: Vec::new(),
            attributes: Vec::new(),
        }
    }

    fn invoke(params: serde_json::Value, messages: &[Message]) -> Vec<Failure> {
        let params = serde_json::from_value(params).unwrap();
        let context =
            ActionContext { rule: "HighTemp".into(), action: 0, params, is_error_action: false };
        Webhook { url: None }.invoke(&context, messages).unwrap()
    }

    #[test]
    fn each_message_is_one_post_with_the_payload_as_body() {
        let host = MockHost::new();
        host.on_request(|_| Ok(Response::text(204, "")));
        let params = serde_json::json!({
            "url": "https://hooks.example.com/a",
            "headers": { "X-Site": "north" },
            "credential": "hook",
        });
        assert_eq!(invoke(params, &[message("{\"temp\":31}"), message("{\"temp\":32}")]), []);
        let requests = host.requests();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[1].method, "POST");
        assert_eq!(requests[1].url, "https://hooks.example.com/a");
        assert_eq!(requests[1].body, b"{\"temp\":32}");
        assert_eq!(requests[1].credential.as_deref(), Some("hook"));
        let headers = [("x-site", "north"), ("content-type", "application/json")];
        assert_eq!(requests[1].headers, headers.map(|(k, v)| (k.into(), v.into())));
    }

    #[test]
    fn the_answer_decides_whether_a_retry_may_help() {
        type Case = (Result<Response, Error>, Option<(bool, &'static str)>);
        let cases: [Case; 8] = [
            (Ok(Response::text(200, "ok")), None),
            (Ok(Response::text(302, "")), Some((false, "https://h/ answered 302: "))),
            (
                Ok(Response::text(404, "no such\n")),
                Some((false, "https://h/ answered 404: no such")),
            ),
            (Ok(Response::text(429, "slow")), Some((true, "https://h/ answered 429: slow"))),
            (Ok(Response::text(503, "")), Some((true, "https://h/ answered 503: "))),
            (Err(Error::Denied("add x".into())), Some((false, "denied: add x"))),
            (Err(Error::Timeout), Some((true, "no answer in time"))),
            (Err(Error::Unavailable("refused".into())), Some((true, "unavailable: refused"))),
        ];
        for (answer, expected) in cases {
            let host = MockHost::new();
            host.on_request(move |_| answer.clone());
            let failures = invoke(serde_json::json!({ "url": "https://h/" }), &[message("1")]);
            let got = failures.first().map(|f| (f.retryable, f.reason.as_str()));
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_failed_message_does_not_hold_up_the_others() {
        let host = MockHost::new();
        host.on_request(|request| match request.body.as_slice() {
            b"2" => Ok(Response::text(500, "no")),
            _ => Ok(Response::text(200, "")),
        });
        let failures = invoke(
            serde_json::json!({ "url": "https://h/" }),
            &[message("1"), message("2"), message("3")],
        );
        assert_eq!(failures.iter().map(|f| f.index).collect::<Vec<_>>(), [1]);
        assert_eq!(host.requests().len(), 3);
    }

    #[test]
    fn the_configured_url_is_for_rules_that_name_none() {
        let host = MockHost::new();
        host.on_request(|_| Ok(Response::text(200, "")));
        let context = |params| ActionContext {
            rule: "HighTemp".into(),
            action: 0,
            params: serde_json::from_value(params).unwrap(),
            is_error_action: false,
        };
        let mut webhook = Webhook { url: Some("https://configured/".into()) };
        for params in [serde_json::json!({}), serde_json::json!({ "url": "https://named/" })] {
            assert_eq!(webhook.invoke(&context(params), &[message("1")]).unwrap(), []);
        }
        let urls: Vec<_> = host.requests().into_iter().map(|request| request.url).collect();
        assert_eq!(urls, ["https://configured/", "https://named/"]);
        let failures = invoke(serde_json::json!({}), &[message("1")]);
        assert_eq!(failures[0].reason, NO_URL);
        assert!(!failures[0].retryable);
    }

    #[test]
    fn a_misspelt_parameter_is_refused() {
        let params = serde_json::json!({ "url": "https://h/", "header": {} });
        let error = serde_json::from_value::<Params>(params).unwrap_err().to_string();
        assert!(error.starts_with("unknown field `header`"), "{error}");
    }
}
