//! The language by examples, the index against a naive reading of the same documents, the figures.

mod figures;
mod language;
mod model;

use crate::{Connectivity, Document, Index, Kind, Query, Registry, Shadow};
use serde_json::json;
use std::collections::BTreeMap;

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Four things that are used by most tests.
fn fleet() -> Index {
    let mut index = Index::new(Kind::Things, []);
    let registry = |thing_type: &str, groups: &[&str], pairs: &[(&str, &str)]| Registry {
        thing_id: format!("id-{}", pairs.len()),
        thing_type: Some(thing_type.to_owned()),
        groups: texts(groups),
        attributes: attributes(pairs),
        version: 1,
    };
    let plant = registry("pump", &["Plant", "hall-1"], &[("line", "3"), ("fw", "1.10")]);
    let pump = Document {
        registry: plant,
        connectivity: Some(Connectivity {
            connected: true,
            timestamp_ms: Some(1_700_000_000_000),
            disconnect_reason: None,
        }),
        shadow: Some(Shadow {
            reported: json!({"temp": 21.5, "tags": ["red", "Blue"], "note": "all is well now"}),
            desired: json!({"temp": 20, "nest": [{"a": 1}, {"a": 2}]}),
            has_delta: true,
            version: 7,
            ..Shadow::default()
        }),
        named_shadows: [(
            "config".to_owned(),
            Shadow { reported: json!({"on": true}), version: 2, ..Shadow::default() },
        )]
        .into(),
    };
    index.upsert("Pump-1", &pump);
    index.set_registry("pump-2", &registry("pump", &["Plant"], &[("line", "10")]));
    index.set_registry("valve-1", &registry("Valve", &[], &[("line", "abc"), ("fw", "1.1")]));
    index.set_registry("valve-2", &registry("Valve", &["hall-1"], &[]));
    let lost = Connectivity {
        connected: false,
        timestamp_ms: Some(1_600_000_000_000),
        disconnect_reason: Some("MQTT_KEEP_ALIVE_TIMEOUT".to_owned()),
    };
    assert!(index.set_connectivity("valve-2", &lost));
    assert!(!index.set_connectivity("nobody", &lost) && !index.contains("nobody"));
    index
}

/// Searches the fleet; one document alone has to come to the same.
#[track_caller]
fn check(query: &str, expected: &[&str]) {
    let index = fleet();
    let parsed = Query::parse(query).unwrap();
    assert_eq!(index.search(&parsed, None, 10).names, expected, "{query}");
    assert_eq!(index.count(&parsed), expected.len());
    for name in ["Pump-1", "pump-2", "valve-1", "valve-2", "nobody"] {
        assert_eq!(index.matches(&parsed, name), expected.contains(&name), "{query} {name}");
    }
}
