//! Who gets what: topics, filters, and which subscriber a publisher's messages reach.
//!
//! In: templates and counts. Out: a [`Topology`].
//! Bound: [`PAIRS_MAX`] pairs of a filter and a topic are compared.

use crate::error::LoadError;
use crate::options::{Options, Shape};
use std::ops::Range;

/// 10,000 subscribers with a filter each, and 1,000 publishers: a second of comparing.
const PAIRS_MAX: u64 = 10_000_000;

/// Longer topics are no use to anybody; the standard allows 65,535 bytes.
const TEMPLATE_BYTES_MAX: usize = 4_096;

/// In a template: the client's number.
const NUMBER: &str = "{i}";

/// Topics and subscriptions of a run.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Of each publisher.
    pub topics: Vec<String>,
    /// Of each subscriber.
    pub subscriptions: Vec<Subscription>,
    /// How many subscribers each publisher's messages reach.
    pub receivers: Vec<u32>,
    /// The subscribers share one subscription (`$share`): each message reaches one of them.
    pub shared: bool,
}

/// What one subscriber gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// As sent in SUBSCRIBE.
    pub filter: String,
    /// The smallest range that has all publishers whose topics the filter matches.
    pub covers: Range<u32>,
}

impl Topology {
    /// Reads the templates of the options.
    pub fn new(options: &Options) -> Result<Self, LoadError> {
        let (publishers, subscribers) = (options.publishers, options.subscribers);
        check_topic(&options.topic)?;
        let filter = match &options.filter {
            Some(filter) => filter.clone(),
            None => filter_of_shape(options)?,
        };
        check_filter(&filter)?;
        let topics: Vec<_> = (0..publishers).map(|number| expand(&options.topic, number)).collect();
        let mut topology = Self {
            topics,
            subscriptions: Vec::new(),
            receivers: vec![0; publishers as usize],
            shared: filter.starts_with("$share/"),
        };
        if filter == options.topic && filter.contains(NUMBER) {
            topology.pair(&filter, subscribers);
        } else {
            topology.compare(&filter, subscribers)?;
        }
        Ok(topology)
    }

    /// Subscriber `i` gets what publisher `i` publishes; no need to compare all with all.
    fn pair(&mut self, filter: &str, subscribers: u32) {
        let publishers = u32::try_from(self.topics.len()).unwrap_or(u32::MAX);
        for number in 0..subscribers {
            let covers = number.min(publishers)..(number + 1).min(publishers);
            self.subscriptions.push(Subscription { filter: expand(filter, number), covers });
        }
        for receivers in self.receivers.iter_mut().take(subscribers as usize) {
            *receivers = 1;
        }
    }

    fn compare(&mut self, filter: &str, subscribers: u32) -> Result<(), LoadError> {
        let differ = if filter.contains(NUMBER) { subscribers } else { subscribers.min(1) };
        if u64::from(differ) * self.topics.len() as u64 > PAIRS_MAX {
            let what = format!(
                "{differ} filters and {} topics are too many to compare; use the same template \
                 for --topic and --filter, or a filter without {NUMBER}",
                self.topics.len()
            );
            return Err(LoadError::option("filter", what));
        }
        // With one filter for all, the others are like the first.
        let repeat = if differ == subscribers { 1 } else { subscribers };
        for number in 0..differ {
            let filter = expand(filter, number);
            let mut covers = None::<Range<u32>>;
            for (publisher, topic) in (0..).zip(&self.topics) {
                if matches(&filter, topic) {
                    let start = covers.map_or(publisher, |covers| covers.start);
                    covers = Some(start..publisher + 1);
                    let receivers = &mut self.receivers[publisher as usize];
                    *receivers = if self.shared { 1 } else { *receivers + repeat };
                }
            }
            let subscription = Subscription { filter, covers: covers.unwrap_or_default() };
            self.subscriptions.extend(std::iter::repeat_n(subscription, repeat as usize));
        }
        Ok(())
    }

    /// The publishers whose messages reach this subscriber.
    pub fn publishers_of(&self, subscriber: usize) -> impl Iterator<Item = usize> {
        let Subscription { filter, covers } = &self.subscriptions[subscriber];
        let covers = covers.start as usize..covers.end as usize;
        covers.filter(|publisher| matches(filter, &self.topics[*publisher]))
    }
}

fn filter_of_shape(options: &Options) -> Result<String, LoadError> {
    if options.shape != Shape::Pairs {
        let level =
            |level: &str| if level.contains(NUMBER) { "+".into() } else { level.to_owned() };
        return Ok(options.topic.split('/').map(level).collect::<Vec<_>>().join("/"));
    }
    let (publishers, subscribers) = (options.publishers, options.subscribers);
    if subscribers > 0 && publishers != subscribers {
        let what = format!(
            "pairs need as many subscribers as publishers, and there are {subscribers} and \
             {publishers}; use --shape fan-in or fan-out for everything to everyone"
        );
        return Err(LoadError::option("shape", what));
    }
    if publishers > 1 && !options.topic.contains(NUMBER) {
        let what = format!("pairs need the publisher's number in the topic, e.g. bench/{NUMBER}");
        return Err(LoadError::option("topic", what));
    }
    Ok(options.topic.clone())
}

/// A client's own text.
pub fn expand(template: &str, number: u32) -> String {
    template.replace(NUMBER, &number.to_string())
}

fn check_topic(topic: &str) -> Result<(), LoadError> {
    check_text("topic", topic)?;
    if topic.contains(['+', '#']) {
        let what = format!("`{topic}` has a wildcard; only filters may");
        return Err(LoadError::option("topic", what));
    }
    Ok(())
}

/// Checks the template of a filter.
pub fn check_filter(filter: &str) -> Result<(), LoadError> {
    check_text("filter", filter)?;
    let wildcards_alone = filter.split('/').all(|level| level.len() == 1 || !has_wildcard(level));
    let multi_level_last = filter.find('#').is_none_or(|at| at + 1 == filter.len());
    if wildcards_alone && multi_level_last {
        return Ok(());
    }
    let what = format!("in `{filter}` a wildcard is not a level of its own, or # is not the last");
    Err(LoadError::option("filter", what))
}

fn check_text(option: &'static str, text: &str) -> Result<(), LoadError> {
    if text.is_empty() || text.len() > TEMPLATE_BYTES_MAX || text.contains('\0') {
        let what = format!("it has 1 to {TEMPLATE_BYTES_MAX} bytes and no NUL");
        return Err(LoadError::option(option, what));
    }
    Ok(())
}

fn has_wildcard(level: &str) -> bool {
    level.contains(['+', '#'])
}

/// Whether a filter, which may be a shared one, matches a topic; MQTT 5.0, 4.7.
fn matches(filter: &str, topic: &str) -> bool {
    let shared = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    let filter = shared.map_or(filter, |(_, filter)| filter);
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for expected in filter.split('/') {
        if expected == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if expected == "+" || expected == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(change: impl FnOnce(&mut Options)) -> Result<Topology, LoadError> {
        let mut options = Options { publishers: 3, subscribers: 3, ..Options::default() };
        change(&mut options);
        Topology::new(&options)
    }

    #[test]
    fn shapes_decide_who_gets_what() {
        let pairs = topology(|_| {}).unwrap();
        assert_eq!(pairs.receivers, [1, 1, 1]);
        let second = Subscription { filter: "bench/1".into(), covers: 1..2 };
        assert_eq!(pairs.subscriptions[1], second);

        let fan = topology(|options| {
            options.shape = Shape::FanOut;
            options.topic = "a/dev-{i}/b".into();
        });
        let fan = fan.unwrap();
        assert_eq!((fan.receivers, fan.topics[2].as_str()), (vec![3, 3, 3], "a/dev-2/b"));
        let all = Subscription { filter: "a/+/b".into(), covers: 0..3 };
        assert_eq!(fan.subscriptions, vec![all; 3]);
    }

    #[test]
    fn filters_of_ones_own_are_compared_with_the_topics() {
        let own = topology(|options| {
            options.topic = "a/{i}/b".into();
            options.filter = Some("a/{i}/#".into());
            options.subscribers = 2;
        });
        let own = own.unwrap();
        assert_eq!((own.receivers.clone(), own.shared), (vec![1, 1, 0], false));
        assert_eq!(own.publishers_of(1).collect::<Vec<_>>(), [1]);
        let shared = topology(|options| options.filter = Some("$share/g/bench/+".into())).unwrap();
        assert_eq!((shared.receivers, shared.shared), (vec![1, 1, 1], true));
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_option() {
        let check = |expected: &str, change: &dyn Fn(&mut Options)| {
            let error = topology(change).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        check("--shape: pairs need as many", &|options| options.subscribers = 2);
        check("--topic: pairs need the publisher's", &|options| options.topic = "bench".into());
        check("--topic: `a/+` has a wildcard", &|options| options.topic = "a/+".into());
        for filter in ["a/#/b", "a+", "a/#b"] {
            check("--filter: in ", &|options| options.filter = Some(filter.into()));
        }
        check("--filter: it has 1 to", &|options| options.filter = Some(String::new()));
    }

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/#", "a", true),
            ("#", "a/b/c", true),
            ("+/b", "$SYS/b", false),
            ("a", "a/b", false),
            ("$share/g/a/+", "a/b", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }
}
