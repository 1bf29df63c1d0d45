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
    tracing::info!(principal = call.caller.name(), key = key.id, %role, "access key made");
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
    if id == call.caller.name() {
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

#[cfg(test)]
mod tests {
    use crate::keys::{AccessKey, Role, Status};
    use crate::test_host::TestHost;
    use gnomon_core::time::Timestamp;
    use http::StatusCode;
    use serde_json::json;

    #[tokio::test]
    async fn a_key_is_made_shown_once_deactivated_and_removed() {
        let host = TestHost::new().await;
        let response = host.call("gnomon", "POST", "/keys", r#"{"role": "operator"}"#).await;
        let made = TestHost::json(&response);
        let id = made["accessKeyId"].as_str().unwrap().to_owned();
        assert!(id.len() == 20 && id.starts_with("AKIA"), "{id}");
        let secret = made["secretAccessKey"].as_str().unwrap().to_owned();
        assert_eq!(secret.len(), 40);

        let listed = TestHost::json(&host.call("gnomon", "GET", "/keys", "").await);
        let mine =
            listed["accessKeys"].as_array().unwrap().iter().find(|k| k["accessKeyId"] == *id);
        assert_eq!(
            mine,
            Some(&json!({
                "accessKeyId": id,
                "role": "operator",
                "status": "Active",
                "createDate": 1_795_435_200.5,
            }))
        );

        let key = AccessKey {
            id: id.clone(),
            secret,
            role: Role::Operator,
            status: Status::Active,
            created_at: Timestamp::default(),
        };
        let call = || host.call_as(&key, "iot", "GET", "/endpoint", "");
        assert_eq!(call().await.status(), StatusCode::OK);
        let target = format!("/keys/{id}");
        let off = host.call("gnomon", "PATCH", &target, r#"{"status": "Inactive"}"#).await;
        assert_eq!(off.status(), StatusCode::OK);
        assert_eq!(call().await.status(), StatusCode::FORBIDDEN);
        assert_eq!(host.call("gnomon", "DELETE", &target, "").await.status(), StatusCode::OK);
        let again = host.call("gnomon", "DELETE", &target, "").await;
        assert_eq!(again.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn keys_are_listed_page_by_page() {
        let host = TestHost::new().await;
        for _ in 0..4 {
            host.keys.create(Role::ReadOnly).await.unwrap();
        }
        let (mut ids, mut target) = (Vec::new(), "/keys?maxResults=2".to_owned());
        loop {
            let page = TestHost::json(&host.call("gnomon", "GET", &target, "").await);
            let keys = page["accessKeys"].as_array().unwrap();
            assert!(keys.len() <= 2);
            ids.extend(keys.iter().map(|key| key["accessKeyId"].as_str().unwrap().to_owned()));
            let Some(token) = page["nextToken"].as_str() else { break };
            target = format!("/keys?maxResults=2&nextToken={token}");
        }
        assert_eq!(ids.len(), 5);
        assert!(ids.is_sorted());
    }

    #[tokio::test]
    async fn a_key_cannot_shut_itself_out() {
        let host = TestHost::new().await;
        let target = format!("/keys/{}", host.key.id);
        let response = host.call("gnomon", "DELETE", &target, "").await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(host.call("gnomon", "GET", "/keys", "").await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_role_that_does_not_exist_is_named_with_those_that_do() {
        let host = TestHost::new().await;
        let response = host.call("gnomon", "POST", "/keys", r#"{"role": "root"}"#).await;
        assert_eq!(TestHost::error_type(&response), Some("InvalidRequestException"));
        assert_eq!(
            TestHost::json(&response)["message"],
            "role: unknown variant `root`, expected one of `administrator`, `operator`, \
             `read-only` at line 1 column 15"
        );
    }
}
