//! `log`: into the host's log, under the plugin's name. No grant is needed.

use crate::bindings::host::log::{Host, Level};
use crate::instance::{LOG_LINES_PER_CALL_MAX, State};
use tracing::level_filters::LevelFilter;

/// Longest line in bytes, fields included; the rest is cut.
const LINE_BYTES_MAX: usize = 8 * 1_024;

impl Host for State {
    async fn write(&mut self, level: Level, message: String, fields: Vec<(String, String)>) {
        self.log_lines = self.log_lines.saturating_add(1);
        let plugin = &*self.context.name;
        if self.log_lines > LOG_LINES_PER_CALL_MAX {
            if self.log_lines == LOG_LINES_PER_CALL_MAX + 1 {
                tracing::warn!(plugin, "plugin logs too much in one call, further lines dropped");
            }
            return;
        }
        let line = line(message, &fields);
        match level {
            Level::Trace => tracing::trace!(plugin, "{line}"),
            Level::Debug => tracing::debug!(plugin, "{line}"),
            Level::Info => tracing::info!(plugin, "{line}"),
            Level::Warn => tracing::warn!(plugin, "{line}"),
            Level::Error => tracing::error!(plugin, "{line}"),
        }
    }

    async fn max_level(&mut self) -> Level {
        match LevelFilter::current() {
            LevelFilter::TRACE => Level::Trace,
            LevelFilter::DEBUG => Level::Debug,
            LevelFilter::INFO => Level::Info,
            LevelFilter::WARN => Level::Warn,
            _ => Level::Error,
        }
    }
}

fn line(mut line: String, fields: &[(String, String)]) -> String {
    for (key, value) in fields {
        line.push(' ');
        line.push_str(key);
        line.push('=');
        line.push_str(value);
    }
    line.truncate(line.floor_char_boundary(LINE_BYTES_MAX));
    // A plugin must not forge lines or move the operator's cursor.
    line.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_cannot_forge_a_line_or_write_a_book() {
        let fields = [("topic".into(), "a\x1b[2J".into())];
        assert_eq!(line("x\n2026 ERROR".into(), &fields), "x 2026 ERROR topic=a [2J");
        assert_eq!(line("é".repeat(LINE_BYTES_MAX), &[]).len(), LINE_BYTES_MAX);
    }
}
