//! What a ledger sends to a witness (C2SP tlog-witness, `add-checkpoint`).
//!
//! ```text
//! old 20852014                                     the size that the witness cosigned last, as far as the sender knows
//! PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=     at most 63 hashes: the tree of that size is the beginning of the new one
//!
//! <checkpoint, a signed note>
//! ```
//!
//! The note may be of any ledger: whether its origin is known is the witness's business, and so is all belief.

use std::fmt;

use super::error::LedgerError;
use super::hash::{Hash, Root};
use super::note::{NOTE_BYTES_MAX, Note};
use super::reading::{decimal, shown};

/// The most hashes of a consistency proof.
pub const PROOF_HASHES_MAX: usize = 63;
/// The most bytes of a submission: the line of the old size, the proof, an empty line, a note.
pub const SUBMISSION_BYTES_MAX: usize = 32 + PROOF_HASHES_MAX * 45 + NOTE_BYTES_MAX;

/// A checkpoint that is to be cosigned, with the proof that it continues an earlier one. Nothing is checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The size from which the proof leads on.
    pub old: u64,
    /// The consistency proof.
    pub proof: Vec<Hash>,
    /// The checkpoint.
    pub note: Note,
}

impl Submission {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// When it has another form, or a part of it is too large.
    pub fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        let fail = |reason: String| LedgerError::malformed("submission to a witness", reason);
        LedgerError::limit(
            "submission to a witness, in bytes",
            bytes.len(),
            SUBMISSION_BYTES_MAX,
        )?;
        let text = std::str::from_utf8(bytes).map_err(|_| fail("it is not UTF-8".to_owned()))?;
        let (head, note) = text
            .split_once("\n\n")
            .ok_or_else(|| fail("no empty line before its checkpoint".to_owned()))?;
        let mut lines = head.split('\n');
        let first = lines.next().unwrap_or_default();
        let old = first
            .strip_prefix("old ")
            .and_then(decimal)
            .ok_or_else(|| fail(format!("`{}` is not `old <size>`", shown(first))))?;
        let mut proof = Vec::new();
        for line in lines {
            LedgerError::limit("number of hashes in a proof", proof.len() + 1, PROOF_HASHES_MAX)?;
            // A root is written as any hash is.
            let hash: Root = line
                .parse()
                .map_err(|_| fail(format!("`{}` is no hash in base64", shown(line))))?;
            proof.push(Hash::from_bytes(*hash.as_bytes()));
        }
        let note = Note::parse(note.as_bytes())?;
        Ok(Self { old, proof, note })
    }

    /// Returns the name of the ledger that the checkpoint claims to be of, which may be no waag ledger.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.note.text().split('\n').next().unwrap_or_default()
    }
}

/// Writes the exact bytes.
impl fmt::Display for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        for hash in &self.proof {
            writeln!(f, "{}", Root::from_bytes(*hash.as_bytes()))?;
        }
        write!(f, "\n{}", self.note)
    }
}
