//! What is known of a thing, or of a thing group, as a flat list of fields with values.
//!
//! A field has a source: the registry, connectivity, the classic shadow or one named shadow. One source is
//! replaced without touching the others.

use crate::value::{Given, fold_into};
use std::collections::BTreeMap;

/// Takes a field and a value of it as it came; a field with several values comes several times.
pub(crate) type EachField<'a> = dyn FnMut(&str, Given<'_>) + 'a;

/// What the index knows of one thing.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// What the registry has.
    pub registry: Registry,
    /// Absent while it is not indexed, and for a thing that never connected.
    pub connectivity: Option<Connectivity>,
    /// The shadow without a name.
    pub shadow: Option<Shadow>,
    /// The others, by their names.
    pub named_shadows: BTreeMap<String, Shadow>,
}

impl Document {
    pub(crate) fn each_field(&self, name: &str, each: &mut EachField<'_>) {
        self.registry.each_field(name, each);
        if let Some(connectivity) = &self.connectivity {
            connectivity.each_field(each);
        }
        if let Some(shadow) = &self.shadow {
            shadow.each_field(None, each);
        }
        for (name, shadow) in &self.named_shadows {
            shadow.each_field(Some(name), each);
        }
    }
}

/// What the registry has of a thing.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// `thingId`.
    pub thing_id: String,
    /// `thingTypeName`.
    pub thing_type: Option<String>,
    /// `thingGroupNames`: its groups, their parents and its billing group, as the caller wants them found.
    pub groups: Vec<String>,
    /// `attributes.NAME`.
    pub attributes: BTreeMap<String, String>,
    /// `registry.version`.
    pub version: u64,
}

impl Registry {
    pub(crate) fn each_field(&self, name: &str, each: &mut EachField<'_>) {
        each("thingName", Given::Text(name));
        each("thingId", Given::Text(&self.thing_id));
        each("registry.version", Given::integer(self.version));
        self.thing_type.iter().for_each(|value| each("thingTypeName", Given::Text(value)));
        self.groups.iter().for_each(|value| each("thingGroupNames", Given::Text(value)));
        each_attribute(&self.attributes, each);
    }
}

/// Whether a thing is connected.
#[derive(Clone, Debug, Default)]
pub struct Connectivity {
    /// `connectivity.connected`.
    pub connected: bool,
    /// `connectivity.timestamp`: since when, in milliseconds since the Unix epoch; `None` for a thing that
    /// never connected.
    pub timestamp_ms: Option<u64>,
    /// `connectivity.disconnectReason`.
    pub disconnect_reason: Option<String>,
}

impl Connectivity {
    pub(crate) fn each_field(&self, each: &mut EachField<'_>) {
        each("connectivity.connected", truth(self.connected));
        let since = self.timestamp_ms.iter();
        since.for_each(|since| each("connectivity.timestamp", Given::integer(*since)));
        let reason = self.disconnect_reason.iter();
        reason.for_each(|value| each("connectivity.disconnectReason", Given::Text(value)));
    }
}

/// A shadow. A section that is null is not there; `metadata` may be left out to save memory.
#[derive(Clone, Debug, Default)]
pub struct Shadow {
    /// `shadow.reported.…`
    pub reported: serde_json::Value,
    /// `shadow.desired.…`
    pub desired: serde_json::Value,
    /// `shadow.delta.…`
    pub delta: serde_json::Value,
    /// `shadow.metadata.…`
    pub metadata: serde_json::Value,
    /// `shadow.hasDelta`.
    pub has_delta: bool,
    /// `shadow.version`.
    pub version: u64,
}

impl Shadow {
    /// Below `shadow`, or below `shadow.name.NAME`.
    pub(crate) fn each_field(&self, name: Option<&str>, each: &mut EachField<'_>) {
        let mut path = shadow_source(name);
        let base = path.len();
        let at = |section: &str, path: &mut String| {
            path.truncate(base);
            path.push('.');
            path.push_str(section);
        };
        at("hasDelta", &mut path);
        each(&path, truth(self.has_delta));
        at("version", &mut path);
        each(&path, Given::integer(self.version));
        let sections = [
            ("reported", &self.reported),
            ("desired", &self.desired),
            ("delta", &self.delta),
            ("metadata", &self.metadata),
        ];
        for (section, value) in sections {
            at(section, &mut path);
            each_leaf(&mut path, value, each);
        }
    }
}

/// A thing group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// `thingGroupId`.
    pub id: String,
    /// `description`.
    pub description: Option<String>,
    /// `parentGroupNames`: all the way up.
    pub parents: Vec<String>,
    /// `attributes.NAME`.
    pub attributes: BTreeMap<String, String>,
    /// `version`.
    pub version: u64,
}

impl Group {
    pub(crate) fn each_field(&self, name: &str, each: &mut EachField<'_>) {
        each("thingGroupName", Given::Text(name));
        each("thingGroupId", Given::Text(&self.id));
        each("version", Given::integer(self.version));
        self.description.iter().for_each(|value| each("description", Given::Text(value)));
        self.parents.iter().for_each(|value| each("parentGroupNames", Given::Text(value)));
        each_attribute(&self.attributes, each);
    }
}

/// The source of the registry's fields.
pub(crate) const REGISTRY: &str = "";

/// The source of the fields of connectivity.
pub(crate) const CONNECTIVITY: &str = "connectivity";

/// The source of a shadow's fields.
pub(crate) fn shadow_source(name: Option<&str>) -> String {
    name.map_or_else(|| "shadow".to_owned(), |name| format!("shadow.name.{name}"))
}

/// The source that a field comes from: what its name begins with.
pub(crate) fn source_of(field: &str) -> &str {
    if let Some(rest) = field.strip_prefix("shadow.name.") {
        // No name of a shadow has a point.
        let name = rest.split('.').next().unwrap_or_default();
        &field[.."shadow.name.".len() + name.len()]
    } else if field.starts_with("shadow.") {
        "shadow"
    } else if field.starts_with("connectivity.") {
        CONNECTIVITY
    } else {
        REGISTRY
    }
}

/// True when terms without a field look here: neither versions nor connectivity.
pub(crate) fn is_searched_without_field(field: &str) -> bool {
    let source = source_of(field);
    let is_version = match source {
        REGISTRY => matches!(field, "registry.version" | "version"),
        source => &field[source.len()..] == ".version",
    };
    source != CONNECTIVITY && !is_version
}

/// The name in the index of a field that AWS calls differently in aggregations.
pub(crate) fn canonical(field: &str) -> &str {
    match field {
        "registry.thingTypeName" => "thingTypeName",
        "registry.thingGroupNames" => "thingGroupNames",
        field => field,
    }
}

/// Calls `each` with what the index keeps of a value: the value, folded, and besides, with true, the words
/// of one that has white space. `folded` is a buffer.
pub(crate) fn each_term(
    value: Given<'_>,
    folded: &mut String,
    each: &mut dyn FnMut(Given<'_>, bool),
) {
    let Given::Text(text) = value else { return each(value, false) };
    folded.clear();
    fold_into(text, folded);
    if folded.contains(char::is_whitespace) {
        folded.split_whitespace().for_each(|word| each(Given::Text(word), true));
    }
    each(Given::Text(folded), false);
}

fn truth(value: bool) -> Given<'static> {
    Given::Text(if value { "true" } else { "false" })
}

fn each_attribute(attributes: &BTreeMap<String, String>, each: &mut EachField<'_>) {
    let mut path = "attributes.".to_owned();
    let base = path.len();
    for (name, value) in attributes {
        path.truncate(base);
        path.push_str(name);
        each(&path, Given::Text(value));
    }
}

/// Calls `each` with the leaves below `path`. The elements of an array are values of the array's field.
///
/// As deep as the document: parsers of JSON have a bound, and shadows a smaller one.
fn each_leaf(path: &mut String, value: &serde_json::Value, each: &mut EachField<'_>) {
    match value {
        serde_json::Value::Null => {}
        serde_json::Value::Bool(value) => each(path, truth(*value)),
        serde_json::Value::String(value) => each(path, Given::Text(value)),
        serde_json::Value::Number(number) => {
            if let Some(number) = number.as_f64().filter(|number| number.is_finite()) {
                // Zero is added to make a negative zero an ordinary one.
                each(path, Given::Number(number + 0.0));
            }
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| each_leaf(path, value, each));
        }
        serde_json::Value::Object(members) => {
            let len = path.len();
            for (name, value) in members {
                path.push('.');
                path.push_str(name);
                each_leaf(path, value, each);
                path.truncate(len);
            }
        }
    }
}
