//! The host as a process of its own: build, start, wait until ready, stop.

use crate::Result;
use gnomon_api::Client;
use gnomon_core::time::SystemClock;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{Child, Command};

/// From the start to ready; compiling a plugin for the first time takes a few seconds.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// From the wish to stop to the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// The process of a running host; killed when dropped.
pub struct Process(Child);

/// What a client needs to know of a running host.
pub struct Host {
    status: Value,
    data: PathBuf,
}

/// Builds the host with cargo's own progress on the terminal; returns the binary.
pub fn build(workspace: &Path) -> Result<PathBuf> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let status = std::process::Command::new(cargo)
        .args(["build", "--package", "gnomon"])
        .current_dir(workspace)
        .status()?;
    if !status.success() {
        return Err("cargo could not build the host; its messages are above".into());
    }
    // Cargo put the host beside this program.
    let binary = std::env::current_exe()?.with_file_name("gnomon");
    if !binary.exists() {
        return Err(format!("cargo built no {}", binary.display()).into());
    }
    Ok(binary)
}

impl Process {
    /// Starts the host and waits until it is ready.
    pub async fn start(binary: &Path, data: &Path, configuration: &str) -> Result<(Self, Host)> {
        let config = data.join("demo.toml");
        std::fs::write(&config, configuration)?;
        let mut process = Command::new(binary)
            .arg("up")
            .arg("--data")
            .arg(data)
            .arg("--config")
            .arg(config)
            .args(["--log", "warn"])
            .kill_on_drop(true)
            // Ctrl-C goes to the demo alone, which stops the host in its order.
            .process_group(0)
            .stdin(Stdio::null())
            .spawn()?;
        let ready = async {
            loop {
                if let Some(status) = process.try_wait()? {
                    return Err(format!("the host did not start ({status}); see above").into());
                }
                let status = status(binary, data).await?;
                if status["ready"] == true {
                    return Ok(status);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let status: Result<Value> = tokio::time::timeout(START_TIMEOUT, ready)
            .await
            .unwrap_or_else(|_| Err("the host is not ready after a minute".into()));
        Ok((Self(process), Host { status: status?, data: data.into() }))
    }

    /// Waits for the end of the process.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.0.wait().await?)
    }

    /// Asks the host to stop and waits for it.
    pub async fn stop(mut self) -> Result<()> {
        let Some(pid) = self.0.id() else { return Ok(()) };
        // SIGTERM; the standard library only knows SIGKILL.
        Command::new("kill").arg(pid.to_string()).status().await?;
        match tokio::time::timeout(STOP_TIMEOUT, self.0.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(status) => Err(format!("the host ended with {}", status?).into()),
            Err(_) => Err("the host does not stop; it is killed now".into()),
        }
    }
}

impl Host {
    /// Address of the listener with this name.
    pub fn address(&self, listener: &str) -> Result<std::net::SocketAddr> {
        let listeners = self.status["listeners"].as_array().into_iter().flatten();
        let found =
            listeners.filter(|it| it["name"] == listener).find_map(|it| it["address"].as_str());
        let address = found.ok_or_else(|| format!("the host has no listener {listener:?}"))?;
        Ok(address.parse()?)
    }

    /// The CA that the sensor has to trust.
    pub fn ca_file(&self) -> Result<PathBuf> {
        Ok(self.status["ca_file"].as_str().ok_or("the host names no CA file")?.into())
    }

    /// Signs with the administrator's access key.
    pub fn client(&self) -> Result<Client> {
        let file = std::fs::read(self.data.join("keys/administrator.json"))?;
        let key: Value = serde_json::from_slice(&file)?;
        let field = |name: &str| key[name].as_str().ok_or("the key file is incomplete");
        let url = format!("http://{}", self.address("api")?);
        let region = self.status["region"].as_str().ok_or("the host names no region")?;
        let (id, secret) = (field("accessKeyId")?, field("secretAccessKey")?);
        Ok(Client::new(&url, region, id, secret, Arc::new(SystemClock))?)
    }
}

async fn status(binary: &Path, data: &Path) -> Result<Value> {
    let output = Command::new(binary)
        .arg("status")
        .arg("--data")
        .arg(data)
        .arg("--json")
        .stderr(Stdio::inherit())
        .output()
        .await?;
    Ok(serde_json::from_slice(&output.stdout)?)
}
