//! Who signed a request: the claim of [`crate::sigv4`] checked against the key of [`crate::keys`].
//!
//! In: a REST request, or the upgrade request of MQTT over WebSocket. Out: the access key and the
//! scope it signed for. Not here: what the key's role may do over REST (`Api`).

use crate::error::{ApiError, Exception};
use crate::keys::{AccessKey, Keys, Role, Status};
use crate::sigv4::{Claim, Scope};
use async_trait::async_trait;
use gnomon_core::auth::{Authorizer, AuthorizerRequest, AuthorizerResponse};
use gnomon_core::time::Clock;
use http::request::Parts;
use std::sync::Arc;

/// Service that signatures of MQTT over WebSocket are scoped to.
const WEBSOCKET_SERVICE: &str = "iotdevicegateway";

/// Longest life of such a connection: then the client has to show that its key is still good.
/// Source: quotas of AWS IoT Core, "WebSocket connection duration" (24 hours).
const CONNECTION_S: u32 = 24 * 3_600;

/// Checks signatures; clones share the keys.
#[derive(Clone)]
pub struct Signatures {
    keys: Keys,
    clock: Arc<dyn Clock>,
    region: Arc<str>,
}

impl Signatures {
    /// Accepts the keys in `keys`, for `region` only.
    pub fn new(keys: Keys, clock: Arc<dyn Clock>, region: Arc<str>) -> Self {
        Self { keys, clock, region }
    }

    /// The active key that proved to have signed the request, and for what.
    ///
    /// # Errors
    /// `MissingAuthenticationToken` when there is no signature, else what is wrong with it.
    pub(crate) async fn check(
        &self,
        parts: &Parts,
        body: &[u8],
    ) -> Result<(AccessKey, Scope), ApiError> {
        let claim = Claim::read(parts)?;
        let key = self.keys.get(&claim.access_key_id).await?;
        let Some(key) = key.filter(|key| key.status == Status::Active) else {
            return Err(ApiError::new(
                Exception::UnrecognizedClient,
                "the access key id is not an active key of this host; list them with \
                 `gnomon key list`",
            ));
        };
        claim.verify(parts, body, &key.secret, self.clock.wall())?;
        if *claim.scope.region != *self.region {
            let message = format!(
                "the request is signed for region {}, this host is in {}; set AWS_DEFAULT_REGION",
                claim.scope.region, self.region
            );
            return Err(ApiError::new(Exception::InvalidSignature, message));
        }
        Ok((key, claim.scope))
    }
}

/// MQTT over WebSocket for holders of access keys: the upgrade request is signed, as a rule in its
/// query (a "presigned URL"), and the key's role says what the connection may do.
#[async_trait]
impl Authorizer for Signatures {
    async fn authorize(&self, request: &AuthorizerRequest) -> Result<AuthorizerResponse, String> {
        let Some(parts) = &request.credentials.http else {
            return Err("the connection did not begin with an HTTP request".to_owned());
        };
        let (key, scope) = self.check(parts, b"").await.map_err(|error| error.to_string())?;
        if scope.service != WEBSOCKET_SERVICE {
            return Err(format!(
                "the URL is signed for service {}, MQTT over WebSocket is {WEBSOCKET_SERVICE}",
                scope.service
            ));
        }
        Ok(AuthorizerResponse {
            is_authenticated: true,
            policy_documents: vec![policy(&key)],
            principal_id: key.id,
            disconnect_after_s: CONNECTION_S,
            refresh_after_s: 0,
            attributes: Vec::new(),
        })
    }
}

/// What a key may do over MQTT, in the words of a device policy. Readers connect under names of
/// their own: whoever takes a device's client id ends its connection.
fn policy(key: &AccessKey) -> String {
    let statements = match key.role {
        Role::Administrator | Role::Operator => {
            r#"{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}"#.to_owned()
        }
        Role::ReadOnly => format!(
            r#"{{"Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:*:*:client/{}*"}},
               {{"Effect": "Allow", "Action": ["iot:Subscribe", "iot:Receive"], "Resource": "*"}}"#,
            key.id
        ),
    };
    format!(r#"{{"Version": "2012-10-17", "Statement": [{statements}]}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_host::TestHost;
    use gnomon_core::auth::Credentials;
    use gnomon_core::ids::Account;
    use gnomon_core::policy::{Action, Context, Permissions, Policy, Resource};

    fn upgrade(parts: Option<Parts>) -> AuthorizerRequest {
        let credentials = Credentials {
            connection_id: 1,
            peer: ([127, 0, 0, 1], 50_000).into(),
            listener: "wss".into(),
            anonymous_policy: None,
            server_name: None,
            certificate: None,
            http: parts.map(Arc::new),
            client_id: None,
            username: None,
            password: None,
            has_will: false,
            is_persistent: false,
        };
        AuthorizerRequest { credentials, token: None, signature_verified: false }
    }

    async fn authorize(
        host: &TestHost,
        key: &AccessKey,
        service: &str,
    ) -> Result<AuthorizerResponse, String> {
        let mut request = TestHost::request("GET", "/mqtt", "");
        host.sign(&mut request, key, service);
        let signatures = Signatures::new(host.keys.clone(), host.clock.clone(), "us-east-1".into());
        signatures.authorize(&upgrade(Some(request.into_parts().0))).await
    }

    #[tokio::test]
    async fn the_role_of_a_key_says_what_a_websocket_may_do() {
        let host = TestHost::new().await;
        for (role, may_publish) in
            [(Role::Administrator, true), (Role::Operator, true), (Role::ReadOnly, false)]
        {
            let key = host.keys.create(role).await.unwrap();
            let response = authorize(&host, &key, "iotdevicegateway").await.unwrap();
            assert!(response.is_authenticated);
            assert_eq!(response.principal_id, key.id);
            let [document] = &response.policy_documents[..] else { panic!("{response:?}") };
            let policy = Policy::parse("role", document, &Account::default()).unwrap();
            let permissions = Permissions::new([&policy], &Context::default());
            let connects = |id: &str| permissions.allows(Action::Connect, Resource::Client(id));
            assert_eq!(connects("c"), may_publish, "{role}");
            assert!(connects(&format!("{}-dashboard", key.id)), "{role}");
            assert!(permissions.allows(Action::Subscribe, Resource::TopicFilter("a/#")));
            assert!(permissions.allows(Action::Receive, Resource::Topic("a/b")));
            let publishes = permissions.allows(Action::Publish, Resource::Topic("a/b"));
            assert_eq!(publishes, may_publish, "{role}");
        }
    }

    #[tokio::test]
    async fn an_upgrade_without_a_good_signature_is_refused() {
        let host = TestHost::new().await;
        let forged = AccessKey { secret: "0".repeat(40), ..host.key.clone() };
        let error = authorize(&host, &forged, "iotdevicegateway").await.unwrap_err();
        assert!(error.starts_with("InvalidSignatureException"), "{error}");
        let error = authorize(&host, &host.key, "iotdata").await.unwrap_err();
        assert!(error.contains("signed for service iotdata"), "{error}");
        let signatures = Signatures::new(host.keys.clone(), host.clock.clone(), "us-east-1".into());
        let unsigned = TestHost::request("GET", "/mqtt", "").into_parts().0;
        let error = signatures.authorize(&upgrade(Some(unsigned))).await.unwrap_err();
        assert!(error.starts_with("MissingAuthenticationToken"), "{error}");
        assert!(signatures.authorize(&upgrade(None)).await.is_err());
    }
}
