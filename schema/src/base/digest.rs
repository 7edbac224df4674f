//! Two digests, two jobs.
//!
//! [`Sha256`] names files, manifests and everything that a foreign tool sees; its text form is OCI's
//! `sha256:<64 lower-case hex>` (OCI image-spec 1.1, "Digests"). [`ChunkDigest`] (BLAKE3, 32 bytes) names
//! chunks and recipes; its text form is the bare 64 hex digits, so that the two cannot be confused.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use sha2::Digest as _;

/// A digest's text is not of the form that its type asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {expected}")]
pub struct DigestError {
    text: String,
    expected: &'static str,
}

fn shorten(text: &str) -> String {
    text.chars().take(100).collect()
}

fn parse_hex(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 {
        return None;
    }
    let written = HEXLOWER.decode_mut(hex.as_bytes(), &mut bytes).ok()?;
    (written == 32).then_some(bytes)
}

macro_rules! digest_type {
    ($name:ident, $prefix:literal, $expected:literal) => {
        impl $name {
            /// Wraps 32 bytes that are known to be a digest of this kind.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Returns the 32 raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Returns the 64 lower-case hex digits, without a prefix.
            #[must_use]
            pub fn hex(&self) -> String {
                HEXLOWER.encode(&self.0)
            }

            /// Parses 64 lower-case hex digits without a prefix.
            ///
            /// # Errors
            /// When the text is of another length or holds anything but lower-case hex digits.
            pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
                parse_hex(hex).map(Self).ok_or_else(|| DigestError {
                    text: shorten(hex),
                    expected: "digest of 64 lower-case hex digits",
                })
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                text.strip_prefix($prefix)
                    .and_then(parse_hex)
                    .map(Self)
                    .ok_or_else(|| DigestError {
                        text: shorten(text),
                        expected: $expected,
                    })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        crate::base::text::as_text!($name, concat!("A ", $expected));
    };
}

/// The SHA-256 of a file, a manifest, an envelope or a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

/// The BLAKE3 of a chunk's raw bytes, or of a recipe's canonical bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkDigest([u8; 32]);

digest_type!(
    Sha256,
    "sha256:",
    "digest of the form sha256:<64 lower-case hex digits>"
);
digest_type!(ChunkDigest, "", "BLAKE3 digest of 64 lower-case hex digits");

impl Sha256 {
    /// Hashes bytes that are already in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl ChunkDigest {
    /// Hashes bytes that are already in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).into())
    }
}

/// Computes a [`Sha256`] over bytes that arrive piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Sha256Hasher(sha2::Sha256);

impl Sha256Hasher {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all bytes taken in.
    #[must_use]
    pub fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_both_digests() {
        assert_eq!(
            Sha256::of(b"abc").to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            ChunkDigest::of(b"").to_string(),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn a_digest_of_the_wrong_form_is_refused() {
        let good = Sha256::of(b"x").to_string();
        for bad in [&good[7..], &good.to_uppercase(), &good[..70], "sha512:00", ""] {
            assert!(bad.parse::<Sha256>().is_err(), "{bad}");
        }
        assert!(good.parse::<ChunkDigest>().is_err());
    }

    #[test]
    fn hashing_piece_by_piece_equals_hashing_at_once() {
        let mut hasher = Sha256Hasher::default();
        hasher.update(b"a");
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), Sha256::of(b"abc"));
    }
}
