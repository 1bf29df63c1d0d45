//! Values at small numbers that stay theirs until they are freed.
//!
//! They lie in chunks, so that one more of millions never means to move all of them.

/// Values of a chunk.
const CHUNK: usize = 4_096;

#[derive(Clone, Debug, Default)]
pub(crate) struct Slab<T> {
    items: Chunks<T>,
    /// Numbers that are free.
    free: Chunks<u32>,
}

impl<T: Default> Slab<T> {
    pub(crate) fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    pub(crate) fn get(&self, id: u32) -> &T {
        &self.items.0[id as usize / CHUNK][id as usize % CHUNK]
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> &mut T {
        &mut self.items.0[id as usize / CHUNK][id as usize % CHUNK]
    }

    pub(crate) fn add(&mut self, item: T) -> u32 {
        if let Some(id) = self.free.pop() {
            *self.get_mut(id) = item;
            return id;
        }
        let id = u32::try_from(self.items.len()).expect("memory ends before 2^32 items");
        self.items.push(item);
        id
    }

    pub(crate) fn free(&mut self, id: u32) -> T {
        self.free.push(id);
        std::mem::take(self.get_mut(id))
    }

    /// By their numbers. Only while none is free: a free one would be there too.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        debug_assert!(self.free.len() == 0);
        self.items.0.iter().flatten()
    }

    /// As [`Slab::iter`].
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        debug_assert!(self.free.len() == 0);
        self.items.0.iter_mut().flatten()
    }

    /// Moves each item to the number that stands at its own in `places`: all numbers, once each. Only while
    /// none is free.
    pub(crate) fn rearrange(&mut self, mut places: Vec<u32>) {
        debug_assert!(self.free.len() == 0 && places.len() == self.items.len());
        for start in (0..).take(places.len()) {
            let mut to = std::mem::replace(&mut places[start as usize], start);
            if to == start {
                continue;
            }
            // Around the circle that ends where it began.
            let mut item = std::mem::take(self.get_mut(start));
            while to != start {
                std::mem::swap(&mut item, self.get_mut(to));
                to = std::mem::replace(&mut places[to as usize], to);
            }
            *self.get_mut(start) = item;
        }
    }
}

/// A list; all chunks but the last are full, and none is empty.
#[derive(Clone, Debug, Default)]
struct Chunks<T>(Vec<Vec<T>>);

impl<T> Chunks<T> {
    fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * CHUNK + last.len())
    }

    fn push(&mut self, item: T) {
        match self.0.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(item),
            // The first one grows: most lists are short.
            None => self.0.push(vec![item]),
            Some(_) => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(item);
                self.0.push(chunk);
            }
        }
    }

    fn pop(&mut self) -> Option<T> {
        let last = self.0.last_mut()?;
        let item = last.pop();
        if last.is_empty() {
            self.0.pop();
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_over_chunks_and_are_used_again() {
        let mut slab = Slab::default();
        let count = 3 * u32::try_from(CHUNK).unwrap() + 7;
        for n in 0..count {
            assert_eq!(slab.add(n), n);
        }
        for n in (0..count).step_by(3) {
            assert_eq!(slab.free(n), n);
        }
        assert_eq!(slab.len(), (count - count.div_ceil(3)) as usize);
        for n in (0..count).filter(|n| n % 3 != 0) {
            assert_eq!(*slab.get(n), n);
        }
        for _ in (0..count).step_by(3) {
            assert!(slab.add(9) < count);
        }
        assert_eq!((slab.len(), slab.add(9)), (count as usize, count));
    }

    #[test]
    fn items_are_rearranged() {
        let count = 2 * u32::try_from(CHUNK).unwrap();
        // A shift of all, a reversal, many circles, nothing.
        let moves: [&dyn Fn(u32) -> u32; 4] =
            [&|n| (n + 1) % count, &|n| count - 1 - n, &|n| n * 5 % count, &|n| n];
        for to in moves {
            let mut slab = Slab::default();
            (0..count).for_each(|n| _ = slab.add(n));
            slab.rearrange((0..count).map(to).collect());
            assert!((0..count).all(|n| *slab.get(to(n)) == n));
        }
    }
}
