//! The lines of an object, read piece by piece: what is in memory does not grow with the object.

use super::objects::{ObjectError, ObjectName, Objects};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest line in bytes; a longer one is skipped and told.
pub const LINE_BYTES_MAX: usize = 65_536;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 * 1_024;

/// One line that is not blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1, blank lines counted.
    pub(super) number: u64,
    /// Where it begins in the object.
    pub(super) offset: u64,
    /// `None`: it is too long.
    text: Option<Vec<u8>>,
}

impl Line {
    /// Its length in bytes, as far as it was kept.
    pub(super) fn len(&self) -> usize {
        self.text.as_ref().map_or(0, Vec::len)
    }

    /// The parameters that it gives.
    pub(super) fn parameters(&self) -> Result<BTreeMap<String, String>, String> {
        let text = self.text.as_deref();
        let text = text.ok_or_else(|| format!("the line has more than {LINE_BYTES_MAX} bytes"))?;
        // serde takes a list of pairs for a map nowhere, but its messages count lines of their own.
        serde_json::from_slice(text).map_err(|error| {
            let problem = error.to_string().replace(" at line 1 column ", " at column ");
            format!("the line is no JSON object of texts: {problem}")
        })
    }
}

/// Where reading goes on: behind a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Bytes before it.
    pub offset: u64,
    /// Lines before it.
    pub lines: u64,
}

/// Reads lines.
pub(super) struct Lines {
    objects: Arc<dyn Objects>,
    name: ObjectName,
    size: u64,
    place: Place,
    /// What was read and not handed out begins at `start`, and at `place` in the object.
    buffer: Vec<u8>,
    start: usize,
}

impl Lines {
    /// The lines from a place on of an object that has `size` bytes.
    pub(super) fn new(objects: Arc<dyn Objects>, name: ObjectName, size: u64, from: Place) -> Self {
        Self { objects, name, size, place: from, buffer: Vec::new(), start: 0 }
    }

    /// Behind the last line that was handed out.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Nothing is left, not even a blank line.
    pub(super) fn is_at_end(&self) -> bool {
        self.place.offset >= self.size
    }

    /// The next line that is not blank.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, ObjectError> {
        while !self.is_at_end() {
            let line = self.next_of_any_kind().await?;
            if !line.text.as_ref().is_some_and(|text| text.trim_ascii().is_empty()) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    async fn next_of_any_kind(&mut self) -> Result<Line, ObjectError> {
        let Place { offset, lines } = self.place;
        let mut is_too_long = false;
        loop {
            let rest = &self.buffer[self.start..];
            let newline = rest.iter().position(|byte| *byte == b'\n');
            let is_last = self.place.offset + rest.len() as u64 >= self.size;
            if newline.is_none() && !is_last {
                if rest.len() > LINE_BYTES_MAX {
                    is_too_long = true;
                    self.advance(self.buffer.len() - self.start);
                }
                self.fill().await?;
                continue;
            }
            let len = newline.unwrap_or(rest.len());
            let text = rest[..len].strip_suffix(b"\r").unwrap_or(&rest[..len]);
            is_too_long |= text.len() > LINE_BYTES_MAX;
            let text = (!is_too_long).then(|| text.to_vec());
            self.advance(len + usize::from(newline.is_some()));
            self.place.lines += 1;
            return Ok(Line { number: lines + 1, offset, text });
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.start += bytes;
        self.place.offset += bytes as u64;
    }

    async fn fill(&mut self) -> Result<(), ObjectError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let at = self.place.offset + self.buffer.len() as u64;
        let chunk = self.objects.read(&self.name, at, CHUNK_BYTES).await?;
        if chunk.size != self.size || chunk.bytes.is_empty() {
            return Err(ObjectError::Changed(self.name.clone()));
        }
        self.buffer.extend_from_slice(&chunk.bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provisioning::objects::MemoryObjects;

    async fn lines(text: &[u8], from: Place) -> Vec<(u64, u64, Option<usize>)> {
        let objects = Arc::new(MemoryObjects::default());
        let name = ObjectName::parse("bucket", "key").unwrap();
        objects.put(&name, text.to_vec().into()).await.unwrap();
        let mut lines = Lines::new(objects, name, text.len() as u64, from);
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            found.push((line.number, line.offset, line.text.map(|text| text.len())));
        }
        assert!(lines.is_at_end());
        found
    }

    #[tokio::test]
    async fn lines_are_numbered_and_found_again() {
        let start = Place::default();
        assert_eq!(
            lines(b"a\r\n\n \nbc\nd", start).await,
            [(1, 0, Some(1)), (4, 6, Some(2)), (5, 9, Some(1)),]
        );
        assert_eq!(lines(b"ab\n\n", start).await, [(1, 0, Some(2))]);
        let behind = Place { offset: 3, lines: 1 };
        assert_eq!(lines(b"ab\ncd\n", behind).await, [(2, 3, Some(2))]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_skipped_whole() {
        for (length, kept) in [
            (LINE_BYTES_MAX, Some(LINE_BYTES_MAX)),
            (LINE_BYTES_MAX + 1, None),
            (3 * CHUNK_BYTES, None),
            (CHUNK_BYTES - 3, None),
        ] {
            let text = [b"ab\n".to_vec(), vec![b'x'; length], b"\ncd".to_vec()].concat();
            let last = 4 + length as u64;
            let expected = [(1, 0, Some(2)), (2, 3, kept), (3, last, Some(2))];
            assert_eq!(lines(&text, Place::default()).await, expected, "{length}");
        }
        let text = vec![b'x'; 2 * CHUNK_BYTES];
        assert_eq!(lines(&text, Place::default()).await, [(1, 0, None)]);
    }

    #[tokio::test]
    async fn many_lines_over_the_border_of_pieces_are_whole() {
        let text = "0123456789abcde\n".repeat(40_000);
        let found = lines(text.as_bytes(), Place::default()).await;
        assert_eq!(found.len(), 40_000);
        assert!(found.iter().all(|(_, _, length)| *length == Some(15)));
    }

    #[tokio::test]
    async fn an_object_that_changes_is_noticed() {
        let objects = Arc::new(MemoryObjects::default());
        let name = ObjectName::parse("bucket", "key").unwrap();
        let mut lines = Lines::new(objects.clone(), name.clone(), 5, Place::default());
        assert_eq!(lines.next().await, Err(ObjectError::NotFound(name.clone())));
        objects.put(&name, "ab\n".into()).await.unwrap();
        assert_eq!(lines.next().await, Err(ObjectError::Changed(name)));
    }
}
