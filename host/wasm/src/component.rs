//! From bytes to a compiled component that fits this host, or a text that says why not.
//!
//! In: a core module (wasm32-unknown-unknown with wit-bindgen) or a component. Out: the compiled
//! component and the names of its exports. What it needs is read before it is compiled, so that a
//! plugin of another version gets a sentence and not a linker's error.

use crate::cache::Cache;
use std::collections::BTreeSet;
use wasmparser::{Encoding, Parser, Payload};
use wasmtime::component::Component;
use wit_component::ComponentEncoder;

/// Largest file that is read; the largest known guests (Python) have 40 MiB.
pub const COMPONENT_BYTES_MAX: u64 = 64 * 1_024 * 1_024;

/// The WIT package of the plugin interface.
const PACKAGE: &str = "gnomon:plugin";

/// The line of versions that this host offers; within it interfaces are only added.
const LINE: (u64, u64) = (0, 1);

/// The interfaces that a plugin can call. `types` has no functions; its types are shared.
const IMPORTS: [&str; 8] =
    ["clock", "config", "http", "log", "messaging", "random", "secrets", "types"];

/// Makes a component of the bytes and compiles it.
///
/// # Errors
/// Why the bytes are no plugin for this host, and what to do.
pub fn compile(
    engine: &wasmtime::Engine,
    cache: &Cache,
    bytes: &[u8],
) -> Result<Component, String> {
    let component = componentize(bytes)?;
    check_imports(&component)?;
    cache.compile(engine, &component)
}

fn componentize(bytes: &[u8]) -> Result<Vec<u8>, String> {
    // Magic number and version of the binary format (WebAssembly core specification, 5.5.15;
    // component model, Binary.md).
    match bytes.get(..8) {
        Some(b"\0asm\x0d\0\x01\0") => return Ok(bytes.into()),
        Some(b"\0asm\x01\0\0\0") => {}
        Some([b'\0', b'a', b's', b'm', ..]) => {
            return Err("is WebAssembly of a version that this host does not know".into());
        }
        _ => return Err("is not a WebAssembly file".into()),
    }
    check_module_imports(bytes)?;
    let encoded = ComponentEncoder::default()
        .validate(true)
        .module(bytes)
        .and_then(ComponentEncoder::encode)
        .map_err(|e| format!("is a WebAssembly module that makes no component: {e:#}"))?;
    Ok(encoded)
}

/// A module of another toolchain would fail in the encoder with a text about its inner workings.
fn check_module_imports(module: &[u8]) -> Result<(), String> {
    let mut is_plugin = false;
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(|e| format!("is not valid WebAssembly: {e}"))? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import.map_err(|e| format!("is not valid WebAssembly: {e}"))?;
                    if let Some(advice) = foreign_module(import.module) {
                        return Err(format!("imports `{}`: {advice}", import.module));
                    }
                }
            }
            Payload::CustomSection(section) => {
                is_plugin |= section.name().starts_with("component-type");
            }
            _ => {}
        }
    }
    if is_plugin {
        return Ok(());
    }
    Err("is a WebAssembly module without an interface; build it with the Gnomon SDK \
         (`cargo gnomon build`) or with wit-bindgen and Gnomon's wit folder"
        .into())
}

fn foreign_module(module: &str) -> Option<&'static str> {
    Some(match module {
        "env" => {
            "it was linked with undefined symbols or by Emscripten; a plugin has to be \
                  complete in itself"
        }
        "wasi_snapshot_preview1" | "wasi_unstable" => {
            "plugins get no WASI; build for wasm32-unknown-unknown (`cargo gnomon build`)"
        }
        module if module.starts_with("__wbindgen") => {
            "it was made for a browser by wasm-bindgen; find the dependency that does so with \
             `cargo tree -i wasm-bindgen` and leave it out"
        }
        _ => return None,
    })
}

fn check_imports(component: &[u8]) -> Result<(), String> {
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|e| format!("is not valid WebAssembly: {e}"))? {
            Payload::Version { encoding, .. } => {
                if depth == 0 && encoding != Encoding::Component {
                    return Err("is not a WebAssembly component".into());
                }
                depth += 1;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if depth == 1 => {
                for import in imports {
                    let import = import.map_err(|e| format!("is not valid WebAssembly: {e}"))?;
                    check_import(import.name.name)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// One import of a component, e.g. `gnomon:plugin/http@0.1.0`.
fn check_import(name: &str) -> Result<(), String> {
    let (path, version) = name.split_once('@').unwrap_or((name, ""));
    let offered = format!("{PACKAGE} {}.{}", LINE.0, LINE.1);
    let Some(interface) = path.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('/')) else {
        if path.starts_with("wasi:") {
            return Err(format!(
                "imports {name}: this host offers no WASI yet; build Rust for \
                 wasm32-unknown-unknown (`cargo gnomon build`), JavaScript with --stub-wasi"
            ));
        }
        return Err(format!("imports {name}, which this host does not offer; it offers {offered}"));
    };
    let mut numbers = version.split('.').map_while(|number| number.parse::<u64>().ok());
    if (numbers.next(), numbers.next()) != (Some(LINE.0), Some(LINE.1)) || version.contains('-') {
        return Err(format!(
            "uses plugin interface {version}; this host offers {}.{}: rebuild the plugin with the \
             SDK of this host, or use a host that offers {version}",
            LINE.0, LINE.1
        ));
    }
    if IMPORTS.contains(&interface) {
        return Ok(());
    }
    Err(format!(
        "imports {name}, which this host does not offer yet; it offers {}",
        IMPORTS.into_iter().filter(|name| *name != "types").collect::<Vec<_>>().join(", ")
    ))
}

/// Names of the interfaces of the plugin package that the component exports, without version.
pub fn exports(engine: &wasmtime::Engine, component: &Component) -> BTreeSet<String> {
    component
        .component_type()
        .exports(engine)
        .filter_map(|(name, _)| {
            let (path, _) = name.split_once('@')?;
            Some(path.strip_prefix(PACKAGE)?.strip_prefix('/')?.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_that_is_not_offered_gets_a_sentence() {
        assert_eq!(check_import("gnomon:plugin/http@0.1.0"), Ok(()));
        assert_eq!(check_import("gnomon:plugin/http@0.1.7"), Ok(()));
        for (name, expected) in [
            ("gnomon:plugin/kv@0.1.2", "imports gnomon:plugin/kv@0.1.2, which this host does not"),
            ("gnomon:plugin/http@0.3.0", "uses plugin interface 0.3.0; this host offers 0.1"),
            ("gnomon:plugin/http@0.1.0-rc.1", "uses plugin interface 0.1.0-rc.1"),
            ("gnomon:plugin/http", "uses plugin interface "),
            ("wasi:io/poll@0.2.0", "imports wasi:io/poll@0.2.0: this host offers no WASI"),
            ("acme:db/sql@1.0.0", "imports acme:db/sql@1.0.0, which this host does not offer"),
        ] {
            let error = check_import(name).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
