//! Shadow requests: from bytes to what is asked, with AWS's checks in AWS's order.

use super::ShadowError;
use crate::limits::Limits;
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
            _ => Err(ShadowError::InvalidJson),
        }
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
        let state = match self.0.remove("state") {
            None => return Err(ShadowError::MissingState),
            Some(Value::Object(state)) => state,
            Some(_) => return Err(ShadowError::StateNotObject),
        };
        let mut update = Update::default();
        for (name, value) in state {
            match &*name {
                "desired" => update.desired = section(value, ShadowError::DesiredNotObject)?,
                "reported" => update.reported = section(value, ShadowError::ReportedNotObject)?,
                _ => {
                    let name = Some(name.chars().take(ECHO_CHARACTERS_MAX).collect());
                    return Err(ShadowError::InvalidNode { name });
                }
            }
        }
        update.version = match self.0.get("version") {
            None | Some(Value::Null) => None,
            Some(version) => Some(version.as_u64().ok_or(ShadowError::InvalidVersion)?),
        };
        self.client_token()?;
        let levels = limits.shadow_levels.min(LEVELS_MAX);
        for section in [&update.desired, &update.reported] {
            if let Section::Merge(fields) = section {
                fields.values().try_for_each(|value| check(value, 1, levels))?;
            }
        }
        Ok(update)
    }
}

fn section(value: Value, otherwise: ShadowError) -> Result<Section, ShadowError> {
    match value {
        Value::Object(fields) => Ok(Section::Merge(fields)),
        Value::Null => Ok(Section::Remove),
        _ => Err(otherwise),
    }
}

/// Checks a member of a section that lies `level` levels deep.
///
/// The recursion is bounded: serde_json reads at most 128 levels.
fn check(value: &Value, level: u32, max: u32) -> Result<(), ShadowError> {
    if level > max {
        return Err(ShadowError::TooDeep { max });
    }
    match value {
        Value::Object(fields) => fields.values().try_for_each(|value| check(value, level + 1, max)),
        Value::Array(values) => values.iter().try_for_each(|value| {
            if has_null(value) {
                return Err(ShadowError::InvalidNode { name: None });
            }
            check(value, level + 1, max)
        }),
        _ => Ok(()),
    }
}

/// Inside an array a null would be a value, which a shadow cannot hold.
fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.iter().any(has_null),
        Value::Object(fields) => fields.values().any(has_null),
        _ => false,
    }
}
