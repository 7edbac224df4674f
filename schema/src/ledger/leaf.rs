//! The leaf of a ledger: 43 bytes that say nothing about what was published.
//!
//! ```text
//! offset length
//! 0      1      version = 1
//! 1      1      class    0 open | 1 restricted | 2 admin | 3 pad
//! 2      1      refkind  0 none | 1 revokes | 2 erases | 3 freezes a namespace | 4 un-revokes
//! 3      8      ref      big-endian position of the entry referred to, 2^64 - 1 without one
//! 11     32     commitment
//! ```
//!
//! Class and reference stand in clear so that a withheld opening or a hidden revocation can be seen by anyone
//! who holds the tree. Every leaf has one encoding: what decodes encodes to the same bytes.

use serde::{Deserialize, Serialize};

use super::error::LedgerError;
use super::hash::{Commitment, Hash};
use super::merkle::SIZE_MAX;
use super::reading::Reader;

/// The length of every leaf.
pub const LEAF_BYTES: usize = 43;
const VERSION: u8 = 1;
const NO_REFERENCE: u64 = u64::MAX;

/// Who may ask for an entry's opening.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Anyone. Not serving it is misbehaviour that anyone can point at.
    Open,
    /// Who is allowed to read what it speaks of.
    Restricted,
    /// Anyone: the ledger's and the site's own affairs.
    Admin,
    /// Nobody: it has no opening and hides how much is going on.
    Pad,
}

/// What an entry does to an earlier one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RefKind {
    /// What the entry states no longer holds.
    Revokes,
    /// Its opening is to be deleted by all who hold it.
    Erases,
    /// The namespace that the entry created takes no more entries.
    FreezesNamespace,
    /// What the entry states holds again.
    Unrevokes,
}

/// One entry as it stands in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Who may ask for the opening.
    pub class: Class,
    /// What this entry does to which earlier one.
    pub reference: Option<(RefKind, u64)>,
    /// The commitment to the opening.
    pub commitment: Commitment,
}

impl Class {
    pub(super) const fn to_byte(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Restricted => 1,
            Self::Admin => 2,
            Self::Pad => 3,
        }
    }

    pub(super) fn from_byte(byte: u8) -> Result<Self, LedgerError> {
        match byte {
            0 => Ok(Self::Open),
            1 => Ok(Self::Restricted),
            2 => Ok(Self::Admin),
            3 => Ok(Self::Pad),
            _ => Err(LedgerError::malformed("leaf", format!("unknown class {byte}"))),
        }
    }
}

/// Encodes what an entry refers to: kind and position.
pub(super) fn encode_reference(reference: Option<(RefKind, u64)>) -> [u8; 9] {
    let (kind, target) = match reference {
        None => (0, NO_REFERENCE),
        Some((RefKind::Revokes, target)) => (1, target),
        Some((RefKind::Erases, target)) => (2, target),
        Some((RefKind::FreezesNamespace, target)) => (3, target),
        Some((RefKind::Unrevokes, target)) => (4, target),
    };
    let mut bytes = [kind; 9];
    bytes[1..].copy_from_slice(&target.to_be_bytes());
    bytes
}

/// Decodes what [`encode_reference`] writes, and nothing else.
pub(super) fn decode_reference(reader: &mut Reader<'_>) -> Result<Option<(RefKind, u64)>, LedgerError> {
    let fail = |reason: String| Err(LedgerError::malformed("leaf", reason));
    let (byte, target) = (reader.u8()?, reader.u64()?);
    let kind = match byte {
        0 if target == NO_REFERENCE => return Ok(None),
        0 => return fail(format!("it refers to entry {target} in no way")),
        1 => RefKind::Revokes,
        2 => RefKind::Erases,
        3 => RefKind::FreezesNamespace,
        4 => RefKind::Unrevokes,
        _ => return fail(format!("unknown kind {byte} of reference")),
    };
    if target >= SIZE_MAX {
        return fail(format!("it refers to entry {target}, which no ledger can have"));
    }
    Ok(Some((kind, target)))
}

impl Leaf {
    /// Returns the 43 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; LEAF_BYTES] {
        let mut bytes = [0; LEAF_BYTES];
        bytes[0] = VERSION;
        bytes[1] = self.class.to_byte();
        bytes[2..11].copy_from_slice(&encode_reference(self.reference));
        bytes[11..].copy_from_slice(self.commitment.as_bytes());
        bytes
    }

    /// Reads the 43 bytes.
    ///
    /// # Errors
    /// When the length, the version, the class or the reference is not one that this version knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut reader = Reader::new("leaf", bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(LedgerError::malformed(
                "leaf",
                format!("unknown version {version}"),
            ));
        }
        let leaf = Self {
            class: Class::from_byte(reader.u8()?)?,
            reference: decode_reference(&mut reader)?,
            commitment: Commitment::from_bytes(reader.array()?),
        };
        reader.end()?;
        Ok(leaf)
    }

    /// Returns the leaf's hash in the tree.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::leaf(&self.encode())
    }
}
