//! From the fields of a text to a moment, as the JDK's `ResolverStyle.SMART` does.
//!
//! Fields that say the same twice have to agree. Unlike the JDK, a missing day or month is the
//! first one, and a missing time is midnight.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{Offset, TimeZone};

/// The JDK's largest offset, 18 hours.
const OFFSET_SECONDS_MAX: i64 = 18 * 3_600;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field {
    /// 0 before our era, 1 in it.
    Era,
    YearOfEra,
    /// 0 is 1 BC.
    Year,
    Month,
    DayOfYear,
    DayOfMonth,
    /// From Monday, 1.
    DayOfWeek,
    /// From Sunday, 1, as weeks start in the United States.
    DayFromSunday,
    /// 0 before noon, 1 after.
    HalfDay,
    /// 1..=12.
    ClockHourOfHalfDay,
    /// 0..=11.
    HourOfHalfDay,
    /// 1..=24.
    ClockHour,
    Hour,
    Minute,
    Second,
    /// Of the second.
    Nano,
    MilliOfDay,
    NanoOfDay,
    OffsetSeconds,
}

const FIELDS: usize = Field::OffsetSeconds as usize + 1;

/// What was read so far.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    values: [Option<i64>; FIELDS],
    pub zone: Option<TimeZone>,
}

impl Fields {
    /// `None` when the field has another value already.
    pub fn set(&mut self, field: Field, value: i64) -> Option<()> {
        (*self.values[field as usize].get_or_insert(value) == value).then_some(())
    }

    /// Milliseconds since 1970; `None` when the fields contradict each other or say too little.
    pub fn into_millis(mut self) -> Option<i64> {
        let mut date = self.date()?;
        let (time, next_day) = self.time()?;
        if next_day {
            date = date.tomorrow().ok()?;
        }
        let civil = date.to_datetime(time);
        let timestamp = match (self.get(Field::OffsetSeconds), self.zone) {
            // An offset says more than a zone: at the end of summer time an hour comes twice.
            (Some(seconds), _) => offset(seconds)?.to_timestamp(civil).ok()?,
            // Skipped times move on, of those that come twice it is the first.
            (None, Some(zone)) => zone.to_ambiguous_timestamp(civil).compatible().ok()?,
            (None, None) => Offset::UTC.to_timestamp(civil).ok()?,
        };
        i64::try_from(timestamp.as_nanosecond().div_euclid(1_000_000)).ok()
    }

    fn get(&self, field: Field) -> Option<i64> {
        self.values[field as usize]
    }

    /// Out of range is `None`, missing is `Some(None)`.
    #[allow(clippy::option_option, reason = "two answers: is it there, and is it good")]
    fn within(&self, field: Field, min: i64, max: i64) -> Option<Option<i64>> {
        let value = self.get(field);
        value.is_none_or(|value| (min..=max).contains(&value)).then_some(value)
    }

    fn date(&mut self) -> Option<Date> {
        let year = i16::try_from(self.year()?).ok()?;
        let month = self.within(Field::Month, 1, 12)?;
        let day = self.within(Field::DayOfMonth, 1, 31)?;
        let day_of_year = self.within(Field::DayOfYear, 1, 366)?;
        let first = |month: i64| Date::new(year, i8::try_from(month).ok()?, 1).ok();
        let date = match (month, day, day_of_year) {
            (Some(month), Some(day), _) => {
                let first = first(month)?;
                let last = i64::from(first.days_in_month());
                first.with().day(i8::try_from(day.min(last)).ok()?).build().ok()?
            }
            (_, _, Some(day)) => {
                first(1)?.with().day_of_year(i16::try_from(day).ok()?).build().ok()?
            }
            (_, None, None) => first(month.unwrap_or(1))?,
            (None, Some(_), None) => return None,
        };
        let agrees = |value: Option<i64>, of_date: i64| value.is_none_or(|it| it == of_date);
        // The day of the month may have been beyond the last one.
        let good = agrees(month, i64::from(date.month()))
            && (month.is_some() || agrees(day, i64::from(date.day())))
            && agrees(day_of_year, i64::from(date.day_of_year()))
            && self.weekday()?.is_none_or(|weekday| weekday == date.weekday());
        good.then_some(date)
    }

    fn year(&self) -> Option<i64> {
        let year = self.get(Field::Year);
        let era = self.within(Field::Era, 0, 1)?;
        let of_era = match self.within(Field::YearOfEra, 1, i64::MAX)? {
            None => None,
            Some(of_era) if era.map_or(year.is_none_or(|year| year > 0), |era| era == 1) => {
                Some(of_era)
            }
            Some(of_era) => Some(1 - of_era),
        };
        let resolved = of_era.or(year)?;
        let good = year.is_none_or(|year| year == resolved)
            && era.is_none_or(|era| (era == 1) == (resolved > 0));
        good.then_some(resolved)
    }

    #[allow(clippy::option_option, reason = "as for `within`")]
    fn weekday(&mut self) -> Option<Option<Weekday>> {
        if let Some(from_sunday) = self.within(Field::DayFromSunday, 1, 7)? {
            let from_monday = if from_sunday == 1 { 7 } else { from_sunday - 1 };
            self.set(Field::DayOfWeek, from_monday)?;
        }
        let Some(day) = self.within(Field::DayOfWeek, 1, 7)? else { return Some(None) };
        Weekday::from_monday_one_offset(i8::try_from(day).ok()?).ok().map(Some)
    }

    /// And whether it is the midnight at the end of the day.
    fn time(&mut self) -> Option<(Time, bool)> {
        self.resolve_hour()?;
        self.resolve_counts_of_day()?;
        let minute = self.within(Field::Minute, 0, 59)?;
        let second = self.within(Field::Second, 0, 59)?;
        let nano = self.within(Field::Nano, 0, NANOS_PER_SECOND - 1)?;
        let half_day = self.within(Field::HalfDay, 0, 1)?;
        let of_half_day = self.get(Field::HourOfHalfDay);
        let Some(hour) = self.within(Field::Hour, 0, 24)? else {
            let any = minute.or(second).or(nano).or(half_day).or(of_half_day);
            return any.is_none().then_some((Time::midnight(), false));
        };
        // A finer field needs the coarser ones.
        if (minute.is_none() && second.or(nano).is_some()) || (second.is_none() && nano.is_some()) {
            return None;
        }
        let [minute, second, nano] = [minute, second, nano].map(Option::unwrap_or_default);
        let next_day = hour == 24;
        if next_day && (minute, second, nano) != (0, 0, 0) {
            return None;
        }
        let hour = hour % 24;
        if half_day.is_some_and(|half| half != hour / 12)
            || of_half_day.is_some_and(|of_half| of_half != hour % 12)
        {
            return None;
        }
        let small = |value: i64| i8::try_from(value).ok();
        let nano = i32::try_from(nano).ok()?;
        let time = Time::new(small(hour)?, small(minute)?, small(second)?, nano).ok()?;
        Some((time, next_day))
    }

    /// The ways to write an hour.
    fn resolve_hour(&mut self) -> Option<()> {
        // The JDK lets 0 pass where a clock shows 12 or 24.
        if let Some(clock) = self.within(Field::ClockHour, 0, 24)? {
            self.set(Field::Hour, clock % 24)?;
        }
        if let Some(clock) = self.within(Field::ClockHourOfHalfDay, 0, 12)? {
            self.set(Field::HourOfHalfDay, clock % 12)?;
        }
        let half_day = self.within(Field::HalfDay, 0, 1)?;
        let of_half_day = self.within(Field::HourOfHalfDay, 0, 11)?;
        if let Some((half_day, hour)) = half_day.zip(of_half_day) {
            self.set(Field::Hour, half_day * 12 + hour)?;
        }
        Some(())
    }

    /// Milliseconds and nanoseconds since midnight.
    fn resolve_counts_of_day(&mut self) -> Option<()> {
        if let Some(nanos) = self.within(Field::NanoOfDay, 0, 86_400 * NANOS_PER_SECOND - 1)? {
            self.set_second_of_day(nanos / NANOS_PER_SECOND)?;
            self.set(Field::Nano, nanos % NANOS_PER_SECOND)?;
        }
        if let Some(millis) = self.within(Field::MilliOfDay, 0, 86_400_000 - 1)? {
            self.set_second_of_day(millis / 1_000)?;
            let below = self.get(Field::Nano).unwrap_or_default() % 1_000_000;
            self.set(Field::Nano, millis % 1_000 * 1_000_000 + below)?;
        }
        Some(())
    }

    fn set_second_of_day(&mut self, second: i64) -> Option<()> {
        self.set(Field::Hour, second / 3_600)?;
        self.set(Field::Minute, second / 60 % 60)?;
        self.set(Field::Second, second % 60)
    }
}

/// An offset from UTC; `None` beyond 18 hours.
pub fn offset(seconds: i64) -> Option<Offset> {
    if seconds.abs() > OFFSET_SECONDS_MAX {
        return None;
    }
    Offset::from_seconds(i32::try_from(seconds).ok()?).ok()
}
