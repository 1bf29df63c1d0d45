//! `cargo gnomon`: the command of plugin authors.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to its user")]

use cargo_gnomon::BuiltPlugin;
use clap::{Parser, Subcommand};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Cargo calls `cargo-gnomon gnomon build`; by hand it is `cargo-gnomon build`.
#[derive(Parser)]
#[command(name = "cargo gnomon", version, about = "Builds Gnomon plugins")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the plugins of this workspace for WebAssembly.
    Build {
        /// Names of plugins, or their folders; all plugins when none is given.
        plugins: Vec<String>,
        /// A folder of the workspace.
        #[arg(long, default_value = ".")]
        workspace: PathBuf,
    },
}

fn main() -> ExitCode {
    // The word that cargo repeats is dropped.
    let words = std::env::args_os().enumerate().filter(|(i, w)| *i != 1 || w != "gnomon");
    let arguments = Arguments::parse_from(words.map(|(_, word)| word));
    let Command::Build { plugins, workspace } = arguments.command;
    let names: Vec<_> = plugins.iter().map(|plugin| last_segment(plugin)).collect();
    match cargo_gnomon::build(&workspace, &names, &mut |line| eprintln!("{line}")) {
        Ok(built) => {
            built.iter().for_each(show);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprint!("error: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprint!(": {cause}");
                source = cause.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

/// `plugins/webhook/` is called `webhook`.
fn last_segment(plugin: &str) -> &str {
    Path::new(plugin).file_name().and_then(|name| name.to_str()).unwrap_or(plugin)
}

fn show(plugin: &BuiltPlugin) {
    println!("{} {} ({} KiB)", plugin.name, plugin.folder.display(), plugin.bytes.div_ceil(1_024));
}
