//! Things: a name, an id that never comes back, attributes and a version.

use super::attachment::Owner;
use super::index::check_version;
use super::record::{self, Stored};
use super::{ATTEMPTS_MAX, Change, Diff, Page, PageRequest, Registry, RegistryError};
use crate::ids::{BillingGroupName, ThingGroupName, ThingName, ThingTypeName};
use crate::random;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Longest attribute name in bytes (`AttributeName`).
const ATTRIBUTE_NAME_BYTES_MAX: usize = 128;

/// Longest attribute value in bytes (`AttributeValue`).
const ATTRIBUTE_VALUE_BYTES_MAX: usize = 800;

/// A thing of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing {
    /// Its name, which is also the client id that its device should use.
    pub name: ThingName,
    /// A UUID; another thing of the same name later has another one.
    pub id: String,
    /// Name of its thing type.
    pub type_name: Option<ThingTypeName>,
    /// Searchable facts about it.
    pub attributes: Attributes,
    /// 1 at first, then one more with every update.
    pub version: u64,
    /// Static groups that it is in, each of another root; of dynamic ones the fleet index knows.
    pub groups: BTreeSet<ThingGroupName>,
    /// Whom its costs are put down to.
    pub billing_group: Option<BillingGroupName>,
}

/// Attributes of a thing: names of `[a-zA-Z0-9_.,@/:#-]{1,128}`, values of
/// `[a-zA-Z0-9_.,@/:#=\[\]-]{1,800}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    values: BTreeMap<String, String>,
    /// Names that came with an empty value: in an update that merges they are removed.
    removed: Vec<String>,
}

impl Attributes {
    /// Checks names and values. An empty value stands for "no such attribute".
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`] names the attribute and the rule.
    pub fn parse(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, RegistryError> {
        let mut attributes = Self::default();
        for (name, value) in pairs {
            let fits = |text: &str, max: usize, extra: &[u8]| {
                text.len() <= max
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || extra.contains(&b))
            };
            if name.is_empty() || !fits(&name, ATTRIBUTE_NAME_BYTES_MAX, b"_.,@/:#-") {
                return Err(RegistryError::InvalidRequest(format!(
                    "attribute name {name:?} must match [a-zA-Z0-9_.,@/:#-]+ and have at most \
                     {ATTRIBUTE_NAME_BYTES_MAX} characters"
                )));
            }
            if !fits(&value, ATTRIBUTE_VALUE_BYTES_MAX, b"_.,@/:#=[]-") {
                return Err(RegistryError::InvalidRequest(format!(
                    "the value of attribute {name:?} must match [a-zA-Z0-9_.,@/:#=\\[\\]-]* and \
                     have at most {ATTRIBUTE_VALUE_BYTES_MAX} characters"
                )));
            }
            if value.is_empty() {
                attributes.removed.push(name);
            } else {
                attributes.values.insert(name, value);
            }
        }
        Ok(attributes)
    }

    /// Of a record, where they were checked.
    pub(super) fn stored(values: BTreeMap<String, String>) -> Self {
        Self { values, removed: Vec::new() }
    }

    /// Names and values, ordered by name.
    pub fn values(&self) -> &BTreeMap<String, String> {
        &self.values
    }

    pub(super) fn merged_with(&self, changes: &Self) -> Self {
        let mut values = self.values.clone();
        values.extend(changes.values.clone());
        values.retain(|name, _| !changes.removed.contains(name));
        Self { values, removed: Vec::new() }
    }
}

/// Which things a list shows; everything that is given must fit.
#[derive(Clone, Debug, Default)]
pub struct ThingFilter {
    /// Things with this attribute.
    pub attribute_name: Option<String>,
    /// Things whose attribute has this value.
    pub attribute_value: Option<String>,
    /// The value is only the beginning.
    pub value_is_prefix: bool,
    /// Things of this type.
    pub type_name: Option<String>,
}

impl ThingFilter {
    fn accepts(&self, thing: &Thing) -> bool {
        let value_fits = |value: &String| match &self.attribute_value {
            None => true,
            Some(wanted) if self.value_is_prefix => value.starts_with(wanted),
            Some(wanted) => value == wanted,
        };
        self.attribute_name
            .as_ref()
            .is_none_or(|name| thing.attributes.values.get(name).is_some_and(value_fits))
            && self.type_name.as_deref().is_none_or(|name| {
                thing.type_name.as_ref().is_some_and(|of_thing| of_thing.as_str() == name)
            })
    }
}

/// What UpdateThing changes.
#[derive(Clone, Debug, Default)]
pub struct ThingUpdate {
    /// Attributes that it gets.
    pub attributes: Option<Attributes>,
    /// They are merged into the present ones instead of replacing them.
    pub merge: bool,
    /// The type that it gets.
    pub type_name: Option<ThingTypeName>,
    /// It loses its type.
    pub remove_type: bool,
    /// The version that it must have.
    pub expected_version: Option<u64>,
}

impl Registry {
    /// CreateThing. The same thing again is a success and changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::ResourceAlreadyExists`] when its type or attributes differ,
    /// [`RegistryError::ResourceNotFound`] for the type, [`RegistryError::InvalidRequest`] when it is
    /// deprecated, and beyond `Limits::thing_attributes`.
    pub async fn create_thing(
        &self,
        name: &ThingName,
        type_name: Option<ThingTypeName>,
        attributes: Attributes,
    ) -> Result<Thing, RegistryError> {
        let thing = Thing {
            name: name.clone(),
            id: random::uuid(&*self.0.ports.random),
            type_name,
            attributes: Attributes { removed: Vec::new(), ..attributes },
            version: 1,
            groups: BTreeSet::new(),
            billing_group: None,
        };
        self.check_attributes(&thing)?;
        let key = record::key::<Thing>(name.as_str());
        for _ in 0..ATTEMPTS_MAX {
            if let Some((existing, _)) = self.read::<Thing>(&key).await? {
                if (&existing.type_name, &existing.attributes)
                    == (&thing.type_name, &thing.attributes)
                {
                    return Ok(existing);
                }
                return Err(RegistryError::ResourceAlreadyExists {
                    message: format!("thing {name} exists with another configuration"),
                    id: existing.id,
                    arn: self.thing_arn(name),
                });
            }
            if let Some(type_name) = &thing.type_name {
                self.check_thing_type(type_name).await?;
            }
            let created = || Diff::Created(thing.clone());
            let change = self.told(|| Change::Thing { diff: created(), groups: Vec::new() });
            if self.write_telling(&key, &thing, None, change).await? {
                tracing::info!(thing = %name, "thing created");
                return Ok(thing);
            }
        }
        Err(RegistryError::Busy)
    }

    /// DescribeThing.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn describe_thing(&self, name: &ThingName) -> Result<Thing, RegistryError> {
        Ok(self.read_existing(&record::key::<Thing>(name.as_str())).await?.0)
    }

    /// UpdateThing.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`], also for the type, [`RegistryError::VersionConflict`],
    /// [`RegistryError::InvalidRequest`] beyond `Limits::thing_attributes`, for a deprecated type, and
    /// when a type is both given and removed.
    pub async fn update_thing(
        &self,
        name: &ThingName,
        change: &ThingUpdate,
    ) -> Result<Thing, RegistryError> {
        if let Some(type_name) = &change.type_name {
            if change.remove_type {
                let message = "removeThingType and thingTypeName exclude each other";
                return Err(RegistryError::InvalidRequest(message.to_owned()));
            }
            self.check_thing_type(type_name).await?;
        }
        let key = record::key::<Thing>(name.as_str());
        let updated = self
            .update_telling(
                &key,
                |thing: &mut Thing| {
                    check_version("thing", name.as_str(), thing.version, change.expected_version)?;
                    if let Some(changes) = &change.attributes {
                        let base =
                            if change.merge { &thing.attributes } else { &Attributes::default() };
                        thing.attributes = base.merged_with(changes);
                    }
                    if change.remove_type {
                        thing.type_name = None;
                    } else if change.type_name.is_some() {
                        thing.type_name.clone_from(&change.type_name);
                    }
                    thing.version += 1;
                    self.check_attributes(thing)?;
                    Ok(true)
                },
                |diff| Change::Thing { diff, groups: Vec::new() },
            )
            .await?;
        // Policies can ask for attributes and the type.
        for id in self.attached_certificates(&Owner::Thing(name)).await? {
            self.certificate_changed(&id);
        }
        Ok(updated)
    }

    /// DeleteThing; a thing that does not exist is a success.
    ///
    /// # Errors
    /// [`RegistryError::VersionConflict`], [`RegistryError::InvalidRequest`] while a principal is
    /// attached.
    pub async fn delete_thing(
        &self,
        name: &ThingName,
        expected_version: Option<u64>,
    ) -> Result<(), RegistryError> {
        let key = record::key::<Thing>(name.as_str());
        let owner = Owner::Thing(name);
        for _ in 0..ATTEMPTS_MAX {
            let Some((thing, revision)) = self.read::<Thing>(&key).await? else { return Ok(()) };
            check_version("thing", name.as_str(), thing.version, expected_version)?;
            if !self.attached_certificates(&owner).await?.is_empty() {
                return Err(RegistryError::InvalidRequest(format!(
                    "thing {name} still has principals attached; detach them first"
                )));
            }
            let change = match self.is_observed() {
                true => Some(self.thing_deleted(&thing).await?),
                false => None,
            };
            if self.remove(&key, revision, change).await? {
                tracing::info!(thing = %name, "thing deleted");
                for group in &thing.groups {
                    self.forget_member(group, name).await?;
                }
                if let Some(group) = &thing.billing_group {
                    self.forget_billed(group, name).await?;
                }
                return self.detach_from_all(&owner).await;
            }
        }
        Err(RegistryError::Busy)
    }

    /// ListThings, ordered by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_things(
        &self,
        filter: &ThingFilter,
        page: PageRequest<'_>,
    ) -> Result<Page<Thing>, RegistryError> {
        self.list(page, |thing| filter.accepts(thing)).await
    }

    /// The things behind a name, in their order, for whoever looks at all of them: one that cannot be
    /// read does not end the look.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn things_after(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Result<Thing, RegistryError>)>, RegistryError> {
        self.records_after(after, limit).await
    }

    /// `arn:aws:iot:<region>:<account>:thing/<name>`.
    pub fn thing_arn(&self, name: &ThingName) -> String {
        self.account().arn(&format!("thing/{name}"))
    }

    async fn thing_deleted(&self, thing: &Thing) -> Result<Change, RegistryError> {
        let mut groups = Vec::new();
        for name in &thing.groups {
            match self.describe_thing_group(name).await {
                Ok(group) => groups.push(group),
                // Deleted at this moment: the thing is about to leave it.
                Err(RegistryError::ResourceNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Change::Thing { diff: Diff::Deleted(thing.clone()), groups })
    }

    fn check_attributes(&self, thing: &Thing) -> Result<(), RegistryError> {
        let max = match thing.type_name {
            None => self.0.ports.limits.thing_attributes,
            Some(_) => self.0.ports.limits.typed_thing_attributes,
        };
        let count = thing.attributes.values.len();
        if count > max as usize {
            return Err(RegistryError::InvalidRequest(format!(
                "thing {} would have {count} attributes; at most {max} are allowed",
                thing.name
            )));
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct ThingRecord {
    id: String,
    type_name: Option<String>,
    attributes: BTreeMap<String, String>,
    version: u64,
    #[serde(default)]
    groups: BTreeSet<String>,
    #[serde(default)]
    billing_group: Option<String>,
}

impl Stored for Thing {
    const KIND: &str = "thing";
    const VERSION: u8 = 1;
    type Record = ThingRecord;

    fn to_record(&self) -> ThingRecord {
        ThingRecord {
            id: self.id.clone(),
            type_name: self.type_name.as_ref().map(ToString::to_string),
            attributes: self.attributes.values.clone(),
            version: self.version,
            groups: self.groups.iter().map(ToString::to_string).collect(),
            billing_group: self.billing_group.as_ref().map(ToString::to_string),
        }
    }

    fn from_record(name: &str, record: ThingRecord) -> Result<Self, String> {
        Ok(Self {
            name: ThingName::parse(name).map_err(|error| error.to_string())?,
            id: record.id,
            type_name: record
                .type_name
                .map(|name| ThingTypeName::parse(&name))
                .transpose()
                .map_err(|error| error.to_string())?,
            attributes: Attributes::stored(record.attributes),
            version: record.version,
            groups: record
                .groups
                .iter()
                .map(|name| ThingGroupName::parse(name))
                .collect::<Result<_, _>>()
                .map_err(|error| error.to_string())?,
            billing_group: record
                .billing_group
                .map(|name| BillingGroupName::parse(&name))
                .transpose()
                .map_err(|error| error.to_string())?,
        })
    }

    fn not_found(name: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("thing {name} does not exist"))
    }
}
