//! The authorizer as the host sees it.

use super::*;
use gnomon_sdk::mock::MockHost;
use gnomon_sdk::{Endpoint, Error, HttpInfo, MqttInfo, Protocol, Response, TlsInfo};
use serde_json::{Value, json};

const PASSWORD: &str = "a password";

fn plugin(more: &Value) -> Result<WebhookAuthorizer, String> {
    let mut config = json!({ "url": "https://auth.example/decide" });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    WebhookAuthorizer::new(serde_json::from_value(config).map_err(|e| e.to_string())?)
}

/// With a password only.
fn request() -> AuthRequest {
    AuthRequest {
        connection_id: "17".into(),
        peer: Endpoint { address: "192.0.2.1".into(), port: 40_000 },
        listener: "mqtt".into(),
        token: None,
        signature_verified: false,
        protocols: vec![Protocol::Mqtt],
        tls: None,
        http: None,
        mqtt: Some(MqttInfo { client_id: None, username: None, password: Some(PASSWORD.into()) }),
        attributes: Vec::new(),
    }
}

/// What the plugin makes of an answer of the webhook.
fn ask(answer: Result<Response, Error>) -> Result<AuthResponse, String> {
    MockHost::new().on_request(move |_| answer.clone());
    plugin(&json!({})).unwrap().authorize(&request())
}

fn answer(body: impl Into<Vec<u8>>) -> Response {
    Response { status: 200, headers: Vec::new(), body: body.into() }
}

fn decision() -> Value {
    json!({
        "isAuthenticated": true,
        "principalId": "lamp7",
        "policyDocuments": [],
    })
}

#[test]
fn the_webhook_is_asked_in_the_words_of_aws() {
    let host = MockHost::new();
    host.on_request(|_| Ok(answer(decision().to_string())));
    let more = json!({
        "credential": "auth",
        "timeout_ms": 500,
        "headers": { "X-Site": "north" },
    });
    let request = AuthRequest {
        token: Some("T".into()),
        signature_verified: true,
        protocols: vec![Protocol::Tls, Protocol::Http, Protocol::Mqtt],
        tls: Some(TlsInfo {
            server_name: Some("iot.example".into()),
            client_certificates: Vec::new(),
            verified: false,
        }),
        http: Some(HttpInfo {
            method: "GET".into(),
            path: "/mqtt".into(),
            query_string: "a=b".into(),
            headers: [("x-a", "1"), ("host", "iot.example"), ("x-a", "2")]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
        }),
        mqtt: Some(MqttInfo {
            client_id: Some("c".into()),
            username: Some("u?SDK=x".into()),
            password: Some(vec![0xff, 0]),
        }),
        ..request()
    };
    assert!(plugin(&more).unwrap().authorize(&request).unwrap().is_authenticated);
    let [sent] = &host.requests()[..] else { panic!("not one request") };
    assert_eq!((sent.method.as_str(), sent.url.as_str()), ("POST", "https://auth.example/decide"));
    assert_eq!((sent.credential.as_deref(), sent.timeout_ms), (Some("auth"), Some(500)));
    let headers = [("content-type", "application/json"), ("x-site", "north")];
    assert_eq!(sent.headers, headers.map(|(name, value)| (name.into(), value.into())));
    let expected = json!({
        "token": "T",
        "signatureVerified": true,
        "protocols": ["tls", "http", "mqtt"],
        "protocolData": {
            "tls": { "serverName": "iot.example" },
            "http": { "headers": { "host": "iot.example", "x-a": "1, 2" }, "queryString": "?a=b" },
            "mqtt": { "username": "u?SDK=x", "password": "/wA=", "clientId": "c" },
        },
        "connectionMetadata": { "id": "17" },
    });
    assert_eq!(serde_json::from_slice::<Value>(&sent.body).unwrap(), expected);
}

#[test]
fn what_a_client_does_not_present_is_left_out() {
    let host = MockHost::new();
    host.on_request(|_| Ok(answer(decision().to_string())));
    let more = json!({ "headers": { "Content-Type": "text/json" } });
    plugin(&more).unwrap().authorize(&AuthRequest { mqtt: None, ..request() }).unwrap();
    let sent = &host.requests()[0];
    assert_eq!(sent.headers, [("content-type".into(), "text/json".into())]);
    assert_eq!((sent.credential.as_deref(), sent.timeout_ms), (None, Some(3_000)));
    let expected = json!({
        "signatureVerified": false,
        "protocols": ["mqtt"],
        "protocolData": {},
        "connectionMetadata": { "id": "17" },
    });
    assert_eq!(serde_json::from_slice::<Value>(&sent.body).unwrap(), expected);
}

#[test]
fn the_answer_becomes_the_decision() {
    let document = json!({ "Version": "2012-10-17", "Statement": [] });
    let whole = json!({
        "isAuthenticated": true,
        "principalId": "lamp7",
        "policyDocuments": [document, document.to_string(), "{\"Version\": 1}"],
        "disconnectAfterInSeconds": 86_400,
        "refreshAfterInSeconds": 300,
        "context": { "ignored": null },
    });
    let response = ask(Ok(answer(whole.to_string()))).unwrap();
    assert!(response.is_authenticated);
    assert_eq!(response.principal_id, "lamp7");
    let text = document.to_string();
    assert_eq!(response.policy_documents, [text.as_str(), &text, "{\"Version\": 1}"]);
    assert_eq!(response.disconnect_after_seconds, 86_400);
    assert_eq!(response.refresh_after_seconds, 300);
    assert_eq!(response.attributes, []);
    let response = ask(Ok(answer(decision().to_string()))).unwrap();
    assert_eq!((response.disconnect_after_seconds, response.refresh_after_seconds), (0, 0));

    let no = json!({ "isAuthenticated": false, "principalId": 7, "policyDocuments": null });
    let response = ask(Ok(answer(no.to_string()))).unwrap();
    assert!(!response.is_authenticated);
    let reason = "the webhook does not let it in";
    assert_eq!(response.attributes, [("reason".into(), reason.into())]);
}

#[test]
fn a_member_of_another_type_refuses_the_client() {
    let (flag, id) = ("isAuthenticated", "principalId");
    let (documents, disconnect, refresh) =
        ("policyDocuments", "disconnectAfterInSeconds", "refreshAfterInSeconds");
    let seconds = "not a whole number from 300 to 86400";
    let cases = [
        (flag, json!("true"), "neither true nor false"),
        (flag, json!(1), "neither true nor false"),
        (flag, json!(null), "neither true nor false"),
        (id, json!(7), "not 1 to 128 of"),
        (id, json!(null), "not 1 to 128 of"),
        (id, json!(""), "not 1 to 128 of"),
        (id, json!("a-b"), "not 1 to 128 of"),
        (id, json!("a".repeat(129)), "not 1 to 128 of"),
        (documents, json!(null), "not a list of 10 at most"),
        (documents, json!({}), "not a list of 10 at most"),
        (documents, json!("{}"), "not a list of 10 at most"),
        (documents, json!(vec!["{}"; 11]), "not a list of 10 at most"),
        (documents, json!(["{}", 7]), "not a list of objects or texts"),
        (documents, json!([["{}"]]), "not a list of objects or texts"),
        (disconnect, json!("300"), seconds),
        (disconnect, json!(300.0), seconds),
        (disconnect, json!(-300), seconds),
        (disconnect, json!(0), seconds),
        (disconnect, json!(299), seconds),
        (refresh, json!(86_401), seconds),
        (refresh, json!(u64::MAX), seconds),
        (refresh, json!(1e300), seconds),
        (refresh, json!(null), seconds),
    ];
    for (member, value, expected) in cases {
        let mut changed = decision();
        changed[member] = value.clone();
        let reason = ask(Ok(answer(changed.to_string()))).unwrap_err();
        let text = format!("in the webhook's answer {member} is {expected}");
        assert!(reason.starts_with(&text), "{value}: {reason}");
    }
    for member in [flag, id, documents] {
        let mut changed = decision();
        changed.as_object_mut().unwrap().remove(member);
        assert!(ask(Ok(answer(changed.to_string()))).unwrap_err().contains(member));
    }
}

#[test]
fn what_is_no_answer_refuses_the_client() {
    let object = "the webhook's answer is not a JSON object";
    let status = |status| Ok(Response { status, ..answer(decision().to_string()) });
    let deep = format!("{}{}", "[".repeat(60_000), "{\"isAuthenticated\":".repeat(10));
    let cases = [
        (status(201), "the webhook answered with status 201"),
        (status(204), "status 204"),
        (status(302), "status 302"),
        (status(401), "status 401"),
        (status(500), "status 500"),
        (Ok(answer("")), object),
        (Ok(answer("null")), object),
        (Ok(answer("[]")), object),
        (Ok(answer("true")), object),
        (Ok(answer("{")), object),
        (Ok(answer("{} {}")), object),
        (Ok(answer(b"\xff\xfe{}".to_vec())), object),
        (Ok(answer(b"{\"isAuthenticated\":\xff}".to_vec())), object),
        (Ok(answer(PASSWORD)), object),
        (Ok(answer(deep)), object),
        (Ok(answer("{}")), "isAuthenticated"),
        (Ok(answer(" ".repeat(65_537))), "has 65537 bytes; at most 65536 are allowed"),
        (Err(Error::Timeout), "the webhook did not answer: no answer in time"),
        (Err(Error::Denied("add x".into())), "denied: add x"),
        (Err(Error::Unavailable("refused".into())), "unavailable: refused"),
        (Err(Error::TooLarge(1_048_576)), "too large"),
    ];
    for (answer, expected) in cases {
        let reason = ask(answer).unwrap_err();
        assert!(reason.contains(expected), "{reason:?} does not say {expected:?}");
        assert!(!reason.contains(PASSWORD), "{reason}");
    }
}

#[test]
fn any_bytes_are_refused_without_a_panic() {
    let mut whole = decision();
    whole["refreshAfterInSeconds"] = json!(300);
    let whole = whole.to_string().into_bytes();
    for at in 0..whole.len() {
        assert!(ask(Ok(answer(&whole[..at]))).is_err());
        for byte in [0, b'"', b'{', b']', b'-', b'\\', 0xff] {
            let mut changed = whole.clone();
            changed[at] = byte;
            let _ = ask(Ok(answer(changed)));
        }
    }
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    for (more, expected) in [
        (json!({ "url": "auth.example" }), "url must begin with https:// or http://"),
        (json!({ "url": "" }), "url must begin with"),
        (json!({ "url": 7 }), "invalid type"),
        (json!({ "timeout_ms": 0 }), "timeout_ms must be 1 to 5000"),
        (json!({ "timeout_ms": 5_001 }), "timeout_ms must be 1 to 5000"),
        (json!({ "header": {} }), "unknown field `header`"),
    ] {
        let error = plugin(&more).err().unwrap();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
}
