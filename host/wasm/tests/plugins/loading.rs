//! What is refused when a plugin is loaded, and how the operator is told.

use crate::setup::{Host, PROBE, folder, listening, probe_folder};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const NAMED: &str = "name = 'a'\nversion = '1'";

async fn refusal(path: &Path, config: Value) -> String {
    match Host::load(&[("p", path, config)]).await {
        Ok(_) => panic!("the plugin was loaded"),
        Err(error) => error.to_string(),
    }
}

async fn check_bytes(wasm: &[u8], expected: &str) {
    let folder = folder(wasm, NAMED);
    let error = refusal(folder.path(), json!({})).await;
    let expected = format!("plugin p: {}/plugin.wasm {expected}", folder.path().display());
    assert!(error.starts_with(&expected), "{error}");
}

async fn check_wat(wat: &str, expected: &str) {
    check_bytes(&wat::parse_str(wat).unwrap(), expected).await;
}

#[tokio::test]
async fn what_is_no_plugin_is_refused_in_words() {
    check_bytes(b"", "is not a WebAssembly file").await;
    check_bytes(b"#!/bin/sh\nexit 0\n", "is not a WebAssembly file").await;
    check_bytes(b"\0asm\x09\0\0\0", "is WebAssembly of a version that this host does not").await;
    check_bytes(b"\0asm\x01\0\0\0\xff\xff\xff", "is not valid WebAssembly: ").await;
    check_bytes(b"\0asm\x0d\0\x01\0\xff\xff\xff", "is not valid WebAssembly: ").await;
    check_wat("(module)", "is a WebAssembly module without an interface; build it with").await;
    let wasi = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))"#;
    check_wat(wasi, "imports `wasi_snapshot_preview1`: plugins get no WASI").await;
}

#[tokio::test]
async fn an_import_that_is_not_offered_is_refused_in_words() {
    let import = |name: &str| format!("(component (import {name:?} (instance)))");
    for (name, expected) in [
        (
            "gnomon:plugin/kv@0.1.0",
            "imports gnomon:plugin/kv@0.1.0, which this host does not offer",
        ),
        ("gnomon:plugin/http@0.3.0", "uses plugin interface 0.3.0; this host offers 0.1"),
        ("gnomon:plugin/http@0.0.1", "uses plugin interface 0.0.1; this host offers 0.1"),
        ("wasi:cli/environment@0.2.0", "imports wasi:cli/environment@0.2.0: this host offers no"),
        ("acme:db/sql@1.0.0", "imports acme:db/sql@1.0.0, which this host does not offer"),
    ] {
        check_wat(&import(name), expected).await;
    }
}

#[tokio::test]
async fn a_component_without_a_handler_is_refused() {
    let folder = folder(&wat::parse_str("(component)").unwrap(), NAMED);
    let error = refusal(folder.path(), json!({})).await;
    assert_eq!(error, "plugin p: does not export gnomon:plugin/lifecycle, which every plugin has");
}

#[tokio::test]
async fn asking_for_more_than_granted_is_refused_with_the_missing_line() {
    let cases = [
        (
            "publish = ['a/#']",
            json!({ "grants": { "publish": ["a/b"] } }),
            "plugin p: asks for `publish` \"a/#\", which is not granted; to allow it, say in \
             [plugins.p.grants]: publish = [\"a/#\"]",
        ),
        (
            "http = 'operator'",
            json!({}),
            "plugin p: leaves the choice of `http` to you; say in [plugins.p.grants], for \
             instance: http = [\"https://host.example\"]",
        ),
        (
            "secrets = ['key']",
            json!({}),
            "plugin p: asks for `secrets` key, which is not granted; to allow it, say in \
             [plugins.p.grants]: secrets.key = { file = \"…\" }",
        ),
    ];
    for (asks, config, expected) in cases {
        let Some(folder) = probe_folder(asks) else { return };
        assert_eq!(refusal(folder.path(), listening(config)).await, expected);
    }
    let Some(folder) = probe_folder("") else { return };
    assert_eq!(
        refusal(folder.path(), json!({})).await,
        "plugin p: asks for an HTTP listener, which is not granted; to allow it, say in \
         [plugins.p]: listen = { bind = \"127.0.0.1:8444\" }"
    );
}

#[tokio::test]
async fn a_plugin_that_does_not_start_is_refused() {
    let Some(folder) = probe_folder("") else { return };
    for (config, expected) in [
        (
            json!({ "config": { "refuse": "needs a token" } }),
            "plugin p: refuses [plugins.p.config]: needs a token",
        ),
        (
            json!({ "config": { "tokne": 1 } }),
            "plugin p: refuses [plugins.p.config]: configuration: unknown field `tokne`",
        ),
        (
            json!({ "config": { "spin": true } }),
            "plugin p: crashed when it was started: used more than 1000 ms of CPU time",
        ),
        (
            json!({ "limits": { "memory_mib": 1 } }),
            "plugin p: crashed when it was started: wanted ",
        ),
        (json!({ "limits": { "wall_ms": 0 } }), "plugin p: limits.wall_ms is 0; give 1 to 600000"),
    ] {
        let error = refusal(folder.path(), listening(config)).await;
        assert!(error.starts_with(expected), "{error}");
    }
}

#[tokio::test]
async fn a_missing_or_malformed_file_is_named() {
    let dir = folder(b"x", "name = 'a'");
    let error = refusal(dir.path(), json!({})).await;
    assert!(error.contains("plugin.toml: ") && error.contains("`version`"), "{error}");
    let error = refusal(&dir.path().join("nowhere"), json!({})).await;
    assert!(error.contains("nowhere/plugin.toml: "), "{error}");
    fs::write(dir.path().join("plugin.toml"), PROBE).unwrap();
    fs::remove_file(dir.path().join("plugin.wasm")).unwrap();
    let error = refusal(&dir.path().join("plugin.wasm"), json!({})).await;
    assert!(error.contains("plugin.wasm: "), "{error}");
}

#[tokio::test]
async fn compiled_code_is_kept_and_a_damaged_copy_is_made_again() {
    let Some(folder) = probe_folder("") else { return };
    let plugins = [("probe", folder.path(), listening(json!({})))];
    let host = Host::load(&plugins).await.unwrap();
    let cached = |host: &Host| -> Vec<_> {
        let files = fs::read_dir(host.data.path().join("cache")).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    };
    let files = cached(&host);
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].extension().unwrap(), "cwasm");
    let written = fs::metadata(&files[0]).unwrap().modified().unwrap();

    let host = Host::load_in(host.data, &plugins).await.unwrap();
    assert_eq!(fs::metadata(&files[0]).unwrap().modified().unwrap(), written);
    assert!(host.order("probe", json!({ "do": "report" })).await.is_ok());

    let Host { plugins: loaded, data, .. } = host;
    drop(loaded);
    fs::remove_file(&files[0]).unwrap();
    fs::write(&files[0], b"damaged").unwrap();
    let host = Host::load_in(data, &plugins).await.unwrap();
    assert!(host.order("probe", json!({ "do": "report" })).await.is_ok());
    assert!(fs::metadata(&cached(&host)[0]).unwrap().len() > 1_000);
}

#[cfg(unix)]
#[tokio::test]
async fn the_folder_of_compiled_code_is_the_hosts_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(host) = Host::probe("", json!({})).await else { return };
    let mode = fs::metadata(host.data.path().join("cache")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
