//! Retained messages: the newest PUBLISH with RETAIN=1 of each topic [MQTT-3.3.1-5].
//!
//! In: `Broker::publish`, once per message, before fan-out; at the start what the journal kept.
//! Out: [`Retained::scan`], a page of what a filter matches.
//! Not here: permission checks (`session`), the disk (`log`).
//! Bounds: `messages_max` and `bytes_max`; when full a message on a new topic is not kept, and its
//! publisher is told. One lock, never held while something else is called.

use super::record;
use crate::message::Message;
use crate::storage::Key;
use crate::time::Timestamp;
use crate::topic::{TopicFilter, TopicName};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

/// Places looked at in one page of a scan, so that the lock is short whatever the filter.
const STEPS_MAX: usize = 1_024;

/// How many retained messages there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetainedBounds {
    pub(super) messages_max: usize,
    /// Bytes of topic, payload and properties.
    pub(super) bytes_max: usize,
}

/// No room for another retained message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// All retained messages.
pub(super) struct Retained {
    bounds: RetainedBounds,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    /// In an order in which a level and all below it are neighbours.
    by_topic: BTreeMap<Place, Arc<Message>>,
    bytes: usize,
    /// When those that expire do, in milliseconds since the Unix epoch.
    due: BTreeSet<(u64, Place)>,
}

/// A topic name with NUL for `/`, which no topic has: so that `a/b` stands beside `a/b/c`, and not
/// behind `a/b-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(Box<str>);

impl Place {
    /// Where a topic stands.
    pub(super) fn of(topic: &TopicName) -> Self {
        Self(topic.as_str().replace('/', "\0").into())
    }

    fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('\0')
    }
}

/// One page of a scan.
pub(super) struct Page {
    pub(super) messages: Vec<Arc<Message>>,
    /// Where the next page begins; `None` after the last.
    pub(super) next: Option<Place>,
}

impl Retained {
    pub(super) fn new(bounds: RetainedBounds) -> Self {
        Self { bounds, state: RwLock::default() }
    }

    /// Keeps the message for its topic; one without payload removes what is there
    /// [MQTT-3.3.1-6]. True when something changed.
    pub(super) fn set(&self, message: &Arc<Message>) -> Result<bool, Full> {
        let place = Place::of(&message.topic);
        let mut state = self.write();
        if message.payload.is_empty() {
            return Ok(state.remove(&place).is_some());
        }
        let before = state.by_topic.get(&place).map(|before| bytes(before));
        let is_new = before.is_none();
        let bytes_after = state.bytes - before.unwrap_or(0) + bytes(message);
        if is_new && state.by_topic.len() >= self.bounds.messages_max
            || bytes_after > self.bounds.bytes_max
        {
            return Err(Full);
        }
        state.remove(&place);
        if let Some(expires_at) = message.expires_at() {
            state.due.insert((expires_at.as_millis(), place.clone()));
        }
        state.bytes = bytes_after;
        state.by_topic.insert(place, message.clone());
        Ok(true)
    }

    /// The message of one topic.
    pub(super) fn get(&self, topic: &TopicName) -> Option<Arc<Message>> {
        self.read().by_topic.get(&Place::of(topic)).cloned()
    }

    /// What the journal has to write for a topic whose message changed; `None` removes.
    pub(super) fn document(&self, topic: &TopicName) -> (Key, Option<Bytes>) {
        let message = self.get(topic);
        (record::retained_key(topic), message.map(|message| record::retained(&message)))
    }

    /// At most `max` messages that the filter matches, from `from` on, in the order of the topics.
    /// May be empty and not the last.
    pub(super) fn scan(&self, filter: &TopicFilter, from: Option<&Place>, max: usize) -> Page {
        let levels: Vec<&str> = filter.levels().collect();
        let state = self.read();
        let mut messages = Vec::new();
        let mut at = from.cloned().or_else(|| Some(first(&levels)));
        let mut steps = 0;
        while let Some(place) = &at
            && messages.len() < max
            && steps < STEPS_MAX
        {
            steps += 1;
            let next = state.by_topic.range((Bound::Included(place), Bound::Unbounded)).next();
            let Some((found, message)) = next else {
                at = None;
                break;
            };
            at = match step(&levels, filter, found) {
                Step::Matches => {
                    messages.push(message.clone());
                    Some(after(found))
                }
                Step::Seek(place) => Some(place),
                Step::End => None,
            };
        }
        Page { messages, next: at }
    }

    /// At most `max` messages behind a topic, in an order of the topics.
    pub(super) fn page(&self, after: Option<&TopicName>, max: usize) -> Vec<Arc<Message>> {
        let from = match after {
            Some(after) => Bound::Excluded(Place::of(after)),
            None => Bound::Unbounded,
        };
        let state = self.read();
        state.by_topic.range((from, Bound::Unbounded)).map(|(_, it)| it.clone()).take(max).collect()
    }

    /// Removes what has expired; its topics.
    pub(super) fn expire(&self, now: Timestamp) -> Vec<TopicName> {
        // Without the write lock in the usual case.
        let is_due = |due: &BTreeSet<(u64, Place)>| {
            due.first().is_some_and(|(at, _)| *at <= now.as_millis())
        };
        if !is_due(&self.read().due) {
            return Vec::new();
        }
        let mut state = self.write();
        let mut topics = Vec::new();
        while is_due(&state.due)
            && let Some((_, place)) = state.due.first().cloned()
        {
            if let Some(message) = state.remove(&place) {
                topics.push(message.topic.clone());
            }
        }
        topics
    }

    /// How many there are, and their bytes.
    pub(super) fn sizes(&self) -> (usize, usize) {
        let state = self.read();
        (state.by_topic.len(), state.bytes)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, place: &Place) -> Option<Arc<Message>> {
        let message = self.by_topic.remove(place)?;
        self.bytes -= bytes(&message);
        if let Some(expires_at) = message.expires_at() {
            self.due.remove(&(expires_at.as_millis(), place.clone()));
        }
        Some(message)
    }
}

fn bytes(message: &Message) -> usize {
    let properties = message.properties.as_ref().map_or(0, |properties| properties.bytes());
    message.topic.as_str().len() + message.payload.len() + properties
}

enum Step {
    Matches,
    /// Nothing between here and there matches.
    Seek(Place),
    /// Nothing behind matches.
    End,
}

/// The levels up to the first wildcard.
fn first(filter: &[&str]) -> Place {
    let literal = filter.iter().take_while(|level| !matches!(**level, "+" | "#"));
    Place(literal.copied().collect::<Vec<_>>().join("\0").into())
}

/// Whether the filter matches the topic, and if not, the first place behind it that may match.
fn step(filter: &[&str], whole: &TopicFilter, found: &Place) -> Step {
    if found.0.starts_with('$') && whole.pattern().starts_with(['+', '#']) {
        // [MQTT-4.7.2-1]; `%` is the character behind `$`.
        return Step::Seek(Place("%".into()));
    }
    let mut levels = found.levels();
    let mut prefix = 0;
    for (depth, pattern) in filter.iter().enumerate() {
        if *pattern == "#" {
            return Step::Matches;
        }
        let Some(level) = levels.next() else {
            // `found` is the parent of what may match.
            let literal = if *pattern == "+" { "" } else { pattern };
            return Step::Seek(Place(format!("{}\0{literal}", found.0).into()));
        };
        if *pattern != "+" && *pattern != level {
            if level < *pattern {
                let seek = format!("{}{pattern}", &found.0[..prefix]);
                return Step::Seek(Place(seek.into()));
            }
            return skip(&filter[..depth], found);
        }
        prefix += level.len() + 1;
    }
    match levels.next() {
        None => Step::Matches,
        Some(_) => skip(filter, found),
    }
}

/// The next value of the last `+`: nothing else can make a difference.
fn skip(filter: &[&str], found: &Place) -> Step {
    let Some(depth) = filter.iter().rposition(|pattern| *pattern == "+") else { return Step::End };
    let levels: Vec<&str> = found.levels().take(depth + 1).collect();
    // Behind the level and all below it.
    Step::Seek(Place(format!("{}\u{1}", levels.join("\0")).into()))
}

fn after(found: &Place) -> Place {
    Place(format!("{}\0", found.0).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Properties;

    fn message(topic: &str, payload: &'static str) -> Arc<Message> {
        let topic = TopicName::parse(topic).unwrap();
        let time = Timestamp::from_millis(1_000);
        Arc::new(Message { retain: true, ..Message::new(topic, payload, Arc::default(), time) })
    }

    fn retained(topics: &[&str]) -> Retained {
        let bounds = RetainedBounds { messages_max: 10_000, bytes_max: 1 << 20 };
        let retained = Retained::new(bounds);
        for topic in topics {
            assert_eq!(retained.set(&message(topic, "x")), Ok(true));
        }
        retained
    }

    /// All topics, page by page.
    fn scan(retained: &Retained, filter: &TopicFilter, max: usize) -> Vec<String> {
        let (mut topics, mut from) = (Vec::new(), None);
        loop {
            let page = retained.scan(filter, from.as_ref(), max);
            assert!(page.messages.len() <= max);
            topics.extend(page.messages.iter().map(|it| it.topic.as_str().to_owned()));
            match page.next {
                Some(next) => from = Some(next),
                None => return topics,
            }
        }
    }

    #[test]
    fn a_scan_agrees_with_the_filter_on_every_topic() {
        let names = ["a", "b", "", "b-", "$x", "c\u{1}"];
        let patterns = ["a", "b", "", "+", "#", "$x"];
        let combine = |words: &[&str]| {
            let mut texts: Vec<String> = Vec::new();
            for one in words {
                texts.push((*one).to_owned());
                for two in words {
                    texts.push(format!("{one}/{two}"));
                    texts.extend(words.iter().map(|three| format!("{one}/{two}/{three}")));
                }
            }
            texts
        };
        let topics: Vec<_> =
            combine(&names).iter().filter_map(|text| TopicName::parse(text).ok()).collect();
        let retained = retained(&topics.iter().map(TopicName::as_str).collect::<Vec<_>>());
        for filter in combine(&patterns).iter().filter_map(|text| TopicFilter::parse(text).ok()) {
            let matching = topics.iter().filter(|it| filter.matches(it));
            let mut expected: Vec<_> = matching.map(ToString::to_string).collect();
            expected.sort_unstable();
            for max in [1, 1_000] {
                let mut found = scan(&retained, &filter, max);
                found.sort_unstable();
                assert_eq!(found, expected, "{filter} by {max}");
            }
        }
    }

    #[test]
    fn the_work_of_a_scan_grows_with_what_the_wildcards_stand_for() {
        // [MQTT-3.3.1-9] is nothing to do with it: this is about cost. 1,000 devices with ten
        // topics each: `+/temp` looks twice at each device, not at each topic.
        let bounds = RetainedBounds { messages_max: 100_000, bytes_max: 1 << 30 };
        let retained = Retained::new(bounds);
        for device in 0..1_000 {
            for topic in 0..10 {
                retained.set(&message(&format!("{device}/t{topic}"), "x")).unwrap();
            }
        }
        let filter = TopicFilter::parse("+/t7").unwrap();
        let (mut pages, mut from, mut found) = (0, None, 0);
        loop {
            let page = retained.scan(&filter, from.as_ref(), usize::MAX);
            (pages, found) = (pages + 1, found + page.messages.len());
            match page.next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        assert_eq!(found, 1_000);
        assert!(pages <= 3 * 1_000 / STEPS_MAX + 1, "{pages} pages of {STEPS_MAX} steps");
    }

    #[test]
    fn an_empty_payload_removes_and_a_newer_message_replaces() {
        let retained = retained(&["a", "b"]);
        assert_eq!(retained.set(&message("a", "")), Ok(true));
        assert_eq!(retained.set(&message("a", "")), Ok(false));
        assert_eq!(retained.set(&message("b", "yy")), Ok(true));
        assert_eq!(retained.sizes(), (1, 3));
        let topic = TopicName::parse("b").unwrap();
        assert_eq!(&retained.get(&topic).unwrap().payload[..], b"yy");
    }

    #[test]
    fn a_new_topic_is_refused_when_full_and_a_known_one_is_replaced() {
        let bounds = RetainedBounds { messages_max: 2, bytes_max: 10 };
        let retained = Retained::new(bounds);
        assert_eq!(retained.set(&message("a", "1")), Ok(true));
        assert_eq!(retained.set(&message("b", "1")), Ok(true));
        assert_eq!(retained.set(&message("c", "1")), Err(Full));
        assert_eq!(retained.set(&message("a", "12345678")), Err(Full));
        assert_eq!(retained.set(&message("a", "12")), Ok(true));
        assert_eq!(retained.sizes(), (2, 5));
    }

    #[test]
    fn what_expires_goes_when_it_is_due() {
        let retained = retained(&["stays"]);
        let properties = Properties { expiry_s: Some(5), ..Properties::default() };
        let expiring =
            Message { properties: Some(Box::new(properties)), ..(*message("goes", "x")).clone() };
        retained.set(&Arc::new(expiring)).unwrap();
        assert_eq!(retained.expire(Timestamp::from_millis(5_999)), []);
        let topics = retained.expire(Timestamp::from_millis(6_000));
        assert_eq!(topics, [TopicName::parse("goes").unwrap()]);
        assert_eq!(retained.sizes().0, 1);
        assert!(retained.state.read().unwrap().due.is_empty());
    }
}
