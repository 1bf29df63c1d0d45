//! Shadows over HTTP; what happens is the same as over MQTT, but the answer comes back here.

use crate::Services;
use crate::call::{Answer, Call};
use crate::error::{ApiError, Exception};
use crate::router::{Handlers, handlers};
use gnomon_core::ids::{ShadowName, ThingName};
use gnomon_core::policy::{Action, Resource};
use gnomon_core::shadow::{ShadowError, ShadowId};
use serde::Serialize;

pub(crate) const HANDLERS: Handlers = handlers! {
    GetThingShadow => get;
    UpdateThingShadow => update;
    DeleteThingShadow => delete;
    ListNamedShadowsForThing => list_named;
};

async fn get(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let id = shadow(call, Action::GetThingShadow)?;
    Ok(Answer::body(services.shadows.get(id).await?, "application/json"))
}

async fn update(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let id = shadow(call, Action::UpdateThingShadow)?;
    let accepted = services.shadows.update(id, call.body.clone()).await?;
    Ok(Answer::body(accepted, "application/json"))
}

async fn delete(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let id = shadow(call, Action::DeleteThingShadow)?;
    Ok(Answer::body(services.shadows.delete(id).await?, "application/json"))
}

async fn list_named(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        results: Vec<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
        timestamp: u64,
    }
    let thing = ThingName::parse(call.label("thingName"))?;
    let resource = Resource::Thing(thing.as_str(), None);
    call.caller.check(Action::ListNamedShadowsForThing, resource)?;
    let page = call.page("pageSize", "nextToken")?;
    let names = services.shadows.list_named(&thing, page.after.as_deref(), page.limit).await?;
    let next_token = page.next_token(names.len(), names.last().map(ShadowName::as_str));
    Answer::members(&Body {
        results: names.iter().map(ShadowName::as_str).collect(),
        next_token,
        timestamp: services.clock.wall().as_secs(),
    })
}

/// The shadow that is meant, when the caller may do this to it.
fn shadow(call: &Call<'_>, action: Action) -> Result<ShadowId, ApiError> {
    let thing = ThingName::parse(call.label("thingName"))?;
    let name = call.query("name")?.map(ShadowName::parse).transpose()?;
    let resource = Resource::Thing(thing.as_str(), name.as_ref().map(ShadowName::as_str));
    call.caller.check(action, resource)?;
    Ok(ShadowId { thing, name })
}

impl From<ShadowError> for ApiError {
    fn from(error: ShadowError) -> Self {
        let exception = match error.code() {
            404 => Exception::ResourceNotFound,
            409 => Exception::Conflict,
            413 => Exception::RequestEntityTooLarge,
            415 => Exception::UnsupportedDocumentEncoding,
            429 => Exception::Throttling,
            500 => Exception::InternalFailure,
            _ => Exception::InvalidRequest,
        };
        Self::new(exception, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use serde_json::json;

    const LAMP: &str = "/things/Lamp/shadow";

    #[tokio::test]
    async fn a_shadow_is_written_read_and_deleted() {
        let host = TestHost::new().await;
        let call = async |method, target, body| {
            TestHost::json(&host.call("iotdata", method, target, body).await)
        };
        let written =
            call("POST", LAMP, r#"{"state": {"desired": {"on": true}}, "clientToken": "t"}"#).await;
        assert_eq!((&written["version"], &written["clientToken"]), (&json!(1), &json!("t")));
        let read = call("GET", LAMP, "").await;
        assert_eq!(read["state"], json!({"desired": {"on": true}, "delta": {"on": true}}));
        let deleted = call("DELETE", LAMP, "").await;
        assert_eq!(deleted["version"], 1);
        let gone = host.call("iotdata", "GET", LAMP, "").await;
        assert_eq!(gone.status(), 404);
        assert_eq!(TestHost::error_type(&gone), Some("ResourceNotFoundException"));
        assert_eq!(TestHost::json(&gone), json!({"message": "No shadow exists with name: 'Lamp'"}));
    }

    #[tokio::test]
    async fn a_wrong_request_is_answered_in_the_terms_of_http() {
        let host = TestHost::new().await;
        let large = format!(r#"{{"state": {{"desired": {{"a": "{}"}}}}}}"#, "x".repeat(8_192));
        for (target, body, expected) in [
            (LAMP, "{", (400, "InvalidRequestException")),
            (LAMP, "{}", (400, "InvalidRequestException")),
            (LAMP, r#"{"state": {}, "version": 7}"#, (409, "ConflictException")),
            (LAMP, &large, (413, "RequestEntityTooLargeException")),
            ("/things/La%20mp/shadow", "{}", (400, "InvalidRequestException")),
            ("/things/Lamp/shadow?name=a%2Fb", "{}", (400, "InvalidRequestException")),
        ] {
            let response = host.call("iotdata", "POST", target, body).await;
            let answer = (response.status().as_u16(), TestHost::error_type(&response).unwrap());
            assert_eq!(answer, expected, "{target} {body:.40}");
        }
    }

    #[tokio::test]
    async fn named_shadows_are_listed_page_by_page_without_the_deleted_ones() {
        let host = TestHost::new().await;
        let named = |name| format!("{LAMP}?name={name}");
        let state = r#"{"state": {"reported": {"a": 1}}}"#;
        for target in ["a", "b", "c", "d"].map(named).iter().chain([&LAMP.to_owned()]) {
            let response = host.call("iotdata", "POST", target, state).await;
            assert_eq!(TestHost::error_type(&response), None, "{target}");
        }
        // A thing whose name begins alike is another one.
        host.call("iotdata", "POST", "/things/Lamp2/shadow?name=e", state).await;
        host.call("iotdata", "DELETE", &named("b"), "").await;

        let list = "/api/things/shadow/ListNamedShadowsForThing/Lamp";
        let whole = TestHost::json(&host.call("iotdata", "GET", list, "").await);
        assert_eq!(whole, json!({"results": ["a", "c", "d"], "timestamp": 1_795_435_200}));
        let (mut names, mut target) = (Vec::new(), format!("{list}?pageSize=2"));
        loop {
            let page = TestHost::json(&host.call("iotdata", "GET", &target, "").await);
            names.extend(page["results"].as_array().unwrap().clone());
            let Some(token) = page["nextToken"].as_str() else { break };
            target = format!("{list}?pageSize=2&nextToken={token}");
        }
        assert_eq!(names, ["a", "c", "d"]);
    }

    #[tokio::test]
    async fn a_thing_without_named_shadows_has_an_empty_list() {
        let host = TestHost::new().await;
        let list = "/api/things/shadow/ListNamedShadowsForThing/Lamp";
        for _ in 0..2 {
            let answer = TestHost::json(&host.call("iotdata", "GET", list, "").await);
            assert_eq!(answer["results"], json!([]));
            host.call("iotdata", "POST", LAMP, r#"{"state": {"reported": {"a": 1}}}"#).await;
        }
    }
}
