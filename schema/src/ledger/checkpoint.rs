//! A ledger's signed tree head (C2SP tlog-checkpoint).
//!
//! ```text
//! waag/<site id>/<series>            the origin
//! 20852163                           the size
//! CsUYapGGPo4dkMgIAUqom/Xajj7...     the root
//!
//! — waag/<site id>/<series> Az3g...  the ledger's own signature, under the origin as its name
//! — <witness> jWbP...                cosignatures
//! ```
//!
//! A checkpoint made here has no extension lines. In one made elsewhere they are kept, since signatures cover
//! them, and mean nothing.

use std::fmt;
use std::str::FromStr;

use super::error::LedgerError;
use super::hash::Root;
use super::merkle::Tree;
use super::note::{Note, NoteSignature};
use super::reading::{decimal, shown};
use super::vkey::{KeyKind, VerifierKey};
use crate::base::key::{KeyPair, PublicKey};
use crate::base::name::SiteId;
use crate::base::text::as_text;
use crate::base::time::Timestamp;

/// A ledger's name: `waag/<site id>/<series>`. A site that closes its ledger opens the next series.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    site: SiteId,
    series: u32,
}

impl Origin {
    /// Names a site's ledger of this series; the first is 1.
    #[must_use]
    pub fn of(site: &SiteId, series: u32) -> Self {
        Self {
            site: site.clone(),
            series,
        }
    }

    /// Returns the site.
    #[must_use]
    pub const fn site(&self) -> &SiteId {
        &self.site
    }

    /// Returns the series.
    #[must_use]
    pub const fn series(&self) -> u32 {
        self.series
    }

    /// Returns a log key of this ledger under the name by which its signatures are found.
    #[must_use]
    pub fn verifier(&self, key: PublicKey) -> VerifierKey {
        VerifierKey::new(&self.to_string(), KeyKind::Ledger, key)
            .expect("an origin holds neither space nor plus")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waag/{}/{}", self.site, self.series)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Origin {
    type Err = LedgerError;

    fn from_str(text: &str) -> Result<Self, LedgerError> {
        let parts = || {
            let (site, series) = text.strip_prefix("waag/")?.split_once('/')?;
            Some(Self {
                site: site.parse().ok()?,
                series: decimal(series)?.try_into().ok()?,
            })
        };
        parts().ok_or_else(|| {
            LedgerError::malformed(
                "ledger's origin",
                format!("`{}` is not waag/<site id>/<series>", shown(text)),
            )
        })
    }
}

as_text!(Origin, "A ledger's name: `waag/<site id>/<series>`");
as_text!(
    SignedCheckpoint,
    "A checkpoint with its signatures, exact text (C2SP tlog-checkpoint)"
);

/// What a ledger says of itself: so many leaves, under this root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The ledger.
    pub origin: Origin,
    /// How many leaves it has.
    pub size: u64,
    /// The root of its tree.
    pub root: Root,
}

impl Checkpoint {
    /// Returns size and root without the name.
    #[must_use]
    pub const fn tree(&self) -> Tree {
        Tree {
            size: self.size,
            root: self.root,
        }
    }
}

/// Writes the exact text that is signed.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, self.root)
    }
}

impl FromStr for Checkpoint {
    type Err = LedgerError;

    /// Reads a note's text; extension lines are passed over.
    fn from_str(text: &str) -> Result<Self, LedgerError> {
        let fail = |reason: &str| LedgerError::malformed("checkpoint", reason);
        let mut lines = text
            .strip_suffix('\n')
            .ok_or_else(|| fail("its text does not end in a newline"))?
            .split('\n');
        let mut line = || lines.next().ok_or_else(|| fail("it has fewer than three lines"));
        let checkpoint = Self {
            origin: line()?.parse()?,
            size: decimal(line()?).ok_or_else(|| fail("its second line is not a size"))?,
            root: line()?.parse()?,
        };
        if lines.any(str::is_empty) {
            return Err(fail("it has an empty line"));
        }
        if checkpoint.size == 0 && checkpoint.root != Root::empty() {
            return Err(fail("it gives an empty tree the root of another"));
        }
        Ok(checkpoint)
    }
}

/// A checkpoint and the signatures that came with it, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    note: Note,
    checkpoint: Checkpoint,
}

/// A witness's statement that at this time the checkpoint was the newest it had seen and continued all before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// Whose.
    pub witness: VerifierKey,
    /// As of when.
    pub time: Timestamp,
}

impl SignedCheckpoint {
    /// Signs a checkpoint with the ledger's own key.
    ///
    /// The caller has made sure that this tree continues every tree that was signed before.
    #[must_use]
    pub fn sign(checkpoint: Checkpoint, pair: &KeyPair) -> Self {
        let origin = checkpoint.origin.to_string();
        let mut note = Note::new(&checkpoint.to_string()).expect("three short lines are a note's text");
        let signature = note
            .sign(&origin, pair)
            .expect("an origin holds neither space nor plus");
        note.add(signature).expect("one signature is within the limits");
        Self { note, checkpoint }
    }

    /// Reads a checkpoint with its signatures.
    ///
    /// # Errors
    /// When it is not a signed note, or its text is not a checkpoint of a waag ledger.
    pub fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        let note = Note::parse(bytes)?;
        let checkpoint = note.text().parse()?;
        Ok(Self { note, checkpoint })
    }

    /// Returns what it says, checked or not.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Returns the note that carries it.
    #[must_use]
    pub const fn note(&self) -> &Note {
        &self.note
    }

    /// Returns a witness's signature line for this checkpoint, to hand back to the ledger.
    ///
    /// The caller has made sure that the checkpoint continues the newest that it cosigned before.
    ///
    /// # Errors
    /// When the name is not one that a key can have.
    pub fn cosign(&self, name: &str, pair: &KeyPair, time: Timestamp) -> Result<NoteSignature, LedgerError> {
        self.note.cosign(name, pair, time)
    }

    /// Adds a signature line, such as a second log key's or a witness's; it replaces an earlier one by the same
    /// key.
    ///
    /// # Errors
    /// When there would be more signatures than are accepted.
    pub fn add(&mut self, signature: NoteSignature) -> Result<(), LedgerError> {
        self.note.add(signature)
    }

    /// Signs with a further key of the ledger, for the time in which one follows another.
    ///
    /// # Errors
    /// When there would be more signatures than are accepted.
    pub fn sign_also(&mut self, pair: &KeyPair) -> Result<(), LedgerError> {
        let signature = self.note.sign(&self.checkpoint.origin.to_string(), pair)?;
        self.note.add(signature)
    }

    /// Checks that the ledger signed, with one of the keys that the caller trusts for it, and returns the
    /// cosignatures of those `witnesses` that are on it, each witness's newest. How many suffice is a policy of
    /// the caller's.
    ///
    /// # Errors
    /// When no such log key has signed, or a signature of any of these keys does not hold.
    pub fn verify(
        &self,
        log_keys: &[PublicKey],
        witnesses: &[VerifierKey],
    ) -> Result<Vec<Cosignature>, LedgerError> {
        let origin = &self.checkpoint.origin;
        let mut known: Vec<_> = log_keys.iter().map(|key| origin.verifier(*key)).collect();
        known.extend(
            witnesses
                .iter()
                .filter(|key| key.kind() == KeyKind::Witness)
                .cloned(),
        );
        let not_signed = || LedgerError::NotSigned {
            name: origin.to_string(),
        };
        let verified = match self.note.verify(&known) {
            Err(LedgerError::NotSigned { .. }) => return Err(not_signed()),
            other => other?,
        };
        if verified.iter().all(|signed| signed.time.is_some()) {
            return Err(not_signed());
        }
        let mut cosignatures: Vec<Cosignature> = Vec::new();
        for signed in verified {
            let Some(time) = signed.time else { continue };
            match cosignatures.iter_mut().find(|c| c.witness == *signed.key) {
                Some(earlier) => earlier.time = earlier.time.max(time),
                None => cosignatures.push(Cosignature {
                    witness: signed.key.clone(),
                    time,
                }),
            }
        }
        Ok(cosignatures)
    }
}

/// Writes the exact bytes.
impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.note, f)
    }
}

impl FromStr for SignedCheckpoint {
    type Err = LedgerError;

    fn from_str(text: &str) -> Result<Self, LedgerError> {
        Self::parse(text.as_bytes())
    }
}
