//! What is answered. Source: AWS IoT, "Defining your Lambda function", its output.

use gnomon_sdk::authorizer::{POLICIES_MAX, is_principal};
use gnomon_sdk::{AuthResponse, Response};
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// Longest answer: ten documents of 2,048 characters, and white space.
const ANSWER_BYTES_MAX: usize = 65_536;

/// What AWS takes for both times.
const SECONDS: RangeInclusive<u32> = 300..=86_400;

/// The decision in a response; members that do not matter here may be there.
///
/// # Errors
/// Why it is none, with nothing of it.
pub fn read(response: &Response) -> Result<AuthResponse, String> {
    if response.status != 200 {
        return Err(format!("the webhook answered with status {}", response.status));
    }
    let len = response.body.len();
    if len > ANSWER_BYTES_MAX {
        return Err(format!(
            "the webhook's answer has {len} bytes; at most {ANSWER_BYTES_MAX} are allowed"
        ));
    }
    let answer: Map<String, Value> = serde_json::from_slice(&response.body)
        .map_err(|_| "the webhook's answer is not a JSON object")?;
    match answer.get("isAuthenticated") {
        Some(Value::Bool(true)) => accepted(&answer),
        // Nothing else of it matters then.
        Some(Value::Bool(false)) => Ok(AuthResponse::refused(&"the webhook does not let it in")),
        _ => Err(wrong("isAuthenticated", "neither true nor false")),
    }
}

fn accepted(answer: &Map<String, Value>) -> Result<AuthResponse, String> {
    let principal = answer.get("principalId").and_then(Value::as_str);
    let principal = principal
        .filter(|id| is_principal(id))
        .ok_or_else(|| wrong("principalId", "not 1 to 128 of [a-zA-Z0-9]"))?;
    let documents = answer.get("policyDocuments").and_then(Value::as_array);
    let documents = documents
        .filter(|documents| documents.len() <= POLICIES_MAX)
        .ok_or_else(|| wrong("policyDocuments", "not a list of 10 at most"))?;
    let documents = documents.iter().map(|document| match document {
        Value::String(text) => Ok(text.clone()),
        Value::Object(_) => Ok(document.to_string()),
        _ => Err(wrong("policyDocuments", "not a list of objects or texts")),
    });
    Ok(AuthResponse {
        is_authenticated: true,
        principal_id: principal.into(),
        policy_documents: documents.collect::<Result<_, _>>()?,
        disconnect_after_seconds: seconds(answer, "disconnectAfterInSeconds")?,
        refresh_after_seconds: seconds(answer, "refreshAfterInSeconds")?,
        attributes: Vec::new(),
    })
}

/// 0, which means never, when it is not there.
fn seconds(answer: &Map<String, Value>, member: &str) -> Result<u32, String> {
    let Some(value) = answer.get(member) else { return Ok(0) };
    let seconds = value.as_u64().and_then(|seconds| u32::try_from(seconds).ok());
    seconds
        .filter(|seconds| SECONDS.contains(seconds))
        .ok_or_else(|| wrong(member, "not a whole number from 300 to 86400"))
}

fn wrong(member: &str, what: &str) -> String {
    format!("in the webhook's answer {member} is {what}")
}
