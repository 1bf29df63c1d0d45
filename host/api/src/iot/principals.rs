//! Principals of things: which certificates speak for a thing.
//!
//! An attachment that excludes others (`EXCLUSIVE_THING`) is refused: it does not exist here yet.

use crate::Services;
use crate::call::{Answer, Call, encode_token};
use crate::error::ApiError;
use crate::iot::policies::{arns, principal_header};
use crate::iot::things::thing_name;
use crate::router::{Handlers, handlers};
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

/// The only type of attachment so far.
const NON_EXCLUSIVE: &str = "NON_EXCLUSIVE_THING";

async fn attach_thing_principal(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let principal = principal_header(services, call, PRINCIPAL_HEADER)?;
    if wants_exclusive(call)? {
        return Err(ApiError::invalid_request(
            "thingPrincipalType EXCLUSIVE_THING is not supported by this host",
        ));
    }
    services.registry.attach_thing_principal(&thing_name(call)?, &principal).await?;
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
    let (principals, next_token) = thing_principals(services, call).await?;
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
    let (mut principals, mut next_token) = thing_principals(services, call).await?;
    if wants_exclusive(call)? {
        (principals, next_token) = (Vec::new(), None);
    }
    let object = |principal| ThingPrincipal { principal, thing_principal_type: NON_EXCLUSIVE };
    let thing_principal_objects = principals.into_iter().map(object).collect();
    Answer::members(&Body { thing_principal_objects, next_token })
}

async fn list_principal_things(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        things: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let (things, next_token) = principal_things(services, call).await?;
    Answer::members(&Body { things, next_token })
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
    let (mut things, mut next_token) = principal_things(services, call).await?;
    if wants_exclusive(call)? {
        (things, next_token) = (Vec::new(), None);
    }
    let object = |thing_name| PrincipalThing { thing_name, thing_principal_type: NON_EXCLUSIVE };
    let principal_thing_objects = things.into_iter().map(object).collect();
    Answer::members(&Body { principal_thing_objects, next_token })
}

async fn thing_principals(
    services: &Services,
    call: &Call<'_>,
) -> Result<(Vec<String>, Option<String>), ApiError> {
    let page = call.page("maxResults", "nextToken")?;
    let found = services.registry.list_thing_principals(&thing_name(call)?, page.request()).await?;
    Ok(arns(services, &found))
}

async fn principal_things(
    services: &Services,
    call: &Call<'_>,
) -> Result<(Vec<String>, Option<String>), ApiError> {
    let principal = principal_header(services, call, PRINCIPAL_HEADER)?;
    let page = call.page("maxResults", "nextToken")?;
    let found = services.registry.list_principal_things(&principal, page.request()).await?;
    let things = found.items.iter().map(|name| name.as_str().to_owned()).collect();
    Ok((things, found.next.as_deref().map(encode_token)))
}

fn wants_exclusive(call: &Call<'_>) -> Result<bool, ApiError> {
    match call.query("thingPrincipalType")? {
        None | Some(NON_EXCLUSIVE) => Ok(false),
        Some("EXCLUSIVE_THING") => Ok(true),
        Some(_) => Err(ApiError::invalid_request(
            "thingPrincipalType must be EXCLUSIVE_THING or NON_EXCLUSIVE_THING",
        )),
    }
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
