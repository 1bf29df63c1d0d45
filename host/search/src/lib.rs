//! The fleet index: AWS IoT's query language and aggregations over documents in memory.
//!
//! In: what is known of a thing ([`Registry`], [`Connectivity`], [`Shadow`]) or of a thing group
//! ([`Group`]), all at once ([`Builder`]) and then whenever it changes; queries as text
//! ([`Query::parse`]). Out: names in their order,
//! page by page, and figures over the documents that match. Not here: reading from stores, the clock,
//! locks (whoever shares an [`Index`] locks it), the documents themselves: an answer is put together
//! from the registry and the shadows, by name.
//!
//! Reading order: `document` (a thing becomes fields with values), `value` (how values compare), `set`,
//! `slab` and `sorted` (what the index is made of), `index` (how it changes), `order` and `builder` (all of it
//! at once), `query` (the language), `search` (which documents match), `aggregate` (figures over them).
//!
//! Cost: a change a few microseconds, whatever the number of things; a search what its terms have in
//! documents, or, with a wildcard inside a value, a test of each value that begins alike. What a million
//! things take is measured by `examples/million.rs`.
//!
//! Source: AWS IoT developer guide, "Fleet indexing", "Query syntax", "Querying for aggregate data".

mod aggregate;
mod builder;
mod document;
mod index;
mod order;
mod query;
mod search;
mod set;
mod slab;
mod sorted;
#[cfg(test)]
mod tests;
mod value;

pub use aggregate::{Aggregation, AggregationError, Bucket, Buckets, FieldType, Kind, Statistics};
pub use builder::Builder;
pub use document::{Connectivity, Document, Group, Registry, Shadow};
pub use index::Index;
pub use query::{LENGTH_MAX, NESTING_MAX, Query, QueryError, Reason, TERMS_MAX};
pub use search::Page;
