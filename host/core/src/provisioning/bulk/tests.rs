//! Tasks over objects in memory: what is registered, reported and counted, also when the host is cut
//! off, stopped, or its store is away.

use super::*;
use crate::ids::{ThingGroupName, ThingName};
use crate::provisioning::{Chunk, LINE_BYTES_MAX, MemoryObjects, NoHooks};
use crate::registry::ThingFilter;
use crate::registry::tests::registry_on;
use crate::storage::{Fault, FaultyStore, Key, MemoryStore, Record, Storage};
use crate::time::{ManualClock, SystemClock};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// Objects whose reports wait for the test, when it wants it.
#[derive(Default)]
struct Gated {
    inner: MemoryObjects,
    /// Appends that may happen; `None`: any.
    gate: Option<Semaphore>,
}

#[async_trait]
impl Objects for Gated {
    async fn read(&self, name: &ObjectName, at: u64, max: usize) -> Result<Chunk, ObjectError> {
        self.inner.read(name, at, max).await
    }

    async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), ObjectError> {
        self.inner.put(name, bytes).await
    }

    async fn append(&self, name: &ObjectName, at: u64, bytes: Bytes) -> Result<(), ObjectError> {
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        self.inner.append(name, at, bytes).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<bool, ObjectError> {
        self.inner.delete(name).await
    }
}

struct Bed {
    store: Arc<FaultyStore>,
    registry: Registry,
    clock: Arc<ManualClock>,
    objects: Arc<Gated>,
    tasks: Registrations,
}

impl Bed {
    fn new(gate: Option<usize>) -> Self {
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::default())));
        let (registry, clock) = registry_on(store.clone());
        let gate = gate.map(Semaphore::new);
        let objects = Arc::new(Gated { gate, ..Gated::default() });
        let provisioner = Provisioner::new(registry.clone(), Arc::new(NoHooks));
        let tasks = Registrations::start(provisioner, objects.clone(), clock.clone());
        Self { store, registry, clock, objects, tasks }
    }

    /// The host is gone without a word, and another one comes.
    async fn crash(self) -> Self {
        let (_stop, worker) = self.tasks.running.lock().unwrap().take().unwrap();
        worker.abort();
        assert!(worker.await.unwrap_err().is_cancelled());
        let (registry, clock) = registry_on(self.store.clone());
        let provisioner = Provisioner::new(registry.clone(), Arc::new(NoHooks));
        let tasks = Registrations::start(provisioner, self.objects.clone(), clock.clone());
        Self { registry, clock, tasks, ..self }
    }

    async fn input(&self, text: impl Into<Bytes>) -> Input {
        let object = ObjectName::parse("imports", "lamps/a.ndjson").unwrap();
        self.objects.put(&object, text.into()).await.unwrap();
        Input { template: template().to_string(), object }
    }

    async fn begin(&self, text: impl Into<Bytes>) -> String {
        let input = self.input(text).await;
        self.clock.advance(Duration::from_millis(1));
        self.tasks.begin(input, "role".to_owned()).await.unwrap()
    }

    /// Once it is so.
    async fn task(&self, id: &str, is: impl Fn(&RegistrationTask) -> bool) -> RegistrationTask {
        loop {
            if let Ok(task) = self.registry.registration_task(id).await
                && is(&task)
            {
                return task;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn ended(&self, id: &str) -> RegistrationTask {
        self.task(id, |task| task.status.is_final()).await
    }

    /// The entries of a report.
    async fn report(&self, task: &RegistrationTask, report: Report) -> Vec<Value> {
        let mut entries = Vec::new();
        for part in self.tasks.report(task, report) {
            let text = self.tasks.object(&part, 100_000_000).await.unwrap();
            entries.extend(
                text.split(|it| *it == b'\n')
                    .filter(|it| !it.is_empty())
                    .map(|it| serde_json::from_slice::<Value>(it).unwrap()),
            );
        }
        entries
    }

    async fn things(&self) -> usize {
        let all = PageRequest { limit: usize::MAX, after: None };
        self.registry.list_things(&ThingFilter::default(), all).await.unwrap().items.len()
    }

    /// Everything that is stored.
    async fn records(&self) -> Vec<Record> {
        self.store.scan(&Key::from_text(""), None, usize::MAX).await.unwrap()
    }
}

fn template() -> Value {
    json!({
        "Parameters": {"Serial": {"Type": "String"}, "Group": {"Type": "String", "Default": "all"}},
        "Resources": {"thing": {"Type": "AWS::IoT::Thing", "Properties": {
            "ThingName": {"Fn::Sub": "lamp-${Serial}"},
            "AttributePayload": {"serial": {"Ref": "Serial"}},
            "ThingGroups": {"Fn::Split": [",", {"Ref": "Group"}]},
        }}},
    })
}

async fn add_group(registry: &Registry) {
    let name = ThingGroupName::parse("all").unwrap();
    registry.create_thing_group(&name, None, Default::default()).await.unwrap();
}

fn lines(count: usize) -> String {
    (0..count).map(|it| format!("{{\"Serial\": \"{it}\"}}\n")).collect()
}

fn numbers(report: &[Value]) -> Vec<u64> {
    report.iter().map(|entry| entry["lineNumber"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn every_line_is_registered_or_reported() {
    let bed = Bed::new(None);
    add_group(&bed.registry).await;
    let long = format!("{{\"Serial\": \"{}\"}}", "x".repeat(LINE_BYTES_MAX));
    let text = [
        r#"{"Serial": "1"}"#,
        "",
        "{",
        r#"{"Serial": 2}"#,
        r#"["Serial"]"#,
        "{}",
        r#"{"Serial": "a b"}"#,
        r#"{"Serial": "3", "Group": "none"}"#,
        r#"{"Serial": "4", "AWS::IoT::Certificate::Id": "x"}"#,
        &long,
        "\u{fffd}",
        "  {\"Serial\": \"5\", \"Colour\": \"red\"}\r",
    ]
    .join("\n");
    let id = bed.begin(text).await;
    let task = bed.ended(&id).await;
    assert_eq!((task.status, task.percentage()), (TaskStatus::Completed, 100));
    assert_eq!((task.progress.successes, task.progress.failures), (2, 9));
    let results = bed.report(&task, Report::Results).await;
    assert_eq!(
        results[0],
        json!({"lineNumber": 1, "offset": 0, "response":
            {"resourceArns": {"thing": "arn:aws:iot:us-east-1:123456789012:thing/lamp-1"}}})
    );
    assert_eq!(numbers(&results), [1, 12]);
    let errors = bed.report(&task, Report::Errors).await;
    assert_eq!(numbers(&errors), (3..=11).collect::<Vec<_>>());
    for (entry, says) in errors.iter().zip([
        "no JSON object of texts: EOF while parsing an object at column 1",
        "invalid type: integer `2`, expected a string at column 12",
        "invalid type: sequence, expected a map",
        "parameter Serial has no value",
        "thing name has a character",
        "thing group none",
        "AWS::IoT::Certificate::Id is one that the host gives",
        "more than 65536 bytes",
        "expected value at column 1",
    ]) {
        let message = entry["errorMessage"].as_str().unwrap();
        assert!(message.contains(says), "{message:?} does not say {says:?}");
    }
    assert_eq!(errors[0]["offset"], 17);
    assert_eq!(bed.things().await, 2);
    bed.tasks.shutdown().await;
}

#[tokio::test]
async fn a_task_goes_on_behind_what_is_recorded_when_the_host_was_cut_off() {
    // The first batch is recorded; of the second neither report nor record is written.
    let bed = Bed::new(Some(1));
    add_group(&bed.registry).await;
    let id = bed.begin(lines(2_500)).await;
    bed.task(&id, |task| task.progress.successes == 1_000).await;
    while bed.things().await < 2_000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let task = bed.registry.registration_task(&id).await.unwrap();
    assert_eq!((task.status, task.progress.lines), (TaskStatus::InProgress, 1_000));
    // It had begun to write.
    let report = bed.tasks.report(&task, Report::Results).pop().unwrap();
    let end = task.progress.results.last_bytes;
    bed.objects.inner.append(&report, end, "{\"lineNum".into()).await.unwrap();
    let bed = bed.crash().await;
    bed.objects.gate.as_ref().unwrap().add_permits(100);
    let task = bed.ended(&id).await;
    assert_eq!(task.status, TaskStatus::Completed);
    assert_eq!((task.progress.successes, task.progress.failures), (2_500, 0));
    let results = bed.report(&task, Report::Results).await;
    assert_eq!(numbers(&results), (1..=2_500).collect::<Vec<_>>());
    assert_eq!(bed.things().await, 2_500);
    // What was registered before was not written again.
    let twice = ThingName::parse("lamp-1500").unwrap();
    assert_eq!(bed.registry.describe_thing(&twice).await.unwrap().version, 1);
}

#[tokio::test]
async fn a_task_that_the_host_stopped_in_goes_on_with_the_next_one() {
    let bed = Bed::new(Some(1));
    add_group(&bed.registry).await;
    let id = bed.begin(lines(3_000)).await;
    bed.task(&id, |task| task.progress.lines >= 1_000).await;
    bed.objects.gate.as_ref().unwrap().add_permits(1);
    bed.tasks.shutdown().await;
    let task = bed.registry.registration_task(&id).await.unwrap();
    assert_eq!(task.status, TaskStatus::InProgress);
    assert!(task.progress.lines < 3_000, "{task:?}");
    let (registry, clock) = registry_on(bed.store.clone());
    let provisioner = Provisioner::new(registry, Arc::new(NoHooks));
    bed.objects.gate.as_ref().unwrap().add_permits(100);
    let _tasks = Registrations::start(provisioner, bed.objects.clone(), clock);
    assert_eq!(bed.ended(&id).await.progress.successes, 3_000);
}

#[tokio::test]
async fn a_task_is_stopped_between_lines() {
    let bed = Bed::new(Some(1));
    add_group(&bed.registry).await;
    let id = bed.begin(lines(5_000)).await;
    bed.task(&id, |task| task.progress.lines == 1_000).await;
    bed.tasks.stop(&id).await.unwrap();
    bed.tasks.stop(&id).await.unwrap();
    assert_eq!(bed.task(&id, |_| true).await.status, TaskStatus::Cancelling);
    let other = bed.input("{}").await;
    let refused = bed.tasks.begin(other, "role".into()).await.unwrap_err().to_string();
    assert!(refused.contains("one task at a time"), "{refused}");
    bed.objects.gate.as_ref().unwrap().add_permits(100);
    let task = bed.ended(&id).await;
    assert_eq!((task.status, task.progress.lines), (TaskStatus::Cancelled, 2_000));
    assert_eq!(task.percentage(), 39);
    bed.tasks.stop(&id).await.unwrap();
    assert_eq!(bed.things().await, 2_000);
    // What it has done is reported, and another one may begin.
    assert_eq!(bed.report(&task, Report::Results).await.len(), 2_000);
    let next = bed.begin(lines(1)).await;
    assert_eq!(bed.ended(&next).await.status, TaskStatus::Completed);
    let refused = bed.tasks.stop(&next).await.unwrap_err().to_string();
    assert!(refused.contains("it is Completed"), "{refused}");
    assert!(next > id, "ids grow, so that lists are in order");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_waited_for_and_fails_no_line() {
    let bed = Bed::new(None);
    add_group(&bed.registry).await;
    let id = bed.begin(lines(20)).await;
    // The task is found; then nothing can be read or written for a while.
    bed.store.fail_next([None, None]);
    bed.store.fail_next([Some(Fault::Refused); 30]);
    bed.store.fail_next([Some(Fault::AnswerLost); 30]);
    let task = bed.ended(&id).await;
    assert_eq!((task.progress.successes, task.progress.failures), (20, 0));
    assert_eq!(bed.things().await, 20);
    assert_eq!(bed.report(&task, Report::Results).await.len(), 20);
}

#[tokio::test]
async fn an_object_that_changes_ends_the_task() {
    let bed = Bed::new(Some(1));
    add_group(&bed.registry).await;
    let id = bed.begin(lines(30_000)).await;
    bed.task(&id, |task| task.progress.lines == 1_000).await;
    let name = ObjectName::parse("imports", "lamps/a.ndjson").unwrap();
    let refused = bed.tasks.put_object(&name, "{}".into()).await.unwrap_err().to_string();
    assert!(refused.contains("stop it first"), "{refused}");
    assert!(bed.tasks.delete_object(&name).await.is_err());
    // With the help of who has the files.
    bed.objects.put(&name, "{}".into()).await.unwrap();
    bed.objects.gate.as_ref().unwrap().add_permits(100);
    let task = bed.ended(&id).await;
    assert_eq!(task.status, TaskStatus::Failed);
    assert!(task.message.as_ref().unwrap().contains("was changed"), "{task:?}");
    // Whatever was done before is counted.
    assert_eq!(bed.things().await as u64, task.progress.successes);
    bed.tasks.delete_object(&name).await.unwrap();
    assert!(bed.tasks.delete_object(&name).await.is_err());
}

#[tokio::test]
async fn a_trial_says_what_would_fail_and_changes_nothing() {
    let bed = Bed::new(None);
    add_group(&bed.registry).await;
    let first = bed.begin(r#"{"Serial": "7"}"#).await;
    bed.ended(&first).await;
    let mut text = lines(6_000);
    text.push_str("{}\n{\"Serial\": \"7\", \"Group\": \"none\"}\n");
    text.push_str(&"{\"Serial\": \"a b\"}\n".repeat(150));
    let mut input = bed.input(text).await;
    let before = bed.records().await;
    let checked = bed.tasks.check(&input, Place::default()).await.unwrap();
    assert_eq!((checked.valid, checked.invalid), (CHECK_LINES_MAX, 0));
    let rest = bed.tasks.check(&input, checked.place).await.unwrap();
    assert_eq!((rest.valid, rest.invalid, rest.problems.len()), (1_000, 152, PROBLEMS_MAX));
    assert_eq!((rest.place.offset, rest.problems[0].line), (rest.size, 6_001));
    assert_eq!(rest.problems[0].message, "parameter Serial has no value");
    assert!(rest.problems[1].message.contains("thing group none"), "{:?}", rest.problems[1]);
    // Overrides, policies and certificates are looked at as well.
    for (resource, says) in [
        (
            (
                "thing",
                json!({"Type": "AWS::IoT::Thing", "Properties": {
            "ThingName": "lamp-7", "AttributePayload": {"serial": "8"}},
            "OverrideSettings": {"AttributePayload": "FAIL"}}),
            ),
            Some("has other attributes"),
        ),
        (
            (
                "certificate",
                json!({"Type": "AWS::IoT::Certificate", "Properties":
            {"CertificatePem": "x"}}),
            ),
            Some("is no PEM block"),
        ),
        (
            (
                "certificate",
                json!({"Type": "AWS::IoT::Certificate", "Properties":
            {"CertificatePem": "x", "CACertificatePem": "y"}}),
            ),
            Some("is no PEM block"),
        ),
        (
            (
                "certificate",
                json!({"Type": "AWS::IoT::Certificate", "Properties":
            {"CertificateSigningRequest": "x"}}),
            ),
            Some("no request"),
        ),
        (
            (
                "certificate",
                json!({"Type": "AWS::IoT::Certificate", "Properties":
            {"CertificateSigningRequest": "CSR"}}),
            ),
            None,
        ),
        (
            (
                "certificate",
                json!({"Type": "AWS::IoT::Certificate", "Properties":
            {"CertificateId": "a".repeat(64)}}),
            ),
            Some("certificate aaaa"),
        ),
    ] {
        let (name, resource) = resource;
        let mut changed = template();
        changed["Resources"][name] = resource;
        input = bed.input(r#"{"Serial": "7"}"#).await;
        input.template = changed.to_string();
        let checked = bed.tasks.check(&input, Place::default()).await.unwrap();
        let message = checked.problems.first().map(|problem| problem.message.clone());
        match says {
            Some(says) => assert!(message.as_ref().unwrap().contains(says), "{message:?} {says}"),
            None => assert_eq!(message, None),
        }
    }
    assert_eq!(bed.records().await, before);
}

#[tokio::test]
async fn what_cannot_begin_is_refused_with_the_reason() {
    let bed = Bed::new(None);
    let good = bed.input("{}").await;
    let empty = ObjectName::parse("imports", "empty").unwrap();
    bed.objects.put(&empty, Bytes::new()).await.unwrap();
    let long = ObjectName::parse("imports", &"x".repeat(220)).unwrap();
    bed.objects.put(&long, "{}".into()).await.unwrap();
    let none = ObjectName::parse("imports", "none").unwrap();
    let with = |object| Input { object, ..good.clone() };
    for (input, role, says) in [
        (good.clone(), String::new(), "roleArn"),
        (good.clone(), "x".repeat(2_049), "roleArn"),
        (Input { template: "{".into(), ..good.clone() }, "role".into(), "templateBody: EOF"),
        (with(none), "role".into(), "there is no object imports/none"),
        (with(empty), "role".into(), "object imports/empty is empty"),
        (with(long), "role".into(), "the reports need a longer key"),
    ] {
        let refused = bed.tasks.begin(input, role).await.unwrap_err();
        assert!(matches!(refused, BulkError::Invalid(_)), "{refused:?}");
        assert!(refused.to_string().contains(says), "{refused} does not say {says:?}");
    }
    let behind = Place { offset: 3, lines: 0 };
    assert!(bed.tasks.check(&good, behind).await.is_err());
    assert!(bed.records().await.is_empty());
}

#[tokio::test]
async fn reports_are_parts_and_old_tasks_go_with_them() {
    let bed = Bed::new(None);
    let lines = "{\"Serial\": \"\"}\n".repeat(60_000);
    let first = bed.begin(lines).await;
    let task = bed.ended(&first).await;
    assert_eq!(task.progress.failures, 60_000);
    let parts = bed.tasks.report(&task, Report::Errors);
    assert_eq!(parts.len(), task.progress.errors.parts as usize);
    assert!(parts.len() > 1, "{parts:?}");
    assert!(parts[0].key().ends_with(&format!("{first}.errors.1")));
    assert!(bed.tasks.object(&parts[0], 1_000).await.is_err());
    assert_eq!(bed.report(&task, Report::Errors).await.len(), 60_000);
    for _ in 0..TASKS_MAX - 1 {
        let id = bed.begin("{}").await;
        bed.ended(&id).await;
    }
    assert!(bed.registry.registration_task(&first).await.is_ok());
    bed.begin("{}").await;
    assert!(bed.registry.registration_task(&first).await.is_err());
    let gone = bed.objects.read(&parts[0], 0, 1).await.unwrap_err();
    assert_eq!(gone, ObjectError::NotFound(parts[0].clone()));
}

/// `cargo test --release -p gnomon-core --lib bulk_lines_per_second -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn bulk_lines_per_second() {
    let bed = Bed::new(None);
    add_group(&bed.registry).await;
    let count = 100_000;
    let input = bed.input(lines(count)).await;
    let start = SystemClock.now();
    let mut place = Place::default();
    while place.offset < lines(count).len() as u64 {
        place = bed.tasks.check(&input, place).await.unwrap().place;
    }
    let checked = SystemClock.now() - start;
    let start = SystemClock.now();
    let id = bed.tasks.begin(input, "role".into()).await.unwrap();
    bed.ended(&id).await;
    let registered = SystemClock.now() - start;
    let rate = |time: Duration| count as f64 / time.as_secs_f64();
    println!("{:.0} lines/s tried out, {:.0} registered", rate(checked), rate(registered));
}
