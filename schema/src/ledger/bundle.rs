//! Bundles of entries: the leaves themselves, 256 to a tile (C2SP tlog-tiles, "Log entries").
//!
//! ```text
//! 1 to 256 x ( u16be length = 43 || leaf )      a full bundle has 11,520 bytes
//! ```

use super::error::LedgerError;
use super::leaf::{LEAF_BYTES, Leaf};
use super::reading::Reader;
use super::tile::{TILE_WIDTH, TileKind, TilePath};

const WIDTH: u64 = TILE_WIDTH as u64;
const LENGTH: [u8; 2] = (LEAF_BYTES as u16).to_be_bytes();

/// Encodes leaves as a bundle's bytes.
#[must_use]
pub fn encode(leaves: &[Leaf]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(leaves.len() * (2 + LEAF_BYTES));
    for leaf in leaves {
        bytes.extend_from_slice(&LENGTH);
        bytes.extend_from_slice(&leaf.encode());
    }
    bytes
}

/// Decodes the bundle that lies at `path`.
///
/// # Errors
/// When the path is not a bundle's, or the bytes are not exactly as many leaves as it says.
pub fn decode(path: &TilePath, bytes: &[u8]) -> Result<Vec<Leaf>, LedgerError> {
    let fail = |reason| Err(LedgerError::malformed("bundle of entries", reason));
    if path.kind() != TileKind::Entries {
        return fail(format!("{path} holds hashes"));
    }
    if bytes.len() != path.byte_len() {
        return fail(format!(
            "{path} has {} bytes, not {}",
            bytes.len(),
            path.byte_len()
        ));
    }
    let mut reader = Reader::new("bundle of entries", bytes);
    let mut leaves = Vec::with_capacity(usize::from(path.width()));
    while !reader.is_empty() {
        let length = reader.u16()?;
        if usize::from(length) != LEAF_BYTES {
            return fail(format!("an entry of {length} bytes, not {LEAF_BYTES}"));
        }
        leaves.push(Leaf::decode(reader.take(LEAF_BYTES)?)?);
    }
    Ok(leaves)
}

/// Returns every bundle that is new or fuller than before when `new` leaves follow the `old_size` that stand.
/// `partial` holds the leaves of the last bundle, if that is not full.
///
/// # Errors
/// When `partial` is not what a tree of `old_size` leaves has there, or the tree would grow too large.
pub fn grow(old_size: u64, partial: &[Leaf], new: &[Leaf]) -> Result<Vec<(TilePath, Vec<u8>)>, LedgerError> {
    if partial.len() as u64 != old_size % WIDTH {
        return Err(LedgerError::malformed(
            "partial bundle of entries",
            format!(
                "{} entries, a tree of {old_size} leaves has {}",
                partial.len(),
                old_size % WIDTH
            ),
        ));
    }
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let leaves = [partial, new].concat();
    leaves
        .chunks(usize::from(TILE_WIDTH))
        .zip(old_size / WIDTH..)
        .map(|(leaves, index)| {
            let width = u16::try_from(leaves.len()).expect("a chunk has at most 256");
            Ok((TilePath::new(TileKind::Entries, index, width)?, encode(leaves)))
        })
        .collect()
}
