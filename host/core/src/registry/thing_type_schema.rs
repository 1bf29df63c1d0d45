//! Schemas of payloads, which thing types have. AWS has no such thing.
//!
//! `thing-type-schema/{type}` goes with its type: a type that is deleted loses it before anybody could
//! create another of the name.

use super::record::{self, Stored};
use super::{ATTEMPTS_MAX, Registry, RegistryError};
use crate::ids::ThingTypeName;
use crate::payload_schema::{PayloadSchema, SchemaDefinition};
use crate::storage::Revision;
use crate::time::Timestamp;
use crate::topic::TopicFilter;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};

/// The schema of a thing type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThingTypeSchema {
    /// Whose.
    pub thing_type: ThingTypeName,
    /// What it says.
    pub definition: SchemaDefinition,
    /// When it was set.
    pub modified_at: Timestamp,
}

/// Schemas by the names of their types, each valid for one revision of its record.
pub(super) type CompiledSchemas = HashMap<Box<str>, (Revision, Arc<PayloadSchema>)>;

impl Registry {
    /// Gives a thing type a schema, in place of the one that it has. It holds at once for things that
    /// are connected with a certificate, for others when they connect.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`] for the type, [`RegistryError::InvalidRequest`] when it is no
    /// schema that payloads can be checked by.
    pub async fn set_thing_type_schema(
        &self,
        name: &ThingTypeName,
        definition: SchemaDefinition,
    ) -> Result<ThingTypeSchema, RegistryError> {
        PayloadSchema::compile(&definition)
            .map_err(|error| RegistryError::InvalidRequest(error.to_string()))?;
        self.describe_thing_type(name).await?;
        let modified_at = self.0.ports.clock.wall();
        let schema = ThingTypeSchema { thing_type: name.clone(), definition, modified_at };
        let key = record::key::<ThingTypeSchema>(name.as_str());
        for _ in 0..ATTEMPTS_MAX {
            let read = self.read::<ThingTypeSchema>(&key).await?.map(|(_, revision)| revision);
            let written = self.write(&key, &schema, read).await;
            // Whatever came back: a write whose answer was lost may have happened.
            self.policy_changed();
            if !written? {
                continue;
            }
            // Deleted since the first look? The deletion may have missed this schema.
            if let Err(error) = self.describe_thing_type(name).await {
                self.forget_index(&key).await?;
                return Err(error);
            }
            tracing::info!(thing_type = %name, "schema of payloads set");
            return Ok(schema);
        }
        Err(RegistryError::Busy)
    }

    /// The schema of a thing type.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`] for the type and for a schema that it has not.
    pub async fn thing_type_schema(
        &self,
        name: &ThingTypeName,
    ) -> Result<ThingTypeSchema, RegistryError> {
        self.describe_thing_type(name).await?;
        Ok(self.read_existing(&record::key::<ThingTypeSchema>(name.as_str())).await?.0)
    }

    /// Takes the schema of a thing type away; none is a success.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`] for the type.
    pub async fn delete_thing_type_schema(
        &self,
        name: &ThingTypeName,
    ) -> Result<(), RegistryError> {
        self.describe_thing_type(name).await?;
        self.forget_schema(name).await
    }

    pub(super) async fn forget_schema(&self, name: &ThingTypeName) -> Result<(), RegistryError> {
        let key = record::key::<ThingTypeSchema>(name.as_str());
        if self.0.ports.storage.get(&key).await?.is_some() {
            let forgotten = self.forget_index(&key).await;
            self.compiled_schemas().remove(name.as_str());
            self.policy_changed();
            forgotten?;
            tracing::info!(thing_type = %name, "schema of payloads removed");
        }
        Ok(())
    }

    /// The compiled schema of a thing type, if it has one; shared by all its things.
    pub(crate) async fn compiled_schema(
        &self,
        name: &ThingTypeName,
    ) -> Result<Option<Arc<PayloadSchema>>, RegistryError> {
        let key = record::key::<ThingTypeSchema>(name.as_str());
        // Read each time, so that a change by another node counts at once; compiled only when the
        // revision is a new one.
        let Some(record) = self.0.ports.storage.get(&key).await? else { return Ok(None) };
        if let Some((revision, schema)) = self.compiled_schemas().get(name.as_str())
            && *revision == record.revision
        {
            return Ok(Some(schema.clone()));
        }
        let stored: ThingTypeSchema = record::decode(&record)?;
        let compiled = match PayloadSchema::compile(&stored.definition) {
            Ok(compiled) => Arc::new(compiled),
            // Of another version of the host. It must not keep every device of the type out.
            Err(error) => {
                tracing::error!(thing_type = %name, error = %error, "schema cannot be used");
                return Ok(None);
            }
        };
        let entry = (record.revision, compiled.clone());
        self.compiled_schemas().insert(name.as_str().into(), entry);
        Ok(Some(compiled))
    }

    fn compiled_schemas(&self) -> MutexGuard<'_, CompiledSchemas> {
        self.0.schemas.lock().expect("no code panics while holding the compiled schemas")
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct SchemaRecord {
    topic_filter: Option<String>,
    schema: String,
    enforce: bool,
    modified_at_ms: u64,
}

impl Stored for ThingTypeSchema {
    const KIND: &str = "thing-type-schema";
    const VERSION: u8 = 1;
    type Record = SchemaRecord;

    fn to_record(&self) -> SchemaRecord {
        let SchemaDefinition { topic_filter, schema, enforce } = &self.definition;
        SchemaRecord {
            topic_filter: topic_filter.as_ref().map(|filter| filter.as_str().to_owned()),
            schema: schema.clone(),
            enforce: *enforce,
            modified_at_ms: self.modified_at.as_millis(),
        }
    }

    fn from_record(name: &str, record: SchemaRecord) -> Result<Self, String> {
        let topic_filter = record.topic_filter.as_deref().map(TopicFilter::parse).transpose();
        Ok(Self {
            thing_type: ThingTypeName::parse(name).map_err(|error| error.to_string())?,
            definition: SchemaDefinition {
                topic_filter: topic_filter.map_err(|error| error.to_string())?,
                schema: record.schema,
                enforce: record.enforce,
            },
            modified_at: Timestamp::from_millis(record.modified_at_ms),
        })
    }

    fn not_found(name: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("thing type {name} has no schema of payloads"))
    }
}
