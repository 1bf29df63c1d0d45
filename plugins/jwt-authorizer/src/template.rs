//! Policy documents with holes for claims.
//!
//! In: a document in which `${claim:NAME}` stands for a claim; the claims of a verified token.
//! Out: the document as JSON. AWS's policy variables (`${iot:ClientId}`) are left to the host.
//!
//! A claim is somebody else's text. Holes are where texts are compared (resources behind their
//! type, values of conditions), claims are one level of a topic at most, and none of the
//! characters that mean something in a policy, a topic filter or JSON is let through. What would
//! need an escape is refused, so that there is no escape to get wrong.

use crate::claims::Claims;
use crate::refusal::Refusal;
use serde_json::{Map, Value};

/// Characters of a document without white space. Source: AWS IoT quotas.
const POLICY_CHARS_MAX: usize = 2_048;

/// Bytes of a claim in a policy, as of the names that it usually is.
const CLAIM_BYTES_MAX: usize = 128;

/// A policy document that may have holes.
#[derive(Debug)]
pub struct Template(Node);

/// JSON whose texts may have holes.
#[derive(Debug)]
enum Node {
    Text(Vec<Piece>),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
    Other(Value),
}

#[derive(Debug, PartialEq)]
enum Piece {
    Fixed(String),
    Claim(String),
}

/// Where in a document a text is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Resource,
    Condition,
    Elsewhere,
}

impl Template {
    /// Takes a document as an object, or as JSON text.
    ///
    /// # Errors
    /// What is wrong with it; the host checks the rest when the document is used.
    pub fn parse(document: &Value) -> Result<Self, String> {
        let parsed;
        let document = match document {
            Value::String(text) => {
                parsed = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
                &parsed
            }
            other => other,
        };
        if !document.get("Statement").is_some_and(|s| s.is_object() || s.is_array()) {
            return Err("a policy document is an object with Version and Statement".into());
        }
        Node::parse(document, Place::Elsewhere).map(Self)
    }

    /// The document for a token.
    pub fn fill(&self, claims: &Claims) -> Result<String, Refusal> {
        let text = self.0.fill(claims)?.to_string();
        let chars = text.chars().filter(|c| !c.is_whitespace()).count();
        if chars > POLICY_CHARS_MAX {
            return Err(Refusal::PolicyTooLong { chars, max: POLICY_CHARS_MAX });
        }
        Ok(text)
    }
}

impl Node {
    fn parse(value: &Value, place: Place) -> Result<Self, String> {
        match value {
            Value::String(text) => {
                let pieces = parse_pieces(text)?;
                check_place(text, &pieces, place)?;
                Ok(Self::Text(pieces))
            }
            Value::Array(list) => {
                let nodes = list.iter().map(|value| Self::parse(value, place));
                Ok(Self::List(nodes.collect::<Result<_, _>>()?))
            }
            Value::Object(object) => {
                let node = |(name, value): (&String, &Value)| {
                    if name.contains("${") {
                        return Err(format!("{name:?}: names of elements have no variables"));
                    }
                    let place = match (place, name.as_str()) {
                        (Place::Elsewhere, "Resource" | "NotResource") => Place::Resource,
                        (Place::Elsewhere, "Condition") => Place::Condition,
                        _ => place,
                    };
                    Ok((name.clone(), Self::parse(value, place)?))
                };
                Ok(Self::Object(object.iter().map(node).collect::<Result<_, String>>()?))
            }
            other => Ok(Self::Other(other.clone())),
        }
    }

    fn fill(&self, claims: &Claims) -> Result<Value, Refusal> {
        match self {
            Self::Text(pieces) => {
                let texts = pieces.iter().map(|piece| piece.fill(claims));
                Ok(Value::String(texts.collect::<Result<_, _>>()?))
            }
            Self::List(nodes) => {
                let values = nodes.iter().map(|node| node.fill(claims));
                Ok(Value::Array(values.collect::<Result<_, _>>()?))
            }
            Self::Object(members) => {
                let members =
                    members.iter().map(|(name, node)| Ok((name.clone(), node.fill(claims)?)));
                Ok(Value::Object(members.collect::<Result<Map<_, _>, _>>()?))
            }
            Self::Other(value) => Ok(value.clone()),
        }
    }
}

/// A misspelt `${claims:x}` must not reach the host as a variable that never has a value.
fn parse_pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some((name, after)) = rest[start + 2..].split_once('}') else {
            return Err(format!("{text:?} has a \"${{\" without its \"}}\""));
        };
        let fixed = match name.strip_prefix("claim:") {
            Some(claim) if !claim.is_empty() && !claim.contains("${") => {
                pieces.push(Piece::Fixed(rest[..start].into()));
                pieces.push(Piece::Claim(claim.into()));
                rest = after;
                continue;
            }
            None if is_policy_variable(name) => &rest[..rest.len() - after.len()],
            _ => {
                return Err(format!(
                    "{text:?} has a variable that is neither ${{claim:NAME}} nor one of \
                     ${{iot:…}} and ${{aws:…}}"
                ));
            }
        };
        pieces.push(Piece::Fixed(fixed.into()));
        rest = after;
    }
    pieces.push(Piece::Fixed(rest.into()));
    Ok(pieces)
}

fn is_policy_variable(name: &str) -> bool {
    // The first three are AWS's escapes of the characters.
    matches!(name, "*" | "?" | "$")
        || ((name.starts_with("iot:") || name.starts_with("aws:")) && !name.contains("${"))
}

fn check_place(text: &str, pieces: &[Piece], place: Place) -> Result<(), String> {
    let Some(first) = pieces.iter().position(|piece| matches!(piece, Piece::Claim(_))) else {
        return Ok(());
    };
    let front = |piece: &Piece| matches!(piece, Piece::Fixed(text) if text.contains('/'));
    match place {
        Place::Condition => Ok(()),
        Place::Resource if pieces[..first].iter().any(front) => Ok(()),
        Place::Resource => Err(format!(
            "{text:?}: a claim may stand behind the resource's type only, as in \
             arn:aws:iot:REGION:ACCOUNT:topic/${{claim:NAME}}"
        )),
        Place::Elsewhere => {
            Err(format!("{text:?}: claims may stand in Resource, NotResource and Condition only"))
        }
    }
}

impl Piece {
    fn fill(&self, claims: &Claims) -> Result<String, Refusal> {
        let claim = match self {
            Self::Fixed(text) => return Ok(text.clone()),
            Self::Claim(claim) => claim,
        };
        let text = match claims.value(claim)? {
            Value::String(text) => text.clone(),
            Value::Number(number) if number.is_u64() || number.is_i64() => number.to_string(),
            _ => {
                let expected = "text or a whole number";
                return Err(Refusal::ClaimType { claim: claim.clone(), expected });
            }
        };
        let is_safe = |c: char| c.is_ascii_alphanumeric() || ":_.@|=~-".contains(c);
        if (1..=CLAIM_BYTES_MAX).contains(&text.len()) && text.chars().all(is_safe) {
            return Ok(text);
        }
        Err(Refusal::UnsafeClaim { claim: claim.clone() })
    }
}
