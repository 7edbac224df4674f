//! The `Range` header (RFC 9110, section 14.2), pure. One range of bytes is honoured; several, other units and
//! malformed ones are answered with the whole file, as the RFC allows.

use std::ops::Range;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// The whole file.
    Whole,
    /// This part, not empty and within the file.
    Part(Range<u64>),
    /// A part that the file does not have.
    Outside,
}

/// Reads a `Range` header for a file of this size.
pub(super) fn parse(header: &str, size: u64) -> Asked {
    let Some((first, last)) = header
        .trim()
        .strip_prefix("bytes=")
        .and_then(|r| r.split_once('-'))
    else {
        return Asked::Whole;
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (first, last) = (first.trim(), last.trim());
    if !digits(first) || !digits(last) {
        return Asked::Whole;
    }
    // More digits than a u64 holds are a number beyond every file.
    let number = |text: &str| text.parse().unwrap_or(u64::MAX);
    match (first.is_empty(), last.is_empty()) {
        (true, true) => Asked::Whole,
        (true, false) => {
            let length = number(last).min(size);
            if length == 0 {
                Asked::Outside
            } else {
                Asked::Part(size - length..size)
            }
        }
        (false, open) => {
            let start = number(first);
            let end = if open {
                size
            } else {
                number(last).saturating_add(1).min(size)
            };
            match () {
                () if !open && number(last) < start => Asked::Whole,
                () if start >= size => Asked::Outside,
                () => Asked::Part(start..end),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_mean_what_the_rfc_says() {
        for (header, expected) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=2-5", Asked::Part(2..6)),
            ("bytes=7-", Asked::Part(7..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-99", Asked::Part(0..10)),
            ("bytes=5-99", Asked::Part(5..10)),
            ("bytes=0-99999999999999999999999", Asked::Part(0..10)),
            ("bytes=10-", Asked::Outside),
            ("bytes=99999999999999999999999-", Asked::Outside),
            ("bytes=-0", Asked::Outside),
            ("bytes=5-2", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=0-1,4-5", Asked::Whole),
            ("lines=0-1", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
        ] {
            assert_eq!(parse(header, 10), expected, "{header}");
        }
        assert_eq!(parse("bytes=0-", 0), Asked::Outside);
    }
}
