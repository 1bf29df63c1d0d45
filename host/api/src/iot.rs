//! The control plane (scope `iot`), one module per kind of resource.

pub(crate) mod endpoints;
pub(crate) mod rules;
