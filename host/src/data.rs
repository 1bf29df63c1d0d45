//! The data folder: what lies where.
//!
//! ```text
//! DIR/meta.redb              registry, policies, rules, shadows, keys
//! DIR/queue.redb             sessions, queued and retained messages, what waits for actions
//! DIR/history.sqlite         tables of readings
//! DIR/pki/ca.pem             the CA that devices trust; its key and the server's beside it (0600)
//! DIR/keys/administrator.json  the first access key (0600)
//! DIR/cache/                 compiled plugins
//! DIR/descriptors/           Protobuf descriptor sets for rules: BUCKET/KEY
//! DIR/objects/               files for bulk registration and its reports: BUCKET/KEY
//! DIR/run/host.json          ports and process of the running host; gone when it stops
//! ```

use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The data folder.
#[derive(Clone, Debug)]
pub struct DataFolder(PathBuf);

/// What a running host says about itself in `run/host.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunFile {
    /// Process id.
    pub pid: u32,
    /// Version of the binary.
    pub version: String,
    /// Region that requests are signed for.
    pub region: String,
    /// The CA that clients have to trust.
    pub ca_file: PathBuf,
    /// What is open.
    pub listeners: Vec<RunListener>,
}

/// One open listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunListener {
    /// Name in the configuration.
    pub name: String,
    /// `mqtt`, `https`, `api` or `plugin`.
    pub protocol: String,
    /// With TLS.
    pub tls: bool,
    /// Address with the port that was taken.
    pub address: SocketAddr,
}

impl RunFile {
    /// Base URL of the REST API.
    pub fn api_url(&self) -> Option<String> {
        let api = self.listeners.iter().find(|listener| listener.protocol == "api")?;
        let scheme = if api.tls { "https" } else { "http" };
        Some(format!("{scheme}://{}", api.address))
    }
}

/// An access key in a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyFile {
    /// `AKIA…`.
    pub access_key_id: String,
    /// 40 characters.
    pub secret_access_key: String,
}

impl DataFolder {
    /// Creates the folder, for its owner alone, unless it is there.
    ///
    /// # Errors
    /// As the system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        for inner in ["pki", "keys", "cache", "descriptors", "run"] {
            let inner = path.join(inner);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(inner)?;
        }
        Ok(Self(path.canonicalize()?))
    }

    /// A folder that is there already.
    ///
    /// # Errors
    /// As the system says, e.g. when it is not there.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(path.canonicalize()?))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Certificates and keys of the host.
    pub fn pki(&self) -> PathBuf {
        self.0.join("pki")
    }

    /// Descriptor sets that `decode(…, 'proto', …)` reads.
    pub fn descriptors(&self) -> PathBuf {
        self.0.join("descriptors")
    }

    /// Files that things are registered from, and what came of it.
    pub fn objects(&self) -> PathBuf {
        self.0.join("objects")
    }

    /// Tables of readings.
    pub fn tables(&self) -> PathBuf {
        self.0.join("history.sqlite")
    }

    /// Key of the first administrator.
    pub fn administrator(&self) -> PathBuf {
        self.0.join("keys/administrator.json")
    }

    /// Ports and process of the running host.
    pub fn run_file(&self) -> PathBuf {
        self.0.join("run/host.json")
    }

    /// Reads a JSON file; `None` when it is not there.
    ///
    /// # Errors
    /// The system's, or `InvalidData`.
    pub fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> io::Result<Option<T>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a JSON file whole or not at all, readable by its owner alone.
    ///
    /// # Errors
    /// As the system says.
    pub fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
        let draft = path.with_extension("draft");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec_pretty(value)?)?;
        file.sync_all()?;
        fs::rename(draft, path)
    }
}
