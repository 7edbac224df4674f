//! A chunk as it is stored and sent: a header that says how its body is encoded.
//!
//! ```text
//! "WC" | version u8 = 1 | encoding u8 | raw length u32be | body
//! encoding: 0 raw    body = the bytes
//!           1 zstd   body = a zstd frame that states its length
//!           2 planes body = form u8 | for each byte of an element: coding u8, length u32be, bytes | tail
//!           3 delta  body = base digest (32 bytes) + difference against that chunk
//! ```
//! A chunk's name is the BLAKE3 of its raw bytes, whatever its encoding; so an encoding may change and the
//! name stays. Readers verify after decoding. [`super::encoding`] says what is in a body and which encoding is
//! chosen. This version writes and decodes `raw`, `zstd` and `planes`, and knows the header of `delta`.

use std::borrow::Cow;

use super::encoding;
use super::planner::CHUNK_MAX;
use crate::base::digest::ChunkDigest;

/// The header in front of a chunk's body.
pub const HEADER_BYTES: usize = 8;
/// No stored chunk is longer: the largest raw chunk, and 1 KiB for headers.
pub const STORED_MAX: usize = CHUNK_MAX + 1024;

const MAGIC: [u8; 2] = *b"WC";
const VERSION: u8 = 1;
const BASE_BYTES: usize = 32;

/// Stored bytes are not a chunk, or not the one that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Fewer bytes than a header, or than the header's encoding needs.
    #[error("a stored chunk of {found} bytes is too short, {needed} are needed at least")]
    TooShort {
        /// How many there are.
        found: usize,
        /// How many there must be.
        needed: usize,
    },
    /// More bytes than any chunk has.
    #[error("{found} bytes of stored chunk, at most {limit} are accepted")]
    TooLong {
        /// How many there are.
        found: u64,
        /// How many are accepted.
        limit: usize,
    },
    /// The bytes do not start as a chunk does.
    #[error("not a stored chunk: it does not start with WC")]
    NotAChunk,
    /// Written by a newer version.
    #[error("the stored chunk has version {0}, this version reads {VERSION}")]
    Version(u8),
    /// An encoding that no version of this format has.
    #[error("the stored chunk has the unknown encoding {0}")]
    UnknownEncoding(u8),
    /// The header claims a raw length that no chunk has.
    #[error("the stored chunk claims {found} raw bytes, a chunk has 1 to {CHUNK_MAX}")]
    RawLength {
        /// What the header says.
        found: u32,
    },
    /// A raw body is not as long as its header says.
    #[error("the stored chunk claims {claimed} raw bytes, its body has {found}")]
    BodyLength {
        /// What the header says.
        claimed: u32,
        /// What is there.
        found: usize,
    },
    /// An encoding that this version knows of and cannot decode.
    #[error("this version cannot decode chunks of encoding {0}; ask a newer one")]
    Unsupported(Encoding),
    /// The body is not what its encoding asks for.
    #[error("the stored chunk of encoding {encoding} is malformed: {reason}")]
    Malformed {
        /// How it should be encoded.
        encoding: Encoding,
        /// What is wrong.
        reason: &'static str,
    },
    /// The bytes are not those of this name.
    #[error("expected the chunk {expected}, its bytes have the digest {found}")]
    Digest {
        /// The name.
        expected: ChunkDigest,
        /// What the bytes hash to.
        found: ChunkDigest,
    },
}

/// How a chunk's body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// As it is.
    Raw,
    /// One zstd frame around the whole.
    Zstd,
    /// Split by byte position; the planes that gain by it are entropy-coded.
    Planes,
    /// The difference against another chunk.
    Delta,
}

impl Encoding {
    /// Returns the header's byte.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
            Self::Planes => 2,
            Self::Delta => 3,
        }
    }

    /// Returns the encoding of a header's byte.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            2 => Some(Self::Planes),
            3 => Some(Self::Delta),
            _ => None,
        }
    }
}

impl std::fmt::Display for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Zstd => "zstd",
            Self::Planes => "planes",
            Self::Delta => "delta",
        })
    }
}

/// Returns how many raw bytes a stored chunk claims to have by the header that it begins with; nothing is checked.
#[must_use]
pub const fn claimed_length(header: &[u8; HEADER_BYTES]) -> u32 {
    let [.., l0, l1, l2, l3] = *header;
    u32::from_be_bytes([l0, l1, l2, l3])
}

/// A stored chunk whose header has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredChunk<'a> {
    encoding: Encoding,
    raw_length: u32,
    base: Option<ChunkDigest>,
    body: &'a [u8],
}

impl<'a> StoredChunk<'a> {
    /// Wraps bytes as they are. [`StoredChunk::header`] and the bytes together are the stored form, so a
    /// writer with vectored output copies nothing.
    ///
    /// # Errors
    /// When there are no bytes, or more than a chunk holds.
    pub fn raw(bytes: &'a [u8]) -> Result<Self, ChunkError> {
        Ok(Self {
            encoding: Encoding::Raw,
            raw_length: raw_length(u32::try_from(bytes.len()).unwrap_or(u32::MAX))?,
            base: None,
            body: bytes,
        })
    }

    /// Wraps a body that was encoded here.
    pub(super) const fn encoded(encoding: Encoding, raw_length: u32, body: &'a [u8]) -> Self {
        Self {
            encoding,
            raw_length,
            base: None,
            body,
        }
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// When the header is malformed, or does not fit the bytes.
    pub fn parse(stored: &'a [u8]) -> Result<Self, ChunkError> {
        if stored.len() > STORED_MAX {
            return Err(ChunkError::TooLong {
                found: stored.len() as u64,
                limit: STORED_MAX,
            });
        }
        let too_short = |needed| ChunkError::TooShort {
            found: stored.len(),
            needed,
        };
        let (header, body) = stored
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or_else(|| too_short(HEADER_BYTES + 1))?;
        let [m0, m1, version, encoding, l0, l1, l2, l3] = *header;
        if [m0, m1] != MAGIC {
            return Err(ChunkError::NotAChunk);
        }
        if version != VERSION {
            return Err(ChunkError::Version(version));
        }
        let encoding = Encoding::from_code(encoding).ok_or(ChunkError::UnknownEncoding(encoding))?;
        let raw_length = raw_length(u32::from_be_bytes([l0, l1, l2, l3]))?;
        let (base, body) = match encoding {
            Encoding::Delta => {
                let (base, body) = body
                    .split_first_chunk::<BASE_BYTES>()
                    .ok_or_else(|| too_short(HEADER_BYTES + BASE_BYTES + 1))?;
                (Some(ChunkDigest::from_bytes(*base)), body)
            }
            _ => (None, body),
        };
        if encoding == Encoding::Raw && body.len() != raw_length as usize {
            return Err(ChunkError::BodyLength {
                claimed: raw_length,
                found: body.len(),
            });
        }
        if body.is_empty() {
            return Err(too_short(stored.len() + 1));
        }
        Ok(Self {
            encoding,
            raw_length,
            base,
            body,
        })
    }

    /// Returns how the body is encoded.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Returns how many bytes the chunk has when decoded.
    #[must_use]
    pub const fn raw_length(&self) -> u32 {
        self.raw_length
    }

    /// Returns the chunk that a delta needs.
    #[must_use]
    pub const fn base(&self) -> Option<ChunkDigest> {
        self.base
    }

    /// Returns the encoded bytes, without headers.
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Returns the header's bytes. (A delta's base digest follows them, then the body.)
    #[must_use]
    pub const fn header(&self) -> [u8; HEADER_BYTES] {
        let [l0, l1, l2, l3] = self.raw_length.to_be_bytes();
        [MAGIC[0], MAGIC[1], VERSION, self.encoding.code(), l0, l1, l2, l3]
    }

    /// Returns the number of bytes in stored form.
    #[must_use]
    pub const fn stored_length(&self) -> usize {
        let base = if self.base.is_some() { BASE_BYTES } else { 0 };
        HEADER_BYTES + base + self.body.len()
    }

    /// Returns the stored form.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut stored = Vec::with_capacity(self.stored_length());
        stored.extend_from_slice(&self.header());
        if let Some(base) = &self.base {
            stored.extend_from_slice(base.as_bytes());
        }
        stored.extend_from_slice(self.body);
        stored
    }

    /// Returns the raw bytes; those of a raw chunk are borrowed, not copied.
    ///
    /// # Errors
    /// When the body is malformed, or this version cannot decode its encoding.
    pub fn decode(&self) -> Result<Cow<'a, [u8]>, ChunkError> {
        encoding::decode(self.encoding, self.body, self.raw_length)
    }

    /// Decodes, and checks that the raw bytes are those of this name.
    ///
    /// # Errors
    /// When the chunk cannot be decoded, or is another one.
    pub fn verify(&self, expected: &ChunkDigest) -> Result<Cow<'a, [u8]>, ChunkError> {
        let raw = self.decode()?;
        let found = ChunkDigest::of(&raw);
        if found != *expected {
            return Err(ChunkError::Digest {
                expected: *expected,
                found,
            });
        }
        Ok(raw)
    }
}

pub(super) const fn raw_length(found: u32) -> Result<u32, ChunkError> {
    if found == 0 || found as usize > CHUNK_MAX {
        return Err(ChunkError::RawLength { found });
    }
    Ok(found)
}

/// Reads stored bytes and returns the raw ones.
///
/// # Errors
/// When header or body are malformed, or this version cannot decode the encoding.
pub fn decode(stored: &[u8]) -> Result<Cow<'_, [u8]>, ChunkError> {
    StoredChunk::parse(stored)?.decode()
}
