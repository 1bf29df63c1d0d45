//! What events say, as JSON.

use crate::random;
use crate::registry::EventClass;
use crate::time::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    event_type: String,
    event_id: &'a str,
    /// Milliseconds since the Unix epoch.
    timestamp: u64,
    operation: &'static str,
    account_id: &'a str,
    #[serde(flatten)]
    of: Of<'a>,
}

/// What only the events of one class have.
#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub(super) enum Of<'a> {
    Thing {
        thing_id: &'a str,
        thing_name: &'a str,
        version_number: u64,
        thing_type_name: Option<&'a str>,
        attributes: &'a BTreeMap<String, String>,
    },
    ThingType {
        thing_type_id: &'a str,
        thing_type_name: &'a str,
        is_deprecated: bool,
        /// Milliseconds since the Unix epoch.
        deprecation_date: Option<u64>,
        searchable_attributes: &'a [String],
        description: Option<&'a str>,
    },
    ThingTypeAssociation {
        thing_id: &'a str,
        thing_name: &'a str,
        thing_type_name: &'a str,
    },
    ThingGroup {
        thing_group_id: &'a str,
        thing_group_name: &'a str,
        version_number: u64,
        parent_group_name: Option<&'a str>,
        parent_group_id: Option<&'a str>,
        description: Option<&'a str>,
        root_to_parent_thing_groups: Vec<Ancestor<'a>>,
        attributes: &'a BTreeMap<String, String>,
        /// Of a dynamic group; static ones have none.
        dynamic_group_mapping_id: Option<&'a str>,
    },
    ThingGroupMembership {
        group_arn: String,
        group_id: &'a str,
        thing_arn: String,
        thing_id: &'a str,
        membership_id: String,
    },
    ThingGroupHierarchy {
        thing_group_id: &'a str,
        thing_group_name: &'a str,
        child_group_id: &'a str,
        child_group_name: &'a str,
    },
    Policy {
        policy_name: &'a str,
        policy_arn: String,
        default_version_id: String,
    },
    Certificate {
        certificate_id: &'a str,
        certificate_arn: String,
        status: &'static str,
        customer_version: u32,
    },
    CaCertificate {
        ca_certificate_id: &'a str,
        ca_certificate_arn: String,
        status: &'static str,
        auto_registration_status: &'static str,
        customer_version: u32,
    },
}

/// A group above a group.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ancestor<'a> {
    pub(super) group_arn: String,
    pub(super) group_id: &'a str,
}

pub(super) fn encode(
    class: EventClass,
    event_id: &str,
    now: Timestamp,
    operation: &'static str,
    account_id: &str,
    of: Of<'_>,
) -> Vec<u8> {
    let event_type = format!("{}_EVENT", class.as_str());
    let timestamp = now.as_millis();
    let payload = Payload { event_type, event_id, timestamp, operation, account_id, of };
    serde_json::to_vec(&payload).expect("texts and numbers serialize")
}

/// The same when a thing leaves a group as when it joined. On AWS it is drawn when it joins; here
/// it follows from both ids, so that nobody has to keep it.
pub(super) fn membership_id(group_id: &str, thing_id: &str) -> String {
    let digest = Sha256::digest(format!("{group_id}/{thing_id}"));
    random::uuid_of(digest.first_chunk().expect("a SHA-256 has 32 bytes"), 8)
}
