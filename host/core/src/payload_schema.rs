//! Schemas of payloads: what the things of a type may publish.
//!
//! In: a JSON Schema (2020-12, or the draft that it names), once per version, and the payloads. Out:
//! whether they match, and where not. Not here: whose schema it is (`registry`), what follows (`session`).
//!
//! A strange payload must not hold up the thread that checks it. So patterns are matched in linear time,
//! nothing is fetched, and references may neither lead outside the schema nor back to where they are:
//! how deep a check goes is bounded by the schema, not by the payload.

use crate::topic::{TopicFilter, TopicName};
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;
use std::fmt;

/// Longest schema in bytes.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1_024;

/// Values in a schema, those behind references counted each time.
const NODES_MAX: usize = 10_000;

/// Values inside each other, those behind references counted too.
const DEPTH_MAX: usize = 64;

/// Bytes of a compiled pattern.
const PATTERN_BYTES_MAX: usize = 1_024 * 1_024;

/// Why a text is no schema that payloads can be checked by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SchemaError(String);

/// What a thing type says about payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaDefinition {
    /// Topics whose payloads are checked; `None`: all that are not reserved.
    pub topic_filter: Option<TopicFilter>,
    /// The JSON Schema, as it was given.
    pub schema: String,
    /// What does not match is dropped too, not only counted.
    pub enforce: bool,
}

/// A schema, compiled.
pub struct PayloadSchema {
    topic_filter: Option<TopicFilter>,
    enforce: bool,
    validator: Validator,
}

impl fmt::Debug for PayloadSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic_filter, enforce, .. } = self;
        write!(f, "PayloadSchema {{ topic_filter: {topic_filter:?}, enforce: {enforce} }}")
    }
}

impl PayloadSchema {
    /// Checks and compiles a schema.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn compile(definition: &SchemaDefinition) -> Result<Self, SchemaError> {
        let text = &definition.schema;
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(SchemaError(format!(
                "the schema has {} bytes; at most {SCHEMA_BYTES_MAX} are allowed",
                text.len()
            )));
        }
        let schema: Value = serde_json::from_str(text)
            .map_err(|error| SchemaError(format!("the schema is not JSON: {error}")))?;
        Walk { root: &schema, nodes: 0, references: Vec::new() }.walk(&schema, 0)?;
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX);
        let validator = jsonschema::options().with_pattern_options(patterns).build(&schema);
        let validator = validator.map_err(|error| {
            SchemaError(format!("the schema is wrong at \"{}\": {error}", error.instance_path()))
        })?;
        let SchemaDefinition { topic_filter, enforce, .. } = definition;
        Ok(Self { topic_filter: topic_filter.clone(), enforce: *enforce, validator })
    }

    /// Whether what does not match is dropped.
    pub fn enforces(&self) -> bool {
        self.enforce
    }

    /// Checks a payload, if those of the topic are.
    ///
    /// # Errors
    /// Where it does not match and why, without anything of the payload.
    pub fn check(&self, topic: &TopicName, payload: &[u8]) -> Result<(), String> {
        let is_checked = match &self.topic_filter {
            Some(filter) => filter.matches(topic),
            None => !topic.is_reserved(),
        };
        if !is_checked {
            return Ok(());
        }
        let Ok(payload) = serde_json::from_slice::<Value>(payload) else {
            return Err("payload is not JSON".to_owned());
        };
        // Faster than to look for the error.
        if self.validator.is_valid(&payload) {
            return Ok(());
        }
        match self.validator.validate(&payload) {
            Ok(()) => Ok(()),
            Err(error) => {
                Err(format!("payload at \"{}\": {}", error.instance_path(), error.masked()))
            }
        }
    }
}

/// Looks through a schema as a check would. A name that is a keyword's is taken for the keyword wherever
/// it stands, which refuses some schemas too many, and none too few.
struct Walk<'s> {
    root: &'s Value,
    nodes: usize,
    /// Those that are being followed.
    references: Vec<&'s str>,
}

impl<'s> Walk<'s> {
    fn walk(&mut self, node: &'s Value, depth: usize) -> Result<(), SchemaError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX || depth > DEPTH_MAX {
            return Err(SchemaError(format!(
                "the schema has, with what its references lead to, more than {NODES_MAX} values or \
                 {DEPTH_MAX} inside each other"
            )));
        }
        match node {
            Value::Array(items) => items.iter().try_for_each(|item| self.walk(item, depth + 1)),
            Value::Object(members) => {
                members.iter().try_for_each(|(name, value)| match (name.as_str(), value) {
                    ("$ref", Value::String(reference)) => self.follow(reference, depth),
                    ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                        Err(SchemaError(format!("{name} is not allowed in schemas of payloads")))
                    }
                    ("$id", Value::String(_)) if depth > 0 => {
                        Err(SchemaError("$id is allowed at the top of a schema only".to_owned()))
                    }
                    _ => self.walk(value, depth + 1),
                })
            }
            _ => Ok(()),
        }
    }

    fn follow(&mut self, reference: &'s str, depth: usize) -> Result<(), SchemaError> {
        let refuse = |problem| Err(SchemaError(format!("the $ref {reference:?} {problem}")));
        let pointer = reference.strip_prefix('#').filter(|it| it.is_empty() || it.starts_with('/'));
        let Some(pointer) = pointer else {
            return refuse("does not lead into the schema; it must be #/ and a JSON pointer");
        };
        if self.references.contains(&reference) {
            return refuse("leads back to itself");
        }
        let decoded = percent_encoding::percent_decode_str(pointer).decode_utf8_lossy();
        let Some(target) = self.root.pointer(&decoded) else { return refuse("leads nowhere") };
        self.references.push(reference);
        let walked = self.walk(target, depth + 1);
        self.references.pop();
        walked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(schema: &Value) -> SchemaDefinition {
        SchemaDefinition { topic_filter: None, schema: schema.to_string(), enforce: false }
    }

    fn schema(schema: &Value) -> PayloadSchema {
        PayloadSchema::compile(&definition(schema)).unwrap()
    }

    fn check(schema: &PayloadSchema, topic: &str, payload: &str) -> Result<(), String> {
        schema.check(&TopicName::parse(topic).unwrap(), payload.as_bytes())
    }

    #[test]
    fn a_payload_matches_or_is_told_where_it_does_not() {
        let schema = schema(&json!({
            "type": "object",
            "properties": {
                "t": {"type": "number", "maximum": 120},
                "unit": {"$ref": "#/$defs/unit"},
                "id": {"pattern": "^(a+)+$"},
            },
            "required": ["t"],
            "$defs": {"unit": {"enum": ["C", "F"]}},
        }));
        for good in [r#"{"t": 1}"#, r#"{"t": 1, "unit": "C", "id": "aaa", "more": []}"#] {
            assert_eq!(check(&schema, "a", good), Ok(()), "{good}");
        }
        let long = format!(r#"{{"t": 1, "id": "{}b"}}"#, "a".repeat(100_000));
        let deep = "[".repeat(100_000);
        for (bad, says) in [
            ("", "payload is not JSON"),
            ("{", "payload is not JSON"),
            ("\u{0}\u{1}", "payload is not JSON"),
            (&*deep, "payload is not JSON"),
            ("7", "payload at \"\": value is not of type \"object\""),
            ("{}", "\"t\" is a required property"),
            (r#"{"t": 121}"#, "payload at \"/t\": value is greater than"),
            (r#"{"t": "secret"}"#, "payload at \"/t\": value is not of type \"number\""),
            (r#"{"t": 1, "unit": "K"}"#, "payload at \"/unit\""),
            (&*long, "payload at \"/id\""),
        ] {
            let problem = check(&schema, "a", bad).unwrap_err();
            assert!(problem.contains(says) && !problem.contains("secret"), "{problem}");
            assert!(problem.len() < 200, "{problem}");
        }
    }

    #[test]
    fn only_payloads_of_the_topics_are_checked() {
        let all = schema(&json!(false));
        assert!(check(&all, "a/b", "1").is_err());
        // A shadow's requests have a form of their own.
        assert_eq!(check(&all, "$aws/things/T/shadow/update", "{}"), Ok(()));
        let some = |filter| {
            let topic_filter = Some(TopicFilter::parse(filter).unwrap());
            let definition = SchemaDefinition { topic_filter, ..definition(&json!(false)) };
            PayloadSchema::compile(&definition).unwrap()
        };
        assert!(check(&some("a/+"), "a/b", "1").is_err());
        assert_eq!(check(&some("a/+"), "b", "not JSON"), Ok(()));
        assert!(check(&some("$aws/rules/#"), "$aws/rules/R/a", "1").is_err());
    }

    #[test]
    fn what_could_not_be_checked_in_bounded_time_is_no_schema() {
        let mut laughs = json!({"a9": {"type": "number"}});
        for number in 0..9 {
            let next = json!({"$ref": format!("#/$defs/a{}", number + 1)});
            laughs[format!("a{number}")] = json!({"allOf": vec![next; 10]});
        }
        let deep = (0..70).fold(json!(true), |inner, _| json!({"not": inner}));
        let tree = json!({"properties": {"child": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}});
        let circle = json!({"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}});
        let large = json!({ "description": "x".repeat(SCHEMA_BYTES_MAX) });
        for (bad, says) in [
            (json!({"$ref": "#/$defs/a0", "$defs": laughs}), "more than 10000 values"),
            (deep, "64 inside each other"),
            (tree, "\"#\" leads back to itself"),
            (json!({"$ref": "#/$defs/a", "$defs": circle}), "leads back to itself"),
            (json!({"$ref": "#/$defs/none"}), "leads nowhere"),
            (json!({"$ref": "http://169.254.169.254/x"}), "does not lead into the schema"),
            (json!({"$ref": "file:///etc/passwd"}), "does not lead into the schema"),
            (json!({"$ref": "#anchor"}), "does not lead into the schema"),
            (json!({"items": {"$dynamicRef": "#node"}}), "$dynamicRef is not allowed"),
            (json!({"items": {"$id": "http://example.com/x"}}), "$id is allowed at the top"),
            (json!({"$schema": "http://example.com/x"}), "Unknown meta-schema"),
            (json!({"type": "objekt"}), "the schema is wrong at \"/type\""),
            (json!({"pattern": "(?=a)b"}), "the schema is wrong"),
            (json!({"pattern": "(a{1000}){1000}"}), "the schema is wrong"),
            (json!([]), "the schema is wrong"),
            (json!("x"), "the schema is wrong"),
            (large, "at most 65536 are allowed"),
        ] {
            let error = PayloadSchema::compile(&definition(&bad)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let text = SchemaDefinition { schema: "{".to_owned(), ..definition(&json!(true)) };
        let error = PayloadSchema::compile(&text).unwrap_err().to_string();
        assert!(error.contains("is not JSON"), "{error}");
        // What only looks like it.
        let fine = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$id": "http://example.com/pump",
            "properties": {"$ref": {"type": "string"}, "a~b": {"$ref": "#/definitions/x%20y"}},
            "definitions": {"x y": {"type": "string"}},
        });
        assert!(check(&schema(&fine), "a", r#"{"a~b": 1}"#).is_err());
    }
}
