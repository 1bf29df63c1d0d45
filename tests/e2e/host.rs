//! A host of the real binary on a data folder of its own, all ports chosen by the system.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// What every test's configuration begins with.
const LISTENERS: &str = "\
[listeners.mqtt]
bind = '127.0.0.1:0'
[listeners.https]
bind = '127.0.0.1:0'
[listeners.api]
bind = '127.0.0.1:0'
";

/// A running host; killed when dropped.
pub struct Host {
    process: Child,
    folder: TempDir,
    status: Value,
}

impl Host {
    /// Starts a host with this text added to its configuration.
    #[track_caller]
    pub fn start(configuration: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let text = format!("{LISTENERS}{configuration}");
        std::fs::write(folder.path().join("gnomon.toml"), text).unwrap();
        let process = spawn(folder.path());
        let mut host = Self { process, folder, status: Value::Null };
        host.wait_until_ready();
        host
    }

    /// Stops the host as an operator does and starts it again on the same folder.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.process = spawn(self.folder.path());
        self.wait_until_ready();
    }

    /// As a power cut: no chance to write anything; then starts again.
    #[track_caller]
    pub fn kill_and_restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = spawn(self.folder.path());
        self.wait_until_ready();
    }

    /// Ends the host by SIGTERM and expects a clean exit.
    #[track_caller]
    pub fn stop(&mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().unwrap() {
                assert!(status.success(), "the host ended with {status}\n{}", self.log());
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the host does not stop\n{}", self.log());
    }

    /// Port of a listener.
    #[track_caller]
    pub fn port(&self, listener: &str) -> u16 {
        let listeners = self.status["listeners"].as_array().unwrap();
        let listener = listeners.iter().find(|it| it["name"] == listener).unwrap();
        listener["address"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Base URL of the REST API.
    pub fn api(&self) -> String {
        format!("http://127.0.0.1:{}", self.port("api"))
    }

    /// The CA that clients trust.
    pub fn ca_file(&self) -> PathBuf {
        self.status["ca_file"].as_str().unwrap().into()
    }

    /// A file of the test, beside the data.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Runs `gnomon` with these arguments on the data folder.
    #[track_caller]
    pub fn gnomon(&self, arguments: &[&str]) -> Output {
        gnomon(arguments, &self.data())
    }

    /// The administrator's key: id and secret.
    pub fn key(&self) -> (String, String) {
        let text = std::fs::read(self.data().join("keys/administrator.json")).unwrap();
        let key: Value = serde_json::from_slice(&text).unwrap();
        let field = |name: &str| key[name].as_str().unwrap().to_owned();
        (field("accessKeyId"), field("secretAccessKey"))
    }

    /// What the host has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until the log has the text.
    #[track_caller]
    pub fn expect_log(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "{text:?} is not in the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("the host ended with {status}\n{}", self.log());
            }
            let output = self.gnomon(&["status", "--json"]);
            if let Ok(status) = serde_json::from_slice::<Value>(&output.stdout)
                && status["ready"] == true
            {
                self.status = status;
                return;
            }
            assert!(Instant::now() < deadline, "the host is not ready\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            println!("-- log of the host\n{}", self.log());
        }
    }
}

/// Runs `gnomon` with these arguments and `--data`.
pub fn gnomon(arguments: &[&str], data: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gnomon"));
    command.args(arguments).arg("--data").arg(data).output().unwrap()
}

fn spawn(folder: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_gnomon"))
        .arg("up")
        .arg("--data")
        .arg(folder.join("data"))
        .arg("--config")
        .arg(folder.join("gnomon.toml"))
        .args(["--log", "info,gnomon_core=debug,gnomon_gateway=debug,gnomon_api=debug"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}
