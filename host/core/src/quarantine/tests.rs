//! Who comes into quarantine, when, and how they come out.

use super::table::OFFENDERS_MAX;
use super::*;
use crate::broker::queue::QueueBounds;
use crate::broker::{Delivery, Inbox, Receiver};
use crate::ids::{CertificateId, ThingGroupName};
use crate::packet::SubscribeOptions;
use crate::random::SeededRandom;
use crate::registry::tests::registry_on;
use crate::registry::{Attributes, PageRequest, QUARANTINE_GROUP, ThingGroupProperties};
use crate::storage::MemoryStore;
use crate::time::ManualClock;
use crate::topic::TopicFilter;
use serde_json::{Value, json};

const NOW_MS: u64 = 1_768_435_200_000;
const ALL: PageRequest<'static> = PageRequest { limit: 250, after: None };

#[derive(Default)]
struct Heard(Mutex<Vec<(String, Value)>>);

impl Inbox for Heard {
    fn deliver(&self, delivery: Delivery, _: &mut Wakes) {
        let Message { topic, payload, .. } = &*delivery.message;
        let mut event: Value = serde_json::from_slice(payload).unwrap();
        assert!(event.as_object_mut().unwrap().remove("eventId").is_some());
        self.0.lock().unwrap().push((topic.as_str().to_owned(), event));
    }
}

struct Bed {
    registry: Registry,
    clock: Arc<ManualClock>,
    quarantine: Arc<Quarantine>,
    worker: Worker,
    heard: Arc<Heard>,
    _receiver: Receiver,
}

impl Bed {
    fn new(config: QuarantineConfig) -> Self {
        Self::on(Arc::default(), config)
    }

    fn on(store: Arc<MemoryStore>, config: QuarantineConfig) -> Self {
        let (registry, clock) = registry_on(store);
        let broker = Broker::in_memory();
        let bounds = QueueBounds { messages_max: 10, bytes_max: 1_024 };
        let ports = Ports {
            registry: registry.clone(),
            broker: broker.clone(),
            clients: Clients::new(broker.clone(), bounds, 10, Arc::default()),
            clock: clock.clone(),
            random: Arc::new(SeededRandom::new(1)),
            metrics: Arc::default(),
        };
        let (quarantine, worker) = Quarantine::new(config, ports);
        let heard = Arc::new(Heard::default());
        let receiver = broker.register(heard.clone());
        let filter = TopicFilter::parse("$gnomon/events/#").unwrap();
        receiver.subscribe(&filter, SubscribeOptions::default(), None);
        Self { registry, clock, quarantine, worker, heard, _receiver: receiver }
    }

    /// An active certificate, and the thing that it is attached to.
    async fn device(&self, name: &str) -> CertificateId {
        let issued = self.registry.create_keys_and_certificate(true).await.unwrap();
        let thing = ThingName::parse(name).unwrap();
        self.registry.create_thing(&thing, None, Attributes::default()).await.unwrap();
        let id = issued.certificate.id;
        self.registry.attach_thing_principal(&thing, &id).await.unwrap();
        id
    }

    fn offend(&self, offender: &Offender, kind: OffenceKind, times: u32) {
        for _ in 0..times {
            self.quarantine.offended(Now::of(&*self.clock), offence(offender, kind));
        }
    }

    /// What the worker does; how many it put into quarantine.
    async fn work(&mut self) -> usize {
        let mut entered = 0;
        while let Ok(entry) = self.worker.offenders.try_recv() {
            entered += usize::from(self.quarantine.enter(&entry).await.unwrap());
        }
        entered
    }

    fn heard(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.heard.0.lock().unwrap())
    }
}

fn enabled() -> QuarantineConfig {
    QuarantineConfig { enabled: true, offences: 3, ..QuarantineConfig::default() }
}

fn thing(name: &str) -> Offender {
    Offender::parse(&format!("thing:{name}")).unwrap()
}

fn principal(id: &str) -> Offender {
    Offender::parse(&format!("principal:{id}")).unwrap()
}

fn offence(offender: &Offender, kind: OffenceKind) -> Offence {
    Offence {
        offender: offender.clone(),
        client_id: ClientId::parse("c").unwrap(),
        principal: Principal::new("p1"),
        kind,
        what: "what it did".into(),
    }
}

#[tokio::test]
async fn so_many_offences_of_any_kind_within_the_window_are_too_many() {
    let mut bed = Bed::new(enabled());
    let kinds = [OffenceKind::Malformed, OffenceKind::Schema, OffenceKind::Limits];
    for kind in kinds {
        bed.offend(&principal(kind.as_str()), kind, 2);
        assert_eq!(bed.work().await, 0, "{kind:?}");
        bed.offend(&principal(kind.as_str()), kind, 1);
        assert_eq!(bed.work().await, 1, "{kind:?}");
    }
    // Together as well.
    kinds.iter().for_each(|kind| bed.offend(&principal("all"), *kind, 1));
    assert_eq!(bed.work().await, 1);
    assert_eq!(bed.quarantine.ports.metrics.quarantine_offences.get(), 12);
    assert_eq!(bed.quarantine.ports.metrics.quarantine_entered.get(), 4);
    // An offence is forgotten when the window has passed it, not when it has passed the first.
    for _ in 0..10 {
        bed.offend(&principal("slow"), OffenceKind::Limits, 1);
        bed.clock.advance(Duration::from_secs(31));
    }
    assert_eq!(bed.work().await, 0);
    bed.offend(&principal("slow"), OffenceKind::Limits, 2);
    assert_eq!(bed.work().await, 1);
}

#[tokio::test]
async fn only_what_is_configured_counts() {
    for (config, kind) in [
        (QuarantineConfig { enabled: false, ..enabled() }, OffenceKind::Malformed),
        (QuarantineConfig { malformed: false, ..enabled() }, OffenceKind::Malformed),
        (QuarantineConfig { schema: false, ..enabled() }, OffenceKind::Schema),
        (QuarantineConfig { limits: false, ..enabled() }, OffenceKind::Limits),
    ] {
        let mut bed = Bed::new(config);
        bed.offend(&principal("p1"), kind, 10);
        assert_eq!(bed.work().await, 0, "{kind:?}");
    }
    assert!(!QuarantineConfig::default().enabled);
    for (bad, says) in [
        (json!({"offences": 0}), "1 to 100"),
        (json!({"offences": 101}), "1 to 100"),
        (json!({"window": 1}), "unknown field `window`"),
    ] {
        let error = serde_json::from_value::<QuarantineConfig>(bad).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn the_table_forgets_the_oldest_and_stays_within_its_bound() {
    let mut table = Table::default();
    let clock = ManualClock::new(crate::time::Timestamp::default());
    let window = Duration::from_secs(60);
    let mut note = |id: usize| {
        let offender = Offender::Principal(Principal::new(&id.to_string()));
        (table.note(&offender, clock.now(), window, 2), table.len())
    };
    for id in 0..3 * OFFENDERS_MAX / 2 {
        let (is_too_many, len) = note(id);
        assert!(!is_too_many && len <= OFFENDERS_MAX, "{id}: {len}");
    }
    assert!(note(3 * OFFENDERS_MAX / 2 - 1).0);
    assert!(!note(0).0);
    // Nothing is kept of who was quiet for two windows.
    clock.advance(2 * window);
    note(1);
    clock.advance(2 * window);
    assert_eq!(note(2).1, 2);
}

#[tokio::test]
async fn a_thing_comes_into_the_group_and_out_again_with_an_event_and_a_reason() {
    let mut bed = Bed::new(enabled());
    bed.device("pump").await;
    let pump = thing("pump");
    bed.offend(&pump, OffenceKind::Malformed, 3);
    // More than one word for it is none too many.
    bed.offend(&pump, OffenceKind::Malformed, 3);
    assert_eq!(bed.work().await, 1);
    let group = ThingGroupName::parse(QUARANTINE_GROUP).unwrap();
    let members = async || bed.registry.list_things_in_group(&group, false, ALL).await.unwrap();
    assert_eq!(members().await.items, [ThingName::parse("pump").unwrap()]);
    let entry = bed.registry.quarantine_entry(&pump).await.unwrap();
    let listed = bed.registry.list_quarantine(ALL).await.unwrap().items;
    assert_eq!(listed, std::slice::from_ref(&entry));
    assert_eq!((entry.kind, entry.count), (OffenceKind::Malformed, 3));
    assert_eq!((&*entry.reason, entry.since.as_millis()), ("what it did", NOW_MS));
    let event = |operation: &str| {
        json!({
            "eventType": "QUARANTINE_EVENT",
            "timestamp": NOW_MS,
            "operation": operation,
            "id": "thing:pump",
            "thingName": "pump",
            "clientId": "c",
            "principal": "p1",
            "kind": "malformed",
            "reason": "what it did",
            "count": 3,
            "since": NOW_MS,
        })
    };
    let topic = |level: &str| format!("$gnomon/events/quarantine/thing:pump/{level}");
    assert_eq!(bed.heard(), [(topic("entered"), event("ENTERED"))]);

    bed.offend(&pump, OffenceKind::Malformed, 2);
    bed.quarantine.lift(&pump).await.unwrap();
    assert_eq!(bed.heard(), [(topic("lifted"), event("LIFTED"))]);
    assert_eq!(members().await.items, []);
    assert_eq!(bed.registry.list_quarantine(ALL).await.unwrap().items, []);
    let error = bed.quarantine.lift(&pump).await.unwrap_err();
    assert!(matches!(error, RegistryError::ResourceNotFound(_)), "{error:?}");
    // Its offences are forgotten.
    bed.offend(&pump, OffenceKind::Malformed, 2);
    assert_eq!(bed.work().await, 0);
    // Whoever takes it out of the group lifts it as well.
    bed.offend(&pump, OffenceKind::Malformed, 1);
    assert_eq!(bed.work().await, 1);
    let name = ThingName::parse("pump").unwrap();
    bed.registry.remove_thing_from_group(&name, &group).await.unwrap();
    assert_eq!(bed.registry.list_quarantine(ALL).await.unwrap().items, []);
    bed.offend(&pump, OffenceKind::Malformed, 3);
    assert_eq!(bed.work().await, 1);
}

#[tokio::test]
async fn what_is_in_quarantine_stays_there_over_a_restart() {
    let store = Arc::<MemoryStore>::default();
    let mut bed = Bed::on(store.clone(), enabled());
    let certificate = bed.device("pump").await;
    let offenders = [principal("user1"), thing("pump"), principal(certificate.as_str())];
    for offender in &offenders {
        bed.offend(offender, OffenceKind::Limits, 3);
    }
    assert_eq!(bed.work().await, 3);
    let mut bed = Bed::on(store, enabled());
    let listed = bed.registry.list_quarantine(ALL).await.unwrap().items;
    assert_eq!(listed.len(), 3);
    for offender in &offenders {
        assert!(bed.registry.is_in_quarantine(offender).await.unwrap(), "{offender}");
        bed.offend(offender, OffenceKind::Limits, 3);
    }
    // Nobody comes in twice.
    assert_eq!(bed.work().await, 0);
    // Page by page.
    let mut after = None;
    for entry in &listed {
        let page = PageRequest { limit: 1, after: after.as_deref() };
        let page = bed.registry.list_quarantine(page).await.unwrap();
        assert_eq!(page.items, std::slice::from_ref(entry));
        after = page.next;
    }
    assert_eq!(after, None);
}

#[tokio::test]
async fn a_thing_that_is_in_all_groups_it_may_be_in_does_not_escape() {
    let mut bed = Bed::new(enabled());
    bed.device("pump").await;
    let name = ThingName::parse("pump").unwrap();
    let group = |number: u32| ThingGroupName::parse(&format!("g{number}")).unwrap();
    for number in 0..11 {
        let properties = ThingGroupProperties::default();
        bed.registry.create_thing_group(&group(number), None, properties).await.unwrap();
    }
    for number in 0..9 {
        bed.registry.add_thing_to_group(&name, &group(number)).await.unwrap();
    }
    bed.offend(&thing("pump"), OffenceKind::Schema, 3);
    assert_eq!(bed.work().await, 1);
    // And the quarantine takes nobody's place.
    bed.registry.add_thing_to_group(&name, &group(9)).await.unwrap();
    bed.quarantine.lift(&thing("pump")).await.unwrap();
    assert!(bed.registry.add_thing_to_group(&name, &group(10)).await.is_err());
    bed.offend(&thing("pump"), OffenceKind::Schema, 3);
    assert_eq!(bed.work().await, 1);
}

#[tokio::test]
async fn an_operator_decides_too_and_must_name_somebody() {
    let bed = Bed::new(QuarantineConfig::default());
    bed.device("pump").await;
    assert!(bed.quarantine.impose(&thing("pump"), "recalled".into()).await.unwrap());
    assert!(!bed.quarantine.impose(&thing("pump"), "again".into()).await.unwrap());
    let entry = bed.registry.quarantine_entry(&thing("pump")).await.unwrap();
    assert_eq!((entry.kind, &*entry.reason), (OffenceKind::Operator, "recalled"));
    let nobody = principal(&"0".repeat(64));
    for (offender, reason, variant) in [
        (thing("none"), String::new(), "ResourceNotFound"),
        (nobody, String::new(), "ResourceNotFound"),
        (principal("user1"), "x".repeat(1_025), "InvalidRequest"),
    ] {
        let error = bed.quarantine.impose(&offender, reason).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(variant), "{offender}: {error:?}");
    }
    for id in ["pump", "thing:", "thing:a b", "principal:", "principal:a/b", "other:x", ""] {
        assert!(Offender::parse(id).is_err(), "{id}");
    }
    assert!(Offender::parse(&format!("principal:{}", "x".repeat(129))).is_err());
}

#[tokio::test]
async fn offenders_beyond_the_queue_go_free_and_are_counted_anew() {
    let mut bed = Bed::new(QuarantineConfig { offences: 1, ..enabled() });
    for number in 0..=QUEUE_MAX {
        bed.offend(&principal(&format!("p{number}")), OffenceKind::Limits, 1);
    }
    assert_eq!(bed.work().await, QUEUE_MAX);
    bed.offend(&principal(&format!("p{QUEUE_MAX}")), OffenceKind::Limits, 1);
    assert_eq!(bed.work().await, 1);
}
