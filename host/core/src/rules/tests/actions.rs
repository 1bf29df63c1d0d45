//! Actions: batches, tries, error actions, queues on disk, dead letters.

use super::*;

fn with(plugins: &[&str], error: Option<&str>) -> RuleDefinition {
    let plugin = |name: &&str| json!({"plugin": {"name": name, "params": {"of": name}}});
    RuleDefinition {
        actions: plugins.iter().map(plugin).collect(),
        error_action: error.as_ref().map(plugin),
        ..rule("SELECT * FROM 'a'")
    }
}

/// The failures that the error action was told of.
fn failures(calls: &[String]) -> Vec<(String, String, String)> {
    let told = calls.iter().filter_map(|call| call.split_once(' '));
    let parsed = told.filter_map(|(_, json)| serde_json::from_str::<serde_json::Value>(json).ok());
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    parsed
        .filter(|it| it.get("failures").is_some())
        .map(|it| {
            let failure = &it["failures"][0];
            let [a, b, c] = ["failedAction", "failedResource", "errorMessage"];
            (text(&failure[a]), text(&failure[b]), text(&failure[c]))
        })
        .collect()
}

fn failed(kind: &str, resource: &str, reason: &str) -> (String, String, String) {
    (kind.into(), resource.into(), reason.into())
}

#[tokio::test(start_paused = true)]
async fn every_action_gets_what_passed_in_order_and_in_batches() {
    let bench = Bench::new().await;
    bench.engine.create(name("all"), with(&["log", "other"], None)).await.unwrap();
    for n in 0..250 {
        bench.publish("a", &n.to_string());
    }
    bench.settle(1).await;
    for plugin in ["log", "other"] {
        assert_eq!(bench.sizes(plugin), [100, 100, 50]);
        let calls = bench.plugins.calls.lock().unwrap().clone();
        let got = calls.into_iter().filter(|it| it.plugin == plugin).flat_map(|it| it.payloads);
        assert!(got.eq((0..250).map(|n| n.to_string())));
    }
    assert_eq!(bench.ports.metrics.actions_succeeded.get(), 500);
    assert_eq!(bench.figures("all").waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn an_action_that_asks_for_it_is_called_in_parallel_and_each_client_keeps_its_order() {
    let bench = Bench::new().await;
    let action = json!({"plugin": {"name": "slow", "parallel": 4}});
    let rule = RuleDefinition { actions: vec![action], ..rule("SELECT * FROM 'a'") };
    bench.plugins.answer("slow", []);
    bench.engine.create(name("all"), rule).await.unwrap();
    let clients = 20;
    for n in 0..400 {
        let client_id = Some(ClientId::parse(&format!("c{}", n % clients)).unwrap());
        let publisher = Arc::new(Publisher { client_id, principal: None });
        let message = Message { publisher, ..bench.message("a", &n.to_string()) };
        bench.ports.broker.publish(&Arc::new(message), &mut Wakes::default());
    }
    // A call takes a second, and no call has more than 100 messages: one after the other it would
    // take four, and clients are not evenly among the four calls.
    bench.settle(3).await;
    let calls = bench.plugins.calls.lock().unwrap().clone();
    let got: Vec<u32> =
        calls.iter().flat_map(|it| &it.payloads).map(|it| it.parse().unwrap()).collect();
    assert_eq!(got.len(), 400);
    for client in 0..clients {
        assert!(got.iter().filter(|n| **n % clients == client).is_sorted(), "{client}");
    }
    assert!(!got.is_sorted());
    assert_eq!(bench.figures("all").waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_called_in_parallel_never_reaches_an_action_that_needs_the_order() {
    let bench = Bench::new().await;
    let with = |action| RuleDefinition { actions: vec![action], ..rule("SELECT * FROM 'a'") };
    bench.plugins.answer("log", (0..100).map(|_| away()));
    bench.plugins.answer("table", []);
    let parallel = with(json!({"plugin": {"name": "log", "parallel": 4}}));
    bench.engine.create(name("all"), parallel).await.unwrap();
    bench.publish("a", "1");
    bench.settle(1).await;
    let table = with(json!({"table": {"tableName": "t"}}));
    bench.engine.replace(name("all"), table).await.unwrap();
    bench.publish("a", "2");
    bench.settle(10).await;
    let calls = bench.plugins.calls.lock().unwrap().clone();
    let taken = calls.iter().filter(|it| it.plugin == "table").flat_map(|it| &it.payloads);
    assert_eq!(taken.collect::<Vec<_>>(), ["2"]);
    let figures = bench.figures("all");
    assert_eq!(figures.dead_letters, 1);
    assert!(figures.last_failure.unwrap().contains("needs its messages in order"));
    let all = name("all");
    let (replayed, ()) = tokio::join!(bench.engine.replay_dead_letters(&all), bench.settle(1));
    assert_eq!(replayed.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_action_is_told_which_rule_and_parameters() {
    let bench = Bench::new().await;
    bench.plugins.answer("log", [permanent("no")]);
    bench.engine.create(name("all"), with(&["log"], Some("other"))).await.unwrap();
    bench.publish("a", "1");
    bench.settle(1).await;
    let calls = bench.plugins.calls.lock().unwrap().clone();
    let told: Vec<_> = calls
        .iter()
        .map(|it| (it.context.action, it.context.is_error_action, it.context.params.to_string()))
        .collect();
    assert_eq!(
        told,
        [(0, false, r#"{"of":"log"}"#.to_owned()), (0, true, r#"{"of":"other"}"#.to_owned())]
    );
    let error: serde_json::Value = serde_json::from_str(&calls[1].payloads[0]).unwrap();
    let trace = error["cloudwatchTraceId"].as_str().unwrap();
    assert_eq!(trace.len(), 36);
    let expected = json!({
        "ruleName": "all",
        "topic": "a",
        "cloudwatchTraceId": trace,
        "clientId": "c1",
        "base64OriginalPayload": "MQ==",
        "failures": [{
            "failedAction": "PluginAction", "failedResource": "log", "errorMessage": "no",
        }],
    });
    assert_eq!(error, expected);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_away_gets_everything_when_it_is_back() {
    let bench = Bench::new().await;
    // 0.1 + 0.2 + 0.4 + ... + 12.8 s
    bench.plugins.answer("log", (0..8).map(|_| away()));
    bench.engine.create(name("all"), with(&["log"], Some("other"))).await.unwrap();
    for n in 0..3 {
        bench.publish("a", &n.to_string());
    }
    bench.settle(20).await;
    let figures = bench.figures("all");
    assert_eq!((figures.succeeded, figures.waiting), (0, 3));
    assert_eq!(figures.last_failure.as_deref(), Some("action 0: away"));
    bench.publish("a", "3");
    bench.settle(10).await;
    let figures = bench.figures("all");
    assert_eq!((figures.succeeded, figures.waiting, figures.retried), (4, 0, 24));
    assert_eq!(bench.sizes("other"), [0_usize; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_waited_too_long_goes_to_the_error_action() {
    let limits = Limits { action_retry_s: 60, ..Limits::default() };
    let bench = Bench::with(limits).await;
    bench.plugins.answer("log", (0..100).map(|_| away()));
    bench.engine.create(name("all"), with(&["log"], Some("other"))).await.unwrap();
    bench.publish("a", "1");
    bench.settle(90).await;
    assert_eq!(failures(&bench.calls().await), [failed("PluginAction", "log", "away")]);
    assert_eq!(bench.figures("all").waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_is_not_tried_again() {
    let bench = Bench::new().await;
    bench.plugins.answer("log", [permanent("no grant")]);
    bench.engine.create(name("all"), with(&["log"], Some("other"))).await.unwrap();
    bench.publish("a", "1");
    assert_eq!(failures(&bench.calls().await), [failed("PluginAction", "log", "no grant")]);
    let figures = bench.figures("all");
    assert_eq!((figures.failed, figures.retried, figures.succeeded), (1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_fails_beside_others_is_tried_five_times() {
    let bench = Bench::new().await;
    let failure =
        |index, retryable, reason: &str| Failure { index, retryable, reason: reason.into() };
    let first = Ok(vec![failure(0, true, "later"), failure(2, false, "never")]);
    bench.plugins.answer("log", [first]);
    bench.engine.create(name("all"), with(&["log"], Some("other"))).await.unwrap();
    for n in 0..3 {
        bench.publish("a", &n.to_string());
    }
    let calls = bench.calls().await;
    assert_eq!(failures(&calls), [failed("PluginAction", "log", "never")]);
    let figures = bench.figures("all");
    // Two of the action, and one of the error action.
    assert_eq!((figures.succeeded, figures.retried, figures.failed), (3, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_message_on_which_the_plugin_crashes_takes_no_other_with_it() {
    let bench = Bench::new().await;
    let crash = || Err(ActionError::Crashed("trap".into()));
    // The batch, then the first message alone until it is given up; the others succeed.
    bench.plugins.answer("log", (0..6).map(|_| crash()));
    bench.engine.create(name("all"), with(&["log"], Some("other"))).await.unwrap();
    for n in 0..3 {
        bench.publish("a", &n.to_string());
    }
    bench.settle(10).await;
    let calls = bench.calls().await;
    assert_eq!(failures(&calls), [failed("PluginAction", "log", "trap")]);
    assert_eq!(bench.figures("all").succeeded, 3);
}

#[tokio::test(start_paused = true)]
async fn a_failure_outside_the_batch_fails_the_batch() {
    let bench = Bench::new().await;
    bench
        .plugins
        .answer("log", [Ok(vec![Failure { index: 7, retryable: true, reason: "?".into() }])]);
    bench.engine.create(name("all"), with(&["log"], Some("other"))).await.unwrap();
    bench.publish("a", "1");
    let told = failures(&bench.calls().await);
    assert_eq!(told[0].2, "the plugin reported a failure of a message that is not in the batch");
}

#[tokio::test(start_paused = true)]
async fn a_failed_evaluation_reaches_the_error_action() {
    let bench = Bench::new().await;
    let definition = RuleDefinition {
        error_action: Some(json!({"plugin": {"name": "other"}})),
        ..rule("SELECT deep FROM 'a'")
    };
    bench.engine.create(name("sad"), definition).await.unwrap();
    bench.publish("a", &format!("{{\"deep\":{}{}}}", "[".repeat(100), "]".repeat(100)));
    let reason = "the payload is nested deeper than 64 levels";
    assert_eq!(failures(&bench.calls().await), [failed("RuleEvaluation", "sad", reason)]);
    assert_eq!(bench.ports.metrics.rules_failed.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_is_missing_is_waited_for() {
    let bench = Bench::new().await;
    bench.engine.create(name("all"), with(&["log"], Some("other"))).await.unwrap();
    let unloaded = bench.plugins.answers.lock().unwrap().remove("log").unwrap();
    bench.publish("a", "1");
    assert_eq!(bench.calls().await, [""; 0]);
    let figures = bench.figures("all");
    assert_eq!(figures.last_failure.as_deref(), Some("action 0: no plugin log is loaded"));
    bench.plugins.answers.lock().unwrap().insert("log".into(), unloaded);
    bench.settle(10).await;
    assert_eq!(bench.calls().await, ["all 1"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_survives_a_crash_and_comes_at_least_once() {
    let mut bench = Bench::new().await;
    bench.plugins.answer("log", (0..1_000).map(|_| away()));
    bench.engine.create(name("all"), with(&["log"], None)).await.unwrap();
    for round in 0..5 {
        for n in 0..500 {
            bench.publish("a", &format!("{round}/{n}"));
        }
        bench.settle(1).await;
        bench = bench.crash().await;
        assert_eq!(bench.figures("all").waiting, 500 * (round + 1));
    }
    bench.plugins.answers.lock().unwrap().insert("log".into(), VecDeque::new());
    bench.plugins.calls.lock().unwrap().clear();
    bench.settle(40).await;
    let calls = bench.calls().await;
    let expected = (0..5).flat_map(|round| (0..500).map(move |n| format!("all {round}/{n}")));
    assert!(calls.into_iter().eq(expected), "in order, once each when nothing crashes");
    assert_eq!(bench.figures("all").waiting, 0);
    // Nothing is left on the disk.
    let bench = bench.crash().await;
    assert_eq!(bench.figures("all").waiting, 0);
    assert_eq!(bench.calls().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_message_keeps_its_position_when_it_comes_again() {
    let mut bench = Bench::new().await;
    bench.plugins.answer("log", (0..1_000).map(|_| away()));
    bench.engine.create(name("all"), with(&["log"], None)).await.unwrap();
    for _ in 0..2 {
        bench.publish("a", "x");
        bench.publish("a", "y");
        bench.settle(1).await;
        bench = bench.crash().await;
    }
    bench.plugins.answers.lock().unwrap().insert("log".into(), VecDeque::new());
    bench.settle(40).await;
    bench.publish("a", "z");
    bench.settle(1).await;
    let calls = bench.plugins.calls.lock().unwrap().clone();
    assert!(calls.iter().all(|call| &*call.context.lane == "rule/all/0"));
    let positions = |call: &Call| call.context.positions.clone();
    let first: [_; 2] = positions(&calls[0]).try_into().unwrap();
    assert!(first[0] < first[1]);
    let [taken, last] = calls.last_chunk().unwrap();
    let taken: [_; 4] = positions(taken).try_into().unwrap();
    assert_eq!(taken[..2], first);
    assert!(taken.is_sorted_by(|a, b| a < b) && taken[3] < positions(last)[0]);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_is_answered_when_what_its_message_causes_is_on_disk() {
    let bench = Bench::new().await;
    bench.engine.create(name("all"), with(&["log"], None)).await.unwrap();
    let publish = |topic| {
        let message = Message { qos: QoS::AtLeastOnce, ..bench.message(topic, "1") };
        bench.ports.broker.publish(&Arc::new(message), &mut Wakes::default()).durability
    };
    let Durability::At(position) = publish("a") else { panic!("not durable") };
    assert!(bench.ports.broker.log().committed() < position);
    bench.commit();
    assert!(bench.ports.broker.log().committed() >= position);
    assert_eq!(publish("b"), Durability::Done);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_fails_the_newest_message_at_once() {
    let limits = Limits { action_queue_messages: 10, ..Limits::default() };
    let bench = Bench::with(limits).await;
    bench.plugins.answer("log", (0..100).map(|_| away()));
    bench.engine.create(name("all"), with(&["log"], Some("other"))).await.unwrap();
    for n in 0..12 {
        bench.publish("a", &n.to_string());
    }
    bench.settle(1).await;
    let full = failed("PluginAction", "log", "the queue of the action is full");
    let calls = bench.calls().await;
    assert_eq!(failures(&calls), [full.clone(), full]);
    assert_eq!(bench.figures("all").waiting, 10);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_takes_is_a_dead_letter_that_can_be_replayed() {
    let bench = Bench::new().await;
    bench.plugins.answer("log", [permanent("no table"), permanent("no table")]);
    bench.engine.create(name("all"), with(&["log"], None)).await.unwrap();
    bench.publish("a", "1");
    bench.settle(1).await;
    bench.publish("a", "2");
    bench.settle(1).await;
    let all = name("all");
    // Pages come from the committer, which the test runs.
    let letters = bench.engine.dead_letters(&all, None, 10);
    let (letters, ()) = tokio::join!(letters, bench.settle(1));
    let letters = letters.unwrap();
    let shown: Vec<_> = letters
        .iter()
        .map(|it| format!("{} {} {:?}", it.part, it.reason, it.result.as_deref().unwrap()))
        .collect();
    assert_eq!(shown, ["action 0 no table [49]", "action 0 no table [50]"]);
    let next = bench.engine.dead_letters(&all, Some(&letters[0].id), 1);
    let (next, ()) = tokio::join!(next, bench.settle(1));
    assert_eq!(next.unwrap()[0].id, letters[1].id);
    let bench = bench.crash().await;
    assert_eq!(bench.figures("all").dead_letters, 2);
    bench.plugins.calls.lock().unwrap().clear();
    let (replayed, ()) = tokio::join!(bench.engine.replay_dead_letters(&all), bench.settle(1));
    assert_eq!(replayed.unwrap(), 2);
    assert_eq!(bench.calls().await, ["all 1", "all 2"]);
    assert_eq!(bench.figures("all").dead_letters, 0);
    assert!(bench.engine.dead_letters(&all, Some("x"), 1).await.is_err());
    bench.plugins.answer("log", [permanent("again")]);
    bench.publish("a", "3");
    bench.settle(1).await;
    let (deleted, ()) = tokio::join!(bench.engine.delete_dead_letters(&all), bench.settle(1));
    assert_eq!(deleted.unwrap(), 1);
    assert_eq!(bench.figures("all").dead_letters, 0);
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_fails_again_is_replayed_once() {
    let bench = Bench::new().await;
    bench.plugins.answer("log", (0..100).map(|_| permanent("no")));
    bench.engine.create(name("all"), with(&["log"], None)).await.unwrap();
    bench.publish("a", "1");
    bench.settle(1).await;
    bench.publish("a", "2");
    bench.settle(1).await;
    let all = name("all");
    let (replayed, ()) = tokio::join!(bench.engine.replay_dead_letters(&all), bench.settle(5));
    assert_eq!(replayed.unwrap(), 2);
    assert_eq!(bench.sizes("log").len(), 4);
    assert_eq!(bench.figures("all").dead_letters, 2);
}

#[tokio::test(start_paused = true)]
async fn a_letter_whose_action_is_gone_stays_and_holds_up_no_other() {
    let bench = Bench::new().await;
    bench.plugins.answer("log", [permanent("no")]);
    bench.plugins.answer("other", [permanent("no")]);
    bench.engine.create(name("all"), with(&["log", "other"], None)).await.unwrap();
    bench.publish("a", "1");
    bench.settle(1).await;
    bench.engine.replace(name("all"), with(&["log"], None)).await.unwrap();
    bench.plugins.calls.lock().unwrap().clear();
    let all = name("all");
    for taken in [1, 0] {
        let (replayed, ()) = tokio::join!(bench.engine.replay_dead_letters(&all), bench.settle(1));
        let told = replayed.unwrap_err().to_string();
        let expected = format!(
            "{taken} dead letters are tried again, 1 stay: the rule has no action 1 any more"
        );
        assert_eq!(told, expected);
        assert_eq!(bench.figures("all").dead_letters, 1);
    }
    assert_eq!(bench.calls().await, ["all 1"]);
    let bench = bench.crash().await;
    assert_eq!(bench.figures("all").dead_letters, 1);
    let (deleted, ()) = tokio::join!(bench.engine.delete_dead_letters(&all), bench.settle(1));
    assert_eq!(deleted.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_action_that_is_away_has_its_own_time() {
    let bench = Bench::with(Limits { action_retry_s: 5, ..Limits::default() }).await;
    bench.plugins.answer("log", (0..1_000).map(|_| away()));
    bench.plugins.answer("other", [away(), away()]);
    bench.engine.create(name("all"), with(&["log"], Some("other"))).await.unwrap();
    bench.publish("a", "1");
    bench.settle(15).await;
    assert_eq!(bench.figures("all").dead_letters, 0);
    assert_eq!(bench.sizes("other").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_error_action_that_fails_leaves_a_dead_letter() {
    let bench = Bench::new().await;
    bench.plugins.answer("log", [permanent("no")]);
    bench.plugins.answer("other", [permanent("nor here")]);
    bench.engine.create(name("all"), with(&["log"], Some("other"))).await.unwrap();
    bench.publish("a", "1");
    bench.settle(1).await;
    assert_eq!(bench.sizes("other"), [1]);
    assert_eq!(bench.figures("all").dead_letters, 1);
    assert_eq!(bench.figures("all").last_failure.as_deref(), Some("error action: nor here"));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_bounded_and_what_is_lost_is_counted() {
    let bench = Bench::with(Limits { dead_letters: 2, ..Limits::default() }).await;
    bench.plugins.answer("log", (0..3).map(|_| permanent("no")));
    bench.engine.create(name("all"), with(&["log"], None)).await.unwrap();
    for _ in 0..3 {
        bench.publish("a", "1");
        bench.settle(1).await;
    }
    assert_eq!(bench.figures("all").dead_letters, 2);
    assert_eq!(bench.ports.metrics.dead_letters_lost.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_rule_goes_on_with_what_waited() {
    let bench = Bench::new().await;
    bench.plugins.answer("log", (0..100).map(|_| away()));
    bench.engine.create(name("all"), with(&["log", "log"], Some("other"))).await.unwrap();
    bench.publish("a", "1");
    bench.settle(1).await;
    // The second action is gone, the first is another one now.
    bench.engine.replace(name("all"), with(&["other"], Some("other"))).await.unwrap();
    bench.plugins.calls.lock().unwrap().clear();
    bench.settle(5).await;
    let calls = bench.calls().await;
    assert!(calls.contains(&"all 1".to_owned()), "{calls:?}");
    let gone = "the rule has no such action any more";
    assert_eq!(failures(&calls), [failed("RemovedAction", "all", gone)]);
    assert_eq!(bench.figures("all").waiting, 0);
}

#[tokio::test]
async fn a_rule_that_is_replaced_under_load_takes_every_message() {
    let bench = Bench::new().await;
    bench.engine.create(name("all"), with(&["log"], None)).await.unwrap();
    let messages: Vec<_> =
        (0..5_000).map(|n| Arc::new(bench.message("a", &n.to_string()))).collect();
    let broker = bench.ports.broker.clone();
    let publisher = std::thread::spawn(move || {
        let mut wakes = Wakes::default();
        let receivers = messages.iter().map(|it| broker.publish(it, &mut wakes).receivers);
        receivers.min()
    });
    let mut replaced = 0;
    while !publisher.is_finished() {
        let change: RuleDefinition = match replaced % 3 {
            0 => with(&["log", "other"], None),
            1 => RuleDefinition { description: Some("new".into()), ..with(&["log"], None) },
            // Another filter: the subscription changes too.
            _ => RuleDefinition { sql: "SELECT * FROM '+'".into(), ..with(&["log"], None) },
        };
        bench.engine.replace(name("all"), change).await.unwrap();
        bench.commit();
        replaced += 1;
    }
    assert!(publisher.join().unwrap() >= Some(1) && replaced > 3, "{replaced}");
    bench.settle(2).await;
    let calls = bench.plugins.calls.lock().unwrap().clone();
    let taken = calls.iter().filter(|it| it.plugin == "log").flat_map(|it| &it.payloads);
    let taken: std::collections::BTreeSet<u32> = taken.map(|it| it.parse().unwrap()).collect();
    assert!(taken.into_iter().eq(0..5_000));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_rule_leaves_nothing_behind() {
    let bench = Bench::new().await;
    bench.plugins.answer("log", (0..100).map(|_| away()));
    bench.engine.create(name("all"), with(&["log"], None)).await.unwrap();
    for n in 0..50 {
        bench.publish("a", &n.to_string());
        bench.settle(1).await;
    }
    bench.engine.delete(name("all")).await.unwrap();
    bench.settle(2).await;
    let bench = bench.crash().await;
    bench.engine.create(name("all"), with(&["other"], None)).await.unwrap();
    bench.plugins.calls.lock().unwrap().clear();
    assert_eq!(bench.calls().await, [""; 0]);
    assert_eq!(bench.figures("all").waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_beyond_memory_is_read_from_the_disk() {
    let bench = Bench::new().await;
    bench.plugins.answer("log", (0..3).map(|_| away()));
    bench.engine.create(name("all"), with(&["log"], None)).await.unwrap();
    let payload = "x".repeat(100_000);
    for n in 0..100 {
        bench.publish("a", &format!("{n} {payload}"));
        bench.commit();
    }
    bench.settle(10).await;
    let calls = bench.calls().await;
    let numbers = calls.iter().map(|call| call.split(' ').nth(1).unwrap().to_owned());
    let mut last = Vec::new();
    for number in numbers {
        if last.last() != Some(&number) {
            last.push(number);
        }
    }
    // The first ones were tried again.
    let tail: Vec<_> = last.iter().skip_while(|it| *it != "99").collect();
    assert_eq!(tail, ["99"]);
    assert_eq!(bench.figures("all").succeeded, 100);
}

#[tokio::test(start_paused = true)]
async fn messages_that_cannot_be_read_from_the_disk_are_asked_for_again() {
    let bench = Bench::new().await;
    bench.engine.create(name("all"), with(&["hung"], None)).await.unwrap();
    bench.publish("a", "1");
    bench.settle(1).await;
    let bench = bench.crash().await;
    bench.plugins.calls.lock().unwrap().clear();
    bench.reads.fail_next([Some(Fault::Refused), Some(Fault::Refused)]);
    bench.settle(9).await;
    assert_eq!(bench.sizes("hung"), [0; 0]);
    bench.settle(5).await;
    assert_eq!(bench.sizes("hung"), [1]);
}

#[tokio::test(start_paused = true)]
async fn shutdown_leaves_what_waits_for_the_next_start() {
    let bench = Bench::new().await;
    bench.plugins.answer("log", [away()]);
    bench.engine.create(name("all"), with(&["log"], None)).await.unwrap();
    bench.publish("a", "1");
    bench.commit();
    tokio::time::sleep(Duration::from_millis(10)).await;
    bench.engine.shutdown(Duration::from_secs(5)).await;
    assert_eq!(bench.publish("a", "late"), 0);
    let refused = bench.engine.create(name("new"), rule(HOT)).await;
    assert!(matches!(refused, Err(RuleError::Stopped)), "{refused:?}");
    bench.plugins.calls.lock().unwrap().clear();
    assert_eq!(bench.crash().await.calls().await, ["all 1"]);
}
