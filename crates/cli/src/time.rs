//! Moments as people write and read them: RFC 3339, in UTC when written.
//!
//! Not here: clocks, but for [`now`], and time zones: a moment that is read says how far it is from UTC.

use std::time::{SystemTime, UNIX_EPOCH};

use quipu_base::Timestamp;

const SECOND_MS: i64 = 1000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// 9999-12-31.
const LAST_MS: i64 = 253_402_300_799_999;

/// Now, by the system's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A moment as people write it, in UTC; `-` for none; the bare number where there is no such year.
pub(crate) fn text(timestamp: Timestamp) -> String {
    let ms = timestamp.0;
    if ms == Timestamp::NONE.0 {
        return "-".to_owned();
    }
    if !(0..=LAST_MS).contains(&ms) {
        return ms.to_string();
    }
    let (year, month, day) = date(ms / DAY_MS);
    let in_day = ms % DAY_MS;
    let (hour, minute, second, ms) =
        (in_day / HOUR_MS, in_day / MINUTE_MS % 60, in_day / SECOND_MS % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Reads a moment of RFC 3339, such as `2026-03-01T12:00:00Z` or `2026-03-01 12:00:00.5+01:00`; none if it isn't one. What is finer
/// than a millisecond is cut.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(10)?;
    let time = rest.strip_prefix(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (time, offset_ms) = split_offset(time)?;
    let (time, fraction) = time.split_once('.').map_or((time, None), |(time, fraction)| (time, Some(fraction)));
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let is_valid = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    // A leap second counts as the first one after it.
    if !is_valid || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let ms = fraction.map_or(Some(0), milliseconds)?;
    let in_day = hour * HOUR_MS + minute * MINUTE_MS + second * SECOND_MS + ms;
    Some(Timestamp(day_of(year, month, day) * DAY_MS + in_day - offset_ms))
}

/// Reads a length of time, such as `90s`, `10m`, `2h`, `7d` or `250ms`, in milliseconds; none if it isn't one.
pub(crate) fn parse_duration_ms(text: &str) -> Option<i64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => SECOND_MS,
        "m" => MINUTE_MS,
        "h" => HOUR_MS,
        "d" => DAY_MS,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit_ms)
}

/// The time of day, and how far it is ahead of UTC.
fn split_offset(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let at = time.rfind(['+', '-'])?;
    let (time, offset) = time.split_at(at);
    let [hour, minute] = numbers(&offset[1..], ':', [2, 2])?;
    if hour > 23 || minute > 59 {
        return None;
    }
    let ahead_ms = hour * HOUR_MS + minute * MINUTE_MS;
    Some((time, if offset.starts_with('-') { -ahead_ms } else { ahead_ms }))
}

/// Numbers of exactly so many digits.
fn numbers<const N: usize>(text: &str, separator: char, lengths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut out = [0; N];
    for (place, length) in out.iter_mut().zip(lengths) {
        let part =
            parts.next().filter(|part| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        *place = part.parse().ok()?;
    }
    parts.next().is_none().then_some(out)
}

fn milliseconds(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain([b'0', b'0']).take(3);
    Some(digits.fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0')))
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 0000-03-01 to 1970-01-01. Counted from there, a leap day is the last day of its year, and 400 years have 146,097 days.
const EPOCH_DAY: i64 = 719_468;

/// Year, month and day of a day counted from 1970-01-01.
fn date(day: i64) -> (i64, i64, i64) {
    let day = day + EPOCH_DAY;
    let (era, in_era) = (day / 146_097, day % 146_097);
    let year = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    // March, 31 days, to February: five months have 153 days.
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next_year, month, day)
}

/// The inverse of [`date`], for years from 0 on.
fn day_of(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, in_era) = (year.div_euclid(400), year.rem_euclid(400));
    let in_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - EPOCH_DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_in_utc_and_read_back() {
        for (ms, told) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(text(Timestamp(ms)), told);
            assert_eq!(parse(told), Some(Timestamp(ms)), "{told}");
        }
        for (ms, told) in [(253_402_300_800_000, "253402300800000"), (-1, "-"), (-2, "-2")] {
            assert_eq!(text(Timestamp(ms)), told);
        }
    }

    #[test]
    fn every_day_is_read_as_it_is_told() {
        for day in 0..60_000 {
            let (year, month, in_month) = date(day);
            assert_eq!(day_of(year, month, in_month), day);
        }
    }

    #[test]
    fn zones_and_fractions_are_read() {
        for (told, ms) in [
            ("1970-01-01T01:00:00+01:00", 0),
            ("1969-12-31t23:30:00-00:30", 0),
            ("1970-01-01 00:00:01z", 1000),
            ("1970-01-01T00:00:00.5Z", 500),
            ("1970-01-01T00:00:00.123999Z", 123),
            ("1969-12-31T23:59:59Z", -1000),
        ] {
            assert_eq!(parse(told), Some(Timestamp(ms)), "{told}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for told in [
            "",
            "2026-03-01",
            "2026-03-01T12:00:00",
            "2026-3-1T12:00:00Z",
            "2026-02-29T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-00-01T12:00:00Z",
            "2026-01-00T12:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T12:60:00Z",
            "2026-01-01T12:00:00.Z",
            "2026-01-01T12:00:00+1:00",
            "2026-01-01T12:00Z",
            "2026-01-01T12:00:00+24:00",
            "2026-01-01T12:00:00Zx",
            "ünf-01-01T12:00:00Z",
        ] {
            assert_eq!(parse(told), None, "{told}");
        }
    }

    #[test]
    fn lengths_of_time_have_a_unit() {
        for (told, ms) in [("250ms", 250), ("90s", 90_000), ("10m", 600_000), ("2h", 7_200_000), ("7d", 604_800_000)] {
            assert_eq!(parse_duration_ms(told), Some(ms), "{told}");
        }
        for told in ["", "10", "m", "-1m", "1.5h", "10 m", "10M", "9223372036854775807d"] {
            assert_eq!(parse_duration_ms(told), None, "{told}");
        }
    }
}
