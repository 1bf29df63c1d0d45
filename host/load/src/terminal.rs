//! The progress line on stderr, each second.

use crate::observer::{Observer, Progress};

/// Prints progress, unless it is told to be quiet.
pub struct Terminal {
    quiet: bool,
    before: Progress,
}

impl Terminal {
    /// Nothing has happened yet.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, before: Progress::default() }
    }
}

impl Observer for Terminal {
    #[allow(clippy::print_stderr, reason = "a command speaks to its user")]
    fn second(&mut self, progress: Progress) {
        if !self.quiet {
            let Progress { connected, sent, received, errors } = progress;
            let (sent, received) = (sent - self.before.sent, received - self.before.received);
            eprintln!(
                "connected {connected:>7}   sent/s {sent:>9}   received/s {received:>9}   \
                 errors {errors}"
            );
        }
        self.before = progress;
    }
}
