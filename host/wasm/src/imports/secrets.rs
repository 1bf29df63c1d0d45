//! `secrets`: by name, when granted.

use crate::bindings::host::secrets::Host;
use crate::bindings::host::types::Error;
use crate::instance::State;

impl Host for State {
    async fn get(&mut self, name: String) -> Result<Vec<u8>, Error> {
        match self.context.capabilities.secret(&name) {
            Ok(secret) => Ok(secret.into()),
            Err(text) => Err(self.denied(text)),
        }
    }
}
