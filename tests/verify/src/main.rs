//! `cargo verify`: sets up and runs every check, in the order of their cost; stops at the first
//! that fails. What a machine lacks for some tests (mosquitto, the AWS CLI) they say themselves;
//! `.ci/run` installs it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Version of cargo-deny that is installed under `target/tools` when there is none.
const CARGO_DENY: &str = "0.20.2";

/// Version of cargo-fuzz that is installed there.
const CARGO_FUZZ: &str = "0.13.2";

/// The fuzzers in `tests/fuzz`.
const FUZZERS: [&str; 10] = [
    "codec",
    "policy",
    "query",
    "registration",
    "rest",
    "session",
    "shadow",
    "signature",
    "sql",
    "topic",
];

/// How long each is tried; to find something, run one for longer.
const FUZZ_SECONDS: u32 = 10;

fn main() -> ExitCode {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for check in CHECKS {
        say(&format!("\n== {}", check.name));
        if let Err(error) = (check.run)(&workspace) {
            say(&format!("\nFAILED: {}: {error}", check.name));
            return ExitCode::FAILURE;
        }
    }
    say("\nAll checks passed.");
    ExitCode::SUCCESS
}

struct Check {
    name: &'static str,
    run: fn(&Path) -> Result<(), String>,
}

const CHECKS: &[Check] = &[
    Check { name: "format", run: |at| cargo(at, &["fmt", "--all", "--check"]) },
    Check { name: "plugins", run: plugins },
    Check {
        name: "lints",
        run: |at| {
            cargo(at, &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])
        },
    },
    Check { name: "tests", run: |at| cargo(at, &["test", "--workspace"]) },
    Check { name: "docs", run: docs },
    Check { name: "fuzzers", run: fuzz },
    Check { name: "licences and sources of dependencies", run: deny },
];

/// Components for the tests; adds the wasm32 target when it is missing.
fn plugins(workspace: &Path) -> Result<(), String> {
    cargo_gnomon::build(workspace, &[], &mut say).map(|_| ()).map_err(|error| error.to_string())
}

fn docs(workspace: &Path) -> Result<(), String> {
    let mut command = Command::new(CARGO);
    command.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings");
    run(workspace, command)
}

fn fuzz(workspace: &Path) -> Result<(), String> {
    let binary = tool(workspace, "cargo-fuzz", CARGO_FUZZ)?;
    for fuzzer in FUZZERS {
        let mut command = Command::new(&binary);
        command.args(["run", "--fuzz-dir", "tests/fuzz", fuzzer, "--"]);
        command.arg(format!("-max_total_time={FUZZ_SECONDS}")).arg("-verbosity=0");
        // The sanitizer's flags are unstable; the toolchain stays the one that is pinned.
        command.env("RUSTC_BOOTSTRAP", "1");
        run(workspace, command)?;
    }
    Ok(())
}

fn deny(workspace: &Path) -> Result<(), String> {
    let mut command = Command::new(tool(workspace, "cargo-deny", CARGO_DENY)?);
    // Advisories need a database from the network: run `cargo deny check` for them.
    command.args(["check", "bans", "licenses", "sources"]);
    run(workspace, command)
}

/// The program, from PATH or from `target/tools`, where it is installed when it is missing.
fn tool(workspace: &Path, name: &str, version: &str) -> Result<PathBuf, String> {
    let binary = PathBuf::from(name);
    if Command::new(&binary).arg("--version").output().is_ok() {
        return Ok(binary);
    }
    let tools = workspace.join("target/tools");
    let binary = tools.join("bin").join(name);
    if !binary.exists() {
        let root = tools.display().to_string();
        let package = format!("{name}@{version}");
        cargo(workspace, &["install", "--locked", "--debug", "--root", &root, &package])?;
    }
    Ok(binary)
}

const CARGO: &str = match option_env!("CARGO") {
    Some(cargo) => cargo,
    None => "cargo",
};

fn cargo(workspace: &Path, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(CARGO);
    command.args(arguments);
    run(workspace, command)
}

fn run(workspace: &Path, mut command: Command) -> Result<(), String> {
    let shown = format!("{command:?}").replace('"', "");
    say(&format!("   {shown}"));
    match command.current_dir(workspace).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown} ended with {status}")),
        Err(error) => Err(format!("{shown} cannot be started: {error}")),
    }
}

#[allow(clippy::print_stdout, reason = "a check talks to whoever runs it")]
fn say(text: &str) {
    println!("{text}");
}
