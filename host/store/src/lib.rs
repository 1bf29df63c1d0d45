//! Engines behind the storage port.
