//! Packs: the openings of one stream, 256 to an object, beside the tree.
//!
//! ```text
//! body/<stream>/<N>     up to 256 x ( u32be length || salt || opening )      the entries 256 N .. of the stream
//! ```
//!
//! The length is the opening's alone. Length 0 stands for an opening that is erased or was never there; no salt
//! follows. A pack is the only part of a ledger that changes: it is filled from the front, and erasing leaves
//! every other slot as it was.

use std::fmt;
use std::str::FromStr;

use super::error::LedgerError;
use super::opening::{OPENING_BYTES_MAX, Opening, Salt, SaltedOpening, Stream};
use super::reading::{Reader, grouped, parse_grouped, put_length, shown};

/// A pack has this many slots.
pub const PACK_SLOTS: usize = 256;
/// A pack has at most this many bytes: every slot filled with the largest opening that is accepted. A lower
/// bound would let a few large statements close a stream to all that come after them.
pub const PACK_BYTES_MAX: usize = PACK_SLOTS * (4 + 32 + OPENING_BYTES_MAX);

/// The name of a pack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackPath {
    /// The stream.
    pub stream: Stream,
    /// The pack's position in the stream.
    pub number: u64,
}

impl PackPath {
    /// Returns where the `seq`-th entry of a stream lies: the pack, and the slot in it.
    #[must_use]
    pub fn of(stream: &Stream, seq: u64) -> (Self, usize) {
        let number = seq / PACK_SLOTS as u64;
        let slot = usize::try_from(seq % PACK_SLOTS as u64).expect("below 256");
        let stream = stream.clone();
        (Self { stream, number }, slot)
    }
}

impl fmt::Display for PackPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "body/{}/{}", self.stream, grouped(self.number))
    }
}

impl FromStr for PackPath {
    type Err = LedgerError;

    fn from_str(text: &str) -> Result<Self, LedgerError> {
        let parts = || {
            let (stream, number) = text.strip_prefix("body/")?.split_once('/')?;
            Some(Self {
                stream: stream.parse().ok()?,
                number: parse_grouped(number)?,
            })
        };
        parts().ok_or_else(|| {
            LedgerError::malformed("pack path", format!("`{}` is not body/<stream>/<N>", shown(text)))
        })
    }
}

/// The openings of up to 256 entries that follow each other in a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pack {
    slots: Vec<Option<SaltedOpening>>,
}

impl Pack {
    /// Reads a pack.
    ///
    /// # Errors
    /// When it has more than 256 slots, a length is wrong or too large, or an opening cannot be read.
    pub fn decode(bytes: &[u8]) -> Result<Self, LedgerError> {
        LedgerError::limit("pack, in bytes", bytes.len(), PACK_BYTES_MAX)?;
        let mut reader = Reader::new("pack", bytes);
        let mut slots = Vec::new();
        while !reader.is_empty() {
            LedgerError::limit("pack, in slots", slots.len() + 1, PACK_SLOTS)?;
            slots.push(take_slot(&mut reader)?);
        }
        Ok(Self { slots })
    }

    /// Returns the pack's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for slot in &self.slots {
            put_slot(&mut bytes, slot.as_ref());
        }
        bytes
    }

    /// Returns how many slots are in use, erased ones among them.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.slots.len()
    }

    /// Says whether no slot is in use yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns what a slot holds; `None` when it is erased or not in use yet.
    #[must_use]
    pub fn slot(&self, slot: usize) -> Option<&SaltedOpening> {
        self.slots.get(slot)?.as_ref()
    }

    /// Puts an opening behind the others and returns its slot.
    ///
    /// # Errors
    /// When all 256 slots are in use.
    pub fn append(&mut self, opening: SaltedOpening) -> Result<usize, LedgerError> {
        LedgerError::limit("pack, in slots", self.slots.len() + 1, PACK_SLOTS)?;
        self.slots.push(Some(opening));
        Ok(self.slots.len() - 1)
    }

    /// Puts a slot behind the others whose opening was erased before anybody here had it.
    ///
    /// # Errors
    /// When all 256 slots are in use.
    pub fn append_erased(&mut self) -> Result<usize, LedgerError> {
        LedgerError::limit("pack, in slots", self.slots.len() + 1, PACK_SLOTS)?;
        self.slots.push(None);
        Ok(self.slots.len() - 1)
    }

    /// Keeps the first so many slots.
    pub fn truncate(&mut self, slots: usize) {
        self.slots.truncate(slots);
    }

    /// Erases a slot and says whether it held anything.
    pub fn erase(&mut self, slot: usize) -> bool {
        self.slots.get_mut(slot).and_then(Option::take).is_some()
    }
}

/// Writes one slot.
pub(super) fn put_slot(bytes: &mut Vec<u8>, slot: Option<&SaltedOpening>) {
    let Some(SaltedOpening { salt, opening }) = slot else {
        return put_length(bytes, 0);
    };
    put_length(bytes, opening.as_bytes().len());
    bytes.extend_from_slice(salt.as_bytes());
    bytes.extend_from_slice(opening.as_bytes());
}

/// Reads one slot.
pub(super) fn take_slot(reader: &mut Reader<'_>) -> Result<Option<SaltedOpening>, LedgerError> {
    let length = reader.length(OPENING_BYTES_MAX)?;
    if length == 0 {
        return Ok(None);
    }
    Ok(Some(SaltedOpening {
        salt: Salt::from_bytes(reader.array()?),
        opening: Opening::decode(reader.take(length)?)?,
    }))
}
