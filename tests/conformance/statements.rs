//! Holds the lists of normative statements and the tests' citations together.
//!
//! In: `statements-*.txt`, and the sources of the tests. A list has a line for every statement of
//! its standard, its number and what it is about, and indented below it what shows it: tests as
//! `module::name`, or one of `client` (nothing that a server could break), `untestable: why`,
//! `missing` (nobody has written the test). Fails when one side knows something that the other does
//! not.

use std::collections::{BTreeMap, BTreeSet};

/// The tests' modules.
const SOURCES: &[(&str, &str)] = &[
    ("aliases", include_str!("aliases.rs")),
    ("auth", include_str!("auth.rs")),
    ("connect", include_str!("connect.rs")),
    ("deliver", include_str!("deliver.rs")),
    ("delivery", include_str!("delivery.rs")),
    ("disconnect", include_str!("disconnect.rs")),
    ("enhanced", include_str!("enhanced.rs")),
    ("limits", include_str!("limits.rs")),
    ("malformed", include_str!("malformed.rs")),
    ("properties", include_str!("properties.rs")),
    ("publish", include_str!("publish.rs")),
    ("resume", include_str!("resume.rs")),
    ("retained", include_str!("retained.rs")),
    ("session", include_str!("session.rs")),
    ("shared", include_str!("shared.rs")),
    ("subscribe", include_str!("subscribe.rs")),
    ("topics", include_str!("topics.rs")),
    ("websocket", include_str!("websocket.rs")),
    ("will", include_str!("will.rs")),
    ("window", include_str!("window.rs")),
];

/// A standard: how citations name it, its list, how many statements it has and how many of them
/// nobody tests.
const STANDARDS: &[(&str, &str, usize, usize)] = &[
    ("3.1.1", include_str!("statements-3.1.1.txt"), 141, 0),
    ("5.0", include_str!("statements-5.0.txt"), 254, 0),
];

/// What stands below a statement.
#[derive(Debug, Default)]
struct Shown {
    tests: BTreeSet<String>,
    /// Why there are none.
    instead: Option<String>,
}

/// The list as a map from the statement's number; panics at what it cannot read.
fn read_list(list: &str) -> BTreeMap<String, Shown> {
    let mut statements: BTreeMap<String, Shown> = BTreeMap::new();
    let mut current = None;
    for line in list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some(shown) = line.strip_prefix("    ") else {
            let (number, gist) = line.split_once(' ').expect("a number and what it is about");
            assert!(!gist.is_empty(), "{line}");
            let is_new = statements.insert(number.to_owned(), Shown::default()).is_none();
            assert!(is_new, "{number} is there twice");
            current = Some(number.to_owned());
            continue;
        };
        let statement = current.as_ref().and_then(|number| statements.get_mut(number));
        let statement = statement.expect("a statement before what shows it");
        let why = shown.strip_prefix("untestable: ");
        if matches!(shown, "client" | "missing") || why.is_some_and(|why| !why.is_empty()) {
            assert!(statement.instead.is_none(), "two reasons: {line}");
            statement.instead = Some(shown.to_owned());
        } else {
            assert!(statement.tests.insert(shown.to_owned()), "twice: {line}");
        }
    }
    statements
}

/// Every test with the statements of the standard that it cites.
fn citations(standard: &str) -> Vec<(String, Vec<String>)> {
    let head = format!("/// {standard}: ");
    let mut found = Vec::new();
    for (module, source) in SOURCES {
        let mut cited = Vec::new();
        let mut is_test = false;
        for line in source.lines() {
            if let Some(list) = line.strip_prefix(&head) {
                cited.extend(list.split(", ").map(str::to_owned));
            } else if line == "#[test]" {
                is_test = true;
            } else if let Some(rest) = line.strip_prefix("fn ") {
                let (name, _) = rest.split_once('(').expect("a function");
                let cited = std::mem::take(&mut cited);
                if std::mem::take(&mut is_test) {
                    found.push((format!("{module}::{name}"), cited));
                }
            }
        }
    }
    found
}

#[test]
fn every_test_cites_statements_that_exist_and_is_listed_below_them() {
    for (standard, list, ..) in STANDARDS {
        let statements = read_list(list);
        for (test, cited) in citations(standard) {
            for number in cited {
                let statement = statements.get(&number);
                let statement = statement.unwrap_or_else(|| panic!("{test} cites {number}"));
                assert!(
                    statement.tests.contains(&test),
                    "{standard}: {number} does not list {test}"
                );
            }
        }
    }
}

#[test]
fn every_listed_test_exists_and_cites_the_statement() {
    for (standard, list, ..) in STANDARDS {
        let tests: BTreeMap<_, _> = citations(standard).into_iter().collect();
        for (number, shown) in read_list(list) {
            for test in shown.tests {
                let cited = tests.get(&test);
                let cited = cited.unwrap_or_else(|| panic!("{standard}: {number}: no test {test}"));
                assert!(cited.contains(&number), "{standard}: {test} does not cite {number}");
            }
        }
    }
}

#[test]
fn every_statement_is_shown_or_explained() {
    for (standard, list, len, missing) in STANDARDS {
        let statements = read_list(list);
        assert_eq!(statements.len(), *len, "statements of {standard}");
        for (number, shown) in &statements {
            assert!(
                shown.tests.is_empty() != shown.instead.is_none(),
                "{standard}: {number} needs tests or a reason, and not both"
            );
        }
        let without = statements.values().filter(|it| it.instead.as_deref() == Some("missing"));
        assert_eq!(without.count(), *missing, "missing tests of {standard}");
    }
}

#[test]
fn every_test_cites_something() {
    let cited: Vec<_> = STANDARDS.iter().flat_map(|(standard, ..)| citations(standard)).collect();
    for (test, _) in &cited {
        let cites = cited.iter().any(|(it, numbers)| it == test && !numbers.is_empty());
        assert!(cites, "{test} cites no statement");
    }
}
