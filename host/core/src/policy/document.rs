//! The JSON form of a policy, read strictly: what is not understood is refused.

use super::POLICY_CHARS_MAX;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use std::fmt;
use std::marker::PhantomData;

/// Why a text is not a policy document. AWS: MalformedPolicyException.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Longer than [`POLICY_CHARS_MAX`].
    #[error(
        "policy document has {chars} characters without white space; at most {POLICY_CHARS_MAX} \
         are allowed"
    )]
    TooLong {
        /// Characters, white space not counted.
        chars: usize,
    },
    /// Not JSON, or not of the shape of a policy document; says line and column.
    #[error("policy document is malformed: {0}")]
    Shape(String),
    /// An element whose value makes no sense.
    #[error("policy document is malformed: {at}: {problem}")]
    Element {
        /// e.g. `Statement[0].Resource[2]`.
        at: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Document {
    version: String,
    #[allow(dead_code, reason = "allowed by the language, without meaning here")]
    id: Option<String>,
    #[serde(deserialize_with = "one_or_many_statements")]
    pub(super) statement: Vec<RawStatement>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct RawStatement {
    pub(super) sid: Option<String>,
    pub(super) effect: Effect,
    pub(super) action: Option<Strings>,
    pub(super) not_action: Option<Strings>,
    pub(super) resource: Option<Strings>,
    pub(super) not_resource: Option<Strings>,
    #[serde(default)]
    pub(super) condition: Pairs<Pairs<Strings>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Effect {
    Allow,
    Deny,
}

/// `"a"` or `["a", "b"]`; numbers and booleans are taken as their text.
#[derive(Debug)]
pub(super) struct Strings(pub(super) Vec<String>);

/// An object in the order of the text, without repeated names.
#[derive(Debug)]
pub(super) struct Pairs<V>(pub(super) Vec<(String, V)>);

impl Document {
    pub(super) fn parse(text: &str) -> Result<Self, PolicyError> {
        let chars = text.chars().filter(|c| !c.is_whitespace()).count();
        if chars > POLICY_CHARS_MAX {
            return Err(PolicyError::TooLong { chars });
        }
        let document: Self =
            serde_json::from_str(text).map_err(|error| PolicyError::Shape(error.to_string()))?;
        if document.version != "2012-10-17" {
            return Err(PolicyError::Element {
                at: "Version".to_owned(),
                problem: "must be \"2012-10-17\"".to_owned(),
            });
        }
        if document.statement.is_empty() {
            return Err(PolicyError::Element {
                at: "Statement".to_owned(),
                problem: "is empty; give at least one statement".to_owned(),
            });
        }
        Ok(document)
    }
}

fn one_or_many_statements<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<RawStatement>, D::Error> {
    struct Statements;

    impl<'de> Visitor<'de> for Statements {
        type Value = Vec<RawStatement>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a statement or a list of statements")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            Ok(vec![RawStatement::deserialize(MapAccessDeserializer::new(map))?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut statements = Vec::new();
            while let Some(statement) = seq.next_element()? {
                statements.push(statement);
            }
            Ok(statements)
        }
    }

    deserializer.deserialize_any(Statements)
}

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Strings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Strings, E> {
                Ok(Strings(vec![text.to_owned()]))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Strings, E> {
                Ok(Strings(vec![value.to_string()]))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Strings, E> {
                Ok(Strings(vec![value.to_string()]))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Strings, E> {
                Ok(Strings(vec![value.to_string()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Strings, A::Error> {
                let mut texts = Vec::new();
                while let Some(Scalar(text)) = seq.next_element()? {
                    texts.push(text);
                }
                Ok(Strings(texts))
            }
        }

        deserializer.deserialize_any(List)
    }
}

/// An element of a list of [`Strings`].
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            value @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_)) => {
                Ok(Self(value.to_string()))
            }
            _ => Err(D::Error::custom("a list of strings may hold only strings")),
        }
    }
}

impl<V> Default for Pairs<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Object<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs: Vec<(String, V)> = Vec::new();
                while let Some((name, value)) = map.next_entry()? {
                    if pairs.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(format!("duplicate field {name:?}")));
                    }
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Object(PhantomData))
    }
}
