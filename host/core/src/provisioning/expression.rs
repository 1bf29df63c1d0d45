//! Values of a provisioning template: text, and functions that make text.
//!
//! In: JSON of a template. Out: the same JSON with every function replaced by what it gives. A function
//! is an object with one member: `Ref`, `Fn::Join`, `Fn::Select`, `Fn::FindInMap`, `Fn::Split`,
//! `Fn::Sub`. They nest. Bound: [`BYTES_MAX`], because parameters come from devices and a template may
//! repeat them.
//!
//! Source: AWS IoT developer guide, "Provisioning template" (section "Intrinsic functions").

use serde_json::{Map, Value};
use std::cell::Cell;
use std::collections::BTreeMap;

/// Text that one expansion of a template may make, all values together.
const BYTES_MAX: usize = 512 * 1_024;

/// `Mappings`: by the name of the map, first and second key.
pub(super) type Mappings = BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>;

const JOIN: &str = "Fn::Join must have a list of two: a delimiter, and a list of texts";
const SELECT: &str = "Fn::Select must have a list of two: an index from 0, and a list of texts";
const FIND: &str = "Fn::FindInMap must have a list of three: a map of Mappings, and two keys";
const SPLIT: &str = "Fn::Split must have a list of two: a delimiter, and a text";
const SUB: &str = "Fn::Sub must have a text, or a list of two: a text, and an object of variables";

/// What functions refer to.
pub(super) struct Scope<'a> {
    parameters: &'a BTreeMap<String, String>,
    mappings: &'a Mappings,
    /// What is left of [`BYTES_MAX`].
    left: Cell<usize>,
}

/// A function of the template.
#[derive(Clone, Copy)]
enum Function<'a> {
    Ref(&'a str),
    Join(&'a Value, &'a Value),
    Select(&'a Value, &'a Value),
    FindInMap(&'a Value, &'a Value, &'a Value),
    Split(&'a Value, &'a Value),
    Sub(&'a str, Option<&'a Map<String, Value>>),
}

impl<'a> Function<'a> {
    /// `None` for JSON that is no function.
    fn read(value: &'a Value) -> Result<Option<Self>, String> {
        let Value::Object(members) = value else { return Ok(None) };
        let mut all = members.iter();
        let (Some((name, argument)), None) = (all.next(), all.next()) else { return Ok(None) };
        let list = argument.as_array().map(Vec::as_slice);
        let function = match (name.as_str(), list) {
            ("Ref", _) => Self::Ref(argument.as_str().ok_or("Ref must have a parameter's name")?),
            ("Fn::Join", Some([delimiter, list])) => Self::Join(delimiter, list),
            ("Fn::Join", _) => return Err(JOIN.to_owned()),
            ("Fn::Select", Some([index, list])) => Self::Select(index, list),
            ("Fn::Select", _) => return Err(SELECT.to_owned()),
            ("Fn::FindInMap", Some([map, first, second])) => Self::FindInMap(map, first, second),
            ("Fn::FindInMap", _) => return Err(FIND.to_owned()),
            ("Fn::Split", Some([delimiter, text])) => Self::Split(delimiter, text),
            ("Fn::Split", _) => return Err(SPLIT.to_owned()),
            ("Fn::Sub", Some([text, variables])) => {
                let text = text.as_str().ok_or(SUB)?;
                Self::Sub(text, Some(variables.as_object().ok_or(SUB)?))
            }
            ("Fn::Sub", _) => Self::Sub(argument.as_str().ok_or(SUB)?, None),
            (name, _) if name.starts_with("Fn::") => {
                return Err(format!(
                    "function {name:.40} is not known; there are Ref, Fn::Join, Fn::Select, \
                     Fn::FindInMap, Fn::Split and Fn::Sub"
                ));
            }
            _ => return Ok(None),
        };
        Ok(Some(function))
    }
}

/// Checks the functions in a value: their shapes, and that `is_known` holds for every parameter.
pub(super) fn check(value: &Value, is_known: &dyn Fn(&str) -> bool) -> Result<(), String> {
    let known = |name: &str| match is_known(name) {
        true => Ok(()),
        false => Err(format!("{name:.128} is referred to and not among Parameters")),
    };
    match Function::read(value)? {
        Some(Function::Ref(name)) => known(name),
        Some(Function::Join(a, b) | Function::Select(a, b) | Function::Split(a, b)) => {
            check(a, is_known)?;
            check(b, is_known)
        }
        Some(Function::FindInMap(map, first, second)) => {
            [map, first, second].into_iter().try_for_each(|value| check(value, is_known))
        }
        Some(Function::Sub(text, variables)) => {
            let variable = |name: &str| variables.is_some_and(|it| it.contains_key(name));
            for piece in pieces(text)? {
                if let Piece::Name(name) = piece
                    && !variable(name)
                {
                    known(name)?;
                }
            }
            variables.into_iter().flat_map(Map::values).try_for_each(|it| check(it, is_known))
        }
        None => match value {
            Value::Object(members) => members.values().try_for_each(|it| check(it, is_known)),
            Value::Array(items) => items.iter().try_for_each(|it| check(it, is_known)),
            _ => Ok(()),
        },
    }
}

impl<'a> Scope<'a> {
    pub(super) fn new(parameters: &'a BTreeMap<String, String>, mappings: &'a Mappings) -> Self {
        Self { parameters, mappings, left: Cell::new(BYTES_MAX) }
    }

    /// The value with its functions carried out.
    pub(super) fn evaluate(&self, value: &Value) -> Result<Value, String> {
        match Function::read(value)? {
            Some(function) => self.call(function),
            None => match value {
                Value::Object(members) => {
                    let member = |(name, value): (&String, &Value)| {
                        Ok((name.clone(), self.evaluate(value)?))
                    };
                    Ok(Value::Object(members.iter().map(member).collect::<Result<_, String>>()?))
                }
                Value::Array(items) => {
                    let items = items.iter().map(|item| self.evaluate(item));
                    Ok(Value::Array(items.collect::<Result<_, _>>()?))
                }
                Value::String(text) => Ok(Value::String(self.spend(text.clone())?)),
                other => Ok(other.clone()),
            },
        }
    }

    /// A value that must be a text; numbers and booleans count as such.
    pub(super) fn text(&self, value: &Value) -> Result<String, String> {
        match self.evaluate(value)? {
            Value::String(text) => Ok(text),
            scalar @ (Value::Number(_) | Value::Bool(_)) => Ok(scalar.to_string()),
            Value::Null => Err("null is no text".to_owned()),
            Value::Array(_) => Err("a list is no text".to_owned()),
            Value::Object(_) => Err("an object is no text".to_owned()),
        }
    }

    /// A value that must be a list of texts; functions in it may give several.
    pub(super) fn texts(&self, value: &Value) -> Result<Vec<String>, String> {
        let Value::Array(items) = self.evaluate(value)? else {
            return Err("a list of texts is needed".to_owned());
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Value::Array(inner) => {
                    for item in inner {
                        texts.push(self.text(&item)?);
                    }
                }
                item => texts.push(self.text(&item)?),
            }
        }
        Ok(texts)
    }

    fn call(&self, function: Function<'_>) -> Result<Value, String> {
        let text = match function {
            Function::Ref(name) => self.parameter(name)?.to_owned(),
            Function::Join(delimiter, list) => {
                let (texts, delimiter) = (self.texts(list)?, self.text(delimiter)?);
                let gaps = delimiter.len().saturating_mul(texts.len());
                self.check_room(gaps)?;
                texts.join(&delimiter)
            }
            Function::Select(index, list) => {
                let (index, texts) = (self.text(index)?, self.texts(list)?);
                let at = index.parse::<usize>().map_err(|_| SELECT)?;
                let selected = texts.get(at).cloned();
                selected.ok_or_else(|| {
                    format!("Fn::Select: index {at} in a list of {} texts", texts.len())
                })?
            }
            Function::FindInMap(map, first, second) => {
                let [map, first, second] = [self.text(map)?, self.text(first)?, self.text(second)?];
                let found = self.mappings.get(&map).and_then(|it| it.get(&first)?.get(&second));
                found.cloned().ok_or_else(|| {
                    format!("Fn::FindInMap: Mappings has no {map:.64}, {first:.64}, {second:.64}")
                })?
            }
            Function::Split(delimiter, text) => {
                let (delimiter, text) = (self.text(delimiter)?, self.text(text)?);
                if delimiter.is_empty() {
                    return Err("Fn::Split: the delimiter is empty".to_owned());
                }
                let parts = text.split(&delimiter).map(|part| Value::String(part.to_owned()));
                return Ok(Value::Array(parts.collect()));
            }
            Function::Sub(text, variables) => self.substitute(text, variables)?,
        };
        Ok(Value::String(self.spend(text)?))
    }

    fn substitute(
        &self,
        text: &str,
        variables: Option<&Map<String, Value>>,
    ) -> Result<String, String> {
        let mut result = String::new();
        for piece in pieces(text)? {
            let piece = match piece {
                Piece::Text(text) => text.to_owned(),
                Piece::Name(name) => match variables.and_then(|it| it.get(name)) {
                    Some(value) => self.text(value)?,
                    None => self.parameter(name)?.to_owned(),
                },
            };
            self.check_room(result.len() + piece.len())?;
            result.push_str(&piece);
        }
        Ok(result)
    }

    fn parameter(&self, name: &str) -> Result<&str, String> {
        let found = self.parameters.get(name).map(String::as_str);
        found.ok_or_else(|| format!("parameter {name:.128} has no value"))
    }

    fn spend(&self, text: String) -> Result<String, String> {
        self.check_room(text.len())?;
        self.left.set(self.left.get() - text.len());
        Ok(text)
    }

    fn check_room(&self, bytes: usize) -> Result<(), String> {
        if bytes > self.left.get() {
            return Err(format!("the template makes more than {BYTES_MAX} bytes of text"));
        }
        Ok(())
    }
}

/// A part of the text of `Fn::Sub`.
enum Piece<'a> {
    Text(&'a str),
    /// `${name}`
    Name(&'a str),
}

/// Source of `${!…}`, which stands for a literal `${…}`: AWS CloudFormation user guide, "Fn::Sub".
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        let Some((name, after)) = behind.split_once('}') else {
            return Err("Fn::Sub: a ${ is not closed".to_owned());
        };
        pieces.push(Piece::Text(before));
        match name.strip_prefix('!') {
            Some(literal) => {
                pieces.extend([Piece::Text("${"), Piece::Text(literal), Piece::Text("}")]);
            }
            None => pieces.push(Piece::Name(name)),
        }
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}
