//! Signed notes (C2SP signed-note) with the two kinds of signature that ledgers use.
//!
//! ```text
//! <text, ending in a newline>
//!
//! — <key name> base64(u32be key id || signature)          one or more such lines
//! ```
//!
//! Signatures of unknown keys are passed over; one bad signature of a known key refuses the whole note. What a
//! note says is to be believed only after [`Note::verify`].

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;

use super::error::LedgerError;
use super::reading::shown;
use super::vkey::{KeyKind, VerifierKey, check_name, cosigned};
use crate::base::key::KeyPair;
use crate::base::time::Timestamp;

/// A note may have this many bytes.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;
/// A note may carry this many signatures (C2SP asks for at least 16).
pub const SIGNATURES_MAX: usize = 32;
const SIGNATURE_PREFIX: &str = "— ";

/// One signature line.
#[derive(Clone, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

impl NoteSignature {
    /// Returns the name of the key that claims to have signed.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns that key's id.
    #[must_use]
    pub const fn id(&self) -> [u8; 4] {
        self.id
    }

    fn is_by(&self, key: &VerifierKey) -> bool {
        self.name == key.name() && self.id == key.id()
    }
}

/// Writes the line without its newline.
impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.id.as_slice(), &self.bytes].concat();
        write!(f, "{SIGNATURE_PREFIX}{} {}", self.name, BASE64.encode(&bytes))
    }
}

impl fmt::Debug for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for NoteSignature {
    type Err = LedgerError;

    /// Reads one line, without its newline.
    fn from_str(line: &str) -> Result<Self, LedgerError> {
        let fail = || {
            LedgerError::malformed(
                "signature line",
                format!("`{}` is not `— <name> <base64>`", shown(line)),
            )
        };
        LedgerError::limit("signature line, in bytes", line.len(), NOTE_BYTES_MAX)?;
        let (name, base64) = line
            .strip_prefix(SIGNATURE_PREFIX)
            .and_then(|rest| rest.split_once(' '))
            .ok_or_else(fail)?;
        check_name(name)?;
        let decoded = BASE64.decode(base64.as_bytes()).map_err(|_| fail())?;
        let (id, bytes) = decoded.split_first_chunk::<4>().ok_or_else(fail)?;
        if bytes.is_empty() {
            return Err(fail());
        }
        Ok(Self {
            name: name.to_owned(),
            id: *id,
            bytes: bytes.to_vec(),
        })
    }
}

/// A text and the signatures that came with it, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// A signature that was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified<'k> {
    /// Who signed.
    pub key: &'k VerifierKey,
    /// When, if the key is a witness's.
    pub time: Option<Timestamp>,
}

impl Note {
    /// Makes a note that nobody has signed yet.
    ///
    /// # Errors
    /// When the text does not end in a newline, holds another control character, or is too long.
    pub fn new(text: &str) -> Result<Self, LedgerError> {
        LedgerError::limit("note, in bytes", text.len(), NOTE_BYTES_MAX)?;
        if !text.ends_with('\n') {
            return Err(LedgerError::malformed(
                "note",
                "its text does not end in a newline",
            ));
        }
        if text.bytes().any(|b| b < 0x20 && b != b'\n') {
            return Err(LedgerError::malformed(
                "note",
                "its text holds a control character",
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            signatures: Vec::new(),
        })
    }

    /// Reads a signed note.
    ///
    /// # Errors
    /// When the bytes are not a text followed by 1 to 32 signature lines, or are more than 64 KiB.
    pub fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        LedgerError::limit("note, in bytes", bytes.len(), NOTE_BYTES_MAX)?;
        let note =
            std::str::from_utf8(bytes).map_err(|_| LedgerError::malformed("note", "it is not UTF-8"))?;
        // The last empty line parts the text from the signatures.
        let (text, lines) = note
            .rfind("\n\n")
            .map(|at| (&note[..=at], &note[at + 2..]))
            .ok_or_else(|| LedgerError::malformed("note", "no empty line before its signatures"))?;
        let mut parsed = Self::new(text)?;
        let lines = lines
            .strip_suffix('\n')
            .ok_or_else(|| LedgerError::malformed("note", "its last signature does not end in a newline"))?;
        for line in lines.split('\n') {
            LedgerError::limit(
                "number of signatures",
                parsed.signatures.len() + 1,
                SIGNATURES_MAX,
            )?;
            parsed.signatures.push(line.parse()?);
        }
        Ok(parsed)
    }

    /// Returns the text, with the newline at its end.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the signature lines, unchecked.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Signs the text under a name.
    ///
    /// # Errors
    /// When the name is not one that a key can have.
    pub fn sign(&self, name: &str, pair: &KeyPair) -> Result<NoteSignature, LedgerError> {
        let key = VerifierKey::new(name, KeyKind::Ledger, pair.public())?;
        Ok(NoteSignature {
            id: key.id(),
            name: name.to_owned(),
            bytes: pair.sign(self.text.as_bytes()).to_vec(),
        })
    }

    /// Cosigns the text under a name, as of a time.
    ///
    /// # Errors
    /// When the name is not one that a key can have.
    pub fn cosign(&self, name: &str, pair: &KeyPair, time: Timestamp) -> Result<NoteSignature, LedgerError> {
        let key = VerifierKey::new(name, KeyKind::Witness, pair.public())?;
        let signature = pair.sign(cosigned(&self.text, time).as_bytes());
        Ok(NoteSignature {
            id: key.id(),
            name: name.to_owned(),
            bytes: [time.unix().to_be_bytes().as_slice(), &signature].concat(),
        })
    }

    /// Adds a signature; it replaces an earlier one by the same key.
    ///
    /// # Errors
    /// When the note would have more signatures or bytes than are accepted.
    pub fn add(&mut self, signature: NoteSignature) -> Result<(), LedgerError> {
        let mut grown = self.clone();
        let same = |s: &&mut NoteSignature| s.name == signature.name && s.id == signature.id;
        match grown.signatures.iter_mut().find(same) {
            Some(earlier) => *earlier = signature,
            None => grown.signatures.push(signature),
        }
        LedgerError::limit("number of signatures", grown.signatures.len(), SIGNATURES_MAX)?;
        LedgerError::limit("note, in bytes", grown.to_string().len(), NOTE_BYTES_MAX)?;
        *self = grown;
        Ok(())
    }

    /// Checks the signatures of all keys that are known, and returns them in the order of the note.
    ///
    /// # Errors
    /// When a known key's signature does not hold, or no known key has signed.
    pub fn verify<'k>(&self, known: &'k [VerifierKey]) -> Result<Vec<Verified<'k>>, LedgerError> {
        let mut verified = Vec::new();
        for signature in &self.signatures {
            let mut bad = None;
            let mut good = None;
            // Key ids are short: two known keys may share a name and an id, and then one of them must hold.
            for key in known.iter().filter(|key| signature.is_by(key)) {
                match key.check(&self.text, &signature.bytes) {
                    Ok(time) => good = Some(Verified { key, time }),
                    Err(error) => bad = Some(error),
                }
            }
            match (good, bad) {
                (Some(good), _) => verified.push(good),
                (None, Some(bad)) => return Err(bad),
                (None, None) => {}
            }
        }
        if verified.is_empty() {
            return Err(LedgerError::NotSigned {
                name: "any known key".to_owned(),
            });
        }
        Ok(verified)
    }
}

/// Writes the exact bytes of the note.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            writeln!(f, "{signature}")?;
        }
        Ok(())
    }
}
