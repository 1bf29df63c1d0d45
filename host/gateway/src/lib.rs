//! The device-facing side of Gnomon: whatever owns a socket, and the codec behind it.

pub mod codec;
