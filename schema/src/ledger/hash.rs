//! The 32-byte values of a ledger, and the two ways in which RFC 6962 hashes.
//!
//! A leaf's and a node's hash start with different bytes (section 2.1), so that no node can be passed off as
//! a leaf. All three types print as padded base64, as C2SP's texts do, and cannot be taken for each other.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::error::LedgerError;

pub(super) fn parse_base64(text: &str) -> Option<[u8; 32]> {
    // 32 bytes are 44 characters; BASE64 refuses every second spelling of them.
    if text.len() != 44 {
        return None;
    }
    BASE64.decode(text.as_bytes()).ok()?.try_into().ok()
}

macro_rules! base64_text {
    ($name:ident, $what:literal) => {
        impl $name {
            /// Wraps 32 bytes that are known to be such a value.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Returns the 32 raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = LedgerError;

            fn from_str(text: &str) -> Result<Self, LedgerError> {
                $crate::ledger::hash::parse_base64(text)
                    .map(Self)
                    .ok_or_else(|| LedgerError::malformed($what, "must be 32 bytes in padded base64"))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&BASE64.encode(&self.0))
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                $crate::base::text::string_schema(concat!("A ", $what, ": 32 bytes in base64"))
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}
pub(super) use base64_text;

macro_rules! shown_as_base64 {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&BASE64.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

/// The hash of a leaf, or of a subtree of leaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

/// The hash of a whole tree of a known size: what a checkpoint signs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root([u8; 32]);

/// What a leaf says about its opening: nothing that can be guessed, and nothing that can be changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commitment([u8; 32]);

base64_text!(Hash, "tree hash");
base64_text!(Root, "tree root");
base64_text!(Commitment, "commitment");
shown_as_base64!(Hash);
shown_as_base64!(Root);
shown_as_base64!(Commitment);

impl Hash {
    /// Hashes a leaf: SHA-256(0x00 || bytes).
    #[must_use]
    pub fn leaf(bytes: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update([0]);
        hasher.update(bytes);
        Self(hasher.finalize().into())
    }

    /// Hashes two neighbouring subtrees: SHA-256(0x01 || left || right).
    #[must_use]
    pub fn node(left: &Self, right: &Self) -> Self {
        let mut bytes = [1; 65];
        bytes[1..33].copy_from_slice(&left.0);
        bytes[33..].copy_from_slice(&right.0);
        Self(Sha256::digest(bytes).into())
    }

    /// Hashes a complete subtree from its `2^n` hashes of one level.
    ///
    /// `hashes` must hold a power of two, which callers within this room see to.
    pub(super) fn complete(hashes: &[Self]) -> Self {
        debug_assert!(hashes.len().is_power_of_two());
        let mut level = hashes.to_vec();
        while level.len() > 1 {
            level = level
                .chunks(2)
                .map(|pair| Self::node(&pair[0], &pair[1]))
                .collect();
        }
        level[0]
    }

    /// Joins the complete subtrees that make up a tree, largest first, from the right (RFC 6962, 2.1).
    pub(super) fn joined(subtrees: &[Self]) -> Option<Self> {
        let (last, rest) = subtrees.split_last()?;
        Some(
            rest.iter()
                .rev()
                .fold(*last, |right, left| Self::node(left, &right)),
        )
    }
}

impl Root {
    /// Returns the root of the tree without leaves: SHA-256 of nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// The root of a tree whose topmost hash this is; `None` for no leaf at all.
    pub(super) fn of(top: Option<Hash>) -> Self {
        top.map_or_else(Self::empty, |hash| Self(hash.0))
    }

    pub(super) fn is(&self, top: &Hash) -> bool {
        self.0 == top.0
    }
}
