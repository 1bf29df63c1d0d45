//! Substitution templates: `${expression}` in the parameters of an action.
//!
//! In: a text and the statement whose variables it sees. Out: the text with the values of its
//! expressions, which are evaluated against the message as it came, not against what SELECT made
//! of it. An expression that is Undefined or Null fails the action: it would name another topic or
//! key than the operator meant. In a topic `$$aws/…` stands for `$aws/…`; that is the action's.
//!
//! Source: AWS IoT developer guide, "Substitution templates".

use super::ast::SyntaxError;
use super::plan::Single;
use super::{EvaluationError, Input, RESULT_BYTES_MAX, SqlError, Statement, parser};

/// A text with expressions in it.
#[derive(Debug)]
pub struct Template {
    parts: Vec<Part>,
    custom: Vec<String>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    /// The compiled expression, and its text for errors.
    Expression(Single, String),
}

impl Template {
    /// Compiles a text; `None` when it has no expression.
    ///
    /// # Errors
    /// Says where an expression is none, counted in `text`.
    pub fn parse(statement: &Statement, text: &str) -> Result<Option<Self>, SqlError> {
        let mut parts = Vec::new();
        let mut custom = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let at = text.len() - rest.len() + start + 2;
            if start > 0 {
                parts.push(Part::Text(rest[..start].to_owned()));
            }
            let behind = &rest[start + 2..];
            let end = end(behind).ok_or_else(|| {
                SqlError::new(text, at - 2, "this template is not closed; expected `}`".to_owned())
            })?;
            let expression = &behind[..end];
            let located = |error: SyntaxError| SqlError::new(text, at + error.at, error.message);
            let expr = parser::parse_expression(expression).map_err(located)?;
            let (single, called) = statement.plan.compile_single(&expr).map_err(located)?;
            custom.extend(called.into_iter().map(|(name, _)| name));
            parts.push(Part::Expression(single, expression.to_owned()));
            rest = &behind[end + 1..];
        }
        if parts.is_empty() {
            return Ok(None);
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Some(Self { parts, custom }))
    }

    /// As [`Statement::custom_functions`].
    pub fn custom_functions(&self) -> impl Iterator<Item = &str> {
        self.custom.iter().map(String::as_str)
    }

    /// The text for this message.
    ///
    /// # Errors
    /// As for [`super::evaluate`], and an expression without a text.
    pub fn render(
        &self,
        statement: &Statement,
        input: &Input<'_>,
    ) -> Result<String, EvaluationError> {
        let mut rendered = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => rendered.push_str(text),
                Part::Expression(single, text) => {
                    let value = statement.plan.evaluate_single(single, input)?;
                    let value = value.to_text();
                    rendered
                        .push_str(&value.ok_or_else(|| EvaluationError::Template(text.clone()))?);
                }
            }
            if rendered.len() > RESULT_BYTES_MAX {
                return Err(EvaluationError::TooLarge);
            }
        }
        Ok(rendered)
    }
}

/// The brace that closes an expression: not one in a string or of an object literal.
fn end(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut open = 0_u32;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(opened), _) if character == opened => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '{') => open += 1,
            (None, '}') if open == 0 => return Some(at),
            (None, '}') => open -= 1,
            _ => {}
        }
    }
    None
}
