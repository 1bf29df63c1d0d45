//! Index keys: the way back to the records that are the truth about a relation.
//!
//! The last part of a key is the name of such a record. A key is written before the truth and removed
//! after it, so readers ask the truth.

use super::record::{self, Stored};
use super::{Page, PageRequest, Registry, RegistryError, SCAN_RECORDS};
use crate::ids::NameError;
use crate::storage::{Expect, Key, Record, StoreError};
use bytes::Bytes;
use std::borrow::Borrow;
use std::collections::BTreeSet;

/// Value of an index key: the version of its encoding, which says nothing more.
const VALUE: &[u8] = &[1];

/// All of a list.
pub(super) const ALL: PageRequest<'_> = PageRequest { limit: usize::MAX, after: None };

impl Registry {
    pub(super) async fn put_index(&self, key: &Key) -> Result<(), RegistryError> {
        self.0.ports.storage.put(key, Bytes::from_static(VALUE), Expect::Any).await?;
        Ok(())
    }

    /// Removes a key as it was read, if it was there.
    pub(super) async fn remove_index(&self, entry: Option<Record>) -> Result<(), RegistryError> {
        let Some(entry) = entry else { return Ok(()) };
        match self.0.ports.storage.delete(&entry.key, Expect::Revision(entry.revision)).await {
            // Written again: it is needed.
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a key whose record is gone.
    pub(super) async fn forget_index(&self, key: &Key) -> Result<(), RegistryError> {
        self.0.ports.storage.delete(key, Expect::Any).await?;
        Ok(())
    }

    /// The names behind a prefix for whose records it `holds`, in their order.
    pub(super) async fn index_page<T: Stored, N: Borrow<str>>(
        &self,
        prefix: &Key,
        page: PageRequest<'_>,
        parse: fn(&str) -> Result<N, NameError>,
        holds: impl Fn(&T) -> bool,
    ) -> Result<Page<N>, RegistryError> {
        let behind = |name: &str| Key::from_text(&format!("{}{name}", prefix.as_str()));
        let mut after = page.after.map(behind);
        let mut items: Vec<N> = Vec::new();
        loop {
            let entries = self.0.ports.storage.scan(prefix, after.as_ref(), SCAN_RECORDS).await?;
            for entry in &entries {
                let name = record::name_of(&entry.key);
                let truth = self.read::<T>(&record::key::<T>(name)).await?;
                if !truth.is_some_and(|(value, _)| holds(&value)) {
                    continue;
                }
                if items.len() == page.limit {
                    let next = items.last().map(|name| name.borrow().to_owned());
                    return Ok(Page { items, next });
                }
                items.push(parse(name)?);
            }
            match entries.last() {
                Some(entry) if entries.len() == SCAN_RECORDS => after = Some(entry.key.clone()),
                _ => return Ok(Page { items, next: None }),
            }
        }
    }
}

/// A page of a set that is in memory.
pub(super) fn page_of<T: Ord + Borrow<str>>(set: BTreeSet<T>, page: PageRequest<'_>) -> Page<T> {
    let behind = |item: &T| page.after.is_none_or(|after| item.borrow() > after);
    let mut rest = set.into_iter().filter(behind);
    let items: Vec<T> = rest.by_ref().take(page.limit).collect();
    let last = items.last().map(|item| item.borrow().to_owned());
    Page { next: rest.next().and(last), items }
}

/// What `expectedVersion` demands.
pub(super) fn check_version(
    what: &str,
    name: &str,
    version: u64,
    expected: Option<u64>,
) -> Result<(), RegistryError> {
    match expected {
        Some(expected) if expected != version => Err(RegistryError::VersionConflict(format!(
            "{what} {name} has version {version}, expected was {expected}"
        ))),
        _ => Ok(()),
    }
}
