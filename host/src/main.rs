//! The `gnomon` binary: reads the command line and hands over to [`cli`].

mod app;
mod banner;
mod certificates;
mod cli;
mod config;
mod data;
mod functions;
mod objects;
mod process;
mod telemetry;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
