//! Calls with a regular expression. A pattern that is a literal is compiled with the statement.
//!
//! AWS has Java's dialect; this is that of the crate `regex`, which needs linear time: no
//! look-around and no back-references in a pattern. A pattern that does not compile gives
//! Undefined, as on AWS.

use super::EvaluationError;
use super::plan::{Node, Scope};
use super::value::Value;
use regex::{Regex, RegexBuilder};
use std::borrow::Cow;

/// Memory of one compiled pattern, about; a longer one does not compile.
const COMPILED_BYTES_MAX: usize = 256 * 1_024;

/// What is asked with a pattern.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    /// `regexp_matches(text, pattern)`
    Matches,
    /// `regexp_substr(text, pattern)`
    Substring,
    /// `regexp_replace(text, pattern, replacement)`
    Replace,
}

#[derive(Debug)]
pub(super) struct PatternCall {
    of: Of,
    /// Text, pattern and perhaps replacement.
    arguments: Vec<Node>,
    /// The compiled pattern when it is a literal.
    constant: Option<Option<Regex>>,
}

impl PatternCall {
    pub fn new(of: Of, arguments: Vec<Node>) -> Self {
        let constant = match arguments.get(1) {
            Some(Node::Constant(pattern)) => Some(compile(pattern)),
            _ => None,
        };
        Self { of, arguments, constant }
    }

    pub fn evaluate(&self, scope: Scope<'_>) -> Result<Value, EvaluationError> {
        let [text, pattern, rest @ ..] = self.arguments.as_slice() else {
            return Ok(Value::Undefined);
        };
        let text = text.evaluate(scope)?;
        let Some(text) = text.to_text() else { return Ok(Value::Undefined) };
        let regex = match &self.constant {
            Some(constant) => constant.as_ref().map(Cow::Borrowed),
            None => {
                scope.frame.step(DYNAMIC_STEPS)?;
                compile(&*pattern.evaluate(scope)?).map(Cow::Owned)
            }
        };
        let Some(regex) = regex else { return Ok(Value::Undefined) };
        let frame = scope.frame;
        Ok(match self.of {
            Of::Matches => Value::Bool(regex.is_match(&text)),
            Of::Substring => match regex.find(&text) {
                Some(found) => frame.text(found.as_str())?,
                None => Value::Undefined,
            },
            Of::Replace => {
                let Some(replacement) = rest.first() else { return Ok(Value::Undefined) };
                let replacement = replacement.evaluate(scope)?;
                let Some(replacement) = replacement.to_text() else { return Ok(Value::Undefined) };
                let replacement = with_braces(&replacement);
                let mut replaced = String::new();
                let mut end = 0;
                // One by one, so that the bound is met before the memory is used.
                for captures in regex.captures_iter(&text) {
                    let Some(whole) = captures.get(0) else { continue };
                    let before = replaced.len();
                    replaced.push_str(&text[end..whole.start()]);
                    captures.expand(&replacement, &mut replaced);
                    frame.charge(replaced.len() - before)?;
                    end = whole.end();
                }
                frame.charge(text.len() - end)?;
                replaced.push_str(&text[end..]);
                Value::Text(replaced)
            }
        })
    }
}

/// Steps that compiling a pattern takes: about as long as so many parts of an expression.
const DYNAMIC_STEPS: u32 = 2_000;

fn compile(pattern: &Value) -> Option<Regex> {
    let pattern = pattern.to_text()?;
    RegexBuilder::new(&pattern)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .build()
        .ok()
}

/// Java's `$1a` is the first group and an `a`; in the crate it is a group named `1a`.
fn with_braces(replacement: &str) -> String {
    let mut braced = String::with_capacity(replacement.len());
    let mut rest = replacement;
    while let Some(dollar) = rest.find('$') {
        let behind = &rest[dollar + 1..];
        let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
        braced.push_str(&rest[..dollar]);
        if digits > 0 {
            braced.push_str("${");
            braced.push_str(&behind[..digits]);
            braced.push('}');
        } else {
            braced.push_str("$$");
        }
        rest = &behind[digits..];
    }
    braced.push_str(rest);
    braced
}
