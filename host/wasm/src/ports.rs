//! What plugins reach of the host; the application gives it.

use async_trait::async_trait;
use gnomon_core::message::Message;
use gnomon_core::metrics::Metrics;
use gnomon_core::random::Random;
use gnomon_core::time::Clock;
use std::sync::Arc;

/// The host's side of the imports.
#[derive(Clone)]
pub struct Ports {
    /// Clocks.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Where publications go.
    pub publisher: Arc<dyn Publisher>,
}

/// Takes the publications of plugins.
#[async_trait]
pub trait Publisher: Send + Sync + 'static {
    /// Publishes; done when the message is accepted. Its publisher is the principal
    /// `plugin/<name>`; the topic was checked against the grants.
    ///
    /// # Errors
    /// See [`PublishError`].
    async fn publish(&self, message: Message) -> Result<(), PublishError>;
}

/// Why a publication of a plugin was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The payload is larger than a message may be.
    #[error("payload too large: at most {limit} bytes are allowed")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The topic or a property breaks a rule of this host.
    #[error("{0}")]
    Invalid(String),
    /// Not now; a retry may help.
    #[error("{0}")]
    Unavailable(String),
}
