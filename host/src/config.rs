//! Configuration: one documented struct, read from a TOML file; the only place that reads files
//! and environment on the operator's behalf. Unknown keys are refused.

use gnomon_core::ids::Account;
use gnomon_core::limits::Limits;
use gnomon_core::quarantine::QuarantineConfig;
use gnomon_core::session::{Compat, Redirect};
use gnomon_wasm::PluginConfig;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// The whole configuration file, `gnomon.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What clients call the host: part of its certificate and of `describe-endpoint`.
    pub endpoint: EndpointConfig,
    /// Region and account of all ARNs.
    pub account: AccountConfig,
    /// Bounds; see `gnomon limits`.
    pub limits: Limits,
    /// Threads that MQTT connections run on. Default: half of the machine's processors, at least 1.
    pub connection_threads: Option<NonZeroUsize>,
    /// Listeners by name. The three that are there by default (`mqtt`, `https`, `api`) can be
    /// changed or switched off (`enabled = false`) by name.
    pub listeners: BTreeMap<String, ListenerConfig>,
    /// Plugins by name, with what each is granted.
    pub plugins: BTreeMap<String, PluginConfig>,
    /// Custom authorizers.
    pub authorizers: AuthorizersConfig,
    /// When a client becomes silent that sends what is malformed, or breaks its limits, too often.
    pub quarantine: QuarantineConfig,
}

/// What clients call the host.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EndpointConfig {
    /// Host name or address that `describe-endpoint` answers. Default `localhost`.
    pub host: String,
    /// Further names and addresses for the server certificate; `localhost`, `127.0.0.1`, `::1`
    /// and `host` are always in it.
    pub names: Vec<String>,
}

impl EndpointConfig {
    /// What the server certificate is for, but for those that are always in it.
    pub fn all_names(&self) -> Vec<String> {
        let mut names = self.names.clone();
        names.push(self.host.clone());
        names
    }
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self { host: "localhost".into(), names: Vec::new() }
    }
}

/// Region and account of all ARNs.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountConfig {
    /// Default `us-east-1`.
    pub region: String,
    /// Twelve digits. Default `123456789012`.
    pub id: String,
}

impl Default for AccountConfig {
    fn default() -> Self {
        let account = Account::default();
        Self { region: account.region.to_string(), id: account.id.to_string() }
    }
}

/// One listener. What is left out keeps its default; a new listener needs `bind` and `protocol`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerConfig {
    /// False: not opened. Default true.
    pub enabled: Option<bool>,
    /// Address and port, e.g. `"[::]:8883"`; port 0 takes a free one.
    pub bind: Option<SocketAddr>,
    /// What is spoken.
    pub protocol: Option<ListenerProtocol>,
    /// Default true, but for `api`. Without TLS only loopback addresses are bound.
    pub tls: Option<bool>,
    /// Plain TCP beyond loopback. Default false.
    pub insecure: Option<bool>,
    /// Policy for MQTT clients without credentials, and for all without certificate while there is
    /// no default authorizer; without it they are refused.
    pub anonymous_policy: Option<String>,
    /// Connections at the same time; more wait. Default 10,000.
    pub connections_max: Option<usize>,
    /// Where MQTT and AWS disagree. Default `mqtt`.
    pub compat: Option<Compat>,
    /// Every MQTT client is sent elsewhere: `{ to = "host:port", permanent = true }`.
    pub redirect: Option<Redirect>,
    /// Limits of this listener's MQTT clients, where they differ from `[limits]`; the keys are
    /// those of [`LISTENER_LIMITS`].
    pub limits: Option<toml::Table>,
    /// Connections accepted per second, and at once after a pause; more wait in the system's
    /// backlog. Bounds what handshakes cost when all devices come back at once. Default 0: no limit.
    pub connects_per_second: Option<u32>,
    /// Every connection begins with a PROXY protocol v2 header, and one without is closed. For a
    /// listener behind a load balancer, bound where nobody else reaches it: whoever does can claim
    /// any address. Default false.
    pub proxy_protocol: Option<bool>,
}

/// What a listener may have limits of its own for.
pub const LISTENER_LIMITS: [&str; 14] = [
    "client_id_bytes",
    "content_type_bytes",
    "correlation_data_bytes",
    "filters_per_subscribe",
    "inflight_messages",
    "keep_alive_s",
    "packet_bytes",
    "payload_bytes",
    "publishes_per_second",
    "session_expiry_s",
    "topic_aliases",
    "topic_bytes",
    "topic_slashes",
    "user_properties_bytes",
];

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerProtocol {
    /// MQTT.
    Mqtt,
    /// HTTPS data plane and MQTT over WebSocket.
    Https,
    /// AWS-compatible REST, metrics and health.
    Api,
}

/// Plugins as custom authorizers, each under its own name. The registry has others
/// (`create-authorizer`), which go before them.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthorizersConfig {
    /// Plugin that decides about clients without another credential, while the registry has no
    /// default authorizer.
    pub default: Option<String>,
    /// Query parameter of the user name, or HTTP header, that holds the token for these plugins.
    pub token_key_name: Option<String>,
    /// Authentication methods of MQTT 5.0 (4.12), and the plugin that decides about each.
    pub methods: BTreeMap<String, String>,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, or not ours; the source has line and column.
    #[error("the configuration {path} cannot be used")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value that the types cannot refuse.
    #[error("configuration: {0}")]
    Value(String),
}

impl Config {
    /// Reads the file; without one all defaults hold.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let read = |source| ConfigError::Read { path: path.into(), source };
        let text = std::fs::read_to_string(path).map_err(read)?;
        let parse = |source| ConfigError::Parse { path: path.into(), source: Box::new(source) };
        let mut config: Self = toml::from_str(&text).map_err(parse)?;
        // Paths in the file are relative to the file, not to wherever the host is started.
        let folder = path.parent().unwrap_or(Path::new("."));
        for plugin in config.plugins.values_mut() {
            plugin.path = folder.join(&plugin.path);
            for secret in plugin.grants.secrets.values_mut() {
                secret.file = folder.join(&secret.file);
            }
            for credential in plugin.grants.credentials.values_mut() {
                credential.file = folder.join(&credential.file);
            }
        }
        Ok(config)
    }

    /// Region and account.
    ///
    /// # Errors
    /// [`ConfigError::Value`] when the account is not twelve digits.
    pub fn account(&self) -> Result<Account, ConfigError> {
        let AccountConfig { region, id } = &self.account;
        if id.len() != 12 || !id.bytes().all(|b| b.is_ascii_digit()) {
            let text = format!("account.id is {id:?}; it must be twelve digits");
            return Err(ConfigError::Value(text));
        }
        if region.is_empty() || !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            let text = format!("account.region is {region:?}; give a region such as us-east-1");
            return Err(ConfigError::Value(text));
        }
        Ok(Account { region: region.as_str().into(), id: id.as_str().into() })
    }

    /// The listeners to open: the defaults and the operator's, merged by name.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for a new listener without address or protocol.
    pub fn listeners(&self) -> Result<Vec<ListenerPlan>, ConfigError> {
        let any = Ipv4Addr::UNSPECIFIED;
        let defaults = [
            ("mqtt", SocketAddr::from((any, 8883)), ListenerProtocol::Mqtt, true),
            ("https", SocketAddr::from((any, 8443)), ListenerProtocol::Https, true),
            ("api", SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)), ListenerProtocol::Api, false),
        ];
        let mut merged: BTreeMap<String, ListenerConfig> = BTreeMap::new();
        for (name, bind, protocol, tls) in defaults {
            let (bind, protocol, tls) = (Some(bind), Some(protocol), Some(tls));
            let config = ListenerConfig { bind, protocol, tls, ..ListenerConfig::default() };
            merged.insert(name.into(), config);
        }
        for (name, config) in &self.listeners {
            let entry = merged.entry(name.clone()).or_default();
            *entry = config.clone().over(entry.clone());
        }
        let plans = merged.into_iter().filter(|(_, config)| config.enabled != Some(false));
        plans.map(|(name, config)| config.plan(name, &self.limits)).collect()
    }

    /// Threads that MQTT connections run on.
    pub fn connection_threads(&self) -> NonZeroUsize {
        self.connection_threads.unwrap_or_else(|| {
            let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
            NonZeroUsize::new(processors / 2).unwrap_or(NonZeroUsize::MIN)
        })
    }
}

/// A listener with nothing left open.
#[derive(Debug)]
pub struct ListenerPlan {
    /// Its name.
    pub name: String,
    /// Address and port.
    pub bind: SocketAddr,
    /// What is spoken.
    pub protocol: ListenerProtocol,
    /// With TLS.
    pub tls: bool,
    /// Plain TCP beyond loopback.
    pub insecure: bool,
    /// Policy for clients without credentials.
    pub anonymous_policy: Option<String>,
    /// Connections at the same time.
    pub connections_max: usize,
    /// Where MQTT and AWS disagree.
    pub compat: Compat,
    /// Where all clients are sent.
    pub redirect: Option<Redirect>,
    /// The host's, and the listener's own.
    pub limits: Limits,
    /// Connections accepted per second; 0: no limit.
    pub connects_per_second: u32,
    /// A PROXY protocol v2 header comes first.
    pub proxy_protocol: bool,
}

/// Connections of a listener unless the operator says otherwise.
pub const CONNECTIONS_MAX: usize = 10_000;

impl ListenerConfig {
    fn over(self, defaults: Self) -> Self {
        Self {
            enabled: self.enabled.or(defaults.enabled),
            bind: self.bind.or(defaults.bind),
            protocol: self.protocol.or(defaults.protocol),
            tls: self.tls.or(defaults.tls),
            insecure: self.insecure.or(defaults.insecure),
            anonymous_policy: self.anonymous_policy.or(defaults.anonymous_policy),
            connections_max: self.connections_max.or(defaults.connections_max),
            compat: self.compat.or(defaults.compat),
            redirect: self.redirect.or(defaults.redirect),
            limits: self.limits.or(defaults.limits),
            connects_per_second: self.connects_per_second.or(defaults.connects_per_second),
            proxy_protocol: self.proxy_protocol.or(defaults.proxy_protocol),
        }
    }

    fn plan(self, name: String, limits: &Limits) -> Result<ListenerPlan, ConfigError> {
        let missing =
            |key| ConfigError::Value(format!("listener {name:?} needs `{key}`; see the README"));
        Ok(ListenerPlan {
            bind: self.bind.ok_or_else(|| missing("bind"))?,
            protocol: self.protocol.ok_or_else(|| missing("protocol"))?,
            tls: self.tls.unwrap_or(true),
            insecure: self.insecure.unwrap_or(false),
            anonymous_policy: self.anonymous_policy,
            connections_max: self.connections_max.unwrap_or(CONNECTIONS_MAX),
            compat: self.compat.unwrap_or_default(),
            redirect: self.redirect,
            limits: match self.limits {
                None => limits.clone(),
                Some(own) => own_limits(&name, limits, own)?,
            },
            connects_per_second: self.connects_per_second.unwrap_or(0),
            proxy_protocol: self.proxy_protocol.unwrap_or(false),
            name,
        })
    }
}

/// The host's limits with those of the listener over them.
fn own_limits(name: &str, limits: &Limits, own: toml::Table) -> Result<Limits, ConfigError> {
    let value = |text: String| ConfigError::Value(format!("listener {name:?}: limits: {text}"));
    if let Some(key) = own.keys().find(|key| !LISTENER_LIMITS.contains(&key.as_str())) {
        let text = format!("`{key}` is not one of a listener's: {}", LISTENER_LIMITS.join(", "));
        return Err(value(text));
    }
    let mut merged = toml::Table::try_from(limits).map_err(|error| value(error.to_string()))?;
    merged.extend(own);
    merged.try_into().map_err(|error: toml::de::Error| value(error.message().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_open_three_listeners_and_only_loopback_is_plain() {
        let listeners = Config::default().listeners().unwrap();
        let seen: Vec<_> = listeners.iter().map(|it| (it.name.as_str(), it.tls)).collect();
        assert_eq!(seen, [("api", false), ("https", true), ("mqtt", true)]);
        assert!(listeners.iter().all(|it| it.tls || it.bind.ip().is_loopback()));
    }

    #[test]
    fn a_listener_is_changed_by_name_and_added_with_address_and_protocol() {
        let config: Config = toml::from_str(
            "[listeners.mqtt]\nbind = '127.0.0.1:0'\n[listeners.https]\nenabled = false\n\
             [listeners.plain]\nbind = '127.0.0.1:1883'\nprotocol = 'mqtt'\ntls = false\n",
        )
        .unwrap();
        let listeners = config.listeners().unwrap();
        let seen: Vec<_> =
            listeners.iter().map(|it| (it.name.as_str(), it.bind.port(), it.tls)).collect();
        assert_eq!(seen, [("api", 8080, false), ("mqtt", 0, true), ("plain", 1883, false)]);
    }

    #[test]
    fn a_listener_has_its_own_limits_over_those_of_the_host() {
        let config: Config = toml::from_str(
            "[limits]\ntopic_bytes = 99\nkeep_alive_s = 60\n\
             [listeners.mqtt]\ncompat = 'aws'\nredirect = { to = 'elsewhere:8883' }\n\
             limits = { keep_alive_s = 20 }\n",
        )
        .unwrap();
        let mqtt = config.listeners().unwrap().pop().unwrap();
        assert_eq!((mqtt.limits.topic_bytes, mqtt.limits.keep_alive_s), (99, 20));
        let redirect = Redirect { to: "elsewhere:8883".into(), permanent: false };
        assert_eq!((mqtt.compat, mqtt.redirect), (Compat::Aws, Some(redirect)));
    }

    #[test]
    fn mistakes_are_named() {
        let unknown = toml::from_str::<Config>("[limits]\npayload_byte = 1\n").unwrap_err();
        assert!(unknown.to_string().contains("payload_byte"), "{unknown}");
        for (bad, why) in [
            ("queue_messages = 60001", "at most 60000 messages can wait"),
            ("inflight_messages = 0", "no message of QoS 1 or 2 could be sent"),
        ] {
            let error = toml::from_str::<Config>(&format!("[limits]\n{bad}\n")).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        let error = toml::from_str::<Config>("[quarantine]\noffences = 0\n").unwrap_err();
        assert!(error.to_string().contains("offences must be 1 to 100"), "{error}");
        let own = "[listeners.mqtt.limits]\ninflight_messages = 0\n";
        let error = toml::from_str::<Config>(own).unwrap().listeners().unwrap_err().to_string();
        assert!(error.contains("no message of QoS 1 or 2 could be sent"), "{error}");
        let config: Config = toml::from_str("[listeners.x]\nprotocol = 'mqtt'\n").unwrap();
        let error = config.listeners().unwrap_err().to_string();
        assert_eq!(error, "configuration: listener \"x\" needs `bind`; see the README");
        let config: Config = toml::from_str("[listeners.mqtt.limits]\nrules = 1\n").unwrap();
        let error = config.listeners().unwrap_err().to_string();
        assert!(
            error.starts_with("configuration: listener \"mqtt\": limits: `rules` is not one of")
        );
        let config: Config = toml::from_str("[listeners.mqtt.limits]\ntopic_bytes = -1\n").unwrap();
        let error = config.listeners().unwrap_err().to_string();
        assert!(error.contains("listener \"mqtt\": limits: "), "{error}");
        let config: Config = toml::from_str("[account]\nid = '12'\n").unwrap();
        assert!(config.account().is_err());
    }
}
