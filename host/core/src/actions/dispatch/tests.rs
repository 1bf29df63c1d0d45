//! The dispatcher against scripted actions, in virtual time.

use super::*;
use crate::actions::{Action, Failure};
use crate::ids::{ClientId, PluginName};
use crate::message::Publisher;
use crate::random::SeededRandom;
use crate::time::{SystemClock, Timestamp};
use crate::topic::TopicName;
use async_trait::async_trait;
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::Semaphore;

type Answer = Result<Vec<Failure>, ActionError>;

/// Answers calls as told, then with success; remembers them.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<Answer>>,
    /// Payloads of each call, and what it was told.
    calls: Mutex<Vec<(Vec<String>, ActionContext)>>,
    /// With a gate, a call needs a permit.
    gate: Option<Semaphore>,
}

#[async_trait]
impl Action for Scripted {
    async fn invoke(&self, context: &ActionContext, messages: &[Arc<Message>]) -> Answer {
        let payload = |m: &Arc<Message>| String::from_utf8(m.payload.to_vec()).unwrap();
        let payloads = messages.iter().map(payload).collect();
        self.calls.lock().unwrap().push((payloads, context.clone()));
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        self.answers.lock().unwrap().pop_front().unwrap_or(Ok(vec![]))
    }
}

impl Scripted {
    fn answering(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.into_iter().collect()), ..Self::default() })
    }

    fn payloads(&self) -> Vec<Vec<String>> {
        self.calls.lock().unwrap().iter().map(|(payloads, _)| payloads.clone()).collect()
    }

    /// The failures that the error action was told of, one list per message.
    fn failures(&self) -> Vec<serde_json::Value> {
        let parse = |text: &String| serde_json::from_str::<serde_json::Value>(text).unwrap();
        self.payloads().iter().flatten().map(|text| parse(text)["failures"].clone()).collect()
    }
}

#[derive(Default)]
struct Loaded(Mutex<BTreeMap<String, Arc<Scripted>>>);

impl Actions for Loaded {
    fn find(&self, plugin: &PluginName) -> Option<Arc<dyn Action>> {
        self.0.lock().unwrap().get(plugin.as_str()).map(|action| action.clone() as _)
    }
}

struct Bench {
    loaded: Arc<Loaded>,
    metrics: Arc<Metrics>,
    failed: Arc<Counter>,
    dispatcher: Option<Dispatcher>,
    tasks: JoinSet<()>,
}

impl Bench {
    fn new(actions: &[(&str, &Arc<Scripted>)], error_action: Option<&Arc<Scripted>>) -> Self {
        let loaded = Arc::new(Loaded::default());
        let metrics = Arc::new(Metrics::default());
        let failed = Arc::new(Counter::default());
        let ports = Ports {
            actions: loaded.clone(),
            clock: Arc::new(SystemClock),
            random: Arc::new(SeededRandom::new(1)),
            metrics: metrics.clone(),
        };
        let load = |name: &str, action: &Arc<Scripted>| {
            loaded.0.lock().unwrap().insert(name.to_owned(), action.clone());
            let json = serde_json::json!({"plugin": {"name": name, "params": {"of": name}}});
            ActionDefinition::parse(&json).unwrap()
        };
        let definitions = actions.iter().map(|(name, action)| load(name, action)).collect();
        let error_action = error_action.map(|action| load("errors", action));
        let name = RuleName::parse("hot").unwrap();
        let mut tasks = JoinSet::new();
        let dispatcher = Some(Dispatcher::start(
            name,
            definitions,
            error_action,
            ports,
            failed.clone(),
            &mut tasks,
        ));
        Self { loaded, metrics, failed, dispatcher, tasks }
    }

    fn dispatch(&self, result: &str) {
        let publisher =
            Publisher { client_id: Some(ClientId::parse("c1").unwrap()), principal: None };
        let topic = TopicName::parse("sensor/temp").unwrap();
        let original = Message::new(topic, "raw", Arc::new(publisher), Timestamp::default());
        let result = Bytes::copy_from_slice(result.as_bytes());
        self.dispatcher.as_ref().expect("it runs").dispatch(&Arc::new(original), result);
    }

    /// Lets everything that waits be done; with virtual time.
    async fn drain(&mut self) {
        self.dispatcher = None;
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }

    /// succeeded, retried, failed
    fn counts(&self) -> (u64, u64, u64) {
        let Metrics { actions_succeeded, actions_retried, actions_failed, .. } = &*self.metrics;
        assert_eq!(actions_failed.get(), self.failed.get());
        (actions_succeeded.get(), actions_retried.get(), actions_failed.get())
    }
}

fn retryable(reason: &str) -> Answer {
    Err(ActionError::Retryable(reason.into()))
}

fn permanent(reason: &str) -> Answer {
    Err(ActionError::Permanent(reason.into()))
}

fn failed(action: &str, reason: &str) -> serde_json::Value {
    failure("PluginAction", action, reason)
}

#[tokio::test(start_paused = true)]
async fn results_reach_every_action_in_order_and_in_batches() {
    let (one, two) = (Scripted::answering([]), Scripted::answering([]));
    let mut bench = Bench::new(&[("one", &one), ("two", &two)], None);
    for n in 0..250 {
        bench.dispatch(&n.to_string());
    }
    bench.drain().await;
    for action in [one, two] {
        let sizes: Vec<_> = action.payloads().iter().map(Vec::len).collect();
        assert_eq!(sizes, [100, 100, 50]);
        let expected: Vec<_> = (0..250).map(|n| n.to_string()).collect();
        assert_eq!(action.payloads().concat(), expected);
    }
    assert_eq!(bench.counts(), (500, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_action_is_told_which_rule_and_parameters() {
    let (action, errors) = (Scripted::answering([permanent("no")]), Scripted::answering([]));
    let mut bench = Bench::new(&[("one", &action)], Some(&errors));
    bench.dispatch("1");
    bench.drain().await;
    let (_, context) = &action.calls.lock().unwrap()[0];
    assert_eq!(context.rule.as_str(), "hot");
    assert_eq!((context.action, context.is_error_action), (0, false));
    assert_eq!(&*context.params, r#"{"of":"one"}"#);
    let (_, context) = &errors.calls.lock().unwrap()[0];
    assert!(context.is_error_action);
    assert_eq!(&*context.params, r#"{"of":"errors"}"#);
}

#[tokio::test(start_paused = true)]
async fn a_retryable_failure_is_tried_again_with_growing_pauses() {
    let action = Scripted::answering((0..4).map(|_| retryable("away")));
    let mut bench = Bench::new(&[("one", &action)], None);
    let start = tokio::time::Instant::now();
    bench.dispatch("1");
    bench.drain().await;
    assert_eq!(start.elapsed(), Duration::from_millis(100 + 200 + 400 + 800));
    assert_eq!(action.payloads().len(), 5);
    assert_eq!(bench.counts(), (1, 4, 0));
}

#[tokio::test(start_paused = true)]
async fn after_the_last_try_the_error_action_is_told() {
    let action = Scripted::answering((0..5).map(|_| retryable("away")));
    let errors = Scripted::answering([]);
    let mut bench = Bench::new(&[("one", &action)], Some(&errors));
    bench.dispatch("1");
    bench.drain().await;
    assert_eq!(action.payloads().len(), 5);
    let message: serde_json::Value = serde_json::from_str(&errors.payloads()[0][0]).unwrap();
    let trace = message["cloudwatchTraceId"].as_str().unwrap();
    assert_eq!(trace.len(), 36);
    let expected = serde_json::json!({
        "ruleName": "hot",
        "topic": "sensor/temp",
        "cloudwatchTraceId": trace,
        "clientId": "c1",
        "base64OriginalPayload": "cmF3",
        "failures": [{
            "failedAction": "PluginAction", "failedResource": "one", "errorMessage": "away",
        }],
    });
    assert_eq!(message, expected);
    assert_eq!(bench.counts(), (1, 4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_is_not_tried_again() {
    let (action, errors) = (Scripted::answering([permanent("no grant")]), Scripted::answering([]));
    let mut bench = Bench::new(&[("one", &action)], Some(&errors));
    bench.dispatch("1");
    bench.drain().await;
    assert_eq!(action.payloads().len(), 1);
    assert_eq!(errors.failures(), [serde_json::json!([failed("one", "no grant")])]);
    assert_eq!(bench.counts(), (1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn only_the_failed_messages_of_a_batch_are_tried_again() {
    let failure =
        |index, retryable, reason: &str| Failure { index, retryable, reason: reason.into() };
    let first = Ok(vec![failure(0, true, "later"), failure(2, false, "never")]);
    let (action, errors) = (Scripted::answering([first]), Scripted::answering([]));
    let mut bench = Bench::new(&[("one", &action)], Some(&errors));
    for result in ["a", "b", "c"] {
        bench.dispatch(result);
    }
    bench.drain().await;
    assert_eq!(action.payloads(), [vec!["a", "b", "c"], vec!["a"]]);
    assert_eq!(errors.failures(), [serde_json::json!([failed("one", "never")])]);
    assert_eq!(bench.counts(), (3, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failure_outside_the_batch_fails_the_batch() {
    let answer = Ok(vec![Failure { index: 7, retryable: true, reason: "?".into() }]);
    let (action, errors) = (Scripted::answering([answer]), Scripted::answering([]));
    let mut bench = Bench::new(&[("one", &action)], Some(&errors));
    bench.dispatch("1");
    bench.drain().await;
    assert_eq!(errors.failures(), [serde_json::json!([failed("one", BAD_INDEX)])]);
    assert_eq!(bench.counts(), (1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn failures_of_several_actions_are_one_message() {
    let (one, two) = (Scripted::answering([permanent("no")]), Scripted::answering([]));
    let three = Scripted::answering((0..5).map(|_| retryable("away")));
    let errors = Scripted::answering([]);
    let actions = [("one", &one), ("two", &two), ("three", &three)];
    let mut bench = Bench::new(&actions, Some(&errors));
    bench.dispatch("1");
    bench.drain().await;
    let expected = serde_json::json!([failed("one", "no"), failed("three", "away")]);
    assert_eq!(errors.failures(), [expected]);
    assert_eq!(bench.counts(), (2, 4, 2));
}

#[tokio::test(start_paused = true)]
async fn a_slow_action_fills_its_own_queue_only() {
    let gated = Scripted { gate: Some(Semaphore::new(0)), ..Scripted::default() };
    let (slow, fast, errors) = (Arc::new(gated), Scripted::answering([]), Scripted::answering([]));
    let mut bench = Bench::new(&[("slow", &slow), ("fast", &fast)], Some(&errors));
    bench.dispatch("first");
    tokio::task::yield_now().await;
    for n in 0..QUEUE_MESSAGES_MAX + 2 {
        bench.dispatch(&n.to_string());
        // Only the fast action gets to run in between.
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    assert_eq!(fast.payloads().concat().len(), QUEUE_MESSAGES_MAX + 3);
    let full = serde_json::json!([failed("slow", "the queue of the action is full")]);
    assert_eq!(errors.failures(), [full.clone(), full]);
    slow.gate.as_ref().unwrap().add_permits(1_000);
    bench.drain().await;
    assert_eq!(slow.payloads().concat().len(), QUEUE_MESSAGES_MAX + 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_action_that_fails_is_counted_and_not_called_about_itself() {
    let action = Scripted::answering([permanent("no")]);
    let errors = Scripted::answering([permanent("nor here")]);
    let mut bench = Bench::new(&[("one", &action)], Some(&errors));
    bench.dispatch("1");
    bench.drain().await;
    assert_eq!(errors.payloads().len(), 1);
    assert_eq!(bench.counts(), (0, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_plugin_is_looked_up_at_every_try() {
    let (action, errors) = (Scripted::answering([]), Scripted::answering([]));
    let mut bench = Bench::new(&[("one", &action)], Some(&errors));
    let unloaded = bench.loaded.0.lock().unwrap().remove("one").unwrap();
    bench.dispatch("lost");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(errors.failures(), [serde_json::json!([failed("one", "no plugin one is loaded")])]);
    bench.dispatch("kept");
    tokio::time::sleep(Duration::from_millis(150)).await;
    bench.loaded.0.lock().unwrap().insert("one".into(), unloaded);
    bench.drain().await;
    assert_eq!(action.payloads(), [["kept"]]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_rule_itself_reaches_the_error_action() {
    let errors = Scripted::answering([]);
    let mut bench = Bench::new(&[], Some(&errors));
    let topic = TopicName::parse("a").unwrap();
    let original = Message::new(topic, "raw", Arc::default(), Timestamp::default());
    bench.dispatcher.as_ref().unwrap().report(&Arc::new(original), "too deep");
    bench.drain().await;
    assert_eq!(
        errors.failures(),
        [serde_json::json!([failure("RuleEvaluation", "hot", "too deep")])]
    );
}
