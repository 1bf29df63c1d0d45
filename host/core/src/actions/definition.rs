//! What a rule says about one of its actions: the `Action` structure of AWS's API.
//!
//! In: its JSON. Out: which plugin is called, with what parameters. AWS addresses a function of
//! the user's own as `{"lambda": {"functionArn": "arn:…:function:NAME"}}`; here that is the plugin
//! NAME, and `{"plugin": {"name": NAME, "params": …}}` says the same with parameters.
//! Not here: whether the plugin is loaded. Built-in actions (`republish` and others) are to come.

use crate::ids::{NameError, PluginName};
use serde_json::{Map, Value};
use std::sync::Arc;

/// An action of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionDefinition {
    /// The plugin that is called.
    pub plugin: PluginName,
    /// What the plugin gets as parameters: JSON text, `{}` where the rule gives none.
    pub params: Arc<str>,
    /// AWS's name for the kind of action, e.g. `LambdaAction`; for error messages.
    pub kind: &'static str,
    /// What it acts on, as the rule names it: the function's ARN or the plugin's name.
    pub resource: Arc<str>,
}

/// Why a JSON value is no action that Gnomon can run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ActionDefinitionError {
    /// Not an object with the action's type as its only member.
    #[error("an action must be an object with one member, its type; supported are lambda, plugin")]
    NotAnAction,
    /// A type that there is no implementation of.
    #[error("action type {kind:.64} is not supported; supported are lambda, plugin")]
    Unsupported {
        /// As the rule names it.
        kind: String,
    },
    /// A required member is missing, has a wrong type or is not known.
    #[error("action {kind}: {reason}")]
    Member {
        /// `lambda` or `plugin`.
        kind: &'static str,
        /// Which member, and what it must be.
        reason: &'static str,
    },
    /// The function's or plugin's name is malformed.
    #[error("action {kind}: {source}")]
    Name {
        /// `lambda` or `plugin`.
        kind: &'static str,
        /// What is wrong with it.
        source: NameError,
    },
}

impl ActionDefinition {
    /// Reads the JSON of an action.
    ///
    /// # Errors
    /// Says what the action must look like.
    pub fn parse(json: &Value) -> Result<Self, ActionDefinitionError> {
        let mut members = json.as_object().ok_or(ActionDefinitionError::NotAnAction)?.iter();
        let (Some((kind, body)), None) = (members.next(), members.next()) else {
            return Err(ActionDefinitionError::NotAnAction);
        };
        match kind.as_str() {
            "lambda" => lambda(body),
            "plugin" => plugin(body),
            _ => Err(ActionDefinitionError::Unsupported { kind: kind.clone() }),
        }
    }
}

fn lambda(body: &Value) -> Result<ActionDefinition, ActionDefinitionError> {
    const KIND: &str = "lambda";
    let reason = "needs functionArn, a text, and nothing else";
    let arn = only_members(body, &["functionArn"])
        .and_then(|members| members.get("functionArn")?.as_str())
        .ok_or(ActionDefinitionError::Member { kind: KIND, reason })?;
    let reason = "functionArn must read arn:aws:lambda:<region>:<account>:function:<name>";
    let name = function_name(arn).ok_or(ActionDefinitionError::Member { kind: KIND, reason })?;
    let plugin = PluginName::parse(name)
        .map_err(|source| ActionDefinitionError::Name { kind: KIND, source })?;
    let (params, resource) = ("{}".into(), arn.into());
    Ok(ActionDefinition { plugin, params, kind: "LambdaAction", resource })
}

fn plugin(body: &Value) -> Result<ActionDefinition, ActionDefinitionError> {
    const KIND: &str = "plugin";
    let reason = "needs name, a text, may have params, and nothing else";
    let error = || ActionDefinitionError::Member { kind: KIND, reason };
    let members = only_members(body, &["name", "params"]).ok_or_else(error)?;
    let name = members.get("name").and_then(Value::as_str).ok_or_else(error)?;
    let plugin = PluginName::parse(name)
        .map_err(|source| ActionDefinitionError::Name { kind: KIND, source })?;
    let params = members.get("params").map_or_else(|| "{}".to_owned(), Value::to_string);
    Ok(ActionDefinition {
        plugin,
        params: params.into(),
        kind: "PluginAction",
        resource: name.into(),
    })
}

/// The object, if it has no other members than these.
fn only_members<'a>(body: &'a Value, known: &[&str]) -> Option<&'a Map<String, Value>> {
    let members = body.as_object()?;
    members.keys().all(|name| known.contains(&name.as_str())).then_some(members)
}

/// NAME of `arn:<partition>:lambda:<region>:<account>:function:NAME[:<qualifier>]`.
fn function_name(arn: &str) -> Option<&str> {
    let mut parts = arn.split(':');
    let [scheme, _partition, service, _region, _account, resource, name] =
        std::array::from_fn(|_| parts.next());
    let _qualifier = parts.next();
    let is_function =
        (scheme, service, resource) == (Some("arn"), Some("lambda"), Some("function"));
    name.filter(|_| is_function && parts.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<(String, String, &'static str, String), String> {
        let action = ActionDefinition::parse(&serde_json::from_str(json).unwrap())
            .map_err(|error| error.to_string())?;
        let ActionDefinition { plugin, params, kind, resource } = action;
        Ok((plugin.to_string(), params.to_string(), kind, resource.to_string()))
    }

    #[test]
    fn a_function_arn_and_a_plugin_name_say_the_same() {
        let arn = "arn:aws:lambda:us-east-1:123456789012:function:webhook";
        for arn in [arn.to_owned(), format!("{arn}:7")] {
            let json = format!(r#"{{"lambda": {{"functionArn": "{arn}"}}}}"#);
            let expected = ("webhook".to_owned(), "{}".to_owned(), "LambdaAction", arn);
            assert_eq!(parse(&json), Ok(expected));
        }
        let plugin = |params: &str| {
            Ok(("webhook".to_owned(), params.to_owned(), "PluginAction", "webhook".to_owned()))
        };
        assert_eq!(parse(r#"{"plugin": {"name": "webhook"}}"#), plugin("{}"));
        let json = r#"{"plugin": {"name": "webhook", "params": {"url": "http://a", "n": [1]}}}"#;
        assert_eq!(parse(json), plugin(r#"{"n":[1],"url":"http://a"}"#));
    }

    #[test]
    fn what_is_no_action_is_refused_with_what_is_wanted() {
        let not_an_action =
            "an action must be an object with one member, its type; supported are lambda, plugin";
        let arn = "action lambda: functionArn must read arn:aws:lambda:<region>:<account>:function:<name>";
        let lambda = "action lambda: needs functionArn, a text, and nothing else";
        let plugin = "action plugin: needs name, a text, may have params, and nothing else";
        for (json, expected) in [
            ("1", not_an_action),
            ("{}", not_an_action),
            (r#"{"lambda": {}, "plugin": {}}"#, not_an_action),
            (
                r#"{"s3": {"bucketName": "b"}}"#,
                "action type s3 is not supported; supported are lambda, plugin",
            ),
            (r#"{"lambda": {}}"#, lambda),
            (r#"{"lambda": "webhook"}"#, lambda),
            (r#"{"lambda": {"functionArn": 1}}"#, lambda),
            (r#"{"lambda": {"functionArn": "webhook"}}"#, arn),
            (r#"{"lambda": {"functionArn": "arn:aws:s3:r:a:function:n"}}"#, arn),
            (r#"{"lambda": {"functionArn": "arn:aws:lambda:r:a:function:n:q:x"}}"#, arn),
            (
                r#"{"lambda": {"functionArn": "arn:aws:lambda:r:a:function:a/b"}}"#,
                "action lambda: plugin name has a character at byte 1 that is not allowed; it must match [a-zA-Z0-9_-]+",
            ),
            (r#"{"plugin": {"params": {}}}"#, plugin),
            (r#"{"plugin": {"name": "a", "extra": 1}}"#, plugin),
            (
                r#"{"plugin": {"name": ""}}"#,
                "action plugin: plugin name is empty; give 1 to 64 characters",
            ),
        ] {
            assert_eq!(parse(json), Err(expected.to_owned()), "{json}");
        }
    }
}
