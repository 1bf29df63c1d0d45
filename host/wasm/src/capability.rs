//! What a plugin may do: asked for in its manifest AND allowed by the operator.
//!
//! In: [`Asks`] and [`Grants`], when the plugin is loaded. Out: [`Capabilities`], asked at every
//! call of an import. A plugin that asks for more than it is granted is refused at load; what it
//! did not ask for is refused at the call. Both texts have the line that would change it.

use crate::config::{CredentialConfig, Grants};
use crate::manifest::{Ask, Asks};
use gnomon_core::topic::{TopicFilter, TopicName};
use http::{HeaderName, HeaderValue, Uri};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// What one plugin may do.
pub struct Capabilities {
    plugin: Arc<str>,
    publish: Vec<TopicFilter>,
    http: Vec<Origin>,
    secrets: BTreeMap<String, Vec<u8>>,
    credentials: BTreeMap<String, Credential>,
}

/// A header that the host adds to requests for some origins.
struct Credential {
    origins: Vec<Origin>,
    header: HeaderName,
    value: HeaderValue,
}

impl Capabilities {
    /// What is both asked for and granted.
    ///
    /// # Errors
    /// A text for the operator: a malformed grant, an unreadable secret, or the configuration
    /// line that is missing.
    pub fn resolve(plugin: &str, asks: &Asks, grants: &Grants) -> Result<Self, String> {
        let filter = |text: &String| {
            TopicFilter::parse(text).map_err(|e| format!("publish filter {text:?}: {e}"))
        };
        let origin = |text: &String| Origin::parse(text);
        let granted_http = parse_all(&grants.http, origin)?;
        let mut credentials = BTreeMap::new();
        for name in names("credentials", &asks.credentials, grants.credentials.keys(), plugin)? {
            let credential = Credential::read(&grants.credentials[&name])
                .map_err(|e| format!("credential {name}: {e}"))?;
            credentials.insert(name, credential);
        }
        let mut secrets = BTreeMap::new();
        for name in names("secrets", &asks.secrets, grants.secrets.keys(), plugin)? {
            let secret = read_secret(&grants.secrets[&name].file)
                .map_err(|e| format!("secret {name}: {e}"))?;
            secrets.insert(name, secret);
        }
        Ok(Self {
            plugin: plugin.into(),
            publish: targets(
                "publish",
                &asks.publish,
                parse_all(&grants.publish, filter)?,
                filter,
                covers,
                plugin,
            )?,
            http: targets("http", &asks.http, granted_http, origin, Origin::covers, plugin)?,
            secrets,
            credentials,
        })
    }

    /// May the plugin publish to the topic?
    ///
    /// # Errors
    /// What to change so that it may.
    pub fn check_publish(&self, topic: &TopicName) -> Result<(), String> {
        if self.publish.iter().any(|filter| filter.matches(topic)) {
            return Ok(());
        }
        Err(self.denied("publish", &format!("{topic:?}")))
    }

    /// May the plugin send a request to the URL?
    ///
    /// # Errors
    /// What to change so that it may.
    pub fn check_http(&self, url: &Uri) -> Result<(), String> {
        let origin = Origin::of(url)?;
        if self.http.iter().any(|granted| granted.covers(&origin)) {
            return Ok(());
        }
        Err(self.denied("http", &format!("\"{origin}\"")))
    }

    /// The header of a credential for a URL.
    ///
    /// # Errors
    /// What to change so that the plugin may use it there.
    pub fn credential(&self, name: &str, url: &Uri) -> Result<(&HeaderName, &HeaderValue), String> {
        let Some(credential) = self.credentials.get(name) else {
            return Err(self.denied("credentials", name));
        };
        let origin = Origin::of(url)?;
        if !credential.origins.iter().any(|bound| bound.covers(&origin)) {
            return Err(format!(
                "plugin {plugin} may not send credential {name} to {origin}; to allow it, add \
                 \"{origin}\" to `origins` of [plugins.{plugin}.grants.credentials.{name}]",
                plugin = self.plugin
            ));
        }
        Ok((&credential.header, &credential.value))
    }

    /// A secret by name.
    ///
    /// # Errors
    /// What to change so that the plugin may read it.
    pub fn secret(&self, name: &str) -> Result<&[u8], String> {
        match self.secrets.get(name) {
            Some(secret) => Ok(secret),
            None => Err(self.denied("secrets", name)),
        }
    }

    fn denied(&self, kind: &str, target: &str) -> String {
        format!(
            "plugin {plugin} was not granted `{kind}` {target}; to allow it, its plugin.toml has \
             to ask for it in [asks], and [plugins.{plugin}.grants] in the configuration to say \
             {line}",
            plugin = self.plugin,
            line = grant_line(kind, target)
        )
    }
}

impl Credential {
    fn read(config: &CredentialConfig) -> Result<Self, String> {
        let secret = read_secret(&config.file)?;
        let mut value = config.prefix.clone().into_bytes();
        value.extend(secret);
        let mut value = HeaderValue::from_bytes(&value)
            .map_err(|_| "prefix and secret make no HTTP header value".to_owned())?;
        value.set_sensitive(true);
        Ok(Self {
            origins: parse_all(&config.origins, |text| Origin::parse(text))?,
            header: HeaderName::from_bytes(config.header.as_bytes())
                .map_err(|_| format!("{:?} is no HTTP header name", config.header))?,
            value,
        })
    }
}

fn read_secret(file: &Path) -> Result<Vec<u8>, String> {
    let secret = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(secret.trim_ascii_end().into())
}

fn parse_all<T>(
    texts: &[String],
    parse: impl Fn(&String) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    texts.iter().map(parse).collect()
}

/// Asked names that are granted; all granted ones when the choice is the operator's.
fn names<'a>(
    kind: &str,
    ask: &Ask,
    granted: impl Iterator<Item = &'a String> + Clone,
    plugin: &str,
) -> Result<Vec<String>, String> {
    let Ask::List(asked) = ask else { return Ok(granted.cloned().collect()) };
    match asked.iter().find(|name| !granted.clone().any(|granted| granted == *name)) {
        Some(missing) => Err(asks_too_much(plugin, kind, missing)),
        None => Ok(asked.clone()),
    }
}

/// Asked filters or origins that are granted; all granted ones when the choice is the
/// operator's, who then has to make one.
fn targets<T>(
    kind: &str,
    ask: &Ask,
    granted: Vec<T>,
    parse: impl Fn(&String) -> Result<T, String>,
    covers: impl Fn(&T, &T) -> bool,
    plugin: &str,
) -> Result<Vec<T>, String> {
    let asked = match ask {
        Ask::List(asked) => asked,
        Ask::Operator if granted.is_empty() => {
            let example =
                if kind == "http" { "\"https://host.example\"" } else { "\"some/topic/#\"" };
            return Err(format!(
                "leaves the choice of `{kind}` to you; say in \
                 [plugins.{plugin}.grants], for instance: {kind} = [{example}]"
            ));
        }
        Ask::Operator | Ask::Optional => return Ok(granted),
    };
    let mut effective = Vec::with_capacity(asked.len());
    for text in asked {
        let target = parse(text).map_err(|e| format!("plugin.toml: {e}"))?;
        if !granted.iter().any(|granted| covers(granted, &target)) {
            return Err(asks_too_much(plugin, kind, &format!("{text:?}")));
        }
        effective.push(target);
    }
    Ok(effective)
}

fn asks_too_much(plugin: &str, kind: &str, target: &str) -> String {
    format!(
        "asks for `{kind}` {target}, which is not granted; to allow it, say in \
         [plugins.{plugin}.grants]: {}",
        grant_line(kind, target)
    )
}

fn grant_line(kind: &str, target: &str) -> String {
    match kind {
        "secrets" => format!("secrets.{target} = {{ file = \"…\" }}"),
        "credentials" => format!("credentials.{target} = {{ file = \"…\", origins = [\"…\"] }}"),
        _ => format!("{kind} = [{target}]"),
    }
}

/// True when every topic that `asked` matches is matched by `granted`.
fn covers(granted: &TopicFilter, asked: &TopicFilter) -> bool {
    let reserved = asked.pattern().starts_with('$');
    if reserved && granted.pattern().starts_with(['+', '#']) {
        return false;
    }
    let mut asked = asked.levels();
    for level in granted.levels() {
        match (level, asked.next()) {
            ("#", _) => return true,
            ("+", Some(asked)) if asked != "#" => {}
            (level, Some(asked)) if level == asked => {}
            _ => return false,
        }
    }
    asked.next().is_none()
}

/// Scheme, host and port (RFC 6454); as a grant the host may begin with `*.`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    https: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// From the text of a grant.
    fn parse(text: &str) -> Result<Self, String> {
        let malformed = || {
            format!("origin {text:?} must read https://host or http://host:port, without a path")
        };
        // An asterisk is no character of a URI's host; it stands for one or more labels.
        let (text_plain, wildcard) = match text.split_once("://*.") {
            Some((scheme, rest)) => (format!("{scheme}://{rest}"), true),
            None => (text.to_owned(), false),
        };
        let url: Uri = text_plain.parse().map_err(|_| malformed())?;
        if url.path_and_query().is_some_and(|path| path.as_str() != "/") || text.ends_with('/') {
            return Err(malformed());
        }
        let mut origin = Self::of(&url).map_err(|_| malformed())?;
        if wildcard {
            if origin.address().is_some() || !origin.host.contains('.') {
                return Err(format!("origin {text:?}: the wildcard must stand before a domain"));
            }
            origin.host.insert_str(0, "*.");
        }
        Ok(origin)
    }

    /// The origin of a URL.
    fn of(url: &Uri) -> Result<Self, String> {
        let https = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("the URL must begin with https:// or http://".into()),
        };
        let authority = url.authority().ok_or("the URL has no host")?;
        if authority.as_str().contains('@') {
            return Err("the URL must not have a user name; use a credential".into());
        }
        let host = authority.host().to_ascii_lowercase();
        // The grammar of URIs allows an asterisk in a host; here it would read as a wildcard.
        if host.is_empty() || host.contains('*') {
            return Err("the URL has no host".into());
        }
        // `Uri` takes a port that is no number as none; then the text is longer than it should.
        let port = authority.port_u16();
        if port.is_none() && authority.as_str().len() != authority.host().len() {
            return Err("the URL's port is no number".into());
        }
        let port = port.unwrap_or(if https { 443 } else { 80 });
        Ok(Self { https, host, port })
    }

    /// True when `other` is the same origin, or a host below this one's wildcard.
    fn covers(&self, other: &Self) -> bool {
        if self.https != other.https || self.port != other.port {
            return false;
        }
        match self.host.strip_prefix("*.") {
            // A narrower wildcard is covered as well.
            Some(domain) => other
                .host
                .strip_suffix(domain)
                .is_some_and(|labels| labels.len() > 1 && labels.ends_with('.')),
            None => self.host == other.host,
        }
    }

    fn address(&self) -> Option<IpAddr> {
        self.host.trim_matches(['[', ']']).parse().ok()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default) = if self.https { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == default { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretConfig;

    fn list(items: &[&str]) -> Ask {
        Ask::List(items.iter().map(|&item| item.into()).collect())
    }

    fn capabilities(asks: &Asks, grants: &str) -> Result<Capabilities, String> {
        Capabilities::resolve("p", asks, &toml::from_str(grants).unwrap())
    }

    #[track_caller]
    fn check_url(grant: &str, url: &str, expected: bool) {
        let asks = Asks { http: Ask::Operator, ..Asks::default() };
        let capabilities = capabilities(&asks, &format!("http = [{grant:?}]")).unwrap();
        let allowed = url.parse::<Uri>().is_ok_and(|url| capabilities.check_http(&url).is_ok());
        assert_eq!(allowed, expected, "{grant} and {url}");
    }

    #[test]
    fn a_url_is_allowed_by_scheme_host_and_port() {
        check_url("https://a.example", "https://a.example/x?y", true);
        check_url("https://a.example", "https://A.Example:443/x", true);
        check_url("https://a.example", "http://a.example/", false);
        check_url("https://a.example", "https://a.example:8443/", false);
        check_url("https://a.example", "https://a.example.evil.test/", false);
        check_url("https://a.example", "https://a.example@evil.test/", false);
        check_url("https://a.example", "https://x@a.example/", false);
        check_url("https://a.example", "https://a.example:x/", false);
        check_url("https://*.a.example", "https://b.a.example/", true);
        check_url("https://*.a.example", "https://c.b.a.example/", true);
        check_url("https://*.a.example", "https://a.example/", false);
        check_url("https://*.a.example", "https://.a.example/", false);
        check_url("https://*.a.example", "https://evila.example/", false);
        check_url("http://127.0.0.1:9000", "http://127.0.0.1:9000/", true);
        check_url("http://127.0.0.1:9000", "http://localhost:9000/", false);
        check_url("http://[::1]:9000", "http://[::1]:9000/", true);
    }

    #[test]
    fn a_malformed_origin_is_refused_with_its_text() {
        let malformed = [
            "a.example",
            "https://a.example/path",
            "https://a.example/",
            "ftp://a.example",
            "https://*",
            "https://*.1.2.3.4",
            "https://*.com",
            "https://",
            "https://u@a.example",
        ];
        for text in malformed {
            let asks = Asks { http: Ask::Operator, ..Asks::default() };
            let Err(error) = capabilities(&asks, &format!("http = [{text:?}]")) else {
                panic!("{text} was taken")
            };
            assert!(error.contains(text), "{text}: {error}");
        }
    }

    #[track_caller]
    fn check_covers(granted: &str, asked: &str, expected: bool) {
        let [g, a] = [granted, asked].map(|text| TopicFilter::parse(text).unwrap());
        assert_eq!(covers(&g, &a), expected, "{granted} covers {asked}");
    }

    #[test]
    fn a_filter_covers_what_it_contains() {
        check_covers("a/#", "a/b/c", true);
        check_covers("a/#", "a/+/c", true);
        check_covers("a/#", "a/#", true);
        check_covers("a/#", "a", true);
        check_covers("a/#", "#", false);
        check_covers("a/+", "a/b", true);
        check_covers("a/+", "a/+", true);
        check_covers("a/+", "a/#", false);
        check_covers("a/b", "a/+", false);
        check_covers("#", "$aws/things/x", false);
        check_covers("$aws/#", "$aws/things/x", true);
    }

    #[test]
    fn a_plugin_that_can_do_without_gets_nothing_unless_it_is_granted() {
        let asks = Asks { http: Ask::Optional, ..Asks::default() };
        assert!(Capabilities::resolve("p", &asks, &Grants::default()).is_ok());
    }

    #[test]
    fn asking_for_more_than_granted_names_the_missing_line() {
        let cases = [
            (
                Asks { publish: list(&["a/#"]), ..Asks::default() },
                "asks for `publish` \"a/#\", which is not granted; to allow it, say in \
                 [plugins.p.grants]: publish = [\"a/#\"]",
            ),
            (
                Asks { http: list(&["https://b.example"]), ..Asks::default() },
                "asks for `http` \"https://b.example\", which is not granted; to allow \
                 it, say in [plugins.p.grants]: http = [\"https://b.example\"]",
            ),
            (
                Asks { secrets: list(&["key"]), ..Asks::default() },
                "asks for `secrets` key, which is not granted; to allow it, say in \
                 [plugins.p.grants]: secrets.key = { file = \"…\" }",
            ),
            (
                Asks { http: Ask::Operator, ..Asks::default() },
                "leaves the choice of `http` to you; say in [plugins.p.grants], for \
                 instance: http = [\"https://host.example\"]",
            ),
        ];
        for (asks, expected) in cases {
            assert_eq!(capabilities(&asks, "publish = ['a/b']").err().as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_was_granted_but_not_asked_for_is_denied() {
        let capabilities = capabilities(&Asks::default(), "publish = ['#']").unwrap();
        let error = capabilities.check_publish(&TopicName::parse("a").unwrap()).unwrap_err();
        assert!(error.contains("plugin.toml has to ask for it in [asks]"), "{error}");
        assert!(error.ends_with("publish = [\"a\"]"), "{error}");
    }

    #[test]
    fn a_credential_goes_to_its_own_origins_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "s3cret\n").unwrap();
        let grants = Grants {
            http: vec!["https://a.example".into(), "https://b.example".into()],
            secrets: [("key".into(), SecretConfig { file: file.clone() })].into(),
            credentials: [(
                "hook".into(),
                CredentialConfig {
                    file,
                    header: "authorization".into(),
                    prefix: "Bearer ".into(),
                    origins: vec!["https://a.example".into()],
                },
            )]
            .into(),
            ..Grants::default()
        };
        let asks = Asks {
            http: Ask::Operator,
            credentials: Ask::Operator,
            secrets: list(&["key"]),
            ..Asks::default()
        };
        let capabilities = Capabilities::resolve("p", &asks, &grants).unwrap();
        let url = Uri::from_static("https://a.example/x");
        assert_eq!(capabilities.credential("hook", &url).unwrap().1, "Bearer s3cret");
        let elsewhere = Uri::from_static("https://b.example/x");
        assert!(capabilities.credential("hook", &elsewhere).unwrap_err().contains("`origins`"));
        assert!(capabilities.credential("other", &url).is_err());
        assert_eq!(capabilities.secret("key").unwrap(), b"s3cret");
    }
}
