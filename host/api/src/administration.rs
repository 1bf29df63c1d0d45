//! Gnomon's own operations (scope `gnomon`): access keys. The names are those of AWS IAM.

use crate::Services;
use crate::call::{Answer, Call, epoch_seconds};
use crate::error::{ApiError, Exception};
use crate::keys::{AccessKey, KeyError, Role, Status};
use crate::router::{Handlers, handlers};
use serde::{Deserialize, Serialize};

pub(crate) const HANDLERS: Handlers = handlers! {
    CreateAccessKey => create_access_key;
    ListAccessKeys => list_access_keys;
    UpdateAccessKey => update_access_key;
    DeleteAccessKey => delete_access_key;
};

async fn create_access_key(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Members {
        role: Role,
    }
    let Members { role } = call.members()?;
    let key = services.keys.create(role).await?;
    tracing::info!(principal = call.caller.access_key_id, key = key.id, %role, "access key made");
    Answer::members(&AccessKeyBody { secret_access_key: Some(&key.secret), ..(&key).into() })
}

async fn list_access_keys(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        access_keys: Vec<AccessKeyBody<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let page = call.page("maxResults", "nextToken")?;
    let keys = services.keys.list(page.after.as_deref(), page.limit).await?;
    let next_token = page.next_token(keys.len(), keys.last().map(|key| key.id.as_str()));
    Answer::members(&Body { access_keys: keys.iter().map(Into::into).collect(), next_token })
}

async fn update_access_key(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    struct Members {
        status: Status,
    }
    let Members { status } = call.members()?;
    let id = another_key(call)?;
    match services.keys.set_status(id, status).await? {
        true => Ok(Answer::empty()),
        false => Err(no_such_key(id)),
    }
}

async fn delete_access_key(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let id = another_key(call)?;
    match services.keys.delete(id).await? {
        true => Ok(Answer::empty()),
        false => Err(no_such_key(id)),
    }
}

/// The key that is to change. It cannot be the caller's own: so one administrator always remains.
fn another_key<'a>(call: &'a Call<'_>) -> Result<&'a str, ApiError> {
    let id = call.label("accessKeyId");
    if id == call.caller.access_key_id {
        return Err(ApiError::invalid_request(
            "a key cannot remove or deactivate itself; sign with another administrator's key",
        ));
    }
    Ok(id)
}

fn no_such_key(id: &str) -> ApiError {
    ApiError::not_found(format!("no access key has the id {id}"))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccessKeyBody<'a> {
    access_key_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_access_key: Option<&'a str>,
    role: Role,
    status: Status,
    create_date: f64,
}

impl<'a> From<&'a AccessKey> for AccessKeyBody<'a> {
    fn from(key: &'a AccessKey) -> Self {
        Self {
            access_key_id: &key.id,
            secret_access_key: None,
            role: key.role,
            status: key.status,
            create_date: epoch_seconds(key.created_at),
        }
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Store(error) => error.into(),
            KeyError::Record { .. } => {
                tracing::error!(error = %error, "access key not readable");
                Self::new(Exception::InternalFailure, error.to_string())
            }
        }
    }
}
