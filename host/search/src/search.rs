//! Which documents match a query.
//!
//! A query is planned against the fields that there are, then each of its terms becomes the bits of its
//! documents, and operators combine bits. Where one part of a conjunction has few documents, these are
//! looked at one by one instead, so that a broad part costs nothing.

use crate::document::{canonical, is_searched_without_field};
use crate::index::{Field, FieldId, Index, TermId};
use crate::query::{Node, Pattern, Query, Range, Test};
use crate::set::{Bits, DocId};
use crate::sorted::Sorted;
use crate::value::{Key, Value, may_be_number};
use std::hint::black_box;
use std::ops::Bound;
use std::ops::ControlFlow::{self, Break, Continue};

/// Documents up to which a result is sorted, instead of walking along all names.
const SORTED_MAX: usize = 1_000;

/// Terms that are looked at to estimate a part of a query; one with more is as good as everything. They
/// need not match: finding the few of a million that do is no estimate.
const ESTIMATED_TERMS: usize = 1_000;

/// Terms that are fetched at once.
const BATCH: usize = 64;

/// What it costs to look at a document, in documents that are added to bits.
const LOOK_COST: usize = 50;

/// A part of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In their order, by bytes.
    pub names: Vec<String>,
    /// What to hand in as `after` to get the next page; `None` when this is the last.
    pub next: Option<String>,
}

/// A query in terms of the fields of an index, good until the index changes.
#[derive(Debug)]
enum Plan<'q> {
    All,
    Term(PlannedTerm<'q>),
    And(Vec<Plan<'q>>),
    Or(Vec<Plan<'q>>),
    Not(Box<Plan<'q>>),
}

#[derive(Debug)]
struct PlannedTerm<'q> {
    /// In ascending order.
    fields: Vec<FieldId>,
    test: &'q Test,
}

impl Index {
    /// The first `limit` documents that match and whose names come after `after`. A later page costs as
    /// much as the first. Changes between two pages show in the later one.
    pub fn search(&self, query: &Query, after: Option<&str>, limit: usize) -> Page {
        let matched = self.matched(query);
        let is_before = |id: DocId| after.is_some_and(|after| self.name(id) <= after.as_bytes());
        // One more tells whether there is another page.
        let wanted = limit.saturating_add(1);
        let mut found: Vec<DocId> = if matched.count() <= SORTED_MAX {
            let mut found: Vec<DocId> = matched.iter().filter(|id| !is_before(*id)).collect();
            found.sort_unstable_by_key(|id| self.name(*id));
            found
        } else {
            let behind = self.names.iter_from(is_before);
            behind.filter(|id| matched.contains(*id)).take(wanted).collect()
        };
        let has_more = found.len() > limit;
        found.truncate(limit);
        let name = |id: DocId| self.documents.get(id).name.as_str().to_owned();
        let names: Vec<String> = found.into_iter().map(name).collect();
        Page { next: names.last().filter(|_| has_more).cloned(), names }
    }

    /// How many documents match.
    pub fn count(&self, query: &Query) -> usize {
        self.matched(query).count()
    }

    /// True when the document is there and matches.
    pub fn matches(&self, query: &Query, name: &str) -> bool {
        self.document(name).is_some_and(|id| self.holds(&self.plan(&query.root), id))
    }

    pub(crate) fn matched(&self, query: &Query) -> Bits {
        self.bits(&self.plan(&query.root))
    }

    fn plan<'q>(&self, node: &'q Node) -> Plan<'q> {
        let all = |nodes: &'q [Node]| nodes.iter().map(|node| self.plan(node)).collect();
        match node {
            Node::All => Plan::All,
            Node::And(nodes) => Plan::And(all(nodes)),
            Node::Or(nodes) => Plan::Or(all(nodes)),
            Node::Not(node) => Plan::Not(Box::new(self.plan(node))),
            Node::Term(term) => {
                let fields = match &term.field {
                    Some(field) => self.fields_of(canonical(field), &term.test),
                    None => self.unnamed_fields(),
                };
                Plan::Term(PlannedTerm { fields, test: &term.test })
            }
        }
    }

    /// The field, and for `field:*` those below it: `shadow.name.config:*` finds who has that shadow.
    fn fields_of(&self, name: &str, test: &Test) -> Vec<FieldId> {
        let mut fields: Vec<FieldId> = self.field_ids.get(name).copied().into_iter().collect();
        if *test == Test::Exists {
            let base = format!("{name}.");
            let from = (Bound::Included(base.as_str()), Bound::Unbounded);
            let behind = self.field_ids.range::<str, _>(from);
            let below = behind.take_while(|(name, _)| name.starts_with(&base));
            fields.extend(below.map(|(_, id)| *id));
        }
        fields.sort_unstable();
        fields
    }

    fn unnamed_fields(&self) -> Vec<FieldId> {
        let searched = self.field_ids.iter().filter(|(name, _)| is_searched_without_field(name));
        let mut fields: Vec<FieldId> = searched.map(|(_, id)| *id).collect();
        fields.sort_unstable();
        fields
    }

    /// Looks at one document.
    fn holds(&self, plan: &Plan<'_>, id: DocId) -> bool {
        match plan {
            Plan::All => true,
            Plan::And(plans) => plans.iter().all(|plan| self.holds(plan, id)),
            Plan::Or(plans) => plans.iter().any(|plan| self.holds(plan, id)),
            Plan::Not(plan) => !self.holds(plan, id),
            Plan::Term(term) => self.term_holds(term, id),
        }
    }

    fn term_holds(&self, planned: &PlannedTerm<'_>, id: DocId) -> bool {
        self.documents.get(id).terms.iter().any(|term| {
            let term = self.terms.get(*term);
            !term.is_word
                && planned.fields.binary_search(&term.field).is_ok()
                && planned.test.matches(&term.value)
        })
    }

    /// The documents that match.
    fn bits(&self, plan: &Plan<'_>) -> Bits {
        match plan {
            Plan::All => self.all.clone(),
            Plan::And(plans) => self.common(plans),
            Plan::Or(plans) => {
                let mut bits = Bits::default();
                plans.iter().for_each(|plan| bits.union(&self.bits(plan)));
                bits
            }
            Plan::Not(plan) => {
                let mut bits = self.all.clone();
                bits.subtract(&self.bits(plan));
                bits
            }
            Plan::Term(term) => {
                let mut bits = Bits::default();
                _ = self.each_value(term, usize::MAX, &mut |id| {
                    self.terms.get(id).documents.add_to(&mut bits);
                    Continue(())
                });
                // The index finds the first of several words; whether the others follow, the document says.
                if matches!(term.test, Test::Words(words) if words.are_several()) {
                    bits.retain(|id| self.term_holds(term, id));
                }
                bits
            }
        }
    }

    fn common(&self, plans: &[Plan<'_>]) -> Bits {
        let mut parts: Vec<(usize, &Plan<'_>)> =
            plans.iter().map(|plan| (self.estimate(plan), plan)).collect();
        parts.sort_by_key(|(estimate, _)| *estimate);
        let Some(((fewest, first), rest)) = parts.split_first() else { return self.all.clone() };
        let mut bits = self.bits(first);
        let rest_cost: usize = rest.iter().map(|(estimate, _)| estimate).sum();
        if fewest * LOOK_COST < rest_cost {
            bits.retain(|id| rest.iter().all(|(_, plan)| self.holds(plan, id)));
        } else {
            rest.iter().for_each(|(_, plan)| bits.intersect(&self.bits(plan)));
        }
        bits
    }

    /// About how many documents match; never fewer than do, unless it is a negation.
    fn estimate(&self, plan: &Plan<'_>) -> usize {
        let all = self.documents.len();
        match plan {
            Plan::All => all,
            Plan::And(plans) => plans.iter().map(|plan| self.estimate(plan)).min().unwrap_or(all),
            Plan::Or(plans) => plans.iter().map(|plan| self.estimate(plan)).sum(),
            Plan::Not(plan) => all.saturating_sub(self.estimate(plan)),
            Plan::Term(term) => {
                let (mut documents, mut terms) = (0, 0);
                let counted = self.each_value(term, ESTIMATED_TERMS, &mut |id| {
                    documents += self.terms.get(id).documents.len();
                    terms += 1;
                    if terms > ESTIMATED_TERMS { Break(()) } else { Continue(()) }
                });
                if counted.is_break() { all } else { documents }
            }
        }
    }

    /// The terms of the index that a term of a query matches; of several words, those with the first.
    /// Breaks off when more than `tests_max` values would have to be tested one by one.
    fn each_value(
        &self,
        planned: &PlannedTerm<'_>,
        mut tests_max: usize,
        each: &mut dyn FnMut(TermId) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for field in &planned.fields {
            let field = self.fields.get(*field);
            match planned.test {
                Test::Exists => self.walk(field.values.pieces(), &mut *each)?,
                Test::Words(words) => {
                    let text = words.text.as_str();
                    let found = [
                        self.find(&field.values, Key::of_text(text)),
                        words
                            .number
                            .and_then(|number| self.find(&field.values, Key::of_number(number))),
                        text.split_whitespace()
                            .next()
                            .and_then(|word| self.find(&field.words, Key::of_text(word))),
                    ];
                    found.into_iter().flatten().try_for_each(&mut *each)?;
                }
                Test::Pattern(pattern) => {
                    self.each_match(&field.values, pattern, &mut tests_max, each)?;
                    self.each_match(&field.words, pattern, &mut tests_max, each)?;
                }
                Test::Numbers(range) => self.each_number(field, range, each)?,
                Test::Texts(range) => self.each_text(field, range, &mut tests_max, each)?,
            }
        }
        Continue(())
    }

    fn find(&self, list: &Sorted, key: Key<'_>) -> Option<TermId> {
        let compare = |id| self.terms.get(id).value.key().cmp(&key);
        list.get(list.seek(|id| compare(id).is_lt())).filter(|id| compare(*id).is_eq())
    }

    fn each_number(
        &self,
        field: &Field,
        range: &Range<f64>,
        each: &mut dyn FnMut(TermId) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let number = |id| self.terms.get(id).value.number();
        let is_before = |id| number(id).is_some_and(|number| range.is_below(&number));
        let is_not_behind = |id| number(id).is_some_and(|number| !range.is_above(&number));
        self.walk(field.values.range(is_before, is_not_behind), each)
    }

    fn each_text(
        &self,
        field: &Field,
        range: &Range<String>,
        tests_max: &mut usize,
        each: &mut dyn FnMut(TermId) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let value = |id| &self.terms.get(id).value;
        let low = range.low.as_ref().map_or("", |(low, _)| low);
        self.walk(self.numeric(&field.values, low), |id| {
            let is_in = range.contains(&*value(id).as_text());
            tested(tests_max, id, is_in, each)
        })?;
        let is_numeric = |id| value(id).number().is_some();
        let is_before = |id| is_numeric(id) || range.is_below(&*value(id).as_text());
        let is_not_behind = |id| is_numeric(id) || !range.is_above(&*value(id).as_text());
        self.walk(field.values.range(is_before, is_not_behind), each)
    }

    fn each_match(
        &self,
        list: &Sorted,
        pattern: &Pattern,
        tests_max: &mut usize,
        each: &mut dyn FnMut(TermId) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let value = |id| &self.terms.get(id).value;
        let prefix = pattern.prefix.as_str();
        let mut buffer = Vec::new();
        let mut test = |id| {
            let matches = pattern.matches(value(id).bytes(&mut buffer));
            tested(tests_max, id, matches, each)
        };
        self.walk(self.numeric(list, prefix), &mut test)?;
        let from = Key { number: None, text: prefix.as_bytes() };
        let is_before = |id| value(id).key().cmp(&from).is_lt();
        let has_prefix = |value: &Value| match value {
            Value::Text(text) => text.as_bytes().starts_with(prefix.as_bytes()),
            Value::Number(_) => false,
        };
        let is_not_behind = |id| is_before(id) || has_prefix(value(id));
        let found = list.range(is_before, is_not_behind);
        if pattern.is_prefix() { self.walk(found, each) } else { self.walk(found, test) }
    }

    /// Calls `each` with terms, each of which may be a cache miss: a few are fetched at once before the
    /// first is looked at, so that the misses do not wait for each other.
    pub(crate) fn walk<'a>(
        &self,
        pieces: impl Iterator<Item = &'a [TermId]>,
        mut each: impl FnMut(TermId) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for batch in pieces.flat_map(|piece| piece.chunks(BATCH)) {
            let fetched = batch.iter().map(|id| self.terms.get(*id).documents.is_one());
            black_box(fetched.fold(0, |sum, is_one| sum + usize::from(is_one)));
            batch.iter().try_for_each(|id| each(*id))?;
        }
        Continue(())
    }

    /// The numeric values, if the text of one can be `low` or more at all. They are not in the order of
    /// their text: whoever asks about that tests all of them.
    fn numeric<'a>(&'a self, list: &'a Sorted, low: &str) -> impl Iterator<Item = &'a [TermId]> {
        let is_wanted = may_be_number(low);
        list.range(|_| false, move |id| is_wanted && self.terms.get(id).value.number().is_some())
    }
}

/// Goes on with a value that passed its test, and breaks off when there were too many tests.
fn tested(
    tests_max: &mut usize,
    id: TermId,
    passed: bool,
    each: &mut dyn FnMut(TermId) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let Some(left) = tests_max.checked_sub(1) else { return Break(()) };
    *tests_max = left;
    if passed { each(id) } else { Continue(()) }
}
