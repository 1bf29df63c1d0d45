//! Merge and delta of AWS's description, on plain JSON and without regard to speed.

use serde_json::{Map, Value};

/// The state after a request: objects merge, null deletes, all else replaces.
pub fn merged(state: &Value, request: &Value) -> Value {
    let mut state = state.as_object().cloned().unwrap_or_default();
    for section in ["desired", "reported"] {
        if let Some(change) = request.get(section) {
            let before = state.remove(section).unwrap_or_default();
            let after = merge(before, change);
            if !is_nothing(&after) {
                state.insert(section.into(), after);
            }
        }
    }
    Value::Object(state)
}

fn merge(before: Value, change: &Value) -> Value {
    let Value::Object(change) = change else { return change.clone() };
    let mut after = match before {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    for (name, value) in change {
        let inner = merge(after.remove(name).unwrap_or_default(), value);
        if !is_nothing(&inner) {
            after.insert(name.clone(), inner);
        }
    }
    Value::Object(after)
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}

/// What of `desired` is not in `reported`; null when nothing is.
pub fn delta(state: &Value) -> Value {
    difference(&state["desired"], &state["reported"])
}

fn difference(desired: &Value, reported: &Value) -> Value {
    let (Value::Object(wanted), Value::Object(found)) = (desired, reported) else {
        return if desired == reported { Value::Null } else { desired.clone() };
    };
    let nothing = Value::Null;
    let differing = wanted.iter().filter_map(|(name, wanted)| {
        let inner = difference(wanted, found.get(name).unwrap_or(&nothing));
        (!inner.is_null()).then(|| (name.clone(), inner))
    });
    let differing: Map<_, _> = differing.collect();
    if differing.is_empty() { Value::Null } else { Value::Object(differing) }
}
