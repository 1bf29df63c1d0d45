//! Policies: AWS's policy language, compiled once and asked often.

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
    TopicFilter(&'a str),
    /// `thing/<thing name>` or `thing/<thing name>/<shadow name>`.
    Thing(&'a str, Option<&'a str>),
}

/// The policies of one connection, its variables filled in. Without a policy nothing is allowed.
#[derive(Debug, Default)]
pub struct Permissions {}

impl Permissions {
    /// True when a statement allows the action and none denies it.
    pub fn allows(&self, _action: Action, _resource: Resource<'_>) -> bool {
        false
    }
}
