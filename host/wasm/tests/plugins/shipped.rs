//! The plugins that come with Gnomon, as components in a host with its default limits.

use crate::setup::{Host, Server, guest, invoke, listening, plugin_name};
use bytes::Bytes;
use gnomon_core::actions::Failure;
use gnomon_core::adapter::HttpRequest;
use gnomon_core::auth::{AuthorizerRequest, Credentials};
use gnomon_core::rules::sql::Datum;
use serde_json::json;

async fn load(origin: &str) -> Option<Host> {
    let path = guest("webhook")?;
    let config = json!({ "grants": { "http": [origin] } });
    Some(Host::load(&[("webhook", path.parent().unwrap(), config)]).await.unwrap())
}

#[tokio::test]
async fn a_message_is_posted_to_the_granted_url() {
    let server = Server::start("HTTP/1.1 204 No Content\r\n\r\n").await;
    let Some(host) = load(&server.origin).await else { return };
    let params = json!({ "url": format!("{}/hook", server.origin) });
    let failures = invoke(&*host.action("webhook"), params, &["{\"temp\":31}"]).await.unwrap();
    assert_eq!(failures, []);
    let request = server.requests.lock().unwrap()[0].clone();
    assert!(request.starts_with("POST /hook HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\ncontent-type: application/json\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n{\"temp\":31}"), "{request}");
}

#[tokio::test]
async fn a_template_in_a_url_adds_no_header() {
    let server = Server::start("HTTP/1.1 204 No Content\r\n\r\n").await;
    let Some(host) = load(&server.origin).await else { return };
    for evil in ["\r\nx-evil: 1", " HTTP/1.1\r\nx-evil: 1\r\n\r\n", "\0"] {
        let params = json!({ "url": format!("{}/{evil}", server.origin) });
        let failures = invoke(&*host.action("webhook"), params, &["1"]).await.unwrap();
        assert!(!failures[0].retryable, "{failures:?}");
    }
    assert!(server.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_target_that_is_away_may_be_tried_again_and_another_origin_may_not() {
    // Nobody listens on port 1.
    let Some(host) = load("http://127.0.0.1:1").await else { return };
    let action = host.action("webhook");
    let away = invoke(&*action, json!({ "url": "http://127.0.0.1:1/" }), &["1"]).await.unwrap();
    assert!(away[0].retryable, "{away:?}");
    assert!(away[0].reason.starts_with("plugin webhook: unavailable: "), "{away:?}");
    let other = invoke(&*action, json!({ "url": "http://127.0.0.1:2/" }), &["1"]).await.unwrap();
    let Failure { retryable, reason, .. } = &other[0];
    assert!(!retryable && reason.contains("say http = [\"http://127.0.0.1:2\"]"), "{reason}");
}

#[tokio::test]
async fn http_ingest_publishes_what_its_grant_covers() {
    let Some(path) = guest("http-ingest") else { return };
    let config = json!({ "grants": { "publish": ["site/#"] }, "config": { "anonymous": true } });
    let folder = path.parent().unwrap();
    let host = Host::load(&[("ingest", folder, listening(config))]).await.unwrap();
    let handler = host.plugins.http_handler(&plugin_name("ingest")).unwrap();
    let post = |path: &str| HttpRequest {
        listener: "ingest".into(),
        peer: "192.0.2.1:4711".parse().unwrap(),
        client_certificate: None,
        server_name: None,
        http: http::Request::post(path).body(Bytes::from_static(b"21.5")).unwrap(),
    };
    assert_eq!(handler.handle(post("/ingest/site/temp?qos=1")).await.status(), 200);
    assert_eq!(handler.handle(post("/ingest/other/temp")).await.status(), 403);
    let published = host.published.0.lock().unwrap();
    let topics: Vec<_> = published.iter().map(|message| message.topic.as_str()).collect();
    assert_eq!(topics, ["site/temp"]);
    assert_eq!(&published[0].payload[..], b"21.5");
    assert_eq!(host.metrics.plugin_denied.get(), 1);
}

#[tokio::test]
async fn jwt_authorizer_checks_an_rsa_signature_within_its_deadline() {
    let Some(path) = guest("jwt-authorizer") else { return };
    // Made with openssl: `sub` lamp7, `exp` ten minutes after the test's clock.
    let token = include_str!("../data/rs256.jwt");
    let config = json!({ "config": {
        "keys": [{ "alg": "RS256", "key": include_str!("../data/rs256.pub.pem") }],
        "policies": [{ "Version": "2012-10-17", "Statement": [] }],
    } });
    let host = Host::load(&[("jwt", path.parent().unwrap(), config)]).await.unwrap();
    let authorizer = host.plugins.authorizer(&plugin_name("jwt")).unwrap();
    let request = |token: &str| AuthorizerRequest {
        credentials: Credentials {
            connection_id: 1,
            peer: "192.0.2.1:1883".parse().unwrap(),
            listener: "mqtt".into(),
            anonymous_policy: None,
            server_name: None,
            certificate: None,
            http: None,
            client_id: None,
            username: None,
            password: Some(token.to_owned().into()),
            has_will: false,
            is_persistent: false,
        },
        token: None,
        signature_verified: false,
    };
    let answer = authorizer.authorize(&request(token)).await.unwrap();
    assert!(answer.is_authenticated, "{answer:?}");
    assert_eq!(answer.principal_id, "lamp7");
    // One changed character in the signature.
    let (head, tail) = token.split_at(token.len() - 20);
    let changed = if tail.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{head}{changed}{}", &tail[1..]);
    let answer = authorizer.authorize(&request(&forged)).await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| !answer.is_authenticated));
    assert_eq!(host.metrics.plugin_traps.get(), 0);
}

#[tokio::test]
async fn rules_can_ask_for_distances_and_areas() {
    let Some(path) = guest("geo") else { return };
    let folder = path.parent().unwrap();
    let config = json!({ "config": { "areas": { "depot": [[0, 0], [2, 0], [2, 2], [0, 2]] } } });
    let host = Host::load(&[("geo", folder, config.clone())]).await.unwrap();
    let geo = host.plugins.functions(&plugin_name("geo")).unwrap();
    let json = |text: &str| Datum::Json(text.into());
    let depot = [json("1"), json("1"), json("\"depot\"")];
    assert_eq!(geo.call("geo_within", &depot).await, Ok(json("true")));
    let nowhere = [json("1"), json("1"), Datum::Undefined];
    assert_eq!(geo.call("geo_within", &nowhere).await, Ok(Datum::Undefined));
    // A function has one plugin.
    let twice = [("geo", folder, config.clone()), ("geo2", folder, config)];
    let error = Host::load(&twice).await.err().unwrap().to_string();
    assert_eq!(error, "plugin geo2: declares a function geo_distance, as plugin geo does");
}
