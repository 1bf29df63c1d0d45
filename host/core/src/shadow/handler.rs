//! One shadow request: reads, decides, makes durable, then tells.
//!
//! In: a [`Job`] from the worker. Out: publications, and the answer to the REST API.
//! Invariant: nothing is told before it is durable.

use super::answer::Context;
use super::document::{Document, Stored};
use super::request::{Request, Update};
use super::topics::{self, Operation};
use super::{ShadowError, ShadowId, record};
use crate::broker::{Broker, Wakes};
use crate::ids::{ClientId, ShadowName, ThingName};
use crate::limits::Limits;
use crate::message::{Message, Publisher, QoS};
use crate::metrics::Metrics;
use crate::storage::{Expect, Key, Storage, StoreError};
use crate::time::{Clock, Timestamp};
use crate::topic::TopicName;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Attempts to write while someone else (another host) writes the same shadow in between.
const ATTEMPTS_MAX: u32 = 8;

/// A request on its way.
pub(super) struct Job {
    pub(super) id: ShadowId,
    pub(super) operation: Operation,
    pub(super) payload: Bytes,
    pub(super) origin: Origin,
    /// The request's share of what may wait, given back when it is answered.
    pub(super) _room: OwnedSemaphorePermit,
}

/// Who asked, and so where the answer goes besides those who subscribed to it.
pub(super) enum Origin {
    /// A message on this topic, of this client: rejections are published too.
    Mqtt(TopicName, Option<ClientId>),
    /// The REST API.
    Rest(oneshot::Sender<Result<Bytes, ShadowError>>),
    /// Nobody: a client has subscribed.
    Subscription,
}

impl Origin {
    /// The MQTT client that asks.
    pub(super) fn client(&self) -> Option<&ClientId> {
        match self {
            Self::Mqtt(_, client) => client.as_ref(),
            Self::Rest(_) | Self::Subscription => None,
        }
    }
}

/// What handles requests; shared by all that run at once.
pub(super) struct Handler {
    pub(super) store: Arc<dyn Storage>,
    pub(super) broker: Broker,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: Arc<Limits>,
    pub(super) metrics: Arc<Metrics>,
    /// The host itself.
    pub(super) publisher: Arc<Publisher>,
}

/// What a successful request leads to.
enum Answer {
    Got(Document),
    Updated {
        update: Update,
        previous: Document,
        current: Document,
    },
    /// The last version.
    Deleted(u64),
}

impl Answer {
    fn accepted(&self, context: &Context<'_>) -> Bytes {
        match self {
            Self::Got(document) => context.document(document),
            Self::Updated { update, current, .. } => context.updated(update, current.version),
            Self::Deleted(version) => context.deleted(*version),
        }
    }
}

impl Handler {
    /// Carries out the request and answers it.
    pub(super) async fn handle(&self, job: Job) {
        let now = self.clock.wall();
        if job.operation == Operation::Remind {
            return self.remind(&job.id, now).await;
        }
        let request = match job.operation {
            // What else it says does not count.
            Operation::Delete => Ok(Request::read_token(&job.payload)),
            _ => Request::read(&job.payload, &self.limits),
        };
        let token = match &request {
            Ok(request) => request.client_token(),
            Err(_) => Request::read_token(&job.payload).client_token(),
        };
        // Repeated in a rejection whenever it could be read, whatever else was wrong.
        let token = token.ok().flatten();
        let context = Context { now, client_token: token.as_deref() };
        let result = match request {
            Ok(request) => self.carry_out(&job.id, job.operation, request, &context).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(answer) => self.accept(job, &answer, &context),
            Err(error) => self.reject(job.origin, &error, &context, &mut Wakes::default()),
        }
    }

    async fn carry_out(
        &self,
        id: &ShadowId,
        operation: Operation,
        request: Request,
        context: &Context<'_>,
    ) -> Result<Answer, ShadowError> {
        if operation == Operation::Update {
            return self.update(id, request.into_update(&self.limits)?, context.now).await;
        }
        request.client_token()?;
        match operation {
            Operation::Delete => self.delete(id, context.now).await,
            _ => self.get(id).await,
        }
    }

    async fn get(&self, id: &ShadowId) -> Result<Answer, ShadowError> {
        let (stored, _) = self.load(id).await?;
        stored.and_then(Stored::existing).map(Answer::Got).ok_or_else(|| not_found(id))
    }

    async fn update(
        &self,
        id: &ShadowId,
        update: Update,
        now: Timestamp,
    ) -> Result<Answer, ShadowError> {
        let decide = |stored| {
            let previous = Stored::base(stored, now);
            let current = previous.updated(&update, now, &self.limits)?;
            Ok((Stored::Document(current), previous))
        };
        let (stored, previous) = self.change(id, decide).await?;
        let current = stored.existing().expect("an update leaves a document");
        Ok(Answer::Updated { update, previous, current })
    }

    async fn delete(&self, id: &ShadowId, now: Timestamp) -> Result<Answer, ShadowError> {
        let decide = |stored: Option<Stored>| {
            let document = stored.and_then(Stored::existing).ok_or_else(|| not_found(id))?;
            let version = document.version;
            Ok((Stored::Deleted { version, at_s: now.as_secs() }, version))
        };
        let (_, version) = self.change(id, decide).await?;
        Ok(Answer::Deleted(version))
    }

    /// Tells the delta, if there is one: a device that was away need not ask.
    async fn remind(&self, id: &ShadowId, now: Timestamp) {
        // What fails is in the log, and whoever asks is told.
        let Ok((Some(stored), _)) = self.load(id).await else { return };
        let Some(document) = stored.existing() else { return };
        let delta = document.delta();
        if !delta.is_empty() {
            let context = Context { now, client_token: None };
            let payload = || context.delta(&delta, document.version);
            let topic = id.topic(Operation::Remind);
            self.tell(&topic, "delta", payload, &context, &mut Wakes::default());
        }
    }

    /// See [`super::Service::list_named`].
    pub(super) async fn list_named(
        &self,
        thing: &ThingName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ShadowName>, ShadowError> {
        // The classic shadow has the first key of its thing, and the prefix of all.
        let classic = ShadowId { thing: thing.clone(), name: None };
        let prefix = classic.key();
        let mut after = Key::new("shadow", &[thing.as_str(), after.unwrap_or_default()]);
        let mut names = Vec::new();
        while names.len() < limit {
            let records = self.store.scan(&prefix, Some(&after), limit - names.len()).await;
            let records = records.map_err(|error| failed(&classic, &error))?;
            let Some(last) = records.last() else { break };
            after = last.key.clone();
            for record in &records {
                let stored = record::decode(&record.value);
                let stored = stored.map_err(|error| failed(&classic, &error))?;
                let name = record.key.as_str().strip_prefix(prefix.as_str()).unwrap_or_default();
                if stored.existing().is_some() {
                    names.extend(ShadowName::parse(name));
                }
            }
        }
        Ok(names)
    }

    /// Replaces what is stored by what `decide` makes of it, and returns that; decides anew when
    /// someone else was faster.
    async fn change<T>(
        &self,
        id: &ShadowId,
        decide: impl Fn(Option<Stored>) -> Result<(Stored, T), ShadowError>,
    ) -> Result<(Stored, T), ShadowError> {
        for _ in 0..ATTEMPTS_MAX {
            let (stored, expect) = self.load(id).await?;
            let (next, result) = decide(stored)?;
            match self.store.put(&id.key(), record::encode(&next), expect).await {
                Ok(_) => return Ok((next, result)),
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(failed(id, &error)),
            }
        }
        Err(failed(id, &StoreError::Conflict))
    }

    async fn load(&self, id: &ShadowId) -> Result<(Option<Stored>, Expect), ShadowError> {
        let record = self.store.get(&id.key()).await.map_err(|error| failed(id, &error))?;
        let Some(record) = record else { return Ok((None, Expect::Absent)) };
        let stored = record::decode(&record.value).map_err(|error| failed(id, &error))?;
        Ok((Some(stored), Expect::Revision(record.revision)))
    }

    fn accept(&self, job: Job, answer: &Answer, context: &Context<'_>) {
        self.metrics.shadow_accepted.increment();
        let wakes = &mut Wakes::default();
        let (topic, rest) = match job.origin {
            Origin::Mqtt(topic, _) => {
                self.tell(&topic, "accepted", || answer.accepted(context), context, wakes);
                (topic, None)
            }
            Origin::Subscription => return,
            Origin::Rest(rest) => {
                let (topic, accepted) = (job.id.topic(job.operation), answer.accepted(context));
                // Who reads by REST has the document; nobody else learns anything new.
                if !matches!(answer, Answer::Got(_)) {
                    self.tell(&topic, "accepted", || accepted.clone(), context, wakes);
                }
                (topic, Some((rest, accepted)))
            }
        };
        if let Answer::Updated { previous, current, .. } = answer {
            let documents = || context.documents(previous, current);
            self.tell(&topic, "documents", documents, context, wakes);
            let delta = current.delta();
            if !delta.is_empty() {
                let delta = || context.delta(&delta, current.version);
                self.tell(&topic, "delta", delta, context, wakes);
            }
        }
        if let Some((rest, accepted)) = rest {
            // Fails only when the caller has gone away.
            let _ = rest.send(Ok(accepted));
        }
    }

    /// Answers a request that was not carried out.
    pub(super) fn reject(
        &self,
        origin: Origin,
        error: &ShadowError,
        context: &Context<'_>,
        wakes: &mut Wakes,
    ) {
        self.metrics.shadow_rejected.increment();
        match origin {
            Origin::Mqtt(topic, _) => {
                self.tell(&topic, "rejected", || context.rejected(error), context, wakes);
            }
            Origin::Rest(answer) => {
                let _ = answer.send(Err(error.clone()));
            }
            Origin::Subscription => tracing::warn!(%error, "a subscriber is not told its delta"),
        }
    }

    /// Rejects a request that is not looked into further than for its token.
    pub(super) fn turn_away(
        &self,
        origin: Origin,
        payload: &[u8],
        error: &ShadowError,
        wakes: &mut Wakes,
    ) {
        let token = Request::read_token(payload).client_token().ok().flatten();
        let context = Context { now: self.clock.wall(), client_token: token.as_deref() };
        self.reject(origin, error, &context, wakes);
    }

    /// Publishes what `payload` makes, when anybody listens: documents are seldom heard.
    fn tell(
        &self,
        request: &TopicName,
        suffix: &str,
        payload: impl FnOnce() -> Bytes,
        context: &Context<'_>,
        wakes: &mut Wakes,
    ) {
        let Some(topic) = topics::answer(request, suffix) else { return };
        let message = || {
            let publisher = self.publisher.clone();
            let mut message = Message::new(topic.clone(), payload(), publisher, context.now);
            // A delivery has at most the subscription's QoS: the subscriber decides.
            message.qos = QoS::AtLeastOnce;
            message
        };
        self.broker.publish_if_heard(&topic, message, wakes);
    }
}

fn not_found(id: &ShadowId) -> ShadowError {
    ShadowError::NotFound { name: id.display_name().to_owned() }
}

fn failed(id: &ShadowId, error: &dyn std::error::Error) -> ShadowError {
    let source = error.source().map(tracing::field::display);
    tracing::warn!(thing = %id.thing, shadow = %id, error = %error, source, "shadow request failed");
    ShadowError::Internal
}
