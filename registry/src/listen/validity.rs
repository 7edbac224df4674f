//! Until when a certificate is good: the one thing of X.509 that is read here, to warn an operator in time. Whether
//! a certificate is to be believed is for clients to say.

use waag_schema::Timestamp;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Returns from when until when a certificate in DER is good; nothing if it cannot be read.
pub(super) fn validity(der: &[u8]) -> Option<(Timestamp, Timestamp)> {
    // Certificate { tbsCertificate { version, serialNumber, signature, issuer, validity { notBefore, notAfter } ..
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut tbs, _) = expect(certificate, SEQUENCE)?;
    if tbs.first() == Some(&VERSION) {
        tbs = element(tbs)?.2;
    }
    for _ in ["serialNumber", "signature", "issuer"] {
        tbs = element(tbs)?.2;
    }
    let (validity, _) = expect(tbs, SEQUENCE)?;
    let (kind, before, rest) = element(validity)?;
    let (kind_after, after, _) = element(rest)?;
    Some((time(kind, before)?, time(kind_after, after)?))
}

/// Splits off one element: its tag, its content, what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let bytes = rest
            .get(..usize::from(first & 0x7f))
            .filter(|bytes| bytes.len() <= 4)?;
        rest = &rest[bytes.len()..];
        length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    }
    Some((tag, rest.get(..length)?, &rest[length..]))
}

fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

/// `YYMMDDHHMMSSZ`, in which 50 is 1950, or the same with the whole year (RFC 5280, 4.1.2.5).
fn time(kind: u8, text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match kind {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let century = if year < "50" { "20" } else { "19" };
            (format!("{century}{year}"), rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.to_owned(), rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2);
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_time_are_read() {
        let at = |text: &str| text.parse::<Timestamp>().ok();
        assert_eq!(time(UTC_TIME, b"260102030405Z"), at("2026-01-02T03:04:05Z"));
        assert_eq!(time(UTC_TIME, b"700102030405Z"), at("1970-01-02T03:04:05Z"));
        assert_eq!(
            time(GENERALIZED_TIME, b"20510102030405Z"),
            at("2051-01-02T03:04:05Z")
        );
        for bad in [
            &b"2601020304Z"[..],
            b"",
            b"Z",
            b"260102030405",
            b"\xff\xfe0102030405Z",
        ] {
            assert_eq!(time(UTC_TIME, bad), None);
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_validity() {
        for bad in [
            &b""[..],
            b"\x30",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x80",
            b"\x30\x02\x30\x00",
        ] {
            assert_eq!(validity(bad), None);
        }
    }
}
