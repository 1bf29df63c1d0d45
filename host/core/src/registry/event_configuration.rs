//! Which events are published: one record for all classes.
//!
//! The registry keeps the choice; who publishes hears of it as a [`Change`]. Source: `EventType`,
//! UpdateEventConfigurations and DescribeEventConfigurations of AWS IoT's API reference.

use super::record::{self, Stored};
use super::{ATTEMPTS_MAX, Change, Registry, RegistryError};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Name of the only record.
const NAME: &str = "all";

/// A class of events (`EventType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is named as on AWS")]
pub enum EventClass {
    Thing,
    ThingGroup,
    ThingType,
    ThingGroupMembership,
    ThingGroupHierarchy,
    ThingTypeAssociation,
    Job,
    JobExecution,
    Policy,
    Certificate,
    CaCertificate,
}

impl EventClass {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Thing,
        Self::ThingGroup,
        Self::ThingType,
        Self::ThingGroupMembership,
        Self::ThingGroupHierarchy,
        Self::ThingTypeAssociation,
        Self::Job,
        Self::JobExecution,
        Self::Policy,
        Self::Certificate,
        Self::CaCertificate,
    ];

    /// The class of this name.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`] names those that exist.
    pub fn parse(name: &str) -> Result<Self, RegistryError> {
        Self::ALL.into_iter().find(|class| class.as_str() == name).ok_or_else(|| {
            RegistryError::InvalidRequest(format!(
                "{name:?} is no class of events; there are {}",
                Self::ALL.map(Self::as_str).join(", ")
            ))
        })
    }

    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Thing => "THING",
            Self::ThingGroup => "THING_GROUP",
            Self::ThingType => "THING_TYPE",
            Self::ThingGroupMembership => "THING_GROUP_MEMBERSHIP",
            Self::ThingGroupHierarchy => "THING_GROUP_HIERARCHY",
            Self::ThingTypeAssociation => "THING_TYPE_ASSOCIATION",
            Self::Job => "JOB",
            Self::JobExecution => "JOB_EXECUTION",
            Self::Policy => "POLICY",
            Self::Certificate => "CERTIFICATE",
            Self::CaCertificate => "CA_CERTIFICATE",
        }
    }
}

/// Which events are published; none at first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventConfigurations {
    /// Classes whose events are published.
    pub enabled: BTreeSet<EventClass>,
    /// When they were first configured and when they last changed; `None` before.
    pub dates: Option<EventDates>,
}

/// When events were configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventDates {
    /// For the first time.
    pub created_at: Timestamp,
    /// For the last time.
    pub modified_at: Timestamp,
}

impl Registry {
    /// UpdateEventConfigurations: switches these classes on or off and leaves the others alone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn update_event_configurations(
        &self,
        changes: &BTreeMap<EventClass, bool>,
    ) -> Result<(), RegistryError> {
        let now = self.0.ports.clock.wall();
        let key = record::key::<EventConfigurations>(NAME);
        for _ in 0..ATTEMPTS_MAX {
            let (before, revision) = match self.read::<EventConfigurations>(&key).await? {
                Some((found, revision)) => (found, Some(revision)),
                None => (EventConfigurations::default(), None),
            };
            let mut enabled = before.enabled.clone();
            for (class, is_enabled) in changes {
                match is_enabled {
                    true => enabled.insert(*class),
                    false => enabled.remove(class),
                };
            }
            if revision.is_some() && enabled == before.enabled {
                return Ok(());
            }
            let created_at = before.dates.map_or(now, |dates| dates.created_at);
            let dates = Some(EventDates { created_at, modified_at: now });
            let after = EventConfigurations { enabled, dates };
            let change = self.told(|| Change::EventConfigurations(after.clone()));
            if self.write_telling(&key, &after, revision, change).await? {
                return Ok(());
            }
        }
        Err(RegistryError::Busy)
    }

    /// DescribeEventConfigurations.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn event_configurations(&self) -> Result<EventConfigurations, RegistryError> {
        let found = self.read(&record::key::<EventConfigurations>(NAME)).await?;
        Ok(found.map(|(found, _)| found).unwrap_or_default())
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct EventConfigurationsRecord {
    enabled: Vec<String>,
    created_at_ms: u64,
    modified_at_ms: u64,
}

impl Stored for EventConfigurations {
    const KIND: &str = "event-configurations";
    const VERSION: u8 = 1;
    type Record = EventConfigurationsRecord;

    fn to_record(&self) -> EventConfigurationsRecord {
        let dates = self.dates.expect("who writes them sets their dates");
        EventConfigurationsRecord {
            enabled: self.enabled.iter().map(|class| class.as_str().to_owned()).collect(),
            created_at_ms: dates.created_at.as_millis(),
            modified_at_ms: dates.modified_at.as_millis(),
        }
    }

    fn from_record(_: &str, record: EventConfigurationsRecord) -> Result<Self, String> {
        let parse = |name: &String| EventClass::parse(name).map_err(|error| error.to_string());
        Ok(Self {
            enabled: record.enabled.iter().map(parse).collect::<Result<_, _>>()?,
            dates: Some(EventDates {
                created_at: Timestamp::from_millis(record.created_at_ms),
                modified_at: Timestamp::from_millis(record.modified_at_ms),
            }),
        })
    }

    fn not_found(_: &str) -> RegistryError {
        RegistryError::ResourceNotFound("events have not been configured".to_owned())
    }
}
