//! Forgets deleted shadows once their version is not continued any more.
//!
//! In: the store, and time. Out: deletions of records that say that a shadow was deleted 48 hours
//! ago; without them a host whose applications make and delete shadows would grow for ever.
//! A shadow that comes back meanwhile is safe: its record has another revision.

use super::handler::Handler;
use super::record;
use crate::storage::{Expect, Key, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// From the start to the first look: not while everybody connects.
const FIRST_AFTER: Duration = Duration::from_hours(1);

/// From one look to the next. Each reads all shadows: about a second per million.
const EVERY: Duration = Duration::from_hours(24);

/// Shadows read at once: some milliseconds, in which a thread does nothing else.
const PAGE: usize = 1_000;

/// Looks again and again. Cancel-safe.
pub(super) async fn run(handler: Arc<Handler>) {
    let mut looks = tokio::time::interval_at(Instant::now() + FIRST_AFTER, EVERY);
    loop {
        looks.tick().await;
        match forget(&handler).await {
            Ok(forgotten) => tracing::debug!(forgotten, "deleted shadows forgotten"),
            Err(error) => {
                tracing::warn!(%error, "deleted shadows not forgotten, tried again later");
            }
        }
    }
}

/// How many were forgotten.
async fn forget(handler: &Handler) -> Result<usize, StoreError> {
    let prefix = Key::prefix("shadow");
    let (mut after, mut forgotten) = (None, 0);
    loop {
        let page = handler.store.scan(&prefix, after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(forgotten) };
        after = Some(last.key.clone());
        let now = handler.clock.wall();
        for stored in page {
            // One that cannot be read is the concern of whoever asks for it.
            let is_over = record::decode(&stored.value).is_ok_and(|it| it.is_forgotten(now));
            if !is_over {
                continue;
            }
            match handler.store.delete(&stored.key, Expect::Revision(stored.revision)).await {
                Ok(_) => forgotten += 1,
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        // Scanning the disk does not wait for anything by itself.
        tokio::task::yield_now().await;
    }
}
