//! The start of a connection: from its first byte to the answer to CONNECT.
//!
//! In: a socket and where it comes from. Out: a [`Connection`] without anything that only the start
//! needs. Bound: `connect_timeout`, the steps of an enhanced authentication included.

use super::standing::Standing;
use super::{Connection, Origin, Shared, Step};
use crate::codec::Codec;
use bytes::Bytes;
use gnomon_core::auth::{Credentials, Exchange, Identity, Progress, Refusal};
use gnomon_core::broker::clients::Opening;
use gnomon_core::ids::ClientId;
use gnomon_core::message::Publisher;
use gnomon_core::packet::Connect;
use gnomon_core::random;
use gnomon_core::session::{Opened, Session, will_message};
use gnomon_core::time::Now;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncRead, AsyncWrite};

/// From the first byte to the answer to CONNECT. `None` when the peer took too long or the host
/// stops; else what remains to be run, without anything that only the start needs.
pub async fn open<S>(socket: S, origin: Origin, shared: Arc<Shared>) -> Option<Connection<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let peer = origin.peer;
    let listener = origin.listener.clone();
    let config = origin.session.clone();
    let connect_timeout = config.connect_timeout;
    let now = Now::of(&*shared.clock);
    let mut connection = Connection {
        socket,
        codec: Codec::new(config.limits.packet_bytes),
        session: Session::new(config, now),
        client: None,
        standing: Standing::Fixed,
        farewell: None,
        buffers: None,
        is_held: false,
        needs_flush: false,
        packet_bytes_max: u32::MAX,
        armed_until: None,
        shared: shared.clone(),
    };
    let opened = tokio::select! {
        // A client that is being opened is told by `Clients::stop_all`; this is for the silent.
        () = shared.stop.cancelled() => return None,
        opened = tokio::time::timeout(connect_timeout, connection.open(origin)) => {
            opened
        }
    };
    if opened.is_err() {
        tracing::info!(remote = %peer, %listener, "closed: CONNECT took too long");
        return None;
    }
    Some(connection)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Up to the CONNACK.
    async fn open(&mut self, origin: Origin) {
        let Step::Open(connect) = poll_fn(|context| self.poll_step(context)).await else {
            return;
        };
        self.packet_bytes_max = connect.maximum_packet_size.unwrap_or(u32::MAX);
        let session_expiry_s = connect.session_expiry_s.min(origin.session.limits.session_expiry_s);
        let credentials = self.credentials(&connect, origin);
        let opened = self.authenticate(&connect, &credentials, session_expiry_s).await;
        let now = self.now();
        match opened {
            // The client gave up.
            Ok(None) => return,
            Ok(Some(opened)) => self.session.handle_opened(now, opened),
            Err(refusal) => {
                let client_id = credentials.client_id.as_ref().map(tracing::field::display);
                let remote = credentials.peer;
                tracing::warn!(client_id, %remote, error = %refusal, "client refused");
                self.session.handle_refused(now, &refusal);
            }
        }
        // Packets that the client sent without waiting for the CONNACK [MQTT-3.1.4-5].
        self.handle_input(&[]);
        // Whoever tells of changes did not know the client yet.
        self.look_at_permissions();
    }

    fn credentials(&self, connect: &Connect, origin: Origin) -> Credentials {
        let client_id = connect.client_id.clone().unwrap_or_else(|| {
            ClientId::parse(&format!("gnomon-{}", random::uuid(&*self.shared.random)))
                .expect("a UUID has no control characters")
        });
        Credentials {
            connection_id: self.shared.last_connection_id.fetch_add(1, Ordering::Relaxed) + 1,
            peer: origin.peer,
            listener: origin.listener,
            anonymous_policy: origin.anonymous_policy,
            server_name: origin.server_name,
            certificate: origin.certificate,
            http: origin.http,
            client_id: Some(client_id),
            username: connect.username.clone(),
            password: connect.password.clone(),
            has_will: connect.will.is_some(),
            is_persistent: connect.session_expiry_s > 0,
        }
    }

    async fn authenticate(
        &mut self,
        connect: &Connect,
        credentials: &Credentials,
        session_expiry_s: u32,
    ) -> Result<Option<Opened>, Refusal> {
        let shared = self.shared.clone();
        let client_id = credentials.client_id.as_ref().expect("`credentials` sets it");
        let mut opening = Opening {
            client_id,
            principal: None,
            predecessor: None,
            thing: None,
            ip: credentials.peer.ip(),
            session_identifier: u128::from_be_bytes(random::bytes(&*shared.random)),
            clean_start: connect.clean_start,
            session_expiry_s,
            will: None,
        };
        let (identity, authentication_data) = match self.identify(connect, credentials).await {
            Ok(Some(identified)) => identified,
            Ok(None) => return Ok(None),
            Err(refusal) => {
                if let Refusal::NotAuthorized(_) = refusal {
                    shared.clients.connect_failed(&opening, self.now().wall);
                }
                return Err(refusal);
            }
        };
        let now = self.now();
        let principal = identity.principal.as_ref();
        opening.principal = principal;
        opening.predecessor = identity.predecessor.as_ref();
        opening.thing = identity.exclusive_thing();
        let keeps_will = session_expiry_s > 0 && !identity.permissions.is_quarantined();
        opening.will = connect.will.as_ref().filter(|_| keeps_will).map(|will| {
            let publisher =
                Publisher { client_id: Some(client_id.clone()), principal: principal.cloned() };
            let message = will_message(will, Arc::new(publisher), now.wall);
            (will.delay_s.min(session_expiry_s), Arc::new(message))
        });
        let opened = shared.clients.open(&opening, now).await;
        let (client, resumed) = opened.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        let principal_id = principal.map(tracing::field::display);
        tracing::debug!(
            %client_id,
            remote = %credentials.peer,
            principal = principal_id,
            "connected"
        );
        let is_durable = client.queue().session().is_some();
        let publisher = client.publisher().clone();
        self.client = Some(client);
        Ok(Some(Opened {
            publisher,
            identity,
            resumed,
            is_durable,
            committed: shared.clients.committed(),
            authentication_data,
        }))
    }

    /// Who the client is, if it may connect with what it wants, and data for the CONNACK; `None`
    /// when the connection ended before that was clear.
    async fn identify(
        &mut self,
        connect: &Connect,
        credentials: &Credentials,
    ) -> Result<Option<(Identity, Bytes)>, Refusal> {
        let (identity, data) = match &connect.authentication {
            Some((method, data)) => {
                let exchange =
                    Exchange::new(credentials.clone(), method.clone(), self.packet_bytes_max);
                match self.exchange(exchange, data.clone()).await? {
                    Some(accepted) => accepted,
                    None => return Ok(None),
                }
            }
            None => {
                let (identity, admission) = self.shared.authenticator.admit(credentials).await?;
                let admission = admission.map(|it| Standing::Admitted(Box::new(it)));
                self.standing = admission.unwrap_or(Standing::Fixed);
                (identity, Bytes::new())
            }
        };
        if let Err(problem) = Session::check_will(connect, &identity) {
            self.shared.metrics.publish_denied.increment();
            return Err(Refusal::NotAuthorized(problem));
        }
        Ok(Some((identity, data)))
    }

    /// An enhanced authentication before the CONNACK; all of it within the time for CONNECT.
    async fn exchange(
        &mut self,
        mut exchange: Exchange,
        mut data: Bytes,
    ) -> Result<Option<(Identity, Bytes)>, Refusal> {
        let shared = self.shared.clone();
        loop {
            match shared.authenticator.exchange(&mut exchange, data).await? {
                Progress::Challenged(challenge) => self.session.handle_challenged(challenge),
                Progress::Accepted(identity, data) => {
                    self.standing = Standing::Proven(Box::new(exchange));
                    return Ok(Some((identity, data)));
                }
            }
            let Step::Continue(auth) = poll_fn(|context| self.poll_step(context)).await else {
                return Ok(None);
            };
            data = auth.data.unwrap_or_default();
        }
    }
}
