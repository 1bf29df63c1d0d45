//! Thing types: what things of a kind have in common. A thing of a type may have more attributes.
//!
//! A type is deprecated before it is deleted: no thing becomes one of a deprecated type, and those
//! that are keep its name.

use super::record::{self, Stored};
use super::{
    ATTEMPTS_MAX, Change, Diff, Page, PageRequest, Registry, RegistryError, check_description,
};
use crate::ids::ThingTypeName;
use crate::random;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Attributes of a type that are searchable. AWS: 3.
const SEARCHABLE_MAX: usize = 3;

/// A thing type of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThingType {
    /// Its name, which cannot change.
    pub name: ThingTypeName,
    /// A UUID.
    pub id: String,
    /// What an operator says about it.
    pub properties: ThingTypeProperties,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was deprecated, if it is.
    pub deprecated_at: Option<Timestamp>,
}

/// What an operator says about a type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThingTypeProperties {
    description: Option<String>,
    searchable_attributes: Vec<String>,
}

impl ThingTypeProperties {
    /// Checks what is given.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`] names the member and the rule.
    pub fn new(
        description: Option<String>,
        searchable_attributes: Vec<String>,
    ) -> Result<Self, RegistryError> {
        if let Some(description) = &description {
            check_description("thingTypeDescription", description)?;
        }
        let n = searchable_attributes.len();
        if n > SEARCHABLE_MAX {
            return Err(RegistryError::InvalidRequest(format!(
                "{n} searchableAttributes; at most {SEARCHABLE_MAX} are allowed"
            )));
        }
        super::Attributes::parse(
            searchable_attributes.iter().map(|name| (name.clone(), String::new())),
        )?;
        Ok(Self { description, searchable_attributes })
    }

    /// For people.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// Names of attributes that things of the type can be searched by, at most three.
    pub fn searchable_attributes(&self) -> &[String] {
        &self.searchable_attributes
    }
}

impl Registry {
    /// CreateThingType. The same type again is a success and changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::ResourceAlreadyExists`] when its properties differ.
    pub async fn create_thing_type(
        &self,
        name: &ThingTypeName,
        properties: ThingTypeProperties,
    ) -> Result<ThingType, RegistryError> {
        let thing_type = ThingType {
            name: name.clone(),
            id: random::uuid(&*self.0.ports.random),
            properties,
            created_at: self.0.ports.clock.wall(),
            deprecated_at: None,
        };
        let key = record::key::<ThingType>(name.as_str());
        for _ in 0..ATTEMPTS_MAX {
            if let Some((existing, _)) = self.read::<ThingType>(&key).await? {
                if existing.properties == thing_type.properties {
                    return Ok(existing);
                }
                return Err(RegistryError::ResourceAlreadyExists {
                    message: format!("thing type {name} exists with other properties"),
                    id: existing.id,
                    arn: self.thing_type_arn(name),
                });
            }
            let change = self.told(|| Change::ThingType(Diff::Created(thing_type.clone())));
            if self.write_telling(&key, &thing_type, None, change).await? {
                tracing::info!(thing_type = %name, "thing type created");
                return Ok(thing_type);
            }
        }
        Err(RegistryError::Busy)
    }

    /// DescribeThingType.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn describe_thing_type(
        &self,
        name: &ThingTypeName,
    ) -> Result<ThingType, RegistryError> {
        Ok(self.read_existing(&record::key::<ThingType>(name.as_str())).await?.0)
    }

    /// DeprecateThingType, or takes that back. Again is a success and changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn deprecate_thing_type(
        &self,
        name: &ThingTypeName,
        undo: bool,
    ) -> Result<(), RegistryError> {
        let now = self.0.ports.clock.wall();
        let change = |thing_type: &mut ThingType| {
            let changes = thing_type.deprecated_at.is_some() == undo;
            thing_type.deprecated_at = match undo {
                true => None,
                false => thing_type.deprecated_at.or(Some(now)),
            };
            Ok(changes)
        };
        let key = record::key::<ThingType>(name.as_str());
        self.update_telling(&key, change, Change::ThingType).await?;
        Ok(())
    }

    /// DeleteThingType.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::InvalidRequest`] unless it has been
    /// deprecated for `Limits::thing_type_delete_after_s`.
    pub async fn delete_thing_type(&self, name: &ThingTypeName) -> Result<(), RegistryError> {
        let key = record::key::<ThingType>(name.as_str());
        let wait_s = self.0.ports.limits.thing_type_delete_after_s;
        for _ in 0..ATTEMPTS_MAX {
            let (thing_type, revision) = self.read_existing::<ThingType>(&key).await?;
            let Some(deprecated_at) = thing_type.deprecated_at else {
                return Err(RegistryError::InvalidRequest(format!(
                    "thing type {name} is not deprecated; deprecate it first"
                )));
            };
            let since_s =
                self.0.ports.clock.wall().as_secs().saturating_sub(deprecated_at.as_secs());
            if since_s < wait_s.into() {
                return Err(RegistryError::InvalidRequest(format!(
                    "thing type {name} is deprecated since {since_s} s; it can be deleted after {wait_s} s"
                )));
            }
            let change = self.told(|| Change::ThingType(Diff::Deleted(thing_type)));
            if self.remove(&key, revision, change).await? {
                tracing::info!(thing_type = %name, "thing type deleted");
                return self.forget_schema(name).await;
            }
        }
        Err(RegistryError::Busy)
    }

    /// ListThingTypes, ordered by name; only the one of this name if there is one given.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_thing_types(
        &self,
        name: Option<&str>,
        page: PageRequest<'_>,
    ) -> Result<Page<ThingType>, RegistryError> {
        self.list(page, |it: &ThingType| name.is_none_or(|name| it.name.as_str() == name)).await
    }

    /// `arn:aws:iot:<region>:<account>:thingtype/<name>`.
    pub fn thing_type_arn(&self, name: &ThingTypeName) -> String {
        self.account().arn(&format!("thingtype/{name}"))
    }

    /// Whether a thing may become one of this type now.
    pub(super) async fn check_thing_type(&self, name: &ThingTypeName) -> Result<(), RegistryError> {
        match self.describe_thing_type(name).await?.deprecated_at {
            Some(_) => Err(RegistryError::InvalidRequest(format!(
                "thing type {name} is deprecated; things cannot get it any more"
            ))),
            None => Ok(()),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct ThingTypeRecord {
    id: String,
    description: Option<String>,
    searchable_attributes: Vec<String>,
    created_at_ms: u64,
    deprecated_at_ms: Option<u64>,
}

impl Stored for ThingType {
    const KIND: &str = "thing-type";
    const VERSION: u8 = 1;
    type Record = ThingTypeRecord;

    fn to_record(&self) -> ThingTypeRecord {
        ThingTypeRecord {
            id: self.id.clone(),
            description: self.properties.description.clone(),
            searchable_attributes: self.properties.searchable_attributes.clone(),
            created_at_ms: self.created_at.as_millis(),
            deprecated_at_ms: self.deprecated_at.map(Timestamp::as_millis),
        }
    }

    fn from_record(name: &str, record: ThingTypeRecord) -> Result<Self, String> {
        Ok(Self {
            name: ThingTypeName::parse(name).map_err(|error| error.to_string())?,
            id: record.id,
            properties: ThingTypeProperties {
                description: record.description,
                searchable_attributes: record.searchable_attributes,
            },
            created_at: Timestamp::from_millis(record.created_at_ms),
            deprecated_at: record.deprecated_at_ms.map(Timestamp::from_millis),
        })
    }

    fn not_found(name: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("thing type {name} does not exist"))
    }
}
