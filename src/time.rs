//! Moments and durations. Pure code takes `now` as an argument; only the shell reads a clock.

use serde::{Deserialize, Serialize};

/// A moment: milliseconds since 1970-01-01T00:00:00Z. Below 2^53, so it crosses JavaScript and D1 unharmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

/// A duration in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl UnixMillis {
    /// The time from `earlier` to `self`; zero when the clock went backwards.
    pub fn since(self, earlier: UnixMillis) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }

    /// `self` later by `duration`.
    pub fn plus(self, duration: Millis) -> UnixMillis {
        UnixMillis(self.0.saturating_add(duration.0))
    }

    /// RFC 3339, UTC, three decimals: `2026-11-20T10:15:30.123Z` (query-api, head).
    pub fn rfc3339(self) -> String {
        let (days, in_day) = ((self.0 / DAY) as i64, self.0 % DAY);
        let (year, month, day) = civil_from_days(days);
        let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
        let (second, milli) = (in_day / 1_000 % 60, in_day % 1_000);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }

    /// Reads RFC 3339 with any offset and any number of decimals, or a bare date; `None` for anything else.
    pub fn parse_rfc3339(text: &str) -> Option<UnixMillis> {
        let bytes = text.as_bytes();
        let number = |from: usize, to: usize| -> Option<i64> {
            let digits = text.get(from..to)?;
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|b| wanted.contains(b));
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        if !is(4, b"-") || !is(7, b"-") || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let days = days_from_civil(year, month, day);
        if text.len() == 10 {
            return u64::try_from(days * DAY as i64).ok().map(UnixMillis);
        }
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if !is(10, b"Tt ") || !is(13, b":") || !is(16, b":") || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let rest = text.get(19..)?;
        let (decimals, zone) = match rest.strip_prefix('.') {
            Some(fraction) => {
                let end = fraction.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(fraction.len());
                fraction.split_at_checked(end)?
            }
            None => ("", rest),
        };
        let milli = format!("{decimals:0<3}").get(..3)?.parse::<i64>().ok()?;
        let offset_minutes = parse_offset(zone)?;
        let total = days * DAY as i64 + hour * 3_600_000 + minute * 60_000 + second * 1_000 + milli;
        u64::try_from(total - offset_minutes * 60_000).ok().map(UnixMillis)
    }
}

fn parse_offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(sign * (hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?))
}

/// Days since 1970-01-01 to year, month, day in the proleptic Gregorian calendar (Howard Hinnant's algorithm).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_index = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_index + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

const DAY: u64 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_rfc3339_and_back() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_169_730_123, "2026-11-20T10:15:30.123Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(UnixMillis(millis).rfc3339(), text);
            assert_eq!(UnixMillis::parse_rfc3339(text), Some(UnixMillis(millis)), "{text}");
        }
    }

    #[test]
    fn offsets_decimals_and_dates_are_understood() {
        let noon = Some(UnixMillis(1_795_176_000_000));
        for text in
            ["2026-11-20T12:00:00Z", "2026-11-20T14:00:00+02:00", "2026-11-20t12:00:00.0000001z", "2026-11-20 07:30:00-04:30"]
        {
            assert_eq!(UnixMillis::parse_rfc3339(text), noon, "{text}");
        }
        assert_eq!(UnixMillis::parse_rfc3339("2026-11-20"), Some(UnixMillis(1_795_132_800_000)));
        for text in
            ["", "yesterday", "2026-13-01", "2026-11-20T25:00:00Z", "2026-11-20T12:00:00", "1950-01-01", "2026-11-20T12:00:00+é"]
        {
            assert_eq!(UnixMillis::parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn a_clock_that_goes_backwards_yields_zero() {
        assert_eq!(UnixMillis(5).since(UnixMillis(9)), Millis(0));
    }
}
