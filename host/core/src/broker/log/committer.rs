//! The only writer of the journal: takes what waits, commits it once, hands it on.
//!
//! In: entries of the log. Out: one record per group commit, messages into their queues, the new
//! position to whoever waits for it. No timer gathers entries: while one commit syncs the disk
//! the next batch gathers.

use super::live::{ITEM_BYTES, Live, Number, Use};
use super::recovery::{self, Recovered};
use super::spool::{self, Batch, Spool};
use super::{Entry, Log, Recipient, SessionNumber};
use crate::broker::queue::Queue;
use crate::broker::record::{self, MessageRecord, Op};
use crate::broker::{Broker, Delivery, Wakes};
use crate::message::Message;
use crate::storage::{Commit, Journal, Key, Position, StoreError};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Bytes after which a group commit takes no more entries, so that the first of a burst do not
/// wait for the last.
const BATCH_BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// Bytes of records that may be kept for nothing before what is in use is copied forward.
const SLACK_BYTES: usize = 16 * 1_024 * 1_024;

/// Bytes copied forward in one commit, so that none takes much longer than its neighbours.
const COPIED_BYTES_MAX: usize = 1_024 * 1_024;

/// Wait before the first attempt to write again after a failure; doubles up to
/// [`RETRY_DELAY_MAX`].
const RETRY_DELAY_MIN: Duration = Duration::from_millis(100);

/// Longest wait between two attempts to write again.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(10);

/// The only writer of the journal.
pub struct Committer {
    journal: Box<dyn Journal>,
    live: Live,
    /// Grows with every message; the order in which a session gets what was kept.
    next_sequence: u64,
    /// A batch that is applied and not known to be durable.
    pending: Option<Pending>,
    broker: Broker,
}

struct Pending {
    commit: Commit,
    position: Position,
    bytes: u64,
    deliveries: Vec<Recipient>,
    spools: Vec<(Arc<dyn Spool>, Vec<Bytes>)>,
    notify: Vec<Arc<Queue>>,
    /// The journal failed: whether it happened is to be found out first.
    is_doubtful: bool,
}

impl Committer {
    /// Opens the broker's log over what the journal has; the committer is to be run by the caller,
    /// on a thread of its own.
    ///
    /// # Errors
    /// The journal cannot be read, or has a record of another version.
    pub(in crate::broker) fn open(
        journal: Box<dyn Journal>,
        broker: Broker,
    ) -> Result<(Self, Recovered), Box<dyn Error + Send + Sync>> {
        let (live, next_sequence, recovered) = recovery::read(&*journal)?;
        Ok((Self { journal, live, next_sequence, pending: None, broker }, recovered))
    }

    fn log(&self) -> &Log {
        self.broker.log()
    }

    /// Works until the log is closed.
    pub fn run(mut self) {
        let mut delay = RETRY_DELAY_MIN;
        while self.wait_for_work() {
            match self.commit_waiting() {
                Ok(_) => {
                    if delay > RETRY_DELAY_MIN {
                        tracing::info!("message log works again");
                    }
                    delay = RETRY_DELAY_MIN;
                }
                Err(error) => {
                    if delay == RETRY_DELAY_MIN {
                        tracing::error!(%error, "message log failed, nothing durable is acknowledged");
                    }
                    if !self.pause(delay) {
                        tracing::error!("message log closed while its journal fails");
                        return;
                    }
                    delay = (delay * 2).min(RETRY_DELAY_MAX);
                }
            }
        }
    }

    /// Blocks until there is something to commit; false when the log is closed and all is done.
    fn wait_for_work(&self) -> bool {
        if self.pending.is_some() {
            return true;
        }
        let waiting = self.log().waiting();
        let has_work =
            |waiting: &super::Waiting| !waiting.entries.is_empty() || !waiting.reads.is_empty();
        let idle = |waiting: &mut super::Waiting| !has_work(waiting) && !waiting.is_closed;
        let waiting = self.log().0.work.wait_while(waiting, idle);
        has_work(&waiting.unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits before another attempt; false when the log was closed.
    fn pause(&self, delay: Duration) -> bool {
        let open = |waiting: &mut super::Waiting| !waiting.is_closed;
        let waited = self.log().0.work.wait_timeout_while(self.log().waiting(), delay, open);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_closed
    }

    /// Commits what waits, once; false when nothing did.
    ///
    /// # Errors
    /// The journal fails. What was taken is tried again by the next call.
    pub fn commit_waiting(&mut self) -> Result<bool, StoreError> {
        if self.pending.is_none() {
            self.pending = self.gather();
        }
        let Some(pending) = &mut self.pending else { return Ok(self.read_spools()) };
        let is_done = pending.is_doubtful && self.journal.recover()? >= pending.commit.number;
        if !is_done {
            pending.is_doubtful = true;
            self.journal.commit(&pending.commit)?;
        }
        if let Some(pending) = self.pending.take() {
            self.hand_on(pending);
        }
        self.read_spools();
        Ok(true)
    }

    /// Reads what spools have asked for; false when none has.
    fn read_spools(&self) -> bool {
        let reads = std::mem::take(&mut self.log().waiting().reads);
        let is_any = !reads.is_empty();
        for (spool, after) in reads {
            let (prefix, after) = (spool::prefix(spool.name()), spool::key(spool.name(), after));
            let page = self.journal.documents(&prefix, Some(&after), spool::PAGE);
            spool.read(page.map(|page| {
                page.into_iter().filter_map(|(key, bytes)| read_batch(&key, bytes)).collect()
            }));
        }
        is_any
    }

    /// Takes what waits and writes its record, in memory.
    fn gather(&mut self) -> Option<Pending> {
        let mut batch = Vec::new();
        let (bytes, position) = {
            let mut waiting = self.log().waiting();
            let mut bytes = 0;
            while bytes < BATCH_BYTES_MAX
                && let Some(entry) = waiting.entries.pop_front()
            {
                bytes += entry.bytes();
                batch.push(entry);
            }
            (bytes as u64, Position(waiting.last.0 - waiting.entries.len() as u64))
        };
        if batch.is_empty() {
            return None;
        }
        let number = self.journal.last() + 1;
        let mut pending = Pending {
            commit: Commit { number, ..Commit::default() },
            position,
            bytes,
            deliveries: Vec::new(),
            spools: Vec::new(),
            notify: Vec::new(),
            is_doubtful: false,
        };
        self.live.begin(number);
        let mut record = record::begin();
        let empty = record.len();
        let mut retained = HashSet::new();
        let mut places = HashMap::new();
        for mut entry in batch {
            retained.extend(std::mem::take(&mut entry.retained));
            for spooled in std::mem::take(&mut entry.spooled) {
                let place = *places.entry(spooled.spool.name().to_owned()).or_insert_with(|| {
                    pending.spools.push((spooled.spool, Vec::new()));
                    pending.spools.len() - 1
                });
                pending.spools[place].1.push(spooled.record);
            }
            self.apply(entry, &mut record, &mut pending);
        }
        for (spool, records) in &pending.spools {
            let document = (spool::key(spool.name(), number), Some(spool::encode(records)));
            pending.commit.documents.push(document);
        }
        let documents = retained.iter().map(|topic| self.broker.0.retained.document(topic));
        pending.commit.documents.extend(documents);
        self.copy_forward(&mut record);
        self.live.end(record.len());
        pending.commit.trim_below = self.live.trim();
        // Not when it tells nothing but the end of what is trimmed with it.
        if record.len() > empty && pending.commit.trim_below <= number {
            pending.commit.record = Some(record.into());
        }
        Some(pending)
    }

    fn apply(&mut self, mut entry: Entry, record: &mut Vec<u8>, pending: &mut Pending) {
        self.redirect(&mut entry.recipients);
        if let Some(event) = entry.event {
            self.live.apply(event);
            record::append(record, &event.into());
        }
        if let Some(first) = entry.recipients.first() {
            let message = &*first.delivery.message;
            self.append_message(message, record);
            let share = MessageRecord::from(message).share();
            for mut recipient in entry.recipients {
                let id = self.live.take_packet_id(recipient.session, share);
                let op = Op::of_recipient(recipient.session, id, &recipient.delivery);
                record::append(record, &op);
                recipient.delivery.packet_id = Some(id);
                pending.deliveries.push(recipient);
            }
        }
        pending.commit.documents.extend(entry.documents);
        if let Some(queue) = entry.notify
            && pending.notify.last().is_none_or(|last| !Arc::ptr_eq(last, &queue))
        {
            pending.notify.push(queue);
        }
    }

    /// What is for sessions that have ended goes to other members of the groups by which it came,
    /// or to nobody: it would keep a session that nobody will end.
    fn redirect(&self, recipients: &mut Vec<Recipient>) {
        if recipients.iter().any(|recipient| recipient.queue.is_ended()) {
            let (ended, mut kept): (Vec<_>, Vec<_>) =
                std::mem::take(recipients).into_iter().partition(|it| it.queue.is_ended());
            for Recipient { queue, delivery, .. } in ended {
                self.hand_on_late(delivery, &queue, &mut kept);
            }
            *recipients = kept;
        }
    }

    /// Gives a message to another member of its group: the session that it is for has ended while
    /// it was on its way.
    fn hand_on_late(&self, delivery: Delivery, from: &Queue, recipients: &mut Vec<Recipient>) {
        let is_shared = delivery.share.is_some();
        let handed_on = self.broker.hand_on(delivery, from, &mut Wakes::default(), recipients);
        if is_shared && handed_on.is_err() {
            self.broker.0.metrics.messages_dropped.increment();
        }
    }

    fn append_message(&mut self, message: &Message, record: &mut Vec<u8>) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        record::append(record, &Op::Message { sequence, message: message.into() });
    }

    /// Copies what is in use out of old records when they hold little else. What cannot be read
    /// stays where it is.
    fn copy_forward(&mut self, record: &mut Vec<u8>) {
        let start = record.len();
        while record.len() - start < COPIED_BYTES_MAX
            && let Some(oldest) = self.live.oldest_worth_copying(SLACK_BYTES)
        {
            let read = self.journal.records(oldest, 1);
            let Some((number, bytes)) = read.ok().and_then(|mut records| records.pop()) else {
                return;
            };
            if let Err(error) = copy_live(&mut self.live, number, &bytes, record) {
                // Written by this host or read at its start: the file is damaged.
                return tracing::error!(%error, "message log cannot be compacted");
            }
            self.live.trim();
        }
    }

    /// Tells everyone that the batch is durable.
    fn hand_on(&mut self, pending: Pending) {
        let Pending { commit, position, bytes, deliveries, spools, notify, .. } = pending;
        for (spool, records) in spools {
            spool.durable(Batch { number: commit.number, records });
        }
        self.broker.0.metrics.log_commits.increment();
        self.broker.0.metrics.log_messages.add(deliveries.len() as u64);
        let mut wakes = Wakes::default();
        for Recipient { queue, delivery, .. } in deliveries {
            if let Err(late) = queue.push_durable(delivery, &mut wakes) {
                let mut recipients = Vec::new();
                self.hand_on_late(late, &queue, &mut recipients);
                if !recipients.is_empty() {
                    self.log().append(Entry { recipients, ..Entry::default() });
                }
            }
        }
        let shared = &self.log().0;
        shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
        shared.committed_now.store(position.0, Ordering::Release);
        shared.progress.send_modify(|it| it.committed = position);
        for queue in notify {
            queue.durable(position, &mut wakes);
        }
    }
}

/// A batch that is damaged is told, and comes without records, so that what is behind it comes.
fn read_batch(key: &Key, bytes: Bytes) -> Option<Batch> {
    let (_, number) = spool::parse_key(key)?;
    let records = spool::decode(bytes).unwrap_or_else(|error| {
        tracing::error!(?key, error, "spooled batch cannot be read");
        Vec::new()
    });
    Some(Batch { number, records })
}

fn copy_live(
    live: &mut Live,
    number: Number,
    bytes: &[u8],
    record: &mut Vec<u8>,
) -> Result<(), record::RecordError> {
    let mut message = None;
    let mut share = ITEM_BYTES;
    record::read_record(number, bytes, |op| {
        let (session, of, id) = match op {
            Op::Message { message: ref record, .. } => {
                share = record.share();
                message = Some(op);
                return Ok(());
            }
            Op::For { session, packet_id, .. } => (session, Use::Message, packet_id),
            Op::Released(session, id) => (session, Use::Released, id),
            Op::Taken(session, id) => (session, Use::Incoming, id),
            Op::Completed(..) | Op::Acknowledged(..) | Op::Ended(_) => return Ok(()),
        };
        let session = SessionNumber(session);
        if !live.stands_in(number, session, of, id) {
            return Ok(());
        }
        let bytes = if of == Use::Message { share } else { ITEM_BYTES };
        // Once for all its receivers.
        if let Some(message) = message.take_if(|_| of == Use::Message) {
            record::append(record, &message);
        }
        record::append(record, &op);
        live.insert(session, of, id, bytes);
        Ok(())
    })
}

/// Nobody waits for a committer that is no more.
impl Drop for Committer {
    fn drop(&mut self) {
        self.log().0.progress.send_modify(|it| it.is_over = true);
    }
}

/// For tests and logs.
impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer").field("last", &self.journal.last()).finish_non_exhaustive()
    }
}
