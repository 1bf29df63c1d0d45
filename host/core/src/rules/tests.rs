//! The engine on a broker and a store in memory, with an action that writes down what it gets.

use super::*;
use crate::actions::{Action, ActionContext, ActionError, Failure};
use crate::broker::Wakes;
use crate::ids::PluginName;
use crate::message::Message;
use crate::random::SeededRandom;
use crate::storage::{Fault, FaultyStore, MemoryStore};
use crate::time::ManualClock;
use crate::topic::TopicName;
use async_trait::async_trait;
use serde_json::json;

/// The only plugins are `log`, `broken` and `hung`; all remember what they got.
#[derive(Default)]
struct Plugins(Arc<Mutex<Vec<(String, String)>>>);

struct Log {
    plugin: String,
    calls: Arc<Mutex<Vec<(String, String)>>>,
}

impl Actions for Plugins {
    fn find(&self, plugin: &PluginName) -> Option<Arc<dyn Action>> {
        let known = ["log", "broken", "hung"].contains(&plugin.as_str());
        let log = Log { plugin: plugin.to_string(), calls: self.0.clone() };
        known.then(|| Arc::new(log) as Arc<dyn Action>)
    }
}

#[async_trait]
impl Action for Log {
    async fn invoke(
        &self,
        context: &ActionContext,
        messages: &[Arc<Message>],
    ) -> Result<Vec<Failure>, ActionError> {
        for message in messages {
            let payload = String::from_utf8(message.payload.to_vec()).unwrap();
            self.calls.lock().unwrap().push((context.rule.to_string(), payload));
        }
        match self.plugin.as_str() {
            "broken" => Err(ActionError::Permanent("broken".into())),
            "hung" => std::future::pending().await,
            _ => Ok(vec![]),
        }
    }
}

struct Bench {
    plugins: Arc<Plugins>,
    store: Arc<FaultyStore>,
    ports: Ports,
    engine: Engine,
}

impl Bench {
    async fn new() -> Self {
        let plugins = Arc::new(Plugins::default());
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::default())));
        let ports = Ports {
            storage: store.clone(),
            broker: Broker::in_memory(),
            actions: plugins.clone(),
            clock: Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000))),
            random: Arc::new(SeededRandom::new(1)),
            metrics: Arc::new(Metrics::default()),
            limits: Limits { rules: 3, ..Limits::default() },
        };
        let engine = Engine::start(ports.clone()).await.unwrap();
        Self { plugins, store, ports, engine }
    }

    /// Another host on the same store.
    async fn restart(self) -> Self {
        self.engine.shutdown(Duration::from_secs(5)).await;
        let engine = Engine::start(self.ports.clone()).await.unwrap();
        Self { engine, ..self }
    }

    fn publish(&self, topic: &str, payload: &str) -> usize {
        let topic = TopicName::parse(topic).unwrap();
        let now = self.ports.clock.wall();
        let message = Message::new(topic, payload.to_owned(), Arc::default(), now);
        self.ports.broker.publish(&Arc::new(message), &mut Wakes::default()).receivers
    }

    /// What the actions got, as `rule payload`, once nothing is left to do.
    async fn calls(&self) -> Vec<String> {
        // Virtual time passes only when every task waits.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let calls = std::mem::take(&mut *self.plugins.0.lock().unwrap());
        calls.into_iter().map(|(rule, payload)| format!("{rule} {payload}")).collect()
    }
}

fn name(text: &str) -> RuleName {
    RuleName::parse(text).unwrap()
}

fn rule(sql: &str) -> RuleDefinition {
    RuleDefinition {
        sql: sql.to_owned(),
        actions: vec![json!({"plugin": {"name": "log"}})],
        ..RuleDefinition::default()
    }
}

const HOT: &str = "SELECT * FROM 'sensor/temp' WHERE temp > 30";

#[tokio::test(start_paused = true)]
async fn a_rule_fires_on_what_passes_where() {
    let bench = Bench::new().await;
    bench.engine.create(name("hot"), rule(HOT)).await.unwrap();
    for (topic, payload) in [
        ("sensor/temp", r#"{"temp": 31}"#),
        ("sensor/temp", r#"{"temp": 30}"#),
        ("sensor/temp", "no json"),
        ("sensor/other", r#"{"temp": 50}"#),
        ("sensor/temp", r#"{"temp": 32}"#),
    ] {
        bench.publish(topic, payload);
    }
    assert_eq!(bench.calls().await, [r#"hot {"temp": 31}"#, r#"hot {"temp": 32}"#]);
    let figures = bench.engine.figures(&name("hot")).unwrap();
    assert_eq!(figures, Figures { matched: 4, dropped: 0, passed: 2, failed: 0 });
    assert_eq!(bench.ports.metrics.rules_matched.get(), 4);
    assert_eq!(bench.ports.metrics.rules_passed.get(), 2);
    assert_eq!(bench.ports.metrics.actions_succeeded.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rule_is_found_as_it_was_created() {
    let bench = Bench::new().await;
    let definition = RuleDefinition { description: Some("d".into()), ..rule(HOT) };
    bench.engine.create(name("hot"), definition.clone()).await.unwrap();
    bench.engine.create(name("all"), rule("SELECT * FROM '#'")).await.unwrap();
    let found = bench.engine.get(&name("hot")).unwrap();
    assert_eq!(found.definition, definition);
    assert_eq!(found.created_at, Timestamp::from_millis(1_700_000_000_000));
    assert_eq!(found.filter.as_ref().map(TopicFilter::as_str), Some("sensor/temp"));
    let names: Vec<_> = bench.engine.list().iter().map(|rule| rule.name.to_string()).collect();
    assert_eq!(names, ["all", "hot"]);
}

#[tokio::test(start_paused = true)]
async fn rules_survive_a_restart() {
    let bench = Bench::new().await;
    bench.engine.create(name("hot"), rule(HOT)).await.unwrap();
    let off = RuleDefinition { disabled: true, ..rule("SELECT * FROM '#'") };
    bench.engine.create(name("off"), off).await.unwrap();
    let before = bench.engine.list();
    let bench = bench.restart().await;
    assert_eq!(bench.engine.list(), before);
    bench.publish("sensor/temp", r#"{"temp":31}"#);
    assert_eq!(bench.calls().await, [r#"hot {"temp":31}"#]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_is_disabled_enabled_replaced_and_deleted() {
    let bench = Bench::new().await;
    let hot = name("hot");
    bench.engine.create(hot.clone(), rule("SELECT * FROM 'a'")).await.unwrap();
    bench.engine.disable(hot.clone()).await.unwrap();
    assert!(bench.engine.get(&hot).unwrap().definition.disabled);
    assert_eq!(bench.publish("a", "1"), 0);
    bench.engine.enable(hot.clone()).await.unwrap();
    assert_eq!(bench.publish("a", "2"), 1);
    bench.engine.replace(hot.clone(), rule("SELECT * FROM 'b'")).await.unwrap();
    assert_eq!((bench.publish("a", "3"), bench.publish("b", "4")), (0, 1));
    bench.engine.delete(hot.clone()).await.unwrap();
    assert_eq!(bench.publish("b", "5"), 0);
    assert_eq!(bench.calls().await, ["hot 2", "hot 4"]);
    assert!(matches!(bench.engine.get(&hot), Err(RuleError::NotFound(_))));
    assert!(bench.restart().await.engine.list().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_is_refused_with_its_reason() {
    let bench = Bench::new().await;
    let create = |text, definition| bench.engine.create(name(text), definition);
    create("hot", rule(HOT)).await.unwrap();
    let with = |action| RuleDefinition { actions: vec![action], ..rule(HOT) };
    let missing = "no plugin nope is loaded that is a rule action";
    let eleven = vec![json!({"plugin": {"name": "log"}}); 11];
    let long = RuleDefinition { description: Some("x".repeat(300_000)), ..rule(HOT) };
    for (definition, expected) in [
        (
            rule("SELECT * FROM 'a' WHERE"),
            "line 1, column 24: expected a value, a name or a function, found the end of the statement",
        ),
        (with(json!({"plugin": {"name": "nope"}})), missing),
        (with(json!({"lambda": {"functionArn": "arn:aws:lambda:r:1:function:nope"}})), missing),
        (with(json!({"s3": {}})), "action type s3 is not supported; supported are lambda, plugin"),
        (
            RuleDefinition { error_action: Some(json!({"plugin": {"name": "nope"}})), ..rule(HOT) },
            missing,
        ),
        (RuleDefinition { actions: eleven, ..rule(HOT) }, "11 actions; at most 10 are allowed"),
        (long, "the definition has more than 262144 bytes"),
    ] {
        let error = create("bad", definition.clone()).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        let error = bench.engine.replace(name("hot"), definition).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    assert!(matches!(create("hot", rule(HOT)).await, Err(RuleError::AlreadyExists(_))));
    create("b", rule(HOT)).await.unwrap();
    create("c", rule(HOT)).await.unwrap();
    assert!(matches!(create("d", rule(HOT)).await, Err(RuleError::LimitExceeded(3))));
    let missing = name("missing");
    for result in [
        bench.engine.replace(missing.clone(), rule(HOT)).await,
        bench.engine.enable(missing.clone()).await,
        bench.engine.disable(missing.clone()).await,
        bench.engine.delete(missing).await,
    ] {
        assert!(matches!(result, Err(RuleError::NotFound(_))), "{result:?}");
    }
    assert_eq!(bench.engine.get(&name("hot")).unwrap().definition, rule(HOT));
}

#[tokio::test(start_paused = true)]
async fn a_hash_stands_for_at_least_one_level() {
    let bench = Bench::new().await;
    bench.engine.create(name("below"), rule("SELECT * FROM '+/temp/#'")).await.unwrap();
    for topic in ["a/temp", "a/temp/1", "a/temp/1/2", "b/temp/"] {
        bench.publish(topic, topic);
    }
    let expected = ["below a/temp/1", "below a/temp/1/2", "below b/temp/"];
    assert_eq!(bench.calls().await, expected);
    assert_eq!(bench.engine.figures(&name("below")).unwrap().matched, 3);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_cannot_follow_drops_the_newest_and_counts_them() {
    let bench = Bench::new().await;
    bench.engine.create(name("all"), rule("SELECT * FROM 'a'")).await.unwrap();
    // The rule's task does not get to run in between.
    for n in 0..QUEUE_MESSAGES_MAX + 5 {
        bench.publish("a", &n.to_string());
    }
    let calls = bench.calls().await;
    assert_eq!(calls.len(), QUEUE_MESSAGES_MAX);
    assert_eq!(calls.last().map(String::as_str), Some("all 999"));
    let figures = bench.engine.figures(&name("all")).unwrap();
    assert_eq!(figures, Figures { matched: 1_005, dropped: 5, passed: 1_000, failed: 0 });
    assert_eq!(bench.ports.metrics.rules_dropped.get(), 5);
}

#[tokio::test(start_paused = true)]
async fn failures_of_evaluation_and_actions_reach_the_error_action() {
    let bench = Bench::new().await;
    let error_action = Some(json!({"plugin": {"name": "log"}}));
    let actions = vec![json!({"plugin": {"name": "broken"}})];
    let sql = "SELECT deep FROM 'a'";
    let definition = RuleDefinition { error_action, actions, ..rule(sql) };
    bench.engine.create(name("sad"), definition).await.unwrap();
    let deep = format!("{{\"deep\":{}{}}}", "[".repeat(100), "]".repeat(100));
    bench.publish("a", &deep);
    bench.publish("a", r#"{"deep":1}"#);
    let calls = bench.calls().await.join("\n");
    assert!(calls.contains(r#""errorMessage":"the payload is nested deeper than 64 levels","failedAction":"RuleEvaluation","failedResource":"sad""#), "{calls}");
    assert!(
        calls.contains(
            r#""errorMessage":"broken","failedAction":"PluginAction","failedResource":"broken""#
        ),
        "{calls}"
    );
    let figures = bench.engine.figures(&name("sad")).unwrap();
    assert_eq!(figures, Figures { matched: 2, dropped: 0, passed: 1, failed: 2 });
    assert_eq!(bench.ports.metrics.rules_failed.get(), 1);
    assert_eq!(bench.ports.metrics.actions_failed.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_does_what_was_taken_and_takes_no_more() {
    let bench = Bench::new().await;
    bench.engine.create(name("all"), rule("SELECT * FROM 'a'")).await.unwrap();
    for n in 0..500 {
        bench.publish("a", &n.to_string());
    }
    bench.engine.shutdown(Duration::from_secs(5)).await;
    assert_eq!(bench.plugins.0.lock().unwrap().len(), 500);
    assert_eq!(bench.publish("a", "late"), 0);
    let refused = bench.engine.create(name("new"), rule(HOT)).await;
    assert!(matches!(refused, Err(RuleError::Stopped)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn shutdown_gives_up_at_its_deadline() {
    let bench = Bench::new().await;
    let actions = vec![json!({"plugin": {"name": "hung"}})];
    bench
        .engine
        .create(name("all"), RuleDefinition { actions, ..rule("SELECT * FROM 'a'") })
        .await
        .unwrap();
    bench.publish("a", "1");
    assert_eq!(bench.calls().await, ["all 1"]);
    let start = tokio::time::Instant::now();
    bench.engine.shutdown(Duration::from_secs(5)).await;
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_was_not_written_does_not_run() {
    let bench = Bench::new().await;
    bench.store.fail_next([Some(Fault::Refused)]);
    let refused = bench.engine.create(name("all"), rule("SELECT * FROM 'a'")).await;
    assert!(matches!(refused, Err(RuleError::Store(_))), "{refused:?}");
    assert_eq!(bench.publish("a", "1"), 0);
    bench.engine.create(name("all"), rule("SELECT * FROM 'a'")).await.unwrap();
    bench.store.fail_next([Some(Fault::Refused)]);
    assert!(bench.engine.delete(name("all")).await.is_err());
    assert_eq!(bench.publish("a", "2"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_is_seen() {
    let bench = Bench::new().await;
    bench.store.fail_next([Some(Fault::AnswerLost)]);
    assert!(bench.engine.create(name("all"), rule("SELECT * FROM 'a'")).await.is_err());
    assert_eq!(bench.publish("a", "1"), 1);
    bench.store.fail_next([Some(Fault::AnswerLost)]);
    assert!(bench.engine.delete(name("all")).await.is_err());
    assert_eq!(bench.publish("a", "2"), 0);
    assert!(matches!(bench.engine.get(&name("all")), Err(RuleError::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn a_change_is_finished_though_its_caller_went_away() {
    let bench = Bench::new().await;
    let create = bench.engine.create(name("all"), rule("SELECT * FROM 'a'"));
    drop(poll_once(create).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.publish("a", "1"), 1);
}

/// Polls once and gives the future back, unfinished.
async fn poll_once<F: Future>(future: F) -> std::pin::Pin<Box<F>> {
    let mut future = Box::pin(future);
    std::future::poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    future
}

#[tokio::test(start_paused = true)]
async fn a_stored_rule_that_cannot_run_is_kept_and_a_damaged_one_stops_the_start() {
    let bench = Bench::new().await;
    let definition = rule("SELECT * FROM 'a' AND SO ON");
    let stored = StoredRule { definition, created_at: Timestamp::default() };
    let value = record::encode(&stored);
    bench.store.put(&record::key(&name("odd")), value, Expect::Absent).await.unwrap();
    let bench = bench.restart().await;
    assert_eq!(bench.engine.list().len(), 1);
    bench.engine.replace(name("odd"), rule("SELECT * FROM 'a'")).await.unwrap();
    assert_eq!(bench.publish("a", "1"), 1);

    let damaged = record::key(&name("bad"));
    bench.store.put(&damaged, "\u{1}{".into(), Expect::Absent).await.unwrap();
    let error = Engine::start(bench.ports.clone()).await.err().unwrap().to_string();
    assert!(error.starts_with(r#"cannot read the record "rule/bad": EOF"#), "{error}");
}
