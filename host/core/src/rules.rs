//! Rules: which messages are handed to which actions.
//!
//! In: definitions over [`Engine::create`] and its siblings, messages from the broker. Out: calls
//! of the actions (`actions::dispatch`). [`sql`] says which messages, `worker` runs a rule.
//! Not here: REST bodies and ARNs (`gnomon-api`), Basic Ingest and queues that survive a restart
//! (to come).
//!
//! A rule is durable before it runs. Locks in this order: `changes` (across a change and its
//! write), `rules`, `tasks`; the latter two never across `.await`.

mod record;
pub mod sql;
mod worker;

use crate::actions::Actions;
use crate::actions::definition::{ActionDefinition, ActionDefinitionError};
use crate::actions::dispatch::{self, Dispatcher};
use crate::broker::Broker;
use crate::ids::RuleName;
use crate::limits::Limits;
use crate::metrics::{Counter, Metrics};
use crate::random::Random;
use crate::storage::{Expect, Key, Revision, Storage, StoreError};
use crate::time::{Clock, Timestamp};
use crate::topic::TopicFilter;
use record::StoredRule;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use worker::Running;

/// Messages that wait for one rule; when full the newest one is dropped for that rule.
///
/// They are shared with all other receivers: 1,000 x 1 KiB typical payload = 1 MiB per rule that
/// cannot follow, and an evaluation takes microseconds.
pub const QUEUE_MESSAGES_MAX: usize = 1_000;

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
    /// For `newuuid()`, `rand()` and trace ids.
    pub random: Arc<dyn Random>,
    /// `rules_*` and `actions_*`.
    pub metrics: Arc<Metrics>,
    /// `rules` and `actions_per_rule`.
    pub limits: Limits,
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

/// What a rule did since the engine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Messages that matched FROM.
    pub matched: u64,
    /// Of these, messages that did not fit into the rule's queue.
    pub dropped: u64,
    /// Messages that passed WHERE.
    pub passed: u64,
    /// Evaluations that failed, and messages that failed for good in an action.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    matched: Counter,
    dropped: Counter,
    passed: Counter,
    failed: Arc<Counter>,
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
    /// `ServiceUnavailableException`. The host is shutting down.
    #[error("the rules engine is stopped")]
    Stopped,
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
    /// Everything that was spawned; `None` after shutdown.
    tasks: Mutex<Option<JoinSet<()>>>,
}

struct Entry {
    rule: Arc<Rule>,
    revision: Revision,
    counters: Arc<Counters>,
    /// `None` while disabled.
    _running: Option<Running>,
}

/// A definition that can run.
struct Prepared {
    statement: sql::Statement,
    actions: Vec<ActionDefinition>,
    error_action: Option<ActionDefinition>,
}

impl Engine {
    /// Reads all rules and starts those that are enabled.
    ///
    /// A rule that this version cannot run any more is kept, reported and not started.
    ///
    /// # Errors
    /// The store cannot be read, or holds what is no rule.
    pub async fn start(ports: Ports) -> Result<Self, StartError> {
        let engine = Self(Arc::new(Shared {
            ports,
            changes: tokio::sync::Mutex::default(),
            rules: Mutex::default(),
            tasks: Mutex::new(Some(JoinSet::new())),
        }));
        let mut after = None;
        loop {
            let prefix = Key::prefix(record::KIND);
            let page = engine.0.ports.storage.scan(&prefix, after.as_ref(), LOAD_PAGE).await?;
            let Some(last) = page.last() else { return Ok(engine) };
            after = Some(last.key.clone());
            for record in page {
                let read = record::name(&record)
                    .and_then(|name| Ok((name, record::decode(&record.value)?)));
                let (name, stored) = read.map_err(|error| StartError::Record {
                    key: record.key.clone(),
                    reason: error.to_string(),
                })?;
                engine.0.install(name, stored, record.revision);
            }
        }
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
        let Counters { matched, dropped, passed, failed } = &*rules.get(name)?.counters;
        let (matched, dropped) = (matched.get(), dropped.get());
        Some(Figures { matched, dropped, passed: passed.get(), failed: failed.get() })
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

    /// Stops a rule and removes it. What waits in its queues is still done.
    ///
    /// # Errors
    /// See [`RuleError`].
    pub async fn delete(&self, name: RuleName) -> Result<(), RuleError> {
        self.change(|shared| async move {
            let (_, revision) = shared.find(&name)?;
            let key = record::key(&name);
            match shared.ports.storage.delete(&key, Expect::Revision(revision)).await {
                Ok(_) => {
                    shared.rules().remove(&name);
                    tracing::info!(rule = %name, "rule deleted");
                    Ok(())
                }
                Err(error) => Err(shared.write_failed(name, error).await),
            }
        })
        .await
    }

    /// Ends all subscriptions, and waits until what was taken is evaluated and its actions are
    /// called, but no longer than `deadline`; then gives the rest up. Changes are refused from
    /// now on.
    pub async fn shutdown(&self, deadline: Duration) {
        let tasks = {
            let _change = self.0.changes.lock().await;
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
            tracing::error!(tasks_left, "rules not drained in time, waiting messages are lost");
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

    /// Whether a new definition is acceptable now.
    fn check(&self, definition: &RuleDefinition) -> Result<(), RuleError> {
        let limit = self.ports.limits.actions_per_rule;
        if definition.actions.len() > limit as usize {
            let n = definition.actions.len();
            return Err(RuleError::Invalid(format!("{n} actions; at most {limit} are allowed")));
        }
        let prepared = Prepared::new(definition)?;
        for ActionDefinition { plugin, .. } in prepared.actions.iter().chain(&prepared.error_action)
        {
            if self.ports.actions.find(plugin).is_none() {
                let message = format!("no plugin {plugin} is loaded that is a rule action");
                return Err(RuleError::Invalid(message));
            }
        }
        Ok(())
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
                self.install(name, stored, revision);
                Ok(())
            }
            Err(error) => Err(self.write_failed(name, error).await),
        }
    }

    /// A write may have happened although its answer was lost: memory follows the store.
    async fn write_failed(&self, name: RuleName, error: StoreError) -> RuleError {
        if let Ok(found) = self.ports.storage.get(&record::key(&name)).await {
            match found.map(|found| (record::decode(&found.value), found.revision)) {
                Some((Ok(stored), revision)) => self.install(name.clone(), stored, revision),
                Some((Err(error), _)) => tracing::error!(rule = %name, %error, "unreadable rule"),
                None => drop(self.rules().remove(&name)),
            }
        }
        match error {
            StoreError::Conflict => RuleError::Conflict(name),
            error => RuleError::Store(error),
        }
    }

    /// Makes a stored rule the one that runs under its name.
    fn install(&self, name: RuleName, stored: StoredRule, revision: Revision) {
        let StoredRule { definition, created_at } = stored;
        let prepared = Prepared::new(&definition);
        if let Err(error) = &prepared {
            tracing::error!(rule = %name, %error, "stored rule cannot run; replace or delete it");
        }
        let prepared = prepared.ok();
        let filter = prepared.as_ref().and_then(|prepared| prepared.statement.filter().cloned());
        let counters = self.rules().get(&name).map(|entry| entry.counters.clone());
        let counters = counters.unwrap_or_default();
        let running = prepared
            .filter(|_| !definition.disabled)
            .and_then(|prepared| self.run(&name, prepared, &counters));
        let rule = Arc::new(Rule { name: name.clone(), created_at, definition, filter });
        let entry = Entry { rule, revision, counters, _running: running };
        // The new one has its subscription before the old one loses it: no message is missed.
        let replaced = self.rules().insert(name, entry);
        drop(replaced);
    }

    /// `None` after shutdown.
    fn run(&self, name: &RuleName, rule: Prepared, counters: &Arc<Counters>) -> Option<Running> {
        let Prepared { statement, actions, error_action } = rule;
        let ports = dispatch::Ports {
            actions: self.ports.actions.clone(),
            clock: self.ports.clock.clone(),
            random: self.ports.random.clone(),
            metrics: self.ports.metrics.clone(),
        };
        let mut tasks = self.tasks();
        let tasks = tasks.as_mut()?;
        let failed = counters.failed.clone();
        let dispatcher =
            Dispatcher::start(name.clone(), actions, error_action, ports, failed, tasks);
        Some(Running::start(name, statement, dispatcher, counters.clone(), &self.ports, tasks))
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

impl Prepared {
    fn new(definition: &RuleDefinition) -> Result<Self, RuleError> {
        let invalid = |error: ActionDefinitionError| RuleError::Invalid(error.to_string());
        let statement = sql::Statement::parse_version(&definition.sql, definition.version)
            .map_err(RuleError::SqlParse)?;
        let actions = definition.actions.iter().map(ActionDefinition::parse);
        let actions = actions.collect::<Result<_, _>>().map_err(invalid)?;
        let error_action = definition.error_action.as_ref().map(ActionDefinition::parse);
        let error_action = error_action.transpose().map_err(invalid)?;
        Ok(Self { statement, actions, error_action })
    }
}

#[cfg(test)]
mod tests;
