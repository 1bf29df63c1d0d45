//! A whole index at once, for the start of a host: several times faster than document by document.
//!
//! In: documents in any order. Out: an [`Index`] that answers like one that got the same documents one
//! after the other, and can be changed like it. While documents come, a term is found by its hash instead
//! of along the order of its field; at the end each field is sorted once, and its terms are laid side by
//! side in their order, so that whoever walks along a million of them waits for the memory less.
//!
//! Memory: besides the index some 100 bytes per document with four values of its own, until it is built.

use crate::aggregate::{FieldType, Kind};
use crate::document::{Document, EachField, Group, each_term};
use crate::index::{Entry, FieldId, Index, Term, TermId};
use crate::order::{sort_by_key, sort_by_text};
use crate::set::{DocId, Postings};
use crate::sorted::Sorted;
use crate::value::Given;
use ahash::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;
use std::hash::{BuildHasher, Hasher};

/// Takes documents, and becomes an [`Index`].
#[derive(Clone, Debug)]
pub struct Builder {
    /// Its names and the lists of its fields are empty until the end.
    index: Index,
    /// By field and value; the hash is kept, because a look at a million terms when the table grows takes
    /// longer than all the rest.
    terms: HashTable<(u32, TermId)>,
    /// By name.
    fields: HashTable<FieldId>,
    hasher: RandomState,
    /// Buffers.
    folded: String,
    found: Vec<TermId>,
}

impl Builder {
    /// Custom fields as in [`Index::new`].
    pub fn new(kind: Kind, custom_fields: impl IntoIterator<Item = (String, FieldType)>) -> Self {
        Self {
            index: Index::new(kind, custom_fields),
            terms: HashTable::new(),
            fields: HashTable::new(),
            hasher: RandomState::new(),
            folded: String::new(),
            found: Vec::new(),
        }
    }

    /// Adds a thing. Of several with one name the last counts, as with [`Index::upsert`].
    pub fn add(&mut self, name: &str, document: &Document) {
        self.add_fields(name, |each| document.each_field(name, each));
    }

    /// Adds a thing group. Of several with one name the last counts, as with [`Index::set_group`].
    pub fn add_group(&mut self, name: &str, group: &Group) {
        self.add_fields(name, |each| group.each_field(name, each));
    }

    /// The index of what was added.
    pub fn build(self) -> Index {
        let Self { mut index, terms, .. } = self;
        drop(terms);
        arrange(&mut index);
        set_names(&mut index);
        index
    }

    fn add_fields(&mut self, name: &str, fields: impl FnOnce(&mut EachField<'_>)) {
        let entry = Entry { name: name.into(), terms: Box::default() };
        let id = self.index.documents.add(entry);
        self.index.all.insert(id);
        let mut found = std::mem::take(&mut self.found);
        let mut folded = std::mem::take(&mut self.folded);
        fields(&mut |field, value| {
            let field = self.field(field);
            each_term(value, &mut folded, &mut |value, is_word| {
                found.push(self.term(field, value, is_word));
            });
        });
        found.sort_unstable();
        found.dedup();
        for term in &found {
            self.index.terms.get_mut(*term).documents.insert(id);
        }
        self.index.documents.get_mut(id).terms = found.as_slice().into();
        found.clear();
        (self.found, self.folded) = (found, folded);
    }

    fn field(&mut self, name: &str) -> FieldId {
        let Self { index, fields, hasher, .. } = self;
        let hash = hasher.hash_one(name.as_bytes());
        if let Some(id) = fields.find(hash, |id| *index.fields.get(*id).name == *name) {
            return *id;
        }
        let id = index.field_or_new(name);
        let hash_of = |id: &FieldId| hasher.hash_one(index.fields.get(*id).name.as_bytes());
        fields.insert_unique(hash, id, hash_of);
        id
    }

    fn term(&mut self, field: FieldId, value: Given<'_>, is_word: bool) -> TermId {
        let Self { index, terms, hasher, .. } = self;
        let hash = short_hash(hasher, field, value, is_word);
        let is_it = |(other, id): &(u32, TermId)| {
            let is_it = |term: &Term| {
                term.field == field && term.is_word == is_word && value.is(&term.value)
            };
            *other == hash && is_it(index.terms.get(*id))
        };
        match terms.entry(whole(hash), is_it, |(hash, _)| whole(*hash)) {
            Slot::Occupied(slot) => slot.get().1,
            Slot::Vacant(slot) => {
                let documents = Postings::Empty;
                let id = index.terms.add(Term { value: value.into(), documents, field, is_word });
                slot.insert((hash, id));
                id
            }
        }
    }
}

/// The upper half of a hash: 2^32 terms are all there can be.
fn short_hash(hasher: &RandomState, field: FieldId, value: Given<'_>, is_word: bool) -> u32 {
    let mut hasher = hasher.build_hasher();
    hasher.write_u64(u64::from(field) << 1 | u64::from(is_word));
    match value {
        Given::Number(number) => hasher.write_u64(number.to_bits()),
        Given::Text(text) => hasher.write(text.as_bytes()),
    }
    u32::try_from(hasher.finish() >> 32).unwrap_or_default()
}

/// What a table wants: it takes a place from the lower bits and a tag from the upper ones.
fn whole(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Lays the terms side by side in their order, and fills the lists of the fields.
fn arrange(index: &mut Index) {
    let list = |term: &Term| term.field as usize * 2 + usize::from(term.is_word);
    // First where the next term of each list belongs, in the end where the list ends.
    let mut ends = vec![0; index.fields.len() * 2 + 1];
    index.terms.iter().for_each(|term| ends[list(term) + 1] += 1);
    for at in 1..ends.len() {
        ends[at] += ends[at - 1];
    }
    let mut order: Vec<TermId> = vec![0; index.terms.len()];
    for (id, term) in (0..).zip(index.terms.iter()) {
        let end = &mut ends[list(term)];
        order[*end as usize] = id;
        *end += 1;
    }
    let mut start = 0;
    ends.pop();
    for end in &ends {
        sort_by_key(&mut order[start as usize..*end as usize], &|id| {
            index.terms.get(id).value.key()
        });
        start = *end;
    }
    let mut places: Vec<TermId> = vec![0; order.len()];
    (0..).zip(&order).for_each(|(place, id)| places[*id as usize] = place);
    drop(order);
    for entry in index.documents.iter_mut() {
        entry.terms.iter_mut().for_each(|term| *term = places[*term as usize]);
        entry.terms.sort_unstable();
    }
    index.terms.rearrange(places);
    start = 0;
    for (id, ends) in (0..).zip(ends.chunks(2)) {
        let field = index.fields.get_mut(id);
        field.values = Sorted::in_order(start..ends[0]);
        field.words = Sorted::in_order(ends[0]..ends[1]);
        start = ends[1];
    }
}

/// Fills the list of names, and removes documents whose names came again.
fn set_names(index: &mut Index) {
    let mut ids: Vec<DocId> = (0..).take(index.documents.len()).collect();
    sort_by_text(&mut ids, &|id| index.name(id));
    let mut replaced = Vec::new();
    // The last one of a name has the highest number.
    ids.dedup_by(|later, kept| {
        let is_same = index.name(*later) == index.name(*kept);
        if is_same {
            replaced.push(*kept);
            *kept = *later;
        }
        is_same
    });
    index.names = Sorted::in_order(ids.into_iter());
    replaced.into_iter().for_each(|id| index.remove_unnamed(id));
}
