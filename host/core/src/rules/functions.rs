//! The port to functions whose answer is not in the message.

use super::sql::{Datum, ExternalCall};
use async_trait::async_trait;

/// Answers calls of `get_thing_shadow`, `get_registry_data`, `aws_lambda` and of plugins.
#[async_trait]
pub trait Functions: Send + Sync + 'static {
    /// Whether a plugin offers a function of this name.
    fn offers(&self, name: &str) -> bool;

    /// The value of a call.
    ///
    /// # Errors
    /// Why there is no answer, for the operator: the message goes to the rule's error action.
    async fn call(&self, call: &ExternalCall) -> Result<Datum, String>;
}

/// No functions.
pub struct NoFunctions;

#[async_trait]
impl Functions for NoFunctions {
    fn offers(&self, _: &str) -> bool {
        false
    }

    async fn call(&self, _: &ExternalCall) -> Result<Datum, String> {
        Err("this host does not offer it".to_owned())
    }
}
