//! `plugin.toml`: what a plugin is called and what it asks for.
//!
//! Asking grants nothing; see [`crate::capability`].

use serde::Deserialize;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The plugin's own name; the operator may call it otherwise.
    pub name: String,
    /// The plugin's version, for people.
    pub version: String,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// What it needs.
    #[serde(default)]
    pub asks: Asks,
}

/// What a plugin needs from its operator.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Asks {
    /// Topic filters to publish to.
    pub publish: Ask,
    /// Origins to send HTTP requests to.
    pub http: Ask,
    /// Names of secrets to read.
    pub secrets: Ask,
    /// Names of credentials for HTTP requests.
    pub credentials: Ask,
    /// An HTTP listener of its own.
    pub listen: bool,
}

/// Things that a plugin asks for: a list of them, `"operator"` when only the operator can know, or
/// `"optional"` when it can also do without.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "AskText")]
pub enum Ask {
    /// Exactly these.
    List(Vec<String>),
    /// Whatever the operator grants, and something has to be.
    Operator,
    /// Whatever the operator grants, if anything.
    Optional,
}

impl Default for Ask {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a list of texts, \"operator\" or \"optional\"")]
enum AskText {
    Word(String),
    List(Vec<String>),
}

impl TryFrom<AskText> for Ask {
    type Error = &'static str;

    fn try_from(text: AskText) -> Result<Self, Self::Error> {
        match text {
            AskText::List(list) => Ok(Self::List(list)),
            AskText::Word(word) if word == "operator" => Ok(Self::Operator),
            AskText::Word(word) if word == "optional" => Ok(Self::Optional),
            AskText::Word(_) => Err("expected a list of texts, \"operator\" or \"optional\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_lists_what_it_needs_or_leaves_it_to_the_operator() {
        let manifest: Manifest = toml::from_str(
            "name = 'a'\nversion = '1'\n[asks]\nhttp = 'operator'\npublish = ['a/#']\nlisten = true",
        )
        .unwrap();
        assert_eq!(manifest.asks.http, Ask::Operator);
        assert_eq!(manifest.asks.publish, Ask::List(vec!["a/#".into()]));
        assert_eq!(manifest.asks.secrets, Ask::default());
        assert!(manifest.asks.listen);
    }

    #[test]
    fn a_malformed_manifest_says_where_and_what() {
        for (text, expected) in [
            ("name = 'a'", "missing field `version`"),
            ("name = 'a'\nversion = '1'\nask = 1", "unknown field `ask`"),
            ("name = 'a'\nversion = '1'\n[asks]\nhttp = 'all'", "\"operator\" or \"optional\""),
            ("name = 'a'\nversion = '1'\n[asks]\nhttp = 3", "\"operator\" or \"optional\""),
        ] {
            let error = toml::from_str::<Manifest>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
