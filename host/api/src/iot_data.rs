//! The data plane (scope `iotdata`): messages and shadows over HTTP.

pub(crate) mod publish;
pub(crate) mod shadows;
