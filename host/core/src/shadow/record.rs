//! A shadow as it is stored: a version byte, then JSON.
//!
//! A leaf is `[value, second in which it was set]`, a branch is an object:
//! `{"version":7,"reported":{"temp":[21.5,1800000000],"pos":{"x":[1,1800000000]}}}`.

use super::document::{Document, Node, Stored, Tree};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The only version so far.
const VERSION: u8 = 1;

/// Why a stored shadow cannot be read: a newer host wrote it, or it is damaged.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error("shadow record has encoding version {0:?}; this host knows version {VERSION}")]
    Version(Option<u8>),
    #[error("shadow record is damaged")]
    Damaged(#[source] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted_at_s: Option<u64>,
    #[serde(default, skip_serializing_if = "RecordTree::is_empty")]
    desired: RecordTree,
    #[serde(default, skip_serializing_if = "RecordTree::is_empty")]
    reported: RecordTree,
}

type RecordTree = BTreeMap<String, RecordNode>;

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RecordNode {
    Leaf(Value, u64),
    Branch(RecordTree),
}

pub(super) fn encode(stored: Stored) -> Bytes {
    let record = match stored {
        Stored::Document(document) => Record {
            version: document.version,
            deleted_at_s: None,
            desired: to_record(document.desired),
            reported: to_record(document.reported),
        },
        Stored::Deleted { version, at_s } => Record {
            version,
            deleted_at_s: Some(at_s),
            desired: RecordTree::new(),
            reported: RecordTree::new(),
        },
    };
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, &record).expect("a record can be written to memory");
    bytes.into()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Stored, RecordError> {
    let Some((&VERSION, json)) = bytes.split_first() else {
        return Err(RecordError::Version(bytes.first().copied()));
    };
    let record: Record = serde_json::from_slice(json).map_err(RecordError::Damaged)?;
    Ok(match record.deleted_at_s {
        Some(at_s) => Stored::Deleted { version: record.version, at_s },
        None => Stored::Document(Document {
            desired: from_record(record.desired),
            reported: from_record(record.reported),
            version: record.version,
        }),
    })
}

fn to_record(tree: Tree) -> RecordTree {
    let node = |node| match node {
        Node::Leaf { value, set_at_s } => RecordNode::Leaf(value, set_at_s),
        Node::Branch(tree) => RecordNode::Branch(to_record(tree)),
    };
    tree.into_iter().map(|(name, child)| (name, node(child))).collect()
}

fn from_record(tree: RecordTree) -> Tree {
    let node = |node| match node {
        RecordNode::Leaf(value, set_at_s) => Node::Leaf { value, set_at_s },
        RecordNode::Branch(tree) => Node::Branch(from_record(tree)),
    };
    tree.into_iter().map(|(name, child)| (name, node(child))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn leaf(value: Value) -> Node {
        Node::Leaf { value, set_at_s: 1_800_000_000 }
    }

    #[test]
    fn a_shadow_comes_back_as_it_was_stored() {
        let pos = [("x".to_owned(), leaf(json!(u64::MAX)))].into();
        let reported = [
            ("temp".to_owned(), leaf(json!(21.5))),
            ("pos".to_owned(), Node::Branch(pos)),
            // Looks like a stored leaf, and is a value.
            ("pair".to_owned(), leaf(json!([1, 2]))),
        ];
        let document = Document { desired: Tree::new(), reported: reported.into(), version: 7 };
        let stored = Stored::Document(document);
        let bytes = encode(stored.clone());
        assert_eq!(
            &bytes[..],
            b"\x01{\"version\":7,\"reported\":{\"pair\":[[1,2],1800000000],\
              \"pos\":{\"x\":[18446744073709551615,1800000000]},\"temp\":[21.5,1800000000]}}"
                .as_slice()
        );
        assert_eq!(decode(&bytes).unwrap(), stored);
        let deleted = Stored::Deleted { version: 7, at_s: 1_800_000_000 };
        assert_eq!(decode(&encode(deleted.clone())).unwrap(), deleted);
    }

    /// What a shadow holds whose only value is this number, stored and read again.
    fn stored_and_read(number: f64) -> Stored {
        let reported = [("n".to_owned(), leaf(json!(number)))].into();
        let document = Document { reported, version: 1, ..Document::default() };
        decode(&encode(Stored::Document(document))).unwrap()
    }

    #[track_caller]
    fn check_number(number: f64) {
        let Stored::Document(document) = stored_and_read(number) else { panic!("it is there") };
        let Node::Leaf { value, .. } = &document.reported["n"] else { panic!("it is a leaf") };
        assert_eq!(value.as_f64().map(f64::to_bits), Some(number.to_bits()), "{number}");
    }

    #[test]
    fn a_number_does_not_drift_by_being_stored() {
        // A careless reader of JSON makes ...472 of it, and another delta with each update.
        check_number(96.362_799_473_474_71);
        check_number(-0.0);
        check_number(f64::MIN_POSITIVE);
        check_number(f64::MAX);
    }

    proptest! {
        #[test]
        fn no_number_drifts(number in any::<f64>().prop_filter("JSON has it", |it| it.is_finite())) {
            check_number(number);
        }
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        assert!(matches!(decode(b""), Err(RecordError::Version(None))));
        assert!(matches!(decode(b"\x02{}"), Err(RecordError::Version(Some(2)))));
        assert!(matches!(decode(b"\x01{\"version\":"), Err(RecordError::Damaged(_))));
    }
}
