//! What can be wrong with a ledger's bytes, proofs and signatures.

use super::merkle::MissingHash;

/// A ledger's bytes, proof or signature was refused. Each variant asks something else of the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Bytes or text are not of the form that they should have: refuse them.
    #[error("not a {what}: {reason}")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// The rule that is broken.
        reason: String,
    },
    /// More than is accepted: refuse it, or send less at once.
    #[error("a {what} of {found}, at most {limit} is accepted")]
    TooLarge {
        /// What was measured, and its unit.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much is accepted.
        limit: u64,
    },
    /// Something was asked that no tree of this size has: ask for less, or with a newer checkpoint.
    #[error("{what} {asked} is not in a tree of {size} leaves")]
    OutOfRange {
        /// What was asked for.
        what: &'static str,
        /// Its position or size.
        asked: u64,
        /// The tree's size.
        size: u64,
    },
    /// A hash is not at hand: fetch its tile and try again.
    #[error(transparent)]
    Missing(#[from] MissingHash),
    /// A proof does not lead to the root: whoever sent it is wrong or lies.
    #[error("the {what} does not hold: {reason}")]
    ProofRefused {
        /// Which kind of proof.
        what: &'static str,
        /// What was found.
        reason: String,
    },
    /// A known key's signature does not hold: refuse the whole note.
    #[error("the signature of {name} does not hold")]
    BadSignature {
        /// The key's name.
        name: String,
    },
    /// No key that would have to sign has signed.
    #[error("not signed by {name}")]
    NotSigned {
        /// Whose signature is missing.
        name: String,
    },
    /// A leaf's commitment is not to this opening: somebody exchanged or changed the opening, its salt, or the
    /// ledger that it is for.
    #[error("the opening of entry {index} is not what its leaf commits to in {origin}")]
    WrongCommitment {
        /// The entry's position.
        index: u64,
        /// The ledger.
        origin: String,
    },
    /// A commit does not continue the tree at hand, or its roots are not what its leaves give.
    #[error("the commit at {old_size} does not fit the tree: {reason}")]
    WrongTree {
        /// The size that the commit starts from.
        old_size: u64,
        /// What was found.
        reason: String,
    },
}

impl LedgerError {
    pub(super) fn malformed(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Malformed {
            what,
            reason: reason.into(),
        }
    }

    pub(super) fn refused(what: &'static str, reason: impl Into<String>) -> Self {
        Self::ProofRefused {
            what,
            reason: reason.into(),
        }
    }

    /// Refuses more than `limit` of something.
    pub(super) fn limit(what: &'static str, found: usize, limit: usize) -> Result<(), Self> {
        if found <= limit {
            return Ok(());
        }
        Err(Self::TooLarge {
            what,
            found: found as u64,
            limit: limit as u64,
        })
    }
}
