//! Statements: from a document's text to what a connection asks.
//!
//! A [`Policy`] holds rules with holes; [`Policy::bind`] fills the holes and leaves out what cannot
//! apply to the connection. Rules without holes are compiled once and shared by all connections.

use super::condition::Condition;
use super::document::{Document, Effect, PolicyError, RawStatement, Strings};
use super::glob;
use super::variable::Template;
use super::{Action, Context, ResourceType, Target};
use crate::ids::Account;
use std::fmt;
use std::sync::Arc;

/// Where a statement stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementId {
    /// Name of the policy.
    pub policy: Arc<str>,
    /// Position of the statement, from 0.
    pub index: usize,
    /// Its Sid.
    pub sid: Option<Arc<str>>,
}

impl fmt::Display for StatementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statement {}", self.index)?;
        if let Some(sid) = &self.sid {
            write!(f, " ({sid})")?;
        }
        write!(f, " of policy {}", self.policy)
    }
}

/// A policy document, checked and compiled.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
}

impl Policy {
    /// Checks and compiles a document; `name` is how [`super::Decision`] will call it.
    ///
    /// # Errors
    /// Says what is wrong and where. Elements, operators and variables that are not known are
    /// refused: a policy that exists means exactly what it says.
    pub fn parse(name: &str, document: &str, account: &Account) -> Result<Self, PolicyError> {
        let name: Arc<str> = name.into();
        let document = Document::parse(document)?;
        let rule = |(index, raw)| Rule::new(&name, index, raw, account);
        let rules = document.statement.into_iter().enumerate().map(rule);
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }

    /// True when [`Context::certificate`] can make a difference.
    pub(crate) fn asks_for_certificate(&self) -> bool {
        self.rules.iter().any(|rule| {
            rule.conditions.iter().any(Condition::asks_for_certificate)
                || rule.resources.iter().any(Template::asks_for_certificate)
        })
    }

    pub(super) fn bind(&self, context: &Context) -> impl Iterator<Item = Arc<Statement>> {
        self.rules.iter().filter_map(|rule| rule.bind(context))
    }
}

/// A statement with its variables and conditions open.
#[derive(Debug)]
struct Rule {
    id: Arc<StatementId>,
    effect: Effect,
    actions: ActionSet,
    resources: Vec<Template>,
    /// NotResource.
    negated: bool,
    conditions: Vec<Condition>,
    /// `arn:aws:iot:<region>:<account>:`
    arn_prefix: Arc<str>,
    /// The statement itself, when it is the same for every connection.
    constant: Option<Arc<Statement>>,
}

impl Rule {
    fn new(
        policy: &Arc<str>,
        index: usize,
        raw: RawStatement,
        account: &Account,
    ) -> Result<Self, PolicyError> {
        let here = format!("Statement[{index}]");
        let (field, actions, inverted) =
            either(&here, ("Action", raw.action), ("NotAction", raw.not_action))?;
        let listed = each(&here, field, &actions, ActionSet::parse)?;
        let actions = listed.into_iter().fold(ActionSet::default(), ActionSet::union);
        let (field, resources, negated) =
            either(&here, ("Resource", raw.resource), ("NotResource", raw.not_resource))?;
        let resources = each(&here, field, &resources, parse_resource)?;
        let mut conditions = Vec::new();
        for (operator, keys) in &raw.condition.0 {
            for (key, Strings(values)) in &keys.0 {
                let condition = Condition::parse(operator, key, values);
                conditions.push(condition.map_err(|problem| PolicyError::Element {
                    at: format!("{here}.Condition.{operator}.{key}"),
                    problem,
                })?);
            }
        }
        let mut rule = Self {
            id: Arc::new(StatementId {
                policy: policy.clone(),
                index,
                sid: raw.sid.map(Arc::from),
            }),
            effect: raw.effect,
            actions: if inverted { actions.inverted() } else { actions },
            resources,
            negated,
            conditions,
            arn_prefix: account.arn("").into(),
            constant: None,
        };
        if rule.conditions.is_empty() && rule.resources.iter().all(Template::is_constant) {
            rule.constant = rule.fill(&Context::default()).map(Arc::new);
        }
        Ok(rule)
    }

    /// The statement for one connection; `None` when it cannot apply there.
    fn bind(&self, context: &Context) -> Option<Arc<Statement>> {
        if let Some(statement) = &self.constant {
            return Some(statement.clone());
        }
        let for_allow = self.effect == Effect::Allow;
        if !self.conditions.iter().all(|condition| condition.holds(context, for_allow)) {
            return None;
        }
        self.fill(context).map(Arc::new)
    }

    fn fill(&self, context: &Context) -> Option<Statement> {
        let for_allow = self.effect == Effect::Allow;
        let mut patterns = Vec::new();
        for template in &self.resources {
            match template.fill(context, for_allow) {
                Some(pattern) => patterns.push(Pattern::new(&pattern, &self.arn_prefix)),
                // "Everything but <unknown>" must not become "everything".
                None if self.negated && for_allow => return None,
                None => {}
            }
        }
        Some(Statement {
            id: self.id.clone(),
            effect: self.effect,
            actions: self.actions,
            patterns: patterns.into(),
            negated: self.negated,
        })
    }
}

/// A statement as one connection sees it.
#[derive(Debug)]
pub(super) struct Statement {
    id: Arc<StatementId>,
    effect: Effect,
    actions: ActionSet,
    patterns: Box<[Pattern]>,
    negated: bool,
}

impl Statement {
    pub(super) fn id(&self) -> &StatementId {
        &self.id
    }

    pub(super) fn denies(&self) -> bool {
        self.effect == Effect::Deny
    }

    pub(super) fn applies(&self, action: Action, target: &Target<'_>) -> bool {
        self.actions.contains(action)
            && self.patterns.iter().any(|pattern| pattern.matches(target)) != self.negated
    }
}

/// A resource pattern from which the front of every ARN of ours has been matched already.
#[derive(Debug)]
struct Pattern {
    bytes: Box<[u8]>,
    /// Where the patterns for the names of a type begin; none: never matches it.
    starts: Box<[Start]>,
}

/// Where in the bytes of a [`Pattern`] one for names begins.
#[derive(Clone, Copy, Debug)]
struct Start {
    kind: ResourceType,
    at: u32,
    /// So many bytes have no wildcard, and are compared at once.
    literal: u32,
}

impl Pattern {
    fn new(pattern: &[u8], arn_prefix: &str) -> Self {
        let mut starts = Vec::new();
        let behind_front = glob::positions_after(pattern, &[0], arn_prefix);
        for kind in ResourceType::ALL {
            let positions = glob::positions_after(pattern, &behind_front, kind.prefix());
            starts.extend(positions.into_iter().map(|start| (kind, start)));
        }
        // What no start reaches is not kept: this exists once per connection.
        let first = starts.iter().map(|&(_, start)| start).min().unwrap_or(pattern.len());
        let bytes = &pattern[first..];
        let narrow = |len| u32::try_from(len).expect("names that are filled in are short");
        let start = |(kind, start): (_, usize)| {
            let at = start - first;
            let literal = narrow(glob::literal_len(&bytes[at..]));
            Start { kind, at: narrow(at), literal }
        };
        Self { bytes: bytes.into(), starts: starts.into_iter().map(start).collect() }
    }

    fn matches(&self, target: &Target<'_>) -> bool {
        self.starts.iter().filter(|start| start.kind == target.kind).any(|start| {
            let pattern = &self.bytes[start.at as usize..];
            let (literal, rest) = pattern.split_at(start.literal as usize);
            let fits = |name: &str| {
                let behind = name.as_bytes().strip_prefix(literal);
                behind.is_some_and(|behind| glob::matches(rest, behind))
            };
            fits(&target.name) || target.unshared.is_some_and(fits)
        })
    }
}

/// The actions of a statement, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ActionSet(u32);

impl ActionSet {
    /// The actions that a pattern such as `iot:*` names; none for actions of the control plane.
    fn parse(text: &str) -> Result<Self, String> {
        let named = text
            .split_once(':')
            .is_some_and(|(service, name)| !service.is_empty() && !name.is_empty());
        if text != "*" && !named {
            return Err(format!("{text:?} is neither \"*\" nor of the form iot:Publish"));
        }
        // Service prefix and action are not case-sensitive; escapes do not exist here.
        let pattern: Vec<u8> = text
            .to_ascii_lowercase()
            .bytes()
            .map(|byte| match byte {
                b'*' => glob::STAR,
                b'?' => glob::ONE,
                byte => byte,
            })
            .collect();
        let matching = Action::ALL.into_iter().filter(|action| {
            glob::matches(&pattern, action.as_str().to_ascii_lowercase().as_bytes())
        });
        Ok(Self(matching.fold(0, |set, action| set | Self::bit(action))))
    }

    fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn inverted(self) -> Self {
        Self(!self.0)
    }

    fn contains(self, action: Action) -> bool {
        self.0 & Self::bit(action) != 0
    }

    fn bit(action: Action) -> u32 {
        1 << (action as u32)
    }
}

fn parse_resource(text: &str) -> Result<Template, String> {
    // Anything else could never match and would look as if it did.
    if !text.starts_with('*') && !text.starts_with("arn:") {
        return Err(format!(
            "{text:?} is neither \"*\" nor an ARN such as \
             arn:aws:iot:us-east-1:123456789012:topic/sensor/*"
        ));
    }
    Template::parse(text)
}

/// The one of two elements that is there, and whether it is the second.
fn either(
    here: &str,
    (positive, listed): (&'static str, Option<Strings>),
    (negative, excluded): (&'static str, Option<Strings>),
) -> Result<(&'static str, Vec<String>, bool), PolicyError> {
    let problem = match (listed, excluded) {
        (Some(Strings(texts)), None) if !texts.is_empty() => return Ok((positive, texts, false)),
        (None, Some(Strings(texts))) if !texts.is_empty() => return Ok((negative, texts, true)),
        (None, None) => format!("{positive} or {negative} is missing"),
        (Some(_), Some(_)) => format!("has both {positive} and {negative}; keep one"),
        _ => format!("{positive} or {negative} is an empty list"),
    };
    Err(PolicyError::Element { at: here.to_owned(), problem })
}

fn each<T>(
    here: &str,
    field: &str,
    texts: &[String],
    parse: fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, PolicyError> {
    let parsed = texts.iter().enumerate().map(|(index, text)| {
        parse(text).map_err(|problem| {
            let at = if texts.len() == 1 {
                format!("{here}.{field}")
            } else {
                format!("{here}.{field}[{index}]")
            };
            PolicyError::Element { at, problem }
        })
    });
    parsed.collect()
}
