//! Every operation that has a handler, with all that a request may hold in a wrong way: an answer is a
//! success, or an error that says it is the client's.
//!
//! The operations come from the tables, what they read from [`crate::test_shape`]: a new one is tried
//! without a word here.

use super::{Labels, Router, Service};
use crate::operations::Operation;
use crate::test_host::TestHost;
use crate::test_shape::{self, Read};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use percent_encoding::utf8_percent_encode;
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::Duration;

const DEVICE: &str = include_str!("../../../core/tests/data/device-1.pem");

const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}"#;

const TEMPLATE: &str = r#"{"Parameters": {"Name": {"Type": "String"}}, "Resources": {
    "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Name"}}},
    "certificate": {"Type": "AWS::IoT::Certificate",
        "Properties": {"CertificateId": {"Ref": "Name"}}}}}"#;

/// Far more than any operation takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What gets a request past its first checks, by the name of member, parameter or label; of all others
/// `Lamp`, or 1 where that is no number.
fn good(name: &str) -> Value {
    match name {
        "policyDocument" => json!(POLICY),
        "certificatePem" | "caCertificate" => json!(DEVICE),
        "certificateId" | "caCertificateId" => json!("a".repeat(64)),
        "target" | "principal" | "x-amzn-principal" | "x-amzn-iot-principal" => {
            json!(format!("arn:aws:iot:us-east-1:123456789012:cert/{}", "a".repeat(64)))
        }
        "resourceArn" => json!("arn:aws:iot:us-east-1:123456789012:thinggroup/Lamp"),
        "policyVersionId" | "versionId" => json!("1"),
        "accessKeyId" => json!("AKIA0000000000000000"),
        "sql" => json!("SELECT * FROM 'a'"),
        "actions" | "tags" | "authInfos" => json!([]),
        "templateBody" => json!(TEMPLATE),
        "roleArn" | "provisioningRoleArn" => json!("arn:aws:iam::123456789012:role/r"),
        "kind" => json!("server"),
        "schema" | "parameters" => json!({}),
        "key" | "topic" => json!("Lamp/Lamp"),
        _ => json!("Lamp"),
    }
}

/// Texts at the bounds of names, and such as mean something elsewhere: to a file system, a shell, a
/// spreadsheet, SQL, MQTT, HTTP, a terminal.
fn texts() -> Vec<String> {
    let texts = [
        "",
        " ",
        ".",
        "..",
        "/",
        "//",
        "../../etc/passwd",
        "..\\..\\x",
        "+/#",
        "#",
        "$aws/things/Lamp/shadow/update",
        "a\0b",
        "\u{1}\u{7f}\u{85}",
        "a\r\nset-cookie: x",
        "\u{202e}pmaL",
        "\u{feff}",
        "\u{1f600}",
        "L\u{430}mp",
        "CON",
        "NUL.txt",
        "a:b",
        "%00",
        "%2e%2e%2f",
        "%252F",
        "${iot:ClientId}",
        "*",
        "-1",
        "99999999999999999999",
        "NaN",
        "__proto__",
        "=cmd|' /C calc'!A0",
        "'; DROP TABLE things; --",
        "arn:aws:iot:us-east-1:123456789012:thing/../x",
        "arn:aws:iot:us-east-1:999999999999:cert/a",
        "{{{{{{",
        "((((((",
    ];
    let long = [37, 65, 129, 257, 2_049, 70_000].map(|length| "x".repeat(length));
    texts.into_iter().map(str::to_owned).chain(long).collect()
}

/// Values as JSON text: texts, and what is of another type or not quite JSON.
fn values() -> Vec<String> {
    let digits = "9".repeat(400);
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let other = [
        "null",
        "true",
        "0",
        "-0",
        "-1",
        "0.5",
        "1e400",
        "-1e400",
        "1e-400",
        "4294967296",
        "18446744073709551616",
        &digits,
        "[]",
        "[null]",
        "[\"\"]",
        "[1, \"a\", {}]",
        "{}",
        "{\"\": null}",
        "{\"a\": 1, \"a\": 2}",
        "{\"a\\u0000b\": \"__proto__\"}",
        &deep,
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "NaN",
        "'a'",
        "\"\u{1}\"",
    ];
    let texts = texts().into_iter().map(|text| Value::String(text).to_string());
    texts.chain(other.into_iter().map(str::to_owned)).collect()
}

/// Whole bodies.
fn bodies() -> Vec<Vec<u8>> {
    const DEPTH: usize = 100_000;
    let keys: Vec<_> = (0..40_000).map(|n| format!("\"k{n}\":0")).collect();
    let texts = [
        String::new(),
        "[]".to_owned(),
        "[{}]".to_owned(),
        "7".to_owned(),
        "\"a\"".to_owned(),
        "null".to_owned(),
        "true".to_owned(),
        "{".to_owned(),
        "}".to_owned(),
        "{}{}".to_owned(),
        "{} x".to_owned(),
        "{,}".to_owned(),
        "{\"a\"}".to_owned(),
        "{a: 1}".to_owned(),
        "{\"a\": 1,}".to_owned(),
        "// no\n{}".to_owned(),
        "\u{feff}{}".to_owned(),
        "\0".to_owned(),
        "[".repeat(DEPTH),
        "{\"a\":".repeat(DEPTH),
        format!("{{\"unknown\": {}{}}}", "[".repeat(DEPTH), "]".repeat(DEPTH)),
        format!("{{{}}}", keys.join(",")),
    ];
    let bytes: [&[u8]; 4] = [
        b"\xff\xfe{\0}\0",
        b"{\"a\": \"\xff\"}",
        b"{\"\xc0\xaf\": 1}",
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
    ];
    texts.map(String::into_bytes).into_iter().chain(bytes.map(<[u8]>::to_vec)).collect()
}

/// An operation under test.
struct Tried<'a> {
    host: &'a TestHost,
    service: &'static str,
    operation: &'static Operation,
}

impl Tried<'_> {
    /// Names of the labels, each with whether it is all the rest of the path.
    fn labels(&self) -> Vec<(&'static str, bool)> {
        let labels = self.operation.path.split('{').skip(1).filter_map(|it| it.split_once('}'));
        labels.map(|(name, _)| (name.trim_end_matches('+'), name.ends_with('+'))).collect()
    }

    /// The path with these values instead of good ones.
    fn path(&self, others: &[(&str, &str)]) -> String {
        let mut path = self.operation.path.to_owned();
        for (name, is_rest) in self.labels() {
            let other = others.iter().find(|(label, _)| *label == name);
            let value = other.map_or_else(|| text(&good(name)), |(_, value)| (*value).to_owned());
            let encoded = utf8_percent_encode(&value, crate::sigv4::ENCODED).to_string();
            let label = format!("{{{name}{}}}", if is_rest { "+" } else { "" });
            path = path.replace(&label, &encoded);
        }
        path
    }

    /// Signed and sent; a failure of the host fails the test.
    async fn send(
        &self,
        target: &str,
        headers: &[(&str, &[u8])],
        body: impl Into<Bytes>,
    ) -> Response<Bytes> {
        let mut request = Request::builder().method(&self.operation.method).uri(target);
        request = request.header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
        }
        let mut request = request.body(body.into()).unwrap();
        self.host.sign(&mut request, &self.host.key, self.service);
        let what = format!(
            "{} {target:.200} {headers:.200?} {:.300}",
            self.operation.name,
            request.body().escape_ascii().to_string()
        );
        let answered = tokio::time::timeout(PATIENCE, self.host.send(request)).await;
        let response = answered.unwrap_or_else(|_| panic!("{what}: no answer"));
        check(&what, &response);
        response
    }

    /// What the operation reads, and the least body that it does not call incomplete.
    async fn read(&self) -> (Read, Map<String, Value>) {
        let headers = [("x-amzn-principal", text(&good("principal")))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_bytes()));
        let (mut all, mut body) = (Read::default(), Map::new());
        for _ in 0..8 {
            test_shape::start();
            let target = self.path(&[]);
            let response =
                self.send(&target, &headers, Value::from(body.clone()).to_string()).await;
            let Read { members, query, headers } = test_shape::take();
            all.members.extend(members);
            all.query.extend(query);
            all.headers.extend(headers);
            let message = String::from_utf8_lossy(response.body()).into_owned();
            let missing = message.split_once("missing field `").map(|(_, rest)| rest);
            let Some((name, _)) = missing.and_then(|rest| rest.split_once('`')) else { break };
            if body.insert(name.to_owned(), good(name)).is_some() {
                break;
            }
        }
        (all, body)
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A success or an error of the client's, in the shape that SDKs read.
#[track_caller]
fn check(what: &str, response: &Response<Bytes>) {
    let (status, body) = (response.status(), response.body());
    let shown = String::from_utf8_lossy(&body[..body.len().min(500)]);
    let content_type = response.headers().get("content-type").map(HeaderValue::as_bytes);
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let is_json = content_type != Some(b"application/json") || json.is_some();
    assert!(is_json, "{what}: {status} says that it is JSON: {shown}");
    assert!(response.headers().contains_key("x-amzn-requestid"), "{what}");
    if status.is_success() {
        return;
    }
    let is_clients = status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED;
    assert!(is_clients, "{what}: {status} {shown}");
    assert!(TestHost::error_type(response).is_some(), "{what}: {status} {shown}");
    let message = json.as_ref().and_then(|json| json["message"].as_str());
    assert!(message.is_some_and(|message| !message.is_empty()), "{what}: {status} {shown}");
}

/// Puts the JSON text at the place into the body; the rest of the way is made.
fn with_member(base: &Map<String, Value>, place: &[&str], json: &str) -> String {
    let Some((first, rest)) = place.split_first() else { return json.to_owned() };
    let inner = |base: Option<&Value>| {
        let base = base.and_then(Value::as_object).cloned().unwrap_or_default();
        with_member(&base, rest, json)
    };
    match *first {
        "[]" => format!("[{}]", inner(None)),
        name => {
            let name = if name == "*" { "any" } else { name };
            let mut members: Vec<_> = base
                .iter()
                .filter(|(other, _)| *other != name)
                .map(|(other, value)| format!("{}: {value}", Value::String(other.clone())))
                .collect();
            members.push(format!("\"{name}\": {}", inner(base.get(name))));
            format!("{{{}}}", members.join(", "))
        }
    }
}

/// One of everything, so that handlers get further than "there is none".
async fn furnished() -> TestHost {
    let host = TestHost::new().await;
    host.ready.store(true, Ordering::Release);
    let lambda = "arn:aws:lambda:us-east-1:123456789012:function:console";
    let rule =
        json!({"sql": "SELECT * FROM 'a'", "actions": [{"lambda": {"functionArn": lambda}}]});
    for (target, body) in [
        ("/thing-types/Lamp", json!({})),
        ("/things/Lamp", json!({"thingTypeName": "Lamp", "attributePayload": {"attributes": {}}})),
        ("/thing-groups/Lamp", json!({})),
        ("/billing-groups/Lamp", json!({})),
        ("/policies/Lamp", json!({"policyDocument": POLICY})),
        ("/rules/Lamp", rule),
        (
            "/provisioning-templates",
            json!({"templateName": "Lamp", "templateBody": text(&good("templateBody")),
                "provisioningRoleArn": good("roleArn"), "enabled": true}),
        ),
        (
            "/authorizer/Lamp",
            json!({"authorizerFunctionArn": lambda.replace("console", "keeper"),
                "signingDisabled": true}),
        ),
        ("/role-aliases/Lamp", json!({"roleArn": good("roleArn")})),
        ("/domainConfigurations/Lamp", json!({"domainName": "lamp.example"})),
        ("/certificate/register-no-ca", json!({"certificatePem": DEVICE, "status": "ACTIVE"})),
    ] {
        host.iot("POST", target, &body.to_string()).await;
    }
    let object = host.call("gnomon", "PUT", "/objects/Lamp/Lamp/Lamp", "{}").await;
    assert_eq!(TestHost::error_type(&object), None);
    let shadow = host.call("iotdata", "POST", "/things/Lamp/shadow", r#"{"state": {}}"#).await;
    assert_eq!(TestHost::error_type(&shadow), None);
    host
}

/// All that this host has; what removes something comes last.
fn operations() -> Vec<(&'static str, &'static Operation)> {
    let mut all = Vec::new();
    for (service, scope) in
        [(Service::Iot, "iot"), (Service::IotData, "iotdata"), (Service::Gnomon, "gnomon")]
    {
        let has_handler =
            |name| service.handlers().iter().copied().flatten().any(|it| it.0 == name);
        let operations = service.operations().iter().filter(|it| has_handler(it.name));
        all.extend(operations.map(|operation| (scope, operation)));
    }
    all.sort_by_key(|(_, operation)| operation.method == Method::DELETE);
    all
}

/// Runs a check over all operations; the host is well afterwards.
async fn each(check: impl AsyncFn(Tried<'_>)) {
    let host = furnished().await;
    for (service, operation) in operations() {
        check(Tried { host: &host, service, operation }).await;
    }
    let made = host.call("iot", "POST", "/things/Canary", "").await;
    assert_eq!(TestHost::error_type(&made), None);
    let described = host.call("iot", "GET", "/things/Canary", "").await;
    assert_eq!(TestHost::json(&described)["thingName"], "Canary");
}

#[tokio::test]
async fn labels_are_names_or_refused() {
    each(async |tried| {
        for (name, _) in tried.labels() {
            for text in texts() {
                let path = tried.path(&[(name, &text)]);
                // No client can send a longer one.
                if path.len() < 65_000 {
                    tried.send(&path, &[], "").await;
                }
            }
            // No UTF-8, and over-long forms of a slash.
            for raw in ["%ff", "%c0%af", "%ed%a0%80", "%zz", "%"] {
                let path = tried.path(&[(name, "RAW")]).replace("RAW", raw);
                tried.send(&path, &[], "").await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn members_are_what_they_have_to_be_or_refused() {
    let values = values();
    let places = Cell::new(0);
    each(async |tried| {
        let (read, base) = tried.read().await;
        places.set(places.get() + read.members.len());
        for place in &read.members {
            for value in &values {
                let body = with_member(&base, place, value);
                tried.send(&tried.path(&[]), &[], body).await;
            }
        }
    })
    .await;
    // The probe works: without it nothing would have been tried.
    assert!(places.get() > 250, "{places:?}");
}

#[tokio::test]
async fn parameters_and_headers_are_what_they_have_to_be_or_refused() {
    each(async |tried| {
        let (read, base) = tried.read().await;
        let body = || Value::from(base.clone()).to_string();
        for name in &read.query {
            for text in texts() {
                let value = utf8_percent_encode(&text, crate::sigv4::ENCODED);
                let target = format!("{}?{name}={value}", tried.path(&[]));
                if target.len() < 65_000 {
                    tried.send(&target, &[], body()).await;
                }
            }
            for raw in ["%ff", "%", "a+b", "1&NAME=1", "&NAME", "0&NAME[]=1"] {
                let raw = raw.replace("NAME", name);
                tried.send(&format!("{}?{name}={raw}", tried.path(&[])), &[], body()).await;
            }
        }
        for name in &read.headers {
            let long = "x".repeat(9_000);
            let encoded = STANDARD.encode("{\"a\":");
            let values: [&[u8]; 8] = [
                b"",
                b" ",
                b"\xff",
                b"\xc3\xbc",
                b"../x",
                b"99999999999999999999",
                encoded.as_bytes(),
                long.as_bytes(),
            ];
            for value in values {
                tried.send(&tried.path(&[]), &[(name, value)], body()).await;
            }
            tried.send(&tried.path(&[]), &[(name, b"1"), (name, b"2")], body()).await;
        }
    })
    .await;
}

#[tokio::test]
async fn bodies_are_objects_or_refused() {
    let bodies = bodies();
    each(async |tried| {
        let (read, base) = tried.read().await;
        for body in &bodies {
            let response = tried.send(&tried.path(&[]), &[], body.clone()).await;
            let is_object = body.is_empty() || body.ends_with(b"}") && !body.contains(&b'x');
            if !read.members.is_empty() && !is_object {
                let status = response.status();
                let body = body[..body.len().min(50)].escape_ascii();
                assert!(!status.is_success(), "{} took {body}", tried.operation.name);
            }
        }
        if tried.service == "gnomon" {
            return;
        }
        // AWS ignores members that it does not know. Gnomon's own operations may name them.
        let mut more = base.clone();
        more.insert("unknownMember".to_owned(), json!({"a": [1]}));
        more.insert(String::new(), Value::Null);
        let response = tried.send(&tried.path(&[]), &[], Value::from(more).to_string()).await;
        let answer = String::from_utf8_lossy(response.body());
        let name = tried.operation.name;
        assert!(!answer.contains("unknown field"), "{name}: {answer}");
    })
    .await;
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_refused_by_every_operation() {
    let body = Bytes::from("x".repeat(1_024 * 1_024 + 1));
    each(async |tried| {
        let response = tried.send(&tried.path(&[]), &[], body.clone()).await;
        let refused = TestHost::error_type(&response);
        assert_eq!(refused, Some("RequestEntityTooLargeException"), "{}", tried.operation.name);
    })
    .await;
}

#[test]
fn labels_come_out_as_they_went_in() {
    let labels = |path: &str| -> Result<Labels, _> {
        let found = Router::new().find(Service::Iot, &Method::GET, path);
        found.map(|found| found.labels).map_err(|error| error.exception)
    };
    for (path, expected) in [
        ("/things/%2e%2e%2fetc", "../etc"),
        ("/things/%2E%2E", ".."),
        ("/things/a%00b", "a\0b"),
        ("/things/a%252Fb", "a%2Fb"),
        ("/things/%F0%9F%98%80", "\u{1f600}"),
    ] {
        assert_eq!(labels(path).unwrap(), [("thingName".to_owned(), expected.to_owned())]);
    }
}
