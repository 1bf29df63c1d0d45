//! Gnomon's own operations on the quarantine: who is in it and why, putting in and letting out.

use crate::Services;
use crate::call::{Answer, Call, encode_token, epoch_seconds};
use crate::error::ApiError;
use crate::router::{Handlers, handlers};
use gnomon_core::ids::{ClientId, Principal, ThingName};
use gnomon_core::registry::{Offender, QuarantineEntry};
use serde::{Deserialize, Serialize};

pub(crate) const HANDLERS: Handlers = handlers! {
    ListQuarantine => list;
    DescribeQuarantine => describe;
    ImposeQuarantine => impose;
    LiftQuarantine => lift;
};

async fn list(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        quarantine: Vec<EntryBody<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let page = call.page("maxResults", "nextToken")?;
    let found = services.registry.list_quarantine(page.request()).await?;
    Answer::members(&Body {
        quarantine: found.items.iter().map(Into::into).collect(),
        next_token: found.next.as_deref().map(encode_token),
    })
}

async fn describe(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let offender = Offender::parse(call.label("id"))?;
    let entry = services.registry.quarantine_entry(&offender).await?;
    Answer::members(&EntryBody::from(&entry))
}

/// Again is a success, and keeps the first reason.
async fn impose(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Members {
        #[serde(default)]
        reason: String,
    }
    let offender = Offender::parse(call.label("id"))?;
    let Members { reason } = call.members()?;
    services.quarantine.impose(&offender, reason).await?;
    let entry = services.registry.quarantine_entry(&offender).await?;
    tracing::info!(principal = call.caller.name(), id = %offender, "quarantine imposed");
    Answer::members(&EntryBody::from(&entry))
}

async fn lift(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let offender = Offender::parse(call.label("id"))?;
    services.quarantine.lift(&offender).await?;
    tracing::info!(principal = call.caller.name(), id = %offender, "quarantine lifted");
    Ok(Answer::empty())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryBody<'a> {
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
    since: f64,
}

impl<'a> From<&'a QuarantineEntry> for EntryBody<'a> {
    fn from(entry: &'a QuarantineEntry) -> Self {
        let (thing, principal) = match &entry.offender {
            Offender::Thing(name) => (Some(name), entry.principal.as_ref()),
            Offender::Principal(principal) => (None, Some(principal)),
        };
        Self {
            id: entry.offender.to_string(),
            thing_name: thing.map(ThingName::as_str),
            client_id: entry.client_id.as_ref().map(ClientId::as_str),
            principal: principal.map(Principal::as_str),
            kind: entry.kind.as_str(),
            reason: &entry.reason,
            count: entry.count,
            since: epoch_seconds(entry.since),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::keys::Role;
    use crate::test_host::TestHost;
    use bytes::Bytes;
    use gnomon_core::registry::certificate_id;
    use http::{Response, StatusCode};
    use serde_json::json;

    /// May publish anything.
    const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}"#;

    async fn gnomon(host: &TestHost, method: &str, target: &str, body: &str) -> serde_json::Value {
        let response = host.call("gnomon", method, target, body).await;
        let json = TestHost::json(&response);
        assert_eq!(TestHost::error_type(&response), None, "{method} {target}: {json}");
        json
    }

    #[tokio::test]
    async fn an_operator_puts_a_thing_in_sees_it_there_and_lets_it_out() {
        let host = TestHost::new().await;
        let (seen, _receiver) = host.listen(&["$gnomon/events/quarantine/+/+"]);
        host.iot("POST", "/things/pump-1", "").await;
        let target = "/quarantine/thing:pump-1";
        let expected = json!({
            "id": "thing:pump-1",
            "thingName": "pump-1",
            "kind": "operator",
            "reason": "recalled",
            "count": 0,
            "since": 1_795_435_200.5,
        });
        for reason in ["recalled", "another"] {
            let body = json!({ "reason": reason }).to_string();
            assert_eq!(gnomon(&host, "POST", target, &body).await, expected);
        }
        assert_eq!(gnomon(&host, "GET", target, "").await, expected);
        let listed = gnomon(&host, "GET", "/quarantine", "").await;
        assert_eq!(listed, json!({ "quarantine": [expected] }));
        // AWS's operations show it too.
        let things = host.iot("GET", "/thing-groups/GnomonQuarantine/things", "").await;
        assert_eq!(things, json!({"things": ["pump-1"]}));
        gnomon(&host, "DELETE", target, "").await;
        assert_eq!(gnomon(&host, "GET", "/quarantine", "").await, json!({"quarantine": []}));
        let operations: Vec<_> =
            seen.take().iter().map(|event| event["operation"].clone()).collect();
        assert_eq!(operations, ["ENTERED", "LIFTED"]);
        // Whoever put it into the group by hand gave no reason.
        let add = r#"{"thingName": "pump-1", "thingGroupName": "GnomonQuarantine"}"#;
        host.iot("PUT", "/thing-groups/addThingToThingGroup", add).await;
        assert_eq!(gnomon(&host, "GET", target, "").await["reason"], "");
        gnomon(&host, "DELETE", target, "").await;
    }

    #[tokio::test]
    async fn a_certificate_in_quarantine_publishes_nothing_over_http_either() {
        let host = TestHost::new().await;
        let der = host.device_certificate(POLICY).await;
        let publish = async || -> Response<Bytes> {
            let http = TestHost::request("POST", "/topics/a", "x");
            let request = gnomon_core::adapter::HttpRequest {
                client_certificate: Some(der.clone()),
                server_name: None,
                ..TestHost::received("public", http)
            };
            gnomon_core::adapter::HttpHandler::handle(&host.api, request).await
        };
        assert_eq!(publish().await.status(), StatusCode::OK);
        let target = format!("/quarantine/principal:{}", certificate_id(&der));
        gnomon(&host, "POST", &target, "").await;
        assert_eq!(publish().await.status(), StatusCode::FORBIDDEN);
        let arn = format!("arn:aws:iot:us-east-1:123456789012:cert/{}", certificate_id(&der));
        let path = format!("/attached-policies/{}", arn.replace('/', "%2F"));
        let attached = host.iot("POST", &path, "").await.to_string();
        assert!(attached.contains("GnomonQuarantine"), "{attached}");
        gnomon(&host, "DELETE", &target, "").await;
        assert_eq!(publish().await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn the_quarantine_is_listed_page_by_page() {
        let host = TestHost::new().await;
        for id in ["thing:a", "thing:b", "principal:user1"] {
            if let Some(name) = id.strip_prefix("thing:") {
                host.iot("POST", &format!("/things/{name}"), "").await;
            }
            gnomon(&host, "POST", &format!("/quarantine/{id}"), "").await;
        }
        let (mut ids, mut target) = (Vec::new(), "/quarantine?maxResults=1".to_owned());
        loop {
            let page = gnomon(&host, "GET", &target, "").await;
            ids.push(page["quarantine"][0]["id"].as_str().unwrap().to_owned());
            let Some(token) = page["nextToken"].as_str() else { break };
            target = format!("/quarantine?maxResults=1&nextToken={token}");
        }
        assert_eq!(ids, ["principal:user1", "thing:a", "thing:b"]);
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused_and_says_why() {
        let host = TestHost::new().await;
        host.iot("POST", "/things/pump-1", "").await;
        let (invalid, missing) = ("InvalidRequestException", "ResourceNotFoundException");
        let long = json!({ "reason": "x".repeat(1_025) }).to_string();
        let unknown = format!("/quarantine/principal:{}", "0".repeat(64));
        for (method, target, body, exception, says) in [
            ("GET", "/quarantine/thing:pump-1", "", missing, "is not in quarantine"),
            ("DELETE", "/quarantine/thing:pump-1", "", missing, "is not in quarantine"),
            ("DELETE", "/quarantine/thing:none", "", missing, "is not in quarantine"),
            ("POST", "/quarantine/thing:none", "", missing, "thing none does not exist"),
            ("POST", &unknown, "", missing, "does not exist"),
            ("POST", "/quarantine/pump-1", "", invalid, "thing:NAME or principal:ID"),
            ("POST", "/quarantine/group:x", "", invalid, "thing:NAME or principal:ID"),
            ("POST", "/quarantine/thing:a%2Fb", "", invalid, "thing name"),
            ("POST", "/quarantine/thing:..%00", "", invalid, "thing name"),
            ("POST", "/quarantine/principal:%2E%2E", "", invalid, "principal:ID"),
            ("POST", "/quarantine/thing:pump-1", "[]", invalid, "expected an object"),
            ("POST", "/quarantine/thing:pump-1", r#"{"reason": 1}"#, invalid, "reason: invalid"),
            ("POST", "/quarantine/thing:pump-1", &long, invalid, "at most 1024"),
            ("GET", "/quarantine?maxResults=0", "", invalid, "at least 1"),
            ("GET", "/quarantine?nextToken=*", "", invalid, "token"),
        ] {
            let response = host.call("gnomon", method, target, body).await;
            let json = TestHost::json(&response);
            assert_eq!(TestHost::error_type(&response), Some(exception), "{target}: {json}");
            let message = json["message"].as_str().unwrap();
            assert!(message.contains(says), "{method} {target}: {message:?} has no {says:?}");
        }
        let listed = gnomon(&host, "GET", "/quarantine", "").await;
        assert_eq!(listed, json!({"quarantine": []}));
        // Who may only look may not lift.
        let key = host.keys.create(Role::ReadOnly).await.unwrap();
        let call = async |method| {
            host.call_as(&key, "gnomon", method, "/quarantine/thing:pump-1", "").await
        };
        assert_eq!(TestHost::error_type(&call("DELETE").await), Some("AccessDeniedException"));
        assert_eq!(TestHost::error_type(&call("GET").await), Some(missing));
    }
}
