//! The engine on a broker, a journal and a store in memory, in virtual time; the committer runs
//! when the test says so.

use super::sql::Datum;
use super::*;
use crate::actions::{Action, ActionContext, ActionError, Failure};
use crate::broker::log::Committer;
use crate::broker::{Opened, Wakes};
use crate::ids::ClientId;
use crate::message::{Message, Publisher};
use crate::packet::SubscribeOptions;
use crate::random::SeededRandom;
use crate::storage::{
    Durability, Fault, Faults, FaultyJournal, FaultyStore, MemoryDisk, MemoryJournal, MemoryStore,
};
use crate::time::ManualClock;
use crate::topic::TopicName;
use async_trait::async_trait;
use serde_json::json;
use std::cell::RefCell;
use std::collections::VecDeque;

type Answer = Result<Vec<Failure>, ActionError>;

/// Plugins that answer as told, then with success; they remember what they got.
#[derive(Default)]
struct Plugins {
    /// Loaded plugins, and what they answer next.
    answers: Mutex<BTreeMap<String, VecDeque<Answer>>>,
    calls: Mutex<Vec<Call>>,
}

#[derive(Clone)]
struct Call {
    plugin: String,
    context: ActionContext,
    payloads: Vec<String>,
}

struct Plugin(String, Arc<Plugins>);

impl Actions for Arc<Plugins> {
    fn find(&self, target: &Target) -> Option<Arc<dyn Action>> {
        let name = match target {
            Target::Plugin(plugin) => plugin.to_string(),
            Target::Table => "table".to_owned(),
            Target::Republish => return None,
        };
        let is_loaded = self.answers.lock().unwrap().contains_key(&name);
        is_loaded.then(|| Arc::new(Plugin(name, self.clone())) as _)
    }
}

#[async_trait]
impl Action for Plugin {
    async fn invoke(&self, context: &ActionContext, messages: &[Arc<Message>]) -> Answer {
        let Self(plugin, plugins) = self;
        let payload = |it: &Arc<Message>| String::from_utf8(it.payload.to_vec()).unwrap();
        let payloads = messages.iter().map(payload).collect();
        let call = Call { plugin: plugin.clone(), context: context.clone(), payloads };
        plugins.calls.lock().unwrap().push(call);
        match plugin.as_str() {
            "hung" => return std::future::pending().await,
            "slow" => tokio::time::sleep(Duration::from_secs(1)).await,
            _ => {}
        }
        let next = plugins.answers.lock().unwrap().get_mut(plugin).and_then(VecDeque::pop_front);
        next.unwrap_or(Ok(Vec::new()))
    }
}

impl Plugins {
    fn answer(&self, plugin: &str, answers: impl IntoIterator<Item = Answer>) {
        self.answers.lock().unwrap().entry(plugin.to_owned()).or_default().extend(answers);
    }
}

/// Doubles numbers, and knows one shadow.
struct Host;

#[async_trait]
impl Functions for Host {
    fn offers(&self, name: &str) -> bool {
        name == "double"
    }

    async fn call(&self, call: &sql::ExternalCall) -> Result<Datum, String> {
        let Datum::Json(argument) = &call.arguments[0] else { return Err("no JSON".to_owned()) };
        match (call.name(), argument.parse::<f64>()) {
            ("double", Ok(number)) => Ok(Datum::Json((number * 2.0).to_string())),
            ("get_thing_shadow", _) => Ok(Datum::Json(r#"{"state":{"on":true}}"#.to_owned())),
            _ => Err("no number".to_owned()),
        }
    }
}

struct Bench {
    plugins: Arc<Plugins>,
    store: Arc<FaultyStore>,
    clock: Arc<ManualClock>,
    disk: MemoryDisk,
    /// What happens when the next lane is read.
    reads: Faults,
    committer: RefCell<Option<Committer>>,
    ports: Ports,
    engine: Engine,
}

impl Bench {
    async fn new() -> Self {
        Self::with(Limits { rules: 3, ..Limits::default() }).await
    }

    async fn with(limits: Limits) -> Self {
        let plugins = Arc::new(Plugins::default());
        for name in ["log", "other", "hung"] {
            plugins.answer(name, []);
        }
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::default())));
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let (disk, reads) = (MemoryDisk::default(), Faults::default());
        let Opened { broker, committer, .. } = open(&disk, &reads);
        let ports = Ports {
            storage: store.clone(),
            broker,
            actions: Arc::new(plugins.clone()),
            clock: clock.clone(),
            random: Arc::new(SeededRandom::new(1)),
            functions: Arc::new(Host),
            account: "123456789012".into(),
            metrics: Arc::new(Metrics::default()),
            limits: Arc::new(limits),
        };
        let engine = Engine::start(ports.clone(), &HashMap::new()).await.unwrap();
        let committer = RefCell::new(Some(committer));
        Self { plugins, store, clock, disk, reads, committer, ports, engine }
    }

    /// The host is killed: what is not committed is lost. Another one starts on the same disk.
    async fn crash(mut self) -> Self {
        self.engine.shutdown(Duration::ZERO).await;
        drop(self.committer.take());
        let Opened { broker, committer, recovered } = open(&self.disk, &self.reads);
        self.ports.broker = broker;
        self.committer = RefCell::new(Some(committer));
        self.engine = Engine::start(self.ports.clone(), &recovered.spools).await.unwrap();
        self
    }

    fn commit(&self) {
        let mut committer = self.committer.borrow_mut();
        while committer.as_mut().unwrap().commit_waiting().unwrap() {}
    }

    /// So many seconds of virtual time, in which everything is done that can be.
    async fn settle(&self, seconds: u64) {
        for _ in 0..seconds * 100 {
            self.commit();
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.clock.advance(Duration::from_millis(10));
        }
        self.commit();
    }

    fn publish(&self, topic: &str, payload: &str) -> usize {
        let message = self.message(topic, payload);
        self.ports.broker.publish(&Arc::new(message), &mut Wakes::default()).receivers
    }

    fn message(&self, topic: &str, payload: &str) -> Message {
        let topic = TopicName::parse(topic).unwrap();
        let publisher =
            Publisher { client_id: Some(ClientId::parse("c1").unwrap()), principal: None };
        let now = self.ports.clock.wall();
        Message::new(topic, payload.to_owned(), Arc::new(publisher), now)
    }

    /// What the plugins got since the last look, as `rule payload`.
    async fn calls(&self) -> Vec<String> {
        self.settle(3).await;
        let calls = std::mem::take(&mut *self.plugins.calls.lock().unwrap());
        let one = |call: Call| {
            call.payloads.into_iter().map(move |it| format!("{} {it}", call.context.rule))
        };
        calls.into_iter().flat_map(one).collect()
    }

    /// Sizes of the calls of a plugin.
    fn sizes(&self, plugin: &str) -> Vec<usize> {
        let calls = self.plugins.calls.lock().unwrap();
        calls.iter().filter(|it| it.plugin == plugin).map(|it| it.payloads.len()).collect()
    }

    fn figures(&self, rule: &str) -> Figures {
        self.engine.figures(&name(rule)).unwrap()
    }

    /// A receiver that remembers topics and payloads.
    fn listen(&self, filter: &str) -> (Receiver, Arc<Mutex<Vec<Arc<Message>>>>) {
        let heard = Arc::new(Mutex::default());
        let receiver = self.ports.broker.register(Arc::new(Listener(heard.clone())));
        let filter = TopicFilter::parse(filter).unwrap();
        receiver.subscribe(&filter, SubscribeOptions::default(), None);
        (receiver, heard)
    }
}

struct Listener(Arc<Mutex<Vec<Arc<Message>>>>);

impl crate::broker::Inbox for Listener {
    fn deliver(&self, delivery: crate::broker::Delivery, _: &mut Wakes) {
        self.0.lock().unwrap().push(delivery.message);
    }
}

fn open(disk: &MemoryDisk, reads: &Faults) -> Opened {
    let journal = Box::new(MemoryJournal::open(disk));
    let journal = FaultyJournal::new(journal, Faults::default()).with_failing_reads(reads.clone());
    Broker::open(Box::new(journal), &Limits::default(), Arc::default()).unwrap()
}

fn name(text: &str) -> RuleName {
    RuleName::parse(text).unwrap()
}

fn rule(sql: &str) -> RuleDefinition {
    RuleDefinition {
        sql: sql.to_owned(),
        version: sql::Version::V2016,
        actions: vec![json!({"plugin": {"name": "log"}})],
        ..RuleDefinition::default()
    }
}

fn away() -> Answer {
    Err(ActionError::Retryable("away".into()))
}

fn permanent(reason: &str) -> Answer {
    Err(ActionError::Permanent(reason.into()))
}

const HOT: &str = "SELECT * FROM 'sensor/temp' WHERE temp > 30";

mod actions;
mod language;

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
    let figures = bench.figures("hot");
    assert_eq!((figures.matched, figures.passed, figures.succeeded, figures.failed), (4, 2, 2, 0));
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
    let bench = bench.crash().await;
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
    assert_eq!(bench.calls().await, ["hot 2", "hot 4"]);
    bench.engine.delete(hot.clone()).await.unwrap();
    assert_eq!(bench.publish("b", "5"), 0);
    assert!(matches!(bench.engine.get(&hot), Err(RuleError::NotFound(_))));
    assert!(bench.crash().await.engine.list().is_empty());
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
        (
            with(json!({"s3": {}})),
            "action type s3 is not supported; supported are lambda, plugin, republish, table",
        ),
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
    let bench = bench.crash().await;
    assert_eq!(bench.engine.list().len(), 1);
    bench.engine.replace(name("odd"), rule("SELECT * FROM 'a'")).await.unwrap();
    assert_eq!(bench.publish("a", "1"), 1);

    let damaged = record::key(&name("bad"));
    bench.store.put(&damaged, "\u{1}{".into(), Expect::Absent).await.unwrap();
    let error =
        Engine::start(bench.ports.clone(), &HashMap::new()).await.err().unwrap().to_string();
    assert!(error.starts_with(r#"cannot read the record "rule/bad": EOF"#), "{error}");
}
