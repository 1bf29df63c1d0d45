//! Aggregations, and the pages of a search.

use super::{attributes, texts};
use crate::{
    AggregationError, Bucket, Connectivity, FieldType, Index, Kind, Page, Query, Registry, Shadow,
};
use serde_json::json;

fn query(text: &str) -> Query {
    Query::parse(text).unwrap()
}

/// Ten things: line 1 to 10, one of them not a number; even ones are connected.
fn index() -> Index {
    let custom = [
        ("attributes.line".to_owned(), FieldType::Number),
        ("attributes.color".to_owned(), FieldType::String),
        ("shadow.reported.on".to_owned(), FieldType::Boolean),
        ("shadow.reported.temp".to_owned(), FieldType::Number),
    ];
    let mut index = Index::new(Kind::Things, custom);
    for n in 1..=10_u32 {
        let name = format!("t{n:02}");
        let line = if n == 10 { "none".to_owned() } else { n.to_string() };
        let color = ["Red", "red", "blue"][n as usize % 3];
        let registry = Registry {
            groups: texts(&["all", if n > 5 { "late" } else { "early" }]),
            attributes: attributes(&[("line", &line), ("color", color)]),
            version: 2,
            ..Registry::default()
        };
        index.set_registry(&name, &registry);
        let connected = n % 2 == 0;
        index.set_connectivity(&name, &Connectivity { connected, ..Connectivity::default() });
        let reported = json!({"on": n <= 3, "temp": if n < 3 { json!("4.0") } else { json!(4) }});
        index.set_shadow(&name, None, Some(&Shadow { reported, ..Shadow::default() }));
    }
    index
}

#[test]
fn statistics_are_of_the_population_and_ignore_other_types() {
    let statistics = index().statistics(&query("*"), "attributes.line").unwrap();
    let numbers = statistics.numbers.unwrap();
    assert_eq!((statistics.count, numbers.sum, numbers.average), (9, 45.0, 5.0));
    assert_eq!((numbers.minimum, numbers.maximum, numbers.sum_of_squares), (1.0, 9.0, 285.0));
    assert!((numbers.variance - 60.0 / 9.0).abs() < 1e-12);
    assert!((numbers.std_deviation - (60.0_f64 / 9.0).sqrt()).abs() < 1e-12);
    let some = index().statistics(&query("connectivity.connected:true"), "attributes.line");
    assert_eq!(some.unwrap().numbers.unwrap().sum, 20.0);
}

#[test]
fn text_is_counted_truth_is_0_and_1_and_nothing_has_no_numbers() {
    let index = index();
    let statistics = |text, field| index.statistics(&query(text), field).unwrap();
    let groups = statistics("*", "registry.thingGroupNames");
    assert_eq!((groups.count, groups.numbers), (10, None));
    let on = statistics("*", "shadow.reported.on");
    let numbers = on.numbers.unwrap();
    assert_eq!((on.count, numbers.sum, numbers.minimum, numbers.maximum), (10, 3.0, 0.0, 1.0));
    let none = statistics("thingName:nobody", Kind::Things.default_field());
    assert_eq!((none.count, none.numbers), (0, None));
    assert_eq!(statistics("*", "registry.version").numbers.unwrap().average, 2.0);
}

#[test]
fn cardinality_counts_different_values() {
    let index = index();
    let cardinality = |field| index.cardinality(&query("*"), field).unwrap();
    assert_eq!(cardinality("thingName"), 10);
    assert_eq!(cardinality("attributes.color"), 2);
    assert_eq!(cardinality("shadow.reported.temp"), 1);
    assert_eq!(cardinality("shadow.hasDelta"), 1);
    assert_eq!(cardinality("shadow.name.any.version"), 0);
    assert_eq!(index.cardinality(&query("attributes.line<4"), "attributes.line"), Ok(3));
}

#[test]
fn percentiles_are_between_neighbours_in_proportion() {
    let index = index();
    let percentiles = |text, percents: &[f64]| {
        index.percentiles(&query(text), "attributes.line", percents).unwrap()
    };
    let some = percentiles("*", &[0.0, 25.0, 50.0, 99.0, 100.0]);
    assert_eq!(some[..3], [(0.0, 1.0), (25.0, 3.0), (50.0, 5.0)]);
    assert!((some[3].1 - 8.92).abs() < 1e-9 && some[4].1 == 9.0, "{some:?}");
    assert_eq!(percentiles("thingName:nobody", &[50.0]), []);
}

#[test]
fn buckets_are_the_largest_first() {
    let index = index();
    let all = index.buckets(&query("*"), "attributes.color", 10).unwrap();
    let bucket = |key: &str, count| Bucket { key: key.to_owned(), count };
    assert_eq!(all.total_count, 10);
    assert_eq!(all.buckets, [bucket("red", 7), bucket("blue", 3)]);
    let groups = index.buckets(&query("*"), "thingGroupNames", 2).unwrap();
    assert_eq!(groups.buckets, [bucket("all", 10), bucket("early", 5)]);
    let temp = index.buckets(&query("*"), "shadow.reported.temp", 9).unwrap();
    assert_eq!(temp.buckets, [bucket("4", 10)]);
    let on = index.buckets(&query("thingName:t0*"), "shadow.reported.on", 9).unwrap();
    assert_eq!(on.buckets, [bucket("false", 6), bucket("true", 3)]);
}

#[test]
fn a_field_without_a_type_and_a_wrong_percentage_are_refused() {
    let mut index = index();
    let error = index.statistics(&query("*"), "attributes.size").unwrap_err();
    assert!(error.to_string().starts_with("attributes.size is neither"), "{error}");
    assert!(index.cardinality(&query("*"), "shadow.name.a.b.version").is_err());
    let error = index.percentiles(&query("*"), "attributes.color", &[50.0]).unwrap_err();
    assert!(matches!(error, AggregationError::NotNumeric { .. }));
    for percent in [-1.0, 100.5, f64::NAN] {
        let error = index.percentiles(&query("*"), "attributes.line", &[percent]).unwrap_err();
        assert!(matches!(error, AggregationError::Percent { .. }));
    }
    index.set_custom_fields([("attributes.size".to_owned(), FieldType::String)]);
    assert!(index.buckets(&query("*"), "attributes.size", 5).unwrap().buckets.is_empty());
    assert!(index.buckets(&query("*"), "attributes.line", 5).is_err());
}

#[test]
fn pages_are_in_the_order_of_names_and_know_their_end() {
    let index = index();
    let page = |after, limit| index.search(&query("connectivity.connected:true"), after, limit);
    let expected = |names: &[&str], next: Option<&str>| Page {
        names: texts(names),
        next: next.map(str::to_owned),
    };
    assert_eq!(page(None, 2), expected(&["t02", "t04"], Some("t04")));
    assert_eq!(page(Some("t04"), 3), expected(&["t06", "t08", "t10"], None));
    // The name that a page ended with may be gone.
    assert_eq!(page(Some("t041"), 1), expected(&["t06"], Some("t06")));
    assert_eq!(page(Some("zz"), 5), Page::default());
    assert_eq!(page(None, 0), Page::default());
}
