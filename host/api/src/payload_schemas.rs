//! Gnomon's own operations on the schemas that thing types have for payloads.

use crate::Services;
use crate::call::{Answer, Call, epoch_seconds};
use crate::error::{ApiError, Exception};
use crate::router::{Handlers, handlers};
use gnomon_core::ids::ThingTypeName;
use gnomon_core::payload_schema::SchemaDefinition;
use gnomon_core::registry::ThingTypeSchema;
use gnomon_core::topic::TopicFilter;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(crate) const HANDLERS: Handlers = handlers! {
    GetPayloadSchema => get;
    SetPayloadSchema => set;
    DeletePayloadSchema => delete;
};

async fn get(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    answer(&services.registry.thing_type_schema(&name(call)?).await?)
}

async fn set(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        topic_filter: Option<String>,
        schema: Option<Box<RawValue>>,
        #[serde(default)]
        enforce: bool,
    }
    let name = name(call)?;
    let Members { topic_filter, schema, enforce } = call.members()?;
    let schema = schema.ok_or_else(|| ApiError::invalid_request("schema is missing"))?;
    let topic_filter = topic_filter.as_deref().map(TopicFilter::parse).transpose();
    let definition = SchemaDefinition {
        topic_filter: topic_filter
            .map_err(|error| ApiError::invalid_request(format!("topicFilter: {error}")))?,
        schema: schema.get().to_owned(),
        enforce,
    };
    answer(&services.registry.set_thing_type_schema(&name, definition).await?)
}

async fn delete(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    services.registry.delete_thing_type_schema(&name(call)?).await?;
    Ok(Answer::empty())
}

fn name(call: &Call<'_>) -> Result<ThingTypeName, ApiError> {
    Ok(ThingTypeName::parse(call.label("thingTypeName"))?)
}

fn answer(schema: &ThingTypeSchema) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        thing_type_name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        topic_filter: Option<&'a str>,
        schema: &'a RawValue,
        enforce: bool,
        last_modified_date: f64,
    }
    let SchemaDefinition { topic_filter, schema: text, enforce } = &schema.definition;
    let raw = serde_json::from_str(text)
        .map_err(|_| ApiError::new(Exception::InternalFailure, "the schema is not JSON"))?;
    Answer::members(&Body {
        thing_type_name: schema.thing_type.as_str(),
        topic_filter: topic_filter.as_ref().map(TopicFilter::as_str),
        schema: raw,
        enforce: *enforce,
        last_modified_date: epoch_seconds(schema.modified_at),
    })
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use gnomon_core::adapter::{HttpHandler, HttpRequest};
    use gnomon_core::registry::certificate_id;
    use http::StatusCode;
    use serde_json::{Value, json};

    const PATH: &str = "/thing-types/Pump/payload-schema";

    async fn gnomon(host: &TestHost, method: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let response = host.call("gnomon", method, PATH, &body).await;
        let json = TestHost::json(&response);
        assert_eq!(TestHost::error_type(&response), None, "{method}: {json}");
        json
    }

    #[tokio::test]
    async fn a_thing_type_gets_a_schema_another_and_none() {
        let host = TestHost::new().await;
        host.iot("POST", "/thing-types/Pump", "").await;
        let full = json!({
            "topicFilter": "pumps/+/state",
            "schema": {"type": "object", "properties": {"bar": {"maximum": 16.0}}},
            "enforce": true,
        });
        let mut expected = full.clone();
        expected["thingTypeName"] = json!("Pump");
        expected["lastModifiedDate"] = json!(1_795_435_200.5);
        for _ in 0..2 {
            assert_eq!(gnomon(&host, "PUT", &full).await, expected);
        }
        assert_eq!(gnomon(&host, "GET", &Value::Null).await, expected);
        let least = json!({
            "thingTypeName": "Pump",
            "schema": true,
            "enforce": false,
            "lastModifiedDate": 1_795_435_200.5,
        });
        assert_eq!(gnomon(&host, "PUT", &json!({"schema": true})).await, least);
        for _ in 0..2 {
            gnomon(&host, "DELETE", &Value::Null).await;
        }
        let response = host.call("gnomon", "GET", PATH, "").await;
        assert_eq!(TestHost::error_type(&response), Some("ResourceNotFoundException"));
    }

    #[tokio::test]
    async fn a_device_with_a_thing_of_its_own_is_held_to_it_over_https() {
        let host = TestHost::new().await;
        let everything = r#"{"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}"#;
        let der = host.device_certificate(everything).await;
        host.iot("POST", "/thing-types/Pump", "").await;
        host.iot("POST", "/things/P1", r#"{"thingTypeName": "Pump"}"#).await;
        let schema = |enforce| json!({"schema": {"type": "number"}, "enforce": enforce});
        gnomon(&host, "PUT", &schema(true)).await;
        let publish = async |target: &str, payload: &str| {
            let request = HttpRequest {
                client_certificate: Some(der.clone()),
                ..TestHost::received("public", TestHost::request("POST", target, payload))
            };
            host.api.handle(request).await
        };
        // A certificate alone says nothing of the thing.
        assert_eq!(publish("/topics/a", "warm").await.status(), StatusCode::OK);
        let arn = format!("arn:aws:iot:us-east-1:123456789012:cert/{}", certificate_id(&der));
        let attach = "/things/P1/principals?thingPrincipalType=EXCLUSIVE_THING";
        host.iot_with("PUT", attach, &[("x-amzn-principal", &arn)]).await;
        assert_eq!(publish("/topics/a", "21.5").await.status(), StatusCode::OK);
        assert_eq!(publish("/topics/a?retain=true", "").await.status(), StatusCode::OK);
        let refused = publish("/topics/a", "warm").await;
        assert_eq!(TestHost::error_type(&refused), Some("InvalidRequestException"));
        let message = TestHost::json(&refused)["message"].to_string();
        assert!(message.contains("schema of the thing type: payload is not JSON"), "{message}");
        gnomon(&host, "PUT", &schema(false)).await;
        assert_eq!(publish("/topics/a", "warm").await.status(), StatusCode::OK);
        assert_eq!(host.metrics.payloads_mismatched.get(), 2);
    }

    #[tokio::test]
    async fn what_is_no_schema_is_refused_and_says_why() {
        let host = TestHost::new().await;
        host.iot("POST", "/thing-types/Pump", "").await;
        let (invalid, missing) = ("InvalidRequestException", "ResourceNotFoundException");
        let large = json!({"schema": {"description": "x".repeat(64 * 1_024)}}).to_string();
        let deep = format!(r#"{{"schema": {}{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
        let none = "/thing-types/None/payload-schema";
        for (method, target, body, exception, says) in [
            ("PUT", PATH, "", invalid, "schema is missing"),
            ("PUT", PATH, r#"{"schema": null}"#, invalid, "schema is missing"),
            ("PUT", PATH, r#"{"schema": {"type": "objekt"}}"#, invalid, "wrong at \"/type\""),
            ("PUT", PATH, r#"{"schema": [1]}"#, invalid, "the schema is wrong"),
            ("PUT", PATH, r#"{"schema": {"$ref": "http://a/b"}}"#, invalid, "into the schema"),
            ("PUT", PATH, r##"{"schema": {"$ref": "#"}}"##, invalid, "leads back to itself"),
            ("PUT", PATH, r#"{"schema": true, "topicFilter": "a/#/b"}"#, invalid, "topicFilter"),
            ("PUT", PATH, r#"{"schema": true, "topicFilter": ""}"#, invalid, "topicFilter"),
            ("PUT", PATH, r#"{"schema": true, "enforce": 1}"#, invalid, "enforce: invalid type"),
            ("PUT", PATH, &large, invalid, "at most 65536"),
            ("PUT", PATH, &deep, invalid, "recursion limit"),
            ("PUT", PATH, "{", invalid, "EOF"),
            ("PUT", none, r#"{"schema": true}"#, missing, "thing type None does not exist"),
            ("GET", none, "", missing, "thing type None does not exist"),
            ("DELETE", none, "", missing, "thing type None does not exist"),
            ("GET", PATH, "", missing, "has no schema of payloads"),
            ("GET", "/thing-types/a%20b/payload-schema", "", invalid, "thing type name"),
        ] {
            let response = host.call("gnomon", method, target, body).await;
            let json = TestHost::json(&response);
            assert_eq!(TestHost::error_type(&response), Some(exception), "{body:.99}: {json}");
            let message = json["message"].as_str().unwrap();
            assert!(message.contains(says), "{body:.99}: {message:?} has no {says:?}");
        }
    }
}
