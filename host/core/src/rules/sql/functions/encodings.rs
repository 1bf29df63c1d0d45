//! Hashes, and encodings of bytes as text.

use super::super::EvaluationError;
use super::super::plan::Frame;
use super::super::value::Value;
use super::Arguments;
use crate::random::hex;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

type Answer = Result<Value, EvaluationError>;

/// In lower-case hexadecimal.
pub(super) fn hash<D: sha2::Digest>(bytes: &[u8]) -> String {
    hex(&D::digest(bytes))
}

/// `encode(value, 'base64')`
pub(super) fn encode(frame: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    match (arguments[0].to_bytes(), is_base64(&arguments[1])) {
        (Some(bytes), true) => {
            frame.charge(bytes.len() / 3 * 4)?;
            frame.text(STANDARD.encode(bytes))
        }
        _ => Ok(Value::Undefined),
    }
}

/// `decode(text, 'base64')`: a JSON value where the decoded text is one, else the text; Null
/// where it cannot be decoded.
pub(super) fn decode(frame: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    if !is_base64(&arguments[1]) {
        return Ok(Value::Undefined);
    }
    let Some(encoded) = arguments[0].to_bytes() else { return Ok(Value::Null) };
    let Ok(decoded) = STANDARD.decode(&*encoded) else { return Ok(Value::Null) };
    // A value of a payload takes more than its text: 24 times for short numbers.
    frame.charge(decoded.len())?;
    if let Some(value) = Value::from_json(&decoded, frame.version) {
        frame.charge(value.memory_bytes())?;
        return Ok(value);
    }
    Ok(match String::from_utf8(decoded) {
        Ok(text) => Value::Text(text),
        Err(error) => Value::Bytes(error.into_bytes().into()),
    })
}

fn is_base64(encoding: &Value) -> bool {
    matches!(encoding, Value::Text(name) if name.eq_ignore_ascii_case("base64"))
}
