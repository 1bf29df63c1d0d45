//! What an author implements. The host makes an instance, calls [`Plugin::new`] once, then the
//! handlers, one call at a time. A panic costs the instance; the next call gets a new one.

use crate::{AuthRequest, AuthResponse, ExchangeRequest, ExchangeResponse};
use crate::{Failure, Incoming, Message, Response};
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
