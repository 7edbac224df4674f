//! Public keys under the names by which their signatures are found (C2SP signed-note, "Verifier keys").
//!
//! Name and kind go into a key's id, so one key under two names or of two kinds is two keys.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};

use super::error::LedgerError;
use super::reading::shown;
use crate::base::digest::Sha256;
use crate::base::key::PublicKey;
use crate::base::time::Timestamp;

/// A key's name may have this many bytes.
const NAME_BYTES_MAX: usize = 256;

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// Ed25519 over the note's text (type 0x01): a ledger's own key.
    Ledger,
    /// Ed25519 over a time and the note's text (type 0x04, `cosignature/v1`): a witness's key.
    Witness,
}

impl KeyKind {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Ledger => 1,
            Self::Witness => 4,
        }
    }
}

/// A public key under the name by which its signatures are found; its text form is C2SP's "vkey",
/// `<name>+<key id in hex>+<base64 of kind and key>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    key: PublicKey,
}

/// Refuses what no key can be named.
pub(super) fn check_name(name: &str) -> Result<(), LedgerError> {
    let fail = |reason: &str| {
        Err(LedgerError::malformed(
            "key name",
            format!("`{}` {reason}", shown(name)),
        ))
    };
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return fail("must have 1 to 256 bytes");
    }
    if name
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || c == '+')
    {
        return fail("must not hold spaces, control characters or `+`");
    }
    Ok(())
}

impl VerifierKey {
    /// Names a key.
    ///
    /// # Errors
    /// When the name is empty, longer than 256 bytes, or holds a space, a control character or a `+`.
    pub fn new(name: &str, kind: KeyKind, key: PublicKey) -> Result<Self, LedgerError> {
        check_name(name)?;
        Ok(Self {
            name: name.to_owned(),
            kind,
            key,
        })
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns how it signs.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Returns the key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Returns the key id: the first four bytes of SHA-256(name || newline || kind || key).
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let mut bytes = self.name.clone().into_bytes();
        bytes.push(b'\n');
        bytes.push(self.kind.to_byte());
        bytes.extend_from_slice(self.key.as_bytes());
        let digest = Sha256::of(&bytes);
        let [a, b, c, d, ..] = *digest.as_bytes();
        [a, b, c, d]
    }

    /// Checks one signature and returns the time that it states.
    pub(super) fn check(&self, text: &str, signature: &[u8]) -> Result<Option<Timestamp>, LedgerError> {
        let bad = || LedgerError::BadSignature {
            name: self.name.clone(),
        };
        match self.kind {
            KeyKind::Ledger => {
                let signature = signature.try_into().map_err(|_| bad())?;
                self.key.verify(text.as_bytes(), signature).map_err(|_| bad())?;
                Ok(None)
            }
            KeyKind::Witness => {
                let (time, signature) = signature.split_first_chunk::<8>().ok_or_else(bad)?;
                let seconds = u64::from_be_bytes(*time);
                let time = Timestamp::from_unix(seconds);
                // `from_unix` holds times at the year 9999; nobody witnesses anything beyond.
                if time.unix() != seconds {
                    return Err(bad());
                }
                let signature = signature.try_into().map_err(|_| bad())?;
                self.key
                    .verify(cosigned(text, time).as_bytes(), signature)
                    .map_err(|_| bad())?;
                Ok(Some(time))
            }
        }
    }
}

/// What a `cosignature/v1` signs (C2SP tlog-cosignature, "Ed25519 signed message").
pub(super) fn cosigned(text: &str, time: Timestamp) -> String {
    format!("cosignature/v1\ntime {}\n{text}", time.unix())
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut material = vec![self.kind.to_byte()];
        material.extend_from_slice(self.key.as_bytes());
        write!(
            f,
            "{}+{}+{}",
            self.name,
            HEXLOWER.encode(&self.id()),
            BASE64.encode(&material)
        )
    }
}

impl FromStr for VerifierKey {
    type Err = LedgerError;

    fn from_str(text: &str) -> Result<Self, LedgerError> {
        let fail =
            |reason: &str| LedgerError::malformed("verifier key", format!("`{}` {reason}", shown(text)));
        let form = || fail("is not <name>+<8 hex digits>+<base64>");
        // Base64 may hold a `+`; names and hex digits may not.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(material)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(form());
        };
        let material = BASE64.decode(material.as_bytes()).map_err(|_| form())?;
        let kind = match material.first() {
            Some(1) => KeyKind::Ledger,
            Some(4) => KeyKind::Witness,
            _ => return Err(fail("is of a kind that is not known here")),
        };
        let bytes: &[u8; 32] = material[1..].try_into().map_err(|_| form())?;
        let key = PublicKey::from_bytes(bytes).map_err(|e| fail(&e.to_string()))?;
        let named = Self::new(name, kind, key)?;
        if HEXLOWER.encode(&named.id()) != id {
            return Err(fail("has a key id that is not that of its name and key"));
        }
        Ok(named)
    }
}

crate::base::text::as_text!(VerifierKey, "A named public key in the form of C2SP signed-note");
