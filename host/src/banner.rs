//! What `gnomon up` says when it is ready: ports, CA, key, and lines to paste.

use crate::data::{KeyFile, RunFile};
use crate::terminal::show_text;
use std::io::{IsTerminal, stdout};
use std::path::Path;

/// Prints it. The secret is shown when it was just made, and on a terminal; a log file of a
/// service does not get it at every start.
pub fn print(run: &RunFile, key: &KeyFile, is_new_key: bool, key_file: &Path) {
    show_text(&format!("Gnomon {} is ready.\n", run.version));
    for listener in &run.listeners {
        let tls = if listener.tls { "TLS" } else { "plain" };
        let what = match listener.protocol.as_str() {
            "mqtt" => "MQTT",
            "https" => "HTTPS and MQTT over WebSocket (/mqtt)",
            "api" => "AWS-compatible REST, /health, /metrics",
            _ => "plugin",
        };
        show_text(&format!("  {:22} {tls:5} {what} ({})", listener.address, listener.name));
    }
    show_text(&format!("  CA for clients         {}\n", run.ca_file.display()));
    if is_new_key || stdout().is_terminal() {
        show_text(&format!("  export AWS_ACCESS_KEY_ID={}", key.access_key_id));
        show_text(&format!("  export AWS_SECRET_ACCESS_KEY={}", key.secret_access_key));
        show_text(&format!("  export AWS_DEFAULT_REGION={}", run.region));
    } else {
        show_text(&format!("  access key             {}", key_file.display()));
    }
    if let Some(url) = run.api_url() {
        show_text(&format!("  aws iot list-things --endpoint-url {url}"));
        show_text(&format!(
            "  aws iot-data publish --topic hello --payload hi --endpoint-url {url}"
        ));
    }
}
