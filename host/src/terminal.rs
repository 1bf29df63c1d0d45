//! The terminal: the one place that prints. Results go to stdout, what went wrong to stderr.

use serde_json::Value;
use std::error::Error;
use std::io::IsTerminal;

/// A command's result, as JSON.
pub fn show(value: &Value) {
    show_text(&format!("{value:#}"));
}

/// A command's result, for people.
#[allow(clippy::print_stdout, reason = "the result of a command goes to stdout")]
pub fn show_text(text: &str) {
    println!("{text}");
}

/// How far a command is: one line that the next call writes over. Only for people: nothing where stderr is
/// no terminal.
#[allow(clippy::print_stderr, reason = "what passes is no result")]
pub fn show_progress(text: &str) {
    if std::io::stderr().is_terminal() {
        // To the end of the line what was there is erased.
        eprint!("\r{text}\x1b[K");
    }
}

/// Ends the line of [`show_progress`].
#[allow(clippy::print_stderr, reason = "as above")]
pub fn end_progress() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
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
