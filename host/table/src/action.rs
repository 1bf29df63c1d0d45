//! The action `table` of rules.

use crate::row;
use crate::writer::{Insert, Request, Requests, Row};
use async_trait::async_trait;
use gnomon_core::actions::table::TableRow;
use gnomon_core::actions::{Action, ActionContext, ActionError, Failure};
use gnomon_core::message::Message;
use std::sync::Arc;

pub struct TableAction {
    pub requests: Requests,
}

#[async_trait]
impl Action for TableAction {
    async fn invoke(
        &self,
        context: &ActionContext,
        messages: &[Arc<Message>],
    ) -> Result<Vec<Failure>, ActionError> {
        let params = serde_json::from_str(&context.params).map_err(|error| error.to_string());
        let params = params.and_then(|body| TableRow::parse(&body));
        let named = params.and_then(|params| Ok((params.name()?, params)));
        let (table, params) = named.map_err(ActionError::Permanent)?;
        let mut failures = Vec::new();
        let mut rows = Vec::with_capacity(messages.len());
        for (index, (message, &position)) in messages.iter().zip(&context.positions).enumerate() {
            let row = params.time(message.received_at).and_then(|time| {
                let time_ms = i64::try_from(time.as_millis())
                    .map_err(|_| "timestamp: it is too large".to_owned())?;
                Ok(Row { index, position, time_ms, cells: row::cells(&message.payload)? })
            });
            match row {
                Ok(row) => rows.push(row),
                Err(reason) => failures.push(Failure { index, retryable: false, reason }),
            }
        }
        if !rows.is_empty() {
            let insert = Insert { lane: context.lane.clone(), table, rows };
            let refused = self.requests.ask(|answer| Request::Insert { insert, answer }).await?;
            failures.extend(refused);
        }
        Ok(failures)
    }
}
