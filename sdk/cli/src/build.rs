//! `cargo gnomon build`: compile, then put component and manifest side by side.

use crate::target::{self, TARGET, TargetError};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

/// Small code before fast code: a plugin is loaded often and bounded anyway. Given on the
/// command line, so that an author's workspace needs no profile of its own.
const PROFILE: [&str; 4] = [
    "profile.release.opt-level='s'",
    "profile.release.lto=true",
    "profile.release.codegen-units=1",
    "profile.release.strip=true",
];

/// A plugin that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltPlugin {
    /// From `plugin.toml`.
    pub name: String,
    /// Has `plugin.wasm` and `plugin.toml`.
    pub folder: PathBuf,
    /// Size of `plugin.wasm`.
    pub bytes: u64,
}

/// Why plugins were not built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The compilation target is missing.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// `cargo` did not run or did not say what the workspace has.
    #[error("cargo metadata failed in {dir}: {reason}")]
    Metadata {
        /// Where it ran.
        dir: PathBuf,
        /// What it said.
        reason: String,
    },
    /// A name that no plugin of the workspace has.
    #[error("there is no plugin {name}; the workspace has {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The plugins of the workspace, or a word that there are none.
        known: String,
    },
    /// `plugin.toml` does not parse.
    #[error("{path}: {reason}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The compiler failed; it has said why.
    #[error("the plugins did not compile; see the messages above")]
    Compile,
    /// A file could not be read or written.
    #[error("{path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Builds plugins of the workspace around `workspace_dir`; when `names` is empty all of them
/// but those with `test = true` in `[package.metadata.gnomon]`.
/// Cargo's own progress goes to standard error; `progress` gets the lines in between.
///
/// # Errors
/// See [`BuildError`]; plugins built before the failure stay where they are.
pub fn build(
    workspace_dir: &Path,
    names: &[&str],
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<BuiltPlugin>, BuildError> {
    let metadata = metadata(workspace_dir)?;
    let plugins = choose(metadata.plugins()?, names)?;
    if plugins.is_empty() {
        return Ok(Vec::new());
    }
    target::ensure(workspace_dir, progress)?;
    compile(workspace_dir, &metadata.target_directory, &plugins)?;
    plugins.iter().map(|plugin| place(&metadata.target_directory, plugin)).collect()
}

/// A package that is a plugin.
#[derive(Debug)]
struct Source {
    name: String,
    package: String,
    manifest: PathBuf,
    /// For tests: built only when it is named.
    is_test: bool,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    #[serde(default)]
    metadata: serde_json::Value,
}

fn metadata(dir: &Path) -> Result<Metadata, BuildError> {
    let failed = |reason: String| BuildError::Metadata { dir: dir.into(), reason };
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(dir)
        .output()
        .map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().into()));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| failed(e.to_string()))
}

impl Metadata {
    fn plugins(&self) -> Result<Vec<Source>, BuildError> {
        #[derive(Deserialize)]
        struct Manifest {
            name: String,
        }
        let mut plugins = Vec::new();
        for package in &self.packages {
            let path = package.manifest_path.with_file_name("plugin.toml");
            if !path.is_file() {
                continue;
            }
            let text = fs::read_to_string(&path).map_err(|e| file_error(&path, e))?;
            let manifest: Manifest = toml::from_str(&text).map_err(|e| BuildError::Manifest {
                path: path.clone(),
                reason: e.to_string().trim_end().into(),
            })?;
            let (name, package_name) = (manifest.name, package.name.clone());
            let is_test = package.metadata["gnomon"]["test"] == true;
            plugins.push(Source { name, package: package_name, manifest: path, is_test });
        }
        plugins.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(plugins)
    }
}

fn choose(plugins: Vec<Source>, names: &[&str]) -> Result<Vec<Source>, BuildError> {
    for &name in names {
        if !plugins.iter().any(|plugin| plugin.name == name) {
            let known: Vec<_> = plugins.iter().map(|plugin| plugin.name.as_str()).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            return Err(BuildError::Unknown { name: name.into(), known });
        }
    }
    let chosen = |plugin: &Source| match names {
        [] => !plugin.is_test,
        names => names.contains(&plugin.name.as_str()),
    };
    Ok(plugins.into_iter().filter(chosen).collect())
}

fn compile(dir: &Path, target_dir: &Path, plugins: &[Source]) -> Result<(), BuildError> {
    let mut cargo = cargo();
    cargo.args(["build", "--release", "--lib", "--target", TARGET]).current_dir(dir);
    cargo.arg("--target-dir").arg(target_dir).stdin(Stdio::null());
    for setting in PROFILE {
        cargo.args(["--config", setting]);
    }
    for plugin in plugins {
        cargo.args(["--package", &plugin.package]);
    }
    match cargo.status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(BuildError::Compile),
    }
}

/// Copies the module and its manifest to where the host looks for them.
fn place(target_dir: &Path, plugin: &Source) -> Result<BuiltPlugin, BuildError> {
    let module = format!("{}.wasm", plugin.package.replace('-', "_"));
    let module = target_dir.join(TARGET).join("release").join(module);
    let folder = target_dir.join("plugins").join(&plugin.name);
    fs::create_dir_all(&folder).map_err(|e| file_error(&folder, e))?;
    let bytes = copy(&module, &folder.join("plugin.wasm"))?;
    copy(&plugin.manifest, &folder.join("plugin.toml"))?;
    Ok(BuiltPlugin { name: plugin.name.clone(), folder, bytes })
}

/// Replaces the file in one step: a host may be reading it.
fn copy(from: &Path, to: &Path) -> Result<u64, BuildError> {
    let partial = to.with_extension("partial");
    let bytes = fs::copy(from, &partial).map_err(|e| file_error(from, e))?;
    fs::rename(&partial, to).map_err(|e| file_error(to, e))?;
    Ok(bytes)
}

fn file_error(path: &Path, source: io::Error) -> BuildError {
    BuildError::File { path: path.into(), source }
}

/// Plain `cargo`, found by PATH: rustup's proxy then picks the toolchain of the workspace.
fn cargo() -> Command {
    Command::new("cargo")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str) -> Source {
        Source {
            name: name.into(),
            package: name.into(),
            manifest: PathBuf::new(),
            is_test: name == "probe",
        }
    }

    #[test]
    fn an_unknown_name_lists_the_plugins_that_exist() {
        let error = choose(vec![source("a"), source("b")], &["a", "c"]).unwrap_err();
        assert_eq!(error.to_string(), "there is no plugin c; the workspace has a, b");
    }

    #[test]
    fn no_names_mean_all_plugins_but_those_for_tests() {
        let plugins = || vec![source("a"), source("b"), source("probe")];
        assert_eq!(choose(plugins(), &[]).unwrap().len(), 2);
        assert_eq!(choose(plugins(), &["probe"]).unwrap()[0].name, "probe");
    }

    #[test]
    fn a_package_with_a_manifest_is_a_plugin() {
        let dir = tempfile::tempdir().unwrap();
        for package in ["plain", "sensor-plugin", "broken"] {
            fs::create_dir_all(dir.path().join(package)).unwrap();
        }
        fs::write(dir.path().join("sensor-plugin/plugin.toml"), "name = \"sensor\"").unwrap();
        let mut metadata = Metadata {
            packages: ["plain", "sensor-plugin"]
                .map(|name| Package {
                    name: name.into(),
                    manifest_path: dir.path().join(name).join("Cargo.toml"),
                    metadata: serde_json::Value::Null,
                })
                .into(),
            target_directory: dir.path().join("target"),
        };
        let plugins = metadata.plugins().unwrap();
        assert_eq!(plugins.len(), 1);
        assert_eq!((&*plugins[0].name, &*plugins[0].package), ("sensor", "sensor-plugin"));

        fs::write(dir.path().join("broken/plugin.toml"), "nme = 1").unwrap();
        metadata.packages.push(Package {
            name: "broken".into(),
            manifest_path: dir.path().join("broken/Cargo.toml"),
            metadata: serde_json::Value::Null,
        });
        let error = metadata.plugins().unwrap_err().to_string();
        assert!(error.contains("broken/plugin.toml") && error.contains("`name`"), "{error}");
    }
}
