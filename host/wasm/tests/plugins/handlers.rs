//! Each handler through its port: rule action, authorizer, HTTP handler.

use crate::setup::{Host, Server, guest, invoke, plugin_name};
use bytes::Bytes;
use gnomon_core::actions::Failure;
use gnomon_core::adapter::HttpRequest;
use gnomon_core::auth::{AuthorizerRequest, Credentials};
use gnomon_core::ids::ClientId;
use gnomon_core::rules::sql::Datum;
use serde_json::json;

#[tokio::test]
async fn an_action_gets_the_message_its_parameters_and_its_config() {
    let Some(host) = Host::probe("", json!({ "config": { "refuse": null } })).await else { return };
    let action = host.action("probe");
    let failures = invoke(&*action, json!({ "do": "report" }), &["{\"temp\":31}"]);
    let reason = "plugin probe: {\"temp\":31} 1 1700000000000 {\"refuse\":null}".into();
    assert_eq!(failures.await, Ok(vec![Failure { index: 0, retryable: false, reason }]));
}

#[tokio::test]
async fn parameters_that_do_not_parse_fail_for_good() {
    let Some(host) = Host::probe("", json!({})).await else { return };
    let failures = invoke(&*host.action("probe"), json!({ "do": "dance" }), &["1", "2"]).await;
    let failures = failures.unwrap();
    assert_eq!(
        failures.iter().map(|f| (f.index, f.retryable)).collect::<Vec<_>>(),
        [(0, false), (1, false)]
    );
    assert!(failures[0].reason.contains("action parameters: unknown variant `dance`"));
}

#[tokio::test]
async fn calls_wait_for_an_instance_and_share_it() {
    let Some(host) = Host::probe("", json!({})).await else { return };
    let orders = (0..50).map(|_| host.order("probe", json!({ "do": "report" })));
    let answers = futures_util::future::join_all(orders).await;
    let mut calls: Vec<u32> = answers
        .into_iter()
        .map(|answer| answer.unwrap().split(' ').nth(1).unwrap().parse().unwrap())
        .collect();
    calls.sort_unstable();
    assert_eq!(calls, (1..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_queue_fails_at_once() {
    if guest("probe").is_none() {
        return;
    }
    let server = Server::start("").await;
    let config = json!({
        "limits": { "queue": 1, "wall_ms": 200 },
        "grants": { "http": [server.origin] },
    });
    let host = Host::probe("http = 'operator'", config).await.unwrap();
    // The first call waits for its server, the second for the instance.
    let order = || json!({ "do": "send", "url": format!("{}/", server.origin) });
    let orders = (0..3).map(|_| host.order("probe", order()));
    let answers = futures_util::future::join_all(orders).await;
    let texts: Vec<_> = answers.into_iter().map(|answer| answer.unwrap_err().to_string()).collect();
    assert_eq!(texts[0], "plugin probe: did not finish within 200 ms");
    assert_eq!(texts[2], "plugin probe is busy: 1 calls wait");
}

fn request(username: Option<&str>, password: &'static str) -> AuthorizerRequest {
    AuthorizerRequest {
        credentials: Credentials {
            connection_id: 1,
            peer: "192.0.2.1:1883".parse().unwrap(),
            listener: "mqtt".into(),
            anonymous_policy: None,
            server_name: None,
            certificate: None,
            http: None,
            client_id: Some(ClientId::parse("lamp").unwrap()),
            username: username.map(Into::into),
            password: Some(Bytes::from_static(password.as_bytes())),
            has_will: false,
            is_persistent: false,
        },
        token: None,
        signature_verified: false,
    }
}

#[tokio::test]
async fn an_authorizer_decides_and_whatever_goes_wrong_refuses() {
    let Some(host) = Host::probe("", json!({})).await else { return };
    let authorizer = host.plugins.authorizer(&plugin_name("probe")).unwrap();
    let answer = authorizer.authorize(&request(Some("ada"), "right")).await.unwrap();
    assert!(answer.is_authenticated);
    assert_eq!((answer.principal_id.as_str(), answer.disconnect_after_s), ("ada", 60));
    assert_eq!(answer.policy_documents, ["{}"]);
    let attributes = [("peer", "192.0.2.1:1883"), ("client", "lamp")];
    assert_eq!(answer.attributes, attributes.map(|(k, v)| (k.into(), v.into())));
    let answer = authorizer.authorize(&request(Some("ada"), "wrong")).await.unwrap();
    assert!(!answer.is_authenticated);
    for (username, expected) in [
        (None, "plugin probe: no user name"),
        (Some("panic"), "plugin probe: wasm trap"),
        (Some("spin"), "plugin probe: used more than 50 ms of CPU time in one call"),
    ] {
        let error = authorizer.authorize(&request(username, "right")).await.unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    assert!(authorizer.authorize(&request(Some("ada"), "right")).await.is_ok());
}

async fn http(host: &Host, path: &str) -> (u16, String) {
    let request = HttpRequest {
        listener: "probe".into(),
        peer: "192.0.2.1:4711".parse().unwrap(),
        client_certificate: None,
        server_name: None,
        http: http::Request::post(path).body(Bytes::from_static(b"hello")).unwrap(),
    };
    let handler = host.plugins.http_handler(&plugin_name("probe")).unwrap();
    let response = handler.handle(request).await;
    let status = response.status().as_u16();
    assert_eq!(response.headers().get("x-probe").is_some(), status == 201);
    (status, String::from_utf8(response.into_body().into()).unwrap())
}

#[tokio::test]
async fn an_http_handler_answers_and_keeps_its_state() {
    let Some(host) = Host::probe("", json!({})).await else { return };
    assert_eq!(http(&host, "/a?b=c").await, (201, "POST /a b=c hello 1".into()));
    assert_eq!(http(&host, "/a").await, (201, "POST /a  hello 2".into()));
    // What went wrong is in the log; the client learns no detail.
    assert_eq!(http(&host, "/error").await, (500, "the adapter failed\n".into()));
    assert_eq!(http(&host, "/malformed").await, (500, "the adapter failed\n".into()));
    assert_eq!(http(&host, "/panic").await, (503, "the adapter cannot answer now\n".into()));
    assert_eq!(http(&host, "/spin").await, (503, "the adapter cannot answer now\n".into()));
    assert_eq!(http(&host, "/a").await, (201, "POST /a  hello 1".into()));
}

#[tokio::test]
async fn a_plugin_is_found_by_name_and_by_what_it_handles() {
    let Some(host) = Host::probe("", json!({})).await else { return };
    assert!(host.plugins.action(&plugin_name("other")).is_none());
    let status = host.plugins.list();
    assert_eq!(status[0].handlers, ["rule-action", "authorizer", "http-handler"]);
    assert_eq!(status[0].version, "0.1.0");
}

async fn functions() -> Option<Host> {
    let path = guest("functions")?;
    Some(Host::load(&[("functions", path.parent().unwrap(), json!({}))]).await.unwrap())
}

#[tokio::test]
async fn a_function_takes_and_gives_every_kind_of_value() {
    let Some(host) = functions().await else { return };
    let functions = host.plugins.function("FIRST").unwrap();
    for value in [
        Datum::Undefined,
        Datum::Json(r#"{"a":[1,null,"é"]}"#.into()),
        Datum::Json("-0.5".into()),
        Datum::Bytes(Bytes::from_static(b"\xff\0")),
    ] {
        let got = functions.call("First", std::slice::from_ref(&value)).await;
        assert_eq!(got, Ok(value));
    }
    assert_eq!(functions.call("first", &[]).await, Ok(Datum::Undefined));
    assert_eq!(functions.call("refuse", &[]).await, Err("plugin functions: no".into()));
    let error = functions.call("other", &[]).await.unwrap_err();
    assert_eq!(error, "plugin functions has no function other");
}

#[tokio::test]
async fn a_function_that_crashes_fails_its_call_and_no_other() {
    let Some(host) = functions().await else { return };
    let functions = host.plugins.function("first").unwrap();
    for (name, expected) in [
        ("crash", "plugin functions: wasm trap: wasm `unreachable` instruction executed"),
        ("spin", "plugin functions: used more than 50 ms of CPU time in one call"),
    ] {
        let error = functions.call(name, &[]).await.unwrap_err();
        assert_eq!(error, expected);
        let seven = Datum::Json("7".into());
        assert_eq!(functions.call("first", std::slice::from_ref(&seven)).await, Ok(seven));
    }
    assert!(functions.call("swell", &[]).await.is_err());
}
