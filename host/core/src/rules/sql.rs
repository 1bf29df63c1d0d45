//! Rules SQL: AWS IoT's query language over one message.
//!
//! In: the text of a rule ([`Statement::parse`]) and a message ([`evaluate`]). Out: the bytes
//! that the rule's actions get, or that the message did not pass.
//! Text -> `lexer` -> `parser` -> `ast` -> `plan`; a plan reads only those paths of the payload
//! that it names (`document`), and `SELECT *` alone hands the payload on untouched.
//! Not here: who subscribes the FROM filter (`rules`). Nothing here has state or does I/O.
//!
//! Source: AWS IoT developer guide, "AWS IoT SQL reference".

mod ast;
mod decimal;
mod document;
mod external;
mod functions;
mod lexer;
mod operators;
mod output;
mod parser;
mod pattern;
mod plan;
pub mod protobuf;
mod template;
mod time_pattern;
mod trace;
mod value;

pub use external::{Answers, Callee, Datum, ExternalCall};
pub use functions::is_builtin;
pub use template::Template;
pub use trace::{Traced, trace};

use crate::message::Message;
use crate::random::Random;
use crate::time::Timestamp;
use crate::topic::TopicFilter;
use bytes::Bytes;

/// Longest statement in bytes; AWS allows 128 KB for a whole rule.
pub const STATEMENT_BYTES_MAX: usize = 128 * 1_024;

/// Parentheses, calls, literals and nested SELECTs inside each other.
///
/// The parser recurses as deep; a level takes some KiB of stack, a worker thread has 2 MiB.
pub const EXPRESSION_NESTING_MAX: u32 = 64;

/// Deepest expression, with operators that follow each other: `a + b + c` is three deep.
///
/// Evaluation recurses as deep; a level takes below 1 KiB of stack.
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

/// What an evaluation may do for the elements of arrays: parts of nested SELECTs times elements.
///
/// A part takes some 20 ns, so this is a tenth of a second.
pub const EVALUATION_STEPS_MAX: u32 = 4_000_000;

/// Variables that SET may define. AWS: 10.
pub const VARIABLES_MAX: usize = 10;

/// Longest name of a variable. AWS: 64.
pub const VARIABLE_NAME_CHARS_MAX: usize = 64;

/// Different calls of functions of the host or of plugins that one message may cause in one rule.
pub const EXTERNAL_CALLS_MAX: usize = 16;

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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// A value that the statement reads is nested deeper than [`JSON_DEPTH_MAX`].
    #[error("the payload is nested deeper than {JSON_DEPTH_MAX} levels")]
    TooDeep,
    /// Beyond [`RESULT_BYTES_MAX`], or on the way there beyond [`EVALUATION_BYTES_MAX`].
    #[error("the result has more than {RESULT_BYTES_MAX} bytes, or takes too much to compute")]
    TooLarge,
    /// Beyond [`EVALUATION_STEPS_MAX`].
    #[error("the arrays have too many elements for what the rule does with each of them")]
    TooLong,
    /// A function of the host or of a plugin failed.
    #[error("function {name}: {reason}")]
    Function {
        /// As the statement spells it.
        name: String,
        /// For the operator.
        reason: String,
    },
    /// A substitution template has no text.
    #[error("the template ${{{0}}} is Undefined or Null")]
    Template(String),
    /// No failure: get the answer of this call, add it to [`Input::answers`], evaluate again.
    #[error("the answer of {} is needed", .0.name())]
    Needs(Box<ExternalCall>),
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
    /// What `accountid()` answers.
    pub account: &'a str,
    /// What functions of the host and of plugins have answered so far.
    pub answers: &'a Answers,
}

/// Levels of `$aws/rules/NAME/…` that belong to Basic Ingest and not to the message.
const BASIC_INGEST: &str = "$aws/rules/";

impl Input<'_> {
    /// The topic as rules see it: without the prefix of Basic Ingest.
    pub fn topic(&self) -> &str {
        let topic = self.message.topic.as_str();
        let behind_rule = || topic.strip_prefix(BASIC_INGEST)?.split_once('/').map(|(_, it)| it);
        behind_rule().unwrap_or(topic)
    }

    /// What names the message in log lines and error actions: the same whenever it is evaluated.
    pub fn trace_id(&self) -> String {
        trace_id(self.message)
    }
}

/// A UUID (version 8 of RFC 9562) made of what a message consists of. AWS gives each a random
/// one; ours is the same again when a message is evaluated again after a crash.
pub fn trace_id(message: &Message) -> String {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    hash.update(message.topic.as_str());
    hash.update(message.received_at.as_millis().to_le_bytes());
    hash.update(message.publisher.client_id.as_ref().map_or("", |it| it.as_str()));
    hash.update(&message.payload);
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    id[6] = (id[6] & 0x0f) | 0x80;
    id[8] = (id[8] & 0x3f) | 0x80;
    let hex = crate::random::hex(&id);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
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
        let tree = parser::parse(text).map_err(located)?;
        let filter = tree.filter.clone();
        let plan = plan::Plan::compile(&tree, version).map_err(located)?;
        Ok(Self { filter, plan })
    }

    /// Functions that the statement calls and Gnomon does not have: they have to come from
    /// plugins.
    pub fn custom_functions(&self) -> impl Iterator<Item = &str> {
        self.plan.custom().iter().map(|(name, _)| name.as_str())
    }

    /// Says that there is no such function, and where `text`, the statement's, calls it.
    pub fn unknown_function(&self, text: &str, name: &str) -> SqlError {
        let at = self.plan.custom().iter().find(|(known, _)| known == name).map_or(0, |it| it.1);
        SqlError::new(text, at, unknown_function(name))
    }

    /// The FROM filter; a rule without one runs only when it is called by name.
    pub fn filter(&self) -> Option<&TopicFilter> {
        self.filter.as_ref()
    }
}

fn unknown_function(name: &str) -> String {
    format!("there is no function `{name:.64}`, and no plugin that offers it is loaded")
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
