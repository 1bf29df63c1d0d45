//! Joda-Time's patterns: a moment to a text.
//!
//! Letters: `G C Y x w e E y D M d a K h H k m s S z Z`; all others are refused. Where a zone has
//! no English name in `names`, `z` writes its offset.

use super::names::{ERAS, HALF_DAYS, MONTHS, WEEKDAYS, long_zone_name, short as short_name};
use super::{PATTERN_BYTES_MAX, Zone};
use jiff::Timestamp;
use jiff::civil::DateTime;
use std::iter::repeat_n;

/// Digits of the longest fraction that Joda-Time computes; further ones are not written.
const FRACTION_DIGITS_MAX: usize = 15;

/// A compiled pattern.
#[derive(Debug)]
pub struct Pattern(Vec<Item>);

#[derive(Debug)]
enum Item {
    Literal(String),
    /// At least so many digits.
    Number(Number, usize),
    /// The last two digits of a year.
    TwoDigits(Number),
    /// So many digits of the second's fraction.
    Fraction(usize),
    Era,
    HalfDay,
    Month {
        long: bool,
    },
    Weekday {
        long: bool,
    },
    ZoneName {
        long: bool,
    },
    ZoneId,
    Offset {
        colon: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum Number {
    Century,
    YearOfEra,
    Year,
    WeekYear,
    Week,
    Weekday,
    DayOfYear,
    Month,
    Day,
    /// 0..=11.
    HourOfHalfDay,
    /// 1..=12.
    ClockHourOfHalfDay,
    /// 0..=23.
    Hour,
    /// 1..=24.
    ClockHour,
    Minute,
    Second,
}

impl Pattern {
    /// `None` for a letter that Joda-Time does not know, an empty pattern, and one beyond
    /// [`PATTERN_BYTES_MAX`].
    pub fn compile(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
            return None;
        }
        let mut items = Vec::new();
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            if letter.is_ascii_alphabetic() {
                let count = rest.chars().take_while(|next| *next == letter).count();
                items.push(item(letter, count)?);
                rest = &rest[count..];
            } else {
                let (literal, behind) = literal(rest);
                items.push(Item::Literal(literal));
                rest = behind;
            }
        }
        Some(Self(items))
    }

    /// The moment in this zone; `None` before -9999-01-02 and after 9999-12-30.
    pub fn format(&self, millis: i64, zone: &Zone) -> Option<String> {
        let timestamp = Timestamp::from_millisecond(millis).ok()?;
        let info = zone.zone.to_offset_info(timestamp);
        let moment = Moment {
            civil: info.offset().to_datetime(timestamp),
            abbreviation: info.abbreviation(),
            offset_seconds: info.offset().seconds(),
            zone_id: &zone.id,
        };
        let mut out = String::new();
        for item in &self.0 {
            moment.write(&mut out, item);
        }
        Some(out)
    }
}

/// What is written.
struct Moment<'a> {
    civil: DateTime,
    abbreviation: &'a str,
    offset_seconds: i32,
    zone_id: &'a str,
}

impl Moment<'_> {
    fn write(&self, out: &mut String, item: &Item) {
        match *item {
            Item::Literal(ref literal) => out.push_str(literal),
            Item::Number(number, digits) => write_number(out, self.number(number), digits),
            Item::TwoDigits(number) => write_number(out, self.number(number).abs() % 100, 2),
            Item::Fraction(digits) => write_fraction(out, self.millis(), digits),
            Item::Era => out.push_str(ERAS[usize::from(self.civil.year() > 0)]),
            Item::HalfDay => out.push_str(HALF_DAYS[usize::from(self.civil.hour() >= 12)]),
            Item::Month { long } => write_name(out, MONTHS[index(self.civil.month())], long),
            Item::Weekday { long } => {
                let day = self.civil.weekday().to_monday_one_offset();
                write_name(out, WEEKDAYS[index(day)], long);
            }
            Item::ZoneName { long } => self.write_zone_name(out, long),
            Item::ZoneId => out.push_str(self.zone_id),
            Item::Offset { colon } => write_offset(out, self.offset_seconds, colon),
        }
    }

    fn number(&self, number: Number) -> i64 {
        let civil = self.civil;
        let year = i64::from(civil.year());
        // There is no year 0: 1 BC is followed by 1 AD.
        let year_of_era = if year > 0 { year } else { 1 - year };
        let hour = i64::from(civil.hour());
        let clock = |hour: i64, hours: i64| if hour == 0 { hours } else { hour };
        match number {
            // Not of the year of the era: 100 BC is -99, and of century 0.
            Number::Century => year.abs() / 100,
            Number::YearOfEra => year_of_era,
            Number::Year => year,
            Number::WeekYear => i64::from(civil.iso_week_date().year()),
            Number::Week => i64::from(civil.iso_week_date().week()),
            Number::Weekday => i64::from(civil.weekday().to_monday_one_offset()),
            Number::DayOfYear => i64::from(civil.day_of_year()),
            Number::Month => i64::from(civil.month()),
            Number::Day => i64::from(civil.day()),
            Number::HourOfHalfDay => hour % 12,
            Number::ClockHourOfHalfDay => clock(hour % 12, 12),
            Number::Hour => hour,
            Number::ClockHour => clock(hour, 24),
            Number::Minute => i64::from(civil.minute()),
            Number::Second => i64::from(civil.second()),
        }
    }

    fn millis(&self) -> u64 {
        u64::from(self.civil.subsec_nanosecond().unsigned_abs()) / 1_000_000
    }

    fn write_zone_name(&self, out: &mut String, long: bool) {
        let named = self.abbreviation.starts_with(|c: char| c.is_ascii_alphabetic());
        let name = if long {
            long_zone_name(self.abbreviation, self.zone_id)
        } else {
            named.then_some(self.abbreviation)
        };
        match name {
            Some(name) => out.push_str(name),
            None => write_offset_id(out, self.offset_seconds),
        }
    }
}

fn item(letter: char, count: usize) -> Option<Item> {
    let long = count >= 4;
    let number = |number| Some(Item::Number(number, count));
    let year = |number, two_digits| match count {
        2 => Some(Item::TwoDigits(two_digits)),
        _ => Some(Item::Number(number, count)),
    };
    match letter {
        'G' => Some(Item::Era),
        'C' => number(Number::Century),
        'Y' => year(Number::YearOfEra, Number::Year),
        'x' => year(Number::WeekYear, Number::WeekYear),
        'y' => year(Number::Year, Number::Year),
        'w' => number(Number::Week),
        'e' => number(Number::Weekday),
        'E' => Some(Item::Weekday { long }),
        'D' => number(Number::DayOfYear),
        'M' if count >= 3 => Some(Item::Month { long }),
        'M' => number(Number::Month),
        'd' => number(Number::Day),
        'a' => Some(Item::HalfDay),
        'K' => number(Number::HourOfHalfDay),
        'h' => number(Number::ClockHourOfHalfDay),
        'H' => number(Number::Hour),
        'k' => number(Number::ClockHour),
        'm' => number(Number::Minute),
        's' => number(Number::Second),
        'S' => Some(Item::Fraction(count)),
        'z' => Some(Item::ZoneName { long }),
        'Z' if count >= 3 => Some(Item::ZoneId),
        'Z' => Some(Item::Offset { colon: count == 2 }),
        _ => None,
    }
}

/// The text up to the next letter outside of quotes, and what follows. A quote that is not
/// closed reaches to the end.
fn literal(text: &str) -> (String, &str) {
    let mut literal = String::new();
    let mut quoted = false;
    let mut chars = text.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        if char == '\'' {
            if chars.next_if(|(_, next)| *next == '\'').is_some() {
                literal.push('\'');
            } else {
                quoted = !quoted;
            }
        } else if !quoted && char.is_ascii_alphabetic() {
            return (literal, &text[at..]);
        } else {
            literal.push(char);
        }
    }
    (literal, "")
}

/// From the number of a month or a day.
fn index(number: i8) -> usize {
    usize::try_from(number - 1).expect("months and days count from 1")
}

fn write_name(out: &mut String, name: &'static str, long: bool) {
    out.push_str(if long { name } else { short_name(name) });
}

fn write_number(out: &mut String, number: i64, digits_min: usize) {
    if number < 0 {
        out.push('-');
    }
    let digits = number.unsigned_abs().to_string();
    out.extend(repeat_n('0', digits_min.saturating_sub(digits.len())));
    out.push_str(&digits);
}

fn write_fraction(out: &mut String, millis: u64, digits: usize) {
    // Joda-Time writes no more digits than it computes, but all zeros of a whole second.
    let digits = if millis == 0 { digits } else { digits.min(FRACTION_DIGITS_MAX) };
    let known = format!("{millis:03}");
    out.extend(known.chars().chain(repeat_n('0', digits)).take(digits));
}

/// `+hhmm` or `+hh:mm`.
fn write_offset(out: &mut String, seconds: i32, colon: bool) {
    let minutes = i64::from(seconds.unsigned_abs()) / 60;
    out.push(if seconds < 0 { '-' } else { '+' });
    write_number(out, minutes / 60, 2);
    if colon {
        out.push(':');
    }
    write_number(out, minutes % 60, 2);
}

/// `+hh:mm`, and `:ss` when there are any.
pub fn write_offset_id(out: &mut String, seconds: i32) {
    write_offset(out, seconds, true);
    let seconds = i64::from(seconds.unsigned_abs() % 60);
    if seconds != 0 {
        out.push(':');
        write_number(out, seconds, 2);
    }
}
