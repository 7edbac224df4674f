//! Proofs that stand on their own: an entry, its opening, and the way from its leaf to a signed root.
//!
//! A proof is believed as far as the checkpoint that it is held against; whether that is signed by the right
//! keys is [`super::SignedCheckpoint::verify`]'s to say. [`super::TlogProof`] is the same in one text file.

use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, Origin};
use super::error::LedgerError;
use super::hash::{Commitment, Hash, Root};
use super::leaf::{Class, Leaf, RefKind};
use super::merkle::{HashSource, prove_inclusion, verify_inclusion};
use super::opening::{Opening, Salt, SaltedOpening};

/// The way from a leaf to the root of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InclusionProof {
    /// The leaf's position.
    pub index: u64,
    /// The tree's number of leaves.
    pub size: u64,
    /// The siblings, from the leaf's to the one below the root.
    pub path: Vec<Hash>,
}

impl InclusionProof {
    /// Proves that the leaf at `index` is in the tree of `size` leaves.
    ///
    /// # Errors
    /// When `index` is not below `size`, or a hash is not at hand.
    pub fn make<S: HashSource + ?Sized>(source: &S, index: u64, size: u64) -> Result<Self, LedgerError> {
        let path = prove_inclusion(source, index, size)?;
        Ok(Self { index, size, path })
    }

    /// Checks that this leaf stands at `index` in the tree with this root.
    ///
    /// # Errors
    /// When it does not.
    pub fn verify(&self, leaf: &Hash, root: &Root) -> Result<(), LedgerError> {
        verify_inclusion(leaf, self.index, self.size, &self.path, root)
    }
}

/// An entry, opened, with the way from its leaf to a checkpoint's root.
///
/// The commitment is left out: whoever checks computes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EntryProof {
    /// The entry's position.
    pub index: u64,
    /// Who may ask for its opening.
    pub class: Class,
    /// What it does to which earlier entry.
    #[serde(deserialize_with = "Option::deserialize")]
    pub reference: Option<(RefKind, u64)>,
    /// The commitment's key.
    pub salt: Salt,
    /// What the leaf commits to.
    pub opening: Opening,
    /// The siblings, from the leaf's to the one below the root.
    pub path: Vec<Hash>,
}

impl EntryProof {
    /// Joins an entry that was opened with the proof that its leaf is in the tree.
    #[must_use]
    pub fn new(leaf: &Leaf, opened: SaltedOpening, inclusion: InclusionProof) -> Self {
        Self {
            index: inclusion.index,
            class: leaf.class,
            reference: leaf.reference,
            salt: opened.salt,
            opening: opened.opening,
            path: inclusion.path,
        }
    }

    /// Returns the leaf that this entry has in a ledger.
    #[must_use]
    pub fn leaf(&self, origin: &Origin) -> Leaf {
        Leaf {
            class: self.class,
            reference: self.reference,
            commitment: Commitment::to(origin, &self.salt, &self.opening),
        }
    }

    /// Checks that the ledger holds exactly this entry, and returns what it says.
    ///
    /// # Errors
    /// When anything in the proof is not what the checkpoint's tree holds.
    pub fn verify(&self, checkpoint: &Checkpoint) -> Result<&Opening, LedgerError> {
        if self.class == Class::Pad {
            return Err(LedgerError::refused("proof of an entry", "pads have no opening"));
        }
        let leaf = self.leaf(&checkpoint.origin).hash();
        verify_inclusion(&leaf, self.index, checkpoint.size, &self.path, &checkpoint.root)?;
        Ok(&self.opening)
    }
}
