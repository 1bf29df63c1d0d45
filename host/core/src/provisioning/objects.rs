//! Objects: files by bucket and key, what Amazon S3 is to AWS's bulk registration.
//!
//! The host keeps them below its data folder. A name is checked here, so that no implementation sees
//! one that leads out of its folder.

use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Shortest and longest bucket. AWS has 3 to 256; a folder's name has at most 255 bytes.
const BUCKET_BYTES: std::ops::RangeInclusive<usize> = 3..=255;

/// Longest key in bytes.
const KEY_BYTES_MAX: usize = 1_024;

/// Longest part of a key between slashes in bytes: the name of a file.
const SEGMENT_BYTES_MAX: usize = 255;

/// Name of an object: a bucket, and a key of segments with slashes between.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    bucket: Arc<str>,
    key: Arc<str>,
}

impl ObjectName {
    /// Checks both parts.
    ///
    /// # Errors
    /// Says which rule is broken; the text itself is not echoed.
    pub fn parse(bucket: &str, key: &str) -> Result<Self, String> {
        let may_be_in_bucket = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        // A name that begins with a dot is hidden, and one of the implementation's own.
        if !BUCKET_BYTES.contains(&bucket.len())
            || !bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !bucket.chars().all(may_be_in_bucket)
        {
            return Err(format!(
                "bucket must have {} to {} characters of [a-zA-Z0-9._-] and begin with a letter or \
                 a digit",
                BUCKET_BYTES.start(),
                BUCKET_BYTES.end()
            ));
        }
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(format!("key must have 1 to {KEY_BYTES_MAX} characters"));
        }
        // Source: the shape `RegistryS3KeyName`.
        let may_be_in_key =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '!' | '_' | '\'' | '('..='/');
        if let Some((at, _)) = key.char_indices().find(|(_, c)| !may_be_in_key(*c)) {
            return Err(format!(
                "key has a character at byte {at} that is not allowed; it must match \
                 [a-zA-Z0-9!_.*'()+,/-]+"
            ));
        }
        for segment in key.split('/') {
            if matches!(segment, "" | "." | "..") {
                return Err("key has an empty or a dot segment between its slashes".to_owned());
            }
            if segment.len() > SEGMENT_BYTES_MAX {
                return Err(format!(
                    "key has more than {SEGMENT_BYTES_MAX} characters between two slashes"
                ));
            }
        }
        Ok(Self { bucket: bucket.into(), key: key.into() })
    }

    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The parts of the key, none of which is empty, `.` or `..`.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.key.split('/')
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Why an object cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// No such object.
    #[error("there is no object {0}")]
    NotFound(ObjectName),
    /// It is not as long as it was.
    #[error("object {0} was changed while it was read")]
    Changed(ObjectName),
    /// What the system says.
    #[error("object {name} cannot be used: {reason}")]
    Failed {
        /// Which.
        name: ObjectName,
        /// Why.
        reason: String,
    },
}

/// A part of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes; none at the end.
    pub bytes: Bytes,
    /// Bytes of the whole object.
    pub size: u64,
}

/// Where objects are; implemented by the host with files.
#[async_trait]
pub trait Objects: Send + Sync + 'static {
    /// At most `max` bytes from `at` on.
    ///
    /// # Errors
    /// See [`ObjectError`].
    async fn read(&self, name: &ObjectName, at: u64, max: usize) -> Result<Chunk, ObjectError>;

    /// Writes a whole object in place of what was there. Durable when it returns; whoever reads
    /// sees the old or the new one.
    ///
    /// # Errors
    /// [`ObjectError::Failed`].
    async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ObjectError>;

    /// Cuts an object off at `at`, making it if need be, and writes `bytes` behind. Durable when it
    /// returns.
    ///
    /// # Errors
    /// [`ObjectError::Changed`] when it is shorter than `at`.
    async fn append(&self, name: &ObjectName, at: u64, bytes: Bytes) -> Result<(), ObjectError>;

    /// Removes an object; true when it was there.
    ///
    /// # Errors
    /// [`ObjectError::Failed`].
    async fn delete(&self, name: &ObjectName) -> Result<bool, ObjectError>;
}

/// Objects in memory, for tests.
#[derive(Debug, Default)]
pub struct MemoryObjects(Mutex<BTreeMap<ObjectName, Vec<u8>>>);

impl MemoryObjects {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectName, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Objects for MemoryObjects {
    async fn read(&self, name: &ObjectName, at: u64, max: usize) -> Result<Chunk, ObjectError> {
        let objects = self.lock();
        let object = objects.get(name).ok_or_else(|| ObjectError::NotFound(name.clone()))?;
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(object.len());
        let to = from.saturating_add(max).min(object.len());
        let bytes = Bytes::copy_from_slice(&object[from..to]);
        Ok(Chunk { bytes, size: object.len() as u64 })
    }

    async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ObjectError> {
        self.lock().insert(name.clone(), bytes.into());
        Ok(())
    }

    async fn append(&self, name: &ObjectName, at: u64, bytes: Bytes) -> Result<(), ObjectError> {
        let mut objects = self.lock();
        let object = objects.entry(name.clone()).or_default();
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        if at > object.len() {
            return Err(ObjectError::Changed(name.clone()));
        }
        object.truncate(at);
        object.extend_from_slice(&bytes);
        Ok(())
    }

    async fn delete(&self, name: &ObjectName) -> Result<bool, ObjectError> {
        Ok(self.lock().remove(name).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        let (long, segment) = ("x/".repeat(512) + "x", "x".repeat(256));
        for (bucket, key, is_good) in [
            ("imports", "a", true),
            ("imports", "a/b..c/...d", true),
            ("a.b", "devices-(1)!*'+,.ndjson", true),
            ("im", "a", false),
            ("..", "a", false),
            ("...", "a", false),
            (".drafts", "a", false),
            ("a/b", "a", false),
            ("a\0bc", "a", false),
            ("imports", "", false),
            ("imports", "/etc/passwd", false),
            ("imports", "..", false),
            ("imports", "../a", false),
            ("imports", "a/../../b", false),
            ("imports", "a/./b", false),
            ("imports", "a//b", false),
            ("imports", "a/", false),
            ("imports", "a\\b", false),
            ("imports", "a\nb", false),
            ("imports", "a\0", false),
            ("imports", "ä", false),
            ("imports", long.as_str(), false),
            ("imports", segment.as_str(), false),
        ] {
            assert_eq!(ObjectName::parse(bucket, key).is_ok(), is_good, "{bucket} {key:.20}");
        }
    }
}
