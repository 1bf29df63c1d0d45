//! The index against a naive reading of the same documents, over random changes and queries.

use crate::document::{canonical, is_searched_without_field};
use crate::query::{Node, Query};
use crate::value::Value;
use crate::{Connectivity, Document, Index, Kind, Registry, Shadow};
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
            0 => format!(":{}", self.of(&["*", "a*", "1*", "r*d", "?x", "f?x", "0*", "t*"])),
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
        |(name, document): &(&String, &Document)| holds(&query.root, &document.fields(name));
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
