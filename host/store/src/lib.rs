//! Engines behind Gnomon's storage port (`gnomon_core::storage`).
//!
//! In: keys and bytes through `Storage`. Out: one file per data folder, `meta.redb`.
//! Reading order: [`RedbStore`] (the handle), `committer` (the only writer), `file` (opening and
//! layout), `envelope` (a value on disk), `folder` (one host per folder).
//! Not here: what the bytes mean, and the engine for tests (`gnomon_core::storage::MemoryStore`).

mod committer;
mod engine;
mod envelope;
#[cfg(test)]
mod failing_file;
mod file;
mod folder;

pub use engine::{Options, RedbStore};
pub use file::OpenError;
pub use folder::is_held;
