//! The index against a naive reading of the same documents, over random changes and queries; an index
//! built at once against the one that grew.

use crate::document::{canonical, is_searched_without_field};
use crate::query::{Node, Query};
use crate::set::Bits;
use crate::value::{Given, Value, fold};
use crate::{Builder, Connectivity, Document, FieldType, Group, Index, Kind, Registry, Shadow};
use serde_json::json;
use std::collections::BTreeMap;

const VALUES: &[&str] = &[
    "a",
    "B",
    "ab",
    "abc",
    "3",
    "3.0",
    "10",
    "-1",
    "007",
    "red",
    "Red fox",
    "fox",
    "the red fox",
    " ",
    "",
    "É",
    "Σς",
    "1 2",
    "true",
];

const FIELDS: &[&str] = &[
    "thingName",
    "thingTypeName",
    "thingGroupNames",
    "attributes.x",
    "attributes.y",
    "attributes",
    "registry.version",
    "shadow.reported.n",
    "shadow.reported.a.b",
    "shadow.reported",
    "shadow",
    "shadow.hasDelta",
    "shadow.name.c.desired.n",
    "shadow.name.c",
    "connectivity.connected",
    "connectivity.timestamp",
    "nothing",
];

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }

    fn of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.below(texts.len())]
    }

    fn value(&mut self) -> String {
        self.of(VALUES).to_owned()
    }

    fn json(&mut self, depth: usize) -> serde_json::Value {
        match self.below(if depth == 0 { 4 } else { 6 }) {
            0 => json!(self.of(VALUES)),
            1 => json!(self.below(12)),
            2 => json!(self.below(40) as f64 / 4.0 - 2.0),
            3 => json!(self.below(2) == 0),
            4 => json!([self.json(depth - 1), self.json(depth - 1)]),
            _ => json!({"b": self.json(depth - 1), "c": null}),
        }
    }

    fn registry(&mut self) -> Registry {
        let mut attributes = BTreeMap::new();
        for name in ["x", "y"] {
            if self.below(3) > 0 {
                attributes.insert(name.to_owned(), self.value());
            }
        }
        Registry {
            thing_id: format!("{}", self.below(1_000)),
            thing_type: (self.below(3) > 0).then(|| self.value()),
            groups: (0..self.below(3)).map(|_| self.value()).collect(),
            attributes,
            version: self.below(4) as u64,
        }
    }

    fn connectivity(&mut self) -> Connectivity {
        Connectivity {
            connected: self.below(2) == 0,
            timestamp_ms: Some(self.below(1_000) as u64),
            disconnect_reason: (self.below(2) == 0).then(|| self.value()),
        }
    }

    fn shadow(&mut self) -> Shadow {
        Shadow {
            reported: json!({"n": self.json(1), "a": self.json(2)}),
            desired: json!({"n": self.json(1)}),
            has_delta: self.below(2) == 0,
            version: self.below(5) as u64,
            ..Shadow::default()
        }
    }

    /// Mostly well-formed; broken ones are refused by the parser and tell nothing.
    fn query(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 5 } else { 10 }) {
            0..=3 => format!("{}{}", self.of(FIELDS), self.test()),
            4 => self.word(),
            5 => format!("({}) AND {}", self.query(depth - 1), self.query(depth - 1)),
            6 => format!("({} OR {})", self.query(depth - 1), self.query(depth - 1)),
            7 => format!("NOT ({})", self.query(depth - 1)),
            8 => format!("{} -{}", self.query(depth - 1), self.query(depth - 1)),
            _ => format!("{}:({} OR {})", self.of(FIELDS), self.word(), self.word()),
        }
    }

    fn test(&mut self) -> String {
        match self.below(6) {
            0 => format!(
                ":{}",
                self.of(&[
                    "*", "a*", "a?*", "1*", "1?", "-*1", "r*d", "r*f*x", "?x", "f?x", "é*", "σ?",
                    "0*7", "t*", "t*e", "dev-*1",
                ])
            ),
            1 => format!("{}{}", self.of(&[">", "<", ">=", "<="]), self.word()),
            2 => {
                let (low, high) = (self.of(&["[", "{"]), self.of(&["]", "}"]));
                let bounds = ["*", "3", "10", "-1", "1.5", "a", "red", "200", "800"];
                format!(":{low}{} TO {}{high}", self.of(&bounds), self.of(&bounds))
            }
            _ => format!(":{}", self.word()),
        }
    }

    fn word(&mut self) -> String {
        let value = self.value();
        if value.trim().is_empty() || value.contains(' ') || self.below(4) == 0 {
            format!("\"{value}\"")
        } else {
            value
        }
    }
}

fn fields(name: &str, document: &Document) -> Vec<(String, Value)> {
    let mut fields = Vec::new();
    document.each_field(name, &mut |field, value| {
        let value = match value {
            Given::Text(text) => Value::Text(fold(text).as_str().into()),
            value => value.into(),
        };
        fields.push((field.to_owned(), value));
    });
    fields
}

/// The language, field by field and value by value.
fn holds(node: &Node, fields: &[(String, Value)]) -> bool {
    match node {
        Node::All => true,
        Node::And(nodes) => nodes.iter().all(|node| holds(node, fields)),
        Node::Or(nodes) => nodes.iter().any(|node| holds(node, fields)),
        Node::Not(node) => !holds(node, fields),
        Node::Term(term) => fields.iter().any(|(name, value)| {
            let is_meant = match &term.field {
                None => is_searched_without_field(name),
                Some(field) => {
                    let rest = name.strip_prefix(canonical(field));
                    let is_below = term.test == crate::query::Test::Exists;
                    rest.is_some_and(|rest| rest.is_empty() || is_below && rest.starts_with('.'))
                }
            };
            is_meant && term.test.matches(value)
        }),
    }
}

fn change(
    random: &mut Random,
    index: &mut Index,
    model: &mut BTreeMap<String, Document>,
    names: usize,
) {
    let name = format!("{}-{}", random.of(&["T", "t", "dev"]), random.below(names));
    match random.below(8) {
        0 | 1 => {
            let document = Document {
                registry: random.registry(),
                connectivity: (random.below(2) == 0).then(|| random.connectivity()),
                shadow: (random.below(2) == 0).then(|| random.shadow()),
                named_shadows: (0..random.below(2))
                    .map(|_| ("c".to_owned(), random.shadow()))
                    .collect(),
            };
            index.upsert(&name, &document);
            model.insert(name, document);
        }
        2 => {
            let registry = random.registry();
            index.set_registry(&name, &registry);
            model.entry(name).or_default().registry = registry;
        }
        3 => assert_eq!(index.remove(&name), model.remove(&name).is_some()),
        4 | 5 => {
            let connectivity = random.connectivity();
            let known = model.get_mut(&name);
            assert_eq!(index.set_connectivity(&name, &connectivity), known.is_some());
            _ = known.map(|document| document.connectivity = Some(connectivity));
        }
        6 => {
            let shadow = (random.below(3) > 0).then(|| random.shadow());
            let known = model.get_mut(&name);
            assert_eq!(index.set_shadow(&name, None, shadow.as_ref()), known.is_some());
            _ = known.map(|document| document.shadow = shadow);
        }
        _ => {
            let shadow = random.shadow();
            let known = model.get_mut(&name);
            assert_eq!(index.set_shadow(&name, Some("c"), Some(&shadow)), known.is_some());
            _ = known.map(|document| document.named_shadows.insert("c".to_owned(), shadow));
        }
    }
}

fn compare(random: &mut Random, index: &Index, model: &BTreeMap<String, Document>) -> bool {
    let text = random.query(2);
    let Ok(query) = Query::parse(&text) else { return false };
    let matching =
        |(name, document): &(&String, &Document)| holds(&query.root, &fields(name, document));
    let expected: Vec<&String> = model.iter().filter(matching).map(|(name, _)| name).collect();
    let limit = 1 + random.below(40);
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = index.search(&query, after.as_deref(), limit);
        assert!(page.next.is_none() || page.names.len() == limit);
        found.extend(page.names);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(found.iter().eq(expected.iter().copied()), "{text}\n{found:?}\n{expected:?}");
    for name in model.keys().step_by(7) {
        assert_eq!(index.matches(&query, name), expected.contains(&name), "{text} {name}");
    }
    !expected.is_empty() && expected.len() < model.len()
}

/// The same documents at once, in any order, some of them twice.
fn built(random: &mut Random, model: &BTreeMap<String, Document>) -> Index {
    let mut builder = Builder::new(Kind::Things, custom_fields());
    let mut documents: Vec<(&String, &Document)> = model.iter().collect();
    for at in 1..documents.len() {
        documents.swap(at, random.below(at + 1));
    }
    for (name, _) in documents.iter().step_by(5) {
        let registry = random.registry();
        builder.add(name, &Document { registry, ..Document::default() });
    }
    documents.into_iter().for_each(|(name, document)| builder.add(name, document));
    builder.build()
}

fn custom_fields() -> [(String, FieldType); 3] {
    [
        ("attributes.x".to_owned(), FieldType::Number),
        ("attributes.y".to_owned(), FieldType::String),
        ("shadow.reported.n".to_owned(), FieldType::Number),
    ]
}

/// Lists are in order and without gaps, and terms and documents know of each other.
fn check_structure(index: &Index) {
    let mut listed = 0;
    for id in index.field_ids.values() {
        let field = index.fields.get(*id);
        for (list, is_word) in [(&field.values, false), (&field.words, true)] {
            let ids: Vec<u32> = list.iter().collect();
            let key = |id: &u32| index.terms.get(*id).value.key();
            assert!(ids.is_sorted_by(|a, b| key(a).cmp(&key(b)).is_lt()), "{}", field.name);
            assert!(ids.iter().map(|id| index.terms.get(*id)).all(|term| {
                term.field == *id && term.is_word == is_word && term.documents.len() > 0
            }));
            listed += ids.len();
        }
    }
    assert_eq!((listed, index.field_ids.len()), (index.terms.len(), index.fields.len()));
    let names: Vec<u32> = index.names.iter().collect();
    assert!(names.is_sorted_by(|a, b| index.name(*a) < index.name(*b)));
    assert_eq!((names.len(), index.all.count()), (index.len(), index.len()));
    let mut pairs = 0;
    for id in names {
        assert!(index.all.contains(id));
        let terms = &index.documents.get(id).terms;
        assert!(terms.is_sorted_by(|a, b| a < b));
        for term in terms {
            let mut documents = Bits::default();
            index.terms.get(*term).documents.add_to(&mut documents);
            assert!(documents.contains(id));
        }
        pairs += terms.len();
    }
    let lists = index.field_ids.values().map(|id| index.fields.get(*id));
    let terms = lists.flat_map(|field| field.values.iter().chain(field.words.iter()));
    assert_eq!(terms.map(|id| index.terms.get(id).documents.len()).sum::<usize>(), pairs);
}

/// Both give the same figures.
fn compare_figures(random: &mut Random, a: &Index, b: &Index) {
    let Ok(query) = Query::parse(&random.query(1)) else { return };
    for field in
        ["attributes.x", "attributes.y", "shadow.reported.n", "thingName", "thingGroupNames"]
    {
        assert_eq!(a.statistics(&query, field), b.statistics(&query, field), "{field}");
        assert_eq!(a.buckets(&query, field, 50), b.buckets(&query, field, 50), "{field}");
        assert_eq!(a.cardinality(&query, field), b.cardinality(&query, field), "{field}");
    }
}

#[test]
fn an_index_built_at_once_is_like_one_that_grew_and_can_be_changed() {
    let mut telling = 0;
    for (seed, names, changes) in [(4, 4, 100), (5, 30, 300), (6, 250, 1_200)] {
        let mut random = Random(seed);
        let mut grown = Index::new(Kind::Things, custom_fields());
        let mut model = BTreeMap::new();
        for _ in 0..4 {
            (0..changes).for_each(|_| change(&mut random, &mut grown, &mut model, names));
            let mut index = built(&mut random, &model);
            check_structure(&grown);
            check_structure(&index);
            assert_eq!((grown.len(), grown.terms.len()), (index.len(), index.terms.len()));
            for _ in 0..50 {
                telling += usize::from(compare(&mut random, &index, &model));
                compare_figures(&mut random, &grown, &index);
            }
            (0..changes).for_each(|_| change(&mut random, &mut index, &mut model, names));
            check_structure(&index);
            for _ in 0..50 {
                telling += usize::from(compare(&mut random, &index, &model));
            }
            grown = index;
        }
        for name in model.keys() {
            assert!(grown.remove(name));
        }
        assert_eq!((grown.terms.len(), grown.fields.len(), grown.all.count()), (0, 0, 0));
    }
    assert!(telling > 300, "only {telling} queries matched some and not all");
}

#[test]
fn groups_and_nothing_at_all_are_built_too() {
    let mut builder = Builder::new(Kind::ThingGroups, []);
    let group = |description: &str| Group {
        description: Some(description.to_owned()),
        version: 2,
        ..Group::default()
    };
    builder.add_group("b", &group("Red Hall"));
    builder.add_group("a", &group("blue hall"));
    builder.add_group("b", &group("green hall"));
    let mut index = builder.build();
    check_structure(&index);
    let found = |index: &Index, text: &str| {
        index.search(&Query::parse(text).unwrap(), None, 9).names.join(" ")
    };
    assert_eq!(found(&index, "description:hall AND version:2"), "a b");
    assert_eq!(found(&index, "description:red"), "");
    index.set_group("c", &group("red"));
    assert_eq!(found(&index, "NOT description:(blue OR green)"), "c");
    let mut empty = Builder::new(Kind::Things, []).build();
    check_structure(&empty);
    empty.set_registry("t", &Registry::default());
    assert_eq!(found(&empty, "*"), "t");
}

#[test]
fn the_index_agrees_with_a_naive_reading() {
    let mut telling = 0;
    // Few things have all the corner cases; many have long postings and pages.
    for (seed, names, changes) in [(1, 5, 400), (2, 20, 600), (3, 400, 2_000)] {
        let mut random = Random(seed);
        let mut index = Index::new(Kind::Things, []);
        let mut model = BTreeMap::new();
        for step in 0..changes {
            change(&mut random, &mut index, &mut model, names);
            if step % (changes / 200) == 0 {
                telling += usize::from(compare(&mut random, &index, &model));
            }
        }
        check_structure(&index);
        for _ in 0..300 {
            telling += usize::from(compare(&mut random, &index, &model));
        }
        for name in model.keys() {
            assert!(index.remove(name));
        }
        assert!(index.is_empty() && index.field_ids.is_empty());
        assert_eq!((index.terms.len(), index.fields.len(), index.all.count()), (0, 0, 0));
    }
    assert!(telling > 400, "only {telling} queries matched some and not all");
}
