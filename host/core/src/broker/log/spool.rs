//! Spools: queues whose readers may be away for hours, so that they live on disk and not in memory.
//!
//! In: records in an [`Entry`](super::Entry), for one spool or several. Out: per group commit and
//! spool one batch, as a document of its own, so that a backlog costs nothing but its bytes; the
//! batch is handed to the spool when it is durable ([`Spool::durable`]). A reader that did not
//! keep it asks for it later (`Log::read_spool`). When a batch is done its document is
//! removed ([`removal`]).
//! Not here: what a record means, and how many there may be (the spool's owner).

use crate::storage::{Key, StoreError};
use bytes::{Buf, BufMut, Bytes};
use std::sync::Arc;

/// Kind of the keys of batches.
pub(super) const KIND: &str = "spool";

/// The first byte of a batch.
const VERSION: u8 = 1;

/// Batches read at once; each has at most the bytes of a group commit.
pub(super) const PAGE: usize = 8;

/// Records that became durable together, and their number: it grows over the life of the journal.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Number of the commit.
    pub number: u64,
    /// In the order in which they were appended; none when the batch is damaged.
    pub records: Vec<Bytes>,
}

/// The reading end of a spool. Both calls come from the committer's thread, one after the other,
/// in the order of the log, and must not block.
pub trait Spool: Send + Sync + 'static {
    /// The spool's name; unique, and never one that begins another.
    fn name(&self) -> &str;

    /// A batch is durable.
    fn durable(&self, batch: Batch);

    /// What [`super::Log::read_spool`] asked for; an empty page is the end of what is there.
    fn read(&self, page: Result<Vec<Batch>, StoreError>);
}

/// A record on its way to a spool.
#[derive(Clone)]
pub struct Spooled {
    /// Whose.
    pub spool: Arc<dyn Spool>,
    /// What.
    pub record: Bytes,
}

impl std::fmt::Debug for Spooled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes for {}", self.record.len(), self.spool.name())
    }
}

/// What a spool had when the host started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolSize {
    /// Records.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The change that removes a batch that is done.
pub fn removal(name: &str, number: u64) -> (Key, Option<Bytes>) {
    (key(name, number), None)
}

pub(super) fn prefix(name: &str) -> Key {
    Key::prefix(&format!("{KIND}/{name}"))
}

pub(super) fn key(name: &str, number: u64) -> Key {
    Key::new(KIND, &[name, &format!("{number:020}")])
}

/// The spool's name and the batch's number.
pub(super) fn parse_key(key: &Key) -> Option<(&str, u64)> {
    let rest = key.as_str().strip_prefix(KIND)?.strip_prefix('/')?;
    let (name, number) = rest.rsplit_once('/')?;
    Some((name, number.parse().ok()?))
}

pub(super) fn encode(records: &[Bytes]) -> Bytes {
    let bytes = records.iter().map(|record| 4 + record.len()).sum::<usize>();
    let mut batch = Vec::with_capacity(1 + bytes);
    batch.push(VERSION);
    for record in records {
        // An entry is far below 4 GiB.
        batch.put_u32_le(u32::try_from(record.len()).unwrap_or(u32::MAX));
        batch.extend_from_slice(record);
    }
    batch.into()
}

/// The records of a batch; they share its memory.
pub(super) fn decode(mut batch: Bytes) -> Result<Vec<Bytes>, String> {
    match batch.first() {
        Some(&VERSION) => batch.advance(1),
        Some(version) => {
            return Err(format!("it has version {version}, this host knows {VERSION}"));
        }
        None => return Err("it is empty".to_owned()),
    }
    let mut records = Vec::new();
    while !batch.is_empty() {
        let len = batch.try_get_u32_le().map_err(|_| "it ends within a record".to_owned())?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > batch.len() {
            return Err("it ends within a record".to_owned());
        }
        records.push(batch.split_to(len));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_back_as_it_was_and_a_damaged_one_is_refused() {
        let records = [Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"three")];
        let batch = encode(&records);
        assert_eq!(decode(batch.clone()).unwrap(), records);
        for len in [0, 3, batch.len() - 1] {
            assert!(decode(batch.slice(..len)).is_err(), "{len}");
        }
        assert!(decode(Bytes::from_static(b"\x02")).unwrap_err().contains("version 2"));
        let key = key("rule/hot/0", 7);
        assert_eq!(parse_key(&key), Some(("rule/hot/0", 7)));
    }
}
