//! What a site says of its own ledger, signed with its site key; how one series of it follows another, with the
//! ledger's.
//!
//! Whoever holds the ledger can check both: an erasure names a leaf whose opening nobody serves any more, and a
//! revocation list must name exactly the withdrawn releases. A list is a statement about all entries before
//! it, so its newest one, with its time, says what was *not* withdrawn until then.

use serde::{Deserialize, Serialize};

use crate::base::digest::Sha256;
use crate::base::time::Timestamp;
use crate::federation::FederationName;
use crate::ledger::{Origin, Root};

/// The most entries of a revocation list.
pub const REVOKED_MAX: usize = 16_384;

/// The predicate `erasure`. The leaf that commits to it refers to the erased one (`erases`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erasure {
    /// The entry whose opening is deleted.
    pub entry: u64,
    /// The stream that the opening was in.
    pub stream: String,
    /// Its number in that stream.
    pub seq: u64,
    /// Why, as a code of 1 to 64 lower-case letters, digits and `-`: no place for personal data.
    pub ground: String,
}

impl Erasure {
    pub(super) fn check(&self) -> Result<(), String> {
        let code = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if self.ground.is_empty() || self.ground.len() > 64 || !self.ground.bytes().all(code) {
            return Err("the ground is not a code of 1 to 64 lower-case letters, digits and `-`".to_owned());
        }
        Ok(())
    }
}

/// The predicate `revocation-list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationList {
    /// As of when the site says so.
    pub at: Timestamp,
    /// The list speaks of all entries below this position: its own.
    pub size: u64,
    /// The positions of the releases that are withdrawn, ascending.
    pub entries: Vec<u64>,
}

impl RevocationList {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.entries.len() > REVOKED_MAX {
            return Err(format!("more than {REVOKED_MAX} revoked entries"));
        }
        if !self.entries.is_sorted_by(|a, b| a < b)
            || self.entries.last().is_some_and(|last| *last >= self.size)
        {
            return Err("the revoked entries are not ascending positions before the list".to_owned());
        }
        Ok(())
    }
}

/// The predicate `charter-adopted`: from now on the site goes by this charter. Everybody sees who lags, and who was
/// told another story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CharterAdopted {
    /// Of which federation it is.
    pub federation: FederationName,
    /// Its version.
    pub version: u64,
    /// The SHA-256 of its document.
    pub sha256: Sha256,
}

/// The predicate `successor`: entry 0 of every series but the first. The ledger before it ends with this tree,
/// and nothing is signed under its name any more.
///
/// It is signed with the ledger's own key, since that is what every reader has pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Successor {
    /// The ledger that ended.
    pub origin: Origin,
    /// How many entries of it stand.
    pub size: u64,
    /// The root of their tree.
    pub root: Root,
    /// What is known to have been signed and is lost, or contradicts what stands.
    #[serde(deserialize_with = "Option::deserialize")]
    pub seen: Option<Seen>,
}

/// A tree that somebody has seen and the site cannot continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The ledger.
    pub origin: Origin,
    /// How many entries it had.
    pub size: u64,
    /// The root of their tree, if that is known.
    #[serde(deserialize_with = "Option::deserialize")]
    pub root: Option<Root>,
}
