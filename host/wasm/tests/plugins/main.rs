//! All tests of the package that run plugins, in one binary: wasmtime is linked once.
//!
//! The guests are built by `cargo gnomon build`; without the wasm32-unknown-unknown target the
//! tests that need them say so and pass.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod containment;
mod grants;
mod handlers;
mod loading;
mod setup;
mod shipped;
