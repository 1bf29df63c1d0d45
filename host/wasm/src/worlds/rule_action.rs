//! Rule actions: `gnomon_core::actions::Action` by a plugin that exports `rule-action`.
//!
//! A crash is one of the messages; a pause, a full queue and a call that did not come back in
//! time, mostly because of a slow server, are of the target: the rule tries on.

use crate::bindings::guest::rule_action as wit;
use crate::bindings::host::types::{Message as WitMessage, Qos};
use crate::instance::{Crash, bounded};
use crate::pool::{CallError, Pool};
use async_trait::async_trait;
use gnomon_core::actions::{Action, ActionContext, ActionError, Failure};
use gnomon_core::message::{Message, QoS};
use gnomon_core::random::hex;
use std::sync::Arc;

/// CPU time of one call unless the operator says otherwise.
const CPU_MS: u32 = 100;

/// A plugin as a rule action.
pub struct PluginAction {
    pool: Arc<Pool>,
    cpu_ms: u32,
}

impl PluginAction {
    /// `None` when the plugin is no rule action.
    pub fn new(pool: &Arc<Pool>, cpu_ms: Option<u32>) -> Option<Self> {
        pool.handlers.rule_action.as_ref()?;
        Some(Self { pool: pool.clone(), cpu_ms: cpu_ms.unwrap_or(CPU_MS) })
    }

    async fn call(
        &self,
        context: &wit::ActionContext,
        messages: &[WitMessage],
    ) -> Result<Result<Vec<wit::Failure>, String>, CallError> {
        let mut lease = self.pool.lease(self.cpu_ms).await?;
        let instance = &mut lease.instance;
        let guest =
            instance.rule_action.as_ref().expect("`new` checked that the handler is exported");
        let call = guest.call_invoke(&mut instance.store, context, messages);
        let outcome = bounded(self.pool.context.wall, call).await;
        lease.settle(outcome)
    }

    fn named(&self, text: &str) -> String {
        format!("plugin {}: {text}", self.pool.context.name)
    }
}

#[async_trait]
impl Action for PluginAction {
    async fn invoke(
        &self,
        context: &ActionContext,
        messages: &[Arc<Message>],
    ) -> Result<Vec<Failure>, ActionError> {
        let context = wit::ActionContext {
            rule: context.rule.to_string(),
            action: context.action,
            params: context.params.to_string(),
            is_error_action: context.is_error_action,
        };
        let messages: Vec<_> = messages.iter().map(|message| message_to_wit(message)).collect();
        let answer = self.call(&context, &messages).await;
        let failures = answer
            .map_err(|error| match &error {
                CallError::Crashed { crash: Crash::WallTime { .. }, .. } => {
                    ActionError::Retryable(error.to_string())
                }
                CallError::Crashed { .. } => ActionError::Crashed(error.to_string()),
                _ => ActionError::Retryable(error.to_string()),
            })?
            .map_err(|reason| ActionError::Retryable(self.named(&reason)))?;
        failures
            .into_iter()
            .map(|failure| {
                let index = failure.index as usize;
                if index >= messages.len() {
                    let text = format!("reports message {index} of {}", messages.len());
                    return Err(ActionError::Permanent(self.named(&text)));
                }
                let reason = self.named(&failure.reason);
                Ok(Failure { index, retryable: failure.retryable, reason })
            })
            .collect()
    }
}

fn message_to_wit(message: &Message) -> WitMessage {
    let properties = message.properties.as_deref();
    let mut attributes = Vec::new();
    if let Some(topic) = properties.and_then(|p| p.response_topic.as_ref()) {
        attributes.push(("response-topic".into(), topic.to_string()));
    }
    if let Some(data) = properties.and_then(|p| p.correlation_data.as_ref()) {
        attributes.push(("correlation-data".into(), hex(data)));
    }
    WitMessage {
        topic: message.topic.to_string(),
        payload: message.payload.to_vec(),
        qos: match message.qos {
            QoS::AtMostOnce => Qos::AtMostOnce,
            QoS::AtLeastOnce => Qos::AtLeastOnce,
            QoS::ExactlyOnce => Qos::ExactlyOnce,
        },
        retain: message.retain,
        timestamp: message.received_at.as_millis(),
        client_id: message.publisher.client_id.as_ref().map(ToString::to_string),
        principal: message.publisher.principal.as_ref().map(ToString::to_string),
        content_type: properties.and_then(|p| p.content_type.as_deref()).map(Into::into),
        user_properties: properties
            .map(|p| p.user.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
            .unwrap_or_default(),
        attributes,
    }
}
