//! A host of the real binary on a data folder of its own, all ports chosen by the system.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const GNOMON: &str = env!("CARGO_BIN_EXE_gnomon");
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

/// A plain listener whose clients may do what the policy `Lab` says.
pub const LAB: &str = "\
[listeners.lab]
bind = '127.0.0.1:0'
protocol = 'mqtt'
tls = false
anonymous_policy = 'Lab'
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
        let mut host = Self::spawn(&format!("{LISTENERS}{configuration}"));
        host.wait_until_ready();
        host
    }

    /// As [`Host::start`], with so many files at most.
    #[track_caller]
    pub fn start_with_files(files: u32, configuration: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let configuration = format!("{LISTENERS}{configuration}");
        std::fs::write(folder.path().join("gnomon.toml"), configuration).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {files}; exec \"$@\""), "sh", GNOMON]);
        let process = spawn(shell, folder.path());
        let mut host = Self { process, folder, status: Value::Null };
        host.wait_until_ready();
        host
    }

    /// What a host says that refuses to start with this whole configuration.
    #[track_caller]
    pub fn refused(configuration: &str) -> String {
        let mut host = Self::spawn(configuration);
        let status = host.wait_for_exit(START_TIMEOUT);
        assert_eq!(status.code(), Some(1), "{}", host.log());
        host.log()
    }

    fn spawn(configuration: &str) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("gnomon.toml"), configuration).unwrap();
        Self { process: spawn(Command::new(GNOMON), folder.path()), folder, status: Value::Null }
    }

    /// Stops the host as an operator does and starts it again on the same folder.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Starts a host that was stopped, on the same folder.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.process = spawn(Command::new(GNOMON), self.folder.path());
        self.wait_until_ready();
    }

    /// SIGKILL: no chance to write anything; then starts again.
    #[track_caller]
    pub fn kill_and_restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.start_again();
    }

    /// Ends the host by SIGTERM and expects a clean exit.
    #[track_caller]
    pub fn stop(&mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        let status = self.wait_for_exit(STOP_TIMEOUT);
        assert!(status.success(), "the host ended with {status}\n{}", self.log());
    }

    #[track_caller]
    fn wait_for_exit(&mut self, timeout: Duration) -> ExitStatus {
        let exit = wait(timeout, || self.process.try_wait().unwrap());
        exit.unwrap_or_else(|| panic!("the host does not end\n{}", self.log()))
    }

    /// The host's process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
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

    /// Waits for a line of the log that has this text.
    #[track_caller]
    pub fn expect_log(&self, text: &str) -> String {
        let line = wait(Duration::from_secs(10), || {
            self.log().lines().find(|line| line.contains(text)).map(str::to_owned)
        });
        line.unwrap_or_else(|| panic!("{text:?} is not in the log:\n{}", self.log()))
    }

    #[track_caller]
    fn wait_until_ready(&mut self) {
        let status = wait(START_TIMEOUT, || {
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("the host ended with {status}\n{}", self.log());
            }
            let output = self.gnomon(&["status", "--json"]);
            serde_json::from_slice(&output.stdout).ok().filter(|it: &Value| it["ready"] == true)
        });
        self.status = status.unwrap_or_else(|| panic!("the host is not ready\n{}", self.log()));
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

/// Asks again and again until there is an answer; `None` when the time is over.
#[allow(clippy::disallowed_methods, reason = "another process lives in real time")]
pub fn wait<T>(timeout: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + timeout;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= deadline {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs `gnomon` with these arguments and `--data`.
pub fn gnomon(arguments: &[&str], data: &Path) -> Output {
    let mut command = Command::new(GNOMON);
    command.args(arguments).arg("--data").arg(data).output().unwrap()
}

fn spawn(mut command: Command, folder: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    command
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
