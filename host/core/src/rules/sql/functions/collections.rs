//! Functions of objects and arrays, and questions that every value answers.

use super::super::EvaluationError;
use super::super::plan::Frame;
use super::super::value::Value;
use super::Arguments;

type Answer = Result<Value, EvaluationError>;

/// Element of an array, character of a text (both from 0), member of an object.
pub(super) fn get(frame: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    let (collection, key) = (&*arguments[0], &*arguments[1]);
    let index = || usize::try_from(key.to_int()?).ok();
    let found = match collection {
        Value::Array(elements) => index().and_then(|index| elements.get(index)),
        Value::Object(object) => key.to_text().and_then(|name| object.get(&*name)),
        Value::Text(text) => {
            return match index().and_then(|index| text.chars().nth(index)) {
                Some(character) => frame.text(character),
                None => Ok(Value::Undefined),
            };
        }
        _ => None,
    };
    found.map_or(Ok(Value::Undefined), |value| frame.copy(value))
}

pub(super) fn is_null(_: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    Ok(Value::Bool(*arguments[0] == Value::Null))
}

pub(super) fn is_undefined(_: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    Ok(Value::Bool(arguments[0].is_undefined()))
}

/// `transform('enrichArray', object, array)`: every element of the array, an object, with the
/// members of the object added; a member that the element has itself stays.
pub(super) fn transform(frame: &Frame<'_>, arguments: Arguments<'_>) -> Answer {
    let is_known = matches!(&*arguments[0], Value::Text(mode) if mode == "enrichArray");
    let (Value::Object(common), Value::Array(elements), true) =
        (&*arguments[1], &*arguments[2], is_known)
    else {
        return Ok(Value::Undefined);
    };
    let mut enriched = Vec::with_capacity(elements.len());
    for element in elements {
        frame.step(u32::try_from(common.len()).unwrap_or(u32::MAX))?;
        let Value::Object(mut members) = frame.copy(element)? else { return Ok(Value::Undefined) };
        for (name, value) in common {
            if !members.contains_key(name) {
                frame.charge(name.len())?;
                members.insert(name.clone(), frame.copy(value)?);
            }
        }
        enriched.push(Value::Object(members));
    }
    Ok(Value::Array(enriched))
}
