//! The shipped plugins, built once for all tests.

use crate::{skip, workspace};
use std::path::PathBuf;
use std::sync::OnceLock;

/// Configuration of the webhook plugin that is to post to one origin and was granted another;
/// `None` when plugins cannot be built here.
pub fn webhook(to: &str, granted: &str) -> Option<String> {
    Some(format!(
        "[plugins.webhook]\npath = {:?}\n[plugins.webhook.grants]\nhttp = [{granted:?}]\n\
         [plugins.webhook.config]\nurl = '{to}/fired'\n",
        folder("webhook")?
    ))
}

/// Folder of a built plugin.
pub fn folder(name: &str) -> Option<PathBuf> {
    static BUILT: OnceLock<Vec<(String, PathBuf)>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        if !matches!(cargo_gnomon::is_target_installed(&workspace()), Ok(true)) {
            skip("the target wasm32-unknown-unknown is missing; `cargo verify` adds it");
            return Vec::new();
        }
        let names = ["webhook", "jwt-authorizer", "http-ingest"];
        let plugins = cargo_gnomon::build(&workspace(), &names, &mut |_| {}).unwrap();
        plugins.into_iter().map(|plugin| (plugin.name, plugin.folder)).collect()
    });
    built.iter().find(|(built, _)| built == name).map(|(_, folder)| folder.clone())
}
