//! 128-bit identifiers: of an entry, of a process that writes, of one attempt to write.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;

use super::error::LedgerError;

macro_rules! hex_id {
    ($name:ident, $what:literal) => {
        impl $name {
            /// Wraps 16 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Returns the 16 raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = LedgerError;

            fn from_str(text: &str) -> Result<Self, LedgerError> {
                (text.len() == 32)
                    .then(|| HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok())
                    .flatten()
                    .map(Self)
                    .ok_or_else(|| LedgerError::malformed($what, "must be 32 lower-case hex digits"))
            }
        }

        crate::base::text::as_text!($name, concat!("An ", $what, ": 32 lower-case hex digits"));
    };
}

/// An entry's own name, chosen at random by whoever asks for it: asking twice with one id appends once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId([u8; 16]);

/// A process that commits to a ledger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterId([u8; 16]);

/// Chosen at random for each attempt to commit, so that a writer knows its own record when it reads it back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchNonce([u8; 16]);

hex_id!(EntryId, "entry id");
hex_id!(WriterId, "identifier of a writer");
hex_id!(BatchNonce, "attempt's nonce");
