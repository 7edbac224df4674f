//! The header of a GGUF file (versions 2 and 3, little-endian), read as if its writer were hostile.
//!
//! ```text
//! "GGUF" | version u32 | tensors u64 | pairs u64 | pairs: key, type u32, value | tensors: name, rank u32,
//! dims u64 each, type u32, offset u64 | padding to the alignment | data          (all little-endian)
//! ```
//! After the specification in the ggml repository, `docs/gguf.md`. The header does not state its length: a
//! reader hands over what it has and is told whether more is needed ([`Header::read`]). Values are walked over,
//! not kept: vocabularies are megabytes, and nobody here asks for them. What is kept are the tensors and a few
//! facts, so memory stays within a few times the header's own size, at most [`HEADER_MAX_BYTES`].
//!
//! The tensors' extents cover the file's data exactly, in order: each ends where the next begins, the last at
//! the file's end. Where an element type's size is known, an extent is the tensor and its padding, no more and
//! no less; a type that came after this version is believed its offsets.

mod error;
mod types;
mod values;

use std::collections::BTreeSet;
use std::ops::Range;

pub use self::error::GgufError;
pub use self::types::ElementType;
use self::values::{Reader, Stop};
use super::safetensors::shown;

/// No header is longer. A vocabulary of 256,000 tokens with scores and merges takes some 15 MB.
pub const HEADER_MAX_BYTES: u64 = 64 << 20;
/// More tensors than any model has; each costs three times its shortest entry in memory.
pub const TENSORS_MAX: u64 = 1 << 18;
/// More pairs than any writer leaves.
pub const PAIRS_MAX: u64 = 1 << 16;
/// The format's own limit on keys.
pub const KEY_MAX_BYTES: u64 = 65_535;
/// Longer than any framework's names, which end at 64 or 128 bytes.
pub const NAME_MAX_BYTES: u64 = 1024;
/// Frameworks compute with four.
pub const RANK_MAX: u32 = 8;
/// Where nothing else is said.
pub const ALIGNMENT_DEFAULT: u64 = 32;
/// A page of the largest kind; more would only be padding.
pub const ALIGNMENT_MAX: u64 = 64 << 10;
/// Texts longer than this are no names, and not kept.
const FACT_MAX_BYTES: u64 = 1024;

/// One tensor: what it is called, what it holds, and where its bytes lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub element: ElementType,
    /// Its dimensions, the one that varies fastest first; none for a scalar.
    pub shape: Vec<u64>,
    /// Its bytes with their padding, counted from the start of the file.
    pub bytes: Range<u64>,
}

impl Tensor {
    /// Returns the number of bytes, padding included.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }

    /// Returns the number of elements; reading the header has shown that the product fits.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// A checked header: the tensors cover the file's data exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    data_start: u64,
    tensors: Vec<Tensor>,
    facts: Facts,
}

/// What a file says of itself, as far as anybody here asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `general.architecture`: `llama` and the like.
    pub architecture: Option<String>,
    /// `general.name`.
    pub name: Option<String>,
    /// `general.file_type`: how most tensors are quantised.
    pub file_type: Option<u64>,
    /// `general.alignment`.
    pub alignment: Option<u64>,
}

/// What the first bytes of a file give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// The header goes on behind them.
    NeedsMore,
    /// The whole header.
    Whole(Header),
}

impl Header {
    /// Reads the first bytes of a file of known size. Who has all of them, or [`HEADER_MAX_BYTES`], is never told
    /// that more is needed.
    ///
    /// # Errors
    /// When the header is malformed or does not fit the file; the error names the tensor or key.
    pub fn read(first: &[u8], file_size: u64) -> Result<Reading, GgufError> {
        match Self::read_whole(first, file_size) {
            Ok(header) => Ok(Reading::Whole(header)),
            Err(Stop::Wrong(error)) => Err(error),
            Err(Stop::Ends { at }) => {
                let have = first.len() as u64;
                if at > file_size || have >= file_size {
                    Err(GgufError::BeyondFile { at, size: file_size })
                } else if at > HEADER_MAX_BYTES || have >= HEADER_MAX_BYTES {
                    Err(GgufError::TooLong)
                } else {
                    Ok(Reading::NeedsMore)
                }
            }
        }
    }

    /// Returns the tensors in the order of their bytes.
    #[must_use]
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Returns what the file says of itself.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Returns where the data starts: behind the header and its padding.
    #[must_use]
    pub const fn data_start(&self) -> u64 {
        self.data_start
    }

    /// Returns the number of elements in all tensors.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.tensors
            .iter()
            .fold(0, |sum, tensor| sum.saturating_add(tensor.elements()))
    }

    fn read_whole(first: &[u8], file_size: u64) -> Result<Self, Stop> {
        let mut reader = Reader::new(first);
        if reader.take(4)? != b"GGUF" {
            return Err(GgufError::NotGguf.into());
        }
        match reader.u32()? {
            2 | 3 => {}
            // A big-endian file's version, seen from the other end.
            swapped if matches!(swapped.swap_bytes(), 1..=255) => return Err(GgufError::BigEndian.into()),
            version => return Err(GgufError::Version(version).into()),
        }
        let (tensors, pairs) = (reader.u64()?, reader.u64()?);
        if tensors > TENSORS_MAX {
            return Err(GgufError::TooManyTensors(tensors).into());
        }
        if pairs > PAIRS_MAX {
            return Err(GgufError::TooManyPairs(pairs).into());
        }
        let facts = read_pairs(&mut reader, pairs)?;
        let alignment = facts.alignment.unwrap_or(ALIGNMENT_DEFAULT);
        let mut list = Vec::new();
        for _ in 0..tensors {
            list.push(read_tensor(&mut reader)?);
        }
        let end = reader.at();
        let data_start = end.next_multiple_of(alignment);
        if list.is_empty() {
            // Vocabularies come without tensors, and not every writer pads behind nothing.
            if file_size > data_start || file_size < end {
                return Err(GgufError::Trailing { end, size: file_size }.into());
            }
            reader.skip(file_size - end)?;
            return Ok(Self {
                data_start: file_size,
                tensors: list,
                facts,
            });
        }
        reader.skip(data_start - end)?;
        let tensors = place(list, data_start, alignment, file_size)?;
        Ok(Self {
            data_start,
            tensors,
            facts,
        })
    }
}

fn read_pairs(reader: &mut Reader<'_>, pairs: u64) -> Result<Facts, Stop> {
    let mut facts = Facts::default();
    let mut keys = BTreeSet::new();
    for _ in 0..pairs {
        let key = reader.text(KEY_MAX_BYTES, "a key")?;
        if !keys.insert(key) {
            return Err(GgufError::DuplicateKey(shown(key)).into());
        }
        let kind = reader.u32()?;
        match key {
            "general.architecture" => facts.architecture = reader.fact(kind, FACT_MAX_BYTES)?,
            "general.name" => facts.name = reader.fact(kind, FACT_MAX_BYTES)?,
            "general.file_type" => facts.file_type = reader.number(kind)?,
            "general.alignment" => {
                let found = reader.number(kind)?;
                let fits = |a: &u64| a.is_power_of_two() && *a <= ALIGNMENT_MAX;
                facts.alignment = Some(found.filter(fits).ok_or(GgufError::Alignment)?);
            }
            _ => reader.skip_value(kind)?,
        }
    }
    Ok(facts)
}

/// Reads one tensor; its bytes begin where it says, counted from the start of the data, and have no end yet.
fn read_tensor(reader: &mut Reader<'_>) -> Result<Tensor, Stop> {
    let name = reader.text(NAME_MAX_BYTES, "a tensor's name")?;
    let rank = reader.u32()?;
    if rank > RANK_MAX {
        return Err(GgufError::TooManyDimensions(shown(name)).into());
    }
    let shape = (0..rank)
        .map(|_| reader.u64())
        .collect::<Result<Vec<u64>, Stop>>()?;
    let element = ElementType::from_code(reader.u32()?);
    let start = reader.u64()?;
    Ok(Tensor {
        name: name.to_owned(),
        element,
        shape,
        bytes: start..start,
    })
}

/// Gives each tensor the bytes up to the next one.
fn place(
    mut tensors: Vec<Tensor>,
    data_start: u64,
    alignment: u64,
    file_size: u64,
) -> Result<Vec<Tensor>, GgufError> {
    // Stable: of two at one place, the empty one stands first in the file as well.
    tensors.sort_by_key(|tensor| tensor.bytes.start);
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(GgufError::DuplicateTensor(shown(twice[0])));
    }
    let available = file_size.checked_sub(data_start).ok_or(GgufError::BeyondFile {
        at: data_start,
        size: file_size,
    })?;
    let starts: Vec<u64> = tensors.iter().map(|tensor| tensor.bytes.start).collect();
    if starts.first() != Some(&0) {
        return Err(GgufError::Gap(shown(&tensors[0].name)));
    }
    for (index, tensor) in tensors.iter_mut().enumerate() {
        let name = || shown(&tensor.name);
        let start = starts[index];
        if !start.is_multiple_of(alignment) {
            return Err(GgufError::Misaligned(name()));
        }
        let next = starts.get(index + 1).copied();
        let end = next.unwrap_or(available);
        if end > available || start > end {
            return Err(GgufError::TensorBeyondFile(name()));
        }
        let needed = tensor.element.bytes_of(&tensor.shape);
        if let Some(needed) = needed.map_err(|fault| fault.of(name()))? {
            let enclosed = end - start;
            // Between tensors there is padding; behind the last one there may be.
            let padded = needed.checked_next_multiple_of(alignment);
            let fits = padded == Some(enclosed) || (next.is_none() && enclosed == needed);
            if !fits {
                return Err(GgufError::LengthMismatch {
                    name: name(),
                    needed,
                    enclosed,
                });
            }
        }
        tensor.bytes = data_start + start..data_start + end;
    }
    Ok(tensors)
}
