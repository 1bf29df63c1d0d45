//! By what a client was let in, and whether it may stay: asked anew when certificate, attachments,
//! policies or authorizers change or an authorizer's answer ends, and by the client itself when it
//! authenticates again (AUTH).
//!
//! In: [`Standing::look`], [`Standing::take_auth`]. Out: the answers, by polling.

use super::{Connection, Shared};
use gnomon_core::auth::{Admission, Exchange, Identity, Progress, Refusal};
use gnomon_core::ids::ClientId;
use gnomon_core::packet::{Auth, Reason};
use gnomon_core::session::ProtocolError;
use gnomon_core::time::Now;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};

/// By what a client was let in. Small, because every connection has one.
pub(super) enum Standing {
    /// By what cannot change, or not at all yet.
    Fixed,
    /// By what may change.
    Admitted(Box<Admission>),
    /// It has changed: whether the client may stay is being asked.
    Questioned {
        question: Question,
        /// The client goes on meanwhile with the permissions that it has.
        goes_on: bool,
    },
    /// By enhanced authentication, which may be repeated.
    Proven(Box<Exchange>),
    /// The client authenticates again.
    Proving(Proof),
}

/// Gives the admission back with the answer; no answer when the host stops.
type Question =
    Pin<Box<dyn Future<Output = (Box<Admission>, Option<Result<Identity, Refusal>>)> + Send>>;

/// Gives the exchange back with the authorizer's answer; no answer when the host stops.
type Proof =
    Pin<Box<dyn Future<Output = (Box<Exchange>, Option<Result<Progress, Refusal>>)> + Send>>;

/// An answer, and where the client comes from.
type Answer<T> = (Option<Result<T, Refusal>>, SocketAddr);

impl Standing {
    /// Asks whether the client may stay if what let it in has changed.
    fn look(&mut self, client_id: &ClientId, shared: &Arc<Shared>) {
        let has_changed = |admission| shared.authenticator.has_changed(admission);
        *self = match std::mem::replace(self, Self::Fixed) {
            Self::Admitted(mut admission) => match has_changed(&mut admission) {
                true => {
                    let (client_id, shared) = (client_id.clone(), shared.clone());
                    // The registry answers at once, an authorizer need not.
                    let goes_on = admission.is_custom();
                    let question = Box::pin(async move {
                        let authenticator = &shared.authenticator;
                        let answer = authenticator.authenticate_again(&mut admission, &client_id);
                        let answer = shared.stop.run_until_cancelled(answer).await;
                        (admission, answer)
                    });
                    Self::Questioned { question, goes_on }
                }
                false => Self::Admitted(admission),
            },
            other => other,
        };
    }

    /// When to look although nobody says so.
    pub(super) fn look_at(&self) -> Option<Instant> {
        match self {
            Self::Admitted(admission) => admission.refresh_at(),
            _ => None,
        }
    }

    /// Waits for the answer to [`Standing::look`]; `None` when there is no question, or none that the
    /// client has to wait for.
    fn poll_question(&mut self, context: &mut Context<'_>) -> Poll<Option<Answer<Identity>>> {
        let Self::Questioned { question, goes_on } = self else { return Poll::Ready(None) };
        let (admission, answer) = match question.as_mut().poll(context) {
            Poll::Ready(answered) => answered,
            Poll::Pending if *goes_on => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        let peer = admission.peer();
        *self = Self::Admitted(admission);
        Poll::Ready(Some((answer, peer)))
    }

    /// Hands the authorizer what a connected client sent.
    fn take_auth(&mut self, auth: Auth, shared: &Arc<Shared>) -> Result<(), ProtocolError> {
        match std::mem::replace(self, Self::Fixed) {
            Self::Proven(mut exchange) => {
                if auth.reason == Reason::ReAuthenticate {
                    exchange.begin_again();
                }
                let shared = shared.clone();
                *self = Self::Proving(Box::pin(async move {
                    let data = auth.data.unwrap_or_default();
                    let step = shared.authenticator.exchange(&mut exchange, data);
                    let answer = shared.stop.run_until_cancelled(step).await;
                    (exchange, answer)
                }));
                Ok(())
            }
            // Nobody is asked about two steps at once.
            Self::Proving(_) => {
                let what = "AUTH before the answer to the last";
                Err(ProtocolError { reason: Reason::ProtocolError, what })
            }
            // The session takes AUTH only from clients that came by a method.
            other => {
                *self = other;
                Ok(())
            }
        }
    }

    /// The answer to [`Standing::take_auth`]; pending also when nothing was asked.
    fn poll_proof(&mut self, context: &mut Context<'_>) -> Poll<Answer<Progress>> {
        let Self::Proving(proof) = self else { return Poll::Pending };
        let (exchange, answer) = ready!(proof.as_mut().poll(context));
        let peer = exchange.credentials().peer;
        *self = Self::Proven(exchange);
        Poll::Ready((answer, peer))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Asks whether the client may stay if what let it in has changed.
    pub(super) fn look_at_permissions(&mut self) {
        if let Some(client) = &self.client {
            self.standing.look(client.id(), &self.shared);
        }
    }

    /// Waits for the answer, if there is a question: new permissions, or the end.
    pub(super) fn poll_question(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some((answer, remote)) = ready!(self.standing.poll_question(context)) {
            match answer {
                Some(Ok(identity)) => {
                    if let Some(client) = &mut self.client {
                        client.set_thing(identity.exclusive_thing());
                    }
                    self.session.handle_identity(identity);
                }
                Some(Err(refusal)) => {
                    let client_id = self.client.as_ref().map(tracing::field::debug);
                    tracing::warn!(client_id, %remote, error = %refusal, "client no longer allowed");
                    let now = self.now();
                    self.session.handle_stop(now, Reason::NotAuthorized);
                }
                None => {}
            }
            // Once more: it may have changed again while it was asked.
            self.look_at_permissions();
        }
        Poll::Ready(())
    }

    /// Asks the authorizer about a connected client that authenticates again.
    pub(super) fn reauthenticate(&mut self, now: Now, auth: Auth) {
        if let Err(error) = self.standing.take_auth(auth, &self.shared) {
            self.session.handle_protocol_error(now, error);
        }
    }

    /// Takes the authorizer's answer; true when there was one. Meanwhile the client goes on with
    /// the permissions that it has.
    pub(super) fn poll_reauthentication(&mut self, context: &mut Context<'_>) -> bool {
        let Poll::Ready((answer, remote)) = self.standing.poll_proof(context) else { return false };
        let now = self.now();
        match answer {
            Some(Ok(Progress::Challenged(data))) => self.session.handle_challenged(data),
            Some(Ok(Progress::Accepted(identity, data))) => {
                self.session.handle_reauthenticated(now, identity, data);
            }
            Some(Err(refusal)) => {
                let client_id = self.client.as_ref().map(tracing::field::debug);
                tracing::warn!(client_id, %remote, error = %refusal, "client may not stay");
                self.session.handle_refused(now, &refusal);
            }
            None => {}
        }
        true
    }
}
