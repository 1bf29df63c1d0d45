//! Tasks that register things in bulk, as records: what is to be done and how far it is. Who does it is
//! `provisioning`.
//!
//! Source: AWS IoT API reference, `StartThingRegistrationTask`.

use super::record::{self, Stored};
use super::{Page, PageRequest, Registry, RegistryError};
use crate::random;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest id. Source: the shape `TaskId`.
const ID_BYTES_MAX: usize = 40;

/// How far a task is (`Status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskStatus {
    /// It is worked on, or waits to be.
    InProgress,
    /// All lines were read.
    Completed,
    /// It could not go on; its message says why.
    Failed,
    /// It was stopped.
    Cancelled,
    /// It is to be stopped; what has been begun is finished first.
    Cancelling,
}

impl TaskStatus {
    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "InProgress",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::Cancelling => "Cancelling",
        }
    }

    /// The status that AWS writes so.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::InProgress, Self::Completed, Self::Failed, Self::Cancelled, Self::Cancelling]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// Nothing will happen any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// How much of a report is valid; what lies behind was written by a host that was cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportSize {
    /// Objects that it consists of.
    pub parts: u32,
    /// Bytes of the last of them.
    pub last_bytes: u64,
}

/// What has been done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskProgress {
    /// Bytes of the input that are done.
    pub offset: u64,
    /// Lines that are done, blank ones counted.
    pub lines: u64,
    /// Lines by which something was registered.
    pub successes: u64,
    /// The others.
    pub failures: u64,
    /// The report of the successes.
    pub results: ReportSize,
    /// The report of the failures.
    pub errors: ReportSize,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationTask {
    /// A UUID that grows with time, so that lists are in the order of their start.
    pub id: String,
    /// What was asked for.
    pub definition: NewRegistrationTask,
    /// How far it is.
    pub status: TaskStatus,
    /// Why it failed.
    pub message: Option<String>,
    /// What has been done.
    pub progress: TaskProgress,
    /// When it was started.
    pub created_at: Timestamp,
    /// When anything of it last changed.
    pub modified_at: Timestamp,
}

/// What StartThingRegistrationTask is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRegistrationTask {
    /// The template, a text.
    pub template: String,
    /// Bucket of the input.
    pub bucket: String,
    /// Key of the input.
    pub key: String,
    /// Bytes of the input.
    pub size: u64,
    /// An ARN that clients of AWS give; kept for them.
    pub role_arn: String,
}

impl RegistrationTask {
    /// 0 to 100.
    pub fn percentage(&self) -> u8 {
        let size = self.definition.size.max(1);
        let percentage = self.progress.offset.min(size).saturating_mul(100) / size;
        u8::try_from(percentage).unwrap_or(100)
    }
}

impl Registry {
    /// Adds a task; whether it may begin is the caller's to know.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn create_registration_task(
        &self,
        definition: NewRegistrationTask,
    ) -> Result<RegistrationTask, RegistryError> {
        let now = self.0.ports.clock.wall();
        let mut bytes: [u8; 16] = random::bytes(&*self.0.ports.random);
        // RFC 9562, 5.7: the milliseconds come first.
        bytes[..6].copy_from_slice(&now.as_millis().to_be_bytes()[2..]);
        let task = RegistrationTask {
            id: random::uuid_of(&bytes, 7),
            definition,
            status: TaskStatus::InProgress,
            message: None,
            progress: TaskProgress::default(),
            created_at: now,
            modified_at: now,
        };
        if !self.write(&key(&task.id), &task, None).await? {
            return Err(RegistryError::Busy);
        }
        Ok(task)
    }

    /// DescribeThingRegistrationTask.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`].
    pub async fn registration_task(&self, id: &str) -> Result<RegistrationTask, RegistryError> {
        if id.len() > ID_BYTES_MAX {
            return Err(RegistrationTask::not_found("of so long an id"));
        }
        Ok(self.read_existing(&key(id)).await?.0)
    }

    /// ListThingRegistrationTasks, in the order of their start.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_registration_tasks(
        &self,
        accept: impl Fn(TaskStatus) -> bool,
        page: PageRequest<'_>,
    ) -> Result<Page<RegistrationTask>, RegistryError> {
        self.list(page, |task: &RegistrationTask| accept(task.status)).await
    }

    /// Changes a task; `change` says whether there is anything to write.
    pub(crate) async fn update_registration_task(
        &self,
        id: &str,
        mut change: impl FnMut(&mut RegistrationTask) -> Result<bool, RegistryError>,
    ) -> Result<RegistrationTask, RegistryError> {
        let now = self.0.ports.clock.wall();
        let changed = |task: &mut RegistrationTask| {
            let is_changed = change(task)?;
            task.modified_at = now;
            Ok(is_changed)
        };
        self.registration_task(id).await?;
        self.update(&key(id), changed).await
    }

    /// Forgets a task.
    pub(crate) async fn delete_registration_task(&self, id: &str) -> Result<(), RegistryError> {
        let (_, revision) = self.read_existing::<RegistrationTask>(&key(id)).await?;
        if self.remove(&key(id), revision, None).await? { Ok(()) } else { Err(RegistryError::Busy) }
    }
}

fn key(id: &str) -> crate::storage::Key {
    record::key::<RegistrationTask>(id)
}

#[derive(Serialize, Deserialize)]
pub(super) struct TaskRecord {
    definition: NewRegistrationTask,
    status: TaskStatus,
    message: Option<String>,
    progress: TaskProgress,
    created_at_ms: u64,
    modified_at_ms: u64,
}

impl Stored for RegistrationTask {
    const KIND: &str = "registration-task";
    const VERSION: u8 = 1;
    type Record = TaskRecord;

    fn to_record(&self) -> TaskRecord {
        TaskRecord {
            definition: self.definition.clone(),
            status: self.status,
            message: self.message.clone(),
            progress: self.progress,
            created_at_ms: self.created_at.as_millis(),
            modified_at_ms: self.modified_at.as_millis(),
        }
    }

    fn from_record(id: &str, record: TaskRecord) -> Result<Self, String> {
        Ok(Self {
            id: id.to_owned(),
            definition: record.definition,
            status: record.status,
            message: record.message,
            progress: record.progress,
            created_at: Timestamp::from_millis(record.created_at_ms),
            modified_at: Timestamp::from_millis(record.modified_at_ms),
        })
    }

    fn not_found(id: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("there is no thing registration task {id}"))
    }
}
