//! End-to-end tests: the real binary, real clients, a data folder of its own for each test.
//!
//! One test binary, so that wasmtime is linked once. What a machine lacks (mosquitto's clients,
//! the AWS CLI, built plugins) is said and the test is skipped; `.ci/run` has it all.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod authorizers;
mod aws;
mod bad_input;
mod customer_example;
mod durability;
mod host;
mod life_cycle;
mod mqtt;
mod plugins;
mod provisioning;
mod receiver;
mod renewal;
mod rules;
mod scram;
mod sdk;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A program that a test needs: from the Python environment that `.ci/run` makes, else from PATH.
/// `None` says so on the terminal.
fn program(name: &str) -> Option<PathBuf> {
    let own = workspace().join("target/tools/python/bin").join(name);
    let found = [own, PathBuf::from(name)]
        .into_iter()
        .find(|program| Command::new(program).arg("--version").output().is_ok());
    if found.is_none() {
        skip(&format!("{name} is not installed; .ci/run installs it"));
    }
    found
}

/// Not by `println!`, which a passing test keeps to itself.
fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
