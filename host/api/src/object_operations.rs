//! Objects, which AWS keeps in Amazon S3: put, read, remove; and what their lines would register.

use crate::Services;
use crate::call::{Answer, Call, decode_token, encode_token};
use crate::error::ApiError;
use crate::iot::thing_registration::object;
use crate::router::{Handlers, handlers};
use crate::sigv4::ENCODED;
use gnomon_core::provisioning::{Checked, Input, ObjectName, Place, Problem};
use percent_encoding::utf8_percent_encode;
use serde::{Deserialize, Serialize};

pub(crate) const HANDLERS: Handlers = handlers! {
    PutObject => put;
    GetObject => get;
    DeleteObject => delete;
    TryThingRegistration => try_registration;
};

/// Largest object in bytes that is answered: more than a part of a report has, and as much as
/// `gnomon`'s own client takes.
const OBJECT_BYTES_MAX: usize = 16 * 1_024 * 1_024;

async fn put(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let name = name(call)?;
    services.registrations.put_object(&name, call.body.clone()).await?;
    tracing::info!(principal = call.caller.name(), object = %name, bytes = call.body.len(), "object written");
    Ok(Answer::empty())
}

async fn get(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let bytes = services.registrations.object(&name(call)?, OBJECT_BYTES_MAX).await?;
    Ok(Answer::body(bytes, "application/octet-stream"))
}

async fn delete(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let name = name(call)?;
    services.registrations.delete_object(&name).await?;
    tracing::info!(principal = call.caller.name(), object = %name, "object deleted");
    Ok(Answer::empty())
}

/// Some thousand lines per call; the token asks for the rest.
async fn try_registration(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Members {
        template_body: String,
        input_file_bucket: String,
        input_file_key: String,
        /// So that the members of StartThingRegistrationTask can be sent as they are.
        #[serde(default, rename = "roleArn")]
        _role_arn: Option<String>,
        next_token: Option<String>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        valid_count: u64,
        invalid_count: u64,
        problems: Vec<ProblemBody>,
        percentage_progress: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ProblemBody {
        line_number: u64,
        offset: u64,
        error_message: String,
    }
    let members: Members = call.members()?;
    let object = object(&members.input_file_bucket, &members.input_file_key)?;
    let input = Input { template: members.template_body, object };
    let from = members.next_token.as_deref().map_or(Ok(Place::default()), place)?;
    let checked = services.registrations.check(&input, from).await?;
    let Checked { valid, invalid, problems, place, size } = checked;
    let problem = |Problem { line, offset, message }| ProblemBody {
        line_number: line,
        offset,
        error_message: message,
    };
    let token = || encode_token(&format!("{}:{}", place.offset, place.lines));
    Answer::members(&Body {
        valid_count: valid,
        invalid_count: invalid,
        problems: problems.into_iter().map(problem).collect(),
        percentage_progress: place.offset.saturating_mul(100) / size.max(1),
        next_token: (place.offset < size).then(token),
    })
}

fn place(token: &str) -> Result<Place, ApiError> {
    let text = decode_token(token)?;
    let place = text.split_once(':').and_then(|(offset, lines)| {
        Some(Place { offset: offset.parse().ok()?, lines: lines.parse().ok()? })
    });
    place.ok_or_else(|| ApiError::invalid_request("nextToken is not one that this host gave out"))
}

fn name(call: &Call<'_>) -> Result<ObjectName, ApiError> {
    object(call.label("bucket"), call.label("key"))
}

/// The path of an object in this API.
pub(crate) fn path_of(object: &ObjectName) -> String {
    let mut path = format!("/objects/{}", utf8_percent_encode(object.bucket(), ENCODED));
    for segment in object.segments() {
        path.push('/');
        path.extend(utf8_percent_encode(segment, ENCODED));
    }
    path
}
