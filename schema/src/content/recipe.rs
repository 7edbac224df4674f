//! The recipe of a file: the ordered pieces of chunks that make it.
//!
//! Canonical bytes, all integers big-endian:
//! ```text
//! "WRCP" | version u8 = 1 | planner u8 | size u64 | count u32 | count x (chunk 32 bytes | offset u32 | length u32)
//! ```
//! One recipe has one canonical form, whose BLAKE3 a release statement lists. What decodes is consistent: no
//! piece is empty or reaches beyond [`CHUNK_MAX`], and the lengths add up to the size. An empty file has no
//! pieces. Whether the chunks exist, and whether their bytes are right, is for the store to find out.

use std::ops::Range;

use super::planner::{CHUNK_MAX, PlannerId};
use crate::base::digest::ChunkDigest;

/// The most pieces of one file: 4 Mi, a terabyte of the smallest content-defined chunks in a recipe of 160
/// MiB.
pub const PIECES_MAX: usize = 1 << 22;

const MAGIC: [u8; 4] = *b"WRCP";
const VERSION: u8 = 1;
const FIXED_BYTES: usize = 18;
const PIECE_BYTES: usize = 40;

/// A recipe is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// The bytes do not start as a recipe does.
    #[error("not a recipe: it does not start with WRCP")]
    NotARecipe,
    /// Written by a newer version.
    #[error("the recipe has version {0}, this version reads {VERSION}")]
    Version(u8),
    /// Written with a planner of a newer version.
    #[error("the recipe names the unknown planner {0}")]
    Planner(u8),
    /// Too few or too many bytes for the number of pieces.
    #[error("a recipe of {pieces} pieces has {expected} bytes, this one has {found}")]
    Length {
        /// How many pieces it claims.
        pieces: u64,
        /// What they take.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// More pieces than accepted.
    #[error("the recipe has {found} pieces, at most {PIECES_MAX} are accepted")]
    TooManyPieces {
        /// How many there are.
        found: u64,
    },
    /// A piece is empty, or reaches beyond what a chunk can hold.
    #[error(
        "piece {index} takes {length} bytes from byte {offset} of a chunk, which holds at most {CHUNK_MAX}"
    )]
    Piece {
        /// Which piece, from 0.
        index: usize,
        /// Its first byte in the chunk.
        offset: u32,
        /// Its length.
        length: u32,
    },
    /// The pieces do not add up to the file.
    #[error("the recipe's pieces add up to {sum} bytes, its file has {size}")]
    Sum {
        /// What the pieces add up to.
        sum: u64,
        /// What the recipe says.
        size: u64,
    },
}

/// Some bytes of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Piece {
    /// The chunk.
    pub chunk: ChunkDigest,
    /// The first byte within the chunk.
    pub offset: u32,
    /// How many bytes; never 0.
    pub length: u32,
}

/// What a range of the file takes from one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which piece, from 0.
    pub index: usize,
    /// Its chunk.
    pub chunk: ChunkDigest,
    /// The bytes of the chunk (not of the piece).
    pub within: Range<u32>,
}

/// The ordered pieces that make a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    planner: PlannerId,
    pieces: Vec<Piece>,
    /// For each piece, where it ends in the file.
    ends: Vec<u64>,
}

impl Recipe {
    /// Returns which planner cut the file.
    #[must_use]
    pub const fn planner(&self) -> PlannerId {
        self.planner
    }

    /// Returns the file's size.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Returns the pieces, in the file's order.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Returns what a range of the file takes from each piece, in order. What lies behind the file's end is
    /// left out.
    pub fn pieces_for(&self, range: Range<u64>) -> impl Iterator<Item = Part> + '_ {
        let first = self.ends.partition_point(|end| *end <= range.start);
        let places = self.pieces.iter().zip(&self.ends).enumerate().skip(first);
        places
            .map(move |(index, (piece, end))| {
                let begin = end - u64::from(piece.length);
                // Both within the piece, so they fit its u32.
                let skipped = range.start.saturating_sub(begin) as u32;
                let kept = range.end.saturating_sub(begin).min(u64::from(piece.length)) as u32;
                Part {
                    index,
                    chunk: piece.chunk,
                    within: piece.offset + skipped..piece.offset + kept,
                }
            })
            .take_while(|part| part.within.start < part.within.end)
    }

    /// Returns the recipe of a part of the file; what lies behind the file's end is left out.
    #[must_use]
    pub fn slice(&self, range: Range<u64>) -> Self {
        let mut part = RecipeBuilder::new(self.planner);
        for Part { chunk, within, .. } in self.pieces_for(range) {
            part.push(Piece {
                chunk,
                offset: within.start,
                length: within.end - within.start,
            })
            .expect("a part of a recipe's piece is a piece");
        }
        part.finish()
    }

    /// Returns the canonical bytes.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_BYTES + PIECE_BYTES * self.pieces.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        bytes.push(self.planner.code());
        bytes.extend_from_slice(&self.size().to_be_bytes());
        // At most PIECES_MAX.
        bytes.extend_from_slice(&(self.pieces.len() as u32).to_be_bytes());
        for piece in &self.pieces {
            bytes.extend_from_slice(piece.chunk.as_bytes());
            bytes.extend_from_slice(&piece.offset.to_be_bytes());
            bytes.extend_from_slice(&piece.length.to_be_bytes());
        }
        bytes
    }

    /// Returns the BLAKE3 of the canonical bytes: the recipe's name.
    #[must_use]
    pub fn digest(&self) -> ChunkDigest {
        ChunkDigest::of(&self.canonical())
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// When they are anything but the canonical bytes of a consistent recipe.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecipeError> {
        let (fixed, rest) = bytes
            .split_first_chunk::<FIXED_BYTES>()
            .ok_or(RecipeError::NotARecipe)?;
        let [
            m0,
            m1,
            m2,
            m3,
            version,
            planner,
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            s6,
            s7,
            c0,
            c1,
            c2,
            c3,
        ] = *fixed;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(RecipeError::NotARecipe);
        }
        if version != VERSION {
            return Err(RecipeError::Version(version));
        }
        let planner = PlannerId::from_code(planner).ok_or(RecipeError::Planner(planner))?;
        let size = u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let count = u32::from_be_bytes([c0, c1, c2, c3]);
        if count as usize > PIECES_MAX {
            return Err(RecipeError::TooManyPieces { found: count.into() });
        }
        let (pieces, trailing) = rest.as_chunks::<PIECE_BYTES>();
        if pieces.len() != count as usize || !trailing.is_empty() {
            return Err(RecipeError::Length {
                pieces: count.into(),
                expected: FIXED_BYTES as u64 + PIECE_BYTES as u64 * u64::from(count),
                found: bytes.len() as u64,
            });
        }
        let mut builder = RecipeBuilder::new(planner);
        builder.pieces.reserve_exact(pieces.len());
        builder.ends.reserve_exact(pieces.len());
        for bytes in pieces {
            builder.push(decode_piece(bytes))?;
        }
        let recipe = builder.finish();
        if recipe.size() != size {
            return Err(RecipeError::Sum {
                sum: recipe.size(),
                size,
            });
        }
        Ok(recipe)
    }
}

fn decode_piece(bytes: &[u8; PIECE_BYTES]) -> Piece {
    let mut digest = [0; 32];
    digest.copy_from_slice(&bytes[..32]);
    let [.., o0, o1, o2, o3, l0, l1, l2, l3] = *bytes;
    Piece {
        chunk: ChunkDigest::from_bytes(digest),
        offset: u32::from_be_bytes([o0, o1, o2, o3]),
        length: u32::from_be_bytes([l0, l1, l2, l3]),
    }
}

/// Collects a recipe while its file streams by.
#[derive(Debug, Clone)]
pub struct RecipeBuilder {
    planner: PlannerId,
    pieces: Vec<Piece>,
    ends: Vec<u64>,
}

impl RecipeBuilder {
    /// Starts the recipe of a file that this planner cuts.
    #[must_use]
    pub const fn new(planner: PlannerId) -> Self {
        Self {
            planner,
            pieces: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Adds the next piece.
    ///
    /// # Errors
    /// When the piece is empty or reaches beyond a chunk, or there are too many.
    pub fn push(&mut self, piece: Piece) -> Result<(), RecipeError> {
        let Piece { offset, length, .. } = piece;
        let index = self.pieces.len();
        if length == 0 || u64::from(offset) + u64::from(length) > CHUNK_MAX as u64 {
            return Err(RecipeError::Piece {
                index,
                offset,
                length,
            });
        }
        if index == PIECES_MAX {
            return Err(RecipeError::TooManyPieces {
                found: index as u64 + 1,
            });
        }
        // Cannot overflow: 2^22 pieces of 2^22 bytes.
        self.ends
            .push(self.ends.last().copied().unwrap_or(0) + u64::from(length));
        self.pieces.push(piece);
        Ok(())
    }

    /// Adds a whole chunk.
    ///
    /// # Errors
    /// As for [`RecipeBuilder::push`].
    pub fn push_chunk(&mut self, chunk: ChunkDigest, length: usize) -> Result<(), RecipeError> {
        self.push(Piece {
            chunk,
            offset: 0,
            length: u32::try_from(length).unwrap_or(u32::MAX),
        })
    }

    /// Returns the size of what was added.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Returns the recipe of what was added.
    #[must_use]
    pub fn finish(self) -> Recipe {
        Recipe {
            planner: self.planner,
            pieces: self.pieces,
            ends: self.ends,
        }
    }
}
