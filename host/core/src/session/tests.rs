//! The protocol, packet by packet.
