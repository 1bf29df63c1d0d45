//! The port to rule actions: what a rule does with a message that passed its WHERE.
//!
//! [`definition`] reads what a rule says about an action; [`republish`] and [`table`] are actions
//! of the host.
//! Not here: which messages a rule takes, and calling an action again and again if need be
//! (`rules`); the plugins (`gnomon-wasm`), writing rows (`gnomon-table`).

pub mod definition;
pub mod republish;
pub mod table;
pub(crate) mod throttle;

use crate::ids::RuleName;
use crate::message::Message;
use async_trait::async_trait;
use definition::Target;
use std::sync::Arc;

/// Where a message stands in the queue of its action: grows from message to message, and stays the
/// same when the message comes again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Number of the commit that made it durable.
    pub batch: u64,
    /// Place in that commit, from 0.
    pub index: u32,
}

/// Which action of which rule is called.
#[derive(Clone, Debug)]
pub struct ActionContext {
    /// The rule.
    pub rule: RuleName,
    /// Position of the action in the rule, from 0.
    pub action: u32,
    /// Parameters of the action in the rule definition, as JSON text.
    pub params: Arc<str>,
    /// True for the rule's error action.
    pub is_error_action: bool,
    /// The queue that the messages come from.
    pub lane: Arc<str>,
    /// Where each of the messages stands in it, ascending.
    pub positions: Vec<Position>,
}

/// One message of a batch that an action could not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Position in the batch, from 0.
    pub index: usize,
    /// Whether trying again may help.
    pub retryable: bool,
    /// What went wrong, for the operator.
    pub reason: String,
}

/// Why the whole batch failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ActionError {
    /// Trying again may help: the target was away.
    #[error("{0}")]
    Retryable(String),
    /// Trying again may help a few times, with the messages one by one: the plugin trapped or ran
    /// out of time.
    #[error("{0}")]
    Crashed(String),
    /// Trying again cannot help: the parameters are wrong, a grant is missing.
    #[error("{0}")]
    Permanent(String),
}

/// Everything that a rule can call.
pub trait Actions: Send + Sync + 'static {
    /// Who carries out an action now; `None` when no such plugin is loaded, and for what needs no
    /// call. Asked at every call, so that plugins can be loaded, replaced and removed under a
    /// running rule.
    fn find(&self, target: &Target) -> Option<Arc<dyn Action>>;
}

/// Something that a rule can call; made by `gnomon-wasm` and `gnomon-table`.
#[async_trait]
pub trait Action: Send + Sync + 'static {
    /// Takes a batch. The payload of each message is the rule's SELECT result; the rest is the
    /// message that fired the rule. Ok lists the failed ones only.
    ///
    /// # Errors
    /// The whole batch failed; see [`ActionError`].
    async fn invoke(
        &self,
        context: &ActionContext,
        messages: &[Arc<Message>],
    ) -> Result<Vec<Failure>, ActionError>;
}
