//! Connections of MQTT clients over HTTP.
//!
//! Source: the model of `iot-data`.

use crate::Services;
use crate::call::{Answer, Call};
use crate::error::{ApiError, Exception};
use crate::router::{Handlers, handlers};
use gnomon_core::ids::ClientId;
use gnomon_core::policy::{Action, Resource};
use gnomon_core::time::Now;

pub(crate) const HANDLERS: Handlers = handlers! {
    DeleteConnection => delete;
};

/// Ends the connection, and with `cleanSession` the session: also that of a client that is away.
async fn delete(services: &Services, call: &Call<'_>) -> Result<Answer, ApiError> {
    let client_id = ClientId::parse(call.label("clientId"))?;
    call.caller.check(Action::DeleteConnection, Resource::Client(client_id.as_str()))?;
    let clean_session = call.query_as("cleanSession")?.unwrap_or(false);
    let prevent_will = call.query_as("preventWillMessage")?.unwrap_or(false);
    let now = Now::of(&*services.clock);
    if !services.clients.disconnect(&client_id, clean_session, prevent_will, now) {
        let text = format!("no client {client_id} is connected or has a session");
        return Err(ApiError::new(Exception::ResourceNotFound, text));
    }
    Ok(Answer::empty())
}

#[cfg(test)]
mod tests {
    use crate::test_host::TestHost;
    use gnomon_core::broker::clients::Opening;
    use gnomon_core::broker::queue::QueueEvent;
    use gnomon_core::ids::ClientId;
    use gnomon_core::time::Now;
    use std::net::Ipv4Addr;
    use std::task::{Context, Poll, Waker};

    #[tokio::test]
    async fn a_client_is_told_to_go_and_who_is_not_there_is_not_found() {
        let host = TestHost::new().await;
        let client_id = ClientId::parse("lamp").unwrap();
        let opening = Opening {
            client_id: &client_id,
            principal: None,
            predecessor: None,
            thing: None,
            ip: Ipv4Addr::LOCALHOST.into(),
            session_identifier: 1,
            clean_start: true,
            session_expiry_s: 0,
            will: None,
        };
        let (client, _) = host.clients.open(&opening, Now::of(&*host.clock)).await.unwrap();
        let target = "/connections/lamp?cleanSession=true&preventWillMessage=true";
        let response = host.call("iotdata", "DELETE", target, "").await;
        assert_eq!(TestHost::error_type(&response), None);
        let mut context = Context::from_waker(Waker::noop());
        let event = client.queue().poll_event(&mut context, false);
        assert!(matches!(event, Poll::Ready(QueueEvent::Stop(_))), "{event:?}");
        let response = host.call("iotdata", "DELETE", "/connections/nobody", "").await;
        assert_eq!(TestHost::error_type(&response), Some("ResourceNotFoundException"));
        let response = host.call("iotdata", "DELETE", "/connections/lamp?cleanSession=2", "").await;
        assert_eq!(TestHost::error_type(&response), Some("InvalidRequestException"));
    }
}
