//! The order of shadow requests: one after the other for each shadow, all shadows at once.
//!
//! In: [`Job`]s of the service. Out: running [`Handler::handle`]s; those that wait for the store
//! share its group commits. Bound: what may be on its way altogether is the service's; what may
//! wait for one shadow is [`WAITING_PER_SHADOW_MAX`].

use super::handler::{Handler, Job};
use super::{ShadowError, ShadowId};
use crate::broker::Wakes;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};

/// Requests that wait while another of the same shadow is carried out; the next is rejected with
/// 429, so that one busy shadow cannot use up the room of all.
///
/// AWS rejects the eleventh of one connection; here several applications and the device share.
pub(super) const WAITING_PER_SHADOW_MAX: usize = 100;

pub(super) struct Worker {
    handler: Arc<Handler>,
    jobs: mpsc::Receiver<Job>,
    stop: oneshot::Receiver<()>,
    running: JoinSet<ShadowId>,
    busy: HashMap<ShadowId, Busy>,
}

/// A shadow with a request that is being carried out.
struct Busy {
    task: Id,
    waiting: VecDeque<Job>,
}

impl Worker {
    pub(super) fn new(
        handler: Arc<Handler>,
        jobs: mpsc::Receiver<Job>,
        stop: oneshot::Receiver<()>,
    ) -> Self {
        Self { handler, jobs, stop, running: JoinSet::new(), busy: HashMap::new() }
    }

    /// Works until told to stop, then carries out what it has taken on.
    pub(super) async fn run(mut self) {
        let mut is_stopping = false;
        let mut is_open = true;
        loop {
            tokio::select! {
                biased; // Stop and those who wait come before new requests.
                // Also when the service was dropped. What is in the queue is still received.
                _ = &mut self.stop, if !is_stopping => {
                    is_stopping = true;
                    self.jobs.close();
                }
                // Cancel-safe, as is the next.
                Some(done) = self.running.join_next_with_id() => self.finished(done),
                job = self.jobs.recv(), if is_open => match job {
                    Some(job) => self.take(job),
                    None => is_open = false,
                },
                else => return,
            }
        }
    }

    fn take(&mut self, job: Job) {
        match self.busy.get_mut(&job.id) {
            None => self.start(job, VecDeque::new()),
            Some(busy) if busy.waiting.len() < WAITING_PER_SHADOW_MAX => {
                busy.waiting.push_back(job);
            }
            Some(_) => {
                let error = ShadowError::TooManyRequests;
                self.handler.turn_away(job.origin, &job.payload, &error, &mut Wakes::default());
            }
        }
    }

    fn start(&mut self, job: Job, waiting: VecDeque<Job>) {
        let (handler, id) = (self.handler.clone(), job.id.clone());
        let task = self.running.spawn(async move {
            let id = job.id.clone();
            handler.handle(job).await;
            id
        });
        self.busy.insert(id, Busy { task: task.id(), waiting });
    }

    /// Lets the next request of the same shadow go on.
    fn finished(&mut self, done: Result<(Id, ShadowId), JoinError>) {
        let id = match done {
            Ok((_, id)) => Some(id),
            Err(error) => {
                tracing::error!(%error, "shadow request panicked");
                let panicked = self.busy.iter().find(|(_, busy)| busy.task == error.id());
                panicked.map(|(id, _)| id.clone())
            }
        };
        if let Some(mut busy) = id.and_then(|id| self.busy.remove(&id))
            && let Some(next) = busy.waiting.pop_front()
        {
            self.start(next, busy.waiting);
        }
    }
}
