//! Topic names and topic filters.
//!
//! In: text from packets, API calls and rules. Out: [`TopicName`] and [`TopicFilter`], whose
//! existence proves that the text is well formed. Not here: limits of depth and length
//! ([`crate::limits`]), who may use a topic ([`crate::policy`]), the subscription index (`broker`).

use std::fmt;
use std::sync::Arc;

/// Longest topic name or filter in bytes [MQTT-4.7.3-3].
const TOPIC_BYTES_MAX: usize = 65_535;

/// Why a text is neither a topic name nor a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// [MQTT-4.7.3-1] at least one character.
    #[error("topic is empty")]
    Empty,
    /// [MQTT-4.7.3-3] at most 65,535 bytes.
    #[error("topic has {len} bytes; at most 65535 are allowed")]
    TooLong {
        /// Length in bytes.
        len: usize,
    },
    /// [MQTT-4.7.3-2] no NUL.
    #[error("topic has a NUL at byte {at}")]
    Nul {
        /// Byte offset.
        at: usize,
    },
    /// [MQTT-3.3.2-2] no wildcard in the name that a message is published to.
    #[error("topic name has the wildcard {wildcard:?} at byte {at}; wildcards belong into filters")]
    Wildcard {
        /// `+` or `#`.
        wildcard: char,
        /// Byte offset.
        at: usize,
    },
    /// [MQTT-4.7.1-1] `#` is a whole level and the last; [MQTT-4.7.1-2] `+` is a whole level.
    #[error("topic filter has a misplaced {wildcard:?} at byte {at}")]
    Misplaced {
        /// `+` or `#`.
        wildcard: char,
        /// Byte offset.
        at: usize,
    },
    /// [MQTT-4.8.2-1], [MQTT-4.8.2-2]: `$share/{name}/{filter}` with a name without `/ + #`.
    #[error(
        "shared subscription must read $share/<group>/<filter>, and the group have no wildcard"
    )]
    Share,
}

/// Name a message is published to: 1..=65,535 bytes of UTF-8, no `+`, `#` or NUL.
///
/// Source: MQTT 5.0, 3.3.2.1 and 4.7.3. Cheap to clone (shared text).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks the text.
    ///
    /// # Errors
    /// Says which rule is broken and at which byte; the text itself is not echoed.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_text(text)?;
        match text.bytes().position(|b| b == b'+' || b == b'#') {
            Some(at) => Err(TopicError::Wildcard { wildcard: char::from(text.as_bytes()[at]), at }),
            None => Ok(Self(text.into())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The levels, in order: `a//b` has `a`, the empty one and `b`.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// True for names that begin with `$`: wildcards in the first level do not match them
    /// [MQTT-4.7.2-1], and clients may not invent them.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('$')
    }
}

/// What a subscriber asks for: a topic name whose levels may be `+`, the last one `#`.
///
/// A shared subscription `$share/{group}/{filter}` is taken apart here. Source: MQTT 5.0, 4.7.1
/// and 4.8.2. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter {
    text: Arc<str>,
    /// Byte offset of the part that is matched; 0 unless shared.
    start: u32,
}

impl TopicFilter {
    /// Checks the text.
    ///
    /// # Errors
    /// Says which rule is broken and at which byte; the text itself is not echoed.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_text(text)?;
        let mut start = 0;
        if let Some(rest) = text.strip_prefix("$share/") {
            let (group, filter) = rest.split_once('/').ok_or(TopicError::Share)?;
            if group.is_empty() || filter.is_empty() || group.contains(['+', '#']) {
                return Err(TopicError::Share);
            }
            start = text.len() - filter.len();
        } else if text == "$share" {
            return Err(TopicError::Share);
        }
        check_wildcards(text, start)?;
        let start = u32::try_from(start).expect("a topic has at most 65,535 bytes");
        Ok(Self { text: text.into(), start })
    }

    /// The whole text as the client wrote it, `$share/{group}/` included.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part that topics are matched with.
    pub fn pattern(&self) -> &str {
        &self.text[self.start as usize..]
    }

    /// The group of a shared subscription.
    pub fn share_group(&self) -> Option<&str> {
        let end = (self.start as usize).checked_sub(1)?;
        Some(&self.text["$share/".len()..end])
    }

    /// The levels of the part that is matched.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.pattern().split('/')
    }

    /// True when the filter matches the name (MQTT 5.0, 4.7).
    ///
    /// The broker's index does not call this; it is for whoever has a single filter.
    pub fn matches(&self, name: &TopicName) -> bool {
        if name.is_reserved() && self.pattern().starts_with(['+', '#']) {
            return false;
        }
        let mut levels = name.levels();
        for pattern in self.levels() {
            match (pattern, levels.next()) {
                // [MQTT-4.7.1-2] `a/#` matches `a` too: `#` includes the parent level.
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (pattern, Some(level)) if pattern == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong { len: text.len() });
    }
    match text.bytes().position(|b| b == 0) {
        Some(at) => Err(TopicError::Nul { at }),
        None => Ok(()),
    }
}

fn check_wildcards(text: &str, start: usize) -> Result<(), TopicError> {
    let mut at = start;
    for level in text[start..].split('/') {
        let end = at + level.len();
        if level.len() > 1
            && let Some(offset) = level.bytes().position(|b| b == b'+' || b == b'#')
        {
            let wildcard = char::from(level.as_bytes()[offset]);
            return Err(TopicError::Misplaced { wildcard, at: at + offset });
        }
        if level == "#" && end != text.len() {
            return Err(TopicError::Misplaced { wildcard: '#', at });
        }
        at = end + 1;
    }
    Ok(())
}

macro_rules! text_traits {
    ($($type:ident),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
    )*};
}
text_traits!(TopicName, TopicFilter);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_match(filter: &str, name: &str, expected: bool) {
        let filter = TopicFilter::parse(filter).unwrap();
        let name = TopicName::parse(name).unwrap();
        assert_eq!(filter.matches(&name), expected, "{filter} and {name}");
    }

    #[test]
    fn filters_match_as_the_standard_says() {
        // MQTT 5.0, 4.7.1.2 and 4.7.1.3: the standard's own examples.
        check_match("sport/tennis/player1/#", "sport/tennis/player1", true);
        check_match("sport/tennis/player1/#", "sport/tennis/player1/ranking", true);
        check_match("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true);
        check_match("sport/#", "sport", true);
        check_match("sport/tennis/+", "sport/tennis/player1", true);
        check_match("sport/tennis/+", "sport/tennis/player1/ranking", false);
        check_match("sport/+", "sport", false);
        check_match("sport/+", "sport/", true);
        check_match("+/+", "/finance", true);
        check_match("/+", "/finance", true);
        check_match("+", "/finance", false);
        // [MQTT-4.7.2-1] a leading wildcard does not match `$` topics.
        check_match("#", "$SYS/uptime", false);
        check_match("+/monitor/Clients", "$SYS/monitor/Clients", false);
        check_match("$SYS/#", "$SYS/uptime", true);
        check_match("$SYS/monitor/+", "$SYS/monitor/Clients", true);
        // Multibyte first characters and case.
        check_match("über/+", "über/a", true);
        check_match("ACCOUNTS", "accounts", false);
    }

    #[test]
    fn malformed_names_and_filters_are_refused_with_position() {
        assert_eq!(TopicName::parse(""), Err(TopicError::Empty));
        assert_eq!(TopicName::parse("a/+/b"), Err(TopicError::Wildcard { wildcard: '+', at: 2 }));
        assert_eq!(TopicName::parse("a\0b"), Err(TopicError::Nul { at: 1 }));
        assert_eq!(TopicFilter::parse("a/b+"), Err(TopicError::Misplaced { wildcard: '+', at: 3 }));
        assert_eq!(
            TopicFilter::parse("a/#/b"),
            Err(TopicError::Misplaced { wildcard: '#', at: 2 })
        );
        assert_eq!(TopicFilter::parse("a#"), Err(TopicError::Misplaced { wildcard: '#', at: 1 }));
        for bad in ["$share/g", "$share//a", "$share/g/", "$share/+/a", "$share"] {
            assert_eq!(TopicFilter::parse(bad), Err(TopicError::Share), "{bad}");
        }
    }

    #[test]
    fn a_shared_subscription_is_taken_apart() {
        let filter = TopicFilter::parse("$share/readers/a/+").unwrap();
        assert_eq!(filter.share_group(), Some("readers"));
        assert_eq!(filter.pattern(), "a/+");
        assert!(filter.matches(&TopicName::parse("a/b").unwrap()));
        assert_eq!(TopicFilter::parse("a/+").unwrap().share_group(), None);
    }
}
