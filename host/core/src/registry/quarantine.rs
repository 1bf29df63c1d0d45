//! Quarantine: a client that stays connected and is silent, because the policy [`QUARANTINE_POLICY`] is
//! in force for it.
//!
//! A thing gets it from the static thing group [`QUARANTINE_GROUP`], a certificate that came without its
//! thing has it attached; both are what AWS's operations show, and can take back. The principal of a
//! custom authorizer has nothing that a policy could be attached to: there the entry says it. Else an
//! entry, `quarantine/{id}`, tells why, with the invariant of index keys: it is written before and removed
//! after what makes it true, and readers ask that.
//!
//! Not here: who counts offences (`quarantine`).

use super::record::{self, Stored};
use super::{
    ATTEMPTS_MAX, Certificate, Page, PageRequest, Registry, RegistryError, SCAN_RECORDS, Thing,
    ThingGroupProperties,
};
use crate::ids::{CertificateId, ClientId, PolicyName, Principal, ThingGroupName, ThingName};
use crate::storage::Key;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Name of the group that things in quarantine are in.
pub const QUARANTINE_GROUP: &str = "GnomonQuarantine";

/// Name of the policy that is attached to it.
pub const QUARANTINE_POLICY: &str = "GnomonQuarantine";

/// Subscribing stays allowed: nothing comes of it while nothing may be received, and when the quarantine
/// is lifted nobody has to connect anew.
const DOCUMENT: &str = r#"{"Version": "2012-10-17", "Statement": [{"Sid": "Silent",
    "Effect": "Deny", "NotAction": ["iot:Connect", "iot:Subscribe"], "Resource": "*"}]}"#;

/// Longest reason in bytes.
const REASON_BYTES_MAX: usize = 1_024;

/// Who is in quarantine, or could be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Offender {
    /// The thing that a client is: it has its name and a certificate that is attached to it, or a custom
    /// authorizer says so.
    Thing(ThingName),
    /// Every client of the principal.
    Principal(Principal),
}

impl Offender {
    /// Reads what `Display` writes: `thing:NAME`, `principal:ID`.
    ///
    /// # Errors
    /// [`RegistryError::InvalidRequest`].
    pub fn parse(id: &str) -> Result<Self, RegistryError> {
        match id.split_once(':') {
            Some(("thing", name)) => Ok(Self::Thing(ThingName::parse(name)?)),
            // What a certificate id and an authorizer's principalId look like.
            Some(("principal", id))
                if (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric()) =>
            {
                Ok(Self::Principal(Principal::new(id)))
            }
            _ => Err(RegistryError::InvalidRequest(
                "who is in quarantine is called thing:NAME or principal:ID, the id of a certificate or \
                 what an authorizer calls its clients, [a-zA-Z0-9]{1,128}"
                    .to_owned(),
            )),
        }
    }

    /// The certificate whose id the principal is, if it looks like one.
    pub fn certificate(&self) -> Option<CertificateId> {
        match self {
            Self::Principal(principal) if principal.as_str().len() == 64 => {
                CertificateId::parse(principal.as_str()).ok()
            }
            _ => None,
        }
    }
}

impl fmt::Display for Offender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Thing(name) => write!(f, "thing:{name}"),
            Self::Principal(principal) => write!(f, "principal:{principal}"),
        }
    }
}

/// What brought somebody into quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OffenceKind {
    /// Packets that are malformed or break the protocol.
    Malformed,
    /// Payloads that the schema of the thing type does not allow.
    Schema,
    /// Limits that are exceeded.
    Limits,
    /// An operator's decision.
    Operator,
}

impl OffenceKind {
    /// As in configuration, events and REST.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Schema => "schema",
            Self::Limits => "limits",
            Self::Operator => "operator",
        }
    }
}

/// Why somebody is in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineEntry {
    /// Who.
    pub offender: Offender,
    /// What for.
    pub kind: OffenceKind,
    /// The last offence, or what the operator says; for people.
    pub reason: String,
    /// Offences; 0 for an operator's decision.
    pub count: u32,
    /// The client that committed the last one.
    pub client_id: Option<ClientId>,
    /// And its principal.
    pub principal: Option<Principal>,
    /// Since when.
    pub since: Timestamp,
}

impl Registry {
    /// Puts somebody into quarantine; false when they were there already. Group and policy are made when
    /// they are missing.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`] for a thing or certificate that does not exist,
    /// [`RegistryError::InvalidRequest`] for a reason that is too long.
    pub async fn enter_quarantine(&self, entry: &QuarantineEntry) -> Result<bool, RegistryError> {
        if entry.reason.len() > REASON_BYTES_MAX {
            return Err(RegistryError::InvalidRequest(format!(
                "reason has {} bytes; at most {REASON_BYTES_MAX} are allowed",
                entry.reason.len()
            )));
        }
        let offender = &entry.offender;
        let was_in = self.is_in_quarantine(offender).await?;
        let key = record::key::<QuarantineEntry>(&offender.to_string());
        if was_in && self.read::<QuarantineEntry>(&key).await?.is_some() {
            return Ok(false);
        }
        self.provide_quarantine().await?;
        self.put_entry(&key, entry).await?;
        match (offender, offender.certificate()) {
            (Offender::Thing(name), _) => {
                self.add_thing_to_group(name, &group_name()).await?;
            }
            (_, Some(id)) => self.attach_policy(&policy_name(), &id).await?,
            _ => {}
        }
        Ok(!was_in)
    }

    /// Lets somebody out of quarantine.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`] when they are not there.
    pub async fn leave_quarantine(
        &self,
        offender: &Offender,
    ) -> Result<QuarantineEntry, RegistryError> {
        let entry = self.quarantine_entry(offender).await?;
        match (offender, offender.certificate()) {
            (Offender::Thing(name), _) => {
                self.remove_thing_from_group(name, &group_name()).await?;
            }
            (_, Some(id)) => self.detach_policy(&policy_name(), &id).await?,
            _ => {}
        }
        self.forget_index(&record::key::<QuarantineEntry>(&offender.to_string())).await?;
        Ok(entry)
    }

    /// Why somebody is in quarantine. Who was put into the group, or given the policy, by hand has no
    /// reason.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`] when they are not there.
    pub async fn quarantine_entry(
        &self,
        offender: &Offender,
    ) -> Result<QuarantineEntry, RegistryError> {
        let id = offender.to_string();
        match self.is_in_quarantine(offender).await {
            Ok(true) => {}
            Ok(false) | Err(RegistryError::ResourceNotFound(_)) => {
                return Err(QuarantineEntry::not_found(&id));
            }
            Err(error) => return Err(error),
        }
        let entry = self.read(&record::key::<QuarantineEntry>(&id)).await?;
        Ok(entry.map_or_else(
            || QuarantineEntry {
                offender: offender.clone(),
                kind: OffenceKind::Operator,
                reason: String::new(),
                count: 0,
                client_id: None,
                principal: None,
                since: Timestamp::default(),
            },
            |(entry, _)| entry,
        ))
    }

    /// Who is in quarantine for a reason, ordered by id: principals, then things.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_quarantine(
        &self,
        page: PageRequest<'_>,
    ) -> Result<Page<QuarantineEntry>, RegistryError> {
        let mut after = page.after.map(record::key::<QuarantineEntry>);
        let mut items: Vec<QuarantineEntry> = Vec::new();
        loop {
            let prefix = Key::prefix(QuarantineEntry::KIND);
            let records = self.0.ports.storage.scan(&prefix, after.as_ref(), SCAN_RECORDS).await?;
            for record in &records {
                let entry: QuarantineEntry = record::decode(record)?;
                match self.is_in_quarantine(&entry.offender).await {
                    Ok(true) => {}
                    Ok(false) | Err(RegistryError::ResourceNotFound(_)) => continue,
                    Err(error) => return Err(error),
                }
                if items.len() == page.limit {
                    let next = items.last().map(|entry| entry.offender.to_string());
                    return Ok(Page { items, next });
                }
                items.push(entry);
            }
            match records.last() {
                Some(last) if records.len() == SCAN_RECORDS => after = Some(last.key.clone()),
                _ => return Ok(Page { items, next: None }),
            }
        }
    }

    /// Whether somebody is in quarantine.
    ///
    /// # Errors
    /// [`RegistryError::ResourceNotFound`] for a thing or certificate that does not exist.
    pub async fn is_in_quarantine(&self, offender: &Offender) -> Result<bool, RegistryError> {
        match (offender, offender.certificate()) {
            (Offender::Thing(name), _) => Ok(is_silent(&self.describe_thing(name).await?)),
            (_, Some(id)) => {
                Ok(self.describe_certificate(&id).await?.policies.contains(QUARANTINE_POLICY))
            }
            _ => {
                let key = record::key::<QuarantineEntry>(&offender.to_string());
                Ok(self.read::<QuarantineEntry>(&key).await?.is_some())
            }
        }
    }

    /// Whether a thing of the certificate is in quarantine: nobody leaves it by another client id.
    pub(crate) async fn has_silent_thing(
        &self,
        certificate: &Certificate,
    ) -> Result<bool, RegistryError> {
        // Most hosts have nobody there, and some certificates thousands of things.
        let first = PageRequest { limit: 1, after: None };
        if self.members(&group_name(), first).await?.items.is_empty() {
            return Ok(false);
        }
        for name in &certificate.things {
            match self.describe_thing(name).await {
                Ok(thing) if is_silent(&thing) => return Ok(true),
                Ok(_) | Err(RegistryError::ResourceNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Makes group and policy. What is there stays as the operator changed it.
    async fn provide_quarantine(&self) -> Result<(), RegistryError> {
        let (policy, group) = (policy_name(), group_name());
        if let Err(RegistryError::ResourceNotFound(_)) = self.get_policy(&policy).await {
            match self.create_policy(&policy, DOCUMENT).await {
                Ok(_) | Err(RegistryError::ResourceAlreadyExists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let description = "Devices that are connected and silent. Lift: gnomon quarantine lift";
        let properties = ThingGroupProperties {
            description: Some(description.to_owned()),
            ..ThingGroupProperties::default()
        };
        match self.create_thing_group(&group, None, properties).await {
            Ok(_) | Err(RegistryError::ResourceAlreadyExists { .. }) => {}
            Err(error) => return Err(error),
        }
        self.attach_group_policy(&policy, &group).await
    }

    async fn put_entry(&self, key: &Key, entry: &QuarantineEntry) -> Result<(), RegistryError> {
        for _ in 0..ATTEMPTS_MAX {
            let read = self.read::<QuarantineEntry>(key).await?.map(|(_, revision)| revision);
            if self.write(key, entry, read).await? {
                return Ok(());
            }
        }
        Err(RegistryError::Busy)
    }
}

fn is_silent(thing: &Thing) -> bool {
    thing.groups.contains(QUARANTINE_GROUP)
}

fn group_name() -> ThingGroupName {
    ThingGroupName::parse(QUARANTINE_GROUP).expect("it is a name")
}

fn policy_name() -> PolicyName {
    PolicyName::parse(QUARANTINE_POLICY).expect("it is a name")
}

#[derive(Serialize, Deserialize)]
pub(super) struct EntryRecord {
    kind: OffenceKind,
    reason: String,
    count: u32,
    client_id: Option<String>,
    principal: Option<String>,
    since_ms: u64,
}

impl Stored for QuarantineEntry {
    const KIND: &str = "quarantine";
    const VERSION: u8 = 1;
    type Record = EntryRecord;

    fn to_record(&self) -> EntryRecord {
        EntryRecord {
            kind: self.kind,
            reason: self.reason.clone(),
            count: self.count,
            client_id: self.client_id.as_ref().map(ToString::to_string),
            principal: self.principal.as_ref().map(ToString::to_string),
            since_ms: self.since.as_millis(),
        }
    }

    fn from_record(id: &str, record: EntryRecord) -> Result<Self, String> {
        let client_id = record.client_id.as_deref().map(ClientId::parse).transpose();
        Ok(Self {
            offender: Offender::parse(id).map_err(|error| error.to_string())?,
            kind: record.kind,
            reason: record.reason,
            count: record.count,
            client_id: client_id.map_err(|error| error.to_string())?,
            principal: record.principal.as_deref().map(Principal::new),
            since: Timestamp::from_millis(record.since_ms),
        })
    }

    fn not_found(id: &str) -> RegistryError {
        RegistryError::ResourceNotFound(format!("{id} is not in quarantine"))
    }
}
