//! Engines behind Gnomon's storage port (`gnomon_core::storage`).
//!
//! In: keys and bytes through `Storage`, records and documents through `Journal`. Out: two files
//! per data folder, `meta.redb` and `queue.redb`.
//! Reading order: [`RedbStore`] (the handle), `committer` (the only writer), `envelope` (a value on
//! disk); [`RedbJournal`]; for both `file` (opening, header) and `folder` (one host per folder).
//! Not here: what the bytes mean, and the engines for tests (`gnomon_core::storage::MemoryStore`).

mod committer;
mod engine;
mod envelope;
#[cfg(test)]
mod failing_file;
mod file;
mod folder;
mod journal;

pub use engine::{Options, RedbStore};
pub use file::OpenError;
pub use folder::is_held;
pub use journal::RedbJournal;
