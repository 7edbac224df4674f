//! The commit object: one batch of entries, at the key named after the tree's size before it.
//!
//! ```text
//! seq/<old size, 20 digits>
//!     "waagseq" 0x01 || u64be old size || old root || u64be new size || new root
//!     || writer (16) || nonce (16) || u32be count || count x ( leaf (43) || slot as in a pack )
//! ```
//!
//! Creating this object is a site's only commit point, so everything that the commit changes follows from it:
//! [`CommitRecord::grow`] gives the same tiles and the same root to whoever redoes it. It holds salts and
//! openings, so it is private, and is deleted once packs and a published checkpoint hold what it says.

use super::checkpoint::Origin;
use super::error::LedgerError;
use super::growth::{Edge, Growth};
use super::hash::{Commitment, Hash, Root};
use super::ident::{BatchNonce, WriterId};
use super::leaf::{Class, LEAF_BYTES, Leaf, RefKind};
use super::merkle::{SIZE_MAX, Tree};
use super::opening::SaltedOpening;
use super::pack::{put_slot, take_slot};
use super::reading::{Reader, put_length};

/// A commit may hold this many entries.
pub const ENTRIES_MAX: usize = 1024;
/// A commit may have this many bytes.
pub const COMMIT_BYTES_MAX: usize = 64 * 1024 * 1024;
const MAGIC: &[u8; 8] = b"waagseq\x01";
const WHAT: &str = "commit";

/// Returns the key of the commit that follows a tree of `old_size` leaves.
#[must_use]
pub fn key(old_size: u64) -> String {
    format!("seq/{old_size:020}")
}

/// Reads a key that [`key`] made.
#[must_use]
pub fn parse_key(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("seq/")?;
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    plain
        .then(|| digits.parse().ok())
        .flatten()
        .filter(|size| *size <= SIZE_MAX)
}

/// One entry of a commit: its leaf and, unless it is a pad, its opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    leaf: Leaf,
    opening: Option<SaltedOpening>,
}

impl Entry {
    /// Makes an entry of this ledger.
    ///
    /// # Errors
    /// When the class is that of pads, which have no opening.
    pub fn new(
        origin: &Origin,
        class: Class,
        reference: Option<(RefKind, u64)>,
        opening: SaltedOpening,
    ) -> Result<Self, LedgerError> {
        if class == Class::Pad {
            return Err(LedgerError::malformed("entry", "a pad has no opening"));
        }
        let commitment = Commitment::to(origin, &opening.salt, &opening.opening);
        Ok(Self {
            leaf: Leaf {
                class,
                reference,
                commitment,
            },
            opening: Some(opening),
        })
    }

    /// Makes an entry that says nothing, from 32 random bytes.
    #[must_use]
    pub const fn pad(random: [u8; 32]) -> Self {
        Self {
            leaf: Leaf {
                class: Class::Pad,
                reference: None,
                commitment: Commitment::from_bytes(random),
            },
            opening: None,
        }
    }

    /// Returns the leaf.
    #[must_use]
    pub const fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Returns salt and opening; a pad has none.
    #[must_use]
    pub const fn opening(&self) -> Option<&SaltedOpening> {
        self.opening.as_ref()
    }
}

/// A batch of entries, and the trees before and after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRecord {
    before: Tree,
    after: Tree,
    writer: WriterId,
    nonce: BatchNonce,
    entries: Vec<Entry>,
}

impl CommitRecord {
    /// Makes the commit that appends these entries to the tree with this edge, and says what the tree becomes.
    ///
    /// # Errors
    /// When there are no entries, or more entries or bytes than one commit may hold.
    pub fn new(
        edge: &Edge,
        writer: WriterId,
        nonce: BatchNonce,
        entries: Vec<Entry>,
    ) -> Result<(Self, Growth), LedgerError> {
        check_count(entries.len())?;
        let bytes = entries.iter().fold(0, |sum, entry| sum + entry_len(entry));
        LedgerError::limit("commit, in bytes", bytes + FIXED_BYTES, COMMIT_BYTES_MAX)?;
        let growth = edge.grow(&leaf_hashes(&entries))?;
        let record = Self {
            before: Tree {
                size: edge.size(),
                root: edge.root(),
            },
            after: Tree {
                size: growth.size,
                root: growth.root,
            },
            writer,
            nonce,
            entries,
        };
        Ok((record, growth))
    }

    /// Returns the tree that the commit starts from.
    #[must_use]
    pub const fn before(&self) -> &Tree {
        &self.before
    }

    /// Returns the tree that it makes.
    #[must_use]
    pub const fn after(&self) -> &Tree {
        &self.after
    }

    /// Returns who wrote it.
    #[must_use]
    pub const fn writer(&self) -> &WriterId {
        &self.writer
    }

    /// Returns which attempt of theirs it is.
    #[must_use]
    pub const fn nonce(&self) -> &BatchNonce {
        &self.nonce
    }

    /// Returns the entries, the first at position `before().size`.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the object's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for tree in [&self.before, &self.after] {
            bytes.extend_from_slice(&tree.size.to_be_bytes());
            bytes.extend_from_slice(tree.root.as_bytes());
        }
        bytes.extend_from_slice(self.writer.as_bytes());
        bytes.extend_from_slice(self.nonce.as_bytes());
        put_length(&mut bytes, self.entries.len());
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.leaf.encode());
            put_slot(&mut bytes, entry.opening.as_ref());
        }
        bytes
    }

    /// Reads the object at `seq/<old_size>` of a ledger, and checks every commitment. Whether its roots are
    /// right is checked by [`Self::grow`].
    ///
    /// # Errors
    /// When a length, a size or a count is wrong or too large, an entry is not of the right form, or an opening
    /// is not what its leaf commits to in this ledger.
    pub fn decode(origin: &Origin, bytes: &[u8]) -> Result<Self, LedgerError> {
        LedgerError::limit("commit, in bytes", bytes.len(), COMMIT_BYTES_MAX)?;
        let mut reader = Reader::new(WHAT, bytes);
        if reader.array()? != *MAGIC {
            return Err(LedgerError::malformed(
                WHAT,
                "it does not start as one of version 1",
            ));
        }
        let mut tree = || {
            Ok::<_, LedgerError>(Tree {
                size: reader.u64()?,
                root: Root::from_bytes(reader.array()?),
            })
        };
        let (before, after) = (tree()?, tree()?);
        let writer = WriterId::from_bytes(reader.array()?);
        let nonce = BatchNonce::from_bytes(reader.array()?);
        let count = reader.length(ENTRIES_MAX)?;
        check_count(count)?;
        if after.size > SIZE_MAX || before.size.checked_add(count as u64) != Some(after.size) {
            return Err(LedgerError::malformed(
                WHAT,
                format!(
                    "{count} entries do not lead from {} to {}",
                    before.size, after.size
                ),
            ));
        }
        let mut entries = Vec::with_capacity(count);
        for index in before.size..after.size {
            let leaf = Leaf::decode(reader.take(LEAF_BYTES)?)?;
            let opening = take_slot(&mut reader)?;
            check_entry(origin, index, &leaf, opening.as_ref())?;
            entries.push(Entry { leaf, opening });
        }
        reader.end()?;
        Ok(Self {
            before,
            after,
            writer,
            nonce,
            entries,
        })
    }

    /// Applies the commit to the tree with this edge, and checks that both of its roots are right.
    ///
    /// # Errors
    /// When the commit starts from another tree, or its new root is not what its leaves give.
    pub fn grow(&self, edge: &Edge) -> Result<Growth, LedgerError> {
        let fail = |reason: String| {
            Err(LedgerError::WrongTree {
                old_size: self.before.size,
                reason,
            })
        };
        let (size, root) = (edge.size(), edge.root());
        if (size, root) != (self.before.size, self.before.root) {
            return fail(format!(
                "it continues the root {}, the tree at hand has {size} leaves and the root {root}",
                self.before.root
            ));
        }
        let growth = edge.grow(&leaf_hashes(&self.entries))?;
        if (growth.size, growth.root) != (self.after.size, self.after.root) {
            return fail(format!(
                "it announces the root {} at {}, its leaves give {} at {}",
                self.after.root, self.after.size, growth.root, growth.size
            ));
        }
        Ok(growth)
    }
}

/// The bytes of a commit before its first entry.
const FIXED_BYTES: usize = 8 + 2 * (8 + 32) + 16 + 16 + 4;

fn entry_len(entry: &Entry) -> usize {
    let slot = entry.opening.as_ref();
    LEAF_BYTES + 4 + slot.map_or(0, |slot| 32 + slot.opening.as_bytes().len())
}

fn check_count(count: usize) -> Result<(), LedgerError> {
    if count == 0 {
        return Err(LedgerError::malformed(WHAT, "it has no entries"));
    }
    LedgerError::limit("commit, in entries", count, ENTRIES_MAX)
}

fn check_entry(
    origin: &Origin,
    index: u64,
    leaf: &Leaf,
    opening: Option<&SaltedOpening>,
) -> Result<(), LedgerError> {
    match opening {
        None if leaf.class == Class::Pad => Ok(()),
        None => Err(LedgerError::malformed(
            WHAT,
            format!("entry {index} has no opening"),
        )),
        Some(_) if leaf.class == Class::Pad => Err(LedgerError::malformed(
            WHAT,
            format!("entry {index} is a pad and has an opening"),
        )),
        Some(SaltedOpening { salt, opening }) => {
            if Commitment::to(origin, salt, opening) == leaf.commitment {
                Ok(())
            } else {
                Err(LedgerError::WrongCommitment {
                    index,
                    origin: origin.to_string(),
                })
            }
        }
    }
}

fn leaf_hashes(entries: &[Entry]) -> Vec<Hash> {
    entries.iter().map(|entry| entry.leaf.hash()).collect()
}
