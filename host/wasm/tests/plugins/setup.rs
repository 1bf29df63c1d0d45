//! What the tests share: guests, a host around them, and an HTTP server.

use async_trait::async_trait;
use gnomon_core::actions::{Action, ActionContext, ActionError, Failure};
use gnomon_core::ids::{PluginName, RuleName};
use gnomon_core::message::{Message, Publisher as Author};
use gnomon_core::metrics::Metrics;
use gnomon_core::random::SeededRandom;
use gnomon_core::time::{ManualClock, Timestamp};
use gnomon_core::topic::TopicName;
use gnomon_wasm::{LoadError, Plugins, Ports, PublishError, Publisher};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Manifest of the probe without any wish but the listener that every probe has.
pub const PROBE: &str = "name = 'probe'\nversion = '0.1.0'\n[asks]\nlisten = true\n";

/// Path of a guest's component, or `None` after saying that the test is skipped.
pub fn guest(name: &str) -> Option<PathBuf> {
    static GUESTS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let plugins = GUESTS.get_or_init(|| {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        if !cargo_gnomon::is_target_installed(&workspace).unwrap() {
            return None;
        }
        let names = ["probe", "functions", "webhook", "jwt-authorizer", "http-ingest", "geo"];
        let built = cargo_gnomon::build(&workspace, &names, &mut |_| {}).unwrap();
        Some(built[0].folder.parent().unwrap().to_owned())
    });
    if plugins.is_none() {
        println!("skipped: run `rustup target add {}` to test plugins", cargo_gnomon::TARGET);
    }
    Some(plugins.as_ref()?.join(name).join("plugin.wasm"))
}

/// A host with plugins, and what it saw of them.
pub struct Host {
    pub plugins: Plugins,
    pub clock: Arc<ManualClock>,
    pub metrics: Arc<Metrics>,
    pub published: Arc<Recorder>,
    pub data: TempDir,
}

#[derive(Default)]
pub struct Recorder(pub Mutex<Vec<Message>>);

#[async_trait]
impl Publisher for Recorder {
    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        if message.payload.len() > 1_000 {
            return Err(PublishError::TooLarge { limit: 1_000 });
        }
        self.0.lock().unwrap().push(message);
        Ok(())
    }
}

/// A folder with a component and a manifest.
pub fn folder(wasm: &[u8], manifest: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("plugin.wasm"), wasm).unwrap();
    fs::write(dir.path().join("plugin.toml"), manifest).unwrap();
    dir
}

impl Host {
    /// Loads plugins: name, folder, and the rest of `[plugins.<name>]`.
    pub async fn load(plugins: &[(&str, &Path, Value)]) -> Result<Self, LoadError> {
        Self::load_in(tempfile::tempdir().unwrap(), plugins).await
    }

    pub async fn load_in(
        data: TempDir,
        plugins: &[(&str, &Path, Value)],
    ) -> Result<Self, LoadError> {
        let mut configs = BTreeMap::new();
        for (name, path, config) in plugins {
            let mut config = config.clone();
            config["path"] = json!(path);
            configs.insert((*name).into(), serde_json::from_value(config).unwrap());
        }
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let metrics = Arc::<Metrics>::default();
        let published = Arc::<Recorder>::default();
        let ports = Ports {
            clock: clock.clone(),
            random: Arc::new(SeededRandom::new(1)),
            metrics: metrics.clone(),
            publisher: published.clone(),
        };
        let plugins = Plugins::load(configs, data.path(), ports).await?;
        Ok(Self { plugins, clock, metrics, published, data })
    }

    /// One probe with the given wishes and grants; `None` when the test is skipped.
    pub async fn probe(asks: &str, config: Value) -> Option<Self> {
        let folder = probe_folder(asks)?;
        Some(Self::load(&[("probe", folder.path(), listening(config))]).await.unwrap())
    }

    pub fn action(&self, name: &str) -> Arc<dyn Action> {
        self.plugins.action(&plugin_name(name)).unwrap()
    }

    /// What the plugin says to an order.
    pub async fn order(&self, name: &str, order: Value) -> Result<String, ActionError> {
        let failures = invoke(&*self.action(name), order, &["payload"]).await?;
        let prefix = format!("plugin {name}: ");
        Ok(failures[0].reason.strip_prefix(&prefix).unwrap().into())
    }
}

pub fn probe_folder(asks: &str) -> Option<TempDir> {
    let wasm = fs::read(guest("probe")?).unwrap();
    Some(folder(&wasm, &format!("{PROBE}{asks}")))
}

pub fn listening(mut config: Value) -> Value {
    config["listen"] = json!({ "bind": "127.0.0.1:0" });
    config
}

pub fn plugin_name(name: &str) -> PluginName {
    PluginName::parse(name).unwrap()
}

pub async fn invoke(
    action: &dyn Action,
    params: Value,
    payloads: &[&str],
) -> Result<Vec<Failure>, ActionError> {
    let context = ActionContext {
        rule: RuleName::parse("HighTemp").unwrap(),
        action: 0,
        params: params.to_string().into(),
        is_error_action: false,
        lane: "rule/HighTemp/0".into(),
        positions: Vec::new(),
    };
    let message = |payload: &&str| {
        let topic = TopicName::parse("sensor/temp").unwrap();
        let author = Arc::new(Author::default());
        Arc::new(Message::new(topic, (*payload).to_owned(), author, Timestamp::from_millis(1)))
    };
    action.invoke(&context, &payloads.iter().map(message).collect::<Vec<_>>()).await
}

/// An HTTP server that remembers requests; it stops when it is dropped.
pub struct Server {
    pub origin: String,
    pub requests: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Answers every request with the text; an empty text never answers.
    pub async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let mut tasks = JoinSet::new();
        let seen = requests.clone();
        tasks.spawn(async move {
            let mut open = Vec::new();
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let request = read_request(&mut socket).await;
                seen.lock().unwrap().push(request);
                socket.write_all(answer.as_bytes()).await.unwrap();
                if answer.is_empty() {
                    open.push(socket);
                }
            }
        });
        Self { origin, requests, _tasks: tasks }
    }
}

/// Head and body, the latter as long as `content-length` says.
async fn read_request(socket: &mut tokio::net::TcpStream) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1_024];
    loop {
        let n = socket.read(&mut buffer).await.unwrap();
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if n == 0 || body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return text;
        }
    }
}
