//! CONNECT, what is checked in it, and the CONNACK that answers it.
//!
//! In: the client's wishes and the host's limits. Out: what is granted. Not here: who the client
//! is (`auth`).

use super::{Compat, Config, Opened, ProtocolError, Session, error};
use crate::auth::Identity;
use crate::limits::Limits;
use crate::message::QoS;
use crate::packet::{Auth, ConnAck, Connect, Reason, Version};
use crate::policy::{Action, Permissions, Resource};
use crate::topic::TopicFilter;
use std::num::NonZeroU16;
use std::sync::Arc;

/// Keep-alive on AWS, in seconds. Source: AWS IoT, quotas of the message broker.
const AWS_KEEP_ALIVE_S: std::ops::RangeInclusive<u16> = 30..=1_200;

/// Whether the host serves such a client at all.
pub(super) fn check(connect: &Connect, config: &Config) -> Result<(), ProtocolError> {
    let limits = &config.limits;
    match &connect.client_id {
        None if connect.version == Version::V311 && !connect.clean_start => {
            // [MQTT-3.1.3-8] of 3.1.1.
            return Err(error(Reason::ClientIdNotValid, "no client id without Clean Session"));
        }
        Some(id) if id.as_str().len() > limits.client_id_bytes as usize => {
            return Err(error(Reason::ClientIdNotValid, "client id beyond the limit"));
        }
        _ => {}
    }
    if connect.authentication.is_some() && config.compat == Compat::Aws {
        // [MQTT-4.12.0-1]
        return Err(error(Reason::BadAuthenticationMethod, "enhanced authentication"));
    }
    if let Some(will) = &connect.will {
        if will.qos == QoS::ExactlyOnce && config.compat == Compat::Aws {
            return Err(error(Reason::QoSNotSupported, "will with QoS 2"));
        }
        if !limits.allow_topic(will.topic.as_str()) {
            return Err(error(Reason::TopicNameInvalid, "will topic beyond the limits"));
        }
        if will.payload.len() > limits.payload_bytes as usize {
            return Err(error(Reason::PacketTooLarge, "will payload beyond the limit"));
        }
        if will.properties.as_ref().is_some_and(|it| !limits.allow_properties(it)) {
            return Err(error(Reason::PacketTooLarge, "will properties beyond the limits"));
        }
        if will.topic.is_reserved() {
            return Err(error(Reason::TopicNameInvalid, "will on a reserved topic"));
        }
    }
    Ok(())
}

impl Session {
    /// Whether the client may leave its will; to be asked before its session is taken over, which
    /// a refused CONNECT must not touch. A client in quarantine connects in any case: its will is
    /// withheld in the end, as are those of clients that lost the right.
    ///
    /// # Errors
    /// Why not, for the operator.
    pub fn check_will(connect: &Connect, identity: &Identity) -> Result<(), String> {
        let Identity { permissions, payload_schema, .. } = identity;
        let Some(will) = connect.will.as_ref().filter(|_| !permissions.is_quarantined()) else {
            return Ok(());
        };
        let topic = || Resource::Topic(will.topic.as_str());
        let is_allowed = permissions.allows(Action::Publish, topic())
            && (!will.retain || permissions.allows(Action::RetainPublish, topic()));
        if !is_allowed {
            return Err("no policy allows the will's topic".to_owned());
        }
        let is_clearing = will.retain && will.payload.is_empty();
        match payload_schema.as_ref().filter(|it| it.enforces() && !is_clearing) {
            Some(schema) => schema.check(&will.topic, &will.payload).map_err(|problem| {
                format!("the will does not match the schema of the thing type: {problem}")
            }),
            None => Ok(()),
        }
    }
}

/// Seconds of keep-alive that hold for the client; 0: none.
pub(super) fn keep_alive_s(connect: &Connect, config: &Config) -> u16 {
    let wished = connect.keep_alive_s;
    let (min, max) = AWS_KEEP_ALIVE_S.into_inner();
    match (config.compat, wished, config.limits.keep_alive_s) {
        (Compat::Aws, 0, _) => max,
        (Compat::Aws, wished, _) => wished.clamp(min, max),
        (Compat::Mqtt, wished, 0) => wished,
        (Compat::Mqtt, 0, limit) => limit,
        (Compat::Mqtt, wished, limit) => wished.min(limit),
    }
}

pub(super) fn connack(connect: &Connect, opened: &Opened, config: &Config) -> ConnAck {
    let Config { limits, compat, .. } = config;
    let is_aws = *compat == Compat::Aws;
    let keep_alive_s = keep_alive_s(connect, config);
    let reduced = connect.session_expiry_s > limits.session_expiry_s;
    let method = connect.authentication.as_ref().map(|(method, _)| method.clone());
    ConnAck {
        session_present: opened.resumed.is_some(),
        session_expiry_s: reduced.then_some(limits.session_expiry_s),
        receive_maximum: NonZeroU16::new(limits.inflight_messages),
        maximum_qos: is_aws.then_some(QoS::AtLeastOnce),
        maximum_packet_size: Some(limits.packet_bytes),
        assigned_client_id: match connect.client_id {
            Some(_) => None,
            None => opened.publisher.client_id.clone(),
        },
        topic_alias_maximum: Some(limits.topic_aliases),
        subscription_ids_available: is_aws.then_some(false),
        server_keep_alive_s: (keep_alive_s != connect.keep_alive_s).then_some(keep_alive_s),
        authentication: method.map(|method| (method, opened.authentication_data.clone())),
        ..ConnAck::new(Reason::Success)
    }
}

/// AUTH with the method of CONNECT [MQTT-4.12.0-5] and the reason that is due.
pub(super) fn check_auth(
    auth: &Auth,
    method: Option<&Arc<str>>,
    expected: Reason,
) -> Result<(), ProtocolError> {
    let Some(method) = method else {
        // [MQTT-4.12.0-6]
        return Err(error(Reason::ProtocolError, "AUTH without authentication method in CONNECT"));
    };
    if auth.method.as_ref() != Some(method) {
        return Err(error(Reason::ProtocolError, "AUTH with another method than CONNECT"));
    }
    if auth.reason != expected {
        return Err(error(Reason::ProtocolError, "AUTH with a reason that is not due"));
    }
    Ok(())
}

pub(super) fn check_filter(
    filter: &TopicFilter,
    limits: &Limits,
    permissions: &Permissions,
) -> Result<(), Reason> {
    if !limits.allow_topic(filter.pattern()) {
        return Err(Reason::TopicFilterInvalid);
    }
    if permissions.allows(Action::Subscribe, Resource::TopicFilter(filter.as_str())) {
        Ok(())
    } else {
        Err(Reason::NotAuthorized)
    }
}
