//! Custom authorizers: create, describe, update, delete, list, the default one, and a test of what
//! one answers.

use crate::Services;
use crate::call::{Answer, Call, encode_token, epoch_seconds};
use crate::error::{ApiError, Exception};
use crate::iot::tags::{self, TagBody};
use crate::router::{Handlers, handlers};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gnomon_core::auth::{AuthorizerTest, AuthorizerTestError, Credentials};
use gnomon_core::ids::{AuthorizerName, ClientId, TokenKeyName};
use gnomon_core::registry::{
    AuthorizerDefinition, AuthorizerFunction, AuthorizerSettings, AuthorizerStatus,
    AuthorizerUpdate, Registry, TokenKeys,
};
use http::Request;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const HANDLERS: Handlers = handlers! {
    CreateAuthorizer => create;
    DescribeAuthorizer => describe;
    UpdateAuthorizer => update;
    DeleteAuthorizer => delete;
    ListAuthorizers => list;
    SetDefaultAuthorizer => set_default;
    DescribeDefaultAuthorizer => describe_default;
    ClearDefaultAuthorizer => clear_default;
    TestInvokeAuthorizer => test_invoke;
};

/// Longest token. Source: `Token` of AWS IoT's API reference, in characters.
const TOKEN_BYTES_MAX: usize = 6_144;

/// Name and ARN: what most operations answer, and an item of a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    authorizer_name: String,
    authorizer_arn: String,
}

impl Summary {
    fn new(name: &AuthorizerName, registry: &Registry) -> Self {
        Self { authorizer_name: name.to_string(), authorizer_arn: registry.authorizer_arn(name) }
    }
}

/// The members of CreateAuthorizer. UpdateAuthorizer has all but the last two, and ignores those. Not
/// flattened from two structs: then errors would not name the member.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    authorizer_function_arn: Option<String>,
    token_key_name: Option<String>,
    token_signing_public_keys: Option<BTreeMap<String, String>>,
    status: Option<String>,
    enable_caching_for_http: Option<bool>,
    signing_disabled: Option<bool>,
    #[serde(default)]
    tags: Vec<TagBody>,
}

impl Members {
    fn parse(self) -> Result<AuthorizerUpdate, ApiError> {
        let function = self.authorizer_function_arn.as_deref().map(AuthorizerFunction::parse);
        let status = self.status.as_deref().map(AuthorizerStatus::parse);
        Ok(AuthorizerUpdate {
            function: function.transpose()?,
            token_key_name: self.token_key_name.as_deref().map(TokenKeyName::parse).transpose()?,
            token_keys: self.token_signing_public_keys.map(TokenKeys::parse).transpose()?,
            status: status.transpose()?,
            caches_http: self.enable_caching_for_http,
        })
    }
}

async fn create(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let name = name(call)?;
    let mut members: Members = call.members()?;
    let tags = tags::parse(std::mem::take(&mut members.tags))?;
    let signing_disabled = members.signing_disabled.unwrap_or(false);
    let AuthorizerUpdate { function, token_key_name, token_keys, status, caches_http } =
        members.parse()?;
    let settings = AuthorizerSettings {
        function: function
            .ok_or_else(|| ApiError::invalid_request("give authorizerFunctionArn"))?,
        token_key_name,
        token_keys: token_keys.unwrap_or_default(),
        signing_disabled,
        // AWS does not say which it is.
        status: status.unwrap_or(AuthorizerStatus::Active),
        caches_http: caches_http.unwrap_or(false),
    };
    services.registry.create_authorizer(&name, settings).await?;
    services.registry.tag(&resource(&name), &tags).await?;
    Answer::members(&Summary::new(&name, &services.registry))
}

async fn describe(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    description(&services.registry.describe_authorizer(&name(call)?).await?, &services.registry)
}

async fn update(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let name = name(call)?;
    let update = call.members::<Members>()?.parse()?;
    services.registry.update_authorizer(&name, update).await?;
    Answer::members(&Summary::new(&name, &services.registry))
}

async fn delete(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let name = name(call)?;
    services.registry.delete_authorizer(&name).await?;
    services.registry.forget_tags(&resource(&name)).await?;
    Ok(Answer::empty())
}

async fn list(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        authorizers: Vec<Summary>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_marker: Option<String>,
    }
    let page = call.page("pageSize", "marker")?;
    let status = call.query("status")?.map(AuthorizerStatus::parse).transpose()?;
    let is_ascending = call.query_as("isAscendingOrder")?.unwrap_or(true);
    let registry = &services.registry;
    let found = registry.list_authorizers(status, is_ascending, page.request()).await?;
    Answer::members(&Body {
        authorizers: found.items.iter().map(|it| Summary::new(&it.name, registry)).collect(),
        next_marker: found.next.as_deref().map(encode_token),
    })
}

async fn set_default(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        authorizer_name: String,
    }
    let name = AuthorizerName::parse(&call.members::<Members>()?.authorizer_name)?;
    services.registry.set_default_authorizer(&name).await?;
    Answer::members(&Summary::new(&name, &services.registry))
}

async fn describe_default(services: &Services, _: &Call<'_>) -> Result<Answer, ApiError> {
    description(&services.registry.describe_default_authorizer().await?, &services.registry)
}

async fn clear_default(services: &Services, _: &Call<'_>) -> Result<Answer, ApiError> {
    services.registry.clear_default_authorizer().await?;
    Ok(Answer::empty())
}

fn description(authorizer: &AuthorizerDefinition, registry: &Registry) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        authorizer_description: Description<'a>,
    }
    /// AWS: `AuthorizerDescription`.
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Description<'a> {
        #[serde(flatten)]
        summary: Summary,
        authorizer_function_arn: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        token_key_name: Option<&'a str>,
        token_signing_public_keys: BTreeMap<&'a str, &'a str>,
        status: &'static str,
        creation_date: f64,
        last_modified_date: f64,
        signing_disabled: bool,
        enable_caching_for_http: bool,
    }
    let AuthorizerDefinition { name, settings, created_at, modified_at } = authorizer;
    Answer::members(&Body {
        authorizer_description: Description {
            summary: Summary::new(name, registry),
            authorizer_function_arn: settings.function.arn(),
            token_key_name: settings.token_key_name.as_ref().map(TokenKeyName::as_str),
            token_signing_public_keys: settings.token_keys.iter().collect(),
            status: settings.status.as_str(),
            creation_date: epoch_seconds(*created_at),
            last_modified_date: epoch_seconds(*modified_at),
            signing_disabled: settings.signing_disabled,
            enable_caching_for_http: settings.caches_http,
        },
    })
}

/// What a client would present.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Presented {
    token: Option<String>,
    token_signature: Option<String>,
    http_context: Option<HttpContext>,
    mqtt_context: Option<MqttContext>,
    tls_context: Option<TlsContext>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpContext {
    #[serde(default)]
    headers: BTreeMap<String, String>,
    query_string: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MqttContext {
    username: Option<String>,
    /// In base64.
    password: Option<String>,
    client_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TlsContext {
    server_name: Option<String>,
}

impl Presented {
    fn parse(self) -> Result<AuthorizerTest, ApiError> {
        let Self { token, token_signature, http_context, mqtt_context, tls_context } = self;
        if token.as_ref().is_some_and(|token| token.len() > TOKEN_BYTES_MAX) {
            let message = format!("token has more than {TOKEN_BYTES_MAX} bytes");
            return Err(ApiError::invalid_request(message));
        }
        let mqtt =
            mqtt_context.unwrap_or(MqttContext { username: None, password: None, client_id: None });
        let password = mqtt.password.map(|password| STANDARD.decode(password)).transpose();
        let password = password.map_err(|error| {
            ApiError::invalid_request(format!("mqttContext.password is not base64: {error}"))
        })?;
        Ok(AuthorizerTest {
            credentials: Credentials {
                connection_id: 0,
                peer: ([127, 0, 0, 1], 0).into(),
                listener: "test".into(),
                anonymous_policy: None,
                server_name: tls_context.and_then(|tls| tls.server_name).map(Into::into),
                certificate: None,
                http: http_context.map(HttpContext::parse).transpose()?,
                client_id: mqtt.client_id.as_deref().map(ClientId::parse).transpose()?,
                username: mqtt.username.map(Into::into),
                password: password.map(Into::into),
                has_will: false,
                is_persistent: false,
            },
            token,
            signature: token_signature,
        })
    }
}

impl HttpContext {
    fn parse(self) -> Result<Arc<http::request::Parts>, ApiError> {
        let query = self.query_string.unwrap_or_default();
        let query = query.strip_prefix('?').unwrap_or(&query);
        let mut request = Request::get(format!("/?{query}"));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let (parts, ()) = request
            .body(())
            .map_err(|error| {
                ApiError::invalid_request(format!("httpContext is no HTTP request: {error}"))
            })?
            .into_parts();
        Ok(Arc::new(parts))
    }
}

async fn test_invoke(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        is_authenticated: bool,
        #[serde(skip_serializing_if = "String::is_empty")]
        principal_id: String,
        policy_documents: Vec<String>,
        refresh_after_in_seconds: u32,
        disconnect_after_in_seconds: u32,
    }
    let name = name(call)?;
    let test = call.members::<Presented>()?.parse()?;
    let answer = services.authenticator.test_authorizer(&name, &test).await?;
    Answer::members(&Body {
        is_authenticated: answer.is_authenticated,
        principal_id: answer.principal_id,
        policy_documents: answer.policy_documents,
        refresh_after_in_seconds: answer.refresh_after_s,
        disconnect_after_in_seconds: answer.disconnect_after_s,
    })
}

impl From<AuthorizerTestError> for ApiError {
    fn from(error: AuthorizerTestError) -> Self {
        match error {
            AuthorizerTestError::Registry(error) => error.into(),
            AuthorizerTestError::Refused(message) => Self::invalid_request(message),
            AuthorizerTestError::Response(message) => {
                Self::new(Exception::InvalidResponse, message)
            }
        }
    }
}

fn name(call: &Call<'_>) -> Result<AuthorizerName, ApiError> {
    Ok(AuthorizerName::parse(call.label("authorizerName"))?)
}

/// As tags call it.
fn resource(name: &AuthorizerName) -> String {
    format!("authorizer/{name}")
}

#[cfg(test)]
mod tests;
