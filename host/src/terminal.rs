//! The terminal: the one place that prints. Results go to stdout, what went wrong to stderr.

use serde_json::Value;
use std::error::Error;

/// A command's result, as JSON.
pub fn show(value: &Value) {
    show_text(&format!("{value:#}"));
}

/// A command's result, for people.
#[allow(clippy::print_stdout, reason = "the result of a command goes to stdout")]
pub fn show_text(text: &str) {
    println!("{text}");
}

/// Why a command failed, with all causes.
#[allow(clippy::print_stderr, reason = "what went wrong goes to stderr")]
pub fn complain(error: &(dyn Error + Send + Sync)) {
    eprintln!("gnomon: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  because {cause}");
        source = cause.source();
    }
}
