//! The data plane (scope `iotdata`): messages, connections and shadows over HTTP.

pub(crate) mod connections;
pub(crate) mod publish;
pub(crate) mod retained;
pub(crate) mod shadows;
