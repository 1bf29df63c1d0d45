//! Functions of texts. Everything but Null and Undefined has a text (`Value::to_text`).

use super::super::EvaluationError;
use super::super::decimal::Number;
use super::super::plan::Frame;
use super::super::value::Value;
use super::{Arguments, count, floor};

/// Spaces that `lpad` and `rpad` add at most. AWS: 0 to 1,000.
const PAD_MAX: i128 = 1_000;

type Answer = Result<Value, EvaluationError>;

/// One argument unchanged; with an array among them an array of all; else the texts joined.
pub(super) fn concat(frame: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    match arguments {
        [] => return Ok(Value::Undefined),
        [only] => return frame.copy(only),
        _ => {}
    }
    if arguments.iter().any(|argument| matches!(**argument, Value::Array(_))) {
        let mut all = Vec::new();
        for argument in arguments {
            let elements = match &**argument {
                Value::Array(elements) => elements.as_slice(),
                other => std::slice::from_ref(other),
            };
            for element in elements.iter().filter(|element| !element.is_undefined()) {
                all.push(frame.copy(element)?);
            }
        }
        return Ok(Value::Array(all));
    }
    let mut joined = String::new();
    for argument in arguments {
        let Some(text) = argument.to_text() else { return Ok(Value::Undefined) };
        frame.charge(text.len())?;
        joined.push_str(&text);
    }
    Ok(Value::Text(joined))
}

/// The character with this number in Unicode; numbers are rounded down.
pub(super) fn chr(frame: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    let number = floor(&arguments[0]).and_then(|int| u32::try_from(int).ok());
    match number.and_then(char::from_u32) {
        Some(character) => frame.text(character),
        None => Ok(Value::Undefined),
    }
}

/// Where the second text first stands in the first one, in characters from 0; else -1.
pub(super) fn index_of(_: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    let (Some(text), Some(part)) = (arguments[0].to_text(), arguments[1].to_text()) else {
        return Ok(Value::Undefined);
    };
    Ok(match text.find(&*part) {
        Some(at) => count(text[..at].chars().count()),
        None => Value::Int(-1),
    })
}

pub(super) fn length(_: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    Ok(arguments[0].to_text().map_or(Value::Undefined, |text| count(text.chars().count())))
}

pub(super) fn numbytes(_: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    Ok(arguments[0].to_bytes().map_or(Value::Undefined, |bytes| count(bytes.len())))
}

pub(super) fn lpad(frame: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    padded(frame, arguments, |text, spaces| [spaces, text].concat())
}

pub(super) fn rpad(frame: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    padded(frame, arguments, |text, spaces| [text, spaces].concat())
}

/// A number of spaces below 0 is 0, one above the bound is the bound.
fn padded(frame: &Frame<'_>, arguments: Arguments<'_>, join: fn(&str, &str) -> String) -> Answer {
    let spaces = floor(&arguments[1]).map(|n| usize::try_from(n.clamp(0, PAD_MAX)).unwrap_or(0));
    let (Some(text), Some(spaces)) = (arguments[0].to_text(), spaces) else {
        return Ok(Value::Undefined);
    };
    frame.text(join(&text, &" ".repeat(spaces)))
}

/// `replace(text, part, replacement)`: all occurrences.
pub(super) fn replace(frame: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    let (Some(text), Some(part), Some(replacement)) =
        (arguments[0].to_text(), arguments[1].to_text(), arguments[2].to_text())
    else {
        return Ok(Value::Undefined);
    };
    // An empty part stands between all characters.
    frame.charge(text.matches(&*part).count() * replacement.len() + text.len())?;
    Ok(Value::Text(text.replace(&*part, &replacement)))
}

/// `substring(text, start[, end])` in characters from 0; indices are rounded down and clamped.
pub(super) fn substring(frame: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    let (Some(text), Some(start)) = (arguments[0].to_text(), index(&arguments[1])) else {
        return Ok(Value::Undefined);
    };
    let end = match arguments.get(2) {
        Some(end) => match index(end) {
            Some(end) => end,
            None => return Ok(Value::Undefined),
        },
        None => usize::MAX,
    };
    let part = text.chars().skip(start).take(end.saturating_sub(start)).collect::<String>();
    frame.text(part)
}

fn index(value: &Value) -> Option<usize> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and below 0 is clamped to 0"
    )]
    Some(match value.number()? {
        Number::Int(int) => usize::try_from(int.max(0)).unwrap_or(usize::MAX),
        Number::Decimal(decimal) => decimal.floor() as usize,
    })
}
