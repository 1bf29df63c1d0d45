//! What is asked. Source: AWS IoT, "Defining your Lambda function", its input.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use gnomon_sdk::{AuthRequest, HttpInfo, MqttInfo, Protocol, TlsInfo};
use serde::Serialize;
use std::collections::BTreeMap;

/// The body of a request; what a client does not present is left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Question<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'r str>,
    signature_verified: bool,
    protocols: Vec<&'static str>,
    protocol_data: ProtocolData<'r>,
    connection_metadata: ConnectionMetadata<'r>,
}

#[derive(Serialize)]
struct ProtocolData<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Tls<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<Http<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mqtt: Option<Mqtt<'r>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tls<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    server_name: Option<&'r str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'r> {
    headers: BTreeMap<&'r str, String>,
    /// With its `?`; empty when there is none.
    query_string: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Mqtt<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'r str>,
    /// In base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'r str>,
}

#[derive(Serialize)]
struct ConnectionMetadata<'r> {
    id: &'r str,
}

impl<'r> Question<'r> {
    /// About this client.
    pub fn of(request: &'r AuthRequest) -> Self {
        let protocols = request.protocols.iter().map(|protocol| match protocol {
            Protocol::Tls => "tls",
            Protocol::Http => "http",
            Protocol::Mqtt => "mqtt",
        });
        Self {
            token: request.token.as_deref(),
            signature_verified: request.signature_verified,
            protocols: protocols.collect(),
            protocol_data: ProtocolData {
                tls: request.tls.as_ref().map(Tls::of),
                http: request.http.as_ref().map(Http::of),
                mqtt: request.mqtt.as_ref().map(Mqtt::of),
            },
            connection_metadata: ConnectionMetadata { id: &request.connection_id },
        }
    }

    /// As it is sent.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and lists can be written as JSON")
    }
}

impl<'r> Tls<'r> {
    fn of(tls: &'r TlsInfo) -> Self {
        Self { server_name: tls.server_name.as_deref() }
    }
}

impl<'r> Http<'r> {
    fn of(http: &'r HttpInfo) -> Self {
        let mut headers = BTreeMap::new();
        for (name, value) in &http.headers {
            // [RFC 9110, 5.2] A header that is there twice is one with a list.
            headers
                .entry(name.as_str())
                .and_modify(|values: &mut String| {
                    values.push_str(", ");
                    values.push_str(value);
                })
                .or_insert_with(|| value.clone());
        }
        let query_string = match http.query_string.as_str() {
            "" => String::new(),
            query => format!("?{query}"),
        };
        Self { headers, query_string }
    }
}

impl<'r> Mqtt<'r> {
    fn of(mqtt: &'r MqttInfo) -> Self {
        Self {
            username: mqtt.username.as_deref(),
            password: mqtt.password.as_ref().map(|password| BASE64_STANDARD.encode(password)),
            client_id: mqtt.client_id.as_deref(),
        }
    }
}
