//! The order of shadow requests: one after the other for each shadow, all shadows at once.
//!
//! In: [`Job`]s of the service. Out: running [`Handler::handle`]s; those that wait for the store
//! share its group commits. Bounds: what may be on its way altogether is the service's; what may
//! wait for one shadow is [`WAITING_PER_SHADOW_MAX`], of one client
//! `Limits::shadow_inflight_requests`.

use super::handler::{Handler, Job};
use super::{ShadowError, ShadowId};
use crate::broker::Wakes;
use crate::ids::ClientId;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};

/// Requests that wait while another of the same shadow is carried out; the next is rejected with
/// 429, so that one busy shadow cannot use up the room of all. Several applications and the device
/// share it.
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
    /// Who asked for what is carried out.
    client: Option<ClientId>,
    waiting: VecDeque<Job>,
}

impl Busy {
    fn has_room(&self, job: &Job, of_client_max: u32) -> bool {
        if self.waiting.len() >= WAITING_PER_SHADOW_MAX {
            return false;
        }
        let Some(client) = job.origin.client() else { return true };
        let waiting = self.waiting.iter().map(|job| job.origin.client());
        let all = waiting.chain([self.client.as_ref()]);
        all.filter(|it| *it == Some(client)).count() < of_client_max as usize
    }
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
            Some(busy) if busy.has_room(&job, self.handler.limits.shadow_inflight_requests) => {
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
        let client = job.origin.client().cloned();
        let task = self.running.spawn(async move {
            let id = job.id.clone();
            handler.handle(job).await;
            id
        });
        self.busy.insert(id, Busy { task: task.id(), client, waiting });
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
