//! The task of a lane: calls the action, again and again if need be.
//!
//! In: jobs from a lane. Out: calls, and in one entry of the log the removal of what is done
//! together with what follows from what failed.
//! A call in which nothing succeeded says that the target is away: it is repeated with growing
//! pauses for as long as `Limits::action_retry_s` allows, and what comes later waits, so that the
//! action gets its messages in their order. An action that asks for several calls at a time gets
//! those of each client in their order. A message that fails beside others that succeed, and
//! one on which the plugin crashes, is tried [`TRIES_MAX`] times.

use super::job::{Job, Part};
use super::lane::{Lane, Taken};
use super::runner::Runner;
use super::sql::Answers;
use crate::actions::definition::Target;
use crate::actions::{ActionContext, ActionError};
use crate::broker::{Kept, Wakes};
use crate::ids::ClientId;
use crate::time::Timestamp;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Messages that an action gets in one call.
pub const BATCH_MESSAGES_MAX: usize = 100;

/// Bytes of records after which a call takes no further message.
pub const BATCH_BYTES_MAX: usize = 1_024 * 1_024;

/// Calls about a message that fails by itself.
pub const TRIES_MAX: u32 = 5;

/// Pause after the first call that failed; doubled after each further one.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// Longest pause between two calls.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

pub(super) struct Worker {
    pub runner: Arc<Runner>,
    pub lane: Arc<Lane>,
    pub part: Part,
    pub stop: watch::Receiver<bool>,
}

/// A job that was taken.
struct Pending {
    taken: Taken,
    job: Job,
    tries: u32,
}

/// What a call made of one message.
enum Verdict {
    Done,
    Failed(String),
    /// Trying again may help.
    Again(String),
    /// The plugin crashed on it, or on another one of the batch.
    Crashed(String),
}

impl Worker {
    /// Until the rule is deleted or the host stops.
    pub async fn run(mut self) {
        loop {
            let parallel = self.parallel();
            let taken = tokio::select! {
                biased; // Stop must win over a long queue.
                // Fails when the rule is gone.
                _ = self.stop.wait_for(|stop| *stop) => return,
                // Cancel-safe.
                taken = self.lane.take(BATCH_MESSAGES_MAX * parallel, BATCH_BYTES_MAX * parallel) =>
                    taken,
            };
            let mut parts: Vec<Vec<Pending>> = (0..parallel).map(|_| Vec::new()).collect();
            for taken in taken {
                match Job::decode(&taken.record) {
                    Ok(job) => {
                        let client_id = job.original.publisher.client_id.as_ref();
                        let part = part_of(client_id, parallel);
                        parts[part].push(Pending { taken, job, tries: 0 });
                    }
                    Err(error) => {
                        // Written by this host: the file is damaged. Nothing can be made of it.
                        let rule = &self.runner.name;
                        tracing::error!(%rule, error, "a waiting message is damaged and lost");
                        self.finish(Kept::default(), [&taken]);
                    }
                }
            }
            if self.part == Part::Evaluation {
                for pending in parts.into_iter().flatten() {
                    self.evaluate(pending).await;
                }
            } else if join_all(parts.into_iter().map(|part| self.call_all(part, parallel)))
                .await
                .contains(&false)
            {
                return;
            }
        }
    }

    /// Calls at the same time.
    fn parallel(&self) -> usize {
        self.runner.program().step(self.part).map_or(1, |step| step.definition.parallel)
    }

    /// Asks the host what the statement needs, then does what follows.
    async fn evaluate(&self, Pending { taken, job, .. }: Pending) {
        let mut answers = Answers::default();
        let kept = loop {
            // Woken before anything is waited for.
            let outcome = self.runner.run(&job.original, &answers, &mut Wakes::default());
            match outcome {
                Ok(kept) => break kept,
                Err(call) => {
                    let answer = self.runner.ports.functions.call(&call).await;
                    answers.add(*call, answer);
                }
            }
        };
        self.finish(kept, [&taken]);
    }

    /// Calls the action for all of them, those with equal parameters together; false when the
    /// host stops meanwhile.
    async fn call_all(&self, batch: Vec<Pending>, parallel: usize) -> bool {
        let mut rest = batch.into_iter().peekable();
        while let Some(first) = rest.next() {
            let params = first.job.params.clone();
            let mut bytes = first.taken.record.len();
            let mut group = vec![first];
            while let Some(next) = rest.next_if(|next| {
                let has_room = group.len() < BATCH_MESSAGES_MAX && bytes < BATCH_BYTES_MAX;
                has_room && next.job.params == params
            }) {
                bytes += next.taken.record.len();
                group.push(next);
            }
            if !self.call(group, parallel).await {
                return false;
            }
        }
        true
    }

    /// Calls the action until every message of the group is done or has failed for good.
    async fn call(&self, mut group: Vec<Pending>, parallel: usize) -> bool {
        let mut stop = self.stop.clone();
        let mut pause = BACKOFF_FIRST;
        // After a crash one by one, so that one message does not take others with it.
        let mut size = group.len();
        while !group.is_empty() {
            let calling = size.min(group.len());
            let later = group.split_off(calling);
            let verdicts = self.try_once(&group, parallel).await;
            let is_away = verdicts.iter().all(|it| matches!(it, Verdict::Again(_)));
            let has_crashed = verdicts.iter().any(|it| matches!(it, Verdict::Crashed(_)));
            let again = self.settle(group, verdicts, is_away);
            let must_pause = !again.is_empty();
            group = again;
            group.extend(later);
            if has_crashed {
                size = 1;
            }
            if !must_pause {
                pause = BACKOFF_FIRST;
                continue;
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return false,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(BACKOFF_MAX);
        }
        true
    }

    /// Takes the verdicts on board; returns what is to be tried again.
    fn settle(&self, group: Vec<Pending>, verdicts: Vec<Verdict>, is_away: bool) -> Vec<Pending> {
        let Runner { ports, counters, .. } = &*self.runner;
        let program = self.runner.program();
        let now = ports.clock.wall();
        let retry_ms = u64::from(ports.limits.action_retry_s) * 1_000;
        let calls = group.len();
        let mut kept = Kept::default();
        let mut wakes = Wakes::default();
        let mut done = Vec::new();
        let mut again = Vec::new();
        for (mut pending, verdict) in group.into_iter().zip(verdicts) {
            let ms_since = |then: Timestamp| now.as_millis().saturating_sub(then.as_millis());
            // When a whole batch crashed it is not known which message it was.
            let is_own = match &verdict {
                Verdict::Again(_) => !is_away,
                Verdict::Crashed(_) => calls == 1,
                _ => false,
            };
            pending.tries += u32::from(is_own);
            let is_over = ms_since(pending.job.since) > retry_ms || pending.tries >= TRIES_MAX;
            match verdict {
                Verdict::Done => {
                    ports.metrics.actions_succeeded.increment();
                    counters.succeeded.increment();
                    counters.latency_ms.add(ms_since(pending.job.original.received_at));
                    done.push(pending.taken);
                }
                Verdict::Again(reason) | Verdict::Crashed(reason) if !is_over => {
                    ports.metrics.actions_retried.increment();
                    counters.retried.increment();
                    self.runner.tell(
                        self.part,
                        &pending.job,
                        &reason,
                        "rule action failed, trying again",
                    );
                    again.push(pending);
                }
                Verdict::Failed(reason) | Verdict::Again(reason) | Verdict::Crashed(reason) => {
                    let Pending { job, taken, .. } = pending;
                    self.runner.fail(&program, self.part, &job, &reason, &mut kept, &mut wakes);
                    done.push(taken);
                }
            }
        }
        self.finish(kept, &done);
        again
    }

    fn finish<'a>(&self, kept: Kept, done: impl IntoIterator<Item = &'a Taken>) {
        let finished = self.lane.done(done);
        self.runner.finish(self.lane.spool_name(), kept, finished);
    }

    /// One verdict per job; `parallel` is how many calls there may be beside each other.
    async fn try_once(&self, group: &[Pending], parallel: usize) -> Vec<Verdict> {
        let all = |verdict: &dyn Fn() -> Verdict| group.iter().map(|_| verdict()).collect();
        let program = self.runner.program();
        let Some(step) = program.step(self.part) else {
            return all(&|| Verdict::Failed("the rule has no such action any more".to_owned()));
        };
        if parallel > step.definition.parallel {
            return all(&|| Verdict::Failed(NEEDS_ORDER.to_owned()));
        }
        let Some(action) = self.runner.ports.actions.find(&step.definition.target) else {
            return all(&|| match &step.definition.target {
                Target::Plugin(plugin) => Verdict::Again(format!("no plugin {plugin} is loaded")),
                _ => Verdict::Failed("the rule has no such action any more".to_owned()),
            });
        };
        let own = group.first().and_then(|first| first.job.params.clone());
        let context = ActionContext {
            rule: self.runner.name.clone(),
            action: if let Part::Action(index) = self.part { index } else { 0 },
            params: own.unwrap_or_else(|| step.params.text().clone()),
            is_error_action: self.part == Part::Error,
            lane: self.lane.spool_name().into(),
            positions: group.iter().map(|pending| pending.taken.position).collect(),
        };
        let messages: Vec<_> = group.iter().map(|pending| pending.job.message()).collect();
        match action.invoke(&context, &messages).await {
            Ok(failures) => {
                let mut verdicts: Vec<_> = all(&|| Verdict::Done);
                for failure in failures {
                    let verdict = match failure.retryable {
                        true => Verdict::Again(failure.reason),
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
            Err(ActionError::Retryable(reason)) => all(&|| Verdict::Again(reason.clone())),
            Err(ActionError::Crashed(reason)) => all(&|| Verdict::Crashed(reason.clone())),
            Err(ActionError::Permanent(reason)) => all(&|| Verdict::Failed(reason.clone())),
        }
    }
}

/// One of so many parts, the same for all messages of a client.
fn part_of(client: Option<&ClientId>, parts: usize) -> usize {
    // The keys are fixed: it does not matter which client is with which.
    let hash = ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(client.map(ClientId::as_str));
    usize::try_from(hash % parts as u64).unwrap_or(0)
}

/// What is under way is beside others already, out of their order.
const NEEDS_ORDER: &str =
    "the action was replaced meanwhile by one that needs its messages in order; replay this one";

const BAD_INDEX: &str = "the plugin reported a failure of a message that is not in the batch";
