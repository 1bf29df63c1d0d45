//! Registry events: what changed, as messages on `$aws/events/…`.
//!
//! In: the [`Change`]s that the registry tells, in their order. Out: QoS 1 messages with AWS's
//! payload, of the classes that UpdateEventConfigurations has enabled, made only when somebody
//! listens. Not here: presence and subscriptions (`broker`), which are always on; the events of jobs
//! (whoever runs them asks [`Events::is_enabled`]).
//!
//! Source: AWS IoT developer guide, "Registry events". It has neither topics nor payloads for the
//! classes POLICY, CERTIFICATE and CA_CERTIFICATE: `policy/{name}`, `certificates/{id}` and
//! `caCertificates/{id}` are ours. An event is lost when the host stops between a change and its event,
//! and for durable sessions and rules while the broker's log is full.

mod payload;

use crate::broker::{Broker, Wakes};
use crate::ids::{Account, ThingName, ThingTypeName};
use crate::message::{Message, Publisher, QoS};
use crate::random::{self, Random};
use crate::registry::{
    CaCertificate, Certificate, Change, Diff, EventClass, EventConfigurations, PolicyDefinition,
    Registry, RegistryError, RegistryObserver, Thing, ThingGroup, ThingType,
};
use crate::time::{Clock, Timestamp};
use crate::topic::TopicName;
use payload::Of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// Publishes the registry's events.
pub struct Events {
    broker: Broker,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    account: Account,
    publisher: Arc<Publisher>,
    /// A bit for each enabled [`EventClass`].
    enabled: AtomicU16,
}

/// What happened to what an event is about.
#[derive(Clone, Copy)]
enum Operation {
    Created,
    Updated,
    Deleted,
    Added,
    Removed,
}

impl Operation {
    fn of<T>(diff: &Diff<T>) -> Self {
        match diff {
            Diff::Created(_) => Self::Created,
            Diff::Updated { .. } => Self::Updated,
            Diff::Deleted(_) => Self::Deleted,
        }
    }

    /// In the payload, and as the last level of the topic.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Created => ("CREATED", "created"),
            Self::Updated => ("UPDATED", "updated"),
            Self::Deleted => ("DELETED", "deleted"),
            Self::Added => ("ADDED", "added"),
            Self::Removed => ("REMOVED", "removed"),
        }
    }
}

impl Events {
    /// Publishes the events of the registry from now on, of the classes that are enabled in it.
    ///
    /// # Errors
    /// When the configuration cannot be read.
    pub async fn start(
        registry: &Registry,
        broker: Broker,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Arc<Self>, RegistryError> {
        let events = Arc::new(Self {
            broker,
            clock,
            random,
            account: registry.account().clone(),
            publisher: Arc::default(),
            enabled: AtomicU16::default(),
        });
        events.configure(&registry.event_configurations().await?);
        registry.observe(events.clone());
        Ok(events)
    }

    /// Whether the events of a class are published now.
    pub fn is_enabled(&self, class: EventClass) -> bool {
        self.enabled.load(Ordering::Relaxed) & bit(class) != 0
    }

    /// A thing joined a dynamic group or left it, because it, or what is known of it, changed.
    pub fn dynamic_membership_changed(&self, thing: &Thing, group: &ThingGroup, is_in: bool) {
        let operation = if is_in { Operation::Added } else { Operation::Removed };
        self.membership(operation, thing, group);
    }

    fn configure(&self, configurations: &EventConfigurations) {
        let enabled = configurations.enabled.iter().fold(0, |bits, class| bits | bit(*class));
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    fn thing_changed(&self, diff: &Diff<Thing>, groups: &[ThingGroup]) {
        let (before, after) = (diff.before(), diff.after());
        let thing = diff.latest();
        let type_of = |thing: Option<&Thing>| thing.and_then(|thing| thing.type_name.clone());
        let (old_type, new_type) = (type_of(before), type_of(after));
        // A thing is there before it gets what belongs to it, and loses that before it goes.
        if after.is_some() && before.map(|it| it.version) != after.map(|it| it.version) {
            self.thing(Operation::of(diff), thing);
        }
        if old_type != new_type {
            for (name, operation) in [(old_type, Operation::Removed), (new_type, Operation::Added)]
            {
                if let Some(name) = name {
                    self.association(operation, thing, &name);
                }
            }
        }
        for group in groups {
            let is_member = after.is_some_and(|thing| thing.groups.contains(&group.name));
            let operation = if is_member { Operation::Added } else { Operation::Removed };
            self.membership(operation, thing, group);
        }
        if after.is_none() {
            self.thing(Operation::Deleted, thing);
        }
    }

    fn thing(&self, operation: Operation, thing: &Thing) {
        self.publish(EventClass::Thing, operation, &format!("thing/{}", thing.name), || {
            Of::Thing {
                thing_id: &thing.id,
                thing_name: thing.name.as_str(),
                version_number: thing.version,
                thing_type_name: thing.type_name.as_ref().map(ThingTypeName::as_str),
                attributes: thing.attributes.values(),
            }
        });
    }

    fn association(&self, operation: Operation, thing: &Thing, type_name: &ThingTypeName) {
        let about = format!("thingTypeAssociation/thing/{}/thingType/{type_name}", thing.name);
        let class = EventClass::ThingTypeAssociation;
        self.publish(class, operation, &about, || Of::ThingTypeAssociation {
            thing_id: &thing.id,
            thing_name: thing.name.as_str(),
            thing_type_name: type_name.as_str(),
        });
    }

    fn membership(&self, operation: Operation, thing: &Thing, group: &ThingGroup) {
        let about = format!("thingGroupMembership/thingGroup/{}/thing/{}", group.name, thing.name);
        let class = EventClass::ThingGroupMembership;
        self.publish(class, operation, &about, || Of::ThingGroupMembership {
            group_arn: self.group_arn(group),
            group_id: &group.id,
            thing_arn: self.thing_arn(&thing.name),
            thing_id: &thing.id,
            membership_id: payload::membership_id(&group.id, &thing.id),
        });
    }

    fn thing_type_changed(&self, diff: &Diff<ThingType>) {
        let thing_type = diff.latest();
        let about = format!("thingType/{}", thing_type.name);
        let deprecated_at = thing_type.deprecated_at;
        self.publish(EventClass::ThingType, Operation::of(diff), &about, || Of::ThingType {
            thing_type_id: &thing_type.id,
            thing_type_name: thing_type.name.as_str(),
            is_deprecated: deprecated_at.is_some(),
            deprecation_date: deprecated_at.map(Timestamp::as_millis),
            searchable_attributes: thing_type.properties.searchable_attributes(),
            description: thing_type.properties.description(),
        });
    }

    fn group_changed(&self, diff: &Diff<ThingGroup>, ancestors: &[ThingGroup]) {
        let group = diff.latest();
        // A group is there before it is below another, and is taken from there before it goes.
        if diff.after().is_none() {
            self.hierarchy(Operation::Removed, group, ancestors.last());
        }
        self.group(Operation::of(diff), group, ancestors);
        if diff.before().is_none() {
            self.hierarchy(Operation::Added, group, ancestors.last());
        }
    }

    fn group(&self, operation: Operation, group: &ThingGroup, ancestors: &[ThingGroup]) {
        let about = format!("thingGroup/{}", group.name);
        self.publish(EventClass::ThingGroup, operation, &about, || Of::ThingGroup {
            thing_group_id: &group.id,
            thing_group_name: group.name.as_str(),
            version_number: group.version,
            parent_group_name: ancestors.last().map(|parent| parent.name.as_str()),
            parent_group_id: ancestors.last().map(|parent| parent.id.as_str()),
            description: group.properties.description.as_deref(),
            root_to_parent_thing_groups: ancestors
                .iter()
                .map(|it| payload::Ancestor { group_arn: self.group_arn(it), group_id: &it.id })
                .collect(),
            attributes: group.properties.attributes.values(),
            dynamic_group_mapping_id: group.query.as_ref().map(|_| group.id.as_str()),
        });
    }

    fn hierarchy(&self, operation: Operation, child: &ThingGroup, parent: Option<&ThingGroup>) {
        let Some(parent) = parent else { return };
        let (above, below) = (&parent.name, &child.name);
        let about = format!("thingGroupHierarchy/thingGroup/{above}/childThingGroup/{below}");
        let class = EventClass::ThingGroupHierarchy;
        self.publish(class, operation, &about, || Of::ThingGroupHierarchy {
            thing_group_id: &parent.id,
            thing_group_name: above.as_str(),
            child_group_id: &child.id,
            child_group_name: below.as_str(),
        });
    }

    fn policy_changed(&self, diff: &Diff<PolicyDefinition>) {
        let policy = diff.latest();
        // A policy's name may have a plus, which a topic may not.
        let about = format!("policy/{}", policy.name.as_str().replace('+', "%2B"));
        self.publish(EventClass::Policy, Operation::of(diff), &about, || Of::Policy {
            policy_name: policy.name.as_str(),
            policy_arn: self.account.arn(&format!("policy/{}", policy.name)),
            default_version_id: policy.default_version.to_string(),
        });
    }

    fn certificate_changed(&self, diff: &Diff<Certificate>) {
        let certificate = diff.latest();
        let about = format!("certificates/{}", certificate.id);
        self.publish(EventClass::Certificate, Operation::of(diff), &about, || Of::Certificate {
            certificate_id: certificate.id.as_str(),
            certificate_arn: self.account.arn(&format!("cert/{}", certificate.id)),
            status: certificate.status.as_str(),
            customer_version: certificate.customer_version,
        });
    }

    fn ca_certificate_changed(&self, diff: &Diff<CaCertificate>) {
        let ca = diff.latest();
        let (about, class) = (format!("caCertificates/{}", ca.id), EventClass::CaCertificate);
        self.publish(class, Operation::of(diff), &about, || Of::CaCertificate {
            ca_certificate_id: ca.id.as_str(),
            ca_certificate_arn: self.account.arn(&format!("cacert/{}", ca.id)),
            status: if ca.is_active { "ACTIVE" } else { "INACTIVE" },
            auto_registration_status: if ca.auto_registration { "ENABLE" } else { "DISABLE" },
            customer_version: ca.customer_version,
        });
    }

    /// `about`: the levels of the topic between `$aws/events` and the operation.
    fn publish<'a>(
        &self,
        class: EventClass,
        operation: Operation,
        about: &str,
        of: impl FnOnce() -> Of<'a>,
    ) {
        if !self.is_enabled(class) {
            return;
        }
        let (name, level) = operation.names();
        let topic = TopicName::parse(&format!("$aws/events/{about}/{level}"));
        let topic = topic.expect("names have no wildcards and at most 128 characters");
        let now = self.clock.wall();
        let message = || {
            let event_id = random::uuid(&*self.random);
            let payload = payload::encode(class, &event_id, now, name, &self.account.id, of());
            let message = Message::new(topic.clone(), payload, self.publisher.clone(), now);
            Message { qos: QoS::AtLeastOnce, ..message }
        };
        self.broker.publish_if_heard(&topic, message, &mut Wakes::default());
    }

    fn group_arn(&self, group: &ThingGroup) -> String {
        self.account.arn(&format!("thinggroup/{}", group.name))
    }

    fn thing_arn(&self, name: &ThingName) -> String {
        self.account.arn(&format!("thing/{name}"))
    }
}

impl RegistryObserver for Events {
    fn changed(&self, change: &Change) {
        match change {
            Change::Thing { diff, groups } => self.thing_changed(diff, groups),
            Change::ThingType(diff) => self.thing_type_changed(diff),
            Change::ThingGroup { diff, ancestors } => self.group_changed(diff, ancestors),
            Change::Policy(diff) => self.policy_changed(diff),
            Change::Certificate(diff) => self.certificate_changed(diff),
            Change::CaCertificate(diff) => self.ca_certificate_changed(diff),
            Change::EventConfigurations(configurations) => self.configure(configurations),
        }
    }
}

fn bit(class: EventClass) -> u16 {
    1 << class as u16
}

#[cfg(test)]
mod tests;
