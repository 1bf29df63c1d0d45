//! The index and how it changes.
//!
//! A pair of field and value is a term; a term knows its documents, a document its terms, and a field its
//! values in their order. Ids are places in slabs, so that a thing costs what only it has: its name and
//! its own values. A text of several words is one value, and its words can be found besides. Where terms
//! lie says nothing, but an index that was built at once has those of a field side by side in their order.
//!
//! Invariant: a term has a document, a field has a term.

use crate::aggregate::{FieldType, Kind};
use crate::document::{
    self, Connectivity, Document, EachField, Group, Registry, Shadow, each_term,
};
use crate::set::{Bits, DocId, Postings};
use crate::slab::Slab;
use crate::sorted::{Position, Sorted};
use crate::value::{Given, Key, Text, Value};
use std::cmp::Ordering;
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

impl Term {
    /// The order of all terms: by field, values before words, by their keys.
    pub(crate) fn cmp(&self, field: FieldId, is_word: bool, key: &Key<'_>) -> Ordering {
        let list = (self.field, self.is_word).cmp(&(field, is_word));
        list.then_with(|| self.value.key().cmp(key))
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) name: Text,
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
        self.replace(id, |_| true, |each| document.each_field(name, each));
    }

    /// Adds a thing, or replaces what the registry has of it.
    pub fn set_registry(&mut self, name: &str, registry: &Registry) {
        let id = self.document_or_new(name);
        let is_replaced = |field: &str| document::source_of(field) == document::REGISTRY;
        self.replace(id, is_replaced, |each| registry.each_field(name, each));
    }

    /// Replaces the connectivity of a thing. False when there is no such thing, and nothing happens:
    /// clients need not be things.
    pub fn set_connectivity(&mut self, name: &str, connectivity: &Connectivity) -> bool {
        self.set_source(name, document::CONNECTIVITY, |each| connectivity.each_field(each))
    }

    /// Replaces a shadow of a thing, the classic one or a named one; `None` when it is deleted. False when
    /// there is no such thing, and nothing happens.
    pub fn set_shadow(&mut self, name: &str, shadow: Option<&str>, state: Option<&Shadow>) -> bool {
        self.set_source(name, &document::shadow_source(shadow), |each| {
            if let Some(state) = state {
                state.each_field(shadow, each);
            }
        })
    }

    /// Adds or replaces a thing group.
    pub fn set_group(&mut self, name: &str, group: &Group) {
        let id = self.document_or_new(name);
        self.replace(id, |_| true, |each| group.each_field(name, each));
    }

    /// Removes a document; false when it was not there.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(id) = self.document(name) else { return false };
        self.names.remove(self.position(name));
        self.remove_unnamed(id);
        true
    }

    /// Removes a document that is not, or no longer, among the names.
    pub(crate) fn remove_unnamed(&mut self, id: DocId) {
        self.replace(id, |_| true, |_| {});
        self.documents.free(id);
        self.all.remove(id);
    }

    /// The name of a document.
    pub(crate) fn name(&self, id: DocId) -> &[u8] {
        self.documents.get(id).name.as_bytes()
    }

    pub(crate) fn document(&self, name: &str) -> Option<DocId> {
        self.document_at(self.position(name), name)
    }

    /// Where a name is among the names, or would be.
    fn position(&self, name: &str) -> Position {
        self.names.seek(|id| self.name(id) < name.as_bytes())
    }

    fn document_at(&self, position: Position, name: &str) -> Option<DocId> {
        self.names.get(position).filter(|id| self.name(*id) == name.as_bytes())
    }

    fn document_or_new(&mut self, name: &str) -> DocId {
        let position = self.position(name);
        if let Some(id) = self.document_at(position, name) {
            return id;
        }
        let id = self.documents.add(Entry { name: name.into(), terms: Box::default() });
        self.names.insert(position, id);
        self.all.insert(id);
        id
    }

    fn set_source(
        &mut self,
        name: &str,
        source: &str,
        fields: impl FnOnce(&mut EachField<'_>),
    ) -> bool {
        let Some(id) = self.document(name) else { return false };
        self.replace(id, |field| document::source_of(field) == source, fields);
        true
    }

    /// Puts `fields` in place of the document's fields that `is_replaced`; what stays costs little, what is
    /// the same again a look at the document's own terms.
    fn replace(
        &mut self,
        id: DocId,
        is_replaced: impl Fn(&str) -> bool,
        fields: impl FnOnce(&mut EachField<'_>),
    ) {
        let before = std::mem::take(&mut self.documents.get_mut(id).terms);
        let is_replaced = |term: &TermId| {
            let field = self.terms.get(*term).field;
            is_replaced(&self.fields.get(field).name)
        };
        let (mut known, mut after): (Vec<TermId>, Vec<TermId>) =
            before.iter().partition(|term| is_replaced(term));
        known.sort_unstable_by(|a, b| {
            let b = self.terms.get(*b);
            self.terms.get(*a).cmp(b.field, b.is_word, &b.value.key())
        });
        let mut folded = String::new();
        fields(&mut |name, value| {
            let field = self.field_or_new(name);
            each_term(value, &mut folded, &mut |value, is_word| {
                let key = value.key();
                let order = |id: &TermId| self.terms.get(*id).cmp(field, is_word, &key);
                let term = match known.binary_search_by(order) {
                    Ok(at) => known[at],
                    Err(_) => self.term_or_new(field, value, is_word),
                };
                after.push(term);
            });
        });
        after.sort_unstable();
        after.dedup();
        if *before == *after {
            self.documents.get_mut(id).terms = before;
            return;
        }
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
        list.remove(list.seek(is_before));
        if field.values.is_empty() && field.words.is_empty() {
            let field = self.fields.free(field_id);
            self.field_ids.remove(&field.name);
        }
    }

    pub(crate) fn field_or_new(&mut self, name: &str) -> FieldId {
        if let Some(id) = self.field_ids.get(name) {
            return *id;
        }
        let id = self.fields.add(Field { name: name.into(), ..Field::default() });
        self.field_ids.insert(name.into(), id);
        id
    }

    fn term_or_new(&mut self, field_id: FieldId, value: Given<'_>, is_word: bool) -> TermId {
        let field = self.fields.get_mut(field_id);
        let list = if is_word { &mut field.words } else { &mut field.values };
        let key = value.key();
        let at = list.seek(|other| self.terms.get(other).value.key().cmp(&key).is_lt());
        if let Some(found) = list.get(at).filter(|id| value.is(&self.terms.get(*id).value)) {
            return found;
        }
        let term =
            Term { value: value.into(), documents: Postings::Empty, field: field_id, is_word };
        let id = self.terms.add(term);
        list.insert(at, id);
        id
    }
}
