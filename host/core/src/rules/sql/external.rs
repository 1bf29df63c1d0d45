//! Functions whose answer is not in the message: shadows, the registry, functions of plugins.
//!
//! An evaluation does no I/O. It ends with [`EvaluationError::Needs`] at the first call whose
//! answer it lacks; whoever evaluates asks, adds the answer to [`Answers`] and evaluates again.

use super::value::Value;
use super::{EXTERNAL_CALLS_MAX, EvaluationError};
use bytes::Bytes;

/// Whom an expression calls.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Callee {
    /// `get_thing_shadow(thing[, shadow], roleArn)`
    ThingShadow,
    /// `get_registry_data(operation, thing, roleArn)`
    RegistryData,
    /// `aws_lambda(functionArn, payload)`
    Lambda,
    /// `decode(payload, 'proto', …)`: a descriptor set is a file of the operator.
    Proto,
    /// A function of a plugin, as the statement spells it.
    Custom(String),
}

/// A value on its way to a function, or back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datum {
    /// No value.
    Undefined,
    /// JSON text.
    Json(String),
    /// A payload that is no JSON.
    Bytes(Bytes),
}

impl Datum {
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Bytes(bytes) => Self::Bytes(bytes.clone()),
            value => value.to_json().map_or(Self::Undefined, Self::Json),
        }
    }

    fn into_value(self) -> Result<Value, String> {
        match self {
            Self::Undefined => Ok(Value::Undefined),
            Self::Json(json) => Value::from_json(json.as_bytes(), super::Version::V2016)
                .ok_or_else(|| "the answer is no JSON, or nested too deep".to_owned()),
            Self::Bytes(bytes) => Ok(Value::Bytes(bytes)),
        }
    }
}

/// One call that an evaluation needs the answer of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalCall {
    /// Whom.
    pub callee: Callee,
    /// With what.
    pub arguments: Vec<Datum>,
}

impl ExternalCall {
    /// The function's name, for people.
    pub fn name(&self) -> &str {
        match &self.callee {
            Callee::ThingShadow => "get_thing_shadow",
            Callee::RegistryData => "get_registry_data",
            Callee::Lambda => "aws_lambda",
            Callee::Proto => "decode",
            Callee::Custom(name) => name,
        }
    }
}

/// What the calls of one evaluation were answered.
#[derive(Debug, Default)]
pub struct Answers(Vec<(ExternalCall, Result<Value, String>)>);

impl Answers {
    /// No answers: every call is needed.
    pub const NONE: Self = Self(Vec::new());

    /// Adds an answer, or why there is none.
    ///
    /// What is no JSON or too deep is a failure of the function.
    pub fn add(&mut self, call: ExternalCall, answer: Result<Datum, String>) {
        self.0.push((call, answer.and_then(Datum::into_value)));
    }

    pub(super) fn find(&self, call: ExternalCall) -> Result<&Value, EvaluationError> {
        match self.0.iter().find(|(known, _)| *known == call) {
            Some((_, Ok(value))) => Ok(value),
            Some((_, Err(reason))) => Err(EvaluationError::Function {
                name: call.name().to_owned(),
                reason: reason.clone(),
            }),
            None if self.0.len() >= EXTERNAL_CALLS_MAX => Err(EvaluationError::Function {
                name: call.name().to_owned(),
                reason: format!("a message may make at most {EXTERNAL_CALLS_MAX} such calls"),
            }),
            None => Err(EvaluationError::Needs(Box::new(call))),
        }
    }
}
