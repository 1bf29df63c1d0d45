//! Principals of things: which certificates speak for a thing.

use crate::Services;
use crate::call::{Answer, Call, encode_token};
use crate::error::ApiError;
use crate::iot::policies::{arns, principal_header};
use crate::iot::things::thing_name;
use crate::router::{Handlers, handlers};
use gnomon_core::registry::ThingPrincipalType;
use serde::Serialize;

pub(crate) const HANDLERS: Handlers = handlers! {
    AttachThingPrincipal => attach_thing_principal;
    DetachThingPrincipal => detach_thing_principal;
    ListThingPrincipals => list_thing_principals;
    ListThingPrincipalsV2 => list_thing_principals_v2;
    ListPrincipalThings => list_principal_things;
    ListPrincipalThingsV2 => list_principal_things_v2;
};

const PRINCIPAL_HEADER: &str = "x-amzn-principal";

async fn attach_thing_principal(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let principal = principal_header(services, call, PRINCIPAL_HEADER)?;
    let (thing, registry) = (thing_name(call)?, &services.registry);
    match principal_type(call)? {
        Some(wanted) => registry.attach_thing_principal_as(&thing, &principal, wanted).await?,
        None => registry.attach_thing_principal(&thing, &principal).await?,
    }
    Ok(Answer::empty())
}

async fn detach_thing_principal(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let principal = principal_header(services, call, PRINCIPAL_HEADER)?;
    services.registry.detach_thing_principal(&thing_name(call)?, &principal).await?;
    Ok(Answer::empty())
}

async fn list_thing_principals(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        principals: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let page = call.page("maxResults", "nextToken")?;
    let found = services.registry.list_thing_principals(&thing_name(call)?, page.request()).await?;
    let (principals, next_token) = arns(services, &found);
    Answer::members(&Body { principals, next_token })
}

async fn list_thing_principals_v2(
    services: &Services,
    call: &Call<'_>,
) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ThingPrincipal {
        principal: String,
        thing_principal_type: &'static str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        thing_principal_objects: Vec<ThingPrincipal>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let (page, wanted) = (call.page("maxResults", "nextToken")?, principal_type(call)?);
    let registry = &services.registry;
    let found =
        registry.list_typed_thing_principals(&thing_name(call)?, wanted, page.request()).await?;
    let objects = found.items.iter().map(|(id, of_type)| ThingPrincipal {
        principal: registry.certificate_arn(id),
        thing_principal_type: of_type.as_str(),
    });
    Answer::members(&Body {
        thing_principal_objects: objects.collect(),
        next_token: found.next.as_deref().map(encode_token),
    })
}

async fn list_principal_things(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        things: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let principal = principal_header(services, call, PRINCIPAL_HEADER)?;
    let page = call.page("maxResults", "nextToken")?;
    let found = services.registry.list_principal_things(&principal, page.request()).await?;
    let things = found.items.iter().map(|name| name.as_str().to_owned()).collect();
    Answer::members(&Body { things, next_token: found.next.as_deref().map(encode_token) })
}

async fn list_principal_things_v2(
    services: &Services,
    call: &Call<'_>,
) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct PrincipalThing {
        thing_name: String,
        thing_principal_type: &'static str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        principal_thing_objects: Vec<PrincipalThing>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let principal = principal_header(services, call, PRINCIPAL_HEADER)?;
    let (page, wanted) = (call.page("maxResults", "nextToken")?, principal_type(call)?);
    let registry = &services.registry;
    let found = registry.list_typed_principal_things(&principal, wanted, page.request()).await?;
    let objects = found.items.iter().map(|(name, of_type)| PrincipalThing {
        thing_name: name.as_str().to_owned(),
        thing_principal_type: of_type.as_str(),
    });
    Answer::members(&Body {
        principal_thing_objects: objects.collect(),
        next_token: found.next.as_deref().map(encode_token),
    })
}

fn principal_type(call: &Call<'_>) -> Result<Option<ThingPrincipalType>, ApiError> {
    Ok(call.query("thingPrincipalType")?.map(ThingPrincipalType::parse).transpose()?)
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use serde_json::json;

    #[tokio::test]
    async fn a_principal_is_attached_found_from_both_sides_and_detached() {
        let host = TestHost::new().await;
        host.iot("POST", "/things/Lamp", "").await;
        let made = host.iot("POST", "/keys-and-certificate", "").await;
        let arn = made["certificateArn"].as_str().unwrap();
        let principal = [("x-amzn-principal", arn)];
        host.iot_with("PUT", "/things/Lamp/principals", &principal).await;
        let listed = host.iot("GET", "/things/Lamp/principals", "").await;
        assert_eq!(listed, json!({"principals": [arn]}));
        let things = host.iot_with("GET", "/principals/things", &principal).await;
        assert_eq!(things, json!({"things": ["Lamp"]}));
        let kind = "NON_EXCLUSIVE_THING";
        assert_eq!(
            host.iot("GET", "/things/Lamp/principals-v2", "").await,
            json!({"thingPrincipalObjects": [{"principal": arn, "thingPrincipalType": kind}]})
        );
        assert_eq!(
            host.iot_with("GET", "/principals/things-v2", &principal).await,
            json!({"principalThingObjects": [{"thingName": "Lamp", "thingPrincipalType": kind}]})
        );
        let exclusive = "/things/Lamp/principals-v2?thingPrincipalType=EXCLUSIVE_THING";
        let none = host.iot("GET", exclusive, "").await;
        assert_eq!(none, json!({"thingPrincipalObjects": []}));
        host.check_refused("DELETE", "/things/Lamp", "", "InvalidRequestException", "principals")
            .await;
        host.iot_with("DELETE", "/things/Lamp/principals", &principal).await;
        host.iot("DELETE", "/things/Lamp", "").await;
    }

    #[tokio::test]
    async fn an_exclusive_principal_is_shown_as_one_and_has_one_thing() {
        let host = TestHost::new().await;
        let made = host.iot("POST", "/keys-and-certificate", "").await;
        let arn = made["certificateArn"].as_str().unwrap();
        let principal = [("x-amzn-principal", arn)];
        for thing in ["/things/Lamp", "/things/Fan"] {
            host.iot("POST", thing, "").await;
        }
        let kind = "EXCLUSIVE_THING";
        let attach = "/things/Lamp/principals?thingPrincipalType=EXCLUSIVE_THING";
        host.iot_with("PUT", attach, &principal).await;
        let principals = json!([{"principal": arn, "thingPrincipalType": kind}]);
        let things = json!([{"thingName": "Lamp", "thingPrincipalType": kind}]);
        for (query, shows) in [
            ("", true),
            ("?thingPrincipalType=EXCLUSIVE_THING", true),
            ("?thingPrincipalType=NON_EXCLUSIVE_THING", false),
        ] {
            let shown =
                |objects: &serde_json::Value| if shows { objects.clone() } else { json!([]) };
            let listed = host.iot("GET", &format!("/things/Lamp/principals-v2{query}"), "").await;
            assert_eq!(listed, json!({"thingPrincipalObjects": shown(&principals)}));
            let target = format!("/principals/things-v2{query}");
            let listed = host.iot_with("GET", &target, &principal).await;
            assert_eq!(listed, json!({"principalThingObjects": shown(&things)}));
        }
        for (method, target) in [
            ("PUT", "/things/Fan/principals"),
            ("PUT", "/things/Lamp/principals?thingPrincipalType=NON_EXCLUSIVE_THING"),
            ("PUT", "/things/Lamp/principals?thingPrincipalType=exclusive"),
        ] {
            let mut request = TestHost::request(method, target, "");
            request.headers_mut().insert("x-amzn-principal", arn.parse().unwrap());
            host.sign(&mut request, &host.key, "iot");
            let response = host.send(request).await;
            assert_eq!(
                TestHost::error_type(&response),
                Some("InvalidRequestException"),
                "{target}"
            );
        }
        let wrong = "/things/Lamp/principals-v2?thingPrincipalType=ANY";
        let says = "must be EXCLUSIVE_THING or NON_EXCLUSIVE_THING";
        host.check_refused("GET", wrong, "", "InvalidRequestException", says).await;
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_principal_is_said() {
        let host = TestHost::new().await;
        host.check_refused(
            "PUT",
            "/things/Lamp/principals",
            "",
            "InvalidRequestException",
            "the header x-amzn-principal is missing",
        )
        .await;
        host.check_refused(
            "GET",
            "/things/Lamp/principals",
            "",
            "ResourceNotFoundException",
            "thing Lamp does not exist",
        )
        .await;
    }
}
