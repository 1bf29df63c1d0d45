//! Who is told of changes: the port [`RegistryObserver`].
//!
//! A change is told once, when it is durable and before its operation returns; the changes of one
//! record in the order of their commits. Repeats that change nothing are not told. Not told either:
//! what is attached to certificates and groups (see [`Registry::watch_permissions`]), billing groups
//! and tags; and a write after which the store did not answer, because nobody knows whether it happened.
//!
//! Lock: a [`Turns`] for each record, held from the write until everybody has been told.

use super::{
    CaCertificate, Certificate, EventConfigurations, PolicyDefinition, Registry, RegistryError,
    Thing, ThingGroup, ThingType,
};
use crate::storage::{Expect, Key, StoreError};
use bytes::Bytes;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::runtime::Handle;

/// Records share this many turns; two on one wait for each other's commits for nothing. 40 KiB.
const TURNS: usize = 1_024;

/// Is told of changes.
pub trait RegistryObserver: Send + Sync + 'static {
    /// The change is durable. Runs in the task of the operation: it must not block, and must not
    /// change the registry.
    fn changed(&self, change: &Change);
}

/// A record before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Diff<T> {
    /// There was none.
    Created(T),
    /// It differs.
    Updated {
        /// As it was.
        before: T,
        /// As it is.
        after: T,
    },
    /// There is none any more.
    Deleted(T),
}

impl<T> Diff<T> {
    /// What there was.
    pub fn before(&self) -> Option<&T> {
        match self {
            Self::Created(_) => None,
            Self::Updated { before, .. } | Self::Deleted(before) => Some(before),
        }
    }

    /// What there is.
    pub fn after(&self) -> Option<&T> {
        match self {
            Self::Created(after) | Self::Updated { after, .. } => Some(after),
            Self::Deleted(_) => None,
        }
    }

    /// What there is, or what there was last.
    pub fn latest(&self) -> &T {
        match self {
            Self::Created(it) | Self::Updated { after: it, .. } | Self::Deleted(it) => it,
        }
    }
}

/// What changed.
#[allow(clippy::large_enum_variant, reason = "there is one for the time of a write")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A thing: its attributes, its type, or the groups that it is in.
    Thing {
        /// The thing; its version stays when only its groups differ.
        diff: Diff<Thing>,
        /// The groups that it joined or left; one that is deleted as it was last.
        groups: Vec<ThingGroup>,
    },
    /// A thing type.
    ThingType(Diff<ThingType>),
    /// A thing group.
    ThingGroup {
        /// The group.
        diff: Diff<ThingGroup>,
        /// The groups above it, from its root to its parent.
        ancestors: Vec<ThingGroup>,
    },
    /// A policy: its versions, or which is in force.
    Policy(Diff<PolicyDefinition>),
    /// A certificate: its status.
    Certificate(Diff<Certificate>),
    /// A CA certificate: its status, and what happens to devices that come with one of its certificates.
    CaCertificate(Diff<CaCertificate>),
    /// Which events are to be published.
    EventConfigurations(EventConfigurations),
}

/// Who is told.
pub(super) struct Observers {
    list: RwLock<Vec<Arc<dyn RegistryObserver>>>,
    turns: Turns,
}

/// A lock for each record, by the hash of its key.
struct Turns {
    locks: Box<[tokio::sync::Mutex<()>]>,
    hasher: ahash::RandomState,
}

impl Default for Observers {
    fn default() -> Self {
        let locks = (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect();
        Self { list: RwLock::default(), turns: Turns { locks, hasher: ahash::RandomState::new() } }
    }
}

impl Observers {
    fn list(&self) -> Vec<Arc<dyn RegistryObserver>> {
        self.list.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Turns {
    async fn wait(&self, key: &Key) -> tokio::sync::MutexGuard<'_, ()> {
        let turn = usize::try_from(self.hasher.hash_one(key) % TURNS as u64);
        self.locks[turn.expect("it is below TURNS")].lock().await
    }
}

impl Registry {
    /// Tells the observer of every change from now on.
    pub fn observe(&self, observer: Arc<dyn RegistryObserver>) {
        self.0.observers.list.write().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    /// Whether anybody listens.
    pub(super) fn is_observed(&self) -> bool {
        !self.0.observers.list.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// What is told when a write is durable; made only for those who listen.
    pub(super) fn told(&self, change: impl FnOnce() -> Change) -> Option<Change> {
        self.is_observed().then(change)
    }

    /// Writes the key, or removes it without a value, and tells the change; false: someone else
    /// wrote in between.
    pub(super) async fn commit(
        &self,
        key: &Key,
        value: Option<Bytes>,
        expect: Expect,
        change: Option<Change>,
    ) -> Result<bool, RegistryError> {
        let Some(change) = change else { return self.store(key, value, expect).await };
        let (registry, key) = (self.clone(), key.clone());
        // In a task, which ends with the commit: a caller that goes away meanwhile, e.g. with its HTTP
        // connection, would leave a change that nobody was told of.
        let task = Handle::current().spawn(async move {
            let observers = &registry.0.observers;
            let _turn = observers.turns.wait(&key).await;
            let stored = registry.store(&key, value, expect).await?;
            if stored {
                observers.list().iter().for_each(|observer| observer.changed(&change));
            }
            Ok(stored)
        });
        task.await.unwrap_or_else(|error| Err(StoreError::Unavailable(Arc::new(error)).into()))
    }

    async fn store(
        &self,
        key: &Key,
        value: Option<Bytes>,
        expect: Expect,
    ) -> Result<bool, RegistryError> {
        let storage = &self.0.ports.storage;
        let stored = match value {
            Some(value) => storage.put(key, value, expect).await.map(drop),
            None => storage.delete(key, expect).await.map(drop),
        };
        match stored {
            Ok(()) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
