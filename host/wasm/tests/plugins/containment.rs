//! A plugin that misbehaves loses its instance and nothing else.

use crate::setup::{Host, Server, guest, listening, probe_folder};
use gnomon_core::actions::ActionError;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[track_caller]
fn assert_crashed(outcome: Result<String, ActionError>, expected: &str) {
    match outcome {
        Err(ActionError::Crashed(text)) => assert_says(&text, expected),
        other => panic!("expected {expected:?}, got {other:?}"),
    }
}

/// The plugin waited for somebody: it is not the message.
#[track_caller]
fn assert_away(outcome: Result<String, ActionError>, expected: &str) {
    match outcome {
        Err(ActionError::Retryable(text)) => assert_says(&text, expected),
        other => panic!("expected {expected:?}, got {other:?}"),
    }
}

#[track_caller]
fn assert_says(text: &str, expected: &str) {
    assert!(text.starts_with("plugin probe: ") && text.contains(expected), "{text}");
}

/// The order costs one instance; the next call and the other plugin work.
async fn check(order: Value, limits: Value, expected: &str) {
    let Some(folder) = probe_folder("publish = 'operator'\nhttp = 'operator'") else { return };
    let config = listening(json!({
        "limits": limits,
        "grants": { "publish": ["#"], "http": ["http://127.0.0.1:1"] },
    }));
    let plugins = [("probe", folder.path(), config.clone()), ("other", folder.path(), config)];
    let host = Host::load(&plugins).await.unwrap();
    assert!(host.order("other", json!({ "do": "report" })).await.unwrap().starts_with("payload 1"));
    assert_crashed(host.order("probe", order).await, expected);
    assert_eq!(host.metrics.plugin_traps.get(), 1);
    // A new instance: it has not been called before. The other plugin's instance lives on.
    assert!(host.order("probe", json!({ "do": "report" })).await.unwrap().starts_with("payload 1"));
    assert!(host.order("other", json!({ "do": "report" })).await.unwrap().starts_with("payload 2"));
    let status = host.plugins.list();
    assert_eq!((status[1].name.as_str(), status[1].crashes, status[0].crashes), ("probe", 1, 0));
    assert!(status[1].last_crash.as_ref().unwrap().contains(expected));
}

#[tokio::test]
async fn a_panic_costs_the_instance() {
    check(json!({ "do": "panic" }), json!({}), "`unreachable` instruction executed").await;
}

#[tokio::test]
async fn an_endless_loop_ends_at_the_deadline() {
    check(json!({ "do": "spin" }), json!({}), "used more than 100 ms of CPU time").await;
}

#[tokio::test]
async fn a_memory_bomb_ends_at_the_limit() {
    check(json!({ "do": "allocate" }), json!({}), "its limit is 16777216").await;
}

#[tokio::test]
async fn endless_recursion_ends_at_the_stack() {
    check(json!({ "do": "recurse" }), json!({}), "call stack exhausted").await;
}

#[tokio::test]
async fn a_result_that_is_too_large_is_not_taken() {
    check(json!({ "do": "huge-result" }), json!({}), "hostcall").await;
}

#[tokio::test]
async fn an_argument_that_is_too_large_is_not_taken() {
    let order = json!({ "do": "publish", "topic": "a", "bytes": 2 * 1_024 * 1_024 });
    check(order, json!({}), "hostcall").await;
}

#[tokio::test]
async fn a_call_that_waits_too_long_ends_at_the_wall_deadline() {
    if guest("probe").is_none() {
        return;
    }
    let server = Server::start("").await;
    let config = json!({ "limits": { "wall_ms": 200 }, "grants": { "http": [server.origin] } });
    let host = Host::probe("http = 'operator'", config).await.unwrap();
    let order = json!({ "do": "send", "url": format!("{}/", server.origin) });
    assert_away(host.order("probe", order).await, "did not finish within 200 ms");
    assert!(host.order("probe", json!({ "do": "report" })).await.is_ok());
}

#[tokio::test]
async fn waiting_in_a_host_call_is_not_cpu_time() {
    if guest("probe").is_none() {
        return;
    }
    let server = Server::start("").await;
    let config = json!({
        "limits": { "wall_ms": 300, "cpu_ms": 20 },
        "grants": { "http": [server.origin] },
    });
    let host = Host::probe("http = 'operator'", config).await.unwrap();
    let order = json!({ "do": "send", "url": format!("{}/", server.origin) });
    assert_away(host.order("probe", order).await, "did not finish within 300 ms");
}

#[tokio::test]
async fn a_busy_guest_leaves_room_for_other_tasks() {
    let Some(host) = Host::probe("", json!({ "limits": { "cpu_ms": 200 } })).await else { return };
    let turns = Arc::new(AtomicU32::new(0));
    let mut others = tokio::task::JoinSet::new();
    let counted = turns.clone();
    others.spawn(async move {
        loop {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    // This runtime has one thread: what is counted ran between two slices of the guest.
    assert_crashed(host.order("probe", json!({ "do": "spin" })).await, "200 ms of CPU time");
    assert!(turns.load(Ordering::Relaxed) >= 10, "{turns:?}");
}

#[tokio::test]
async fn a_dropped_call_costs_the_instance_only() {
    let Some(host) = Host::probe("", json!({})).await else { return };
    let spin = host.order("probe", json!({ "do": "spin" }));
    assert!(tokio::time::timeout(Duration::from_millis(20), spin).await.is_err());
    assert!(host.order("probe", json!({ "do": "report" })).await.unwrap().starts_with("payload 1"));
}

#[tokio::test]
async fn repeated_crashes_pause_the_plugin() {
    let Some(host) = Host::probe("", json!({})).await else { return };
    for _ in 0..3 {
        assert_crashed(host.order("probe", json!({ "do": "panic" })).await, "unreachable");
    }
    let paused = host.order("probe", json!({ "do": "report" })).await.unwrap_err().to_string();
    assert!(paused.starts_with("plugin probe is paused for 1000 ms after 3 crashes"), "{paused}");
    assert_eq!(host.plugins.list()[0].paused_for, Some(Duration::from_secs(1)));
    host.clock.advance(Duration::from_secs(1));
    assert!(host.order("probe", json!({ "do": "report" })).await.is_ok());
    assert_eq!(host.plugins.list()[0].paused_for, None);
}

#[tokio::test]
async fn an_answer_about_a_message_that_was_not_there_is_refused() {
    let Some(host) = Host::probe("", json!({})).await else { return };
    let error = host.order("probe", json!({ "do": "wrong-index" })).await.unwrap_err();
    assert_eq!(error, ActionError::Permanent("plugin probe: reports message 7 of 1".into()));
}

#[tokio::test]
async fn an_error_is_no_crash() {
    let Some(host) = Host::probe("", json!({})).await else { return };
    let error = host.order("probe", json!({ "do": "fail", "text": "no" })).await.unwrap_err();
    assert_eq!(error, ActionError::Retryable("plugin probe: no".into()));
    assert_eq!(host.metrics.plugin_traps.get(), 0);
    assert!(host.order("probe", json!({ "do": "report" })).await.unwrap().starts_with("payload 2"));
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_and_the_call_goes_on() {
    let Some(host) = Host::probe("", json!({})).await else { return };
    let answer = host.order("probe", json!({ "do": "log", "lines": 10_000 })).await;
    assert_eq!(answer.unwrap(), "logged");
}

#[tokio::test]
async fn a_stopped_plugin_refuses_calls() {
    let Some(host) = Host::probe("", json!({})).await else { return };
    let action = host.action("probe");
    host.plugins.shutdown().await;
    let error = crate::setup::invoke(&*action, json!({ "do": "report" }), &["x"]).await;
    assert_eq!(error, Err(ActionError::Retryable("plugin probe is stopped".into())));
}
