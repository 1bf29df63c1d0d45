//! The texts of topic levels, each once: filters share them.
//!
//! The table holds numbers only and looks the texts up; a text of its own per entry would make a
//! level that one device has cost twice as much.

use super::chunks::Chunks;
use ahash::RandomState;
use hashbrown::HashTable;

/// Number of a text that is in use; given again after [`Levels::release`].
pub(super) type Level = u32;

pub(super) struct Levels {
    by_text: HashTable<Level>,
    interned: Chunks<Interned>,
    free: Vec<Level>,
    hasher: RandomState,
}

struct Interned {
    text: Box<str>,
    uses: u32,
}

impl Default for Levels {
    fn default() -> Self {
        let hasher = RandomState::default();
        Self { by_text: HashTable::new(), interned: Chunks::new(), free: Vec::new(), hasher }
    }
}

impl Levels {
    pub(super) fn get(&self, text: &str) -> Option<Level> {
        let is_it = |level: &Level| *self.interned[*level].text == *text;
        self.by_text.find(self.hasher.hash_one(text), is_it).copied()
    }

    /// The text's number, used once more.
    pub(super) fn intern(&mut self, text: &str) -> Level {
        if let Some(level) = self.get(text) {
            self.interned[level].uses += 1;
            return level;
        }
        let new = Interned { text: text.into(), uses: 1 };
        let level = match self.free.pop() {
            Some(level) => {
                self.interned[level] = new;
                level
            }
            None => self.interned.push(new),
        };
        let (hasher, interned) = (&self.hasher, &self.interned);
        let hash = |level: &Level| hasher.hash_one(&*interned[*level].text);
        self.by_text.insert_unique(hash(&level), level, hash);
        level
    }

    /// Used once less.
    pub(super) fn release(&mut self, level: Level) {
        let interned = &mut self.interned[level];
        interned.uses -= 1;
        if interned.uses > 0 {
            return;
        }
        let hash = self.hasher.hash_one(&*std::mem::take(&mut interned.text));
        if let Ok(entry) = self.by_text.find_entry(hash, |it| *it == level) {
            entry.remove();
        }
        self.free.push(level);
    }

    /// How many are in use.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_text.len()
    }
}
