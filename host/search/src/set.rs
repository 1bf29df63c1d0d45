//! Sets of documents: [`Bits`] for results, [`Postings`] for the documents that have a value.

/// Number of a document in the index.
pub(crate) type DocId = u32;

/// Postings with fewer documents are never bits.
const DENSE_MIN: usize = 64;

/// One bit per document: 125 kB for a million, and every operation on it takes microseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    pub(crate) fn contains(&self, id: DocId) -> bool {
        self.words.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    pub(crate) fn insert(&mut self, id: DocId) -> bool {
        let at = id as usize / 64;
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        let is_new = !self.contains(id);
        self.words[at] |= 1 << (id % 64);
        is_new
    }

    pub(crate) fn remove(&mut self, id: DocId) -> bool {
        let was_there = self.contains(id);
        if was_there {
            self.words[id as usize / 64] &= !(1 << (id % 64));
        }
        was_there
    }

    pub(crate) fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn count_common(&self, other: &Self) -> usize {
        let common = self.words.iter().zip(&other.words).map(|(a, b)| a & b);
        common.map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = DocId> + '_ {
        (0..).step_by(64).zip(&self.words).flat_map(|(base, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(base + bit)
            })
        })
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(DocId) -> bool) {
        for (base, word) in (0..).step_by(64).zip(&mut self.words) {
            let mut rest = *word;
            while rest != 0 {
                let bit = rest.trailing_zeros();
                rest &= rest - 1;
                if !keep(base + bit) {
                    *word &= !(1 << bit);
                }
            }
        }
    }

    pub(crate) fn union(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    pub(crate) fn intersect(&mut self, other: &Self) {
        self.words.truncate(other.words.len());
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
    }

    /// How many ids fit without growing.
    fn capacity(&self) -> usize {
        self.words.len() * 64
    }
}

/// The documents that have a value; most values have one, a few have half of the fleet.
///
/// A list until bits are smaller (32 ids of a list are as large as the bits of 1,024 documents), so that
/// a change moves at most as many bytes as the bits of all documents have.
#[derive(Clone, Debug, Default)]
#[allow(clippy::box_collection, reason = "16 bytes for the millions of values with one document")]
pub(crate) enum Postings {
    #[default]
    Empty,
    One(DocId),
    /// In ascending order.
    Sparse(Box<Vec<DocId>>),
    Dense(Box<Dense>),
}

#[derive(Clone, Debug)]
pub(crate) struct Dense {
    bits: Bits,
    /// How many of them are set.
    len: usize,
}

impl Postings {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(_) => 1,
            Self::Sparse(ids) => ids.len(),
            Self::Dense(dense) => dense.len,
        }
    }

    pub(crate) fn is_one(&self) -> bool {
        matches!(self, Self::One(_))
    }

    pub(crate) fn insert(&mut self, id: DocId) {
        match self {
            Self::Empty => *self = Self::One(id),
            Self::One(only) if *only == id => {}
            Self::One(only) => {
                *self = Self::Sparse(Box::new(vec![id.min(*only), id.max(*only)]));
            }
            Self::Sparse(ids) => {
                if ids.last().is_some_and(|last| *last < id) {
                    ids.push(id);
                } else {
                    let Err(at) = ids.binary_search(&id) else { return };
                    ids.insert(at, id);
                }
                let highest = ids.last().map_or(0, |id| *id as usize);
                if ids.len() >= DENSE_MIN && ids.len() * 32 > highest {
                    let mut bits = Bits { words: vec![0; highest / 64 + 1] };
                    ids.iter().for_each(|id| _ = bits.insert(*id));
                    *self = Self::Dense(Box::new(Dense { bits, len: ids.len() }));
                }
            }
            Self::Dense(dense) => dense.len += usize::from(dense.bits.insert(id)),
        }
    }

    pub(crate) fn remove(&mut self, id: DocId) {
        match self {
            Self::Empty => {}
            Self::One(only) if *only != id => {}
            Self::One(_) => *self = Self::Empty,
            Self::Sparse(ids) => {
                if let Ok(at) = ids.binary_search(&id) {
                    ids.remove(at);
                }
                if let [only] = ids[..] {
                    *self = Self::One(only);
                }
            }
            Self::Dense(dense) => {
                dense.len -= usize::from(dense.bits.remove(id));
                // Far below where it became dense: one document that comes and goes is cheap.
                if dense.len < DENSE_MIN / 2 || dense.len * 128 < dense.bits.capacity() {
                    *self = Self::Sparse(Box::new(dense.bits.iter().collect()));
                }
            }
        }
    }

    pub(crate) fn add_to(&self, bits: &mut Bits) {
        match self {
            Self::Empty => {}
            Self::One(id) => _ = bits.insert(*id),
            Self::Sparse(ids) => ids.iter().for_each(|id| _ = bits.insert(*id)),
            Self::Dense(dense) => bits.union(&dense.bits),
        }
    }

    /// How many of the documents are in `bits`.
    pub(crate) fn count_in(&self, bits: &Bits) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(id) => usize::from(bits.contains(*id)),
            Self::Sparse(ids) => ids.iter().filter(|id| bits.contains(**id)).count(),
            Self::Dense(dense) => dense.bits.count_common(bits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn postings_agree_with_a_set_in_all_their_shapes() {
        let mut postings = Postings::default();
        let mut model = BTreeSet::new();
        let mut state = 7_u32;
        let mut shapes = BTreeSet::new();
        for step in 0..40_000_u32 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let id = (state >> 12) % 3_000;
            // Grows for a while, then shrinks, twice.
            if state % 8 < if step / 10_000 % 2 == 0 { 6 } else { 1 } {
                model.insert(id);
                postings.insert(id);
            } else {
                model.remove(&id);
                postings.remove(id);
            }
            shapes.insert(match postings {
                Postings::Empty => 0,
                Postings::One(_) => 1,
                Postings::Sparse(_) => 2,
                Postings::Dense(_) => 3,
            });
            assert_eq!(postings.len(), model.len());
        }
        for id in model.clone() {
            let mut bits = Bits::default();
            postings.add_to(&mut bits);
            assert!(bits.iter().eq(model.iter().copied()));
            assert_eq!(postings.count_in(&bits), model.len());
            model.remove(&id);
            postings.remove(id);
        }
        assert!(matches!(postings, Postings::Empty) && shapes.len() >= 3, "{shapes:?}");
    }

    #[test]
    fn bits_of_different_lengths_combine() {
        let bits = |ids: &[u32]| {
            let mut bits = Bits::default();
            ids.iter().for_each(|id| _ = bits.insert(*id));
            bits
        };
        let ids = |bits: &Bits| bits.iter().collect::<Vec<_>>();
        let (short, long) = (bits(&[1, 63]), bits(&[1, 64, 700]));
        for (a, b) in [(&short, &long), (&long, &short)] {
            let mut both = a.clone();
            both.union(b);
            assert_eq!(ids(&both), [1, 63, 64, 700]);
            let mut common = a.clone();
            common.intersect(b);
            assert_eq!((ids(&common), a.count_common(b)), (vec![1], 1));
        }
        let mut rest = long.clone();
        rest.subtract(&short);
        assert_eq!(ids(&rest), [64, 700]);
        rest.retain(|id| id > 64);
        assert_eq!((ids(&rest), rest.count()), (vec![700], 1));
    }
}
