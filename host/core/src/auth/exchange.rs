//! Enhanced authentication (MQTT 5.0, 4.12): client and authorizer talk in steps.
//!
//! In: what the client sent with CONNECT or AUTH. Out: a challenge for it, an [`Identity`], or a
//! [`Refusal`]. The authorizer keeps nothing between two steps: what it has to remember it returns
//! with its challenge, and the [`Exchange`] of the connection holds it.
//!
//! Bounds: [`CHALLENGES_MAX`] per authentication, [`STATE_BYTES_MAX`] of state, each step has the
//! time of a custom authorizer.

use super::authenticator::{AUTHORIZER_TIMEOUT, Authenticator, check_connect};
use super::{Credentials, ExchangeAnswer, ExchangeRequest, Identity, Refusal};
use crate::ids::Principal;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Challenges of one authentication.
pub const CHALLENGES_MAX: u32 = 8;

/// Bytes that an authorizer may leave with its challenge.
pub const STATE_BYTES_MAX: usize = 4 * 1_024;

/// Bytes of Authentication Data that a packet can hold (MQTT 5.0, 1.5.6).
const DATA_BYTES_MAX: usize = u16::MAX as usize;

/// Bytes that AUTH and CONNACK may need beside method and data.
const PACKET_BYTES_SPARE: usize = 512;

/// One client's authentication by a method, and every later one of the same connection.
#[derive(Debug)]
pub struct Exchange {
    request: ExchangeRequest,
    data_bytes_max: usize,
    challenges: u32,
    /// Who it was before; `None` until the first authentication succeeded.
    principal: Option<Principal>,
}

/// Where an exchange is after a step.
#[derive(Clone, Debug)]
pub enum Progress {
    /// The client has to answer this.
    Challenged(Bytes),
    /// The client is known; the data goes with the last answer to it.
    Accepted(Identity, Bytes),
}

impl Exchange {
    /// The exchange of a client that named this method in CONNECT and takes packets up to this
    /// size.
    pub fn new(credentials: Credentials, method: Arc<str>, packet_bytes_max: u32) -> Self {
        let room = (packet_bytes_max as usize).saturating_sub(method.len() + PACKET_BYTES_SPARE);
        let (data, state) = (Bytes::new(), Bytes::new());
        let is_reauthentication = false;
        Self {
            request: ExchangeRequest { credentials, method, data, state, is_reauthentication },
            data_bytes_max: room.min(DATA_BYTES_MAX),
            challenges: 0,
            principal: None,
        }
    }

    /// Begins anew for a connected client.
    pub fn begin_again(&mut self) {
        self.request.is_reauthentication = true;
        self.request.state = Bytes::new();
        self.challenges = 0;
    }

    /// What the client presented beside the exchange.
    pub fn credentials(&self) -> &Credentials {
        &self.request.credentials
    }

    fn challenge(&mut self, data: Bytes, state: Bytes) -> Result<Progress, String> {
        self.challenges += 1;
        if self.challenges > CHALLENGES_MAX {
            return Err(format!("challenged the client more than {CHALLENGES_MAX} times"));
        }
        if state.len() > STATE_BYTES_MAX {
            return Err(format!(
                "answered with {} bytes of state; at most {STATE_BYTES_MAX} are allowed",
                state.len()
            ));
        }
        self.check_data(&data)?;
        self.request.state = state;
        Ok(Progress::Challenged(data))
    }

    fn check_data(&self, data: &Bytes) -> Result<(), String> {
        match data.len() <= self.data_bytes_max {
            true => Ok(()),
            false => Err(format!(
                "answered with {} bytes of data; the client takes {}",
                data.len(),
                self.data_bytes_max
            )),
        }
    }
}

impl Authenticator {
    /// One step: hands what the client sent to the authorizer of its method.
    ///
    /// # Errors
    /// Why the client is refused; whoever answers it logs that.
    pub async fn exchange(
        &self,
        exchange: &mut Exchange,
        data: Bytes,
    ) -> Result<Progress, Refusal> {
        let method = exchange.request.method.clone();
        let Some(authorizer) = self.authorizers.by_method.get(&method) else {
            return Err(Refusal::BadMethod(method.to_string()));
        };
        let failed = |problem: String| {
            Refusal::NotAuthenticated(format!("authorizer of {method} {problem}"))
        };
        exchange.request.data = data;
        let answer = authorizer.exchange(&exchange.request);
        let answer = match tokio::time::timeout(AUTHORIZER_TIMEOUT, answer).await {
            Ok(answer) => answer.map_err(|problem| failed(format!("refused: {problem}")))?,
            Err(_) => {
                let seconds = AUTHORIZER_TIMEOUT.as_secs();
                return Err(failed(format!("did not answer within {seconds} s")));
            }
        };
        let (response, data) = match answer {
            ExchangeAnswer::Challenge { data, state } => {
                return exchange.challenge(data, state).map_err(failed);
            }
            ExchangeAnswer::Accepted { response, data } => (response, data),
        };
        exchange.check_data(&data).map_err(failed)?;
        exchange.request.data = Bytes::new();
        exchange.request.state = Bytes::new();
        let credentials = &exchange.request.credentials;
        let who = format!("authorizer of {method}");
        let mut identity = self.check_response(&who, &response, credentials).await?;
        // Nobody is asked anew behind the client's back: it has to authenticate again by itself.
        let refresh_after = Some(response.refresh_after_s).filter(|&seconds| seconds > 0);
        let refresh_after = refresh_after.map(|seconds| Duration::from_secs(seconds.into()));
        identity.disconnect_after =
            identity.disconnect_after.into_iter().chain(refresh_after).min();
        let identity = self.with_quarantine(identity, credentials).await?;
        let identity = check_connect(identity, credentials.client_id.as_ref())?;
        // The session belongs to the principal that opened it.
        if exchange.principal.is_some() && exchange.principal != identity.principal {
            return Err(Refusal::NotAuthorized(
                "the client authenticates again as somebody else".to_owned(),
            ));
        }
        exchange.principal.clone_from(&identity.principal);
        Ok(Progress::Accepted(identity, data))
    }
}

#[cfg(test)]
mod tests;
