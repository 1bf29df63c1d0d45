//! What an author implements. The host makes an instance, calls [`Plugin::new`] once, then the
//! handlers, one call at a time. A panic costs the instance; the next call gets a new one.

use crate::{AuthRequest, AuthResponse, ExchangeRequest, ExchangeResponse};
use crate::{Failure, Incoming, Message, Response};
use crate::{HookRequest, HookResponse};
use serde::de::DeserializeOwned;

/// A plugin and its configuration.
pub trait Plugin: Sized + 'static {
    /// The operator's `config` table. Use `#[serde(deny_unknown_fields)]`: a misspelt key is
    /// then refused when the host loads the plugin.
    type Config: DeserializeOwned;

    /// Makes the plugin.
    ///
    /// # Errors
    /// A text for the operator; the host then refuses to load the plugin.
    fn new(config: Self::Config) -> Result<Self, String>;
}

/// Which action of which rule is called.
#[derive(Clone, Debug)]
pub struct ActionContext<P> {
    /// The rule's name.
    pub rule: String,
    /// Position of the action in the rule, from 0.
    pub action: u32,
    /// The action's parameters in the rule definition.
    pub params: P,
    /// True for the rule's error action.
    pub is_error_action: bool,
}

/// Takes the messages that passed a rule.
pub trait RuleAction: Plugin {
    /// The action's parameters. Parameters that do not parse fail the call for good.
    type Params: DeserializeOwned;

    /// Takes a batch; the payload of each message is the rule's SELECT result. Ok lists the
    /// failed ones only.
    ///
    /// # Errors
    /// The whole batch failed; it may be tried again.
    fn invoke(
        &mut self,
        context: &ActionContext<Self::Params>,
        messages: &[Message],
    ) -> Result<Vec<Failure>, String>;
}

/// A value of a statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value: a missing member, a call that makes no sense.
    Undefined,
    /// Everything that JSON has.
    Json(serde_json::Value),
    /// A payload that is no JSON; in a result it is written in base64.
    Bytes(Vec<u8>),
}

impl Value {
    /// The number, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        self.as_json()?.as_f64()
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        self.as_json()?.as_str()
    }

    /// The JSON value, if it is one.
    pub fn as_json(&self) -> Option<&serde_json::Value> {
        match self {
            Self::Json(json) => Some(json),
            Self::Undefined | Self::Bytes(_) => None,
        }
    }
}

impl<T: Into<serde_json::Value>> From<T> for Value {
    fn from(json: T) -> Self {
        Self::Json(json.into())
    }
}

/// Functions for the statements of rules.
pub trait RuleFunction: Plugin {
    /// All functions: name, and how many arguments each takes.
    const FUNCTIONS: &'static [(&'static str, std::ops::RangeInclusive<u32>)];

    /// The value of a call; `name` is spelt as declared, and the number of arguments is within its
    /// range. For arguments of a wrong type answer [`Value::Undefined`], as the functions of the
    /// language do.
    ///
    /// # Errors
    /// A text for the operator; the message goes to the rule's error action.
    fn call(&mut self, name: &str, arguments: &[Value]) -> Result<Value, String>;
}

/// Decides who may connect and what they may do.
pub trait Authorizer: Plugin {
    /// Decides about one client.
    ///
    /// # Errors
    /// A text for the operator's log; the client is refused.
    fn authorize(&mut self, request: &AuthRequest) -> Result<AuthResponse, String>;
}

/// Decides about clients of an authentication method, in steps (MQTT 5.0, 4.12).
pub trait EnhancedAuthorizer: Plugin {
    /// Takes one step. The next one may reach another instance: what it needs goes into the
    /// challenge's `state`.
    ///
    /// # Errors
    /// A text for the operator's log; the client is refused.
    fn exchange(&mut self, request: &ExchangeRequest) -> Result<ExchangeResponse, String>;
}

/// Answers the requests of the plugin's HTTP listener.
pub trait HttpHandler: Plugin {
    /// Answers one request.
    ///
    /// # Errors
    /// A text for the operator's log; the client gets 500.
    fn handle(&mut self, request: Incoming) -> Result<Response, String>;
}

/// Decides, before a device is provisioned by a template, whether it may be.
pub trait ProvisioningHook: Plugin {
    /// Decides about one device.
    ///
    /// # Errors
    /// A text for the operator's log; the device is refused.
    fn decide(&mut self, request: &HookRequest) -> Result<HookResponse, String>;
}
