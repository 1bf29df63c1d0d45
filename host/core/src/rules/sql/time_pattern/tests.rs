//! Where nothing else is said, what is expected was computed with Joda-Time 2.10 and the JDK 17.

use super::*;
use proptest::prelude::*;

#[track_caller]
fn check_format(rows: &[(&str, i64, &str, Option<&str>)]) {
    for (pattern, millis, zone, expected) in rows {
        let zone = Zone::parse(zone);
        let compiled = joda::Pattern::compile(pattern);
        let text = compiled.zip(zone).and_then(|(pattern, zone)| pattern.format(*millis, &zone));
        assert_eq!(text.as_deref(), *expected, "{pattern:?} of {millis}");
    }
}

#[track_caller]
fn check_parse(rows: &[(&str, &str, Option<i64>)]) {
    for (text, pattern, expected) in rows {
        let millis = jdk::Pattern::compile(pattern).and_then(|pattern| pattern.parse(text));
        assert_eq!(millis, *expected, "{text:?} by {pattern:?}");
    }
}

#[test]
fn the_documentations_example_is_written() {
    // AWS IoT SQL reference, `parse_time`.
    check_format(&[
        (
            "yyyy.MM.dd G 'at' HH:mm:ss z",
            100_000_000,
            "America/Belize",
            Some("1970.01.01 AD at 21:46:40 CST"),
        ),
        ("yyyy-MM-dd HH:mm:ss", 1_674_066_345_000, "UTC", Some("2023-01-18 18:25:45")),
    ]);
}

#[test]
fn patterns_are_written_as_joda_time_does() {
    check_format(&[
        ("yyyy-MM-dd HH:mm:ss", 0, "Australia/Lord_Howe", Some("1970-01-01 10:00:00")),
        ("yyyy-MM-dd HH:mm:ss", 1_674_066_345_000, "+02:00", Some("2023-01-18 20:25:45")),
        ("yyyy-MM-dd HH:mm:ss", 1_674_066_345_678, "America/Belize", Some("2023-01-18 12:25:45")),
        ("yyyy-MM-dd HH:mm:ss", -1, "Pacific/Apia", Some("1969-12-31 12:59:59")),
        ("yyyy-MM-dd HH:mm:ss", -62_135_596_800_001, "UTC", Some("0000-12-31 23:59:59")),
        ("yyyy.MM.dd G 'at' HH:mm:ss z", 0, "-09:30", Some("1969.12.31 AD at 14:30:00 -09:30")),
        (
            "yyyy.MM.dd G 'at' HH:mm:ss z",
            1_674_066_345_000,
            "Asia/Kolkata",
            Some("2023.01.18 AD at 23:55:45 IST"),
        ),
        (
            "yyyy.MM.dd G 'at' HH:mm:ss z",
            1_674_066_345_678,
            "UTC",
            Some("2023.01.18 AD at 18:25:45 UTC"),
        ),
        (
            "yyyy.MM.dd G 'at' HH:mm:ss z",
            -1,
            "America/Los_Angeles",
            Some("1969.12.31 AD at 15:59:59 PST"),
        ),
        (
            "yyyy-MM-dd'T'HH:mm:ss.SSSZZ",
            0,
            "Australia/Lord_Howe",
            Some("1970-01-01T10:00:00.000+10:00"),
        ),
        (
            "yyyy-MM-dd'T'HH:mm:ss.SSSZZ",
            1_674_066_345_000,
            "Asia/Kathmandu",
            Some("2023-01-19T00:10:45.000+05:45"),
        ),
        (
            "yyyy-MM-dd'T'HH:mm:ss.SSSZZ",
            1_674_066_345_678,
            "Asia/Tokyo",
            Some("2023-01-19T03:25:45.678+09:00"),
        ),
        (
            "yyyy-MM-dd'T'HH:mm:ss.SSSZZ",
            -1,
            "Asia/Kathmandu",
            Some("1970-01-01T05:29:59.999+05:30"),
        ),
        (
            "yyyy-MM-dd'T'HH:mm:ss.SSSZZ",
            -62_135_596_800_001,
            "Australia/Lord_Howe",
            Some("0001-01-01T10:36:19.999+10:36"),
        ),
        ("EEE, d MMM yyyy h:mm a", 0, "Asia/Tokyo", Some("Thu, 1 Jan 1970 9:00 AM")),
        (
            "EEE, d MMM yyyy h:mm a",
            1_674_066_345_000,
            "Europe/London",
            Some("Wed, 18 Jan 2023 6:25 PM"),
        ),
        ("EEE, d MMM yyyy h:mm a", 1_674_066_345_678, "-09:30", Some("Wed, 18 Jan 2023 8:55 AM")),
        ("EEE, d MMM yyyy h:mm a", -1, "Asia/Kathmandu", Some("Thu, 1 Jan 1970 5:29 AM")),
        (
            "EEE, d MMM yyyy h:mm a",
            -62_135_596_800_001,
            "Australia/Lord_Howe",
            Some("Mon, 1 Jan 0001 10:36 AM"),
        ),
        ("'o''clock' hh 'x", 0, "-09:30", Some("o'clock 02 x")),
        ("'o''clock' hh 'x", 1_674_066_345_000, "America/Belize", Some("o'clock 12 x")),
        ("'o''clock' hh 'x", 1_674_066_345_678, "+02:00", Some("o'clock 08 x")),
        ("'o''clock' hh 'x", -1, "Australia/Lord_Howe", Some("o'clock 09 x")),
        ("'o''clock' hh 'x", -62_135_596_800_001, "+02:00", Some("o'clock 01 x")),
        ("yyyyMMddHHmmssSSS", 0, "Europe/London", Some("19700101010000000")),
        ("yyyyMMddHHmmssSSS", 1_674_066_345_000, "Asia/Kathmandu", Some("20230119001045000")),
        ("yyyyMMddHHmmssSSS", 1_674_066_345_678, "America/St_Johns", Some("20230118145545678")),
        ("yyyyMMddHHmmssSSS", -1, "Pacific/Apia", Some("19691231125959999")),
        (
            "yyyyMMddHHmmssSSS",
            -62_135_596_800_001,
            "America/Los_Angeles",
            Some("00001231160701999"),
        ),
        ("''''yyyy", 0, "Pacific/Apia", Some("''1969")),
        ("''''yyyy", 1_674_066_345_000, "Asia/Kathmandu", Some("''2023")),
        ("''''yyyy", 1_674_066_345_678, "Europe/London", Some("''2023")),
        ("''''yyyy", -1, "America/St_Johns", Some("''1969")),
        ("''''yyyy", -62_135_596_800_001, "America/Belize", Some("''0000")),
        ("yyyy]", 0, "UTC", Some("1970]")),
        ("[yyyy]", 0, "UTC", Some("[1970]")),
        ("{yyyy}", 0, "UTC", Some("{1970}")),
        ("é yyyy ü'ß'", 0, "UTC", Some("é 1970 üß")),
        ("yyyy-MM-dd'T", 0, "UTC", Some("1970-01-01T")),
    ]);
}

#[test]
fn years_are_written_with_their_weeks_and_centuries() {
    check_format(&[
        (
            "y yy yyy yyyyy Y YY x xx w ww C",
            0,
            "UTC",
            Some("1970 70 1970 01970 1970 70 1970 70 1 01 19"),
        ),
        (
            "y yy yyy yyyyy Y YY x xx w ww C",
            1_674_066_345_000,
            "Asia/Tokyo",
            Some("2023 23 2023 02023 2023 23 2023 23 3 03 20"),
        ),
        (
            "y yy yyy yyyyy Y YY x xx w ww C",
            1_704_067_199_999,
            "UTC",
            Some("2023 23 2023 02023 2023 23 2023 23 52 52 20"),
        ),
        (
            "y yy yyy yyyyy Y YY x xx w ww C",
            1_711_846_800_000,
            "Asia/Tokyo",
            Some("2024 24 2024 02024 2024 24 2024 24 13 13 20"),
        ),
        (
            "y yy yyy yyyyy Y YY x xx w ww C",
            -62_135_596_800_001,
            "Pacific/Apia",
            Some("1 01 001 00001 1 01 1 01 1 01 0"),
        ),
        ("xxxx-'W'ww-e", 0, "Asia/Tokyo", Some("1970-W01-4")),
        ("xxxx-'W'ww-e", 1_674_066_345_000, "Australia/Lord_Howe", Some("2023-W03-4")),
        ("xxxx-'W'ww-e", 1_704_067_199_999, "Asia/Tokyo", Some("2024-W01-1")),
        ("xxxx-'W'ww-e", 1_711_846_800_000, "Asia/Kathmandu", Some("2024-W13-7")),
        ("xxxx-'W'ww-e", -1, "America/St_Johns", Some("1970-W01-3")),
        ("xxxx-'W'ww-e", -62_135_596_800_001, "Australia/Lord_Howe", Some("0001-W01-1")),
    ]);
}

#[test]
fn days_and_hours_are_written_as_names_and_numbers() {
    check_format(&[
        (
            "E EEEE e D DDD MMM MMMM M d a K h H k hh KK kk",
            0,
            "UTC",
            Some("Thu Thursday 4 1 001 Jan January 1 1 AM 0 12 0 24 12 00 24"),
        ),
        (
            "E EEEE e D DDD MMM MMMM M d a K h H k hh KK kk",
            1_674_066_345_000,
            "Asia/Kolkata",
            Some("Wed Wednesday 3 18 018 Jan January 1 18 PM 11 11 23 23 11 11 23"),
        ),
        (
            "E EEEE e D DDD MMM MMMM M d a K h H k hh KK kk",
            1_674_066_345_678,
            "UTC",
            Some("Wed Wednesday 3 18 018 Jan January 1 18 PM 6 6 18 18 06 06 18"),
        ),
        (
            "E EEEE e D DDD MMM MMMM M d a K h H k hh KK kk",
            1_704_067_199_999,
            "+02:00",
            Some("Mon Monday 1 1 001 Jan January 1 1 AM 1 1 1 1 01 01 01"),
        ),
    ]);
}

#[test]
fn fractions_and_offsets_are_written_as_wide_as_their_letters() {
    check_format(&[
        ("S SS SSS SSSSSS", 0, "Europe/London", Some("0 00 000 000000")),
        ("S SS SSS SSSSSS", 1_674_066_345_000, "-09:30", Some("0 00 000 000000")),
        ("S SS SSS SSSSSS", 1_674_066_345_678, "Pacific/Apia", Some("6 67 678 678000")),
        ("S SS SSS SSSSSS", 1_704_067_199_999, "Pacific/Apia", Some("9 99 999 999000")),
        ("S SS SSS SSSSSS", 1_711_846_800_000, "Asia/Kolkata", Some("0 00 000 000000")),
        ("S SS SSS SSSSSS", -1, "+02:00", Some("9 99 999 999000")),
        ("Z ZZ ZZZ z", 0, "-09:30", Some("-0930 -09:30 -09:30 -09:30")),
        (
            "Z ZZ ZZZ z",
            1_674_066_345_000,
            "America/St_Johns",
            Some("-0330 -03:30 America/St_Johns NST"),
        ),
        (
            "Z ZZ ZZZ z",
            1_674_066_345_678,
            "America/Los_Angeles",
            Some("-0800 -08:00 America/Los_Angeles PST"),
        ),
        ("Z ZZ ZZZ z", 1_234_567_890_007, "-09:30", Some("-0930 -09:30 -09:30 -09:30")),
        ("Z ZZ ZZZ z", -62_135_596_800_001, "UTC", Some("+0000 +00:00 UTC UTC")),
    ]);
}

#[test]
fn other_letters_and_an_empty_pattern_are_refused() {
    check_format(&[
        ("A", 0, "UTC", None),
        ("L", 0, "UTC", None),
        ("Q", 0, "UTC", None),
        ("u", 0, "UTC", None),
        ("n", 0, "UTC", None),
        ("V", 0, "UTC", None),
        ("", 0, "UTC", None),
    ]);
}

#[test]
fn zones_are_ids_and_offsets() {
    check_format(&[
        ("ZZZ Z ZZ", 1_690_000_000_000, "UTC", Some("UTC +0000 +00:00")),
        ("ZZZ Z ZZ", 1_690_000_000_000, "GMT", Some("Etc/GMT +0000 +00:00")),
        ("ZZZ Z ZZ", 1_690_000_000_000, "US/Pacific", Some("America/Los_Angeles -0700 -07:00")),
        ("ZZZ Z ZZ", 1_690_000_000_000, "Asia/Calcutta", Some("Asia/Kolkata +0530 +05:30")),
        ("ZZZ Z ZZ", 1_690_000_000_000, "Etc/GMT+5", Some("Etc/GMT+5 -0500 -05:00")),
        ("ZZZ Z ZZ", 1_690_000_000_000, "+02", Some("+02:00 +0200 +02:00")),
        ("ZZZ Z ZZ", 1_690_000_000_000, "+0230", Some("+02:30 +0230 +02:30")),
        ("ZZZ Z ZZ", 1_690_000_000_000, "-02:30:15", Some("-02:30:15 -0230 -02:30")),
        ("ZZZ Z ZZ", 1_690_000_000_000, "+2", None),
        ("ZZZ Z ZZ", 1_690_000_000_000, "", None),
        ("ZZZ Z ZZ", 1_690_000_000_000, "Z", None),
        ("ZZZ Z ZZ", 1_690_000_000_000, "UTC+02:00", None),
        ("ZZZ Z ZZ", 1_690_000_000_000, "america/los_angeles", None),
        ("ZZZ Z ZZ", 1_690_000_000_000, "+24:00", None),
        ("ZZZ Z ZZ", 1_690_000_000_000, "+23:59", Some("+23:59 +2359 +23:59")),
        ("ZZZ Z ZZ", 1_690_000_000_000, "+00:00", Some("UTC +0000 +00:00")),
        ("ZZZ Z ZZ", 1_690_000_000_000, "EST", Some("EST -0500 -05:00")),
        ("ZZZ Z ZZ", 1_690_000_000_000, "Nope/Zone", None),
        ("ZZZ Z ZZ", 1_690_000_000_000, "Asia/Dubai", Some("Asia/Dubai +0400 +04:00")),
        ("ZZZ Z ZZ", 1_690_000_000_000, "+02:60", None),
        ("ZZZ Z ZZ", 1_690_000_000_000, "+ab:cd", None),
        ("ZZZ Z ZZ", 1_690_000_000_000, "+02:00:00", Some("+02:00 +0200 +02:00")),
    ]);
}

#[test]
fn the_documentations_examples_are_read() {
    check_parse(&[
        ("2020-04-03 09:45:18 UTC+01:00", "yyyy-MM-dd HH:mm:ss VV", Some(1_585_903_518_000)),
        ("18 December 2015", "dd MMMM yyyy", Some(1_450_396_800_000)),
        (
            "2007-12-03 10:15:30.592 America/Los_Angeles",
            "yyyy-MM-dd HH:mm:ss.SSS z",
            Some(1_196_705_730_592),
        ),
    ]);
}

#[test]
fn days_beyond_a_month_are_its_last_but_not_beyond_31() {
    check_parse(&[
        ("2021-02-31", "yyyy-MM-dd", Some(1_614_470_400_000)),
        ("2021-04-31", "uuuu-MM-dd", Some(1_619_740_800_000)),
        ("2021-04-32", "uuuu-MM-dd", None),
        ("2021-13-01", "uuuu-MM-dd", None),
        ("2024-02-30", "uuuu-MM-dd", Some(1_709_164_800_000)),
    ]);
}

#[test]
fn hours_are_read_from_four_clocks() {
    check_parse(&[
        ("2015-12-18 24:00", "yyyy-MM-dd HH:mm", Some(1_450_483_200_000)),
        ("2015-12-18 24:01", "yyyy-MM-dd HH:mm", None),
        ("2015-12-18 25:00", "yyyy-MM-dd HH:mm", None),
        ("2015-12-31 24:00:00", "yyyy-MM-dd kk:mm:ss", Some(1_451_520_000_000)),
        ("2015-12-31 00:00:00", "yyyy-MM-dd kk:mm:ss", Some(1_451_520_000_000)),
        ("2015-12-18 12:30 AM", "yyyy-MM-dd hh:mm a", Some(1_450_398_600_000)),
        ("2015-12-18 12:30 PM", "yyyy-MM-dd hh:mm a", Some(1_450_441_800_000)),
        ("2015-12-18 00:30 PM", "yyyy-MM-dd hh:mm a", Some(1_450_441_800_000)),
        ("2015-12-18 13:30 PM", "yyyy-MM-dd hh:mm a", None),
        ("2015-12-18 11:30 PM", "yyyy-MM-dd KK:mm a", Some(1_450_481_400_000)),
        ("2015-12-18 12:30 PM", "yyyy-MM-dd KK:mm a", None),
        ("2015-12-18 11:30 pm", "yyyy-MM-dd hh:mm a", None),
        ("2015-12-18 13:30 PM", "yyyy-MM-dd HH:mm a", Some(1_450_445_400_000)),
        ("2015-12-18 13:30 AM", "yyyy-MM-dd HH:mm a", None),
        ("2015-12-18 11:30", "yyyy-MM-dd hh:mm", None),
        ("2015-12-18 PM", "yyyy-MM-dd a", None),
    ]);
}

#[test]
fn years_have_widths_signs_and_eras() {
    check_parse(&[
        ("20151218", "yyyyMMdd", Some(1_450_396_800_000)),
        ("2015121", "yyyyMMdd", None),
        ("20151218101530123", "yyyyMMddHHmmssSSS", Some(1_450_433_730_123)),
        ("151218", "yyMMdd", Some(1_450_396_800_000)),
        ("991231", "yyMMdd", Some(4_102_358_400_000)),
        ("20151218", "yyMMdd", None),
        ("120151218", "yyyyMMdd", None),
        ("+120151218", "yyyyMMdd", None),
        ("+2015-12-18", "yyyy-MM-dd", None),
        ("+12015-12-18", "yyyy-MM-dd", None),
        ("12015-12-18", "yyyy-MM-dd", None),
        ("-0001-12-18", "uuuu-MM-dd", Some(-62_168_428_800_000)),
        ("-0001-12-18", "yyyy-MM-dd", None),
        ("0000-12-18", "uuuu-MM-dd", Some(-62_136_806_400_000)),
        ("-0000-12-18", "uuuu-MM-dd", None),
        ("0000-12-18", "yyyy-MM-dd", None),
        ("0044-03-15 BC", "yyyy-MM-dd G", Some(-63_517_824_000_000)),
        ("0044-03-15 AD", "yyyy-MM-dd G", Some(-60_772_291_200_000)),
        ("0044-03-15 Before Christ", "yyyy-MM-dd GGGG", Some(-63_517_824_000_000)),
        ("-0043-03-15 BC", "uuuu-MM-dd G", Some(-63_517_824_000_000)),
        ("0043-03-15 BC", "uuuu-MM-dd G", None),
    ]);
}

#[test]
fn days_of_the_year_and_of_the_week_have_to_agree_with_the_date() {
    check_parse(&[
        ("2015-352", "yyyy-DDD", Some(1_450_396_800_000)),
        ("2015-366", "yyyy-DDD", None),
        ("2016-366", "yyyy-DDD", Some(1_483_142_400_000)),
        ("2015-35", "yyyy-DD", Some(1_423_008_000_000)),
        ("2015-352", "yyyy-DD", Some(1_450_396_800_000)),
        ("2015-5", "yyyy-D", Some(1_420_416_000_000)),
        ("2015-352 12", "yyyy-DDD MM", Some(1_450_396_800_000)),
        ("2015-352 11", "yyyy-DDD MM", None),
        ("Fri, 18 Dec 2015 10:15:30 GMT", "EEE, dd MMM yyyy HH:mm:ss zzz", Some(1_450_433_730_000)),
        ("Thu, 18 Dec 2015 10:15:30 GMT", "EEE, dd MMM yyyy HH:mm:ss zzz", None),
        ("Friday 18 December 2015", "EEEE d MMMM yyyy", Some(1_450_396_800_000)),
        ("6 2015-12-18", "e yyyy-MM-dd", Some(1_450_396_800_000)),
        ("5 2015-12-18", "e yyyy-MM-dd", None),
        ("06 2015-12-18", "ee yyyy-MM-dd", Some(1_450_396_800_000)),
        ("Fri 2015-12-18", "eee yyyy-MM-dd", Some(1_450_396_800_000)),
        ("Sun 2015-12-18", "E yyyy-MM-dd", None),
    ]);
}

#[test]
fn one_letter_is_a_number_of_any_width() {
    check_parse(&[
        ("1/2/2015", "d/M/yyyy", Some(1_422_748_800_000)),
        ("01/2/2015", "d/M/yyyy", Some(1_422_748_800_000)),
        ("1/2/2015", "dd/MM/yyyy", None),
        ("1/2/15", "d/M/yy", Some(1_422_748_800_000)),
        ("1/2/15", "d/M/yyyy", None),
        ("1/2/15", "d/M/y", Some(-61_691_155_200_000)),
        ("1/2/15", "d/M/yyy", None),
        ("001/002/2015", "d/M/yyyy", Some(1_422_748_800_000)),
        ("0000000000000000002015-12-18", "y-MM-dd", None),
        ("0002015-12-18", "y-MM-dd", Some(1_450_396_800_000)),
        ("99999999999999999999-12-18", "y-MM-dd", None),
    ]);
}

#[test]
fn offsets_have_exactly_the_form_of_their_letters() {
    check_parse(&[
        ("2015-12-18T10:15:30Z", "yyyy-MM-dd'T'HH:mm:ssX", Some(1_450_433_730_000)),
        ("2015-12-18T10:15:30+01", "yyyy-MM-dd'T'HH:mm:ssX", Some(1_450_430_130_000)),
        ("2015-12-18T10:15:30+0130", "yyyy-MM-dd'T'HH:mm:ssX", Some(1_450_428_330_000)),
        ("2015-12-18T10:15:30+01:30", "yyyy-MM-dd'T'HH:mm:ssX", None),
        ("2015-12-18T10:15:30+01:30", "yyyy-MM-dd'T'HH:mm:ssXXX", Some(1_450_428_330_000)),
        ("2015-12-18T10:15:30+0130", "yyyy-MM-dd'T'HH:mm:ssXX", Some(1_450_428_330_000)),
        ("2015-12-18T10:15:30+01", "yyyy-MM-dd'T'HH:mm:ssXX", None),
        ("2015-12-18T10:15:30+01:30:15", "yyyy-MM-dd'T'HH:mm:ssXXXXX", Some(1_450_428_315_000)),
        ("2015-12-18T10:15:30+013015", "yyyy-MM-dd'T'HH:mm:ssXXXX", Some(1_450_428_315_000)),
        ("2015-12-18T10:15:30Z", "yyyy-MM-dd'T'HH:mm:ssxxx", None),
        ("2015-12-18T10:15:30+00:00", "yyyy-MM-dd'T'HH:mm:ssxxx", Some(1_450_433_730_000)),
        ("2015-12-18T10:15:30-00:00", "yyyy-MM-dd'T'HH:mm:ssxxx", Some(1_450_433_730_000)),
        ("2015-12-18T10:15:30-0800", "yyyy-MM-dd'T'HH:mm:ssZ", Some(1_450_462_530_000)),
        ("2015-12-18T10:15:30-08:00", "yyyy-MM-dd'T'HH:mm:ssZ", None),
        ("2015-12-18T10:15:30-08:00", "yyyy-MM-dd'T'HH:mm:ssZZZZZ", Some(1_450_462_530_000)),
        ("2015-12-18T10:15:30Z", "yyyy-MM-dd'T'HH:mm:ssZZZZZ", Some(1_450_433_730_000)),
        ("2015-12-18T10:15:30 GMT-08:00", "yyyy-MM-dd'T'HH:mm:ss ZZZZ", Some(1_450_462_530_000)),
        ("2015-12-18T10:15:30 GMT", "yyyy-MM-dd'T'HH:mm:ss ZZZZ", Some(1_450_433_730_000)),
        ("2015-12-18T10:15:30 GMT+8", "yyyy-MM-dd'T'HH:mm:ss O", Some(1_450_404_930_000)),
        ("2015-12-18T10:15:30 GMT+08:30", "yyyy-MM-dd'T'HH:mm:ss O", Some(1_450_403_130_000)),
        ("2015-12-18T10:15:30 GMT+8", "yyyy-MM-dd'T'HH:mm:ss OOOO", None),
        ("2015-12-18T10:15:30 GMT+08:30", "yyyy-MM-dd'T'HH:mm:ss OOOO", Some(1_450_403_130_000)),
        ("2015-12-18T10:15:30+18:00", "yyyy-MM-dd'T'HH:mm:ssXXX", Some(1_450_368_930_000)),
        ("2015-12-18T10:15:30+18:01", "yyyy-MM-dd'T'HH:mm:ssXXX", None),
        ("2015-12-18T10:15:30+24:00", "yyyy-MM-dd'T'HH:mm:ssXXX", None),
    ]);
}

#[test]
fn zones_are_ids_offsets_and_names() {
    check_parse(&[
        ("2015-12-18 10:15 Europe/Paris", "yyyy-MM-dd HH:mm VV", Some(1_450_430_100_000)),
        ("2015-12-18 10:15 europe/paris", "yyyy-MM-dd HH:mm VV", None),
        ("2015-12-18 10:15 +02:00", "yyyy-MM-dd HH:mm VV", Some(1_450_426_500_000)),
        ("2015-12-18 10:15 Z", "yyyy-MM-dd HH:mm VV", Some(1_450_433_700_000)),
        ("2015-12-18 10:15 UTC", "yyyy-MM-dd HH:mm VV", Some(1_450_433_700_000)),
        ("2015-12-18 10:15 GMT+2", "yyyy-MM-dd HH:mm VV", None),
        ("2015-12-18 10:15 GMT+02:00", "yyyy-MM-dd HH:mm VV", Some(1_450_426_500_000)),
        ("2015-12-18 10:15 UT-03:00", "yyyy-MM-dd HH:mm VV", Some(1_450_444_500_000)),
        ("2015-12-18 10:15 PST", "yyyy-MM-dd HH:mm VV", None),
        ("2015-12-18 10:15 PST", "yyyy-MM-dd HH:mm z", Some(1_450_462_500_000)),
        ("2015-07-18 10:15 PDT", "yyyy-MM-dd HH:mm z", Some(1_437_239_700_000)),
        ("2015-07-18 10:15 PST", "yyyy-MM-dd HH:mm z", Some(1_437_239_700_000)),
        (
            "2015-12-18 10:15 Pacific Standard Time",
            "yyyy-MM-dd HH:mm zzzz",
            Some(1_450_462_500_000),
        ),
        ("2015-12-18 10:15 Etc/GMT+5", "yyyy-MM-dd HH:mm VV", Some(1_450_451_700_000)),
        ("2015-12-18 10:15 Nope/Zone", "yyyy-MM-dd HH:mm VV", None),
        (
            "2015-12-18 10:15 America/Argentina/ComodRivadavia",
            "yyyy-MM-dd HH:mm VV",
            Some(1_450_444_500_000),
        ),
        ("2015-12-18 10:15 Europe/Paris!", "yyyy-MM-dd HH:mm VV'!'", Some(1_450_430_100_000)),
        ("2015-12-18 10:15 GMT0", "yyyy-MM-dd HH:mm VV", Some(1_450_433_700_000)),
        ("2015-12-18 10:15 EST5EDT", "yyyy-MM-dd HH:mm VV", Some(1_450_451_700_000)),
    ]);
}

#[test]
fn skipped_times_move_on_and_repeated_ones_are_the_first() {
    check_parse(&[
        ("2021-03-14 02:30 America/New_York", "yyyy-MM-dd HH:mm VV", Some(1_615_707_000_000)),
        ("2021-11-07 01:30 America/New_York", "yyyy-MM-dd HH:mm VV", Some(1_636_263_000_000)),
        (
            "2021-11-07 01:30 -05:00 America/New_York",
            "yyyy-MM-dd HH:mm xxx VV",
            Some(1_636_266_600_000),
        ),
    ]);
}

#[test]
fn sections_in_brackets_may_be_missing() {
    check_parse(&[
        ("2015-12-18", "yyyy-MM-dd[ HH:mm]", Some(1_450_396_800_000)),
        ("2015-12-18 10:15", "yyyy-MM-dd[ HH:mm]", Some(1_450_433_700_000)),
        ("2015-12-18 10:15:30", "yyyy-MM-dd[ HH:mm[:ss]]", Some(1_450_433_730_000)),
        ("2015-12-18 10:15", "yyyy-MM-dd[ HH:mm[:ss", Some(1_450_433_700_000)),
        ("2015-12-18 10:", "yyyy-MM-dd[ HH:mm[:ss]]", None),
        ("2015-12-18", "yyyy-MM-dd]", None),
        ("2015-12-18T10", "yyyy-MM-dd['T'HH][' 'HH]", Some(1_450_432_800_000)),
        ("2015-12-18 10", "yyyy-MM-dd['T'HH][' 'HH]", Some(1_450_432_800_000)),
    ]);
}

#[test]
fn fractions_and_counts_of_the_day_are_read() {
    check_parse(&[
        ("2015-12-18 10:15:30.5", "yyyy-MM-dd HH:mm:ss.S", Some(1_450_433_730_500)),
        ("2015-12-18 10:15:30.123456789", "yyyy-MM-dd HH:mm:ss.SSSSSSSSS", Some(1_450_433_730_123)),
        ("2015-12-18 10:15:30.12", "yyyy-MM-dd HH:mm:ss.SSS", None),
        ("2015-12-18 10:15:30 5", "yyyy-MM-dd HH:mm:ss n", Some(1_450_433_730_000)),
        ("2015-12-18 36930123", "yyyy-MM-dd A", Some(1_450_433_730_123)),
        ("2015-12-18 36930123000000", "yyyy-MM-dd N", Some(1_450_433_730_123)),
        ("2015-12-18 86400000", "yyyy-MM-dd A", None),
        ("2015-12-18 10 36930123", "yyyy-MM-dd HH A", Some(1_450_433_730_123)),
        ("2015-12-18 11 36930123", "yyyy-MM-dd HH A", None),
        ("2015-12-18 30", "yyyy-MM-dd ss", None),
        ("2015-12-18 10 30", "yyyy-MM-dd HH ss", None),
        ("2015-12-18 10", "yyyy-MM-dd HH", Some(1_450_432_800_000)),
        ("2015-12-18 10.5", "yyyy-MM-dd HH.S", None),
    ]);
}

#[test]
fn quotes_and_other_texts_are_literal() {
    check_parse(&[
        ("it's 2015-12-18", "'it''s' yyyy-MM-dd", Some(1_450_396_800_000)),
        ("'2015-12-18", "''yyyy-MM-dd", Some(1_450_396_800_000)),
        ("2015 o'clock 12 18", "yyyy 'o''clock' MM dd", Some(1_450_396_800_000)),
        ("x2015-12-18", "'x'yyyy-MM-dd", Some(1_450_396_800_000)),
        ("2015-12-18 ", "yyyy-MM-dd", None),
        (" 2015-12-18", "yyyy-MM-dd", None),
        ("", "yyyy", None),
        ("2015-12-18", "yyyy-MM-dd'", None),
        ("2015-12-18", "yyyy-MM-dd{", None),
        ("2015-12-18", "yyyy-MM-dd#", None),
        ("2015-12-18", "yyyy-MM-dd", Some(1_450_396_800_000)),
        ("２０１５-12-18", "yyyy-MM-dd", None),
        ("2015年12月18日", "yyyy年MM月dd日", Some(1_450_396_800_000)),
        ("1970-01-01 00:00:00.0009", "yyyy-MM-dd HH:mm:ss.SSSS", Some(0)),
        ("1969-12-31 23:59:59.9999", "yyyy-MM-dd HH:mm:ss.SSSS", Some(-1)),
        ("9999-12-30", "yyyy-MM-dd", Some(253_402_128_000_000)),
        ("2015-12-18", "yyyy-MM-ddd", None),
        ("2015-12-18", "yyyy-MM-dd aa", None),
        ("2015-12-18 10:15:30.1234567890", "yyyy-MM-dd HH:mm:ss.SSSSSSSSSS", None),
        ("2015-12-18", "yyyy-MM-dd VVV", None),
        ("2015-12-18", "yyyy-MM-dd ZZZZZZ", None),
    ]);
}

#[test]
fn a_field_said_twice_has_to_agree() {
    check_parse(&[
        ("2015-12-18 2015", "yyyy-MM-dd yyyy", Some(1_450_396_800_000)),
        ("2015-12-18 2016", "yyyy-MM-dd yyyy", None),
        ("2015-12-18 2015", "yyyy-MM-dd uuuu", Some(1_450_396_800_000)),
        ("2015-12-18 2016", "yyyy-MM-dd uuuu", None),
    ]);
}

#[test]
fn names_are_english_in_exactly_this_case() {
    check_parse(&[
        ("2015-Sep-18", "yyyy-MMM-dd", Some(1_442_534_400_000)),
        ("2015-Sept-18", "yyyy-MMM-dd", None),
        ("2015-SEP-18", "yyyy-MMM-dd", None),
        ("2015-September-18", "yyyy-LLLL-dd", Some(1_442_534_400_000)),
        ("2015-May-18", "yyyy-LLL-dd", Some(1_431_907_200_000)),
        ("12 18", "MM dd", None),
        ("10:15", "HH:mm", None),
    ]);
}

#[test]
fn what_the_jdk_leaves_open_is_the_first_or_refused() {
    check_parse(&[
        ("2015", "yyyy", Some(1_420_070_400_000)),
        ("2015-12", "yyyy-MM", Some(1_448_928_000_000)),
        ("2015 America/New_York", "yyyy VV", Some(1_420_088_400_000)),
        ("2015 18", "yyyy dd", None),
        ("18", "dd", None),
        // JDK 17 takes the middle of the afternoon, older ones nothing.
        ("2015-12-18 PM", "yyyy-MM-dd a", None),
        ("America/New_York", "VV", None),
        ("", "", None),
    ]);
}

#[test]
fn shared_names_of_zones_mean_the_first_one() {
    check_parse(&[
        ("2015-07-18 10:15 CST", "yyyy-MM-dd HH:mm z", Some(1_437_232_500_000)),
        ("2015-07-18 10:15 IST", "yyyy-MM-dd HH:mm z", Some(1_437_194_700_000)),
        ("2015-07-18 10:15 BST", "yyyy-MM-dd HH:mm z", Some(1_437_210_900_000)),
        ("2015-07-18 10:15 China Standard Time", "yyyy-MM-dd HH:mm zzzz", Some(1_437_185_700_000)),
        ("2015-07-18 10:15 ChST", "yyyy-MM-dd HH:mm z", Some(1_437_178_500_000)),
    ]);
}

#[test]
fn a_zone_without_a_name_is_written_as_offset() {
    check_format(&[
        ("z", 1_690_000_000_000, "Asia/Kathmandu", Some("+05:45")),
        ("zzzz", 1_690_000_000_000, "Asia/Kathmandu", Some("+05:45")),
        ("zzzz", 1_690_000_000_000, "America/Los_Angeles", Some("Pacific Daylight Time")),
        ("zzzz", 1_690_000_000_000, "Asia/Macau", Some("China Standard Time")),
        ("zzzz", 1_690_000_000_000, "-02:30:15", Some("-02:30:15")),
    ]);
}

#[test]
fn every_named_zone_exists_and_has_its_name() {
    for name in names::ZONE_NAMES {
        let zone = region(name.zone).unwrap();
        let of_year = (0..12).map(|month| 1_690_000_000 + month * 30 * 86_400);
        let found = of_year
            .map(|second| jiff::Timestamp::from_second(second).unwrap())
            .any(|timestamp| zone.to_offset_info(timestamp).abbreviation() == name.short);
        assert!(found, "{} at {}", name.short, name.zone);
    }
}

#[test]
fn moments_beyond_the_calendar_are_none() {
    check_format(&[
        ("yyyy", i64::MIN, "UTC", None),
        ("yyyy", i64::MAX, "UTC", None),
        ("yyyy", 253_402_207_200_000, "UTC", Some("9999")),
        ("yyyy", 253_402_300_800_000, "UTC", None),
        ("yyyy", -377_705_000_000_000, "UTC", Some("-9999")),
    ]);
    check_parse(&[
        ("+10000-01-01", "yyyy-MM-dd", None),
        ("-9999-01-01", "uuuu-MM-dd", None),
        ("9999-12-31 24:00", "yyyy-MM-dd HH:mm", None),
    ]);
}

#[test]
fn patterns_are_bounded() {
    let longest = "y".repeat(PATTERN_BYTES_MAX);
    let text = joda::Pattern::compile(&longest).unwrap().format(0, &Zone::UTC).unwrap();
    assert_eq!(text.len(), PATTERN_BYTES_MAX);
    assert!(joda::Pattern::compile(&format!("{longest}y")).is_none());
    assert!(jdk::Pattern::compile(&format!("{longest}y")).is_none());
    assert!(jdk::Pattern::compile(&"[".repeat(16)).is_some());
    assert!(jdk::Pattern::compile(&"[".repeat(17)).is_none());
    // Ids of 32 bytes: the longest text for a letter.
    let ids = joda::Pattern::compile(&"ZZZ ".repeat(PATTERN_BYTES_MAX / 4)).unwrap();
    let zone = Zone::parse("America/Argentina/Buenos_Aires").unwrap();
    assert!(ids.format(0, &zone).unwrap().len() < 12 * PATTERN_BYTES_MAX);
}

/// Patterns that say all of a moment, in both alphabets.
const SAME: &[(&str, &str)] = &[
    ("yyyy-MM-dd HH:mm:ss.SSSZZ", "uuuu-MM-dd HH:mm:ss.SSSxxx"),
    ("yyyyMMdd'T'HHmmssSSSZ", "uuuuMMdd'T'HHmmssSSSxx"),
    ("E, d MMM yyyy h:m:s.SSS a Z", "E, d MMM uuuu h:m:s.SSS a Z"),
    ("EEEE D yyyy K:m:s.SSS a ZZ", "EEEE D uuuu K:m:s.SSS a xxx"),
    ("YYYY G MMMM dd k:mm:ss SSS Z", "yyyy G MMMM dd k:mm:ss SSS XX"),
];

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same_moment(
        // 1972, when the last zone left its local mean time of odd seconds, to 9998.
        millis in 63_072_000_000_i64..253_370_764_800_000,
        zone in prop::sample::select(&["UTC", "Europe/Paris", "Asia/Kathmandu", "-09:30"][..]),
        (joda, jdk) in prop::sample::select(SAME),
    ) {
        let zone = Zone::parse(zone).unwrap();
        let text = joda::Pattern::compile(joda).unwrap().format(millis, &zone).unwrap();
        prop_assert_eq!(jdk::Pattern::compile(jdk).unwrap().parse(&text), Some(millis), "{}", text);
    }

    #[test]
    fn years_before_our_era_are_read_as_written(
        millis in -377_700_000_000_000_i64..63_072_000_000,
        (joda, jdk) in prop::sample::select(SAME),
    ) {
        let text = joda::Pattern::compile(joda).unwrap().format(millis, &Zone::UTC).unwrap();
        prop_assert_eq!(jdk::Pattern::compile(jdk).unwrap().parse(&text), Some(millis), "{}", text);
    }

    #[test]
    fn no_pattern_panics(
        pattern in "[GCYxweEyDMdaKhHkmsSzZuLnNAVOX' \\[\\]é:+-]{0,40}|.{0,40}",
        text in "[0-9:+ '.é-]{0,40}|(UTC|GMT|UT|Z)?[+-]?[0-9:]{0,12}|.{0,40}",
        millis: i64,
        zone in "UTC|[+-][0-9:]{0,8}|Europe/(Paris|London)|.{0,10}",
    ) {
        let zone = Zone::parse(&zone).unwrap_or(Zone::UTC);
        if let Some(joda) = joda::Pattern::compile(&pattern) {
            let _ = joda.format(millis, &zone);
            if let Some(written) = joda.format(millis % 250_000_000_000_000, &zone) {
                let _ = jdk::Pattern::compile(&pattern).map(|jdk| jdk.parse(&written));
            }
        }
        let _ = jdk::Pattern::compile(&pattern).map(|jdk| jdk.parse(&text));
    }
}
