//! What policies decide, without a connection: TestAuthorization, and Gnomon's ExplainAuthorization,
//! which names the statement.

use crate::Services;
use crate::call::{Answer, Call};
use crate::error::ApiError;
use crate::router::{Handlers, handlers};
use gnomon_core::auth::Rehearsal;
use gnomon_core::ids::{ClientId, PolicyName};
use gnomon_core::policy::{Action, Decision, Permissions, Resource, StatementId};
use serde::{Deserialize, Serialize};

pub(crate) const HANDLERS: Handlers = handlers! {
    TestAuthorization => test;
};

/// In the scope `gnomon`.
pub(crate) const OWN_HANDLERS: Handlers = handlers! {
    ExplainAuthorization => explain;
};

/// Questions in one request. AWS: 10.
const QUESTIONS_MAX: usize = 10;

/// A request of both operations.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    principal: Option<String>,
    cognito_identity_pool_id: Option<String>,
    auth_infos: Vec<AuthInfo>,
    #[serde(default)]
    policy_names_to_add: Vec<String>,
    #[serde(default)]
    policy_names_to_skip: Vec<String>,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthInfo {
    action_type: ActionType,
    resources: Vec<String>,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum ActionType {
    Connect,
    Publish,
    Subscribe,
    Receive,
}

impl ActionType {
    /// The action, and what the ARN of its resource begins with behind the account.
    fn parts(self) -> (Action, &'static str) {
        match self {
            Self::Connect => (Action::Connect, "client/"),
            Self::Publish => (Action::Publish, "topic/"),
            Self::Subscribe => (Action::Subscribe, "topicfilter/"),
            Self::Receive => (Action::Receive, "topic/"),
        }
    }
}

async fn permissions(
    services: &Services,
    call: &Call<'_>,
) -> Result<(Permissions, Vec<AuthInfo>), ApiError> {
    let members: Members = call.members()?;
    let Some(principal) = members.principal.filter(|_| members.cognito_identity_pool_id.is_none())
    else {
        return Err(ApiError::invalid_request(
            "give principal, the ARN of a certificate; this host knows no Cognito identities",
        ));
    };
    let n = members.auth_infos.len();
    if !(1..=QUESTIONS_MAX).contains(&n) {
        let message = format!("{n} authInfos; give 1 to {QUESTIONS_MAX}");
        return Err(ApiError::invalid_request(message));
    }
    let parse = |names: &[String]| -> Result<Vec<_>, ApiError> {
        names.iter().map(|name| Ok(PolicyName::parse(name)?)).collect()
    };
    let client_id = call.query("clientId")?.map(ClientId::parse).transpose()?;
    let rehearsal = Rehearsal {
        certificate: &services.registry.parse_certificate_arn(&principal)?,
        client_id: client_id.as_ref(),
        add: &parse(&members.policy_names_to_add)?,
        skip: &parse(&members.policy_names_to_skip)?,
    };
    Ok((services.authenticator.rehearse(&rehearsal).await?, members.auth_infos))
}

/// What is decided about one resource.
fn decide<'p>(
    services: &Services,
    permissions: &'p Permissions,
    action: ActionType,
    arn: &str,
) -> Result<Decision<'p>, ApiError> {
    let (action, kind) = action.parts();
    let name = services.account.resource(arn).and_then(|rest| rest.strip_prefix(kind));
    let name = name.ok_or_else(|| {
        ApiError::invalid_request(format!(
            "resources: {arn:.128} must begin with {} for this actionType",
            services.account.arn(kind)
        ))
    })?;
    let resource = match action {
        Action::Connect => Resource::Client(name),
        Action::Subscribe => Resource::TopicFilter(name),
        _ => Resource::Topic(name),
    };
    Ok(permissions.explain(action, resource))
}

async fn test(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        auth_results: Vec<AuthResult>,
    }
    let (permissions, infos) = permissions(services, call).await?;
    let result = |info: AuthInfo| {
        let decisions = info.resources.iter();
        let decisions = decisions.map(|arn| decide(services, &permissions, info.action_type, arn));
        let decisions = decisions.collect::<Result<Vec<_>, _>>()?;
        Ok(AuthResult::new(services, info, &decisions))
    };
    let auth_results = infos.into_iter().map(result).collect::<Result<_, ApiError>>()?;
    Answer::members(&Body { auth_results })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthResult {
    auth_info: AuthInfo,
    allowed: Policies,
    denied: Denied,
    auth_decision: &'static str,
    missing_context_values: [String; 0],
}

#[derive(Default, Serialize)]
struct Policies {
    policies: Vec<PolicyBody>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Denied {
    implicit_deny: Policies,
    explicit_deny: Policies,
}

#[derive(PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyBody {
    policy_name: String,
    policy_arn: String,
}

impl AuthResult {
    /// Of several resources the worst decision counts.
    fn new(services: &Services, auth_info: AuthInfo, decisions: &[Decision<'_>]) -> Self {
        let mut allowed = Policies::default();
        let mut denied = Denied::default();
        let add = |to: &mut Policies, statement: &StatementId| {
            let policy_name = statement.policy.to_string();
            let policy_arn = services.account.arn(&format!("policy/{policy_name}"));
            let policy = PolicyBody { policy_name, policy_arn };
            if !to.policies.contains(&policy) {
                to.policies.push(policy);
            }
        };
        for decision in decisions {
            match decision {
                Decision::Allowed(statement) => add(&mut allowed, statement),
                Decision::ExplicitDeny(statement) => add(&mut denied.explicit_deny, statement),
                Decision::ImplicitDeny => {}
            }
        }
        let is = |wanted: fn(&Decision<'_>) -> bool| decisions.iter().any(wanted);
        let auth_decision = if is(|it| matches!(it, Decision::ExplicitDeny(_))) {
            "EXPLICIT_DENY"
        } else if is(|it| matches!(it, Decision::ImplicitDeny)) || decisions.is_empty() {
            "IMPLICIT_DENY"
        } else {
            "ALLOWED"
        };
        Self { auth_info, allowed, denied, auth_decision, missing_context_values: [] }
    }
}

async fn explain(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        decisions: Vec<DecisionBody>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct DecisionBody {
        action_type: ActionType,
        resource: String,
        allowed: bool,
        /// For people: which statement of which policy decided.
        reason: String,
    }
    let (permissions, infos) = permissions(services, call).await?;
    let mut decisions = Vec::new();
    for AuthInfo { action_type, resources } in infos {
        for resource in resources {
            let decision = decide(services, &permissions, action_type, &resource)?;
            let allowed = matches!(decision, Decision::Allowed(_));
            let reason = decision.to_string();
            decisions.push(DecisionBody { action_type, resource, allowed, reason });
        }
    }
    Answer::members(&Body { decisions })
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use serde_json::{Value, json};

    const ACCOUNT: &str = "arn:aws:iot:us-east-1:123456789012:";

    /// A certificate of the thing `Lamp` with a policy; returns its ARN.
    async fn certificate(host: &TestHost) -> String {
        let statement = |effect: &str, action: &str, resource: &str| json!({"Effect": effect, "Action": action, "Resource": format!("{ACCOUNT}{resource}")});
        let document = json!({"Version": "2012-10-17", "Statement": [
            statement("Allow", "iot:Connect", "client/${iot:Connection.Thing.ThingName}"),
            statement("Allow", "iot:Publish", "topic/a/*"),
            statement("Deny", "iot:Publish", "topic/a/secret"),
        ]});
        let more = json!({"Version": "2012-10-17", "Statement": [
            statement("Allow", "iot:Subscribe", "topicfilter/*")]});
        for (name, document) in [("Own", document), ("More", more)] {
            let body = json!({"policyDocument": document.to_string()}).to_string();
            host.iot("POST", &format!("/policies/{name}"), &body).await;
        }
        let made = host.iot("POST", "/keys-and-certificate", "").await;
        let arn = made["certificateArn"].as_str().unwrap().to_owned();
        let target = json!({"target": arn}).to_string();
        host.iot("PUT", "/target-policies/Own", &target).await;
        host.iot("POST", "/things/Lamp", "").await;
        let principal = [("x-amzn-principal", arn.as_str())];
        host.iot_with("PUT", "/things/Lamp/principals", &principal).await;
        arn
    }

    fn question(principal: &str, action: &str, resources: &[&str], more: &Value) -> String {
        let resources: Vec<_> = resources.iter().map(|it| format!("{ACCOUNT}{it}")).collect();
        let mut body = json!({"principal": principal,
            "authInfos": [{"actionType": action, "resources": resources}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string()
    }

    #[tokio::test]
    async fn what_a_certificate_may_is_tested_as_on_aws() {
        let host = TestHost::new().await;
        let arn = certificate(&host).await;
        let own = json!([{"policyName": "Own", "policyArn": format!("{ACCOUNT}policy/Own")}]);
        let none = json!([]);
        let (connect, publish, subscribe) = ("CONNECT", "PUBLISH", "SUBSCRIBE");
        let add = json!({"policyNamesToAdd": ["More"]});
        let skip = json!({"policyNamesToSkip": ["Own"]});
        let plain = json!({});
        for (action, resources, more, decision, allowed, denied) in [
            (connect, &["client/Lamp"][..], &plain, "ALLOWED", &own, &none),
            (connect, &["client/Other"], &plain, "IMPLICIT_DENY", &none, &none),
            (publish, &["topic/a/b"], &plain, "ALLOWED", &own, &none),
            (publish, &["topic/a/b", "topic/c"], &plain, "IMPLICIT_DENY", &own, &none),
            (publish, &["topic/a/b", "topic/a/secret"], &plain, "EXPLICIT_DENY", &own, &own),
            (publish, &["topic/a/b"], &skip, "IMPLICIT_DENY", &none, &none),
            (subscribe, &["topicfilter/a/#"], &plain, "IMPLICIT_DENY", &none, &none),
        ] {
            let body = question(&arn, action, resources, more);
            let answer = host.iot("POST", "/test-authorization?clientId=Lamp", &body).await;
            let result = &answer["authResults"][0];
            assert_eq!(result["authDecision"], decision, "{body}");
            assert_eq!(&result["allowed"]["policies"], allowed, "{body}");
            assert_eq!(&result["denied"]["explicitDeny"]["policies"], denied, "{body}");
            assert_eq!(result["authInfo"]["actionType"], action);
        }
        let body = question(&arn, subscribe, &["topicfilter/a/#"], &add);
        let answer = host.iot("POST", "/test-authorization", &body).await;
        assert_eq!(answer["authResults"][0]["authDecision"], "ALLOWED");
        // Without its client id there is no thing to fill in.
        let body = question(&arn, connect, &["client/Lamp"], &plain);
        let answer = host.iot("POST", "/test-authorization", &body).await;
        assert_eq!(answer["authResults"][0]["authDecision"], "IMPLICIT_DENY");
    }

    #[tokio::test]
    async fn the_statement_that_decides_is_named() {
        let host = TestHost::new().await;
        let arn = certificate(&host).await;
        let topics = ["topic/a/b", "topic/a/secret", "topic/c"];
        let body = question(&arn, "PUBLISH", &topics, &json!({}));
        let answer = host.call("gnomon", "POST", "/authorization", &body).await;
        let answer = TestHost::json(&answer);
        let decisions = answer["decisions"].as_array().unwrap();
        let reasons: Vec<_> = decisions.iter().map(|it| (&it["allowed"], &it["reason"])).collect();
        assert_eq!(
            reasons,
            [
                (&json!(true), &json!("allowed by statement 1 of policy Own")),
                (&json!(false), &json!("denied by statement 2 of policy Own")),
                (&json!(false), &json!("no statement allows it")),
            ]
        );
    }

    #[tokio::test]
    async fn what_is_no_question_is_said() {
        let host = TestHost::new().await;
        let arn = certificate(&host).await;
        let many = json!({"principal": arn, "authInfos":
            vec![json!({"actionType": "CONNECT", "resources": []}); 11]});
        let unknown = format!("{ACCOUNT}cert/{}", "0".repeat(64));
        let more = json!({"policyNamesToAdd": ["None"]});
        for (body, exception, says) in [
            ("{}".to_owned(), "InvalidRequestException", "authInfos"),
            (r#"{"authInfos": []}"#.to_owned(), "InvalidRequestException", "give principal"),
            (many.to_string(), "InvalidRequestException", "11 authInfos; give 1 to 10"),
            (
                question(&arn, "CONNECT", &["topic/a"], &json!({})),
                "InvalidRequestException",
                "must begin with arn:aws:iot:us-east-1:123456789012:client/",
            ),
            (
                question(&arn, "FLY", &["topic/a"], &json!({})),
                "InvalidRequestException",
                "authInfos[0].actionType",
            ),
            (
                question(&unknown, "CONNECT", &["client/a"], &json!({})),
                "ResourceNotFoundException",
                "certificate",
            ),
            (
                question(&arn, "CONNECT", &["client/a"], &more),
                "ResourceNotFoundException",
                "policy None",
            ),
        ] {
            host.check_refused("POST", "/test-authorization", &body, exception, says).await;
        }
    }
}
