//! Thing types: what things of a kind have in common. A thing of a type may have more attributes.
//!
//! A type is deprecated before it is deleted: no thing becomes one of a deprecated type, and those
//! that are keep its name.
//!
//! A type can have the host add user properties to what its things publish. Source: AWS IoT developer
//! guide, "Adding propagating attributes for message enrichment".

use super::record::{self, Stored};
use super::{
    ATTEMPTS_MAX, Attributes, Change, Diff, Page, PageRequest, Registry, RegistryError, Thing,
    check_description,
};
use crate::ids::{ClientId, ThingTypeName};
use crate::packet::UserProperties;
use crate::random;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Attributes of a type that are searchable. AWS: 3.
const SEARCHABLE_MAX: usize = 3;

/// Properties that are added to a message: each may have a value of 800 characters.
const PROPAGATING_MAX: usize = 20;

/// Characters of a property's name. Source: `UserPropertyKeyName` of AWS IoT's API reference.
const PROPERTY_CHARS_MAX: usize = 128;

/// Values of `connectionAttribute`.
const CLIENT_ID: &str = "iot:ClientId";
const THING_NAME: &str = "iot:Thing.ThingName";

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
    propagating_attributes: Vec<PropagatingAttribute>,
}

/// A user property that is added to what the things of a type publish (`PropagatingAttribute`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropagatingAttribute {
    /// Its name.
    pub user_property: String,
    /// What it says.
    pub source: PropagatedValue,
}

/// Where the value of such a property comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropagatedValue {
    /// This attribute of the thing; a thing without it adds no property.
    ThingAttribute(String),
    /// The client id.
    ClientId,
    /// The thing's name.
    ThingName,
}

impl PropagatingAttribute {
    /// Checks what is given: a property, and either attribute.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`] names the member and the rule.
    pub fn new(
        user_property: Option<String>,
        thing_attribute: Option<String>,
        connection_attribute: Option<&str>,
    ) -> Result<Self, RegistryError> {
        let wrong = |problem: &str| {
            Err(RegistryError::InvalidRequest(format!("propagatingAttributes: {problem}")))
        };
        let Some(user_property) = user_property else {
            return wrong("userPropertyKey is missing");
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '$' | '.');
        let chars = user_property.chars().count();
        if !(1..=PROPERTY_CHARS_MAX).contains(&chars) || !user_property.chars().all(allowed) {
            return wrong(
                "userPropertyKey must be 1 to 128 of a-z, A-Z, 0-9, \":\", \"$\" and \".\"",
            );
        }
        let source = match (thing_attribute, connection_attribute) {
            (Some(name), None) => {
                Attributes::parse([(name.clone(), String::new())])?;
                PropagatedValue::ThingAttribute(name)
            }
            (None, Some(CLIENT_ID)) => PropagatedValue::ClientId,
            (None, Some(THING_NAME)) => PropagatedValue::ThingName,
            (None, Some(_)) => {
                return wrong("connectionAttribute must be iot:ClientId or iot:Thing.ThingName");
            }
            _ => return wrong("give either thingAttribute or connectionAttribute"),
        };
        Ok(Self { user_property, source })
    }

    /// `thingAttribute`.
    pub fn thing_attribute(&self) -> Option<&str> {
        match &self.source {
            PropagatedValue::ThingAttribute(name) => Some(name),
            PropagatedValue::ClientId | PropagatedValue::ThingName => None,
        }
    }

    /// `connectionAttribute`.
    pub fn connection_attribute(&self) -> Option<&'static str> {
        match self.source {
            PropagatedValue::ThingAttribute(_) => None,
            PropagatedValue::ClientId => Some(CLIENT_ID),
            PropagatedValue::ThingName => Some(THING_NAME),
        }
    }

    fn value<'a>(&'a self, thing: &'a Thing, client_id: &'a ClientId) -> Option<&'a str> {
        match &self.source {
            PropagatedValue::ThingAttribute(name) => {
                thing.attributes.values().get(name).map(String::as_str)
            }
            PropagatedValue::ClientId => Some(client_id.as_str()),
            PropagatedValue::ThingName => Some(thing.name.as_str()),
        }
    }
}

/// What UpdateThingType changes; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct ThingTypeUpdate {
    /// For people.
    pub description: Option<String>,
    /// See [`ThingTypeProperties::searchable_attributes`].
    pub searchable_attributes: Option<Vec<String>>,
    /// See [`ThingTypeProperties::propagating_attributes`].
    pub propagating_attributes: Option<Vec<PropagatingAttribute>>,
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
        Attributes::parse(searchable_attributes.iter().map(|name| (name.clone(), String::new())))?;
        Ok(Self { description, searchable_attributes, propagating_attributes: Vec::new() })
    }

    /// The same with user properties that are added to messages.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`] beyond twenty.
    pub fn propagating(
        self,
        propagating_attributes: Vec<PropagatingAttribute>,
    ) -> Result<Self, RegistryError> {
        let n = propagating_attributes.len();
        if n > PROPAGATING_MAX {
            return Err(RegistryError::InvalidRequest(format!(
                "{n} propagatingAttributes; at most {PROPAGATING_MAX} are allowed"
            )));
        }
        Ok(Self { propagating_attributes, ..self })
    }

    /// For people.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// Names of attributes that things of the type can be searched by, at most three.
    pub fn searchable_attributes(&self) -> &[String] {
        &self.searchable_attributes
    }

    /// User properties that are added to what things of the type publish, at most twenty.
    pub fn propagating_attributes(&self) -> &[PropagatingAttribute] {
        &self.propagating_attributes
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

    /// UpdateThingType. What it adds to messages holds at once for things that are connected.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`RegistryError::InvalidRequest`] names the member and the
    /// rule.
    pub async fn update_thing_type(
        &self,
        name: &ThingTypeName,
        update: &ThingTypeUpdate,
    ) -> Result<(), RegistryError> {
        let change = |thing_type: &mut ThingType| {
            let before = &thing_type.properties;
            let ThingTypeUpdate { description, searchable_attributes, propagating_attributes } =
                update.clone();
            let properties = ThingTypeProperties::new(
                description.or_else(|| before.description.clone()),
                searchable_attributes.unwrap_or_else(|| before.searchable_attributes.clone()),
            )?;
            let propagating =
                propagating_attributes.unwrap_or_else(|| before.propagating_attributes.clone());
            let properties = properties.propagating(propagating)?;
            let changes = properties != *before;
            thing_type.properties = properties;
            Ok(changes)
        };
        let key = record::key::<ThingType>(name.as_str());
        let updated = self.update_telling(&key, change, Change::ThingType).await;
        // Whatever came back: a write whose answer was lost may have happened.
        self.policy_changed();
        updated?;
        Ok(())
    }

    /// What the host adds to the messages of a thing that is connected under this id.
    pub(crate) async fn propagated(
        &self,
        thing: &Thing,
        client_id: &ClientId,
    ) -> Result<UserProperties, RegistryError> {
        let Some(name) = &thing.type_name else { return Ok(UserProperties::new()) };
        let thing_type = match self.describe_thing_type(name).await {
            Ok(thing_type) => thing_type,
            // Things keep the name of a type that was deleted.
            Err(RegistryError::ResourceNotFound(_)) => return Ok(UserProperties::new()),
            Err(error) => return Err(error),
        };
        let property = |it: &PropagatingAttribute| {
            let value = it.value(thing, client_id)?;
            Some((it.user_property.as_str().into(), value.into()))
        };
        Ok(thing_type.properties.propagating_attributes.iter().filter_map(property).collect())
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
                // Its things add nothing to their messages any more.
                self.policy_changed();
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    propagating_attributes: Vec<PropagatingRecord>,
    created_at_ms: u64,
    deprecated_at_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct PropagatingRecord {
    user_property: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    thing_attribute: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connection_attribute: Option<String>,
}

impl PropagatingRecord {
    fn of(attribute: &PropagatingAttribute) -> Self {
        Self {
            user_property: attribute.user_property.clone(),
            thing_attribute: attribute.thing_attribute().map(str::to_owned),
            connection_attribute: attribute.connection_attribute().map(str::to_owned),
        }
    }

    fn read(self) -> Result<PropagatingAttribute, String> {
        let Self { user_property, thing_attribute, connection_attribute } = self;
        let connection_attribute = connection_attribute.as_deref();
        PropagatingAttribute::new(Some(user_property), thing_attribute, connection_attribute)
            .map_err(|error| error.to_string())
    }
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
            propagating_attributes: self
                .properties
                .propagating_attributes
                .iter()
                .map(PropagatingRecord::of)
                .collect(),
            created_at_ms: self.created_at.as_millis(),
            deprecated_at_ms: self.deprecated_at.map(Timestamp::as_millis),
        }
    }

    fn from_record(name: &str, record: ThingTypeRecord) -> Result<Self, String> {
        let propagating = record.propagating_attributes.into_iter().map(PropagatingRecord::read);
        Ok(Self {
            name: ThingTypeName::parse(name).map_err(|error| error.to_string())?,
            id: record.id,
            properties: ThingTypeProperties {
                description: record.description,
                searchable_attributes: record.searchable_attributes,
                propagating_attributes: propagating.collect::<Result<_, _>>()?,
            },
            created_at: Timestamp::from_millis(record.created_at_ms),
            deprecated_at: record.deprecated_at_ms.map(Timestamp::from_millis),
        })
    }

    fn not_found(name: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("thing type {name} does not exist"))
    }
}
