//! Bulk registration: a template carried out for every line of an object, and the same as a trial.
//!
//! In: tasks, one at a time. Out: what `RegisterThing` makes of each line, two reports beside the
//! object, and a record that says how far it is. Not here: files ([`Objects`]), what a line makes
//! ([`Provisioner`]).
//!
//! Order: lines are carried out, their reports are on disk, then the record says so. A host that is
//! cut off does the lines behind the record again, which finds what is there, and writes their
//! reports over what it had written. Bounds: [`RUNNING_MAX`] lines at a time, whose commits share
//! the disk; what has been done is recorded every [`BATCH_LINES_MAX`] lines or [`BATCH_TIME`].
//!
//! Source: AWS IoT developer guide, "Bulk registration".

use super::lines::{Line, Lines, Place};
use super::objects::{ObjectError, ObjectName, Objects};
use super::template::{Template, Use};
use super::{Provisioned, Provisioner, ProvisioningError};
use crate::registry::{
    NewRegistrationTask, PageRequest, RegistrationTask, Registry, RegistryError, ReportSize,
    TaskProgress, TaskStatus,
};
use crate::time::Clock;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Lines that are worked on at the same time: as many share a group commit. Eight take twice as long.
const RUNNING_MAX: usize = 32;

/// Lines, time, and bytes of input and reports, after which a task's progress is recorded.
const BATCH_LINES_MAX: u64 = 1_000;
const BATCH_TIME: Duration = Duration::from_secs(1);
const BATCH_BYTES_MAX: usize = 1_024 * 1_024;

/// A report goes on in a further object when one has so many bytes.
const PART_BYTES: u64 = 4 * 1_024 * 1_024;

/// Tasks that are kept; the oldest one that has ended goes, with its reports, for a new one.
const TASKS_MAX: usize = 100;

/// Longest role ARN. Source: the shape `RoleArn`.
const ROLE_ARN_BYTES: std::ops::RangeInclusive<usize> = 1..=2_048;

/// After the store has failed.
const PAUSE: Duration = Duration::from_secs(5);

/// Lines and time of one trial; then the caller asks for the rest.
pub const CHECK_LINES_MAX: u64 = 5_000;
const CHECK_TIME: Duration = Duration::from_secs(5);

/// Problems that one trial tells.
pub const PROBLEMS_MAX: usize = 100;

/// Why a task cannot be started, stopped or tried out.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BulkError {
    /// Something is wrong with what is asked for, or it is not the time for it.
    #[error("{0}")]
    Invalid(String),
    /// See [`ObjectError`].
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// See [`RegistryError`].
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// What is carried out for which object.
#[derive(Clone, Debug)]
pub struct Input {
    /// A provisioning template.
    pub template: String,
    /// One JSON object of texts per line.
    pub object: ObjectName,
}

/// The reports of a task (`ReportType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// What was registered, line by line.
    Results,
    /// Which lines failed, and why.
    Errors,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Results => "results",
            Self::Errors => "errors",
        })
    }
}

/// What a trial found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Lines that would be carried out.
    pub valid: u64,
    /// Lines that would fail.
    pub invalid: u64,
    /// The first [`PROBLEMS_MAX`] of them.
    pub problems: Vec<Problem>,
    /// Where the next call goes on.
    pub place: Place,
    /// Bytes of the object.
    pub size: u64,
}

/// A line that would fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: u64,
    /// Where the line begins in the object.
    pub offset: u64,
    /// What is wrong with it.
    pub message: String,
}

/// The running service. Dropping it stops it like [`Registrations::shutdown`], without waiting.
pub struct Registrations {
    shared: Arc<Shared>,
    running: Mutex<Option<(watch::Sender<bool>, JoinHandle<()>)>>,
}

impl Registrations {
    /// Goes on with the task that the store has, if any, and waits for others; on the runtime of the
    /// caller.
    pub fn start(
        provisioner: Provisioner,
        objects: Arc<dyn Objects>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            provisioner,
            objects,
            clock,
            starting: tokio::sync::Mutex::default(),
            wake: Notify::new(),
            stopped,
        });
        let worker = Handle::current().spawn(run(shared.clone()));
        Self { shared, running: Mutex::new(Some((stop, worker))) }
    }

    /// Begins no further line, and returns when what has been done is recorded. The next host goes
    /// on.
    pub async fn shutdown(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, worker)) = running {
            // Both fail only when the worker has ended already.
            let _ = stop.send(true);
            let _ = worker.await;
        }
    }

    /// StartThingRegistrationTask; returns the id.
    ///
    /// # Errors
    /// [`BulkError::Invalid`] for a template that is none, an object that is missing or empty, and
    /// while another task has not ended.
    pub async fn begin(&self, input: Input, role_arn: String) -> Result<String, BulkError> {
        let Input { template, object } = input;
        if !ROLE_ARN_BYTES.contains(&role_arn.len()) {
            let max = ROLE_ARN_BYTES.end();
            return Err(BulkError::Invalid(format!("roleArn must have 1 to {max} characters")));
        }
        parse(&template)?;
        let size = self.shared.size(&object).await?;
        let (bucket, key) = (object.bucket().to_owned(), object.key().to_owned());
        let definition = NewRegistrationTask { template, bucket, key, size, role_arn };
        // A UUID has 36 characters.
        report_name(&definition, &"0".repeat(36), Report::Results, u32::MAX).map_err(
            |problem| {
                BulkError::Invalid(format!(
                    "the reports need a longer key than this one's: {problem}"
                ))
            },
        )?;
        // One at a time, also of those who ask.
        let _turn = self.shared.starting.lock().await;
        if let Some(task) = self.shared.unfinished().await? {
            return Err(BulkError::Invalid(format!(
                "one task at a time: {} is {}; wait for it, or stop it",
                task.id,
                task.status.as_str()
            )));
        }
        self.shared.make_room().await?;
        let task = self.shared.registry().create_registration_task(definition).await?;
        tracing::info!(task = task.id, %object, "thing registration task started");
        self.shared.wake.notify_one();
        Ok(task.id)
    }

    /// StopThingRegistrationTask. It is `Cancelled` when the lines that have been begun are done; one
    /// that is or will be already is a success.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`]; [`BulkError::Invalid`] when it has ended otherwise.
    pub async fn stop(&self, id: &str) -> Result<(), BulkError> {
        let cancel = |task: &mut RegistrationTask| match task.status {
            TaskStatus::Cancelling | TaskStatus::Cancelled => Ok(false),
            TaskStatus::InProgress => {
                task.status = TaskStatus::Cancelling;
                Ok(true)
            }
            ended => Err(RegistryError::InvalidRequest(format!(
                "task {id} has ended: it is {}",
                ended.as_str()
            ))),
        };
        self.shared.registry().update_registration_task(id, cancel).await?;
        Ok(())
    }

    /// The objects that a report consists of, in their order.
    pub fn report(&self, task: &RegistrationTask, report: Report) -> Vec<ObjectName> {
        report_parts(task, report)
    }

    /// Tries lines out from `from` on, at most [`CHECK_LINES_MAX`]: whether the template can be carried
    /// out for them, and what it names is there. Nothing is changed.
    ///
    /// # Errors
    /// [`BulkError::Invalid`] as for [`Registrations::begin`], and for a place behind the end.
    pub async fn check(&self, input: &Input, from: Place) -> Result<Checked, BulkError> {
        let template = &parse(&input.template)?;
        let size = self.shared.size(&input.object).await?;
        if from.offset > size {
            return Err(BulkError::Invalid("the token points behind the end".to_owned()));
        }
        let shared = &self.shared;
        let mut lines = Lines::new(shared.objects.clone(), input.object.clone(), size, from);
        let work = |line: Line| async move {
            let checked = match line.parameters().map_err(ProvisioningError::Template) {
                Ok(parameters) => shared.provisioner.check_thing(template, &parameters).await,
                Err(problem) => Err(problem),
            };
            Outcome { line: line.number, offset: line.offset, result: checked.map(|()| None) }
        };
        let batch = shared.drive(&mut lines, CHECK_LINES_MAX, CHECK_TIME, work).await;
        if let Some(problem) = batch.problem {
            return Err(problem.into());
        }
        let mut checked =
            Checked { valid: 0, invalid: 0, problems: Vec::new(), place: lines.place(), size };
        for Outcome { line, offset, result } in batch.outcomes {
            let Err(error) = result else {
                checked.valid += 1;
                continue;
            };
            if let ProvisioningError::Registry(error @ RegistryError::Store(_)) = error {
                return Err(error.into());
            }
            checked.invalid += 1;
            if checked.problems.len() < PROBLEMS_MAX {
                checked.problems.push(Problem { line, offset, message: error.to_string() });
            }
        }
        Ok(checked)
    }

    /// Puts a whole object in place of what was there.
    ///
    /// # Errors
    /// [`BulkError::Invalid`] while a task reads it.
    pub async fn put_object(&self, name: &ObjectName, bytes: Bytes) -> Result<(), BulkError> {
        let _turn = self.shared.starting.lock().await;
        self.shared.check_unused(name).await?;
        Ok(self.shared.objects.put(name, bytes).await?)
    }

    /// A whole object.
    ///
    /// # Errors
    /// [`ObjectError::NotFound`]; [`BulkError::Invalid`] when it has more than `max` bytes.
    pub async fn object(&self, name: &ObjectName, max: usize) -> Result<Bytes, BulkError> {
        let mut all = Vec::new();
        loop {
            let chunk = self.shared.objects.read(name, all.len() as u64, max).await?;
            if chunk.size > max as u64 {
                return Err(BulkError::Invalid(format!(
                    "object {name} has {} bytes, and {max} are the most that is answered; read the \
                     file in the data folder",
                    chunk.size
                )));
            }
            all.extend_from_slice(&chunk.bytes);
            if chunk.bytes.is_empty() || all.len() as u64 >= chunk.size {
                return Ok(all.into());
            }
        }
    }

    /// Removes an object.
    ///
    /// # Errors
    /// [`ObjectError::NotFound`]; [`BulkError::Invalid`] while a task reads it.
    pub async fn delete_object(&self, name: &ObjectName) -> Result<(), BulkError> {
        let _turn = self.shared.starting.lock().await;
        self.shared.check_unused(name).await?;
        if self.shared.objects.delete(name).await? {
            Ok(())
        } else {
            Err(ObjectError::NotFound(name.clone()).into())
        }
    }
}

fn parse(template: &str) -> Result<Template, BulkError> {
    Template::parse(template, Use::Request)
        .map_err(|problem| BulkError::Invalid(format!("templateBody: {problem}")))
}

/// `<key>.<task>.<report>.<part>`, in the bucket of the input.
fn report_name(
    input: &NewRegistrationTask,
    task: &str,
    report: Report,
    part: u32,
) -> Result<ObjectName, String> {
    ObjectName::parse(&input.bucket, &format!("{}.{task}.{report}.{part}", input.key))
}

fn report_parts(task: &RegistrationTask, report: Report) -> Vec<ObjectName> {
    let size = match report {
        Report::Results => task.progress.results,
        Report::Errors => task.progress.errors,
    };
    let part = |part| report_name(&task.definition, &task.id, report, part).ok();
    (1..=size.parts).filter_map(part).collect()
}

/// Works on tasks until told to stop.
async fn run(shared: Arc<Shared>) {
    let mut stopped = shared.stopped.clone();
    while !shared.is_stopping() {
        let worked = match shared.unfinished().await {
            Ok(Some(task)) => shared.work(task).await,
            Ok(None) => {
                tokio::select! {
                    () = shared.wake.notified() => {}
                    _ = stopped.changed() => {}
                }
                continue;
            }
            Err(error) => Err(error),
        };
        if let Err(error) = worked {
            tracing::warn!(error = %error, "thing registration pauses");
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = stopped.changed() => {}
            }
        }
    }
}

struct Shared {
    provisioner: Provisioner,
    objects: Arc<dyn Objects>,
    clock: Arc<dyn Clock>,
    /// Held by whoever starts a task, or changes an object that one could begin with.
    starting: tokio::sync::Mutex<()>,
    wake: Notify,
    stopped: watch::Receiver<bool>,
}

/// What became of a line.
struct Outcome {
    line: u64,
    offset: u64,
    /// What the report says, in JSON.
    result: Result<Option<Box<RawValue>>, ProvisioningError>,
}

impl Outcome {
    fn is_of_the_store(&self) -> bool {
        matches!(self.result, Err(ProvisioningError::Registry(RegistryError::Store(_))))
    }

    fn len(&self) -> usize {
        self.result.as_ref().ok().and_then(Option::as_ref).map_or(0, |text| text.get().len())
    }
}

/// Some lines that follow each other, all of which are done.
struct Batch {
    outcomes: Vec<Outcome>,
    /// Why the line behind them cannot be read.
    problem: Option<ObjectError>,
}

impl Shared {
    fn registry(&self) -> &Registry {
        &self.provisioner.registry
    }

    fn is_stopping(&self) -> bool {
        *self.stopped.borrow() || self.stopped.has_changed().is_err()
    }

    /// The task that is to be worked on.
    async fn unfinished(&self) -> Result<Option<RegistrationTask>, RegistryError> {
        let first = PageRequest { limit: 1, after: None };
        let page = self.registry().list_registration_tasks(|it| !it.is_final(), first).await?;
        Ok(page.items.into_iter().next())
    }

    async fn check_unused(&self, name: &ObjectName) -> Result<(), BulkError> {
        match self.unfinished().await? {
            Some(RegistrationTask { id, definition, .. })
                if definition.bucket == name.bucket() && definition.key == name.key() =>
            {
                Err(BulkError::Invalid(format!("task {id} reads object {name}; stop it first")))
            }
            _ => Ok(()),
        }
    }

    /// Bytes of an object that has some.
    async fn size(&self, name: &ObjectName) -> Result<u64, BulkError> {
        match self.objects.read(name, 0, 1).await {
            Ok(chunk) if chunk.size == 0 => {
                Err(BulkError::Invalid(format!("object {name} is empty")))
            }
            Ok(chunk) => Ok(chunk.size),
            Err(error @ ObjectError::NotFound(_)) => Err(BulkError::Invalid(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets the oldest task when there are as many as may be. None of them is being worked on.
    async fn make_room(&self) -> Result<(), BulkError> {
        let all = PageRequest { limit: TASKS_MAX, after: None };
        let tasks = self.registry().list_registration_tasks(|_| true, all).await?.items;
        if let Some(oldest) = tasks.first().filter(|_| tasks.len() >= TASKS_MAX) {
            for report in [Report::Results, Report::Errors] {
                for part in report_parts(oldest, report) {
                    self.objects.delete(&part).await?;
                }
            }
            self.registry().delete_registration_task(&oldest.id).await?;
        }
        Ok(())
    }

    /// Carries a task on until it has ended or the host stops.
    async fn work(&self, task: RegistrationTask) -> Result<(), RegistryError> {
        let NewRegistrationTask { template, bucket, key, size, .. } = &task.definition;
        let parsed = ObjectName::parse(bucket, key)
            .and_then(|name| Ok((name, Template::parse(template, Use::Request)?)));
        let (name, template) = match parsed {
            Ok(parsed) => parsed,
            // It was good when the task began: this is another version of the host.
            Err(problem) => {
                return self.record(&task, task.progress, Some(problem)).await.map(drop);
            }
        };
        let TaskProgress { offset, lines, .. } = task.progress;
        let from = Place { offset, lines };
        let mut lines = Lines::new(self.objects.clone(), name, *size, from);
        let (template, since) = (&template, task.created_at);
        let work = |line: Line| async move {
            let result = match line.parameters().map_err(ProvisioningError::Template) {
                Ok(parameters) => {
                    self.provisioner.register_again(template, &parameters, since).await
                }
                Err(problem) => Err(problem),
            };
            let result = result.map(|made| Some(response(made)));
            Outcome { line: line.number, offset: line.offset, result }
        };
        let mut task = task;
        while !task.status.is_final() && !self.is_stopping() {
            if task.status == TaskStatus::Cancelling {
                task = self.record(&task, task.progress, None).await?;
                continue;
            }
            let batch = self.drive(&mut lines, BATCH_LINES_MAX, BATCH_TIME, work).await;
            let problem = batch.problem.as_ref().map(ToString::to_string);
            let (progress, problem) = match self.report(&task, batch, lines.place()).await? {
                Ok(progress) => (progress, problem),
                Err(error) => (task.progress, Some(format!("a report is not written: {error}"))),
            };
            task = self.record(&task, progress, problem).await?;
        }
        let TaskProgress { successes, failures, .. } = task.progress;
        let (status, message) = (task.status.as_str(), task.message.as_deref());
        tracing::info!(task = task.id, status, message, successes, failures, "thing registration");
        Ok(())
    }

    /// Takes lines within bounds, and returns when all that were taken are done. Outcomes are in the
    /// order of the lines.
    async fn drive<F: Future<Output = Outcome>>(
        &self,
        lines: &mut Lines,
        lines_max: u64,
        time: Duration,
        work: impl Fn(Line) -> F,
    ) -> Batch {
        let deadline = self.clock.now() + time;
        let mut running = FuturesOrdered::new();
        let mut batch = Batch { outcomes: Vec::new(), problem: None };
        let (mut taken, mut bytes, mut is_full) = (0, 0, false);
        loop {
            while !is_full && running.len() < RUNNING_MAX {
                match lines.next().await {
                    Ok(Some(line)) => {
                        taken += 1;
                        bytes += line.len();
                        running.push_back(work(line));
                    }
                    Ok(None) => is_full = true,
                    Err(problem) => {
                        batch.problem = Some(problem);
                        is_full = true;
                    }
                }
                is_full |= taken >= lines_max
                    || bytes >= BATCH_BYTES_MAX
                    || self.clock.now() >= deadline
                    || self.is_stopping();
            }
            let Some(outcome) = running.next().await else { return batch };
            bytes += outcome.len();
            // The others would fail in the same way.
            is_full |= outcome.is_of_the_store();
            batch.outcomes.push(outcome);
        }
    }

    /// Writes the reports of a batch; what has been done with it. The outer error is the store's:
    /// nothing of the batch counts.
    async fn report(
        &self,
        task: &RegistrationTask,
        batch: Batch,
        place: Place,
    ) -> Result<Result<TaskProgress, ObjectError>, RegistryError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Entry<'a> {
            line_number: u64,
            offset: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            response: Option<&'a RawValue>,
            #[serde(skip_serializing_if = "Option::is_none")]
            error_message: Option<String>,
        }
        let mut progress = task.progress;
        (progress.offset, progress.lines) = (place.offset, place.lines);
        let (mut results, mut errors) = (Vec::new(), Vec::new());
        for outcome in &batch.outcomes {
            let Outcome { line, offset, result } = outcome;
            let (report, count, response, error_message) = match result {
                Ok(it) => (&mut results, &mut progress.successes, it.as_deref(), None),
                Err(ProvisioningError::Registry(error @ RegistryError::Store(_))) => {
                    return Err(error.clone());
                }
                Err(error) => (&mut errors, &mut progress.failures, None, Some(error.to_string())),
            };
            *count += 1;
            let entry = Entry { line_number: *line, offset: *offset, response, error_message };
            serde_json::to_writer(&mut *report, &entry).expect("texts and numbers serialize");
            report.push(b'\n');
        }
        Ok(async {
            progress.results =
                self.append(task, Report::Results, progress.results, results).await?;
            progress.errors = self.append(task, Report::Errors, progress.errors, errors).await?;
            Ok(progress)
        }
        .await)
    }

    async fn append(
        &self,
        task: &RegistrationTask,
        report: Report,
        size: ReportSize,
        text: Vec<u8>,
    ) -> Result<ReportSize, ObjectError> {
        if text.is_empty() {
            return Ok(size);
        }
        let is_full = size.parts == 0 || size.last_bytes >= PART_BYTES;
        let (parts, last_bytes) =
            if is_full { (size.parts + 1, 0) } else { (size.parts, size.last_bytes) };
        let name = report_name(&task.definition, &task.id, report, parts)
            .expect("checked when the task began");
        let end = last_bytes + text.len() as u64;
        self.objects.append(&name, last_bytes, text.into()).await?;
        Ok(ReportSize { parts, last_bytes: end })
    }

    /// Records what has been done. With a problem the task has failed; without one it has ended when
    /// nothing is left, or it was to be stopped.
    async fn record(
        &self,
        task: &RegistrationTask,
        progress: TaskProgress,
        problem: Option<String>,
    ) -> Result<RegistrationTask, RegistryError> {
        let change = |task: &mut RegistrationTask| {
            task.progress = progress;
            task.status = match task.status {
                _ if problem.is_some() => TaskStatus::Failed,
                _ if progress.offset >= task.definition.size => TaskStatus::Completed,
                TaskStatus::Cancelling => TaskStatus::Cancelled,
                status => status,
            };
            task.message.clone_from(&problem);
            Ok(true)
        };
        self.registry().update_registration_task(&task.id, change).await
    }
}

/// What RegisterThing answers.
fn response(made: Provisioned) -> Box<RawValue> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Response {
        #[serde(skip_serializing_if = "Option::is_none")]
        certificate_pem: Option<String>,
        resource_arns: BTreeMap<String, String>,
    }
    let certificate_pem = made.certificate.map(|certificate| certificate.pem);
    let response = Response { certificate_pem, resource_arns: made.resource_arns };
    serde_json::value::to_raw_value(&response).expect("texts serialize")
}

#[cfg(test)]
mod tests;
