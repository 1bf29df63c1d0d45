//! What is to be indexed anew.
//!
//! In: the keys that change in the store, and whoever has missed something. Out: names, to the worker.
//! A name stands here once, however often its records change. Bound: [`NAMES_MAX`] names; beyond it
//! they are forgotten and everything is looked at anew.

use super::connectivity;
use crate::ids::{ThingGroupName, ThingName};
use crate::storage::{Key, Watch, Watched};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Names that wait; about 10 MiB.
pub(super) const NAMES_MAX: usize = 100_000;

/// Names that the worker takes at a time.
const BATCH: usize = 256;

/// What waits to be indexed.
#[derive(Default)]
pub(super) struct Changes {
    waiting: Mutex<Waiting>,
    waker: Notify,
}

/// Some of what changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) things: Vec<ThingName>,
    pub(super) groups: Vec<ThingGroupName>,
}

impl Names {
    pub(super) fn len(&self) -> usize {
        self.things.len() + self.groups.len()
    }
}

#[derive(Default)]
struct Waiting {
    /// Something is indexed; else nobody needs to know what changes.
    is_indexing: bool,
    everything: bool,
    things: BTreeSet<ThingName>,
    groups: BTreeSet<ThingGroupName>,
}

impl Waiting {
    fn len(&self) -> usize {
        self.things.len() + self.groups.len()
    }
}

impl Changes {
    /// Follows the store until it is closed. Cancel-safe.
    pub(super) async fn follow(&self, mut watch: Watch) {
        while let Some(watched) = watch.next().await {
            match watched {
                Watched::Change(change) => self.note(&change.key),
                Watched::Lagged => self.look_at_everything(),
            }
        }
    }

    /// From now on what changes is kept; or it is not, and what waits is forgotten.
    pub(super) fn keep(&self, is_indexing: bool) {
        *self.waiting() = Waiting { is_indexing, ..Waiting::default() };
    }

    pub(super) fn look_at_everything(&self) {
        let mut waiting = self.waiting();
        if waiting.is_indexing {
            *waiting = Waiting { everything: true, is_indexing: true, ..Waiting::default() };
            drop(waiting);
            self.wake();
        }
    }

    pub(super) fn thing(&self, name: ThingName) {
        self.add(|waiting| waiting.things.insert(name));
    }

    pub(super) fn group(&self, name: ThingGroupName) {
        self.add(|waiting| waiting.groups.insert(name));
    }

    /// Whether everything is to be looked at; names that change from now on wait again.
    pub(super) fn take_everything(&self) -> bool {
        std::mem::take(&mut self.waiting().everything)
    }

    /// Some of the names that wait.
    pub(super) fn take_names(&self) -> Names {
        let mut waiting = self.waiting();
        Names {
            things: (0..BATCH).map_while(|_| waiting.things.pop_first()).collect(),
            groups: (0..BATCH).map_while(|_| waiting.groups.pop_first()).collect(),
        }
    }

    /// How many names wait.
    pub(super) fn len(&self) -> usize {
        self.waiting().len()
    }

    /// Whether everything is to be looked at.
    pub(super) fn is_everything_to_do(&self) -> bool {
        self.waiting().everything
    }

    /// Wakes the worker.
    pub(super) fn wake(&self) {
        self.waker.notify_one();
    }

    /// Waits until somebody wakes the worker; at once if that happened since the last time.
    pub(super) async fn woken(&self) {
        self.waker.notified().await;
    }

    fn note(&self, key: &Key) {
        // Every write of the host comes by here.
        if !self.waiting().is_indexing {
            return;
        }
        let mut parts = key.as_str().splitn(3, '/');
        let (Some(kind), Some(name)) = (parts.next(), parts.next()) else { return };
        match kind {
            "thing" | "shadow" | connectivity::KIND => {
                if let Ok(name) = ThingName::parse(name) {
                    self.thing(name);
                }
            }
            "thing-group" => {
                if let Ok(name) = ThingGroupName::parse(name) {
                    self.group(name);
                }
            }
            _ => {}
        }
    }

    fn add(&self, add: impl FnOnce(&mut Waiting) -> bool) {
        let mut waiting = self.waiting();
        // What is stored is looked at anyway, after this change.
        if !waiting.is_indexing || waiting.everything || !add(&mut waiting) {
            return;
        }
        if waiting.len() > NAMES_MAX {
            *waiting = Waiting { everything: true, is_indexing: true, ..Waiting::default() };
        }
        drop(waiting);
        self.wake();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
