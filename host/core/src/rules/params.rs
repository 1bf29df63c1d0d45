//! The parameters of an action, with the templates in them.

use super::sql::{EvaluationError, Input, SqlError, Statement, Template};
use serde_json::Value;
use std::sync::Arc;

/// Compiled once per rule.
#[derive(Debug)]
pub(super) struct Params {
    /// As the rule has them, and as text.
    body: Value,
    text: Arc<str>,
    /// Texts with templates, by JSON pointer (RFC 6901).
    templates: Vec<(String, Template)>,
}

impl Params {
    /// # Errors
    /// Names the member whose template is wrong, and where.
    pub fn compile(statement: &Statement, body: &Value) -> Result<Self, (String, SqlError)> {
        let mut templates = Vec::new();
        collect(statement, body, &mut String::new(), &mut templates)?;
        Ok(Self { body: body.clone(), text: body.to_string().into(), templates })
    }

    pub fn has_templates(&self) -> bool {
        !self.templates.is_empty()
    }

    /// As text, templates not filled in.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Functions that its templates call and Gnomon does not have.
    pub fn custom_functions(&self) -> impl Iterator<Item = &str> {
        self.templates.iter().flat_map(|(_, template)| template.custom_functions())
    }

    /// With the templates filled in for a message.
    pub fn render(
        &self,
        statement: &Statement,
        input: &Input<'_>,
    ) -> Result<Value, EvaluationError> {
        let mut body = self.body.clone();
        for (pointer, template) in &self.templates {
            let text = template.render(statement, input)?;
            if let Some(place) = body.pointer_mut(pointer) {
                *place = Value::String(text);
            }
        }
        Ok(body)
    }
}

/// JSON of a request is at most 128 levels deep, and so is this.
fn collect(
    statement: &Statement,
    value: &Value,
    pointer: &mut String,
    templates: &mut Vec<(String, Template)>,
) -> Result<(), (String, SqlError)> {
    let mut below = |name: &str, value: &Value| {
        let len = pointer.len();
        pointer.push('/');
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        let result = collect(statement, value, pointer, templates);
        pointer.truncate(len);
        result
    };
    match value {
        Value::Object(members) => members.iter().try_for_each(|(name, value)| below(name, value)),
        Value::Array(elements) => {
            elements.iter().enumerate().try_for_each(|(at, value)| below(&at.to_string(), value))
        }
        Value::String(text) => {
            let template =
                Template::parse(statement, text).map_err(|error| (pointer.clone(), error))?;
            templates.extend(template.map(|template| (pointer.clone(), template)));
            Ok(())
        }
        _ => Ok(()),
    }
}
