//! The shipped plugins, built once for all tests; the JWT authorizer and HTTP ingest in a host, and
//! a plugin that wants more than it may have. The webhook is in the customer's example.

use crate::aws::Aws;
use crate::host::{Host, LAB};
use crate::mqtt::{self, Client};
use crate::{skip, workspace};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use tempfile::TempDir;

/// Configuration of the webhook plugin that is to post to one origin and was granted another;
/// `None` when plugins cannot be built here.
pub fn webhook(to: &str, granted: &str) -> Option<String> {
    Some(format!(
        "[plugins.webhook]\npath = {:?}\n[plugins.webhook.grants]\nhttp = [{granted:?}]\n\
         [plugins.webhook.config]\nurl = '{to}/fired'\n",
        folder("webhook")?
    ))
}

/// Folder of a built plugin.
pub fn folder(name: &str) -> Option<PathBuf> {
    static BUILT: OnceLock<Vec<(String, PathBuf)>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        if !matches!(cargo_gnomon::is_target_installed(&workspace()), Ok(true)) {
            skip("the target wasm32-unknown-unknown is missing; `cargo verify` adds it");
            return Vec::new();
        }
        let names = [
            "allow-list",
            "geo",
            "http-ingest",
            "jwt-authorizer",
            "password-authorizer",
            "scram-authorizer",
            "webhook",
            "webhook-authorizer",
        ];
        let plugins = cargo_gnomon::build(&workspace(), &names, &mut |_| {}).unwrap();
        plugins.into_iter().map(|plugin| (plugin.name, plugin.folder)).collect()
    });
    built.iter().find(|(built, _)| built == name).map(|(_, folder)| folder.clone())
}

/// The issuer's key of these tests.
const ISSUER_SECRET: &[u8] = b"an issuer's secret of 32 bytes..";

/// 2100-01-01, in seconds.
const FAR_FUTURE: u64 = 4_102_444_800;

/// A token as an issuer makes it: HS256.
fn jwt(claims: &Value, secret: &[u8]) -> String {
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let header = encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", encode(claims.to_string().as_bytes()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", encode(signature.as_ref()))
}

#[test]
fn a_client_with_a_json_web_token_may_do_what_the_template_allows() {
    let Some(plugin) = folder("jwt-authorizer") else { return };
    let secrets = TempDir::new().unwrap();
    let secret = secrets.path().join("issuer");
    std::fs::write(&secret, BASE64_STANDARD.encode(ISSUER_SECRET)).unwrap();
    let host = Host::start(&format!(
        "[authorizers]\ndefault = 'jwt-authorizer'\n\
         [plugins.jwt-authorizer]\npath = {plugin:?}\n\
         [plugins.jwt-authorizer.grants]\nsecrets.issuer = {{ file = {secret:?} }}\n\
         [plugins.jwt-authorizer.config]\nissuer = 'https://issuer.example'\n\
         keys = [{{ alg = 'HS256', key = {{ secret = 'issuer' }} }}]\n\
         policies = ['''{TEMPLATE}''']\n"
    ));
    let claims =
        |sub: &str| json!({ "iss": "https://issuer.example", "sub": sub, "exp": FAR_FUTURE });
    let token = jwt(&claims("device7"), ISSUER_SECRET);

    let mut client = Client::tls(&host, "mqtt", None);
    assert_eq!(client.connect_with("device7", Some(&token)), 0);
    assert_eq!(client.subscribe("devices/device7/#"), 1);
    client.publish("devices/device7/up", "hello");
    assert_eq!(client.message(), ("devices/device7/up".into(), "hello".into()));
    assert_eq!(client.subscribe("devices/#"), 0x80, "somebody else's topics");
    client.send(&mqtt::publish("devices/device8/up", "hello"));
    client.expect_closed();

    let expired = json!({ "iss": "https://issuer.example", "sub": "device7", "exp": 1 });
    let elsewhere = json!({ "iss": "https://other.example", "sub": "device7", "exp": FAR_FUTURE });
    let (head, _) = token.rsplit_once('.').unwrap();
    let cases = [
        ("no token", "device7", None),
        ("another client id", "device8", Some(token.clone())),
        ("not a token", "device7", Some("secret".into())),
        ("no signature", "device7", Some(format!("{head}."))),
        ("another key", "device7", Some(jwt(&claims("device7"), &[7; 32]))),
        ("expired", "device7", Some(jwt(&expired, ISSUER_SECRET))),
        ("another issuer", "device7", Some(jwt(&elsewhere, ISSUER_SECRET))),
    ];
    for (what, client_id, token) in cases {
        let mut client = Client::tls(&host, "mqtt", None);
        assert_eq!(client.connect_with(client_id, token.as_deref()), 5, "{what}");
    }
    assert!(!host.log().contains(head), "a token is in the log");
}

const TEMPLATE: &str = r#"{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "iot:Connect",
     "Resource": "arn:aws:iot:us-east-1:123456789012:client/${claim:sub}"},
    {"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive"],
     "Resource": "arn:aws:iot:us-east-1:123456789012:topic/devices/${claim:sub}/*"},
    {"Effect": "Allow", "Action": "iot:Subscribe",
     "Resource": "arn:aws:iot:us-east-1:123456789012:topicfilter/devices/${claim:sub}/*"}
]}"#;

/// Status of a POST of `hello`.
#[track_caller]
fn post(host: &Host, listener: &str, path: &str, token: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", host.port(listener))).unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         authorization: Bearer {token}\r\ncontent-length: 5\r\n\r\nhello"
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    socket.read_to_string(&mut response).unwrap();
    response.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn what_is_posted_to_http_ingest_reaches_a_subscriber() {
    let Some(plugin) = folder("http-ingest") else { return };
    let token = "0123456789abcdef";
    let secrets = TempDir::new().unwrap();
    let secret = secrets.path().join("token");
    std::fs::write(&secret, token).unwrap();
    let host = Host::start(&format!(
        "{LAB}[plugins.http-ingest]\npath = {plugin:?}\n\
         listen = {{ bind = '127.0.0.1:0', tls = false }}\n\
         [plugins.http-ingest.grants]\npublish = ['sensor/#']\n\
         secrets.token = {{ file = {secret:?} }}\n\
         [plugins.http-ingest.config]\ntoken_secrets = ['token']\n"
    ));
    let Some(aws) = Aws::of(&host) else { return };
    aws.create_lab_policy();
    let mut subscriber = Client::plain(&host, "lab");
    assert_eq!(subscriber.connect("subscriber"), 0);
    assert_eq!(subscriber.subscribe("#"), 1);

    let post = |path, token| post(&host, "http-ingest", path, token);
    assert_eq!(post("/ingest/sensor/temp", "0123456789abcdeX"), "401");
    assert_eq!(post("/ingest/elsewhere", token), "403", "a topic that was not granted");
    assert_eq!(post("/ingest/sensor/temp?qos=1", token), "200");
    // What was refused would have come before it.
    assert_eq!(subscriber.message(), ("sensor/temp".into(), "hello".into()));
}

#[test]
fn a_plugin_that_asks_for_more_than_it_was_granted_keeps_the_host_from_starting() {
    let Some(built) = folder("http-ingest") else { return };
    let folder = TempDir::new().unwrap();
    std::fs::copy(built.join("plugin.wasm"), folder.path().join("plugin.wasm")).unwrap();
    let manifest =
        "name = 'greedy'\nversion = '1'\n[asks]\npublish = ['sensor/#']\nlisten = true\n";
    std::fs::write(folder.path().join("plugin.toml"), manifest).unwrap();
    let error = Host::refused(&format!(
        "[plugins.greedy]\npath = {:?}\nlisten = {{ bind = '127.0.0.1:0', tls = false }}\n\
         [plugins.greedy.grants]\npublish = ['ingest/#']\n\
         [plugins.greedy.config]\nanonymous = true\n",
        folder.path()
    ));
    let line = "plugin greedy: asks for `publish` \"sensor/#\", which is not granted; to allow it, \
                say in [plugins.greedy.grants]: publish = [\"sensor/#\"]";
    assert!(error.contains(line), "{error}");
}
