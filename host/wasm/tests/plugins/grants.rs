//! Nothing is allowed that was not asked for and granted.

use crate::setup::{Host, Server, guest};
use gnomon_core::ids::Principal;
use serde_json::{Value, json};

async fn check_denied(asks: &str, grants: Value, order: Value, expected: &str) {
    let Some(host) = Host::probe(asks, json!({ "grants": grants })).await else { return };
    let answer = host.order("probe", order).await.unwrap();
    assert_eq!(answer, format!("denied: plugin probe {expected}"));
    assert_eq!(host.metrics.plugin_denied.get(), 1);
    assert!(host.published.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_call_without_a_grant_is_denied_with_the_line_that_grants_it() {
    check_denied(
        "",
        json!({}),
        json!({ "do": "publish", "topic": "a/b", "bytes": 1 }),
        "was not granted `publish` \"a/b\"; to allow it, its plugin.toml has to ask for it in \
         [asks], and [plugins.probe.grants] in the configuration to say publish = [\"a/b\"]",
    )
    .await;
    check_denied(
        "http = ['https://a.example']",
        json!({ "http": ["https://a.example", "https://b.example"] }),
        json!({ "do": "send", "url": "https://b.example/x" }),
        "was not granted `http` \"https://b.example\"; to allow it, its plugin.toml has to ask \
         for it in [asks], and [plugins.probe.grants] in the configuration to say http = \
         [\"https://b.example\"]",
    )
    .await;
    check_denied(
        "",
        json!({}),
        json!({ "do": "secret", "name": "key" }),
        "was not granted `secrets` key; to allow it, its plugin.toml has to ask for it in [asks], \
         and [plugins.probe.grants] in the configuration to say secrets.key = { file = \"…\" }",
    )
    .await;
}

#[tokio::test]
async fn a_granted_publication_is_the_plugins_own() {
    let grants = json!({ "grants": { "publish": ["a/#"] } });
    let Some(host) = Host::probe("publish = ['a/+']", grants).await else { return };
    let order = |bytes| json!({ "do": "publish", "topic": "a/b", "bytes": bytes });
    assert_eq!(host.order("probe", order(3)).await.unwrap(), "published");
    let published = host.published.0.lock().unwrap().clone();
    assert_eq!(published[0].topic.as_str(), "a/b");
    assert_eq!(&published[0].payload[..], b"xxx");
    assert_eq!(published[0].publisher.principal, Some(Principal::new("plugin/probe")));
    assert_eq!(published[0].received_at.as_millis(), 1_700_000_000_000);
    let properties = published[0].properties.as_ref().unwrap();
    assert_eq!(properties.content_type.as_deref(), Some("text/x"));
    // The broker's own limit comes back as an error, not as a crash.
    let answer = host.order("probe", order(1_001)).await.unwrap();
    assert_eq!(answer, "too large: at most 1000 bytes are allowed");
    let answer = host.order("probe", json!({ "do": "publish", "topic": "a/+", "bytes": 1 })).await;
    assert!(answer.unwrap().starts_with("invalid: topic name has the wildcard"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    if guest("probe").is_none() {
        return;
    }
    let server = Server::start(
        "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 4\r\n\r\nmove",
    )
    .await;
    let grants = json!({ "grants": { "http": [server.origin] } });
    let host = Host::probe("http = 'operator'", grants).await.unwrap();
    let order = json!({ "do": "send", "url": format!("{}/x", server.origin) });
    assert_eq!(host.order("probe", order).await.unwrap(), "302 move");
    assert_eq!(server.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_credential_is_added_by_the_host_and_a_secret_is_read_by_name() {
    if guest("probe").is_none() {
        return;
    }
    let server = Server::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let config = json!({ "grants": {
        "http": [server.origin],
        "credentials": { "hook": { "file": file, "origins": [server.origin] } },
        "secrets": { "key": { "file": file } },
    } });
    let asks = "http = 'operator'\ncredentials = ['hook']\nsecrets = ['key']";
    let host = Host::probe(asks, config).await.unwrap();
    let url = format!("{}/x", server.origin);
    let order = json!({ "do": "send", "url": url, "credential": "hook" });
    assert_eq!(host.order("probe", order).await.unwrap(), "200 ok");
    let request = server.requests.lock().unwrap()[0].clone();
    assert!(request.contains("\r\nauthorization: Bearer s3cret\r\n"), "{request}");
    let answer = host.order("probe", json!({ "do": "secret", "name": "key" })).await;
    assert_eq!(answer.unwrap(), "s3cret");
}
