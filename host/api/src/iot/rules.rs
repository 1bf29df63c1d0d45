//! Topic rules over REST: AWS's `TopicRulePayload` in, the rules engine behind it.

use crate::Services;
use crate::call::{Answer, Call, epoch_seconds};
use crate::error::{ApiError, Exception};
use crate::iot::tags;
use crate::router::{Handlers, handlers};
use gnomon_core::ids::{Account, RuleName};
use gnomon_core::rules::sql::Version;
use gnomon_core::rules::{Rule, RuleDefinition, RuleError};
use gnomon_core::topic::{TopicFilter, TopicName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) const HANDLERS: Handlers = handlers! {
    CreateTopicRule => create;
    GetTopicRule => get;
    ListTopicRules => list;
    ReplaceTopicRule => replace;
    DeleteTopicRule => delete;
    EnableTopicRule => enable;
    DisableTopicRule => disable;
};

async fn create(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let tags = tags::of_header(call)?;
    let (name, definition) = (name(call)?, definition(call)?);
    match services.rules.create(name.clone(), definition).await {
        Err(error @ RuleError::AlreadyExists(_)) => Err(ApiError::already_exists(
            error.to_string(),
            name.as_str(),
            arn(&services.account, &name),
        )),
        result => {
            result?;
            services.registry.tag(&resource(&name), &tags).await?;
            Ok(Answer::empty())
        }
    }
}

async fn get(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        rule_arn: String,
        rule: RuleBody<'a>,
    }
    let rule = services.rules.get(&name(call)?)?;
    Answer::members(&Body {
        rule_arn: arn(&services.account, &rule.name),
        rule: RuleBody::from(&*rule),
    })
}

async fn list(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        rules: Vec<ItemBody<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let page = call.page("maxResults", "nextToken")?;
    let topic = call.query("topic")?;
    let disabled = call.query_as::<bool>("ruleDisabled")?;
    let rules: Vec<_> = services
        .rules
        .list()
        .into_iter()
        .filter(|rule| page.after.as_deref().is_none_or(|after| rule.name.as_str() > after))
        .filter(|rule| topic.is_none_or(|topic| takes(rule, topic)))
        .filter(|rule| disabled.is_none_or(|disabled| rule.definition.disabled == disabled))
        .take(page.limit)
        .collect();
    let next_token = page.next_token(rules.len(), rules.last().map(|rule| rule.name.as_str()));
    let rules = rules.iter().map(|rule| ItemBody::new(&services.account, rule)).collect();
    Answer::members(&Body { rules, next_token })
}

async fn replace(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    services.rules.replace(name(call)?, definition(call)?).await?;
    Ok(Answer::empty())
}

async fn delete(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let name = name(call)?;
    services.rules.delete(name.clone()).await?;
    services.registry.forget_tags(&resource(&name)).await?;
    Ok(Answer::empty())
}

async fn enable(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    services.rules.enable(name(call)?).await?;
    Ok(Answer::empty())
}

async fn disable(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    services.rules.disable(name(call)?).await?;
    Ok(Answer::empty())
}

/// As tags call it.
fn resource(name: &RuleName) -> String {
    format!("rule/{name}")
}

pub(crate) fn name(call: &Call<'_>) -> Result<RuleName, ApiError> {
    Ok(RuleName::parse(call.label("ruleName"))?)
}

fn arn(account: &Account, name: &RuleName) -> String {
    account.arn(&format!("rule/{name}"))
}

/// Whether `topic`, as the parameter of `ListTopicRules`, finds the rule: by a topic that it
/// takes, or by its FROM filter as it is written.
fn takes(rule: &Rule, topic: &str) -> bool {
    let Some(filter) = &rule.filter else { return false };
    filter.as_str() == topic || TopicName::parse(topic).is_ok_and(|name| filter.matches(&name))
}

/// The body of CreateTopicRule and ReplaceTopicRule.
fn definition(call: &Call<'_>) -> Result<RuleDefinition, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct TopicRulePayload {
        sql: String,
        description: Option<String>,
        actions: Vec<Value>,
        #[serde(default)]
        rule_disabled: bool,
        aws_iot_sql_version: Option<String>,
        error_action: Option<Value>,
    }
    let payload: TopicRulePayload = call.members()?;
    let version = match payload.aws_iot_sql_version.as_deref() {
        None => Version::default(),
        Some(text) => Version::parse(text).ok_or_else(|| {
            ApiError::invalid_request("awsIotSqlVersion must be 2015-10-08, 2016-03-23 or beta")
        })?,
    };
    Ok(RuleDefinition {
        sql: payload.sql,
        version,
        description: payload.description,
        disabled: payload.rule_disabled,
        actions: payload.actions,
        error_action: payload.error_action,
    })
}

/// AWS: `TopicRule`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleBody<'a> {
    rule_name: &'a str,
    sql: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    created_at: f64,
    actions: &'a [Value],
    rule_disabled: bool,
    aws_iot_sql_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_action: Option<&'a Value>,
}

impl<'a> From<&'a Rule> for RuleBody<'a> {
    fn from(rule: &'a Rule) -> Self {
        let definition = &rule.definition;
        Self {
            rule_name: rule.name.as_str(),
            sql: &definition.sql,
            description: definition.description.as_deref(),
            created_at: epoch_seconds(rule.created_at),
            actions: &definition.actions,
            rule_disabled: definition.disabled,
            aws_iot_sql_version: definition.version.as_str(),
            error_action: definition.error_action.as_ref(),
        }
    }
}

/// AWS: `TopicRuleListItem`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ItemBody<'a> {
    rule_arn: String,
    rule_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic_pattern: Option<&'a str>,
    created_at: f64,
    rule_disabled: bool,
}

impl<'a> ItemBody<'a> {
    fn new(account: &Account, rule: &'a Rule) -> Self {
        Self {
            rule_arn: arn(account, &rule.name),
            rule_name: rule.name.as_str(),
            topic_pattern: rule.filter.as_ref().map(TopicFilter::as_str),
            created_at: epoch_seconds(rule.created_at),
            rule_disabled: rule.definition.disabled,
        }
    }
}

impl From<RuleError> for ApiError {
    fn from(error: RuleError) -> Self {
        let exception = match &error {
            RuleError::SqlParse(_) => Exception::SqlParse,
            RuleError::AlreadyExists(_) => Exception::ResourceAlreadyExists,
            RuleError::NotFound(_) => Exception::Unauthorized,
            RuleError::LimitExceeded(_) => Exception::LimitExceeded,
            RuleError::Invalid(_) => Exception::InvalidRequest,
            RuleError::Conflict(_) => Exception::ConflictingResourceUpdate,
            RuleError::Replay { .. } => Exception::Conflict,
            RuleError::Store(_) | RuleError::Stopped => Exception::ServiceUnavailable,
            _ => Exception::InternalFailure,
        };
        if let RuleError::Store(cause) = &error {
            tracing::error!(error = ?cause, "the store failed under a change of a rule");
        }
        Self::new(exception, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use serde_json::{Value, json};

    /// The customer's example.
    const HOT: &str = r#"{"sql": "SELECT * FROM 'sensor/temp' WHERE temp > 30",
        "awsIotSqlVersion": "2016-03-23",
        "actions": [{"lambda": {"functionArn":
            "arn:aws:lambda:us-east-1:123456789012:function:console"}}]}"#;

    #[tokio::test]
    async fn a_rule_lives_from_create_to_delete() {
        let host = TestHost::new().await;
        let call = async |method, target| {
            let body = if matches!(method, "PATCH") || target == "/rules/Hot" && method == "POST" {
                HOT
            } else {
                ""
            };
            let response = host.call("iot", method, target, body).await;
            assert_eq!(TestHost::error_type(&response), None, "{method} {target}");
            TestHost::json(&response)
        };
        assert_eq!(call("POST", "/rules/Hot").await, json!({}));
        let got = call("GET", "/rules/Hot").await;
        let arn = "arn:aws:iot:us-east-1:123456789012:rule/Hot";
        let payload: Value = serde_json::from_str(HOT).unwrap();
        let mut expected = json!({
            "ruleName": "Hot",
            "sql": payload["sql"],
            "awsIotSqlVersion": "2016-03-23",
            "actions": payload["actions"],
            "ruleDisabled": false,
            "createdAt": 1_795_435_200.5,
        });
        assert_eq!(got, json!({"ruleArn": arn, "rule": expected}));

        call("POST", "/rules/Hot/disable").await;
        expected["ruleDisabled"] = true.into();
        assert_eq!(call("GET", "/rules/Hot").await["rule"], expected);
        call("POST", "/rules/Hot/enable").await;
        call("PATCH", "/rules/Hot").await;
        let listed = call("GET", "/rules").await;
        assert_eq!(
            listed,
            json!({"rules": [{
                "ruleArn": arn,
                "ruleName": "Hot",
                "topicPattern": "sensor/temp",
                "createdAt": 1_795_435_200.5,
                "ruleDisabled": false,
            }]})
        );
        call("DELETE", "/rules/Hot").await;
        assert_eq!(call("GET", "/rules").await, json!({"rules": []}));
    }

    #[tokio::test]
    async fn a_rule_that_cannot_be_is_answered_as_aws_does() {
        let host = TestHost::new().await;
        let hot = |change: fn(&mut Value)| {
            let mut payload: Value = serde_json::from_str(HOT).unwrap();
            change(&mut payload);
            payload.to_string()
        };
        host.call("iot", "POST", "/rules/Hot", HOT).await;
        for (method, target, body, expected) in [
            ("POST", "/rules/Hot", HOT.to_owned(), (409, "ResourceAlreadyExistsException")),
            ("POST", "/rules/H-t", HOT.to_owned(), (400, "InvalidRequestException")),
            ("POST", "/rules/B", String::new(), (400, "InvalidRequestException")),
            ("POST", "/rules/B", hot(|p| p["sql"] = "SELECT".into()), (400, "SqlParseException")),
            ("POST", "/rules/B", hot(|p| p["sql"] = 7.into()), (400, "InvalidRequestException")),
            (
                "POST",
                "/rules/B",
                hot(|p| p["awsIotSqlVersion"] = "1999".into()),
                (400, "InvalidRequestException"),
            ),
            (
                "POST",
                "/rules/B",
                hot(|p| p["actions"] = json!([{"plugin": {"name": "nowhere"}}])),
                (400, "InvalidRequestException"),
            ),
            ("GET", "/rules/B", String::new(), (401, "UnauthorizedException")),
            ("PATCH", "/rules/B", HOT.to_owned(), (401, "UnauthorizedException")),
            ("DELETE", "/rules/B", String::new(), (401, "UnauthorizedException")),
            ("POST", "/rules/B/enable", String::new(), (401, "UnauthorizedException")),
        ] {
            let response = host.call("iot", method, target, &body).await;
            let answer = (response.status().as_u16(), TestHost::error_type(&response).unwrap());
            assert_eq!(answer, expected, "{method} {target} {body}");
        }
        let response = host.call("iot", "POST", "/rules/Hot", HOT).await;
        let body = TestHost::json(&response);
        assert_eq!(
            (&body["resourceId"], &body["resourceArn"]),
            (&json!("Hot"), &json!("arn:aws:iot:us-east-1:123456789012:rule/Hot"))
        );
    }

    #[tokio::test]
    async fn a_statement_that_does_not_parse_is_answered_with_its_position() {
        let host = TestHost::new().await;
        let body = r#"{"sql": "SELECT * FROM 'a' WHERE temp >", "actions": []}"#;
        let response = host.call("iot", "POST", "/rules/Bad", body).await;
        assert_eq!(TestHost::error_type(&response), Some("SqlParseException"));
        let message = TestHost::json(&response)["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("line 1, column 31: "), "{message}");
    }

    #[tokio::test]
    async fn rules_are_listed_by_topic_state_and_page() {
        let host = TestHost::new().await;
        for (name, filter, disabled) in
            [("A", "a/+", false), ("B", "b", true), ("C", "a/b", true), ("D", "#", false)]
        {
            let body = json!({"sql": format!("SELECT * FROM '{filter}'"), "actions": [],
                "ruleDisabled": disabled});
            let target = format!("/rules/{name}");
            let response = host.call("iot", "POST", &target, &body.to_string()).await;
            assert_eq!(TestHost::error_type(&response), None, "{name}");
        }
        let names = async |target: &str| {
            let (mut names, mut next) = (String::new(), target.to_owned());
            loop {
                let page = TestHost::json(&host.call("iot", "GET", &next, "").await);
                for rule in page["rules"].as_array().unwrap() {
                    names += rule["ruleName"].as_str().unwrap();
                }
                let Some(token) = page["nextToken"].as_str() else { return names };
                next = format!("{target}&nextToken={token}");
            }
        };
        assert_eq!(names("/rules").await, "ABCD");
        assert_eq!(names("/rules?maxResults=1").await, "ABCD");
        assert_eq!(names("/rules?maxResults=3").await, "ABCD");
        assert_eq!(names("/rules?topic=a%2Fb").await, "ACD");
        assert_eq!(names("/rules?topic=a%2F%2B").await, "A");
        assert_eq!(names("/rules?ruleDisabled=true").await, "BC");
        assert_eq!(names("/rules?ruleDisabled=false&topic=b").await, "D");
    }
}
