//! Rules: which messages are handed to which actions.

pub mod sql;
