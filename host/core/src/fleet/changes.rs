//! What is to be indexed anew.
//!
//! In: the keys that change in the store, and whoever has missed something. Out: names, to the worker.
//! A name stands here once, however often its records change. Bound: [`NAMES_MAX`] names; beyond it
//! they are forgotten and everything is looked at anew, which costs what a start costs.

use super::connectivity;
use crate::ids::{ThingGroupName, ThingName};
use crate::storage::{Key, Watch, Watched};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Names that wait; about 10 MiB.
const NAMES_MAX: usize = 100_000;

/// Names that the worker takes at a time.
pub(super) const BATCH: usize = 256;

/// What waits to be indexed.
#[derive(Default)]
pub(super) struct Changes {
    waiting: Mutex<Waiting>,
    waker: Notify,
}

/// What the worker is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Look at everything that is stored.
    Everything,
    /// Look at these.
    Names { things: Vec<ThingName>, groups: Vec<ThingGroupName> },
}

#[derive(Default)]
struct Waiting {
    everything: bool,
    /// Nobody needs to know what changes while nothing is indexed.
    is_of_use: bool,
    things: BTreeSet<ThingName>,
    groups: BTreeSet<ThingGroupName>,
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
    pub(super) fn keep(&self, is_of_use: bool) {
        let mut waiting = self.waiting();
        *waiting = Waiting { is_of_use, ..Waiting::default() };
    }

    pub(super) fn look_at_everything(&self) {
        let mut waiting = self.waiting();
        if waiting.is_of_use {
            *waiting = Waiting { everything: true, is_of_use: true, ..Waiting::default() };
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

    /// What there is to do; `None`: nothing.
    pub(super) fn take(&self) -> Option<Task> {
        let mut waiting = self.waiting();
        if std::mem::take(&mut waiting.everything) {
            return Some(Task::Everything);
        }
        let things: Vec<_> = (0..BATCH).map_while(|_| waiting.things.pop_first()).collect();
        let groups: Vec<_> = (0..BATCH).map_while(|_| waiting.groups.pop_first()).collect();
        let is_empty = things.is_empty() && groups.is_empty();
        (!is_empty).then_some(Task::Names { things, groups })
    }

    /// Whether everything is to be looked at anew.
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
        if !waiting.is_of_use || waiting.everything {
            return;
        }
        if add(&mut waiting) {
            if waiting.things.len() + waiting.groups.len() > NAMES_MAX {
                *waiting = Waiting { everything: true, is_of_use: true, ..Waiting::default() };
            }
            drop(waiting);
            self.wake();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
