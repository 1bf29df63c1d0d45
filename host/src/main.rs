//! The `gnomon` binary: reads the command line and hands over to [`cli`].

mod app;
mod banner;
mod cli;
mod config;
mod data;
mod telemetry;
mod terminal;

use std::process::ExitCode;

/// Connections allocate and free small pieces all the time; see ARCHITECTURE, decision 26.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
