//! Shadow requests: from bytes to what is asked, with AWS's checks in AWS's order.

use super::ShadowError;
use crate::limits::Limits;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longest `clientToken` in bytes.
const CLIENT_TOKEN_BYTES_MAX: usize = 64;

/// Levels that no configuration exceeds: a stored shadow must stay within the 128 levels that
/// serde_json reads.
const LEVELS_MAX: u32 = 100;

/// Longest piece of a client's text that an error message repeats, in characters.
const ECHO_CHARACTERS_MAX: usize = 64;

/// A request document as far as it could be read: enough to answer with the client's token.
#[derive(Debug, Default)]
pub(super) struct Request(Map<String, Value>);

/// What an update asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Update {
    pub(super) desired: Section,
    pub(super) reported: Section,
    /// The update is for this version only.
    pub(super) version: Option<u64>,
}

/// What an update does to `desired` or `reported`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Section {
    /// It is not mentioned.
    #[default]
    Keep,
    /// It is null: goes away with its metadata.
    Remove,
    /// Merge this into it.
    Merge(Map<String, Value>),
}

impl Request {
    /// Reads the JSON object. Whoever has no state to send may send nothing at all.
    pub(super) fn read(payload: &[u8], limits: &Limits) -> Result<Self, ShadowError> {
        if payload.len() > limits.payload_bytes as usize {
            return Err(ShadowError::TooLarge);
        }
        if payload.is_empty() {
            return Ok(Self::default());
        }
        let text = std::str::from_utf8(payload).map_err(|_| ShadowError::UnsupportedEncoding)?;
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            // serde_json tells this apart in its text only.
            Err(error) if error.to_string().starts_with("recursion limit exceeded") => {
                Err(ShadowError::TooDeep { max: levels_max(limits) })
            }
            _ => Err(ShadowError::InvalidJson),
        }
    }

    /// Of a request whose content does not count, the client's token; nothing where there is none.
    pub(super) fn read_token(payload: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Envelope {
            #[serde(rename = "clientToken")]
            client_token: Value,
        }
        // An array would be read as the members of the envelope in their order.
        if !payload.trim_ascii_start().starts_with(b"{") {
            return Self::default();
        }
        // What is ignored may be nested as deeply as it likes: serde_json skips it in a loop.
        let token = serde_json::from_slice(payload).map(|it: Envelope| it.client_token);
        Self(token.map(|token| ("clientToken".to_owned(), token)).into_iter().collect())
    }

    /// The client's token, to be repeated in every answer.
    pub(super) fn client_token(&self) -> Result<Option<String>, ShadowError> {
        match self.0.get("clientToken") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(token)) if token.len() <= CLIENT_TOKEN_BYTES_MAX => {
                Ok(Some(token.clone()))
            }
            Some(_) => Err(ShadowError::InvalidClientToken),
        }
    }

    /// The update that is asked for.
    pub(super) fn into_update(mut self, limits: &Limits) -> Result<Update, ShadowError> {
        let mut state = match self.0.remove("state") {
            None => return Err(ShadowError::MissingState),
            Some(Value::Object(state)) => state,
            Some(_) => return Err(ShadowError::StateNotObject),
        };
        let update = Update {
            desired: section(state.remove("desired"), ShadowError::DesiredNotObject)?,
            reported: section(state.remove("reported"), ShadowError::ReportedNotObject)?,
            version: match self.0.get("version") {
                None | Some(Value::Null) => None,
                Some(version) => Some(version.as_u64().ok_or(ShadowError::InvalidVersion)?),
            },
        };
        self.client_token()?;
        let max = levels_max(limits);
        if update.values().any(|value| levels(value) > max) {
            return Err(ShadowError::TooDeep { max });
        }
        if let Some(name) = state.keys().next() {
            let name = Some(name.chars().take(ECHO_CHARACTERS_MAX).collect());
            return Err(ShadowError::InvalidNode { name });
        }
        if update.values().any(|value| has_null_in_array(value, false)) {
            return Err(ShadowError::InvalidNode { name: None });
        }
        Ok(update)
    }
}

impl Update {
    /// The members of both sections.
    fn values(&self) -> impl Iterator<Item = &Value> {
        let sections = [&self.desired, &self.reported].into_iter();
        let merged = sections.filter_map(|section| match section {
            Section::Merge(fields) => Some(fields.values()),
            Section::Keep | Section::Remove => None,
        });
        merged.flatten()
    }
}

/// Levels that `desired` and `reported` may have.
fn levels_max(limits: &Limits) -> u32 {
    limits.shadow_levels.min(LEVELS_MAX)
}

fn section(value: Option<Value>, otherwise: ShadowError) -> Result<Section, ShadowError> {
    match value {
        None => Ok(Section::Keep),
        Some(Value::Object(fields)) => Ok(Section::Merge(fields)),
        Some(Value::Null) => Ok(Section::Remove),
        Some(_) => Err(otherwise),
    }
}

/// Levels of a member of a section, from 1; those of an array count too.
///
/// The recursion is bounded, here and below: serde_json reads at most 128 levels.
fn levels(value: &Value) -> u32 {
    let inner = match value {
        Value::Object(fields) => fields.values().map(levels).max(),
        Value::Array(values) => values.iter().map(levels).max(),
        _ => None,
    };
    1 + inner.unwrap_or(0)
}

/// Inside an array a null would be a value, which a shadow cannot hold.
fn has_null_in_array(value: &Value, is_in_array: bool) -> bool {
    match value {
        Value::Null => is_in_array,
        Value::Array(values) => values.iter().any(|value| has_null_in_array(value, true)),
        Value::Object(fields) => fields.values().any(|value| has_null_in_array(value, is_in_array)),
        _ => false,
    }
}
