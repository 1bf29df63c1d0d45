//! `messaging`: publish as the plugin itself, to granted topics.

use crate::bindings::host::messaging::{Host, PublishOptions};
use crate::bindings::host::types::{Error, Qos};
use crate::instance::State;
use crate::ports::PublishError;
use gnomon_core::ids::Principal;
use gnomon_core::message::{Message, Properties, Publisher, QoS};
use gnomon_core::topic::TopicName;
use std::sync::Arc;

impl Host for State {
    async fn publish(
        &mut self,
        topic: String,
        payload: Vec<u8>,
        options: PublishOptions,
    ) -> Result<(), Error> {
        let topic = TopicName::parse(&topic).map_err(|e| Error::Invalid(e.to_string()))?;
        self.context.capabilities.check_publish(&topic).map_err(|text| self.denied(text))?;
        let principal = Principal::new(&format!("plugin/{}", self.context.name));
        let publisher = Publisher { client_id: None, principal: Some(principal) };
        let now = self.context.ports.clock.wall();
        let mut message = Message::new(topic, payload, Arc::new(publisher), now);
        message.qos = match options.qos {
            Qos::AtMostOnce => QoS::AtMostOnce,
            Qos::AtLeastOnce => QoS::AtLeastOnce,
            Qos::ExactlyOnce => QoS::ExactlyOnce,
        };
        message.retain = options.retain;
        message.properties = properties(options)?;
        self.context.ports.publisher.publish(message).await.map_err(|error| match error {
            PublishError::TooLarge { limit } => Error::TooLarge(limit),
            PublishError::Invalid(text) => Error::Invalid(text),
            PublishError::Unavailable(text) => Error::Unavailable(text),
        })
    }
}

fn properties(options: PublishOptions) -> Result<Option<Box<Properties>>, Error> {
    let mut properties = Properties {
        content_type: options.content_type.map(Into::into),
        user: options.user_properties.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
        ..Properties::default()
    };
    for (key, value) in options.attributes {
        match key.as_str() {
            "response-topic" => {
                let topic = TopicName::parse(&value)
                    .map_err(|e| Error::Invalid(format!("response-topic: {e}")))?;
                properties.response_topic = Some(topic);
            }
            "expiry-seconds" => {
                let expiry = value.parse().map_err(|_| {
                    Error::Invalid("expiry-seconds is no whole number of seconds".into())
                })?;
                properties.expiry_s = Some(expiry);
            }
            _ => {}
        }
    }
    Ok((properties != Properties::default()).then(|| Box::new(properties)))
}
