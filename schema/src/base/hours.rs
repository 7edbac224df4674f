//! Hours of the day: when something may be done that can wait.
//!
//! Invariant: they begin at another minute than they end, so they are never empty and never the whole day.

use std::fmt;
use std::str::FromStr;

use super::time::Timestamp;

/// The hours from a minute of the day to another, in UTC; through midnight where the end comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hours {
    /// The first minute in them, from midnight.
    from: u16,
    /// The first minute after them.
    to: u16,
}

/// The text is not of the form `22:00-06:00`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` are no hours of the form 22:00-06:00, from 00:00 to 23:59 in UTC, of which the first is not the last"
)]
pub struct HoursError(String);

impl Hours {
    /// Is this moment within them?
    #[must_use]
    pub const fn contain(&self, now: Timestamp) -> bool {
        let minute = now.unix() / 60 % (24 * 60);
        let (after, before) = (minute >= self.from as u64, minute < self.to as u64);
        if self.from < self.to {
            after && before
        } else {
            after || before
        }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        let (from_hour, to_hour) = (from / 60, to / 60);
        write!(f, "{from_hour:02}:{:02}-{to_hour:02}:{:02}", from % 60, to % 60)
    }
}

impl FromStr for Hours {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<Self, HoursError> {
        let minute = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let number = |text: &str, end: u16| {
                let plain = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
                let number: u16 = text.parse().ok()?;
                (plain && number < end).then_some(number)
            };
            Some(number(hour, 24)? * 60 + number(minute, 60)?)
        };
        let parse = || {
            let (from, to) = text.split_once('-')?;
            let (from, to) = (minute(from)?, minute(to)?);
            (from != to).then_some(Self { from, to })
        };
        parse().ok_or_else(|| HoursError(text.chars().take(40).collect()))
    }
}

crate::base::text::as_text!(Hours, "Hours of the day in UTC, such as `22:00-06:00`");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_contain_their_first_minute_and_not_their_last() {
        for (hours, within, without) in [
            ("08:30-17:00", ["08:30:00", "16:59:59"], ["08:29:59", "17:00:00"]),
            ("22:00-06:00", ["22:00:00", "05:59:59"], ["06:00:00", "21:59:59"]),
            ("00:00-23:59", ["00:00:00", "23:58:59"], ["23:59:00", "23:59:59"]),
        ] {
            let parsed: Hours = hours.parse().unwrap();
            assert_eq!(parsed.to_string(), hours);
            let at = |time: &str| format!("2026-11-21T{time}Z").parse().unwrap();
            for time in within {
                assert!(parsed.contain(at(time)), "{time} in {hours}");
            }
            for time in without {
                assert!(!parsed.contain(at(time)), "{time} in {hours}");
            }
        }
    }

    #[test]
    fn what_are_no_hours_is_refused() {
        for bad in [
            "",
            "-",
            "22-06",
            "22:00",
            "22:00-24:00",
            "22:60-06:00",
            "2:00-06:00",
            "22:00-+6:00",
            "06:00-06:00",
            "22:00-06:00 ",
            "22:00-06:00-07:00",
        ] {
            assert!(bad.parse::<Hours>().is_err(), "{bad}");
        }
    }
}
