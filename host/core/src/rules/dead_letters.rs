//! Dead letters: messages that failed for good and that no error action took.
//!
//! In: letters in the log's entries. Out: pages of them for the operator, who looks at them, has
//! them tried again or drops them. They are on disk only.
//! Bound: `Limits::dead_letters`, `dead_letter_bytes`; what is beyond them is lost, and counted.

use super::job::{Job, Letter, Part};
use super::runner::Runner;
use super::{Engine, RuleError};
use crate::broker::log::{Batch, Entry, Log, Spool, SpoolSize, Spooled, removal};
use crate::ids::RuleName;
use crate::limits::Limits;
use crate::message::Message;
use crate::storage::StoreError;
use crate::time::Timestamp;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// A message that failed for good.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Names it until it is gone: grows with time.
    pub id: String,
    /// What of the rule failed.
    pub part: Part,
    /// When it failed for good.
    pub failed_at: Timestamp,
    /// Why, for the operator.
    pub reason: String,
    /// The message as it was published.
    pub message: Arc<Message>,
    /// What SELECT made of it; `None` when it could not be evaluated.
    pub result: Option<Bytes>,
}

pub(super) struct DeadLetters {
    name: String,
    log: Log,
    letters_max: u64,
    bytes_max: u64,
    letters: AtomicU64,
    bytes: AtomicU64,
    /// Who waits for a page, in the order of asking.
    readers: Mutex<Readers>,
    /// Held by whoever takes letters, so that none is taken twice.
    pub taking: tokio::sync::Mutex<()>,
}

type Readers = VecDeque<oneshot::Sender<Result<Vec<Batch>, StoreError>>>;

impl DeadLetters {
    pub fn new(name: String, log: Log, limits: &Limits, size: SpoolSize) -> Arc<Self> {
        Arc::new(Self {
            name,
            log,
            letters_max: limits.dead_letters.into(),
            bytes_max: limits.dead_letter_bytes,
            letters: size.records.into(),
            bytes: size.bytes.into(),
            readers: Mutex::default(),
            taking: tokio::sync::Mutex::default(),
        })
    }

    /// The name of its spool.
    pub fn spool_name(&self) -> &str {
        &self.name
    }

    /// Letters that are there.
    pub fn waiting(&self) -> u64 {
        self.letters.load(Ordering::Relaxed)
    }

    /// Takes room for a letter; `None` when there is none. The caller puts it into the log.
    pub fn spool(self: &Arc<Self>, letter: &Letter) -> Option<Spooled> {
        let record = letter.encode();
        let len = record.len() as u64;
        let letters = self.letters.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(len, Ordering::Relaxed);
        if letters >= self.letters_max || bytes + len > self.bytes_max || self.log.is_full() {
            self.forget(1, len);
            return None;
        }
        Some(Spooled { spool: self.clone(), record })
    }

    /// Some batches behind the one with this number; none at the end.
    async fn page(self: &Arc<Self>, after: u64) -> Result<Vec<Batch>, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.readers().push_back(answer);
        self.log.read_spool(self.clone(), after);
        answered.await.unwrap_or_else(|error| Err(StoreError::Unavailable(Arc::new(error))))
    }

    /// All batches that can be read. What fails again meanwhile is not among them.
    async fn all(self: &Arc<Self>) -> Result<Vec<Batch>, RuleError> {
        let mut batches = Vec::new();
        let mut behind = 0;
        loop {
            let page = self.page(behind).await.map_err(RuleError::Store)?;
            let Some(last) = page.last() else { return Ok(batches) };
            behind = last.number;
            batches.extend(page.into_iter().filter(|batch| !batch.records.is_empty()));
        }
    }

    /// A letter that stays, in another batch.
    fn keep(self: &Arc<Self>, record: Bytes) -> Spooled {
        self.letters.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(record.len() as u64, Ordering::Relaxed);
        Spooled { spool: self.clone(), record }
    }

    /// Letters are gone.
    pub fn forget(&self, letters: u64, bytes: u64) {
        self.letters.fetch_sub(letters, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeadLetter {
    pub(super) fn read(batch: u64, index: usize, record: &[u8]) -> Result<Self, String> {
        let Letter { part, failed_at, reason, job } = Letter::decode(record)?;
        let Job { original, result, .. } = Job::decode(&job)?;
        let id = format!("{batch}-{index}");
        Ok(Self { id, part, failed_at, reason, message: original, result })
    }
}

impl Engine {
    /// At most `limit` dead letters of a rule behind the one with the id `after`, oldest first.
    ///
    /// # Errors
    /// [`RuleError::NotFound`], [`RuleError::Store`], or an id that is none.
    pub async fn dead_letters(
        &self,
        name: &RuleName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, RuleError> {
        let runner = self.0.runner(name)?;
        let after = after.map(letter_id).transpose()?;
        // The batch of the last one may have more.
        let mut behind = after.map_or(0, |(batch, _)| batch.saturating_sub(1));
        let mut letters = Vec::new();
        loop {
            let page = runner.lanes.dead.page(behind).await.map_err(RuleError::Store)?;
            let Some(last) = page.last() else { return Ok(letters) };
            behind = last.number;
            for batch in &page {
                for (index, record) in batch.records.iter().enumerate() {
                    if after.is_some_and(|after| (batch.number, index) <= after) {
                        continue;
                    }
                    if letters.len() == limit {
                        return Ok(letters);
                    }
                    match DeadLetter::read(batch.number, index, record) {
                        Ok(letter) => letters.push(letter),
                        Err(error) => tracing::error!(rule = %name, error, "damaged dead letter"),
                    }
                }
            }
        }
    }

    /// Has all dead letters of a rule tried again by what they failed in; returns how many.
    ///
    /// # Errors
    /// As for [`Engine::dead_letters`]; [`RuleError::Replay`] when some cannot be: there is no room, or
    /// the action is gone. Those stay.
    pub async fn replay_dead_letters(&self, name: &RuleName) -> Result<u64, RuleError> {
        let runner = self.0.runner(name)?;
        let _alone = runner.lanes.dead.taking.lock().await;
        let (mut taken, mut left, mut why) = (0, 0, None);
        for batch in runner.lanes.dead.all().await? {
            let (mut spooled, mut kept) = (Vec::new(), Vec::new());
            for record in &batch.records {
                match runner.replayed(record) {
                    Ok(record) => spooled.push(record),
                    Err(reason) => {
                        kept.push(record.clone());
                        why = Some(reason);
                    }
                }
            }
            left += kept.len() as u64;
            if spooled.is_empty() {
                continue;
            }
            taken += spooled.len() as u64;
            let kept = kept.into_iter().map(|record| runner.lanes.dead.keep(record));
            spooled.extend(kept);
            runner.replace_letters(&batch, spooled).await?;
        }
        match why {
            Some(reason) => Err(RuleError::Replay { taken, left, reason }),
            None => Ok(taken),
        }
    }

    /// Removes all dead letters of a rule; returns how many.
    ///
    /// # Errors
    /// As for [`Engine::dead_letters`].
    pub async fn delete_dead_letters(&self, name: &RuleName) -> Result<u64, RuleError> {
        let runner = self.0.runner(name)?;
        let _alone = runner.lanes.dead.taking.lock().await;
        let mut taken = 0;
        for batch in runner.lanes.dead.all().await? {
            taken += batch.records.len() as u64;
            runner.replace_letters(&batch, Vec::new()).await?;
        }
        Ok(taken)
    }
}

impl Runner {
    /// Removes a batch of letters, and puts something in its place in the same commit: what is in it is
    /// neither lost nor there twice.
    async fn replace_letters(&self, batch: &Batch, spooled: Vec<Spooled>) -> Result<(), RuleError> {
        let dead = &self.lanes.dead;
        let documents = vec![removal(dead.spool_name(), batch.number)];
        let log = self.ports.broker.log();
        let position = log.append(Entry { spooled, documents, ..Entry::default() });
        let bytes = batch.records.iter().map(|record| record.len() as u64).sum();
        dead.forget(batch.records.len() as u64, bytes);
        if log.wait(position).await { Ok(()) } else { Err(RuleError::Stopped) }
    }

    /// A dead letter as a record for the lane that it failed in.
    fn replayed(&self, record: &[u8]) -> Result<Spooled, String> {
        let Letter { part, job, .. } = Letter::decode(record)?;
        // It has its time once more.
        let job = Job { since: self.ports.clock.wall(), ..Job::decode(&job)? };
        let lane = match part {
            Part::Action(index) => self.lanes.action(index),
            Part::Error => Some(self.lanes.error.clone()),
            Part::Evaluation => Some(self.lanes.evaluation.clone()),
        };
        let is_there = part == Part::Evaluation || self.program().step(part).is_some();
        let lane = lane.filter(|_| is_there);
        let lane = lane.ok_or_else(|| format!("the rule has no {part} any more"))?;
        lane.spool(job.encode()).map_err(str::to_owned)
    }
}

/// `BATCH-INDEX`
fn letter_id(text: &str) -> Result<(u64, usize), RuleError> {
    let parsed = text
        .split_once('-')
        .and_then(|(batch, index)| Some((batch.parse().ok()?, index.parse().ok()?)));
    parsed.ok_or_else(|| RuleError::Invalid(format!("{text:.40} is no id of a dead letter")))
}

impl Spool for DeadLetters {
    fn name(&self) -> &str {
        &self.name
    }

    fn durable(&self, _: Batch) {}

    fn read(&self, page: Result<Vec<Batch>, StoreError>) {
        if let Some(reader) = self.readers().pop_front() {
            // A reader that went away does not want the page.
            let _ = reader.send(page);
        }
    }
}
