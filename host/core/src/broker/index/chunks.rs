//! A list that grows without moving what it has: a million nodes that move at once would hold up
//! everybody who waits for the index, and leave a hole of their size in memory.

use std::ops::{Index, IndexMut};

const CHUNK: usize = 256;

/// Entries by number, from 0.
pub(super) struct Chunks<T> {
    /// All but the last are full.
    chunks: Vec<Vec<T>>,
}

impl<T> Chunks<T> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        full + self.chunks.last().map_or(0, Vec::len)
    }

    /// Adds an entry and returns its number.
    pub(super) fn push(&mut self, entry: T) -> u32 {
        let number =
            u32::try_from(self.len()).expect("four billion entries do not fit into memory");
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(entry),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(entry);
                self.chunks.push(chunk);
            }
        }
        number
    }
}

impl<T> Index<u32> for Chunks<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        &self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }
}

impl<T> IndexMut<u32> for Chunks<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_numbers() {
        let mut chunks = Chunks::new();
        for number in 0..1_000 {
            assert_eq!(chunks.len(), number as usize);
            assert_eq!(chunks.push(number), number);
        }
        for number in 0..1_000 {
            chunks[number] += 1;
            assert_eq!(chunks[number], number + 1);
        }
    }
}
