//! The brokers as processes: started with a configuration of our own on loopback, measured
//! through `/proc`, ended when dropped.
//!
//! In: which broker. Out: its addresses, CPU time and resident memory. Each has a plain listener
//! and one with mutual TLS, whose certificate every client of the load uses.
//! Not here: what is done with it (`load` and whoever uses it).

use crate::Result;
use crate::disk::temporary;
use gnomon_api::Client;
use gnomon_core::time::{Clock, SystemClock};
use gnomon_load::Options;
use http::Method;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde::Deserialize;
use serde_json::json;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::sleep;

/// From the start of a process until it takes connections.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two looks whether it does.
const START_POLL: Duration = Duration::from_millis(50);

/// Messages under way to one client; the credits of the load stay below it.
const INFLIGHT_MESSAGES: u16 = 100;

/// Which broker is measured.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Eclipse Mosquitto, this binary.
    Mosquitto(PathBuf),
    /// This binary of ours.
    Gnomon(PathBuf),
}

impl Kind {
    /// The mosquitto of this machine, if there is one.
    pub fn find_mosquitto() -> Option<Self> {
        // Debian installs it where the PATH of a user does not lead.
        let candidates = ["mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
        let runs = |path: &str| {
            let mut command = Command::new(path);
            command.arg("-h").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok()
        };
        candidates.into_iter().find(|path| runs(path)).map(|path| Self::Mosquitto(path.into()))
    }

    /// The host at this path; by default the one beside the running binary.
    pub fn find_gnomon(path: Option<&Path>) -> Result<Self> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => std::env::current_exe()?.with_file_name("gnomon"),
        };
        if path.is_file() {
            return Ok(Self::Gnomon(path));
        }
        let path = path.display();
        Err(format!(
            "there is no host at {path}; build it with `cargo build --release -p gnomon`, or name \
             one with --gnomon"
        )
        .into())
    }

    /// For tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mosquitto(_) => "mosquitto",
            Self::Gnomon(_) => "gnomon",
        }
    }

    /// A command of our host's binary.
    pub fn command(&self) -> Result<Command> {
        match self {
            Self::Mosquitto(_) => Err("mosquitto has no such command".into()),
            Self::Gnomon(binary) => Ok(Command::new(binary)),
        }
    }

    /// Starts the broker and waits until it takes connections; its data is in the system's
    /// temporary folder.
    pub async fn start(&self) -> Result<Process> {
        let folder = std::env::temp_dir();
        match self {
            Self::Mosquitto(binary) => {
                start_mosquitto(binary, temporary(&folder)?, "persistence false\n").await
            }
            Self::Gnomon(_) => self.start_in(&folder).await,
        }
    }

    /// As [`Kind::start`], with its data in a folder that matters, and as durable as the broker
    /// can be.
    pub async fn start_in(&self, folder: &Path) -> Result<Process> {
        let folder = temporary(folder)?;
        match self {
            Self::Mosquitto(binary) => start_mosquitto(binary, folder, PERSISTENT).await,
            Self::Gnomon(binary) => start_gnomon(binary, Folder::Own(folder)).await,
        }
    }

    /// Starts our host on what is in the folder already; it stays when the process is dropped.
    pub async fn start_on(&self, folder: &Path) -> Result<Process> {
        match self {
            Self::Mosquitto(_) => Err("mosquitto has nothing to start on".into()),
            Self::Gnomon(binary) => start_gnomon(binary, Folder::Given(folder.into())).await,
        }
    }
}

/// Where a broker keeps its data.
enum Folder {
    /// Goes with the broker.
    Own(TempDir),
    /// Stays.
    Given(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Own(folder) => folder.path(),
            Self::Given(folder) => folder,
        }
    }
}

fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// A running broker; dropping it ends it.
pub struct Process {
    child: Child,
    address: SocketAddr,
    tls_address: SocketAddr,
    /// Of the REST API, if it has one.
    api: Option<SocketAddr>,
    folder: Folder,
    /// From its start until it took connections, as seen every [`START_POLL`].
    pub ready_after: Duration,
}

impl Process {
    /// Options of a load on the listener without TLS and credentials.
    pub fn plain(&self) -> Options {
        Options { url: format!("mqtt://{}", self.address), quiet: true, ..Options::default() }
    }

    /// Options of a load on the listener with mutual TLS.
    pub fn tls(&self) -> Options {
        let file = |name| Some(self.folder.path().join(name));
        Options {
            url: format!("mqtts://{}", self.tls_address),
            ca: file(CA),
            cert: file(CLIENT),
            key: file(CLIENT_KEY),
            server_name: Some("localhost".into()),
            ..self.plain()
        }
    }

    /// A client of the REST API with the administrator's key.
    pub fn api_client(&self) -> Result<Client> {
        let api = self.api.ok_or("only our host has a REST API")?;
        api_client(&self.data(), api)
    }

    /// What the host keeps.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join(DATA)
    }

    /// Bytes of one file of what the host keeps.
    pub fn file_bytes(&self, name: &str) -> Result<u64> {
        Ok(fs::metadata(self.data().join(name))?.len())
    }

    /// Ends the process as an operator does, and waits for it.
    pub fn stop(mut self) -> Result<()> {
        use rustix::process::{Pid, Signal, kill_process};
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("the broker did not end well: {status}").into());
        }
        Ok(())
    }

    /// CPU time that the process has taken so far, of all its threads, in steps of 10 ms.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let ticks = cpu_ticks(&stat).ok_or("/proc/<pid>/stat does not look as proc(5) says")?;
        let millis = ticks * 1_000 / rustix::param::clock_ticks_per_second();
        Ok(Duration::from_millis(millis))
    }

    /// Resident memory in bytes (`VmRSS`).
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 =
            line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?.parse()?;
        Ok(kib * 1_024)
    }

    /// Files that the process has open, sockets too.
    pub fn open_files(&self) -> Result<u64> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count() as u64)
    }

    /// Bytes of what it keeps on disk.
    pub fn data_bytes(&self) -> Result<u64> {
        bytes_below(self.folder.path())
    }

    fn spawn(
        command: &mut Command,
        folder: Folder,
        [address, tls_address]: [SocketAddr; 2],
    ) -> Result<Self> {
        let log = File::create(folder.path().join(LOG))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn()?;
        let ready_after = Duration::ZERO;
        Ok(Self { child, address, tls_address, api: None, folder, ready_after })
    }

    /// Waits until `ready` has an answer; fails when the process ends before.
    async fn wait_for<T>(&mut self, ready: impl AsyncFn(&Path) -> Option<T>) -> Result<T> {
        let begin = SystemClock.now();
        let end = begin + START_TIMEOUT;
        loop {
            if let Some(answer) = ready(self.folder.path()).await {
                self.ready_after = begin.elapsed();
                return Ok(answer);
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || SystemClock.now() > end {
                let log = fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default();
                let pid = self.child.id();
                let what = ended.map_or("is not ready".into(), |status| format!("ended: {status}"));
                return Err(format!("the broker (process {pid}) {what}\n{log}").into());
            }
            sleep(START_POLL).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its data is thrown away: no need to let it finish. Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where our host keeps its data, in its folder.
const DATA: &str = "data";

/// What a broker printed; shown when it does not start.
const LOG: &str = "log";

/// Whom clients trust, and what they prove who they are with: files in the folder of a broker.
const CA: &str = "ca.pem";
/// See [`CA`].
const CLIENT: &str = "client.pem";
/// See [`CA`].
const CLIENT_KEY: &str = "client-key.pem";

/// Saves as often as mosquitto 2.0 can: after every round of its loop in which something changed.
const PERSISTENT: &str = "persistence true\nautosave_on_changes true\nautosave_interval 1\n";

async fn start_mosquitto(binary: &Path, folder: TempDir, persistence: &str) -> Result<Process> {
    // It cannot choose ports itself; nobody else is likely to take these in between.
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr();
    let addresses = [free()?, free()?];
    let [port, tls_port] = addresses.map(|address| address.port());
    write_certificates(folder.path())?;
    let config = folder.path().join("mosquitto.conf");
    let file = |name| folder.path().join(name).display().to_string();
    let (ca, cert, key) = (file(CA), file("server.pem"), file("server-key.pem"));
    // As Gnomon: no log lines, no delayed packets; queues that the credit cannot fill.
    // Started by root it would become a user who cannot read its keys.
    let location = folder.path().display();
    let text = format!(
        "user root\nallow_anonymous true\nlog_type none\n\
         {persistence}persistence_location {location}/\n\
         max_inflight_messages {INFLIGHT_MESSAGES}\nmax_queued_messages 0\nset_tcp_nodelay true\n\
         listener {port} 127.0.0.1\n\
         listener {tls_port} 127.0.0.1\n\
         cafile {ca}\ncertfile {cert}\nkeyfile {key}\nrequire_certificate true\n"
    );
    fs::write(&config, text)?;
    let mut command = Command::new(binary);
    let mut process =
        Process::spawn(command.arg("-c").arg(config), Folder::Own(folder), addresses)?;
    let connect = async |_: &Path| tokio::net::TcpStream::connect(addresses[1]).await.ok();
    process.wait_for(connect).await?;
    Ok(process)
}

/// A CA, the server's certificate and the clients', all with keys on P-256 as Gnomon makes them.
fn write_certificates(folder: &Path) -> Result<()> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(folder.join(CA), ca.self_signed(&ca_key)?.pem())?;
    let issuer = Issuer::new(ca, ca_key);
    for (certificate, key_file) in [("server.pem", "server-key.pem"), (CLIENT, CLIENT_KEY)] {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["localhost".into()])?;
        // The CA has rcgen's default name; OpenSSL takes one with the same name for self-signed.
        params.distinguished_name.push(DnType::CommonName, certificate);
        fs::write(folder.join(certificate), params.signed_by(&key, &issuer)?.pem())?;
        fs::write(folder.join(key_file), key.serialize_pem())?;
    }
    Ok(())
}

/// A plain listener on loopback beside the usual ones, all on ports that are free.
const GNOMON_CONFIG: &str = r#"
[listeners.bench]
bind = "127.0.0.1:0"
protocol = "mqtt"
tls = false
anonymous_policy = "BenchPolicy"
connections_max = 20000
[listeners.mqtt]
bind = "127.0.0.1:0"
connections_max = 20000
[listeners.https]
bind = "127.0.0.1:0"
[listeners.api]
bind = "127.0.0.1:0"
"#;

async fn start_gnomon(binary: &Path, folder: Folder) -> Result<Process> {
    let config = folder.path().join("gnomon.toml");
    let data = folder.path().join(DATA);
    fs::write(&config, GNOMON_CONFIG)?;
    let mut command = Command::new(binary);
    command.arg("up").arg("--data").arg(&data).arg("--config").arg(config);
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut process = Process::spawn(&mut command, folder, [nowhere; 2])?;
    let status = process.wait_for(async |_| Status::ask(binary, &data)).await?;
    // Not when it is started again on what an earlier one has left.
    if !process.folder.path().join(CLIENT).exists() {
        allow_clients(&data, status.listener("api")?, process.folder.path()).await?;
        fs::copy(&status.ca_file, process.folder.path().join(CA))?;
    }
    process.api = Some(status.listener("api")?);
    process.address = status.listener("bench")?;
    process.tls_address = status.listener("mqtt")?;
    Ok(process)
}

/// `gnomon status --json`, as far as it matters here.
#[derive(Deserialize)]
struct Status {
    ready: bool,
    #[serde(default)]
    listeners: Vec<StatusListener>,
    #[serde(default)]
    ca_file: PathBuf,
}

#[derive(Deserialize)]
struct StatusListener {
    name: String,
    address: SocketAddr,
}

impl Status {
    /// The status of a host that is ready.
    fn ask(binary: &Path, data: &Path) -> Option<Self> {
        let mut command = Command::new(binary);
        command.arg("status").arg("--json").arg("--data").arg(data).stdin(Stdio::null());
        let output = command.output().ok()?;
        let status: Self = serde_json::from_slice(&output.stdout).ok()?;
        status.ready.then_some(status)
    }

    fn listener(&self, name: &str) -> Result<SocketAddr> {
        let found = self.listeners.iter().find(|listener| listener.name == name);
        Ok(found.ok_or_else(|| format!("the host has no listener {name}"))?.address)
    }
}

/// A client of the API at this address, with the key that the host wrote down.
fn api_client(data: &Path, api: SocketAddr) -> Result<Client> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct KeyFile {
        access_key_id: String,
        secret_access_key: String,
    }
    let key = fs::read(data.join("keys/administrator.json"))?;
    let key: KeyFile = serde_json::from_slice(&key)?;
    let (id, secret) = (&key.access_key_id, &key.secret_access_key);
    Ok(Client::new(&format!("http://{api}"), "us-east-1", id, secret, Arc::new(SystemClock))?)
}

/// A policy that allows everything: for anonymous clients on the listener `bench`, and for a
/// certificate, which is written to `folder`.
async fn allow_clients(data: &Path, api: SocketAddr, folder: &Path) -> Result<()> {
    let client = api_client(data, api)?;
    let document = json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": "iot:*", "Resource": "*" }],
    });
    let body = json!({ "policyDocument": document.to_string() }).to_string();
    client.call("iot", Method::POST, &["policies", "BenchPolicy"], &[], &[], body).await?;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Certificate {
        certificate_arn: String,
        certificate_pem: String,
        key_pair: Keys,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Keys {
        private_key: String,
    }
    let active = [("setAsActive", "true")];
    let made = client.call("iot", Method::POST, &["keys-and-certificate"], &active, &[], "");
    let made: Certificate = serde_json::from_slice(&made.await?)?;
    fs::write(folder.join(CLIENT), made.certificate_pem)?;
    fs::write(folder.join(CLIENT_KEY), made.key_pair.private_key)?;
    let body = json!({ "target": made.certificate_arn }).to_string();
    client.call("iot", Method::PUT, &["target-policies", "BenchPolicy"], &[], &[], body).await?;
    Ok(())
}

/// utime + stime: fields 14 and 15 of proc(5); the name in field 2 may hold anything but `)`.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// Allows this process and those it starts as many files as the system lets them; returns how
/// many.
pub fn raise_file_limit() -> io::Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_does_not_move_the_fields() {
        let stat = "7 (a) b 1 2) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 5 6 20 0 1 0 99 1 2";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("7 (gnomon) S 1"), None);
    }
}
