//! English names of months, days and zones.
//!
//! The database of zones has abbreviations only, and for many zones only numbers, so the names
//! of common ones stand here.

/// From January.
pub const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// From Monday.
pub const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Before noon and after.
pub const HALF_DAYS: [&str; 2] = ["AM", "PM"];

/// Before our era and in it.
pub const ERAS: [&str; 2] = ["BC", "AD"];

/// As [`ERAS`], in full.
pub const ERAS_LONG: [&str; 2] = ["Before Christ", "Anno Domini"];

/// The short form of a month or a day.
pub fn short(name: &'static str) -> &'static str {
    &name[..3]
}

/// A name of a zone.
pub struct ZoneName {
    /// As in the database of zones.
    pub short: &'static str,
    /// As the JDK writes it.
    pub long: &'static str,
    /// An id of a zone that has this name; the first one of a short name is what it means.
    pub zone: &'static str,
}

/// The long form of an abbreviation in use at this zone: of its own row, else of the first one.
pub fn long_zone_name(short: &str, zone: &str) -> Option<&'static str> {
    let of_name = || ZONE_NAMES.iter().filter(|name| name.short == short);
    let own = of_name().find(|name| name.zone == zone);
    own.or_else(|| of_name().next()).map(|name| name.long)
}

const fn row(short: &'static str, long: &'static str, zone: &'static str) -> ZoneName {
    ZoneName { short, long, zone }
}

pub static ZONE_NAMES: &[ZoneName] = &[
    row("UTC", "Coordinated Universal Time", "UTC"),
    row("GMT", "Greenwich Mean Time", "Etc/GMT"),
    // America.
    row("NST", "Newfoundland Standard Time", "America/St_Johns"),
    row("NDT", "Newfoundland Daylight Time", "America/St_Johns"),
    row("AST", "Atlantic Standard Time", "America/Halifax"),
    row("ADT", "Atlantic Daylight Time", "America/Halifax"),
    row("EST", "Eastern Standard Time", "America/New_York"),
    row("EDT", "Eastern Daylight Time", "America/New_York"),
    row("CST", "Central Standard Time", "America/Chicago"),
    row("CST", "China Standard Time", "Asia/Shanghai"),
    row("CST", "China Standard Time", "Asia/Macau"),
    row("CST", "Taipei Standard Time", "Asia/Taipei"),
    row("CST", "Cuba Standard Time", "America/Havana"),
    row("CDT", "Central Daylight Time", "America/Chicago"),
    row("CDT", "Cuba Daylight Time", "America/Havana"),
    row("MST", "Mountain Standard Time", "America/Denver"),
    row("MST", "Mexican Pacific Standard Time", "America/Hermosillo"),
    row("MST", "Mexican Pacific Standard Time", "America/Mazatlan"),
    row("MDT", "Mountain Daylight Time", "America/Denver"),
    row("PST", "Pacific Standard Time", "America/Los_Angeles"),
    row("PST", "Philippine Standard Time", "Asia/Manila"),
    row("PDT", "Pacific Daylight Time", "America/Los_Angeles"),
    row("AKST", "Alaska Standard Time", "America/Anchorage"),
    row("AKDT", "Alaska Daylight Time", "America/Anchorage"),
    row("HST", "Hawaii-Aleutian Standard Time", "Pacific/Honolulu"),
    row("HDT", "Hawaii-Aleutian Daylight Time", "America/Adak"),
    row("SST", "Samoa Standard Time", "Pacific/Pago_Pago"),
    row("ChST", "Chamorro Standard Time", "Pacific/Guam"),
    // Europe.
    row("WET", "Western European Standard Time", "Europe/Lisbon"),
    row("WEST", "Western European Summer Time", "Europe/Lisbon"),
    row("BST", "British Summer Time", "Europe/London"),
    row("CET", "Central European Standard Time", "Europe/Paris"),
    row("CEST", "Central European Summer Time", "Europe/Paris"),
    row("EET", "Eastern European Standard Time", "Europe/Bucharest"),
    row("EEST", "Eastern European Summer Time", "Europe/Bucharest"),
    row("MSK", "Moscow Standard Time", "Europe/Moscow"),
    // Africa.
    row("WAT", "West Africa Standard Time", "Africa/Lagos"),
    row("CAT", "Central Africa Time", "Africa/Maputo"),
    row("EAT", "East Africa Time", "Africa/Nairobi"),
    row("SAST", "South Africa Standard Time", "Africa/Johannesburg"),
    // Asia and Australia.
    row("IST", "India Standard Time", "Asia/Kolkata"),
    row("IST", "Irish Standard Time", "Europe/Dublin"),
    row("IST", "Israel Standard Time", "Asia/Jerusalem"),
    row("IDT", "Israel Daylight Time", "Asia/Jerusalem"),
    row("PKT", "Pakistan Standard Time", "Asia/Karachi"),
    row("WIB", "Western Indonesia Time", "Asia/Jakarta"),
    row("WITA", "Central Indonesia Time", "Asia/Makassar"),
    row("WIT", "Eastern Indonesia Time", "Asia/Jayapura"),
    row("HKT", "Hong Kong Standard Time", "Asia/Hong_Kong"),
    row("JST", "Japan Standard Time", "Asia/Tokyo"),
    row("KST", "Korean Standard Time", "Asia/Seoul"),
    row("AWST", "Australian Western Standard Time", "Australia/Perth"),
    row("ACST", "Australian Central Standard Time", "Australia/Adelaide"),
    row("ACDT", "Australian Central Daylight Time", "Australia/Adelaide"),
    row("AEST", "Australian Eastern Standard Time", "Australia/Sydney"),
    row("AEDT", "Australian Eastern Daylight Time", "Australia/Sydney"),
    row("NZST", "New Zealand Standard Time", "Pacific/Auckland"),
    row("NZDT", "New Zealand Daylight Time", "Pacific/Auckland"),
];
