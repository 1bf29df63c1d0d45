//! How much is logged about which client: options and levels, and AWS's first form of the options.

use crate::Services;
use crate::call::{Answer, Call, encode_token};
use crate::error::ApiError;
use crate::router::{Handlers, handlers};
use gnomon_core::logging::{Level, Target, TargetError};
use gnomon_core::registry::{LogLevel, RegistryError};
use serde::{Deserialize, Serialize};

pub(crate) const HANDLERS: Handlers = handlers! {
    SetV2LoggingOptions => set_options;
    GetV2LoggingOptions => options;
    SetV2LoggingLevel => set_level;
    ListV2LoggingLevels => list_levels;
    DeleteV2LoggingLevel => delete_level;
    SetLoggingOptions => set_first_options;
    GetLoggingOptions => first_options;
};

async fn set_options(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        role_arn: Option<String>,
        default_log_level: Option<String>,
        disable_all_logs: Option<bool>,
        #[serde(default)]
        event_configurations: Vec<serde_json::Value>,
    }
    let members: Members = call.members()?;
    // To take them and log by other levels would be a lie.
    if !members.event_configurations.is_empty() {
        return Err(ApiError::invalid_request(
            "eventConfigurations: this host has levels of targets and none of events",
        ));
    }
    let level = level("defaultLogLevel", members.default_log_level.as_deref())?;
    let role_arn = members.role_arn.as_deref();
    services.registry.set_log_options(role_arn, level, members.disable_all_logs).await?;
    Ok(Answer::empty())
}

async fn options(services: &Services, _: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        #[serde(skip_serializing_if = "Option::is_none")]
        role_arn: Option<String>,
        default_log_level: &'static str,
        disable_all_logs: bool,
    }
    let options = services.registry.log_options().await?;
    Answer::members(&Body {
        role_arn: options.role_arn,
        default_log_level: options.default_level.as_str(),
        disable_all_logs: options.is_disabled,
    })
}

/// AWS: `LogTarget`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct TargetBody {
    target_type: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    target_name: String,
}

async fn set_level(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        log_target: TargetBody,
        log_level: String,
    }
    let Members { log_target, log_level } = call.members()?;
    let target = target(&log_target.target_type, &log_target.target_name)?;
    let level = parse_level("logLevel", &log_level)?;
    services.registry.set_log_level(target, level).await?;
    Ok(Answer::empty())
}

async fn list_levels(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    /// AWS: `LogTargetConfiguration`.
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Item {
        log_target: TargetBody,
        log_level: &'static str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        log_target_configurations: Vec<Item>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let page = call.page("maxResults", "nextToken")?;
    let kind = call.query("targetType")?;
    if let Some(kind) = kind
        && !Target::KINDS.contains(&kind)
    {
        return Err(ApiError::invalid_request(TargetError::Kind.to_string()));
    }
    let found = services.registry.list_log_levels(kind, page.request()).await?;
    let item = |it: &LogLevel| Item {
        log_target: TargetBody {
            target_type: it.target.kind().to_owned(),
            target_name: it.target.to_string(),
        },
        log_level: it.level.as_str(),
    };
    Answer::members(&Body {
        log_target_configurations: found.items.iter().map(item).collect(),
        next_token: found.next.as_deref().map(encode_token),
    })
}

async fn delete_level(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let kind = call.query("targetType")?.unwrap_or_default();
    let target = target(kind, call.query("targetName")?.unwrap_or_default())?;
    services.registry.delete_log_level(&target).await?;
    Ok(Answer::empty())
}

/// AWS's first form says the same with fewer members.
async fn set_first_options(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members {
        role_arn: String,
        log_level: Option<String>,
    }
    let Members { role_arn, log_level } = call.members()?;
    let level = level("logLevel", log_level.as_deref())?;
    services.registry.set_log_options(Some(&role_arn), level, None).await?;
    Ok(Answer::empty())
}

async fn first_options(services: &Services, _: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        #[serde(skip_serializing_if = "Option::is_none")]
        role_arn: Option<String>,
        log_level: &'static str,
    }
    match services.registry.log_options().await {
        // The operation has no exception for it.
        Err(RegistryError::NotConfigured(_)) => Ok(Answer::empty()),
        options => {
            let options = options?;
            let log_level = options.default_level.as_str();
            Answer::members(&Body { role_arn: options.role_arn, log_level })
        }
    }
}

fn target(kind: &str, name: &str) -> Result<Target, ApiError> {
    Target::parse(kind, name).map_err(|error| ApiError::invalid_request(error.to_string()))
}

fn level(member: &str, text: Option<&str>) -> Result<Option<Level>, ApiError> {
    text.map(|text| parse_level(member, text)).transpose()
}

fn parse_level(member: &str, text: &str) -> Result<Level, ApiError> {
    Level::parse(text).ok_or_else(|| {
        let known = Level::ALL.map(Level::as_str).join(", ");
        ApiError::invalid_request(format!("{member} must be one of {known}"))
    })
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use gnomon_core::logging::Level;
    use serde_json::json;

    const ROLE: &str = "arn:aws:iam::123456789012:role/logs";
    const OPTIONS: &str = "/v2LoggingOptions";
    const LEVEL: &str = "/v2LoggingLevel";

    async fn set_level(host: &TestHost, kind: &str, name: &str, level: &str) {
        let target = json!({"targetType": kind, "targetName": name});
        let body = json!({"logTarget": target, "logLevel": level});
        assert_eq!(host.iot("POST", LEVEL, &body.to_string()).await, json!({}));
    }

    /// What is logged of a client that nothing else is known of.
    fn level_of(host: &TestHost, client_id: &str) -> Option<Level> {
        host.registry.log_levels().level_for(Some(client_id), None, None)
    }

    #[tokio::test]
    async fn nothing_is_configured_until_options_are_set() {
        let host = TestHost::new().await;
        let not = "NotConfiguredException";
        let level = r#"{"logTarget": {"targetType": "DEFAULT"}, "logLevel": "INFO"}"#;
        for (method, target, body) in
            [("GET", OPTIONS, ""), ("GET", LEVEL, ""), ("POST", LEVEL, level)]
        {
            host.check_refused(method, target, body, not, "SetV2LoggingOptions does").await;
        }
        assert_eq!(host.iot("GET", "/loggingOptions", "").await, json!({}));
        assert_eq!(level_of(&host, "a"), None);
        host.iot("POST", OPTIONS, "").await;
        let options = json!({"defaultLogLevel": "INFO", "disableAllLogs": false});
        assert_eq!(host.iot("GET", OPTIONS, "").await, options);
        assert_eq!(level_of(&host, "a"), Some(Level::Info));
    }

    #[tokio::test]
    async fn options_that_are_not_given_stay() {
        let host = TestHost::new().await;
        let all = json!({"roleArn": ROLE, "defaultLogLevel": "WARN"}).to_string();
        host.iot("POST", OPTIONS, &all).await;
        set_level(&host, "CLIENT_ID", "pump", "DEBUG").await;
        host.iot("POST", OPTIONS, r#"{"disableAllLogs": true}"#).await;
        let options = json!({"roleArn": ROLE, "defaultLogLevel": "WARN", "disableAllLogs": true});
        assert_eq!(host.iot("GET", "/v2LoggingOptions?verbose=true", "").await, options);
        let levels = host.registry.log_levels();
        assert_eq!(level_of(&host, "pump"), Some(Level::Disabled));
        assert_eq!(levels.most(), Some(Level::Disabled));
        host.iot("POST", OPTIONS, r#"{"disableAllLogs": false, "eventConfigurations": []}"#).await;
        assert_eq!(level_of(&host, "pump"), Some(Level::Debug));
        assert_eq!(level_of(&host, "other"), Some(Level::Warn));
        // The first form speaks of the same.
        let first = json!({"roleArn": ROLE, "logLevel": "WARN"});
        assert_eq!(host.iot("GET", "/loggingOptions", "").await, first);
        let other = json!({"roleArn": format!("{ROLE}2"), "logLevel": "ERROR"});
        host.iot("POST", "/loggingOptions", &other.to_string()).await;
        assert_eq!(host.iot("GET", "/loggingOptions", "").await, other);
        assert_eq!(host.iot("GET", OPTIONS, "").await["defaultLogLevel"], "ERROR");
        assert_eq!(level_of(&host, "other"), Some(Level::Error));
    }

    #[tokio::test]
    async fn levels_are_set_listed_in_pages_and_deleted() {
        let host = TestHost::new().await;
        host.iot("POST", OPTIONS, r#"{"defaultLogLevel": "ERROR"}"#).await;
        host.iot("POST", "/thing-groups/hall", "").await;
        for (kind, name) in [
            ("CLIENT_ID", "a/b: ü"),
            ("PRINCIPAL_ID", "p"),
            ("SOURCE_IP", "::ffff:10.0.0.7"),
            ("THING_GROUP", "hall"),
        ] {
            set_level(&host, kind, name, "DEBUG").await;
        }
        let body = r#"{"logTarget": {"targetType": "DEFAULT"}, "logLevel": "WARN"}"#;
        host.iot("POST", LEVEL, body).await;
        assert_eq!(host.iot("GET", OPTIONS, "").await["defaultLogLevel"], "WARN");
        let item = |kind: &str, name: &str| {
            let target = json!({"targetType": kind, "targetName": name});
            json!({"logTarget": target, "logLevel": "DEBUG"})
        };
        let expected = [
            item("CLIENT_ID", "a/b: ü"),
            json!({"logTarget": {"targetType": "DEFAULT"}, "logLevel": "WARN"}),
            item("PRINCIPAL_ID", "p"),
            item("SOURCE_IP", "10.0.0.7"),
            item("THING_GROUP", "hall"),
        ];
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let path = format!("{LEVEL}?maxResults=2&nextToken={token}");
            let page = host.iot("GET", &path, "").await;
            found.extend(page["logTargetConfigurations"].as_array().unwrap().clone());
            let Some(next) = page["nextToken"].as_str() else { break };
            token = next.to_owned();
        }
        assert_eq!(found, expected);
        let ips = host.iot("GET", &format!("{LEVEL}?targetType=SOURCE_IP"), "").await;
        assert_eq!(ips, json!({"logTargetConfigurations": [expected[3]]}));
        assert_eq!(level_of(&host, "a/b: ü"), Some(Level::Debug));
        let gone = format!("{LEVEL}?targetType=CLIENT_ID&targetName=a%2Fb%3A%20%C3%BC");
        for _ in 0..2 {
            host.iot("DELETE", &gone, "").await;
        }
        assert_eq!(level_of(&host, "a/b: ü"), Some(Level::Warn));
        let left = host.iot("GET", LEVEL, "").await;
        assert_eq!(left, json!({"logTargetConfigurations": expected[1..]}));
    }

    #[tokio::test]
    async fn what_is_no_level_is_said() {
        let host = TestHost::new().await;
        host.iot("POST", OPTIONS, "").await;
        let target = |kind: &str, name: &str| {
            let target = json!({"targetType": kind, "targetName": name});
            json!({"logTarget": target, "logLevel": "INFO"}).to_string()
        };
        let long = "x".repeat(129);
        let events = r#"{"eventConfigurations": [{"eventType": "Connect", "logLevel": "INFO"}]}"#;
        let bad_level = r#"{"logTarget": {"targetType": "DEFAULT"}, "logLevel": "TRACE"}"#;
        let (default, unnamed) = ("/v2LoggingLevel?targetType=DEFAULT", "?targetType=CLIENT_ID");
        let unnamed = format!("{LEVEL}{unnamed}");
        for (method, path, body, says) in [
            (
                "POST",
                OPTIONS,
                r#"{"defaultLogLevel": "info"}"#.to_owned(),
                "defaultLogLevel must be",
            ),
            ("POST", OPTIONS, r#"{"roleArn": "a role, not its ARN"}"#.to_owned(), "roleArn"),
            ("POST", OPTIONS, events.to_owned(), "eventConfigurations"),
            ("POST", "/loggingOptions", "{}".to_owned(), "roleArn"),
            ("POST", LEVEL, "{}".to_owned(), "logTarget"),
            ("POST", LEVEL, bad_level.to_owned(), "one of DISABLED, ERROR, WARN, INFO, DEBUG"),
            ("POST", LEVEL, target("TOPIC", "a"), "targetType must be one of DEFAULT, THING_GROUP"),
            ("POST", LEVEL, target("DEFAULT", "a"), "has no targetName"),
            ("POST", LEVEL, target("CLIENT_ID", ""), "1 to 128 bytes"),
            ("POST", LEVEL, target("CLIENT_ID", &long), "1 to 128 bytes"),
            ("POST", LEVEL, target("CLIENT_ID", "a\nb"), "no control characters"),
            ("POST", LEVEL, target("PRINCIPAL_ID", ""), "1 to 128 bytes"),
            ("POST", LEVEL, target("PRINCIPAL_ID", "a\u{1}b"), "no control characters"),
            ("POST", LEVEL, target("SOURCE_IP", "10.0.0.0/8"), "IPv4 or IPv6 address"),
            ("POST", LEVEL, target("THING_GROUP", "a b"), "thing group name"),
            ("POST", LEVEL, target("THING_GROUP", "none"), "thing group none does not exist"),
            ("DELETE", LEVEL, String::new(), "targetType must be one of"),
            ("DELETE", default, String::new(), "the default level cannot be deleted"),
            ("DELETE", &unnamed, String::new(), "1 to 128 bytes"),
            ("GET", "/v2LoggingLevel?targetType=X", String::new(), "targetType must be one of"),
            ("GET", "/v2LoggingLevel?maxResults=0", String::new(), "maxResults"),
        ] {
            host.check_refused(method, path, &body, "InvalidRequestException", says).await;
        }
    }
}
