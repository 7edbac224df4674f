//! A point in time, to the second, in UTC. There is no way to ask for "now" here: the time is an argument.

use std::fmt;
use std::str::FromStr;

/// Seconds since 1970-01-01T00:00:00Z; its text form is RFC 3339 with `Z`, years 1970 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// The last second of the year 9999, beyond which RFC 3339 has no text form.
const LAST: u64 = 253_402_300_799;

/// The text is not of the form `2026-11-21T00:03:11Z`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a UTC time of the form 2026-11-21T00:03:11Z")]
pub struct TimestampError(String);

impl Timestamp {
    /// Makes a timestamp from Unix seconds; what lies beyond the year 9999 is held at its end.
    #[must_use]
    pub const fn from_unix(seconds: u64) -> Self {
        Self(if seconds > LAST { LAST } else { seconds })
    }

    /// Returns Unix seconds.
    #[must_use]
    pub const fn unix(self) -> u64 {
        self.0
    }

    /// Returns the time `seconds` later.
    #[must_use]
    pub const fn plus(self, seconds: u64) -> Self {
        Self::from_unix(self.0.saturating_add(seconds))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        let (year, month, day) = civil_from_days(days);
        let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
    }
}

/// Days since 1970-01-01 to year, month and day in the proleptic Gregorian calendar. Years run from March
/// so that the leap day is a year's last (the method of Howard Hinnant's `chrono` paper).
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let parse = || {
            let bytes = text.as_bytes();
            let shape = bytes.len() == 20
                && bytes.iter().enumerate().all(|(i, b)| match i {
                    4 | 7 => *b == b'-',
                    10 => *b == b'T',
                    13 | 16 => *b == b':',
                    19 => *b == b'Z',
                    _ => b.is_ascii_digit(),
                });
            if !shape {
                return None;
            }
            let number = |from: usize, to: usize| text[from..to].parse::<u64>().ok();
            let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
            let (h, m, s) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
            if year < 1970
                || !(1..=12).contains(&month)
                || !(1..=31).contains(&day)
                || h > 23
                || m > 59
                || s > 59
            {
                return None;
            }
            let days = days_from_civil(year, month, day);
            // The round trip refuses days that a month does not have.
            (civil_from_days(days) == (year, month, day)).then(|| Self(days * 86_400 + h * 3600 + m * 60 + s))
        };
        parse().ok_or_else(|| TimestampError(text.chars().take(40).collect()))
    }
}

crate::base::text::as_text!(Timestamp, "A UTC time, RFC 3339 with `Z`, to the second");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days_print_as_the_calendar_says() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_219_391, "2026-11-21T00:03:11Z"),
            (LAST, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp::from_unix(unix).to_string(), text);
            assert_eq!(text.parse::<Timestamp>().unwrap().unix(), unix);
        }
    }

    #[test]
    fn every_day_of_four_centuries_survives_the_round_trip() {
        for day in 0..146_097 {
            let time = Timestamp::from_unix(day * 86_400);
            assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for bad in [
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21 00:00:00Z",
            "2026-11-21T00:00:00+00:00",
            "1969-12-31T23:59:59Z",
            "",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }
}
