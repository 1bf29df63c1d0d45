//! Quarantine: who offends too often becomes silent, and stays connected.
//!
//! In: offences of clients that are connected and somebody ([`Offence`], from `session`), and an
//! operator's word. Out: a place in the registry's quarantine, whose policy does the rest; an event on
//! `$gnomon/events/quarantine/{id}/{entered|lifted}`, a log line and counters. Not here: what is an
//! offence (`session`), what quarantine means (`registry`, `policy`).
//!
//! Offences are counted where they happen, on the threads of connections; the registry is changed by a
//! task, [`Worker`], behind a queue of `QUEUE_MAX`. When it is full the offender goes free this time
//! and is counted anew.

mod table;

use crate::broker::clients::Clients;
use crate::broker::{Broker, Wakes};
use crate::ids::{ClientId, Principal, ThingName};
use crate::message::{Message, QoS};
use crate::metrics::Metrics;
use crate::random::{self, Random};
use crate::registry::{OffenceKind, Offender, QuarantineEntry, Registry, RegistryError};
use crate::session::Offence;
use crate::time::{Clock, Now};
use crate::topic::TopicName;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use table::Table;
use tokio::sync::mpsc;

/// Offenders that wait to be put into quarantine.
const QUEUE_MAX: usize = 1_024;

/// Characters of an offence that are kept: it may quote what the client sent.
const REASON_CHARS_MAX: usize = 200;

/// Most `offences`: so many times are kept for each offender.
const OFFENCES_MAX: u32 = 100;

/// When somebody comes into quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuarantineConfig {
    /// Count offences. False: only an operator puts anybody into quarantine.
    pub enabled: bool,
    /// So many offences are too many, 1..=100.
    #[serde(deserialize_with = "offences")]
    pub offences: u32,
    /// Within so many seconds.
    pub window_s: u32,
    /// Malformed packets and errors of the protocol count.
    pub malformed: bool,
    /// Payloads that the schema of the thing type does not allow count.
    pub schema: bool,
    /// Exceeded limits count.
    pub limits: bool,
}

impl Default for QuarantineConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            offences: 10,
            window_s: 60,
            malformed: true,
            schema: true,
            limits: true,
        }
    }
}

fn offences<'de, D: Deserializer<'de>>(value: D) -> Result<u32, D::Error> {
    let offences = u32::deserialize(value)?;
    match (1..=OFFENCES_MAX).contains(&offences) {
        true => Ok(offences),
        false => Err(D::Error::custom(format!("offences must be 1 to {OFFENCES_MAX}"))),
    }
}

impl QuarantineConfig {
    fn counts(&self, kind: OffenceKind) -> bool {
        self.enabled
            && match kind {
                OffenceKind::Malformed => self.malformed,
                OffenceKind::Schema => self.schema,
                OffenceKind::Limits => self.limits,
                OffenceKind::Operator => false,
            }
    }
}

/// What the quarantine works with.
pub struct Ports {
    /// Holds who is in quarantine.
    pub registry: Registry,
    /// For events.
    pub broker: Broker,
    /// To have clients connect anew whose permissions are not looked at while they are connected.
    pub clients: Clients,
    /// For dates.
    pub clock: Arc<dyn Clock>,
    /// For the ids of events.
    pub random: Arc<dyn Random>,
    /// `quarantine_…` is counted here.
    pub metrics: Arc<Metrics>,
}

/// Counts offences, and puts whoever has too many into quarantine.
pub struct Quarantine {
    config: QuarantineConfig,
    ports: Ports,
    table: Mutex<Table>,
    offenders: mpsc::Sender<QuarantineEntry>,
}

/// Puts offenders into quarantine; to be run until the host stops.
pub struct Worker {
    quarantine: Arc<Quarantine>,
    offenders: mpsc::Receiver<QuarantineEntry>,
}

impl Worker {
    /// Runs until it is dropped.
    pub async fn run(mut self) {
        while let Some(entry) = self.offenders.recv().await {
            if let Err(error) = self.quarantine.enter(&entry).await {
                let id = tracing::field::display(&entry.offender);
                tracing::error!(id, error = %error, "offender cannot be put into quarantine");
            }
        }
    }
}

impl Quarantine {
    /// A quarantine, and what has to run for it.
    pub fn new(config: QuarantineConfig, ports: Ports) -> (Arc<Self>, Worker) {
        let (sender, offenders) = mpsc::channel(QUEUE_MAX);
        let quarantine =
            Arc::new(Self { config, ports, table: Mutex::default(), offenders: sender });
        (quarantine.clone(), Worker { quarantine, offenders })
    }

    /// Counts an offence. Neither blocks nor waits.
    pub fn offended(&self, now: Now, offence: Offence) {
        let Offence { offender, client_id, principal, kind, what } = offence;
        if !self.config.counts(kind) {
            return;
        }
        self.ports.metrics.quarantine_offences.increment();
        let QuarantineConfig { offences, window_s, .. } = self.config;
        let window = Duration::from_secs(window_s.into());
        if !self.table().note(&offender, now.instant, window, offences as usize) {
            return;
        }
        let entry = QuarantineEntry {
            offender,
            kind,
            reason: what.chars().take(REASON_CHARS_MAX).collect(),
            count: offences,
            client_id: Some(client_id),
            principal: Some(principal),
            since: now.wall,
        };
        if let Err(error) = self.offenders.try_send(entry) {
            tracing::warn!(error = %error, "offender goes free: too many wait for the quarantine");
        }
    }

    /// An operator puts somebody into quarantine; false when they were there already.
    ///
    /// # Errors
    /// As of [`Registry::enter_quarantine`].
    pub async fn impose(&self, offender: &Offender, reason: String) -> Result<bool, RegistryError> {
        self.enter(&QuarantineEntry {
            offender: offender.clone(),
            kind: OffenceKind::Operator,
            reason,
            count: 0,
            client_id: None,
            principal: None,
            since: self.ports.clock.wall(),
        })
        .await
    }

    /// Lets somebody out, whose offences are forgotten.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`] when they are not there.
    pub async fn lift(&self, offender: &Offender) -> Result<QuarantineEntry, RegistryError> {
        let entry = self.ports.registry.leave_quarantine(offender).await?;
        self.table().forget(offender);
        self.ports.metrics.quarantine_lifted.increment();
        self.publish(&entry, "LIFTED", "lifted");
        self.connect_anew(&entry);
        Ok(entry)
    }

    async fn enter(&self, entry: &QuarantineEntry) -> Result<bool, RegistryError> {
        if !self.ports.registry.enter_quarantine(entry).await? {
            return Ok(false);
        }
        let QuarantineEntry { offender, kind, reason, count, client_id, principal, .. } = entry;
        self.ports.metrics.quarantine_entered.increment();
        tracing::warn!(
            id = %offender,
            client_id = client_id.as_ref().map(tracing::field::display),
            principal = principal.as_ref().map(tracing::field::display),
            kind = kind.as_str(),
            count,
            reason,
            "put into quarantine"
        );
        self.publish(entry, "ENTERED", "entered");
        self.connect_anew(entry);
        Ok(true)
    }

    /// A client with a certificate is looked at again at once. Those of custom authorizers keep the
    /// permissions with which they connected.
    fn connect_anew(&self, entry: &QuarantineEntry) {
        let principal = entry.principal.clone().map(Offender::Principal);
        let is_watched = principal.is_some_and(|it| it.certificate().is_some());
        if let (false, Some(client_id)) = (is_watched, &entry.client_id) {
            let now = Now::of(&*self.ports.clock);
            // Its will would be a message of a client that is to be silent.
            self.ports.clients.disconnect(client_id, false, true, now);
        }
    }

    fn publish(&self, entry: &QuarantineEntry, operation: &str, level: &str) {
        let topic = format!("$gnomon/events/quarantine/{}/{level}", entry.offender);
        let topic = TopicName::parse(&topic).expect("names have no wildcards");
        let now = self.ports.clock.wall();
        let message = || {
            let event = Event {
                event_type: "QUARANTINE_EVENT",
                event_id: random::uuid(&*self.ports.random),
                timestamp: now.as_millis(),
                operation,
                id: entry.offender.to_string(),
                thing_name: match &entry.offender {
                    Offender::Thing(name) => Some(name),
                    Offender::Principal(_) => None,
                }
                .map(ThingName::as_str),
                client_id: entry.client_id.as_ref().map(ClientId::as_str),
                principal: match &entry.offender {
                    Offender::Thing(_) => entry.principal.as_ref(),
                    Offender::Principal(principal) => Some(principal),
                }
                .map(Principal::as_str),
                kind: entry.kind.as_str(),
                reason: &entry.reason,
                count: entry.count,
                since: entry.since.as_millis(),
            };
            let payload = serde_json::to_vec(&event).expect("texts and numbers serialize");
            let message = Message::new(topic.clone(), payload, Arc::default(), now);
            Message { qos: QoS::AtLeastOnce, ..message }
        };
        self.ports.broker.publish_if_heard(&topic, message, &mut Wakes::default());
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happened, as a message.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    event_type: &'static str,
    event_id: String,
    timestamp: u64,
    operation: &'a str,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thing_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<&'a str>,
    kind: &'static str,
    reason: &'a str,
    count: u32,
    since: u64,
}

#[cfg(test)]
mod tests;
