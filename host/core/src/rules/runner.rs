//! A rule at work: what becomes of one message.
//!
//! In: a message that FROM matches, from the publisher's thread ([`RuleInbox`]) or, when the
//! statement asks the host something, from `worker`. Out: what has to be durable before the
//! publisher is answered: jobs for the lanes of the actions ([`Kept`]).
//! A publisher evaluates the rules that its message matches, so that it is slowed down by its own
//! rules and by nobody else's, no queue in between can be full, and nothing is acknowledged that
//! is not either done, on disk, or dropped by WHERE.
//!
//! `republish` happens at once, within the publication: it has no target that could be away.
//! A rule that takes what it republishes is cut after [`HOPS_MAX`] rounds.

use super::dead_letters::DeadLetters;
use super::job::{Job, Letter, Part};
use super::lane::Lane;
use super::params::Params;
use super::sql::{self, Answers, EvaluationError, ExternalCall, Statement};
use super::{Counters, Ports};
use crate::actions::definition::{ActionDefinition, Target};
use crate::actions::republish::Republish;
use crate::actions::throttle::Throttle;
use crate::broker::log::{Entry, SpoolSize};
use crate::broker::{Delivery, Inbox, Kept, Wakes};
use crate::ids::RuleName;
use crate::message::Message;
use crate::storage::Durability;
use crate::topic::TopicFilter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// How often a message may be republished, rule after rule.
pub const HOPS_MAX: u8 = 5;

/// Messages that may be republished while one publication is carried out.
pub const REPUBLISHED_MAX: u32 = 1_000;

/// Longest reason of a failure in characters; a plugin may write a novel.
const REASON_CHARS_MAX: usize = 1_024;

/// Prefix of topics of Basic Ingest.
pub(super) const BASIC_INGEST: &str = "$aws/rules/";

/// What a rule does, compiled.
#[derive(Debug)]
pub(super) struct Program {
    pub statement: Statement,
    pub steps: Vec<Step>,
    pub error_step: Option<Step>,
}

impl Program {
    /// The action that a part is; `None` for the evaluation and for an action that is gone.
    pub fn step(&self, part: Part) -> Option<&Step> {
        match part {
            Part::Action(index) => self.steps.get(index as usize),
            Part::Error => self.error_step.as_ref(),
            Part::Evaluation => None,
        }
    }
}

/// One action.
#[derive(Debug)]
pub(super) struct Step {
    pub definition: ActionDefinition,
    pub params: Params,
    /// A republication without templates.
    fixed: Option<Republish>,
}

impl Step {
    pub fn new(definition: ActionDefinition, params: Params) -> Self {
        let fixed = match definition.target {
            Target::Republish if !params.has_templates() => {
                Republish::parse(&definition.params).ok()
            }
            _ => None,
        };
        Self { definition, params, fixed }
    }
}

/// A rule from its creation to its deletion, whatever it is replaced by.
pub(super) struct Runner {
    pub name: RuleName,
    pub ports: Ports,
    pub counters: Arc<Counters>,
    pub throttle: Throttle,
    program: RwLock<Arc<Program>>,
    pub lanes: Lanes,
    /// What failed last, and why; for the operator.
    last_failure: Mutex<Option<String>>,
}

/// The lanes of a rule.
pub(super) struct Lanes {
    /// By position; the list never shrinks.
    actions: Mutex<Vec<Arc<Lane>>>,
    pub error: Arc<Lane>,
    pub evaluation: Arc<Lane>,
    pub dead: Arc<DeadLetters>,
}

/// What an action is to do with a message.
enum Prepared<'p> {
    Republish(std::borrow::Cow<'p, Republish>),
    Job(Option<Arc<str>>),
    Failed(String),
}

thread_local! {
    /// Evaluations that are under way on this thread, and how often there was republished since the
    /// outermost began.
    static NESTED: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

/// Evaluations of rules on this thread, inside each other because rules republish; dropping it
/// ends one.
struct Nested;

impl Nested {
    fn enter() -> Self {
        NESTED.with(|it| {
            let (depth, count) = it.get();
            it.set((depth + 1, if depth == 0 { 0 } else { count }));
        });
        Self
    }

    /// False when too much was republished.
    fn count() -> bool {
        NESTED.with(|it| {
            let (depth, count) = it.get();
            it.set((depth, count + 1));
            count < REPUBLISHED_MAX
        })
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        NESTED.with(|it| {
            let (depth, count) = it.get();
            it.set((depth - 1, count));
        });
    }
}

impl Runner {
    pub fn new(
        name: RuleName,
        program: Arc<Program>,
        ports: Ports,
        counters: Arc<Counters>,
        sizes: &HashMap<String, SpoolSize>,
    ) -> Self {
        let size = |name: &str| sizes.get(name).copied().unwrap_or_default();
        let log = ports.broker.log();
        let lane = |name: String| {
            let size = size(&name);
            Lane::new(name, log.clone(), &ports.limits, size)
        };
        let lanes = Lanes {
            actions: Mutex::default(),
            error: lane(spool_name(&name, "error")),
            evaluation: lane(spool_name(&name, "evaluation")),
            dead: {
                let name = spool_name(&name, "dead");
                let size = size(&name);
                DeadLetters::new(name, log.clone(), &ports.limits, size)
            },
        };
        Self {
            name,
            counters,
            throttle: Throttle::default(),
            program: RwLock::new(program),
            lanes,
            last_failure: Mutex::default(),
            ports,
        }
    }

    pub fn program(&self) -> Arc<Program> {
        self.program.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_program(&self, program: Arc<Program>) {
        *self.program.write().unwrap_or_else(PoisonError::into_inner) = program;
    }

    /// What failed last, and why.
    pub fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds lanes up to this number; returns the new ones.
    pub fn add_lanes(&self, n: usize, sizes: &HashMap<String, SpoolSize>) -> Vec<(u32, Arc<Lane>)> {
        let mut actions = self.lanes.actions();
        let mut added = Vec::new();
        for index in (0..).take(n).skip(actions.len()) {
            let name = spool_name(&self.name, &index.to_string());
            let size = sizes.get(&name).copied().unwrap_or_default();
            let lane = Lane::new(name, self.ports.broker.log().clone(), &self.ports.limits, size);
            actions.push(lane.clone());
            added.push((index, lane));
        }
        added
    }

    /// Evaluates a message and does what follows.
    ///
    /// # Errors
    /// The call whose answer is needed; nothing was done.
    pub fn run(
        &self,
        original: &Arc<Message>,
        answers: &Answers,
        wakes: &mut Wakes,
    ) -> Result<Kept, Box<ExternalCall>> {
        let _nested = Nested::enter();
        let program = self.program();
        let input = sql::Input {
            message: original,
            now: self.ports.clock.wall(),
            random: &*self.ports.random,
            account: &self.ports.account,
            answers,
        };
        let mut kept = Kept::default();
        let result = match sql::evaluate(&program.statement, &input) {
            Ok(Some(result)) => result,
            Ok(None) => return Ok(kept),
            Err(EvaluationError::Needs(call)) => return Err(call),
            Err(error) => {
                let job = Job::of(original);
                self.ports.metrics.rules_failed.increment();
                self.fail(&program, Part::Evaluation, &job, &error.to_string(), &mut kept, wakes);
                return Ok(kept);
            }
        };
        // All templates first: one that needs an answer has to come before anything is done.
        let mut prepared = Vec::with_capacity(program.steps.len());
        for step in &program.steps {
            prepared.push(prepare(&program, step, &input)?);
        }
        self.counters.passed.increment();
        self.ports.metrics.rules_passed.increment();
        for (index, prepared) in (0..).zip(prepared) {
            let params = match &prepared {
                Prepared::Job(params) => params.clone(),
                _ => None,
            };
            let job = Job { result: Some(result.clone()), params, ..Job::of(original) };
            let done = match prepared {
                Prepared::Republish(republish) => {
                    self.republish(&republish, original, result.clone(), &mut kept, wakes)
                }
                Prepared::Job(_) => self
                    .lanes
                    .action(index)
                    .ok_or("the rule has no such action any more")
                    .and_then(|lane| lane.spool(job.encode()))
                    .map(|spooled| kept.spooled.push(spooled))
                    .map_err(str::to_owned),
                Prepared::Failed(reason) => Err(reason),
            };
            if let Err(reason) = done {
                self.fail(&program, Part::Action(index), &job, &reason, &mut kept, wakes);
            }
        }
        Ok(kept)
    }

    fn republish(
        &self,
        republish: &Republish,
        original: &Message,
        result: Bytes,
        kept: &mut Kept,
        wakes: &mut Wakes,
    ) -> Result<(), String> {
        if original.hops >= HOPS_MAX {
            return Err(format!(
                "the message was republished {HOPS_MAX} times already; does a rule take what it \
                 republishes?"
            ));
        }
        let message = republish.message(original, result)?;
        let limits = &self.ports.limits;
        if message.payload.len() > limits.payload_bytes as usize {
            return Err(format!("the result has more than {} bytes", limits.payload_bytes));
        }
        if !limits.allow_topic(message.topic.as_str()) {
            return Err("topic: it is beyond the limits of this host".to_owned());
        }
        if message.properties.as_ref().is_some_and(|it| !limits.allow_properties(it)) {
            return Err("headers: they are beyond the limits of this host".to_owned());
        }
        if !Nested::count() {
            return Err(format!("one message caused more than {REPUBLISHED_MAX} others"));
        }
        match self.ports.broker.publish(&Arc::new(message), wakes).durability {
            Durability::Done => {}
            Durability::At(position) => kept.position = kept.position.max(position),
            Durability::Refused => return Err("too much waits for the disk".to_owned()),
        }
        self.ports.metrics.actions_succeeded.increment();
        Ok(())
    }

    /// A message failed for good in a part of the rule: it is counted and told, and goes to the
    /// error action, or else to the dead letters.
    pub fn fail(
        &self,
        program: &Program,
        part: Part,
        job: &Job,
        reason: &str,
        kept: &mut Kept,
        wakes: &mut Wakes,
    ) {
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        self.counters.failed.increment();
        if part != Part::Evaluation {
            self.ports.metrics.actions_failed.increment();
        }
        self.tell(part, job, &reason, "rule failed on a message");
        let error_step = program.error_step.as_ref().filter(|_| part != Part::Error);
        let reported = error_step.is_some_and(|step| {
            let error = self.error_job(program, step, part, job, &reason);
            self.report(step, &error, kept, wakes)
        });
        if !reported {
            self.bury(part, job, reason, kept);
        }
    }

    /// Writes a log line, at most one a second, and remembers the failure.
    pub fn tell(&self, part: Part, job: &Job, reason: &str, what: &'static str) {
        let told = format!("{part}: {reason}");
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
        if let Some(suppressed) = self.throttle.allow(&*self.ports.clock) {
            let program = self.program();
            let plugin = program.step(part).and_then(|step| match &step.definition.target {
                Target::Plugin(plugin) => Some(tracing::field::display(plugin)),
                Target::Republish | Target::Table => None,
            });
            tracing::warn!(
                rule = %self.name,
                plugin,
                topic = %job.original.topic,
                %part,
                error = reason,
                suppressed,
                "{what}"
            );
        }
    }

    /// The job of the error action.
    ///
    /// Source: AWS IoT developer guide, "Error handling (error action)", message format. One
    /// message per failed action: the others may be tried for an hour yet.
    fn error_job(
        &self,
        program: &Program,
        step: &Step,
        part: Part,
        job: &Job,
        reason: &str,
    ) -> Result<Job, String> {
        let (kind, resource) = match part {
            Part::Action(_) => match program.step(part) {
                Some(step) => (step.definition.kind, &*step.definition.resource),
                None => ("RemovedAction", self.name.as_str()),
            },
            Part::Error | Part::Evaluation => ("RuleEvaluation", self.name.as_str()),
        };
        let original = &job.original;
        let client_id = original.publisher.client_id.as_ref();
        let message = serde_json::json!({
            "ruleName": self.name.as_str(),
            "topic": original.topic.as_str(),
            "cloudwatchTraceId": sql::trace_id(original),
            "clientId": client_id.map_or("n/a", |client_id| client_id.as_str()),
            "base64OriginalPayload": STANDARD.encode(&original.payload),
            "failures": [{
                "failedAction": kind,
                "failedResource": resource,
                "errorMessage": reason,
            }],
        });
        let input = sql::Input {
            message: original,
            now: self.ports.clock.wall(),
            random: &*self.ports.random,
            account: &self.ports.account,
            answers: &Answers::NONE,
        };
        let params = match step.params.has_templates() {
            false => None,
            true => {
                let params = step.params.render(&program.statement, &input);
                Some(params.map_err(|error| error.to_string())?.to_string().into())
            }
        };
        let result = Some(Bytes::from(message.to_string()));
        // Its time begins now: the failed action may have used up the message's.
        Ok(Job { result, params, since: self.ports.clock.wall(), ..Job::of(original) })
    }

    /// Hands a job to the error action; false when it is lost to it.
    fn report(
        &self,
        step: &Step,
        job: &Result<Job, String>,
        kept: &mut Kept,
        wakes: &mut Wakes,
    ) -> bool {
        let done = job.as_ref().map_err(Clone::clone).and_then(|job| {
            if step.definition.target != Target::Republish {
                let spooled = self.lanes.error.spool(job.encode())?;
                kept.spooled.push(spooled);
                return Ok(());
            }
            let parsed = match (&step.fixed, &job.params) {
                (Some(fixed), _) => Ok(fixed.clone()),
                (None, Some(params)) => serde_json::from_str(params)
                    .map_err(|error| error.to_string())
                    .and_then(|body| Republish::parse(&body)),
                (None, None) => Err("its parameters are missing".to_owned()),
            };
            let result = job.result.clone().unwrap_or_default();
            self.republish(&parsed?, &job.original, result, kept, wakes)
        });
        let Err(reason) = done else { return true };
        // Not its own dead letter: that of what it was to report tells more.
        self.ports.metrics.actions_failed.increment();
        if let Ok(job) = job {
            self.tell(Part::Error, job, &reason, "error action of a rule failed");
        }
        false
    }

    /// Keeps a message for the operator.
    pub fn bury(&self, part: Part, job: &Job, reason: String, kept: &mut Kept) {
        let failed_at = self.ports.clock.wall();
        let letter = Letter { part, failed_at, reason, job: job.encode() };
        match self.lanes.dead.spool(&letter) {
            Some(spooled) => {
                self.ports.metrics.dead_letters.increment();
                self.counters.dead_letters.increment();
                kept.spooled.push(spooled);
            }
            None => {
                self.ports.metrics.dead_letters_lost.increment();
                let reason = "no room among the dead letters; look at them, or raise the limit";
                self.tell(part, job, reason, "message of a rule lost");
            }
        }
    }

    /// Puts what a worker kept into the log, together with the removal of what is done.
    pub fn finish(&self, lane: &str, kept: Kept, finished: Vec<u64>) {
        let removal = |number| crate::broker::log::removal(lane, number);
        let documents: Vec<_> = finished.into_iter().map(removal).collect();
        if documents.is_empty() && kept.spooled.is_empty() {
            return;
        }
        let entry = Entry { spooled: kept.spooled, documents, ..Entry::default() };
        self.ports.broker.log().append(entry);
    }
}

/// What an action is to do, templates filled in; the error is the call whose answer is needed.
fn prepare<'p>(
    program: &Program,
    step: &'p Step,
    input: &sql::Input<'_>,
) -> Result<Prepared<'p>, Box<ExternalCall>> {
    use std::borrow::Cow;
    if let Some(fixed) = &step.fixed {
        return Ok(Prepared::Republish(Cow::Borrowed(fixed)));
    }
    if !step.params.has_templates() {
        return Ok(Prepared::Job(None));
    }
    let body = match step.params.render(&program.statement, input) {
        Ok(body) => body,
        Err(EvaluationError::Needs(call)) => return Err(call),
        Err(error) => return Ok(Prepared::Failed(error.to_string())),
    };
    Ok(match step.definition.target {
        Target::Republish => match Republish::parse(&body) {
            Ok(republish) => Prepared::Republish(Cow::Owned(republish)),
            Err(reason) => Prepared::Failed(reason),
        },
        Target::Plugin(_) | Target::Table => Prepared::Job(Some(body.to_string().into())),
    })
}

/// Names of a rule have no `/`, so none begins another.
pub(super) fn spool_name(rule: &RuleName, lane: &str) -> String {
    format!("rule/{rule}/{lane}")
}

impl Lanes {
    /// The lane of the action at this position.
    pub fn action(&self, index: u32) -> Option<Arc<Lane>> {
        self.actions().get(index as usize).cloned()
    }

    pub fn actions(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Lane>>> {
        self.actions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A rule's subscription.
pub(super) struct RuleInbox {
    runner: Arc<Runner>,
    levels_min: usize,
}

impl RuleInbox {
    pub fn new(runner: Arc<Runner>, filter: Option<&TopicFilter>) -> Self {
        Self { runner, levels_min: filter.map_or(0, levels_min) }
    }
}

/// In Rules SQL `a/#` does not match `a`, unlike in MQTT: `#` stands for at least one level.
fn levels_min(filter: &TopicFilter) -> usize {
    if filter.pattern().ends_with("/#") { filter.levels().count() } else { 0 }
}

impl Inbox for RuleInbox {
    /// Not the way the broker takes; what has to be durable is so without the publisher's waiting.
    fn deliver(&self, delivery: Delivery, wakes: &mut Wakes) {
        let kept = self.keep(&delivery.message, wakes);
        self.runner.finish(self.runner.name.as_str(), kept, Vec::new());
    }

    fn keeps(&self) -> bool {
        true
    }

    fn keep(&self, message: &Arc<Message>, wakes: &mut Wakes) -> Kept {
        let is_ingested = message.topic.as_str().starts_with(BASIC_INGEST);
        if self.levels_min > 0 && !is_ingested && message.topic.levels().count() < self.levels_min {
            return Kept::default();
        }
        let runner = &self.runner;
        runner.counters.matched.increment();
        runner.ports.metrics.rules_matched.increment();
        runner.run(message, &Answers::NONE, wakes).unwrap_or_else(|_| {
            // A worker asks the host and evaluates again.
            let job = Job::of(message);
            let mut kept = Kept::default();
            match runner.lanes.evaluation.spool(job.encode()) {
                Ok(spooled) => kept.spooled.push(spooled),
                Err(reason) => {
                    let program = runner.program();
                    runner.fail(&program, Part::Evaluation, &job, reason, &mut kept, wakes);
                }
            }
            kept
        })
    }
}
