//! What is indexed of things and groups: one record for all.
//!
//! The registry keeps the choice; who builds the index (`fleet`) is told by whoever changes it. Source:
//! UpdateIndexingConfiguration and GetIndexingConfiguration of AWS IoT's API reference.

use super::record::{self, Stored};
use super::{ATTEMPTS_MAX, Registry, RegistryError};
use crate::ids::ShadowName;
use gnomon_search::{FieldType, Kind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Name of the only record.
const NAME: &str = "all";

/// Most custom fields of an index. Source: AWS IoT Device Management quotas, "Fleet indexing".
const CUSTOM_FIELDS_MAX: usize = 5;

/// Most named shadows that are indexed. Source: the same.
const NAMED_SHADOWS_MAX: usize = 10;

/// Longest name of a custom field in bytes: as the longest attribute with what stands in front, and
/// shadows deeper than that are not worth a figure.
const FIELD_BYTES_MAX: usize = 1_024;

/// What is indexed; nothing at first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexingConfiguration {
    /// The index `AWS_Things`.
    pub things: ThingIndexing,
    /// The index `AWS_ThingGroups`.
    pub groups: ThingGroupIndexing,
}

/// What is indexed of things (`ThingIndexingConfiguration`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThingIndexing {
    /// There is an index; it has what the registry knows.
    pub registry: bool,
    /// And the shadows without a name.
    pub shadow: bool,
    /// And these named shadows, while `named_shadow` says so.
    pub named_shadows: BTreeSet<ShadowName>,
    /// Named shadows are indexed.
    pub named_shadow: bool,
    /// And whether the thing is connected.
    pub connectivity: bool,
    /// GetThingConnectivityData may tell from where it is.
    pub socket_information: bool,
    /// Fields that can be aggregated besides the managed ones.
    pub custom_fields: CustomFields,
}

/// What is indexed of thing groups (`ThingGroupIndexingConfiguration`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThingGroupIndexing {
    /// There is an index.
    pub enabled: bool,
    /// Fields that can be aggregated besides the managed ones.
    pub custom_fields: CustomFields,
}

/// Types of fields by their names.
pub type CustomFields = BTreeMap<String, FieldType>;

impl ThingIndexing {
    /// Checks what the modes say together.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`].
    pub fn check(&self) -> Result<(), RegistryError> {
        let invalid = |message: &str| Err(RegistryError::InvalidRequest(message.to_owned()));
        if !self.registry && (self.shadow || self.named_shadow || self.connectivity) {
            return invalid(
                "thingConnectivityIndexingMode and namedShadowIndexingMode have to be OFF while \
                 thingIndexingMode is OFF",
            );
        }
        if self.named_shadow && self.named_shadows.is_empty() {
            return invalid(
                "namedShadowIndexingMode ON needs the names of shadows in filter.namedShadowNames",
            );
        }
        if self.named_shadows.len() > NAMED_SHADOWS_MAX {
            return invalid("filter.namedShadowNames has more than 10 names");
        }
        check_fields(&self.custom_fields, Kind::Things)
    }
}

impl ThingGroupIndexing {
    /// Checks the custom fields.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`].
    pub fn check(&self) -> Result<(), RegistryError> {
        check_fields(&self.custom_fields, Kind::ThingGroups)
    }
}

fn check_fields(fields: &CustomFields, kind: Kind) -> Result<(), RegistryError> {
    if fields.len() > CUSTOM_FIELDS_MAX {
        return Err(RegistryError::InvalidRequest(format!(
            "customFields has {} fields; at most {CUSTOM_FIELDS_MAX} are allowed",
            fields.len()
        )));
    }
    for name in fields.keys() {
        if name.is_empty() || name.len() > FIELD_BYTES_MAX || name.chars().any(char::is_whitespace)
        {
            return Err(RegistryError::InvalidRequest(format!(
                "the name of a custom field has 1 to {FIELD_BYTES_MAX} bytes and no white space, as \
                 in attributes.line"
            )));
        }
        if kind.managed_fields().iter().any(|(managed, _)| managed == name) {
            return Err(RegistryError::InvalidRequest(format!(
                "{name} is a managed field, which has its type already"
            )));
        }
    }
    Ok(())
}

impl Registry {
    /// What is indexed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn indexing_configuration(&self) -> Result<IndexingConfiguration, RegistryError> {
        let found = self.read(&record::key::<IndexingConfiguration>(NAME)).await?;
        Ok(found.map(|(found, _)| found).unwrap_or_default())
    }

    /// Replaces the parts that are given, as a whole; returns what holds now.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`] when a part makes no sense.
    pub async fn update_indexing_configuration(
        &self,
        things: Option<&ThingIndexing>,
        groups: Option<&ThingGroupIndexing>,
    ) -> Result<IndexingConfiguration, RegistryError> {
        things.map_or(Ok(()), ThingIndexing::check)?;
        groups.map_or(Ok(()), ThingGroupIndexing::check)?;
        let key = record::key::<IndexingConfiguration>(NAME);
        for _ in 0..ATTEMPTS_MAX {
            let (mut configuration, revision) = match self.read(&key).await? {
                Some((found, revision)) => (found, Some(revision)),
                None => (IndexingConfiguration::default(), None),
            };
            if let Some(things) = things {
                configuration.things = things.clone();
            }
            if let Some(groups) = groups {
                configuration.groups = groups.clone();
            }
            if self.write(&key, &configuration, revision).await? {
                return Ok(configuration);
            }
        }
        Err(RegistryError::Busy)
    }
}

/// The type of this name.
///
/// # Errors
/// [`RegistryError::InvalidRequest`] names those that exist.
pub fn parse_field_type(name: &str) -> Result<FieldType, RegistryError> {
    match name {
        "Number" => Ok(FieldType::Number),
        "String" => Ok(FieldType::String),
        "Boolean" => Ok(FieldType::Boolean),
        name => Err(RegistryError::InvalidRequest(format!(
            "{name:?} is no type of a field; there are Number, String, Boolean"
        ))),
    }
}

/// As AWS writes it.
pub fn field_type_name(field_type: FieldType) -> &'static str {
    match field_type {
        FieldType::Number => "Number",
        FieldType::String => "String",
        FieldType::Boolean => "Boolean",
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct IndexingRecord {
    registry: bool,
    shadow: bool,
    named_shadows: Vec<String>,
    named_shadow: bool,
    connectivity: bool,
    socket_information: bool,
    thing_fields: BTreeMap<String, String>,
    groups: bool,
    group_fields: BTreeMap<String, String>,
}

impl Stored for IndexingConfiguration {
    const KIND: &str = "indexing-configuration";
    const VERSION: u8 = 1;
    type Record = IndexingRecord;

    fn to_record(&self) -> IndexingRecord {
        let fields = |fields: &CustomFields| {
            let written = fields.iter().map(|(name, it)| (name, field_type_name(*it)));
            written.map(|(name, it)| (name.clone(), it.to_owned())).collect()
        };
        let Self { things, groups } = self;
        IndexingRecord {
            registry: things.registry,
            shadow: things.shadow,
            named_shadows: things.named_shadows.iter().map(ToString::to_string).collect(),
            named_shadow: things.named_shadow,
            connectivity: things.connectivity,
            socket_information: things.socket_information,
            thing_fields: fields(&things.custom_fields),
            groups: groups.enabled,
            group_fields: fields(&groups.custom_fields),
        }
    }

    fn from_record(_: &str, record: IndexingRecord) -> Result<Self, String> {
        let fields = |fields: BTreeMap<String, String>| {
            let read = fields.into_iter().map(|(name, it)| Ok((name, parse_field_type(&it)?)));
            read.collect::<Result<_, RegistryError>>().map_err(|error| error.to_string())
        };
        let names = record.named_shadows.iter().map(|name| ShadowName::parse(name));
        Ok(Self {
            things: ThingIndexing {
                registry: record.registry,
                shadow: record.shadow,
                named_shadows: names.collect::<Result<_, _>>().map_err(|it| it.to_string())?,
                named_shadow: record.named_shadow,
                connectivity: record.connectivity,
                socket_information: record.socket_information,
                custom_fields: fields(record.thing_fields)?,
            },
            groups: ThingGroupIndexing {
                enabled: record.groups,
                custom_fields: fields(record.group_fields)?,
            },
        })
    }

    fn not_found(_: &str) -> RegistryError {
        RegistryError::ResourceNotFound("indexing has not been configured".to_owned())
    }
}
