//! Just-in-time registration and provisioning: devices that come with a certificate of a registered CA.
//!
//! In: a certificate that nobody registered, from a handshake that proved its key. Out: it is registered,
//! PENDING_ACTIVATION, and an event says so, for a rule that sees to it; with a template of its CA it is
//! provisioned at once, and the same connection may go on.
//!
//! Source: AWS IoT developer guide, "Just-in-time registration" and "Just-in-time provisioning".

use super::template::{Template, Use};
use super::{Provisioner, ProvisioningError, wrong};
use crate::auth::Newcomers;
use crate::broker::{Broker, Wakes};
use crate::message::{Message, Publisher, QoS};
use crate::registry::{CaCertificate, Certificate, CertificateStatus, RegistryError, TemplateType};
use crate::time::Clock;
use crate::topic::TopicName;
use async_trait::async_trait;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Sees to newcomers.
pub struct JustInTime {
    provisioner: Provisioner,
    broker: Broker,
    clock: Arc<dyn Clock>,
    publisher: Arc<Publisher>,
}

impl JustInTime {
    /// One that publishes its events here.
    pub fn new(provisioner: Provisioner, broker: Broker, clock: Arc<dyn Clock>) -> Self {
        Self { provisioner, broker, clock, publisher: Arc::default() }
    }

    /// Carries out the template of the CA, if it has one.
    async fn provision(
        &self,
        certificate: &Certificate,
        ca: &CaCertificate,
    ) -> Result<(), ProvisioningError> {
        let Some(registration) = &ca.registration else { return Ok(()) };
        let registry = &self.provisioner.registry;
        let (body, template) = registry.registration_template(registration).await?;
        if let Some(template) = template
            && (!template.enabled || template.kind != TemplateType::Jitp)
        {
            return Err(ProvisioningError::NoTemplate(format!(
                "provisioning template {} is not enabled, or not of type JITP",
                template.name
            )));
        }
        let template = Template::parse(&body, Use::JustInTime).map_err(wrong)?;
        self.provisioner.provision(&template, certificate, &BTreeMap::new()).await?;
        Ok(())
    }

    /// `$aws/events/certificates/registered/{ca}`
    fn tell(&self, certificate: &Certificate, ca: &CaCertificate) {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Event<'a> {
            certificate_id: &'a str,
            ca_certificate_id: &'a str,
            timestamp: u64,
            certificate_status: &'a str,
            aws_account_id: &'a str,
            certificate_registration_timestamp: String,
        }
        let now = self.clock.wall();
        let event = Event {
            certificate_id: certificate.id.as_str(),
            ca_certificate_id: ca.id.as_str(),
            timestamp: now.as_millis(),
            certificate_status: certificate.status.as_str(),
            aws_account_id: &self.provisioner.registry.account().id,
            certificate_registration_timestamp: certificate.created_at.as_millis().to_string(),
        };
        let topic = TopicName::parse(&format!("$aws/events/certificates/registered/{}", ca.id));
        let topic = topic.expect("an id is hexadecimal digits");
        let payload = serde_json::to_vec(&event).expect("texts and numbers serialize");
        let mut message = Message::new(topic, payload, self.publisher.clone(), now);
        message.qos = QoS::AtLeastOnce;
        self.broker.publish(&Arc::new(message), &mut Wakes::default());
    }
}

#[async_trait]
impl Newcomers for JustInTime {
    async fn presented(&self, certificate: &[u8]) -> Result<bool, RegistryError> {
        let registered = self.provisioner.registry.register_presented(certificate).await?;
        let Some((certificate, ca)) = registered else { return Ok(false) };
        if certificate.status != CertificateStatus::PendingActivation {
            return Ok(false);
        }
        self.tell(&certificate, &ca);
        if let Err(error) = self.provision(&certificate, &ca).await {
            let (principal, ca) = (&certificate.id, &ca.id);
            tracing::warn!(%principal, %ca, error = %error, "just-in-time provisioning failed");
        }
        Ok(true)
    }
}
