//! Compiled components on disk, so that a start does not compile again.
//!
//! In: a component. Out: the compiled one, from `<data>/cache/<sha256>-<engine>.cwasm` when it is
//! there. The name covers the component's bytes and everything of the engine that matters to
//! compiled code. The folder is readable and writable by the host's user alone, because whoever
//! writes there decides what the host executes.

use sha2::{Digest, Sha256};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};
use wasmtime::component::Component;

/// The folder of compiled components.
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens the folder, making it when it is missing.
    ///
    /// # Errors
    /// The folder cannot be made or its permissions not be set.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let dir = data_dir.join("cache");
        fs::create_dir_all(&dir)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        }
        Ok(Self { dir })
    }

    /// The compiled component.
    ///
    /// # Errors
    /// The component does not compile. A cache that cannot be read or written costs time only.
    pub fn compile(&self, engine: &wasmtime::Engine, bytes: &[u8]) -> Result<Component, String> {
        let path = self.path(engine, bytes);
        if path.is_file() {
            match load(engine, &path) {
                Ok(component) => return Ok(component),
                Err(error) => tracing::warn!(%error, "compiled plugin is unusable, compiling"),
            }
        }
        let component = Component::from_binary(engine, bytes).map_err(|e| {
            let text = format!("{e:#}");
            // The pool's words for a guest that starts with more memory than any plugin may have.
            let too_large = text.contains("memory has a minimum byte size");
            let advice = if too_large { "; raise its `limits.memory_mib`" } else { "" };
            format!("does not compile: {text}{advice}")
        })?;
        let stored = component
            .serialize()
            .map_err(|e| io::Error::other(format!("{e:#}")))
            .and_then(|compiled| store(&path, &compiled));
        if let Err(error) = stored {
            tracing::warn!(%error, "compiled plugin not kept, the next start compiles again");
        }
        Ok(component)
    }

    fn path(&self, engine: &wasmtime::Engine, bytes: &[u8]) -> PathBuf {
        let digest = gnomon_core::random::hex(&Sha256::digest(bytes));
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        self.dir.join(format!("{digest}-{:016x}.cwasm", hasher.finish()))
    }
}

#[allow(unsafe_code, reason = "wasmtime trusts compiled code; ours comes from our own folder")]
fn load(engine: &wasmtime::Engine, path: &Path) -> Result<Component, String> {
    // SAFETY: the file was written by `store` below, whole (renamed after a sync), into a folder
    // that only the host's user can write to; wasmtime checks version and settings.
    unsafe { Component::deserialize_file(engine, path) }.map_err(|e| format!("{e:#}"))
}

/// Writes to a temporary name first: a half-written file must never have the final name.
fn store(path: &Path, compiled: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file = fs::File::create(&partial)?;
    file.write_all(compiled)?;
    file.sync_all()?;
    fs::rename(&partial, path)
}
