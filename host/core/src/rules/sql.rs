//! Rules SQL: AWS IoT's query language over one message.
//!
//! In: the text of a rule ([`Statement::parse`]) and a message ([`evaluate`]). Out: the bytes
//! that the rule's actions get, or that the message did not pass.
//! Text -> `lexer` -> `parser` -> `ast` -> `plan`; a plan reads only those paths of the payload
//! that it names (`document`), and `SELECT *` alone hands the payload on untouched.
//! Not here: who subscribes the FROM filter (`rules`). Nothing here has state or does I/O.
//!
//! Source: AWS IoT developer guide, "AWS IoT SQL reference". To come: SET, VALUE, CASE, IN,
//! nested SELECT, object and array literals; the parser refuses them by name.

mod ast;
mod document;
mod functions;
mod lexer;
mod operators;
mod output;
mod parser;
mod plan;
#[allow(dead_code, reason = "the functions that call it are to come")]
mod protobuf;
#[allow(dead_code, reason = "the functions that call it are to come")]
mod time_pattern;
mod value;

use crate::message::Message;
use crate::random::Random;
use crate::time::Timestamp;
use crate::topic::TopicFilter;
use bytes::Bytes;

/// Longest statement in bytes; AWS allows 128 KB for a whole rule.
pub const STATEMENT_BYTES_MAX: usize = 128 * 1_024;

/// Deepest expression: operators, calls and parentheses inside each other.
///
/// Evaluation recurses as deep; a level takes below 1 KiB of stack, a worker thread has 2 MiB.
pub const EXPRESSION_DEPTH_MAX: u32 = 128;

/// Parts (literals, names, operators, calls) of a statement; bounds the time of one evaluation.
pub const EXPRESSION_PARTS_MAX: u32 = 4_096;

/// Deepest JSON value that an expression reads, counted from the root of the payload.
pub const JSON_DEPTH_MAX: usize = 64;

/// Longest result in bytes: 8 times AWS's largest payload; more is a mistake in the rule.
pub const RESULT_BYTES_MAX: usize = 1_024 * 1_024;

/// Memory for the values that WHERE or SELECT computes on its way; what it reads is not counted.
///
/// A payload of 128 KiB takes up to 3 MiB as values, so it can be copied a few times.
pub const EVALUATION_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// `awsIotSqlVersion` of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `2015-10-08`: what AWS takes when a rule names none.
    #[default]
    V2015,
    /// `2016-03-23`: more functions, and decimals without a fraction become Int.
    V2016,
    /// `beta`: here the same as `2016-03-23`.
    Beta,
}

impl Version {
    /// The version with this name; `None` when there is none.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::V2015, Self::V2016, Self::Beta].into_iter().find(|version| version.as_str() == text)
    }

    /// The name as AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2015 => "2015-10-08",
            Self::V2016 => "2016-03-23",
            Self::Beta => "beta",
        }
    }
}

/// Why a text is not a statement, and where. AWS: `SqlParseException`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct SqlError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What was expected and what was found.
    pub message: String,
}

impl SqlError {
    /// `at` is a byte offset in `text`.
    fn new(text: &str, at: usize, message: String) -> Self {
        let before = &text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message,
        }
    }
}

/// Why an evaluation ended without an answer. A missing or mistyped field is no error: it is
/// Undefined, and an Undefined WHERE does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// A value that the statement reads is nested deeper than [`JSON_DEPTH_MAX`].
    #[error("the payload is nested deeper than {JSON_DEPTH_MAX} levels")]
    TooDeep,
    /// Beyond [`RESULT_BYTES_MAX`], or on the way there beyond [`EVALUATION_BYTES_MAX`].
    #[error("the result has more than {RESULT_BYTES_MAX} bytes, or takes too much to compute")]
    TooLarge,
}

/// What a statement is evaluated against.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The message.
    pub message: &'a Message,
    /// What `timestamp()` answers.
    pub now: Timestamp,
    /// For `newuuid()` and `rand()`.
    pub random: &'a dyn Random,
}

/// A parsed statement, ready to be evaluated. Immutable; share it by `Arc`.
#[derive(Debug)]
pub struct Statement {
    filter: Option<TopicFilter>,
    plan: plan::Plan,
}

impl Statement {
    /// Parses a statement of the default version.
    ///
    /// # Errors
    /// As for [`Statement::parse_version`].
    pub fn parse(text: &str) -> Result<Self, SqlError> {
        Self::parse_version(text, Version::default())
    }

    /// Parses a statement.
    ///
    /// # Errors
    /// Says where the text is no statement of this version, what was expected and what is there.
    pub fn parse_version(text: &str, version: Version) -> Result<Self, SqlError> {
        if text.len() > STATEMENT_BYTES_MAX {
            let len = text.len();
            let message = format!("the statement has {len} bytes; at most {STATEMENT_BYTES_MAX}");
            return Err(SqlError::new(text, 0, message));
        }
        let located = |error: ast::SyntaxError| SqlError::new(text, error.at, error.message);
        let select = parser::parse(text).map_err(located)?;
        let filter = select.filter.clone();
        let plan = plan::Plan::compile(&select, version).map_err(located)?;
        Ok(Self { filter, plan })
    }

    /// The FROM filter; a rule without one runs only when it is called by name.
    pub fn filter(&self) -> Option<&TopicFilter> {
        self.filter.as_ref()
    }
}

/// What the actions get for this message; `None` when it does not pass WHERE.
///
/// The FROM filter is not looked at: whoever delivers the message has matched it.
///
/// # Errors
/// A bound was exceeded; see [`EvaluationError`].
pub fn evaluate(
    statement: &Statement,
    input: &Input<'_>,
) -> Result<Option<Bytes>, EvaluationError> {
    statement.plan.evaluate(input)
}

#[cfg(test)]
mod tests;
