//! A shadow as it is stored: a version byte, then JSON.
//!
//! A leaf is `[value, second in which it was set]`, a branch is an object:
//! `{"version":7,"reported":{"temp":[21.5,1800000000],"pos":{"x":[1,1800000000]}}}`.

use super::document::{Document, Node, Stored, Tree};
use bytes::Bytes;
use serde::de::{self, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

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

/// What is written; borrows, since it is written with each update.
#[derive(Serialize)]
struct Written<'a> {
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    desired: Option<WrittenTree<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reported: Option<WrittenTree<'a>>,
}

struct WrittenTree<'a>(&'a Tree);

impl Serialize for WrittenTree<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, node)| (name, WrittenNode(node))))
    }
}

struct WrittenNode<'a>(&'a Node);

impl Serialize for WrittenNode<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Node::Leaf { value, set_at_s } => (value, set_at_s).serialize(serializer),
            Node::Branch(tree) => WrittenTree(tree).serialize(serializer),
        }
    }
}

/// What is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    version: u64,
    #[serde(default)]
    deleted_at_s: Option<u64>,
    #[serde(default)]
    desired: ReadTree,
    #[serde(default)]
    reported: ReadTree,
}

#[derive(Default)]
struct ReadTree(Tree);

impl<'de> Deserialize<'de> for ReadTree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match ReadNode::deserialize(deserializer)?.0 {
            Node::Branch(tree) => Ok(Self(tree)),
            Node::Leaf { .. } => Err(D::Error::custom("a section is no value")),
        }
    }
}

struct ReadNode(Node);

impl<'de> Deserialize<'de> for ReadNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its time, or an object")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut pair: A) -> Result<Node, A::Error> {
                let value = pair.next_element()?.ok_or_else(|| A::Error::missing_field("value"))?;
                let set_at_s =
                    pair.next_element()?.ok_or_else(|| A::Error::missing_field("time"))?;
                Ok(Node::Leaf { value, set_at_s })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
                let mut tree = Tree::new();
                while let Some((name, ReadNode(node))) = fields.next_entry()? {
                    tree.insert(name, node);
                }
                Ok(Node::Branch(tree))
            }
        }
        // What comes tells which of both it is: nothing is read twice.
        deserializer.deserialize_any(Visitor).map(Self)
    }
}

pub(super) fn encode(stored: &Stored) -> Bytes {
    fn section(tree: &Tree) -> Option<WrittenTree<'_>> {
        (!tree.is_empty()).then_some(WrittenTree(tree))
    }
    let record = match stored {
        Stored::Document(Document { desired, reported, version }) => Written {
            version: *version,
            deleted_at_s: None,
            desired: section(desired),
            reported: section(reported),
        },
        Stored::Deleted { version, at_s } => {
            Written { version: *version, deleted_at_s: Some(*at_s), desired: None, reported: None }
        }
    };
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, &record).expect("a record can be written to memory");
    bytes.into()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Stored, RecordError> {
    let Some((&VERSION, json)) = bytes.split_first() else {
        return Err(RecordError::Version(bytes.first().copied()));
    };
    let record: Read = serde_json::from_slice(json).map_err(RecordError::Damaged)?;
    Ok(match record.deleted_at_s {
        Some(at_s) => Stored::Deleted { version: record.version, at_s },
        None => Stored::Document(Document {
            desired: record.desired.0,
            reported: record.reported.0,
            version: record.version,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

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
        let bytes = encode(&stored);
        assert_eq!(
            &bytes[..],
            b"\x01{\"version\":7,\"reported\":{\"pair\":[[1,2],1800000000],\
              \"pos\":{\"x\":[18446744073709551615,1800000000]},\"temp\":[21.5,1800000000]}}"
                .as_slice()
        );
        assert_eq!(decode(&bytes).unwrap(), stored);
        let deleted = Stored::Deleted { version: 7, at_s: 1_800_000_000 };
        assert_eq!(decode(&encode(&deleted)).unwrap(), deleted);
    }

    /// What a shadow holds whose only value is this number, stored and read again.
    fn stored_and_read(number: f64) -> Stored {
        let reported = [("n".to_owned(), leaf(json!(number)))].into();
        let document = Document { reported, version: 1, ..Document::default() };
        decode(&encode(&Stored::Document(document))).unwrap()
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
        for damaged in [
            "{\"version\":",
            "{}",
            "{\"version\":1,\"x\":1}",
            "{\"version\":1,\"desired\":[1,2]}",
            "{\"version\":1,\"desired\":{\"a\":1}}",
            "{\"version\":1,\"desired\":{\"a\":[]}}",
            "{\"version\":1,\"desired\":{\"a\":[1]}}",
            "{\"version\":1,\"desired\":{\"a\":[1,2,3]}}",
            "{\"version\":1,\"desired\":{\"a\":[1,-2]}}",
        ] {
            let decoded = decode(format!("\x01{damaged}").as_bytes());
            assert!(matches!(decoded, Err(RecordError::Damaged(_))), "{damaged}");
        }
    }
}
