//! Which encoding a chunk gets, and the chunk in it.
//!
//! ```text
//! raw --sample 4 x 16 KiB--> bits a byte, by position and as a whole --> planes | zstd | raw --> StoredChunk
//! ```
//! The choice needs nothing but the bytes: a tensor's type is not known where chunks are stored, and
//! histograms tell it. An encoding has to save 3 % in the sample, and again in fact; otherwise the chunk stays
//! raw. The same bytes give the same answer in the same build; another one may choose otherwise, since a
//! chunk's name does not depend on it. `planes` and `zstd` are the encodings themselves.

mod planes;
mod sample;
mod zstd;

use std::borrow::Cow;

use self::sample::{Sample, Split};
use super::chunk::{ChunkError, Encoding, StoredChunk, raw_length};

/// Shorter chunks stay raw: headers and tables would eat what is saved.
const ENCODED_FROM_BYTES: usize = 512;
/// What an encoding may leave of a chunk, as a fraction; to save less would not pay for decoding at each read.
const KEPT_MAX: f64 = 0.97;
/// Bytes that have more bits of entropy than this are compressed already.
const INCOMPRESSIBLE_BITS: f64 = 7.9;

/// A chunk in the encoding that was chosen for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedChunk<'a> {
    encoding: Encoding,
    raw_length: u32,
    body: Cow<'a, [u8]>,
}

impl EncodedChunk<'_> {
    /// Returns the chunk as it is stored.
    #[must_use]
    pub fn stored(&self) -> StoredChunk<'_> {
        StoredChunk::encoded(self.encoding, self.raw_length, &self.body)
    }
}

/// Encodes a chunk as its bytes recommend; what does not get smaller stays as it is, and is not copied.
///
/// # Errors
/// When there are no bytes, or more than a chunk holds.
pub fn encode(raw: &[u8]) -> Result<EncodedChunk<'_>, ChunkError> {
    let raw_length = raw_length(u32::try_from(raw.len()).unwrap_or(u32::MAX))?;
    let coded = match choose(raw) {
        Choice::Raw => None,
        Choice::Zstd => zstd::compress(raw, zstd::Mode::Text).map(|body| (Encoding::Zstd, body)),
        Choice::Planes(split) => {
            let body = planes::encode(raw, split.form, split.codings);
            Some((Encoding::Planes, body))
        }
    };
    let (encoding, body) = match coded {
        Some((encoding, body)) if kept(body.len(), raw.len()) <= KEPT_MAX => (encoding, Cow::Owned(body)),
        _ => (Encoding::Raw, Cow::Borrowed(raw)),
    };
    Ok(EncodedChunk {
        encoding,
        raw_length,
        body,
    })
}

/// What shall be tried.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Choice {
    Raw,
    Zstd,
    Planes(Split),
}

fn choose(raw: &[u8]) -> Choice {
    if raw.len() < ENCODED_FROM_BYTES {
        return Choice::Raw;
    }
    let sample = Sample::of(raw);
    let (bits, split) = sample.measure();
    // Repetition shows in no histogram; but what has none of it as a whole has none in its parts either.
    let zstd = match bits {
        compressed if compressed > INCOMPRESSIBLE_BITS => 1.0,
        _ => zstd::compress(sample.bytes(), zstd::Mode::Text)
            .map_or(1.0, |frame| kept(frame.len(), sample.bytes().len())),
    };
    if split.kept <= KEPT_MAX && split.kept < zstd {
        Choice::Planes(split)
    } else if zstd <= KEPT_MAX {
        Choice::Zstd
    } else {
        Choice::Raw
    }
}

fn kept(bytes: usize, of: usize) -> f64 {
    bytes as f64 / of as f64
}

/// Returns the raw bytes of a body in an encoding that needs nothing but itself.
pub(super) fn decode(encoding: Encoding, body: &[u8], raw_length: u32) -> Result<Cow<'_, [u8]>, ChunkError> {
    let length = raw_length as usize;
    let decoded = match encoding {
        Encoding::Raw => return Ok(Cow::Borrowed(body)),
        Encoding::Zstd => zstd::decompress(body, length),
        Encoding::Planes => planes::decode(body, length),
        Encoding::Delta => return Err(ChunkError::Unsupported(encoding)),
    };
    decoded
        .map(Cow::Owned)
        .map_err(|reason| ChunkError::Malformed { encoding, reason })
}
