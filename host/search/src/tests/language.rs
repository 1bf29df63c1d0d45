//! What queries mean, and which texts are none.

use super::{attributes, check, texts};
use crate::{Group, Index, Kind, LENGTH_MAX, NESTING_MAX, Query, Reason, TERMS_MAX};
use proptest::prelude::*;

const ALL: &[&str] = &["Pump-1", "pump-2", "valve-1", "valve-2"];

#[test]
fn a_field_is_searched_by_value_without_regard_to_case() {
    check("thingName:pump-1", &["Pump-1"]);
    check("thingTypeName:valve", &["valve-1", "valve-2"]);
    check("registry.thingTypeName:valve", &["valve-1", "valve-2"]);
    check("thingGroupNames:PLANT", &["Pump-1", "pump-2"]);
    check("connectivity.connected:TRUE", &["Pump-1"]);
    check("shadow.name.config.reported.on:true", &["Pump-1"]);
    check("shadow.reported.tags:blue", &["Pump-1"]);
    check("shadow.desired.nest.a:2", &["Pump-1"]);
}

#[test]
fn names_of_fields_have_a_case_and_an_unknown_one_matches_nothing() {
    check("thingname:pump-1", &[]);
    check("attributes.Line:3", &[]);
    check("thingType:pump", &[]);
    check("NOT thingType:pump", ALL);
}

#[test]
fn a_number_of_json_is_equal_however_it_is_written_but_text_is_not() {
    check("shadow.desired.temp:20.0", &["Pump-1"]);
    check("shadow.reported.temp:2150e-2", &["Pump-1"]);
    check("attributes.fw:1.10", &["Pump-1"]);
    check("attributes.fw:1.1", &["valve-1"]);
}

#[test]
fn words_of_a_value_are_found_alone_and_in_a_row() {
    check("shadow.reported.note:WELL", &["Pump-1"]);
    check("shadow.reported.note:\"is  well\"", &["Pump-1"]);
    check("shadow.reported.note:\"all is well now\"", &["Pump-1"]);
    check("shadow.reported.note:\"is now\"", &[]);
    check("shadow.reported.note:\"all is well now and then\"", &[]);
    check("shadow.reported.note:no*", &["Pump-1"]);
    check("shadow.reported.note:\"is we*\"", &[]);
}

#[test]
fn wildcards_stand_behind_or_inside() {
    check("thingName:pump*", &["Pump-1", "pump-2"]);
    check("thingName:VALVE-?", &["valve-1", "valve-2"]);
    check("thingName:valve-1?", &[]);
    check("thingName:p*2", &["pump-2"]);
    check("attributes.line:1*", &["pump-2"]);
    check("shadow.reported.temp:21*", &["Pump-1"]);
    check("attributes.line:*", &["Pump-1", "pump-2", "valve-1"]);
    check("shadow.name.config:*", &["Pump-1"]);
    check("connectivity:*", &["Pump-1", "valve-2"]);
    check("NOT connectivity.timestamp:*", &["pump-2", "valve-1"]);
    check("*", ALL);
    check("thingName:p\\*2", &[]);
}

#[test]
fn ranges_compare_numbers_as_numbers_and_else_text() {
    check("attributes.line:[3 TO 10]", &["Pump-1", "pump-2"]);
    check("attributes.line:{3 TO 10]", &["pump-2"]);
    check("attributes.line:[3 TO 10}", &["Pump-1"]);
    check("attributes.line:[* TO 9.5]", &["Pump-1"]);
    check("attributes.line:[* TO *]", &["Pump-1", "pump-2", "valve-1"]);
    check("attributes.line>3", &["pump-2"]);
    check("attributes.line>=3", &["Pump-1", "pump-2"]);
    check("attributes.line<10", &["Pump-1"]);
    check("attributes.line:<=10", &["Pump-1", "pump-2"]);
    check("shadow.reported.temp>-5", &["Pump-1"]);
    check("connectivity.timestamp:[1650000000000 TO *]", &["Pump-1"]);
    check("attributes.line:[ABA TO \"abd\"]", &["valve-1"]);
    check("attributes.line>a", &["valve-1"]);
    // By text "10" is below "3", and both are below "b".
    check("attributes.line<b", &["Pump-1", "pump-2", "valve-1"]);
    check("thingName:[pump-1 TO pump-1]", &["Pump-1"]);
}

#[test]
fn operators_have_their_order() {
    check("thingTypeName:pump attributes.line:3", &["Pump-1"]);
    check("thingName:valve-1 OR thingTypeName:pump AND attributes.line:3", &["Pump-1", "valve-1"]);
    check("(thingName:valve-1 OR thingTypeName:pump) AND attributes.line:3", &["Pump-1"]);
    check("thingTypeName:pump NOT attributes.line>5", &["Pump-1"]);
    check("NOT NOT thingName:pump-2", &["pump-2"]);
    check("-thingTypeName:pump", &["valve-1", "valve-2"]);
    check("thingName:(pump* AND -pump-2)", &["Pump-1"]);
    check("thingName:(pump-1 OR valve-1 OR nobody)", &["Pump-1", "valve-1"]);
    check("attributes.line:([3 TO 3] OR abc)", &["Pump-1", "valve-1"]);
    check("thingGroupNames:(plant hall-1)", &["Pump-1"]);
}

#[test]
fn a_term_without_a_field_searches_all_but_connectivity_and_versions() {
    check("pump", &["Pump-1", "pump-2"]);
    check("hall*", &["Pump-1", "valve-2"]);
    check("\"is well\"", &["Pump-1"]);
    check("false", &["Pump-1"]);
    check("7", &[]);
    check("shadow.version:7", &["Pump-1"]);
    check("MQTT_KEEP_ALIVE_TIMEOUT", &[]);
}

#[test]
fn a_backslash_makes_the_next_character_ordinary() {
    let mut index = Index::new(Kind::ThingGroups, []);
    let group = |description: &str| Group {
        description: Some(description.to_owned()),
        parents: texts(&["root", "site"]),
        attributes: attributes(&[("a:b", "(x)"), ("t", "AND")]),
        ..Group::default()
    };
    index.set_group("g1", &group("a*b \"q\" ~^ É"));
    index.set_group("g2", &group("axb"));
    let found = |text: &str| index.search(&Query::parse(text).unwrap(), None, 9).names;
    assert_eq!(found("description:a\\*b"), ["g1"]);
    assert_eq!(found("description:\"\\\"q\\\" ~^\""), ["g1"]);
    assert_eq!(found("description:\\~\\^"), ["g1"]);
    assert_eq!(found("description:é"), ["g1"]);
    assert_eq!(found("description:é*"), ["g1"]);
    assert_eq!(found("attributes.a\\:b:\\(x\\)"), ["g1", "g2"]);
    assert_eq!(found("attributes.t:AND AND parentGroupNames:site"), ["g1", "g2"]);
    assert_eq!(found("\"AND\" thingGroupName:g2"), ["g2"]);
    assert_eq!(found("thingGroupName:G*"), ["g1", "g2"]);
}

#[test]
fn a_text_that_is_no_query_is_refused_with_its_place() {
    let check = |text: &str, position: usize, reason: Reason| {
        let error = Query::parse(text).unwrap_err();
        assert_eq!((error.position, error.reason), (position, reason), "{text}: {error}");
    };
    check("", 1, Reason::Empty);
    check("  ", 3, Reason::Empty);
    check("a AND", 6, Reason::TermExpected);
    check("a AND OR b", 7, Reason::TermExpected);
    check("OR b", 1, Reason::TermExpected);
    check("é NOT", 6, Reason::TermExpected);
    check("()", 2, Reason::TermExpected);
    check("a (b", 3, Reason::OpenParenthesis);
    check("a) b", 2, Reason::StrayParenthesis);
    check("a:\"b", 3, Reason::OpenQuote);
    check("a:b\\", 4, Reason::StrayBackslash);
    check("a:", 3, Reason::ValueExpected);
    check("a: b", 3, Reason::ValueExpected);
    check("a>", 3, Reason::ValueExpected);
    check("a>= 5", 4, Reason::ValueExpected);
    check(":b", 1, Reason::FieldExpected);
    check(">5", 1, Reason::FieldExpected);
    check("[1 TO 5]", 1, Reason::FieldExpected);
    check("attributes.*:5", 1, Reason::WildcardInField);
    check("a:*b", 3, Reason::LeadingWildcard);
    check("x ?b", 3, Reason::LeadingWildcard);
    check("a:[1 5]", 3, Reason::Range);
    check("a:[1 TO 5", 3, Reason::Range);
    check("a:[1 TO ]", 9, Reason::Range);
    check("a:[1* TO 5]", 4, Reason::WildcardInRange);
    check("a:b~2", 4, Reason::Unavailable);
    check("a:b^2", 4, Reason::Unavailable);
    check(&"x ".repeat(TERMS_MAX + 1), 2 * TERMS_MAX + 2, Reason::TooManyTerms);
    check(&"x".repeat(LENGTH_MAX + 1), 1, Reason::TooLong);
    check(&"(".repeat(LENGTH_MAX), NESTING_MAX + 1, Reason::TooDeep);
    let deep = |n| format!("{}x{}", "(".repeat(n), ")".repeat(n));
    assert!(Query::parse(&deep(NESTING_MAX)).is_ok());
    assert!(Query::parse(&"x ".repeat(TERMS_MAX)).is_ok());
    assert!(Query::parse(&format!("{}x", "NOT ".repeat(200))).is_ok());
    let text = Query::parse("a:*b").unwrap_err().to_string();
    assert!(text.ends_with("whatever has the field (at character 3)"), "{text}");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,60}", dense in r#"[ab:"*?\\()\[\]{}<>=~^\- TOANDRé]{0,60}"#) {
        let index = super::fleet();
        for text in [text, dense] {
            match Query::parse(&text) {
                Ok(query) => _ = index.search(&query, None, 3),
                Err(error) => prop_assert!((1..=62).contains(&error.position), "{error}"),
            }
        }
    }
}
