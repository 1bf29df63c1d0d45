//! What a rule says about one of its actions: the `Action` structure of AWS's API.
//!
//! In: its JSON. Out: what is done with which parameters. AWS addresses a function of
//! the user's own as `{"lambda": {"functionArn": "arn:…:function:NAME"}}`; here that is the plugin
//! NAME, and `{"plugin": {"name": NAME, "params": …, "parallel": …}}` says the same with parameters.
//! Not here: whether the plugin is loaded; templates in parameters (`rules`).

use super::republish::Republish;
use super::table::TableRow;
use crate::ids::{NameError, PluginName, lambda_function};
use serde_json::{Map, Value};
use std::sync::Arc;

/// An action of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionDefinition {
    /// Who acts.
    pub target: Target,
    /// The parameters: a plugin's as the rule gives them, `{}` where it gives none; of an action
    /// of the host its whole body. Texts in it may have templates.
    pub params: Value,
    /// AWS's name for the kind of action, e.g. `LambdaAction`; for error messages.
    pub kind: &'static str,
    /// What it acts on, as the rule names it: the function's ARN or the plugin's name.
    pub resource: Arc<str>,
    /// Calls at the same time, 1 to [`PARALLEL_MAX`]. With one, messages keep their order; with more,
    /// those of each client do.
    pub parallel: usize,
}

/// Calls of one action at the same time.
pub const PARALLEL_MAX: usize = 16;

/// Who carries out an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A plugin.
    Plugin(PluginName),
    /// The host publishes the result.
    Republish,
    /// The result becomes a row of a table.
    Table,
}

/// Why a JSON value is no action that Gnomon can run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ActionDefinitionError {
    /// Not an object with the action's type as its only member.
    #[error(
        "an action must be an object with one member, its type; supported are lambda, plugin, republish, table"
    )]
    NotAnAction,
    /// A type that there is no implementation of.
    #[error(
        "action type {kind:.64} is not supported; supported are lambda, plugin, republish, table"
    )]
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
    /// The body of an action of the host is wrong.
    #[error("action {kind}: {reason}")]
    Body {
        /// `republish` or `table`.
        kind: &'static str,
        /// Which member, and what it must be.
        reason: String,
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
            "republish" => republish(body),
            "table" => table(body),
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
    let (name, _qualifier) =
        lambda_function(arn).ok_or(ActionDefinitionError::Member { kind: KIND, reason })?;
    let plugin = PluginName::parse(name)
        .map_err(|source| ActionDefinitionError::Name { kind: KIND, source })?;
    let params = Value::Object(Map::new());
    let target = Target::Plugin(plugin);
    Ok(ActionDefinition { target, params, kind: "LambdaAction", resource: arn.into(), parallel: 1 })
}

fn plugin(body: &Value) -> Result<ActionDefinition, ActionDefinitionError> {
    const KIND: &str = "plugin";
    let reason = "needs name, a text, may have params and parallel, a number, and nothing else";
    let error = || ActionDefinitionError::Member { kind: KIND, reason };
    let members = only_members(body, &["name", "params", "parallel"]).ok_or_else(error)?;
    let name = members.get("name").and_then(Value::as_str).ok_or_else(error)?;
    let plugin = PluginName::parse(name)
        .map_err(|source| ActionDefinitionError::Name { kind: KIND, source })?;
    let params = members.get("params").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let parallel = match members.get("parallel") {
        None => 1,
        Some(value) => value
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| (1..=PARALLEL_MAX).contains(n))
            .ok_or(ActionDefinitionError::Member {
                kind: KIND,
                reason: "parallel must be a number from 1 to 16",
            })?,
    };
    Ok(ActionDefinition {
        target: Target::Plugin(plugin),
        params,
        kind: "PluginAction",
        resource: name.into(),
        parallel,
    })
}

fn republish(body: &Value) -> Result<ActionDefinition, ActionDefinitionError> {
    const KIND: &str = "republish";
    let parsed = Republish::parse(body)
        .map_err(|reason| ActionDefinitionError::Body { kind: KIND, reason })?;
    Ok(ActionDefinition {
        target: Target::Republish,
        params: body.clone(),
        kind: "RepublishAction",
        resource: parsed.topic().into(),
        parallel: 1,
    })
}

fn table(body: &Value) -> Result<ActionDefinition, ActionDefinitionError> {
    const KIND: &str = "table";
    let row = TableRow::parse(body)
        .map_err(|reason| ActionDefinitionError::Body { kind: KIND, reason })?;
    Ok(ActionDefinition {
        target: Target::Table,
        params: body.clone(),
        kind: "TableAction",
        resource: row.table().into(),
        // The writer counts on the order.
        parallel: 1,
    })
}

/// The object, if it has no other members than these.
fn only_members<'a>(body: &'a Value, known: &[&str]) -> Option<&'a Map<String, Value>> {
    let members = body.as_object()?;
    members.keys().all(|name| known.contains(&name.as_str())).then_some(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<(String, String, &'static str, String), String> {
        let action = ActionDefinition::parse(&serde_json::from_str(json).unwrap())
            .map_err(|error| error.to_string())?;
        let ActionDefinition { target, params, kind, resource, .. } = action;
        let plugin = match target {
            Target::Plugin(plugin) => plugin.to_string(),
            Target::Republish => "-".to_owned(),
            Target::Table => "+".to_owned(),
        };
        Ok((plugin, params.to_string(), kind, resource.to_string()))
    }

    #[test]
    fn a_function_arn_and_a_plugin_name_say_the_same() {
        let arn = "arn:aws:lambda:us-east-1:123456789012:function:webhook";
        for arn in [arn.to_owned(), format!("{arn}:7")] {
            let json = format!(r#"{{"lambda": {{"functionArn": "{arn}"}}}}"#);
            let expected = ("webhook".to_owned(), "{}".to_owned(), "LambdaAction", arn);
            assert_eq!(parse(&json), Ok(expected));
        }
        let republish = r#"{"republish": {"topic": "a/${topic(2)}", "roleArn": "arn", "qos": 1}}"#;
        let params = r#"{"qos":1,"roleArn":"arn","topic":"a/${topic(2)}"}"#.to_owned();
        let expected = ("-".to_owned(), params, "RepublishAction", "a/${topic(2)}".to_owned());
        assert_eq!(parse(republish), Ok(expected));
        let table = r#"{"table": {"tableName": "readings", "timestamp": "${ts}"}}"#;
        let params = r#"{"tableName":"readings","timestamp":"${ts}"}"#.to_owned();
        let expected = ("+".to_owned(), params, "TableAction", "readings".to_owned());
        assert_eq!(parse(table), Ok(expected));
        let plugin = |params: &str| {
            Ok(("webhook".to_owned(), params.to_owned(), "PluginAction", "webhook".to_owned()))
        };
        assert_eq!(parse(r#"{"plugin": {"name": "webhook"}}"#), plugin("{}"));
        let json = r#"{"plugin": {"name": "webhook", "params": {"url": "http://a", "n": [1]}}}"#;
        assert_eq!(parse(json), plugin(r#"{"n":[1],"url":"http://a"}"#));
    }

    #[test]
    fn what_is_no_action_is_refused_with_what_is_wanted() {
        let not_an_action = "an action must be an object with one member, its type; supported are lambda, plugin, republish, table";
        let arn = "action lambda: functionArn must read arn:aws:lambda:<region>:<account>:function:<name>";
        let lambda = "action lambda: needs functionArn, a text, and nothing else";
        let plugin = "action plugin: needs name, a text, may have params and parallel, a number, and nothing else";
        let parallel = "action plugin: parallel must be a number from 1 to 16";
        for (json, expected) in [
            ("1", not_an_action),
            ("{}", not_an_action),
            (r#"{"lambda": {}, "plugin": {}}"#, not_an_action),
            (
                r#"{"s3": {"bucketName": "b"}}"#,
                "action type s3 is not supported; supported are lambda, plugin, republish, table",
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
            (r#"{"republish": {}}"#, "action republish: missing field `topic`"),
            (
                r#"{"republish": {"topic": "a", "qos": 2}}"#,
                "action republish: qos must be 0 or 1, not 2",
            ),
            (
                r#"{"table": {"tableName": "a-b"}}"#,
                "action table: tableName: table name has a character at byte 1 that is not allowed; it must match [a-zA-Z0-9_]+",
            ),
            (
                r#"{"table": {"tableName": "a", "key": "b"}}"#,
                "action table: unknown field `key`, expected `tableName` or `timestamp`",
            ),
            (r#"{"plugin": {"params": {}}}"#, plugin),
            (r#"{"plugin": {"name": "a", "extra": 1}}"#, plugin),
            (r#"{"plugin": {"name": "a", "parallel": 0}}"#, parallel),
            (r#"{"plugin": {"name": "a", "parallel": 17}}"#, parallel),
            (r#"{"plugin": {"name": "a", "parallel": "2"}}"#, parallel),
            (
                r#"{"plugin": {"name": ""}}"#,
                "action plugin: plugin name is empty; give 1 to 64 characters",
            ),
        ] {
            assert_eq!(parse(json), Err(expected.to_owned()), "{json}");
        }
    }
}
