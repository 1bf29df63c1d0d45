//! How a rule is stored: key `rule/NAME`; one version byte, then JSON.

use super::RuleDefinition;
use super::sql::Version;
use crate::ids::RuleName;
use crate::storage::{Key, Record};
use crate::time::Timestamp;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// First part of the key.
pub(super) const KIND: &str = "rule";

/// The first byte of a record.
const VERSION: u8 = 1;

/// A rule as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StoredRule {
    pub definition: RuleDefinition,
    pub created_at: Timestamp,
}

/// Version 1.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RecordV1 {
    sql: String,
    sql_version: String,
    description: Option<String>,
    disabled: bool,
    actions: Vec<Value>,
    error_action: Option<Value>,
    created_at_ms: u64,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("the key does not name a rule")]
    Key,
    #[error("the record has version {0:?}, this program knows version {VERSION}")]
    Version(Option<u8>),
    #[error("the record names the unknown SQL version {0:?}")]
    SqlVersion(String),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

pub(super) fn key(name: &RuleName) -> Key {
    Key::new(KIND, &[name.as_str()])
}

/// The rule's name, from the key.
pub(super) fn name(record: &Record) -> Result<RuleName, DecodeError> {
    let name = record.key.as_str().strip_prefix(KIND).and_then(|rest| rest.strip_prefix('/'));
    name.and_then(|name| RuleName::parse(name).ok()).ok_or(DecodeError::Key)
}

pub(super) fn encode(rule: &StoredRule) -> Bytes {
    let RuleDefinition { sql, version, description, disabled, actions, error_action } =
        rule.definition.clone();
    let record = RecordV1 {
        sql,
        sql_version: version.as_str().to_owned(),
        description,
        disabled,
        actions,
        error_action,
        created_at_ms: rule.created_at.as_millis(),
    };
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, &record)
        .expect("writing to memory cannot fail, and all keys are strings");
    bytes.into()
}

pub(super) fn decode(bytes: &[u8]) -> Result<StoredRule, DecodeError> {
    let Some((&VERSION, json)) = bytes.split_first() else {
        return Err(DecodeError::Version(bytes.first().copied()));
    };
    let record: RecordV1 = serde_json::from_slice(json)?;
    let version = Version::parse(&record.sql_version)
        .ok_or_else(|| DecodeError::SqlVersion(record.sql_version.clone()))?;
    let RecordV1 { sql, description, disabled, actions, error_action, .. } = record;
    Ok(StoredRule {
        definition: RuleDefinition { sql, version, description, disabled, actions, error_action },
        created_at: Timestamp::from_millis(record.created_at_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was() {
        let rule = StoredRule {
            definition: RuleDefinition {
                sql: "SELECT * FROM 'a' WHERE t > 'é'".into(),
                version: Version::V2016,
                description: Some("d".into()),
                disabled: true,
                actions: vec![serde_json::json!({"plugin": {"name": "p", "params": {"n": 1.5}}})],
                error_action: Some(serde_json::json!({"plugin": {"name": "q"}})),
            },
            created_at: Timestamp::from_millis(1_700_000_000_123),
        };
        assert_eq!(decode(&encode(&rule)).unwrap(), rule);
    }

    #[test]
    fn the_first_version_stays_readable() {
        // Written by version 1; never change this text.
        let json = br#"{"sql":"SELECT *","sqlVersion":"2015-10-08","description":null,"disabled":false,"actions":[],"errorAction":null,"createdAtMs":7}"#;
        let rule = decode(&[&[1], &json[..]].concat()).unwrap();
        assert_eq!(rule.definition.sql, "SELECT *");
        assert_eq!(rule.created_at, Timestamp::from_millis(7));
    }

    #[test]
    fn a_foreign_record_is_refused() {
        for (bytes, expected) in [
            (&b""[..], "the record has version None, this program knows version 1"),
            (b"\x02{}", "the record has version Some(2), this program knows version 1"),
            (b"\x01{}", "missing field `sql` at line 1 column 2"),
        ] {
            assert_eq!(decode(bytes).unwrap_err().to_string(), expected);
        }
    }
}
