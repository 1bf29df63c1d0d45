//! What SELECT made becomes cells.
//!
//! The members of a JSON object are the columns; anything else is the one column `value`. Objects
//! and arrays inside are kept as their JSON text, which SQLite's JSON functions read.

use gnomon_core::tables::Cell;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Longest name of a column in bytes.
const COLUMN_BYTES_MAX: usize = 128;

/// Column of a result that is no object.
const VALUE: &str = "value";

/// Columns that every table has.
pub const ID: &str = "_id";
pub const TIME: &str = "_time";

/// The cells of a result with their columns, in its order; no two columns are the same to SQL.
///
/// # Errors
/// Which member cannot be a column, and what to do.
pub fn cells(result: &[u8]) -> Result<Vec<(String, Cell)>, String> {
    let Ok(json) = serde_json::from_slice::<&RawValue>(result) else {
        // Neither is JSON a must, nor text.
        let cell = match std::str::from_utf8(result) {
            Ok(text) => Cell::Text(text.to_owned()),
            Err(_) => Cell::Blob(result.to_vec()),
        };
        return Ok(vec![(VALUE.to_owned(), cell)]);
    };
    if !json.get().starts_with('{') {
        return Ok(vec![(VALUE.to_owned(), cell(json).map_err(|e| format!("result: {e}"))?)]);
    }
    let Members(members) = serde_json::from_str(json.get()).map_err(|e| format!("result: {e}"))?;
    let mut cells: Vec<(String, Cell)> = Vec::with_capacity(members.len());
    for (name, value) in members {
        check_name(&name)?;
        let cell = cell(value).map_err(|error| format!("member {name:?}: {error}"))?;
        match cells.iter_mut().find(|(other, _)| other.eq_ignore_ascii_case(&name)) {
            // Of equal members of JSON the last one counts.
            Some(other) if other.0 == name => other.1 = cell,
            Some((other, _)) => {
                return Err(format!(
                    "members {other:?} and {name:?} would be the same column, because SQL does \
                     not tell cases apart; rename one with AS"
                ));
            }
            None => cells.push((name, cell)),
        }
    }
    Ok(cells)
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > COLUMN_BYTES_MAX || name.contains('\0') {
        return Err(format!(
            "member {name:.140?} cannot be a column, which needs a name of 1 to \
             {COLUMN_BYTES_MAX} bytes; rename it with AS"
        ));
    }
    if name.eq_ignore_ascii_case(ID) || name.eq_ignore_ascii_case(TIME) {
        return Err(format!("every table has a column {name} of its own; rename it with AS"));
    }
    Ok(())
}

fn cell(json: &RawValue) -> Result<Cell, serde_json::Error> {
    let text = json.get();
    Ok(match text.as_bytes().first() {
        Some(b'n') => Cell::Null,
        Some(b't') => Cell::Integer(1),
        Some(b'f') => Cell::Integer(0),
        Some(b'"') => Cell::Text(serde_json::from_str(text)?),
        Some(b'{' | b'[') => Cell::Text(text.to_owned()),
        _ => match text.parse() {
            Ok(integer) => Cell::Integer(integer),
            Err(_) => Cell::Real(serde_json::from_str(text)?),
        },
    })
}

/// The members of an object in their order, values unread.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(result: &str) -> String {
        match cells(result.as_bytes()) {
            Ok(cells) => format!("{cells:?}"),
            Err(error) => error,
        }
    }

    #[test]
    fn a_result_becomes_cells() {
        for (result, expected) in [
            (
                r#"{"z": 1, "a": -2.5, "t": true, "f": false, "n": null, "s": "é\n"}"#,
                r#"[("z", Integer(1)), ("a", Real(-2.5)), ("t", Integer(1)), ("f", Integer(0)), ("n", Null), ("s", Text("é\n"))]"#,
            ),
            (r#"{"o": {"b": [1, 2]}}"#, r#"[("o", Text("{\"b\": [1, 2]}"))]"#),
            (r#"{"a": 1, "a": 2}"#, r#"[("a", Integer(2))]"#),
            ("{}", "[]"),
            ("7", r#"[("value", Integer(7))]"#),
            ("[1]", r#"[("value", Text("[1]"))]"#),
            ("plain", r#"[("value", Text("plain"))]"#),
            ("9223372036854775807", r#"[("value", Integer(9223372036854775807))]"#),
            ("9223372036854775808", r#"[("value", Real(9.223372036854776e18))]"#),
            ("1E2", r#"[("value", Real(100.0))]"#),
        ] {
            assert_eq!(shown(result), expected, "{result}");
        }
        assert_eq!(cells(b"\xff").unwrap(), [("value".to_owned(), Cell::Blob(vec![0xff]))]);
    }

    #[test]
    fn a_member_that_cannot_be_a_column_is_told() {
        let long = format!(r#"{{"{}": 1}}"#, "a".repeat(129));
        for (result, expected) in [
            (r#"{"": 1}"#, "member \"\" cannot be a column"),
            (r#"{"a\u0000b": 1}"#, "member \"a\\0b\" cannot be a column"),
            (long.as_str(), "member \"aaaa"),
            (r#"{"_Time": 1}"#, "every table has a column _Time of its own; rename it with AS"),
            (r#"{"_id": 1}"#, "every table has a column _id of its own"),
            (r#"{"temp": 1, "Temp": 2}"#, "members \"temp\" and \"Temp\" would be the same column"),
            (r#"{"a": 1e400}"#, "member \"a\": number out of range"),
            (r#"{"a": "\ud800"}"#, "member \"a\": "),
        ] {
            let error = cells(result.as_bytes()).unwrap_err();
            assert!(error.starts_with(expected), "{result}: {error}");
        }
    }
}
