//! An ordered list of ids, for millions of them: four bytes each, in pieces that are cheap to change.
//!
//! The order is the caller's, who knows what an id stands for: a search brings `is_before`, true for
//! the ids in front of the wanted position. A `BTreeMap` would have to hold what it compares.

/// Longest piece; 512 x 4 bytes = 2 KiB to move at most.
const PIECE_MAX: usize = 512;

#[derive(Clone, Debug, Default)]
pub(crate) struct Sorted {
    /// None of them is empty.
    pieces: Vec<Vec<u32>>,
}

/// A position between ids, good until the list changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    piece: usize,
    at: usize,
}

impl Sorted {
    /// A list of ids that are in order.
    pub(crate) fn in_order(mut ids: impl Iterator<Item = u32>) -> Self {
        let pieces = std::iter::from_fn(|| {
            let piece: Vec<u32> = ids.by_ref().take(PIECE_MAX).collect();
            (!piece.is_empty()).then_some(piece)
        });
        Self { pieces: pieces.collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.pieces.iter().flatten().copied()
    }

    /// From the first id that is not before.
    pub(crate) fn iter_from(
        &self,
        is_before: impl Fn(u32) -> bool,
    ) -> impl Iterator<Item = u32> + '_ {
        let Position { piece, at } = self.seek(is_before);
        let rest = self.pieces.get(piece..).unwrap_or_default();
        rest.iter().flatten().skip(at).copied()
    }

    /// From the first id that is not before to the last that is not behind, in pieces. What an id stands
    /// for is only looked at to find the ends.
    pub(crate) fn range(
        &self,
        is_before: impl Fn(u32) -> bool,
        is_not_behind: impl Fn(u32) -> bool,
    ) -> impl Iterator<Item = &[u32]> {
        let Position { piece: first, at: from } = self.seek(is_before);
        let Position { piece: last, at: to } = self.seek(is_not_behind);
        let pieces = self.pieces.iter().enumerate().take(last + 1).skip(first);
        pieces.map(move |(at, piece)| {
            let from = if at == first { from } else { 0 };
            let to = if at == last { to } else { piece.len() };
            // Ends that are the wrong way round hold nothing.
            piece.get(from..to).unwrap_or_default()
        })
    }

    /// All of them, in pieces.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u32]> {
        self.pieces.iter().map(Vec::as_slice)
    }

    /// The id at a position.
    pub(crate) fn get(&self, position: Position) -> Option<u32> {
        self.pieces.get(position.piece)?.get(position.at).copied()
    }

    pub(crate) fn insert(&mut self, position: Position, id: u32) {
        let Position { piece: mut at_piece, mut at } = position;
        // Behind everything: pieces that are filled in order stay full.
        if at_piece == self.pieces.len() {
            match self.pieces.last_mut() {
                Some(last) if last.len() < PIECE_MAX => last.push(id),
                _ => self.pieces.push(vec![id]),
            }
            return;
        }
        if self.pieces[at_piece].len() == PIECE_MAX {
            let half = self.pieces[at_piece].split_off(PIECE_MAX / 2);
            self.pieces.insert(at_piece + 1, half);
            if at > PIECE_MAX / 2 {
                (at_piece, at) = (at_piece + 1, at - PIECE_MAX / 2);
            }
        }
        self.pieces[at_piece].insert(at, id);
    }

    /// Removes the id at a position.
    pub(crate) fn remove(&mut self, position: Position) -> Option<u32> {
        let piece = self.pieces.get_mut(position.piece)?;
        let id = piece.remove(position.at);
        if piece.is_empty() {
            self.pieces.remove(position.piece);
        }
        Some(id)
    }

    /// In front of the first id that is not before.
    pub(crate) fn seek(&self, is_before: impl Fn(u32) -> bool) -> Position {
        let ends_before = |piece: &Vec<u32>| piece.last().is_some_and(|last| is_before(*last));
        // What comes in order goes behind everything, without a search.
        if self.pieces.last().is_none_or(ends_before) {
            return Position { piece: self.pieces.len(), at: 0 };
        }
        let piece = self.pieces.partition_point(ends_before);
        let ids = self.pieces.get(piece).map_or(&[][..], Vec::as_slice);
        Position { piece, at: ids.partition_point(|id| is_before(*id)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn it_agrees_with_a_set() {
        let mut sorted = Sorted::default();
        let mut model = BTreeSet::new();
        let mut state = 1_u32;
        for step in 0..20_000_u32 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let id = (state >> 16) % 5_000;
            // It grows, then shrinks to nothing.
            if model.contains(&id) {
                if step > 10_000 || state & 0x100 == 0 {
                    model.remove(&id);
                    assert_eq!(sorted.remove(sorted.seek(|other| other < id)), Some(id));
                }
            } else if step < 10_000 {
                model.insert(id);
                sorted.insert(sorted.seek(|other| other < id), id);
            }
            if step % 500 == 0 {
                assert!(sorted.iter().eq(model.iter().copied()));
                assert!(sorted.iter_from(|other| other < id).eq(model.range(id..).copied()));
                let ends = (id, id.wrapping_mul(7) % 5_000);
                let range = sorted.range(|other| other < ends.0, |other| other <= ends.1);
                let expected = model.iter().filter(|id| (ends.0..=ends.1).contains(id));
                assert!(range.flatten().eq(expected));
                assert!(sorted.pieces.iter().all(|piece| (1..=PIECE_MAX).contains(&piece.len())));
            }
            if step == 9_000 {
                // It goes on with full pieces.
                sorted = Sorted::in_order(sorted.iter());
            }
        }
        for id in model {
            assert_eq!(sorted.remove(sorted.seek(|other| other < id)), Some(id));
        }
        assert!(sorted.is_empty() && sorted.remove(sorted.seek(|_| false)).is_none());
    }
}
