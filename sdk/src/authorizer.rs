//! What authorizers have in common: refusals, forms of names, and policy documents with holes for
//! what the plugin knows about a client.
//!
//! A document is written once in the configuration, with a variable of the plugin's own (`${user}`,
//! `${claim:NAME}`) where the client's value goes. AWS's policy variables (`${iot:ClientId}`) are
//! left to the host.
//!
//! A value is somebody else's text. Holes are where texts are compared (resources behind their
//! type, values of conditions), a value is one level of a topic at most, and none of the
//! characters that mean something in a policy, a topic filter or JSON is let through. What would
//! need an escape is refused, so that there is no escape to get wrong.

use crate::AuthResponse;
use serde_json::{Map, Value};
use std::fmt;

/// Policy documents of one client. Source: AWS IoT, custom authorizers.
pub const POLICIES_MAX: usize = 10;

/// Characters of a document without white space. Source: AWS IoT quotas.
const POLICY_CHARS_MAX: usize = 2_048;

/// Characters of a principal, of a thing name, and of a value in a policy, which usually is such
/// a name. Source: AWS IoT.
const NAME_CHARS_MAX: usize = 128;

/// Characters that a value in a policy may have beside letters and digits.
const SAFE_CHARS: &str = ":_.@|=~-";

impl AuthResponse {
    /// Refuses the client; the host logs the reason, which must hold nothing secret.
    pub fn refused(reason: &impl fmt::Display) -> Self {
        Self {
            is_authenticated: false,
            principal_id: String::new(),
            policy_documents: Vec::new(),
            disconnect_after_seconds: 0,
            refresh_after_seconds: 0,
            attributes: vec![("reason".into(), reason.to_string())],
        }
    }
}

/// `[a-zA-Z0-9]{1,128}`.
pub fn is_principal(text: &str) -> bool {
    is_name(text, "")
}

/// `[a-zA-Z0-9:_-]{1,128}`.
pub fn is_thing_name(text: &str) -> bool {
    is_name(text, ":_-")
}

/// Whether a value may stand in a policy: `[a-zA-Z0-9:_.@|=~-]{1,128}`.
pub fn is_safe_in_policy(value: &str) -> bool {
    is_name(value, SAFE_CHARS)
}

/// 1 to 128 ASCII letters, digits and characters of `more`.
fn is_name(text: &str, more: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

/// How a plugin's own variable is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hole {
    /// The one variable of this name: `Only("user")` is `${user}`.
    Only(&'static str),
    /// A family: `Named("claim")` is `${claim:NAME}`.
    Named(&'static str),
}

impl Hole {
    /// What the plugin is asked for, when the variable is its own: the whole name, or of a
    /// family the part behind the colon.
    fn name(self, variable: &str) -> Option<&str> {
        match self {
            Self::Only(own) => (variable == own).then_some(variable),
            Self::Named(family) => {
                let name = variable.strip_prefix(family)?.strip_prefix(':')?;
                (!name.is_empty() && !name.contains("${")).then_some(name)
            }
        }
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only(name) => write!(f, "${{{name}}}"),
            Self::Named(family) => write!(f, "${{{family}:NAME}}"),
        }
    }
}

/// Why documents are not filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FillError {
    /// A value could mean more than a name in a policy; the value itself is not told.
    Unsafe {
        /// As it is written, e.g. `${claim:tenant}`.
        variable: String,
    },
    /// Filled in, a document is longer than policies may be.
    TooLong {
        /// Characters without white space.
        chars: usize,
        /// Characters that are allowed.
        max: usize,
    },
}

impl fmt::Display for FillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsafe { variable } => write!(
                f,
                "the value of {variable} cannot be part of a policy: 1 to {NAME_CHARS_MAX} of \
                 [a-zA-Z0-9{SAFE_CHARS}]"
            ),
            Self::TooLong { chars, max } => write!(
                f,
                "filled in, a policy document has {chars} characters; at most {max} may be"
            ),
        }
    }
}

impl std::error::Error for FillError {}

/// Policy documents that may have holes.
#[derive(Debug)]
pub struct Templates(Vec<Node>);

impl Templates {
    /// Takes 1 to 10 documents, each an object or JSON text.
    ///
    /// # Errors
    /// What is wrong with which; the host checks the rest when the documents are used.
    pub fn parse(documents: &[Value], hole: Hole) -> Result<Self, String> {
        if documents.is_empty() || documents.len() > POLICIES_MAX {
            return Err(format!("policies must have 1 to {POLICIES_MAX} documents"));
        }
        let parse = |(index, document)| {
            parse_document(document, hole).map_err(|e| format!("policies[{index}]: {e}"))
        };
        documents.iter().enumerate().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// The documents for one client; `value` is asked for the value of each hole by its name.
    ///
    /// # Errors
    /// Those of `value`; a value that is not safe; a document that becomes too long.
    pub fn fill<E: From<FillError>>(
        &self,
        value: &impl Fn(&str) -> Result<String, E>,
    ) -> Result<Vec<String>, E> {
        let fill = |node: &Node| {
            let text = node.fill(value)?.to_string();
            let chars = text.chars().filter(|c| !c.is_whitespace()).count();
            if chars > POLICY_CHARS_MAX {
                return Err(FillError::TooLong { chars, max: POLICY_CHARS_MAX }.into());
            }
            Ok(text)
        };
        self.0.iter().map(fill).collect()
    }
}

fn parse_document(document: &Value, hole: Hole) -> Result<Node, String> {
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
    Node::parse(document, Place::Elsewhere, hole)
}

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
    Hole {
        /// What the plugin is asked for.
        name: String,
        /// As it is written.
        variable: String,
    },
}

/// Where in a document a text is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Resource,
    Condition,
    Elsewhere,
}

impl Node {
    fn parse(value: &Value, place: Place, hole: Hole) -> Result<Self, String> {
        match value {
            Value::String(text) => {
                let pieces = parse_pieces(text, hole)?;
                check_place(text, &pieces, place, hole)?;
                Ok(Self::Text(pieces))
            }
            Value::Array(list) => {
                let nodes = list.iter().map(|value| Self::parse(value, place, hole));
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
                    Ok((name.clone(), Self::parse(value, place, hole)?))
                };
                Ok(Self::Object(object.iter().map(node).collect::<Result<_, String>>()?))
            }
            other => Ok(Self::Other(other.clone())),
        }
    }

    fn fill<E: From<FillError>>(
        &self,
        value: &impl Fn(&str) -> Result<String, E>,
    ) -> Result<Value, E> {
        match self {
            Self::Text(pieces) => {
                let texts = pieces.iter().map(|piece| piece.fill(value));
                Ok(Value::String(texts.collect::<Result<_, E>>()?))
            }
            Self::List(nodes) => {
                let values = nodes.iter().map(|node| node.fill(value));
                Ok(Value::Array(values.collect::<Result<_, E>>()?))
            }
            Self::Object(members) => {
                let members =
                    members.iter().map(|(name, node)| Ok((name.clone(), node.fill(value)?)));
                Ok(Value::Object(members.collect::<Result<Map<_, _>, E>>()?))
            }
            Self::Other(value) => Ok(value.clone()),
        }
    }
}

/// A misspelt `${claims:x}` must not reach the host as a variable that never has a value.
fn parse_pieces(text: &str, hole: Hole) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some((variable, after)) = rest[start + 2..].split_once('}') else {
            return Err(format!("{text:?} has a \"${{\" without its \"}}\""));
        };
        let end = rest.len() - after.len();
        if let Some(name) = hole.name(variable) {
            pieces.push(Piece::Fixed(rest[..start].into()));
            let variable = rest[start..end].into();
            pieces.push(Piece::Hole { name: name.into(), variable });
        } else if is_policy_variable(variable) {
            pieces.push(Piece::Fixed(rest[..end].into()));
        } else {
            return Err(format!(
                "{text:?} has a variable that is neither {hole} nor one of ${{iot:…}} and \
                 ${{aws:…}}"
            ));
        }
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

fn check_place(text: &str, pieces: &[Piece], place: Place, hole: Hole) -> Result<(), String> {
    let Some(first) = pieces.iter().position(|piece| matches!(piece, Piece::Hole { .. })) else {
        return Ok(());
    };
    let front = |piece: &Piece| matches!(piece, Piece::Fixed(text) if text.contains('/'));
    match place {
        Place::Condition => Ok(()),
        Place::Resource if pieces[..first].iter().any(front) => Ok(()),
        Place::Resource => Err(format!(
            "{text:?}: {hole} may stand behind the resource's type only, as in \
             arn:aws:iot:REGION:ACCOUNT:topic/{hole}"
        )),
        Place::Elsewhere => {
            Err(format!("{text:?}: {hole} may stand in Resource, NotResource and Condition only"))
        }
    }
}

impl Piece {
    fn fill<E: From<FillError>>(
        &self,
        value: &impl Fn(&str) -> Result<String, E>,
    ) -> Result<String, E> {
        match self {
            Self::Fixed(text) => Ok(text.clone()),
            Self::Hole { name, variable } => {
                let text = value(name)?;
                if is_safe_in_policy(&text) {
                    return Ok(text);
                }
                Err(FillError::Unsafe { variable: variable.clone() }.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn filled(resource: &str, hole: Hole, value: &str) -> Result<String, String> {
        let document = json!({ "Statement": [{ "Resource": resource }] });
        let templates = Templates::parse(&[document], hole)?;
        let fill = |name: &str| Ok::<_, FillError>(format!("{name}={value}"));
        let documents = templates.fill(&fill).map_err(|e| e.to_string())?;
        let filled: Value = serde_json::from_str(&documents[0]).unwrap();
        Ok(filled["Statement"][0]["Resource"].as_str().unwrap().into())
    }

    #[test]
    fn a_hole_is_asked_for_by_its_name() {
        let only = Hole::Only("user");
        let text = filled("topic/${user}/${iot:ClientId}/${user}", only, "a");
        assert_eq!(text.as_deref(), Ok("topic/user=a/${iot:ClientId}/user=a"));
        let named = Hole::Named("claim");
        let text = filled("topic/${claim:a:b}", named, "1");
        assert_eq!(text.as_deref(), Ok("topic/a:b=1"));
    }

    #[test]
    fn a_variable_of_another_plugin_is_refused() {
        for (resource, hole) in [
            ("topic/${user:a}", Hole::Only("user")),
            ("topic/${users}", Hole::Only("user")),
            ("topic/${}", Hole::Only("user")),
            ("topic/${claim}", Hole::Named("claim")),
            ("topic/${claim:}", Hole::Named("claim")),
            ("topic/${claims:a}", Hole::Named("claim")),
        ] {
            let error = filled(resource, hole, "a").unwrap_err();
            assert!(error.contains(&format!("neither {hole} nor one of")), "{error}");
        }
    }

    #[test]
    fn an_unsafe_value_is_named_by_its_variable() {
        let error = filled("topic/${claim:a}", Hole::Named("claim"), "#").unwrap_err();
        assert_eq!(
            error,
            "the value of ${claim:a} cannot be part of a policy: 1 to 128 of [a-zA-Z0-9:_.@|=~-]"
        );
    }

    #[test]
    fn names_have_their_characters_and_length() {
        assert!(is_principal("aZ09") && is_principal(&"a".repeat(128)));
        assert!(is_thing_name("a:_-"));
        for wrong in ["", "a/b", "ü", "a b", &"a".repeat(129)] {
            assert!(!is_principal(wrong) && !is_thing_name(wrong) && !is_safe_in_policy(wrong));
        }
        assert!(!is_principal("a-b") && !is_thing_name("a.b"));
    }
}
