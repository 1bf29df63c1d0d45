//! The index and how it changes.
//!
//! A pair of field and value is a term; a term knows its documents, a document its terms, and a field its
//! values in their order. Ids are places in slabs, so that a thing costs what only it has: its name and
//! its own values. A text of several words is one value, and its words can be found besides.
//!
//! Invariant: a term has a document, a field has a term.

use crate::aggregate::{FieldType, Kind};
use crate::document::{self, Connectivity, Document, Fields, Group, Registry, Shadow};
use crate::set::{Bits, DocId, Postings};
use crate::sorted::Sorted;
use crate::value::Value;
use std::collections::BTreeMap;

pub(crate) type FieldId = u32;
pub(crate) type TermId = u32;

#[derive(Clone, Debug, Default)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    /// Whole values, in order.
    pub(crate) values: Sorted,
    /// Words of values that have white space, in order.
    pub(crate) words: Sorted,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Term {
    pub(crate) value: Value,
    pub(crate) documents: Postings,
    pub(crate) field: FieldId,
    pub(crate) is_word: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) name: Box<str>,
    /// In ascending order.
    pub(crate) terms: Box<[TermId]>,
}

/// An index over things or over thing groups; documents are found by their names.
///
/// It keeps what can be searched, not the documents. Not synchronised: changes need `&mut`.
#[derive(Clone, Debug)]
pub struct Index {
    pub(crate) kind: Kind,
    pub(crate) custom_fields: BTreeMap<String, FieldType>,
    pub(crate) field_ids: BTreeMap<Box<str>, FieldId>,
    pub(crate) fields: Slab<Field>,
    pub(crate) terms: Slab<Term>,
    pub(crate) documents: Slab<Entry>,
    /// All documents, by their names.
    pub(crate) names: Sorted,
    /// All documents.
    pub(crate) all: Bits,
}

impl Index {
    /// An empty index. Custom fields are those that can be aggregated besides the managed ones.
    pub fn new(kind: Kind, custom_fields: impl IntoIterator<Item = (String, FieldType)>) -> Self {
        Self {
            kind,
            custom_fields: custom_fields.into_iter().collect(),
            field_ids: BTreeMap::new(),
            fields: Slab::default(),
            terms: Slab::default(),
            documents: Slab::default(),
            names: Sorted::default(),
            all: Bits::default(),
        }
    }

    /// Replaces the custom fields. Nothing has to be built anew: every field is searched, and types
    /// matter to aggregations alone.
    pub fn set_custom_fields(&mut self, fields: impl IntoIterator<Item = (String, FieldType)>) {
        self.custom_fields = fields.into_iter().collect();
    }

    /// How many documents there are.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// True when the document is there.
    pub fn contains(&self, name: &str) -> bool {
        self.document(name).is_some()
    }

    /// Adds or replaces all that is known of a thing.
    pub fn upsert(&mut self, name: &str, document: &Document) {
        let id = self.document_or_new(name);
        self.replace(id, |_| true, document.fields(name));
    }

    /// Adds a thing, or replaces what the registry has of it.
    pub fn set_registry(&mut self, name: &str, registry: &Registry) {
        let id = self.document_or_new(name);
        let is_replaced = |field: &str| document::source_of(field) == document::REGISTRY;
        self.replace(id, is_replaced, registry.fields(name));
    }

    /// Replaces the connectivity of a thing. False when there is no such thing, and nothing happens:
    /// clients need not be things.
    pub fn set_connectivity(&mut self, name: &str, connectivity: &Connectivity) -> bool {
        self.set_source(name, document::CONNECTIVITY, connectivity.fields())
    }

    /// Replaces a shadow of a thing, the classic one or a named one; `None` when it is deleted. False when
    /// there is no such thing, and nothing happens.
    pub fn set_shadow(&mut self, name: &str, shadow: Option<&str>, state: Option<&Shadow>) -> bool {
        let fields = state.map(|state| state.fields(shadow)).unwrap_or_default();
        self.set_source(name, &document::shadow_source(shadow), fields)
    }

    /// Adds or replaces a thing group.
    pub fn set_group(&mut self, name: &str, group: &Group) {
        let id = self.document_or_new(name);
        self.replace(id, |_| true, group.fields(name));
    }

    /// Removes a document; false when it was not there.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(id) = self.document(name) else { return false };
        self.replace(id, |_| true, Fields::new());
        self.names.remove(|other| *self.documents.get(other).name < *name);
        self.documents.free(id);
        self.all.remove(id);
        true
    }

    pub(crate) fn document(&self, name: &str) -> Option<DocId> {
        let is_before = |id| *self.documents.get(id).name < *name;
        let found = self.names.iter_from(is_before).next()?;
        (*self.documents.get(found).name == *name).then_some(found)
    }

    fn document_or_new(&mut self, name: &str) -> DocId {
        if let Some(id) = self.document(name) {
            return id;
        }
        let id = self.documents.add(Entry { name: name.into(), terms: Box::default() });
        self.names.insert(id, |other| *self.documents.get(other).name < *name);
        self.all.insert(id);
        id
    }

    fn set_source(&mut self, name: &str, source: &str, fields: Fields) -> bool {
        let Some(id) = self.document(name) else { return false };
        self.replace(id, |field| document::source_of(field) == source, fields);
        true
    }

    /// Puts `fields` in place of the document's fields that `is_replaced`; what stays costs nothing.
    fn replace(&mut self, id: DocId, is_replaced: impl Fn(&str) -> bool, fields: Fields) {
        let before = std::mem::take(&mut self.documents.get_mut(id).terms);
        let stays = |term: &TermId| {
            let field = self.terms.get(*term).field;
            !is_replaced(&self.fields.get(field).name)
        };
        let mut after: Vec<TermId> = before.iter().copied().filter(stays).collect();
        for (name, value) in fields {
            let field = self.field_or_new(&name);
            if let Value::Text(text) = &value
                && text.contains(char::is_whitespace)
            {
                for word in text.split_whitespace() {
                    after.push(self.term_or_new(field, Value::Text(word.into()), true));
                }
            }
            after.push(self.term_or_new(field, value, false));
        }
        after.sort_unstable();
        after.dedup();
        for term in &after {
            if before.binary_search(term).is_err() {
                self.terms.get_mut(*term).documents.insert(id);
            }
        }
        for term in &before {
            if after.binary_search(term).is_err() {
                self.leave(id, *term);
            }
        }
        self.documents.get_mut(id).terms = after.into();
    }

    /// Takes a document from a term, and with its last document the term, and with its last term the field.
    fn leave(&mut self, document: DocId, id: TermId) {
        let term = self.terms.get_mut(id);
        term.documents.remove(document);
        if term.documents.len() > 0 {
            return;
        }
        let Term { value, field: field_id, is_word, .. } = self.terms.free(id);
        let (terms, field) = (&self.terms, self.fields.get_mut(field_id));
        let list = if is_word { &mut field.words } else { &mut field.values };
        let key = value.key();
        // The slot of the freed term may be compared, so its value has to be seen as it was.
        let is_before = |other| other != id && terms.get(other).value.key().cmp(&key).is_lt();
        list.remove(is_before);
        if field.values.is_empty() && field.words.is_empty() {
            let field = self.fields.free(field_id);
            self.field_ids.remove(&field.name);
        }
    }

    fn field_or_new(&mut self, name: &str) -> FieldId {
        if let Some(id) = self.field_ids.get(name) {
            return *id;
        }
        let id = self.fields.add(Field { name: name.into(), ..Field::default() });
        self.field_ids.insert(name.into(), id);
        id
    }

    fn term_or_new(&mut self, field_id: FieldId, value: Value, is_word: bool) -> TermId {
        let field = self.fields.get_mut(field_id);
        let list = if is_word { &mut field.words } else { &mut field.values };
        let key = value.key();
        let is_before = |other| self.terms.get(other).value.key().cmp(&key).is_lt();
        if let Some(found) = list.iter_from(is_before).next()
            && self.terms.get(found).value == value
        {
            return found;
        }
        let term = Term { value, documents: Postings::Empty, field: field_id, is_word };
        let id = self.terms.add(term);
        let key = self.terms.get(id).value.key();
        list.insert(id, |other| self.terms.get(other).value.key().cmp(&key).is_lt());
        id
    }
}

/// Values at small numbers that stay theirs until they are freed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slab<T> {
    items: Vec<T>,
    free: Vec<u32>,
}

impl<T: Default> Slab<T> {
    pub(crate) fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    pub(crate) fn get(&self, id: u32) -> &T {
        &self.items[id as usize]
    }

    fn get_mut(&mut self, id: u32) -> &mut T {
        &mut self.items[id as usize]
    }

    fn add(&mut self, item: T) -> u32 {
        if let Some(id) = self.free.pop() {
            self.items[id as usize] = item;
            return id;
        }
        let id = u32::try_from(self.items.len()).expect("memory ends before 2^32 items");
        self.items.push(item);
        id
    }

    fn free(&mut self, id: u32) -> T {
        self.free.push(id);
        std::mem::take(self.get_mut(id))
    }
}
