//! Reading bytes and numbers that come from elsewhere: every step checks, none allocates.

use super::error::LedgerError;
use super::merkle::SIZE_MAX;

/// Takes fields off the front of a byte string.
pub(super) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// `what` names the thing that is read, for the error's text.
    pub(super) const fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], LedgerError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(LedgerError::malformed(
                self.what,
                format!("{count} more bytes announced, {} are left", self.rest.len()),
            ));
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], LedgerError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, LedgerError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, LedgerError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A length in front of a field, refused above `limit` before anything is taken.
    pub(super) fn length(&mut self, limit: usize) -> Result<usize, LedgerError> {
        let found = self.array().map(u32::from_be_bytes)? as usize;
        LedgerError::limit(self.what, found, limit)?;
        Ok(found)
    }

    pub(super) fn u64(&mut self) -> Result<u64, LedgerError> {
        self.array().map(u64::from_be_bytes)
    }

    /// All that is left.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn end(&self) -> Result<(), LedgerError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(LedgerError::malformed(
            self.what,
            format!("{} bytes behind its end", self.rest.len()),
        ))
    }
}

/// Writes a length as four big-endian bytes. All lengths of this room are capped far below 2^32.
pub(super) fn put_length(bytes: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("the caller's cap is below 2^32");
    bytes.extend_from_slice(&length.to_be_bytes());
}

/// Reads a decimal of at most [`SIZE_MAX`] that has no sign and no leading zero.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let canonical = !text.is_empty()
        && text.len() <= 16
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    let number = canonical.then(|| text.parse().ok()).flatten()?;
    (number <= SIZE_MAX).then_some(number)
}

/// Writes a number in groups of three digits, all but the last behind an `x`: `x001/x234/067`.
pub(super) fn grouped(number: u64) -> String {
    let mut groups = format!("{:03}", number % 1000);
    let mut rest = number / 1000;
    while rest > 0 {
        groups = format!("x{:03}/{groups}", rest % 1000);
        rest /= 1000;
    }
    groups
}

/// Reads what [`grouped`] writes, and nothing else.
pub(super) fn parse_grouped(text: &str) -> Option<u64> {
    // Six groups hold every number up to SIZE_MAX.
    if text.len() > 6 * 5 {
        return None;
    }
    let mut number = 0_u64;
    for group in text.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        number = number * 1000 + digits.parse::<u64>().ok()?;
    }
    (number <= SIZE_MAX && grouped(number) == text).then_some(number)
}

/// Makes text from outside fit for an error message: short, no control characters.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_spelling() {
        for (number, text) in [
            (0, "000"),
            (999, "999"),
            (1000, "x001/000"),
            (1_234_067, "x001/x234/067"),
        ] {
            assert_eq!(grouped(number), text);
            assert_eq!(parse_grouped(text), Some(number));
        }
        for bad in [
            "",
            "0",
            "00",
            "x000/001",
            "001/000",
            "x001",
            "x001/x000",
            "+01",
            "x001//000",
            "000/",
            "x999/x999/x999/x999/x999/999",
            "x001/x001/x001/x001/x001/x001/000",
        ] {
            assert_eq!(parse_grouped(bad), None, "{bad}");
        }
        assert_eq!(decimal("9007199254740991"), Some(SIZE_MAX));
        for bad in [
            "",
            "00",
            "01",
            "+1",
            "-1",
            "1 ",
            "9007199254740992",
            "99999999999999999999",
        ] {
            assert_eq!(decimal(bad), None, "{bad}");
        }
    }
}
