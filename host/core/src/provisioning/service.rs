//! Fleet provisioning over MQTT: devices ask for certificates, have themselves provisioned, and renew
//! the certificate that they are connected with.
//!
//! In: messages on the request topics, in JSON or CBOR. Out: an answer in the same format, to the client
//! that asked and nobody else, because it may hold a private key. A client that has not subscribed to
//! the answer gets none. Bounds: `WAITING_MAX` requests wait, the next is rejected with 429;
//! `RUNNING_MAX` are worked on. Beside them runs what certificates need now and then (`upkeep`).
//!
//! Source: AWS IoT developer guide, "Device provisioning MQTT API". It has no renewal:
//! `$gnomon/certificates/renew/{json|cbor}` is ours.

use super::template::{self, Template, Use};
use super::upkeep::{UPKEEP_INTERVAL, Upkeep};
use super::{HookRequest, Provisioner, ProvisioningError, wrong};
use crate::broker::{Broker, Delivery, Inbox, Receiver, Wakes};
use crate::ids::{CertificateId, ClientId, TemplateName};
use crate::message::{Message, Publisher, QoS};
use crate::metrics::Metrics;
use crate::packet::SubscribeOptions;
use crate::registry::{RegistryError, TemplateType};
use crate::time::Clock;
use crate::topic::{TopicFilter, TopicName};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

/// Requests that wait. Each has at most one message's payload.
const WAITING_MAX: usize = 1_000;

/// Requests that are worked on at the same time; most of one is waiting for the disk or for a key.
const RUNNING_MAX: usize = 32;

/// Where requests come in. Answers go to `{request}/accepted` or `{request}/rejected`.
const FILTERS: [&str; 4] = [
    "$aws/certificates/create/+",
    "$aws/certificates/create-from-csr/+",
    "$aws/provisioning-templates/+/provision/+",
    "$gnomon/certificates/renew/+",
];

/// The running service. Dropping it stops it like [`Service::shutdown`], without waiting.
pub struct Service {
    running: Mutex<Option<Running>>,
}

/// What a shutdown takes apart, in this order.
struct Running {
    subscriptions: Receiver,
    stop: oneshot::Sender<()>,
    worker: JoinHandle<()>,
}

impl Service {
    /// Subscribes to the request topics and starts to work, on the runtime of the caller.
    pub fn start(
        provisioner: Provisioner,
        broker: Broker,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let handler = Arc::new(Handler {
            provisioner,
            broker,
            clock,
            metrics,
            publisher: Arc::default(),
            busy: Mutex::default(),
        });
        let (jobs, queue) = mpsc::channel(WAITING_MAX);
        let (stop, stopped) = oneshot::channel();
        let entrance = Arc::new(Entrance { handler: handler.clone(), jobs });
        let subscriptions = handler.broker.register(entrance);
        for filter in FILTERS {
            let filter = TopicFilter::parse(filter).expect("whole levels are wildcards");
            let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
            subscriptions.subscribe(&filter, options, None);
        }
        let worker = Handle::current().spawn(run(handler, queue, stopped));
        Self { running: Mutex::new(Some(Running { subscriptions, stop, worker })) }
    }

    /// Takes no more requests, and returns when those that were taken are answered.
    pub async fn shutdown(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { subscriptions, stop, worker }) = running {
            drop(subscriptions);
            // Both fail only when the worker has ended already.
            let _ = stop.send(());
            let _ = worker.await;
        }
    }
}

/// What requests come through.
struct Entrance {
    handler: Arc<Handler>,
    jobs: mpsc::Sender<Job>,
}

impl Inbox for Entrance {
    fn deliver(&self, delivery: Delivery, wakes: &mut Wakes) {
        let message = delivery.message;
        let Some(format) = Format::of(&message.topic) else { return };
        // Over HTTP nobody would hear the answer.
        let Some(client) = message.publisher.client_id.clone() else { return };
        let job = Job { message, client, format };
        if let Err(refused) = self.jobs.try_send(job) {
            let error = Rejected::new(429, "TooManyRequests", "too many requests wait; ask again");
            self.handler.reject(&refused.into_inner(), &error, wakes);
        }
    }
}

/// A request on its way.
struct Job {
    message: Arc<Message>,
    client: ClientId,
    format: Format,
}

/// Works until told to stop, then carries out what it has taken on.
async fn run(
    handler: Arc<Handler>,
    mut jobs: mpsc::Receiver<Job>,
    mut stop: oneshot::Receiver<()>,
) {
    let (mut running, mut seeing_to) = (JoinSet::new(), JoinSet::new());
    let upkeep = Arc::new(handler.upkeep());
    let (mut interval, mut turn) = (tokio::time::interval(UPKEEP_INTERVAL), 0);
    let (mut is_stopping, mut is_open) = (false, true);
    loop {
        tokio::select! {
            biased; // Stop comes before new requests.
            // Also when the service was dropped. What is in the queue is still received.
            _ = &mut stop, if !is_stopping => {
                is_stopping = true;
                jobs.close();
                // What it leaves is seen to at the next start.
                seeing_to.abort_all();
            }
            Some(done) = running.join_next() => {
                if let Err(error) = done {
                    tracing::error!(%error, "provisioning request panicked");
                }
            }
            Some(done) = seeing_to.join_next() => {
                if let Err(error) = done && error.is_panic() {
                    tracing::error!(%error, "upkeep of certificates panicked");
                }
            }
            _ = interval.tick(), if !is_stopping => {
                // One at a time; a slow disk makes it later, not more.
                if seeing_to.is_empty() {
                    let upkeep = upkeep.clone();
                    seeing_to.spawn(async move { upkeep.run(turn).await });
                    turn += 1;
                }
            }
            job = jobs.recv(), if is_open && running.len() < RUNNING_MAX => match job {
                Some(job) => {
                    let handler = handler.clone();
                    running.spawn(async move { handler.handle(&job).await });
                }
                None => is_open = false,
            },
            else => return,
        }
    }
}

/// How request and answer are written.
#[derive(Clone, Copy)]
enum Format {
    Json,
    Cbor,
}

impl Format {
    fn of(topic: &TopicName) -> Option<Self> {
        match topic.levels().last() {
            Some("json") => Some(Self::Json),
            Some("cbor") => Some(Self::Cbor),
            _ => None,
        }
    }

    /// No payload is an empty object.
    fn read<T: DeserializeOwned>(self, payload: &[u8]) -> Result<T, Rejected> {
        let read = match (self, payload) {
            (_, []) => serde_json::from_slice(b"{}").map_err(|error| error.to_string()),
            (Self::Json, text) => serde_json::from_slice(text).map_err(|error| error.to_string()),
            (Self::Cbor, bytes) => ciborium::from_reader(bytes).map_err(|error| error.to_string()),
        };
        read.map_err(|problem| {
            Rejected::new(400, "InvalidPayload", format!("the payload cannot be read: {problem}"))
        })
    }

    fn write(self, answer: &impl Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Json => {
                serde_json::to_writer(&mut bytes, answer).expect("texts and numbers serialize");
            }
            Self::Cbor => {
                ciborium::into_writer(answer, &mut bytes).expect("texts and numbers serialize");
            }
        }
        bytes
    }
}

/// The payload of `…/rejected`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rejected {
    status_code: u16,
    error_code: &'static str,
    error_message: String,
}

impl Rejected {
    fn new(status_code: u16, error_code: &'static str, error_message: impl Into<String>) -> Self {
        Self { status_code, error_code, error_message: error_message.into() }
    }
}

/// AWS documents `ACCESS_DENIED` alone; the others are named after its exceptions.
impl From<ProvisioningError> for Rejected {
    fn from(error: ProvisioningError) -> Self {
        use ProvisioningError as E;
        let (status, code) = match &error {
            E::Template(_) => (400, "InvalidParameters"),
            E::Token => (400, "InvalidCertificateOwnershipToken"),
            E::Denied => (403, "ACCESS_DENIED"),
            E::NoTemplate(_) => (404, "TemplateNotFound"),
            E::Conflict(_) => (409, "ResourceConflict"),
            E::Busy | E::Registry(RegistryError::Busy) => (409, "ConflictingResourceUpdate"),
            E::Registry(RegistryError::CertificateState(_)) => (409, "CertificateState"),
            E::Registry(RegistryError::ResourceNotFound(_)) => (404, "ResourceNotFound"),
            E::Registry(RegistryError::InvalidRequest(_)) => (400, "InvalidRequest"),
            E::Registry(
                RegistryError::CertificateValidation(_) | RegistryError::MalformedPolicy(_),
            ) => (400, "InvalidParameters"),
            E::Registry(RegistryError::ResourceAlreadyExists { .. }) => (409, "ResourceConflict"),
            E::Registry(RegistryError::LimitExceeded(_)) => (410, "LimitExceeded"),
            E::Registry(_) => {
                tracing::warn!(error = %error, "provisioning request failed");
                return Self::new(500, "InternalError", "the request cannot be carried out now");
            }
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<RegistryError> for Rejected {
    fn from(error: RegistryError) -> Self {
        ProvisioningError::from(error).into()
    }
}

struct Handler {
    provisioner: Provisioner,
    broker: Broker,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    publisher: Arc<Publisher>,
    /// Certificates that are being provisioned: a token is used once.
    busy: Mutex<HashSet<CertificateId>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    certificate_id: String,
    certificate_pem: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<String>,
    certificate_ownership_token: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    device_configuration: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thing_name: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Renewed {
    certificate_id: String,
    certificate_pem: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<String>,
    overlap_seconds: u64,
}

impl Handler {
    fn upkeep(&self) -> Upkeep {
        Upkeep::new(
            self.provisioner.registry.clone(),
            self.broker.clone(),
            self.clock.clone(),
            self.metrics.clone(),
        )
    }

    async fn handle(&self, job: &Job) {
        let mut levels = job.message.topic.levels().skip(1);
        let answered = match (levels.next(), levels.next()) {
            (Some("certificates"), Some("create")) => {
                self.create().await.map(|it| job.format.write(&it))
            }
            (Some("certificates"), Some("renew")) => {
                self.renew(job).await.map(|it| job.format.write(&it))
            }
            (Some("certificates"), _) => self.sign(job).await.map(|it| job.format.write(&it)),
            (_, name) => {
                let name = name.unwrap_or_default();
                self.provision(job, name).await.map(|it| job.format.write(&it))
            }
        };
        let wakes = &mut Wakes::default();
        match answered {
            Ok(payload) => {
                self.metrics.provisioning_accepted.increment();
                self.tell(job, "accepted", payload, wakes);
            }
            Err(error) => self.reject(job, &error, wakes),
        }
    }

    async fn create(&self) -> Result<Created, Rejected> {
        let (issued, certificate_ownership_token) =
            self.provisioner.registry.create_owned_keys().await?;
        Ok(Created {
            certificate_id: issued.certificate.id.to_string(),
            certificate_pem: issued.certificate.pem,
            private_key: Some(issued.private_key_pem),
            certificate_ownership_token,
        })
    }

    async fn sign(&self, job: &Job) -> Result<Created, Rejected> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Request {
            certificate_signing_request: String,
        }
        let Request { certificate_signing_request } = job.format.read(&job.message.payload)?;
        let registry = &self.provisioner.registry;
        let (certificate, certificate_ownership_token) =
            registry.create_owned_certificate(&certificate_signing_request).await?;
        Ok(Created {
            certificate_id: certificate.id.to_string(),
            certificate_pem: certificate.pem,
            private_key: None,
            certificate_ownership_token,
        })
    }

    /// For the certificate that the client is connected with, whatever it says.
    async fn renew(&self, job: &Job) -> Result<Renewed, Rejected> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Request {
            #[serde(default)]
            certificate_signing_request: Option<String>,
        }
        let Request { certificate_signing_request } = job.format.read(&job.message.payload)?;
        let principal = job.message.publisher.principal.as_ref();
        let id = principal.and_then(|it| CertificateId::parse(it.as_str()).ok());
        let not_one =
            || Rejected::new(403, "ACCESS_DENIED", "the client is not here by a certificate");
        let id = id.ok_or_else(not_one)?;
        let registry = &self.provisioner.registry;
        let renewed = registry.renew_certificate(&id, certificate_signing_request.as_deref()).await;
        let renewal = match renewed {
            // A claim, or deleted since.
            Err(RegistryError::ResourceNotFound(_)) => return Err(not_one()),
            renewed => renewed?,
        };
        self.metrics.certificates_renewed.increment();
        Ok(Renewed {
            certificate_id: renewal.certificate.id.to_string(),
            certificate_pem: renewal.certificate.pem,
            private_key: renewal.private_key_pem,
            overlap_seconds: renewal.overlap.as_secs(),
        })
    }

    async fn provision(&self, job: &Job, template: &str) -> Result<Registered, Rejected> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Request {
            certificate_ownership_token: String,
            #[serde(default)]
            parameters: BTreeMap<String, String>,
        }
        let name = TemplateName::parse(template);
        let name = name.map_err(|it| ProvisioningError::NoTemplate(it.to_string()))?;
        let Request { certificate_ownership_token, parameters } =
            job.format.read(&job.message.payload)?;
        let registry = &self.provisioner.registry;
        let certificate = registry.owned_certificate(&certificate_ownership_token).await?;
        let id = certificate.ok_or(ProvisioningError::Token)?.id;
        if !self.busy().insert(id.clone()) {
            return Err(ProvisioningError::Busy.into());
        }
        let token = &certificate_ownership_token;
        let done = self.provision_owned(job, &name, token, parameters).await;
        self.busy().remove(&id);
        Ok(done?)
    }

    async fn provision_owned(
        &self,
        job: &Job,
        name: &TemplateName,
        token: &str,
        mut parameters: BTreeMap<String, String>,
    ) -> Result<Registered, ProvisioningError> {
        let (provisioner, registry) = (&self.provisioner, &self.provisioner.registry);
        // Once more: another request may have used the token since.
        let certificate = registry.owned_certificate(token).await?;
        let certificate = certificate.ok_or(ProvisioningError::Token)?;
        template::check_parameters(&parameters).map_err(wrong)?;
        let template = provisioner.template(name).await?;
        if template.kind != TemplateType::FleetProvisioning {
            return Err(ProvisioningError::NoTemplate(format!(
                "provisioning template {name} is not of type FLEET_PROVISIONING"
            )));
        }
        let request = HookRequest {
            claim_certificate_id: job.message.publisher.principal.as_ref().map(ToString::to_string),
            certificate_id: certificate.id.clone(),
            certificate_pem: certificate.pem.clone(),
            template_arn: registry.provisioning_template_arn(name),
            client_id: Some(job.client.clone()),
            parameters: parameters.clone(),
        };
        parameters.extend(provisioner.ask(&template, request).await?);
        template::check_parameters(&parameters).map_err(wrong)?;
        let document = Template::parse(&template.default().body, Use::Fleet).map_err(wrong)?;
        let provisioned = provisioner.provision(&document, &certificate, &parameters).await?;
        let (principal, thing) = (&certificate.id, provisioned.thing.as_ref());
        let thing = thing.map(tracing::field::display);
        tracing::info!(template = %name, %principal, thing, client_id = %job.client, "device provisioned");
        Ok(Registered {
            device_configuration: provisioned.device_configuration,
            thing_name: provisioned.thing.map(|thing| thing.to_string()),
        })
    }

    fn reject(&self, job: &Job, error: &Rejected, wakes: &mut Wakes) {
        self.metrics.provisioning_rejected.increment();
        let (topic, reason) = (&job.message.topic, &error.error_message);
        tracing::info!(client_id = %job.client, %topic, reason, "provisioning request rejected");
        self.tell(job, "rejected", job.format.write(error), wakes);
    }

    fn tell(&self, job: &Job, suffix: &str, payload: Vec<u8>, wakes: &mut Wakes) {
        let topic = TopicName::parse(&format!("{}/{suffix}", job.message.topic));
        let Ok(topic) = topic else { return };
        let now = self.clock.wall();
        let message = Message::new(topic, payload, self.publisher.clone(), now);
        if !self.broker.answer(&job.client, &Arc::new(message), wakes) {
            let topic = &job.message.topic;
            tracing::debug!(client_id = %job.client, %topic, suffix, "nobody hears the answer");
        }
    }

    fn busy(&self) -> std::sync::MutexGuard<'_, HashSet<CertificateId>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
