//! Operations on rules that AWS does not have: testing a statement, figures, dead letters.

use crate::Services;
use crate::call::{Answer, Call, epoch_seconds};
use crate::error::ApiError;
use crate::iot::rules::name;
use crate::router::{Handlers, handlers};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gnomon_core::ids::ClientId;
use gnomon_core::message::{Message, Publisher};
use gnomon_core::rules::sql::{EvaluationError, Traced, Version};
use gnomon_core::rules::{DeadLetter, Figures};
use gnomon_core::topic::TopicName;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;

pub(crate) const HANDLERS: Handlers = handlers! {
    TestRule => test;
    GetRuleFigures => figures;
    ListDeadLetters => dead_letters;
    ReplayDeadLetters => replay_dead_letters;
    DeleteDeadLetters => delete_dead_letters;
};

/// What a statement is tested with.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TestBody {
    sql: String,
    /// Default `2016-03-23`: what AWS's console writes.
    aws_iot_sql_version: Option<String>,
    topic: String,
    /// As text; or `payloadBase64`.
    payload: Option<String>,
    payload_base64: Option<String>,
    client_id: Option<String>,
    /// With the value of every part.
    #[serde(default)]
    trace: bool,
}

async fn test(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        /// Absent without FROM.
        #[serde(skip_serializing_if = "Option::is_none")]
        topic_matches: Option<bool>,
        passes: bool,
        /// JSON, when the result is some.
        #[serde(skip_serializing_if = "Option::is_none")]
        result: Option<Box<RawValue>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        result_base64: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        trace: Vec<TraceBody>,
    }
    let body: TestBody = call.members()?;
    let version = match body.aws_iot_sql_version.as_deref() {
        None => Version::V2016,
        Some(text) => Version::parse(text).ok_or_else(|| {
            ApiError::invalid_request("awsIotSqlVersion must be 2015-10-08, 2016-03-23 or beta")
        })?,
    };
    let payload = match (body.payload, body.payload_base64) {
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid_request("give payload or payloadBase64, not both"));
        }
        (text, None) => text.unwrap_or_default().into_bytes(),
        (None, Some(base64)) => STANDARD
            .decode(base64)
            .map_err(|_| ApiError::invalid_request("payloadBase64 is no base64"))?,
    };
    let topic = TopicName::parse(&body.topic)
        .map_err(|error| ApiError::invalid_request(error.to_string()))?;
    let client_id = body.client_id.as_deref().map(ClientId::parse).transpose();
    let client_id = client_id.map_err(|error| ApiError::invalid_request(error.to_string()))?;
    let publisher = Publisher { client_id, principal: call.caller.principal.clone() };
    let message = Message::new(topic, payload, Arc::new(publisher), services.clock.wall());
    let tested = services.rules.test(&body.sql, version, &message, body.trace).await?;
    let (passes, result, error) = match tested.result {
        Ok(result) => (result.is_some(), result, None),
        Err(error) => (false, None, Some(error.to_string())),
    };
    let text = result.as_deref().and_then(|it| std::str::from_utf8(it).ok());
    let json = text.and_then(|text| RawValue::from_string(text.to_owned()).ok());
    let result_base64 =
        if json.is_none() { result.as_deref().map(|it| STANDARD.encode(it)) } else { None };
    Answer::members(&Body {
        topic_matches: tested.matches,
        passes,
        result: json,
        result_base64,
        error,
        trace: tested.trace.into_iter().map(TraceBody::from).collect(),
    })
}

/// A part of a statement. Neither `value` nor `error`: Undefined.
#[derive(Serialize)]
struct TraceBody {
    line: usize,
    column: usize,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<Traced> for TraceBody {
    fn from(Traced { line, column, text, value }: Traced) -> Self {
        let error = value.as_ref().err().map(EvaluationError::to_string);
        let value = value.ok().flatten().and_then(|json| RawValue::from_string(json).ok());
        Self { line, column, text, value, error }
    }
}

async fn figures(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        matched: u64,
        passed: u64,
        failed: u64,
        retried: u64,
        succeeded: u64,
        /// Of those that succeeded.
        #[serde(skip_serializing_if = "Option::is_none")]
        mean_latency_ms: Option<u64>,
        waiting: u64,
        dead_letters: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_failure: Option<String>,
    }
    let name = name(call)?;
    // The error for a rule that is not there.
    services.rules.get(&name)?;
    let figures = services.rules.figures(&name).unwrap_or_default();
    let Figures { matched, passed, failed, retried, succeeded, waiting, dead_letters, .. } =
        figures;
    Answer::members(&Body {
        matched,
        passed,
        failed,
        retried,
        succeeded,
        mean_latency_ms: figures.latency_ms.checked_div(succeeded),
        waiting,
        dead_letters,
        last_failure: figures.last_failure,
    })
}

async fn dead_letters(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        dead_letters: Vec<LetterBody>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    let page = call.page("maxResults", "nextToken")?;
    let after = page.after.as_deref();
    let letters = services.rules.dead_letters(&name(call)?, after, page.limit).await?;
    let next_token = page.next_token(letters.len(), letters.last().map(|it| it.id.as_str()));
    let dead_letters = letters.into_iter().map(LetterBody::from).collect();
    Answer::members(&Body { dead_letters, next_token })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LetterBody {
    id: String,
    failed_at: f64,
    failed_in: String,
    reason: String,
    topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    payload_base64: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_base64: Option<String>,
}

impl From<DeadLetter> for LetterBody {
    fn from(letter: DeadLetter) -> Self {
        let DeadLetter { id, part, failed_at, reason, message, result } = letter;
        Self {
            id,
            failed_at: epoch_seconds(failed_at),
            failed_in: part.to_string(),
            reason,
            topic: message.topic.to_string(),
            client_id: message.publisher.client_id.as_ref().map(ToString::to_string),
            payload_base64: STANDARD.encode(&message.payload),
            result_base64: result.map(|result| STANDARD.encode(result)),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CountBody {
    dead_letters: u64,
}

async fn replay_dead_letters(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let dead_letters = services.rules.replay_dead_letters(&name(call)?).await?;
    Answer::members(&CountBody { dead_letters })
}

async fn delete_dead_letters(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let dead_letters = services.rules.delete_dead_letters(&name(call)?).await?;
    Answer::members(&CountBody { dead_letters })
}
