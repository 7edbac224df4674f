//! A proof as one text file (C2SP tlog-proof@v1).
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64>                     for an entry: class || kind of reference || its target || salt || opening
//! index 73894
//! gSKyXoYZUgZ6jduWYrkDOARinOM...     the siblings, from the leaf's upwards
//!
//! <signed checkpoint>
//! ```

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;

use super::checkpoint::SignedCheckpoint;
use super::error::LedgerError;
use super::hash::Hash;
use super::leaf::{Class, decode_reference, encode_reference};
use super::merkle::verify_inclusion;
use super::note::NOTE_BYTES_MAX;
use super::opening::{OPENING_BYTES_MAX, Opening, Salt};
use super::proof::EntryProof;
use super::reading::{Reader, decimal};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
const WHAT: &str = "tlog proof";
/// What `extra` may hold.
pub const EXTRA_BYTES_MAX: usize = 1 + 9 + 32 + OPENING_BYTES_MAX;
/// A tree of 2^53 leaves has no longer path.
const PATH_MAX: usize = 53;
/// The whole file: `extra` in base64, the checkpoint, and room for the lines between.
const PROOF_BYTES_MAX: usize = EXTRA_BYTES_MAX.div_ceil(3) * 4 + NOTE_BYTES_MAX + 8 * 1024;

/// The inclusion of something in a ledger, with the checkpoint that it is to be held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// What is needed to compute the leaf; nothing vouches for it by itself.
    pub extra: Option<Vec<u8>>,
    /// The leaf's position.
    pub index: u64,
    /// The siblings, from the leaf's to the one below the root.
    pub path: Vec<Hash>,
    /// The tree, with its signatures.
    pub checkpoint: SignedCheckpoint,
}

impl TlogProof {
    /// Puts an entry's proof and its checkpoint into one file.
    #[must_use]
    pub fn of_entry(proof: &EntryProof, checkpoint: SignedCheckpoint) -> Self {
        let mut extra = vec![proof.class.to_byte()];
        extra.extend_from_slice(&encode_reference(proof.reference));
        extra.extend_from_slice(proof.salt.as_bytes());
        extra.extend_from_slice(proof.opening.as_bytes());
        Self {
            extra: Some(extra),
            index: proof.index,
            path: proof.path.clone(),
            checkpoint,
        }
    }

    /// Takes the entry's proof out again, still to be verified.
    ///
    /// # Errors
    /// When `extra` is absent or not that of an entry.
    pub fn entry(&self) -> Result<EntryProof, LedgerError> {
        let extra = self
            .extra
            .as_deref()
            .ok_or_else(|| LedgerError::malformed(WHAT, "it has no extra data"))?;
        let mut reader = Reader::new(WHAT, extra);
        Ok(EntryProof {
            index: self.index,
            class: Class::from_byte(reader.u8()?)?,
            reference: decode_reference(&mut reader)?,
            salt: Salt::from_bytes(reader.array()?),
            opening: Opening::decode(reader.rest())?,
            path: self.path.clone(),
        })
    }

    /// Checks that this leaf is in the checkpoint's tree; the checkpoint's signatures are not looked at.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify_leaf(&self, leaf: &Hash) -> Result<(), LedgerError> {
        let checkpoint = self.checkpoint.checkpoint();

        verify_inclusion(leaf, self.index, checkpoint.size, &self.path, &checkpoint.root)
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// When it is too large, or not of the form above.
    pub fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        let fail = |reason: &str| LedgerError::malformed(WHAT, reason);
        LedgerError::limit("tlog proof, in bytes", bytes.len(), PROOF_BYTES_MAX)?;
        let text = std::str::from_utf8(bytes).map_err(|_| fail("it is not UTF-8"))?;
        // The path has no empty line, so the first one is that before the checkpoint.
        let (head, checkpoint) = text
            .split_once("\n\n")
            .ok_or_else(|| fail("no empty line before its checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(fail("it does not start with c2sp.org/tlog-proof@v1"));
        }
        let extra = lines.next_if(|line| line.starts_with("extra "));
        let extra = extra
            .map(|line| {
                let decoded = BASE64.decode(&line.as_bytes()["extra ".len()..]);
                decoded.map_err(|_| fail("its extra data is not base64"))
            })
            .transpose()?;
        let extra_len = extra.as_ref().map_or(0, Vec::len);
        LedgerError::limit("tlog proof's extra data, in bytes", extra_len, EXTRA_BYTES_MAX)?;
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .and_then(decimal)
            .ok_or_else(|| fail("it has no index"))?;
        let mut path = Vec::new();
        for line in lines {
            LedgerError::limit("tlog proof's path, in hashes", path.len() + 1, PATH_MAX)?;
            path.push(line.parse()?);
        }
        Ok(Self {
            extra,
            index,
            path,
            checkpoint: checkpoint.parse()?,
        })
    }
}

/// Writes the file's exact text.
impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", BASE64.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for TlogProof {
    type Err = LedgerError;

    fn from_str(text: &str) -> Result<Self, LedgerError> {
        Self::parse(text.as_bytes())
    }
}
