//! The Merkle tree of RFC 6962, and the proofs that RFC 9162 checks.
//!
//! A [`Node`] at level L and index i is the complete subtree over leaves `i * 2^L .. (i + 1) * 2^L`. Nodes
//! never change once their leaves exist; everything else (a root, a proof's hash at the ragged right edge) is
//! joined from them. So proofs are planned first ([`inclusion_nodes`], [`consistency_nodes`]: pure, at most
//! some hundred nodes), the caller fetches what holds them, and then proves from a [`HashSource`].
//!
//! Sizes and indices may be any `u64`: loops run at most once per bit, nothing overflows.

use super::error::LedgerError;
use super::hash::{Hash, Root};
use crate::base::json::INTEGER_MAX;

/// A ledger never holds more leaves than this, so that every position can stand in JSON.
pub const SIZE_MAX: u64 = INTEGER_MAX;

/// A complete subtree: `2^level` leaves from leaf `index * 2^level` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// 0 for a leaf.
    pub level: u8,
    /// The position among the nodes of this level.
    pub index: u64,
}

/// A hash that is not at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the hash at level {}, index {} is not at hand", .0.level, .0.index)]
pub struct MissingHash(pub Node);

/// Where hashes of complete subtrees come from: loaded tiles, or a tree in memory.
///
/// An implementation answers with the hash of exactly that subtree or with [`MissingHash`]; it never makes
/// one up for a subtree that is not complete.
pub trait HashSource {
    /// Returns the hash over leaves `index * 2^level .. (index + 1) * 2^level`.
    ///
    /// # Errors
    /// When the hash is not at hand.
    fn hash_at(&self, level: u8, index: u64) -> Result<Hash, MissingHash>;
}

/// A whole tree in memory, for tests and small ledgers.
#[derive(Debug, Clone, Default)]
pub struct MemoryTree {
    levels: Vec<Vec<Hash>>,
}

impl MemoryTree {
    /// Appends a leaf's hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let row = &mut self.levels[level];
            row.push(hash);
            if row.len() % 2 == 1 {
                return;
            }
            hash = Hash::node(&row[row.len() - 2], &row[row.len() - 1]);
        }
    }

    /// Returns how many leaves there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }
}

impl FromIterator<Hash> for MemoryTree {
    fn from_iter<I: IntoIterator<Item = Hash>>(leaves: I) -> Self {
        let mut tree = Self::default();
        for leaf in leaves {
            tree.push(leaf);
        }
        tree
    }
}

impl HashSource for MemoryTree {
    fn hash_at(&self, level: u8, index: u64) -> Result<Hash, MissingHash> {
        let position = usize::try_from(index).unwrap_or(usize::MAX);
        self.levels
            .get(usize::from(level))
            .and_then(|row| row.get(position))
            .copied()
            .ok_or(MissingHash(Node { level, index }))
    }
}

/// Leaves `start .. end`, a range as RFC 6962 cuts them: aligned to the power of two that holds it.
type Range = (u64, u64);

/// Cuts a range into complete subtrees, largest first.
fn complete_subtrees(start: u64, end: u64) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut at = start;
    while at < end {
        let level = (end - at).ilog2();
        nodes.push(Node {
            level: u8::try_from(level).expect("a u64 has 64 bits"),
            index: at >> level,
        });
        at += 1 << level;
    }
    nodes
}

/// Where RFC 6962 splits a range of two or more leaves: behind the largest power of two below its length.
fn split(start: u64, end: u64) -> u64 {
    start + (1 << (end - start - 1).ilog2())
}

fn hash_of<S: HashSource + ?Sized>(source: &S, (start, end): Range) -> Result<Option<Hash>, MissingHash> {
    let subtrees = complete_subtrees(start, end)
        .into_iter()
        .map(|node| source.hash_at(node.level, node.index))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Hash::joined(&subtrees))
}

fn hashes_of<S: HashSource + ?Sized>(source: &S, ranges: Vec<Range>) -> Result<Vec<Hash>, LedgerError> {
    let hashes: Result<Vec<_>, _> = ranges.into_iter().map(|range| hash_of(source, range)).collect();
    // No range of a proof is empty, so nothing is dropped by flattening.
    Ok(hashes?.into_iter().flatten().collect())
}

fn nodes_of(ranges: Vec<Range>) -> Vec<Node> {
    ranges
        .into_iter()
        .flat_map(|(start, end)| complete_subtrees(start, end))
        .collect()
}

/// Returns the nodes that the root of a tree of `size` leaves is joined from.
#[must_use]
pub fn root_nodes(size: u64) -> Vec<Node> {
    complete_subtrees(0, size)
}

/// Returns the root of the tree of the first `size` leaves.
///
/// # Errors
/// When one of [`root_nodes`] is not at hand.
pub fn root<S: HashSource + ?Sized>(source: &S, size: u64) -> Result<Root, MissingHash> {
    hash_of(source, (0, size)).map(Root::of)
}

/// RFC 6962, 2.1.1: the sibling at each level, from the leaf to the root.
fn inclusion_ranges(index: u64, size: u64) -> Result<Vec<Range>, LedgerError> {
    if index >= size {
        return Err(LedgerError::OutOfRange {
            what: "entry",
            asked: index,
            size,
        });
    }
    let (mut start, mut end, mut ranges) = (0, size, Vec::new());
    while end - start > 1 {
        let middle = split(start, end);
        if index < middle {
            ranges.push((middle, end));
            end = middle;
        } else {
            ranges.push((start, middle));
            start = middle;
        }
    }
    ranges.reverse();
    Ok(ranges)
}

/// RFC 6962, 2.1.2: what the old tree is made of, then what was added, from the bottom to the root.
fn consistency_ranges(old: u64, new: u64) -> Result<Vec<Range>, LedgerError> {
    if old > new {
        return Err(LedgerError::OutOfRange {
            what: "an older tree of size",
            asked: old,
            size: new,
        });
    }
    let (mut start, mut end, mut ranges) = (0, new, Vec::new());
    // Anything is consistent with nothing: the proof is empty.
    if old == 0 {
        return Ok(ranges);
    }
    while old < end {
        let middle = split(start, end);
        if old <= middle {
            ranges.push((middle, end));
            end = middle;
        } else {
            ranges.push((start, middle));
            start = middle;
        }
    }
    // The old tree itself is left out: whoever checks has its root.
    if start > 0 {
        ranges.push((start, end));
    }
    ranges.reverse();
    Ok(ranges)
}

/// Returns the nodes that [`prove_inclusion`] reads.
///
/// # Errors
/// When `index` is not below `size`.
pub fn inclusion_nodes(index: u64, size: u64) -> Result<Vec<Node>, LedgerError> {
    inclusion_ranges(index, size).map(nodes_of)
}

/// Returns the nodes that [`prove_consistency`] reads.
///
/// # Errors
/// When `old` is above `new`.
pub fn consistency_nodes(old: u64, new: u64) -> Result<Vec<Node>, LedgerError> {
    consistency_ranges(old, new).map(nodes_of)
}

/// Proves that the leaf at `index` is in the tree of `size` leaves.
///
/// # Errors
/// When `index` is not below `size`, or a hash is not at hand.
pub fn prove_inclusion<S: HashSource + ?Sized>(
    source: &S,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, LedgerError> {
    hashes_of(source, inclusion_ranges(index, size)?)
}

/// Proves that the tree of `old` leaves is the beginning of the tree of `new` leaves.
///
/// # Errors
/// When `old` is above `new`, or a hash is not at hand.
pub fn prove_consistency<S: HashSource + ?Sized>(
    source: &S,
    old: u64,
    new: u64,
) -> Result<Vec<Hash>, LedgerError> {
    hashes_of(source, consistency_ranges(old, new)?)
}

/// Checks that a leaf stands at `index` in the tree of `size` leaves with this root (RFC 9162, 2.1.3.2).
///
/// # Errors
/// When it does not, or the proof does not show it.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Root,
) -> Result<(), LedgerError> {
    let refuse = |reason: String| Err(LedgerError::refused("inclusion proof", reason));
    if index >= size {
        return refuse(format!("entry {index} is not in a tree of {size} leaves"));
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return refuse(format!(
                "{} hashes are too many for entry {index} of {size}",
                proof.len()
            ));
        }
        if node & 1 == 1 || node == last {
            hash = Hash::node(sibling, &hash);
            // On the right edge, levels without a sibling are passed over.
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = Hash::node(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return refuse(format!(
            "{} hashes are too few for entry {index} of {size}",
            proof.len()
        ));
    }
    if !root.is(&hash) {
        return refuse(format!("it leads to {hash}, the root is {root}"));
    }
    Ok(())
}

/// One of the two trees that a consistency proof speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    /// How many leaves it has.
    pub size: u64,
    /// Its root.
    pub root: Root,
}

/// Checks that the old tree is the beginning of the new one (RFC 9162, 2.1.4.2).
///
/// # Errors
/// When it is not, or the proof does not show it. Two signed trees that are truly not consistent are evidence
/// of a second history; a refused proof alone is not.
pub fn verify_consistency(old: &Tree, new: &Tree, proof: &[Hash]) -> Result<(), LedgerError> {
    let refuse = |reason: String| Err(LedgerError::refused("consistency proof", reason));
    if old.size > new.size {
        return refuse(format!(
            "a tree of {} leaves does not become one of {}",
            old.size, new.size
        ));
    }
    if old.size == 0 || old.size == new.size {
        if !proof.is_empty() {
            return refuse(format!("{} hashes where none are needed", proof.len()));
        }
        let expected = if old.size == 0 { Root::empty() } else { new.root };
        if old.root != expected {
            return refuse(format!(
                "the root at {} is {}, not {expected}",
                old.size, old.root
            ));
        }
        // A tree without leaves has one root, also as the new one.
        if new.size == 0 && new.root != expected {
            return refuse(format!("the root at 0 is {}, not {expected}", new.root));
        }
        return Ok(());
    }
    let (mut node, mut last) = (old.size - 1, new.size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    // An old tree that is one complete subtree starts from its own root, which the proof leaves out.
    let (first, rest) = if old.size.is_power_of_two() {
        (Hash::from_bytes(*old.root.as_bytes()), proof)
    } else {
        let Some((first, rest)) = proof.split_first() else {
            return refuse("it is empty".to_owned());
        };
        (*first, rest)
    };
    let (mut old_hash, mut new_hash) = (first, first);
    for hash in rest {
        if last == 0 {
            return refuse(format!(
                "{} hashes are too many for {} to {}",
                proof.len(),
                old.size,
                new.size
            ));
        }
        if node & 1 == 1 || node == last {
            old_hash = Hash::node(hash, &old_hash);
            new_hash = Hash::node(hash, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = Hash::node(&new_hash, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return refuse(format!(
            "{} hashes are too few for {} to {}",
            proof.len(),
            old.size,
            new.size
        ));
    }
    for (tree, hash) in [(old, old_hash), (new, new_hash)] {
        if !tree.root.is(&hash) {
            return refuse(format!(
                "it leads to {hash} at {}, the root there is {}",
                tree.size, tree.root
            ));
        }
    }
    Ok(())
}
