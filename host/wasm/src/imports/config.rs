//! `config`: the operator's configuration of the plugin. No grant is needed.

use crate::bindings::host::config::Host;
use crate::instance::State;

impl Host for State {
    async fn document(&mut self) -> String {
        serde_json::Value::Object(self.context.config.clone()).to_string()
    }

    async fn get(&mut self, key: String) -> Option<String> {
        self.context.config.get(&key).map(ToString::to_string)
    }
}
