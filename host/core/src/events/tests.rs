//! What the registry's operations publish.

use super::*;
use crate::broker::{Delivery, Inbox, Receiver};
use crate::ids::{CertificateId, PolicyName, ThingGroupName};
use crate::packet::SubscribeOptions;
use crate::random::SeededRandom;
use crate::registry::tests::registry_on;
use crate::registry::{
    Attributes, CertificateStatus, ThingGroupProperties, ThingTypeProperties, ThingUpdate,
};
use crate::storage::MemoryStore;
use crate::time::ManualClock;
use crate::topic::TopicFilter;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

const NOW_MS: u64 = 1_768_435_200_000;
const DOCUMENT: &str = r#"{"Version":"2012-10-17",
    "Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}"#;

#[derive(Default)]
struct Heard(Mutex<Vec<Arc<Message>>>);

impl Inbox for Heard {
    fn deliver(&self, delivery: Delivery, _: &mut Wakes) {
        self.0.lock().unwrap().push(delivery.message);
    }
}

/// A registry, and who has subscribed to all its events.
struct Bed {
    registry: Registry,
    clock: Arc<ManualClock>,
    events: Arc<Events>,
    heard: Arc<Heard>,
    _receiver: Receiver,
}

impl Bed {
    async fn new() -> Self {
        Self::on(Arc::default()).await
    }

    async fn on(store: Arc<MemoryStore>) -> Self {
        let (registry, clock) = registry_on(store);
        let (broker, random) = (Broker::in_memory(), Arc::new(SeededRandom::new(1)));
        let events = Events::start(&registry, broker.clone(), clock.clone(), random).await;
        let heard = Arc::new(Heard::default());
        let receiver = broker.register(heard.clone());
        let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
        receiver.subscribe(&TopicFilter::parse("$aws/events/#").unwrap(), options, None);
        Self { registry, clock, events: events.unwrap(), heard, _receiver: receiver }
    }

    async fn enable(&self, classes: &[EventClass]) {
        let changes: BTreeMap<_, _> = classes.iter().map(|class| (*class, true)).collect();
        self.registry.update_event_configurations(&changes).await.unwrap();
    }

    /// What has been heard since the last time; event ids are checked and left out.
    fn heard(&self) -> Vec<(String, Value)> {
        let mut ids = BTreeMap::new();
        let heard = std::mem::take(&mut *self.heard.0.lock().unwrap());
        let event = |message: Arc<Message>| {
            assert_eq!((message.qos, message.retain), (QoS::AtLeastOnce, false));
            let mut payload: Value = serde_json::from_slice(&message.payload).unwrap();
            let id = payload.as_object_mut().unwrap().remove("eventId").unwrap();
            assert_eq!(id.as_str().unwrap().len(), 36);
            assert_eq!(ids.insert(id.to_string(), ()), None, "used twice");
            (message.topic.as_str().strip_prefix("$aws/events/").unwrap().to_owned(), payload)
        };
        heard.into_iter().map(event).collect()
    }

    #[track_caller]
    fn check(&self, expected: Vec<(&str, Value)>) {
        let expected: Vec<_> =
            expected.into_iter().map(|(topic, event)| (topic.to_owned(), event)).collect();
        assert_eq!(self.heard(), expected);
    }

    #[track_caller]
    fn check_topics(&self, expected: &[&str]) {
        let topics: Vec<_> = self.heard().into_iter().map(|(topic, _)| topic).collect();
        assert_eq!(topics, expected);
    }

    async fn thing(&self, name: &str) -> Thing {
        let name = ThingName::parse(name).unwrap();
        self.registry.create_thing(&name, None, Attributes::default()).await.unwrap()
    }

    async fn group(&self, name: &str, parent: Option<&str>) -> ThingGroup {
        let (name, parent) = (group_name(name), parent.map(group_name));
        let properties = ThingGroupProperties::default();
        self.registry.create_thing_group(&name, parent, properties).await.unwrap()
    }
}

/// What an event says, with what all events say.
fn event(event_type: &str, operation: &str, of: Value) -> Value {
    let mut event = json!({
        "eventType": event_type,
        "timestamp": NOW_MS,
        "operation": operation,
        "accountId": "123456789012",
    });
    let Value::Object(of) = of else { panic!("events say objects") };
    event.as_object_mut().unwrap().extend(of);
    event
}

fn group_name(name: &str) -> ThingGroupName {
    ThingGroupName::parse(name).unwrap()
}

fn attributes(name: &str, value: &str) -> Attributes {
    Attributes::parse([(name.to_owned(), value.to_owned())]).unwrap()
}

#[tokio::test]
async fn a_thing_tells_its_life_in_order() {
    let bed = Bed::new().await;
    bed.enable(&[EventClass::Thing, EventClass::ThingTypeAssociation]).await;
    let (lamp, kind) = (ThingName::parse("Lamp").unwrap(), ThingTypeName::parse("Kind").unwrap());
    bed.registry.create_thing_type(&kind, ThingTypeProperties::default()).await.unwrap();
    let mut id = String::new();
    for _ in 0..2 {
        let made = bed.registry.create_thing(&lamp, Some(kind.clone()), attributes("a", "1")).await;
        id = made.unwrap().id;
    }
    let said = |operation: &str, version: u64, of_type: Option<&str>, attributes: Value| {
        event(
            "THING_EVENT",
            operation,
            json!({
                "thingId": id,
                "thingName": "Lamp",
                "versionNumber": version,
                "thingTypeName": of_type,
                "attributes": attributes,
            }),
        )
    };
    let association = |operation: &str| {
        let of = json!({"thingId": id, "thingName": "Lamp", "thingTypeName": "Kind"});
        event("THING_TYPE_ASSOCIATION_EVENT", operation, of)
    };
    let (added, removed) = (
        "thingTypeAssociation/thing/Lamp/thingType/Kind/added",
        "thingTypeAssociation/thing/Lamp/thingType/Kind/removed",
    );
    bed.check(vec![
        ("thing/Lamp/created", said("CREATED", 1, Some("Kind"), json!({"a": "1"}))),
        (added, association("ADDED")),
    ]);
    let merge =
        ThingUpdate { attributes: Some(attributes("b", "2")), merge: true, ..Default::default() };
    bed.registry.update_thing(&lamp, &merge).await.unwrap();
    let untype = ThingUpdate { remove_type: true, ..Default::default() };
    bed.registry.update_thing(&lamp, &untype).await.unwrap();
    let both = json!({"a": "1", "b": "2"});
    bed.check(vec![
        ("thing/Lamp/updated", said("UPDATED", 2, Some("Kind"), both.clone())),
        ("thing/Lamp/updated", said("UPDATED", 3, None, both.clone())),
        (removed, association("REMOVED")),
    ]);
    bed.registry
        .update_thing(&lamp, &ThingUpdate { type_name: Some(kind), ..Default::default() })
        .await
        .unwrap();
    bed.check_topics(&["thing/Lamp/updated", added]);
    for _ in 0..2 {
        bed.registry.delete_thing(&lamp, None).await.unwrap();
    }
    bed.check(vec![
        (removed, association("REMOVED")),
        ("thing/Lamp/deleted", said("DELETED", 4, Some("Kind"), both)),
    ]);
    // Refused changes are none.
    assert!(bed.registry.update_thing(&lamp, &merge).await.is_err());
    bed.check(Vec::new());
}

#[tokio::test]
async fn a_thing_type_tells_its_life() {
    let bed = Bed::new().await;
    bed.enable(&[EventClass::ThingType]).await;
    let kind = ThingTypeName::parse("Kind").unwrap();
    let properties = ThingTypeProperties::new(Some("light".into()), vec!["watts".into()]).unwrap();
    let made = bed.registry.create_thing_type(&kind, properties.clone()).await.unwrap();
    bed.registry.create_thing_type(&kind, properties).await.unwrap();
    for undo in [false, false, true, true, false] {
        bed.registry.deprecate_thing_type(&kind, undo).await.unwrap();
    }
    let said = |operation: &str, deprecated: Option<u64>| {
        event(
            "THING_TYPE_EVENT",
            operation,
            json!({
                "thingTypeId": made.id,
                "thingTypeName": "Kind",
                "isDeprecated": deprecated.is_some(),
                "deprecationDate": deprecated,
                "searchableAttributes": ["watts"],
                "description": "light",
            }),
        )
    };
    bed.check(vec![
        ("thingType/Kind/created", said("CREATED", None)),
        ("thingType/Kind/updated", said("UPDATED", Some(NOW_MS))),
        ("thingType/Kind/updated", said("UPDATED", None)),
        ("thingType/Kind/updated", said("UPDATED", Some(NOW_MS))),
    ]);
    bed.clock.advance(Duration::from_secs(3_600));
    bed.registry.delete_thing_type(&kind).await.unwrap();
    let mut deleted = said("DELETED", Some(NOW_MS));
    deleted["timestamp"] = (NOW_MS + 3_600_000).into();
    bed.check(vec![("thingType/Kind/deleted", deleted)]);
}

#[tokio::test]
async fn a_group_tells_its_life_and_its_place() {
    let bed = Bed::new().await;
    bed.enable(&[EventClass::ThingGroup, EventClass::ThingGroupHierarchy]).await;
    let site = bed.group("site", None).await;
    let hall = bed.group("hall", Some("site")).await;
    bed.group("hall", Some("site")).await;
    let arn = "arn:aws:iot:us-east-1:123456789012:thinggroup/site";
    let said = |operation: &str, version: u64, description: Option<&str>, attributes: Value| {
        event(
            "THING_GROUP_EVENT",
            operation,
            json!({
                "thingGroupId": hall.id,
                "thingGroupName": "hall",
                "versionNumber": version,
                "parentGroupName": "site",
                "parentGroupId": site.id,
                "description": description,
                "rootToParentThingGroups": [{"groupArn": arn, "groupId": site.id}],
                "attributes": attributes,
                "dynamicGroupMappingId": null,
            }),
        )
    };
    let place = |operation: &str| {
        let of = json!({
            "thingGroupId": site.id,
            "thingGroupName": "site",
            "childGroupId": hall.id,
            "childGroupName": "hall",
        });
        event("THING_GROUP_HIERARCHY_EVENT", operation, of)
    };
    let root = json!({
        "thingGroupId": site.id,
        "thingGroupName": "site",
        "versionNumber": 1,
        "parentGroupName": null,
        "parentGroupId": null,
        "description": null,
        "rootToParentThingGroups": [],
        "attributes": {},
        "dynamicGroupMappingId": null,
    });
    bed.check(vec![
        ("thingGroup/site/created", event("THING_GROUP_EVENT", "CREATED", root)),
        ("thingGroup/hall/created", said("CREATED", 1, None, json!({}))),
        ("thingGroupHierarchy/thingGroup/site/childThingGroup/hall/added", place("ADDED")),
    ]);
    let more = ThingGroupProperties {
        description: Some("more".into()),
        attributes: attributes("floor", "1"),
    };
    bed.registry.update_thing_group(&hall.name, &more, false, None).await.unwrap();
    // Neither changes the group's version.
    let policy = PolicyName::parse("P").unwrap();
    bed.registry.create_policy(&policy, DOCUMENT).await.unwrap();
    bed.registry.attach_group_policy(&policy, &hall.name).await.unwrap();
    bed.registry.detach_group_policy(&policy, &hall.name).await.unwrap();
    for _ in 0..2 {
        bed.registry.delete_thing_group(&hall.name, None).await.unwrap();
    }
    let floor = json!({"floor": "1"});
    bed.check(vec![
        ("thingGroup/hall/updated", said("UPDATED", 2, Some("more"), floor.clone())),
        ("thingGroupHierarchy/thingGroup/site/childThingGroup/hall/removed", place("REMOVED")),
        ("thingGroup/hall/deleted", said("DELETED", 2, Some("more"), floor)),
    ]);
}

#[tokio::test]
async fn who_joins_and_leaves_a_group_is_told() {
    let bed = Bed::new().await;
    bed.enable(&[EventClass::Thing, EventClass::ThingGroup, EventClass::ThingGroupMembership])
        .await;
    let (group, lamp, fan) =
        (bed.group("hall", None).await, bed.thing("Lamp").await, bed.thing("Fan").await);
    bed.heard();
    for _ in 0..2 {
        bed.registry.add_thing_to_group(&lamp.name, &group.name).await.unwrap();
    }
    for _ in 0..2 {
        bed.registry.remove_thing_from_group(&lamp.name, &group.name).await.unwrap();
    }
    let said = |operation: &str| {
        event(
            "THING_GROUP_MEMBERSHIP_EVENT",
            operation,
            json!({
                "groupArn": "arn:aws:iot:us-east-1:123456789012:thinggroup/hall",
                "groupId": group.id,
                "thingArn": "arn:aws:iot:us-east-1:123456789012:thing/Lamp",
                "thingId": lamp.id,
                "membershipId": payload::membership_id(&group.id, &lamp.id),
            }),
        )
    };
    bed.check(vec![
        ("thingGroupMembership/thingGroup/hall/thing/Lamp/added", said("ADDED")),
        ("thingGroupMembership/thingGroup/hall/thing/Lamp/removed", said("REMOVED")),
    ]);
    for thing in [&lamp, &fan] {
        bed.registry.add_thing_to_group(&thing.name, &group.name).await.unwrap();
    }
    bed.heard();
    bed.registry.delete_thing(&fan.name, None).await.unwrap();
    bed.check_topics(&[
        "thingGroupMembership/thingGroup/hall/thing/Fan/removed",
        "thing/Fan/deleted",
    ]);
    bed.registry.delete_thing_group(&group.name, None).await.unwrap();
    let heard = bed.heard();
    assert_eq!(heard[0].0, "thingGroup/hall/deleted");
    let removed = "thingGroupMembership/thingGroup/hall/thing/Lamp/removed";
    assert_eq!(heard[1..], [(removed.to_owned(), said("REMOVED"))]);
}

#[tokio::test]
async fn policies_and_certificates_tell_their_lives() {
    let bed = Bed::new().await;
    bed.enable(&[EventClass::Policy, EventClass::Certificate]).await;
    // A topic must not have the plus.
    let name = PolicyName::parse("a+b").unwrap();
    bed.registry.create_policy(&name, DOCUMENT).await.unwrap();
    assert!(bed.registry.create_policy(&name, DOCUMENT).await.is_err());
    bed.registry.create_policy_version(&name, DOCUMENT, false).await.unwrap();
    for _ in 0..2 {
        bed.registry.set_default_policy_version(&name, 2).await.unwrap();
    }
    bed.registry.delete_policy_version(&name, 1).await.unwrap();
    bed.registry.delete_policy(&name).await.unwrap();
    let said = |operation: &str, version: &str| {
        let arn = "arn:aws:iot:us-east-1:123456789012:policy/a+b";
        let of = json!({"policyName": "a+b", "policyArn": arn, "defaultVersionId": version});
        event("POLICY_EVENT", operation, of)
    };
    bed.check(vec![
        ("policy/a%2Bb/created", said("CREATED", "1")),
        ("policy/a%2Bb/updated", said("UPDATED", "1")),
        ("policy/a%2Bb/updated", said("UPDATED", "2")),
        ("policy/a%2Bb/updated", said("UPDATED", "2")),
        ("policy/a%2Bb/deleted", said("DELETED", "2")),
    ]);
    let id: CertificateId =
        bed.registry.create_keys_and_certificate(true).await.unwrap().certificate.id;
    for _ in 0..2 {
        bed.registry.update_certificate(&id, CertificateStatus::Revoked).await.unwrap();
    }
    bed.registry.delete_certificate(&id, false).await.unwrap();
    let said = |operation: &str, status: &str, version: u32| {
        let topic = format!("certificates/{id}/{}", operation.to_lowercase());
        let of = json!({
            "certificateId": id.as_str(),
            "certificateArn": format!("arn:aws:iot:us-east-1:123456789012:cert/{id}"),
            "status": status,
            "customerVersion": version,
        });
        (topic, event("CERTIFICATE_EVENT", operation, of))
    };
    let expected = [
        said("CREATED", "ACTIVE", 1),
        said("UPDATED", "REVOKED", 2),
        said("DELETED", "REVOKED", 2),
    ];
    assert_eq!(bed.heard(), expected);
}

#[tokio::test]
async fn only_what_is_enabled_is_published_at_once_and_after_a_restart() {
    let store = Arc::<MemoryStore>::default();
    let bed = Bed::on(store.clone()).await;
    let lamp = bed.thing("Lamp").await;
    bed.check(Vec::new());
    bed.enable(&[EventClass::Thing, EventClass::Job]).await;
    bed.group("hall", None).await;
    bed.thing("Fan").await;
    bed.check_topics(&["thing/Fan/created"]);
    let off = [(EventClass::Thing, false), (EventClass::ThingGroup, true)].into();
    bed.registry.update_event_configurations(&off).await.unwrap();
    bed.registry.delete_thing(&lamp.name, None).await.unwrap();
    bed.group("attic", None).await;
    bed.check_topics(&["thingGroup/attic/created"]);
    let again = Bed::on(store).await;
    again.thing("Lamp").await;
    again.group("cellar", None).await;
    again.check_topics(&["thingGroup/cellar/created"]);
    let enabled = EventClass::ALL.into_iter().filter(|class| again.events.is_enabled(*class));
    assert_eq!(enabled.collect::<Vec<_>>(), [EventClass::ThingGroup, EventClass::Job]);
}
