//! What waits in a spool of a rule: one message for one of its actions, or a dead letter.
//!
//! Records are postcard behind a version byte.

use crate::broker::record::MessageRecord;
use crate::message::Message;
use crate::time::Timestamp;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The first byte of a record.
const VERSION: u8 = 2;

/// One message for one action.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// As it was published.
    pub original: Arc<Message>,
    /// What SELECT made of it; `None`: it is still to be evaluated.
    pub result: Option<Bytes>,
    /// The action's parameters when they have templates, filled in.
    pub params: Option<Arc<str>>,
    /// When it began to wait: it is tried for so long from then on.
    pub since: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct JobRecord<'a> {
    #[serde(borrow)]
    original: MessageRecord<'a>,
    hops: u8,
    #[serde(with = "serde_bytes", borrow)]
    result: Option<&'a [u8]>,
    params: Option<&'a str>,
    since_ms: u64,
}

/// What of a rule a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// The action at this position, from 0.
    Action(u32),
    /// The error action.
    Error,
    /// The statement: it could not be evaluated, or asks the host something.
    Evaluation,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Action(index) => write!(f, "action {index}"),
            Self::Error => f.write_str("error action"),
            Self::Evaluation => f.write_str("evaluation"),
        }
    }
}

/// A message that failed for good and that nobody took.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub part: Part,
    pub failed_at: Timestamp,
    pub reason: String,
    /// The job's record.
    pub job: Bytes,
}

#[derive(Serialize, Deserialize)]
struct LetterRecord<'a> {
    part: Part,
    failed_at_ms: u64,
    reason: &'a str,
    #[serde(with = "serde_bytes", borrow)]
    job: &'a [u8],
}

impl Job {
    /// A message that is still to be evaluated.
    pub fn of(original: &Arc<Message>) -> Self {
        let since = original.received_at;
        Self { original: original.clone(), result: None, params: None, since }
    }

    pub fn encode(&self) -> Bytes {
        encode(&JobRecord {
            original: (&*self.original).into(),
            hops: self.original.hops,
            result: self.result.as_deref(),
            params: self.params.as_deref(),
            since_ms: self.since.as_millis(),
        })
    }

    pub fn decode(record: &[u8]) -> Result<Self, String> {
        let record: JobRecord<'_> = decode(record)?;
        let mut original = record.original.to_message()?;
        original.hops = record.hops;
        Ok(Self {
            original: Arc::new(original),
            result: record.result.map(Bytes::copy_from_slice),
            params: record.params.map(Into::into),
            since: Timestamp::from_millis(record.since_ms),
        })
    }

    /// What the action gets: the original with the result as its payload.
    pub fn message(&self) -> Arc<Message> {
        match &self.result {
            Some(result) => {
                Arc::new(Message { payload: result.clone(), ..Message::clone(&self.original) })
            }
            None => self.original.clone(),
        }
    }
}

impl Letter {
    pub fn encode(&self) -> Bytes {
        encode(&LetterRecord {
            part: self.part,
            failed_at_ms: self.failed_at.as_millis(),
            reason: &self.reason,
            job: &self.job,
        })
    }

    pub fn decode(record: &[u8]) -> Result<Self, String> {
        let record: LetterRecord<'_> = decode(record)?;
        Ok(Self {
            part: record.part,
            failed_at: Timestamp::from_millis(record.failed_at_ms),
            reason: record.reason.to_owned(),
            job: Bytes::copy_from_slice(record.job),
        })
    }
}

fn encode(record: &impl Serialize) -> Bytes {
    let bytes = postcard::to_extend(record, vec![VERSION]);
    bytes.expect("a Vec grows, and every type has a length").into()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((&VERSION, body)) => postcard::from_bytes(body).map_err(|error| error.to_string()),
        version => Err(format!(
            "the record has version {:?}, this host knows version {VERSION}",
            version.map(|(version, _)| version)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::TopicName;

    #[test]
    fn a_record_comes_back_as_it_was() {
        let topic = TopicName::parse("a/b").unwrap();
        let original = Message::new(topic, "payload", Arc::default(), Timestamp::from_millis(7));
        let original = Arc::new(Message { hops: 3, ..original });
        let since = Timestamp::from_millis(8);
        let job = Job { original, result: Some("result".into()), params: Some("{}".into()), since };
        let read = Job::decode(&job.encode()).unwrap();
        assert_eq!((read.original.hops, &*read.original.payload), (3, &b"payload"[..]));
        assert_eq!(
            (read.result.as_deref(), read.params.as_deref()),
            (Some(&b"result"[..]), Some("{}"))
        );
        assert_eq!(read.since, since);
        let letter = Letter {
            part: Part::Action(1),
            failed_at: Timestamp::from_millis(9),
            reason: "é".into(),
            job: job.encode(),
        };
        let read = Letter::decode(&letter.encode()).unwrap();
        assert_eq!(
            (read.part, read.reason.as_str(), read.failed_at.as_millis()),
            (Part::Action(1), "é", 9)
        );
        assert_eq!(read.job, letter.job);
        assert!(Job::decode(b"").is_err());
        assert!(Job::decode(b"\x01").unwrap_err().contains("version Some(1)"));
        assert!(Job::decode(b"\x02\xff").is_err());
    }
}
