//! Topics: filters and names are parsed as the standard says, and filter and index match alike.
//!
//! Run: `RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz topic`.

#![no_main]

use gnomon_core::broker::queue::{Queue, QueueBounds, QueueConfig};
use gnomon_core::broker::{Broker, Wakes};
use gnomon_core::ids::ClientId;
use gnomon_core::message::Message;
use gnomon_core::packet::SubscribeOptions;
use gnomon_core::time::Timestamp;
use gnomon_core::topic::{TopicFilter, TopicName};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use std::sync::Arc;

/// MQTT 5.0, 4.7, as a table of conditions.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 65_535 && !text.contains(['\0', '+', '#'])
}

fn is_pattern(text: &str) -> bool {
    let levels: Vec<&str> = text.split('/').collect();
    let is_level = |(at, level): (usize, &&str)| match *level {
        "+" => true,
        "#" => at + 1 == levels.len(),
        level => !level.contains(['+', '#']),
    };
    !text.is_empty() && levels.iter().enumerate().all(is_level)
}

/// Group and pattern; `None` when it is no filter.
fn taken_apart(text: &str) -> Option<(Option<&str>, &str)> {
    if text.len() > 65_535 || text.contains('\0') || text == "$share" {
        return None;
    }
    let Some(rest) = text.strip_prefix("$share/") else {
        return is_pattern(text).then_some((None, text));
    };
    let (group, pattern) = rest.split_once('/')?;
    let is_group = !group.is_empty() && !group.contains(['+', '#']);
    (is_group && is_pattern(pattern)).then_some((Some(group), pattern))
}

fn matches(pattern: &[&str], topic: &[&str]) -> bool {
    match (pattern, topic) {
        (["#"], _) | ([], []) => true,
        ([first, pattern @ ..], [level, topic @ ..]) => {
            (*first == "+" || first == level) && matches(pattern, topic)
        }
        _ => false,
    }
}

fn oracle(pattern: &str, topic: &str) -> bool {
    if topic.starts_with('$') && pattern.starts_with(['+', '#']) {
        return false;
    }
    matches(&pattern.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>())
}

fn queue() -> Arc<Queue> {
    let bounds = QueueBounds { messages_max: 100, bytes_max: 100_000 };
    let config = Arc::new(QueueConfig { bounds, metrics: Arc::default() });
    Arc::new(Queue::new(ClientId::parse("c").unwrap(), None, config))
}

// Lines: the first is a topic, the others are filters. A filter that comes again goes.
fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let topic = lines.next().unwrap_or_default();
    let name = TopicName::parse(topic);
    assert_eq!(name.is_ok(), is_name(topic), "{topic:?}");
    let broker = Broker::in_memory();
    let mut filters = BTreeSet::new();
    let mut receivers = Vec::new();
    for line in lines {
        let (filter, expected) = (TopicFilter::parse(line), taken_apart(line));
        assert_eq!(filter.is_ok(), expected.is_some(), "{line:?}");
        let (Ok(filter), Some((group, pattern))) = (filter, expected) else { continue };
        assert_eq!((filter.share_group(), filter.pattern()), (group, pattern));
        if let Ok(name) = &name {
            assert_eq!(filter.matches(name), oracle(pattern, topic), "{line:?} {topic:?}");
        }
        if filters.remove(line) {
            receivers.retain(|(of, _, _)| *of != line);
        } else {
            filters.insert(line);
            let queue = queue();
            let receiver = broker.register(queue.clone());
            receiver.subscribe(&filter, SubscribeOptions::default(), None);
            receivers.push((line, queue, receiver));
        }
    }
    let Ok(name) = name else { return };
    let message = Arc::new(Message::new(name, "x", Arc::default(), Timestamp::default()));
    let published = broker.publish(&message, &mut Wakes::default());
    let mut expected = 0;
    for (line, queue, _) in &receivers {
        let (_, pattern) = taken_apart(line).unwrap();
        // Basic Ingest is for rules alone.
        let is_receiver = oracle(pattern, topic) && !topic.starts_with("$aws/rules/");
        expected += usize::from(is_receiver);
        assert_eq!(queue.take(2).len(), usize::from(is_receiver), "{line:?} {topic:?}");
    }
    assert_eq!(published.receivers, expected);
});
