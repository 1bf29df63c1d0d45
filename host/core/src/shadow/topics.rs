//! The topics of shadows, and whom they mean.
//!
//! A request is published to `<shadow>/<operation>`, its answers to `<request topic>/<suffix>`,
//! where `<shadow>` is `$aws/things/{thing}/shadow` or `$aws/things/{thing}/shadow/name/{shadow}`.

use crate::ids::{NameError, ShadowName, ThingName};
use crate::storage::Key;
use crate::topic::{TopicFilter, TopicName};
use std::fmt;

/// The filters of all requests, classic and named.
pub fn request_filters() -> Vec<TopicFilter> {
    let mut filters = Vec::new();
    for shadow in ["$aws/things/+/shadow", "$aws/things/+/shadow/name/+"] {
        for operation in Operation::ALL {
            let filter = TopicFilter::parse(&format!("{shadow}/{}", operation.as_str()));
            filters.push(filter.expect("whole levels are wildcards"));
        }
    }
    filters
}

/// What is done to a shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read the document.
    Get,
    /// Merge a state into it.
    Update,
    /// Remove it.
    Delete,
    /// Tell the delta to a client that has just subscribed to it; nobody requests it by a topic.
    Remind,
}

impl Operation {
    /// Those that a topic requests.
    const ALL: [Self; 3] = [Self::Get, Self::Update, Self::Delete];

    /// The last level of the request topic; of [`Operation::Remind`] that of the topic before `delta`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Update | Self::Remind => "update",
            Self::Delete => "delete",
        }
    }
}

/// One shadow: of a thing, classic or named.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShadowId {
    /// Whose it is.
    pub thing: ThingName,
    /// Which one; `None` for the classic shadow.
    pub name: Option<ShadowName>,
}

impl ShadowId {
    /// What AWS calls it: its name, or the thing's for the classic shadow.
    pub fn display_name(&self) -> &str {
        self.name.as_ref().map_or(self.thing.as_str(), ShadowName::as_str)
    }

    /// Where the shadow is stored. All shadows of a thing are neighbours.
    pub fn key(&self) -> Key {
        let name = self.name.as_ref().map_or("", ShadowName::as_str);
        Key::new("shadow", &[self.thing.as_str(), name])
    }

    /// The topic of a request.
    pub fn topic(&self, operation: Operation) -> TopicName {
        let (thing, operation) = (&self.thing, operation.as_str());
        let topic = match &self.name {
            None => format!("$aws/things/{thing}/shadow/{operation}"),
            Some(name) => format!("$aws/things/{thing}/shadow/name/{name}/{operation}"),
        };
        TopicName::parse(&topic).expect("names have no wildcard and at most 192 bytes")
    }
}

impl fmt::Display for ShadowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            None => f.write_str(self.thing.as_str()),
            Some(name) => write!(f, "{}/{name}", self.thing),
        }
    }
}

/// What a request topic means; `None` when it is no request topic.
pub fn parse(topic: &TopicName) -> Option<(Operation, Result<ShadowId, NameError>)> {
    let rest = topic.as_str().strip_prefix("$aws/things/")?;
    let levels: Vec<&str> = rest.splitn(6, '/').collect();
    let (thing, name, operation) = match *levels {
        [thing, "shadow", operation] => (thing, None, operation),
        [thing, "shadow", "name", name, operation] => (thing, Some(name), operation),
        _ => return None,
    };
    let operation = Operation::ALL.into_iter().find(|known| known.as_str() == operation)?;
    let id = ThingName::parse(thing)
        .and_then(|thing| Ok(ShadowId { thing, name: name.map(ShadowName::parse).transpose()? }));
    Some((operation, id))
}

/// The shadow whose delta a filter names; `None` for all others, those with wildcards too.
pub(super) fn delta_of(filter: &str) -> Option<ShadowId> {
    let request = TopicName::parse(filter.strip_suffix("/delta")?).ok()?;
    match parse(&request)? {
        (Operation::Update, id) => id.ok(),
        _ => None,
    }
}

/// The topic of an answer to a request.
pub(super) fn answer(request: &TopicName, suffix: &str) -> Option<TopicName> {
    // Fails only for a request topic just below the length that MQTT allows.
    TopicName::parse(&format!("{request}/{suffix}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(topic: &str, expected: Option<(Operation, &str)>) {
        let name = TopicName::parse(topic).unwrap();
        let found = parse(&name).map(|(operation, id)| (operation, id.unwrap().to_string()));
        assert_eq!(found, expected.map(|(operation, id)| (operation, id.to_owned())), "{topic}");
        let subscribed = request_filters().iter().filter(|filter| filter.matches(&name)).count();
        assert_eq!(subscribed, usize::from(expected.is_some()), "{topic}");
    }

    #[test]
    fn request_topics_name_operation_and_shadow() {
        check("$aws/things/T/shadow/get", Some((Operation::Get, "T")));
        check("$aws/things/T/shadow/update", Some((Operation::Update, "T")));
        check("$aws/things/a:b_c-1/shadow/delete", Some((Operation::Delete, "a:b_c-1")));
        check("$aws/things/T/shadow/name/$x/update", Some((Operation::Update, "T/$x")));
        // A named shadow may be called like an operation.
        check("$aws/things/T/shadow/name/get/get", Some((Operation::Get, "T/get")));
        check("$aws/things/T/shadow/update/accepted", None);
        check("$aws/things/T/shadow/name/n/update/accepted", None);
        check("$aws/things/T/jobs/get", None);
        check("$aws/things/T/shadow", None);
        check("aws/things/T/shadow/get", None);
    }

    #[test]
    fn a_filter_names_a_delta_or_not() {
        let found = |filter: &str| delta_of(filter).map(|id| id.to_string());
        assert_eq!(found("$aws/things/T/shadow/update/delta").as_deref(), Some("T"));
        assert_eq!(found("$aws/things/T/shadow/name/n/update/delta").as_deref(), Some("T/n"));
        for other in [
            "$aws/things/+/shadow/update/delta",
            "$aws/things/T/shadow/get/delta",
            "$aws/things/T/shadow/update/accepted",
            "$aws/things/T/shadow/#",
            "$share/g/$aws/things/T/shadow/update/delta",
            "/delta",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn an_impossible_name_is_told() {
        for topic in ["$aws/things/a b/shadow/get", "$aws/things//shadow/get"] {
            let (_, id) = parse(&TopicName::parse(topic).unwrap()).unwrap();
            assert!(id.is_err(), "{topic}");
        }
        let long = format!("$aws/things/T/shadow/name/{}/get", "n".repeat(65));
        assert!(parse(&TopicName::parse(&long).unwrap()).unwrap().1.is_err());
    }

    #[test]
    fn a_shadow_finds_its_topic_again() {
        for text in ["$aws/things/T/shadow/get", "$aws/things/T/shadow/name/n/delete"] {
            let topic = TopicName::parse(text).unwrap();
            let (operation, id) = parse(&topic).unwrap();
            assert_eq!(id.unwrap().topic(operation), topic);
        }
    }
}
