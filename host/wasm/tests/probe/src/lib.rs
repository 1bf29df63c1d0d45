//! The guest of the host's tests: exports every handler and does what its caller says, so that
//! one component shows every way to misbehave.

use gnomon_sdk::{
    ActionContext, AuthRequest, AuthResponse, Authorizer, Failure, HttpHandler, Incoming, Level,
    Message, Plugin, PublishOptions, Request, Response, RuleAction, export, host,
};
use serde::Deserialize;
use std::hint::black_box;

export!(Probe: RuleAction, Authorizer, HttpHandler);

struct Probe {
    calls: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Text of a refusal.
    refuse: Option<String>,
    /// Compute for ever.
    #[serde(default)]
    spin: bool,
}

/// What to do; the answer is a failure whose reason is the result.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
enum Order {
    /// The payload, how often this instance was called, the wall clock and the plugin's config.
    Report,
    Fail {
        text: String,
    },
    Panic,
    Spin,
    Allocate,
    Recurse,
    HugeResult,
    WrongIndex,
    Log {
        lines: u32,
    },
    Publish {
        topic: String,
        bytes: usize,
    },
    Send {
        url: String,
        credential: Option<String>,
    },
    Secret {
        name: String,
    },
}

impl Plugin for Probe {
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        if config.spin {
            spin();
        }
        config.refuse.map_or(Ok(Self { calls: 0 }), Err)
    }
}

impl RuleAction for Probe {
    type Params = Order;

    fn invoke(
        &mut self,
        context: &ActionContext<Order>,
        messages: &[Message],
    ) -> Result<Vec<Failure>, String> {
        self.calls += 1;
        let index = if matches!(context.params, Order::WrongIndex) { 7 } else { 0 };
        let reason = self.obey(&context.params, messages)?;
        Ok(vec![Failure { index, retryable: false, reason }])
    }
}

impl Probe {
    fn obey(&self, order: &Order, messages: &[Message]) -> Result<String, String> {
        let text =
            |result: Result<String, gnomon_sdk::Error>| result.unwrap_or_else(|e| e.reason());
        Ok(match order {
            Order::Report => {
                let payload = messages.first().map(|m| m.payload.as_slice()).unwrap_or_default();
                let payload = String::from_utf8_lossy(payload);
                format!("{payload} {} {} {}", self.calls, host::now_ms(), host::config())
            }
            Order::Fail { text } => return Err(text.clone()),
            Order::Panic => panic_now(),
            Order::Spin => spin(),
            Order::Allocate => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(black_box(vec![1_u8; 1_024 * 1_024]));
                }
            }
            Order::Recurse => recurse(0).to_string(),
            Order::HugeResult => "x".repeat(3 * 1_024 * 1_024),
            Order::WrongIndex => String::new(),
            Order::Log { lines } => {
                (0..*lines).for_each(|line| host::log(Level::Info, &line.to_string(), &[]));
                "logged".into()
            }
            Order::Publish { topic, bytes } => {
                let options =
                    PublishOptions { content_type: Some("text/x".into()), ..Default::default() };
                text(
                    host::publish(topic, &vec![b'x'; *bytes], &options)
                        .map(|()| "published".into()),
                )
            }
            Order::Send { url, credential } => {
                let request =
                    Request { credential: credential.clone(), ..Request::new("GET", url) };
                text(
                    host::send(&request)
                        .map(|r| format!("{} {}", r.status, String::from_utf8_lossy(&r.body))),
                )
            }
            Order::Secret { name } => {
                text(host::secret(name).map(|s| String::from_utf8_lossy(&s).into_owned()))
            }
        })
    }
}

impl Authorizer for Probe {
    /// The user name is the order: `panic`, `spin`, or the principal.
    fn authorize(&mut self, request: &AuthRequest) -> Result<AuthResponse, String> {
        let mqtt = request.mqtt.as_ref().ok_or("no MQTT")?;
        match mqtt.username.as_deref() {
            Some("panic") => panic_now(),
            Some("spin") => spin(),
            Some(name) => Ok(AuthResponse {
                is_authenticated: mqtt.password.as_deref() == Some(b"right"),
                principal_id: name.into(),
                policy_documents: vec!["{}".into()],
                disconnect_after_seconds: 60,
                refresh_after_seconds: 0,
                attributes: vec![
                    ("peer".into(), format!("{}:{}", request.peer.address, request.peer.port)),
                    ("client".into(), mqtt.client_id.clone().unwrap_or_default()),
                ],
            }),
            None => Err("no user name".into()),
        }
    }
}

impl HttpHandler for Probe {
    /// The path is the order.
    fn handle(&mut self, request: Incoming) -> Result<Response, String> {
        self.calls += 1;
        match request.path.as_str() {
            "/panic" => panic_now(),
            "/spin" => spin(),
            "/error" => Err("secret detail".into()),
            "/malformed" => Ok(Response::text(200, "").with_header("a b", "c")),
            path => {
                let body = String::from_utf8_lossy(&request.body);
                let Incoming { method, query_string, .. } = &request;
                Ok(Response::text(
                    201,
                    &format!("{method} {path} {query_string} {body} {}", self.calls),
                )
                .with_header("x-probe", "yes"))
            }
        }
    }
}

#[allow(clippy::panic, reason = "this plugin is for misbehaving")]
fn panic_now() -> ! {
    panic!("told to panic")
}

#[allow(clippy::empty_loop, reason = "this plugin is for misbehaving")]
fn spin() -> ! {
    loop {
        black_box(0);
    }
}

/// Never comes back. Keeps no array and takes no address, so that only the stack of WebAssembly
/// grows; the sum is of a kind that no compiler turns into a loop.
fn recurse(depth: u64) -> u64 {
    if depth == u64::MAX { 0 } else { recurse(depth + 1).rotate_left(3) ^ depth }
}
