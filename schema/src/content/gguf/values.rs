//! Fields off the front of a header, and values that are walked over. Nothing here allocates.

use super::error::GgufError;

/// Arrays within arrays, at most: writers use none.
const NESTED_MAX: u32 = 4;

const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Why reading stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// The bytes end in front of this place, which the header needs.
    Ends { at: u64 },
    /// They are no header.
    Wrong(GgufError),
}

impl From<GgufError> for Stop {
    fn from(error: GgufError) -> Self {
        Self::Wrong(error)
    }
}

/// Takes fields off the front of bytes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) const fn at(&self) -> u64 {
        self.at as u64
    }

    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], Stop> {
        let at = self.at().saturating_add(count);
        let end = usize::try_from(at).map_err(|_| Stop::Ends { at })?;
        let taken = self.bytes.get(self.at..end).ok_or(Stop::Ends { at })?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn skip(&mut self, count: u64) -> Result<(), Stop> {
        self.take(count).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let at = self.at() + N as u64;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.first_chunk::<N>().ok_or(Stop::Ends { at })?;
        self.at += N;
        Ok(*taken)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Stop> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Stop> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes a text that has to be one.
    pub(super) fn text(&mut self, limit: u64, what: &'static str) -> Result<&'a str, Stop> {
        let length = self.u64()?;
        if length > limit {
            return Err(GgufError::TextTooLong { what, found: length }.into());
        }
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| GgufError::NotText { what }.into())
    }

    /// Takes a value; returns it if it is a text of this length at most.
    pub(super) fn fact(&mut self, kind: u32, limit: u64) -> Result<Option<String>, Stop> {
        if kind != STRING {
            return self.skip_value(kind).map(|()| None);
        }
        let length = self.u64()?;
        let bytes = self.take(length)?;
        let short = (length <= limit).then_some(bytes);
        Ok(short.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()))
    }

    /// Takes a value; returns it if it is an unsigned number.
    pub(super) fn number(&mut self, kind: u32) -> Result<Option<u64>, Stop> {
        match kind {
            0 => self.array::<1>().map(|[byte]| Some(byte.into())),
            2 => self.array().map(|bytes| Some(u16::from_le_bytes(bytes).into())),
            4 => self.u32().map(|number| Some(number.into())),
            10 => self.u64().map(Some),
            kind => self.skip_value(kind).map(|()| None),
        }
    }

    pub(super) fn skip_value(&mut self, kind: u32) -> Result<(), Stop> {
        self.skip_nested(kind, 0)
    }

    fn skip_nested(&mut self, kind: u32, depth: u32) -> Result<(), Stop> {
        match kind {
            BOOL => match self.array()? {
                [0 | 1] => Ok(()),
                [found] => Err(GgufError::NotBool(found).into()),
            },
            STRING => {
                let length = self.u64()?;
                self.skip(length)
            }
            ARRAY if depth >= NESTED_MAX => Err(GgufError::NestedTooDeep.into()),
            ARRAY => {
                let (kind, count) = (self.u32()?, self.u64()?);
                if let Some(width) = width(kind) {
                    return self.skip(count.saturating_mul(width));
                }
                // Each takes eight bytes at least, so that the count is bounded by the bytes that are there.
                for _ in 0..count {
                    self.skip_nested(kind, depth + 1)?;
                }
                // An empty array of what is nothing says nothing; but its type must be one.
                match kind {
                    STRING | ARRAY => Ok(()),
                    unknown => Err(GgufError::UnknownValue(unknown).into()),
                }
            }
            kind => match width(kind) {
                Some(width) => self.skip(width),
                None => Err(GgufError::UnknownValue(kind).into()),
            },
        }
    }
}

/// Returns the bytes of a value whose type says how many.
const fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | BOOL => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}
