//! How much is logged about which client, as AWS IoT's logging options say it.
//!
//! In: the operations. Out: records, and [`Levels`], which always are what the records say. A level is
//! one record, also the default; the options are another, and without them nothing is configured.
//!
//! Source: AWS IoT developer guide, "Configure AWS IoT logging".

use super::index::ALL;
use super::record::{self, Stored};
use super::thing::Thing;
use super::{Page, PageRequest, Registry, RegistryError};
use crate::ids::ThingName;
use crate::logging::{Level, Levels, Target};
use crate::storage::{Expect, Key};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The default level when nobody says one: what the host logs unless it is told otherwise.
const DEFAULT_LEVEL: Level = Level::Info;

/// Targets with a level of their own.
const TARGETS_MAX: usize = 500;

/// Name of the only record of its kind.
const OPTIONS: &str = "options";

/// The logging options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// What clients of AWS send; this host needs no role.
    pub role_arn: Option<String>,
    /// Of clients without a level of their own.
    pub default_level: Level,
    /// Nothing is logged about any client.
    pub is_disabled: bool,
}

/// A level, and what it is set for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel {
    /// Of whom.
    pub target: Target,
    /// How much.
    pub level: Level,
}

impl Registry {
    /// How much is logged about which client, as it is now and as it changes.
    pub fn log_levels(&self) -> &Levels {
        &self.0.log_levels
    }

    /// Reads the levels of the store, once, when the host starts.
    ///
    /// # Errors
    /// When the store fails, or a record cannot be read.
    pub async fn load_log_levels(&self) -> Result<(), RegistryError> {
        let _one_at_a_time = self.0.log_changes.lock().await;
        self.reload_log_levels().await
    }

    /// GetV2LoggingOptions.
    ///
    /// # Errors
    /// [`RegistryError::NotConfigured`].
    pub async fn log_options(&self) -> Result<LogOptions, RegistryError> {
        let options = self.read_options().await?.ok_or_else(|| Options::not_found(OPTIONS))?;
        let default = self.read::<LogLevel>(&key(&Target::Default)).await?;
        let default_level = default.map_or(DEFAULT_LEVEL, |(it, _)| it.level);
        let Options { role_arn, is_disabled } = options;
        Ok(LogOptions { role_arn, default_level, is_disabled })
    }

    /// SetV2LoggingOptions and SetLoggingOptions: what is not given stays.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`] for a role that is no ARN.
    pub async fn set_log_options(
        &self,
        role_arn: Option<&str>,
        default_level: Option<Level>,
        is_disabled: Option<bool>,
    ) -> Result<(), RegistryError> {
        role_arn.map_or(Ok(()), super::role_alias::check_role_arn)?;
        let _one_at_a_time = self.0.log_changes.lock().await;
        let mut options = self.read_options().await?.unwrap_or_default();
        if let Some(role_arn) = role_arn {
            options.role_arn = Some(role_arn.to_owned());
        }
        options.is_disabled = is_disabled.unwrap_or(options.is_disabled);
        // First: there are no options without a default.
        let default = self.read::<LogLevel>(&key(&Target::Default)).await?;
        if default_level.is_some() || default.is_none() {
            self.put_level(Target::Default, default_level.unwrap_or(DEFAULT_LEVEL)).await?;
        }
        self.put(&record::key::<Options>(OPTIONS), &options).await?;
        tracing::info!(?default_level, ?is_disabled, "logging options set");
        self.reload_log_levels().await
    }

    /// SetV2LoggingLevel: that of a target, or the default.
    ///
    /// # Errors
    /// [`RegistryError::NotConfigured`], [`RegistryError::LimitExceeded`] beyond 500 targets,
    /// [`RegistryError::InvalidRequest`] for a group that does not exist or is dynamic.
    pub async fn set_log_level(&self, target: Target, level: Level) -> Result<(), RegistryError> {
        let _one_at_a_time = self.0.log_changes.lock().await;
        self.check_log_options().await?;
        if let Target::ThingGroup(group) = &target {
            // The operation has no exception for what is missing.
            let found = self.describe_thing_group(group).await;
            let found = found.map_err(|error| match error {
                RegistryError::ResourceNotFound(message) => RegistryError::InvalidRequest(message),
                error => error,
            })?;
            found.check_is_static()?;
        }
        let is_new = self.read::<LogLevel>(&key(&target)).await?.is_none();
        if is_new && self.list::<LogLevel>(ALL, |_| true).await?.items.len() > TARGETS_MAX {
            return Err(RegistryError::LimitExceeded(format!(
                "{TARGETS_MAX} targets have a level already; delete one first"
            )));
        }
        tracing::info!(kind = target.kind(), name = %target, level = level.as_str(), "log level set");
        self.put_level(target, level).await?;
        self.reload_log_levels().await
    }

    /// DeleteV2LoggingLevel; a target without a level is a success.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`] for the default, which can only be set.
    pub async fn delete_log_level(&self, target: &Target) -> Result<(), RegistryError> {
        if *target == Target::Default {
            return Err(RegistryError::InvalidRequest(
                "the default level cannot be deleted; set it instead".to_owned(),
            ));
        }
        let _one_at_a_time = self.0.log_changes.lock().await;
        if self.0.ports.storage.delete(&key(target), Expect::Any).await? {
            tracing::info!(kind = target.kind(), name = %target, "log level deleted");
            self.reload_log_levels().await?;
        }
        Ok(())
    }

    /// ListV2LoggingLevels, ordered by the targets' types and names.
    ///
    /// # Errors
    /// [`RegistryError::NotConfigured`].
    pub async fn list_log_levels(
        &self,
        kind: Option<&str>,
        page: PageRequest<'_>,
    ) -> Result<Page<LogLevel>, RegistryError> {
        self.check_log_options().await?;
        self.list(page, |it: &LogLevel| kind.is_none_or(|kind| it.target.kind() == kind)).await
    }

    /// A thing came into a group, or left one, or is gone: the levels of groups may be its own or not.
    pub(super) async fn groups_of_thing_changed(
        &self,
        thing: &ThingName,
    ) -> Result<(), RegistryError> {
        if !self.log_levels().has_groups() {
            return Ok(());
        }
        let _one_at_a_time = self.0.log_changes.lock().await;
        let found = self.read::<Thing>(&record::key::<Thing>(thing.as_str())).await?;
        let mut groups = Vec::new();
        for name in found.map(|(thing, _)| thing.groups).unwrap_or_default() {
            match self.describe_thing_group(&name).await {
                Ok(group) => {
                    let above = self.thing_group_ancestors(&group).await?;
                    groups.extend(above.into_iter().map(|group| group.name));
                }
                // The thing is about to leave it.
                Err(RegistryError::ResourceNotFound(_)) => continue,
                Err(error) => return Err(error),
            }
            groups.push(name);
        }
        self.log_levels().set_groups_of(thing, &groups);
        Ok(())
    }

    /// Makes [`Levels`] what the records say.
    async fn reload_log_levels(&self) -> Result<(), RegistryError> {
        let Some(options) = self.read_options().await? else { return Ok(()) };
        if options.is_disabled {
            let nothing = [(Target::Default, Level::Disabled)];
            self.log_levels().replace(nothing, HashMap::new());
            return Ok(());
        }
        let mut things: HashMap<ThingName, Level> = HashMap::new();
        let levels = self.list::<LogLevel>(ALL, |_| true).await?.items;
        for LogLevel { target, level } in &levels {
            let Target::ThingGroup(group) = target else { continue };
            let members = match self.list_things_in_group(group, true, ALL).await {
                Err(RegistryError::ResourceNotFound(_)) => continue,
                members => members?.items,
            };
            for thing in members {
                let most = things.entry(thing).or_insert(*level);
                *most = (*most).max(*level);
            }
        }
        let levels = levels.into_iter().map(|LogLevel { target, level }| (target, level));
        self.log_levels().replace(levels, things);
        Ok(())
    }

    async fn check_log_options(&self) -> Result<(), RegistryError> {
        self.read_options().await?.map(drop).ok_or_else(|| Options::not_found(OPTIONS))
    }

    async fn read_options(&self) -> Result<Option<Options>, RegistryError> {
        let found = self.read::<Options>(&record::key::<Options>(OPTIONS)).await?;
        Ok(found.map(|(options, _)| options))
    }

    async fn put_level(&self, target: Target, level: Level) -> Result<(), RegistryError> {
        self.put(&key(&target), &LogLevel { target, level }).await
    }

    /// Writes whatever is there; changes come one at a time.
    async fn put<T: Stored>(&self, key: &Key, value: &T) -> Result<(), RegistryError> {
        self.0.ports.storage.put(key, record::encode(value), Expect::Any).await?;
        Ok(())
    }
}

/// No target's name has control characters; a key's last part has no `/`.
fn key(target: &Target) -> Key {
    let name = format!("{}:{target}", target.kind()).replace('/', "\u{1}");
    record::key::<LogLevel>(&name)
}

/// The options but the default level, which is a level like the others.
#[derive(Default)]
struct Options {
    role_arn: Option<String>,
    is_disabled: bool,
}

#[derive(Serialize, Deserialize)]
struct OptionsRecord {
    role_arn: Option<String>,
    is_disabled: bool,
}

impl Stored for Options {
    const KIND: &str = "log-options";
    const VERSION: u8 = 1;
    type Record = OptionsRecord;

    fn to_record(&self) -> OptionsRecord {
        OptionsRecord { role_arn: self.role_arn.clone(), is_disabled: self.is_disabled }
    }

    fn from_record(_: &str, record: OptionsRecord) -> Result<Self, String> {
        let OptionsRecord { role_arn, is_disabled } = record;
        Ok(Self { role_arn, is_disabled })
    }

    fn not_found(_: &str) -> RegistryError {
        RegistryError::NotConfigured("logging is not configured; SetV2LoggingOptions does".into())
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct LogLevelRecord {
    level: String,
}

impl Stored for LogLevel {
    const KIND: &str = "log-level";
    const VERSION: u8 = 1;
    type Record = LogLevelRecord;

    fn to_record(&self) -> LogLevelRecord {
        LogLevelRecord { level: self.level.as_str().to_owned() }
    }

    fn from_record(name: &str, record: LogLevelRecord) -> Result<Self, String> {
        let name = name.replace('\u{1}', "/");
        let (kind, name) = name.split_once(':').ok_or("its key names no target")?;
        Ok(Self {
            target: Target::parse(kind, name).map_err(|error| error.to_string())?,
            level: Level::parse(&record.level).ok_or("its level is none")?,
        })
    }

    fn not_found(name: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("{name} has no log level"))
    }
}
