//! Policies: AWS's policy language, compiled once and asked often.
//!
//! In: policy documents ([`Policy::parse`], once per version) and what is known about a connection
//! ([`Context`]). Out: [`Permissions`] of that connection, asked for every packet and delivery.
//! Not here: which policies a principal has (`registry`), who the principal is (`auth`).
//!
//! Everything that cannot change during a connection is decided when the permissions are made:
//! variables, conditions, action names and the ARN's part up to the resource type. What is left
//! for [`Permissions::allows`] is a bit test and a wildcard match of the resource's own name.

mod condition;
mod document;
mod glob;
mod scalar;
mod statement;
mod variable;

use crate::ids::{ClientId, ThingName};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

pub use document::PolicyError;
pub use statement::{Policy, StatementId};
#[cfg(test)]
pub(crate) use variable::CERTIFICATE_FIELDS;
pub(crate) use variable::CERTIFICATE_VALUES_MAX;

use statement::Statement;

/// Characters of a policy document, white space not counted.
///
/// Source: service quotas of AWS IoT Core.
pub const POLICY_CHARS_MAX: usize = 2_048;

/// An action that a device policy can allow (AWS IoT Core policy actions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// `iot:Connect` on `client/…`.
    Connect,
    /// `iot:Publish` on `topic/…`.
    Publish,
    /// `iot:RetainPublish` on `topic/…`.
    RetainPublish,
    /// `iot:Subscribe` on `topicfilter/…`.
    Subscribe,
    /// `iot:Receive` on `topic/…`.
    Receive,
    /// `iot:GetThingShadow` on `thing/…`; HTTPS only.
    GetThingShadow,
    /// `iot:UpdateThingShadow` on `thing/…`; HTTPS only.
    UpdateThingShadow,
    /// `iot:DeleteThingShadow` on `thing/…`; HTTPS only.
    DeleteThingShadow,
    /// `iot:ListNamedShadowsForThing` on `thing/…`; HTTPS only.
    ListNamedShadowsForThing,
    /// `iot:GetRetainedMessage` on `topic/…`; HTTPS only.
    GetRetainedMessage,
    /// `iot:ListRetainedMessages` on all topics: asked for the empty one, which `*` and `topic/*`
    /// match; HTTPS only.
    ListRetainedMessages,
    /// `iot:DeleteConnection` on `client/…`; HTTPS only.
    DeleteConnection,
}

impl Action {
    const ALL: [Self; 12] = [
        Self::Connect,
        Self::Publish,
        Self::RetainPublish,
        Self::Subscribe,
        Self::Receive,
        Self::GetThingShadow,
        Self::UpdateThingShadow,
        Self::DeleteThingShadow,
        Self::ListNamedShadowsForThing,
        Self::GetRetainedMessage,
        Self::ListRetainedMessages,
        Self::DeleteConnection,
    ];

    /// The name in policies, e.g. `iot:Connect`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "iot:Connect",
            Self::Publish => "iot:Publish",
            Self::RetainPublish => "iot:RetainPublish",
            Self::Subscribe => "iot:Subscribe",
            Self::Receive => "iot:Receive",
            Self::GetThingShadow => "iot:GetThingShadow",
            Self::UpdateThingShadow => "iot:UpdateThingShadow",
            Self::DeleteThingShadow => "iot:DeleteThingShadow",
            Self::ListNamedShadowsForThing => "iot:ListNamedShadowsForThing",
            Self::GetRetainedMessage => "iot:GetRetainedMessage",
            Self::ListRetainedMessages => "iot:ListRetainedMessages",
            Self::DeleteConnection => "iot:DeleteConnection",
        }
    }
}

/// What an action is done to; becomes the part of an ARN after the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resource<'a> {
    /// `client/<client id>`.
    Client(&'a str),
    /// `topic/<topic name>`.
    Topic(&'a str),
    /// `topicfilter/<filter>`.
    ///
    /// A shared subscription `$share/<group>/<filter>` is matched by patterns of either form: the
    /// whole text and the filter alone.
    TopicFilter(&'a str),
    /// `thing/<thing name>` or `thing/<thing name>/<shadow name>`.
    Thing(&'a str, Option<&'a str>),
}

/// The type of a resource: the part of its ARN between account and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResourceType {
    Client,
    Topic,
    TopicFilter,
    Thing,
}

impl ResourceType {
    const ALL: [Self; 4] = [Self::Client, Self::Topic, Self::TopicFilter, Self::Thing];

    fn prefix(self) -> &'static str {
        match self {
            Self::Client => "client/",
            Self::Topic => "topic/",
            Self::TopicFilter => "topicfilter/",
            Self::Thing => "thing/",
        }
    }
}

/// A resource as the statements see it: its type and its name in one or two forms.
struct Target<'a> {
    kind: ResourceType,
    name: Cow<'a, str>,
    /// The filter of a shared subscription without `$share/<group>/`.
    unshared: Option<&'a str>,
}

impl<'a> Target<'a> {
    fn new(resource: Resource<'a>) -> Self {
        let (kind, name) = match resource {
            Resource::Client(id) => (ResourceType::Client, Cow::Borrowed(id)),
            Resource::Topic(name) => (ResourceType::Topic, Cow::Borrowed(name)),
            Resource::TopicFilter(filter) => (ResourceType::TopicFilter, Cow::Borrowed(filter)),
            Resource::Thing(name, None) => (ResourceType::Thing, Cow::Borrowed(name)),
            // Allocates; only HTTPS requests for named shadows come here.
            Resource::Thing(name, Some(shadow)) => {
                (ResourceType::Thing, Cow::Owned(format!("{name}/{shadow}")))
            }
        };
        let unshared = match resource {
            Resource::TopicFilter(filter) => filter
                .strip_prefix("$share/")
                .and_then(|rest| rest.split_once('/'))
                .map(|(_, filter)| filter),
            _ => None,
        };
        Self { kind, name, unshared }
    }
}

/// What policy variables and conditions can see of a connection.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// `iot:ClientId`; `None` over HTTP.
    pub client_id: Option<ClientId>,
    /// `aws:SourceIp`.
    pub source_ip: Option<IpAddr>,
    /// `iot:DomainName`: the host name by which the client came (SNI).
    pub domain_name: Option<Arc<str>>,
    /// `iot:Connection.Thing.*`: the thing whose name is the client id, when it is attached to
    /// the principal; the one that it is attached to exclusively; or the one that a custom authorizer
    /// names.
    pub thing: Option<ThingContext>,
    /// `iot:Certificate.*`: values by the name behind that prefix, e.g. `Subject.CommonName`; none is
    /// empty.
    pub certificate: BTreeMap<&'static str, Vec<String>>,
    /// `LastWill` in `iot:ConnectAttributes`.
    pub has_will: bool,
    /// `PersistentConnect` in `iot:ConnectAttributes`.
    pub is_persistent: bool,
}

/// The thing of a connection, for policy variables.
#[derive(Clone, Debug)]
pub struct ThingContext {
    /// `iot:Connection.Thing.ThingName`.
    pub name: ThingName,
    /// `iot:Connection.Thing.ThingTypeName`.
    pub type_name: Option<Arc<str>>,
    /// `iot:Connection.Thing.Attributes[name]`.
    pub attributes: BTreeMap<String, String>,
}

/// The policies of one connection, its variables filled in. Without a policy nothing is allowed.
/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Permissions {
    /// Denying statements first: the first that applies decides.
    statements: Arc<[Arc<Statement>]>,
    is_quarantined: bool,
}

impl Permissions {
    /// The union of the policies, as far as their statements apply to the connection at all.
    pub fn new<'p>(policies: impl IntoIterator<Item = &'p Policy>, context: &Context) -> Self {
        let mut statements: Vec<_> =
            policies.into_iter().flat_map(|policy| policy.bind(context)).collect();
        statements.sort_by_key(|statement| !statement.denies());
        Self { statements: statements.into(), is_quarantined: false }
    }

    /// The same with one more policy.
    pub(crate) fn and(self, policy: &Policy, context: &Context) -> Self {
        let known = self.statements.iter().cloned();
        let mut statements: Vec<_> = policy.bind(context).chain(known).collect();
        statements.sort_by_key(|statement| !statement.denies());
        Self { statements: statements.into(), ..self }
    }

    /// The same of a client in quarantine.
    pub(crate) fn in_quarantine(self) -> Self {
        Self { is_quarantined: true, ..self }
    }

    /// True for a client in quarantine: what it may not publish is dropped, and it stays connected.
    pub fn is_quarantined(&self) -> bool {
        self.is_quarantined
    }

    /// True when a statement allows the action and none denies it.
    pub fn allows(&self, action: Action, resource: Resource<'_>) -> bool {
        matches!(self.explain(action, resource), Decision::Allowed(_))
    }

    /// Like [`Permissions::allows`], and which statement decided.
    pub fn explain(&self, action: Action, resource: Resource<'_>) -> Decision<'_> {
        let target = Target::new(resource);
        match self.statements.iter().find(|statement| statement.applies(action, &target)) {
            Some(statement) if statement.denies() => Decision::ExplicitDeny(statement.id()),
            Some(statement) => Decision::Allowed(statement.id()),
            None => Decision::ImplicitDeny,
        }
    }
}

/// Whether something is allowed, and why. Source: `AuthDecision` of AWS IoT's TestAuthorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// This statement allows it and none denies it.
    Allowed(&'a StatementId),
    /// This statement denies it, whatever others say.
    ExplicitDeny(&'a StatementId),
    /// No statement says anything about it.
    ImplicitDeny,
}

impl fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed(id) => write!(f, "allowed by {id}"),
            Self::ExplicitDeny(id) => write!(f, "denied by {id}"),
            Self::ImplicitDeny => f.write_str("no statement allows it"),
        }
    }
}

#[cfg(test)]
mod tests;
