//! The JDK's patterns (`java.time.format.DateTimeFormatter`): a text to a moment.
//!
//! Letters: `G u y M L D d E e a h K k H m s S A n N V z O X x Z`, and sections in `[...]` that
//! may be missing. Refused are the other letters of the JDK (`Y w W Q q c F g B v p`), the forms
//! of one letter (`MMMMM`), and all that the JDK refuses.
//! Reading is as strict as there: exact widths, case and names, nothing left over. What the
//! fields mean together is decided in `resolve`.
//! Where zones share a name (`CST`, `IST`) it means the first one in `names`.

use super::names::{ERAS, ERAS_LONG, HALF_DAYS, MONTHS, WEEKDAYS, ZONE_NAMES, short as short_name};
use super::resolve::{Field, Fields};
use super::{PATTERN_BYTES_MAX, ZONE_ID_BYTES_MAX, region};
use jiff::tz::TimeZone;

/// Deepest `[` in `[`; reading recurses as deep.
const OPTIONAL_DEPTH_MAX: usize = 16;

/// Most digits of a number without a width.
const DIGITS_MAX: usize = 19;

/// Digits that are kept; longer numbers are out of every field's range.
const DIGITS_KEPT_MAX: usize = 18;

/// A compiled pattern.
#[derive(Debug)]
pub struct Pattern(Vec<Item>);

#[derive(Debug)]
enum Item {
    Literal(String),
    Number(Number),
    Text(Field, Names),
    ZoneId,
    ZoneName {
        long: bool,
    },
    Offset(Offset),
    /// `GMT+8`, or `GMT+08:00`.
    LocalizedOffset {
        long: bool,
    },
    Optional(Vec<Item>),
}

#[derive(Clone, Copy, Debug)]
struct Number {
    field: Field,
    digits_min: usize,
    digits_max: usize,
    sign: Sign,
    form: Form,
    /// Digits that numbers of fixed width directly behind it need: `yyyyMMdd`.
    reserved: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sign {
    Never,
    Minus,
    /// A plus where there are more digits than the width, and only there.
    ExceedsPad,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Plain,
    /// Two digits mean 2000..=2099.
    TwoDigits,
    /// Of a second; kept in nanoseconds.
    Fraction,
}

#[derive(Clone, Copy, Debug)]
struct Names {
    names: &'static [&'static str],
    short: bool,
    /// The value of the first name.
    first: i64,
}

#[derive(Clone, Copy, Debug)]
struct Offset {
    colon: bool,
    minutes: Need,
    seconds: Need,
    /// What stands for no offset.
    zero: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Need {
    Absent,
    Optional,
    Required,
}

impl Pattern {
    /// `None` for a pattern that the JDK refuses or that is not supported (see the head of this
    /// module), and for one beyond [`PATTERN_BYTES_MAX`].
    pub fn compile(text: &str) -> Option<Self> {
        if text.len() > PATTERN_BYTES_MAX {
            return None;
        }
        let mut sections = vec![Section::default()];
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            let mut behind = &rest[letter.len_utf8()..];
            let open = sections.len();
            let section = sections.last_mut()?;
            match letter {
                '[' if open > OPTIONAL_DEPTH_MAX => return None,
                '[' => {
                    section.number = None;
                    sections.push(Section::default());
                }
                ']' => close(&mut sections)?,
                '{' | '}' | '#' => return None,
                '\'' => {
                    let (literal, after) = quoted(behind)?;
                    section.push(Item::Literal(literal));
                    behind = after;
                }
                _ if letter.is_ascii_alphabetic() => {
                    let count = rest.chars().take_while(|next| *next == letter).count();
                    section.push(item(letter, count)?);
                    behind = &rest[count..];
                }
                _ => section.push(Item::Literal(letter.to_string())),
            }
            rest = behind;
        }
        while sections.len() > 1 {
            close(&mut sections)?;
        }
        sections.pop().map(|section| Self(section.items))
    }

    /// Milliseconds since 1970-01-01 00:00 UTC; `None` when the text is not of this pattern or
    /// its fields do not make a moment.
    ///
    /// Without a zone it is UTC, without any time midnight, without a day the first one, without
    /// a month January. A year is needed. A day beyond the month's last one (2021-02-31) is
    /// the last one; 24:00 is the end of the day.
    pub fn parse(&self, text: &str) -> Option<i64> {
        let mut reader = Reader { text, fields: Fields::default() };
        let end = reader.all(&self.0, 0)?;
        if end < text.len() {
            return None;
        }
        reader.fields.into_millis()
    }
}

/// An open `[`, or the whole pattern.
#[derive(Default)]
struct Section {
    items: Vec<Item>,
    /// The number that has to leave digits to the ones that follow.
    number: Option<usize>,
}

impl Section {
    fn push(&mut self, item: Item) {
        let Item::Number(number) = item else {
            self.number = None;
            self.items.push(item);
            return;
        };
        let fixed = number.digits_min == number.digits_max && number.sign == Sign::Never;
        let first = self.number.and_then(|at| match self.items.get_mut(at) {
            Some(Item::Number(first)) => Some(first),
            _ => None,
        });
        match first {
            Some(first) if fixed => first.reserved += number.digits_max,
            Some(first) => {
                first.reserved = 0;
                self.number = Some(self.items.len());
            }
            None => self.number = Some(self.items.len()),
        }
        self.items.push(item);
    }
}

/// `None` when there is no section to close.
fn close(sections: &mut Vec<Section>) -> Option<()> {
    let closed = sections.pop()?;
    let outer = sections.last_mut()?;
    if !closed.items.is_empty() {
        outer.push(Item::Optional(closed.items));
    }
    Some(())
}

/// The text up to the closing quote, and what follows it. `''` is a quote, also on its own.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut literal = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        if char != '\'' {
            literal.push(char);
        } else if chars.next_if(|(_, next)| *next == '\'').is_some() {
            literal.push('\'');
        } else {
            let behind = &text[at + 1..];
            return Some((if at == 0 { "'".to_owned() } else { literal }, behind));
        }
    }
    None
}

fn item(letter: char, count: usize) -> Option<Item> {
    let text = |field, names, short, first| Some(Item::Text(field, Names { names, short, first }));
    match (letter, count) {
        ('u', _) => Some(year(Field::Year, count)),
        ('y', _) => Some(year(Field::YearOfEra, count)),
        ('G', 1..=3) => text(Field::Era, &ERAS, false, 0),
        ('G', 4) => text(Field::Era, &ERAS_LONG, false, 0),
        ('M' | 'L', 1 | 2) => Some(number(Field::Month, count)),
        ('M' | 'L', 3 | 4) => text(Field::Month, &MONTHS, count == 3, 1),
        ('d', 1 | 2) => Some(number(Field::DayOfMonth, count)),
        ('D', 1 | 3) => Some(number(Field::DayOfYear, count)),
        ('D', 2) => Some(Item::Number(Number {
            digits_max: 3,
            ..plain(Field::DayOfYear, 2, 2, Sign::Never)
        })),
        ('E', 1..=3) | ('e', 3) => text(Field::DayOfWeek, &WEEKDAYS, true, 1),
        ('E' | 'e', 4) => text(Field::DayOfWeek, &WEEKDAYS, false, 1),
        ('e', 1 | 2) => Some(Item::Number(plain(Field::DayFromSunday, count, count, Sign::Never))),
        ('a', 1) => text(Field::HalfDay, &HALF_DAYS, false, 0),
        ('h', 1 | 2) => Some(number(Field::ClockHourOfHalfDay, count)),
        ('K', 1 | 2) => Some(number(Field::HourOfHalfDay, count)),
        ('k', 1 | 2) => Some(number(Field::ClockHour, count)),
        ('H', 1 | 2) => Some(number(Field::Hour, count)),
        ('m', 1 | 2) => Some(number(Field::Minute, count)),
        ('s', 1 | 2) => Some(number(Field::Second, count)),
        ('S', 1..=9) => Some(Item::Number(Number {
            form: Form::Fraction,
            ..plain(Field::Nano, count, count, Sign::Never)
        })),
        ('A', _) => Some(wide(Field::MilliOfDay, count)),
        ('n', _) => Some(wide(Field::Nano, count)),
        ('N', _) => Some(wide(Field::NanoOfDay, count)),
        ('V', 2) => Some(Item::ZoneId),
        ('z', 1..=4) => Some(Item::ZoneName { long: count == 4 }),
        ('O', 1 | 4) | ('Z', 4) => Some(Item::LocalizedOffset { long: count == 4 }),
        ('X' | 'x', 1..=5) | ('Z', 1..=5) => Some(Item::Offset(offset(letter, count))),
        _ => None,
    }
}

fn plain(field: Field, digits_min: usize, digits_max: usize, sign: Sign) -> Number {
    Number { field, digits_min, digits_max, sign, form: Form::Plain, reserved: 0 }
}

/// One letter: any width; more: exactly this width.
fn number(field: Field, count: usize) -> Item {
    Item::Number(match count {
        1 => plain(field, 1, DIGITS_MAX, Sign::Minus),
        _ => plain(field, count, count, Sign::Never),
    })
}

fn year(field: Field, count: usize) -> Item {
    Item::Number(match count {
        2 => Number { form: Form::TwoDigits, ..plain(field, 2, 2, Sign::Never) },
        1 | 3 => plain(field, count, DIGITS_MAX, Sign::Minus),
        _ => plain(field, count, DIGITS_MAX, Sign::ExceedsPad),
    })
}

fn wide(field: Field, count: usize) -> Item {
    Item::Number(plain(field, count, DIGITS_MAX, Sign::Never))
}

fn offset(letter: char, count: usize) -> Offset {
    use Need::{Absent, Optional, Required};
    let (colon, minutes, seconds) = match (letter, count) {
        ('Z', 5) | (_, 5) => (true, Required, Optional),
        ('Z', _) | (_, 2) => (false, Required, Absent),
        (_, 1) => (false, Optional, Absent),
        (_, 3) => (true, Required, Absent),
        _ => (false, Required, Optional),
    };
    let zero = match (letter, count) {
        ('X', _) | ('Z', 5) => "Z",
        ('x', 1) => "+00",
        ('x', 3 | 5) => "+00:00",
        _ => "+0000",
    };
    Offset { colon, minutes, seconds, zero }
}

struct Reader<'a> {
    text: &'a str,
    fields: Fields,
}

/// Every method takes where it starts and answers where it ended; `None` when the text differs.
impl Reader<'_> {
    fn all(&mut self, items: &[Item], start: usize) -> Option<usize> {
        items.iter().try_fold(start, |at, item| self.item(item, at))
    }

    fn item(&mut self, item: &Item, at: usize) -> Option<usize> {
        match item {
            Item::Literal(literal) => self.exactly(literal, at),
            Item::Number(number) => self.number(number, at),
            Item::Text(field, names) => self.name(*field, *names, at),
            Item::ZoneId => self.zone(None, at),
            Item::ZoneName { long } => self.zone(Some(*long), at),
            Item::Offset(offset) => {
                let (seconds, end) = self.offset(offset, at)?;
                self.fields.set(Field::OffsetSeconds, seconds)?;
                Some(end)
            }
            Item::LocalizedOffset { long } => self.localized_offset(*long, at),
            Item::Optional(items) => {
                let before = self.fields.clone();
                let end = self.all(items, at);
                if end.is_none() {
                    self.fields = before;
                }
                Some(end.unwrap_or(at))
            }
        }
    }

    fn rest(&self, at: usize) -> &str {
        self.text.get(at..).unwrap_or_default()
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn exactly(&self, literal: &str, at: usize) -> Option<usize> {
        self.rest(at).starts_with(literal).then_some(at + literal.len())
    }

    /// The digits from here on, at most so many.
    fn digits(&self, at: usize, max: usize) -> usize {
        self.rest(at).bytes().take(max).take_while(u8::is_ascii_digit).count()
    }

    fn two_digits(&self, at: usize) -> Option<i64> {
        (self.digits(at, 2) == 2).then(|| self.value(at, 2))?
    }

    fn value(&self, at: usize, digits: usize) -> Option<i64> {
        // Zeros in front are as many as the pattern is long; they say nothing.
        let text = self.rest(at).get(..digits)?.trim_start_matches('0');
        if text.len() > DIGITS_KEPT_MAX {
            return None;
        }
        Some(text.bytes().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
    }

    fn number(&mut self, number: &Number, start: usize) -> Option<usize> {
        let sign = self.byte(start)?;
        let at = match (sign, number.sign) {
            (b'+', Sign::ExceedsPad) | (b'-', Sign::ExceedsPad | Sign::Minus) => start + 1,
            _ => start,
        };
        let mut digits = self.digits(at, number.digits_max + number.reserved);
        if number.reserved > 0 {
            digits = number.digits_min.max(digits.saturating_sub(number.reserved));
        }
        if self.digits(at, digits) < number.digits_min {
            return None;
        }
        let value = self.value(at, digits)?;
        let value = match number.form {
            Form::Fraction => value * 10_i64.pow(u32::try_from(9 - digits).ok()?),
            Form::TwoDigits if digits == 2 => 2_000 + value,
            Form::TwoDigits | Form::Plain => value,
        };
        let value = match (sign, number.sign) {
            (b'-', Sign::ExceedsPad | Sign::Minus) if value == 0 => return None,
            (b'-', Sign::ExceedsPad | Sign::Minus) => -value,
            (b'+', Sign::ExceedsPad) if digits <= number.digits_min => return None,
            (b'0'..=b'9', Sign::ExceedsPad) if digits > number.digits_min => return None,
            _ => value,
        };
        self.fields.set(number.field, value)?;
        Some(at + digits)
    }

    fn name(&mut self, field: Field, names: Names, at: usize) -> Option<usize> {
        let rest = self.rest(at);
        let form = |name| if names.short { short_name(name) } else { name };
        let found = (names.first..).zip(names.names).find(|(_, name)| rest.starts_with(form(name)));
        let (value, name) = found?;
        let end = at + form(name).len();
        self.fields.set(field, value)?;
        Some(end)
    }

    /// An id, `Z`, an offset, or `UTC`, `GMT` or `UT` with or without an offset; where `names` is
    /// given, also a long or a short name.
    fn zone(&mut self, names: Option<bool>, at: usize) -> Option<usize> {
        let prefix =
            ["UTC", "GMT0", "GMT", "UT"].into_iter().find(|it| self.rest(at).starts_with(it));
        let (zone, end) = if matches!(self.byte(at)?, b'+' | b'-') {
            let (seconds, end) = self.offset(&OFFSET_ID, at)?;
            (fixed_zone(seconds)?, end)
        } else if let Some(prefix) = prefix {
            self.prefixed_offset(prefix, at + prefix.len())?
        } else {
            self.named_zone(names, at)?
        };
        self.fields.zone = Some(zone);
        Some(end)
    }

    fn prefixed_offset(&self, prefix: &str, at: usize) -> Option<(TimeZone, usize)> {
        let bare = || (TimeZone::UTC, at);
        if prefix == "GMT0" || !matches!(self.byte(at), Some(b'+' | b'-')) {
            return Some(bare());
        }
        match self.offset(&OFFSET_ID, at) {
            Some((seconds, end)) => Some((fixed_zone(seconds)?, end)),
            None => Some(bare()),
        }
    }

    /// The longest id or name that the text starts with.
    fn named_zone(&self, names: Option<bool>, at: usize) -> Option<(TimeZone, usize)> {
        let rest = self.rest(at);
        let is_id = |byte: &u8| byte.is_ascii_alphanumeric() || b"/_+-".contains(byte);
        let longest = rest.bytes().take(ZONE_ID_BYTES_MAX).take_while(is_id).count();
        let mut ids = (1..=longest).rev();
        let id = ids.find_map(|length| Some((region(rest.get(..length)?)?, length)));
        let name = names.and_then(|long| {
            let form = |it: &super::names::ZoneName| if long { it.long } else { it.short };
            let matching = ZONE_NAMES.iter().filter(|it| rest.starts_with(form(it)));
            // Of the same length the first one.
            let name = matching.rev().max_by_key(|it| form(it).len())?;
            Some((name.zone, form(name).len()))
        });
        let id_length = id.as_ref().map_or(0, |(_, length)| *length);
        let (zone, length) = match name {
            Some((zone, length)) if length >= id_length => (region(zone)?, length),
            _ if id.is_some() => id?,
            _ if rest.starts_with('Z') => (TimeZone::UTC, 1),
            _ => return None,
        };
        Some((zone, at + length))
    }

    /// In seconds.
    fn offset(&self, offset: &Offset, at: usize) -> Option<(i64, usize)> {
        if let Some(end) = self.exactly(offset.zero, at) {
            return Some((0, end));
        }
        let sign = match self.byte(at)? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let mut end = at + 1;
        let hours = self.two_digits(end)?;
        end += 2;
        let mut seconds = hours * 3_600;
        for (need, unit) in [(offset.minutes, 60), (offset.seconds, 1)] {
            let digits = if offset.colon { self.exactly(":", end) } else { Some(end) };
            let part = digits.and_then(|at| Some((self.two_digits(at)?, at + 2)));
            match part.filter(|(value, _)| *value < 60 && need != Need::Absent) {
                Some((value, part_end)) => {
                    seconds += value * unit;
                    end = part_end;
                }
                None if need == Need::Required => return None,
                None => break,
            }
        }
        (hours < 24).then_some((sign * seconds, end))
    }

    fn localized_offset(&mut self, long: bool, at: usize) -> Option<usize> {
        let mut end = self.exactly("GMT", at)?;
        let sign = match self.byte(end) {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => {
                self.fields.set(Field::OffsetSeconds, 0)?;
                return Some(end);
            }
        };
        end += 1;
        let digits = self.digits(end, 2);
        if digits == 0 || (long && digits < 2) {
            return None;
        }
        let mut seconds = self.value(end, digits)? * 3_600;
        end += digits;
        for (unit, required) in [(60, long), (1, false)] {
            let part = self.exactly(":", end).and_then(|at| self.two_digits(at));
            match part {
                Some(value) => {
                    seconds += value * unit;
                    end += 3;
                }
                None if required => return None,
                None => break,
            }
        }
        self.fields.set(Field::OffsetSeconds, sign * seconds)?;
        Some(end)
    }
}

/// How the id of a zone writes an offset; its zero is one without seconds.
const OFFSET_ID: Offset =
    Offset { colon: true, minutes: Need::Required, seconds: Need::Optional, zero: "Z" };

fn fixed_zone(seconds: i64) -> Option<TimeZone> {
    super::resolve::offset(seconds).map(jiff::tz::Offset::to_time_zone)
}
