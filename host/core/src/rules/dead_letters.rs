//! Dead letters: messages that failed for good and that no error action took.
//!
//! In: letters in the log's entries. Out: pages of them for the operator, who looks at them, has
//! them tried again or drops them. They are on disk only.
//! Bound: `Limits::dead_letters`, `dead_letter_bytes`; what is beyond them is lost, and counted.

use super::job::{Job, Letter, Part};
use crate::broker::log::{Batch, Log, Spool, SpoolSize, Spooled};
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
    pub async fn page(self: &Arc<Self>, after: u64) -> Result<Vec<Batch>, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.readers().push_back(answer);
        self.log.read_spool(self.clone(), after);
        answered.await.unwrap_or_else(|error| Err(StoreError::Unavailable(Arc::new(error))))
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
