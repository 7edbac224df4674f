//! The right edge of a tree in its shortest form: all that appending and the root need.

use super::error::LedgerError;
use super::hash::{Hash, Root};
use super::merkle::{HashSource, SIZE_MAX, root_nodes};

/// The right edge of a tree: its size and the complete subtrees that make it up, largest first.
///
/// Holds at most 53 hashes, which is all that appending and the root need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// Reads the edge of the tree of `size` leaves.
    ///
    /// # Errors
    /// When a hash is not at hand, or `size` is beyond [`SIZE_MAX`].
    pub fn from_source<S: HashSource + ?Sized>(source: &S, size: u64) -> Result<Self, LedgerError> {
        let subtrees = root_nodes(size)
            .into_iter()
            .map(|node| source.hash_at(node.level, node.index))
            .collect::<Result<_, _>>()?;
        Self::from_hashes(size, subtrees)
    }

    /// Takes up what [`Self::size`] and [`Self::hashes`] gave.
    ///
    /// # Errors
    /// When the number of hashes is not what a tree of this size has, or it is beyond [`SIZE_MAX`].
    pub fn from_hashes(size: u64, hashes: Vec<Hash>) -> Result<Self, LedgerError> {
        if size > SIZE_MAX {
            return Err(LedgerError::TooLarge {
                what: "tree's number of leaves",
                found: size,
                limit: SIZE_MAX,
            });
        }
        if hashes.len() != size.count_ones() as usize {
            return Err(LedgerError::malformed(
                "tree's edge",
                format!("{} hashes for {size} leaves", hashes.len()),
            ));
        }
        Ok(Self {
            size,
            subtrees: hashes,
        })
    }

    /// Appends a leaf's hash.
    pub fn append(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            // One subtree per set bit of the size: each trailing one is a subtree as large as `hash`.
            let Some(left) = self.subtrees.pop() else { break };
            hash = Hash::node(&left, &hash);
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// Returns the root of the tree.
    #[must_use]
    pub fn root(&self) -> Root {
        Root::of(Hash::joined(&self.subtrees))
    }

    /// Returns how many leaves the tree has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Returns the complete subtrees' hashes, largest first.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.subtrees
    }
}
