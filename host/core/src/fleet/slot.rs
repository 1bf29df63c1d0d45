//! An index and how far it is.

use super::FleetError;
use crate::registry::CustomFields;
use gnomon_search::{Index, Kind};
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// An index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexName {
    /// `AWS_Things`.
    Things,
    /// `AWS_ThingGroups`.
    ThingGroups,
}

impl IndexName {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Things, Self::ThingGroups];

    /// The index of this name.
    ///
    /// # Errors
    /// [`FleetError::UnknownIndex`].
    pub fn parse(name: &str) -> Result<Self, FleetError> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == name);
        found.ok_or_else(|| FleetError::UnknownIndex(name.to_owned()))
    }

    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Things => "AWS_Things",
            Self::ThingGroups => "AWS_ThingGroups",
        }
    }

    /// What its documents are.
    pub fn kind(self) -> Kind {
        match self {
            Self::Things => Kind::Things,
            Self::ThingGroups => Kind::ThingGroups,
        }
    }
}

impl fmt::Display for IndexName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far an index is (`IndexStatus`, `DynamicGroupStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexStatus {
    /// It has not seen everything; nothing can be asked.
    Building,
    /// It is what is stored.
    Active,
    /// It is, but for changes that it is catching up with.
    Rebuilding,
}

impl IndexStatus {
    /// Whether an index of this status can be asked.
    pub(super) fn is_of_use(self) -> bool {
        self != Self::Building
    }

    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "BUILDING",
            Self::Active => "ACTIVE",
            Self::Rebuilding => "REBUILDING",
        }
    }
}

/// The place of an index, which is there while it is on.
#[derive(Default)]
pub(super) struct Slot {
    index: RwLock<Option<Index>>,
    /// As [`IndexStatus`]; changes while `index` is locked, and is read without.
    status: AtomicU8,
}

impl Slot {
    pub(super) fn status(&self) -> Option<IndexStatus> {
        match self.status.load(Ordering::Acquire) {
            1 => Some(IndexStatus::Building),
            2 => Some(IndexStatus::Rebuilding),
            3 => Some(IndexStatus::Active),
            _ => None,
        }
    }

    pub(super) fn set_status(&self, status: Option<IndexStatus>) {
        let number = match status {
            None => 0,
            Some(IndexStatus::Building) => 1,
            Some(IndexStatus::Rebuilding) => 2,
            Some(IndexStatus::Active) => 3,
        };
        self.status.store(number, Ordering::Release);
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Option<Index>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Option<Index>> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of the index when its configuration changes, while the lock is held; returns one that
    /// is not used any more.
    pub(super) fn reconfigure(
        &self,
        index: &mut Option<Index>,
        kind: Kind,
        fields: Option<CustomFields>,
        is_same: bool,
    ) -> Option<Index> {
        match (index, fields) {
            (index, None) => {
                self.set_status(None);
                index.take()
            }
            (index @ None, Some(fields)) => {
                *index = Some(Index::new(kind, fields));
                self.set_status(Some(IndexStatus::Building));
                None
            }
            (Some(index), Some(fields)) => {
                index.set_custom_fields(fields);
                if !is_same && self.status() == Some(IndexStatus::Active) {
                    self.set_status(Some(IndexStatus::Rebuilding));
                }
                None
            }
        }
    }
}
