//! The topics and filters of the simulation, and which match: a second opinion to the index.

/// Topics of ordinary messages.
pub const ORDINARY: &[&str] = &["a", "a/x", "a/y", "b/x", "b/y/z"];

/// Topics of retained messages.
pub const RETAINED: &[&str] = &["r/1", "r/2", "r/3"];

/// The topic of the workers.
pub const WORK: &str = "w/1";

/// The topic of wills.
pub const WILL: &str = "will/t";

/// Filters of ordinary subscribers.
pub const FILTERS: &[&str] =
    &["a/+", "a/#", "+/x", "b/y/z", "#", "a/x", "r/+", "r/1", "+/+", "will/#"];

/// Filters of workers; one each.
pub const SHARED: &[&str] = &["$share/one/w/+", "$share/two/w/1"];

/// The group of a shared subscription.
pub fn group(filter: &str) -> Option<&str> {
    filter.strip_prefix("$share/")?.split_once('/').map(|(group, _)| group)
}

/// MQTT 5.0, 4.7, level by level.
pub fn matches(filter: &str, topic: &str) -> bool {
    let filter = match filter.strip_prefix("$share/").and_then(|it| it.split_once('/')) {
        Some((_, filter)) => filter,
        None => filter,
    };
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    match filter.split_last() {
        Some((&"#", front)) => {
            topic.len() >= front.len() && front.iter().zip(&topic).all(|(f, t)| *f == "+" || f == t)
        }
        _ => {
            topic.len() == filter.len()
                && filter.iter().zip(&topic).all(|(f, t)| *f == "+" || f == t)
        }
    }
}
