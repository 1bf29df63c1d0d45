//! What became of every part of a statement: for people who test a rule.
//!
//! Each part is compiled and evaluated on its own, so that an evaluation in earnest pays nothing
//! for it. Parts inside a nested SELECT have a value per element and are not listed.

use super::ast::{Expr, Item, Select};
use super::plan::Plan;
use super::{EvaluationError, Input, SqlError, Version, parser};

/// A part of a statement, and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Traced {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// As it is written.
    pub text: String,
    /// JSON text; `None` is Undefined.
    pub value: Result<Option<String>, EvaluationError>,
}

/// Evaluates every part of a statement, in the order in which they begin: SET, SELECT, WHERE.
///
/// # Errors
/// The text is no statement; as for [`super::Statement::parse_version`].
pub fn trace(text: &str, version: Version, input: &Input<'_>) -> Result<Vec<Traced>, SqlError> {
    let located = |error: super::ast::SyntaxError| SqlError::new(text, error.at, error.message);
    let tree = parser::parse(text).map_err(located)?;
    let plan = Plan::compile(&tree, version).map_err(located)?;
    let mut parts = Vec::new();
    tree.variables.iter().for_each(|(_, expr)| collect(expr, &mut parts));
    match &tree.select {
        Select::Value(expr) => collect(expr, &mut parts),
        Select::Items(items) => {
            for item in items {
                if let Item::Column { expr, .. } = item {
                    collect(expr, &mut parts);
                }
            }
        }
    }
    tree.condition.iter().for_each(|expr| collect(expr, &mut parts));
    parts.sort_by_key(|expr| (expr.span.start, std::cmp::Reverse(expr.span.end)));
    let traced = |expr: &Expr| {
        let (single, _) = plan.compile_single(expr).map_err(located)?;
        let value = plan.evaluate_single(&single, input).map(|value| value.to_json());
        let place = SqlError::new(text, expr.span.start, String::new());
        let text = text[expr.span.clone()].to_owned();
        Ok(Traced { line: place.line, column: place.column, text, value })
    };
    parts.into_iter().map(traced).collect()
}

fn collect<'a>(expr: &'a Expr, parts: &mut Vec<&'a Expr>) {
    parts.push(expr);
    expr.parts(&mut |part| collect(part, parts));
}
