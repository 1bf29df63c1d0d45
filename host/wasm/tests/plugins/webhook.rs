//! The webhook plugin, end to end against a real HTTP server.

use crate::setup::{Host, Server, guest, invoke};
use gnomon_core::actions::Failure;
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
