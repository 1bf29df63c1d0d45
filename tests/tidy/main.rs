//! The order of `gnomon-core`'s modules: a module imports only what stands before it.
//!
//! Between packages Cargo holds the direction of dependencies; inside the core this does. The
//! exceptions are written down with their reason, and one that is no longer needed fails too.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules in reading order, as the header of `lib.rs` tells them.
const ORDER: &[&str] = &[
    "ids",
    "topic",
    "time",
    "message",
    "packet",
    "random",
    "limits",
    "metrics",
    "logging",
    "storage",
    "policy",
    "payload_schema",
    "registry",
    "auth",
    "session",
    "broker",
    "shadow",
    "events",
    "quarantine",
    "fleet",
    "actions",
    "rules",
    "tables",
    "provisioning",
    "adapter",
];

/// Module, what it imports from further right, why.
const EXCEPTIONS: &[(&str, &str, &str)] =
    &[("session", "broker", "the shape of a delivery, `broker::Delivery`, and nothing that acts")];

#[test]
fn a_module_of_the_core_imports_only_what_stands_before_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut needed: BTreeSet<&(&str, &str, &str)> = BTreeSet::new();
    for (position, module) in ORDER.iter().enumerate() {
        for file in files(&source, module) {
            let text = fs::read_to_string(&file).unwrap();
            for imported in imports(&text) {
                let Some(other) = ORDER.iter().position(|it| *it == imported) else {
                    panic!("{}: `crate::{imported}` is not in ORDER", file.display());
                };
                if other <= position {
                    continue;
                }
                let exception =
                    EXCEPTIONS.iter().find(|(from, to, _)| from == module && *to == imported);
                assert!(
                    exception.is_some(),
                    "{}: `{module}` imports `{imported}`, which stands behind it; hand it in as \
                     a trait object, or move what both need to the left",
                    file.display()
                );
                needed.extend(exception);
            }
        }
    }
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap();
        assert!(module == "lib" || ORDER.contains(&module), "`{module}` is not in ORDER");
    }
    for exception in EXCEPTIONS {
        assert!(needed.contains(exception), "no longer needed: {exception:?}");
    }
}

/// `module.rs` and everything in `module/`, but its tests.
#[allow(clippy::unwrap_used, reason = "a folder that cannot be read fails the test")]
fn files(source: &Path, module: &str) -> Vec<PathBuf> {
    let mut found = vec![source.join(format!("{module}.rs"))];
    let mut folders = vec![source.join(module)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_stem().is_some_and(|stem| stem != "tests") {
                found.push(path);
            }
        }
    }
    found
}

/// First segments behind `crate::`, in code: neither in comments nor behind `#[cfg(test)]`.
fn imports(text: &str) -> BTreeSet<&str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let behind = lines.flat_map(|line| line.split("crate::").skip(1));
    let end = |rest: &str| {
        rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())
    };
    behind.map(|rest| &rest[..end(rest)]).filter(|name| !name.is_empty()).collect()
}
