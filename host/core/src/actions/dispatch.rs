//! Calling the actions of a rule: queues, batches, tries, and the error action.
//!
//! In: what a rule selected from a message ([`Dispatcher::dispatch`]). Out: [`Action::invoke`](super::Action::invoke).
//! Every action has a queue and a task of its own, a lane: a slow one does not hold up the others,
//! and each gets the messages in their order. What fails for good in any lane is collected into
//! one message to the rule's error action, counted and logged; nothing fails in silence.
//! Not here: queues that survive a restart (to come).

use super::definition::ActionDefinition;
use super::throttle::Throttle;
use super::{ActionContext, ActionError, Actions};
use crate::ids::RuleName;
use crate::message::Message;
use crate::metrics::{Counter, Metrics};
use crate::random::{self, Random};
use crate::time::Clock;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Messages that wait for one action; one more fails at once, and the error action is told.
///
/// 1,000 x 1 KiB typical result = 1 MiB per action.
pub const QUEUE_MESSAGES_MAX: usize = 1_000;

/// Messages that an action gets in one call.
pub const BATCH_MESSAGES_MAX: usize = 100;

/// Bytes of results after which a batch takes no further message.
pub const BATCH_BYTES_MAX: usize = 1_024 * 1_024;

/// Calls of an action about the same message; after the last one it has failed for good.
pub const TRIES_MAX: u32 = 5;

/// Pause after the first try that failed; doubled after each further one.
///
/// 100 + 200 + 400 + 800 ms = 1.5 s, in which the action's later messages wait.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// Longest reason of a failure in characters; a plugin may write a novel.
const REASON_CHARS_MAX: usize = 1_024;

/// What a dispatcher needs from the host.
#[derive(Clone)]
pub struct Ports {
    /// Whom to call.
    pub actions: Arc<dyn Actions>,
    /// For the rate of log lines.
    pub clock: Arc<dyn Clock>,
    /// For trace ids.
    pub random: Arc<dyn Random>,
    /// `actions_*`.
    pub metrics: Arc<Metrics>,
}

/// The running actions of one rule. Dropping it lets the queues run empty and the tasks end.
pub struct Dispatcher {
    rule: Arc<Rule>,
    lanes: Vec<Lane>,
    error_lane: Option<Lane>,
}

/// What all lanes of a rule share.
struct Rule {
    name: RuleName,
    ports: Ports,
    failed: Arc<Counter>,
    throttle: Throttle,
}

/// The sending end of an action's queue.
#[derive(Clone)]
struct Lane {
    action: Arc<ActionDefinition>,
    queue: mpsc::Sender<Job>,
}

/// One message for one action.
struct Job {
    message: Arc<Message>,
    /// `None` for the error action.
    firing: Option<Arc<Firing>>,
}

/// One message that fired the rule, shared by the jobs of all actions.
struct Firing {
    original: Arc<Message>,
    /// Actions that are not done with it.
    pending: AtomicUsize,
    failures: Mutex<Vec<serde_json::Value>>,
}

impl Dispatcher {
    /// Starts a task per action. `failed` counts what fails for good.
    pub fn start(
        name: RuleName,
        actions: Vec<ActionDefinition>,
        error_action: Option<ActionDefinition>,
        ports: Ports,
        failed: Arc<Counter>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let rule = Arc::new(Rule { name, ports, failed, throttle: Throttle::default() });
        let error_lane = error_action.map(|action| {
            let (context, action) = (rule.context(0, &action, true), Arc::new(action));
            Lane::start(rule.clone(), context, action, None, tasks)
        });
        let lanes = actions.into_iter().zip(0..).map(|(action, index)| {
            let (context, action) = (rule.context(index, &action, false), Arc::new(action));
            Lane::start(rule.clone(), context, action, error_lane.clone(), tasks)
        });
        let lanes = lanes.collect();
        Self { rule, lanes, error_lane }
    }

    /// Hands `result`, selected from `original`, to every action. Never blocks.
    pub fn dispatch(&self, original: &Arc<Message>, result: Bytes) {
        if self.lanes.is_empty() {
            return;
        }
        let message = Arc::new(Message { payload: result, ..Message::clone(original) });
        let firing = Arc::new(Firing {
            original: original.clone(),
            pending: AtomicUsize::new(self.lanes.len()),
            failures: Mutex::default(),
        });
        for lane in &self.lanes {
            let job = Job { message: message.clone(), firing: Some(firing.clone()) };
            if let Err((job, reason)) = lane.send(job) {
                self.rule.fail(&lane.action, self.error_lane.as_ref(), &job, reason);
            }
        }
    }

    /// Tells the error action that the rule itself failed on a message.
    pub fn report(&self, original: &Arc<Message>, reason: &str) {
        let failures = [failure("RuleEvaluation", self.rule.name.as_str(), reason)];
        self.rule.report(self.error_lane.as_ref(), original, &failures);
    }
}

impl Lane {
    fn start(
        rule: Arc<Rule>,
        context: ActionContext,
        action: Arc<ActionDefinition>,
        error_lane: Option<Self>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE_MESSAGES_MAX);
        let worker = Worker { rule, context, action: action.clone(), error_lane, jobs };
        tasks.spawn(worker.run());
        Self { action, queue }
    }

    /// Gives the job back with the reason when the lane cannot take it.
    fn send(&self, job: Job) -> Result<(), (Job, &'static str)> {
        use mpsc::error::TrySendError;
        self.queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) => (job, "the queue of the action is full"),
            TrySendError::Closed(job) => (job, "the action is being stopped"),
        })
    }
}

/// The receiving end of an action's queue.
struct Worker {
    rule: Arc<Rule>,
    context: ActionContext,
    action: Arc<ActionDefinition>,
    /// `None` for the error action itself: what fails there is not reported again.
    error_lane: Option<Lane>,
    jobs: mpsc::Receiver<Job>,
}

/// What a try made of one message.
enum Verdict {
    Done,
    TryAgain(String),
    Failed(String),
}

impl Worker {
    /// Until the dispatcher is dropped and the queue is empty.
    async fn run(mut self) {
        while let Some(first) = self.jobs.recv().await {
            let mut bytes = first.message.payload.len();
            let mut batch = vec![first];
            while batch.len() < BATCH_MESSAGES_MAX
                && bytes < BATCH_BYTES_MAX
                && let Ok(job) = self.jobs.try_recv()
            {
                bytes += job.message.payload.len();
                batch.push(job);
            }
            self.call(batch).await;
        }
    }

    /// Calls the action until every message of the batch is done or has failed for good.
    async fn call(&self, mut batch: Vec<Job>) {
        let mut pause = BACKOFF_FIRST;
        for tries_left in (0..TRIES_MAX).rev() {
            let verdicts = self.try_once(&batch).await;
            let mut again = Vec::new();
            for (job, verdict) in batch.into_iter().zip(verdicts) {
                match verdict {
                    Verdict::Done => {
                        self.rule.ports.metrics.actions_succeeded.increment();
                        self.rule.finish(self.error_lane.as_ref(), &job);
                    }
                    Verdict::TryAgain(_) if tries_left > 0 => again.push(job),
                    Verdict::TryAgain(reason) | Verdict::Failed(reason) => {
                        self.rule.fail(&self.action, self.error_lane.as_ref(), &job, &reason);
                    }
                }
            }
            if again.is_empty() {
                return;
            }
            self.rule.ports.metrics.actions_retried.add(again.len() as u64);
            tokio::time::sleep(pause).await;
            pause *= 2;
            batch = again;
        }
    }

    /// One verdict per job.
    async fn try_once(&self, batch: &[Job]) -> Vec<Verdict> {
        let all = |verdict: &dyn Fn() -> Verdict| batch.iter().map(|_| verdict()).collect();
        let Some(action) = self.rule.ports.actions.find(&self.action.plugin) else {
            let reason =
                || Verdict::TryAgain(format!("no plugin {} is loaded", self.action.plugin));
            return all(&reason);
        };
        let messages: Vec<_> = batch.iter().map(|job| job.message.clone()).collect();
        match action.invoke(&self.context, &messages).await {
            Ok(failures) => {
                let mut verdicts: Vec<_> = all(&|| Verdict::Done);
                for failure in failures {
                    let verdict = match failure.retryable {
                        true => Verdict::TryAgain(failure.reason),
                        false => Verdict::Failed(failure.reason),
                    };
                    match verdicts.get_mut(failure.index) {
                        Some(slot) => *slot = verdict,
                        // Which message is meant nobody can tell: none may count as done.
                        None => return all(&|| Verdict::Failed(BAD_INDEX.to_owned())),
                    }
                }
                verdicts
            }
            Err(ActionError::Retryable(reason)) => all(&|| Verdict::TryAgain(reason.clone())),
            Err(ActionError::Permanent(reason)) => all(&|| Verdict::Failed(reason.clone())),
        }
    }
}

const BAD_INDEX: &str = "the plugin reported a failure of a message that is not in the batch";

impl Rule {
    fn context(
        &self,
        index: u32,
        action: &ActionDefinition,
        is_error_action: bool,
    ) -> ActionContext {
        let (rule, params) = (self.name.clone(), action.params.clone());
        ActionContext { rule, action: index, params, is_error_action }
    }

    /// A message failed for good in one action.
    fn fail(&self, action: &ActionDefinition, error_lane: Option<&Lane>, job: &Job, reason: &str) {
        self.ports.metrics.actions_failed.increment();
        self.failed.increment();
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        if let Some(suppressed) = self.throttle.allow(&*self.ports.clock) {
            tracing::warn!(
                rule = %self.name,
                plugin = %action.plugin,
                topic = %job.message.topic,
                is_error_action = job.firing.is_none(),
                error = reason,
                suppressed,
                "rule action failed, message lost to it"
            );
        }
        if let Some(firing) = &job.firing {
            let mut failures = firing.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.push(failure(action.kind, &action.resource, &reason));
        }
        self.finish(error_lane, job);
    }

    /// One action is done with the message; the last one reports what failed in any of them.
    fn finish(&self, error_lane: Option<&Lane>, job: &Job) {
        let Some(firing) = &job.firing else { return };
        if firing.pending.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let mut failures = firing.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = std::mem::take(&mut *failures);
        if !failures.is_empty() {
            self.report(error_lane, &firing.original, &failures);
        }
    }

    /// Sends the failures to the error action, if there is one; they are logged already.
    fn report(
        &self,
        error_lane: Option<&Lane>,
        original: &Arc<Message>,
        failures: &[serde_json::Value],
    ) {
        let Some(lane) = error_lane else { return };
        let payload = self.error_message(original, failures).to_string();
        let message = Arc::new(Message { payload: payload.into(), ..Message::clone(original) });
        if let Err((job, reason)) = lane.send(Job { message, firing: None }) {
            self.fail(&lane.action, None, &job, reason);
        }
    }

    /// Source: AWS IoT developer guide, "Error handling (error action)", message format.
    fn error_message(
        &self,
        original: &Message,
        failures: &[serde_json::Value],
    ) -> serde_json::Value {
        let client_id = original.publisher.client_id.as_ref();
        serde_json::json!({
            "ruleName": self.name.as_str(),
            "topic": original.topic.as_str(),
            "cloudwatchTraceId": random::uuid(&*self.ports.random),
            "clientId": client_id.map_or("n/a", |client_id| client_id.as_str()),
            "base64OriginalPayload": STANDARD.encode(&original.payload),
            "failures": failures,
        })
    }
}

fn failure(action: &str, resource: &str, reason: &str) -> serde_json::Value {
    serde_json::json!({
        "failedAction": action,
        "failedResource": resource,
        "errorMessage": reason,
    })
}

#[cfg(test)]
mod tests;
