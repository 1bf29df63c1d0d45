//! The shipped custom authorizers that need more than a token: by password, by a webhook, and by a
//! token whose issuer publishes its keys.

use crate::host::Host;
use crate::mqtt::{self, Client};
use crate::plugins;
use crate::receiver::Receiver;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const NOT_AUTHORIZED: u8 = 5;

/// A plain listener for HTTPS publishes and WebSocket.
const WEB: &str = "[listeners.web]\nbind = '127.0.0.1:0'\nprotocol = 'https'\ntls = false\n";

/// Of `wonderland`, made by the reference implementation with the recommended cost.
const ALICE: &str = "alice:$argon2id$v=19$m=9216,t=4,p=1$c2FsdCBvZiAxNiBieXRlcw\
                     $cUbES65K7NKZcBhuznP24NeXGHDOiy3af4v3jU5AERQ";

/// Everything below `dev/`, then what the variable stands for.
fn policy(variable: &str) -> Value {
    let arn = "arn:aws:iot:us-east-1:123456789012";
    let allow = |action: Value, resource: String| json!({ "Effect": "Allow", "Action": action, "Resource": resource });
    json!({
        "Version": "2012-10-17",
        "Statement": [
            allow(json!("iot:Connect"), format!("{arn}:client/*")),
            allow(json!(["iot:Publish", "iot:Receive"]), format!("{arn}:topic/dev/{variable}/*")),
            allow(json!("iot:Subscribe"), format!("{arn}:topicfilter/dev/{variable}/*")),
        ],
    })
}

/// CONNECT of 3.1.1 with clean session, user name and password.
fn connect(client_id: &str, username: &str, password: &str) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0xc2, 0, 60];
    for text in [client_id, username, password] {
        mqtt::text(&mut body, text);
    }
    mqtt::packet(0x10, &body)
}

/// The CONNACK's code.
#[track_caller]
fn log_in(client: &mut Client, username: &str, password: &str) -> u8 {
    client.send(&connect("client", username, password));
    let connack = client.packet().expect("the host closed instead of a CONNACK");
    assert_eq!(connack[..2], [0x20, 2], "{connack:02x?}");
    connack[3]
}

fn basic(text: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(text))
}

/// Status of a publish of `hello` by HTTP.
#[track_caller]
fn post(host: &Host, topic: &str, authorization: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", host.port("web"))).unwrap();
    let request = format!(
        "POST /topics/{topic}?qos=1 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         authorization: {authorization}\r\ncontent-length: 5\r\n\r\nhello"
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    socket.read_to_string(&mut response).unwrap();
    response.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// The code of the CONNACK to a CONNECT without credentials, over a WebSocket whose upgrade request
/// has this header.
#[track_caller]
fn websocket(host: &Host, authorization: &str) -> u8 {
    let mut socket = TcpStream::connect(("127.0.0.1", host.port("web"))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let request = format!(
        "GET /mqtt HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: mqtt\r\nauthorization: {authorization}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0x02, 0, 60];
    mqtt::text(&mut body, "browser");
    let packet = mqtt::packet(0x10, &body);
    // A binary frame, masked with zeros.
    let mut frame = vec![0x82, 0x80 | u8::try_from(packet.len()).unwrap(), 0, 0, 0, 0];
    frame.extend(packet);
    socket.write_all(&frame).unwrap();
    let mut connack = [0; 6];
    socket.read_exact(&mut connack).unwrap();
    assert_eq!(connack[..4], [0x82, 4, 0x20, 2], "{connack:02x?}");
    connack[5]
}

/// The host of a test with a file of users, and the folder of that file.
fn by_password(users: &str) -> Option<(TempDir, String)> {
    let plugin = plugins::folder("password-authorizer")?;
    let secrets = TempDir::new().unwrap();
    let file = secrets.path().join("users");
    std::fs::write(&file, users).unwrap();
    let configuration = format!(
        "{WEB}[authorizers]\ndefault = 'password-authorizer'\n\
         [plugins.password-authorizer]\npath = {plugin:?}\nlimits = {{ cpu_ms = 1000 }}\n\
         [plugins.password-authorizer.grants]\nsecrets.users = {{ file = {file:?} }}\n\
         [plugins.password-authorizer.config]\nusers = {{ secret = 'users' }}\n\
         policies = ['''{}''']\n",
        policy("${user}")
    );
    Some((secrets, configuration))
}

#[test]
fn a_client_with_user_name_and_password_may_do_what_the_template_allows() {
    let users = format!("# the users of this test\n{ALICE}\n");
    let Some((_secrets, configuration)) = by_password(&users) else { return };
    let host = Host::start(&configuration);

    let mut client = Client::tls(&host, "mqtt", None);
    let query = "alice?x-amz-customauthorizer-name=password-authorizer&SDK=Test";
    assert_eq!(log_in(&mut client, query, "wonderland"), 0);
    assert_eq!(client.subscribe("dev/alice/#"), 1);
    client.publish("dev/alice/up", "hello");
    assert_eq!(client.message(), ("dev/alice/up".into(), "hello".into()));
    assert_eq!(client.subscribe("dev/bob/#"), 0x80, "somebody else's topics");

    for (username, password) in [
        ("alice", "looking-glass"),
        ("alice", ""),
        ("nobody", "wonderland"),
        ("", "wonderland"),
        ("alice?x-amz-customauthorizer-name=another", "wonderland"),
    ] {
        let mut refused = Client::tls(&host, "mqtt", None);
        assert_eq!(log_in(&mut refused, username, password), NOT_AUTHORIZED, "{username}");
    }
    host.expect_log("no such user, or another password");
    let mut refused = Client::tls(&host, "mqtt", None);
    assert_eq!(refused.connect("client"), NOT_AUTHORIZED, "without a password");

    assert_eq!(post(&host, "dev/alice/up", &basic("alice:wonderland")), "200");
    assert_eq!(client.message(), ("dev/alice/up".into(), "hello".into()));
    assert_eq!(post(&host, "dev/bob/up", &basic("alice:wonderland")), "403");
    assert_eq!(post(&host, "dev/alice/up", &basic("alice:looking-glass")), "403");
    assert_eq!(websocket(&host, &basic("alice:wonderland")), 0);
    assert_eq!(websocket(&host, &basic("alice:looking-glass")), NOT_AUTHORIZED);

    let log = host.log();
    assert!(!log.contains("wonderland") && !log.contains("looking-glass"), "a password is logged");
}

#[test]
fn a_hash_of_the_command_line_lets_its_user_in() {
    let mut hash = Command::new(env!("CARGO_BIN_EXE_gnomon"))
        .args(["password", "hash", "alice"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    hash.stdin.take().unwrap().write_all(b"tea party\n").unwrap();
    let output = hash.wait_with_output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    assert!(line.starts_with("alice:$argon2id$v=19$m=9216,t=4,p=1$"), "{line}");
    let Some((_secrets, configuration)) = by_password(&line) else { return };
    let host = Host::start(&configuration);
    assert_eq!(log_in(&mut Client::tls(&host, "mqtt", None), "alice", "tea party"), 0);
    let refused = log_in(&mut Client::tls(&host, "mqtt", None), "alice", "tea");
    assert_eq!(refused, NOT_AUTHORIZED);
}

#[test]
fn a_mistake_in_the_file_of_users_keeps_the_host_from_starting() {
    let users = format!("{ALICE}\nbob:hunter2\n");
    let Some((_secrets, configuration)) = by_password(&users) else { return };
    let log = Host::refused(&configuration);
    assert!(log.contains("users: line 2: behind the user name there must be $argon2id$"), "{log}");
    assert!(!log.contains("hunter2"), "a secret is told: {log}");
}

/// Lets in who has the password `open sesame`, as `lamp7`.
fn decide(question: &str) -> String {
    let question: Value = serde_json::from_str(question).unwrap();
    let mqtt = &question["protocolData"]["mqtt"];
    if mqtt["username"] == "broken" {
        return "{\"isAuthenticated\": \"yes\"}".into();
    }
    let is_right = mqtt["password"] == BASE64_STANDARD.encode("open sesame");
    let answer = json!({
        "isAuthenticated": is_right,
        "principalId": "lamp7",
        "policyDocuments": [policy("lamp7"), policy("${iot:ClientId}").to_string()],
        "disconnectAfterInSeconds": 86_400,
    });
    answer.to_string()
}

#[test]
fn a_webhook_says_who_a_client_is_and_what_it_may_do() {
    let Some(plugin) = plugins::folder("webhook-authorizer") else { return };
    let webhook = Receiver::answering(decide);
    let secrets = TempDir::new().unwrap();
    let token = secrets.path().join("token");
    std::fs::write(&token, "the webhook's own secret").unwrap();
    let origin = webhook.origin();
    let host = Host::start(&format!(
        "[authorizers]\ndefault = 'webhook-authorizer'\n\
         [plugins.webhook-authorizer]\npath = {plugin:?}\n\
         [plugins.webhook-authorizer.grants]\nhttp = [{origin:?}]\n\
         credentials.auth = {{ file = {token:?}, origins = [{origin:?}] }}\n\
         [plugins.webhook-authorizer.config]\nurl = '{origin}/decide'\ncredential = 'auth'\n"
    ));

    let mut client = Client::tls(&host, "mqtt", None);
    assert_eq!(log_in(&mut client, "lamp?a=b", "open sesame"), 0);
    let question: Value = serde_json::from_str(&webhook.next()).unwrap();
    assert_eq!(question["protocols"], json!(["tls", "mqtt"]));
    assert_eq!(question["signatureVerified"], json!(false));
    let data = &question["protocolData"];
    assert_eq!(data["tls"], json!({ "serverName": "localhost" }));
    let password = BASE64_STANDARD.encode("open sesame");
    let mqtt = json!({ "username": "lamp?a=b", "password": password, "clientId": "client" });
    assert_eq!(data["mqtt"], mqtt);
    for filter in ["dev/lamp7/#", "dev/client/#"] {
        assert_eq!(client.subscribe(filter), 1, "{filter}");
    }
    assert_eq!(client.subscribe("dev/lamp8/#"), 0x80, "somebody else's topics");
    client.publish("dev/lamp7/up", "hello");
    assert_eq!(client.message(), ("dev/lamp7/up".into(), "hello".into()));

    for (username, password, reason) in [
        ("lamp", "close sesame", "the webhook does not let it in"),
        ("broken", "open sesame", "isAuthenticated is neither true nor false"),
    ] {
        let mut refused = Client::tls(&host, "mqtt", None);
        assert_eq!(log_in(&mut refused, username, password), NOT_AUTHORIZED, "{username}");
        host.expect_log(reason);
        webhook.next();
    }
    let log = host.log();
    assert!(!log.contains("sesame") && !log.contains(&password), "a password is logged: {log}");
}

#[test]
fn a_webhook_that_is_away_lets_nobody_in() {
    let Some(plugin) = plugins::folder("webhook-authorizer") else { return };
    let origin = format!("http://127.0.0.1:{}", Receiver::closed_port());
    let host = Host::start(&format!(
        "[authorizers]\ndefault = 'webhook-authorizer'\n\
         [plugins.webhook-authorizer]\npath = {plugin:?}\n\
         [plugins.webhook-authorizer.grants]\nhttp = [{origin:?}]\n\
         [plugins.webhook-authorizer.config]\nurl = '{origin}/decide'\n"
    ));
    let mut client = Client::tls(&host, "mqtt", None);
    assert_eq!(log_in(&mut client, "lamp", "open sesame"), NOT_AUTHORIZED);
    host.expect_log("the webhook did not answer");
}

/// ES256, with the name of its key.
fn jwt(key: &EcdsaKeyPair, kid: &str) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let header = encode(&json!({ "alg": "ES256", "kid": kid }));
    // 2100-01-01
    let claims = encode(&json!({ "sub": "device7", "exp": 4_102_444_800_u64 }));
    let signed = format!("{header}.{claims}");
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

#[test]
fn a_token_is_checked_with_the_keys_that_its_issuer_publishes() {
    let Some(plugin) = plugins::folder("jwt-authorizer") else { return };
    let new_key = || EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let (key, other) = (new_key(), new_key());
    // [SEC 1, 2.3.3] 04, x, y
    let point = key.public_key().as_ref();
    let [x, y] = [&point[1..33], &point[33..]].map(|number| BASE64_URL_SAFE_NO_PAD.encode(number));
    let set = json!({ "keys": [
        { "kty": "OKP", "crv": "Ed25519", "x": "", "kid": "0" },
        { "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "1", "use": "sig" },
    ] });
    let issuer = Receiver::answering(move |_| set.to_string());
    let origin = issuer.origin();
    let host = Host::start(&format!(
        "[authorizers]\ndefault = 'jwt-authorizer'\n\
         [plugins.jwt-authorizer]\npath = {plugin:?}\nlimits = {{ instances = 1 }}\n\
         [plugins.jwt-authorizer.grants]\nhttp = [{origin:?}]\n\
         [plugins.jwt-authorizer.config]\njwks = {{ url = '{origin}/keys' }}\n\
         policies = ['''{}''']\n",
        policy("${claim:sub}")
    ));
    issuer.expect_nothing();
    let connect =
        |token: &str| Client::tls(&host, "mqtt", None).connect_with("client", Some(token));
    assert_eq!(connect(&jwt(&key, "1")), 0);
    assert_eq!(issuer.next(), "", "the first token has the set fetched");
    assert_eq!(connect(&jwt(&key, "1")), 0);
    assert_eq!(connect(&jwt(&other, "1")), NOT_AUTHORIZED);
    assert_eq!(connect(&jwt(&key, "2")), NOT_AUTHORIZED);
    issuer.expect_nothing();
}
