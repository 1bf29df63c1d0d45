//! Rules: which messages are handed to which actions.
//!
//! In: definitions over [`Engine::create`] and its siblings, messages from the broker. Out: calls
//! of the actions. Reading order: this engine, [`sql`] (which messages), `runner` (what becomes of
//! one), `params` (templates), `job` (what waits), `lane` (where it waits) and `worker` (who calls
//! the action), `dead_letters` (what nobody took), `ingest` (Basic Ingest for rules that are not
//! there).
//! Not here: REST bodies and ARNs (`gnomon-api`).
//!
//! A rule is durable before it runs. Locks in this order: `changes` (across a change and its
//! write), `rules`, `tasks`; the latter two never across `.await`.

mod dead_letters;
pub mod functions;
mod ingest;
mod job;
mod lane;
mod params;
mod record;
mod runner;
pub mod sql;
mod worker;

pub use dead_letters::DeadLetter;
pub use job::Part;
pub use runner::{HOPS_MAX, REPUBLISHED_MAX};

use crate::actions::Actions;
use crate::actions::definition::{ActionDefinition, ActionDefinitionError, Target};
use crate::broker::log::SpoolSize;
use crate::broker::{Broker, Receiver};
use crate::ids::RuleName;
use crate::limits::Limits;
use crate::message::QoS;
use crate::metrics::{Counter, Metrics};
use crate::packet::SubscribeOptions;
use crate::random::Random;
use crate::storage::{Expect, Key, Revision, Storage, StoreError};
use crate::time::{Clock, Timestamp};
use crate::topic::TopicFilter;
use functions::Functions;
use lane::{Lane, Purge};
use params::Params;
use record::StoredRule;
use runner::{Program, RuleInbox, Runner, Step};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use worker::Worker;

/// Longest definition in bytes, as JSON. AWS: 256 KB.
pub const DEFINITION_BYTES_MAX: usize = 256 * 1_024;

/// Rules read from the store at a time when the engine starts.
const LOAD_PAGE: usize = 100;

/// What the engine needs from the host.
#[derive(Clone)]
pub struct Ports {
    /// Where rules are kept.
    pub storage: Arc<dyn Storage>,
    /// Where they subscribe.
    pub broker: Broker,
    /// What they call.
    pub actions: Arc<dyn Actions>,
    /// For `timestamp()`, creation dates and the rate of log lines.
    pub clock: Arc<dyn Clock>,
    /// For `newuuid()` and `rand()`.
    pub random: Arc<dyn Random>,
    /// What statements may ask.
    pub functions: Arc<dyn Functions>,
    /// What `accountid()` answers: 12 digits.
    pub account: Arc<str>,
    /// `rules_*` and `actions_*`.
    pub metrics: Arc<Metrics>,
    /// Those of rules, actions and dead letters.
    pub limits: Arc<Limits>,
}

/// What an operator says about a rule. AWS: `TopicRulePayload`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleDefinition {
    /// The statement.
    pub sql: String,
    /// `awsIotSqlVersion`.
    pub version: sql::Version,
    /// Any text.
    pub description: Option<String>,
    /// `ruleDisabled`: a disabled rule has no subscription.
    pub disabled: bool,
    /// JSON objects as [`ActionDefinition::parse`] takes them, at most `Limits::actions_per_rule`.
    pub actions: Vec<serde_json::Value>,
    /// Called when an action or the evaluation fails for good.
    pub error_action: Option<serde_json::Value>,
}

/// A rule. AWS: `TopicRule`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name.
    pub name: RuleName,
    /// When it was created; a replacement keeps it.
    pub created_at: Timestamp,
    /// What its operator says.
    pub definition: RuleDefinition,
    /// The FROM filter; `None` without FROM. AWS: `topicPattern`.
    pub filter: Option<TopicFilter>,
}

/// What a rule did since the engine started, and what it has yet to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Messages that matched FROM.
    pub matched: u64,
    /// Messages that passed WHERE.
    pub passed: u64,
    /// Evaluations that failed, and messages that failed for good in an action.
    pub failed: u64,
    /// Calls of actions that failed and were repeated, one per message.
    pub retried: u64,
    /// Messages that an action took; without republications.
    pub succeeded: u64,
    /// Milliseconds from publication to success, of all these together.
    pub latency_ms: u64,
    /// Messages that wait for an action, those from before the start too.
    pub waiting: u64,
    /// Messages that became dead letters.
    pub dead_lettered: u64,
    /// Dead letters that are there.
    pub dead_letters: u64,
    /// What failed last, and why.
    pub last_failure: Option<String>,
}

#[derive(Debug, Default)]
struct Counters {
    matched: Counter,
    passed: Counter,
    failed: Counter,
    retried: Counter,
    succeeded: Counter,
    latency_ms: Counter,
    dead_letters: Counter,
}

/// Why a rule was not created, changed or found; each names AWS's exception.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// `SqlParseException`. The statement does not parse.
    #[error("{0}")]
    SqlParse(sql::SqlError),
    /// `ResourceAlreadyExistsException`. Replace the rule, or take another name.
    #[error("rule {0} exists already")]
    AlreadyExists(RuleName),
    /// AWS answers `UnauthorizedException`, so that names cannot be guessed.
    #[error("there is no rule {0}")]
    NotFound(RuleName),
    /// `LimitExceededException`. Delete a rule first.
    #[error("there are {0} rules already; more are not allowed")]
    LimitExceeded(u32),
    /// `InvalidRequestException`. The definition is wrong; retrying unchanged cannot help.
    #[error("{0}")]
    Invalid(String),
    /// `ConflictingResourceUpdateException`. Somebody else changed the rule; look again.
    #[error("rule {0} was changed by someone else")]
    Conflict(RuleName),
    /// `ServiceUnavailableException`. It is not known whether the change was written; look again.
    #[error("the rule could not be written")]
    Store(#[source] StoreError),
    /// `ConflictException`. Not all dead letters could be tried again; the rest is still there.
    #[error("{taken} dead letters are tried again, {left} stay: {reason}")]
    Replay {
        /// How many are.
        taken: u64,
        /// How many are not.
        left: u64,
        /// Why one of these is not.
        reason: String,
    },
    /// `ServiceUnavailableException`. The host is shutting down.
    #[error("the rules engine is stopped")]
    Stopped,
}

/// What a statement makes of a message.
#[derive(Clone, Debug)]
pub struct Tested {
    /// Whether FROM matches the topic; `None` without FROM.
    pub matches: Option<bool>,
    /// What the actions would get; `None` when the message does not pass WHERE.
    pub result: Result<Option<bytes::Bytes>, sql::EvaluationError>,
    /// Every part and its value, when they were asked for.
    pub trace: Vec<sql::Traced>,
}

/// Why the engine does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The rules cannot be read.
    #[error("cannot read the rules")]
    Store(#[from] StoreError),
    /// A record is damaged or was written by a newer version.
    #[error("cannot read the record {key:?}: {reason}")]
    Record {
        /// Its key.
        key: Key,
        /// What is wrong with it.
        reason: String,
    },
}

/// All rules of the host; clones share them.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
    ports: Ports,
    /// Held by whoever changes a rule, so that memory follows the store's order.
    changes: tokio::sync::Mutex<()>,
    rules: Mutex<BTreeMap<RuleName, Entry>>,
    /// Takes what Basic Ingest sends to rules that are not there.
    ingest: Mutex<Option<Receiver>>,
    /// Everything that was spawned; `None` after shutdown.
    tasks: Mutex<Option<JoinSet<()>>>,
}

struct Entry {
    rule: Arc<Rule>,
    revision: Revision,
    /// `None` for a rule that this version cannot run.
    runner: Option<Arc<Runner>>,
    /// Ends the workers of its lanes; `None` with `runner`.
    stop: Option<Arc<watch::Sender<bool>>>,
    /// `None` while disabled.
    subscriptions: Option<Receiver>,
}

impl Engine {
    /// Reads all rules and starts those that are enabled.
    ///
    /// A rule that this version cannot run any more is kept, reported and not started.
    ///
    /// # Errors
    /// The store cannot be read, or holds what is no rule.
    ///
    /// `spools` is what the broker's log has ([`crate::broker::log::Recovered`]): messages that
    /// waited for actions go on, those of rules that are gone are removed.
    pub async fn start(
        ports: Ports,
        spools: &HashMap<String, SpoolSize>,
    ) -> Result<Self, StartError> {
        let engine = Self(Arc::new(Shared {
            ports,
            changes: tokio::sync::Mutex::default(),
            rules: Mutex::default(),
            ingest: Mutex::default(),
            tasks: Mutex::new(Some(JoinSet::new())),
        }));
        engine.0.listen_for_ingest();
        let mut after = None;
        loop {
            let prefix = Key::prefix(record::KIND);
            let page = engine.0.ports.storage.scan(&prefix, after.as_ref(), LOAD_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            for record in page {
                let read = record::name(&record)
                    .and_then(|name| Ok((name, record::decode(&record.value)?)));
                let (name, stored) = read.map_err(|error| StartError::Record {
                    key: record.key.clone(),
                    reason: error.to_string(),
                })?;
                engine.0.install(name, stored, record.revision, spools);
            }
        }
        let rules = engine.0.rules();
        for name in spools.keys() {
            let rule = name.strip_prefix("rule/").and_then(|rest| rest.split('/').next());
            let rule = rule.and_then(|rule| RuleName::parse(rule).ok());
            if rule.is_some_and(|rule| !rules.contains_key(&rule)) {
                tracing::warn!(spool = name, "messages of a rule that is gone are removed");
                Purge::start(name.clone(), engine.0.ports.broker.log());
            }
        }
        drop(rules);
        Ok(engine)
    }

    /// Adds a rule and, unless it is disabled, starts it.
    ///
    /// # Errors
    /// See [`RuleError`].
    pub async fn create(
        &self,
        name: RuleName,
        definition: RuleDefinition,
    ) -> Result<(), RuleError> {
        self.change(|shared| async move {
            shared.check(&definition)?;
            if shared.rules().contains_key(&name) {
                return Err(RuleError::AlreadyExists(name));
            }
            let limit = shared.ports.limits.rules;
            if shared.rules().len() >= limit as usize {
                return Err(RuleError::LimitExceeded(limit));
            }
            let created_at = shared.ports.clock.wall();
            shared.write(name, StoredRule { definition, created_at }, Expect::Absent).await
        })
        .await
    }

    /// The rule with this name.
    ///
    /// # Errors
    /// [`RuleError::NotFound`].
    pub fn get(&self, name: &RuleName) -> Result<Arc<Rule>, RuleError> {
        self.0.find(name).map(|(rule, _)| rule)
    }

    /// All rules in the order of their names.
    pub fn list(&self) -> Vec<Arc<Rule>> {
        self.0.rules().values().map(|entry| entry.rule.clone()).collect()
    }

    /// What a rule did since the engine started; `None` when there is no such rule.
    pub fn figures(&self, name: &RuleName) -> Option<Figures> {
        let rules = self.0.rules();
        let Some(runner) = &rules.get(name)?.runner else { return Some(Figures::default()) };
        let counters = &runner.counters;
        let lanes = &runner.lanes;
        let waiting = lanes.actions().iter().map(|lane| lane.waiting()).sum::<u64>();
        Some(Figures {
            matched: counters.matched.get(),
            passed: counters.passed.get(),
            failed: counters.failed.get(),
            retried: counters.retried.get(),
            succeeded: counters.succeeded.get(),
            latency_ms: counters.latency_ms.get(),
            waiting: waiting + lanes.error.waiting() + lanes.evaluation.waiting(),
            dead_lettered: counters.dead_letters.get(),
            dead_letters: lanes.dead.waiting(),
            last_failure: runner.last_failure(),
        })
    }

    /// What a statement makes of a message, with the value of every part of it on request.
    ///
    /// # Errors
    /// [`RuleError::SqlParse`].
    pub async fn test(
        &self,
        text: &str,
        version: sql::Version,
        message: &crate::message::Message,
        with_trace: bool,
    ) -> Result<Tested, RuleError> {
        let statement =
            sql::Statement::parse_version(text, version).map_err(RuleError::SqlParse)?;
        self.0.check_functions(&statement, text)?;
        let ports = &self.0.ports;
        let mut answers = sql::Answers::default();
        let now = ports.clock.wall();
        loop {
            let input = sql::Input {
                message,
                now,
                random: &*ports.random,
                account: &ports.account,
                answers: &answers,
            };
            let result = sql::evaluate(&statement, &input);
            if let Err(sql::EvaluationError::Needs(call)) = result {
                let answer = ports.functions.call(&call).await;
                answers.add(*call, answer);
                continue;
            }
            let trace = if with_trace {
                sql::trace(text, version, &input).map_err(RuleError::SqlParse)?
            } else {
                Vec::new()
            };
            let matches = statement.filter().map(|filter| filter.matches(&message.topic));
            return Ok(Tested { matches, result, trace });
        }
    }

    /// Gives an existing rule another definition.
    ///
    /// A message that arrives meanwhile may be taken by both, but not by none.
    ///
    /// # Errors
    /// See [`RuleError`].
    pub async fn replace(
        &self,
        name: RuleName,
        definition: RuleDefinition,
    ) -> Result<(), RuleError> {
        self.change(|shared| async move {
            shared.check(&definition)?;
            let (rule, revision) = shared.find(&name)?;
            let stored = StoredRule { definition, created_at: rule.created_at };
            shared.write(name, stored, Expect::Revision(revision)).await
        })
        .await
    }

    /// Starts a disabled rule.
    ///
    /// # Errors
    /// See [`RuleError`].
    pub async fn enable(&self, name: RuleName) -> Result<(), RuleError> {
        self.set_disabled(name, false).await
    }

    /// Stops a rule and keeps it. What waits in its queues is still done.
    ///
    /// # Errors
    /// See [`RuleError`].
    pub async fn disable(&self, name: RuleName) -> Result<(), RuleError> {
        self.set_disabled(name, true).await
    }

    /// Stops a rule and removes it, with what waits for its actions and its dead letters.
    ///
    /// # Errors
    /// See [`RuleError`].
    pub async fn delete(&self, name: RuleName) -> Result<(), RuleError> {
        self.change(|shared| async move {
            let (_, revision) = shared.find(&name)?;
            let key = record::key(&name);
            match shared.ports.storage.delete(&key, Expect::Revision(revision)).await {
                Ok(_) => {
                    shared.uninstall(&name);
                    Ok(())
                }
                Err(error) => Err(shared.write_failed(name, error).await),
            }
        })
        .await
    }

    /// Ends all subscriptions, and waits for the calls of actions that are under way, but no longer
    /// than `deadline`; what waits is on disk, and goes on with the next start. Changes are refused
    /// from now on.
    pub async fn shutdown(&self, deadline: Duration) {
        let tasks = {
            let _change = self.0.changes.lock().await;
            drop(self.0.ingest.lock().unwrap_or_else(PoisonError::into_inner).take());
            // The workers end with the rules, which have their stops.
            let rules = std::mem::take(&mut *self.0.rules());
            drop(rules);
            self.0.tasks().take()
        };
        let Some(mut tasks) = tasks else { return };
        let drain = async {
            while let Some(ended) = tasks.join_next().await {
                report_panic(ended);
            }
        };
        if tokio::time::timeout(deadline, drain).await.is_err() {
            let tasks_left = tasks.len();
            tracing::warn!(tasks_left, "calls of rule actions cut off; they are made again");
            tasks.shutdown().await;
        }
    }

    async fn set_disabled(&self, name: RuleName, disabled: bool) -> Result<(), RuleError> {
        self.change(move |shared| async move {
            let (rule, revision) = shared.find(&name)?;
            if rule.definition.disabled == disabled {
                return Ok(());
            }
            let definition = RuleDefinition { disabled, ..rule.definition.clone() };
            let stored = StoredRule { definition, created_at: rule.created_at };
            shared.write(name, stored, Expect::Revision(revision)).await
        })
        .await
    }

    /// Runs a change alone and to its end, even if the caller goes away meanwhile: memory must
    /// follow what was written.
    async fn change<F>(&self, change: impl FnOnce(Arc<Shared>) -> F) -> Result<(), RuleError>
    where
        F: Future<Output = Result<(), RuleError>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let shared = self.0.clone();
        let change = change(shared.clone());
        let task = async move {
            let _alone = shared.changes.lock().await;
            let is_running = shared.tasks().is_some();
            let result = if is_running { change.await } else { Err(RuleError::Stopped) };
            // A caller that went away does not want the answer.
            let _ = answer.send(result);
        };
        match self.0.tasks().as_mut() {
            Some(tasks) => {
                // The handles of tasks that have ended are let go here.
                while let Some(ended) = tasks.try_join_next() {
                    report_panic(ended);
                }
                tasks.spawn(task)
            }
            None => return Err(RuleError::Stopped),
        };
        answered.await.unwrap_or(Err(RuleError::Stopped))
    }
}

impl Shared {
    fn find(&self, name: &RuleName) -> Result<(Arc<Rule>, Revision), RuleError> {
        match self.rules().get(name) {
            Some(entry) => Ok((entry.rule.clone(), entry.revision)),
            None => Err(RuleError::NotFound(name.clone())),
        }
    }

    fn runner(&self, name: &RuleName) -> Result<Arc<Runner>, RuleError> {
        let rules = self.rules();
        let entry = rules.get(name).ok_or_else(|| RuleError::NotFound(name.clone()))?;
        let cannot = || RuleError::Invalid(format!("rule {name} cannot run; replace it"));
        entry.runner.clone().ok_or_else(cannot)
    }

    /// Whether a new definition is acceptable now.
    fn check(&self, definition: &RuleDefinition) -> Result<(), RuleError> {
        let limit = self.ports.limits.actions_per_rule;
        if definition.actions.len() > limit as usize {
            let n = definition.actions.len();
            return Err(RuleError::Invalid(format!("{n} actions; at most {limit} are allowed")));
        }
        let program = Program::new(definition)?;
        self.check_functions(&program.statement, &definition.sql)?;
        for step in program.steps.iter().chain(&program.error_step) {
            for name in step.params.custom_functions() {
                if !self.ports.functions.offers(name) {
                    let message = format!("there is no function `{name:.64}` for a template");
                    return Err(RuleError::Invalid(message));
                }
            }
            let target = &step.definition.target;
            if let Target::Plugin(plugin) = target
                && self.ports.actions.find(target).is_none()
            {
                let message = format!("no plugin {plugin} is loaded that is a rule action");
                return Err(RuleError::Invalid(message));
            }
        }
        Ok(())
    }

    fn check_functions(&self, statement: &sql::Statement, text: &str) -> Result<(), RuleError> {
        match statement.custom_functions().find(|name| !self.ports.functions.offers(name)) {
            Some(name) => Err(RuleError::SqlParse(statement.unknown_function(text, name))),
            None => Ok(()),
        }
    }

    /// Writes a rule, then lets it run.
    async fn write(
        &self,
        name: RuleName,
        stored: StoredRule,
        expect: Expect,
    ) -> Result<(), RuleError> {
        let value = record::encode(&stored);
        if value.len() > DEFINITION_BYTES_MAX {
            let message = format!("the definition has more than {DEFINITION_BYTES_MAX} bytes");
            return Err(RuleError::Invalid(message));
        }
        // What is written must be readable: JSON may be nested deeper than the reader allows.
        record::decode(&value).map_err(|error| RuleError::Invalid(error.to_string()))?;
        match self.ports.storage.put(&record::key(&name), value, expect).await {
            Ok(revision) => {
                tracing::info!(rule = %name, disabled = stored.definition.disabled, "rule written");
                self.install(name, stored, revision, &HashMap::new());
                Ok(())
            }
            Err(error) => Err(self.write_failed(name, error).await),
        }
    }

    /// A write may have happened although its answer was lost: memory follows the store.
    async fn write_failed(&self, name: RuleName, error: StoreError) -> RuleError {
        if let Ok(found) = self.ports.storage.get(&record::key(&name)).await {
            match found.map(|found| (record::decode(&found.value), found.revision)) {
                Some((Ok(stored), revision)) => {
                    self.install(name.clone(), stored, revision, &HashMap::new());
                }
                Some((Err(error), _)) => tracing::error!(rule = %name, %error, "unreadable rule"),
                None => self.uninstall(&name),
            }
        }
        match error {
            StoreError::Conflict => RuleError::Conflict(name),
            error => RuleError::Store(error),
        }
    }

    /// Makes a stored rule the one that runs under its name.
    fn install(
        &self,
        name: RuleName,
        stored: StoredRule,
        revision: Revision,
        spools: &HashMap<String, SpoolSize>,
    ) {
        let StoredRule { definition, created_at } = stored;
        let program = Program::new(&definition);
        if let Err(error) = &program {
            tracing::error!(rule = %name, %error, "stored rule cannot run; replace or delete it");
        }
        let program = program.ok().map(Arc::new);
        let filter = program.as_ref().and_then(|program| program.statement.filter().cloned());
        let rule =
            Arc::new(Rule { name: name.clone(), created_at, definition, filter: filter.clone() });
        let before = self.rules().get(&name).map(|it| (it.runner.clone(), it.stop.clone()));
        let (old, mut stop) = before.unwrap_or_default();
        let runner = program.map(|program| {
            let actions = program.steps.len();
            let sender = stop.get_or_insert_with(|| Arc::new(watch::Sender::new(false)));
            // A program never runs before its actions have their lanes.
            match &old {
                Some(runner) => {
                    self.start_workers(runner, false, actions, sender, spools);
                    runner.set_program(program);
                    runner.clone()
                }
                None => {
                    let (ports, counters) = (self.ports.clone(), Arc::default());
                    let runner = Runner::new(name.clone(), program, ports, counters, spools);
                    let runner = Arc::new(runner);
                    self.start_workers(&runner, true, actions, sender, spools);
                    runner
                }
            }
        });
        let runner = runner.or(old);
        // The new subscription is there before the old one ends: no message is missed.
        let is_running = !rule.definition.disabled;
        let subscriptions =
            runner.as_ref().filter(|_| is_running).map(|runner| self.subscribe(runner, &rule));
        let entry = Entry { rule, revision, runner, stop, subscriptions };
        let replaced = self.rules().insert(name, entry);
        drop(replaced);
    }

    /// Starts a worker for every lane that has none; also for those of actions that were there
    /// before the start and are no more: what waits there fails.
    fn start_workers(
        &self,
        runner: &Arc<Runner>,
        is_new: bool,
        actions: usize,
        stop: &watch::Sender<bool>,
        spools: &HashMap<String, SpoolSize>,
    ) {
        let mut tasks = self.tasks();
        let Some(tasks) = tasks.as_mut() else { return };
        let mut spawn = |part, lane: Arc<Lane>| {
            let worker = Worker { runner: runner.clone(), lane, part, stop: stop.subscribe() };
            tasks.spawn(worker.run());
        };
        if is_new {
            spawn(Part::Error, runner.lanes.error.clone());
            spawn(Part::Evaluation, runner.lanes.evaluation.clone());
        }
        let limit = self.ports.limits.actions_per_rule as usize;
        let had =
            |n: &usize| spools.contains_key(&runner::spool_name(&runner.name, &n.to_string()));
        let had = (0..limit).rfind(had).map_or(0, |n| n + 1);
        for (index, lane) in runner.add_lanes(actions.max(had), spools) {
            spawn(Part::Action(index), lane);
        }
    }

    /// Subscribes what FROM names and the rule's topics of Basic Ingest.
    fn subscribe(&self, runner: &Arc<Runner>, rule: &Rule) -> Receiver {
        let inbox = RuleInbox::new(runner.clone(), rule.filter.as_ref());
        let receiver = self.ports.broker.register(Arc::new(inbox));
        let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
        let ingest = TopicFilter::parse(&format!("{}{}/#", runner::BASIC_INGEST, rule.name));
        for filter in rule.filter.iter().chain(&ingest.ok()) {
            receiver.subscribe(filter, options, None);
        }
        receiver
    }

    /// Forgets a rule that is deleted, and what it had to do.
    fn uninstall(&self, name: &RuleName) {
        let Some(Entry { runner, .. }) = self.rules().remove(name) else { return };
        let Some(runner) = runner else { return };
        let lanes = runner.lanes.actions().clone();
        let all = lanes.iter().chain([&runner.lanes.error, &runner.lanes.evaluation]);
        let log = self.ports.broker.log();
        let mut waiting = 0;
        for lane in all {
            waiting += lane.waiting();
            lane.end();
            Purge::start(lane.spool_name().to_owned(), log);
        }
        let dead_letters = runner.lanes.dead.waiting();
        Purge::start(runner.lanes.dead.spool_name().to_owned(), log);
        tracing::info!(rule = %name, waiting, dead_letters, "rule deleted");
    }

    fn listen_for_ingest(self: &Arc<Self>) {
        let receiver = ingest::listen(self);
        *self.ingest.lock().unwrap_or_else(PoisonError::into_inner) = receiver;
    }

    fn rules(&self) -> MutexGuard<'_, BTreeMap<RuleName, Entry>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, Option<JoinSet<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task of the engine panicked: a defect, or one of an action's.
fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a task of the rules engine ended early");
    }
}

impl Program {
    fn new(definition: &RuleDefinition) -> Result<Self, RuleError> {
        let invalid = |error: ActionDefinitionError| RuleError::Invalid(error.to_string());
        let statement = sql::Statement::parse_version(&definition.sql, definition.version)
            .map_err(RuleError::SqlParse)?;
        let step = |json: &serde_json::Value| {
            let action = ActionDefinition::parse(json).map_err(invalid)?;
            let params = Params::compile(&statement, &action.params).map_err(|(at, error)| {
                RuleError::Invalid(format!("action {}: {at}: {error}", action.kind))
            })?;
            Ok(Step::new(action, params))
        };
        let steps = definition.actions.iter().map(step).collect::<Result<_, _>>()?;
        let error_step = definition.error_action.as_ref().map(step).transpose()?;
        Ok(Self { statement, steps, error_step })
    }
}

#[cfg(test)]
mod tests;
