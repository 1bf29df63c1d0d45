//! Fleet queries: whatever the text, it is refused with its place, or index and document agree on it.
//!
//! Input: lines. The first is a query, each other one the value of an attribute of a thing. Searching
//! must find exactly the things that match when they are looked at one by one, page by page too.
//!
//! Run: `RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz query`.

#![no_main]

use gnomon_search::{Index, Kind, LENGTH_MAX, Query, Registry, Shadow};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let query = match Query::parse(lines.next().unwrap_or_default()) {
        Ok(query) => query,
        Err(error) => {
            assert!((1..=LENGTH_MAX + 2).contains(&error.position), "{error}");
            return;
        }
    };
    let mut index = Index::new(Kind::Things, []);
    let mut names = Vec::new();
    for (n, value) in lines.enumerate().take(1_000) {
        let name = format!("t{n:03}");
        let attributes = [("a".to_owned(), value.to_owned())].into();
        index.set_registry(&name, &Registry { attributes, ..Registry::default() });
        if let Ok(reported) = serde_json::from_str(value) {
            index.set_shadow(&name, None, Some(&Shadow { reported, ..Shadow::default() }));
        }
        names.push(name);
    }
    let expected: Vec<&String> = names.iter().filter(|name| index.matches(&query, name)).collect();
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = index.search(&query, after.as_deref(), 7);
        found.extend(page.names);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(found.iter().eq(expected), "{found:?}");
    for name in &names {
        assert!(index.remove(name));
    }
    assert!(index.is_empty());
});
