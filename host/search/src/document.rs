//! What is known of a thing, or of a thing group, as a flat list of fields with values.
//!
//! A field has a source: the registry, connectivity, the classic shadow or one named shadow. One source is
//! replaced without touching the others.

use crate::value::Value;
use std::collections::BTreeMap;

/// Fields with values; a field with several values is there several times.
pub(crate) type Fields = Vec<(String, Value)>;

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
    pub(crate) fn fields(&self, name: &str) -> Fields {
        let mut fields = self.registry.fields(name);
        fields.extend(self.connectivity.iter().flat_map(Connectivity::fields));
        fields.extend(self.shadow.iter().flat_map(|shadow| shadow.fields(None)));
        let named = self.named_shadows.iter();
        fields.extend(named.flat_map(|(name, shadow)| shadow.fields(Some(name))));
        fields
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
    pub(crate) fn fields(&self, name: &str) -> Fields {
        let mut fields = vec![
            text("thingName", name),
            text("thingId", &self.thing_id),
            ("registry.version".to_owned(), Value::integer(self.version)),
        ];
        fields.extend(self.thing_type.iter().map(|value| text("thingTypeName", value)));
        fields.extend(self.groups.iter().map(|value| text("thingGroupNames", value)));
        fields.extend(attributes(&self.attributes));
        fields
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
    pub(crate) fn fields(&self) -> Fields {
        let mut fields = vec![text("connectivity.connected", truth(self.connected))];
        let since = self.timestamp_ms.map(Value::integer);
        fields.extend(since.map(|since| ("connectivity.timestamp".to_owned(), since)));
        let reason = self.disconnect_reason.iter();
        fields.extend(reason.map(|value| text("connectivity.disconnectReason", value)));
        fields
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
    pub(crate) fn fields(&self, name: Option<&str>) -> Fields {
        let base = shadow_source(name);
        let mut fields = vec![
            text(&format!("{base}.hasDelta"), truth(self.has_delta)),
            (format!("{base}.version"), Value::integer(self.version)),
        ];
        let sections = [
            ("reported", &self.reported),
            ("desired", &self.desired),
            ("delta", &self.delta),
            ("metadata", &self.metadata),
        ];
        for (section, value) in sections {
            flatten(&mut format!("{base}.{section}"), value, &mut fields);
        }
        fields
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
    pub(crate) fn fields(&self, name: &str) -> Fields {
        let mut fields = vec![
            text("thingGroupName", name),
            text("thingGroupId", &self.id),
            ("version".to_owned(), Value::integer(self.version)),
        ];
        fields.extend(self.description.iter().map(|value| text("description", value)));
        fields.extend(self.parents.iter().map(|value| text("parentGroupNames", value)));
        fields.extend(attributes(&self.attributes));
        fields
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

fn text(field: &str, value: &str) -> (String, Value) {
    (field.to_owned(), Value::text(value))
}

fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn attributes(attributes: &BTreeMap<String, String>) -> impl Iterator<Item = (String, Value)> {
    attributes.iter().map(|(name, value)| text(&format!("attributes.{name}"), value))
}

/// Adds the leaves below `path`. The elements of an array are values of the array's field.
///
/// As deep as the document: parsers of JSON have a bound, and shadows a smaller one.
fn flatten(path: &mut String, value: &serde_json::Value, fields: &mut Fields) {
    match value {
        serde_json::Value::Null => {}
        serde_json::Value::Bool(value) => fields.push(text(path, truth(*value))),
        serde_json::Value::String(value) => fields.push(text(path, value)),
        serde_json::Value::Number(number) => {
            // Zero is added to make a negative zero an ordinary one.
            let finite = number.as_f64().filter(|number| number.is_finite());
            fields.extend(finite.map(|number| (path.clone(), Value::Number(number + 0.0))));
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| flatten(path, value, fields));
        }
        serde_json::Value::Object(members) => {
            let len = path.len();
            for (name, value) in members {
                path.push('.');
                path.push_str(name);
                flatten(path, value, fields);
                path.truncate(len);
            }
        }
    }
}
